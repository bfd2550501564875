"""``critwin status``: how far a run is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["status"]


def status(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how far a run is, and whether a process works on it."""
    from critwin.cli._output import print_json, say
    from critwin.cli._progress import duration
    from critwin.runs.folder import open_run
    from critwin.runs.ledger import Ledger
    from critwin.runs.lock import holder
    from critwin.runs.shards import shard_of

    folder = open_run(run)
    with Ledger.read(folder.path) as ledger:
        counts = ledger.counts()
        total = ledger.meta("num_units")
        timings = ledger.timings()
        warnings = ledger.meta("warnings", [])
        levels = ledger.requested_levels()
    seconds = sum(entry["seconds"] for entry in timings)
    writer = holder(folder.path)
    shard = shard_of(dict(folder.info))
    count = int(folder.info["config"]["sources"]["count"])
    sources = range(count) if shard is None else range(shard.number - 1, count, shard.count)
    facts = {
        "run": str(folder.path),
        "model": folder.info["model"]["name"],
        "features": list(folder.labels),
        "created": folder.info["created"],
        "is_complete": total is not None and counts["num_units"] >= total,
        "is_running": writer is not None,
        "process": None if writer is None else writer.get("pid"),
        **counts,
        "num_units_planned": total,
        "shard": None if shard is None else shard.as_list(),
        "num_sources_planned": len(sources),
        "num_levels": len(levels),
        "seconds": round(seconds, 3),
        "digest": folder.digest() if counts["num_units"] else None,
        "config_digest": folder.info["config_digest"],
        "history": folder.info["history"],
        "warnings": warnings,
    }
    if as_json:
        print_json(facts)
        return
    planned = "an unknown number of" if total is None else str(total)
    say(f"{folder.path}: {counts['num_units']} of {planned} units measured")
    if shard is not None:
        say(f"shard {shard} of a run")
    say(f"model {facts['model']}; features {', '.join(folder.labels)}")
    say(
        f"{counts['num_sources']} of {facts['num_sources_planned']} sources, {len(levels)} "
        f"levels, {counts['num_invalid']} invalid results, {counts['num_files']} images, "
        f"{duration(seconds)} of work"
    )
    say(f"digest of the rows: {facts['digest'] or 'no rows yet'}")
    for line in warnings:
        say(f"warning: {line}")
    if writer is not None:
        say(f"process {writer.get('pid')} is working on it")
    elif facts["is_complete"]:
        say("complete")
    else:
        say("nobody is working on it; run the same command again to go on")
