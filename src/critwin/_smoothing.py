"""Linear interpolation and smoothing weights along the noise axis.

Both turn values at the levels into a value at any point by a fixed linear combination, so that
the sampling error of the result follows from the influence of every source.

Source: Fan & Gijbels (1996), *Local polynomial modelling*, sec. 3.2 (order of the bias and the
bandwidth ``n^{-1/9}`` of a locally quadratic fit).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import isotonic_regression

from critwin.levels import ou_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNEVEN = 4.0  # neighbouring spacings that differ by more are interpolated linearly
_DEGREE = 2
# share of the 10–90 width that a bandwidth spans, at a standard error of .015 per level: small
# enough that the sharp shoulder of a curve with two stages is not rounded off (the start of a
# 4-component tree is then found within .006 in OU time)
_SHARE, _REFERENCE = 0.18, 0.015
_LEAST, _MOST = 0.14, 0.3


def axis_of(logsnr: NDArray[np.float64]) -> str:
    """The coordinate in which the levels are closer to uniform: ``"t"`` or ``"logsnr"``."""
    if len(logsnr) < 3:
        return "logsnr"
    spread = {}
    for name, x in (("t", ou_time(logsnr)), ("logsnr", -logsnr)):
        gap = np.diff(x)
        spread[name] = gap.std() / gap.mean()
    return "t" if spread["t"] < spread["logsnr"] else "logsnr"


def coordinate(logsnr: NDArray[np.float64], axis: str) -> NDArray[np.float64]:
    """Increasing coordinate of levels on an axis."""
    return ou_time(logsnr) if axis == "t" else -logsnr


def bandwidth(
    x: NDArray[np.float64], value: NDArray[np.float64], stderr: NDArray[np.float64]
) -> float | None:
    """Half-width of the smoothing window for a falling curve, or None: too few levels to smooth.

    Args:
        x: Coordinate of the levels, shape ``(L,)``, increasing.
        value: The curve, shape ``(L,)``.
        stderr: Its standard errors, shape ``(L,)``.

    Returns:
        The bandwidth: a share of the curve's own 10–90 width that shrinks as the standard error
        falls, so that the bias stays small beside it.
    """
    if len(x) < 6:
        return None
    smooth = isotonic_regression(value, increasing=False).x
    top, bottom = smooth[0], smooth[-1]
    if not top > bottom:
        return None
    part = (smooth - bottom) / (top - bottom)
    ends = [float(np.interp(-q, -part, x)) for q in (0.9, 0.1)]
    width = max(ends[1] - ends[0], float(np.median(np.diff(x))))
    error = float(np.median(stderr)) / (top - bottom)
    share = np.clip(_SHARE * (error / _REFERENCE) ** (2.0 / 9.0), _LEAST, _MOST)
    result = float(share * width)
    return result if result > 1.5 * np.median(np.diff(x)) else None


def smoothing_weights(
    x: NDArray[np.float64],
    at: NDArray[np.float64],
    half_width: float,
    number: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Weights of a locally quadratic fit with a tricube kernel, shape ``(len(at), L)``.

    Args:
        x: Coordinate of the levels, shape ``(L,)``, increasing.
        at: Points, in the same coordinate.
        half_width: Bandwidth; widened where it holds too few levels.
        number: Size of the sample at each level, shape ``(L,)``; None: all alike.
    """
    distance = x[None, :] - at[:, None]
    nearest = np.sort(np.abs(distance), axis=1)
    reach = np.maximum(half_width, 1.001 * nearest[:, min(_DEGREE + 1, len(x) - 1)])[:, None]
    scaled = distance / reach
    kernel = np.clip(1.0 - np.abs(scaled) ** 3, 0.0, None) ** 3
    if number is not None:
        kernel = kernel * (number / number.max())
    design = scaled[..., None] ** np.arange(_DEGREE + 1)
    weighted = np.swapaxes(design, 1, 2) * kernel[:, None, :]
    solution = np.linalg.solve(weighted @ design, weighted)
    return np.asarray(solution[:, 0, :])


def interpolation_weights(x: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of local cubic (Lagrange) interpolation, shape ``(len(at), L)``.

    Args:
        x: Coordinate of the levels, shape ``(L,)``, increasing.
        at: Points, in the same coordinate.

    Returns:
        Cubic inside, quadratic in the end cells, linear between uneven spacings.
    """
    count = len(x)
    if count == 1:
        return np.ones((len(at), 1))
    weights = np.zeros((len(at), count))
    cell = np.clip(np.searchsorted(x, at, side="right") - 1, 0, count - 2)
    gap = np.diff(x)
    for k in np.unique(cell):
        rows = np.flatnonzero(cell == k)
        nodes = np.arange(max(k - 1, 0), min(k + 3, count))
        spacing = gap[nodes[:-1]]
        if spacing.max() > _UNEVEN * spacing.min():
            nodes = np.arange(k, k + 2)
        points = x[nodes]
        for a, node in enumerate(nodes):
            others = np.delete(points, a)
            weights[rows, node] = np.prod((at[rows, None] - others) / (points[a] - others), axis=1)
    return weights
