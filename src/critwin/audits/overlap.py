"""Are two sets of images fit for an audit? Overlap is named, and a give-away is refused.

An image in both sets makes nonsense of the labels. A difference in size, value range, file format
or rounding between the sets tells members from non-members without any model, and an attack would
be praised for it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from critwin._images import image_files, read_image
from critwin.audits.blind import pooled
from critwin.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["Images", "Overlap", "check_alike", "find_overlap", "given_images", "images_of_folder"]

NEAR = 0.05
"""Two images are near duplicates if, each centred and scaled to norm 1, they differ by less."""

_SIDE = 24
_CHUNK = 512
_UNLIKELY = 1e-3
_SHOWN = 5


@dataclass(frozen=True, eq=False, kw_only=True)
class Images:
    """A set of images with what their files say.

    Attributes:
        pixels: Shape ``(N, C, H, W)``, in [0, 1] if they come from files; or points ``(N, D)``.
        names: Length N.
        kinds: Property -> what it is for every image, length N.
    """

    pixels: NDArray[np.float32]
    names: tuple[str, ...]
    kinds: dict[str, tuple[str, ...]]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.pixels)


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Pairs of a member and a non-member that are the same image.

    Attributes:
        exact: Names of equal images.
        near: Names of nearly equal images, and how far apart they are.
        nearest: Smallest distance between a member and a non-member.
    """

    exact: tuple[tuple[str, str], ...]
    near: tuple[tuple[str, str, float], ...]
    nearest: float


def images_of_folder(folder: str | Path, *, shape: tuple[int, ...], what: str) -> Images:
    """Read all images of a folder, at the size of the model, and note what the files are.

    Args:
        folder: The folder.
        shape: ``(C, H, W)`` of the model's images.
        what: ``"members"`` or ``"non-members"``, for messages.

    Returns:
        The images.

    Raises:
        InputError: If the folder has no images or one cannot be read.
    """
    from PIL import Image

    if len(shape) != 3:
        raise InputError("the model does not make images", got=f"samples of shape {shape}")
    entries = image_files(folder)
    if not entries:
        raise InputError(
            f"the folder of {what} holds no images",
            got=str(folder),
            wanted="a folder with PNG or JPEG files",
        )
    pixels, kinds = [], {"size": [], "format": [], "mode": []}  # type: ignore[var-annotated]
    for entry in entries:
        pixels.append(read_image(entry.path, channels=shape[0], size=(shape[1], shape[2])))
        with Image.open(entry.path) as image:
            kinds["size"].append(f"{image.size[0]} x {image.size[1]} pixels")
            kinds["format"].append(str(image.format))
            kinds["mode"].append(image.mode)
            if tables := getattr(image, "quantization", None):
                text = repr(sorted((k, list(v)) for k, v in tables.items()))
                name = f"JPEG with tables {hashlib.sha256(text.encode()).hexdigest()[:8]}"
                kinds["format"][-1] = name
    array = np.stack(pixels)
    return Images(
        pixels=array,
        names=tuple(entry.name for entry in entries),
        kinds={name: tuple(values) for name, values in kinds.items()} | _values(array),
    )


def given_images(samples: ArrayLike, *, what: str) -> Images:
    """A set given in memory.

    Args:
        samples: Clean samples as the model works with them, shape ``(N, ...)``.
        what: ``"member"`` or ``"nonmember"``: their names are this and a number.

    Returns:
        The set.

    Raises:
        InputError: If it is empty or not finite.
    """
    array = np.asarray(samples, dtype=np.float32)
    if array.ndim < 2 or len(array) == 0:
        raise InputError(
            f"there are no {what}s", got=f"shape {array.shape}", wanted="shape (N, ...), N >= 1"
        )
    if not np.isfinite(array).all():
        raise InputError(f"a {what} is not finite")
    size = " x ".join(str(n) for n in array.shape[1:])
    return Images(
        pixels=array,
        names=tuple(f"{what}{i:06d}" for i in range(len(array))),
        kinds={"size": (size,) * len(array)} | (_values(array) if array.ndim == 4 else {}),
    )


