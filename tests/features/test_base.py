from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from critwin.errors import InputError
from critwin.features import (
    Feature,
    FunctionComparison,
    Reading,
    check_feature,
    checked_compare,
    checked_read,
    fingerprint_of,
)


def feature(read: Any, labels: tuple[str, ...] = ("a", "b")) -> Any:
    return SimpleNamespace(name="f", labels=labels, fingerprint="0", read=read)


POINTS = np.zeros((3, 2))


def test_a_reading_is_frozen_and_typed() -> None:
    reading = Reading(
        indices=np.array([0, 1, -1], dtype=np.int32),
        probs=torch.tensor([[1.0, 0], [0.25, 0.75], [float("nan")] * 2]),
        values={"margin": [1.0, 0.5, float("nan")]},  # type: ignore[dict-item]
    )
    assert reading.indices.dtype == np.int64
    assert len(reading) == 3
    assert reading.probs is not None
    assert reading.probs.dtype == np.float64
    for array in (reading.indices, reading.probs, reading.values["margin"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"indices": np.array([0.0, 1.0])}, "not a row of integers: got float64"),
        ({"indices": np.zeros((2, 1), dtype=int)}, "not a row of integers"),
        ({"indices": np.array([0, -2])}, "negative: got -2; wanted 0, 1, …, or -1 to abstain"),
        ({"indices": np.array([0]), "probs": [[np.nan, 1]]}, "probabilities are NaN"),
        ({"indices": np.array([0]), "probs": [[2.0, -1]]}, "outside .0, 1.: .*softmax"),
        ({"indices": np.array([0]), "probs": [[0.5, 0.4]]}, "do not sum to 1: got 0.9"),
        ({"indices": np.array([0]), "probs": [0.5]}, "wrong shape"),
        ({"indices": np.array([0, 1]), "probs": [[1.0, 0]]}, "wrong shape"),
        ({"indices": np.array([0]), "values": {"v": [np.nan]}}, "value 'v' .* not finite"),
        ({"indices": np.array([0]), "values": {"v": [1.0, 2]}}, "value 'v' .* wrong shape"),
    ],
)
def test_what_is_no_reading_is_refused(made: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Reading(**made)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda x: Reading(indices=np.array([0, 1, 2])), "unknown label: got index 2; wanted -1"),
        (lambda x: Reading(indices=np.array([0, 1])), "wrong number of rows: got 2; wanted 3"),
        (lambda x: Reading(indices=np.array([0, -2, 1])), "negative: got -2"),
        (
            lambda x: Reading(indices=np.array([0, 0, 0]), probs=np.full((3, 3), 1 / 3)),
            "wrong number of probabilities: got 3; wanted 2",
        ),
        (
            lambda x: Reading(indices=np.array([0, 0, 0]), probs=np.full((3, 2), np.nan)),
            "probabilities are NaN: got 3 of 3",
        ),
        (lambda x: ["a", "b", "a"], "did not return a Reading: got list"),
    ],
)
def test_a_labeller_that_answers_nonsense_gets_one_clear_line(read: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        checked_read(feature(read), POINTS)
    assert str(caught.value).startswith("feature 'f': ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_samples_that_are_not_finite_are_hidden_and_abstained(library: str) -> None:
    seen = []

    def read(x: Any) -> Reading:
        seen.append(np.asarray(x).copy())
        mean = np.asarray(x).mean(axis=1)
        probs = np.stack([mean, 1 - mean], axis=1)
        return Reading(indices=probs.argmax(axis=1), probs=probs, values={"mean": mean})

    points = np.array([[0.9, 0.7], [np.nan, 1], [0.1, 0.1], [np.inf, 0]])
    samples = torch.from_numpy(points.copy()) if library == "torch" else points.copy()
    reading = checked_read(feature(read), samples)
    assert reading.indices.tolist() == [0, -1, 1, -1]
    assert reading.probs is not None
    assert np.isnan(reading.probs).all(axis=1).tolist() == [False, True, False, True]
    assert np.isnan(reading.values["mean"]).tolist() == [False, True, False, True]
    np.testing.assert_array_equal(seen[0][[1, 3]], 0)
    # the caller's own array is left as it was
    np.testing.assert_array_equal(np.asarray(samples), points)


def test_a_single_sample_without_a_rows_axis_is_refused() -> None:
    with pytest.raises(InputError, match="first axis of rows"):
        checked_read(feature(lambda x: x), np.zeros(3))


def test_what_a_feature_needs() -> None:
    good = feature(lambda x: x)
    assert check_feature(good) is good
    assert isinstance(good, Feature)
    with pytest.raises(InputError, match="got object without name, labels, fingerprint, read"):
        check_feature(object())


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("a*b", ("x",), "name of a feature"),
        ("a/b", ("x",), "name of a feature"),
        (" ", ("x",), "name of a feature"),
        ("f", "xy", "are one string"),
        ("f", (), "at least one"),
        ("f", ("x", ""), "at least one"),
        ("f", ("x", 1), "at least one"),
        ("f", ("x", "x"), "not distinct: got 'x' twice; wanted each label once"),
        ("f", ("x", "(abstained)"), "reserved label"),
    ],
)
def test_names_that_cannot_be_used(name: str, labels: Any, message: str) -> None:
    bad = SimpleNamespace(name=name, labels=labels, fingerprint="", read=print)
    with pytest.raises(InputError, match=message):
        check_feature(bad)


