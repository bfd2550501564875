"""``critwin audit privacy``: two folders of images end to end, and mistakes in one line."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from critwin.audits.section import load_all
from critwin.cli import main
from critwin.models.digits import load_data
from critwin.runs.files import png


def run(capsys: pytest.CaptureFixture[str], *args: Any) -> tuple[int, str, str]:
    code = main(["audit", "privacy", *(str(a) for a in args)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, data = tmp_path_factory.mktemp("digits"), load_data()
    for name, is_member in (("members", True), ("nonmembers", False)):
        (root / name).mkdir()
        for row in np.flatnonzero(data.is_member == is_member)[:8]:
            image = (data.render(int(row))[0] + 1) / 2
            (root / name / f"{row:04d}.png").write_bytes(png(image))
    (root / "empty").mkdir()
    for name, size, rows in (("larger", 56, range(8)), ("copies", 28, range(3))):
        (root / name).mkdir()
        for row in rows:
            image = (data.render(int(row))[0] + 1) / 2
            (root / name / f"{row:04d}.png").write_bytes(
                png(image.repeat(size // 28, axis=1).repeat(size // 28, axis=2))
            )
    for file in sorted((root / "nonmembers").iterdir())[:6]:
        (root / "copies" / f"other-{file.name}").write_bytes(file.read_bytes())
    for file in sorted((root / "members").iterdir())[:2]:
        (root / "copies" / f"copy-of-{file.name}").write_bytes(file.read_bytes())
    return root


def test_the_command_that_does_it_again(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has every option that was not left as it is."""
    args = ["--model", "digits", "--members", folders / "members"]
    args += ["--nonmembers", folders / "nonmembers", "--out", tmp_path / "run"]
    args += ["--attack", "loss", "--level", 0.3, "--steps", 2, "--confidence", 0.9]
    assert run(capsys, *args, "--no-report")[0] == 0
    words = shlex.split(load_all(tmp_path / "run")["privacy"]["section"].rerun)
    assert words[:3] == ["critwin", "audit", "privacy"]
    assert words[3:] == [str(word) for word in args]
    before = load_all(tmp_path / "run")["privacy"]
    assert run(capsys, *words[3:], "--no-report")[0] == 0
    after = load_all(tmp_path / "run")["privacy"]
    for name in ("headline", "attacks", "set_test", "memorised"):
        assert after["result"][name] == before["result"][name]
    for words, says in (
        ((tmp_path / "run", "--attack", "magic"), "unknown attack"),
        ((tmp_path / "run", "--group", "nothing"), "unknown planted column"),
    ):
        code, out, err = run(capsys, *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert says in err


def test_two_folders_end_to_end(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--model", "digits", "--members", folders / "members"]
    args += ["--nonmembers", folders / "nonmembers", "--out", tmp_path / "run"]
    args += ["--level", 0.3, "--steps", 2, "--threads", 1, "--no-report", "--json"]
    code, out, err = run(capsys, *args)
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["num_members"], facts["num_nonmembers"]) == (8, 8)
    assert facts["memorised"]["num_null"] == 8
    assert facts["evaluations"] == 0
    code, out, _ = run(capsys, *args, "--attack", "loss")  # goes on with the same folder
    assert code == 0
    assert json.loads(out)["evaluations"] == 16
    code, out, _ = run(capsys, tmp_path / "run", "--no-report")
    assert code == 0
    assert "evaluations" in out
    assert out.count("blind: ") >= 2


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "nothing to audit"),
        (["--model", "digits"], "no --members"),
        (["nowhere"], "no such run folder"),
        (["nowhere", "--model", "digits"], "has its model"),
        (["nowhere", "--level", "0.3"], "has its model"),
        (["nowhere", "--confidence", "2"], "--confidence out of range"),
        (["FULL", "--members", "M", "--nonmembers", "EMPTY"], "holds no images"),
        (["FULL", "--members", "M", "--nonmembers", "N", "--attack", "x"], "unknown attack"),
        (["FULL", "--members", "M", "--nonmembers", "M"], "the same folder"),
        (["FULL", "--members", "M", "--nonmembers", "COPIES"], "members and non-members overlap"),
        (["FULL", "--members", "M", "--nonmembers", "LARGER"], "differ in size"),
        (["FULL", "--members", "M", "--nonmembers", "GONE"], "cannot read the folder"),
    ],
)
def test_mistakes_are_one_line(
    args: list[str],
    says: str,
    folders: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"M": folders / "members", "EMPTY": folders / "empty", "GONE": folders / "gone"}
    names |= {
        "COPIES": folders / "copies",
        "LARGER": folders / "larger",
        "N": folders / "nonmembers",
    }
    words: list[Any] = []
    for word in args:
        full = ["--model", "digits", "--out", tmp_path / "out"]
        words += full if word == "FULL" else [names.get(word, word)]
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
