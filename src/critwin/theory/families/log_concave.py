r"""Well-conditioned Gaussians in two groups: the setting of the papers' headline.

Source: Li & Chen (2024), Thm 7 and Cor. (strongly log-concave components); the times in closed
form are derived in docs/theory/families.md.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from critwin.errors import InputError
from critwin.streams import numpy_stream
from critwin.theory.families.base import Family, FamilyInfo, PublishedTime, Setting
from critwin.theory.families.formulas import inter_group_time, intra_group_time
from critwin.theory.families.gaussians import HERE, SEED

__all__ = ["WELL_CONDITIONED"]


def _well_conditioned(
    components: int,
    dimension: int,
    smallest: float,
    largest: float,
    distance: float,
    spread: float,
    seed: int,
) -> Family:
    from critwin.theory.distances import wasserstein2
    from critwin.theory.mixtures import GaussianMixture

    if smallest > largest:
        raise InputError(
            "eigenvalues are the wrong way round",
            got=f"smallest={smallest:g}, largest={largest:g}",
            wanted="smallest <= largest",
        )
    parameters = {
        "components": components,
        "dimension": dimension,
        "smallest": smallest,
        "largest": largest,
        "distance": distance,
        "spread": spread,
        "seed": seed,
    }
    rng = numpy_stream(seed, "families", "well-conditioned", components, dimension)
    num_first = components // 2
    side = np.where(np.arange(components) < num_first, -0.5, 0.5)
    jitter = rng.standard_normal((components, dimension))
    means = spread * jitter / np.sqrt(dimension)
    means[:, 0] += distance * side
    rotations, _ = np.linalg.qr(rng.standard_normal((components, dimension, dimension)))
    eigenvalues = rng.uniform(smallest, largest, (components, dimension))
    covariances = np.einsum("kde,ke,kfe->kdf", rotations, eigenvalues, rotations)
    covariances = 0.5 * (covariances + covariances.transpose(0, 2, 1))
    names = [f"a{k}" for k in range(num_first)]
    names += [f"b{k}" for k in range(components - num_first)]
    mixture = GaussianMixture(
        means=means, covariances=covariances, names=names, covariance_kind="full"
    )
    convexity = 1.0 / float(mixture.eigenvalues.max())
    inside, outside = range(num_first), range(num_first, components)
    near = min(
        float(np.linalg.norm(means[i] - means[j])) for i, j in itertools.product(inside, outside)
    )
    w2 = float(wasserstein2(mixture, [np.inf])[0, 0, list(inside)].max())
    crude = max(float(np.linalg.norm(means[0] - means[j])) for j in inside) + 2 * math.sqrt(
        dimension / convexity
    )

    def published(epsilon: float) -> tuple[PublishedTime, ...]:
        upper = inter_group_time(near, convexity, components, epsilon)
        return (
            PublishedTime(
                name="intra-group merging, exact W_2",
                symbol="T_lower",
                value=intra_group_time(w2, epsilon),
                bound="upper",
                is_valid_bound=True,
                kind="derived",
                source=HERE,
                note=f"W_2 = {w2:.6g}",
            ),
            PublishedTime(
                name="intra-group merging, from m and the means alone",
                symbol="T_lower",
                value=intra_group_time(crude, epsilon),
                bound="upper",
                is_valid_bound=True,
                kind="derived",
                source=HERE,
                note=f"W_2 <= |mu_i - mu_j| + 2 sqrt(D/m) = {crude:.6g}",
            ),
            PublishedTime(
                name="inter-group separation",
                symbol="T_upper",
                value=upper,
                bound="lower",
                is_valid_bound=upper is not None,
                kind="derived",
                source=HERE,
                note=f"m = {convexity:.6g}, distance of the groups {near:.6g}"
                if upper is not None
                else "says nothing: the groups are too close at this epsilon",
            ),
        )

    return Family(
        name="well-conditioned",
        summary=WELL_CONDITIONED.summary,
        parameters=parameters,
        mixture=mixture,
        after=("a0",),
        before=tuple(names[:num_first]),
        formulas=published,
    )


WELL_CONDITIONED = FamilyInfo(
    name="well-conditioned",
    summary="two groups of Gaussians with covariances between two multiples of I",
    settings=(
        Setting(
            name="components",
            kind="whole number",
            default=4,
            meaning="number of components K, half of them in each group",
            low=4,
        ),
        Setting(
            name="dimension",
            kind="whole number",
            default=8,
            meaning="number of dimensions D",
            low=1,
            high=4096,
        ),
        Setting(
            name="smallest",
            kind="number",
            default=0.25,
            meaning="lower end of the eigenvalues",
            low=0.0,
            is_open=True,
        ),
        Setting(
            name="largest",
            kind="number",
            default=4.0,
            meaning="upper end of the eigenvalues, 1/m",
            low=0.0,
            is_open=True,
        ),
        Setting(
            name="distance",
            kind="number",
            default=60.0,
            meaning="between the centres of the groups",
            low=0.0,
        ),
        Setting(
            name="spread",
            kind="number",
            default=3.0,
            meaning="typical distance of a mean from the centre of its group",
            low=0.0,
        ),
        SEED,
    ),
    source="Li & Chen (2024), Thm 7",
    build=_well_conditioned,
)
