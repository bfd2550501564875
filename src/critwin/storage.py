"""Records and transitions in files and tables: netCDF, xarray, pandas; lossless both ways.

Files are netCDF-4, written next to their place and moved there whole, with a digest of the
content that is checked when they are read. Nothing is pickled, in either direction, and a file
cannot make the reader open another one.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin import _datasets, _frames
from critwin.errors import InputError
from critwin.records import Records
from critwin.transitions import Transitions

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = [
    "from_dataframe",
    "from_xarray",
    "load_records",
    "load_transitions",
    "save_records",
    "save_transitions",
    "to_dataframe",
    "to_xarray",
]

MAX_BYTES = 8 * 2**30  # larger arrays than this in one file are no measurement of ours
_COMPRESS_FROM = 4096  # bytes
_MAGIC = b"\x89HDF\r\n\x1a\n"


def to_xarray(table: Records | Transitions) -> xr.Dataset:
    """A labelled dataset that :func:`from_xarray` turns back without loss.

    Args:
        table: Records (dimension ``row``) or transitions (``level, before, after, source``).

    Returns:
        The dataset, with ``t`` and ``sigma`` beside ``logsnr``.

    Raises:
        InputError: If ``attrs`` hold something that is not a plain value.
    """
    if isinstance(table, Records):
        return _datasets.records_dataset(table)
    return _datasets.transitions_dataset(table)


def from_xarray(dataset: xr.Dataset) -> Records | Transitions:
    """Records or transitions from a dataset of :func:`to_xarray`.

    Args:
        dataset: The dataset.

    Returns:
        What it holds.

    Raises:
        InputError: If it is not a dataset of critwin, or not complete.
    """
    if dataset.attrs.get("critwin_type") == "records":
        return _datasets.records_of(dataset)
    return _datasets.transitions_of(dataset)


def to_dataframe(table: Records | Transitions) -> pd.DataFrame:
    """A tidy table.

    Records: a row a unit, with ``<feature>.before``, ``<feature>.after``, ``planted.<name>``,
    ``values.<name>``. Transitions: a row a level and pair of labels, with ``prob`` (and
    ``stderr``); of counted ones a row a source, level and label after, with ``count``.

    Args:
        table: Records or transitions.

    Returns:
        The table; labels are categories. ``frame.attrs["critwin"]`` holds what has no column.

    Raises:
        InputError: If two columns would have the same name, or ``attrs`` are not plain.
    """
    if isinstance(table, Records):
        return _frames.records_frame(table)
    return _frames.transitions_frame(table)


def from_dataframe(frame: pd.DataFrame) -> Records | Transitions:
    """Records or transitions from a table of :func:`to_dataframe`.

    Without loss as long as ``frame.attrs`` survive; by the column names alone otherwise. Tables
    of other origin are read by :mod:`critwin.tables`.

    Args:
        frame: The table; a column ``prob`` makes it transitions.

    Returns:
        What it holds.

    Raises:
        InputError: If a column is missing or unusable.
    """
    if "prob" in frame.columns:
        return _frames.transitions_of_frame(frame)
    return _frames.records_of_frame(frame)


def save_records(
    records: Records, path: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write records to a netCDF file, whole or not at all.

    Args:
        records: Records.
        path: The file, by custom ``*.nc``; its folder must exist.
        overwrite: Replace an existing file.

    Returns:
        The path.

    Raises:
        InputError: If the file exists, cannot be written, or something is not storable.
    """
    return _write(_datasets.records_dataset(records), Path(path), overwrite=overwrite)


def load_records(path: str | os.PathLike[str]) -> Records:
    """Read records that :func:`save_records` wrote.

    Args:
        path: The file.

    Returns:
        The records.

    Raises:
        InputError: If there is no such file, or it is damaged, foreign or of another schema.
    """
    return _datasets.records_of(_read(Path(path), "records"))


