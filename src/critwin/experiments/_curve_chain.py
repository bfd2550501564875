r"""A prior over curves that fall with noise: a Markov chain of (value, rate) along OU time.

In logits a logistic curve is a straight line, ``d logit f / dt = -rate``. Here the rate itself
wanders, slowly in terms of how far the logit has moved, and now and then jumps, also to 0: the
curve then rests on a shelf, as that of a hierarchy does, or has not begun to fall. Nothing else is
assumed of the curve: no symmetry, no single step. The chain has finitely many states, so that
everything is computed exactly, by passing messages along time.

Source: Rabiner (1989), *A tutorial on hidden Markov models*, sec. III.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Chain", "chain_on"]

_TOP = 5.0  # logits run from this to its negative
_STEP = 0.05  # of the logit: rounding it wanders less than the rate does
_RATES = (0.0, *np.geomspace(0.7, 40.0, 12).tolist())  # per unit of OU time; 0 is a shelf
# Standard deviation of the log rate over one unit of the logit. At .25 the posterior was too sure
# of curves in two steps (the truth held in 33 of 40) and of five wide ones (51 of 60); now 38, 58
_WANDER = 0.5
_LEAVE_SHELF, _ENTER_SHELF, _JUMP = 0.7, 0.1, 0.4  # per unit of OU time
_JUMP_REACH = 1.0  # mean size of a jump of the log rate
_BEGIN_KEPT, _BEGIN_RESTING = 0.85, 0.7
_NEARLY_ONE, _NEARLY_ZERO = 0.9995, 0.0005  # one odd result must not rule a state out


@dataclass(frozen=True, eq=False)
class Step:
    """What happens between two nodes.

    Attributes:
        mixing: Change of the rates, rows sum to 1, shape ``(R, R)``.
        whole: How many logits each rate moves, shape ``(R,)``.
        part: Probability to move one more, shape ``(R,)``.
        before: Flat index of the state from which each state is reached, ``R V`` for none,
            shape ``(2, R, V)`` for the shorter and the longer move.
        after: Flat index of the state that each state reaches, likewise.
    """

    mixing: NDArray[np.float64]
    whole: NDArray[np.int64]
    part: NDArray[np.float64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Chain:
    """The chain on given nodes; V logits, R rates, N nodes.

    A state holds the logit at a node and the rate up to the next node.

    Attributes:
        t: Nodes, OU time, increasing, shape ``(N,)``.
        logit: Shape ``(V,)``, falling.
        value: The curve's values at them, shape ``(V,)``; the last state is never left.
        rate: Shape ``(R,)``.
        first: Law of the state at the first node, shape ``(R, V)``.
        steps: From every node to the next, length N - 1.
    """

    t: NDArray[np.float64]
    logit: NDArray[np.float64]
    value: NDArray[np.float64]
    rate: NDArray[np.float64]
    first: NDArray[np.float64]
    steps: tuple[Step, ...]

    def forward(self, law: NDArray[np.float64], step: int) -> NDArray[np.float64]:
        """Law of the state one node later, shape ``(F, R, V)`` as given."""
        here = self.steps[step]
        flat = np.zeros((len(law), self.first.size + 1))
        flat[:, :-1] = law.reshape(len(law), -1)
        part = here.part[:, None]
        moved = (1.0 - part) * flat.take(here.before[0], axis=1)
        moved += part * flat.take(here.before[1], axis=1)
        moved[..., -1] += law.sum(axis=2) - moved.sum(axis=2)  # what falls off stays at the end
        return np.asarray(np.matmul(here.mixing.T, moved))

    def backward(self, message: NDArray[np.float64], step: int) -> NDArray[np.float64]:
        """Expectation of ``message`` one node later, given the state, shape ``(F, R, V)``."""
        here = self.steps[step]
        flat = np.matmul(here.mixing, message).reshape(len(message), -1)
        part = here.part[:, None]
        return np.asarray(
            (1.0 - part) * flat.take(here.after[0], axis=1)
            + part * flat.take(here.after[1], axis=1)
        )

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw curves from the prior: index of the logit at every node, shape ``(count, N)``."""
        num_v = len(self.logit)
        start = np.searchsorted(np.cumsum(self.first), generator.random(count), side="right")
        start = np.minimum(start, self.first.size - 1)
        rate, index = start // num_v, start % num_v
        out = np.empty((count, len(self.t)), dtype=np.int64)
        out[:, 0] = index
        for j, step in enumerate(self.steps):
            more = generator.random(count) < step.part[rate]
            index = np.minimum(index + step.whole[rate] + more, num_v - 1)
            cumulative = np.cumsum(step.mixing, axis=1)[rate]
            rate = np.minimum(
                (generator.random(count)[:, None] > cumulative).sum(axis=1), len(self.rate) - 1
            )
            out[:, j + 1] = index
        return out


