"""What makes each built-in feature of an experiment file; torch is imported when it is needed.

Options are plain values, as TOML has them; files are paths.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critwin.errors import InputError
from critwin.features._pretrained import DEFAULT_ENCODER
from critwin.features.zero_shot import DEFAULT_TEMPLATES

if TYPE_CHECKING:
    from critwin.features.base import Comparison, Feature
    from critwin.features.calibration import Calibration
    from critwin.features.labelling import ErrorMatrix

__all__: list[str] = []

_ROWS = 256  # of a data set, decoded at a time


def component(
    *,
    mixture: Any = None,
    groups: Mapping[str, Any] | None = None,
    draw: bool = False,
    seed: int = 0,
    name: str = "component",
    model: object = None,
) -> Feature:
    """A component of a mixture."""
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


def classifier(
    *,
    file: str,
    abstain_below: float = 0.0,
    name: str | None = None,
    errors: str | Mapping[str, Any] | None = None,
) -> Feature:
    """A small network from a file."""
    from critwin.features.classifier import load_classifier

    return load_classifier(file, abstain_below=abstain_below, name=name, errors=_matrix(errors))


def digit(*, abstain_below: float = 0.0, name: str = "digit") -> Feature:
    """The shipped labeller of digits."""
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


def zero_shot(
    *,
    labels: Any,
    path: str = DEFAULT_ENCODER,
    templates: Any = DEFAULT_TEMPLATES,
    margin: float = 0.0,
    min_score: float | None = None,
    temperature: float | None = None,
    calibration: str | Mapping[str, Any] | None = None,
    errors: str | Mapping[str, Any] | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int = 16,
    name: str = "zero-shot",
) -> Feature:
    """Labels in words, by CLIP or SigLIP."""
    from critwin.features.encoders import load_encoder
    from critwin.features.zero_shot import ZeroShotFeature

    encoder = load_encoder(
        path,
        revision=revision,
        local_files_only=local_files_only,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )
    return ZeroShotFeature(
        encoder,
        labels,
        name=name,
        templates=templates,
        margin=margin,
        min_score=min_score,
        temperature=temperature,
        calibration=_calibration(calibration),
        errors=_matrix(errors),
    )


def image_classifier(
    *,
    path: str,
    labels: Mapping[str, Any] | None = None,
    margin: float = 0.0,
    temperature: float = 1.0,
    calibration: str | Mapping[str, Any] | None = None,
    errors: str | Mapping[str, Any] | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int = 16,
    name: str = "image-classifier",
) -> Feature:
    """Labels from the classes of an image classifier of transformers."""
    from critwin.features.image_classifier import load_image_classifier

    return load_image_classifier(
        path,
        labels,
        name=name,
        margin=margin,
        temperature=temperature,
        calibration=_calibration(calibration),
        errors=_matrix(errors),
        revision=revision,
        local_files_only=local_files_only,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )


def clusters(
    *,
    file: str,
    labels: Any = None,
    abstain_beyond: float | None = None,
    path: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int = 16,
    name: str | None = None,
) -> Feature:
    """Clusters of images, fitted before."""
    from critwin.features.clusters import load_clusters

    return load_clusters(
        file,
        labels=labels,
        abstain_beyond=abstain_beyond,
        name=name,
        path=path,
        revision=revision,
        local_files_only=local_files_only,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )


def embedding(
    *,
    path: str = DEFAULT_ENCODER,
    revision: str | None = None,
    local_files_only: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int = 16,
    name: str = "embedding",
) -> Comparison:
    """Cosine distance of source and result in the image embedding of CLIP or SigLIP."""
    from critwin.features.embedding import EmbeddingComparison, EncoderEmbedding
    from critwin.features.encoders import load_encoder

    encoder = load_encoder(
        path,
        revision=revision,
        local_files_only=local_files_only,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )
    return EmbeddingComparison(EncoderEmbedding(encoder), name=name)


def neighbours(*, name: str = "neighbours", model: object = None) -> Comparison:
    """Where a result lands among the samples of the model's data set, as they look decoded."""
    import numpy as np

    from critwin.features._inputs import to_numpy
    from critwin.features.neighbours import Neighbours

    make = getattr(model, "dataset", None)
    data = make() if callable(make) else make
    if model is None or data is None:
        raise InputError(
            "comparison 'neighbours' needs a model with a data set",
            got="no model" if model is None else f"{getattr(model, 'name', model)!s} has none",
            next_step="give the images themselves, from Python: Neighbours(images)",
        )
    known: Any = model
    parts = [
        to_numpy(known.decode(data.clean(list(range(start, min(start + _ROWS, len(data)))))))
        for start in range(0, len(data), _ROWS)
    ]
    return Neighbours(np.concatenate(parts) if parts else np.zeros((0, 1)), name=name)


def _matrix(errors: str | Mapping[str, Any] | None) -> ErrorMatrix | None:
    from critwin.features.labelling import ErrorMatrix, read_error_matrix

    if errors is None:
        return None
    return read_error_matrix(errors) if isinstance(errors, str) else ErrorMatrix.from_dict(errors)


def _calibration(given: str | Mapping[str, Any] | None) -> Calibration | None:
    from critwin.features.calibration import Calibration, read_calibration

    if given is None:
        return None
    return read_calibration(given) if isinstance(given, str) else Calibration.from_dict(given)
