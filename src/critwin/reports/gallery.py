"""What sources became, level by level: labels from the records, images as one strip per source.

A strip is a row of equal tiles: the source, then its result at every level. It is one image, so
the page holds every picture once: as it stands in print, and cut by the style sheet on screen.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from critwin.records import Records

__all__ = ["Gallery", "Picture", "SourceRow", "Strip", "build_gallery"]

Picture = Any  # path of an image file, encoded bytes, or an array (H, W), (C, H, W), (H, W, C)
_SIDES = (160, 128, 96, 64, 48, 32)
_PIXELATED = 64  # tiles up to this side keep their pixels


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Tiles of one source beside each other.

    Attributes:
        uri: The image as a ``data:`` URI.
        width: Of one tile, pixels.
        height: Of one tile, pixels.
        is_pixelated: Whether to enlarge it without smoothing.
    """

    uri: str
    width: int
    height: int
    is_pixelated: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class SourceRow:
    """One source of the gallery.

    Attributes:
        name: Its name.
        condition: Condition of its results; "" is unconditional.
        source_condition: Condition under which it was generated, or its caption; None: unknown.
        strip: Its images, or None.
        before: Feature -> label index of the source, -1 abstained.
        after: Feature -> label index of the result at every level, shape ``(L,)``: -1 abstained,
            -2 invalid, -3 not measured.
    """

    name: str
    condition: str
    source_condition: str | None
    strip: Strip | None
    before: Mapping[str, int]
    after: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Gallery:
    """Sources and what they became.

    Attributes:
        levels: Levels of the slider, logsnr, decreasing, shape ``(L,)``.
        rows: The sources.
        labels: Feature -> its labels.
        replicate: Which replicate is shown.
    """

    levels: NDArray[np.float64]
    rows: tuple[SourceRow, ...]
    labels: Mapping[str, tuple[str, ...]]
    replicate: int


ABSTAINED, INVALID, MISSING = -1, -2, -3


