"""Killed, out of space, interrupted: the run goes on and ends with the same rows."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fork_server
from critwin.runs.folder import open_run, verify_folder
from critwin.runs.ledger import Ledger
from runs_help import CONFIG, changed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")

Ask = Callable[..., dict[str, Any]]
LONG = changed(
    run={"batch_size": 8},
    sources={"count": 50},
    levels={"unit": "t", "from": 0.2, "to": 5.0, "count": 10},
    experiment={"replicates": 4},
)
SMALL = changed(
    sources={"count": 2},
    levels={"unit": "logsnr", "values": [1.0, -1.0]},
    experiment={"replicates": 1},
)


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    server = subprocess.Popen(
        [sys.executable, fork_server.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None

    def request(folder: Path, config: dict[str, Any] = LONG, **options: Any) -> dict[str, Any]:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps({"folder": str(folder), "config": config, **options}) + "\n")
        server.stdin.flush()
        answer: dict[str, Any] = json.loads(server.stdout.readline())
        return answer

    yield request
    server.stdin.close()
    server.wait(timeout=30)
    server.stdout.close()


def test_killed_at_random_moments(ask: Ask, tmp_path: Path) -> None:
    _kill_and_compare(ask, tmp_path, num_kills=20)


@pytest.mark.validate
def test_killed_at_two_hundred_random_moments(ask: Ask, tmp_path: Path) -> None:
    for turn in range(10):
        _kill_and_compare(ask, tmp_path / str(turn), num_kills=20, seed=turn)


def _kill_and_compare(ask: Ask, tmp_path: Path, *, num_kills: int, seed: int = 0) -> None:
    begun = time.perf_counter()
    assert ask(tmp_path / "whole")["status"] == 0
    seconds = sum(entry["seconds"] for entry in open_run(tmp_path / "whole").timings())
    starting = max(0.0, time.perf_counter() - begun - seconds)  # before the first unit
    rng = np.random.Generator(np.random.Philox(seed))
    killed, done = 0, 0
    for _ in range(4 * num_kills):
        if killed == num_kills:
            break
        after = float(rng.uniform(0.0, min(starting, 0.5) + 3.0 * seconds / num_kills)) + 0.01
        answer = ask(tmp_path / "killed", kill_after=after)
        if answer["status"] == 0:  # it was faster than that: kill a new one
            for path in (tmp_path / "killed").iterdir():
                path.unlink()
            continue
        assert answer["status"] == -9
        killed += 1
        if (tmp_path / "killed" / "ledger.sqlite").exists():
            with Ledger.create(tmp_path / "killed") as ledger:
                assert not list(ledger.problems())
                counts = ledger.counts()
            assert counts["num_units"] % 8 == 0  # whole batches only
            done = counts["num_units"]
    assert killed == num_kills
    answer = ask(tmp_path / "killed")
    assert answer["status"] == 0, answer
    assert done > 0
    _same(tmp_path / "killed", tmp_path / "whole")


def _same(one: Path, other: Path) -> None:
    assert open_run(one).digest() == open_run(other).digest()
    assert open_run(one).counts() == open_run(other).counts()
    assert verify_folder(one) == ([], [])
    rows = [entry["num_rows"] for entry in open_run(one).timings()]
    assert sum(rows) == sum(open_run(one).counts()[name] for name in ("num_units", "num_sources"))


def test_killed_at_some_writes(ask: Ask, tmp_path: Path) -> None:
    _kill_at_writes(ask, tmp_path, every=8)


@pytest.mark.validate
def test_killed_at_every_write(ask: Ask, tmp_path: Path) -> None:
    _kill_at_writes(ask, tmp_path, every=1)


def _kill_at_writes(ask: Ask, tmp_path: Path, *, every: int) -> None:
    """Before SQL statements, and before and after files, of a small run."""
    whole = ask(tmp_path / "whole", SMALL, images=True)
    assert whole["status"] == 0
    assert whole["num_writes"] > 40
    for index in range(1, whole["num_writes"] + 1, every):
        folder = tmp_path / "killed"
        assert ask(folder, SMALL, images=True, kill_at=index)["status"] == -9
        answer = ask(folder, SMALL, images=True)
        assert answer["status"] == 0, (index, answer)
        assert open_run(folder).digest() == open_run(tmp_path / "whole").digest()
        assert verify_folder(folder)[0] == []
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def test_killed_again_and_again_at_the_same_write(ask: Ask, tmp_path: Path) -> None:
    """Progress is made even if every process dies after few writes."""
    assert ask(tmp_path / "whole", CONFIG)["status"] == 0
    statuses = [ask(tmp_path / "killed", CONFIG, kill_at=60)["status"] for _ in range(12)]
    assert statuses[0] == -9
    assert 0 in statuses
    _same(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize("limit", [500, 20_000, 60_000, 120_000, 200_000])
def test_a_full_disk_is_one_clear_line_and_nothing_is_lost(
    ask: Ask, tmp_path: Path, limit: int
) -> None:
    folder = tmp_path / "full"
    config = changed(sources={"count": 24})
    answer = ask(folder, config, file_limit=limit)
    assert answer["status"] == 2, answer
    assert "\n" not in answer["text"]
    assert "free some space" in answer["text"]
    assert not list(tmp_path.rglob("*.tmp"))
    if (folder / "ledger.sqlite").exists():
        with Ledger.create(folder) as ledger:
            assert not list(ledger.problems())
    else:
        assert not folder.exists()
    assert ask(folder, config)["status"] == 0
    assert ask(tmp_path / "whole", config)["status"] == 0
    _same(folder, tmp_path / "whole")


def test_the_lock_of_a_killed_process_is_taken_over(ask: Ask, tmp_path: Path) -> None:
    assert ask(tmp_path / "run", kill_after=0.3)["status"] == -9
    assert (tmp_path / "run" / "run.lock").exists()
    assert json.loads((tmp_path / "run" / "run.lock").read_text())["pid"] != os.getpid()
    assert ask(tmp_path / "run", CONFIG)["status"] == 2  # other settings, but no lock
    assert ask(tmp_path / "run")["status"] == 0
    assert not (tmp_path / "run" / "run.lock").exists()
