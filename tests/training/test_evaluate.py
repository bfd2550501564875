"""The evaluation of the digits models: shapes without colours, and copies that are found."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from critwin.models.digits.data import DigitsData, load_data

PATH = Path(__file__).parents[2] / "training/digits/evaluate.py"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("evaluate", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["evaluate"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["evaluate"]


def told(data: DigitsData, rows: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    return {name: data.label(name)[rows] for name in ("ink", "ground")}


def test_shapes_are_the_masks_whatever_the_colours(script: ModuleType) -> None:
    rows = np.arange(0, 5000, 61)
    for data in (load_data(), load_data("reversed")):
        found = script.shapes(data.render(rows), told(data, rows))
        np.testing.assert_allclose(found, data.masks[rows] / 255, atol=1e-5)


def test_planted_copies_are_counted_in_their_colours_and_in_others(script: ModuleType) -> None:
    main, control = load_data(), load_data("control")
    repeated = np.flatnonzero(main.multiplicity > 1)
    rows = np.concatenate([repeated, np.flatnonzero(~main.is_member)[70:140]])
    rng = np.random.default_rng(3)
    noise = 0.02 * rng.standard_normal((len(rows), 3, 28, 28)).astype(np.float32)

    def found(data: DigitsData) -> dict[str, dict[str, int]]:
        images = data.render(rows) + noise
        shapes = script.shapes(images, told(data, rows))
        result: dict[str, dict[str, int]] = script.copies(images, shapes, "control")
        return result

    same = found(control)
    assert same["copies"]["num"] == same["shape_copies"]["num"] == 30
    assert same["shape_copies_of_repeated"]["num"] == 30
    assert same["copies_of_repeated_64x"]["num"] == 10
    assert 30 <= same["nearest_is_repeated"]["num"] <= 32
    # in the colours of the main data they are copies in shape only, but where the colours agree
    other = found(main)
    assert other["shape_copies_of_repeated"]["num"] == 30
    alike = ((main.ink == control.ink) & (main.ground == control.ground))[repeated]
    assert other["copies"]["num"] == alike.sum() < 30
