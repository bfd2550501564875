"""Text files of others: TOML and UTF-8, and the words for what is wrong with them."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from critwin.errors import InputError

__all__ = ["SIZE_LIMIT", "bad_byte", "did_you_mean", "plain_number", "read_toml", "some_of"]

SIZE_LIMIT = 1_000_000
"""Largest TOML file that is read, bytes."""


def read_toml(path: str | Path, *, kind: str, wanted: str, next_step: str) -> dict[str, Any]:
    """The content of a TOML file.

    Args:
        path: The file.
        kind: What it is, e.g. ``"experiment file"``.
        wanted: What the file should be.
        next_step: What to do where there is no such file.

    Returns:
        What the TOML says.

    Raises:
        InputError: If it cannot be read, is too large, no UTF-8 or no TOML.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            data = stream.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise InputError(
            f"cannot read the {kind}",
            got=f"{path} ({error.strerror or type(error).__name__})",
            wanted=wanted,
            next_step=next_step,
        ) from error
    if len(data) > SIZE_LIMIT:
        raise InputError(f"{file.name} is too large for the {kind}", wanted="at most 1 MB")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{file.name} is not UTF-8 text",
            got=f"{bad_byte(error)} in line {line}",
            wanted=f"{wanted} in UTF-8",
            next_step="save it as UTF-8",
        ) from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is a ValueError
        got = str(error)
        if isinstance(error, RecursionError):
            got = "tables or lists that are nested too deeply"
        elif not isinstance(error, tomllib.TOMLDecodeError):
            got = "a number of thousands of digits"
        raise InputError(
            f"{file.name} is not valid TOML",
            got=got,
            wanted="lines KEY = VALUE under [SECTION] headings",
            next_step="mend that place",
        ) from error


def bad_byte(error: UnicodeDecodeError) -> str:
    """The byte that is no UTF-8, in words.

    Args:
        error: What decoding raised.

    Returns:
        E.g. ``"the byte 0xff"``.
    """
    return f"the byte 0x{error.object[error.start]:02x}"


def plain_number(value: float, *, digits: int = 3) -> str:
    """A number as people write it, never ``1e+03``.

    Args:
        value: The number.
        digits: Significant digits of a number that is not whole.

    Returns:
        E.g. ``"1000000"``, ``"0.2"``, ``"1235"``.
    """
    if abs(value) < 1e15 and (value == round(value) or abs(value) >= 10**digits):
        return f"{value:.0f}"
    return f"{value:.{digits}g}"


def some_of(names: Sequence[str], most: int = 12) -> str:
    """Names by commas, for a message; a long list is cut and its length told.

    Args:
        names: The names.
        most: Number of names that are shown.

    Returns:
        The text.
    """
    if len(names) <= most:
        return ", ".join(names)
    return ", ".join(names[:most]) + f", … ({len(names):,} in all)"


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The question that a name close to a known one raises.

    Args:
        name: What was given.
        known: What is known.

    Returns:
        E.g. ``"did you mean 'mean'?"``; None where nothing is close.
    """
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1)
    return f"did you mean {by_lower[close[0]]!r}?" if close else None


def unknown_name(what: str, name: str, known: Iterable[str], *, more: str = "") -> InputError:
    """The mistake of naming something that there is not.

    Args:
        what: What was named: ``"feature"``, ``"label of 'ink'"``.
        name: The name that was given.
        known: The names that there are.
        more: What else would have been accepted, after them.

    Returns:
        The error, to be raised: what there is, and which of it is close.
    """
    names = [str(one) for one in known]
    close = difflib.get_close_matches(str(name), names, n=1)
    return InputError(
        f"unknown {what}",
        got=name or "an empty name",
        wanted=(f"one of {some_of(names)}" if names else "none: there is none") + more,
        next_step=f"did you mean {close[0]!r}?" if close else None,
    )
