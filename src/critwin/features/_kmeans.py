"""k-means: few lines, exactly the same result in whatever order the points come."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from critwin.errors import InputError
from critwin.streams import numpy_stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Partition", "choose_partition", "partition", "silhouette"]

_NUM_STARTS = 10
_MAX_STEPS = 300
_MAX_SILHOUETTE = 2000


class Partition(NamedTuple):
    """Points in clusters, the largest first, ties by the centre's coordinates."""

    centres: NDArray[np.float64]  # (K, D)
    members: NDArray[np.int64]  # (N,), cluster of each point
    inertia: float  # sum of squared distances to the own centre


def partition(points: NDArray[np.float64], num: int, seed: int) -> Partition:
    """Lloyd's algorithm from ten k-means++ starts, the best of them.

    Args:
        points: Shape ``(N, D)``.
        num: Number of clusters K.
        seed: Seed of the stream of the starts.

    Returns:
        The clusters.

    Raises:
        InputError: If there are fewer than K different points.

    Source:
        Arthur & Vassilvitskii (2007), *k-means++: the advantages of careful seeding*, sec. 2.2.
    """
    # sorted, so that neither the draws nor the rounding of sums depend on the order
    order = np.lexsort(points.T[::-1])
    data = points[order]
    if len(np.unique(data, axis=0)) < num:
        raise InputError(
            "fewer different images than clusters",
            got=len(np.unique(data, axis=0)),
            wanted=f"at least {num}",
        )
    best: Partition | None = None
    for start in range(_NUM_STARTS):
        rng = numpy_stream(seed, "clusters", num, start)
        found = _lloyd(data, _starts(data, num, rng))
        if best is None or found.inertia < best.inertia * (1 - 1e-12):
            best = found
    assert best is not None  # there is at least one start
    counts = np.bincount(best.members, minlength=num)
    ranked = np.lexsort((*best.centres.T[::-1], -counts))
    rank = np.argsort(ranked)
    members = np.empty(len(points), dtype=np.int64)
    members[order] = rank[best.members]
    return Partition(best.centres[ranked], members, best.inertia)


def choose_partition(points: NDArray[np.float64], largest: int, seed: int) -> Partition:
    """The partition of 2 to ``largest`` clusters with the largest mean silhouette.

    Args:
        points: Shape ``(N, D)``.
        largest: Largest number of clusters.
        seed: Seed of the streams.

    Returns:
        The clusters; the fewer where two are equal.

    Raises:
        InputError: If there are fewer than two different points.
    """
    most = min(largest, len(np.unique(points, axis=0)))
    tried = [partition(points, num, seed) for num in range(2, max(most, 2) + 1)]
    widths = [silhouette(points, found.members) for found in tried]
    return tried[int(np.argmax(widths))]


def silhouette(points: NDArray[np.float64], members: NDArray[np.int64]) -> float:
    """Mean silhouette of at most 2,000 points, spread evenly over them.

    Args:
        points: Shape ``(N, D)``.
        members: Cluster of each point, shape ``(N,)``.

    Returns:
        A number in ``[-1, 1]``: near 1 for clusters far apart, near 0 for none.

    Source:
        Rousseeuw (1987), *Silhouettes*, sec. 2.
    """
    if len(points) > _MAX_SILHOUETTE:
        order = np.lexsort(points.T[::-1])
        chosen = order[np.linspace(0, len(points) - 1, _MAX_SILHOUETTE).astype(np.int64)]
        points, members = points[chosen], members[chosen]
    away = cdist(points, points)
    counts = np.bincount(members)
    sums = np.stack([away[:, members == k].sum(axis=1) for k in range(len(counts))], axis=1)
    rows = np.arange(len(points))
    own = counts[members]
    with np.errstate(invalid="ignore", divide="ignore"):
        inner = sums[rows, members] / (own - 1)
        others = sums / counts
    others[rows, members] = np.inf
    others[:, counts == 0] = np.inf
    outer = others.min(axis=1)
    largest = np.maximum(inner, outer)
    width = np.divide(outer - inner, largest, out=np.zeros(len(points)), where=largest > 0)
    return float(np.where(own > 1, width, 0.0).mean())


def _starts(data: NDArray[np.float64], num: int, rng: np.random.Generator) -> NDArray[np.float64]:
    chosen = [int(rng.integers(len(data)))]
    for _ in range(num - 1):
        near = cdist(data, data[chosen], "sqeuclidean").min(axis=1)
        total = np.cumsum(near)
        chosen.append(int(np.searchsorted(total, rng.random() * total[-1], side="right")))
    return data[chosen]


def _lloyd(data: NDArray[np.float64], centres: NDArray[np.float64]) -> Partition:
    members = np.full(len(data), -1)
    for _ in range(_MAX_STEPS):
        away = cdist(data, centres, "sqeuclidean")
        new = away.argmin(axis=1)
        for k in range(len(centres)):
            if not np.any(new == k):  # an empty cluster takes the point that lies worst
                worst = int(away[np.arange(len(data)), new].argmax())
                new[worst], away[worst] = k, 0.0
        if np.array_equal(new, members):
            break
        members = new
        centres = np.stack([data[members == k].mean(axis=0) for k in range(len(centres))])
    inertia = float(((data - centres[members]) ** 2).sum())
    return Partition(centres, members, inertia)
