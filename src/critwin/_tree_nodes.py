"""The tree as data: nodes, their conditions, and the ways to look at them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from critwin._tree_reading import NO_REST
from critwin.errors import InputError
from critwin.estimates import Edge, plain

if TYPE_CHECKING:
    from critwin.estimates import Estimate

TreeKind = Literal["distance", "exact", "estimated", "counted"]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One of the two conditions at the noise amount of a node.

    Attributes:
        value: What was found there: for (1) the largest distance of two labels of the node, for
            (2) what is missing to full separation, ``1 - TV`` or the leak.
        epsilon: Smallest eps at which the condition is certified there; None: not certified.
        how: How both were found.
    """

    value: float | None = None
    epsilon: float | None = None
    how: str = ""


@dataclass(frozen=True, kw_only=True)
class TreeNode:
    """A label set and the levels on which it is a node.

    Attributes:
        labels: The set, in the order of the table.
        weight: Its prior weight.
        start: From here on (more noise) its labels are alike.
        end: Up to here it is apart from the rest.
        noise_amount: OU time between the two at which eps could be smallest (the root: its
            start; a leaf: 0); None if the levels do not show one.
        least_epsilon: Smallest eps at which the set would be a node on the levels looked at.
        is_valid: Whether both conditions hold at some level, as far as is known.
        is_certified: Whether both are proved at ``noise_amount`` at the eps of the tree.
        alike: Condition (1).
        apart: Condition (2).
        levels: Levels of the table (logsnr) at which the set is a node.
        support: Share of the resamples in which the set is a node again (a rejected set: in which
            its labels are merged before others); None without resamples.
        children: Nodes below; more than two where the order is not resolved.
        notes: What a reader must know besides.
    """

    labels: tuple[str, ...]
    weight: float
    start: Edge
    end: Edge
    noise_amount: float | None = None
    least_epsilon: float | None = None
    is_valid: bool = True
    is_certified: bool = False
    alike: Condition = Condition()
    apart: Condition = Condition()
    levels: tuple[float, ...] = ()
    support: float | None = None
    children: tuple[TreeNode, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PathStep:
    """A step of the way from a leaf to the root.

    Attributes:
        labels: The node.
        t: Its noise amount.
        bound: Bound on ``TV(p^{i,t}, p^S)``: noised to t and denoised, a sample of the leaf is a
            sample of the node, up to this. None where a condition is not certified.
    """

    labels: tuple[str, ...]
    t: float | None
    bound: float | None


@dataclass(frozen=True, kw_only=True)
class MixtureTree:
    """A tree of label sets over the noise axis.

    Attributes:
        root: The node of all labels.
        epsilon: Tolerance of the tree.
        kind: ``"distance"``: from distances between noised laws; else the kind of the
            transitions it was read off.
        feature: Name of the feature.
        rejected: Sets that agglomeration passes through and that are no nodes at this eps,
            without children; each says at which eps it would be one.
        num_sources: Of a counted table.
        num_resamples: Of the bootstrap behind ``support``.
        confidence: Of intervals and of certificates from counts.
        notes: What a reader must know besides.
    """

    root: TreeNode
    epsilon: float
    kind: TreeKind
    feature: str = "label"
    rejected: tuple[TreeNode, ...] = ()
    num_sources: int | None = None
    num_resamples: int | None = None
    confidence: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def nodes(self) -> tuple[TreeNode, ...]:
        """All nodes, every node before its children."""
        return tuple(_walk(self.root))

    @property
    def inner(self) -> tuple[TreeNode, ...]:
        """Nodes of several labels."""
        return tuple(node for node in self.nodes if len(node.labels) > 1)

    @property
    def merges(self) -> set[frozenset[str]]:
        """Label sets of the inner nodes: the shape of the tree."""
        return {frozenset(node.labels) for node in self.inner}

    @property
    def is_valid(self) -> bool:
        """Whether every node, leaves included, is valid."""
        return all(node.is_valid for node in self.nodes)

    @property
    def is_certified(self) -> bool:
        """Whether every node, leaves included, is certified: an eps-mixture tree for sure."""
        return all(node.is_certified for node in self.nodes)

    def is_same_shape(self, other: MixtureTree) -> bool:
        """Whether two trees have the same labels and the same nodes.

        Args:
            other: Another tree.
        """
        return set(self.root.labels) == set(other.root.labels) and self.merges == other.merges

    def node(self, labels: str | Sequence[str]) -> TreeNode:
        """The node of a label set.

        Args:
            labels: Its labels, in any order.

        Raises:
            InputError: If the tree has no such node.
        """
        wanted = {labels} if isinstance(labels, str) else set(labels)
        for node in self.nodes:
            if set(node.labels) == wanted:
                return node
        raise InputError("the tree has no such node", got=", ".join(sorted(wanted)))

    def parent(self, labels: str | Sequence[str]) -> TreeNode | None:
        """The node above that of a label set; None for the root.

        Args:
            labels: Labels of a node.

        Raises:
            InputError: If the tree has no such node.
        """
        node = self.node(labels)
        return next((above for above in self.nodes if node in above.children), None)

    def path(self, leaf: str) -> tuple[PathStep, ...]:
        """The decisions behind a label, read from the data to the noise.

        At the times ``T_1 < T_2 < ...`` of the steps a sample of the leaf, noised and denoised, is
        a sample of larger and larger nodes; generation passes them in the other direction.

        Args:
            leaf: A label.

        Returns:
            One step a node, the leaf first. With condition (1) at a and (2) at b,
            ``bound = a + min(max(1, W) b^2, b sqrt(W/2))``, W the odds of the rest.

        Raises:
            InputError: If the label is unknown.

        Source:
            Li, Karan & Chen (2025), sec. 5 and Thm 2, with the sharper constants of
            docs/theory/trees.md.
        """
        if leaf not in self.root.labels:
            raise InputError(
                "unknown label", got=leaf, wanted=f"one of {', '.join(self.root.labels)}"
            )
        above = [node for node in self.nodes if leaf in node.labels]
        return tuple(
            PathStep(labels=node.labels, t=node.noise_amount, bound=_bound(node))
            for node in reversed(above)
        )

    def describe(self) -> str:
        """The tree in one line, as Newick nests it: ``((a, b)@1.1..2.3, c)@3.0..``.

        After each closed bracket, the OU times on which the node stands; ``?`` is an end that the
        levels do not show, and ``98%`` its support, where it was asked for.
        """
        return _newick(self.root)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; nodes are nested, ``newick`` is :meth:`describe`."""
        result: dict[str, Any] = plain(self)
        return {**result, "newick": self.describe()}


def assemble(nodes: Sequence[TreeNode], order: Sequence[str]) -> TreeNode:
    """Nest nodes whose label sets are nested.

    Args:
        nodes: Nodes without children; one of them holds all labels, any two are nested or apart.
        order: The labels; children stand in the order of their first label.

    Returns:
        The root.
    """
    rank = {name: k for k, name in enumerate(order)}
    by_size = sorted(nodes, key=lambda node: (len(node.labels), rank[node.labels[0]]))
    done: list[TreeNode] = []
    for node in by_size:
        below = [other for other in done if set(other.labels) < set(node.labels)]
        done = [other for other in done if not set(other.labels) < set(node.labels)]
        below.sort(key=lambda other: rank[other.labels[0]])
        done.append(replace(node, children=tuple(below)))
    return done[0]


def _walk(node: TreeNode) -> Iterator[TreeNode]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _bound(node: TreeNode) -> float | None:
    alike, apart = node.alike.epsilon, node.apart.epsilon
    if alike is None or apart is None:
        return None
    odds = max(1.0 - node.weight, 0.0) / node.weight
    return min(1.0, alike + min(max(1.0, odds) * apart**2, apart * math.sqrt(odds / 2.0)))


def _newick(node: TreeNode) -> str:
    name = node.labels[0] if len(node.labels) == 1 else ""
    if name:
        return name if re.fullmatch(r"[\w.+-]+", name) else json.dumps(name, ensure_ascii=False)
    below = ", ".join(_newick(child) for child in node.children)
    support = "" if node.support is None else f" {100 * node.support:.0f}%"
    return f"({below})@{_time(node.start.t)}..{_end(node.end.t)}{support}"


def _time(value: Estimate) -> str:
    return "?" if value.value is None else f"{value.value:.4g}"


def _end(value: Estimate) -> str:
    return "" if value.reason == NO_REST else _time(value)
