"""Independent scrambles of one Sobol sequence; the spread of their means is a standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from critwin.streams import seed_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["NUM_SCRAMBLES", "points_per_scramble", "scrambles"]

NUM_SCRAMBLES = 16
_MAX_SOBOL_DIM = 21201  # direction numbers end there
_LEADING_BITS = 3


def points_per_scramble(num_samples: int, num_scrambles: int = NUM_SCRAMBLES) -> int:
    """Points of each scramble: rounded down to a few blocks of a power of two, whole nets.

    Args:
        num_samples: Points of all scrambles together.
        num_scrambles: Number of scrambles.

    Returns:
        At least 1; the quotient, less a fifth of it at most.
    """
    count = max(1, num_samples // num_scrambles)
    low = max(0, count.bit_length() - _LEADING_BITS)
    return count >> low << low


def scrambles(
    dim: int, num_samples: int, stream: str, seed: int, *, num_scrambles: int = NUM_SCRAMBLES
) -> Iterator[Array]:
    """Scramble after scramble of points that are never 0 or 1.

    Args:
        dim: Number of coordinates; above 21,201 the points are plain random ones.
        num_samples: Points of all scrambles together.
        stream: Name of the use, so that uses do not share points.
        seed: Seed of the scrambles.
        num_scrambles: Number of scrambles.

    Yields:
        Arrays of shape ``(n, dim)``.
    """
    count = points_per_scramble(num_samples, num_scrambles)
    sobol_engine: Any = torch.quasirandom.SobolEngine  # untyped in PyTorch
    for r in range(num_scrambles):
        own = seed_of(seed, stream, r)
        if dim > _MAX_SOBOL_DIM:
            generator = torch.Generator().manual_seed(own)
            cells = torch.rand((count, dim), dtype=torch.float64, generator=generator).numpy()
        else:
            engine = sobol_engine(max(dim, 1), scramble=True, seed=own)
            cells = engine.draw(count, dtype=torch.float64).numpy()[:, :dim]
        yield (np.floor(cells * 2**30) + 0.5) / 2**30
