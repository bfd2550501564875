"""The data of every figure as CSV text.

Text cells that a spreadsheet would run as a formula (they start with ``=``, ``+``, ``-`` or ``@``)
get an apostrophe in front; numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critwin.levels import from_logsnr
from critwin.reports.svg import clean

if TYPE_CHECKING:
    from critwin.estimates import Edge, Estimate
    from critwin.reports.data import FeatureData, ReportData
    from critwin.reports.gallery import Gallery
    from critwin.windows import Curve

__all__ = [
    "Table",
    "gallery_table",
    "kept_table",
    "label_table",
    "matrix_table",
    "to_csv",
    "window_table",
]

Cell = str | float | int | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """A CSV table of the page.

    Attributes:
        file: Name under which it is saved.
        text: The CSV.
        num_left_out: Rows left out to keep the page small.
    """

    file: str
    text: str
    num_left_out: int = 0


def to_csv(
    file: str, head: Sequence[str], rows: Iterable[Sequence[Cell]], *, max_rows: int | None = None
) -> Table:
    """A table as CSV.

    Args:
        file: Name of the file.
        head: Column names.
        rows: Cells; missing numbers are empty.
        max_rows: Most rows to keep.

    Returns:
        The table; floats have up to 9 significant digits.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_cell(name) for name in head])
    left_out = 0
    for number, row in enumerate(rows):
        if max_rows is not None and number >= max_rows:
            left_out += 1
            continue
        writer.writerow([_cell(value) for value in row])
    return Table(file=file, text=buffer.getvalue(), num_left_out=left_out)


def kept_table(features: Sequence[FeatureData]) -> Table:
    """Kept shares of all features with their intervals."""
    head = (
        "feature", "t", "logsnr", "sigma", "kept", "low", "high",
        "kept_if_abstentions_lost", "kept_if_abstentions_kept", "kept_corrected",
    )  # fmt: skip

    def rows() -> Iterable[list[Cell]]:
        for f in features:
            if f.kept is None:
                continue
            for k in range(len(f.kept.t)):
                ends: list[Cell] = [None, None]
                if f.bracket is not None:
                    ends = [_value_at(curve, float(f.kept.logsnr[k])) for curve in f.bracket]
                fixed = None
                if f.corrected is not None and len(f.corrected) == len(f.kept.t):
                    fixed = float(f.corrected[k])
                yield [f.name, *_axis(f.kept.logsnr[k]), *_point(f.kept, k), *ends, fixed]

    return to_csv("kept.csv", head, rows())


def label_table(f: FeatureData) -> Table:
    """Stay and blur of every drawn label of a feature."""
    head = ("label", "quantity", "t", "logsnr", "sigma", "value", "low", "high")

    def rows() -> Iterable[list[Cell]]:
        for label in f.labels:
            for name, curve in (("stay", label.stay), ("blur", label.blur)):
                if curve is None:
                    continue
                for k in range(len(curve.t)):
                    yield [label.label, name, *_axis(curve.logsnr[k]), *_point(curve, k)]

    return to_csv(f"{f.key}-labels.csv", head, rows())


def matrix_table(f: FeatureData, *, max_rows: int | None = None) -> Table:
    """Transition probabilities in long form, with the counts they come from."""
    head = ("t", "logsnr", "sigma", "before", "after", "probability", "results")
    tr = f.transitions

    def rows() -> Iterable[list[Cell]]:
        if tr is None:
            return
        counts = None
        if tr.counts is not None and tr.source_before is not None:
            one_hot = (tr.source_before[:, None] == np.arange(len(tr.before))).astype(np.int64)
            counts = np.einsum("si,slj->lij", one_hot, tr.counts)
        for k, level in enumerate(tr.logsnr):
            for i, before in enumerate(tr.before):
                for j, after in enumerate(tr.after):
                    number = None if counts is None else int(counts[k, i, j])
                    yield [*_axis(level), before, after, float(tr.probs[k, i, j]), number]

    return to_csv(f"{f.key}-matrices.csv", head, rows(), max_rows=max_rows)


