"""``critwin windows``: right numbers from every source, clear lines for every mistake."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import critwin
from critwin.cli import main
from critwin.cli._output import printable, table
from critwin.cli._source import WORDS
from critwin.cli.windows import edge_cell
from critwin.errors import InputError
from critwin.estimates import Edge, Estimate
from critwin.levels import ou_time
from critwin.storage import save_records, save_transitions
from critwin.tables import read_table
from critwin.transitions import from_counts, require_weights
from foreign import LEVELS, columns, csv, exact, kept_csv
from runs_help import changed, start


def run(capsys: pytest.CaptureFixture[str], *args: Any) -> tuple[int, str, str]:
    code = main([str(a) for a in args])
    out, err = capsys.readouterr()
    return code, out, err


def facts(capsys: pytest.CaptureFixture[str], *args: Any) -> dict[str, Any]:
    code, out, err = run(capsys, "windows", *args, "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    assert set(found) == {"file", "kind", "windows", "reasons", "curves", "abstentions"}
    return found


def covers(estimate: dict[str, Any], truth: float) -> bool:
    return bool(
        (estimate["low"] is None or estimate["low"] <= truth)
        and (estimate["high"] is None or truth <= estimate["high"])
    )


def test_a_table_gives_its_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = csv(tmp_path / "table.csv", columns())
    found = facts(capsys, path)
    window = found["windows"]["label"]
    assert found["kind"] == "table"
    assert window["criterion"] == "kept"
    assert window["num_sources"] == 120
    assert covers(window["midpoint"]["logsnr"], 0.0)
    assert covers(window["midpoint"]["t"], float(ou_time(0.0)))
    assert covers(window["width"]["logsnr"], np.log(9.0))
    assert window["test"]["is_present"]
    curve = found["curves"]["label"][0]
    assert curve["quantity"] == "kept"
    np.testing.assert_allclose(curve["logsnr"], LEVELS, atol=1e-12)


def test_people_get_a_table_of_plain_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "windows", csv(tmp_path / "table.csv", columns()))
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert "120 sources, 1080 results, 9 levels from t 0.00907 to 2.01" in lines[0]
    assert lines[1].split()[:3] == ["feature", "midpoint", "t"]
    assert lines[2].startswith("label")
    assert lines[2].endswith("yes")
    assert "95% intervals, clustered by source" in lines[3]
    assert "\x1b" not in out


@pytest.mark.parametrize("kind", ["records", "transitions", "run"])
def test_files_and_folders_of_critwin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    if kind == "records":
        rows = read_table(csv(tmp_path / "table.csv", columns()))
        found = facts(capsys, save_records(rows, tmp_path / "r.nc"))
        assert found["windows"]["label"]["kind"] == "counted"
    elif kind == "transitions":
        found = facts(capsys, save_transitions(exact(0.0), tmp_path / "t.nc"))
        window = found["windows"]["label"]
        assert window["kind"] == "exact"
        assert window["midpoint"]["logsnr"]["value"] == pytest.approx(0.0, abs=0.02)
        assert window["test"] is None
        assert "exact" in run(capsys, "windows", tmp_path / "t.nc")[1]
    else:
        start(tmp_path / "run")
        found = facts(capsys, tmp_path / "run")
        assert set(found["windows"]) | set(found["reasons"]) == {"side", "size"}
        assert "side" in found["windows"]
        only = facts(capsys, tmp_path / "run", "--feature", "side")
        assert set(only["windows"]) == {"side"}
        assert only["windows"]["side"] == found["windows"]["side"]
    assert found["kind"] == kind


def test_an_unknown_chance_level_is_said_and_chance_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (
        kept_csv(tmp_path / "kept.csv"),
        csv(tmp_path / "labels.csv", columns(), without=("weight",)),
    ):
        found = facts(capsys, path)
        assert found["windows"] == {}
        assert "chance level" in found["reasons"]["label"]
        assert "--chance" in found["reasons"]["label"]
        raw = found["curves"]["label"][0]
        assert raw["quantity"] == "mean_stay"
        assert raw["value"][0] > 0.95
        assert 0.3 < raw["value"][-1] < 0.7
        code, out, err = run(capsys, "windows", path)
        assert (code, err) == (0, "")
        assert "share kept, as counted" in out
        assert "--chance" in out
        window = facts(capsys, path, "--chance", "0.5")["windows"]["label"]
        assert covers(window["midpoint"]["logsnr"], 0.0)
    prior = facts(capsys, path, "--prior", "0=0.5", "--prior", "1=0.5")["windows"]["label"]
    assert covers(prior["midpoint"]["logsnr"], 0.0)


def test_operational_windows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = csv(tmp_path / "table.csv", columns())
    window = facts(capsys, path, "--after", "1", "--epsilon", "0.2")["windows"]["label"]
    assert window["criterion"] == "operational"
    assert (window["after"], window["before"], window["epsilon"]) == (["1"], ["0", "1"], 0.2)
    # stay = 1 - eps at logsnr x: 1 / (1 + exp(-2 x)) = 1 - 2 eps
    assert covers(window["t_after"]["logsnr"], 0.5 * np.log(0.6 / 0.4))
    same = facts(capsys, path, "--after", "1", "--epsilon", "0.2", "--before", "all")
    assert same["windows"]["label"] == window
    out = run(capsys, "windows", path, "--after", "1")[1]
    assert "t_after" in out
    assert "t_before" in out


def test_a_missing_prior_is_asked_for_by_the_name_of_its_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = csv(tmp_path / "table.csv", columns(), without=("weight",))
    ask = ("windows", path, "--chance", "0.5", "--after", "1", "--before", "all")
    code, out, err = run(capsys, *ask)
    assert (code, out) == (2, "")
    assert "give --prior LABEL=SHARE for each label" in err
    assert "weights" not in err
    assert len(err.splitlines()) == 1
    assert run(capsys, *ask, "--prior", "0=.5", "--prior", "1=.5")[0] == 0
    with pytest.raises(InputError, match="give weights"):  # in Python it is an argument
        require_weights(replace(exact(0.0), weights=None, fresh=None), why="blur")


def test_every_translated_phrase_is_one_that_messages_use() -> None:
    folder = Path(critwin.__file__).parent
    said = " ".join(file.read_text("utf-8") for file in folder.glob("*.py"))
    for python in WORDS:
        kind = re.sub("'(condition|reversal|experiment)'", "'{mixed}'", python)
        doubled = kind.replace("{'", "{{'").replace("...}", "...}}")
        assert any(form in said for form in (python, doubled)), python


def test_a_chance_level_can_be_said_to_the_report_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(tmp_path / "run", changed(sources={"kind": "dataset", "count": 16}))
    page = tmp_path / "run" / "report.html"
    assert run(capsys, "report", tmp_path / "run")[0] == 0
    assert "No window for the size" in page.read_text()
    for options in (("--chance", "0.5"), ("--prior", "small=.5", "--prior", "large=.5")):
        code, _, err = run(capsys, "report", tmp_path / "run", "--feature", "size", *options)
        assert (code, err) == (0, "")
        assert "No window for the size" not in page.read_text()
        window = facts(capsys, tmp_path / "run", "--feature", "size", *options)["windows"]["size"]
        assert f"{window['midpoint']['t']['value']:.2f}" in page.read_text()
    for options, said in (
        (("--chance", "0.5"), "a chance level or a prior belongs to one feature: got side, size"),
        (("--chance", "1.5", "--feature", "size"), "the chance level is out of range"),
        (("--chance", "0.5", "--feature", "hat"), "unknown feature"),
        (("--prior", "hat=1", "--feature", "size"), "unknown labels: got hat"),
        (("--feature", "size"), "--feature says whose --chance or --prior it is"),
    ):
        code, out, err = run(capsys, "report", tmp_path / "run", *options)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err


def test_abstentions_are_bracketed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = columns()
    data["after"] = [("" if n % 10 == 0 else str(v)) for n, v in enumerate(data["after"])]
    path = csv(tmp_path / "table.csv", data)
    found = facts(capsys, path)
    hidden = found["abstentions"]["label"]
    assert hidden["share"] == pytest.approx(0.1)
    middle = found["windows"]["label"]["midpoint"]["t"]["value"]
    assert hidden["lost"]["t"]["value"] < middle < hidden["kept"]["t"]["value"]
    assert "abstained on 10.0% of the results" in run(capsys, "windows", path)[1]


def test_several_features_one_without_a_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = columns()
    num = len(one["t"])
    both = {
        "source": [*one["source"], *one["source"]],
        "t": [*one["t"], *one["t"]],
        "before": [*one["before"], *["x"] * num],
        "after": [*one["after"], *["x"] * num],
        "weight": 1,
        "feature": ["digit"] * num + ["letter"] * num,
    }
    path = csv(tmp_path / "table.csv", both)
    found = facts(capsys, path)
    assert set(found["windows"]) == {"digit"}
    assert "nothing to lose" in found["reasons"]["letter"]
    assert "letter: no window: " in run(capsys, "windows", path)[1]
    code, out, err = run(capsys, "windows", path, "--feature", "letter")
    assert (code, err) == (0, "")  # an answer, not a mistake
    assert "letter: no window" in out


def test_conditions_are_chosen_with_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = columns(), columns(2.0)
    data = {k: [*np.broadcast_to(one[k], 1080), *np.broadcast_to(two[k], 1080)] for k in one}
    path = csv(tmp_path / "table.csv", {**data, "condition": ["a"] * 1080 + ["b"] * 1080})
    code, out, err = run(capsys, "windows", path)
    assert (code, out) == (2, "")
    assert "several conditions" in err
    assert "choose one with --where condition=NAME" in err
    for condition, shift in (("a", 0.0), ("b", 2.0)):
        window = facts(capsys, path, "--where", f"condition={condition}")["windows"]["label"]
        assert covers(window["midpoint"]["logsnr"], shift)


def test_units_and_level_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = columns()
    expected = facts(capsys, csv(tmp_path / "t.csv", data))["windows"]["label"]["midpoint"]
    data["level"] = data.pop("t")
    path = csv(tmp_path / "level.csv", data)
    assert facts(capsys, path, "--unit", "t")["windows"]["label"]["midpoint"] == expected
    data["noise"] = data.pop("level")
    path = csv(tmp_path / "noise.csv", data)
    found = facts(capsys, path, "--level-column", "noise", "--unit", "t")
    assert found["windows"]["label"]["midpoint"] == expected


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.csv"], "no such file: got none.csv"),
        (["table.csv", "--feature", "x"], "unknown feature: got x"),
        (["table.csv", "--chance", "1.5"], "the chance level is out of range"),
        (["table.csv", "--confidence", "95"], "confidence is out of range: got 95"),
        (["table.csv", "--after", "7"], "unknown label: got 7; wanted some of 0, 1"),
        (["table.csv", "--epsilon", "0.1"], "--before and --epsilon belong to --after"),
        (["table.csv", "--after", "1", "--epsilon", "2"], "epsilon is out of range"),
        (["table.csv", "--unit", "strength"], "unknown unit of noise"),
        (["table.csv", "--where", "replicate"], "--where cannot be read: got replicate"),
        (["table.csv", "--where", "a=1", "--where", "a=2"], "--where names something twice"),
        (["table.csv", "--where", "hat=1"], "unknown column: got hat"),
        (["table.csv", "--prior", "0=x"], "--prior cannot be read"),
        (["table.csv", "--prior", "7=1"], "unknown labels: got 7"),
        (["table.csv", "--confidence", "x"], "Invalid value"),
        (["exact.nc", "--unit", "t"], "--level-column and --unit are for tables"),
        (["exact.nc", "--feature", "x"], "one feature, counted already: got label"),
        (["."], "not a run folder"),
        ([], "Missing argument"),
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
    csv(tmp_path / "table.csv", columns(sources=10))
    save_transitions(exact(0.0), tmp_path / "exact.nc")
    for extra in ([], ["--json"]):
        code, out, err = run(capsys, "windows", *args, *extra)
        assert (code, out) == (2, "")
        assert message in err
        assert len(err.splitlines()) == 1
        assert "Traceback" not in err


def test_a_reason_is_given_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = {"source": ["a", "a"], "t": [0.5, 1.5], "before": "x", "after": ["x", "y"], "weight": 1}
    prior = ("--prior", "x=.5", "--prior", "y=.5")
    code, out, _ = run(capsys, "windows", csv(tmp_path / "one.csv", one), *prior)
    assert code == 0
    assert out.count("too few sources") == 1
    assert "label: start, midpoint, end: too few sources" in out
    few = {"source": ["a", "a"], "t": [0.5, 1.5], "before": "x", "after": ["x", "y"]}
    out = run(capsys, "windows", csv(tmp_path / "few.csv", few), "--chance", "0.5")[1]
    assert "label: start, midpoint, end: no limits: too few sources: every level" in out
    assert out.count("too few sources") == 1
    lines = out.splitlines()
    assert len(lines) == len(set(lines))


def test_that_there_is_no_window_is_an_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = {"source": ["a", "b"], "t": 0.5, "before": ["x", "y"], "after": ["x", "y"], "weight": 1}
    path = csv(tmp_path / "one.csv", one)
    code, out, err = run(capsys, "windows", path)
    assert (code, err) == (0, "")
    assert "label: no window: a window needs at least two levels" in out
    found = facts(capsys, path)
    assert found["windows"] == {}
    assert "two levels" in found["reasons"]["label"]


def test_a_level_without_results_is_named_where_there_are_no_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = np.zeros((1, 2, 2), dtype=np.int64)
    counts[0, 0, 0] = 1
    bare = from_counts(
        counts, [0], logsnr=LEVELS[:2], before=("kept", "lost"), after=("kept", "lost"),
        weights=[1.0, 0.0],
    )  # fmt: skip
    out = run(capsys, "windows", save_transitions(bare, tmp_path / "x.nc"), "--chance", ".5")[1]
    assert "no result at t = " in out
    assert "labelled kept" not in out


def test_a_narrow_terminal_gets_a_block_a_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = csv(tmp_path / "table.csv", columns())
    wide = run(capsys, "windows", path)[1]
    monkeypatch.setenv("COLUMNS", "40")
    assert run(capsys, "windows", path)[1] == wide  # a pipe or a file
    monkeypatch.setattr("critwin.cli._output.sys.stdout.isatty", lambda: True)
    lines = run(capsys, "windows", path)[1].splitlines()
    assert lines[1] == "feature: label"
    assert lines[2].startswith("midpoint t: 0.")
    assert lines[7] == "a window?: yes"
    monkeypatch.setenv("COLUMNS", "200")
    assert run(capsys, "windows", path)[1] == wide


def test_text_that_turns_the_reading_direction_is_shown_as_its_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for char in "\u202e\u2066\u200b\ue000\x9b":
        data = columns()
        data["after"] = [f"{value}{char}" for value in data["after"]]
        data["before"] = [f"{value}{char}" for value in data["before"]]
        path = csv(tmp_path / "table.csv", data)
        for args in (("--after", "q"), ("--feature", f"x{char}"), ("--prior", f"q{char}=1")):
            code, out, err = run(capsys, "windows", path, *args)
            assert (code, out) == (2, "")
            assert char not in err
            assert err.count("\n") == 1
            assert repr(char)[1:-1] in err
    assert table([("a\nb", "c")]) == "a\\nb  c"
    assert printable("\udc80") == "\\udc80"


def test_names_from_the_table_cannot_command_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = columns()
    path = csv(tmp_path / "table.csv", {**data, "feature": "\x1b[31mred [bold]"})
    code, out, _ = run(capsys, "windows", path)
    assert code == 0
    assert "\x1b" not in out
    assert "[bold]" in out


@pytest.mark.parametrize(
    ("value", "low", "high", "cell"),
    [
        (0.98412, 0.9, 1.1, "0.984 [0.900, 1.100]"),
        (0.98412, 0.98408, 0.98417, "0.9841 [0.9841, 0.9842]"),
        (0.9841234, 0.9841230, 0.9841239, "0.984123 [0.984123, 0.984124]"),
        (0.98412341, 0.98412340, 0.98412342, "0.984"),
        (0.98412, 0.98412, 0.98412, "0.984"),
        (0.98412, None, 0.98412, "0.984 [?, 0.984]"),
        (-1e-5, -2e-5, 1e-5, "-0.00001 [-0.00002, 0.00001]"),
    ],
)
def test_limits_never_read_alike(
    value: float, low: float | None, high: float | None, cell: str
) -> None:
    one = Estimate(value=value, low=low, high=high, confidence=0.95)
    assert edge_cell(Edge(t=one, logsnr=one), "t") == cell
