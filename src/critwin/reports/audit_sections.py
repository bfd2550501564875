"""Sections that audits kept in a run folder, as parts of the page; nothing here computes.

A section is data: text that the template escapes, figures that are drawn here, tables that become
CSV. The images of thumbnails must be PNG, and are left out where they are not.
"""

from __future__ import annotations

import base64
import binascii
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.audits.section import Figure, Section, load_all
from critwin.errors import RunFolderError
from critwin.reports._axes import FONT, INK, MUTED, SIZES, box, noise_axis, plain_axes, short
from critwin.reports.palette import ROLES, series
from critwin.reports.svg import clean, drawing, new_figure, to_svg
from critwin.reports.tables import to_csv
from critwin.reports.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from critwin.audits.section import Series

__all__ = ["AuditPart", "audit_parts", "draw_figure", "load_parts"]

_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_ROWS = 12
_MOST_BARS = 40
_MOST_IMAGES = 240
_TIME = re.compile(r"(?:^|\s)t$")


@dataclass(frozen=True, kw_only=True)
class AuditPart:
    """A section and whether it still speaks of what the folder holds.

    Attributes:
        key: Its name in the page.
        section: The section.
        is_stale: Whether more has been measured since.
    """

    key: str
    section: Section
    is_stale: bool = False


@dataclass(frozen=True)
class _Span:
    """How far a noise axis reaches."""

    t_max: float


def load_parts(run_folder: Path, digest: str) -> tuple[tuple[AuditPart, ...], tuple[str, ...]]:
    """The sections of a run folder.

    Args:
        run_folder: The run folder.
        digest: Digest of its records now.

    Returns:
        The parts, and a note where they could not be read.
    """
    try:
        found = load_all(run_folder)
    except RunFolderError as error:
        return (), (f"Sections of audits could not be read: {error}.",)
    parts = tuple(
        AuditPart(
            key=f"audit-{name}",
            section=content["section"],
            is_stale=content.get("ledger_digest") != digest,
        )
        for name, content in found.items()
    )
    return parts, ()


def audit_parts(
    parts: Sequence[AuditPart], *, max_rows: int | None = None
) -> list[dict[str, Any]]:
    """What the template shows of sections.

    Args:
        parts: The sections.
        max_rows: Most rows of a table's CSV.

    Returns:
        One dictionary a section: text, drawings, tables.
    """
    return [_part(part, index, max_rows) for index, part in enumerate(parts)]


def _part(part: AuditPart, index: int, max_rows: int | None) -> dict[str, Any]:
    section = part.section
    key = f"a{index}"
    figures = []
    for k, figure in enumerate(section.figures):
        drawn = draw_figure(figure, key=f"{key}-{k}")
        images = _thumbnails(figure)
        if drawn or images:
            caption = " ".join(
                text for text in (figure.title.rstrip(".") + ".", figure.note) if text
            )
            figures.append({"drawings": drawn, "images": images, "caption": clean(caption)})
    tables = []
    for table in section.tables:
        rows = [[_cell(value) for value in row] for row in table.rows[:_MOST_ROWS]]
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", table.name)[:60] or "table"
        tables.append(
            {
                "name": clean(table.name.replace("-", " ")),
                "columns": [clean(column) for column in table.columns],
                "rows": rows,
                "note": clean(table.note),
                "num_more": max(len(table.rows) - _MOST_ROWS, 0),
                "csv": to_csv(f"{name}.csv", table.columns, table.rows, max_rows=max_rows),
            }
        )
    return {
        "key": key,
        "title": clean(section.title),
        "question": clean(section.question),
        "answer": clean(section.answer),
        "details": [clean(text) for text in section.details],
        "limits": [clean(text) for text in section.limits],
        "rerun": clean(section.rerun),
        "is_stale": part.is_stale,
        "figures": figures,
        "tables": tables,
    }


