r"""Classes with one mean and different variances: a window that no speciation time sees.

Source: derived in docs/theory/regimes.md; Biroli et al. (2024) for the speciation time.
"""

from __future__ import annotations

import math

import numpy as np

from critwin.errors import InputError
from critwin.theory.families.base import Family, FamilyInfo, PublishedTime, Setting

__all__ = ["EQUAL_MEANS"]


def _equal_means(dimension: int, variances: tuple[float, ...]) -> Family:
    from critwin.theory.mixtures import GaussianMixture

    if len(set(variances)) < max(2, len(variances)):
        raise InputError(
            "the classes are not told apart",
            got="variances " + ", ".join(f"{v:g}" for v in variances),
            wanted="two or more different variances",
        )
    mixture = GaussianMixture(
        means=np.zeros((len(variances), dimension)),
        covariances=np.array(variances),
        covariance_kind="isotropic",
    )
    total = float(np.mean(variances))

    def published(epsilon: float) -> tuple[PublishedTime, ...]:
        return (
            PublishedTime(
                name="speciation time of the whole covariance",
                symbol="t_S",
                value=0.5 * math.log(total) if total > 1 else None,
                bound="approximation",
                is_valid_bound=False,
                kind="published",
                source="Biroli et al. (2024)",
                note="a single Gaussian has the same: it does not see the classes, whose "
                "between-class covariance is 0",
            ),
        )

    return Family(
        name="equal-means",
        summary=EQUAL_MEANS.summary,
        parameters={"dimension": dimension, "variances": variances},
        mixture=mixture,
        after=("0",),
        before=mixture.names,
        formulas=published,
    )


EQUAL_MEANS = FamilyInfo(
    name="equal-means",
    summary="classes that differ in variance alone: speciation misses their window",
    settings=(
        Setting(
            name="dimension",
            kind="whole number",
            default=8,
            meaning="number of dimensions D",
            low=1,
        ),
        Setting(
            name="variances",
            kind="numbers",
            default=(1.0, 9.0),
            meaning="one for each class",
            low=0.0,
            is_open=True,
        ),
    ),
    source="Biroli et al. (2024), as a negative example",
    build=_equal_means,
)
