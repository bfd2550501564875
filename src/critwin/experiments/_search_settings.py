"""What a search is told, asks for and finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from critwin.experiments._tallies import CurveOf

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from critwin.experiments._curve_chain import Chain
    from critwin.experiments.search_targets import Target

__all__ = ["Batch", "Found", "Settings", "curve_of"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Settings:
    """What a search is told.

    Attributes:
        chain: Prior of the curves, on the nodes.
        candidates: Nodes that may be measured, shape ``(C,)``.
        cost: Network evaluations of one result at every candidate, shape ``(C,)``.
        source_cost: Evaluations that make one source.
        num_sources: Number of sources that there are.
        labels: Feature (or product) -> its labels.
        priors: Feature -> the model's prior over its labels, shape ``(J,)``; estimated from the
            sources where it is not there.
        is_weighted: Whether sources are no fresh draws of the prior.
        targets: What to sharpen.
        half_width: Half of the interval's width to reach, OU time.
        confidence: Of the interval.
        budget: Evaluations to spend at most; None: no limit.
        batch_size: Rows of a batch.
        seed: Seed of the draws that decisions rest on.
    """

    chain: Chain
    candidates: NDArray[np.int64]
    cost: NDArray[np.float64]
    source_cost: float
    num_sources: int
    labels: Mapping[str, Sequence[str]]
    priors: Mapping[str, NDArray[np.float64]]
    targets: tuple[Target, ...]
    is_weighted: bool = False
    half_width: float = 0.05
    confidence: float = 0.95
    budget: float | None = None
    batch_size: int = 16
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """One batch: a full batch of sources at one node.

    Attributes:
        node: The node.
        sources: Indices of the sources.
        replicates: Number of the replicate of each at this node.
    """

    node: int
    sources: tuple[int, ...]
    replicates: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """What is known of a target.

    Attributes:
        name: The target.
        t: Posterior median of the OU time, None outside the range.
        low: Lower limit, None if it lies below the range.
        high: Upper limit, None if it lies above the range.
        is_reached: Whether the interval is as narrow as asked for.
        side: ``"inside"``; ``"below"`` or ``"above"`` where it surely lies outside the range;
            ``"open"`` where it may lie outside.
    """

    name: str
    t: float | None
    low: float | None
    high: float | None
    is_reached: bool
    side: str

    @property
    def half_width(self) -> float | None:
        """Half of the interval's width, None without both limits."""
        return None if self.low is None or self.high is None else 0.5 * (self.high - self.low)

    @property
    def is_settled(self) -> bool:
        """Whether nothing more need be measured for it."""
        return self.is_reached or self.side in ("below", "above")


def curve_of(
    target: Target, labels: Sequence[str], weights: NDArray[np.float64], error: float, voted: bool
) -> CurveOf:
    """The curve on which a target lies."""
    after, before = target.sets(labels, weights)
    if target.quantity != "t_before":
        before = None
    return CurveOf(target.feature, weights, error, after, before, voted)
