"""Checks that every transition table passes once, at construction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SUM_TOLERANCE = 1e-8


class Freezer:
    """Turns fields of a frozen dataclass into checked, read-only arrays of agreeing sizes."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self._sizes: dict[str, int] = {}

    def labels(self, name: str) -> None:
        value = tuple(str(label) for label in getattr(self._target, name))
        object.__setattr__(self._target, name, value)
        self._sizes["I" if name == "before" else "J"] = len(value)

    def array(self, name: str, dtype: Any, axes: tuple[str, ...]) -> None:
        value = getattr(self._target, name)
        if value is None:
            return
        array = np.array(value, dtype=dtype)
        wanted = tuple(self._sizes.get(axis, -1) for axis in axes)
        if array.ndim != len(axes) or any(
            w not in (-1, s) for w, s in zip(wanted, array.shape, strict=True)
        ):
            sizes = ", ".join(f"{a}={self._sizes[a]}" if a in self._sizes else a for a in axes)
            raise InputError(f"{name} has the wrong shape", got=array.shape, wanted=f"({sizes})")
        self._sizes.update(zip(axes, array.shape, strict=True))
        array.setflags(write=False)
        object.__setattr__(self._target, name, array)


def check_levels(logsnr: NDArray[np.float64]) -> None:
    if len(logsnr) == 0:
        raise InputError("no levels", wanted="at least one logsnr")
    if np.any(np.isnan(logsnr)) or np.any(np.diff(logsnr) >= 0):
        raise InputError(
            "levels must be strictly decreasing logsnr (noise grows with the index)",
            got=np.array2string(logsnr, precision=4, threshold=8),
        )


def check_labels(before: tuple[str, ...], after: tuple[str, ...]) -> None:
    if not before:
        raise InputError("no labels before", wanted="at least one label")
    for name, labels in (("before", before), ("after", after)):
        if len(set(labels)) < len(labels):
            raise InputError(f"labels `{name}` are not distinct", got=labels)
    if not set(before) <= set(after):
        missing = ", ".join(sorted(set(before) - set(after)))
        raise InputError("every label before must be a label after", got=f"without {missing}")


def check_probs(probs: NDArray[np.float64]) -> None:
    is_nan = np.isnan(probs)
    row_nan = is_nan.all(axis=2)
    if np.any(is_nan.any(axis=2) & ~row_nan):
        raise InputError("a row of probs is partly NaN", wanted="whole rows known or unknown")
    known = probs[~row_nan]
    if np.any(known < -_SUM_TOLERANCE) or np.any(known > 1 + _SUM_TOLERANCE):
        raise InputError(
            "probs outside [0, 1]",
            got=float(known.flat[np.argmax(np.abs(known - 0.5))]),
        )
    sums = known.sum(axis=1)
    if np.any(np.abs(sums - 1) > 1e-6):
        raise InputError(
            "rows of probs must sum to 1", got=f"a sum of {sums[np.argmax(np.abs(sums - 1))]:.6g}"
        )


def check_kind(tr: Any) -> None:
    if tr.kind not in ("exact", "estimated", "counted"):
        raise InputError("unknown kind", got=tr.kind, wanted="exact, estimated or counted")
    if tr.kind == "estimated" and tr.stderr is None:
        raise InputError("estimated transitions need stderr")
    if tr.kind == "counted":
        if tr.counts is None or tr.source_before is None or tr.sources is None:
            raise InputError("counted transitions need counts, source_before and sources")
        if len(np.unique(tr.sources)) < len(tr.sources):
            raise InputError("names of sources are not distinct")
        if tr.source_weight is not None and not np.all(tr.source_weight >= 0):
            raise InputError("source weights must be >= 0")


def check_law(name: str, law: NDArray[np.float64]) -> None:
    if np.any(~(law >= 0)) or abs(law.sum() - 1) > 1e-6:
        raise InputError(
            f"{name} must be >= 0 and sum to 1",
            got=f"a sum of {law.sum():.6g}",
            next_step="divide by the sum",
        )
