"""What is said of a label set: the ends of its levels with intervals, and its two conditions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from critwin import _curves, _readings
from critwin.certificates import tv_lower_bounds
from critwin.errors import InputError
from critwin.estimates import Edge, Estimate, edge_of, missing_edge
from critwin.levels import logsnr_of_ou_time
from critwin.reshaping import select_levels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin._tree_building import LabelSet, Table

    Array = NDArray[np.float64]

NO_REST = "the node of all labels has no rest"
NO_NOISE = Edge(
    t=Estimate(value=0.0, low=0.0, high=0.0),
    logsnr=Estimate(value=None, reason="at no noise: a single label"),
)


class Found(NamedTuple):
    """A condition: what was found, the smallest eps at which it is certified, how."""

    value: float
    epsilon: float | None
    how: str


def edges(table: Table, found: LabelSet, epsilon: float, confidence: float) -> tuple[Edge, Edge]:
    """Where the set begins and ends to be a node, with intervals where the table is counted."""
    is_counted = table.tr.kind == "counted"
    level = confidence if is_counted else None
    if found.pair is None:
        start = NO_NOISE
    else:
        curve = _gap_curve(table, found)
        start = _edge(table, curve, epsilon, found.start, confidence)
    if len(found.members) == len(table.names):
        return start, missing_edge(NO_REST, level)
    rows = [table.rows[i] for i in found.members]
    curve = _on_levels(_readings.stay_curve(table.tr, rows), table)
    rest = 1.0 - float(table.weights[list(found.members)].sum())
    return start, _edge(table, curve, 1.0 - epsilon * rest, found.end, confidence)


def conditions(
    table: Table, found: LabelSet, confidence: float, reversal: str
) -> tuple[Found, Found]:
    """What is found and what is certified of (1) and of (2) at the noise amount."""
    at = found.noise_amount
    gap = float(np.interp(np.inf if at is None else at, table.t, found.gap))
    leak = float(np.interp(0.0 if at is None else at, table.t, found.leak))
    is_root, is_leaf = len(found.members) == len(table.names), len(found.members) == 1
    alike = Found(gap, None, "distance of label rows: not a proof")
    apart = Found(leak, None, "leak over what leaks by chance")
    if is_root:
        apart = Found(0.0, 0.0, "there is no rest")
    if is_leaf:
        alike = Found(0.0, 0.0, "a single label")
    if at is None:
        return alike, apart
    if table.tr.kind == "exact":
        if not is_root:
            missing = float(np.clip(_read(table, _missing_separation(table, found), at), 0, 1))
            apart = Found(leak, float(np.sqrt(missing)), "the labels after tell them apart")
        if reversal == "posterior" and not is_leaf:
            bound = float(min(1.0, _read(table, _alike_bound(table, found.members), at)))
            alike = Found(gap, bound, "contrast under the exact posterior (Cauchy–Schwarz)")
    elif table.tr.kind == "counted" and not is_root:
        low = _counted_separation(table, found, confidence)
        certified = None if low <= 0 else float(np.sqrt(1.0 - low))
        apart = Found(leak, certified, "counts, for all label sets and levels at once")
    return alike, apart


def _edge(
    table: Table, curve: _curves.SampledCurve, threshold: float, at: float, confidence: float
) -> Edge:
    """The edge at ``at``, with the interval of the curve's crossing."""
    found = _curves.crossing(curve, threshold, confidence=confidence, is_monotone=True)
    if table.tr.kind != "counted":
        found = _curves.crossing(curve, threshold, confidence=confidence, is_monotone=False)
        return edge_of(found, curve, confidence)
    if not np.isfinite(at):
        found = replace(found, logsnr=None, side="below" if at < 0 else "above")
        return edge_of(found, curve, confidence)
    value = float(logsnr_of_ou_time(at))
    found = replace(
        found,
        logsnr=value,
        side="inside",
        near=None if found.near is None else max(found.near, value),
        far=None if found.far is None else min(found.far, value),
    )
    return edge_of(found, curve, confidence)


