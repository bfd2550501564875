r"""Partial statistics of the posterior over the points of a data set, and how they merge.

Of noisy queries ``y = alpha x + sigma z`` and points ``x_n`` the posterior needs

    ``logit_n = snr A_n + sqrt(snr) B_n`` and ``ln w_n``,
    ``A_n = <x, x_n> - |x_n|^2 / 2``,  ``B_n = <z, x_n>``,

so the two products serve every noise level. What is kept of a shard of the points is small: the
largest logit, and sums of ``exp(logit - largest)``. Two such statistics merge into that of both
shards, up to rounding in any order; merged in the same order they give the same bytes. A shard
can therefore live on another machine, and memory does not depend on the number of points.

The source itself is never summed: with it the posterior is known in closed form, and without it
(leave-one-out) nothing has to be subtracted.

Source: Biroli et al. (2024), sec. 2 (the empirical law); docs/theory/datasets.md, eqs. (2)-(5).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import log
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from critwin.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    Array = NDArray[np.float64]

__all__ = ["PointShard", "PosteriorSums", "Precision", "Queries", "merge_sums", "posterior_sums"]

Precision = Literal["float32", "float64"]
_NOTHING = -1e37  # peak of no points at all: finite, -inf less -inf would be NaN
# powers of two that a point counts at least: squares stay clear of subnormal numbers, which are
# many times slower, and a billion points add less than rounding does
_FLOORS = {torch.float32: -60.0, torch.float64: -1000.0}
_MOST_RUNS = 8  # runs of equal labels in a tile up to which adding beats a product of matrices
_LOG2_E = 1.0 / log(2.0)  # powers of two are cheaper than exponentials
_TILES = {"cpu": (512, 1024), "cuda": (2048, 16384)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Queries:
    """Sources to be noised, with the noise that every level shares.

    Attributes:
        points: The sources, shape ``(Q, D)``.
        normals: Standard normals, shape ``(R, Q, D)``: R noises of every source.
        index: Position of each source among all points of the data set, shape ``(Q,)``.
    """

    points: Tensor
    normals: Tensor
    index: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class PointShard:
    """Some of the points of a data set.

    Attributes:
        points: Shape ``(K, D)``; shifted like the sources, if those are shifted.
        start: Position of the first of them among all points.
        weights: Weight of each, e.g. how often it is repeated, shape ``(K,)``; None: all 1.
        one_hot: Columns of label indicators, shape ``(K, G)``, 0 or 1.
        gram: Products of these points with each other, shape ``(K, K)``, if all sources are among
            them and these products are at hand; None: they are taken as they are needed.
    """

    points: Tensor
    start: int
    weights: Tensor | None
    one_hot: Tensor
    gram: Tensor | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class PosteriorSums:
    """What a shard of the points contributes to the posterior of every query; the source left out.

    Attributes:
        peak: Largest logit less its ``ln w_n``, shape ``(L, R, Q)``.
        sums: Sums of ``w_n exp(logit_n - peak)`` over the points of each label, ``(L, R, Q, G)``.
        squares: Sums of the squares of the same, over all points, shape ``(L, R, Q)``.
        nearness: Largest ``A_n``, that is, of the nearest point, shape ``(Q,)``.
        nearest: Position of that point, shape ``(Q,)``; -1 if there is none.
    """

    peak: Array
    sums: Array
    squares: Array
    nearness: Array
    nearest: NDArray[np.int64]


def merge_sums(parts: Sequence[PosteriorSums]) -> PosteriorSums:
    """Statistics of several shards together, merged from left to right.

    Args:
        parts: Statistics of the same queries and levels on disjoint shards.

    Returns:
        The statistics of their union.

    Raises:
        InputError: If there is none, or they do not fit each other.
    """
    if not parts:
        raise InputError("no statistics to merge", wanted="at least one shard")
    if shapes := {part.sums.shape for part in parts[1:]} - {parts[0].sums.shape}:
        raise InputError(
            "statistics of different queries, levels or labels",
            got=shapes.pop(),
            wanted=str(parts[0].sums.shape),
        )
    return reduce(_merge, parts)


def posterior_sums(
    queries: Queries,
    shard: PointShard,
    logsnr: ArrayLike,
    *,
    dtype: Precision = "float32",
) -> PosteriorSums:
    """Partial statistics of one shard, on the device of its points.

    Args:
        queries: The noisy sources.
        shard: Some of the points.
        logsnr: Levels, shape ``(L,)``.
        dtype: Precision of products and exponentials; sums over tiles are float64.

    Returns:
        The statistics.

    Raises:
        InputError: If shapes do not fit.

    Source:
        docs/theory/datasets.md, eqs. (3) and (4).
    """
    snr = np.exp(np.asarray(logsnr, dtype=np.float64))
    num_noises, num, dim = queries.normals.shape
    if tuple(queries.points.shape) != (num, dim) or shard.points.shape[1] != dim:
        raise InputError(
            "queries and points do not fit",
            got=f"{tuple(queries.points.shape)} and {tuple(shard.points.shape)}",
            wanted=f"{dim} coordinates",
        )
    device, kind = shard.points.device, getattr(torch, dtype)
    num_labels = shard.one_hot.shape[1]
    tile = _TILES.get(device.type, _TILES["cuda"])[0]
    out = PosteriorSums(
        peak=np.empty((len(snr), num_noises, num)),
        sums=np.empty((len(snr), num_noises, num, num_labels)),
        squares=np.empty((len(snr), num_noises, num)),
        nearness=np.empty(num),
        nearest=np.empty(num, dtype=np.int64),
    )
    for a in range(0, num, tile):
        part = slice(a, a + tile)
        factors = [queries.points[None, part]] if shard.gram is None else []
        stacked = torch.cat([*factors, queries.normals[:, part]]).to(device, kind)
        peak, sums, squares, near, where = _tile_row(
            stacked, num_noises, queries.index[part].to(device), shard, snr
        )
        out.peak[:, :, part] = peak.cpu().numpy()
        out.sums[:, :, part] = sums.movedim(2, 3).cpu().numpy()
        out.squares[:, :, part] = squares.cpu().numpy()
        out.nearness[part] = near.cpu().numpy()
        out.nearest[part] = where.cpu().numpy()
    return out


def _tile_row(
    stacked: Tensor, num_noises: int, index: Tensor, shard: PointShard, snr: Array
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """All points of a shard against one tile of queries, tile by tile, in float64 across tiles."""
    num = stacked.shape[1]
    device, kind = stacked.device, stacked.dtype
    size = (len(snr), num_noises, num)
    peak = torch.full(size, _NOTHING, dtype=torch.float64, device=device)
    squares = torch.zeros(size, dtype=torch.float64, device=device)
    num_labels = shard.one_hot.shape[1]
    sums = torch.zeros((*size[:2], num_labels, num), dtype=torch.float64, device=device)
    near = torch.full((num,), _NOTHING, dtype=torch.float64, device=device)
    where = torch.full((num,), -1, dtype=torch.int64, device=device)
    tile_peak = torch.empty(size, dtype=kind, device=device)
    tile_squares = torch.empty(size, dtype=kind, device=device)
    tile_sums = torch.empty(sums.shape, dtype=kind, device=device)
    flat = stacked.reshape(-1, stacked.shape[2])
    rows = torch.arange(num, device=device)
    step, floor = _TILES.get(device.type, _TILES["cuda"])[1], _FLOORS[kind]
    for b in range(0, len(shard.points), step):
        points = shard.points[b : b + step].to(kind)
        one_hot = shard.one_hot[b : b + step].to(kind).T.contiguous()
        weights = None if shard.weights is None else shard.weights[b : b + step].to(kind)
        runs = _runs(shard.one_hot[b : b + step])
        starts = np.cumsum([0, *runs[:-1]]).tolist() if runs is not None else []
        product = (flat @ points.T).reshape(-1, num, len(points))
        if shard.gram is None:
            closeness = product[0].sub_(0.5 * (points**2).sum(dim=1))
        else:
            known = shard.gram[index - shard.start, b : b + step]
            closeness = known.sub_(0.5 * (points**2).sum(dim=1))
        own = index - (shard.start + b)
        has_own = (own >= 0) & (own < len(points))
        closeness[rows[has_own], own[has_own]] = -torch.inf
        best, which = closeness.max(dim=1)
        is_nearer = best.to(torch.float64) > near
        near = torch.where(is_nearer, best.to(torch.float64), near)
        where = torch.where(is_nearer, which + (shard.start + b), where)
        work = torch.empty_like(closeness)
        for r in range(num_noises):
            for level, ratio in enumerate(snr.tolist()):
                # sqrt(snr) (B + sqrt(snr) A), less its peak; 2^floor is next to nothing, and
                # rounding of huge logits must not lift one above the peak
                scale = ratio**0.5
                torch.add(product[r - num_noises], closeness, alpha=scale, out=work)
                top = work.amax(dim=1).clamp_(min=_NOTHING / max(scale, 1.0)).mul_(scale)
                torch.add(top[:, None] * -_LOG2_E, work, alpha=scale * _LOG2_E, out=work)
                work.clamp_(min=floor, max=0.0).exp2_()
                if weights is not None:
                    work.mul_(weights)
                tile_peak[level, r] = top
                if runs is None:
                    torch.matmul(one_hot, work.T, out=tile_sums[level, r])
                else:
                    parts = torch.split(work, runs, dim=1)
                    of_run = torch.stack([part.sum(dim=1) for part in parts])
                    torch.matmul(one_hot[:, starts], of_run, out=tile_sums[level, r])
                tile_squares[level, r] = torch.linalg.vector_norm(work, dim=1)
        if len(points) == 1:  # the source alone is no point
            tile_sums.mul_(~has_own)
            tile_squares.mul_(~has_own)
        high = torch.maximum(peak, tile_peak.to(torch.float64))
        old, new = torch.exp(peak - high), torch.exp(tile_peak.to(torch.float64) - high)
        sums.mul_(old[:, :, None]).add_(tile_sums.to(torch.float64).mul_(new[:, :, None]))
        squares.mul_(old**2).add_((tile_squares.to(torch.float64) * new) ** 2)
        peak = high
    return peak, sums, squares, near, where


def _runs(one_hot: Tensor) -> list[int] | None:
    """Lengths of the runs of points with the same labels; None if there are many."""
    changes = (one_hot[1:] != one_hot[:-1]).any(dim=1).nonzero()[:, 0].tolist()
    edges = [0, *(change + 1 for change in changes), len(one_hot)]
    return np.diff(edges).tolist() if len(edges) <= _MOST_RUNS + 1 else None


def _merge(a: PosteriorSums, b: PosteriorSums) -> PosteriorSums:
    peak = np.maximum(a.peak, b.peak)
    left, right = np.exp(a.peak - peak), np.exp(b.peak - peak)
    is_nearer = b.nearness > a.nearness
    return PosteriorSums(
        peak=peak,
        sums=a.sums * left[..., None] + b.sums * right[..., None],
        squares=a.squares * left**2 + b.squares * right**2,
        nearness=np.where(is_nearer, b.nearness, a.nearness),
        nearest=np.where(is_nearer, b.nearest, a.nearest),
    )
