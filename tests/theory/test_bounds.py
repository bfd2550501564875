"""Bounds against exact values: the theorem, the certificate, distances from few numbers."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import solve_ivp

from critwin.errors import InputError
from critwin.levels import alpha_sigma, logsnr_of_ou_time
from critwin.quantities import leak
from critwin.streams import numpy_stream
from critwin.theory.bounds import (
    certificate,
    leak_from_separation,
    learned_score_bound,
    log_concave_times,
    log_concave_tv_lower,
    separation_from_leak,
    theorem_bound,
    translate_upper,
    wasserstein_upper,
)
from critwin.theory.distances import pairwise_tv, total_variation, wasserstein2
from critwin.theory.exact import exact_transitions
from critwin.theory.mixtures import GaussianMixture
from image_laws import (
    estimate_coverage,
    image_distance,
    plane_violations,
    random_line,
    space_violations,
    violations,
    write_result,
)
from mixture_cases import FOUR, random_mixture


def at(*times: float) -> np.ndarray:
    """Logsnr of OU times."""
    return np.asarray(logsnr_of_ou_time(np.array(times, dtype=float)))


# --- the theorem and the certificate ----------------------------------------------------------


def test_the_three_forms_of_the_theorem() -> None:
    bound = theorem_bound(0.1, 2.0)
    assert bound.bounds["published"] == pytest.approx(0.1 * (1 + 2 / np.sqrt(2)))
    assert bound.bounds["linear"] == pytest.approx(0.1 + 2 * 0.01)
    assert bound.bounds["root"] == pytest.approx(0.1 * 2)
    assert (bound.name, bound.value) == ("linear", pytest.approx(0.12))
    assert theorem_bound(0.5, 0.0).name == "root"  # nothing outside: eps itself
    assert theorem_bound(0.5, 0.0).value == pytest.approx(0.5)
    assert theorem_bound(0.9, 0.001).name == "root"
    assert theorem_bound(0.9, 1e6).value == 1.0
    for epsilon in (0.01, 0.3, 0.9):
        for odds in (0.0, 0.3, 1.0, 7.0):
            assert theorem_bound(epsilon, odds).as_dict()["value"] <= epsilon * (
                1 + max(1, odds) / np.sqrt(2)
            )


@pytest.mark.parametrize("init", ["0", "1"])
def test_the_certificate_brackets_the_image_of_four_components(init: str) -> None:
    levels = at(0.2, 0.8, 1.5, 3)
    bounds = certificate(FOUR, init=init, target=["0", "1"], logsnr=levels)
    truth = [
        image_distance(FOUR, [int(init)], [0, 1], float(a), float(s))
        for a, s in zip(*alpha_sigma(levels), strict=True)
    ]
    assert bounds.is_certified
    assert np.all(bounds.lower <= np.array(truth) + 1e-8)
    assert np.all(np.array(truth) <= bounds.upper + 1e-8)
    assert np.all(bounds.upper - bounds.lower < 0.35)
    assert bounds.as_dict()["t"] == pytest.approx([0.2, 0.8, 1.5, 3])
    np.testing.assert_allclose(
        bounds.leak, leak(exact_transitions(FOUR, levels), ["0", "1"]), atol=1e-14
    )


def test_certificate_and_theorem_hold_for_random_mixtures() -> None:
    result = violations(num=12, seed=0)
    assert result["num_windows"] >= 2
    assert result["violations"] == {"certificate": 0, "theorem": 0, "brackets": 0}
    # the same with every upper bound a fifth of what it is: the check can fail
    assert result["caught"]["certificate"] > 0
    assert result["caught"]["theorem"] > 0


@pytest.mark.validate
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(10))
def test_certificate_and_theorem_in_full(part: int) -> None:
    """Ten thousand mixtures in ten parts."""
    num = int(os.environ.get("CRITWIN_MIXTURES", "10000")) // 10
    result = violations(num=num, seed=1 + part)
    write_result(f"line, part {part}", result)
    assert result["violations"] == {"certificate": 0, "theorem": 0, "brackets": 0}
    assert result["caught"]["certificate"] > 0


@pytest.mark.validate
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(3))
def test_certificate_and_theorem_in_the_plane(part: int) -> None:
    """Three hundred mixtures in three parts."""
    num = int(os.environ.get("CRITWIN_MIXTURES", "300")) // 3
    result = plane_violations(num=num, seed=1 + part)
    write_result(f"plane, part {part}", result)
    assert result["violations"] == {"certificate": 0, "theorem": 0, "brackets": 0}


@pytest.mark.validate
@pytest.mark.timeout(7200)
def test_brackets_in_space() -> None:
    result = space_violations(num=int(os.environ.get("CRITWIN_MIXTURES", "300")), seed=1)
    write_result("space", result)
    assert result["violations"] == {"pairs": 0, "brackets": 0}


@pytest.mark.validate
@pytest.mark.timeout(7200)
def test_coverage_of_estimates() -> None:
    """95 % intervals of the estimate cover the exact distance 93–97 % of 2,000 times."""
    result = estimate_coverage(seeds=int(os.environ.get("CRITWIN_SEEDS", "2000")))
    write_result("coverage", result)
    low, high = (0.93, 0.97) if result["num"] >= 2000 else (0.85, 1.0)
    assert all(low <= share <= high for share in result["share"].values())


def test_estimates_cover_in_short() -> None:
    result = estimate_coverage(seeds=30)
    assert all(share >= 0.8 for share in result["share"].values())
    assert all(share < 0.8 for share in result["share_if_stderr_were_a_third"].values())


def test_planes_and_space_in_short() -> None:
    plane = plane_violations(num=1, seed=0)
    assert plane["violations"] == {"certificate": 0, "theorem": 0, "brackets": 0}
    space = space_violations(num=3, seed=0)
    assert space["violations"] == {"pairs": 0, "brackets": 0}


def test_a_certificate_without_exact_rows_says_so() -> None:
    m = random_mixture("full", is_shared=False, num=3, dim=3)
    levels = at(0.1, 0.5, 1)
    bounds = certificate(m, init="0", target=["0", "1"], logsnr=levels, num_samples=1 << 9)
    assert not bounds.is_certified
    assert np.all(bounds.lower <= bounds.upper)
    assert "estimated" in bounds.lower_how
    assert "max(1, W)" in bounds.upper_how
    sampled = exact_transitions(m, levels, num_samples=1 << 12)
    assert np.all(bounds.leak >= leak(sampled, ["0", "1"]) - 4 * sampled.stderr.max())
    everything = certificate(m, init="0", target=m.names, logsnr=levels, num_samples=1 << 10)
    assert np.all(everything.leak == 0)


def test_a_certificate_takes_other_transitions() -> None:
    seen = []

    def table(logsnr: np.ndarray) -> object:
        seen.append(logsnr)
        return exact_transitions(FOUR, logsnr)

    own = certificate(
        FOUR, init="0", target=["0", "1"], logsnr=[0.0, 1.0, 0.0], transitions_at=table
    )
    assert np.isposinf(seen[0][0])
    assert own.lower[0] == own.lower[2]
    assert own.lower[0] < own.lower[1]


# --- leak and separation ------------------------------------------------------------------------


def test_leak_and_separation_bound_each_other() -> None:
    for weight in (0.1, 0.5, 0.8):
        lost = np.linspace(0, 1 - weight, 7)
        low, high = separation_from_leak(lost, weight)
        assert np.all(low <= high)
        assert low[0] == high[0] == 1
        tv = np.linspace(0, 1, 9)
        least, most = leak_from_separation(tv, weight)
        assert np.all(least <= most)
        assert most.max() <= 1 - weight
        np.testing.assert_allclose(separation_from_leak(least, weight)[0], tv, atol=1e-12)


# --- distances from few numbers -------------------------------------------------------------


def test_strong_log_concavity_bounds_gaussians_from_below() -> None:
    rng = numpy_stream(0, "log-concave")
    levels = at(0, 0.3, 1, 2)
    for _ in range(20):
        var, distance = rng.uniform(0.2, 4, 2), float(rng.uniform(0, 25))
        m = GaussianMixture(means=[[0.0, 0, 0], [distance, 0, 0]], covariances=var)
        low = log_concave_tv_lower(distance, levels, 1 / var[0], 1 / var[1])
        tv = pairwise_tv(m, levels)[:, 0, 1]
        assert np.all(low <= tv + 1e-9)
    alpha, sigma = alpha_sigma(levels)
    equal = log_concave_tv_lower(9.0, levels, 0.5)
    np.testing.assert_allclose(
        equal, np.clip(1 - 2 * np.exp(-81 * alpha**2 / (8 * (2 * alpha**2 + sigma**2))), 0, 1)
    )


def test_wasserstein_distances_bound_from_above() -> None:
    rng = numpy_stream(0, "wasserstein")
    levels = at(0, 0.01, 0.3, 1, 3)
    for _ in range(10):
        m = GaussianMixture(
            means=rng.normal(size=(2, 3)) * 3, covariances=rng.uniform(0.1, 2, (2, 3))
        )
        tv = pairwise_tv(m, levels)[:, 0, 1]
        w2 = wasserstein2(m, [np.inf])[0, 0, 1]
        assert np.all(tv <= wasserstein_upper(levels, w2=w2) + 1e-12)
    # translates: W_1 = W_2 = the shift, and the exact distance at large noise is W_1's bound
    m = GaussianMixture(means=[0.0, 2.0], covariances=1e-6)
    far = at(4, 6)
    ratio = pairwise_tv(m, far)[:, 0, 1] / wasserstein_upper(far, w1=2.0)
    np.testing.assert_allclose(ratio, 1, atol=1e-3)
    assert np.all(wasserstein_upper(far, w1=2.0, w2=2.0) == wasserstein_upper(far, w1=2.0))
    np.testing.assert_allclose(
        wasserstein_upper(far, w2=2.0), 1 / np.sqrt(np.expm1(2 * np.array([4, 6]))), rtol=1e-12
    )
    assert wasserstein_upper(np.inf, w2=0.0) == 0  # equal laws


def test_translates() -> None:
    """``exp(-x^2/2 - x^4)`` shifted by 4, t = .3: the two bounds around .943784640006."""
    assert translate_upper(4.0, at(0.3)[0]) == pytest.approx(0.972600774543, abs=1e-12)
    assert log_concave_tv_lower(4.0, at(0.3)[0], 1.0) == pytest.approx(0.332673662855, abs=1e-12)
    alpha, sigma = (float(v) for v in alpha_sigma(at(0.3)[0]))
    x = np.linspace(-2.5, 2.5, 2001)
    law = np.exp(-(x**2) / 2 - x**4)
    law /= law.sum()
    # symmetric and unimodal, so that the noised densities cross half-way
    tv = 1 - 2 * law @ stats.norm.sf((2 * alpha - alpha * x) / sigma)
    assert tv == pytest.approx(0.9437846398731233, abs=1e-13)  # mpmath, 25 digits
    assert tv == pytest.approx(0.943784640006, abs=2e-10)


def test_couplings_bound_from_above() -> None:
    """Points on a line, coupled in order, against the distance of their noised laws."""
    x, y = np.array([-1.0, 0.2, 3.0]), np.array([-0.5, 0.1, 3.3])
    m = GaussianMixture(means=np.concatenate([x, y]), covariances=1e-8)
    levels = at(0.1, 0.5, 2)
    exact = total_variation(m, ["0", "1", "2"], ["3", "4", "5"], levels).estimate
    bound = translate_upper(np.abs(x - y), levels, probs=np.full(3, 1 / 3))
    assert np.all(exact <= bound + 1e-9)
    w1 = np.abs(x - y).mean()
    assert np.all(bound <= wasserstein_upper(levels, w1=w1) + 1e-12)


# --- times ------------------------------------------------------------------------------------


def test_times_of_two_wide_gaussians() -> None:
    pair = log_concave_times(30.0, 30.0, 0.25, 1, 0.1)
    assert pair.T_upper == pytest.approx(1.4516208517, abs=5e-11)
    assert log_concave_times(30.0, 30.0, 0.25, 2, 0.1).T_upper < pair.T_upper
    m = GaussianMixture(means=[0.0, 30.0], covariances=[4.0, 4.0])
    exact = 1.71556585754518
    tv = pairwise_tv(m, at(exact))[0, 0, 1]
    assert tv == pytest.approx(1 - 0.1**2, abs=1e-14)
    assert pair.T_lower == pytest.approx(0.5 * np.log1p(900 / 0.04))
    assert pairwise_tv(m, at(pair.T_lower))[0, 0, 1] <= 0.1
    better = log_concave_times(30.0, 30.0, 0.25, 1, 0.1, W1=30.0)
    assert better.T_lower == pytest.approx(0.5 * np.log1p(900 / (2 * np.pi * 0.01)))
    assert not pair.is_window


def test_times_hold_for_well_conditioned_mixtures() -> None:
    rng = numpy_stream(0, "headline")
    for _ in range(10):
        centre = 40 * np.eye(3)[rng.integers(3, size=5)] + rng.normal(size=(5, 3))
        centre[:2] = centre[0] + 0.5 * rng.normal(size=(2, 3))
        centre[2:] += 60.0
        m = GaussianMixture(
            weights=rng.dirichlet(np.full(5, 3.0)),
            means=centre,
            covariances=rng.uniform(0.2, 1.0, (5, 3)),
        )
        gaps = np.linalg.norm(centre[:, None] - centre, axis=-1)
        w2 = wasserstein2(m, [np.inf])[0]
        times = log_concave_times(w2[:1, :2].max(), gaps[:2, 2:].min(), 1.0, 5, 0.2)
        low = total_variation(m, "0", ["0", "1"], at(times.T_lower), precision="bracket")
        assert low.upper[0] <= 0.2
        rest = ["2", "3", "4"]
        high = total_variation(m, ["0", "1"], rest, at(times.T_upper), precision="bracket")
        assert high.lower[0] >= 1 - 0.04
        assert times.is_window


def test_times_without_a_window_say_why() -> None:
    close = log_concave_times(1.0, 1.0, 1.0, 3, 0.1)
    assert close.T_upper is None
    assert "too close" in close.reason
    alone = log_concave_times(1.0, np.inf, 1.0, 3, 0.1)
    assert alone.is_window
    assert "infinite" in alone.as_dict()["reason"]


# --- learned score ------------------------------------------------------------------------------


def test_learned_score_of_a_gaussian() -> None:
    """``N(0, v)`` reversed with the score off by a constant: the image is shifted, exactly."""
    for v, c, t in ((0.5, 0.1, 1.0), (2.0, 0.5, 0.4), (1.0, 0.05, 3.0)):

        def shift(u: float, x: np.ndarray, v=v, c=c, t=t) -> np.ndarray:  # noqa: ANN001
            var = np.exp(-2 * (t - u)) * v + 1 - np.exp(-2 * (t - u))
            return x - 2 * x / var + 2 * c

        end = solve_ivp(shift, (0, t), [0.0], rtol=1e-9, atol=1e-12).y[0, -1]
        tv = 2 * stats.norm.cdf(abs(end) / (2 * np.sqrt(v))) - 1
        bound = learned_score_bound(c**2 * t, 1.0)
        assert tv <= bound
        assert tv > 0.2 * bound  # no wilder than it must be
        times = np.linspace(0, t, 5)
        along = learned_score_bound(np.full(5, c**2), 1.0, t=times)
        assert along[-1] == pytest.approx(bound)
        assert learned_score_bound(c**2 * t, 0.25) == pytest.approx(min(2 * bound, 1))


# --- guards -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(theorem_bound, 1.0, 1.0), "epsilon is out of range: got 1.0"),
        (partial(theorem_bound, "wide", 1.0), "epsilon is not a number"),
        (partial(theorem_bound, 0.1, -1.0), "odds W"),
        (partial(separation_from_leak, 0.1, 1.0), "out of range"),
        (partial(leak_from_separation, -0.1, 0.5), "negative"),
        (partial(log_concave_tv_lower, 1.0, 0.0, 0.0), "m is out of range"),
        (partial(log_concave_tv_lower, -1.0, 0.0, 1.0), "distance is negative"),
        (partial(wasserstein_upper, 0.0), "Wasserstein distance is needed"),
        (partial(wasserstein_upper, 0.0, w2=-1.0), "negative"),
        (partial(translate_upper, [1.0, 2.0], 0.0, probs=[0.5, 0.6]), "not a law"),
        (partial(log_concave_times, None, 1.0, 1.0, 2, 0.1), "W2 or W1"),
        (partial(log_concave_times, 1.0, 1.0, -1.0, 2, 0.1), "m or K"),
        (partial(log_concave_times, 1.0, 1.0, 1.0, 2, 0.0), "epsilon is out of range"),
        (partial(learned_score_bound, 1.0, 0.0), "weight of S"),
        (partial(learned_score_bound, [1.0, 2.0], 1.0, t=[2.0, 1.0]), "times must increase"),
        (partial(certificate, FOUR, init="2", target=["0", "1"], logsnr=[0.0]), "not inside"),
        (partial(certificate, FOUR, init=[], target="0", logsnr=[0.0]), "empty set"),
    ],
)
def test_bad_calls_are_refused(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_a_random_line_is_what_it_says() -> None:
    m = random_line(numpy_stream(0, "line"), 5)
    assert (m.dim, m.num_components) == (1, 5)
