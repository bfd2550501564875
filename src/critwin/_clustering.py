"""The table whose curves are read: complete levels, and clusters that can be resampled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from critwin.reshaping import select_levels
from critwin.transitions import Transitions


def complete_levels(tr: Transitions) -> tuple[Transitions, str | None]:
    """Leave out levels that lack sources of a label which other levels have; the note says so.

    An adaptive search measures some levels with few sources.
    """
    if tr.counts is None or tr.source_before is None:
        return tr, None
    used = np.ones(len(tr.before), bool) if tr.weights is None else tr.weights > 0
    is_lacking = np.asarray(np.isnan(tr.probs[:, used]).any(axis=2))
    is_everywhere = np.asarray(is_lacking.all(axis=0))
    keep = np.asarray(~is_lacking[:, ~is_everywhere].any(axis=1))
    if keep.all() or keep.sum() < 2 or is_everywhere.any():
        return tr, None
    number = int(np.sum(~keep))
    return select_levels(tr, keep), (
        f"{number} of {len(keep)} levels have no source of some label and are left out"
    )


def read_from(tr: Transitions) -> tuple[Transitions, list[str]]:
    """The table whose curves are read, and what to say of it; every reader of curves begins here.

    Levels that lack a label are left out, and a single source gives way to its replicates.
    """
    complete, left_out = complete_levels(tr)
    table, note = as_clusters(complete)
    return table, [text for text in (left_out, note) if text is not None]


def as_clusters(tr: Transitions) -> tuple[Transitions, str | None]:
    """With a single source, its replicates become the clusters; the note says so."""
    if tr.counts is None or len(tr.counts) != 1:
        return tr, None
    counts = tr.counts[0]
    most = int(counts.sum(axis=1).max(initial=0))
    table = np.zeros((most, *counts.shape), dtype=np.int64)
    for level, row in enumerate(counts):
        outcomes = np.repeat(np.arange(len(row)), row)
        table[np.arange(len(outcomes)), level, outcomes] = 1
    assert tr.source_before is not None
    assert tr.sources is not None
    split = replace(
        tr,
        counts=table,
        source_before=np.repeat(tr.source_before, most),
        sources=np.array([f"{tr.sources[0]}#{r}" for r in range(most)]),
        source_weight=None,
        abstained=None,
    )
    return split, (
        "a single source: intervals speak of its replicates, not of other samples of the model"
    )
