"""The command line end to end on an exact mixture, and every mistake as one line."""

import json
import os
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from critwin.cli import main
from critwin.cli._app import AUDITS, COMMANDS, make_app
from critwin.cli._progress import duration, plain_progress
from critwin.experiments.measuring import Progress
from critwin.features.registry import load_feature
from critwin.levels import ou_time
from critwin.models.registry import load_model
from critwin.runs.config import parse_config
from critwin.runs.folder import open_run
from toy_models import ToyPoints

Run = Callable[..., tuple[int, str, str]]

MIXTURE = """
[[component]]
name = "left"
weight = 0.5
mean = [-4.0, 0.0]
[[component]]
name = "right"
weight = 0.5
mean = [4.0, 0.0]
"""
EXPERIMENT = """
[run]
out = "run"
[model]
name = "mixture"
file = "mixture.toml"
[sources]
count = 24
[denoise]
condition = "none"
[levels]
from = 0.2
to = 4.0
count = 8
[[feature]]
name = "component"
"""


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.chdir(tmp_path)
    Path("mixture.toml").write_text(MIXTURE)
    Path("x.toml").write_text(EXPERIMENT)

    def call(*args: str) -> tuple[int, str, str]:
        code = main(list(args))
        out, err = capsys.readouterr()
        return code, out, err

    return call


def change(old: str, new: str) -> None:
    text = Path("x.toml").read_text()
    assert old in text
    Path("x.toml").write_text(text.replace(old, new))


def test_from_nothing_to_a_headline(run: Run) -> None:
    code, out, _ = run(
        "init", "new.toml", "--model", "mixture", "--features", "component",
        "--set", "model.file=mixture.toml", "--sources", "60", "--levels", "12",
        "--from", "0.3", "--to", "4",
    )  # fmt: skip
    assert code == 0
    assert "critwin run new.toml" in out
    text = Path("new.toml").read_text()
    assert text.count("#") > 10
    assert parse_config(tomllib.loads(text)).sources.count == 60
    code, out, err = run("run", "new.toml")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("720 of 720 units in 'new-run' (720 new, 0 invalid, ")
    assert lines[1].startswith("The component is decided at t = ")
    assert lines[-1] == "Report: new-run/report.html"
    assert "<html" in Path("new-run/report.html").read_text()[:200]
    code, out, _ = run("run", "new.toml", "--json")
    facts = json.loads(out)
    assert (facts["num_units_new"], facts["is_complete"]) == (0, True)
    middle = facts["windows"]["component"]["midpoint"]["t"]
    exact = _exact_midpoint(4.0)
    assert middle["low"] < exact < middle["high"]
    assert facts["headline"] == lines[1]


def _exact_midpoint(mean: float) -> float:
    """Where two equal Gaussians at +-mean keep half of what they can, from the closed form."""
    from scipy.special import expit

    x = np.linspace(-20, 20, 8001)
    logsnr = np.linspace(4, -8, 2401)
    alpha = np.sqrt(expit(logsnr))[:, None]
    density = np.exp(-0.5 * (x - alpha * mean) ** 2) / np.sqrt(2 * np.pi)
    stay = np.sum(density * expit(2 * alpha * mean * x), axis=1) * (x[1] - x[0])
    start = 1.0  # unit variances overlap a little without noise
    overlap = np.sum(np.exp(-0.5 * (x - mean) ** 2) / np.sqrt(2 * np.pi) * expit(2 * mean * x)) * (
        x[1] - x[0]
    )
    assert abs(overlap - start) < 1e-3
    return float(ou_time(logsnr[np.argmin(np.abs(2 * stay - 1 - 0.5))]))


def test_the_next_command_can_be_pasted(run: Run) -> None:
    name = 'we ird "n\'ame".toml'
    code, out, _ = run("init", name, "--no-check")
    assert code == 0
    assert shlex.split(out.partition("Next: ")[2])[2] == name


