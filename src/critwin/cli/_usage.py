"""What is wrong with an option or an argument, in the project's words."""

from __future__ import annotations

from typing import Any

from critwin._texts import plain_number
from critwin.errors import InputError

__all__ = ["usage_error"]

_WANTED = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def usage_error(error: Any) -> InputError:
    """An error of typer as one of critwin's: what, got, wanted, next.

    Args:
        error: A usage error that typer raised.

    Returns:
        The error to print; its last words name the help of the command.
    """
    context = getattr(error, "ctx", None)
    place = context.command_path if context else "critwin"
    see = f"see: {place} --help"
    text = " ".join(str(error.format_message()).split()).rstrip(".")
    found = _found(error)
    if found is None:
        return InputError(text, next_step=see)
    kind, value, limits = found
    wanted = _WANTED.get(kind)
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        wanted = f"{words} {plain_number(limits[name])}"
    if wanted is None:
        return InputError(text, got=value, next_step=see)
    return InputError(text.partition(": ")[0], got=value, wanted=wanted, next_step=see)


def _found(error: Any) -> tuple[str, Any, dict[str, Any]] | None:
    """Kind, value and limits of the check that failed; None if typer does not tell."""
    details = getattr(error.__cause__, "errors", None)
    if details is None:
        return None
    item = details()[0]
    return item["type"], item["input"], item.get("ctx", {})
