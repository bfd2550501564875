"""What becomes of generations in which something is changed on the way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._intervals import paired_interval, proportion_interval
from critwin.errors import InputError
from critwin.levels import ou_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.records import Records

__all__ = ["Effect", "Following", "effects", "following", "is_intervention"]

_PREFIX = "intervene:"


@dataclass(frozen=True, eq=False, kw_only=True)
class Following:
    """Share of results that carry some labels, by level.

    Attributes:
        feature: Name of the feature.
        labels: The labels.
        logsnr: Levels, noise growing, shape ``(L,)``.
        share: Mean over sources of the share of replicates, shape ``(L,)``.
        low: Lower limits, pointwise, clustered by source.
        high: Upper limits.
        num_sources: Sources with a result, shape ``(L,)``.
        num_abstained: Results left out because the labeller abstained, shape ``(L,)``.
        num_invalid: Invalid results, shape ``(L,)``.
        confidence: Of the limits.
    """

    feature: str
    labels: tuple[str, ...]
    logsnr: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    num_sources: NDArray[np.int64]
    num_abstained: NDArray[np.int64]
    num_invalid: NDArray[np.int64]
    confidence: float

    @property
    def t(self) -> NDArray[np.float64]:
        """OU times."""
        return ou_time(self.logsnr)

    def as_dict(self) -> dict[str, Any]:
        """Plain values; NaN as None."""

        def plain(values: NDArray[Any]) -> list[float | None]:
            return [None if np.isnan(v) else float(v) for v in values]

        return {
            "feature": self.feature,
            "labels": list(self.labels),
            "t": self.t.tolist(),
            **{name: plain(getattr(self, name)) for name in ("logsnr", "share", "low", "high")},
            **{
                name: getattr(self, name).tolist()
                for name in ("num_sources", "num_abstained", "num_invalid")
            },
            "confidence": self.confidence,
        }


def following(
    records: Records,
    feature: str,
    labels: str | Sequence[str],
    *,
    confidence: float = 0.95,
) -> Following:
    """Share of outcomes that carry the labels asked for, at each level.

    Each source counts once, whatever its number of replicates; limits are Clopper–Pearson's at
    the effective sample size.

    Args:
        records: Records of a prompt switch (or any experiment).
        feature: Name of the feature.
        labels: Label or labels that count as following.
        confidence: Of the limits, each level by itself.

    Returns:
        The curve.

    Raises:
        InputError: If the feature or a label is unknown, or no row is left.
    """
    if feature not in records.features:
        raise InputError(
            "unknown feature", got=feature, wanted="one of " + ", ".join(records.features)
        )
    columns = records.features[feature]
    names = (labels,) if isinstance(labels, str) else tuple(labels)
    if unknown := [name for name in names if name not in columns.labels]:
        raise InputError(
            f"unknown label of {feature!r}",
            got=unknown[0],
            wanted="one of " + ", ".join(columns.labels),
        )
    wanted = [columns.labels.index(name) for name in names]
    valid = np.asarray(records.valid, dtype=bool)
    levels = np.unique(np.asarray(records.logsnr))[::-1]
    if len(levels) == 0:
        raise InputError("no records", got=0)
    share, variance, num_sources, num_units, abstained, invalid = [], [], [], [], [], []
    for level in levels:
        here = np.asarray(records.logsnr) == level
        read = here & valid & (columns.after >= 0)
        hits = np.isin(columns.after[read], wanted).astype(np.float64)
        _, owner = np.unique(records.source[read], return_inverse=True)
        mean = np.bincount(owner, weights=hits) / np.bincount(owner) if len(owner) else hits
        num = len(mean)
        share.append(float(mean.mean()) if num else np.nan)
        variance.append(float(mean.var(ddof=1)) / num if num > 1 else np.nan)
        num_sources.append(num)
        num_units.append(len(hits))
        abstained.append(int((here & valid & (columns.after < 0)).sum()))
        invalid.append(int((here & ~valid).sum()))
    sources, known = np.array(num_sources), np.array(num_sources) > 1
    low, high = np.full(len(levels), np.nan), np.full(len(levels), np.nan)
    if known.any():
        low[known], high[known] = proportion_interval(
            np.array(share)[known],
            np.array(variance)[known],
            num_clusters=sources[known],
            num_units=np.array(num_units)[known],
            degrees=float(sources[known].min() - 1),
            confidence=confidence,
        )
    return Following(
        feature=feature,
        labels=names,
        logsnr=levels,
        share=np.array(share),
        low=low,
        high=high,
        num_sources=sources,
        num_abstained=np.array(abstained),
        num_invalid=np.array(invalid),
        confidence=confidence,
    )


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
        raise InputError(
            "unknown feature", got=feature, wanted="one of " + ", ".join(records.features)
        )
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
