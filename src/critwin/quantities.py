r"""What is read off a transition table: stay, leak, blur, kept, mutual information.

All of them are plain values, level by level; :mod:`critwin.windows` adds intervals.

Source: Li, Karan & Chen (2025), *Blink of an eye*, Def. 4; Li & Chen (2024), sec. 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from critwin.errors import InputError
from critwin.transitions import label_set_row, require_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from critwin.transitions import Transitions

__all__ = [
    "blur",
    "chance",
    "kept",
    "leak",
    "mean_stay",
    "mutual_information",
    "nested",
    "stay",
]


def stay(tr: Transitions, labels: str | Sequence[str]) -> NDArray[np.float64]:
    """``C_t[A, A]``, the probability that a sample of the label set A stays in it.

    Args:
        tr: Transitions.
        labels: The label set A.

    Returns:
        Shape ``(L,)``.

    Raises:
        InputError: If a label is unknown, or A has several labels and the prior is unknown.
    """
    rows = label_set_row(tr, tr.indices(labels, of="before"))
    return np.asarray(rows[:, tr.indices(labels, of="after")].sum(axis=1))


def leak(tr: Transitions, labels: str | Sequence[str]) -> NDArray[np.float64]:
    """``1 - C_t[A, A]``, shape ``(L,)``; see :func:`stay`."""
    return 1.0 - stay(tr, labels)


def blur(
    tr: Transitions,
    after: str | Sequence[str],
    before: str | Sequence[str] | None = None,
) -> NDArray[np.float64]:
    """``TV(C_t[A, .], C_t[B, .])``: how far A is still told from the larger set B.

    The plain plug-in value. On counts it is biased upwards; the windows use a cross-fitted one.

    Args:
        tr: Transitions.
        after: The label set A (``S_after``).
        before: The label set B that contains A (``S_before``); all labels unless given.

    Returns:
        Shape ``(L,)``.

    Raises:
        InputError: If A is not inside B, or the prior is unknown and needed.
    """
    inner, outer = nested(tr, after, before)
    gap = np.abs(label_set_row(tr, inner) - label_set_row(tr, outer))
    return np.asarray(0.5 * gap.sum(axis=1))


def mean_stay(tr: Transitions) -> NDArray[np.float64]:
    """``sum_i w_i C_t[i, i]``, shape ``(L,)``.

    Args:
        tr: Transitions.

    Raises:
        InputError: If the prior is unknown.
    """
    weights = require_weights(tr, why="the mean stay")
    used = np.flatnonzero(weights > 0)  # a label of no weight may have an unknown row
    diagonal = tr.probs[:, used, tr.before_in_after[used]]
    return np.asarray(diagonal @ weights[used], dtype=np.float64)


def chance(tr: Transitions) -> float:
    """``sum_i w_i w'_i``: how often a fresh sample would carry the label of the source.

    Args:
        tr: Transitions.

    Raises:
        InputError: If the prior is unknown.
    """
    weights = require_weights(tr, why="the chance level")
    assert tr.fresh is not None  # set with the weights
    return float(weights @ tr.fresh[tr.before_in_after])


def kept(
    tr: Transitions, *, chance_level: float | None = None, plateau: float | None = None
) -> NDArray[np.float64]:
    """How much of the feature is kept: 1 as noise goes to zero, 0 at chance.

    ``kept = (sum_i w_i C_t[i, i] - chance) / (plateau - chance)``.

    Args:
        tr: Transitions.
        chance_level: Overrides :func:`chance`.
        plateau: Overrides the table's plateau (1 if the table has none).

    Returns:
        Shape ``(L,)``.

    Raises:
        InputError: If the prior is unknown, or the plateau does not exceed the chance level.
    """
    low = chance(tr) if chance_level is None else chance_level
    high = plateau if plateau is not None else (1.0 if tr.plateau is None else tr.plateau)
    if not high > low:
        raise InputError(
            "only one label, or a plateau at the chance level: nothing to lose",
            got=f"plateau {high:.4g}, chance {low:.4g}",
            wanted="plateau > chance",
        )
    return (mean_stay(tr) - low) / (high - low)


def mutual_information(tr: Transitions) -> NDArray[np.float64]:
    """Mutual information of the labels before and after, in nats, shape ``(L,)``.

    A lower bound on the information that the noised sample holds on the label (data processing).

    Args:
        tr: Transitions.

    Raises:
        InputError: If the prior is unknown.
    """
    weights = require_weights(tr, why="mutual information")
    used = weights > 0  # a label of no weight may have an unknown row
    probs = tr.probs[:, used]
    joint = weights[used][:, None] * probs
    marginal = joint.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(joint > 0, probs / marginal, 1.0)
    total = np.sum(np.where(np.isnan(joint), np.nan, joint * np.log(ratio)), axis=(1, 2))
    return np.asarray(total, dtype=np.float64)


def nested(
    tr: Transitions, after: str | Sequence[str], before: str | Sequence[str] | None
) -> tuple[list[int], list[int]]:
    """Indices into ``tr.before`` of the sets A ⊂ B, checked."""
    inner = tr.indices(after, of="before")
    outer = list(range(len(tr.before))) if before is None else tr.indices(before, of="before")
    if not set(inner) <= set(outer):
        raise InputError(
            "the set `before` must contain the set `after`",
            got=f"after {[tr.before[i] for i in inner]}, before {[tr.before[i] for i in outer]}",
        )
    if set(inner) == set(outer):
        raise InputError(
            "`after` and `before` are the same set of labels, so nothing is decided",
            got=", ".join(tr.before[i] for i in inner),
            wanted="a smaller set `after`",
        )
    return inner, outer
