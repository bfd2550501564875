"""Words and tables that the pages share; every number in them is computed."""

from __future__ import annotations

from collections.abc import Sequence

from .parts import Time

__all__ = ["apart", "best", "holds", "number", "table", "time_of"]


def number(value: float | None) -> str:
    """A time to four decimals; an en dash where there is none."""
    return "–" if value is None else f"{value:.4f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    Args:
        head: Names of the columns.
        rows: Cells.

    Returns:
        Its lines, ending with a newline.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def time_of(times: Sequence[Time], symbol: str) -> Time:
    """The time of that symbol."""
    return next(time for time in times if time.symbol == symbol)


def best(time: Time, kind: str, bound: str | None = None) -> float:
    """The sharpest published value of one kind: the largest lower or smallest upper bound."""
    found = [
        (p.bound, p.value)
        for p in time.published
        if p.kind == kind and p.value is not None and bound in (None, p.bound)
    ]
    values = [value for _, value in found]
    return min(values) if found[0][0] == "upper" else max(values)


def apart(first: float | None, second: float | None) -> str:
    """How much earlier or later the first is than the second."""
    assert first is not None
    assert second is not None
    return f"{abs(first - second):.2f} {'later' if first > second else 'earlier'}"


def holds(times: Sequence[Time], claim: str) -> str:
    """A claim about the operational and the distance window, with what the numbers say of it."""
    inner = [time_of(times, name) for name in ("t_after", "t_before")]
    outer = [time_of(times, name) for name in ("T_after", "T_before")]
    assert inner[0].value is not None
    assert inner[1].value is not None
    start, stop = outer[0].low, outer[1].high
    assert start is not None
    assert stop is not None
    width, around = inner[1].value - inner[0].value, stop - start
    if not (start <= inner[0].value and inner[1].value <= stop):
        return f"{claim}: not here."
    return f"{claim}, as proved, and is {width / around:.0%} as wide.".replace("%", " %")
