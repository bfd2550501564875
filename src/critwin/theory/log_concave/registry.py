"""One-dimensional laws by name, and the reasons for which others are refused."""

from __future__ import annotations

from collections.abc import Callable

from critwin.errors import InputError
from critwin.theory.log_concave.densities import Density
from critwin.theory.log_concave.families import gaussian, skew_normal, truncated_gaussian
from critwin.theory.log_concave.merely import (
    generalized_normal,
    gumbel,
    laplace,
    logistic,
    uniform,
)

__all__ = ["density", "list_densities"]

_HEAVY = "its tails are heavier than exponential, so it is not log-concave"
_REFUSED = {
    "student": f"{_HEAVY}: V = (nu + 1)/2 ln(1 + z^2/nu) is not convex beyond |z| = sqrt(nu)",
    "student-t": f"{_HEAVY}: V = (nu + 1)/2 ln(1 + z^2/nu) is not convex beyond |z| = sqrt(nu)",
    "cauchy": f"{_HEAVY}: V = ln(1 + z^2) is not convex beyond |z| = 1, and it has no mean",
    "lognormal": f"{_HEAVY}: V = ln x + (ln x)^2/2 is not convex beyond x = 1",
    "pareto": f"{_HEAVY}: V = (a + 1) ln x is concave",
    "levy": f"{_HEAVY}, and it has no mean",
}

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
