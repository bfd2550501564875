"""Where to intervene: what a changed condition does to an attribute, inside a window and outside.

Every arm generates from the same noise as the sources' own generations, so effects are paired.
The *gap* is the share of over-represented groups above the reference (the total variation to it),
and an arm *closes* it by as much as it falls: one that makes another group as large as the first
was closes nothing. Which groups are over-represented, in the own generations and again under the
arm, is told for one half of the sources by the other half: chosen on the same images, a gap would
never be 0, and shrink by itself. The halves may err together where groups lie near the reference;
limits are then wider by the root of two. *Moved* is half of the summed changes of all shares,
whatever their direction. Both are also told per altered step; all arms cost the same.

The arm to recommend is chosen on one half of the sources and its effect is that of the other half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._intervals import paired_interval
from critwin._texts import unknown_name
from critwin.audits.law import FEWEST
from critwin.audits.questions import check_fidelity
from critwin.audits.recommendation import LossVerdict, recommend
from critwin.errors import InputError
from critwin.estimates import Estimate, plain
from critwin.experiments.outcomes import Effect, effects, is_intervention

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.audits.references import Reference
    from critwin.records import Records

    Array = NDArray[np.float64]

__all__ = [
    "ArmEffect",
    "Interventions",
    "Paired",
    "intervention_effects",
    "paired_of",
]

_PREFIX = "intervene:"
_FAR = 3.0  # standard errors from the reference at which a group is surely above or below it
_WIDENED = 2.0**0.5  # halves that choose for each other may err together


@dataclass(frozen=True, kw_only=True)
class ArmEffect:
    """What one arm does.

    Attributes:
        arm: Its name.
        labels: Effect on the share of every group.
        gap_before: Share of over-represented groups above the reference, in the own generations.
        closed: By how much the arm closes it; negative: it opens one, of these groups or others.
        moved: Half of the summed changes of all shares (never negative, so above 0 by chance).
        altered_steps: Steps whose condition or guidance it changes; None: unknown.
        closed_per_step: ``closed`` over them.
        moved_per_step: ``moved`` over them.
        fidelity: Share of results that are read as the condition; None: not asked.
        fidelity_change: The change of that share.
        num_sources: Sources in it.
    """

    arm: str
    labels: tuple[Effect, ...]
    gap_before: float
    closed: Estimate
    moved: float
    altered_steps: int | None
    closed_per_step: Estimate | None
    moved_per_step: float | None
    fidelity: float | None
    fidelity_change: Estimate | None
    num_sources: int


@dataclass(frozen=True, kw_only=True)
class Interventions:
    """Effects of all arms, and the one to recommend.

    Attributes:
        attribute: The attribute.
        reference: Name of the reference.
        arms: Effects, all sources, in the order of a generation where stretches are known.
        recommended: Effect of the recommended arm on the half that did not choose it, or None.
        segments: Stretches of the arms where known: arm -> (from, to, what) in OU time.
        reason: Why none is recommended.
        loss: Loss of fidelity of the recommended arm on that half; None: no arm, or not asked.
        loss_verdict: That loss against the largest that is accepted: ``"within"``, ``"may
            exceed"``, ``"exceeds"`` or ``"not asked"``, see
            :class:`critwin.audits.recommendation.Recommendation`.
        largest_loss: Loss of fidelity that is accepted.
        left_out: Arm -> sources that are not in its numbers: the result is invalid, or the
            labeller abstained before or after.
        confidence: Of the limits.
    """

    attribute: str
    reference: str
    arms: tuple[ArmEffect, ...]
    recommended: ArmEffect | None
    segments: Mapping[str, tuple[tuple[float | None, float, str], ...]]
    reason: str | None
    loss: Estimate | None
    loss_verdict: LossVerdict | None
    largest_loss: float
    left_out: Mapping[str, int]
    confidence: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        out: dict[str, Any] = plain(replace(self, segments={}, left_out={}))
        out["left_out"] = dict(self.left_out)
        out["segments"] = {k: [list(s) for s in v] for k, v in self.segments.items()}
        return out


def intervention_effects(
    records: Records,
    attribute: str,
    reference: Reference,
    *,
    fidelity: tuple[str, str] | None = None,
    steps: Mapping[str, int] | None = None,
    segments: Mapping[str, tuple[tuple[float | None, float, str], ...]] | None = None,
    largest_loss: float = 0.05,
    confidence: float = 0.95,
) -> Interventions:
    """Effects of arms on the law of an attribute and on fidelity to the condition.

    Args:
        records: Records of an intervention whose sources have one condition.
        attribute: The attribute.
        reference: The law to come closer to.
        fidelity: Feature and label that say that a result is of the condition.
        steps: Arm -> steps that it alters.
        segments: Arm -> its stretches, for the report.
        largest_loss: An arm that costs more fidelity is not recommended.
        confidence: Of the limits.

    Returns:
        The effects.

    Raises:
        InputError: If the records are of another experiment, or a feature or label is unknown.
    """
    if not is_intervention(records):
        raise InputError(
            "effects belong to an intervention",
            got=", ".join(np.unique(records.experiment).tolist()) or "no records",
            wanted="records of the experiment intervene",
        )
    labels = _columns(records, attribute).labels
    check_fidelity({k: c.labels for k, c in records.features.items()}, fidelity, attribute)
    if len(labels) != len(reference.shares):
        raise InputError("the reference is of other labels", got=len(reference.shares))
    told = effects(records, attribute, confidence=confidence)
    names = dict.fromkeys(effect.arm for effect in told)
    parts = {name: paired_of(records, name, attribute, fidelity) for name in names}
    every = {
        name: _effect(
            name,
            part,
            None,
            reference,
            tuple(e for e in told if e.arm == name),
            None if steps is None else steps.get(name),
            confidence,
        )
        for name, part in parts.items()
    }
    found = recommend(
        _halves(parts, every, reference, confidence)
        if min(len(part.own) for part in parts.values()) >= 2 * FEWEST
        else None,
        gap=next(iter(every.values())).gap_before,
        largest_loss=largest_loss,
    )
    return Interventions(
        attribute=attribute,
        reference=reference.name,
        arms=tuple(sorted(every.values(), key=lambda arm: _place((segments or {}).get(arm.arm)))),
        recommended=found.arm,
        segments=dict(segments or {}),
        reason=found.reason,
        loss=found.loss,
        loss_verdict=found.loss_verdict,
        largest_loss=largest_loss,
        left_out={
            name: len(np.unique(records.source[records.experiment == _PREFIX + name]))
            - len(part.source)
            for name, part in parts.items()
        },
        confidence=confidence,
    )


def _place(segments: tuple[tuple[float | None, float, str], ...] | None) -> tuple[float, float]:
    """Where in a generation an arm changes something: early first, whole generations last."""
    if not segments:
        return 0.0, inf
    return -min(low for _, low, _ in segments), max(
        inf if t is None else t for t, _, _ in segments
    )


@dataclass(frozen=True, eq=False)
class Paired:
    """One arm, a row a source.

    Attributes:
        source: Its name, sorted, shape ``(S,)``.
        own: Group of its own generation, shape ``(S,)``.
        shares: Shares of the groups under the arm, shape ``(S, K)``.
        change: The same less the own group's indicator.
        fidelity: Whether it is read as the condition, before and after, shape ``(S, 2)``, or None.
    """

    source: NDArray[np.str_]
    own: NDArray[np.int64]
    shares: Array
    change: Array
    fidelity: Array | None

    def half(self, rows: NDArray[np.bool_]) -> Paired:
        """Some of the sources."""
        return Paired(
            self.source[rows],
            self.own[rows],
            self.shares[rows],
            self.change[rows],
            None if self.fidelity is None else self.fidelity[rows],
        )


def _columns(records: Records, feature: str) -> Any:
    if feature not in records.features:
        raise unknown_name("feature", feature, records.features)
    return records.features[feature]


def paired_of(
    records: Records, arm: str, attribute: str, fidelity: tuple[str, str] | None = None
) -> Paired:
    """The sources of one arm, each with what it was and what it became.

    Args:
        records: Records of an intervention.
        arm: Name of the arm.
        attribute: The attribute; units without a reading on both sides are left out.
        fidelity: Feature and label of the condition.

    Returns:
        One row a source.

    Raises:
        InputError: If there is no such arm.
    """
    columns = _columns(records, attribute)
    rows = np.asarray(records.valid, dtype=np.bool_) & (records.experiment == _PREFIX + arm)
    rows &= (columns.before >= 0) & (columns.after >= 0)
    if not rows.any():
        raise InputError("no results of this arm", got=arm)
    names, first, owner = np.unique(records.source[rows], return_index=True, return_inverse=True)
    own, size = columns.before[rows][first], len(columns.labels)
    table = np.zeros((len(names), size))
    np.add.at(table, (owner, columns.after[rows]), 1.0)
    shares = table / table.sum(axis=1, keepdims=True)
    read = None
    if fidelity is not None:
        told = _columns(records, fidelity[0])
        index = told.labels.index(fidelity[1])
        # what the labeller cannot read is not of the condition
        after = np.bincount(owner, weights=told.after[rows] == index) / np.bincount(owner)
        read = np.stack([(told.before[rows][first] == index).astype(np.float64), after], axis=1)
    return Paired(names, own, shares, shares - np.eye(size)[own], read)


def _effect(
    name: str,
    part: Paired,
    chosen_on: Paired | None,
    reference: Reference,
    labels: tuple[Effect, ...],
    steps: int | None,
    confidence: float,
) -> ArmEffect:
    """Effect over some sources; groups are chosen on each other's halves, or on other sources."""
    q = np.array(reference.shares)
    before, after = _gaps(part, chosen_on, q)
    widened = 1.0 if chosen_on is not None or _is_sure(part, q) else _WIDENED
    gap = float(before.mean())
    closed = _paired_estimate(before - after, confidence, widened)
    moved = float(0.5 * np.abs(part.change.mean(axis=0)).sum())
    per_step = None
    if steps:
        per_step = replace(
            closed,
            value=None if closed.value is None else closed.value / steps,
            low=None if closed.low is None else closed.low / steps,
            high=None if closed.high is None else closed.high / steps,
        )
    return ArmEffect(
        arm=name,
        labels=labels,
        gap_before=gap,
        closed=closed,
        moved=moved,
        altered_steps=steps,
        closed_per_step=per_step,
        moved_per_step=moved / steps if steps else None,
        fidelity=None if part.fidelity is None else float(part.fidelity[:, 1].mean()),
        fidelity_change=None
        if part.fidelity is None
        else _paired_estimate(part.fidelity[:, 1] - part.fidelity[:, 0], confidence),
        num_sources=len(part.own),
    )


