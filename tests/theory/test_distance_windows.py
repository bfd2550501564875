"""Windows by distance: closed forms, limits of brackets, and every answer that is not a number."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from scipy import stats

from critwin.errors import InputError
from critwin.exact_windows import exact_window
from critwin.levels import logsnr_of_ou_time
from critwin.streams import numpy_stream
from critwin.theory import _monotone, _submixtures
from critwin.theory.distance_windows import distance_window, separation_times
from critwin.theory.distances import DistanceCurve, total_variation
from critwin.theory.exact import exact_transitions
from critwin.theory.mixtures import GaussianMixture
from image_laws import random_line
from mixture_cases import FOUR, random_mixture

TREE = GaussianMixture(means=[-60.0, -50.0, 50.0, 60.0], names=["a", "b", "c", "d"])
FAST = {"num_samples": 1 << 10}


def two(mu: float, sd: float = 1.0, weight: float = 0.5, dim: int = 1) -> GaussianMixture:
    means = np.zeros((2, dim))
    means[:, 0] = [mu, -mu]
    return GaussianMixture(
        weights=[weight, 1 - weight], means=means, covariances=sd**2, names=["+", "-"]
    )


def time_of(mu: float, sd: float, k: float) -> float:
    """OU time at which two Gaussians are at separation k; 0 if they always are nearer."""
    inside = 1 - sd**2 + mu**2 / k**2
    return 0.5 * float(np.log(inside)) if inside > 1 else 0.0


# --- closed forms -------------------------------------------------------------------------------


def test_two_gaussians_to_the_printed_digits() -> None:
    window = distance_window(two(10.0), after="+", epsilon=0.1)
    assert window.t_after.t.value == pytest.approx(1.356414, abs=5e-7)
    assert window.t_before.t.value == pytest.approx(3.675580, abs=5e-7)
    assert (window.criterion, window.kind, window.epsilon) == ("distance", "exact", 0.1)
    assert (window.after, window.before) == (("+",), ("+", "-"))
    for edge in (window.t_after, window.t_before):
        assert edge.t.low == edge.t.value == edge.t.high
        assert float(logsnr_of_ou_time(edge.t.value)) == pytest.approx(edge.logsnr.value)


@pytest.mark.parametrize("mu", [0.7, 3.0, 10.0, 1e4])
@pytest.mark.parametrize("sd", [0.1, 1.0, 2.0])
@pytest.mark.parametrize("weight", [0.5, 0.7])
def test_two_gaussians_in_closed_form(mu: float, sd: float, weight: float) -> None:
    for epsilon in (0.05, 0.2):
        window = distance_window(two(mu, sd, weight, dim=3), after="+", epsilon=epsilon)
        k_after = stats.norm.ppf(1 - epsilon**2 / 2)
        share = epsilon / (1 - weight)
        expected = time_of(mu, sd, stats.norm.ppf((1 + share) / 2)) if share < 1 else 0.0
        assert window.t_before.t.value == pytest.approx(expected, abs=1e-10)
        t_after = time_of(mu, sd, k_after)
        if t_after > 0:
            assert window.t_after.t.value == pytest.approx(t_after, abs=1e-9)
        else:
            assert window.t_after.t.value is None
            assert "no level separates + from the rest" in window.t_after.t.reason


@pytest.mark.parametrize("epsilon", [0.02, 0.1, 0.3, 0.45])
def test_published_times_of_two_gaussians(epsilon: float) -> None:
    """Li, Karan & Chen (2025), Ex. 1, unit covariance, and the bound that holds for every eps."""
    mu = 10.0
    window = distance_window(two(mu), after="+", epsilon=epsilon)
    after, before = window.t_after.t.value, window.t_before.t.value
    assert np.log(mu) + np.log(2) + np.log(1 / epsilon) >= before
    assert after >= np.log(mu) - 0.5 * np.log(2 * np.log(1 / epsilon**2))
    published = np.log(mu) - np.log(np.log(1 / (2 * epsilon**2)))
    assert (published <= after) == (epsilon <= 0.305611)
    if epsilon == 0.1:
        assert published == pytest.approx(0.938530, abs=5e-7)
        assert np.log(200.0) == pytest.approx(5.298317, abs=5e-7)
        ours = np.log(mu) - 0.5 * np.log(2 * np.log(1 / epsilon**2))
        assert ours == pytest.approx(1.192422, abs=5e-7)


def test_the_published_time_after_holds_up_to_its_epsilon() -> None:
    for epsilon, holds in ((0.3056, True), (0.3057, False)):
        after = distance_window(two(10.0), after="+", epsilon=epsilon).t_after.t.value
        published = np.log(10.0) - np.log(np.log(1 / (2 * epsilon**2)))
        assert bool(published <= after) is holds


def test_two_wide_gaussians() -> None:
    m = GaussianMixture(means=[0.0, 30.0], covariances=[4.0, 4.0])
    times = separation_times(m, init="0", target="0", epsilon=0.1)
    assert times.T_upper.t.value == pytest.approx(1.71556585754518, abs=1e-12)
    assert times.T_lower.t.value == 0.0
    assert times.is_window
    assert times.theorem.value == pytest.approx(0.11)


def test_unequal_covariances_in_any_dimension() -> None:
    """One pair of times, checked by evaluating the distance there."""
    m = random_mixture("full", is_shared=False, num=2, dim=6)
    wide = GaussianMixture(
        weights=m.weights, means=6 * m.means, covariances=m.covariances, covariance_kind="full"
    )
    window = distance_window(wide, after="0", epsilon=0.1)
    assert window.kind == "exact"
    at = logsnr_of_ou_time([window.t_after.t.value, window.t_before.t.value])
    curve = total_variation(wide, "0", "1", at).estimate
    share = float(wide.weights[1])
    np.testing.assert_allclose(curve * [1, share], [1 - 0.1**2, 0.1], atol=1e-10)


# --- sets ---------------------------------------------------------------------------------------


def test_a_hierarchy_decides_one_after_the_other() -> None:
    fine = distance_window(TREE, after="a", before=["a", "b"], epsilon=0.1)
    coarse = distance_window(TREE, after=["a", "b"], epsilon=0.1)
    times = [w.t.value for w in (fine.t_after, fine.t_before, coarse.t_after, coarse.t_before)]
    assert times == sorted(times)
    assert not fine.notes
    # a and b merge as if they were alone; the rest of a is a third b, so a parts from it later
    alone = distance_window(two(5.0), after="+", epsilon=0.1)
    assert fine.t_after.t.value > alone.t_after.t.value
    assert fine.t_before.t.value == pytest.approx(alone.t_before.t.value, abs=1e-9)
    by_name = distance_window(TREE, after="a", before="all", epsilon=0.1)
    assert by_name.before == TREE.names


def test_separation_times_of_a_set() -> None:
    times = separation_times(TREE, init="a", target=["b", "a"], epsilon=0.1)
    window = distance_window(TREE, after="a", before=["a", "b"], epsilon=0.1)
    assert times.T_lower == window.t_before
    assert times.target == ("a", "b")
    assert times.is_window
    everything = separation_times(TREE, init="a", target=TREE.names, epsilon=0.1)
    assert everything.T_upper.t.value is None
    assert "infinite" in everything.T_upper.t.reason
    assert everything.is_window
    assert everything.theorem.value == pytest.approx(0.1)
    json.dumps(everything.as_dict(), allow_nan=False)


@pytest.mark.parametrize("kind", ["diagonal", "isotropic"])
def test_brackets_are_carried_through(kind: str) -> None:
    num = 4 if kind == "diagonal" else 3  # means in a plane have another, dearer bound
    m = random_mixture(kind, is_shared=kind == "diagonal", num=num, dim=3)
    m = GaussianMixture(
        weights=m.weights, means=5 * m.means, covariances=m.covariances, covariance_kind=kind
    )
    window = distance_window(m, after="0", epsilon=0.15, **FAST)
    assert window.kind == "estimated"
    assert any("limits" in note for note in window.notes)
    rest = list(m.names[1:])
    for edge, level, factor in (
        (window.t_after, 1 - 0.15**2, 1.0),
        (window.t_before, 0.15, 1 - float(m.weights[0])),
    ):
        assert edge.t.confidence is None
        assert edge.t.low <= edge.t.value <= edge.t.high
        assert edge.t.high - edge.t.low < 0.5
        ends = logsnr_of_ou_time([edge.t.low, edge.t.high])
        curve = total_variation(m, "0", rest, ends, num_samples=1 << 13)
        # certified: above the level at the lower limit, below it at the upper one
        assert factor * curve.lower[0] >= level - 1e-4
        assert factor * curve.upper[1] <= level + 1e-4
    rough = distance_window(m, after="0", epsilon=0.15, precision="bracket")
    assert rough.t_after.t.low == pytest.approx(window.t_after.t.low)
    assert any("middle" in note for note in rough.notes)


def test_brackets_of_times_hold_the_exact_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact times of mixtures on a line, against the times of their brackets alone."""
    rng = numpy_stream(0, "bracketed times")
    for _ in range(2):
        m = random_line(rng, 3)
        exact = separation_times(m, init="0", target=["0", "1"], epsilon=0.2)
        with monkeypatch.context() as patch:
            patch.setattr(_submixtures, "exact", lambda *_: None)
            rough = separation_times(
                m, init="0", target=["0", "1"], epsilon=0.2, precision="bracket"
            )
        for name in ("T_lower", "T_upper"):
            truth, bracket = getattr(exact, name).t, getattr(rough, name).t
            if truth.value is not None:
                assert bracket.low - 1e-9 <= truth.value <= bracket.high + 1e-9
            elif bracket.low is not None:
                assert bracket.low == 0