def build_gallery(
    records: Records,
    images: Mapping[tuple[str, float | None], Picture] | None = None,
    *,
    source_conditions: Mapping[str, str] | None = None,
    num_sources: int = 12,
    num_levels: int = 24,
    max_bytes: int = 3_500_000,
) -> Gallery:
    """Choose sources and levels, and lay their images into strips.

    Args:
        records: Records of one run.
        images: ``(source, logsnr)`` -> image of the result of the first replicate at that
            effective level, ``(source, None)`` -> image of the source. None: labels only.
        source_conditions: Source -> the condition it was generated under, "" for none; what
            trajectories recorded unless given.
        num_sources: Most sources to show, spread over the labels of the features.
        num_levels: Most levels of the slider, evenly spread.
        max_bytes: Most bytes of all encoded strips; tiles shrink to meet it, then sources go.

    Returns:
        The gallery.
    """
    first = int(np.min(np.asarray(records.replicate)))
    rows = np.asarray(records.replicate) == first
    logsnr = -np.unique(-records.logsnr[rows])
    pick = np.unique(np.round(np.linspace(0, len(logsnr) - 1, num_levels)).astype(np.int64))
    levels = logsnr[pick] if len(logsnr) > num_levels else logsnr
    pictured = None if not images else {source for source, level in images if level is None}
    names = _choose(records, rows, pictured, num_sources)
    table = [_labels(records, rows, name, levels) for name in names]
    strips: dict[str, Strip] = {}
    if images:
        pictures = {(name, _rounded(level)): (name, level) for name, level in images}

        def picture(name: str, level: float | None) -> Picture | None:
            key = pictures.get((name, _rounded(level)))
            return None if key is None else images[key]

        strips = _strips(picture, names, levels, max_bytes)
        if not strips:
            names = names[: max(len(names) // 2, 1)]
            strips = _strips(picture, names, levels, max_bytes)
    known = _source_conditions(records) if source_conditions is None else source_conditions
    return Gallery(
        levels=levels,
        rows=tuple(
            SourceRow(
                name=name,
                condition=condition,
                source_condition=known.get(name),
                strip=strips.get(name),
                before=before,
                after=after,
            )
            for name, (condition, before, after) in zip(names, table, strict=False)
        ),
        labels={name: columns.labels for name, columns in records.features.items()},
        replicate=first,
    )


def _source_conditions(records: Records) -> dict[str, str]:
    told = records.planted.get("source_condition")
    if told is None:
        return {}
    return dict(zip(records.source.tolist(), told.tolist(), strict=True))


def _rounded(level: float | None) -> float | None:
    return None if level is None else round(float(level), 5)


def _choose(
    records: Records, rows: NDArray[np.bool_], pictured: set[str] | None, num: int
) -> list[str]:
    """Sources with images, dealt over the combinations of labels."""
    names, where = np.unique(records.source[rows], return_index=True)
    if pictured is not None:
        keep = np.isin(names, sorted(pictured))
        names, where = names[keep], where[keep]
    piles: dict[tuple[int, ...], list[str]] = {}
    for name, row in zip(names.tolist(), np.flatnonzero(rows)[where].tolist(), strict=True):
        # the feature with the most labels leads, so that the deal covers it
        order = sorted(records.features.values(), key=lambda c: -len(c.labels))
        piles.setdefault(tuple(int(c.before[row]) for c in order), []).append(name)
    leads: dict[int, list[list[str]]] = {}
    for key in sorted(piles):
        leads.setdefault(key[0], []).append(piles[key])
    chosen: list[str] = []
    while len(chosen) < num and any(any(p) for p in leads.values()):
        for turn, rest in enumerate(leads.values()):
            full = [pile for pile in rest if pile]
            if full and len(chosen) < num:
                chosen.append(full[(turn + len(chosen)) % len(full)].pop(0))
    return sorted(chosen)


def _labels(
    records: Records, rows: NDArray[np.bool_], name: str, levels: NDArray[np.float64]
) -> tuple[str, dict[str, int], dict[str, NDArray[np.int64]]]:
    own = np.flatnonzero(rows & (records.source == name))
    at = {round(float(records.logsnr[row]), 9): row for row in reversed(own.tolist())}
    before = {f: int(columns.before[own[0]]) for f, columns in records.features.items()}
    after = {f: np.full(len(levels), MISSING) for f in records.features}
    for number, level in enumerate(levels):
        row = at.get(round(float(level), 9))
        if row is None:
            continue
        is_valid = bool(np.asarray(records.valid)[row])
        for f, columns in records.features.items():
            after[f][number] = columns.after[row] if is_valid else INVALID
    return str(np.asarray(records.condition)[own[0]]), before, after


def _strips(
    picture: Callable[[str, float | None], Picture | None],
    names: Sequence[str],
    levels: NDArray[np.float64],
    max_bytes: int,
) -> dict[str, Strip]:
    """Strips of all sources with the largest tiles that fit; empty if none do."""
    tiles: dict[str, list[Image | None]] = {}
    for name in names:
        found = [picture(name, None), *(picture(name, float(level)) for level in levels)]
        tiles[name] = [None if item is None else _open(item) for item in found]
    sizes = [tile.size for row in tiles.values() for tile in row if tile is not None]
    if not sizes:
        return {}
    width, height = max(w for w, _ in sizes), max(h for _, h in sizes)
    longest = max(width, height)
    for side in (min(longest, _SIDES[0]), *(s for s in _SIDES[1:] if s < longest)):
        scale = min(1.0, side / longest)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        strips = {name: _strip(row, size, longest <= _PIXELATED) for name, row in tiles.items()}
        if sum(len(strip.uri) for strip in strips.values()) <= max_bytes:
            return strips
    return {}


def _strip(tiles: Sequence[Image | None], size: tuple[int, int], is_pixelated: bool) -> Strip:
    from PIL import Image, ImageDraw

    width, height = size
    band = Image.new("RGB", (width * len(tiles), height), (128, 128, 128))
    pen = ImageDraw.Draw(band)
    for number, tile in enumerate(tiles):
        left = number * width
        if tile is None:  # not measured: a cross, so that it is no grey picture
            pen.line((left, 0, left + width - 1, height - 1), fill=(200, 200, 200))
            pen.line((left, height - 1, left + width - 1, 0), fill=(200, 200, 200))
            continue
        shown = tile
        if tile.size != size:
            shown = tile.resize(size, Image.Resampling.LANCZOS)
        band.paste(shown, (left, 0))
    buffer = io.BytesIO()
    if is_pixelated:
        band.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        band.save(buffer, "JPEG", quality=82)
        kind = "jpeg"
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Strip(
        uri=f"data:image/{kind};base64,{text}",
        width=width,
        height=height,
        is_pixelated=is_pixelated,
    )


def _open(item: Picture) -> Image:
    """An RGB image from a path, encoded bytes, or an array in [0, 1] or of bytes."""
    from PIL import Image, UnidentifiedImageError

    try:
        if isinstance(item, bytes | bytearray):
            with Image.open(io.BytesIO(item)) as image:
                return image.convert("RGB")
        if isinstance(item, str | Path):
            with Image.open(item) as image:
                return image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        name = "" if isinstance(item, bytes | bytearray) else Path(item).name
        raise InputError(
            "an image of the gallery cannot be read", got=name or str(error)
        ) from error
    array = np.asarray(item)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise InputError(
            "an image of the gallery has the wrong shape",
            got=array.shape,
            wanted="(H, W), (C, H, W) or (H, W, C) with C = 1 or 3",
        )
    if array.dtype != np.uint8:
        array = np.round(np.clip(np.nan_to_num(array), 0.0, 1.0) * 255.0).astype(np.uint8)
    return Image.fromarray(array).convert("RGB")
