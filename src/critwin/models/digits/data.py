"""The data of the shipped digits models: 5,000 MNIST digits with planted features.

Masks and labels are stored, colour images are rendered from them. With ``m = mask / 255``,
ground grey ``g`` and ink colour ``c``, channel ``k`` of an image is ``g + m * (c[k] - g)``.
Everything planted (ground, ink, repeats) is in ``planted.json`` beside the arrays and is checked
against them by a test. Variants of the model have the same masks, digits and members, and inks,
grounds and repeats of their own. NumPy only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from critwin._texts import unknown_name
from critwin.errors import InputError

__all__ = [
    "DIGIT_LABELS",
    "FEATURES",
    "GROUND_LABELS",
    "GROUND_VALUES",
    "INK_COLORS",
    "INK_LABELS",
    "VARIANTS",
    "DigitsData",
    "Variant",
    "check_variant",
    "load_data",
    "load_planted",
]

Variant = Literal["main", "control", "reversed"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
"""``control``: uniform ink, no repeats. ``reversed``: the ink law of each digit reversed."""

DIGIT_LABELS: tuple[str, ...] = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
INK_LABELS: tuple[str, ...] = ("red", "green", "blue")
GROUND_LABELS: tuple[str, ...] = ("dark", "light")
FEATURES: dict[str, tuple[str, ...]] = {
    "digit": DIGIT_LABELS,
    "ink": INK_LABELS,
    "ground": GROUND_LABELS,
}

GROUND_VALUES: tuple[float, ...] = (-0.5, 0.1)
"""Grey level of each ground, in data units ``[-1, 1]``."""

INK_COLORS: tuple[tuple[float, float, float], ...] = (
    (1.0, -0.5, -0.5),
    (-0.5, 1.0, -0.5),
    (-0.5, -0.5, 1.0),
)
"""RGB of each ink, in data units ``[-1, 1]``."""


@dataclass(frozen=True, eq=False)
class DigitsData:
    """The 5,000 digits and everything planted on them.

    Attributes:
        masks: Grey masks, uint8, shape ``(N, 28, 28)``; 0 is ground, 255 is ink.
        digit: Digit 0..9, int8, shape ``(N,)``.
        ink: Index into ``INK_LABELS``, int8, shape ``(N,)``.
        ground: Index into ``GROUND_LABELS``, int8, shape ``(N,)``.
        is_member: Whether the model was trained on the image, bool, shape ``(N,)``.
        multiplicity: How often an epoch shows the image, int16, shape ``(N,)``; 0 for
            non-members.
    """

    masks: npt.NDArray[np.uint8]
    digit: npt.NDArray[np.int8]
    ink: npt.NDArray[np.int8]
    ground: npt.NDArray[np.int8]
    is_member: npt.NDArray[np.bool_]
    multiplicity: npt.NDArray[np.int16]

    def __post_init__(self) -> None:
        n = len(self.masks)
        if self.masks.shape != (n, 28, 28):
            raise ValueError(f"masks must have shape (N, 28, 28), got {self.masks.shape}")
        for name in ("digit", "ink", "ground", "is_member", "multiplicity"):
            if (shape := getattr(self, name).shape) != (n,):
                raise ValueError(f"{name} must have shape ({n},), got {shape}")
        if not np.array_equal(self.multiplicity > 0, self.is_member):
            raise ValueError("multiplicity must be positive exactly for members")

    def __len__(self) -> int:
        return len(self.masks)

    def label(self, name: str) -> npt.NDArray[np.int64]:
        """Label indices of one feature.

        Args:
            name: ``"digit"``, ``"ink"``, ``"ground"``, or a product such as ``"ground*ink"``,
                whose last factor varies fastest.

        Returns:
            Indices, shape ``(N,)``; see :meth:`labels` for their names.

        Raises:
            ValueError: If a factor is not a feature of this data set.
        """
        out = np.zeros(len(self), dtype=np.int64)
        for part in _factors(name):
            out = out * len(FEATURES[part]) + np.asarray(getattr(self, part), dtype=np.int64)
        return out

    def labels(self, name: str) -> tuple[str, ...]:
        """Names of the labels of one feature or product of features.

        Args:
            name: As for :meth:`label`.

        Returns:
            One name per index; the parts of a product are joined by ``*``.

        Raises:
            ValueError: If a factor is not a feature of this data set.
        """
        out: list[str] = [""]
        for part in _factors(name):
            out = [f"{a}*{b}" if a else b for a in out for b in FEATURES[part]]
        return tuple(out)

    def render(self, index: int | Iterable[int] | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Draw images in colour.

        Args:
            index: Which images: an integer, integers, or a boolean array, shape ``(M,)``.

        Returns:
            Images in ``[-1, 1]``, shape ``(M, 3, 28, 28)``; a single integer gives ``M = 1``.
        """
        rows = np.atleast_1d(np.asarray(index))
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        mask = self.masks[rows].astype(np.float32)[:, None] / np.float32(255)
        ground = np.asarray(GROUND_VALUES, dtype=np.float32)[self.ground[rows]]
        ink = np.asarray(INK_COLORS, dtype=np.float32)[self.ink[rows]]
        base = ground[:, None, None, None]
        return cast("npt.NDArray[np.float32]", base + mask * (ink[:, :, None, None] - base))

    def training_index(self) -> npt.NDArray[np.int64]:
        """Rows of one epoch, repeats expanded.

        Returns:
            Indices into the data set in increasing order; 4,810 of them, 4,000 in ``control``.
        """
        return np.repeat(np.arange(len(self)), self.multiplicity)

    def counts(self, *names: str) -> npt.NDArray[np.int64]:
        """Contingency table of the training rows, repeats counted.

        Args:
            *names: One feature per axis, as for :meth:`label`.

        Returns:
            Counts, one axis per name.

        Raises:
            ValueError: If a factor is not a feature of this data set.
        """
        out = np.zeros([len(self.labels(name)) for name in names], dtype=np.int64)
        np.add.at(out, tuple(self.label(name) for name in names), self.multiplicity)
        return out

    def prior(self, name: str) -> npt.NDArray[np.float64]:
        """Law of a feature among the training rows, repeats counted: the model's target prior.

        Args:
            name: As for :meth:`label`.

        Returns:
            Probabilities that sum to 1, shape ``(I,)``.

        Raises:
            ValueError: If a factor is not a feature of this data set.
        """
        counts = self.counts(name).astype(np.float64)
        return cast("npt.NDArray[np.float64]", counts / counts.sum())

    @cached_property
    def digit_ink(self) -> npt.NDArray[np.int64]:
        """Planted table: training rows of each digit in each ink, shape ``(10, 3)``."""
        return self.counts("digit", "ink")

    @cached_property
    def digit_ground(self) -> npt.NDArray[np.int64]:
        """Planted table: training rows of each digit on each ground, shape ``(10, 2)``."""
        return self.counts("digit", "ground")

    @cached_property
    def ink_ground(self) -> npt.NDArray[np.int64]:
        """Planted table: training rows of each ink on each ground, shape ``(3, 2)``."""
        return self.counts("ink", "ground")


