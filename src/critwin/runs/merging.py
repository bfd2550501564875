"""One run folder out of those of its shards: the same rows as if measured at once.

The merged folder is made beside its place and moved there whole. It is a run folder like any
other: what a shard lacks is measured by going on with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critwin.errors import RunFolderError
from critwin.runs.executor import RunOutcome, run_experiment
from critwin.runs.files import digest_bytes, write_atomic
from critwin.runs.folder import Run, make_folder, open_run, seal, write_info
from critwin.runs.ledger import Ledger
from critwin.runs.lock import refuse_if_locked
from critwin.runs.resume import check_config, check_identity, occupied_by
from critwin.runs.shards import shard_of

if TYPE_CHECKING:
    from critwin.features.base import Comparison, Feature
    from critwin.models.base import Model

__all__ = ["merge_runs"]


def merge_runs(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    is_partial: bool = False,
    model: Model | None = None,
    features: Sequence[Feature] | None = None,
    comparisons: Sequence[Comparison] | None = None,
    say: Callable[[str], None] | None = None,
) -> RunOutcome | None:
    """Merge the shards of a run.

    Args:
        folders: The run folder of each shard, in any order.
        out: The new run folder.
        is_partial: Whether shards may be missing or unfinished; then nothing is loaded, and going
            on with the merged folder measures the rest.
        model: A model to use instead of loading the named one.
        features: Features to use instead of loading the named ones.
        comparisons: Comparisons to use instead of loading the named ones.
        say: Called with lines that the user should see.

    Returns:
        What the run as a whole is now; None for a partial merge.

    Raises:
        RunFolderError: If the folders are not shards of one run, one is missing, unfinished,
            damaged or in use, or the new folder is occupied. Nothing is left behind.
    """
    tell = say or (lambda line: None)
    runs = [open_run(folder) for folder in folders]
    for line in _check_together(runs):
        tell(f"warning: {line}")
    if not is_partial:
        _check_whole(runs)
    target = Path(out)
    if occupied_by(target) is not None:
        raise RunFolderError(
            "there is a run already",
            got=str(out),
            wanted="a new folder",
            next_step="choose another --out",
        )
    staging = target.with_name(f".{target.name}.merging")
    with suppress(FileNotFoundError):
        shutil.rmtree(staging)  # of a merge that was killed
    make_folder(staging)
    try:
        _fill(staging, runs)
        with suppress(FileNotFoundError):
            target.rmdir()  # empty: that was checked
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    if is_partial:
        return None
    return run_experiment(
        runs[0].config,
        out=target,
        model=model,
        features=features,
        comparisons=comparisons,
        say=say,
    )


def _check_together(runs: Sequence[Run]) -> list[str]:
    """Refuse folders that are not shards of one run; return warnings."""
    if not runs:
        raise RunFolderError("nothing to merge", wanted="the run folders of shards")
    owners: dict[int, Path] = {}
    warnings: list[str] = []
    first = runs[0]
    for run in runs:
        shard = shard_of(dict(run.info))
        if shard is None:
            raise RunFolderError(
                "not a shard",
                got=str(run.path),
                wanted="run folders that were measured with --shard",
            )
        if shard.number in owners:
            raise RunFolderError(
                f"shard {shard} is given twice", got=f"{owners[shard.number]} and {run.path}"
            )
        owners[shard.number] = run.path
        if list(run.info["shard"])[1] != list(first.info["shard"])[1]:
            raise RunFolderError(
                "shards of different runs",
                got=f"{first.info['shard'][1]} shards in {str(first.path)!r}, {shard.count} in "
                f"{str(run.path)!r}",
            )
        refuse_if_locked(run.path)
        if grown := check_config(first.info["config"], run.config):
            raise RunFolderError(
                f"{str(run.path)!r} has grown beyond {str(first.path)!r}",
                got="; ".join(grown),
                wanted="shards of one experiment file",
                next_step="run the other shards again with the larger file",
            )
        sides = [{**side.info, "shard": None} for side in (first, run)]
        warnings += check_identity(*sides)
    return list(dict.fromkeys(warnings))


def _check_whole(runs: Sequence[Run]) -> None:
    """Refuse shards that do not make up the whole run."""
    count = int(runs[0].info["shard"][1])
    there = {int(run.info["shard"][0]) for run in runs}
    step = "measure the rest, or merge what there is with --partial and go on with that"
    if lost := [str(i) for i in range(1, count + 1) if i not in there]:
        shown = ", ".join(lost[:8]) + (", …" if lost[8:] else "")
        raise RunFolderError(
            "shards are missing", got=f"no {shown} of {count}", wanted="all", next_step=step
        )
    for run in runs:
        with Ledger.read(run.path) as ledger:
            done, total = ledger.counts()["num_units"], ledger.meta("num_units")
        if total is None or done < total:
            raise RunFolderError(
                f"{str(run.path)!r} is not finished",
                got=f"{done} of {'an unknown number of' if total is None else total} units",
                next_step=step,
            )


def _fill(folder: Path, runs: Sequence[Run]) -> None:
    """Write the merged run into an empty folder."""
    info: dict[str, Any] = {k: v for k, v in runs[0].info.items() if k != "shard"}
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    shards = sorted((run.info["shard"] for run in runs), key=lambda shard: int(shard[0]))
    names = ", ".join(str(number) for number, _ in shards)
    history = [*info["history"], {"when": moment, "merged": f"shards {names} of {shards[0][1]}"}]
    with Ledger.create(folder) as ledger:
        for run in runs:
            with Ledger.read(run.path) as part:
                for path, sha, *_ in part.files():
                    data = _content(run.path, path)
                    if digest_bytes(data) != sha:
                        raise RunFolderError(
                            f"{str(run.path / path)!r} is damaged", next_step="critwin verify"
                        )
                    write_atomic(folder / path, data)
                ledger.absorb(part)
    write_info(folder, {**info, "history": history})
    seal(folder)


def _content(folder: Path, name: str) -> bytes:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RunFolderError("a file leads out of its run folder", got=name)
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunFolderError(f"cannot read {str(path)!r}", got=error.strerror) from error
