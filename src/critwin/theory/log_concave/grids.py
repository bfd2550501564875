r"""Any density on a grid, in one or two dimensions: constant on cells, noised exactly.

A cell ``[a, b]`` under noise is a difference of normal distribution functions, so the noised
density is a finite sum; in two dimensions the sum factors. No assumption on the tails or the
number of modes: there are values, no bounds from log-concavity.

Source: derived in docs/theory/log_concave.md, eq. (11).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.special import ndtr

from critwin.errors import InputError
from critwin.levels import alpha_sigma
from critwin.theory._law import check_names, check_weights
from critwin.theory._tables import check_levels, component_table
from critwin.theory.log_concave._legendre import panel_points
from critwin.theory.log_concave._line_table import LineTable, posterior_average, table_of
from critwin.theory.log_concave._plane import ENOUGH, Stripe, plane_average, stripe_length

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from critwin.transitions import Transitions

    Array = NDArray[np.float64]

__all__ = ["GridMixture", "grid_line_table", "grid_stripes", "grid_transitions"]

_REACH = 8.5
_MARKS = np.array([-8.5, -4.0, -1.5, 0.0, 1.5, 4.0, 8.5])
_MAX_ELEMENTS = 1 << 21


@dataclass(frozen=True, eq=False, init=False)
class GridMixture:
    """Components given by their densities at the points of a grid. Frozen.

    Every grid point is the middle of a cell on which the density is constant (on an uneven grid
    the cells end half way to the neighbours).

    Attributes:
        weights: Prior over components, shape ``(K,)``, float64.
        densities: Normalised, shape ``(K, n)`` or ``(K, n_1, n_2)``.
        edges: Ends of the cells, one array ``(n + 1,)`` an axis.
        means: Of the piecewise constant law, shape ``(K, D)``, float64.
        names: Names of the components, length K.
    """

    weights: torch.Tensor
    densities: Array
    edges: tuple[Array, ...]
    means: torch.Tensor
    names: tuple[str, ...]

    def __init__(
        self,
        *,
        densities: ArrayLike,
        axes: Sequence[ArrayLike],
        weights: Any = None,
        names: Sequence[str] | None = None,
        tolerance: float = 1e-2,
    ) -> None:
        """Check, normalise and store a mixture.

        Args:
            densities: Density values of K components, shape ``(K, n)`` or ``(K, n_1, n_2)``.
            axes: One or two increasing arrays of grid points, at least two points each.
            weights: Shape ``(K,)``; equal unless given.
            names: Distinct names; ``"0"``, ``"1"``, … unless given.
            tolerance: How far the sum of a component over its cells may be from 1; it is then
                divided out.

        Raises:
            InputError: If shapes do not fit, an axis does not increase, a value is negative or
                not finite, or a component does not sum to 1 within the tolerance.
        """
        grid = [np.asarray(axis, dtype=np.float64) for axis in axes]
        values = np.array(densities, dtype=np.float64)
        wanted = tuple(len(axis) for axis in grid if axis.ndim == 1)
        if len(grid) not in (1, 2) or len(wanted) < len(grid) or values.shape[1:] != wanted:
            raise InputError(
                "densities and axes do not fit",
                got=f"{values.shape} on axes {[axis.shape for axis in grid]}",
                wanted="(K, n) on one axis, or (K, n_1, n_2) on two",
            )
        if len(values) == 0:
            raise InputError("there is no component", got=values.shape)
        for number, axis in enumerate(grid):
            if len(axis) < 2 or not np.all(np.isfinite(axis)) or np.any(np.diff(axis) <= 0):
                raise InputError(
                    f"axis {number} must be increasing, finite, of two points or more"
                )
        if not np.all(np.isfinite(values)) or np.any(values < 0):
            bad = values[~(np.isfinite(values) & (values >= 0))].flat[0]
            raise InputError("densities must be finite and >= 0", got=float(bad))
        edges = tuple(_cell_edges(axis) for axis in grid)
        cells = np.diff(edges[0])
        if len(grid) == 2:
            cells = np.multiply.outer(cells, np.diff(edges[1]))
        mass = values * cells
        total = mass.reshape(len(values), -1).sum(axis=1)
        if np.any(~(np.abs(total - 1) <= tolerance)):
            k = int(np.argmax(np.abs(total - 1)))
            raise InputError(
                f"component {k} does not sum to 1 over its cells",
                got=f"{total[k]:.6g}",
                wanted=f"1 within {tolerance:g}",
                next_step="divide by the sum, or give a grid that holds the whole density",
            )
        mass = mass / total.reshape(-1, *[1] * len(grid))
        middles = [0.5 * (e[1:] + e[:-1]) for e in edges]
        means = (
            mass @ middles[0][:, None]
            if len(grid) == 1
            else np.stack([mass.sum(2) @ middles[0], mass.sum(1) @ middles[1]], axis=1)
        )
        stored = mass / cells
        stored.setflags(write=False)
        fields: dict[str, Any] = {
            "weights": check_weights(weights, len(values)),
            "densities": stored,
            "edges": edges,
            "means": torch.from_numpy(means),
            "names": check_names(names, len(values)),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def dim(self) -> int:
        """Number of dimensions, 1 or 2."""
        return len(self.edges)

    @property
    def num_components(self) -> int:
        """Number of components K."""
        return len(self.names)


def grid_transitions(
    mixture: GridMixture,
    logsnr: ArrayLike,
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
) -> Transitions:
    """Transitions of the forward–reverse experiment, exact for the piecewise constant law.

    Args:
        mixture: Law of the clean ``x_0``, and the prior of the reversal.
        logsnr: Levels, strictly decreasing, shape ``(L,)``; ``+inf`` (no noise) is allowed.
        labels: Groups of components, label -> names; an ungrouped component keeps its name.

    Returns:
        The table; ``kind="exact"`` where the quadrature over noised points is resolved to 1e-10,
        else ``"estimated"`` with its error.

    Raises:
        InputError: If levels or labels are not valid.

    Source:
        docs/theory/log_concave.md, eqs. (5) and (11).
    """
    levels = check_levels(logsnr)
    prior = mixture.weights.numpy()
    probs, worst = [], 0.0
    for alpha, sigma in zip(*alpha_sigma(np.concatenate([[np.inf], levels])), strict=True):
        if mixture.dim == 1:
            table = grid_line_table(mixture, float(alpha), float(sigma))
            flat = table.values.reshape(len(prior), -1)
            probs.append(posterior_average(flat, table.weights.ravel(), prior))
        else:
            law, error = plane_average(grid_stripes(mixture, float(alpha), float(sigma)), prior)
            probs.append(law)
            worst = max(worst, error)
    plateau = float(prior @ np.diagonal(probs[0]))
    host: Any = mixture  # names and weights are all that the table reads
    attrs = {"method": "quadrature"}
    result = component_table(host, levels, np.stack(probs[1:]), labels, attrs, plateau)
    if worst <= ENOUGH:
        return result
    return replace(result, kind="estimated", stderr=np.full_like(result.probs, worst))


def grid_line_table(mixture: GridMixture, alpha: float, sigma: float) -> LineTable:
    """Noised densities of a one-dimensional grid on panels.

    Args:
        mixture: One-dimensional.
        alpha: Signal scale.
        sigma: Noise standard deviation.

    Returns:
        The table.
    """
    edges, values = mixture.edges[0], mixture.densities

    def function(y: Array) -> Array:
        return _cells_at(edges, y, alpha, sigma, values.T).T

    floor = 0.0 if sigma == 0 else 1e-15 * max(1.0, alpha * np.abs(edges).max() / sigma)
    return table_of(
        function,
        _panels(edges, alpha, sigma),
        mixture.weights.numpy(),
        tolerance=max(1e-13, floor),
        least=1e-2 * sigma,
    )


def grid_stripes(
    mixture: GridMixture, alpha: float, sigma: float
) -> Callable[[int], Iterator[Stripe]]:
    """Noised densities of a two-dimensional grid, for quadrature in the plane.

    Args:
        mixture: Two-dimensional.
        alpha: Signal scale.
        sigma: Noise standard deviation.

    Returns:
        Function from a number of halvings to stripes.
    """

    def stripes(halvings: int) -> Iterator[Stripe]:
        axes = []
        for edges in mixture.edges:
            panels = _panels(edges, alpha, sigma)
            for _ in range(halvings):
                middle = 0.5 * (panels[1:] + panels[:-1])
                panels = np.sort(np.concatenate([panels, middle]))
            nodes, weights = panel_points(panels)
            kernel = _cells_at(edges, nodes.ravel(), alpha, sigma, None)
            axes.append((kernel, weights))
        (one, w_one), (two, w_two) = axes
        count = w_two.shape[1]
        step = stripe_length(mixture.num_components, len(w_two))
        for k in range(0, len(w_one), step):
            part = one[k * count : (k + step) * count]
            values = np.einsum("xa,kab,yb->kxy", part, mixture.densities, two, optimize=True)
            shape = (len(values), -1, count, len(w_two), count)
            yield Stripe(np.maximum(values, 0.0).reshape(shape), w_one[k : k + step], w_two)

    return stripes


def _cell_edges(axis: Array) -> Array:
    middle = 0.5 * (axis[1:] + axis[:-1])
    return np.concatenate(
        [[1.5 * axis[0] - 0.5 * axis[1]], middle, [1.5 * axis[-1] - 0.5 * axis[-2]]]
    )


def _panels(edges: Array, alpha: float, sigma: float) -> Array:
    """Ends of cells under noise, and marks of their steps, no closer than the noise allows."""
    if sigma == 0:
        return alpha * edges
    if np.diff(edges).min() * alpha > 4 * sigma:
        marks = np.unique((alpha * edges[:, None] + sigma * _MARKS).ravel())
    else:
        marks = np.unique(
            np.concatenate([alpha * edges[[0, -1]][:, None] + sigma * _MARKS], axis=None)
        )
        inside = np.arange(marks[0], marks[-1], 1.5 * sigma)
        marks = np.unique(np.concatenate([marks, inside]))
    keep = [marks[0]]
    for mark in marks[1:-1]:
        if mark - keep[-1] >= 0.5 * sigma and marks[-1] - mark >= 0.25 * sigma:
            keep.append(mark)
    return np.array([*keep, marks[-1]])


def _cells_at(edges: Array, y: Array, alpha: float, sigma: float, values: Array | None) -> Array:
    """Noised indicator functions of the cells at y, ``(N, n)``, or their sums with values."""
    num = len(edges) - 1
    if sigma == 0:
        index = np.clip(np.searchsorted(alpha * edges, y, side="right") - 1, 0, num - 1)
        one_hot = np.eye(num)[index] if values is None else values[index]
        return np.asarray(one_hot / alpha)
    if values is None:
        return _between(edges[:-1], edges[1:], y[:, None], alpha, sigma)
    first = np.searchsorted(edges, (y - _REACH * sigma) / max(alpha, 1e-300)) - 1
    last = np.searchsorted(edges, (y + _REACH * sigma) / max(alpha, 1e-300))
    first, last = np.clip(first, 0, num), np.clip(last, 0, num)
    width = max(int((last - first).max()), 1)
    result = np.empty((len(y), values.shape[1]))
    step = max(1, _MAX_ELEMENTS // (width * (values.shape[1] + 1)))
    for k in range(0, len(y), step):
        at = np.minimum(first[k : k + step, None] + np.arange(width), num - 1)
        is_new = first[k : k + step, None] + np.arange(width) < num
        part = _between(edges[at], edges[at + 1], y[k : k + step, None], alpha, sigma) * is_new
        result[k : k + step] = np.einsum("nw,nwk->nk", part, values[at])
    return result


def _between(low: Array, high: Array, y: Array, alpha: float, sigma: float) -> Array:
    """``integral_low^high N(y; alpha x, sigma^2) dx``; the smaller tails are subtracted."""
    if alpha == 0:
        kernel = np.exp(-0.5 * (y / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
        return np.asarray((high - low) * kernel)
    a, b = (alpha * low - y) / sigma, (alpha * high - y) / sigma
    flip = a > 0
    result = ndtr(np.where(flip, -a, b)) - ndtr(np.where(flip, -b, a))
    # in far noise a cell is a point: the difference of two nearly equal numbers has no digits
    width = alpha * (high - low) / sigma
    middle = 0.5 * (a + b)
    thin = width * np.exp(-0.5 * middle**2) / math.sqrt(2 * math.pi)
    thin = thin * (1 + width**2 * (middle**2 - 1) / 24)
    return np.asarray(np.where(width < 1e-3, thin, result) / alpha)
