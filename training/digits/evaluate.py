"""Measure what the shipped digits model learned: ``evaluation.json``, model card, contact sheet.

Generates images with and without a digit as the condition, reads them with the shipped labeller
and the exact pixel rules, and compares with the planted tables. Every image has random streams of
its own, so more images extend a smaller evaluation and batching changes nothing but rounding.

Usage:
    python training/digits/evaluate.py [--per-digit 300] [--num-null 2000] [--sheet samples.png]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors import safe_open
from scipy.stats import binomtest, chi2
from torch import Tensor

from critwin.features.classifier import SmallConvNet
from critwin.features.pixels import GroundFeature, InkFeature
from critwin.models.digits.data import DIGIT_LABELS, GROUND_LABELS, INK_LABELS, load_data
from critwin.streams import Draws, UnitStreams

__all__ = ["evaluate", "main", "read_all", "sample"]

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/critwin/models/digits"
NULL_LABEL = 10
SEED = 1


def load_unet(weights: Path) -> tuple[UNet2DModel, np.ndarray]:
    """Read the network and ``alpha_bar`` of its 1,000 steps."""
    unet = UNet2DModel.from_pretrained(
        weights / "unet", local_files_only=True, low_cpu_mem_usage=False
    ).eval()
    unet.to(memory_format=torch.channels_last)
    scheduler = DDPMScheduler.from_pretrained(weights / "scheduler", local_files_only=True)
    return unet, scheduler.alphas_cumprod.double().numpy()


def load_labeller(weights: Path) -> SmallConvNet:
    """Read the digit labeller."""
    with safe_open(weights / "labeller.safetensors", framework="pt") as file:
        net = SmallConvNet(**json.loads(file.metadata()["architecture"]))
        net.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return net.eval()


@torch.inference_mode()
def sample(
    unet: UNet2DModel,
    alpha_bar: np.ndarray,
    labels: Sequence[int],
    streams: Sequence[UnitStreams],
    *,
    steps: int = 50,
    start: int | None = None,
    x_t: Tensor | None = None,
) -> Tensor:
    """Draw images by ancestral sampling (DDIM with eta 1) on evenly spaced steps.

    Args:
        unet: A network that predicts v.
        alpha_bar: Signal power at each training step, shape ``(T,)``.
        labels: Condition of each row, 0..9 or 10 for none, length N.
        streams: Random streams of each row, length N.
        steps: Network calls from the last training step; fewer from an earlier ``start``.
        start: Training step to start from; the last one by default.
        x_t: Images noised to ``start``, shape ``(N, 3, 28, 28)``; pure noise by default.

    Returns:
        Images, not clipped, shape ``(N, 3, 28, 28)``.
    """
    last = len(alpha_bar) - 1 if start is None else start
    stride = len(alpha_bar) / steps
    count = max(1, round((last + 1) / stride))
    grid = np.linspace(last + 1, 0, count + 1)[:-1].round().astype(int) - 1
    draws = Draws(streams, "reverse")
    x = draws.normal((3, 28, 28)) if x_t is None else x_t
    label = torch.as_tensor(labels)
    for k, step in enumerate(grid):
        power = alpha_bar[step]
        alpha, sigma = power**0.5, (1 - power) ** 0.5
        x = x.contiguous(memory_format=torch.channels_last)
        timestep = torch.full((len(x),), int(step))
        v = unet(x, timestep, class_labels=label).sample
        x_0, noise = alpha * x - sigma * v, alpha * v + sigma * x
        if k + 1 == len(grid):
            return x_0.contiguous()
        power_next = alpha_bar[grid[k + 1]]
        var = (1 - power_next) / (1 - power) * (1 - power / power_next)
        x = power_next**0.5 * x_0 + (1 - power_next - var) ** 0.5 * noise
        x = x + var**0.5 * draws.normal((3, 28, 28))
    raise AssertionError("the grid of steps is never empty")


def generate(
    unet: UNet2DModel, alpha_bar: np.ndarray, labels: np.ndarray, steps: int, batch: int = 200
) -> Tensor:
    """Draw one image per label; image i of a condition is the same in every evaluation."""
    seen: dict[int, int] = {}
    streams = []
    for label in labels.tolist():
        i = seen[label] = seen.get(label, -1) + 1
        streams.append(UnitStreams(SEED, f"evaluate/{label}/{i}", None, 0))
    out, begin = [], time.monotonic()
    for k in range(0, len(labels), batch):
        part = slice(k, k + batch)
        out.append(sample(unet, alpha_bar, labels[part], streams[part], steps=steps))
        done = min(k + batch, len(labels))
        print(f"{done}/{len(labels)} images, {time.monotonic() - begin:.0f} s", flush=True)
    return torch.cat(out)


def read_all(images: Tensor, labeller: SmallConvNet) -> dict[str, np.ndarray]:
    """Read digit, ink and ground of images in ``[-1, 1]``, shape ``(N, 3, 28, 28)``."""
    pixels = (images * 0.5 + 0.5).clamp(0, 1)
    with torch.inference_mode():
        logits = torch.cat([labeller(part) for part in pixels.split(500)])
    return {
        "digit": logits.argmax(1).numpy(),
        "ink": np.asarray(InkFeature().read(pixels.numpy()).indices),
        "ground": np.asarray(GroundFeature().read(pixels.numpy()).indices),
    }


def _share(hits: np.ndarray) -> dict[str, Any]:
    count, total = int(hits.sum()), len(hits)
    interval = binomtest(count, total).proportion_ci(method="exact")
    return {
        "value": count / total,
        "interval_95": [interval.low, interval.high],
        "num": count,
        "of": total,
    }


def _law(read: np.ndarray, target: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Compare the frequencies of readings with a law; abstentions are left out and counted."""
    known = read[read >= 0]
    counts = np.bincount(known, minlength=len(target))
    share, n = counts / len(known), len(known)
    statistic = float(((counts - n * target) ** 2 / (n * target)).sum())
    return {
        "labels": list(names),
        "target": target.tolist(),
        "generated": share.tolist(),
        "num": n,
        "abstained": int((read < 0).sum()),
        "max_error": float(np.abs(share - target).max()),
        "stderr_of_largest": float(np.sqrt(target * (1 - target) / n).max()),
        "chi2_p_value": float(chi2.sf(statistic, len(target) - 1)),
    }


