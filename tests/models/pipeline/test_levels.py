"""Levels of schedulers: effective ones are the scheduler's, noise has its variance, ends hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from critwin.errors import InputError
from critwin.models.pipeline.schedules import read_schedule
from critwin.models.pipeline.trials import is_renoising, reversals_of
from tiny_pipelines import STABLE, diffusers

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # inside diffusers

KARRAS = {"use_karras_sigmas": True}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
CASES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("DDIMScheduler", {}, {}, "alpha_bar"),
    ("DDIMScheduler", {"timestep_spacing": "trailing"}, {}, "alpha_bar"),
    ("DDPMScheduler", {}, {}, "alpha_bar"),
    ("EulerDiscreteScheduler", {}, {}, "sigma"),
    ("EulerDiscreteScheduler", {"timestep_spacing": "leading"}, {}, "sigma"),
    ("EulerDiscreteScheduler", KARRAS, {}, "sigma"),
    ("EulerAncestralDiscreteScheduler", {}, {}, "sigma"),
    ("HeunDiscreteScheduler", {}, {}, "sigma"),
    ("KDPM2DiscreteScheduler", {}, {}, "sigma"),
    ("LMSDiscreteScheduler", {}, {}, "sigma"),
    ("DPMSolverMultistepScheduler", {}, {}, "vp sigma"),
    ("DPMSolverMultistepScheduler", KARRAS, {}, "vp sigma"),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, {}, "vp sigma"),
    ("DPMSolverMultistepScheduler", FLOW, {}, "flow"),
    ("UniPCMultistepScheduler", {}, {}, "vp sigma"),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, {}, "flow"),
    (
        "FlowMatchEulerDiscreteScheduler",
        {"use_dynamic_shifting": True},
        {"sigmas": np.linspace(1.0, 1 / 12, 12), "mu": 0.7},
        "flow",
    ),
    ("FlowMatchHeunDiscreteScheduler", {"shift": 3.0}, {}, "flow"),
]


def made(name: str, options: dict[str, Any]) -> Any:
    base = {} if name.startswith("FlowMatch") else STABLE
    return getattr(diffusers(), name).from_config({**base, **options})


def named(case: Any) -> str:
    return f"{case[0]}-{'-'.join(map(str, case[1].values()))}"


@pytest.mark.parametrize("case", CASES, ids=named)
def test_levels_are_the_schedulers_own(case: Any) -> None:
    """The logsnr worked out from each scheduler's own tables, in its own convention."""
    name, options, asked, convention = case
    scheduler = made(name, options)
    schedule = read_schedule(scheduler, asked or {"num_inference_steps": 12})
    fresh = schedule.scheduler
    if convention == "alpha_bar":
        alpha_bar = fresh.alphas_cumprod.double().numpy()[fresh.timesteps.numpy()]
        truth = np.log(alpha_bar) - np.log1p(-alpha_bar)
    else:
        sigma = fresh.sigmas.double().numpy()[schedule.starts]
        with np.errstate(divide="ignore"):
            flow = 2 * (np.log1p(-sigma) - np.log(sigma)) if convention == "flow" else 0.0
            truth = flow if convention == "flow" else -2 * np.log(sigma)
    np.testing.assert_allclose(schedule.logsnr, truth, rtol=0, atol=1e-6)
    assert len(schedule.logsnr) == 12
    assert np.all(np.diff(schedule.levels) < 0)
    assert schedule.num_calls == (23 if getattr(fresh, "order", 1) == 2 else 12)
    for place, level in enumerate(schedule.logsnr):
        assert schedule.find(level) == schedule.starts[place]
    assert schedule.find(np.inf) == schedule.num_calls


@pytest.mark.parametrize("case", CASES, ids=named)
def test_noised_unit_latents_have_their_variance(case: Any) -> None:
    name, options, asked, _ = case
    schedule = read_schedule(made(name, options), asked or {"num_inference_steps": 12})
    generator = torch.Generator().manual_seed(5)
    count = 4096
    for place, start in enumerate(schedule.starts):
        clean = torch.randn((count, 1), generator=generator)
        z = torch.randn((count, 1), generator=generator)
        noisy = schedule.noised(clean, z, int(start)).double().numpy()
        signal, noise = schedule.signal[start], schedule.noise[start]
        spread = signal**2 + noise**2
        assert abs(noisy.var() / spread - 1.0) < 4 * np.sqrt(2 / count)
        # and the parts of signal and noise are those of the level
        kept = float((noisy * clean.double().numpy()).mean())
        assert abs(kept - signal) < 4 * np.sqrt((2 * signal**2 + noise**2) / count) + 1e-12
        level = schedule.logsnr[place]
        with np.errstate(over="ignore"):
            assert noise**2 / spread == pytest.approx(1 / (1 + np.exp(level)), abs=1e-9)


