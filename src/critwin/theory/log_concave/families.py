r"""Strongly log-concave laws on the line.

==================  =============================  ===================================
law                 V = -ln density + constant     m = inf V''
==================  =============================  ===================================
gaussian            ``z^2/2``                      ``1/sd^2``
skew_normal         ``z^2/2 - ln Phi(shape z)``    ``1/scale^2``, approached in a tail
truncated_gaussian  ``z^2/2`` on an interval       ``1/sd^2``
tilted_gaussian     ``z^2/2 - ln factor``          ``1/sd^2`` at least, checked
==================  =============================  ===================================

with ``z = (x - location)/scale``. For the skew-normal law
``V'' = (1 + shape^2 h(shape z))/scale^2``, ``h(u) = r(u) (u + r(u))``, ``r = phi/Phi``, and h
falls from 1 to 0 as u grows.

Source: Saumard & Wellner (2014); Azzalini (1985).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_ndtr

from critwin.errors import InputError
from critwin.theory.log_concave.densities import Density, affine, log_concave_density

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "check_parameters",
    "finished",
    "gaussian",
    "skew_normal",
    "tilted_gaussian",
    "truncated_gaussian",
]

_LOG_2PI = math.log(2 * math.pi)


def gaussian(mean: float = 0.0, sd: float = 1.0) -> Density:
    """The normal law.

    Args:
        mean: Mean.
        sd: Standard deviation, positive.

    Returns:
        The law; noised in closed form.

    Raises:
        InputError: If a number is not finite or ``sd <= 0``.
    """
    check_parameters(sd, mean=mean)

    def noised(y: Array, alpha: float, sigma: float) -> Array:
        return _log_normal(y, alpha * mean, math.hypot(alpha * sd, sigma))

    return finished(
        affine(_standard_gaussian(), shift=mean, scale=sd),
        "V'' = 1/sd^2",
        noised,
        mean=mean,
        sd=sd,
    )


@cache
def _standard_gaussian() -> Density:
    return log_concave_density(lambda z: np.asarray(-0.5 * z**2), name="gaussian", m=1.0)


def skew_normal(location: float = 0.0, scale: float = 1.0, shape: float = 0.0) -> Density:
    """Azzalini's skew-normal law, ``2/scale phi(z) Phi(shape z)``.

    Args:
        location: Location, not the mean.
        scale: Scale, positive, not the standard deviation.
        shape: Skewness parameter; 0 is the normal law.

    Returns:
        The law; noised in closed form (a skew-normal law plus an independent normal is one).

    Raises:
        InputError: If a number is not finite or ``scale <= 0``.
    """
    check_parameters(scale, location=location, shape=shape)

    def log_density(z: Array) -> Array:
        return np.asarray(-0.5 * z**2 + log_ndtr(shape * z))

    def noised(y: Array, alpha: float, sigma: float) -> Array:
        spread = math.hypot(alpha * scale, sigma)
        z = (y - alpha * location) / spread
        rest = math.hypot(alpha * scale / math.sqrt(1 + shape**2), sigma)
        skew = alpha * scale * shape / math.sqrt(1 + shape**2) / rest
        return np.asarray(
            math.log(2) - math.log(spread) - 0.5 * (z**2 + _LOG_2PI) + log_ndtr(skew * z)
        )

    standard = log_concave_density(log_density, name="skew-normal", m=1.0)
    return finished(
        affine(standard, shift=location, scale=scale),
        "V'' = (1 + shape^2 h(shape z))/scale^2 with h > 0 and inf h = 0",
        noised,
        location=location,
        scale=scale,
        shape=shape,
    )


def truncated_gaussian(
    mean: float = 0.0, sd: float = 1.0, low: float = -math.inf, high: float = math.inf
) -> Density:
    """A normal law conditioned on an interval.

    Args:
        mean: Mean before truncation.
        sd: Standard deviation before truncation, positive.
        low: Lower end, or ``-inf``.
        high: Upper end, or ``inf``.

    Returns:
        The law; noised in closed form.

    Raises:
        InputError: If a number is not valid, the interval is empty, or it lies so far out
            (beyond 37 standard deviations) that it has no mass.
    """
    check_parameters(sd, mean=mean)
    a, b = (low - mean) / sd, (high - mean) / sd
    if not a < b or min(max(a, -b), math.inf) > 37:
        raise InputError(
            "a Gaussian cannot be truncated there", got=(low, high), wanted="an interval with mass"
        )
    log_mass = float(_log_ndtr_between(np.array(a), np.array(b)))

    def noised(y: Array, alpha: float, sigma: float) -> Array:
        spread = math.hypot(alpha * sd, sigma)
        z = (y - alpha * mean) / spread
        # x given y before truncation: mean + sd * (gain z + rest * normal)
        gain, rest = alpha * sd / spread, sigma / spread
        inside = _log_ndtr_between((a - gain * z) / rest, (b - gain * z) / rest)
        return np.asarray(_log_normal(y, alpha * mean, spread) + inside - log_mass)

    standard = log_concave_density(
        lambda z: np.asarray(-0.5 * z**2),
        name="truncated-gaussian",
        support=(a, b),
        near=min(max(0.0, a), b),
        scale=min(1.0, b - a, 1.0 / max(1.0, a, -b)),
        m=1.0,
    )
    return finished(
        affine(standard, shift=mean, scale=sd),
        "V'' = 1/sd^2 inside the interval, infinite at its ends",
        noised,
        mean=mean,
        sd=sd,
        low=low,
        high=high,
    )


def tilted_gaussian(
    log_factor: Callable[[Array], Array],
    *,
    mean: float = 0.0,
    sd: float = 1.0,
    kinks: Sequence[float] = (),
    name: str = "tilted-gaussian",
) -> Density:
    """A normal density times a log-concave factor: ``m = 1/sd^2`` at least.

    Args:
        log_factor: Points of any shape to the logarithm of the factor, up to a constant.
        mean: Mean of the normal law.
        sd: Its standard deviation, positive.
        kinks: Points at which the factor is not smooth.
        name: Shown in tables.

    Returns:
        The law; ``m_how`` says that concavity of the factor was checked at 4,001 points.

    Raises:
        InputError: If the factor is seen not to be log-concave.
    """
    check_parameters(sd, mean=mean)

    def log_density(z: Array) -> Array:
        return np.asarray(-0.5 * z**2 + log_factor(mean + sd * z))

    inside = [(k - mean) / sd for k in kinks]
    standard = log_concave_density(log_density, name=name, kinks=inside, m=1.0)
    result = affine(standard, shift=mean, scale=sd)
    # V'' >= 1/sd^2 at the points checked says the same as concavity of the factor there
    how = "1/sd^2 of the Gaussian; concavity of the log factor checked at 4001 points"
    return finished(result, how, None, mean=mean, sd=sd)


def finished(
    result: Density,
    how: str,
    noised: Callable[[Array, float, float], Array] | None,
    **parameters: Any,
) -> Density:
    """A law with its origin: how m is known, the closed form under noise, the parameters.

    Args:
        result: The law.
        how: How m is known.
        noised: Closed form of the log density under noise, or None.
        **parameters: Of the constructor.

    Returns:
        The same law.
    """
    return replace(result, m_how=how, noised=noised, parameters=MappingProxyType(parameters))


def check_parameters(scale: float, **numbers: float) -> None:
    """Refuse numbers that are not finite and a scale that is not positive.

    Args:
        scale: The scale.
        **numbers: The others, by name.

    Raises:
        InputError: At the first that is not valid.
    """
    for key, value in {**numbers, "scale": scale}.items():
        if not math.isfinite(value):
            raise InputError(f"{key} of a density must be finite", got=value)
    if not scale > 0:
        raise InputError("the scale of a density must be positive", got=scale)


def _log_normal(y: Array, mean: float, sd: float) -> Array:
    return np.asarray(-0.5 * (((y - mean) / sd) ** 2 + _LOG_2PI) - math.log(sd))


def _log_ndtr_between(low: Array, high: Array) -> Array:
    """``ln(Phi(high) - Phi(low))`` with the digits of the smaller tail."""
    flip = low > 0
    a, b = np.where(flip, -high, low), np.where(flip, -low, high)
    upper = log_ndtr(b)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.where(np.isneginf(a), -np.inf, log_ndtr(a) - upper)
        return np.asarray(upper + np.log(-np.expm1(np.minimum(gap, 0.0))))
