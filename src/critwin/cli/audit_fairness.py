"""``critwin audit fairness``: shares of groups, when they are decided, where to change them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from critwin.audits.fairness import FairnessAudit

__all__ = ["fairness"]


def fairness(
    attribute: Annotated[str, typer.Option(help="Feature whose labels are the groups.")],
    run: Annotated[
        Path | None, typer.Argument(help="Run folder whose sources the model generated.")
    ] = None,
    condition: Annotated[
        str | None, typer.Option(help="Condition to audit; the one there is unless given.")
    ] = None,
    reference: Annotated[
        str, typer.Option(help="uniform, data, or a CSV file with columns label and share.")
    ] = "uniform",
    fidelity: Annotated[
        str | None,
        typer.Option(help="FEATURE=LABEL that says that an image is of the condition."),
    ] = None,
    interventions: Annotated[
        Path | None, typer.Option(help="Run folder of an intervention under the condition.")
    ] = None,
    errors: Annotated[
        Path | None, typer.Option(help="JSON file of the attribute's error matrix.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Start the runs that are needed: name of the model.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to start or go on with.")] = None,
    instead: Annotated[
        str | None, typer.Option(help="Condition of started interventions; none unless given.")
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=8, help="Images of a started run; 100 unless given.")
    ] = None,
    level: Annotated[list[float] | None, typer.Option(help="OU times of a started run.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the schedule of a started run.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of a started run.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads of torch.")] = None,
    largest_loss: Annotated[
        float, typer.Option(help="Loss of fidelity up to which a change is recommended.")
    ] = 0.05,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    report: Annotated[bool, typer.Option(help="Write the report again.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Audit fairness: shares of groups, when they are decided, where to change them."""
    from critwin.audits.fairness_runs import audit_fairness_run
    from critwin.audits.questions import refuse_attribute
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
    check_times(level)
    if not 0.0 <= largest_loss <= 1.0:
        raise InputError("--largest-loss out of range", got=largest_loss, wanted="in [0, 1]")
    told = _fidelity(fidelity)
    if told is not None:
        refuse_attribute(told[0], attribute)
    matrix = None
    if errors is not None:
        from critwin.features.labelling import read_error_matrix

        matrix = read_error_matrix(errors)
    if run is None:
        needed = {"--model": model, "--condition": condition, "--out": out}
        if missing := [name for name, value in needed.items() if value is None]:
            raise InputError(
                "nothing to audit",
                got="no run folder, and no " + ", ".join(missing),
                wanted="a run folder, or all of " + ", ".join(needed),
            )
        if interventions is not None:
            raise InputError(
                "interventions are started too",
                got=f"--interventions {interventions}",
                wanted="no --interventions beside --model",
                next_step="leave it out, or give the run folder that it belongs to",
            )
        check_out(out)
        from critwin.audits.fairness_start import TIMES, start_runs

        assert model is not None
        assert condition is not None
        assert out is not None
        with progress_bar() as progress:
            folder, changed = start_runs(
                model,
                out,
                condition=condition,
                attribute=attribute,
                reference=reference,
                fidelity=told,
                errors=matrix,
                instead="none" if instead is None else instead,
                times=level or TIMES,
                num_images=100 if images is None else images,
                steps=steps,
                seed=0 if seed is None else seed,
                threads=threads,
                progress=progress,
                say=note,
            )
        interventions = changed
    else:
        only = {
            "--model": model,
            "--out": out,
            "--instead": instead,
            "--images": images,
            "--level": level,
            "--steps": steps,
            "--seed": seed,
            "--threads": threads,
        }
        refuse_with_run(only)
        folder = run
    words = ["critwin", "audit", "fairness", str(folder), "--attribute", attribute]
    for name, value in (
        ("--condition", condition),
        ("--reference", reference),
        ("--fidelity", fidelity),
        ("--interventions", interventions),
        ("--errors", errors),
        ("--largest-loss", None if largest_loss == 0.05 else largest_loss),
        ("--confidence", None if confidence == 0.95 else confidence),
    ):
        words += [] if value is None else [name, str(value)]
    with progress_bar() as progress:
        audit = audit_fairness_run(
            folder,
            attribute=attribute,
            condition=condition,
            reference=reference,
            fidelity=told,
            interventions=interventions,
            errors=matrix,
            largest_loss=largest_loss,
            confidence=confidence,
            rerun=shlex.join(words),
            progress=steps_done(progress),
        )
    finish(folder, audit, _lines, report=report, as_json=as_json)


def _fidelity(text: str | None) -> tuple[str, str] | None:
    from critwin.errors import InputError

    if text is None:
        return None
    name, equals, label = text.partition("=")
    if not equals or not name.strip() or not label.strip():
        raise InputError("--fidelity cannot be read", got=text, wanted="FEATURE=LABEL")
    return name.strip(), label.strip()


def _lines(audit: FairnessAudit) -> list[str]:
    from critwin.cli._output import table, terminal_width

    section = audit.section()
    rows: list[tuple[str, ...]] = [("group", "images", "share", "low", "high", "reference")]
    for group in audit.law.groups:
        share = (group.share.value, group.share.low, group.share.high, group.reference)
        cells = ["" if cell is None else f"{cell:.3f}" for cell in share]
        rows.append((group.label, str(group.count), *cells))
    return [section.answer, *section.details, table(rows, width=terminal_width())]
