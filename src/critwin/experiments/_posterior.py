r"""Posterior of several falling curves from counts at levels, and of where they cross a value.

Exact for the prior of :mod:`critwin.experiments._curve_chain` and independent results
``k_j ~ Binomial(n_j, c + (1 - c) f(t_j))``. Counts may be fractional (weighted sources) and may
be tempered by a design effect (sources used more than once): the log likelihood divided by it.

Source: Rabiner (1989), sec. III; Pauli, Racugno & Ventura (2011), *Bayesian composite marginal
likelihoods*, for the tempering.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critwin.experiments._curve_chain import Chain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Crossing", "Posterior", "Tally", "crossing_times"]

_PARTS = 8  # of the gap between two nodes, for the law of a crossing
_LEAST = 1e-9


@dataclass(frozen=True, eq=False, kw_only=True)
class Tally:
    """Counts of one curve at the nodes.

    Attributes:
        hits: Kept results at every node, shape ``(N,)``.
        number: Results at every node, shape ``(N,)``.
        chance: What the curve falls to, a probability below 1.
        chance_error: Standard error of it.
        design: Design effect, at least 1.
    """

    hits: NDArray[np.float64]
    number: NDArray[np.float64]
    chance: float
    chance_error: float = 0.0
    design: float = 1.0


@dataclass(frozen=True, eq=False)
class Crossing:
    """Law of the OU time at which a curve crosses a value.

    Attributes:
        edges: OU times, increasing, shape ``(B,)``.
        below: Probability that it has crossed by then, shape ``(B,)``.
        spread: Further standard deviation, of the value itself.
    """

    edges: NDArray[np.float64]
    below: NDArray[np.float64]
    spread: float = 0.0

    def quantile(self, q: ArrayLike) -> NDArray[np.float64]:
        """Quantiles; ``-inf`` before the first node, ``inf`` beyond the last."""
        wanted = np.asarray(q, dtype=np.float64)
        rising = self.below + np.arange(len(self.below)) * 1e-15
        found = np.interp(wanted, rising, self.edges)
        found = np.where(wanted <= self.below[0], -np.inf, found)
        return np.where(wanted > self.below[-1], np.inf, found)

    def interval(self, confidence: float) -> tuple[float, float, float]:
        """Median and equal-tailed limits, widened by ``spread``."""
        tail = (1.0 - confidence) / 2.0
        low, middle, high = (float(x) for x in self.quantile([tail, 0.5, 1.0 - tail]))
        if self.spread > 0 and np.isfinite(middle):
            reach = 2.0 * self.spread  # limits are combined in quadrature
            low = middle - float(np.hypot(middle - low, reach))
            high = middle + float(np.hypot(high - middle, reach))
        return low, middle, high


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posterior of F curves on one chain.

    Attributes:
        chain: The prior.
        tallies: Counts of every curve, length F.
        smoothed: Law of the state at every node, shape ``(N, F, R, V)``.
        messages: Likelihood of what lies ahead, given the state, times that of the node itself,
            each node up to a factor, shape ``(N, F, R, V)``.
    """

    chain: Chain
    tallies: tuple[Tally, ...]
    smoothed: NDArray[np.float64]
    messages: NDArray[np.float64]

    @classmethod
    def of(cls, chain: Chain, tallies: Sequence[Tally]) -> Posterior:
        """Compute it.

        Args:
            chain: The prior.
            tallies: Counts of every curve.

        Returns:
            The posterior.
        """
        likelihood = np.stack([_likelihood(chain, tally) for tally in tallies], axis=1)
        num = len(chain.t)
        shape = (len(tallies), *chain.first.shape)
        messages = np.empty((num, *shape))
        messages[-1] = np.broadcast_to(likelihood[-1][:, None, :], shape)
        ahead = np.empty((num - 1, *shape))
        for j in range(num - 2, -1, -1):
            ahead[j] = chain.backward(messages[j + 1], j)
            message = ahead[j] * likelihood[j][:, None, :]
            scale = message.max(axis=(1, 2), keepdims=True)
            messages[j] = message / scale
            ahead[j] /= scale
        smoothed = np.empty_like(messages)
        law = chain.first[None] * messages[0]
        smoothed[0] = law / law.sum(axis=(1, 2), keepdims=True)
        for j in range(num - 1):
            ratio = smoothed[j] / np.maximum(ahead[j], 1e-300)
            law = chain.forward(ratio, j) * messages[j + 1]
            smoothed[j + 1] = law / law.sum(axis=(1, 2), keepdims=True)
        return cls(chain, tuple(tallies), smoothed, messages)

    def mean(self) -> NDArray[np.float64]:
        """Mean curves ``f``, shape ``(F, N)``."""
        return np.asarray(np.einsum("nfrv,v->fn", self.smoothed, self.chain.value))

    def crossing(self, curve: int, value: float) -> Crossing:
        """Where a curve falls through a value.

        Args:
            curve: Index of the curve.
            value: The value, in (0, 1).

        Returns:
            The law of the crossing.
        """
        tally = self.tallies[curve]
        edges, below = self._law(curve, value)
        spread = 0.0
        if tally.chance_error > 0:
            # the value moves with the chance level: f* = (value - 1) dc / (1 - c) further down
            slope = tally.chance_error * (1.0 - value) / (1.0 - tally.chance)
            ends = []
            for shifted in (value - slope, value + slope):
                at, law = self._law(curve, float(np.clip(shifted, 0.01, 0.99)))
                ends.append(float(Crossing(at, law).quantile(0.5)))
            gap = ends[0] - ends[1]
            spread = 0.5 * gap if np.isfinite(gap) else 0.0
        return Crossing(edges, below, spread)

    def _law(self, curve: int, value: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        chain = self.chain
        law = self.smoothed[:, curve]
        threshold = float(np.log(value / (1.0 - value)))
        above = chain.logit > threshold
        by_node = 1.0 - law[:, :, above].sum(axis=(1, 2))
        by_node = np.maximum.accumulate(np.clip(by_node, 0.0, 1.0))
        gap = np.diff(chain.t)
        step = chain.logit[0] - chain.logit[1]
        first = int(np.flatnonzero(above)[-1])
        reach = min(int(chain.rate[-1] * gap.max() / step) + 2, first + 1)
        index = np.arange(first - reach + 1, first + 1)
        height = chain.logit[index] - threshold
        rate = np.where(chain.rate > 0, chain.rate, np.nan)
        when = height[None, None, :] / rate[None, :, None] / gap[:, None, None]
        part = np.floor(np.nan_to_num(when, nan=np.inf, posinf=9.0).clip(0.0, 9.0) * _PARTS)
        weight = np.where(part < _PARTS, law[:-1][:, :, index], 0.0)
        cell = np.arange(len(gap))[:, None, None] * _PARTS
        bins = (np.minimum(part, _PARTS - 1) + cell).astype(np.int64)
        counted = np.bincount(bins.ravel(), weight.ravel(), minlength=len(gap) * _PARTS)
        inside = np.asarray(counted, dtype=np.float64).reshape(len(gap), _PARTS) + 1e-12
        share = np.cumsum(inside, axis=1) / inside.sum(axis=1, keepdims=True)
        below = by_node[:-1, None] + np.diff(by_node)[:, None] * share
        edges = chain.t[:-1, None] + gap[:, None] * (np.arange(1, _PARTS + 1) / _PARTS)
        return (
            np.concatenate([chain.t[:1], edges.ravel()]),
            np.concatenate([by_node[:1], below.ravel()]),
        )

    def sample(
        self, count: int, generator: np.random.Generator, *, curves: Sequence[int] | None = None
    ) -> NDArray[np.int64]:
        """Draw curves from the posterior.

        Args:
            count: Number of draws M.
            generator: Where randomness comes from.
            curves: Indices of the curves; all unless given.

        Returns:
            Index of the logit at every node, shape ``(F, M, N)``.
        """
        chain = self.chain
        num_v, num_r = len(chain.logit), len(chain.rate)
        own = np.array(list(range(len(self.tallies)) if curves is None else curves))
        out = np.empty((len(own), count, len(chain.t)), dtype=np.int64)
        cumulative = np.cumsum(self.smoothed[0, own].reshape(len(own), -1), axis=1)
        start = np.stack(
            [np.searchsorted(law, generator.random(count) * law[-1]) for law in cumulative]
        )
        start = np.minimum(start, num_r * num_v - 1)
        rate, index = start // num_v, start % num_v
        out[:, :, 0] = index
        curve = np.arange(len(own))[:, None]
        for j, step in enumerate(chain.steps):
            near = np.minimum(index + step.whole[rate], num_v - 1)
            far = np.minimum(near + 1, num_v - 1)
            part, mixing = step.part[rate][..., None], step.mixing[rate]
            message = np.ascontiguousarray(self.messages[j + 1, own].swapaxes(1, 2))
            weight = np.empty((*near.shape, 2 * num_r))
            np.multiply(message[curve, near], (1.0 - part) * mixing, out=weight[..., :num_r])
            np.multiply(message[curve, far], part * mixing, out=weight[..., num_r:])
            cumulative = np.cumsum(weight, axis=2)
            level = generator.random(near.shape)[..., None] * cumulative[..., -1:]
            chosen = np.minimum((level >= cumulative).sum(axis=2), 2 * num_r - 1)
            index = np.where(chosen < num_r, near, far)
            rate = chosen % num_r
            out[:, :, j + 1] = index
        return out


def crossing_times(chain: Chain, index: NDArray[np.int64], value: float) -> NDArray[np.float64]:
    """Where drawn curves fall through a value.

    Args:
        chain: The chain.
        index: Index of the logit at every node, shape ``(..., N)``.
        value: The value, in (0, 1).

    Returns:
        OU times, shape ``(...)``; half a unit beyond the last node for curves that stay above,
        the first node for those that begin below.
    """
    threshold = float(np.log(value / (1.0 - value)))
    logit = chain.logit[index]
    is_above = logit > threshold
    last = is_above.sum(axis=-1) - 1  # curves never rise
    k = np.clip(last, 0, len(chain.t) - 2)
    a = np.take_along_axis(logit, k[..., None], axis=-1)[..., 0]
    b = np.take_along_axis(logit, k[..., None] + 1, axis=-1)[..., 0]
    part = np.clip((a - threshold) / np.maximum(a - b, _LEAST), 0.0, 1.0)
    found = chain.t[k] + part * (chain.t[k + 1] - chain.t[k])
    found = np.where(last < 0, chain.t[0], found)
    return np.asarray(np.where(last == len(chain.t) - 1, chain.t[-1] + 0.5, found))


def _likelihood(chain: Chain, tally: Tally) -> NDArray[np.float64]:
    """Likelihood of every value at every node, up to a factor, shape ``(N, V)``."""
    p = tally.chance + (1.0 - tally.chance) * chain.value
    hits, missed = tally.hits[:, None], (tally.number - tally.hits)[:, None]
    log = (hits * np.log(p) + missed * np.log1p(-p)) / tally.design
    return np.asarray(np.exp(np.maximum(log - log.max(axis=1, keepdims=True), -700.0)))
