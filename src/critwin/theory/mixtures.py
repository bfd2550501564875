r"""Gaussian mixtures whose noised law, posterior, score and posterior draw are exact.

``p = sum_k w_k N(mu_k, Sigma_k)`` noised by ``x = alpha x_0 + sigma z`` is again a mixture, with
components ``N(alpha mu_k, S_k)``, ``S_k = alpha^2 Sigma_k + sigma^2 I``, and so is the posterior
of ``x_0`` given ``x``: a draw from it needs no time stepping at all.

Source: Efron (2011), *Tweedie's formula and selection bias*; Li & Chen (2024), sec. 2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from critwin.errors import InputError
from critwin.theory._law import CovarianceKind, GaussianMixture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = [
    "CovarianceKind",
    "GaussianMixture",
    "LabelledPoints",
    "covariance_matrices",
    "noised_log_density",
    "posterior_draw",
    "posterior_mean",
    "posterior_probs",
    "sample",
    "score",
    "submixture",
]


class LabelledPoints(NamedTuple):
    """Points together with the component that each was drawn from."""

    x: Tensor  # (..., D)
    component: Tensor  # (...), int64, index into the mixture's names


def covariance_matrices(m: GaussianMixture) -> Tensor:
    """All covariances written out, whatever their kind.

    Args:
        m: The mixture.

    Returns:
        Shape ``(K, D, D)``. This builds D x D matrices; nothing else here needs them.
    """
    size = (m.num_components, m.dim, m.dim)
    if m.kind == "full":
        return m.covariances.expand(size).clone()
    return torch.diag_embed(m.eigenvalues.expand(m.num_components, m.dim)).expand(size).clone()


def submixture(m: GaussianMixture, names: str | Sequence[str]) -> GaussianMixture:
    """``p^S``: the mixture of some components, weights divided by their sum.

    Args:
        m: The mixture.
        names: Components to keep.

    Returns:
        The smaller mixture.

    Raises:
        InputError: If a name is unknown, or none is given.
    """
    keep = m.indices(names)
    if not keep:
        raise InputError("an empty set of components", wanted=f"some of {', '.join(m.names)}")
    weights = m.weights[keep]
    return GaussianMixture(
        weights=weights / weights.sum(),
        means=m.means[keep],
        covariances=m.covariances if m.is_shared else m.covariances[keep],
        names=[m.names[k] for k in keep],
        covariance_kind=m.kind,
    )


def noised_log_density(m: GaussianMixture, x: Tensor, *, alpha: float, sigma: float) -> Tensor:
    """Log density of ``alpha x_0 + sigma z`` under the mixture.

    Args:
        m: Law of the clean ``x_0``.
        x: Points, shape ``(..., D)``.
        alpha: Signal scale, >= 0.
        sigma: Noise standard deviation, >= 0, in data units.

    Returns:
        Shape ``(...)``, with the dtype and device of ``x``.

    Raises:
        InputError: If the level or the shape is not valid, or a component is a point and
            ``sigma`` is 0.

    Source:
        Li & Chen (2024), sec. 2.
    """
    return torch.logsumexp(_posterior(m, x, alpha, sigma).log_joint, dim=-1).to(x.dtype)


def posterior_probs(
    m: GaussianMixture, x_t: Tensor, *, alpha: float, sigma: float, allowed: Tensor | None = None
) -> Tensor:
    """``P(component | x_t)``.

    Args:
        m: Law of the clean ``x_0``.
        x_t: Noisy points, shape ``(..., D)``.
        alpha: Signal scale, >= 0.
        sigma: Noise standard deviation, >= 0, in data units.
        allowed: Components that the prior is restricted to, Boolean, shape ``(..., K)`` or
            ``(K,)``; all unless given.

    Returns:
        Shape ``(..., K)``, rows summing to 1, with the dtype and device of ``x_t``.

    Raises:
        InputError: As :func:`noised_log_density`.

    Source:
        Li & Chen (2024), sec. 2 (Bayes' rule).
    """
    return torch.softmax(_posterior(m, x_t, alpha, sigma, allowed).log_joint, -1).to(x_t.dtype)


def posterior_mean(
    m: GaussianMixture, x_t: Tensor, *, alpha: float, sigma: float, allowed: Tensor | None = None
) -> Tensor:
    """Exact denoiser ``E[x_0 | x_t]``.

    Args:
        m: Law of the clean ``x_0``.
        x_t: Noisy points, shape ``(..., D)``.
        alpha: Signal scale, >= 0.
        sigma: Noise standard deviation, >= 0, in data units.
        allowed: Components that the prior is restricted to, Boolean, shape ``(..., K)`` or
            ``(K,)``; all unless given.

    Returns:
        Shape ``(..., D)``, with the dtype and device of ``x_t``.

    Raises:
        InputError: As :func:`noised_log_density`.

    Source:
        Efron (2011), Tweedie's formula.
    """
    post = _posterior(m, x_t, alpha, sigma, allowed)
    probs = torch.softmax(post.log_joint, dim=-1)
    shift = _to_data(post.axes, post.centred * (alpha * post.eigenvalues / post.noised_var))
    return (probs[..., None] * (post.means + shift)).sum(dim=-2).to(x_t.dtype)


def score(m: GaussianMixture, x: Tensor, *, alpha: float, sigma: float) -> Tensor:
    """Gradient of :func:`noised_log_density` in ``x``.

    Computed from the components, not from the denoiser: ``(alpha E[x_0|x] - x) / sigma^2`` is the
    same number, with all its digits cancelled at low noise.

    Args:
        m: Law of the clean ``x_0``.
        x: Points, shape ``(..., D)``.
        alpha: Signal scale, >= 0.
        sigma: Noise standard deviation, >= 0, in data units.

    Returns:
        Shape ``(..., D)``, with the dtype and device of ``x``.

    Raises:
        InputError: As :func:`noised_log_density`.

    Source:
        Efron (2011), Tweedie's formula.
    """
    post = _posterior(m, x, alpha, sigma)
    probs = torch.softmax(post.log_joint, dim=-1)
    pull = _to_data(post.axes, post.centred / post.noised_var)
    return -(probs[..., None] * pull).sum(dim=-2).to(x.dtype)


def posterior_draw(
    m: GaussianMixture,
    x_t: Tensor,
    *,
    alpha: float,
    sigma: float,
    generator: torch.Generator | None = None,
    normals: Tensor | None = None,
    uniforms: Tensor | None = None,
    allowed: Tensor | None = None,
) -> LabelledPoints:
    """Draw ``x_0 ~ p(x_0 | x_t)`` exactly: a component, then a Gaussian. No time stepping.

    Args:
        m: Law of the clean ``x_0``, the prior.
        x_t: Noisy points, shape ``(..., D)``.
        alpha: Signal scale, >= 0.
        sigma: Noise standard deviation, >= 0, in data units.
        generator: CPU generator of the draws, or else both of:
        normals: Standard normals, shape ``(..., D)``.
        uniforms: Uniforms on [0, 1), shape ``(...)``, which pick the component.
        allowed: Components that the prior is restricted to, Boolean, shape ``(..., K)`` or
            ``(K,)``; all unless given.

    Returns:
        ``(x, component)``, shapes ``(..., D)`` and ``(...)``; x with the dtype of ``x_t``.

    Raises:
        InputError: As :func:`noised_log_density`, or if the draws are neither given nor
            generated, or have the wrong shape.

    Source:
        Li, Karan & Chen (2025), sec. 3: denoising is a posterior draw with the whole prior.
    """
    post = _posterior(m, x_t, alpha, sigma, allowed)
    z, u = _draws(x_t.shape, generator, normals, uniforms)
    component = _pick(torch.softmax(post.log_joint, dim=-1), u.to(x_t.device))
    # Sigma - alpha^2 Sigma S^-1 Sigma = sigma^2 Sigma S^-1, without the cancellation
    gain = alpha * post.eigenvalues / post.noised_var
    spread = torch.sqrt(sigma**2 * post.eigenvalues / post.noised_var)
    centred = _select(post.centred, component)
    row = torch.zeros_like(component) if m.is_shared else component
    local = centred * gain[row] + spread[row] * z.to(x_t.device)
    local = _select(_to_data(post.axes, local[..., None, :]), row)
    return LabelledPoints((post.means[component] + local).to(x_t.dtype), component)


def sample(
    m: GaussianMixture,
    num: int,
    *,
    generator: torch.Generator | None = None,
    normals: Tensor | None = None,
    uniforms: Tensor | None = None,
    component: Tensor | None = None,
) -> LabelledPoints:
    """Draw clean samples with their components.

    Args:
        m: The mixture.
        num: Number of samples N.
        generator: CPU generator of the draws, or else both of:
        normals: Standard normals, shape ``(N, D)``.
        uniforms: Uniforms on [0, 1), shape ``(N,)``, which pick the component.
        component: Components to draw from, int64, shape ``(N,)``, -1 where it is to be drawn.

    Returns:
        ``(x, component)``, shapes ``(N, D)`` float64 and ``(N,)`` int64.

    Raises:
        InputError: If the draws are neither given nor generated, or have the wrong shape.
    """
    z, u = _draws((num, m.dim), generator, normals, uniforms)
    picked = _pick(m.weights.expand(num, -1), u)
    if component is not None:
        picked = torch.where(component >= 0, component, picked)
    row = torch.zeros_like(picked) if m.is_shared else picked
    local = torch.sqrt(m.eigenvalues)[row] * z
    local = _select(_to_data(m.axes, local[..., None, :]), row)
    return LabelledPoints(m.means[picked] + local, picked)


class _Posterior(NamedTuple):
    """What every function above reads, in float64 on the device of the points."""

    log_joint: Tensor  # (..., K), log w_k N(x; alpha mu_k, S_k)
    centred: Tensor  # (..., K, D), x - alpha mu_k along the eigenvectors
    means: Tensor  # (K, D)
    eigenvalues: Tensor  # (K or 1, D or 1), of the clean covariance
    noised_var: Tensor  # (K or 1, D or 1), of the noised covariance
    axes: Tensor | None  # (K or 1, D, D)


def _posterior(
    m: GaussianMixture, x: Tensor, alpha: float, sigma: float, allowed: Tensor | None = None
) -> _Posterior:
    alpha, sigma = _check_level(m, alpha, sigma)
    if x.ndim < 1 or x.shape[-1] != m.dim:
        raise InputError(
            "points have the wrong shape", got=tuple(x.shape), wanted=f"(..., {m.dim})"
        )
    means, eigenvalues = m.means.to(x.device), m.eigenvalues.to(x.device)
    axes = None if m.axes is None else m.axes.to(x.device)
    noised_var = alpha**2 * eigenvalues + sigma**2
    centred = x.to(torch.float64)[..., None, :] - alpha * means
    if axes is not None:
        is_shared = len(axes) == 1  # a broadcast product would copy the matrix for every point
        centred = (
            centred @ axes[0] if is_shared else torch.einsum("...kd,kde->...ke", centred, axes)
        )
    log_det = m.dim * torch.log(noised_var).mean(dim=-1)
    square = (centred**2 / noised_var).sum(dim=-1)
    log_weights = torch.log(m.weights.to(x.device))
    if allowed is not None:
        log_weights = torch.where(allowed.to(x.device), log_weights, -math.inf)
    log_joint = log_weights - 0.5 * (square + log_det + m.dim * math.log(2 * math.pi))
    return _Posterior(log_joint, centred, means, eigenvalues, noised_var, axes)


def _to_data(axes: Tensor | None, value: Tensor) -> Tensor:
    """From eigenvector coordinates to data coordinates, ``(..., K or 1, D) -> (..., K or 1, D)``.

    All components are rotated, even where one is wanted: the shape of the product then does not
    depend on which components the neighbours have.
    """
    if axes is None:
        return value
    if len(axes) == 1:
        return value @ axes[0].mT
    return torch.einsum("...ke,kde->...kd", value.expand(*value.shape[:-2], len(axes), -1), axes)


def _select(value: Tensor, component: Tensor) -> Tensor:
    """Entry ``component`` of axis -2, where that axis has more than one entry."""
    if value.shape[-2] == 1:
        return value.squeeze(-2)
    return torch.take_along_dim(value, component[..., None, None], dim=-2).squeeze(-2)


def _pick(probs: Tensor, uniforms: Tensor) -> Tensor:
    """Inverse of the discrete distribution function; rounding never leaves the range."""
    edges = probs.cumsum(dim=-1)
    picked = (edges <= uniforms[..., None] * edges[..., -1:]).sum(dim=-1)
    return picked.clamp(max=probs.shape[-1] - 1)


def _draws(
    shape: Sequence[int],
    generator: torch.Generator | None,
    normals: Tensor | None,
    uniforms: Tensor | None,
) -> tuple[Tensor, Tensor]:
    size = tuple(shape)
    if (generator is None) == (normals is None) or (normals is None) != (uniforms is None):
        raise InputError("draws are needed", wanted="a generator, or both normals and uniforms")
    if normals is None or uniforms is None:
        z = torch.randn(size, generator=generator, dtype=torch.float64)
        return z, torch.rand(size[:-1], generator=generator, dtype=torch.float64)
    if tuple(normals.shape) != size or tuple(uniforms.shape) != size[:-1]:
        raise InputError(
            "draws have the wrong shape",
            got=f"{tuple(normals.shape)} and {tuple(uniforms.shape)}",
            wanted=f"{size} and {size[:-1]}",
        )
    return normals.to(torch.float64), uniforms.to(torch.float64)


def _check_level(m: GaussianMixture, alpha: float, sigma: float) -> tuple[float, float]:
    alpha, sigma = float(alpha), float(sigma)
    if not (0 <= alpha < math.inf and 0 <= sigma < math.inf) or alpha == sigma == 0:
        raise InputError(
            "not a noise level",
            got=f"alpha={alpha:g}, sigma={sigma:g}",
            wanted="finite alpha >= 0 and sigma >= 0, not both 0",
        )
    if sigma == 0 and not bool((m.eigenvalues > 0).all()):
        raise InputError("a point has no density at zero noise", wanted="sigma > 0")
    return alpha, sigma
