"""Curves over the noise axis with their clustered sampling errors, and where they cross a value.

A curve estimated from counts is a sum over sources; it is kept with the *influence* of every
source at every level, so that the variance of any linear combination of levels (in particular of
a value interpolated between two of them) is that of the sources, correlation between levels
included. Crossings are confidence sets by inverting pointwise tests: a percentile bootstrap of an
isotonic crossing covers too little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.optimize import isotonic_regression

from critwin._intervals import mean_interval, proportion_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FINE = 16  # points between two levels at which tests are inverted
_UNEVEN = 4.0  # neighbouring spacings that differ by more are interpolated linearly


@dataclass(frozen=True, eq=False, kw_only=True)
class SampledCurve:
    """A curve at levels, with what its intervals need.

    Attributes:
        logsnr: Levels, shape ``(L,)``, decreasing.
        value: Shape ``(L,)``.
        influence: Shape ``(S, L)``; the variance of ``a @ value`` is ``sum((influence @ a)**2)``.
            None for an exact curve.
        sources: Names of the rows of ``influence``, shape ``(S,)``.
        share: Share of each source in the value, shape ``(S, L)``, for effective sample sizes.
        num_replicates: Replicates of each source, shape ``(S, L)``.
        offset: A proportion p relates to the value by ``value = (p - offset) / scale``.
        scale: See ``offset``; None if the value is no proportion.
        degrees: Degrees of freedom of the variance.
    """

    logsnr: NDArray[np.float64]
    value: NDArray[np.float64]
    influence: NDArray[np.float64] | None = None
    sources: NDArray[np.str_] | None = None
    share: NDArray[np.float64] | None = None
    num_replicates: NDArray[np.float64] | None = None
    offset: float = 0.0
    scale: float | None = 1.0
    degrees: float = np.inf

    def mix(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """Interpolation weights of the levels, shape ``(len(at), L)``, for logsnr ``at``."""
        return _interpolation(-self.logsnr, -at)

    def at(self, mix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values at the points of ``mix``."""
        return mix @ self.value

    def limits(
        self, mix: NDArray[np.float64], confidence: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pointwise confidence limits at the points of ``mix``."""
        value = self.at(mix)
        if self.influence is None:
            return value, value
        variance = np.sum((self.influence @ mix.T) ** 2, axis=0)
        if self.scale is None or self.share is None or self.num_replicates is None:
            return mean_interval(value, variance, degrees=self.degrees, confidence=confidence)
        clusters = 1.0 / np.maximum(np.sum((self.share @ mix.T) ** 2, axis=0), 1e-300)
        per_unit = np.sum(self.share**2 / np.maximum(self.num_replicates, 1.0), axis=0)
        units = 1.0 / np.maximum(per_unit @ (mix.T**2), 1e-300)
        low, high = proportion_interval(
            self.offset + self.scale * value,
            self.scale**2 * variance,
            num_clusters=clusters,
            num_units=units,
            degrees=self.degrees,
            confidence=confidence,
        )
        return (low - self.offset) / self.scale, (high - self.offset) / self.scale

    def fine_grid(self) -> NDArray[np.float64]:
        """The levels and ``_FINE - 1`` points between each two, as logsnr."""
        steps = np.arange(len(self.logsnr) * _FINE - _FINE + 1) / _FINE
        return np.interp(steps, np.arange(len(self.logsnr)), self.logsnr)


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Where a curve crosses a value, in logsnr, with confidence limits.

    ``near`` is the limit at less noise, ``far`` at more; None means the grid does not reach it.
    """

    logsnr: float | None
    near: float | None
    far: float | None
    side: Literal["inside", "below", "above"]


def crossing(
    curve: SampledCurve,
    threshold: float,
    *,
    confidence: float,
    is_monotone: bool,
    stop: float | None = None,
) -> Crossing:
    """Where a curve that falls with noise crosses a value.

    Args:
        curve: The curve.
        threshold: The value.
        confidence: Of the two-sided limits.
        is_monotone: True: the estimate comes from an isotonic fit. False: it is the last crossing
            (the one at the most noise), since blur may rise on the way.
        stop: Logsnr beyond which (at more noise) nothing counts.

    Returns:
        The crossing; ``side`` says where it lies if the grid does not contain it.
    """
    fine = curve.fine_grid()
    if stop is not None:
        fine = fine[fine >= stop]
        fine = np.append(fine, stop) if len(fine) == 0 or fine[-1] > stop else fine
    mix = curve.mix(fine)
    low, high = curve.limits(mix, confidence)
    if is_monotone and curve.influence is not None:
        smooth = isotonic_regression(curve.value, increasing=False).x
        value = mix @ smooth
    else:
        value = curve.at(mix)
    is_above = value >= threshold
    near = _near_limit(fine, low, threshold)
    far = _far_limit(fine, high, threshold)
    if not is_above.any() or (is_monotone and not is_above[0]):
        return Crossing(logsnr=None, near=None, far=far, side="below")
    last = int(np.flatnonzero(is_above)[-1])
    if last == len(fine) - 1:
        return Crossing(logsnr=None, near=near, far=None, side="above")
    estimate = _between(fine, value, last, threshold)
    return Crossing(
        logsnr=estimate,
        near=None if near is None else max(near, estimate),
        far=None if far is None else min(far, estimate),
        side="inside",
    )


def influence_at(curve: SampledCurve, logsnr: float) -> NDArray[np.float64] | None:
    """Influence of every source on the value at one point, shape ``(S,)``."""
    if curve.influence is None:
        return None
    return np.asarray(curve.influence @ curve.mix(np.array([logsnr]))[0])


def _interpolation(x: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of local cubic (Lagrange) interpolation; linear at ends and uneven spacings."""
    count = len(x)
    weights = np.zeros((len(at), count))
    if count == 1:
        return np.ones((len(at), 1))
    cell = np.clip(np.searchsorted(x, at, side="right") - 1, 0, count - 2)
    gap = np.diff(x)
    for row, (value, k) in enumerate(zip(at, cell, strict=True)):
        nodes = np.arange(max(k - 1, 0), min(k + 3, count))
        spacing = gap[nodes[:-1]]
        if spacing.max() > _UNEVEN * spacing.min():
            nodes = np.arange(k, k + 2)
        points = x[nodes]
        for a, node in enumerate(nodes):
            others = np.delete(points, a)
            weights[row, node] = np.prod((value - others) / (points[a] - others))
    return weights


def _near_limit(
    fine: NDArray[np.float64], low: NDArray[np.float64], threshold: float
) -> float | None:
    """Least noise at which the curve may be down to the threshold; None: below the grid."""
    where = np.flatnonzero(low <= threshold)
    if len(where) == 0:
        return float(fine[-1])
    return None if where[0] == 0 else _between(fine, low, int(where[0]) - 1, threshold)


def _far_limit(
    fine: NDArray[np.float64], high: NDArray[np.float64], threshold: float
) -> float | None:
    """Most noise at which the curve may be up to the threshold; None: above the grid."""
    where = np.flatnonzero(high >= threshold)
    if len(where) == 0:
        return float(fine[0])
    return None if where[-1] == len(fine) - 1 else _between(fine, high, int(where[-1]), threshold)


def _between(
    fine: NDArray[np.float64], value: NDArray[np.float64], k: int, threshold: float
) -> float:
    """Linear crossing between fine points k and k + 1."""
    above, below = value[k], value[k + 1]
    part = 0.5 if above == below else float(np.clip((above - threshold) / (above - below), 0, 1))
    return float(fine[k] + part * (fine[k + 1] - fine[k]))
