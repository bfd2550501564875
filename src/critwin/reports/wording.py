"""How the report says numbers, intervals and names; nothing here computes."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from critwin.reports.svg import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from critwin.estimates import Estimate

__all__ = [
    "count",
    "estimate",
    "interval",
    "listing",
    "number",
    "percent",
    "redact",
    "scrub",
    "the",
]

_MINUS = "\u2212"


def number(value: float | None, *, digits: int = 2) -> str:
    """A number for reading: fixed decimals, or two significant digits where those vanish.

    Args:
        value: The number; None or not finite gives an en dash.
        digits: Decimals.

    Returns:
        Text with a real minus sign.
    """
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1e5 or 0 < size < 10.0**-digits:
        text = f"{value:.2g}"
    else:
        text = f"{value:.{digits}f}"
        if float(text) == 0:
            text = text.lstrip("-")
    return text.replace("-", _MINUS)


def percent(value: float) -> str:
    """A share as a percentage, e.g. ``95 %``."""
    return f"{100 * value:.3g} %"


def interval(value: Estimate, *, digits: int = 2) -> str:
    """The interval of an estimate in words, without the estimate.

    Args:
        value: The estimate.
        digits: Decimals.

    Returns:
        E.g. ``95 % interval 2.61 to 2.79``; one-sided or missing limits are said in words; an
        exact value says so.
    """
    if value.confidence is None:
        return "exact"
    name = f"{percent(value.confidence)} interval"
    low, high = value.low, value.high
    if low is not None and high is not None:
        return f"{name} {number(low, digits=digits)} to {number(high, digits=digits)}"
    if low is not None:
        return f"{name} from {number(low, digits=digits)}, no upper limit"
    if high is not None:
        return f"{name} up to {number(high, digits=digits)}, no lower limit"
    return f"no {name}"


def estimate(value: Estimate | None, *, digits: int = 2) -> str:
    """An estimate with its interval, or why there is none.

    Args:
        value: The estimate; None is an en dash.
        digits: Decimals.

    Returns:
        E.g. ``2.70 (2.61 to 2.79)``, ``2.70 exact``, ``none: above the highest level
        tried (at least 2.1)``.
    """
    if value is None:
        return "–"
    low, high = (number(x, digits=digits) for x in (value.low, value.high))
    if value.value is None:
        limits = ""
        if value.confidence is not None and value.low is not None and value.high is None:
            limits = f" (at least {low})"
        elif value.confidence is not None and value.high is not None and value.low is None:
            limits = f" (at most {high})"
        elif value.confidence is not None and value.high is not None:
            limits = f" ({low} to {high})"
        return f"none: {value.reason or 'unknown'}{limits}"
    text = number(value.value, digits=digits)
    if value.confidence is None:
        return f"{text} exact"
    if value.low is None and value.high is None:
        return f"{text} (no limits)"
    if value.low is None:
        return f"{text} (up to {high})"
    return f"{text} (from {low})" if value.high is None else f"{text} ({low} to {high})"


def the(feature: str) -> str:
    """A feature as a noun phrase: ``the ground``, or quoted where it is no plain word.

    Args:
        feature: Its name.

    Returns:
        E.g. ``the digit``; ``the feature “clip:gender”``.
    """
    name = clean(feature)
    plain = re.fullmatch(r"[A-Za-z][A-Za-z]*(?:[ _-][A-Za-z]+)*", name) is not None
    return f"the {name.replace('_', ' ')}" if plain else f"the feature “{name}”"


def listing(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    names = list(items)
    if len(names) < 2:
        return "".join(names)
    return ", ".join(names[:-1]) + " and " + names[-1]


def count(value: int, noun: str) -> str:
    """``1 source``, ``2 sources``, ``12,000 units``."""
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


_HOME = re.compile(r"(?:/home/|/Users/|[A-Za-z]:\\+Users\\+)[^/\\\s\"']+|/root(?=[/\s\"']|$)")
_TOKEN = re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,})")


def scrub(text: object) -> str:
    """Text for a page that is passed on: no home folders, user names or access tokens.

    Args:
        text: Anything.

    Returns:
        One line without control characters; home folders are ``~``, tokens ``(removed)``.
    """
    return redact(clean(text))


def tie(text: str) -> str:
    """Text whose ``t = 2.70`` and ``95 %`` do not break across lines."""
    return re.sub(r"\bt = (?=[\d.\u2212])", "t\u00a0=\u00a0", text).replace(" %", "\u00a0%")


def redact(text: str) -> str:
    """Text of several lines without home folders, user names or access tokens."""
    return _TOKEN.sub("(removed)", _HOME.sub("~", text))
