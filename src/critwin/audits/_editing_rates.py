"""Shares of edits that keep and change what they should, level by level, clustered by source."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critwin._intervals import proportion_interval
from critwin._texts import unknown_name
from critwin.errors import InputError
from critwin.levels import ou_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.records import Records

__all__ = [
    "FEWEST",
    "Events",
    "Rate",
    "Wish",
    "check_wishes",
    "events_of",
    "full_change",
    "rates_of",
    "wish_of",
]

FEWEST = 8
"""Sources below which nothing is advised, and shares of sources tell no law."""

Limits = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What should become of a feature.

    Attributes:
        feature: Its name.
        labels: To keep: those of which it must have one, before and after. To change: those of
            which it must have one after, and none before. Empty: the same as before, or another.
    """

    feature: str
    labels: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.feature + ("=" + ",".join(self.labels) if self.labels else "")


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Shares at one level, each source counting once.

    Attributes:
        logsnr: The level.
        t: Its OU time.
        kept: Share in which everything to keep is kept; value, lower and upper limit.
        changed: Share in which everything to change is changed.
        both: Share in which an edit succeeds.
        num_sources: Sources.
    """

    logsnr: float
    t: float
    kept: Limits
    changed: Limits
    both: Limits
    num_sources: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Events:
    """What happened to every edit that counts.

    Attributes:
        level: Its logsnr, shape ``(N,)``.
        cluster: Number of its source; of its replicate where there is one source alone.
        happened: ``"kept"``, ``"changed"`` and ``"both"``, each ``(N,)``.
        is_one_source: Whether there is one source alone.
        num_invalid: Results that were left out: not finite, or constant.
        num_abstained: Results that the labeller could not read; they count as failures.
        num_outside: Sources without a label, or not of the labels that were asked for.
    """

    level: NDArray[np.float64]
    cluster: NDArray[np.int64]
    happened: Mapping[str, NDArray[np.bool_]]
    is_one_source: bool
    num_invalid: int
    num_abstained: int
    num_outside: int


def wish_of(text: str, known: Mapping[str, Sequence[str]] | None = None) -> Wish:
    """A wish from ``FEATURE`` or ``FEATURE=LABEL,LABEL``.

    Args:
        text: The text.
        known: Feature -> its labels, which may themselves hold ``=`` and commas.

    Returns:
        The wish.

    Raises:
        InputError: If it names no feature or an empty label.
    """
    for feature, names in (known or {}).items():
        if text == feature:
            return Wish(feature=feature)
        if text.startswith(feature + "=") and text[len(feature) + 1 :] in names:
            return Wish(feature=feature, labels=(text[len(feature) + 1 :],))
    name, has_labels, rest = text.partition("=")
    labels = tuple(part.strip() for part in rest.split(",")) if has_labels else ()
    if not name.strip() or (has_labels and not all(labels)):
        raise InputError(
            "not a wish", got=text or "an empty text", wanted="FEATURE or FEATURE=LABEL,LABEL"
        )
    if len(set(labels)) < len(labels):
        raise InputError("a wish names a label twice", got=text, wanted="every label once")
    return Wish(feature=name.strip(), labels=labels)


def check_wishes(
    keeps: Sequence[Wish],
    changes: Sequence[Wish],
    labels: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Refuse wishes that contradict each other, or ask for what is not read.

    Args:
        keeps: What to keep.
        changes: What to change.
        labels: Feature -> its labels, where they are known.

    Raises:
        InputError: If there is nothing to keep or to change, a feature is in both or twice in one,
            or a feature or label is unknown.
    """
    if not keeps or not changes:
        raise InputError(
            "nothing to advise on",
            got=f"{len(keeps)} to keep, {len(changes)} to change",
            wanted="a feature to keep and one to change",
        )
    names = [wish.feature for wish in (*keeps, *changes)]
    if same := {w.feature for w in keeps} & {w.feature for w in changes}:
        raise InputError(
            "a feature cannot be kept and changed",
            got=", ".join(sorted(same)),
            wanted="two different features",
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(
            "a feature comes twice",
            got=twice[0],
            wanted="every feature once",
            next_step="name all its labels in one: FEATURE=LABEL,LABEL",
        )
    if labels is None:
        return
    for wish in (*keeps, *changes):
        if wish.feature not in labels:
            raise unknown_name("feature", wish.feature, labels)
        if absent := [name for name in wish.labels if name not in labels[wish.feature]]:
            raise unknown_name(f"label of {wish.feature!r}", absent[0], labels[wish.feature])


def events_of(records: Records, keeps: Sequence[Wish], changes: Sequence[Wish]) -> Events:
    """What happened to the edits of some records.

    Args:
        records: Records of forward–reverse, of one reversal.
        keeps: What to keep.
        changes: What to change.

    Returns:
        The events; results that the labeller could not read are failures.

    Raises:
        InputError: If a feature or a label is unknown.
    """
    check_wishes(keeps, changes, {k: c.labels for k, c in records.features.items()})
    counts = np.ones(len(records), dtype=np.bool_)
    kept, changed, silent = counts.copy(), counts.copy(), ~counts
    for wish, is_keep in [*((w, True) for w in keeps), *((w, False) for w in changes)]:
        columns = records.features[wish.feature]
        wanted = np.array([columns.labels.index(name) for name in wish.labels], dtype=int)
        counts &= columns.before >= 0
        is_silent = columns.after < 0
        silent |= is_silent
        if is_keep:
            if len(wanted):
                counts &= np.isin(columns.before, wanted)
                kept &= np.isin(columns.after, wanted)
            else:
                kept &= columns.after == columns.before
        elif len(wanted):
            counts &= ~np.isin(columns.before, wanted)
            changed &= np.isin(columns.after, wanted)
        else:
            changed &= (columns.after != columns.before) & ~is_silent
    valid = np.asarray(records.valid, dtype=np.bool_)
    rows = counts & valid
    names = np.unique(records.source[rows])
    is_one = len(names) == 1
    unit = records.replicate[rows].astype(str) if is_one else records.source[rows]
    outside = len(np.unique(records.source)) - len(np.unique(records.source[counts]))
    return Events(
        level=np.asarray(records.logsnr)[rows],
        cluster=np.unique(unit, return_inverse=True)[1],
        happened={
            "kept": kept[rows],
            "changed": changed[rows],
            "both": (kept & changed)[rows],
        },
        is_one_source=is_one,
        num_invalid=int(np.sum(counts & ~valid)),
        num_abstained=int(np.sum(silent & rows)),
        num_outside=int(outside),
    )


def rates_of(events: Events, rows: NDArray[np.bool_], confidence: float) -> tuple[Rate, ...]:
    """Shares at every level over some of the edits.

    Args:
        events: What happened.
        rows: Which edits, shape ``(N,)``.
        confidence: Of the limits of every share by itself.

    Returns:
        A rate a level, noise growing.
    """
    found: dict[str, list[tuple[float, float, int, int]]] = {key: [] for key in events.happened}
    levels = -np.unique(-events.level[rows])
    for here in levels:
        at = rows & (events.level == here)
        _, owner = np.unique(events.cluster[at], return_inverse=True)
        for key, event in events.happened.items():
            mean = np.bincount(owner, weights=event[at]) / np.bincount(owner)
            num = len(mean)
            spread = float(mean.var(ddof=1)) / num if num > 1 else 0.25
            found[key].append((float(mean.mean()), spread, num, int(at.sum())))
    limits = {}
    for key, values in found.items():
        share, variance, clusters, units = (
            np.array(column) for column in zip(*values, strict=True)
        )
        low, high = proportion_interval(
            share,
            variance,
            num_clusters=clusters,
            num_units=units,
            degrees=float(clusters.min() - 1),
            confidence=confidence,
        )
        limits[key] = [
            (float(a), float(b), float(c)) for a, b, c in zip(share, low, high, strict=True)
        ]
    return tuple(
        Rate(
            logsnr=float(here),
            t=float(ou_time(here)),
            kept=limits["kept"][i],
            changed=limits["changed"][i],
            both=limits["both"][i],
            num_sources=found["both"][i][2],
        )
        for i, here in enumerate(levels)
    )


def full_change(
    records: Records, changes: Sequence[Wish], rates: Sequence[Rate]
) -> tuple[float, str]:
    """Share of edits that change what they should where nothing of it survives.

    Args:
        records: Records, with the model's prior where it is known.
        changes: What to change.
        rates: Shares at the levels.

    Returns:
        The share, and where it comes from.
    """
    is_known = len(changes) == 1 and changes[0].feature in records.priors
    if is_known and changes[0].feature in json.loads(
        str(records.attrs.get("estimated_priors", "[]"))
    ):
        is_known = len(np.unique(records.source)) >= FEWEST
    if is_known:
        wish = changes[0]
        prior = records.priors[wish.feature]
        columns = records.features[wish.feature]
        law = np.array([prior.get(label, 0.0) for label in columns.labels])
        law = law / law.sum()
        _, first = np.unique(records.source, return_index=True)
        before = columns.before[first]
        if wish.labels:
            wanted = [columns.labels.index(label) for label in wish.labels]
            return float(law[wanted].sum()), "the model's own samples"
        return float(np.mean(1.0 - law[before[before >= 0]])), "the model's own samples"
    return max(rate.changed[0] for rate in rates), "the level at which it changes most"
