"""The figures of the report, drawn with matplotlib's object-oriented interface as SVG.

Every figure comes in a wide and in a narrow drawing, so that its text is readable on a screen of
any width; the style sheet shows one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.estimates import ABOVE, BELOW
from critwin.reports._axes import FONT, INK, MUTED, SIZES, box, noise_axis, short
from critwin.reports.palette import ROLES, Series, series
from critwin.reports.svg import drawing, new_figure, to_svg
from critwin.reports.wording import estimate, listing, number, the

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from critwin.reports.data import FeatureData, ReportData
    from critwin.windows import Curve

__all__ = ["Drawings", "feature_figure", "ladder", "overview"]

Drawings = dict[str, str]  # "wide" and "narrow" -> SVG


def overview(data: ReportData) -> Drawings:
    """All features on one axis: what is kept at every noise level, windows shaded."""
    shown = [(f, series(k)) for k, f in enumerate(data.features) if f.kept is not None]
    names = listing([the(f.name) for f, _ in shown])
    desc = (
        f"Kept share of {names} against OU time t, from {number(float(data.levels_t[0]))} to "
        f"{number(float(data.levels_t[-1]))}. Noise grows to the right, generation runs to the "
        "left. " + " ".join(_story(f) for f, _ in shown)
    )

    def draw(kind: str) -> str:
        height = 430.0 if kind == "wide" else 380.0
        with drawing():
            figure = new_figure(SIZES[kind], height)
            axes = figure.add_axes(box(kind, height, left=62, right=14, top=68, bottom=58))
            noise_axis(axes, data, kind)
            _kept_axis(axes, kind, [f for f, _ in shown])
            for f, style in shown:
                _span(axes, f, style)
            for k, (f, style) in enumerate(shown):
                # intervals that overlap lie side by side; the markers stay on the curves
                _kept(axes, f, style, shift=0.03 * (k - (len(shown) - 1) / 2), is_shared=True)
            _legend(axes, kind, len(shown))
            return to_svg(
                figure, key=f"overview-{kind}", title="What is kept at each noise level", desc=desc
            )

    return {kind: draw(kind) for kind in SIZES}


def ladder(data: ReportData) -> Drawings:
    """The order of decisions: a bar for each window, the first decision on top."""
    rows = list(enumerate(data.features))
    desc = (
        "One bar for each feature, from kept 0.9 to kept 0.1, with its midpoint. The feature that "
        "generation decides first is on top. " + " ".join(_story(f) for _, f in rows)
    )

    def draw(kind: str) -> str:
        step = 48.0 if kind == "wide" else 56.0
        height = 110.0 + step * max(len(rows), 1)
        longest = max((len(short(f.name, 22)) for _, f in rows), default=0)
        left = 26.0 + 7.8 * longest if kind == "wide" else 14.0
        with drawing():
            figure = new_figure(SIZES[kind], height)
            axes = figure.add_axes(box(kind, height, left=left, right=14, top=40, bottom=58))
            noise_axis(axes, data, kind)
            axes.set_ylim(len(rows) - 0.35, -0.55)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            for k, f in rows:
                _rung(axes, f, series(k), float(k), kind, data)
            return to_svg(figure, key=f"ladder-{kind}", title="Order of the decisions", desc=desc)

    return {kind: draw(kind) for kind in SIZES}


def feature_figure(f: FeatureData, index: int, data: ReportData) -> Drawings:
    """One feature: kept with its window, what abstentions hide, the corrected curve."""
    style = series(index)
    desc = _story(f)
    if f.bracket is not None:
        desc += " A hatched band shows what abstentions of the labeller could hide."

    def draw(kind: str) -> str:
        height = 300.0
        with drawing():
            figure = new_figure(SIZES[kind], height)
            axes = figure.add_axes(box(kind, height, left=62, right=14, top=40, bottom=58))
            noise_axis(axes, data, kind)
            _kept_axis(axes, kind, [f])
            _span(axes, f, style)
            if f.bracket is not None:
                low, high = f.bracket
                axes.fill_between(
                    low.t, low.value, high.value, facecolor="none", edgecolor=MUTED,
                    hatch="////", linewidth=0.0,
                )  # fmt: skip
            if f.corrected is not None and f.kept is not None:
                axes.plot(
                    f.kept.t, f.corrected, color=INK, linewidth=1.2, dashes=(1, 1.5), marker="x",
                    markersize=5,
                )  # fmt: skip
            _predicted(axes, f, data)
            _kept(axes, f, style)
            return to_svg(figure, key=f"{f.key}-kept-{kind}", title=f"Kept: {f.name}", desc=desc)

    return {kind: draw(kind) for kind in SIZES}


def _predicted(axes: Axes, f: FeatureData, data: ReportData) -> None:
    """What the training data predict: the curve, and its midpoint as a hollow diamond."""
    if f.prediction is None:
        return
    curve, middle = f.prediction.kept, f.prediction.window.midpoint
    inside = curve.t <= data.t_max
    axes.plot(curve.t[inside], curve.value[inside], color=MUTED, linewidth=1.4, dashes=(5, 2.5))
    if middle is not None and middle.t.value is not None and middle.t.value <= data.t_max:
        _diamond(axes, middle.t.value, 0.5)


def _diamond(axes: Axes, x: float, y: float) -> None:
    axes.plot(
        [x], [y], marker="D", markersize=7, color="none", markeredgecolor=INK, markeredgewidth=1.4,
        linestyle="none",
    )  # fmt: skip


def _kept_axis(axes: Axes, kind: str, features: Sequence[FeatureData]) -> None:
    lowest = min((float(np.min(f.kept.value)) for f in features if f.kept is not None), default=0)
    axes.set_ylim(max(min(-0.12, lowest - 0.05), -0.45), 1.12)
    axes.set_yticks([0, 0.1, 0.5, 0.9, 1], ["0", "", ".5", ".9", "1"])
    axes.axhline(0, color=MUTED, linewidth=1.0, dashes=(2, 2))
    axes.annotate(
        "chance", (0, 0), (4, -3), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="left", va="top", color=MUTED, fontsize=FONT[kind] - 1,
    )  # fmt: skip
    axes.set_ylabel("kept", color=INK, fontsize=FONT[kind], labelpad=4)


def _span(axes: Axes, f: FeatureData, style: Series) -> None:
    """Shade the window from kept .9 to kept .1, as far as it is known."""
    ends = _ends(f)
    if ends is None:
        return
    axes.axvspan(ends[0], ends[1], color=ROLES[style.role].light, alpha=0.08, linewidth=0)


def _kept(
    axes: Axes, f: FeatureData, style: Series, *, shift: float = 0.0, is_shared: bool = False
) -> None:
    if f.kept is None:
        return
    colour = ROLES[style.role].light
    axes.fill_between(f.kept.t, f.kept.low, f.kept.high, color=colour, alpha=0.22, linewidth=0)
    _line(axes, f.kept, style, label=short(f.name, 28))
    _middle(axes, f, style, 0.5, size=8, shift=shift, is_shared=is_shared)


def _middle(
    axes: Axes,
    f: FeatureData,
    style: Series,
    y: float,
    *,
    size: float,
    shift: float = 0.0,
    is_shared: bool = False,
) -> None:
    """The midpoint with its interval; a limit that is missing is a dotted line to the end."""
    middle = None if f.window is None or f.window.midpoint is None else f.window.midpoint.t
    if middle is None or middle.value is None or f.kept is None:
        return
    ends = (float(f.kept.t[0]), float(f.kept.t[-1]))
    colour = ROLES[style.role].light if is_shared else INK
    line = [y + shift] * 2
    for limit, end in ((middle.low, ends[0]), (middle.high, ends[1])):
        if limit is None:
            axes.plot([middle.value, end], line, color=colour, linewidth=1.8, dashes=(1, 1.5))
        else:
            axes.plot([middle.value, limit], line, color=colour, linewidth=1.8)
            axes.plot([limit], line[:1], color=colour, marker="|", markersize=size + 2)
    axes.plot(
        [middle.value],
        [y],
        marker=style.marker,
        markersize=size,
        color=ROLES[style.role].light,
        markeredgecolor=INK,
        markeredgewidth=1.4,
    )


def _line(axes: Axes, curve: Curve, style: Series, *, label: str = "", width: float = 1.8) -> None:
    options: dict[str, Any] = {"dashes": style.dashes} if style.dashes else {}
    axes.plot(
        curve.t, curve.value, color=ROLES[style.role].light, linewidth=width,
        marker=style.marker, markersize=4, label=label, **options,
    )  # fmt: skip


def _legend(axes: Axes, kind: str, num: int) -> None:
    if num == 0:
        axes.text(
            0.5, 0.5, "no kept curve could be computed", transform=axes.transAxes, ha="center",
            color=MUTED,
        )  # fmt: skip
        return
    legend = axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.115 if kind == "wide" else 1.14), frameon=False,
        ncols=min(num, 4 if kind == "wide" else 3), handlelength=3.4 if kind == "wide" else 2.6,
        fontsize=FONT[kind], labelcolor=INK, borderaxespad=0.0, columnspacing=1.4,
    )  # fmt: skip
    legend.set_in_layout(False)


def _rung(
    axes: Axes, f: FeatureData, style: Series, y: float, kind: str, data: ReportData
) -> None:
    colour = ROLES[style.role].light
    size = FONT[kind]
    name = short(f.name, 22 if kind == "wide" else 40)
    if kind == "wide":
        axes.annotate(
            name, (0, y), (-10, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", va="center", color=INK, fontsize=size + 1,
        )  # fmt: skip
    else:
        axes.annotate(
            name, (0, y - 0.36), xycoords=("axes fraction", "data"), ha="left", va="center",
            color=INK, fontsize=size + 1,
        )  # fmt: skip
    ends = _ends(f)
    middle = None if f.window is None or f.window.midpoint is None else f.window.midpoint.t
    if ends is None or f.window is None:
        axes.annotate(
            "no window: see the table", (0.01, y), xycoords=("axes fraction", "data"), ha="left",
            va="center", color=MUTED, fontsize=size, style="italic",
        )  # fmt: skip
        return
    start, end = ends
    axes.barh(
        y, end - start, left=start, height=0.34, color=colour, alpha=0.30, linewidth=1.2,
        edgecolor=colour,
    )  # fmt: skip
    is_open = [
        f.window.start is None or f.window.start.t.value is None,
        f.window.end is None or f.window.end.t.value is None,
    ]
    for side, x, mark in ((0, start, "<"), (1, end, ">")):
        if is_open[side]:
            axes.plot(
                [x], [y], marker=mark, markersize=9, color=colour, clip_on=False, linestyle="none"
            )
    if middle is None or middle.value is None:
        return
    _middle(axes, f, style, y, size=9)
    if f.prediction is not None:
        guess = f.prediction.window.midpoint
        if guess is not None and guess.t.value is not None and guess.t.value <= data.t_max:
            _diamond(axes, guess.t.value, y - 0.28)
    axes.annotate(
        f"t = {number(middle.value)}", (middle.value, y + 0.37), ha="center", va="center",
        color=INK, fontsize=size,
    )  # fmt: skip


def _ends(f: FeatureData) -> tuple[float, float] | None:
    """Ends of the window to draw; an end outside of the levels is the last level."""
    if f.window is None or f.kept is None:
        return None
    if f.window.test is not None and not f.window.test.is_present:
        return None
    limits = [float(f.kept.t[0]), float(f.kept.t[-1])]
    ends = []
    for side, edge in ((0, f.window.start), (1, f.window.end)):
        if edge is None:
            return None
        if edge.t.value is not None:
            ends.append(edge.t.value)
        elif edge.t.reason in (ABOVE, BELOW):
            ends.append(limits[1] if edge.t.reason == ABOVE else limits[0])
        else:
            ends.append(limits[side])
    return (ends[0], ends[1]) if ends[1] > ends[0] else None


def _story(f: FeatureData) -> str:
    if f.window is None or f.kept is None:
        return f"{f.name}: no kept curve."
    first, last = float(f.kept.value[0]), float(f.kept.value[-1])
    middle = None if f.window.midpoint is None else f.window.midpoint.t
    words = f"{f.name} falls from {number(first)} to {number(last)}; midpoint {estimate(middle)}."
    if f.prediction is not None and f.prediction.window.midpoint is not None:
        words += f" Predicted midpoint {estimate(f.prediction.window.midpoint.t)}."
    return words
