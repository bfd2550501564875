r"""Trees of labels: which labels become one as noise grows, and on which levels.

An *eps-mixture tree* has label sets as nodes (the root holds all labels, leaves hold one) and a
noise amount for each, strictly increasing to the root, such that at the noise amount of a node

1. any two of its labels are alike: ``TV(p^i, p^j) <= eps``;
2. the node is apart from the rest: ``TV(p^S, p^rest) >= 1 - eps^2``.

:func:`critwin.theory.mixture_trees.mixture_tree` certifies both from distances. Here the tree is
read off Transitions, whoever made them: a label set is a node where its rows are within eps and
it leaks at most eps. On the way from noise to data the sampler walks the tree from the root to a
leaf: it decides features one after the other.

Source: Li & Chen (2024), sec. 5; Li, Karan & Chen (2025), Def. 8; docs/theory/trees.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from critwin import _tree_building as building
from critwin import _tree_reading as reading
from critwin._tree_nodes import Condition, MixtureTree, PathStep, TreeNode, assemble
from critwin.errors import InputError

if TYPE_CHECKING:
    from critwin.transitions import Transitions

__all__ = [
    "Condition",
    "MixtureTree",
    "PathStep",
    "TreeNode",
    "transitions_tree",
    "tree_support",
]


def transitions_tree(
    tr: Transitions, epsilon: float = 0.1, *, confidence: float = 0.95
) -> MixtureTree:
    """The tree of the labels of any Transitions, computed or counted.

    Labels are merged in the order in which their contrast vanishes (:mod:`critwin._agglomeration`,
    linear in the table, so not biased by counting); a merged set S becomes a node if on some level
    its rows are within eps and it leaks at most eps of what it would leak by chance,
    ``1 - C[S, S] <= eps (1 - w(S))`` (a set of almost all labels leaks little at any level, and
    its complement everything). What fails stays unresolved: its parts become
    children of the next node above, and it is listed in ``rejected`` with the eps it would need.

    In a computed table rows are compared by total variation, all pairs of a node. In a counted one
    they are compared by the contrast of the parts that were merged, with a falling fit over the
    levels, and a set may miss eps by the standard error of one level (never beyond .22: sets that
    are no nodes miss it by more). Intervals of the ends invert tests, as those of windows do.

    What is certified: in an exact table of posterior draws, both conditions, from the table alone.
    In counts, condition (2), at ``confidence`` for all label sets and levels at once, so that the
    choice of the sets by the same counts does no harm; condition (1) needs the exact posterior and
    is not certified.

    Args:
        tr: Transitions with the model's prior.
        epsilon: Tolerance, in (0, 1).
        confidence: Of intervals and certificates of counted tables, in (0, 1).

    Returns:
        The tree. Labels without sources are left out, with a note.

    Raises:
        InputError: If epsilon or confidence is out of range, the prior is unknown, or the table
            has fewer than two levels.

    Source:
        Li, Karan & Chen (2025), Def. 8; docs/theory/trees.md.
    """
    _check(epsilon, confidence)
    table, notes = building.usable(tr)
    sets = building.label_sets(table, epsilon)
    nodes = {
        found.members: _node(table, found, epsilon, confidence, tr.reversal) for found in sets
    }
    kept = [found for found in sets if found.is_node]
    root = _assemble(kept, nodes)
    if tr.kind == "counted":
        notes = (
            *notes,
            "counted: certified is condition (2), separation, alone; that rows are close does not "
            "prove that noised laws are",
            *building.few_sources(table),
        )
    elif tr.reversal != "posterior":
        notes = (*notes, f"reversal {tr.reversal}: condition (1) is not certified")
    return MixtureTree(
        root=root,
        epsilon=epsilon,
        kind=tr.kind,
        feature=tr.feature,
        rejected=tuple(nodes[f.members] for f in sets if not f.is_node),
        num_sources=tr.num_sources,
        confidence=None if tr.kind == "exact" else confidence,
        notes=notes,
    )


def tree_support(
    tr: Transitions,
    epsilon: float = 0.1,
    *,
    confidence: float = 0.95,
    num_resamples: int = 200,
    seed: int = 0,
) -> MixtureTree:
    """The tree of counted Transitions with how often each node comes back under the bootstrap.

    Sources are drawn anew within each label, with all their results; the whole construction is
    repeated. Support is not a probability that a node is true: it says how little the tree hangs
    on single sources.

    Args:
        tr: Counted transitions.
        epsilon: As in :func:`transitions_tree`.
        confidence: As in :func:`transitions_tree`.
        num_resamples: Number of resamples.
        seed: Seed of the named stream they are drawn from.

    Returns:
        The tree with ``support``: of a node, the share of resamples in which it is a node again;
        of a rejected set, in which agglomeration at least passes through it. None where some
        label has a single source.

    Raises:
        InputError: As :func:`transitions_tree`, or if the table is not counted.

    Source:
        Felsenstein (1985), *Confidence limits on phylogenies: an approach using the bootstrap*.
    """
    if tr.kind != "counted":
        raise InputError(
            "support is of counted transitions", got=tr.kind, next_step="use transitions_tree"
        )
    if num_resamples < 1:
        raise InputError("num_resamples must be at least 1", got=num_resamples)
    tree = transitions_tree(tr, epsilon, confidence=confidence)
    table, _ = building.usable(tr)
    if building.has_lone_sources(table):
        return replace(
            tree, notes=(*tree.notes, "too few sources for support: a label has a single one")
        )
    nodes, passed = building.reappearances(table, epsilon, num_resamples, seed)

    def marked(node: TreeNode, count: Counter[frozenset[str]]) -> TreeNode:
        share = 1.0
        if 1 < len(node.labels) < len(tree.root.labels):
            share = count[frozenset(node.labels)] / num_resamples
        children = tuple(marked(child, count) for child in node.children)
        return replace(node, support=share, children=children)

    return replace(
        tree,
        root=marked(tree.root, nodes),
        rejected=tuple(marked(node, passed) for node in tree.rejected),
        num_resamples=num_resamples,
    )


def _check(epsilon: float, confidence: float) -> None:
    for name, number in (("epsilon", epsilon), ("confidence", confidence)):
        if not 0.0 < number < 1.0:
            raise InputError(f"{name} is out of range", got=number, wanted="a number in (0, 1)")


def _node(
    table: building.Table,
    found: building.LabelSet,
    epsilon: float,
    confidence: float,
    reversal: str,
) -> TreeNode:
    start, end = reading.edges(table, found, epsilon, confidence)
    alike, apart = reading.conditions(table, found, confidence, reversal)
    is_certified = all(
        one.epsilon is not None and one.epsilon <= epsilon for one in (alike, apart)
    )
    return TreeNode(
        labels=tuple(table.names[i] for i in found.members),
        weight=float(table.weights[list(found.members)].sum()),
        start=start,
        end=end,
        noise_amount=found.noise_amount,
        least_epsilon=found.least_epsilon,
        is_valid=found.is_valid,
        is_certified=is_certified and found.is_valid,
        alike=Condition(value=alike.value, epsilon=alike.epsilon, how=alike.how),
        apart=Condition(value=apart.value, epsilon=apart.epsilon, how=apart.how),
        levels=tuple(float(x) for x in table.logsnr[found.is_good]),
    )


def _assemble(
    kept: Sequence[building.LabelSet], nodes: dict[tuple[int, ...], TreeNode]
) -> TreeNode:
    largest = max(kept, key=lambda found: len(found.members))
    return assemble([nodes[f.members] for f in kept], nodes[largest.members].labels)
