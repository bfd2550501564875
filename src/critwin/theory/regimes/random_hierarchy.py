r"""The random hierarchy model: how the belief in a feature passes up one layer of its tree.

Printed beside critical windows, never merged with them.

Source: Sclocchi, Favero & Wyart (2025), *A phase transition in diffusion models reveals the
hierarchical nature of data*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import brentq

from critwin.errors import InputError
from critwin.estimates import plain

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["RandomHierarchy", "random_hierarchy_map"]


@dataclass(frozen=True, kw_only=True)
class RandomHierarchy:
    """The mean-field map of the model with v features, m synonyms and s-tuples.

    Attributes:
        num_features: v.
        num_synonyms: m.
        tuple_size: s.
        slope: ``F'(1) = s m (v-1)/(v^s - 1)``.
        is_transition: Whether a transition exists: ``F'(1) < 1``.
        p_star: The unstable fixed point between 1/v and 1, or None without a transition.
        epsilon_star: Noise ``(1 - p_star)/(1 - 1/v)`` at which the class is lost, or None.
        name: The criterion.
        source: Where it is from.
    """

    num_features: int
    num_synonyms: int
    tuple_size: int
    slope: float
    is_transition: bool
    p_star: float | None
    epsilon_star: float | None
    name: str = "random hierarchy"
    source: str = "Sclocchi, Favero & Wyart (2025)"

    def belief(self, p: ArrayLike) -> NDArray[np.float64]:
        """The map F: belief in the right feature one layer up.

        Args:
            p: Belief in the right features of a tuple, numbers in [0, 1], any shape.

        Returns:
            Same shape. Fixed points are 1/v, 1 and, with a transition, ``p_star``.

        Raises:
            InputError: If a number is outside [0, 1].
        """
        value = np.asarray(p, dtype=np.float64)
        if not np.all((value >= 0) & (value <= 1)):
            raise InputError("not probabilities", got=p, wanted="numbers in [0, 1]")
        v, m, s = self.num_features, self.num_synonyms, self.tuple_size
        f = (m * v - 1) / (v**s - 1)
        power = value**s
        return np.asarray(
            (power + f * (m - 1) / (m * v - 1) * (1 - power)) / (power + f * (1 - power))
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        result: dict[str, Any] = plain(self)
        return result


def random_hierarchy_map(
    num_features: int, num_synonyms: int, tuple_size: int = 2
) -> RandomHierarchy:
    """The map of the random hierarchy model and its transition.

    Args:
        num_features: v >= 2, features in every layer.
        num_synonyms: m >= 2, tuples that stand for one feature, at most ``v^(s-1)``.
        tuple_size: s >= 2.

    Returns:
        The map with its slope at 1 and, where it exists, its transition.

    Raises:
        InputError: If a number is out of range.

    Source:
        Sclocchi, Favero & Wyart (2025); docs/theory/regimes.md, eqs. (14) to (16).
    """
    v, m, s = num_features, num_synonyms, tuple_size
    if v < 2 or s < 2 or not 2 <= m <= v ** (s - 1):
        raise InputError(
            "not a random hierarchy",
            got=f"v={v}, m={m}, s={s}",
            wanted="v >= 2, s >= 2 and 2 <= m <= v^(s-1)",
        )
    slope = s * m * (v - 1) / (v**s - 1)
    p_star: float | None = None
    free = RandomHierarchy(
        num_features=v,
        num_synonyms=m,
        tuple_size=s,
        slope=slope,
        is_transition=slope < 1,
        p_star=None,
        epsilon_star=None,
    )
    if slope < 1:
        p_star = (m - 1) / (v - m) if s == 2 else _fixed_point(free)
    return RandomHierarchy(
        num_features=v,
        num_synonyms=m,
        tuple_size=s,
        slope=slope,
        is_transition=slope < 1,
        p_star=p_star,
        epsilon_star=None if p_star is None else (1 - p_star) / (1 - 1 / v),
    )


def _fixed_point(model: RandomHierarchy) -> float | None:
    """The largest root of ``F(p) = p`` below 1; F lies above the diagonal just under 1."""
    p = np.linspace(1 / model.num_features, 1, 20001)[1:-1]
    below = np.flatnonzero(model.belief(p) < p)
    if len(below) == 0:
        return None

    def gap(x: float) -> float:
        return float(model.belief(x)) - x

    return float(brentq(gap, p[below[-1]], p[below[-1] + 1], xtol=1e-15))
