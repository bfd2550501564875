"""Every experiment through a run folder: in pieces as at once, as in memory, with a report."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from critwin.cli import main
from critwin.errors import ConfigError, InputError, RunFolderError
from critwin.experiments import clone, intervene, preview, prompt_switch
from critwin.features.registry import load_feature
from critwin.models.registry import load_model
from critwin.records import Records, digest
from critwin.runs.config import parse_config
from critwin.runs.executor import run_experiment
from critwin.runs.folder import open_run, verify_folder

TIMES = [0.5, 1.2, 2.0, 2.8]
BASE = """
[run]
seed = 3
batch_size = 4
[model]
name = "mixture"
mixture = { component = [
  { name = "a", weight = 0.5, mean = [-4.0] }, { name = "b", weight = 0.5, mean = [4.0] } ] }
[sources]
count = 18
conditions = [CONDITIONS]
[[feature]]
name = "component"
"""
LEVELS = f"""
[levels]
values = {TIMES}
"""
ARMS = """
[experiment]
name = "intervene"
replicates = 2
[[experiment.arm]]
name = "none"
[[experiment.arm]]
name = "inside"
segments = [{ from = 2.2, to = 1.0, condition = "b" }]
"""


def text(name: str, *, conditions: str = "", rest: str = "", replicates: int = 1) -> str:
    own = ARMS if name == "intervene" else LEVELS + f'[experiment]\nname = "{name}"\n'
    if name not in ("intervene", "preview"):
        own += f"replicates = {replicates}\n"
    return BASE.replace("CONDITIONS", conditions) + own + rest


def config(name: str, **options: Any) -> Any:
    return parse_config(tomllib.loads(text(name, **options)))


SWITCH: dict[str, Any] = {"conditions": '"a"', "rest": '[denoise]\ncondition = "none"\n'}


def parts() -> tuple[Any, Any]:
    raw = config("clone").model
    model = load_model(raw.name, **raw.options)
    return model, load_feature("component", model=model)


def at_once(name: str) -> Records:
    model, feature = parts()
    options: dict[str, Any] = {"num_sources": 18, "batch_size": 4, "seed": 3}
    if name == "clone":
        return clone(model, feature, TIMES, unit="t", replicates=2, **options)
    if name == "preview":
        return preview(model, feature, TIMES, unit="t", **options)
    if name == "prompt_switch":
        return prompt_switch(
            model, feature, TIMES, unit="t", conditions=["a"], condition=None, **options
        )
    arms = {"none": [], "inside": [{"from": 2.2, "to": 1.0, "condition": "b"}]}
    return intervene(model, feature, arms, replicates=2, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clone", {"replicates": 2}),
        ("preview", {}),
        ("prompt_switch", SWITCH),
        ("intervene", {}),
    ],
)
def test_in_pieces_as_at_once(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    file = config(name, **options)
    outcome = run_experiment(file, out=tmp_path / "pieces", limit=5)
    assert not outcome.is_complete
    while not outcome.is_complete:
        outcome = run_experiment(file, out=tmp_path / "pieces", limit=31)
    run = open_run(tmp_path / "pieces")
    assert run.digest() == digest(at_once(name))
    assert verify_folder(tmp_path / "pieces") == ([], [])
    again = run_experiment(file, out=tmp_path / "pieces")
    assert again.num_new == 0


def test_trajectories_keep_their_levels_but_sources_may_grow(tmp_path: Path) -> None:
    run_experiment(config("clone"), out=tmp_path / "run")
    raw = tomllib.loads(text("clone"))
    raw["levels"]["values"] = [*TIMES, 3.3]
    with pytest.raises(RunFolderError, match="levels"):
        run_experiment(parse_config(raw), out=tmp_path / "run")
    raw["levels"]["values"], raw["sources"]["count"] = TIMES, 22
    outcome = run_experiment(parse_config(raw), out=tmp_path / "run")
    assert outcome.num_new == 4 * 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["experiment"].update(name="cloning"), "experiment.name"),
        (lambda c: c["sources"].update(kind="dataset", conditions=[]), "stops generations"),
        (lambda c: c.update(denoise={"condition": "a"}), "keeps the condition"),
        (lambda c: c["experiment"].update(name="prompt_switch"), "denoise.condition: missing"),
        (
            lambda c: c["experiment"].update(name="preview", replicates=2),
            "a preview draws nothing",
        ),
        (lambda c: c["experiment"].update(name="intervene"), "experiment.arm: missing"),
        (lambda c: c["experiment"].update(arm=[{"name": "x"}]), "intervene has arms"),
        (lambda c: c.pop("levels"), "levels: missing"),
        (
            lambda c: c["experiment"].update(name="intervene", arm=[{"name": "x"}]),
            "starts from pure noise",
        ),
    ],
)
def test_files_that_ask_for_what_cannot_be(
    change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    raw = tomllib.loads(text("clone"))
    change(raw)
    with pytest.raises(ConfigError) as caught:
        parse_config(raw)
    assert said in str(caught.value)


def test_arms_are_checked_against_the_model(tmp_path: Path) -> None:
    raw = tomllib.loads(text("intervene"))
    raw["experiment"]["arm"][1]["segments"][0]["condition"] = "zebra"
    with pytest.raises(InputError, match="does not know this condition"):
        run_experiment(parse_config(raw), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


DONE = {
    "clone": "continued from the same state with other random numbers",
    "preview": "looked at on its way",
    "prompt_switch": "continued from the same state under another condition",
    "intervene": "generated again from the same noise",
}


@pytest.mark.parametrize(
    ("name", "options"),
    [("clone", {}), ("preview", {}), ("prompt_switch", SWITCH), ("intervene", {})],
)
def test_the_command_line_measures_and_reports(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    options: dict[str, Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.toml").write_text(text(name, **options).replace("[run]", '[run]\nout = "run"', 1))
    assert main(["run", "x.toml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "evaluations" in said
    is_of_shares = name in ("prompt_switch", "intervene")
    assert ("of each midpoint" in said) is not is_of_shares
    assert ("interval of each share, at most: +- 23 points" in said) is is_of_shares
    code = main(["run", "x.toml", "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    facts = json.loads(out)
    assert facts["is_complete"]
    page = Path("run/report.html").read_text()
    assert {"intervene": "an intervention", "prompt_switch": "a prompt switch"}.get(
        name, f"{name}s"
    ) in page
    done = page.partition("What was done")[2].partition("</details>")[0]
    assert ("noised to a level and denoised again" in done) is False
    assert DONE[name] in done
    if name == "prompt_switch":
        assert facts["reasons"] == {}
        first, second = facts["following"]["component"]
        assert (first["labels"], second["labels"]) == (["b"], ["a"])
        shares = [b + a for b, a in zip(first["share"], second["share"], strict=True)]
        assert shares == pytest.approx([1.0] * 4)
        assert main(["run", "x.toml"]) == 0
        out = capsys.readouterr().out
        line = next(line for line in out.splitlines() if line.startswith("component: b in "))
        assert f"{100 * first['share'][-1]:.1f} %" in line
        assert "no window" not in out
        assert "What follows the change: component" in page
        assert "f0-component-following.csv" in page
        assert "source: “a”, results: no condition" in page
        assert "source,source_condition,reversal_condition,feature" in page
        assert "s000000,a,,component" in page
    if name in ("clone", "preview"):
        middle = facts["windows"]["component"]["midpoint"]["t"]
        assert np.isfinite(middle["value"])
    if name == "intervene":
        effect = next(e for e in facts["effects"] if (e["arm"], e["label"]) == ("inside", "b"))
        assert effect["difference"] > 0
        assert "points [" in page
