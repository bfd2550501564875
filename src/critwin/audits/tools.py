r"""Values that other tools call strength: ComfyUI's ``denoise``, A1111's denoising strength.

Each tool makes its own list of n noise levels and starts somewhere in it. What is written here is
our reading of their sources, from published versions of 2024 and 2025; a fork or an extension may
do otherwise.

- **ComfyUI, KSampler**: a ``denoise`` d < 1 makes a list of ``int(steps / d)`` levels and takes
  the last ``steps`` of them: the number of steps that run stays the same
  (``comfy/samplers.py``, ``KSampler.set_steps``).
- **ComfyUI, KSamplerAdvanced**: ``start_at_step`` k starts before level k of ``steps`` levels
  (``comfy/samplers.py``, ``KSampler.sample``).
- **A1111**: the first level of the last ``int(min(d, .999) * steps) + 1`` of ``steps`` levels: one
  step more than diffusers takes at the same strength (``modules/sd_samplers_common.py``,
  ``setup_img2img_steps``; ``modules/sd_samplers_kdiffusion.py``, ``sample_img2img``), with the
  setting "With img2img, do exactly the amount of steps the slider specifies" off.

Samplers that drop the last but one level (DPM2, UniPC) are not covered.

Source: the files named; Karras et al. (2022), *Elucidating the design space*, eq. (5); k-diffusion
(``DiscreteSchedule.get_sigmas``, ``get_sigmas_karras``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.audits.strength import PRESETS, sampler
from critwin.errors import InputError
from critwin.levels import alpha_sigma, scheduler_logsnr

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "A1111_SCHEDULES",
    "COMFY_SCHEDULES",
    "ToolStart",
    "a1111_starts",
    "comfy_starts",
    "nearest",
]

_RHO = 7.0
_PERCENT = 100


@dataclass(frozen=True, kw_only=True)
class ToolStart:
    """A setting of a tool and where it starts.

    Attributes:
        tool: ``"ComfyUI KSampler"``, ``"ComfyUI KSamplerAdvanced"`` or ``"A1111"``.
        schedule: The tool's name of the list of levels.
        values: Name of the setting -> its value.
        logsnr: Level that it starts from.
        num_calls: Steps that run.
    """

    tool: str
    schedule: str
    values: Mapping[str, float | int] = field(default_factory=dict)
    logsnr: float
    num_calls: int


@dataclass(frozen=True, eq=False)
class _Table:
    """Levels that a model knows, noise growing, as the tools keep them.

    ``sigma`` is ``sigma / alpha``, or the flow time where ``is_flow``.
    """

    sigma: NDArray[np.float64]
    is_flow: bool
    shift: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None

    def spread(self, part: NDArray[np.float64]) -> NDArray[np.float64]:
        """Levels from the noisiest (0) to the cleanest (1), uniform in the model's own time."""
        if self.shift is not None:  # the cleanest level, shifted already, is shifted again
            return self.shift(1.0 + part * (self.sigma[0] - 1.0))
        last = len(self.sigma) - 1
        return np.exp(np.interp((1.0 - part) * last, np.arange(last + 1), np.log(self.sigma)))

    def logsnr(self, sigma: float) -> float:
        with np.errstate(divide="ignore"):
            if self.is_flow:
                return float(2.0 * (np.log1p(-sigma) - np.log(sigma)))
            return float(-2.0 * np.log(sigma))


def comfy_starts(preset: str, *, steps: int, schedule: str = "normal") -> list[ToolStart]:
    """Where settings of ComfyUI's samplers start.

    Args:
        preset: One of :data:`~critwin.audits.strength.PRESETS`.
        steps: Number of steps in the node.
        schedule: One of :data:`COMFY_SCHEDULES`, the node's ``scheduler``.

    Returns:
        Every ``denoise`` of two decimals and every ``start_at_step``.

    Raises:
        InputError: If there is no such preset or schedule.
    """
    table = _table(preset)
    make = _named(COMFY_SCHEDULES, schedule, "ComfyUI")
    own = make(table, steps)
    found = []
    for percent in range(1, _PERCENT + 1):
        denoise = percent / _PERCENT
        total = steps if denoise > 0.9999 else int(steps / denoise)
        levels = own if total == steps else make(table, total)
        levels = levels[-(steps + 1) :]
        found.append(
            ToolStart(
                tool="ComfyUI KSampler",
                schedule=schedule,
                values={"denoise": denoise, "steps": steps},
                logsnr=table.logsnr(levels[0]),
                num_calls=len(levels) - 1,
            )
        )
    for step in range(len(own) - 1):
        found.append(
            ToolStart(
                tool="ComfyUI KSamplerAdvanced",
                schedule=schedule,
                values={"start_at_step": step, "steps": steps},
                logsnr=table.logsnr(own[step]),
                num_calls=len(own) - 1 - step,
            )
        )
    return found


