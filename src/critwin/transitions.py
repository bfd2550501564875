r"""Transitions: the one table that windows, trees, certificates and audits read.

``probs[l, i, j] = P(label after = j | label before = i)`` at level l, where *before* is the label
of a sample and *after* the label of its forward–reverse image: noise the sample to the level, then
denoise it with the whole model as prior. Theory computes the table (``kind="exact"``, or
``"estimated"`` with a standard error), an experiment counts it (``kind="counted"``); everything
downstream treats the three alike.

Source: Li, Karan & Chen (2025), *Blink of an eye*, sec. 3 (the forward–reverse experiment).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from critwin._checks import (
    Freezer,
    as_array,
    check_kind,
    check_labels,
    check_law,
    check_levels,
    check_probs,
    is_storable,
)
from critwin.errors import InputError
from critwin.levels import ou_time

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ABSTAINED",
    "NO_SIGNAL",
    "Kind",
    "Transitions",
    "from_counts",
    "label_set_row",
    "require_weights",
]

Kind = Literal["exact", "estimated", "counted"]
ABSTAINED = "(abstained)"
NO_SIGNAL = 0.01
"""Signal scale alpha below which a noised sample tells next to nothing of its source."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Transitions:
    """Transition probabilities between labels, level by level. Frozen; arrays are read-only.

    Attributes:
        logsnr: Levels, shape ``(L,)``, strictly decreasing (noise grows with the index).
        before: Labels of the sample, length I; each is also in ``after``.
        after: Labels of its forward–reverse image, length J.
        probs: Shape ``(L, I, J)``; rows sum to 1, or are NaN where nothing is known.
        weights: The *model's* prior over ``before``, shape ``(I,)``, summing to 1; never the
            shares in which sources were drawn. None if unknown: merging labels and the chance
            level then refuse.
        fresh: Law of the label of a fresh sample of the model over ``after``, shape ``(J,)``.
            Defaults to ``weights``. Known while ``weights`` are not, it gives the chance level of
            the sources as they are, each weighing the same.
        is_weights_estimated: True if ``weights`` are the shares of sources that the model itself
            generated, or, where they are unknown, ``fresh`` the shares of the results at the
            noisiest level; their sampling error belongs in the intervals.
        kind: ``"exact"``, ``"estimated"`` (with ``stderr``) or ``"counted"`` (with ``counts``).
        stderr: Standard errors of ``probs``, same shape.
        counts: Results per source, level and label, shape ``(S, L, J)``; zeros where a source
            lacks a level.
        abstained: Results on which the labeller abstained, shape ``(S, L)``.
        source_before: Index into ``before`` of each source's label, shape ``(S,)``.
        sources: Names of the sources, shape ``(S,)``.
        source_weight: Sampling weight of each source, shape ``(S,)``, or None: all equal.
        invalid: Results that were NaN, infinite or constant, shape ``(L, I)``.
        reversal: ``"posterior"``, ``"stochastic"``, ``"ode"`` or ``"unknown"``.
        feature: Name of the feature.
        plateau: Limit of the mean stay as noise goes to zero, where known (1 for labels that are
            a function of the sample).
        attrs: Anything else worth keeping (provenance); plain values only.

    Raises:
        InputError: If a shape, a label or a probability is not as described.
    """

    logsnr: NDArray[np.float64]
    before: tuple[str, ...]
    after: tuple[str, ...]
    probs: NDArray[np.float64]
    weights: NDArray[np.float64] | None = None
    fresh: NDArray[np.float64] | None = None
    is_weights_estimated: bool = False
    kind: Kind = "exact"
    stderr: NDArray[np.float64] | None = None
    counts: NDArray[np.int64] | None = None
    abstained: NDArray[np.int64] | None = None
    source_before: NDArray[np.int64] | None = None
    sources: NDArray[np.str_] | None = None
    source_weight: NDArray[np.float64] | None = None
    invalid: NDArray[np.int64] | None = None
    reversal: str = "unknown"
    feature: str = "label"
    plateau: float | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the arrays and check every invariant once."""
        freeze = Freezer(self)
        freeze.labels("before")
        freeze.labels("after")
        freeze.array("logsnr", np.float64, ("L",))
        freeze.array("probs", np.float64, ("L", "I", "J"))
        freeze.array("weights", np.float64, ("I",))
        freeze.array("fresh", np.float64, ("J",))
        freeze.array("stderr", np.float64, ("L", "I", "J"))
        freeze.array("counts", np.int64, ("S", "L", "J"))
        freeze.array("abstained", np.int64, ("S", "L"))
        freeze.array("source_before", np.int64, ("S",))
        freeze.array("sources", np.str_, ("S",))
        freeze.array("source_weight", np.float64, ("S",))
        freeze.array("invalid", np.int64, ("L", "I"))
        object.__setattr__(self, "attrs", MappingProxyType(dict(self.attrs)))
        check_levels(self.logsnr)
        check_labels(self.before, self.after)
        check_probs(self.probs)
        check_kind(self)
        if not self.feature or not is_storable(self.feature):
            raise InputError("the feature's name is empty or not storable", got=repr(self.feature))
        if self.weights is not None:
            check_law("weights", self.weights)
            if self.fresh is None:
                fresh = np.zeros(len(self.after))
                fresh[self.before_in_after] = self.weights
                fresh.setflags(write=False)
                object.__setattr__(self, "fresh", fresh)
        if self.fresh is not None:
            check_law("fresh", self.fresh)

    @property
    def t(self) -> NDArray[np.float64]:
        """OU times of the levels, shape ``(L,)``."""
        return ou_time(self.logsnr)

    @property
    def before_in_after(self) -> NDArray[np.int64]:
        """Index into ``after`` of every label of ``before``, shape ``(I,)``."""
        return np.array([self.after.index(name) for name in self.before], dtype=np.int64)

    @property
    def num_sources(self) -> int | None:
        """Number of sources of a counted table, else None."""
        return None if self.counts is None else len(self.counts)

    def indices(self, labels: str | Sequence[str], *, of: Literal["before", "after"]) -> list[int]:
        """Positions of ``labels`` in ``before`` or ``after``.

        Args:
            labels: A label or several.
            of: Which axis.

        Returns:
            Their indices, in the order given.

        Raises:
            InputError: If a label is unknown or named twice, or none is given.
        """
        names = [labels] if isinstance(labels, str) else list(labels)
        known = self.before if of == "before" else self.after
        if not names:
            raise InputError("an empty set of labels", wanted=f"some of {', '.join(known)}")
        for name in names:
            if name not in known:
                raise InputError("unknown label", got=name, wanted=f"some of {', '.join(known)}")
        if len(set(names)) < len(names):
            raise InputError("a label is named twice", got=", ".join(names))
        return [known.index(name) for name in names]


def from_counts(
    counts: ArrayLike,
    source_before: ArrayLike,
    *,
    logsnr: ArrayLike,
    before: Sequence[str],
    after: Sequence[str] | None = None,
    sources: ArrayLike | None = None,
    source_weight: ArrayLike | None = None,
    abstained: ArrayLike | None = None,
    invalid: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    fresh: ArrayLike | None = None,
    is_weights_estimated: bool = False,
    reversal: str = "unknown",
    feature: str = "label",
    plateau: float | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> Transitions:
    """Counted transitions. Sources weigh equally, however many replicates each has.

    Args:
        counts: Shape ``(S, L, J)``; ``counts[s, l, j]`` replicates of source s at level l were
            labelled j.
        source_before: Index into ``before`` of each source's label, shape ``(S,)``.
        logsnr: Levels, shape ``(L,)``, strictly decreasing.
        before: Labels of the sources, length I.
        after: Labels of the results, length J; the same as ``before`` unless given.
        sources: Names of the sources, shape ``(S,)``.
        source_weight: Sampling weights of the sources, shape ``(S,)``.
        abstained: Shape ``(S, L)``.
        invalid: Shape ``(L, I)``.
        weights: The model's prior over ``before``, shape ``(I,)``.
        fresh: Law of the label of a fresh sample, shape ``(J,)``.
        is_weights_estimated: Whether ``weights`` are the shares of these (generated) sources, or,
            where they are unknown, ``fresh`` those of the results at the noisiest level.
        reversal: How the samples were denoised.
        feature: Name of the feature.
        plateau: Known limit of the mean stay.
        attrs: Provenance.

    Returns:
        The table; ``probs`` is the mean over sources of each source's shares.

    Raises:
        InputError: If shapes do not agree.
    """
    table = as_array("counts", counts, np.int64)
    label_of = as_array("source_before", source_before, np.int64)
    names = tuple(before)
    if table.ndim != 3 or label_of.shape != table.shape[:1]:
        raise InputError(
            "counts and source_before do not fit",
            got=f"shapes {table.shape} and {label_of.shape}",
            wanted="(S, L, J) and (S,)",
        )
    if np.any(table < 0) or np.any((label_of < 0) | (label_of >= len(names))):
        raise InputError("counts must be >= 0 and source_before an index into `before`")
    vote = np.ones(len(table))
    if source_weight is not None:
        vote = as_array("source_weight", source_weight, np.float64)
        if vote.shape != label_of.shape or not np.all((vote >= 0) & (vote < np.inf)):
            raise InputError(
                "source_weight must be one finite number >= 0 for each source", got=vote.shape
            )
    total = table.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(total[..., None] > 0, table / total[..., None], 0.0)
        present = vote[:, None] * (total > 0)
        one_hot = (label_of[:, None] == np.arange(len(names))).astype(np.float64)
        mass = np.einsum("si,sl->li", one_hot, present)
        probs = np.einsum("si,sl,slj->lij", one_hot, present, share) / mass[..., None]
    return Transitions(
        logsnr=np.asarray(logsnr, dtype=np.float64),
        before=names,
        after=names if after is None else tuple(after),
        probs=probs,
        weights=None if weights is None else np.asarray(weights, dtype=np.float64),
        fresh=None if fresh is None else np.asarray(fresh, dtype=np.float64),
        is_weights_estimated=is_weights_estimated,
        kind="counted",
        counts=table,
        abstained=None if abstained is None else as_array("abstained", abstained, np.int64),
        source_before=label_of,
        sources=np.array([f"s{s:06d}" for s in range(len(table))])
        if sources is None
        else as_array("sources", sources, np.str_),
        source_weight=None if source_weight is None else vote,
        invalid=None if invalid is None else as_array("invalid", invalid, np.int64),
        reversal=reversal,
        feature=feature,
        plateau=plateau,
        attrs={} if attrs is None else attrs,
    )


def require_weights(tr: Transitions, *, why: str) -> NDArray[np.float64]:
    """The model's prior over ``before``, or an error that says what needs it.

    Args:
        tr: Transitions.
        why: What needs the prior, the beginning of a sentence.

    Returns:
        The weights, shape ``(I,)``.

    Raises:
        InputError: If they are unknown.
    """
    if tr.weights is None:
        raise InputError(
            f"{why} needs the model's prior over the labels of {tr.feature!r}, which is unknown",
            next_step="give weights (never the shares in which sources were drawn)",
        )
    return tr.weights


def label_set_row(tr: Transitions, labels: list[int]) -> NDArray[np.float64]:
    """``C[A, .]`` for a set A of indices into ``before``, shape ``(L, J)``.

    Args:
        tr: Transitions.
        labels: Indices into ``tr.before``.

    Returns:
        The prior-weighted mean of the rows.

    Raises:
        InputError: If A has several labels and the prior is unknown, or no weight.
    """
    if len(labels) == 1:
        return tr.probs[:, labels[0]]
    weights = require_weights(tr, why="a set of several labels")[labels]
    if not weights.sum() > 0:
        raise InputError("the label set has no weight", got=[tr.before[i] for i in labels])
    used = weights > 0  # a label of no weight may have an unknown row
    row: NDArray[np.float64] = np.einsum(
        "i,lij->lj", weights[used] / weights.sum(), tr.probs[:, np.array(labels)[used]]
    )
    return row
