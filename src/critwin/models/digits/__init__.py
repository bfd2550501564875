"""The shipped digits models: data with planted features, and small class-conditional UNets.

The data need NumPy only; the model is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from critwin.models.digits.data import VARIANTS, DigitsData, Variant, load_data, load_planted

if TYPE_CHECKING:
    from critwin.models.digits.dataset import DigitsDataset
    from critwin.models.digits.loading import GUIDANCE, GUIDANCE_INTERVAL, load_digits
    from critwin.models.digits.model import DigitsModel

__all__ = [
    "GUIDANCE",
    "GUIDANCE_INTERVAL",
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
    "GUIDANCE": "critwin.models.digits.loading",
    "GUIDANCE_INTERVAL": "critwin.models.digits.loading",
    "load_digits": "critwin.models.digits.loading",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
