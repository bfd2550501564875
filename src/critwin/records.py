"""Records: one row per unit of an experiment, and what each feature read before and after.

A unit is one source at one level and replicate. ``before`` is the labeller's reading of the
source, ``after`` its reading of the forward–reverse image; planted truth and prompts stand apart.
Records are columns (NumPy), frozen; :mod:`critwin.views` turns them into Transitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._checks import as_array, is_storable
from critwin.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ABSTAIN", "FeatureColumns", "Records", "concatenate", "digest", "select", "sort"]

ABSTAIN = -1


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureColumns:
    """What one feature read off the source and the result of every unit.

    Attributes:
        labels: Names of the labels, length J.
        before: Label of the source, index into ``labels`` or -1 (abstained), shape ``(N,)``.
        after: Label of the result, likewise; of no meaning where the unit is invalid.
        before_probs: Label probabilities of the source, shape ``(N, J)``, or None.
        after_probs: Label probabilities of the result, shape ``(N, J)``, or None.
        before_values: Named numbers read off the source, each ``(N,)``.
        after_values: Named numbers read off the result, each ``(N,)``.

    Raises:
        InputError: If shapes disagree or an index is out of range.
    """

    labels: tuple[str, ...]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    before_probs: NDArray[np.float64] | None = None
    after_probs: NDArray[np.float64] | None = None
    before_values: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    after_values: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze and check."""
        _set(self, "labels", tuple(str(label) for label in self.labels))
        if not self.labels or len(set(self.labels)) < len(self.labels):
            raise InputError("labels must be distinct and at least one", got=self.labels)
        if bad := [label for label in self.labels if not label or not is_storable(label)]:
            raise InputError("a label is empty or holds a NUL character", got=repr(bad[0]))
        num = len(self.before)
        for name in ("before", "after"):
            column = _frozen(name, getattr(self, name), np.int64, (num,))
            if np.any((column < ABSTAIN) | (column >= len(self.labels))):
                raise InputError(
                    f"{name}: label index out of range",
                    got=int(column[(column < ABSTAIN) | (column >= len(self.labels))][0]),
                    wanted=f"-1 (abstained) or 0 … {len(self.labels) - 1}",
                )
            _set(self, name, column)
        for name in ("before_probs", "after_probs"):
            if (value := getattr(self, name)) is not None:
                _set(self, name, _frozen(name, value, np.float64, (num, len(self.labels))))
        for name in ("before_values", "after_values"):
            _set(self, name, _frozen_map(name, getattr(self, name), np.float64, num))


