r"""Editing strength: at which noise level an image-to-image call really starts, and the reverse.

``strength`` is a share of a schedule's steps, not a noise level. Image-to-image pipelines of
diffusers leave out the first k of n steps and noise the image to the level before the next one;
they differ in how k is rounded:

- ``"whole"`` (Stable Diffusion 1 and 2, SDXL): ``k = n - int(n * strength)``,
- ``"rest"`` (Stable Diffusion 3, FLUX): ``k = int(n - n * strength)``,

both in binary floating point: ``50 * 0.58`` is 28.999999999999996, so ``"whole"`` makes 28 of it.
Here a strength is therefore always chosen inside its step, never at its edge, and the level is
read off the scheduler's own method of noising, in float64.

Source: ``get_timesteps`` of the image-to-image pipelines of diffusers 0.42; the schedulers.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from critwin.errors import InputError
from critwin.levels import from_logsnr, snap
from critwin.models.pipeline.schedules import old_ways

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "PRESETS",
    "RULES",
    "Rule",
    "Sampler",
    "in_units",
    "sampler",
    "start_index",
    "strength_at",
]

Rule = Literal["whole", "rest"]
RULES: tuple[Rule, ...] = ("whole", "rest")

_LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_OLD = {**_LATENT, "steps_offset": 1, "timestep_spacing": "leading", "clip_sample": False}
PRESETS: Mapping[str, tuple[str, Mapping[str, Any], Rule]] = {
    "sd15": ("DDIMScheduler", {**_OLD, "set_alpha_to_one": False}, "whole"),
    "sd21": (
        "DDIMScheduler",
        {**_OLD, "set_alpha_to_one": False, "prediction_type": "v_prediction"},
        "whole",
    ),
    "sdxl": (
        "EulerDiscreteScheduler",
        {**_LATENT, "steps_offset": 1, "timestep_spacing": "leading"},
        "whole",
    ),
    "sd3": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, "rest"),
    "flux": (
        "FlowMatchEulerDiscreteScheduler",
        {
            "shift": 3.0,
            "use_dynamic_shifting": True,
            "base_shift": 0.5,
            "max_shift": 1.15,
            "base_image_seq_len": 256,
            "max_image_seq_len": 4096,
        },
        "rest",
    ),
    "digits": ("DDPMScheduler", {}, "whole"),
}
"""Name -> the scheduler that comes with the model, its configuration, how strength is rounded."""

_SIZE = 1024
_STOCHASTIC = ("Ancestral", "SDE", "DDPM", "LCM", "TCD")


@dataclass(frozen=True, eq=False, kw_only=True)
class Sampler:
    """A diffusers scheduler with its steps set, and where each of them starts.

    Attributes:
        name: Name of the class, and its options in words.
        preset: Name of the preset, or ``""``.
        steps: Number of steps of the whole schedule.
        rule: How strength is rounded.
        scheduler: The scheduler; it is never stepped, only copied.
    """

    name: str
    preset: str
    steps: int
    rule: Rule
    scheduler: Any

    @property
    def order(self) -> int:
        """Network calls of a step."""
        return int(getattr(self.scheduler, "order", 1))

    @property
    def reversal(self) -> str:
        """``"stochastic"`` or ``"ode"``, by the scheduler's class and options."""
        algorithm = str(self.scheduler.config.get("algorithm_type", ""))
        is_drawn = bool(self.scheduler.config.get("stochastic_sampling", False))
        name = type(self.scheduler).__name__
        is_noisy = any(part in name for part in _STOCHASTIC) or algorithm.startswith("sde")
        return "stochastic" if is_noisy or is_drawn else "ode"

    @cached_property
    def logsnr(self) -> NDArray[np.float64]:
        """Level before every step, shape ``(steps,)``; ``-inf`` where nothing is left."""
        import torch

        pair = torch.eye(2, dtype=torch.float64)
        levels = []
        for step in range(self.steps):
            call = step * self.order
            if call >= len(self.scheduler.timesteps):
                break
            probe = copy.deepcopy(self.scheduler)
            if hasattr(probe, "set_begin_index"):
                probe.set_begin_index(call)
            when = probe.timesteps[call].reshape(1)
            if hasattr(probe, "add_noise"):
                noised = [float(probe.add_noise(*part, when)) for part in _parts(pair)]
            else:
                noised = [float(probe.scale_noise(x, when, z)) for x, z in _parts(pair)]
            with np.errstate(divide="ignore"):
                levels.append(2.0 * (np.log(abs(noised[0])) - np.log(abs(noised[1]))))
        out = np.array(levels)
        out.setflags(write=False)
        return out

    def timestep(self, step: int) -> float:
        """Time that the network is told before a step, in the scheduler's own unit."""
        return float(self.scheduler.timesteps[step * self.order])

    def num_calls(self, step: int) -> int:
        """Network calls that are left before a step, without guidance."""
        return int(len(self.scheduler.timesteps) - step * self.order)

    def nearest(self, logsnr: float) -> int:
        """Step whose level is nearest to a logsnr."""
        return snap(logsnr, self.logsnr)[0]

    def strength(self, step: int) -> float:
        """A strength that starts at a step; see :func:`strength_at`."""
        return strength_at(step, self.steps, self.rule)

    def start(self, strength: float) -> int:
        """Step at which a strength starts; see :func:`start_index`."""
        return start_index(strength, self.steps, self.rule)

    def level(self, strength: float) -> float:
        """The logsnr that a strength starts from.

        Args:
            strength: In ``[0, 1]``.

        Returns:
            The effective logsnr; ``inf`` where no step is left.

        Raises:
            InputError: If the strength is out of range.
        """
        step = self.start(strength)
        return float("inf") if step >= len(self.logsnr) else float(self.logsnr[step])


