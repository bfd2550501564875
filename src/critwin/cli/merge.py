"""``critwin merge``: the shards of a run as one run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["merge"]


def merge(
    shards: Annotated[list[Path], typer.Argument(help="Run folders measured with --shard.")],
    out: Annotated[Path, typer.Option(help="The new run folder.")],
    partial: Annotated[
        bool, typer.Option("--partial", help="Shards may be missing or unfinished.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Write the report at the end.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put the shards of a run together; the rows are those of a run measured at once."""
    from critwin.cli._output import note, print_json, say
    from critwin.cli.run import conclude_run
    from critwin.runs.folder import open_run
    from critwin.runs.merging import merge_runs

    outcome = merge_runs(shards, out, is_partial=partial, say=note)
    if outcome is not None:
        conclude_run(outcome, report=report, as_json=as_json)
        return
    num = open_run(out).counts()["num_units"]
    if as_json:
        print_json({"run": str(out), "is_complete": False, "num_units": num})
        return
    say(f"{num} units in {str(out)!r}")
    say(f"Go on with it: critwin run FILE --out {out}")
