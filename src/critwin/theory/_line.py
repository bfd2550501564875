r"""Mixtures on a line: regions of labels, distribution functions, and their exact transitions.

Everything is computed in the coordinate ``z = (y - m_k) / s_k`` of one noised component k at a
time, so that neither very different scales nor extreme levels lose digits. In one dimension the
probability-flow ODE maps quantiles to quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_ndtr, ndtr

from critwin.theory._quadrature import integrate_products

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "Line",
    "component_law",
    "map_law",
    "noised",
    "ode_component_law",
    "ode_map_law",
    "quantile_map",
    "regions",
]

_MARKS = np.array([-9.0, -6.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 6.0, 9.0])
_MAX_NEWTON = 200
_TABLE = 361
_REACH = 9.0  # mass beyond: 2e-19


@dataclass(frozen=True, eq=False)
class Line:
    """One-dimensional mixtures, one a level: ``log_weights (K,)``, ``mean, sd (L, K)``."""

    log_weights: Array
    mean: Array
    sd: Array


def noised(clean: Line, alpha: Array, sigma: Array) -> Line:
    """The clean line (L = 1) at levels of shape ``(L,)``."""
    a, s = alpha[:, None], sigma[:, None]
    return Line(clean.log_weights, a * clean.mean, np.hypot(a * clean.sd, s))


def component_law(line: Line) -> Array:
    """``C[l, i, j] = E_{y ~ p_t^i} P(j | y)``, shape ``(L, K, K)``."""
    num_levels, num = line.mean.shape

    def integrand(z: Array, owner: NDArray[np.int64]) -> tuple[Array, Array]:
        return _gauss(z)[..., None], _softmax(_log_joint(line, z, owner))

    probs = integrate_products(integrand, _edges(line), (1, num))
    return _normalised(probs.reshape(num_levels, num, num))


def map_law(clean: Line, line: Line, alpha: Array, sigma: Array) -> tuple[Array, Array]:
    """The same for labels read off both samples by ``argmax_j P(j | x_0)``.

    Returns:
        The labels' weights ``(K,)`` and their transitions ``(L, K, K)``, NaN rows where a label
        is never read.
    """
    num_levels, num = line.mean.shape
    cuts, labels = regions(clean)
    weights = _region_probs(clean.mean, clean.sd, cuts, labels, num)[0].T @ np.exp(
        clean.log_weights
    )

    def integrand(z: Array, owner: NDArray[np.int64]) -> tuple[Array, Array]:
        each, own = _posterior_labels(clean, line, alpha, sigma, z, owner, cuts, labels)
        after = np.einsum(
            "pnk,pnkb->pnb", _softmax(_log_joint(line, z, owner)), each, optimize=True
        )
        return own * _gauss(z)[..., None], after

    joint = integrate_products(
        integrand, _edges(line, extra=_cut_marks(clean, line, alpha, cuts)), (num, num)
    )
    joint = np.einsum(
        "k,lkab->lab", np.exp(clean.log_weights), joint.reshape(num_levels, num, num, num)
    )
    return weights, _rows(joint, weights)


def ode_component_law(clean: Line, line: Line) -> Array:
    """``C[l, i, j] = E_{y ~ p_t^i} P(j | x_0 = T(y))`` with T the flow of the ODE."""
    num = line.mean.shape[1]

    def integrand(y: Array, level: NDArray[np.int64]) -> tuple[Array, Array]:
        mean, sd = line.mean[level][:, None, :], line.sd[level][:, None, :]
        x_0 = quantile_map(line, y, clean, level=level)
        log_joint = _log_normal(x_0[..., None], clean.mean[0], clean.sd[0]) + clean.log_weights
        return np.exp(_log_normal(y[..., None], mean, sd)), _softmax(log_joint)

    # rows share the costly flow, so all components are integrated over one set of panels
    cuts = _pull_back(clean, line, regions(clean)[0])
    marks = (line.mean[..., None] + line.sd[..., None] * _MARKS).reshape(len(line.mean), -1)
    edges = []
    for row, extra in zip(marks, cuts, strict=True):
        inside = extra[(extra > row.min()) & (extra < row.max())]
        edges.append(np.unique(np.concatenate([row, inside])))
    return _normalised(integrate_products(integrand, edges, (num, num)))


def ode_map_law(clean: Line, line: Line, alpha: Array, sigma: Array) -> tuple[Array, Array]:
    """The ODE's transitions for labels ``argmax_j P(j | x_0)``; returns as :func:`map_law`."""
    num_levels, num = line.mean.shape
    cuts, labels = regions(clean)
    weights = _region_probs(clean.mean, clean.sd, cuts, labels, num)[0].T @ np.exp(
        clean.log_weights
    )
    # the label after is a step function of y, with steps at the images of the cuts
    steps = _local(line, _pull_back(clean, line, cuts)).reshape(num_levels * num, -1)
    one_hot = np.eye(num)[labels]

    def integrand(z: Array, owner: NDArray[np.int64]) -> tuple[Array, Array]:
        _, own = _posterior_labels(clean, line, alpha, sigma, z, owner, cuts, labels)
        region = (z[..., None] > steps[owner][:, None, :]).sum(axis=-1)
        return own * _gauss(z)[..., None], one_hot[region]

    extra = np.concatenate(
        [steps.reshape(num_levels, num, -1), _cut_marks(clean, line, alpha, cuts)], axis=-1
    )
    joint = integrate_products(integrand, _edges(line, extra=extra), (num, num))
    joint = np.einsum(
        "k,lkab->lab", np.exp(clean.log_weights), joint.reshape(num_levels, num, num, num)
    )
    return weights, _rows(joint, weights)


