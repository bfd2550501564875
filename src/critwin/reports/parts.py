"""What the page shows of one feature: figures, sentences, rows of tables."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from critwin.levels import from_logsnr
from critwin.reports import figures, panels, switching, tables
from critwin.reports.dendrogram import (
    HOW_TO_READ,
    dendrogram,
    is_drawn,
    tree_summary,
    tree_table,
)
from critwin.reports.explorer import matrices
from critwin.reports.svg import clean
from critwin.reports.wording import estimate, percent, the

if TYPE_CHECKING:
    from critwin.estimates import Edge
    from critwin.reports.data import FeatureData, ReportData

__all__ = ["feature_part"]

_MOST_FIGURES = 12  # features with figures of their own


def feature_part(
    f: FeatureData, index: int, data: ReportData, view: dict[str, Any], max_rows: int
) -> dict[str, Any]:
    """What the template shows of one feature."""
    has_figures = index < _MOST_FIGURES
    kept = figures.feature_figure(f, index, data) if has_figures and f.kept is not None else None
    has_labels = has_figures and any(x.stay is not None for x in f.labels)
    sure = percent(data.confidence)
    caption = f"Kept share of {the(f.name)} with its {sure} band; shaded: its window."
    if f.bracket is not None:
        caption += " Hatched: what the curve would be if all abstentions had been lost, or kept."
    if f.corrected is not None:
        caption += (
            " Crosses: the curve corrected for the labeller's errors, where the correction holds."
        )
    if f.prediction is not None:
        caption += " Dashed grey: predicted from the training data, with the predicted midpoint."
    return {
        "data": replace(f, name=clean(f.name)),
        "summary": _feature_summary(f),
        "prediction": [] if f.prediction is None else list(f.prediction.sentences),
        "following": _following(f, data, has_figures=has_figures),
        "kept": kept,
        "kept_caption": caption,
        "labels": panels.label_figure(f, data) if has_labels else None,
        "labels_caption": (
            "Solid with circles: stay, the share of results that keep the label. Dashed with "
            "squares: blur, how far its results are told from those of all labels (0: not at "
            f"all). Bands: {sure} intervals. Dotted: the label's share in the model's samples."
        ),
        "table": tables.label_table(f),
        **_tree(f, data, has_figures=has_figures),
        "matrix": matrices(f, view, max_rows),
        "edges": _edges(f),
        "test": _test(f),
        "pairs": _pairs(f),
        "counts": [
            f"{value:,}"
            for value in (
                f.validity.sources,
                f.validity.sources_without_label,
                f.validity.units,
                f.validity.invalid,
                f.validity.abstained,
                f.validity.counted,
            )
        ],
    }


def _following(f: FeatureData, data: ReportData, *, has_figures: bool) -> dict[str, Any] | None:
    """What a change of the condition does to the feature's labels; None for other experiments."""
    if not f.following:
        return None
    first = f.following[0]
    label = clean(first.labels[0])
    left_out = len(f.following) - switching.MOST_LINES
    more = f" {left_out} more labels are in the CSV." if left_out > 0 else ""
    return {
        "words": f"{clean(first.in_words())}.",
        "figure": switching.following_figure(f, data) if has_figures else None,
        "caption": f"Share of results with each label of {the(f.name)}, by the level at which the "
        f"condition changed, with {percent(data.confidence)} bands. The further right, the "
        f"earlier in the generation; the dashed line is one half.{more}",
        "label": label,
        "rows": switching.following_rows(first),
        "table": switching.following_table(f),
    }


