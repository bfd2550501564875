"""From one transition table to another: merge labels, choose levels, resolve abstentions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from critwin.errors import InputError
from critwin.transitions import (
    ABSTAINED,
    Transitions,
    from_counts,
    label_set_row,
    require_weights,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["merge", "select_levels", "with_abstentions"]


def merge(tr: Transitions, groups: Mapping[str, Sequence[str]]) -> Transitions:
    """Merge labels: ``C[A, B] = sum_{i in A} (w_i / w(A)) sum_{j in B} C[i, j]``.

    Args:
        tr: Transitions.
        groups: New label -> old labels. A label in no group keeps its name.

    Returns:
        The merged table. Counted sources move to the merged label; each then gets a sampling
        weight that makes the merged label follow the prior, not the shares of sources.

    Raises:
        InputError: If the prior is unknown, or a label is unknown or in two groups.
    """
    weights = require_weights(tr, why="merging labels")
    full = _complete_groups(tr.after, groups)
    rows = {k: [tr.before.index(n) for n in v if n in tr.before] for k, v in full.items()}
    rows = {k: v for k, v in rows.items() if v}
    columns = [[tr.after.index(n) for n in v] for v in full.values()]
    new_weights = np.array([weights[v].sum() for v in rows.values()])
    probs = np.stack([label_set_row(tr, v) for v in rows.values()], axis=1)
    probs = np.stack([probs[..., c].sum(axis=-1) for c in columns], axis=-1)
    fresh = None if tr.fresh is None else np.array([tr.fresh[c].sum() for c in columns])
    changes: dict[str, Any] = {
        "before": tuple(rows),
        "after": tuple(full),
        "probs": probs,
        "weights": new_weights,
        "fresh": fresh,
        "stderr": None,
    }
    if tr.stderr is not None:
        # rows are averaged with independent errors; columns are bounded by adding up
        spread = np.stack([tr.stderr[..., c].sum(axis=-1) for c in columns], axis=-1)
        changes["stderr"] = np.stack(
            [
                np.sqrt(
                    np.sum(((weights[v] / weights[v].sum())[:, None] * spread[:, v]) ** 2, axis=1)
                )
                for v in rows.values()
            ],
            axis=1,
        )
    if tr.counts is not None:
        assert tr.source_before is not None
        new_row = {old: k for k, v in enumerate(rows.values()) for old in v}
        vote = np.ones(len(tr.counts)) if tr.source_weight is None else tr.source_weight
        mass = np.bincount(tr.source_before, weights=vote, minlength=len(tr.before))
        changes["source_before"] = np.array([new_row[i] for i in tr.source_before], dtype=np.int64)
        changes["counts"] = np.stack([tr.counts[..., c].sum(axis=-1) for c in columns], axis=-1)
        changes["source_weight"] = vote * (weights / np.maximum(mass, 1e-300))[tr.source_before]
    if tr.invalid is not None:
        changes["invalid"] = np.stack([tr.invalid[:, v].sum(axis=1) for v in rows.values()], 1)
    return replace(tr, **changes)


def select_levels(tr: Transitions, keep: ArrayLike) -> Transitions:
    """The table at some of its levels.

    Args:
        tr: Transitions.
        keep: Boolean mask or indices, in order of the levels.

    Returns:
        The smaller table.

    Raises:
        InputError: If a mask has another length than the levels, or no level is left.
    """
    mask = np.asarray(keep)
    if mask.dtype == np.bool_ and mask.shape != tr.logsnr.shape:
        raise InputError("the mask does not fit", got=mask.shape, wanted=str(tr.logsnr.shape))
    chosen = np.arange(len(tr.logsnr))[mask if mask.size else mask.astype(np.int64)]
    changes: dict[str, Any] = {"logsnr": tr.logsnr[chosen], "probs": tr.probs[chosen]}
    for name in ("stderr", "invalid"):
        if (value := getattr(tr, name)) is not None:
            changes[name] = value[chosen]
    for name in ("counts", "abstained"):
        if (value := getattr(tr, name)) is not None:
            changes[name] = value[:, chosen]
    return replace(tr, **changes)


def with_abstentions(tr: Transitions, resolved: Literal["kept", "lost"]) -> Transitions:
    """Count abstentions as kept, or as lost: the two ends of what they can hide.

    Args:
        tr: A counted table.
        resolved: ``"kept"`` gives every abstention the label of its source, ``"lost"`` a label of
            its own, :data:`ABSTAINED`, that no source has.

    Returns:
        The table with no abstentions left; unchanged if there were none.
    """
    if tr.counts is None or tr.abstained is None or not tr.abstained.any():
        return tr
    assert tr.source_before is not None
    counts = np.array(tr.counts)
    after, fresh = tr.after, tr.fresh
    if resolved == "kept":
        own = tr.before_in_after[tr.source_before]
        counts[np.arange(len(counts)), :, own] += tr.abstained
    else:
        counts = np.concatenate([counts, tr.abstained[..., None]], axis=2)
        after = (*after, ABSTAINED)
        fresh = None if fresh is None else np.append(fresh, 0.0)
    return from_counts(
        counts,
        tr.source_before,
        logsnr=tr.logsnr,
        before=tr.before,
        after=after,
        sources=tr.sources,
        source_weight=tr.source_weight,
        invalid=tr.invalid,
        weights=tr.weights,
        fresh=fresh,
        is_weights_estimated=tr.is_weights_estimated,
        reversal=tr.reversal,
        feature=tr.feature,
        plateau=tr.plateau,
        attrs=tr.attrs,
    )


def _complete_groups(
    labels: tuple[str, ...], groups: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Groups of old labels in order of first appearance, ungrouped labels alone."""
    owner: dict[str, str] = {}
    for new, old in groups.items():
        for name in [old] if isinstance(old, str) else old:
            if name not in labels:
                raise InputError("unknown label", got=name, wanted=f"some of {', '.join(labels)}")
            if name in owner:
                raise InputError(f"label {name!r} is in two groups", got=f"{owner[name]}, {new}")
            owner[name] = new
    full: dict[str, list[str]] = {}
    for name in labels:
        full.setdefault(owner.get(name, name), []).append(name)
    for new, old in groups.items():
        if not old:
            raise InputError(f"group {new!r} is empty", wanted=f"some of {', '.join(labels)}")
        if new in labels and owner.get(new) != new:
            other = owner.get(new)
            raise InputError(
                f"group {new!r} has the name of a label outside it",
                got=f"label {new!r} in no group"
                if other is None
                else f"label {new!r} in {other!r}",
                next_step="choose another name for the group, or add the label to it",
            )
    return full
