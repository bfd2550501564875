"""Averages over a scrambled Sobol sequence, for mixtures that no quadrature here reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import chdtri, ndtri

from critwin.errors import InputError
from critwin.levels import alpha_sigma
from critwin.theory._scrambles import NUM_SCRAMBLES, scrambles
from critwin.theory._tables import centred_span
from critwin.theory.regimes._posteriors import softmax, variance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.theory.mixtures import GaussianMixture

    Array = NDArray[np.float64]

__all__ = ["Average", "Posterior", "posteriors", "sobol_average"]

_MAX_DIM = 4096
_CHUNK = 1 << 20
# central differences of fourth order in logsnr, for averages over the same points
_OFFSETS = 0.05 * np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
_STENCIL = np.array([1.0, -8.0, 0.0, 8.0, -1.0]) / (12 * 0.05)


class Average(NamedTuple):
    """An average at every level, over scrambles where it is an estimate."""

    value: Array  # (L,)
    slope: Array  # (L,), derivative in logsnr
    value_stderr: Array  # (L,), 0 where exact
    slope_stderr: Array
    method: str


class Posterior(NamedTuple):
    """What is known at points drawn from one component."""

    log_joint: Array  # (N, K), ln w_j p_j(y) up to a constant of y
    spread: Callable[[], Array]  # () -> (N,), variance over j of E[x_0 | y, j]


def posteriors(m: GaussianMixture, logsnr: float, points: Array) -> Iterator[Posterior]:
    """For each component in turn, at the images of the same points of the unit cube."""
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    num, log_weights = m.num_components, np.log(m.weights.numpy())
    if m.is_shared:
        yield from _of_shared(m, alpha, sigma, points)
        return
    if m.kind == "isotropic":
        yield from _of_isotropic(m, alpha, sigma, points)
        return
    z, means = ndtri(points), m.means.numpy()
    clean = np.broadcast_to(m.eigenvalues.numpy(), (num, m.dim))
    var = alpha**2 * clean + sigma**2
    axes = None if m.axes is None else m.axes.numpy()
    for k in range(num):
        y = np.sqrt(var[k]) * z
        if axes is not None:
            y = y @ axes[k].T
        local = y[:, None, :] + alpha * (means[k] - means)
        if axes is not None:
            local = np.einsum("nkd,kde->nke", local, axes)
        log_joint = log_weights - 0.5 * (np.log(var) + local**2 / var).sum(axis=-1)
        shift = local * (alpha * clean / var)
        if axes is not None:
            shift = np.einsum("nke,kde->nkd", shift, axes)
        yield Posterior(log_joint, partial(_spread_of, log_joint, means + shift))


def _of_shared(
    m: GaussianMixture, alpha: float, sigma: float, points: Array
) -> Iterator[Posterior]:
    """Equal covariances: posterior means differ by constants, logits are one product."""
    if m.kind == "isotropic":
        means, clean = centred_span(m.means.numpy()), m.eigenvalues.numpy()[0]
    else:
        means = m.means.numpy() if m.axes is None else (m.means @ m.axes[0]).numpy()
        means, clean = means - means.mean(axis=0), m.eigenvalues.numpy()[0]
    var = alpha**2 * clean + sigma**2
    coords, apart = alpha * means / np.sqrt(var), means * (sigma**2 / var)
    pull = ndtri(points) @ coords.T
    for own in coords:
        bias = np.log(m.weights.numpy()) - 0.5 * ((own - coords) ** 2).sum(axis=1)
        log_joint = pull + bias
        yield Posterior(log_joint, partial(_spread_of, log_joint, apart[None]))


def _of_isotropic(
    m: GaussianMixture, alpha: float, sigma: float, points: Array
) -> Iterator[Posterior]:
    """Isotropic covariances: the span of the means, and the distance from it."""
    span = centred_span(m.means.numpy())
    rank = span.shape[1]
    clean = m.eigenvalues.numpy()[:, 0]
    var = alpha**2 * clean + sigma**2
    gain = alpha * clean / var
    z = ndtri(points[:, :rank])
    chi = chdtri(m.dim - rank, points[:, rank]) if m.dim > rank else np.zeros(len(points))
    log_norm = np.log(m.weights.numpy()) - 0.5 * m.dim * np.log(var)
    for k in range(m.num_components):
        y, radius_2 = alpha * span[k] + np.sqrt(var[k]) * z, var[k] * chi
        gap = alpha * (span[k] - span)
        cross = 2 * np.sqrt(var[k]) * (z @ gap.T)
        square = (gap**2).sum(axis=1) + cross + (var[k] * (z**2).sum(axis=1) + radius_2)[:, None]
        log_joint = log_norm - 0.5 * square / var
        yield Posterior(
            log_joint, partial(_isotropic_spread, log_joint, y, radius_2, span, gain, alpha * gain)
        )


def _spread_of(log_joint: Array, means: Array) -> Array:
    """Variance of ``means (N or 1, K, r)`` under the posterior ``(N, K)``."""
    probs = softmax(log_joint)
    if len(means) == 1:
        centre = probs @ means[0]
        return np.asarray(probs @ (means[0] ** 2).sum(axis=1) - (centre**2).sum(axis=1))
    centre = np.einsum("nk,nkr->nr", probs, means)
    return np.asarray(np.einsum("nk,nkr->n", probs, (means - centre[:, None, :]) ** 2))


def _isotropic_spread(
    log_joint: Array, y: Array, radius_2: Array, span: Array, gain: Array, pulled: Array
) -> Array:
    """Posterior means are ``(1 - alpha gain_j) mu_j + gain_j y``, and gain_j across the span."""
    probs = softmax(log_joint)
    base = (1 - pulled)[:, None] * span
    square = (base**2).sum(axis=1) + 2 * gain * (y @ base.T)
    square = square + gain**2 * (y**2).sum(axis=1)[:, None]
    centre = probs @ base + (probs @ gain)[:, None] * y
    inside = (probs * square).sum(axis=1) - (centre**2).sum(axis=1)
    return np.asarray(inside + variance(probs, gain) * radius_2)


def sobol_average(
    m: GaussianMixture,
    logsnr: Array,
    read: Callable[[float, Array], float],
    num_samples: int,
    seed: int,
    *,
    with_slope: bool,
) -> Average:
    """Independent scrambles, the same at all levels; their spread is the standard error."""
    if num_samples < NUM_SCRAMBLES:
        raise InputError("too few samples", got=num_samples, wanted=f"at least {NUM_SCRAMBLES}")
    if m.kind != "isotropic" and m.dim > _MAX_DIM:
        raise InputError(
            "too many dimensions for anisotropic covariances",
            got=m.dim,
            wanted=f"at most {_MAX_DIM}",
        )
    rank = centred_span(m.means.numpy()).shape[1]
    dim = min(rank + 1, m.dim) if m.kind == "isotropic" else m.dim
    if m.kind == "isotropic" and m.is_shared:
        dim = rank  # the distance from the span tells nothing
    width = 1 if m.is_shared or m.kind == "isotropic" else dim
    chunk = max(1, _CHUNK // (m.num_components * width + dim))
    offsets = _OFFSETS if with_slope else np.zeros(1)
    sums = np.zeros((NUM_SCRAMBLES, len(logsnr), len(offsets)))
    for r, cells in enumerate(scrambles(dim, num_samples, "regimes", seed)):
        for start in range(0, len(cells), chunk):
            part = cells[start : start + chunk]
            for row, level in enumerate(logsnr):
                for column, offset in enumerate(offsets):
                    sums[r, row, column] += read(level + offset, part) * len(part) / len(cells)
    middle = sums[..., len(offsets) // 2]
    slope = sums @ _STENCIL if with_slope else np.full_like(middle, np.nan)
    root = np.sqrt(NUM_SCRAMBLES)
    return Average(
        middle.mean(axis=0),
        slope.mean(axis=0),
        middle.std(axis=0, ddof=1) / root,
        slope.std(axis=0, ddof=1) / root,
        "sobol",
    )
