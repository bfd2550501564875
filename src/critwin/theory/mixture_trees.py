r"""eps-mixture trees of mixtures, certified from distances between noised laws.

For a set S of components, both conditions of the definition are monotone in the OU time t:

``T_1(S) = inf{t : TV(p_t^i, p_t^j) <= eps for all i, j in S}``,
``T_2(S) = sup{t : TV(p_t^S, p_t^rest) >= 1 - eps^2}``,

so S is a node exactly on ``[T_1, T_2]``, where that is not empty. If ``eps + eps^2 / min w < 1``
all such sets are nested or apart, and every agglomeration in the order of the pairs' merging times
passes through all of them: the tree below is *the* tree, not a tree.

Source: Li & Chen (2024), sec. 5; Li, Karan & Chen (2025), Def. 8 and Cor. 2; docs/theory/trees.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.optimize import brentq

from critwin._tree_nodes import Condition, MixtureTree, TreeNode, assemble
from critwin._tree_reading import NO_NOISE, NO_REST
from critwin.errors import InputError
from critwin.estimates import Edge, Estimate, missing_edge
from critwin.levels import logsnr_of_ou_time, ou_time
from critwin.theory._monotone import Crossings, crossings
from critwin.theory.distances import DistanceCurve, exact_curve, pairwise_tv, total_variation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["StableEpsilon", "mixture_tree", "stable_epsilon"]

_TOLERANCE = 1e-9  # in logsnr, of the level at which eps is smallest
_MARGIN = 1e-6  # by which pairs alone must settle a level
_STEP = 1e-6  # OU time between nodes whose noise amounts would coincide


@dataclass(frozen=True, kw_only=True)
class StableEpsilon:
    """Tolerance at which the tree of a mixture is a tree of its estimate.

    Attributes:
        published: ``eps + sqrt(delta)`` (Li, Karan & Chen 2025, Cor. 2).
        sharper: ``max(eps + delta, sqrt(eps^2 + delta))``, from the same proof.
    """

    published: float
    sharper: float


def mixture_tree(mixture: Any, epsilon: float = 0.1) -> MixtureTree:
    """The eps-mixture tree of a mixture, its nodes certified.

    Components are agglomerated in the order in which they merge (complete linkage on the times at
    which pairs come within eps). Every set on the way is checked: it is a node if (1) and (2) are
    both proved at some level. What is not proved is listed in ``rejected``, with the smallest eps
    at which it would be: an unresolved tree is an answer.

    Args:
        mixture: A :class:`~critwin.theory.mixtures.GaussianMixture`, or any mixture with distances
            of its own.
        epsilon: Tolerance, in (0, 1).

    Returns:
        The tree, ``kind="distance"``. ``start`` and ``end`` of a node are T_1 and T_2; where
        separation is bracketed the value of ``end`` is its certified limit and ``high`` the other
        one. ``noise_amount`` is where the smallest eps is reached (the root: T_1; leaves: 0).

    Raises:
        InputError: If epsilon is not in (0, 1).

    Source:
        Li, Karan & Chen (2025), Def. 8; docs/theory/trees.md.
    """
    if not 0.0 < epsilon < 1.0:
        raise InputError("epsilon is out of range", got=epsilon, wanted="a number in (0, 1)")
    curves = _Curves(mixture, epsilon)
    names = curves.names
    sets = [(i,) for i in range(len(names))] + _merged(curves)
    found = {members: _node(curves, members) for members in sets}
    is_node = {
        members: node.is_certified or len(members) in (1, len(names))
        for members, node in found.items()
    }
    root = assemble([found[s] for s in sets if is_node[s]], names)
    notes = []
    if epsilon + epsilon**2 / float(curves.weights.min()) >= 1.0:
        notes.append(
            "at this epsilon overlapping sets could both be nodes; those given are nested"
        )
    if any(node.is_valid and not node.is_certified for node in found.values()):
        notes.append("some sets are neither certified nor refuted: their brackets are open")
    return MixtureTree(
        root=_increasing(curves, root),
        epsilon=epsilon,
        kind="distance",
        feature="component",
        rejected=tuple(found[s] for s in sets if not is_node[s]),
        notes=tuple(notes),
    )


def stable_epsilon(epsilon: float, delta: float) -> StableEpsilon:
    """Tolerance of a tree after its components have been estimated.

    If ``TV(p^i, q^i) <= delta / 2`` for every component, and both mixtures have the same weights,
    an eps-mixture tree of p is a tree of q at these larger tolerances: noising never raises the
    distances, so (1) grows by at most delta and (2) loses at most delta.

    Args:
        epsilon: Tolerance of the tree of p, in (0, 1).
        delta: Twice the largest total variation of a component and its estimate, >= 0.

    Returns:
        The published tolerance and a sharper one.

    Raises:
        InputError: If epsilon or delta is out of range.

    Source:
        Li, Karan & Chen (2025), Cor. 2 (there for equal weights).
    """
    if not 0.0 < epsilon < 1.0:
        raise InputError("epsilon is out of range", got=epsilon, wanted="a number in (0, 1)")
    if not 0.0 <= delta <= 2.0:
        raise InputError("delta is out of range", got=delta, wanted="a number in [0, 2]")
    return StableEpsilon(
        published=float(epsilon + np.sqrt(delta)),
        sharper=float(max(epsilon + delta, np.sqrt(epsilon**2 + delta))),
    )


class _Curves:
    """Distances of one mixture; what every set reads at the same levels is computed once."""

    def __init__(self, mixture: Any, epsilon: float) -> None:
        self.mixture, self.epsilon = mixture, epsilon
        self.names = tuple(str(name) for name in mixture.names)
        self.weights = np.asarray(mixture.weights, dtype=np.float64)
        self._known: dict[bytes, Array] = {}

    def pairs(self, logsnr: Array) -> Array:
        """Pairwise distances, shape ``(L, K, K)``."""
        key = np.asarray(logsnr).tobytes()
        if key not in self._known:
            if len(self._known) > 64:  # scans come again, single levels do not
                self._known = {k: v for k, v in self._known.items() if len(v) > 1}
            self._known[key] = pairwise_tv(self.mixture, logsnr)
        return self._known[key]

    def alike(self, members: Sequence[int], logsnr: Array) -> Array:
        """Largest distance of two components of a set, shape ``(L,)``."""
        rows = list(members)
        if len(rows) == 1:
            return np.zeros(len(logsnr))
        return np.asarray(self.pairs(logsnr)[:, rows][:, :, rows].max(axis=(1, 2)))

    def apart(self, members: Sequence[int], logsnr: Array) -> DistanceCurve:
        """Distance of a set from the rest, bracketed."""
        own = [self.names[i] for i in members]
        rest = [name for i, name in enumerate(self.names) if i not in set(members)]
        return total_variation(self.mixture, own, rest, logsnr, precision="bracket")

    def merging(self, members: Sequence[int]) -> tuple[Crossings, DistanceCurve]:
        """``T_1`` and the curve of condition (1) at scanned levels."""
        return crossings(
            lambda x: exact_curve(x, self.alike(members, x), "pairwise total variation"),
            None,
            self.epsilon,
        )

    def parting(self, members: Sequence[int]) -> tuple[Crossings, DistanceCurve]:
        """``T_2`` with its limits, and the bracket of condition (2) at scanned levels."""
        return crossings(lambda x: self._scanned(members, x), None, 1.0 - self.epsilon**2)

    def _scanned(self, members: Sequence[int], logsnr: Array) -> DistanceCurve:
        """As :meth:`apart`; of levels that pairs alone put on one side, only the side is right."""
        if len(logsnr) < 8:
            return self.apart(members, logsnr)
        level = 1.0 - self.epsilon**2
        own = np.isin(np.arange(len(self.names)), list(members))
        a, b = (self.weights[k] / self.weights[k].sum() for k in (own, ~own))
        pairs = self.pairs(logsnr)[:, own][:, :, ~own]
        upper = np.clip(np.einsum("i,j,lij->l", a, b, pairs), 0.0, 1.0)
        missing = np.einsum("ij,lij->l", np.maximum(a[:, None], b), 1.0 - pairs)
        lower = np.clip(1.0 - missing, 0.0, upper)
        is_open = (lower <= level + _MARGIN) & (upper >= level - _MARGIN)
        is_open[0] = True
        full = self.apart(members, logsnr[is_open])
        if full.is_exact:
            lower = upper = np.where(lower > level, lower, upper)
        middle = 0.5 * (lower + upper)
        for values, known in ((lower, full.lower), (upper, full.upper), (middle, full.estimate)):
            values[is_open] = known
        return DistanceCurve(
            logsnr=logsnr,
            lower=lower,
            estimate=middle,
            upper=upper,
            stderr=upper - lower,
            lower_how=full.lower_how,
            estimate_how=full.estimate_how,
            upper_how=full.upper_how,
        )


def _merged(curves: _Curves) -> list[tuple[int, ...]]:
    """Sets that complete linkage passes through, smaller ones first."""
    num = len(curves.names)
    if num == 1:
        return []
    _, scan = curves.merging(range(num))
    table, t = curves.pairs(scan.logsnr), scan.t
    first, second = np.triu_indices(num, 1)
    times = []
    for i, j in zip(first, second, strict=True):
        value = np.minimum.accumulate(table[:, i, j])
        level = int(np.argmax(value <= curves.epsilon))
        if level == 0:
            times.append(0.0)
            continue
        part = (value[level - 1] - curves.epsilon) / (value[level - 1] - value[level])
        times.append(float(t[level - 1] + part * (t[level] - t[level - 1])))
    members = [(i,) for i in range(num)]
    sets: list[tuple[int, ...]] = [*members]
    for a, b, _, _ in linkage(np.array(times), method="complete"):
        sets.append(tuple(sorted(sets[int(a)] + sets[int(b)])))
    return sets[num:]


def _node(curves: _Curves, members: tuple[int, ...]) -> TreeNode:
    is_leaf, is_root = len(members) == 1, len(members) == len(curves.names)
    base = TreeNode(
        labels=tuple(curves.names[i] for i in members),
        weight=float(curves.weights[list(members)].sum()),
        start=NO_NOISE,
        end=missing_edge(NO_REST, None),
    )
    start, low, high = 0.0, np.inf, np.inf
    if not is_leaf:
        merging, _ = curves.merging(members)
        base, start = replace(base, start=merging.edge()), merging.value
    least, amount = 0.0, start
    if not is_root:
        parting, curve = curves.parting(members)
        low, high = parting.low, parting.high
        end = _certified_edge(parting, curve, curves.epsilon)
        base = replace(base, end=end)
        amount, least = _best(curves, members, curve)
    is_certified = start <= low and low > 0.0
    is_valid = start <= high and high > 0.0
    if is_certified and not is_leaf and not is_root:
        amount = float(np.clip(amount, start, low))
    base = replace(
        base,
        noise_amount=0.0 if is_leaf else amount,
        least_epsilon=least,
        is_certified=is_certified,
        is_valid=is_valid,
    )
    return _with_conditions(curves, base, members)


def _certified_edge(found: Crossings, curve: DistanceCurve, epsilon: float) -> Edge:
    """``T_2``, its certified limit first; or why there is none."""
    if found.low > 0.0:
        return Crossings(found.low, found.low, found.high).edge()
    wanted = 1.0 - epsilon**2
    reason = (
        f"not separated at epsilon = {epsilon:g} at any level: at no noise the distance is "
        f"certified to be {float(curve.lower[0]):.6g}, wanted {wanted:.6g}"
    )
    edge = missing_edge(reason, None)
    if found.high > 0.0:
        return replace(edge, t=Estimate(value=None, high=found.high, reason=reason))
    return edge


def _best(curves: _Curves, members: tuple[int, ...], curve: DistanceCurve) -> tuple[float, float]:
    """OU time at which the larger of the two needed eps is smallest, and that eps."""

    def needs(logsnr: float) -> tuple[float, float]:
        at = np.array([logsnr])
        low = float(curves.apart(members, at).lower[0])
        return float(curves.alike(members, at)[0]), float(np.sqrt(max(1.0 - low, 0.0)))

    scan = curve.logsnr
    first = needs(float(scan[0]))
    if first[0] <= first[1]:  # alike without any noise, or a leaf
        return 0.0, max(first)
    last = needs(float(scan[-1]))
    if last[0] > last[1]:
        return float(ou_time(scan[-1])), max(last)
    before, after = 0, len(scan) - 1  # the sign of the difference changes once
    while after - before > 1:
        middle = (before + after) // 2
        alike, apart = needs(float(scan[middle]))
        before, after = (middle, after) if alike > apart else (before, middle)
    near = float(min(scan[before], scan[after] + 200.0))

    def difference(logsnr: float) -> float:
        first, second = needs(logsnr)
        return first - second

    root = float(brentq(difference, float(scan[after]), near, xtol=_TOLERANCE))
    return float(ou_time(root)), max(needs(root))


def _with_conditions(curves: _Curves, node: TreeNode, members: tuple[int, ...]) -> TreeNode:
    """The node with (1) and (2) read at its noise amount."""
    assert node.noise_amount is not None
    at = np.asarray(logsnr_of_ou_time(np.array([node.noise_amount])))
    alike = float(curves.alike(members, at)[0])
    how = "a single component" if len(members) == 1 else "pairwise total variation"
    missing, how_apart = 0.0, "there is no rest"
    if len(members) < len(curves.names):
        curve = curves.apart(members, at)
        missing, how_apart = float(1.0 - curve.lower[0]), curve.lower_how
    return replace(
        node,
        alike=Condition(value=alike, epsilon=alike, how=how),
        apart=Condition(value=missing, epsilon=float(np.sqrt(max(missing, 0.0))), how=how_apart),
    )


def _increasing(curves: _Curves, node: TreeNode) -> TreeNode:
    """Noise amounts strictly increasing to the root, where the intervals leave room."""
    children = tuple(_increasing(curves, child) for child in node.children)
    node = replace(node, children=children)
    last = max((child.noise_amount or 0.0 for child in children), default=-np.inf)
    if node.noise_amount is None or node.noise_amount > last:
        return node
    end = node.end.t.value
    if end is not None and last + _STEP > end:
        return replace(
            node,
            is_certified=False,
            notes=(*node.notes, "no room above the noise amounts of its children"),
        )
    moved = replace(node, noise_amount=last + _STEP)
    return _with_conditions(curves, moved, tuple(curves.names.index(n) for n in node.labels))
