r"""Overlap ``∫ min(a P, b Q)`` of two Gaussians in any dimension, by inversion along a contour.

For positive numbers ``min(x, y) = 1/(2 pi i) ∫ x^z y^(1-z) dz / (z (1-z))`` over any vertical line
``0 < Re z < 1``, hence

``∫ min(a P, b Q) = 1/(2 pi i) ∫ a^z b^(1-z) M(z) dz / (z (1-z))``,  ``M(z) = ∫ P^z Q^(1-z)``,

and ``TV = 1 - ∫ min(P, Q)``. M is the moment generating function of the log-likelihood ratio
under Q. With Q = N(0, I) and P = N(d, diag(lambda)), which one decomposition brings about,

``ln M(z) = sum_j [(1-z)/2 ln lambda_j - 1/2 ln h_j - d_j^2 z (1-z) / (2 h_j)]``,
``h_j = lambda_j (1-z) + z``.

The line passes through the saddle point, where the integrand is largest: nothing cancels, and tiny
overlaps keep their digits. Far up it decays like ``|z|^(-2-r/2)`` only (r: rank of the difference
of the covariances) and oscillates like ``e^{C z}``; there the contour bends to the side where
``e^{C z}`` decays.

Source: Imhof (1961); Rice (1980); derived in docs/theory/distances.md, eqs (4)–(6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import expit, ndtr

from critwin.theory._quadrature import integrate_products

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Complex = NDArray[np.complex128]

__all__ = ["Pairs", "equal_covariance_overlap", "log_affinity", "overlap", "scalar_overlap"]

_TILT = np.pi / 6  # of the bent contour, from the vertical; below pi / 4
_SAME = 1e-13  # |lambda - 1| below which a direction counts as one of equal variance
_NOTHING = -45.0  # logarithm of an overlap that rounds to none
_NUM_PANELS = 40
_REACH = 1e11  # of the contour; what is beyond is below 1 / (pi reach)
_TOLERANCE = 1e-12
_JOIN = 1e-12
_NEGLIGIBLE = 1e-17
_MAX_ELEMENTS = 1 << 20


class Pairs(NamedTuple):
    """M pairs of Gaussians (P, Q), each in the coordinates where ``Q = N(0, I)``."""

    ratio: Array  # (M, n), lambda: variances of P
    square: Array  # (M, n), squared offsets d^2 of the mean of P, summed over equal directions
    copies: Array  # (n,), how many directions each column stands for

    def take(self, rows: NDArray[np.int64]) -> Pairs:
        return Pairs(self.ratio[rows], self.square[rows], self.copies)

    def swapped(self, rows: NDArray[np.bool_]) -> Pairs:
        """The pairs with P and Q exchanged in some rows."""
        flip = rows[:, None]
        return Pairs(
            np.where(flip, 1.0 / self.ratio, self.ratio),
            np.where(flip, self.square / self.ratio, self.square),
            self.copies,
        )


def log_affinity(pairs: Pairs) -> Array:
    """Logarithm of the Hellinger affinity ``∫ sqrt(P Q) = M(1/2)``, shape ``(M,)``."""
    half = np.full((len(pairs.ratio), 1), 0.5 + 0j, dtype=np.complex128)
    return np.asarray(_log_moment(pairs, half, 1.0 - half).real[:, 0])


def equal_covariance_overlap(k: Array, log_a: Array, log_b: Array) -> Array:
    """``∫ min(a P, b Q)`` for equal covariances at separation ``k = |d| / 2``.

    Args:
        k: Half the whitened distance of the means, any shape.
        log_a: Logarithm of a, broadcast with k.
        log_b: Logarithm of b.
    """
    a, b = np.exp(log_a), np.exp(log_b)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = 0.5 * (log_b - log_a) / k
        value = a * ndtr(half - k) + b * ndtr(-half - k)
    return np.asarray(np.where(k > 0, value, np.minimum(a, b)))


def scalar_overlap(ratio: Array, offset: Array, log_a: Array, log_b: Array) -> Array:
    """``∫ min(a P, b Q)`` for ``P = N(offset, ratio)``, ``Q = N(0, 1)`` in one dimension.

    The densities cross at the roots of a quadratic; between them the narrower one is the larger.

    Args:
        ratio: Variances of P, shape ``(M,)``.
        offset: Means of P, shape ``(M,)``.
        log_a: Logarithm of a, shape ``(M,)``.
        log_b: Logarithm of b, shape ``(M,)``.
    """
    is_same = np.abs(ratio - 1.0) < 1e-15
    p_is_wide = ratio > 1.0
    log_narrow, log_wide = np.where(p_is_wide, (log_b, log_a), (log_a, log_b))
    var = np.where(p_is_wide, ratio, 1.0 / ratio)  # of the wide one, in units of the narrow one
    shift = np.abs(np.where(p_is_wide, offset, offset / np.sqrt(ratio)))
    # ln(narrow / wide) = -q y^2 - s y + c, with the narrow one at 0 and the wide one at shift
    q, s = 0.5 * (var - 1.0) / var, shift / var
    c = 0.5 * shift * s + 0.5 * np.log(var) + log_narrow - log_wide
    disc = s * s + 4.0 * q * c
    with np.errstate(divide="ignore", invalid="ignore"):
        big = -0.5 * (s + np.sqrt(np.maximum(disc, 0.0)))  # <= 0: no cancellation
        low, high = big / q, np.where(big < 0, -c / big, 0.0)
        sd = np.sqrt(var)
        inside = _between((low - shift) / sd, (high - shift) / sd)
        crossing = np.exp(log_wide) * inside + np.exp(log_narrow) * (ndtr(low) + ndtr(-high))
    value = np.where(disc > 0, crossing, np.exp(log_narrow))
    return np.where(is_same, equal_covariance_overlap(0.5 * np.abs(offset), log_a, log_b), value)


def overlap(pairs: Pairs, log_a: Array, log_b: Array) -> Array:
    """``∫ min(a P, b Q)`` of M pairs of Gaussians.

    Args:
        pairs: The pairs.
        log_a: Logarithm of a, shape ``(M,)``.
        log_b: Logarithm of b, shape ``(M,)``.

    Returns:
        Shape ``(M,)``, in ``[0, min(a, b)]``; the absolute error is below ``1e-10 max(a, b)``.
    """
    num = len(pairs.ratio)
    log_a, log_b = np.broadcast_to(log_a, (num,)), np.broadcast_to(log_b, (num,))
    result = np.exp(np.minimum(log_a, log_b))
    is_flat = np.abs(pairs.ratio - 1.0) < _SAME
    num_bent = np.where(is_flat, 0.0, pairs.copies).sum(axis=1)
    is_moved = pairs.square > 0
    # columns that say anything at all: two directions of equal variance count as one
    is_equal = num_bent == 0
    if is_equal.any():
        k = 0.5 * np.sqrt(pairs.square[is_equal].sum(axis=1))
        result[is_equal] = equal_covariance_overlap(k, log_a[is_equal], log_b[is_equal])
    lone = ~is_equal & (num_bent == 1) & ~np.any(is_moved & is_flat, axis=1)
    if lone.any():
        rows = np.flatnonzero(lone)
        column = np.argmax(~is_flat[rows], axis=1)
        ratio, square = pairs.ratio[rows, column], pairs.square[rows, column]
        result[rows] = scalar_overlap(ratio, np.sqrt(square), log_a[rows], log_b[rows])
    rows = np.flatnonzero(~is_equal & ~lone)
    if len(rows):
        value = _inverted(pairs.take(rows), log_a[rows], log_b[rows])
        result[rows] = np.clip(value, 0.0, result[rows])
    return result


def _inverted(pairs: Pairs, log_a: Array, log_b: Array) -> Array:
    """The contour integral of every pair."""
    centre, width, peak = _saddle(pairs, log_a, log_b)
    result = np.zeros(len(peak))
    rows = np.flatnonzero(peak > _NOTHING)
    if len(rows) == 0:
        return result
    pairs, log_a, log_b = pairs.take(rows), log_a[rows], log_b[rows]
    centre, width = centre[:, rows], width[rows]
    ratio = (_REACH / width[:, None]) ** np.linspace(0.0, 1.0, _NUM_PANELS)
    marks = np.concatenate([np.zeros((len(rows), 1)), width[:, None] * ratio], axis=1)
    owner = np.arange(len(rows))
    upright = _Path(pairs, log_a, log_b, centre, np.full(len(rows), np.inf))
    size = upright.sizes(marks, owner)
    # from the last panel that counts on, an upright path needs no more
    last = marks.shape[1] - 1 - np.argmax((size * marks > _NEGLIGIBLE)[:, ::-1], axis=1)
    bends = []
    for side in (False, True):
        flip = np.full(len(rows), side)
        c = centre[::-1] if side else centre
        odds = log_b - log_a if side else log_a - log_b
        bends.append(_bend(pairs.swapped(flip), odds, c, marks, size))
    is_right = bends[1][0] < bends[0][0]
    bend, end = np.where(is_right, bends[1], bends[0])
    is_bent = bend < marks[owner, last]
    bend = np.where(is_bent, bend, np.inf)
    last = np.where(is_bent, end.astype(np.int64), last)
    path = _Path(
        pairs.swapped(is_right),
        np.where(is_right, log_b, log_a),
        np.where(is_right, log_a, log_b),
        np.where(is_right, centre[::-1], centre),
        bend,
    )
    edges = [row[: min(stop + 2, len(row))] for row, stop in zip(marks, last, strict=True)]

    def integrand(u: Array, owner: NDArray[np.int64]) -> tuple[Array, Array]:
        value = path.values(u, owner)[..., None]
        return value, np.ones_like(value)

    result[rows] = integrate_products(integrand, edges, (1, 1), tolerance=_TOLERANCE)[:, 0, 0]
    return result


class _Path:
    """The integrand along ``z(u)``: straight up to ``u = bend``, then tilted to the left."""

    def __init__(
        self, pairs: Pairs, log_a: Array, log_b: Array, centre: Array, bend: Array
    ) -> None:
        self.pairs, self.log_a, self.log_b = pairs, log_a, log_b
        self.centre, self.bend = centre, bend

    def values(self, u: Array, owner: NDArray[np.int64]) -> Array:
        """``1/pi Im(F(z) dz/du)`` at points ``(P, n)``."""
        return np.asarray(self._in_parts(u, owner).imag / np.pi)

    def sizes(self, u: Array, owner: NDArray[np.int64]) -> Array:
        """``|F(z)|`` at points ``(P, n)``."""
        return np.abs(self._in_parts(u, owner))

    def _in_parts(self, u: Array, owner: NDArray[np.int64]) -> Complex:
        result = np.empty(u.shape, dtype=np.complex128)
        step = max(1, _MAX_ELEMENTS // (u.shape[1] * self.pairs.ratio.shape[1]))
        for start in range(0, len(u), step):
            part = slice(start, start + step)
            result[part] = self._values(u[part], owner[part])
        return result

    def _values(self, u: Array, owner: NDArray[np.int64]) -> Complex:
        bend = self.bend[owner][:, None]
        beyond = np.maximum(u - bend, 0.0)
        rise = 1j * np.minimum(u, bend) + beyond * np.exp(1j * (np.pi / 2 + _TILT))
        z = self.centre[0][owner][:, None] + rise
        rest = self.centre[1][owner][:, None] - rise  # 1 - z, without cancellation
        log_f = _log_moment(self.pairs.take(owner), z, rest)
        log_f += z * self.log_a[owner][:, None] + rest * self.log_b[owner][:, None]
        direction = np.where(u > bend, np.exp(1j * (np.pi / 2 + _TILT)), 1j)
        return np.asarray(np.exp(log_f) / (z * rest) * direction)


def _log_moment(pairs: Pairs, z: Complex, rest: Complex) -> Complex:
    """``ln M(z)`` at points ``(P, n)``, row p for pair p; ``rest = 1 - z``."""
    total = np.zeros(z.shape, dtype=np.complex128)
    columns = max(1, _MAX_ELEMENTS // max(z.size, 1))
    for start in range(0, pairs.ratio.shape[1], columns):
        part = slice(start, start + columns)
        ratio, copies = pairs.ratio[:, None, part], pairs.copies[part]
        h = ratio * rest[..., None] + z[..., None]
        total += 0.5 * rest * (np.log(ratio) @ copies)
        total -= 0.5 * (np.log(h) @ copies)
        total -= 0.5 * z * rest * (pairs.square[:, None, part] / h).sum(axis=-1)
    return total


def _saddle(pairs: Pairs, log_a: Array, log_b: Array) -> tuple[Array, Array, Array]:
    """The saddle point (as ``[c, 1 - c]``), its width and the logarithm of the integrand there.

    The logarithm of the integrand is convex on (0, 1), so the sign of its slope brackets the
    saddle; its place needs no more digits than the path.
    """
    low, high = np.full(len(log_a), -60.0), np.full(len(log_a), 60.0)
    spread = 1.0 - pairs.ratio
    base = log_a - log_b - 0.5 * np.log(pairs.ratio) @ pairs.copies
    for _ in range(24):
        x = 0.5 * (low + high)
        c, d = expit(x), expit(-x)
        h = pairs.ratio * d[:, None] + c[:, None]
        slope = base - 0.5 * (spread / h) @ pairs.copies - 1.0 / c + 1.0 / d
        gap = (d - c)[:, None] * h - (c * d)[:, None] * spread
        slope -= 0.5 * (pairs.square * gap / h**2).sum(axis=1)
        low, high = np.where(slope < 0, x, low), np.where(slope < 0, high, x)
    x = 0.5 * (low + high)
    c, d = expit(x), expit(-x)
    h = pairs.ratio * d[:, None] + c[:, None]
    curvature = 0.5 * (spread / h) ** 2 @ pairs.copies + 1.0 / c**2 + 1.0 / d**2
    curvature += (pairs.square * pairs.ratio / h**3).sum(axis=1)
    moment = _log_moment(pairs, c[:, None] + 0j, d[:, None] + 0j).real[:, 0]
    width = 1.0 / np.sqrt(curvature)
    peak = moment + c * log_a + d * log_b - np.log(c) - np.log(d) + np.log(width)
    return np.stack([c, d]), width, peak


def _bend(
    pairs: Pairs, log_odds: Array, centre: Array, marks: Array, size: Array
) -> tuple[Array, Array]:
    """Where the contour may tilt to the left, and the mark at which it may end.

    With ``kappa = 1/lambda - 1``, ``s = 1 + kappa c`` and ``w = |kappa| u / s`` the logarithm of
    a direction's factor changes along the tilted ray, in units of ``sin(tilt)``, at the rate

    ``-beta (1 - A + A g(w))``,  ``beta = d^2 / (2 lambda kappa)``,  ``A = (1 + kappa) / s^2``,

    where ``g(w) >= .98 min(1, w)`` for a narrow direction (``kappa > 0``, it always pulls); for
    a wide one (beta < 0) ``-g`` is above .98 w up to ``w = .2``, so that it pulls too, positive up
    to .5, and at least -1.02 beyond: there it pushes. The tilt is allowed from the mark after
    which the pulls exceed the pushes and the determinants at every mark, up to the height where
    the upright integrand is negligible. What happens further up is no matter: the ends of both
    paths can be joined there.

    Returns:
        The height of the tilt, infinite where it is not allowed, and the index of the last mark.
    """
    kappa = (1.0 - pairs.ratio) / pairs.ratio
    scale = 1.0 + kappa * centre[0][:, None]
    unit = 0.5 * pairs.square / pairs.ratio  # beta kappa
    a = (1.0 + kappa) / scale**2
    offset = unit * (2.0 * centre[0][:, None] - 1.0 + kappa * centre[0][:, None] ** 2) / scale**2
    with np.errstate(divide="ignore", invalid="ignore"):
        push = np.where(unit > 0, unit / np.abs(kappa), 0.0) * 1.02 * a
        limit = 1.0 / np.abs(kappa)
    base = log_odds - 0.5 * np.log(pairs.ratio) @ pairs.copies
    speed = np.empty_like(marks)
    for k in range(marks.shape[1]):
        u = marks[:, k][:, None]
        w = np.abs(kappa) * u / scale
        pull = 0.98 * unit * a * np.minimum(limit, u / scale)
        value = np.where((kappa > 0) | (w < 0.2), pull, np.where(w > 0.5, -push, 0.0))
        with np.errstate(divide="ignore"):
            slope = 0.5 * np.minimum(np.abs(kappa) / np.minimum(scale, 1.0), 1.0 / u)
        speed[:, k] = base + (offset + value).sum(axis=1) - slope @ pairs.copies / np.sin(_TILT)
    # joining the paths at this height costs size / speed; the tilted one, which is lower at the
    # same u, reaches it by the next mark
    is_end = size < _JOIN * np.maximum(speed, 0.0)
    end = np.where(is_end.any(axis=1), np.argmax(is_end, axis=1) + 1, marks.shape[1])
    is_bad = (speed <= 0) & (np.arange(marks.shape[1]) <= end[:, None])
    first = marks.shape[1] - np.argmax(is_bad[:, ::-1], axis=1)
    first = np.where(is_bad.any(axis=1), first, 1)
    is_allowed = (first < end) & (end < marks.shape[1])
    bend = np.take_along_axis(marks, np.minimum(first, marks.shape[1] - 1)[:, None], axis=1)[:, 0]
    return np.where(is_allowed, bend, np.inf), end


def _between(low: Array, high: Array) -> Array:
    """``Phi(high) - Phi(low)``, by the smaller tails."""
    flip = low > 0
    return np.asarray(ndtr(np.where(flip, -low, high)) - ndtr(np.where(flip, -high, low)))
