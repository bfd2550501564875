"""Averages over queries, with standard errors: rows of a transition table, and plain means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


class RowAverage:
    """Weighted mean of vectors in each of some groups, query block after query block.

    The standard error takes queries for independent draws (linearised, with weights), which is
    too large where they are not (every point drawn once: only its noise is random); then, with
    several noises a query, it is that of the noise alone. Half a query is added either way: what
    none of n queries has shown may still be in one of 2 n.

    Args:
        num_groups: I.
        shape: Shape of what is averaged, ``(L, J)``.
    """

    def __init__(self, num_groups: int, shape: tuple[int, int]) -> None:
        full = (shape[0], num_groups, shape[1])
        self._count = np.zeros(num_groups)
        self._w1, self._w2 = np.zeros(num_groups), np.zeros(num_groups)
        self._mean, self._first, self._second = (np.zeros(full) for _ in range(3))
        self._within = np.zeros(full)
        self._num_noises = 1

    def add(self, values: Array, groups: NDArray[np.int64], weight: Array) -> None:
        """Add a block.

        Args:
            values: Shape ``(L, R, Q, J)``.
            groups: Group of each query, shape ``(Q,)``.
            weight: Weight of each query, shape ``(Q,)``.
        """
        num_noises = self._num_noises = values.shape[1]
        mean = values.mean(axis=1)
        member = (groups == np.arange(len(self._count))[:, None]).astype(np.float64)
        linear, square = member * weight, member * weight**2
        self._count += member.sum(axis=1)
        self._w1 += linear.sum(axis=1)
        self._w2 += square.sum(axis=1)
        self._mean += linear @ mean
        self._first += square @ mean
        self._second += square @ mean**2
        if num_noises > 1:
            self._within += square @ (values.var(axis=1, ddof=1) / num_noises)

    def mean(self) -> Array:
        """Shape ``(L, I, J)``."""
        return np.asarray(self._mean / self._w1[:, None])

    def stderr(self, *, is_census: bool) -> Array:
        """Standard errors, shape ``(L, I, J)``.

        Args:
            is_census: Whether all points are queries in proportion to their weights.
        """
        mean = self.mean()
        w1, w2 = self._w1[:, None], self._w2[:, None]
        floor = 0.5 * w2 / w1**2  # half of one query's share
        if is_census and self._num_noises > 1:
            floor = floor / self._num_noises
            return np.asarray(np.sqrt(self._within / w1**2 + floor**2))
        spread = np.maximum(self._second - 2 * mean * self._first + mean**2 * w2, 0.0)
        n = self._count[:, None]
        # a single query tells no spread: that of a proportion, half a hit and half a miss added
        guess = (mean + 0.5) / 2.0
        lone = w2 * guess * (1.0 - guess)
        spread = np.where(n > 1, spread * n / np.maximum(n - 1, 1), lone)
        return np.asarray(np.sqrt(spread / w1**2 + floor**2))
