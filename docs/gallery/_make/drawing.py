"""The figure of an entry: its curve above, its times below, every route with a mark of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.reports._axes import FONT, INK, MUTED, RULE, box, noise_axis, plain_axes, round_ticks
from critwin.reports.palette import ROLES, series
from critwin.reports.svg import drawing, new_figure, standalone, to_svg

from .parts import Entry, Time

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["figure"]

_WIDTH = 880.0
_CURVES = 230.0  # pixels for values from 0 to 1
_ROW = 34.0
_SIGN = {"lower": ">", "upper": "<", "approximation": "D"}
_SIZE = FONT["wide"]
_PUBLISHED, _MEASURED, _CERTIFIED = (ROLES[name].light for name in ("c1", "c2", "c0"))


class _Axis:
    """How far the noise axis reaches, for :func:`noise_axis`."""

    def __init__(self, t_max: float) -> None:
        self.t_max = t_max


def figure(entry: Entry) -> str:
    """The figure as an SVG file that stands alone.

    Args:
        entry: The entry.

    Returns:
        The text of the file.
    """
    shown = [time for time in entry.times if _has_mark(time, entry.t_max)]
    top, bottom = 62.0, 104.0
    height = top + 1.06 * _CURVES + _ROW * (len(shown) + 0.6) + bottom
    longest = max((len(time.symbol) for time in shown), default=4)
    with drawing():
        canvas = new_figure(_WIDTH, height)
        margins = {"left": 44.0 + 6.6 * longest, "right": 16.0, "top": top, "bottom": bottom}
        axes = canvas.add_axes(box("wide", height, **margins))
        if entry.unit == "t":
            noise_axis(axes, _Axis(entry.t_max), "wide")
        else:
            _mask_axis(axes, entry.t_max)
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        step = _ROW / _CURVES
        axes.set_ylim(-step * (len(shown) + 0.6), 1.06)
        axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
        for y in (0.0, 0.5, 1.0):
            axes.axhline(y, color=RULE, linewidth=0.6, zorder=0)
        _curves(axes, entry)
        for k, time in enumerate(shown):
            _row(axes, time, -step * (k + 0.8), step, entry.t_max)
        _key(axes)
        return standalone(
            to_svg(canvas, key="figure", title=entry.title, desc=_story(entry, shown))
        )


def _curves(axes: Axes, entry: Entry) -> None:
    for k, curve in enumerate(entry.curves):
        style = series(k)
        colour = INK if len(entry.curves) == 1 else ROLES[style.role].light
        options: dict[str, Any] = {"dashes": style.dashes} if style.dashes else {}
        axes.plot(curve.t, curve.value, color=colour, linewidth=1.7, label=curve.name, **options)
        value, low, high = curve.counted
        inside = curve.at <= entry.t_max
        mark = _MEASURED if len(entry.curves) == 1 else colour
        limits = np.stack([curve.at, curve.at, np.full_like(curve.at, np.nan)], axis=1)[inside]
        bars = np.stack([low, high, np.full_like(low, np.nan)], axis=1)[inside]
        axes.plot(limits.ravel(), bars.ravel(), color=mark, linewidth=1.0)
        axes.plot(
            curve.at[inside], value[inside], color=mark, marker=style.marker, markersize=4,
            linestyle="none",
        )  # fmt: skip
    axes.annotate(
        entry.quantity, (0, 0.75), (-10, 0), xycoords=("axes fraction", "data"),
        textcoords="offset points", ha="right", va="center", color=INK, fontsize=_SIZE,
    )  # fmt: skip
    if len(entry.curves) > 1:
        axes.legend(
            loc="upper right", frameon=False, fontsize=_SIZE - 1, labelcolor=INK, handlelength=3.2,
            borderaxespad=0.2,
        )  # fmt: skip


def _row(axes: Axes, time: Time, y: float, step: float, t_max: float) -> None:
    axes.annotate(
        time.symbol, (0, y), (-10, 0), xycoords=("axes fraction", "data"),
        textcoords="offset points", ha="right", va="center", color=INK, fontsize=_SIZE,
    )  # fmt: skip
    axes.plot([0, t_max], [y, y], color=RULE, linewidth=0.6, zorder=0)
    if time.low is not None or time.high is not None:
        left = max(time.low or 0.0, 0.0)
        right = t_max if time.high is None else min(time.high, t_max)
        is_sharp = right - left < 0.004 * t_max
        if not is_sharp:
            axes.plot(
                [left, right], [y, y], color=_CERTIFIED, linewidth=9, alpha=0.32,
                solid_capstyle="butt",
            )  # fmt: skip
        for x in (time.low, time.high):
            if x is not None and 0 <= x <= t_max:
                axes.plot([x, x], [y - 0.2 * step, y + 0.2 * step], color=_CERTIFIED, linewidth=2)
    if time.value is not None and 0 <= time.value <= t_max:
        x = time.value
        axes.plot([x, x], [y - 0.34 * step, y + 0.34 * step], color=INK, linewidth=2.4)
    for p in time.published:
        if p.value is None or not 0 <= p.value <= t_max:
            continue
        is_bound = p.is_valid_bound or p.bound == "approximation"
        axes.plot(
            [p.value], [y + 0.26 * step], marker=_SIGN[p.bound], markersize=7, linestyle="none",
            color=_PUBLISHED if is_bound else "none", markeredgewidth=1.4,
            markeredgecolor=_PUBLISHED if p.kind == "published" else INK,
        )  # fmt: skip
    found = time.measured
    if found is not None and found.value is not None and found.value <= t_max:
        low = 0.0 if found.low is None else found.low
        high = t_max if found.high is None else min(found.high, t_max)
        at = y - 0.26 * step
        axes.plot([low, high], [at, at], color=_MEASURED, linewidth=1.6)
        axes.plot([found.value], [at], marker="o", markersize=5, color=_MEASURED)


def _key(axes: Axes) -> None:
    """What the marks mean, under the axis."""
    from matplotlib.lines import Line2D

    def mark(label: str, colour: str, **options: Any) -> Line2D:
        return Line2D([], [], color=colour, label=label, **{"linestyle": "none", **options})

    handles = [
        mark("published lower bound", _PUBLISHED, marker=">", markersize=7),
        mark("published upper bound", _PUBLISHED, marker="<", markersize=7),
        mark(
            "with an edge: corrected, derived", _PUBLISHED, marker=">", markersize=7,
            markeredgecolor=INK, markeredgewidth=1.4,
        ),
        mark(
            "hollow: not a bound here", "none", marker=">", markersize=7,
            markeredgecolor=_PUBLISHED, markeredgewidth=1.4,
        ),
        mark("approximation", _PUBLISHED, marker="D", markersize=6),
        mark("certificate", _CERTIFIED, linestyle="-", linewidth=9, alpha=0.32),
        mark("exact", INK, marker="|", markersize=12, markeredgewidth=2.4),
        mark("measured, 95 %", _MEASURED, marker="o", markersize=5, linestyle="-", linewidth=1.6),
    ]  # fmt: skip
    legend = axes.legend if axes.get_legend() is None else None
    options: dict[str, Any] = {
        "handles": handles, "loc": "upper left", "frameon": False, "ncols": 4,
        "fontsize": _SIZE - 1, "labelcolor": INK, "columnspacing": 1.8, "handletextpad": 0.6,
        "borderaxespad": 0.0, "bbox_transform": axes.get_figure().transFigure,  # type: ignore[union-attr]
        "bbox_to_anchor": (0.02, 50.0 / axes.get_figure().bbox.height),  # type: ignore[union-attr]
    }  # fmt: skip
    if legend is None:
        axes.add_artist(axes.get_legend())  # type: ignore[arg-type]
    axes.legend(**options).set_in_layout(False)


def _mask_axis(axes: Axes, t_max: float) -> None:
    plain_axes(axes, "wide")
    axes.set_xlim(0, t_max)
    axes.set_xticks(round_ticks(t_max, 10))
    for align, x, text in (
        ("left", 0.0, "← generation runs"),
        ("center", 0.5, "mask probability t"),
        ("right", 1.0, "noise grows →"),
    ):
        axes.annotate(
            text, (x, 0), (0, -34), xycoords="axes fraction", textcoords="offset points", ha=align,
            va="top", color=INK if align == "center" else MUTED, fontsize=_SIZE,
        )  # fmt: skip


def _has_mark(time: Time, t_max: float) -> bool:
    numbers = [time.value, time.low, time.high, *(p.value for p in time.published)]
    numbers.append(None if time.measured is None else time.measured.value)
    return any(x is not None and 0 <= x <= t_max for x in numbers)


def _story(entry: Entry, shown: list[Time]) -> str:
    """The figure in words."""
    words = [f"{entry.quantity} against noise, exact and counted."]
    for time in shown:
        parts = [f"published {p.value:.2f}" for p in time.published if p.value is not None]
        parts += [] if time.value is None else [f"exact {time.value:.2f}"]
        if time.measured is not None and time.measured.value is not None:
            parts.append(f"measured {time.measured.value:.2f}")
        words.append(f"{time.symbol}: {', '.join(parts) or 'certified alone'}.")
    return " ".join(words)
