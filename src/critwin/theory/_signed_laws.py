"""Total variation of mixtures that live on a line or on a radius: one adaptive quadrature.

The sign changes of ``p - q`` are found first and made ends of panels: a kink inside a panel can
hide from the difference of two rules. What a scan misses are lobes between two close roots, which
the adaptive rule still sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from critwin.theory._quadrature import integrate_products

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Signed = Callable[[Array, NDArray[np.int64]], Array]

__all__ = ["line_tv", "radial_tv"]

_MARKS = np.array([-9.0, -6.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 6.0, 9.0])
_PARTS = 4  # of every panel in the scan for sign changes
_BISECTIONS = 52


def line_tv(mean: Array, sd: Array, coefficients: Array) -> Array:
    """``1/2 ∫ |sum_k c_k N(y; mean_k, sd_k^2)| dy``, shape ``(L,)``.

    Args:
        mean: Shape ``(L, n)``.
        sd: Shape ``(L, n)``.
        coefficients: Of either sign, shape ``(n,)``, or one row a level.
    """
    coefs = np.broadcast_to(coefficients, mean.shape)
    scaled = 0.5 * coefs / (sd * np.sqrt(2.0 * np.pi))

    def signed(y: Array, owner: NDArray[np.int64]) -> Array:
        z = (y[..., None] - mean[owner][:, None, :]) / sd[owner][:, None, :]
        return np.asarray(np.einsum("pnk,pk->pn", np.exp(-0.5 * z * z), scaled[owner]))

    marks = (mean[..., None] + sd[..., None] * _MARKS).reshape(len(mean), -1)
    return _absolute(signed, [np.unique(row) for row in marks])


def radial_tv(dim: int, var: Array, coefficients: Array) -> Array:
    """The same for centred isotropic Gaussians in D dimensions, by their radius.

    Args:
        dim: Number of dimensions D.
        var: Variances, shape ``(L, n)``.
        coefficients: Shape ``(n,)``.
    """
    log_norm = (0.5 * dim - 1) * np.log(2.0) + gammaln(0.5 * dim)
    shell, marks = np.sqrt(dim), np.append(_MARKS, [-12.0, 12.0])

    def signed(r: Array, owner: NDArray[np.int64]) -> Array:
        own = var[owner][:, None, :]
        with np.errstate(divide="ignore"):
            radial = (dim - 1) * np.log(r) if dim > 1 else np.zeros_like(r)
        log_p = radial[..., None] - 0.5 * dim * np.log(own) - 0.5 * r[..., None] ** 2 / own
        return np.asarray(0.5 * np.exp(log_p - log_norm) @ coefficients)

    edges = [
        np.unique(np.maximum((np.sqrt(row)[:, None] * (shell + marks)).ravel(), 0.0))
        for row in var
    ]
    return _absolute(signed, edges)


def _absolute(signed: Signed, edges: list[Array]) -> Array:
    """``∫ |f|`` of one function a level, in [0, 1]."""

    def integrand(y: Array, owner: NDArray[np.int64]) -> tuple[Array, Array]:
        value = np.abs(signed(y, owner))[..., None]
        return value, np.ones_like(value)

    result = integrate_products(integrand, _with_roots(signed, edges), (1, 1))
    return np.asarray(np.clip(result[:, 0, 0], 0.0, 1.0))


def _with_roots(signed: Signed, edges: list[Array]) -> list[Array]:
    """The edges and all sign changes that a scan of their panels finds."""
    share = np.arange(_PARTS) / _PARTS
    scans = [
        np.append((row[:-1, None] + np.diff(row)[:, None] * share).ravel(), row[-1])
        for row in edges
    ]
    owner = np.repeat(np.arange(len(scans)), [len(row) for row in scans])
    points = np.concatenate(scans)
    sign = np.sign(signed(points[:, None], owner)[:, 0])
    is_step = (sign[1:] * sign[:-1] < 0) & (owner[1:] == owner[:-1])
    at = np.flatnonzero(is_step)
    low, high, own, left = points[at], points[at + 1], owner[at], sign[at]
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        is_left = np.sign(signed(middle[:, None], own)[:, 0]) == left
        low, high = np.where(is_left, middle, low), np.where(is_left, high, middle)
    roots = 0.5 * (low + high)
    return [np.unique(np.append(row, roots[own == k])) for k, row in enumerate(edges)]