def chain_on(t: ArrayLike) -> Chain:
    """The chain on some nodes.

    Args:
        t: Nodes, OU time, increasing, shape ``(N,)`` with N >= 2.

    Returns:
        The chain; the same nodes give the same object.
    """
    return _chain(tuple(np.asarray(t, dtype=np.float64).tolist()))


@lru_cache(maxsize=16)
def _chain(nodes: tuple[float, ...]) -> Chain:
    t = np.array(nodes)
    logit = np.arange(_TOP, -_TOP - _STEP / 2, -_STEP)
    value = 1.0 / (1.0 + np.exp(-logit))
    value[0], value[-1] = _NEARLY_ONE, _NEARLY_ZERO
    rate = np.array(_RATES)
    num_r, num_v = len(rate), len(logit)
    moving = np.full(num_r, (1.0 - _BEGIN_RESTING) / (num_r - 1))
    moving[0] = _BEGIN_RESTING
    first = np.full((num_r, num_v), (1.0 - _BEGIN_KEPT) / (num_r * num_v))
    first[:, 0] += _BEGIN_KEPT * moving
    gaps = np.diff(t).tolist()
    known = {round(gap, 9): _step(rate, num_v, gap) for gap in gaps}
    return Chain(
        t=t,
        logit=logit,
        value=value,
        rate=rate,
        first=first / first.sum(),
        steps=tuple(known[round(gap, 9)] for gap in gaps),
    )


def _step(rate: NDArray[np.float64], num_v: int, gap: float) -> Step:
    distance = rate * gap / _STEP
    whole = np.minimum(np.floor(distance + 1e-9), num_v).astype(np.int64)
    row = np.arange(len(rate))[:, None] * num_v
    index = np.arange(num_v)[None, :]
    moves = [whole[:, None] + more for more in (0, 1)]
    none = len(rate) * num_v
    return Step(
        mixing=_mixing(rate, gap),
        whole=whole,
        part=np.clip(distance - whole, 0.0, 1.0),
        before=np.stack([np.where(index >= n, row + index - n, none) for n in moves]),
        after=np.stack([row + np.minimum(index + n, num_v - 1) for n in moves]),
    )


def _mixing(rate: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """How the rate changes over one step of OU time, rows sum to 1, shape ``(R, R)``."""
    num = len(rate)
    out = np.zeros((num, num))
    spacing = np.log(rate[2] / rate[1])
    log_rate = np.log(rate[1:])
    leave = 1.0 - np.exp(-_LEAVE_SHELF * gap)
    out[0, 0], out[0, 1:] = 1.0 - leave, leave / (num - 1)
    enter, jump = (1.0 - np.exp(-x * gap) for x in (_ENTER_SHELF, _JUMP))
    for r in range(1, num):
        # a hop to a neighbour has the variance of the wander; a fast curve goes far in one step
        variance = _WANDER**2 * rate[r] * gap / spacing**2
        weights = np.exp(-0.5 * ((log_rate - log_rate[r - 1]) / spacing) ** 2 / max(variance, 0.5))
        weights[r - 1] = 0.0
        share = min(variance, 0.5) / max(
            np.sum(weights * (np.arange(num - 1) - (r - 1)) ** 2) / weights.sum(), 1.0
        )
        local = share * weights / weights.sum()
        local[r - 1] = 1.0 - share
        far = np.exp(-np.abs(log_rate - log_rate[r - 1]) / _JUMP_REACH)
        far[r - 1] = 0.0
        out[r, 1:] = (1.0 - enter - jump) * local + jump * far / far.sum()
        out[r, 0] = enter
    return out
