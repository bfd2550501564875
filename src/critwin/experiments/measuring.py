"""Measuring: sources and units in batches of one fixed shape.

A batch of sources is drawn and read once; a batch of units of one level is noised, denoised,
checked, decoded and read. Nothing here knows of files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import BatchMemoryError, TooManyInvalidError
from critwin.experiments.drawing import measure_sources, planted_columns, within_memory
from critwin.experiments.kinds import Work, arm_evaluations, kind_of
from critwin.experiments.padding import padded_rows
from critwin.experiments.priors import priors_by_condition, priors_of
from critwin.experiments.reading import compare_batch, decode_checked, read_batch
from critwin.experiments.sources import SourceState
from critwin.experiments.spec import Spec
from critwin.experiments.trajectories import Waypoints
from critwin.experiments.units import Unit, batches
from critwin.records import FeatureColumns, Records, concatenate, sort

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from critwin.features.base import Comparison, Feature
    from critwin.models.base import Model

__all__ = [
    "MIN_RESULTS",
    "Context",
    "Ladder",
    "Measured",
    "Progress",
    "execute",
    "finish",
    "iterate",
    "measure",
    "measure_fitting",
    "measure_sources",
    "planted_columns",
    "provenance",
]

MIN_RESULTS = 50
"""Number of results from which the share of invalid ones is held against the limit."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Context:
    """What a batch of units needs beside the units.

    Attributes:
        model: The model.
        features: The features.
        spec: The plan's choices.
        states: The sources, drawn and read, by name.
        comparisons: Comparisons of source and result.
        waypoints: States of trajectories that are at hand.
        ladder: Batch size in use.
    """

    model: Model
    features: tuple[Feature, ...]
    spec: Spec
    states: Mapping[str, SourceState]
    comparisons: tuple[Comparison, ...] = ()
    waypoints: Waypoints = field(default_factory=Waypoints)
    ladder: Ladder = field(default_factory=lambda: Ladder())


@dataclass
class Ladder:
    """How far down a ladder of batch sizes a process has gone.

    Attributes:
        rung: Position of the size in use; 0: the whole batch.
    """

    rung: int = 0


@dataclass(frozen=True, eq=False)
class Measured:
    """Results of one batch.

    Attributes:
        units: The units, in the order of the rows.
        records: One row a unit.
        samples: Decoded results, one a unit, NaN where invalid.
    """

    units: tuple[Unit, ...]
    records: Records
    samples: torch.Tensor


@dataclass(frozen=True)
class Progress:
    """How far an experiment is.

    Attributes:
        phase: ``"sources"`` or ``"units"``.
        num_done: Number of sources or units done.
        num_total: Number of sources or units in all.
        num_invalid: Number of invalid results.
        cost_done: Cost of what is done: model evaluations if the model tells, else units.
        cost_total: Cost of everything.
    """

    phase: str
    num_done: int
    num_total: int
    num_invalid: int
    cost_done: float
    cost_total: float


def execute(batch: Sequence[Unit], context: Context) -> Records:
    """Measure a batch of units of one level; see :func:`measure`.

    Args:
        batch: Units of one effective level, at most ``batch_size`` of them.
        context: Model, features, choices and sources.

    Returns:
        Records, one row a unit, in the order of the batch.
    """
    return measure(batch, context).records


def measure(batch: Sequence[Unit], context: Context) -> Measured:
    """Noise, denoise, decode and read a batch of units of one level.

    The model always sees ``batch_size`` rows, so a unit's result has the same bits whichever
    units share its batch.

    Args:
        batch: Units of one effective level, at most ``batch_size`` of them.
        context: Model, features, choices and sources.

    Returns:
        Records, one row a unit, in the order of the batch, and the decoded results.

    Raises:
        InputError: If a labeller's answer is not one.
    """
    import torch

    spec, model, num = context.spec, context.model, len(batch)
    rows = padded_rows(num, spec.batch_size)
    states = [context.states[unit.source] for unit in batch]
    with torch.no_grad(), within_memory(spec):
        clean = torch.stack(
            [s.clean if s.is_valid else torch.zeros_like(s.clean) for s in states]
        )[rows]
        sources = [state.source for state in states]
        work = Work(model, spec, batch, sources, clean, rows, context.waypoints)
        result = kind_of(spec.experiment).result(work)
        bad = torch.tensor([not states[i].is_valid for i in rows])
        if bool(bad.any()):  # an invalid source has no results
            result = result.clone()
            result[bad.to(result.device)] = float("nan")
        samples, is_valid = decode_checked(model, result)
        readings = read_batch(context.features, samples, num)
        values: Mapping[str, NDArray[np.float64]] = {}
        if context.comparisons:
            source_samples, _ = decode_checked(model, clean)
            values = compare_batch(context.comparisons, source_samples, samples, num)
    records = Records(
        source=np.array([u.source for u in batch], dtype=np.str_),
        logsnr=np.array([u.logsnr for u in batch]),
        requested_logsnr=np.array([u.requested_logsnr for u in batch]),
        replicate=np.array([u.replicate for u in batch], dtype=np.int64),
        experiment=np.array([u.experiment for u in batch], dtype=np.str_),
        condition=np.array([u.condition or "" for u in batch], dtype=np.str_),
        reversal=np.full(num, spec.reversal),
        valid=is_valid[:num],
        features={
            feature.name: _columns(feature, states, readings[feature.name])
            for feature in context.features
        },
        planted=planted_columns(states),
        values=values,
    )
    return Measured(tuple(batch), records, samples[:num])


