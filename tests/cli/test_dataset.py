"""``critwin dataset``: the library's numbers, in text and JSON; every mistake one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from critwin.cli import main
from critwin.levels import to_logsnr
from critwin.theory.datasets import dataset_prediction
from critwin.trees import transitions_tree
from critwin.windows import critical_window
from dataset_cases import cloud

POINTS, LABELS = cloud(120, 3)
INK = np.where(POINTS[:, 0] > np.median(POINTS[:, 0]), "red", "green")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    np.savez(
        path,
        x=POINTS,
        digit=LABELS,
        ink=INK,
        lonely=np.where(np.arange(120) == 3, "a", "b"),
        one=np.zeros(120, int),
        times=1 + np.arange(120) % 2,
    )
    return path


def run(capsys: pytest.CaptureFixture[str], *args: Any) -> tuple[int, str, str]:
    code = main(["dataset", *(str(a) for a in args)])
    out, err = capsys.readouterr()
    return code, out, err


def facts(capsys: pytest.CaptureFixture[str], *args: Any) -> dict[str, Any]:
    code, out, err = run(capsys, *args, "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


ARGS = ("--label", "digit", "--label", "ink", "--levels", "0.05:3:15")


def test_json_is_what_the_library_finds(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, file, *ARGS, "--weights", "times")
    levels = to_logsnr(np.linspace(0.05, 3, 15), "t")
    expected = dataset_prediction(
        POINTS,
        {"digit": LABELS, "ink": INK},
        levels,
        weights=1.0 + np.arange(120) % 2,
        num_queries=120,
    )
    np.testing.assert_allclose(found["levels"]["logsnr"], levels)
    assert (found["num_points"], found["dim"]) == (120, 3)
    assert set(found["labels"]) == {"digit", "ink"}
    for name in ("digit", "ink"):
        for key, tables in (
            ("posterior", expected.transitions),
            ("leave_one_out", expected.leave_one_out),
        ):
            one, tr = found["labels"][name][key], tables[name]
            np.testing.assert_allclose([row["matrix"] for row in one["transitions"]], tr.probs)
            np.testing.assert_allclose([row["stderr"] for row in one["transitions"]], tr.stderr)
            np.testing.assert_allclose(one["weights"], tr.weights)
            assert one["labels"] == list(tr.before)
            assert one["plateau"] == tr.plateau
            middle = critical_window(tr).midpoint
            assert middle is not None
            assert one["window"]["midpoint"]["t"]["value"] == middle.t.value
        tree = transitions_tree(expected.transitions[name])
        assert found["labels"][name]["tree"]["newick"] == tree.describe()
    np.testing.assert_allclose(found["collapse"]["same_point"], expected.collapse.same_point)
    assert found["speciation"]["top_variance"] == expected.speciation.top_variance
    assert found["settings"]["num_queries"] == 120
    assert found["settings"]["float32_error"] < 1e-4


def test_people_get_lines(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, file, *ARGS)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert "120 points, 3 coordinates, 120 of them noised at 15 levels" in lines[0]
    assert any(line.split()[:3] == ["digit", "left", "out"] for line in lines)
    assert any(line.startswith("collapse: two posterior draws") for line in lines)
    assert any(line.startswith("digit: tree at epsilon 0.1: ") for line in lines)
    assert any(line.startswith("speciation: largest variance") for line in lines)
    assert "95% intervals" in out
    assert "\x1b" not in out
    without = run(capsys, file, *ARGS, "--no-leave-one-out")[1]
    assert not any(line.split()[1:3] == ["left", "out"] for line in without.splitlines())


def test_levels_are_found_where_the_curves_fall(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = facts(capsys, file, "--label", "digit", "--label", "ink")
    assert len(found["levels"]["t"]) == 30
    for one in found["labels"].values():
        assert one["posterior"]["kept"][0] > 0.9
        assert one["posterior"]["kept"][-1] < 0.1
        assert one["posterior"]["window"]["midpoint"]["t"]["value"] is not None


def test_several_ranges_and_units(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(
        capsys, file, "--label", "ink", "--unit", "sigma", "--levels", "0.1:1:4", "--levels", "5"
    )
    np.testing.assert_allclose(found["levels"]["sigma"], [0.1, 0.4, 0.7, 1.0, 5.0])


def test_a_lonely_label_has_no_leave_one_out(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = facts(capsys, file, "--label", "lonely", "--levels", "0.05:3:9")
    assert found["labels"]["lonely"]["leave_one_out"] is None
    assert "two members" in found["labels"]["lonely"]["reason"]
    assert "two members" in run(capsys, file, "--label", "lonely", "--levels", "0.05:3:9")[1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.npz"], "no such file: got none.npz"),
        (["data.npz", "--label", "hat"], "no such column: got hat"),
        (["data.npz", "--label", "one"], "only one label in 'one'"),
        (["data.npz", "--label", "lonely", "--leave-one-out"], "needs two members of every label"),
        (["data.npz", "--levels", "1:2"], "--levels cannot be read: got 1:2"),
        (["data.npz", "--levels", "a:b:3"], "--levels cannot be read"),
        (["data.npz", "--levels", "1"], "a window needs at least two levels"),
        (["data.npz", "--levels", "1:1:3"], "both ends of the grid coincide"),
        (["data.npz", "--levels=-1:2:3"], "out of range"),
        (["data.npz", "--unit", "steps", "--levels", "1:2:3"], "unknown unit of noise"),
        (["data.npz", "--queries", "0"], "Invalid value"),
        (["data.npz", "--confidence", "95"], "confidence is out of range"),
        (["data.npz", "--epsilon", "1"], "epsilon is out of range"),
        (["data.npz", "--device", "abacus"], "cannot use this device"),
        (["data.npz", "--weights", "ink"], "weights are not numbers"),
        (["data.npz", "--points", "ink"], "points are not a table of numbers"),
        (["data.npz", "--size", "8"], "a size is for images of a folder"),
        (["flat.npz"], "all points are the same"),
        (["nan.npz"], "points are not finite"),
        (["pickled.npz"], "cannot be read without pickle"),
        ([], "Missing argument"),
    ],
)
def test_every_mistake_is_one_line_and_exit_code_2(
    file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(file.parent)
    np.savez("flat.npz", x=np.ones((120, 3)), y=LABELS)
    np.savez("nan.npz", x=np.where(POINTS[0, 0] == POINTS, np.nan, POINTS), y=LABELS)
    np.savez("pickled.npz", x=POINTS, y=np.array([*LABELS[:119], "x"], dtype=object))
    for extra in ([], ["--json"]):
        code, out, err = run(capsys, *args, *extra)
        assert (code, out) == (2, "")
        assert message in err
        assert len(err.splitlines()) == 1
        assert "Traceback" not in err
