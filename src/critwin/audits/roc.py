r"""Areas under ROC curves, with intervals.

The area is the probability that a member scores above a non-member, ties counting half. Every
image's influence on it is kept, so that differences between attacks, strata and many levels at
once have the correlation of the scores in them.

Source: DeLong, DeLong & Clarke-Pearson (1988); Obuchowski (1997), *Nonparametric analysis of
clustered ROC curve data*; Sun & Xu (2014) for the ranks; Pepe (2003), sec. 5.2, for the logit;
Newcombe (2006), method 5, for the score interval; Owen (1956) for its variance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri, owens_t

from critwin.errors import InputError
from critwin.estimates import Estimate
from critwin.streams import numpy_stream

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
    Mask = NDArray[np.bool_]

__all__ = ["Area", "area", "area_difference", "simultaneous"]

_GRID = 2.0**-53  # 1 - a is exact for multiples of this


@dataclass(frozen=True, eq=False, kw_only=True)
class Area:
    """Area under a ROC curve.

    Attributes:
        value: The area; None with a ``reason``.
        low: Lower confidence limit.
        high: Upper confidence limit.
        stderr: Standard error of the area.
        degrees: Degrees of freedom of the standard error.
        confidence: Of the interval.
        num_members: Members (clusters of them).
        num_nonmembers: Non-members.
        inflation: Factor by which errors exceed those of independent images.
        influence: Influence of every row, shape ``(N,)``; sums to 0 over each class and stratum.
        reason: Why there is no value.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    stderr: float | None = None
    degrees: float = np.inf
    confidence: float = 0.95
    num_members: int = 0
    num_nonmembers: int = 0
    inflation: float = 1.0
    influence: Array | None = None
    reason: str | None = None

    def as_estimate(self) -> Estimate:
        """The area as a number with its interval."""
        return Estimate(
            value=self.value,
            low=self.low,
            high=self.high,
            confidence=self.confidence,
            reason=self.reason,
            low_reason=self.reason if self.low is None else None,
            high_reason=self.reason if self.high is None else None,
        )


def area(
    scores: ArrayLike,
    is_member: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
    inflation: float = 1.0,
) -> Area:
    """Area under the ROC curve with a DeLong interval on the logit scale.

    Args:
        scores: Larger means more like a member, shape ``(N,)``; rows that are NaN do not count.
        is_member: Shape ``(N,)``.
        strata: Pairs are formed inside a stratum only, shape ``(N,)``; strata count by pairs.
        clusters: Rows of one cluster are not independent, shape ``(N,)``; each row is its own
            unless given. A cluster has one class.
        confidence: Of the interval.
        inflation: Factor by which errors exceed those of independent images: scores of two halves
            that were learnt from each other err together.

    Returns:
        The area. Exchanging the classes gives 1 minus it, exactly. Where no pair is in disorder
        the limit is that of as many disjoint pairs as there are.

    Raises:
        InputError: If shapes disagree or a cluster has both classes.
    """
    score, member = checked_scores(scores, is_member)
    there = ~np.isnan(score)
    stratum = np.zeros(len(score), dtype=np.int64)
    if strata is not None:
        stratum = np.unique(np.asarray(strata), return_inverse=True)[1]
    unit = np.arange(len(score))
    if clusters is not None:
        unit = np.unique(np.asarray(clusters), return_inverse=True)[1]
        both = np.intersect1d(unit[member & there], unit[~member & there])
        if len(both):
            raise InputError(
                "an image is a member and a non-member",
                got=np.asarray(clusters)[unit == both[0]][0],
            )
    twice, pairs = 0, 0
    parts: list[tuple[NDArray[np.int64], Array, float]] = []
    for name in np.unique(stratum[there]):
        rows = np.flatnonzero(there & (stratum == name))
        found = _placements(score[rows], member[rows])
        if found is None:
            continue
        twice_u, num_pairs, placed = found
        twice, pairs = twice + twice_u, pairs + num_pairs
        parts.append((rows, placed, float(num_pairs)))
    counts = [len(np.unique(unit[there & side])) for side in (member, ~member)]
    base = Area(
        value=None,
        confidence=confidence,
        num_members=counts[0],
        num_nonmembers=counts[1],
        inflation=inflation,
    )
    if not pairs:
        return replace(base, reason="no members or no non-members to compare")
    small = round(min(twice, 2 * pairs - twice) / (2 * pairs) / _GRID) * _GRID
    value = small if twice <= pairs else 1.0 - small
    influence = np.zeros(len(score))
    variance, squares, smallest = 0.0, 0.0, np.inf
    for rows, placed, own_pairs in parts:
        share = own_pairs / pairs
        for side in (True, False):
            own = rows[member[rows] == side]
            mine = placed[member[rows] == side]
            phi = share * (mine - mine.mean()) / len(own)
            influence[own] = phi
            sums = np.bincount(np.unique(unit[own], return_inverse=True)[1], weights=phi)
            smallest = min(smallest, len(sums))
            if len(sums) > 1:
                part = float(np.sum(sums**2)) * len(sums) / (len(sums) - 1)
                variance += part
                squares += part**2 / (len(sums) - 1)
    degrees = variance**2 / squares if squares > 0 else np.inf
    base = replace(base, value=value, influence=influence, degrees=degrees)
    if smallest < 2:
        return replace(base, reason="a class has one image: no interval")
    low, high = _limits(value, variance, degrees, (counts[0], counts[1]), confidence, inflation)
    return replace(base, low=low, high=high, stderr=inflation * float(np.sqrt(variance)))