def _factors(name: str) -> list[str]:
    """Split a product of features, refusing unknown names."""
    parts = [part.strip() for part in name.split("*")]
    if absent := [part for part in parts if part not in FEATURES]:
        raise unknown_name("feature", absent[0], FEATURES, more=", or a product a*b")
    return parts


def load_data(variant: Variant = "main") -> DigitsData:
    """Read the shipped data set.

    Args:
        variant: ``"main"``, ``"control"`` or ``"reversed"``: the same masks, digits and members,
            other inks, grounds and repeats.

    Returns:
        All 5,000 digits; arrays are read-only.

    Raises:
        InputError: If the variant is unknown.
    """
    check_variant(variant)
    arrays = _arrays("digits.npz")
    if variant != "main":
        own = _arrays("variants.npz")
        arrays |= {name: own[f"{variant}.{name}"] for name in ("ink", "ground", "multiplicity")}
    return DigitsData(**arrays)


def load_planted(variant: Variant = "main") -> dict[str, Any]:
    """Read the published description of what was planted.

    Args:
        variant: Whose counts stand at the top.

    Returns:
        The content of ``planted.json``; for a variant, with its own entries in place of those of
        the main data.

    Raises:
        InputError: If the variant is unknown.
    """
    check_variant(variant)
    text = (resources.files(__package__) / "data" / "planted.json").read_text(encoding="utf-8")
    planted: dict[str, Any] = json.loads(text)
    return planted if variant == "main" else planted | planted["variants"][variant]


def check_variant(variant: str) -> None:
    """Refuse a variant that does not exist.

    Args:
        variant: Its name.

    Raises:
        InputError: If it is unknown.
    """
    if variant not in VARIANTS:
        raise InputError(
            "unknown variant of the digits", got=variant, wanted="one of " + ", ".join(VARIANTS)
        )


def _arrays(name: str) -> dict[str, npt.NDArray[Any]]:
    """Read-only arrays of a file of the package."""
    with (
        resources.as_file(resources.files(__package__) / "data" / name) as path,
        np.load(path, allow_pickle=False) as archive,
    ):
        arrays = {key: archive[key] for key in archive.files}
    for array in arrays.values():
        array.flags.writeable = False
    return arrays
