r"""Pairs of components: Wasserstein distances, and brackets of their total variation.

Source: docs/theory/log_concave.md, eqs. (6)–(9); Kailath (1967); Villani (2009), ch. 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from critwin.errors import InputError
from critwin.levels import alpha_sigma
from critwin.theory._tables import check_levels
from critwin.theory.log_concave._legendre import panel_points
from critwin.theory.log_concave._line_table import (
    LineTable,
    absolute_integrals,
    line_table,
    quantiles,
)
from critwin.theory.log_concave.outlined import coupling_upper, log_concave_lower
from critwin.theory.log_concave.transitions import coordinate_tables

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from critwin.theory.log_concave.products import ProductMixture

    Array = NDArray[np.float64]

__all__ = ["SLACK", "component_wasserstein", "pair_brackets", "pair_integrals", "symmetric"]

SLACK = 1e-9
"""What quadratures may be wrong by, and certified bounds are widened by."""


def component_wasserstein(mixture: ProductMixture, *, order: int = 2) -> Array:
    """Wasserstein distances of all pairs of clean components.

    One coordinate: ``(integral_0^1 |F_i^{-1} - F_j^{-1}|^order du)^{1/order}``. Several, order 2:
    the squares add up, because the product of optimal couplings of the coordinates is optimal.

    Args:
        mixture: The mixture.
        order: 1 (D = 1 only) or 2.

    Returns:
        Shape ``(K, K)``; error about 1e-9.

    Raises:
        InputError: If the order is not 1 or 2, or 1 in several dimensions.

    Source:
        Villani (2009), ch. 2.
    """
    if order not in (1, 2) or (order == 1 and mixture.dim > 1):
        raise InputError(
            "no Wasserstein distance of this order", got=order, wanted="2, or 1 in 1-D"
        )
    num = mixture.num_components
    total = np.zeros((num, num))
    tails = np.geomspace(1e-13, 0.2, 16)
    for d in range(mixture.dim):
        tables = [line_table([row[d]], np.ones(1), 1.0, 0.0) for row in mixture.components]
        # mass as the variable: panels of all laws, graded towards the tails
        cuts = [np.cumsum((t.values[0] * t.weights).sum(axis=1)) for t in tables]
        edges = np.unique(np.concatenate([*cuts, tails, 1 - tails, [0.0, 1.0]]).clip(0, 1))
        u, weights = panel_points(edges)
        points = np.stack([quantiles(t, 0, u.ravel()) for t in tables])
        for i in range(num):
            total[i] += np.abs(points[i] - points) ** order @ weights.ravel()
    return np.asarray((0.5 * (total + total.T)) ** (1 / order))


def pair_brackets(mixture: ProductMixture, logsnr: ArrayLike) -> tuple[Array, Array]:
    """Certified bounds on the total variation of all pairs of components, any D.

    Lower: the largest of the exact distance in one coordinate, ``1 - BC`` with the exact affinity
    (a product over coordinates), and the bound from strong log-concavity. Upper: the smallest of
    ``sqrt(1 - BC^2)``, ``1 - prod_d (1 - TV_d)``, and the coupling bound with W_2.

    Args:
        mixture: The mixture.
        logsnr: Levels, shape ``(L,)``.

    Returns:
        Lower and upper bounds, each ``(L, K, K)``; equal for D = 1.

    Raises:
        InputError: If the levels are not valid.

    Source:
        docs/theory/log_concave.md, eqs. (6)–(9); Kailath (1967).
    """
    levels = check_levels(logsnr)
    alphas, sigmas = alpha_sigma(levels)
    num = mixture.num_components
    first, second = np.triu_indices(num, 1)
    least = np.zeros((len(levels), len(first)))
    kept, affinity = np.ones_like(least), np.ones_like(least)
    for level, (alpha, sigma) in enumerate(zip(alphas, sigmas, strict=True)):
        for table in coordinate_tables(mixture, float(alpha), float(sigma)):
            tv, shared = pair_integrals(table, first, second)
            least[level] = np.maximum(least[level], tv)
            kept[level] *= 1.0 - tv
            affinity[level] *= shared
    if mixture.dim == 1:
        return (symmetric(least, num),) * 2
    lower = np.maximum(least, 1.0 - affinity)
    upper = np.minimum(1.0 - kept, np.sqrt(np.maximum(1.0 - affinity**2, 0.0)))
    low, high = symmetric(lower, num), symmetric(upper, num)
    convex = log_concave_lower(mixture.means.numpy(), mixture.m.numpy(), alphas, sigmas)
    coupled = coupling_upper(component_wasserstein(mixture) * (1 + SLACK), alphas, sigmas)
    low = np.clip(np.maximum(low - SLACK, convex), 0.0, 1.0)
    off = ~np.eye(num, dtype=bool)
    high = np.where(off, np.clip(np.minimum(high + SLACK, coupled), low, 1.0), 0.0)
    return np.where(off, low, 0.0), high


def pair_integrals(
    table: LineTable, first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[Array, Array]:
    """TV and affinity of pairs of tabulated densities.

    Args:
        table: The densities.
        first: Index of one component of each pair, shape ``(M,)``.
        second: Index of the other.

    Returns:
        Two arrays ``(M,)``.
    """
    values, weights = table.values, table.weights
    radius = 0.5 * np.diff(table.edges)
    tv = np.array(
        [
            0.5 * float(absolute_integrals(values[i] - values[j]) @ radius)
            for i, j in zip(first, second, strict=True)
        ]
    )
    root = np.sqrt(values)
    shared = [
        float((root[i] * root[j] * weights).sum()) for i, j in zip(first, second, strict=True)
    ]
    return tv.clip(0, 1), np.clip(shared, 0, 1)


def symmetric(value: Array, num: int) -> Array:
    """From ``value (L, M)`` of the pairs i < j of ``num`` components to matrices, 0 diagonal."""
    first, second = np.triu_indices(num, 1)
    result = np.zeros((len(value), num, num))
    result[:, first, second] = result[:, second, first] = value
    return result
