"""What the slider moves: levels, gallery cards, transition matrices, and the script's data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.levels import from_logsnr
from critwin.reports import tables
from critwin.reports.svg import clean
from critwin.reports.wording import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from critwin.reports.data import FeatureData, ReportData
    from critwin.reports.gallery import Gallery

__all__ = ["explorer", "matrices", "payload", "share_text"]

_MOST_LEVELS = 24
_MOST_COLUMNS = 12  # labels of a matrix; the rest is summed up in one more column
_MARKS = {-1: "?", -2: "×", -3: "–"}


def explorer(data: ReportData) -> dict[str, Any]:
    """Levels of the slider and the rows of the gallery."""
    gallery = data.gallery
    levels = data.levels if gallery is None else gallery.levels
    if len(levels) > _MOST_LEVELS:
        pick = np.unique(np.round(np.linspace(0, len(levels) - 1, _MOST_LEVELS)).astype(np.int64))
        levels = levels[pick]
    words = []
    for level in levels.tolist():
        t, sigma = (float(from_logsnr(level, unit)) for unit in ("t", "sigma"))
        words.append(
            {
                "logsnr": level,
                "text": f"t = {number(t)} · log-SNR {number(level, digits=1)} · sigma {sigma:.3g}",
                "short": number(t),
            }
        )
    middles = [
        f.window.midpoint.logsnr.value
        for f in data.features
        if f.window is not None
        and f.window.midpoint is not None
        and f.window.midpoint.logsnr.value is not None
    ]
    start = len(words) // 2
    if middles:
        start = int(np.argmin(np.abs(levels - float(np.median(middles)))))
    names = list(dict.fromkeys(f.feature for f in data.features))
    return {
        "levels": words,
        "logsnr": levels,
        "start": start,
        "rows": []
        if gallery is None
        else [_row(gallery, k, names) for k in range(len(gallery.rows))],
        "names": names,
    }


def matrices(f: FeatureData, view: dict[str, Any], max_rows: int) -> dict[str, Any] | None:
    """Tables of transition probabilities at the levels of the slider."""
    tr = f.transitions
    if tr is None:
        return None
    order = list(range(len(tr.before)))
    if len(tr.after) > _MOST_COLUMNS:
        rank = np.zeros(len(order)) if tr.weights is None else tr.weights
        order = sorted(np.argsort(-rank, kind="stable")[: _MOST_COLUMNS - 1].tolist())
        columns = [int(tr.before_in_after[i]) for i in order]
    else:
        columns = list(range(len(tr.after)))
    is_cut = len(columns) < len(tr.after)
    values: list[list[list[int | None]]] = []
    for level in view["logsnr"].tolist():
        where = np.flatnonzero(np.isclose(tr.logsnr, level, rtol=0, atol=1e-9))
        block: list[list[int | None]] = []
        for i in order:
            row = tr.probs[where[0], i] if len(where) else np.full(len(tr.after), np.nan)
            cells = [row[j] for j in columns]
            if is_cut:
                cells.append(row.sum() - sum(cells))
            block.append([None if np.isnan(c) else round(1000 * float(c)) for c in cells])
        values.append(block)
    before = [clean(tr.before[i]) for i in order]
    after = [clean(tr.after[j]) for j in columns] + (["(others)"] if is_cut else [])

    sources: dict[str, int] = {}
    if tr.source_before is not None:
        number_of = np.bincount(tr.source_before, minlength=len(tr.before)).tolist()
        sources = {name: number_of[i] for name, i in zip(before, order, strict=True)}

    def table(k: int) -> dict[str, Any]:
        return {
            "caption": view["levels"][k]["text"],
            "after": after,
            "rows": [
                {
                    "label": name,
                    "sources": sources.get(name),
                    "cells": [_heat(cell, after[j] == name) for j, cell in row],
                }
                for name, row in (
                    (b, list(enumerate(r))) for b, r in zip(before, values[k], strict=True)
                )
            ],
        }

    note = ""
    if is_cut:
        note = f"{len(before)} of {len(tr.before)} labels are shown; the CSV has all of them."
    return {
        "now": table(view["start"]),
        "still": [table(k) for k in _still_levels(f, view)],
        "values": values,
        "is_broad": len(after) > 6,
        "note": note,
        "table": tables.matrix_table(f, max_rows=max_rows),
    }


def payload(data: ReportData, view: dict[str, Any], parts: Sequence[dict[str, Any]]) -> str:
    """What the script needs, as JSON that cannot end the script element."""
    gallery = data.gallery
    content = {
        "levels": [{"text": level["text"]} for level in view["levels"]],
        "features": []
        if gallery is None
        else [
            {"name": clean(name), "labels": [clean(label) for label in gallery.labels[name]]}
            for name in view["names"]
        ],
        "rows": []
        if gallery is None
        else [
            [
                {"before": row.before[name], "after": row.after[name].tolist()}
                for name in view["names"]
            ]
            for row in gallery.rows
        ],
        "matrices": [
            {"values": part["matrix"]["values"]} for part in parts if part["matrix"] is not None
        ],
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def share_text(value: int) -> str:
    """A share in thousandths as the matrices show it: ``0``, ``.13``, ``1``.

    Args:
        value: 0 to 1000.

    Returns:
        Two decimals without the leading zero; ``0`` and ``1`` only where they are exact.
    """
    if value in (0, 1000):
        return "0" if value == 0 else "1"
    return f"{min(max(value / 1000, 0.01), 0.99):.2f}".removeprefix("0")


def _row(gallery: Gallery, number_: int, names: Sequence[str]) -> dict[str, Any]:
    row = gallery.rows[number_]
    lines = []
    for name in names:
        labels = gallery.labels[name]
        own = row.before[name]
        lines.append(
            {
                "feature": clean(name),
                "before": _word(labels, own),
                "cells": [
                    {"text": _word(labels, int(k)), "changed": own >= 0 and k >= 0 and k != own}
                    for k in row.after[name]
                ],
            }
        )
    return {
        "name": clean(row.name),
        "condition": _condition(row.condition),
        "source_condition": _condition(
            row.condition if row.source_condition is None else row.source_condition
        ),
        "strip": row.strip,
        "lines": lines,
        "alt": f"Source {clean(row.name)} and its results at {len(gallery.levels)} noise levels, "
        "noise growing to the right; the labels are in the table",
    }


def _condition(name: str) -> str:
    return f"“{clean(name)}”" if name else "no condition"


def _word(labels: Sequence[str], index: int) -> str:
    return clean(labels[index]) if index >= 0 else _MARKS[index]


def _heat(value: int | None, is_same: bool) -> dict[str, str]:
    if value is None:
        return {"kind": "none", "share": "0", "text": "–"}
    return {
        "kind": "same" if is_same else "",
        "share": f"{value / 1000:g}",
        "text": share_text(value),
    }


def _still_levels(f: FeatureData, view: dict[str, Any]) -> list[int]:
    """Three levels for print: before, in and after the window."""
    levels = view["logsnr"]
    last = len(levels) - 1
    chosen = [last // 4, last // 2, 3 * last // 4]
    if f.window is not None:
        for place, edge in enumerate((f.window.start, f.window.midpoint, f.window.end)):
            if edge is not None and edge.logsnr.value is not None:
                chosen[place] = int(np.argmin(np.abs(levels - edge.logsnr.value)))
    return sorted(set(chosen))
