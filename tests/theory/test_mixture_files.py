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


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .* \(No such file .*wanted a TOML"):
        mixture_from_toml(tmp_path / "nothing.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[[component", encoding="utf-8")
    with pytest.raises(InputError, match=r"not valid TOML: .*; wanted lines .*; mend"):
        mixture_from_toml(broken)
