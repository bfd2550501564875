"""Error of every sampler against the truth, by number of network calls; orders are fitted.

Stochastic samplers: the largest error of their own transitions (backward equation, no Monte
Carlo) against the exact posterior draw's. Deterministic ones: root mean square distance to the
exact flow map. One mixture on a line, from OU time 1.2; the last level is logsnr 16.

    python benchmarks/sampler_orders.py            # the table of the documentation
    python benchmarks/sampler_orders.py --toy      # a few seconds, for smoke tests
"""

from __future__ import annotations

import argparse
import platform
import time

import numpy as np
import torch

from critwin.levels import alpha_sigma, logsnr_of_ou_time
from critwin.models.sampler_law import sampler_law
from critwin.models.samplers import level_path, sample_deterministic
from critwin.theory.exact import exact_transitions
from critwin.theory.mixtures import GaussianMixture, noised_log_density, posterior_mean
from critwin.theory.ode import ode_map

PAIR = GaussianMixture(weights=[0.4, 0.6], means=[-2.0, 2.0], covariances=[0.5, 1.0])
START, END = float(logsnr_of_ou_time(1.2)), 16.0
EXPECTED = {("stochastic", 1): 1, ("stochastic", 2): 2, ("ode", 1): 1, ("ode", 2): 2}


def denoise(x: torch.Tensor, logsnr: float) -> torch.Tensor:
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    return posterior_mean(PAIR, x, alpha=alpha, sigma=sigma)


def error_of(reversal: str, order: int, path: np.ndarray, num_points: int) -> float:
    if reversal == "stochastic":
        truth = exact_transitions(PAIR, [START]).probs[0]
        law = sampler_law(PAIR, path, order=order, num_points=num_points)  # type: ignore[arg-type]
        return float(np.abs(law - truth).max())
    alpha, sigma = (float(v) for v in alpha_sigma(START))
    x = torch.linspace(-4, 4, 201, dtype=torch.float64)[:, None]
    mass = torch.softmax(noised_log_density(PAIR, x, alpha=alpha, sigma=sigma), dim=0)
    actual = sample_deterministic(denoise, x, path, order=order)  # type: ignore[arg-type]
    gap = (actual - ode_map(PAIR, x, logsnr=START))[:, 0]
    return float(torch.sqrt((mass * gap**2).sum()))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="few steps, coarse grids")
    toy = parser.parse_args(argv).toy
    steps = (4, 8, 16) if toy else (8, 16, 32, 64, 128)
    num_points = 91 if toy else 301
    print(f"{platform.machine()}, torch {torch.__version__}, numpy {np.__version__}")
    columns = ["reversal", "order", "spacing", *map(str, steps), "fitted order", "s"]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for (reversal, order), expected in EXPECTED.items():
        for spacing in ("logsnr", "karras"):
            begin = time.perf_counter()
            errors = [
                error_of(reversal, order, level_path(START, END, n, spacing=spacing), num_points)
                for n in steps
            ]
            took = time.perf_counter() - begin
            # the last three numbers of steps are the asymptotic ones
            fitted = -np.polyfit(np.log(steps[-3:]), np.log(errors[-3:]), 1)[0]
            if not toy:
                assert abs(fitted - expected) < 0.25, (reversal, order, spacing, fitted)
            cells = " | ".join(f"{e:.1e}" for e in errors)
            print(f"| {reversal} | {order} | {spacing} | {cells} | {fitted:.2f} | {took:.1f} |")


if __name__ == "__main__":
    main()
