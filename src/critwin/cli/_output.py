"""What commands print: plain lines without control characters, or one JSON document."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["interactive", "note", "plain", "print_json", "printable", "say", "table"]


def printable(text: str) -> str:
    """Text without control characters, which could command the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def say(text: str = "") -> None:
    """Print lines of a result."""
    sys.stdout.write(printable(text) + "\n")


def note(text: str) -> None:
    """Print a line about the work, not part of the result, on standard error."""
    sys.stderr.write(f"critwin: {printable(text)}\n")
    sys.stderr.flush()


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON document; numbers that are not finite become null.

    Args:
        value: Plain values, possibly nested.
    """
    text = json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=True)
    sys.stdout.write(text + "\n")


def plain(value: Any) -> Any:
    """Nested values as JSON has them.

    Args:
        value: Mappings, sequences, NumPy values, paths, numbers, text.

    Returns:
        Dictionaries, lists, numbers, text and None.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def table(rows: Sequence[tuple[str, ...]], *, indent: str = "") -> str:
    """Rows as aligned columns.

    Args:
        rows: Cells; all rows equally long.
        indent: In front of each row.

    Returns:
        Lines of text.
    """
    if not rows:
        return ""
    widths = [max(len(printable(row[i])) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        (
            indent + "  ".join(printable(c).ljust(w) for c, w in zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def interactive() -> bool:
    """Whether a person watches: output that goes to a file or a pipe has no bar."""
    return sys.stdout.isatty() and sys.stderr.isatty()