def test_operational_and_distance_windows_are_ordered() -> None:
    """``t_before <= T_before``, and the operational window inside the other at ``eps W <= 1``."""
    rng = numpy_stream(0, "ordered")
    num_both = 0
    for _ in range(3):
        m = GaussianMixture(
            weights=rng.dirichlet(np.full(3, 30.0)),
            means=np.array([-130.0, -122.0, 125.0]) + rng.normal(size=3),
            covariances=rng.uniform(0.5, 1.5, 3),
        )
        pair = {"after": "0", "before": ["0", "1"], "epsilon": 0.1}
        distance = distance_window(m, **pair)
        table = partial(exact_transitions, m)
        operational = exact_window(table, criterion="operational", num_scan=60, **pair)
        if operational.t_before.t.value is None or distance.t_before.t.value is None:
            continue
        num_both += 1
        assert operational.t_before.t.value <= distance.t_before.t.value + 1e-9
        assert operational.t_after.t.value >= distance.t_after.t.value - 1e-9
    assert num_both >= 2


# --- answers that are not a number --------------------------------------------------------------


def test_nothing_to_decide_when_little_is_outside() -> None:
    m = two(10.0, weight=0.95)
    window = distance_window(m, after="+", epsilon=0.1)
    assert window.t_before.t.value == 0.0
    assert window.t_before.logsnr.value is None
    assert any("nothing to decide" in note for note in window.notes)
    assert any(note.startswith("degenerate") for note in window.notes)
    json.dumps(window.as_dict(), allow_nan=False)