def test_fingerprints_tell_structures_apart() -> None:
    made = [
        fingerprint_of("k", a=1),
        fingerprint_of("k", a=1.0),
        fingerprint_of("k", a="1"),
        fingerprint_of("k", a=True),
        fingerprint_of("k", a=None),
        fingerprint_of("k", a=[1]),
        fingerprint_of("k", a=[[1]]),
        fingerprint_of("k", a=[1, []]),
        fingerprint_of("k", a={"b": 1}),
        fingerprint_of("k", b=1),
        fingerprint_of("l", a=1),
        fingerprint_of("k", a=np.ones(2)),
        fingerprint_of("k", a=np.ones((2, 1))),
        fingerprint_of("k", a=np.ones(2, dtype=np.float32)),
        fingerprint_of("k", a=np.ones(4, dtype=np.float32)),
        fingerprint_of("k", a=b"1"),
        fingerprint_of("k", a=["ab", "c"]),
        fingerprint_of("k", a=["a", "bc"]),
    ]
    assert len(set(made)) == len(made)
    assert fingerprint_of("k", a=1, b=2) == fingerprint_of("k", b=2, a=1)
    assert fingerprint_of("k", a=np.ones(2)) == fingerprint_of("k", a=torch.ones(2).double())
    assert fingerprint_of("k", a=torch.ones(2, dtype=torch.bfloat16))


def test_comparisons_are_checked() -> None:
    def gap(source: Any, result: Any) -> Any:
        return np.abs(np.asarray(source) - np.asarray(result)).max(axis=1)

    source = np.array([[0.0, 1], [np.nan, 0], [2, 2]])
    result = np.array([[0.5, 1], [0, 0], [2, 2.0]])
    out = checked_compare(FunctionComparison("gap", gap), source, result)
    assert out["gap"][[0, 2]].tolist() == [0.5, 0]
    assert np.isnan(out["gap"][1])
    both = FunctionComparison("two", lambda s, r: {"a": gap(s, r), "b": -gap(s, r)})
    assert set(checked_compare(both, source, result)) == {"a", "b"}
    with pytest.raises(InputError, match="differ in shape"):
        checked_compare(both, source, result[:2])
    with pytest.raises(InputError, match="value 'nan' is NaN"):
        checked_compare(FunctionComparison("nan", lambda s, r: np.full(3, np.nan)), source, result)
    with pytest.raises(InputError, match="wrong shape"):
        checked_compare(FunctionComparison("one", lambda s, r: np.zeros(1)), source, result)
