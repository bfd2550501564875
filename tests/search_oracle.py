"""Searches on laws whose windows are known, many at once.

Results are simulated in bulk with NumPy: sources keep their identity, so that those of one source
resemble each other as they really do. The posteriors of many searches are computed together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from critwin.exact_windows import exact_window
from critwin.experiments._curve_chain import chain_on
from critwin.experiments._deciding import Decider
from critwin.experiments._posterior import Posterior, crossing_times
from critwin.experiments._search_settings import Batch, Found, Settings
from critwin.experiments.search_targets import parse_targets
from critwin.streams import numpy_stream
from critwin.theory.exact import exact_transitions
from critwin.theory.mixtures import GaussianMixture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Readings = dict[str, tuple["NDArray[np.int64]", "NDArray[np.int64]"]]
NUM_STEPS, T_LAST = 50, 5.0
TOGETHER = 40
LESS_CAUTION = (0.0, 0.5, 1.0)


class Experiment(Protocol):
    """What results come from."""

    def read(self, t: float, sources: NDArray[np.int64]) -> Readings: ...


@dataclass(frozen=True)
class Line:
    """A mixture of Gaussians on a line, one feature: the component."""

    means: tuple[float, ...]
    sds: tuple[float, ...]
    weights: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"c{i}" for i in range(len(self.means)))

    def mixture(self) -> GaussianMixture:
        return GaussianMixture(
            weights=list(self.weights),
            means=[[m] for m in self.means],
            covariances=[[s * s] for s in self.sds],
            names=list(self.names),
        )


LINES = {
    "two": Line((-5, 5), (1, 1), (0.5, 0.5)),
    "three": Line((-8, 0, 5), (1, 1, 1), (0.3, 0.4, 0.3)),
    "tree": Line((-15, -11, 11, 15), (0.5,) * 4, (0.25,) * 4),
    "unequal": Line((-4, 4), (1, 1.5), (0.7, 0.3)),
}


@cache
def midpoint_of(name: str) -> float:
    """Exact midpoint of what is kept."""
    window = exact_window(partial(exact_transitions, LINES[name].mixture()))
    assert window.midpoint is not None
    assert window.midpoint.t.value is not None
    return window.midpoint.t.value


class LineExperiment:
    """Forward–reverse with the exact posterior on a line."""

    def __init__(self, line: Line, *, seed: int, num_sources: int) -> None:
        self._means, self._sds = np.array(line.means), np.array(line.sds)
        self._weights = np.array(line.weights)
        self._random = numpy_stream(seed, "line experiment")
        num = len(self._weights)
        self._before = self._random.choice(num, size=num_sources, p=self._weights)
        noise = self._random.standard_normal(num_sources)
        self._x = self._means[self._before] + self._sds[self._before] * noise

    def read(self, t: float, sources: NDArray[np.int64]) -> Readings:
        alpha = np.exp(-t)
        noise_var = 1.0 - alpha**2
        noise = self._random.standard_normal(len(sources))
        noisy = alpha * self._x[sources] + np.sqrt(noise_var) * noise
        var = alpha**2 * self._sds**2 + noise_var
        log = np.log(self._weights / np.sqrt(var))
        log = log - 0.5 * (noisy[:, None] - alpha * self._means) ** 2 / var
        law = np.cumsum(np.exp(log - log.max(axis=1, keepdims=True)), axis=1)
        uniform = self._random.random(len(sources)) * law[:, -1]
        after = (uniform[:, None] >= law).sum(axis=1)
        return {"component": (self._before[sources], after)}


class CurveExperiment:
    """Two equal labels, kept with probability ``(1 + f(t)) / 2``, results independent."""

    def __init__(
        self,
        t: NDArray[np.float64],
        value: NDArray[np.float64],
        *,
        seed: int,
        num_sources: int,
        shift: int = 0,
    ) -> None:
        self._t, self._value, self._shift = t, value, shift
        self._random = numpy_stream(seed, "curve experiment")
        self._before = self._random.integers(0, 2, size=num_sources)

    def read(self, t: float, sources: NDArray[np.int64]) -> Readings:
        node = int(np.argmin(np.abs(self._t - t)))
        value = self._value[min(node + self._shift, len(self._t) - 1)]
        before = self._before[sources]
        is_kept = self._random.random(len(sources)) < 0.5 + 0.5 * value
        return {"component": (before, np.where(is_kept, before, 1 - before))}


def evaluations(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Network evaluations from each time, of 50 steps of a linear schedule that ends at t = 5."""
    return np.ceil(NUM_STEPS * np.sqrt(np.minimum(t / T_LAST, 1.0)))


