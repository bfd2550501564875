r"""Trees: a hierarchy of means with chosen radii, and the Gaussian b-ary tree prior.

Source: Li & Chen (2024), hierarchies; Biroli et al. (2024) for speciation; the closed forms are
derived in docs/theory/families.md.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from scipy.linalg import helmert

from critwin.errors import InputError
from critwin.theory.families.base import Family, FamilyInfo, PublishedTime, Setting
from critwin.theory.families.formulas import merging_time, separated_time
from critwin.theory.families.gaussians import HERE

__all__ = ["GAUSSIAN_TREE", "HIERARCHICAL", "Rung", "tree_ladder"]

_MAX_LEAVES = 4096


class Rung(NamedTuple):
    """One eigenvalue of the covariance of a Gaussian tree prior."""

    depth: int | None  # of the nodes whose children it tells apart; None: the uniform mode
    eigenvalue: float
    multiplicity: int
    t: float  # 1/2 ln(1 + eigenvalue)


def tree_ladder(branching: int, depth: int, rho: float) -> tuple[Rung, ...]:
    """Speciation times of the Gaussian b-ary tree prior, ``t = 1/2 ln(1 + Lambda)``.

    Leaf covariance ``rho^{2 (L - depth of the lowest common ancestor)}``.

    Args:
        branching: Children of every node, b >= 2.
        depth: Depth L of the leaves, >= 1.
        rho: Correlation along one edge, in [0, 1].

    Returns:
        The uniform mode first, then the modes that tell apart the children of nodes at depth
        0, 1, …, L - 1, with multiplicity ``(b - 1) b^d``.

    Raises:
        InputError: If a number is out of range.

    Source:
        docs/theory/families.md, eqs. (12) and (13).
    """
    if branching < 2 or depth < 1 or not 0.0 <= rho <= 1.0:
        raise InputError(
            "not a tree prior",
            got=f"branching={branching}, depth={depth}, rho={rho:g}",
            wanted="branching >= 2, depth >= 1 and rho in [0, 1]",
        )

    def row_sum(d: int) -> float:
        below = (float(branching ** (k - 1)) * rho ** (2 * k) for k in range(1, depth - d + 1))
        return 1.0 + (branching - 1) * sum(below)

    def eigenvalue(d: int) -> float:
        return row_sum(d + 1) - float(branching ** (depth - d - 1)) * rho ** (2 * (depth - d))

    rungs = [(None, row_sum(0), 1)]
    rungs += [(d, eigenvalue(d), (branching - 1) * branching**d) for d in range(depth)]  # type: ignore[misc]
    return tuple(Rung(d, value, count, 0.5 * math.log1p(value)) for d, value, count in rungs)


def _hierarchical(radii: tuple[float, ...], branching: int, variance: float) -> Family:
    from critwin.theory.mixtures import GaussianMixture

    depth, num_leaves = len(radii), branching ** len(radii)
    _check_size(num_leaves)
    paths = list(itertools.product(range(branching), repeat=depth))
    means = _tree_of_means(paths, radii, branching)
    names = ["".join(_digit(step) for step in path) for path in paths]
    mixture = GaussianMixture(means=means, covariances=variance, names=names)

    def published(epsilon: float) -> tuple[PublishedTime, ...]:
        result = []
        for d in range(depth, 0, -1):
            size = branching ** (depth - d)  # leaves under the ancestor of leaf 0 at depth d
            start = separated_time(
                size * (num_leaves - size),
                distance=_distance(radii, branching, d - 1, nearest=True),
                variance=variance,
                epsilon=epsilon,
            )
            result.append(
                PublishedTime(
                    name=f"the {size} leaves under {names[0][:d]!r} are separated from the rest",
                    symbol=f"T_upper[{names[0][:d]}]",
                    value=start,
                    bound="lower",
                    is_valid_bound=start is not None,
                    kind="derived",
                    source=HERE,
                    note="" if start is not None else "says nothing: too close at this epsilon",
                )
            )
            size *= branching
            parent = names[0][: d - 1] or "root"
            share = 1.0 - 1.0 / size
            end = merging_time(
                share,
                distance=_distance(radii, branching, d - 1),
                variance=variance,
                epsilon=epsilon,
            )
            result.append(
                PublishedTime(
                    name=f"leaf {names[0]!r} merges with the {size} leaves under {parent!r}",
                    symbol=f"T_lower[{parent}]",
                    value=end,
                    bound="upper",
                    is_valid_bound=True,
                    kind="derived",
                    source=HERE,
                )
            )
        return tuple(result)

    return Family(
        name="hierarchical",
        summary=HIERARCHICAL.summary,
        parameters={"radii": radii, "branching": branching, "variance": variance},
        mixture=mixture,
        after=(names[0],),
        before=tuple(names[:branching]),
        formulas=published,
    )


def _gaussian_tree(branching: int, depth: int, rho: float) -> Family:
    from critwin.theory.mixtures import GaussianMixture

    _check_size(branching**depth)
    paths = list(itertools.product(range(branching), repeat=depth))
    ancestor = np.array([[_common(a, b) for b in paths] for a in paths])
    covariance = rho ** (2.0 * (depth - ancestor))
    mixture = GaussianMixture(
        means=np.zeros((1, len(paths))), covariances=covariance, covariance_kind="full"
    )
    ladder = tree_ladder(branching, depth, rho)

    def published(epsilon: float) -> tuple[PublishedTime, ...]:
        return tuple(
            PublishedTime(
                name="speciation of the uniform mode"
                if rung.depth is None
                else f"speciation of the children of nodes at depth {rung.depth}",
                symbol="t_S[uniform]" if rung.depth is None else f"t_S[{rung.depth}]",
                value=rung.t,
                bound="approximation",
                is_valid_bound=False,
                kind="derived",
                source="Biroli et al. (2024), t_S = 1/2 ln(1 + Lambda); " + HERE,
                note=f"multiplicity {rung.multiplicity}, eigenvalue {rung.eigenvalue:.6g}; "
                "independent of epsilon",
            )
            for rung in ladder
        )

    return Family(
        name="gaussian-tree",
        summary=GAUSSIAN_TREE.summary,
        parameters={"branching": branching, "depth": depth, "rho": rho},
        mixture=mixture,
        after=(),
        before=(),
        formulas=published,
    )


def _tree_of_means(
    paths: list[tuple[int, ...]], radii: tuple[float, ...], branching: int
) -> np.ndarray:
    """Every inner node spreads its children over a regular simplex in directions of its own."""
    corners = helmert(branching).T  # (b, b - 1), a regular simplex
    corners /= np.linalg.norm(corners, axis=1, keepdims=True)
    nodes = [n for d in range(len(radii)) for n in itertools.product(range(branching), repeat=d)]
    block = {node: k * (branching - 1) for k, node in enumerate(nodes)}
    means = np.zeros((len(paths), len(nodes) * (branching - 1)))
    for row, path in enumerate(paths):
        for d, radius in enumerate(radii):
            start = block[path[:d]]
            means[row, start : start + branching - 1] = radius * corners[path[d]]
    return means


def _distance(
    radii: tuple[float, ...], branching: int, depth: int, *, nearest: bool = False
) -> float:
    """Of two leaves whose lowest common ancestor is at ``depth`` (or deeper: the farthest)."""

    def at(d: int) -> float:
        apart = radii[d] ** 2 * 2 * branching / (branching - 1)
        return math.sqrt(apart + 2 * sum(r * r for r in radii[d + 1 :]))

    depths = range(depth + 1) if nearest else range(depth, len(radii))
    return min(at(d) for d in depths) if nearest else max(at(d) for d in depths)


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Depth of the lowest common ancestor of two leaves."""
    return next((d for d, (i, j) in enumerate(zip(a, b, strict=True)) if i != j), len(a))


