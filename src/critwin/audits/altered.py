"""Per altered step: how many steps an arm changes, and what a step inside a window moves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from critwin.audits.interventions import paired_of
from critwin.errors import InputError
from critwin.estimates import Estimate
from critwin.streams import numpy_stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.audits.interventions import Interventions
    from critwin.experiments.arms import Arm
    from critwin.models.base import Model
    from critwin.records import Records

    Array = NDArray[np.float64]

__all__ = ["altered_steps", "step_ratio"]

_RESAMPLES = 2000


def altered_steps(
    model: Model,
    arms: Sequence[Arm],
    *,
    steps: int | None = None,
    reversal: str = "stochastic",
) -> dict[str, int]:
    """Number of steps of a generation that each arm alters, if the model tells.

    Args:
        model: The model; it may have ``num_evaluations(logsnr, steps=, reversal=, guidance=)``.
        arms: The arms, as they were asked for.
        steps: Steps of the whole schedule.
        reversal: How it reverses.

    Returns:
        Arm -> number of steps; empty where the model does not tell.
    """
    from critwin.experiments.interventions import resolve_arms
    from critwin.levels import ou_time
    from critwin.models.base import trajectories_of

    resolved, stops = resolve_arms(model, arms)
    start = trajectories_of(model).start_logsnr
    levels = [start, *(stop.effective for stop in stops if stop.effective > start)]
    calls = _calls(model, levels, steps, reversal)
    if calls is None:
        return {}
    times = [*(float(ou_time(level)) for level in levels), 0.0]
    middle = [0.5 * (high + low) for high, low in pairwise(times)]
    return {
        arm.name: sum(n for t, n in zip(middle, calls, strict=True) if arm.at(t) is not None)
        for arm in resolved
    }


def _calls(
    model: Model, levels: Sequence[float], steps: int | None, reversal: str
) -> list[int] | None:
    """Steps of every leg of a generation: of the schedule itself, else by what its ends leave."""
    if reversal == "posterior":
        return [1] * len(levels)
    schedule = getattr(getattr(model, "denoiser", model), "schedule", None)
    if schedule is not None and hasattr(schedule, "between"):
        legs = [len(schedule.between(a, b, steps)) - 1 for a, b in pairwise(levels)]
        return [*legs, len(schedule.path(levels[-1], steps))]
    tell = getattr(model, "num_evaluations", None)
    if tell is None:
        return None
    # guidance doubles the evaluations of a step, not the steps
    left = [tell(level, steps=steps, reversal=reversal, guidance=None) for level in levels]
    return [max(1, int(a - b)) for a, b in pairwise([*left, 0])]


def step_ratio(
    records: Records,
    found: Interventions,
    inside: str,
    outside: Sequence[str],
    *,
    confidence: float = 0.95,
    num_resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """How much more a step inside a window moves the law than a step outside.

    Args:
        records: The records.
        found: Effects of their arms, with steps.
        inside: The arm inside.
        outside: Arms outside, taken together: their movements and their steps are added.
        confidence: Of the limits.
        num_resamples: Resamples of the sources behind them.
        seed: Seed of the resamples.

    Returns:
        The ratio of ``moved_per_step``; limits are percentiles over resampled sources, and what
        chance adds to a movement is in both.

    Raises:
        InputError: If an arm is unknown, or its steps are.
    """
    steps = {arm.arm: arm.altered_steps for arm in found.arms}
    for name in (inside, *outside):
        if steps.get(name) is None:
            raise InputError("the steps of an arm are unknown", got=name)
    generator = numpy_stream(seed, "fairness", "ratio")
    changes = {name: paired_of(records, name, found.attribute) for name in (inside, *outside)}
    names = sorted(set.intersection(*(set(part.source.tolist()) for part in changes.values())))
    rows = {
        name: part.change[np.searchsorted(part.source, names)] for name, part in changes.items()
    }
    times = generator.multinomial(
        len(names), np.full(len(names), 1.0 / len(names)), size=num_resamples
    )

    def ratio(weights: Array) -> Array:
        moved = {
            name: 0.5 * np.abs(weights @ change / len(names)).sum(axis=1)
            for name, change in rows.items()
        }
        rest = sum(moved[name] for name in outside) / sum(steps[name] or 0 for name in outside)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(moved[inside] / (steps[inside] or 1) / rest)

    drawn = ratio(times.astype(np.float64))
    drawn = np.where(np.isnan(drawn), np.inf, drawn)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail], method="nearest")
    value = float(ratio(np.ones((1, len(names))))[0])
    is_known = np.isfinite(value)
    return Estimate(
        value=value if is_known else None,
        low=float(low) if np.isfinite(low) else None,
        high=float(high) if np.isfinite(high) else None,
        confidence=confidence,
        reason=None if is_known else "nothing moved outside",
        high_reason=None if np.isfinite(high) else "nothing may have moved outside",
    )
