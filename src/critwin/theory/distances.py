r"""Distances between the noised laws of components and of sets of components, at any level.

==============================================  ================================  ==============
two sets whose difference leaves                total variation by                error
==============================================  ================================  ==============
one component on each side, equal covariances   ``2 Phi(k) - 1``                  rounding
one on each side, D = 1                         roots of a quadratic              rounding
one on each side, any D                         inversion along a contour         ``<= 1e-8``
several; D = 1, or equal covariances and line   quadrature between roots          ``<= 1e-12``
several; equal means, isotropic                 quadrature in the radius          ``<= 1e-12``
anything else                                   certified bracket and estimate    stderr
==============================================  ================================  ==============

Source: Li & Chen (2024), sec. 3; derived in docs/theory/distances.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from scipy.special import erf

from critwin.errors import InputError
from critwin.levels import ou_time
from critwin.theory import _submixtures
from critwin.theory._gaussian_tv import Pairs
from critwin.theory._pairs import Noised
from critwin.theory._sides import named_set, split
from critwin.theory._tables import check_levels
from critwin.theory.mixtures import GaussianMixture

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = [
    "DistanceCurve",
    "Precision",
    "affinity",
    "kl_divergence",
    "pairwise_tv",
    "total_variation",
    "wasserstein2",
]

Precision = Literal["estimate", "bracket"]


@dataclass(frozen=True, eq=False, kw_only=True)
class DistanceCurve:
    """A total variation distance level by level, bracketed on both sides.

    Bounds are certified up to the error of their quadratures, below 1e-9.

    Attributes:
        logsnr: Levels, shape ``(L,)``.
        lower: Certified lower bounds, in [0, 1], shape ``(L,)``.
        estimate: Shape ``(L,)``, between the two; NaN where the components are known only in
            outline.
        upper: Certified upper bounds, shape ``(L,)``.
        stderr: Standard errors of the estimates, 0 where exact, shape ``(L,)``; half the bracket
            where nothing was sampled.
        lower_how: How the lower bounds were obtained.
        estimate_how: How the estimates were obtained.
        upper_how: How the upper bounds were obtained.
    """

    logsnr: Array
    lower: Array
    estimate: Array
    upper: Array
    stderr: Array
    lower_how: str
    estimate_how: str
    upper_how: str

    def __post_init__(self) -> None:
        """Freeze the arrays and check their order."""
        for name in ("logsnr", "lower", "estimate", "upper", "stderr"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
            if array.shape != self.logsnr.shape or array.ndim != 1:
                raise InputError(f"{name} has the wrong shape", got=array.shape, wanted="(L,)")
        if not np.all((self.lower >= 0) & (self.upper <= 1) & (self.lower <= self.upper)):
            raise InputError("not a bracket", wanted="0 <= lower <= upper <= 1")
        is_inside = (self.lower <= self.estimate) & (self.estimate <= self.upper)
        if not np.all(is_inside | np.isnan(self.estimate)):
            raise InputError("an estimate is outside its bracket")

    @property
    def t(self) -> Array:
        """OU times of the levels, shape ``(L,)``."""
        return ou_time(self.logsnr)

    @property
    def is_exact(self) -> bool:
        """Whether lower, estimate and upper are one number at every level."""
        return bool(np.array_equal(self.lower, self.upper))


def exact_curve(logsnr: Array, value: Array, how: str) -> DistanceCurve:
    """A curve without error."""
    value = np.clip(value, 0.0, 1.0)
    return DistanceCurve(
        logsnr=logsnr,
        lower=value,
        estimate=value,
        upper=value,
        stderr=np.zeros_like(value),
        lower_how=how,
        estimate_how=how,
        upper_how=how,
    )


@singledispatch
def total_variation(
    mixture: Any,
    a: str | Sequence[str],
    b: str | Sequence[str],
    logsnr: ArrayLike,
    *,
    num_samples: int = 1 << 14,
    seed: int = 0,
    precision: Precision = "estimate",
) -> DistanceCurve:
    """``TV(p_t^A, p_t^B)`` of two sets of components, with certified brackets.

    Components that both sets hold in proportion cancel exactly: for A inside B,
    ``TV(p^A, p^B) = (1 - w(A)/w(B)) TV(p^A, p^{B without A})``.

    Args:
        mixture: The mixture, :class:`~critwin.theory.mixtures.GaussianMixture` or another kind
            that has registered its own method.
        a: Components of A, a name or several.
        b: Components of B; the sets may overlap.
        logsnr: Levels, shape ``(L,)``, in any order; ``+inf`` (no noise) is allowed.
        num_samples: Quasi-random points for a component where the distance is estimated; the
            same at every level.
        seed: Seed of the scrambles.
        precision: ``"estimate"``, or ``"bracket"``: nothing is sampled, and where the distance is
            not exact the estimate is the middle of its bracket.

    Returns:
        Lower bound, estimate and upper bound at every level, and how each was obtained.

    Raises:
        InputError: If a set is empty, a name is unknown, or an option is not valid.

    Source:
        docs/theory/distances.md; Li & Chen (2024), sec. 3.
    """
    raise InputError("no distances for this kind of mixture", got=type(mixture).__name__)


@singledispatch
def pairwise_tv(mixture: Any, logsnr: ArrayLike) -> Array:
    """``TV(p_t^i, p_t^j)`` of all pairs of components, exact.

    Args:
        mixture: The mixture.
        logsnr: Levels, shape ``(L,)``.

    Returns:
        Shape ``(L, K, K)``, symmetric, zeros on the diagonal; absolute error at most 1e-8.

    Raises:
        InputError: If the levels are not valid.

    Source:
        docs/theory/distances.md, eqs (2)–(6); Imhof (1961).
    """
    raise InputError("no distances for this kind of mixture", got=type(mixture).__name__)


@total_variation.register(GaussianMixture)
def _total_variation(
    mixture: GaussianMixture,
    a: str | Sequence[str],
    b: str | Sequence[str],
    logsnr: ArrayLike,
    *,
    num_samples: int = 1 << 14,
    seed: int = 0,
    precision: Precision = "estimate",
) -> DistanceCurve:
    if precision not in get_args(Precision):
        raise InputError("unknown precision", got=precision, wanted="estimate or bracket")
    levels = check_levels(logsnr)
    first, second = (
        named_set(mixture.names, names, what) for names, what in ((a, "set A"), (b, "set B"))
    )
    sides = split(mixture, first, second)
    if sides.factor == 0.0:
        return exact_curve(levels, np.zeros_like(levels), "the two sets have the same law")
    noised = Noised(mixture, levels)
    if (exact := _submixtures.exact(noised, sides)) is not None:
        value, how = exact
        return exact_curve(levels, sides.factor * value, _scaled(how, sides.factor))
    result = _submixtures.bracket(noised, sides)
    lower, upper = sides.factor * result.lower, sides.factor * result.upper
    if precision == "bracket":
        middle, stderr, how = 0.5 * (lower + upper), 0.5 * (upper - lower), "middle of the bracket"
    else:
        middle, stderr, how = _submixtures.sampled(noised, sides, num_samples, seed)
        middle, stderr = sides.factor * middle, sides.factor * stderr
        # outside its certified bracket an estimate has missed something rare, and so has stderr
        missed = np.abs(middle - np.clip(middle, lower, upper))
        stderr = np.minimum(np.maximum(stderr, missed), upper - lower)
    return DistanceCurve(
        logsnr=levels,
        lower=lower,
        estimate=np.clip(middle, lower, upper),
        upper=upper,
        stderr=stderr,
        lower_how=_scaled(result.lower_how, sides.factor),
        estimate_how=how,
        upper_how=_scaled(result.upper_how, sides.factor),
    )


@pairwise_tv.register(GaussianMixture)
def _pairwise_tv(mixture: GaussianMixture, logsnr: ArrayLike) -> Array:
    noised = Noised(mixture, logsnr)
    if mixture.is_shared:
        return np.asarray(erf(noised.separation() / np.sqrt(2.0)))
    first, second = np.triu_indices(mixture.num_components, 1)
    shared = noised.overlaps(first.tolist(), second.tolist(), np.zeros(len(first)))
    return _symmetric(1.0 - np.minimum(shared, 1.0), mixture.num_components, 0.0)


def affinity(mixture: GaussianMixture, logsnr: ArrayLike) -> Array:
    """Hellinger affinities ``BC = ∫ sqrt(p_t^i p_t^j)`` of all pairs of components.

    Args:
        mixture: The mixture.
        logsnr: Levels, shape ``(L,)``.

    Returns:
        Shape ``(L, K, K)``, ones on the diagonal.

    Raises:
        InputError: If the levels are not valid.

    Source:
        Kailath (1967); docs/theory/distances.md, eq. (7).
    """
    noised = Noised(mixture, logsnr)
    first, second = np.triu_indices(mixture.num_components, 1)
    value = np.exp(noised.log_affinities(first.tolist(), second.tolist()))
    return _symmetric(value, mixture.num_components, 1.0)


def kl_divergence(mixture: GaussianMixture, logsnr: ArrayLike) -> Array:
    """Kullback–Leibler divergences ``KL(p_t^i || p_t^j)`` of all pairs of components, in nats.

    Args:
        mixture: The mixture.
        logsnr: Levels, shape ``(L,)``.

    Returns:
        Shape ``(L, K, K)``, zeros on the diagonal.

    Raises:
        InputError: If the levels are not valid.

    Source:
        Kullback & Leibler (1951), for Gaussians.
    """
    noised = Noised(mixture, logsnr)
    if mixture.is_shared:
        return np.asarray(2.0 * noised.separation() ** 2)

    def of(pairs: Pairs, _: NDArray[np.int64]) -> Array:
        extra = pairs.ratio - 1.0
        return np.asarray(
            0.5 * ((extra - np.log1p(extra)) @ pairs.copies + pairs.square.sum(axis=1))
        )

    num = mixture.num_components
    result = np.zeros((len(noised.alpha), num, num))
    first, second = np.nonzero(~np.eye(num, dtype=bool))
    result[:, first, second] = noised.each_pair(first.tolist(), second.tolist(), of)
    return np.maximum(result, 0.0)


def wasserstein2(mixture: GaussianMixture, logsnr: ArrayLike) -> Array:
    """Wasserstein-2 (Bures) distances of all pairs of noised components, in noised units.

    The scale is that of ``x_t = alpha x_0 + sigma z`` with ``alpha^2 + sigma^2 = 1``; at
    ``logsnr = +inf`` these are the distances of the clean components.

    Args:
        mixture: The mixture.
        logsnr: Levels, shape ``(L,)``.

    Returns:
        Shape ``(L, K, K)``, zeros on the diagonal.

    Raises:
        InputError: If the levels are not valid.

    Source:
        Dowson & Landau (1982).
    """
    noised = Noised(mixture, logsnr)
    num = mixture.num_components
    result = np.zeros((len(noised.alpha), num, num))
    for i in range(num):
        for j in range(i):
            result[:, i, j] = result[:, j, i] = np.sqrt(noised.bures_square(i, j))
    return result


def _symmetric(value: Array, num: int, diagonal: float) -> Array:
    """From values of pairs i < j, shape ``(L, M)``, to matrices."""
    first, second = np.triu_indices(num, 1)
    result = np.full((len(value), num, num), diagonal)
    result[:, first, second] = value
    result[:, second, first] = value
    return result


def _scaled(how: str, factor: float) -> str:
    return how if factor == 1.0 else f"{how}, times {factor:.6g} (what both sets share cancels)"
