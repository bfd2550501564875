"""What a labelled data set must be: checked once, label columns numbered, repeats found."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["LabelColumn", "PointSet", "check_points", "label_column"]

_CHUNK = 1 << 22  # numbers looked at in one go
_MAX_LABELS = 500  # tables of L x I x J numbers are held
_MAX_LOGIT = 1e30  # snr |x|^2 that float32 can hold with room
_VARIANCES = (1e-24, 1e24)  # of which levels and float32 have room on both sides


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelColumn:
    """One label of every point.

    Attributes:
        name: Name of the column.
        labels: Names of the labels, in natural order.
        codes: Index of every point's label, shape ``(N,)``.
    """

    name: str
    labels: tuple[str, ...]
    codes: NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class PointSet:
    """Points with weights, not copied where that can be avoided.

    Attributes:
        points: Shape ``(N, D)``, any numeric dtype.
        weights: How often each point counts, shape ``(N,)``, positive; None: all alike.
        centre: Weighted mean, shape ``(D,)``.
        variance: Trace of the weighted covariance, positive.
        largest: Largest squared distance from the centre.
    """

    points: NDArray[Any]
    weights: Array | None
    centre: Array
    variance: float
    largest: float

    @cached_property
    def law(self) -> Array:
        """Probability of every point, shape ``(N,)``."""
        if self.weights is None:
            return np.full(len(self.points), 1.0 / len(self.points))
        return np.asarray(self.weights / self.weights.sum())

    def centred(self, rows: slice | NDArray[np.int64], dtype: str = "float64") -> NDArray[Any]:
        """Some points less the centre, the difference taken in float64."""
        return np.asarray(self.points[rows] - self.centre).astype(dtype)

    @cached_property
    def varying(self) -> NDArray[np.int64] | slice:
        """Coordinates in which points differ; the others add nothing to any product."""
        low, high = self.points[0].copy(), self.points[0].copy()
        for rows in _chunks(self.points):
            np.minimum(low, self.points[rows].min(axis=0), out=low)
            np.maximum(high, self.points[rows].max(axis=0), out=high)
        found = np.flatnonzero(low != high)
        return slice(None) if len(found) == len(low) else found

    @cached_property
    def twins(self) -> NDArray[np.int64]:
        """Index of the first point that equals each, shape ``(N,)``."""
        first: dict[bytes, int] = {}
        return np.array(
            [
                first.setdefault(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), n)
                for n, row in enumerate(self.points)
            ],
            dtype=np.int64,
        )

    def check_levels(self, logsnr: ArrayLike) -> Array:
        """Levels as float64, refused if they are no finite decreasing logsnr that fits."""
        levels = np.asarray(logsnr, dtype=np.float64)
        if levels.ndim != 1 or len(levels) == 0 or not np.all(np.isfinite(levels)):
            raise InputError(
                "levels are not a list of finite logsnr", got=logsnr, wanted="shape (L,)"
            )
        if np.any(np.diff(levels) >= 0):
            raise InputError("levels must be strictly decreasing logsnr (noise grows)")
        if levels[0] + np.log(self.largest) > np.log(_MAX_LOGIT):
            raise InputError(
                "the first level has too little noise for these points",
                got=f"logsnr {levels[0]:.4g}",
                wanted=f"at most {np.log(_MAX_LOGIT) - np.log(self.largest):.4g}",
            )
        return levels


def check_points(points: ArrayLike, weights: ArrayLike | None) -> tuple[PointSet, NDArray[Any]]:
    """Points as a table, without those of weight 0.

    Args:
        points: Shape ``(N, ...)``; further axes are flattened.
        weights: Shape ``(N,)``, not negative, or None.

    Returns:
        The points, and the positions of those that were kept.

    Raises:
        InputError: If they are not numbers, too few, not finite, or all the same.
    """
    raw = np.asarray(points)
    if raw.dtype.kind not in "biuf" or raw.ndim < 2 or raw[0:1].size == 0:
        raise InputError(
            "points are not a table of numbers",
            got=f"shape {raw.shape}, {raw.dtype}",
            wanted="numbers of shape (N, D)",
        )
    table = raw.reshape(len(raw), -1)
    if table.dtype.kind == "b":
        table = table.astype(np.uint8)
    keep = np.arange(len(table))
    mass: Array | None = None
    if weights is not None:
        mass = _weights(weights, len(table))
        keep = np.flatnonzero(mass > 0)
        mass = mass[keep]
        if len(keep) < len(table):
            table = table[keep]
        if np.all(mass == mass[:1]):
            mass = None
    if len(table) < 2:
        raise InputError("too few points", got=len(table), wanted="at least 2 with some weight")
    law = np.full(len(table), 1.0 / len(table)) if mass is None else mass / mass.sum()
    centre = np.zeros(table.shape[1])
    for rows in _chunks(table):
        with np.errstate(invalid="ignore", over="ignore"):  # inf and NaN are refused below
            centre += law[rows] @ table[rows].astype(np.float64)
        if not np.all(np.isfinite(centre)):
            part = np.asarray(table[rows])
            bad = np.argwhere(~np.isfinite(part))
            place = bad[0] if len(bad) else np.array([0, 0])
            raise InputError(
                "points are not finite",
                got=f"{part[tuple(place)]} in row {keep[place[0] + rows.start]}",
                wanted="finite numbers",
            )
    with np.errstate(over="ignore", under="ignore"):
        squares = np.concatenate(
            [
                ((table[rows] - centre) ** 2).sum(axis=1, dtype=np.float64)
                for rows in _chunks(table)
            ]
        )
        variance, shared = float(law @ squares), float(centre @ centre)
    is_large = not (variance <= _VARIANCES[1] and np.isfinite(shared))
    if not is_large and not variance > 1e-24 * max(shared, 1e-300):
        raise _no_variance(table, variance)
    if is_large or variance < _VARIANCES[0]:
        raise InputError(
            f"points are too {'large' if is_large else 'small'}",
            got=f"a variance of {variance:.3g}",
            wanted=f"one between {_VARIANCES[0]:g} and {_VARIANCES[1]:g}",
            next_step="measure in another unit",
        )
    found = PointSet(
        points=table,
        weights=mass,
        centre=centre,
        variance=variance,
        largest=float(squares.max()),
    )
    return found, keep


def _no_variance(table: NDArray[Any], variance: float) -> InputError:
    """Points that are the same, or that float64 cannot tell apart."""
    if all(bool(np.all(table[rows] == table[0])) for rows in _chunks(table)):
        return InputError("all points are the same", got="constant arrays", wanted="some variance")
    return InputError(
        "points are too near to one another for float64",
        got=f"a variance of {variance:.3g}",
        wanted="1e-12 or more of a point's length between them",
        next_step="take away what all points share, or measure in another unit",
    )


def label_column(name: str, labels: ArrayLike, keep: NDArray[np.int64], num: int) -> LabelColumn:
    """Number the labels of a column.

    Args:
        name: Name of the column.
        labels: Text or whole numbers, length N.
        keep: Positions of the points that count.
        num: N.

    Returns:
        The column, of the points that count.

    Raises:
        InputError: If labels are missing, are no labels, are all the same, or their number is
            wrong.
    """
    raw = np.asarray(labels)
    if raw.shape != (num,):
        raise InputError(
            f"labels {name!r} and points differ in number",
            got=f"labels of shape {raw.shape}",
            wanted=f"{num}",
        )
    values = raw[keep]
    if values.dtype.kind == "f" or (
        values.dtype.kind == "O" and all(isinstance(v, float) for v in values)
    ):
        numbers = values.astype(np.float64)
        if np.any(missing := np.isnan(numbers)):
            raise InputError(
                f"a label of {name!r} is missing",
                got=f"nan in row {keep[np.flatnonzero(missing)[0]]}",
                wanted="a label for every point",
                next_step="leave such points out",
            )
        if np.any(bad := ~(np.isfinite(numbers) & (numbers == np.rint(numbers)))):
            raise InputError(
                f"labels {name!r} are no labels",
                got=f"{numbers[bad][0]:.6g} in row {keep[np.flatnonzero(bad)[0]]}",
                wanted="text or whole numbers",
                next_step="bin a continuous value first",
            )
        values = numbers.astype(np.int64)
    text = np.array([_text(value) for value in values], dtype=np.str_)
    if np.any(text == ""):
        raise InputError(
            f"a label of {name!r} is missing",
            got=f"none in row {keep[np.flatnonzero(text == '')[0]]}",
            wanted="a label for every point",
            next_step="leave such points out",
        )
    found, codes = np.unique(text, return_inverse=True)
    order = sorted(range(len(found)), key=lambda k: _natural(str(found[k])))
    if len(order) < 2:
        raise InputError(
            f"only one label in {name!r}: nothing can be lost",
            got=str(found[0]),
            wanted="at least two labels",
        )
    if len(order) > _MAX_LABELS:
        raise InputError(
            f"too many labels in {name!r}",
            got=len(order),
            wanted=f"at most {_MAX_LABELS}",
            next_step="merge labels, or leave the column out",
        )
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return LabelColumn(
        name=name, labels=tuple(str(found[k]) for k in order), codes=rank[codes.reshape(-1)]
    )


def label_columns(
    labels: Mapping[str, ArrayLike] | ArrayLike, keep: NDArray[np.int64], num: int
) -> list[LabelColumn]:
    """All columns; a single one without a name is called ``label``."""
    table: Mapping[str, ArrayLike] = labels if isinstance(labels, Mapping) else {"label": labels}
    if not table:
        raise InputError("no labels", wanted="at least one column of labels")
    return [label_column(str(name), column, keep, num) for name, column in table.items()]


def _weights(weights: ArrayLike, num: int) -> Array:
    mass = np.asarray(weights, dtype=np.float64)
    if mass.shape != (num,):
        raise InputError(
            "weights and points differ in number",
            got=f"weights of shape {mass.shape}",
            wanted=f"{num}",
        )
    if not np.all(np.isfinite(mass) & (mass >= 0)):
        raise InputError(
            "a weight is negative or not finite",
            got=float(mass[~(np.isfinite(mass) & (mass >= 0))][0]),
            wanted="how often each point counts",
        )
    return mass


def _chunks(table: NDArray[Any]) -> Sequence[slice]:
    step = max(1, _CHUNK // table.shape[1])
    return [slice(a, min(a + step, len(table))) for a in range(0, len(table), step)]


def _text(value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return str(value)


def _natural(label: str) -> tuple[int, float, str]:
    try:
        number = float(label)
    except ValueError:
        number = np.nan
    return (0, number, label) if np.isfinite(number) else (1, 0.0, label)
