"""What a feature is given, checked: names, images, arrays of either library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError
from critwin.transitions import ABSTAINED

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RANGE_TOLERANCE = 1e-3


def check_names(name: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Check the name and the labels of a feature.

    Args:
        name: Name of the feature.
        labels: Its labels.

    Returns:
        The labels as a tuple.

    Raises:
        InputError: If the name is empty or holds ``*`` or ``/``, or the labels are not at least
            one, distinct, non-empty strings.
    """
    if not isinstance(name, str) or not name.strip() or set(name) & set("*/"):
        raise InputError(
            "the name of a feature cannot be used",
            got=name,
            wanted="a non-empty string without * (which joins features) and /",
        )
    if isinstance(labels, str):
        raise InputError(f"labels of feature {name!r} are one string", got=labels, wanted="a list")
    out = tuple(labels)
    if not out or not all(isinstance(label, str) and label.strip() for label in out):
        raise InputError(
            f"labels of feature {name!r} cannot be used",
            got=out,
            wanted="at least one non-empty string",
        )
    if len(set(out)) < len(out):
        twice = next(label for label in out if out.count(label) > 1)
        raise InputError(
            f"labels of feature {name!r} are not distinct",
            got=f"{twice!r} twice",
            wanted="each label once",
            next_step="leave one out, or tell what the two mean apart",
        )
    if ABSTAINED in out:
        raise InputError(
            f"feature {name!r} uses a reserved label",
            got=ABSTAINED,
            next_step="return the index -1 to abstain",
        )
    return out


def check_images(samples: Any, *, channels: int | None = None) -> NDArray[np.float64]:
    """Images as float64, checked.

    Args:
        samples: Images in ``[0, 1]``, NumPy or torch, shape ``(N, C, H, W)``.
        channels: Wanted number of channels; any unless given.

    Returns:
        The images, float64, contiguous.

    Raises:
        InputError: If the shape or the range is wrong.
    """
    shape = tuple(samples.shape)
    if len(shape) != 4 or (channels is not None and shape[1] != channels):
        wanted = f"(N, {'C' if channels is None else channels}, H, W)"
        raise InputError("not a batch of images", got=f"shape {shape}", wanted=wanted)
    images = np.ascontiguousarray(to_numpy(samples), dtype=np.float64)
    is_inside = (images >= -_RANGE_TOLERANCE) & (images <= 1 + _RANGE_TOLERANCE)
    if not is_inside.all():
        raise InputError(
            "images must be in [0, 1]",
            got=float(images[~is_inside].flat[0]),
            next_step="decode them first: (x + 1) / 2 if the model works in [-1, 1]",
        )
    return images


def to_numpy(samples: Any) -> NDArray[Any]:
    """A NumPy array of an array-like or of a torch tensor on any device."""
    if hasattr(samples, "detach"):
        samples = samples.detach().cpu()
        if not samples.dtype.is_floating_point or samples.dtype.itemsize >= 4:
            return np.asarray(samples.numpy())
        return np.asarray(samples.float().numpy())  # NumPy has no bfloat16
    return np.asarray(samples)
