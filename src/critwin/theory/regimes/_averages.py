r"""Averages over the noised law of what the posterior says: entropies and spreads of means.

Three geometries are integrated by quadrature to rounding error, and with them the derivative of
the entropy along the noise axis: one dimension, equal covariances with means on a line, and equal
means with isotropic covariances. All others are averaged over a scrambled Sobol sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, gammaln

from critwin.levels import alpha_sigma
from critwin.theory._line import Line, _z_of_all
from critwin.theory._quadrature import integrate_products
from critwin.theory._sphere import radial_edges
from critwin.theory._tables import centred_span, without_points
from critwin.theory.regimes._posteriors import entropy, entropy_and_slope, softmax, variance
from critwin.theory.regimes._scrambled import Average, posteriors, sobol_average

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.theory.mixtures import GaussianMixture

    Array = NDArray[np.float64]

__all__ = ["Average", "entropy_average", "is_quadrature", "spread_average"]


_MARKS = np.array([-9.0, -5.0, -3.0, -1.5, 0.0, 1.5, 3.0, 5.0, 9.0])  # mass beyond: 2e-19
_NARROW = 0.7


@dataclass(frozen=True, eq=False)
class _Path:
    """A mixture on a line at every level, with its derivative in logsnr."""

    line: Line
    mean_slope: Array  # (L, K)
    sd_slope: Array  # (L, K)
    unit: Array  # (L,): squared length of one unit of the line, for spreads of posterior means
    gain: Array  # (L, K): d posterior mean / dz, in the coordinate z of each component
    centre: Array  # (L, K): posterior mean at z = 0


def is_quadrature(m: GaussianMixture) -> bool:
    """Whether averages over this mixture are exact."""
    return _geometry(m) != "sobol"


def entropy_average(
    m: GaussianMixture, logsnr: Array, groups: Array, *, num_samples: int, seed: int
) -> Average:
    """``H(group | x_t)`` in nats and its derivative in logsnr.

    Args:
        m: The mixture.
        logsnr: Levels, shape ``(L,)``.
        groups: One-hot groups of the components, shape ``(K, G)``.
        num_samples: Number of quasi-random points, where they are needed.
        seed: Seed of the scrambles.
    """
    m = without_points(m)
    weights, geometry = m.weights.numpy(), _geometry(m)
    if geometry == "sobol":

        def read(level: float, points: Array) -> float:
            parts = posteriors(m, level, points)
            return sum(
                float(w * entropy(p.log_joint, groups).mean())
                for w, p in zip(weights, parts, strict=True)
            )

        return sobol_average(m, logsnr, read, num_samples, seed, with_slope=True)
    if geometry == "line":
        path = _path(m, logsnr)
        joint = _line_joint(path)

        def on_line(z: Array, owner: NDArray[np.int64]) -> tuple[Array, Array]:
            density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
            return density[..., None], entropy_and_slope(*joint(z, owner), groups)

        total = integrate_products(on_line, _panels(path.line), (1, 2))
    else:
        joint, density_of, edges = _radial(m, logsnr)

        def on_radius(r: Array, owner: NDArray[np.int64]) -> tuple[Array, Array]:
            return density_of(r)[..., None], entropy_and_slope(*joint(r, owner), groups)

        total = integrate_products(on_radius, edges, (1, 2))
    value = np.einsum("k,lkb->lb", weights, total.reshape(len(logsnr), len(weights), 2))
    zero = np.zeros(len(logsnr))
    return Average(value[:, 0].clip(0), value[:, 1], zero, zero, "quadrature")


def spread_average(m: GaussianMixture, logsnr: Array, *, num_samples: int, seed: int) -> Average:
    """``E_y Var_{j | y}(E[x_0 | y, j])``: what not knowing the component adds to the error.

    Args:
        m: The mixture.
        logsnr: Levels, shape ``(L,)``.
        num_samples: Number of quasi-random points, where they are needed.
        seed: Seed of the scrambles.

    Returns:
        The average in squared data units; no slope.
    """
    m = without_points(m)
    weights, geometry, zero = m.weights.numpy(), _geometry(m), np.zeros(len(logsnr))
    if geometry == "sobol":

        def read(level: float, points: Array) -> float:
            parts = posteriors(m, level, points)
            return sum(float(w * p.spread().mean()) for w, p in zip(weights, parts, strict=True))

        return sobol_average(m, logsnr, read, num_samples, seed, with_slope=False)
    if geometry == "line":
        path = _path(m, logsnr)
        joint, num = _line_joint(path), len(weights)

        def on_line(z: Array, owner: NDArray[np.int64]) -> tuple[Array, Array]:
            density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
            level = owner // num
            means = path.centre[level][:, None, :]
            means = means + path.gain[level][:, None, :] * _z_of_all(path.line, z, owner)
            spread = variance(softmax(joint(z, owner)[0]), means)
            return density[..., None], (path.unit[level][:, None] * spread)[..., None]

        total = integrate_products(on_line, _panels(path.line), (1, 1))
    else:
        alpha, sigma = alpha_sigma(logsnr)
        joint, density_of, edges = _radial(m, logsnr)
        var = alpha[:, None] ** 2 * m.eigenvalues.numpy()[:, 0] + sigma[:, None] ** 2
        gain = alpha[:, None] * m.eigenvalues.numpy()[:, 0] / var
        num = len(weights)

        def on_radius(r: Array, owner: NDArray[np.int64]) -> tuple[Array, Array]:
            level, own = owner // num, owner % num
            means = gain[level][:, None, :] * (np.sqrt(var[level, own])[:, None] * r)[..., None]
            return density_of(r)[..., None], variance(softmax(joint(r, owner)[0]), means)[
                ..., None
            ]

        total = integrate_products(on_radius, edges, (1, 1))
    value = total.reshape(len(logsnr), len(weights)) @ weights
    return Average(value.clip(0), np.full_like(value, np.nan), zero, zero, "quadrature")


def _geometry(m: GaussianMixture) -> str:
    if m.dim == 1:
        return "line"
    if m.is_shared and _direction(m)[0].shape[1] <= 1:
        return "line"
    if m.kind == "isotropic" and centred_span(m.means.numpy()).shape[1] == 0:
        return "radius"
    return "sobol"


def _direction(m: GaussianMixture) -> tuple[Array, Array]:
    """Centred means ``(K, r)`` in their span, and its basis ``(r, D)`` in the eigenvectors."""
    means = m.means.numpy() if m.axes is None else (m.means @ m.axes[0]).numpy()
    span = centred_span(means)
    if span.shape[1] == 0:
        return span, np.zeros((0, m.dim))
    basis = np.linalg.lstsq(span, means - means.mean(axis=0), rcond=None)[0]
    return span, basis


def _path(m: GaussianMixture, logsnr: Array) -> _Path:
    alpha = alpha_sigma(logsnr)[0]
    alpha_2, sigma_2 = expit(logsnr)[:, None], expit(-logsnr)[:, None]
    log_weights = np.log(m.weights.numpy())
    if m.dim == 1:
        clean_var = m.eigenvalues.numpy()[:, 0] * np.ones(m.num_components)
        mean = m.means.numpy()[:, 0]
        sd = np.sqrt(alpha_2 * clean_var + sigma_2)
        return _Path(
            line=Line(log_weights, alpha[:, None] * mean, sd),
            mean_slope=0.5 * alpha[:, None] * sigma_2 * mean,
            sd_slope=0.5 * alpha_2 * sigma_2 * (clean_var - 1) / sd,
            unit=np.ones(len(logsnr)),
            gain=alpha[:, None] * clean_var / sd,
            centre=np.broadcast_to(mean, sd.shape),
        )
    span, basis = _direction(m)
    if span.shape[1] == 0:
        span, basis = np.zeros((m.num_components, 1)), np.zeros((1, m.dim))
    inverse_snr = np.exp(-logsnr)[:, None]
    var = m.eigenvalues.numpy()[:1] * np.ones(m.dim) + inverse_snr  # (L, D)
    square = (basis[0] ** 2 / var).sum(axis=1)
    slope = (basis[0] ** 2 * inverse_snr / var**2).sum(axis=1)
    scale = np.sqrt(square)
    safe = np.where(scale > 0, scale, 1.0)
    mean = scale[:, None] * span[:, 0]
    return _Path(
        line=Line(log_weights, mean, np.ones_like(mean)),
        mean_slope=(0.5 * slope / safe)[:, None] * span[:, 0],
        sd_slope=np.zeros_like(mean),
        # posterior means of two components differ by (I - alpha G)(mu_i - mu_j) at every y
        unit=((basis[0] * inverse_snr / var) ** 2).sum(axis=1),
        gain=np.zeros_like(mean),
        centre=np.broadcast_to(span[:, 0], mean.shape),
    )


def _panels(line: Line) -> list[Array]:
    """First panels of every integral (level, component) in the component's own coordinate.

    Where two components of a width change places within reach, the step is at least 1/20 wide
    and a panel sees it; only narrower components need marks of their own.
    """
    num = len(line.log_weights)
    offset = (line.mean[:, None, :] - line.mean[:, :, None]) / line.sd[:, :, None]
    ratio = line.sd[:, None, :] / line.sd[:, :, None]
    marks = (offset[..., None] + ratio[..., None] * _MARKS).reshape(-1, num, len(_MARKS))
    is_narrow = ratio.reshape(-1, num) < _NARROW
    result = []
    for row, narrow in zip(marks, is_narrow, strict=True):
        extra = row[narrow].ravel()
        inside = extra[np.abs(extra) < _MARKS[-1]]
        result.append(np.unique(np.concatenate([_MARKS, inside])) if len(inside) else _MARKS)
    return result


def _line_joint(path: _Path) -> Callable[[Array, NDArray[np.int64]], tuple[Array, Array]]:
    line, num = path.line, len(path.line.log_weights)

    def joint(z: Array, owner: NDArray[np.int64]) -> tuple[Array, Array]:
        level, own = owner // num, owner % num
        sd, sd_slope = line.sd[level][:, None, :], path.sd_slope[level][:, None, :]
        z_all = _z_of_all(line, z, owner)
        # along the path y = mean_k + sd_k z of a fixed z
        moved = path.mean_slope[level, own][:, None] + path.sd_slope[level, own][:, None] * z
        z_slope = (moved[..., None] - path.mean_slope[level][:, None, :] - z_all * sd_slope) / sd
        log_joint = line.log_weights - np.log(sd) - 0.5 * z_all**2
        return log_joint, -sd_slope / sd - z_all * z_slope

    return joint


def _radial(
    m: GaussianMixture, logsnr: Array
) -> tuple[
    Callable[[Array, NDArray[np.int64]], tuple[Array, Array]],
    Callable[[Array], Array],
    list[Array],
]:
    dim, num = m.dim, m.num_components
    alpha_2, sigma_2 = expit(logsnr)[:, None], expit(-logsnr)[:, None]
    clean = m.eigenvalues.numpy()[:, 0] * np.ones(num)
    var = alpha_2 * clean + sigma_2
    log_slope = alpha_2 * sigma_2 * (clean - 1) / var
    log_weights = np.log(m.weights.numpy())
    log_norm = (0.5 * dim - 1) * np.log(2.0) + gammaln(0.5 * dim)

    def joint(r: Array, owner: NDArray[np.int64]) -> tuple[Array, Array]:
        level, own = owner // num, owner % num
        ratio = (var[level, own][:, None] / var[level])[:, None, :]
        slope = (log_slope[level, own][:, None] - log_slope[level])[:, None, :]
        square = ratio * r[..., None] ** 2
        return log_weights + 0.5 * dim * np.log(ratio) - 0.5 * square, 0.5 * slope * (dim - square)

    def density(r: Array) -> Array:
        with np.errstate(divide="ignore"):
            return np.asarray(np.exp((dim - 1) * np.log(r) - 0.5 * r * r - log_norm))

    return joint, density, radial_edges(dim, var)
