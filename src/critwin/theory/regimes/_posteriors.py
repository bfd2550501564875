"""What posteriors over components say: groups of components, entropies, spreads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from critwin.reshaping import merge
from critwin.transitions import Transitions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from critwin.theory.mixtures import GaussianMixture

    Array = NDArray[np.float64]

__all__ = ["entropy", "entropy_and_slope", "group_matrix", "softmax", "variance"]


def group_matrix(
    m: GaussianMixture, labels: Mapping[str, Sequence[str]] | None
) -> tuple[tuple[str, ...], Array]:
    """One-hot groups of components, by the rules of :func:`critwin.reshaping.merge`."""
    table = Transitions(
        logsnr=[0.0],  # type: ignore[arg-type]
        before=m.names,
        after=m.names,
        probs=np.eye(m.num_components)[None],
        weights=m.weights.numpy(),
        kind="exact",
    )
    if labels is not None:
        table = merge(table, labels)
    groups = np.zeros((m.num_components, len(table.after)))
    members = {name: [name] for name in m.names} if labels is None else dict(labels)
    owner = {old: new for new, olds in members.items() for old in olds}
    for k, name in enumerate(m.names):
        groups[k, table.after.index(owner.get(name, name))] = 1.0
    return table.after, groups


def entropy(log_joint: Array, groups: Array) -> Array:
    """Entropy of the group given ``ln w_k p_k(y) (..., K)``, up to a constant of y, in nats."""
    if groups.shape[0] == groups.shape[1]:  # every component its own group: no logarithms
        gap, mass, total = _exponentials(log_joint)
        return np.asarray(np.log(total[..., 0]) - (mass * gap).sum(axis=-1) / total[..., 0])
    shares = softmax(log_joint) @ groups
    return np.asarray(-(shares * np.log(np.maximum(shares, 1e-300))).sum(axis=-1))


def entropy_and_slope(log_joint: Array, slope: Array, groups: Array) -> Array:
    """The entropy and its derivative along a path on which ``log_joint`` has this slope."""
    gap, mass, total = _exponentials(log_joint)
    probs = mass / total
    moved = probs * (slope - (probs * slope).sum(axis=-1, keepdims=True))  # sums to 0
    if groups.shape[0] == groups.shape[1]:
        value = np.log(total[..., 0]) - (probs * gap).sum(axis=-1)
        return np.stack([value, -(moved * gap).sum(axis=-1)], axis=-1)
    shares = probs @ groups
    logs = np.log(np.maximum(shares, 1e-300))
    return -np.stack([(shares * logs).sum(axis=-1), ((moved @ groups) * logs).sum(axis=-1)], -1)


def variance(probs: Array, values: Array) -> Array:
    """Of ``values (..., K)`` under ``probs (..., K)``, without cancellation."""
    centre = (probs * values).sum(axis=-1, keepdims=True)
    return np.asarray((probs * (values - centre) ** 2).sum(axis=-1))


def softmax(value: Array) -> Array:
    _, mass, total = _exponentials(value)
    return np.asarray(mass / total)


def _exponentials(value: Array) -> tuple[Array, Array, Array]:
    """``value - max``, its exponential, and the sum of that, which is at least 1."""
    gap = value - value.max(axis=-1, keepdims=True)
    mass = np.exp(gap)
    return gap, mass, mass.sum(axis=-1, keepdims=True)
