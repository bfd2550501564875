"""A search on a model: its decisions as units of the forward–reverse experiment."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from itertools import product as products
from typing import TYPE_CHECKING

import numpy as np

from critwin.errors import InputError
from critwin.experiments._curve_chain import chain_on
from critwin.experiments._deciding import Decider
from critwin.experiments._search_settings import Batch, Settings, curve_of
from critwin.experiments.priors import priors_of
from critwin.experiments.search_targets import Target, parse_targets
from critwin.experiments.spec import EXPERIMENT, Spec, num_evaluations
from critwin.experiments.units import Unit
from critwin.levels import ou_time
from critwin.views import product

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from critwin.features.base import Feature
    from critwin.models.base import Model
    from critwin.records import Records

__all__ = ["SearchOptions", "SearchSession", "keys_of"]

_NODES_APART = 0.1


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What a search is asked for.

    Attributes:
        targets: Edges to sharpen, as :func:`parse_targets` reads them; None: all midpoints.
        half_width: Half of the width of every target's interval, OU time.
        confidence: Of the intervals.
        budget: Evaluations of the model to spend at most; None: no limit.

    Raises:
        InputError: If a number is out of range.
    """

    targets: tuple[str | Target, ...] | None = None
    half_width: float = 0.05
    confidence: float = 0.95
    budget: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0.005 <= self.half_width <= 2.0:
            raise InputError(
                "half_width is out of range", got=self.half_width, wanted="OU time, .005 to 2"
            )
        if not 0.5 <= self.confidence < 1.0:
            raise InputError(
                "confidence is out of range", got=self.confidence, wanted="a number in [.5, 1)"
            )
        if self.budget is not None and not self.budget > 0:
            raise InputError("the budget must be positive", got=self.budget)


def keys_of(records: Records) -> list[str]:
    """Keys of the units whose results are the rows of some records."""
    return [
        Unit(
            source=str(source),
            source_index=-1,
            logsnr=float(level),
            requested_logsnr=float(requested),
            replicate=int(replicate),
            condition=str(condition) or None,
            experiment=str(experiment),
        ).key
        for source, level, requested, replicate, condition, experiment in zip(
            records.source,
            records.logsnr,
            records.requested_logsnr,
            records.replicate,
            records.condition,
            records.experiment,
            strict=True,
        )
    ]


class SearchSession:
    """A search at work: :meth:`next_units`, measure them, :meth:`tell`, and again.

    What it asks for depends on the settings and on what it was told, on nothing else: a run that
    was killed, told the rows that it has, asks for the same units again.

    Attributes:
        spec: The choices of the experiment; its levels are those that may be measured.
        decider: The decisions.
        targets: What is sharpened.
    """

    def __init__(
        self, model: Model, features: Sequence[Feature], spec: Spec, options: SearchOptions
    ) -> None:
        if len(spec.levels) < 3:
            raise InputError(
                "a search needs at least three levels to choose from",
                got=f"{len(spec.levels)} after snapping to those of model {model.name!r}",
                next_step="widen the range",
            )
        self.spec = spec
        names = [feature.name for feature in features]
        self.targets = parse_targets(options.targets, names)
        labels = _labels(features, self.targets)
        priors, is_iid = _priors(model, features, spec, labels)
        t = np.array([float(ou_time(level.effective)) for level in spec.levels])
        chain_t = _nodes(t, min(_NODES_APART, options.half_width))
        self._level_of = {
            int(i): lv for i, lv in zip(np.searchsorted(chain_t, t), spec.levels, strict=True)
        }
        costs = [num_evaluations(model, level.effective, spec) for level in spec.levels]
        is_known = all(cost is not None for cost in costs)
        is_made = is_known and spec.sources[0].kind == "generated"
        self.decider = Decider(
            Settings(
                chain=chain_on(chain_t),
                candidates=np.array(sorted(self._level_of), dtype=np.int64),
                cost=np.array([float(cost or 1) for cost in costs])
                if is_known
                else np.ones(len(costs)),
                source_cost=_cost_of_source(model, spec) if is_made else 0.0,
                num_sources=len(spec.sources),
                labels=labels,
                priors=priors,
                is_weighted=not is_iid,
                targets=self.targets,
                half_width=options.half_width,
                confidence=options.confidence,
                budget=options.budget,
                batch_size=spec.batch_size,
                seed=spec.seed,
            )
        )
        for target in self.targets:
            if target.feature in priors:
                weights = priors[target.feature]
                curve = curve_of(target, labels[target.feature], weights, 0.0, False)
                target.threshold(curve.chance)
            else:
                target.sets(labels[target.feature], np.ones(len(labels[target.feature])))

    def next_units(self) -> list[Unit]:
        """What to measure next; nothing if the search has ended."""
        return [unit for batch in self.decider.next_round() for unit in self._units(batch)]

    def tell(self, records: Records) -> None:
        """Take in the results of the round.

        Args:
            records: The rows of the units that were asked for, in any order; others are ignored.
        """
        place = {key: row for row, key in enumerate(keys_of(records))}
        rows = np.array([place[unit.key] for unit in self.next_units()], dtype=np.int64)
        valid = np.asarray(records.valid)[rows]
        readings = {}
        for name in self.decider.settings.labels:
            own = (
                records.features[name]
                if name in records.features
                else product(records, name.split("*"))
            )
            readings[name] = (own.before[rows], np.where(valid, own.after[rows], -1))
        self.decider.tell(readings)

    def _units(self, batch: Batch) -> list[Unit]:
        level = self._level_of[batch.node]
        return [
            Unit(
                source=source.name,
                source_index=source.index,
                logsnr=level.effective,
                requested_logsnr=level.requested,
                replicate=replicate,
                condition=self.spec.condition_of(source),
                experiment=EXPERIMENT,
            )
            for source, replicate in zip(
                [self.spec.sources[i] for i in batch.sources], batch.replicates, strict=True
            )
        ]


