"""The result in a sentence or two, from the windows alone; the command line says the same words.

The wording is as sure as the intervals: an order is claimed only where the difference of the
midpoints is settled, an edge that the levels do not reach is said to lie outside of them, and a
curve that may be flat is not called a window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from critwin.estimates import ABOVE, BELOW, Estimate
from critwin.reports.wording import count, interval, listing, number, the

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from critwin.windows import CriticalWindow

__all__ = ["Headline", "decision_order", "headline", "summarize"]

Gaps = Mapping[tuple[str, str], Estimate]


@dataclass(frozen=True, kw_only=True)
class Headline:
    """What a run found, in words.

    Attributes:
        sentence: The finding.
        caveats: What must be said with it: unsettled orders, missing midpoints, missing windows.
    """

    sentence: str
    caveats: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.sentence, *self.caveats))


def headline(windows: Mapping[str, CriticalWindow], *, gaps: Gaps | None = None) -> str:
    """The result in plain English.

    Args:
        windows: Feature -> its window.
        gaps: Pairs of features (earlier decided first) -> difference of their midpoints in OU
            time, first minus second, paired by source. Without it the order of two features
            counts as settled where their intervals do not overlap.

    Returns:
        A few sentences, e.g. ``The ground is decided at t = 2.70 (95 % interval 2.61 to 2.79)``…
    """
    return str(summarize(windows, gaps=gaps))


def summarize(windows: Mapping[str, CriticalWindow], *, gaps: Gaps | None = None) -> Headline:
    """As :func:`headline`, finding and caveats apart.

    Args:
        windows: Feature -> its window.
        gaps: As in :func:`headline`.

    Returns:
        The words.
    """
    if not windows:
        return Headline(sentence="No window could be computed.")
    found = [name for name in decision_order(windows) if _is_found(windows[name])]
    caveats: list[str] = []
    if not found:
        sentence = "No feature has a midpoint that these levels can show."
    else:
        sentence, order = _decided(found, windows, gaps)
        caveats += order
    for name, window in windows.items():
        if window.criterion == "kept" and not _is_found(window):
            caveats.append(_missing(name, window))
        elif window.criterion != "kept":
            caveats.append(_pair(name, window))
    caveats += _notes(windows.values())
    if not found and any(window.criterion != "kept" for window in windows.values()):
        return Headline(sentence=caveats[0], caveats=tuple(caveats[1:]))
    return Headline(sentence=sentence, caveats=tuple(caveats))


def decision_order(windows: Mapping[str, CriticalWindow]) -> list[str]:
    """Features in the order in which generation decides them, as far as it is known.

    Args:
        windows: Feature -> its window.

    Returns:
        Names: largest midpoint first. A midpoint above the levels comes before all, one below
        them after all, one that is missing for another reason last.
    """

    def place(name: str) -> tuple[int, float]:
        window = windows[name]
        middle = None if window.midpoint is None else window.midpoint.t
        if middle is None or (window.test is not None and not window.test.is_present):
            return (3, 0.0)
        if middle.value is not None:
            return (1, -middle.value)
        return ({ABOVE: 0, BELOW: 2}.get(middle.reason or "", 3), 0.0)

    return sorted(windows, key=place)


def _is_found(window: CriticalWindow) -> bool:
    return (
        window.criterion == "kept"
        and window.midpoint is not None
        and window.midpoint.t.value is not None
        and (window.test is None or window.test.is_present)
    )


def _at(name: str, windows: Mapping[str, CriticalWindow], *, after: str | None = None) -> str:
    """``t = 2.70 (95 % interval 2.61 to 2.79)``; after a like one the name is left out."""
    middle = windows[name].midpoint
    assert middle is not None
    words = interval(middle.t)
    if after is not None and None not in (middle.t.confidence, middle.t.low, middle.t.high):
        first = windows[after].midpoint
        is_alike = first is not None and first.t.confidence == middle.t.confidence
        if is_alike and first is not None and None not in (first.t.low, first.t.high):
            words = f"{number(middle.t.low)} to {number(middle.t.high)}"
    return f"t = {number(middle.t.value)} ({words})"


def _decided(
    found: Sequence[str], windows: Mapping[str, CriticalWindow], gaps: Gaps | None
) -> tuple[str, list[str]]:
    if len(found) == 1:
        return f"{_capital(the(found[0]))} is decided at {_at(found[0], windows)}.", []
    unsettled = [
        (a, b)
        for k, a in enumerate(found)
        for b in found[k + 1 :]
        if not _is_settled(a, b, windows, gaps)
    ]
    if not unsettled:
        middle = "".join(
            f", then {the(name)} at {_at(name, windows, after=found[0])}" for name in found[1:-1]
        )
        join = ", and last" if middle else ", then"
        return (
            f"Generating from noise, the model decides {the(found[0])} first, at "
            f"{_at(found[0], windows)}{middle}{join} {the(found[-1])} at "
            f"{_at(found[-1], windows, after=found[0])}.",
            [],
        )
    rest = [f"{the(name)} at {_at(name, windows, after=found[0])}" for name in found[1:]]
    first = f"{_capital(the(found[0]))} is decided at {_at(found[0], windows)}"
    sentence = f"{listing([first, *rest])}."
    total = len(found) * (len(found) - 1) // 2
    if len(unsettled) == total and total > 1:
        return sentence, ["Which of them is decided first is not settled."]
    return sentence, [
        f"Which of {the(a)} and {the(b)} is decided first is not settled"
        + (
            f": their midpoints differ by {number(gap.value)} ({interval(gap)})."
            if gaps is not None and (gap := gaps.get((a, b))) is not None
            else ": their intervals overlap."
        )
        for a, b in unsettled
    ]


def _is_settled(a: str, b: str, windows: Mapping[str, CriticalWindow], gaps: Gaps | None) -> bool:
    """Whether ``a`` is surely decided before ``b``, that is, at a larger t."""
    if gaps is not None and (gap := gaps.get((a, b))) is not None:
        if gap.confidence is None:
            return gap.value is not None and gap.value > 0
        return gap.low is not None and gap.low > 0
    first, second = windows[a].midpoint, windows[b].midpoint
    assert first is not None
    assert second is not None
    if first.t.low is None or second.t.high is None:
        return False
    return first.t.low > second.t.high


def _missing(name: str, window: CriticalWindow) -> str:
    subject = _capital(the(name))
    if window.test is not None and not window.test.is_present:
        return f"For {the(name)} no window is established: {window.test.reason}."
    middle = None if window.midpoint is None else window.midpoint.t
    if middle is None or middle.reason is None:
        return f"{subject} has no midpoint: {'; '.join(window.notes) or 'unknown'}."
    if middle.reason == ABOVE:
        bound = _bound(middle.low, "above", middle)
        return (
            f"More than half of {the(name)} is still kept at the highest noise tried, so it is "
            f"decided above it{bound}."
        )
    if middle.reason == BELOW:
        bound = _bound(middle.high, "below", middle)
        return (
            f"More than half of {the(name)} is lost at the lowest noise tried, so it is decided "
            f"below it{bound}."
        )
    return f"{subject} has no midpoint: {middle.reason}."


def _bound(limit: float | None, side: str, middle: Estimate) -> str:
    if limit is None or middle.confidence is None:
        return ""
    # one end of a two-sided interval errs half as often
    sure = number(100 * (0.5 + middle.confidence / 2), digits=1).removesuffix(".0")
    return f" ({side} t = {number(limit)} with {sure} % confidence)"


def _pair(name: str, window: CriticalWindow) -> str:
    """An operational window or one by distance."""
    labels = listing(window.after) if window.after else "the chosen labels"
    verb = "is" if window.after and len(window.after) == 1 else "are"
    parts = []
    for edge, words in (
        (window.t_after, f"{verb} kept up to"),
        (window.t_before, f"{verb} no longer told from the rest beyond"),
    ):
        if edge is None:
            continue
        if edge.t.value is None:
            parts.append(f"{words} no level that can be named ({edge.t.reason})")
        else:
            parts.append(f"{words} t = {number(edge.t.value)} ({interval(edge.t)})")
    tolerance = "" if window.epsilon is None else f" at tolerance {window.epsilon:g}"
    return f"For {the(name)}, {labels} {' and '.join(parts) or 'has no edge'}{tolerance}."


def _notes(windows: Iterable[CriticalWindow]) -> list[str]:
    singles = [w for w in windows if w.num_sources == 1]
    if singles:
        return [
            f"All of this comes from {count(1, 'source')}: intervals speak of its replicates, not "
            "of other samples of the model."
        ]
    return []


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
