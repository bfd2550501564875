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
        minus=-np.ones(120),
        nothing=np.zeros(120),
        short=np.ones(5),
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


UNIQUE = ("--label", "y", "--leave-one-out", "--levels", "1:2:3")
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
    assert "120 points, 3 coordinates, 120 noised points at 15 levels" in lines[0]
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


def test_labels_that_neighbours_do_not_share_have_no_leave_one_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.Generator(np.random.Philox(1))
    path = tmp_path / "noise.npz"
    points = 20 * np.repeat(rng.normal(size=(30, 3)), 2, axis=0) + 0.01 * rng.normal(size=(60, 3))
    np.savez(path, x=points, pair=np.tile([0, 1], 30), half=np.repeat([0, 1], 30))
    found = facts(capsys, path)
    assert found["labels"]["pair"]["leave_one_out"] is None  # every neighbour has the other label
    assert "neighbours share it in 0.0% of cases" in found["labels"]["pair"]["reason"]
    assert found["labels"]["pair"]["posterior"]["kept"][0] > 0.9
    assert found["labels"]["half"]["leave_one_out"]["plateau"] == 1.0
    code, out, err = run(capsys, path, "--label", "pair")
    assert (code, err) == (0, "")
    assert "no more than by chance (50.0%)" in out
    code, out, err = run(capsys, path, "--label", "pair", "--leave-one-out")
    assert (code, out) == (2, "")
    assert "leave-one-out of 'pair' has nothing to lose" in err


