"""The benchmark of the samplers runs at toy size and prints its table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_toy_table() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "sampler_orders.py"
    out = subprocess.run(
        [sys.executable, str(script), "--toy"], capture_output=True, text=True, check=True
    )
    rows = [line.split("|")[1:-1] for line in out.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 9
    for row in rows[1:]:
        order, fitted = float(row[1]), float(row[-2])
        assert abs(fitted - order) < 0.5, row
