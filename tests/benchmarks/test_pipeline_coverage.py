"""The benchmark of pipelines runs at toy size and writes its table."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # inside diffusers


def test_toy_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "pipeline_coverage.py"
    spec = importlib.util.spec_from_file_location("pipeline_coverage", script)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    monkeypatch.setattr(benchmark, "STEPS", (10, 20))
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    out = tmp_path / "table.md"
    asked = ["--runs", "1", "--sources", "48", "--long", "96", "--only", "7", "12"]
    benchmark.main([*asked, "--out", str(out)])
    rows = [line for line in out.read_text("utf-8").splitlines() if line.startswith("| SD")]
    assert [row.split("|")[2].strip() for row in rows] == [
        "DPMSolverMultistep",
        "FlowMatchEulerDiscrete",
    ]
    for row in rows:
        biases = [float(v) for v in re.findall(r"([+-]\d\.\d+) ±", row)]
        assert len(biases) == 2
        assert max(map(abs, biases)) < 0.5
