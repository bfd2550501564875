"""Editing advice: how much noise changes one feature and keeps another.

An edit noises an image to a level and denoises it. At a level it *succeeds* where every feature to
keep has the label it had, and every feature to change has another one (or one of those asked for).
The level is chosen on one half of the sources and its rates are reported on the other half, which
had no part in the choice: the best of many levels looks better than it is on the data that chose
it. With a single source the halves are halves of its replicates, and the rates are those of that
image alone. That no level will do is said only if limits that hold at all levels at once exclude
every one; else the data cannot tell.

Source: Li, Karan & Chen (2025), *Blink of an eye*, sec. 3 (forward–reverse); Meng et al. (2022),
*SDEdit* (edits by noise); Kynkäänniemi et al. (2024), *Applying guidance in a limited interval
improves sample and distribution quality in diffusion models*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from critwin._texts import unknown_name
from critwin.audits._editing_rates import (
    FEWEST,
    Rate,
    Wish,
    check_wishes,
    events_of,
    full_change,
    rates_of,
    wish_of,
)
from critwin.audits._editing_starts import Start, starts_of
from critwin.errors import InputError
from critwin.estimates import plain
from critwin.records import select

if TYPE_CHECKING:
    from critwin.audits.section import Section
    from critwin.audits.strength import Sampler
    from critwin.records import Records

__all__ = [
    "KEPT",
    "Advice",
    "Rate",
    "Start",
    "Wish",
    "advise",
    "check_rates",
    "check_wishes",
    "wish_of",
]

KEPT = 0.8
"""Rate of keeping that an interval of levels promises unless told otherwise."""
_PART = 0.5  # of the change that a fresh sample would give: "resampled" unless told otherwise
_BEGUN = 0.1  # part of the change at which it is being decided

Status = Literal["found", "unsure", "none"]


@dataclass(frozen=True, kw_only=True)
class Advice:
    """At which noise to edit.

    Attributes:
        keep: What should be kept.
        change: What should change.
        status: ``"found"``; ``"none"``: no measured level does both; ``"unsure"``: the data
            cannot tell.
        rates: Shares at every level, all sources, noise growing.
        best: Shares at the chosen level, on the half that did not choose it.
        interval: OU times of the levels around it at which the wanted rates are met; None: none.
        guidance: OU times between which guidance towards the change acts while it is decided and
            what is to be kept is decided already; None where there is no interval.
        starts: How tools are told to start there.
        is_one_source: Whether the rates are those of one image.
        least_kept: Wanted rate of keeping.
        least_changed: Wanted rate of changing.
        least_both: Wanted rate of doing both, their product.
        full_change: Rate of changing where nothing of it survives.
        full_from: Where that comes from.
        reversal: How the edits were denoised.
        condition: Under which condition; None: that of each source.
        confidence: Of the limits.
        num_invalid: Results left out: not finite, or constant.
        num_abstained: Results that the labeller could not read: failures.
        num_outside: Sources left out: without a label, or not of those asked for.
        rerun: Command that does it again.
    """

    keep: tuple[Wish, ...]
    change: tuple[Wish, ...]
    status: Status
    rates: tuple[Rate, ...]
    best: Rate
    interval: tuple[float, float] | None
    guidance: tuple[float, float] | None
    starts: tuple[Start, ...]
    is_one_source: bool
    least_kept: float
    least_changed: float
    least_both: float
    full_change: float
    full_from: str
    reversal: str
    condition: str | None
    confidence: float
    num_invalid: int = 0
    num_abstained: int = 0
    num_outside: int = 0
    rerun: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        out: dict[str, Any] = plain(self)
        out["starts"] = [{**plain(s), "values": dict(s.values)} for s in self.starts]
        return out

    def section(self) -> Section:
        """The section of the report."""
        from critwin.audits._editing_words import section_of_advice

        return section_of_advice(self)


def advise(
    records: Records,
    *,
    keep: Sequence[str | Wish],
    change: Sequence[str | Wish],
    samplers: Sequence[str | Sampler] = (),
    steps: int = 25,
    least_kept: float = KEPT,
    least_changed: float | None = None,
    where: Mapping[str, Any] | None = None,
    confidence: float = 0.95,
    rerun: str = "",
) -> Advice:
    """Find the noise that changes some features and keeps others.

    Args:
        records: Records of forward–reverse.
        keep: Features to keep, ``"digit"`` or ``"digit=8"``.
        change: Features to change, ``"ink"`` or ``"ink=red,blue"``.
        samplers: Presets of :mod:`critwin.audits.strength`, or samplers, whose settings are
            wanted; presets add those of ComfyUI and A1111.
        steps: Steps of the presets.
        least_kept: Rate of keeping that the interval promises.
        least_changed: Rate of changing that it promises; half of what a fresh sample would give
            unless given.
        where: Column -> value that rows must have.
        confidence: Of the limits.
        rerun: Command that does it again, for the report.

    Returns:
        The advice; ``interval`` is None where no level does both, or none is sure to.

    Raises:
        InputError: If a feature or label is unknown, the two are the same, several kinds of
            records would be mixed, or there are too few sources.
    """
    for column, wanted in (where or {}).items():
        value = "" if wanted is None else wanted
        own = records.column(column)
        there = np.unique(own)
        if isinstance(value, str):  # numbers that were written as text
            own = own.astype(np.str_)
        records = select(records, own == value)
        if len(records) == 0:
            names = [str(one) or "none" for one in there.tolist()]
            raise unknown_name(f"value of {column!r}", str(value) or "none", names)
    known = {name: columns.labels for name, columns in records.features.items()}
    keeps, changes = (
        tuple(wish_of(w, known) if isinstance(w, str) else w for w in wishes)
        for wishes in (keep, change)
    )
    _check(records, keeps, changes, least_kept, least_changed, confidence)
    events = events_of(records, keeps, changes)
    num = int(events.cluster.max()) + 1 if len(events.cluster) else 0
    if num < FEWEST:
        what = "replicates of one source" if events.is_one_source else "sources that qualify"
        raise InputError(
            "too few to advise on",
            got=f"{num} {what}",
            wanted=f"at least {FEWEST}",
            next_step="measure more, or ask less of the label before",
        )
    everything = np.ones(len(events.level), dtype=np.bool_)
    chooses = events.cluster % 2 == 0
    whole = rates_of(events, everything, confidence)
    first, second = (rates_of(events, half, confidence) for half in (chooses, ~chooses))
    full, source = full_change(records, changes, whole)
    least = min(_PART * full, 1.0) if least_changed is None else least_changed

    wanted = {"kept": least_kept, "changed": least, "both": least_kept * least}

    def does(rate: Rate, part: int) -> bool:
        """Whether the shares (part 0) or their upper limits (2) are as wanted."""
        return all(getattr(rate, name)[part] >= value for name, value in wanted.items())

    shared = {rate.logsnr for rate in second}
    common = [rate for rate in first if rate.logsnr in shared]
    if not common:
        raise InputError("no level was measured on both halves of the sources")
    pick = max(common, key=lambda rate: (does(rate, 0), rate.both[0])).logsnr
    best = next(rate for rate in second if rate.logsnr == pick)
    # the limits of all rates hold at all levels at once
    tight = rates_of(events, everything, 1.0 - (1.0 - confidence) / (len(wanted) * len(whole)))
    is_possible = any(does(rate, 2) for rate in tight)
    interval = _interval(whole, pick, [does(rate, 0) for rate in whole])
    if not does(best, 2):
        interval = None
    status: Status = "found" if interval else ("unsure" if is_possible else "none")
    guidance = None
    if interval is not None:
        begun = [r.t for r in whole if r.changed[0] >= _BEGUN * full and r.t <= interval[1]]
        guidance = (min(begun, default=interval[0]), interval[1])
    conditions = np.unique(records.condition).tolist()
    return Advice(
        keep=keeps,
        change=changes,
        status=status,
        rates=whole,
        best=best,
        interval=interval,
        guidance=guidance,
        starts=starts_of(pick, whole, interval, guidance, samplers=samplers, steps=steps),
        is_one_source=events.is_one_source,
        least_kept=least_kept,
        least_changed=least,
        least_both=wanted["both"],
        full_change=full,
        full_from=source,
        reversal=str(records.reversal[0]),
        condition=conditions[0] if len(conditions) == 1 else None,
        confidence=confidence,
        num_invalid=events.num_invalid,
        num_abstained=events.num_abstained,
        num_outside=events.num_outside,
        rerun=rerun,
    )


def check_rates(least_kept: float, least_changed: float | None) -> None:
    """Refuse rates that cannot be promised.

    Args:
        least_kept: Rate of keeping.
        least_changed: Rate of changing; None: half of what a fresh sample would give.

    Raises:
        InputError: If one is not in (0, 1].
    """
    for name, rate in (("least_kept", least_kept), ("least_changed", least_changed)):
        if rate is not None and not 0 < rate <= 1:
            raise InputError(
                f"{name} is out of range",
                got=rate,
                wanted="a rate in (0, 1]",
                next_step=f"did you mean {rate / 100:g}?" if 1 < rate <= 100 else None,
            )


def _check(
    records: Records,
    keeps: Sequence[Wish],
    changes: Sequence[Wish],
    least_kept: float,
    least_changed: float | None,
    confidence: float,
) -> None:
    check_wishes(keeps, changes)
    check_rates(least_kept, least_changed)
    if not 0.5 <= confidence < 1:
        raise InputError("confidence is out of range", got=confidence, wanted="in [0.5, 1)")
    kinds = np.unique(records.experiment).tolist()
    if kinds != ["forward_reverse"]:
        raise InputError(
            "advice needs records of forward_reverse",
            got=", ".join(kinds) or "no records",
            wanted="forward_reverse",
        )
    if len(ways := np.unique(records.reversal).tolist()) > 1:
        raise InputError(
            "records of several kinds of reversal would be mixed",
            got=", ".join(ways),
            next_step="choose one with where={'reversal': ...}",
        )
    pairs = np.unique(np.stack([records.source, records.condition], axis=1), axis=0)
    names, times = np.unique(pairs[:, 0], return_counts=True)
    if np.any(times > 1):
        raise InputError(
            "the same source was reversed under several conditions, which would be mixed",
            got=str(names[times > 1][0]),
            next_step="choose one with where={'condition': ...}",
        )


def _interval(
    rates: Sequence[Rate], pick: float, good: Sequence[bool]
) -> tuple[float, float] | None:
    """OU times of the run of good levels around the chosen one."""
    here = next(i for i, r in enumerate(rates) if r.logsnr == pick)
    if not good[here]:
        return None
    low = high = here
    while low > 0 and good[low - 1]:
        low -= 1
    while high + 1 < len(good) and good[high + 1]:
        high += 1
    return rates[low].t, rates[high].t
