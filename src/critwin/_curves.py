"""Curves over the noise axis with their clustered sampling errors, and where they cross a value.

A curve estimated from counts is a sum over sources; it is kept with the *influence* of every
source at every level, so that the variance of any linear combination of levels (in particular of
a value interpolated between two of them) is that of the sources, correlation between levels
included. Between levels the curve is smoothed locally (interpolated where it is exact or the
levels are few); that is linear too. Crossings are confidence sets by inverting pointwise tests:
a percentile bootstrap of an isotonic crossing covers too little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.optimize import isotonic_regression

from critwin._intervals import mean_interval, proportion_interval
from critwin._smoothing import (
    axis_of,
    bandwidth,
    coordinate,
    interpolation_weights,
    smoothing_weights,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNEQUAL = 3.0  # ratio of numbers of sources from which levels weigh by them
_FINE = 16  # points between two levels at which tests are inverted


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

    def number(self) -> NDArray[np.float64] | None:
        """Sources in the value at each level, shape ``(L,)``; None where they are about alike.

        Levels of an adaptive search have few sources or many.
        """
        if self.share is None:
            return None
        found = 1.0 / np.maximum(np.sum(self.share**2, axis=0), 1e-300)
        return found if found.max() > _UNEQUAL * found.min() else None

    def mix(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights of the levels in the value at logsnr ``at``, shape ``(len(at), L)``."""
        axis = axis_of(self.logsnr)
        x, points = coordinate(self.logsnr, axis), coordinate(at, axis)
        if self.influence is not None:
            half_width = bandwidth(x, self.value, np.sqrt(np.sum(self.influence**2, axis=0)))
            if half_width is not None:
                return smoothing_weights(x, points, half_width, self.number())
        return interpolation_weights(x, points)

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
    ``bracket`` are the two levels around it if the curve falls by more than half of its range
    between them: a line there would be an invention, so the limits hold all of the bracket.
    """

    logsnr: float | None
    near: float | None
    far: float | None
    side: Literal["inside", "below", "above"]
    bracket: tuple[float, float] | None = None


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
        smooth = isotonic_regression(curve.value, weights=curve.number(), increasing=False).x
        value = mix @ smooth
    else:
        value = curve.at(mix)
    is_above = value >= threshold
    if not is_above.any() or (is_monotone and not is_above[0]):
        return Crossing(
            logsnr=None, near=None, far=_far_limit(fine, high, threshold, 0), side="below"
        )
    last = int(np.flatnonzero(is_above)[-1])
    if last == len(fine) - 1:
        return Crossing(
            logsnr=None, near=_near_limit(fine, low, threshold, last), far=None, side="above"
        )
    estimate = _between(fine, value, last, threshold)
    near = _near_limit(fine, low, threshold, last)
    # a curve that may rise again is surely below only where it is so at every later point too
    start = last + 1 if is_monotone else max(last + 1, _last_not_below(high, threshold) + 1)
    far = _far_limit(fine, high, threshold, start) if start < len(fine) else None
    bracket = _unresolved(curve, estimate)
    if bracket is not None and curve.influence is not None:
        near = None if near is None else max(near, bracket[0])
        far = None if far is None else min(far, bracket[1])
    return Crossing(
        logsnr=estimate,
        near=None if near is None else max(near, estimate),
        far=None if far is None else min(far, estimate),
        side="inside",
        bracket=bracket,
    )


def _unresolved(curve: SampledCurve, logsnr: float) -> tuple[float, float] | None:
    """The levels around a point, if more than half of the curve's range is lost between them."""
    k = int(np.searchsorted(-curve.logsnr, -logsnr, side="right")) - 1
    k = min(max(k, 0), len(curve.logsnr) - 2)
    value = isotonic_regression(curve.value, weights=curve.number(), increasing=False).x
    if value[k] - value[k + 1] <= 0.5 * (value[0] - value[-1]):
        return None
    return float(curve.logsnr[k]), float(curve.logsnr[k + 1])


def influence_at(curve: SampledCurve, logsnr: float) -> NDArray[np.float64] | None:
    """Influence of every source on the value at one point, shape ``(S,)``."""
    if curve.influence is None:
        return None
    return np.asarray(curve.influence @ curve.mix(np.array([logsnr]))[0])


def _near_limit(
    fine: NDArray[np.float64], low: NDArray[np.float64], threshold: float, start: int
) -> float | None:
    """Going to less noise from ``start``: where the curve is surely above; None: nowhere."""
    is_above = low[: start + 1] > threshold
    # a single point could be surely above by chance: so must be those up to two levels before it
    steady = np.convolve(np.concatenate([np.ones(2 * _FINE), is_above]), np.ones(2 * _FINE + 1))
    where = np.flatnonzero(steady[2 * _FINE : 2 * _FINE + start + 1] > 2 * _FINE + 0.5)
    if len(where) == 0:
        return None
    return (
        float(fine[-1])
        if where[-1] == len(fine) - 1
        else _between(fine, low, int(where[-1]), threshold)
    )


def _far_limit(
    fine: NDArray[np.float64], high: NDArray[np.float64], threshold: float, start: int
) -> float | None:
    """Going to more noise from ``start``: where the curve is surely below; None: nowhere."""
    is_below = high[start:] < threshold
    steady = np.convolve(np.concatenate([is_below, np.ones(2 * _FINE)]), np.ones(2 * _FINE + 1))
    where = np.flatnonzero(steady[2 * _FINE : 2 * _FINE + len(is_below)] > 2 * _FINE + 0.5) + start
    if len(where) == 0:
        return None
    return float(fine[0]) if where[0] == 0 else _between(fine, high, int(where[0]) - 1, threshold)


def _last_not_below(high: NDArray[np.float64], threshold: float) -> int:
    where = np.flatnonzero(high >= threshold)
    return int(where[-1]) if len(where) else -1


def _between(
    fine: NDArray[np.float64], value: NDArray[np.float64], k: int, threshold: float
) -> float:
    """Linear crossing between fine points k and k + 1."""
    above, below = value[k], value[k + 1]
    part = 0.5 if above == below else float(np.clip((above - threshold) / (above - below), 0, 1))
    return float(fine[k] + part * (fine[k + 1] - fine[k]))
