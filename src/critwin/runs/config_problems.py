"""What is wrong with the entries of an experiment file, in the project's words, one line."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from critwin._texts import plain_number
from critwin.errors import ConfigError

__all__ = ["MEANING", "Located", "Problem", "conclude", "problem_of"]


class Located(ValueError):
    """A problem of one key, raised by a check of its whole section."""

    def __init__(
        self, key: str, problem: str, *, wanted: str | None = None, next_step: str | None = None
    ) -> None:
        super().__init__(problem)
        self.key = key
        self.wanted = wanted
        self.next_step = next_step


class Problem(ConfigError):
    """One entry that is not valid.

    ``meant`` is the entry that a misspelt one probably stands for.
    """

    meant: str | None = None
    is_missing = False


def conclude(problems: Sequence[Problem]) -> ConfigError:
    """One error for all problems of a file.

    Args:
        problems: At least one.

    Returns:
        The error: misspelt entries first, and what is missing only because of them left out.
    """
    meant = {problem.meant for problem in problems}
    left = [p for p in problems if not (p.is_missing and p.key in meant)]
    left.sort(key=lambda problem: problem.meant is None)
    return _ManyConfigErrors(left) if len(left) > 1 else left[0]


class _ManyConfigErrors(ConfigError):
    """Several problems of one file in one line: the first, and the entries of the others."""

    def __init__(self, problems: list[Problem]) -> None:
        first, *others = problems
        super().__init__(first.key, first.what)
        self.problems = tuple(problems)
        shown = ", ".join(problem.key for problem in others[:5]) + (", …" if others[5:] else "")
        self.args = (f"{first}; and {len(others)} more: {shown}",)


MEANING = {
    "model": "a section [model] with a name",
    "levels": "a section [levels]",
    "feature": "at least one section [[feature]] with a name",
    "name": "a name",
}

_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "tuple_type": "a list",
    "list_type": "a list",
}


def problem_of(
    item: Mapping[str, Any], known_keys: Callable[[Sequence[int | str]], list[str]]
) -> Problem:
    """One problem that pydantic found, in the project's words.

    Args:
        item: The problem.
        known_keys: Names of the keys of the section at a place.

    Returns:
        The problem.
    """
    place = ["".join(c for c in str(part) if c.isprintable())[:80] for part in item["loc"]]
    context, kind, value = item.get("ctx", {}), item["type"], item["input"]
    if kind == "extra_forbidden":
        known = known_keys(item["loc"][:-1])
        close = difflib.get_close_matches(place[-1], known, n=1)
        problem = Problem(
            ".".join(place),
            "unknown key",
            wanted="one of " + ", ".join(known),
            next_step=f"did you mean {close[0]!r}?" if close else None,
        )
        if close:
            problem.meant = ".".join([*place[:-1], close[0]])
        return problem
    if kind == "missing":
        problem = Problem(".".join(place), "missing", wanted=_meaning(place))
        problem.is_missing = True
        return problem
    if kind == "value_error":
        error = context.get("error")
        if isinstance(error, Located):
            return Problem(
                ".".join([*place, error.key]),
                str(error),
                wanted=error.wanted,
                next_step=error.next_step,
            )
        return Problem(".".join(place), str(error), got=value)
    if kind == "literal_error":
        wanted = "one of " + context["expected"].replace("'", "").replace(" or ", ", ")
        choices = wanted.removeprefix("one of ").split(", ")
        close = difflib.get_close_matches(str(value), choices, n=1)
        return Problem(
            ".".join(place),
            "not one of the choices",
            got=value,
            wanted=wanted if len(choices) > 1 else choices[0],
            next_step=f"did you mean {close[0]!r}?" if close and len(choices) > 1 else None,
        )
    bounds = {"greater_than_equal": "ge", "less_than_equal": "le", "less_than": "lt"}
    if kind in bounds:
        words = {"ge": "at least", "le": "at most", "lt": "less than"}[bounds[kind]]
        return Problem(
            ".".join(place),
            "out of range",
            got=value,
            wanted=f"{words} {plain_number(context[bounds[kind]])}",
        )
    if kind in ("too_short", "string_too_short"):
        return Problem(".".join(place), "empty", wanted=_meaning(place))
    return Problem(
        ".".join(place),
        "not valid",
        got=value if isinstance(value, bool | int | float | str) else type(value).__name__,
        wanted=_WANTED.get(kind, str(item["msg"])),
    )


def _meaning(place: list[str]) -> str:
    return MEANING.get(place[-1], "a value")
