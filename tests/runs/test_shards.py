"""Shards: disjoint, together the whole, and merged into the rows of a run at once."""

from __future__ import annotations

import json
import shutil
import sqlite3
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from critwin.cli._app import run_app
from critwin.errors import InputError, RunFolderError
from critwin.experiments.spec import plan
from critwin.runs.config import parse_config
from critwin.runs.folder import open_run, verify_folder
from critwin.runs.merging import merge_runs
from critwin.runs.prepare import prepare, spec_of
from critwin.runs.shards import Shard
from runs_help import CONFIG, changed, spoiled, start
from toy_models import Moved, Side, Size, ToyImages, ToyPoints


def parts(images: bool = False) -> dict[str, Any]:
    if images:
        return {
            "model": ToyImages(spoil=spoiled),
            "features": (Side(),),
            "comparisons": (Moved(),),
        }
    return {
        "model": ToyPoints(spoil=spoiled),
        "features": (Side(), Size()),
        "comparisons": (Moved(),),
    }


def shards(
    folder: Path, count: int, *, images: bool = False, raw: Any = CONFIG, **options: Any
) -> list[Path]:
    made = []
    for number in range(1, count + 1):
        made.append(folder / f"part{number}")
        start(made[-1], raw, images=images, shard=Shard(number, count), **options)
    return made


def sources_and_units(shard: Shard | None) -> tuple[set[str], set[str]]:
    loaded = prepare(parse_config(CONFIG), shard=shard, **parts())
    spec = spec_of(loaded)
    return {s.name for s in spec.sources}, {u.key for u in plan(spec)}


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_shards_are_disjoint_and_together_the_whole(count: int) -> None:
    whole = sources_and_units(None)
    found = [sources_and_units(Shard(k, count)) for k in range(1, count + 1)]
    for kind in range(2):
        assert set().union(*(part[kind] for part in found)) == whole[kind]
        for a, b in combinations(found, 2):
            assert not a[kind] & b[kind]
    sizes = [len(part[1]) for part in found]
    assert max(sizes) - min(sizes) <= len(whole[1]) // len(whole[0])


def test_a_source_keeps_its_shard_when_the_run_grows() -> None:
    small, large = (
        spec_of(
            prepare(parse_config(changed(sources={"count": count})), shard=Shard(2, 3), **parts())
        )
        for count in (10, 31)
    )
    assert [s.name for s in large.sources[: len(small.sources)]] == [s.name for s in small.sources]


@pytest.mark.parametrize("count", [2, 3])
def test_merged_shards_are_the_run_at_once(tmp_path: Path, count: int) -> None:
    start(tmp_path / "whole")
    whole = open_run(tmp_path / "whole")
    made = shards(tmp_path, count)
    outcome = merge_runs(made[::-1], tmp_path / "merged", **parts())
    merged = open_run(tmp_path / "merged")
    assert outcome is not None
    assert outcome.is_complete
    assert outcome.num_new == 0
    assert merged.digest() == whole.digest()
    a, b = merged.records(), whole.records()
    assert a.priors == b.priors
    assert a.attrs == b.attrs
    assert merged.counts() == whole.counts()
    assert merged.sources() == whole.sources()
    np.testing.assert_array_equal(
        merged.transitions("side").counts, whole.transitions("side").counts
    )
    assert verify_folder(tmp_path / "merged") == ([], [])
    assert "shard" not in merged.info
    assert merged.info["history"][-1]["merged"].endswith(f"of {count}")
    assert merged.info["config_digest"] == whole.info["config_digest"]
    assert len(merged.timings()) == sum(len(open_run(part).timings()) for part in made)


def test_images_come_along(tmp_path: Path) -> None:
    start(tmp_path / "whole", images=True)
    merge_runs(shards(tmp_path, 2, images=True), tmp_path / "merged", **parts(images=True))
    found = {
        name: {
            file.relative_to(tmp_path / name): file.read_bytes()
            for file in (tmp_path / name / "images").rglob("*.png")
        }
        for name in ("whole", "merged")
    }
    assert found["whole"]
    assert found["merged"] == found["whole"]
    assert verify_folder(tmp_path / "merged") == ([], [])


def test_a_partial_merge_is_gone_on_with(tmp_path: Path) -> None:
    start(tmp_path / "whole")
    made = shards(tmp_path, 3, limit=9)[:2]
    with pytest.raises(RunFolderError, match="shards are missing: got no 3 of 3"):
        merge_runs(made, tmp_path / "merged", **parts())
    assert not (tmp_path / "merged").exists()
    assert merge_runs(made, tmp_path / "merged", is_partial=True) is None
    assert open_run(tmp_path / "merged").counts()["num_units"] == 18
    assert verify_folder(tmp_path / "merged") == ([], [])
    outcome = start(tmp_path / "merged")
    assert outcome.num_new == 80 - 18
    assert open_run(tmp_path / "merged").digest() == open_run(tmp_path / "whole").digest()


def test_an_interrupted_shard_goes_on(tmp_path: Path) -> None:
    start(tmp_path / "part", shard=Shard(1, 2), limit=5)
    outcome = start(tmp_path / "part", shard=Shard(1, 2))
    assert (outcome.num_done, outcome.num_total) == (40, 40)


