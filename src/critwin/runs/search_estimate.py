"""What a search will cost, before it is started: the same decisions on made-up results.

The results are those of a feature whose window has an assumed width in the middle of the range:
with ``f`` a logistic curve, a label i becomes j with probability ``f [i = j] + (1 - f) w_j``.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.experiments._deciding import Decider
from critwin.experiments._search_settings import Settings
from critwin.experiments.measuring import Context, measure, measure_sources
from critwin.experiments.spec import plan
from critwin.runs.prepare import Prepared, spec_of, use_threads
from critwin.runs.searching import search_of
from critwin.streams import numpy_stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SearchEstimate", "estimate_search", "imagined"]

ASSUMED_WIDTH = 1.0
"""Width of every window that is assumed, from .9 to .1 kept, OU time."""

_MOST_BATCHES = 2000
_SPAN = 2.0 * np.log(9.0)  # of the logit, from .9 to .1


@dataclass(frozen=True)
class SearchEstimate:
    """What a search may cost.

    Attributes:
        evaluations: Expected evaluations of the model, generated sources included; None if the
            model does not tell.
        num_results: Expected results.
        num_sources: Expected sources.
        rounds: Expected rounds.
        seconds: Expected time, from one measured batch; decisions included.
        is_enough: Whether every target would be reached within the budget and the sources.
        assumed_width: Width of every window that is assumed, OU time.
        t_low: Smallest OU time.
        t_high: Largest OU time.
        num_levels: Levels to choose from.
        targets: What is sharpened.
        half_width: Half-width to reach, OU time.
        budget: Evaluations at most; None: no limit.
    """

    evaluations: int | None
    num_results: int
    num_sources: int
    rounds: int
    seconds: float
    is_enough: bool
    assumed_width: float
    t_low: float
    t_high: float
    num_levels: int
    targets: tuple[str, ...]
    half_width: float
    budget: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def estimate_search(prepared: Prepared, *, threads: int | None = None) -> SearchEstimate:
    """Estimate a search; one batch is measured, and thrown away.

    Args:
        prepared: An experiment file with a section ``[search]``.
        threads: Number of threads of torch.

    Returns:
        The estimate, whatever has been measured already.
    """
    spec = spec_of(prepared)
    session = search_of(prepared, spec)
    assert session is not None  # the caller asked
    settings = session.decider.settings
    begun = time.perf_counter()
    decider = imagined(settings, seed=spec.seed)
    thinking = time.perf_counter() - begun
    small = replace(
        spec,
        sources=spec.sources[: spec.batch_size],
        levels=spec.levels[len(spec.levels) // 2 : len(spec.levels) // 2 + 1],
    )
    with use_threads(threads):
        states, _ = measure_sources(small.sources, prepared.model, prepared.features, small)
        context = Context(
            model=prepared.model,
            features=prepared.features,
            spec=small,
            states={state.source.name: state for state in states},
            comparisons=prepared.comparisons,
        )
        taken = []
        for _ in range(2):  # the first batch also pays for starting up
            begun = time.perf_counter()
            measure(plan(small), context)
            taken.append(time.perf_counter() - begun)
    each = min(taken) / (spec.batch_size * settings.cost[len(spec.levels) // 2])
    told = getattr(prepared.model, "num_evaluations", None) is not None
    t = settings.chain.t
    return SearchEstimate(
        evaluations=int(decider.spent) if told else None,
        num_results=decider.num_results,
        num_sources=decider.num_drawn,
        rounds=len(decider.trace),
        seconds=float(decider.spent * each + thinking),
        is_enough=all(found.is_settled for found in decider.found),
        assumed_width=ASSUMED_WIDTH,
        t_low=float(t[0]),
        t_high=float(t[-1]),
        num_levels=len(settings.candidates),
        targets=tuple(target.name for target in session.targets),
        half_width=settings.half_width,
        budget=settings.budget,
    )


def imagined(settings: Settings, *, seed: int, width: float = ASSUMED_WIDTH) -> Decider:
    """Play a search through on made-up results.

    Args:
        settings: What it is told.
        seed: Seed of the results.
        width: Width of every window.

    Returns:
        The search at its end, or after 2,000 batches.
    """
    decider = Decider(settings)
    generator = numpy_stream(seed, "search", "imagined")
    t = settings.chain.t
    kept = 1.0 / (1.0 + np.exp((t - 0.5 * (t[0] + t[-1])) * _SPAN / width))
    laws = {
        name: settings.priors.get(name, np.full(len(labels), 1.0 / len(labels)))
        for name, labels in settings.labels.items()
    }
    own = {
        name: generator.choice(len(law), size=settings.num_sources, p=law)
        for name, law in laws.items()
    }
    while decider.num_results < _MOST_BATCHES * settings.batch_size:
        asked = decider.next_round()
        if not asked:
            break
        source = np.concatenate([batch.sources for batch in asked])
        node = np.concatenate([np.full(len(batch.sources), batch.node) for batch in asked])
        readings: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        for name, law in laws.items():
            before = own[name][source]
            fresh = generator.choice(len(law), size=len(source), p=law)
            stays = generator.random(len(source)) < kept[node]
            readings[name] = (before, np.where(stays, before, fresh))
        decider.tell(readings)
    return decider
