"""``critwin advise``: at which noise to edit."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["advise"]


def advise(
    run: Annotated[Path, typer.Argument(help="Run folder of the forward–reverse experiment.")],
    keep: Annotated[
        list[str], typer.Option(help="Feature to keep: digit, or digit=8. Repeatable.")
    ],
    change: Annotated[
        list[str], typer.Option(help="Feature to change: ink, or ink=red,blue. Repeatable.")
    ],
    preset: Annotated[
        list[str] | None,
        typer.Option(help="Give strengths for sd15, sd21, sdxl, sd3, flux or digits. Repeatable."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of those samplers.")] = 25,
    least_kept: Annotated[float, typer.Option(help="Rate of keeping to promise.")] = 0.8,
    least_changed: Annotated[float, typer.Option(help="Rate of changing to promise.")] = 0.5,
    confidence: Annotated[float, typer.Option(help="Of the limits.")] = 0.95,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say at which noise an edit changes one feature and keeps another."""
    from critwin.audits.editing import advise as advice_of
    from critwin.audits.section import save
    from critwin.cli._output import print_json, say
    from critwin.errors import InputError
    from critwin.runs.folder import open_run

    if not 0.5 <= confidence < 1.0:
        raise InputError("--confidence out of range", got=confidence, wanted="in [0.5, 1)")
    words = ["critwin", "advise", str(run)]
    words += [word for name in keep for word in ("--keep", name)]
    words += [word for name in change for word in ("--change", name)]
    found = advice_of(
        open_run(run).records(),
        keep=keep,
        change=change,
        presets=preset or (),
        steps=steps,
        least_kept=least_kept,
        least_changed=least_changed,
        confidence=confidence,
        rerun=shlex.join(words),
    )
    save(found, run, parameters={"keep": list(keep), "change": list(change)})
    if as_json:
        print_json({"run": str(run), **found.as_dict(), "answer": found.section().answer})
        return
    say(found.section().answer)
    for row in found.starts:
        say(
            f"{row['preset']}, {row['scheduler']}, {row['steps']} steps: strength "
            f"{row['strength']:g}, start step {row['start step']} (t = {row['t effective']:.3f})"
        )
