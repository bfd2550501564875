"""Distances of components and of sets of components: numbers, identities, independent methods."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import linalg, stats

from critwin.errors import InputError
from critwin.levels import alpha_sigma, logsnr_of_ou_time
from critwin.quantities import leak
from critwin.streams import numpy_stream
from critwin.theory import _brackets, _submixtures
from critwin.theory._gaussian_tv import scalar_overlap
from critwin.theory._pairs import Noised
from critwin.theory._sides import split
from critwin.theory._signed_laws import line_tv, radial_tv
from critwin.theory.distances import (
    DistanceCurve,
    affinity,
    kl_divergence,
    pairwise_tv,
    total_variation,
    wasserstein2,
)
from critwin.theory.exact import exact_transitions
from critwin.theory.mixtures import (
    GaussianMixture,
    covariance_matrices,
    noised_log_density,
    submixture,
)
from mixture_cases import FOUR, STRUCTURES, random_mixture, rotated

TWO_SPREADS = GaussianMixture(means=[0.0, 1.0], covariances=[1.0, 4.0])
SMALL = {"num_samples": 1 << 12}


def at(*times: float) -> np.ndarray:
    """Logsnr of OU times."""
    return np.asarray(logsnr_of_ou_time(np.array(times, dtype=float)))


def by_quadrature(m: GaussianMixture, a: list[str], b: list[str], logsnr: float) -> float:
    """One-dimensional truth: a fine trapezoidal rule of ``|p - q| / 2``."""
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    sd = np.sqrt(alpha**2 * m.eigenvalues.numpy()[:, 0] + sigma**2)
    mean = alpha * m.means.numpy()[:, 0]
    y = np.linspace((mean - 9 * sd).min(), (mean + 9 * sd).max(), 100_001)
    p, q = (
        noised_log_density(
            submixture(m, s), torch.from_numpy(y)[:, None], alpha=alpha, sigma=sigma
        )
        for s in (a, b)
    )
    return float(0.5 * np.trapezoid(np.abs(np.exp(p.numpy()) - np.exp(q.numpy())), y))


# --- numbers known beforehand -------------------------------------------------------------


def test_two_gaussians_of_unequal_spread() -> None:
    levels = at(0, 0.5, 1)
    expected = [0.390065660121056, 0.249209263309941, 0.149779379227005]
    np.testing.assert_allclose(pairwise_tv(TWO_SPREADS, levels)[:, 0, 1], expected, atol=1e-15)
    expected = [0.85080546215264, 0.938540029996817, 0.978940483808845]
    np.testing.assert_allclose(affinity(TWO_SPREADS, levels)[:, 0, 1], expected, atol=1e-14)


@pytest.mark.parametrize(
    ("a", "b", "printed", "expected"),  # expected: distribution functions at roots, mpmath
    [
        (["0"], ["1"], 0.347726641796, 0.3477266418081273),
        (["0"], ["0", "1"], 0.149025703627, 0.1490257036320546),
        (["0", "1"], ["2", "3"], 0.830644980250, 0.8306449802808998),
    ],
)
def test_four_components_on_a_line(
    a: list[str], b: list[str], printed: float, expected: float
) -> None:
    curve = total_variation(FOUR, a, b, at(1.5))
    assert curve.is_exact
    assert curve.estimate[0] == pytest.approx(expected, abs=2e-15)
    # the printed ones came from a quadrature of kinked integrands, good to about 1e-10
    assert curve.estimate[0] == pytest.approx(printed, abs=1e-10)
    assert curve.t[0] == pytest.approx(1.5)
    assert curve.stderr[0] == 0


def test_equal_covariances_have_a_closed_form() -> None:
    for kind in ("isotropic", "diagonal", "full"):
        m = random_mixture(kind, is_shared=True, num=3, dim=4)
        levels = at(0, 0.3, 2)
        alpha, sigma = alpha_sigma(levels)
        cov, means = covariance_matrices(m).numpy()[0], m.means.numpy()
        for level, (a, s) in enumerate(zip(alpha, sigma, strict=True)):
            noised = a**2 * cov + s**2 * np.eye(4)
            gap = means[0] - means[2]
            k = 0.5 * a * np.sqrt(gap @ np.linalg.solve(noised, gap))
            actual = pairwise_tv(m, levels)[level, 0, 2]
            assert actual == pytest.approx(2 * stats.norm.cdf(k) - 1, abs=1e-13)


# --- pairs: structure, identities, independent methods --------------------------------------


@pytest.mark.parametrize(("kind", "is_shared"), STRUCTURES)
def test_rotations_change_no_distance(kind: str, is_shared: bool) -> None:
    m = random_mixture(kind, is_shared=is_shared, num=3, dim=4)
    full, _ = rotated(m)
    levels = at(0, 0.4, 1.5)
    for distance in (pairwise_tv, affinity, kl_divergence, wasserstein2):
        one, two = distance(m, levels), distance(full, levels)
        np.testing.assert_allclose(one, two, atol=2e-7 if distance is wasserstein2 else 1e-10)
        if distance is not kl_divergence:
            np.testing.assert_allclose(one, one.transpose(0, 2, 1), atol=1e-12)


def test_pairs_in_many_dimensions_agree_with_monte_carlo() -> None:
    m = random_mixture("full", is_shared=False, num=2, dim=20)
    levels = at(0.3, 1.2)
    tv = pairwise_tv(m, levels)[:, 0, 1]
    rng = numpy_stream(0, "pairs")
    for level, logsnr in enumerate(levels):
        alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
        cov = alpha**2 * covariance_matrices(m).numpy() + sigma**2 * np.eye(20)
        share = []
        for k in (0, 1):
            x = rng.multivariate_normal(alpha * m.means.numpy()[k], cov[k], size=20_000)
            p, q = (
                stats.multivariate_normal.logpdf(x, alpha * m.means.numpy()[j], cov[j])
                for j in (0, 1)
            )
            share.append(float((p > q).mean()))
        stderr = np.sqrt(sum(s * (1 - s) for s in share) / 20_000)
        assert abs(share[0] - share[1] - tv[level]) < 4 * stderr + 1e-6


def test_divergences_agree_with_their_definitions() -> None:
    m = random_mixture("full", is_shared=False, num=2, dim=3)
    logsnr = at(0.6)
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr[0]))
    cov = alpha**2 * covariance_matrices(m) + sigma**2 * torch.eye(3, dtype=torch.float64)
    p, q = (torch.distributions.MultivariateNormal(alpha * m.means[k], cov[k]) for k in (0, 1))
    actual = kl_divergence(m, logsnr)[0]
    assert actual[0, 1] == pytest.approx(float(torch.distributions.kl_divergence(p, q)), rel=1e-12)
    assert actual[1, 0] == pytest.approx(float(torch.distributions.kl_divergence(q, p)), rel=1e-12)
    root = linalg.sqrtm(cov[0].numpy())
    cross = linalg.sqrtm(root @ cov[1].numpy() @ root)
    gap = alpha * (m.means[0] - m.means[1]).numpy()
    square = gap @ gap + np.trace(cov[0].numpy() + cov[1].numpy() - 2 * np.real(cross))
    assert wasserstein2(m, logsnr)[0, 0, 1] == pytest.approx(np.sqrt(square), rel=1e-10)


@pytest.mark.parametrize(("kind", "is_shared"), STRUCTURES)
def test_pairs_obey_pinsker_le_cam_and_the_triangle(kind: str, is_shared: bool) -> None:
    m = random_mixture(kind, is_shared=is_shared, num=4, dim=3)
    levels = at(0.01, 0.3, 1, 2.5)
    tv, bc, kl = (f(m, levels) for f in (pairwise_tv, affinity, kl_divergence))
    assert np.all(tv <= np.sqrt(kl / 2) + 1e-9)
    assert np.all(1 - tv <= bc + 1e-9)
    assert np.all(tv <= np.sqrt(np.maximum(1 - bc**2, 0)) + 1e-7)
    for i, j, k in itertools.permutations(range(4), 3):
        assert np.all(tv[:, i, k] <= tv[:, i, j] + tv[:, j, k] + 1e-9)
    assert np.all(np.diff(tv, axis=0) <= 1e-9)  # noise never separates


# --- sets -----------------------------------------------------------------------------------


def test_sets_on_a_line_agree_with_a_fine_grid() -> None:
    rng = numpy_stream(0, "line sets")
    m = GaussianMixture(
        weights=rng.dirichlet(np.ones(5)),
        means=4 * rng.normal(size=5),
        covariances=rng.uniform(0.1, 3, 5),
    )
    for a, b in (
        (["0", "3"], ["1", "2", "4"]),
        (["0"], ["0", "1", "2"]),
        (["0", "1"], ["1", "4"]),
    ):
        for t in (0.05, 1.0):
            exact = total_variation(m, a, b, at(t)).estimate[0]
            assert exact == pytest.approx(by_quadrature(m, a, b, at(t)[0]), abs=1e-8)


@pytest.mark.parametrize(("kind", "is_shared"), STRUCTURES)
def test_what_both_sets_share_cancels(kind: str, is_shared: bool) -> None:
    """``TV(p^A, p^B) = (1 - w(A)/w(B)) TV(p^A, p^{B without A})`` for A inside B."""
    m = random_mixture(kind, is_shared=is_shared, num=4, dim=3)
    w = m.weights.numpy()
    levels = at(0.2, 1)
    nested = total_variation(m, "0", ["0", "1", "2"], levels, **SMALL)
    apart = total_variation(m, "0", ["1", "2"], levels, **SMALL)
    factor = 1 - w[0] / w[:3].sum()
    for field in ("lower", "estimate", "upper", "stderr"):
        np.testing.assert_allclose(
            getattr(nested, field), factor * getattr(apart, field), atol=1e-12
        )
    assert "cancels" in nested.lower_how


def test_equal_sets_and_equal_laws_are_at_distance_zero() -> None:
    for a, b in ((["0", "1"], ["1", "0"]), (list(FOUR.names), FOUR.names)):
        curve = total_variation(FOUR, a, b, at(0.1, 2))
        assert curve.is_exact
        assert np.all(curve.estimate == 0)
    m = GaussianMixture(
        weights=[0.2, 0.3, 0.5], means=[[0, 1], [0, 1], [2, 2.0]], covariances=[1.0, 1.0, 2.0]
    )
    curve = total_variation(m, "0", "1", at(0.1))
    assert np.all(curve.upper == 0)
    assert "same law" in curve.lower_how
    merged = total_variation(m, ["0", "1"], "2", at(0.1))
    assert merged.is_exact  # two equal components are one, so this is a pair
    np.testing.assert_allclose(merged.estimate, pairwise_tv(m, at(0.1))[:, 0, 2], atol=1e-12)


@pytest.mark.parametrize(("kind", "is_shared"), STRUCTURES)
def test_brackets_hold_the_estimate(kind: str, is_shared: bool) -> None:
    """The unclipped estimate may leave its certified bracket by its own error only."""
    m = random_mixture(kind, is_shared=is_shared, num=4, dim=3)
    levels = at(0, 0.5, 1.5, 3)
    noised = Noised(m, levels)
    for a, b in (([0], [1, 2]), ([0, 1], [2, 3])):
        sides = split(m, a, b)
        bounds = _submixtures.bracket(noised, sides)
        value, stderr, _ = _submixtures.sampled(noised, sides, 1 << 12, 0)
        rare = 1 / (1 << 12)  # what is rarer than the points may be missed, stderr and all
        assert np.all(value > bounds.lower - 4 * stderr - rare)
        assert np.all(value < bounds.upper + 4 * stderr + rare)
        assert np.all(bounds.lower <= bounds.upper)
        assert np.all(bounds.upper - bounds.lower < 0.35)


def test_brackets_hold_the_truth_on_a_line() -> None:
    """Mixtures whose distance is a quadrature, bracketed as if it were not."""
    rng = numpy_stream(0, "brackets")
    widths = []
    for _ in range(15):
        num = int(rng.integers(3, 6))
        m = GaussianMixture(
            weights=rng.dirichlet(np.ones(num)),
            means=3 * rng.normal(size=num),
            covariances=rng.uniform(0.05, 3, num),
        )
        cut = int(rng.integers(1, num))
        noised = Noised(m, at(0.02, 0.5, 1.2, 2.5))
        sides = split(m, list(range(cut)), list(range(cut, num)))
        exact = _submixtures.exact(noised, sides)
        assert exact is not None
        n, other = len(sides.left), len(sides.right)
        first, second = np.repeat(sides.left, other), np.tile(sides.right, n)
        a, b = np.repeat(sides.a, other), np.tile(sides.b, n)
        log_odds = np.log(b / a)
        shared = a * noised.overlaps(first.tolist(), second.tolist(), log_odds)
        pairs = noised.overlaps(first.tolist(), second.tolist(), np.zeros(len(first)))
        tv = (1 - np.minimum(pairs, 1)).reshape(-1, n, other)
        low = 1 - shared.sum(axis=1)
        high = _brackets.transport_upper(sides.a, sides.b, tv)
        assert np.all(low <= exact[0] + 1e-9)
        assert np.all(exact[0] <= high + 1e-9)
        # overlaps beat affinities and the bound that knows pairs alone
        by_affinity = 1 - (
            np.sqrt(a * b) * np.exp(noised.log_affinities(first.tolist(), second.tolist()))
        ).sum(axis=1)
        assert np.all(low >= by_affinity - 1e-9)
        assert np.all(low.clip(0) >= _brackets.lower_from_pairs(sides.a, sides.b, tv) - 1e-9)
        wrong = 1 - 0.5 * shared.sum(axis=1)  # a wrong constant must show
        widths.append((high - low.clip(0), np.any(wrong > exact[0] + 1e-9)))
    assert np.mean([bug for _, bug in widths]) > 0.9
    assert np.median(np.concatenate([w for w, _ in widths])) < 0.3


def test_distances_in_a_plane_agree_with_a_grid() -> None:
    """Two dimensions, unequal full covariances, by a trapezoidal rule in the plane."""
    m = random_mixture("full", is_shared=False, num=4, dim=2)
    logsnr = at(0.4)
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr[0]))
    axis = np.linspace(-9, 9, 361)
    points = torch.from_numpy(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2))
    p, q = (
        np.exp(noised_log_density(submixture(m, s), points, alpha=alpha, sigma=sigma).numpy())
        for s in (["0", "1"], ["2", "3"])
    )
    expected = 0.5 * np.abs(p - q).sum() * (axis[1] - axis[0]) ** 2
    curve = total_variation(m, ["0", "1"], ["2", "3"], logsnr)
    assert abs(curve.estimate[0] - expected) < 4 * curve.stderr[0] + 1e-5
    assert curve.lower[0] - 1e-5 <= expected <= curve.upper[0] + 1e-5
    assert curve.stderr[0] < 1e-3
    pair = np.exp(noised_log_density(submixture(m, "0"), points, alpha=alpha, sigma=sigma).numpy())
    other = np.exp(
        noised_log_density(submixture(m, "2"), points, alpha=alpha, sigma=sigma).numpy()
    )
    grid_tv = 0.5 * np.abs(pair - other).sum() * (axis[1] - axis[0]) ** 2
    assert pairwise_tv(m, logsnr)[0, 0, 2] == pytest.approx(grid_tv, abs=2e-5)


def test_equal_means_by_the_radius() -> None:
    m = GaussianMixture(
        weights=[0.2, 0.5, 0.3], means=np.zeros((3, 8)), covariances=[0.5, 1.0, 9.0]
    )
    levels = at(0.1, 1)
    curve = total_variation(m, ["0", "2"], "1", levels)
    assert curve.is_exact
    noised, sides = Noised(m, levels), split(m, [0, 2], [1])
    value, stderr, _ = _submixtures.sampled(noised, sides, 1 << 14, 0)
    assert np.all(np.abs(value - curve.estimate) < 4 * stderr)
    # a pair by the radius is the pair by inversion
    pair = total_variation(m, "0", "2", levels)
    var = np.concatenate([noised.variances(k) for k in (0, 2)], axis=1)
    np.testing.assert_allclose(radial_tv(8, var, np.array([1.0, -1.0])), pair.estimate, atol=1e-11)


def test_a_pair_on_a_line_is_the_closed_form() -> None:
    value = line_tv(np.array([[0.0, 2.0]]), np.ones((1, 2)), np.array([1.0, -1.0]))
    assert value[0] == pytest.approx(2 * stats.norm.cdf(1) - 1, abs=1e-13)
    rng = numpy_stream(0, "pairs on a line")
    mean, sd = 5 * rng.normal(size=(200, 2)), np.exp(rng.normal(size=(200, 2)))
    ratio, offset = (sd[:, 0] / sd[:, 1]) ** 2, (mean[:, 0] - mean[:, 1]) / sd[:, 1]
    expected = 1 - scalar_overlap(ratio, offset, np.zeros(200), np.zeros(200))
    np.testing.assert_allclose(line_tv(mean, sd, np.array([1.0, -1.0])), expected, atol=1e-14)


def test_leak_brackets_the_separation() -> None:
    """``1 - leak/(1-w(S)) <= TV(p^S, p^rest) <= 1 - leak/max(1, W)``."""
    rng = numpy_stream(0, "leak")
    for _ in range(8):
        num = int(rng.integers(2, 5))
        m = GaussianMixture(
            weights=rng.dirichlet(np.ones(num)),
            means=3 * rng.normal(size=num),
            covariances=rng.uniform(0.05, 3, num),
        )
        levels, inside = at(0.1, 0.7, 1.5), [m.names[0]]
        w = float(m.weights[0])
        lost = leak(exact_transitions(m, levels), inside)
        tv = total_variation(m, inside, list(m.names[1:]), levels).estimate
        assert np.all(1 - lost / (1 - w) <= tv + 1e-10)
        assert np.all(tv <= 1 - lost / max(1.0, (1 - w) / w) + 1e-10)


def test_transport_finds_the_cheapest_coupling() -> None:
    rng = numpy_stream(0, "transport")
    for _ in range(10):
        a, b = rng.dirichlet(np.ones(2), size=2)
        cost = rng.random((2, 2))
        # couplings of two by two have one free number, and the optimum is at an end
        ends = [max(0.0, a[0] - b[1]), min(a[0], b[0])]
        plans = [np.array([[x, a[0] - x], [b[0] - x, a[1] - b[0] + x]]) for x in ends]
        expected = min((plan * cost).sum() for plan in plans)
        assert _brackets.transport(a, b, cost) == pytest.approx(expected, abs=1e-12)
    repaired = _brackets._repaired(rng.random((3, 4)), np.full(3, 1 / 3), np.full(4, 0.25))
    np.testing.assert_allclose(repaired.sum(axis=1), 1 / 3)
    np.testing.assert_allclose(repaired.sum(axis=0), 0.25)


def test_points_are_told_apart_without_noise() -> None:
    m = GaussianMixture(means=[[0.0, 0], [1, 0], [0, 2]], covariances=0.0)
    curve = total_variation(m, "0", ["1", "2"], np.array([np.inf, 0.0, -np.inf]), **SMALL)
    assert curve.lower[0] == pytest.approx(1.0)
    assert curve.upper[2] == pytest.approx(0.0, abs=1e-6)


def test_a_bracket_alone_samples_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_submixtures, "sampled", None)
    m = random_mixture("full", is_shared=False, num=3, dim=3)
    curve = total_variation(m, "0", ["1", "2"], at(0.5), precision="bracket")
    assert curve.estimate_how == "middle of the bracket"
    np.testing.assert_allclose(curve.estimate + curve.stderr, curve.upper)
    assert not curve.is_exact


def test_bounds_that_do_not_apply_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many dimensions for pooled matrices; weights too unequal for the plane's quadrature."""
    m = random_mixture("full", is_shared=False, num=3, dim=3)
    full = total_variation(m, "0", ["1", "2"], at(0.2, 1), precision="bracket")
    monkeypatch.setattr(_submixtures, "_MAX_DENSE", 2)
    less = total_variation(m, "0", ["1", "2"], at(0.2, 1), precision="bracket")
    assert less.lower_how.startswith("overlaps")
    assert np.all(less.lower <= full.lower)
    plane = random_mixture("full", is_shared=True, num=3, dim=3)
    full = total_variation(plane, "0", ["1", "2"], at(0.2, 1), precision="bracket")

    def refused(*_: object, **__: object) -> None:
        raise InputError("the quadrature does not converge")

    monkeypatch.setattr(_submixtures, "exact_transitions", refused)
    less = total_variation(plane, "0", ["1", "2"], at(0.2, 1), precision="bracket")
    assert np.all((less.lower <= full.lower) & (full.upper <= less.upper))


