"""Files and tables: lossless round trips, and every damaged or foreign file is refused clearly."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, assume, given, settings

from critwin import storage
from critwin.errors import InputError
from critwin.records import FeatureColumns, Records
from critwin.storage import (
    from_dataframe,
    from_xarray,
    kind_of_file,
    load_records,
    load_transitions,
    save_records,
    save_transitions,
    to_dataframe,
    to_xarray,
)
from critwin.transitions import Transitions, from_counts
from strategies import counted_tables, exact_tables, records

few = settings(max_examples=20)
files = settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])


def same(first: Any, second: Any) -> bool:
    """Bit-for-bit equality of nested frozen dataclasses, arrays and mappings."""
    if isinstance(first, Records | Transitions | FeatureColumns):
        return type(first) is type(second) and all(
            same(getattr(first, f.name), getattr(second, f.name)) for f in fields(first)
        )
    if isinstance(first, np.ndarray):
        return (
            isinstance(second, np.ndarray)
            and first.dtype.kind == second.dtype.kind
            and first.shape == second.shape
            and bool(np.array_equal(first, second, equal_nan=first.dtype.kind == "f"))
        )
    if hasattr(first, "items"):
        return list(first) == list(second) and all(same(v, second[k]) for k, v in first.items())
    return type(first) is type(second) and first == second


def small() -> Transitions:
    return from_counts(
        [[[3, 1], [2, 2]], [[0, 4], [1, 3]]],
        [0, 1],
        logsnr=[1.0, -1.0],
        before=["a", "b"],
        weights=[0.5, 0.5],
    )


def small_records() -> Records:
    return Records(
        source=np.array(["s0", "s1"]),
        logsnr=np.array([1.0, -1.0]),
        features={
            "ground": FeatureColumns(
                labels=("dark", "light"), before=np.array([0, 1]), after=np.array([0, -1])
            )
        },
    )


# ------------------------------------------------------------------------- round trips
@files
@given(table=exact_tables() | counted_tables())
def test_transitions_survive_a_file(tmp_path: Path, table: Transitions) -> None:
    path = save_transitions(table, tmp_path / "t.nc", overwrite=True)
    assert same(load_transitions(path), table)


@files
@given(rows=records())
def test_records_survive_a_file(tmp_path: Path, rows: Records) -> None:
    path = save_records(rows, tmp_path / "r.nc", overwrite=True)
    assert same(load_records(path), rows)


@few
@given(table=exact_tables() | counted_tables())
def test_transitions_survive_xarray(table: Transitions) -> None:
    assert same(from_xarray(to_xarray(table)), table)


@few
@given(table=exact_tables() | counted_tables())
def test_transitions_survive_a_dataframe(table: Transitions) -> None:
    assert same(from_dataframe(to_dataframe(table)), table)


@few
@given(rows=records())
def test_records_survive_xarray_and_a_dataframe(rows: Records) -> None:
    assert same(from_xarray(to_xarray(rows)), rows)
    try:
        frame = to_dataframe(rows)
    except InputError as error:
        assert "same name" in str(error)  # noqa: PT017  (nasty names may collide)
        assume(False)
    assert same(from_dataframe(frame), rows)


def test_the_round_trip_test_can_fail() -> None:
    table = small()
    assert same(table, small())
    assert not same(table, replace(table, feature="other"))
    assert not same(table, replace(table, counts=np.asarray(table.counts) + 1))


def test_a_dataframe_that_lost_its_attrs_keeps_the_numbers(tmp_path: Path) -> None:
    frame = to_dataframe(small())
    frame.to_csv(tmp_path / "t.csv", index=False)
    back = from_dataframe(pd.read_csv(tmp_path / "t.csv"))
    assert isinstance(back, Transitions)
    np.testing.assert_array_equal(back.counts, small().counts)
    np.testing.assert_array_equal(back.probs, small().probs)
    assert back.weights is None
    to_dataframe(small_records()).to_csv(tmp_path / "r.csv", index=False)
    rows = from_dataframe(pd.read_csv(tmp_path / "r.csv"))
    assert isinstance(rows, Records)
    assert rows.features["ground"].labels == ("dark", "light")
    assert rows.features["ground"].after.tolist() == [0, -1]


def test_dataframes_are_tidy() -> None:
    frame = to_dataframe(small())
    assert list(frame.columns[:7]) == [
        "source",
        "logsnr",
        "t",
        "sigma",
        "before",
        "after",
        "prob",
    ]
    assert len(frame) == 2 * 2 * 2
    assert frame["count"].sum() == small().counts.sum()  # type: ignore[union-attr]
    assert list(to_dataframe(small_records()).columns[-2:]) == ["ground.before", "ground.after"]


def test_a_parquet_file_of_a_dataframe_round_trips(tmp_path: Path) -> None:
    to_dataframe(small()).to_parquet(tmp_path / "t.parquet")
    assert same(from_dataframe(pd.read_parquet(tmp_path / "t.parquet")), small())


def test_long_descriptions_and_large_columns_are_stored(tmp_path: Path) -> None:
    num = 20_000
    rows = Records(
        source=np.array([f"s{n % 100}" for n in range(num)]),
        logsnr=np.zeros(num),
        features={
            "word": FeatureColumns(
                labels=tuple(f"label {j} " + "x" * 200 for j in range(500)),
                before=np.zeros(num, dtype=int),
                after=np.arange(num) % 500,
            )
        },
        attrs={"note": "y" * 100_000},
    )
    path = save_records(rows, tmp_path / "big.nc")
    assert same(load_records(path), rows)
    assert path.stat().st_size < 5e6


# ---------------------------------------------------------------------------- writing
def test_writing_never_overwrites_unasked_and_leaves_no_scratch(tmp_path: Path) -> None:
    path = save_transitions(small(), tmp_path / "t.nc")
    with pytest.raises(InputError, match="the file exists"):
        save_transitions(small(), path)
    save_transitions(small(), path, overwrite=True)
    with pytest.raises(InputError, match="folder does not exist"):
        save_records(small_records(), tmp_path / "nowhere" / "r.nc")
    with pytest.raises(InputError, match="cannot write to a folder"):
        save_records(small_records(), tmp_path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["t.nc"]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_transitions(small(), tmp_path / "t.nc")
    old = path.read_bytes()

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fail)
    with pytest.raises(InputError, match="No space left"):
        save_transitions(replace(small(), feature="new"), path, overwrite=True)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["t.nc"]


@pytest.mark.parametrize("value", [object(), np.zeros(3), {1: 2}, float("nan"), b"bytes"])
def test_only_plain_attrs_are_stored(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InputError, match=r"attrs\.x"):
        save_transitions(replace(small(), attrs={"x": value}), tmp_path / "t.nc")
    assert not list(tmp_path.iterdir())


def test_numpy_scalars_in_attrs_become_numbers() -> None:
    table = replace(small(), attrs={"a": np.float64(0.5), "b": np.int64(3), "c": (1, 2)})
    back = from_xarray(to_xarray(table))
    assert dict(back.attrs) == {"a": 0.5, "b": 3, "c": [1, 2]}


# ---------------------------------------------------------------------- damaged files
@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_records(small_records(), tmp_path / "r.nc")


def test_missing_foreign_and_swapped_files(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_records(tmp_path / "none.nc")
    with pytest.raises(InputError, match="no such file"):
        load_records(tmp_path)
    (tmp_path / "text.nc").write_text("hello")
    with pytest.raises(InputError, match="not a netCDF-4 file"):
        load_records(tmp_path / "text.nc")
    xr.Dataset({"a": 1}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(InputError, match="not critwin records"):
        load_records(tmp_path / "other.nc")
    assert kind_of_file(tmp_path / "other.nc") is None
    assert kind_of_file(saved) == "records"
    with pytest.raises(InputError, match=r"not critwin transitions: got records"):
        load_transitions(saved)
    with pytest.raises(InputError, match="not critwin transitions"):
        from_xarray(xr.Dataset({"a": 1}))


def test_truncated_files_are_refused(tmp_path: Path, saved: Path) -> None:
    content = saved.read_bytes()
    for part in (0.02, 0.3, 0.7, 0.95):
        (tmp_path / "cut.nc").write_bytes(content[: int(part * len(content))])
        with pytest.raises(InputError, match=r"damaged|not a netCDF"):
            load_records(tmp_path / "cut.nc")


def test_an_edited_number_is_noticed(saved: Path) -> None:
    with h5py.File(saved, "r+") as file:
        file["logsnr"][0] = 2.0
    with pytest.raises(InputError, match="digest"):
        load_records(saved)


def test_flipped_bytes_never_pass_unnoticed(tmp_path: Path, saved: Path) -> None:
    """Whatever byte is flipped: the same records, or a clear refusal."""
    content, rows = saved.read_bytes(), small_records()
    rng = np.random.Generator(np.random.Philox(7))
    refused = 0
    for position in rng.choice(len(content), size=20, replace=False):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        (tmp_path / "bad.nc").write_bytes(damaged)
        try:
            assert same(load_records(tmp_path / "bad.nc"), rows)
        except InputError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"critwin_schema": 99}, "unknown schema"),
        ({"critwin": "{"}, "cannot be read"),
        ({"critwin": "[]"}, "not complete"),
        ({"critwin": "{}"}, "not complete"),
        ({"critwin_type": "cats"}, "not critwin"),
    ],
)
def test_a_changed_description_is_refused(change: dict[str, Any], message: str) -> None:
    dataset = to_xarray(small())
    dataset.attrs.update(change)
    with pytest.raises(InputError, match=message):
        from_xarray(dataset)


def test_missing_variables_and_columns_are_named() -> None:
    with pytest.raises(InputError, match="no 'probs'"):
        from_xarray(to_xarray(small()).drop_vars("probs"))
    frame = to_dataframe(small())
    with pytest.raises(InputError, match="no 'logsnr'"):
        from_dataframe(frame.drop(columns="logsnr"))
    with pytest.raises(InputError, match="no 'source'"):
        from_dataframe(to_dataframe(small_records()).drop(columns="source"))
    with pytest.raises(InputError, match=r"no ground\.after"):
        from_dataframe(to_dataframe(small_records()).drop(columns="ground.after"))
    frame.attrs["critwin"] = "{"
    with pytest.raises(InputError, match=r"frame\.attrs"):
        from_dataframe(frame)


def test_colliding_column_names_are_refused() -> None:
    rows = small_records()
    twin = FeatureColumns(
        labels=("x",), before=np.zeros(2, int), after=np.zeros(2, int), before_values={}
    )
    features = {
        "a": replace(twin, before_values={"v.w": np.zeros(2)}),
        "a.before_values.v": replace(twin, before_values={}),
    }
    assert isinstance(to_dataframe(replace(rows, features=features)), pd.DataFrame)
    features["values"] = replace(twin, before_values={})
    with pytest.raises(InputError, match="same name"):
        to_dataframe(replace(rows, features=features, values={"before": np.zeros(2)}))


def test_a_file_cannot_make_the_reader_open_another(tmp_path: Path, saved: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.arange(2.0).tobytes())
    with h5py.File(saved, "r+") as file:
        file["link"] = h5py.ExternalLink("other.nc", "/x")
    with pytest.raises(InputError, match="links elsewhere"):
        load_records(saved)
    with h5py.File(saved, "r+") as file:
        del file["link"]
        file.create_dataset("e", (2,), "f8", external=[(str(secret), 0, 16)])
    with pytest.raises(InputError, match="data elsewhere"):
        load_records(saved)


def test_absurd_sizes_are_refused_before_they_are_read(saved: Path) -> None:
    with h5py.File(saved, "r+") as file:
        file.create_dataset("huge", (10**12,), "f8", chunks=(2**16,))
    with pytest.raises(InputError, match="too much"):
        load_records(saved)


def test_object_columns_are_not_unpickled(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be strings"):
        replace(small_records(), source=np.array([1.5, {}], dtype=object))
    for module in (storage,):
        text = Path(str(module.__file__)).read_text()
        assert "import pickle" not in text
        assert "allow_pickle=True" not in text


def test_an_unreadable_file_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(InputError, match=r"cannot be read: got .*Permission denied"):
        load_records(saved)


def test_the_stored_text_is_json_without_nan(saved: Path) -> None:
    with h5py.File(saved) as file:
        meta = json.loads(file.attrs["critwin"])
    assert set(meta) == {"features", "planted", "values", "priors", "attrs"}
