"""What a labelled data set says of itself: transitions, collapse, speciation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._curves import SampledCurve, crossing
from critwin.estimates import Edge, edge_of
from critwin.levels import ou_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.transitions import Transitions

    Array = NDArray[np.float64]

__all__ = ["CollapseCurve", "DatasetPrediction", "Speciation"]


@dataclass(frozen=True, eq=False, kw_only=True)
class CollapseCurve:
    """How far a perfect denoiser of the data returns the very point that was noised.

    ``source_weight`` and ``same_point`` have the same expectation (the source is one more draw
    from the posterior); the second has the smaller error.

    Attributes:
        logsnr: Levels, shape ``(L,)``.
        source_weight: Mean posterior weight of the source, shape ``(L,)``.
        source_weight_stderr: Its standard error.
        same_point: Probability that two posterior draws name the same point, shape ``(L,)``.
        same_point_stderr: Its standard error.
        entropy: Entropy of the point given the noisy sample, in nats, shape ``(L,)``.
        entropy_stderr: Its standard error.
        num_points: N.
        dim: D.
    """

    logsnr: Array
    source_weight: Array
    source_weight_stderr: Array
    same_point: Array
    same_point_stderr: Array
    entropy: Array
    entropy_stderr: Array
    num_points: int
    dim: int

    @property
    def t(self) -> Array:
        """OU times of the levels, shape ``(L,)``."""
        return ou_time(self.logsnr)

    @property
    def excess_entropy(self) -> Array:
        """Entropy of the noised law less that of points told apart, per coordinate, ``(L,)``.

        It is ``-entropy / D``: 0 where collapsed, ``-ln N / D`` where the points are forgotten.
        """
        return -self.entropy / self.dim

    def half(self, *, confidence: float = 0.95) -> Edge:
        """Where two posterior draws name the same point half of the time.

        Args:
            confidence: Of the interval.

        Returns:
            The level; null with a reason where the levels do not reach it.
        """
        curve = SampledCurve(
            logsnr=self.logsnr,
            value=self.same_point,
            influence=self.same_point_stderr[None],
            scale=None,
        )
        found = crossing(curve, 0.5, confidence=confidence, is_monotone=True)
        return edge_of(found, curve, confidence)


@dataclass(frozen=True, kw_only=True)
class Speciation:
    """The time at which the data first split, from their covariance alone.

    Attributes:
        top_variance: Largest eigenvalue Lambda of the covariance of the points.
        t: ``1/2 ln Lambda``, OU time; None if Lambda <= 1.
        t_plus: ``1/2 ln(1 + Lambda)``, which exists for every Lambda.
        reason: Why there is no ``t``.
    """

    top_variance: float
    t: float | None
    t_plus: float
    reason: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class DatasetPrediction:
    """What a data set says of itself.

    Attributes:
        transitions: Column -> transitions with the source among the points.
        leave_one_out: Column -> transitions without it; empty where it was not asked for.
        collapse: Weight of the source.
        speciation: From the covariance.
        reasons: Column -> why it has no leave-one-out.
        attrs: How it was computed, as in the tables.
    """

    transitions: Mapping[str, Transitions]
    leave_one_out: Mapping[str, Transitions]
    collapse: CollapseCurve
    speciation: Speciation
    reasons: Mapping[str, str] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
