"""Options of a pipeline as a model, checked."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Collection, Mapping
from importlib import import_module
from importlib.util import find_spec
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

from critwin.errors import InputError, MissingExtraError
from critwin.models.pipeline.catalogue import SCHEDULER
from critwin.models.pipeline.components import quiet
from critwin.models.pipeline.schedules import can_start, old_ways

if TYPE_CHECKING:
    from torch import Tensor

    from critwin.models.base import Prediction
    from critwin.models.pipeline.families import Family

__all__ = [
    "FLOWS",
    "PREDICTIONS",
    "Chosen",
    "check_guidance",
    "check_rows",
    "check_switches",
    "check_way",
    "choose_scheduler",
    "guidance_notes",
    "has_two_predictions",
    "positive",
    "prediction_of",
    "predicts_variances",
    "scale_of",
]

FLOWS = ("sd3", "flux")
"""Families whose networks predict velocities."""

PREDICTIONS: Mapping[str, Prediction] = {
    "epsilon": "eps",
    "v_prediction": "v",
    "sample": "x_0",
    "original_sample": "x_0",
    "flow_prediction": "velocity",
}
"""What schedulers call the network's prediction -> critwin's name."""


def prediction_of(scheduler: Any) -> Prediction:
    """What the network predicts, by the scheduler's configuration.

    Args:
        scheduler: The scheduler.

    Returns:
        critwin's name.

    Raises:
        InputError: If the scheduler does not say it.
    """
    said = scheduler.config.get("prediction_type")
    if said is None and hasattr(scheduler, "scale_noise"):
        return "velocity"
    if said not in PREDICTIONS:
        raise InputError(
            f"{type(scheduler).__name__} does not say what the network predicts",
            got=f"prediction_type {said!r}",
            wanted="one of " + ", ".join(PREDICTIONS),
            next_step="look at scheduler/scheduler_config.json, or choose another `scheduler`",
        )
    return PREDICTIONS[said]


def predicts_variances(pipe: Any, family: Family, scheduler: Any) -> bool:
    """Whether the network predicts variances, twice the channels, and the scheduler takes them.

    Args:
        pipe: The pipeline.
        family: What its network needs.
        scheduler: The scheduler.

    Returns:
        Whether both are so.
    """
    channels = getattr(pipe, family.network).config.get("out_channels")
    is_wide = channels is not None and int(channels) == 2 * family.sample_shape[0]
    return is_wide and str(scheduler.config.get("variance_type", "")).startswith("learned")


def check_switches(**switches: bool | None) -> None:
    """Refuse switches that are neither true nor false, such as the text "no".

    Args:
        **switches: Option -> what is given for it; None: nothing.

    Raises:
        InputError: If one is neither.
    """
    for name, value in switches.items():
        if value is not None and not isinstance(value, bool):
            raise InputError(f"{name} is a switch", got=repr(value), wanted="true or false")


def positive(steps: int) -> int:
    """A number of steps, checked.

    Args:
        steps: The number.

    Returns:
        The same.

    Raises:
        InputError: If it is not a positive integer.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError("not a number of steps", got=steps, wanted="a positive integer")
    return steps


def check_guidance(
    family: Family,
    guidance: float | None,
    true_guidance: float | None,
    interval: tuple[float, float] | None,
    negative: str | None,
) -> float | None:
    """Refuse options of guidance that would have no effect.

    Args:
        family: What the network needs.
        guidance: Guidance scale; None: the default of the pipeline's own call.
        true_guidance: Guidance by two predictions of a network that takes the other as an input.
        interval: OU times between which two predictions are taken.
        negative: Prompt that takes the place of the unconditional one.

    Returns:
        The guidance scale, or None.

    Raises:
        InputError: If one cannot be used.
    """
    guidance = scale_of("guidance", family.default_guidance if guidance is None else guidance)
    true_guidance = scale_of("true_guidance", true_guidance)
    kind = family.guidance_kind
    if kind == "none" and guidance not in (None, 1.0):
        raise InputError(
            "the pipeline has no conditions, so it cannot be guided", got=f"guidance {guidance}"
        )
    if true_guidance is not None and kind != "distilled":
        raise InputError(
            f"{family.name} has one kind of guidance only",
            got=f"true_guidance {true_guidance:g}",
            next_step="use `guidance`",
        )
    has_two = has_two_predictions(true_guidance if kind == "distilled" else guidance)
    if interval is not None and not has_two:
        raise InputError(
            "guidance_interval has no effect: there is one prediction only",
            wanted="true_guidance above 1" if kind == "distilled" else "guidance above 1",
        )
    if negative is not None and family.conditions is not None:
        raise InputError("a negative prompt needs a pipeline that takes prompts", got=negative)
    if negative is not None and not has_two:
        raise InputError(
            "the negative prompt has no effect: there is one prediction only",
            got=negative,
            wanted="true_guidance above 1" if kind == "distilled" else "guidance above 1",
        )
    return guidance