def test_many_schedulers_are_known_by_trying() -> None:
    found = {}
    for name in (
        "DDIMScheduler",
        "DDPMScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "DEISMultistepScheduler",
        "SASolverScheduler",
        "LCMScheduler",
    ):
        schedule = read_schedule(made(name, {}), {"num_inference_steps": 8})
        found[name] = tuple(reversals_of(schedule))
    assert found == {
        "DDIMScheduler": ("stochastic", "ode"),
        "DDPMScheduler": ("stochastic",),
        "EulerDiscreteScheduler": ("ode",),
        "EulerAncestralDiscreteScheduler": ("stochastic",),
        "KDPM2AncestralDiscreteScheduler": ("stochastic",),
        "DEISMultistepScheduler": ("ode",),
        "SASolverScheduler": ("stochastic",),
        "LCMScheduler": ("stochastic",),
    }


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("PNDMScheduler", {}, "PNDMScheduler cannot start from a level between"),
        ("IPNDMScheduler", {}, "IPNDMScheduler cannot noise a sample: it has neither"),
        ("DDIMInverseScheduler", {}, "DDIMInverseScheduler cannot noise a sample"),
        ("SCMScheduler", {}, "SCMScheduler cannot noise a sample"),
        ("KarrasVeScheduler", {}, "KarrasVeScheduler cannot"),
        (
            "DDIMScheduler",
            {"rescale_betas_zero_snr": True, "prediction_type": "epsilon"},
            "predicts the noise cannot start where there is no signal.*wanted prediction_type v",
        ),
    ],
)
def test_schedulers_that_cannot_are_refused_by_name(
    name: str, options: dict[str, Any], message: str
) -> None:
    config = options if name in ("SCMScheduler", "KarrasVeScheduler") else {**STABLE, **options}
    scheduler = getattr(diffusers(), name).from_config(config)
    with pytest.raises(InputError, match=message):
        read_schedule(scheduler, {"num_inference_steps": 8})


def test_stochastic_flow_matching_is_known() -> None:
    scheduler = diffusers().FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    schedule = read_schedule(scheduler, {"num_inference_steps": 8})
    assert tuple(reversals_of(schedule)) == ("stochastic",)


@pytest.mark.parametrize(
    ("name", "options", "is_anew"),
    [
        ("DDIMScheduler", {}, False),
        ("DDPMScheduler", {}, False),
        ("DDPMScheduler", {"prediction_type": "v_prediction"}, False),
        ("EulerAncestralDiscreteScheduler", {}, False),
        ("KDPM2AncestralDiscreteScheduler", {}, False),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, False),
        ("LCMScheduler", {}, True),
        ("TCDScheduler", {}, True),
        ("FlowMatchLCMScheduler", {}, True),
        ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}, True),
    ],
)
def test_steps_that_draw_all_noise_anew_are_known(
    name: str, options: dict[str, Any], is_anew: bool
) -> None:
    prediction: Any = "velocity" if name.startswith("Flow") else "eps"
    if options.get("prediction_type") == "v_prediction":
        prediction = "v"
    for steps in (3, 4, 12, 40):
        schedule = read_schedule(made(name, options), {"num_inference_steps": steps})
        way = reversals_of(schedule)["stochastic"]
        assert is_renoising(schedule, way, prediction) == is_anew, steps


def test_noise_that_belongs_to_no_row_is_refused() -> None:
    made_ddim = made("DDIMScheduler", {})

    class Loose(type(made_ddim)):  # type: ignore[misc]
        """Draws from the global generator."""

        def step(self, output: Any, t: Any, sample: Any, return_dict: bool = True) -> Any:
            return (0.5 * sample + torch.randn_like(sample),)

    schedule = read_schedule(Loose.from_config(made_ddim.config), {"num_inference_steps": 8})
    with pytest.raises(InputError, match="draws noise that cannot be tied to a row: got Loose"):
        reversals_of(schedule)


