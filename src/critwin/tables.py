"""Other people's tables as Records: CSV, Parquet, netCDF, or columns in memory.

A row is one result. Columns:

* the noise level: ``logsnr``, ``t``, ``sigma``, ``alpha_bar`` or ``flow``, or ``level`` with its
  unit given; steps and strengths are no noise levels, they depend on a schedule;
* ``source``: which sample was noised;
* ``before`` and ``after``: its label and that of the result (empty: the labeller abstained); or
  ``kept``, 0 or 1, instead of the two;
* optional: ``feature`` (a table may hold several), ``replicate``, ``condition``, ``reversal``,
  ``experiment``, and ``weight``: how much of the model's law the source stands for (1 each, if
  the sources are fresh samples of the model). The prior over labels, and with it the chance
  level, is known only with ``weight``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._columns import Columns, columns_of, read_columns
from critwin.errors import InputError
from critwin.levels import UNITS, to_logsnr
from critwin.records import FeatureColumns, Records

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["KEPT", "LOST", "read_table", "records_from_columns"]

KEPT, LOST = "kept", "lost"
SAME_LEVEL = 1e-6  # levels closer than this in logsnr are one level, printed differently
_KEYS = ("condition", "reversal", "experiment")
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no")


def read_table(
    path: str | os.PathLike[str], *, level_column: str | None = None, unit: str | None = None
) -> Records:
    """Read someone else's table of results.

    Args:
        path: A file ``*.csv``, ``*.tsv``, ``*.parquet`` (extra ``parquet``) or ``*.nc``.
        level_column: Column of the noise level, if not one of the usual names.
        unit: Its unit, if the column's name does not say.

    Returns:
        The records.

    Raises:
        InputError: If the file, a column or a cell cannot be used; it names the line.
    """
    return _records(read_columns(Path(path)), level_column=level_column, unit=unit)


def records_from_columns(
    columns: Mapping[str, Sequence[Any]],
    *,
    level_column: str | None = None,
    unit: str | None = None,
) -> Records:
    """Records from columns in memory, e.g. a pandas DataFrame.

    Args:
        columns: Column -> values, as in the module's description.
        level_column: Column of the noise level, if not one of the usual names.
        unit: Its unit, if the column's name does not say.

    Returns:
        The records.

    Raises:
        InputError: If a column or a cell cannot be used; it names the row.
    """
    return _records(columns_of(columns), level_column=level_column, unit=unit)


def _records(columns: Columns, *, level_column: str | None, unit: str | None) -> Records:
    if len(columns) == 0:
        raise InputError(f"{columns.origin}: the table has no rows")
    name, unit = _level_column(columns, level_column, unit)
    is_kept_only = _check_labels(columns)
    logsnr = _levels(columns, name, unit)
    source = _sources(columns)
    feature = columns.text("feature") if "feature" in columns else ["label"] * len(columns)
    for row, value in enumerate(feature):
        if not value:
            raise columns.bad(row, "feature is empty", got="''", wanted="the feature's name")
    own = {key: columns.text(key) for key in _KEYS if key in columns}
    weight = _weights(columns, source)
    replicate = _replicates(columns, feature, source, logsnr, own)
    # rows of one unit that differ only in the feature are one record
    keys = list(zip(source, logsnr.tolist(), replicate, *own.values(), strict=True))
    unit_of: dict[tuple[Any, ...], int] = {}
    record = np.array([unit_of.setdefault(key, len(unit_of)) for key in keys], dtype=np.int64)
    first = np.unique(record, return_index=True)[1]
    features, priors = {}, {}
    for label in dict.fromkeys(feature):
        rows = np.flatnonzero(np.array(feature) == label)
        features[label] = _feature(columns, rows, record[rows], len(unit_of), is_kept_only)
        if weight is not None and not is_kept_only:
            priors[label] = _prior(features[label], np.array(source)[first], weight[first])
    if all(len(set(f.labels)) < 2 for f in features.values()):
        only = next(iter(features.values())).labels[0]
        raise InputError(
            f"{columns.origin}: only one label, before and after: nothing can be lost",
            got=only,
            wanted="results with at least two labels, or a column `kept`",
        )
    keys_of_rows: dict[str, Any] = {
        key: np.array(value, dtype=np.str_)[first] for key, value in own.items()
    }
    return Records(
        source=np.array(source, dtype=np.str_)[first],
        logsnr=logsnr[first],
        replicate=np.array(replicate, dtype=np.int64)[first],
        features=features,
        values={} if weight is None else {"weight": weight[first]},
        priors=priors,
        attrs={
            "table": columns.origin,
            "level_column": name,
            "level_unit": unit,
            **({"is_prior_estimated": True} if priors else {}),
        },
        **keys_of_rows,
    )


def _level_column(columns: Columns, name: str | None, unit: str | None) -> tuple[str, str]:
    """Name and unit of the level column."""
    wanted = f"a level column {', '.join(UNITS)}, or `level` with its unit"
    if unit is not None and unit not in UNITS:
        raise InputError("unknown unit of noise", got=unit, wanted="one of " + ", ".join(UNITS))
    if name is not None:
        if name not in columns:
            raise columns.missing([name], wanted=wanted)
    else:
        found = [u for u in UNITS if u in columns]
        if unit is not None and unit in found:
            name = unit
        elif "level" in columns and (unit is not None or not found):
            name = "level"
        elif "logsnr" in found:
            name = "logsnr"  # the others are derived from it
        elif len(found) > 1:
            raise InputError(
                f"{columns.origin}: several level columns",
                got=", ".join(found),
                next_step="name the one that counts as the level column",
            )
        elif found:
            name = found[0]
        else:
            raise columns.missing(list(UNITS), wanted=wanted)
    if unit is None:
        if name not in UNITS:
            raise InputError(
                f"{columns.origin}: the unit of the level column {name!r} is unknown",
                wanted="one of " + ", ".join(UNITS),
                next_step="give the unit",
            )
        unit = name
    elif name in UNITS and name != unit:
        raise InputError(
            f"{columns.origin}: the level column {name!r} is said to be in another unit", got=unit
        )
    return name, unit


def _check_labels(columns: Columns) -> bool:
    """Whether the table has only ``kept``; refuses one that has too little or contradicts."""
    names = [name for name in ("before", "after") if name in columns]
    if len(names) == 2:
        return False
    if names or "kept" not in columns:
        lacking = [name for name in ("before", "after") if name not in columns]
        raise columns.missing(lacking, wanted="before and after, or kept (0 or 1)")
    return True


def _levels(columns: Columns, name: str, unit: str) -> NDArray[np.float64]:
    values = np.array(columns.numbers(name))
    try:
        logsnr = to_logsnr(values, unit)
    except InputError as error:
        row = next(r for r, v in enumerate(values) if not _is_level(v, unit))
        raise columns.bad(
            row, f"{name} is out of range", got=values[row], wanted=error.wanted or ""
        ) from error
    # the same level printed with other digits is one level
    order = np.argsort(logsnr)
    starts = np.concatenate([[True], np.diff(logsnr[order]) > SAME_LEVEL])
    group = np.empty(len(logsnr), dtype=np.int64)
    group[order] = np.cumsum(starts) - 1
    return np.asarray(logsnr[order][starts][group])


def _is_level(value: float, unit: str) -> bool:
    try:
        to_logsnr(value, unit)
    except InputError:
        return False
    return True


def _sources(columns: Columns) -> list[str]:
    if "source" not in columns:
        raise columns.missing(["source"], wanted="a column that names the sample that was noised")
    source = columns.text("source")
    for row, value in enumerate(source):
        if not value:
            raise columns.bad(row, "source is empty", got="''", wanted="the sample's name")
    return source


def _weights(columns: Columns, source: list[str]) -> NDArray[np.float64] | None:
    if "weight" not in columns:
        return None
    weight = columns.numbers("weight")
    seen: dict[str, float] = {}
    for row, (name, value) in enumerate(zip(source, weight, strict=True)):
        if value < 0:
            raise columns.bad(row, "weight is negative", got=value, wanted="a number >= 0")
        if seen.setdefault(name, value) != value:
            raise columns.bad(
                row,
                f"source {name!r} has another weight before",
                got=f"{value} and {seen[name]}",
                wanted="one weight a source",
            )
    if not sum(seen.values()) > 0:
        raise InputError(f"{columns.origin}: all weights are 0")
    return np.array(weight)


def _replicates(
    columns: Columns,
    feature: list[str],
    source: list[str],
    logsnr: NDArray[np.float64],
    own: Mapping[str, list[str]],
) -> list[int]:
    """Given replicate numbers, checked; else numbers in the order of the rows."""
    keys = list(zip(feature, source, logsnr.tolist(), *own.values(), strict=True))
    if "replicate" not in columns:
        count: dict[tuple[Any, ...], int] = {}
        numbers = []
        for key in keys:
            numbers.append(count.get(key, 0))
            count[key] = numbers[-1] + 1
        return numbers
    given = columns.numbers("replicate")
    seen: dict[tuple[Any, ...], int] = {}
    for row, (key, value) in enumerate(zip(keys, given, strict=True)):
        if value != int(value):
            raise columns.bad(row, "replicate", got=value, wanted="a whole number")
        if (other := seen.setdefault((*key, value), row)) != row:
            raise columns.bad(
                row,
                f"the same source, level and replicate as {columns.rows(other)}",
                got=f"source {source[row]}, replicate {int(value)}",
                wanted="a row for each result, once",
            )
    return [int(value) for value in given]


def _feature(
    columns: Columns,
    rows: NDArray[np.int64],
    record: NDArray[np.int64],
    num: int,
    is_kept_only: bool,
) -> FeatureColumns:
    """One feature's labels on the records; records without a row of it abstain."""
    before, after = np.full(num, -1), np.full(num, -1)
    kept = _kept(columns, rows) if "kept" in columns else None
    if is_kept_only:
        assert kept is not None
        before[record] = 0
        after[record] = np.where(kept < 0, -1, 1 - kept)
        return FeatureColumns(labels=(KEPT, LOST), before=before, after=after)
    text = {side: np.array(columns.text(side))[rows].tolist() for side in ("before", "after")}
    labels = sorted({*text["before"], *text["after"]} - {""}, key=_natural)
    if not labels:
        raise columns.bad(int(rows[0]), "no labels at all", got="empty", wanted="labels")
    index = {label: k for k, label in enumerate(labels)} | {"": -1}
    before[record] = [index[label] for label in text["before"]]
    after[record] = [index[label] for label in text["after"]]
    if kept is not None:
        is_same = before[record] == after[record]
        is_wrong = (kept >= 0) & (before[record] >= 0) & (after[record] >= 0) & (is_same != kept)
        if is_wrong.any():
            row = int(rows[np.flatnonzero(is_wrong)[0]])
            raise columns.bad(
                row,
                "kept contradicts before and after",
                got=columns.values["kept"][row],
                wanted="1 where they agree and 0 where not, or no column `kept`",
            )
    return FeatureColumns(labels=tuple(labels), before=before, after=after)


def _kept(columns: Columns, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """1 kept, 0 lost, -1 unknown."""
    text = columns.text("kept")
    out = np.full(len(rows), -1)
    for k, row in enumerate(rows):
        value = text[row].lower().removesuffix(".0")
        if value in _TRUE or value in _FALSE:
            out[k] = int(value in _TRUE)
        elif value:
            raise columns.bad(
                int(row), "kept", got=columns.values["kept"][row], wanted="0 or 1, or nothing"
            )
    return out


def _prior(
    own: FeatureColumns, source: NDArray[np.str_], weight: NDArray[np.float64]
) -> dict[str, float]:
    """Weighted shares of the labels before, each source counted once."""
    known = own.before >= 0
    _, first = np.unique(source[known], return_index=True)
    share = np.bincount(
        own.before[known][first], weights=weight[known][first], minlength=len(own.labels)
    )
    total = share.sum()
    return dict(zip(own.labels, (share / total if total > 0 else share).tolist(), strict=True))


def _natural(label: str) -> tuple[int, float, str]:
    """Numbers by value, before text."""
    try:
        number = float(label)
    except ValueError:
        number = np.nan
    return (0, number, label) if np.isfinite(number) else (1, 0.0, label)
