"""Arms of an intervention: what is asked of the model at which noise.

A generation runs from large OU times to 0. An arm names stretches of it in which the condition or
the guidance is another one than the source's; outside them nothing is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite
from typing import Any

from critwin.errors import InputError

__all__ = ["Arm", "Segment", "arms_of", "boundaries_of"]

_KEYS = ("from", "to", "condition", "guidance")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of a generation in which something else is asked for.

    Attributes:
        t_high: OU time at which it begins; ``inf``: with the generation.
        t_low: OU time at which it ends; 0: with the generation.
        condition: ``"same"`` as the source's, ``"none"``, or a condition.
        guidance: Guidance scale; None: the experiment's own.

    Raises:
        InputError: If it does not run from more noise to less, or changes nothing.
    """

    t_high: float = inf
    t_low: float = 0.0
    condition: str = "same"
    guidance: float | None = None

    def __post_init__(self) -> None:
        """Check the stretch."""
        if not 0 <= self.t_low < self.t_high:
            raise InputError(
                "a segment must run from more noise to less",
                got=f"t = {self.t_high:g} to {self.t_low:g}",
                wanted="OU times with from > to >= 0",
            )
        if self.condition == "same" and self.guidance is None:
            raise InputError(
                "a segment changes nothing",
                got=f"t = {self.t_high:g} to {self.t_low:g}",
                wanted="a condition, or a guidance scale",
            )
        if self.guidance is not None and not isfinite(self.guidance):
            raise InputError("guidance is not finite", got=self.guidance)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A way to generate, told by what differs from the source's own.

    Attributes:
        name: Its name; part of the key of its units.
        segments: Stretches in which something is changed, apart from each other.

    Raises:
        InputError: If the name cannot be used, or two segments overlap.
    """

    name: str
    segments: tuple[Segment, ...] = ()

    def __post_init__(self) -> None:
        """Check name and segments."""
        if not self.name.strip() or ":" in self.name:
            raise InputError("not the name of an arm", got=self.name, wanted="text without ':'")
        ordered = sorted(self.segments, key=lambda s: -s.t_high)
        for noisy, clean in pairwise(ordered):
            if clean.t_high > noisy.t_low:
                raise InputError(
                    f"two segments of arm {self.name!r} overlap",
                    got=f"t = {clean.t_high:g} lies in {noisy.t_high:g} to {noisy.t_low:g}",
                )

    def at(self, t: float) -> Segment | None:
        """The segment that holds an OU time, or None: nothing is changed there."""
        return next((s for s in self.segments if s.t_low <= t <= s.t_high), None)


def arms_of(given: Mapping[str, Any] | Sequence[Arm]) -> tuple[Arm, ...]:
    """Arms from plain values.

    Args:
        given: Arms; or name -> list of segments, each a table with ``from`` and ``to`` (OU times;
            the generation's own ends unless given), ``condition`` and ``guidance``.

    Returns:
        The arms.

    Raises:
        InputError: If one cannot be used, or two have the same name.
    """
    arms = (
        tuple(Arm(name=str(name), segments=_segments(rows)) for name, rows in given.items())
        if isinstance(given, Mapping)
        else tuple(given)
    )
    if not arms:
        raise InputError("no arms", wanted="at least one way to generate")
    names = [arm.name for arm in arms]
    if len(set(names)) < len(names):
        raise InputError("two arms have the same name", got=", ".join(names))
    return arms


def boundaries_of(arms: Sequence[Arm]) -> tuple[float, ...]:
    """OU times at which anything changes in any arm, falling.

    All arms stop at all of them, so that all draw the same random numbers on the same stretch.

    Args:
        arms: The arms.

    Returns:
        Distinct OU times, neither 0 nor infinite.
    """
    ends = {t for arm in arms for s in arm.segments for t in (s.t_high, s.t_low)}
    return tuple(sorted((t for t in ends if 0 < t < inf), reverse=True))


def _segments(rows: Any) -> tuple[Segment, ...]:
    found = []
    for row in [rows] if isinstance(rows, Mapping) else rows:
        if isinstance(row, Segment):
            found.append(row)
            continue
        if unknown := sorted(set(row) - set(_KEYS)):
            raise InputError(
                "unknown entry of a segment", got=unknown[0], wanted="one of " + ", ".join(_KEYS)
            )
        found.append(
            Segment(
                t_high=float(row.get("from", inf)),
                t_low=float(row.get("to", 0.0)),
                condition=str(row.get("condition", "same")),
                guidance=None if row.get("guidance") is None else float(row["guidance"]),
            )
        )
    return tuple(found)
