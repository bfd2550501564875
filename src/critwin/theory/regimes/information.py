r"""Information of a noised sample on its label, and the rate at which noise takes it away.

``H(label | x_t)`` is not a function of the transitions at one level, but is bounded by them.
Printed beside critical windows, never merged with them.

Source: Handke et al. (2025), *Measuring semantic information production* (entropy and its rate);
bounds from the table are derived in docs/theory/regimes.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from scipy.optimize import minimize_scalar

from critwin.errors import InputError
from critwin.estimates import plain
from critwin.levels import from_logsnr, ou_time
from critwin.quantities import mean_stay
from critwin.theory.regimes._averages import entropy_average, is_quadrature
from critwin.theory.regimes._posteriors import group_matrix
from critwin.transitions import require_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from critwin.theory.mixtures import GaussianMixture
    from critwin.transitions import Transitions

    Array = NDArray[np.float64]

__all__ = [
    "InformationBounds",
    "InformationCurve",
    "InformationPeak",
    "information",
    "information_bounds",
    "information_peaks",
]

_Per = Literal["log_sigma", "t"]


@dataclass(frozen=True, eq=False, kw_only=True)
class InformationCurve:
    """What the noised sample tells about its label, in nats, level by level.

    Attributes:
        logsnr: Levels, shape ``(L,)``.
        labels: The labels.
        prior_entropy: ``H(label)``.
        entropy: ``H(label | x_t)``, shape ``(L,)``.
        information: ``I(label; x_t) = H(label) - H(label | x_t)``, shape ``(L,)``.
        rate_per_log_sigma: ``dH/d ln sigma >= 0``, shape ``(L,)``.
        rate_per_t: ``dH/dt >= 0``, t the OU time, shape ``(L,)``.
        stderr: Of ``entropy`` and ``information``, 0 where exact.
        rate_stderr: Of ``rate_per_log_sigma``, 0 where exact.
        method: ``"quadrature"`` (error <= 1e-10) or ``"sobol"``.
        name: The criterion.
        source: Where it is from.
    """

    logsnr: Array
    labels: tuple[str, ...]
    prior_entropy: float
    entropy: Array
    information: Array
    rate_per_log_sigma: Array
    rate_per_t: Array
    stderr: Array
    rate_stderr: Array
    method: str
    name: str = "information on the label"
    source: str = "Handke et al. (2025)"

    @property
    def t(self) -> Array:
        """OU times of the levels."""
        return ou_time(self.logsnr)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        result: dict[str, Any] = {**plain(self), "t": plain(self.t)}
        return result


@dataclass(frozen=True, eq=False, kw_only=True)
class InformationBounds:
    """Bounds on ``H(label | x_t)`` that a table of the posterior reversal gives.

    Attributes:
        logsnr: Levels, shape ``(L,)``.
        lower: ``-ln sum_i w_i C_ii``.
        upper: ``H(after | before)``.
        name: The criterion.
        source: Where it is from.
    """

    logsnr: Array
    lower: Array
    upper: Array
    name: str = "bounds on the entropy of the label"
    source: str = "derived in docs/theory/regimes.md"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        result: dict[str, Any] = plain(self)
        return result


@dataclass(frozen=True, kw_only=True)
class InformationPeak:
    """A level at which information on the label is lost fastest.

    Attributes:
        logsnr: The level.
        t: Its OU time.
        sigma: Its noise in units of the data, ``e^{-logsnr/2}``.
        rate: The rate there, in nats.
        per: The axis that the rate is taken along: another axis has its peak elsewhere.
        name: The criterion.
        source: Where it is from.
    """

    logsnr: float
    t: float
    sigma: float
    rate: float
    per: str
    name: str = "peak of the information rate"
    source: str = "Handke et al. (2025)"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        result: dict[str, Any] = plain(self)
        return result


def information(
    mixture: GaussianMixture,
    logsnr: ArrayLike,
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
    num_samples: int = 1 << 13,
    seed: int = 0,
) -> InformationCurve:
    """``H(label | x_t)``, ``I(label; x_t)`` and their rates, from the exact posterior.

    Quadrature in one dimension, for equal covariances with means on a line, and for equal means
    with isotropic covariances; the rate is then the derivative under the integral. All else by
    Sobol points, with rates by central differences over the same points.

    Args:
        mixture: Law of the clean ``x_0``.
        logsnr: Levels, any order, shape ``(L,)``; ``+inf`` (no noise) is allowed for quadrature.
        labels: Groups of components, label -> names; an ungrouped component keeps its name.
        num_samples: Number of quasi-random points, split over 16 scrambles.
        seed: Seed of the scrambles.

    Returns:
        The curve.

    Raises:
        InputError: If levels or labels are not valid, or anisotropic covariances have more than
            4096 dimensions.

    Source:
        Handke et al. (2025); docs/theory/regimes.md, eqs. (7) and (8).
    """
    levels = _levels(logsnr, allow_clean=is_quadrature(mixture))
    names, groups = group_matrix(mixture, labels)
    average = entropy_average(mixture, levels, groups, num_samples=num_samples, seed=seed)
    shares = mixture.weights.numpy() @ groups
    prior = abs(float((shares * np.log(shares)).sum()))
    # d ln sigma = -1/2 d logsnr; dt = -1/2 sigma^2 d logsnr with sigma^2 = 1/(1 + snr)
    rate = -2.0 * average.slope
    with np.errstate(over="ignore", invalid="ignore"):
        per_t = np.where(np.isinf(levels), np.nan, rate * (1.0 + np.exp(np.minimum(levels, 700))))
    return InformationCurve(
        logsnr=levels,
        labels=names,
        prior_entropy=prior,
        entropy=average.value,
        information=prior - average.value,
        rate_per_log_sigma=rate,
        rate_per_t=per_t,
        stderr=average.value_stderr,
        rate_stderr=2.0 * average.slope_stderr,
        method=average.method,
    )


def information_bounds(table: Transitions) -> InformationBounds:
    """``-ln sum_i w_i C_ii <= H(label | x_t) <= H(after | before)``.

    Holds for the posterior reversal with the model's own prior: before and after are then two
    independent draws of the label given the noised sample.

    Args:
        table: Transitions; the labels before and after are the same.

    Returns:
        The bounds, in nats.

    Raises:
        InputError: If the prior is unknown, or a label after is no label before.

    Source:
        docs/theory/regimes.md, eq. (9).
    """
    weights = require_weights(table, why="bounds on the entropy of the label")
    if set(table.after) != set(table.before):
        raise InputError(
            "labels before and after differ",
            got=", ".join(sorted(set(table.after) ^ set(table.before))),
            wanted="the same labels",
        )
    used = weights > 0
    probs = table.probs[:, used]
    terms = np.where(probs > 0, probs * np.log(np.maximum(probs, 1e-300)), probs * 0.0)
    return InformationBounds(
        logsnr=table.logsnr,
        lower=-np.log(mean_stay(table)),
        upper=np.asarray(-(terms.sum(axis=-1) @ weights[used])),
    )


def information_peaks(
    mixture: GaussianMixture,
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
    per: _Per = "log_sigma",
    low: float = -16.0,
    high: float = 12.0,
    num_scan: int = 141,
) -> tuple[InformationPeak, ...]:
    """Local maxima of the rate at which the label's entropy grows with noise.

    Args:
        mixture: Law of the clean ``x_0``; one whose averages are exact (quadrature).
        labels: Groups of components, as :func:`information`.
        per: ``"log_sigma"`` or ``"t"``: the axis of the rate. Its peaks depend on it.
        low: Smallest logsnr scanned.
        high: Largest logsnr scanned.
        num_scan: Number of levels scanned.

    Returns:
        The peaks, most noise first; empty if the rate has none inside the range.

    Raises:
        InputError: If the mixture needs Sobol points, or an argument is out of range.

    Source:
        Handke et al. (2025); docs/theory/regimes.md, eq. (8).
    """
    if per not in get_args(_Per):
        raise InputError("unknown axis of the rate", got=per, wanted="log_sigma or t")
    if not is_quadrature(mixture):
        raise InputError(
            "no exact rate for this mixture",
            wanted="D = 1; equal covariances with means on a line; or equal means",
            next_step="read the maximum off information(...)",
        )
    if not low < high or num_scan < 3:
        raise InputError("nothing to scan", got=f"{num_scan} levels from {low:g} to {high:g}")

    def rate(levels: Array) -> Array:
        curve = information(mixture, levels, labels=labels)
        return curve.rate_per_t if per == "t" else curve.rate_per_log_sigma

    grid = np.linspace(low, high, num_scan)
    value = rate(grid)
    floor = max(1e-9 * value.max(), 1e-12)  # below are rounding errors
    inside = (value[1:-1] > value[:-2]) & (value[1:-1] >= value[2:]) & (value[1:-1] > floor)
    peaks = []
    for k in np.flatnonzero(inside) + 1:
        found = minimize_scalar(
            lambda x: -float(rate(np.array([x]))[0]),
            bounds=(grid[k - 1], grid[k + 1]),
            method="bounded",
            options={"xatol": 1e-9},
        )
        level = float(found.x)
        peaks.append(
            InformationPeak(
                logsnr=level,
                t=float(ou_time(level)),
                sigma=float(from_logsnr(level, "sigma")),
                rate=-float(found.fun),
                per=per,
            )
        )
    return tuple(peaks)


def _levels(logsnr: ArrayLike, *, allow_clean: bool) -> Array:
    levels = np.asarray(logsnr, dtype=np.float64)
    is_bad = np.isnan(levels) | (levels == -np.inf) | (np.isinf(levels) & (not allow_clean))
    if levels.ndim != 1 or len(levels) == 0 or is_bad.any():
        raise InputError("levels are not a list of logsnr", got=logsnr, wanted="shape (L,)")
    return levels
