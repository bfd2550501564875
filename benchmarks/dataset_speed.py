"""Prediction from a data set against the loop that one would write, with the same outputs.

The data are the 5,000 shipped digits (784 coordinates), every one of them noised, at 30 levels:
transitions with and without the source, weight of the source, same point, entropy. The loop is
the plain one: for each level and block of queries, noisy samples, logits by a matrix product,
softmax, class sums; once with the source and once without. Both get the same noise, and their
numbers are compared before any time is printed. Also: time against the number of levels (the
products are paid once), and with ``--large`` the peak memory at 60,000 x 784. Exits with 1 where a
limit is missed at full size.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

import numpy as np
import torch

from critwin.levels import grid
from critwin.models.digits.data import load_data
from critwin.streams import numpy_stream
from critwin.theory._dataset_inputs import check_points, label_columns
from critwin.theory._dataset_queries import CHUNK, plan_queries, query_noise
from critwin.theory.datasets import dataset_prediction

LIMIT_S, LIMIT_GB = 3.0, 4.0


def naive(
    points: np.ndarray, labels: np.ndarray, logsnr: np.ndarray, device: str
) -> dict[str, np.ndarray]:
    """What one would write, a block of queries at a time."""
    num, dim = points.shape
    checked, keep = check_points(points, None)
    plan = plan_queries(checked.law, label_columns(labels, keep, num), num, 0)
    x = torch.from_numpy(points).to(device)
    one_hot = torch.nn.functional.one_hot(torch.tensor(labels).long()).float().to(device)
    squares = (x**2).sum(dim=1)
    size = one_hot.shape[1]
    out = {
        "among": np.zeros((len(logsnr), size, size)),
        "without": np.zeros((len(logsnr), size, size)),
        "source": np.zeros(len(logsnr)),
        "same": np.zeros(len(logsnr)),
        "entropy": np.zeros(len(logsnr)),
    }
    for a in range(0, num, CHUNK):
        index = torch.from_numpy(plan.index[a : a + CHUNK]).to(device)
        z = torch.from_numpy(query_noise(0, a // CHUNK, 1, len(index), dim)[0]).to(device)
        rows = torch.arange(len(index), device=device)
        own = one_hot[index].T
        for level, value in enumerate(logsnr):
            snr = float(np.exp(value))
            alpha, var = (snr / (1 + snr)) ** 0.5, 1 / (1 + snr)
            y = alpha * x[index] + var**0.5 * z
            logits = (alpha / var) * (y @ x.T) - alpha**2 / (2 * var) * squares
            probs = torch.softmax(logits, dim=1)
            source = probs[rows, index]
            out["among"][level] += (own @ (probs @ one_hot)).double().cpu().numpy()
            out["source"][level] += float(source.double().sum())
            out["same"][level] += float((probs**2).sum().double())
            out["entropy"][level] -= float(source.clamp(min=1e-30).log().double().sum())
            logits[rows, index] = -torch.inf
            alone = torch.softmax(logits, dim=1)
            out["without"][level] += (own @ (alone @ one_hot)).double().cpu().numpy()
    for name in ("among", "without"):
        out[name] /= out[name].sum(axis=2, keepdims=True)
    for name in ("source", "same", "entropy"):
        out[name] /= num
    return out


def attention(
    points: np.ndarray, labels: np.ndarray, logsnr: np.ndarray, device: str
) -> np.ndarray:
    """Only the transitions with the source, by PyTorch's fused attention: a product a level."""
    num, dim = points.shape
    checked, keep = check_points(points, None)
    plan = plan_queries(checked.law, label_columns(labels, keep, num), num, 0)
    x = torch.from_numpy(points).to(device)
    one_hot = torch.nn.functional.one_hot(torch.tensor(labels).long()).float().to(device)
    squares = (x**2).sum(dim=1)
    out = np.zeros((len(logsnr), one_hot.shape[1], one_hot.shape[1]))
    for a in range(0, num, CHUNK):
        index = torch.from_numpy(plan.index[a : a + CHUNK]).to(device)
        z = torch.from_numpy(query_noise(0, a // CHUNK, 1, len(index), dim)[0]).to(device)
        for level, value in enumerate(logsnr):
            snr = float(np.exp(value))
            alpha, var = (snr / (1 + snr)) ** 0.5, 1 / (1 + snr)
            rows = torch.nn.functional.scaled_dot_product_attention(
                (alpha * x[index] + var**0.5 * z)[None, None],
                x[None, None],
                one_hot[None, None],
                attn_mask=(-(alpha**2) / (2 * var) * squares)[None, None, None],
                scale=alpha / var,
            )
            out[level] += (one_hot[index].T @ rows[0, 0]).double().cpu().numpy()
    return out / out.sum(axis=2, keepdims=True)


def ours(
    points: np.ndarray,
    labels: np.ndarray,
    logsnr: np.ndarray,
    device: str,
    num_queries: int | None = None,
) -> dict[str, np.ndarray]:
    found = dataset_prediction(
        points, {"label": labels}, logsnr, device=device, num_queries=num_queries
    )
    return {
        "among": found.transitions["label"].probs,
        "without": found.leave_one_out["label"].probs,
        "source": found.collapse.source_weight,
        "same": found.collapse.same_point,
        "entropy": found.collapse.entropy,
    }


def seconds(call: Callable[[], object], repeats: int) -> dict[str, float]:
    times, work = [], []
    for _ in range(repeats):
        begun, used = time.perf_counter(), time.process_time()
        call()
        times.append(time.perf_counter() - begun)
        work.append(time.process_time() - used)
    return {
        "median_s": statistics.median(times),
        "min_s": min(times),
        "max_s": max(times),
        "processor_s": min(work),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="200 points, 4 levels")
    parser.add_argument("--large", action="store_true", help="only 60,000 x 784, for its memory")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--queries", type=int, default=1000, help="with --large")
    args = parser.parse_args()
    data = load_data()
    levels = grid(0.3, 3.0, 4 if args.toy else 30)
    about = {"machine": platform.machine(), "threads": torch.get_num_threads()}
    if args.device.startswith("cuda"):
        about["machine"] = torch.cuda.get_device_name()
    if args.large:
        masks = np.tile(data.masks.reshape(5000, -1), (12, 1))
        noise = numpy_stream(0, "benchmark").integers(0, 32, masks.shape, dtype=np.uint8)
        large = (masks // 2 + noise).astype(np.float32) / np.float32(127.5) - np.float32(1)
        del masks, noise
        labels = np.tile(data.digit, 12)
        begun = time.perf_counter()
        ours(large, labels, levels, args.device, args.queries)
        took = time.perf_counter() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"60,000 x 784, {args.queries} queries, 30 levels: {took:.1f} s, peak {peak:.2f} GB")
        print(json.dumps({**about, "seconds": took, "peak_gb": peak}))
        return 0 if peak <= LIMIT_GB else 1
    points = data.masks.reshape(5000, -1).astype(np.float32) / np.float32(127.5) - np.float32(1)
    labels = data.digit
    if args.toy:
        points, labels = points[::25], labels[::25]
    results: dict[str, object] = {}

    def timed(name: str, call: Callable[[], object]) -> dict[str, float]:
        def keep() -> None:
            results[name] = call()

        return seconds(keep, args.repeats)

    ours(points[:: len(points) // 100], labels[:: len(points) // 100], levels[:2], args.device)
    fast = timed("ours", lambda: ours(points, labels, levels, args.device))
    half = timed("half", lambda: ours(points, labels, levels[::2], args.device))
    loop = timed("loop", lambda: naive(points, labels, levels, args.device))
    fused_s = timed("fused", lambda: attention(points, labels, levels, args.device))
    found, expected = results["ours"], results["loop"]
    assert isinstance(found, dict)
    assert isinstance(expected, dict)
    worst = {name: float(np.abs(found[name] - expected[name]).max()) for name in expected}
    worst["attention"] = float(np.abs(results["fused"] - expected["among"]).max())
    print("largest differences:", {name: f"{gap:.1e}" for name, gap in worst.items()})
    if max(worst.values()) > 2e-4:
        print("they do not agree: no times are given")
        return 1
    print(f"loop: {loop['median_s']:.2f} s ({loop['min_s']:.2f} to {loop['max_s']:.2f})")
    print(f"fused attention, only the transitions with the source: {fused_s['median_s']:.2f} s")
    print(f"critwin: {fast['median_s']:.2f} s ({fast['min_s']:.2f} to {fast['max_s']:.2f})")
    print(
        f"ratio: {loop['median_s'] / fast['median_s']:.1f} by the clock, "
        f"{loop['processor_s'] / fast['processor_s']:.1f} by processor time "
        f"({loop['processor_s']:.1f} against {fast['processor_s']:.1f} s)"
    )
    both = (fast["processor_s"], half["processor_s"])
    per_level = (both[0] - both[1]) / (len(levels) - len(levels[::2]))
    print(
        f"a level costs {1e3 * per_level:.0f} ms of processor time, what they share "
        f"{both[0] - len(levels) * per_level:.2f} s"
    )
    print(
        json.dumps(
            {**about, "loop": loop, "attention": fused_s, "critwin": fast, "half_the_levels": half}
        )
    )
    return 0 if args.toy or fast["min_s"] <= LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
