"""Total variation of two Gaussian mixtures at several levels: exact, or bracketed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import erf

from critwin.errors import InputError
from critwin.theory import _brackets, _estimating
from critwin.theory._sides import restricted, whitened
from critwin.theory._signed_laws import line_tv, radial_tv
from critwin.theory._tables import centred_span
from critwin.theory.exact import exact_transitions
from critwin.theory.mixtures import covariance_matrices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.theory._pairs import Noised
    from critwin.theory._sides import Sides

    Array = NDArray[np.float64]

__all__ = ["Bracket", "bracket", "exact", "sampled"]

_MAX_DENSE = 128  # dimensions up to which covariances are pooled as matrices


class Bracket(NamedTuple):
    """Certified bounds and their origin."""

    lower: Array
    upper: Array
    lower_how: str
    upper_how: str


def exact(noised: Noised, sides: Sides) -> tuple[Array, str] | None:
    """``TV(P, Q)`` and how it was computed, or None where it has no closed form or quadrature."""
    m = noised.mixture
    which = [*sides.left, *sides.right]
    if len(which) == 2:
        if m.is_shared:
            k = noised.separation()[:, which[0], which[1]]
            return erf(k / np.sqrt(2.0)), "equal covariances: 2 Phi(k) - 1"
        value = 1.0 - noised.overlaps(which[:1], which[1:], np.zeros(1))[:, 0]
        how = "roots of the quadratic" if m.dim == 1 else "inversion along a contour"
        return np.clip(value, 0.0, 1.0), f"{how} of the log-likelihood ratio"
    coefficients = np.concatenate([sides.a, -sides.b])
    if m.dim == 1:
        mean = noised.alpha[:, None] * noised.means[which, 0]
        sd = np.sqrt(np.concatenate([noised.variances(k) for k in which], axis=1))
        return line_tv(mean, sd, coefficients), "quadrature on the line"
    if m.is_shared:
        if centred_span(_turned(noised, which)).shape[1] > 1:
            return None
        mean = whitened(noised, which)[..., 0]
        return line_tv(mean, np.ones_like(mean), coefficients), "quadrature on the line of means"
    if m.kind == "isotropic" and centred_span(noised.means[which]).shape[1] == 0:
        var = np.concatenate([noised.variances(k) for k in which], axis=1)
        return radial_tv(m.dim, var, coefficients), "quadrature in the radius"
    return None


def sampled(noised: Noised, sides: Sides, num_samples: int, seed: int) -> tuple[Array, Array, str]:
    """The estimate, its standard error, and how it was obtained."""
    value, stderr = _estimating.estimate(noised, sides, num_samples, seed)
    how = f"E|p - q|/(p + q) over {num_samples} Sobol points a component"
    return value, stderr, how


def bracket(noised: Noised, sides: Sides) -> Bracket:
    """Certified bounds on ``TV(P, Q)``: the best of several at every level."""
    n, other = len(sides.left), len(sides.right)
    first = np.repeat(sides.left, other).tolist()
    second = np.tile(sides.right, n).tolist()
    a, b = np.repeat(sides.a, other), np.tile(sides.b, n)
    shape = (len(noised.alpha), n, other)
    shared = a * noised.overlaps(first, second, np.log(b / a))
    tv = 1.0 - np.clip(noised.overlaps(first, second, np.zeros(len(first))), 0.0, 1.0)
    lower = {
        "overlaps of the components": 1.0 - shared.sum(axis=1),
        "the best projection on a line": _projected(noised, sides, shared.reshape(shape)),
    }
    upper = {
        "transport over the components": _brackets.transport_upper(
            sides.a, sides.b, tv.reshape(shape)
        )
    }
    if noised.mixture.is_shared:
        coords = whitened(noised, [*sides.left, *sides.right])
        signed = np.concatenate([sides.a, -sides.b])
        upper["chi-square"] = _brackets.chi_square_upper(coords, signed)
    if (rows := _label_rows(noised, sides)) is not None:
        lower["the exact label rows"], upper["the exact leak"] = rows
    low, low_how = _best(lower, np.argmax)
    high, high_how = _best(upper, np.argmin)
    low = np.clip(low, 0.0, 1.0)
    return Bracket(low, np.clip(np.maximum(high, low), 0.0, 1.0), low_how, high_how)


def _best(bounds: dict[str, Array], pick: object) -> tuple[Array, str]:
    """The best bound at every level, and the names of those that are best somewhere."""
    names, table = list(bounds), np.stack(list(bounds.values()))
    winner = pick(table, axis=0)  # type: ignore[operator]
    used = [name for index, name in enumerate(names) if np.any(winner == index)]
    return np.take_along_axis(table, winner[None], axis=0)[0], " or ".join(used)


def _turned(noised: Noised, which: list[int]) -> Array:
    means = noised.means[which]
    return means if noised.axes is None else means @ noised.axes[0]


def _projected(noised: Noised, sides: Sides, shared: Array) -> Array:
    """Data processing: exact distance of projections on two directions, the larger of them."""
    m = noised.mixture
    which = [*sides.left, *sides.right]
    signed = np.concatenate([sides.a, -sides.b])
    weights = 0.5 * np.abs(signed)
    rows = (range(len(sides.left)), range(len(sides.left), len(which)))
    if m.is_shared or m.kind == "isotropic":
        if m.is_shared:
            means = whitened(noised, which)
            var = np.ones(means.shape[:2])
        else:
            means = noised.alpha[:, None, None] * centred_span(noised.means[which])
            var = np.concatenate([noised.variances(k) for k in which], axis=1)
        within = (var @ weights)[:, None, None] * np.eye(means.shape[2])
    elif m.dim <= _MAX_DENSE:
        means = noised.alpha[:, None, None] * noised.means[which]
        clean = np.einsum("k,kde->de", weights, covariance_matrices(m).numpy()[which])
        within = noised.alpha[:, None, None] ** 2 * clean
        within = within + noised.sigma[:, None, None] ** 2 * np.eye(m.dim)
        var = None
    else:
        return np.zeros(len(noised.alpha))
    if means.shape[2] == 0:
        return np.zeros(len(noised.alpha))
    best = np.zeros(len(noised.alpha))
    for direction in (
        _brackets.fisher_directions(means, within, signed),
        _brackets.closest_directions(means, within, rows, shared),
    ):
        size = np.linalg.norm(direction, axis=1, keepdims=True)
        is_some = (size > 0) & np.isfinite(size)
        unit = np.where(is_some, direction / np.where(is_some, size, 1.0), 0.0)
        unit[~is_some[:, 0], 0] = 1.0
        if var is None:
            mean, sd = _brackets.on_direction(noised, which, unit)
        else:
            mean, sd = np.einsum("lr,lkr->lk", unit, means), np.sqrt(var)
        best = np.maximum(best, line_tv(mean, sd, signed))
    return best


def _label_rows(noised: Noised, sides: Sides) -> tuple[Array, Array] | None:
    """Bounds from the exact posterior of P against Q at even odds, where it is a quadrature.

    ``1 - 2 leak <= TV <= 1 - leak`` with ``leak = ∫ p q / (p + q)``; and the label of the
    component gives the lower bound ``TV(C[P, .], C[Q, .])``.
    """
    m = noised.mixture
    which = [*sides.left, *sides.right]
    if not (m.is_shared and centred_span(_turned(noised, which)).shape[1] == 2):
        return None
    small = restricted(m, which, np.concatenate([sides.a, sides.b]))
    levels, inverse = np.unique(-noised.logsnr, return_inverse=True)  # increasing noise
    try:
        probs = exact_transitions(small, -levels, method="quadrature").probs[inverse]
    except InputError:
        return None  # weights too unequal for the lattice
    n = len(sides.left)
    rows = np.stack([sides.a @ probs[:, :n], sides.b @ probs[:, n:]])
    lower = 0.5 * np.abs(rows[0] - rows[1]).sum(axis=1)
    return np.asarray(lower), np.asarray(1.0 - rows[0][:, n:].sum(axis=1))
