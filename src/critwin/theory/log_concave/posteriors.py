r"""Products of one-dimensional densities under noise: densities, posteriors, exact draws.

Noise acts on each coordinate alone, so the noised law, the posterior over components and the
posterior draw of ``x_0`` are one-dimensional integrals, done by quadrature to a relative 1e-12: no
time stepping, no sampling error but the draw's own.

Source: Li & Chen (2024), sec. 2; derived in docs/theory/log_concave.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import logsumexp, ndtr

from critwin.errors import InputError
from critwin.theory.log_concave._noising import (
    tilted,
    tilted_log_mass,
    tilted_mean,
    tilted_quantile,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from critwin.theory.log_concave.densities import Density
    from critwin.theory.log_concave.products import ProductMixture

    Array = NDArray[np.float64]

__all__ = [
    "ProductPoints",
    "component_log_densities",
    "noised_log_density",
    "posterior_draw",
    "posterior_mean",
    "posterior_probs",
    "sample",
]

_CHUNK = 1024


class ProductPoints(NamedTuple):
    """Points together with the component that each was drawn from."""

    x: Array  # (N, D)
    component: NDArray[np.int64]  # (N,)


def component_log_densities(
    m: ProductMixture, x: ArrayLike, *, alpha: float, sigma: float
) -> Array:
    """Log density of ``alpha x_0 + sigma z`` under each component.

    Args:
        m: The mixture.
        x: Points, shape ``(..., D)``.
        alpha: Signal scale, >= 0.
        sigma: Noise standard deviation, >= 0; not both 0.

    Returns:
        Shape ``(..., K)``; the relative error of the density is about 1e-12, tails included.

    Raises:
        InputError: If the level or the shape is not valid.

    Source:
        docs/theory/log_concave.md, eq. (3).
    """
    points, shape = _points(m, x, alpha, sigma)
    result = np.zeros((len(points), m.num_components))
    for k, row in enumerate(m.components):
        for d, density in enumerate(row):
            result[:, k] += _log_density(density, points[:, d], alpha, sigma)
    return result.reshape(*shape, m.num_components)


def noised_log_density(m: ProductMixture, x: ArrayLike, *, alpha: float, sigma: float) -> Array:
    """Log density of ``alpha x_0 + sigma z`` under the mixture.

    Args:
        m: The mixture.
        x: Points, shape ``(..., D)``.
        alpha: Signal scale, >= 0.
        sigma: Noise standard deviation, >= 0; not both 0.

    Returns:
        Shape ``(...)``.

    Raises:
        InputError: As :func:`component_log_densities`.
    """
    each = component_log_densities(m, x, alpha=alpha, sigma=sigma)
    return np.asarray(logsumexp(each + np.log(m.weights.numpy()), axis=-1))


def posterior_probs(m: ProductMixture, x_t: ArrayLike, *, alpha: float, sigma: float) -> Array:
    """``P(component | x_t)``.

    Args:
        m: The mixture, the prior.
        x_t: Noisy points, shape ``(..., D)``.
        alpha: Signal scale, >= 0.
        sigma: Noise standard deviation, >= 0; not both 0.

    Returns:
        Shape ``(..., K)``, rows summing to 1.

    Raises:
        InputError: As :func:`component_log_densities`, or if a point has no density at all under
            any component (without noise, outside all supports).
    """
    log_joint = component_log_densities(m, x_t, alpha=alpha, sigma=sigma)
    log_joint = log_joint + np.log(m.weights.numpy())
    top = log_joint.max(axis=-1, keepdims=True)
    if not np.all(np.isfinite(top)):
        raise InputError("a point has no density under any component", wanted="sigma > 0")
    probs = np.exp(log_joint - top)
    return np.asarray(probs / probs.sum(axis=-1, keepdims=True))


def posterior_mean(m: ProductMixture, x_t: ArrayLike, *, alpha: float, sigma: float) -> Array:
    """Exact denoiser ``E[x_0 | x_t]``.

    Args:
        m: The mixture, the prior.
        x_t: Noisy points, shape ``(..., D)``.
        alpha: Signal scale, >= 0.
        sigma: Noise standard deviation, > 0.

    Returns:
        Shape ``(..., D)``.

    Raises:
        InputError: As :func:`posterior_probs`, or if ``sigma = 0``.
    """
    points, shape = _points(m, x_t, alpha, sigma, needs_noise=True)
    probs = posterior_probs(m, points, alpha=alpha, sigma=sigma)
    result = np.zeros_like(points)
    for k, row in enumerate(m.components):
        for d, density in enumerate(row):
            for part in _parts(len(points)):
                law = tilted(density, points[part, d], alpha, sigma)
                result[part, d] += probs[part, k] * tilted_mean(law)
    return result.reshape(*shape, m.dim)


def posterior_draw(
    m: ProductMixture,
    x_t: ArrayLike,
    *,
    alpha: float,
    sigma: float,
    generator: np.random.Generator | None = None,
    normals: ArrayLike | None = None,
    uniforms: ArrayLike | None = None,
) -> ProductPoints:
    """Draw ``x_0 ~ p(x_0 | x_t)`` exactly: a component, then each coordinate.

    A coordinate is the quantile at ``Phi(normal)`` of the one-dimensional law
    ``p(x) N(x_t; alpha x, sigma^2)``, found by quadrature, so that Gaussian components give the
    draws of :func:`critwin.theory.mixtures.posterior_draw` from the same normals.

    Args:
        m: The mixture, the prior.
        x_t: Noisy points, shape ``(N, D)``.
        alpha: Signal scale, >= 0.
        sigma: Noise standard deviation, > 0.
        generator: Source of the draws, or else both of:
        normals: Standard normals, shape ``(N, D)``.
        uniforms: Uniforms on [0, 1), shape ``(N,)``, which pick the component.

    Returns:
        ``(x, component)``, shapes ``(N, D)`` and ``(N,)``.

    Raises:
        InputError: As :func:`posterior_mean`, or if the draws are neither given nor generated,
            or have the wrong shape.

    Source:
        docs/theory/log_concave.md, eq. (4); Li, Karan & Chen (2025), sec. 3.
    """
    points, _ = _points(m, x_t, alpha, sigma, needs_noise=True)
    z, u = _draws(points.shape, generator, normals, uniforms)
    probs = posterior_probs(m, points, alpha=alpha, sigma=sigma)
    component = _pick(probs, u)
    levels = ndtr(z)
    x = np.empty_like(points)
    for k, row in enumerate(m.components):
        mine = np.flatnonzero(component == k)
        for d, density in enumerate(row):
            for part in _parts(len(mine)):
                at = mine[part]
                law = tilted(density, points[at, d], alpha, sigma)
                x[at, d] = tilted_quantile(law, levels[at, d])
    return ProductPoints(x, component)


def sample(
    m: ProductMixture,
    num: int,
    *,
    generator: np.random.Generator | None = None,
    normals: ArrayLike | None = None,
    uniforms: ArrayLike | None = None,
) -> ProductPoints:
    """Draw clean samples with their components.

    Args:
        m: The mixture.
        num: Number of samples N.
        generator: Source of the draws, or else both of:
        normals: Standard normals, shape ``(N, D)``.
        uniforms: Uniforms on [0, 1), shape ``(N,)``, which pick the component.

    Returns:
        ``(x, component)``, shapes ``(N, D)`` and ``(N,)``.

    Raises:
        InputError: If the draws are neither given nor generated, or have the wrong shape.
    """
    # at zero signal x_t says nothing: the posterior is the prior
    zeros = np.zeros((num, m.dim))
    return posterior_draw(
        m, zeros, alpha=0.0, sigma=1.0, generator=generator, normals=normals, uniforms=uniforms
    )


def _log_density(density: Density, y: Array, alpha: float, sigma: float) -> Array:
    if sigma == 0:
        return np.asarray(density.log_density(y / alpha) - math.log(alpha))
    if density.noised is not None:
        return density.noised(y, alpha, sigma)
    return np.concatenate(
        [tilted_log_mass(tilted(density, y[part], alpha, sigma)) for part in _parts(len(y))]
        or [np.empty(0)]
    )


def _parts(count: int) -> list[slice]:
    return [slice(k, min(k + _CHUNK, count)) for k in range(0, count, _CHUNK)]


def _points(
    m: ProductMixture, x: ArrayLike, alpha: float, sigma: float, *, needs_noise: bool = False
) -> tuple[Array, tuple[int, ...]]:
    points = np.asarray(x, dtype=np.float64)
    if points.ndim < 1 or points.shape[-1] != m.dim or not np.all(np.isfinite(points)):
        raise InputError(
            "points have the wrong shape or are not finite",
            got=points.shape,
            wanted=f"(..., {m.dim})",
        )
    is_level = 0 <= alpha < math.inf and 0 <= sigma < math.inf and not alpha == sigma == 0
    if not is_level or (needs_noise and sigma == 0):
        raise InputError(
            "not a noise level",
            got=f"alpha={alpha:g}, sigma={sigma:g}",
            wanted="finite alpha >= 0 and sigma " + ("> 0" if needs_noise else ">= 0, not both 0"),
        )
    return points.reshape(-1, m.dim), points.shape[:-1]


def _draws(
    shape: tuple[int, ...],
    generator: np.random.Generator | None,
    normals: ArrayLike | None,
    uniforms: ArrayLike | None,
) -> tuple[Array, Array]:
    if (generator is None) == (normals is None) or (normals is None) != (uniforms is None):
        raise InputError("draws are needed", wanted="a generator, or both normals and uniforms")
    if generator is not None:
        return generator.standard_normal(shape), generator.random(shape[0])
    z, u = np.asarray(normals, dtype=np.float64), np.asarray(uniforms, dtype=np.float64)
    if z.shape != shape or u.shape != shape[:1]:
        raise InputError(
            "draws have the wrong shape", got=(z.shape, u.shape), wanted=f"{shape} and {shape[:1]}"
        )
    return z, u


def _pick(probs: Array, uniforms: Array) -> NDArray[np.int64]:
    """Inverse of the discrete distribution function; rounding never leaves the range."""
    edges = np.cumsum(probs, axis=1)
    picked = (edges <= uniforms[:, None] * edges[:, -1:]).sum(axis=1)
    return np.asarray(np.minimum(picked, probs.shape[1] - 1), dtype=np.int64)
