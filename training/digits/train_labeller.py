"""Train the network that reads the digit, and measure its errors on the non-members.

Usage:
    python training/digits/train_labeller.py [--epochs 30] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.stats import binomtest
from torch import Tensor

from critwin.features.classifier import SmallConvNet
from critwin.models.digits.data import DIGIT_LABELS, GROUND_VALUES, INK_COLORS, load_data
from critwin.streams import seed_of, stream

__all__ = ["augment", "main"]

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "src/critwin/models/digits/weights"
BATCH = 64


def _uniform(low: float, high: float, shape: tuple[int, ...], g: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=g)


def augment(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Deform, recolour, blur and roughen digits.

    Args:
        masks: Grey masks in ``[0, 1]``, shape ``(N, 28, 28)``.
        generator: Source of all randomness.

    Returns:
        Images in ``[0, 1]``, shape ``(N, 3, 28, 28)``.
    """
    n, g = len(masks), generator
    angle = _uniform(-0.26, 0.26, (n,), g)
    scale = _uniform(0.87, 1.15, (n, 2), g)
    shear = _uniform(-0.2, 0.2, (n,), g)
    shift = _uniform(-5 / 28, 5 / 28, (n, 2), g)
    cos, sin = angle.cos(), angle.sin()
    top = torch.stack([cos * scale[:, 0], (shear * cos - sin) * scale[:, 1], shift[:, 0]], 1)
    low = torch.stack([sin * scale[:, 0], (shear * sin + cos) * scale[:, 1], shift[:, 1]], 1)
    grid = F.affine_grid(torch.stack([top, low], 1), [n, 1, 28, 28], align_corners=False)
    mask = F.grid_sample(masks[:, None], grid, align_corners=False)
    blurred = F.avg_pool2d(mask, 3, stride=1, padding=1)
    amount = _uniform(0, 0.8, (n, 1, 1, 1), g) * (torch.rand((n, 1, 1, 1), generator=g) < 0.3)
    mask = mask + amount * (blurred - mask)

    # Half the rows wear planted colours, the others any colours with enough contrast.
    planted_ink = torch.tensor(INK_COLORS)[torch.randint(3, (n,), generator=g)]
    planted_ground = torch.tensor(GROUND_VALUES)[torch.randint(2, (n,), generator=g)][:, None]
    any_ground = _uniform(-0.9, 0.9, (n, 1), g) + _uniform(-0.1, 0.1, (n, 3), g)
    any_ink = _uniform(-1, 1, (n, 3), g)
    contrast = (any_ink - any_ground).norm(dim=1, keepdim=True)
    is_any = (torch.rand((n, 1), generator=g) < 0.5) & (contrast > 0.7)
    ink = torch.where(is_any, any_ink, planted_ink)[:, :, None, None]
    ground = torch.where(is_any, any_ground, planted_ground.expand(n, 3))[:, :, None, None]
    image = ground + mask * (ink - ground)
    level = _uniform(0, 0.25, (n, 1, 1, 1), g) * (torch.rand((n, 1, 1, 1), generator=g) < 0.5)
    image = image + level * torch.randn(image.shape, generator=g)
    return (image * 0.5 + 0.5).clamp(0, 1)


def _read(net: SmallConvNet, images: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return torch.cat([net(part).argmax(1) for part in images.split(250)]).numpy()


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    data = load_data()
    members = np.flatnonzero(data.is_member)
    masks = torch.from_numpy(data.masks[members].astype(np.float32) / 255)
    digit = torch.from_numpy(data.label("digit")[members])
    with torch.random.fork_rng():  # initial weights and dropout use the global generator
        torch.manual_seed(seed_of(args.seed, "labeller"))
        net = SmallConvNet()
        average = [p.detach().clone() for p in net.parameters()]
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.0, weight_decay=1e-2)
        per_epoch, begin = len(members) // BATCH, time.monotonic()
        total = args.epochs * per_epoch
        for step in range(total):
            epoch, place = divmod(step, per_epoch)
            order = torch.randperm(len(members), generator=stream(args.seed, "rows", epoch))
            rows = order[place * BATCH : (place + 1) * BATCH]
            images = augment(masks[rows], stream(args.seed, "augment", step))
            loss = F.cross_entropy(net(images), digit[rows], label_smoothing=0.05)
            warm = min(1.0, (step + 1) / 200)
            lr = 2e-3 * warm * 0.5 * (1 + math.cos(math.pi * step / total))
            optimizer.param_groups[0]["lr"] = lr
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(
                    average,
                    [p.detach() for p in net.parameters()],
                    1 - min(0.995, (1 + step) / (10 + step)),
                )
            if place == per_epoch - 1:
                spent = time.monotonic() - begin
                print(
                    f"epoch {epoch + 1} loss {float(loss.detach()):.3f} {spent:.0f} s", flush=True
                )
    with torch.no_grad():
        for p, mean in zip(net.parameters(), average, strict=True):
            p.copy_(mean)
    net.eval()

    others = np.flatnonzero(~data.is_member)
    images = torch.from_numpy(data.render(others)) * 0.5 + 0.5
    truth = data.label("digit")[others]
    said = _read(net, images)
    counts = np.zeros((10, 10), dtype=int)
    np.add.at(counts, (truth, said), 1)
    right = int((said == truth).sum())
    interval = binomtest(right, len(truth)).proportion_ci(method="exact")
    rough = images + 0.05 * torch.randn(images.shape, generator=stream(args.seed, "rough"))
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1)
    member_images = torch.from_numpy(data.render(members)) * 0.5 + 0.5
    result = {
        "labels": list(DIGIT_LABELS),
        "num_images": len(truth),
        "accuracy": right / len(truth),
        "accuracy_interval_95": [interval.low, interval.high],
        "accuracy_members": float((_read(net, member_images) == digit.numpy()).mean()),
        "accuracy_with_noise_0.05": float((_read(net, rough.clamp(0, 1)) == truth).mean()),
        "accuracy_with_blur_3x3": float((_read(net, blurred) == truth).mean()),
        "counts_true_by_said": counts.tolist(),
        "num_parameters": sum(p.numel() for p in net.parameters()),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: v.contiguous() for k, v in net.state_dict().items()},
        args.out / "labeller.safetensors",
        metadata={
            "class": "SmallConvNet",
            "labels": json.dumps(list(DIGIT_LABELS)),
            "architecture": json.dumps(net.architecture),
        },
    )
    (args.out / "labeller.safetensors").chmod(0o644)  # written for the owner only
    text = json.dumps(result, indent=1, allow_nan=False)
    (args.out / "labeller_errors.json").write_text(text + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in result.items() if k != "counts_true_by_said"}, indent=1))
    print(counts)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
