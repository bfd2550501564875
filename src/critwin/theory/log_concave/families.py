r"""Named one-dimensional laws: strongly log-concave, merely log-concave, and those refused.

====================  =====================================  ==================================
name                  -ln density + constant                 m = inf V''
====================  =====================================  ==================================
gaussian              ``z^2/2``                              ``1/sd^2``
skew-normal           ``z^2/2 - ln Phi(shape z)``            ``1/scale^2`` (reached in a tail)
truncated-gaussian    ``z^2/2`` on an interval               ``1/sd^2``
tilted_gaussian       ``z^2/2 - ln factor``                  ``1/sd^2``, if the factor is checked
logistic              ``z + 2 ln(1 + e^{-z})``               0
gumbel                ``z + e^{-z}``                         0
laplace               ``|z|``                                0
generalized-normal    ``|z|^beta``, ``beta >= 1``            0 (``2/scale^2`` if beta = 2)
uniform               0 on an interval                       0
====================  =====================================  ==================================

with ``z = (x - location)/scale``. Source: Saumard & Wellner (2014); Azzalini (1985) for the
skew-normal law, whose ``V'' = (1 + shape^2 h(shape z))/scale^2``,
``h(u) = r(u) (u + r(u))``, ``r = phi/Phi``, falls from 1 to 0 as u grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_ndtr

from critwin.errors import InputError
from critwin.theory.log_concave.densities import (
    Density,
    log_concave_density,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "density",
    "gaussian",
    "generalized_normal",
    "gumbel",
    "laplace",
    "list_densities",
    "logistic",
    "skew_normal",
    "tilted_gaussian",
    "truncated_gaussian",
    "uniform",
]

_LOG_2PI = math.log(2 * math.pi)
_HEAVY = "its tails are heavier than exponential, so it is not log-concave"
_REFUSED = {
    "student": f"{_HEAVY}: V = (nu + 1)/2 ln(1 + z^2/nu) is not convex beyond |z| = sqrt(nu)",
    "student-t": f"{_HEAVY}: V = (nu + 1)/2 ln(1 + z^2/nu) is not convex beyond |z| = sqrt(nu)",
    "cauchy": f"{_HEAVY}: V = ln(1 + z^2) is not convex beyond |z| = 1, and it has no mean",
    "lognormal": f"{_HEAVY}: V = ln x + (ln x)^2/2 is not convex beyond x = 1",
    "pareto": f"{_HEAVY}: V = (a + 1) ln x is concave",
    "levy": f"{_HEAVY}, and it has no mean",
}


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
    _check(sd, mean=mean)

    def log_density(x: Array) -> Array:
        return np.asarray(-0.5 * ((x - mean) / sd) ** 2)

    def noised(y: Array, alpha: float, sigma: float) -> Array:
        return _log_normal(y, alpha * mean, math.hypot(alpha * sd, sigma))

    return _finished(
        log_concave_density(log_density, name="gaussian", near=mean, scale=sd, m=sd**-2),
        "V'' = 1/sd^2",
        noised,
        mean=mean,
        sd=sd,
    )


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
    _check(scale, location=location, shape=shape)

    def log_density(x: Array) -> Array:
        z = (x - location) / scale
        return np.asarray(-0.5 * z**2 + log_ndtr(shape * z))

    def noised(y: Array, alpha: float, sigma: float) -> Array:
        spread = math.hypot(alpha * scale, sigma)
        z = (y - alpha * location) / spread
        rest = math.hypot(alpha * scale / math.sqrt(1 + shape**2), sigma)
        skew = alpha * scale * shape / math.sqrt(1 + shape**2) / rest
        return np.asarray(
            math.log(2) - math.log(spread) - 0.5 * (z**2 + _LOG_2PI) + log_ndtr(skew * z)
        )

    return _finished(
        log_concave_density(
            log_density, name="skew-normal", near=location, scale=scale, m=scale**-2
        ),
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
    _check(sd, mean=mean)
    a, b = (low - mean) / sd, (high - mean) / sd
    if not a < b or min(max(a, -b), math.inf) > 37:
        raise InputError(
            "a Gaussian cannot be truncated there", got=(low, high), wanted="an interval with mass"
        )
    log_mass = float(_log_ndtr_between(np.array(a), np.array(b)))

    def log_density(x: Array) -> Array:
        return np.asarray(-0.5 * ((x - mean) / sd) ** 2)

    def noised(y: Array, alpha: float, sigma: float) -> Array:
        spread = math.hypot(alpha * sd, sigma)
        z = (y - alpha * mean) / spread
        # x given y before truncation: mean + sd * (gain z + rest * normal)
        gain, rest = alpha * sd / spread, sigma / spread
        inside = _log_ndtr_between((a - gain * z) / rest, (b - gain * z) / rest)
        return np.asarray(_log_normal(y, alpha * mean, spread) + inside - log_mass)

    near = min(max(mean, low), high)
    reach = min(sd, high - low, sd / max(1.0, max(a, -b)))
    return _finished(
        log_concave_density(
            log_density,
            name="truncated-gaussian",
            support=(low, high),
            near=near,
            scale=reach,
            m=sd**-2,
        ),
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
    _check(sd, mean=mean)

    def log_density(x: Array) -> Array:
        return np.asarray(-0.5 * ((x - mean) / sd) ** 2 + log_factor(x))

    result = log_concave_density(
        log_density, name=name, kinks=kinks, near=mean, scale=sd, m=sd**-2
    )
    # V'' >= 1/sd^2 at the points checked says the same as concavity of the factor there
    how = "1/sd^2 of the Gaussian; concavity of the log factor checked at 4001 points"
    return _finished(result, how, None, mean=mean, sd=sd)


def logistic(location: float = 0.0, scale: float = 1.0) -> Density:
    """The logistic law; merely log-concave.

    Args:
        location: Its mean.
        scale: Scale, positive.

    Returns:
        The law, m = 0.

    Raises:
        InputError: If a number is not valid.
    """
    _check(scale, location=location)

    def log_density(x: Array) -> Array:
        z = np.abs((x - location) / scale)
        return np.asarray(-z - 2 * np.log1p(np.exp(-z)))

    return _merely("logistic", log_density, location, scale, location=location)


def gumbel(location: float = 0.0, scale: float = 1.0) -> Density:
    """The Gumbel law of maxima, ``exp(-z - e^{-z})``; merely log-concave.

    Args:
        location: Its mode.
        scale: Scale, positive.

    Returns:
        The law, m = 0.

    Raises:
        InputError: If a number is not valid.
    """
    _check(scale, location=location)

    def log_density(x: Array) -> Array:
        z = (x - location) / scale
        return np.asarray(-z - np.exp(np.minimum(-z, 700.0)))

    return _merely("gumbel", log_density, location, scale, location=location)


def laplace(location: float = 0.0, scale: float = 1.0) -> Density:
    """The Laplace law, ``exp(-|z|)/2``; merely log-concave, with a kink.

    Args:
        location: Its mean.
        scale: Scale, positive.

    Returns:
        The law, m = 0.

    Raises:
        InputError: If a number is not valid.
    """
    _check(scale, location=location)

    def log_density(x: Array) -> Array:
        return np.asarray(-np.abs(x - location) / scale)

    return _merely("laplace", log_density, location, scale, kinks=[location], location=location)


def generalized_normal(location: float = 0.0, scale: float = 1.0, beta: float = 2.0) -> Density:
    """The law ``exp(-|z|^beta)``, ``beta >= 1``; strongly log-concave for beta = 2 alone.

    Args:
        location: Its mean.
        scale: Scale, positive.
        beta: Exponent, at least 1 (1: Laplace; 2: normal with variance ``scale^2/2``).

    Returns:
        The law.

    Raises:
        InputError: If a number is not valid; below 1 with the reason.
    """
    _check(scale, location=location, beta=beta)
    if beta < 1:
        raise InputError(
            f"generalized-normal with beta = {beta:g} is refused",
            got=beta,
            wanted="beta >= 1",
            next_step=f"{_HEAVY}: V = |z|^beta is concave on each side",
        )

    def log_density(x: Array) -> Array:
        return np.asarray(-((np.abs(x - location) / scale) ** beta))

    kinks = [] if beta % 2 == 0 else [location]
    result = _merely(
        "generalized-normal", log_density, location, scale, kinks=kinks, location=location
    )
    parameters = MappingProxyType({**result.parameters, "beta": beta})
    if beta == 2:
        result = replace(result, m=2 / scale**2, m_how="V'' = 2/scale^2")
    return replace(result, parameters=parameters)


def uniform(low: float = 0.0, high: float = 1.0) -> Density:
    """The uniform law on an interval; merely log-concave.

    Args:
        low: Lower end.
        high: Upper end.

    Returns:
        The law, m = 0.

    Raises:
        InputError: If the interval is empty or not finite.
    """
    _check(high - low, low=low, high=high)
    result = log_concave_density(
        lambda x: np.zeros_like(x),
        name="uniform",
        support=(low, high),
        near=0.5 * (low + high),
        scale=high - low,
        m=0.0,
    )
    return _finished(result, "V is constant inside the interval", None, low=low, high=high)


_KNOWN: dict[str, Callable[..., Density]] = {
    "gaussian": gaussian,
    "skew-normal": skew_normal,
    "truncated-gaussian": truncated_gaussian,
    "logistic": logistic,
    "gumbel": gumbel,
    "laplace": laplace,
    "generalized-normal": generalized_normal,
    "uniform": uniform,
}


def list_densities() -> tuple[str, ...]:
    """Names that :func:`density` accepts."""
    return tuple(_KNOWN)


def density(name: str, **parameters: float) -> Density:
    """A one-dimensional law by name.

    Args:
        name: One of :func:`list_densities`; underscores and case do not matter.
        **parameters: Those of the constructor of that name.

    Returns:
        The law.

    Raises:
        InputError: If the name is unknown, the law is refused (with the reason: heavy tails), or
            a parameter is unknown or not valid.
    """
    key = name.lower().replace("_", "-").replace(" ", "-")
    if key in _REFUSED:
        raise InputError(
            f"{key} components are refused",
            wanted="a log-concave density: " + ", ".join(_KNOWN),
            next_step=f"{_REFUSED[key]}; a density on a grid (GridMixture) has values, no bounds",
        )
    if key not in _KNOWN:
        raise InputError("unknown density", got=name, wanted=", ".join(_KNOWN))
    try:
        return _KNOWN[key](**parameters)
    except TypeError as error:
        raise InputError(f"parameters do not fit {key}", got=sorted(parameters)) from error


def _merely(
    name: str,
    log_density: Callable[[Array], Array],
    near: float,
    scale: float,
    *,
    kinks: Sequence[float] = (),
    **parameters: Any,
) -> Density:
    result = log_concave_density(
        log_density, name=name, kinks=kinks, near=near, scale=scale, m=0.0
    )
    return _finished(result, "merely log-concave: inf V'' = 0", None, scale=scale, **parameters)


def _finished(
    result: Density,
    how: str,
    noised: Callable[[Array, float, float], Array] | None,
    **parameters: Any,
) -> Density:
    return replace(result, m_how=how, noised=noised, parameters=MappingProxyType(parameters))


def _check(scale: float, **numbers: float) -> None:
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
