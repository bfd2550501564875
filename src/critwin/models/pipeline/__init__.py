"""Diffusion pipelines of diffusers as models: Stable Diffusion 1 to 3, XL, FLUX, DDPM, DiT.

The names are imported when they are asked for: torch, diffusers and transformers take seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from critwin.models.pipeline.loading import load_pipeline
    from critwin.models.pipeline.model import PipelineModel

__all__ = ["PipelineModel", "load_pipeline"]

_LAZY = {
    "PipelineModel": "critwin.models.pipeline.model",
    "load_pipeline": "critwin.models.pipeline.loading",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
