"""Train the class-conditional diffusion model of the shipped digits model, or a variant of it.

Label dropout makes the null label (index 10) an unconditional model. Training can be killed at
any instant and continues from the last checkpoint: every random number is named by the step that
uses it, so a resumed run gives the same weights, bit for bit at a fixed number of threads, as one
that was never interrupted. With ``--init`` the run starts from the averaged weights of a folder
and a fresh optimiser.

Usage:
    python training/digits/train_unet.py --steps 9000 [--resume]
    python training/digits/train_unet.py --variant control --steps 3000 --lr 8e-4 --warmup 100
        --ema 0.99 --init src/critwin/models/digits/weights
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from critwin.models.digits.data import VARIANTS, load_data
from critwin.streams import stream

__all__ = ["NULL_LABEL", "Config", "Trainer", "batch_rows", "digest", "export", "main", "spread"]

NULL_LABEL = 10
ROOT = Path(__file__).parents[2]
WEIGHTS_FILE = "unet/diffusion_pytorch_model.safetensors"

UNET: dict[str, Any] = {
    "sample_size": 28,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 1,
    "block_out_channels": [24, 48, 72],
    "down_block_types": ["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
    "norm_num_groups": 8,
    "attention_head_dim": 24,
    "num_class_embeds": NULL_LABEL + 1,
}
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "prediction_type": "v_prediction",
    "clip_sample": False,
}

DTYPES = {"float32": torch.float32, "float16": torch.float16}

MIDDLE = (0.2, 0.7)  # of the schedule: OU times .22 to 2.47


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every choice that changes the weights.

    Attributes:
        steps: Length of the learning-rate schedule.
        seed: Seed of initialisation and of all streams.
        batch: Rows a step.
        lr: Peak learning rate of AdamW.
        lr_final: Learning rate at the last step, as a fraction of the peak.
        warmup: Steps of linear warm-up.
        weight_decay: Decoupled weight decay.
        grad_clip: Largest gradient norm.
        ema: Final decay of the moving average of the weights.
        label_dropout: Share of rows trained with the null label.
        middle_share: Share of rows sent to the middle of the schedule (``MIDDLE``), where inks and
            shapes are decided, on top of its share of an even spread.
        variant: Data that are trained on.
        init: SHA-256 of the weights that the run started from; empty: drawn from ``seed``.
    """

    steps: int = 6000
    seed: int = 0
    batch: int = 64
    lr: float = 1.2e-3
    lr_final: float = 0.02
    warmup: int = 200
    weight_decay: float = 1e-3
    grad_clip: float = 1.0
    ema: float = 0.998
    label_dropout: float = 0.28
    middle_share: float = 0.4
    variant: str = "main"
    init: str = ""


def batch_rows(step: int, *, batch: int, num_rows: int, seed: int) -> Tensor:
    """Training rows of one step: the next ``batch`` rows of an endless chain of permutations.

    Args:
        step: Step number, from 0.
        batch: Rows a step.
        num_rows: Rows of an epoch.
        seed: Run seed.

    Returns:
        Row numbers, int64, shape ``(batch,)``.
    """
    position = torch.arange(step * batch, (step + 1) * batch)
    epoch = position // num_rows
    out = torch.empty_like(position)
    for e in epoch.unique().tolist():
        order = torch.randperm(num_rows, generator=stream(seed, "epoch", e))
        out[epoch == e] = order[position[epoch == e] % num_rows]
    return out


def spread(u: Tensor, middle_share: float) -> Tensor:
    """Send uniform numbers to the schedule, ``middle_share`` of them to its middle alone.

    Args:
        u: Numbers in ``[0, 1)``, any shape.
        middle_share: Share of the mass spread over ``MIDDLE`` only, in ``[0, 1)``.

    Returns:
        Places in the schedule, in ``[0, 1)``, increasing in ``u``, the shape of ``u``.
    """
    (low, high), even = MIDDLE, 1 - middle_share
    into, out = even * low, even * high + middle_share
    middle = low + (u - into) * (high - low) / (out - into)
    return torch.where(u < into, u / even, torch.where(u < out, middle, 1 - (1 - u) / even))


