"""Experiments: pure plans of units, and the measuring of a batch of them.

The names are imported when they are asked for: torch takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from critwin.experiments.branching import clone, preview, prompt_switch
    from critwin.experiments.interventions import intervene
    from critwin.experiments.outcomes import effects
    from critwin.experiments.switches import followed, following

__all__ = [
    "clone",
    "effects",
    "followed",
    "following",
    "intervene",
    "preview",
    "prompt_switch",
]

_LAZY = {
    "clone": "critwin.experiments.branching",
    "effects": "critwin.experiments.outcomes",
    "followed": "critwin.experiments.switches",
    "following": "critwin.experiments.switches",
    "intervene": "critwin.experiments.interventions",
    "preview": "critwin.experiments.branching",
    "prompt_switch": "critwin.experiments.branching",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