def regions(clean: Line) -> tuple[Array, NDArray[np.int64]]:
    """Where ``argmax_j P(j | x_0)`` changes: cuts ``(M,)`` and labels ``(M + 1,)`` between."""
    mean, sd, log_weights = clean.mean[0], clean.sd[0], clean.log_weights
    roots: list[float] = []
    for i in range(len(mean)):
        for j in range(i):
            # around the narrower mean, in its own unit: no cancellation of large squares
            a, b = (i, j) if sd[i] <= sd[j] else (j, i)
            ratio, shift = sd[a] / sd[b], (mean[b] - mean[a]) / sd[b]
            log_ratio = log_weights[a] - log_weights[b] - np.log(ratio)
            quadratic = -0.5 * (1 - ratio) * (1 + ratio)
            roots += [
                mean[a] + sd[a] * z
                for z in _real_roots(quadratic, -ratio * shift, 0.5 * shift**2 + log_ratio)
            ]
    candidates = np.unique(roots)
    if len(candidates) == 0:
        return candidates, np.array([np.argmax(log_weights - np.log(sd))], dtype=np.int64)
    gap = 1.0 + np.ptp(candidates) + sd.max()
    padded = np.concatenate([[candidates[0] - gap], candidates, [candidates[-1] + gap]])
    middle = 0.5 * (padded[1:] + padded[:-1])
    labels = np.argmax(_log_normal(middle[:, None], mean, sd) + log_weights, axis=1)
    keep = labels[1:] != labels[:-1]
    return candidates[keep], np.concatenate([labels[:1], labels[1:][keep]]).astype(np.int64)


def quantile_map(
    source: Line, y: Array, target: Line, *, level: NDArray[np.int64] | None = None
) -> Array:
    """``F_target^{-1}(F_source(y))``, monotone; the tail that is smaller is matched in logs.

    Args:
        source: Lines; row p of ``y`` belongs to level ``level[p]`` (0 unless given).
        y: Points, shape ``(P, n)``.
        target: One line (L = 1), or one a level as ``source``.
        level: Shape ``(P,)``.
    """
    index = np.zeros(len(y), dtype=np.int64) if level is None else level
    lower, upper = _log_tails(source, y, index)
    row = index if len(target.mean) > 1 else np.zeros_like(index)
    return _quantile(target, row, lower, upper)


def _log_tails(line: Line, y: Array, level: NDArray[np.int64]) -> tuple[Array, Array]:
    """``ln F(y)`` and ``ln(1 - F(y))`` of points ``(P, n)``, row p at ``level[p]``."""
    z = (y[..., None] - line.mean[level][:, None, :]) / line.sd[level][:, None, :]
    return _logsumexp(log_ndtr(z) + line.log_weights), _logsumexp(log_ndtr(-z) + line.log_weights)


