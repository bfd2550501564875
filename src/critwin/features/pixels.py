r"""Exact pixel rules: the grey of the ground, and the colour of the ink.

Both are closed formulas without a fitted number. They read an image in ``[0, 1]`` that was drawn
as ``ground + mask * (ink - ground)``, channel by channel, with a grey ground:

- *ground*: the median of the outermost pixels, over all channels, and the nearest of the known
  greys. A median, because ink may touch the border.
- *ink*: subtracting from each pixel the mean of its channels removes the ground whatever its
  grey, and leaves ``mask * (ink - mean ink)``. The average of these differences, each weighted by
  its own length, points along one ink; the largest cosine wins. The weights let strongly coloured
  pixels speak and let residual noise, which points everywhere, cancel.

A rule abstains where its answer hangs on a hair: two greys (or inks) almost equally near, or no
ink at all. The defaults are the palette of the shipped digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError
from critwin.features._inputs import check_images, check_names
from critwin.features.base import Reading
from critwin.features.fingerprints import fingerprint_of
from critwin.records import ABSTAIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DIGITS_GROUNDS", "DIGITS_INKS", "GroundFeature", "InkFeature"]

DIGITS_GROUNDS: Mapping[str, float] = MappingProxyType({"dark": 0.25, "light": 0.55})
"""Greys of the two grounds of the shipped digits, in ``[0, 1]``."""

DIGITS_INKS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {"red": (1.0, 0.25, 0.25), "green": (0.25, 1.0, 0.25), "blue": (0.25, 0.25, 1.0)}
)
"""RGB of the three inks of the shipped digits, in ``[0, 1]``."""


@dataclass(frozen=True, eq=False, kw_only=True)
class GroundFeature:
    """The grey of the ground: the nearest known grey to the median of the outermost pixels.

    Values: ``level``, the median; ``distance`` to the nearest grey; ``margin``, how much farther
    the second grey is, as a share of the gap between the two (1 on either grey, 0 half way).

    Attributes:
        grounds: Label -> grey in ``[0, 1]``.
        border: Width of the frame whose pixels are read, in pixels.
        abstain_below: Abstain if ``margin`` is below this, in ``[0, 1]``.
        name: Name of the feature.

    Raises:
        InputError: If there are fewer than two greys, two are equal, or an option is out of range.
    """

    grounds: Mapping[str, float] = field(default_factory=lambda: DIGITS_GROUNDS)
    border: int = 2
    abstain_below: float = 0.1
    name: str = "ground"

    def __post_init__(self) -> None:
        """Check the options."""
        grounds = {label: _unit(label, grey) for label, grey in self.grounds.items()}
        object.__setattr__(self, "grounds", MappingProxyType(grounds))
        check_names(self.name, tuple(grounds))
        if len(set(grounds.values())) < max(2, len(grounds)):
            raise InputError("grounds must be two or more different greys", got=grounds)
        if not isinstance(self.border, int) or self.border < 1:
            raise InputError("border must be a whole number of pixels", got=self.border)
        _check_abstain(self.abstain_below)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the grounds."""
        return tuple(self.grounds)

    @property
    def fingerprint(self) -> str:
        """Digest of the rule and its numbers."""
        return fingerprint_of(
            "ground/1",
            grounds=[[label, grey] for label, grey in self.grounds.items()],
            border=self.border,
            abstain_below=self.abstain_below,
            name=self.name,
        )

    def read(self, samples: Any) -> Reading:
        """Read the ground of images in ``[0, 1]``, shape ``(N, C, H, W)``.

        Args:
            samples: Images, NumPy or torch.

        Returns:
            The reading; the margin is also what decides to abstain.

        Raises:
            InputError: If these are no images in ``[0, 1]``, or smaller than the frame.
        """
        images = check_images(samples)
        if min(images.shape[2:]) <= 2 * self.border:
            raise InputError(
                "images are smaller than the frame that is read",
                got=f"{images.shape[2]}x{images.shape[3]}",
                wanted=f"more than {2 * self.border} pixels each way",
            )
        is_frame = np.ones(images.shape[2:], dtype=np.bool_)
        is_frame[self.border : -self.border, self.border : -self.border] = False
        level = np.median(images[:, :, is_frame].reshape(len(images), -1), axis=1)
        greys = np.array(list(self.grounds.values()))
        away = np.abs(level[:, None] - greys)
        order = np.argsort(away, axis=1, kind="stable")
        first, second = order[:, 0], order[:, 1]
        rows = np.arange(len(level))
        gap = np.abs(greys[first] - greys[second])
        margin = (away[rows, second] - away[rows, first]) / gap
        return Reading(
            indices=np.where(margin < self.abstain_below, ABSTAIN, first),
            values={"level": level, "distance": away[rows, first], "margin": margin},
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class InkFeature:
    """The colour of the ink on a grey ground, by the direction in which pixels leave grey.

    Values: ``contrast``, the length of the weighted mean departure from grey, as a share of the
    winning ink's own (near 1 for a full-ink drawing, 0 for none); ``margin``, the winning cosine
    less the second.

    Attributes:
        inks: Label -> RGB in ``[0, 1]``, not grey.
        min_contrast: Abstain if ``contrast`` is below this, in ``[0, 1]``.
        abstain_below: Abstain if ``margin`` is below this, in ``[0, 1]``.
        name: Name of the feature.

    Raises:
        InputError: If there are fewer than two inks, one is grey, two have the same hue, or an
            option is out of range.
    """

    inks: Mapping[str, Sequence[float]] = field(default_factory=lambda: DIGITS_INKS)
    min_contrast: float = 0.05
    abstain_below: float = 0.1
    name: str = "ink"

    def __post_init__(self) -> None:
        """Check the options."""
        inks = {label: tuple(_unit(label, c) for c in rgb) for label, rgb in self.inks.items()}
        object.__setattr__(self, "inks", MappingProxyType(inks))
        check_names(self.name, tuple(inks))
        if len(inks) < 2 or any(len(rgb) != 3 for rgb in inks.values()):
            raise InputError("inks must be two or more RGB triples", got=inks)
        directions, lengths = self._directions()
        if np.any(lengths < 1e-3):
            label = list(inks)[int(np.argmin(lengths))]
            raise InputError(f"ink {label!r} is grey and cannot be told from a ground")
        cosines = (directions[:, None] * directions[None]).sum(axis=2)
        np.fill_diagonal(cosines, -1)
        if cosines.max() > 1 - 1e-6:
            i, j = np.unravel_index(int(np.argmax(cosines)), cosines.shape)
            raise InputError(
                "two inks have the same hue", got=f"{list(inks)[i]} and {list(inks)[j]}"
            )
        _check_abstain(self.abstain_below)
        _check_abstain(self.min_contrast, name="min_contrast")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the inks."""
        return tuple(self.inks)

    @property
    def fingerprint(self) -> str:
        """Digest of the rule and its numbers."""
        return fingerprint_of(
            "ink/1",
            inks=[[label, list(rgb)] for label, rgb in self.inks.items()],
            min_contrast=self.min_contrast,
            abstain_below=self.abstain_below,
            name=self.name,
        )

    def read(self, samples: Any) -> Reading:
        """Read the ink of images in ``[0, 1]``, shape ``(N, 3, H, W)``.

        Args:
            samples: Images, NumPy or torch.

        Returns:
            The reading.

        Raises:
            InputError: If these are no RGB images in ``[0, 1]``.
        """
        images = check_images(samples, channels=3)
        directions, lengths = self._directions()
        departure = images - images.mean(axis=1, keepdims=True)
        weight = np.sqrt((departure**2).sum(axis=1))
        total = weight.reshape(len(images), -1).sum(axis=1)
        moment = (weight[:, None] * departure).reshape(len(images), 3, -1).sum(axis=2)
        colour = moment / np.maximum(total, 1e-12)[:, None]
        length = np.sqrt((colour**2).sum(axis=1))
        unit = colour / np.maximum(length, 1e-12)[:, None]
        cosines = (unit[:, None, :] * directions).sum(axis=2)
        order = np.argsort(-cosines, axis=1, kind="stable")
        first, second = order[:, 0], order[:, 1]
        rows = np.arange(len(images))
        margin = cosines[rows, first] - cosines[rows, second]
        contrast = length / lengths[first]
        is_vague = (margin < self.abstain_below) | (contrast < self.min_contrast)
        return Reading(
            indices=np.where(is_vague, ABSTAIN, first),
            values={"contrast": contrast, "margin": margin},
        )

    def _directions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Unit departures from grey ``(J, 3)`` of the inks, and their lengths ``(J,)``."""
        rgb = np.array(list(self.inks.values()), dtype=np.float64)
        departure = rgb - rgb.mean(axis=1, keepdims=True)
        lengths = np.sqrt((departure**2).sum(axis=1))
        return departure / np.maximum(lengths, 1e-12)[:, None], lengths


def _unit(label: str, value: float) -> float:
    number = float(value)
    if not 0 <= number <= 1:
        raise InputError(
            f"colour of {label!r} is out of range",
            got=number,
            wanted="a number in [0, 1], as in a decoded image",
        )
    return number


def _check_abstain(value: float, *, name: str = "abstain_below") -> None:
    if not 0 <= value <= 1:
        raise InputError(f"{name} is out of range", got=value, wanted="a number in [0, 1]")
