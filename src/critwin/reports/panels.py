"""Small multiples: stay and blur of every label of a feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from critwin.reports._axes import FONT, INK, MUTED, SIZES, plain_axes, round_ticks, short
from critwin.reports.palette import ROLES, SERIES, Series
from critwin.reports.svg import drawing, new_figure, to_svg
from critwin.reports.wording import number, the

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from critwin.reports.data import FeatureData, LabelData, ReportData

__all__ = ["label_figure"]


def label_figure(f: FeatureData, data: ReportData) -> dict[str, str]:
    """Small multiples: stay and blur of every label of a feature."""
    stay, blur = SERIES[0], SERIES[1]
    labels = f.labels
    desc = (
        f"One panel for each of {len(labels)} labels of {the(f.name)}. A solid line with circles "
        "is stay, the share of results that keep the label; a dashed line with squares is blur, "
        "the distance of the law of its results from that of all labels. "
        + " ".join(_label_story(label) for label in labels)
    )

    def draw(kind: str) -> str:
        columns = min(len(labels), 4 if kind == "wide" else 2)
        lines = -(-len(labels) // columns)
        gap_x, gap_y, left, right, top, bottom = 16.0, 34.0, 40.0, 10.0, 26.0, 48.0
        width = (SIZES[kind] - left - right - gap_x * (columns - 1)) / columns
        if kind == "wide":
            width = min(width, 300.0)
        tall = 118.0
        height = top + bottom + lines * tall + (lines - 1) * gap_y
        with drawing():
            figure = new_figure(SIZES[kind], height)
            for k, label in enumerate(labels):
                row, column = divmod(k, columns)
                x = left + column * (width + gap_x)
                y = height - top - row * (tall + gap_y) - tall
                axes = figure.add_axes(
                    (x / SIZES[kind], y / height, width / SIZES[kind], tall / height)
                )
                plain_axes(axes, kind)
                axes.set_xlim(0, data.t_max)
                axes.set_ylim(-0.12, 1.06)
                axes.set_yticks([0, 0.5, 1], ["0", "½", "1"] if column == 0 else ["", "", ""])
                axes.set_xticks(round_ticks(data.t_max, 3 if kind == "narrow" else 4))
                is_last = k + columns >= len(labels)
                if not is_last:
                    axes.tick_params(labelbottom=False)
                else:
                    axes.set_xlabel("OU time t", color=MUTED, fontsize=FONT[kind] - 1)
                axes.set_title(
                    short(label.label, 26), fontsize=FONT[kind], color=INK, loc="left", pad=4
                )
                _label_panel(axes, label, stay, blur)
            return to_svg(
                figure, key=f"{f.key}-labels-{kind}", title=f"Stay and blur: {f.name}", desc=desc
            )

    return {kind: draw(kind) for kind in SIZES}


def _label_panel(axes: Axes, label: LabelData, stay: Series, blur: Series) -> None:
    if label.weight is not None:
        axes.axhline(label.weight, color=MUTED, linewidth=0.9, dashes=(1, 2))
    for curve, style in ((label.blur, blur), (label.stay, stay)):
        if curve is None:
            continue
        axes.fill_between(
            curve.t, curve.low, curve.high, color=ROLES[style.role].light, alpha=0.20, linewidth=0
        )
        options: dict[str, Any] = {"dashes": style.dashes} if style.dashes else {}
        axes.plot(
            curve.t, curve.value, color=ROLES[style.role].light, linewidth=1.5,
            marker=style.marker, markersize=2.8, **options,
        )  # fmt: skip
    if label.stay is None and label.blur is None:
        axes.text(0.5, 0.5, "too few sources", transform=axes.transAxes, ha="center", color=MUTED)


def _label_story(label: LabelData) -> str:
    if label.stay is None:
        return f"{label.label}: too few sources."
    first, last = float(label.stay.value[0]), float(label.stay.value[-1])
    return f"{label.label}: stay falls from {number(first)} to {number(last)}."
