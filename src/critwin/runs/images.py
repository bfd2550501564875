"""Images that a run keeps: those of its first sources, and their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.experiments.units import Unit
from critwin.runs.files import digest_bytes, image_path, png, write_atomic

if TYPE_CHECKING:
    from critwin.experiments.measuring import Measured
    from critwin.experiments.sources import Source, SourceState
    from critwin.runs.ledger import FileRow

__all__ = ["Images"]


@dataclass(frozen=True)
class Images:
    """Writes images into a run folder.

    Attributes:
        folder: The run folder.
        kept: Number of sources whose images are kept.
    """

    folder: Path
    kept: int

    def of_sources(self, states: Sequence[SourceState], samples: Any) -> list[FileRow]:
        """Write the images of some sources.

        Args:
            states: The sources.
            samples: Decoded, one a source.

        Returns:
            A row of the ledger for each file.
        """
        return [
            file
            for state, sample in zip(states, samples, strict=True)
            if state.source.index < self.kept and state.is_valid
            for file in self._image(sample, state.source)
        ]

    def of_results(self, measured: Measured) -> list[FileRow]:
        """Write the images of a batch of results.

        Args:
            measured: The results.

        Returns:
            A row of the ledger for each file.
        """
        rows = [
            row
            for row, unit in enumerate(measured.units)
            if unit.source_index < self.kept
            and unit.replicate == 0
            # arms of an intervention share source and level: there is no one image of the two
            and ":" not in unit.experiment
        ]
        if not rows:
            return []
        valid = np.asarray(measured.records.valid)
        return [
            file
            for row in rows
            if valid[row]
            for file in self._image(measured.samples[row], measured.units[row])
        ]

    def _image(self, sample: Any, owner: Source | Unit) -> list[FileRow]:
        """Write one image; points and samples of many channels have none."""
        if sample.ndim != 3 or sample.shape[0] not in (1, 3):
            return []
        if isinstance(owner, Unit):
            source, level = owner.source, owner.logsnr
            path = image_path(source, owner.requested_logsnr)
        else:
            source, level = owner.name, None
            path = image_path(source, None)
        data = png(sample)
        write_atomic(self.folder / path, data)
        return [(path, digest_bytes(data), len(data), source, level)]
