"""Any experiment in memory: model and features loaded, sources drawn, units measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from critwin.errors import TooManyInvalidError
from critwin.experiments.kinds import unit_evaluations
from critwin.experiments.measuring import Context, Progress, finish, iterate, measure_sources
from critwin.experiments.spec import Spec, check_features, plan
from critwin.experiments.trajectories import Waypoints
from critwin.records import Records, concatenate

if TYPE_CHECKING:
    import torch

    from critwin.experiments.sources import SourceState
    from critwin.experiments.units import Unit
    from critwin.features.base import Comparison, Feature
    from critwin.models.base import Model

__all__ = ["costs_of", "in_memory", "loaded_parts"]


def loaded_parts(
    model: str | Model, features: str | Feature | Sequence[str | Feature]
) -> tuple[Model, tuple[Feature, ...]]:
    """A model and features, loaded and checked.

    Args:
        model: A model, or the name of one.
        features: Features to read, or names of them; one or several.

    Returns:
        The model and the features.

    Raises:
        InputError: If one cannot be had, or the features cannot be measured together.
    """
    from critwin.features.registry import load_feature
    from critwin.models.registry import load_model

    engine = load_model(model)
    several = isinstance(features, Sequence) and not isinstance(features, str)
    names: Sequence[str | Feature] = features if several else [features]  # type: ignore[assignment,list-item]
    loaded = tuple(load_feature(feature, model=engine) for feature in names)
    check_features(loaded)
    return engine, loaded


def costs_of(units: Sequence[Unit], model: Model, spec: Spec) -> dict[tuple[str, float], float]:
    """What a unit costs, by experiment and level: evaluations if the model tells, else 1.

    Args:
        units: The units.
        model: The model.
        spec: The choices.

    Returns:
        ``(experiment, logsnr)`` -> cost.
    """
    found: dict[tuple[str, float], float] = {}
    for unit in units:
        key = (unit.experiment, unit.logsnr)
        if key not in found:
            found[key] = float(unit_evaluations(model, unit, spec) or 1)
    return found


def in_memory(
    model: Model,
    features: tuple[Feature, ...],
    spec: Spec,
    *,
    given: torch.Tensor | None = None,
    comparisons: Sequence[Comparison] = (),
    max_invalid: float = 0.05,
    progress: Callable[[Progress], None] | None = None,
) -> Records:
    """Draw the sources of an experiment and measure all its units.

    Args:
        model: The model.
        features: The features.
        spec: The choices.
        given: Samples given in memory, shape ``(S, *sample_shape)``.
        comparisons: Comparisons of source and result.
        max_invalid: Largest share of invalid results.
        progress: Called after each batch.

    Returns:
        Records, sorted: a row a unit.

    Raises:
        InputError: If a labeller's answer is not one.
        TooManyInvalidError: If the share of invalid results is above the limit; ``records`` of
            the error holds what was measured.
    """
    states: dict[str, SourceState] = {}
    waypoints, size = Waypoints(), spec.batch_size
    for start in range(0, len(spec.sources), size):
        batch = spec.sources[start : start + size]
        new, _ = measure_sources(batch, model, features, spec, given=given, waypoints=waypoints)
        states.update((state.source.name, state) for state in new)
        if progress is not None:
            done, num = len(states), len(spec.sources)
            progress(Progress("sources", done, num, 0, done, num))
    context = Context(
        model=model,
        features=features,
        spec=spec,
        states=states,
        comparisons=tuple(comparisons),
        waypoints=waypoints,
    )
    return _measured(plan(spec), context, max_invalid, progress)


def _measured(
    units: Sequence[Unit],
    context: Context,
    max_invalid: float,
    progress: Callable[[Progress], None] | None,
) -> Records:
    cost = costs_of(units, context.model, context.spec)
    total = sum(cost[unit.experiment, unit.logsnr] for unit in units)
    parts: list[Records] = []
    done = spent = bad = 0.0
    try:
        for measured in iterate(units, context, max_invalid=max_invalid):
            parts.append(measured.records)
            done += len(measured.units)
            spent += sum(cost[unit.experiment, unit.logsnr] for unit in measured.units)
            bad += float(np.sum(~np.asarray(measured.records.valid)))
            if progress is not None:
                progress(Progress("units", int(done), len(units), int(bad), spent, total))
    except TooManyInvalidError as error:
        error.records = finish(concatenate(parts), context)
        raise
    return finish(concatenate(parts), context)
