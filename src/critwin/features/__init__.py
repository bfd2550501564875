"""Features: what can be read off a sample, how well, and what that does to the curves.

A mixture's component, classifiers, labels in words, clusters, exact pixel rules, any callable.
What needs torch is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from critwin.features.base import (
    Comparison,
    Feature,
    Reading,
    check_feature,
    checked_compare,
    checked_read,
)
from critwin.features.calibration import Calibration, calibrate, read_calibration
from critwin.features.clusters import ClusterFeature, fit_clusters, load_clusters
from critwin.features.colour import BrightnessFeature, HueFeature
from critwin.features.comparison_registry import list_comparisons, load_comparison
from critwin.features.correction import CorrectedTransitions, correct_labels
from critwin.features.distance import PixelComparison
from critwin.features.embedding import EmbeddingComparison
from critwin.features.fingerprints import fingerprint_of
from critwin.features.function import FunctionComparison, FunctionFeature
from critwin.features.labelling import ErrorMatrix, error_matrix, labelled_images
from critwin.features.pixels import GroundFeature, InkFeature
from critwin.features.registry import list_features, load_feature
from critwin.features.zero_shot import ZeroShotFeature

if TYPE_CHECKING:
    from critwin.features.classifier import ClassifierFeature, load_classifier
    from critwin.features.component import ComponentFeature
    from critwin.features.encoders import PretrainedEncoder, load_encoder
    from critwin.features.image_classifier import ImageClassifierFeature, load_image_classifier

__all__ = [
    "BrightnessFeature",
    "Calibration",
    "ClassifierFeature",
    "ClusterFeature",
    "Comparison",
    "ComponentFeature",
    "CorrectedTransitions",
    "EmbeddingComparison",
    "ErrorMatrix",
    "Feature",
    "FunctionComparison",
    "FunctionFeature",
    "GroundFeature",
    "HueFeature",
    "ImageClassifierFeature",
    "InkFeature",
    "PixelComparison",
    "PretrainedEncoder",
    "Reading",
    "ZeroShotFeature",
    "calibrate",
    "check_feature",
    "checked_compare",
    "checked_read",
    "correct_labels",
    "error_matrix",
    "fingerprint_of",
    "fit_clusters",
    "labelled_images",
    "list_comparisons",
    "list_features",
    "load_classifier",
    "load_clusters",
    "load_comparison",
    "load_encoder",
    "load_feature",
    "load_image_classifier",
    "read_calibration",
]

_LAZY = {
    "ClassifierFeature": "critwin.features.classifier",
    "ComponentFeature": "critwin.features.component",
    "ImageClassifierFeature": "critwin.features.image_classifier",
    "PretrainedEncoder": "critwin.features.encoders",
    "load_classifier": "critwin.features.classifier",
    "load_encoder": "critwin.features.encoders",
    "load_image_classifier": "critwin.features.image_classifier",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
