from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from critwin.errors import InputError
from critwin.features import GroundFeature, InkFeature, checked_read
from critwin.features.pixels import DIGITS_GROUNDS, DIGITS_INKS
from critwin.models.digits.data import DigitsData, load_data, load_planted
from critwin.streams import numpy_stream

FEATURES = (GroundFeature(), InkFeature())


@pytest.fixture(scope="module")
def data() -> DigitsData:
    return load_data()


@pytest.fixture(scope="module")
def images(data: DigitsData) -> NDArray[np.float32]:
    return (data.render(np.arange(len(data))) + 1) / 2


def test_the_default_palette_is_the_planted_one(data: DigitsData) -> None:
    planted = load_planted()
    assert {k: 2 * v - 1 for k, v in DIGITS_GROUNDS.items()} == pytest.approx(
        planted["ground_values"]
    )
    assert list(DIGITS_GROUNDS) == list(planted["ground_values"]) == list(data.labels("ground"))
    assert list(DIGITS_INKS) == list(planted["ink_colors"]) == list(data.labels("ink"))
    for label, rgb in DIGITS_INKS.items():
        assert [2 * c - 1 for c in rgb] == pytest.approx(planted["ink_colors"][label])


@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f.name)
def test_the_rules_are_exact_on_all_images(
    feature: Any, data: DigitsData, images: NDArray[np.float32]
) -> None:
    reading = checked_read(feature, images)
    np.testing.assert_array_equal(reading.indices, data.label(feature.name))
    assert reading.values["margin"].min() > 0.99


@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f.name)
def test_the_rules_stand_noise(
    feature: Any, data: DigitsData, images: NDArray[np.float32]
) -> None:
    part = slice(0, 5000, 5)
    noise = 0.1 * numpy_stream(0, "pixels").normal(size=images[part].shape)
    reading = checked_read(feature, np.clip(images[part] + noise, 0, 1))
    np.testing.assert_array_equal(reading.indices, data.label(feature.name)[part])


@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f.name)
def test_rows_do_not_see_each_other(feature: Any, images: NDArray[np.float32]) -> None:
    part = images[:37] + np.float32(0.01) * np.sin(np.arange(28, dtype=np.float32))
    part = np.clip(part, 0, 1)
    whole = feature.read(part)
    for rows in ([5], [5, 36], list(range(36, -1, -1))):
        some = feature.read(torch.from_numpy(part[rows]))
        np.testing.assert_array_equal(some.indices, whole.indices[rows])
        for name, value in some.values.items():
            np.testing.assert_array_equal(value, whole.values[name][rows])


def test_ambiguous_images_are_abstained() -> None:
    half = np.full((1, 3, 28, 28), 0.4)
    assert GroundFeature().read(half).indices.tolist() == [-1]
    assert GroundFeature(abstain_below=0.0).read(half).indices.tolist() != [-1]
    blank = np.full((1, 3, 28, 28), 0.25)
    assert InkFeature().read(blank).indices.tolist() == [-1]
    both = np.full((1, 3, 28, 28), 0.25)
    both[0, 0, 8:14, 8:20] = 1  # half red, half green
    both[0, 1, 14:20, 8:20] = 1
    assert InkFeature().read(both).indices.tolist() == [-1]
    both[0, 1, 14:20, 8:20] = 0.4  # the green half fades
    both[0, 0, 14:20, 8:20] = 0.25
    assert InkFeature().read(both).indices.tolist() == [0]


def test_grey_departs_nowhere_however_light() -> None:
    ramp = np.broadcast_to(np.linspace(0, 1, 28), (1, 3, 28, 28))
    assert InkFeature().read(ramp).values["contrast"] == pytest.approx(0, abs=1e-12)


def test_the_ground_is_read_from_the_frame() -> None:
    image = np.full((1, 1, 9, 9), 0.55)
    image[..., 2:-2, 2:-2] = 0.25
    reading = GroundFeature().read(image)
    assert reading.indices.tolist() == [1]
    assert reading.values["level"] == pytest.approx(0.55)
    assert reading.values["distance"] == pytest.approx(0)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f.name)
def test_what_is_no_image_is_refused(feature: Any) -> None:
    with pytest.raises(InputError, match=r"not a batch of images: got shape \(3, 28, 28\)"):
        feature.read(np.zeros((3, 28, 28)))
    with pytest.raises(InputError, match=r"in \[0, 1\]: got -0.5; decode them first"):
        feature.read(np.full((1, 3, 28, 28), -0.5))
    with pytest.raises(InputError, match=r"in \[0, 1\]: got nan"):
        feature.read(np.full((1, 3, 28, 28), np.nan))
    assert checked_read(feature, np.full((1, 3, 28, 28), np.nan)).indices.tolist() == [-1]


def test_options_are_checked() -> None:
    with pytest.raises(InputError, match="two or more different greys"):
        GroundFeature(grounds={"a": 0.5})
    with pytest.raises(InputError, match="two or more different greys"):
        GroundFeature(grounds={"a": 0.5, "b": 0.5})
    with pytest.raises(InputError, match=r"colour of 'a' is out of range: got -0\.5"):
        GroundFeature(grounds={"a": -0.5, "b": 0.1})
    with pytest.raises(InputError, match="whole number"):
        GroundFeature(border=0)
    with pytest.raises(InputError, match="smaller than the frame"):
        GroundFeature(border=2).read(np.zeros((1, 3, 4, 4)))
    with pytest.raises(InputError, match="abstain_below is out of range"):
        GroundFeature(abstain_below=1.5)
    with pytest.raises(InputError, match="two or more RGB"):
        InkFeature(inks={"a": (1, 0, 0)})
    with pytest.raises(InputError, match="two or more RGB"):
        InkFeature(inks={"a": (1, 0, 0), "b": (1, 0)})
    with pytest.raises(InputError, match="ink 'b' is grey"):
        InkFeature(inks={"a": (1, 0, 0), "b": (0.3, 0.3, 0.3)})
    with pytest.raises(InputError, match=r"same hue: got (a and b|b and a)"):
        InkFeature(inks={"a": (1, 0, 0), "b": (0.5, 0, 0)})
    with pytest.raises(InputError, match="min_contrast is out of range"):
        InkFeature(min_contrast=-1)
    with pytest.raises(InputError, match=r"wanted \(N, 3, H, W\)"):
        InkFeature().read(np.zeros((1, 1, 28, 28)))


@pytest.mark.parametrize(
    ("feature", "changes"),
    [
        (
            GroundFeature(),
            [
                {"grounds": {"dark": 0.25, "light": 0.5}},
                {"grounds": {"light": 0.55, "dark": 0.25}},
                {"grounds": {"dim": 0.25, "light": 0.55}},
                {"border": 3},
                {"abstain_below": 0.2},
                {"name": "grey"},
            ],
        ),
        (
            InkFeature(),
            [
                {"inks": {**DIGITS_INKS, "red": (0.9, 0.25, 0.25)}},
                {"inks": dict(reversed(DIGITS_INKS.items()))},
                {"min_contrast": 0.2},
                {"abstain_below": 0.2},
                {"name": "colour"},
            ],
        ),
    ],
    ids=["ground", "ink"],
)
def test_the_fingerprint_changes_with_every_option(
    feature: Any, changes: list[dict[str, Any]]
) -> None:
    others = [replace(feature, **change).fingerprint for change in changes]
    assert len({feature.fingerprint, *others}) == 1 + len(changes)
    assert replace(feature).fingerprint == feature.fingerprint
