"""What a scheduler's steps do, found by trying them on single numbers.

A scheduler does not say whether it draws noise, from which generator, or whether it keeps any of
the state's own noise. So its steps are taken with networks that say simple things.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from critwin.errors import InputError
from critwin.models.pipeline.schedules import GOOD

if TYPE_CHECKING:
    from torch import Tensor

    from critwin.models.base import Prediction
    from critwin.models.pipeline.schedules import PipelineSchedule

__all__ = ["is_renoising", "noise_arguments", "options_at", "reversals_of", "way_notes"]

_NOTHING, _LITTLE = 1e-4, 0.25
_HARDLY_SIGNAL = 1e-3
_HAIRS = (1e-6, 1e-5, 1e-4)


def reversals_of(
    schedule: PipelineSchedule, *, is_widened: bool = False
) -> dict[str, dict[str, Any]]:
    """Ways in which a scheduler can step, found by trying: noise that changes a result shows.

    Args:
        schedule: The schedule.
        is_widened: Whether the network also predicts variances, twice the channels.

    Returns:
        ``"stochastic"`` and ``"ode"``, those that there are, in this order -> arguments of
        ``step``.

    Raises:
        InputError: If the scheduler cannot be stepped, or draws noise that is not the caller's.
    """
    has_eta = "eta" in inspect.signature(schedule.scheduler.step).parameters
    found: dict[str, dict[str, Any]] = {}
    for options in ({"eta": 0.0}, {"eta": 1.0}) if has_eta else ({},):
        one, again, other = (
            _tried(schedule, options, seed, outer, is_widened)
            for seed, outer in ((1, 1), (1, 2), (2, 1))
        )
        if not bool(torch.isfinite(one).all()):
            continue  # no way that can be taken
        if not torch.equal(one, again):
            raise InputError(
                "the scheduler draws noise that cannot be tied to a row",
                got=type(schedule.scheduler).__name__,
                wanted="one whose step takes generators, or draws nothing",
                next_step=f"choose another one: {GOOD}",
            )
        found.setdefault("ode" if torch.equal(one, other) else "stochastic", dict(options))
    if not found:
        raise InputError(
            "the scheduler's steps give numbers that are not finite",
            got=type(schedule.scheduler).__name__,
            next_step=f"choose another one: {GOOD}",
        )
    return {name: found[name] for name in ("stochastic", "ode") if name in found}


def _tried(
    schedule: PipelineSchedule, options: Mapping[str, Any], seed: int, outer: int, is_widened: bool
) -> Tensor:
    """All steps with a network that says the same of every state; both generators are seeded."""
    start = int(schedule.starts[0])
    scheduler = schedule.started(start)
    state = torch.full((2, 2, 2, 2), 0.7)
    output = torch.full((2, 4 if is_widened else 2, 2, 2), 0.1)
    generators = [torch.Generator().manual_seed(10 * seed + row) for row in range(2)]
    noise = noise_arguments(scheduler, generators)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(outer)
        try:
            for call, t in enumerate(schedule.timesteps[start:], start):
                if hasattr(scheduler, "scale_model_input"):
                    scheduler.scale_model_input(state, t)
                asked = {**options_at(schedule, options, call), **noise}
                state = scheduler.step(output, t, state, **asked, return_dict=False)[0]
        except Exception as error:
            raise InputError(
                "the scheduler cannot be stepped",
                got=f"{type(scheduler).__name__} ({type(error).__name__}: {error})",
                next_step=f"choose another one: {GOOD}",
            ) from error
    return torch.as_tensor(state)


def options_at(
    schedule: PipelineSchedule, options: Mapping[str, Any], call: int
) -> Mapping[str, Any]:
    """Arguments of one step, where a way cannot be taken to the letter.

    Without signal, a step with eta = 1 keeps nothing of the state: it takes the root of what is
    left of the variance, which is zero, or by rounding less, and then the state is NaN. There eta
    is a hair less than 1.

    Args:
        schedule: The schedule.
        options: Arguments of ``step`` elsewhere.
        call: Index into the schedule.

    Returns:
        Arguments of ``step`` at this call.
    """
    if options.get("eta", 0.0) != 1.0 or _has_signal(schedule, call):
        return options
    for hair in (0.0, *_HAIRS):
        there = {**options, "eta": 1.0 - hair}
        scheduler = schedule.started(call)
        state = torch.zeros(1, 1, 1, 1)
        noise = noise_arguments(scheduler, [torch.Generator().manual_seed(1)])
        t = schedule.timesteps[call]
        step = scheduler.step(state, t, state, **there, **noise, return_dict=False)[0]
        if bool(torch.isfinite(torch.as_tensor(step)).all()):
            return there
    return options


def _has_signal(schedule: PipelineSchedule, call: int) -> bool:
    signal, noise = float(schedule.signal[call]), float(schedule.noise[call])
    return signal > _HARDLY_SIGNAL * noise


def noise_arguments(scheduler: Any, generators: Sequence[torch.Generator]) -> dict[str, Any]:
    """What makes a scheduler's step draw every row from its own generator.

    Args:
        scheduler: The scheduler.
        generators: A generator a row.

    Returns:
        Arguments of ``step``.
    """
    parameters = inspect.signature(scheduler.step).parameters
    return {"generator": list(generators)} if "generator" in parameters else {}


def is_renoising(
    schedule: PipelineSchedule,
    options: Mapping[str, Any],
    prediction: Prediction,
    *,
    is_widened: bool = False,
) -> bool:
    """Whether a step forgets the state and noises the predicted clean sample anew.

    Samplers of consistency models do (LCM, TCD, stochastic flow matching). Where the network
    predicts a mean, that is not the posterior's reversal, however many steps it takes: what a step
    from noise b to noise b' keeps of the state, given the clean sample, is ``(a / a') (b'/b)^2``
    of the posterior, with the signals a and a'.

    Args:
        schedule: The schedule.
        options: Arguments of ``step``.
        prediction: What the network predicts.
        is_widened: Whether the network also predicts variances, twice the channels.

    Returns:
        Whether the state has less than a quarter of its part in the next one, or none, the
        predicted clean sample being the same.
    """
    if len(schedule.starts) < 3:
        return False
    call, after_it = (int(c) for c in schedule.starts[1:3])
    part = schedule.signal[call] / schedule.signal[after_it]
    part *= (schedule.noise[after_it] / schedule.noise[call]) ** 2
    # where generation starts there may be no signal to keep
    empty, unit = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    own = schedule.reading(empty, unit, call, prediction)
    gain = schedule.reading(unit, empty, call, prediction)
    after = []
    for state in (empty, unit):
        scheduler = schedule.started(call)
        t = schedule.timesteps[call]
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(state, t)
        output = (0.0 - own * state) / gain  # the clean sample is 0, whatever the state
        if is_widened:
            output = torch.cat([output, empty], dim=1)
        noise = noise_arguments(scheduler, [torch.Generator().manual_seed(1)])
        step = scheduler.step(output, t, state, **options, **noise, return_dict=False)
        after.append(float(torch.as_tensor(step[0]).reshape(-1)[0]))
    return abs(after[1] - after[0]) < max(_NOTHING, _LITTLE * float(part))


def way_notes(
    schedule: PipelineSchedule,
    ways: Mapping[str, Mapping[str, Any]],
    prediction: Prediction,
    *,
    is_widened: bool = False,
) -> list[str]:
    """What is to be said of a stochastic way that is not the posterior's, or not to the letter.

    Args:
        schedule: The schedule.
        ways: Ways of stepping and their arguments.
        prediction: What the network predicts.
        is_widened: Whether the network also predicts variances.

    Returns:
        One line each.
    """
    way, name = ways.get("stochastic"), type(schedule.scheduler).__name__
    if way is None:
        return []
    notes = []
    if is_renoising(schedule, way, prediction, is_widened=is_widened):
        with_eta = " (eta = 1)" if "eta" in way else ""
        notes.append(
            f"{name}{with_eta} draws all noise anew in every step: its reversal is not a draw "
            "from the posterior, however many steps it takes"
        )
    first = options_at(schedule, way, int(schedule.starts[0]))
    if first != way:
        notes.append(
            f"{name} with eta = 1 gives NaN in its first step, which starts without signal: eta "
            f"is 1 - {1.0 - first['eta']:.0e} there, where the pipeline's own call fails"
        )
    return notes
