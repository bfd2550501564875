"""Where a bracketed curve that never rises with noise falls through a level."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import brentq

from critwin.estimates import Edge, Estimate
from critwin.levels import logsnr_of_ou_time, ou_time
from critwin.theory.distances import DistanceCurve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Curve = Callable[[Array], DistanceCurve]

__all__ = ["Crossings", "crossings"]

_SCAN = np.concatenate([np.linspace(40.0, 14.0, 8), np.linspace(12.0, -24.0, 37)])
_FAR = np.linspace(-26.0, -120.0, 24)
_TOLERANCE = 1e-13
_OUTLINE = "the components are known only in outline: limits alone"
_OPEN = "the upper bound does not fall that far on the levels tried"
_PARTS, _ROUNDS = 10, 3  # a cell of a bracketed curve is cut into a thousand


class Crossings(NamedTuple):
    """OU times: 0 where the curve is at or below the level without noise."""

    value: float  # NaN where only limits are known
    low: float
    high: float  # infinite where the upper bound stays above on all levels

    @property
    def first(self) -> float:
        """The value, or the lower limit where only limits are known."""
        return self.low if np.isnan(self.value) else self.value

    @property
    def last(self) -> float:
        """The value, or the upper limit where only limits are known."""
        return self.high if np.isnan(self.value) else self.value

    def edge(self) -> Edge:
        """In both coordinates, with certified limits."""
        is_open = not np.isfinite(self.high)
        t = Estimate(
            value=None if np.isnan(self.value) else self.value,
            low=self.low,
            high=None if is_open else self.high,
            reason=_OUTLINE if np.isnan(self.value) else None,
            high_reason=_OPEN if is_open else None,
        )
        if self.last <= 0.0:
            reason = "at no noise: nothing to decide"
            return Edge(t=t, logsnr=Estimate(value=None, reason=reason))
        times = np.array([self.value, max(self.low, 0.0), 1.0 if is_open else self.high])
        at, near, far = (float(x) for x in logsnr_of_ou_time(times))
        is_bounded = np.isfinite(near)
        logsnr = Estimate(
            value=at if np.isfinite(at) else None,
            low=None if is_open else far,
            high=near if is_bounded else None,
            reason=t.reason if np.isnan(at) else None if np.isfinite(at) else "at no noise",
            low_reason=_OPEN if is_open else None,
            high_reason=None if is_bounded else "at no noise",
        )
        return Edge(t=t, logsnr=logsnr)


def crossings(
    bracket_at: Curve, estimate_at: Callable[[Array], Array] | None, level: float
) -> tuple[Crossings, DistanceCurve]:
    """Times at which the curve, its lower and its upper bound fall through ``level``.

    Bounds need not be monotone, but what they bound is: its last time above the level is no
    earlier than any at which the lower bound is above, and its first time below is no later than
    any at which the upper bound is.

    Args:
        bracket_at: The curve's brackets at levels of logsnr.
        estimate_at: The estimate where brackets are open; their middle unless given.
        level: What to fall through, in (0, 1).

    Returns:
        The times, and the curve at the scanned levels, the first of them without noise.
    """
    scan = np.concatenate([[np.inf], _SCAN])
    curve = bracket_at(scan)
    if curve.upper[-1] > level:  # very far apart, or a very small level
        scan = np.concatenate([scan, _FAR])
        curve = bracket_at(scan)
    if curve.is_exact:
        value = _root(scan, curve.estimate, lambda x: bracket_at(x).estimate, level)
        return Crossings(value, value, value), curve
    low = _cell(scan, curve.lower > level)
    high = _cell(scan, curve.upper > level, is_first=True)
    for _ in range(_ROUNDS):
        fine = [_split(low), _split(high)]
        inner = bracket_at(np.concatenate(fine))
        count = len(fine[0])
        low = _cell(fine[0], inner.lower[:count] > level) if count > 1 else low
        high = (
            _cell(fine[1], inner.upper[count:] > level, is_first=True)
            if len(fine[1]) > 1
            else high
        )
    # the ends of the last cells are certified themselves
    first, last = low[0], high[1]
    limits = float(ou_time(first)), float(ou_time(last)) if curve.upper[-1] <= level else np.inf
    if np.isnan(curve.estimate).any():
        return Crossings(np.nan, *limits), curve
    read = estimate_at or (lambda x: bracket_at(x).estimate)
    grid = np.concatenate([[first], scan[(scan < first) & (scan > last)], [last]])
    cell = _cell(grid, read(grid) > level)
    for _ in range(_ROUNDS):
        fine_value = _split(cell)
        if len(fine_value) > 1:
            cell = _cell(fine_value, read(fine_value) > level)
    value = float(ou_time(cell).mean())
    return Crossings(float(np.clip(value, *limits)), *limits), curve


def _cell(scan: Array, above: NDArray[np.bool_], *, is_first: bool = False) -> Array:
    """The two neighbouring levels between which the curve last (or first) falls."""
    if not above.any() or (is_first and not above[0]):
        return scan[[0, 0]]
    if above.all():
        return scan[[-1, -1]]
    k = int(np.argmin(above)) - 1 if is_first else int(np.flatnonzero(above)[-1])
    return scan[[k, min(k + 1, len(scan) - 1)]]


def _split(cell: Array) -> Array:
    """Levels that cut a cell into equal parts; one level where it is none."""
    if cell[0] == cell[1]:
        return cell[:1]
    start = cell[0] if np.isfinite(cell[0]) else cell[1] + 60.0
    points = np.linspace(start, cell[1], _PARTS + 1)
    points[0] = cell[0]
    return points


def _root(scan: Array, value: Array, read: Callable[[Array], Array], level: float) -> float:
    """OU time at which an exact curve, known at decreasing logsnr, falls to the level."""
    cell = _cell(scan, value > level)
    if cell[0] == cell[1]:
        return float(ou_time(cell[0]))

    def gap(x: float) -> float:
        return float(read(np.array([x]))[0]) - level

    start = float(cell[0] if np.isfinite(cell[0]) else cell[1] + 60.0)
    if not np.isfinite(cell[0]) and gap(start) <= 0:
        return 0.0  # beyond what float64 tells from no noise
    root = brentq(gap, cell[1], start, xtol=_TOLERANCE, rtol=4 * np.finfo(float).eps)
    return float(ou_time(float(root)))
