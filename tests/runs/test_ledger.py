import math
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from critwin.errors import RunFolderError
from critwin.records import digest
from critwin.runs.folder import open_run, verify_folder
from critwin.runs.ledger import LEDGER_NAME, Ledger
from critwin.runs.rows import _plain, row_digest
from runs_help import CONFIG, measured_run, start


def test_records_come_back_bit_for_bit(tmp_path: Path) -> None:
    """The same experiment in memory and through the ledger."""
    from critwin.experiments.forward_reverse import forward_reverse
    from toy_models import Moved, Side, Size, ToyPoints

    start(tmp_path / "run", CONFIG)
    memory = forward_reverse(
        ToyPoints(spoil=lambda source, logsnr: source == "s000005" and logsnr == 0.0),
        [Side(), Size()],
        CONFIG["levels"]["values"],
        num_sources=10,
        replicates=2,
        batch_size=4,
        comparisons=[Moved()],
    )
    stored = open_run(tmp_path / "run").records()
    assert digest(stored) == digest(memory)
    assert {k: dict(v) for k, v in stored.priors.items()} == {
        k: dict(v) for k, v in memory.priors.items()
    }
    assert dict(stored.attrs) == dict(memory.attrs)
    assert np.sum(~np.asarray(stored.valid)) == 2


@pytest.mark.parametrize(
    "value", [0.1, -0.0, 1e-320, 1e308, math.pi, math.nan, math.inf, -math.inf, 2**53 + 1.0]
)
def test_numbers_survive_json(value: float) -> None:
    import json

    from critwin.runs.rows import _float, dump

    back = _float(json.loads(dump(_plain([value])))[0])
    assert np.array([back]).tobytes() == np.array([value]).tobytes() or math.isnan(value)
    assert math.isnan(back) == math.isnan(value)


def test_digests_of_rows_tell_values_apart() -> None:
    rows: list[tuple[Any, ...]] = [
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        (1,),
        ("1",),
        (1.0,),
        (None,),
    ]
    assert len({row_digest(row) for row in rows}) == len(rows)


def test_a_batch_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start(folder, CONFIG)
    before = open_run(folder).counts()
    measured = measured_run(folder)
    with Ledger.create(folder) as ledger:
        with pytest.raises(sqlite3.IntegrityError):  # its units have rows already
            ledger.add_results(measured, seconds=0.0, finished=0.0)
        assert ledger.counts() == before
        assert len(ledger.timings()) == len(open_run(folder).timings())


def test_a_finished_ledger_is_one_plain_file(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start(folder, CONFIG)
    assert sorted(p.name for p in folder.iterdir()) == [
        LEDGER_NAME,
        "manifest.sha256",
        "run.json",
    ]
    before = (folder / LEDGER_NAME).read_bytes()
    open_run(folder).records()
    assert (folder / LEDGER_NAME).read_bytes() == before


def test_reading_while_writing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start(folder, CONFIG)
    with Ledger.create(folder) as writer:
        assert writer.is_wal
        writer.set_meta(note=1)
        assert open_run(folder).counts()["num_units"] == 80


def test_without_a_write_ahead_log_the_slower_way_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("critwin.runs.ledger.WAL_PROBE", "SELECT * FROM missing")
    outcome = start(tmp_path / "run", CONFIG)
    assert outcome.warnings == ("the file system has no write-ahead log for SQLite",)
    assert open_run(tmp_path / "run").warnings() == list(outcome.warnings)
    monkeypatch.undo()
    start(tmp_path / "other", CONFIG)
    assert open_run(tmp_path / "run").digest() == open_run(tmp_path / "other").digest()


@pytest.mark.parametrize("content", [b"", b"not a database" * 100])
def test_something_else_is_no_ledger(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LEDGER_NAME).write_bytes(content)
    with pytest.raises(RunFolderError):
        Ledger.read(tmp_path)
    with pytest.raises(RunFolderError, match="has no ledger"):
        Ledger.read(tmp_path / "missing")


def test_another_schema_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start(folder, CONFIG)
    with sqlite3.connect(folder / LEDGER_NAME) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(RunFolderError, match=r"got schema 7; wanted schema 1"):
        open_run(folder).records()


def _flip(path: Path, offset: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(bytes(data))


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start(folder, CONFIG, images=True)
    assert verify_folder(folder) == ([], [])
    rng = np.random.Generator(np.random.Philox(1))
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    for turn in range(60):
        path = files[turn % len(files)]
        keep = path.read_bytes()
        _flip(path, int(rng.integers(len(keep))), int(rng.integers(8)))
        problems, _ = verify_folder(folder)
        assert problems, path
        path.write_bytes(keep)
    assert verify_folder(folder) == ([], [])


def test_flipped_bits_in_rows_are_found_without_the_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start(folder, CONFIG)
    (folder / "manifest.sha256").unlink()
    with sqlite3.connect(folder / LEDGER_NAME) as connection:
        connection.execute("UPDATE units SET reading = replace(reading, '1', '2') WHERE rowid = 3")
        connection.execute("UPDATE sources SET clean = zeroblob(8) WHERE position = 4")
    connection.close()
    problems, remarks = verify_folder(folder)
    assert len(problems) == 2
    assert "a row of units is damaged" in problems[1]
    assert "was not closed" in remarks[0]


def test_missing_and_extra_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start(folder, CONFIG, images=True)
    image = open_run(folder).images()[3].path
    shutil.move(image, image.with_name("elsewhere.png"))
    problems, remarks = verify_folder(folder)
    assert problems == [f"{image.relative_to(folder).as_posix()}: missing"]
    assert remarks == [f"images/{image.parent.name}/elsewhere.png: belongs to no row"]
