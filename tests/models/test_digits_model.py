from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom

from critwin.errors import InputError
from critwin.features import checked_read, load_feature
from critwin.levels import logsnr_of_ou_time, ou_time, snap
from critwin.models.base import Dataset, check_model
from critwin.models.digits import DigitsDataset, DigitsModel, load_data, load_digits
from critwin.models.digits.loading import GUIDANCE, GUIDANCE_INTERVAL, WEIGHTS
from critwin.models.registry import load_model
from critwin.streams import UnitStreams

DATA = load_data()


@pytest.fixture(scope="module")
def model() -> DigitsModel:
    return load_digits()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WEIGHTS, tmp_path / "weights"))


def streams(num: int, *, logsnr: float | None = None, seed: int = 5) -> list[UnitStreams]:
    return [UnitStreams(seed, f"d{i}", logsnr, 0) for i in range(num)]


def level(model: DigitsModel, t: float) -> float:
    assert model.levels is not None
    return snap(float(logsnr_of_ou_time(t)), model.levels)[1]


def test_it_is_a_model_with_the_shipped_schedule(model: DigitsModel) -> None:
    assert check_model(model) is model
    assert load_model("digits").fingerprint == model.fingerprint
    assert model.sample_shape == (3, 28, 28)
    assert model.conditions == tuple("0123456789")
    assert model.reversals[0] == "stochastic"
    assert model.levels is not None
    assert len(model.levels) == 1000
    assert np.all(np.diff(model.levels) < 0)
    assert model.levels[-1] < logsnr_of_ou_time(5.0)  # it starts beyond t = 5
    assert isinstance(model.dataset(), Dataset)


def test_loading_needs_no_network_and_no_global_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    before = torch.random.get_rng_state()
    load_digits()
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_data_need_no_torch() -> None:
    code = (
        "import sys, critwin.models.digits as d; d.load_data(); "
        "print({'torch', 'diffusers'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_the_manifest_names_every_shipped_file() -> None:
    known = json.loads((WEIGHTS / "manifest.json").read_text())["sha256"]
    files = {f.relative_to(WEIGHTS).as_posix() for f in WEIGHTS.rglob("*") if f.is_file()}
    assert files == {*known, "manifest.json"}


def flip(folder: Path) -> None:
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip, r"model\.safetensors of the digits model is not the file that was shipped"),
        (lambda f: (f / "unet/config.json").write_text("{}"), "config.json of the digits model"),
        (lambda f: (f / "scheduler/scheduler_config.json").unlink(), "cannot be read"),
        (lambda f: (f / "manifest.json").unlink(), "no readable manifest"),
        (lambda f: (f / "manifest.json").write_text("[]"), "no readable manifest"),
        (lambda f: (f / "manifest.json").write_text('{"sha256": {}}'), "not the file"),
    ],
)
def test_damaged_weights_are_refused(
    weights: Path, damage: Callable[[Path], Any], message: str
) -> None:
    load_digits(weights=weights)
    damage(weights)
    with pytest.raises(InputError, match=message) as caught:
        load_digits(weights=weights)
    assert "\n" not in str(caught.value)


def test_the_fingerprint_changes_with_everything(model: DigitsModel) -> None:
    shifted = DigitsModel(model.denoiser, DATA)
    object.__setattr__(shifted, "data", DATA.__class__(**{**vars(DATA), "ink": DATA.ink[::-1]}))
    nudged = load_digits()
    with torch.no_grad():
        next(iter(nudged.denoiser._calling.function.parameters())).add_(1e-6)
    prints = [
        model.fingerprint,
        load_digits(steps=10).fingerprint,
        load_digits(guidance=2.0).fingerprint,
        load_digits(part="all").fingerprint,
        shifted.fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert load_digits(weights=WEIGHTS).fingerprint == model.fingerprint


def test_options_are_checked() -> None:
    with pytest.raises(InputError, match="unknown part of the digits: got train"):
        load_digits(part="train")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="too few steps"):
        load_digits(steps=0)
    with pytest.raises(InputError, match="cannot use this device: got nowhere"):
        load_digits(device="nowhere")


