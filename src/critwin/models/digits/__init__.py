"""The shipped digits models: data with planted features, and small class-conditional UNets.

The data need NumPy only; the model is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from critwin.models.digits.data import VARIANTS, DigitsData, Variant, load_data, load_planted

if TYPE_CHECKING:
    from critwin.models.digits.dataset import DigitsDataset
    from critwin.models.digits.model import DigitsModel, load_digits

__all__ = [
    "VARIANTS",
    "DigitsData",
    "DigitsDataset",
    "DigitsModel",
    "Variant",
    "load_data",
    "load_digits",
    "load_planted",
]

_LAZY = {
    "DigitsDataset": "critwin.models.digits.dataset",
    "DigitsModel": "critwin.models.digits.model",
    "load_digits": "critwin.models.digits.model",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
