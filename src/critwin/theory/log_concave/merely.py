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

from dataclasses import replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError
from critwin.theory.log_concave.densities import Density, affine, log_concave_density
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

    return _merely(_logistic(), location, scale)


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

    return _merely(_gumbel(), location, scale)


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

    return _merely(_laplace(), location, scale)


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

    result = _merely(_generalized_normal(beta), location, scale, beta=beta)
    return replace(result, m=2 / scale**2, m_how="V'' = 2/scale^2") if beta == 2 else result


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
    result = affine(_uniform(), shift=low, scale=high - low)
    return finished(result, "V is constant inside the interval", None, low=low, high=high)


def _merely(standard: Density, location: float, scale: float, **parameters: Any) -> Density:
    return finished(
        affine(standard, shift=location, scale=scale),
        "merely log-concave: inf V'' = 0",
        None,
        location=location,
        scale=scale,
        **parameters,
    )


@cache
def _logistic() -> Density:
    def log_density(z: Array) -> Array:
        return np.asarray(-np.abs(z) - 2 * np.log1p(np.exp(-np.abs(z))))

    return log_concave_density(log_density, name="logistic", m=0.0)


@cache
def _gumbel() -> Density:
    def log_density(z: Array) -> Array:
        return np.asarray(-z - np.exp(np.minimum(-z, 700.0)))

    return log_concave_density(log_density, name="gumbel", m=0.0)


@cache
def _laplace() -> Density:
    return log_concave_density(
        lambda z: np.asarray(-np.abs(z)), name="laplace", kinks=[0.0], m=0.0
    )


@lru_cache(maxsize=64)
def _generalized_normal(beta: float) -> Density:
    return log_concave_density(
        lambda z: np.asarray(-(np.abs(z) ** beta)),
        name="generalized-normal",
        kinks=[] if beta % 2 == 0 else [0.0],
        m=0.0,
    )


@cache
def _uniform() -> Density:
    return log_concave_density(
        lambda z: np.zeros_like(z), name="uniform", support=(0.0, 1.0), near=0.5, m=0.0
    )
