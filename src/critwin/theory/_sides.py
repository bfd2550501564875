"""Two sub-mixtures to be told apart: what they share cancels, and what is left may be simple.

``p^A - p^B`` is a signed sum of components. Its positive and its negative part are multiples, by
the same factor, of two mixtures of different components, so
``TV(p^A, p^B) = factor TV(P, Q)``; for A inside B the factor is ``1 - w(A)/w(B)`` and
``Q = p^{B without A}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from critwin._texts import some_of
from critwin.errors import InputError
from critwin.theory._tables import centred_span
from critwin.theory.mixtures import GaussianMixture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.theory._pairs import Noised

    Array = NDArray[np.float64]

__all__ = ["Sides", "check_inside", "named_set", "restricted", "signed", "split", "whitened"]

_SAME = 1e-15


class Sides(NamedTuple):
    """``TV(p^A, p^B) = factor TV(sum_i a_i P_i, sum_j b_j Q_j)``."""

    factor: float
    left: list[int]  # components i of P
    a: Array  # their weights, summing to 1
    right: list[int]  # components j of Q
    b: Array


def named_set(names: Sequence[str], wanted: str | Sequence[str], what: str) -> list[int]:
    """Indices of a set of components, checked.

    Args:
        names: Names of all components.
        wanted: Name or names.
        what: What the set is called in messages.

    Raises:
        InputError: If the set is empty, or a name is unknown or given twice.
    """
    chosen = [wanted] if isinstance(wanted, str) else list(wanted)
    if not chosen:
        raise InputError(f"{what} is an empty set", wanted=f"some of {some_of(names)}")
    for name in chosen:
        if name not in names:
            raise InputError(
                f"unknown component in {what}", got=name, wanted=f"some of {some_of(names)}"
            )
    if len(set(chosen)) < len(chosen):
        raise InputError(
            f"a component of {what} is named twice",
            got=", ".join(chosen),
            wanted="each component once",
        )
    return [list(names).index(name) for name in chosen]


def check_inside(
    names: Sequence[str], inner: Sequence[int], outer: Sequence[int], inner_is: str, outer_is: str
) -> None:
    """Refuse a set that is not inside the other, naming what is outside.

    Args:
        names: Names of all components.
        inner: Indices that have to be among those of ``outer``.
        outer: Indices.
        inner_is: What the inner set is called in messages.
        outer_is: What the outer set is called.

    Raises:
        InputError: If a component of ``inner`` is not in ``outer``.
    """
    stray = [names[k] for k in inner if k not in outer]
    if stray:
        raise InputError(
            f"{inner_is} is not inside {outer_is}",
            got=f"{some_of(stray)} outside {some_of([names[k] for k in outer])}",
            wanted=f"every component of {inner_is} in {outer_is}",
            next_step=f"add {some_of(stray)} to {outer_is}",
        )


def signed(weights: Array, a: Sequence[int], b: Sequence[int]) -> Array:
    """Coefficients of ``p^A - p^B``, shape ``(K,)``, exactly 0 where they cancel."""
    inside = np.zeros((2, len(weights)))
    inside[0, list(a)] = weights[list(a)] / weights[list(a)].sum()
    inside[1, list(b)] = weights[list(b)] / weights[list(b)].sum()
    result = inside[0] - inside[1]
    return np.where(np.abs(result) <= _SAME * inside.max(axis=0), 0.0, result)


def split(mixture: GaussianMixture, a: Sequence[int], b: Sequence[int]) -> Sides:
    """The two sides, after components of the same law are merged."""
    coefficients = signed(mixture.weights.numpy(), a, b)
    means, eigen = mixture.means.numpy(), mixture.covariances.numpy()
    involved = np.flatnonzero(coefficients)
    for place, k in enumerate(involved):
        for j in involved[:place]:
            is_same = bool(coefficients[j]) and np.array_equal(means[j], means[k])
            if is_same and (mixture.is_shared or np.array_equal(eigen[j], eigen[k])):
                total = coefficients[j] + coefficients[k]
                is_nothing = abs(total) <= _SAME * abs(coefficients[j])
                coefficients[j], coefficients[k] = 0.0 if is_nothing else total, 0.0
                break
    left, right = np.flatnonzero(coefficients > 0), np.flatnonzero(coefficients < 0)
    if len(left) == 0 or len(right) == 0:  # the same law
        return Sides(0.0, [], np.zeros(0), [], np.zeros(0))
    factor = float(coefficients[left].sum())
    a_weights, b_weights = coefficients[left] / factor, -coefficients[right]
    if abs(factor - 1.0) < 1e-14:
        factor = 1.0
    return Sides(factor, left.tolist(), a_weights, right.tolist(), b_weights / b_weights.sum())


def restricted(mixture: GaussianMixture, which: Sequence[int], weights: Array) -> GaussianMixture:
    """Some components under other weights."""
    keep = list(which)
    return GaussianMixture(
        weights=weights / weights.sum(),
        means=mixture.means[keep],
        covariances=mixture.covariances if mixture.is_shared else mixture.covariances[keep],
        names=[mixture.names[k] for k in keep],
        covariance_kind=mixture.kind,
    )


def whitened(noised: Noised, which: Sequence[int]) -> Array:
    """Centred means of equal covariances in units of the noised one, ``(L, n, r)``, r their rank.

    Args:
        noised: The components at several levels; equal covariances.
        which: Components to place.
    """
    means = noised.means[list(which)]
    if noised.axes is not None:
        means = means @ noised.axes[0]
    span = centred_span(means)
    rank = span.shape[1]
    var = noised.variances(0)
    if var.shape[1] == 1:
        return np.asarray((noised.alpha / np.sqrt(var[:, 0]))[:, None, None] * span)
    coords = np.empty((len(var), len(means), rank))
    for level, row in enumerate(var):
        scaled = noised.alpha[level] * (means - means.mean(axis=0)) / np.sqrt(row)
        coords[level] = centred_span(scaled, rank=rank)
    return coords