def _nearest(images: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest key of each image and its distance as a share of the second nearest's."""
    x, y = images.reshape(len(images), -1), keys.reshape(len(keys), -1)
    square = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    two = np.argpartition(square, 1, axis=1)[:, :2]
    near = np.take_along_axis(square, two, 1)
    order = np.argsort(near, axis=1)
    two, near = np.take_along_axis(two, order, 1), np.take_along_axis(near, order, 1)
    return two[:, 0], np.sqrt(np.maximum(near[:, 0], 0) / np.maximum(near[:, 1], 1e-12))


def _memorisation(images: np.ndarray) -> dict[str, Any]:
    """Count generated images whose nearest member is a repeated one, or is suspiciously near."""
    data = load_data()
    members = np.flatnonzero(data.is_member)
    keys = data.render(members)
    times = data.multiplicity[members]
    out: dict[str, Any] = {}
    for name, queries in (
        ("generated", images),
        ("non_members", data.render(~data.is_member)),
    ):
        nearest, ratio = _nearest(queries, keys)
        row: dict[str, Any] = {
            f"nearest_is_repeated_{k}x": _share(times[nearest] == k) for k in (4, 16, 64)
        }
        row["nearest_is_repeated"] = _share(times[nearest] > 1)
        row["copies"] = _share(ratio < 0.5)
        row["copies_of_repeated_64x"] = _share((ratio < 0.5) & (times[nearest] == 64))
        out[name] = row
    total = data.multiplicity.sum()
    out["share_of_training_rows"] = {
        f"repeated_{k}x": float(k * (times == k).sum() / total) for k in (4, 16, 64)
    }
    out["copy_rule"] = "distance to the nearest member < 0.5 x distance to the second nearest"
    return out


def evaluate(weights: Path, per_digit: int, num_null: int, steps: int) -> tuple[dict, Tensor]:
    """Generate, read and compare.

    Args:
        weights: Folder with ``unet/``, ``scheduler/`` and the labeller.
        per_digit: Images generated per digit condition.
        num_null: Images generated under the null label.
        steps: Network calls an image.

    Returns:
        The results, ready for JSON, and the first images of each condition for a contact sheet,
        shape ``(11, 12, 3, 28, 28)``.
    """
    data = load_data()
    unet, alpha_bar = load_unet(weights)
    labeller = load_labeller(weights)
    rendered = read_all(torch.from_numpy(data.render(np.arange(len(data)))), labeller)
    rules = {k: float((rendered[k] == data.label(k)).mean()) for k in ("ink", "ground")}

    # Round robin over the digits, so that a batch is a cross-section.
    wanted = np.tile(np.arange(10), per_digit)
    images = generate(unet, alpha_bar, wanted, steps)
    read = read_all(images, labeller)
    law = data.digit_ink / data.digit_ink.sum(1, keepdims=True)
    has_ink = read["ink"] >= 0
    counts = np.zeros((10, 3), dtype=int)
    np.add.at(counts, (wanted[has_ink], read["ink"][has_ink]), 1)
    size = counts.sum(1, keepdims=True)
    error = counts / size - law
    variance = law * (1 - law) / size
    statistic = float(((counts - size * law) ** 2 / (size * law)).sum())
    conditional = {
        "per_digit": per_digit,
        "digit_accuracy": _share(read["digit"] == wanted),
        "digit_accuracy_by_digit": [
            float((read["digit"][wanted == d] == d).mean()) for d in range(10)
        ],
        "said_by_condition": np.histogram2d(
            wanted, read["digit"], bins=[np.arange(11), np.arange(11)]
        )[0]
        .astype(int)
        .tolist(),
        "ink_table": {
            "target": law.tolist(),
            "generated": (counts / size).tolist(),
            "max_error": float(np.abs(error).max()),
            "rms_error": float(np.sqrt((error**2).mean())),
            "rms_expected_from_counting": float(np.sqrt(variance.mean())),
            "rms_error_beyond_counting": float(
                np.sqrt(max(0.0, ((error**2).mean() - variance.mean())))
            ),
            "largest_stderr": float(np.sqrt(variance.max())),
            "chi2": statistic,
            "chi2_degrees_of_freedom": 20,
            "chi2_p_value": float(chi2.sf(statistic, 20)),
        },
        "ink_abstained": int((~has_ink).sum()),
        "ground": _law(read["ground"], data.prior("ground"), GROUND_LABELS),
    }
    null_images = generate(unet, alpha_bar, np.full(num_null, NULL_LABEL), steps)
    read = read_all(null_images, labeller)
    null = {
        "digit": _law(read["digit"], data.prior("digit"), DIGIT_LABELS),
        "ink": _law(read["ink"], data.prior("ink"), INK_LABELS),
        "ground": _law(read["ground"], data.prior("ground"), GROUND_LABELS),
        "memorisation": _memorisation(null_images.numpy()),
    }
    result = {
        "schema": 1,
        "seed": SEED,
        "sampler": f"ancestral (DDIM, eta 1), {steps} evenly spaced steps",
        "pixel_rules_on_rendered_images": rules,
        "conditional": conditional,
        "null_label": null,
    }
    rows = [images[wanted == d][:12] for d in range(10)] + [null_images[:12]]
    return result, torch.stack(rows)


def contact_sheet(rows: Tensor, path: Path) -> None:
    """Draw one row of images per condition, enlarged threefold."""
    from PIL import Image

    pixels = (rows * 0.5 + 0.5).clamp(0, 1).numpy()
    pixels = np.pad(pixels, [(0, 0), (0, 0), (0, 0), (1, 1), (1, 1)], constant_values=1)
    r, c, _, h, w = pixels.shape
    sheet = pixels.transpose(0, 3, 1, 4, 2).reshape(r * h, c * w, 3)
    image = Image.fromarray((sheet * 255).round().astype(np.uint8))
    image.resize((3 * c * w, 3 * r * h), Image.Resampling.NEAREST).save(path)


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=PACKAGE / "weights")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "evaluation.json")
    parser.add_argument("--per-digit", type=int, default=300)
    parser.add_argument("--num-null", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sheet", type=Path, help="also draw samples to this PNG")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    result, rows = evaluate(args.weights, args.per_digit, args.num_null, args.steps)
    text = json.dumps(result, indent=1, allow_nan=False)
    args.out.write_text(text + "\n", encoding="utf-8")
    if args.sheet:
        contact_sheet(rows, args.sheet)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
