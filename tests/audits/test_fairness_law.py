"""The law of an attribute: exact sizes, coverage, no bias of the distance, labeller errors."""

from pathlib import Path

import numpy as np
import pytest

from critwin.audits.labellers import corrected_shares
from critwin.audits.law import attribute_law, exact_limits, holm, set_against, tv_limits
from critwin.audits.references import data_reference, reference_of
from critwin.errors import InputError
from critwin.features.labelling import ErrorMatrix
from critwin.models.training import TrainingData

LABELS = ("a", "b", "c")
UNIFORM = reference_of("uniform", LABELS)


def matrix(counts: np.ndarray, labels: tuple[str, ...]) -> ErrorMatrix:
    return ErrorMatrix(
        feature="x", labels=labels, counts=counts, abstained=np.zeros(len(labels), dtype=int)
    )


def test_holm_is_its_definition() -> None:
    p = [0.01, 0.04, 0.03]
    assert holm(p).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5]).tolist() == [0.5]
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]


def test_limits_of_the_distance_hold_all_laws_between_the_limits() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        q = generator.dirichlet(np.ones(4))
        low, high = exact_limits(generator.multinomial(60, q), 60, 0.95)
        least, most = tv_limits(low, high, q)
        laws = generator.dirichlet(np.ones(4), size=4000)
        laws = laws[np.all((laws >= low) & (laws <= high), axis=1)]
        distances = 0.5 * np.abs(laws - q).sum(axis=1)
        assert len(laws)
        assert np.all((distances >= least - 1e-12) & (distances <= most + 1e-12))


def test_both_limits_of_the_distance_are_reached() -> None:
    # p_1 in [.6, .8] and q_1 = .5: the distance is p_1 - q_1
    assert tv_limits([0.6, 0.2], [0.8, 0.4], [0.5, 0.5]) == pytest.approx((0.1, 0.3))
    many = tv_limits(np.full(13, 0.0), np.full(13, 0.2), np.full(13, 1 / 13))
    assert many[0] == 0.0
    assert 0.0 < many[1] <= 1.0


def test_distance_has_no_bias_where_laws_agree_and_its_interval_covers() -> None:
    generator = np.random.default_rng(1)
    q = np.array([0.5, 0.3, 0.2])
    values, plug_in, covered = [], [], 0
    for _ in range(400):
        n = generator.multinomial(50, q)
        inside = set_against(n, q)
        values.append(float(n / 50 @ (np.diag(inside) - inside @ q)))
        plug_in.append(0.5 * np.abs(n / 50 - q).sum())
        least, most = tv_limits(*exact_limits(n, 50, 1 - 0.05 / 3), q)
        covered += least <= 0.0 <= most
    assert abs(np.mean(values)) < 3 * np.std(values) / 20
    assert np.mean(plug_in) > 0.05  # what the plug-in would claim
    assert covered >= 0.95 * 400


def test_interval_of_the_distance_covers_a_planted_one() -> None:
    generator = np.random.default_rng(2)
    p, q = np.array([0.6, 0.25, 0.15]), np.full(3, 1 / 3)
    truth = 0.5 * np.abs(p - q).sum()
    covered = 0
    for _ in range(80):
        law = attribute_law(generator.multinomial(80, p), LABELS, UNIFORM)
        covered += law.tv.covers(truth)
        assert law.tv.low is not None
        assert law.tv.value is not None
        assert law.tv.low <= law.tv.value
    assert covered >= 73


def test_size_and_power_of_three_groups() -> None:
    generator = np.random.default_rng(3)
    flags = [
        attribute_law(generator.multinomial(90, UNIFORM.shares), LABELS, UNIFORM).is_flagged
        for _ in range(150)
    ]
    assert 0.005 <= np.mean(flags) <= 0.1
    power = [
        attribute_law(generator.multinomial(90, [0.55, 0.25, 0.2]), LABELS, UNIFORM).is_flagged
        for _ in range(40)
    ]
    assert np.mean(power) > 0.85


