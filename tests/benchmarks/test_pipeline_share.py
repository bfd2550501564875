"""The benchmark of shares runs at toy size: it counts calls before it divides the time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.validate
def test_toy_size() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "pipeline_share.py"
    options = ["--shrink", "16", "--size", "8", "--steps", "1"]
    out = subprocess.run(
        [sys.executable, str(script), *options], capture_output=True, text=True, check=True
    )
    facts = json.loads(out.stdout.splitlines()[-1])
    beside = facts["decoding"] + facts["labelling"] + facts["text"]
    assert facts["share"] == beside / (facts["denoising_s"] + beside)
    assert 0 < facts["share"] < 1