def test_what_cannot_be_merged(tmp_path: Path) -> None:
    made = shards(tmp_path, 2)
    start(tmp_path / "whole")
    start(tmp_path / "three", shard=Shard(2, 3))
    start(tmp_path / "seed", changed(run={"seed": 1}), shard=Shard(2, 2))
    start(tmp_path / "large", changed(sources={"count": 12}), shard=Shard(2, 2))
    start(tmp_path / "other", shard=Shard(2, 2), features=(Side(),))
    start(tmp_path / "short", shard=Shard(2, 2), limit=3)
    out = tmp_path / "merged"
    for folders, message in (
        ([], "nothing to merge"),
        ([tmp_path / "whole"], "not a shard"),
        ([tmp_path / "nowhere"], "no such run folder"),
        ([made[0], made[0]], "shard 1/2 is given twice"),
        ([made[0], tmp_path / "three"], "shards of different runs"),
        ([made[0], tmp_path / "seed"], "other settings.*seed"),
        ([made[0], tmp_path / "large"], "has grown beyond"),
        ([made[0], tmp_path / "other"], "other settings|something else"),
        ([made[0], tmp_path / "short"], "is not finished: got 3 of 40 units"),
        ([made[1]], "shards are missing: got no 1 of 2"),
    ):
        with pytest.raises(RunFolderError, match=message):
            merge_runs(folders, out, **parts())
        assert not out.exists()
        assert not list(tmp_path.glob(".*"))
    with pytest.raises(RunFolderError, match="there is a run already"):
        merge_runs(made, tmp_path / "whole", **parts())
    with pytest.raises(RunFolderError, match=r"shard: 1/2 -> the whole run"):
        start(made[0])
    with pytest.raises(RunFolderError, match=r"shard: 1/2 -> 2/2"):
        start(made[0], shard=Shard(2, 2))
    with pytest.raises(RunFolderError, match=r"shard: the whole run -> 1/2"):
        start(tmp_path / "whole", shard=Shard(1, 2))


def test_damage_is_not_merged(tmp_path: Path) -> None:
    made = shards(tmp_path, 2, images=True)
    out = tmp_path / "merged"
    spare = tmp_path / "spare"
    shutil.copytree(made[1], spare)
    image = next((spare / "images").rglob("*.png"))
    image.write_bytes(b"x")
    with pytest.raises(RunFolderError, match="damaged"):
        merge_runs([made[0], spare], out, **parts(images=True))
    image.unlink()
    with pytest.raises(RunFolderError, match="cannot read"):
        merge_runs([made[0], spare], out, **parts(images=True))
    connection = sqlite3.connect(made[1] / "ledger.sqlite")
    with connection:
        connection.execute(
            "UPDATE units SET logsnr = logsnr + 1 WHERE key IN (SELECT key FROM units LIMIT 1)"
        )
    connection.close()
    with pytest.raises(RunFolderError, match="damaged: got row"):
        merge_runs(made, out, **parts(images=True))
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "text", ["0/2", "3/2", "1/0", "-1/2", "1", "1/2/3", "a/b", "", "1/1000000"]
)
def test_shards_that_do_not_exist(text: str) -> None:
    with pytest.raises(InputError, match="shard"):
        Shard.parse(text)


def test_more_shards_than_sources(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this shard has no source: got shard 11/11 of 10"):
        start(tmp_path / "part", shard=Shard(11, 11))
    assert not (tmp_path / "part").exists()


FILE = """
[model]
name = "mixture"
mixture = { component = [{ mean = -3.0, covariance = 1.0 }, { mean = 3.0, covariance = 1.0 }] }

[sources]
count = 8

[levels]
unit = "t"
from = 0.3
to = 3.0
count = 5

[[feature]]
name = "component"

[[comparison]]
name = "pixels"
"""


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.toml").write_text(FILE)
    assert run_app(["run", "a.toml", "--dry-run", "--json", "--shard", "1/2"]) == 0
    assert json.loads(capsys.readouterr().out)["num_units"] == 20
    for number in (1, 2):
        assert run_app(["run", "a.toml", "--shard", f"{number}/2"]) == 0
    assert "Complete; critwin merge" in capsys.readouterr().out
    assert run_app(["status", "run-shard-2-of-2", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["shard"], facts["num_sources_planned"], facts["num_sources"]) == ([2, 2], 4, 4)
    assert run_app(["merge", "run-shard-1-of-2", "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert "shards are missing" in error
    assert len(error.splitlines()) == 1
    assert not Path("run").exists()
    folders = ["run-shard-1-of-2", "run-shard-2-of-2"]
    assert run_app(["merge", *folders, "--out", "run", "--json"]) == 0
    merged = json.loads(capsys.readouterr().out)
    assert merged["is_complete"]
    assert "component" in merged["windows"]
    assert run_app(["run", "a.toml", "--out", "whole", "--no-report"]) == 0
    assert open_run("whole").digest() == open_run("run").digest()
    assert run_app(["run", "a.toml", "--shard", "2"]) == 2
    assert "not a shard" in capsys.readouterr().err
