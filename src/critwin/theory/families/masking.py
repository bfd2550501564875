r"""Two strings, masked: a window in closed form without any Gaussian noise.

Each of the n symbols of a string is masked independently with probability t, the noise level. Two
strings that differ in h symbols are told apart as long as one of these h is not masked.

Source: Li, Karan & Chen (2025), Ex. 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critwin.errors import InputError
from critwin.theory.families.base import Family, FamilyInfo, PublishedTime, Setting

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["MASKING", "MaskingCurves"]


@dataclass(frozen=True, kw_only=True)
class MaskingCurves:
    """Exact curves of two equally likely strings as functions of the mask probability t.

    Attributes:
        distance: Hamming distance h of the strings, >= 1.
    """

    distance: int

    def total_variation(self, t: ArrayLike) -> NDArray[np.float64]:
        """``TV(p_t^+, p_t^-) = 1 - t^h``.

        Args:
            t: Mask probabilities, any shape.

        Returns:
            Same shape.

        Raises:
            InputError: If a mask probability is outside [0, 1].
        """
        return 1.0 - self._hidden(t)

    def stay(self, t: ArrayLike) -> NDArray[np.float64]:
        """``C_t[+, +] = 1 - t^h / 2``.

        Args:
            t: Mask probabilities, any shape.

        Returns:
            Same shape.

        Raises:
            InputError: If a mask probability is outside [0, 1].
        """
        return 1.0 - 0.5 * self._hidden(t)

    def transition_matrices(self, t: ArrayLike) -> NDArray[np.float64]:
        """``C_t[i, j]`` over ``(+, -)``.

        Args:
            t: Mask probabilities, any shape.

        Returns:
            Shape ``(..., 2, 2)``.

        Raises:
            InputError: If a mask probability is outside [0, 1].
        """
        stay = self.stay(t)
        rows = [np.stack([stay, 1 - stay], axis=-1), np.stack([1 - stay, stay], axis=-1)]
        return np.stack(rows, axis=-2)

    def _hidden(self, t: ArrayLike) -> NDArray[np.float64]:
        """Probability that all h symbols are masked."""
        value = np.asarray(t, dtype=np.float64)
        if not np.all((value >= 0) & (value <= 1)):
            raise InputError("not mask probabilities", got=t, wanted="numbers in [0, 1]")
        return np.asarray(value**self.distance)


def _masking(distance: int) -> Family:
    def exact(epsilon: float) -> dict[str, float | None]:
        before = (1 - 2 * epsilon) ** (1 / distance) if epsilon < 0.5 else 0.0
        return {"T_after": epsilon ** (2 / distance), "T_before": before}

    def published(epsilon: float) -> tuple[PublishedTime, ...]:
        return (
            PublishedTime(
                name="end of the window",
                symbol="T_before",
                value=(1 - epsilon) ** (1 / distance),
                bound="upper",
                is_valid_bound=True,
                kind="published",
                source="Li, Karan & Chen (2025), Ex. 3",
                note="sufficient; the exact time is (1 - 2 epsilon)^(1/h)",
            ),
        )

    return Family(
        name="masking",
        summary=MASKING.summary,
        parameters={"distance": distance},
        mixture=None,
        after=("+",),
        before=("+", "-"),
        unit="mask",
        formulas=published,
        closed_forms=exact,
        masking=MaskingCurves(distance=distance),
    )


MASKING = FamilyInfo(
    name="masking",
    summary="two strings whose symbols are masked: exact windows in the mask probability",
    settings=(
        Setting(
            name="distance",
            kind="whole number",
            default=10,
            meaning="Hamming distance h of the strings",
            low=1,
        ),
    ),
    source="Li, Karan & Chen (2025), Ex. 3",
    build=_masking,
)