def start_index(strength: float, steps: int, rule: Rule = "whole") -> int:
    """Step at which an image-to-image call starts.

    Args:
        strength: In ``[0, 1]``.
        steps: Number of steps of the whole schedule.
        rule: How the pipeline rounds; see the module.

    Returns:
        Number of steps that are left out, 0 to ``steps``.

    Raises:
        InputError: If an argument is out of range.

    Source:
        ``get_timesteps`` of ``StableDiffusionImg2ImgPipeline`` and
        ``StableDiffusion3Img2ImgPipeline``.
    """
    _check_steps(steps)
    if not 0.0 <= strength <= 1.0:
        raise InputError("strength is out of range", got=strength, wanted="a number in [0, 1]")
    if rule not in RULES:
        raise InputError("unknown rule of strength", got=rule, wanted="one of " + ", ".join(RULES))
    if rule == "whole":
        return int(max(steps - min(int(steps * strength), steps), 0))
    return int(max(steps - min(steps * strength, steps), 0))


def strength_at(step: int, steps: int, rule: Rule = "whole") -> float:
    """The shortest decimal strength well inside those that start at a step.

    Args:
        step: Number of steps to leave out, 0 to ``steps - 1``.
        steps: Number of steps of the whole schedule.
        rule: How the pipeline rounds.

    Returns:
        A strength in ``(0, 1]`` for which :func:`start_index` gives ``step``.

    Raises:
        InputError: If there is no such step.
    """
    _check_steps(steps)
    if not 0 <= step < steps:
        raise InputError("no such step", got=step, wanted=f"0 to {steps - 1}")
    left = steps - step
    first = left if rule == "whole" else left - 1
    low, high = first / steps, min((first + 1) / steps, 1.0)
    if low >= 1.0:
        return 1.0
    middle, width = (low + high) / 2.0, high - low
    for digits in range(1, 17):
        value = round(middle, digits)
        if abs(value - middle) <= width / 4.0 and start_index(value, steps, rule) == step:
            return value
    raise AssertionError("the middle of an interval lies inside it")


def sampler(
    model: str | Mapping[str, Any] | Path,
    *,
    scheduler: str | None = None,
    steps: int = 25,
    options: Mapping[str, Any] | None = None,
    rule: Rule | None = None,
    size: int | None = None,
) -> Sampler:
    """A sampler from a preset, or from the configuration of a pipeline's scheduler.

    Args:
        model: One of :data:`PRESETS`; a scheduler's configuration; or its file
            (``scheduler_config.json``), or the folder of a pipeline.
        scheduler: Name of a diffusers scheduler to take instead, with that configuration.
        steps: Number of steps of the whole schedule.
        options: Options of the scheduler, such as ``use_karras_sigmas``.
        rule: How strength is rounded; that of the preset, ``"rest"`` for flow matching.
        size: Rows and columns of the images, for schedules that depend on it (FLUX); 1024.

    Returns:
        The sampler.

    Raises:
        InputError: If there is no such preset, scheduler, file or option, or it has no such
            number of steps.
    """
    _check_steps(steps)
    preset = model if isinstance(model, str) and model in PRESETS else ""
    own, config, own_rule = _configuration(model)
    chosen = _class(own if scheduler is None else scheduler)
    known = inspect.signature(chosen.__init__).parameters
    if unknown := [key for key in options or {} if key not in known or key == "self"]:
        raise InputError(
            f"{chosen.__name__} has no such option",
            got=", ".join(unknown),
            wanted="some of " + ", ".join(key for key in known if key != "self"),
        )
    try:
        with old_ways():
            made = chosen.from_config(dict(config), **dict(options or {}))
            _check_fit(made, preset, own_rule)
            made.set_timesteps(**_steps(made, steps, size or _SIZE))
    except InputError:
        raise
    except Exception as error:  # every scheduler checks its options in its own way
        raise InputError(
            f"{chosen.__name__} cannot be made",
            got=f"{steps} steps",
            next_step=" ".join(str(error).split())[:200] or type(error).__name__,
        ) from error
    said = [
        key.removeprefix("use_") if value is True else f"{key}={value}"
        for key, value in (options or {}).items()
    ]
    return Sampler(
        name=chosen.__name__ + (f" ({', '.join(said)})" if said else ""),
        preset=preset,
        steps=steps,
        rule=rule or own_rule,
        scheduler=made,
    )