class Trainer:
    """Model, optimiser and moving average of one training run.

    Args:
        images: Training rows in ``[-1, 1]``, repeats expanded, shape ``(N, 3, H, W)``.
        digit: Their labels, shape ``(N,)``.
        config: The choices.
        unet: Arguments of ``UNet2DModel``.
        device: Where to train.
    """

    def __init__(
        self,
        images: Tensor,
        digit: Tensor,
        *,
        config: Config,
        unet: dict[str, Any] = UNET,
        device: str = "cpu",
    ) -> None:
        self.config = config
        self.unet_config = unet
        self.device = torch.device(device)
        self.images = images
        self.digit = digit
        with torch.random.fork_rng():  # diffusers draws initial weights from the global generator
            torch.manual_seed(config.seed)
            model = UNet2DModel(**unet)
        self.model: nn.Module = model.to(self.device, memory_format=torch.channels_last)
        self.model.train()
        self.names = [name for name, _ in self.model.named_parameters()]
        self.parameters = list(self.model.parameters())
        self.ema = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=0.0, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        abar = DDPMScheduler(**SCHEDULE).alphas_cumprod
        self.alpha, self.sigma = abar.sqrt(), (1 - abar).sqrt()
        self.step = 0

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to ``lr_final``."""
        c = self.config
        if step < c.warmup:
            return c.lr * (step + 1) / c.warmup
        done = min(1.0, (step - c.warmup) / max(1, c.steps - c.warmup))
        return c.lr * (c.lr_final + (1 - c.lr_final) * 0.5 * (1 + math.cos(math.pi * done)))

    def train_step(self) -> dict[str, float]:
        """Take one step and return what to log."""
        c, step = self.config, self.step
        rows = batch_rows(step, batch=c.batch, num_rows=len(self.digit), seed=c.seed)
        g = stream(c.seed, "step", step)
        # Stratified: each row draws its timestep in its own slice of the schedule.
        u = (torch.randperm(c.batch, generator=g) + torch.rand(c.batch, generator=g)) / c.batch
        timestep = (spread(u, c.middle_share) * len(self.alpha)).long()
        timestep = timestep.clamp(max=len(self.alpha) - 1)
        is_null = torch.rand(c.batch, generator=g) < c.label_dropout
        x_0 = self.images[rows]
        noise = torch.randn(x_0.shape, generator=g)
        alpha = self.alpha[timestep][:, None, None, None]
        sigma = self.sigma[timestep][:, None, None, None]
        label = torch.where(is_null, NULL_LABEL, self.digit[rows])

        def put(x: Tensor) -> Tensor:
            return x.to(self.device)

        x_t = put(alpha * x_0 + sigma * noise).contiguous(memory_format=torch.channels_last)
        target = put(alpha * noise - sigma * x_0)
        predicted = self.model(x_t, put(timestep), class_labels=put(label)).sample
        loss = (predicted - target).square().mean()
        lr = self.learning_rate(step)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, c.grad_clip)
        self.optimizer.step()
        decay = min(c.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, [p.detach() for p in self.parameters], 1 - decay)
        self.step += 1
        return {"loss": float(loss.detach()), "grad_norm": float(norm), "lr": lr}

    def _tensors(self) -> dict[str, Tensor]:
        """Name every tensor of the state; the tensors alias the live ones."""
        out: dict[str, Tensor] = {}
        for name, p, ema in zip(self.names, self.parameters, self.ema, strict=True):
            out[f"model.{name}"] = p.data
            out[f"ema.{name}"] = ema
            if state := self.optimizer.state.get(p):
                out[f"exp_avg.{name}"] = state["exp_avg"]
                out[f"exp_avg_sq.{name}"] = state["exp_avg_sq"]
        return out

    def save(self, path: Path) -> None:
        """Write a checkpoint: one safetensors file, swapped in atomically, and a readable copy.

        Args:
            path: The file, ending in ``.safetensors``.
        """
        meta = {"step": str(self.step), "config": json.dumps(asdict(self.config))}
        tensors = {k: v.cpu().contiguous() for k, v in self._tensors().items()}
        part = path.with_suffix(".part")
        save_file(tensors, part, metadata=meta)
        part.replace(path)
        text = json.dumps({"step": self.step, "config": asdict(self.config)}, indent=1)
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(path.with_suffix(".json"))

    def load(self, path: Path) -> None:
        """Continue from a checkpoint.

        Args:
            path: A file written by :meth:`save`.

        Raises:
            ValueError: If the checkpoint was made with other choices; only ``steps``, the length
                of the learning-rate schedule, may change.
        """
        with safe_open(path, framework="pt") as file:
            meta = file.metadata()
            saved, mine = json.loads(meta["config"]), asdict(self.config)
            if changed := {k for k in mine if mine[k] != saved.get(k)} - {"steps"}:
                raise ValueError(
                    f"{path} was trained with {saved}, got other {sorted(changed)};"
                    " use the same choices or another --out"
                )
            self.step = int(meta["step"])
            if self.step and not self.optimizer.state:
                for p in self.parameters:
                    self.optimizer.state[p] = {
                        "step": torch.tensor(float(self.step)),
                        "exp_avg": torch.zeros_like(p, memory_format=torch.preserve_format),
                        "exp_avg_sq": torch.zeros_like(p, memory_format=torch.preserve_format),
                    }
            for state in self.optimizer.state.values():
                state["step"] = torch.tensor(float(self.step))
            with torch.no_grad():
                for name, tensor in self._tensors().items():
                    tensor.copy_(file.get_tensor(name))

    def start_from(self, folder: Path) -> None:
        """Start from the weights of a folder, as if they were the initial ones.

        Args:
            folder: A folder that :func:`export` wrote.

        Raises:
            ValueError: If the run has taken steps, or the weights are not those of its config.
        """
        if self.step:
            raise ValueError(f"the run has taken {self.step} steps; start it anew")
        if digest(folder) != self.config.init:
            raise ValueError(f"{folder} has other weights than {self.config.init or 'none'}")
        self.model.load_state_dict(load_file(folder / WEIGHTS_FILE))
        with torch.no_grad():
            torch._foreach_copy_(self.ema, [p.detach() for p in self.parameters])

    def ema_state(self) -> dict[str, Tensor]:
        """Return a copy of the averaged weights, on the CPU, by parameter name."""
        return {
            name: p.detach().cpu().contiguous().clone()
            for name, p in zip(self.names, self.ema, strict=True)
        }


def digest(folder: Path) -> str:
    """SHA-256 of the weights of a folder that :func:`export` wrote."""
    return hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()


def export(trainer: Trainer, out: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the averaged weights and the schedule as diffusers reads them.

    Args:
        trainer: The run.
        out: Folder that gets ``unet/`` and ``scheduler/``.
        dtype: Type of the weights in the file.
    """
    model = UNet2DModel(**trainer.unet_config)
    model.load_state_dict(trainer.ema_state())
    model.to(dtype).save_pretrained(out / "unet", safe_serialization=True)
    for file in (out / "unet").glob("*.safetensors"):
        file.chmod(0o644)  # written for the owner only
    DDPMScheduler(**SCHEDULE).save_pretrained(out / "scheduler")


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", choices=VARIANTS, default=Config.variant)
    parser.add_argument("--init", type=Path, help="start from the weights of this folder")
    parser.add_argument("--out", type=Path, help="checkpoints; training/digits/checkpoints")
    parser.add_argument("--weights", type=Path, help="export; the folder of the package")
    parser.add_argument("--dtype", choices=DTYPES, help="of the export; float16 for variants")
    parser.add_argument("--steps", type=int, default=Config.steps)
    parser.add_argument("--stop-at", type=int, help="stop early, with the schedule of --steps")
    parser.add_argument("--seed", type=int, default=Config.seed)
    parser.add_argument("--lr", type=float, default=Config.lr)
    parser.add_argument("--warmup", type=int, default=Config.warmup)
    parser.add_argument("--ema", type=float, default=Config.ema)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-every", type=int, default=250)
    parser.add_argument("--export-every", type=int, default=1000)
    parser.add_argument("--resume", action="store_true", help="continue from --out")
    args = parser.parse_args(argv)
    suffix = "" if args.variant == "main" else f"-{args.variant}"
    args.out = args.out or ROOT / f"training/digits/checkpoints{suffix}"
    args.weights = args.weights or ROOT / f"src/critwin/models/digits/weights{suffix}"
    dtype = DTYPES[args.dtype or ("float16" if suffix else "float32")]
    torch.set_num_threads(args.threads)
    data = load_data(args.variant)
    index = data.training_index()
    trainer = Trainer(
        torch.from_numpy(data.render(index)),
        torch.from_numpy(data.label("digit")[index]),
        config=Config(
            init=digest(args.init) if args.init else "",
            **{k: getattr(args, k) for k in ("steps", "seed", "lr", "warmup", "ema", "variant")},
        ),
        device=args.device,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / "state.safetensors"
    if args.resume and checkpoint.exists():
        trainer.load(checkpoint)
    elif checkpoint.exists():
        parser.error(f"{checkpoint} exists; pass --resume to continue it or another --out")
    elif args.init:
        trainer.start_from(args.init)
    end = min(args.steps, args.stop_at or args.steps)
    start, begin = trainer.step, time.monotonic()
    losses: list[float] = []
    with (args.out / "log.jsonl").open("a", encoding="utf-8") as log:
        while trainer.step < end:
            row = trainer.train_step()
            losses.append(row["loss"])
            step = trainer.step
            if not math.isfinite(row["loss"]):
                raise RuntimeError(f"loss is {row['loss']} at step {step}; resume from --out")
            if step % 25 == 0 or step == end:
                pace = (time.monotonic() - begin) / (step - start)
                row |= {"step": step, "loss": float(np.mean(losses)), "seconds_per_step": pace}
                losses.clear()
                log.write(json.dumps(row, allow_nan=False) + "\n")
                log.flush()
                print(
                    f"step {step}/{end} loss {row['loss']:.4f} {pace:.3f} s/step"
                    f" ETA {(end - step) * pace / 60:.1f} min",
                    flush=True,
                )
            if step % args.save_every == 0 or step == end:
                trainer.save(checkpoint)
            if step % args.export_every == 0 or step == end:
                export(trainer, args.weights, dtype)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
