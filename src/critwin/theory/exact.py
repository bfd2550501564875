r"""Exact transitions of Gaussian mixtures: ``C_t[i, j] = E_{y ~ p_t^i} P(j | y)``.

Three reversals have their truth here: the posterior draw (which the reverse SDE with the exact
score performs, run to zero noise), read by component or by the most probable label, and in one
dimension the probability-flow ODE, which maps quantiles to quantiles and gives other numbers.

=============================================  ===================  =======================
mixture                                        method               error
=============================================  ===================  =======================
D = 1; equal covariance, means on a line       quadrature           ``<= 1e-10``
equal covariance, means in a plane             quadrature           ``<= 1e-10``
equal means, isotropic covariances             quadrature           ``<= 1e-10``
equal covariance, any means                    Sobol in rank <= K-1  stderr
isotropic covariances                          Sobol in rank + 1    stderr
anything else                                  Sobol in D or 2 D    stderr
=============================================  ===================  =======================

Source: Li & Chen (2024), sec. 2; Li, Karan & Chen (2025), sec. 3 and Def. 4.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.special import chdtri, ndtri

from critwin.errors import InputError
from critwin.levels import alpha_sigma
from critwin.theory import _line as line_laws
from critwin.theory._forms import num_normals, rotated_average
from critwin.theory._scrambles import scrambles
from critwin.theory._sphere import (
    isotropic_average,
    meeting,
    plane_law,
    radial_law,
    softmax_average,
)
from critwin.theory._tables import (
    Labeller,
    Method,
    as_line,
    centred_span,
    check_levels,
    check_options,
    component_table,
    line_of,
    map_table,
    without_points,
)
from critwin.theory.mixtures import GaussianMixture, posterior_probs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from critwin.transitions import Transitions

    Array = NDArray[np.float64]

__all__ = [
    "Labeller",
    "Method",
    "clean_transitions",
    "exact_transitions",
]

_MAX_ELEMENTS = 1 << 22
_SMALL_DIM = 2  # up to which noised samples take one normal a coordinate, whatever the axes


def exact_transitions(
    mixture: GaussianMixture,
    logsnr: ArrayLike,
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
    labeller: Labeller = "component",
    method: Method = "auto",
    num_samples: int = 1 << 16,
    seed: int = 0,
) -> Transitions:
    """Transitions of the forward–reverse experiment whose reversal is the posterior draw.

    Args:
        mixture: Law of the clean ``x_0``, and the prior of the reversal.
        logsnr: Levels, strictly decreasing, shape ``(L,)``; ``+inf`` (no noise) is allowed.
        labels: Groups of components, label -> names; an ungrouped component keeps its name.
        labeller: ``"component"``: the label is the component that a sample was drawn from (or,
            which has the same law, a draw from ``P(j | x_0)``). ``"map"``: it is read off the
            sample, ``argmax_j P(j | x_0)`` before and after; exact for D = 1 and for equal
            isotropic covariances with means on a line, refused otherwise.
        method: ``"quadrature"`` (refused where it does not apply), ``"sobol"``, or ``"auto"``:
            quadrature where it applies.
        num_samples: Number of quasi-random points, split over 16 scrambles and the same at every
            level, so that curves are smooth; rounded down to whole blocks, by a fifth at most.
        seed: Seed of the scrambles.

    Returns:
        The table, ``kind="exact"``, or ``"estimated"`` with the standard error over scrambles.

    Raises:
        InputError: If levels or labels are not valid, or the method does not apply.

    Source:
        Li, Karan & Chen (2025), sec. 3.
    """
    check_options(labeller, method, num_samples)
    levels = check_levels(logsnr)
    # the plateau, mean stay without noise, comes with the levels
    alpha, sigma = alpha_sigma(np.concatenate([[np.inf], levels]))
    if labeller == "map":
        line = as_line(mixture, "labeller='map' is exact")
        if method == "sobol":
            raise InputError("labeller='map' has no Sobol estimate", wanted="method='auto'")
        noisy = line_laws.noised(line, alpha[1:], sigma[1:])
        weights, probs = line_laws.map_law(line, noisy, alpha[1:], sigma[1:])
        return map_table(mixture, levels, weights, probs, labels, "posterior")
    result = _component_law(mixture, alpha, sigma, method, num_samples, seed)
    plateau = float(mixture.weights.numpy() @ np.diagonal(result.probs[0]))
    table = component_table(
        mixture, levels, result.probs[1:], labels, {"method": result.method}, plateau
    )
    if result.scrambles is None:
        return table
    # every scramble is merged before the spread is taken: columns of a row are not independent
    each = [component_table(mixture, levels, r[1:], labels, {}, plateau) for r in result.scrambles]
    stderr = np.std([t.probs for t in each], axis=0, ddof=1) / np.sqrt(len(each))
    attrs = {**table.attrs, "num_samples": num_samples, "seed": seed}
    return replace(table, kind="estimated", stderr=stderr, attrs=attrs)


def clean_transitions(
    mixture: GaussianMixture,
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
    method: Method = "auto",
    num_samples: int = 1 << 16,
    seed: int = 0,
) -> Transitions:
    """The limit without noise, ``C_0[i, j] = E_{p^i} P(j | x_0)``, at ``logsnr = +inf``.

    It is the identity only where components do not overlap: two draws from ``P(component | x_0)``
    at the same ``x_0`` need not agree.

    Args:
        mixture: The mixture.
        labels: As :func:`exact_transitions`, as are:
        method: The method.
        num_samples: Number of quasi-random points.
        seed: Seed of the scrambles.

    Returns:
        A table of one level.

    Raises:
        InputError: As :func:`exact_transitions`.

    Source:
        Li, Karan & Chen (2025), sec. 3, at ``t = 0``.
    """
    return exact_transitions(
        mixture, [np.inf], labels=labels, method=method, num_samples=num_samples, seed=seed
    )


class _Law(NamedTuple):
    probs: Array  # (L, K, K)
    scrambles: Array | None  # (R, L, K, K), or None if exact
    method: str


def _component_law(
    m: GaussianMixture, alpha: Array, sigma: Array, method: Method, num_samples: int, seed: int
) -> _Law:
    m = without_points(m)
    log_weights = np.log(m.weights.numpy())
    eigenvalues = m.eigenvalues.numpy()
    if m.dim == 1 and method != "sobol":
        line = line_laws.noised(line_of(m), alpha, sigma)
        return _Law(line_laws.component_law(line), None, "quadrature")
    if m.is_shared:
        coords = _whitened(m, alpha, sigma)
        rank = coords.shape[-1]
        if rank <= 1 and method != "sobol":
            mean = coords[..., 0] if rank else np.zeros(coords.shape[:2])
            line = line_laws.Line(log_weights, mean, np.ones_like(mean))
            return _Law(line_laws.component_law(line), None, "quadrature")
        if rank == 2 and method != "sobol":
            return _Law(plane_law(coords, log_weights), None, "quadrature")
        _refuse_quadrature(method)
        together = [meeting(c, log_weights, is_rough=True) for c in coords]

        def shared(points: Array) -> Array:
            z = ndtri(points)
            mass = np.full(len(z), 1.0 / len(z))
            if m.kind != "isotropic":
                return np.stack(
                    [
                        softmax_average(z, mass, c, k, is_rough=True)
                        for c, k in zip(coords, together, strict=True)
                    ]
                )
            # the means only change their scale: one product for all levels
            product = (coords[0] - coords[0, 0]) @ z.T
            scale = np.linalg.norm(coords, axis=(1, 2)) / np.linalg.norm(coords[0])
            return np.stack(
                [
                    softmax_average(z, mass, c, k, pull=product, scale=float(s), is_rough=True)
                    for c, k, s in zip(coords, together, scale, strict=True)
                ]
            )

        return _sobol(shared, max(rank, 1) if rank else 0, num_samples, seed)
    if m.kind == "isotropic":
        span = centred_span(m.means.numpy())
        rank = span.shape[1]
        var = alpha[:, None] ** 2 * eigenvalues[:, 0] + sigma[:, None] ** 2
        if rank == 0 and method != "sobol":
            return _Law(radial_law(m.dim, var, log_weights), None, "quadrature")
        _refuse_quadrature(method)

        def isotropic(points: Array) -> Array:
            z = ndtri(points[:, :rank])
            rest = m.dim - rank
            chi = chdtri(rest, points[:, rank]) if rest else np.zeros(len(points))
            return np.stack(
                [
                    isotropic_average(z, chi, a * span, v, m.dim, log_weights)
                    for a, v in zip(alpha, var, strict=True)
                ]
            )

        return _sobol(isotropic, min(rank + 1, m.dim), num_samples, seed)
    _refuse_quadrature(method)

    def general(points: Array) -> Array:
        if m.dim <= _SMALL_DIM:
            return _full_average(m, torch.from_numpy(ndtri(points)), alpha, sigma)
        return rotated_average(m, ndtri(points), alpha, sigma)

    dim = m.dim if m.dim <= _SMALL_DIM else num_normals(m)
    return _sobol(general, dim, num_samples, seed)


def _sobol(average: Callable[[Array], Array], dim: int, num_samples: int, seed: int) -> _Law:
    """Independent scrambles of one Sobol sequence; their spread is the standard error."""
    points = scrambles(dim, num_samples, "exact_transitions", seed)
    found = np.stack([average(part) for part in points])
    found /= found.sum(axis=-1, keepdims=True)
    return _Law(found.mean(axis=0), found, "sobol")


def _full_average(m: GaussianMixture, z: Tensor, alpha: Array, sigma: Array) -> Array:
    """Average of ``P(j | y)`` over draws of every noised component, shape ``(L, K, K)``."""
    probs = np.empty((len(alpha), m.num_components, m.num_components))
    step = max(1, _MAX_ELEMENTS // (m.num_components * m.dim))
    for level, (a, s) in enumerate(zip(alpha, sigma, strict=True)):
        for k in range(m.num_components):
            row = 0 if m.is_shared else k
            total = torch.zeros(m.num_components, dtype=torch.float64)
            for part in torch.split(z, step):
                local = torch.sqrt(a**2 * m.eigenvalues[row] + s**2) * part
                if m.axes is not None:
                    local = local @ m.axes[row].mT
                y = a * m.means[k] + local
                total += posterior_probs(m, y, alpha=a, sigma=s).sum(dim=0)
            probs[level, k] = total.numpy() / len(z)
    return probs


def _whitened(m: GaussianMixture, alpha: Array, sigma: Array) -> Array:
    """Centred means in units of the shared noised covariance, ``(L, K, r)``, r their rank."""
    if m.kind == "isotropic":  # one decomposition serves all levels, and nothing depends on D
        scale = alpha / np.sqrt(alpha**2 * float(m.eigenvalues[0, 0]) + sigma**2)
        return np.asarray(scale[:, None, None] * centred_span(m.means.numpy()))
    means = m.means.numpy() if m.axes is None else (m.means @ m.axes[0]).numpy()
    rank = centred_span(means).shape[1]
    coords = np.empty((len(alpha), m.num_components, rank))
    for level, (a, s) in enumerate(zip(alpha, sigma, strict=True)):
        scaled = a * means / np.sqrt(a**2 * m.eigenvalues[0].numpy() + s**2)
        coords[level] = centred_span(scaled, rank=rank)
    return coords


def _refuse_quadrature(method: str) -> None:
    if method == "quadrature":
        raise InputError(
            "no quadrature for this mixture",
            wanted="D = 1; equal covariances with means in a plane; or equal means",
            next_step="use method='auto'",
        )