def _quantile(line: Line, row: NDArray[np.int64], lower: Array, upper: Array) -> Array:
    """Safeguarded Newton on the logarithm of the smaller tail; points leave when they are done.

    Args:
        line: Lines.
        row: Line of each row of points, shape ``(P,)``.
        lower: ``ln F``, shape ``(P, n)``.
        upper: ``ln(1 - F)``, shape ``(P, n)``.
    """
    shape = lower.shape
    level = np.broadcast_to(row[:, None], shape).ravel()
    goal = np.minimum(lower, upper).ravel()
    sign = np.where(lower <= upper, 1.0, -1.0).ravel()
    reach = 2.0 + np.sqrt(2.0 * np.maximum(-goal, 1.0))
    low = line.mean.min(axis=1)[level] - line.sd.max(axis=1)[level] * reach
    high = line.mean.max(axis=1)[level] + line.sd.max(axis=1)[level] * reach
    if len(line.mean) == 1:  # one table brackets all points
        low, high = _bracket(line, (lower - upper).ravel(), low, high)
    result = 0.5 * (low + high)
    todo = np.arange(len(goal))
    for _ in range(_MAX_NEWTON):
        x, mean, sd = result[todo], line.mean[level[todo]], line.sd[level[todo]]
        z = (x[:, None] - mean) / sd
        tail = _logsumexp(log_ndtr(sign[todo][:, None] * z) + line.log_weights)
        gap = sign[todo] * (tail - goal[todo])  # increasing in x
        low[todo] = np.where(gap < 0, x, low[todo])
        high[todo] = np.where(gap > 0, x, high[todo])
        density = _logsumexp(_log_normal(x[:, None], mean, sd) + line.log_weights)
        with np.errstate(over="ignore", invalid="ignore"):
            new = x - gap * np.exp(np.minimum(tail - density, 700.0))
        middle = 0.5 * (low[todo] + high[todo])
        new = np.where((new > low[todo]) & (new < high[todo]), new, middle)
        # at the rounding of the tail itself nothing better can be known
        is_done = np.abs(gap) <= 4e-16 * np.maximum(1.0, np.abs(goal[todo]))
        result[todo] = np.where(is_done, x, new)
        is_done |= np.abs(new - x) <= 4e-16 * np.abs(x)
        todo = todo[~is_done]
        if len(todo) == 0:
            break
    return np.asarray(result.reshape(shape))


