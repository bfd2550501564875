"""The benchmark of predictions from a data set runs at toy size: both ways agree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_toy_size() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "dataset_speed.py"
    done = subprocess.run(
        [sys.executable, str(script), "--toy", "--repeats", "1"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("largest differences")
    assert set(json.loads(lines[-1])) >= {"loop", "critwin", "half_the_levels"}
