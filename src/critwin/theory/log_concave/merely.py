r"""Merely log-concave laws, ``inf V'' = 0``: exact values, no bounds from strong log-concavity.

==================  ================================  =============================
law                 V = -ln density + constant        m = inf V''
==================  ================================  =============================
logistic            ``z + 2 ln(1 + e^{-z})``          0
gumbel              ``z + e^{-z}``                    0
laplace             ``|z|``                           0
generalized_normal  ``|z|^beta``, ``beta >= 1``       0 (``2/scale^2`` if beta = 2)
uniform             0 on an interval                  0
==================  ================================  =============================

with ``z = (x - location)/scale``. Source: Saumard & Wellner (2014).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError
from critwin.theory.log_concave.densities import Density, log_concave_density
from critwin.theory.log_concave.families import check_parameters, finished

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["generalized_normal", "gumbel", "laplace", "logistic", "uniform"]


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
    check_parameters(scale, location=location)

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
    check_parameters(scale, location=location)

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
    check_parameters(scale, location=location)

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
    check_parameters(scale, location=location, beta=beta)
    if beta < 1:
        raise InputError(
            f"generalized-normal with beta = {beta:g} is refused",
            got=beta,
            wanted="beta >= 1",
            next_step="its tails are heavier than exponential, so it is not log-concave: "
            "V = |z|^beta is concave on each side",
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
    check_parameters(high - low, low=low, high=high)
    result = log_concave_density(
        lambda x: np.zeros_like(x),
        name="uniform",
        support=(low, high),
        near=0.5 * (low + high),
        scale=high - low,
        m=0.0,
    )
    return finished(result, "V is constant inside the interval", None, low=low, high=high)


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
    return finished(result, "merely log-concave: inf V'' = 0", None, scale=scale, **parameters)
