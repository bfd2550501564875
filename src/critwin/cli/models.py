"""``critwin models``: which models there are."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["models"]


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that can be named under [model] of an experiment file."""
    from dataclasses import asdict

    from critwin.cli._output import print_json, say, table
    from critwin.models.registry import GROUP, list_models, model_options

    known = dict(list_models())
    options = model_options()
    if as_json:
        listed = {
            name: {key: asdict(option) for key, option in own.items()}
            for name, own in options.items()
        }
        print_json({"models": known, "options": listed})
        return
    for name, line in known.items():
        say(f"{name}: {line}")
        rows = [(key, str(option)) for key, option in options.get(name, {}).items()]
        if rows:
            say(table(rows, indent="  "))
    say("Options stand beside the name under [model], or after --set of critwin init.")
    say(f"Packages add models by entry points of the group {GROUP!r}.")
