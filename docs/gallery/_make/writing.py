"""Entries as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from critwin.theory.families import PublishedTime

from .parts import EPSILON, Entry, Level, Time
from .wording import number, table

__all__ = ["index", "page"]

_SIGN = {"lower": "≥", "upper": "≤", "approximation": "≈"}
_COVERED = r"Of (\d+) exact or computed values that were also measured, (\d+) lie in"
_NOTICE = "<!-- Written by docs/gallery/make.py: change the script, not this page. -->\n\n"

_HELP = """\
## How to read a page

- *Published*: as printed (**published**), what its proof gives or what holds in its place
  (**corrected**), or derived for this package (**derived**). `≥` is a lower bound of the time, `≤`
  an upper one, `≈` an approximation that bounds nothing. Where a formula and its proof differ the
  page says *not a bound here*; the errata are in [families](../theory/families.md).
- *Exact*: closed form, or root finding on a quadrature. A value with an interval is computed from
  quasi-random points.
- *Certificate*: limits that hold without sampling error: brackets of total variation for the times
  by distance; for t_after the leak that a separation allows
  ([distances](../theory/distances.md), eq. (14)); for t_before that it lies between t_after and
  T_before ([windows by distance](../theory/windows_by_distance.md)). Two equal limits are the
  exact value.
- *Measured*: sources drawn, noised and denoised by the exact posterior draw, their component
  counted, with one seed for all pages; intervals as in [windows](../windows.md). Times by distance
  speak of laws and are not read off labels.
- *stay* is the share of S_after that is still in it. *Image* is the distance of the law of the
  images from S_before: its certificate, and the theorem (Li, Karan & Chen 2025, Thm 2) where it
  applies, as published and at its sharpest.

