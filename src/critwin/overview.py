"""All windows of a set of records at once, or why a feature has none; and differences in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from critwin._readings import known_chance
from critwin.comparisons import WindowDifference, compare_windows
from critwin.errors import InputError
from critwin.estimates import Edge, plain
from critwin.reshaping import with_abstentions
from critwin.transitions import Transitions
from critwin.views import parts_of, transitions_from_records
from critwin.windows import CriticalWindow, Curve, critical_window, curve_with_intervals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from critwin.records import Records

__all__ = [
    "Abstentions",
    "Overview",
    "compare_tables",
    "difference_in_words",
    "overview",
    "tables_of_records",
]

CHANCE_UNKNOWN = (
    "the chance level (how often a fresh sample of the model carries the label of the source) is "
    "unknown: give --chance or --prior (in Python: chance=, weights=), or a column `weight`"
)


@dataclass(frozen=True, kw_only=True)
class Abstentions:
    """What abstentions can hide: the midpoint if all were losses, and if all were kept.

    Attributes:
        share: Share of the valid results on which the labeller abstained.
        lost: Midpoint if every abstention were a loss.
        kept: Midpoint if every abstention were kept.
    """

    share: float
    lost: Edge | None
    kept: Edge | None


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The windows of several features.

    Attributes:
        windows: Feature -> its window.
        reasons: Feature -> why it has none.
        curves: Feature -> curves behind it. Where the chance level is unknown, the share kept
            as it was counted, with sources weighing equally.
        abstentions: Feature -> their effect, where there are any.
        is_chance_unknown: Features without a window for want of a chance level alone.
    """

    windows: Mapping[str, CriticalWindow]
    reasons: Mapping[str, str]
    curves: Mapping[str, tuple[Curve, ...]]
    abstentions: Mapping[str, Abstentions]
    is_chance_unknown: frozenset[str] = frozenset()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "windows": {name: window.as_dict() for name, window in self.windows.items()},
            "reasons": dict(self.reasons),
            "curves": {name: plain(list(curves)) for name, curves in self.curves.items()},
            "abstentions": {name: plain(found) for name, found in self.abstentions.items()},
        }


def tables_of_records(
    records: Records,
    features: Sequence[str] | None = None,
    *,
    where: Mapping[str, Any] | None = None,
    weights: Mapping[str, float] | None = None,
) -> tuple[dict[str, Transitions], dict[str, str]]:
    """Count the transitions of several features.

    Args:
        records: Records.
        features: Features or products; all features of the records unless given.
        where: As for :func:`critwin.views.transitions_from_records`.
        weights: Prior over the labels; only for a single feature.

    Returns:
        Feature -> its table, and feature -> why it has none; parts that must not be mixed (see
        :func:`critwin.views.parts_of`) have names of their own.

    Raises:
        InputError: If a named feature cannot be counted, or a prior is given for several.
    """
    if not records.features:
        raise InputError("the records hold no feature")
    names = list(records.features) if features is None else list(features)
    if weights is not None and len(names) != 1:
        raise InputError(
            "a prior belongs to one feature", got=", ".join(names), next_step="name the feature"
        )
    tables: dict[str, Transitions] = {}
    reasons: dict[str, str] = {}
    parts: list[tuple[str, Mapping[str, Any] | None]] = [("", where)]
    if where is None and weights is None:
        parts = list(parts_of(records))
    for suffix, part in parts:
        for name in names:
            try:
                tables[name + suffix] = transitions_from_records(
                    records, name, where=part, weights=weights
                )
            except InputError as error:
                if features is not None or len(names) == 1:
                    raise
                reasons[name + suffix] = str(error)
    return tables, reasons


def overview(
    tables: Mapping[str, Transitions],
    *,
    after: Sequence[str] | None = None,
    before: Sequence[str] | None = None,
    epsilon: float = 0.1,
    confidence: float = 0.95,
    chance: float | None = None,
    plateau: float | None = None,
) -> Overview:
    """The window of each feature: the headline, or the operational one of a label set.

    Args:
        tables: Feature -> transitions.
        after: Label set A; given, the windows are operational.
        before: Label set B that contains A; all labels unless given.
        epsilon: Tolerance of an operational window.
        confidence: Of the intervals.
        chance: Chance level where the prior is unknown.
        plateau: Limit of the mean stay at no noise.

    Returns:
        Windows, reasons, curves and the effect of abstentions.

    Raises:
        InputError: If an option is out of range.
    """
    for name, number in (("confidence", confidence), ("epsilon", epsilon)):
        if not 0.0 < number < 1.0:
            raise InputError(f"{name} is out of range", got=number, wanted="a number in (0, 1)")
    if chance is not None and not 0.0 <= chance < 1.0:
        raise InputError("the chance level is out of range", got=chance, wanted="0 <= chance < 1")
    windows: dict[str, CriticalWindow] = {}
    reasons: dict[str, str] = {}
    curves: dict[str, tuple[Curve, ...]] = {}
    abstentions: dict[str, Abstentions] = {}
    unknown: set[str] = set()
    options: dict[str, Any] = {"confidence": confidence}
    if after is None:
        options |= {"chance": chance, "plateau": plateau}
    else:
        options |= {
            "criterion": "operational",
            "after": after,
            "before": before,
            "epsilon": epsilon,
        }
    for name, tr in tables.items():
        try:
            if after is None and chance is None and known_chance(tr) is None:
                unknown.add(name)
                reasons[name] = CHANCE_UNKNOWN
            else:
                windows[name] = critical_window(tr, **options)
                if (found := _abstentions(tr, options)) is not None:
                    abstentions[name] = found
        except InputError as error:
            reasons[name] = str(error)
        try:
            curves[name] = _curves_of(tr, after, before, confidence, chance, plateau)
        except InputError:
            continue  # the reason is that of the window
    return Overview(
        windows=windows,
        reasons=reasons,
        curves=curves,
        abstentions=abstentions,
        is_chance_unknown=frozenset(unknown),
    )


