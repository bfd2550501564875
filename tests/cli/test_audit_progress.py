"""How far an audit is, on standard error."""

import tomllib
from pathlib import Path

import pytest

from critwin.cli import _progress, main
from critwin.cli._progress import plain_progress, steps_done
from critwin.runs.config import parse_config
from critwin.runs.executor import run_experiment

RUN = """
[run]
out = "run"
batch_size = 16
images = 0
[model]
name = "mixture"
mixture = { component = [
  { name = "a", weight = 0.5, mean = [-6.0] }, { name = "b", weight = 0.5, mean = [6.0] } ] }
[sources]
count = 16
[[feature]]
name = "component"
[levels]
unit = "t"
values = [0.3, 1.0, 2.0]
"""


def test_steps_of_an_audit_are_told_like_units_of_a_run() -> None:
    seconds, said = 0.0, []
    tell = steps_done(
        plain_progress(clock=lambda: seconds, say=said.append), words="images scored by {}"
    )
    for done in range(4):
        tell("loss", 100 * done, 400)
        seconds += 50.0
    assert said == ["200 of 400 images scored by loss, about 2 min left"]


def test_the_command_tells_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run_experiment(parse_config(tomllib.loads(RUN)))
    asked = ["audit", "fairness", "run", "--attribute", "component", "--no-report"]
    assert main(asked) == 0
    assert capsys.readouterr().err == ""  # not in the first minute
    monkeypatch.setattr(_progress, "SECONDS_BETWEEN_LINES", 0.0)
    assert main(asked) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("critwin: 0 of 1 runs read")
    assert lines[-1].startswith("critwin: 4 of 4 questions")
