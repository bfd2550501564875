"""Averages over a scrambled Sobol sequence, for mixtures that no quadrature here reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy.special import chdtri, ndtri

from critwin.errors import InputError
from critwin.levels import alpha_sigma
from critwin.streams import seed_of
from critwin.theory._tables import NUM_SCRAMBLES, centred_span
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
    """What is known at points of one component, in coordinates of few dimensions."""

    probs: Array  # (N, K)
    local: Array  # (N, K, r), y - alpha mu_j, or (1, K, r) where it does not matter
    offset: Array  # (K, r), means
    gain: Array  # (K, r), of the posterior mean
    radius_2: Array  # (N,), squared distance from the span
    rest_gain: Array  # (K,)

    def spread(self) -> Array:
        means = self.offset + self.gain * self.local
        centre = np.einsum(
            "nk,nkr->nr", self.probs, np.broadcast_to(means, (*self.probs.shape, means.shape[-1]))
        )
        inside = np.einsum("nk,nkr->n", self.probs, (means - centre[:, None, :]) ** 2)
        return np.asarray(inside + variance(self.probs, self.rest_gain) * self.radius_2)


def posteriors(m: GaussianMixture, logsnr: float, points: Array) -> Iterator[Posterior]:
    """For each component in turn, at the images of the same points of the unit cube."""
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    num, log_weights = m.num_components, np.log(m.weights.numpy())
    if m.kind == "isotropic":
        span = centred_span(m.means.numpy())
        rank = span.shape[1]
        clean = m.eigenvalues.numpy()[:, 0] * np.ones(num)
        var = alpha**2 * clean + sigma**2
        z = ndtri(points[:, :rank])
        chi = chdtri(m.dim - rank, points[:, rank]) if m.dim > rank else np.zeros(len(points))
        for k in range(num):
            local = alpha * (span[k] - span) + np.sqrt(var[k]) * z[:, None, :]
            square = (local**2).sum(axis=-1) + var[k] * chi[:, None]
            log_joint = log_weights - 0.5 * m.dim * np.log(var) - 0.5 * square / var
            gain = alpha * clean / var
            yield Posterior(softmax(log_joint), local, span, gain[:, None], var[k] * chi, gain)
        return
    if m.dim > _MAX_DIM:
        raise InputError(
            "too many dimensions for anisotropic covariances",
            got=m.dim,
            wanted=f"at most {_MAX_DIM}",
        )
    z = ndtri(points)
    clean = np.broadcast_to(m.eigenvalues.numpy(), (num, m.dim))
    var = alpha**2 * clean + sigma**2
    axes = None if m.axes is None else m.axes.numpy()
    means, zero = m.means.numpy(), np.zeros(num)
    if m.is_shared:
        means, axes = (means if axes is None else means @ axes[0]), None
    for k in range(num):
        y = np.sqrt(var[k]) * z
        if axes is None:
            local = y[:, None, :] + alpha * (means[k] - means)
            log_joint = log_weights - 0.5 * (np.log(var) + local**2 / var).sum(axis=-1)
            gain = alpha * clean / var
            yield Posterior(softmax(log_joint), local, means, gain, zero[:1], zero)
            continue
        y = y @ axes[k].T
        own = np.einsum("nkd,kde->nke", y[:, None, :] + alpha * (means[k] - means), axes)
        log_joint = log_weights - 0.5 * (np.log(var) + own**2 / var).sum(axis=-1)
        local = np.einsum("nke,kde->nkd", own * (alpha * clean / var), axes)
        yield Posterior(softmax(log_joint), local, means, np.ones((num, 1)), zero[:1], zero)


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
    rank = centred_span(m.means.numpy()).shape[1]
    dim = min(rank + 1, m.dim) if m.kind == "isotropic" else m.dim
    if m.kind == "isotropic" and m.is_shared:
        dim = rank  # the distance from the span tells nothing
    count = 1 << max(0, (num_samples // NUM_SCRAMBLES).bit_length() - 1)
    chunk = max(1, _CHUNK // (m.num_components * max(dim, 1)))
    offsets = _OFFSETS if with_slope else np.zeros(1)
    sums = np.zeros((NUM_SCRAMBLES, len(logsnr), len(offsets)))
    sobol_engine: Any = torch.quasirandom.SobolEngine  # untyped in PyTorch
    for r in range(NUM_SCRAMBLES):
        engine = sobol_engine(dim, scramble=True, seed=seed_of(seed, "regimes", r))
        cells = (np.floor(engine.draw(count, dtype=torch.float64).numpy() * 2**30) + 0.5) / 2**30
        for start in range(0, count, chunk):
            part = cells[start : start + chunk]
            if m.kind == "isotropic" and m.is_shared and m.dim > rank:
                part = np.concatenate([part, np.full((len(part), 1), 0.5)], axis=1)
            for row, level in enumerate(logsnr):
                for column, offset in enumerate(offsets):
                    sums[r, row, column] += read(level + offset, part) * len(part) / count
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
