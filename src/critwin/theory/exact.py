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
from critwin.theory._scrambles import points_per_scramble, scrambles
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
    Which = NDArray[np.int64]
    # of points, levels and how many of the points each takes: (n, dim), (L,), (L,) -> (L, K, K)
    Average = Callable[[Array, Which, Which], Array]

__all__ = [
    "Labeller",
    "Method",
    "clean_transitions",
    "exact_transitions",
]

_MAX_ELEMENTS = 1 << 22
_FIRST_POINTS = 256  # of each scramble, where a standard error is wanted
_MARGIN = 1.1  # of the points that a spread foretells
_SMALL_DIM = 2  # up to which noised samples take one normal a coordinate, whatever the axes


def exact_transitions(
    mixture: GaussianMixture,
    logsnr: ArrayLike,
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
    labeller: Labeller = "component",
    method: Method = "auto",
    num_samples: int = 1 << 16,
    stderr: float | None = None,
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
        stderr: Largest standard error of a probability that is wanted: levels take no more of the
            points than it needs, and all of them where it is not reached. None: all everywhere.
        seed: Seed of the scrambles.

    Returns:
        The table, ``kind="exact"``, or ``"estimated"`` with the standard error over scrambles.

    Raises:
        InputError: If levels or labels are not valid, or the method does not apply.

    Source:
        Li, Karan & Chen (2025), sec. 3.
    """
    check_options(labeller, method, num_samples)
    if stderr is not None and not 0 < stderr < 1:
        raise InputError("stderr is out of range", got=stderr, wanted="a number between 0 and 1")
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
    result = _component_law(mixture, alpha, sigma, method, num_samples, stderr, seed)
    plateau = float(mixture.weights.numpy() @ np.diagonal(result.probs[0]))
    table = component_table(
        mixture, levels, result.probs[1:], labels, {"method": result.method}, plateau
    )
    if result.scrambles is None:
        return table
    # every scramble is merged before the spread is taken: columns of a row are not independent
    each = [component_table(mixture, levels, r[1:], labels, {}, plateau) for r in result.scrambles]
    found = np.std([t.probs for t in each], axis=0, ddof=1) / np.sqrt(len(each))
    attrs = {**table.attrs, "num_samples": num_samples, "seed": seed}
    if stderr is not None:
        attrs["stderr_wanted"] = stderr
    return replace(table, kind="estimated", stderr=found, attrs=attrs)


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
    m: GaussianMixture,
    alpha: Array,
    sigma: Array,
    method: Method,
    num_samples: int,
    stderr: float | None,
    seed: int,
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

        # isotropic means only change their scale: one product for all levels
        length = np.linalg.norm(coords, axis=(1, 2))
        scale = length / (length[0] or 1.0)  # 0 where all means are one

        def shared(points: Array, which: Which, size: Which) -> Array:
            z = ndtri(points)
            pull = (coords[0] - coords[0, 0]) @ z.T if m.kind == "isotropic" else None
            return np.stack(
                [
                    softmax_average(
                        z[:count],
                        np.full(count, 1.0 / count),
                        coords[n],
                        together[n],
                        pull=None if pull is None else pull[:, :count],
                        scale=float(scale[n]),
                        is_rough=True,
                    )
                    for n, count in zip(which, size, strict=True)
                ]
            )

        return _sobol(shared, rank, len(alpha), num_samples, stderr, seed)
    if m.kind == "isotropic":
        span = centred_span(m.means.numpy())
        rank = span.shape[1]
        var = alpha[:, None] ** 2 * eigenvalues[:, 0] + sigma[:, None] ** 2
        if rank == 0 and method != "sobol":
            return _Law(radial_law(m.dim, var, log_weights), None, "quadrature")
        _refuse_quadrature(method)

        def isotropic(points: Array, which: Which, size: Which) -> Array:
            z = ndtri(points[:, :rank])
            rest = m.dim - rank
            chi = chdtri(rest, points[:, rank]) if rest else np.zeros(len(points))
            return np.stack(
                [
                    isotropic_average(
                        z[:count], chi[:count], alpha[n] * span, var[n], m.dim, log_weights
                    )
                    for n, count in zip(which, size, strict=True)
                ]
            )

        return _sobol(isotropic, min(rank + 1, m.dim), len(alpha), num_samples, stderr, seed)
    _refuse_quadrature(method)

    def general(points: Array, which: Which, size: Which) -> Array:
        z = ndtri(points)
        rows = np.empty((len(which), m.num_components, m.num_components))
        for count in np.unique(size):  # levels of one size share their products
            own = which[size == count]
            if m.dim <= _SMALL_DIM:
                here = _full_average(m, torch.from_numpy(z[:count]), alpha[own], sigma[own])
            else:
                here = rotated_average(m, z[:count], alpha[own], sigma[own])
            rows[size == count] = here
        return rows

    dim = m.dim if m.dim <= _SMALL_DIM else num_normals(m)
    return _sobol(general, dim, len(alpha), num_samples, stderr, seed)


def _sobol(
    average: Average,
    dim: int,
    num_levels: int,
    num_samples: int,
    stderr: float | None,
    seed: int,
) -> _Law:
    """Independent scrambles of one Sobol sequence; their spread is the standard error.

    With a standard error to reach, levels begin with the first points of each scramble and take
    more of them, by what their spread foretells, until they reach it or there are no more.
    """
    most = points_per_scramble(num_samples)
    size = np.full(num_levels, most if stderr is None else min(_FIRST_POINTS, most))
    pending, found = np.arange(num_levels), None
    while len(pending):
        points = scrambles(dim, num_samples, "exact_transitions", seed)
        longest = int(size[pending].max())
        rows = np.stack([average(part[:longest], pending, size[pending]) for part in points])
        rows /= rows.sum(axis=-1, keepdims=True)
        if found is None:
            found = np.empty((len(rows), num_levels, *rows.shape[2:]))
        found[:, pending] = rows
        if stderr is None:
            break
        error = rows.std(axis=0, ddof=1).max(axis=(1, 2)) / np.sqrt(len(rows))
        is_open = (error > stderr) & (size[pending] < most)
        pending, growth = pending[is_open], (error[is_open] / stderr) ** 2
        wanted = size[pending] * np.clip(_MARGIN * growth, 1.5, most)
        blocks = np.ceil(wanted / _FIRST_POINTS).astype(np.int64)
        size[pending] = np.minimum(blocks * _FIRST_POINTS, most)
    assert found is not None
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
