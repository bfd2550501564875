import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "pipeline_throughput.py"


def test_the_script_runs_at_toy_size(capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("pipeline_throughput", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = "--images 2 --batch 2 --steps 5 --size 8 --widths 8 16 16 --hidden 32 --repeats 1"
    assert module.main(arguments.split()) == 0
    assert "batched 2" in capsys.readouterr().out
