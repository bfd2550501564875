"""``critwin features``: which features there are."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["features"]


def features(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the features that can be named under [[feature]] of an experiment file."""
    from dataclasses import asdict

    from critwin.cli._output import print_json, say, table
    from critwin.features.registry import GROUP, feature_options, list_features

    known = dict(list_features())
    options = feature_options()
    if as_json:
        listed = {
            name: {key: asdict(option) for key, option in own.items()}
            for name, own in options.items()
        }
        print_json({"features": known, "options": listed})
        return
    for name, line in known.items():
        say(f"{name}: {line}")
        rows = [(key, str(option)) for key, option in options.get(name, {}).items()]
        if rows:
            say(table(rows, indent="  "))
    say("Options stand beside the name under [[feature]], or after --set of critwin init.")
    say(f"Packages add features by entry points of the group {GROUP!r}.")
