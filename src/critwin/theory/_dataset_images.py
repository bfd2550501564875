"""Folders of labelled images: ``metadata.csv``, or a subfolder for each class."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._texts import some_of
from critwin.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
_GREY = {"1", "L"}
_MAX_BYTES = 8 * 2**30


def read_folder(
    folder: Path, *, size: int | None
) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]], list[str]]:
    """Images as bytes with their labels.

    Args:
        folder: The folder.
        size: Pixels on each side to resize to, or None: all must be of one size.

    Returns:
        Images ``(N, H, W, C)``, columns of labels, notes.

    Raises:
        InputError: If there are no images, or one cannot be read or differs in size.
    """
    files, columns = _metadata(folder) if (folder / "metadata.csv").exists() else _classes(folder)
    notes = []
    from PIL import Image as pictures

    opened = [_open(pictures, file) for file in files]
    mode = "L" if all(kind in _GREY for kind, _ in opened) else "RGB"
    sizes = {shape for _, shape in opened}
    if size is not None:
        notes.append(f"images were resized to {size} x {size} pixels")
        shape = (size, size)
    elif len(sizes) > 1:
        odd = next(k for k, (_, shape) in enumerate(opened) if shape != opened[0][1])
        raise InputError(
            f"images differ in size: {files[odd].name}",
            got="{} x {}".format(*opened[odd][1]),
            wanted="{} x {}".format(*opened[0][1]),
            next_step="give --size to resize them all",
        )
    else:
        shape = opened[0][1]
    depth = 1 if mode == "L" else 3
    if (total := len(files) * shape[0] * shape[1] * depth) > _MAX_BYTES:
        raise InputError(
            "the images are too large",
            got=f"{total / 2**30:.1f} GiB",
            wanted=f"at most {_MAX_BYTES / 2**30:g} GiB",
            next_step="give a smaller --size",
        )
    out = np.empty((len(files), shape[1], shape[0], depth), dtype=np.uint8)
    for k, file in enumerate(files):
        try:
            with pictures.open(file) as image:
                flat = image.convert(mode)
                if flat.size != shape:
                    flat = flat.resize(shape, pictures.Resampling.LANCZOS)
                out[k] = np.asarray(flat).reshape(out.shape[1:])
        except (OSError, ValueError, SyntaxError) as error:
            raise _unreadable(file, error) from error
    return out, columns, notes


def _open(pictures: Any, file: Path) -> tuple[str, tuple[int, int]]:
    try:
        with pictures.open(file) as image:
            return str(image.mode), (int(image.size[0]), int(image.size[1]))
    except (OSError, ValueError, SyntaxError, pictures.DecompressionBombError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> InputError:
    return InputError(
        f"{file.name} cannot be read as an image",
        got=(" ".join(str(error).split()) or type(error).__name__)[:120],
        wanted="a picture, e.g. PNG or JPEG",
        next_step="mend it or leave it out",
    )


def _metadata(folder: Path) -> tuple[list[Path], dict[str, NDArray[Any]]]:
    try:
        with (folder / "metadata.csv").open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle, strict=True)
            rows = list(reader)
            names = list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            "metadata.csv cannot be read",
            got=str(error),
            wanted="UTF-8 text: file_name and labels, then a row for every image",
        ) from error
    if "file_name" not in names or not rows:
        raise InputError(
            "metadata.csv names no images",
            got=f"columns {', '.join(names) or '(none)'}, {len(rows)} rows",
            wanted="a column file_name and columns of labels",
        )
    root, files = folder.resolve(), []
    for number, row in enumerate(rows):
        cells = [value for key, value in row.items() if key is not None and value is not None]
        if len(cells) < len(names) or None in row:
            raise InputError(
                f"metadata.csv, row {number + 1}: wrong number of cells",
                got=len(cells) + len(row.get(None, ())),
                wanted=f"{len(names)}, one for each of {some_of(names)}",
            )
        file = (folder / row["file_name"]).resolve()
        if not file.is_relative_to(root) or not file.is_file():
            raise InputError(
                f"metadata.csv, row {number + 1}: no such image in the folder",
                got=row["file_name"],
                wanted="the path of an image from the folder",
            )
        files.append(file)
    columns = {
        name: np.array([row[name] for row in rows], dtype=np.str_)
        for name in names
        if name != "file_name"
    }
    return files, columns


def _classes(folder: Path) -> tuple[list[Path], dict[str, NDArray[Any]]]:
    files, labels = [], []
    for part in sorted(place for place in folder.iterdir() if place.is_dir()):
        found = sorted(f for f in part.iterdir() if f.suffix.lower() in _ENDINGS and f.is_file())
        files += found
        labels += [part.name] * len(found)
    if not files:
        raise InputError(
            "no labelled images in the folder",
            got=str(folder),
            wanted="metadata.csv with file_name and labels, or a subfolder of images a class",
        )
    return files, {"class": np.array(labels, dtype=np.str_)}
