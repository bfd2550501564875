"""What the commands of audits share: what a run folder settles already, and how they end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from critwin.errors import InputError

__all__ = ["check_confidence", "check_out", "check_times", "finish", "refuse_with_run"]

_LONGEST = 40.0  # no model starts at more noise than at this OU time


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
            wanted="none of them beside a run folder",
            next_step="leave them out, or leave the run folder out",
        )


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that no interval has.

    Args:
        confidence: The value of ``--confidence``.

    Raises:
        InputError: If it is out of range.
    """
    if not 0.5 <= confidence < 1.0:
        is_percent = 50 <= confidence < 100
        raise InputError(
            "--confidence out of range",
            got=confidence,
            wanted="in [0.5, 1)",
            next_step=f"did you mean {confidence / 100:g}?" if is_percent else None,
        )


def check_times(times: Sequence[float] | None) -> None:
    """Refuse levels that no run can have.

    Args:
        times: Values of ``--level``, OU times; None and empty: not given.

    Raises:
        InputError: If one is no positive number that a model could start from, or comes twice.
    """
    seen: set[float] = set()
    for t in times or ():
        if not 0.0 < t <= _LONGEST:
            raise InputError(
                "--level out of range", got=t, wanted=f"an OU time above 0 and up to {_LONGEST:g}"
            )
        if t in seen:
            raise InputError("--level comes twice", got=t, wanted="every level once")
        seen.add(t)


def check_out(out: Path | None) -> None:
    """Refuse a run folder that is a file.

    Args:
        out: The value of ``--out``.

    Raises:
        InputError: If it is a file.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(
            "the run folder is a file",
            got=str(out),
            wanted="a folder, or a name that is free",
            next_step="choose another --out",
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