def in_units(logsnr: float) -> dict[str, float]:
    """A level in logsnr, OU time, sigma and flow time."""
    return {unit: float(from_logsnr(logsnr, unit)) for unit in ("logsnr", "t", "sigma", "flow")}


def _parts(pair: Any) -> list[tuple[Any, Any]]:
    """The clean sample alone, and the noise alone."""
    one, none = pair[0, :1], pair[0, 1:]
    return [(one, none), (none, one)]


def _configuration(model: str | Mapping[str, Any] | Path) -> tuple[str, Mapping[str, Any], Rule]:
    if isinstance(model, str) and model in PRESETS:
        name, config, rule = PRESETS[model]
        if model == "digits":
            place = files("critwin").joinpath("models", "digits", "weights", "scheduler")
            config = json.loads(place.joinpath("scheduler_config.json").read_text("utf-8"))
        return name, config, rule
    if not isinstance(model, Mapping):
        model = _read_config(Path(model))
    own = model.get("_class_name")
    if not isinstance(own, str):
        raise InputError(
            "this is no configuration of a scheduler",
            got=", ".join(list(model)[:5]) or "nothing",
            wanted="an entry _class_name, as in scheduler_config.json",
        )
    return own, model, "rest" if "FlowMatch" in own else "whole"


def _read_config(place: Path) -> Mapping[str, Any]:
    tried = [place / "scheduler" / "scheduler_config.json", place / "scheduler_config.json"]
    found = next((path for path in tried if path.is_file()), place)
    try:
        with found.open("rb") as stream:
            config = json.loads(stream.read(1_000_000))
        if not isinstance(config, dict):
            raise ValueError("no table of entries")
    except (OSError, ValueError) as error:
        is_missing = isinstance(error, OSError)
        raise InputError(
            "no scheduler is known by this name" if is_missing else "cannot read the scheduler",
            got=str(place),
            wanted="one of "
            + ", ".join(PRESETS)
            + ", a scheduler_config.json, or the folder of a pipeline",
        ) from error
    return config


def _class(name: str) -> Any:
    import diffusers

    found = getattr(diffusers, name, None) if name.isidentifier() else None
    if isinstance(found, type) and issubclass(found, diffusers.SchedulerMixin):
        return found
    known = [n for n in dir(diffusers) if n.endswith("Scheduler")]
    close = difflib.get_close_matches(name, known, n=1)
    raise InputError(
        "unknown scheduler",
        got=name,
        wanted="a scheduler of diffusers, such as DDIMScheduler",
        next_step=f"did you mean {close[0]!r}?" if close else None,
    )


def _check_fit(scheduler: Any, preset: str, rule: Rule) -> None:
    name = type(scheduler).__name__
    if not any(callable(getattr(scheduler, m, None)) for m in ("add_noise", "scale_noise")):
        raise InputError(
            f"{name} cannot start from an image: it cannot noise one",
            next_step="choose another scheduler",
        )
    is_flow = hasattr(scheduler, "scale_noise") or bool(scheduler.config.get("use_flow_sigmas"))
    if preset and is_flow != (rule == "rest"):
        raise InputError(
            f"{name} does not fit {preset}",
            got="flow matching" if is_flow else "a scheduler that is not flow matching",
        )


def _steps(scheduler: Any, steps: int, size: int) -> dict[str, Any]:
    """Arguments of ``set_timesteps`` as the pipelines give them."""
    config = scheduler.config
    if not config.get("use_dynamic_shifting", False):
        return {"num_inference_steps": steps}
    # FLUX: patches of 16 pixels; mu is linear in their number
    base, most = int(config.base_image_seq_len), int(config.max_image_seq_len)
    slope = (config.max_shift - config.base_shift) / (most - base)
    mu = slope * ((size // 16) ** 2 - base) + config.base_shift
    return {"sigmas": np.linspace(1.0, 1.0 / steps, steps), "mu": float(mu)}


def _check_steps(steps: int) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= 10_000:
        raise InputError("number of steps out of range", got=steps, wanted="1 to 10000")