def a1111_starts(preset: str, *, steps: int, schedule: str = "karras") -> list[ToolStart]:
    """Where denoising strengths of A1111 start.

    Args:
        preset: One of :data:`~critwin.audits.strength.PRESETS`; flow matching is not covered.
        steps: Sampling steps.
        schedule: One of :data:`A1111_SCHEDULES`.

    Returns:
        Every denoising strength of two decimals.

    Raises:
        InputError: If there is no such preset or schedule, or it is not covered.
    """
    table = _table(preset)
    make = _named(A1111_SCHEDULES, schedule, "A1111")
    if table.is_flow:
        raise InputError("no values of A1111 for flow matching", got=preset)
    levels = make(table, steps)
    found = []
    for percent in range(1, _PERCENT + 1):
        strength = percent / _PERCENT
        encoded = int(min(strength, 0.999) * steps)
        found.append(
            ToolStart(
                tool="A1111",
                schedule=schedule,
                values={"denoising strength": strength, "sampling steps": steps},
                logsnr=table.logsnr(levels[steps - encoded - 1]),
                num_calls=encoded + 1,
            )
        )
    return found


def _normal(table: _Table, steps: int) -> NDArray[np.float64]:
    """Uniform in the model's time, both ends included."""
    return _ended(table.spread(np.linspace(0.0, 1.0, steps)))


def _sgm_uniform(table: _Table, steps: int) -> NDArray[np.float64]:
    return _ended(table.spread(np.linspace(0.0, 1.0, steps + 1)[:-1]))


def _simple(table: _Table, steps: int) -> NDArray[np.float64]:
    stride = len(table.sigma) / steps
    return _ended(np.array([table.sigma[-(1 + int(k * stride))] for k in range(steps)]))


def _ddim_uniform(table: _Table, steps: int) -> NDArray[np.float64]:
    """Every m-th level from the second on: more than ``steps`` where they do not divide."""
    stride = max(len(table.sigma) // steps, 1)
    return _ended(table.sigma[1::stride][::-1])


def _karras(table: _Table, steps: int) -> NDArray[np.float64]:
    low, high = table.sigma[0] ** (1.0 / _RHO), table.sigma[-1] ** (1.0 / _RHO)
    return _ended((high + np.linspace(0.0, 1.0, steps) * (low - high)) ** _RHO)


def _exponential(table: _Table, steps: int) -> NDArray[np.float64]:
    return _ended(np.geomspace(table.sigma[-1], table.sigma[0], steps))


Schedules = Mapping[str, Callable[[_Table, int], Any]]
COMFY_SCHEDULES: Schedules = {
    "normal": _normal,
    "karras": _karras,
    "exponential": _exponential,
    "sgm_uniform": _sgm_uniform,
    "simple": _simple,
    "ddim_uniform": _ddim_uniform,
}
"""Names of ComfyUI's ``scheduler`` that are covered."""
A1111_SCHEDULES: Schedules = {
    "automatic": _normal,
    "karras": _karras,
    "exponential": _exponential,
}
"""Schedule types of A1111 that are covered."""


def _ended(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.append(levels, 0.0)


def _named(known: Schedules, name: str, tool: str) -> Callable[[_Table, int], Any]:
    if name not in known:
        raise InputError(
            f"no such schedule of {tool}", got=name, wanted="one of " + ", ".join(known)
        )
    return known[name]


def _table(preset: str) -> _Table:
    if preset not in PRESETS:
        raise InputError("no such preset", got=preset, wanted="one of " + ", ".join(PRESETS))
    if PRESETS[preset][2] == "rest":
        # both tools take the shift of 1024 x 1024 pixels for FLUX, whatever the size
        factor = 3.0 if preset == "sd3" else float(np.exp(1.15))
        count = 1000 if preset == "sd3" else 10_000

        def shift(time: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(factor * time / (1.0 + (factor - 1.0) * time))

        return _Table(shift(np.arange(1, count + 1) / count), True, shift)
    whole = sampler(preset, steps=1).scheduler

    alpha, sigma = alpha_sigma(scheduler_logsnr(whole))
    return _Table(sigma / alpha, False)


def nearest(starts: list[ToolStart], logsnr: float) -> Iterator[ToolStart]:
    """Of every tool the setting that starts nearest to a level.

    Args:
        starts: Settings.
        logsnr: The level.

    Yields:
        One setting a tool; of equal ones the first.
    """
    for tool in dict.fromkeys(start.tool for start in starts):
        own = [start for start in starts if start.tool == tool and np.isfinite(start.logsnr)]
        yield min(own, key=lambda start: abs(start.logsnr - logsnr))
