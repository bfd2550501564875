"""What becomes of generations whose condition changes on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._intervals import proportion_interval
from critwin._texts import unknown_name
from critwin.errors import InputError
from critwin.levels import ou_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.records import Records

__all__ = ["SWITCHED", "Following", "followed", "following", "is_switch"]

SWITCHED = "Shares of results by the level at which the condition changed:"


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

    @property
    def gain(self) -> float:
        """Share at the noisiest level less that at the cleanest: what an early change adds."""
        return float(self.share[-1] - self.share[0])

    def is_shown(self) -> bool:
        """Whether the share at the noisiest level lies above the cleanest one, limits apart."""
        return bool(self.low[-1] > self.high[0])

    def majority(self) -> tuple[float | None, float | None]:
        """Between which OU times the share passes one half, as far as the limits tell.

        Returns:
            The largest level up to which it is below one half at all levels, and the smallest
            from which it is above; None where there is none.
        """
        below = np.flatnonzero(np.logical_and.accumulate(self.high < 0.5))
        above = np.flatnonzero(np.logical_and.accumulate(self.low[::-1] > 0.5))
        t = self.t
        return (
            float(t[below[-1]]) if len(below) else None,
            float(t[len(t) - 1 - above[-1]]) if len(above) else None,
        )

    def in_words(self) -> str:
        """From which level on the labels take over, in a line, as sure as the limits are."""
        first, last = self._at(0), self._at(-1)
        what = f"{self.feature}: {', '.join(self.labels)} in {first}, {last}"
        if not self.is_shown():
            return f"{what}: no effect of the change is established"
        below, above = self.majority()
        known = []
        if above is not None:
            known.append(f"most follow from t = {above:.2f} on")
        if below is not None:
            known.append(f"not yet at t = {below:.2f}")
        return f"{what}; " + (", ".join(known) or "where most begin to follow is not settled")

    def _at(self, k: int) -> str:
        share, low, high = (100 * float(v[k]) for v in (self.share, self.low, self.high))
        limits = "" if np.isnan(low) else f" [{low:.1f}, {high:.1f}]"
        return f"{share:.1f} %{limits} after a change at t = {float(self.t[k]):.2f}"

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
        raise unknown_name("feature", feature, records.features)
    columns = records.features[feature]
    names = (labels,) if isinstance(labels, str) else tuple(labels)
    if absent := [name for name in names if name not in columns.labels]:
        raise unknown_name(f"label of {feature!r}", absent[0], columns.labels)
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


def followed(records: Records, feature: str, *, confidence: float = 0.95) -> list[Following]:
    """The curves of all labels that occur, most gained by an early change first.

    Args:
        records: Records of a prompt switch (or any experiment).
        feature: Name of the feature.
        confidence: Of the limits, each level by itself.

    Returns:
        A curve a label that any result or source carries.

    Raises:
        InputError: If the feature is unknown.
    """
    if feature not in records.features:
        raise unknown_name("feature", feature, records.features)
    columns = records.features[feature]
    seen = np.union1d(columns.before, columns.after[np.asarray(records.valid, dtype=bool)])
    curves = [
        following(records, feature, columns.labels[index], confidence=confidence)
        for index in seen[seen >= 0].tolist()
    ]
    return sorted(curves, key=lambda curve: -np.nan_to_num(curve.gain, nan=-np.inf))


def is_switch(records: Records) -> bool:
    """Whether all rows of some records belong to a prompt switch."""
    return bool(np.unique(records.experiment).tolist() == ["prompt_switch"])
