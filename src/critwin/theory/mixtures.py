r"""Gaussian mixtures whose noised law, posterior, score and posterior draw are exact.

``p = sum_k w_k N(mu_k, Sigma_k)`` noised by ``x = alpha x_0 + sigma z`` is again a mixture, with
components ``N(alpha mu_k, S_k)``, ``S_k = alpha^2 Sigma_k + sigma^2 I``, and so is the posterior
of ``x_0`` given ``x``: a draw from it needs no time stepping at all.

Every covariance is kept by its eigenvalues, and its eigenvectors only if it has any of its own: an
isotropic covariance never builds a D x D matrix, a diagonal one costs O(D), a full one is
diagonalised once for all levels.

Source: Efron (2011), *Tweedie's formula and selection bias*; Li & Chen (2024), sec. 2.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import torch

from critwin.errors import InputError

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

CovarianceKind = Literal["isotropic", "diagonal", "full"]
_SUM_TOLERANCE = 1e-6


class LabelledPoints(NamedTuple):
    """Points together with the component that each was drawn from."""

    x: Tensor  # (..., D)
    component: Tensor  # (...), int64, index into the mixture's names


@dataclass(frozen=True, eq=False, init=False)
class GaussianMixture:
    """A Gaussian mixture in D dimensions. Frozen; float64 on the CPU.

    Attributes:
        weights: Prior over components, shape ``(K,)``, positive, summing to 1.
        means: Shape ``(K, D)``.
        covariances: In the simplest form that holds them exactly: a variance ``()`` or ``(K,)``
            if isotropic, variances ``(D,)`` or ``(K, D)`` if diagonal, matrices ``(D, D)`` or
            ``(K, D, D)`` if full; without the axis K where all components share one.
        names: Names of the components, length K.
        kind: ``"isotropic"``, ``"diagonal"`` or ``"full"``: that simplest form.
        is_shared: Whether all components have the same covariance.
        eigenvalues: Of the covariances, shape ``(K or 1, D or 1)``; one row if shared, one column
            if isotropic.
        axes: Their eigenvectors as columns, shape ``(K or 1, D, D)``, or None unless full.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    names: tuple[str, ...]
    kind: CovarianceKind
    is_shared: bool
    eigenvalues: Tensor
    axes: Tensor | None

    def __init__(
        self,
        *,
        weights: Any = None,
        means: Any,
        covariances: Any = 1.0,
        names: Sequence[str] | None = None,
        covariance_kind: CovarianceKind | None = None,
    ) -> None:
        """Check and store a mixture.

        Args:
            weights: Shape ``(K,)``; equal unless given.
            means: Shape ``(K, D)``; a list of K numbers is taken as ``(K, 1)``.
            covariances: A variance for all, ``(K,)`` variances of isotropic components, ``(D,)``
                or ``(K, D)`` diagonal, ``(D, D)`` or ``(K, D, D)`` full. A variance of 0 makes a
                component a point (isotropic and diagonal only).
            names: Distinct names of the components; ``"0"``, ``"1"``, … unless given.
            covariance_kind: How to read ``covariances`` where its shape fits two readings, which
                happens for K = D only.

        Raises:
            InputError: If a shape does not fit, weights are not a law, a covariance is not
                symmetric positive definite, names are not distinct, or the shape of
                ``covariances`` is ambiguous.
        """
        means_ = _tensor(means, "means")
        if means_.ndim == 1:
            means_ = means_[:, None]
        if means_.ndim != 2 or 0 in means_.shape:
            raise InputError(
                "means have the wrong shape", got=tuple(means_.shape), wanted="(K, D)"
            )
        num_components, dim = means_.shape
        values, is_shared = _parse_covariances(
            _tensor(covariances, "covariances"), num_components, dim, covariance_kind
        )
        values, kind, is_shared = _simplest(values, is_shared)
        values, eigenvalues, axes = _diagonalise(values, kind, dim)
        fields: dict[str, Any] = {
            "weights": _check_weights(weights, num_components),
            "means": means_,
            "covariances": values[0] if is_shared else values,
            "names": _check_names(names, num_components),
            "kind": kind,
            "is_shared": is_shared,
            "eigenvalues": eigenvalues,
            "axes": axes,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def dim(self) -> int:
        """Number of dimensions D."""
        return int(self.means.shape[1])

    @property
    def num_components(self) -> int:
        """Number of components K."""
        return int(self.means.shape[0])

    @property
    def fingerprint(self) -> str:
        """Digest of the names and of every number that fixes the law."""
        digest = hashlib.sha256(repr((self.names, self.kind, self.is_shared)).encode())
        for value in (self.weights, self.means, self.covariances):
            digest.update(repr(tuple(value.shape)).encode() + value.numpy().tobytes())
        return digest.hexdigest()[:16]

    def indices(self, names: str | Sequence[str]) -> list[int]:
        """Positions of components by name.

        Args:
            names: A name or several.

        Returns:
            Their indices, in the order given.

        Raises:
            InputError: If a name is unknown.
        """
        wanted = [names] if isinstance(names, str) else list(names)
        for name in wanted:
            if name not in self.names:
                raise InputError(
                    "unknown component", got=name, wanted=f"some of {', '.join(self.names)}"
                )
        return [self.names.index(name) for name in wanted]


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


def _tensor(value: Any, name: str) -> Tensor:
    try:
        if isinstance(value, torch.Tensor):
            result = value.detach().to(device="cpu", dtype=torch.float64, copy=True)
        elif isinstance(value, list | tuple) and any(
            isinstance(item, torch.Tensor) for item in value
        ):
            result = torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in value])
        else:
            result = torch.from_numpy(np.array(value, dtype=np.float64))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} are not an array of numbers", got=value) from error
    if not bool(torch.isfinite(result).all()):
        raise InputError(f"{name} must be finite", got=result.tolist())
    return result


