"""A configuration that lies about what the network predicts is found out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from critwin.errors import InputError
from critwin.models.pipeline import load_pipeline, probe
from critwin.models.pipeline.engine import Engine
from critwin.models.pipeline.probe import check_prediction_type, measure_prediction
from dressed_mixture import (
    MixtureUNet,
    dressed_ddpm,
    dressed_sd,
    dressed_sd3,
    exact_sources,
    line_mixture,
)
from tiny_pipelines import TINY, diffusers, tiny_ddpm, tiny_dit, tiny_sd, tiny_sdxl

LAW = line_mixture((-2.0, 0.5, 2.5), (0.5, 0.3, 0.2))
LAWS = {
    "three": LAW,
    "far apart": line_mixture((-4.0, 4.0)),
    "near": line_mixture((-1.0, 1.0)),
    "one": line_mixture((0.0,), (1.0,), 1.0),
}
SLOW = pytest.mark.validate
KINDS = {"epsilon": "eps", "v_prediction": "v", "sample": "x_0"}


def dressed(says: str, config: str, *, is_latent: bool = True) -> Any:
    if is_latent:
        return load_pipeline(dressed_sd(LAW, says=says, config=config), steps=20, guidance=1.0)
    return load_pipeline(dressed_ddpm(LAW, says=says, config=config), steps=20)


@pytest.mark.parametrize("is_latent", [True, False])
@pytest.mark.parametrize("config", KINDS)
@pytest.mark.parametrize("says", KINDS)
def test_samples_tell_every_lie(says: str, config: str, is_latent: bool) -> None:
    model = dressed(says, config, is_latent=is_latent)
    found = measure_prediction(model, latents=exact_sources(LAW, 64))
    assert found.configured == KINDS[config]
    assert found.is_contradicted == (says != config)
    assert found.best == KINDS[says]
    assert found.slope is not None
    assert (found.slope > 0.9) == (says == "epsilon")


@pytest.mark.parametrize(
    ("build", "law"),
    [
        pytest.param(build, law, marks=[] if name == "far apart" and build is dressed_sd else SLOW)
        for build in (dressed_sd, dressed_ddpm)
        for name, law in LAWS.items()
    ],
)
def test_without_samples_no_right_model_is_refused(build: Any, law: Any) -> None:
    """Nor is another reading named than the right one, whatever the law."""
    contradicted = set()
    for says in KINDS:
        for config in KINDS:
            model = load_pipeline(build(law, says=says, config=config), steps=20)
            found = measure_prediction(model)
            if says == config:
                assert not found.is_contradicted
            elif found.is_contradicted:
                contradicted.add((says, config))
                assert found.best == KINDS[says]
            if says == "epsilon":  # one evaluation of 16 rows of 16 numbers each
                assert found.is_telling
                assert found.num_evaluations == 16
                assert found.is_contradicted == (config != says)
    if law is LAWS["far apart"]:  # every lie is found out
        assert len(contradicted) == 6


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=[] if f in ("sd", "sd3") else [SLOW]) for f in TINY]
)
def test_a_network_that_has_learnt_nothing_is_not_judged(
    family: str, loaded: Callable[..., Any]
) -> None:
    model = loaded(family, steps=4, probe=None)
    assert any("what the network predicts cannot be told" in note for note in model.notes)


@pytest.mark.parametrize("config", KINDS)
@pytest.mark.parametrize(
    "build",
    [tiny_ddpm, *(pytest.param(b, marks=SLOW) for b in (tiny_sd, tiny_sdxl, tiny_dit))],
)
def test_random_networks_under_every_configuration(build: Any, config: str) -> None:
    options = {"learned": False} if build is tiny_dit else {}
    pipe = build(scheduler="EulerDiscreteScheduler", prediction_type=config, **options)
    assert not measure_prediction(load_pipeline(pipe, steps=5)).is_telling


class EDMUNet(MixtureUNet):
    """The mixture as a network with EDM's preconditioning."""

    def forward(self, sample: torch.Tensor, timestep: Any, *_: Any, **options: Any) -> Any:
        sigma = math.exp(4.0 * float(torch.as_tensor(timestep).reshape(-1)[0]))
        scale = math.hypot(sigma, 0.5)
        x = sample.double() * scale
        alpha = 1.0 / math.hypot(1.0, sigma)
        x_0 = self._denoised(alpha * x, -2.0 * math.log(sigma))
        return (((x_0 - (0.5 / scale) ** 2 * x) / (0.5 * sigma / scale)).to(sample.dtype),)


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_networks_of_edm(name: str) -> None:
    law = LAWS["far apart"]
    scheduler = getattr(diffusers(), name)()
    right = diffusers().DDPMPipeline(unet=EDMUNet(law=law), scheduler=scheduler)
    found = check_prediction_type(load_pipeline(right, steps=20))
    assert found.is_telling
    assert not found.is_contradicted
    given = check_prediction_type(load_pipeline(right, steps=20), latents=exact_sources(law, 8))
    assert given.is_telling
    random = measure_prediction(load_pipeline(tiny_ddpm(name), steps=20))
    assert not random.is_telling
    assert not random.is_contradicted

    class Noise(EDMUNet):
        """Gives its noise back."""

        def forward(self, sample: torch.Tensor, timestep: Any, *_: Any, **options: Any) -> Any:
            return (sample,)

    wrong = diffusers().DDPMPipeline(unet=Noise(law=law), scheduler=scheduler)
    with pytest.raises(InputError, match="not trained with the preconditioning of EDM"):
        load_pipeline(wrong, steps=20, probe=True)