def _gap_curve(table: Table, found: LabelSet) -> _curves.SampledCurve:
    """The distance of the rows as a curve with its sampling errors."""
    assert found.pair is not None
    tr = table.tr
    if tr.kind != "counted":
        influence = None
        if tr.stderr is not None:
            i, j = (table.rows[part[0]] for part in found.pair)
            spread = np.sqrt(np.sum(tr.stderr[:, i] ** 2 + tr.stderr[:, j] ** 2, axis=1))
            influence = np.diag(0.5 * spread[table.use])
        return _curves.SampledCurve(
            logsnr=table.logsnr, value=found.gap, influence=influence, scale=None
        )
    first, second = ([table.rows[i] for i in part] for part in found.pair)
    weight = [float(table.weights[list(part)].sum()) for part in found.pair]
    value, floor = np.zeros(len(tr.logsnr)), np.zeros(len(tr.logsnr))
    influence = np.zeros((1, 1))
    degrees = np.inf
    for own, other, factor in ((first, second, weight[1]), (second, first, weight[0])):
        columns = [int(tr.before_in_after[i]) for i in own]
        for rows, sign in ((own, 1.0), (other, -1.0)):
            part = _readings.set_curve(tr, rows, columns)
            assert part.influence is not None
            assert part.share is not None
            scale = sign * factor / sum(weight)
            value = value + scale * part.value
            influence = influence + scale * part.influence
            units = 1.0 / np.maximum(np.sum(part.share**2, axis=0), 1e-300)
            smooth = (part.value * units + 1.0) / (units + 2.0)
            floor = floor + scale**2 * smooth * (1.0 - smooth) / units
            degrees = min(degrees, part.degrees)
    # sources that all agree still leave an error: one hit and one miss more (Agresti)
    extra = np.sqrt(np.maximum(floor - np.sum(np.square(influence), axis=0), 0.0))
    return _on_levels(
        _curves.SampledCurve(
            logsnr=tr.logsnr,
            value=value,
            influence=np.concatenate([influence, np.diag(extra)]),
            scale=None,
            degrees=degrees,
        ),
        table,
    )


def _on_levels(curve: _curves.SampledCurve, table: Table) -> _curves.SampledCurve:
    use = table.use
    if len(use) == len(curve.logsnr):
        return curve

    def part(array: Array | None) -> Array | None:
        return None if array is None else array[:, use]

    return replace(
        curve,
        logsnr=curve.logsnr[use],
        value=curve.value[use],
        influence=part(curve.influence),
        share=part(curve.share),
        num_replicates=part(curve.num_replicates),
    )


def _read(table: Table, values: Array, at: float) -> float:
    """A falling or rising certificate at a time: its larger neighbour, so that it stays one."""
    if at <= table.t[0]:
        return float(values[0])
    k = int(np.clip(np.searchsorted(table.t, at), 1, len(table.t) - 1))
    return float(max(values[k - 1], values[k]))


def _missing_separation(table: Table, found: LabelSet) -> Array:
    """``1 - TV(rows of S and of the rest)`` of an exact table, shape ``(L,)``; rises with t."""
    rows = list(found.members)
    rest = [i for i in range(len(table.names)) if i not in set(rows)]
    sides = [
        np.einsum("i,lij->lj", table.weights[k] / table.weights[k].sum(), table.probs[:, k])
        for k in (rows, rest)
    ]
    return np.asarray(1.0 - 0.5 * np.abs(sides[0] - sides[1]).sum(axis=1))


def _alike_bound(table: Table, members: tuple[int, ...]) -> Array:
    """Bound on the largest TV of two noised laws of the set, from an exact posterior table.

    ``TV(p_i, p_j) <= 1/2 [sqrt(w(A) C[A, A] d_ij) + C[i, not A] + C[j, not A]]`` for every label
    set A, ``d_ij = ∫ (p_i - p_j)^2 / p``; here A is the set itself, or everything.
    """
    rows = list(members)
    table_ = table.probs[:, rows][:, :, table.columns[rows]]
    weights = table.weights[rows]
    scaled = table_ / weights
    own = np.diagonal(scaled, axis1=1, axis2=2)
    square = own[:, :, None] + own[:, None, :] - scaled - np.swapaxes(scaled, 1, 2)
    square = np.maximum(square, 0.0)
    inside = np.einsum("i,lij->l", weights, table_)  # w(A) C[A, A]
    out = 1.0 - table_.sum(axis=2)
    by_set = 0.5 * (np.sqrt(inside[:, None, None] * square) + out[:, :, None] + out[:, None, :])
    bound = np.minimum(by_set, 0.5 * np.sqrt(square))
    return np.asarray(bound.max(axis=(1, 2)))


def _counted_separation(table: Table, found: LabelSet, confidence: float) -> float:
    """Lower bound on TV at the best level of the set, for all sets and levels at once."""
    num = len(table.names)
    rest = [name for i, name in enumerate(table.names) if i not in set(found.members)]
    own = [table.names[i] for i in found.members]
    num_sets = max(2.0 ** (num - 1) - 1.0, 1.0)
    error = (1.0 - confidence) / num_sets / len(table.t)
    level = int(np.argmin(np.abs(table.t - (found.noise_amount or 0.0))))
    one = select_levels(table.tr, np.arange(len(table.tr.logsnr)) == table.use[level])
    try:
        low = float(tv_lower_bounds(one, own, rest, confidence=1.0 - error).low[0])
    except InputError:
        return 0.0
    return low if np.isfinite(low) else 0.0
