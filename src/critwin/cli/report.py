"""``critwin report``: build the report of a run folder again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[
        Path | None, typer.Option(help="HTML file; report.html in the folder unless given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the HTML report of a run folder; neither model nor features are loaded."""
    from critwin.cli._output import print_json, say
    from critwin.reports import write_report
    from critwin.runs.folder import open_run

    folder = open_run(run).path
    path = write_report(folder, folder / "report.html" if out is None else out)
    if as_json:
        print_json({"run": str(folder), "report": str(path)})
    else:
        say(f"Report: {path}")
