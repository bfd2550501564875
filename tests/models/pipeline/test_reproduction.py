"""From the pipeline's own initial latents, critwin's loop is the pipeline's own call."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from critwin.models.pipeline import load_pipeline
from tiny_pipelines import tiny_flux

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # inside diffusers
STEPS = 4
PROMPTS = ["a photo of a car", "a dog on the beach"]

UNET_SCHEDULERS: list[tuple[str, dict[str, Any]]] = [
    ("DDIMScheduler", {}),
    ("DDPMScheduler", {}),
    ("EulerDiscreteScheduler", {}),
    ("EulerAncestralDiscreteScheduler", {}),
    ("DPMSolverMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("UniPCMultistepScheduler", {}),
    ("HeunDiscreteScheduler", {}),
    ("KDPM2AncestralDiscreteScheduler", {}),
    ("LCMScheduler", {}),
]


def name_of(case: Any) -> str:
    return "-".join([case[0], *case[1]]) if isinstance(case, tuple) else str(case)


def own_call(model: Any, scheduler: Any, generators: list[torch.Generator], **call: Any) -> Any:
    """What the pipeline itself makes of the noise that critwin starts from."""
    pipe = model.pipeline
    pipe.scheduler = type(scheduler).from_config(scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    latents = torch.stack([torch.randn(model.sample_shape, generator=one) for one in generators])
    return pipe(
        latents=latents, generator=generators, output_type="latent", return_dict=False, **call
    )[0]


UNETS = [
    pytest.param(
        family,
        case,
        guidance,
        id=f"{family}-{name_of(case)}-{guidance:g}",
        # the default tests take each scheduler once, and each family with and without guidance
        marks=[]
        if (family == "sd" and guidance == 3.0)
        or (family, guidance, case) == ("sd", 1.0, UNET_SCHEDULERS[0])
        or (family == "sdxl" and case == UNET_SCHEDULERS[0 if guidance > 1 else 2])
        else [pytest.mark.validate],
    )
    for family in ("sd", "sdxl")
    for case in UNET_SCHEDULERS
    for guidance in (1.0, 3.0)
]


@pytest.mark.parametrize(("family", "case", "guidance"), UNETS)
def test_unet_pipelines_with_prompts(
    family: str,
    case: tuple[str, dict[str, Any]],
    guidance: float,
    loaded: Callable[..., Any],
    units: Callable[..., Any],
) -> None:
    name, options = case
    negative = "blurry" if guidance > 1 and name == "DDIMScheduler" else None
    model = loaded(
        family,
        steps=STEPS,
        scheduler=name,
        scheduler_options=options,
        guidance=guidance,
        negative=negative,
    )
    streams = units(2)
    for way in model.reversals:
        model.reversals = (way,)
        ours = model.generate(PROMPTS, streams)
        theirs = own_call(
            model,
            model.schedule.scheduler,
            [one.generator("generate") for one in streams],
            prompt=PROMPTS,
            negative_prompt=None if negative is None else [negative] * 2,
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            eta=1.0 if way == "stochastic" else 0.0,
            height=16,
            width=16,
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        assert float(ours.std()) > 0.1


def test_reversals_are_not_the_same(loaded: Callable[..., Any], units: Callable[..., Any]) -> None:
    """The comparison above can fail: another way gives other numbers."""
    model = loaded("sd", steps=STEPS)
    assert model.reversals == ("stochastic", "ode")
    one = model.generate(PROMPTS, units(2))
    model.reversals = ("ode",)
    assert float((one - model.generate(PROMPTS, units(2))).abs().max()) > 0.1


FLOWS: list[tuple[str, dict[str, Any]]] = [
    ("FlowMatchEulerDiscreteScheduler", {}),
    ("FlowMatchHeunDiscreteScheduler", {}),
    (
        "DPMSolverMultistepScheduler",
        {"use_flow_sigmas": True, "prediction_type": "flow_prediction"},
    ),
    (
        "UniPCMultistepScheduler",
        {"use_flow_sigmas": True, "prediction_type": "flow_prediction"},
    ),
]


SD3 = [
    pytest.param(
        case,
        guidance,
        id=f"{name_of(case)}-{guidance:g}",
        marks=[] if guidance > 1 or case is FLOWS[0] else [pytest.mark.validate],
    )
    for case in FLOWS
    for guidance in (1.0, 4.0)
]


@pytest.mark.parametrize(("case", "guidance"), SD3)
def test_sd3(
    case: Any, guidance: float, loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    name, options = case
    model = loaded(
        "sd3", steps=STEPS, scheduler=name, scheduler_options=options, guidance=guidance
    )
    streams = units(2)
    ours = model.generate(PROMPTS, streams)
    theirs = own_call(
        model,
        model.schedule.scheduler,
        [one.generator("generate") for one in streams],
        prompt=PROMPTS,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        height=16,
        width=16,
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "dit"])
def test_guidance_up_to_one_is_the_plain_prediction_under_the_prompt(
    family: str, guidance: float, loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    """Models that are distilled to few steps (turbo ones) are published with scale 0."""
    model = loaded(family, steps=STEPS, guidance=guidance, reversal="ode")
    streams = units(2)
    is_dit = family == "dit"
    told = [model.conditions[7], model.conditions[1]] if is_dit else PROMPTS
    ours = model.generate(told, streams)
    theirs = (
        dit_call(model, streams, [7, 1], guidance)
        if is_dit
        else own_call(
            model,
            model.schedule.scheduler,
            [one.generator("generate") for one in streams],
            prompt=PROMPTS,
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            height=16,
            width=16,
        )
    )
    shown = model.decode(ours) if is_dit else ours
    torch.testing.assert_close(shown, theirs, rtol=1e-4, atol=1e-4)
    assert model.num_evaluations(model.start_logsnr) == STEPS  # one a step
    other = model.generate([None, None], streams)
    assert float((other - ours).abs().max()) > 1e-3  # the condition is not passed over
    assert any("does not guide" in note for note in model.notes) == (guidance < 1.0)


@pytest.mark.parametrize("true_guidance", [0.0, 0.5, 1.0])
def test_true_guidance_up_to_one_is_none(
    true_guidance: float, loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    plain = loaded("flux", steps=STEPS, guidance=0.0)
    same = loaded("flux", steps=STEPS, guidance=0.0, true_guidance=true_guidance)
    one, other = (model.generate(PROMPTS, units(2)) for model in (plain, same))
    assert torch.equal(one, other)
    assert same.num_evaluations(same.start_logsnr) == STEPS


@pytest.mark.parametrize(
    ("guidance", "true_guidance"), [(3.5, None), (0.0, None), (0.5, None), (1.0, 2.0)]
)
def test_flux(
    guidance: float,
    true_guidance: float | None,
    loaded: Callable[..., Any],
    units: Callable[..., Any],
) -> None:
    model = loaded("flux", steps=STEPS, guidance=guidance, true_guidance=true_guidance)
    streams = units(2)
    ours = model.generate(PROMPTS, streams)
    pipe = model.pipeline
    pipe.set_progress_bar_config(disable=True)
    generators = [one.generator("generate") for one in streams]
    latents = torch.stack([torch.randn(model.sample_shape, generator=g) for g in generators])
    packed = pipe._pack_latents(latents, 2, *model.sample_shape)
    call = {
        "prompt": PROMPTS,
        "negative_prompt": None if true_guidance is None else ["", ""],
        "true_cfg_scale": true_guidance or 1.0,
        "latents": packed,
        "num_inference_steps": STEPS,
        "guidance_scale": guidance,
        "height": 16,
        "width": 16,
        "return_dict": False,
    }
    theirs = pipe(**call, output_type="latent")[0]
    theirs = pipe._unpack_latents(theirs, 16, 16, pipe.vae_scale_factor)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    images = pipe(**call, output_type="pt")[0]
    torch.testing.assert_close(model.decode(ours), images, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_flux_without_guidance_as_an_input(guidance: float, units: Callable[..., Any]) -> None:
    """Of a FLUX that is distilled to few steps, the pipeline's guidance_scale has no effect."""
    pipe = tiny_flux(guidance_embeds=False)
    model = load_pipeline(pipe, steps=STEPS, guidance=guidance, height=16, width=16)
    assert any("true_cfg_scale" in note for note in model.notes) == (guidance > 1)
    streams = units(2)
    ours = model.generate(PROMPTS, streams)
    pipe.set_progress_bar_config(disable=True)
    generators = [one.generator("generate") for one in streams]
    latents = torch.stack([torch.randn(model.sample_shape, generator=g) for g in generators])
    theirs = pipe(
        prompt=PROMPTS,
        negative_prompt=["", ""],
        true_cfg_scale=guidance,
        guidance_scale=7.0,
        latents=pipe._pack_latents(latents, 2, *model.sample_shape),
        num_inference_steps=STEPS,
        height=16,
        width=16,
        output_type="latent",
        return_dict=False,
    )[0]
    theirs = pipe._unpack_latents(theirs, 16, 16, pipe.vae_scale_factor)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler"])
