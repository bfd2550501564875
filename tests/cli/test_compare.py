"""``critwin compare``: real differences are found, absent ones are not, mistakes are one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from critwin.cli import main
from critwin.overview import compare_tables, difference_in_words
from critwin.storage import save_transitions
from critwin.tables import read_table
from critwin.views import transitions_from_records
from foreign import columns, csv, exact, kept_csv
from runs_help import start


def run(capsys: pytest.CaptureFixture[str], *args: Any) -> tuple[int, str, str]:
    code = main(["compare", *(str(a) for a in args)])
    out, err = capsys.readouterr()
    return code, out, err


def facts(capsys: pytest.CaptureFixture[str], *args: Any) -> dict[str, Any]:
    code, out, err = run(capsys, *args, "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_shift_is_found_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = csv(tmp_path / "a.csv", columns()), csv(tmp_path / "b.csv", columns(-1.5))
    found = facts(capsys, one, two)["differences"]["label"]
    shift = found["midpoint"]["logsnr"]
    assert shift["low"] <= -1.5 <= shift["high"]
    assert found["num_shared"] == 120
    assert found["sentences"][0].startswith(
        "the midpoint differs: in the second it lies at more noise: +"
    )
    code, out, err = run(capsys, one, two)
    assert (code, err) == (0, "")
    assert "label: the midpoint differs" in out
    assert "paired by source" in out
    back = facts(capsys, two, one)["differences"]["label"]
    assert "less noise" in back["sentences"][0]
    assert back["midpoint"]["t"]["value"] == pytest.approx(-found["midpoint"]["t"]["value"])


def test_nothing_is_found_where_nothing_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = csv(tmp_path / "a.csv", columns()), csv(tmp_path / "b.csv", columns(seed=6))
    found = facts(capsys, one, two)["differences"]["label"]
    assert found["sentences"][0].startswith("no difference found in the midpoint")
    same = facts(capsys, one, one)["differences"]["label"]
    assert same["midpoint"]["t"]["value"] == 0
    assert same["midpoint"]["t"]["low"] <= 0 <= same["midpoint"]["t"]["high"]


def test_exact_tables_and_operational_windows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = save_transitions(exact(0.0), tmp_path / "a.nc")
    two = save_transitions(exact(1.0), tmp_path / "b.nc")
    found = facts(capsys, one, two)["differences"]["label"]
    assert found["midpoint"]["logsnr"]["value"] == pytest.approx(1.0, abs=0.02)
    assert found["sentences"][0].startswith("the midpoint differs: in the second it lies at less")
    assert "no difference" in facts(capsys, one, one)["differences"]["label"]["sentences"][0]
    pair = facts(capsys, one, two, "--after", "1")["differences"]["label"]
    assert [s.split()[0] for s in pair["sentences"]] == ["t_after", "t_before"]
    assert "t_before" in run(capsys, one, two, "--after", "1")[1]


def test_run_folders_and_features_of_one_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(tmp_path / "run")
    table = csv(tmp_path / "t.csv", {**columns(), "feature": "other"})
    found = facts(capsys, tmp_path / "run", tmp_path / "run", "--feature", "side")
    assert set(found["differences"]) == {"side"}
    code, out, err = run(capsys, tmp_path / "run", table)
    assert (code, out) == (2, "")
    assert "cannot be compared" in err


def test_edges_outside_the_levels_are_said(tmp_path: Path) -> None:
    inside = transitions_from_records(read_table(csv(tmp_path / "a.csv", columns())), "label")
    outside = transitions_from_records(read_table(csv(tmp_path / "b.csv", columns(-9.0))), "label")
    differences, reasons = compare_tables({"label": inside}, {"label": outside})
    assert not reasons
    (sentence,) = difference_in_words(differences["label"])
    assert sentence.startswith("the midpoint cannot be compared: an end is missing: above")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["a.csv"], "Missing argument"),
        (["a.csv", "none.csv"], "no such file: got none.csv"),
        (["a.csv", "kept.csv"], "the chance level"),
        (["a.csv", "kept.csv", "--chance", "0.5"], "do not have the same labels"),
        (["a.csv", "a.csv", "--feature", "x"], "unknown feature: got x"),
        (["a.csv", "a.csv", "--before", "all"], "belong to --after"),
        (["a.csv", "a.csv", "--confidence", "0"], "confidence is out of range"),
    ],
)
def test_every_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    csv(tmp_path / "a.csv", columns(sources=10))
    kept_csv(tmp_path / "kept.csv", sources=10)
    code, out, err = run(capsys, *args)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