def window_table(data: ReportData) -> Table:
    """Every edge of every window in all three coordinates.

    Args:
        data: What was computed for the report.

    Returns:
        The table. Beside every missing number stands why it is missing: ``reason`` is about the
        value, ``low_reason`` about ``t_low``, ``high_reason`` about ``t_high`` and about the same
        limit in the other coordinates.
    """
    head = (
        "feature", "labels", "criterion", "edge", "t", "t_low", "t_high",
        "logsnr", "logsnr_low", "logsnr_high", "sigma", "sigma_low", "sigma_high",
        "confidence", "reason", "low_reason", "high_reason",
    )  # fmt: skip

    def row(feature: str, labels: str, criterion: str, name: str, edge: Edge) -> list[Cell]:
        t, s = edge.t, edge.logsnr
        sigma: list[Cell] = [None, None, None]
        if name != "width":
            sigma = [
                None if x is None else float(from_logsnr(x, "sigma"))
                for x in (s.value, s.high, s.low)
            ]
        return [
            feature, labels, criterion, name, t.value, t.low, t.high,
            s.value, s.low, s.high, *sigma, t.confidence, *_reasons(t),
        ]  # fmt: skip

    def rows() -> Iterable[list[Cell]]:
        for f in data.features:
            if f.window is not None:
                for name in ("midpoint", "width", "start", "end"):
                    if (edge := getattr(f.window, name)) is not None:
                        yield row(f.name, "", "kept", name, edge)
            if f.prediction is not None:
                for name in ("midpoint", "width", "start", "end"):
                    if (edge := getattr(f.prediction.window, name)) is not None:
                        yield row(f.name, "", "kept, predicted", name, edge)
            for label in f.labels:
                if label.window is None:
                    continue
                for name in ("t_after", "t_before"):
                    if (edge := getattr(label.window, name)) is not None:
                        yield row(f.name, label.label, "operational", name, edge)

    return to_csv("windows.csv", head, rows())


def _reasons(estimate: Estimate) -> list[Cell]:
    """Why the value, its lower limit and its upper limit are missing."""
    why = estimate.reason
    other = why or "not measured"

    def of(limit: float | None, reason: str | None) -> str | None:
        return (reason or other) if limit is None or not math.isfinite(limit) else None

    return [
        of(estimate.value, why),
        of(estimate.low, estimate.low_reason),
        of(estimate.high, estimate.high_reason),
    ]


def gallery_table(gallery: Gallery, *, max_rows: int | None = None) -> Table:
    """Labels of the gallery's sources and of what they became."""
    head = (
        "source", "source_condition", "reversal_condition", "feature", "t", "logsnr", "sigma",
        "before", "after",
    )  # fmt: skip

    def rows() -> Iterable[list[Cell]]:
        for source in gallery.rows:
            for name, labels in gallery.labels.items():
                for k, level in enumerate(gallery.levels):
                    ends = [
                        _label(labels, source.before[name]),
                        _label(labels, int(source.after[name][k])),
                    ]
                    conditions = [source.source_condition, source.condition]
                    yield [source.name, *conditions, name, *_axis(level), *ends]

    return to_csv("gallery.csv", head, rows(), max_rows=max_rows)


def _label(labels: Sequence[str], index: int) -> str:
    marks = {-1: "(abstained)", -2: "(invalid)", -3: "(not measured)"}
    return labels[index] if index >= 0 else marks[index]


def _axis(logsnr: float) -> list[Cell]:
    level = float(logsnr)
    return [float(from_logsnr(level, "t")), level, float(from_logsnr(level, "sigma"))]


def _point(curve: Curve, k: int) -> list[Cell]:
    return [float(curve.value[k]), float(curve.low[k]), float(curve.high[k])]


def _value_at(curve: Curve, logsnr: float) -> float | None:
    where = np.flatnonzero(np.isclose(curve.logsnr, logsnr, rtol=0, atol=1e-9))
    return float(curve.value[where[0]]) if len(where) else None


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.9g}" if math.isfinite(value) else ""
    text = clean(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
