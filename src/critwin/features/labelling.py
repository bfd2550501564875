"""How often a labeller errs: its error matrix on samples whose labels are known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import beta

from critwin._texts import some_of
from critwin.errors import InputError
from critwin.features.base import checked_read
from critwin.records import ABSTAIN

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from critwin.features.base import Feature

__all__ = [
    "ErrorMatrix",
    "error_matrix",
    "labelled_images",
    "read_error_matrix",
    "truth_indices",
]

_BATCH = 256
_NEEDED = ("feature", "labels", "counts", "abstained")
_MOST = 2**53  # up to here a float holds every whole number


@dataclass(frozen=True, eq=False, kw_only=True)
class ErrorMatrix:
    """Counts of what a labeller said about samples of each true label. Frozen.

    Attributes:
        feature: Name of the feature.
        labels: Names of the labels, length K; of the truth and of what was said.
        counts: ``counts[k, l]`` samples of true label k were called l, shape ``(K, K)``.
        abstained: Samples of true label k on which the labeller abstained, shape ``(K,)``.
        confidence: Level of the intervals.
        fingerprint: Fingerprint of the feature that was measured.

    Raises:
        InputError: If shapes disagree or a count is negative.
    """

    feature: str
    labels: tuple[str, ...]
    counts: NDArray[np.int64]
    abstained: NDArray[np.int64]
    confidence: float = 0.95
    fingerprint: str = ""

    def __post_init__(self) -> None:
        """Freeze and check."""
        if len(set(self.labels)) < len(self.labels) or not all(self.labels):
            raise InputError(
                "labels of an error matrix must be distinct and not empty",
                got=", ".join(map(repr, self.labels)),
                wanted="every label once",
            )
        for name, is_table in (("counts", True), ("abstained", False)):
            array = _whole(getattr(self, name), self.labels, name, is_table=is_table)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if not 0 < self.confidence < 1:
            raise InputError("confidence is out of range", got=self.confidence, wanted="in (0, 1)")

    @property
    def num_samples(self) -> int:
        """Number of labelled samples, abstentions included."""
        return int(self.counts.sum() + self.abstained.sum())

    @property
    def rates(self) -> NDArray[np.float64]:
        """``M[k, l] = P(said l | true k, not abstained)``; NaN rows where nothing was said."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.counts / self.counts.sum(axis=1, keepdims=True))

    @property
    def intervals(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Exact (Clopper–Pearson) limits of every rate on its own, each ``(K, K)``."""
        return _exact_limits(self.counts, self.counts.sum(axis=1, keepdims=True), self.confidence)

    @property
    def abstention(self) -> NDArray[np.float64]:
        """Share of the samples of each label on which the labeller abstained, shape ``(K,)``."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.abstained / (self.abstained + self.counts.sum(axis=1)))

    @property
    def accuracy(self) -> float:
        """Share of right answers among the answers given."""
        said = self.counts.sum()
        return float(np.trace(self.counts) / said) if said else float("nan")

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """Exact limits of the accuracy, for samples drawn like these."""
        low, high = _exact_limits(
            np.array([np.trace(self.counts)]), np.array([self.counts.sum()]), self.confidence
        )
        return float(low[0]), float(high[0])

    @property
    def condition(self) -> float:
        """Condition number of the rates: how much inverting them can magnify an error."""
        rates = self.rates
        return float("inf") if np.isnan(rates).any() else float(np.linalg.cond(rates))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; unknown numbers are None."""
        low, high = self.intervals
        return {
            "feature": self.feature,
            "fingerprint": self.fingerprint,
            "labels": list(self.labels),
            "num_samples": self.num_samples,
            "counts": self.counts.tolist(),
            "abstained": self.abstained.tolist(),
            "rates": _nullable(self.rates),
            "rates_low": _nullable(low),
            "rates_high": _nullable(high),
            "accuracy": _nullable(self.accuracy),
            "accuracy_interval": [_nullable(x) for x in self.accuracy_interval],
            "confidence": self.confidence,
            "condition": self.condition if np.isfinite(self.condition) else None,
        }

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> ErrorMatrix:
        """Read back what :meth:`as_dict` wrote; derived numbers are computed again.

        Args:
            raw: The mapping, as parsed from JSON.

        Returns:
            The error matrix.

        Raises:
            InputError: If an entry is missing or cannot be used.
        """
        wanted = "an object with " + ", ".join(_NEEDED)
        if not isinstance(raw, Mapping):
            raise InputError("not a stored error matrix", got=type(raw).__name__, wanted=wanted)
        if missing := [name for name in _NEEDED if name not in raw]:
            raise InputError(
                "not a stored error matrix",
                got=f"no {', '.join(missing)}",
                wanted=wanted,
                next_step="write it with ErrorMatrix.as_dict()",
            )
        labels, confidence = raw["labels"], raw.get("confidence", 0.95)
        if not isinstance(labels, list | tuple) or not labels:
            raise InputError(
                "labels of an error matrix cannot be used", got=labels, wanted="a list of names"
            )
        if isinstance(confidence, bool) or not isinstance(confidence, int | float):
            raise InputError(
                "confidence of an error matrix cannot be used", got=confidence, wanted="a number"
            )
        return ErrorMatrix(
            feature=str(raw["feature"]),
            labels=tuple(str(label) for label in labels),
            counts=raw["counts"],
            abstained=raw["abstained"],
            confidence=float(confidence),
            fingerprint=str(raw.get("fingerprint", "")),
        )


def error_matrix(
    feature: Feature,
    samples: Any,
    truth: Sequence[str] | ArrayLike,
    *,
    confidence: float = 0.95,
    batch_size: int = _BATCH,
) -> ErrorMatrix:
    """Measure a labeller on samples whose labels are known.

    The samples should look like what will be read: clean photographs say little about errors on
    generated images.

    Args:
        feature: The feature.
        samples: Images ``(N, C, H, W)`` in ``[0, 1]`` or points ``(N, D)``.
        truth: N label names, or indices into the feature's labels.
        confidence: Level of the intervals.
        batch_size: Samples a reading.

    Returns:
        The error matrix.

    Raises:
        InputError: If the numbers of samples and labels differ, there is none, a label is not one
            of the feature's, or the reading fails.
    """
    indices = truth_indices(feature, truth)
    if len(samples) != len(indices) or len(indices) == 0:
        raise InputError(
            "samples and true labels do not fit",
            got=f"{len(samples)} samples, {len(indices)} labels",
            wanted="one label a sample, at least one",
        )
    said = np.concatenate(
        [
            checked_read(feature, samples[start : start + batch_size]).indices
            for start in range(0, len(indices), batch_size)
        ]
    )
    size = len(feature.labels)
    table = np.zeros((size, size + 1), dtype=np.int64)
    np.add.at(table, (indices, np.where(said == ABSTAIN, size, said)), 1)
    return ErrorMatrix(
        feature=feature.name,
        labels=tuple(feature.labels),
        counts=table[:, :size],
        abstained=table[:, size],
        confidence=confidence,
        fingerprint=feature.fingerprint,
    )


def labelled_images(
    folder: str | Path,
    *,
    size: tuple[int, int],
    column: str = "label",
    channels: int = 3,
    fit: str = "crop",
) -> tuple[NDArray[np.float32], list[str]]:
    """Images of a folder with their labels, to measure or to calibrate a labeller on.

    The labels stand in a column of the folder's ``metadata.csv`` or ``metadata.jsonl``, beside
    ``file_name``; without such a file each folder inside is a label.

    Args:
        folder: The folder.
        size: Height and width that all images are brought to; that of the samples of the model.
        column: Column of the labels.
        channels: 1 (grey) or 3 (RGB).
        fit: How an image is brought to the size, see :mod:`critwin._images`.

    Returns:
        Images in ``[0, 1]``, shape ``(N, C, H, W)``, and N labels.

    Raises:
        InputError: If there is no image, one cannot be read, or one has no label.
    """
    from critwin._images import METADATA, image_files, read_image

    place = Path(folder)
    if any((place / name).is_file() for name in METADATA):
        entries = image_files(place)
        found = [(entry, dict(entry.facts).get(column)) for entry in entries]
    else:
        parts = sorted(part for part in place.iterdir() if part.is_dir()) if place.is_dir() else []
        found = [(entry, part.name) for part in parts for entry in image_files(part)]
    if not found:
        raise InputError(
            "no labelled images in the folder",
            got=str(folder),
            wanted="metadata.csv with file_name and labels, or a folder of images a label",
        )
    for entry, label in found:
        if label is None:
            raise InputError(f"image {entry.name!r} has no {column!r}", wanted="a label")
    images = [read_image(e.path, channels=channels, size=size, fit=fit) for e, _ in found]
    return np.stack(images), [str(label) for _, label in found]


def read_error_matrix(path: str | Path) -> ErrorMatrix:
    """An error matrix from a JSON file of what :meth:`ErrorMatrix.as_dict` returned.

    Args:
        path: The file.

    Returns:
        The error matrix.

    Raises:
        InputError: If the file cannot be read or holds something else.
    """
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            "cannot read the error matrix",
            got=f"{path}: {getattr(error, 'strerror', None) or error}",
            wanted="a JSON file of ErrorMatrix.as_dict()",
        ) from error
    try:
        return ErrorMatrix.from_dict(raw)
    except InputError as error:
        raise InputError(f"{Path(path).name}: {error}") from error


def truth_indices(feature: Any, truth: Any) -> NDArray[np.int64]:
    """True labels as indices into a feature's labels.

    Args:
        feature: Anything with a name and labels.
        truth: N label names, or indices.

    Returns:
        Shape ``(N,)``.

    Raises:
        InputError: If this is no row of labels, or one is not the feature's.
    """
    names = np.asarray(truth)
    if names.ndim != 1:
        raise InputError("true labels must be one row", got=f"shape {names.shape}", wanted="(N,)")
    if names.dtype.kind in "iu":
        if np.any((names < 0) | (names >= len(feature.labels))):
            bad = names[(names < 0) | (names >= len(feature.labels))][0]
            raise InputError(
                f"true label is not one of feature {feature.name!r}",
                got=f"index {int(bad)}",
                wanted=f"0 … {len(feature.labels) - 1}",
            )
        return names.astype(np.int64)
    index = {label: k for k, label in enumerate(feature.labels)}
    for name in names.tolist():
        if name not in index:
            raise InputError(
                f"true label is not one of feature {feature.name!r}",
                got=name,
                wanted=f"one of {', '.join(feature.labels)}",
                next_step="leave out samples without a true label",
            )
    return np.array([index[name] for name in names.tolist()], dtype=np.int64)


def _whole(value: Any, labels: Sequence[str], name: str, *, is_table: bool) -> NDArray[np.int64]:
    """Whole numbers, one a label or one a pair of labels; a number that is none is named."""
    size = len(labels)
    rows = _listed(value)
    each = f"{size} whole numbers >= 0, one a label: {some_of(labels)}"
    if rows is None or len(rows) != size:
        raise InputError(
            f"{name} of an error matrix cannot be used",
            got=repr(value) if rows is None else f"{len(rows)} of them",
            wanted=f"{size} rows of {each}" if is_table else each,
        )
    out = np.zeros((size, size) if is_table else size, dtype=np.int64)
    for k, (label, row) in enumerate(zip(labels, rows, strict=True)):
        cells = _listed(row) if is_table else [row]
        if cells is None or (is_table and len(cells) != size):
            raise InputError(
                f"{name} of an error matrix: the row of {label!r} cannot be used",
                got=row,
                wanted=each,
            )
        for other, cell in zip(labels, cells, strict=False):
            is_number = isinstance(cell, int | float) and not isinstance(cell, bool)
            if not is_number or not 0 <= cell <= _MOST or cell != int(cell):
                said = f", called {other!r}," if is_table else ""
                raise InputError(
                    f"{name} of an error matrix: samples of {label!r}{said} cannot be counted",
                    got=cell,
                    wanted="a whole number >= 0",
                )
        out[k] = [int(cell) for cell in cells] if is_table else int(cells[0])
    return out


def _listed(value: Any) -> list[Any] | None:
    plain = value.tolist() if hasattr(value, "tolist") else value
    return list(plain) if isinstance(plain, list | tuple) else None


def _exact_limits(
    hits: NDArray[np.int64], tries: NDArray[np.int64], confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Clopper–Pearson limits; NaN where nothing was tried."""
    tail = (1 - confidence) / 2
    hits, tries = np.broadcast_arrays(hits, tries)
    low = np.where(hits > 0, beta.ppf(tail, np.maximum(hits, 1), tries - hits + 1), 0.0)
    high = np.where(hits < tries, beta.ppf(1 - tail, hits + 1, np.maximum(tries - hits, 1)), 1.0)
    return np.where(tries > 0, low, np.nan), np.where(tries > 0, high, np.nan)


def _nullable(value: Any) -> Any:
    array = np.asarray(value, dtype=np.float64)
    plain = array.astype(object)
    plain[~np.isfinite(array)] = None
    return plain.tolist()