def test_a_dry_run_writes_nothing_and_counts_right(run: Run, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = run("run", "x.toml", "--dry-run", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["num_units"] == facts["num_units_left"] == 24 * 8
    assert facts["num_batches"] == 16
    assert facts["evaluations"] == 16 * 16 * 1  # padded rows count; a posterior draw is one
    assert facts["seconds"] > 0
    (feature,) = facts["features"]
    assert feature["chance"] == 0.5
    assert feature["midpoint_width"] == pytest.approx(
        2 * 1.96 * np.sqrt(0.75 * 0.25 / 24) / 0.5 / 0.8, rel=1e-4
    )
    code, out, _ = run("run", "x.toml", "--dry-run")
    assert "units: 192 = 24 sources x 8 levels x 1 replicates; 192 left" in out
    assert "sqrt(p (1 - p) / sources)" in out
    assert "a window of width 1 assumed\n" in out
    assert "model evaluations: 256\n" in out  # an exact law needs none for its sources
    assert "MB for the whole run folder, and the report" in out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_of_a_started_run_counts_what_is_left(run: Run) -> None:
    assert run("run", "x.toml", "--limit", "40", "--no-report")[0] == 0
    digest = open_run("run").digest()
    facts = json.loads(run("run", "x.toml", "--dry-run", "--json")[1])
    assert (facts["num_units"], facts["num_units_left"]) == (192, 152)
    assert open_run("run").digest() == digest


def test_a_dry_run_promises_no_window_from_one_level(run: Run) -> None:
    change("from = 0.2\nto = 4.0\ncount = 8", "values = [12.0]")
    code, out, _ = run("run", "x.toml", "--dry-run")
    assert code == 0
    assert "no window can be measured: it needs at least two levels, and there is one" in out
    assert "interval" not in out
    assert "levels: t = 12 to 12\n" in out
    (feature,) = json.loads(run("run", "x.toml", "--dry-run", "--json")[1])["features"]
    assert feature["midpoint_width"] is None


def test_a_dry_run_assumes_no_wider_window_than_the_levels_span(run: Run) -> None:
    wide = json.loads(run("run", "x.toml", "--dry-run", "--json")[1])
    change("to = 4.0", "to = 0.6")
    narrow = json.loads(run("run", "x.toml", "--dry-run", "--json")[1])
    assert (wide["assumed_width"], narrow["assumed_width"]) == (1.0, pytest.approx(0.4))
    assert narrow["features"][0]["midpoint_width"] == pytest.approx(
        0.4 * wide["features"][0]["midpoint_width"]
    )
    out = run("run", "x.toml", "--dry-run")[1]
    assert "a window of width 0.4 assumed, all that the levels span" in out


def test_of_a_complete_run_nothing_is_left(run: Run) -> None:
    assert run("run", "x.toml", "--no-report")[0] == 0
    out = run("run", "x.toml", "--dry-run")[1]
    assert "; 0 left" in out
    assert "disk: the run is complete, only its report would be written again" in out
    code, out, _ = run("run", "x.toml", "--no-report")
    assert code == 0
    assert "Nothing was left to measure.\n" in out
    assert "Nothing was left to measure; the report is written again." in run("run", "x.toml")[1]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "mixture"', 'name = "mixtur"', "model: unknown model: got mixtur"),
        ('name = "component"', 'name = "componet"', "feature.0: unknown feature: got componet"),
        ('condition = "none"', 'condition = "up"', "denoise: model 'mixture' does not know"),
        ("from = 0.2\nto = 4.0\ncount = 8", "values = [1.0, 3.0, 2.0]", "levels: "),
    ],
)
def test_what_does_not_exist_is_said_before_the_folder(
    run: Run, old: str, new: str, words: str
) -> None:
    assert run("run", "x.toml", "--limit", "20", "--no-report")[0] == 0
    text = Path("x.toml").read_text()
    for folder in ("run", "other"):
        Path(folder).mkdir(exist_ok=True)
        Path("other/mine.txt").touch() if folder == "other" else None
        Path("x.toml").write_text(text.replace('out = "run"', f'out = "{folder}"'))
        change(old, new)
        for extra in ([], ["--dry-run"]):
            code, out, err = run("run", "x.toml", *extra)
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert err.startswith(f"critwin: error: {words}")