def _gaps(part: Paired, chosen_on: Paired | None, reference: Array) -> tuple[Array, Array]:
    """What every source adds to the gap, in its own generation and under the arm."""
    found = []
    for told, other in zip(_states(part), _states(chosen_on or part), strict=True):
        if chosen_on is not None:
            inside = np.broadcast_to(other.mean(axis=0) > reference + 1e-12, told.shape)
        else:
            half = np.arange(len(told)) % 2
            sets = [told[half != side].mean(axis=0) > reference + 1e-12 for side in (0, 1)]
            inside = np.stack(sets)[half]
        found.append(np.sum((told - reference) * inside, axis=1))
    return found[0], found[1]


def _states(part: Paired) -> tuple[Array, Array]:
    return np.eye(part.shares.shape[1])[part.own], part.shares


def _is_sure(part: Paired, reference: Array) -> bool:
    """Whether every group is far above or below its reference, with and without the arm."""
    spread = np.sqrt(reference * (1.0 - reference) / len(part.own))
    return all(
        bool(np.all(np.abs(state.mean(axis=0) - reference) > _FAR * spread))
        for state in _states(part)
    )


def _paired_estimate(gap: Array, confidence: float, widened: float = 1.0) -> Estimate:
    low, high = paired_interval(gap, confidence)
    value = float(gap.mean())
    return Estimate(
        value=value,
        low=max(-1.0, value - widened * (value - low)),
        high=min(1.0, value + widened * (high - value)),
        confidence=confidence,
    )


def _halves(
    parts: Mapping[str, Paired],
    every: Mapping[str, ArmEffect],
    reference: Reference,
    confidence: float,
) -> dict[str, tuple[ArmEffect, ArmEffect]]:
    """Every arm on the half of the sources that chooses one, and on the half that tells of it."""
    names = np.unique(np.concatenate([part.source for part in parts.values()]))
    out = {}
    for name, part in parts.items():
        chooses = np.isin(part.source, names[::2])
        first, second = part.half(chooses), part.half(~chooses)
        steps = every[name].altered_steps
        out[name] = (
            _effect(name, first, None, reference, (), steps, confidence),
            _effect(name, second, first, reference, (), steps, confidence),
        )
    return out