def test_no_level_separates() -> None:
    window = distance_window(FOUR, after="0", before=["0", "2"], epsilon=0.1)
    reason = window.t_before.t.reason
    assert "no level separates 0, 2 from the rest at epsilon = 0.1" in reason
    assert window.t_after.t.value is not None
    late = distance_window(FOUR, after="0", before=["0", "1"], epsilon=0.1)
    assert "S_before leaves the rest at t = 0.81" in late.t_before.t.reason


def test_identical_components_have_no_window() -> None:
    m = GaussianMixture(means=[[0.0, 1], [0, 1], [30, 1]], covariances=1.0)
    window = distance_window(m, after="0", before=["0", "1"], epsilon=0.1)
    for edge in (window.t_after, window.t_before):
        assert edge.t.value is None
        assert "same law" in edge.t.reason
    assert distance_window(m, after=["0", "1"], epsilon=0.1).t_after.t.value > 0


def test_points_are_apart_without_noise() -> None:
    m = GaussianMixture(means=[-1.0, 1.0], covariances=0.0)
    window = distance_window(m, after="0", epsilon=0.1)
    assert window.t_after.t.value == pytest.approx(
        time_of(1.0, 0.0, stats.norm.ppf(1 - 0.005)), abs=1e-9
    )


def test_equal_means_have_a_window() -> None:
    """A feature that no mean shows: only the spread differs."""
    m = GaussianMixture(means=np.zeros((2, 64)), covariances=[1.0, 9.0])
    window = distance_window(m, after="0", epsilon=0.2)
    assert 0 < window.t_after.t.value < window.t_before.t.value


def test_a_single_component_is_separated_from_nothing() -> None:
    times = separation_times(
        GaussianMixture(means=[[1.0, 2.0]]), init="0", target="0", epsilon=0.1
    )
    assert times.T_lower.t.value == 0.0
    assert "infinite" in times.T_upper.t.reason


def test_a_tiny_epsilon_is_said_to_be_rough() -> None:
    window = distance_window(two(100.0), after="+", epsilon=1e-7)
    assert any("rounding" in note for note in window.notes)


def test_an_uncertain_existence_is_said() -> None:
    m = random_mixture("diagonal", is_shared=False, num=3, dim=2)
    window = distance_window(m, after="0", before=["0", "1"], epsilon=0.3, precision="bracket")
    edge = window.t_after.t
    assert edge.value is not None or "not certain" in edge.reason or "no level" in edge.reason


