"""Overlaps of two Gaussians against closed forms that share no code with the inversion."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy import stats

from critwin.streams import numpy_stream
from critwin.theory import _gaussian_tv
from critwin.theory._gaussian_tv import (
    Pairs,
    equal_covariance_overlap,
    log_affinity,
    overlap,
    scalar_overlap,
)
from critwin.theory._quadrature import integrate_products

ZERO = np.zeros(1)
MARKS = np.array([-9.0, -6.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 6.0, 9.0])


def one(ratio: object, offset: object, count: object = None) -> Pairs:
    """A single pair."""
    ratio = np.atleast_1d(np.asarray(ratio, dtype=float))
    counts = np.ones(len(ratio)) if count is None else np.atleast_1d(np.asarray(count, float))
    return Pairs(ratio[None], np.atleast_1d(np.asarray(offset, float))[None] ** 2, counts)


def isotropic(dim: int, var: float, distance: float, odds: float = 1.0) -> tuple[float, float]:
    """``∫ min(P, odds Q)`` for ``P = N(c, var I)``, ``Q = N(0, I)``: by noncentral chi-square.

    ``P < odds Q`` is a ball or the outside of one, so both masses are noncentral chi-square.
    """
    # ln P - ln Q = -|y - c|^2/(2 var) + |y|^2/2 - D/2 ln var = A |y - y_0|^2 / 2 + const
    a = 1.0 - 1.0 / var
    centre = -distance / var / a  # along c
    const = -0.5 * distance**2 / var - 0.5 * a * centre**2 - 0.5 * dim * np.log(var)
    radius = 2.0 * (np.log(odds) - const) / a  # squared
    if radius <= 0:
        return (odds if a > 0 else 1.0), radius
    under_p = stats.ncx2.cdf(radius / var, dim, (distance - centre) ** 2 / var)
    under_q = stats.ncx2.cdf(radius, dim, centre**2)
    return (
        (under_p + odds * (1.0 - under_q)) if a > 0 else (1.0 - under_p + odds * under_q)
    ), radius


def random_scalars(num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = numpy_stream(0, "scalars")
    ratio = np.exp(rng.normal(size=num) * rng.choice([1e-6, 0.1, 1, 5, 10], num))
    square = np.exp(rng.normal(size=num) * rng.choice([0.1, 1, 4, 8], num)) * np.sqrt(ratio)
    log_a = rng.normal(size=num) * rng.choice([0, 1, 5], num)
    return ratio, square, log_a, rng.normal(size=num)


def test_roots_and_inversion_agree_in_one_dimension() -> None:
    ratio, square, log_a, log_b = random_scalars(300)
    by_roots = scalar_overlap(ratio, np.sqrt(square), log_a, log_b)
    pairs = Pairs(ratio[:, None], square[:, None], np.ones(1))
    by_contour = _gaussian_tv._inverted(pairs, log_a, log_b)
    scale = np.exp(np.maximum(log_a, log_b))
    assert np.max(np.abs(by_contour - by_roots) / scale) < 1e-11
    wrong = scalar_overlap(ratio, np.sqrt(square), log_a + 1e-3, log_b)  # the check can fail
    assert np.max(np.abs(by_contour - wrong) / scale) > 1e-5


def test_roots_agree_with_mpmath() -> None:
    ratio, square, log_a, log_b = random_scalars(3)
    values = scalar_overlap(ratio, np.sqrt(square), log_a, log_b)
    for v, d, la, lb, actual in zip(ratio, np.sqrt(square), log_a, log_b, values, strict=True):
        marks = sorted({float(m) for m in np.concatenate([MARKS, d + np.sqrt(v) * MARKS])})
        cuts = np.real(
            np.roots([0.5 - 0.5 / v, d / v, -0.5 * d * d / v - 0.5 * np.log(v) + la - lb])
        )

        def low(y: mpmath.mpf, v=v, d=d, la=la, lb=lb) -> mpmath.mpf:  # noqa: ANN001
            return min(
                mpmath.exp(la) * mpmath.npdf(y, d, mpmath.sqrt(v)), mpmath.exp(lb) * mpmath.npdf(y)
            )

        edges = sorted({*marks, *(c for c in cuts.tolist() if marks[0] < c < marks[-1])})
        expected = mpmath.quad(low, edges)
        assert actual == pytest.approx(float(expected), abs=1e-12, rel=1e-9)


@pytest.mark.parametrize("dim", [2, 3, 8, 40, 200])
@pytest.mark.parametrize(("var", "distance"), [(1.3, 0.0), (0.6, 1.5), (9.0, 4.0), (1.02, 0.7)])
@pytest.mark.parametrize("odds", [1.0, 0.2])
def test_isotropic_pairs_agree_with_noncentral_chi_square(
    dim: int, var: float, distance: float, odds: float
) -> None:
    expected, _ = isotropic(dim, var, distance, odds)
    grouped = one(var, distance, dim)
    spread = one(np.full(dim, var), np.full(dim, distance / np.sqrt(dim)))
    for pairs in (grouped, spread):
        actual = overlap(pairs, ZERO, np.log([odds]))[0]
        # SciPy's noncentral chi-square is good to about 1e-12
        assert actual == pytest.approx(expected, abs=2e-11)


def test_two_dimensions_agree_with_conditional_quadrature() -> None:
    """Given the second coordinate the pair is scalar with other weights: closed form inside."""
    rng = numpy_stream(0, "planes")
    for _ in range(25):
        ratio = np.exp(rng.normal(size=2) * rng.choice([1e-5, 1e-3, 0.3, 2.0, 4.0]))
        offset = rng.normal(size=2) * rng.choice([0, 1e-3, 1.0, 3.0])
        log_a = float(rng.normal() * rng.choice([0, 1, 4]))

        def inner(y: np.ndarray, _: object, r=ratio, d=offset, la=log_a) -> tuple:  # noqa: ANN001
            log_p = -0.5 * (y - d[1]) ** 2 / r[1] - 0.5 * np.log(2 * np.pi * r[1]) + la
            log_q = -0.5 * y**2 - 0.5 * np.log(2 * np.pi)
            shape = np.full(y.size, 1.0)
            value = scalar_overlap(r[0] * shape, d[0] * shape, log_p.ravel(), log_q.ravel())
            return value.reshape(*y.shape, 1), np.ones((*y.shape, 1))

        marks = np.unique(np.concatenate([MARKS, offset[1] + np.sqrt(ratio[1]) * MARKS]))
        expected = integrate_products(inner, [marks], (1, 1))[0, 0, 0]
        actual = overlap(one(ratio, offset), np.array([log_a]), ZERO)[0]
        # the inner function has a kink where the quadratic loses its roots
        assert actual == pytest.approx(expected, abs=3e-9 * max(1.0, np.exp(log_a)))


def test_many_dimensions_agree_with_monte_carlo() -> None:
    rng = numpy_stream(0, "many dimensions")
    num = 20_000
    for dim, spread in ((12, 0.5), (100, 0.1)):
        ratio = np.exp(spread * rng.normal(size=dim))
        offset = rng.normal(size=dim) * 0.05
        tv = 1 - overlap(one(ratio, offset), ZERO, ZERO)[0]
        z = rng.normal(size=(num, dim))

        def llr(y: np.ndarray, r=ratio, d=offset) -> np.ndarray:  # noqa: ANN001
            return 0.5 * (y**2 - (y - d) ** 2 / r - np.log(r)).sum(axis=1)

        p, q = (llr(offset + np.sqrt(ratio) * z) > 0).mean(), (llr(z) > 0).mean()
        stderr = np.sqrt((p * (1 - p) + q * (1 - q)) / num)
        assert abs(p - q - tv) < 4 * stderr
        assert abs(p - q - 1.1 * tv) > 4 * stderr  # the check can fail


def contour_pairs(num: int) -> tuple[Pairs, np.ndarray, np.ndarray]:
    """Pairs of every kind: nearly equal covariances and means, pulls that fight each other."""
    rng = numpy_stream(0, "contours")
    size = rng.choice([1e-9, 1e-6, 1e-4, 1e-2, 0.3, 1, 3], num)[:, None]
    ratio = np.exp(rng.normal(size=(num, 4)) * size)
    push = rng.choice([0, 1, 30], (num, 1)) * np.abs(
        ratio - 1.0
    )  # so that the drift is of order 1
    square = rng.chisquare(1, size=(num, 4)) * np.where(rng.random((num, 1)) < 0.6, push, 1.0)
    log_a, log_b = rng.normal(size=(2, num)) * rng.choice([0, 0.1, 1, 4], num)
    return Pairs(ratio, square, np.array([1.0, 2.0, 1.0, 3.0])), log_a, log_b


def test_the_contour_may_be_any_contour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cauchy: the tilt, and whether there is one, change nothing."""
    pairs, log_a, log_b = contour_pairs(120)
    first = overlap(pairs, log_a, log_b)
    scale = np.exp(np.maximum(log_a, log_b))
    monkeypatch.setattr(_gaussian_tv, "_TILT", 0.3)
    assert np.max(np.abs(overlap(pairs, log_a, log_b) - first) / scale) < 2e-11
    few = np.arange(0, 120, 4)
    monkeypatch.setattr(
        _gaussian_tv,
        "_bend",
        lambda p, *_: (np.full(len(p.ratio), np.inf), np.zeros(len(p.ratio))),
    )
    upright = overlap(pairs.take(few), log_a[few], log_b[few])
    assert np.max(np.abs(upright - first[few]) / scale[few]) < 2e-10


