"""Features: what can be read off a sample, how well, and what that does to the curves.

A mixture's component, a classifier, exact pixel rules, any callable. What needs torch is imported
when it is asked for.
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
from critwin.features.correction import CorrectedTransitions, correct_labels
from critwin.features.fingerprints import fingerprint_of
from critwin.features.function import FunctionComparison, FunctionFeature
from critwin.features.labelling import ErrorMatrix, error_matrix
from critwin.features.pixels import GroundFeature, InkFeature
from critwin.features.registry import list_features, load_feature

if TYPE_CHECKING:
    from critwin.features.classifier import ClassifierFeature, load_classifier
    from critwin.features.component import ComponentFeature

__all__ = [
    "ClassifierFeature",
    "Comparison",
    "ComponentFeature",
    "CorrectedTransitions",
    "ErrorMatrix",
    "Feature",
    "FunctionComparison",
    "FunctionFeature",
    "GroundFeature",
    "InkFeature",
    "Reading",
    "check_feature",
    "checked_compare",
    "checked_read",
    "correct_labels",
    "error_matrix",
    "fingerprint_of",
    "list_features",
    "load_classifier",
    "load_feature",
]

_LAZY = {
    "ClassifierFeature": "critwin.features.classifier",
    "ComponentFeature": "critwin.features.component",
    "load_classifier": "critwin.features.classifier",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