def test_large_mixtures_of_points_use_matrix_products(monkeypatch: pytest.MonkeyPatch) -> None:
    from critwin.theory import _pairs

    m = random_mixture("diagonal", is_shared=True, num=5, dim=7)
    expected = pairwise_tv(m, at(0.1, 1))
    monkeypatch.setattr(_pairs, "_MAX_MEANS", 0)
    np.testing.assert_allclose(pairwise_tv(m, at(0.1, 1)), expected, atol=1e-7)


def test_more_dimensions_than_sobol_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from critwin.theory import _estimating, _scrambles

    m = random_mixture("isotropic", is_shared=True, num=3, dim=4)
    quasi = total_variation(m, "0", ["1", "2"], at(0.5), **SMALL)
    monkeypatch.setattr(_scrambles, "_MAX_SOBOL_DIM", 1)
    _estimating._points.cache_clear()
    plain = total_variation(m, "0", ["1", "2"], at(0.5), **SMALL)
    _estimating._points.cache_clear()
    assert abs(plain.estimate[0] - quasi.estimate[0]) < 4 * np.hypot(plain.stderr, quasi.stderr)[0]


# --- guards -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": []}, "set A is an empty set"),
        ({"b": ()}, "set B is an empty set"),
        ({"a": "nobody"}, "unknown component in set A: got nobody"),
        ({"b": ["1", "1"]}, "set B is named twice"),
        ({"precision": "perfect"}, "unknown precision"),
        ({"logsnr": 0.0}, "not a list of logsnr"),
        ({"num_samples": 8, "b": ["1", "2"]}, "too few samples"),
        ({"mixture": "two"}, "no distances for this kind"),
    ],
)
def test_bad_calls_are_refused(change: dict, message: str) -> None:
    m = random_mixture("full", is_shared=False, num=3, dim=3)
    call = {"mixture": m, "a": "0", "b": "1", "logsnr": at(0.5)} | change
    mixture, a, b, logsnr = (call.pop(key) for key in ("mixture", "a", "b", "logsnr"))
    with pytest.raises(InputError, match=message) as caught:
        total_variation(mixture, a, b, logsnr, **call)
    assert "\n" not in str(caught.value)


def test_pairs_of_an_unknown_kind_are_refused() -> None:
    with pytest.raises(InputError, match="no distances for this kind"):
        pairwise_tv("two", at(1))


def test_a_curve_must_be_a_bracket() -> None:
    how = dict.fromkeys(("lower_how", "estimate_how", "upper_how"), "made up")
    good = dict.fromkeys(("logsnr", "lower", "estimate", "upper", "stderr"), np.array([0.5]))
    assert DistanceCurve(**good, **how).is_exact
    for change in ({"lower": np.array([0.7])}, {"upper": np.array([1.2])}):
        with pytest.raises(InputError, match="not a bracket"):
            DistanceCurve(**{**good, **change}, **how)
    with pytest.raises(InputError, match="outside its bracket"):
        DistanceCurve(**{**good, "upper": np.array([0.9]), "estimate": np.array([0.95])}, **how)
    with pytest.raises(InputError, match="wrong shape"):
        DistanceCurve(**{**good, "stderr": np.zeros(2)}, **how)
