"""Quadrature in the plane: products of two rules on panels, stripe by stripe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from critwin.theory.log_concave._legendre import NUM, TO_COEFFICIENTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["ENOUGH", "Stripe", "plane_average", "plane_distance", "stripe_length"]

ENOUGH = 1e-10
_MAX_STRIPE = 1 << 20  # numbers
_MAX_CELLS = 1 << 14
_MAX_HALVINGS = 3
_TINY = 1e-300


class Stripe(NamedTuple):
    """K densities on p x q cells of NUM x NUM nodes."""

    values: Array  # (K, p, NUM, q, NUM)
    w_one: Array  # (p, NUM)
    w_two: Array  # (q, NUM)


Stripes = Callable[[int], Iterator[Stripe]]
"""From a number of halvings of all panels to the stripes that cover the plane."""


def stripe_length(num_components: int, num_columns: int) -> int:
    """Number of panels of the first axis in one stripe."""
    return max(1, _MAX_STRIPE // (NUM * NUM * num_columns * num_components))


def plane_average(stripes: Stripes, prior: Array) -> tuple[Array, float]:
    """``C[i, j] = integral q_i P(j | y) dy`` and its error by the last Legendre coefficients."""
    num = len(prior)
    for halvings in range(_MAX_HALVINGS + 1):
        probs, error, cells = np.zeros((num, num)), 0.0, 0
        for values, w_one, w_two in stripes(halvings):
            joint = prior.reshape(-1, 1, 1, 1, 1) * values
            share = joint / np.maximum(joint.sum(axis=0), _TINY)
            heavy = values * w_one[:, :, None, None] * w_two
            probs += heavy.reshape(num, -1) @ share.reshape(num, -1).T
            cells += len(w_one) * len(w_two)
            for i in range(num):
                for j in range(i):
                    error += _tail(heavy[i] * share[j], w_one, w_two)
        if error <= ENOUGH or 4 * cells > _MAX_CELLS:
            break
    return probs / probs.sum(axis=1, keepdims=True), error


def plane_distance(
    stripes: Stripes, coefficients: Array, *, wanted: float = 2e-3
) -> tuple[float, float, float]:
    """Lower bound, estimate and upper bound of ``1/2 integral |sum_k c_k q_k|``.

    Lower: the cells are labels (data processing). Upper: in cells in which the difference
    changes its sign at the nodes, the Cauchy–Schwarz inequality.
    """
    for halvings in range(_MAX_HALVINGS + 1):
        lower, middle, upper, cells = 0.0, 0.0, 0.0, 0
        for values, w_one, w_two in stripes(halvings):
            gap = np.einsum("k,kpaqb->pqab", coefficients, values)
            weight = np.einsum("pa,qb->pqab", w_one, w_two)
            inside = np.abs((gap * weight).sum(axis=(2, 3)))
            area = np.outer(w_one.sum(axis=1), w_two.sum(axis=1))
            square = np.sqrt(area * (gap**2 * weight).sum(axis=(2, 3)))
            is_cut = (gap.min(axis=(2, 3)) < 0) & (gap.max(axis=(2, 3)) > 0)
            lower += inside.sum()
            middle += (np.abs(gap) * weight).sum()
            upper += np.where(is_cut, np.maximum(square, inside), inside).sum()
            cells += area.size
        if 0.5 * (upper - lower) <= wanted or 4 * cells > _MAX_CELLS:
            break
    return 0.5 * lower, 0.5 * middle, 0.5 * upper


def _tail(product: Array, w_one: Array, w_two: Array) -> float:
    """Sum over cells of the last two Legendre coefficients of each axis, times the cell."""
    lines = product.sum(axis=3) / w_one[:, :, None]  # (p, a, q), integrated over b
    first = np.abs(np.einsum("ca,paq->cpq", TO_COEFFICIENTS[-2:], lines))
    lines = product.sum(axis=1) / w_two  # (p, q, b), integrated over a
    second = np.abs(np.einsum("cb,pqb->cpq", TO_COEFFICIENTS[-2:], lines))
    return float((first * w_one.sum(axis=1)[:, None]).sum() + (second * w_two.sum(axis=1)).sum())
