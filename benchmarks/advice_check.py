"""Do edits at the advised strength keep and change what was promised, through real schedulers?

    OMP_NUM_THREADS=1 python benchmarks/advice_check.py

The shipped digits are measured by forward–reverse on 96 training images with each reversal, and
advice is taken for pairs of ground, ink and digit. All of it is kept (``--cache``), so that a
killed check goes on. Then 200 other images are edited at the advised
strength with the network alone and diffusers' own schedulers, as an image-to-image call does it:
``add_noise`` to the first step that is left, then ``step`` to the end. Every rate is compared with
the one that was promised; with ``--other`` edits under samplers of the other kind are shown too,
apart, since a reversal has rates of its own.

Writes ``results/advice.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DModel

from critwin.audits.editing import Advice, advise
from critwin.audits.strength import Sampler, sampler
from critwin.experiments.sources import plan_dataset
from critwin.features.registry import load_feature
from critwin.levels import ou_time
from critwin.models.digits import load_digits
from critwin.models.digits.data import DIGIT_LABELS
from critwin.models.digits.loading import WEIGHTS
from critwin.runs.config import parse_config
from critwin.runs.executor import run_experiment
from critwin.runs.folder import open_run

FEATURES = ("ground", "ink", "digit")
PAIRS = (("ground", "ink"), ("ground", "digit"), ("ink", "digit"), ("digit", "ink"))
T = (0.8, 1.1, 1.4, 1.7, 2.0, 2.3, 2.6)
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "DDPM": ("DDPMScheduler", {"timestep_spacing": "trailing"}),
    "Euler ancestral": ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "DDIM": ("DDIMScheduler", {"timestep_spacing": "trailing"}),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {"timestep_spacing": "trailing"}),
}
STEPS = 25
SOURCES, EDITS, SEED = 96, 200, 0


def edited(unet: Any, clean: torch.Tensor, chosen: Sampler, step: int, seed: int) -> torch.Tensor:
    """Image-to-image by diffusers: noise to a step, then take the steps that are left."""
    kind = torch.tensor([len(DIGIT_LABELS)])  # the label of no condition comes last
    scheduler = copy.deepcopy(chosen.scheduler)
    call = step * chosen.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(call)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(clean.shape, generator=generator)
    x = scheduler.add_noise(clean, noise, scheduler.timesteps[call].expand(len(clean)))
    more: dict[str, Any] = {}
    if chosen.reversal == "stochastic":
        more["generator"] = generator
    with torch.inference_mode():
        for t in scheduler.timesteps[call:]:
            given = scheduler.scale_model_input(x, t)
            out = unet(given, t.expand(len(x)).float(), class_labels=kind.expand(len(x))).sample
            x = scheduler.step(out, t, x, **more).prev_sample
    return x


def measured(reversal: str, folder: Path) -> Any:
    """Records of a run folder, which is gone on with if it is there."""
    config = {
        "run": {"out": str(folder), "seed": SEED, "images": 0, "batch_size": 32},
        "model": {"name": "digits", "steps": STEPS},
        "sources": {"kind": "dataset", "count": SOURCES},
        "denoise": {"condition": "none", "reversal": reversal},
        "levels": {"unit": "t", "values": list(T)},
        "experiment": {"name": "forward_reverse"},
        "feature": [{"name": name} for name in FEATURES],
    }
    run_experiment(parse_config(config), out=folder)
    return open_run(folder).records()


def shares(kept: Any, changed: Any) -> dict[str, float]:
    """Rates of some edits."""
    return {
        "kept": float(kept.mean()),
        "changed": float(changed.mean()),
        "both": float((kept & changed).mean()),
    }


def agreement(promised: tuple[float, float, float], seen: float) -> float:
    """Difference in standard errors of both, the promised one's from its 95 % limits."""
    error = (promised[2] - promised[1]) / 3.92
    own = max(seen * (1 - seen), 1.0 / EDITS) / EDITS
    return (seen - promised[0]) / math.hypot(error, math.sqrt(own))


