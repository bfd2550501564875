"""Confidence limits for proportions and means of clustered samples, vectorised.

The independent unit is the source; replicates of one source are correlated. A proportion gets
exact (Clopper–Pearson) limits at the *effective* sample size, the number of independent draws
that would have the variance found between sources.

Source: Clopper & Pearson (1934); Korn & Graubard (1998), *Confidence intervals for proportions
with small expected number of positive counts estimated from survey data*, eq. (2)–(4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_FEW_HITS = 10.0
_FEW_MOVED = 10  # pairs that differ, below which a normal limit is not trusted

__all__ = ["mean_interval", "mover", "paired_interval", "proportion_interval"]


def proportion_interval(
    proportion: ArrayLike,
    variance: ArrayLike,
    *,
    num_clusters: ArrayLike,
    num_units: ArrayLike,
    degrees: float,
    confidence: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two-sided limits of proportions estimated from clusters.

    Points of one array are taken to be points of one curve: where hits (or misses) are few, the
    design effect is shrunk to the pooled one.

    Args:
        proportion: Estimates in [0, 1], any shape.
        variance: Their variance between clusters, same shape.
        num_clusters: Effective number of clusters, same shape; bounds the design
            effect by ``num_units / num_clusters`` (replicates that agree entirely).
        num_units: Effective number of units, same shape; the sample size is never taken larger.
        degrees: Degrees of freedom of the variance.
        confidence: E.g. .95; each side errs with probability at most ``(1 - confidence) / 2``.

    Returns:
        Lower and upper limits, same shape.
    """
    p = np.clip(np.asarray(proportion, dtype=np.float64), 0.0, 1.0)
    clusters, units = np.asarray(num_clusters, float), np.asarray(num_units, float)
    tail = (1.0 - confidence) / 2.0
    spread = p * (1.0 - p)
    base = np.maximum(spread, 1e-300) / units  # variance if all units were independent
    minority = np.minimum(p, 1.0 - p) * units
    pooled = np.sum(variance) / np.sum(base) if np.sum(minority) >= _FEW_HITS else np.inf
    pooled = np.minimum(pooled, units / clusters)
    # a variance found from few hits is little known: shrink its design effect to that of the curve
    design = (minority * np.asarray(variance) / base + _FEW_HITS * pooled) / (minority + _FEW_HITS)
    # few degrees of freedom: the variance itself is uncertain (Korn & Graubard, eq. 4)
    ratio = (stats.norm.ppf(tail) / stats.t.ppf(tail, max(degrees, 1.0))) ** 2
    effective = np.minimum(units * ratio / np.maximum(design, 1e-300), units)
    hits = p * effective
    with np.errstate(invalid="ignore"):
        low = np.where(hits <= 0, 0.0, stats.beta.ppf(tail, hits, effective - hits + 1.0))
        high = np.where(
            hits >= effective, 1.0, stats.beta.ppf(1.0 - tail, hits + 1.0, effective - hits)
        )
    return low, high


def mean_interval(
    mean: ArrayLike, variance: ArrayLike, *, degrees: float, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Student limits ``mean ± t sqrt(variance)``.

    Args:
        mean: Estimates, any shape.
        variance: Their variances, same shape.
        degrees: Degrees of freedom of the variances; ``inf`` for known ones.
        confidence: E.g. .95.

    Returns:
        Lower and upper limits, same shape.
    """
    half = stats.t.ppf(0.5 + confidence / 2.0, max(degrees, 1.0)) * np.sqrt(variance)
    return np.asarray(mean - half), np.asarray(mean + half)


def paired_interval(gap: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Limits of the mean of paired differences in [-1, 1].

    Args:
        gap: Difference of every source, shape ``(S,)``.
        confidence: E.g. .95.

    Returns:
        Student's limits; where fewer than ten sources differ at all, each side is bounded by the
        exact limit of the share of sources that moved that way.
    """
    num, tail = len(gap), (1.0 - confidence) / 2.0
    if np.count_nonzero(gap) >= _FEW_MOVED:
        half = stats.t.ppf(1 - tail, num - 1) * gap.std(ddof=1) / np.sqrt(num)
        return max(-1.0, float(gap.mean() - half)), min(1.0, float(gap.mean() + half))

    def most(hits: int) -> float:
        return 1.0 if hits == num else float(stats.beta.ppf(1 - tail, hits + 1, num - hits))

    return -most(int(np.sum(gap < 0))), most(int(np.sum(gap > 0)))


def mover(
    first: tuple[float, float | None, float | None],
    second: tuple[float, float | None, float | None],
    correlation: float,
    *,
    is_paired: bool = False,
) -> tuple[float | None, float | None]:
    """Limits of ``second - first`` from the limits of each (method of variance recovery).

    Args:
        first: Estimate, lower and upper limit (None: unknown).
        second: Likewise.
        correlation: Correlation of the two estimates.
        is_paired: Whether the correlation is that of the same measurement made twice: what is
            shared then moves both to the same side, and cancels even where limits are skewed
            (identical measurements differ by exactly 0). The same where limits are symmetric.

    Returns:
        Lower and upper limit of the difference; None where a limit it needs is unknown.

    Source:
        Zou & Donner (2008), *Construction of confidence limits about effect measures*, eq. (4).
    """
    gap = second[0] - first[0]

    def limit(out: float | None, back: float | None, sign: float) -> float | None:
        if out is None or back is None:
            return None
        # each end pairs a far limit with the other's near one
        a, b = abs(second[0] - out), abs(first[0] - back)
        square = a * a + b * b - 2.0 * correlation * a * b
        if is_paired and correlation > 0:
            square = (1.0 - correlation) * (a * a + b * b) + correlation * together
        return gap + sign * float(np.sqrt(max(square, 0.0)))

    sides = [
        (abs(first[0] - x) - abs(second[0] - y)) ** 2
        for x, y in ((first[1], second[1]), (first[2], second[2]))
        if x is not None and y is not None
    ]
    together = max(sides, default=0.0)
    return limit(second[1], first[2], -1.0), limit(second[2], first[1], 1.0)
