"""Images of others: one file as an array, and what a folder's metadata say about its files.

How an image becomes an array in ``[0, 1]``, in this order:

- A file larger than Pillow's limit of pixels, truncated, animated, or in 32-bit or floating-point
  grey is refused. Of a JPEG with several pictures (MPO) the first is taken.
- The EXIF orientation is applied.
- 16-bit grey is divided by 65535; 16-bit colours keep their upper 8 bits. Palettes, CMYK, YCbCr
  and other modes become RGB as Pillow converts them, without their colour profile.
- Transparent pixels are laid over white.
- ``fit = "crop"``: the image is resized, its proportions kept, until it just covers the wanted
  size, and the middle is taken. ``"stretch"``: it is resized to the size as it is. ``"exact"``:
  another size is refused. Resizing is Lanczos with antialiasing.
"""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from math import isfinite
from pathlib import Path
from posixpath import normpath
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["FITS", "IMAGE_SUFFIXES", "METADATA", "Entry", "image_files", "read_image"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Endings of the files that are read as images."""

FITS = ("crop", "stretch", "exact")
"""Ways to bring an image to a size, the default first."""

METADATA = ("metadata.csv", "metadata.jsonl")
"""Files that say something about the images of a folder."""

_CAPTIONS = ("text", "caption")
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_MAX_METADATA = 256 * 2**20
_MAX_TEXT = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An image file of a folder.

    Attributes:
        path: The file.
        name: Its path inside the folder, with ``/``.
        caption: What the metadata say it shows; None if they say nothing.
        facts: The other columns of the metadata, as text.
    """

    path: Path
    name: str
    caption: str | None = None
    facts: tuple[tuple[str, str], ...] = ()


def image_files(folder: str | Path) -> list[Entry]:
    """Images of a folder, with what its metadata say.

    ``metadata.csv`` or ``metadata.jsonl`` names files (``file_name``, which may lie in folders
    below) and may caption them (``text`` or ``caption``; empty is no caption); its other columns
    are facts. Without either, the PNG and JPEG files of the folder itself are listed.

    Args:
        folder: The folder.

    Returns:
        The images, sorted by name.

    Raises:
        InputError: If the folder or the metadata cannot be read, a row names no image inside the
            folder or one twice, or an image of the folder has no row.
    """
    root = Path(folder)
    try:
        inside = sorted(f for f in root.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
        given = [root / name for name in METADATA if (root / name).is_file()]
    except OSError as error:
        raise InputError(
            "cannot read the folder of images",
            got=f"{folder} ({error.strerror})",
            wanted="a folder with PNG or JPEG files",
        ) from error
    if not given:
        return [Entry(path=file, name=file.name) for file in inside]
    if len(given) > 1:
        raise InputError(
            f"two tables of metadata in {folder}",
            got=" and ".join(METADATA),
            next_step="keep one of them",
        )
    entries: dict[str, Entry] = {}
    for number, row in enumerate(_rows(given[0]), start=1):
        entry = _entry(root, row, f"{given[0].name}, row {number}")
        if entry.name in entries:
            raise InputError(f"{given[0].name} names an image twice", got=entry.name)
        entries[entry.name] = entry
    for file in inside:
        if file.name not in entries:
            raise InputError(
                f"an image has no row in {given[0].name}",
                got=file.name,
                next_step="add a row, or move the image out of the folder",
            )
    return [entries[name] for name in sorted(entries)]


def read_image(
    path: str | Path,
    *,
    channels: int = 3,
    size: tuple[int, int] | None = None,
    fit: str = "crop",
) -> NDArray[np.float32]:
    """One image as numbers; see the top of this module for each step.

    Args:
        path: The file.
        channels: 1 (grey) or 3 (RGB).
        size: Wanted height and width in pixels; the image's own if None.
        fit: One of :data:`FITS`.

    Returns:
        The image in ``[0, 1]``, float32, shape ``(channels, H, W)``.

    Raises:
        InputError: If it cannot be read or is of a kind that is refused.
    """
    if fit not in FITS:
        raise InputError(
            "unknown way to fit an image", got=fit, wanted="one of " + ", ".join(FITS)
        )
    from PIL import Image, ImageOps

    name = Path(path).name
    try:
        with warnings.catch_warnings(), Image.open(path) as opened:
            # the limit is checked when a file is opened, before its pixels are
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            _check_kind(opened, name)
            image = ImageOps.exif_transpose(opened)
            plain = _plain(image, channels)
            pixels = _fitted(plain, size, fit, name)
    except InputError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _too_large(name) from error
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise InputError(
            f"cannot read image {name!r}",
            got=_reason(error, str(path)),
            wanted="a PNG or JPEG file",
        ) from error
    array = np.asarray(pixels, dtype=np.float32)
    array = array / np.float32(1.0 if pixels.mode == "F" else 255.0)
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    if pixels.mode == "F":  # Lanczos overshoots at edges
        array = np.broadcast_to(np.clip(array, 0.0, 1.0), (channels, *array.shape[1:]))
    return np.ascontiguousarray(array)


def _reason(error: Exception, path: str) -> str:
    """Why a file is no image, in words; what Pillow says of damage is told as it is."""
    if isinstance(error, OSError) and error.strerror:
        return f"{path} ({error.strerror})"
    if type(error).__name__ == "UnidentifiedImageError":
        return f"{path}, which is no image of a known kind"
    return f"{path} ({' '.join(str(error).split()) or type(error).__name__})"


def _check_kind(image: Image, name: str) -> None:
    from PIL import Image as pictures

    limit = pictures.MAX_IMAGE_PIXELS
    if limit is not None and image.size[0] * image.size[1] > limit:
        raise _too_large(name)
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise InputError(
            f"image {name!r} is animated",
            got=f"{image.n_frames} frames",  # type: ignore[attr-defined]
            wanted="one picture a file",
            next_step="save the frame that is meant",
        )
    if image.mode in ("I", "F"):
        raise InputError(
            f"image {name!r} has numbers of an unknown range",
            got=f"mode {image.mode}",
            wanted="8 or 16 bits a channel",
            next_step="save it with 8 bits a channel",
        )


def _plain(image: Image, channels: int) -> Image:
    """Grey or RGB with 8 bits a channel, or mode F in ``[0, 1]`` for 16-bit grey."""
    from PIL import Image as pictures

    if image.mode in _SIXTEEN_BIT:  # Pillow's own conversion would clip it at 255
        image.load()
        return pictures.fromarray(np.asarray(image).astype(np.float32) / np.float32(65535))
    if image.has_transparency_data:
        over = pictures.new("RGBA", image.size, "white")
        over.alpha_composite(image.convert("RGBA"))
        image = over
    return image.convert("L" if channels == 1 else "RGB")


def _fitted(image: Image, size: tuple[int, int] | None, fit: str, name: str) -> Image:
    if size is None or image.size == (size[1], size[0]):
        return image
    height, width = size
    if fit == "exact":
        raise InputError(
            f"image {name!r} has the wrong size",
            got=f"{image.size[0]} x {image.size[1]} pixels",
            wanted=f"{width} x {height}",
            next_step="resize it, or let it be cropped",
        )
    from PIL.Image import Resampling

    box = None
    if fit == "crop":
        scale = min(image.size[0] / width, image.size[1] / height)
        left = (image.size[0] - scale * width) / 2
        top = (image.size[1] - scale * height) / 2
        box = (left, top, image.size[0] - left, image.size[1] - top)
    return image.resize((width, height), Resampling.LANCZOS, box=box)


def _too_large(name: str) -> InputError:
    from PIL import Image

    return InputError(
        f"image {name!r} is too large",
        wanted=f"at most {Image.MAX_IMAGE_PIXELS} pixels",
        next_step="make it smaller first",
    )


def _rows(file: Path) -> Iterator[Mapping[str, Any]]:
    """Rows of a table of metadata, each a mapping with ``file_name``."""
    try:
        if file.stat().st_size > _MAX_METADATA:
            raise InputError(f"{file.name} is too large", wanted="at most 256 MB")
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file.name}", got=str(error), wanted="UTF-8") from error
    rows: list[Mapping[str, Any]] = []
    try:
        if file.suffix == ".csv":
            rows = list(csv.DictReader(StringIO(text, newline=""), strict=True))
        else:
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (csv.Error, ValueError, RecursionError) as error:
        raise InputError(
            f"{file.name} cannot be read", got=f"{type(error).__name__}: {error}"
        ) from error
    if not rows:
        raise InputError(f"{file.name} names no images", wanted="a row for every image")
    for number, row in enumerate(rows, start=1):
        is_row = isinstance(row, dict) and isinstance(row.get("file_name"), str)
        if not is_row or None in row or (file.suffix == ".csv" and None in row.values()):
            raise InputError(
                f"{file.name}, row {number}: not a row of metadata",
                wanted="file_name, and a value for every column",
            )
        yield row


def _entry(root: Path, row: Mapping[str, Any], place: str) -> Entry:
    name = normpath(row["file_name"])
    try:
        file = root / name
        is_inside = file.resolve().is_relative_to(root.resolve())
        is_image = is_inside and file.is_file() and file.suffix.lower() in IMAGE_SUFFIXES
    except (OSError, ValueError, RuntimeError):
        is_image = False
    if not is_image or Path(name).is_absolute():
        raise InputError(
            f"{place}: no such image in the folder",
            got=row["file_name"],
            wanted="the path of a PNG or JPEG file inside the folder",
        )
    columns = {key: _text(value, f"{place}, {key}") for key, value in row.items()}
    captions = [columns[key] for key in _CAPTIONS if key in columns]
    if len(captions) > 1:
        raise InputError(f"{place}: both text and caption", next_step="keep one of the columns")
    return Entry(
        path=file,
        name=name,
        caption=(captions[0].strip() or None) if captions else None,
        facts=tuple(
            (key, value)
            for key, value in columns.items()
            if value and key not in ("file_name", *_CAPTIONS)
        ),
    )


def _text(value: Any, place: str) -> str:
    """A cell as text; what has no text that every store accepts is refused."""
    if value is None:
        return ""
    is_number = isinstance(value, int | float) and isfinite(value)  # true and false too
    text = json.dumps(value) if is_number else value
    if (
        not isinstance(text, str)
        or len(text) > _MAX_TEXT
        or not all(c.isprintable() or c == "\n" for c in text)
    ):
        raise InputError(
            f"{place}: cannot be used",
            got=value,
            wanted=f"text of at most {_MAX_TEXT} printable characters, or a finite number",
        )
    return text
