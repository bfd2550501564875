"""When each group of an attribute is decided, and whether one is lost at lower noise than another.

A group is *lost* where its images, noised and denoised, no longer come back as of that group. The
share that comes back falls from 1 to the group's own share, so a small group falls further: it is
lost at lower noise for its size alone. Of two groups, with an exact reversal, nothing else can
differ (``w_i (1 - C_ii) = w_j (1 - C_jj)``). So each group has two times: ``t_after``, up to which
nearly all its images keep it, which is what happens to them; and the ``midpoint``, where half of
what lies above the group's own share is lost, which takes its size out.

Two groups are compared by the noise that their images survive on average, one number a source
(the area under its curve), with Welch's limits and a permutation test that is exact where the
groups are alike and holds its size asymptotically where their spreads differ.

Source: Li, Karan & Chen (2025), *Blink of an eye*, Def. 4 (label form); Janssen (1997),
*Studentized permutation tests for non-i.i.d. hypotheses and the generalized Behrens–Fisher
problem*, sec. 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import stats

from critwin import _clustering, _curves, _readings
from critwin.audits.law import holm
from critwin.errors import InputError
from critwin.estimates import Edge, Estimate, difference, edge_of, missing_edge, plain
from critwin.streams import numpy_stream
from critwin.windows import critical_window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.transitions import Transitions

    Array = NDArray[np.float64]

__all__ = ["FEWEST", "GroupGap", "GroupWindow", "Groups", "group_windows"]

FEWEST = 5
"""Sources below which nothing is said of a group."""

_PERMUTATIONS = 999
_TOO_FEW = "too few to say"

Order = Literal["lower", "higher", "not shown", "too few to say"]


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupWindow:
    """When one group is decided.

    Attributes:
        label: The group.
        num_sources: Images of it.
        share: Its share in the model's images.
        t_after: Up to here nearly all its images keep it.
        midpoint: Where half of what lies above its share is lost.
        stay: Share that comes back at each level, shape ``(L,)``; NaN where there is none.
        low: Lower limits of it.
        high: Upper limits.
        reason: Why there is no window.
    """

    label: str
    num_sources: int
    share: float
    t_after: Edge
    midpoint: Edge
    stay: Array
    low: Array
    high: Array
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class GroupGap:
    """One group against another: which is lost at lower noise.

    Attributes:
        group: The group.
        other: The one that it is compared with, the largest.
        t_after: Its ``t_after`` less the other's.
        survival: Noise (OU time, within the levels measured) that its images survive on average,
            less the other's.
        beyond_size: The same with what lies above each group's own share scaled to 1.
        p_value: Permutation test of equal survival; None: too few.
        p_holm: Adjusted for the other groups.
        order: ``"lower"``: it is lost at lower noise; ``"higher"``; ``"not shown"``;
            ``"too few to say"``.
    """

    group: str
    other: str
    t_after: Edge
    survival: Estimate
    beyond_size: Estimate
    p_value: float | None
    p_holm: float | None
    order: Order


@dataclass(frozen=True, eq=False, kw_only=True)
class Groups:
    """Windows of all groups, and how they differ.

    Attributes:
        feature: The attribute.
        t: OU times of the levels, shape ``(L,)``.
        windows: One a group.
        gaps: Every other group against the largest.
        epsilon: Tolerance of ``t_after``.
        confidence: Of the limits.
    """

    feature: str
    t: Array
    windows: tuple[GroupWindow, ...]
    gaps: tuple[GroupGap, ...]
    epsilon: float
    confidence: float

    @property
    def is_flagged(self) -> bool:
        """Whether any group is shown to be lost at other noise than the largest."""
        return any(gap.order in ("lower", "higher") for gap in self.gaps)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        out: dict[str, Any] = plain(self)
        return out


def group_windows(
    tr: Transitions,
    *,
    epsilon: float = 0.1,
    confidence: float = 0.95,
    num_permutations: int = _PERMUTATIONS,
    seed: int = 0,
) -> Groups:
    """When each group is decided.

    Args:
        tr: Counted transitions of the attribute, with the model's prior.
        epsilon: Tolerance of ``t_after``.
        confidence: Of the limits; tests are of size ``1 - confidence``.
        num_permutations: Random permutations of a test.
        seed: Seed of them.

    Returns:
        Windows of all labels; absent and small groups say why they have none.

    Raises:
        InputError: If the table is not counted, has no prior, or fewer than two levels.
    """
    if tr.counts is None or tr.source_before is None or tr.weights is None:
        raise InputError("windows of groups need counted transitions with a prior", got=tr.kind)
    if len(tr.logsnr) < 2:
        raise InputError("a window needs at least two levels", got=len(tr.logsnr))
    number = {label: int(np.sum(tr.source_before == row)) for row, label in enumerate(tr.before)}
    windows = {label: _window(tr, label, number, epsilon, confidence) for label in tr.after}
    largest = max(tr.after, key=lambda label: number.get(label, 0))
    raw = [
        _gap(tr, windows[label], windows[largest], confidence, num_permutations, seed)
        for label in tr.after
        if label != largest
    ]
    return Groups(
        feature=tr.feature,
        t=tr.t,
        windows=tuple(windows.values()),
        gaps=_adjusted(raw, confidence),
        epsilon=epsilon,
        confidence=confidence,
    )


def _window(
    tr: Transitions, label: str, number: dict[str, int], epsilon: float, confidence: float
) -> GroupWindow:
    count, none = number.get(label, 0), np.full(len(tr.logsnr), np.nan)
    share = 0.0
    if label in tr.before and tr.weights is not None:
        share = float(tr.weights[tr.before.index(label)])
    reason = None
    if count < FEWEST:
        reason = f"{_TOO_FEW}: {count} of its images, {FEWEST} needed"
    elif share >= 1.0:
        reason = "all images are of this group: nothing can be lost"
    shared: dict[str, Any] = {"label": label, "num_sources": count, "share": share}
    if reason is not None:
        edge = missing_edge(reason, confidence)
        return GroupWindow(
            **shared, t_after=edge, midpoint=edge, stay=none, low=none, high=none, reason=reason
        )
    table, _ = _clustering.complete_levels(tr)
    try:
        curve = _readings.stay_curve(table, [table.before.index(label)])
        low, high = curve.limits(np.eye(len(curve.logsnr)), confidence)
        found = _curves.crossing(curve, 0.5 + 0.5 * share, confidence=confidence, is_monotone=True)
        after = critical_window(
            table, criterion="operational", after=label, epsilon=epsilon, test=False,
            confidence=confidence,
        ).t_after  # fmt: skip
    except _readings.TooFewSourcesError as error:
        edge = missing_edge(str(error), confidence)
        return GroupWindow(
            **shared,
            t_after=edge,
            midpoint=edge,
            stay=none,
            low=none,
            high=none,
            reason=str(error),
        )
    place = np.searchsorted(-tr.logsnr, -curve.logsnr)
    columns = [none.copy() for _ in range(3)]
    for column, values in zip(columns, (curve.value, low, high), strict=True):
        column[place] = values
    return GroupWindow(
        **shared,
        t_after=missing_edge("unknown", confidence) if after is None else after,
        midpoint=edge_of(found, curve, confidence),
        stay=columns[0],
        low=columns[1],
        high=columns[2],
    )


def _survival(tr: Transitions) -> tuple[Array, Array, float]:
    """Area under the stay of every source over the levels, which have it all; and their span."""
    assert tr.counts is not None
    assert tr.source_before is not None
    total = tr.counts.sum(axis=2)
    own = tr.before_in_after[tr.source_before]
    stay = tr.counts[np.arange(len(own)), :, own] / np.maximum(total, 1)
    is_complete = np.asarray((total > 0).all(axis=1))
    return np.trapezoid(stay, tr.t, axis=1), is_complete, float(tr.t[-1] - tr.t[0])


def _gap(
    tr: Transitions,
    first: GroupWindow,
    largest: GroupWindow,
    confidence: float,
    num_permutations: int,
    seed: int,
) -> GroupGap:
    edge = difference(largest.t_after, first.t_after, 0.0, confidence)
    area, is_complete, span = _survival(tr)
    assert tr.source_before is not None
    parts = []
    for label in (first.label, largest.label):
        row = tr.before.index(label) if label in tr.before else -1
        parts.append(area[is_complete & (tr.source_before == row)])
    reason = first.reason or largest.reason
    if reason is None and min(len(part) for part in parts) < FEWEST:
        reason = f"{_TOO_FEW}: fewer than {FEWEST} images of a group at all levels"
    if reason is not None:
        lacking = Estimate(
            value=None,
            confidence=confidence,
            reason=reason,
            low_reason=reason,
            high_reason=reason,
        )
        return GroupGap(
            group=first.label,
            other=largest.label,
            t_after=edge,
            survival=lacking,
            beyond_size=lacking,
            p_value=None,
            p_holm=None,
            order="too few to say",
        )
    shares = (first.share, largest.share)
    above = [
        (part - share * span) / (1.0 - share) for part, share in zip(parts, shares, strict=True)
    ]
    extra = 0.0
    if tr.is_weights_estimated:  # the shares are those of these very sources
        slope = [
            (part.mean() - span) / (1.0 - share) ** 2
            for part, share in zip(parts, shares, strict=True)
        ]
        extra = (
            slope[0] ** 2 * shares[0] * (1 - shares[0])
            + slope[1] ** 2 * shares[1] * (1 - shares[1])
            + 2 * slope[0] * slope[1] * shares[0] * shares[1]
        ) / len(tr.source_before)
    return GroupGap(
        group=first.label,
        other=largest.label,
        t_after=edge,
        survival=_welch(parts[0], parts[1], confidence),
        beyond_size=_welch(above[0], above[1], confidence, extra),
        p_value=_permutation(parts[0], parts[1], num_permutations, seed, first.label),
        p_holm=None,
        order="not shown",
    )


def _welch(a: Array, b: Array, confidence: float, extra: float = 0.0) -> Estimate:
    terms = [float(x.var(ddof=1)) / len(x) for x in (a, b)]
    variance = sum(terms)
    gap = float(a.mean() - b.mean())
    degrees = float(min(len(a), len(b)) - 1)
    if variance > 0:
        spread = sum(v**2 / (len(x) - 1) for v, x in zip(terms, (a, b), strict=True))
        degrees = variance**2 / spread
    half = float(stats.t.ppf(0.5 + confidence / 2.0, degrees) * np.sqrt(variance + extra))
    return Estimate(value=gap, low=gap - half, high=gap + half, confidence=confidence)


def _permutation(a: Array, b: Array, num: int, seed: int, label: str) -> float:
    """Two-sided p-value of Welch's statistic over permutations of the pooled sources."""
    pooled, size = np.concatenate([a, b]), len(a)
    generator = numpy_stream(seed, "fairness", "groups", label)
    drawn = generator.permuted(np.broadcast_to(pooled, (num, len(pooled))), axis=1)

    def statistic(rows: Array) -> Array:
        one, two = rows[:, :size], rows[:, size:]
        square = one.var(axis=1, ddof=1) / size + two.var(axis=1, ddof=1) / two.shape[1]
        gap = one.mean(axis=1) - two.mean(axis=1)
        return np.asarray(np.abs(gap) / np.sqrt(np.maximum(square, 1e-300)))

    seen = statistic(pooled[None])[0]
    if not pooled.std() > 0:
        return 1.0
    return float((1 + np.sum(statistic(drawn) >= seen * (1 - 1e-9))) / (1 + num))


def _adjusted(gaps: Sequence[GroupGap], confidence: float) -> tuple[GroupGap, ...]:
    from dataclasses import replace

    known = [gap.p_value for gap in gaps if gap.p_value is not None]
    told = iter(holm(known).tolist() if known else [])
    out = []
    for gap in gaps:
        if gap.p_value is None:
            out.append(gap)
            continue
        p, order = next(told), gap.order
        if p <= 1.0 - confidence + 1e-12:
            order = "lower" if (gap.survival.value or 0.0) < 0 else "higher"
        out.append(replace(gap, p_holm=p, order=order))
    return tuple(out)