def test_most_contours_tilt() -> None:
    pairs, log_a, log_b = contour_pairs(60)
    centre, width, _ = _gaussian_tv._saddle(pairs, log_a, log_b)
    marks = width[:, None] * 3.0 ** np.arange(24)
    path = _gaussian_tv._Path(pairs, log_a, log_b, centre, np.full(60, np.inf))
    size = path.sizes(marks, np.arange(60))
    bend, end = _gaussian_tv._bend(pairs, log_a - log_b, centre, marks, size)
    other, _ = _gaussian_tv._bend(
        pairs.swapped(np.ones(60, dtype=bool)), log_b - log_a, centre[::-1], marks, size
    )
    assert np.mean(np.isfinite(np.minimum(bend, other))) > 0.7
    # where it tilts the integrand only falls, up to its end
    for k in np.flatnonzero(np.isfinite(bend)):
        one_pair = pairs.take(np.array([k]))
        own = marks[[k], : end[k] + 1]  # the marks that are used
        after = _gaussian_tv._Path(
            one_pair, log_a[[k]], log_b[[k]], centre[:, [k]], bend[[k]]
        ).sizes(own, np.array([0]))[own >= bend[k]]
        assert np.all(np.diff(after) <= 1e-12 * after[:-1])


def test_exchanging_the_two_laws_changes_nothing() -> None:
    rng = numpy_stream(0, "exchange")
    ratio = np.exp(rng.normal(size=(20, 3)))
    pairs = Pairs(ratio, rng.chisquare(1, size=(20, 3)), np.ones(3))
    log_a, log_b = rng.normal(size=(2, 20))
    other = overlap(pairs.swapped(np.ones(20, dtype=bool)), log_b, log_a)
    np.testing.assert_allclose(overlap(pairs, log_a, log_b), other, atol=1e-13)


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-11, 1e-13, 0.0])
def test_nearly_equal_covariances(gap: float) -> None:
    """The limit is the closed form, and the way there is linear."""
    ratio, offset = np.array([1 + gap, 1 - gap, 1.0]), np.array([0.3, 1.1, 0.4])
    k = np.array([0.5 * np.sqrt((offset**2).sum())])
    expected = equal_covariance_overlap(k, ZERO, ZERO)[0]
    actual = overlap(one(ratio, offset), ZERO, ZERO)[0]
    assert abs(actual - expected) <= gap + 1e-14


