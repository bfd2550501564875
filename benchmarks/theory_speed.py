"""Exact and estimated tables of mixtures: how long they take, beside the plain way to get them.

- ``isotropic``: 64 components of equal isotropic covariance, 64 levels, in 1,000 and in many
  dimensions; what comes after the means have been reduced to their span (the Gram matrix).
- ``full``: 32 components with full covariances in 256 dimensions, 64 levels.
- ``families``: each family's curve of 64 levels where a quadrature makes it; its error is the
  difference from an independent way in the tests.

The plain way draws noisy samples of every component and asks ``torch.distributions`` for the
densities of all of them, level by level. It would take hours, so a few samples are timed, and
their time is scaled by the number of levels and by the square of the ratio of standard errors:
that is said where it is printed. Exits with 1 where a limit is missed at full size.
"""

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

import numpy as np
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal
from torch.distributions import Normal as Gaussian

from critwin.levels import alpha_sigma, grid
from critwin.streams import numpy_stream
from critwin.theory import exact
from critwin.theory._tables import centred_span
from critwin.theory.exact import exact_transitions
from critwin.theory.families import list_families, load_family
from critwin.theory.mixtures import GaussianMixture

LIMITS = {
    "isotropic_s": 3.0,
    "isotropic_stderr": 1e-3,
    "flat": 1.2,
    "full_s": 60.0,
    "family_s": 0.05,
}


def timed(call: Callable[[], object]) -> tuple[object, float, float]:
    """The result, seconds by the clock and of processor time."""
    begun, used = time.perf_counter(), time.process_time()
    found = call()
    return found, time.perf_counter() - begun, time.process_time() - used


def isotropic(num: int, dim: int) -> GaussianMixture:
    rng = numpy_stream(0, "benchmark", "isotropic", dim)
    # means that lie 55 standard deviations apart, whatever the dimension
    means = 55.0 / np.sqrt(2.0 * dim) * rng.normal(size=(num, dim))
    return GaussianMixture(weights=np.full(num, 1 / num), means=means, covariances=1.0)


def full(num: int, dim: int) -> GaussianMixture:
    rng = numpy_stream(0, "benchmark", "full")
    root = rng.normal(size=(num, dim, dim + 50))
    return GaussianMixture(
        weights=np.full(num, 1 / num),
        means=0.5 * rng.normal(size=(num, dim)),
        covariances=root @ root.transpose(0, 2, 1) / (dim + 50),
        covariance_kind="full",
    )


def plain(m: GaussianMixture, logsnr: float, count: int) -> tuple[float, float]:
    """One level the plain way: seconds, and the largest standard error of a probability."""
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    centre = alpha * m.means
    if m.kind == "isotropic":
        spread = torch.full_like(
            centre, float(np.sqrt(alpha**2 * float(m.eigenvalues[0, 0]) + sigma**2))
        )
        parts = Independent(Gaussian(centre, spread), 1)
    else:
        eye = torch.eye(m.dim, dtype=torch.float64)
        parts = MultivariateNormal(centre, alpha**2 * m.covariances + sigma**2 * eye)
    law = MixtureSameFamily(Categorical(m.weights), parts)
    torch.manual_seed(0)
    begun, worst = time.perf_counter(), 0.0
    for k in range(m.num_components):
        if m.kind == "isotropic":
            x = centre[k] + spread[k] * torch.randn((count, m.dim), dtype=torch.float64)
        else:
            one = MultivariateNormal(centre[k], scale_tril=parts.scale_tril[k])
            x = one.sample((count,))
        joint = m.weights.log() + parts.log_prob(x[:, None])
        probs = (joint - law.log_prob(x)[:, None]).exp()
        worst = max(worst, float(probs.std(dim=0).max()) / count**0.5)
    return time.perf_counter() - begun, worst


