"""True-positive rates at a false-positive rate, ROC curves, and a bootstrap of areas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from critwin.audits.roc import checked_scores
from critwin.errors import InputError
from critwin.estimates import Estimate
from critwin.streams import numpy_stream

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["OperatingPoint", "bootstrap_areas", "roc_curve", "tpr_at_fpr"]

_ENOUGH = 10  # false positives expected, below which a rate is too few to say


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """True-positive rate at a false-positive rate.

    Attributes:
        fpr: The false-positive rate asked for.
        tpr: The true-positive rate, with limits that include the threshold's own uncertainty.
        threshold: Scores above it are called members; None where too few can say.
        num_members: Members.
        num_nonmembers: Non-members.
    """

    fpr: float
    tpr: Estimate
    threshold: float | None
    num_members: int
    num_nonmembers: int


def tpr_at_fpr(
    scores: ArrayLike, is_member: ArrayLike, fpr: float, *, confidence: float = 0.95
) -> OperatingPoint:
    """True-positive rate at a false-positive rate, exact limits.

    The threshold is the smallest at which no more than the asked share of non-members score
    above it. The limits are those of the rate at the threshold of the whole population:
    Clopper–Pearson limits of the rate at the threshold found, and the rates at the limits of the
    threshold (order statistics), which are independent and combine as variances do.

    Args:
        scores: Larger means more like a member, shape ``(N,)``; NaN does not count.
        is_member: Shape ``(N,)``.
        fpr: The false-positive rate, e.g. .01.
        confidence: Of the limits.

    Returns:
        The rate; null with a reason below 10 / fpr non-members.

    Raises:
        InputError: If the rate is not in (0, 1) or shapes disagree.

    Source:
        Clopper & Pearson (1934); Zou & Donner (2008), *Construction of confidence limits about
        effect measures*, eq. (4).
    """
    if not 0.0 < fpr < 1.0:
        raise InputError("a false-positive rate is out of range", got=fpr, wanted="in (0, 1)")
    score, member = checked_scores(scores, is_member)
    there = ~np.isnan(score)
    inside = np.sort(score[there & member])
    outside = np.sort(score[there & ~member])
    num_in, num_out = len(inside), len(outside)
    wanted = int(np.ceil(_ENOUGH / fpr - 1e-9))
    if num_in == 0 or num_out < wanted:
        reason = (
            "no members"
            if num_in == 0
            else f"too few to say: {num_out} non-members, and it takes {wanted}"
        )
        missing = Estimate(value=None, reason=reason, low_reason=reason, high_reason=reason)
        return OperatingPoint(
            fpr=fpr, tpr=missing, threshold=None, num_members=num_in, num_nonmembers=num_out
        )

    def above(threshold: float) -> int:
        return num_in - int(np.searchsorted(inside, threshold, side="right"))

    allowed = int(np.floor(fpr * num_out + 1e-9))
    threshold = float(outside[num_out - 1 - allowed])
    tail = (1.0 - confidence) / 2.0
    # how many non-members may lie above the population's threshold
    fewest = int(stats.binom.ppf(tail, num_out, fpr))
    most = int(stats.binom.ppf(1.0 - tail, num_out, fpr))
    strict = float(outside[num_out - fewest]) if fewest > 0 else np.inf
    loose = float(outside[num_out - 1 - most]) if most < num_out else -np.inf
    hits = above(threshold)
    rate = hits / num_in
    low = 0.0 if hits == 0 else float(stats.beta.ppf(tail, hits, num_in - hits + 1))
    high = 1.0 if hits == num_in else float(stats.beta.ppf(1 - tail, hits + 1, num_in - hits))
    low = max(rate - float(np.hypot(rate - low, rate - above(strict) / num_in)), 0.0)
    high = min(rate + float(np.hypot(high - rate, above(loose) / num_in - rate)), 1.0)
    return OperatingPoint(
        fpr=fpr,
        tpr=Estimate(value=rate, low=low, high=high, confidence=confidence),
        threshold=threshold,
        num_members=num_in,
        num_nonmembers=num_out,
    )


def roc_curve(scores: ArrayLike, is_member: ArrayLike, *, count: int = 200) -> tuple[Array, Array]:
    """Points of the ROC curve, thinned for a figure.

    Args:
        scores: Larger means more like a member, shape ``(N,)``; NaN does not count.
        is_member: Shape ``(N,)``.
        count: Largest number of points.

    Returns:
        False- and true-positive rates, both increasing from 0 to 1.

    Raises:
        InputError: If shapes disagree.
    """
    score, member = checked_scores(scores, is_member)
    there = ~np.isnan(score)
    score, member = score[there], member[there]
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(-score[order])), len(score) - 1)
    hits = np.append(0, np.cumsum(member[order])[last]) if len(score) else np.zeros(1)
    false = np.append(0, np.cumsum(~member[order])[last]) if len(score) else np.zeros(1)
    fpr, tpr = false / max(false[-1], 1), hits / max(hits[-1], 1)
    if len(fpr) > count:
        # half the points by false, half by true positives: the steep start is kept
        marks = np.linspace(0.0, 1.0, count // 2)
        rows = np.unique(
            np.concatenate([np.searchsorted(side, marks) for side in (fpr, tpr)])
        ).clip(0, len(fpr) - 1)
        fpr, tpr = fpr[rows], tpr[rows]
    return fpr.astype(np.float64), tpr.astype(np.float64)


def bootstrap_areas(
    scores: ArrayLike,
    is_member: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Array:
    """Areas of resampled images, classes resampled apart: a check of the DeLong interval.

    Args:
        scores: Larger means more like a member, shape ``(N,)``; no NaN.
        is_member: Shape ``(N,)``.
        clusters: Image of every row; each row is its own unless given.
        draws: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        Areas, shape ``(draws,)``.

    Raises:
        InputError: If shapes disagree or a class is empty.
    """
    score, member = checked_scores(scores, is_member)
    if not member.any() or member.all():
        raise InputError("no members or no non-members to compare")
    order = np.argsort(score, kind="stable")
    own = np.asarray(np.arange(len(score)) if clusters is None else clusters)[order]
    unit = np.unique(own, return_inverse=True)[1]
    score, member = score[order], member[order]
    first = np.append(0, np.flatnonzero(np.diff(score)) + 1)
    generator = numpy_stream(seed, "privacy", "bootstrap")
    sides = [np.unique(unit[side]) for side in (member, ~member)]
    out = np.empty(draws)
    for draw in range(draws):
        weight = np.zeros(unit.max() + 1)
        for units in sides:
            weight[units] = np.bincount(
                generator.integers(len(units), size=len(units)), minlength=len(units)
            )
        rows = weight[unit]
        inside = np.add.reduceat(np.where(member, rows, 0.0), first)
        outside = np.add.reduceat(np.where(member, 0.0, rows), first)
        below = np.cumsum(outside) - 0.5 * outside
        out[draw] = inside @ below / (inside.sum() * outside.sum())
    return out
