"""``critwin run``: measure an experiment file in a run folder, or go on with one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from critwin.runs.config import ExperimentFile
    from critwin.runs.estimate import Estimate
    from critwin.runs.executor import RunOutcome
    from critwin.runs.search_estimate import SearchEstimate
    from critwin.runs.shards import Shard

__all__ = ["conclude_run", "execute", "run"]


def run(
    file: Annotated[Path, typer.Argument(help="Experiment file (TOML); critwin init writes one.")],
    out: Annotated[
        Path | None, typer.Option(help="Run folder; that of the file unless given.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would cost; write nothing.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Measure at most this many units now.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="i/N", help="Measure part i of N; critwin merge puts them together."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads of torch.")] = None,
    report: Annotated[bool, typer.Option(help="Write the report at the end.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure an experiment; the same command again goes on where it stopped."""
    from critwin.runs.config import load_config
    from critwin.runs.shards import Shard

    config = load_config(file)
    part = None if shard is None else Shard.parse(shard)
    if part is not None and out is None:
        out = Path(part.folder(config.run.out))
    if dry_run:
        _show_estimate(config, out, threads, part, as_json=as_json)
        return
    execute(
        config,
        out=out,
        shard=part,
        limit=limit,
        threads=threads,
        report=report,
        as_json=as_json,
    )


def execute(
    config: ExperimentFile,
    *,
    out: Path | None,
    shard: Shard | None = None,
    limit: int | None = None,
    threads: int | None = None,
    report: bool = True,
    as_json: bool = False,
) -> None:
    """Run an experiment file and print what came out.

    Args:
        config: The experiment file.
        out: The run folder; that of the file unless given.
        shard: The part of the run to measure.
        limit: Largest number of units to measure now.
        threads: Threads of torch.
        report: Whether to write the report.
        as_json: Whether to print JSON.
    """
    from critwin.cli._output import note
    from critwin.cli._progress import progress_bar
    from critwin.runs.executor import run_experiment

    folder = Path(config.run.out if out is None else out)
    if not folder.is_absolute() and not folder.resolve().is_relative_to(Path.cwd()):
        note(f"run folder outside the current one: {folder.resolve()}")
    with progress_bar() as progress:
        outcome = run_experiment(
            config,
            out=out,
            shard=shard,
            limit=limit,
            threads=threads,
            progress=progress,
            say=note,
        )
    if shard is None:
        conclude_run(outcome, report=report, as_json=as_json)
    else:
        _conclude_shard(outcome, shard, as_json=as_json)


def _conclude_shard(outcome: RunOutcome, shard: Shard, *, as_json: bool) -> None:
    """A part of a run has no windows yet: say how far it is."""
    from critwin.cli._output import print_json, say

    if as_json:
        print_json(
            {
                "run": str(outcome.path),
                "shard": shard.as_list(),
                "is_complete": outcome.is_complete,
                "num_units": outcome.num_done,
                "num_units_planned": outcome.num_total,
                "num_units_new": outcome.num_new,
                "num_invalid": outcome.num_invalid,
                "seconds": round(outcome.seconds, 3),
                "warnings": list(outcome.warnings),
            }
        )
        return
    say(
        f"shard {shard}: {outcome.num_done} of {outcome.num_total} units in "
        f"{str(outcome.path)!r} ({outcome.num_new} new, {outcome.num_invalid} invalid, "
        f"{outcome.seconds:.1f} s)"
    )
    say(
        "Complete; critwin merge puts the shards together."
        if outcome.is_complete
        else "Not complete: run the same command again to go on."
    )


def conclude_run(outcome: RunOutcome, *, report: bool, as_json: bool) -> None:
    """Print what a run has found, and write its report.

    Args:
        outcome: What was done.
        report: Whether to write the report.
        as_json: Whether to print JSON.
    """
    from critwin.cli._output import print_json, say
    from critwin.cli._result import conclude
    from critwin.runs.folder import open_run
    from critwin.runs.ledger import Ledger

    run = open_run(outcome.path)
    result = conclude(run)
    with Ledger.read(outcome.path) as ledger:
        search = ledger.meta("search") if outcome.targets else None
    path: Path | None = None
    if report:
        from critwin.reports import write_report

        path = write_report(outcome.path, outcome.path / "report.html")
    facts: dict[str, Any] = {
        "run": str(outcome.path),
        "is_complete": outcome.is_complete,
        "num_units": outcome.num_done,
        "num_units_planned": outcome.num_total,
        "num_units_new": outcome.num_new,
        "num_invalid": outcome.num_invalid,
        "seconds": round(outcome.seconds, 3),
        "warnings": list(outcome.warnings),
        **({"search": search} if search is not None else {}),
        **result.as_dict(),
        "report": None if path is None else str(path),
    }
    if as_json:
        print_json(facts)
    else:
        say(
            f"{outcome.num_done} of {outcome.num_total} units in {str(outcome.path)!r} "
            f"({outcome.num_new} new, {outcome.num_invalid} invalid, {outcome.seconds:.1f} s)"
        )
        if outcome.is_complete and not outcome.num_new:
            again = "" if path is None else "; the report is written again"
            say(f"Nothing was left to measure{again}.")
        if not outcome.is_complete:
            say("Not complete: run the same command again to go on.")
        for line in _search_lines(outcome):
            say(line)
        for line in result.lines():
            say(line)
        if path is not None:
            say(f"Report: {path}")


