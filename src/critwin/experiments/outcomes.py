"""What arms of an intervention do, paired with the sources' own generations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._intervals import paired_interval
from critwin._texts import unknown_name
from critwin.errors import InputError

if TYPE_CHECKING:
    from critwin.records import Records

__all__ = ["Effect", "effects", "is_intervention"]

_PREFIX = "intervene:"


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What an arm of an intervention does to the share of one label.

    Attributes:
        arm: Name of the arm.
        feature: Name of the feature.
        label: The label.
        share: Share under the arm, each source counting once.
        share_before: Share in the sources' own generations.
        difference: ``share - share_before``, paired by source.
        low: Lower limit of the difference.
        high: Upper limit.
        num_sources: Sources with a reading on both sides.
        confidence: Of the limits.
        evaluations: Evaluations of the model for one generation under the arm; None: not told.
    """

    arm: str
    feature: str
    label: str
    share: float
    share_before: float
    difference: float
    low: float
    high: float
    num_sources: int
    confidence: float
    evaluations: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {key: getattr(self, key) for key in self.__dataclass_fields__}

    def in_words(self) -> str:
        """One line: from which share to which, and the difference with its limits."""
        return (
            f"{self.arm}: {self.feature} {self.label} {100 * self.share_before:.1f} % -> "
            f"{100 * self.share:.1f} %, {100 * self.difference:+.1f} points "
            f"[{100 * self.low:+.1f}, {100 * self.high:+.1f}]"
        )


def is_intervention(records: Records) -> bool:
    """Whether all rows of some records belong to arms of an intervention."""
    names = np.unique(records.experiment).tolist()
    return bool(names) and all(name.startswith(_PREFIX) for name in names)


def effects(records: Records, feature: str, *, confidence: float = 0.95) -> list[Effect]:
    """Effect of every arm on the share of every label, paired by source.

    A source's difference is its share of replicates that carry the label under the arm, less
    whether its own generation carries it. Limits are Student's for the mean difference over
    sources; where fewer than ten sources differ at all, each side is bounded by the exact limit
    of the share of sources that moved that way.

    Args:
        records: Records of an intervention.
        feature: Name of the feature.
        confidence: Of the limits, each by itself.

    Returns:
        Arm by arm, label by label. A label that occurs on neither side is left out.

    Raises:
        InputError: If the feature is unknown, or the rows are of another experiment.
    """
    if not is_intervention(records):
        raise InputError(
            "effects belong to an intervention",
            got=", ".join(np.unique(records.experiment).tolist()) or "no records",
            wanted="records of the experiment intervene",
        )
    if feature not in records.features:
        raise unknown_name("feature", feature, records.features)
    columns = records.features[feature]
    usable = np.asarray(records.valid, dtype=bool) & (columns.after >= 0) & (columns.before >= 0)
    spent = _arm_evaluations(records)
    found = []
    for name in np.unique(records.experiment).tolist():
        rows = usable & (np.asarray(records.experiment) == name)
        _, first, owner = np.unique(records.source[rows], return_index=True, return_inverse=True)
        if len(first) == 0:
            continue
        before, after = columns.before[rows][first], columns.after[rows]
        for index, label in enumerate(columns.labels):
            mine = np.bincount(owner, weights=after == index) / np.bincount(owner)
            own = (before == index).astype(np.float64)
            if not mine.any() and not own.any():
                continue
            low, high = paired_interval(mine - own, confidence)
            found.append(
                Effect(
                    arm=name.removeprefix(_PREFIX),
                    feature=feature,
                    label=label,
                    share=float(mine.mean()),
                    share_before=float(own.mean()),
                    difference=float((mine - own).mean()),
                    low=low,
                    high=high,
                    num_sources=len(first),
                    confidence=confidence,
                    evaluations=spent.get(name.removeprefix(_PREFIX)),
                )
            )
    return found


def _arm_evaluations(records: Records) -> dict[str, int]:
    """What a generation under each arm costs, where the records say so."""
    try:
        told = json.loads(str(records.attrs.get("arm_evaluations") or "{}"))
        return {str(name): int(number) for name, number in told.items()}
    except (ValueError, TypeError, AttributeError):  # a file of someone else's
        return {}