def test_unconditional(name: str, loaded: Callable[..., Any], units: Callable[..., Any]) -> None:
    model = loaded("ddpm", steps=STEPS, scheduler=name, reversal=None)
    streams = units(2)
    if name == "DDIMScheduler":
        model.reversals = ("ode",)
    ours = model.generate([None, None], streams)
    pipe = model.pipeline
    pipe.scheduler = copy.deepcopy(model.schedule.scheduler)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        batch_size=2,
        generator=[one.generator("generate") for one in streams],
        num_inference_steps=STEPS,
        output_type="pt",
    ).images
    torch.testing.assert_close(model.decode(ours), theirs, rtol=1e-4, atol=1e-4)


def dit_call(model: Any, streams: Any, classes: list[int], guidance: float) -> Any:
    """Images that the pipeline of DiT itself makes of critwin's noise."""
    pipe = model.pipeline
    pipe.scheduler = copy.deepcopy(model.schedule.scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        class_labels=classes,
        guidance_scale=guidance,
        generator=[one.generator("generate") for one in streams],
        num_inference_steps=STEPS,
        output_type="pt",
    ).images


DIT = [
    pytest.param(
        name,
        guidance,
        id=f"{name}-{guidance:g}",
        marks=[]
        if name == "DDIMScheduler" or (name[0] == "D" and guidance > 1)
        else [pytest.mark.validate],
    )
    for name in ("DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler")
    for guidance in (1.0, 4.0)
]


@pytest.mark.parametrize(("name", "guidance"), DIT)
def test_dit(
    name: str, guidance: float, loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    model = loaded("dit", steps=STEPS, scheduler=name, guidance=guidance, reversal="ode")
    assert model.conditions is not None
    streams = units(2)
    ours = model.generate([model.conditions[7], model.conditions[1]], streams)
    # that pipeline never scales its noise, which Euler's schedulers need
    if model.schedule.initial == 1.0:
        theirs = dit_call(model, streams, [7, 1], guidance)
        torch.testing.assert_close(model.decode(ours), theirs, rtol=1e-4, atol=1e-4)
    other = model.generate([model.conditions[3], model.conditions[1]], streams)
    assert torch.equal(other[1], ours[1])
    assert float((other[0] - ours[0]).abs().max()) > 1e-3
