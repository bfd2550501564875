"""Families whose network is a UNet: on pixels, Stable Diffusion 1, 2 and XL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from critwin.errors import InputError
from critwin.models.pipeline.coding import ImageCoder
from critwin.models.pipeline.families import (
    Condition,
    GuidanceKind,
    call_default,
    image_size,
)

if TYPE_CHECKING:
    from torch import Tensor

    from critwin.models.pipeline.placement import Placement

__all__ = ["PixelFamily", "StableFamily", "XLFamily"]


class PixelFamily:
    """UNets on pixels: DDPM and DDIM pipelines, unconditional or told the number of a class.

    Args:
        pipe: The pipeline.
        height: Rows; None: the network's own.
        width: Columns; None: the network's own.

    Raises:
        InputError: If the network takes another size, or classes that are not numbers.
    """

    network = "unet"
    guidance_kind: GuidanceKind = "none"
    default_guidance: float | None = None
    encoders: tuple[str, ...] = ()
    tokenizers: Sequence[tuple[Any, int]] = ()

    def __init__(self, pipe: Any, *, height: int | None = None, width: int | None = None) -> None:
        self._pipe = pipe
        config = pipe.unet.config
        own = _pair(config.sample_size)
        height, width = image_size(own, height, width, multiple=1, is_fixed=True)
        self.sample_shape = (int(config.in_channels), height, width)
        self.coder = ImageCoder(vae=None, image_shape=self.sample_shape)
        if config.get("class_embed_type") is not None:
            raise InputError(
                "the network takes classes that are not numbers",
                got=f"class_embed_type {config.get('class_embed_type')!r}",
                wanted="num_class_embeds, or no classes",
                next_step="wrap it in critwin.Denoiser",
            )
        count = int(config.get("num_class_embeds") or 0)
        self.name = "class-conditional" if count else "unconditional"
        self.conditions: tuple[str, ...] | None = tuple(str(n) for n in range(count))
        self.plain: str | None = "0" if count else None

    def embed(self, condition: str | None, placement: Placement) -> Condition:
        """The number of the class, if there are classes.

        Args:
            condition: Number of the class as text; None without classes.
            placement: Where components run.

        Returns:
            ``{"label": (1,)}``, int64, or an empty mapping.

        Raises:
            InputError: If there are classes and none is given.
        """
        if not self.conditions:
            return {}
        if condition is None:
            raise InputError(
                "the network has no unconditional prediction: it always takes a class",
                got="no condition",
                wanted=f"a number from 0 to {len(self.conditions) - 1}",
                next_step='set conditions = ["0", "1"]',
            )
        return {"label": torch.tensor([int(condition)], dtype=torch.int64)}

    def call(self, x: Tensor, t: Tensor, condition: Condition, guidance: float | None) -> Tensor:
        """One call of the UNet; see :class:`Family`.

        Args:
            x: Shape ``(N, C, H, W)``.
            t: A scalar.
            condition: ``label``, N rows, or empty.
            guidance: None.

        Returns:
            Shape ``(N, C or 2 C, H, W)``.
        """
        told = {"class_labels": condition["label"]} if condition else {}
        output: Tensor = self._pipe.unet(x, t, **told, return_dict=False)[0]
        return output

    def steps(self, count: int, scheduler: Any) -> dict[str, Any]:
        """The number of steps.

        Args:
            count: Number of steps.
            scheduler: The scheduler.

        Returns:
            ``{"num_inference_steps": count}``.
        """
        return {"num_inference_steps": count}


class StableFamily:
    """Stable Diffusion 1.x and 2.x: a UNet with one text encoder.

    Args:
        pipe: The pipeline.
        height: Rows of the images; None: the pipeline's own.
        width: Columns of the images; None: the pipeline's own.
    """

    name = "Stable Diffusion"
    network = "unet"
    conditions: tuple[str, ...] | None = None
    plain: str | None = None
    encoders: tuple[str, ...] = ("text_encoder",)

    def __init__(self, pipe: Any, *, height: int | None = None, width: int | None = None) -> None:
        self._pipe = pipe
        factor = int(pipe.vae_scale_factor)
        own = tuple(factor * n for n in _pair(pipe.unet.config.sample_size))
        height, width = image_size(own, height, width, multiple=factor)
        self.coder = ImageCoder.of(pipe.vae, height, width)
        self.sample_shape = (_latent_channels(pipe), height // factor, width // factor)
        self._embedded = pipe.unet.config.get("time_cond_proj_dim")
        self.guidance_kind: GuidanceKind = "distilled" if self._embedded else "classifier-free"
        self.default_guidance: float | None = call_default(pipe, "guidance_scale")
        self.tokenizers = [(pipe.tokenizer, int(pipe.tokenizer.model_max_length))]

    def embed(self, condition: str | None, placement: Placement) -> Condition:
        """The prompt's hidden states; unconditional is the empty prompt.

        Args:
            condition: The prompt, or None.
            placement: Where components run.

        Returns:
            ``{"text": (1, tokens, width)}``.
        """
        text, _ = self._pipe.encode_prompt(condition or "", placement.device, 1, False)
        return {"text": text}

    def call(self, x: Tensor, t: Tensor, condition: Condition, guidance: float | None) -> Tensor:
        """One call of the UNet; see :class:`Family`.

        Args:
            x: Shape ``(N, C, H, W)``.
            t: A scalar.
            condition: ``text``, N rows.
            guidance: Guidance scale of a distilled network.

        Returns:
            Shape ``(N, C, H, W)``.
        """
        output: Tensor = self._pipe.unet(
            x,
            t,
            encoder_hidden_states=condition["text"],
            timestep_cond=_embedded_guidance(self._pipe, self._embedded, guidance, x),
            return_dict=False,
        )[0]
        return output

    def steps(self, count: int, scheduler: Any) -> dict[str, Any]:
        """The number of steps.

        Args:
            count: Number of steps.
            scheduler: The scheduler.

        Returns:
            ``{"num_inference_steps": count}``.
        """
        return {"num_inference_steps": count}


class XLFamily:
    """Stable Diffusion XL: two text encoders, pooled embeddings, and the size as time ids.

    Args:
        pipe: The pipeline.
        height: Rows of the images; None: the pipeline's own.
        width: Columns of the images; None: the pipeline's own.
    """

    name = "Stable Diffusion XL"
    network = "unet"
    conditions: tuple[str, ...] | None = None
    plain: str | None = None
    encoders: tuple[str, ...] = ("text_encoder", "text_encoder_2")

    def __init__(self, pipe: Any, *, height: int | None = None, width: int | None = None) -> None:
        self._pipe = pipe
        factor = int(pipe.vae_scale_factor)
        own = tuple(factor * n for n in _pair(pipe.default_sample_size))
        height, width = image_size(own, height, width, multiple=factor)
        self.coder = ImageCoder.of(pipe.vae, height, width)
        self.sample_shape = (_latent_channels(pipe), height // factor, width // factor)
        self._embedded = pipe.unet.config.get("time_cond_proj_dim")
        self.guidance_kind: GuidanceKind = "distilled" if self._embedded else "classifier-free"
        self.default_guidance: float | None = call_default(pipe, "guidance_scale")
        self._has_zeros = bool(pipe.config.get("force_zeros_for_empty_prompt", True))
        both = (pipe.tokenizer, pipe.tokenizer_2)
        self.tokenizers = [(one, int(one.model_max_length)) for one in both]

    def embed(self, condition: str | None, placement: Placement) -> Condition:
        """The prompt's hidden states of both encoders, the pooled one, and the image's size.

        Args:
            condition: The prompt; None is unconditional, zeros where the pipeline says so.
            placement: Where components run.

        Returns:
            ``text``, ``pooled`` and ``time_ids``, one row each.
        """
        text, _, pooled, _ = self._pipe.encode_prompt(
            prompt=condition or "",
            device=placement.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        if condition is None and self._has_zeros:
            text, pooled = torch.zeros_like(text), torch.zeros_like(pooled)
        size = self.coder.image_shape[1:]
        time_ids = self._pipe._get_add_time_ids(
            size,
            (0, 0),
            size,
            dtype=text.dtype,
            text_encoder_projection_dim=int(self._pipe.text_encoder_2.config.projection_dim),
        )
        return {"text": text, "pooled": pooled, "time_ids": time_ids}

    def call(self, x: Tensor, t: Tensor, condition: Condition, guidance: float | None) -> Tensor:
        """One call of the UNet; see :class:`Family`.

        Args:
            x: Shape ``(N, C, H, W)``.
            t: A scalar.
            condition: ``text``, ``pooled`` and ``time_ids``, N rows.
            guidance: Guidance scale of a distilled network.

        Returns:
            Shape ``(N, C, H, W)``.
        """
        output: Tensor = self._pipe.unet(
            x,
            t,
            encoder_hidden_states=condition["text"],
            timestep_cond=_embedded_guidance(self._pipe, self._embedded, guidance, x),
            added_cond_kwargs={
                "text_embeds": condition["pooled"],
                "time_ids": condition["time_ids"],
            },
            return_dict=False,
        )[0]
        return output

    def steps(self, count: int, scheduler: Any) -> dict[str, Any]:
        """The number of steps.

        Args:
            count: Number of steps.
            scheduler: The scheduler.

        Returns:
            ``{"num_inference_steps": count}``.
        """
        return {"num_inference_steps": count}


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, int):
        return (size, size)
    height, width = size
    return (int(height), int(width))


def _latent_channels(pipe: Any) -> int:
    """Channels of the latents; a UNet that takes more needs a picture or a mask beside them."""
    wanted, own = int(pipe.unet.config.in_channels), int(pipe.vae.config.latent_channels)
    if wanted != own:
        raise InputError(
            "the UNet takes more than noisy latents (inpainting, depth, editing)",
            got=f"{wanted} channels",
            wanted=f"{own}, those of the VAE's latents",
        )
    return own


def _embedded_guidance(pipe: Any, size: int | None, guidance: float | None, x: Tensor) -> Any:
    """Guidance as an input of a distilled UNet (latent consistency models)."""
    if not size:
        return None
    scale = torch.full((len(x),), (1.0 if guidance is None else guidance) - 1.0)
    embedded = pipe.get_guidance_scale_embedding(scale, embedding_dim=size)
    return embedded.to(device=x.device, dtype=x.dtype)