def curve(lower: float, upper: float, scale: float, logsnr: np.ndarray) -> DistanceCurve:
    """A made-up bracket around ``exp(-scale t)``."""
    from critwin.levels import ou_time

    value = np.exp(-scale * ou_time(logsnr))
    return DistanceCurve(
        logsnr=logsnr,
        lower=value * lower,
        estimate=np.clip(value, value * lower, value * upper),
        upper=np.minimum(value * upper, 1.0),
        stderr=np.zeros_like(value),
        lower_how="made up",
        estimate_how="made up",
        upper_how="made up",
    )


def test_crossings_of_a_known_curve() -> None:
    found, _ = _monotone.crossings(partial(curve, 1.0, 1.0, 2.0), None, 0.1)
    assert found.value == found.low == found.high == pytest.approx(np.log(10) / 2, abs=1e-12)
    found, _ = _monotone.crossings(partial(curve, 0.9, 1.2, 2.0), None, 0.1)
    assert found.low == pytest.approx(np.log(9) / 2, abs=1e-3)
    assert found.high == pytest.approx(np.log(12) / 2, abs=1e-3)
    assert found.low <= np.log(10) / 2 <= found.high
    slow, _ = _monotone.crossings(partial(curve, 1.0, 1.0, 0.1), None, 0.1)
    assert slow.value == pytest.approx(np.log(10) / 0.1, rel=1e-9)  # beyond the first scan
    never, _ = _monotone.crossings(partial(curve, 1.0, 1.0, 1e-3), None, 0.1)
    assert never.value > 50
    below, _ = _monotone.crossings(partial(curve, 0.05, 0.09, 1.0), None, 0.95)
    assert below.low == below.high == 0.0
    fast, _ = _monotone.crossings(partial(curve, 1.0, 1.0, 1e19), None, 0.1)
    assert fast.value == pytest.approx(np.log(10) / 1e19, rel=1e-3)


def test_components_in_outline_have_limits_alone() -> None:
    from critwin.theory.log_concave import OutlinedMixture

    outline = OutlinedMixture(
        means=[0.0, 30.0, 1000.0],
        m=[0.25] * 3,
        wasserstein=np.abs(np.subtract.outer(*2 * [[0.0, 30, 1000]])),
    )
    exact = GaussianMixture(means=[0.0, 30.0, 1000.0], covariances=4.0)
    pair = {"after": "0", "before": ["0", "1"], "epsilon": 0.1}
    window, truth = distance_window(outline, **pair), distance_window(exact, **pair)
    for edge, known in (
        (window.t_after.t, truth.t_after.t),
        (window.t_before.t, truth.t_before.t),
    ):
        assert edge.value is None
        assert "outline" in edge.reason
        assert edge.low <= known.value <= edge.high
    assert not any("degenerate" in note for note in window.notes)
    json.dumps(window.as_dict(), allow_nan=False)
    blank = OutlinedMixture(means=[0.0, 5.0])  # nothing is known
    nothing = distance_window(blank, after="0", epsilon=0.1)
    assert nothing.t_before.t.high is None
    assert "upper bound" in nothing.t_before.t.high_reason
    json.dumps(nothing.as_dict(), allow_nan=False)


# --- guards -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"after": "c", "before": ["a", "b"]}, "got c outside a, b; wanted .*; add c to S_before"),
        ({"after": []}, "S_after is an empty set"),
        ({"before": []}, "S_before is an empty set"),
        ({"after": "z"}, "unknown component in S_after: got z"),
        ({"after": ["a", "a"]}, "named twice"),
        ({"after": ["a", "b"], "before": ["b", "a"]}, "the same set"),
        ({"after": ["a", "b", "c", "d"]}, "the same set"),
        ({"epsilon": 0.0}, "epsilon is out of range"),
        ({"epsilon": 1.0}, "epsilon is out of range"),
        ({"epsilon": float("nan")}, "epsilon is out of range"),
        ({"precision": "perfect"}, "unknown precision"),
    ],
)
def test_bad_calls_are_refused(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        distance_window(TREE, **({"after": "a", "epsilon": 0.1} | change))
    assert "\n" not in str(caught.value)


def test_one_component_is_refused() -> None:
    with pytest.raises(InputError, match="one component"):
        distance_window(GaussianMixture(means=[[0.0]]), after="0")


def test_sets_of_separation_times_must_be_nested() -> None:
    with pytest.raises(InputError, match="S_init is not inside S_target: got "):
        separation_times(TREE, init="c", target=["a", "b"], epsilon=0.1)