def _nodes(t: NDArray[np.float64], apart: float) -> NDArray[np.float64]:
    """The levels' times, and more between them so that none are further apart than ``apart``."""
    parts = [
        np.linspace(a, b, int(np.ceil((b - a) / apart - 1e-9)) + 1)[:-1] for a, b in pairwise(t)
    ]
    return np.concatenate([*parts, t[-1:]])


def _labels(features: Sequence[Feature], targets: Sequence[Target]) -> dict[str, tuple[str, ...]]:
    own = {feature.name: tuple(feature.labels) for feature in features}
    found = {}
    for name in dict.fromkeys(target.feature for target in targets):
        parts = [name] if name in own else name.split("*")
        found[name] = tuple("*".join(p) for p in products(*(own[part] for part in parts)))
    return found


def _priors(
    model: Model,
    features: Sequence[Feature],
    spec: Spec,
    labels: Mapping[str, Sequence[str]],
) -> tuple[dict[str, NDArray[np.float64]], bool]:
    """Known priors of the targets' features, and whether sources are draws of the prior."""
    conditions = {spec.condition_of(source) for source in spec.sources}
    known, _ = priors_of(model, features, [], spec.condition_of, conditions=conditions)
    is_iid = len(conditions) == 1 and all(
        source.kind == "generated" and {source.condition} == conditions for source in spec.sources
    )
    found = {}
    for name, own in labels.items():
        if name in known:
            weights = np.array([known[name].get(label, 0.0) for label in own])
            found[name] = weights / weights.sum()
        elif not is_iid:
            raise InputError(
                f"a search needs the model's prior over the labels of {name!r}: the level to "
                "which the curve falls",
                got="a model that does not know it, and sources that are no fresh draws of it",
                next_step="generate the sources under the condition of the reversal, or measure "
                "fixed levels and give the chance level to critwin windows",
            )
    return found, is_iid


def _cost_of_source(model: Model, spec: Spec) -> float:
    """Evaluations that make a source: those from the noisiest level there is."""
    levels = model.levels
    noisiest = (
        min(level.effective for level in spec.levels)
        if levels is None
        else float(np.min(np.asarray(levels)[np.isfinite(levels)]))
    )
    if spec.reversal == "posterior":
        return 0.0  # an exact law is drawn from without a network
    return float(num_evaluations(model, noisiest, spec) or 0)
