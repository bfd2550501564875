r"""Isotropic Gaussians: two of them, and many at random directions.

Source: Li, Karan & Chen (2025), Ex. 1 and 2, with their errata in docs/theory/families.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from critwin.streams import numpy_stream
from critwin.theory.families.base import Family, FamilyInfo, PublishedTime, Setting
from critwin.theory.families.formulas import (
    leak_time,
    merging_time,
    separated_time,
    separation_time,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.theory.mixtures import GaussianMixture

__all__ = ["RANDOM_SPHERICAL", "TWO_GAUSSIANS", "isotropic_bounds"]

HERE = "derived in docs/theory/families.md"


def _two_gaussians(distance: float, variance: float, weight: float) -> Family:
    from critwin.theory.mixtures import GaussianMixture

    half = 0.5 * distance
    mixture = GaussianMixture(
        weights=[weight, 1.0 - weight],
        means=[half, -half],
        covariances=variance,
        names=["+", "-"],
    )

    def exact(epsilon: float) -> dict[str, float | None]:
        k = float(ndtri(1.0 - 0.5 * epsilon**2))
        is_separated = half >= k * math.sqrt(variance) and distance > 0
        return {
            "T_after": separation_time(k, distance=distance, variance=variance)
            if is_separated
            else None,
            "T_before": merging_time(
                1.0 - weight, distance=distance, variance=variance, epsilon=epsilon
            ),
        }

    def published(epsilon: float) -> tuple[PublishedTime, ...]:
        truth = exact(epsilon)
        t_after, t_before = truth["T_after"], truth["T_before"]
        source = "Li, Karan & Chen (2025), Ex. 1"
        printed: float | None = None
        kept: float | None = None
        if distance > 0 and 2 * epsilon**2 < 1:
            inner = math.log(1 / (2 * epsilon**2))
            printed = math.log(half) - math.log(inner)
            kept = math.log(half) - 0.5 * math.log(inner)
        end = math.log(2 * half / epsilon) if distance > 0 else None
        # what the proof shows: leak <= 1/2 sqrt(odds) exp(-k^2/2)
        is_kept = kept is not None and (
            kept < 0
            or 0.5
            * math.sqrt((1 - weight) / weight)
            * math.exp(-0.5 * half**2 / (math.expm1(2 * kept) + variance))
            <= epsilon
        )
        ours = separated_time(1, distance=distance, variance=variance, epsilon=epsilon)
        return (
            PublishedTime(
                name="end of the window",
                symbol="T_before",
                value=end,
                bound="upper",
                is_valid_bound=end is not None and t_before is not None and end >= t_before,
                kind="published",
                source=source,
                note="printed for unit variance and equal weights",
            ),
            PublishedTime(
                name="start of the window",
                symbol="T_after",
                value=printed,
                bound="lower",
                is_valid_bound=printed is not None and t_after is not None and printed <= t_after,
                kind="published",
                source=source,
                note="below the exact T_after only for epsilon <= .305611 (unit variance)",
            ),
            PublishedTime(
                name="what the proof of the printed start shows",
                symbol="t_kept",
                value=kept,
                bound="lower",
                is_valid_bound=is_kept,
                kind="corrected",
                source=source,
                note="up to here TV(p^{+,t}, p^+) <= epsilon; it does not bound T_after",
            ),
            PublishedTime(
                name="start of the window, for every epsilon",
                symbol="T_after",
                value=ours,
                bound="lower",
                is_valid_bound=ours is not None,
                kind="corrected",
                source=HERE,
                note="" if ours is not None else "says nothing: too close at this epsilon",
            ),
        )

    return Family(
        name="two-gaussians",
        summary=TWO_GAUSSIANS.summary,
        parameters={"distance": distance, "variance": variance, "weight": weight},
        mixture=mixture,
        after=("+",),
        before=("+", "-"),
        formulas=published,
        closed_forms=exact,
    )


def _random_spherical(components: int, dimension: int, seed: int) -> Family:
    from critwin.theory.mixtures import GaussianMixture

    rng = numpy_stream(seed, "families", "random-spherical", components, dimension)
    mixture = GaussianMixture(means=rng.standard_normal((components, dimension)), covariances=1.0)

    def published(epsilon: float) -> tuple[PublishedTime, ...]:
        near, far = _near_and_far(mixture.means.numpy(), 0)
        source = "Li, Karan & Chen (2025), Ex. 2"
        end = math.log(far) + math.log(1 / epsilon)
        printed = math.log(near) - 0.5 * math.log(8 * math.log(components / epsilon))
        return (
            PublishedTime(
                name="end of the window",
                symbol="T_before",
                value=end,
                bound="upper",
                is_valid_bound=True,
                kind="published",
                source=source,
                note="" if end >= 0 else "negative: there is no window",
            ),
            PublishedTime(
                name="start of the window",
                symbol="T_after",
                value=printed,
                bound="lower",
                is_valid_bound=False,
                kind="published",
                source=source,
                note="bounds the leak of the component, not T_after of Def. 4",
            ),
            PublishedTime(
                name="what the printed start bounds",
                symbol="t_after",
                value=printed,
                bound="lower",
                is_valid_bound=True,
                kind="corrected",
                source=source,
                note="operational: leak({0}) <= epsilon, for equal weights"
                + ("" if printed >= 0 else "; negative: says nothing"),
            ),
            *isotropic_bounds(mixture, 0, epsilon),
        )

    return Family(
        name="random-spherical",
        summary=RANDOM_SPHERICAL.summary,
        parameters={"components": components, "dimension": dimension, "seed": seed},
        mixture=mixture,
        after=("0",),
        before=mixture.names,
        formulas=published,
    )


def isotropic_bounds(m: GaussianMixture, k: int, epsilon: float) -> tuple[PublishedTime, ...]:
    """Valid times of one component of a mixture with one isotropic covariance.

    Args:
        m: The mixture.
        k: The component ``S_after``; ``S_before`` is all of them.
        epsilon: Tolerance.

    Returns:
        ``T_after`` from below, ``t_after`` from below and ``T_before`` from above.

    Source:
        docs/theory/families.md, eqs. (3), (6), (7).
    """
    near, far = _near_and_far(m.means.numpy(), k)
    variance, outside = float(m.eigenvalues[0, 0]), 1.0 - float(m.weights[k])
    num_others = m.num_components - 1
    start = separated_time(num_others, distance=near, variance=variance, epsilon=epsilon)
    kept = leak_time(
        num_others, outside / (1 - outside), distance=near, variance=variance, epsilon=epsilon
    )
    end = merging_time(outside, distance=far, variance=variance, epsilon=epsilon)

    def entry(
        name: str, symbol: str, value: float | None, *, is_upper: bool = False
    ) -> PublishedTime:
        return PublishedTime(
            name=name,
            symbol=symbol,
            value=value,
            bound="upper" if is_upper else "lower",
            is_valid_bound=value is not None,
            kind="derived" if is_upper else "corrected",
            source=HERE,
            note="says nothing: too close"
            if value is None
            else "epsilon is not exceeded at any level"
            if math.isinf(value)
            else "any weights",
        )

    return (
        entry("start of the window, by distance", "T_after", start),
        entry("start of the window, operational", "t_after", kept),
        entry("end of the window, by distance", "T_before", end, is_upper=True),
    )


def _near_and_far(means: NDArray[np.float64], k: int) -> tuple[float, float]:
    distances = np.linalg.norm(np.delete(means, k, axis=0) - means[k], axis=1)
    return float(distances.min()), float(distances.max())


SEED = Setting(name="seed", kind="whole number", default=0, meaning="seed of the draw", low=0)
DIMENSION = Setting(
    name="dimension", kind="whole number", default=64, meaning="number of dimensions D", low=1
)

TWO_GAUSSIANS = FamilyInfo(
    name="two-gaussians",
    summary="two isotropic Gaussians: everything in closed form",
    settings=(
        Setting(
            name="distance",
            kind="number",
            default=20.0,
            meaning="between the means, 2 |mu|",
            low=0.0,
        ),
        Setting(
            name="variance",
            kind="number",
            default=1.0,
            meaning="of both components, s^2",
            low=0.0,
            is_open=True,
        ),
        Setting(
            name="weight",
            kind="number",
            default=0.5,
            meaning="of the component '+'",
            low=0.0,
            high=1.0,
            is_open=True,
        ),
    ),
    source="Li, Karan & Chen (2025), Ex. 1",
    build=_two_gaussians,
)

RANDOM_SPHERICAL = FamilyInfo(
    name="random-spherical",
    summary="K unit Gaussians with means drawn from N(0, I): the window stays narrow as D grows",
    settings=(
        Setting(
            name="components",
            kind="whole number",
            default=8,
            meaning="number of components K",
            low=2,
        ),
        DIMENSION,
        SEED,
    ),
    source="Li, Karan & Chen (2025), Ex. 2",
    build=_random_spherical,
)