def scaled(m: GaussianMixture, levels: np.ndarray, count: int, stderr: float) -> dict[str, float]:
    """Seconds that the plain way would take for the same table."""
    took, errors = 0.0, []
    chosen = levels[:: max(1, len(levels) // 3)][:4]
    for level in chosen:
        seconds, worst = plain(m, float(level), count)
        took += seconds
        errors.append(worst)
    a_level = took / len(chosen)
    return {
        "measured_s": took,
        "measured_levels": len(chosen),
        "samples": count,
        "scaled_s": a_level * len(levels) * (max(errors) / stderr) ** 2,
    }


@contextmanager
def timed_spans() -> Iterator[list[float]]:
    """Seconds of every reduction of the means to their span, the one part that depends on D."""
    taken: list[float] = []

    def reduced(means: np.ndarray, **options: object) -> np.ndarray:
        span, clock, _ = timed(lambda: centred_span(means, **options))
        taken.append(clock)
        return span

    exact.centred_span = reduced
    try:
        yield taken
    finally:
        exact.centred_span = centred_span


def of_isotropic(dims: list[int], num_samples: int, num: int, repeats: int) -> dict[str, object]:
    levels, out = grid(0.1, 4.0, 64), {}
    for dim in dims:
        m = isotropic(num, dim)
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        runs = []
        for _ in range(repeats):
            with timed_spans() as spans:
                table, clock, work = timed(
                    lambda m=m: exact_transitions(
                        m, levels, num_samples=num_samples, stderr=LIMITS["isotropic_stderr"]
                    )
                )
            runs.append((clock - sum(spans), sum(spans), work))
        after, gram, work = (float(v) for v in np.median(runs, axis=0))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        out[f"D={dim}"] = {
            "gram_s": gram,
            "after_gram_s": after,
            "processor_s": work,
            "stderr": float(table.stderr.max()),
            "gb_beyond_the_means": peak - held,
        }
        if dim == dims[0]:
            out["plain"] = scaled(m, levels, 8, float(table.stderr.max()))
    return out


def of_full(num: int, dim: int, num_samples: int) -> dict[str, object]:
    levels, m = grid(0.1, 4.0, 64), full(num, dim)
    table, clock, work = timed(lambda: exact_transitions(m, levels, num_samples=num_samples))
    stderr = float(table.stderr.max())
    return {
        "seconds": clock,
        "processor_s": work,
        "stderr": stderr,
        "plain": scaled(m, levels, 8, stderr),
    }


def of_families(num_samples: int) -> dict[str, dict[str, object]]:
    levels, out = grid(0.05, 4.0, 64), {}
    for info in list_families():
        mixture = load_family(info.name).mixture
        if mixture is None:
            continue
        exact_transitions(mixture, levels[:2], num_samples=256)
        best, table = np.inf, None
        for _ in range(5):
            table, clock, _ = timed(
                lambda m=mixture: exact_transitions(m, levels, num_samples=num_samples)
            )
            best = min(best, clock)
            if best > 1.0:
                break
        out[info.name] = {
            "components": mixture.num_components,
            "kind": table.kind,
            "seconds": best,
            "stderr": None if table.stderr is None else float(table.stderr.max()),
        }
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="a few components, a few samples")
    parser.add_argument("--dims", default="1000,100000,1000000")
    args = parser.parse_args()
    toy = args.toy
    dims = [20, 200] if toy else [int(d) for d in args.dims.split(",")]
    first = of_isotropic(dims, 1 << (8 if toy else 16), 6 if toy else 64, 1 if toy else 3)
    for name, row in first.items():
        if name != "plain":
            print(
                f"isotropic, {name}: {row['after_gram_s']:.2f} s after {row['gram_s']:.2f} s of "
                f"Gram matrix, standard error {row['stderr']:.1e}, "
                f"{row['gb_beyond_the_means']:.2f} GB more"
            )
    print(
        f"the plain way at D={dims[0]}, scaled from {first['plain']['measured_levels']} levels "
        f"and {first['plain']['samples']} samples: {first['plain']['scaled_s']:.0f} s"
    )
    second = of_full(4, 24, 1 << 8) if toy else of_full(32, 256, 1 << 12)
    print(
        f"full covariances: {second['seconds']:.1f} s, standard error {second['stderr']:.1e}; "
        f"the plain way, scaled: {second['plain']['scaled_s']:.0f} s"
    )
    third = of_families(1 << (8 if toy else 16))
    for name, row in third.items():
        error = (
            "error <= 1e-10" if row["stderr"] is None else f"standard error {row['stderr']:.0e}"
        )
        print(f"{name} ({row['components']}): {1e3 * row['seconds']:.0f} ms, {error}")
    rows = [row for name, row in first.items() if name != "plain"]
    ends = [row["after_gram_s"] for row in rows]
    is_met = {
        "isotropic": max(ends) <= LIMITS["isotropic_s"] and max(r["stderr"] for r in rows) <= 1e-3,
        "flat": max(ends) / min(ends) <= LIMITS["flat"],
        "full": second["seconds"] <= LIMITS["full_s"] and second["stderr"] <= 5e-3,
        "families": all(
            row["seconds"] <= LIMITS["family_s"] for row in third.values() if row["stderr"] is None
        ),
    }
    print(
        json.dumps(
            {
                "machine": platform.machine(),
                "threads": torch.get_num_threads(),
                "isotropic": first,
                "full": second,
                "families": third,
                "is_met": is_met,
            }
        )
    )
    return 0 if toy or all(is_met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
