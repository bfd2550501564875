"""Tables of embeddings: points in a column of lists, or in many columns of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._texts import some_of
from critwin.errors import InputError, require

if TYPE_CHECKING:
    from numpy.typing import NDArray

Columns = dict[str, "NDArray[Any]"]


def read_embeddings(
    path: Path, *, points: str | None, apart: Sequence[str], is_labelled: bool
) -> tuple[NDArray[Any], Columns, list[str]]:
    """Points and the other columns of a table.

    Args:
        path: The file.
        points: Column of lists, where there are several.
        apart: Columns that are no coordinates.
        is_labelled: Whether ``apart`` names all columns of labels, so that every other column of
            numbers is a coordinate; else whole numbers are taken for labels.

    Returns:
        Points ``(N, D)``, the other columns, notes.

    Raises:
        InputError: If it cannot be read, or has no points.
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        lists, columns = _parquet(path)
    else:
        lists, columns = {}, _csv(path)
    if points is not None and points not in lists:
        raise InputError(
            f"{path.name}: no such column of lists",
            got=points,
            wanted=f"one of {some_of(list(lists))}" if lists else "no name: it has none",
            next_step=None if lists else "leave --points out: columns of numbers are the points",
        )
    if points is None and len(lists) > 1:
        raise InputError(
            f"{path.name}: which column holds the points?",
            got=some_of(list(lists)),
            wanted="one column of lists",
            next_step="name it with --points",
        )
    if lists:
        name = points or next(iter(lists))
        return lists[name], columns, [f"points: the lists of {name}"]
    chosen = [
        name
        for name, value in columns.items()
        if name not in apart
        and (value.dtype.kind == "f" or (is_labelled and value.dtype.kind in "iu"))
    ]
    if not chosen:
        raise InputError(
            f"{path.name}: no columns of numbers for the points",
            got=some_of([f"{k} ({_kind(v)})" for k, v in columns.items()]),
            wanted="columns of numbers, or one column of lists",
            next_step="name the labels with --label if coordinates are whole numbers",
        )
    table = np.stack([columns.pop(name) for name in chosen], axis=1).astype(np.float64)
    span = chosen[0] if len(chosen) == 1 else f"{chosen[0]} … {chosen[-1]}"
    return table, columns, [f"points: {len(chosen)} columns of numbers, {span}"]


def _kind(value: NDArray[Any]) -> str:
    return {"O": "text", "b": "true or false", "i": "whole numbers", "u": "whole numbers"}.get(
        value.dtype.kind, str(value.dtype)
    )


def _csv(path: Path) -> Columns:
    import pandas as pd

    try:
        frame = pd.read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else ",")
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path.name} cannot be read as a table",
            got=" ".join(str(error).split())[:150],
            wanted="UTF-8 text: a line of names, then rows of one length",
            next_step="mend that place",
        ) from error
    if len(frame) == 0:
        raise InputError(
            f"{path.name}: the table has no rows",
            got=f"columns {some_of([str(name) for name in frame.columns])}",
            wanted="a row for every point",
        )
    return {
        str(name): frame[name].to_numpy(
            dtype=None if frame[name].dtype.kind in "biuf" else np.object_
        )
        for name in frame.columns
    }


def _parquet(path: Path) -> tuple[Columns, Columns]:
    arrow = require("pyarrow", extra="parquet")
    parquet = require("pyarrow.parquet", extra="parquet")
    try:
        table = parquet.ParquetFile(path).read()
    except (arrow.ArrowException, ValueError, OSError) as error:
        raise InputError(
            f"{path.name} cannot be read as Parquet",
            got=" ".join(str(error).split())[:150],
            wanted="a Parquet file",
            next_step="write the file again",
        ) from error
    if table.num_rows == 0:
        raise InputError(
            f"{path.name}: the table has no rows",
            got=f"columns {some_of(table.column_names)}",
            wanted="a row for every point",
        )
    lists: Columns = {}
    columns: Columns = {}
    for name in table.column_names:
        kind = table.schema.field(name).type
        column = table.column(name).combine_chunks()
        if any(
            test(kind)
            for test in (
                arrow.types.is_list,
                arrow.types.is_large_list,
                arrow.types.is_fixed_size_list,
            )
        ):
            lists[name] = _vectors(arrow, path, name, column)
        elif arrow.types.is_integer(kind) or arrow.types.is_floating(kind):
            columns[name] = column.to_numpy(zero_copy_only=False)
        else:
            columns[name] = np.array(column.to_pylist(), dtype=np.object_)
    return lists, columns


def _vectors(arrow: Any, path: Path, name: str, column: Any) -> NDArray[Any]:
    """A column of lists of numbers, all equally long."""
    if isinstance(column, arrow.ChunkedArray):
        column = column.chunk(0)
    values = column.flatten()
    length = len(values) // len(column)
    lengths = {None if row is None else len(row) for row in column.to_pylist()[:1]}
    is_even = column.null_count == 0 and lengths == {length} and length > 0
    if is_even and not arrow.types.is_fixed_size_list(column.type):
        steps = np.diff(column.offsets.to_numpy())
        is_even = bool(np.all(steps == length))
    if not is_even or values.null_count:
        raise InputError(
            f"{path.name}: the lists of {name!r} are not equally long numbers",
            wanted="a vector for every row",
        )
    numbers = values.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind not in "iuf":
        raise InputError(
            f"{path.name}: the lists of {name!r} are not numbers",
            got="text or lists" if numbers.dtype.kind == "O" else str(numbers.dtype),
            wanted="a vector of numbers for every row",
        )
    return np.asarray(numbers).reshape(len(column), length)
