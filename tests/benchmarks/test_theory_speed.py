"""The benchmark of tables of mixtures runs at toy size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.validate
def test_toy_size() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "theory_speed.py"
    done = subprocess.run(
        [sys.executable, str(script), "--toy"], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    facts = json.loads(lines[-1])
    assert set(facts["isotropic"]) == {"D=20", "D=200", "plain"}
    assert facts["families"]["two-gaussians"]["stderr"] is None
    assert facts["full"]["plain"]["scaled_s"] > 0
