"""Models by name: built-ins, plugins, and errors that help."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from critwin.errors import InputError
from critwin.models import registry
from critwin.models.mixture import MixtureModel
from critwin.models.registry import list_models, load_model
from mixture_cases import FOUR


def test_a_mixture_by_file_by_table_and_by_object(tmp_path: Path) -> None:
    file = tmp_path / "mixture.toml"
    file.write_text("[[component]]\nmean = -1.0\n[[component]]\nmean = 1.0\n", encoding="utf-8")
    by_file = load_model("mixture", file=str(file), steps=32)
    assert isinstance(by_file, MixtureModel)
    table = {"component": [{"mean": -1.0}, {"mean": 1.0}]}
    assert load_model("mixture", mixture=table, steps=32).fingerprint == by_file.fingerprint
    by_law = load_model("mixture", mixture=FOUR)
    assert isinstance(by_law, MixtureModel)
    assert by_law.mixture is FOUR
    assert load_model(by_law) is by_law


def test_list_names_the_built_ins() -> None:
    known = list_models()
    assert {"digits", "mixture"} <= set(known)
    assert all(known.values())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load_model("mixtrue"), "did you mean 'mixture'"),
        (lambda: load_model("zzz"), "critwin models"),
        (lambda: load_model("mixture"), "either `file` or `mixture`"),
        (lambda: load_model("mixture", mixture=FOUR, stepz=3), "did you mean 'steps'"),
        (lambda: load_model("mixture", mixture=3), "not a mixture"),
        (lambda: load_model(MixtureModel(FOUR), steps=3), "made already"),
        (lambda: load_model(object()), "not a model: got object without name"),  # type: ignore[arg-type]
    ],
)
def test_mistakes_are_explained(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


class Point:
    """An entry point as importlib.metadata shows it."""

    dist = None

    def __init__(self, name: str, target: Any) -> None:
        self.name, self.value, self._target = name, f"plugin:{name}", target

    def load(self) -> Any:
        if isinstance(self._target, Exception):
            raise self._target
        return self._target


def with_plugins(monkeypatch: pytest.MonkeyPatch, *points: Point) -> None:
    def entry_points(*, group: str, name: str | None = None) -> list[Point]:
        assert group == registry.GROUP
        return [p for p in points if name in (None, p.name)]

    monkeypatch.setattr(metadata, "entry_points", entry_points)


def test_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    def factory(*, steps: int, **_: Any) -> MixtureModel:
        return MixtureModel(FOUR, steps=steps)

    def strict(size: int) -> None:
        del size

    with_plugins(
        monkeypatch,
        Point("mine", factory),
        Point("strict", strict),
        Point("broken", ImportError("no such thing")),
        Point("number", 3),
        Point("twice", factory),
        Point("twice", factory),
    )
    assert load_model("mine", steps=16).sample_shape == (1,)
    assert list_models()["mine"] == "from plugin:mine"
    for name, message in [
        ("strict", "needs the option 'size'"),
        ("broken", "cannot be imported: got ImportError: no such thing"),
        ("number", "is not callable"),
        ("twice", "two packages"),
    ]:
        with pytest.raises(InputError, match=message):
            load_model(name)


def test_listing_models_imports_no_torch() -> None:
    code = (
        "import sys, critwin.models.registry as r; r.list_models(); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
