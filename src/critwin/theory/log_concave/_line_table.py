"""Noised densities of one coordinate on common panels, and what is read off them.

On every panel all densities, and all products ``q_i P(j | y)``, are polynomials of degree 15 to
1e-13 in probability; crossings of densities are roots of those polynomials.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from critwin.theory.log_concave._legendre import (
    NUM,
    TO_COEFFICIENTS,
    adapted,
    integral_rows,
    panel_points,
    value_and_primitive,
)
from critwin.theory.log_concave._noising import noised_density, panel_quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.theory.log_concave.densities import Density

    Array = NDArray[np.float64]

__all__ = [
    "LineTable",
    "absolute_integrals",
    "densities_at",
    "line_table",
    "posterior_average",
    "quantiles",
    "table_of",
]

_TOLERANCE = 1e-13
_MARKS = np.array([-8.5, -4.0, -1.5, 0.0, 1.5, 4.0, 8.5])
_CELLS = np.linspace(-1.0, 1.0, 33)
_CELL_VALUES = np.polynomial.legendre.legvander(_CELLS, NUM - 1) @ TO_COEFFICIENTS
_CELL_INTEGRALS = integral_rows(_CELLS) @ TO_COEFFICIENTS
_TINY = 1e-300
_SECANTS = 7


class LineTable(NamedTuple):
    """K densities of ``alpha x + sigma z`` on P panels."""

    edges: Array  # (P + 1,)
    values: Array  # (K, P, NUM), >= 0
    weights: Array  # (P, NUM), of the quadrature


def line_table(
    densities: Sequence[Density], prior: Array, alpha: float, sigma: float
) -> LineTable:
    """Panels on which the densities of K components at one level, and posteriors, are resolved."""
    marks = [_marks(d, alpha, sigma) for d in densities]
    ends = min(m[0] for m in marks), max(m[-1] for m in marks)
    first = np.unique(np.concatenate(marks))
    if sigma > 0:
        first = _thinned(first, 0.7 * sigma)
    first = np.unique(np.concatenate([[ends[0]], first, [ends[1]]]))

    def function(y: Array) -> Array:
        return np.stack([noised_density(d, y, alpha, sigma) for d in densities])

    # digits lost in the position of a narrow density are not a lack of panels
    width = min(np.sqrt(alpha**2 * d.var + sigma**2) for d in densities)
    floor = 2e-15 * max(abs(ends[0]), abs(ends[1])) / width
    return table_of(function, first, prior, tolerance=max(_TOLERANCE, floor), least=1e-3 * sigma)


def table_of(
    function: Callable[[Array], Array],
    edges: Array,
    prior: Array,
    *,
    tolerance: float = _TOLERANCE,
    least: float = 0.0,
) -> LineTable:
    """A table of K functions, given as points ``(N,)`` to ``(K, N)``."""
    num = len(prior)

    def with_products(y: Array) -> Array:
        values = function(y)
        joint = prior[:, None] * values
        share = joint / np.maximum(joint.sum(axis=0), _TINY)
        products = [values[i] * share[j] for i in range(num) for j in range(i)]
        return np.concatenate([values, np.stack(products)]) if products else values

    edges, values = adapted(with_products, edges, tolerance, least=least)
    return LineTable(edges, values[:num], panel_points(edges)[1])


def posterior_average(values: Array, weights: Array, prior: Array) -> Array:
    """``C[i, j] = integral q_i P(j | y) dy``, shape ``(K, K)``, from values ``(K, N)``."""
    joint = prior[:, None] * values
    share = joint / np.maximum(joint.sum(axis=0), _TINY)
    probs = (values * weights) @ share.T
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))


def absolute_integrals(values: Array) -> Array:
    """``integral |f|`` over ``[-1, 1]`` of polynomials given at the nodes, ``(..., NUM)``."""
    flat = values.reshape(-1, NUM)
    cell = flat @ _CELL_VALUES.T
    primitive = flat @ _CELL_INTEGRALS.T
    result = np.abs(np.diff(primitive, axis=1)).sum(axis=1)
    row, column = np.nonzero(cell[:, :-1] * cell[:, 1:] < 0)
    if len(row):
        coefficients = TO_COEFFICIENTS @ flat[row].T
        low, high = _CELLS[column], _CELLS[column + 1]
        f_low, f_high = cell[row, column], cell[row, column + 1]
        for _ in range(_SECANTS):  # the Illinois rule; the integral is flat at the root
            root = (low * f_high - high * f_low) / (f_high - f_low)
            value, at_root = value_and_primitive(coefficients, root)
            is_low = value * f_low > 0
            low, high = np.where(is_low, root, low), np.where(is_low, high, root)
            f_low = np.where(is_low, value, 0.5 * f_low)
            f_high = np.where(is_low, 0.5 * f_high, value)
            is_zero = value == 0
            f_low, f_high = np.where(is_zero, 1.0, f_low), np.where(is_zero, 0.0, f_high)
            high = np.where(is_zero, root, high)
        start, stop = primitive[row, column], primitive[row, column + 1]
        extra = np.abs(at_root - start) + np.abs(stop - at_root) - np.abs(stop - start)
        result += np.bincount(row, extra, minlength=len(flat))
    return np.asarray(result.reshape(values.shape[:-1]))


def densities_at(table: LineTable, y: Array) -> Array:
    """The tabulated densities between the nodes, shape ``(K, N)``; 0 beyond the panels."""
    panel = np.clip(np.searchsorted(table.edges, y, side="right") - 1, 0, len(table.weights) - 1)
    low, high = table.edges[panel], table.edges[panel + 1]
    z = (2 * y - low - high) / (high - low)
    coefficients = np.moveaxis((table.values @ TO_COEFFICIENTS.T)[:, panel], 2, 0)
    basis = np.polynomial.legendre.legvander(np.clip(z, -1, 1), NUM - 1).T
    result = np.zeros(coefficients.shape[1:])
    for row, function in zip(coefficients, basis, strict=True):
        result += row * function
    result = np.maximum(result, 0.0)
    return np.asarray(np.where((y < table.edges[0]) | (y > table.edges[-1]), 0.0, result))


def quantiles(table: LineTable, component: int, u: Array) -> Array:
    """Inverse of the distribution function of one component, shape ``(N,)``."""
    masses = (table.values[component] * table.weights).sum(axis=1)
    cumulative = np.cumsum(masses)
    goal = u * cumulative[-1]
    panel = np.minimum(np.searchsorted(cumulative, goal), len(masses) - 1)
    low, high = table.edges[panel], table.edges[panel + 1]
    rest = (goal - (cumulative[panel] - masses[panel])) / (0.5 * (high - low))
    z = panel_quantile(table.values[component], rest, panel)
    return np.asarray(low + 0.5 * (high - low) * (1 + z))


def _marks(density: Density, alpha: float, sigma: float) -> Array:
    around = [alpha * kink + sigma * _MARKS for kink in density.kinks]
    ends = alpha * density.edges[[0, -1]] + sigma * np.array([-8.5, 8.5])
    bulk = alpha * density.mean + np.sqrt(alpha**2 * density.var + sigma**2) * _MARKS
    inside = np.concatenate([bulk, *around])
    inside = inside[(inside > ends[0]) & (inside < ends[1])]
    return np.sort(np.concatenate([ends, inside]))


def _thinned(marks: Array, gap: float) -> Array:
    kept = [marks[0]]
    for mark in marks[1:]:
        if mark - kept[-1] >= gap:
            kept.append(mark)
    return np.array(kept)
