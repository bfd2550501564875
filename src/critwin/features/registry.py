"""Features by name: the built-in ones, and those that other packages bring as entry points.

A package adds a feature with an entry point of the group ``critwin.features`` whose object is a
callable that takes the options of ``[[feature]]`` and returns a feature. There are no import paths
in experiment files.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from critwin.errors import InputError
from critwin.features.base import Feature, check_feature
from critwin.features.pixels import GroundFeature, InkFeature
from critwin.plugins import Option, check_options, entry_point, listing, options_of

__all__ = ["GROUP", "feature_options", "list_features", "load_feature"]

GROUP = "critwin.features"


def load_feature(
    feature: str | Feature, *, model: object = None, called: str | None = None, **options: Any
) -> Feature:
    """A feature by name, with options.

    Args:
        feature: Name of a built-in feature or of an entry point; a feature object is checked and
            returned as it is.
        model: The model that is measured; ``"component"`` reads the mixture off it.
        called: Name of the feature in records; its own unless given. Two classifiers in one
            experiment need it.
        **options: Options of the feature.

    Returns:
        The feature.

    Raises:
        InputError: If the name or an option is unknown, or the feature cannot be made.
    """
    if not isinstance(feature, str):
        if options or called is not None:
            raise InputError(
                "options were given for a feature that is made already",
                got=", ".join(options) or "called",
            )
        return check_feature(feature)
    factory = (
        _BUILTINS[feature][0]
        if feature in _BUILTINS
        else entry_point(GROUP, "feature", feature, list(list_features()))
    )
    if called is not None:
        options["name"] = called
    check_options("feature", feature, factory, options, hidden=("model",))
    if "model" in inspect.signature(factory).parameters:
        options["model"] = model
    return check_feature(factory(**options))


def list_features() -> dict[str, str]:
    """Names of all features that can be loaded, with one line on each.

    Returns:
        Name -> description; plugins are not imported, they show where they come from.
    """
    return listing(GROUP, {name: line for name, (_, line) in _BUILTINS.items()})


def feature_options() -> dict[str, dict[str, Option]]:
    """Options of the built-in features, as ``[[feature]]`` of an experiment file takes them.

    Returns:
        Name of the feature -> name of the option -> option; ``called`` names the feature in
        records. Features of other packages are left out: listing them must not run their code.
    """
    found = {}
    for name, (factory, _) in _BUILTINS.items():
        own = options_of(factory, hidden=("model", "name"))
        found[name] = {**own, "called": options_of(factory)["name"]}
    return found


def _component(
    *,
    mixture: Any = None,
    groups: Mapping[str, Any] | None = None,
    draw: bool = False,
    seed: int = 0,
    name: str = "component",
    model: object = None,
) -> Feature:
    from critwin.features.component import ComponentFeature
    from critwin.theory.mixture_files import mixture_from_dict, mixture_from_toml
    from critwin.theory.mixtures import GaussianMixture

    if isinstance(mixture, str | Path):
        mixture = mixture_from_toml(mixture)
    elif isinstance(mixture, Mapping):
        mixture = mixture_from_dict(mixture)
    elif mixture is None:
        mixture = getattr(model, "mixture", None)
    if not isinstance(mixture, GaussianMixture):
        raise InputError(
            "feature 'component' needs a mixture",
            got=type(model if mixture is None else mixture).__name__,
            wanted="a GaussianMixture or its TOML file, or a model that is one",
        )
    return ComponentFeature(mixture=mixture, groups=groups, draw=draw, seed=seed, name=name)


def _classifier(
    *,
    file: str,
    abstain_below: float = 0.0,
    name: str | None = None,
    errors: str | Mapping[str, Any] | None = None,
) -> Feature:
    from critwin.features.classifier import load_classifier
    from critwin.features.labelling import ErrorMatrix, read_error_matrix

    matrix = None
    if errors is not None:
        matrix = (
            read_error_matrix(errors)
            if isinstance(errors, str)
            else (ErrorMatrix.from_dict(errors))
        )
    return load_classifier(file, abstain_below=abstain_below, name=name, errors=matrix)


def _digit(*, abstain_below: float = 0.0, name: str = "digit") -> Feature:
    import numpy as np

    from critwin.features.classifier import load_classifier
    from critwin.features.labelling import ErrorMatrix

    weights = files("critwin").joinpath("models", "digits", "weights")
    matrix = None
    if abstain_below == 0:  # measured on non-members without abstentions
        raw = json.loads(weights.joinpath("labeller_errors.json").read_text(encoding="utf-8"))
        matrix = ErrorMatrix(
            feature=name,
            labels=tuple(raw["labels"]),
            counts=np.array(raw["counts_true_by_said"]),
            abstained=np.zeros(len(raw["labels"]), dtype=np.int64),
        )
    return load_classifier(
        str(weights.joinpath("labeller.safetensors")),
        abstain_below=abstain_below,
        name=name,
        errors=matrix,
    )


_BUILTINS: Mapping[str, tuple[Callable[..., Any], str]] = {
    "component": (_component, "component of a Gaussian mixture, or group of components"),
    "classifier": (_classifier, "a small network with its labels, from a safetensors file"),
    "digit": (_digit, "digit of the shipped digits, by the shipped network"),
    "ground": (GroundFeature, "grey of the ground, by an exact pixel rule"),
    "ink": (InkFeature, "colour of the ink, by an exact pixel rule"),
}