def measure_fitting(batch: Sequence[Unit], context: Context) -> Measured:
    """Measure a batch, in smaller ones where it does not fit into memory.

    The sizes are those of the declared ladder, each tried once; a size that has failed is not
    tried again. Since the bits of a result depend on the shape of its batch, the size is recorded
    with each row (``values["batch_size"]``) wherever a ladder is declared.

    Args:
        batch: Units of one effective level, at most ``batch_size`` of them.
        context: Model, features, choices and sources.

    Returns:
        Records, one row a unit, in the order of the batch, and the decoded results.

    Raises:
        BatchMemoryError: If not even the smallest size fits.
        InputError: If a labeller's answer is not one.
    """
    import torch

    spec = context.spec
    if not spec.batch_ladder:
        return measure(batch, context)
    rungs = (spec.batch_size, *spec.batch_ladder)
    while True:
        size = rungs[context.ladder.rung]
        smaller = replace(context, spec=replace(spec, batch_size=size, batch_ladder=()))
        try:
            parts = [
                measure(batch[start : start + size], smaller)
                for start in range(0, len(batch), size)
            ]
            break
        except BatchMemoryError:
            if context.ladder.rung + 1 == len(rungs):
                raise
            context.ladder.rung += 1
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    records = concatenate([part.records for part in parts])
    values = {**records.values, "batch_size": np.full(len(records), float(size))}
    return Measured(
        tuple(batch),
        replace(records, values=values),
        torch.cat([part.samples for part in parts]),
    )


def iterate(
    units: Iterable[Unit],
    context: Context,
    *,
    max_invalid: float,
    num_done: int = 0,
    num_invalid: int = 0,
    is_all: bool = True,
) -> Iterator[Measured]:
    """Measure units batch by batch; stop when too many results are invalid.

    Args:
        units: Units to measure.
        context: Model, features, choices and sources.
        max_invalid: Largest share of invalid results.
        num_done: Number of results that exist already.
        num_invalid: Number of invalid ones among them.
        is_all: Whether these units are all that are left.

    Yields:
        Results of each batch. What was yielded is the caller's before anything is raised.

    Raises:
        TooManyInvalidError: From 50 results on, or at the end, if the share is above the limit.
    """

    def check(least: int) -> None:
        if num_done >= least and num_invalid > max_invalid * num_done:
            raise TooManyInvalidError(num_invalid, num_done, limit=max_invalid)

    check(MIN_RESULTS)
    for batch in batches(units, context.spec.batch_size):
        measured = measure_fitting(batch, context)
        num_done += len(batch)
        num_invalid += int(np.sum(~measured.records.column("valid")))
        yield measured
        check(MIN_RESULTS)
    if is_all:
        check(1)


def provenance(context: Context) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """What is known of a whole experiment: priors, and where the rows come from.

    Args:
        context: Model, features, choices and sources.

    Returns:
        Priors and attributes of its Records.
    """
    spec, model = context.spec, context.model
    states = [context.states[s.name] for s in spec.sources if s.name in context.states]
    priors, estimated = priors_of(model, context.features, states, spec.condition_of)
    attrs: dict[str, Any] = {
        "model": str(model.name),
        "model_fingerprint": str(model.fingerprint),
        "experiment": spec.experiment,
        "sources": spec.sources[0].kind,
        "seed": spec.seed,
        "batch_size": spec.batch_size,
        "steps": spec.steps,
        "guidance": spec.guidance,
        "is_prior_estimated": bool(estimated),
        "estimated_priors": json.dumps(estimated),
        "num_levels_merged": spec.num_merged,
        "num_sources_invalid": sum(not state.is_valid for state in states),
    }
    if apart := priors_by_condition(model, context.features, states, spec.condition_of):
        attrs["condition_priors"] = json.dumps(apart, allow_nan=False)
    if spent := arm_evaluations(model, spec):
        attrs["arm_evaluations"] = json.dumps(spent)
    errors = {f.name: getattr(f, "errors", None) for f in context.features}
    if known := {name: matrix.as_dict() for name, matrix in errors.items() if matrix is not None}:
        attrs["labeller_errors"] = json.dumps(known, allow_nan=False)
    return priors, attrs


def finish(records: Records, context: Context) -> Records:
    """Sort records and add their provenance.

    Args:
        records: Rows of an experiment.
        context: Model, features, choices and sources.

    Returns:
        The records of a finished (or interrupted) experiment.
    """
    priors, attrs = provenance(context)
    return replace(sort(records), priors=priors, attrs=attrs)


def _columns(feature: Feature, states: Sequence[SourceState], after: Any) -> FeatureColumns:
    before = [state.before[feature.name] for state in states]
    has_probs = after.probs is not None
    return FeatureColumns(
        labels=feature.labels,
        before=np.array([index for index, _, _ in before], dtype=np.int64),
        after=after.indices,
        before_probs=np.array([probs for _, probs, _ in before]) if has_probs else None,
        after_probs=after.probs,
        before_values={k: np.array([values[k] for _, _, values in before]) for k in after.values},
        after_values=after.values,
    )
