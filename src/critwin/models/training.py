"""What a model was trained on, where that is known: the data that predict its windows.

The shipped digits have their data in the package. A package that brings a model may say the same
of its own: the callable that its entry point names has an attribute ``training_data``, a function
of the feature names and of the options under ``[model]`` that returns :class:`TrainingData` or
None. Nothing is loaded but that data: no network, no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.models.registry import GROUP

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TrainingData", "training_data"]


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingData:
    """Labelled training data, each distinct sample once.

    Attributes:
        points: In the units in which the model adds noise, shape ``(N, D)``.
        labels: Feature -> label of every sample, text, shape ``(N,)``.
        weights: How often an epoch shows each sample, shape ``(N,)``.
    """

    points: NDArray[Any]
    labels: Mapping[str, NDArray[np.str_]]
    weights: NDArray[np.float64]


def training_data(
    model: str, features: Sequence[str], options: Mapping[str, Any] | None = None
) -> TrainingData | None:
    """The data that a model was trained on, with the labels of some features.

    Args:
        model: Name of the model, as under ``[model]``.
        features: Features or products; those that the data do not carry are left out.
        options: Options of the model.

    Returns:
        The data; None where they are unknown or carry none of the features.
    """
    if model == "digits":
        return _digits(features, options or {})
    points = list(metadata.entry_points(group=GROUP, name=model))
    if len(points) != 1:
        return None
    try:
        factory = points[0].load()
    except Exception:  # a package that cannot be imported knows nothing
        return None
    told: Callable[..., TrainingData | None] | None = getattr(factory, "training_data", None)
    return None if told is None else told(features, options or {})


def _digits(features: Sequence[str], options: Mapping[str, Any]) -> TrainingData | None:
    from critwin.models.digits.data import FEATURES, load_data

    known = [f for f in features if all(part in FEATURES for part in f.split("*"))]
    if not known or options.get("weights") is not None:  # other weights, other data
        return None
    data = load_data(options.get("variant", "main"))
    rows = np.flatnonzero(data.is_member)
    return TrainingData(
        points=data.render(rows).reshape(len(rows), -1),
        labels={name: np.array(data.labels(name))[data.label(name)[rows]] for name in known},
        weights=data.multiplicity[rows].astype(np.float64),
    )
