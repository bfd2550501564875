"""From records to transitions: counted right, and never mixed wrongly."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critwin.errors import InputError
from critwin.records import FeatureColumns, Records, concatenate, select
from critwin.reshaping import merge
from critwin.views import binned, product, transitions_from_records

GROUND = ("dark", "light")
INK = ("red", "green", "blue")


def random_rows(seed: int, *, sources: int = 12, replicates: int = 2) -> Records:
    """Two features of every source at three levels, with abstentions and invalid rows."""
    rng = np.random.Generator(np.random.Philox(seed))
    source = np.repeat(np.arange(sources), 3 * replicates)
    num = len(source)
    before = {"ground": rng.integers(0, 2, sources), "ink": rng.integers(0, 3, sources)}
    before["ground"][:2], before["ink"][:3] = [0, 1], [0, 1, 2]
    area = rng.random(sources)
    return Records(
        source=np.array([f"s{n:03d}" for n in source]),
        logsnr=np.tile(np.repeat([2.0, 0.0, -2.0], replicates), sources),
        replicate=np.tile(np.arange(replicates), 3 * sources),
        reversal=np.full(num, "stochastic"),
        valid=rng.random(num) < 0.9,
        features={
            "ground": FeatureColumns(
                labels=GROUND,
                before=before["ground"][source],
                after=rng.integers(-1, 2, num),
                before_values={"area": area[source]},
                after_values={"area": np.where(rng.random(num) < 0.1, np.nan, rng.random(num))},
            ),
            "ink": FeatureColumns(
                labels=INK, before=before["ink"][source], after=rng.integers(-1, 3, num)
            ),
        },
        priors={"ink": {"red": 0.5, "green": 0.3, "blue": 0.2}},
        attrs={"model": "m"},
    )


def brute_force(rows: Records, feature: str, label: str, level: float) -> dict[str, Any]:
    """The row of one label at one level, counted one record at a time."""
    columns = rows.features[feature]
    shares: list[np.ndarray[Any, Any]] = []
    num_abstained = num_invalid = 0
    for name in sorted(set(rows.source.tolist())):
        counts = np.zeros(len(columns.labels))
        is_mine = False
        for n in range(len(rows)):
            if rows.source[n] != name or rows.logsnr[n] != level:
                continue
            if columns.labels[columns.before[n]] != label:
                continue
            is_mine = True
            if not rows.valid[n]:
                num_invalid += 1
            elif columns.after[n] < 0:
                num_abstained += 1
            else:
                counts[columns.after[n]] += 1
        if is_mine and counts.sum():
            shares.append(counts / counts.sum())
    return {
        "row": np.mean(shares, axis=0) if shares else np.full(len(columns.labels), np.nan),
        "abstained": num_abstained,
        "invalid": num_invalid,
    }


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from(["ground", "ink"]))
def test_counts_match_one_record_at_a_time(seed: int, feature: str) -> None:
    rows = random_rows(seed)
    table = transitions_from_records(rows, feature)
    assert table.logsnr.tolist() == [2.0, 0.0, -2.0]
    assert table.feature == feature
    assert table.reversal == "stochastic"
    for i, label in enumerate(table.before):
        for k, level in enumerate(table.logsnr):
            truth = brute_force(rows, feature, label, level)
            np.testing.assert_allclose(table.probs[k, i], truth["row"], rtol=1e-14)
            assert table.invalid is not None
            assert table.abstained is not None
            assert table.source_before is not None
            assert table.invalid[k, i] == truth["invalid"]
            assert table.abstained[table.source_before == i, k].sum() == truth["abstained"]


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_order_of_rows_and_names_of_labels_do_not_matter(seed: int, random: Any) -> None:
    rows = random_rows(seed)
    table = transitions_from_records(rows, "ink")
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = transitions_from_records(select(rows, np.array(order)), "ink")
    np.testing.assert_array_equal(shuffled.counts, table.counts)
    # renaming and reordering the labels permutes the table
    own = rows.features["ink"]
    turn = np.array([2, 0, 1, -1])  # the last entry serves the abstentions (-1)
    names = {"red": "r", "green": "g", "blue": "b"}
    renamed = replace(
        rows,
        features={
            "ink": FeatureColumns(
                labels=("g", "b", "r"), before=turn[own.before], after=turn[own.after]
            )
        },
        priors={"ink": {names[k]: w for k, w in rows.priors["ink"].items()}},
    )
    other = transitions_from_records(renamed, "ink")
    pick = [other.before.index(names[label]) for label in table.before]
    np.testing.assert_allclose(other.probs[:, pick][:, :, pick], table.probs, rtol=1e-14)
    assert other.weights is not None
    assert table.weights is not None
    np.testing.assert_allclose(other.weights[pick], table.weights)


def test_priors_come_with_the_records_or_are_given() -> None:
    rows = random_rows(1)
    table = transitions_from_records(rows, "ink")
    assert table.weights is not None
    np.testing.assert_allclose(table.weights, [0.5, 0.3, 0.2])
    assert not table.is_weights_estimated
    assert transitions_from_records(rows, "ground").weights is None
    estimated = replace(rows, attrs={"is_prior_estimated": True})
    assert transitions_from_records(estimated, "ink").is_weights_estimated
    # a prior that the caller gives is no estimate from the sources
    given_table = transitions_from_records(
        estimated, "ink", weights={"red": 2.0, "green": 1.0, "blue": 1.0}
    )
    assert not given_table.is_weights_estimated
    assert given_table.weights is not None
    np.testing.assert_allclose(given_table.weights, [0.5, 0.25, 0.25])
    assert not transitions_from_records(estimated, "ground").is_weights_estimated


def test_a_prior_on_a_label_without_sources_gives_an_unknown_row() -> None:
    rows = random_rows(1)
    keep = rows.features["ink"].before != 2
    table = transitions_from_records(select(rows, keep), "ink")
    assert table.before == INK
    assert np.isnan(table.probs[:, 2]).all()
    without = transitions_from_records(replace(select(rows, keep), priors={}), "ink")
    assert without.before == ("red", "green")
    assert without.after == INK


def test_sampling_weights_of_sources() -> None:
    rows = random_rows(2)
    number = np.char.strip(rows.source, "s").astype(int)
    weight = 1.0 + number
    table = transitions_from_records(replace(rows, values={"weight": weight}), "ink")
    assert table.source_weight is not None
    np.testing.assert_array_equal(table.source_weight, 1.0 + np.arange(12))
    # weight k is k sources alike
    copies = [
        replace(select(rows, weight > k), source=np.char.add(rows.source[weight > k], f".{k}"))
        for k in range(12)
    ]
    repeated = transitions_from_records(concatenate(copies), "ink")
    np.testing.assert_allclose(table.probs, repeated.probs, rtol=1e-13)
    assert not np.allclose(table.probs, transitions_from_records(rows, "ink").probs)
    for bad, message in (
        (np.where(number == 3, -1.0, 1.0), "weights of sources must be >= 0: got -1"),
        (np.where(number == 3, np.nan, 1.0), "weights of sources must be >= 0: got nan"),
        (np.arange(len(rows)) * 1.0, "several weights: got s000"),
    ):
        with pytest.raises(InputError, match=message):
            transitions_from_records(replace(rows, values={"weight": bad}), "ink")


def test_abstained_sources_are_counted_apart() -> None:
    rows = random_rows(3)
    own = rows.features["ink"]
    before = np.where(rows.source == "s003", -1, own.before)
    table = transitions_from_records(
        replace(rows, features={"ink": replace(own, before=before)}), "ink"
    )
    assert table.num_sources == 11
    assert table.attrs["num_sources_abstained"] == 1
    assert table.attrs["model"] == "m"


def test_products() -> None:
    rows = random_rows(4)
    both = product(rows, ["ground", "ink"])
    assert both.labels == (
        "dark*red",
        "dark*green",
        "dark*blue",
        "light*red",
        "light*green",
        "light*blue",
    )
    for n in range(len(rows)):
        parts = [rows.features["ground"].after[n], rows.features["ink"].after[n]]
        if min(parts) < 0:
            assert both.after[n] == -1
        else:
            assert both.labels[both.after[n]] == f"{GROUND[parts[0]]}*{INK[parts[1]]}"
    by_name = transitions_from_records(rows, "ground*ink")
    by_list = transitions_from_records(rows, ("ground", "ink"))
    np.testing.assert_array_equal(by_name.counts, by_list.counts)
    assert by_name.feature == "ground*ink"
    # a feature that is literally called so is itself
    literal = replace(rows, features={**rows.features, "ground*ink": rows.features["ink"]})
    assert transitions_from_records(literal, "ground*ink").after == INK
    with pytest.raises(InputError, match="no features"):
        product(rows, [])


def test_a_product_merged_over_one_factor_is_the_other() -> None:
    """Sources without abstentions: summing ink out of ground*ink gives ground."""
    rows = random_rows(5)
    clean = replace(
        rows,
        valid=np.ones(len(rows), bool),
        features={k: replace(v, after=np.abs(v.after)) for k, v in rows.features.items()},
        priors={
            "ground*ink": {f"{g}*{i}": 1 / 6 for g in GROUND for i in INK},
            "ground": {"dark": 0.5, "light": 0.5},
        },
    )
    merged = transitions_from_records(
        clean, "ground*ink", groups={g: [f"{g}*{i}" for i in INK] for g in GROUND}
    )
    ground = transitions_from_records(clean, "ground")
    assert merged.after == ground.after
    np.testing.assert_array_equal(merged.counts, ground.counts)
    np.testing.assert_allclose(merged.weights, ground.weights)  # type: ignore[arg-type]


def test_groups_are_merged() -> None:
    rows = random_rows(6)
    groups = {"warm": ["red"], "cold": ["green", "blue"]}
    one = transitions_from_records(rows, "ink", groups=groups)
    two = merge(transitions_from_records(rows, "ink"), groups)
    np.testing.assert_array_equal(one.probs, two.probs)
    with pytest.raises(InputError, match="merging labels needs the model's prior"):
        transitions_from_records(rows, "ground", groups={"any": ["dark", "light"]})


def test_bins_read_a_number_like_a_feature() -> None:
    rows = binned(random_rows(7), "ground", "area", [0.25, 0.5])
    own = rows.features["ground.area"]
    assert own.labels == ("< 0.25", "[0.25, 0.5)", ">= 0.5")
    area = rows.features["ground"].after_values["area"]
    np.testing.assert_array_equal(own.after == -1, np.isnan(area))
    np.testing.assert_array_equal(own.after == 0, area < 0.25)
    np.testing.assert_array_equal(own.after == 2, area >= 0.5)
    assert transitions_from_records(rows, "ground.area").after == own.labels
    assert "wide" in binned(rows, "ground", "area", [0.5], name="wide").features
    for edges, message in (
        ([], "must increase"),
        ([0.5, 0.5], "must increase"),
        ([np.nan], "must be finite"),
        ([0.1, np.inf], "must be finite"),
    ):
        with pytest.raises(InputError, match=message):
            binned(rows, "ground", "area", edges, name="x")
    with pytest.raises(InputError, match=r"read no number of this name: got size; wanted one of"):
        binned(rows, "ground", "size", [0.5])
    with pytest.raises(InputError, match=r"already: got ground\.area"):
        binned(rows, "ground", "area", [0.5])
    assert binned(rows, "ground", "area", [0.5], name="edge").features["edge"].labels == (
        "< 0.5",
        ">= 0.5",
    )


def test_where_filters_by_column_or_function() -> None:
    rows = random_rows(8)
    by_column = transitions_from_records(rows, "ink", where={"replicate": 0})
    by_function = transitions_from_records(rows, "ink", where=lambda r: r.replicate == 0)
    by_list = transitions_from_records(rows, "ink", where={"replicate": [0, 7]})
    np.testing.assert_array_equal(by_column.counts, by_function.counts)
    np.testing.assert_array_equal(by_column.counts, by_list.counts)
    assert by_column.counts is not None
    assert by_column.counts.sum(axis=2).max() == 1
    unconditional = transitions_from_records(rows, "ink", where={"condition": None})
    np.testing.assert_array_equal(
        unconditional.counts, transitions_from_records(rows, "ink").counts
    )


def test_what_must_not_be_mixed_is_refused() -> None:
    rows = random_rows(9)
    half = np.arange(len(rows)) % 2 == 0
    mixed = {
        "reversal": np.where(half, "ode", "stochastic"),
        "experiment": np.where(half, "clone", "forward_reverse"),
        "condition": np.where(half, "a cat", ""),
    }
    for name, column in mixed.items():
        both = replace(rows, **{name: column})
        with pytest.raises(InputError, match=f"mixed.*where=.*{name}"):
            transitions_from_records(both, "ink")
        part = transitions_from_records(both, "ink", where={name: column[0]})
        assert part.counts is not None
    # each source under a condition of its own is one experiment
    own = replace(rows, condition=np.char.add("prompt ", rows.source))
    np.testing.assert_array_equal(
        transitions_from_records(own, "ink").counts, transitions_from_records(rows, "ink").counts
    )
    twice = concatenate(
        [
            rows,
            replace(
                rows,
                features={
                    **rows.features,
                    "ink": replace(
                        rows.features["ink"], before=(rows.features["ink"].before + 1) % 3
                    ),
                },
            ),
        ]
    )
    with pytest.raises(InputError, match=r"two labels of 'ink' before: got s000"):
        transitions_from_records(twice, "ink")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature": "hat"}, r"unknown feature: got hat; wanted one of ground, ink"),
        ({"feature": "ink*hat"}, "unknown feature: got hat"),
        ({"where": {"colour": "x"}}, "unknown column: got colour"),
        ({"where": {"replicate": 99}}, "no records of feature 'ink' are left"),
        ({"where": lambda r: [True]}, "mask does not fit"),
        ({"weights": {"pink": 1.0}}, "unknown labels: got pink"),
        ({"weights": {"red": 1.0, "green": 1.0}}, "give nothing to labels .* got blue"),
        ({"groups": {"x": ["pink"]}}, "unknown label: got pink"),
    ],
)
def test_every_guard_fires(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        transitions_from_records(random_rows(10), **{"feature": "ink", **options})


def test_a_labeller_that_always_abstains_is_refused() -> None:
    rows = random_rows(11)
    own = rows.features["ink"]
    with pytest.raises(InputError, match="abstained on every source"):
        transitions_from_records(
            replace(rows, features={"ink": replace(own, before=np.full(len(rows), -1))}), "ink"
        )
