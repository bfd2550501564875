"""What a change of the condition on the way does: shares by the level of the change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.levels import from_logsnr
from critwin.reports._axes import FONT, INK, MUTED, SIZES, box, noise_axis, short
from critwin.reports.palette import ROLES, series
from critwin.reports.svg import clean, drawing, new_figure, to_svg
from critwin.reports.tables import Table, to_csv
from critwin.reports.wording import number, the

if TYPE_CHECKING:
    from collections.abc import Iterable

    from critwin.experiments.switches import Following
    from critwin.reports.data import FeatureData, ReportData
    from critwin.reports.tables import Cell

__all__ = ["MOST_LINES", "following_figure", "following_rows", "following_table"]

MOST_LINES = 6
"""Labels that are drawn, those that gain most first."""


def following_figure(f: FeatureData, data: ReportData) -> dict[str, str]:
    """Shares of results with each label against the level at which the condition changes.

    Args:
        f: A feature with curves of a switch.
        data: The report, for its axis.

    Returns:
        A wide and a narrow drawing.
    """
    shown = list(f.following[:MOST_LINES])
    story = " ".join(
        f"{curve.labels[0]}: from {number(float(curve.share[0]))} to "
        f"{number(float(curve.share[-1]))}."
        for curve in shown
    )
    desc = (
        f"Share of results with each label of {the(f.name)} against the OU time at which the "
        f"condition was changed. The further right, the earlier the change. {story}"
    )

    def draw(kind: str) -> str:
        height = 330.0
        with drawing():
            figure = new_figure(SIZES[kind], height)
            axes = figure.add_axes(box(kind, height, left=62, right=14, top=68, bottom=58))
            noise_axis(axes, data, kind)
            axes.set_ylim(-0.04, 1.04)
            axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
            axes.axhline(0.5, color=MUTED, linewidth=0.9, dashes=(2, 2))
            axes.set_ylabel("share of results", color=INK, fontsize=FONT[kind], labelpad=4)
            for k, curve in enumerate(shown):
                style = series(k)
                colour = ROLES[style.role].light
                axes.fill_between(
                    curve.t, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0
                )
                options: dict[str, Any] = {"dashes": style.dashes} if style.dashes else {}
                axes.plot(
                    curve.t, curve.share, color=colour, linewidth=1.8, marker=style.marker,
                    markersize=4, label=short(curve.labels[0], 24), **options,
                )  # fmt: skip
            legend = axes.legend(
                loc="lower left", bbox_to_anchor=(-0.02, 1.14 if kind == "wide" else 1.17),
                frameon=False, ncols=3 if kind == "wide" else 2, fontsize=FONT[kind],
                labelcolor=INK, borderaxespad=0.0, columnspacing=1.4, handlelength=2.6,
            )  # fmt: skip
            legend.set_in_layout(False)
            return to_svg(
                figure,
                key=f"{f.key}-following-{kind}",
                title=f"What follows the change: {f.name}",
                desc=desc,
            )

    return {kind: draw(kind) for kind in SIZES}


def following_rows(curve: Following) -> list[list[str]]:
    """A row a level: t, the share with its interval, sources.

    Args:
        curve: The curve of a label.

    Returns:
        Text.
    """
    rows = []
    for k, t in enumerate(curve.t.tolist()):
        limits = ""
        if np.isfinite(curve.low[k]):
            limits = f" ({number(float(curve.low[k]))} to {number(float(curve.high[k]))})"
        rows.append(
            [number(t), number(float(curve.share[k])) + limits, f"{curve.num_sources[k]:,}"]
        )
    return rows


def following_table(f: FeatureData) -> Table:
    """The curves of all labels.

    Args:
        f: A feature with curves of a switch.

    Returns:
        The table.
    """
    head = ("label", "t", "logsnr", "sigma", "share", "low", "high", "sources", "abstained",
            "invalid")  # fmt: skip

    def rows() -> Iterable[list[Cell]]:
        for curve in f.following:
            for k, level in enumerate(curve.logsnr.tolist()):
                yield [
                    clean(curve.labels[0]), float(from_logsnr(level, "t")), level,
                    float(from_logsnr(level, "sigma")), float(curve.share[k]),
                    float(curve.low[k]), float(curve.high[k]), int(curve.num_sources[k]),
                    int(curve.num_abstained[k]), int(curve.num_invalid[k]),
                ]  # fmt: skip

    return to_csv(f"{f.key}-following.csv", head, rows())
