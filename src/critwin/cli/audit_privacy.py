"""``critwin audit privacy``: can training images be told, and is any of them memorised?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from critwin.audits.findings import PrivacyAudit

__all__ = ["privacy"]


def privacy(
    run: Annotated[
        Path | None, typer.Argument(help="Run folder whose sources are members and non-members.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Start the run that is needed: name of the model.")
    ] = None,
    members: Annotated[
        Path | None, typer.Option(help="Folder of images that the model was trained on.")
    ] = None,
    nonmembers: Annotated[
        Path | None, typer.Option(help="Folder of like images that it was not trained on.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to start or go on with.")] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(help="Also ask the network: loss, pia or secmi; costs evaluations."),
    ] = None,
    level: Annotated[list[float] | None, typer.Option(help="OU times of a started run.")] = None,
    replicates: Annotated[
        int | None, typer.Option(min=1, help="Fresh noises of an image; 1 unless given.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the schedule of a started run.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of a started run.")] = None,
    group: Annotated[
        str | None, typer.Option(help="Planted column whose values group the members.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads of torch.")] = None,
    report: Annotated[bool, typer.Option(help="Write the report again.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Audit privacy: attack power over noise, baselines without the model, memorised images."""
    from critwin.audits.attacks import check_attacks
    from critwin.audits.privacy_runs import audit_run
    from critwin.cli._audits import (
        check_confidence,
        check_out,
        check_times,
        finish,
        refuse_with_run,
    )
    from critwin.cli._output import note
    from critwin.cli._progress import progress_bar, steps_done
    from critwin.errors import InputError

    check_confidence(confidence)
    check_attacks(attack or ())
    check_times(level)
    num_replicates = 1 if replicates is None else replicates
    started = {"--model": model, "--members": members, "--nonmembers": nonmembers, "--out": out}
    engine = None
    if run is None:
        if missing := [name for name, value in started.items() if value is None]:
            raise InputError(
                "nothing to audit",
                got="no run folder, and no " + ", ".join(missing),
                wanted="a run folder, or all of " + ", ".join(started),
            )
        from critwin._texts import unknown_name
        from critwin.audits.privacy import LEVELS
        from critwin.audits.privacy_start import COLUMNS, start_run

        if group is not None and group not in COLUMNS:
            raise unknown_name("planted column", group, COLUMNS, more=" in a started run")
        check_out(out)
        assert model is not None
        assert members is not None
        assert nonmembers is not None
        assert out is not None
        with progress_bar() as progress:
            outcome, wrapped = start_run(
                model,
                members,
                nonmembers,
                out,
                levels=sorted(level) if level else LEVELS,
                replicates=num_replicates,
                steps=steps,
                seed=0 if seed is None else seed,
                threads=threads,
                progress=progress,
                say=note,
            )
        folder, engine = outcome.path, wrapped
    else:
        given = {"--level": level, "--steps": steps, "--seed": seed, "--threads": threads}
        refuse_with_run({**started, **given})
        if replicates is not None and "loss" not in (attack or ()):
            raise InputError(
                "--replicates are fresh noises of the loss, or of a started run",
                got=replicates,
                wanted="--attack loss beside it, or no run folder",
                next_step="leave it out: a run has its replicates already",
            )
        folder = run
    rerun = _rerun(
        None if run is None else folder,
        {
            **started,
            "--attack": attack,
            "--level": level,
            "--replicates": replicates,
            "--steps": steps,
            "--seed": seed,
            "--group": group,
            "--confidence": None if confidence == 0.95 else confidence,
        },
    )
    with progress_bar() as progress:
        audit = audit_run(
            folder,
            attacks=attack or (),
            model=engine,
            replicates=num_replicates,
            group=group,
            confidence=confidence,
            progress=steps_done(progress, words="images scored by {}"),
            rerun=rerun,
        )
    finish(folder, audit, _lines, report=report, as_json=as_json)


def _lines(audit: PrivacyAudit) -> list[str]:
    from critwin.cli._output import table, terminal_width

    section = audit.section()
    rows: list[tuple[str, ...]] = [("attack", "t", "area", "low", "high", "evaluations")]
    attacks = next(t for t in section.tables if t.name == "privacy-attacks")
    for row in attacks.rows:
        cells = ["" if cell is None else f"{cell:.3f}" for cell in row[2:5]]
        cost = "unknown" if row[-1] is None else f"{row[-1]:g}"
        rows.append((str(row[0]), str(row[1]), *cells, cost))
    return [section.answer, *section.details, table(rows, width=terminal_width())]


def _rerun(run: Path | None, options: Mapping[str, Any]) -> str:
    """The command with the options that were given."""
    import shlex

    words = ["critwin", "audit", "privacy", *([] if run is None else [str(run)])]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            words += [] if one is None else [name, str(one)]
    return shlex.join(words)
