"""A search in a run folder: stopped or killed, it goes on and ends with the same rows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fork_server
from critwin.errors import ConfigError, RunFolderError
from critwin.reports import write_report
from critwin.runs.config import parse_config
from critwin.runs.folder import open_run, verify_folder
from critwin.runs.ledger import Ledger
from critwin.runs.prepare import prepare
from critwin.runs.search_estimate import estimate_search
from critwin.windows import critical_window
from runs_help import CONFIG, spoiled, start
from toy_models import Side, ToyPoints

RAW: dict[str, Any] = {
    **{key: value for key, value in CONFIG.items() if key not in ("experiment", "sources")},
    "run": {"batch_size": 16, "max_invalid": 0.5, "images": 3, "seed": 3},
    "levels": {"from": 0.1, "to": 2.0},
    "search": {"half_width": 0.25, "targets": ["side"]},
}


def changed(**sections: Any) -> dict[str, Any]:
    return {**RAW, **{name: {**RAW.get(name, {}), **own} for name, own in sections.items()}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "whole"
    outcome = start(folder, RAW)
    assert outcome.is_complete
    assert outcome.targets[0].name == "side.midpoint"
    assert outcome.targets[0].is_reached
    return folder


def test_a_search_stopped_after_every_few_units_ends_the_same(whole: Path, tmp_path: Path) -> None:
    again, calls = start(tmp_path, RAW, limit=70), 1
    assert again.targets == ()
    while not again.is_complete:
        assert again.num_total > again.num_done
        again, calls = start(tmp_path, RAW, limit=70), calls + 1
    assert calls > 2
    assert open_run(tmp_path).digest() == open_run(whole).digest()
    assert not any(verify_folder(tmp_path))
    once_more = start(tmp_path, RAW)
    assert once_more.num_new == 0
    assert once_more.targets == again.targets


@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
def test_a_killed_search_ends_the_same(whole: Path, tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, fork_server.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    rng, killed = np.random.Generator(np.random.Philox(0)), 0
    for _ in range(40):
        options = {"kill_after": float(rng.uniform(0.1, 0.9))} if killed < 4 else {}
        request = {"folder": str(tmp_path / "killed"), "config": RAW, **options}
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        status = json.loads(server.stdout.readline())["status"]
        if status == 0:
            break
        assert status == -9
        killed += 1
    server.stdin.close()
    server.wait(timeout=30)
    server.stdout.close()
    assert status == 0
    assert killed >= 1
    assert open_run(tmp_path / "killed").digest() == open_run(whole).digest()


def test_windows_and_report_read_a_search(whole: Path, tmp_path: Path) -> None:
    run = open_run(whole)
    assert critical_window(run.transitions("side")).midpoint is not None
    assert "side" in write_report(whole, tmp_path / "report.html").read_text(encoding="utf-8")
    with Ledger.read(whole) as ledger:
        summary = ledger.meta("search")
        assert ledger.meta("num_units") == ledger.counts()["num_units"]
    assert summary["reason"] == "every target is settled"
    assert summary["targets"][0]["name"] == "side.midpoint"


def test_a_narrower_half_width_goes_on(whole: Path, tmp_path: Path) -> None:
    first = start(tmp_path, RAW)
    more = start(tmp_path, changed(search={"half_width": 0.18}))
    assert more.is_complete
    assert more.num_done >= first.num_done
    assert more.targets[0].half_width <= 0.18  # type: ignore[operator]
    assert "search.half_width: 0.25 -> 0.18" in str(open_run(tmp_path).info["history"])
    with pytest.raises(RunFolderError, match="left out"):
        start(tmp_path, changed(levels={"from": 0.33, "to": 2.0}))


def test_the_dry_run_of_a_search_counts_what_it_would_ask_for() -> None:
    model = ToyPoints(spoil=spoiled)
    raw = {**RAW, "feature": [{"name": "side"}]}
    prepared = prepare(parse_config(raw), model=model, features=(Side(),))
    estimate = estimate_search(prepared)
    assert estimate.is_enough
    assert estimate.targets == ("side.midpoint",)
    assert estimate.num_results % 16 == 0
    assert estimate.num_sources <= estimate.num_results
    narrow = {**raw, "search": {"half_width": 0.1}}
    wanted = estimate_search(prepare(parse_config(narrow), model=model, features=(Side(),)))
    assert wanted.num_results > estimate.num_results


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"levels": {"count": 5}}, r"levels\.count: a search chooses its levels"),
        ({"experiment": {"replicates": 2}}, r"experiment\.replicates: a search chooses"),
        ({"search": {"half_width": 0}}, r"search\.half_width: out of range"),
        ({"search": {"budget": 0}}, r"search\.budget: "),
        ({"search": {"widht": 1}}, r"search\.widht: unknown key"),
        ({"sources": {"kind": "images", "path": "x"}}, r"sources\.count: missing"),
        ({"levels": {"to": None}}, r"levels\.to: missing"),
    ],
)
def test_bad_entries_of_a_search_are_named(sections: dict[str, Any], words: str) -> None:
    raw = changed(**sections)
    raw["levels"] = {key: value for key, value in raw["levels"].items() if value is not None}
    with pytest.raises(ConfigError, match=words):
        parse_config(raw)


def test_a_range_without_a_search_is_no_grid() -> None:
    raw = {key: value for key, value in RAW.items() if key != "search"}
    with pytest.raises(ConfigError, match=r"levels\.count: missing"):
        parse_config(raw)


def test_an_unknown_target_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"search: .*unknown feature"):
        start(tmp_path / "new", changed(search={"targets": ["sky.end"]}))
    assert not (tmp_path / "new").exists()


def test_a_budget_below_a_single_batch_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    poor = changed(search={"budget": 1.0})
    with pytest.raises(ConfigError, match="does not pay for a single batch: got 1") as caught:
        start(tmp_path / "run", poor)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="does not pay for a single batch"):
        estimate_search(prepare(parse_config(poor), model=ToyPoints(), features=(Side(),)))
    words = re.search(r"wanted at least (\d+) evaluations", str(caught.value))
    assert words is not None
    least = int(words[1])
    outcome = start(tmp_path / "run", changed(search={"budget": float(least)}))
    assert outcome.num_done == 16
    with pytest.raises(ConfigError, match="single batch"):
        start(tmp_path / "less", changed(search={"budget": least - 1.0}))
