r"""Transitions of mixtures that live in few dimensions, whatever D is.

With equal covariances ``P(j | y)`` depends on y through the projections on the centred means, at
most K - 1 of them; with isotropic covariances of different size also through the squared distance
from their span, a chi-square variable. Nothing here depends on D except through that variable.

Source: Li & Chen (2024), sec. 2; the reduction is Bayes' rule in the span of the means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from scipy.special import gammaln, log_softmax, softmax

from critwin.errors import InputError
from critwin.theory._quadrature import integrate_products

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "Meeting",
    "isotropic_average",
    "meeting",
    "plane_law",
    "radial_edges",
    "radial_law",
    "softmax_average",
]

_RADIUS = 7.5  # mass beyond in two dimensions: 6e-13
_STEP = 0.15
_DISAGREEMENT = 2e-9
_MAX_REFINEMENTS = 3
_CHUNK = 1 << 19  # numbers held at a time
_REACH = 8.0  # standard deviations: beyond lies a mass of 1e-15
_NEGLIGIBLE = -40.0
_ROUGH_REACH = 5.5  # the same where an error of 1e-6 is small: 4e-8
_ROUGH_NEGLIGIBLE = -16.0
_MOST_EXPONENT = 600.0  # below it one exponential serves all rows, and nothing overflows
_MOST_ROUGH = 70.0  # the same in single precision
_CLAMP = {torch.float32: 80.0, torch.float64: 690.0}
_LEAST = {torch.float32: 1e-37, torch.float64: 1e-300}


@dataclass(frozen=True, eq=False)
class Meeting:
    """Components of unit covariance that may be taken for each other at one level.

    Attributes:
        alone: Those that meet no other.
        groups: Of each group that meets: which they are, ``s_ij = w_j exp(-|c_i - c_j|^2 / 2)`` as
            logarithms up to a constant, and the widest range of the exponents.
    """

    alone: NDArray[np.int64]
    groups: tuple[tuple[NDArray[np.int64], Array, float], ...]


def meeting(coords: Array, log_weights: Array, *, is_rough: bool = False) -> Meeting:
    """Group the components that noise of some standard deviations can bring together.

    Args:
        coords: Means at this level, in units of the noised covariance, shape ``(K, r)``.
        log_weights: Shape ``(K,)``.
        is_rough: Whether an error of 1e-6 is small.

    Returns:
        The groups.
    """
    square = ((coords[:, None, :] - coords[None, :, :]) ** 2).sum(axis=-1)
    bias = log_weights - 0.5 * square  # (i, j)
    reach = (_ROUGH_REACH if is_rough else _REACH) * np.sqrt(square)
    least = _ROUGH_NEGLIGIBLE if is_rough else _NEGLIGIBLE
    is_near = bias - log_weights[:, None] + reach > least
    is_near |= is_near.T
    if is_near.all():
        num, label = 1, np.zeros(len(coords), dtype=np.int64)
    else:
        num, label = connected_components(is_near, directed=False)
    members = [np.flatnonzero(label == group) for group in range(num)]
    return Meeting(
        np.array([own[0] for own in members if len(own) == 1], dtype=np.int64),
        tuple(
            (
                own,
                bias[np.ix_(own, own)] - log_weights[own].max(),
                float(reach[np.ix_(own, own)].max() + np.ptp(log_weights[own])),
            )
            for own in members
            if len(own) > 1
        ),
    )


def softmax_average(
    z: Array,
    mass: Array,
    coords: Array,
    meeting: Meeting,
    *,
    pull: Array | None = None,
    scale: float = 1.0,
    is_rough: bool = False,
) -> Array:
    """``C[i, j] = sum_n mass_n P(j | y = coords_i + z_n)`` for unit-covariance components.

    One exponential serves all rows: ``P(j | coords_i + z) = e^{<z, c_j>} s_ij / sum_k e^{<z, c_k>}
    s_ik``.

    Args:
        z: Nodes or normals, shape ``(N, r)``.
        mass: Their weights, shape ``(N,)``, summing to 1.
        coords: Means at this level, shape ``(K, r)``.
        meeting: Which of them meet.
        pull: ``(coords - coords[0]) @ z.T / scale``, if it is at hand, shape ``(K, N)``.
        scale: What ``pull`` is multiplied by.
        is_rough: Whether an error of 1e-6 is small, as beside that of random nodes; then what
            fits into single precision is computed there.

    Returns:
        Shape ``(K, K)``.
    """
    result = np.zeros((len(coords), len(coords)))
    result[meeting.alone, meeting.alone] = mass.sum()
    nodes, votes = torch.from_numpy(z), torch.from_numpy(mass)
    pulls = None if pull is None else torch.from_numpy(pull)
    for own, bias, reach in meeting.groups:
        is_mild = reach < _MOST_EXPONENT
        kind = torch.float32 if is_rough and reach < _MOST_ROUGH else torch.float64
        is_whole, index = len(own) == len(coords), torch.from_numpy(own)
        share = torch.from_numpy(np.exp(bias)).to(kind)
        total = torch.zeros(share.shape, dtype=torch.float64)
        step = max(1, _CHUNK // len(own))
        for start in range(0, len(z), step):
            part = slice(start, start + step)
            vote = votes[part].to(kind)
            # how much nearer than to the first: bounded by the reach, wherever the group lies
            if pulls is None:
                force = (torch.from_numpy(coords[own] - coords[own[0]]) @ nodes[part].mT).to(kind)
            else:
                here = pulls[:, part] if is_whole else pulls[index, part] - pulls[own[0], part]
                force = here.to(kind) * scale
            if is_mild:
                # a node beyond the reach is clamped: its shares are wrong, but shares of its mass
                force.clamp_(-_CLAMP[kind], _CLAMP[kind]).exp_()
                weight = vote / (share @ force).clamp_(min=_LEAST[kind])
                total += share * (weight @ force.mT)
            else:
                for i in range(len(own)):
                    row = torch.softmax(force + torch.from_numpy(bias[i])[:, None], dim=0)
                    total[i] += row @ vote
        result[np.ix_(own, own)] = total.numpy()
    return result


def plane_law(coords: Array, log_weights: Array) -> Array:
    """Equal covariances, means in a plane: trapezoidal rule, shape ``(L, K, K)``.

    Two square lattices, one in the centres of the other, check each other; their mean is the
    estimate. The step is halved where they differ.

    Args:
        coords: Whitened means, shape ``(L, K, 2)``.
        log_weights: Shape ``(K,)``.

    Raises:
        InputError: If very unequal weights put a label's boundary where no step resolves it.
    """
    probs = np.empty((len(coords), coords.shape[1], coords.shape[1]))
    pending = np.arange(len(coords))
    together = [meeting(c, log_weights) for c in coords]
    for refinement in range(_MAX_REFINEMENTS + 1):
        step = _STEP / 2**refinement
        lattices = [_lattice(step, offset) for offset in (0.0, 0.5)]
        failed = []
        for level in pending:
            first, second = (
                softmax_average(z, mass, coords[level], together[level]) for z, mass in lattices
            )
            probs[level] = 0.5 * (first + second)
            if np.abs(first - second).max() > _DISAGREEMENT:
                failed.append(level)
        pending = np.array(failed, dtype=np.int64)
        if len(pending) == 0:
            return np.asarray(probs / probs.sum(axis=-1, keepdims=True))
    raise InputError(
        "the quadrature does not converge: weights are too unequal for these means",
        got=np.exp(log_weights).tolist(),
        next_step="use method='sobol'",
    )


def radial_law(dim: int, var: Array, log_weights: Array) -> Array:
    """Equal means, isotropic covariances: one integral over the radius, shape ``(L, K, K)``.

    Args:
        dim: Number of dimensions.
        var: Noised variances, shape ``(L, K)``.
        log_weights: Shape ``(K,)``.
    """
    num_levels, num = var.shape
    log_norm = (0.5 * dim - 1) * np.log(2.0) + gammaln(0.5 * dim)

    def integrand(r: Array, owner: NDArray[np.int64]) -> tuple[Array, Array]:
        level, own = owner // num, owner % num
        with np.errstate(divide="ignore"):
            log_r = np.log(r)
        radial = np.where(dim == 1, 0.0, (dim - 1) * log_r if dim > 1 else 0.0)
        density = np.exp(radial - 0.5 * r * r - log_norm)
        ratio = (var[level, own][:, None] / var[level])[:, None, :]
        log_joint = log_weights + 0.5 * dim * np.log(ratio) - 0.5 * ratio * r[..., None] ** 2
        return density[..., None], softmax(log_joint, axis=-1)

    edges = radial_edges(dim, var)
    probs = integrate_products(integrand, edges, (1, num)).reshape(num_levels, num, num)
    return np.asarray(probs / probs.sum(axis=-1, keepdims=True))


def radial_edges(dim: int, var: Array) -> list[Array]:
    """First panels of every integral over a radius, (level, component) by row.

    Args:
        dim: Number of dimensions.
        var: Noised variances, shape ``(L, K)``.
    """
    marks = np.array([-10.0, -6.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 6.0, 10.0])
    shell = np.sqrt(dim)
    edges = []
    for row in var:
        for own in row:
            # the shells of the other components, seen from this one
            other = (np.sqrt(row / own)[:, None] * (shell + marks)).ravel()
            inside = other[np.abs(other - shell) < marks[-1]]
            edges.append(np.unique(np.maximum(np.concatenate([shell + marks, inside]), 0.0)))
    return edges


def isotropic_average(
    z: Array, chi_square: Array, coords: Array, var: Array, dim: int, log_weights: Array
) -> Array:
    """Isotropic covariances of different size: average over projections and distance.

    Args:
        z: Normals, shape ``(N, r)``.
        chi_square: Squared distances from the span in units of the variance, shape ``(N,)``.
        coords: Noised means in the span, shape ``(K, r)``.
        var: Noised variances, shape ``(K,)``.
        dim: Number of dimensions D.
        log_weights: Shape ``(K,)``.

    Returns:
        Shape ``(K, K)``.
    """
    rows = []
    for i in range(len(coords)):
        total = np.zeros(len(coords))
        step = max(1, _CHUNK // coords.size)
        for start in range(0, len(z), step):
            part = slice(start, start + step)
            y = (coords[i] - coords)[None] + np.sqrt(var[i]) * z[part, None, :]
            square = (y**2).sum(axis=-1) + var[i] * chi_square[part, None]
            log_joint = log_weights - 0.5 * dim * np.log(var) - 0.5 * square / var
            total += softmax(log_joint, axis=-1).sum(axis=0)
        rows.append(total / len(z))
    return np.stack(rows)


def _lattice(step: float, offset: float) -> tuple[Array, Array]:
    """Nodes of a square lattice inside the disc, with Gaussian weights that sum to 1."""
    count = int(np.ceil(_RADIUS / step)) + 1
    axis = (np.arange(-count, count + 1) + offset) * step
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    z = z[(z**2).sum(axis=1) <= _RADIUS**2]
    mass = np.exp(log_softmax(-0.5 * (z**2).sum(axis=1)))
    return z, mass
