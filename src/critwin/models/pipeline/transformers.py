"""Families whose network is a transformer: Stable Diffusion 3, FLUX and DiT."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from critwin.models.pipeline.coding import ImageCoder
from critwin.models.pipeline.families import (
    Condition,
    GuidanceKind,
    call_default,
    image_size,
    text_length,
)

if TYPE_CHECKING:
    from torch import Tensor

    from critwin.models.pipeline.placement import Placement

__all__ = ["DiTFamily", "FluxFamily", "SD3Family"]


class SD3Family:
    """Stable Diffusion 3 and 3.5: flow matching, two CLIP encoders and, if it is there, a T5.

    Args:
        pipe: The pipeline.
        height: Rows of the images; None: the pipeline's own.
        width: Columns of the images; None: the pipeline's own.
        max_sequence_length: Tokens that the T5 reads; None: the pipeline's own.
    """

    name = "Stable Diffusion 3"
    network = "transformer"
    conditions: tuple[str, ...] | None = None
    plain: str | None = None
    guidance_kind: GuidanceKind = "classifier-free"
    encoders: tuple[str, ...] = ("text_encoder", "text_encoder_2", "text_encoder_3")

    def __init__(
        self,
        pipe: Any,
        *,
        height: int | None = None,
        width: int | None = None,
        max_sequence_length: int | None = None,
    ) -> None:
        self._pipe = pipe
        factor, patch = int(pipe.vae_scale_factor), int(pipe.transformer.config.patch_size)
        own = 2 * (factor * int(pipe.default_sample_size),)
        height, width = image_size(own, height, width, multiple=factor * patch)
        self.coder = ImageCoder.of(pipe.vae, height, width)
        channels = int(pipe.transformer.config.in_channels)
        self.sample_shape = (channels, height // factor, width // factor)
        self.default_guidance: float | None = call_default(pipe, "guidance_scale")
        self._length = text_length(pipe, max_sequence_length)
        both = (pipe.tokenizer, pipe.tokenizer_2)
        self.tokenizers = [(one, int(one.model_max_length)) for one in both]
        if pipe.text_encoder_3 is not None:
            self.tokenizers.append((pipe.tokenizer_3, self._length))

    def embed(self, condition: str | None, placement: Placement) -> Condition:
        """The prompt's hidden states and pooled embeddings; unconditional is the empty prompt.

        Args:
            condition: The prompt, or None.
            placement: Where components run.

        Returns:
            ``text`` and ``pooled``, one row each.
        """
        text = condition or ""
        hidden, _, pooled, _ = self._pipe.encode_prompt(
            prompt=text,
            prompt_2=text,
            prompt_3=text,
            device=placement.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
            max_sequence_length=self._length,
        )
        return {"text": hidden, "pooled": pooled}

    def call(self, x: Tensor, t: Tensor, condition: Condition, guidance: float | None) -> Tensor:
        """One call of the transformer; see :class:`critwin.models.pipeline.families.Family`.

        Args:
            x: Shape ``(N, C, H, W)``.
            t: A scalar.
            condition: ``text`` and ``pooled``, N rows.
            guidance: None.

        Returns:
            Velocities, shape ``(N, C, H, W)``.
        """
        output: Tensor = self._pipe.transformer(
            hidden_states=x,
            timestep=t.to(x.device).expand(len(x)),
            encoder_hidden_states=condition["text"],
            pooled_projections=condition["pooled"],
            return_dict=False,
        )[0]
        return output

    def steps(self, count: int, scheduler: Any) -> dict[str, Any]:
        """The number of steps, and the shift where it depends on the size.

        Args:
            count: Number of steps.
            scheduler: The scheduler.

        Returns:
            Arguments of ``set_timesteps``.
        """
        patch = int(self._pipe.transformer.config.patch_size)
        length = (self.sample_shape[1] // patch) * (self.sample_shape[2] // patch)
        asked: dict[str, Any] = {"num_inference_steps": count}
        if scheduler.config.get("use_dynamic_shifting", None):
            asked["mu"] = _shift(scheduler, length, max_shift=1.16)
        return asked


class FluxFamily:
    """FLUX.1: packed latents with ids of image and text, guidance as an input of the network.

    Samples are latents ``(C, H, W)``; they are packed for the network alone.

    Args:
        pipe: The pipeline.
        height: Rows of the images; None: the pipeline's own.
        width: Columns of the images; None: the pipeline's own.
        max_sequence_length: Tokens that the T5 reads; None: the pipeline's own.
    """

    name = "FLUX"
    network = "transformer"
    conditions: tuple[str, ...] | None = None
    plain: str | None = None
    encoders: tuple[str, ...] = ("text_encoder", "text_encoder_2")

    def __init__(
        self,
        pipe: Any,
        *,
        height: int | None = None,
        width: int | None = None,
        max_sequence_length: int | None = None,
    ) -> None:
        self._pipe = pipe
        factor = int(pipe.vae_scale_factor)
        own = 2 * (factor * int(pipe.default_sample_size),)
        height, width = image_size(own, height, width, multiple=2 * factor)
        self.coder = ImageCoder.of(pipe.vae, height, width)
        channels = int(pipe.transformer.config.in_channels) // 4
        self.sample_shape = (channels, height // factor, width // factor)
        is_distilled = bool(pipe.transformer.config.guidance_embeds)
        self.guidance_kind: GuidanceKind = "distilled" if is_distilled else "classifier-free"
        self.default_guidance: float | None = (
            call_default(pipe, "guidance_scale") if is_distilled else None
        )
        self._length = text_length(pipe, max_sequence_length)
        clip = (pipe.tokenizer, int(pipe.tokenizer.model_max_length))
        self.tokenizers = [clip, (pipe.tokenizer_2, self._length)]

    def embed(self, condition: str | None, placement: Placement) -> Condition:
        """The prompt's hidden states of the T5 and the pooled embedding of CLIP.

        Args:
            condition: The prompt; None is the empty one.
            placement: Where components run.

        Returns:
            ``text`` and ``pooled``, one row each.
        """
        hidden, pooled, _ = self._pipe.encode_prompt(
            prompt=condition or "",
            prompt_2=None,
            device=placement.device,
            num_images_per_prompt=1,
            max_sequence_length=self._length,
        )
        return {"text": hidden, "pooled": pooled}

    def call(self, x: Tensor, t: Tensor, condition: Condition, guidance: float | None) -> Tensor:
        """One call of the transformer; see :class:`critwin.models.pipeline.families.Family`.

        Args:
            x: Latents, shape ``(N, C, H, W)``.
            t: A scalar.
            condition: ``text`` and ``pooled``, N rows.
            guidance: Guidance scale, if the network takes one.

        Returns:
            Velocities, shape ``(N, C, H, W)``.
        """
        num, channels, height, width = x.shape
        text = condition["text"]
        scale = None
        if self.guidance_kind == "distilled":
            value = 1.0 if guidance is None else guidance
            scale = torch.full((num,), value, device=x.device, dtype=torch.float32)
        packed = self._pipe._pack_latents(x, num, channels, height, width)
        output: Tensor = self._pipe.transformer(
            hidden_states=packed,
            timestep=t.to(x.device).expand(num).to(x.dtype) / 1000,
            guidance=scale,
            pooled_projections=condition["pooled"],
            encoder_hidden_states=text,
            txt_ids=torch.zeros(text.shape[1], 3, device=x.device, dtype=text.dtype),
            img_ids=self._pipe._prepare_latent_image_ids(
                num, height // 2, width // 2, x.device, text.dtype
            ),
            return_dict=False,
        )[0]
        rows, columns = self.coder.image_shape[1:]
        unpacked: Tensor = self._pipe._unpack_latents(
            output, rows, columns, self._pipe.vae_scale_factor
        )
        return unpacked

    def steps(self, count: int, scheduler: Any) -> dict[str, Any]:
        """Steps uniform in flow time before the shift, which depends on the size.

        Args:
            count: Number of steps.
            scheduler: The scheduler.

        Returns:
            Arguments of ``set_timesteps``.
        """
        length = (self.sample_shape[1] // 2) * (self.sample_shape[2] // 2)
        takes = inspect.signature(scheduler.set_timesteps).parameters
        asked: dict[str, Any] = {}
        if "sigmas" in takes and not scheduler.config.get("use_flow_sigmas", False):
            asked["sigmas"] = np.linspace(1.0, 1 / count, count)
        else:
            asked["num_inference_steps"] = count
        if "mu" in takes:
            asked["mu"] = _shift(scheduler, length, max_shift=1.15)
        return asked


class DiTFamily:
    """DiT: conditions are classes; the class beyond the last one is unconditional.

    Args:
        pipe: The pipeline.
        height: Rows of the images; None: the network's own.
        width: Columns of the images; None: the network's own.
        id2label: Number of a class -> its names, with commas between; None: what the pipeline
            made of them, in which a name of two classes is that of the last one.
    """

    name = "DiT"
    network = "transformer"
    plain: str | None = None
    guidance_kind: GuidanceKind = "classifier-free"
    encoders: tuple[str, ...] = ()
    tokenizers: Sequence[tuple[Any, int]] = ()

    def __init__(
        self,
        pipe: Any,
        *,
        height: int | None = None,
        width: int | None = None,
        id2label: Mapping[Any, str] | None = None,
    ) -> None:
        self._pipe = pipe
        config = pipe.transformer.config
        size = int(config.sample_size)
        factor = 2 ** (len(pipe.vae.config.block_out_channels) - 1)
        own = (factor * size, factor * size)
        height, width = image_size(own, height, width, multiple=factor, is_fixed=True)
        self.coder = ImageCoder.of(pipe.vae, height, width)
        self.sample_shape = (int(config.in_channels), size, size)
        self.default_guidance: float | None = call_default(pipe, "guidance_scale")
        self._null = int(config.num_embeds_ada_norm)
        self.conditions: tuple[str, ...] | None = _class_names(pipe.labels, self._null, id2label)

    def embed(self, condition: str | None, placement: Placement) -> Condition:
        """The number of the class.

        Args:
            condition: Name of the class, or None.
            placement: Where components run.

        Returns:
            ``{"label": (1,)}``, int64.
        """
        assert self.conditions is not None
        number = self._null if condition is None else self.conditions.index(condition)
        return {"label": torch.tensor([number], dtype=torch.int64)}

    def call(self, x: Tensor, t: Tensor, condition: Condition, guidance: float | None) -> Tensor:
        """One call of the transformer; see :class:`critwin.models.pipeline.families.Family`.

        Args:
            x: Shape ``(N, C, H, W)``.
            t: A scalar.
            condition: ``label``, N rows.
            guidance: None.

        Returns:
            Shape ``(N, C or 2 C, H, W)``.
        """
        output: Tensor = self._pipe.transformer(
            x,
            timestep=t.to(x.device).expand(len(x)),
            class_labels=condition["label"],
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


def _class_names(
    labels: Mapping[str, int], count: int, id2label: Mapping[Any, str] | None
) -> tuple[str, ...]:
    """A name a class: the first that no other class has, or one with its number, or that alone."""
    found: dict[int, list[str]] = {}
    if id2label is None:
        for name, number in labels.items():
            found.setdefault(int(number), []).append(name)
    else:
        for key, text in id2label.items():
            found[int(key)] = [name for part in str(text).split(",") if (name := part.strip())]
    times = Counter(name for names in found.values() for name in dict.fromkeys(names))
    names: list[str] = []
    for number in range(count):
        own = found.get(number, [])
        shared = f"{own[0]} ({number})" if own else str(number)
        name = next((one for one in own if times[one] == 1), shared)
        names.append(f"{name} ({number})" if name in names else name)
    return tuple(names)


def _shift(scheduler: Any, length: int, *, max_shift: float) -> float:
    """The shift of flow times for so many image tokens, as the pipeline works it out."""
    flux: Any = import_module("diffusers.pipelines.flux.pipeline_flux")
    config = scheduler.config
    return float(
        flux.calculate_shift(
            length,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", max_shift),
        )
    )
