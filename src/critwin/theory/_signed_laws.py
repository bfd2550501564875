"""Total variation of mixtures that live on a line or on a radius: one adaptive quadrature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from critwin.theory._quadrature import integrate_products

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["line_tv", "radial_tv"]

_MARKS = np.array([-9.0, -6.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 6.0, 9.0])


def line_tv(mean: Array, sd: Array, coefficients: Array) -> Array:
    """``1/2 ∫ |sum_k c_k N(y; mean_k, sd_k^2)| dy``, shape ``(L,)``.

    Args:
        mean: Shape ``(L, n)``.
        sd: Shape ``(L, n)``.
        coefficients: Of either sign, shape ``(n,)``, or one row a level.
    """
    coefs = np.broadcast_to(coefficients, mean.shape)
    scaled = 0.5 * coefs / (sd * np.sqrt(2.0 * np.pi))

    def integrand(y: Array, owner: NDArray[np.int64]) -> tuple[Array, Array]:
        z = (y[..., None] - mean[owner][:, None, :]) / sd[owner][:, None, :]
        value = np.abs(np.einsum("pnk,pk->pn", np.exp(-0.5 * z * z), scaled[owner]))[..., None]
        return value, np.ones_like(value)

    marks = (mean[..., None] + sd[..., None] * _MARKS).reshape(len(mean), -1)
    result = integrate_products(integrand, [np.unique(row) for row in marks], (1, 1))
    return np.asarray(np.clip(result[:, 0, 0], 0.0, 1.0))


def radial_tv(dim: int, var: Array, coefficients: Array) -> Array:
    """The same for centred isotropic Gaussians in D dimensions, by their radius.

    Args:
        dim: Number of dimensions D.
        var: Variances, shape ``(L, n)``.
        coefficients: Shape ``(n,)``.
    """
    log_norm = (0.5 * dim - 1) * np.log(2.0) + gammaln(0.5 * dim)
    shell, marks = np.sqrt(dim), np.append(_MARKS, [-12.0, 12.0])

    def integrand(r: Array, owner: NDArray[np.int64]) -> tuple[Array, Array]:
        own = var[owner][:, None, :]
        with np.errstate(divide="ignore"):
            radial = (dim - 1) * np.log(r) if dim > 1 else np.zeros_like(r)
        log_p = radial[..., None] - 0.5 * dim * np.log(own) - 0.5 * r[..., None] ** 2 / own
        value = 0.5 * np.abs(np.exp(log_p - log_norm) @ coefficients)[..., None]
        return value, np.ones_like(value)

    edges = [
        np.unique(np.maximum((np.sqrt(row)[:, None] * (shell + marks)).ravel(), 0.0))
        for row in var
    ]
    result = integrate_products(integrand, edges, (1, 1))
    return np.asarray(np.clip(result[:, 0, 0], 0.0, 1.0))