def test_a_folder_outside_the_current_one_is_named(run: Run, tmp_path: Path) -> None:
    Path("inside").mkdir()
    os.chdir("inside")
    Path("x.toml").write_text(EXPERIMENT.replace("mixture.toml", "../mixture.toml"))
    change('out = "run"', 'out = "../aside"')
    code, _, err = run("run", "x.toml", "--limit", "20", "--no-report")
    assert code == 0
    assert (
        err == f"critwin: run folder outside the current one: {(tmp_path / 'aside').resolve()}\n"
    )
    assert (tmp_path / "aside" / "run.json").exists()
    change("../aside", "here/../aside")
    assert run("run", "x.toml", "--limit", "20", "--no-report")[2] == ""


def test_a_limited_run_says_how_to_go_on(run: Run) -> None:
    code, out, _ = run("run", "x.toml", "--limit", "40", "--no-report")
    assert code == 0
    assert "40 of 192 units" in out
    assert "run the same command again" in out
    assert "Report" not in out
    facts = json.loads(run("status", "run", "--json")[1])
    assert (facts["num_units"], facts["num_units_planned"]) == (40, 192)
    assert (facts["is_complete"], facts["is_running"]) == (False, False)
    assert facts["digest"] == open_run("run").digest()
    assert "nobody is working on it" in run("status", "run")[1]
    assert run("run", "x.toml", "--no-report")[0] == 0
    assert run("status", "run")[1].splitlines()[-1] == "complete"


