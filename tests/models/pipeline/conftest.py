"""Saved tiny pipelines, and a guard: nothing here may open a connection."""

from __future__ import annotations

import copy
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from critwin.streams import UnitStreams


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: Any) -> None:
        raise AssertionError(f"a test tried to connect to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folder of a tiny pipeline by family, built and saved once."""
    from tiny_pipelines import save_tiny

    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = save_tiny(family, tmp_path_factory.mktemp("tiny") / family)
        return made[family]

    return folder


@pytest.fixture(scope="session")
def built() -> dict[Any, Any]:
    """Pipelines as they were read from their folders, by folder and precision; never run."""
    return {}


@pytest.fixture
def loaded(
    tiny: Callable[..., Path], built: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """A tiny pipeline as a model, through the public way; its folder is read once a session.

    What its network predicts is tried in tests of that alone.
    """
    from critwin.models.pipeline import loading
    from critwin.models.registry import load_model

    read = loading.build_pipeline

    def build(folder: Any, precision: Any) -> Any:
        key = (folder.root, precision)
        if key not in built:
            built[key] = read(folder, precision)
        whole = built[key]
        kept = {id(part): part for name, part in whole.components.items() if "tokenizer" in name}
        return copy.deepcopy(whole, kept)

    def load(family: str, **options: Any) -> Any:
        monkeypatch.setattr(loading, "build_pipeline", build)
        if family == "flux":
            options = {"height": 16, "width": 16} | options
        options = {"local_files_only": True, "probe": False} | options
        return load_model("pipeline", path=tiny(family), **options)

    return load


@pytest.fixture
def units() -> Callable[..., list[UnitStreams]]:
    def make(count: int, logsnr: float | None = None, *, seed: int = 0) -> list[UnitStreams]:
        return [
            UnitStreams(seed=seed, source=f"s{n}", logsnr=logsnr, replicate=0)
            for n in range(count)
        ]

    return make
