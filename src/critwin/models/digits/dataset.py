"""The digits as sources of an experiment: clean images by position, with everything planted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from critwin.errors import InputError
from critwin.models.digits.data import DigitsData

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["DigitsDataset", "Part"]

Part = Literal["members", "nonmembers", "all"]


@dataclass(frozen=True, eq=False, kw_only=True)
class DigitsDataset:
    """Distinct images of the shipped digits, each once, whatever its repeats in training.

    Sources are therefore *not* draws from the law the model was trained on: a digit that was
    shown 64 times is one source here. The law belongs to the model's prior, which weights labels
    by training rows.

    Attributes:
        data: All 5,000 digits.
        part: ``"members"`` (the 4,000 the model was trained on), ``"nonmembers"`` (the other
            1,000) or ``"all"``.

    Raises:
        InputError: If the part is unknown.
    """

    data: DigitsData
    part: Part = "members"

    def __post_init__(self) -> None:
        """Check the part."""
        if self.part not in get_args(Part):
            raise InputError(
                "unknown part of the digits",
                got=self.part,
                wanted="one of " + ", ".join(get_args(Part)),
            )

    def __len__(self) -> int:
        """Number of items."""
        return len(self.rows)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Row of every item in ``data``, shape ``(N,)``."""
        if self.part == "all":
            return np.arange(len(self.data))
        return np.flatnonzero(self.data.is_member == (self.part == "members"))

    @cached_property
    def planted(self) -> Mapping[str, NDArray[np.str_]]:
        """What is known of every item: name -> shape ``(N,)``, as text.

        ``digit``, ``ink``, ``ground`` by their labels, ``is_member`` (``"True"``/``"False"``),
        ``multiplicity`` (how often an epoch showed it) and ``image`` (its row in ``data``).
        """
        rows = self.rows
        labels = {
            name: np.array(self.data.labels(name))[self.data.label(name)[rows]]
            for name in ("digit", "ink", "ground")
        }
        plain = {
            "is_member": self.data.is_member[rows],
            "multiplicity": self.data.multiplicity[rows],
            "image": rows,
        }
        return labels | {name: value.astype(np.str_) for name, value in plain.items()}

    @property
    def strata(self) -> NDArray[np.str_]:
        """The digit of every item: sources are dealt over the ten digits in turn."""
        return self.planted["digit"]

    def clean(self, items: Sequence[int]) -> torch.Tensor:
        """Clean images as the model works with them.

        Args:
            items: Positions in this data set, length M.

        Returns:
            Float32 in ``[-1, 1]``, shape ``(M, 3, 28, 28)``.

        Raises:
            InputError: If a position does not exist.
        """
        import torch

        index = np.asarray(items, dtype=np.int64)
        if index.size and not (index.min() >= 0 and index.max() < len(self)):
            raise InputError(
                "no such item of the digits",
                got=int(index[(index < 0) | (index >= len(self))][0]),
                wanted=f"0 … {len(self) - 1}",
            )
        return torch.from_numpy(self.data.render(self.rows[index]))
