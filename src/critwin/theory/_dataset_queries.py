"""Which points of a data set are noised, and with which noise.

Points are drawn systematically with probability proportional to their weight, in an order that
keeps points of the same labels together: every label gets its share of the queries to within one,
and with as many queries as (equally weighted) points each point is drawn exactly once. A label
that would get fewer than a few queries is drawn more often, and weighted down again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critwin.streams import numpy_stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from critwin.theory._dataset_inputs import LabelColumn

    Array = NDArray[np.float64]

_FEWEST = 8  # queries that every label gets
CHUNK = 512  # queries whose noise comes from one stream


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """The queries of a prediction.

    Attributes:
        index: Point of every query, shape ``(Q,)``.
        weight: What each query counts; sums to 1, shape ``(Q,)``.
        is_census: Whether every point is drawn exactly in proportion to its weight, so that only
            the noise is random.
    """

    index: NDArray[np.int64]
    weight: Array
    is_census: bool


def plan_queries(law: Array, columns: Sequence[LabelColumn], num_queries: int, seed: int) -> Plan:
    """Draw the sources.

    Args:
        law: Probability of every point, shape ``(N,)``.
        columns: Label columns.
        num_queries: How many queries, about.
        seed: Seed of the drawing.

    Returns:
        The queries, in the order of the points.
    """
    size = law.copy()
    for column in columns:
        share = np.bincount(column.codes, weights=law)[column.codes]
        size = np.maximum(size, law * (_FEWEST / num_queries) / share)
    is_plain = bool(np.all(size == law))
    num = num_queries if is_plain else int(np.ceil(num_queries * size.sum()))
    rng = numpy_stream(seed, "dataset", "queries")
    order = rng.permutation(len(law))
    keys = [column.codes[order] for column in columns]
    order = order[np.lexsort(keys)]
    edges = np.cumsum(size[order])
    edges *= num / edges[-1]
    expected = np.diff(edges, prepend=0.0)
    is_census = is_plain and bool(np.all(np.abs(expected - np.rint(expected)) < 1e-6))
    if is_census:
        counts = np.rint(expected).astype(np.int64)
    else:
        ticks = np.arange(num) + rng.uniform()
        counts = np.bincount(
            np.minimum(np.searchsorted(edges, ticks, side="right"), len(law) - 1),
            minlength=len(law),
        )
    index = np.sort(np.repeat(order, counts))
    weight = law[index] / size[index]
    return Plan(index=index, weight=weight / weight.sum(), is_census=is_census)


def query_noise(seed: int, chunk: int, num_noises: int, num: int, dim: int) -> NDArray[np.float32]:
    """Standard normals of the queries of one chunk, shape ``(R, num, D)``.

    Args:
        seed: Seed of the noise.
        chunk: Number of the chunk of :data:`CHUNK` queries.
        num_noises: R.
        num: Queries of this chunk.
        dim: D.

    Returns:
        The normals; they depend neither on the levels nor on the shards.
    """
    out = np.empty((num_noises, num, dim), dtype=np.float32)
    for r in range(num_noises):
        numpy_stream(seed, "dataset", "noise", r, chunk).standard_normal(
            out=out[r], dtype=np.float32
        )
    return out