def settings(
    labels: Sequence[str],
    weights: Sequence[float],
    *,
    seed: int,
    targets: Sequence[str] | None = None,
    half_width: float = 0.05,
    source_cost: float = NUM_STEPS,
    num_sources: int = 20_000,
    batch_size: int = 32,
    t_range: tuple[float, float] = (0.05, 5.0),
    spacing: float = 0.1,
    budget: float | None = None,
) -> Settings:
    """Settings of a search on one feature, ``component``."""
    count = round((t_range[1] - t_range[0]) / spacing) + 1
    t = np.linspace(*t_range, count)
    return Settings(
        chain=chain_on(t),
        candidates=np.arange(count),
        cost=evaluations(t),
        source_cost=source_cost,
        num_sources=num_sources,
        labels={"component": tuple(labels)},
        priors={"component": np.array(weights)},
        targets=parse_targets(targets, ["component"]),
        half_width=half_width,
        budget=budget,
        batch_size=batch_size,
        seed=seed,
    )


class Watched(Decider):
    """A search that notes when it would have ended at less caution, and with which interval.

    Only for one target: until then a more cautious search takes the same decisions.
    """

    def conclude(self, posterior: Posterior) -> None:
        super().conclude(posterior)
        self.earlier: dict[float, tuple[Found, float]] = getattr(self, "earlier", {})
        for caution in LESS_CAUTION:
            if caution not in self.earlier:
                found = self.locate("", 0, 0.5, caution=caution)
                if not found.is_reached:
                    break  # more caution is wider
                self.earlier[caution] = (found, self.spent)


def run_together(deciders: Sequence[Decider], experiments: Sequence[Experiment]) -> None:
    """Play searches of the same chain to their ends, one posterior for all of them a round."""
    chain = deciders[0].settings.chain
    active = list(zip(deciders, experiments, strict=True))
    while True:
        going = []
        for decider, experiment in active:
            if asked := decider.next_round():
                decider.take(results_of_round(asked, experiment, chain.t))
                going.append((decider, experiment))
        if not going:
            return
        active = going
        tallies = [decider.count() for decider, _ in active]
        joint = Posterior.of(chain, [one for own in tallies for one in own])
        start = 0
        for (decider, _), own in zip(active, tallies, strict=True):
            part = slice(start, start + len(own))
            decider.conclude(
                Posterior(chain, tuple(own), joint.smoothed[:, part], joint.messages[:, part])
            )
            start += len(own)


def results_of_round(
    asked: Sequence[Batch], experiment: Experiment, t: NDArray[np.float64]
) -> Readings:
    """Results of the batches of a round, in their order."""
    parts = [experiment.read(float(t[batch.node]), np.array(batch.sources)) for batch in asked]
    return {
        name: (
            np.concatenate([part[name][0] for part in parts]),
            np.concatenate([part[name][1] for part in parts]),
        )
        for name in parts[0]
    }


def searches(name: str, seeds: Sequence[int], **options: object) -> list[Watched]:
    """Searches on a mixture, one a seed."""
    line = LINES[name]
    out: list[Watched] = []
    for start in range(0, len(seeds), TOGETHER):
        some = seeds[start : start + TOGETHER]
        deciders = [
            Watched(settings(line.names, line.weights, seed=seed, **options))  # type: ignore[arg-type]
            for seed in some
        ]
        run_together(
            deciders,
            [
                LineExperiment(line, seed=d.settings.seed, num_sources=d.settings.num_sources)
                for d in deciders
            ],
        )
        out += deciders
    return out


def ranks(count: int, *, seed: int = 0, shift: int = 0) -> NDArray[np.float64]:
    """Posterior probability below the true midpoint, for curves drawn from the prior.

    Uniform if and only if prior, likelihood and posterior fit together (Talts et al. 2018).
    ``shift`` plants a bug: results come from the curve so many nodes further on.
    """
    random = numpy_stream(seed, "calibration")
    options: dict[str, object] = {
        "half_width": 0.15,
        "source_cost": 0.0,
        "batch_size": 16,
        "t_range": (0.05, 2.55),
        "budget": 16 * 40.0 * NUM_STEPS,
        "num_sources": 4000,
    }
    out = []
    for start in range(0, count, TOGETHER):
        deciders = [
            Decider(settings(("c0", "c1"), (0.5, 0.5), seed=seed, **options))  # type: ignore[arg-type]
            for seed in range(start, min(start + TOGETHER, count))
        ]
        chain = deciders[0].settings.chain
        index = chain.draw(len(deciders), random)
        times = crossing_times(chain, index, 0.5)
        run_together(
            deciders,
            [
                CurveExperiment(
                    chain.t, chain.value[own], seed=start + k, num_sources=4000, shift=shift
                )
                for k, own in enumerate(index)
            ],
        )
        for own, decider, t in zip(index, deciders, times, strict=True):
            assert decider.posterior is not None
            law = decider.posterior.crossing(0, 0.5)
            if chain.logit[own[0]] <= 0.0:
                low, high = 0.0, law.below[0]
            elif chain.logit[own[-1]] > 0.0:
                low, high = law.below[-1], 1.0
            else:
                low = high = np.interp(t, law.edges, law.below)
            out.append(low + (high - low) * random.random())
    return np.array(out)
