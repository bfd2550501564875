"""Other people's tables: read right from every format; every bad input is one clear line."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from critwin.errors import InputError, MissingExtraError
from critwin.levels import UNITS, from_logsnr
from critwin.records import Records, digest
from critwin.tables import read_table, records_from_columns
from critwin.transitions import Transitions
from critwin.views import transitions_from_records
from critwin.windows import critical_window

LEVELS = np.array([3.0, 1.0, -1.0, -3.0])


def columns(**changes: Any) -> dict[str, Any]:
    """Sixteen results: four sources of two labels at four levels."""
    own: dict[str, Any] = {
        "source": np.repeat(["a", "b", "c", "d"], 4),
        "logsnr": np.tile(LEVELS, 4),
        "before": np.repeat(["cat", "cat", "dog", "dog"], 4),
        "after": ["cat"] * 6 + ["dog"] * 8 + ["cat"] * 2,
        "weight": np.ones(16),
    }
    own.update(changes)
    return {k: v for k, v in own.items() if v is not None}


def write(tmp_path: Path, kind: str, data: dict[str, Any]) -> Path:
    path = tmp_path / f"table.{kind}"
    frame = pd.DataFrame(data)
    if kind in ("csv", "txt"):
        frame.to_csv(path, index=False)
    elif kind == "tsv":
        frame.to_csv(path, index=False, sep="\t")
    elif kind in ("parquet", "pq"):
        frame.to_parquet(path, index=False)
    else:
        xr.Dataset({k: ("row", np.asarray(v)) for k, v in data.items()}).to_netcdf(
            path, engine="h5netcdf"
        )
    return path


def text(tmp_path: Path, content: str, name: str = "table.csv") -> Path:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return path


# ---------------------------------------------------------------------------- read right
@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "parquet", "pq", "nc", "nc4"])
def test_every_format_gives_the_same_records(tmp_path: Path, kind: str) -> None:
    rows = read_table(write(tmp_path, kind, columns()))
    assert digest(rows) == digest(records_from_columns(columns()))
    assert rows.features["label"].labels == ("cat", "dog")
    assert len(rows) == 16
    table = transitions_from_records(rows, "label")
    assert table.logsnr.tolist() == LEVELS.tolist()
    np.testing.assert_allclose(table.probs[0], np.eye(2))


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_of_noise(unit: str) -> None:
    """Levels in any unit, by their own name or as `level`, are the same logsnr."""
    values = np.tile(from_logsnr(LEVELS, unit), 4)
    by_name = records_from_columns(columns(**{"logsnr": None, unit: values}))
    by_unit = records_from_columns(columns(logsnr=None, level=values), unit=unit)
    by_column = records_from_columns(
        columns(logsnr=None, noise=values), level_column="noise", unit=unit
    )
    for rows in (by_name, by_unit, by_column):
        np.testing.assert_allclose(np.unique(rows.logsnr), LEVELS[::-1], rtol=1e-12)
        assert rows.attrs["level_unit"] == unit


def test_logsnr_wins_over_what_derives_from_it() -> None:
    rows = records_from_columns(columns(t=np.ones(16), sigma=np.ones(16)))
    np.testing.assert_array_equal(np.unique(rows.logsnr), LEVELS[::-1])
    chosen = records_from_columns(columns(t=np.ones(16)), level_column="t")
    assert len(np.unique(chosen.logsnr)) == 1


def test_a_level_printed_with_other_digits_is_one_level() -> None:
    logsnr = np.tile(LEVELS, 4)
    logsnr[4:8] += 3e-7
    rows = records_from_columns(columns(logsnr=logsnr))
    assert len(np.unique(rows.logsnr)) == 4
    logsnr[4:8] += 1e-3
    assert len(np.unique(records_from_columns(columns(logsnr=logsnr)).logsnr)) > 4


def test_kept_instead_of_labels() -> None:
    kept = [1, 1, 0, 0] * 4
    for values in (
        kept,
        [bool(k) for k in kept],
        [str(k) for k in kept],
        [float(k) for k in kept],
    ):
        rows = records_from_columns(columns(before=None, after=None, weight=None, kept=values))
        own = rows.features["label"]
        assert own.labels == ("kept", "lost")
        assert set(own.before) == {0}
        assert own.after.tolist() == [1 - k for k in kept]
    table = transitions_from_records(rows, "label")
    assert table.before == ("kept",)
    assert table.weights is None
    with pytest.raises(InputError, match="chance level"):
        critical_window(table)
    window = critical_window(table, chance=0.25)
    assert window.midpoint is not None
    assert window.midpoint.t.value is not None


def test_kept_says_what_before_and_after_say() -> None:
    """Given the same chance level, both forms have the same window."""
    rng = np.random.Generator(np.random.Philox(3))
    before = np.repeat(rng.integers(0, 2, 40), 4)
    flip = rng.random(160) < np.tile([0.02, 0.15, 0.35, 0.5], 40)
    after = np.where(flip, 1 - before, before)
    data = {"source": np.repeat(np.arange(40), 4), "logsnr": np.tile(LEVELS, 40)}
    full = records_from_columns({**data, "before": before, "after": after})
    short = records_from_columns({**data, "kept": (before == after).astype(int)})
    windows = [
        critical_window(transitions_from_records(rows, "label"), chance=0.5, test=False)
        for rows in (full, short)
    ]
    one, other = (w.midpoint.t.value for w in windows if w.midpoint is not None)
    assert one is not None
    assert one == pytest.approx(other, rel=0.02)
    both = records_from_columns(
        {**data, "before": before, "after": after, "kept": (before == after)}
    )
    assert digest(both) == digest(full)


def test_the_prior_is_known_only_with_weights() -> None:
    with_weight = records_from_columns(columns(weight=np.repeat([1.0, 2.0, 3.0, 4.0], 4)))
    assert dict(with_weight.priors["label"]) == pytest.approx({"cat": 0.3, "dog": 0.7})
    table = transitions_from_records(with_weight, "label")
    assert table.is_weights_estimated
    np.testing.assert_array_equal(table.source_weight, [1, 2, 3, 4])  # type: ignore[arg-type]
    without = transitions_from_records(records_from_columns(columns(weight=None)), "label")
    assert without.weights is None
    assert not without.is_weights_estimated


def test_several_features_in_one_table() -> None:
    one, two = columns(), columns(before=["x"] * 16, after=["x"] * 8 + ["y"] * 8)
    both = {k: [*one[k], *two[k]] for k in one} | {"feature": ["animal"] * 16 + ["letter"] * 16}
    rows = records_from_columns(both)
    assert len(rows) == 16
    assert list(rows.features) == ["animal", "letter"]
    alone = records_from_columns(one)
    np.testing.assert_array_equal(
        transitions_from_records(rows, "animal").probs,
        transitions_from_records(alone, "label").probs,
    )
    # a feature that is read of some sources only
    part = {k: v[:24] for k, v in both.items()}
    table = transitions_from_records(records_from_columns(part), "letter")
    assert table.num_sources == 2


def test_replicates_are_given_or_numbered() -> None:
    data = {k: [*v, *v] for k, v in columns().items()}
    numbered = records_from_columns(data)
    assert len(numbered) == 32
    assert numbered.replicate.tolist() == [0] * 16 + [1] * 16
    given = records_from_columns({**data, "replicate": [3] * 16 + [5] * 16})
    assert sorted(set(given.replicate.tolist())) == [3, 5]
    counts = transitions_from_records(numbered, "label").counts
    assert counts is not None
    assert counts.sum(axis=2).min() == 2


def test_conditions_and_reversals_are_kept_apart() -> None:
    rows = records_from_columns(
        columns(condition=np.repeat(["", "p", "", "p"], 4), reversal=["ode"] * 16)
    )
    assert set(rows.condition) == {"", "p"}
    assert transitions_from_records(rows, "label").reversal == "ode"


def test_empty_labels_abstain_and_numbers_are_labels(tmp_path: Path) -> None:
    after = ["cat"] * 6 + ["dog"] * 8 + ["", "cat"]
    rows = read_table(write(tmp_path, "csv", columns(after=after)))
    assert rows.features["label"].after.tolist().count(-1) == 1
    numbers = columns(before=np.repeat([2, 2, 10, 10], 4), after=[2.0] * 8 + [10.0] * 7 + [np.nan])
    for kind in ("csv", "parquet", "nc"):
        own = read_table(write(tmp_path, kind, numbers)).features["label"]
        assert own.labels == (("2", "10") if kind != "csv" else ("2", "2.0", "10", "10.0"))
        assert own.after.tolist().count(-1) == 1


def test_csv_dialects(tmp_path: Path) -> None:
    plain = "source,t,kept\ns1,0.5,1\ns1,1.5,0\n"
    expected = digest(read_table(text(tmp_path, plain)))
    for variant in (
        "\ufeff" + plain,
        plain.replace(",", ";"),
        plain.replace(",", "|"),
        plain.replace("\n", "\r\n"),
        plain.replace(",", " , "),
        plain + "\n\n",
        plain.replace("s1", '"s1"'),
    ):
        assert digest(read_table(text(tmp_path, variant))) == expected


# --------------------------------------------------------------------------- bad inputs
@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"logsnr": None}, {}, r"a column is missing: logsnr, t, .* got columns source, before"),
        ({"logsnr": None, "LogSNR": LEVELS.tolist() * 4}, {}, "is 'LogSNR' meant to be 'logsnr'"),
        (
            {"logsnr": None, "level": LEVELS.tolist() * 4},
            {},
            "unit of the level column 'level' is",
        ),
        ({}, {"level_column": "nose"}, "a column is missing: nose"),
        ({}, {"unit": "strength"}, "unknown unit of noise: got strength"),
        ({}, {"level_column": "logsnr", "unit": "t"}, "said to be in another unit: got t"),
        ({"logsnr": None, "t": [1.0] * 16, "sigma": [1.0] * 16}, {}, "several level columns"),
        ({"source": None}, {}, "a column is missing: source"),
        ({"source": None, "sourse": ["a"] * 16}, {}, "is 'sourse' meant to be 'source'"),
        ({"after": None}, {}, "a column is missing: after; got|missing: after: got columns"),
        ({"before": None, "after": None}, {}, "wanted before and after, or kept"),
        ({"source": [""] + ["a"] * 15}, {}, "row 1: source is empty"),
        (
            {"logsnr": [1.0] * 5 + [np.nan] + [0.0] * 10},
            {},
            "row 6: logsnr is not a number: got nan",
        ),
        (
            {"logsnr": [1.0] * 5 + [np.inf] + [0.0] * 10},
            {},
            "row 6: logsnr is not a number: got inf",
        ),
        ({"logsnr": [1.0] * 5 + ["x"] + [0.0] * 10}, {}, "row 6: logsnr is not a number: got 'x'"),
        ({"logsnr": [1.0] * 5 + [None] + [0.0] * 10}, {}, "row 6: logsnr is not a number"),
        (
            {"logsnr": None, "t": [1.0, 0.0] * 8},
            {},
            r"row 2: t is out of range: got 0\.0; wanted positive OU times",
        ),
        (
            {"logsnr": None, "alpha_bar": [0.5, 1.5] * 8},
            {},
            r"row 2: alpha_bar is out of range: got 1\.5; wanted numbers strictly between 0 and 1",
        ),
        ({"logsnr": None, "sigma": [1.0, -1.0] * 8}, {}, "row 2: sigma is out of range"),
        ({"logsnr": None, "flow": [0.5, 1.0] * 8}, {}, "row 2: flow is out of range"),
        ({"weight": [1.0] * 15 + [-1.0]}, {}, "row 16: weight is negative"),
        ({"weight": [1.0] * 15 + [2.0]}, {}, "row 16: source 'd' has another weight before"),
        ({"weight": ["x"] * 16}, {}, "row 1: weight is not a number"),
        ({"weight": [0.0] * 16}, {}, "all weights are 0"),
        ({"kept": [1] * 16}, {}, "row 7: kept contradicts before and after"),
        ({"kept": [2] * 16}, {}, "row 1: kept: got 2; wanted 0 or 1"),
        ({"before": None, "after": None, "kept": ["maybe"] * 16}, {}, "row 1: kept: got maybe"),
        ({"feature": ["f"] * 15 + [""]}, {}, "row 16: feature is empty"),
        ({"replicate": [0.5] * 16}, {}, "row 1: replicate: got 0.5; wanted a whole number"),
        (
            {"replicate": [0] * 16, "logsnr": [1.0, 1.0, -1.0, -3.0] * 4},
            {},
            "row 2: the same source, level and replicate as row 1: got source a, replicate 0",
        ),
        ({"before": ["cat"] * 16, "after": ["cat"] * 16}, {}, "only one label, before and after"),
        ({"before": [""] * 16, "after": [None] * 16}, {}, "no labels at all"),
        ({"source": ["a"] * 15}, {}, "not equally long"),
        ({k: [] for k in columns()}, {}, "has no rows"),
        ({"after": ["c\0t", "cat"] * 8}, {}, "NUL"),
    ],
)
def test_every_bad_column_is_one_clear_line(
    changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        records_from_columns(columns(**changes), **options)
    assert "\n" not in str(caught.value)


def test_lines_of_a_file_are_named(tmp_path: Path) -> None:
    path = text(tmp_path, 'source,t,kept\n"two\nlines",1,1\ns2,x,0\n')
    with pytest.raises(InputError, match=r"table\.csv, line 4: t is not a number: got 'x'"):
        read_table(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "no such file"),
        ("table.csv", b"", "the file is empty: .*; wanted a header line, .*; look"),
        ("table.csv", b"\n", "a column is missing|the file is empty|no rows"),
        ("table.csv", b"source,t,kept\n", "no rows: got source, t, kept; wanted a row"),
        ("table.csv", b"source,t,kept\na,1\n", "line 2: wrong number of cells: got 2; wanted 3"),
        ("table.csv", b"source,t,t\na,1,1\n", "a column comes twice: got 't'"),
        (
            "table.csv",
            b"source,t,kept\n\xff\xfe,1,1\n",
            "not UTF-8 text: got the byte 0xff; wanted",
        ),
        ("table.csv", b'source,t,kept\n"a,1,1\n', "not CSV"),
        ("table.csv", b"source,t,kept\n" + b"x" * 200_000 + b",1,1\n", "not CSV"),
        ("table.parquet", b"hello", "as Parquet: got other content, or a dam.*; wanted a P"),
        ("table.parquet", b"PAR1" + b"\0" * 50 + b"PAR1", "cannot be read as Parquet"),
        ("table.nc", b"hello", "not a netCDF-4 file"),
        ("table.xlsx", b"PK", r"unknown kind of table: got table\.xlsx; wanted a run folder"),
        ("table", b"x", "unknown kind of table"),
    ],
)
def test_every_bad_file_is_one_clear_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_table(path)


def test_unreadable_and_too_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "csv", columns())
    with pytest.raises(InputError, match="not a file"):
        read_table(tmp_path)
    monkeypatch.setattr("critwin._columns.MAX_FILE_BYTES", 10)
    with pytest.raises(InputError, match="too large"):
        read_table(path)
    monkeypatch.undo()

    def fail(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(InputError, match=r"cannot be read: got .*Permission denied"):
        read_table(path)


def test_parquet_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "parquet", columns())

    class Absent:
        @staticmethod
        def find_spec(name: str, *args: Any) -> None:
            if name == "pyarrow":
                raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")

    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Absent, *sys.meta_path])
    with pytest.raises(MissingExtraError, match=r"pip install 'critwin\[parquet\]'"):
        read_table(path)


def test_the_readers_agree_with_records_and_theory() -> None:
    """End to end: a table made from known probabilities has the window they have."""
    rng = np.random.Generator(np.random.Philox(5))
    levels = np.linspace(4, -4, 9)
    stay = 0.5 + 0.5 / (1 + np.exp(-2 * levels))
    num = 400
    before = rng.integers(0, 2, num)
    flip = rng.random((num, 9)) > stay
    data = {
        "source": np.repeat(np.arange(num), 9),
        "logsnr": np.tile(levels, num),
        "before": np.repeat(before, 9),
        "after": np.where(flip, 1 - before[:, None], before[:, None]).ravel(),
        "weight": np.ones(9 * num),
    }
    window = critical_window(transitions_from_records(records_from_columns(data), "label"))
    exact = critical_window(
        Transitions(
            logsnr=levels,
            before=("0", "1"),
            after=("0", "1"),
            probs=np.stack([np.stack([stay, 1 - stay], 1), np.stack([1 - stay, stay], 1)], 1),
            weights=[0.5, 0.5],
        )
    )
    assert window.midpoint is not None
    assert exact.midpoint is not None
    assert exact.midpoint.logsnr.value is not None
    assert window.midpoint.logsnr.covers(exact.midpoint.logsnr.value)
    assert window.test is not None
    assert window.test.is_present
    assert isinstance(replace(records_from_columns(data)), Records)
