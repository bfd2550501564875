"""How tools are told to start at an advised level, and what is to be expected where they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.audits.strength import PRESETS, Sampler, sampler
from critwin.audits.tools import a1111_starts, comfy_starts, nearest
from critwin.levels import ou_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.audits._editing_rates import Rate

__all__ = ["Start", "starts_of"]

_SCHEDULES = ("normal", "karras")
_SLACK = 1e-9


@dataclass(frozen=True, kw_only=True)
class Start:
    """A setting that starts near the advised level.

    Attributes:
        tool: ``"diffusers"``, ``"ComfyUI KSampler"``, ``"ComfyUI KSamplerAdvanced"``, ``"A1111"``.
        model: Preset of the schedule.
        scheduler: The scheduler, or the tool's name of the schedule.
        steps: Number of steps that the tool is told.
        values: What to set, name -> value.
        logsnr: Level that it really starts from.
        t: Its OU time.
        num_calls: Network calls, guidance not counted.
        kept: Rate of keeping there, between measured levels a line; None outside of them.
        changed: Rate of changing there.
        is_inside: Whether it lies within the advised interval.
        guidance: First and last step within the guidance interval, or None.
        reversal: ``"stochastic"``, ``"ode"``, or None: it depends on the tool's sampler.
    """

    tool: str
    model: str
    scheduler: str
    steps: int
    values: Mapping[str, float | int] = field(default_factory=dict)
    logsnr: float
    t: float
    num_calls: int
    kept: float | None
    changed: float | None
    is_inside: bool
    guidance: tuple[int, int] | None
    reversal: str | None


def starts_of(
    wanted: float,
    rates: Sequence[Rate],
    interval: tuple[float, float] | None,
    guidance: tuple[float, float] | None,
    *,
    samplers: Sequence[str | Sampler],
    steps: int,
) -> tuple[Start, ...]:
    """Settings that start nearest to a level, within the interval where a tool has one.

    Args:
        wanted: The advised logsnr.
        rates: Shares at the measured levels, noise growing.
        interval: Advised OU times.
        guidance: OU times between which guidance acts.
        samplers: Samplers, or names of presets (which add the values of the other tools).
        steps: Steps of the presets.

    Returns:
        The settings.
    """
    return tuple(_settings(wanted, rates, interval, guidance, samplers, steps))


def _settings(
    wanted: float,
    rates: Sequence[Rate],
    interval: tuple[float, float] | None,
    guidance: tuple[float, float] | None,
    samplers: Sequence[str | Sampler],
    steps: int,
) -> Iterator[Start]:
    def expected(logsnr: float) -> dict[str, Any]:
        t = float(ou_time(logsnr))
        times = [rate.t for rate in rates]
        is_between = times[0] <= t <= times[-1]
        shares = {
            key: float(np.interp(t, times, [getattr(rate, key)[0] for rate in rates]))
            if is_between
            else None
            for key in ("kept", "changed")
        }
        return {"logsnr": logsnr, "t": t, "is_inside": _is_inside(logsnr, interval), **shares}

    for entry in samplers:
        chosen = sampler(entry, steps=steps) if isinstance(entry, str) else entry
        step = _nearest(chosen.logsnr, wanted, interval)
        yield Start(
            tool="diffusers",
            model=chosen.preset,
            scheduler=chosen.name,
            steps=chosen.steps,
            values={"strength": chosen.strength(step), "start step": step},
            num_calls=chosen.num_calls(step),
            guidance=_steps_within(chosen, guidance),
            reversal=chosen.reversal,
            **expected(float(chosen.logsnr[step])),
        )
        if not isinstance(entry, str):
            continue
        found = [comfy_starts(entry, steps=steps, schedule=name) for name in _SCHEDULES]
        if PRESETS[entry][2] == "whole" and entry != "digits":
            found.append(a1111_starts(entry, steps=steps, schedule="automatic"))
            found.append(a1111_starts(entry, steps=steps, schedule="karras"))
        for one in found if entry != "digits" else ():
            inside = [start for start in one if _is_inside(start.logsnr, interval)]
            known = {start.tool for start in inside}
            rest = [start for start in one if start.tool not in known]
            for start in nearest([*inside, *rest], wanted):
                yield Start(
                    tool=start.tool,
                    model=entry,
                    scheduler=start.schedule,
                    steps=steps,
                    values={k: v for k, v in start.values.items() if "steps" not in k},
                    num_calls=start.num_calls,
                    guidance=None,
                    reversal=None,
                    **expected(start.logsnr),
                )


def _is_inside(logsnr: float, interval: tuple[float, float] | None) -> bool:
    if interval is None:
        return False
    return interval[0] - _SLACK <= float(ou_time(logsnr)) <= interval[1] + _SLACK


def _nearest(
    levels: NDArray[np.float64], wanted: float, interval: tuple[float, float] | None
) -> int:
    """Step nearest to a level; one within the interval, if there is one."""
    inside = [k for k, level in enumerate(levels) if _is_inside(float(level), interval)]
    own = np.array(inside or np.flatnonzero(np.isfinite(levels)))
    return int(own[np.argmin(np.abs(levels[own] - wanted))])


def _steps_within(chosen: Sampler, guidance: tuple[float, float] | None) -> tuple[int, int] | None:
    if guidance is None:
        return None
    t = ou_time(chosen.logsnr)
    within = np.flatnonzero((t >= guidance[0]) & (t <= guidance[1]))
    return None if len(within) == 0 else (int(within[0]), int(within[-1]))
