"""Models by name: the built-in ones, and those that other packages bring as entry points.

A package adds a model with an entry point of the group ``critwin.models`` whose object is a
callable that takes the options of ``[model]`` and returns a model. There are no import paths in
experiment files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critwin.errors import InputError
from critwin.models.base import Model, check_model
from critwin.plugins import Option, check_options, entry_point, listing, options_of

if TYPE_CHECKING:
    from critwin.models.mixture import MixtureModel

__all__ = ["GROUP", "list_models", "load_model", "model_options"]

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
    factory = (
        _builtin(model)
        if model in _BUILTINS
        else entry_point(GROUP, "model", model, list(list_models()))
    )
    check_options("model", model, factory, options)
    return check_model(factory(**options))


def list_models() -> dict[str, str]:
    """Names of all models that can be loaded, with one line on each.

    Returns:
        Name -> description; plugins are not imported, they show where they come from.
    """
    return listing(GROUP, {name: line for name, (_, line) in _BUILTINS.items()})


def model_options() -> dict[str, dict[str, Option]]:
    """Options of the built-in models, as ``[model]`` of an experiment file takes them.

    Returns:
        Name of the model -> name of the option -> option. Models of other packages are left out:
        listing them must not run their code.
    """
    return {name: options_of(_builtin(name), hidden=("name",)) for name in _BUILTINS}


def _builtin(name: str) -> Callable[..., Any]:
    factory = _BUILTINS[name][0]
    return factory() if name in _IMPORTED else factory  # its factory is imported only now


def _pipeline() -> Callable[..., Model]:
    from importlib import import_module

    factory: Callable[..., Model] = import_module("critwin.models.pipeline").load_pipeline
    return factory


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


_BUILTINS: Mapping[str, tuple[Callable[..., Any], str]] = {
    "digits": (_digits, "28 x 28 colour digits with planted features, the shipped network"),
    "mixture": (_mixture, "a Gaussian mixture, exact: option `file`, a TOML mixture"),
    "pipeline": (
        _pipeline,
        "a diffusers pipeline (Stable Diffusion, FLUX, DDPM, DiT): option `path`, folder or hub",
    ),
}
_IMPORTED = ("digits", "pipeline")
