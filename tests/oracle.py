"""Forward–reverse experiments on mixtures whose windows are known exactly.

The experiment is simulated in bulk (one generator a seed instead of one a unit), with the same
posterior draws and samplers that the models use; sources keep their identity over the levels, so
that the correlation between levels is the real one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from critwin.exact_windows import exact_window
from critwin.levels import alpha_sigma, logsnr_of_ou_time
from critwin.models.samplers import level_path, sample_stochastic
from critwin.streams import numpy_stream, stream
from critwin.theory.exact import exact_transitions
from critwin.theory.mixtures import (
    GaussianMixture,
    posterior_draw,
    posterior_mean,
    posterior_probs,
    sample,
)
from critwin.transitions import Transitions, from_counts
from critwin.windows import CriticalWindow, critical_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

KEPT = ("start", "midpoint", "end", "width")
OPERATIONAL = ("t_after", "t_before")
QUANTITIES = (*KEPT, *OPERATIONAL)
_ROWS = 20_000


@dataclass(frozen=True, eq=False)
class Case:
    """A mixture, a pair of label sets and the levels at which it is measured."""

    name: str
    mixture: GaussianMixture
    after: tuple[str, ...]
    before: tuple[str, ...] | None
    t: NDArray[np.float64]


def _mixture(means: list[float], sds: list[float], weights: list[float]) -> GaussianMixture:
    return GaussianMixture(
        weights=weights,
        means=[[m] for m in means],
        covariances=[[s * s] for s in sds],
        names=[f"c{i}" for i in range(len(means))],
    )


@cache
def cases() -> dict[str, Case]:
    two = _mixture([-5, 5], [1, 1], [0.5, 0.5])
    three = _mixture([-8, 0, 5], [1, 1, 1], [0.3, 0.4, 0.3])
    tree = _mixture([-15, -11, 11, 15], [0.5] * 4, [0.25] * 4)
    return {
        "two": Case("two", two, ("c0",), None, np.linspace(0.15, 4.2, 24)),
        "three": Case("three", three, ("c2",), None, np.linspace(0.05, 4.0, 24)),
        "tree": Case("tree", tree, ("c0",), ("c0", "c1"), np.linspace(0.05, 4.65, 28)),
    }


@cache
def truth(name: str) -> dict[str, float]:
    """Exact edges in OU time."""
    case = cases()[name]
    table = partial(exact_transitions, case.mixture)
    kept = exact_window(table)
    pair = exact_window(
        table, criterion="operational", after=case.after, before=case.before, epsilon=0.1
    )
    values = {q: getattr(kept, q).t.value for q in KEPT}
    values |= {q: getattr(pair, q).t.value for q in OPERATIONAL}
    assert all(v is not None for v in values.values())
    return values


def simulate(
    case: Case,
    *,
    num_sources: int,
    seed: int,
    reversal: str = "posterior",
    replicates: int = 1,
    steps: int = 60,
    shuffled_level: int | None = None,
) -> Transitions:
    """One experiment; ``shuffled_level`` plants a bug: labels after are shuffled there."""
    (table,) = _experiments(
        case,
        [seed],
        num_sources=num_sources,
        reversal=reversal,
        replicates=replicates,
        steps=steps,
        shuffled_level=shuffled_level,
    )
    return table


def _experiments(
    case: Case,
    seeds: Sequence[int],
    *,
    num_sources: int,
    reversal: str,
    replicates: int,
    steps: int = 60,
    shuffled_level: int | None = None,
) -> list[Transitions]:
    """Experiments drawn together from the stream of the first seed, a table each."""
    m, num = case.mixture, num_sources * len(seeds)
    generator = stream(seeds[0], "oracle", case.name, num_sources, reversal)
    clean = sample(m, num, generator=generator)
    counts = np.zeros((num, len(case.t), m.num_components), dtype=np.int64)
    for level, logsnr in enumerate(logsnr_of_ou_time(case.t)):
        for _ in range(replicates):
            alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
            noise = torch.randn(clean.x.shape, dtype=torch.float64, generator=generator)
            x_t = alpha * clean.x + sigma * noise
            if reversal == "posterior":
                after = posterior_draw(
                    m, x_t, alpha=alpha, sigma=sigma, generator=generator
                ).component.numpy()
            else:
                after = _reversed_label(m, x_t, float(logsnr), steps, generator)
            if level == shuffled_level:
                after = numpy_stream(seeds[0], "planted bug").permutation(after)
            counts[np.arange(num), level, after] += 1
    before, plateau = clean.component.numpy(), exact_transitions(m, [0.0]).plateau
    return [
        from_counts(
            counts[part],
            before[part],
            logsnr=logsnr_of_ou_time(case.t),
            before=m.names,
            weights=m.weights.numpy(),
            reversal=reversal,
            feature="component",
            plateau=float(plateau or 1.0),
        )
        for part in (slice(i, i + num_sources) for i in range(0, num, num_sources))
    ]


def _reversed_label(
    m: GaussianMixture, x_t: torch.Tensor, logsnr: float, steps: int, generator: torch.Generator
) -> NDArray[np.int64]:
    """The second-order sampler of the package with the exact denoiser, then a component of x_0.

    A first-order sampler of as many steps is off by .01 in stay: a truth of its own, which 1,000
    sources tell from that of the posterior.
    """

    def denoise(x: torch.Tensor, level: float) -> torch.Tensor:
        alpha, sigma = (float(v) for v in alpha_sigma(level))
        return posterior_mean(m, x, alpha=alpha, sigma=sigma)

    def draw() -> torch.Tensor:
        return torch.randn(x_t.shape, dtype=torch.float64, generator=generator)

    path = level_path(logsnr, max(logsnr + 2.0, 9.0), steps)
    x = sample_stochastic(denoise, x_t, path, draw, order=2)
    probs = posterior_probs(m, x, alpha=1.0, sigma=0.0)
    return torch.multinomial(probs, 1, generator=generator)[:, 0].numpy()


def windows_of(tr: Transitions, case: Case) -> tuple[CriticalWindow, CriticalWindow]:
    kept = critical_window(tr, test=False)
    pair = critical_window(
        tr,
        criterion="operational",
        after=case.after,
        before=case.before,
        epsilon=0.1,
        test=False,
    )
    return kept, pair


@dataclass(frozen=True)
class Coverage:
    """How often each interval held the truth, and how often it was closed on both sides."""

    covered: dict[str, int]
    closed: dict[str, int]
    seeds: int

    def as_dict(self) -> dict[str, object]:
        return {
            "seeds": self.seeds,
            "covered": {q: n / self.seeds for q, n in self.covered.items()},
            "closed": {q: n / self.seeds for q, n in self.closed.items()},
        }


def coverage(
    name: str,
    *,
    seeds: int,
    num_sources: int,
    reversal: str = "posterior",
    replicates: int = 1,
    shuffled_level: int | None = None,
) -> Coverage:
    case, exact = cases()[name], truth(name)
    covered, closed = dict.fromkeys(QUANTITIES, 0), dict.fromkeys(QUANTITIES, 0)
    # steps of a reversal cost most by their number: experiments take them together
    together = 1 if reversal == "posterior" else max(1, _ROWS // num_sources)
    tables = (
        table
        for first in range(0, seeds, together)
        for table in _experiments(
            case,
            range(first, min(first + together, seeds)),
            num_sources=num_sources,
            reversal=reversal,
            replicates=replicates,
            shuffled_level=shuffled_level,
        )
    )
    for tr in tables:
        kept, pair = windows_of(tr, case)
        for q in QUANTITIES:
            edge = getattr(kept if q in KEPT else pair, q).t
            covered[q] += edge.covers(exact[q])
            closed[q] += edge.low is not None and edge.high is not None
    return Coverage(covered, closed, seeds)


__all__ = [
    "KEPT",
    "OPERATIONAL",
    "QUANTITIES",
    "Case",
    "Coverage",
    "cases",
    "coverage",
    "simulate",
    "truth",
    "windows_of",
]
