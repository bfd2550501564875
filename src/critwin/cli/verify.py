"""``critwin verify``: check a run folder against its digests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["verify"]


def verify(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check every file of a run folder and every row of its ledger; exit code 2 if damaged."""
    from critwin.cli._output import print_json, say
    from critwin.errors import RunFolderError
    from critwin.runs.folder import open_run, verify_folder

    problems, remarks = verify_folder(run)
    digest = None
    if not problems:
        folder = open_run(run)
        digest = folder.digest() if folder.counts()["num_units"] else None
    if as_json:
        print_json(
            {
                "run": str(run),
                "is_intact": not problems,
                "problems": problems,
                "remarks": remarks,
                "digest": digest,
            }
        )
    else:
        for line in remarks:
            say(f"remark: {line}")
        for line in problems:
            say(f"damaged: {line}")
        if not problems:
            say(f"{run}: intact")
            say(f"digest of the rows: {digest or 'no rows yet'}")
    if problems:
        raise RunFolderError(
            f"the run folder {str(run)!r} is damaged",
            got=f"{len(problems)} problem(s), first: {problems[0]}",
            next_step="restore it from a copy, or measure it again in another folder",
        )
