"""Windows measured through real pipelines against the truth of the reversal that ran.

A Gaussian mixture, whose windows are known exactly, is dressed as the network of Stable Diffusion
1/2 (predicting the noise and v), of Stable Diffusion 3 (flow matching) and of DDPM, inside the
real pipeline with its real scheduler. For every scheduler:

- coverage: how many of several runs have a 95 % interval of the midpoint that holds the truth
  (exact posterior for stochastic schedulers, probability-flow ODE for deterministic ones);
- discretisation bias: midpoint of one long run less the truth, in OU time, by number of steps,
  with its standard error.

    python benchmarks/pipeline_coverage.py [--runs 20] [--sources 200] [--long 2000]

writes ``benchmarks/results/pipeline_coverage.md``.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import critwin as cw
from critwin.models.pipeline import load_pipeline
from critwin.theory.exact import exact_transitions
from critwin.theory.ode import ode_transitions
from critwin.views import transitions_from_records
from critwin.windows import critical_window

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from dressed_mixture import (
    ImageComponent,
    dressed_ddpm,
    dressed_sd,
    dressed_sd3,
    exact_sources,
    line_mixture,
)

RESULTS = Path(__file__).parent / "results" / "pipeline_coverage.md"
LAW = line_mixture((-2.0, 0.5, 2.5), (0.5, 0.3, 0.2))
STEPS = (10, 20, 50, 100)
KARRAS = {"use_karras_sigmas": True}
SDE = {"algorithm_type": "sde-dpmsolver++"}
CASES: list[tuple[str, str, dict[str, Any], str]] = [
    ("SD eps", "DDIMScheduler", {}, "stochastic"),
    ("SD eps", "DDIMScheduler", {}, "ode"),
    ("SD v", "DDIMScheduler", {}, "stochastic"),
    ("SD v", "DDIMScheduler", {}, "ode"),
    ("SD eps", "DDPMScheduler", {}, "stochastic"),
    ("SD eps", "EulerDiscreteScheduler", {}, "ode"),
    ("SD eps", "EulerAncestralDiscreteScheduler", {}, "stochastic"),
    ("SD eps", "DPMSolverMultistepScheduler", {}, "ode"),
    ("SD eps", "DPMSolverMultistepScheduler", KARRAS, "ode"),
    ("SD eps", "DPMSolverMultistepScheduler", SDE, "stochastic"),
    ("SD eps", "UniPCMultistepScheduler", {}, "ode"),
    ("SD eps", "HeunDiscreteScheduler", {}, "ode"),
    ("SD3 flow", "FlowMatchEulerDiscreteScheduler", {}, "ode"),
    ("DDPM eps", "DDPMScheduler", {}, "stochastic"),
]


def dressed(kind: str) -> Any:
    if kind == "SD3 flow":
        return dressed_sd3(LAW)
    if kind == "DDPM eps":
        return dressed_ddpm(LAW)
    return dressed_sd(LAW, says="v_prediction" if kind == "SD v" else "epsilon")


def midpoint(case: Any, steps: int, count: int, seed: int, num_levels: int) -> Any:
    """Midpoint of one run with its 95 % interval, and the truth on the same levels, OU time."""
    kind, name, options, way = case
    model = load_pipeline(
        dressed(kind),
        steps=steps,
        scheduler=name,
        scheduler_options=options,
        guidance=None if kind == "DDPM eps" else 1.0,
    )
    inside = model.levels[(model.levels > -5.0) & (model.levels < 2.0)]
    chosen = inside[np.unique(np.linspace(0, len(inside) - 1, num_levels).round().astype(int))]
    records = cw.forward_reverse(
        model,
        ImageComponent(LAW, 1.0 if kind == "DDPM eps" else 4.0),
        chosen,
        sources=exact_sources(LAW, count, seed),
        reversal=way,
        batch_size=min(count, 256),
        seed=seed,
    )
    exact = exact_transitions if way == "stochastic" else ode_transitions
    truth = exact(LAW, np.unique(records.logsnr)[::-1].copy(), labeller="map")
    weights = dict(zip(truth.after, truth.weights, strict=True))
    table = transitions_from_records(records, "component", weights=weights)
    return critical_window(table, test=False).midpoint.t, critical_window(
        truth, test=False
    ).midpoint.t


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--sources", type=int, default=200)
    parser.add_argument("--long", type=int, default=2000)
    parser.add_argument("--levels", type=int, default=7)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the rows")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    start = time.monotonic()
    rows, covered, total = [], 0, 0
    for case in [CASES[n] for n in asked.only] if asked.only else CASES:
        hits = 0
        for seed in range(asked.runs):
            got, truth = midpoint(case, 50, asked.sources, seed, asked.levels)
            hits += got.covers(truth.value)
        covered, total = covered + hits, total + asked.runs
        biases = []
        for steps in STEPS:
            got, truth = midpoint(case, steps, asked.long, 10_000, asked.levels)
            error = (got.high - got.low) / (2 * 1.96)
            biases.append(f"{got.value - truth.value:+.3f} ± {error:.3f}")
        kind, name, options, way = case
        shown = name.removesuffix("Scheduler") + "".join(f", {v}" for v in options.values())
        shown = shown.replace("True", "Karras")
        rows.append([kind, shown, way, f"{truth.value:.3f}", f"{hits}/{asked.runs}", *biases])
        print(" | ".join(rows[-1]), flush=True)
    low, high = _binomial_limits(covered, total)
    names = ["network", "scheduler", "reversal", "true midpoint", "covered"]
    names += [f"bias, {steps} steps" for steps in STEPS]
    lines = [
        "# Windows measured through real pipelines",
        "",
        "Three Gaussians on a line in 16 dimensions, dressed as the network of the real pipeline;",
        "written by `benchmarks/pipeline_coverage.py`. OU times. Coverage: 95 % intervals of the",
        f"midpoint at 50 steps, {asked.sources} sources, {asked.levels} levels; bias: midpoint of "
        f"{asked.long:,} sources less the",
        "truth, ± its standard error. The truth is the exact posterior's for stochastic",
        "schedulers and the probability-flow ODE's for deterministic ones.",
        "",
        "| " + " | ".join(names) + " |",
        "|" + " --- |" * len(names),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        f"In all {covered} of {total} intervals hold the truth ({covered / total:.1%}; 99 % "
        f"limits of that share {low:.1%} to {high:.1%}).",
        "",
        f"{time.monotonic() - start:.0f} s on {platform.machine()}, 1 thread, "
        f"torch {version('torch')}, diffusers {version('diffusers')}.",
        "",
    ]
    asked.out.write_text("\n".join(lines), encoding="utf-8")
    print(f"covered {covered} of {total}; wrote {asked.out}")


def _binomial_limits(hits: int, total: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    found = binomtest(hits, total).proportion_ci(0.99, "exact")
    return float(found.low), float(found.high)


if __name__ == "__main__":
    main()
