"""What models and features that are named have in common: entry points and checked options.

Third parties add models and features through entry points, never through import paths in an
experiment file.
"""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib import metadata
from typing import Any

from critwin.errors import InputError

__all__ = [
    "Builtins",
    "Option",
    "check_options",
    "entry_point",
    "listing",
    "named",
    "named_options",
    "options_of",
]

Builtins = Mapping[str, tuple[Callable[..., Any], str]]
"""Name -> factory and a line on what it makes."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of a model or a feature.

    Attributes:
        default: What it is unless given, as plain values.
        is_needed: Whether it must be given; then there is no default.
    """

    default: Any = None
    is_needed: bool = False

    def __str__(self) -> str:
        """The default as TOML would have it; in words where TOML has no such value."""
        if self.is_needed:
            return "(needed)"
        if self.default is None:
            return "(none)"
        return _toml(self.default)


def options_of(factory: Callable[..., Any], *, hidden: Sequence[str] = ()) -> dict[str, Option]:
    """Options that a factory takes, with their defaults, from its signature.

    Args:
        factory: What takes the options.
        hidden: Parameters that are not options.

    Returns:
        Name -> option.
    """
    made = {
        field.name: field.default_factory()
        for field in (fields(factory) if is_dataclass(factory) else ())
        if field.default_factory is not MISSING
    }
    starred = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {
        name: Option(
            default=_plain(made.get(name, parameter.default)),
            is_needed=parameter.default is parameter.empty,
        )
        for name, parameter in inspect.signature(factory).parameters.items()
        if name not in hidden and parameter.kind not in starred
    }


def listing(group: str, builtins: Mapping[str, str]) -> dict[str, str]:
    """Names that can be loaded, with one line on each.

    Args:
        group: Entry-point group.
        builtins: Built-in name -> description.

    Returns:
        Name -> description; plugins are not imported, they show where they come from.
    """
    known = dict(builtins)
    for point in sorted(metadata.entry_points(group=group), key=lambda p: p.name):
        source = point.dist.name if point.dist is not None else point.value
        known.setdefault(point.name, f"from {source}")
    return known


def entry_point(group: str, kind: str, name: str, known: Sequence[str]) -> Callable[..., Any]:
    """The callable that a package registered under a name.

    Args:
        group: Entry-point group.
        kind: ``"model"``, ``"feature"`` or ``"comparison"``, for the messages.
        name: The name.
        known: All names that could have been meant.

    Returns:
        The callable, imported.

    Raises:
        InputError: If nothing, or more than one thing, has the name, or it cannot be used.
    """
    points = list(metadata.entry_points(group=group, name=name))
    if not points:
        close = difflib.get_close_matches(name, known, n=1)
        raise InputError(
            f"unknown {kind}",
            got=name,
            wanted=f"one of {', '.join(known)}",
            next_step=f"did you mean {close[0]!r}?"
            if close
            else f"see: critwin {'models' if kind == 'model' else 'features'}",
        )
    if len(points) > 1:
        raise InputError(
            f"two packages bring a {kind} called {name!r}",
            got=", ".join(point.value for point in points),
            next_step="uninstall one of them",
        )
    try:
        factory = points[0].load()
    except Exception as error:
        raise InputError(
            f"{kind} {name!r} of {points[0].value} cannot be imported",
            got=f"{type(error).__name__}: {error}",
            next_step="repair or uninstall that package",
        ) from error
    if not callable(factory):
        raise InputError(
            f"entry point {name!r} is not callable",
            got=type(factory).__name__,
            wanted=f"a callable that takes options and returns a {kind}",
        )
    made: Callable[..., Any] = factory
    return made


def check_options(
    kind: str,
    name: str,
    factory: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    hidden: Sequence[str] = (),
) -> None:
    """Refuse options that a factory does not take, and missing ones that it needs.

    Args:
        kind: ``"model"``, ``"feature"`` or ``"comparison"``, for the messages.
        name: Name of the model or feature.
        factory: What takes the options.
        options: The options.
        hidden: Parameters that are not options.

    Raises:
        InputError: If an option is unknown or missing.
    """
    parameters = inspect.signature(factory).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [p for p in parameters if p not in hidden]
    for option in options:
        if option not in known:
            close = difflib.get_close_matches(option, known, n=1)
            raise InputError(
                f"unknown option of {kind} {name!r}",
                got=option,
                wanted=f"one of {', '.join(known)}" if known else "no options",
                next_step=f"did you mean {close[0]!r}?" if close else None,
            )
    for parameter in known:
        about = parameters[parameter]
        if (
            about.default is about.empty
            and about.kind is not about.VAR_POSITIONAL
            and parameter not in options
        ):
            raise InputError(f"{kind} {name!r} needs the option {parameter!r}")


def named(
    group: str,
    kind: str,
    what: object,
    builtins: Builtins,
    *,
    model: object,
    called: str | None,
    options: Mapping[str, Any],
) -> Any:
    """What is read off samples, by name: a feature or a comparison, not checked yet.

    Args:
        group: Entry-point group.
        kind: ``"feature"`` or ``"comparison"``, for the messages.
        what: Name of a built-in one or of an entry point; anything else is made already.
        builtins: The built-in ones.
        model: The model that is measured, for factories that take it.
        called: Its name in records; its own unless given.
        options: Its options.

    Raises:
        InputError: If the name or an option is unknown, or options were given for what is made.
    """
    if not isinstance(what, str):
        if options or called is not None:
            raise InputError(
                f"options were given for a {kind} that is made already",
                got=", ".join(options) or "called",
            )
        return what
    if what in builtins:
        factory = builtins[what][0]
    else:
        known = list(listing(group, {name: line for name, (_, line) in builtins.items()}))
        factory = entry_point(group, kind, what, known)
    told = dict(options) if called is None else {**options, "name": called}
    check_options(kind, what, factory, told, hidden=("model",))
    if "model" in inspect.signature(factory).parameters:
        told["model"] = model
    return factory(**told)


def named_options(builtins: Builtins) -> dict[str, dict[str, Option]]:
    """Options of built-in features or comparisons, as a table of an experiment file takes them.

    Args:
        builtins: The built-in ones.

    Returns:
        Name -> name of the option -> option; ``called`` names it in records.
    """
    found = {}
    for name, (factory, _) in builtins.items():
        own = options_of(factory, hidden=("model", "name"))
        found[name] = {**own, "called": options_of(factory)["name"]}
    return found


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """A default as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is inspect.Parameter.empty:
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
