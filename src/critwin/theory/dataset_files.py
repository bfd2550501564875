"""Labelled data sets from files: ``.npz``, image folders, tables of embeddings. Never pickle.

* ``.npz``: the points under ``x``, ``images``, ``points`` or ``embeddings`` (or the only array of
  two or more axes), a one-dimensional array for each column of labels;
* an image folder: ``metadata.csv`` with ``file_name`` and label columns, or a subfolder a class;
* ``.parquet``, ``.csv`` or ``.tsv``: the points in one column of lists or in many columns of
  numbers, labels in the others.

Bytes (uint8) are images: they are scaled to [-1, 1], as diffusion models work with them, and the
result says so. Everything else is taken as it is.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from critwin._texts import did_you_mean, some_of
from critwin.errors import InputError
from critwin.theory._dataset_images import read_folder
from critwin.theory._dataset_tables import read_embeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LabelledData", "read_dataset"]

_POINTS = ("x", "images", "points", "embeddings")
_TABLES = (".parquet", ".pq", ".csv", ".tsv")
_MAX_BYTES = 16 * 2**30


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledData:
    """What a file holds.

    Attributes:
        points: Shape ``(N, D)`` or images ``(N, ...)``.
        labels: Column -> labels, each of shape ``(N,)``.
        weights: How often each point counts, shape ``(N,)``, or None.
        origin: What messages call it.
        notes: What was done to it, and what was left out.
    """

    points: NDArray[Any]
    labels: Mapping[str, NDArray[Any]]
    weights: NDArray[Any] | None
    origin: str
    notes: tuple[str, ...] = ()


def read_dataset(
    path: str | Path,
    *,
    labels: Sequence[str] | None = None,
    points: str | None = None,
    weights: str | None = None,
    size: int | None = None,
) -> LabelledData:
    """Read a labelled data set.

    Args:
        path: A file ``.npz``, ``.parquet``, ``.csv`` or ``.tsv``, or a folder of images.
        labels: Columns of labels; all that can be labels unless given.
        points: Array or column of the points, where it cannot be told.
        weights: Array or column of weights (repeats).
        size: Images of a folder are resized to this many pixels on each side.

    Returns:
        The data set.

    Raises:
        InputError: If it cannot be read, or what was asked for is not in it.
    """
    place = Path(path)
    if not place.exists():
        raise InputError(
            "no such file", got=str(path), wanted="a .npz, a table, or a folder of images"
        )
    is_folder = place.is_dir()
    if size is not None and (not is_folder or size < 1):
        raise InputError(
            "a size is for images of a folder, at least 1 pixel",
            got=f"size {size} for {place.name}",
            wanted="a whole number >= 1 with a folder",
        )
    if points is not None and is_folder:
        raise InputError(
            "the points of a folder are its images",
            got=points,
            wanted="no name of points",
            next_step="leave --points out",
        )
    if is_folder:
        found = _Found(*read_folder(place, size=size), "the images", {})
    elif place.suffix.lower() == ".npz":
        found = _read_npz(place, points)
    elif place.suffix.lower() in _TABLES:
        known = [*(labels or ()), *([weights] if weights else [])]
        read = read_embeddings(place, points=points, apart=known, is_labelled=labels is not None)
        found = _Found(*read, "the points", {})
    else:
        raise InputError(
            "unknown kind of data set",
            got=place.name,
            wanted=".npz, .parquet, .csv, .tsv, or a folder of images",
        )
    table, columns, notes = found.table, found.columns, found.notes
    if len(table) < 2:
        raise InputError(
            f"{place.name} holds {'a single point' if len(table) else 'no points'}",
            got=f"{found.name} of shape {table.shape}",
            wanted="at least two points with their labels",
        )
    mass = None
    if weights is not None and weights in (labels or ()):
        raise InputError(
            "a column cannot be labels and weights at once",
            got=weights,
            wanted="another column for one of them",
        )
    if weights is not None:
        mass = columns.pop(_known(place, found, [weights])[0])
        if mass.dtype.kind not in "iuf":
            raise InputError(
                f"{place.name}: weights are not numbers",
                got=weights,
                wanted="a column that says how often each point counts",
            )
    if labels is not None:
        chosen = {name: columns[name] for name in _known(place, found, labels)}
    else:
        unfit = {name: why for name in columns if (why := _unfit(columns[name])) is not None}
        chosen = {name: value for name, value in columns.items() if name not in unfit}
        if not chosen:
            raise _no_labels(place, found.name, {**unfit, **found.unfit})
        if unfit:
            notes = [*notes, f"not taken for labels: {', '.join(unfit)}"]
    if table.dtype == np.uint8:
        table = table.astype(np.float32) / np.float32(127.5) - np.float32(1)
        notes = ["bytes were scaled from 0 … 255 to -1 … 1", *notes]
    return LabelledData(
        points=table, labels=chosen, weights=mass, origin=place.name, notes=tuple(notes)
    )


class _Found(NamedTuple):
    """What a reader found."""

    table: NDArray[Any]
    columns: dict[str, NDArray[Any]]  # of one entry for each point
    notes: list[str]
    name: str  # what messages call the points
    unfit: dict[str, str]  # what cannot be a column -> why


def _read_npz(path: Path, points: str | None) -> _Found:
    arrays = _arrays(path)
    tables = [name for name, value in arrays.items() if value.ndim >= 2]
    if points is None:
        named = [name for name in _POINTS if name in tables] or tables
        if len(named) != 1 and not (named and named[0] in _POINTS):
            raise InputError(
                f"{path.name}: which array holds the points?",
                got=_some([f"{k} {v.shape}" for k, v in arrays.items()]),
                wanted="one of two or more axes called x, images, points or embeddings",
                next_step="name it with --points" if named else None,
            )
        points = named[0]
    elif points not in arrays:
        raise InputError(
            f"{path.name}: no such array",
            got=points or "an empty name",
            wanted=f"one of {_some(list(arrays))}",
            next_step=did_you_mean(points, arrays),
        )
    table = arrays.pop(points)
    if table.ndim < 2 or table.dtype.kind not in "biuf":
        raise InputError(
            f"{path.name}: points are not a table of numbers",
            got=f"{points} of shape {table.shape}, {table.dtype}",
            wanted="numbers of shape (N, D)",
        )
    num = len(table)
    columns = {k: v for k, v in arrays.items() if v.ndim == 1 and len(v) == num}
    unfit = {
        name: f"{len(value)} entries; wanted {num}, one for each row of {points}"
        if value.ndim == 1
        else f"{value.ndim} axes; wanted one"
        for name, value in arrays.items()
        if name not in columns
    }
    notes = [f"not used: {', '.join(unfit)}"] if unfit else []
    return _Found(table, columns, notes, points, unfit)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
        if total > _MAX_BYTES:
            raise InputError(
                f"{path.name} is too large",
                got=f"{total / 2**30:.1f} GiB",
                wanted="at most 16 GiB",
            )
        with np.load(path, allow_pickle=False) as file:
            names = list(file.files)
            found = {name: file[name] for name in names}
    except (
        OSError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        if "pickle" not in str(error):
            raise _unreadable(path, error) from error
        raise InputError(
            f"{path.name} cannot be read without pickle",
            got=_first(error),
            wanted="numbers or text",
            next_step="save labels as numbers or as text (dtype str, not object)",
        ) from error
    arrays = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
    if not arrays:
        raise InputError(
            f"{path.name} holds no arrays", got=_some(names), wanted="arrays as numpy.savez writes"
        )
    return arrays


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path.name} cannot be read",
        got=_first(error),
        wanted="arrays as numpy.savez writes",
        next_step="write the file again",
    )


def _unfit(value: NDArray[Any]) -> str | None:
    """Why a column is not taken for labels, or None if it is.

    Labels are text or whole numbers, at least two different ones, and not nearly all different.
    """
    kind, num = value.dtype.kind, len(value)
    if kind == "f" and np.any(odd := ~(value == np.rint(value)) | ~np.isfinite(value)):
        row = int(np.flatnonzero(odd)[0])
        return f"{value[row]:.6g} in row {row}"
    if kind not in "OUSbiuf":
        return f"values of type {value.dtype}"
    distinct = len(set(value.tolist()))
    if distinct == 1:
        return f"{value[0] if str(value[0]).strip() else 'nothing'} in every row"
    if distinct > max(2, num // 2):
        return f"{distinct} different labels of {num} points"
    return None


def _no_labels(path: Path, points: str, unfit: Mapping[str, str]) -> InputError:
    """Nothing can be labels: why each candidate was refused."""
    wanted = "text or whole numbers that repeat, of two labels or more"
    if not unfit:
        return InputError(
            f"{path.name}: no labels beside the points",
            got=f"{points} alone",
            wanted=f"an array or column with one label for each point: {wanted}",
            next_step="name the column with --label" if path.suffix in _TABLES else None,
        )
    if len(unfit) == 1:
        ((name, why),) = unfit.items()
        return InputError(
            f"{path.name}: {name!r} are no labels",
            got=why,
            wanted=None if "wanted" in why else wanted,
            next_step=f"use it all the same with --label {name}" if "differ" in why else None,
        )
    shown = [f"{name!r} ({why.partition(';')[0]})" for name, why in list(unfit.items())[:4]]
    return InputError(
        f"{path.name}: no column of labels",
        got=", ".join(shown) + (f" and {len(unfit) - 4} more" if len(unfit) > 4 else ""),
        wanted=wanted,
        next_step="name one with --label",
    )


def _known(path: Path, found: _Found, names: Sequence[str]) -> list[str]:
    for name in names:
        if name in found.unfit:
            raise InputError(f"{path.name}: {name!r} cannot be used", got=found.unfit[name])
        if name not in found.columns:
            raise InputError(
                f"{path.name}: no such column",
                got=name or "an empty name",
                wanted=f"one of {_some(list(found.columns))}",
                next_step=did_you_mean(name, found.columns),
            )
    return list(names)


def _some(names: Sequence[str]) -> str:
    return some_of(names) or "(none)"


def _first(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