`python docs/gallery/make.py` writes all pages and figures anew; a test compares them with what the
script says. Symbols: [notation](../notation.md). Which of the times to use:
[criteria](../criteria.md).
"""


def page(entry: Entry, output: str) -> str:
    """One entry as a page.

    Args:
        entry: The entry.
        output: What its code prints.

    Returns:
        Markdown.
    """
    unit = "OU times" if entry.unit == "t" else "mask probabilities"
    parts = [
        f"{_NOTICE}# {entry.title}\n\n{entry.story}\n\n",
        f"![{entry.title}: what is kept against noise, and the times of the table]"
        f"({entry.name}.svg)\n\n",
        f"## Times\n\nAt ε = {EPSILON:g}; {unit}. Measured: {entry.num_sources:,} counted "
        "sources, one image each at every level, 95 % intervals.\n\n",
        _times(entry.times),
        "\n",
        _notes(entry.times),
    ]
    if entry.levels:
        parts += ["## At a level\n\n", _levels(entry), "\n"]
    if entry.extra:
        parts.append(f"{entry.extra}\n")
    parts += [
        "## In Python\n\n",
        f"```python\n{entry.code}```\n\nprints\n\n```text\n{output}```\n\n",
        f"## What it shows\n\n{entry.finding} {_coverage(entry.checks)}\n",
    ]
    return "".join(parts)


def index(pages: Mapping[str, str]) -> str:
    """The index of the gallery, from what its pages say.

    Args:
        pages: Name -> text, in the order to be shown.

    Returns:
        Markdown.
    """
    rows, held, num, bounds = [], 0, 0, 0
    for name, text in pages.items():
        said = re.search(_COVERED, text)
        assert said is not None
        held, num = held + int(said[2]), num + int(said[1])
        bounds += len(re.findall(r"[≥≤] [\d.]+ (?:published|corrected|derived)(?!, \*not)", text))
        title = text.partition("\n# ")[2].partition("\n")[0]
        rows.append([f"[{title}]({name}.md)", _window(text), f"{said[2]} of {said[1]}"])
    share = f"{100 * held / num:.0f} %"
    return (
        f"{_NOTICE}# Gallery\n\n"
        "The synthetic experiments of the papers, one page each: *published bound, exact value, "
        "certificate and measured window* side by side.\n\n"
        + table(["experiment", "window, exact", "intervals that hold the exact value"], rows)
        + f"\n{held} of {num} measured 95 % intervals hold the exact (or computed) value "
        f"({share}; those of one page share their sources). {bounds} bounds are proved for their "
        "settings, each on its side of the exact or certified value.\n\n" + _HELP
    )


def _window(text: str) -> str:
    """The operational window of a page, or its midpoints."""
    found = dict(re.findall(r"^\| `(\S+)` \| [^|]* \| ([\d.]+)", text, re.MULTILINE))
    if {"t_after", "t_before"} <= set(found):
        return f"t_after, t_before = {found['t_after']}, {found['t_before']}"
    middles = [value for name, value in found.items() if name.startswith("midpoint")]
    return "midpoints " + ", ".join(middles)


def _times(times: Sequence[Time]) -> str:
    rows = []
    for time in times:
        rows.append(
            [
                f"`{time.symbol}`",
                "<br>".join(_published(p) for p in time.published) or "–",
                _value(time),
                _limits(time),
                _measured(time),
            ]
        )
    return table(["time", "published", "exact", "certificate (lower, upper)", "measured"], rows)


def _published(p: PublishedTime) -> str:
    if p.value is None:
        return f"no value, {p.kind}"
    says = f"{_SIGN[p.bound]} {number(p.value)} {p.kind}"
    if p.bound != "approximation" and not p.is_valid_bound:
        says += ", *not a bound here*"
    return says


def _value(time: Time) -> str:
    if time.value is None or time.spread is None:
        return number(time.value)
    return f"{number(time.value)} ({number(time.spread[0])} to {number(time.spread[1])})"


def _limits(time: Time) -> str:
    if time.low is None and time.high is None:
        return "–"
    return f"{number(time.low)}, {number(time.high)}"


def _measured(time: Time) -> str:
    found = time.measured
    if found is None:
        return time.why
    if found.value is None:
        return f"none: {found.reason}"
    return f"{number(found.value)} ({number(found.low)} to {number(found.high)})"


def _notes(times: Sequence[Time]) -> str:
    """What each time is, and what to know of its formulas."""
    lines = []
    for time in times:
        line = f"- `{time.symbol}`: {time.meaning}."
        for p in time.published:
            source = "" if p.source.startswith("derived in") else f" ({p.source})"
            if p.note:
                line += f" {_SIGN[p.bound]} {number(p.value)}{source}: {p.note}."
        lines.append(line + "\n")
    return "".join(lines) + "\n"


def _levels(entry: Entry) -> str:
    levels = entry.levels
    has_image = any(level.image is not None for level in levels)
    has_print = any(level.published is not None for level in levels)
    has_limits = any(level.certified is not None for level in levels)
    head = ["t"]
    head += ["published"] if has_print else []
    head += [f"stay of {entry.what}, exact"]
    head += ["certificate (lower, upper)"] if has_limits else []
    head += ["measured"]
    head += ["image: certificate (lower, upper)", "image: theorem"] if has_image else []
    return table(head, [_level(x, has_print, has_limits, has_image) for x in levels])


def _level(level: Level, has_print: bool, has_limits: bool, has_image: bool) -> list[str]:
    cells = [f"{level.t:.3f}"]
    if has_print:
        cells.append(
            "–" if level.published is None else "{:.4f} ± {:.4f}".format(*level.published)
        )
    cells.append(number(level.stay))
    if has_limits:
        cells.append("–" if level.certified is None else "{:.4f}, {:.4f}".format(*level.certified))
    cells.append("{:.4f} ({:.4f} to {:.4f})".format(*level.measured))
    if has_image:
        cells.append("–" if level.image is None else "{:.4f}, {:.4f}".format(*level.image))
        cells.append(
            "–" if level.theorem is None else "≤ {:.4f}; sharper {:.4f}".format(*level.theorem)
        )
    return cells


def _coverage(checks: Sequence[bool]) -> str:
    return (
        f"Of {len(checks)} exact or computed values that were also measured, {sum(checks)} lie in "
        "their 95 % interval."
    )
