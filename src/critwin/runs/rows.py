"""Rows of the ledger: sources and units as plain values with a digest, and back.

Numbers are JSON with the shortest text that gives the same float64 back; NaN is null.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.records import FeatureColumns, Records

if TYPE_CHECKING:
    from critwin.experiments.sources import SourceState
    from critwin.experiments.units import Unit

__all__ = [
    "SOURCE_COLUMNS",
    "UNIT_COLUMNS",
    "SourceRow",
    "dump",
    "records_of",
    "row_digest",
    "source_of",
    "source_row",
    "unit_rows",
]

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)

SourceRow = dict[str, Any]
"""A source as the ledger has it: name, position, condition, is_valid, planted, before, clean."""

UNIT_COLUMNS = (
    "key",
    "experiment",
    "source",
    "condition",
    "requested_logsnr",
    "logsnr",
    "replicate",
    "reversal",
    "is_valid",
    "reading",
)
SOURCE_COLUMNS = ("name", "position", "condition", "is_valid", "planted", "reading", "clean")


def source_row(state: SourceState) -> tuple[Any, ...]:
    """A source as a row of the ledger, its digest last.

    Args:
        state: The source.

    Returns:
        Values in the order of :data:`SOURCE_COLUMNS`, and the digest.
    """
    reading = {
        name: {"label": index, "probs": _plain(probs), "values": _plain_map(values)}
        for name, (index, probs, values) in state.before.items()
    }
    row = (
        state.source.name,
        state.source.index,
        state.source.condition,
        int(state.is_valid),
        dump(dict(state.planted)),
        dump(reading),
        np.ascontiguousarray(state.clean.numpy(), dtype="<f4").tobytes(),
    )
    return (*row, row_digest(row))


def source_of(values: Sequence[Any]) -> SourceRow:
    """A source from a row of the ledger.

    Args:
        values: Values of the first columns of :data:`SOURCE_COLUMNS`; ``clean`` may be left out.

    Returns:
        The source; ``clean`` is flat float32.
    """
    row = dict(zip(SOURCE_COLUMNS, values, strict=False))
    row["before"] = {
        name: (
            item["label"],
            None if item["probs"] is None else tuple(_floats(item["probs"])),
            {key: _float(value) for key, value in item["values"].items()},
        )
        for name, item in json.loads(row.pop("reading")).items()
    }
    row["planted"] = json.loads(row["planted"])
    row["is_valid"] = bool(row["is_valid"])
    if "clean" in row:
        row["clean"] = np.frombuffer(row["clean"], dtype="<f4")
    return row


def unit_rows(units: Sequence[Unit], records: Records) -> list[tuple[Any, ...]]:
    """Results of units as rows of the ledger, each with its digest last.

    Args:
        units: The units.
        records: One row a unit.

    Returns:
        Values in the order of :data:`UNIT_COLUMNS`, and the digest.
    """
    reversal, valid = records.column("reversal"), records.column("valid")
    rows = []
    for row, (unit, reading) in enumerate(zip(units, _readings(records), strict=True)):
        values = (
            unit.key,
            unit.experiment,
            unit.source,
            unit.condition or "",
            unit.requested_logsnr,
            unit.logsnr,
            unit.replicate,
            str(reversal[row]),
            int(valid[row]),
            reading,
        )
        rows.append((*values, row_digest(values)))
    return rows


def records_of(
    rows: Sequence[Sequence[Any]],
    sources: Sequence[SourceRow],
    labels: Mapping[str, Sequence[str]],
) -> Records:
    """Records from rows of the ledger.

    Args:
        rows: Values of :data:`UNIT_COLUMNS`, at least one row.
        sources: All sources.
        labels: Feature -> its labels.

    Returns:
        Records without priors and attributes, in the order of the rows.
    """
    columns = dict(zip(UNIT_COLUMNS, zip(*rows, strict=True), strict=True))
    before = {row["name"]: row for row in sources}
    owners = [before[name] for name in columns["source"]]
    readings = [json.loads(text) for text in columns["reading"]]
    planted = sorted({name for row in before.values() for name in row["planted"]})
    return Records(
        source=np.array(columns["source"], dtype=np.str_),
        logsnr=np.array(columns["logsnr"]),
        requested_logsnr=np.array(columns["requested_logsnr"]),
        replicate=np.array(columns["replicate"], dtype=np.int64),
        experiment=np.array(columns["experiment"], dtype=np.str_),
        condition=np.array(columns["condition"], dtype=np.str_),
        reversal=np.array(columns["reversal"], dtype=np.str_),
        valid=np.array(columns["is_valid"], dtype=np.bool_),
        features={
            name: _feature_columns(
                names,
                [row["before"][name] for row in owners],
                [reading["features"][name] for reading in readings],
            )
            for name, names in labels.items()
        },
        planted={
            name: np.array([row["planted"].get(name, "") for row in owners], dtype=np.str_)
            for name in planted
        },
        values={
            name: np.array([_float(reading["values"][name]) for reading in readings])
            for name in readings[0]["values"]
        },
    )


def row_digest(row: Sequence[Any]) -> str:
    """Digest of a row's content: the length in front of each value, so that none runs together.

    Args:
        row: Plain values and bytes.

    Returns:
        16 hexadecimal digits.
    """
    hasher = hashlib.sha256()
    for value in row:
        data = value if isinstance(value, bytes) else repr(value).encode()
        hasher.update(b"%d:" % len(data))
        hasher.update(data)
    return hasher.hexdigest()[:16]


def dump(value: Any) -> str:
    """Plain values as canonical JSON without spaces; refuses NaN."""
    return _ENCODER.encode(value)


def _readings(records: Records) -> list[str]:
    """Results of every row as JSON, column by column for speed."""
    num = len(records)
    columns: dict[str, tuple[list[int], list[Any], dict[str, list[Any]]]] = {}
    for name, own in records.features.items():
        probs = [None] * num if own.after_probs is None else _plain(own.after_probs)
        columns[name] = (own.after.tolist(), probs, _plain_map(own.after_values))
    values = _plain_map(records.values)
    return [
        dump(
            {
                "features": {
                    name: {
                        "label": labels[row],
                        "probs": probs[row],
                        "values": {key: column[row] for key, column in named.items()},
                    }
                    for name, (labels, probs, named) in columns.items()
                },
                "values": {key: column[row] for key, column in values.items()},
            }
        )
        for row in range(num)
    ]


def _feature_columns(
    labels: Sequence[str], before: Sequence[tuple[Any, Any, Any]], after: Sequence[dict[str, Any]]
) -> FeatureColumns:
    has_probs = after[0]["probs"] is not None
    names = list(after[0]["values"])
    return FeatureColumns(
        labels=tuple(labels),
        before=np.array([index for index, _, _ in before], dtype=np.int64),
        after=np.array([item["label"] for item in after], dtype=np.int64),
        before_probs=np.array([probs for _, probs, _ in before]) if has_probs else None,
        after_probs=np.array([_floats(item["probs"]) for item in after]) if has_probs else None,
        before_values={k: np.array([values[k] for _, _, values in before]) for k in names},
        after_values={k: np.array([_float(item["values"][k]) for item in after]) for k in names},
    )


def _plain(values: Any) -> Any:
    """Nested lists with None for NaN and text for infinities; None stays None."""
    if values is None:
        return None
    array = np.asarray(values, dtype=np.float64)
    if np.isfinite(array).all():
        return array.tolist()
    return [_plain(row) if array.ndim > 1 else _one(row) for row in array.tolist()]


def _one(value: float) -> float | str | None:
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _plain_map(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _one(value) if isinstance(value, float) else _plain(value)
        for key, value in values.items()
    }


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _floats(values: Sequence[Any]) -> list[float]:
    return [_float(value) for value in values]
