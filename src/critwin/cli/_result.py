"""What a run found: the window of each feature, and the headline in the report's words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from critwin.experiments.outcomes import Effect
    from critwin.experiments.switches import Following
    from critwin.runs.folder import Run
    from critwin.windows import CriticalWindow

__all__ = ["Result", "conclude"]


@dataclass(frozen=True)
class Result:
    """What a run found.

    Attributes:
        windows: Feature -> its window.
        reasons: Feature -> why it has none.
        headline: The result in words.
        effects: What the arms of an intervention do; none for other experiments.
        following: Feature -> what becomes of its labels after a change of the condition, most
            gained by an early change first; none for other experiments.
    """

    windows: Mapping[str, CriticalWindow]
    reasons: Mapping[str, str]
    headline: str
    effects: tuple[Effect, ...] = ()
    following: Mapping[str, Sequence[Following]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "headline": self.headline,
            "windows": {name: window.as_dict() for name, window in self.windows.items()},
            "reasons": dict(self.reasons),
            **({"effects": [effect.as_dict() for effect in self.effects]} if self.effects else {}),
            **({"following": self._curves()} if self.following else {}),
        }

    def _curves(self) -> dict[str, Any]:
        return {name: [c.as_dict() for c in curves] for name, curves in self.following.items()}

    def lines(self) -> list[str]:
        """Lines for people: the headline, and why a feature has no window."""
        if self.effects:
            return [self.headline, *(effect.in_words() for effect in self.effects)]
        if self.following:
            return [self.headline, *(c[0].in_words() for c in self.following.values() if c)]
        return [
            self.headline,
            *(f"{name}: no window: {why}" for name, why in self.reasons.items()),
        ]


def conclude(run: Run) -> Result:
    """Compute the window of each feature of a run.

    Args:
        run: The run.

    Returns:
        Windows, and reasons where there is none.
    """
    import numpy as np

    from critwin._readings import known_chance
    from critwin.cli._source import in_options
    from critwin.errors import InputError
    from critwin.experiments.outcomes import effects, is_intervention
    from critwin.experiments.switches import SWITCHED, followed, is_switch
    from critwin.records import ABSTAIN, select
    from critwin.reports.headline import headline
    from critwin.reports.order import midpoint_gaps
    from critwin.views import parts_of, transitions_from_records
    from critwin.windows import critical_window

    records = run.records()
    if is_intervention(records):
        found = tuple(e for name in records.features for e in effects(records, name))
        arms = len({effect.arm for effect in found})
        return Result(
            {}, {}, f"{arms} arms against the sources' own generations, paired by source:", found
        )
    windows, tables, reasons = {}, {}, {}
    for suffix, where in parts_of(records):
        rows = select(
            records,
            np.logical_and.reduce([records.column(key) == value for key, value in where.items()]),
        )
        for feature, columns in rows.features.items():
            name = f"{feature}{suffix}"
            seen = np.union1d(columns.before, columns.after[rows.column("valid")])
            seen = seen[seen != ABSTAIN]
            if len(seen) < 2:
                label = columns.labels[seen[0]] if len(seen) else "none"
                reasons[name] = f"only one label after as before: nothing to lose: got {label}"
                continue
            try:
                tables[name] = transitions_from_records(records, feature, where=where)
                if known_chance(tables[name]) is None:
                    reasons[name] = _asking_for_chance(run, feature)
                    continue
                windows[name] = critical_window(tables[name])
            except InputError as error:
                reasons[name] = in_options(str(error))
    if is_switch(records):  # what is kept is beside the point, and mostly unknown
        curves = {name: followed(records, name) for name in records.features}
        return Result(windows, {}, SWITCHED, (), curves)
    gaps = midpoint_gaps({k: tables[k] for k in windows}, windows, confidence=0.95)
    return Result(windows, reasons, headline(windows, gaps=gaps))


def _asking_for_chance(run: Run, feature: str) -> str:
    """What to do where nothing tells how often a fresh sample carries the label of the source."""
    place, name = shlex.quote(str(run.path)), shlex.quote(feature)
    return (
        "the chance level is unknown: say it to critwin windows and to critwin report, e.g. "
        f"critwin report {place} --feature {name} --chance NUMBER, or --prior LABEL=SHARE for "
        "each label (never the shares in which sources were drawn)"
    )
