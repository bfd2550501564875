"""``critwin features``: which features there are, and which comparisons."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["features"]


def features(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what an experiment file can name under [[feature]] and [[comparison]]."""
    from dataclasses import asdict

    from critwin.cli._output import print_json, say, table
    from critwin.features import comparison_registry as comparisons
    from critwin.features.registry import GROUP, feature_options, list_features

    known = dict(list_features())
    options = feature_options()
    compared, compared_by = comparisons.list_comparisons(), comparisons.comparison_options()
    if as_json:
        listed, also = (
            {
                name: {key: asdict(option) for key, option in own.items()}
                for name, own in each.items()
            }
            for each in (options, compared_by)
        )
        print_json(
            {
                "features": known,
                "options": listed,
                "comparisons": compared,
                "comparison_options": also,
            }
        )
        return
    for name, line in known.items():
        say(f"{name}: {line}")
        rows = [(key, str(option)) for key, option in options.get(name, {}).items()]
        if rows:
            say(table(rows, indent="  "))
    say("Options stand beside the name under [[feature]], or after --set of critwin init.")
    say(f"Packages add features by entry points of the group {GROUP!r}.")
    say("Comparisons of source and result, named under [[comparison]]:")
    for name, line in compared.items():
        say(f"{name}: {line}")
        rows = [(key, str(option)) for key, option in compared_by.get(name, {}).items()]
        if rows:
            say(table(rows, indent="  "))
