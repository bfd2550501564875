"""The experiments by name: what each makes of a source at a level.

- ``forward_reverse`` noises the source and reverses.
- ``clone`` keeps the state of the source's own generation and repeats the rest.
- ``prompt_switch`` does so under another condition.
- ``preview`` looks at the clean sample that the denoiser expects there.
- ``intervene`` generates again from the same noise, with something changed on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from critwin.errors import InputError
from critwin.experiments.padding import padded_streams
from critwin.experiments.trajectories import follow, legs_of
from critwin.levels import ou_time

if TYPE_CHECKING:
    import torch

    from critwin.experiments.arms import Arm
    from critwin.experiments.sources import Source
    from critwin.experiments.spec import Spec
    from critwin.experiments.trajectories import Waypoints
    from critwin.experiments.units import Unit
    from critwin.models.base import Model

__all__ = [
    "BRANCHES",
    "KINDS",
    "Kind",
    "Work",
    "arm_evaluations",
    "kind_of",
    "source_evaluations",
    "unit_evaluations",
]

_NEARLY = 1e-3  # of a log-SNR: a step that holds one call


class Work(NamedTuple):
    """A batch of units on its way through a model, at the fixed shape.

    Attributes:
        model: The model.
        spec: The choices.
        units: The units.
        sources: Their sources.
        clean: Their clean samples, shape ``(batch_size, *sample_shape)``.
        rows: Unit of each row of the padded batch.
        waypoints: States of trajectories.
    """

    model: Model
    spec: Spec
    units: Sequence[Unit]
    sources: Sequence[Source]
    clean: torch.Tensor
    rows: Sequence[int]
    waypoints: Waypoints

    def streams(self) -> list[Any]:
        """A stream a row of the padded batch."""
        keys = [(u.source, u.requested_logsnr, u.replicate) for u in self.units]
        return padded_streams(keys, self.spec.batch_size, self.spec.seed)

    def options(self) -> dict[str, Any]:
        """What a reversal is told beside conditions."""
        told: dict[str, Any] = {"reversal": self.spec.reversal}
        if self.spec.steps is not None:
            told["steps"] = self.spec.steps
        if self.spec.guidance is not None:
            told["guidance"] = self.spec.guidance
        return told

    def conditions(self) -> list[str | None]:
        """Condition of each row."""
        return [self.units[i].condition for i in self.rows]

    def waypoint(self) -> torch.Tensor:
        """State of each row's source at the level of the batch, on its own trajectory."""
        sources = [self.sources[i] for i in self.rows]
        return self.waypoints.at(self.model, sources, self.units[0].logsnr, self.spec)


@dataclass(frozen=True)
class Kind:
    """An experiment.

    Attributes:
        name: Its name.
        result: Makes the clean samples of a batch of units of one level and arm.
        evaluations: Evaluations of the model for one unit, if the model tells.
        has_trajectory: Whether sources are generations that stop at levels.
        has_replicates: Whether a repetition draws anything.
        line: What it does, in a line.
    """

    name: str
    result: Callable[[Work], torch.Tensor]
    evaluations: Callable[[Model, Unit, Spec], int | None]
    has_trajectory: bool
    has_replicates: bool
    line: str


def kind_of(name: str) -> Kind:
    """An experiment by name.

    Args:
        name: The name.

    Returns:
        The experiment.

    Raises:
        InputError: If it is unknown.
    """
    if name not in KINDS:
        raise InputError("unknown experiment", got=name, wanted="one of " + ", ".join(KINDS))
    return KINDS[name]


def unit_evaluations(model: Model, unit: Unit, spec: Spec) -> int | None:
    """Evaluations of the model that one unit needs, if the model tells.

    Args:
        model: The model; it may have ``num_evaluations(logsnr, steps=, reversal=, guidance=)``.
        unit: The unit.
        spec: The choices.

    Returns:
        The number, or None if the model does not tell.
    """
    return kind_of(spec.experiment).evaluations(model, unit, spec)


def arm_evaluations(model: Model, spec: Spec) -> dict[str, int]:
    """Evaluations of the model for one generation under each arm, if the model tells.

    Args:
        model: The model.
        spec: The choices.

    Returns:
        Arm -> number; empty where there are no arms, or the model does not tell.
    """
    found = {arm.name: _legs_cost(model, spec, arm) for arm in spec.arms}
    return {name: number for name, number in found.items() if number is not None}


