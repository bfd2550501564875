r"""Agglomeration of labels along the noise axis, on plain arrays.

For the exact posterior ``C_ij / w_j = ∫ p_i p_j / p`` (p_i the noised law of label i, p that of
everything), so the *contrast*

``kappa_ij = [w_j (C_ii - C_ji) + w_i (C_jj - C_ij)] / (w_i + w_j)
           = ∫ (p_i - p_j)^2 / p  /  (1/w_i + 1/w_j)``

is 1 where two labels exclude each other, 0 where their noised laws are equal, and never rises with
noise. It is linear in C, so counts estimate it without bias (a plugged-in total variation is
biased upwards), and it is at most the total variation of the two rows. Clusters of labels are
merged in the order of their *merging time* ``∫ kappa dt``, the area under a falling curve, with
the rows and columns of a cluster summed: larger clusters are told by more sources.

Source: derived in docs/theory/trees.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Merge", "agglomerate", "contrasts", "falling", "falls_through"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Merge:
    """Two clusters that become one.

    Attributes:
        first: Indices of the labels of one.
        second: Indices of the labels of the other.
        contrast: Their contrast at every level, falling, shape ``(L,)``.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    contrast: Array

    @property
    def members(self) -> tuple[int, ...]:
        """Indices of all labels of the new cluster, increasing."""
        return tuple(sorted((*self.first, *self.second)))


def contrasts(joint: Array, weights: Array) -> Array:
    """``kappa`` of all pairs.

    Args:
        joint: ``w_i C_ij``, shape ``(L, n, n)``.
        weights: w, shape ``(n,)``, positive.

    Returns:
        Shape ``(L, n, n)``, 0 on the diagonal.
    """
    table = joint / weights[:, None]
    stay = np.diagonal(table, axis1=1, axis2=2)
    lost = stay[:, :, None] - np.swapaxes(table, 1, 2)  # [i, j]: C_ii - C_ji
    part = weights / (weights[:, None] + weights)  # [i, j]: w_j / (w_i + w_j)
    return np.asarray(part * lost + part.T * np.swapaxes(lost, 1, 2))


def falling(values: Array) -> Array:
    """Least-squares falling fit along the first axis, all columns at once.

    Args:
        values: Shape ``(L, ...)``.

    Returns:
        The same shape; the min-max formula of isotonic regression.
    """
    count = len(values)
    total = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    best = np.full(values.shape, np.inf)
    for start in range(count):
        length = np.arange(1, count - start + 1).reshape(-1, *[1] * (values.ndim - 1))
        mean = (total[start + 1 :] - total[start]) / length
        reach = np.maximum.accumulate(mean[::-1], axis=0)[::-1]
        np.minimum(best[start:], reach, out=best[start:])
    return best


def agglomerate(joint: Array, weights: Array, t: Array) -> list[Merge]:
    """Merge clusters in the order of their merging times, until one is left.

    Args:
        joint: ``w_i C_ij``, shape ``(L, n, n)``.
        weights: w, shape ``(n,)``, positive.
        t: OU times of the levels, shape ``(L,)``, increasing.

    Returns:
        ``n - 1`` merges, in their order.
    """
    joint, weights = joint.copy(), weights.copy()
    clusters: list[tuple[int, ...]] = [(i,) for i in range(len(weights))]
    step = _steps(t)
    fitted = contrasts(joint, weights)
    one, two = np.triu_indices(len(weights), 1)
    fitted[:, one, two] = np.clip(falling(fitted[:, one, two]), 0.0, 1.0)
    fitted[:, two, one] = fitted[:, one, two]
    merges = []
    while len(clusters) > 1:
        time = np.einsum("l,lij->ij", step, fitted)
        time[np.tril_indices(len(time))] = np.inf
        a, b = (int(k) for k in np.unravel_index(np.argmin(time), time.shape))
        merges.append(Merge(first=clusters[a], second=clusters[b], contrast=fitted[:, a, b]))
        clusters[a] = tuple(sorted(clusters[a] + clusters[b]))
        del clusters[b]
        joint[:, a] += joint[:, b]
        joint = np.delete(joint, b, axis=1)
        joint[:, :, a] += joint[:, :, b]
        joint = np.delete(joint, b, axis=2)
        weights[a] += weights[b]
        weights = np.delete(weights, b)
        fitted = np.delete(np.delete(fitted, b, axis=1), b, axis=2)
        fresh = np.clip(falling(_contrasts_of(joint, weights, a)), 0.0, 1.0)
        fitted[:, a], fitted[:, :, a] = fresh, fresh
    return merges


def falls_through(t: Array, values: Array, threshold: float) -> float:
    """Where a falling curve passes a value, by linear interpolation.

    Args:
        t: Shape ``(L,)``, increasing.
        values: Falling, shape ``(L,)``.
        threshold: The value.

    Returns:
        The time; ``-inf`` if the curve is below it from the start, ``inf`` if it never is.
    """
    is_above = values > threshold
    if is_above[-1]:
        return np.inf
    if not is_above.any():
        return -np.inf
    k = int(np.flatnonzero(is_above)[-1])
    part = (values[k] - threshold) / (values[k] - values[k + 1])
    return float(t[k] + part * (t[k + 1] - t[k]))


def _contrasts_of(joint: Array, weights: Array, a: int) -> Array:
    """Row ``a`` of :func:`contrasts`, shape ``(L, n)``."""
    into = joint[:, :, a] / weights
    out = joint[:, a] / weights[a]
    stay = np.diagonal(joint, axis1=1, axis2=2) / weights
    value = weights * (out[:, [a]] - into) + weights[a] * (stay - out)
    return np.asarray(value / (weights + weights[a]))


def _steps(t: Array) -> Array:
    """Weights of an integral over t from 0: trapezoids, the first level held down to 0."""
    gap = np.diff(t)
    step = np.zeros(len(t))
    step[:-1] += gap / 2
    step[1:] += gap / 2
    step[0] += t[0]
    return step