def _bracket(line: Line, log_odds: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Narrow brackets from a table of the log odds ``ln F - ln(1 - F)`` of a single line."""
    fine = np.linspace(-_REACH, _REACH, _TABLE)
    x = np.unique((line.mean[0][:, None] + line.sd[0][:, None] * fine).ravel())
    lower, upper = _log_tails(line, x[None], np.zeros(1, dtype=np.int64))
    after = np.searchsorted((lower - upper)[0], log_odds)
    # one entry of slack on each side: odds are flat to rounding between far components
    below, above = after - 2, after + 1
    is_below, is_above = below >= 0, above < len(x)
    return (
        np.where(is_below, x[np.maximum(below, 0)], low),
        np.where(is_above, x[np.minimum(above, len(x) - 1)], high),
    )


def _pull_back(clean: Line, line: Line, cuts: Array) -> Array:
    """Images of clean points at every level, ``T^{-1}(cuts)``, shape ``(L, M)``."""
    y = np.broadcast_to(cuts, (len(line.mean), len(cuts)))
    lower, upper = _log_tails(clean, y, np.zeros(len(y), dtype=np.int64))
    return _quantile(line, np.arange(len(y)), lower, upper)


def _local(line: Line, y: Array) -> Array:
    """Points ``(L, M)`` in the coordinate of every component, ``(L, K, M)``."""
    return (y[:, None, :] - line.mean[..., None]) / line.sd[..., None]


def _posterior_labels(
    clean: Line,
    line: Line,
    alpha: Array,
    sigma: Array,
    z: Array,
    owner: NDArray[np.int64],
    cuts: Array,
    labels: NDArray[np.int64],
) -> tuple[Array, Array]:
    """``P(label(x_0) = b | y, k)`` for all k, ``(P, n, K, K)``, and for the owner's component."""
    num = len(clean.log_weights)
    level, own = owner // num, owner % num
    z_all = _z_of_all(line, z, owner)
    gain = (alpha[:, None] * clean.sd**2 / line.sd)[level][:, None, :]
    spread = (sigma[:, None] * clean.sd / line.sd)[level][:, None, :]
    each = _region_probs(
        clean.mean + gain * z_all, np.broadcast_to(spread, z_all.shape), cuts, labels, num
    )
    return each, np.take_along_axis(each, own[:, None, None, None], axis=2)[:, :, 0]


def _region_probs(
    mean: Array, sd: Array, cuts: Array, labels: NDArray[np.int64], num: int
) -> Array:
    """Probability of every label's region under Gaussians, shape ``(..., num)``."""
    ends = np.concatenate([[-np.inf], cuts, [np.inf]])
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (ends - mean[..., None]) / sd[..., None]
    z = np.where(np.isnan(z), 0.0, z)
    # the smaller tails are subtracted, so that small probabilities keep their digits
    low, high = z[..., :-1], z[..., 1:]
    flip = low > 0
    probs = ndtr(np.where(flip, -low, high)) - ndtr(np.where(flip, -high, low))
    return np.asarray(probs @ np.eye(num)[labels])


def _cut_marks(clean: Line, line: Line, alpha: Array, cuts: Array) -> Array:
    """Where the posterior mean of each component crosses a cut, ``(L, K, M)`` in z."""
    gain = alpha[:, None] * clean.sd**2 / line.sd
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((cuts - clean.mean[..., None]) / gain[..., None])


def _z_of_all(line: Line, z: Array, owner: NDArray[np.int64]) -> Array:
    """The owner's coordinate z ``(P, n)`` in that of every component, ``(P, n, K)``."""
    num = len(line.log_weights)
    level, own = owner // num, owner % num
    mean, sd = line.mean[level], line.sd[level]
    offset = line.mean[level, own][:, None] - mean
    local = offset[:, None, :] + line.sd[level, own][:, None, None] * z[..., None]
    return np.asarray(local / sd[:, None, :])


def _log_joint(line: Line, z: Array, owner: NDArray[np.int64]) -> Array:
    level = owner // len(line.log_weights)
    return np.asarray(
        line.log_weights
        - np.log(line.sd[level])[:, None, :]
        - 0.5 * _z_of_all(line, z, owner) ** 2
    )


def _edges(line: Line, *, extra: Array | None = None) -> list[Array]:
    """First panels of every integral (level, component): marks of all components inside reach."""
    num_levels, num = line.mean.shape
    offset = (line.mean[:, None, :] - line.mean[:, :, None]) / line.sd[:, :, None]
    ratio = line.sd[:, None, :] / line.sd[:, :, None]
    marks = (offset[..., None] + ratio[..., None] * _MARKS).reshape(num_levels, num, -1)
    if extra is not None:
        marks = np.concatenate([marks, extra], axis=-1)
    marks = marks.reshape(num_levels * num, -1)
    result = []
    for row in marks:
        inside = row[(np.abs(row) < _REACH)]
        result.append(np.unique(np.concatenate([_MARKS, inside])))
    return result


def _gauss(z: Array) -> Array:
    return np.asarray(np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))


def _log_normal(x: Array, mean: Array, sd: Array) -> Array:
    return np.asarray(-0.5 * ((x - mean) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi))


def _softmax(value: Array) -> Array:
    value = np.exp(value - value.max(axis=-1, keepdims=True))
    return np.asarray(value / value.sum(axis=-1, keepdims=True))


def _logsumexp(value: Array) -> Array:
    top = value.max(axis=-1, keepdims=True)  # SciPy's is several times slower on short rows
    return np.asarray(top[..., 0] + np.log(np.exp(value - top).sum(axis=-1)))


def _real_roots(a: float, b: float, c: float) -> list[float]:
    """Real roots of ``a z^2 + b z + c``; the stable form, linear where a is 0."""
    if a == 0:
        return [] if b == 0 else [-c / b]
    disc = b * b - 4 * a * c
    if disc <= 0:
        return []
    q = -0.5 * (b + np.copysign(np.sqrt(disc), b))
    return [q / a, c / q] if q != 0 else [0.0]


def _normalised(probs: Array) -> Array:
    return np.asarray(probs / probs.sum(axis=-1, keepdims=True))


def _rows(joint: Array, weights: Array) -> Array:
    """Rows of a joint law, NaN for labels without weight."""
    total = joint.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(weights[:, None] > 0, joint / total, np.nan)
