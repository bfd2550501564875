"""Adaptive search: levels and sources where they sharpen the edges of chosen windows.

Each round asks where the next batches tell most about the open targets for each evaluation of the
model, over all features at once (a result is read by all of them), and stops when every interval
is narrow enough, or the budget is spent. The rows are ordinary rows of the forward–reverse
experiment.

Source: docs/search.md; MacKay (1992), *Information-based objective functions for active data
selection*.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError, TooManyInvalidError
from critwin.experiments.forward_reverse import given_samples, plan_sources
from critwin.experiments.in_memory import loaded_parts
from critwin.experiments.measuring import Context, Progress, finish, iterate, measure_sources
from critwin.experiments.search_levels import candidate_levels
from critwin.experiments.search_results import TargetResult, results_of, windows_of
from critwin.experiments.search_session import SearchOptions, SearchSession
from critwin.experiments.sources import SourceState, dataset_of
from critwin.experiments.spec import Spec, check_condition, choose_reversal
from critwin.experiments.units import resolve_levels
from critwin.records import Records, concatenate
from critwin.windows import CriticalWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from critwin.experiments._posterior import Posterior
    from critwin.experiments.search_targets import Target
    from critwin.features.base import Comparison, Feature
    from critwin.models.base import Model

__all__ = ["SearchResult", "search"]

MOST_GENERATED = 4096
"""Sources that a search generates at most, unless told otherwise."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SearchResult:
    """What a search found.

    Attributes:
        records: Every row that was measured.
        targets: Every target with its interval, and whether it is as narrow as asked for.
        windows: Windows of the targets' features and label sets, from the posterior.
        reason: Why the search ended.
        evaluations: Evaluations of the model that were spent, generated sources included.
        trace: One entry a round: levels, results, sources, evaluations, half-widths.
        posterior: Posterior of the curves at the nodes.
    """

    records: Records
    targets: tuple[TargetResult, ...]
    windows: tuple[CriticalWindow, ...]
    reason: str
    evaluations: float
    trace: tuple[Mapping[str, Any], ...]
    posterior: Posterior

    @property
    def is_reached(self) -> bool:
        """Whether every target is as narrow as asked for."""
        return all(target.is_reached for target in self.targets)


