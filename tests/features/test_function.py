from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from critwin.errors import InputError
from critwin.features import FunctionComparison, FunctionFeature, Reading, checked_read

SIGNS = ("minus", "plus")
POINTS = np.array([[-1.0], [2.0], [3.0], [-0.5]])
ANSWER = [0, 1, 1, 0]


def sign_index(x: Any) -> Any:
    return (x[:, 0] > 0).astype(int)


class Sign:
    def __call__(self, x: Any) -> Any:
        return sign_index(x)

    def method(self, x: Any) -> Any:
        return sign_index(x)


@pytest.mark.parametrize(
    "function",
    [
        sign_index,
        lambda x: x[:, 0] > 0,
        lambda x: ["plus" if v > 0 else "minus" for v in x[:, 0]],
        lambda x: tuple("plus" if v > 0 else "minus" for v in x[:, 0]),
        lambda x: np.where(x[:, 0] > 0, "plus", "minus"),
        lambda x: np.where(x[:, 0] > 0, "plus", "minus").astype(object),
        lambda x: np.stack([x[:, 0] <= 0, x[:, 0] > 0], axis=1).astype(float),
        lambda x: torch.softmax(torch.from_numpy(np.hstack([-x, x])), dim=1).requires_grad_(),
        lambda x: torch.from_numpy(x)[:, 0] > 0,
        lambda x: Reading(indices=sign_index(x)),
        functools.partial(lambda cut, x: x[:, 0] > cut, 0.0),
        Sign().method,
    ],
)
def test_the_forms_of_an_answer(function: Any) -> None:
    reading = checked_read(FunctionFeature("sign", SIGNS, function), POINTS)
    assert reading.indices.tolist() == ANSWER


def test_abstaining() -> None:
    by_name = FunctionFeature("f", SIGNS, lambda x: [None, "plus", "plus", None])
    assert checked_read(by_name, POINTS).indices.tolist() == [-1, 1, 1, -1]
    by_index = FunctionFeature("f", SIGNS, lambda x: np.array([-1, 1, 0, 0]))
    assert checked_read(by_index, POINTS).indices.tolist() == [-1, 1, 0, 0]
    probs = np.array([[0.5, 0.5], [0.1, 0.9], [0.3, 0.7], [1, 0]])
    by_probs = FunctionFeature("f", SIGNS, lambda x: probs, abstain_below=0.8)
    reading = checked_read(by_probs, POINTS)
    assert reading.indices.tolist() == [-1, 1, -1, 0]
    np.testing.assert_array_equal(reading.probs, probs)
    all_none = FunctionFeature("f", SIGNS, lambda x: [None] * 4)
    assert checked_read(all_none, POINTS).indices.tolist() == [-1] * 4


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (["plus", "zero", "plus", "plus"], "unknown label: got zero; wanted one of minus, plus"),
        (np.array(["plus", "zero", "plus", "plus"]), "unknown label: got zero"),
        (["plus", float("nan"), "plus", "plus"], "unknown label: got nan"),
        (["plus", 1, "plus", "plus"], "unknown label: got 1"),
        ([0, 1, 2, 0], "unknown label: got index 2"),
        ([0, 1, 1], "wrong number of rows: got 3; wanted 4"),
        ([0.0, 1.0, 1.0, 0.0], "no label: got float64 of shape .4,."),
        ([0.0, np.nan, 1.0, 0.0], "no label: .*with NaN"),
        (np.full((4, 2), np.nan), "probabilities are NaN: got 4 of 4"),
        ([[0.5, 0.5], [np.nan, 1], [1.0, 0], [1.0, 0]], "probabilities are NaN: got 1 of 4"),
        (np.full((4, 3), 1 / 3), "wrong number of columns: got 3; wanted 2"),
        (np.full((4, 2), 3.0), "outside .0, 1."),
        (np.zeros((4, 2, 1)), "no label"),
        (None, "no label: got object"),
    ],
)
def test_an_answer_that_is_no_label_is_one_clear_line(answer: Any, message: str) -> None:
    value = np.asarray(answer) if isinstance(answer, list) and answer[0] == [0.5, 0.5] else answer
    with pytest.raises(InputError, match=message) as caught:
        checked_read(FunctionFeature("f", SIGNS, lambda x: value), POINTS)
    assert "'f'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nan_is_not_laundered_by_abstaining() -> None:
    vague = FunctionFeature("f", SIGNS, lambda x: np.full((4, 2), np.nan), abstain_below=0.9)
    with pytest.raises(InputError, match="NaN"):
        checked_read(vague, POINTS)


def test_fingerprints_follow_the_function() -> None:
    def cut(value: float) -> Any:
        return lambda x: x[:, 0] > value

    def made(function: Any = sign_index, **options: Any) -> str:
        arguments: dict[str, Any] = {"name": "f", "labels": SIGNS, **options}
        return FunctionFeature(function=function, **arguments).fingerprint

    torch_net = torch.nn.Linear(1, 2)
    before = made(torch_net)
    prints = [
        made(),
        made(name="g"),
        made(labels=("plus", "minus")),
        made(abstain_below=0.5),
        made(version="2"),
        made(cut(0.0)),
        made(cut(0.5)),
        made(functools.partial(sign_index)),
        made(functools.partial(lambda c, x: x[:, 0] > c, 1.0)),
        made(functools.partial(lambda c, x: x[:, 0] > c, 2.0)),
        before,
    ]
    with torch.no_grad():
        torch_net.weight += 1
    prints.append(made(torch_net))
    assert len(set(prints)) == len(prints)
    assert made(cut(0.5)) == made(cut(0.5))


def test_a_function_typed_at_a_prompt_has_a_fingerprint() -> None:
    names: dict[str, Any] = {}
    exec("def f(x): return x[:, 0] > 1\ndef g(x): return x[:, 0] > 2", names)
    one = FunctionFeature("f", SIGNS, names["f"]).fingerprint
    names["g"].__qualname__ = "f"
    assert one != FunctionFeature("f", SIGNS, names["g"]).fingerprint


def test_options_are_checked() -> None:
    with pytest.raises(InputError, match="pass version='1'"):
        FunctionFeature("f", SIGNS, Sign())
    assert FunctionFeature("f", SIGNS, Sign(), version="1").fingerprint
    with pytest.raises(InputError, match="cannot be called: got int"):
        FunctionFeature("f", SIGNS, 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="abstain_below"):
        FunctionFeature("f", SIGNS, sign_index, abstain_below=2)
    with pytest.raises(InputError, match="cannot be called"):
        FunctionComparison("f", None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="name of a feature"):
        FunctionComparison("f/g", lambda s, r: s)
