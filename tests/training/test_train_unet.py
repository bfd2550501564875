"""The training script: an interrupted run gives the weights of an uninterrupted one."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import load_file

PATH = Path(__file__).parents[2] / "training/digits/train_unet.py"
TINY: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 1,
    "block_out_channels": [8, 8],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "num_class_embeds": 11,
}


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("train_unet", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_unet"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["train_unet"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _trainer(script: ModuleType, **choices: Any) -> Any:
    generator = torch.Generator().manual_seed(7)
    images = torch.rand((20, 3, 8, 8), generator=generator) * 2 - 1
    config = script.Config(**{"steps": 6, "batch": 8, "warmup": 2} | choices)
    return script.Trainer(images, torch.arange(20) % 10, config=config, unet=TINY)


def test_resumed_run_equals_uninterrupted_run(script: ModuleType, tmp_path: Path) -> None:
    whole = _trainer(script)
    losses = [whole.train_step()["loss"] for _ in range(6)]

    first = _trainer(script)
    halves = [first.train_step()["loss"] for _ in range(3)]
    first.save(tmp_path / "state.safetensors")
    second = _trainer(script)
    second.load(tmp_path / "state.safetensors")
    halves += [second.train_step()["loss"] for _ in range(3)]

    assert halves == losses
    expected, actual = whole._tensors(), second._tensors()
    assert expected.keys() == actual.keys()
    assert any(name.startswith("exp_avg_sq.") for name in expected)
    for name, tensor in expected.items():
        assert torch.equal(tensor, actual[name]), name


def test_forgetting_the_optimizer_is_noticed(script: ModuleType, tmp_path: Path) -> None:
    """The planted bug: weights alone do not continue a run."""
    whole = _trainer(script)
    for _ in range(6):
        whole.train_step()
    first = _trainer(script)
    for _ in range(3):
        first.train_step()
    first.optimizer.state.clear()
    for _ in range(3):
        first.train_step()
    expected, actual = whole._tensors(), first._tensors()
    assert any(not torch.equal(expected[name], actual[name]) for name in expected)


def test_other_choices_are_refused(script: ModuleType, tmp_path: Path) -> None:
    trainer = _trainer(script)
    trainer.train_step()
    trainer.save(tmp_path / "state.safetensors")
    with pytest.raises(ValueError, match=r"got other \['lr'\]; use the same choices"):
        _trainer(script, lr=1e-4).load(tmp_path / "state.safetensors")
    longer = _trainer(script, steps=12)
    longer.load(tmp_path / "state.safetensors")
    assert longer.step == 1


def test_rows_of_an_epoch_are_a_permutation(script: ModuleType) -> None:
    rows = [script.batch_rows(i, batch=8, num_rows=20, seed=3) for i in range(5)]
    chain = torch.cat(rows)
    assert chain[:20].sort().values.tolist() == list(range(20))
    assert chain[20:40].sort().values.tolist() == list(range(20))
    assert chain[:20].tolist() != chain[20:40].tolist()


def test_spread_sends_the_said_share_to_the_middle(script: ModuleType) -> None:
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    low, high = script.MIDDLE
    for share in (0.0, 0.4):
        place = script.spread(u, share)
        assert (place.diff() > 0).all()
        assert place.min() >= 0
        assert place.max() < 1
        is_middle = ((place >= low) & (place < high)).double().mean()
        assert float(is_middle) == pytest.approx(share + (1 - share) * (high - low), abs=1e-4)
        below = (place < low / 2).double().mean()
        assert float(below) == pytest.approx((1 - share) * low / 2, abs=1e-4)
    torch.testing.assert_close(script.spread(u, 0.0), u)


def test_learning_rate_warms_up_and_decays(script: ModuleType) -> None:
    trainer = _trainer(script, steps=100, warmup=10)
    rates = [trainer.learning_rate(i) for i in range(101)]
    assert rates[9] == pytest.approx(trainer.config.lr)
    assert max(rates) == pytest.approx(trainer.config.lr)
    assert rates[100] == pytest.approx(trainer.config.lr * trainer.config.lr_final)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_global_random_state_is_left_alone(script: ModuleType) -> None:
    before = torch.random.get_rng_state()
    _trainer(script).train_step()
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_run_can_start_from_exported_weights(script: ModuleType, tmp_path: Path) -> None:
    first = _trainer(script)
    first.train_step()
    script.export(first, tmp_path)
    init = script.digest(tmp_path)
    trainer = _trainer(script, seed=1, init=init, variant="control")
    trainer.start_from(tmp_path)
    for p, ema, name in zip(trainer.parameters, trainer.ema, trainer.names, strict=True):
        assert torch.equal(p, first.ema_state()[name])
        assert torch.equal(ema, p)
    assert not trainer.optimizer.state
    trainer.train_step()
    with pytest.raises(ValueError, match="has taken 1 steps"):
        trainer.start_from(tmp_path)
    trainer.save(tmp_path / "state.safetensors")
    again = _trainer(script, seed=1, init=init, variant="control")
    again.load(tmp_path / "state.safetensors")
    for p, q in zip(trainer.parameters, again.parameters, strict=True):
        assert torch.equal(p, q)


def test_other_starting_weights_are_refused(script: ModuleType, tmp_path: Path) -> None:
    trainer = _trainer(script)
    script.export(trainer, tmp_path)
    init = script.digest(tmp_path)
    with pytest.raises(ValueError, match="other weights than none"):
        trainer.start_from(tmp_path)
    trainer.train_step()
    script.export(trainer, tmp_path)
    with pytest.raises(ValueError, match="has other weights than"):
        _trainer(script, init=init).start_from(tmp_path)
    trainer.save(tmp_path / "state.safetensors")
    with pytest.raises(ValueError, match=r"got other \['init', 'variant'\]"):
        _trainer(script, init=init, variant="control").load(tmp_path / "state.safetensors")


def test_export_in_half_precision_is_the_rounded_average(
    script: ModuleType, tmp_path: Path
) -> None:
    trainer = _trainer(script)
    trainer.train_step()
    for dtype in (torch.float32, torch.float16):
        script.export(trainer, tmp_path / str(dtype), dtype)
    sizes = [
        (tmp_path / str(dtype) / script.WEIGHTS_FILE).stat().st_size
        for dtype in (torch.float32, torch.float16)
    ]
    assert sizes[1] < 0.7 * sizes[0]
    half = load_file(tmp_path / "torch.float16" / script.WEIGHTS_FILE)
    for name, p in trainer.ema_state().items():
        assert torch.equal(half[name], p.half())


def test_export_is_what_diffusers_reads(script: ModuleType, tmp_path: Path) -> None:
    trainer = _trainer(script)
    trainer.train_step()
    script.export(trainer, tmp_path)
    model = UNet2DModel.from_pretrained(tmp_path / "unet", local_files_only=True)
    for name, p in model.named_parameters():
        assert torch.equal(p, trainer.ema_state()[name])
    scheduler = DDPMScheduler.from_pretrained(tmp_path / "scheduler", local_files_only=True)
    assert scheduler.config.prediction_type == "v_prediction"
    end = -0.5 * torch.log(scheduler.alphas_cumprod[-1].double())
    assert float(end) == pytest.approx(5.059, abs=1e-3)
