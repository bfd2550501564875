"""Files of a run folder: written under a temporary name, synced, renamed, and digested."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from critwin.errors import RunFolderError

__all__ = [
    "MANIFEST_NAME",
    "digest_bytes",
    "digest_of_file",
    "image_path",
    "manifest_problems",
    "png",
    "read_manifest",
    "remove_unused",
    "write_atomic",
    "write_manifest",
]

MANIFEST_NAME = "manifest.sha256"
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or none, whatever happens meanwhile.

    Args:
        path: The file; its folder is created.
        data: Its content.

    Raises:
        RunFolderError: If it cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RunFolderError(
            f"cannot write {str(path)!r}",
            got=error.strerror or type(error).__name__,
            wanted="a folder that can be written to",
            next_step="free some space there, and run the command again"
            if error.errno in _FULL
            else "make it writable or choose another place, and run the command again",
        ) from error


def image_path(source: str, level: float | None) -> str:
    """Where an image of the gallery lies in the run folder.

    Args:
        source: Name of the source, any text; names that are not plain are digested.
        level: Requested logsnr, or None: the source itself.

    Returns:
        A relative path with forward slashes.
    """
    is_plain = _SAFE_NAME.fullmatch(source)
    name = source if is_plain else "x" + hashlib.sha256(source.encode()).hexdigest()[:20]
    return f"images/{name}/{'source' if level is None else f'logsnr_{level + 0.0:.6f}'}.png"


def png(image: Any) -> bytes:
    """An image as PNG.

    Args:
        image: Shape ``(C, H, W)`` in ``[0, 1]`` with one or three channels; values outside are
            clipped.

    Returns:
        The bytes of the file.
    """
    from PIL import Image

    pixels = np.asarray(image.float().cpu().numpy() if hasattr(image, "cpu") else image)
    pixels = np.clip(np.rint(np.nan_to_num(pixels) * 255.0), 0, 255).astype(np.uint8)
    picture = Image.fromarray(
        pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    )
    stream = io.BytesIO()
    picture.save(stream, format="PNG", compress_level=4)
    return stream.getvalue()


def digest_bytes(data: bytes) -> str:
    """SHA-256 of bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(folder: Path, digests: Mapping[str, str]) -> None:
    """Write the manifest, in the format of ``sha256sum``.

    Args:
        folder: The run folder.
        digests: Relative path -> SHA-256.

    Raises:
        RunFolderError: If it cannot be written.
    """
    text = "".join(f"{digest}  {path}\n" for path, digest in sorted(digests.items()))
    write_atomic(folder / MANIFEST_NAME, text.encode())


def read_manifest(folder: Path) -> dict[str, str] | None:
    """Read the manifest.

    Args:
        folder: The run folder.

    Returns:
        Relative path -> SHA-256; None if there is no manifest.

    Raises:
        RunFolderError: If a line is not one of a manifest, or leads out of the folder.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return None
    digests = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _LINE.fullmatch(line)
        if match is None or not _is_inside(match[2]):
            raise RunFolderError("the manifest is damaged", got=line[:80])
        digests[match[2]] = match[1]
    return digests


def manifest_problems(folder: Path, digests: Mapping[str, str]) -> Iterator[str]:
    """Files that are missing or differ from their digests.

    Args:
        folder: The run folder.
        digests: Relative path -> SHA-256.

    Yields:
        One line a problem.
    """
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            yield f"{name}: missing"
        elif digest_of_file(path) != digest:
            yield f"{name}: the content has changed"


def remove_unused(folder: Path) -> None:
    """Remove what a run makes before its first result; the folder must be locked.

    Args:
        folder: The run folder.
    """
    names = ("run.json", "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm")
    for name in (*names, *(f".{name}.tmp" for name in names)):
        (folder / name).unlink(missing_ok=True)


def _is_inside(name: str) -> bool:
    parts = Path(name).parts
    return bool(parts) and not Path(name).is_absolute() and ".." not in parts