def area_difference(first: Area, second: Area) -> Estimate:
    """Second area minus first, both of the same rows, with a paired interval.

    Args:
        first: An area.
        second: Another.

    Returns:
        The difference with its limits.

    Raises:
        InputError: If the areas are not of the same rows.
    """
    if first.value is None or second.value is None:
        return Estimate(value=None, reason=first.reason or second.reason)
    assert first.influence is not None
    assert second.influence is not None
    if len(first.influence) != len(second.influence):
        raise InputError("the areas are not of the same images")
    variance = float(np.sum((second.influence - first.influence) ** 2))
    degrees = min(first.degrees, second.degrees)
    inflation = max(first.inflation, second.inflation)
    half = inflation * float(_quantile(first.confidence, degrees) * np.sqrt(variance))
    gap = second.value - first.value
    return Estimate(value=gap, low=gap - half, high=gap + half, confidence=first.confidence)


def simultaneous(areas: list[Area], *, draws: int = 20_000, seed: int = 0) -> list[Area]:
    """The same areas with limits that hold for all of them together.

    Args:
        areas: Areas of the same rows, e.g. one a level.
        draws: Draws of the largest of correlated normal deviates.
        seed: Seed of the draws.

    Returns:
        The areas with wider limits; those without an interval unchanged.

    Source:
        Hothorn, Bretz & Westfall (2008), *Simultaneous inference in general parametric models*.
    """
    known = [a for a in areas if a.stderr]
    if len(known) < 2:
        return list(areas)
    phi = np.stack([a.influence for a in known if a.influence is not None])
    size = np.sqrt(np.sum(phi**2, axis=1))
    correlation = (phi @ phi.T) / np.outer(size, size)
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    normal = numpy_stream(seed, "privacy", "simultaneous").standard_normal((draws, len(known)))
    largest = np.abs(normal @ root.T).max(axis=1)
    wanted = float(np.quantile(largest, known[0].confidence))
    level = 2.0 * float(stats.norm.cdf(wanted)) - 1.0
    out = []
    for one in areas:
        if not one.stderr or one.value is None:
            out.append(one)
            continue
        counts = (one.num_members, one.num_nonmembers)
        variance = (one.stderr / one.inflation) ** 2
        low, high = _limits(one.value, variance, one.degrees, counts, level, one.inflation)
        out.append(replace(one, low=low, high=high))
    return out


def checked_scores(scores: ArrayLike, is_member: ArrayLike) -> tuple[Array, Mask]:
    """Scores as float64 and membership as booleans, refused unless both are ``(N,)``."""
    score = np.asarray(scores, dtype=np.float64)
    member = np.asarray(is_member)
    if score.ndim != 1 or member.shape != score.shape or member.dtype != np.bool_:
        raise InputError(
            "scores and membership do not fit",
            got=f"{score.shape} and {member.dtype} {member.shape}",
            wanted="(N,) numbers and (N,) booleans",
        )
    return score, member


def _placements(score: Array, member: Mask) -> tuple[int, int, Array] | None:
    """Twice the Mann–Whitney count, the number of pairs, and each row's share of pairs won.

    The shares of non-members are of pairs in which the member scores above.
    """
    num_in, num_out = int(member.sum()), int((~member).sum())
    if not num_in or not num_out:
        return None
    ranks = stats.rankdata(score)
    own = np.empty(len(score))
    own[member] = stats.rankdata(score[member])
    own[~member] = stats.rankdata(score[~member])
    others = ranks - own  # of the other class below, ties counting half
    twice = round(2.0 * float(np.sum(others[member])))
    placed = np.where(member, others / num_out, 1.0 - others / num_in)
    return twice, num_in * num_out, placed


def _limits(
    value: float,
    variance: float,
    degrees: float,
    counts: tuple[int, int],
    confidence: float,
    inflation: float = 1.0,
) -> tuple[float, float]:
    """The wider of the logit-DeLong and of the score interval on either side.

    With few images of a class and an area near 1 the empirical variance is often far too small:
    the score interval asks which areas could have given this one, with their own variance.
    """
    tail = (1.0 - confidence) / 2.0
    # disjoint pairs that all agree; halves that err together count once
    edge = float(tail ** (inflation**2 / min(counts)))
    if value == 1.0:
        return edge, 1.0
    if value == 0.0:
        return 0.0, 1.0 - edge
    if variance <= 0.0:  # all scores agree: what was not seen is at most so frequent
        unseen = sum(1.0 - tail ** (1.0 / count) for count in counts) / 2.0
        return max(value - unseen, 0.0), min(value + unseen, 1.0)
    half = inflation * _quantile(confidence, degrees) * np.sqrt(variance)
    half /= value * (1.0 - value)
    middle = logit(value)
    low, high = float(expit(middle - half)), float(expit(middle + half))
    if value > 0.5:
        return min(low, _score_limit(value, counts, tail, inflation)), high
    return low, max(high, 1.0 - _score_limit(1.0 - value, counts[::-1], tail, inflation))


def _score_limit(value: float, counts: tuple[int, int], tail: float, inflation: float) -> float:
    """Smallest A in (0.5, value] with ``value - A <= z sd(A)``, sd of two Gaussians."""
    num_in, num_out = counts
    z = -inflation * float(stats.norm.ppf(tail))

    def excess(a: float) -> float:
        both = a - 2.0 * float(owens_t(ndtri(a), 3.0**-0.5))  # two of one class beaten by one
        square = a * (1.0 - a) + (num_in + num_out - 2) * (both - a * a)
        return value - a - z * float(np.sqrt(max(square, 0.0) / (num_in * num_out)))

    if excess(0.5) <= 0.0:
        return 1.0  # DeLong's limit is low enough there
    return float(brentq(excess, 0.5, value))


def _quantile(confidence: float, degrees: float) -> float:
    return float(stats.t.ppf(0.5 + confidence / 2.0, max(degrees, 1.0)))
