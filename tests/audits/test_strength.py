"""Where image-to-image calls start: against the pipelines' own code, and a measured table."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    FluxImg2ImgPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
)

from critwin.audits.strength import PRESETS, RULES, Sampler, sampler, start_index, strength_at
from critwin.errors import InputError
from critwin.levels import from_logsnr
from critwin.models.pipeline.schedules import read_schedule

LINSPACE = {"timestep_spacing": "linspace"}
ALL: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "ddim-leading": ("sd15", None, {}),
    "ddim-trailing": ("sd15", None, {"timestep_spacing": "trailing"}),
    "ddpm": ("digits", None, {}),
    "euler-linspace": ("sd15", "EulerDiscreteScheduler", LINSPACE),
    "euler-leading": ("sdxl", None, {}),
    "euler-ancestral": ("sd15", "EulerAncestralDiscreteScheduler", {}),
    "dpm": ("sd15", "DPMSolverMultistepScheduler", LINSPACE),
    "unipc": ("sd15", "UniPCMultistepScheduler", LINSPACE),
    "dpm-karras": (
        "sd15",
        "DPMSolverMultistepScheduler",
        {**LINSPACE, "use_karras_sigmas": True},
    ),
    "heun": ("sd15", "HeunDiscreteScheduler", LINSPACE),
    "pndm": ("sd15", "PNDMScheduler", {"skip_prk_steps": True}),
    "sd3": ("sd3", None, {}),
    "flux": ("flux", None, {}),
}
PIPELINES = {
    "whole": (StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline),
    "rest": (StableDiffusion3Img2ImgPipeline, FluxImg2ImgPipeline),
}


def made(name: str, steps: int = 20, **options: Any) -> Sampler:
    model, scheduler, own = ALL[name]
    return sampler(model, scheduler=scheduler, steps=steps, options=own, **options)


@pytest.mark.parametrize(
    ("name", "timesteps", "logsnr", "left"),
    [
        ("ddim-leading", (151, 451, 751), (1.56, -0.64, -2.83), 10),
        ("ddim-trailing", (199, 499, 799), (1.13, -0.96, -3.25), 10),
        ("euler-linspace", (157.7, 473.2, 788.7), (1.49, -0.78, -3.16), 10),
        ("euler-leading", (151, 451, 751), (1.56, -0.64, -2.83), 10),
        ("dpm", (200, 500, 799), (1.12, -0.96, -3.25), 10),
        ("unipc", (200, 500, 799), (1.12, -0.96, -3.25), 10),
        # the network is told t = 15, whose logsnr is 4.25; the image is noised to 4.22
        ("dpm-karras", (15, 380, 827), (4.22, -0.17, -3.51), 10),
        ("heun", (157.7, 473.2, 788.7), (1.49, -0.78, -3.16), 19),
        ("pndm", (201, 501, 801), (1.11, -0.97, -3.27), 11),
    ],
)
def test_the_measured_table(
    name: str, timesteps: tuple[float, ...], logsnr: tuple[float, ...], left: int
) -> None:
    chosen = made(name)
    starts = [chosen.start(strength) for strength in (0.2, 0.5, 0.8)]
    assert tuple(round(chosen.timestep(k), 1) for k in starts) == timesteps
    assert tuple(round(chosen.level(s), 2) for s in (0.2, 0.5, 0.8)) == logsnr
    assert chosen.num_calls(starts[1]) == left


@pytest.mark.parametrize(
    ("model", "options", "size", "flow"),
    [
        ("sd3", {"shift": 1.0}, None, (0.159, 0.474, 0.790)),
        ("sd3", {}, None, (0.364, 0.731, 0.919)),
        ("flux", {}, 256, (None, 0.622, None)),  # mu = .5
        ("flux", {}, 1024, (None, 0.760, None)),  # mu = 1.15
    ],
)
def test_the_measured_table_of_flow_matching(
    model: str, options: dict[str, Any], size: int | None, flow: tuple[float | None, ...]
) -> None:
    chosen = sampler(model, steps=20, options=options, size=size)
    for strength, wanted in zip((0.2, 0.5, 0.8), flow, strict=True):
        if wanted is not None:
            assert round(float(from_logsnr(chosen.level(strength), "flow")), 3) == wanted


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("steps", [1, 4, 20, 25, 50, 100])
def test_every_strength_starts_where_the_pipelines_own_code_does(name: str, steps: int) -> None:
    if name == "dpm-karras" and steps == 1:
        return
    chosen = made(name, steps)
    for pipeline in PIPELINES[chosen.rule]:
        for percent in range(1, 101):
            strength = percent / 100
            stand_in = SimpleNamespace(scheduler=chosen.scheduler)
            timesteps, left = pipeline.get_timesteps(stand_in, steps, strength, "cpu")
            step = chosen.start(strength)
            assert left == steps - step
            if len(timesteps):
                assert float(timesteps[0]) == chosen.timestep(step)
                assert len(timesteps) == chosen.num_calls(step)
            else:
                assert chosen.level(strength) == np.inf


@pytest.mark.parametrize("rule", RULES)
def test_an_advised_strength_starts_at_its_step(rule: Any) -> None:
    pipeline = PIPELINES[rule][0]
    for steps in (*range(1, 60), 100, 1000):
        stand_in = SimpleNamespace(
            scheduler=SimpleNamespace(timesteps=torch.arange(steps), order=1)
        )
        for step in range(steps):
            strength = strength_at(step, steps, rule)
            assert 0 < strength <= 1
            assert start_index(strength, steps, rule) == step
            timesteps, _ = pipeline.get_timesteps(stand_in, steps, strength, "cpu")
            assert int(timesteps[0]) == step
            if steps <= 100:  # what a person types is what is meant
                assert strength == round(strength, 4)


def test_the_float_trap_is_the_pipelines_and_is_avoided() -> None:
    assert start_index(0.58, 50) == 22  # 50 * .58 is a little less than 29
    assert start_index(0.29, 100) == 72
    assert start_index(strength_at(21, 50), 50) == 21
    assert strength_at(21, 50) != 0.58


@pytest.mark.parametrize("name", [name for name in ALL if name != "pndm"])
def test_levels_are_those_of_the_pipeline_model(name: str) -> None:
    chosen = made(name)
    arguments: dict[str, Any] = {"num_inference_steps": 20}
    if name == "flux":
        arguments = {"sigmas": np.linspace(1.0, 1 / 20, 20), "mu": 1.15}
    schedule = read_schedule(chosen.scheduler, arguments)
    np.testing.assert_allclose(chosen.logsnr, schedule.logsnr, rtol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_noising_by_the_schedulers_own_method_has_the_level(name: str) -> None:
    chosen = made(name)
    step = chosen.nearest(0.0)
    z = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    probe = chosen.scheduler
    if hasattr(probe, "set_begin_index"):
        probe.set_begin_index(step * chosen.order)
    when = probe.timesteps[step * chosen.order].reshape(1)
    clean = torch.ones_like(z)
    noisy = (
        probe.add_noise(clean, z, when)
        if hasattr(probe, "add_noise")
        else probe.scale_noise(clean, when, z)
    )
    measured = 2 * np.log(float(noisy.mean()) / float(noisy.std()))
    assert measured == pytest.approx(chosen.logsnr[step], abs=0.02)


def test_reversals() -> None:
    assert made("ddim-leading").reversal == "ode"
    assert made("ddpm").reversal == "stochastic"
    assert made("euler-ancestral").reversal == "stochastic"
    sde = {"algorithm_type": "sde-dpmsolver++"}
    chosen = sampler("sd15", scheduler="DPMSolverMultistepScheduler", options=sde)
    assert chosen.reversal == "stochastic"
    assert made("dpm").reversal == "ode"


def test_a_configuration_is_read_from_where_it_lies(tmp_path: Path) -> None:
    own = made("sd3").scheduler
    own.save_pretrained(tmp_path / "scheduler")
    for place in (tmp_path, tmp_path / "scheduler", tmp_path / "scheduler/scheduler_config.json"):
        read = sampler(place, steps=20)
        assert read.rule == "rest"
        np.testing.assert_array_equal(read.logsnr, made("sd3").logsnr)
    assert sampler(dict(own.config), steps=20).rule == "rest"
    (tmp_path / "other.json").write_text(json.dumps([1]))
    with pytest.raises(InputError, match="cannot read the scheduler"):
        sampler(tmp_path / "other.json")
    (tmp_path / "other.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(InputError, match="no configuration"):
        sampler(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("nothing",), {}, "no scheduler is known by this name"),
        (("sd15",), {"scheduler": "DDIMSheduler"}, "did you mean 'DDIMScheduler'"),
        (("sd15",), {"scheduler": "UNet2DModel"}, "unknown scheduler"),
        (("sd15",), {"scheduler": "os.system"}, "unknown scheduler"),
        (("sd15",), {"steps": 0}, "number of steps"),
        (("sd15",), {"steps": 2000}, "cannot be made"),
        (("sd15",), {"options": {"karras": True}}, "no such option"),
        (("sd15",), {"scheduler": "FlowMatchEulerDiscreteScheduler"}, "does not fit"),
        (("flux",), {"scheduler": "DDIMScheduler"}, "does not fit"),
    ],
)
def test_mistakes_are_one_line(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        sampler(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_strengths_out_of_range() -> None:
    with pytest.raises(InputError, match="out of range"):
        start_index(1.1, 20)
    with pytest.raises(InputError, match="no such step"):
        strength_at(20, 20)
    with pytest.raises(InputError, match="unknown rule"):
        start_index(0.5, 20, "floor")  # type: ignore[arg-type]
    assert set(PRESETS) == {"sd15", "sd21", "sdxl", "sd3", "flux", "digits"}
