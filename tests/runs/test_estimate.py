"""What a run will cost: the time from two measured levels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from critwin.experiments.spec import plan
from critwin.experiments.units import batches
from critwin.runs import estimate
from critwin.runs.config import parse_config
from critwin.runs.prepare import prepare, spec_of
from runs_help import changed
from toy_models import Side, Size, ToyPoints


class Timed(ToyPoints):
    """A batch costs ``fixed`` seconds, and ``each`` for every network evaluation."""

    def __init__(self, fixed: float, each: float) -> None:
        super().__init__()
        self.fixed, self.each, self.now = fixed, each, 0.0

    def num_evaluations(self, logsnr: float, **_: Any) -> int:
        return int(10 - 2 * logsnr)

    def denoise(self, noisy: Any, logsnr: float, *args: Any, **options: Any) -> Any:
        self.now += self.fixed + self.each * self.num_evaluations(logsnr)
        return super().denoise(noisy, logsnr, *args, **options)


@pytest.mark.parametrize(("fixed", "each"), [(0.0, 1.0), (3.0, 0.25), (2.0, 0.0)])
def test_the_time_of_a_run_has_a_part_per_batch_and_a_part_per_evaluation(
    fixed: float, each: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Timed(fixed, each)
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: model.now))
    config = parse_config(changed(sources={"count": 8}))
    prepared = prepare(config, model=model, features=(Side(), Size()))
    found = estimate.estimate_run(prepared)
    spec = spec_of(prepared)
    groups = list(batches(plan(spec), spec.batch_size))
    truth = sum(fixed + each * model.num_evaluations(group[0].logsnr) for group in groups)
    assert found.seconds == pytest.approx(truth)
    assert "at t = " in found.measured


def test_one_level_needs_no_scaling() -> None:
    config = parse_config(changed(levels={"unit": "logsnr", "values": [0.0]}))
    found = estimate.estimate_run(prepare(config, model=ToyPoints(), features=(Side(), Size())))
    assert found.seconds > 0
    assert "scaled" not in found.measured
