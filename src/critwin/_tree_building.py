"""From a transition table to label sets with the levels on which each is a node of the tree."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import isotonic_regression

from critwin import _curves
from critwin._agglomeration import agglomerate, falls_through
from critwin.errors import InputError
from critwin.levels import ou_time
from critwin.streams import numpy_stream
from critwin.transitions import require_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.transitions import Transitions

    Array = NDArray[np.float64]

Pair = tuple[tuple[int, ...], tuple[int, ...]]
_FEW = 5  # sources of a label
# Counts: the eps a set needs may exceed the tolerance by the standard error of one level, but it
# must stay below this. Sets that are no nodes need more: .4 or above where labels are equidistant,
# .29 for neighbours in a long chain of equally spaced labels.
_MOST_ALLOWED = 0.22
_FINE = 8  # points between two levels at which eps is minimised


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """The part of a transition table that a tree can be read off.

    Attributes:
        tr: The whole table.
        rows: Indices into ``tr.before`` of the n labels used.
        names: Their names.
        weights: Their prior, not rescaled, shape ``(n,)``.
        use: Indices of the levels used.
        t: Their OU times, shape ``(L,)``.
        logsnr: Their logsnr, shape ``(L,)``.
        probs: Rows of the labels, shape ``(L, n, J)``.
        columns: Index into ``tr.after`` of each label, shape ``(n,)``.
    """

    tr: Transitions
    rows: tuple[int, ...]
    names: tuple[str, ...]
    weights: Array
    use: NDArray[np.int64]
    t: Array
    logsnr: Array
    probs: Array
    columns: NDArray[np.int64]

    @property
    def joint(self) -> Array:
        """``w_i C_ij`` among the labels, shape ``(L, n, n)``."""
        return np.asarray(self.weights[None, :, None] * self.probs[:, :, self.columns])


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelSet:
    """A label set that agglomeration passes through.

    Attributes:
        members: Indices of its labels, increasing.
        gap: Distance of its rows at every level, falling in counts, shape ``(L,)``.
        leak: Its leak over what it leaks by chance, ``(1 - C[S, S])/(1 - w(S))``, rising in
            counts, shape ``(L,)``.
        pair: The pair of rows, or of parts, that is alike last.
        start: OU time from which the rows are within eps; infinite if never.
        end: OU time up to which it leaks at most eps; ``-inf`` if never.
        noise_amount: OU time at which eps could be smallest.
        least_epsilon: That eps.
        is_good: Levels on which both hold, shape ``(L,)``.
        is_valid: Whether there is a time at which both hold; in counts, within the allowance.
        is_node: Whether it is a node: valid, the root, or a leaf.
    """

    members: tuple[int, ...]
    gap: Array
    leak: Array
    pair: Pair | None
    start: float
    end: float
    noise_amount: float | None
    least_epsilon: float
    is_good: NDArray[np.bool_]
    is_valid: bool
    is_node: bool


def usable(tr: Transitions) -> tuple[Table, tuple[str, ...]]:
    """Labels and levels whose rows are known, and what had to be left out."""
    weights = require_weights(tr, why="a tree")
    notes = []
    known = np.asarray(~np.isnan(tr.probs).any(axis=2))
    keep = known.any(axis=0) & (weights > 0)
    if not keep.any():
        raise InputError("no label has a known row", got=", ".join(tr.before))
    rows = tuple(int(i) for i in np.flatnonzero(keep))
    if len(rows) < len(tr.before):
        lacking = ", ".join(tr.before[i] for i in np.flatnonzero(~keep))
        notes.append(f"left out, as nothing is known of them: {lacking}")
    use = np.flatnonzero(known[:, list(rows)].all(axis=1) & np.isfinite(tr.logsnr))
    if len(use) < 2:
        raise InputError(
            "a tree needs at least two levels at which every label is known", got=len(use)
        )
    dropped = int(np.isfinite(tr.logsnr).sum()) - len(use)
    if dropped:
        notes.append(f"{dropped} levels are left out: a label has no source there")
    if tr.num_sources == 1:
        notes.append("a single source: the tree speaks of its replicates alone")
    table = Table(
        tr=tr,
        rows=rows,
        names=tuple(tr.before[i] for i in rows),
        weights=np.asarray(weights[list(rows)]),
        use=use,
        t=tr.t[use],
        logsnr=tr.logsnr[use],
        probs=np.asarray(tr.probs[use][:, list(rows)]),
        columns=tr.before_in_after[list(rows)],
    )
    return table, tuple(notes)


def label_sets(table: Table, epsilon: float) -> list[LabelSet]:
    """Leaves, then merged sets in their order; the last holds all labels."""
    num, is_counted = len(table.names), table.tr.kind == "counted"
    zero = np.zeros(len(table.t))
    found = [_label_set(table, (i,), zero, None, epsilon) for i in range(num)]
    # contrasts between the parts of a set that are themselves resolved
    splits: dict[tuple[int, ...], list[tuple[Array, Pair]]] = {s.members: [] for s in found}
    for merge in agglomerate(table.joint, table.weights, table.t):
        own = [(merge.contrast, (merge.first, merge.second))]
        own += splits[merge.first] + splits[merge.second]
        if is_counted:
            gap = np.max([curve for curve, _ in own], axis=0)
            pair = max(own, key=lambda item: falls_through(table.t, item[0], epsilon))[1]
        else:
            gap, pair = _row_gap(table, merge.members, epsilon)
        new = _label_set(table, merge.members, gap, pair, epsilon)
        splits[new.members] = [] if new.is_valid else own
        found.append(new)
    return found


def few_sources(table: Table) -> tuple[str, ...]:
    """A note if labels have few sources."""
    number = _number_of_sources(table)
    few = [name for name, n in zip(table.names, number, strict=True) if n < _FEW]
    if not few:
        return ()
    return (f"too few sources for a reliable tree: fewer than {_FEW} of {', '.join(few)}",)


def has_lone_sources(table: Table) -> bool:
    """Whether some label has a single source, so that resampling it changes nothing."""
    return bool(np.any(_number_of_sources(table) < 2))


def reappearances(
    table: Table, epsilon: float, num_resamples: int, seed: int
) -> tuple[Counter[frozenset[str]], Counter[frozenset[str]]]:
    """Resamples in which each label set is a node, and in which agglomeration passes through it.

    Sources are drawn anew within each label, with all their results.
    """
    tr = table.tr
    assert tr.counts is not None
    assert tr.source_before is not None
    counts = tr.counts[:, table.use]
    total = counts.sum(axis=2)
    share = counts / np.maximum(total, 1)[..., None]
    vote = np.ones(len(counts)) if tr.source_weight is None else np.asarray(tr.source_weight)
    members = [np.flatnonzero(tr.source_before == row) for row in table.rows]
    rng = numpy_stream(seed, "tree support")
    nodes: Counter[frozenset[str]] = Counter()
    passed: Counter[frozenset[str]] = Counter()
    for _ in range(num_resamples):
        probs = np.array(table.probs)
        for k, own in enumerate(members):
            times = np.bincount(rng.integers(0, len(own), len(own)), minlength=len(own))
            present = (times * vote[own])[:, None] * (total[own] > 0)
            mass = present.sum(axis=0)
            row = np.einsum("sl,slj->lj", present, share[own])
            is_known = mass > 0
            probs[is_known, k] = row[is_known] / mass[is_known, None]
        for found in label_sets(replace(table, probs=probs), epsilon):
            name = frozenset(table.names[i] for i in found.members)
            passed[name] += 1
            nodes[name] += found.is_node
    return nodes, passed


def _label_set(
    table: Table,
    members: tuple[int, ...],
    gap: Array,
    pair: Pair | None,
    epsilon: float,
) -> LabelSet:
    is_leaf, is_root = len(members) == 1, len(members) == len(table.names)
    rows, law = list(members), table.weights[list(members)]
    stay = np.einsum("i,lij->l", law / law.sum(), table.probs[:, rows][:, :, table.columns[rows]])
    is_counted = table.tr.kind == "counted"
    if is_counted:
        stay = np.asarray(isotonic_regression(stay, increasing=False).x)
    rest = 1.0 - float(law.sum())
    leak = np.zeros(len(table.t)) if is_root else (1.0 - stay) / rest
    start = -np.inf if is_leaf else _last_above(table, gap, epsilon)
    end = np.inf if is_root else _first_below(table, 1.0 - leak, 1.0 - epsilon)
    fine = np.interp(
        np.arange((len(table.t) - 1) * _FINE + 1) / _FINE, np.arange(len(table.t)), table.t
    )
    need = np.maximum(np.interp(fine, table.t, gap), np.interp(fine, table.t, leak))
    best = int(np.argmin(need))
    amount: float | None = float(fine[best])
    if is_leaf:
        amount = 0.0 if end > -np.inf else None
    elif is_root:
        amount = float(max(start, table.t[0])) if np.isfinite(max(start, 0.0)) else None
    is_valid = start <= end if not is_root else bool(start < np.inf)
    is_valid = is_valid and end > -np.inf
    if is_counted and pair is not None and not is_root and need[best] > epsilon:
        error = _standard_error(table, pair, fine[best])
        is_valid = bool(need[best] <= max(epsilon, min(epsilon + error, _MOST_ALLOWED)))
    if is_valid and start <= end and amount is not None and not is_leaf and not is_root:
        amount = float(np.clip(amount, start, end))
    return LabelSet(
        members=members,
        gap=gap,
        leak=leak,
        pair=pair,
        start=start,
        end=end,
        noise_amount=amount,
        least_epsilon=float(max(need[best], 0.0)),
        is_good=(gap <= epsilon) & (leak <= epsilon),
        is_valid=bool(is_valid),
        is_node=bool(is_valid or is_leaf or is_root),
    )


def _standard_error(table: Table, pair: Pair, at: float) -> float:
    """Binomial standard error of a contrast at one level."""
    level = int(np.argmin(np.abs(table.t - at)))
    number = _number_of_sources(table)
    parts = [list(part) for part in pair]
    weight = [float(table.weights[part].sum()) for part in parts]
    rows = [
        np.einsum("i,ij->j", table.weights[k], table.probs[level, k]) / w
        for k, w in zip(parts, weight, strict=True)
    ]
    total = 0.0
    for own, factor in ((0, weight[1]), (1, weight[0])):
        columns = table.columns[parts[own]]
        for k in (0, 1):
            units = float(number[parts[k]].sum())
            share = (float(rows[k][columns].sum()) * units + 1.0) / (units + 2.0)
            total += (factor / sum(weight)) ** 2 * share * (1.0 - share) / max(units, 1.0)
    return float(np.sqrt(total))


def _row_gap(table: Table, members: tuple[int, ...], epsilon: float) -> tuple[Array, Pair]:
    """Largest total variation of two rows of the set, and the pair that is within eps last."""
    rows = table.probs[:, list(members)]
    gap = 0.5 * np.abs(rows[:, :, None] - rows[:, None]).sum(axis=-1)
    largest = gap.max(axis=(1, 2))
    is_above = largest > epsilon
    level = int(np.flatnonzero(is_above)[-1]) if is_above.any() else 0
    i, j = np.unravel_index(np.argmax(gap[level]), gap.shape[1:])
    return largest, ((members[int(i)],), (members[int(j)],))


def _last_above(table: Table, values: Array, threshold: float) -> float:
    """Where a curve falls through the threshold for the last time."""
    if table.tr.kind != "counted":
        curve = _curves.SampledCurve(logsnr=table.logsnr, value=values)
        found = _curves.crossing(curve, threshold, confidence=0.95, is_monotone=False)
        return _time_of(found)
    return falls_through(table.t, values, threshold)


def _first_below(table: Table, values: Array, threshold: float) -> float:
    """Where a curve falls below the threshold for the first time."""
    if table.tr.kind != "counted":
        curve = _curves.SampledCurve(logsnr=table.logsnr, value=values)
        return _time_of(_curves.crossing(curve, threshold, confidence=0.95, is_monotone=True))
    return falls_through(table.t, values, threshold)


def _time_of(found: _curves.Crossing) -> float:
    if found.logsnr is None:
        return -np.inf if found.side == "below" else np.inf
    return float(ou_time(found.logsnr))


def _number_of_sources(table: Table) -> NDArray[np.int64]:
    assert table.tr.source_before is not None
    number = np.bincount(table.tr.source_before, minlength=len(table.tr.before))
    return np.asarray(number[list(table.rows)])
