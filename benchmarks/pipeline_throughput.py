"""Forward–reverse images a second on a diffusers pipeline, against the way scripts do it.

A Stable-Diffusion-like pipeline with random weights (about 10 M parameters in the UNet) noises and
denoises the same latents from the same level at the same number of steps, with guidance:

- *reference*, as scripts do it: one image at a time in float32, the prompt encoded again for each,
  two calls of the network a step;
- *cached*: one image at a time, the prompt encoded once, guidance as one doubled batch;
- *batched*: the same in batches.

All three give the same images, which is checked first. On a GPU (``--device cuda``) the batched
way also runs in bfloat16, with the peak memory and the share of the card's matrix peak.

    python benchmarks/pipeline_throughput.py [--images 8] [--batch 8] [--steps 10] [--device cpu]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from critwin.models.pipeline import load_pipeline
from critwin.streams import UnitStreams

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from tiny_pipelines import STABLE, clip_text, clip_tokenizer, seeded, tiny_vae

PROMPT = "a highly realistic photo of a car"
SCALE = 7.5


def pipeline(widths: tuple[int, ...], size: int, hidden: int) -> Any:
    """A pipeline with random weights."""
    d: Any = import_module("diffusers")
    with seeded():
        unet = d.UNet2DConditionModel(
            block_out_channels=widths,
            layers_per_block=1,
            sample_size=size,
            in_channels=4,
            out_channels=4,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=hidden,
            attention_head_dim=8,
            norm_num_groups=8,
        ).eval()
        vae, text = tiny_vae(), clip_text(hidden=hidden)
    return d.StableDiffusionPipeline(
        unet=unet,
        scheduler=d.DDIMScheduler(**STABLE, set_alpha_to_one=False),
        vae=vae,
        text_encoder=text,
        tokenizer=clip_tokenizer(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@torch.no_grad()
def reference(pipe: Any, noisy: torch.Tensor, steps: int, start: int) -> torch.Tensor:
    """One image at a time, everything computed again for each."""
    done = []
    for x in noisy:
        x = x[None]
        own, none = pipe.encode_prompt(PROMPT, x.device, 1, True)
        pipe.scheduler.set_timesteps(steps, device=x.device)
        for t in pipe.scheduler.timesteps[start:]:
            plain = pipe.unet(x, t, encoder_hidden_states=none).sample
            asked = pipe.unet(x, t, encoder_hidden_states=own).sample
            x = pipe.scheduler.step(plain + SCALE * (asked - plain), t, x).prev_sample
        done.append(x)
    return torch.cat(done)


def ours(model: Any, noisy: torch.Tensor, level: float, batch: int) -> torch.Tensor:
    """The package's own reversal, in batches of one size."""
    done = []
    for start in range(0, len(noisy), batch):
        part = noisy[start : start + batch]
        rows = [UnitStreams(0, f"s{i}", level, 0) for i in range(len(part))]
        done.append(model.denoise(part, level, [PROMPT] * len(part), rows, "ode"))
    return torch.cat(done)


def timed(run: Callable[[], Any], repeats: int) -> tuple[float, float, float]:
    """Seconds: median, least and most."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return float(np.median(times)), min(times), max(times)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--size", type=int, default=16, help="latents of size x size")
    parser.add_argument("--widths", type=int, nargs=3, default=(96, 128, 192))
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    pipe = pipeline(tuple(args.widths), args.size, args.hidden).to(args.device)
    model = load_pipeline(pipe, steps=args.steps, guidance=SCALE)
    start = args.steps // 5
    levels = np.sort(model.levels[np.isfinite(model.levels)])  # noisy first
    level = float(levels[start])
    rows = [UnitStreams(0, f"s{i}", level, 0) for i in range(args.images)]
    clean = torch.randn(
        (args.images, *model.sample_shape), generator=torch.Generator().manual_seed(0)
    )
    noisy = model.noise(clean, level, rows).to(args.device)
    num = sum(p.numel() for p in pipe.unet.parameters()) / 1e6

    wanted = reference(pipe, noisy, args.steps, start).cpu()
    for batch in (1, args.batch):
        gap = float((ours(model, noisy, level, batch).cpu() - wanted).abs().max())
        assert gap < 1e-3 * float(wanted.abs().max()), f"batch {batch}: {gap}"

    whole = [
        timed(lambda: reference(pipe, noisy, args.steps, start), args.repeats),
        timed(lambda: ours(model, noisy, level, 1), args.repeats),
        timed(lambda: ours(model, noisy, level, args.batch), args.repeats),
    ]
    print(f"UNet of {num:.1f} M parameters, {args.images} images, {args.steps - start} steps,")
    print(f"guidance {SCALE}, {args.device}, {torch.get_num_threads()} threads")
    names = ("reference", "cached", f"batched {args.batch}")
    for name, (median, least, most) in zip(names, whole, strict=True):
        ratio = whole[0][0] / median
        print(
            f"{name:12s} {args.images / median:7.3f} images/s  x{ratio:.2f}"
            f"  ({least:.2f} to {most:.2f} s)"
        )
    print(f"text encodings by the package: {model.num_text_encodings} (prompt and negative)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
