from __future__ import annotations

from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from critwin.errors import InputError
from critwin.features import (
    FunctionFeature,
    GroundFeature,
    checked_read,
    list_features,
    load_feature,
)
from critwin.theory.mixtures import GaussianMixture

MIXTURE = GaussianMixture(means=[-3.0, 3.0], names=["left", "right"])


def brightness(*, cut: float = 0.5) -> Any:
    return FunctionFeature("brightness", ("dim", "bright"), lambda x: x.mean((1, 2, 3)) > cut)


def install(monkeypatch: pytest.MonkeyPatch, **targets: Any) -> None:
    class Point(SimpleNamespace):
        def load(self) -> Any:
            if isinstance(self.target, Exception):
                raise self.target
            return self.target

    points = [
        Point(name=name.rstrip("_"), value=f"pkg:{name}", target=t, dist=None)
        for name, t in targets.items()
    ]

    def entry_points(*, group: str, name: str | None = None) -> list[Any]:
        assert group == "critwin.features"
        return [p for p in points if name is None or p.name == name]

    monkeypatch.setattr(metadata, "entry_points", entry_points)


def test_built_in_features_load_by_name() -> None:
    listed = list_features()
    assert set(listed) >= {"component", "classifier", "digit", "ground", "ink"}
    assert set(listed) >= {"zero-shot", "image-classifier", "clusters", "hue", "brightness"}
    assert load_feature("ground", border=3).labels == ("dark", "light")
    assert load_feature("ink", called="colour").name == "colour"
    assert load_feature("digit").labels == tuple("0123456789")
    assert load_feature("component", mixture=MIXTURE).labels == ("left", "right")
    model = SimpleNamespace(mixture=MIXTURE)
    assert load_feature("component", model=model, groups={"all": ["left", "right"]}).labels == (
        "all",
    )
    made = GroundFeature()
    assert load_feature(made) is made


def test_a_component_feature_reads_its_mixture_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text('[[component]]\nname="a"\nmean=[-3]\n[[component]]\nname="b"\nmean=[3]\n')
    feature = load_feature("component", mixture=str(file))
    assert checked_read(feature, np.array([[-3.0], [2.0]])).indices.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("grond", {}, "unknown feature: got grond; .*did you mean 'ground'?"),
        ("xyzzy", {}, "unknown feature: got xyzzy; .*critwin features"),
        ("ground", {"bordr": 2}, "unknown option of feature 'ground': .*did you mean 'border'?"),
        ("classifier", {}, "needs the option 'file'"),
        ("classifier", {"file": "none.safetensors"}, "no such classifier file"),
        ("component", {}, "needs a mixture: got NoneType"),
        ("component", {"model": object()}, "needs a mixture: got object"),
        (GroundFeature(), {"border": 2}, "made already: got border"),
        (object(), {}, "not a feature"),
    ],
)
def test_what_cannot_be_loaded(name: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_feature(name, **options)


def test_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, glow=brightness, broken=ImportError("no torch"), number=3)
    assert list_features()["glow"] == "from pkg:glow"
    feature = load_feature("glow", cut=0.2)
    images = np.stack([np.full((3, 4, 4), v) for v in (0.1, 0.3)])
    assert checked_read(feature, images).indices.tolist() == [0, 1]
    with pytest.raises(InputError, match="unknown option of feature 'glow': got kut"):
        load_feature("glow", kut=0.2)
    with pytest.raises(InputError, match="cannot be imported: got ImportError: no torch"):
        load_feature("broken")
    with pytest.raises(InputError, match="not callable: got int"):
        load_feature("number")


def test_two_plugins_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, same=brightness, same_=brightness)
    with pytest.raises(InputError, match="two packages bring a feature called 'same'"):
        load_feature("same")


def test_a_plugin_that_returns_no_feature_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, empty=lambda: object())
    with pytest.raises(InputError, match="not a feature"):
        load_feature("empty")


def test_a_built_in_name_cannot_be_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ground=brightness)
    assert isinstance(load_feature("ground"), GroundFeature)
