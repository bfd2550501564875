"""What a run will cost and how sharp it will be, before it is started.

Expected interval of a midpoint: near the midpoint the mean stay is about half way between the
chance level c and 1, ``p = (1 + c) / 2``. With S sources its standard error is at most
``sqrt(p (1 - p) / S)`` (replicates of a source are not independent, so they are not counted).
``kept`` divides that by ``1 - c``, and a curve that falls from .9 to .1 over a width w has the
slope ``.8 / w``, so the interval's total width in OU time is about
``2 z sqrt(p (1 - p) / S) / (1 - c) * w / .8``. Assumed is ``w = 1``, or all that the levels span
where that is less; a single level shows no window. Neighbouring levels, which sharpen the
estimate, are not counted.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.experiments.kinds import BRANCHES, source_evaluations, unit_evaluations
from critwin.experiments.measuring import Context, measure, measure_sources
from critwin.experiments.priors import priors_of
from critwin.experiments.spec import Spec, plan
from critwin.experiments.trajectories import Waypoints
from critwin.experiments.units import Unit, batches
from critwin.levels import alpha_sigma, ou_time
from critwin.runs.prepare import Prepared, spec_of, use_threads
from critwin.transitions import NO_SIGNAL
from critwin.views import MOST_CONDITIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from critwin.models.base import Model

__all__ = ["Estimate", "FeatureEstimate", "estimate_run", "midpoint_width"]

ASSUMED_WIDTH = 1.0
"""Width of a window that is assumed for the expected intervals, OU time."""

_OF_SHARES = ("intervene", "prompt_switch")
_BYTES_PER_UNIT = 400  # measured: row, index and JSON of one feature
_BYTES_PER_PIXEL = 2.0  # PNG of noisy colour images compresses little


@dataclass(frozen=True)
class FeatureEstimate:
    """What to expect of one feature.

    Attributes:
        name: Its name.
        chance: Chance level; that of equally likely labels if the prior is unknown.
        is_chance_known: Whether the model told its prior.
        midpoint_width: Expected total width of the 95 % interval of the midpoint, OU time; None
            if there will be no window.
        reason: Why there will be no window, as far as the choices tell; None if nothing does.
    """

    name: str
    chance: float
    is_chance_known: bool
    midpoint_width: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Estimate:
    """What a run will cost.

    Attributes:
        num_sources: Sources.
        num_levels: Levels after snapping and merging.
        num_merged: Requested levels that coincide with another one.
        replicates: Replicates.
        num_units: Units.
        num_units_left: Units that are not measured yet.
        num_batches: Batches that are left, each of ``batch_size`` rows.
        batch_size: Rows of a batch.
        evaluations: Evaluations of the model (of a network, or of an exact posterior) for single
            rows that are left, padding and sources included; None if the model does not tell.
        source_evaluations: Those of them that generate the sources; None likewise.
        seconds: Time that is left, from measured batches, sources included.
        measured: What the time rests on.
        disk_bytes: Size of the finished run folder, without its report.
        t_low: Smallest OU time.
        t_high: Largest OU time.
        assumed_width: Width of a window that the expected intervals assume, OU time; None if there
            is one level only.
        features: What to expect of each feature.
        share_half_width: Where shares are the answer and not windows, half of the 95 % interval of
            one at a level, at most; None elsewhere.
    """

    num_sources: int
    num_levels: int
    num_merged: int
    replicates: int
    num_units: int
    num_units_left: int
    num_batches: int
    batch_size: int
    evaluations: int | None
    source_evaluations: int | None
    seconds: float
    measured: str
    disk_bytes: int
    t_low: float
    t_high: float
    assumed_width: float | None
    features: tuple[FeatureEstimate, ...]
    share_half_width: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def midpoint_width(
    chance: float, num_sources: int, *, z: float = 1.959964, width: float = ASSUMED_WIDTH
) -> float:
    """Expected total width of a midpoint's interval, OU time; the formula heads this module.

    Args:
        chance: Chance level of the feature, below 1.
        num_sources: Number of sources.
        z: Normal quantile of the interval.
        width: Width of the window, OU time.

    Returns:
        The width.
    """
    p = 0.5 * (1.0 + chance)
    error = math.sqrt(p * (1.0 - p) / num_sources) / (1.0 - chance)
    return 2.0 * z * error * width / 0.8


def estimate_run(
    prepared: Prepared,
    *,
    done: Collection[str] = (),
    drawn: Collection[str] = (),
    threads: int | None = None,
) -> Estimate:
    """Estimate a run; a few batches are measured, and thrown away.

    Args:
        prepared: The loaded experiment file.
        done: Keys of units that are measured already.
        drawn: Names of sources that are drawn already.
        threads: Number of threads of torch.

    Returns:
        The estimate.
    """
    spec = spec_of(prepared)
    units = plan(spec)
    left = [unit for unit in units if unit.key not in done]
    groups = list(batches(left, spec.batch_size))
    cost: Costs = {}
    for unit in units:
        if _kind(unit) not in cost:
            cost[_kind(unit)] = unit_evaluations(prepared.model, unit, spec)
    num_source_batches = _source_batches(prepared, spec, groups, drawn)
    each_source = source_evaluations(prepared.model, spec.sources[0], spec) if spec.sources else 0
    evaluations = for_sources = None
    if each_source is not None and all(value is not None for value in cost.values()):
        for_sources = num_source_batches * each_source * spec.batch_size
        evaluations = for_sources + sum(
            (cost[_kind(group[0])] or 0) * spec.batch_size for group in groups
        )
    clock, text, num_pixels = (
        _measured(prepared, spec, cost, threads)
        if groups or num_source_batches
        else (None, "nothing is left", 0)
    )
    total = 0.0
    if clock is not None:
        total = sum(clock.seconds(cost[_kind(group[0])]) for group in groups)
        total += num_source_batches * clock.of_sources(each_source)
    times = ou_time([level.effective for level in spec.levels])
    width = min(ASSUMED_WIDTH, float(np.ptp(times))) if len(spec.levels) > 1 else None
    is_of_shares = spec.experiment in _OF_SHARES
    num_images = min(prepared.config.run.images, len(spec.sources)) * (len(spec.levels) + 1)
    per_row = _BYTES_PER_UNIT + 150 * sum(1 + len(f.labels) / 5 for f in prepared.features)
    clean = 4 * math.prod(prepared.model.sample_shape)
    return Estimate(
        num_sources=len(spec.sources),
        num_levels=len(spec.levels),
        num_merged=spec.num_merged,
        replicates=spec.replicates,
        num_units=len(units),
        num_units_left=len(left),
        num_batches=len(groups),
        batch_size=spec.batch_size,
        evaluations=evaluations,
        source_evaluations=for_sources,
        seconds=total,
        measured=text,
        disk_bytes=int(
            len(units) * per_row
            + len(spec.sources) * (clean + per_row)
            + num_images * num_pixels * _BYTES_PER_PIXEL
            + 100_000
        ),
        t_low=float(times.min()),
        t_high=float(times.max()),
        assumed_width=width,
        features=_features(prepared, spec, None if is_of_shares else width),
        share_half_width=1.959964 * 0.5 / math.sqrt(len(spec.sources)) if is_of_shares else None,
    )


Costs = dict[tuple[str, float], int | None]
"""Evaluations of one unit, by experiment and level."""


def _kind(unit: Unit) -> tuple[str, float]:
    return unit.experiment, unit.logsnr


def _source_batches(
    prepared: Prepared, spec: Spec, groups: Sequence[Sequence[Unit]], drawn: Collection[str]
) -> int:
    """Batches of sources that are left to draw, trajectories that are followed again included.

    The states of a trajectory live in memory alone: a run that goes on, or has more of them than
    fit, follows it again when they are needed.
    """
    size = spec.batch_size
    new = [source.name for source in spec.sources if source.name not in drawn]
    number, kept = 0, dict[str, None]()
    num_bytes = 4 * math.prod(prepared.model.sample_shape) * len(spec.stops)

    def follow(names: Sequence[str], needed: Sequence[str]) -> None:
        for name in needed:
            kept.pop(name, None)
        kept.update(dict.fromkeys([name for name in needed if name not in names]))
        kept.update(dict.fromkeys(names))
        for name in list(kept)[: -Waypoints().room(num_bytes, len(needed))]:
            del kept[name]

    for start in range(0, len(new), size):
        number += 1
        follow(new[start : start + size], new[start : start + size])
    if spec.experiment in BRANCHES:
        for group in groups:
            needed = list(dict.fromkeys(unit.source for unit in group))
            if missing := [name for name in needed if name not in kept]:
                number += 1
                follow(missing, needed)
    return number


@dataclass(frozen=True)
class _Clock:
    """Time of a batch: what it costs whatever the level, and what each evaluation adds."""

    fixed: float
    each: float
    source: float = 0.0

    def seconds(self, evaluations: int | None) -> float:
        return self.fixed + self.each * (evaluations or 0)

    def of_sources(self, evaluations: int | None) -> float:
        """Time to draw a batch of sources: as it was measured, unless evaluations tell."""
        if evaluations is None or (evaluations and not self.each):
            return self.source
        return min(self.seconds(evaluations), self.source)  # the first draw also starts up


def _measured(
    prepared: Prepared, spec: Spec, cost: Costs, threads: int | None
) -> tuple[_Clock, str, int]:
    """The time of a batch, from the cheapest level and one of middling cost; pixels an image."""
    known = all(value is not None for value in cost.values())
    kinds = sorted(cost, key=lambda kind: (cost[kind] or 0, -kind[1]))
    tried = [kinds[0]]
    if known and cost[kinds[len(kinds) // 2]] != cost[kinds[0]]:
        tried.append(kinds[len(kinds) // 2])
    with use_threads(threads):
        begun = time.perf_counter()
        states, samples = measure_sources(
            spec.sources[: spec.batch_size], prepared.model, prepared.features, spec
        )
        drawing = time.perf_counter() - begun
        context = Context(
            model=prepared.model,
            features=prepared.features,
            spec=spec,
            states={state.source.name: state for state in states},
            comparisons=prepared.comparisons,
        )
        times = []
        for kind in tried:
            batch = [
                unit
                for unit in plan(spec)
                if _kind(unit) == kind and unit.source in context.states
            ][: spec.batch_size]
            best = math.inf
            for _ in range(2):  # the first batch also pays for starting up
                begun = time.perf_counter()
                measure(batch, context)
                best = min(best, time.perf_counter() - begun)
            times.append(best)
    where = " and ".join(
        f"{x:.2g} s at t = {float(ou_time(y)):.3g}" for x, (_, y) in zip(times, tried, strict=True)
    )
    text = f"a batch of {spec.batch_size} rows took {where}"
    clock = _Clock(times[0], 0.0, drawing)
    if len(tried) == 2:
        near, far = (cost[kind] or 0 for kind in tried)
        each = max(0.0, times[1] - times[0]) / (far - near)
        clock = _Clock(max(0.0, times[0] - each * near), each, drawing)
        text += "; other levels are scaled by their model evaluations"
    elif not known:
        text += "; other levels are taken to last as long"
    is_image = samples.ndim == 4 and samples.shape[1] in (1, 3)
    return clock, text, int(math.prod(samples.shape[1:])) if is_image else 0


def _features(prepared: Prepared, spec: Spec, width: float | None) -> tuple[FeatureEstimate, ...]:
    conditions = {spec.condition_of(source) for source in spec.sources}
    known, _ = priors_of(
        prepared.model, prepared.features, [], spec.condition_of, conditions=conditions
    )
    unknown = _why_chance_is_unknown(spec, prepared.model)
    found = []
    for feature in prepared.features:
        prior = known.get(feature.name)
        weights = [1 / len(feature.labels)] * len(feature.labels)
        if prior is not None:
            weights = [w / sum(prior.values()) for w in prior.values()]
        chance = min(sum(w * w for w in weights), 0.99)
        reason = unknown if prior is None else None
        is_open = width is None or reason is not None
        found.append(
            FeatureEstimate(
                feature.name,
                chance,
                prior is not None,
                None if is_open else midpoint_width(chance, len(spec.sources), width=width or 0.0),
                reason,
            )
        )
    return tuple(found)


def _why_chance_is_unknown(spec: Spec, model: Model) -> str | None:
    """Why nothing would tell the chance level of a feature whose prior the model does not know."""
    if spec.experiment in _OF_SHARES:
        return None  # their answers need none
    if all(s.is_fresh and s.condition == spec.condition_of(s) for s in spec.sources):
        conditions = {source.condition for source in spec.sources}
        if len(conditions) <= MOST_CONDITIONS:
            return None  # shares of the sources tell it, condition by condition
        why = f"the sources have more than {MOST_CONDITIONS} conditions"
    elif all(source.is_fresh for source in spec.sources):
        why = "the sources are generated under another condition than the reversal's"
    else:
        why = "the sources are not generated by the model"
    if spec.experiment == "forward_reverse":
        if min(float(alpha_sigma(lv.effective)[0]) for lv in spec.levels) < NO_SIGNAL:
            return None
        t = -math.log(NO_SIGNAL)
        most = t + 0.1
        if model.levels is not None:
            most = float(ou_time(model.levels[np.isfinite(model.levels)]).max())
        if most > t:
            return f"{why}, and no level is as noisy as t = {t:.2f}: add one at t = {most:.3g}"
    return f"{why}, and their results remember them at every level"
