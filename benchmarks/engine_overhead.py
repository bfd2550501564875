"""What ``critwin run`` adds to a bare batched denoising loop of the same units.

The loop noises, denoises and decodes the same sources at the same levels in the same batches and
nothing else. The run draws and reads sources, names streams, checks and labels results, writes the
ledger and images. Both are repeated in turn, in one process, and the best of each is compared, by
the clock and by processor time, which other work on the machine disturbs less. The overhead
without that of the labellers is printed beside. Exits with 1 above the limit: by the clock, or by
processor time where the machine has other work.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

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


Times = tuple[float, float]
"""Seconds by the clock, and of processor time."""


def now() -> Times:
    return time.perf_counter(), time.process_time()


def since(begun: Times) -> Times:
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def bare_loop(prepared: Prepared, *, is_read: bool) -> Times:
    """The loop; sources are ready before it starts."""
    spec, model = spec_of(prepared), prepared.model
    clean = {}
    for start in range(0, len(spec.sources), spec.batch_size):
        batch = spec.sources[start : start + spec.batch_size]
        states, _ = measure_sources(batch, model, (), spec)
        clean.update((state.source.name, state.clean) for state in states)
    begun = now()
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
    return since(begun)


def full_run(prepared: Prepared, folder: Path) -> Times:
    """The same number of batches in a run folder whose sources are drawn and read already.

    One unit is measured before the clock starts; what is left of its batch is padded.
    """
    run_experiment(
        prepared.config, out=folder, model=prepared.model, features=prepared.features, limit=1
    )
    begun = now()
    run_experiment(prepared.config, out=folder, model=prepared.model, features=prepared.features)
    return since(begun)


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
    loops = {
        "bare": lambda turn: bare_loop(prepared, is_read=False),
        "run": lambda turn: full_run(prepared, Path(folder) / str(turn)),
        "bare_and_labels": lambda turn: bare_loop(prepared, is_read=True),
    }
    times: dict[str, list[Times]] = {name: [] for name in loops}
    bare_loop(prepared, is_read=True)  # warms up
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(args.repeats):
            for name, loop in loops.items():
                times[name].append(loop(turn))
        digests = {open_run(Path(folder) / str(t)).digest() for t in range(args.repeats)}
    assert len(digests) == 1, "runs of the same file differ"
    facts: dict[str, object] = {"num_units": args.sources * args.levels}
    overheads = []
    for clock, part in (("clock", 0), ("processor", 1)):
        best = {name: min(entry[part] for entry in values) for name, values in times.items()}
        overhead = best["run"] / best["bare"] - 1
        alone = best["run"] / best["bare_and_labels"] - 1
        overheads.append(overhead)
        for name, values in times.items():
            shown = ", ".join(f"{entry[part]:.2f}" for entry in values)
            print(f"{clock}: {name}: best {best[name]:.2f} s of {shown}")
        print(
            f"{clock}: overhead {overhead:+.1%} (limit {args.limit:.0%}), "
            f"without labels {alone:+.1%}"
        )
        facts[clock] = {"overhead": overhead, "overhead_without_labels": alone, "best_s": best}
    facts |= {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(facts))
    is_busy = os.getloadavg()[0] > (os.cpu_count() or 1) + 0.5
    return 0 if overheads[is_busy] <= args.limit else 1


if __name__ == "__main__":
    sys.exit(main())
