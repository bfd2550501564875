"""Interventions: generate again from the same noise, with something changed on the way.

Every arm (see :mod:`critwin.experiments.arms`) starts from the pure noise of each source and
draws the same numbers on the same stretches, so that an arm differs from the source's own
generation, ``before``, by what was changed and by nothing else: effects are paired. Repetitions
draw new numbers from the same pure noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.experiments.arms import Arm, Segment, arms_of, boundaries_of
from critwin.experiments.in_memory import in_memory, loaded_parts
from critwin.experiments.sources import plan_generated
from critwin.experiments.spec import Spec, check_condition, choose_reversal
from critwin.experiments.units import Level, resolve_levels
from critwin.levels import logsnr_of_ou_time, ou_time
from critwin.models.base import trajectories_of

if TYPE_CHECKING:
    from critwin.experiments.measuring import Progress
    from critwin.features.base import Feature
    from critwin.models.base import Model
    from critwin.records import Records

__all__ = ["intervene", "resolve_arms"]


def intervene(
    model: str | Model,
    features: str | Feature | Sequence[str | Feature],
    arms: Mapping[str, Any] | Sequence[Arm],
    *,
    num_sources: int = 48,
    conditions: Sequence[str | None] = (),
    reversal: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    replicates: int = 1,
    batch_size: int = 16,
    seed: int = 0,
    max_invalid: float = 0.05,
    progress: Callable[[Progress], None] | None = None,
) -> Records:
    """Generate under every arm, paired with the sources' own generations.

    Args:
        model: A model that can stop on its way, or the name of one.
        features: Features to read, or names of them.
        arms: Arms, or plain values as :func:`critwin.experiments.arms.arms_of` reads them.
        num_sources: Number of sources.
        conditions: Conditions of the sources, dealt in turn.
        reversal: How to reverse; the model's first way unless given.
        steps: Number of steps of the whole schedule; the model's own unless given.
        guidance: Guidance scale where nothing is changed; the model's own unless given.
        replicates: Generations of a source under an arm; the first one is paired with ``before``
            number by number.
        batch_size: Number of rows of every batch.
        seed: Seed of all random streams.
        max_invalid: Largest share of invalid results.
        progress: Called after each batch.

    Returns:
        Records, sorted: ``experiment`` is ``"intervene:ARM"``, the level that of pure noise.

    Raises:
        InputError: If an argument cannot be used, or the model cannot stop on its way.
        TooManyInvalidError: If the share of invalid results is above the limit.
    """
    engine, loaded = loaded_parts(model, features)
    start = trajectories_of(engine).start_logsnr
    resolved, stops = resolve_arms(engine, arms_of(arms))
    dealt = [None if c == "none" else c for c in conditions]
    for name in dealt:
        check_condition(engine, name)
    spec = Spec(
        sources=tuple(plan_generated(num_sources, dealt, kind="trajectory")),
        levels=(Level(start, start),),
        reversal=choose_reversal(engine, reversal),
        steps=steps,
        guidance=guidance,
        replicates=replicates,
        batch_size=batch_size,
        seed=seed,
        experiment="intervene",
        stops=stops,
        arms=resolved,
    )
    return in_memory(engine, loaded, spec, max_invalid=max_invalid, progress=progress)


def resolve_arms(model: Model, arms: Sequence[Arm]) -> tuple[tuple[Arm, ...], tuple[Level, ...]]:
    """Arms whose segments end at levels of the model, and all the levels at which they end.

    Args:
        model: The model.
        arms: The arms.

    Returns:
        The arms, and the stops of every trajectory, noise falling.

    Raises:
        InputError: If a condition or a level cannot be used, or a segment is empty between the
            levels of the model.
    """
    for arm in arms:
        for segment in arm.segments:
            if segment.condition not in ("same", "none"):
                check_condition(model, segment.condition)
    wanted = boundaries_of(arms)
    if not wanted:
        return tuple(arms), ()
    requested = logsnr_of_ou_time(np.array(wanted))
    found = resolve_levels(requested, model.levels, unit="t")
    effective = np.array([level.effective for level in found])

    def snapped(t: float) -> float:
        if t not in wanted:
            return t
        here = float(logsnr_of_ou_time(np.array(t)))
        return float(ou_time(effective[np.argmin(np.abs(effective - here))]))

    def moved(segment: Segment) -> Segment:
        return replace(segment, t_high=snapped(segment.t_high), t_low=snapped(segment.t_low))

    resolved = tuple(
        replace(arm, segments=tuple(moved(segment) for segment in arm.segments)) for arm in arms
    )
    return resolved, tuple(sorted(found, key=lambda level: level.effective))