def check_alike(members: Images, nonmembers: Images) -> None:
    """Refuse two sets whose files or values differ: that alone would tell them apart.

    Args:
        members: The members.
        nonmembers: The non-members.

    Raises:
        InputError: If no image of one set has the size, format, mode, range or rounding of an
            image of the other, or their shares differ beyond chance (p < .001).
    """
    for name in members.kinds:
        sides = [Counter(side.kinds.get(name, ())) for side in (members, nonmembers)]
        if not all(sides):
            continue
        told = [f"{side.most_common(1)[0][0]}" for side in sides]
        keys = sorted(set(sides[0]) | set(sides[1]))
        is_apart = not set(sides[0]) & set(sides[1])
        p_value = 1.0
        if len(keys) > 1 and not is_apart:
            table = np.array([[side[key] for key in keys] for side in sides])
            p_value = (
                float(stats.fisher_exact(table).pvalue)
                if len(keys) == 2
                else float(stats.chi2_contingency(table, correction=False).pvalue)
            )
            if len(keys) > 2 and (table.sum(axis=0) < 5).mean() > 0.2:
                p_value = 1.0  # too rare for the approximation: only sets apart are refused
        if is_apart or p_value < _UNLIKELY:
            shares = ""
            if not is_apart:
                top = max(keys, key=lambda k: abs(sides[0][k] / len(members) - sides[1][k]))
                told = [top, top]
                counts = zip(sides, (members, nonmembers), strict=True)
                shares = " in " + " and ".join(
                    f"{100 * side[top] / len(own):.0f} %" for side, own in counts
                )
            raise InputError(
                f"members and non-members differ in {name}: that alone tells them apart",
                got=f"members {told[0]}, non-members {told[1]}{shares}"
                if is_apart
                else f"{told[0]}{shares}",
                wanted="two sets prepared in the same way",
                next_step="prepare both from originals by one script",
            )


def find_overlap(members: Images, nonmembers: Images, *, near: float = NEAR) -> Overlap:
    """Images that are in both sets, or nearly so.

    Args:
        members: The members.
        nonmembers: The non-members.
        near: Largest distance of near duplicates.

    Returns:
        The pairs.
    """
    digests = [
        [hashlib.sha256(np.ascontiguousarray(row).tobytes()).digest() for row in side.pixels]
        for side in (members, nonmembers)
    ]
    where = {digest: row for row, digest in enumerate(digests[0])}
    equal = [(where[d], row) for row, d in enumerate(digests[1]) if d in where]
    flat = [_normalised(side.pixels) for side in (members, nonmembers)]
    found: list[tuple[str, str, float]] = []
    nearest = np.inf
    for start in range(0, len(flat[1]), _CHUNK):
        part = flat[1][start : start + _CHUNK]
        products = part @ flat[0].T
        best = products.argmax(axis=1)
        gap = np.linalg.norm(part - flat[0][best], axis=1)
        nearest = min(nearest, float(gap.min()))
        for row in np.flatnonzero(gap < near):
            pair = (int(best[row]), start + int(row))
            if pair not in equal:
                found.append((members.names[pair[0]], nonmembers.names[pair[1]], float(gap[row])))
    return Overlap(
        exact=tuple((members.names[a], nonmembers.names[b]) for a, b in equal),
        near=tuple(sorted(found, key=lambda item: item[2])),
        nearest=nearest,
    )


def check_overlap(overlap: Overlap) -> None:
    """Refuse overlapping sets, naming the images.

    Args:
        overlap: From :func:`find_overlap`.

    Raises:
        InputError: If there is an exact or a near duplicate.
    """
    pairs = [f"{a} = {b}" for a, b in overlap.exact]
    pairs += [f"{a} ~ {b} ({gap:.3f} apart)" for a, b, gap in overlap.near]
    if pairs:
        more = f" and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
        raise InputError(
            "members and non-members overlap: "
            f"{len(overlap.exact)} exact and {len(overlap.near)} near duplicates",
            got=", ".join(pairs[:_SHOWN]) + more,
            wanted="no image in both sets",
            next_step="take these images out of one of the sets",
        )


def _normalised(pixels: NDArray[np.float32]) -> Array:
    """Each image small, centred and of norm 1: brightness and contrast do not count."""
    array = pixels.astype(np.float64)
    if array.ndim == 4 and max(array.shape[2:]) > _SIDE:
        array = pooled(array, _SIDE)
    flat = array.reshape(len(array), -1)
    if array.ndim == 4:
        flat = flat - flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    # a constant image has no direction: a coordinate of its own tells it apart
    return np.concatenate([flat / np.maximum(norm, 1e-9), (norm < 1e-9).astype(float)], axis=1)


def _values(array: Any) -> dict[str, tuple[str, ...]]:
    """Range and rounding of the values of a set, and whether images are grey."""
    low, high = float(array.min()), float(array.max())
    if low >= -1e-6 and high <= 1.0 + 1e-6:
        kind, unit = "values in [0, 1]", array
    elif low >= -1.0 - 1e-6 and high <= 1.0 + 1e-6:
        kind, unit = "values in [-1, 1]", array / 2.0 + 0.5
    elif low >= 0.0 and high <= 255.0:
        kind, unit = "values in [0, 255]", array / 255.0
    else:
        kind, unit = "values beyond [-1, 1]", None
    out = {"range": (kind,) * len(array)}
    if unit is not None:
        steps = np.abs(unit * 255.0 - np.rint(unit * 255.0)).reshape(len(array), -1).max(axis=1)
        out["rounding"] = tuple(
            "256 steps" if step < 1e-3 else "finer than 256 steps" for step in steps
        )
    if array.shape[1] == 3:
        grey = np.abs(array - array[:, :1]).reshape(len(array), -1).max(axis=1)
        out["colour"] = tuple("grey" if value < 1e-6 else "in colour" for value in grey)
    return out
