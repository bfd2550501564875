"""Hue and brightness against the standard library, pixel by pixel."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from critwin.errors import InputError
from critwin.features import BrightnessFeature, HueFeature, checked_read, load_feature
from critwin.features.colour import HUES

RGB = {
    "red": (1, 0, 0),
    "yellow": (1, 1, 0),
    "green": (0, 1, 0),
    "cyan": (0, 1, 1),
    "blue": (0, 0, 1),
    "magenta": (1, 0, 1),
}


def solid(*colours: Any, size: tuple[int, int] = (5, 7)) -> Any:
    return np.array(colours, dtype=float)[:, :, None, None] * np.ones((1, 1, *size))


def test_the_six_hues() -> None:
    reading = checked_read(HueFeature(), solid(*RGB.values()))
    assert [HueFeature().labels[i] for i in reading.indices] == list(RGB)
    assert reading.values["share"].tolist() == [1.0] * 6
    assert reading.values["chroma"].tolist() == [1.0] * 6


def test_mass_of_chroma_agrees_with_colorsys() -> None:
    rng = np.random.Generator(np.random.Philox(5))
    images = rng.uniform(size=(20, 3, 4, 6))
    reading = HueFeature().read(images)
    centres = list(HUES.values())
    for image, share, said in zip(images, reading.values["share"], reading.indices, strict=True):
        mass = np.zeros(6)
        for pixel in image.reshape(3, -1).T:
            hue = 360 * colorsys.rgb_to_hsv(*pixel)[0]
            away = [min(abs(hue - c), 360 - abs(hue - c)) for c in centres]
            mass[int(np.argmin(away))] += pixel.max() - pixel.min()
        assert share == pytest.approx(mass.max() / mass.sum(), abs=1e-12)
        assert said == mass.argmax()


def test_a_grey_image_has_no_hue_or_is_called_grey() -> None:
    images = solid((0.5, 0.5, 0.5), (1, 0, 0), (0.5, 0.5, 0.53))
    assert HueFeature().read(images).indices.tolist() == [-1, 0, -1]
    named = HueFeature(grey="grey")
    assert named.labels[-1] == "grey"
    assert named.read(images).indices.tolist() == [6, 0, 6]


def test_an_image_of_two_colours_has_a_margin() -> None:
    image = solid((1, 0, 0), size=(4, 4))
    image[0, :, :, 3] = np.array([0, 0, 1])[:, None]
    reading = HueFeature().read(image)
    assert reading.values["share"].item() == 0.75
    assert reading.values["margin"].item() == 0.5
    assert HueFeature(margin=0.6).read(image).indices.tolist() == [-1]


def test_regions() -> None:
    image = solid((0, 0, 1), size=(8, 8))
    image[0, :, 2:6, 2:6] = np.array([1, 0, 0])[:, None, None]
    said = {r: HueFeature(region=r).read(image).indices.item() for r in ("centre", "border")}
    assert said == {"centre": 0, "border": 4}
    assert HueFeature(region="border").read(image).values["share"].item() == 1.0
    with pytest.raises(InputError, match="too small for their border: got 3x3"):
        HueFeature(region="border").read(solid((1, 0, 0), size=(3, 3)))


def test_brightness_in_bins_of_any_size() -> None:
    made = BrightnessFeature(edges=[0.2, 0.6], labels=("night", "dusk", "day"))
    grey = np.array([0.0, 0.19, 0.21, 0.59, 0.61, 1.0])[:, None, None, None] * np.ones(
        (1, 1, 3, 5)
    )
    reading = checked_read(made, grey)
    assert reading.indices.tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_allclose(reading.values["level"], grey[:, 0, 0, 0], atol=1e-12)
    half = np.full((1, 1, 2, 2), 0.5)  # an edge belongs to the bin above
    assert BrightnessFeature().read(half).indices.tolist() == [1]
    level = BrightnessFeature().read(solid((1, 0, 0), (0, 1, 0), (0, 0, 1))).values["level"]
    np.testing.assert_allclose(level, [0.299, 0.587, 0.114], atol=1e-12)
    gap = replace(made, gap=0.05).read(grey)
    assert gap.indices.tolist() == [0, -1, -1, -1, -1, 2]


def test_they_load_by_name() -> None:
    hue = load_feature("hue", hues={"warm": 30, "cold": 210}, called="warmth")
    assert (hue.name, hue.labels) == ("warmth", ("warm", "cold"))
    bright = load_feature("brightness", edges=[0.3, 0.7], labels=["low", "mid", "high"])
    assert bright.labels == ("low", "mid", "high")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HueFeature(hues={"a": 0}), "two or more different angles"),
        (lambda: HueFeature(hues={"a": 0, "b": 360}), "two or more different angles"),
        (lambda: HueFeature(hues={"a": 0, "b": float("nan")}), "two or more different angles"),
        (lambda: HueFeature(grey="red"), "not distinct"),
        (lambda: HueFeature(min_chroma=2), "min_chroma is out of range"),
        (lambda: HueFeature(margin=-1), "margin is out of range"),
        (lambda: HueFeature(region="top"), "unknown region: got top; wanted one of all"),
        (lambda: HueFeature().read(solid((0.5,))), r"wanted \(N, 3, H, W\)"),
        (lambda: BrightnessFeature(edges=[]), "edges of brightness"),
        (lambda: BrightnessFeature(edges=[0.5, 0.2]), "edges of brightness"),
        (lambda: BrightnessFeature(edges=[0.0]), "edges of brightness"),
        (lambda: BrightnessFeature(labels=("a", "b", "c")), "wanted 2 labels, darkest first"),
        (lambda: BrightnessFeature().read(np.zeros((1, 2, 3, 3))), "got 2 channels"),
    ],
)
def test_what_cannot_be_used_is_one_line(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("made", "changes"),
    [
        (
            HueFeature(),
            [
                {"hues": {"a": 0, "b": 90}},
                {"grey": "grey"},
                {"min_chroma": 0.1},
                {"margin": 0.1},
                {"region": "centre"},
                {"name": "colour"},
            ],
        ),
        (
            BrightnessFeature(),
            [
                {"edges": [0.4]},
                {"labels": ("a", "b")},
                {"gap": 0.1},
                {"region": "border"},
                {"name": "light"},
            ],
        ),
    ],
)
def test_the_fingerprint_changes_with_every_option(made: Any, changes: Any) -> None:
    prints = {made.fingerprint, *(replace(made, **change).fingerprint for change in changes)}
    assert len(prints) == 1 + len(changes)
