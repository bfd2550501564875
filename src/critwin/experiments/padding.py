"""Batches of one fixed shape: which rows fill up a batch, and from which streams.

The bits of a result depend on the shape of its batch, not on the other rows. A short batch is
filled up with repeated rows that draw from streams of their own and are dropped afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

from critwin.streams import UnitStreams

__all__ = ["padded_rows", "padded_streams"]


def padded_rows(num: int, batch_size: int) -> list[int]:
    """Rows of a padded batch: ``0 … num - 1``, then these again from the start.

    Args:
        num: Number of rows that count, at least 1.
        batch_size: Number of rows of the batch.

    Returns:
        ``batch_size`` indices below ``num``.
    """
    return [row % num for row in range(batch_size)]


def padded_streams(
    units: Sequence[tuple[str, float | None, int]], batch_size: int, seed: int
) -> list[UnitStreams]:
    """Streams of a padded batch.

    Args:
        units: Source, requested logsnr (None: no level) and replicate of each row that counts.
        batch_size: Number of rows of the batch.
        seed: Seed of the run.

    Returns:
        ``batch_size`` streams; the filling rows have their own.
    """
    level = units[0][1]
    own = [UnitStreams(seed, source, logsnr, rep) for source, logsnr, rep in units]
    fill = range(len(units), batch_size)
    return own + [UnitStreams(seed, f"(padding {row})", level, 0) for row in fill]
