"""What the commands of audits share: what a run folder settles already, and how they end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from critwin.errors import InputError

__all__ = ["finish", "refuse_with_run"]


class _Audit(Protocol):
    def as_dict(self) -> dict[str, Any]: ...

    def section(self) -> Any: ...


A = TypeVar("A", bound=_Audit)


def refuse_with_run(options: Mapping[str, Any]) -> None:
    """Refuse options that start a run where a run folder was given.

    Args:
        options: Option -> value; None, False and empty were not given.

    Raises:
        InputError: If one was given.
    """
    if given := [name for name, value in options.items() if value is not None and value != []]:
        raise InputError(
            "a run folder has its model, images and levels already",
            got=", ".join(given),
            next_step="leave them out, or leave the run folder out",
        )


def finish(
    folder: Path, audit: A, lines: Callable[[A], Sequence[str]], *, report: bool, as_json: bool
) -> None:
    """Write the report of a run anew and print what an audit found.

    Args:
        folder: The run folder.
        audit: The audit, saved there.
        lines: What to print of it.
        report: Whether the report is written.
        as_json: Whether to print JSON.
    """
    from critwin.cli._output import print_json, say

    path: Path | None = None
    if report:
        from critwin.reports import write_report

        path = write_report(folder, folder / "report.html")
    if as_json:
        facts = {"run": str(folder), **audit.as_dict(), "answer": audit.section().answer}
        print_json({**facts, "report": None if path is None else str(path)})
        return
    for line in lines(audit):
        say(line)
    if path is not None:
        say(f"Report: {path}")