def main() -> None:
    """Measure, advise, edit, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--cache", type=Path, default=Path("build/advice_check"))
    parser.add_argument("--other", action="store_true", help="samplers of the other kind too")
    arguments = parser.parse_args()
    model = load_digits()
    unet = UNet2DModel.from_pretrained(WEIGHTS / "unet", torch_dtype=torch.float32).eval()
    features = [load_feature(name, model=model) for name in FEATURES]
    data = model.dataset()
    plan = plan_dataset(SOURCES + EDITS, len(data), SEED, strata=getattr(data, "strata", None))
    clean = torch.as_tensor(data.clean([source.item for source in plan[SOURCES:]]))
    before = [f.read(model.decode(clean)).indices for f in features]
    rows = []
    for reversal in ("stochastic", "ode"):
        records = measured(reversal, arguments.cache / reversal)
        for keep, change in PAIRS:
            samplers = [
                sampler("digits", scheduler=scheduler, steps=STEPS, options=options)
                for scheduler, options in SCHEDULERS.values()
            ]
            advice: Advice = advise(records, keep=[keep], change=[change], samplers=samplers)
            for row, (name, chosen) in enumerate(zip(SCHEDULERS, samplers, strict=True)):
                if chosen.reversal != reversal and not arguments.other:
                    continue
                start = advice.starts[row]
                step = chosen.start(start.values["strength"])
                file = arguments.cache / f"{name.replace(' ', '-')}-{step}.npy"
                if not file.exists():
                    seed = 1000 * (row + 1) + step  # noise of its own for every setting
                    images = model.decode(edited(unet, clean, chosen, step, seed))
                    np.save(file, [f.read(images).indices for f in features])
                after = np.load(file)
                k, c = FEATURES.index(keep), FEATURES.index(change)
                seen = shares(np.asarray(after[k] == before[k]), np.asarray(after[c] != before[c]))
                rows.append(
                    {
                        "keep": keep,
                        "change": change,
                        "measured with": reversal,
                        "sampler": name,
                        "is same reversal": chosen.reversal == reversal,
                        "status": advice.status,
                        "t advised": advice.best.t,
                        "strength": start.values["strength"],
                        "t effective": float(ou_time(chosen.logsnr[step])),
                        "promised": {
                            key: list(getattr(advice.best, key))
                            for key in ("kept", "changed", "both")
                        },
                        "expected at the setting": {
                            "kept": start.kept,
                            "changed": start.changed,
                        },
                        "seen": seen,
                        "standard errors": {
                            key: agreement(getattr(advice.best, key), seen[key])
                            for key in ("kept", "changed", "both")
                        },
                    }
                )
                print(json.dumps(rows[-1]), flush=True)
    result = {
        "sources": SOURCES,
        "edits": EDITS,
        "steps": STEPS,
        "rows": rows,
    }
    arguments.out.mkdir(exist_ok=True)
    (arguments.out / "advice.json").write_text(json.dumps(result, indent=1) + "\n")
    (arguments.out / "advice.md").write_text(words(result))


def words(result: dict[str, Any]) -> str:
    """The result as a page."""
    head = "| keep | change | advice | t | sampler | strength, its t | promised kept, changed, "
    head += "both | "
    lines = [
        "# Edits at the advised strength",
        "",
        f"`python benchmarks/advice_check.py`: advice from {result['sources']} training images "
        f"of the shipped digits, tried on {result['edits']} others with diffusers' schedulers, "
        f"{result['steps']} steps. Promised rates are those of the half of the images that did "
        "not choose the level; the last column is the largest difference in standard errors.",
    ]
    for is_same, title in (
        (True, "Measured with the sampler's own kind of reversal"),
        (False, "Measured with the other kind: not promised"),
    ):
        chosen = [row for row in result["rows"] if row["is same reversal"] == is_same]
        if not chosen:
            continue
        worst = [max(row["standard errors"].values(), key=abs) for row in chosen]
        lines += ["", f"## {title}", "", head + "seen | largest |", "|" + " --- |" * 9]
        for row, far in zip(chosen, worst, strict=True):
            promised = ", ".join(f"{100 * v[0]:.0f} %" for v in row["promised"].values())
            seen = ", ".join(f"{100 * v:.0f} %" for v in row["seen"].values())
            lines.append(
                f"| {row['keep']} | {row['change']} | {row['status']} | {row['t advised']:.2f} | "
                f"{row['sampler']} | {row['strength']:g}, {row['t effective']:.2f} | {promised} | "
                f"{seen} | {far:+.1f} |"
            )
        off = [abs(v) for row in chosen for v in row["standard errors"].values()]
        lines += [
            "",
            f"{sum(v <= 1.96 for v in off)} of {len(off)} rates within 1.96 standard errors, "
            f"{sum(v <= 3 for v in off)} within 3.",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
