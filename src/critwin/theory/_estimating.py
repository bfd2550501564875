r"""Sobol estimate of ``TV(P, Q) = E_{(P+Q)/2} |p - q| / (p + q)``, the same points at all levels.

The average over ``(P+Q)/2`` is stratified by component, and every component is drawn with the same
scrambled Sobol normals, at every level too: curves are smooth, and the integrand is in [0, 1].
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import chdtri, ndtri

from critwin.errors import InputError
from critwin.theory._scrambles import scrambles
from critwin.theory._sides import restricted, whitened
from critwin.theory._tables import centred_span
from critwin.theory.mixtures import noised_log_density

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from critwin.theory._pairs import Noised
    from critwin.theory._sides import Sides

    Array = NDArray[np.float64]
    Gap = Callable[[int, int], Array]

__all__ = ["NUM_SCRAMBLES", "estimate"]

NUM_SCRAMBLES = 64
_CHUNK = 1 << 14


def estimate(noised: Noised, sides: Sides, num_samples: int, seed: int) -> tuple[Array, Array]:
    """``TV(P, Q)`` and its standard error over scrambles, two arrays of shape ``(L,)``.

    Args:
        noised: The components.
        sides: The two mixtures (their factor is left out).
        num_samples: Points a component, split over the scrambles.
        seed: Seed of the scrambles.

    Raises:
        InputError: If there are fewer points than scrambles.
    """
    if num_samples < NUM_SCRAMBLES:
        raise InputError("too few samples", got=num_samples, wanted=f"at least {NUM_SCRAMBLES}")
    which = [*sides.left, *sides.right]
    weights = 0.5 * np.concatenate([sides.a, sides.b])
    num_left = len(sides.left)
    dim, gap_at = _integrand(noised, which, weights, num_left)
    points = _points(dim, num_samples, seed)
    gap = gap_at(points)
    each = np.zeros((NUM_SCRAMBLES, len(noised.alpha)))
    for level in range(len(noised.alpha)):
        for component, weight in enumerate(weights):
            # |p - q| / (p + q)
            value = np.abs(np.tanh(0.5 * gap(level, component)))
            each[:, level] += weight * value.reshape(NUM_SCRAMBLES, -1).mean(axis=1)
    stderr = each.std(axis=0, ddof=1) / np.sqrt(NUM_SCRAMBLES)
    return each.mean(axis=0), np.asarray(stderr)


@lru_cache(maxsize=2)
def _points(dim: int, num_samples: int, seed: int) -> Array:
    """Uniform points, scramble after scramble, shape ``(NUM_SCRAMBLES * count, dim)``; kept."""
    parts = scrambles(dim, num_samples, "total_variation", seed, num_scrambles=NUM_SCRAMBLES)
    return np.concatenate(list(parts))


def _integrand(
    noised: Noised, which: list[int], weights: Array, num_left: int
) -> tuple[int, Callable[[Array], Gap]]:
    """Number of uniforms a point, and from them ``ln p - ln q`` per level and component."""
    m = noised.mixture
    log_weights = np.log(weights)
    if m.is_shared:
        coords = whitened(noised, which)
        return coords.shape[2], lambda points: _unit_gap(
            ndtri(points), coords, log_weights, num_left
        )
    if m.kind == "isotropic":
        span = centred_span(m.means[which].numpy())
        rest = m.dim - span.shape[1]
        var = np.stack([noised.variances(k)[:, 0] for k in which], axis=1)
        return span.shape[1] + (rest > 0), lambda points: _isotropic_gap(
            points, noised.alpha, span, var, m.dim, log_weights, num_left
        )
    return m.dim, lambda points: _general_gap(ndtri(points), noised, which, weights, num_left)


def _difference(log_joint: Array, num_left: int) -> Array:
    """``ln p - ln q`` from the logarithms of all weighted components, along axis 1."""
    sides = []
    for part in (log_joint[:, :num_left], log_joint[:, num_left:]):
        top = part.max(axis=1)
        sides.append(
            top if part.shape[1] == 1 else top + np.log(np.exp(part - top[:, None]).sum(axis=1))
        )
    return np.asarray(sides[0] - sides[1])


def _unit_gap(z: Array, coords: Array, log_weights: Array, num_left: int) -> Gap:
    def gap(level: int, component: int) -> Array:
        delta = coords[level, component] - coords[level]
        bias = log_weights - 0.5 * (delta**2).sum(axis=1)
        return _difference(bias - z @ delta.T, num_left)

    return gap


def _isotropic_gap(
    points: Array,
    alpha: Array,
    span: Array,
    var: Array,
    dim: int,
    log_weights: Array,
    num_left: int,
) -> Gap:
    rank = span.shape[1]
    z = ndtri(points[:, :rank])
    chi = chdtri(dim - rank, points[:, rank]) if dim > rank else np.zeros(len(points))
    square_z = (z**2).sum(axis=1) + chi

    def gap(level: int, component: int) -> Array:
        delta = alpha[level] * (span[component] - span)
        own, all_var = var[level, component], var[level]
        square = own * square_z[:, None] + 2.0 * np.sqrt(own) * (z @ delta.T)
        square += (delta**2).sum(axis=1)
        log_joint = log_weights - 0.5 * dim * np.log(all_var / own) - 0.5 * square / all_var
        return _difference(log_joint, num_left)

    return gap


def _general_gap(z: Array, noised: Noised, which: list[int], weights: Array, num_left: int) -> Gap:
    m = noised.mixture
    left = restricted(m, which[:num_left], weights[:num_left])
    right = restricted(m, which[num_left:], weights[num_left:])

    def gap(level: int, component: int) -> Array:
        alpha, sigma = float(noised.alpha[level]), float(noised.sigma[level])
        k = which[component]
        result = np.empty(len(z))
        for start in range(0, len(z), _CHUNK):
            local = np.sqrt(noised.variances(k)[level]) * z[start : start + _CHUNK]
            if noised.axes is not None:
                local = local @ noised.axes[0 if m.is_shared else k].T
            y = torch.from_numpy(alpha * noised.means[k] + local)
            log_p, log_q = (
                noised_log_density(side, y, alpha=alpha, sigma=sigma).numpy()
                for side in (left, right)
            )
            result[start : start + _CHUNK] = log_p - log_q
        return result

    return gap