def save_transitions(
    tr: Transitions, path: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write transitions to a netCDF file, whole or not at all.

    Args:
        tr: Transitions.
        path: The file, by custom ``*.nc``; its folder must exist.
        overwrite: Replace an existing file.

    Returns:
        The path.

    Raises:
        InputError: If the file exists, cannot be written, or something is not storable.
    """
    return _write(_datasets.transitions_dataset(tr), Path(path), overwrite=overwrite)


def load_transitions(path: str | os.PathLike[str]) -> Transitions:
    """Read transitions that :func:`save_transitions` wrote.

    Args:
        path: The file.

    Returns:
        The transitions.

    Raises:
        InputError: If there is no such file, or it is damaged, foreign or of another schema.
    """
    return _datasets.transitions_of(_read(Path(path), "transitions"))


def kind_of_file(path: Path) -> str | None:
    """``"records"`` or ``"transitions"`` for a file of critwin, else None.

    Raises:
        InputError: If the file cannot be read as netCDF at all.
    """
    found = open_netcdf(path).attrs.get("critwin_type")
    return found if found in ("records", "transitions") else None


def _write(dataset: xr.Dataset, path: Path, *, overwrite: bool) -> Path:
    if path.is_dir():
        raise InputError("cannot write to a folder", got=str(path), wanted="a file name")
    if path.exists() and not overwrite:
        raise InputError(
            "the file exists", got=str(path), next_step="choose another name, or overwrite it"
        )
    if not path.parent.is_dir():
        raise InputError("the folder does not exist", got=str(path.parent), next_step="create it")
    dataset.attrs["critwin_digest"] = _digest(dataset)
    encoding: dict[Any, dict[str, Any]] = {}
    for name, variable in dataset.variables.items():
        encoding[name] = {"_FillValue": None}
        if variable.dtype.kind in "fiub" and variable.nbytes >= _COMPRESS_FROM:
            encoding[name] |= {"zlib": True, "complevel": 4, "shuffle": True, "fletcher32": True}
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        dataset.to_netcdf(scratch, engine="h5netcdf", encoding=encoding)
        with scratch.open("rb") as handle:
            os.fsync(handle.fileno())
        scratch.replace(path)
    except OSError as error:
        raise InputError("the file cannot be written", got=f"{path}: {error}") from error
    finally:
        scratch.unlink(missing_ok=True)
    return path


def _read(path: Path, kind: str) -> xr.Dataset:
    dataset = open_netcdf(path)
    _datasets.read_header(dataset.attrs, kind)
    found = dataset.attrs.get("critwin_digest")
    if found != _digest(dataset):
        raise InputError(
            f"{path.name}: the content does not have the digest that was written with it",
            got="a damaged or edited file",
            next_step="use the original; an edited dataset can be read with from_xarray",
        )
    return dataset


def open_netcdf(path: Path) -> xr.Dataset:
    """Any netCDF-4 file, read whole, checked against links and absurd sizes.

    Raises:
        InputError: If it cannot be read.
    """
    import xarray as xr

    if not path.is_file():
        raise InputError("no such file", got=str(path), wanted="a netCDF file")
    try:
        with path.open("rb") as handle:
            magic = handle.read(len(_MAGIC))
    except OSError as error:
        raise InputError("the file cannot be read", got=f"{path}: {error.strerror}") from error
    if magic != _MAGIC:
        raise InputError(
            "not a netCDF-4 file", got=str(path), wanted="a file written by critwin, or netCDF-4"
        )
    try:
        _check_inside(path)
        with xr.open_dataset(
            path, engine="h5netcdf", decode_times=False, mask_and_scale=False
        ) as dataset:
            return dataset.load()
    except InputError:
        raise
    except Exception as error:  # a damaged file makes HDF5 and its readers raise anything
        raise InputError(
            "the netCDF file cannot be read, it is damaged or not complete",
            got=f"{path.name}: {error}",
            next_step="use another copy",
        ) from error


def _check_inside(path: Path) -> None:
    """Refuse absurd sizes, and links or outside storage, which would read other files."""
    import h5py

    size = 0

    with h5py.File(path, "r") as file:

        def visit(group: h5py.Group) -> None:
            nonlocal size
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise InputError("the file links elsewhere", got=f"{path.name}: {name}")
                item = group[name]
                if isinstance(item, h5py.Group):
                    visit(item)
                elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                    raise InputError("the file holds its data elsewhere", got=path.name)

                size += int(getattr(item, "nbytes", 0))

        visit(file)
    if size > MAX_BYTES:
        raise InputError(
            "the file claims to hold too much",
            got=f"{size / 2**30:.0f} GiB",
            wanted=f"at most {MAX_BYTES / 2**30:.0f} GiB",
        )


def _digest(dataset: xr.Dataset) -> str:
    """SHA-256 of everything that is read back."""
    hasher = hashlib.sha256()
    for name in ("critwin_schema", "critwin_type", "critwin"):
        hasher.update(f"{name}={dataset.attrs.get(name)}\0".encode())
    for name in sorted(map(str, dataset.variables)):
        variable = dataset.variables[name]
        values = np.asarray(variable.values)
        hasher.update(f"{name}{variable.dims}{values.shape}\0".encode())
        if values.dtype.kind in "OUT":
            hasher.update("\0".join(map(str, values.ravel().tolist())).encode())
        else:
            hasher.update(np.ascontiguousarray(values).tobytes())
    return hasher.hexdigest()
