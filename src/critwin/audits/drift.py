r"""Who turns into whom: flows between the groups of an attribute over the noise axis.

Noise and denoise images of the model: a share ``w_i C_ij`` goes from group i to group j and
``w_j C_ji`` comes back. With an exact reversal and images of the model's own law both are equal at
every noise (detailed balance), so the *net* flow is 0 and the law of the attribute does not drift.
A net flow says that the model, asked to make up its mind again, does not give the attribute the
law that it gave it before: an inexact reversal, another condition, or images that are not the
model's own.

Every flow is a mean over sources, so limits are paired by source; all flows at all levels are
tested at once by the largest studentised one under random signs of the sources.

Source: Li, Karan & Chen (2025), sec. 3; docs/theory/windows.md (reversibility); Wu (1986),
*Jackknife, bootstrap and other resampling methods in regression analysis* (random signs).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._intervals import paired_interval
from critwin.errors import InputError
from critwin.estimates import plain
from critwin.streams import numpy_stream

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from critwin.transitions import Transitions

    Array = NDArray[np.float64]

__all__ = ["Drift", "Flow", "drift_of", "exact_flow"]

_FEWEST = 8
_SIGNS = 1999
_FEW = 10  # sources that move between two groups, below which a flow is not tested


@dataclass(frozen=True, eq=False, kw_only=True)
class Flow:
    """Net flow from one group to another, level by level.

    Attributes:
        source: The group that is left where the flow is positive.
        target: The group that is joined.
        net: ``w_i C_ij - w_j C_ji``, as a share of all images, shape ``(L,)``.
        low: Lower limits, each level by itself.
        high: Upper limits.
        p_value: Adjusted for all flows at all levels; NaN: too few moved to test.
    """

    source: str
    target: str
    net: Array
    low: Array
    high: Array
    p_value: Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Drift:
    """The law of the attribute after noise and denoising, and the flows that change it.

    Attributes:
        feature: The attribute.
        labels: The groups.
        t: OU times of the levels, shape ``(L,)``.
        before: Law of the sources, shape ``(K,)``.
        after: Law of the results, shape ``(L, K)``.
        change: ``after - before``, paired by source, shape ``(L, K)``.
        low: Lower limits of the change.
        high: Upper limits.
        flows: Net flows of all pairs of groups.
        p_value: Test of no net flow anywhere; None: too few to say.
        num_sources: Sources in it.
        confidence: Of the limits.
    """

    feature: str
    labels: tuple[str, ...]
    t: Array
    before: Array
    after: Array
    change: Array
    low: Array
    high: Array
    flows: tuple[Flow, ...]
    p_value: float | None
    num_sources: int
    confidence: float

    @property
    def is_flagged(self) -> bool:
        """Whether any net flow is shown."""
        return self.p_value is not None and self.p_value <= 1.0 - self.confidence + 1e-12

    def strongest(self) -> tuple[Flow, int] | None:
        """The flow with the smallest p-value and its level; None where none was tested."""
        best: tuple[float, float, Flow, int] | None = None
        for flow in self.flows:
            for level in np.flatnonzero(~np.isnan(flow.p_value)).tolist():
                key = (float(flow.p_value[level]), -abs(float(flow.net[level])))
                if best is None or key < best[:2]:
                    best = (*key, flow, level)
        return None if best is None else (best[2], best[3])

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        out: dict[str, Any] = plain(self)
        return out


def exact_flow(tr: Transitions, weights: ArrayLike | None = None) -> Array:
    """Net flows of a table of transitions.

    Args:
        tr: Transitions whose labels before and after are the same.
        weights: Law of the sources; the model's prior unless given, for which exact transitions
            have no net flow.

    Returns:
        ``[l, i, j] = w_i C_ij - w_j C_ji``, shape ``(L, K, K)``, antisymmetric.

    Raises:
        InputError: If labels differ, or there are no weights.
    """
    if tr.before != tr.after:
        raise InputError("flows need the same labels before and after", got=tr.before)
    if weights is None and tr.weights is None:
        raise InputError("flows need the law of the sources", next_step="give weights")
    w = np.asarray(tr.weights if weights is None else weights, dtype=np.float64)
    joint = w[:, None] * tr.probs
    return np.asarray(joint - np.swapaxes(joint, 1, 2))


def drift_of(
    tr: Transitions, *, confidence: float = 0.95, num_signs: int = _SIGNS, seed: int = 0
) -> Drift:
    """Flows between groups from counted transitions.

    Args:
        tr: Counted transitions; each source counts once, whatever its replicates.
        confidence: Of the limits.
        num_signs: Random signs behind the test.
        seed: Seed of them.

    Returns:
        The drift over the levels that all its sources have.

    Raises:
        InputError: If the table is not counted, or no source has all levels.
    """
    if tr.counts is None or tr.source_before is None:
        raise InputError("flows need counted transitions", got=tr.kind)
    total = tr.counts.sum(axis=2)
    use = np.asarray((total > 0).all(axis=1))
    if not use.any():
        raise InputError("no source has results at all levels")
    share = tr.counts[use] / total[use][..., None]
    own = tr.before_in_after[tr.source_before[use]]
    num, levels, size = share.shape
    start = np.eye(size)[own]
    change = share - start[:, None]
    low, high = np.empty((2, levels, size))
    for level in range(levels):
        for k in range(size):
            low[level, k], high[level, k] = paired_interval(change[:, level, k], confidence)
    pairs = list(combinations(range(size), 2))
    moved = np.stack(
        [start[:, None, i] * share[..., j] - start[:, None, j] * share[..., i] for i, j in pairs],
        axis=2,
    )
    adjusted, p_value = _tested(moved, num_signs, seed, tr.feature)
    flows = []
    for at, (i, j) in enumerate(pairs):
        limits = np.array([paired_interval(moved[:, x, at], confidence) for x in range(levels)])
        flows.append(
            Flow(
                source=tr.after[i],
                target=tr.after[j],
                net=moved[:, :, at].mean(axis=0),
                low=limits[:, 0],
                high=limits[:, 1],
                p_value=adjusted[:, at],
            )
        )
    return Drift(
        feature=tr.feature,
        labels=tr.after,
        t=tr.t,
        before=start.mean(axis=0),
        after=share.mean(axis=0),
        change=change.mean(axis=0),
        low=low,
        high=high,
        flows=tuple(flows),
        p_value=p_value,
        num_sources=num,
        confidence=confidence,
    )


def _tested(moved: Array, num_signs: int, seed: int, feature: str) -> tuple[Array, float | None]:
    """P-values of all flows, adjusted by the largest one under random signs of the sources."""
    num, levels, pairs = moved.shape
    flat = moved.reshape(num, levels * pairs)
    out = np.full(levels * pairs, np.nan)
    used = np.count_nonzero(flat, axis=0) >= _FEW
    if num < _FEWEST or not used.any():
        return out.reshape(levels, pairs), None
    kept = flat[:, used]
    # under the null a flow has mean 0, so its spread is the mean square: the same for all signs
    scale = np.sqrt(np.sum(kept**2, axis=0))
    seen = np.abs(kept.sum(axis=0)) / scale
    generator = numpy_stream(seed, "fairness", "drift", feature)
    signs = generator.integers(0, 2, size=(num_signs, num)) * 2.0 - 1.0
    largest = np.abs(signs @ kept / scale).max(axis=1)
    out[used] = (1 + np.sum(largest[:, None] >= seen[None] - 1e-9, axis=0)) / (1 + num_signs)
    return out.reshape(levels, pairs), float(out[used].min())
