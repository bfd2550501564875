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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError
from critwin.theory._dataset_images import read_folder
from critwin.theory._dataset_tables import read_embeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LabelledData", "read_dataset"]

_POINTS = ("x", "images", "points", "embeddings")
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
        raise InputError("a size is for images of a folder, at least 1 pixel", got=size)
    if points is not None and is_folder:
        raise InputError("the points of a folder are its images", got=points)
    found: tuple[NDArray[Any], dict[str, NDArray[Any]], list[str]]
    if is_folder:
        found = read_folder(place, size=size)
    elif place.suffix.lower() == ".npz":
        found = _read_npz(place, points)
    elif place.suffix.lower() in (".parquet", ".pq", ".csv", ".tsv"):
        known = [*(labels or ()), *([weights] if weights else [])]
        found = read_embeddings(place, points=points, apart=known, is_labelled=labels is not None)
    else:
        raise InputError(
            "unknown kind of data set",
            got=place.name,
            wanted=".npz, .parquet, .csv, .tsv, or a folder of images",
        )
    table, columns, notes = found
    mass = None
    if weights is not None:
        mass = columns.pop(_known(place, columns, [weights])[0])
        if mass.dtype.kind not in "iuf":
            raise InputError(f"{place.name}: weights are not numbers", got=weights)
    if labels is not None:
        chosen = {name: columns[name] for name in _known(place, columns, labels)}
    else:
        chosen, left_out = _labels_of(columns, len(table))
        notes = [*notes, *left_out]
    if not chosen:
        raise InputError(
            f"{place.name}: no column of labels",
            got=f"columns {', '.join(columns) or '(none)'}",
            wanted="text or whole numbers that repeat",
            next_step="name one with --label" if columns else None,
        )
    if table.dtype == np.uint8:
        table = table.astype(np.float32) / np.float32(127.5) - np.float32(1)
        notes = ["bytes were scaled from 0 … 255 to -1 … 1", *notes]
    return LabelledData(
        points=table, labels=chosen, weights=mass, origin=place.name, notes=tuple(notes)
    )


def _read_npz(
    path: Path, points: str | None
) -> tuple[NDArray[Any], dict[str, NDArray[Any]], list[str]]:
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
            arrays = {name: file[name] for name in file.files}
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{path.name} cannot be read as .npz", got=_first(error)) from error
    except ValueError as error:
        raise InputError(
            f"{path.name} cannot be read without pickle",
            got=_first(error),
            next_step="save labels as numbers or as text (dtype str, not object)",
        ) from error
    tables = [name for name, value in arrays.items() if value.ndim >= 2]
    if points is None:
        named = [name for name in _POINTS if name in tables] or tables
        if len(named) != 1 and not (named and named[0] in _POINTS):
            raise InputError(
                f"{path.name}: which array holds the points?",
                got=", ".join(f"{k} {v.shape}" for k, v in arrays.items()) or "no arrays",
                wanted="one called x, images, points or embeddings",
            )
        points = named[0]
    elif points not in arrays:
        raise InputError(
            f"{path.name}: no such array", got=points, wanted=f"one of {', '.join(arrays)}"
        )
    table = arrays[points]
    columns = {
        name: value
        for name, value in arrays.items()
        if name != points and value.ndim == 1 and len(value) == len(table)
    }
    rest = [name for name in arrays if name != points and name not in columns]
    notes = [f"not used: {', '.join(rest)}"] if rest else []
    return table, columns, notes


def _labels_of(
    columns: Mapping[str, NDArray[Any]], num: int
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Columns that can be labels: text or whole numbers, at least two, not nearly all distinct."""
    chosen, left_out = {}, []
    for name, value in columns.items():
        is_text = value.dtype.kind in "OUSb"
        is_whole = value.dtype.kind in "iu" or (
            value.dtype.kind == "f" and bool(np.all(value == np.rint(value)))
        )
        distinct = len(set(value.tolist())) if is_text or is_whole else num
        if 2 <= distinct <= max(2, num // 2):
            chosen[name] = value
        else:
            left_out.append(name)
    notes = [f"not taken for labels: {', '.join(left_out)}"] if left_out else []
    return chosen, notes


def _known(path: Path, columns: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in columns:
            raise InputError(
                f"{path.name}: no such column",
                got=name,
                wanted=f"one of {', '.join(columns) or '(none)'}",
            )
    return list(names)


def _first(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
