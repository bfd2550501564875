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
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2

from critwin.features.registry import load_feature
from critwin.models.digits.data import DIGIT_LABELS, GROUND_LABELS, INK_LABELS, load_data
from critwin.models.digits.model import STEPS, DigitsModel, load_digits
from critwin.streams import UnitStreams

__all__ = ["evaluate", "generate", "main", "read_all"]

SEED = 1


def generate(
    model: DigitsModel, conditions: Sequence[str | None], batch: int = 200
) -> NDArray[np.float32]:
    """Draw one image per condition; image i of a condition is the same in every evaluation.

    Args:
        model: The model.
        conditions: ``"0"`` to ``"9"``, or None for the null label, length N.
        batch: Images drawn at once.

    Returns:
        Images in ``[0, 1]``, shape ``(N, 3, 28, 28)``.
    """
    seen: dict[str | None, int] = {}
    streams = []
    for condition in conditions:
        i = seen[condition] = seen.get(condition, -1) + 1
        streams.append(UnitStreams(SEED, f"evaluate/{condition}/{i}", None, 0))
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


def evaluate(
    model: DigitsModel, per_digit: int, num_null: int
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Generate, read and compare.

    Args:
        model: The model.
        per_digit: Images generated per digit condition.
        num_null: Images generated under the null label.

    Returns:
        The results, ready for JSON, and the first images of each condition for a contact sheet,
        shape ``(11, 12, 3, 28, 28)``.
    """
    data = load_data()
    rendered = read_all(data.render(np.arange(len(data))) * 0.5 + 0.5)
    rules = {k: float((rendered[k] == data.label(k)).mean()) for k in ("ink", "ground")}

    # Round robin over the digits, so that a batch is a cross-section.
    wanted = np.tile(np.arange(10), per_digit)
    images = generate(model, [DIGIT_LABELS[d] for d in wanted])
    read = read_all(images)
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
    null_images = generate(model, [None] * num_null)
    read = read_all(null_images)
    null = {
        "digit": _law(read["digit"], data.prior("digit"), DIGIT_LABELS),
        "ink": _law(read["ink"], data.prior("ink"), INK_LABELS),
        "ground": _law(read["ground"], data.prior("ground"), GROUND_LABELS),
        "memorisation": _memorisation(null_images * 2 - 1),
    }
    result = {
        "schema": 1,
        "seed": SEED,
        "sampler": "the stochastic sampler of the package, "
        f"{model.denoiser.schedule.steps} network calls",
        "pixel_rules_on_rendered_images": rules,
        "conditional": conditional,
        "null_label": null,
    }
    rows = [images[wanted == d][:12] for d in range(10)] + [null_images[:12]]
    return result, np.stack(rows)


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
    parser.add_argument("--weights", type=Path, help="another folder of weights")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "evaluation.json")
    parser.add_argument("--per-digit", type=int, default=300)
    parser.add_argument("--num-null", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sheet", type=Path, help="also draw samples to this PNG")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model = load_digits(steps=args.steps, weights=args.weights)
    result, rows = evaluate(model, args.per_digit, args.num_null)
    text = json.dumps(result, indent=1, allow_nan=False)
    args.out.write_text(text + "\n", encoding="utf-8")
    if args.sheet:
        contact_sheet(rows, args.sheet)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
