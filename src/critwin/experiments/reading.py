"""Validity of samples, and what features read off them, at one fixed batch shape.

Samples are checked before any label: a black image would be labelled without complaint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError
from critwin.features.base import Comparison, Feature, Reading, checked_compare, checked_read

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from critwin.models.base import Model

__all__ = ["compare_batch", "decode_checked", "read_batch"]

_GREY_STEP = 1.0 / 255.0


def decode_checked(model: Model, clean: torch.Tensor) -> tuple[Any, NDArray[np.bool_]]:
    """Decode samples and tell which of them are valid.

    Args:
        model: The model.
        clean: Clean samples as the model works with them, shape ``(N, *sample_shape)``.

    Returns:
        Decoded samples, NaN where invalid (a labeller never sees those), and the mask of valid
        rows: finite before and after decoding, and not constant. An image is constant if no
        channel varies by more than half of one of 256 steps; points are never constant.
    """
    import torch

    is_finite = torch.isfinite(clean).flatten(1).all(dim=1)
    shown = clean
    if not bool(is_finite.all()):
        shown = clean.clone()
        shown[~is_finite] = 0.0
    decoded = torch.as_tensor(model.decode(shown)).detach()
    flat = decoded.flatten(1)
    is_valid = is_finite.to(flat.device) & torch.isfinite(flat).all(dim=1)
    if decoded.ndim == 4:
        pixels = decoded.flatten(2)
        spread = pixels.amax(dim=2) - pixels.amin(dim=2)
        is_valid &= (spread > 0.5 * _GREY_STEP).any(dim=1)
    if not bool(is_valid.all()):
        decoded = decoded.clone()
        decoded[~is_valid] = float("nan")
    mask = is_valid.cpu().numpy()
    return decoded, np.asarray(mask, dtype=np.bool_)


def read_batch(features: Sequence[Feature], samples: Any, num: int) -> dict[str, Reading]:
    """What each feature reads off the first ``num`` rows of a padded batch.

    Args:
        features: The features.
        samples: Decoded samples at the fixed shape, NaN where invalid.
        num: Number of rows that count.

    Returns:
        Name of the feature -> reading of ``num`` rows; invalid rows abstain.

    Raises:
        InputError: If a labeller returns unknown labels, NaN, or another number of rows.
    """
    out = {}
    for feature in features:
        reading = checked_read(feature, samples)
        probs = None if reading.probs is None else _one_nan(reading.probs[:num])
        out[feature.name] = Reading(
            indices=reading.indices[:num],
            probs=probs,
            values={key: _one_nan(value[:num]) for key, value in reading.values.items()},
        )
    return out


def compare_batch(
    comparisons: Sequence[Comparison], source: Any, result: Any, num: int
) -> Mapping[str, NDArray[np.float64]]:
    """Named numbers of the first ``num`` pairs of a padded batch.

    Args:
        comparisons: The comparisons.
        source: Decoded sources at the fixed shape.
        result: Decoded results, NaN where invalid.
        num: Number of rows that count.

    Returns:
        ``"comparison.number"`` -> shape ``(num,)``, NaN where invalid; a comparison with the one
        number of its own name keeps it short.

    Raises:
        InputError: If a comparison returns NaN for a valid pair.
    """
    out: dict[str, NDArray[np.float64]] = {}
    for comparison in comparisons:
        for key, value in checked_compare(comparison, source, result).items():
            name = key if key == comparison.name else f"{comparison.name}.{key}"
            if name in out:
                raise InputError("two comparisons give a number of the same name", got=name)
            out[name] = _one_nan(value[:num])
    return out


def _one_nan(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same numbers with one bit pattern for NaN, so that equal results are equal bytes."""
    return np.where(np.isnan(values), np.nan, values)
