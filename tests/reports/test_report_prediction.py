"""Predicted beside measured: right numbers, words as sure as the intervals, none where unknown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from _fake_run import LABELS, fake_records

from critwin.estimates import Edge, Estimate
from critwin.models.training import TrainingData, training_data
from critwin.records import Records
from critwin.reports import ReportData, build_report, prediction, report_data
from critwin.reports.tables import window_table
from critwin.theory.datasets import dataset_transitions
from critwin.windows import CriticalWindow, critical_window


def small(model: str, features: list[str], options: Any = None) -> TrainingData | None:
    """A hundredth of the digits: enough for the machinery."""
    found = training_data(model, features, options)
    if found is None:
        return None
    rows = slice(None, None, 40)
    return TrainingData(
        points=found.points[rows],
        labels={name: column[rows] for name, column in found.labels.items()},
        weights=found.weights[rows],
    )


@pytest.fixture(scope="module")
def run_records() -> Records:
    return fake_records(
        num_sources=20, num_levels=7, replicates=1, model="digits", model_fingerprint="f"
    )


@pytest.fixture(scope="module")
def predicted(run_records: Records) -> ReportData:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("critwin.models.training.training_data", small)
        return report_data(run_records)


def test_predictions_are_those_of_the_data_set(
    predicted: ReportData, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = small("digits", ["digit", "ground", "ink"])
    assert data is not None
    for f in predicted.features:
        assert f.prediction is not None
        tr = dataset_transitions(
            data.points,
            data.labels,
            f.prediction.kept.logsnr,
            weights=data.weights,
            leave_one_out=True,
            num_queries=prediction.NUM_QUERIES,
        )[f.feature]
        expected = critical_window(tr).midpoint
        found = f.prediction.window.midpoint
        assert expected is not None
        assert found is not None
        assert found.t.value is not None
        assert found.t.value == pytest.approx(expected.t.value, rel=1e-6)
        if f.prediction.gap is not None:
            assert f.window is not None
            assert f.window.midpoint is not None
            assert f.window.midpoint.t.value is not None
            gap = f.window.midpoint.t.value - found.t.value
            assert f.prediction.gap.t.value == pytest.approx(gap)


def test_the_page_shows_them_beside_the_measured_ones(predicted: ReportData) -> None:
    page = build_report(predicted)
    for f in predicted.features:
        assert f.prediction is not None
        assert f.prediction.sentences[0].split(" (")[0] in page.replace("\u00a0", " ")
    assert page.count("midpoint, predicted from the training data") == 3
    assert "Hollow diamonds" in page
    assert "Dashed grey: predicted from the training data" in page
    assert "the source left out of the posterior" in page
    assert "kept, predicted" in window_table(predicted).text


def test_without_training_data_nothing_is_said(run_records: Records) -> None:
    attrs = dict(run_records.attrs)
    others = [
        replace(run_records, attrs={**attrs, "model": "mixture"}),
        replace(run_records, attrs={"model": "digits"}),
        replace(run_records, condition=np.full(len(run_records), "7")),
    ]
    for records in others:
        data = report_data(records)
        assert all(f.prediction is None for f in data.features)
        assert not any("redicted" in note for note in data.notes)


def test_labels_that_differ_from_the_datas_are_not_predicted() -> None:
    few = {**LABELS, "digit": ("0", "1"), "ground": ("dark", "dim"), "ink": ("a", "b")}
    records = fake_records(
        num_sources=12, num_levels=7, labels=few, model="digits", model_fingerprint="f"
    )
    assert all(f.prediction is None for f in report_data(records).features)


def window(kind: str, value: float | None, low: float | None, high: float | None) -> Any:
    reason = None if value is not None else "above the highest level tried"
    edge = Edge(
        t=Estimate(value=value, low=low, high=high, confidence=0.95, reason=reason),
        logsnr=Estimate(value=0.0, low=-1.0, high=1.0, confidence=0.95),
    )
    return CriticalWindow(criterion="kept", feature="digit", kind=kind, midpoint=edge)


GUESS = window("estimated", 1.0, 0.95, 1.05)


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (
            window("counted", 1.5, 1.4, 1.6),
            [
                "earlier in generation, at more noise, by 0.50",
                "is settled",
                "outside the measured",
            ],
        ),
        (
            window("counted", 0.6, 0.5, 0.7),
            ["later in generation, at less noise, by 0.40", "is settled", "outside the measured"],
        ),
        (
            window("counted", 1.05, 0.9, 1.2),
            ["at more noise, by 0.05", "is not settled", "inside the measured 95 % interval"],
        ),
        (
            window("counted", 1.1, 1.02, 1.18),
            ["by 0.10", "is settled", "outside the measured 95 % interval, 1.02 to 1.18"],
        ),
        (window("counted", 1.1, None, 1.3), ["no two limits, so it is not settled"]),
        (window("counted", None, 2.0, None), ["measured: none: above the highest level tried"]),
        (None, ["there is no measured one"]),
    ],
)
def test_sentences_say_what_the_intervals_say(measured: Any, words: list[str]) -> None:
    gap, sentences = prediction.compare("digit", measured, GUESS, 0.95)
    text = " ".join(sentences)
    assert "The training data predict the midpoint t = 1.00 (95 % interval 0.95 to 1.05)" in text
    for part in words:
        assert part in text
    assert (gap is None) == (measured is None or measured.midpoint.t.value is None)


def test_a_missing_prediction_says_why() -> None:
    gap, sentences = prediction.compare("ink", None, window("estimated", None, 2, None), 0.95)
    assert gap is None
    assert sentences == (
        "The training data predict no midpoint of the ink: above the highest level tried.",
    )