def test_the_prior_is_that_of_the_training_rows(model: DigitsModel) -> None:
    rows = DATA.training_index()
    for name in ("digit", "ink", "ground", "ground*ink", "ink*ground", "ground*ink*digit"):
        law = model.prior(name)
        assert law is not None
        assert list(law) == list(DATA.labels(name))
        assert sum(law.values()) == pytest.approx(1)
        shares = np.bincount(DATA.label(name)[rows], minlength=len(law)) / len(rows)
        np.testing.assert_allclose(list(law.values()), shares, atol=1e-15)
    ones = model.prior("ink", "1")
    assert ones == pytest.approx({"red": 385 / 481, "green": 48 / 481, "blue": 48 / 481})
    assert model.prior("hat") is None
    assert model.prior("ink*hat") is None
    with pytest.raises(InputError, match="unknown digit: got ten"):
        model.prior("ink", "ten")


def test_the_features_have_the_labels_of_the_prior(model: DigitsModel) -> None:
    for name in ("digit", "ink", "ground"):
        law = model.prior(name)
        assert law is not None
        assert tuple(law) == load_feature(name).labels


def test_the_dataset_offers_each_image_once() -> None:
    parts = {
        part: DigitsDataset(data=DATA, part=part) for part in ("members", "nonmembers", "all")
    }  # type: ignore[arg-type]
    assert {part: len(data) for part, data in parts.items()} == {
        "members": 4000,
        "nonmembers": 1000,
        "all": 5000,
    }
    for part, data in parts.items():
        assert len(set(data.rows.tolist())) == len(data)
        assert {len(column) for column in data.planted.values()} == {len(data)}
        members = set(data.planted["is_member"].tolist())
        assert members == {"members": {"True"}, "nonmembers": {"False"}}.get(
            part, {"True", "False"}
        )
    data = parts["members"]
    assert sorted(set(data.planted["multiplicity"].tolist()), key=int) == ["1", "4", "16", "64"]
    clean = data.clean([3, 0])
    assert clean.dtype == torch.float32
    row = int(data.planted["image"][3])
    np.testing.assert_array_equal(clean[0].numpy(), DATA.render(row)[0])
    assert data.planted["digit"][3] == str(DATA.digit[row])
    assert data.planted["ink"][3] == DATA.labels("ink")[DATA.ink[row]]
    with pytest.raises(InputError, match="no such item of the digits: got 4000"):
        data.clean([4000])
    with pytest.raises(InputError, match="got -1"):
        data.clean([-1])
    assert data.clean([]).shape == (0, 3, 28, 28)


def test_planted_truth_is_what_the_features_read(model: DigitsModel) -> None:
    data = model.dataset()
    items = list(range(0, 4000, 97))
    images = model.decode(data.clean(items))
    for name in ("ink", "ground"):
        feature = load_feature(name)
        said = [feature.labels[i] for i in checked_read(feature, images).indices]
        assert said == data.planted[name][items].tolist()


def test_encoding_undoes_decoding(model: DigitsModel) -> None:
    clean = model.dataset().clean([0, 1])
    torch.testing.assert_close(model.encode(model.decode(clean)), clean, atol=1e-6, rtol=0)
    wild = torch.full((1, 3, 28, 28), 3.0)
    assert float(model.decode(wild).max()) == 1.0


def test_little_noise_is_undone_and_rows_do_not_see_each_other(model: DigitsModel) -> None:
    items = list(range(0, 4000, 400))
    clean = model.dataset().clean(items)
    logsnr = level(model, 0.1)
    units = streams(10, logsnr=logsnr)
    noisy = model.noise(clean, logsnr, units)
    result = model.denoise(noisy, logsnr, [None] * 10, units)
    for name in ("digit", "ink", "ground"):
        feature = load_feature(name)
        after = checked_read(feature, model.decode(result)).indices
        before = checked_read(feature, model.decode(clean)).indices
        assert (after == before).sum() >= 9
    order = [9, 3, 1, 0, 2, 4, 5, 6, 7, 8]
    again = model.denoise(noisy[order], logsnr, [None] * 10, [units[i] for i in order])
    torch.testing.assert_close(again, result[order], atol=1e-5, rtol=0)
    other = model.denoise(noisy, logsnr, ["3"] * 10, units)
    assert not torch.equal(other, result)


ASKED = [str(i % 10) for i in range(20)]


def said_of(images: torch.Tensor, name: str = "digit") -> list[str]:
    feature = load_feature(name)
    return [feature.labels[i] for i in checked_read(feature, images).indices]


def num_as_asked(images: torch.Tensor) -> int:
    return sum(a == b for a, b in zip(ASKED, said_of(images), strict=True))


@pytest.fixture(scope="module")
def drawn(model: DigitsModel) -> torch.Tensor:
    return model.decode(model.generate(ASKED, streams(20)))


