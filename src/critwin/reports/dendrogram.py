"""A tree of labels as a dendrogram over OU time, for the page and as a file of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from critwin._tree_nodes import assemble
from critwin.reports._axes import FONT, INK, MUTED, SIZES, box, noise_axis, short
from critwin.reports.palette import ROLES
from critwin.reports.svg import clean, drawing, new_figure, standalone, to_svg
from critwin.reports.tables import Table, to_csv
from critwin.reports.wording import count, estimate, listing, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from critwin.trees import MixtureTree, TreeNode

__all__ = [
    "HOW_TO_READ",
    "dendrogram",
    "is_drawn",
    "tree_story",
    "tree_summary",
    "tree_table",
    "write_dendrogram",
]

HOW_TO_READ = (
    "Follow the branches from left to right as noise grows: they join where the model no longer "
    "tells their labels from each other. A thick bar marks the noise at which the joined labels "
    "are one and still apart from all others (for a single label: at which it is kept). "
    "Generation runs from right to left, so every fork is a decision, the widest distinctions "
    "first. More than two branches in one joint: their order is not resolved. Dashed: labels that "
    "come close first, but are never one and apart from the others."
)
_MOST_LEAVES = 60
_STEP = {"wide": 25.0, "narrow": 24.0}  # pixels between leaves


@dataclass(frozen=True)
class _Span:
    """What the noise axis needs."""

    t_max: float


@dataclass(frozen=True)
class _Joint:
    """Where a node is drawn: at x its branches join; the bar runs from x to ``stop``."""

    x: float
    y: float
    stop: float | None
    is_dashed: bool


def dendrogram(
    tree: MixtureTree, *, key: str, t_max: float | None = None, title: str | None = None
) -> dict[str, str]:
    """The tree drawn wide and narrow.

    Args:
        tree: The tree.
        key: Prefix of ids; letters, digits and hyphens.
        t_max: Right end of the axis, OU time; from the tree unless given.
        title: Title of the drawing.

    Returns:
        ``"wide"`` and ``"narrow"`` -> SVG. Trees of more than 60 labels are drawn without their
        names.
    """
    stop = _reach(tree) if t_max is None else t_max
    story = tree_story(tree)
    tree, loose = _with_order(tree)
    heading = title or f"Tree of {tree.feature}"
    leaves = [node for node in tree.nodes if not node.children]
    named = len(leaves) <= _MOST_LEAVES
    longest = max(len(short(node.labels[0], 18)) for node in leaves) if named else 2

    def draw(kind: str) -> str:
        step = _STEP[kind] if named else max(600.0 / len(leaves), 1.5)
        top, bottom = 44.0, 62.0
        height = top + bottom + step * len(leaves) + 8.0
        left = min(24.0 + 7.4 * longest, 170.0 if kind == "wide" else 78.0)
        with drawing():
            figure = new_figure(SIZES[kind], height)
            area = box(kind, height, left=left, right=16, top=top, bottom=bottom)
            if kind == "narrow":  # names of labels need more than the margin of numbers
                width = SIZES[kind]
                area = (left / width, area[1], (width - left - 14.0) / width, area[3])
            axes = figure.add_axes(area)
            noise_axis(axes, _Span(stop), kind)
            axes.set_ylim(len(leaves) - 0.4, -0.6)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            joints = _layout(tree, leaves, stop, loose)
            _branches(axes, tree, joints, stop)
            _words(axes, tree, joints, kind, stop, named=named)
            return to_svg(figure, key=f"{key}-{kind}", title=heading, desc=story)

    return {kind: draw(kind) for kind in SIZES}


def is_drawn(tree: MixtureTree) -> bool:
    """Whether there is more to see than that all labels end in one joint.

    Args:
        tree: The tree.
    """
    full, _ = _with_order(tree)
    return len(full.inner) > 1


def write_dendrogram(tree: MixtureTree, path: str | Path, *, t_max: float | None = None) -> Path:
    """Write the dendrogram as an SVG file that stands alone, in light and in dark.

    Args:
        tree: The tree.
        path: File to write.
        t_max: As in :func:`dendrogram`.

    Returns:
        The file.
    """
    svg = dendrogram(tree, key="tree", t_max=t_max)["wide"]
    target = Path(path)
    target.write_text(standalone(svg), encoding="utf-8")
    return target


def tree_story(tree: MixtureTree) -> str:
    """The joints of a tree in words, in the order in which they appear as noise grows.

    Args:
        tree: The tree.

    Returns:
        Sentences.
    """
    words = []
    for node in sorted(tree.inner, key=lambda n: (n.noise_amount is None, n.noise_amount or 0.0)):
        names = listing([clean(name) for name in node.labels])
        support = "" if node.support is None else f", support {100 * node.support:.0f} %"
        if len(node.labels) == len(tree.root.labels):
            words.append(f"All {len(node.labels)} labels are alike from t = {_from(node)}.")
        else:
            words.append(
                f"{names} are alike from t = {_from(node)} and apart from the rest up to "
                f"t = {estimate(node.end.t)}{support}."
            )
    return " ".join(words) or "One label."


def tree_table(tree: MixtureTree, file: str) -> Table:
    """Nodes and rejected sets with their ends, needed eps and support, as CSV.

    Args:
        tree: The tree.
        file: Name of the table.

    Returns:
        The table.
    """
    head = (
        "labels", "is_node", "t_start", "t_start_low", "t_start_high", "t_end", "t_end_low",
        "t_end_high", "noise_amount", "least_epsilon", "support", "children",
    )  # fmt: skip

    def rows() -> Iterable[list[str | float | int | None]]:
        for is_node, nodes in ((1, tree.nodes), (0, tree.rejected)):
            for node in nodes:
                start, end = node.start.t, node.end.t
                yield [
                    " + ".join(clean(name) for name in node.labels), is_node,
                    start.value, start.low, start.high, end.value, end.low, end.high,
                    node.noise_amount, node.least_epsilon, node.support, len(node.children),
                ]  # fmt: skip

    return to_csv(file, head, rows())


def _from(node: TreeNode) -> str:
    return estimate(node.start.t)


def _reach(tree: MixtureTree) -> float:
    """Right end of the axis: beyond the last joint and the last finite end."""
    ends = [
        x
        for node in tree.nodes
        for x in (node.start.t.value, node.end.t.value, node.noise_amount)
        if x is not None
    ]
    return 1.08 * max([*ends, 1e-3])


def _layout(
    tree: MixtureTree, leaves: list[TreeNode], stop: float, loose: set[tuple[str, ...]]
) -> Mapping[tuple[str, ...], _Joint]:
    """A joint for every node, children before parents."""
    row = {node.labels: k for k, node in enumerate(leaves)}
    joints: dict[tuple[str, ...], _Joint] = {}
    for node in reversed(tree.nodes):
        start, end = node.start.t.value, node.end.t.value
        if not node.children:
            joints[node.labels] = _Joint(0.0, float(row[node.labels]), end, is_dashed=False)
            continue
        below = [joints[child.labels] for child in node.children]
        amount = node.noise_amount
        is_ordered = (
            node.labels not in loose and start is not None and (end is None or start <= end)
        )
        x = start if is_ordered else amount
        is_open = x is None or x > stop
        x = stop if x is None else min(x, stop)
        # joints of a path never coincide, so that the tree stays readable
        x = max(x, *(joint.x + 0.004 * stop for joint in below))
        y = (below[0].y + below[-1].y) / 2
        if node.labels in loose:
            joints[node.labels] = _Joint(x, y, None, is_dashed=True)
            continue
        joints[node.labels] = _Joint(x, y, end if is_ordered else None, is_open)
    return joints


def _with_order(tree: MixtureTree) -> tuple[MixtureTree, set[tuple[str, ...]]]:
    """The tree with the rejected sets that most resamples agree on, and which those are."""
    loose = [n for n in tree.rejected if n.support is None or n.support > 0.5]
    bare = [replace(node, children=()) for node in (*tree.nodes, *loose)]
    root = assemble(bare, tree.root.labels)
    return replace(tree, root=root), {node.labels for node in loose}


def _branches(
    axes: Axes, tree: MixtureTree, joints: Mapping[tuple[str, ...], _Joint], stop: float
) -> None:
    colour = ROLES["c0"].light
    for node in tree.nodes:
        joint = joints[node.labels]
        if joint.stop is not None and joint.stop > joint.x:
            axes.plot(
                [joint.x, min(joint.stop, stop)], [joint.y, joint.y], color=colour, linewidth=7,
                alpha=0.28, solid_capstyle="butt",
            )  # fmt: skip
        for child in node.children:
            other = joints[child.labels]
            axes.plot(
                [other.x, joint.x], [other.y, other.y], color=INK, linewidth=1.4,
                solid_capstyle="butt",
            )  # fmt: skip
        if not node.children:
            continue
        ys = [joints[child.labels].y for child in node.children]
        options = {"dashes": (2, 2)} if joint.is_dashed else {}
        axes.plot(
            [joint.x, joint.x], [min(ys), max(ys)], color=INK, linewidth=1.4, clip_on=False,
            **options,  # type: ignore[arg-type]
        )  # fmt: skip
        if len(node.labels) == len(tree.root.labels) and not joint.is_dashed:
            axes.plot(
                [joint.x, stop], [joint.y, joint.y], color=INK, linewidth=1.4,
                solid_capstyle="butt",
            )  # fmt: skip


def _words(
    axes: Axes,
    tree: MixtureTree,
    joints: Mapping[tuple[str, ...], _Joint],
    kind: str,
    stop: float,
    *,
    named: bool,
) -> None:
    size = FONT[kind]
    for node in tree.nodes:
        joint = joints[node.labels]
        if not node.children:
            if named:
                axes.annotate(
                    short(node.labels[0], 18 if kind == "wide" else 8), (0, joint.y), (-8, 0),
                    xycoords=("axes fraction", "data"), textcoords="offset points",
                    ha="right", va="center", color=INK, fontsize=size,
                )  # fmt: skip
            continue
        is_root = len(node.labels) == len(tree.root.labels)
        if node.support is not None and not is_root:
            right = joint.x > 0.85 * stop
            axes.annotate(
                f"{100 * node.support:.0f} %", (joint.x, joint.y), (-4 if right else 4, 5),
                textcoords="offset points", ha="right" if right else "left", va="bottom",
                color=MUTED, fontsize=size - 1.5,
            )  # fmt: skip
        if is_root and joint.is_dashed:
            axes.annotate(
                "not one yet at the highest noise", (joint.x, -0.6), (-6, 2),
                textcoords="offset points", ha="right", va="top", color=MUTED,
                fontsize=size - 1.5, style="italic",
            )  # fmt: skip


def tree_summary(tree: MixtureTree) -> str:
    """One sentence on what the tree says.

    Args:
        tree: The tree.

    Returns:
        E.g. ``4 and 9 become one first, at t = 0.91; 3 groups stand on their own before all ten
        labels are one.``
    """
    groups = [n for n in tree.inner if len(n.labels) < len(tree.root.labels)]
    if not groups:
        return (
            f"No group of labels stands on its own at tolerance {tree.epsilon:g}: the "
            f"{len(tree.root.labels)} labels are lost together."
            + ("" if is_drawn(tree) else " Which of them come close first is not settled either.")
        )
    first = min(groups, key=lambda n: (n.noise_amount is None, n.noise_amount or 0.0))
    names = listing([clean(name) for name in first.labels])
    return (
        f"As noise grows, {names} become one first (at t = {number(first.noise_amount)}); "
        f"{count(len(groups), 'group')} of labels "
        f"{'stands on its' if len(groups) == 1 else 'stand on their'} own before all "
        f"{len(tree.root.labels)} labels are one."
    )
