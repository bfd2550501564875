r"""Total variation between sets of components that are not Gaussian.

=========================  =====================================  ================================
mixture                    lower bound                            upper bound
=========================  =====================================  ================================
products, D = 1            quadrature, crossings as roots: exact  the same
products, D = 2            cells of the plane as labels           cells, Cauchy–Schwarz
products, D > 2            one coordinate alone; affinities;      transport over pairs of
                           strong log-concavity                   affinities, couplings, products
outlines                   strong log-concavity                   couplings
grids, D = 1               quadrature, exact for the cells        the same
grids, D = 2               cells of the plane as labels           cells, Cauchy–Schwarz
=========================  =====================================  ================================

Importing this module registers the three kinds with
:func:`critwin.theory.distances.total_variation` and
:func:`~critwin.theory.distances.pairwise_tv`.

Source: derived in docs/theory/log_concave.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from critwin.errors import InputError
from critwin.levels import alpha_sigma
from critwin.theory._brackets import lower_from_pairs, transport_upper
from critwin.theory._sides import named_set, signed
from critwin.theory._tables import check_levels
from critwin.theory.distances import (
    DistanceCurve,
    Precision,
    exact_curve,
    pairwise_tv,
    total_variation,
)
from critwin.theory.log_concave._line_table import (
    LineTable,
    absolute_integrals,
)
from critwin.theory.log_concave._plane import Stripes, plane_distance
from critwin.theory.log_concave.grids import GridMixture, grid_line_table, grid_stripes
from critwin.theory.log_concave.outlined import (
    OutlinedMixture,
    coupling_upper,
    log_concave_lower,
)
from critwin.theory.log_concave.pairs import SLACK, pair_brackets, pair_integrals, symmetric
from critwin.theory.log_concave.products import ProductMixture
from critwin.theory.log_concave.transitions import (
    component_draws,
    coordinate_tables,
    product_stripes,
    sobol_points,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__: list[str] = []


class _Sides(NamedTuple):
    """``TV(p^A, p^B) = factor TV(P, Q)`` after what both share has cancelled."""

    factor: float
    coefficients: Array  # (K,), of P - Q
    left: list[int]
    right: list[int]


def _sides(
    mixture: Any, a: str | Sequence[str], b: str | Sequence[str], precision: Precision
) -> _Sides:
    if precision not in get_args(Precision):
        raise InputError("unknown precision", got=precision, wanted="estimate or bracket")
    first, second = (
        named_set(mixture.names, names, what) for names, what in ((a, "set A"), (b, "set B"))
    )
    coefficients = signed(mixture.weights.numpy(), first, second)
    factor = float(coefficients[coefficients > 0].sum())
    if factor > 0:
        coefficients = coefficients / factor
    left, right = (np.flatnonzero(s * coefficients > 0).tolist() for s in (1, -1))
    return _Sides(factor, coefficients, left, right)


def _line_distance(table: LineTable, coefficients: Array) -> float:
    gap = np.einsum("k,kpa->pa", coefficients, table.values)
    return 0.5 * float(absolute_integrals(gap) @ (0.5 * np.diff(table.edges)))


def _on_levels(
    levels: Array, one: Callable[[float, float], tuple[float, float, float]]
) -> tuple[Array, Array, Array]:
    """Lower, estimate and upper at every level."""
    alphas, sigmas = alpha_sigma(levels)
    rows = [one(float(a), float(s)) for a, s in zip(alphas, sigmas, strict=True)]
    lower, middle, upper = np.array(rows).reshape(-1, 3).T
    return lower, middle, upper


def _plane_curve(
    levels: Array, sides: _Sides, stripes_at: Callable[[float, float], Stripes]
) -> DistanceCurve:
    def one(alpha: float, sigma: float) -> tuple[float, float, float]:
        return plane_distance(stripes_at(alpha, sigma), sides.coefficients)

    lower, middle, upper = (sides.factor * v for v in _on_levels(levels, one))
    lower = np.clip(lower - SLACK, 0.0, 1.0)
    upper = np.clip(upper + SLACK, lower, 1.0)
    return DistanceCurve(
        logsnr=levels,
        lower=lower,
        estimate=np.clip(middle, lower, upper),
        upper=upper,
        stderr=0.5 * (upper - lower),
        lower_how="cells of the plane as labels",
        estimate_how="quadrature in the plane; half the bracket as its error",
        upper_how="cells of the plane, Cauchy–Schwarz where the difference changes sign",
    )


@total_variation.register(ProductMixture)
def _product_tv(
    mixture: ProductMixture,
    a: str | Sequence[str],
    b: str | Sequence[str],
    logsnr: ArrayLike,
    *,
    num_samples: int = 1 << 14,
    seed: int = 0,
    precision: Precision = "estimate",
) -> DistanceCurve:
    levels, sides = check_levels(logsnr), _sides(mixture, a, b, precision)
    if sides.factor == 0:
        return exact_curve(levels, np.zeros_like(levels), "the two sets have the same law")
    if mixture.dim == 1:

        def one(alpha: float, sigma: float) -> tuple[float, float, float]:
            table = coordinate_tables(mixture, alpha, sigma)[0]
            return (_line_distance(table, sides.coefficients),) * 3

        value = sides.factor * _on_levels(levels, one)[1]
        return exact_curve(levels, value, "quadrature on the line")
    if mixture.dim == 2:
        return _plane_curve(
            levels, sides, lambda s, n: product_stripes(coordinate_tables(mixture, s, n))
        )
    lower, upper = _product_bracket(mixture, levels, sides)
    if precision == "bracket":
        middle, stderr, how = 0.5 * (lower + upper), 0.5 * (upper - lower), "middle of the bracket"
    else:
        middle, stderr = _sampled(mixture, levels, sides, num_samples, seed)
        how = f"E|p - q|/(p + q) over {num_samples} Sobol points a component"
    return DistanceCurve(
        logsnr=levels,
        lower=lower,
        estimate=np.clip(middle, lower, upper),
        upper=upper,
        stderr=stderr,
        lower_how="the best coordinate, or pairs of components",
        estimate_how=how,
        upper_how="transport over pairs of components",
    )


def _product_bracket(mixture: ProductMixture, levels: Array, sides: _Sides) -> tuple[Array, Array]:
    low, high = pair_brackets(mixture, levels)
    p, q = sides.coefficients[sides.left], -sides.coefficients[sides.right]
    pick = np.ix_(range(len(levels)), sides.left, sides.right)
    lower, upper = lower_from_pairs(p, q, low[pick]), transport_upper(p, q, high[pick])

    def one(alpha: float, sigma: float) -> tuple[float, float, float]:
        tables = coordinate_tables(mixture, alpha, sigma)
        best = max(_line_distance(t, sides.coefficients) for t in tables)
        shared = np.ones((mixture.num_components,) * 2)
        for table in tables:
            root = np.sqrt(table.values)
            shared *= np.einsum("ipa,jpa,pa->ij", root, root, table.weights, optimize=True)
        cross = shared[np.ix_(sides.left, sides.right)]
        return best, 1.0 - float((np.sqrt(np.outer(p, q)) * cross).sum()), 0.0

    marginal, affine, _ = _on_levels(levels, one)
    lower = np.maximum(lower, np.maximum(marginal, affine) - SLACK)
    lower = sides.factor * np.clip(lower, 0.0, 1.0)
    return lower, np.clip(sides.factor * upper, lower, 1.0)


def _sampled(
    mixture: ProductMixture, levels: Array, sides: _Sides, num_samples: int, seed: int
) -> tuple[Array, Array]:
    """``E_{(P + Q)/2} |p - q|/(p + q)`` over exact draws, and its standard error."""
    points = sobol_points(mixture.dim, num_samples, seed)
    u = np.concatenate(points)
    c = sides.coefficients
    log_p, log_q = (np.log(np.where(s * c > 0, np.abs(c), 1e-300))[:, None] for s in (1.0, -1.0))
    alphas, sigmas = alpha_sigma(levels)
    each = np.zeros((len(levels), len(points)))
    for level, (alpha, sigma) in enumerate(zip(alphas, sigmas, strict=True)):
        tables = coordinate_tables(mixture, float(alpha), float(sigma))
        for k in [*sides.left, *sides.right]:
            log_density = component_draws(tables, k, u)
            gap = np.logaddexp.reduce(log_density + log_p) - np.logaddexp.reduce(
                log_density + log_q
            )
            value = np.abs(np.tanh(0.5 * gap)).reshape(len(points), -1).mean(axis=1)
            each[level] += 0.5 * abs(c[k]) * value
    each *= sides.factor
    return each.mean(axis=1), each.std(axis=1, ddof=1) / np.sqrt(len(points))


@pairwise_tv.register(ProductMixture)
def _product_pairs(mixture: ProductMixture, logsnr: ArrayLike) -> Array:
    if mixture.dim > 1:
        raise InputError(
            "pairwise distances of products are exact in one dimension only",
            got=f"D = {mixture.dim}",
            next_step="use total_variation or pair_brackets, which say how sure they are",
        )
    return pair_brackets(mixture, logsnr)[0]


@total_variation.register(GridMixture)
def _grid_tv(
    mixture: GridMixture,
    a: str | Sequence[str],
    b: str | Sequence[str],
    logsnr: ArrayLike,
    *,
    num_samples: int = 1 << 14,
    seed: int = 0,
    precision: Precision = "estimate",
) -> DistanceCurve:
    levels, sides = check_levels(logsnr), _sides(mixture, a, b, precision)
    if sides.factor == 0:
        return exact_curve(levels, np.zeros_like(levels), "the two sets have the same law")
    if mixture.dim == 2:
        return _plane_curve(levels, sides, lambda s, n: grid_stripes(mixture, s, n))

    def one(alpha: float, sigma: float) -> tuple[float, float, float]:
        return (_line_distance(grid_line_table(mixture, alpha, sigma), sides.coefficients),) * 3

    value = sides.factor * _on_levels(levels, one)[1]
    return exact_curve(levels, value, "quadrature on the line, densities constant on cells")


@pairwise_tv.register(GridMixture)
def _grid_pairs(mixture: GridMixture, logsnr: ArrayLike) -> Array:
    if mixture.dim > 1:
        raise InputError(
            "pairwise distances on a grid are exact in one dimension only",
            got=f"D = {mixture.dim}",
            next_step="use total_variation, which brackets them",
        )
    levels = check_levels(logsnr)
    first, second = np.triu_indices(mixture.num_components, 1)
    rows = [
        pair_integrals(grid_line_table(mixture, float(a), float(s)), first, second)[0]
        for a, s in zip(*alpha_sigma(levels), strict=True)
    ]
    return symmetric(np.array(rows).reshape(len(levels), len(first)), mixture.num_components)


@total_variation.register(OutlinedMixture)
def _outlined_tv(
    mixture: OutlinedMixture,
    a: str | Sequence[str],
    b: str | Sequence[str],
    logsnr: ArrayLike,
    *,
    num_samples: int = 1 << 14,
    seed: int = 0,
    precision: Precision = "estimate",
) -> DistanceCurve:
    levels, sides = check_levels(logsnr), _sides(mixture, a, b, precision)
    if sides.factor == 0:
        return exact_curve(levels, np.zeros_like(levels), "the two sets have the same law")
    alphas, sigmas = alpha_sigma(levels)
    low = log_concave_lower(mixture.means.numpy(), mixture.m.numpy(), alphas, sigmas)
    high = coupling_upper(mixture.wasserstein.numpy(), alphas, sigmas)
    p, q = sides.coefficients[sides.left], -sides.coefficients[sides.right]
    pick = np.ix_(range(len(levels)), sides.left, sides.right)
    lower = sides.factor * lower_from_pairs(p, q, low[pick])
    upper = np.clip(sides.factor * transport_upper(p, q, high[pick]), lower, 1.0)
    known = "samples" if mixture.is_estimated else "what was given"
    return DistanceCurve(
        logsnr=levels,
        lower=lower,
        estimate=np.full_like(lower, np.nan),
        upper=upper,
        stderr=np.full_like(lower, np.nan),
        lower_how=f"strong log-concavity and means, from {known}",
        estimate_how="none: the components are known only in outline",
        upper_how=f"coupling over Wasserstein distances, from {known}",
    )


@pairwise_tv.register(OutlinedMixture)
def _outlined_pairs(mixture: OutlinedMixture, logsnr: ArrayLike) -> Array:
    raise InputError(
        "components known only in outline have no exact distances",
        next_step="use total_variation, whose lower and upper bounds are certified",
    )
