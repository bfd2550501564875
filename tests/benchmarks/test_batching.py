"""The benchmark of batching runs at toy size: it checks that results agree before it times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.validate
def test_toy_ratio() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "batching.py"
    options = ["--images", "2", "--logsnr", "3", "--repeats", "1"]
    out = subprocess.run(
        [sys.executable, str(script), *options], capture_output=True, text=True, check=True
    )
    facts = json.loads(out.stdout.splitlines()[-1])
    assert facts["ratio"] > 0
    assert facts["largest_difference"] < 1e-3
