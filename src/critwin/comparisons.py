"""Do two runs differ? Differences of their windows, with intervals, paired by source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from critwin import _clustering, _curves, _readings
from critwin.errors import InputError
from critwin.estimates import Edge, difference, plain
from critwin.windows import CriticalWindow, critical_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from critwin.transitions import Transitions

__all__ = ["WindowDifference", "compare_windows"]


@dataclass(frozen=True, kw_only=True)
class WindowDifference:
    """Second window minus first, edge by edge.

    Attributes:
        feature: Name of the feature.
        criterion: Criterion of both windows.
        first: The first window.
        second: The second window.
        midpoint: Difference of the midpoints.
        start: Difference of the starts.
        end: Difference of the ends.
        width: Difference of the widths (limits treat the two widths as independent).
        t_after: Difference of ``t_after``.
        t_before: Difference of ``t_before``.
        num_shared: Sources that both runs have; their correlation narrows the intervals.
        confidence: Of the intervals.
    """

    feature: str
    criterion: str
    first: CriticalWindow
    second: CriticalWindow
    midpoint: Edge | None = None
    start: Edge | None = None
    end: Edge | None = None
    width: Edge | None = None
    t_after: Edge | None = None
    t_before: Edge | None = None
    num_shared: int = 0
    confidence: float = 0.95

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        result: dict[str, Any] = plain(self)
        return result


def compare_windows(
    first: Transitions,
    second: Transitions,
    *,
    criterion: Literal["kept", "operational"] = "kept",
    after: str | Sequence[str] | None = None,
    before: str | Sequence[str] | None = None,
    epsilon: float = 0.1,
    confidence: float = 0.95,
    chance: float | None = None,
) -> WindowDifference:
    """Differences of two windows of the same feature, second minus first.

    Args:
        first: Transitions of the first run.
        second: Transitions of the second run.
        criterion: As in :func:`critwin.windows.critical_window`.
        after: Label set A of an operational window.
        before: Label set B of an operational window.
        epsilon: Tolerance of an operational window.
        confidence: Of the intervals.
        chance: Chance level where the prior is unknown.

    Returns:
        The differences. Sources of the same name are taken to be the same sample.

    Raises:
        InputError: If the features or their labels differ, or as ``critical_window``.
    """
    if set(first.before) != set(second.before):
        raise InputError(
            "the two runs do not have the same labels",
            got=f"{', '.join(first.before)} and {', '.join(second.before)}",
            next_step="merge labels, or compare another feature",
        )
    options: dict[str, Any] = {
        "criterion": criterion,
        "after": after,
        "before": before,
        "epsilon": epsilon,
        "confidence": confidence,
        "chance": chance,
    }
    windows = [critical_window(tr, test=True, **options) for tr in (first, second)]
    names = (
        ("start", "midpoint", "end", "width") if criterion == "kept" else ("t_after", "t_before")
    )
    edges: dict[str, Edge] = {}
    for name in names:
        pair = [getattr(window, name) for window in windows]
        correlation = _paired_correlation(
            [
                _width_influence(tr, window, options)
                if name == "width"
                else _influence(tr, name, edge, options)
                for tr, window, edge in zip((first, second), windows, pair, strict=True)
            ]
        )
        edges[name] = difference(pair[0], pair[1], correlation, confidence, is_paired=True)
    shared = 0
    if first.sources is not None and second.sources is not None:
        shared = len(np.intersect1d(first.sources, second.sources))
    return WindowDifference(
        feature=first.feature,
        criterion=criterion,
        first=windows[0],
        second=windows[1],
        num_shared=shared,
        confidence=confidence,
        **edges,
    )


def _influence(
    tr: Transitions, name: str, edge: Edge, options: dict[str, Any]
) -> dict[str, float]:
    """Influence of every named source on the curve at an edge."""
    if edge.logsnr.value is None or tr.counts is None:
        return {}
    table, _ = _clustering.read_from(tr)
    if name == "t_after":
        curve = _readings.stay_curve(table, table.indices(options["after"], of="before"))
    elif name == "t_before":
        from critwin.quantities import nested

        curve = _readings.blur_curve(table, *nested(table, options["after"], options["before"]))
    else:
        curve = _readings.kept_curve(table, chance_level=options["chance"], plateau=None)
    values = _curves.influence_at(curve, edge.logsnr.value)
    if values is None or curve.sources is None:
        return {}
    return dict(zip(curve.sources.tolist(), values.tolist(), strict=True))


def _width_influence(
    tr: Transitions, window: CriticalWindow, options: dict[str, Any]
) -> dict[str, float]:
    """Influence of every named source on the width: what moves its ends apart.

    An end moves by the error of the curve there over its slope; the slopes at the two ends of a
    window are nearly equal, and only the direction matters for a correlation.
    """
    if window.start is None or window.end is None:
        return {}
    start = _influence(tr, "start", window.start, options)
    end = _influence(tr, "end", window.end, options)
    return {name: end[name] - start[name] for name in set(start) & set(end)}


def _paired_correlation(influences: list[dict[str, float]]) -> float:
    a, b = influences
    shared = sorted((set(a) & set(b)) - {""})
    if not shared:
        return 0.0

    def size(values: dict[str, float]) -> float:
        array: NDArray[np.float64] = np.array(list(values.values()))
        return float(np.sqrt(np.sum(array**2)))

    norm = size(a) * size(b)
    product = sum(a[name] * b[name] for name in shared)
    return float(np.clip(product / norm, -1.0, 1.0)) if norm > 0 else 0.0
