"""Denoising a batch against one image at a time, which is what existing scripts do.

Both denoise the same noisy images of the digits model with the same random streams, in turn, in
one process; that the results agree is checked first. Prints the ratio of medians.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

import torch

from critwin.levels import ou_time, snap
from critwin.models.digits.loading import load_digits
from critwin.streams import UnitStreams


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--logsnr", type=float, default=-2.0)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    model = load_digits()
    assert model.levels is not None
    level = float(model.levels[snap(args.logsnr, model.levels)[0]])
    streams = [UnitStreams(0, f"s{i:06d}", level, 0) for i in range(args.images)]
    clean = model.dataset().clean(list(range(args.images)))
    noisy = model.noise(clean, level, streams)

    def together() -> torch.Tensor:
        return model.denoise(noisy, level, [None] * args.images, streams)

    def apart() -> torch.Tensor:
        rows = range(args.images)
        return torch.cat(
            [model.denoise(noisy[i : i + 1], level, [None], streams[i : i + 1]) for i in rows]
        )

    worst = float((together() - apart()).abs().max())
    assert worst < 1e-3, f"batched and single results differ by {worst:g}"
    times: dict[str, list[float]] = {"together": [], "apart": []}
    for _ in range(args.repeats):
        for name, run in (("together", together), ("apart", apart)):
            begun = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begun)
    ratios = [b / a for a, b in zip(times["together"], times["apart"], strict=True)]
    middle = {name: statistics.median(values) for name, values in times.items()}
    print(
        f"{args.images} images at t = {float(ou_time(level)):.2f}: "
        f"{middle['together']:.2f} s in one batch, {middle['apart']:.2f} s one at a time, "
        f"{statistics.median(ratios):.2f} times as long ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    facts = {
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "largest_difference": worst,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
