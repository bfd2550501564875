"""What a feature is: something that reads a label off each sample, and may decline to.

A feature sees images in ``[0, 1]``, shape ``(N, C, H, W)``, or points, shape ``(N, D)``, and
answers with a :class:`Reading`: an index into its labels per sample, -1 where it abstains. What a
row reads does not depend on the other rows. :func:`checked_read` is how the rest of critwin asks:
it hides samples that are not finite from the labeller and refuses an answer that is not one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from critwin.errors import InputError
from critwin.features._inputs import check_names, to_numpy
from critwin.records import ABSTAIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = [
    "Comparison",
    "Feature",
    "Reading",
    "check_feature",
    "checked_compare",
    "checked_read",
]

_SUM_TOLERANCE = 1e-4  # float32 softmax over many labels


@dataclass(frozen=True, eq=False, kw_only=True)
class Reading:
    """What a feature read off N samples. Frozen; arrays are read-only.

    Attributes:
        indices: Index into the feature's labels, -1 where it abstained, int64, shape ``(N,)``.
        probs: Label probabilities, shape ``(N, J)``, or None. Rows sum to 1; an abstaining row
            may be NaN.
        values: Named numbers, each of shape ``(N,)``; NaN only where the feature abstained.

    Raises:
        InputError: If an index is not an integer >= -1, a probability or a value is NaN on a row
            that has a label, or lengths disagree.
    """

    indices: NDArray[np.int64]
    probs: NDArray[np.float64] | None = None
    values: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze and check."""
        indices = to_numpy(self.indices)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise InputError(
                "a reading's indices are not a row of integers",
                got=f"{indices.dtype} of shape {indices.shape}",
                wanted="int64 of shape (N,)",
                next_step="return one index a sample, -1 to abstain",
            )
        indices = indices.astype(np.int64)
        if np.any(indices < ABSTAIN):
            raise InputError(
                "a label index is negative",
                got=int(indices.min()),
                wanted="0, 1, …, or -1 to abstain",
                next_step="map unknown samples to -1",
            )
        has_label = indices != ABSTAIN
        _set(self, "indices", _frozen(indices))
        if self.probs is not None:
            _set(self, "probs", _frozen(_checked_probs(to_numpy(self.probs), has_label)))
        values = {}
        for name, value in self.values.items():
            column = to_numpy(value).astype(np.float64)
            if column.shape != indices.shape:
                raise InputError(
                    f"value {name!r} of a reading has the wrong shape",
                    got=column.shape,
                    wanted=str(indices.shape),
                )
            if not np.all(np.isfinite(column[has_label])):
                raise InputError(
                    f"value {name!r} of a reading is not finite",
                    got=float(column[has_label][~np.isfinite(column[has_label])][0]),
                    wanted="a finite number for every sample that has a label",
                    next_step="abstain (-1) where it cannot be computed",
                )
            values[str(name)] = _frozen(column)
        _set(self, "values", MappingProxyType(values))

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.indices)


@runtime_checkable
class Feature(Protocol):
    """Something that can be read off a sample.

    Attributes:
        name: Name in records and plots; ``*`` and ``/`` are reserved.
        labels: Names of the labels, length J.
        fingerprint: Digest of everything that can change a reading.
    """

    @property
    def name(self) -> str:
        """Name."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of everything that can change a reading."""
        ...

    def read(self, samples: Any) -> Reading:
        """Read N samples: images in ``[0, 1]`` ``(N, C, H, W)`` or points ``(N, D)``."""
        ...


@runtime_checkable
class Comparison(Protocol):
    """Named numbers read off a source and its forward–reverse image together.

    Attributes:
        name: Name of the comparison.
        fingerprint: Digest of everything that can change a number.
    """

    @property
    def name(self) -> str:
        """Name."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of everything that can change a reading."""
        ...

    def read(self, source: Any, result: Any) -> Mapping[str, NDArray[np.float64]]:
        """Compare N pairs; each named number has shape ``(N,)``."""
        ...


def checked_read(feature: Feature, samples: Any) -> Reading:
    """Read samples and refuse an answer that is not one.

    Samples with a NaN or infinite entry are hidden from the labeller (it sees zeros in their
    place, so the batch keeps its shape) and come back as abstained, with NaN probabilities and
    values.

    Args:
        feature: The feature.
        samples: Images ``(N, C, H, W)`` in ``[0, 1]`` or points ``(N, D)``, NumPy or torch.

    Returns:
        The reading, checked against the feature's labels.

    Raises:
        InputError: If the samples have no rows axis, or the labeller returned unknown labels,
            NaN, or another number of rows.
    """
    if getattr(samples, "ndim", 0) < 2:
        raise InputError(
            "samples need a first axis of rows",
            got=f"shape {tuple(getattr(samples, 'shape', ()))}",
            wanted="images (N, C, H, W) or points (N, D)",
            next_step="add an axis for a single sample",
        )
    num = len(samples)
    is_finite = np.isfinite(to_numpy(samples).reshape(num, -1)).all(axis=1)
    shown = samples if is_finite.all() else _hide(samples, ~is_finite)
    with _named(feature):
        reading = feature.read(shown)
        if not isinstance(reading, Reading):
            raise InputError(
                "the labeller did not return a Reading",
                got=type(reading).__name__,
                wanted="critwin.features.Reading",
                next_step="wrap a plain function in FunctionFeature",
            )
        if len(reading) != num:
            raise InputError(
                "wrong number of rows", got=len(reading), wanted=f"{num}, one a sample"
            )
        num_labels = len(feature.labels)
        if np.any(reading.indices >= num_labels):
            raise InputError(
                "unknown label",
                got=f"index {int(reading.indices.max())}",
                wanted=f"-1 … {num_labels - 1} for labels {', '.join(feature.labels)}",
                next_step="list every label the labeller can return, or abstain with -1",
            )
        if reading.probs is not None and reading.probs.shape[1] != num_labels:
            raise InputError(
                "wrong number of probabilities",
                got=reading.probs.shape[1],
                wanted=f"{num_labels}, one a label",
            )
    if is_finite.all():
        return reading
    return Reading(
        indices=np.where(is_finite, reading.indices, ABSTAIN),
        probs=None
        if reading.probs is None
        else np.where(is_finite[:, None], reading.probs, np.nan),
        values={k: np.where(is_finite, v, np.nan) for k, v in reading.values.items()},
    )


