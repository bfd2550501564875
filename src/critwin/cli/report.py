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
    feature: Annotated[
        str | None,
        typer.Option(help="Whose --chance or --prior it is; needed where there are several."),
    ] = None,
    chance: Annotated[
        float | None,
        typer.Option(help="How often a fresh sample carries the source's label, if unknown."),
    ] = None,
    prior: Annotated[
        list[str] | None, typer.Option(help="Prior of the model, LABEL=SHARE for each label.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the HTML report of a run folder; neither model nor features are loaded."""
    from critwin.cli._output import print_json, say
    from critwin.cli._source import pairs, shares, speaking_of_options
    from critwin.errors import InputError
    from critwin.reports import write_report
    from critwin.runs.folder import open_run

    opened = open_run(run)
    weights = shares(pairs(prior, name="--prior"))
    if chance is not None and not 0.0 <= chance < 1.0:
        raise InputError("the chance level is out of range", got=chance, wanted="0 <= chance < 1")
    name = feature
    if chance is None and weights is None:
        if feature is not None:
            raise InputError(
                "--feature says whose --chance or --prior it is", next_step="add one of them"
            )
    elif name is None:
        if len(opened.labels) > 1:
            raise InputError(
                "a chance level or a prior belongs to one feature",
                got=", ".join(opened.labels),
                next_step="name it: --feature NAME",
            )
        (name,) = opened.labels
    with speaking_of_options():
        path = write_report(
            opened.path,
            opened.path / "report.html" if out is None else out,
            chances=None if chance is None or name is None else {name: chance},
            priors=None if weights is None or name is None else {name: weights},
        )
    if as_json:
        print_json({"run": str(opened.path), "report": str(path)})
    else:
        say(f"Report: {path}")
