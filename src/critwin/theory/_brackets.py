r"""Certified brackets of the total variation of two mixtures, from their components.

Source: derived in docs/theory/distances.md, eqs (8)–(13); Villani (2009), ch. 4, for couplings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linprog

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.theory._pairs import Noised

    Array = NDArray[np.float64]

__all__ = [
    "chi_square_upper",
    "closest_directions",
    "fisher_directions",
    "lower_from_pairs",
    "on_direction",
    "transport",
    "transport_upper",
]

_ROUNDING = 1e-14


def lower_from_pairs(a: Array, b: Array, tv: Array) -> Array:
    """``1 - sum_ij max(a_i, b_j) (1 - TV(P_i, Q_j)) <= TV(P, Q)``.

    Args:
        a: Weights of P, shape ``(n,)``.
        b: Weights of Q, shape ``(m,)``.
        tv: Pairwise distances or lower bounds on them, shape ``(L, n, m)``.

    Returns:
        Shape ``(L,)``, in [0, 1].
    """
    lost = (np.maximum(a[:, None], b) * (1.0 - tv)).sum(axis=(1, 2))
    return np.asarray(np.clip(1.0 - lost, 0.0, 1.0))


def transport(a: Array, b: Array, cost: Array) -> float:
    """The cheapest coupling of two laws, ``min sum_ij pi_ij cost_ij``.

    Any coupling gives an upper bound on the distance, so an inexact answer of the solver is
    repaired to a coupling before its cost is taken.
    """
    if len(a) == 1 or len(b) == 1:
        return float(a @ cost @ b)
    num, other = cost.shape
    rows = np.kron(np.eye(num), np.ones(other))
    columns = np.kron(np.ones(num), np.eye(other))
    found = linprog(
        cost.ravel(),
        A_eq=np.vstack([rows, columns[:-1]]),
        b_eq=np.concatenate([a, b[:-1]]),
        method="highs",
    )
    plan = np.outer(a, b) if found.x is None else np.maximum(found.x, 0.0).reshape(num, other)
    return float((_repaired(plan, a, b) * cost).sum())


def transport_upper(a: Array, b: Array, tv: Array) -> Array:
    """Convexity: ``TV(P, Q) <= min over couplings of sum_ij pi_ij TV(P_i, Q_j)``.

    Args:
        a: Weights of P, shape ``(n,)``.
        b: Weights of Q, shape ``(m,)``.
        tv: Pairwise distances or upper bounds on them, shape ``(L, n, m)``.

    Returns:
        Shape ``(L,)``, in [0, 1].
    """
    return np.clip([transport(a, b, cost) for cost in tv], 0.0, 1.0)


def _repaired(plan: Array, a: Array, b: Array) -> Array:
    """A coupling of a and b near ``plan`` (Altschuler, Weed & Rigollet 2017, Algorithm 2)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        plan = plan * np.nan_to_num(np.minimum(1.0, a / plan.sum(axis=1)), nan=0.0)[:, None]
        plan = plan * np.nan_to_num(np.minimum(1.0, b / plan.sum(axis=0)), nan=0.0)
    rows, columns = a - plan.sum(axis=1), b - plan.sum(axis=0)
    total = rows.sum()
    return np.asarray(plan + np.outer(rows, columns) / total if total > 0 else plan)


def chi_square_upper(coords: Array, coefficients: Array) -> Array:
    """``TV <= 1/2 sqrt(∫ (p - q)^2 / r)`` with r a Gaussian of the shared covariance.

    The integral is ``sum_kl c_k c_l exp(<m_k, m_l>)`` in whitened coordinates with r at 0. It
    knows that moments cancel, so it has the right order at large noise, where couplings do not.

    Args:
        coords: Whitened means, shape ``(L, n, r)``.
        coefficients: Of p - q, shape ``(n,)``.

    Returns:
        Shape ``(L,)``, at most 1.
    """
    gram = np.einsum("lkr,ljr->lkj", coords, coords)
    top = gram.max(axis=(1, 2), initial=0.0)
    terms = np.expm1(np.minimum(gram, 50.0))  # coefficients sum to 0, so the 1 drops out
    weights = coefficients[:, None] * coefficients
    total = (weights * terms).sum(axis=(1, 2))
    total += _ROUNDING * (np.abs(weights) * np.abs(terms)).sum(axis=(1, 2))
    return np.where(top >= 50.0, 1.0, np.minimum(0.5 * np.sqrt(np.maximum(total, 0.0)), 1.0))


def fisher_directions(means: Array, within: Array, coefficients: Array) -> Array:
    """The direction that separates two mixtures best in mean, for every level.

    Args:
        means: Shape ``(L, n, r)``.
        within: Mean covariance inside components, shape ``(L, r, r)``.
        coefficients: Positive for one mixture, negative for the other, shape ``(n,)``.

    Returns:
        Shape ``(L, r)``, not normalised.
    """
    gap = np.einsum("k,lkr->lr", coefficients, means)
    scatter = within.copy()
    for sign in (1.0, -1.0):
        weight = np.maximum(sign * coefficients, 0.0)
        centred = means - np.einsum("k,lkr->lr", weight, means)[:, None, :]
        scatter += 0.5 * np.einsum("k,lkr,lks->lrs", weight, centred, centred)
    return np.asarray(np.linalg.solve(scatter, gap[..., None])[..., 0])


def closest_directions(
    means: Array, within: Array, sides: tuple[Sequence[int], Sequence[int]], shared: Array
) -> Array:
    """The whitened difference of the pair of components that overlap most, for every level.

    Args:
        means: Shape ``(L, n, r)``.
        within: Covariance to whiten with, shape ``(L, r, r)``.
        sides: Rows of ``means`` of either mixture.
        shared: Overlaps of the pairs, shape ``(L, n_left, n_right)``.

    Returns:
        Shape ``(L, r)``, not normalised.
    """
    flat = shared.reshape(len(shared), -1).argmax(axis=1)
    i, j = np.unravel_index(flat, shared.shape[1:])
    level = np.arange(len(means))
    gap = means[level, np.asarray(sides[0])[i]] - means[level, np.asarray(sides[1])[j]]
    return np.asarray(np.linalg.solve(within, gap[..., None])[..., 0])


def on_direction(noised: Noised, which: Sequence[int], direction: Array) -> tuple[Array, Array]:
    """Means and standard deviations of components along a direction in data space.

    Args:
        noised: The components.
        which: Which of them, n.
        direction: Shape ``(L, D)``.

    Returns:
        Two arrays of shape ``(L, n)``.
    """
    mean = noised.alpha[:, None] * (direction @ noised.means[list(which)].T)
    sd = np.empty_like(mean)
    for column, k in enumerate(which):
        axes = noised.axes
        local = direction if axes is None else direction @ axes[0 if len(axes) == 1 else k]
        sd[:, column] = np.sqrt((local**2 * noised.variances(k)).sum(axis=1))
    return mean, sd
