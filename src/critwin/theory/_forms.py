r"""Posteriors of Gaussian components of any covariance, all noise levels at once.

In the axes of component j the noised covariance is diagonal, ``v = alpha^2 lambda_j + sigma^2``.
With ``y = alpha x + sigma z``, ``a`` and ``b`` the coordinates of ``x - mu_j`` and ``z`` there,

    ``(y - alpha mu_j)^T S_j^{-1} (y - alpha mu_j) = sum_d (alpha^2 a_d^2 + 2 alpha sigma a_d b_d +
    sigma^2 b_d^2) / v_d``:

three products of matrices (samples x coordinates) with (coordinates x levels). The rotations into
the axes of j serve every level. Covariances that share their axes need no rotation at all: then
the noised sample is ``y = alpha mu_i + sqrt(alpha^2 lambda_i + sigma^2) z``, one normal instead of
two.

Source: Bayes' rule; Li & Chen (2024), sec. 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from critwin.theory.mixtures import GaussianMixture

    Array = NDArray[np.float64]

__all__ = ["num_normals", "rotated_average"]

_THIN = 1e-3  # standard deviations: single precision leaves an error of 1e-4 of the thinnest
_MAX_NUMBERS = 1 << 22  # held at a time


def num_normals(m: GaussianMixture) -> int:
    """Normals that a sample takes.

    Args:
        m: The mixture.

    Returns:
        D where all components have the same axes, else 2 D.
    """
    return m.dim if m.axes is None else 2 * m.dim


def rotated_average(m: GaussianMixture, normals: Array, alpha: Array, sigma: Array) -> Array:
    """Average of ``P(j | y)`` over noised samples of every component.

    Products are in single precision where that leaves errors small beside those of sampling; sums
    over samples are in double.

    Args:
        m: The mixture; no variance is 0.
        normals: Shape ``(N, num_normals(m))``.
        alpha: Signal scales, shape ``(L,)``.
        sigma: Noise standard deviations, shape ``(L,)``.

    Returns:
        Shape ``(L, K, K)``.
    """
    size, levels = m.num_components, len(alpha)
    step = max(1, _MAX_NUMBERS // (size * max(levels, m.dim)))
    total = torch.zeros((levels, size, size), dtype=torch.float64)
    forms = _same_axes if m.axes is None else _own_axes
    variance = _noised(m, alpha, sigma)
    bias = m.weights.log()[:, None] - 0.5 * variance.log().sum(dim=1)  # (K, L)
    for start in range(0, len(normals), step):
        part = torch.from_numpy(normals[start : start + step])
        for i, form in forms(m, part, alpha, sigma, variance):
            logits = bias[None] - 0.5 * form  # (n, K, L)
            total[:, i] += torch.softmax(logits, dim=1).sum(dim=0).T
    return np.asarray(total.numpy() / len(normals))


def _noised(m: GaussianMixture, alpha: Array, sigma: Array) -> Tensor:
    """Noised variances along the axes of each component, shape ``(K, D, L)``."""
    a, s = torch.from_numpy(alpha), torch.from_numpy(sigma)
    clean = m.eigenvalues.expand(m.num_components, -1)
    if clean.shape[1] == 1:
        clean = clean.expand(-1, m.dim)
    return clean[..., None] * a**2 + s**2


def _same_axes(
    m: GaussianMixture, z: Tensor, alpha: Array, sigma: Array, variance: Tensor
) -> Iterator[tuple[int, Tensor]]:
    """Quadratic forms of samples of component i under all components, ``(n, K, L)``."""
    del sigma
    a = torch.from_numpy(alpha)
    square = z**2
    for i in range(m.num_components):
        form = torch.empty((len(z), m.num_components, len(a)), dtype=torch.float64)
        root = variance[i].sqrt()
        for j in range(m.num_components):
            gap = (m.means[i] - m.means[j])[:, None] * a  # (D, L)
            form[:, j] = square @ (variance[i] / variance[j])
            form[:, j] += z @ (2.0 * gap * root / variance[j])
            form[:, j] += (gap**2 / variance[j]).sum(dim=0)
        yield i, form


def _own_axes(
    m: GaussianMixture, normals: Tensor, alpha: Array, sigma: Array, variance: Tensor
) -> Iterator[tuple[int, Tensor]]:
    """The same, each component in its own axes."""
    assert m.axes is not None
    size = m.num_components
    clean = m.eigenvalues.expand(size, -1)
    kind = _kind(clean, variance)
    a, s = torch.from_numpy(alpha), torch.from_numpy(sigma)
    axes = m.axes.expand(size, -1, -1).to(kind)
    first, noise = normals[:, : m.dim], normals[:, m.dim :].to(kind)
    of_clean, of_both, of_noise = (
        (factor / variance).to(kind) for factor in (a**2, 2.0 * a * s, s**2)
    )  # each (K, D, L)
    turned = [noise @ axes[j] for j in range(size)]
    alone = [b**2 @ of_noise[j] for j, b in enumerate(turned)]
    for i in range(size):
        form = torch.empty((len(normals), size, len(a)), dtype=torch.float64)
        spread = (first * clean[i].sqrt()).to(kind)
        x = spread @ axes[i].mT
        for j in range(size):
            if i == j:
                own = spread
            else:
                own = x @ axes[j] + ((m.means[i] - m.means[j]) @ m.axes[j]).to(kind)
            form[:, j] = own**2 @ of_clean[j] + (own * turned[j]) @ of_both[j] + alone[j]
        yield i, form


def _kind(clean: Tensor, variance: Tensor) -> torch.dtype:
    """Single precision, unless some direction is so thin that rounding would fill it."""
    thinnest = float((variance.amin() / clean.amax().clamp(min=1e-300)).sqrt())
    return torch.float32 if thinnest > _THIN else torch.float64
