"""What ``critwin run`` adds to a bare batched denoising loop of the same units.

The loop noises, denoises and decodes the same sources at the same levels in the same batches and
nothing else. The run draws and reads sources, names streams, checks and labels results, writes the
ledger and images. Both are repeated in turn, in one process; the best of each is compared. The
overhead of the engine alone (labels taken by the same rules, which any measurement needs) is
printed beside. Exits with 1 above the limit.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from critwin.experiments.measuring import measure_sources
from critwin.experiments.padding import padded_rows, padded_streams
from critwin.experiments.reading import read_batch
from critwin.experiments.spec import plan
from critwin.experiments.units import batches
from critwin.runs.config import parse_config
from critwin.runs.executor import run_experiment
from critwin.runs.folder import open_run
from critwin.runs.prepare import Prepared, prepare, spec_of

LIMIT = 0.05


def bare_loop(prepared: Prepared, *, is_read: bool) -> float:
    """Seconds of the loop; sources are ready before it starts."""
    spec, model = spec_of(prepared), prepared.model
    clean = {}
    for start in range(0, len(spec.sources), spec.batch_size):
        batch = spec.sources[start : start + spec.batch_size]
        states, _ = measure_sources(batch, model, (), spec)
        clean.update((state.source.name, state.clean) for state in states)
    begun = time.perf_counter()
    with torch.no_grad():
        for group in batches(plan(spec), spec.batch_size):
            rows = padded_rows(len(group), spec.batch_size)
            streams = padded_streams(
                [(u.source, u.requested_logsnr, u.replicate) for u in group],
                spec.batch_size,
                spec.seed,
            )
            x = torch.stack([clean[group[i].source] for i in rows])
            noisy = model.noise(x, group[0].logsnr, streams)
            conditions = [group[i].condition for i in rows]
            result = model.denoise(
                noisy, group[0].logsnr, conditions, streams, reversal=spec.reversal
            )
            samples = model.decode(result)
            if is_read:
                read_batch(prepared.features, samples, len(group))
    return time.perf_counter() - begun


def full_run(prepared: Prepared, folder: Path) -> float:
    """Seconds of the same units in a run folder, without drawing the sources."""
    begun = time.perf_counter()
    run_experiment(prepared.config, out=folder, model=prepared.model, features=prepared.features)
    total = time.perf_counter() - begun
    drawn = sum(e["seconds"] for e in open_run(folder).timings() if e["phase"] == "sources")
    return total - drawn


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=16)
    parser.add_argument("--levels", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=LIMIT)
    args = parser.parse_args()
    config = parse_config(
        {
            "run": {"batch_size": 16, "images": 8},
            "model": {"name": "digits"},
            "sources": {"kind": "dataset", "count": args.sources},
            "denoise": {"condition": "none"},
            "levels": {"from": 0.2, "to": 5.0, "count": args.levels},
            "feature": [{"name": "ground"}, {"name": "ink"}, {"name": "digit"}],
        }
    )
    prepared = prepare(config)
    times: dict[str, list[float]] = {"bare": [], "bare_and_labels": [], "run": []}
    bare_loop(prepared, is_read=True)  # warms up
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(args.repeats):
            times["bare"].append(bare_loop(prepared, is_read=False))
            times["run"].append(full_run(prepared, Path(folder) / str(turn)))
            times["bare_and_labels"].append(bare_loop(prepared, is_read=True))
        digests = {open_run(Path(folder) / str(t)).digest() for t in range(args.repeats)}
    assert len(digests) == 1, "runs of the same file differ"
    best = {name: min(values) for name, values in times.items()}
    overhead = best["run"] / best["bare"] - 1
    alone = best["run"] / best["bare_and_labels"] - 1
    for name, values in times.items():
        shown = ", ".join(f"{value:.2f}" for value in values)
        print(f"{name}: best {best[name]:.2f} s of {shown}")
    print(
        f"overhead of the run: {overhead:+.1%} (limit {args.limit:.0%}); "
        f"without labels {alone:+.1%}"
    )
    facts = {
        "num_units": args.sources * args.levels,
        "overhead": overhead,
        "overhead_without_labels": alone,
        "seconds": {
            name: [float(np.round(v, 4)) for v in values] for name, values in times.items()
        },
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }
    print(json.dumps(facts))
    return 0 if overhead <= args.limit else 1


if __name__ == "__main__":
    sys.exit(main())
