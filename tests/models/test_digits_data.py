"""The shipped data set holds exactly what was published about it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from critwin.errors import InputError
from critwin.models.digits import data as digits_data
from critwin.models.digits.data import VARIANTS, DigitsData, Variant, load_data, load_planted

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data() -> DigitsData:
    return load_data()


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    path = ROOT / "training/digits/make_digits.py"
    spec = importlib.util.spec_from_file_location("make_digits", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("variant", VARIANTS)
def test_counts_match_the_published_tables(variant: Variant) -> None:
    data, planted = load_data(variant), load_planted(variant)
    tables = planted["training_counts"]
    assert data.digit_ink.tolist() == tables["digit_ink"]
    assert data.digit_ground.tolist() == tables["digit_ground"]
    assert data.ink_ground.tolist() == tables["ink_ground"]
    rows = 4000 if variant == "control" else 4810
    assert data.digit_ink.sum() == planted["num_training_rows"] == rows
    listed = {row["index"]: row["multiplicity"] for row in planted["repeated"]}
    found = np.flatnonzero(data.multiplicity > 1)
    assert listed == {int(i): int(data.multiplicity[i]) for i in found}
    other = ~data.is_member
    for name, (a, b) in {
        "digit_ink": ("digit", "ink"),
        "digit_ground": ("digit", "ground"),
        "ink_ground": ("ink", "ground"),
    }.items():
        counts = np.zeros_like(np.array(planted["nonmember_counts"][name]))
        np.add.at(counts, (data.label(a)[other], data.label(b)[other]), 1)
        assert counts.tolist() == planted["nonmember_counts"][name]


def test_constants_match_the_published_values() -> None:
    planted = load_planted()
    assert tuple(planted["ground_values"]) == digits_data.GROUND_LABELS
    assert tuple(planted["ground_values"].values()) == digits_data.GROUND_VALUES
    assert tuple(planted["ink_colors"]) == digits_data.INK_LABELS
    assert tuple(map(tuple, planted["ink_colors"].values())) == digits_data.INK_COLORS


def test_every_digit_has_the_same_members_and_repeats(data: DigitsData) -> None:
    for digit in range(10):
        mine = data.digit == digit
        assert (mine & data.is_member).sum() == 400
        assert (mine & ~data.is_member).sum() == 100
        repeated = data.multiplicity[mine & (data.multiplicity > 1)]
        assert sorted(repeated.tolist()) == [4, 16, 64]
    assert (data.multiplicity[~data.is_member] == 0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_ground_is_balanced_within_every_digit_and_ink(variant: Variant) -> None:
    data = load_data(variant)
    cells = data.counts("digit", "ink", "ground")
    assert np.abs(cells[..., 0] - cells[..., 1]).max() <= 1
    assert np.abs(data.digit_ground - data.digit_ground.mean()).max() <= 0.5
    assert data.prior("ground").tolist() == [0.5, 0.5]


@pytest.mark.parametrize("variant", ["control", "reversed"])
def test_a_variant_has_the_images_and_members_of_the_main_data(
    data: DigitsData, variant: Variant
) -> None:
    other = load_data(variant)
    for name in ("masks", "digit", "is_member"):
        np.testing.assert_array_equal(getattr(other, name), getattr(data, name))
    assert (other.ink != data.ink).mean() > 0.2


def test_control_is_uniform_and_repeats_nothing() -> None:
    data = load_data("control")
    np.testing.assert_array_equal(data.multiplicity, data.is_member)
    np.testing.assert_array_equal(np.sort(data.digit_ink, axis=1), [[133, 133, 134]] * 10)
    np.testing.assert_array_equal(np.sort(data.digit_ink.sum(0)), [1333, 1333, 1334])


def test_reversed_turns_every_ink_law_round_and_repeats_the_same_images(data: DigitsData) -> None:
    other = load_data("reversed")
    np.testing.assert_array_equal(other.multiplicity, data.multiplicity)
    assert np.abs(other.digit_ink - (481 - data.digit_ink) / 2).max() <= 0.5
    np.testing.assert_array_equal(other.digit_ink.sum(1), [481] * 10)
    skewed = data.digit_ink.max(1) > 200
    assert skewed.sum() == 8
    np.testing.assert_array_equal(
        other.digit_ink[skewed].argmin(1), data.digit_ink[skewed].argmax(1)
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_non_members_follow_the_law_of_the_variant(variant: Variant) -> None:
    law = load_data(variant).digit_ink / load_data(variant).digit_ink.sum(1, keepdims=True)
    counts = np.array(load_planted(variant)["nonmember_counts"]["digit_ink"])
    np.testing.assert_array_equal(counts.sum(1), [100] * 10)
    assert np.abs(counts - 100 * law).max() < 1


def test_an_unknown_variant_is_refused() -> None:
    for load in (load_data, load_planted):
        with pytest.raises(InputError, match="unknown variant of the digits: got mirrored"):
            load("mirrored")  # type: ignore[operator]


def test_ink_law_is_varied_within_digits_and_flat_overall(data: DigitsData) -> None:
    law = data.digit_ink / data.digit_ink.sum(1, keepdims=True)
    top = law.max(1)
    assert (top > 0.79).sum() == 3
    assert set(law[top > 0.79].argmax(1)) == {0, 1, 2}
    assert (top < 0.34).sum() == 2
    assert np.abs(data.prior("ink") - 1 / 3).max() < 0.01


def test_training_index_repeats_each_image_as_often_as_said(data: DigitsData) -> None:
    index = data.training_index()
    assert len(index) == 4810
    assert (np.bincount(index, minlength=5000) == data.multiplicity).all()


def test_render_follows_its_formula(data: DigitsData) -> None:
    images = data.render(np.arange(5000))
    assert images.shape == (5000, 3, 28, 28)
    assert images.dtype == np.float32
    assert images.min() >= -1
    assert images.max() <= 1
    for row in (0, 1234, 4999):
        m = data.masks[row].astype(np.float64) / 255
        g = digits_data.GROUND_VALUES[data.ground[row]]
        for channel, c in enumerate(digits_data.INK_COLORS[data.ink[row]]):
            np.testing.assert_allclose(images[row, channel], g + m * (c - g), atol=1e-6)


def test_render_takes_integers_lists_and_masks(data: DigitsData) -> None:
    np.testing.assert_array_equal(data.render(7), data.render([7]))
    np.testing.assert_array_equal(
        data.render(~data.is_member), data.render(np.flatnonzero(~data.is_member))
    )


def test_labels_of_products_have_the_last_factor_fastest(data: DigitsData) -> None:
    assert data.labels("ground*ink")[:4] == ("dark*red", "dark*green", "dark*blue", "light*red")
    both = data.label("ground*ink")
    np.testing.assert_array_equal(both // 3, data.label("ground"))
    np.testing.assert_array_equal(both % 3, data.label("ink"))
    prior = data.prior("ground*ink*digit")
    assert prior.shape == (60,)
    assert prior.sum() == pytest.approx(1)
    np.testing.assert_allclose(prior.reshape(2, 3, 10).sum((0, 1)), data.prior("digit"))


def test_unknown_feature_is_refused(data: DigitsData) -> None:
    with pytest.raises(ValueError, match="unknown feature: got colour; wanted one of"):
        data.label("ground*colour")


def test_inconsistent_membership_is_refused(data: DigitsData) -> None:
    with pytest.raises(ValueError, match="exactly for members"):
        DigitsData(
            masks=data.masks,
            digit=data.digit,
            ink=data.ink,
            ground=data.ground,
            is_member=~data.is_member,
            multiplicity=data.multiplicity,
        )
    with pytest.raises(ValueError, match="digit must have shape"):
        DigitsData(
            masks=data.masks[:3],
            digit=data.digit,
            ink=data.ink,
            ground=data.ground,
            is_member=data.is_member,
            multiplicity=data.multiplicity,
        )


def test_arrays_cannot_be_written_to(data: DigitsData) -> None:
    with pytest.raises(ValueError, match="read-only"):
        data.digit[0] = 1


def test_maker_gives_the_shipped_files(
    data: DigitsData, maker: ModuleType, tmp_path: Path
) -> None:
    maker.write(tmp_path, data.masks, data.digit)
    shipped = resources.files(digits_data.__package__) / "data"
    assert (tmp_path / "planted.json").read_text() == (shipped / "planted.json").read_text()
    with np.load(tmp_path / "digits.npz", allow_pickle=False) as archive:
        for name in archive.files:
            np.testing.assert_array_equal(archive[name], getattr(data, name))
    made = (tmp_path / "variants.npz").read_bytes()
    assert made == (shipped / "variants.npz").read_bytes()


def test_maker_writes_the_same_bytes_again(
    data: DigitsData, maker: ModuleType, tmp_path: Path
) -> None:
    blank = np.zeros_like(data.masks)
    for name in ("first", "again"):
        maker.write(tmp_path / name, blank, data.digit)
    first, again = ((tmp_path / name / "digits.npz").read_bytes() for name in ("first", "again"))
    assert first == again


def test_files_are_small() -> None:
    folder = resources.files(digits_data.__package__) / "data"
    assert len((folder / "digits.npz").read_bytes()) < 900_000
    assert len((folder / "variants.npz").read_bytes()) < 20_000


def test_loading_needs_no_torch() -> None:
    code = (
        "import sys, json; from critwin.models.digits.data import load_data; load_data();"
        "print(json.dumps(sorted({'torch', 'mlxtend', 'diffusers'} & set(sys.modules))))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == []
