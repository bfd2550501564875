"""Columns of a foreign table, and the file formats they come in: CSV, Parquet, netCDF."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._texts import bad_byte
from critwin.errors import InputError, require

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_FILE_BYTES = 4 * 2**30
_DELIMITERS = ",;\t|"


@dataclass(frozen=True, eq=False, kw_only=True)
class Columns:
    """Named columns of equal length, values as they came (text, numbers, None).

    Attributes:
        origin: What messages call the table.
        values: Column -> its values.
        rows: Name of every row in messages, e.g. ``"line 7"``; a function of the row's index.
    """

    origin: str
    values: Mapping[str, Sequence[Any]]
    rows: Callable[[int], str]

    def __len__(self) -> int:
        return len(next(iter(self.values.values()), ()))

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def missing(self, names: Sequence[str], *, wanted: str) -> InputError:
        """The error for columns that are not there, with what is, and what may be meant."""
        found = list(self.values)
        lowered = {name.lower(): name for name in found}
        close = []
        for name in names:
            match = get_close_matches(name.lower(), lowered, n=1, cutoff=0.7)
            if match and lowered[match[0]] not in names:
                close.append(f"is {lowered[match[0]]!r} meant to be {name!r}?")
        return InputError(
            f"{self.origin}: a column is missing: {', '.join(names)}",
            got="columns " + ", ".join(found),
            wanted=wanted,
            next_step=" ".join(close) or None,
        )

    def bad(self, row: int, what: str, *, got: Any, wanted: str) -> InputError:
        """The error for one cell."""
        return InputError(f"{self.origin}, {self.rows(row)}: {what}", got=got, wanted=wanted)

    def text(self, name: str) -> list[str]:
        """A column as text; missing values are empty."""
        return [_text(value) for value in self.values[name]]

    def numbers(self, name: str) -> list[float]:
        """A column as finite numbers.

        Raises:
            InputError: With the row of the first value that is none.
        """
        out = []
        for row, value in enumerate(self.values[name]):
            try:
                number = float(value)
            except (TypeError, ValueError):
                number = np.nan
            if not np.isfinite(number):
                shown = repr(value) if isinstance(value, str) or value is None else value
                raise self.bad(row, f"{name} is not a number", got=shown, wanted="a finite number")
            out.append(number)
        return out


def read_columns(path: Path) -> Columns:
    """Read a table by the ending of its name.

    Raises:
        InputError: If the file is missing, empty, unreadable or of no known format.
    """
    readers = {
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".txt": _read_csv,
        ".parquet": _read_parquet,
        ".pq": _read_parquet,
        ".nc": _read_netcdf,
        ".nc4": _read_netcdf,
        ".h5": _read_netcdf,
    }
    if not path.exists():
        raise InputError("no such file", got=str(path), wanted="a run folder or a table")
    if not path.is_file():
        raise InputError("not a file", got=str(path), wanted="a run folder or a table")
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            "unknown kind of table",
            got=path.name,
            wanted="a run folder, or a file that ends in " + ", ".join(readers),
        )
    size = path.stat().st_size
    if size == 0:
        raise _empty(path)
    if size > MAX_FILE_BYTES:
        raise InputError(
            "the table is too large", got=f"{size / 2**30:.1f} GiB", wanted="at most 4 GiB"
        )
    try:
        columns = reader(path)
    except OSError as error:
        shown = " ".join((error.strerror or str(error)).split())
        raise InputError("the file cannot be read", got=f"{path}: {shown}") from error
    if len(columns) == 0:
        raise InputError(
            f"{path.name}: the table has no rows",
            got=", ".join(columns.values),
            wanted="a row for each result",
            next_step="look at what wrote the table",
        )
    return columns


def columns_of(values: Mapping[str, Sequence[Any]], origin: str = "table") -> Columns:
    """Columns that are in memory already.

    Raises:
        InputError: If they are not equally long.
    """
    listed = {str(name): _listed(column) for name, column in values.items()}
    lengths = {name: len(column) for name, column in listed.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"{origin}: columns are not equally long", got=lengths)
    return Columns(origin=origin, values=listed, rows=lambda row: f"row {row + 1}")


def _empty(path: Path) -> InputError:
    return InputError(
        "the file is empty",
        got=str(path),
        wanted="a header line, and a row for each result",
        next_step="look at what wrote the table",
    )


def _read_csv(path: Path) -> Columns:
    lines: list[int] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            head = handle.readline()
            delimiter = max(_DELIMITERS, key=head.count)
            handle.seek(0)
            reader = csv.reader(handle, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader)]
            if twice := sorted({name for name in header if header.count(name) > 1}):
                raise InputError(f"{path.name}: a column comes twice", got=repr(twice[0]))
            table: list[list[str]] = []
            for row in reader:
                if not row:
                    continue  # an empty line
                if len(row) != len(header):
                    raise InputError(
                        f"{path.name}, line {reader.line_num}: wrong number of cells",
                        got=len(row),
                        wanted=str(len(header)),
                    )
                table.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except StopIteration:
        raise _empty(path) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path.name} is not UTF-8 text",
            got=bad_byte(error),
            wanted="a CSV file in UTF-8",
            next_step="save it as UTF-8",
        ) from error
    except csv.Error as error:
        raise InputError(
            f"{path.name} is not CSV",
            got=f"{error} (line {reader.line_num})",
            wanted="a header line, and as many cells in every line",
            next_step="mend that line",
        ) from error
    columns = zip(*table, strict=True) if table else ([] for _ in header)
    values: dict[str, Sequence[Any]] = dict(zip(header, columns, strict=True))
    return Columns(origin=path.name, values=values, rows=lambda row: f"line {lines[row]}")


def _read_parquet(path: Path) -> Columns:
    parquet = require("pyarrow.parquet", extra="parquet")
    arrow = require("pyarrow", extra="parquet")
    try:
        table = parquet.ParquetFile(path).read()
        values = {name: table.column(name).to_pylist() for name in table.column_names}
    except (arrow.ArrowException, ValueError, KeyError, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise InputError(
            f"{path.name} cannot be read as Parquet",
            got=getattr(error, "strerror", None) or "other content, or a damaged file",
            wanted="a Parquet file with the columns of a table",
            next_step="write it again, or hand over CSV",
        ) from error
    return columns_of(values, path.name)


def _read_netcdf(path: Path) -> Columns:
    from critwin.storage import open_netcdf

    dataset = open_netcdf(path)
    values = {
        str(name): _listed(variable.values)
        for name, variable in dataset.variables.items()
        if variable.ndim == 1 and variable.dims == _main_dimension(dataset)
    }
    return columns_of(values, path.name)


def _main_dimension(dataset: Any) -> tuple[str, ...]:
    """The dimension along which most of the one-dimensional variables lie."""
    dims = [v.dims for v in dataset.variables.values() if v.ndim == 1]
    return max(dims, key=dims.count) if dims else ("row",)


def _listed(column: Any) -> list[Any]:
    values = column.tolist() if hasattr(column, "tolist") else list(column)
    return list(values)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    if isinstance(value, float):
        if np.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else repr(value)
    return "" if str(value) in ("NaT", "<NA>") else str(value)
