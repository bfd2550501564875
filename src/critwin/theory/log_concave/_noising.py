r"""One-dimensional densities under noise, and their posteriors, by quadrature.

``q(y) = integral p(x) N(y; alpha x, sigma^2) dx``. In bulk the panels are those of p, cut to the
reach of the kernel: the error is absolute, 1e-13 of the maximum. At single points, where digits
of far tails may matter, panels are built around the mode of the integrand, which is log-concave:
the error is relative.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from critwin.theory.log_concave._legendre import (
    NODES,
    NUM,
    TO_COEFFICIENTS,
    WEIGHTS,
    integral_rows,
    panel_points,
    value_and_primitive,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from critwin.theory.log_concave.densities import Density

    Array = NDArray[np.float64]

__all__ = [
    "Tilted",
    "noised_density",
    "panel_quantile",
    "tilted",
    "tilted_log_mass",
    "tilted_mean",
    "tilted_quantile",
]

_REACH = 8.5  # of the kernel, in its standard deviations: 2e-17 beyond
_PIECE = 3.5  # longest panel that 16 nodes integrate a unit Gaussian over, to rounding
_MAX_COMMON = 48  # panels; more than these are cut point by point
_MAX_ELEMENTS = 1 << 21
_DROP = 41.0
_SPLITS = np.array([0.0, 0.06, 0.15, 0.3, 0.5, 0.75, 1.0])
_CELLS = np.linspace(-1.0, 1.0, 33)
_CELL_INTEGRALS = integral_rows(_CELLS) @ TO_COEFFICIENTS
_NEWTON = 5
_GOLDEN = 0.5 * (math.sqrt(5) - 1)


def noised_density(density: Density, y: Array, alpha: float, sigma: float) -> Array:
    """Density of ``alpha x + sigma z`` at y.

    Args:
        density: Law of x.
        y: Points, shape ``(N,)``.
        alpha: Signal scale, >= 0.
        sigma: Noise standard deviation, >= 0; not both 0.

    Returns:
        Shape ``(N,)``.
    """
    if sigma == 0:
        return np.exp(density.log_density(y / alpha)) / alpha
    if density.noised is not None:
        return np.exp(density.noised(y, alpha, sigma))
    if density.standard is not None:
        base, shift, scale = density.standard
        return noised_density(base, y - alpha * shift, alpha * scale, sigma)
    widths = alpha * np.diff(density.edges) / sigma
    cuts = np.maximum(1, np.ceil(widths / _PIECE)).astype(np.int64)
    result = np.empty(len(y))
    if cuts.sum() <= _MAX_COMMON:
        edges = _subdivided(density.edges, cuts)
        nodes, weights = panel_points(edges)
        x = nodes.ravel()
        mass = weights.ravel() * np.exp(density.log_density(x)) / (sigma * math.sqrt(2 * math.pi))
        step = max(1, _MAX_ELEMENTS // len(x))
        for k in range(0, len(y), step):
            z = (y[k : k + step, None] - alpha * x) / sigma
            result[k : k + step] = np.exp(-0.5 * z * z) @ mass
        return result
    step = max(1, _MAX_ELEMENTS // (12 * NUM))
    for k in range(0, len(y), step):
        result[k : k + step] = _local(density, y[k : k + step], alpha, sigma)
    return result


def _subdivided(edges: Array, cuts: NDArray[np.int64]) -> Array:
    parts = [
        np.linspace(a, b, n + 1)[:-1] for a, b, n in zip(edges[:-1], edges[1:], cuts, strict=True)
    ]
    return np.append(np.concatenate(parts), edges[-1])


def _local(density: Density, y: Array, alpha: float, sigma: float) -> Array:
    """The panels of the density that the kernel reaches, cut into pieces that it allows."""
    spread = sigma / alpha
    middle = y[:, None] / alpha
    pieces = spread * np.linspace(-_REACH, _REACH, 2 + int(2 * _REACH / _PIECE))
    low, high = middle + pieces[0], middle + pieces[-1]
    own = np.clip(middle + pieces, density.edges[0], density.edges[-1])
    edges = np.sort(np.concatenate([np.clip(density.edges, low, high), own], axis=1), axis=1)
    edges = np.clip(edges, density.edges[0], density.edges[-1])
    row, column = np.nonzero(np.diff(edges, axis=1) > 0)
    start, stop = edges[row, column], edges[row, column + 1]
    radius = 0.5 * (stop - start)[:, None]
    x = 0.5 * (stop + start)[:, None] + radius * NODES
    z = (middle[row] - x) / spread
    value = np.exp(density.log_density(x) - 0.5 * z * z) @ WEIGHTS * radius[:, 0]
    return np.bincount(row, value, minlength=len(y)) / (sigma * math.sqrt(2 * math.pi))


class Tilted(NamedTuple):
    """Laws of x given y, one a point, on panels of their own; relative to their maxima."""

    edges: Array  # (N, E + 1), non-decreasing
    values: Array  # (N, E, NUM), exp(g - top) at the nodes
    top: Array  # (N,), maximum of g = ln p(x) + ln N(y; alpha x, sigma^2)
    shift: float = 0.0  # of x, which is shift + scale * what the edges are in
    scale: float = 1.0


def tilted(density: Density, y: Array, alpha: float, sigma: float) -> Tilted:
    """Panels around the mode of ``p(x) N(y; alpha x, sigma^2)``, for ``sigma > 0``."""
    if density.standard is not None:
        base, shift, scale = density.standard
        law = tilted(base, y - alpha * shift, alpha * scale, sigma)
        return law._replace(shift=shift, scale=scale)
    low, high = density.support

    def log_joint(x: Array, given: Array) -> Array:
        z = (given - alpha * x) / sigma
        with np.errstate(over="ignore", invalid="ignore"):
            value = density.log_density(x) - 0.5 * z * z
        return np.where(np.isnan(value), -np.inf, value)

    width = float(density.edges[-1] - density.edges[0])
    spread = min(sigma / alpha, 1e9 * width) if alpha > 0 else 1e9 * width
    centre = np.clip(y / alpha, low, high) if alpha > 0 else np.full(len(y), density.mode)
    # both factors fall away from the interval between their modes
    mode = _golden(
        log_joint, y, np.minimum(centre, density.mode), np.maximum(centre, density.mode)
    )
    top = log_joint(mode, y)
    reach = math.sqrt(2 * _DROP) * spread
    sides = []
    for end in (np.maximum(mode - reach, low), np.minimum(mode + reach, high)):
        inner, outer = mode.copy(), end.copy()
        is_inside = log_joint(outer, y) >= top - _DROP
        for _ in range(44):
            half = 0.5 * (inner + outer)
            is_high = log_joint(half, y) >= top - _DROP
            inner, outer = np.where(is_high, half, inner), np.where(is_high, outer, half)
        sides.append(np.where(is_inside, end, outer))
    left, right = (side[:, None] for side in sides)
    centre = mode[:, None]
    below = centre + (left - centre) * _SPLITS[:0:-1]
    own = np.concatenate([below, centre, centre + (right - centre) * _SPLITS[1:]], axis=1)
    edges = np.sort(np.concatenate([own, np.clip(density.edges, left, right)], axis=1), axis=1)
    radius = 0.5 * np.diff(edges, axis=1)
    row, column = np.nonzero(radius > 0)
    x = edges[row, column, None] + radius[row, column, None] * (1 + NODES)
    values = np.zeros((*radius.shape, NUM))
    values[row, column] = np.exp(log_joint(x, y[row, None]) - top[row, None])
    return Tilted(edges, values, top - math.log(sigma * math.sqrt(2 * math.pi)))


def tilted_log_mass(law: Tilted) -> Array:
    """``ln q(y)``, shape ``(N,)``."""
    with np.errstate(divide="ignore"):
        return np.asarray(law.top + np.log(_masses(law).sum(axis=1)))


def tilted_mean(law: Tilted) -> Array:
    """``E[x | y]``, shape ``(N,)``."""
    radius = 0.5 * np.diff(law.edges, axis=1)
    x = law.edges[:, :-1, None] + radius[..., None] * (1 + NODES)
    moment = np.einsum("nek,nek,ne,k->n", law.values, x, radius, WEIGHTS)
    return np.asarray(law.shift + law.scale * moment / _masses(law).sum(axis=1))


def tilted_quantile(law: Tilted, u: Array) -> Array:
    """Inverse of the distribution function of x given y, shape ``(N,)``."""
    masses = _masses(law)
    cumulative = np.cumsum(masses, axis=1)
    goal = u * cumulative[:, -1]
    panel = (cumulative < goal[:, None]).sum(axis=1).clip(max=masses.shape[1] - 1)
    row = np.arange(len(u))
    radius = 0.5 * (law.edges[row, panel + 1] - law.edges[row, panel])
    rest = goal - (cumulative[row, panel] - masses[row, panel])
    with np.errstate(divide="ignore", invalid="ignore"):
        z = panel_quantile(law.values[row, panel], np.where(radius > 0, rest / radius, 0.0), row)
    return np.asarray(law.shift + law.scale * (law.edges[row, panel] + radius * (1 + z)))


def panel_quantile(values: Array, goal: Array, panel: NDArray[np.int64]) -> Array:
    """Where the integrals from -1 of polynomials ``(P, NUM)`` reach goals ``(N,)``."""
    primitive = values @ _CELL_INTEGRALS.T
    last = len(_CELLS) - 2
    cell = (primitive[panel, 1:-1] < goal[:, None]).sum(axis=1).clip(max=last)
    low, high = _CELLS[cell], _CELLS[cell + 1]
    start, stop = primitive[panel, cell], primitive[panel, cell + 1]
    coefficients = np.ascontiguousarray((values @ TO_COEFFICIENTS.T)[panel].T)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = low + (high - low) * np.clip(np.nan_to_num((goal - start) / (stop - start)), 0, 1)
        for _ in range(_NEWTON):
            slope, reached = value_and_primitive(coefficients, z)
            # an empty cell has no slope; its middle is as good as any other point of it
            new = np.nan_to_num(z - (reached - goal) / slope, nan=0.0, posinf=1.0, neginf=-1.0)
            z = np.clip(new, low, high)
    return np.asarray(z)


def _masses(law: Tilted) -> Array:
    return np.asarray(0.5 * np.diff(law.edges, axis=1) * (law.values @ WEIGHTS))


def _golden(
    log_joint: Callable[[Array, Array], Array], y: Array, low: Array, high: Array
) -> Array:
    """Maximum of a concave function between two ends, one a point."""
    a, b = low.copy(), high.copy()
    c, d = b - _GOLDEN * (b - a), a + _GOLDEN * (b - a)
    f_c, f_d = log_joint(c, y), log_joint(d, y)
    for _ in range(62):
        is_left = f_c >= f_d
        a, b = np.where(is_left, a, c), np.where(is_left, d, b)
        new = np.where(is_left, b - _GOLDEN * (b - a), a + _GOLDEN * (b - a))
        f_new = log_joint(new, y)
        c, d = np.where(is_left, new, d), np.where(is_left, c, new)
        f_c, f_d = np.where(is_left, f_new, f_d), np.where(is_left, f_c, f_new)
    best = 0.5 * (a + b)
    # an end of the bracket may be a maximum with a jump behind it
    options = np.stack([best, low, high])
    pick = np.argmax([log_joint(x, y) for x in options], axis=0)
    return np.asarray(options[pick, np.arange(len(y))])
