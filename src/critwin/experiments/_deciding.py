"""The decisions of a search: a pure function of its settings and of what was read so far.

Nothing here runs a model, so that a resumed run decides as the one that was killed, and so that
the rule can be tested on simulated results by the thousand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from critwin.experiments._acquisition import Outlook, choose
from critwin.experiments._posterior import Posterior, crossing_times
from critwin.experiments._search_settings import Batch, Found, Settings, curve_of
from critwin.experiments._tallies import CurveOf, Rows, correlation, tally
from critwin.streams import numpy_stream

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from critwin.experiments._posterior import Tally
    from critwin.experiments.search_targets import Target

__all__ = ["Decider"]

_NUM_DRAWS = 240
_WIDTH_WEIGHT = 0.25  # of the local width beside the crossing
# Standard errors of the log width by which intervals are widened. Of 960 searches (120 seeds of
# eight cases, half-width .05, 95 %), intervals held the truth in .926 at 0, .929 at .5, .940 at 1
# and .951 at 1.5, which costs a tenth more than 1: benchmarks/results/search_coverage.json
_CAUTION = 1.5
_GROWTH = 5  # a round has one batch for each so many batches before it
_MOST_USES = 200  # a source used so often has told what it can
_CHANCE_LIMIT = 0.98


@dataclass(eq=False)
class Decider:
    """A search at work: :meth:`next_round`, measure, :meth:`tell`, and again.

    Attributes:
        settings: What it is told.
        spent: Evaluations so far, sources included.
        num_results: Results so far.
        reason: Why it ended; None as long as it goes on.
        found: What is known of every target.
        posterior: Posterior of the curves.
        trace: One entry a round.
    """

    settings: Settings
    spent: float = 0.0
    num_results: int = 0
    reason: str | None = None
    found: tuple[Found, ...] = ()
    posterior: Posterior | None = None
    trace: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with the prior."""
        s = self.settings
        self._uses = np.zeros(s.num_sources, dtype=np.int64)
        self._at: dict[int, NDArray[np.int64]] = {}
        self._drawn = 0
        self._num_batches = 0
        self._asked: list[Batch] = []
        empty = np.zeros(0, dtype=np.int64)
        self._rows = {name: Rows(empty, empty, empty, empty) for name in s.labels}
        self._rho: list[float] = []
        self.conclude(Posterior.of(s.chain, self.count()))

    def next_round(self) -> list[Batch]:
        """What to measure next; nothing if the search has ended."""
        if self.reason is not None or self._asked:
            return self._asked
        s = self.settings
        outlooks, shares = self._outlooks()
        rho = correlation([r for r, shown in zip(self._rho, shares, strict=True) if shown > 0])
        shown = [share for share in shares if share > 0]
        cost = self._batch_costs(rho)
        for _ in range(max(1, self._num_batches // _GROWTH)):
            left = np.inf if s.budget is None else s.budget - self.spent
            # charged for what it needs at worst: a batch of new sources
            worst = s.batch_size * s.source_cost
            picked = choose(
                outlooks, np.array(shown), s.candidates, s.batch_size, cost, left - worst
            )
            if picked is None:
                if not self._asked:
                    self.reason = "the budget is spent"
                break
            batch = self._fill(picked[0], rho)
            if batch is None:
                self.reason = None if self._asked else "the sources have told what they can"
                break
            self._asked.append(batch)
        return self._asked

    def least_budget(self) -> float:
        """Evaluations that the cheapest first batch is charged for."""
        s = self.settings
        costs = self._batch_costs(correlation(self._rho))
        return float(np.min(costs) + s.batch_size * s.source_cost)

    def _batch_costs(self, rho: float) -> NDArray[np.float64]:
        """Evaluations of a batch at every candidate, its share of making sources included."""
        s = self.settings
        return np.asarray(s.batch_size * (s.cost + s.source_cost / self._most_uses(s.cost, rho)))

    def tell(self, readings: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64]]]) -> None:
        """Take in the results of the round and conclude from them.

        Args:
            readings: As for :meth:`take`.
        """
        self.take(readings)
        self.conclude(Posterior.of(self.settings.chain, self.count()))

    def take(self, readings: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64]]]) -> None:
        """Take in the results of the round.

        Args:
            readings: Feature (or product) -> labels before and after, of all results of the round
                in order of its batches; -1 where there is none.
        """
        asked, self._asked = self._asked, []
        source = np.array([i for batch in asked for i in batch.sources], dtype=np.int64)
        node = np.array([batch.node for batch in asked for _ in batch.sources], dtype=np.int64)
        for name, (before, after) in readings.items():
            old = self._rows[name]
            self._rows[name] = Rows(
                np.concatenate([old.source, source]),
                np.concatenate([old.node, node]),
                np.concatenate([old.before, before]),
                np.concatenate([old.after, after]),
            )
        self._num_batches += len(asked)
        self.num_results += len(source)
        self._measured = [float(self.settings.chain.t[batch.node]) for batch in asked]

    def expected_results(self) -> int:
        """Results that it may take in all, the rest at the present rate."""
        open_ones = [found for found in self.found if not found.is_settled]
        factors = [
            4.0 if f.half_width is None else (f.half_width / self.settings.half_width) ** 2
            for f in open_ones
        ]
        now = max(self.num_results, self.settings.batch_size)
        return int(now * max([1.0, *(min(factor, 1e4) for factor in factors)]))

    @property
    def num_drawn(self) -> int:
        """Number of sources in use."""
        return self._drawn

    def index_of(self, target: Target) -> int:
        """Index of a target's curve in the posterior."""
        return self._place[self.settings.targets.index(target)]

    def count(self) -> list[Tally]:
        """Count every curve."""
        s = self.settings
        before = self.posterior.mean() if self.posterior is not None and self.num_results else None
        curves: list[CurveOf] = []
        place = []
        for target in s.targets:
            weights, error = self._prior(target.feature)
            curve = curve_of(target, s.labels[target.feature], weights, error, s.is_weighted)
            key = (curve.feature, curve.after, curve.before)
            known = [(c.feature, c.after, c.before) for c in curves]
            if key not in known:
                curves.append(curve)
                known.append(key)
            place.append(known.index(key))
        self._curves, self._place = curves, place
        counted = [
            tally(
                curve,
                self._rows[curve.feature],
                None if before is None else before[i],
                len(s.chain.t),
            )
            for i, curve in enumerate(curves)
        ]
        self._rho = [rho for _, rho in counted]
        return [one for one, _ in counted]

    def conclude(self, posterior: Posterior) -> None:
        """Conclude from the posterior of what :meth:`count` counted.

        Args:
            posterior: The posterior.
        """
        s = self.settings
        self.posterior = posterior
        generator = numpy_stream(s.seed, "search", self.num_results)
        self._draws = posterior.sample(_NUM_DRAWS, generator)
        self.found = tuple(
            self.locate(target.name, k, self._threshold(target, self._curves[k]))
            for target, k in zip(s.targets, self._place, strict=True)
        )
        if not self.num_results:
            return
        if all(found.is_settled for found in self.found):
            self.reason = "every target is settled"
        self.trace.append(
            {
                "round": len(self.trace),
                "t": self._measured,
                "num_results": self.num_results,
                "num_sources": self._drawn,
                "evaluations": self.spent,
                "half_widths": {f.name: f.half_width for f in self.found},
            }
        )

    def locate(self, name: str, index: int, value: float, *, caution: float = _CAUTION) -> Found:
        """Where a curve of the posterior falls through a value.

        Args:
            name: What to call it.
            index: Index of the curve.
            value: The value, in (0, 1).
            caution: Standard errors of the log local width by which the interval is widened.

        Returns:
            The time with its interval.
        """
        assert self.posterior is not None
        low, middle, high = self.posterior.crossing(index, value).interval(
            self.settings.confidence
        )
        if np.isfinite(low) and np.isfinite(high):
            # searches end sooner where the slope is thought steeper than it is
            error = float(np.std(self._log_widths(index, value)))
            wider = 1.0 + caution * min(error, 1.0)
            low, high = middle - wider * (middle - low), middle + wider * (high - middle)
        side = "inside"
        if high == -np.inf or low == np.inf:
            side = "below" if high == -np.inf else "above"
        elif not (np.isfinite(low) and np.isfinite(high)):
            side = "open"
        return Found(
            name=name,
            t=middle if np.isfinite(middle) else None,
            low=low if np.isfinite(low) else None,
            high=high if np.isfinite(high) else None,
            is_reached=side == "inside" and 0.5 * (high - low) <= self.settings.half_width,
            side=side,
        )

    def _log_widths(self, index: int, value: float) -> NDArray[np.float64]:
        """Log of the time that each draw takes to fall by two logits around the value."""
        logit = np.log(value / (1.0 - value))
        late, early = (
            crossing_times(self.settings.chain, self._draws[index], 1 / (1 + np.exp(-(logit + d))))
            for d in (-1.0, 1.0)
        )
        return np.asarray(np.log(np.maximum(late - early, 0.01)))

    def _threshold(self, target: Target, curve: CurveOf) -> float:
        if target.feature in self.settings.priors:
            return target.threshold(curve.chance)
        # an estimated prior may be far off at first: no reason to stop
        shift = {"t_after": 1.0 - target.epsilon - curve.chance, "t_before": target.epsilon}
        if target.quantity in shift:
            return float(np.clip(shift[target.quantity] / (1.0 - curve.chance), 0.02, 0.98))
        return target.threshold(curve.chance)

    def _prior(self, feature: str) -> tuple[NDArray[np.float64], float]:
        """Prior over the labels of a feature, and the standard error of its chance level."""
        s = self.settings
        num = len(s.labels[feature])
        if feature in s.priors:
            return s.priors[feature], 0.0
        rows = self._rows[feature]
        read = rows.before >= 0
        _, first = np.unique(rows.source[read], return_index=True)
        count = len(first)
        if count < 2:
            return np.full(num, 1.0 / num), 0.0
        share = np.bincount(rows.before[read][first], minlength=num) / count
        square = float(np.sum(share**2))
        chance = (count * square - 1.0) / (count - 1.0)  # two different sources agree
        error = 2.0 * np.sqrt(max(float(np.sum(share**3)) - square**2, 0.0) / count)
        chance = float(np.clip(chance, 1.0 / num, _CHANCE_LIMIT))
        # weights with this chance level: nearer to uniform than the shares
        pull = np.sqrt(max(chance - 1.0 / num, 0.0) / max(square - 1.0 / num, 1e-12))
        return 1.0 / num + min(float(pull), 1.0) * (share - 1.0 / num), float(error)

    def _outlooks(self) -> tuple[list[Outlook], list[float]]:
        """Moments of the curves that have open targets, and how many results count for each."""
        s = self.settings
        assert self.posterior is not None
        is_open = [not f.is_settled for f in self.found]
        wanted = sorted({k for k, still in zip(self._place, is_open, strict=True) if still})
        outlooks, shares = [], [0.0] * len(self._curves)
        for k in wanted:
            curve, own = self._curves[k], self.posterior.tallies[k]
            rows, weights = [], []
            for i, target in enumerate(s.targets):
                if self._place[i] == k and is_open[i]:
                    value = self._threshold(target, curve)
                    times = crossing_times(s.chain, self._draws[k], value)
                    rows += [times, self._log_widths(k, value)]
                    weights += [1.0, _WIDTH_WEIGHT]
            probs = own.chance + (1.0 - own.chance) * s.chain.value[self._draws[k]]
            outlooks.append(Outlook.of(probs, np.stack(rows), np.array(weights), own.design))
            shares[k] = (
                1.0 if curve.after is None else float(curve.weights[list(curve.after)].sum())
            )
        return outlooks, shares

    def _cost(self, node: int) -> float:
        return float(self.settings.cost[np.searchsorted(self.settings.candidates, node)])

    def _most_uses(self, cost: ArrayLike, rho: float) -> NDArray[np.float64]:
        """How often a source should be used: the least variance for each evaluation.

        With m uses the variance of a mean is ``(1 + (m - 1) rho) / m`` a source, which costs
        ``source_cost + m cost``.
        """
        best = np.sqrt(self.settings.source_cost / np.maximum(cost, 1e-9) * (1.0 - rho) / rho)
        return np.asarray(np.clip(np.round(best), 1, _MOST_USES))

    def _fill(self, node: int, rho: float) -> Batch | None:
        """A full batch of sources: those in use that may be used again, new ones, or any."""
        s = self.settings
        size, cost = s.batch_size, self._cost(node)
        at = self._at.setdefault(node, np.zeros(s.num_sources, dtype=np.int64))
        used = np.arange(self._drawn)
        again = used[self._uses[used] < self._most_uses(cost, rho)]
        order = np.lexsort((again, self._uses[again], at[again]))
        chosen = again[order][:size]
        if len(chosen) < size:
            fresh = min(size, s.num_sources - self._drawn)
            chosen = np.arange(self._drawn, self._drawn + fresh)
            self._drawn += fresh
            self.spent += s.batch_size * s.source_cost if fresh else 0.0
            if fresh < size:
                rest = np.setdiff1d(np.arange(self._drawn), chosen)
                rest = rest[self._uses[rest] < _MOST_USES]
                order = np.lexsort((rest, self._uses[rest], at[rest]))
                chosen = np.concatenate([chosen, rest[order][: size - fresh]])
        if len(chosen) == 0:
            return None
        batch = Batch(node, tuple(chosen.tolist()), tuple(at[chosen].tolist()))
        at[chosen] += 1
        self._uses[chosen] += 1
        self.spent += size * cost
        return batch
