"""Models by name: the built-in ones, and those that other packages bring as entry points.

A package adds a model with an entry point of the group ``critwin.models`` whose object is a
callable that takes the options of ``[model]`` and returns a model. There are no import paths in
experiment files.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critwin.errors import InputError
from critwin.models.base import Model, check_model

if TYPE_CHECKING:
    from critwin.models.mixture import MixtureModel

__all__ = ["GROUP", "list_models", "load_model"]

GROUP = "critwin.models"


def load_model(model: str | Model, **options: Any) -> Model:
    """A model by name, with options.

    Args:
        model: Name of a built-in model or of an entry point; a model object is checked and
            returned as it is.
        **options: Options of the model.

    Returns:
        The model.

    Raises:
        InputError: If the name or an option is unknown, or the model cannot be made.
    """
    if not isinstance(model, str):
        if options:
            raise InputError("options for a model that is made already", got=", ".join(options))
        return check_model(model)
    factory = _BUILTINS[model][0] if model in _BUILTINS else _from_entry_point(model)
    if model == "digits":  # its factory is imported only now
        factory = factory()
    _check_options(model, factory, options)
    return check_model(factory(**options))


def list_models() -> dict[str, str]:
    """Names of all models that can be loaded, with one line on each.

    Returns:
        Name -> description; plugins are not imported, they show where they come from.
    """
    known = {name: line for name, (_, line) in _BUILTINS.items()}
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda p: p.name):
        source = point.dist.name if point.dist is not None else point.value
        known.setdefault(point.name, f"from {source}")
    return known


def _digits() -> Callable[..., Model]:
    from importlib import import_module

    factory: Callable[..., Model] = import_module("critwin.models.digits").load_digits
    return factory


def _mixture(
    *,
    mixture: Any = None,
    file: str | Path | None = None,
    steps: int = 128,
    start: float = -10.0,
    end: float = 12.0,
    spacing: str = "karras",
    order: Any = 2,
    name: str = "mixture",
) -> MixtureModel:
    from critwin.models.mixture import MixtureModel
    from critwin.theory.mixture_files import mixture_from_dict, mixture_from_toml

    if (mixture is None) == (file is None):
        raise InputError("model 'mixture' needs a law", wanted="either `file` or `mixture`")
    if file is not None:
        mixture = mixture_from_toml(file)
    elif isinstance(mixture, Mapping):
        mixture = mixture_from_dict(mixture)
    return MixtureModel(
        mixture, steps=steps, start=start, end=end, spacing=spacing, order=order, name=name
    )


def _from_entry_point(name: str) -> Callable[..., Any]:
    points = list(metadata.entry_points(group=GROUP, name=name))
    if not points:
        known = list(list_models())
        close = difflib.get_close_matches(name, known, n=1)
        raise InputError(
            "unknown model",
            got=name,
            wanted=f"one of {', '.join(known)}",
            next_step=f"did you mean {close[0]!r}?" if close else "see: critwin models",
        )
    if len(points) > 1:
        raise InputError(
            f"two packages bring a model called {name!r}",
            got=", ".join(point.value for point in points),
            next_step="uninstall one of them",
        )
    try:
        factory = points[0].load()
    except Exception as error:
        raise InputError(
            f"model {name!r} of {points[0].value} cannot be imported",
            got=f"{type(error).__name__}: {error}",
            next_step="repair or uninstall that package",
        ) from error
    if not callable(factory):
        raise InputError(
            f"entry point {name!r} is not callable",
            got=type(factory).__name__,
            wanted="a callable that takes options and returns a model",
        )
    made: Callable[..., Any] = factory
    return made


def _check_options(name: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(factory).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for option in options:
        if option not in parameters:
            close = difflib.get_close_matches(option, parameters, n=1)
            raise InputError(
                f"unknown option of model {name!r}",
                got=option,
                wanted=f"one of {', '.join(parameters)}" if parameters else "no options",
                next_step=f"did you mean {close[0]!r}?" if close else None,
            )
    missing = [
        p
        for p, about in parameters.items()
        if about.default is inspect.Parameter.empty
        and about.kind is not about.VAR_POSITIONAL
        and p not in options
    ]
    if missing:
        raise InputError(f"model {name!r} needs the option {missing[0]!r}")


_BUILTINS: Mapping[str, tuple[Callable[..., Any], str]] = {
    "digits": (_digits, "28 x 28 colour digits with planted features, the shipped network"),
    "mixture": (_mixture, "a Gaussian mixture, exact: option `file`, a TOML mixture"),
}
