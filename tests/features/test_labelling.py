from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from critwin.errors import InputError
from critwin.features import ErrorMatrix, FunctionFeature, error_matrix

LABELS = ("a", "b", "c")


def echo(said: list[Any]) -> FunctionFeature:
    """A labeller that says what the points tell it to."""
    return FunctionFeature("echo", LABELS, lambda x: x[:, 0].astype(int))


def test_counts_rates_and_abstentions() -> None:
    said = np.array([0, 0, 1, 1, 1, -1, 2, 2, 0])
    truth = ["a", "a", "a", "b", "b", "b", "c", "c", "c"]
    matrix = error_matrix(echo([]), said[:, None].astype(float), truth, batch_size=4)
    assert matrix.counts.tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 2]]
    assert matrix.abstained.tolist() == [0, 1, 0]
    np.testing.assert_allclose(matrix.rates, [[2 / 3, 1 / 3, 0], [0, 1, 0], [1 / 3, 0, 2 / 3]])
    assert matrix.abstention.tolist() == [0, 1 / 3, 0]
    assert matrix.num_samples == 9
    assert matrix.accuracy == 6 / 8
    assert matrix.condition == pytest.approx(np.linalg.cond(matrix.rates))
    by_index = error_matrix(echo([]), said[:, None].astype(float), [0, 0, 0, 1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(by_index.counts, matrix.counts)


def test_intervals_are_exact() -> None:
    matrix = ErrorMatrix(
        feature="f",
        labels=("a", "b"),
        counts=[[9, 1], [0, 20]],
        abstained=[0, 0],  # type: ignore[arg-type]
    )
    low, high = matrix.intervals
    for cell, hits, tries in (((0, 0), 9, 10), ((0, 1), 1, 10), ((1, 0), 0, 20), ((1, 1), 20, 20)):
        exact = binomtest(hits, tries).proportion_ci(method="exact")
        assert (low[cell], high[cell]) == pytest.approx((exact.low, exact.high), abs=1e-12)
    whole = binomtest(29, 30).proportion_ci(method="exact")
    assert matrix.accuracy_interval == pytest.approx((whole.low, whole.high))


def test_a_label_without_samples_is_unknown_not_zero() -> None:
    matrix = error_matrix(echo([]), np.array([[0.0], [1.0]]), ["a", "b"])
    assert np.isnan(matrix.rates[2]).all()
    assert matrix.condition == float("inf")
    plain = json.loads(json.dumps(matrix.as_dict(), allow_nan=False))
    assert plain["rates"][2] == [None] * 3
    assert plain["condition"] is None
    assert plain["fingerprint"] == echo([]).fingerprint
    assert ErrorMatrix.from_dict(plain).as_dict() == matrix.as_dict()
    with pytest.raises(InputError, match="not a stored error matrix: got KeyError: 'counts'"):
        ErrorMatrix.from_dict({"feature": "f", "labels": ["a"]})


@pytest.mark.parametrize(
    ("num", "truth", "message"),
    [
        (2, ["a"], "do not fit: got 2 samples, 1 labels"),
        (0, [], "at least one"),
        (1, ["d"], "not one of feature 'echo': got d; wanted one of a, b, c"),
        (1, [3], "not one of feature 'echo': got index 3"),
        (1, [-1], "got index -1"),
        (1, [["a"]], "one row"),
        (1, [0.5], "not one of feature 'echo': got 0.5"),
    ],
)
def test_truth_that_does_not_fit(num: int, truth: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        error_matrix(echo([]), np.zeros((num, 1)), truth)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": [[1, 2]]}, "counts of an error matrix"),
        ({"counts": [[1, -2], [0, 1]]}, "counts of an error matrix"),
        ({"abstained": [0]}, "abstained of an error matrix"),
        ({"confidence": 1.0}, "confidence"),
    ],
)
def test_a_matrix_that_is_none(changes: dict[str, Any], message: str) -> None:
    fields = {"feature": "f", "labels": ("a", "b"), "counts": np.eye(2), "abstained": [0, 0]}
    with pytest.raises(InputError, match=message):
        ErrorMatrix(**{**fields, **changes})