def search(
    model: str | Model,
    features: str | Feature | Sequence[str | Feature],
    *,
    targets: Sequence[str | Target] | str | None = None,
    half_width: float = 0.05,
    confidence: float = 0.95,
    budget: float | None = None,
    t_range: tuple[float, float] = (0.05, 5.0),
    num_sources: int | None = None,
    sources: str | Any = "generated",
    conditions: Sequence[str | None] = (),
    condition: str | None = "same",
    reversal: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    batch_size: int = 16,
    seed: int = 0,
    comparisons: Sequence[Comparison] = (),
    max_invalid: float = 0.05,
    progress: Callable[[Progress], None] | None = None,
) -> SearchResult:
    """Find edges of windows with few evaluations of the model.

    Args:
        model: A model, or the name of one.
        features: Features to read, or names of them.
        targets: Edges to sharpen: ``"ground"`` or ``"ground.midpoint"``, ``"ground.start"``,
            ``"ground.end"``, ``"digit.t_after(3,8)"``, ``"digit.t_before(3|3,8)"``; the midpoint
            of every feature unless given.
        half_width: Half of the width of every target's interval to reach, OU time.
        confidence: Of the intervals.
        budget: Evaluations of the model to spend at most; no limit unless given.
        t_range: Least and largest OU time to look at.
        num_sources: Number of sources to draw at most; 4,096 generated ones, or all there are,
            unless given.
        sources: ``"generated"`` by the model, from its ``"dataset"``, or clean samples,
            shape ``(S, *sample_shape)``.
        conditions: Conditions of generated sources, dealt in turn.
        condition: Condition of the reversal: ``"same"`` as the source's, None or ``"none"`` for
            unconditional, or a condition.
        reversal: How to reverse; the model's first way unless given.
        steps: Number of steps of the whole schedule; the model's own unless given.
        guidance: Guidance scale; the model's own unless given.
        batch_size: Number of rows of every batch.
        seed: Seed of all random streams.
        comparisons: Comparisons of source and result; their numbers become ``values``.
        max_invalid: Largest share of invalid results (NaN, infinite, constant).
        progress: Called after each batch; the totals are those asked for so far.

    Returns:
        What was found. A target that is not reached says so, with the interval that it has.

    Raises:
        InputError: If an argument cannot be used, a prior is unknown, or a labeller's answer is
            not one.
        TooManyInvalidError: If the share of invalid results is above the limit.
    """
    engine, loaded = loaded_parts(model, features)
    given = None if isinstance(sources, str) else given_samples(sources, engine)
    if num_sources is None and given is None:
        num_sources = len(dataset_of(engine)) if sources == "dataset" else MOST_GENERATED
    chosen = plan_sources(engine, sources, given, num_sources, conditions, seed)
    requested = candidate_levels(*(float(t) for t in t_range))
    spec = Spec(
        sources=tuple(chosen),
        levels=resolve_levels(requested, engine.levels, unit="t"),
        reversal=choose_reversal(engine, reversal),
        condition="none" if condition is None else condition,
        steps=steps,
        guidance=guidance,
        batch_size=batch_size,
        seed=seed,
    )
    for name in {spec.condition_of(s) for s in chosen} | {s.condition for s in chosen}:
        check_condition(engine, name)
    options = SearchOptions(
        targets=(targets,) if isinstance(targets, str) else _tuple(targets),
        half_width=half_width,
        confidence=confidence,
        budget=budget,
    )
    session = SearchSession(engine, loaded, spec, options)
    states: dict[str, SourceState] = {}
    context = Context(
        model=engine, features=loaded, spec=spec, states=states, comparisons=tuple(comparisons)
    )
    parts: list[Records] = []
    num_done = num_invalid = 0
    while units := session.next_units():
        wanted = {unit.source for unit in units} - set(states)
        missing = [source for source in chosen if source.name in wanted]
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            new, _ = measure_sources(batch, engine, loaded, spec, given=given)
            states.update((state.source.name, state) for state in new)
        round_parts: list[Records] = []
        total = num_done + len(units)
        try:
            for measured in iterate(
                units,
                context,
                max_invalid=max_invalid,
                num_done=num_done,
                num_invalid=num_invalid,
                is_all=False,
            ):
                round_parts.append(measured.records)
                num_done += len(measured.units)
                num_invalid += int(np.sum(~np.asarray(measured.records.valid)))
                if progress is not None:
                    spent = session.decider.spent
                    progress(Progress("units", num_done, total, num_invalid, spent, spent))
        except TooManyInvalidError as error:
            error.records = finish(concatenate([*parts, *round_parts]), context)
            raise
        parts += round_parts
        session.tell(concatenate(round_parts))
    if not parts:
        raise InputError(
            "the budget does not pay for a single batch",
            got=budget,
            next_step="raise the budget or make batch_size smaller",
        )
    if num_invalid > max_invalid * num_done:
        raise TooManyInvalidError(num_invalid, num_done, limit=max_invalid)
    records = finish(concatenate(parts), context)
    records = replace(records, attrs={**records.attrs, "is_search": True})
    decider = session.decider
    assert decider.posterior is not None
    return SearchResult(
        records=records,
        targets=results_of(decider),
        windows=windows_of(session, records),
        reason=str(decider.reason),
        evaluations=decider.spent,
        trace=tuple(decider.trace),
        posterior=decider.posterior,
    )


def _tuple(targets: Sequence[str | Target] | None) -> tuple[str | Target, ...] | None:
    return None if targets is None else tuple(targets)
