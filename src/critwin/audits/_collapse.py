"""Where the training data alone predict that an image is still told from the others.

The empirical law of the training data has an exact posterior; the weight that it gives to the very
image that was noised falls from 1 to its share as noise grows. A model that has memorised its data
returns images up to there; one that has not, does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critwin._curves import SampledCurve, crossing
from critwin.levels import alpha_sigma, logsnr_of_ou_time, ou_time
from critwin.streams import numpy_stream

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["PredictedCollapse", "predicted_collapse", "return_weight"]

_GRID = 40
_SPAN = (0.02, 6.0)


@dataclass(frozen=True, kw_only=True)
class PredictedCollapse:
    """OU times at which a perfect memory returns images of some kind.

    Attributes:
        t_kept: It returns 90 % of them.
        t_half: It returns half.
        t_lost: It returns 10 %.
        num_points: Training images.
        source: Where the points are from.
        reason: Why an edge is missing.
    """

    t_kept: float | None
    t_half: float | None
    t_lost: float | None
    num_points: int
    source: str
    reason: str | None = None


def return_weight(
    points: ArrayLike,
    rows: ArrayLike,
    logsnr: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    num_seeds: int = 1,
    seed: int = 0,
) -> Array:
    """Posterior weight of the source under the empirical law, mean over noises.

    Args:
        points: Training images in the unit in which noise is added, shape ``(N, ...)``.
        rows: Which of them are noised, shape ``(S,)``.
        logsnr: Levels, shape ``(L,)``.
        weights: How often an epoch shows each point, shape ``(N,)``; once unless given.
        num_seeds: Noises of each.
        seed: Seed.

    Returns:
        Shape ``(S, L)``.

    Source:
        Biroli et al. (2024), sec. 5; docs/theory/datasets.md, eq. (1).
    """
    flat = np.asarray(points, dtype=np.float32)
    flat = flat.reshape(len(flat), -1)
    index = np.asarray(rows, dtype=np.int64)
    mass = np.ones(len(flat)) if weights is None else np.asarray(weights, dtype=np.float64)
    log_mass = np.log(np.maximum(mass, 1e-300))
    square = np.einsum("nd,nd->n", flat, flat).astype(np.float64)
    inner = (flat[index] @ flat.T).astype(np.float64)
    levels = np.asarray(logsnr, dtype=np.float64)
    generator = numpy_stream(seed, "privacy", "collapse")
    out = np.zeros((len(index), len(levels)))
    for _ in range(num_seeds):
        noise = generator.standard_normal((len(index), flat.shape[1])).astype(np.float32)
        with_noise = (noise @ flat.T).astype(np.float64)
        for j, level in enumerate(levels.tolist()):
            alpha, sigma = (float(v) for v in alpha_sigma(level))
            ratio = alpha / sigma
            logits = log_mass + ratio**2 * (inner - 0.5 * square) + ratio * with_noise
            logits -= logits.max(axis=1, keepdims=True)
            weight = np.exp(logits)
            out[:, j] += weight[np.arange(len(index)), index] / weight.sum(axis=1)
    return out / num_seeds


def predicted_collapse(
    points: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    rows: ArrayLike | None = None,
    source: str = "the training data",
    num_queries: int = 200,
    seed: int = 0,
) -> PredictedCollapse:
    """Where a perfect memory of the data returns 90 %, half and 10 % of some images.

    Args:
        points: Training images, shape ``(N, ...)``.
        weights: How often an epoch shows each, shape ``(N,)``.
        rows: Which images; some of all unless given.
        source: What the points are, for messages.
        num_queries: At most so many images are noised.
        seed: Seed.

    Returns:
        The times.
    """
    num = len(np.asarray(points))
    chosen = np.arange(num) if rows is None else np.asarray(rows, dtype=np.int64)
    if len(chosen) > num_queries:
        generator = numpy_stream(seed, "privacy", "queries")
        chosen = np.sort(generator.permutation(chosen)[:num_queries])
    t = np.geomspace(*_SPAN, _GRID)
    levels = logsnr_of_ou_time(t)
    seeds = max(1, min(8, num_queries // max(len(chosen), 1)))
    mean = return_weight(points, chosen, levels, weights=weights, num_seeds=seeds, seed=seed).mean(
        axis=0
    )
    curve = SampledCurve(logsnr=levels, value=mean, influence=None, scale=None)
    edges = []
    for value in (0.9, 0.5, 0.1):
        found = crossing(curve, value, confidence=0.95, is_monotone=True)
        edges.append(None if found.logsnr is None else float(ou_time(found.logsnr)))
    return PredictedCollapse(
        t_kept=edges[0],
        t_half=edges[1],
        t_lost=edges[2],
        num_points=num,
        source=source,
        reason=None if all(edge is not None for edge in edges) else "beyond the levels tried",
    )
