"""What the law of an attribute is held against: equal shares, the data's own, or a table."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError

if TYPE_CHECKING:
    from critwin.models.training import TrainingData

__all__ = ["Reference", "data_reference", "reference_of"]

_TOLERANCE = 1e-3
_MAX_BYTES = 2**20
_COLUMNS = ("label", "share")


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
            ``share``. Labels that a table leaves out have no share.
        labels: Labels of the attribute.
        data: Shares in the data, for ``"data"``.

    Returns:
        The reference.

    Raises:
        InputError: If it names unknown labels, does not sum to 1, or is not known.
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
                wanted="uniform, or a table of shares",
            )
        return Reference(name="data", shares=_checked(data, labels, "the data"))
    path = Path(given)
    if path.suffix.lower() != ".csv":
        raise InputError(
            "unknown reference", got=str(given), wanted="uniform, data, or a CSV file of shares"
        )
    return Reference(name="table", shares=_checked(_table(path), labels, path.name))


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
    return {str(x): float(weight[own == x].sum() / weight.sum()) for x in np.unique(own)}


def _checked(given: Mapping[str, Any], labels: Sequence[str], what: str) -> tuple[float, ...]:
    if unknown := [str(name) for name in given if name not in labels]:
        raise InputError(
            f"{what} has unknown labels", got=unknown[0], wanted="some of " + ", ".join(labels)
        )
    try:
        shares = [float(given.get(label, 0.0)) for label in labels]
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} has a share that is no number", got=str(error)) from error
    if not all(math.isfinite(x) and x >= 0 for x in shares):
        raise InputError(f"shares of {what} must be >= 0", got=shares)
    if abs(sum(shares) - 1.0) > _TOLERANCE:
        raise InputError(
            f"shares of {what} do not sum to 1",
            got=f"{sum(shares):.6g}",
            wanted="1",
            next_step="give every label its share of all images",
        )
    return tuple(x / sum(shares) for x in shares)


def _table(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream.read(_MAX_BYTES).splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("cannot read the reference", got=f"{path}: {error}") from error
    columns = list(rows[0]) if rows else []
    if not set(_COLUMNS) <= set(columns):
        raise InputError(
            "the reference is no table of shares",
            got=f"{path}: columns {', '.join(map(str, columns)) or 'none'}",
            wanted="a CSV file with columns label and share",
        )
    found: dict[str, str] = {}
    for row in rows:
        if row["label"] in found:
            raise InputError("the reference names a label twice", got=row["label"])
        found[row["label"]] = row["share"]
    return found