def compare_tables(
    first: Mapping[str, Transitions], second: Mapping[str, Transitions], **options: Any
) -> tuple[dict[str, WindowDifference], dict[str, str]]:
    """Compare every feature that both have.

    Args:
        first: Feature -> transitions of the first run.
        second: Likewise of the second.
        **options: As for :func:`critwin.comparisons.compare_windows`.

    Returns:
        Feature -> second minus first, and feature -> why it cannot be compared.
    """
    differences: dict[str, WindowDifference] = {}
    reasons: dict[str, str] = {}
    for name in [*first, *(n for n in second if n not in first)]:
        if name not in first or name not in second:
            where = "second" if name in first else "first"
            reasons[name] = f"the {where} of the two does not have it"
            continue
        needs_chance = options.get("criterion", "kept") == "kept" and options.get("chance") is None
        if needs_chance and None in (known_chance(first[name]), known_chance(second[name])):
            reasons[name] = CHANCE_UNKNOWN
            continue
        try:
            differences[name] = compare_windows(first[name], second[name], **options)
        except InputError as error:
            reasons[name] = str(error)
    return differences, reasons


def difference_in_words(difference: WindowDifference) -> list[str]:
    """Whether two windows differ, one plain sentence an edge.

    Args:
        difference: Second minus first.

    Returns:
        The sentence of the midpoint, or those of ``t_after`` and ``t_before``.
    """
    names = ("midpoint",) if difference.criterion == "kept" else ("t_after", "t_before")
    return [_sentence(difference, name) for name in names]


def _sentence(difference: WindowDifference, name: str) -> str:
    edge: Edge | None = getattr(difference, name)
    what = {"midpoint": "the midpoint", "t_after": "t_after", "t_before": "t_before"}[name]
    if edge is None or edge.t.value is None:
        why = "it does not exist" if edge is None else edge.t.reason
        return f"{what} cannot be compared: {why}"
    t = edge.t
    is_exact = difference.first.kind == difference.second.kind == "exact"
    value = f"{t.value:+.3f}"
    if not is_exact:
        ends = ["?" if end is None else f"{end:+.3f}" for end in (t.low, t.high)]
        value += f" [{ends[0]}, {ends[1]}]"
    side = 0
    if is_exact:
        side = 0 if abs(edge.t.value) < 1e-9 else (1 if edge.t.value > 0 else -1)
    elif t.low is not None and t.low > 0:
        side = 1
    elif t.high is not None and t.high < 0:
        side = -1
    if side == 0:
        verdict = f"no difference found in {what}"
    else:
        noise = "more" if side > 0 else "less"
        verdict = f"{what} differs: in the second it lies at {noise} noise"
    return f"{verdict}: {value} in t"


def _abstentions(tr: Transitions, options: Mapping[str, Any]) -> Abstentions | None:
    if tr.abstained is None or tr.counts is None or not tr.abstained.any():
        return None
    total = int(tr.abstained.sum())
    edges: dict[str, Edge | None] = {}
    for resolved in ("lost", "kept"):
        try:
            table = with_abstentions(tr, resolved)
            edges[resolved] = critical_window(table, **options, test=False).midpoint
        except InputError:
            edges[resolved] = None
    return Abstentions(share=total / (total + int(tr.counts.sum())), **edges)


def _curves_of(
    tr: Transitions,
    after: Sequence[str] | None,
    before: Sequence[str] | None,
    confidence: float,
    chance: float | None,
    plateau: float | None,
) -> tuple[Curve, ...]:
    if after is not None:
        shared: dict[str, Any] = {"after": after, "before": before, "confidence": confidence}
        return (
            curve_with_intervals(tr, "stay", **shared),
            curve_with_intervals(tr, "blur", **shared),
        )
    if chance is None and known_chance(tr) is None:
        raw = curve_with_intervals(tr, "kept", chance=0.0, plateau=1.0, confidence=confidence)
        return (_renamed(raw, "mean_stay"),)
    return (
        curve_with_intervals(tr, "kept", chance=chance, plateau=plateau, confidence=confidence),
    )


def _renamed(curve: Curve, quantity: str) -> Curve:
    from dataclasses import replace

    return replace(curve, quantity=quantity)
