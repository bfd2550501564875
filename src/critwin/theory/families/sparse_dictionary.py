r"""Means that are sums of a few atoms of a dictionary: a ladder of merging times.

``mu_i = R sum_{k in T_i} u_k`` with near-orthogonal unit atoms, so that
``|mu_i - mu_j| ~ R sqrt(|T_i symmetric-difference T_j|)``: components that differ in fewer atoms
merge at less noise, and what they differ in is decided last.

Source: Li & Chen (2024), sparse dictionary example.
"""

from __future__ import annotations

import math

import numpy as np

from critwin.errors import InputError
from critwin.streams import numpy_stream
from critwin.theory.families.base import Family, FamilyInfo, PublishedTime, Setting
from critwin.theory.families.gaussians import DIMENSION, SEED, isotropic_bounds

__all__ = ["SPARSE_DICTIONARY", "symmetric_differences"]


def symmetric_differences(family: Family) -> dict[tuple[str, str], int]:
    """Numbers of atoms in which the means of a sparse dictionary differ.

    Args:
        family: A family ``sparse-dictionary``; the names of its components are their atoms.

    Returns:
        ``(name, name) -> |T_i symmetric-difference T_j|`` for every pair.

    Raises:
        InputError: If it is another family.
    """
    if family.name != SPARSE_DICTIONARY.name or family.mixture is None:
        raise InputError("not a sparse dictionary", got=family.name, wanted="sparse-dictionary")
    names = family.mixture.names
    atoms = {name: set(name.split("+")) for name in names}
    return {(a, b): len(atoms[a] ^ atoms[b]) for i, a in enumerate(names) for b in names[i + 1 :]}


def _sparse_dictionary(
    components: int, atoms: int, sparsity: int, radius: float, dimension: int, seed: int
) -> Family:
    from critwin.theory.mixtures import GaussianMixture

    if sparsity > atoms or math.comb(atoms, sparsity) < components:
        raise InputError(
            "too few sets of atoms",
            got=f"{components} components, {sparsity} of {atoms} atoms each",
            wanted="distinct sets: more atoms, or fewer components",
        )
    parameters = {
        "components": components,
        "atoms": atoms,
        "sparsity": sparsity,
        "radius": radius,
        "dimension": dimension,
        "seed": seed,
    }
    rng = numpy_stream(seed, "families", "sparse-dictionary", atoms, sparsity, dimension)
    dictionary = rng.standard_normal((atoms, dimension))
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    supports: list[tuple[int, ...]] = []
    while len(supports) < components:
        support = tuple(sorted(rng.permutation(atoms)[:sparsity].tolist()))
        if support not in supports:
            supports.append(support)
    means = np.stack([radius * dictionary[list(s)].sum(axis=0) for s in supports])
    names = ["+".join(str(k) for k in s) for s in supports]
    mixture = GaussianMixture(means=means, covariances=1.0, names=names)
    sizes = sorted({len(set(a) ^ set(b)) for a in supports for b in supports} - {0})

    def published(epsilon: float) -> tuple[PublishedTime, ...]:
        ladder = tuple(
            PublishedTime(
                name=f"components that differ in {size} atoms merge",
                symbol=f"t_merge[{size}]",
                value=math.log(radius) + 0.5 * math.log(size),
                bound="approximation",
                is_valid_bound=False,
                kind="published",
                source="Li & Chen (2024), sparse dictionary example",
                note="where means are one noised standard deviation apart, for orthogonal atoms",
            )
            for size in sizes
        )
        return (*ladder, *isotropic_bounds(mixture, 0, epsilon))

    return Family(
        name="sparse-dictionary",
        summary=SPARSE_DICTIONARY.summary,
        parameters=parameters,
        mixture=mixture,
        after=(names[0],),
        before=tuple(names),
        formulas=published,
    )


SPARSE_DICTIONARY = FamilyInfo(
    name="sparse-dictionary",
    summary="means are sums of few atoms: a ladder of merging times",
    settings=(
        Setting(
            name="components",
            kind="whole number",
            default=8,
            meaning="number of components K",
            low=2,
        ),
        Setting(
            name="atoms", kind="whole number", default=16, meaning="size of the dictionary", low=2
        ),
        Setting(
            name="sparsity",
            kind="whole number",
            default=4,
            meaning="number of atoms in each mean",
            low=1,
        ),
        Setting(
            name="radius",
            kind="number",
            default=20.0,
            meaning="length R of an atom in a mean",
            low=0.0,
            is_open=True,
        ),
        DIMENSION,
        SEED,
    ),
    source="Li & Chen (2024)",
    build=_sparse_dictionary,
)
