"""The Gaussian mixture itself: what it holds, and the checks that it passes once.

Every covariance is kept by its eigenvalues, and its eigenvectors only if it has any of its own: an
isotropic covariance never builds a D x D matrix, a diagonal one costs O(D), a full one is
diagonalised once for all levels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from critwin._texts import some_of
from critwin.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["LARGEST", "CovarianceKind", "GaussianMixture", "check_names", "check_weights"]

CovarianceKind = Literal["isotropic", "diagonal", "full"]
_SUM_TOLERANCE = 1e-6
LARGEST = 1e50
"""Of means and covariances: their squares, cubes and ratios all have to be numbers."""


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
            InputError: If a shape does not fit, a number is complex, not finite or beyond
                :data:`LARGEST`, weights are not a law, a covariance is not symmetric positive
                definite, names are not distinct, or the shape of ``covariances`` is ambiguous.
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
            "weights": check_weights(weights, num_components),
            "means": means_,
            "covariances": values[0] if is_shared else values,
            "names": check_names(names, num_components),
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
                    "unknown component", got=name, wanted=f"some of {some_of(self.names)}"
                )
        return [self.names.index(name) for name in wanted]


def _tensor(value: Any, name: str) -> Tensor:
    if value is None:
        raise InputError(f"{name} are missing", wanted="an array of numbers")
    try:
        if isinstance(value, torch.Tensor):
            raw = value.detach().to(device="cpu", copy=True)
        elif isinstance(value, list | tuple) and any(
            isinstance(item, torch.Tensor) for item in value
        ):
            raw = torch.stack([torch.as_tensor(v) for v in value])
        else:
            array = np.array(value)
            if array.dtype.kind in "US" or any(
                v is None for v in array.flat if array.dtype == "O"
            ):
                raise TypeError("text, or None")
            raw = torch.from_numpy(array.astype(np.float64) if array.dtype.kind != "c" else array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name} are not an array of numbers", got=value, wanted="numbers of one shape"
        ) from error
    if raw.is_complex():
        raise InputError(
            f"{name} are complex",
            got=_at(raw, raw.imag != 0) if bool((raw.imag != 0).any()) else str(raw.dtype),
            wanted="real numbers",
            next_step="give real and imaginary parts as coordinates of their own",
        )
    result = raw.to(torch.float64)
    if not bool((is_finite := torch.isfinite(result)).all()):
        raise InputError(
            f"{name} must be finite", got=_at(result, ~is_finite), wanted="finite numbers"
        )
    if bool((is_large := result.abs() > LARGEST).any()):
        raise InputError(
            f"{name} are too large",
            got=_at(result, is_large),
            wanted=f"at most {LARGEST:g}",
            next_step="measure in a larger unit",
        )
    return result


def _at(value: Tensor, is_bad: Tensor) -> str:
    """The first bad entry and where it is."""
    place = is_bad.nonzero()[0].tolist()
    entry = value[tuple(place)].item()
    text = f"{entry:.6g}" if isinstance(entry, float) else str(entry)
    return text + (f" at {place}" if place else "")


def check_weights(weights: Any, num_components: int) -> Tensor:
    if weights is None:
        return torch.full((num_components,), 1.0 / num_components, dtype=torch.float64)
    value = _tensor(weights, "weights")
    if tuple(value.shape) != (num_components,):
        raise InputError(
            "weights have the wrong shape",
            got=tuple(value.shape),
            wanted=f"({num_components},), one for each component",
        )
    if bool((value <= 0).any()):
        raise InputError(
            "weights must be positive",
            got=_at(value, value <= 0),
            wanted="numbers > 0 that sum to 1",
            next_step="leave out components of weight 0",
        )
    total = float(value.sum())
    if abs(total - 1) > _SUM_TOLERANCE:
        raise InputError(
            "weights must sum to 1",
            got=f"a sum of {total:.6g}",
            wanted="a sum of 1",
            next_step="divide them by it",
        )
    return value / value.sum()


def check_names(names: Sequence[str] | None, num_components: int) -> tuple[str, ...]:
    wanted = f"{num_components} distinct names"
    if isinstance(names, str) or not (names is None or hasattr(names, "__iter__")):
        raise InputError("names must be a list of names", got=names, wanted=wanted)
    result = tuple(str(k) for k in (range(num_components) if names is None else names))
    if len(result) != num_components:
        raise InputError("names do not fit", got=list(result), wanted=wanted)
    if "" in result:
        raise InputError("names do not fit", got="an empty name", wanted=wanted)
    if len(set(result)) < num_components:
        twice = next(name for name in result if result.count(name) > 1)
        raise InputError("names do not fit", got=f"{twice!r} twice", wanted=wanted)
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
            raise _asymmetric(value)
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
            k = int((value.reshape(len(value), -1).amin(dim=1) < 0).nonzero()[0])
            raise InputError(
                "a variance is negative",
                got=f"{float(value[k].min()):.6g}" + _of(value, k),
                wanted="numbers >= 0",
            )
        if bool((is_small := (value > 0) & (value < 1 / LARGEST)).any()):
            raise InputError(
                "a variance is too small",
                got=f"{float(value[is_small][0]):.6g}",
                wanted=f"at least {1 / LARGEST:g}, or 0 for a point",
                next_step="measure in a smaller unit",
            )
        return value, value[:, None] if kind == "isotropic" else value, None
    value = 0.5 * (value + value.mT)
    eigenvalues, axes = torch.linalg.eigh(value)
    floor = dim * torch.finfo(torch.float64).eps * eigenvalues.amax(dim=-1)
    if bool((is_bad := ~(eigenvalues.amin(dim=-1) > floor)).any()):
        k = int(is_bad.nonzero()[0])
        raise InputError(
            "a covariance is not positive definite",
            got=f"an eigenvalue of {float(eigenvalues[k].min()):.6g}" + _of(value, k),
            wanted="a symmetric positive definite matrix, whose eigenvalues are all > 0",
        )
    return value, eigenvalues, axes


def _asymmetric(value: Tensor) -> InputError:
    """Where a matrix differs most from its transpose; ``value`` is ``(K or 1, D, D)``."""
    gaps = (value - value.mT).abs()
    k, i, j = (int(n) for n in np.unravel_index(int(gaps.argmax()), gaps.shape))
    return InputError(
        "a covariance is not symmetric",
        got=f"{float(value[k, i, j]):.6g} at {[i, j]} and {float(value[k, j, i]):.6g} at {[j, i]}"
        + _of(value, k),
        wanted="the same number at both",
        next_step="average the matrix with its transpose if that is rounding",
    )


def _of(value: Tensor, k: int) -> str:
    return f" in component {k}" if len(value) > 1 else ""