def _check_weights(weights: Any, num_components: int) -> Tensor:
    if weights is None:
        return torch.full((num_components,), 1.0 / num_components, dtype=torch.float64)
    value = _tensor(weights, "weights")
    if tuple(value.shape) != (num_components,):
        raise InputError(
            "weights have the wrong shape", got=tuple(value.shape), wanted=f"({num_components},)"
        )
    if bool((value <= 0).any()):
        raise InputError("weights must be positive", got=value.tolist())
    total = float(value.sum())
    if abs(total - 1) > _SUM_TOLERANCE:
        raise InputError(
            "weights must sum to 1", got=f"a sum of {total:.6g}", next_step="divide by it"
        )
    return value / value.sum()


def _check_names(names: Sequence[str] | None, num_components: int) -> tuple[str, ...]:
    if isinstance(names, str):
        raise InputError("names must be a list of names", got=names)
    result = tuple(str(k) for k in (range(num_components) if names is None else names))
    if len(result) != num_components or len(set(result)) < len(result) or "" in result:
        raise InputError(
            "names do not fit", got=list(result), wanted=f"{num_components} distinct names"
        )
    return result


def _parse_covariances(
    value: Tensor, num_components: int, dim: int, wanted: CovarianceKind | None
) -> tuple[Tensor, bool]:
    """As ``(K or 1, [D, [D]])`` with the flag that all components share it."""
    if wanted is not None and wanted not in get_args(CovarianceKind):
        raise InputError(
            "unknown kind of covariance", got=wanted, wanted="isotropic, diagonal, full"
        )
    readings: dict[str, tuple[tuple[int, ...], ...]] = {
        "isotropic": ((), (num_components,)),
        "diagonal": ((dim,), (num_components, dim)),
        "full": ((dim, dim), (num_components, dim, dim)),
    }
    shape = tuple(value.shape)
    fits = [
        (kind, form)
        for kind, forms in readings.items()
        if wanted in (None, kind)
        for form in forms
        if form == shape
    ]
    if not fits:
        raise InputError(
            "covariances have the wrong shape",
            got=shape,
            wanted="() or (K,), (D,) or (K, D), (D, D) or (K, D, D) "
            f"with K={num_components}, D={dim}",
        )
    if len(fits) > 1 and value.numel() > 1 and bool((value == value.flatten()[0]).all()):
        fits = fits[:1] if len(shape) == 1 else fits
    if len(fits) > 1 and value.numel() > 1 and len(shape) == 2 and bool((value <= 0).any()):
        fits = fits[1:]  # variances are positive, so it can only be a matrix
    if len(fits) > 1 and value.numel() > 1:
        kinds = " or ".join(kind for kind, _ in fits)
        raise InputError(
            f"covariances of shape {shape} are ambiguous because K = D = {dim}",
            wanted=f"covariance_kind = {kinds}",
        )
    kind, form = fits[0]
    is_shared = form == readings[kind][0]
    return (value[None] if is_shared else value), is_shared


def _simplest(value: Tensor, is_shared: bool) -> tuple[Tensor, CovarianceKind, bool]:
    """Full -> diagonal -> isotropic -> shared wherever nothing is lost."""
    kind: CovarianceKind = ("isotropic", "diagonal", "full")[value.ndim - 1]
    if kind == "full":
        if not torch.allclose(value, value.mT, rtol=1e-10, atol=1e-12 * float(value.abs().max())):
            raise InputError("a covariance is not symmetric", got=value.tolist())
        variances = torch.diagonal(value, dim1=-2, dim2=-1)
        if bool((variances > 0).all()) and bool((torch.diag_embed(variances) == value).all()):
            value, kind = variances, "diagonal"
    if kind == "diagonal" and bool((value == value[:, :1]).all()):
        value, kind = value[:, 0], "isotropic"
    if not is_shared and bool((value == value[:1]).all()):
        value, is_shared = value[:1], True
    return value.clone(), kind, is_shared


def _diagonalise(
    value: Tensor, kind: CovarianceKind, dim: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The symmetrised values, their eigenvalues and, for full ones, their eigenvectors."""
    if kind != "full":
        if bool((value < 0).any()):
            raise InputError(
                "a variance is negative", got=float(value.min()), wanted="positive numbers"
            )
        return value, value[:, None] if kind == "isotropic" else value, None
    value = 0.5 * (value + value.mT)
    eigenvalues, axes = torch.linalg.eigh(value)
    floor = dim * torch.finfo(torch.float64).eps * eigenvalues.amax(dim=-1)
    if bool((eigenvalues.amin(dim=-1) <= floor).any()):
        raise InputError(
            "a covariance is not positive definite",
            got=f"an eigenvalue of {float(eigenvalues.min()):.6g}",
            wanted="a symmetric positive definite matrix",
        )
    return value, eigenvalues, axes
