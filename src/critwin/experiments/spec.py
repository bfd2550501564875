"""The choices of an experiment, checked against the model, and its plan.

Nothing here draws a number or runs a network.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from critwin._texts import some_of
from critwin.errors import InputError
from critwin.experiments.units import Level, Unit, coarse_to_fine

if TYPE_CHECKING:
    from critwin.experiments.arms import Arm
    from critwin.experiments.sources import Source
    from critwin.features.base import Feature
    from critwin.models.base import Model

__all__ = [
    "EXPERIMENT",
    "Spec",
    "check_condition",
    "check_features",
    "choose_reversal",
    "num_evaluations",
    "plan",
]

EXPERIMENT = "forward_reverse"


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Everything that fixes the numbers of an experiment, but model and features.

    Attributes:
        sources: The sources.
        levels: The noise levels.
        reversal: How to reverse.
        condition: ``"same"`` as the source was generated with, ``"none"``, or a condition.
        steps: Number of steps of the whole schedule; None: the model's own.
        guidance: Guidance scale; None: the model's own.
        replicates: Fresh noise and fresh reversals of a source at a level.
        batch_size: Number of rows of every batch.
        batch_ladder: Smaller numbers of rows, falling, for batches that do not fit into memory.
        seed: Seed of all random streams.
        num_merged: Requested levels that coincide with another one.
        experiment: Name of the experiment.
        stops: Levels at which trajectories stop, noise falling; for experiments on trajectories.
        arms: What is changed on the way, for interventions.
    """

    sources: tuple[Source, ...]
    levels: tuple[Level, ...]
    reversal: str
    condition: str = "same"
    steps: int | None = None
    guidance: float | None = None
    replicates: int = 1
    batch_size: int = 16
    batch_ladder: tuple[int, ...] = ()
    seed: int = 0
    num_merged: int = 0
    experiment: str = EXPERIMENT
    stops: tuple[Level, ...] = ()
    arms: tuple[Arm, ...] = ()

    def __post_init__(self) -> None:
        """Check the counts."""
        for name in ("replicates", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be positive", got=getattr(self, name))
        rungs = (self.batch_size, *self.batch_ladder)
        if min(rungs) < 1 or any(low >= high for high, low in pairwise(rungs)):
            raise InputError(
                "a ladder of batch sizes must fall",
                got=", ".join(map(str, rungs)),
                wanted="positive numbers of rows below batch_size, the largest first",
            )

    def condition_of(self, source: Source) -> str | None:
        """Condition under which a source is denoised."""
        if self.condition == "same":
            return source.condition
        return None if self.condition == "none" else self.condition

    def arm_of(self, unit: Unit) -> Arm:
        """The arm of an intervention to which a unit belongs."""
        name = unit.experiment.removeprefix(f"{self.experiment}:")
        return next(arm for arm in self.arms if arm.name == name)


def plan(spec: Spec) -> list[Unit]:
    """List the units of an experiment. Pure: the same plan for the same choices.

    Args:
        spec: The choices.

    Returns:
        Units, level by level from coarse to fine over the axis; each key occurs once.
    """
    names = [f"{spec.experiment}:{arm.name}" for arm in spec.arms] or [spec.experiment]
    return [
        Unit(
            source=source.name,
            source_index=source.index,
            logsnr=level.effective,
            requested_logsnr=level.requested,
            replicate=replicate,
            condition=spec.condition_of(source),
            experiment=name,
        )
        for level in coarse_to_fine(spec.levels)
        for name in names
        for replicate in range(spec.replicates)
        for source in spec.sources
    ]


def check_features(features: Sequence[Feature]) -> None:
    """Refuse what cannot be measured: no feature, one twice, one with nothing to lose.

    Args:
        features: The features.

    Raises:
        InputError: If there is none, two have the same name, or one has a single label.
    """
    if not features:
        raise InputError("no features", wanted="at least one feature")
    names = [feature.name for feature in features]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(
            "two features have the same name",
            got=twice,
            wanted="names of their own",
            next_step='give one of them another: called = "…"',
        )
    for feature in features:
        if len(feature.labels) < 2:
            raise InputError(
                f"feature {feature.name!r} has only one label: nothing to lose",
                got=", ".join(feature.labels),
                wanted="at least two labels",
            )


def check_condition(model: Model, condition: str | None) -> None:
    """Refuse a condition that the model does not accept.

    Args:
        model: The model.
        condition: The condition; None is accepted unless the model always takes a class.

    Raises:
        InputError: If it is unknown.
    """
    known = model.conditions
    if condition is None and known and getattr(model, "needs_condition", False):
        raise InputError(
            f"model {model.name!r} always takes a condition",
            got="none",
            wanted="one of " + some_of(known),
            next_step=f'set conditions = ["{known[0]}"]',
        )
    if condition is None or known is None or condition in known:
        return
    same = [name for name in known if name.startswith(f"{condition} (")]  # classes of one name
    close = same or difflib.get_close_matches(condition, known, n=1)
    raise InputError(
        f"model {model.name!r} does not know this condition",
        got=condition,
        wanted="one of " + some_of(known) if known else "no condition: the model takes none",
        next_step=f"did you mean {' or '.join(map(repr, close))}?" if close else None,
    )


def choose_reversal(model: Model, reversal: str | None) -> str:
    """The way to reverse, checked.

    Args:
        model: The model.
        reversal: Name of a way, or None: the model's first.

    Returns:
        The name.

    Raises:
        InputError: If the model does not have it.
    """
    if reversal is None:
        return str(model.reversals[0])
    if reversal not in model.reversals:
        raise InputError(
            f"model {model.name!r} has no such reversal",
            got=reversal,
            wanted="one of " + ", ".join(model.reversals),
        )
    return reversal


def num_evaluations(model: Model, logsnr: float, spec: Spec) -> int | None:
    """Network evaluations that one row needs to be denoised, if the model tells.

    Args:
        model: The model; it may have ``num_evaluations(logsnr, steps=, reversal=, guidance=)``.
        logsnr: Effective level.
        spec: The choices.

    Returns:
        The number, or None if the model does not tell.
    """
    tell = getattr(model, "num_evaluations", None)
    if tell is None:
        return None
    return int(tell(logsnr, steps=spec.steps, reversal=spec.reversal, guidance=spec.guidance))
