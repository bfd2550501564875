"""How far an image lies from its source, pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.features._inputs import check_names, to_numpy
from critwin.features.fingerprints import fingerprint_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PixelComparison"]


@dataclass(frozen=True)
class PixelComparison:
    """Root mean square of the differences of two samples, over all their numbers.

    Attributes:
        name: Name of the comparison, and of its number.

    Raises:
        InputError: If the name cannot be one.
    """

    name: str = "pixels"

    def __post_init__(self) -> None:
        """Check the name."""
        check_names(self.name, ("value",))

    @property
    def fingerprint(self) -> str:
        """Digest of the rule."""
        return fingerprint_of("rms/1")

    def read(self, source: Any, result: Any) -> Mapping[str, NDArray[np.float64]]:
        """Compare pairs.

        Args:
            source: Images in ``[0, 1]`` or points, shape ``(N, …)``.
            result: Their forward–reverse images, the same shape.

        Returns:
            One number of the comparison's own name, shape ``(N,)``.
        """
        gap = to_numpy(result).astype(np.float64) - to_numpy(source).astype(np.float64)
        square = np.square(gap).reshape(len(gap), -1).mean(axis=1)
        return {self.name: np.sqrt(square)}