def scale_of(name: str, value: Any) -> float | None:
    """A guidance scale, checked.

    Args:
        name: Name of the option.
        value: The scale; None: none was given.

    Returns:
        The scale as a number, or None.

    Raises:
        InputError: If it is no number, negative, or not finite.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(
            f"{name} is not a number", got=repr(value), wanted="a number, such as 7.5"
        )
    if not math.isfinite(value):
        raise InputError(f"{name} is not finite", got=value, wanted="a number from 0 up")
    if value < 0:
        raise InputError(
            f"{name} is negative",
            got=f"{value:g}",
            wanted="a number from 0 up; up to 1 there is one prediction, that of the condition",
            next_step="to push away from a prompt, make it the `negative` one",
        )
    return float(value)


def has_two_predictions(scale: float | None) -> bool:
    """Whether a scale of classifier-free guidance takes two predictions, as pipelines do it.

    Args:
        scale: The scale, or None.

    Returns:
        Whether it is above 1. The pipelines of diffusers do not guide at 1 or below: models that
        are distilled to few steps are published with scale 0, which is their plain prediction
        under the prompt, not the unconditional one.
    """
    return scale is not None and scale > 1.0


def guidance_notes(family: Family, guidance: float | None) -> list[str]:
    """What is to be said of a scale that does not guide, or in another way than the name says.

    Args:
        family: What the network needs.
        guidance: The scale that is asked for.

    Returns:
        One line, or none: a scale below 1 is elsewhere a way to the unconditional prediction.
    """
    scale = scale_of("guidance", guidance)
    if family.guidance_kind != "classifier-free" or scale is None:
        return []
    if family.name == "FLUX" and scale > 1.0:
        return [
            f"this FLUX takes no guidance as an input: guidance {scale:g} is by two predictions, "
            "what the pipeline calls true_cfg_scale"
        ]
    if scale >= 1.0:
        return []
    return [
        f"guidance {scale:g} does not guide, as in the pipeline's own call: one prediction, "
        'under the condition (the unconditional one is the condition "none")'
    ]


def check_rows(samples: Tensor, num: int, shape: tuple[int, ...]) -> None:
    """Refuse samples of another shape.

    Args:
        samples: The samples.
        num: Number of rows.
        shape: Shape of a row.

    Raises:
        InputError: If they do not fit.
    """
    if tuple(samples.shape) != (wanted := (num, *shape)):
        raise InputError(
            "samples have the wrong shape", got=tuple(samples.shape), wanted=str(wanted)
        )


def check_way(who: str, way: str, known: Collection[str]) -> None:
    """Refuse a way of reversing that a scheduler does not have.

    Args:
        who: What does not have it, for the message.
        way: The way.
        known: The ways that there are.

    Raises:
        InputError: If it is not one of them.
    """
    if way not in known:
        raise InputError(
            f"{who} has no such reversal",
            got=way,
            wanted="one of " + ", ".join(known),
            next_step="choose another `scheduler`",
        )


class Chosen(NamedTuple):
    """A scheduler, and what is to be said of the choice.

    Attributes:
        scheduler: The scheduler.
        notes: One line each.
    """

    scheduler: Any
    notes: tuple[str, ...]


def choose_scheduler(
    own: Any, name: str | None, options: Mapping[str, Any], family: str
) -> Chosen:
    """The scheduler that is asked for, with the configuration of the pipeline's own.

    Args:
        own: The pipeline's own scheduler.
        name: Name of a class of diffusers; None: the class of its own.
        options: What else its configuration holds.
        family: Family of the network.

    Returns:
        The scheduler. The pipeline's own one, if it cannot start from a level, is replaced by
        DDIM, which is said.

    Raises:
        InputError: If there is no such scheduler, or it does not fit the pipeline.
        MissingExtraError: If it needs a package that is not installed.
    """
    diffusers: Any = import_module("diffusers")
    notes: tuple[str, ...] = ()
    made = type(own)
    if name is not None:
        found = getattr(diffusers, name, None) if SCHEDULER.fullmatch(name) else None
        if lacking := [one for one in getattr(found, "_backends", ()) if find_spec(one) is None]:
            raise MissingExtraError(
                f"{name} needs {' and '.join(lacking)}, which is not installed",
                next_step=f"run: pip install {' '.join(lacking)}",
            )
        if not isinstance(found, type) or not issubclass(found, diffusers.SchedulerMixin):
            known = [n for n in dir(diffusers) if SCHEDULER.fullmatch(n)]
            close = difflib.get_close_matches(name, known, n=1)
            raise InputError(
                "unknown scheduler",
                got=name,
                wanted="a scheduler of diffusers, such as DDIMScheduler",
                next_step=f"did you mean {close[0]!r}?" if close else None,
            )
        made = found
    elif family not in FLOWS and not can_start(own):
        made = diffusers.DDIMScheduler
        notes = (f"{type(own).__name__} cannot start from a level: DDIMScheduler instead",)
    known_options = inspect.signature(made.__init__).parameters
    for key in options:
        if key not in known_options or key == "self":
            raise InputError(
                f"{made.__name__} has no such option",
                got=key,
                wanted="one of " + ", ".join(k for k in known_options if k != "self"),
            )
    try:
        with old_ways(), quiet():
            chosen = made.from_config(own.config, **options)
    except Exception as error:  # each scheduler checks its options in its own way
        raise InputError(
            f"{made.__name__} cannot be made with these options",
            got=", ".join(f"{k} = {v!r}" for k, v in options.items()) or "the pipeline's own",
            next_step=" ".join(str(error).split()) or type(error).__name__,
        ) from error
    _check_reading(own, chosen)
    is_flow = hasattr(chosen, "scale_noise") or bool(chosen.config.get("use_flow_sigmas", False))
    if is_flow != (family in FLOWS):
        raise InputError(
            f"{made.__name__} does not fit the pipeline",
            got="a flow-matching scheduler"
            if is_flow
            else "a scheduler that is not flow matching",
            wanted="FlowMatchEulerDiscreteScheduler, or one with use_flow_sigmas = true and "
            'prediction_type = "flow_prediction"'
            if not is_flow
            else "DDIMScheduler, EulerDiscreteScheduler, …",
        )
    if is_flow and prediction_of(chosen) != "velocity":
        raise InputError(
            "the scheduler misreads a network that predicts velocities",
            got=f"prediction_type {chosen.config.get('prediction_type')!r}",
            wanted='scheduler_options = { prediction_type = "flow_prediction" }',
        )
    return Chosen(chosen, notes)


def _check_reading(own: Any, chosen: Any) -> None:
    """A scheduler must read the network's output in the way that it was trained for."""
    name = type(chosen).__name__
    if hasattr(chosen, "get_scalings_for_boundary_condition"):
        raise InputError(
            f"{name} is for consistency models, whose output is already a sample",
            got="a pipeline that is to denoise step by step",
            wanted="DDIMScheduler, EulerDiscreteScheduler, …",
            next_step='a consistency model is wrapped by critwin.Denoiser(prediction="sample")',
        )
    is_dressed = hasattr(own, "precondition_outputs")  # EDM's way: c_skip x + c_out F(c_in x)
    if hasattr(chosen, "precondition_outputs") != is_dressed:
        raise InputError(
            f"{name} does not fit the network",
            got=f"a network of {type(own).__name__}, trained "
            + ("with" if is_dressed else "without")
            + " the preconditioning of EDM",
            wanted="EDMEulerScheduler or EDMDPMSolverMultistepScheduler"
            if is_dressed
            else "DDIMScheduler, EulerDiscreteScheduler, …",
        )
