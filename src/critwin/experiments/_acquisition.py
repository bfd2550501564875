r"""Where the next batches should go: the most information on the targets for each evaluation.

The joint law of the crossing times T and of the curves p at the nodes is taken from posterior
draws. A batch of n results at node j then lowers the variance of T by the share
``cov(T, p_j)^2 / (var(T) (var(p_j) + E[p_j (1 - p_j)] / n))`` (a linear estimate from one mean);
the score of a node is the sum of ``-log(1 - share)`` over open targets, divided by the cost of the
batch. The log of the curve's local width is a target too, of less weight: an interval is only as
good as the slope that it rests on. Further batches of a round are chosen on the covariances that
the earlier ones leave.

Source: MacKay (1992), *Information-based objective functions for active data selection*, sec. 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Outlook", "choose"]


@dataclass(eq=False)
class Outlook:
    """Joint moments of one curve and its open targets; :func:`choose` updates them.

    Attributes:
        noise: Variance of a single result at every node, design effect included, shape ``(N,)``.
        cov: Covariance of the curve at the nodes, shape ``(N, N)``.
        cross: Covariance of targets and curve, shape ``(T, N)``.
        var: Variances of the targets, shape ``(T,)``.
        weight: Weights of the targets, shape ``(T,)``.
    """

    noise: NDArray[np.float64]
    cov: NDArray[np.float64]
    cross: NDArray[np.float64]
    var: NDArray[np.float64]
    weight: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        probs: NDArray[np.float64],
        targets: NDArray[np.float64],
        weight: NDArray[np.float64],
        design: float,
    ) -> Outlook:
        """Moments of draws.

        Args:
            probs: Success probabilities at the nodes, shape ``(M, N)``.
            targets: Crossing times, and whatever else is a target, shape ``(T, M)``.
            weight: Their weights, shape ``(T,)``.
            design: Design effect.

        Returns:
            The moments.
        """
        num = len(probs)
        centred = probs - probs.mean(axis=0)
        late = targets - targets.mean(axis=1, keepdims=True)
        return cls(
            noise=np.maximum(np.mean(probs * (1.0 - probs), axis=0), 1e-4) * design,
            cov=centred.T @ centred / num,
            cross=late @ centred / num,
            var=np.maximum(np.mean(late**2, axis=1), 1e-12),
            weight=weight,
        )

    def gain(self, size: float) -> NDArray[np.float64]:
        """Information of a batch at every node, nats, summed over targets, shape ``(N,)``."""
        share = self.cross**2 / (np.diag(self.cov) + self.noise / size) / self.var[:, None]
        return np.asarray(-self.weight @ np.log1p(-np.minimum(share, 0.999)))

    def learn(self, node: int, size: float) -> None:
        """Condition on a batch at a node."""
        total = self.cov[node, node] + self.noise[node] / size
        column, cross = self.cov[:, node].copy(), self.cross[:, node].copy()
        self.cov -= np.outer(column, column) / total
        self.var = np.maximum(self.var - cross**2 / total, 1e-12)
        self.cross -= np.outer(cross, column) / total


def choose(
    outlooks: list[Outlook],
    sizes: NDArray[np.float64],
    candidates: NDArray[np.int64],
    size: int,
    cost: NDArray[np.float64],
    affordable: float,
) -> tuple[int, float] | None:
    """The best node for one batch.

    Args:
        outlooks: One a curve; updated as if the batch had been measured.
        sizes: Share of a batch's results that count for each curve, shape ``(F,)``.
        candidates: Nodes that may be measured, shape ``(C,)``.
        size: Rows of a batch.
        cost: Cost of a batch at each of them, shape ``(C,)``.
        affordable: What a batch may cost at most.

    Returns:
        The node and its cost; None if no node is affordable.
    """
    gain = np.zeros(len(candidates))
    for outlook, share in zip(outlooks, sizes, strict=True):
        gain += outlook.gain(max(size * float(share), 1e-9))[candidates]
    score = np.where(cost <= affordable, gain / cost, -np.inf)
    best = int(np.argmax(score))
    if not np.isfinite(score[best]):
        return None
    node = int(candidates[best])
    for outlook, share in zip(outlooks, sizes, strict=True):
        outlook.learn(node, max(size * float(share), 1e-9))
    return node, float(cost[best])
