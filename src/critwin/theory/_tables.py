"""What all exact transitions share: options, reduction to a line, and the table at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from critwin.errors import InputError
from critwin.reshaping import merge
from critwin.theory._line import Line
from critwin.theory._scrambles import NUM_SCRAMBLES
from critwin.theory.mixtures import GaussianMixture
from critwin.transitions import Transitions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = [
    "Labeller",
    "Method",
    "as_line",
    "centred_span",
    "check_levels",
    "check_options",
    "component_table",
    "line_of",
    "map_table",
    "without_points",
]

Method = Literal["auto", "quadrature", "sobol"]
Labeller = Literal["component", "map"]
_RANK_TOLERANCE = 1e-9


def centred_span(means: Array, *, rank: int | None = None) -> Array:
    """Centred means in an orthonormal basis of their span, shape ``(K, r)``."""
    centred = means - means.mean(axis=0)
    if centred.shape[1] > 2 * len(centred):  # the triangle of a QR has all that D dimensions tell
        centred = np.asarray(np.linalg.qr(centred.T, mode="r")).T
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    if rank is None:
        rank = int((singular > _RANK_TOLERANCE * max(singular[0], 1e-300)).sum())
        if singular[0] <= 1e-14 * np.abs(means).max():
            rank = 0
    return np.asarray(left[:, :rank] * singular[:rank])


def without_points(m: GaussianMixture) -> GaussianMixture:
    """Variances of 0 raised to a width that no level can see, so that the limit t -> 0 exists."""
    if bool((m.eigenvalues > 0).all()):
        return m
    distances = torch.pdist(m.means)
    distances = distances[distances > 0]
    floor = 1e-8 * float(distances.min()) if len(distances) else 1e-8
    return GaussianMixture(
        weights=m.weights,
        means=m.means,
        covariances=m.covariances.clamp(min=floor**2),
        names=m.names,
        covariance_kind=m.kind,
    )


def line_of(m: GaussianMixture) -> Line:
    sd = np.sqrt(m.eigenvalues.numpy()[:, 0]) * np.ones(m.num_components)
    return Line(np.log(m.weights.numpy()), m.means.numpy().T, sd[None])


def as_line(m: GaussianMixture, what: str) -> Line:
    m = without_points(m)
    if m.dim == 1:
        return line_of(m)
    span = centred_span(m.means.numpy()) if m.is_shared and m.kind == "isotropic" else None
    if span is None or span.shape[1] > 1:
        raise InputError(
            f"{what} on a line only",
            got=f"D={m.dim}, {m.kind} covariances",
            wanted="D = 1, or equal isotropic covariances with means on a line",
        )
    mean = span.T if span.shape[1] else np.zeros((1, m.num_components))
    sd = np.full_like(mean, np.sqrt(float(m.eigenvalues[0, 0])))
    return Line(np.log(m.weights.numpy()), mean, sd)


def component_table(
    m: GaussianMixture,
    levels: Array,
    probs: Array,
    labels: Mapping[str, Sequence[str]] | None,
    attrs: Mapping[str, Any],
    plateau: float,
) -> Transitions:
    table = Transitions(
        logsnr=levels,
        before=m.names,
        after=m.names,
        probs=probs,
        weights=m.weights.numpy(),
        kind="exact",
        reversal="posterior",
        feature="component",
        plateau=min(max(plateau, 0.0), 1.0),  # a sum of weights may be off in its last digit
        attrs={"labeller": "component", **attrs},
    )
    return table if labels is None else merge(table, labels)


def map_table(
    m: GaussianMixture,
    levels: Array,
    weights: Array,
    probs: Array,
    labels: Mapping[str, Sequence[str]] | None,
    reversal: str,
) -> Transitions:
    """A label that is never read has no row, but stays a label after."""
    said = np.flatnonzero(weights > 0)
    weights = weights / weights.sum()
    table = Transitions(
        logsnr=levels,
        before=tuple(m.names[i] for i in said),
        after=m.names,
        probs=probs[:, said],
        weights=weights[said],
        fresh=weights,
        kind="exact",
        reversal=reversal,
        feature="component",
        plateau=1.0,
        attrs={"labeller": "map", "method": "quadrature"},
    )
    return table if labels is None else merge(table, labels)


def check_levels(logsnr: ArrayLike) -> Array:
    levels = np.asarray(logsnr, dtype=np.float64)
    if levels.ndim != 1 or len(levels) == 0 or np.any(np.isnan(levels)):
        raise InputError("levels are not a list of logsnr", got=logsnr, wanted="shape (L,)")
    return levels


def check_options(labeller: str, method: str, num_samples: int) -> None:
    if labeller not in get_args(Labeller):
        raise InputError("unknown labeller", got=labeller, wanted=", ".join(get_args(Labeller)))
    if method not in get_args(Method):
        raise InputError("unknown method", got=method, wanted=", ".join(get_args(Method)))
    if num_samples < NUM_SCRAMBLES:
        raise InputError("too few samples", got=num_samples, wanted=f"at least {NUM_SCRAMBLES}")