def test_v_prediction_starts_without_signal(
    loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    """Zero terminal SNR: generation starts from pure noise, which is no level to noise to."""
    model = loaded(
        "sd",
        steps=5,
        scheduler_options={
            "rescale_betas_zero_snr": True,
            "timestep_spacing": "trailing",
            "prediction_type": "v_prediction",
        },
    )
    assert model.start_logsnr < -30 or model.start_logsnr == -np.inf
    assert bool(torch.isfinite(model.generate([None], units(1))).all())
    flow = loaded("sd3", steps=5)
    assert flow.start_logsnr == -np.inf
    assert np.isfinite(flow.levels).all()
    assert len(flow.levels) == 4


TRAILING = {
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "prediction_type": "v_prediction",
}


@pytest.mark.parametrize("options", [TRAILING, {**TRAILING, "rescale_betas_zero_snr": False}, {}])
def test_ddim_has_both_ways_at_any_number_of_steps(options: dict[str, Any]) -> None:
    """A first step without signal says nothing of the others."""
    for steps in (2, 3, 4, 6, 7, 10, 13, 20, 25, 28, 30, 33, 45, 50, 60, 75, 100):
        schedule = read_schedule(made("DDIMScheduler", options), {"num_inference_steps": steps})
        assert tuple(reversals_of(schedule)) == ("stochastic", "ode"), steps


@pytest.mark.parametrize(("steps", "is_nan"), [(6, True), (5, False)])
def test_eta_1_where_there_is_no_signal(
    steps: int, is_nan: bool, loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    """Rounding makes the pipeline's own call NaN at some numbers of steps; ours says so."""
    model = loaded("sd", steps=steps, guidance=1.0, scheduler_options=TRAILING)
    streams, pipe = units(2), model.pipeline
    ours = model.generate(["a", "b"], streams)
    pipe.scheduler = type(pipe.scheduler).from_config(model.schedule.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    generators = [one.generator("generate") for one in streams]
    theirs = pipe(
        ["a", "b"],
        latents=torch.stack([torch.randn(model.sample_shape, generator=g) for g in generators]),
        generator=generators,
        num_inference_steps=steps,
        guidance_scale=1.0,
        eta=1.0,
        output_type="latent",
        height=16,
        width=16,
    ).images
    assert bool(torch.isnan(theirs).all()) == is_nan
    said = [note for note in model.notes if "eta" in note]
    if not is_nan:
        assert said == []
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        return
    assert "gives NaN in its first step" in said[0]
    assert "eta is 1 - 1e-06 there" in said[0]
    # a fresh draw around the prediction is the posterior where there is no signal
    x = model.pure_noise(streams)
    second = float(model.levels[-1])
    state = model.partial(x, -np.inf, second, ["a", "b"], streams, purpose="one")
    told = model.engine.told(["a", "b"], None, num=2)
    x_0 = -model.engine.once(x, 0, model.schedule, told)[0]
    signal, noise = (getattr(model.schedule, name)[1] for name in ("signal", "noise"))
    generators = [one.generator("one") for one in streams]
    z = torch.stack([torch.randn(model.sample_shape, generator=g) for g in generators])
    torch.testing.assert_close(state, (signal * x_0 + noise * z).float(), rtol=0, atol=1e-2)
    end = model.denoise(state, second, ["a", "b"], streams)
    assert bool(torch.isfinite(ours).all())
    assert bool(torch.isfinite(end).all())


@pytest.mark.parametrize("family", ["sd", "sd3", "flux", "ddpm"])
def test_no_noise_gives_the_source_back(
    family: str, loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    model = loaded(family, steps=4)
    clean = torch.randn((2, *model.sample_shape), generator=torch.Generator().manual_seed(0))
    streams = units(2)
    noisy = model.noise(clean, np.inf, streams)
    assert torch.equal(noisy, clean)
    assert torch.equal(model.denoise(noisy, np.inf, [None] * 2, streams), clean)
    assert model.num_evaluations(np.inf) == 0


def test_levels_between_are_refused(loaded: Callable[..., Any], units: Callable[..., Any]) -> None:
    model = loaded("sd", steps=4)
    clean = torch.zeros((1, *model.sample_shape))
    for level in (float(model.levels[1]) + 1e-3, np.nan, -np.inf):
        with pytest.raises(InputError, match="the pipeline cannot start from this level"):
            model.noise(clean, level, units(1))
    with pytest.raises(InputError, match="cannot start from this level"):
        model.denoise(clean, float(model.levels[1]), [None], units(1), steps=7)
    half = float(model.levels[0])
    same = model.denoise(clean, half, [None], units(1, half), steps=4)
    assert torch.equal(same, model.denoise(clean, half, [None], units(1, half)))
