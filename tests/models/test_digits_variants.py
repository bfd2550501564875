"""The variants of the digits model: other inks and repeats, and weights that learned them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import binom

from critwin.errors import InputError
from critwin.features import checked_read, load_feature
from critwin.models.base import check_model
from critwin.models.digits import DigitsModel, Variant, load_data, load_digits
from critwin.models.digits.loading import WEIGHTS
from critwin.models.registry import load_model
from critwin.streams import UnitStreams

RECORDS = Path(__file__).parents[2] / "training" / "digits"
UNET = "unet/diffusion_pytorch_model.safetensors"
VARIANTS: tuple[Variant, ...] = ("control", "reversed")


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Variant:
    name: Variant = request.param
    return name


@pytest.fixture(scope="module")
def model(variant: Variant) -> DigitsModel:
    return load_digits(variant=variant)


def folder(variant: Variant) -> Path:
    return WEIGHTS.with_name(f"weights-{variant}")


def record(variant: Variant, name: str = "evaluation") -> dict[str, Any]:
    path = RECORDS / (f"{name}.json" if variant == "main" else f"{name}-{variant}.json")
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def test_a_variant_is_a_model_of_its_own(model: DigitsModel, variant: Variant) -> None:
    assert check_model(model) is model
    assert model.name == f"digits-{variant}"
    assert load_model("digits", variant=variant).fingerprint == model.fingerprint
    others = [load_digits(variant=v).fingerprint for v in ("main", *VARIANTS) if v != variant]  # type: ignore[arg-type]
    assert model.fingerprint not in others
    assert len(set(others)) == 2


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(InputError, match="unknown variant of the digits: got mirrored"):
        load_digits(variant="mirrored")  # type: ignore[arg-type]


def test_prior_and_sources_are_those_of_the_variant(model: DigitsModel, variant: Variant) -> None:
    data = load_data(variant)
    for digit in range(10):
        law = model.prior("ink", str(digit))
        assert law is not None
        counts = data.digit_ink[digit]
        np.testing.assert_allclose(list(law.values()), counts / counts.sum(), atol=1e-15)
    assert model.prior("ground") == {"dark": 0.5, "light": 0.5}
    planted = model.dataset().planted
    members = np.flatnonzero(data.is_member)
    assert planted["ink"].tolist() == np.array(data.labels("ink"))[data.ink[members]].tolist()
    expected = {"control": {"1"}, "reversed": {"1", "4", "16", "64"}}[variant]
    assert set(planted["multiplicity"].tolist()) == expected
    items = list(range(0, 4000, 401))
    images = model.decode(model.dataset().clean(items))
    for name in ("ink", "ground"):
        feature = load_feature(name)
        said = [feature.labels[i] for i in checked_read(feature, images).indices]
        assert said == planted[name][items].tolist()


def test_weights_are_half_in_the_file_and_single_in_use(
    model: DigitsModel, variant: Variant
) -> None:
    path = folder(variant) / UNET
    assert path.stat().st_size < 2_200_000
    stored = load_file(path)
    used = dict(model.denoiser._calling.function.named_parameters())
    assert stored.keys() == used.keys()
    for name, tensor in stored.items():
        assert tensor.dtype == torch.float16
        assert used[name].dtype == torch.float32
        assert torch.equal(used[name], tensor.float())


def test_the_manifest_names_every_file(variant: Variant) -> None:
    known = json.loads((folder(variant) / "manifest.json").read_text())["sha256"]
    files = {p.relative_to(folder(variant)).as_posix() for p in folder(variant).rglob("*.*")}
    assert files == {*known, "manifest.json"}


def test_damaged_weights_are_refused(variant: Variant, tmp_path: Path) -> None:
    copy = shutil.copytree(folder(variant), tmp_path / "weights")
    load_digits(variant=variant, weights=copy)
    content = bytearray((copy / UNET).read_bytes())
    content[-1] ^= 1
    (copy / UNET).write_bytes(content)
    with pytest.raises(InputError, match="is not the file that was shipped"):
        load_digits(variant=variant, weights=copy)


def test_the_training_record_names_the_weights_it_started_from(variant: Variant) -> None:
    config = record(variant, "training")["config"]
    known = json.loads((WEIGHTS / "manifest.json").read_text())["sha256"]
    assert config["variant"] == variant
    assert config["init"] == known[UNET]


def test_the_recorded_ink_law_is_that_of_the_variant(variant: Variant) -> None:
    found = record(variant)["conditional"]
    assert found["per_digit"] >= 100
    table, data = found["ink_table"], load_data(variant)
    law = data.digit_ink / data.digit_ink.sum(1, keepdims=True)
    np.testing.assert_allclose(table["target"], law, atol=1e-15)
    generated, stderr = np.array(table["generated"]), table["largest_stderr"]
    assert np.abs(generated - law).max() == pytest.approx(table["max_error"])
    assert table["max_error"] < 4 * stderr + 0.03
    # the planted bug: the laws of the other models are far off, most of all where inks are skewed
    for other in ("main", *VARIANTS):
        if other != variant:
            counts = load_data(other).digit_ink  # type: ignore[arg-type]
            wrong = counts / counts.sum(1, keepdims=True)
            assert np.abs(generated - wrong).max() > 4 * stderr + 0.03


def test_the_recorded_quality_is_near_that_of_the_main_model(variant: Variant) -> None:
    found, main = (record(v)["conditional"]["digit_accuracy"] for v in (variant, "main"))  # type: ignore[arg-type]
    assert found["interval_95"][1] > main["interval_95"][0] - 0.03
    ground = record(variant)["conditional"]["ground"]
    assert ground["chi2_p_value"] > 1e-3


def test_ones_are_drawn_in_the_inks_of_the_variant(model: DigitsModel, variant: Variant) -> None:
    num = 16
    units = [UnitStreams(3, f"one/{i}", None, 0) for i in range(num)]
    images = model.decode(model.generate(["1"] * num, units))
    num_red = int((checked_read(load_feature("ink"), images).indices == 0).sum())
    share = record(variant)["conditional"]["ink_table"]["generated"][1][0]
    assert binom.cdf(num_red, num, share) > 1e-3
    assert binom.sf(num_red - 1, num, share) > 1e-3
    # in the main model four ones of five are red
    main = record("main")["conditional"]["ink_table"]["generated"][1][0]
    assert binom.cdf(num_red, num, main) < 1e-2


def test_the_card_says_what_the_records_say(variant: Variant) -> None:
    card = (WEIGHTS.parent / f"MODEL_CARD-{variant}.md").read_text()
    found, training = record(variant), record(variant, "training")
    accuracy = found["conditional"]["digit_accuracy"]
    assert f"from {accuracy['value']:.1%} (" in card
    assert f"- {training['config']['steps']} steps of 64 rows" in card
    assert training["config"]["init"][:16] in card
    memory = found["null_label"]["memorisation"]["generated"]
    for key in ("copies", "shape_copies_of_repeated"):
        low, high = memory[key]["interval_95"]
        assert f"{memory[key]['value']:.1%} ({low:.1%} to {high:.1%})" in card
    assert "Not trained from scratch" in card
    assert "main model's inks and its 30 repeated images" in " ".join(card.split())