def checked_compare(
    comparison: Comparison, source: Any, result: Any
) -> dict[str, NDArray[np.float64]]:
    """Compare pairs and refuse an answer that is not one.

    Pairs in which either sample is not finite come back as NaN.

    Args:
        comparison: The comparison.
        source: Samples, NumPy or torch, shape ``(N, …)``.
        result: Their forward–reverse images, the same shape.

    Returns:
        Named numbers, float64, each of shape ``(N,)``.

    Raises:
        InputError: If shapes disagree, or a number of a finite pair is NaN.
    """
    if tuple(source.shape) != tuple(result.shape):
        raise InputError(
            "sources and results differ in shape",
            got=f"{tuple(source.shape)} and {tuple(result.shape)}",
            wanted="equal shapes",
        )
    num = len(source)
    is_finite = np.ones(num, dtype=np.bool_)
    for side in (source, result):
        is_finite &= np.isfinite(to_numpy(side).reshape(num, -1)).all(axis=1)
    if not is_finite.all():
        source, result = _hide(source, ~is_finite), _hide(result, ~is_finite)
    out = {}
    for name, value in comparison.read(source, result).items():
        column = to_numpy(value).astype(np.float64)
        if column.shape != (num,):
            raise InputError(
                f"comparison {comparison.name!r}: value {name!r} has the wrong shape",
                got=column.shape,
                wanted=f"({num},)",
            )
        if np.any(np.isnan(column[is_finite])):
            raise InputError(
                f"comparison {comparison.name!r}: value {name!r} is NaN",
                wanted="a number for every finite pair",
            )
        out[str(name)] = np.where(is_finite, column, np.nan)
    return out


def check_feature(feature: Any) -> Feature:
    """Check that an object is a feature with usable names.

    Args:
        feature: Any object.

    Returns:
        The same object.

    Raises:
        InputError: If it lacks ``name``, ``labels``, ``fingerprint`` or ``read``, or a name or
            label cannot be used.
    """
    missing = [a for a in ("name", "labels", "fingerprint", "read") if not hasattr(feature, a)]
    if missing:
        raise InputError(
            "not a feature",
            got=f"{type(feature).__name__} without {', '.join(missing)}",
            wanted="an object with name, labels, fingerprint and read(samples)",
            next_step="wrap a plain function in FunctionFeature",
        )
    check_names(feature.name, feature.labels)
    known: Feature = feature
    return known


def _checked_probs(probs: NDArray[Any], has_label: NDArray[np.bool_]) -> NDArray[np.float64]:
    if probs.ndim != 2 or len(probs) != len(has_label):
        raise InputError(
            "label probabilities have the wrong shape",
            got=probs.shape,
            wanted=f"({len(has_label)}, J)",
        )
    out = probs.astype(np.float64)
    rows = out[has_label]
    if np.any(np.isnan(rows)):
        raise InputError(
            "label probabilities are NaN",
            got=f"{int(np.isnan(rows).any(axis=1).sum())} of {len(rows)} labelled samples",
            wanted="numbers in [0, 1]",
            next_step="check the labeller's weights and inputs, or abstain (-1) there",
        )
    if np.any(rows < -_SUM_TOLERANCE) or np.any(rows > 1 + _SUM_TOLERANCE):
        raise InputError(
            "label probabilities outside [0, 1]",
            got=float(rows.flat[np.argmax(np.abs(rows - 0.5))]),
            next_step="apply a softmax to logits first",
        )
    sums = rows.sum(axis=1)
    if np.any(np.abs(sums - 1) > _SUM_TOLERANCE):
        raise InputError(
            "label probabilities do not sum to 1",
            got=float(sums[np.argmax(np.abs(sums - 1))]),
            next_step="apply a softmax to logits, or divide by the sum",
        )
    return out


def _hide(samples: Any, rows: NDArray[np.bool_]) -> Any:
    """A copy with zeros in the given rows, of the same kind of array."""
    if hasattr(samples, "detach"):
        shown = samples.detach().clone()
        shown[rows.nonzero()[0].tolist()] = 0
        return shown
    shown = np.array(samples)
    shown[rows] = 0
    return shown


@contextmanager
def _named(feature: Feature) -> Iterator[None]:
    """Put the feature's name in front of an error that its labeller causes."""
    try:
        yield
    except InputError as error:
        if repr(feature.name) in error.what or type(error) is not InputError:
            raise
        raise InputError(
            f"feature {feature.name!r}: {error.what}",
            got=error.got,
            wanted=error.wanted,
            next_step=error.next_step,
        ) from error


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    out = np.array(array)
    out.setflags(write=False)
    return out


def _set(target: Any, name: str, value: Any) -> None:
    object.__setattr__(target, name, value)
