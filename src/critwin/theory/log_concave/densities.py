r"""One-dimensional log-concave densities ``exp(-V)``, with ``m = inf V''``.

Strong log-concavity (m > 0) is what the bounds of separation need; merely log-concave densities
(m = 0) have exact values but no such bounds. Tails heavier than exponential are refused: no
bound holds for them, and panels of a quadrature have no end.

Source: Saumard & Wellner (2014), *Log-concavity and strong log-concavity: a review*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError
from critwin.theory.log_concave._legendre import adapted, panel_points

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Density", "affine", "check_concave", "log_concave_density"]

DROP = 42.0  # a log-concave tail beyond this drop of the log density holds 6e-19
_TOLERANCE = 1e-14
_NUM_CHECKS = 4001
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False, kw_only=True)
class Density:
    """A log-concave law on the line. Frozen; made by the constructors of this package.

    Attributes:
        name: The family.
        log_density: Points of any shape to the log density; ``-inf`` outside the support.
        support: Ends, possibly infinite.
        edges: Increasing; between neighbours the density is a polynomial to rounding, and beyond
            the ends its mass is below 1e-17. Every kink is an edge.
        kinks: Points of those at which the density is not smooth, finite ends of the support too.
        mode: A maximum.
        mean: Mean.
        var: Variance.
        m: ``inf V''``, 0 if merely log-concave; a lower bound where ``m_how`` says so.
        m_how: How m is known.
        noised: Closed form of the log density of ``alpha x + sigma z`` at y, called as
            ``noised(y, alpha, sigma)`` with sigma > 0, or None: quadrature.
        standard: ``(law of u, shift, scale)`` if this is the law of ``shift + scale * u``:
            integrals are done in u, where a far or narrow law loses no digits.
        parameters: What the constructor was given.
    """

    name: str
    log_density: Callable[[Array], Array]
    support: tuple[float, float]
    edges: Array
    kinks: tuple[float, ...]
    mode: float
    mean: float
    var: float
    m: float
    m_how: str
    noised: Callable[[Array, float, float], Array] | None = None
    standard: tuple[Density, float, float] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def log_concave_density(
    log_density: Callable[[Array], Array],
    *,
    name: str = "custom",
    support: tuple[float, float] = (-math.inf, math.inf),
    kinks: Sequence[float] = (),
    near: float = 0.0,
    scale: float = 1.0,
    m: float | None = None,
) -> Density:
    """A density given by its logarithm, up to a constant.

    Concavity is checked at 4,001 points: the secant slopes of the log density must not rise, nor,
    for a given m, those of ``log_density + m x^2/2``. Without m the smallest second difference
    is taken, less its variation between neighbours: a numerical value, not a proof, and
    ``m_how`` says so.

    Args:
        log_density: Points of any shape to the log density, up to a constant; it is not asked
            outside the support.
        name: Shown in tables.
        support: Ends of the support, possibly infinite.
        kinks: Points inside the support at which the density is not smooth.
        near: A point of the support near the bulk.
        scale: A length of the order of the standard deviation.
        m: ``inf (-log_density)''`` if known, checked; 0 claims nothing.

    Returns:
        The law, normalised by quadrature.

    Raises:
        InputError: If the density is not log-concave, not finite inside the support, cannot be
            normalised, or m or the support are not valid.
    """
    low, high = (float(end) for end in support)
    if not low < high or not math.isfinite(near) or not (0 < scale < math.inf):
        raise InputError(
            "the support or the scale of a density is not valid", got=(low, high, near, scale)
        )
    if m is not None and not 0 <= m < math.inf:
        raise InputError("m is out of range", got=m, wanted="a finite number >= 0")
    inside = sorted(float(k) for k in kinks)
    if any(not low < k < high for k in inside):
        raise InputError("a kink is outside the support", got=inside, wanted=f"{low} < x < {high}")

    def raw(x: Array) -> Array:
        x = np.asarray(x, dtype=np.float64)
        is_inside = (x >= low) & (x <= high)
        with np.errstate(all="ignore"):
            value = log_density(np.where(is_inside, x, np.clip(near, low, high)))
        return np.where(is_inside, value, -np.inf)

    mode = _mode(raw, (low, high), near, scale)
    top = float(raw(np.array([mode]))[0])
    if not math.isfinite(top):
        raise InputError(
            f"the log density of {name!r} is not finite in its support", got=top, wanted="a number"
        )
    ends = (_end(raw, mode, low, top, scale, -1), _end(raw, mode, high, top, scale, +1))
    m, how = _convexity(raw, ends, inside, m, name)
    first = np.unique([*np.linspace(*ends, 9), *inside, mode])
    first = first[(first >= ends[0]) & (first <= ends[1])]

    def relative(x: Array) -> Array:
        return np.exp(raw(x) - top)[None] / (ends[1] - ends[0])

    edges, values = adapted(relative, first, _TOLERANCE)
    nodes, weights = panel_points(edges)
    mass = weights * values[0]
    total = float(mass.sum())
    mean = float((mass * nodes).sum() / total)
    var = float((mass * (nodes - mean) ** 2).sum() / total)
    log_total = top + math.log(total) + math.log(ends[1] - ends[0])
    return Density(
        name=name,
        log_density=lambda x: raw(x) - log_total,
        support=(low, high),
        edges=edges,
        kinks=tuple(k for k in (low, *inside, high) if math.isfinite(k)),
        mode=mode,
        mean=mean,
        var=var,
        m=m,
        m_how=how,
    )


def affine(density: Density, *, shift: float = 0.0, scale: float = 1.0) -> Density:
    """The law of ``shift + scale * x``.

    Args:
        density: Law of x.
        shift: Finite.
        scale: Positive.

    Returns:
        The law; m is divided by ``scale**2``.

    Raises:
        InputError: If the shift is not finite or the scale not positive.
    """
    if not (math.isfinite(shift) and 0 < scale < math.inf):
        raise InputError(
            "not an affine map", got=(shift, scale), wanted="a finite shift and a scale > 0"
        )
    inner, noised = density.log_density, density.noised
    low, high = density.support
    base, old_shift, old_scale = density.standard or (density, 0.0, 1.0)
    return replace(
        density,
        log_density=lambda x: inner((np.asarray(x) - shift) / scale) - math.log(scale),
        support=(shift + scale * low, shift + scale * high),
        edges=shift + scale * density.edges,
        kinks=tuple(shift + scale * k for k in density.kinks),
        mode=shift + scale * density.mode,
        mean=shift + scale * density.mean,
        var=scale**2 * density.var,
        m=density.m / scale**2,
        noised=None
        if noised is None
        else lambda y, alpha, sigma: noised(y - alpha * shift, alpha * scale, sigma),
        standard=(base, shift + scale * old_shift, scale * old_scale),
        parameters=MappingProxyType({**density.parameters, "shift": shift, "scale": scale}),
    )


def check_concave(
    log_density: Callable[[Array], Array],
    ends: tuple[float, float],
    *,
    kinks: Sequence[float] = (),
    m: float = 0.0,
    name: str = "custom",
) -> float:
    """Refuse a function whose ``-V + m x^2/2`` is seen not to be concave.

    Args:
        log_density: ``-V``.
        ends: Where it is looked at, both finite.
        kinks: Points that belong on the grid.
        m: What ``V''`` must reach.
        name: Shown in the message.

    Returns:
        The smallest second difference quotient of V on the grid: not below ``inf V''`` up to
        rounding.

    Raises:
        InputError: If it is not concave; the message says where.
    """
    x = np.unique([*np.linspace(*ends, _NUM_CHECKS), *kinks])
    x = x[(x >= ends[0]) & (x <= ends[1])]
    value = log_density(x)
    if not np.all(np.isfinite(value)):
        where = float(x[np.argmin(np.isfinite(value))])
        raise InputError(f"the log density of {name!r} is not finite", got=f"x = {where:g}")
    slope = np.diff(value) / np.diff(x)
    curvature = -np.diff(slope) / (0.5 * (x[2:] - x[:-2]))
    noise = _ROUNDING * (1 + np.ptp(value)) / np.ptp(x) ** 2 * _NUM_CHECKS
    worst = int(np.argmin(curvature))
    if curvature[worst] < m * (1 - 1e-6) - noise:
        raise InputError(
            f"{name!r} is not {'log-concave' if m == 0 else f'{m:g}-strongly log-concave'}",
            got=f"V'' = {curvature[worst]:.6g} near x = {x[worst + 1]:.6g}",
            wanted=f"V'' >= {m:g}",
            next_step="tails heavier than exponential and several modes have no bounds here; "
            "put any 1-D density on a grid (GridMixture)",
        )
    return float(curvature[worst])


def _convexity(
    raw: Callable[[Array], Array],
    ends: tuple[float, float],
    kinks: list[float],
    m: float | None,
    name: str,
) -> tuple[float, str]:
    # support ends may carry an infinite density drop; a hair inside them is as good
    pad = 1e-9 * (ends[1] - ends[0])
    window = (ends[0] + pad, ends[1] - pad)
    check_concave(raw, window, kinks=kinks, m=m or 0.0, name=name)
    if m is not None:
        return m, f"given, and V'' >= m checked at {_NUM_CHECKS} points"
    x = np.linspace(*window, _NUM_CHECKS)
    curvature = -np.diff(raw(x), 2) / np.diff(x)[0] ** 2
    spread = np.abs(np.diff(curvature))
    noise = 1e-15 * (1 + np.ptp(raw(x))) * _NUM_CHECKS**2 / np.ptp(window) ** 2 * 8
    least = float((np.minimum(curvature[1:], curvature[:-1]) - spread).min()) - noise
    how = f"smallest second difference at {_NUM_CHECKS} points less its variation, not a proof"
    return max(least, 0.0), how


def _mode(
    raw: Callable[[Array], Array], support: tuple[float, float], near: float, scale: float
) -> float:
    """Maximum of a concave function: steps that double, then nested grids."""
    start = float(np.clip(near, *support))
    reach = scale * np.concatenate([[0.0], 2.0 ** np.arange(-40, 200)])
    x = np.unique(np.clip(start + np.concatenate([-reach, reach]), *support))
    x = x[np.isfinite(x)]
    for _ in range(40):
        value = raw(x)
        value = np.where(np.isnan(value), -np.inf, value)
        best = int(np.argmax(value))
        low, high = x[max(best - 1, 0)], x[min(best + 1, len(x) - 1)]
        if not high - low > 4e-16 * max(abs(low), abs(high)):
            break
        x = np.linspace(low, high, 33)
    return float(x[best]) if best < len(x) else start


def _end(
    raw: Callable[[Array], Array], mode: float, end: float, top: float, scale: float, sign: int
) -> float:
    """Where the log density has dropped by ``DROP``, or the end of the support."""
    if math.isfinite(end) and float(raw(np.array([end]))[0]) >= top - DROP:
        return end
    inner, step = mode, scale
    outer = mode
    for _ in range(200):
        outer = mode + sign * step
        if math.isfinite(end) and sign * (outer - end) >= 0:
            outer = end
        if not float(raw(np.array([outer]))[0]) >= top - DROP:
            break
        inner, step = outer, 2 * step
    else:
        raise InputError(
            "a density does not decay",
            got=f"log density within {DROP:g} of its maximum at x = {outer:.3g}",
            wanted="a normalisable log-concave density",
        )
    for _ in range(80):
        middle = 0.5 * (inner + outer)
        if float(raw(np.array([middle]))[0]) >= top - DROP:
            inner = middle
        else:
            outer = middle
    return outer if math.isfinite(float(raw(np.array([outer]))[0])) else inner
