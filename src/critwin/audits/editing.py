"""Editing advice: how much noise changes one feature and keeps another.

An edit noises an image to a level and denoises it. At a level it *succeeds* where every feature to
keep has the label it had, and every feature to change has another one (or one of those asked for).
The level is chosen on one half of the sources and its rates are reported on the other half, which
had no part in the choice: the best of many levels looks better than it is on the data that chose
it. With a single source the halves are halves of its replicates, and the rates are those of that
image alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._intervals import proportion_interval
from critwin.audits.section import Figure, Section, Series, Table
from critwin.audits.strength import sampler
from critwin.errors import InputError
from critwin.estimates import plain
from critwin.levels import ou_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.records import Records

__all__ = ["Advice", "Rate", "Wish", "advise", "wish_of"]

KEPT, CHANGED = 0.8, 0.5
"""Rates of keeping and changing that an interval of levels promises unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What should become of a feature.

    Attributes:
        feature: Its name.
        labels: To keep: the labels of which it must have had one. To change: those that it may
            take. Empty: any.
    """

    feature: str
    labels: tuple[str, ...] = ()


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
    kept: tuple[float, float, float]
    changed: tuple[float, float, float]
    both: tuple[float, float, float]
    num_sources: int


@dataclass(frozen=True, kw_only=True)
class Advice:
    """At which noise to edit.

    Attributes:
        keep: What should be kept.
        change: What should change.
        rates: Shares at every level, all sources, noise growing.
        best: Shares at the chosen level, on the half that did not choose it.
        interval: OU times of the levels around it at which the wanted rates are met; None: none.
        starts: How tools are told to start there.
        is_one_source: Whether the rates are those of one image.
        least_kept: Wanted rate of keeping.
        least_changed: Wanted rate of changing.
        confidence: Of the limits.
        rerun: Command that does it again.
    """

    keep: tuple[Wish, ...]
    change: tuple[Wish, ...]
    rates: tuple[Rate, ...]
    best: Rate
    interval: tuple[float, float] | None
    starts: tuple[Mapping[str, Any], ...]
    is_one_source: bool
    least_kept: float
    least_changed: float
    confidence: float
    rerun: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        out: dict[str, Any] = plain(self)
        return out

    def section(self) -> Section:
        """The section of the report."""
        keep, change = (
            " and ".join(_named(w) for w in wishes) for wishes in (self.keep, self.change)
        )
        b = self.best
        rates = (
            f"{_percent(b.both)} of edits from t = {b.t:.2f} keep {keep} and change {change} "
            f"({_percent(b.kept)} keep, {_percent(b.changed)} change)"
        )
        wanted = f"keeps at least {self.least_kept:.0%} and changes at least "
        wanted += f"{self.least_changed:.0%}"
        answer = (
            f"No level {wanted}; the best does this: {rates}."
            if self.interval is None
            else f"Edit from t = {self.interval[0]:.2f} to {self.interval[1]:.2f}: {rates}."
        )
        t = tuple(rate.t for rate in self.rates)
        series = tuple(
            Series(
                name=name,
                x=t,
                y=tuple(getattr(r, key)[0] for r in self.rates),
                low=tuple(getattr(r, key)[1] for r in self.rates),
                high=tuple(getattr(r, key)[2] for r in self.rates),
            )
            for name, key in ((f"keep {keep}", "kept"), (f"change {change}", "changed"),
                              ("both", "both"))
        )  # fmt: skip
        spans = () if self.interval is None else (("advised", *self.interval),)
        who = "of this one image" if self.is_one_source else "over sources"
        return Section(
            name="editing",
            title="Editing strength",
            question=f"How much noise changes {change} and keeps {keep}?",
            answer=answer,
            details=(
                f"Rates are {who}, with {self.confidence:.0%} limits; the level was chosen on one "
                "half and its rates are those of the other half.",
            ),
            figures=(
                Figure(
                    kind="curves",
                    title="What an edit keeps and changes",
                    x="OU time t",
                    y="share",
                    series=series,
                    spans=spans,
                ),
            ),
            tables=(
                Table(
                    name="editing-rates",
                    columns=("t", "logsnr", "kept", "changed", "both", "both low", "both high"),
                    rows=tuple(
                        (r.t, r.logsnr, r.kept[0], r.changed[0], *r.both) for r in self.rates
                    ),
                ),
                *(
                    (
                        Table(
                            name="editing-starts",
                            columns=tuple(self.starts[0]),
                            rows=tuple(tuple(row.values()) for row in self.starts),
                        ),
                    )
                    if self.starts
                    else ()
                ),
            ),
            limits=(
                "The labels are a labeller's readings; what it does not read may change unseen.",
                "Rates hold for images like the sources, this model, and the way it was reversed.",
            ),
            rerun=self.rerun,
        )


def wish_of(text: str) -> Wish:
    """A wish from ``FEATURE`` or ``FEATURE=LABEL,LABEL``.

    Args:
        text: The text.

    Returns:
        The wish.

    Raises:
        InputError: If it names no feature or an empty label.
    """
    name, has_labels, rest = text.partition("=")
    labels = tuple(part.strip() for part in rest.split(",")) if has_labels else ()
    if not name.strip() or (has_labels and not all(labels)):
        raise InputError("not a wish", got=text, wanted="FEATURE or FEATURE=LABEL,LABEL")
    return Wish(feature=name.strip(), labels=labels)


def advise(
    records: Records,
    *,
    keep: Sequence[str | Wish],
    change: Sequence[str | Wish],
    presets: Sequence[str] = (),
    steps: int = 25,
    least_kept: float = KEPT,
    least_changed: float = CHANGED,
    confidence: float = 0.95,
    rerun: str = "",
) -> Advice:
    """Find the noise that changes some features and keeps others.

    Args:
        records: Records of forward–reverse.
        keep: Features to keep, ``"digit"`` or ``"digit=8"``.
        change: Features to change, ``"ink"`` or ``"ink=red,blue"``.
        presets: Presets of :mod:`critwin.audits.strength` whose strengths are wanted.
        steps: Steps of those samplers.
        least_kept: Rate of keeping that the interval promises.
        least_changed: Rate of changing that it promises.
        confidence: Of the limits.
        rerun: Command that does it again, for the report.

    Returns:
        The advice; ``interval`` is None where no level does both.

    Raises:
        InputError: If a feature or label is unknown, the two are the same, or there are too few
            sources.
    """
    keeps = tuple(wish_of(w) if isinstance(w, str) else w for w in keep)
    changes = tuple(wish_of(w) if isinstance(w, str) else w for w in change)
    if not keeps or not changes:
        raise InputError("nothing to advise on", wanted="a feature to keep and one to change")
    if same := {w.feature for w in keeps} & {w.feature for w in changes}:
        raise InputError("a feature cannot be kept and changed", got=", ".join(sorted(same)))
    for name, rate in (("least_kept", least_kept), ("least_changed", least_changed)):
        if not 0 < rate <= 1:
            raise InputError(f"{name} is out of range", got=rate, wanted="a rate in (0, 1]")
    if len(kinds := np.unique(records.experiment).tolist()) > 1 or kinds != ["forward_reverse"]:
        raise InputError(
            "advice needs records of forward_reverse", got=", ".join(kinds) or "no records"
        )
    kept, changed, usable = _events(records, keeps, changes)
    source, names = records.source[usable], np.unique(records.source[usable])
    is_one = len(names) == 1
    unit = records.replicate[usable].astype(str) if is_one else source
    _, cluster = np.unique(unit, return_inverse=True)
    num = int(cluster.max()) + 1 if len(cluster) else 0
    if num < 8:
        raise InputError(
            "too few to advise on",
            got=f"{num} {'replicates of one source' if is_one else 'sources'} that qualify",
            wanted="at least 8",
            next_step="measure more, or ask less of the label before",
        )
    level = np.asarray(records.logsnr)[usable]
    both = kept & changed
    events = {"kept": kept[usable], "changed": changed[usable], "both": both[usable]}
    chooses = cluster % 2 == 0
    whole = _rates(level, cluster, events, np.ones(len(level), dtype=bool), confidence)
    first = _rates(level, cluster, events, chooses, confidence)
    second = _rates(level, cluster, events, ~chooses, confidence)
    common = [i for i, r in enumerate(first) if any(s.logsnr == r.logsnr for s in second)]
    if not common:
        raise InputError("no level was measured on both halves of the sources")
    pick = first[max(common, key=lambda i: first[i].both[0])].logsnr
    best = next(rate for rate in second if rate.logsnr == pick)
    interval = _interval(whole, pick, least_kept, least_changed)
    if best.kept[2] < least_kept or best.changed[2] < least_changed:
        interval = None
    return Advice(
        keep=keeps,
        change=changes,
        rates=whole,
        best=best,
        interval=interval,
        starts=tuple(_start(preset, steps, pick) for preset in presets),
        is_one_source=is_one,
        least_kept=least_kept,
        least_changed=least_changed,
        confidence=confidence,
        rerun=rerun,
    )


def _events(
    records: Records, keeps: Sequence[Wish], changes: Sequence[Wish]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Rows in which all is kept, all is changed, and rows that count."""
    usable = np.asarray(records.valid, dtype=bool).copy()
    kept, changed = np.ones(len(records), dtype=bool), np.ones(len(records), dtype=bool)
    for wish, is_keep in [(w, True) for w in keeps] + [(w, False) for w in changes]:
        if wish.feature not in records.features:
            raise InputError(
                "unknown feature",
                got=wish.feature,
                wanted="one of " + ", ".join(records.features),
            )
        columns = records.features[wish.feature]
        if unknown := [name for name in wish.labels if name not in columns.labels]:
            raise InputError(
                f"unknown label of {wish.feature!r}",
                got=unknown[0],
                wanted="one of " + ", ".join(columns.labels),
            )
        wanted = np.array([columns.labels.index(name) for name in wish.labels], dtype=int)
        usable &= (columns.before >= 0) & (columns.after >= 0)
        if is_keep:
            if len(wanted):
                usable &= np.isin(columns.before, wanted)
            kept &= columns.after == columns.before
        elif len(wanted):
            usable &= ~np.isin(columns.before, wanted)
            changed &= np.isin(columns.after, wanted)
        else:
            changed &= columns.after != columns.before
    return kept, changed, usable


