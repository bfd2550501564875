"""Baselines that never see the model: can members be told from non-members by their looks alone?

If they can, the two sets differ in more than membership, and no attack on these sets says
anything about the model (Das, Zhang & Tramèr 2024, *Blind baselines beat membership inference
attacks for foundation models*). Everything is cross-fitted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from critwin.audits._scores import Scores
from critwin.audits.membership import LEARNT, Attack, cross_fitted

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
    Mask = NDArray[np.bool_]

__all__ = ["blind_attacks", "pixel_statistics"]

_GRID = 6
_NEIGHBOURS = 32  # side of the images that neighbours are sought among
_CHUNK = 512
_MOST = 128  # coordinates of a point


def pixel_statistics(images: ArrayLike) -> Array:
    """Plain statistics of images: a coarse picture, spread, edges, rounding of the values.

    Args:
        images: Shape ``(N, C, H, W)``, or points, shape ``(N, D)``.

    Returns:
        Shape ``(N, F)``; of points, the points (means of neighbouring coordinates if there are
        many) and their squared length.
    """
    array = np.asarray(images, dtype=np.float64)
    if array.ndim == 2:
        square = np.sum(array**2, axis=1, keepdims=True)
        if array.shape[1] > _MOST:
            cuts = np.linspace(0, array.shape[1], _MOST + 1).astype(int)
            array = np.add.reduceat(array, cuts[:-1], axis=1) / np.diff(cuts)
        return np.concatenate([array, square], axis=1)
    num = len(array)
    small = pooled(array, _GRID).reshape(num, -1)
    spread = array.std(axis=(2, 3))
    edges = [
        np.abs(np.diff(array, n=order, axis=axis)).mean(axis=(2, 3))
        for axis in (2, 3)
        for order in (1, 2)
        if array.shape[axis] > order
    ]
    extremes = [array.min(axis=(2, 3)), array.max(axis=(2, 3))]
    steps = np.abs(array * 255.0 - np.rint(array * 255.0)).mean(axis=(1, 2, 3))[:, None]
    return np.concatenate([small, spread, *edges, *extremes, steps], axis=1)


def blind_attacks(
    images: ArrayLike, is_member: Mask, halves: NDArray[np.int64], *, confidence: float = 0.95
) -> list[Attack]:
    """Attacks without the model, cross-fitted like the others.

    Args:
        images: Shape ``(N, C, H, W)`` or ``(N, D)``.
        is_member: Shape ``(N,)``.
        halves: From :func:`critwin.audits.membership.halves_of`.
        confidence: Of both intervals together.

    Returns:
        A linear classifier on pixel statistics, and the nearest neighbours of either class.
    """
    array = np.asarray(images, dtype=np.float32)
    tables = {
        "blind: pixel statistics": _linear(pixel_statistics(array), is_member, halves),
        "blind: nearest neighbours": _nearest(_flat(array), is_member, halves),
    }
    return [
        cross_fitted(
            Scores(
                kind=kind,
                logsnr=np.full(1, np.nan),
                values=column[:, None, None],
                evaluations=np.zeros(1),
            ),
            is_member,
            halves,
            confidence=1.0 - (1.0 - confidence) / len(tables),
            inflation=LEARNT,
        )
        for kind, column in tables.items()
    ]


def pooled(array: Array, side: int) -> Array:
    """Means over the cells of a grid, shape ``(N, C, side, side)`` or smaller."""
    cuts = [np.linspace(0, n, min(side, n) + 1).astype(int)[:-1] for n in array.shape[2:]]
    sums = np.add.reduceat(np.add.reduceat(array, cuts[0], axis=2), cuts[1], axis=3)
    counts = [np.diff(np.append(c, n)) for c, n in zip(cuts, array.shape[2:], strict=True)]
    return np.asarray(sums / (counts[0][:, None] * counts[1][None, :]))


def _flat(array: NDArray[np.float32]) -> NDArray[np.float32]:
    if array.ndim == 4 and max(array.shape[2:]) > _NEIGHBOURS:
        array = pooled(array.astype(np.float64), _NEIGHBOURS).astype(np.float32)
    return array.reshape(len(array), -1)


def _linear(design: Array, is_member: Mask, halves: NDArray[np.int64]) -> Array:
    """Fisher's discriminant with ridge, learnt on the other half."""
    out = np.zeros(len(design))
    for half in (0, 1):
        learn, row = halves != half, halves == half
        x = (design - design[learn].mean(axis=0)) / (design[learn].std(axis=0) + 1e-9)
        inside, outside = x[learn & is_member], x[learn & ~is_member]
        centred = np.concatenate([inside - inside.mean(axis=0), outside - outside.mean(axis=0)])
        covariance = centred.T @ centred / len(centred) + 0.1 * np.eye(x.shape[1])
        weights = np.linalg.solve(covariance, inside.mean(axis=0) - outside.mean(axis=0))
        out[row] = np.clip(x[row], -10.0, 10.0) @ weights
    return out


def _nearest(flat: NDArray[np.float32], is_member: Mask, halves: NDArray[np.int64]) -> Array:
    """How much nearer the nearest member of the other half is than its nearest non-member."""
    out = np.zeros(len(flat))
    square = np.einsum("nd,nd->n", flat, flat)
    for half in (0, 1):
        sides = [np.flatnonzero((halves != half) & side) for side in (is_member, ~is_member)]
        size = min(len(side) for side in sides)  # as many of either: more would be nearer
        sides = [side[:size] for side in sides]
        rows = np.flatnonzero(halves == half)
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            near = [
                np.sqrt(
                    np.maximum(
                        square[part][:, None] + square[side] - 2 * flat[part] @ flat[side].T, 0.0
                    ).min(axis=1)
                )
                for side in sides
            ]
            out[part] = near[1] - near[0]
    return out
