"""Generations that stop on their way: states of a source at levels of its own trajectory.

A trajectory is a chain of legs, from pure noise to the first stop, to the next, and to the end.
Each leg draws from a stream named after the level at which it stops, so that another arm of an
intervention, or a trajectory computed again, draws the same numbers on the same leg.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from critwin.experiments.padding import padded_rows, padded_streams
from critwin.levels import ou_time
from critwin.models.base import trajectories_of

if TYPE_CHECKING:
    import torch

    from critwin.experiments.arms import Arm
    from critwin.experiments.sources import Source
    from critwin.experiments.spec import Spec
    from critwin.models.base import Model
    from critwin.streams import UnitStreams

__all__ = ["Trajectory", "Waypoints", "follow", "follow_sources", "legs_of"]

_SAME_LEVEL = 1e-6
_MOST_BYTES = 2**30


class Trajectory(NamedTuple):
    """One batch of generations.

    Attributes:
        states: State at every stop, in their order, each of shape ``(N, *sample_shape)``.
        clean: The finished generations, same shape.
    """

    states: tuple[torch.Tensor, ...]
    clean: torch.Tensor


def legs_of(model: Model, spec: Spec) -> list[tuple[float, float | None]]:
    """Legs of a trajectory: where each starts and stops; None: the end.

    Args:
        model: The model.
        spec: The choices; ``stops`` of it.

    Returns:
        Pairs of logsnr, from noisy to clean.
    """
    level = trajectories_of(model).start_logsnr
    legs: list[tuple[float, float | None]] = []
    for stop in spec.stops:
        if stop.effective - level > _SAME_LEVEL:
            legs.append((level, stop.effective))
            level = stop.effective
    return [*legs, (level, None)]


def follow(
    model: Model,
    conditions: Sequence[str | None],
    streams: Sequence[UnitStreams],
    spec: Spec,
    arm: Arm | None = None,
) -> Trajectory:
    """Generate one batch along the stops of an experiment.

    Args:
        model: The model.
        conditions: Condition of the source of each row.
        streams: A stream a row.
        spec: The choices: stops, reversal, steps, guidance.
        arm: What is changed on the way; None: nothing.

    Returns:
        The states at the stops and the finished generations.

    Raises:
        InputError: If the model cannot stop on its way.
    """
    path = trajectories_of(model)
    x, level = path.pure_noise(streams), path.start_logsnr
    states = []
    for stop in spec.stops:
        if stop.effective - level > _SAME_LEVEL:
            told = _told(arm, level, stop.effective, conditions, spec)
            x = path.partial(
                x,
                level,
                stop.effective,
                told[0],
                streams,
                spec.reversal,
                purpose=f"leg to {stop.requested + 0.0:.6f}",
                **told[1],
            )
            level = stop.effective
        states.append(x)
    told = _told(arm, level, None, conditions, spec)
    clean = model.denoise(
        x, level, told[0], streams, spec.reversal, purpose="leg to the end", **told[1]
    )
    return Trajectory(tuple(states), clean)


def follow_sources(model: Model, sources: Sequence[Source], spec: Spec) -> Trajectory:
    """The sources' own generations, unchanged, at the fixed batch shape.

    Args:
        model: The model.
        sources: At most ``spec.batch_size`` sources.
        spec: The choices.

    Returns:
        One row a source, float32 on the CPU.
    """
    num = len(sources)
    rows = padded_rows(num, spec.batch_size)
    streams = padded_streams([(s.name, None, 0) for s in sources], spec.batch_size, spec.seed)
    found = follow(model, [sources[i].condition for i in rows], streams, spec)
    return Trajectory(tuple(_kept(state, num) for state in found.states), _kept(found.clean, num))


class Waypoints:
    """States of sources at the stops of their trajectories, computed when they are needed.

    They are functions of the source alone, so those that are dropped for memory come back the
    same.

    Args:
        most_bytes: Memory to use at most; the sources used last are kept.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most_bytes
        self._states: OrderedDict[str, tuple[torch.Tensor, ...]] = OrderedDict()

    def add(self, sources: Sequence[Source], found: Trajectory, *, num_needed: int = 0) -> None:
        """Keep the states of some sources.

        Args:
            sources: The sources.
            found: Their trajectories, one row a source.
            num_needed: How many of those used last are needed at once, these included; all of
                these unless given.
        """
        for row, source in enumerate(sources):
            self._states[source.name] = tuple(state[row].clone() for state in found.states)
            self._states.move_to_end(source.name)
        states = next(iter(self._states.values()))
        size = states[0].numel() * states[0].element_size() if states else 0
        while len(self._states) > self.room(len(states) * size, num_needed or len(sources)):
            self._states.popitem(last=False)

    def room(self, num_bytes: int, num_needed: int) -> int:
        """Number of sources whose states are kept.

        Args:
            num_bytes: Size of the states of one source.
            num_needed: Sources that are needed at once.

        Returns:
            The number.
        """
        return max(num_needed, self._most // max(1, num_bytes))

    def at(
        self, model: Model, sources: Sequence[Source], level: float, spec: Spec
    ) -> torch.Tensor:
        """States of some sources at one level.

        Args:
            model: The model.
            sources: The sources, one a row; the same one may come several times.
            level: Effective level, one of the stops.
            spec: The choices.

        Returns:
            Shape ``(N, *sample_shape)``, float32 on the CPU.
        """
        import torch

        unique = list({source.name: source for source in sources}.values())
        missing = [source for source in unique if source.name not in self._states]
        if missing:
            for source in unique:
                if source.name in self._states:
                    self._states.move_to_end(source.name)
            self.add(missing, follow_sources(model, missing, spec), num_needed=len(unique))
        index = next(i for i, s in enumerate(spec.stops) if abs(s.effective - level) < _SAME_LEVEL)
        return torch.stack([self._states[source.name][index] for source in sources])


def _told(
    arm: Arm | None,
    level: float,
    stop: float | None,
    conditions: Sequence[str | None],
    spec: Spec,
) -> tuple[list[str | None], dict[str, Any]]:
    """Conditions and options of a leg."""
    options: dict[str, Any] = {}
    if spec.steps is not None:
        options["steps"] = spec.steps
    guidance, asked = spec.guidance, list(conditions)
    if arm is not None:
        high = float(ou_time(level))
        low = 0.0 if stop is None else float(ou_time(stop))
        segment = arm.at(0.5 * (high + low))
        if segment is not None:
            if segment.condition != "same":
                told = None if segment.condition == "none" else segment.condition
                asked = [told] * len(asked)
            guidance = guidance if segment.guidance is None else segment.guidance
    if guidance is not None:
        options["guidance"] = guidance
    return asked, options


def _kept(state: torch.Tensor, num: int) -> torch.Tensor:
    import torch

    return state[:num].detach().to(device="cpu", dtype=torch.float32).contiguous()
