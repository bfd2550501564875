"""Gauss–Legendre panels: nodes, coefficients, adaptive splitting, antiderivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import legendre

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "NODES",
    "NUM",
    "TO_COEFFICIENTS",
    "WEIGHTS",
    "adapted",
    "integral_rows",
    "panel_points",
]

NUM = 16
NODES, WEIGHTS = legendre.leggauss(NUM)
_VANDER = legendre.legvander(NODES, NUM - 1)
TO_COEFFICIENTS: Array = (_VANDER * WEIGHTS[:, None] * (np.arange(NUM) + 0.5)).T
"""``(NUM, NUM)``: values at the nodes of a panel to its Legendre coefficients."""
_MAX_ROUNDS = 45
_MAX_PANELS = 4096


def panel_points(edges: Array) -> tuple[Array, Array]:
    """Nodes and weights of every panel between neighbouring edges, each ``(P, NUM)``."""
    radius = 0.5 * np.diff(edges)[:, None]
    middle = 0.5 * (edges[1:] + edges[:-1])[:, None]
    return middle + radius * NODES, radius * WEIGHTS


def adapted(
    function: Callable[[Array], Array],
    edges: Array,
    tolerance: float,
    *,
    least: float = 0.0,
) -> tuple[Array, Array]:
    """Halve panels until a function is a polynomial of degree ``NUM - 1`` on each.

    Args:
        function: Points ``(N,)`` to F values each, shape ``(F, N)``.
        edges: Increasing ends of the first panels.
        tolerance: On the last two Legendre coefficients, times the width of the panel.
        least: Panels narrower than this are not halved.

    Returns:
        The edges ``(P + 1,)`` and the values at the nodes ``(F, P, NUM)``.
    """
    low, high = edges[:-1], edges[1:]
    parts: list[tuple[Array, Array, Array]] = []
    for round_ in range(_MAX_ROUNDS + 1):
        radius, middle = 0.5 * (high - low), 0.5 * (high + low)
        nodes = middle[:, None] + radius[:, None] * NODES
        values = function(nodes.ravel()).reshape(-1, len(low), NUM)
        tail = np.abs(values @ TO_COEFFICIENTS[-2:].T).sum(axis=-1).max(axis=0)
        is_done = tail * 2 * radius <= tolerance
        if round_ == _MAX_ROUNDS:
            is_done[:] = True
        is_done |= 2 * radius <= least
        if len(low) > _MAX_PANELS:  # noise, which no panel resolves
            is_done[:] = True
        # a panel at the rounding of its own position cannot be halved
        is_done |= radius <= 1e-14 * np.maximum(np.abs(low), np.abs(high))
        parts.append((low[is_done], high[is_done], values[:, is_done]))
        low, high, middle = low[~is_done], high[~is_done], middle[~is_done]
        if len(low) == 0:
            break
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
    start = np.concatenate([part[0] for part in parts])
    stop = np.concatenate([part[1] for part in parts])
    order = np.argsort(start)
    values = np.concatenate([part[2] for part in parts], axis=1)[:, order]
    return np.append(start[order], stop.max()), values


def integral_rows(x: Array) -> Array:
    """``integral_{-1}^x P_k`` for all k < NUM at points in [-1, 1], shape ``(..., NUM)``."""
    values = legendre.legvander(x, NUM)
    degree = np.arange(1, NUM)
    rest = (values[..., 2:] - values[..., :-2]) / (2 * degree + 1)
    return np.concatenate([x[..., None] + 1.0, rest], axis=-1)


def value_and_primitive(coefficients: Array, x: Array) -> tuple[Array, Array]:
    """Polynomials at one point each, and their integrals from -1.

    Args:
        coefficients: Legendre coefficients, shape ``(NUM, N)``.
        x: Points in [-1, 1], shape ``(N,)``.

    Returns:
        Two arrays ``(N,)``.
    """
    before, now = np.ones_like(x), x
    value, primitive = coefficients[0].copy(), coefficients[0] * (x + 1.0)
    for k in range(1, NUM):
        value += coefficients[k] * now
        following = ((2 * k + 1) * x * now - k * before) / (k + 1)
        primitive += coefficients[k] * (following - before) / (2 * k + 1)
        before, now = now, following
    return value, primitive