def broken() -> dict[str, dict[str, Any]]:
    """Data sets with one thing wrong each."""
    hot = np.eye(3)[LABELS]
    return {
        "short": {"x": POINTS, "y": LABELS[:5]},
        "one": {"x": POINTS, "y": np.ones(120, int)},
        "none-at-all": {"x": POINTS[:0], "y": LABELS[:0]},
        "single": {"x": POINTS[:1], "y": LABELS[:1]},
        "missing": {"x": POINTS, "y": np.where(LABELS[0] == LABELS, np.nan, LABELS)},
        "unique": {"x": POINTS, "y": np.arange(120)},
        "hot": {"x": POINTS, "y": hot},
        "bare": {"x": POINTS},
        "blank": {"x": POINTS, "y": np.where(LABELS == 1, "", "a")},
        "complex": {"x": POINTS + 1j, "y": LABELS},
        "large": {"x": POINTS * 1e200, "y": LABELS},
        "big": {"x": POINTS * 1e30, "y": LABELS},
        "small": {"x": POINTS * 1e-30, "y": LABELS},
        "tiny": {"x": POINTS * 1e-170, "y": LABELS},
        "inf": {"x": np.where(POINTS[0, 0] == POINTS, np.inf, POINTS), "y": LABELS},
    }


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.npz"], "no such file: got none.npz; wanted a .npz, a table, or a folder"),
        (["data.npz", "--label", "hat"], "no such column: got hat"),
        (["data.npz", "--label", "one"], "only one label in 'one'"),
        (["data.npz", "--label", "lonely", "--leave-one-out"], "needs two members of every label"),
        (["data.npz", "--levels", "1:2"], "--levels cannot be read: got 1:2"),
        (["data.npz", "--levels", "a:b:3"], "--levels cannot be read"),
        (["data.npz", "--levels", "1"], "a window needs at least two levels: got 1; wanted FROM"),
        (["data.npz", "--levels", "1", "--levels", "1"], "at least two levels: got 1, 1; wanted"),
        (["data.npz", "--levels", "1:2:1"], "COUNT is out of range: got 1:2:1; wanted from 2 to"),
        (["data.npz", "--levels", "1:2:100000000000"], "COUNT is out of range: got 1:2:1000000"),
        (["data.npz", "--levels", "nan:2:3"], "out of range for unit 't': got nan"),
        (["data.npz", "--levels", "1:400:3"], "out of range for unit 't': got 400, logsnr -800"),
        (["data.npz", "--unit", "sigma"], "--unit without --levels: got --unit sigma; wanted"),
        (["data.npz", "--queries", "100000000000"], "got 100000000000; wanted at most 10000000;"),
        (["data.npz", "--levels", "1:1:3"], "both ends of the grid coincide"),
        (["data.npz", "--levels=-1:2:3"], "out of range"),
        (["data.npz", "--unit", "steps", "--levels", "1:2:3"], "unknown unit of noise"),
        (["data.npz", "--queries", "0"], "Invalid value"),
        (["data.npz", "--confidence", "95"], "confidence is out of range"),
        (["data.npz", "--epsilon", "1"], "epsilon is out of range"),
        (["data.npz", "--confidence", "nan"], "confidence is out of range: got nan; wanted betw"),
        (["data.npz", "--device", "abacus"], "unknown device: got abacus; wanted one of cpu, cu"),
        (
            ["data.npz", "--device", "gpu"],
            "or cuda:1 for the second of them; an NVIDIA GPU is cuda",
        ),
        (["data.npz", "--device", "cudda"], "did you mean 'cuda'?"),
        (["data.npz", "--device", ""], "unknown device: got ''; wanted"),
        (["data.npz", "--device", "meta"], "unknown device: got meta; wanted"),
        (["data.npz", "--device", "hpu"], "unknown device: got hpu; wanted"),
        (["data.npz", "--device", "cuda:99"], "this device is not there: got cuda:99; wanted cpu"),
        (["data.npz", "--device", "cuda:x"], "this device is not there: got cuda:x; wanted cpu"),
        (["data.npz", "--weights", "ink"], "weights are not numbers: got ink; wanted a column"),
        (["data.npz", "--weights", "minus"], "a weight is negative or not finite: got -1.0; wan"),
        (["data.npz", "--weights", "nothing"], "too few points: got 0; wanted at least 2 with s"),
        (["data.npz", "--weights", "short"], "'short' cannot be used: got 5 entries; wanted 120,"),
        (
            ["data.npz", "--label", "ink", "--weights", "ink"],
            "labels and weights at once: got ink",
        ),
        (
            ["data.npz", "--label", "inc"],
            "got inc; wanted one of digit, ink, lonely, one, times, ",
        ),
        (["data.npz", "--label", "inc"], "did you mean 'ink'?"),
        (["data.npz", "--label", "short"], "'short' cannot be used: got 5 entries; wanted 120, o"),
        (["short.npz"], "short.npz: 'y' are no labels: got 5 entries; wanted 120, one for each r"),
        (["short.npz", "--label", "y"], "'y' cannot be used: got 5 entries; wanted 120, one for"),
        (["one.npz"], "one.npz: 'y' are no labels: got 1 in every row; wanted text or whole numb"),
        (["none-at-all.npz"], "none-at-all.npz holds no points: got x of shape (0, 3); wanted at"),
        (
            ["single.npz"],
            "single.npz holds a single point: got x of shape (1, 3); wanted at least",
        ),
        (
            ["missing.npz"],
            "missing.npz: 'y' are no labels: got nan in row 0; wanted text or whole",
        ),
        (["missing.npz", "--label", "y"], "a label of 'y' is missing: got nan in row 0; wanted a"),
        (["unique.npz"], "got 120 different labels of 120 points; wanted text or whole numbers t"),
        (
            ["unique.npz", *UNIQUE],
            "needs two members of every label; one only: 0, 1, 2, 3, 4 and 115 m",
        ),
        (["hot.npz"], "hot.npz: 'y' are no labels: got 2 axes; wanted one"),
        (["bare.npz"], "bare.npz: no labels beside the points: got x alone; wanted an array or"),
        (["blank.npz"], "a label of 'y' is missing: got none in row "),
        (
            ["complex.npz"],
            "points are not a table of numbers: got x of shape (120, 3), complex128",
        ),
        (["large.npz"], "points are too large: got a variance of inf; wanted one between 1e-24 a"),
        (["big.npz"], "points are too large: got a variance of "),
        (["small.npz"], "points are too small: got a variance of "),
        (["tiny.npz"], "points are too near to one another for float64: got a variance of 0; wan"),
        (["inf.npz"], "points are not finite: got inf in row "),
        (["text.npz"], "text.npz cannot be read: got File is not a zip file; wanted arrays as nu"),
        (["half.npz"], "half.npz cannot be read: got "),
        (
            ["unknown.xyz"],
            "unknown kind of data set: got unknown.xyz; wanted .npz, .parquet, .csv",
        ),
        (["nan.csv"], "nan.csv: no labels beside the points: got the points alone; wanted an arr"),
        (["nan.csv", "--label", "y"], "a label of 'y' is missing: got nan in row 0; wanted a lab"),
        (["head.csv"], "head.csv: the table has no rows: got columns a, y; wanted a row for ever"),
        (["ragged.csv"], "cannot be read as a table: got Error tokenizing data. C error: Expecte"),
        (["good.csv", "--points", "a"], "no such column of lists: got a; wanted no name: it has "),
        (["empty"], "no labelled images in the folder: got empty; wanted metadata.csv with file_"),
        (["empty", "--size", "0"], "at least 1 pixel: got size 0 for empty; wanted a whole numbe"),
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
    for name, arrays in broken().items():
        np.savez(f"{name}.npz", **arrays)
    Path("text.npz").write_text("x")
    Path("half.npz").write_bytes(Path("flat.npz").read_bytes()[:700])
    Path("unknown.xyz").write_text("x")
    Path("nan.csv").write_text("a,y\n0.5,\n1.5,1\n2.5,1\n3.5,2\n")
    Path("head.csv").write_text("a,y\n")
    Path("good.csv").write_text("a,y\n0.5,u\n1.5,v\n2.5,u\n3.5,v\n")
    Path("ragged.csv").write_text("a,y\n0.5,u\n1.5,v,w,x\n")
    Path("empty").mkdir()
    np.savez("nan.npz", x=np.where(POINTS[0, 0] == POINTS, np.nan, POINTS), y=LABELS)
    np.savez("pickled.npz", x=POINTS, y=np.array([*LABELS[:119], "x"], dtype=object))
    for extra in ([], ["--json"]):
        code, out, err = run(capsys, *args, *extra)
        assert (code, out) == (2, "")
        assert message in err
        assert len(err.splitlines()) == 1
        assert "Traceback" not in err