def _tree(f: FeatureData, data: ReportData, *, has_figures: bool) -> dict[str, Any]:
    """The dendrogram of a feature, its sentence, its caption and its table; or nothing."""
    if f.tree is None or not has_figures:
        return {"tree": None}
    tree = f.tree
    support = ""
    if tree.num_resamples is not None:
        support = (
            f" Percentages: how often a joint comes back in {tree.num_resamples} resamples of "
            "the sources."
        )
    drawn = [g.key for g in data.features if g.tree is not None and is_drawn(g.tree)]
    is_first = drawn[:1] == [f.key]
    notes = [note for note in tree.notes if note.startswith("too few")]
    words = " ".join([tree_summary(tree), *(f"{note[:1].upper()}{note[1:]}." for note in notes)])
    drawings = None
    if is_drawn(tree):
        title = f"Tree of labels: {f.name}"
        drawings = dendrogram(tree, key=f"{f.key}-tree", t_max=data.t_max, title=title)
    return {
        "tree": words,
        "tree_figure": drawings,
        "tree_caption": (HOW_TO_READ + support) if is_first else "To be read as the tree above.",
        "tree_table": tree_table(tree, f"{f.key}-tree.csv"),
    }


def _feature_summary(f: FeatureData) -> str:
    if f.window is None or f.window.midpoint is None:
        return f"No window: {f.reason or 'unknown'}."
    middle, width = f.window.midpoint.t, None if f.window.width is None else f.window.width.t
    words = (
        f"Midpoint t = {estimate(middle)}"
        if middle.value is not None
        else (f"Midpoint: {estimate(middle)}")
    )
    if width is not None and width.value is not None:
        words += f"; its window, from kept .9 to kept .1, is {estimate(width)} wide"
    if f.chance is not None:
        words += f". By chance a label comes back in {percent(f.chance)} of results"
    return words + "."


def _edges(f: FeatureData) -> list[dict[str, Any]]:
    if f.window is None:
        return []
    names = {
        "start": "start (kept .9)",
        "midpoint": "midpoint (kept .5)",
        "end": "end (kept .1)",
        "width": "width (end − start)",
    }
    rows = []
    for name, words in names.items():
        edge: Edge | None = getattr(f.window, name)
        if edge is not None:
            rows.append({"name": words, "cells": _cells(edge, has_sigma=name != "width")})
        guess: Edge | None = None if f.prediction is None else getattr(f.prediction.window, name)
        if guess is not None:
            cells = _cells(guess, has_sigma=name != "width")
            rows.append({"name": f"{name}, predicted from the training data", "cells": cells})
    return rows


def _cells(edge: Edge, *, has_sigma: bool) -> list[str]:
    level = edge.logsnr
    sigma = "–"
    if has_sigma:

        def of(value: float | None) -> float | None:
            return None if value is None else float(from_logsnr(value, "sigma"))

        sigma = estimate(
            replace(level, value=of(level.value), low=of(level.high), high=of(level.low))
        )
    if level.value is None:  # the reason once is enough
        return [estimate(edge.t), "–", "–"]
    return [estimate(edge.t), estimate(level), sigma]


def _test(f: FeatureData) -> str:
    if f.window is None or f.window.test is None:
        return ""
    test = f.window.test
    parts = []
    for p, against in ((test.p_flat, "a flat curve"), (test.p_chance, "a featureless curve")):
        parts.append(f"against {against}: " + ("not tested" if p is None else f"p = {p:.3g}"))
    answer = "Yes" if test.is_present else f"Not established: {test.reason}"
    return f"{answer} ({'; '.join(parts)}; permutation tests, each at size {test.size:g})."


def _pairs(f: FeatureData) -> dict[str, Any]:
    """Windows of single labels, or the one reason why there are none."""
    rows: list[dict[str, str]] = []
    for label in f.labels:
        row = {"label": clean(label.label), "sources": f"{label.num_sources:,}", "reason": ""}
        edges = [] if label.window is None else [label.window.t_after, label.window.t_before]
        reasons = {e.t.reason for e in edges if e is not None and e.t.value is None}
        if not edges:
            row["reason"] = label.reason or "unknown"
        elif len(reasons) == 1 and all(e is None or e.t.value is None for e in edges):
            row["reason"] = next(iter(reasons)) or "unknown"
        else:
            row["after"], row["before"] = (estimate(None if e is None else e.t) for e in edges)
        rows.append(row)
    shared = {row["reason"] for row in rows}
    if len(rows) > 1 and len(shared) == 1 and "" not in shared:
        return {"rows": [], "reason": rows[0]["reason"]}
    return {"rows": rows, "reason": ""}