def draw_figure(figure: Figure, *, key: str) -> dict[str, str] | None:
    """A figure as SVG, wide and narrow.

    Args:
        figure: Curves, bars or flows.
        key: Prefix of its ids.

    Returns:
        The drawings; None for thumbnails, and where there is nothing to draw.
    """
    draw = {"curves": _curves, "bars": _bars, "flow": _flow}.get(figure.kind)
    if draw is None or not any(_numbers(s.y).size for s in figure.series):
        return None
    desc = f"{figure.title}. " + " ".join(_story(s) for s in figure.series)

    def one(kind: str) -> str:
        entries = len(figure.series)
        height = 320.0 + (18.0 * entries if kind == "narrow" else 18.0 * -(-entries // 3))
        with drawing():
            canvas = new_figure(SIZES[kind], height)
            top = 46.0 + (18.0 * entries if kind == "narrow" else 18.0 * -(-entries // 3))
            axes = canvas.add_axes(box(kind, height, left=62, right=14, top=top, bottom=58))
            draw(axes, figure, kind)
            if figure.y:
                axes.set_ylabel(short(figure.y, 40), color=MUTED, fontsize=FONT[kind] - 1)
            legend = axes.legend(
                loc="lower left",
                bbox_to_anchor=(0.0, 1.02 if not _is_noise(figure) else 1.16),
                ncols=1 if kind == "narrow" else 3,
                frameon=False,
                fontsize=FONT[kind] - 1,
                labelcolor=INK,
                handlelength=3.2,
                borderaxespad=0.0,
            )
            legend.set_in_layout(False)
            return to_svg(canvas, key=f"{key}-{kind}", title=figure.title, desc=desc)

    return {kind: one(kind) for kind in SIZES}


def _curves(axes: Axes, figure: Figure, kind: str) -> None:
    last = max(float(np.nanmax(_numbers(s.x), initial=0.0)) for s in figure.series)
    if _is_noise(figure):
        noise_axis(axes, _Span(1.03 * last or 1.0), kind)
    else:
        plain_axes(axes, kind)
        axes.set_xlabel(short(figure.x, 40), color=MUTED, fontsize=FONT[kind])
    for name, low, high in figure.spans:
        axes.axvspan(low, high, color=ROLES["c0"].light, alpha=0.12, linewidth=0)
        if low == high:
            axes.axvline(low, color=ROLES["c0"].light, alpha=0.35, linewidth=4)
        axes.annotate(
            short(name, 24), ((low + high) / 2, 0.0), (0, 3),
            xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="center", va="bottom", color=MUTED, fontsize=FONT[kind] - 2,
        )  # fmt: skip
    for index, own in enumerate(figure.series):
        style = series(index)
        colour = ROLES[style.role].light
        x, y = _pair(own.x, own.y)
        if own.low and own.high:
            under, over = (np.array([np.nan if v is None else v for v in side], dtype=float)
                           for side in (own.low, own.high))  # fmt: skip
            axes.fill_between(x, under, over, color=colour, alpha=0.16, linewidth=0)
        options: dict[str, Any] = {"dashes": style.dashes} if style.dashes else {}
        axes.plot(
            x, y, color=colour, linewidth=1.6, marker=style.marker, markersize=3.6,
            label=short(own.name, 40), **options,
        )  # fmt: skip
    values = np.concatenate([_numbers(v) for s in figure.series for v in (s.y, s.low, s.high)])
    if values.min() >= 0 and values.max() <= 1:
        axes.set_ylim(-0.03, 1.03)


def _bars(axes: Axes, figure: Figure, kind: str) -> None:
    plain_axes(axes, kind)
    names = list(dict.fromkeys(str(name) for s in figure.series for name in s.x))[:_MOST_BARS]
    count = len(figure.series)
    width = 0.8 / count
    for index, own in enumerate(figure.series):
        colour = ROLES[series(index).role].light
        at = {str(name): k for k, name in enumerate(own.x)}
        rows = [k for k, name in enumerate(names) if name in at and own.y[at[name]] is not None]
        place = np.array(rows, dtype=float) + (index - (count - 1) / 2) * width
        value = np.array([own.y[at[names[k]]] for k in rows], dtype=float)
        axes.bar(place, value, width=0.92 * width, color=colour, label=short(own.name, 40))
        for x, k, middle in zip(place, rows, value, strict=True):
            low, high = (side[at[names[k]]] if side else None for side in (own.low, own.high))
            if low is not None and high is not None:
                axes.plot([x, x], [low, high], color=INK, linewidth=1.2)
                axes.plot(x, middle, color=INK, marker="_", markersize=5)
    axes.set_xticks(range(len(names)), [_wrapped(name, kind) for name in names])
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(short(figure.x, 40), color=MUTED, fontsize=FONT[kind])
    axes.axhline(0, color=MUTED, linewidth=0.8)


def _wrapped(name: str, kind: str) -> str:
    """A name in up to three short lines."""
    lines = textwrap.wrap(clean(name), 10 if kind == "narrow" else 16) or [""]
    return "\n".join([*lines[:2], short(" ".join(lines[2:]), 12)] if len(lines) > 2 else lines)


def _flow(axes: Axes, figure: Figure, kind: str) -> None:
    """Shares that make a whole at every level, one upon the other."""
    x = np.array(figure.series[0].x, dtype=float)
    if _is_noise(figure):
        noise_axis(axes, _Span(1.03 * float(x.max())), kind)
    else:
        plain_axes(axes, kind)
        axes.set_xlabel(short(figure.x, 40), color=MUTED, fontsize=FONT[kind])
    floor = np.zeros(len(x))
    for index, own in enumerate(figure.series):
        style = series(index)
        height = np.array([0.0 if v is None else v for v in own.y], dtype=float)
        axes.fill_between(
            x, floor, floor + height, facecolor=ROLES[style.role].light, alpha=0.55,
            edgecolor=INK, linewidth=0.8, label=short(own.name, 40),
        )  # fmt: skip
        floor = floor + height


def _is_noise(figure: Figure) -> bool:
    """Whether the horizontal axis is OU time."""
    return figure.kind != "bars" and _TIME.search(figure.x) is not None


def _numbers(values: Sequence[Any]) -> Any:
    own = [float(v) for v in values if isinstance(v, int | float) and np.isfinite(v)]
    return np.array(own, dtype=np.float64)


def _pair(x: Sequence[Any], y: Sequence[Any]) -> tuple[Any, Any]:
    """Both as numbers, gaps as NaN."""
    table = [(np.nan if a is None else float(a), np.nan if b is None else float(b))
             for a, b in zip(x, y, strict=True)]  # fmt: skip
    both = np.array(table, dtype=np.float64)
    return both[:, 0], both[:, 1]


def _story(own: Series) -> str:
    values = _numbers(own.y)
    if not values.size:
        return f"{own.name}: no values."
    return f"{own.name}: from {number(float(values[0]))} to {number(float(values[-1]))}."


def _thumbnails(figure: Figure) -> list[dict[str, Any]]:
    rows, left = [], _MOST_IMAGES
    for caption, files in figure.images if figure.kind == "thumbnails" else ():
        shown = [uri for uri in map(_uri, files[:left]) if uri is not None]
        left -= len(shown)
        if shown:
            rows.append({"caption": clean(caption), "files": shown})
    return rows


def _uri(text: str) -> str | None:
    """A data URI, if the text is a PNG in base64 and nothing else."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if not data.startswith(_PNG):
        return None
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return clean(value)
    if isinstance(value, int):
        return f"{value:,}"
    return number(float(value), digits=3) if isinstance(value, float) else clean(value)
