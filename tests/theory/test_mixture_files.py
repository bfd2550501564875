"""Mixtures from TOML: every form of covariance, and errors that name the entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from critwin.errors import ConfigError, InputError
from critwin.theory.mixture_files import mixture_from_dict, mixture_from_toml

TEXT = """
[[component]]
name = "cat"
weight = 0.25
mean = [0.0, 1.0]
covariance = 2.0

[[component]]
name = "dog"
weight = 0.75
mean = [3.0, 1]
covariance = [[1.0, 0.5], [0.5, 1.0]]
"""


def test_toml_with_mixed_covariances(tmp_path: Path) -> None:
    file = tmp_path / "mixture.toml"
    file.write_text(TEXT, encoding="utf-8")
    m = mixture_from_toml(file)
    assert m.names == ("cat", "dog")
    assert m.weights.tolist() == [0.25, 0.75]
    assert m.kind == "full"
    assert m.covariances.tolist() == [[[2.0, 0.0], [0.0, 2.0]], [[1.0, 0.5], [0.5, 1.0]]]


def test_numbers_lists_and_defaults() -> None:
    m = mixture_from_dict({"component": [{"mean": 1.0}, {"mean": [2.0], "covariance": 4}]})
    assert m.names == ("0", "1")
    assert m.weights.tolist() == [0.5, 0.5]
    assert m.covariances.tolist() == [1.0, 4.0]
    # two components in two dimensions: the shape of the numbers alone would be ambiguous
    m = mixture_from_dict(
        {"component": [{"mean": [0, 0], "covariance": 1.0}, {"mean": [1, 1], "covariance": 2.0}]}
    )
    assert m.kind == "isotropic"
    m = mixture_from_dict(
        {"component": [{"mean": [0, 0], "covariance": [1, 2]}, {"mean": [1, 1]}]}
    )
    assert m.covariances.tolist() == [[1.0, 2.0], [1.0, 1.0]]


def component(**entries: Any) -> dict[str, Any]:
    good = {"name": "a", "weight": 0.5, "mean": [0.0, 0.0], "covariance": 1.0}
    return {"component": [good, {**good, "name": "b", **entries}]}


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"components": []}, "components"),
        ({}, "component"),
        ({"component": []}, "component"),
        ({"component": [1]}, "component[0]"),
        ({"component": [{"name": "a"}]}, "component[0].mean"),
        (component(mean="x"), "component[1].mean"),
        (component(mean=[1.0]), "component[1].mean"),
        (component(mean=[True, 1.0]), "component[1].mean"),
        (component(mean=[float("nan"), 1.0]), "component[1].mean"),
        (component(mean=[10**400, 1.0]), "component[1].mean"),
        (component(mean=[1e200, 0.0]), "component[1].mean"),
        (component(covariance=[1.0, 1e200]), "component[1].covariance"),
        (component(mean=[]), "component[1].mean"),
        (component(weight=10**400), "component[1].weight"),
        (component(weight=float("nan")), "component[1].weight"),
        (component(covariance=10**400), "component[1].covariance"),
        (component(covariance=float("inf")), "component[1].covariance"),
        (component(covariance="1"), "component[1].covariance"),
        (component(covariance={"x": 1}), "component[1].covariance"),
        (component(name=""), "component[1].name"),
        ({"component": {"mean": 1.0}}, "component"),
        (component(mu=[1.0]), "component[1].mu"),
        (component(weight=0.0), "component[1].weight"),
        (component(weight="much"), "component[1].weight"),
        (component(weight=0.6), "component.weight"),  # the sum belongs to no single entry
        (component(name="a"), "component[1].name"),
        (component(name=3), "component[1].name"),
        (component(covariance=-1.0), "component[1].covariance"),
        (component(covariance=True), "component[1].covariance"),
        (component(covariance=[1.0]), "component[1].covariance"),
        (component(covariance=[[1.0, 2.0], [2.0, 1.0]]), "component[1].covariance"),
        (component(covariance=[[1.0, 0.2], [0.0, 1.0]]), "component[1].covariance"),
        (component(covariance=[[1.0], [2.0, 3.0]]), "component[1].covariance"),
        ({"component": [{"mean": 0.0, "weight": 1.0}, {"mean": 1.0}]}, "component[1].weight"),
    ],
)
def test_errors_name_the_entry(raw: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mixture_from_dict(raw)
    assert caught.value.key == key
    assert str(caught.value).startswith(key + ":")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'title = "x"\n' + TEXT.replace("covariance = 2.0", "covarience = 2.0"),
            "m.toml: title: unknown key: wanted [[component]] tables of name, weight, mean, "
            "covariance; `critwin theory --help` shows a file",
        ),
        (
            TEXT.replace("covariance = 2.0", "covarience = 2.0"),
            "m.toml: component[0].covarience: unknown key: wanted some of name, weight, mean, "
            "covariance; did you mean 'covariance'?",
        ),
        (
            TEXT.replace("weight = 0.75", 'weight = 0.75\ncolour = "red"\nmeen = 1'),
            "m.toml: component[1].meen: unknown keys colour, meen: wanted some of name, weight, "
            "mean, covariance; did you mean 'mean'?",
        ),
        (
            TEXT.replace("[[component]]", "[[components]]"),
            "m.toml: components: unknown key: wanted [[component]] tables of name, weight, mean, "
            "covariance; did you mean 'component'?",
        ),
        (
            "weights = [0.5, 0.5]\nmeans = [0, 1]\ncovariances = 1",
            "m.toml: weights: unknown keys weights, means, covariances: wanted [[component]] "
            "tables of name, weight, mean, covariance; `critwin theory --help` shows a file",
        ),
        (
            "[component]\nmean = 0",
            "m.toml: component: a single table: got [component]; wanted [[component]] in two "
            "brackets, once for each component; `critwin theory --help` shows a file",
        ),
        (
            TEXT.replace("dog", "cat"),
            "m.toml: component[1].name: used twice: got 'cat', as component[0]; wanted distinct "
            "names",
        ),
        (
            TEXT.replace("[0.5, 1.0]", "[0.25, 1.0]"),
            "m.toml: component[1].covariance: a covariance is not symmetric: got 0.5 at [0, 1] "
            "and 0.25 at [1, 0]; wanted the same number at both; average the matrix with its "
            "transpose if that is rounding",
        ),
        (
            TEXT.replace("0.75", "0.5"),
            "m.toml: component.weight: weights must sum to 1: got a sum of 0.75; wanted a sum of "
            "1; divide them by it",
        ),
        (
            TEXT.replace("covariance = 2.0", "covariance = 1e300"),
            "m.toml: component[0].covariance: covariances are too large: got 1e+300; wanted at",
        ),
        (
            TEXT.replace("covariance = 2.0", "covariance = [1.0, 1e300]"),
            "m.toml: component[0].covariance: covariances are too large: got 1e+300 at [1]; want",
        ),
        (
            "mean = 1" + "0" * 5000,
            "m.toml is not valid TOML: got a number of thousands of digits; wanted ",
        ),
    ],
)
def test_errors_of_a_file_name_it_and_the_slip(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "m.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        mixture_from_toml(file)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .* \(No such file .*wanted a TOML"):
        mixture_from_toml(tmp_path / "nothing.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[[component", encoding="utf-8")
    with pytest.raises(InputError, match=r"not valid TOML: .*; wanted lines .*; mend"):
        mixture_from_toml(broken)
