"""Comparisons of source and result by name: built-in ones, and those of other packages.

A package adds a comparison with an entry point of the group ``critwin.comparisons`` whose object
is a callable that takes the options of ``[[comparison]]`` and returns a comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from critwin.errors import InputError
from critwin.features import _factories
from critwin.features.base import Comparison
from critwin.features.distance import PixelComparison
from critwin.plugins import Builtins, Option, listing, named, named_options

__all__ = [
    "GROUP",
    "check_comparisons",
    "comparison_options",
    "list_comparisons",
    "load_comparison",
]

GROUP = "critwin.comparisons"


def load_comparison(
    comparison: str | Comparison,
    /,
    *,
    model: object = None,
    called: str | None = None,
    **options: Any,
) -> Comparison:
    """A comparison by name, with options.

    Args:
        comparison: Name of a built-in comparison or of an entry point; an object that is one
            already is checked and returned as it is.
        model: The model that is measured, for comparisons that need it.
        called: Name of the comparison in records; its own unless given.
        **options: Options of the comparison.

    Returns:
        The comparison.

    Raises:
        InputError: If the name or an option is unknown, or the comparison cannot be made.
    """
    return _checked(
        named(
            GROUP, "comparison", comparison, _BUILTINS, model=model, called=called, options=options
        )
    )


def list_comparisons() -> dict[str, str]:
    """Names of all comparisons that can be loaded, with one line on each.

    Returns:
        Name -> description; plugins are not imported, they show where they come from.
    """
    return listing(GROUP, {name: line for name, (_, line) in _BUILTINS.items()})


def comparison_options() -> dict[str, dict[str, Option]]:
    """Options of the built-in comparisons, as ``[[comparison]]`` takes them.

    Returns:
        Name of the comparison -> name of the option -> option; ``called`` names it in records.
    """
    return named_options(_BUILTINS)


def check_comparisons(comparisons: Sequence[Comparison]) -> None:
    """Refuse two comparisons of one name.

    Args:
        comparisons: The comparisons.

    Raises:
        InputError: If a name occurs twice.
    """
    names = [comparison.name for comparison in comparisons]
    if len(set(names)) < len(names):
        raise InputError(
            "two comparisons have the same name",
            got=next(name for name in names if names.count(name) > 1),
            next_step='give one of them another: called = "…"',
        )


def _checked(comparison: object) -> Comparison:
    if not isinstance(comparison, Comparison):
        raise InputError(
            "not a comparison",
            got=type(comparison).__name__,
            wanted="an object with name, fingerprint and read(source, result)",
        )
    return comparison


_BUILTINS: Builtins = {
    "pixels": (PixelComparison, "root-mean-square distance of the pixels of source and result"),
    "embedding": (
        _factories.embedding,
        "cosine distance of source and result in the image embedding of CLIP or SigLIP",
    ),
    "neighbours": (
        _factories.neighbours,
        "where a result lands among the images of the model's data set",
    ),
}
