"""How long ``import critwin`` and ``critwin --help`` take, without torch.

Each is started in fresh processes; the bare interpreter is measured beside them, and what is
printed is the median and the spread. Exits with 1 if a limit is missed.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": (["-c", "pass"], None),
    "import critwin": (["-c", "import critwin"], 0.3),
    "critwin --help": (["-m", "critwin", "--help"], 0.6),
}


def seconds(args: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *args], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    code = (
        "import sys, critwin; from critwin.cli import main; main(['--help']); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    results, is_met = {}, True
    for name, (args, limit) in COMMANDS.items():
        seconds(args)  # warms the file cache and compiles
        times = sorted(seconds(args) for _ in range(repeats))
        middle = statistics.median(times)
        is_met &= limit is None or middle <= limit
        results[name] = {
            "median_s": middle,
            "min_s": times[0],
            "max_s": times[-1],
            "limit_s": limit,
        }
        shown = "" if limit is None else f", limit {limit} s"
        print(f"{name}: {middle:.3f} s ({times[0]:.3f} to {times[-1]:.3f}{shown})")
    print(
        json.dumps({"python": platform.python_version(), "machine": platform.machine(), **results})
    )
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
