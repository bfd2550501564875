"""Tiny diffusion pipelines of every family, built in code: random weights, own tokenizers.

Nothing is fetched. The weights are seeded and mean nothing: these pipelines prove plumbing (that
critwin's loop is the pipeline's own), not windows.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

SIZE = 16
"""Pixels of the images that the pipelines with a VAE make; latents are 8 x 8."""


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Weights of modules made inside are always the same; the global generator is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def diffusers() -> Any:
    return import_module("diffusers")


def transformers() -> Any:
    return import_module("transformers")


# --- tokenizers ---------------------------------------------------------------------------


def clip_tokenizer(length: int = 77) -> Any:
    """A CLIP tokenizer that reads letter by letter."""
    letters = [chr(n) for n in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: number for number, token in enumerate(tokens)}
    return transformers().CLIPTokenizer(vocab=vocab, merges=[], model_max_length=length)


CLIP_VOCAB = 2 * 94 + 2


def t5_tokenizer(length: int = 64) -> Any:
    """A T5 tokenizer that reads letter by letter."""
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocab += [(letter, -3.0) for letter in string.printable if not letter.isspace()]
    return transformers().T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=length)


T5_VOCAB = 4 + 94


# --- text encoders, VAEs ------------------------------------------------------------------


def clip_text(*, hidden: int = 32, projection: int | None = None) -> Any:
    config = transformers().CLIPTextConfig(
        bos_token_id=CLIP_VOCAB - 2,
        eos_token_id=CLIP_VOCAB - 1,
        pad_token_id=CLIP_VOCAB - 1,
        hidden_size=hidden,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        vocab_size=CLIP_VOCAB,
        projection_dim=hidden if projection is None else projection,
        hidden_act="gelu",
    )
    kind = "CLIPTextModel" if projection is None else "CLIPTextModelWithProjection"
    return getattr(transformers(), kind)(config).eval()


def t5_text(hidden: int = 32) -> Any:
    config = transformers().T5Config(
        vocab_size=T5_VOCAB,
        d_model=hidden,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        is_encoder_decoder=False,
        tie_word_embeddings=False,
    )
    return transformers().T5EncoderModel(config).eval()


def tiny_vae(channels: int = 4, **options: Any) -> Any:
    """A VAE that halves the size of an image once."""
    return (
        diffusers()
        .AutoencoderKL(
            block_out_channels=[8, 16],
            in_channels=3,
            out_channels=3,
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            latent_channels=channels,
            norm_num_groups=4,
            sample_size=SIZE,
            **options,
        )
        .eval()
    )


STABLE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
}
"""Schedule of Stable Diffusion."""


# --- pipelines ----------------------------------------------------------------------------


def tiny_sd(prediction: str = "epsilon", scheduler: str = "DDIMScheduler", **options: Any) -> Any:
    """Stable Diffusion 1.x / 2.x."""
    d = diffusers()
    with seeded():
        unet = d.UNet2DConditionModel(
            block_out_channels=(8, 16),
            layers_per_block=1,
            sample_size=8,
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32,
            norm_num_groups=4,
            attention_head_dim=4,
        ).eval()
        vae, text = tiny_vae(), clip_text()
    config = {**STABLE, "set_alpha_to_one": False, "prediction_type": prediction, **options}
    return d.StableDiffusionPipeline(
        unet=unet,
        scheduler=getattr(d, scheduler).from_config(config),
        vae=vae,
        text_encoder=text,
        tokenizer=clip_tokenizer(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def tiny_sdxl(scheduler: str = "EulerDiscreteScheduler", **options: Any) -> Any:
    """Stable Diffusion XL: two encoders, pooled embeddings, time ids."""
    d = diffusers()
    with seeded():
        unet = d.UNet2DConditionModel(
            block_out_channels=(8, 16),
            layers_per_block=1,
            sample_size=8,
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 1),
            projection_class_embeddings_input_dim=32 + 6 * 8,
            cross_attention_dim=64,
            norm_num_groups=4,
        ).eval()
        vae = tiny_vae(force_upcast=True)
        first, second = clip_text(), clip_text(projection=32)
    config = {**STABLE, "timestep_spacing": "leading", **options}
    return d.StableDiffusionXLPipeline(
        unet=unet,
        scheduler=getattr(d, scheduler).from_config(config),
        vae=vae,
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        add_watermarker=False,
    )


def tiny_sd3(*, shift: float = 3.0) -> Any:
    """Stable Diffusion 3: a transformer, two CLIP encoders and a T5."""
    d = diffusers()
    with seeded():
        transformer = d.SD3Transformer2DModel(
            sample_size=8,
            patch_size=1,
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=32,
            pooled_projection_dim=64,
            out_channels=4,
        ).eval()
        vae = tiny_vae(shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False)
        first, second, third = clip_text(projection=32), clip_text(projection=32), t5_text()
    return d.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=d.FlowMatchEulerDiscreteScheduler(shift=shift),
        vae=vae,
        text_encoder=first,
        text_encoder_2=second,
        text_encoder_3=third,
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        tokenizer_3=t5_tokenizer(),
    )


def tiny_flux(*, guidance_embeds: bool = True) -> Any:
    """FLUX: packed latents, ids of text and image, distilled guidance, dynamic shift."""
    d = diffusers()
    with seeded():
        transformer = d.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=[4, 4, 8],
            guidance_embeds=guidance_embeds,
        ).eval()
        vae = tiny_vae(shift_factor=0.1, scaling_factor=0.4, use_quant_conv=False)
        first, second = clip_text(), t5_text()
    pipe = d.FluxPipeline(
        transformer=transformer,
        scheduler=d.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        vae=vae,
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=clip_tokenizer(),
        tokenizer_2=t5_tokenizer(),
    )
    pipe.default_sample_size = SIZE // pipe.vae_scale_factor
    return pipe


def tiny_ddpm(scheduler: str = "DDPMScheduler", **options: Any) -> Any:
    """An unconditional UNet on pixels."""
    d = diffusers()
    with seeded():
        unet = d.UNet2DModel(
            sample_size=8,
            in_channels=3,
            out_channels=3,
            layers_per_block=1,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            attention_head_dim=4,
        ).eval()
    return d.DDPMPipeline(unet=unet, scheduler=getattr(d, scheduler).from_config(options))


LABELS = {0: "cat, tomcat", 1: "dog", 2: "crane", 3: "crane"}


def tiny_dit(scheduler: str = "DDIMScheduler", *, learned: bool = True, **options: Any) -> Any:
    """DiT: conditions are classes; the null class is the last one."""
    d = diffusers()
    with seeded():
        transformer = d.DiTTransformer2DModel(
            sample_size=8,
            num_layers=1,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=2,
            in_channels=4,
            out_channels=8 if learned else 4,
            num_embeds_ada_norm=1000,
            norm_elementwise_affine=False,
        ).eval()
        with torch.no_grad():  # adaptive norms start at zero: classes would not matter
            for block in transformer.transformer_blocks:
                block.norm1.linear.weight.normal_(std=0.1)
            transformer.proj_out_1.weight.normal_(std=0.1)
        vae = tiny_vae()
    config = {"clip_sample": False, **options}
    return d.DiTPipeline(
        transformer=transformer,
        vae=vae,
        scheduler=getattr(d, scheduler).from_config(config),
        id2label=dict(LABELS),
    )


TINY: Mapping[str, Callable[..., Any]] = {
    "sd": tiny_sd,
    "sdxl": tiny_sdxl,
    "sd3": tiny_sd3,
    "flux": tiny_flux,
    "ddpm": tiny_ddpm,
    "dit": tiny_dit,
}
"""Builders by family."""


def save_tiny(family: str, folder: str | Path, **options: Any) -> Path:
    """Build a tiny pipeline and save it as a model folder."""
    pipe = TINY[family](**options)
    pipe.save_pretrained(str(folder), safe_serialization=True)
    if family == "dit":  # the hub's folders name the classes in their index
        index = Path(folder) / "model_index.json"
        content = json.loads(index.read_text(encoding="utf-8"))
        content["id2label"] = {str(number): label for number, label in LABELS.items()}
        index.write_text(json.dumps(content), encoding="utf-8")
    return Path(folder)
