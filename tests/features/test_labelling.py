from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from critwin.errors import InputError
from critwin.features import (
    BrightnessFeature,
    ErrorMatrix,
    FunctionFeature,
    error_matrix,
    labelled_images,
)
from critwin.features.labelling import read_error_matrix

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
    with pytest.raises(InputError, match="not a stored error matrix: got no counts, abstained;"):
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
        (
            {"counts": [[1, 2]]},
            "counts of an error matrix cannot be used: got 1 of them; wanted 2",
        ),
        ({"counts": None}, "cannot be used: got None; wanted 2 rows of 2 whole numbers"),
        ({"counts": "abc"}, "counts of an error matrix cannot be used: got 'abc'"),
        ({"counts": [[1, -2], [0, 1]]}, "samples of 'a', called 'b', cannot be counted: got -2"),
        ({"counts": [[1, 2], [0, "x"]]}, "samples of 'b', called 'b', cannot be counted: got x"),
        ({"counts": [[1, 2], [0.5, 1]]}, "samples of 'b', called 'a', cannot be counted: got 0.5"),
        ({"counts": [[1, 2], [np.nan, 1]]}, "cannot be counted: got nan"),
        ({"counts": [[1, 2], [1e30, 1]]}, "cannot be counted: got 1e.30"),
        ({"counts": [[1, 2], [True, 1]]}, "cannot be counted: got True"),
        ({"counts": [[1, 2], [3]]}, "the row of 'b' cannot be used: got .3.; wanted 2 whole"),
        ({"counts": [[1, 2], 3]}, "the row of 'b' cannot be used: got 3"),
        ({"abstained": [0]}, "abstained of an error matrix cannot be used: got 1 of them"),
        ({"abstained": [0, "x"]}, "samples of 'b' cannot be counted: got x"),
        ({"labels": ("a", "a")}, "distinct and not empty: got 'a', 'a'; wanted every label once"),
        ({"labels": ("", "a")}, "distinct and not empty"),
        ({"confidence": 1.0}, "confidence"),
    ],
)
def test_a_matrix_that_is_none(changes: dict[str, Any], message: str) -> None:
    fields = {"feature": "f", "labels": ("a", "b"), "counts": np.eye(2), "abstained": [0, 0]}
    with pytest.raises(InputError, match=message):
        ErrorMatrix(**{**fields, **changes})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot read the error matrix"),
        (
            "[]",
            "errors.json: not a stored error matrix: got list; wanted an object with feature, ",
        ),
        ('{"feature": "f"}', "got no labels, counts, abstained"),
        ({"labels": "ab"}, "labels of an error matrix cannot be used: got ab; wanted a list of"),
        ({"confidence": "x"}, "confidence of an error matrix cannot be used: got x; wanted a num"),
        ({"counts": [[1, "x"], [0, 1]]}, "errors.json: counts of an error matrix: samples of 'a'"),
    ],
)
def test_a_file_that_holds_no_matrix(content: Any, message: str, tmp_path: Path) -> None:
    fields = {
        "feature": "f",
        "labels": ["a", "b"],
        "counts": [[1, 0], [0, 1]],
        "abstained": [0, 0],
    }
    file = tmp_path / "errors.json"
    file.write_text(json.dumps({**fields, **content}) if isinstance(content, dict) else content)
    with pytest.raises(InputError, match=message) as caught:
        read_error_matrix(file)
    assert "\n" not in str(caught.value)


def test_labelled_images_of_a_folder(tmp_path: Path) -> None:
    for name, level in (("b/1.png", 200), ("a/1.png", 10), ("a/2.png", 30)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (6, 4), (level, level, level)).save(tmp_path / name)
    images, labels = labelled_images(tmp_path, size=(3, 3))
    assert labels == ["a", "a", "b"]
    assert images.shape == (3, 3, 3, 3)
    np.testing.assert_allclose(images[:, 0, 0, 0] * 255, [10, 30, 200], atol=1e-4)
    matrix = error_matrix(BrightnessFeature(labels=("a", "b")), images, labels)
    assert matrix.accuracy == 1
    (tmp_path / "metadata.csv").write_text("file_name,label,text\na/1.png,x,caption\nb/1.png,,\n")
    with pytest.raises(InputError, match=r"image 'b/1\.png' has no 'label'"):
        labelled_images(tmp_path, size=(3, 3))
    (tmp_path / "metadata.csv").write_text("file_name,kind\na/1.png,x\nb/1.png,y\n")
    assert labelled_images(tmp_path, size=(3, 3), column="kind", channels=1)[1] == ["x", "y"]
    for folder in (tmp_path / "a", tmp_path / "none"):
        with pytest.raises(InputError, match="no labelled images in the folder"):
            labelled_images(folder, size=(3, 3))
