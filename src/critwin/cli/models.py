"""``critwin models``: which models there are."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["models"]


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that can be named under [model] of an experiment file."""
    from critwin.cli._output import print_json, say, table
    from critwin.models.registry import GROUP, list_models

    known = dict(list_models())
    if as_json:
        print_json({"models": known})
        return
    say(table([(name, line) for name, line in known.items()]))
    say(f"Packages add models by entry points of the group {GROUP!r}.")