@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-9])
def test_nearly_equal_laws(size: float) -> None:
    """Tiny differences of mean and covariance: TV is of their size, not of the rounding."""
    tv = 1 - overlap(one([1 + size, 1 - size], [size, 0.0]), ZERO, ZERO)[0]
    assert 0 <= tv <= 2 * size
    assert tv >= 0.3 * size or size < 1e-8


def test_far_apart_is_one_to_rounding() -> None:
    for pairs in (one([2.0, 0.5], [300.0, 0.0]), one([1e9, 1.0, 3.0], [0.0, 200.0, 1.0])):
        assert overlap(pairs, ZERO, ZERO)[0] == 0.0
    very_unequal = overlap(one([1e8, 1e-8], [0.0, 0.0]), ZERO, ZERO)[0]
    assert 0 < very_unequal < 1e-3


def test_small_overlaps_keep_their_digits() -> None:
    """Relative, not absolute, agreement far out in the tails (SciPy's tails are exact there)."""
    for dim, var in ((2, 1e-4), (8, 9.0), (60, 4.0), (200, 2.0)):
        radius = dim * np.log(var) / (1 - 1 / var)
        inside = stats.chi2.cdf(radius / var, dim), stats.chi2.cdf(radius, dim)
        outside = stats.chi2.sf(radius / var, dim), stats.chi2.sf(radius, dim)
        expected = inside[0] + outside[1] if var > 1 else outside[0] + inside[1]
        actual = overlap(one(var, 0.0, dim), ZERO, ZERO)[0]
        assert actual == pytest.approx(expected, rel=1e-9)


def test_equal_laws_and_very_unequal_weights() -> None:
    same = one([1.0, 1.0], [0.0, 0.0])
    assert overlap(same, ZERO, np.log([0.25]))[0] == pytest.approx(0.25, abs=1e-16)
    pair = one([2.0, 0.7], [1.0, 0.5])
    assert overlap(pair, ZERO, np.array([-30.0]))[0] == pytest.approx(np.exp(-30), rel=1e-2)
    assert overlap(pair, ZERO, np.array([30.0]))[0] == pytest.approx(1.0, abs=1e-4)


def test_affinity_bounds_the_overlap() -> None:
    """``1 - TV <= BC`` and ``TV <= sqrt(1 - BC^2)`` (Le Cam), for pairs of every kind."""
    rng = numpy_stream(0, "le cam")
    ratio = np.exp(rng.normal(size=(60, 3)) * rng.choice([1e-4, 0.3, 2], 60)[:, None])
    pairs = Pairs(ratio, rng.chisquare(1, size=(60, 3)), np.ones(3))
    tv = 1 - overlap(pairs, np.zeros(60), np.zeros(60))
    affinity = np.exp(log_affinity(pairs))
    assert np.all(1 - tv <= affinity + 1e-12)
    assert np.all(tv <= np.sqrt(1 - affinity**2) + 1e-12)
