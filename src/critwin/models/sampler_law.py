r"""The law of a sampler with finitely many steps, on a line, without Monte Carlo.

``u_n(x) = P(label of the result = j | x_n = x)`` obeys a backward equation: at the last level it
is ``P(j | D(x))``, and each step averages it over the step's Gaussian. On a line this is a handful
of integrals per step, so the error of a sampler is measured to many digits, and its order is not
hidden in noise. With two-step samplers the state is ``(x, D of the step before)``.

Source: Kloeden & Platen (1992), *Numerical solution of SDEs*, ch. 14 (weak error through the
backward equation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from scipy.interpolate import CubicSpline, RectBivariateSpline

from critwin.errors import InputError
from critwin.levels import alpha_sigma
from critwin.models.samplers import step_coefficients
from critwin.theory.mixtures import GaussianMixture, posterior_mean, posterior_probs

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["sampler_law"]

_REACH = 8.0


def sampler_law(
    mixture: GaussianMixture,
    path: ArrayLike,
    *,
    order: Literal[1, 2] = 2,
    num_points: int = 301,
    num_nodes: int = 16,
) -> Array:
    """Transitions that the stochastic sampler performs, instead of the exact posterior draw.

    Args:
        mixture: A mixture with D = 1 whose components have positive variance.
        path: Increasing logsnr at which the sampler calls the exact denoiser.
        order: Order of the sampler.
        num_points: Points of the grid in x; a sixth as many in the second coordinate of order 2.
        num_nodes: Gauss–Hermite nodes of each step.

    Returns:
        ``C[i, j]``, shape ``(K, K)``: before is the component, after a draw from ``P(j | x_0)``
        of the result. The numerical error at the defaults is a few 1e-6 for components of
        comparable scale, more if one is narrow on the grid; finer grids show it.

    Raises:
        InputError: If the mixture is not on a line or has points.
    """
    if mixture.dim != 1 or not bool((mixture.eigenvalues > 0).all()):
        raise InputError("the law of a sampler needs D = 1 and positive variances")
    if order not in (1, 2):
        raise InputError("unknown order of the sampler", got=order, wanted="1 or 2")
    levels = np.asarray(path, dtype=np.float64)
    mean = mixture.means[:, 0].numpy()
    sd = np.sqrt(mixture.eigenvalues[:, 0].numpy()) * np.ones_like(mean)
    low = min(float((mean - _REACH * sd).min()), -_REACH)
    high = max(float((mean + _REACH * sd).max()), _REACH)
    x = np.linspace(low, high, num_points)
    node, weight = np.polynomial.hermite_e.hermegauss(num_nodes)
    weight = weight / weight.sum()
    backward = _backward_1 if order == 1 else _backward_2
    u = backward(mixture, levels, x, node, weight)
    # the source's own noise, component by component, on fine nodes
    alpha, sigma = (float(v) for v in alpha_sigma(levels[0]))
    z = np.linspace(-_REACH, _REACH, 1601)
    mass = np.exp(-0.5 * z * z)
    start = alpha * mean[:, None] + np.hypot(alpha * sd, sigma)[:, None] * z
    rows = CubicSpline(x, u)(np.clip(start, low, high))
    return np.asarray(np.einsum("z,izj->ij", mass / mass.sum(), rows))


def _backward_1(m: GaussianMixture, levels: Array, x: Array, node: Array, weight: Array) -> Array:
    u = _labels(m, _denoised(m, x, levels[-1]))
    for start, stop in zip(levels[-2::-1], levels[:0:-1], strict=True):
        step = step_coefficients(start, stop, is_stochastic=True)
        centre = step.x * x + step.denoised * _denoised(m, x, start)
        reached = np.clip(centre[:, None] + step.noise * node, x[0], x[-1])
        u = np.einsum("xzj,z->xj", CubicSpline(x, u)(reached), weight)
    return np.asarray(u)


def _backward_2(m: GaussianMixture, levels: Array, x: Array, node: Array, weight: Array) -> Array:
    num, num_labels = max(8, len(x) // 6), m.num_components
    u = np.repeat(_labels(m, _denoised(m, x, levels[-1]))[:, None], num, axis=1)
    if len(levels) == 1:
        return np.asarray(u[:, 0])
    seen = _range(m, x, levels[-2], num)
    for n in range(len(levels) - 2, -1, -1):
        step = step_coefficients(levels[n], levels[n + 1], is_stochastic=True)
        now = _denoised(m, x, levels[n])
        target = now[:, None]
        before = seen
        if n > 0:
            ratio = (levels[n + 1] - levels[n]) / (levels[n] - levels[n - 1])
            before = _range(m, x, levels[n - 1], num)
            target = target + 0.5 * ratio * (target - before)
        centre = step.x * x[:, None] + step.denoised * target
        reached = np.clip(centre[..., None] + step.noise * node, x[0], x[-1])
        carried = np.broadcast_to(now[:, None, None], reached.shape)
        new = np.empty((*target.shape, num_labels))
        for j in range(num_labels - 1):
            new[..., j] = RectBivariateSpline(x, seen, u[..., j]).ev(reached, carried) @ weight
        new[..., -1] = 1 - new[..., :-1].sum(axis=-1)
        u, seen = new, before
    return np.asarray(u[:, 0])


def _range(m: GaussianMixture, x: Array, logsnr: float, num: int) -> Array:
    """Grid over all values that the denoised sample can take at a level."""
    value = _denoised(m, x, logsnr)
    return np.linspace(value.min(), value.max(), num)


def _denoised(m: GaussianMixture, x: Array, logsnr: float) -> Array:
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    at = torch.from_numpy(x)[:, None]
    return np.asarray(posterior_mean(m, at, alpha=alpha, sigma=sigma)[:, 0].numpy())


def _labels(m: GaussianMixture, x_0: Array) -> Array:
    probs = posterior_probs(m, torch.from_numpy(x_0)[:, None], alpha=1.0, sigma=0.0)
    return np.asarray(probs.numpy())
