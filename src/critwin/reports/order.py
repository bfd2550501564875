"""Which of two features is decided first: the difference of their midpoints, paired by source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from critwin import _clustering, _curves, _readings
from critwin.estimates import difference

if TYPE_CHECKING:
    from critwin.estimates import Estimate
    from critwin.transitions import Transitions
    from critwin.windows import CriticalWindow

__all__ = ["midpoint_gaps"]


def midpoint_gaps(
    tables: Mapping[str, Transitions],
    windows: Mapping[str, CriticalWindow],
    *,
    chances: Mapping[str, float] | None = None,
    confidence: float = 0.95,
) -> dict[tuple[str, str], Estimate]:
    """Differences of the midpoints of features that were read off the same results.

    Both midpoints move with the same sources; their correlation narrows the interval of the
    difference (Zou & Donner 2008).

    Args:
        tables: Feature -> its transitions.
        windows: Feature -> its window of ``kept``.
        chances: Feature -> the chance level that its window was given.
        confidence: Of the intervals.

    Returns:
        ``(a, b)`` -> midpoint of a minus midpoint of b in OU time, for every pair with both
        midpoints; a is the one with the larger midpoint.
    """
    middles = {
        name: window.midpoint
        for name, window in windows.items()
        if name in tables and window.midpoint is not None and window.midpoint.t.value is not None
    }
    order = sorted(middles, key=lambda name: -float(middles[name].t.value or 0.0))
    influences = {
        name: _influence(tables[name], windows[name], (chances or {}).get(name)) for name in order
    }
    gaps = {}
    for k, a in enumerate(order):
        for b in order[k + 1 :]:
            is_exact = all(windows[name].kind == "exact" for name in (a, b))
            edge = difference(
                middles[b],
                middles[a],
                _correlation(influences[a], influences[b]),
                None if is_exact else confidence,
            )
            gaps[(a, b)] = edge.t
    return gaps


def _influence(tr: Transitions, window: CriticalWindow, chance: float | None) -> dict[str, float]:
    """Influence of every source on ``kept`` at the midpoint."""
    middle = window.midpoint
    if tr.counts is None or middle is None or middle.logsnr.value is None:
        return {}
    table, _ = _clustering.read_from(tr)
    curve = _readings.kept_curve(table, chance_level=chance, plateau=None)
    values = _curves.influence_at(curve, middle.logsnr.value)
    if values is None or curve.sources is None:
        return {}
    return dict(zip(curve.sources.tolist(), values.tolist(), strict=True))


def _correlation(first: dict[str, float], second: dict[str, float]) -> float:
    shared = sorted(set(first) & set(second))
    norm = float(np.sqrt(sum(v * v for v in first.values()) * sum(v * v for v in second.values())))
    if not shared or norm <= 0:
        return 0.0
    return float(np.clip(sum(first[s] * second[s] for s in shared) / norm, -1.0, 1.0))
