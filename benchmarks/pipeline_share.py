"""How the time of a forward–reverse image divides, with networks of Stable Diffusion 2.1's size.

UNet (865 M parameters), VAE, text encoder (OpenCLIP H) and a zero-shot labeller (CLIP L/14) are
built from their public configurations with random weights, whose speed is that of trained ones.
The package makes one generated source and one result from its noisiest level, 512 x 512 pixels,
guidance as one doubled batch; the time spent inside each network is taken. Denoising is linear in
the number of steps, so few are run (``--steps``) and scaled to 50; on a GPU run all.

    python benchmarks/pipeline_share.py [--steps 2] [--size 64] [--device cpu] [--dtype float32]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import critwin as cw
from critwin.features.encoders import PretrainedEncoder
from critwin.features.zero_shot import ZeroShotFeature
from critwin.models.pipeline import load_pipeline

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from tiny_pipelines import CLIP_VOCAB, STABLE, clip_tokenizer, seeded

PROMPT = "a highly realistic photo of a car"
LIMIT, ASKED_STEPS = 0.10, 50
ENDS = {
    "vocab_size": CLIP_VOCAB,
    "bos_token_id": CLIP_VOCAB - 2,
    "eos_token_id": CLIP_VOCAB - 1,
    "pad_token_id": CLIP_VOCAB - 1,
}


def pipeline(size: int, shrink: int) -> Any:
    """Stable Diffusion 2.1 by its public configuration, random weights; narrower by ``shrink``."""
    d, t = import_module("diffusers"), import_module("transformers")
    with seeded():
        unet = d.UNet2DConditionModel(
            sample_size=size,
            block_out_channels=[width // shrink for width in (320, 640, 1280, 1280)],
            attention_head_dim=[max(1, heads // shrink) for heads in (5, 10, 20, 20)],
            cross_attention_dim=1024 // shrink,
            norm_num_groups=32 // shrink,
            use_linear_projection=True,
        )
        vae = d.AutoencoderKL(
            block_out_channels=[width // shrink for width in (128, 256, 512, 512)],
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            layers_per_block=2,
            latent_channels=4,
            sample_size=8 * size,
            norm_num_groups=32 // shrink,
        )
        text = t.CLIPTextModel(
            t.CLIPTextConfig(
                hidden_size=1024 // shrink,
                intermediate_size=4096 // shrink,
                num_attention_heads=16 // shrink,
                num_hidden_layers=23,
                hidden_act="gelu",
                **ENDS,
            )
        )
    return d.StableDiffusionPipeline(
        unet=unet.eval(),
        scheduler=d.DDIMScheduler(**STABLE, set_alpha_to_one=False),
        vae=vae.eval(),
        text_encoder=text.eval(),
        tokenizer=clip_tokenizer(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def labeller(shrink: int) -> ZeroShotFeature:
    """Zero-shot CLIP L/14 by its public configuration, random weights."""
    t = import_module("transformers")
    with seeded():
        network = t.CLIPModel(
            t.CLIPConfig(
                text_config={
                    "hidden_size": 768 // shrink,
                    "intermediate_size": 3072 // shrink,
                    "num_attention_heads": 12 // min(shrink, 4),
                    "num_hidden_layers": 12,
                    **ENDS,
                },
                vision_config={
                    "hidden_size": 1024 // shrink,
                    "intermediate_size": 4096 // shrink,
                    "num_attention_heads": 16 // shrink,
                    "num_hidden_layers": 24,
                    "patch_size": 14,
                },
                projection_dim=768 // shrink,
            )
        )
    encoder = PretrainedEncoder(
        network.eval().requires_grad_(False),
        t.CLIPImageProcessorPil(),
        clip_tokenizer(),
        source="random",
        digest="0",
    )
    return ZeroShotFeature(encoder, ["a red car", "a blue car"], name="colour")


def clocked(home: Any, name: str, spent: dict[str, list[float]], key: str) -> None:
    """Take the time of every call of a method."""
    inner: Callable[..., Any] = getattr(home, name)

    def call(*args: Any, **options: Any) -> Any:
        wait()
        begun = time.perf_counter()
        found = inner(*args, **options)
        wait()
        spent[key].append(time.perf_counter() - begun)
        return found

    setattr(home, name, call)


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--size", type=int, default=64, help="latents of size x size")
    parser.add_argument("--shrink", type=int, default=1, help="networks narrower by this")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args(argv)
    spent: dict[str, list[float]] = defaultdict(list)
    pipe = pipeline(args.size, args.shrink)
    pipe = pipe.to(args.device, getattr(torch, args.dtype))
    feature = labeller(args.shrink)
    feature.encoder.network.to(args.device)
    size = sum(p.numel() for p in pipe.unet.parameters()) / 1e6
    model = load_pipeline(pipe, steps=args.steps, guidance=7.5)
    clocked(pipe.unet, "forward", spent, "network")
    clocked(pipe.text_encoder, "forward", spent, "text")
    clocked(pipe.vae, "decode", spent, "decoding")
    clocked(feature, "read", spent, "labelling")
    level = float(min(v for v in model.levels if v > -1e9))
    begun = time.perf_counter()
    records = cw.forward_reverse(
        model, feature, [level], num_sources=1, conditions=[PROMPT], replicates=1, batch_size=1
    )
    whole = time.perf_counter() - begun
    images = 2  # the source and its result
    assert len(records) == 1
    assert len(spent["network"]) == images * args.steps, "guidance is one doubled batch"
    assert len(spent["decoding"]) == images
    total = {name: sum(times) for name, times in spent.items()}
    denoising = total["network"] / (images * args.steps) * ASKED_STEPS
    beside = {name: total[name] / images for name in ("decoding", "labelling")}
    beside["text"] = total["text"]  # once a run, however many images
    share = sum(beside.values()) / (denoising + sum(beside.values()))
    print(
        f"UNet of {size:.0f} M parameters, {args.dtype}, {args.device}, "
        f"{torch.get_num_threads()} threads, {8 * args.size} pixels; {args.steps} steps run"
    )
    print(f"an image of {ASKED_STEPS} steps: denoising {denoising:.1f} s")
    for name, seconds in beside.items():
        print(f"  {name}: {seconds:.2f} s{', once a run' if name == 'text' else ''}")
    print(f"share of text, decoding and labelling: {100 * share:.1f} % (wanted: 10 % at most)")
    other = whole - sum(total.values())
    print(f"outside all networks, of the run as it was: {100 * other / whole:.1f} %")
    print(json.dumps({"share": share, "denoising_s": denoising, **beside, "other_s": other}))
    return 0 if share <= LIMIT or args.shrink > 1 else 1


if __name__ == "__main__":
    raise SystemExit(main())