def test_verify_finds_damage(run: Run) -> None:
    assert run("run", "x.toml", "--no-report")[0] == 0
    code, out, _ = run("verify", "run")
    assert code == 0
    assert open_run("run").digest() in out
    facts = json.loads(run("verify", "run", "--json")[1])
    assert facts["is_intact"] is True
    data = bytearray(Path("run/ledger.sqlite").read_bytes())
    data[len(data) // 2] ^= 4
    Path("run/ledger.sqlite").write_bytes(data)
    code, out, err = run("verify", "run", "--json")
    assert code == 2
    assert json.loads(out)["is_intact"] is False
    assert err.startswith("critwin: error: the run folder 'run' is damaged")
    assert err.count("\n") == 1


def test_the_report_is_written_again_from_the_folder_alone(run: Run) -> None:
    assert run("run", "x.toml", "--no-report")[0] == 0
    Path("mixture.toml").unlink()
    code, out, _ = run("report", "run", "--out", "page.html", "--json")
    assert code == 0
    assert json.loads(out) == {"run": "run", "report": "page.html"}
    assert Path("page.html").stat().st_size > 10_000


def test_models_and_features_are_listed(run: Run) -> None:
    assert set(json.loads(run("models", "--json")[1])["models"]) >= {"digits", "mixture"}
    assert set(json.loads(run("features", "--json")[1])["features"]) >= {"ground", "component"}
    assert run("models")[1].splitlines()[0].startswith("digits")
    assert "entry points" in run("features")[1]


def test_options_are_listed_with_their_defaults(run: Run) -> None:
    models = json.loads(run("models", "--json")[1])["options"]
    assert models["mixture"]["steps"] == {"default": 128, "is_needed": False}
    assert models["mixture"]["file"] == {"default": None, "is_needed": False}
    assert "name" not in models["mixture"]
    features = json.loads(run("features", "--json")[1])["options"]
    assert features["classifier"]["file"] == {"default": None, "is_needed": True}
    assert features["ground"]["border"]["default"] == 2
    assert set(features["ground"]["grounds"]["default"]) == {"dark", "light"}
    assert "model" not in features["component"]
    for own in features.values():
        assert "called" in own
    out = run("features")[1]
    assert "\n  file           (needed)\n" in out
    assert "  grounds        { dark = 0.25, light = 0.55 }\n" in out
    assert run("models")[1].count("steps") >= 1
    assert "model.file=mixture.toml" in " ".join(run("init", "--help")[1].split())


def test_every_listed_option_is_accepted(run: Run) -> None:
    for name, own in json.loads(run("features", "--json")[1])["options"].items():
        if any(v["is_needed"] for v in own.values()):  # a file or labels that only a user has
            continue
        given = {k: v["default"] for k, v in own.items() if v["default"] is not None}
        assert load_feature(name, model=load_model("mixture", file="mixture.toml"), **given)


def test_doctor_is_content(run: Run, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    code, out, err = run("doctor", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["is_healthy"] is True
    assert facts["versions"]["torch"]
    assert facts["shipped weights"].startswith("intact")
    assert sorted(tmp_path.iterdir()) == before


def test_doctor_finds_what_is_broken(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise OSError(f"{name} is gone")

    monkeypatch.setattr("critwin.models.registry.load_model", lambda name: ToyPoints())
    assert run("doctor")[1].splitlines()[-1] == "all good"
    monkeypatch.setattr("critwin.models.registry.load_model", broken)
    code, out, err = run("doctor")
    assert code == 2
    assert "problem: the shipped digits model cannot be loaded: digits is gone" in out
    assert err.startswith("critwin: error: 1 problem(s) found")


BAD_FILES: list[tuple[str, str, str]] = [
    ('name = "mixture"', 'name = "mixtur"', "model: unknown model: got mixtur; wanted one of"),
    (
        'file = "mixture.toml"',
        'file = "no.toml"',
        "model: cannot read the mixture: got no.toml (No",
    ),
    ('file = "mixture.toml"', "fil = 3", "model: unknown option of model 'mixture': got fil"),
    ('name = "component"', 'name = "componet"', "feature.0: unknown feature: got componet"),
    ('name = "component"', 'name = "ground"\nx = 1', "feature.0: unknown option"),
    ('condition = "none"', 'condition = "up"', "denoise: model 'mixture' does not know"),
    ("from = 0.2", "from = 0.0", "levels: level out of range for unit 't': got 0.0"),
    ("to = 4.0", "to = 0.2", "levels: both ends of the grid coincide: got 0.2"),
    ("count = 24", "count = 0", "x.toml: sources.count: out of range: got 0; wanted at least 1"),
    ("[levels]", "[levls]", "x.toml: levls: unknown key"),
    ("[run]", "[run", "x.toml is not valid TOML"),
    ('out = "run"', 'out = "mixture.toml"', "the run folder is a file: got mixture.toml"),
    ('out = "run"', 'out = "."', "the folder '.' holds something else: got mixture.toml"),
]


@pytest.mark.parametrize(("old", "new", "words"), BAD_FILES)
def test_a_mistake_is_one_line_and_nothing_is_written(
    run: Run, tmp_path: Path, old: str, new: str, words: str
) -> None:
    change(old, new)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for extra in ([], ["--dry-run"], ["--json"]):
        code, out, err = run("run", "x.toml", *extra)
        assert (code, out) == (2, "")
        lines = err.splitlines()
        assert len(lines) == 1
        assert any(line.startswith(f"critwin: error: {words}") for line in lines)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["run", "no.toml"], "cannot read the experiment file: got no.toml"),
        (["run"], "see: critwin run --help"),
        (
            ["run", "x.toml", "--limit", "0"],
            "Invalid value for '--limit': got 0; wanted at least 1",
        ),
        (
            ["init", "y.toml", "--seed", "x"],
            "value for '--seed': got x; wanted a whole number; see",
        ),
        (["windows", "a", "--confidence", "x"], "'--confidence': got x; wanted a number; see: "),
        (
            ["init", "y.toml", "--from", "nan"],
            "--from is not a noise level: got nan; wanted a fin",
        ),
        (["init", "y.toml", "--set", "model.a=nan"], "--set model.a cannot be written: got nan"),
        (["init", "y.toml", "--set", "model.a=2020-01-01"], "--set model.a cannot be written"),
        (["init", "/proc/x/y.toml", "--no-check"], "make it writable or choose another place"),
        (["run", "x.toml", "--what"], "No such option: --what"),
        (["fly"], "No such command 'fly'"),
        (["status", "no"], "no such run folder: got no"),
        (["verify", "."], "not a run folder"),
        (["report", "no"], "no such run folder"),
        (["init", "x.toml"], "the experiment file exists: got x.toml"),
        (["init", "y.toml", "--model", "nope"], "model: unknown model: got nope"),
        (["init", "y.toml", "--model", "mixture"], "model: model 'mixture' needs a law"),
        (["init", "y.toml", "--features", ""], "feature: missing"),
        (["init", "y.toml", "--sources", "0"], "sources.count: out of range"),
        (["init", "y.toml", "--kind", "x"], "sources.kind: not one of the choices"),
        (["init", "y.toml", "--set", "model"], "not an option: got model"),
        (["init", "y.toml", "--unit", "furlong"], "levels.unit: not one of the choices"),
        (["init", "y.toml", "--out", "a\x1b[2J"], "run.out: wanted text without control"),
    ],
)
def test_a_wrong_command_is_one_line(run: Run, args: list[str], words: str) -> None:
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("critwin: error: ")
    assert words in err
    assert all(c.isprintable() or c == "\n" for c in err)
    assert not Path("y.toml").exists()


def test_an_interrupted_run_tells_the_exit_code(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from critwin.errors import InterruptedRunError

    for number in (signal.SIGINT, signal.SIGTERM):

        def stop(*args: Any, number: int = number, **options: Any) -> None:
            raise InterruptedRunError("stopped: 3 of 9", signum=number)

        monkeypatch.setattr("critwin.runs.executor.run_experiment", stop)
        code, out, err = run("run", "x.toml")
        assert (code, out, err) == (128 + number, "", "critwin: stopped: 3 of 9\n")


def test_a_bug_is_said_to_be_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("critwin.runs.executor.run_experiment", fail)
    code, _, err = run("run", "x.toml")
    assert code == 1
    assert "this is a bug in critwin" in err
    assert "ZeroDivisionError: oops" in err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 59.6 GiB\nfor an array"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: Unable to allocate 59.6 GiB"),
    ],
)
def test_what_does_not_fit_into_memory_is_no_bug(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr("critwin.runs.executor.run_experiment", fail)
    code, _, err = run("run", "x.toml")
    assert code == 2
    assert "this does not fit into memory: " in err
    assert "Unable to allocate 59.6 GiB" in err
    assert err.count("\n") == 1


def test_a_changed_file_is_refused(run: Run) -> None:
    assert run("run", "x.toml", "--limit", "20", "--no-report")[0] == 0
    change("[run]", "[run]\nseed = 7")
    code, _, err = run("run", "x.toml")
    assert code == 2
    assert "run.seed: 0 -> 7" in err


def test_no_window_is_an_answer_and_no_mistake(run: Run) -> None:
    """One component has nearly all the weight: every source and result carries one label."""
    Path("mixture.toml").write_text(
        MIXTURE.replace("weight = 0.5", "weight = 1e-15", 1).replace("0.5", "0.999999999999999")
    )
    code, out, err = run("run", "x.toml")
    assert (code, err) == (0, "")
    assert "192 of 192 units" in out
    assert "No window could be computed." in out
    assert "component: no window: only one label after as before" in out
    assert "No window could be computed." in Path("run/report.html").read_text()
    code, out, err = run("run", "x.toml", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["is_complete"]
    assert facts["windows"] == {}
    assert facts["reasons"]["component"].startswith("only one label")
    for command in ("windows", "report"):  # and so it is when the folder is read again
        code, out, err = run(command, "run")
        assert (code, err) == (0, ""), command
    assert "not established" in run("windows", "run")[1]


def test_more_of_a_run_is_measured_when_the_file_grows(run: Run) -> None:
    assert run("run", "x.toml", "--no-report")[0] == 0
    change("count = 24", "count = 30")
    code, out, _ = run("run", "x.toml", "--no-report")
    assert code == 0
    assert "240 of 240 units in 'run' (48 new" in out


def test_without_a_terminal_there_is_one_plain_line_a_minute() -> None:
    seconds, said = 0.0, list[str]()
    show = plain_progress(clock=lambda: seconds, say=said.append)
    for done in range(0, 913, 24):  # a batch every 13 seconds
        show(Progress("units", done, 912, 2 if done > 500 else 0, 2.0 * done, 1824.0))
        seconds += 13
    assert len(said) == 38 * 13 // 65  # the batch that ends after a minute says it
    assert said[0] == "120 of 912 units, about 7 min left"
    assert said[-1] == "840 of 912 units (2 invalid), about 39 s left"
    assert duration(200) == "3 min 20 s"
    assert duration(7500, is_rough=True) == "2 h 5 min"


def test_a_resumed_run_weighs_only_its_own_time() -> None:
    seconds, said = 0.0, list[str]()
    show = plain_progress(clock=lambda: seconds, say=said.append)
    show(Progress("units", 900, 1000, 0, 900.0, 1000.0))
    seconds = 61.0
    show(Progress("units", 950, 1000, 0, 950.0, 1000.0))
    assert said == ["950 of 1000 units, about 61 s left"]


def test_a_log_shows_the_progress(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("critwin.cli._progress.SECONDS_BETWEEN_LINES", 0.0)
    code, out, err = run("run", "x.toml", "--limit", "32", "--no-report", "--json")
    assert code == 0
    assert json.loads(out)["num_units"] == 32
    lines = err.splitlines()
    assert lines[-1] == "critwin: 32 of 192 units" + lines[-1][24:]
    assert lines[-1].endswith(" left")
    assert "\x1b" not in err
    assert "\r" not in err


def test_progress_is_for_people_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("run", "x.toml", "--limit", "20", "--no-report")[2] == ""
    monkeypatch.setattr("critwin.cli._progress.interactive", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    code, out, err = run("run", "x.toml", "--no-report", "--json")
    assert code == 0
    assert json.loads(out)["is_complete"]
    assert "192/192" in err
    assert "left" in err


def test_every_command_has_help_and_the_list_is_complete(run: Run) -> None:
    out = run("--help")[1]
    for name in COMMANDS:
        assert f"\n  {name} " in out
        assert "Usage: critwin " + name in run(name, "--help")[1]
    folder = Path(str(make_app.__code__.co_filename)).parent
    modules = {file.stem for file in folder.glob("*.py") if not file.stem.startswith("_")}
    for name in AUDITS:
        assert f"Usage: critwin audit {name}" in run("audit", name, "--help")[1]
    assert modules == {*COMMANDS, *(f"audit_{name}" for name in AUDITS)}


def test_the_version(run: Run) -> None:
    from importlib.metadata import version

    assert run("--version")[1] == f"critwin {version('critwin')}\n"


def test_without_arguments_the_help_is_shown(run: Run) -> None:
    code, out, err = run()
    assert code == 2
    assert "Commands:" in out + err


def test_the_demo_can_go_on_from_its_fast_form() -> None:
    from critwin.cli.demo import demo_text
    from critwin.runs.resume import check_config, requested_levels

    fast, full = (parse_config(tomllib.loads(demo_text("x", fast=f))) for f in (True, False))
    assert len(check_config(fast.as_dict(), full)) == 2
    assert len(requested_levels(full.levels)) > len(requested_levels(fast.levels))


def _child(tmp_path: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "critwin", *args],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_process_that_is_stopped_tells_how_to_go_on(run: Run, tmp_path: Path) -> None:
    change("count = 8", "count = 200")
    change("count = 24", "count = 60")
    child = _child(tmp_path, "run", "x.toml", "--no-report", "--json")
    _wait_for_units(tmp_path / "run", child)
    os.kill(child.pid, signal.SIGTERM)
    out, err = child.communicate(timeout=100)
    assert child.returncode == 143, err
    assert out == ""
    assert err.splitlines()[0].startswith("critwin: SIGTERM: finishing this batch")
    assert err.splitlines()[-1].startswith("critwin: stopped: ")
    assert "run the same command again" in err
    done = open_run("run").counts()["num_units"]
    assert 0 < done < 12_000
    status = json.loads(run("status", "run", "--json")[1])
    assert (status["is_running"], status["num_units"]) == (False, done)


def _wait_for_units(folder: Path, child: subprocess.Popen[str]) -> None:
    import time

    before = open_run(folder).counts()["num_units"] if folder.exists() else 0
    for _ in range(2000):
        assert child.poll() is None, child.communicate()
        if (folder / "ledger.sqlite").exists() and (folder / "run.json").exists():
            try:
                if open_run(folder).counts()["num_units"] > before:
                    return
            except Exception:  # it is being made
                pass
        time.sleep(0.05)
    raise AssertionError("the run does not get on")
