"""Numbers with intervals on the noise axis; whatever is missing says why."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._intervals import mover
from critwin.levels import ou_time

if TYPE_CHECKING:
    from critwin._curves import Crossing, SampledCurve

__all__ = [
    "ABOVE",
    "BELOW",
    "Edge",
    "Estimate",
    "difference",
    "edge_of",
    "missing_edge",
    "plain",
    "with_far_reason",
]

BELOW = "below the lowest level tried"
ABOVE = "above the highest level tried"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval; whatever is missing says why.

    Attributes:
        value: The estimate, or None with a ``reason``.
        low: Lower confidence limit, or None with a ``low_reason``.
        high: Upper confidence limit, or None with a ``high_reason``.
        confidence: Of the interval; None for exact values, whose limits equal the value.
        reason: Why there is no value.
        low_reason: Why there is no lower limit.
        high_reason: Why there is no upper limit.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    reason: str | None = None
    low_reason: str | None = None
    high_reason: str | None = None

    def covers(self, truth: float) -> bool:
        """Whether the interval contains ``truth``; a missing limit excludes nothing."""
        return (self.low is None or self.low <= truth) and (
            self.high is None or truth <= self.high
        )


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A point of the noise axis (or a width on it) in both coordinates.

    Attributes:
        t: In OU time.
        logsnr: In logsnr (a width: in units of logsnr, positive).
    """

    t: Estimate
    logsnr: Estimate


def edge_of(
    crossing: Crossing,
    curve: SampledCurve,
    confidence: float,
    *,
    below: str = BELOW,
    above: str = ABOVE,
) -> Edge:
    """A crossing as an edge in OU time and logsnr, with reasons for what is missing."""
    is_exact = curve.influence is None
    reason = {"inside": None, "below": below, "above": above}[crossing.side]
    near_reason = BELOW if crossing.near is None and not is_exact else None
    far_reason = ABOVE if crossing.far is None and not is_exact else None
    if is_exact and reason is not None:
        near_reason = far_reason = reason
    if reason is None and near_reason and far_reason:
        near_reason = far_reason = "too few sources: every level tried is compatible"
    near, far, value = crossing.near, crossing.far, crossing.logsnr

    def time(logsnr: float | None) -> float | None:
        return None if logsnr is None else float(ou_time(logsnr))

    level = None if is_exact else confidence
    return Edge(
        t=Estimate(
            value=time(value),
            low=time(near),
            high=time(far),
            confidence=level,
            reason=reason,
            low_reason=near_reason,
            high_reason=far_reason,
        ),
        logsnr=Estimate(
            value=value,
            low=far,
            high=near,
            confidence=level,
            reason=reason,
            low_reason=far_reason,
            high_reason=near_reason,
        ),
    )


def difference(
    first: Edge,
    second: Edge,
    correlation: float,
    confidence: float | None,
    *,
    sign_logsnr: float = 1.0,
    is_paired: bool = False,
) -> Edge:
    """``second - first`` of two edges, with limits by variance recovery.

    Args:
        first: An edge.
        second: Another.
        correlation: Correlation of the two estimates.
        confidence: Of the limits of both.
        sign_logsnr: -1 turns the logsnr difference around, so that a width is positive.
        is_paired: Whether both are the same measurement made twice, on shared sources.

    Returns:
        The difference in both coordinates.
    """

    def of(a: Estimate, b: Estimate) -> Estimate:
        if a.value is None or b.value is None:
            reason = a.reason if a.value is None else b.reason
            return Estimate(
                value=None,
                confidence=confidence,
                reason=f"an end is missing: {reason}",
                low_reason="an end is missing",
                high_reason="an end is missing",
            )
        low, high = mover(
            (a.value, a.low, a.high), (b.value, b.low, b.high), correlation, is_paired=is_paired
        )
        return Estimate(
            value=b.value - a.value,
            low=low,
            high=high,
            confidence=confidence,
            low_reason="a limit of an end is missing" if low is None else None,
            high_reason="a limit of an end is missing" if high is None else None,
        )

    pair = (first.logsnr, second.logsnr) if sign_logsnr > 0 else (second.logsnr, first.logsnr)
    return Edge(t=of(first.t, second.t), logsnr=of(*pair))


def plain(value: Any) -> Any:
    """Nested dataclasses, arrays and tuples as plain dicts, lists and numbers for JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def missing_edge(reason: str, confidence: float | None) -> Edge:
    """An edge that does not exist, or cannot be told, with its reason."""
    value = Estimate(
        value=None,
        confidence=confidence,
        reason=reason,
        low_reason=reason,
        high_reason=reason,
    )
    return Edge(t=value, logsnr=value)


def with_far_reason(edge: Edge, reason: str) -> Edge:
    """The edge with another reason for its missing limit at more noise."""
    return Edge(
        t=replace(edge.t, high_reason=reason), logsnr=replace(edge.logsnr, low_reason=reason)
    )
