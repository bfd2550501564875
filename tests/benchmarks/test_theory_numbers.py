"""Every number of the theory to its printed digits; those of the digits by the benchmark."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_every_number_agrees() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "theory_numbers.py"
    out = subprocess.run(
        [sys.executable, str(script), "--quick"], capture_output=True, text=True, check=False
    )
    assert out.returncode == 0, [line for line in out.stdout.splitlines() if "NO" in line]
    assert out.stdout.count("| yes |") >= 100
