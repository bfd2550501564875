"""What the law of an attribute is held against: equal shares, the data's own, or a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._columns import read_columns
from critwin._texts import some_of, unknown_name
from critwin.errors import InputError

if TYPE_CHECKING:
    from critwin.models.training import TrainingData

__all__ = ["Reference", "data_reference", "reference_of"]

_TOLERANCE = 1e-3
_COLUMNS = ("label", "share")
_WANTED = "a CSV file with columns label and share"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Shares that are taken as given.

    Attributes:
        name: ``"uniform"``, ``"data"`` or ``"table"``.
        shares: Share of every label, in the order of the attribute's labels; sums to 1.
    """

    name: str
    shares: tuple[float, ...]


def reference_of(
    given: str | Path | Mapping[str, float] | Reference,
    labels: Sequence[str],
    *,
    data: Mapping[str, float] | None = None,
) -> Reference:
    """A reference for some labels.

    Args:
        given: ``"uniform"``, ``"data"``, label -> share, or a CSV file with columns ``label`` and
            ``share``. Every label has a share; one that should not be shown has 0.
        labels: Labels of the attribute.
        data: Shares in the data, for ``"data"``.

    Returns:
        The reference.

    Raises:
        InputError: If it names unknown labels or leaves labels out, a share is no number from 0
            to 1, they do not sum to 1, or the reference is not known.
    """
    if isinstance(given, Reference):
        return given
    if isinstance(given, Mapping):
        return Reference(name="table", shares=_checked(given, labels, "the reference"))
    if given == "uniform":
        return Reference(name="uniform", shares=(1.0 / len(labels),) * len(labels))
    if given == "data":
        if data is None:
            raise InputError(
                "the shares in the model's training data are unknown",
                got="data",
                wanted="uniform, or " + _WANTED,
            )
        return Reference(name="data", shares=_checked(data, labels, "the data"))
    path = Path(given)
    if path.suffix.lower() != ".csv":
        raise InputError(
            "unknown reference", got=str(given), wanted="uniform, data, or " + _WANTED
        )
    shares, rows = _table(path)
    return Reference(name="table", shares=_checked(shares, labels, path.name, rows))


def data_reference(
    data: TrainingData | None,
    attribute: str,
    condition: str | None,
    labels: Mapping[str, Sequence[str]],
) -> dict[str, float] | None:
    """Shares of an attribute in training data, among the data of a condition.

    Args:
        data: The data, with labels of the features.
        attribute: The attribute.
        condition: The condition, one of the labels of another feature; None: all data.
        labels: Feature -> its labels.

    Returns:
        Label -> share, as an epoch shows them; None where the data do not tell.
    """
    if data is None or attribute not in data.labels:
        return None
    rows = np.ones(len(data.weights), dtype=np.bool_)
    if condition is not None:
        named = [f for f in data.labels if f != attribute and condition in labels.get(f, ())]
        if len(named) != 1:
            return None
        rows = data.labels[named[0]] == condition
    weight = data.weights[rows]
    if not weight.sum() > 0:
        return None
    own = data.labels[attribute][rows]
    names = {*labels.get(attribute, ()), *np.unique(own).tolist()}
    return {str(x): float(weight[own == x].sum() / weight.sum()) for x in sorted(names)}


def _checked(
    given: Mapping[str, Any],
    labels: Sequence[str],
    what: str,
    rows: Mapping[str, str] | None = None,
) -> tuple[float, ...]:
    """Shares in the order of the labels; ``rows`` says where in a file each of them stands."""

    def place(label: str) -> str:
        return what if rows is None else f"{what}, {rows[label]}"

    if absent := [str(name) for name in given if name not in labels]:
        error = unknown_name("label", absent[0], labels)
        raise InputError(
            f"{place(absent[0])}: the run has no such label",
            got=absent[0],
            wanted=error.wanted,
            next_step=error.next_step or "take it out",
        )
    if missing := [label for label in labels if label not in given]:
        raise InputError(
            f"{what} leaves out labels that the run has",
            got=f"no share of {some_of(missing)}",
            wanted="a share of every label: " + some_of(labels),
            next_step="write 0 for a label that should not be shown at all",
        )
    for label in labels:
        number = _number(given[label])
        if number is None or not 0.0 <= number <= 1.0:
            is_percent = number is not None and 1.0 < number <= 100.0
            raise InputError(
                f"{place(label)}: the share of {label!r} cannot be used",
                got=repr(given[label]) if isinstance(given[label], str) else given[label],
                wanted="a number from 0 to 1",
                next_step="divide percentages by 100" if is_percent else "mend that share",
            )
    shares = [float(given[label]) for label in labels]
    if abs(sum(shares) - 1.0) > _TOLERANCE:
        raise InputError(
            f"shares of {what} do not sum to 1",
            got=f"{sum(shares):.6g}",
            wanted="1",
            next_step="give every label its share of all images",
        )
    return tuple(x / sum(shares) for x in shares)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _table(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Label -> share as written, and label -> the line it stands in."""
    if not path.is_file():
        raise InputError(
            "cannot read the reference",
            got=f"{path} ({'not a file' if path.exists() else 'no such file'})",
            wanted=_WANTED,
        )
    columns = read_columns(path)
    if missing := [name for name in _COLUMNS if name not in columns]:
        raise columns.missing(missing, wanted=_WANTED)
    shares: dict[str, Any] = {}
    rows: dict[str, str] = {}
    for row, (label, share) in enumerate(
        zip(columns.text("label"), columns.values["share"], strict=True)
    ):
        if not label:
            raise columns.bad(row, "the label is missing", got="an empty cell", wanted="a label")
        if label in shares:
            raise columns.bad(
                row, "a label comes twice", got=label, wanted=f"one row of it ({rows[label]})"
            )
        shares[label], rows[label] = share, columns.rows(row)
    return shares, rows
