"""A pipeline keeps a model's promises: rows, streams, conditions, guidance, images, digests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

import critwin as cw
from critwin.errors import InputError, MissingExtraError
from critwin.experiments.spec import check_condition
from critwin.features.function import FunctionFeature
from critwin.levels import ou_time
from critwin.models.base import Model
from critwin.models.pipeline import load_pipeline
from critwin.reports.report import report_data
from critwin.runs.config import parse_config
from critwin.runs.executor import run_experiment
from tiny_pipelines import TINY, diffusers, seeded, tiny_ddpm, tiny_dit, tiny_flux, tiny_sd

PROMPTS = ["a cat", None, "a dog"]
FAMILIES = ["sd", "sdxl", "sd3", "flux", "ddpm", "dit"]


def conditions_of(model: Any, count: int = 3) -> list[str | None]:
    if model.conditions is None:
        return (PROMPTS * count)[:count]
    return [model.conditions[n] if model.conditions and n != 1 else None for n in range(count)]


def counted(model: Any) -> list[int]:
    """Rows of every call of the network."""
    seen: list[int] = []
    network = getattr(model.pipeline, model.family.network)

    def note(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(len(args[0] if args else kwargs["hidden_states"]))

    network.register_forward_pre_hook(note, with_kwargs=True)
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_is_bit_identical_wherever_it_stands(
    family: str, loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    model = loaded(family, steps=3)
    assert isinstance(model, Model)
    level = float(model.levels[-1])
    conditions, streams = conditions_of(model), units(3, level)
    clean = model.generate(conditions, units(3))
    order = [2, 0, 1]
    again = model.generate([conditions[n] for n in order], [units(3)[n] for n in order])
    assert torch.equal(again, clean[order])
    noisy = model.noise(clean, level, streams)
    for way in model.reversals:
        whole = model.denoise(noisy, level, conditions, streams, way)
        moved = model.denoise(
            noisy[order],
            level,
            [conditions[n] for n in order],
            [streams[n] for n in order],
            way,
        )
        assert torch.equal(moved, whole[order])
        spoilt = noisy.clone()
        spoilt[1] = torch.nan
        kept = model.denoise(spoilt, level, conditions, streams, way)
        assert torch.equal(kept[[0, 2]], whole[[0, 2]])
        assert bool(torch.isnan(kept[1]).all())
        other = model.denoise(noisy, level, conditions, units(3, level, seed=1), way)
        assert torch.equal(other, whole) == (way == "ode")
        whole += 1  # an ordinary tensor, not one of inference mode


def test_another_way_of_reversing_is_refused(
    loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    model = loaded("sd", steps=4, scheduler="EulerDiscreteScheduler")
    level = float(model.levels[1])
    x = torch.zeros((1, *model.sample_shape))
    with pytest.raises(InputError, match=r"has no such reversal.*wanted one of ode"):
        model.denoise(x, level, ["a"], units(1), "stochastic")
    with pytest.raises(InputError, match="EulerDiscreteScheduler has no such reversal"):
        loaded("sd", scheduler="EulerDiscreteScheduler", reversal="stochastic")
    assert loaded("sd", steps=4, reversal="ode").reversals == ("ode", "stochastic")


# --- conditions and guidance --------------------------------------------------------------


def test_text_encoders_run_once_a_prompt(
    loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    model = loaded("sdxl", steps=3)
    runs: list[int] = []
    model.pipeline.text_encoder.register_forward_hook(lambda *_: runs.append(1))
    model.generate(["a", "b", "a", None], units(4))
    model.generate(["b", "a"], units(2))
    assert model.num_text_encodings == 3  # a, b, and the unconditional one
    assert len(runs) == 3


def test_guidance_is_one_doubled_batch(
    loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    model = loaded("sd", steps=4, guidance=3.0)
    seen = counted(model)
    model.generate(["a", None], units(2))
    assert seen == [4] * 4
    level = float(model.levels[1])
    assert model.num_evaluations(level) == 2 * 2
    assert model.num_evaluations(level, guidance=1.0) == 2
    seen.clear()
    model.denoise(torch.zeros((2, *model.sample_shape)), level, ["a", None], units(2), guidance=1)
    assert seen == [2, 2]


def test_a_row_without_condition_is_not_guided(
    loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    """Whatever the scale and the negative prompt, None is the plain unconditional prediction."""
    for family in ("sdxl", "dit"):
        plain = loaded(family, steps=3, guidance=1.0)
        options = {} if family == "dit" else {"negative": "blurry"}
        strong = loaded(family, steps=3, guidance=5.0, **options)
        one = plain.generate([None] * 2, units(2))
        other = strong.generate([None] * 2, units(2))
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


def test_guidance_only_inside_its_interval(
    loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    model = loaded("sd", steps=6, guidance=3.0)
    times = ou_time(model.schedule.logsnr)  # falling: from noise to clean
    middle = [float(times[3]), float(times[2])]
    part = loaded("sd", steps=6, guidance=3.0, guidance_interval=middle)
    seen = counted(part)
    inside = part.generate(["a"], units(1))
    assert seen == [1, 1, 2, 2, 1, 1]
    assert part.num_evaluations(part.start_logsnr) == 8
    stop = float(part.schedule.logsnr[3])
    assert part.num_evaluations(part.start_logsnr, stop=stop) == 1 + 1 + 2
    assert part.num_evaluations(stop) == 2 + 1 + 1
    everywhere = loaded("sd", steps=6, guidance=3.0, guidance_interval=[0.0, 100.0])
    nowhere = loaded("sd", steps=6, guidance=3.0, guidance_interval=[90.0, 100.0])
    plain = loaded("sd", steps=6, guidance=1.0)
    full = model.generate(["a"], units(1))
    none = plain.generate(["a"], units(1))
    assert torch.equal(everywhere.generate(["a"], units(1)), full)
    assert torch.equal(nowhere.generate(["a"], units(1)), none)
    assert float((inside - full).abs().max()) > 1e-3
    assert float((inside - none).abs().max()) > 1e-3


@pytest.fixture(scope="module")
def made() -> Mapping[str, Any]:
    """Pipelines as objects, for options that are refused before anything runs."""
    return {family: build() for family, build in TINY.items()}


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("ddpm", {"guidance": 2.0}, "no conditions, so it cannot be guided"),
        ("ddpm", {"negative": "x"}, "needs a pipeline that takes prompts"),
        ("sd", {"true_guidance": 2.0}, "one kind of guidance only"),
        ("sd", {"guidance": 1.0, "negative": "x"}, "negative prompt has no effect"),
        ("flux", {"negative": "x"}, "no effect.*wanted true_guidance"),
        ("flux", {"guidance_interval": [0.1, 1.0]}, "guidance_interval has no effect"),
        ("sd", {"guidance_interval": [1.0, 0.1]}, "not an interval of guidance"),
        ("sd", {"guidance_interval": 3}, "not an interval of guidance"),
        ("sd", {"guidance": 0.5, "negative": "x"}, "no effect.*wanted guidance above 1"),
        ("flux", {"true_guidance": 1.0, "negative": "x"}, "wanted true_guidance above 1"),
        ("sd", {"guidance": float("nan")}, "guidance is not finite"),
        ("sd", {"guidance": -1.0}, "guidance is negative: got -1.*make it the `negative` one"),
        ("flux", {"guidance": -1}, "guidance is negative"),
        ("flux", {"true_guidance": -2.0}, "true_guidance is negative"),
        ("sd", {"guidance": "7.5"}, "guidance is not a number: got '7.5'"),
        ("sd", {"guidance": True}, "guidance is not a number: got True"),
        ("sd", {"steps": 0}, "not a number of steps"),
        ("sd", {"height": 15}, "cannot make images of this height.*multiple of 2"),
        ("flux", {"width": 18}, "cannot make images of this width.*multiple of 4"),
        ("dit", {"height": 32}, "makes images of one size"),
        ("sd", {"height": 10**7}, "cannot make images of this height.*at most 16384"),
        ("sd", {"max_sequence_length": 8}, "for pipelines with a T5 encoder"),
        ("flux", {"max_sequence_length": 0}, "not a number of tokens.*got 0.*from 1 to 512"),
        ("sd3", {"max_sequence_length": 513}, "not a number of tokens.*got 513"),
        ("sd3", {"max_sequence_length": "9"}, "not a number of tokens.*got '9'"),
        ("sd", {"scheduler": "DDIMSchedular"}, "unknown scheduler.*did you mean 'DDIMScheduler'"),
        ("sd", {"scheduler": "os.system"}, "unknown scheduler"),
        ("sd", {"scheduler": "UNet2DModel"}, "unknown scheduler"),
        ("sd", {"scheduler_options": {"use_karas": True}}, "has no such option"),
        ("sd", {"scheduler": "FlowMatchEulerDiscreteScheduler"}, "does not fit the pipeline"),
        ("sd3", {"scheduler": "DDIMScheduler"}, "does not fit the pipeline"),
        (
            "sd",
            {"scheduler": "EDMEulerScheduler"},
            "EDMEulerScheduler does not fit the network: got a network of DDIMScheduler, trained "
            "without the preconditioning of EDM",
        ),
        ("ddpm", {"scheduler": "EDMDPMSolverMultistepScheduler"}, "does not fit the network"),
        (
            "sdxl",
            {"scheduler": "CMStochasticIterativeScheduler"},
            'output is already a sample.*critwin.Denoiser\\(prediction="sample"\\)',
        ),
        (
            "sd3",
            {
                "scheduler": "DPMSolverMultistepScheduler",
                "scheduler_options": {"use_flow_sigmas": True},
            },
            "misreads a network that predicts velocities",
        ),
        ("sd", {"scheduler": "PNDMScheduler"}, "PNDMScheduler cannot start from a level"),
        ("sd", {"steps": 5000}, "does not take these steps|do not fall"),
        (
            "sd",
            {"scheduler_options": {"rescale_betas_zero_snr": True}},
            "predicts the noise cannot start where there is no signal",
        ),
        ("sd", {"scheduler_options": {"prediction_type": "noise"}}, "does not say what"),
        (
            "sd",
            {"scheduler_options": {"beta_end": 1.5}},
            "cannot add more noise than all: got betas up to 1.5.*look at beta_end",
        ),
        ("sd", {"probe": "no"}, "probe is a switch: got 'no'; wanted true or false"),
    ],
)
def test_options_that_cannot_be_used(
    family: str, options: dict[str, Any], message: str, made: Mapping[str, Any]
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_pipeline(made[family], **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("sd", {"dtype": "float8"}, "unknown precision"),
        ("sd", {"device": "cuda:99"}, 'this device is not there: got cuda:99; wanted "cpu"'),
        ("sd", {"device": "gpu"}, 'unknown device: got gpu; wanted "cpu", "cuda"'),
        ("sd", {"vae_tiling": "yes"}, "vae_tiling is a switch: got 'yes'; wanted true or false"),
        (
            "sd",
            {"variant": "fp16"},
            "has this variant: got fp16; wanted no variant: there is none",
        ),
        ("sd", {"offload": "disk"}, "unknown offload"),
        ("sd", {"offload": "sequential"}, "offload needs another device"),
        ("ddpm", {"vae_tiling": True}, "vae_tiling needs a VAE that can do it: got no VAE"),
        ("sd", {"revision": "main"}, "a revision is for models of the hub"),
    ],
)
def test_options_of_loading_that_cannot_be_used(
    family: str, options: dict[str, Any], message: str, loaded: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        loaded(family, **options)
    assert "\n" not in str(caught.value)


def test_conditions_are_checked(loaded: Callable[..., Any], units: Callable[..., Any]) -> None:
    dit = loaded("dit", steps=3)
    assert dit.conditions[:4] == ("cat", "dog", "crane (2)", "crane (3)")
    for name in ("cow", "crane"):  # of two classes that are cranes, none is meant by its name
        with pytest.raises(InputError, match=f"does not know this condition: got {name}"):
            dit.generate([name], units(1))
    with pytest.raises(InputError, match=r"did you mean 'crane \(2\)' or 'crane \(3\)'\?"):
        check_condition(dit, "crane")
    own = load_pipeline(tiny_dit(), steps=3)  # the object keeps the last of them alone
    assert own.conditions is not None
    assert own.conditions[:4] == ("cat", "dog", "2", "crane")
    ddpm = loaded("ddpm", steps=3)
    assert ddpm.conditions == ()
    with pytest.raises(InputError, match="wanted no condition"):
        ddpm.generate(["cow"], units(1))
    with pytest.raises(InputError, match="conditions do not fit: got 2; wanted 3"):
        loaded("sd", steps=3).generate(["a", "b"], units(3))
    with pytest.raises(InputError, match="samples have the wrong shape"):
        ddpm.noise(torch.zeros(2, 3, 8, 8), float(ddpm.levels[0]), units(3))
    with pytest.raises(InputError, match="cannot be guided"):
        ddpm.num_evaluations(float(ddpm.levels[0]), guidance=3.0)
    sd = loaded("sd", steps=3)
    assert sd.num_evaluations(float(sd.levels[0]), guidance=0.0) == 1
    with pytest.raises(InputError, match="guidance is negative"):
        sd.num_evaluations(float(sd.levels[0]), guidance=-3.0)


def test_long_prompts_are_said_to_be_cut(
    loaded: Callable[..., Any], units: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = loaded("sd", steps=2)
    model.generate(["a short one"], units(1))
    assert model.notes[0] == "the safety checker is off"
    num = len(model.notes)
    (early,) = model.notes_on(["word " * 60, "a short one", None])
    assert model.num_text_encodings == 2  # nothing was encoded
    model.generate(["word " * 60], units(1))
    (note,) = model.notes[num:]
    assert note == early
    assert "CLIPTokenizer makes 242 tokens of it and the text encoder reads 77" in note
    assert note in caplog.messages
    model.generate(["word " * 60], units(1))
    assert len(model.notes) == num + 1  # said once
    flux = loaded("flux", steps=2, max_sequence_length=16)
    flux.generate(["only the T5 is too short"], units(1))
    (note,) = [note for note in flux.notes if "too long" in note]
    assert "T5Tokenizer" in note
    assert "reads 16" in note


# --- trajectories -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "scheduler"),
    [
        ("sd", None),
        ("sd", "EulerAncestralDiscreteScheduler"),
        ("sd", "HeunDiscreteScheduler"),
        ("sd3", None),
        ("flux", None),
    ],
)
def test_segments_make_a_trajectory(
    family: str, scheduler: str | None, loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    model = loaded(family, steps=6, scheduler=scheduler, reversal="ode" if not scheduler else None)
    streams, prompts = units(2), ["a", "b"]
    noise = model.pure_noise(streams)
    stop = float(model.levels[2])
    state = model.partial(noise, model.start_logsnr, stop, prompts, streams, purpose="one")
    assert state.shape == noise.shape
    end = model.denoise(state, stop, prompts, streams, purpose="two")
    if model.reversals[0] == "ode":
        torch.testing.assert_close(end, model.generate(prompts, streams), rtol=1e-4, atol=1e-4)
    else:
        other = model.denoise(state, stop, prompts, streams, purpose="three")
        assert float((end - other).abs().max()) > 1e-3
    with pytest.raises(InputError, match="must stop at a cleaner level"):
        model.partial(state, stop, stop, prompts, streams)
    with pytest.raises(InputError, match="must stop at a cleaner level"):
        model.partial(state, stop, float(model.levels[4]), prompts, streams)


@pytest.mark.parametrize(
    ("family", "scheduler", "options"),
    [
        ("sd", "DDIMScheduler", {}),
        ("sd", "DDIMScheduler", {"prediction_type": "v_prediction"}),
        ("sd", "DDIMScheduler", {"prediction_type": "sample"}),
        ("sd", "EulerDiscreteScheduler", {}),
        ("sd", "EulerDiscreteScheduler", {"prediction_type": "v_prediction"}),
        ("sd", "HeunDiscreteScheduler", {}),
        ("sd", "DPMSolverMultistepScheduler", {}),
        ("dit", "DDPMScheduler", {"variance_type": "learned_range"}),
        ("ddpm", "EDMEulerScheduler", {}),
        ("sd3", "FlowMatchEulerDiscreteScheduler", {}),
    ],
)
def test_previews_are_what_the_scheduler_makes_of_the_output(
    family: str,
    scheduler: str,
    options: dict[str, Any],
    loaded: Callable[..., Any],
    units: Callable[..., Any],
) -> None:
    if scheduler.startswith("EDM"):
        model = load_pipeline(tiny_ddpm(scheduler), steps=4)
    else:
        model = loaded(family, steps=4, scheduler=scheduler, scheduler_options=options)
    level = float(model.levels[2])
    call = model.schedule.find(level)
    conditions = conditions_of(model)
    clean = torch.randn((3, *model.sample_shape), generator=torch.Generator().manual_seed(1))
    noisy = model.noise(clean, level, units(3, level))
    preview = model.predict(noisy, level, conditions)
    told = model.engine.told(conditions, None, num=3)
    output, x = model.engine.once(noisy, call, model.schedule, told)
    stepper = model.schedule.started(call)
    stepper.config.clip_sample = False
    t = model.schedule.timesteps[call]
    if scheduler == "FlowMatchEulerDiscreteScheduler":
        truth = x - float(stepper.sigmas[call]) * output
    elif scheduler == "DPMSolverMultistepScheduler":
        stepper._init_step_index(t)
        truth = stepper.convert_model_output(output, sample=x)
    else:
        if hasattr(stepper, "scale_model_input"):
            stepper.scale_model_input(x, t)
        clips = {"clip_sample": False} if "clip_sample" in stepper.config else {}
        stepper.register_to_config(**clips)
        step = stepper.step(output, t, x)
        truth = step.pred_original_sample
    torch.testing.assert_close(preview, truth, rtol=1e-4, atol=1e-4)
    assert torch.equal(model.predict(clean, np.inf, conditions), clean)


# --- images -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux", "dit"])
def test_images_are_encoded_by_the_mode(
    family: str, loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    model = loaded(family, steps=2)
    vae = model.pipeline.vae
    images = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    latents = model.encode(images)
    assert latents.shape == (2, *model.sample_shape)
    assert torch.equal(model.encode(images), latents)
    mean = vae.encode(2 * images - 1).latent_dist.mean
    config = vae.config
    truth = (mean - (config.shift_factor or 0.0)) * config.scaling_factor
    torch.testing.assert_close(latents, truth)
    shown = vae.decode(latents / config.scaling_factor + (config.shift_factor or 0.0)).sample
    torch.testing.assert_close(
        model.decode(latents), (shown / 2 + 0.5).clamp(0, 1), rtol=1e-5, atol=1e-5
    )
    with pytest.raises(InputError, match="images do not fit the pipeline"):
        model.encode(images[:, :, :8])


def test_a_row_that_is_not_finite_is_not_decoded(loaded: Callable[..., Any]) -> None:
    model = loaded("sd", steps=2)
    clean = torch.randn((3, *model.sample_shape), generator=torch.Generator().manual_seed(0))
    whole = model.decode(clean)
    clean[1, 0, 0, 0] = torch.inf
    seen: list[bool] = []
    model.pipeline.vae.decoder.register_forward_pre_hook(
        lambda _, args: seen.append(bool(torch.isfinite(args[0]).all()))
    )
    images = model.decode(clean)
    assert seen == [True]
    assert bool(torch.isnan(images[1]).all())
    assert torch.equal(images[[0, 2]], whole[[0, 2]])


def brightness() -> FunctionFeature:
    def label(images: Any) -> np.ndarray:
        means = np.asarray(images).mean(axis=(1, 2, 3))
        return (np.nan_to_num(means, nan=0.5) > 0.5).astype(np.int64)

    return FunctionFeature("bright", ("dark", "bright"), label)


def test_an_experiment_on_a_pipeline_and_black_images_are_invalid(
    loaded: Callable[..., Any],
) -> None:
    model = loaded("sd", steps=4, guidance=2.0)
    options: dict[str, Any] = {
        "levels": model.levels[[0, 2]],
        "num_sources": 3,
        "conditions": ["a cat", "a dog"],
        "batch_size": 2,
    }
    records = cw.forward_reverse(model, brightness(), max_invalid=1.0, **options)
    assert len(records) == 6
    assert set(records.logsnr.tolist()) == set(model.levels[[0, 2]].tolist())
    with torch.no_grad():  # a VAE that overflows, or a filter, returns black
        model.pipeline.vae.decoder.conv_out.weight.zero_()
        model.pipeline.vae.decoder.conv_out.bias.fill_(-1.0)
    black = cw.forward_reverse(model, brightness(), max_invalid=1.0, **options)
    assert not black.valid.any()
    assert set(black.features["bright"].after.tolist()) == {-1}


def test_a_run_folder_says_where_the_model_comes_from(
    tiny: Callable[..., Any], tmp_path: Any
) -> None:
    from critwin.runs.prepare import identity, prepare

    config = parse_config(
        {
            "model": {"name": "pipeline", "path": str(tiny("sd")), "steps": 4},
            "sources": {"kind": "generated", "count": 2, "conditions": ["word " * 60]},
            "levels": {"unit": "t", "values": [0.5, 1.0]},
            "feature": [{"name": "brightness"}],
            "run": {"out": str(tmp_path / "run")},
        }
    )
    source = identity(prepare(config), 1)["model_source"]
    assert source["source"] == "local folder"
    assert len(source["files"]["unet/diffusion_pytorch_model.safetensors"]) == 64
    assert source["notes"][0] == "the safety checker is off"
    assert "is too long" in source["notes"][-1]
    json.dumps(source)


def test_what_is_left_at_the_noisiest_level_is_said(
    loaded: Callable[..., Any], tiny: Callable[..., Any], tmp_path: Any
) -> None:
    """Stable Diffusion's last level keeps alpha = .068; a DDPM's keeps less than a hundredth."""

    def said(model: Any) -> list[str]:
        return [note for note in model.notes if "noisiest" in note]

    alpha = loaded("sd", steps=1000 // 50, scheduler_options={"timestep_spacing": "trailing"})
    (note,) = said(alpha)
    assert "alpha = 0.068 of the clean sample is left there (t = 2.68)" in note
    kept = float(alpha.schedule.scheduler.alphas_cumprod[-1]) ** 0.5
    assert f"alpha = {kept:.3f}" in note
    assert said(loaded("ddpm", steps=1000)) == []
    assert "alpha = " in said(loaded("sd3", steps=4))[0]  # the second step: the first has none
    config = {
        "model": {"name": "pipeline", "path": str(tiny("sd")), "steps": 4},
        "sources": {"kind": "generated", "count": 2, "conditions": ["a"]},
        "levels": {"unit": "t", "values": [0.5, 1.0]},
        "feature": [{"name": "brightness"}],
        "run": {"out": str(tmp_path / "run")},
    }
    run_experiment(parse_config(config))
    notes = report_data(tmp_path / "run").notes
    (note,) = [note for note in notes if "noisiest" in note]
    assert note.startswith("The model: the noisiest level is not pure noise: alpha = ")
    assert any("what the network predicts" in note for note in notes)
    assert any("the safety checker is off" in note for note in notes)


# --- fingerprint, objects, options --------------------------------------------------------


def test_fingerprint_follows_what_changes_numbers(loaded: Callable[..., Any]) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"scheduler": "EulerDiscreteScheduler"},
        {"scheduler_options": {"set_alpha_to_one": True}},
        {"guidance": 2.0},
        {"guidance_interval": [0.1, 1.0]},
        {"negative": "blurry"},
        {"height": 32},
        {"reversal": "ode"},
        {"dtype": "bfloat16"},
        {"vae_tiling": True},
        {"vae_slicing": True},
        {"offload": "model"},
        {"name": "other"},
    ]
    prints = [loaded("sd", steps=3, **change).fingerprint for change in changes]
    assert len(set(prints)) == len(changes)
    assert loaded("sd", steps=3).fingerprint == prints[0]
    assert loaded("sd", steps=4).fingerprint not in prints


def test_fingerprint_follows_the_weights(tmp_path: Any, loaded: Callable[..., Any]) -> None:
    pipe = tiny_sd()
    one = load_pipeline(pipe, steps=3)
    assert one.fingerprint == load_pipeline(tiny_sd(), steps=3).fingerprint
    with torch.no_grad():
        pipe.vae.decoder.conv_out.bias[0] += 1e-3
    assert load_pipeline(pipe, steps=3).fingerprint != one.fingerprint
    pipe.save_pretrained(str(tmp_path / "m"))
    saved = load_pipeline(tmp_path / "m", name="x")
    assert saved.provenance["files"].keys() >= {
        "unet/diffusion_pytorch_model.safetensors",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
    }
    assert saved.fingerprint != loaded("sd", name="x").fingerprint


def test_a_pipeline_object_gives_the_numbers_of_its_folder(
    tiny: Callable[..., Any], loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    from_folder = loaded("sd", steps=3).generate(["a", "b"], units(2))
    pipe = tiny_sd()
    model = load_pipeline(pipe, steps=3)
    assert torch.equal(model.generate(["a", "b"], units(2)), from_folder)
    assert pipe.scheduler.num_inference_steps is None  # the object's own is not touched
    import diffusers

    other: Any = diffusers
    image = other.StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    assert torch.equal(load_pipeline(image, steps=3).generate(["a", "b"], units(2)), from_folder)
    with pytest.raises(InputError, match="options of loading for a pipeline that is made"):
        load_pipeline(pipe, device="cpu")
    with pytest.raises(
        InputError, match=r"not a pipeline that can be measured.*critwin\.Denoiser"
    ):
        load_pipeline(object())
    lacking = tiny_flux()
    lacking.text_encoder = None
    with pytest.raises(InputError, match="the pipeline lacks text_encoder"):
        load_pipeline(lacking, height=16, width=16)


def test_settings_of_parts_are_in_the_fingerprint() -> None:
    pipe = tiny_sd()
    plain = load_pipeline(pipe, steps=3).fingerprint
    pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    freed = load_pipeline(pipe, steps=3).fingerprint
    pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.3, b2=1.4)
    assert len({plain, freed, load_pipeline(pipe, steps=3).fingerprint}) == 3


def test_offload_on_the_cpu_is_said_to_do_nothing(loaded: Callable[..., Any]) -> None:
    notes = loaded("sd", steps=3, offload="model").notes
    assert 'offload = "model" has no effect on the CPU' in notes


def test_a_unet_that_takes_a_class(tmp_path: Any, units: Callable[..., Any]) -> None:
    """As in ADM: conditions are numbers of classes, and there is no unconditional prediction."""
    d = diffusers()
    with seeded():
        unet = d.UNet2DModel(
            sample_size=8,
            layers_per_block=1,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
            norm_num_groups=4,
            num_class_embeds=4,
        ).eval()
    d.DDPMPipeline(unet=unet, scheduler=d.DDIMScheduler()).save_pretrained(tmp_path / "m")
    model = load_pipeline(tmp_path / "m", steps=4, reversal="ode")
    assert model.conditions == ("0", "1", "2", "3")
    assert any("what the network predicts" in note for note in model.notes)  # under class 0
    ours = model.generate(["2", "0"], units(2))
    scheduler = d.DDIMScheduler()
    scheduler.set_timesteps(4)
    x = torch.stack([torch.randn(3, 8, 8, generator=u.generator("generate")) for u in units(2)])
    with torch.no_grad():
        for t in scheduler.timesteps:
            output = unet(x, t, class_labels=torch.tensor([2, 0])).sample
            x = scheduler.step(output, t, x).prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)
    other = model.generate(["2", "1"], units(2))
    assert torch.equal(other[0], ours[0])
    assert float((other[1] - ours[1]).abs().max()) > 1e-3
    with pytest.raises(InputError, match=r"always takes a class.*number from 0 to 3"):
        model.generate([None], units(1))
    with pytest.raises(InputError, match="always takes a condition: got none; wanted one of 0, 1"):
        check_condition(model, None)
    with pytest.raises(InputError, match="does not know this condition: got 4"):
        model.generate(["4"], units(1))
    unet.register_to_config(class_embed_type="timestep")
    with pytest.raises(InputError, match="classes that are not numbers"):
        load_pipeline(d.DDPMPipeline(unet=unet, scheduler=d.DDIMScheduler()))


def test_a_scheduler_that_needs_a_package() -> None:
    with pytest.raises(MissingExtraError, match=r"needs torchsde.*pip install torchsde"):
        load_pipeline(tiny_sd(), scheduler="DPMSolverSDEScheduler")


def test_a_unet_that_takes_more_than_latents_is_refused() -> None:
    pipe = tiny_sd()
    pipe.unet.register_to_config(in_channels=9)
    with pytest.raises(InputError, match="takes more than noisy latents"):
        load_pipeline(pipe)


def test_a_network_of_edm_takes_no_other_scheduler() -> None:
    pipe = tiny_ddpm("EDMEulerScheduler")
    other = load_pipeline(pipe, steps=3, scheduler="EDMDPMSolverMultistepScheduler")
    assert other.num_evaluations(other.start_logsnr) == 3
    with pytest.raises(InputError, match=r"trained with the preconditioning.*wanted EDMEuler"):
        load_pipeline(pipe, steps=3, scheduler="EulerDiscreteScheduler")
    with pytest.raises(InputError, match="is for consistency models"):
        load_pipeline(tiny_ddpm("CMStochasticIterativeScheduler"), steps=3)


def test_pndm_is_replaced_and_that_is_said(units: Callable[..., Any]) -> None:
    """What Stable Diffusion 1.5 ships cannot start from a level."""
    model = load_pipeline(tiny_sd(scheduler="PNDMScheduler", skip_prk_steps=True), steps=3)
    assert type(model.schedule.scheduler).__name__ == "DDIMScheduler"
    assert "PNDMScheduler cannot start from a level: DDIMScheduler instead" in model.notes
    assert model.schedule.scheduler.config.beta_end == 0.012


@pytest.mark.parametrize("family", ["sdxl", pytest.param("flux", marks=pytest.mark.validate)])
def test_half_precision_slicing_and_offload(
    family: str, loaded: Callable[..., Any], units: Callable[..., Any]
) -> None:
    plain = loaded(family, steps=3)
    full = plain.generate(["a", "b"], units(2))
    half = loaded(family, steps=3, dtype="bfloat16")
    out = half.generate(["a", "b"], units(2))
    assert out.dtype == torch.float32  # the sampler's state keeps float32
    assert float((out - full).abs().max()) < 0.1 * float(full.abs().max())
    assert half.decode(out).dtype == torch.float32
    other = loaded(family, steps=3, vae_slicing=True, offload="model")
    assert torch.equal(other.generate(["a", "b"], units(2)), full)
    torch.testing.assert_close(other.decode(full), plain.decode(full), rtol=1e-4, atol=1e-4)


def test_a_vae_that_overflows_stays_in_float32(loaded: Callable[..., Any]) -> None:
    model = loaded("sdxl", dtype="float16")
    assert model.pipeline.vae.dtype == torch.float32
    assert model.pipeline.unet.dtype == torch.float16
    assert any("the VAE stays in float32" in note for note in model.notes)


def test_compiled_networks(
    loaded: Callable[..., Any],
    units: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []

    def compiled(module: Any, **options: Any) -> Any:
        asked.append(options)
        return module

    monkeypatch.setattr(torch, "compile", compiled)
    model = loaded("sd", steps=2, compile=True)
    assert asked == [{"dynamic": False}]
    assert torch.equal(
        model.generate(["a"], units(1)), loaded("sd", steps=2).generate(["a"], units(1))
    )
