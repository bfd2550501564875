r"""Colour and brightness of images of any size: exact rules, no network.

The hue of a pixel is its angle in the hexagon of HSV; its chroma, ``max - min`` of its channels in
``[0, 1]``, says how much colour there is. The dominant hue is the label on which most chroma
falls. Brightness is the mean of ``0.299 R + 0.587 G + 0.114 B``, of the numbers as they are.

Source: Smith (1978), *Color gamut transform pairs* (the hexagon); Rec. ITU-R BT.601, sec. 2.5.1
(the weights).
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

__all__ = ["HUES", "BrightnessFeature", "HueFeature"]

HUES: Mapping[str, float] = MappingProxyType(
    {"red": 0.0, "yellow": 60.0, "green": 120.0, "cyan": 180.0, "blue": 240.0, "magenta": 300.0}
)
"""Hues in degrees; a pixel belongs to the nearest."""

_REGIONS = ("all", "centre", "border")
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, eq=False, kw_only=True)
class HueFeature:
    """The dominant hue of an RGB image.

    Values: ``chroma``, the mean chroma; ``share``, the share of the chroma that falls on the
    label; ``margin``, that share less the second label's.

    Attributes:
        hues: Label -> hue in degrees.
        grey: Label of an image of little colour; None: abstain.
        min_chroma: An image with less mean chroma has little colour, in ``[0, 1]``.
        margin: Abstain where ``margin`` is below this, in ``[0, 1]``.
        region: ``"all"``, ``"centre"`` (the middle half each way) or ``"border"`` (the rest).
        name: Name of the feature.

    Raises:
        InputError: If there are fewer than two hues, two are equal, or an option is out of range.
    """

    hues: Mapping[str, float] = field(default_factory=lambda: HUES)
    grey: str | None = None
    min_chroma: float = 0.05
    margin: float = 0.0
    region: str = "all"
    name: str = "hue"

    def __post_init__(self) -> None:
        """Check the options."""
        hues = {label: float(hue) % 360 for label, hue in self.hues.items()}
        object.__setattr__(self, "hues", MappingProxyType(hues))
        check_names(self.name, self.labels)
        if (
            len(set(hues.values())) < max(2, len(hues))
            or not np.isfinite(list(hues.values())).all()
        ):
            raise InputError("hues must be two or more different angles", got=hues)
        _check_share("min_chroma", self.min_chroma)
        _check_share("margin", self.margin)
        _check_region(self.region)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the hues, and of grey if it has one."""
        return (*self.hues, *(() if self.grey is None else (self.grey,)))

    @property
    def fingerprint(self) -> str:
        """Digest of the rule and its numbers."""
        return fingerprint_of(
            "hue/1",
            hues=[[label, hue] for label, hue in self.hues.items()],
            grey=self.grey,
            min_chroma=self.min_chroma,
            margin=self.margin,
            region=self.region,
            name=self.name,
        )

    def read(self, samples: Any) -> Reading:
        """Read RGB images in ``[0, 1]``, shape ``(N, 3, H, W)``.

        Args:
            samples: Images, NumPy or torch.

        Returns:
            The reading.

        Raises:
            InputError: If these are no RGB images in ``[0, 1]``.
        """
        pixels = _pixels(check_images(samples, channels=3), self.region)
        high, low = pixels.max(axis=1), pixels.min(axis=1)
        chroma = high - low
        hue = _hue(pixels, high, chroma)
        centres = np.array(list(self.hues.values()))
        away = np.abs((hue[:, None] - centres[:, None] + 180) % 360 - 180)
        nearest = away.argmin(axis=1)
        mass = np.stack(
            [(chroma * (nearest == j)).sum(axis=1) for j in range(len(centres))], axis=1
        )
        share = mass / np.maximum(mass.sum(axis=1, keepdims=True), 1e-12)
        ordered = np.sort(share, axis=1)
        margin = ordered[:, -1] - ordered[:, -2]
        mean = chroma.mean(axis=1)
        indices = np.where(margin < self.margin, ABSTAIN, share.argmax(axis=1))
        plain = ABSTAIN if self.grey is None else len(centres)
        return Reading(
            indices=np.where(mean < self.min_chroma, plain, indices),
            values={"chroma": mean, "share": ordered[:, -1], "margin": margin},
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class BrightnessFeature:
    """The mean brightness of an image, in bins.

    Values: ``level``, the mean brightness.

    Attributes:
        edges: Edges between the bins, increasing, in ``(0, 1)``; an edge belongs to the bin above.
        labels: Names of the bins, one more than edges, darkest first.
        gap: Abstain where the brightness lies within this of an edge.
        region: ``"all"``, ``"centre"`` (the middle half each way) or ``"border"`` (the rest).
        name: Name of the feature.

    Raises:
        InputError: If edges do not increase, labels do not fit, or an option is out of range.
    """

    edges: Sequence[float] = (0.5,)
    labels: tuple[str, ...] = ("dark", "bright")
    gap: float = 0.0
    region: str = "all"
    name: str = "brightness"

    def __post_init__(self) -> None:
        """Check the options."""
        edges = tuple(float(edge) for edge in self.edges)
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "labels", check_names(self.name, self.labels))
        if not edges or list(edges) != sorted(set(edges)) or not 0 < edges[0] <= edges[-1] < 1:
            raise InputError("edges of brightness", got=edges, wanted="increasing, in (0, 1)")
        if len(self.labels) != len(edges) + 1:
            raise InputError(
                "labels do not fit the edges of brightness",
                got=", ".join(self.labels),
                wanted=f"{len(edges) + 1} labels, darkest first",
            )
        _check_share("gap", self.gap)
        _check_region(self.region)

    @property
    def fingerprint(self) -> str:
        """Digest of the rule and its numbers."""
        return fingerprint_of(
            "brightness/1",
            edges=list(self.edges),
            labels=list(self.labels),
            gap=self.gap,
            region=self.region,
            name=self.name,
        )

    def read(self, samples: Any) -> Reading:
        """Read grey or RGB images in ``[0, 1]``, shape ``(N, C, H, W)``.

        Args:
            samples: Images, NumPy or torch.

        Returns:
            The reading.

        Raises:
            InputError: If these are no such images.
        """
        images = check_images(samples)
        if images.shape[1] not in (1, 3):
            raise InputError("no grey and no RGB images", got=f"{images.shape[1]} channels")
        pixels = _pixels(images, self.region)
        weights = np.ones(1) if pixels.shape[1] == 1 else _LUMA
        level = (pixels.mean(axis=2) * weights).sum(axis=1)
        edges = np.array(self.edges)
        is_near = (np.abs(level[:, None] - edges) < self.gap).any(axis=1)
        bins = np.searchsorted(edges, level, side="right")
        return Reading(indices=np.where(is_near, ABSTAIN, bins), values={"level": level})


def _hue(
    pixels: NDArray[np.float64], high: NDArray[np.float64], chroma: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Angle in degrees; 0 where there is no colour."""
    red, green, blue = pixels[:, 0], pixels[:, 1], pixels[:, 2]
    safe = np.where(chroma > 0, chroma, 1.0)
    sector = np.where(
        high == red,
        ((green - blue) / safe) % 6,
        np.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return np.asarray(60 * sector)


def _pixels(images: NDArray[np.float64], region: str) -> NDArray[np.float64]:
    """Pixels of a region, shape ``(N, C, P)``."""
    height, width = images.shape[2:]
    is_centre = np.zeros((height, width), dtype=np.bool_)
    is_centre[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    chosen = {"all": np.ones_like(is_centre), "centre": is_centre, "border": ~is_centre}[region]
    if not chosen.any():
        raise InputError(
            "images are too small for their border",
            got=f"{height}x{width}",
            wanted="at least 4 pixels one way",
        )
    return images[:, :, chosen]


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"{name} is out of range", got=value, wanted="a number in [0, 1]")


def _check_region(region: str) -> None:
    if region not in _REGIONS:
        raise InputError("unknown region", got=region, wanted="one of " + ", ".join(_REGIONS))
