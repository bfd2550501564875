"""The levels that a search may measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from critwin.errors import InputError
from critwin.levels import logsnr_of_ou_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SPACING", "candidate_levels"]

SPACING = 0.1
"""Distance of the levels that a search may measure, OU time."""


def candidate_levels(t_low: float, t_high: float) -> NDArray[np.float64]:
    """Levels that a search may measure.

    Args:
        t_low: Least OU time, positive.
        t_high: Largest OU time.

    Returns:
        The logsnr of times at most .1 apart, noise growing, shape ``(C,)``.

    Raises:
        InputError: If the range is empty or out of range.
    """
    if not 0.0 < t_low < t_high <= 25.0:
        raise InputError(
            "the range of a search is not one",
            got=f"t = {t_low:g} to {t_high:g}",
            wanted="0 < from < to <= 25 in OU time",
        )
    count = max(int(np.ceil((t_high - t_low) / SPACING - 1e-9)), 2)
    return np.asarray(logsnr_of_ou_time(np.linspace(t_low, t_high, count + 1)))