def _digit(step: int) -> str:
    return "0123456789abcdefghijklmnopqrstuvwxyz"[step]


def _check_size(num_leaves: int) -> None:
    if num_leaves > _MAX_LEAVES:
        raise InputError(
            "too many leaves",
            got=num_leaves,
            wanted=f"at most {_MAX_LEAVES}",
            next_step="ask for fewer levels or fewer branches",
        )


BRANCHING = Setting(
    name="branching",
    kind="whole number",
    default=2,
    meaning="children of every node",
    low=2,
    high=36,
)

HIERARCHICAL = FamilyInfo(
    name="hierarchical",
    summary="a tree of means with chosen radii: coarse features are decided first",
    settings=(
        Setting(
            name="radii",
            kind="numbers",
            default=(2500.0, 100.0, 4.0),
            meaning="distance of children from their parent, root first; one number a level",
            low=0.0,
            is_open=True,
        ),
        BRANCHING,
        Setting(
            name="variance",
            kind="number",
            default=1.0,
            meaning="of every component",
            low=0.0,
            is_open=True,
        ),
    ),
    source="Li & Chen (2024), hierarchical mixtures",
    build=_hierarchical,
)

GAUSSIAN_TREE = FamilyInfo(
    name="gaussian-tree",
    summary="a Gaussian with the covariance of a tree: a ladder of speciation times",
    settings=(
        BRANCHING,
        Setting(
            name="depth", kind="whole number", default=3, meaning="depth of the leaves", low=1
        ),
        Setting(
            name="rho",
            kind="number",
            default=0.7,
            meaning="correlation along one edge",
            low=0.0,
            high=1.0,
            is_open=True,
        ),
    ),
    source="Biroli et al. (2024), speciation",
    build=_gaussian_tree,
)