def _rates(
    level: NDArray[np.float64],
    cluster: NDArray[np.int64],
    events: Mapping[str, NDArray[np.bool_]],
    rows: NDArray[np.bool_],
    confidence: float,
) -> tuple[Rate, ...]:
    """Shares at every level over some rows, noise growing."""
    found: dict[str, list[tuple[float, float, int, int]]] = {key: [] for key in events}
    levels = -np.unique(-level[rows])
    for here in levels:
        at = rows & (level == here)
        _, owner = np.unique(cluster[at], return_inverse=True)
        for key, event in events.items():
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


def _interval(
    rates: Sequence[Rate], pick: float, least_kept: float, least_changed: float
) -> tuple[float, float] | None:
    """OU times of the run of levels around the chosen one that meet both rates."""
    good = [r.kept[0] >= least_kept and r.changed[0] >= least_changed for r in rates]
    here = next(i for i, r in enumerate(rates) if r.logsnr == pick)
    if not good[here]:
        return None
    low = high = here
    while low > 0 and good[low - 1]:
        low -= 1
    while high + 1 < len(good) and good[high + 1]:
        high += 1
    return rates[low].t, rates[high].t


def _start(preset: str, steps: int, logsnr: float) -> dict[str, Any]:
    """How a diffusers image-to-image call starts nearest to a level."""
    chosen = sampler(preset, steps=steps)
    step = chosen.nearest(logsnr)
    effective = float(chosen.logsnr[step])
    return {
        "preset": preset,
        "scheduler": chosen.name,
        "steps": steps,
        "start step": step,
        "strength": chosen.strength(step),
        "t wanted": float(ou_time(logsnr)),
        "t effective": float(ou_time(effective)),
        "logsnr effective": effective,
    }


def _named(wish: Wish) -> str:
    return f"the {wish.feature}" + (f" ({', '.join(wish.labels)})" if wish.labels else "")


def _percent(rate: tuple[float, float, float]) -> str:
    return f"{rate[0]:.0%} [{rate[1]:.0%}, {rate[2]:.0%}]"
