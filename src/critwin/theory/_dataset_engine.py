"""Queries against shards, block after block: the averages that tables and curves are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from critwin.theory._dataset_pool import in_order
from critwin.theory._dataset_queries import CHUNK, Plan, query_noise
from critwin.theory._dataset_rows import RowAverage
from critwin.theory.dataset_sums import (
    PointShard,
    PosteriorSums,
    Precision,
    Queries,
    merge_sums,
    posterior_sums,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from critwin.theory._dataset_inputs import LabelColumn, PointSet

    Array = NDArray[np.float64]

_CACHE_BYTES = 1 << 30
_GRAM_ROWS = 1024
_NUM_CHECKED = 8  # queries of the first and of the last block recomputed in float64
_CHUNKS = {"cpu": 1, "cuda": 8}


@dataclass(frozen=True, eq=False, kw_only=True)
class Averages:
    """Means over queries, each with its standard error.

    Attributes:
        among: Per column, rows with the source among the points, each ``(L, J, J)``.
        without: Per column, rows without it.
        agreement: Per column, agreement of nearest neighbours.
        collapse: Source weight, same point, entropy: ``(L, 3)``.
        num_queries: Q.
        float32_error: Largest difference from float64 on some queries, None in float64.
    """

    among: list[tuple[Array, Array]]
    without: list[tuple[Array, Array]]
    agreement: list[float]
    collapse: tuple[Array, Array]
    num_queries: int
    float32_error: float | None


def average(
    points: PointSet,
    columns: Sequence[LabelColumn],
    levels: Array,
    plan: Plan,
    *,
    num_noises: int,
    seed: int,
    shard_size: int,
    device: torch.device,
    dtype: Precision,
) -> Averages:
    """Average the posteriors of all queries; memory does not grow with their number.

    Args:
        points: The points.
        columns: Their labels.
        levels: Logsnr.
        plan: The queries.
        num_noises: Noises of each.
        seed: Seed of the noise.
        shard_size: Points looked at in one go.
        device: Where.
        dtype: Precision of the products.

    Returns:
        The averages.
    """
    store = _Store(points, columns, shard_size, device)
    sizes = [len(column.labels) for column in columns]
    among = [RowAverage(size, (len(levels), size)) for size in sizes]
    without = [RowAverage(size, (len(levels), size)) for size in sizes]
    collapse = RowAverage(1, (len(levels), 3))
    agreement = np.zeros(len(columns))
    checks: list[_Check] = []
    num, dim = len(plan.index), points.points.shape[1]
    if dtype == "float32":
        store.prepare(num)
    block = CHUNK * _CHUNKS.get(device.type, 1)

    def work(a: int) -> tuple[NDArray[np.float32], _Posterior]:
        normals = np.concatenate(
            [
                query_noise(seed, b // CHUNK, num_noises, min(CHUNK, num - b), dim)
                for b in range(a, min(a + block, num), CHUNK)
            ],
            axis=1,
        )
        return normals, _posterior(store, plan.index[a : a + block], normals, levels, dtype)

    starts = range(0, num, block)
    for a, (normals, posterior) in zip(starts, in_order(work, starts, device), strict=True):
        index, weight = plan.index[a : a + block], plan.weight[a : a + block]
        for k, (column, part) in enumerate(zip(columns, store.parts, strict=True)):
            own = column.codes[index]
            among[k].add(posterior.among[..., part], own, weight)
            without[k].add(posterior.without[..., part], own, weight)
            agreement[k] += weight @ (column.codes[posterior.nearest] == own)
        collapse.add(posterior.collapse, np.zeros(len(index), dtype=np.int64), weight)
        if dtype == "float32" and (a == 0 or a + block >= num):
            checked = np.linspace(0, len(index) - 1, min(_NUM_CHECKED, len(index))).astype(int)
            checks.append(
                _Check(
                    index=index[checked],
                    normals=normals[:, checked],
                    among=posterior.among[:, :, checked],
                    without=posterior.without[:, :, checked],
                )
            )
    census = plan.is_census
    return Averages(
        among=[(row.mean(), row.stderr(is_census=census)) for row in among],
        without=[(row.mean(), row.stderr(is_census=census)) for row in without],
        agreement=[float(min(value, 1.0)) for value in agreement],
        collapse=(collapse.mean()[:, 0], collapse.stderr(is_census=census)[:, 0]),
        num_queries=num,
        float32_error=_largest_error(store, checks, levels) if checks else None,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Check:
    """Queries to compute again in float64, and what float32 made of them."""

    index: NDArray[np.int64]
    normals: NDArray[np.float32]
    among: Array
    without: Array


def _largest_error(store: _Store, checks: Sequence[_Check], levels: Array) -> float:
    index = np.concatenate([check.index for check in checks])
    normals = np.concatenate([check.normals for check in checks], axis=1)
    exact = _posterior(store, index, normals, levels, "float64")
    among = np.concatenate([check.among for check in checks], axis=2)
    without = np.concatenate([check.without for check in checks], axis=2)
    gaps = (exact.among - among, exact.without - without)
    return max(float(np.abs(gap).max()) for gap in gaps)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Posterior:
    among: Array  # (L, R, Q, G), label probabilities
    without: Array  # (L, R, Q, G), without the source
    collapse: Array  # (L, R, Q, 3)
    nearest: NDArray[np.int64]  # (Q,)


def _posterior(
    store: _Store,
    index: NDArray[np.int64],
    normals: NDArray[np.float32],
    levels: Array,
    dtype: Precision,
) -> _Posterior:
    varying = store.points.varying
    centred, normals = store.points.centred(index)[:, varying], normals[..., varying]
    queries = Queries(
        points=torch.from_numpy(centred.astype(dtype)),
        normals=torch.from_numpy(normals.astype(dtype)),
        index=torch.from_numpy(store.rank[index]),
    )
    found = merge_sums(
        [posterior_sums(queries, shard, levels, dtype=dtype) for shard in store.shards(dtype)]
    )
    return _with_source(store, found, centred, normals, index, levels)


def _with_source(
    store: _Store,
    found: PosteriorSums,
    centred: Array,
    normals: NDArray[np.float32],
    index: NDArray[np.int64],
    levels: Array,
) -> _Posterior:
    """The posterior without the source, and with it, whose logit is known in closed form."""
    snr = np.exp(levels)[:, None, None]
    half = 0.5 * np.einsum("qd,qd->q", centred, centred)
    along = np.einsum("rqd,qd->rq", normals, centred, dtype=np.float64)
    own = snr * half + np.sqrt(snr) * along
    if store.points.weights is not None:
        own = own + np.log(store.points.weights[index])
    total = found.sums[..., store.parts[0]].sum(axis=-1)
    others = found.peak + np.log(total)
    both = np.logaddexp(others, own)
    source = np.exp(own - both)
    scale = np.exp(found.peak - both)
    among = found.sums * scale[..., None]
    for column, part in zip(store.columns, store.parts, strict=True):
        place = part.start + column.codes[index]
        among[:, :, np.arange(len(index)), place] += source
    same = found.squares * scale**2 + source**2
    # ln(1 + others / own), without the cancellation of a weight near 1
    surprise = np.logaddexp(0.0, others - own)
    return _Posterior(
        among=among,
        without=found.sums / total[..., None],
        collapse=np.stack([source, same, surprise], axis=-1),
        nearest=store.order[found.nearest],
    )


def _gram(points: torch.Tensor) -> torch.Tensor:
    """All products, each taken once."""
    num = len(points)
    out = torch.empty((num, num), dtype=points.dtype)
    for a in range(0, num, _GRAM_ROWS):
        b = min(a + _GRAM_ROWS, num)
        out[a:b, a:] = points[a:b] @ points[a:].T
        out[b:, a:b] = out[a:b, b:].T
    return out


class _Store:
    """Centred shards of the points on their device, kept if they are small enough.

    Points with the same labels stand together, which makes sums over labels cheap.
    """

    def __init__(
        self,
        points: PointSet,
        columns: Sequence[LabelColumn],
        shard_size: int,
        device: torch.device,
    ) -> None:
        self.points, self.columns = points, columns
        self._size, self._device = shard_size, device
        ends = np.cumsum([len(column.labels) for column in columns]).tolist()
        self.parts = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        self._num_labels = ends[-1]
        self.order = np.lexsort([column.codes for column in reversed(columns)])
        self.rank = np.empty_like(self.order)
        self.rank[self.order] = np.arange(len(self.order))
        is_small = 4 * points.points.size <= _CACHE_BYTES
        self._kept = [self._make(a, "float32") for a in self._starts()] if is_small else None

    def prepare(self, num_queries: int) -> None:
        """Take the products of all points with each other once, if most of them are queries."""
        if self._kept is None or len(self._kept) > 1 or self._device.type != "cpu":
            return
        (shard,) = self._kept
        if 2 * num_queries >= len(shard.points):
            self._kept = [replace(shard, gram=_gram(shard.points))]

    def _starts(self) -> range:
        return range(0, len(self.points.points), self._size)

    def shards(self, dtype: Precision) -> Iterator[PointShard]:
        """All shards in order."""
        if dtype == "float32" and self._kept is not None:
            yield from self._kept
            return
        for start in self._starts():
            yield self._make(start, dtype)

    def _make(self, start: int, dtype: Precision) -> PointShard:
        rows = self.order[start : start + self._size]
        part = torch.from_numpy(self.points.centred(rows, dtype)[:, self.points.varying])
        one_hot = torch.zeros((len(part), self._num_labels), dtype=torch.float32)
        for column, place in zip(self.columns, self.parts, strict=True):
            codes = torch.from_numpy(column.codes[rows])
            one_hot[torch.arange(len(part)), place.start + codes] = 1.0
        weights = self.points.weights
        return PointShard(
            points=part.to(self._device),
            start=start,
            weights=None if weights is None else torch.from_numpy(weights[rows]).to(self._device),
            one_hot=one_hot.to(self._device),
        )
