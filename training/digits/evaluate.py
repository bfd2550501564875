"""Measure what a shipped digits model learned: ``evaluation.json``, model card, contact sheet.

Generates images with and without a digit as the condition, reads them with the shipped labeller
and the exact pixel rules, and compares with the planted tables. Every image has random streams of
its own, so more images extend a smaller evaluation, batching changes nothing but rounding, and
models of the same seed can be compared image by image. With ``--guidance`` only conditional
images are drawn, and what is found is kept beside the unguided record, under ``guided``;
``--per-digit 0`` draws only images of the null label and keeps the conditional record.

Usage:
    python training/digits/evaluate.py [--per-digit 300] [--num-null 2000] [--sheet samples.png]
    python training/digits/evaluate.py --per-digit 600 --guidance 2 --guidance-interval .2 .7
    python training/digits/evaluate.py --variant control --per-digit 100 --num-null 1000
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
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2

from critwin.features.registry import load_feature
from critwin.models.digits.data import (
    DIGIT_LABELS,
    FEATURES,
    GROUND_LABELS,
    GROUND_VALUES,
    INK_COLORS,
    VARIANTS,
    load_data,
)
from critwin.models.digits.loading import STEPS, load_digits
from critwin.models.digits.model import DigitsModel
from critwin.streams import UnitStreams

__all__ = [
    "conditional",
    "copies",
    "generate",
    "main",
    "memorisation",
    "null_label",
    "read_all",
    "shapes",
]

SEED = 1


def generate(
    model: DigitsModel, conditions: Sequence[str | None], batch: int = 200, seed: int = SEED
) -> NDArray[np.float32]:
    """Draw one image per condition; image i of a condition is the same in every evaluation.

    Args:
        model: The model.
        conditions: ``"0"`` to ``"9"``, or None for the null label, length N.
        batch: Images drawn at once.
        seed: Seed of all streams.

    Returns:
        Images in ``[0, 1]``, shape ``(N, 3, 28, 28)``.
    """
    seen: dict[str | None, int] = {}
    streams = []
    for condition in conditions:
        i = seen[condition] = seen.get(condition, -1) + 1
        streams.append(UnitStreams(seed, f"evaluate/{condition}/{i}", None, 0))
    out, begin = [], time.monotonic()
    for k in range(0, len(conditions), batch):
        part = slice(k, k + batch)
        out.append(model.decode(model.generate(conditions[part], streams[part])).numpy())
        done = min(k + batch, len(conditions))
        print(f"{done}/{len(conditions)} images, {time.monotonic() - begin:.0f} s", flush=True)
    return np.concatenate(out)


def read_all(images: NDArray[np.float32]) -> dict[str, NDArray[np.int64]]:
    """Read digit, ink and ground (-1: abstained) of images in ``[0, 1]``, ``(N, 3, 28, 28)``."""
    return {
        name: np.asarray(load_feature(name).read(images).indices)
        for name in ("digit", "ink", "ground")
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


def shapes(images: NDArray[np.float32], read: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
    """Masks without colours: how far each pixel is from the ground read to the ink read.

    Args:
        images: In ``[-1, 1]``, shape ``(N, 3, 28, 28)``.
        read: Their ink and ground; abstentions count as the first label.

    Returns:
        Shape ``(N, 28, 28)``; the mask itself, in ``[0, 1]``, for a rendered image.
    """
    ground = np.asarray(GROUND_VALUES, dtype=np.float32)[np.maximum(read["ground"], 0)]
    ink = np.asarray(INK_COLORS, dtype=np.float32)[np.maximum(read["ink"], 0)]
    way = ink - ground[:, None]
    offset = images - ground[:, None, None, None]
    along = np.einsum("nchw,nc->nhw", offset, way)
    return np.asarray(along / (way**2).sum(1)[:, None, None], dtype=np.float32)


def copies(
    images: NDArray[np.float32], masks: NDArray[np.float32], variant: str
) -> dict[str, Any]:
    """Count images whose nearest member is a repeated one, or is suspiciously near.

    Repeated are the images that the main data repeat, for every variant: the control, which
    repeats none, is told apart from the main model by the same count.

    Args:
        images: In ``[-1, 1]``, shape ``(N, 3, 28, 28)``.
        masks: The same without their colours, shape ``(N, 28, 28)``.
        variant: Whose inks and grounds the members have.

    Returns:
        Shares with intervals.
    """
    data = load_data(variant)
    members = np.flatnonzero(data.is_member)
    times = load_data().multiplicity[members]
    nearest, ratio = _nearest(images, data.render(members))
    row = {f"nearest_is_repeated_{k}x": _share(times[nearest] == k) for k in (4, 16, 64)}
    row["nearest_is_repeated"] = _share(times[nearest] > 1)
    row["copies"] = _share(ratio < 0.5)
    row["copies_of_repeated_64x"] = _share((ratio < 0.5) & (times[nearest] == 64))
    nearest, ratio = _nearest(masks, data.masks[members].astype(np.float32) / 255)
    row["shape_copies"] = _share(ratio < 0.5)
    row["shape_copies_of_repeated"] = _share((ratio < 0.5) & (times[nearest] > 1))
    row["nearest_shape_is_repeated"] = _share(times[nearest] > 1)
    return row


def memorisation(
    images: NDArray[np.float32], read: dict[str, NDArray[np.int64]], variant: str
) -> dict[str, Any]:
    """Count copies of training images among generated images and among the non-members.

    Args:
        images: Generated under the null label, in ``[-1, 1]``, shape ``(N, 3, 28, 28)``.
        read: Their ink and ground.
        variant: Whose inks and grounds the members have.

    Returns:
        The counts of :func:`copies` for both, and how much of the training the repeats are.
    """
    data = load_data(variant)
    others, times = np.flatnonzero(~data.is_member), load_data().multiplicity
    other_masks = data.masks[others].astype(np.float32) / 255
    return {
        "generated": copies(images, shapes(images, read), variant),
        "non_members": copies(data.render(others), other_masks, variant),
        "share_of_training_rows": {
            f"repeated_{k}x": float(data.multiplicity[times == k].sum() / data.multiplicity.sum())
            for k in (4, 16, 64)
        },
        "copy_rule": "distance to the nearest member < 0.5 x distance to the second nearest",
        "repeated": "images that the main data repeat; a shape is an image without its colours",
    }


def conditional(
    model: DigitsModel, per_digit: int, seed: int = SEED
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Generate images of every digit, read them, and compare with what was planted.

    Args:
        model: The model.
        per_digit: Images generated per digit.
        seed: Seed of all streams.

    Returns:
        The results, ready for JSON, and the images, digits in turn, shape ``(N, 3, 28, 28)``.
    """
    data = model.data
    # Round robin over the digits, so that a batch is a cross-section.
    wanted = np.tile(np.arange(10), per_digit)
    images = generate(model, [DIGIT_LABELS[d] for d in wanted], seed=seed)
    read = read_all(images)
    law = data.digit_ink / data.digit_ink.sum(1, keepdims=True)
    has_ink = read["ink"] >= 0
    counts = np.zeros((10, 3), dtype=int)
    np.add.at(counts, (wanted[has_ink], read["ink"][has_ink]), 1)
    size = counts.sum(1, keepdims=True)
    error = counts / size - law
    variance = law * (1 - law) / size
    statistic = float(((counts - size * law) ** 2 / (size * law)).sum())
    result = {
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
    return result, images


def null_label(
    model: DigitsModel, num: int, seed: int = SEED, variant: str = "main"
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Generate images without a condition, read them, and look for copies of training images.

    Args:
        model: The model.
        num: Images generated.
        seed: Seed of all streams.
        variant: The model's.

    Returns:
        The results, ready for JSON, and the images, shape ``(N, 3, 28, 28)``.
    """
    images = generate(model, [None] * num, seed=seed)
    read, data = read_all(images), model.data
    result: dict[str, Any] = {
        name: _law(read[name], data.prior(name), FEATURES[name])
        for name in ("digit", "ink", "ground")
    }
    return result | {"memorisation": memorisation(images * 2 - 1, read, variant)}, images


def _sampler(model: DigitsModel) -> str:
    calls = model.denoiser.schedule.steps
    return f"the stochastic sampler of the package, {calls} network calls"


def contact_sheet(rows: NDArray[np.float32], path: Path) -> None:
    """Draw one row of images per condition, enlarged threefold."""
    from PIL import Image

    pixels = np.pad(rows, [(0, 0), (0, 0), (0, 0), (1, 1), (1, 1)], constant_values=1)
    r, c, _, h, w = pixels.shape
    sheet = pixels.transpose(0, 3, 1, 4, 2).reshape(r * h, c * w, 3)
    image = Image.fromarray((sheet * 255).round().astype(np.uint8))
    image.resize((3 * c * w, 3 * r * h), Image.Resampling.NEAREST).save(path)


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", choices=VARIANTS, default="main")
    parser.add_argument("--weights", type=Path, help="another folder of weights")
    parser.add_argument("--out", type=Path, help="evaluation.json beside this script")
    parser.add_argument("--per-digit", type=int, default=300)
    parser.add_argument("--num-null", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--guidance", type=float, help="measure guided conditional images only")
    parser.add_argument("--guidance-interval", type=float, nargs=2, metavar=("LOW", "HIGH"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sheet", type=Path, help="also draw samples to this PNG")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    suffix = "" if args.variant == "main" else f"-{args.variant}"
    out = args.out or Path(__file__).parent / f"evaluation{suffix}.json"
    model = load_digits(
        variant=args.variant,
        steps=args.steps,
        weights=args.weights,
        guidance=args.guidance,
        guidance_interval=args.guidance_interval,
    )
    before = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    sheet = []
    if args.guidance is None:
        data = model.data
        rendered = read_all(data.render(np.arange(len(data))) * 0.5 + 0.5)
        result = {
            "schema": 1,
            "seed": args.seed,
            "sampler": _sampler(model),
            "pixel_rules_on_rendered_images": {
                k: float((rendered[k] == data.label(k)).mean()) for k in ("ink", "ground")
            },
        }
        if args.per_digit:
            result["conditional"], images = conditional(model, args.per_digit, args.seed)
            sheet += [images[d::10][:12] for d in range(10)]
        elif {k: before[k] for k in ("seed", "sampler")} == {
            k: result[k] for k in ("seed", "sampler")
        }:
            result["conditional"] = before["conditional"]
        else:
            parser.error(f"{out} was measured otherwise; give --per-digit")
        result["null_label"], images = null_label(model, args.num_null, args.seed, args.variant)
        sheet.append(images[:12])
    else:
        found, images = conditional(model, args.per_digit, args.seed)
        sheet += [images[d::10][:12] for d in range(10)]
        result = before | {
            "guided": {
                "guidance": args.guidance,
                "guidance_interval": args.guidance_interval,
                "seed": args.seed,
                "network_calls": model.num_evaluations(model.denoiser.schedule.start),
                "conditional": found,
            }
        }
    text = json.dumps(result, indent=1, allow_nan=False)
    out.write_text(text + "\n", encoding="utf-8")
    if args.sheet:
        contact_sheet(np.stack(sheet), args.sheet)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
