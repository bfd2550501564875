r"""Transitions of mixtures that are not Gaussian: ``C_t[i, j] = E_{y ~ p_t^i} P(j | y)``.

One coordinate: quadrature on panels, 1e-12. Two: the product of two such rules, halved until the
integrand is resolved. More: quasi-random points mapped by the exact quantiles of every noised
coordinate, with the standard error over scrambles.

Source: Li & Chen (2024), sec. 2; Li, Karan & Chen (2025), sec. 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError
from critwin.levels import alpha_sigma
from critwin.theory._scrambles import scrambles
from critwin.theory._tables import (
    Method,
    check_levels,
    check_options,
    component_table,
)
from critwin.theory.log_concave._legendre import panel_points
from critwin.theory.log_concave._line_table import (
    LineTable,
    densities_at,
    line_table,
    posterior_average,
    quantiles,
)
from critwin.theory.log_concave._plane import ENOUGH, Stripe, plane_average, stripe_length
from critwin.theory.log_concave.products import ProductMixture

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from critwin.transitions import Transitions

    Array = NDArray[np.float64]

__all__ = [
    "component_draws",
    "coordinate_tables",
    "product_stripes",
    "product_transitions",
    "sobol_points",
]

_TINY = 1e-300


def product_transitions(
    mixture: ProductMixture,
    logsnr: ArrayLike,
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
    method: Method = "auto",
    num_samples: int = 1 << 13,
    seed: int = 0,
) -> Transitions:
    """Transitions of the forward–reverse experiment whose reversal is the posterior draw.

    Args:
        mixture: Law of the clean ``x_0``, and the prior of the reversal.
        logsnr: Levels, strictly decreasing, shape ``(L,)``; ``+inf`` (no noise) is allowed.
        labels: Groups of components, label -> names; an ungrouped component keeps its name.
        method: ``"quadrature"`` (D <= 2), ``"sobol"``, or ``"auto"``: quadrature where it
            applies.
        num_samples: Number of quasi-random points, split over 16 scrambles and the same at every
            level.
        seed: Seed of the scrambles.

    Returns:
        The table. ``kind="exact"`` for D = 1, and for D = 2 if halving all panels changes no
        entry by more than 1e-10; otherwise ``"estimated"``, with that change or the standard
        error over scrambles.

    Raises:
        InputError: If levels or labels are not valid, or the method does not apply.

    Source:
        docs/theory/log_concave.md, eqs. (3) and (5).
    """
    check_options("component", method, num_samples)
    levels = check_levels(logsnr)
    if method == "quadrature" and mixture.dim > 2:
        raise InputError(
            "no quadrature for this mixture",
            got=f"D = {mixture.dim}",
            wanted="D <= 2",
            next_step="use method='auto'",
        )
    is_quadrature = mixture.dim <= 2 and method != "sobol"
    points = None if is_quadrature else sobol_points(mixture.dim, num_samples, seed)
    # the plateau, mean stay without noise, comes with the levels
    alphas, sigmas = alpha_sigma(np.concatenate([[np.inf], levels]))
    weights = mixture.weights.numpy()
    draws: list[Array] = []
    errors: list[float] = []
    for alpha, sigma in zip(alphas, sigmas, strict=True):
        tables = coordinate_tables(mixture, float(alpha), float(sigma))
        if points is not None:
            draws.append(_scrambles(mixture, tables, points))
        elif mixture.dim == 1:
            draws.append(_on_a_line(mixture, tables[0])[None])
        else:
            probs, error = plane_average(product_stripes(tables), weights)
            draws.append(probs[None])
            errors.append(error)
    law = np.stack(draws, axis=1)  # (R, L + 1, K, K)
    mean = law.mean(axis=0)
    plateau = float(weights @ np.diagonal(mean[0]))
    how = "quadrature" if points is None else "sobol"
    host: Any = mixture  # names and weights are all that the table reads
    table = component_table(host, levels, mean[1:], labels, {"method": how}, plateau)
    if points is None:
        error = max(errors, default=0.0)
        if error <= ENOUGH:
            return table
        stderr = np.full_like(table.probs, error)
        return replace(table, kind="estimated", stderr=stderr)
    each = [component_table(host, levels, r[1:], labels, {}, plateau).probs for r in law]
    stderr = np.std(each, axis=0, ddof=1) / np.sqrt(len(each))
    attrs = {**table.attrs, "num_samples": num_samples, "seed": seed}
    return replace(table, kind="estimated", stderr=stderr, attrs=attrs)


def coordinate_tables(mixture: ProductMixture, alpha: float, sigma: float) -> list[LineTable]:
    """Noised densities of all components, one table a coordinate.

    Args:
        mixture: The mixture.
        alpha: Signal scale.
        sigma: Noise standard deviation.

    Returns:
        D tables.
    """
    weights = mixture.weights.numpy()
    return [
        line_table([row[d] for row in mixture.components], weights, alpha, sigma)
        for d in range(mixture.dim)
    ]


def _on_a_line(mixture: ProductMixture, table: LineTable) -> Array:
    values = table.values.reshape(mixture.num_components, -1)
    return posterior_average(values, table.weights.ravel(), mixture.weights.numpy())


def product_stripes(tables: list[LineTable]) -> Callable[[int], Iterator[Stripe]]:
    """The plane of two coordinates, for :mod:`critwin.theory.log_concave._plane`.

    Args:
        tables: Tables of the two coordinates.

    Returns:
        Function from a number of halvings to stripes.
    """

    def stripes(halvings: int) -> Iterator[Stripe]:
        now = tables
        for _ in range(halvings):
            now = [_halved(t) for t in now]
        (one, w_one), (two, w_two) = (_without_tails(t) for t in now)
        step = stripe_length(len(one), len(w_two))
        for k in range(0, len(w_one), step):
            values = np.einsum("kpa,kqb->kpaqb", one[:, k : k + step], two)
            yield Stripe(values, w_one[k : k + step], w_two)

    return stripes


def _without_tails(table: LineTable) -> tuple[Array, Array]:
    """Values ``(K, P, NUM)`` and weights ``(P, NUM)`` of the panels that hold any mass."""
    keep = (table.values * table.weights).sum(axis=2).max(axis=0) > 1e-14
    return table.values[:, keep], table.weights[keep]


def _halved(table: LineTable) -> LineTable:
    edges = np.sort(np.concatenate([table.edges, 0.5 * (table.edges[1:] + table.edges[:-1])]))
    nodes, weights = panel_points(edges)
    values = densities_at(table, nodes.ravel())
    return LineTable(edges, values.reshape(-1, *nodes.shape), weights)


def sobol_points(dim: int, num_samples: int, seed: int) -> list[Array]:
    """Scrambled Sobol points.

    Args:
        dim: Number of dimensions D.
        num_samples: Number of points of all scrambles together.
        seed: Seed of the scrambles.

    Returns:
        One array ``(n, D)`` a scramble, strictly between 0 and 1.
    """
    return list(scrambles(dim, num_samples, "product_transitions", seed))


def component_draws(tables: list[LineTable], component: int, u: Array) -> Array:
    """Log densities of all components at exact draws of one, shape ``(K, N)``.

    Args:
        tables: Tables of the coordinates.
        component: Which one is drawn from.
        u: Uniforms, shape ``(N, D)``.

    Returns:
        Floored at ``ln 1e-300``.
    """
    result = np.zeros((len(tables[0].values), len(u)))
    for d, table in enumerate(tables):
        y = quantiles(table, component, u[:, d])
        result += np.log(np.maximum(densities_at(table, y), _TINY))
    return result


def _scrambles(mixture: ProductMixture, tables: list[LineTable], points: list[Array]) -> Array:
    """One estimate a scramble, shape ``(R, K, K)``."""
    num, log_weights = mixture.num_components, np.log(mixture.weights.numpy())
    u = np.concatenate(points)
    probs = np.empty((len(points), num, num))
    for i in range(num):
        log_joint = log_weights[:, None] + component_draws(tables, i, u)
        share = np.exp(log_joint - log_joint.max(axis=0))
        share /= share.sum(axis=0)
        probs[:, i] = share.reshape(num, len(points), -1).mean(axis=2).T
    return probs