@pytest.fixture(scope="module")
def drawn_guided() -> torch.Tensor:
    model = load_digits(guidance=GUIDANCE, guidance_interval=GUIDANCE_INTERVAL)
    return model.decode(model.generate(ASKED, streams(20)))


def test_asked_digits_are_drawn_in_planted_colours(
    model: DigitsModel, drawn: torch.Tensor
) -> None:
    # chance is 2 of 20; the null label below gets at most 8
    assert num_as_asked(drawn) >= 11
    for name in ("ink", "ground"):
        assert (checked_read(load_feature(name), drawn).indices >= 0).sum() >= 19
    assert np.median(checked_read(load_feature("ground"), drawn).values["distance"]) < 0.05
    # the twin: images of the null label agree with what was asked as chance does
    assert num_as_asked(model.decode(model.generate([None] * 20, streams(20)))) <= 8


def test_guidance_in_its_interval_changes_the_digit_alone(
    drawn: torch.Tensor, drawn_guided: torch.Tensor
) -> None:
    assert not torch.equal(drawn, drawn_guided)
    assert num_as_asked(drawn_guided) >= num_as_asked(drawn)
    for name in ("ink", "ground"):
        pairs = zip(said_of(drawn, name), said_of(drawn_guided, name), strict=True)
        assert sum(a == b for a, b in pairs) >= 17  # chance agrees in about half


def test_guidance_does_nothing_before_its_interval() -> None:
    plain, guided = (
        load_digits(**options).denoiser
        for options in ({}, {"guidance": GUIDANCE, "guidance_interval": GUIDANCE_INTERVAL})
    )
    start = plain.start_logsnr
    path = plain.schedule.path()
    into = next(i for i, level in enumerate(path) if ou_time(level) < GUIDANCE_INTERVAL[1])
    noise = plain.pure_noise(streams(4))
    states = [
        [m.partial(noise, start, float(path[k]), ASKED[:4], streams(4)) for m in (plain, guided)]
        for k in (into, into + 1)
    ]
    assert torch.equal(*states[0])
    assert not torch.equal(*states[1])
    spent = guided.num_evaluations(start) - plain.num_evaluations(start)
    low, high = GUIDANCE_INTERVAL
    assert spent == sum(low <= ou_time(level) <= high for level in path) == 2


@pytest.mark.parametrize("kind", ["unguided", "guided"])
def test_the_share_read_as_asked_is_what_the_record_says(
    kind: str, drawn: torch.Tensor, drawn_guided: torch.Tensor
) -> None:
    right = num_as_asked(drawn if kind == "unguided" else drawn_guided)
    share = recorded(kind)["digit_accuracy"]["value"]
    # both tails, one in a thousand each
    assert binom.cdf(right, 20, share) > 1e-3
    assert binom.sf(right - 1, 20, share) > 1e-3


def test_the_card_says_what_was_recorded_with_and_without_guidance() -> None:
    card = " ".join((WEIGHTS.parent / "MODEL_CARD.md").read_text().split())
    for kind in ("unguided", "guided"):
        row = recorded(kind)
        assert row["per_digit"] >= 300
        low, high = row["digit_accuracy"]["interval_95"]
        share = row["digit_accuracy"]["value"]
        assert f"read from {share:.1%} ({low:.1%} to {high:.1%})" in card
        assert f"{100 * row['ink_table']['max_error']:.1f} points" in card
    record = json.loads(RECORD.read_text())["guided"]
    assert record["guidance"] == GUIDANCE
    assert tuple(record["guidance_interval"]) == GUIDANCE_INTERVAL


def test_guided_images_reach_the_goal_and_unguided_ones_half_of_it() -> None:
    unguided, guided = recorded("unguided"), recorded("guided")
    assert guided["digit_accuracy"]["interval_95"][0] > 0.95
    for row in (unguided, guided):
        assert row["per_digit"] >= 600
        assert row["ink_table"]["max_error"] <= 0.05
    assert guided["ink_table"]["rms_error_beyond_counting"] <= 0.02
    # a record of one kind is not the other's
    assert unguided["digit_accuracy"]["interval_95"][1] < 0.95


RECORD = Path(__file__).parents[2] / "training" / "digits" / "evaluation.json"


def recorded(kind: str) -> dict[str, Any]:
    """What the evaluation found for images of every digit, without or with guidance."""
    record = json.loads(RECORD.read_text())
    found: dict[str, Any] = (record if kind == "unguided" else record["guided"])["conditional"]
    return found