def test_answers_of_all_kinds() -> None:
    assert attribute_law([3, 2, 1], LABELS, UNIFORM).verdict == "too few to say"
    assert attribute_law([0, 0, 0], LABELS, UNIFORM).groups[0].share.value is None
    assert attribute_law([12, 11, 9], LABELS, UNIFORM).verdict == "cannot tell"
    assert attribute_law([1000, 1001, 999], LABELS, UNIFORM).verdict == "alike"
    found = attribute_law([40, 40, 0], LABELS, UNIFORM)
    assert found.verdict == "differs"
    assert found.groups[2].p_holm is not None
    assert found.groups[2].p_holm < 1e-6
    assert found.groups[2].share.low == 0.0
    excluded = attribute_law(
        [9, 9, 2], LABELS, reference_of({"a": 0.5, "b": 0.5, "c": 0.0}, LABELS)
    )
    assert excluded.p_value == 0.0


@pytest.mark.parametrize("truth", [(0.5, 0.3, 0.2), (0.9, 0.08, 0.02)])
def test_undone_labeller_errors_cover(truth: tuple[float, ...]) -> None:
    generator = np.random.default_rng(4)
    rates = np.array([[0.9, 0.06, 0.04], [0.1, 0.85, 0.05], [0.05, 0.05, 0.9]])
    covered, raw = np.zeros(3), np.zeros(3)
    for _ in range(150):
        said = generator.multinomial(200, np.array(truth) @ rates)
        table = np.stack([generator.multinomial(100, row) for row in rates])
        found = corrected_shares(said, matrix(table, LABELS), LABELS, num_draws=400)
        covered += [e.covers(t) for e, t in zip(found, truth, strict=True)]
        low, high = exact_limits(said, 200, 0.95)
        raw += (low <= truth) & (truth <= high)
    assert np.all(covered >= 0.9 * 150)
    if truth[0] > 0.8:
        assert raw.min() < 0.5 * 150  # shares as they were said do not cover


def test_a_labeller_without_a_seen_error_is_not_taken_to_be_perfect() -> None:
    few = corrected_shares([50, 50], matrix(np.diag([5, 5]), ("a", "b")), ("a", "b"))
    many = corrected_shares([50, 50], matrix(np.diag([5000, 5000]), ("a", "b")), ("a", "b"))
    assert few[0].value == many[0].value == 0.5
    assert (few[0].high or 0) - (few[0].low or 0) > 1.1 * (
        (many[0].high or 0) - (many[0].low or 0)
    )


def test_labellers_that_cannot_be_undone_say_so() -> None:
    bad = matrix(np.array([[51, 49], [49, 51]]), ("a", "b"))
    law = attribute_law([30, 30], ("a", "b"), reference_of("uniform", ("a", "b")), errors=bad)
    assert law.labeller is not None
    assert "condition number" in law.labeller
    assert law.groups[0].corrected is None
    with pytest.raises(InputError, match="other labels"):
        corrected_shares([1, 1], bad, ("a", "z"))
    with pytest.raises(InputError, match="missing"):
        corrected_shares([1, 1], matrix(np.array([[9, 0], [0, 0]]), ("a", "b")), ("a", "b"))


def test_references(tmp_path: Path) -> None:
    assert UNIFORM.shares == pytest.approx((1 / 3,) * 3)
    file = tmp_path / "table.csv"
    for text in ("label,share\na,0.5\nb,0\nc,0.5\n", "share;label\n.5;a\n0;b\n.5; c \n\n"):
        file.write_text(text)
        assert reference_of(file, LABELS).shares == (0.5, 0.0, 0.5)
    told = reference_of("data", LABELS, data={"a": 0.0, "b": 1.0, "c": 0.0})
    assert (told.name, told.shares) == ("data", (0.0, 1.0, 0.0))


