"""The survey: numbers of closed forms, everything under its own name, reasons for what is not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from critwin.errors import InputError
from critwin.theory.families import load_family
from critwin.theory.mixtures import GaussianMixture
from critwin.theory.survey import survey

FOUR = GaussianMixture(
    weights=[0.4, 0.3, 0.2, 0.1],
    means=[-8.0, -4.0, 6.0, 8.0],
    covariances=np.array([1.0, 0.5, 0.7, 1.2]) ** 2,
    names=["a", "b", "c", "d"],
)


def test_two_gaussians_have_their_published_numbers() -> None:
    facts = survey(load_family("two-gaussians", distance=20), epsilon=0.1).as_dict()
    assert facts["t_after"] == pytest.approx(1.90205848649855, abs=1e-11)
    assert facts["t_before"] == pytest.approx(3.0078187151851, abs=1e-11)
    assert facts["T_after"] == pytest.approx(1.356414, abs=5e-7)
    assert facts["T_before"] == pytest.approx(3.675580, abs=5e-7)
    assert facts["closed_forms"]["T_after"] == pytest.approx(facts["T_after"], abs=1e-9)
    printed = {(p["symbol"], p["kind"]): p["value"] for p in facts["published"]}
    assert printed["T_after", "published"] == pytest.approx(0.938530, abs=5e-7)
    assert printed["T_before", "published"] == pytest.approx(5.298317, abs=5e-7)
    text = json.dumps(facts, allow_nan=False)
    assert json.loads(text)["criterion"] == "operational"


def test_a_file_has_its_transitions_and_both_sides_of_its_certificate() -> None:
    found = survey(FOUR, after="a", before=["a", "b"], epsilon=0.1, at=[1.5])
    assert found.transitions is not None
    rows = np.array(found.as_dict()["transitions"][0]["matrix"])
    truth = [
        [0.632665, 0.331401, 0.028416, 0.007518],
        [0.441867, 0.419187, 0.106251, 0.032695],
        [0.056832, 0.159376, 0.513868, 0.269923],
        [0.030072, 0.098084, 0.539846, 0.331999],
    ]
    np.testing.assert_allclose(rows, truth, atol=5e-7)
    assert found.pair is not None
    own = found.pair.certificate
    assert own is not None
    assert own.distance.estimate[0] == pytest.approx(0.149025703627, abs=1e-10)
    assert own.leak[0] == pytest.approx(0.0800818722274, abs=1e-10)
    assert 0 < own.lower[0] < own.upper[0] == pytest.approx(0.2291075758544, abs=1e-9)
    # S_before parts from the rest before S_after dissolves in it: an answer with its reason
    assert found.pair.distance.t_before is not None
    assert found.pair.distance.t_before.t.value is None
    assert "before S_after merges" in str(found.pair.distance.t_before.t.reason)


def test_closed_form_times_bound_the_exact_ones() -> None:
    for distance in (6.0, 12.0, 30.0):
        m = GaussianMixture(means=[0.0, 1.0, distance], names=["a", "b", "c"])
        pair = survey(m, after="a", before=["a", "b"], epsilon=0.2).pair
        assert pair is not None
        lower, upper = pair.separation.T_lower.t.value, pair.separation.T_upper.t.value
        assert lower is not None
        assert lower <= pair.log_concave.T_lower
        if pair.log_concave.T_upper is not None:
            assert upper is not None
            assert upper >= pair.log_concave.T_upper


def test_without_a_pair_every_component_has_its_window() -> None:
    found = survey(FOUR)
    assert found.pair is None
    assert set(found.labels) == {"a", "b", "c", "d"}
    assert all(window.criterion == "operational" for window in found.labels.values())
    assert found.kept is not None
    assert found.tree is not None
    assert found.peaks
    json.dumps(found.as_dict(), allow_nan=False)


def test_one_component_is_an_answer() -> None:
    found = survey(GaussianMixture(means=[[0.0, 1.0]]))
    assert found.kept is None
    assert "nothing to lose" in found.reasons["kept"]
    assert found.labels == {}
    assert found.notes == ("one component: nothing is decided",)
    json.dumps(found.as_dict(), allow_nan=False)


def test_an_identical_pair_among_others_is_named_first() -> None:
    m = GaussianMixture(means=[0.0, 0.0, 20.0], names=["a", "b", "c"])
    found = survey(m, after="c", epsilon=0.1)
    assert found.notes == ("components a and b are identical: no level of noise separates them",)
    assert found.as_dict()["notes"] == list(found.notes)
    assert found.pair is not None
    assert found.pair.operational.t_after is not None
    assert found.pair.operational.t_after.t.value is not None  # c is still decided
    assert survey(FOUR, after="a").notes == ()


def test_estimated_tables_give_windows_with_intervals() -> None:
    rng = np.random.Generator(np.random.Philox(0))
    m = GaussianMixture(means=6 * rng.normal(size=(4, 5)), names=list("abcd"))
    found = survey(m, after="a", epsilon=0.1, num_samples=1 << 12)
    assert found.method == "sobol"
    assert found.pair is not None
    edge = found.pair.operational.t_after
    assert edge is not None
    assert edge.t.low is not None
    assert edge.t.value is not None
    assert edge.t.low < edge.t.value
    assert found.kept is not None
    assert found.kept.kind == "estimated"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"after": "z"}, "unknown component"),
        ({"after": []}, "empty|unknown"),
        ({"after": "a", "before": "b"}, "not inside"),
        ({"after": "a", "epsilon": 0.0}, "epsilon is out of range"),
        ({"after": "a", "epsilon": 1.0}, "epsilon is out of range"),
        ({"before": ["a", "b"]}, "S_before without S_after"),
        ({"at": [-1.0]}, "times cannot be used"),
        ({"at": []}, "times cannot be used"),
        ({"at": [np.nan]}, "times cannot be used"),
    ],
)
def test_bad_questions_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        survey(FOUR, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_masking_is_no_mixture() -> None:
    with pytest.raises(InputError, match="no Gaussian mixture"):
        survey(load_family("masking"))
