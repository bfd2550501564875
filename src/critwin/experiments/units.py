"""Units, the levels they start from, and the batches they are measured in.

Planning is pure: it draws nothing and runs no network.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critwin.errors import InputError
from critwin.levels import from_logsnr, snap

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Level", "Unit", "batches", "coarse_to_fine", "resolve_levels", "same_level"]

_SAME = 2e-6  # requested levels are named to 6 decimals


@dataclass(frozen=True, slots=True)
class Level:
    """A noise level of a plan.

    Attributes:
        requested: Requested logsnr; it names the random streams.
        effective: The logsnr that the model starts from.
    """

    requested: float
    effective: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """The smallest piece of work: one source at one level and replicate.

    Attributes:
        source: Name of the source.
        source_index: Position of the source in the plan.
        logsnr: Effective level.
        requested_logsnr: Level that was asked for.
        replicate: Number of the replicate, from 0.
        condition: Condition of the reversal; None is unconditional.
        experiment: Name of the experiment.
    """

    source: str
    source_index: int
    logsnr: float
    requested_logsnr: float
    replicate: int = 0
    condition: str | None = None
    experiment: str = "forward_reverse"

    @property
    def key(self) -> str:
        """Name of the unit in a ledger; different units have different keys."""
        level = f"{self.requested_logsnr + 0.0:.6f}"
        return json.dumps(
            [self.experiment, self.condition, self.source, level, self.replicate],
            separators=(",", ":"),
        )


def same_level(a: float, b: float) -> bool:
    """Whether two requested levels are the same to the 6 decimals that name a stream."""
    return abs(a - b) < _SAME


def resolve_levels(
    requested: ArrayLike,
    available: NDArray[np.float64] | None,
    *,
    unit: str = "logsnr",
    measured: Collection[float] = (),
) -> tuple[Level, ...]:
    """Snap requested levels to what a model can start from; merge those that coincide.

    Args:
        requested: Requested logsnr, increasing or decreasing, shape ``(L,)``.
        available: The model's own levels, or None: any.
        unit: Unit in which a message shows a level.
        measured: Requested levels that are measured already: they keep their name.

    Returns:
        The levels, noise growing. Of several that snap to one, the measured one stays, else the
        nearest to it.

    Raises:
        InputError: If there is none, they are not in order, or one is outside the model's range.
    """
    wanted = np.asarray(requested, dtype=np.float64).reshape(-1)
    if len(wanted) == 0:
        raise InputError("no levels", wanted="at least one noise level")
    if not np.all(np.isfinite(wanted)):
        raise InputError("a level is not finite", got=float(wanted[~np.isfinite(wanted)][0]))
    step = np.diff(wanted)
    if len(step) and not (np.all(step > 0) or np.all(step < 0)):
        shown = from_logsnr(wanted, unit)
        at = int(np.flatnonzero(np.sign(step) != np.sign(step[0]))[0]) if step[0] else 0
        raise InputError(
            "levels are not in order",
            got=f"{unit} = {shown[at]:.6g} before {shown[at + 1]:.6g}",
            wanted="strictly increasing or strictly decreasing levels",
        )
    order = np.sort(wanted)[::-1]
    if available is None:
        found = [Level(_known(level, measured), level) for level in order.tolist()]
        return tuple(Level(lv.requested, lv.requested) for lv in found)
    grid = np.asarray(available, dtype=np.float64)
    _check_range(order, grid, unit)
    best: dict[int, Level] = {}
    for level in order.tolist():
        name = _known(level, measured)
        index, effective = snap(level, grid)
        new = Level(name, effective)
        old = best.get(index)
        if old is None or _rank(new, measured) < _rank(old, measured):
            best[index] = new
    return tuple(sorted(best.values(), key=lambda level: -level.effective))


def coarse_to_fine(levels: Sequence[Level]) -> list[Level]:
    """Levels in an order whose every beginning covers the whole axis.

    Args:
        levels: Levels in order.

    Returns:
        The ends first, then midpoints of what is open: a run that stops early has measured the
        whole axis coarsely.
    """
    if len(levels) < 3:
        return list(levels)
    order, spans = [0, len(levels) - 1], [(0, len(levels) - 1)]
    while spans:
        rest = []
        for low, high in spans:
            if high - low > 1:
                middle = (low + high) // 2
                order.append(middle)
                rest += [(low, middle), (middle, high)]
        spans = rest
    return [levels[i] for i in order]


def batches(units: Iterable[Unit], batch_size: int) -> Iterator[list[Unit]]:
    """Cut units into batches of one experiment and effective level, in order of appearance.

    Args:
        units: Units in any order.
        batch_size: Largest number of units of a batch.

    Yields:
        Lists of at most ``batch_size`` units; the last of a level may be shorter and is padded
        when it is executed.
    """
    groups: dict[tuple[str, float], list[Unit]] = {}
    for unit in units:
        groups.setdefault((unit.experiment, unit.logsnr), []).append(unit)
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def _known(level: float, measured: Collection[float]) -> float:
    return next((old for old in measured if same_level(old, level)), level)


def _rank(level: Level, measured: Collection[float]) -> tuple[bool, float, float]:
    """Measured ones first, then the nearest, then the one with less noise."""
    return (
        level.requested not in measured,
        abs(level.requested - level.effective),
        -level.requested,
    )


def _check_range(order: NDArray[np.float64], grid: NDArray[np.float64], unit: str) -> None:
    """Refuse levels that lie further outside the model's range than one of its own gaps."""
    own = np.sort(grid[np.isfinite(grid)])
    low_gap, high_gap = (own[1] - own[0], own[-1] - own[-2]) if len(own) > 1 else (1e-6, 1e-6)
    bad = order[(order < own[0] - low_gap) | (order > own[-1] + high_gap)]
    if len(bad):
        beyond = np.maximum(own[0] - bad, bad - own[-1])
        got = float(from_logsnr(bad[np.argmax(beyond)], unit))  # the end that was typed
        ends = sorted(float(from_logsnr(end, unit)) for end in (own[0], own[-1]))
        raise InputError(
            "level outside the range of the model",
            got=f"{unit} = {got:.6g}",
            wanted=f"{unit} between {ends[0]:.6g} and {ends[1]:.6g}",
        )
