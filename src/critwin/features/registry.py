"""Features by name: the built-in ones, and those that other packages bring as entry points.

A package adds a feature with an entry point of the group ``critwin.features`` whose object is a
callable that takes the options of ``[[feature]]`` and returns a feature. There are no import paths
in experiment files.
"""

from __future__ import annotations

from typing import Any

from critwin.features import _factories
from critwin.features.base import Feature, check_feature
from critwin.features.colour import BrightnessFeature, HueFeature
from critwin.features.pixels import GroundFeature, InkFeature
from critwin.plugins import Builtins, Option, listing, named, named_options

__all__ = ["GROUP", "feature_options", "list_features", "load_feature"]

GROUP = "critwin.features"


def load_feature(
    feature: str | Feature, /, *, model: object = None, called: str | None = None, **options: Any
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
    return check_feature(
        named(GROUP, "feature", feature, _BUILTINS, model=model, called=called, options=options)
    )


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
    return named_options(_BUILTINS)


_BUILTINS: Builtins = {
    "component": (_factories.component, "component of a Gaussian mixture, or group of components"),
    "classifier": (
        _factories.classifier,
        "a small network with its labels, from a safetensors file",
    ),
    "digit": (_factories.digit, "digit of the shipped digits, by the shipped network"),
    "ground": (GroundFeature, "grey of the ground, by an exact pixel rule"),
    "ink": (InkFeature, "colour of the ink, by an exact pixel rule"),
    "zero-shot": (_factories.zero_shot, "labels in words, by CLIP or SigLIP"),
    "image-classifier": (
        _factories.image_classifier,
        "classes of an image classifier of transformers, several a label",
    ),
    "clusters": (_factories.clusters, "clusters of images, found before, from a file"),
    "hue": (HueFeature, "dominant hue of an image of any size, by an exact rule"),
    "brightness": (BrightnessFeature, "mean brightness of an image of any size, in bins"),
}