@dataclass(frozen=True, eq=False, kw_only=True)
class Records:
    """Rows of an experiment. Frozen; arrays are read-only.

    Attributes:
        source: Name of the source, shape ``(N,)``.
        logsnr: *Effective* level, after snapping to what the model can start from.
        requested_logsnr: Level that was asked for (it names the random stream).
        replicate: Number of the replicate, from 0.
        experiment: Name of the experiment, e.g. ``"forward_reverse"``.
        condition: Condition of the reversal; ``""`` is unconditional.
        reversal: ``"posterior"``, ``"stochastic"`` or ``"ode"``.
        valid: False where the result was NaN, infinite or constant.
        features: Columns of each feature, by name.
        planted: Known truth about the sources (and prompts), by name, each ``(N,)`` strings.
        values: Comparisons of source and result, losses, distances, each ``(N,)``.
        priors: The model's prior over the labels of a feature (or of a product ``a*b`` with
            labels ``x*y``), where known: feature -> label -> weight.
        attrs: Provenance; plain values only.

    Raises:
        InputError: If columns disagree in length or a column is not of its type.
    """

    source: NDArray[np.str_]
    logsnr: NDArray[np.float64]
    # None stands for the default, which __post_init__ fills in: never None afterwards
    requested_logsnr: NDArray[np.float64] = None  # type: ignore[assignment]
    replicate: NDArray[np.int64] = None  # type: ignore[assignment]
    experiment: NDArray[np.str_] = None  # type: ignore[assignment]
    condition: NDArray[np.str_] = None  # type: ignore[assignment]
    reversal: NDArray[np.str_] = None  # type: ignore[assignment]
    valid: NDArray[np.bool_] = None  # type: ignore[assignment]
    features: Mapping[str, FeatureColumns] = field(default_factory=dict)
    planted: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    values: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    priors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze, fill defaults and check."""
        num = len(self.source)
        defaults: dict[str, tuple[Any, Any]] = {
            "source": (np.str_, None),
            "logsnr": (np.float64, None),
            "requested_logsnr": (np.float64, self.logsnr),
            "replicate": (np.int64, np.zeros(num, dtype=np.int64)),
            "experiment": (np.str_, np.full(num, "forward_reverse")),
            "condition": (np.str_, np.full(num, "")),
            "reversal": (np.str_, np.full(num, "unknown")),
            "valid": (np.bool_, np.ones(num, dtype=np.bool_)),
        }
        for name, (dtype, default) in defaults.items():
            value = getattr(self, name)
            _set(self, name, _frozen(name, default if value is None else value, dtype, (num,)))
        for name in ("logsnr", "requested_logsnr"):
            column = getattr(self, name)
            if np.any(~np.isfinite(column)):
                raise InputError(
                    f"records: {name} must be finite", got=float(column[~np.isfinite(column)][0])
                )
        for kind in ("features", "planted", "values"):
            if bad := [k for k in getattr(self, kind) if not k or not is_storable(k)]:
                raise InputError(f"a name of {kind} is empty or not storable", got=repr(bad[0]))
        if taken := sorted(set(defaults) & set(self.planted)):
            raise InputError("a planted column has the name of a column of records", got=taken[0])
        for name, prior in self.priors.items():
            if bad := [k for k, weight in prior.items() if not 0 <= weight < np.inf]:
                raise InputError(
                    f"prior of {name!r} must be >= 0", got=f"{bad[0]}: {prior[bad[0]]}"
                )
        for name, columns in self.features.items():
            if len(columns.before) != num:
                raise InputError(
                    f"feature {name!r} has the wrong number of rows",
                    got=len(columns.before),
                    wanted=str(num),
                )
        _set(self, "features", MappingProxyType(dict(self.features)))
        _set(self, "planted", _frozen_map("planted", self.planted, np.str_, num))
        _set(self, "values", _frozen_map("values", self.values, np.float64, num))
        _set(
            self,
            "priors",
            MappingProxyType({k: MappingProxyType(dict(v)) for k, v in self.priors.items()}),
        )
        _set(self, "attrs", MappingProxyType(dict(self.attrs)))

    def __len__(self) -> int:
        return len(self.source)

    def column(self, name: str) -> NDArray[Any]:
        """One of the columns that every record has, or a planted one, by name.

        Args:
            name: E.g. ``"condition"`` or the name of a planted column.

        Returns:
            Shape ``(N,)``.

        Raises:
            InputError: If there is no such column.
        """
        own = [f.name for f in fields(self)][:8]
        if name in own:
            return np.asarray(getattr(self, name))
        if name in self.planted:
            return self.planted[name]
        raise InputError(
            "unknown column", got=name, wanted="one of " + ", ".join([*own, *self.planted])
        )


def select(records: Records, mask: ArrayLike) -> Records:
    """The rows of a boolean mask, or of indices in their order.

    Args:
        records: Records.
        mask: Shape ``(N,)`` boolean, or indices.

    Returns:
        The chosen rows.

    Raises:
        InputError: If a mask has another length than the records.
    """
    chosen = np.asarray(mask)
    if chosen.dtype == np.bool_ and chosen.shape != (len(records),):
        raise InputError("the mask does not fit", got=chosen.shape, wanted=f"({len(records)},)")
    rows = np.arange(len(records))[chosen if chosen.size else chosen.astype(np.int64)]
    changes: dict[str, Any] = {f.name: getattr(records, f.name)[rows] for f in fields(records)[:8]}
    changes["features"] = {k: _rows_of(v, rows) for k, v in records.features.items()}
    changes["planted"] = {k: v[rows] for k, v in records.planted.items()}
    changes["values"] = {k: v[rows] for k, v in records.values.items()}
    return replace(records, **changes)


def concatenate(parts: Sequence[Records]) -> Records:
    """Rows of several records one after the other.

    Args:
        parts: At least one; all with the same features, labels, planted columns and values.

    Returns:
        One Records; priors and attrs are those of the first part.

    Raises:
        InputError: If there is nothing to concatenate, or columns differ.
    """
    if not parts:
        raise InputError("no records to concatenate")
    first = parts[0]
    for part in parts[1:]:
        for name in ("features", "planted", "values"):
            mine, theirs = set(getattr(first, name)), set(getattr(part, name))
            if mine != theirs:
                raise InputError(
                    f"records differ in {name}", got=f"{sorted(mine)} and {sorted(theirs)}"
                )
        for name, columns in part.features.items():
            own = first.features[name]
            if columns.labels != own.labels:
                raise InputError(f"records differ in the labels of feature {name!r}")
            for side in ("before_values", "after_values"):
                if set(getattr(columns, side)) != set(getattr(own, side)):
                    raise InputError(f"records differ in the {side} of feature {name!r}")
    changes: dict[str, Any] = {
        f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(first)[:8]
    }
    changes["features"] = {
        name: _joined([p.features[name] for p in parts]) for name in first.features
    }
    for kind in ("planted", "values"):
        changes[kind] = {
            name: np.concatenate([getattr(p, kind)[name] for p in parts])
            for name in getattr(first, kind)
        }
    return replace(first, **changes)


def sort(records: Records) -> Records:
    """Rows in the canonical order: experiment, condition, source, level, replicate, reversal.

    Args:
        records: Records in any order.

    Returns:
        The same rows; two runs of the same units are equal after sorting, whatever their order.
    """
    keys = (
        -records.logsnr,
        records.reversal,
        records.replicate,
        -records.requested_logsnr,
        records.source,
        records.condition,
        records.experiment,
    )
    return select(records, np.lexsort(keys))


def digest(records: Records) -> str:
    """SHA-256 over the sorted rows: equal digests mean equal results, bit for bit.

    Args:
        records: Records in any order.

    Returns:
        64 hexadecimal digits. Provenance (``attrs``) and priors do not enter.
    """
    import hashlib

    rows = sort(records)
    hasher = hashlib.sha256()

    def add(name: str, column: NDArray[Any] | None) -> None:
        if column is None:
            return
        hasher.update(f"{name}:{column.shape}".encode())
        if column.dtype.kind == "U":
            hasher.update("\0".join(column.tolist()).encode())
        else:
            hasher.update(np.ascontiguousarray(column).tobytes())

    for entry in fields(rows)[:8]:
        add(entry.name, getattr(rows, entry.name))
    for name in sorted(rows.features):
        columns = rows.features[name]
        hasher.update("\0".join((name, *columns.labels)).encode())
        for entry in fields(columns)[1:5]:
            add(entry.name, getattr(columns, entry.name))
        for kind in ("before_values", "after_values"):
            for key in sorted(getattr(columns, kind)):
                add(f"{kind}.{key}", getattr(columns, kind)[key])
    for kind in ("planted", "values"):
        for key in sorted(getattr(rows, kind)):
            add(f"{kind}.{key}", getattr(rows, kind)[key])
    return hasher.hexdigest()


def _rows_of(columns: FeatureColumns, rows: NDArray[np.int64]) -> FeatureColumns:
    return FeatureColumns(
        labels=columns.labels,
        before=columns.before[rows],
        after=columns.after[rows],
        before_probs=None if columns.before_probs is None else columns.before_probs[rows],
        after_probs=None if columns.after_probs is None else columns.after_probs[rows],
        before_values={k: v[rows] for k, v in columns.before_values.items()},
        after_values={k: v[rows] for k, v in columns.after_values.items()},
    )


def _joined(parts: list[FeatureColumns]) -> FeatureColumns:
    first = parts[0]
    changes: dict[str, Any] = {}
    for name in ("before", "after"):
        changes[name] = np.concatenate([getattr(p, name) for p in parts])
    for name in ("before_probs", "after_probs"):
        has = [getattr(p, name) is not None for p in parts]
        if any(has) and not all(has):
            raise InputError(f"only some of the records have {name}")
        changes[name] = np.concatenate([getattr(p, name) for p in parts]) if all(has) else None
    for name in ("before_values", "after_values"):
        changes[name] = {
            key: np.concatenate([getattr(p, name)[key] for p in parts])
            for key in getattr(first, name)
        }
    return replace(first, **changes)


def _set(target: object, name: str, value: object) -> None:
    object.__setattr__(target, name, value)


def _frozen(name: str, value: Any, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    array = as_array(name, value, dtype)
    if array.shape != shape:
        raise InputError(f"{name} has the wrong shape", got=array.shape, wanted=str(shape))
    array.setflags(write=False)
    return array


def _frozen_map(
    name: str, value: Mapping[str, Any], dtype: Any, num: int
) -> Mapping[str, NDArray[Any]]:
    return MappingProxyType(
        {key: _frozen(f"{name}.{key}", column, dtype, (num,)) for key, column in value.items()}
    )
