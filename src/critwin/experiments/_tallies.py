"""Counts of the curves that a search follows, from what was read so far.

Which results count, with which weight, what a curve falls to, and by how much results of the same
source resemble each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critwin.experiments._posterior import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["CurveOf", "Rows", "correlation", "tally"]

_EXPECTED_CORRELATION = 0.1  # of two results of a source, before any was seen
_WORTH = 30.0  # pairs of results that this expectation is worth


@dataclass(frozen=True, eq=False)
class CurveOf:
    """A curve that falls with noise: the share of results that keep a label set.

    Attributes:
        feature: Name of the feature (or product).
        weights: The model's prior over its labels, shape ``(J,)``.
        prior_error: Standard error of the chance level, if the prior is estimated.
        after: Indices of the label set A; None: whatever label the source has (``kept``).
        before: Indices of the set B whose other labels do not count; None: all count.
        is_weighted: Whether sources are no fresh draws of the prior and must be weighted.
    """

    feature: str
    weights: NDArray[np.float64]
    prior_error: float = 0.0
    after: tuple[int, ...] | None = None
    before: tuple[int, ...] | None = None
    is_weighted: bool = False

    @property
    def chance(self) -> float:
        """What the curve falls to."""
        if self.after is None:
            return float(np.sum(self.weights**2))
        whole = 1.0 if self.before is None else float(self.weights[list(self.before)].sum())
        return float(self.weights[list(self.after)].sum()) / whole


@dataclass(frozen=True, eq=False)
class Rows:
    """Readings of one feature; -1 where there is none.

    Attributes:
        source: Index of the source, shape ``(U,)``.
        node: Index of the level's node, shape ``(U,)``.
        before: Label of the source, shape ``(U,)``.
        after: Label of the result, shape ``(U,)``.
    """

    source: NDArray[np.int64]
    node: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]


def tally(
    curve: CurveOf,
    rows: Rows,
    mean: NDArray[np.float64] | None,
    num_nodes: int,
) -> tuple[Tally, float]:
    """Count a curve.

    Args:
        curve: The curve.
        rows: What its feature read.
        mean: The curve as far as known, at the nodes, for the design effect; None: not at all.
        num_nodes: Number of nodes.

    Returns:
        The counts, and the correlation of two results of one source.
    """
    chosen = (rows.before >= 0) & (rows.after >= 0)
    if curve.after is not None:
        chosen &= np.isin(rows.before, curve.after)
    if curve.before is not None:
        chosen &= np.isin(rows.after, curve.before)
    source, node = rows.source[chosen], rows.node[chosen]
    before, after = rows.before[chosen], rows.after[chosen]
    hit = after == before if curve.after is None else np.isin(after, curve.after)
    vote = np.ones(len(source))
    if curve.is_weighted and len(source):
        _, first = np.unique(source, return_index=True)
        share = np.bincount(before[first], minlength=len(curve.weights)) / len(first)
        vote = curve.weights[before] / share[before]
        vote /= vote.mean()
    hits = np.bincount(node, vote * hit, minlength=num_nodes)
    number = np.bincount(node, vote, minlength=num_nodes)
    design, rho = 1.0, _EXPECTED_CORRELATION
    if mean is not None and len(source):
        design, rho = _design(curve.chance, mean[node], source, hit, vote)
    return (
        Tally(
            hits=np.asarray(hits, dtype=np.float64),
            number=np.asarray(number, dtype=np.float64),
            chance=curve.chance,
            chance_error=curve.prior_error if curve.after is None else 0.0,
            design=design,
        ),
        rho,
    )


def _design(
    chance: float,
    mean: NDArray[np.float64],
    source: NDArray[np.int64],
    hit: NDArray[np.bool_],
    vote: NDArray[np.float64],
) -> tuple[float, float]:
    """Design effect on the location of the curve, and the correlation within sources."""
    p = np.clip(chance + (1.0 - chance) * mean, 1e-4, 1.0 - 1e-4)
    spread = np.sqrt(p * (1.0 - p))
    # weight of a result in the score of the location, a logistic curve taken
    pull = vote * (1.0 - chance) * mean * (1.0 - mean) / spread
    residual = pull * (hit - p) / spread
    total = np.bincount(source, residual)
    size = np.bincount(source, pull)
    own = np.bincount(source, pull**2)
    pairs = float(np.sum(size**2 - own))
    found = float(np.sum(total**2) - np.sum(residual**2))
    information = float(np.sum(pull**2 / np.maximum(vote, 1e-12)))
    if information <= 0:
        return 1.0, _EXPECTED_CORRELATION
    per_pair = float(np.mean(pull**2))
    rho = (found + _WORTH * per_pair * _EXPECTED_CORRELATION) / (pairs + _WORTH * per_pair)
    rho = float(np.clip(rho, 0.0, 1.0))
    design = (float(np.sum(own)) + rho * pairs) / information
    return max(design, 1.0), rho


def correlation(found: Sequence[float]) -> float:
    """The largest correlation of several curves, kept off 0 and 1."""
    return float(np.clip(max(found, default=_EXPECTED_CORRELATION), 0.005, 0.995))
