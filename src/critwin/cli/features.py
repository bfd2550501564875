"""``critwin features``: which features there are."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["features"]


def features(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the features that can be named under [[feature]] of an experiment file."""
    from critwin.cli._output import print_json, say, table
    from critwin.features.registry import GROUP, list_features

    known = dict(list_features())
    if as_json:
        print_json({"features": known})
        return
    say(table([(name, line) for name, line in known.items()]))
    say(f"Packages add features by entry points of the group {GROUP!r}.")