def source_evaluations(model: Model, source: Source, spec: Spec) -> int | None:
    """Evaluations of the model that one source needs, if the model tells.

    Args:
        model: The model.
        source: The source.
        spec: The choices.

    Returns:
        The number, 0 for one that is not generated or is drawn from an exact law; None if the
        model does not tell.
    """
    if not source.is_fresh:
        return 0
    if getattr(model, "num_evaluations", None) is None:
        return None
    if source.kind == "trajectory":
        return _legs_cost(model, spec, None)
    if model.reversals[0] == "posterior":
        return 0
    start = getattr(model, "start_logsnr", None)
    if start is None:
        levels = model.levels
        own = [level.effective for level in spec.levels] if levels is None else levels.tolist()
        start = min(level for level in own if isfinite(level))
    # what generate() does: the model's own steps and guidance, by the first of its ways
    tell: Any = model
    return int(tell.num_evaluations(start, reversal=model.reversals[0]))


def _told(
    model: Model, logsnr: float, spec: Spec, guidance: float | None, stop: float | None = None
) -> int | None:
    tell = getattr(model, "num_evaluations", None)
    if tell is None:
        return None
    leg = {} if stop is None else {"stop": stop}
    return int(tell(logsnr, steps=spec.steps, reversal=spec.reversal, guidance=guidance, **leg))


def _from_level(model: Model, unit: Unit, spec: Spec) -> int | None:
    return _told(model, unit.logsnr, spec, spec.guidance)


def _one(model: Model, unit: Unit, spec: Spec) -> int | None:
    """One call of the denoiser, twice where it is guided there: told by the step from there."""
    stop = _next_cleaner(model, unit.logsnr)
    try:
        told = [_told(model, unit.logsnr, spec, g, stop) for g in (spec.guidance, 1.0)]
    except InputError:  # the last step of a schedule stops nowhere
        told = [_told(model, unit.logsnr, spec, g) for g in (spec.guidance, 1.0)]
    if told[0] is None or told[1] is None:
        return None
    return ceil(told[0] / told[1]) if told[1] else 0  # a clean sample is its own preview


def _next_cleaner(model: Model, logsnr: float) -> float | None:
    if model.levels is None:
        return logsnr + _NEARLY
    cleaner = [level for level in model.levels.tolist() if logsnr + _NEARLY < level < inf]
    return min(cleaner, default=None)


def _whole(model: Model, unit: Unit, spec: Spec) -> int | None:
    return _legs_cost(model, spec, spec.arm_of(unit))


def _legs_cost(model: Model, spec: Spec, arm: Arm | None) -> int | None:
    """The legs of a generation, under an arm each at its own guidance."""
    total = 0
    for level, stop in legs_of(model, spec):
        low = 0.0 if stop is None else float(ou_time(stop))
        segment = None if arm is None else arm.at(0.5 * (float(ou_time(level)) + low))
        guidance = spec.guidance
        if segment is not None and segment.guidance is not None:
            guidance = segment.guidance
        leg = _told(model, level, spec, guidance, stop)
        if leg is None:
            return None
        total += leg
    return total


def _forward_reverse(work: Work) -> torch.Tensor:
    streams, logsnr = work.streams(), work.units[0].logsnr
    noisy = work.model.noise(work.clean, logsnr, streams)
    return work.model.denoise(noisy, logsnr, work.conditions(), streams, **work.options())


def _branch(work: Work) -> torch.Tensor:
    return work.model.denoise(
        work.waypoint(),
        work.units[0].logsnr,
        work.conditions(),
        work.streams(),
        **work.options(),
    )


def _preview(work: Work) -> torch.Tensor:
    from critwin.models.base import trajectories_of

    told = {} if work.spec.guidance is None else {"guidance": work.spec.guidance}
    return trajectories_of(work.model).predict(
        work.waypoint(), work.units[0].logsnr, work.conditions(), **told
    )


def _intervene(work: Work) -> torch.Tensor:
    conditions = [work.sources[i].condition for i in work.rows]
    keys = [(u.source, None, u.replicate) for u in work.units]
    streams = padded_streams(keys, work.spec.batch_size, work.spec.seed)
    arm = work.spec.arm_of(work.units[0])
    return follow(work.model, conditions, streams, work.spec, arm).clean


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "forward_reverse",
            _forward_reverse,
            _from_level,
            has_trajectory=False,
            has_replicates=True,
            line="noise a sample, denoise it, see which features survive",
        ),
        Kind(
            "clone",
            _branch,
            _from_level,
            has_trajectory=True,
            has_replicates=True,
            line="stop a generation at a level and repeat the rest of it",
        ),
        Kind(
            "prompt_switch",
            _branch,
            _from_level,
            has_trajectory=True,
            has_replicates=True,
            line="change the condition of a generation at a level",
        ),
        Kind(
            "preview",
            _preview,
            _one,
            has_trajectory=True,
            has_replicates=False,
            line="look at the clean sample that is expected at a level",
        ),
        Kind(
            "intervene",
            _intervene,
            _whole,
            has_trajectory=True,
            has_replicates=True,
            line="generate again from the same noise with something changed on the way",
        ),
    )
}
"""The experiments by name."""

BRANCHES = ("clone", "prompt_switch", "preview")
"""Those whose results start from a state of the source's own generation."""
