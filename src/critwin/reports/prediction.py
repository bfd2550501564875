"""Beside each measured window, the window that the model's training data predict.

A perfect denoiser of the training data would decide a feature where the data, taken as a mixture
of points, decide it. The prediction leaves the source out of the posterior: a model that has
learned the law rather than the samples cannot recognise its source either. What a model does
differently is the finding; the words below are made from the two windows alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError
from critwin.estimates import Edge, difference
from critwin.levels import grid
from critwin.reports.wording import estimate, interval, number, percent, the
from critwin.windows import CriticalWindow, Curve, critical_window, curve_with_intervals

if TYPE_CHECKING:
    from critwin.records import Records
    from critwin.reports.data import FeatureData, ReportData
    from critwin.transitions import Transitions

__all__ = ["Prediction", "compare", "with_predictions"]

NUM_QUERIES = 1000
"""Training samples noised: more of them make the report wait."""

_NUM_LEVELS = 24
_LOWEST = 0.05  # OU time from which predicted curves are drawn


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction:
    """What the training data say of one feature.

    Attributes:
        window: The predicted window of ``kept``, estimated.
        kept: The predicted curve.
        gap: Measured midpoint less the predicted one, or None where one is missing.
        sentences: The comparison in words.
    """

    window: CriticalWindow
    kept: Curve
    gap: Edge | None
    sentences: tuple[str, ...]


def with_predictions(
    data: ReportData, records: Records, options: Mapping[str, Any] | None = None
) -> ReportData:
    """Add predictions where the model's training data are known.

    Args:
        data: A report.
        records: The records it is made from.
        options: Options of the model, from the experiment file.

    Returns:
        The report; features without a prediction are unchanged. Nothing is predicted for results
        denoised under a condition, whose law is not that of the training data.
    """
    from critwin.models.training import training_data

    model = records.attrs.get("model")
    names = [f.feature for f in data.features if f.transitions is not None]
    if not names or not isinstance(model, str) or "model_fingerprint" not in records.attrs:
        return data
    if np.any(records.condition != ""):
        return data
    known = training_data(model, list(dict.fromkeys(names)), options)
    if known is None:
        return data
    labels = {
        name: column
        for name, column in known.labels.items()
        if any(_has_labels(f, column) for f in data.features if f.feature == name)
    }
    if not labels:
        return data
    tables, reason = _tables(known.points, labels, known.weights, data.levels_t)
    features = [
        f
        if f.feature not in tables
        else replace(f, prediction=_prediction(f, tables[f.feature], data.confidence))
        for f in data.features
    ]
    if reason is not None:
        return replace(data, notes=(*data.notes, f"No window is predicted: {reason}."))
    used = next(iter(tables.values()))
    note = (
        f"Predicted windows: the {used.attrs['num_points']:,} training samples as a mixture of "
        "points, weighted by how often they were shown, the source left out of the posterior "
        f"({used.attrs['num_queries']:,} of them noised; their intervals are those of this "
        "drawing). They say what a perfect denoiser of the data would do that must not return "
        "the source itself."
    )
    return replace(data, features=tuple(features), notes=(*data.notes, note))


def _has_labels(f: FeatureData, column: Any) -> bool:
    return f.transitions is not None and set(column.tolist()) == set(f.transitions.before)


def _tables(
    points: Any, labels: Mapping[str, Any], weights: Any, times: Any
) -> tuple[dict[str, Transitions], str | None]:
    from critwin.theory.datasets import dataset_transitions

    low, high = min(_LOWEST, float(times[0])), max(float(times[-1]), 2 * _LOWEST)
    try:
        found = dataset_transitions(
            points,
            labels,
            grid(low, high, _NUM_LEVELS),
            weights=weights,
            leave_one_out=True,
            num_queries=NUM_QUERIES,
        )
    except InputError as error:
        return {}, str(error)
    return found, None


def _prediction(f: FeatureData, tr: Transitions, confidence: float) -> Prediction | None:
    try:
        window = critical_window(tr, confidence=confidence)
        kept = curve_with_intervals(tr, "kept", confidence=confidence)
    except InputError:
        return None
    gap, sentences = compare(f.feature, f.window, window, confidence)
    return Prediction(window=window, kept=kept, gap=gap, sentences=sentences)


def compare(
    feature: str, measured: CriticalWindow | None, predicted: CriticalWindow, confidence: float
) -> tuple[Edge | None, tuple[str, ...]]:
    """Measured and predicted midpoint in words.

    Args:
        feature: Name of the feature.
        measured: Its measured window, or None.
        predicted: Its predicted window.
        confidence: Of the intervals.

    Returns:
        Measured less predicted, and sentences that say no more than the intervals do.
    """
    guess = None if predicted.midpoint is None else predicted.midpoint.t
    if predicted.midpoint is None or guess is None or guess.value is None:
        why = "unknown" if guess is None else guess.reason
        return None, (f"The training data predict no midpoint of {the(feature)}: {why}.",)
    first = f"The training data predict the midpoint t = {number(guess.value)} ({interval(guess)})"
    middle = None if measured is None or measured.midpoint is None else measured.midpoint.t
    if measured is None or measured.midpoint is None or middle is None or middle.value is None:
        why = "there is no measured one" if middle is None else f"measured: {estimate(middle)}"
        return None, (f"{first}; {why}.",)
    gap = difference(predicted.midpoint, measured.midpoint, 0.0, confidence)
    size = gap.t
    assert size.value is not None
    side = (
        "earlier in generation, at more noise,"
        if size.value > 0
        else ("later in generation, at less noise,")
    )
    words = f"{first}. {the(feature).capitalize()} is decided {side} by {number(abs(size.value))}"
    is_told = (size.low is not None and size.low > 0) or (size.high is not None and size.high < 0)
    both = size.low is not None and size.high is not None
    if is_told:
        verdict = "the difference is settled"
    elif both:
        verdict = "the difference is not settled"
    else:
        verdict = "the difference has no two limits, so it is not settled"
    shown = f" (difference {estimate(size)})" if both else ""
    place = ""
    if middle.low is not None and middle.high is not None:
        where = "inside" if middle.covers(guess.value) else "outside"
        place = (
            f" The prediction lies {where} the measured {percent(confidence)} interval, "
            f"{number(middle.low)} to {number(middle.high)}."
        )
    return gap, (f"{words}; {verdict}{shown}.{place}", *_widths(measured, predicted))


def _widths(measured: CriticalWindow, predicted: CriticalWindow) -> tuple[str, ...]:
    a = None if measured.width is None else measured.width.t
    b = None if predicted.width is None else predicted.width.t
    if a is None or b is None or a.value is None or b.value is None:
        return ()
    relation = "wider" if a.value > b.value else "narrower"
    limits = (b.high, a.low) if a.value > b.value else (a.high, b.low)
    is_apart = limits[0] is not None and limits[1] is not None and limits[0] < limits[1]
    words = (
        f"The measured window is {relation} than the predicted one"
        if is_apart
        else "The widths of the two windows are not told apart"
    )
    return (f"{words}: {estimate(a)} against {estimate(b)}.",)