def test_what_is_said() -> None:
    with pytest.raises(InputError) as caught:
        check_prediction_type(dressed("epsilon", "v_prediction"))
    text = str(caught.value)
    assert "got prediction_type v_prediction; slope on pure noise 1.00" in text
    assert 'scheduler_options = { prediction_type = "epsilon" }' in text
    options = {"prediction_type": "epsilon"}
    pipe = dressed_sd(LAW, says="epsilon", config="v_prediction")
    cured = load_pipeline(pipe, steps=20, guidance=1.0, scheduler_options=options)
    assert check_prediction_type(cured).configured == "eps"
    images = cured.decode(exact_sources(LAW, 8))
    assert not check_prediction_type(cured, images=images).is_contradicted
    with pytest.raises(InputError, match="either images or latents"):
        check_prediction_type(cured, images=images, latents=images)


def test_flow_matching() -> None:
    model = load_pipeline(dressed_sd3(LAW), steps=20, guidance=1.0)
    assert not check_prediction_type(model).is_contradicted
    with torch.no_grad():
        transformer = model.pipeline.transformer
        forward = transformer.forward
        transformer.forward = lambda *a, **k: (-forward(*a, **k)[0],)
    with pytest.raises(InputError, match="does not predict what"):
        check_prediction_type(model)


def test_folders_are_probed_and_what_that_cost_is_said(
    loaded: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(**options: Any) -> list[str]:
        return [note for note in loaded("sd", **options).notes if "predict" in note]

    seen: list[int] = []
    original = Engine.once

    def once(self: Engine, noisy: torch.Tensor, *rest: Any) -> Any:
        seen.append(len(noisy))
        return original(self, noisy, *rest)

    monkeypatch.setattr(Engine, "once", once)
    (note,) = told(probe=None)
    assert f"({sum(seen)} evaluations of the network)" in note
    assert told(probe=False) == []

    def full(self: Engine, *_: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Engine, "once", full)
    assert told(probe=None) == [
        "what the network predicts was not tried: the device has no memory for one row"
    ]
    pipe = dressed_sd(LAW)
    assert load_pipeline(pipe, steps=10).notes == load_pipeline(pipe, steps=10, probe=False).notes


def test_large_samples_are_probed_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_ROWS_AT_ONCE", 16)
    model = load_pipeline(dressed_ddpm(LAW), steps=20)
    rows: list[int] = []
    model.pipeline.unet.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    found = measure_prediction(model)
    assert rows == [1] * found.num_evaluations


def test_a_pipeline_is_probed_when_it_is_loaded() -> None:
    pipe = dressed_sd(LAW, says="epsilon", config="v_prediction")
    with pytest.raises(InputError, match="wanted prediction_type epsilon"):
        load_pipeline(pipe, steps=10, guidance=1.0, probe=True)
    right = load_pipeline(dressed_sd(LAW), steps=10, guidance=3.0, probe=True)
    assert right.notes[-1].startswith("the network predicts epsilon, as configured (16 eval")
