r"""Pairs of noised Gaussian components in the coordinates where one of them is ``N(0, I)``.

With eigenvectors ``U_i`` and noised variances ``N_i = alpha^2 e_i + sigma^2`` the variances of P
in the frame of Q are the squared singular values of ``N_i^{1/2} U_i^T U_j N_j^{-1/2}``: nothing
is inverted, and ``U_i^T U_j`` is shared by all levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from critwin.levels import alpha_sigma
from critwin.theory._gaussian_tv import Pairs, equal_covariance_overlap, log_affinity, overlap
from critwin.theory._tables import check_levels, without_points
from critwin.theory.mixtures import GaussianMixture

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["Noised"]

_MAX_ELEMENTS = 1 << 21
_MAX_MEANS = 1 << 24  # elements of all differences of means, beyond which the Gram matrix is used


class Noised:
    """The components of a mixture at several levels.

    Attributes:
        mixture: The mixture, points widened so that every level has a density.
        logsnr: Levels, shape ``(L,)``.
        alpha: Signal scales, shape ``(L,)``.
        sigma: Noise standard deviations, shape ``(L,)``.
    """

    def __init__(self, mixture: GaussianMixture, logsnr: ArrayLike) -> None:
        self.logsnr = check_levels(logsnr)
        self.mixture = without_points(mixture)
        self.alpha, self.sigma = alpha_sigma(self.logsnr)
        self.eigenvalues = self.mixture.eigenvalues.numpy()
        self.means = self.mixture.means.numpy()
        self.axes = None if self.mixture.axes is None else self.mixture.axes.numpy()
        self._separation: Array | None = None

    def variances(self, k: int) -> Array:
        """Noised eigenvalues of component k, shape ``(L, D or 1)``."""
        row = self.eigenvalues[0 if self.mixture.is_shared else k]
        return np.asarray(self.alpha[:, None] ** 2 * row + self.sigma[:, None] ** 2)

    def separation(self) -> Array:
        """``k = (alpha/2) |Sigma_t^{-1/2} (mu_i - mu_j)|`` of equal covariances, ``(L, K, K)``."""
        if self._separation is None:
            self._separation = self._equal_separation()
        return self._separation

    def _equal_separation(self) -> Array:
        means = self.means - self.means.mean(axis=0)
        if self.axes is not None:
            means = means @ self.axes[0]
        inverse = 1.0 / self.variances(0)
        num, dim = means.shape
        if inverse.shape[1] == 1:  # one matrix of distances serves all levels
            square = inverse[:, 0, None, None] * _squares(means, np.ones((1, dim)))
        else:
            square = _squares(means, inverse)
        return np.asarray(0.5 * self.alpha[:, None, None] * np.sqrt(square)).reshape(-1, num, num)

    def overlaps(self, first: Sequence[int], second: Sequence[int], log_odds: Array) -> Array:
        """``∫ min(P_i, c Q_j)`` at every level for pairs of components.

        Args:
            first: Indices i of M pairs.
            second: Indices j.
            log_odds: Logarithms of c, shape ``(M,)``.

        Returns:
            Shape ``(L, M)``.
        """
        zero = np.zeros_like(log_odds)
        if self.mixture.is_shared:
            k = self.separation()[:, list(first), list(second)]
            return equal_covariance_overlap(k, zero, log_odds)

        def of(pairs: Pairs, which: NDArray[np.int64]) -> Array:
            return overlap(pairs, zero[which], log_odds[which])

        return self.each_pair(first, second, of)

    def log_affinities(self, first: Sequence[int], second: Sequence[int]) -> Array:
        """Logarithm of the Hellinger affinities, shape ``(L, M)``."""
        if self.mixture.is_shared:
            return np.asarray(-0.5 * self.separation()[:, list(first), list(second)] ** 2)
        return self.each_pair(first, second, lambda pairs, _: log_affinity(pairs))

    def each_pair(
        self,
        first: Sequence[int],
        second: Sequence[int],
        function: Callable[[Pairs, NDArray[np.int64]], Array],
    ) -> Array:
        """A function of pairs, evaluated in batches of bounded size; shape ``(L, M)``."""
        num_levels = len(self.alpha)
        width = 1 if self.mixture.kind == "isotropic" else self.mixture.dim
        size = max(1, _MAX_ELEMENTS // (num_levels * width))
        result = np.empty((num_levels, len(first)))
        for start in range(0, len(first), size):
            stop = min(start + size, len(first))
            each = list(self._frames(first[start:stop], second[start:stop]))
            pairs = Pairs(
                np.concatenate([p.ratio for p in each]),
                np.concatenate([p.square for p in each]),
                each[0].copies,
            )
            which = np.repeat(np.arange(start, stop), num_levels)
            result[:, start:stop] = function(pairs, which).reshape(stop - start, num_levels).T
        return result

    def _frames(self, first: Sequence[int], second: Sequence[int]) -> Iterator[Pairs]:
        """The frame of every pair at all levels, Pairs of ``L`` rows."""
        for i, j in zip(first, second, strict=True):
            p_var, q_var = self.variances(i), self.variances(j)
            delta = self.means[i] - self.means[j]
            if self.axes is None and p_var.shape[1] == 1 and self.mixture.dim > 1:
                square = self.alpha[:, None] ** 2 * (delta @ delta) / q_var
                yield Pairs(p_var / q_var, square, np.array([float(self.mixture.dim)]))
            elif self.axes is None:
                square = (self.alpha[:, None] * delta) ** 2 / q_var
                yield Pairs(p_var / q_var, square, np.ones(self.mixture.dim))
            else:
                yield self._general(i, j, p_var, q_var, delta)

    def _general(self, i: int, j: int, p_var: Array, q_var: Array, delta: Array) -> Pairs:
        assert self.axes is not None
        p_axes, q_axes = (self.axes[0 if self.mixture.is_shared else k] for k in (i, j))
        turn = p_axes.T @ q_axes
        local = delta @ q_axes
        ratio, square = np.empty_like(p_var), np.empty_like(p_var)
        for level, (p, q) in enumerate(zip(p_var, q_var, strict=True)):
            factor = np.sqrt(p)[:, None] * turn / np.sqrt(q)
            _, singular, right = np.linalg.svd(factor)
            ratio[level] = singular**2
            square[level] = (right @ (self.alpha[level] * local / np.sqrt(q))) ** 2
        return Pairs(ratio, square, np.ones(self.mixture.dim))

    def bures_square(self, i: int, j: int) -> Array:
        """Squared Wasserstein-2 distance of two noised components, shape ``(L,)``."""
        delta = self.means[i] - self.means[j]
        result = self.alpha**2 * float(delta @ delta)
        if self.mixture.is_shared:
            return np.asarray(result)
        p_sd, q_sd = np.sqrt(self.variances(i)), np.sqrt(self.variances(j))
        if self.axes is None:
            count = self.mixture.dim if p_sd.shape[1] == 1 else 1
            return np.asarray(result + count * ((p_sd - q_sd) ** 2).sum(axis=1))
        turn = self.axes[i].T @ self.axes[j]
        for level, (p, q) in enumerate(zip(p_sd, q_sd, strict=True)):
            cross = np.linalg.svd(p[:, None] * turn * q, compute_uv=False).sum()
            # tr(S_i) + tr(S_j) - 2 tr((S_i^{1/2} S_j S_i^{1/2})^{1/2})
            result[level] += max(float((p**2).sum() + (q**2).sum() - 2.0 * cross), 0.0)
        return np.asarray(result)


def _squares(means: Array, inverse: Array) -> Array:
    """``sum_d inverse[l, d] (m_i - m_j)_d^2``, shape ``(L, K, K)``."""
    num, dim = means.shape
    result = np.empty((len(inverse), num, num))
    if num * num * dim <= _MAX_MEANS:
        for i in range(num):
            result[:, i] = inverse @ ((means[i] - means) ** 2).T
        return result
    for level, row in enumerate(inverse):  # a large problem: matrix products instead
        gram = (means * row) @ means.T
        norm = np.diagonal(gram)
        result[level] = np.maximum(norm[:, None] + norm - 2.0 * gram, 0.0)
        np.fill_diagonal(result[level], 0.0)
    return result
