"""What commands print: plain lines without control characters, or one JSON document."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "interactive",
    "note",
    "plain",
    "print_json",
    "printable",
    "say",
    "table",
    "terminal_width",
]


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


def table(rows: Sequence[tuple[str, ...]], *, indent: str = "", width: int | None = None) -> str:
    """Rows as aligned columns, or as blocks of lines where the terminal is too narrow for them.

    Args:
        rows: Cells; all rows equally long.
        indent: In front of each row.
        width: Columns of the terminal, if the first row holds the titles and the table may become
            a block ``title: cell`` for each row; None: always columns.

    Returns:
        Lines of text.
    """
    if not rows:
        return ""
    cells = [[printable(cell).replace("\n", "\\n") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        (indent + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True))).rstrip()
        for row in cells
    ]
    if width is None or max(len(line) for line in lines) <= width:
        return "\n".join(lines)
    titles = [title.strip() for title in cells[0]]
    return "\n\n".join(
        "\n".join(f"{indent}{t}: {c.strip()}" for t, c in zip(titles, row, strict=True))
        for row in cells[1:]
    )


def terminal_width() -> int | None:
    """Columns of the terminal that standard output goes to; None for a file or a pipe."""
    if not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def interactive() -> bool:
    """Whether a person watches: output that goes to a file or a pipe has no bar."""
    return sys.stdout.isatty() and sys.stderr.isatty()