BAD_TABLES = {
    "label,share\na,0.5\nb,0\nc,.1\n": "shares of table.csv do not sum to 1: got 0.6; wanted 1;",
    "label,share\na,0.5\nb,0.5\n": "table.csv leaves out labels that the run has: got no share of "
    "c; wanted a share of every label: a, b, c; write 0 for",
    "label,share\na,0.5\nb,0\nc,.5\nz,0\n": "table.csv, line 5: the run has no such label: got z; "
    "wanted one of a, b, c; take it out",
    "label,share\na,-1\nb,2\nc,0\n": "line 2: the share of 'a' cannot be used: got '-1'; wanted a "
    "number from 0 to 1",
    "label,share\na,50\nb,50\nc,0\n": "line 2: the share of 'a' .* divide percentages by 100",
    "label,share\na,1\nb,x\nc,0\n": "line 3: the share of 'b' cannot be used: got 'x'",
    "label,share\na,1\nb,\nc,0\n": "line 3: the share of 'b' cannot be used: got ''",
    "label,share\na,1\nb,nan\nc,0\n": "line 3: the share of 'b' cannot be used: got 'nan'",
    "label,share\na,.5\na,.5\n": "line 3: a label comes twice: got a; wanted one row of it",
    "label,share\n,.5\na,.5\n": "line 2: the label is missing",
    "label,share\na,0,5\n": "line 2: wrong number of cells: got 3; wanted 2",
    "group,part\na,1\n": "a column is missing: label, share: got columns group, part; wanted a "
    "CSV file with columns label and share",
    "labels,share\na,1\n": "is 'labels' meant to be 'label'",
    "label,share\n": "the table has no rows",
    "": "the file is empty",
}


@pytest.mark.parametrize("text", BAD_TABLES)
def test_a_table_that_cannot_be_used_says_where(text: str, tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=BAD_TABLES[text]) as caught:
        reference_of(file, LABELS)
    assert "\n" not in str(caught.value)


def test_references_that_there_are_not(tmp_path: Path) -> None:
    (tmp_path / "bytes.csv").write_bytes(b"label,share\n\xff,1\n")
    (tmp_path / "folder.csv").mkdir()
    for given, words in (
        ("data", "unknown: got data; wanted uniform, or a CSV file"),
        ("even", "unknown reference: got even; wanted uniform, data, or a CSV file"),
        ("x.csv", "cannot read the reference: got x.csv .no such file."),
        (tmp_path / "folder.csv", "folder.csv .not a file."),
        (tmp_path / "bytes.csv", "not UTF-8"),
        ({"a": 1.0}, "the reference leaves out labels that the run has: got no share of b, c"),
        ({"a": 1.0, "b": None, "c": 0}, "the share of 'b' cannot be used"),
        ({"a": 1.0, "b": 0, "c": 0, "bb": 0}, "no such label: got bb; .* did you mean 'b'"),
    ):
        with pytest.raises(InputError, match=words):
            reference_of(given, LABELS)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the data leaves out labels that the run has"):
        reference_of("data", LABELS, data={"b": 1.0})


def test_reference_of_the_data_is_that_of_the_condition() -> None:
    data = TrainingData(
        points=np.zeros((4, 1)),
        labels={"ink": np.array(["r", "r", "g", "g"]), "digit": np.array(["1", "1", "1", "2"])},
        weights=np.array([1.0, 1.0, 2.0, 5.0]),
    )
    labels = {"ink": ("r", "g"), "digit": ("1", "2")}
    assert data_reference(data, "ink", "1", labels) == {"g": 0.5, "r": 0.5}
    assert data_reference(data, "ink", "2", labels) == {"g": 1.0, "r": 0.0}  # a 0 that is known
    assert data_reference(data, "ink", None, labels) == pytest.approx({"g": 7 / 9, "r": 2 / 9})
    assert data_reference(data, "ink", "3", labels) is None
    assert data_reference(None, "ink", "1", labels) is None


def test_bad_counts() -> None:
    with pytest.raises(InputError, match="do not fit"):
        attribute_law([1, 2], LABELS, UNIFORM)
    with pytest.raises(InputError, match="one group only"):
        attribute_law([5], ("a",), reference_of("uniform", ("a",)))
    with pytest.raises(InputError, match="confidence"):
        attribute_law([1, 2, 3], LABELS, UNIFORM, confidence=0.2)
