"""Checks that records and transition tables pass once, at construction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SUM_TOLERANCE = 1e-8


def as_array(name: str, value: Any, dtype: Any) -> NDArray[Any]:
    """A new array of ``dtype``; values that the dtype would change are refused, not cut."""
    try:
        raw = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name} is not an array", got=type(value).__name__) from error
    kind, wanted = raw.dtype.kind, np.dtype(dtype).kind
    if raw.size == 0:
        return np.zeros(raw.shape, dtype=dtype)
    if wanted == "U":
        return _text(name, raw)
    if kind == "O":
        try:
            raw = raw.astype(np.float64)
        except (ValueError, TypeError) as error:
            raise InputError(f"{name} holds something that is not a number") from error
    elif kind not in "biuf":
        raise InputError(f"{name} holds something that is not a number", got=raw.flat[0])
    if wanted == "f":
        return np.array(raw, dtype=dtype)
    is_changed = ~np.isfinite(raw) | (raw != np.rint(raw)) if raw.dtype.kind == "f" else None
    if is_changed is not None and is_changed.any():
        raise InputError(f"{name} must be whole numbers", got=float(raw[is_changed].flat[0]))
    if wanted == "b" and np.any((raw != 0) & (raw != 1)):
        raise InputError(f"{name} must be true or false", got=raw[(raw != 0) & (raw != 1)].flat[0])
    return np.array(raw, dtype=dtype)


def is_storable(text: str) -> bool:
    """Whether a name survives NumPy and netCDF: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _text(name: str, raw: NDArray[Any]) -> NDArray[np.str_]:
    if raw.dtype.kind == "O" and not all(isinstance(item, str) for item in raw.flat):
        bad = next(item for item in raw.flat if not isinstance(item, str))
        raise InputError(f"{name} must be strings", got=repr(bad))
    if raw.dtype.kind not in "OUTiu":
        raise InputError(f"{name} must be strings", got=repr(raw.flat[0]))
    if raw.dtype.kind in "OT" and any("\0" in item for item in raw.flat):
        raise InputError(f"{name} holds a NUL character")
    array: NDArray[np.str_] = np.array(raw, dtype=np.str_)
    if array.dtype.itemsize:
        codes = np.ascontiguousarray(array).reshape(-1, 1).view(np.uint32)
        is_inner_nul = (codes[:, :-1] == 0) & (codes[:, 1:] != 0)
        if is_inner_nul.any() or ((codes >= 0xD800) & (codes <= 0xDFFF)).any():
            raise InputError(f"{name} holds a NUL or half a surrogate pair")
    return array


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
        array = as_array(name, value, dtype)
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
    if np.any(np.isnan(logsnr)) or np.any(logsnr[1:] >= logsnr[:-1]):
        raise InputError(
            "levels must be strictly decreasing logsnr (noise grows with the index)",
            got=np.array2string(logsnr, precision=4, threshold=8),
        )


def check_labels(before: tuple[str, ...], after: tuple[str, ...]) -> None:
    if not before:
        raise InputError("no labels before", wanted="at least one label")
    for name, labels in (("before", before), ("after", after)):
        if len(set(labels)) < len(labels):
            raise InputError(
                f"labels `{name}` are not distinct",
                got=", ".join(map(str, labels)),
                wanted="each label once",
            )
        if bad := [label for label in labels if not label or not is_storable(label)]:
            raise InputError("a label is empty or holds a NUL character", got=repr(bad[0]))
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
    if tr.kind != "counted" and tr.counts is not None:
        raise InputError("only counted transitions have counts", got=tr.kind)
    if tr.plateau is not None and not 0.0 <= tr.plateau <= 1.0:
        raise InputError("plateau out of range", got=tr.plateau, wanted="a number in [0, 1]")
    for name in ("stderr", "counts", "abstained", "invalid"):
        if (value := getattr(tr, name)) is not None and np.any(value < 0):
            raise InputError(f"{name} must be >= 0", got=value[value < 0].flat[0])
    if tr.kind == "counted":
        if tr.counts is None or tr.source_before is None or tr.sources is None:
            raise InputError("counted transitions need counts, source_before and sources")
        if len(np.unique(tr.sources)) < len(tr.sources):
            raise InputError("names of sources are not distinct")
        if np.any((tr.source_before < 0) | (tr.source_before >= len(tr.before))):
            raise InputError("source_before must be an index into `before`")
        if tr.source_weight is not None and not np.all(tr.source_weight >= 0):
            raise InputError("source weights must be >= 0")


def check_law(name: str, law: NDArray[np.float64]) -> None:
    if np.any(~(law >= 0)) or abs(law.sum() - 1) > 1e-6:
        raise InputError(
            f"{name} must be >= 0 and sum to 1",
            got=f"a sum of {law.sum():.6g}",
            next_step="divide by the sum",
        )