def _search_lines(outcome: RunOutcome) -> list[str]:
    """What a search found, a line a target."""
    lines = []
    for target in outcome.targets:
        t = target.edge.t
        value = "outside" if t.value is None else f"t = {t.value:.3f}"
        low, high = ("?" if x is None else f"{x:.3f}" for x in (t.low, t.high))
        lines.append(
            f"search: {target.name}: {value} [{low}, {high}]"
            + ("" if target.reason is None else f"; {target.reason}")
        )
    return lines


def _show_estimate(
    config: ExperimentFile,
    out: Path | None,
    threads: int | None,
    shard: Shard | None,
    *,
    as_json: bool,
) -> None:
    from critwin.cli._output import print_json, say
    from critwin.runs.estimate import estimate_run
    from critwin.runs.ledger import Ledger
    from critwin.runs.prepare import going_on_with, prepare

    folder = Path(config.run.out if out is None else out)
    info, _ = going_on_with(folder, config)
    done: set[str] = set()
    drawn: set[str] = set()
    if info is not None:
        threads = int(info["num_threads"]) if threads is None else threads
        with Ledger.read(folder) as ledger:
            done = ledger.done()
            drawn = {row["name"] for row in ledger.sources(with_clean=False)}
    if config.search is not None:
        from critwin.runs.search_estimate import estimate_search

        expected = estimate_search(prepare(config, shard=shard), threads=threads)
        if as_json:
            print_json(expected.as_dict())
        else:
            say("\n".join(_search_estimate_lines(expected)))
        return
    prepared = prepare(config, shard=shard)
    estimate = estimate_run(prepared, done=done, drawn=drawn, threads=threads)
    if as_json:
        print_json(estimate.as_dict())
    else:
        say("\n".join(_estimate_lines(estimate)))


def _search_estimate_lines(e: SearchEstimate) -> list[str]:
    from critwin._texts import plain_number
    from critwin.cli._progress import duration

    spent = "unknown, the model does not tell" if e.evaluations is None else f"{e.evaluations}"
    lines = [
        f"search: {', '.join(e.targets)} to within {plain_number(e.half_width)} in t, among "
        f"{e.num_levels} levels from t = {plain_number(e.t_low)} to {plain_number(e.t_high)}",
        f"expected results: {e.num_results} of {e.num_sources} sources, in {e.rounds} rounds",
        f"expected model evaluations: {spent}"
        + ("" if e.budget is None else f" (budget {plain_number(e.budget)})"),
        f"expected time: {duration(e.seconds)}",
        f"  found by a search through made-up results of windows {plain_number(e.assumed_width)} "
        "wide in t, in the middle of the range",
    ]
    if not e.is_enough:
        lines.append("not every target would be reached: raise the budget or the sources")
    return lines


def _evaluations(e: Estimate) -> str:
    if e.evaluations is None or e.source_evaluations is None:
        return "unknown, the model does not tell"
    if not e.source_evaluations:
        return str(e.evaluations)
    return (
        f"{e.evaluations} = {e.source_evaluations} to generate the sources + "
        f"{e.evaluations - e.source_evaluations} for their results"
    )


def _estimate_lines(e: Estimate) -> list[str]:
    from critwin._texts import plain_number
    from critwin.cli._progress import duration
    from critwin.runs.estimate import ASSUMED_WIDTH

    merged = f" ({e.num_merged} more coincide after snapping)" if e.num_merged else ""
    lines = [
        f"units: {e.num_units} = {e.num_sources} sources x {e.num_levels} levels{merged} "
        f"x {e.replicates} replicates; {e.num_units_left} left",
        f"levels: t = {plain_number(e.t_low)} to {plain_number(e.t_high)}",
        f"batches: {e.num_batches} of {e.batch_size} rows",
        f"model evaluations: {_evaluations(e)}",
        "time: " + duration(e.seconds) + f" ({e.measured})",
        f"disk: {e.disk_bytes / 1e6:.1f} MB for the whole run folder, and the report"
        if e.num_units_left
        else "disk: the run is complete, only its report would be written again",
    ]
    if e.share_half_width is not None:
        return [
            *lines,
            "expected 95 % interval of each share, at most: +- "
            f"{100 * e.share_half_width:.0f} points (1.96 / 2 / sqrt(sources))",
        ]
    if e.assumed_width is None:
        return [
            *lines,
            "no window can be measured: it needs at least two levels, and there is one",
        ]
    found = [feature for feature in e.features if feature.midpoint_width is not None]
    lacking = [feature for feature in e.features if feature.reason is not None]
    if found:
        lines.append("expected 95 % interval of each midpoint, total width in t:")
    for feature in found:
        known = "" if feature.is_chance_known else ", labels taken as equally likely"
        lines.append(
            f"  {feature.name}: {feature.midpoint_width:.2f} "
            f"(chance level {feature.chance:.3f}{known})"
        )
    if found:
        lines.append(
            "  = 2 z sqrt(p (1 - p) / sources) / (1 - chance) * width / .8 with "
            "p = (1 + chance) / 2 "
            f"and a window of width {plain_number(e.assumed_width)} assumed"
            + (", all that the levels span" if e.assumed_width < ASSUMED_WIDTH else "")
        )
    for feature in lacking:
        lines.append(
            f"warning: no window of {feature.name} from this run alone: its chance level "
            f"will be unknown: {feature.reason}"
        )
    if lacking:
        lines.append(
            "  critwin windows then shows the shares kept; it and critwin report take the level: "
            "--chance, or --prior"
        )
    return lines
