"""Guidance: how far a prediction is pushed towards its condition, and at which levels.

``x_0 = none + g (condition - none)`` needs two predictions. In an interval of noise levels alone
it costs two there and one elsewhere: what is decided outside the interval keeps the model's own
law.

Source: Ho & Salimans (2022), *Classifier-free diffusion guidance*, eq. (6); Kynkäänniemi et al.
(2024), *Applying guidance in a limited interval improves sample and distribution quality*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from critwin.errors import InputError
from critwin.levels import ou_time

__all__ = ["interval_of", "is_guided", "num_predictions"]


def interval_of(interval: Sequence[float] | None) -> tuple[float, float] | None:
    """An interval of guidance, checked.

    Args:
        interval: Two OU times, or None.

    Returns:
        The same as numbers.

    Raises:
        InputError: If it is not an interval.
    """
    if interval is None:
        return None
    try:
        low, high = (float(value) for value in interval)
        is_good = 0 <= low < high and not math.isnan(high)
    except (TypeError, ValueError):
        is_good = False
    if not is_good:
        raise InputError(
            "not an interval of guidance",
            got=interval,
            wanted="[t_low, t_high], OU times with 0 <= t_low < t_high",
        )
    return (low, high)


def is_guided(logsnr: float, guidance: float | None, interval: tuple[float, float] | None) -> bool:
    """Whether two predictions are taken at a level.

    Args:
        logsnr: The level.
        guidance: Guidance scale; None or 1: none.
        interval: OU times between which there is guidance, ends included; None: everywhere.

    Returns:
        Whether guidance applies.
    """
    if guidance is None or guidance == 1:
        return False
    return interval is None or interval[0] <= float(ou_time(logsnr)) <= interval[1]


def num_predictions(
    path: Sequence[float], guidance: float | None, interval: tuple[float, float] | None
) -> int:
    """Calls of a network along a path of levels.

    Args:
        path: Levels at which the denoiser is called, logsnr.
        guidance: Guidance scale.
        interval: OU times between which there is guidance.

    Returns:
        The number: one a level, two where guidance applies.
    """
    return sum(2 if is_guided(float(level), guidance, interval) else 1 for level in path)
