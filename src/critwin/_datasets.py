"""Records and transitions as labelled xarray datasets, and back. Plain numbers and strings only.

Names become variable names by percent-encoding, dots included, so that ``feature.a%2Eb.before``
has one reading. What has no array (labels, priors, provenance) is one JSON text, the attribute
``critwin``; ``t`` and ``sigma`` are derived and ignored when read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from critwin.errors import InputError
from critwin.levels import from_logsnr, ou_time
from critwin.records import FeatureColumns, Records
from critwin.transitions import Transitions

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

SCHEMA = 1
ROW_COLUMNS = (
    "source",
    "logsnr",
    "requested_logsnr",
    "replicate",
    "experiment",
    "condition",
    "reversal",
    "valid",
)
_TABLE_AXES = {
    "probs": ("level", "before", "after"),
    "weights": ("before",),
    "fresh": ("after",),
    "stderr": ("level", "before", "after"),
    "counts": ("source", "level", "after"),
    "abstained": ("source", "level"),
    "source_before": ("source",),
    "source_weight": ("source",),
    "invalid": ("level", "before"),
}


def records_dataset(records: Records) -> xr.Dataset:
    """Rows along ``row``; label probabilities along one more dimension a feature."""
    import xarray as xr

    data: dict[str, Any] = {name: ("row", getattr(records, name)) for name in ROW_COLUMNS}
    data["t"] = ("row", ou_time(records.logsnr))
    data["sigma"] = ("row", from_logsnr(records.logsnr, "sigma"))
    features = {}
    for name, columns in records.features.items():
        stem = f"feature.{encoded(name)}"
        data[f"{stem}.label"] = (f"{stem}.label", np.array(columns.labels, dtype=np.str_))
        for side in ("before", "after"):
            data[f"{stem}.{side}"] = ("row", getattr(columns, side))
            if (probs := getattr(columns, f"{side}_probs")) is not None:
                data[f"{stem}.{side}_probs"] = (("row", f"{stem}.label"), probs)
            for key, value in getattr(columns, f"{side}_values").items():
                data[f"{stem}.{side}_values.{encoded(key)}"] = ("row", value)
        features[name] = {
            "before_values": list(columns.before_values),
            "after_values": list(columns.after_values),
        }
    for kind in ("planted", "values"):
        for key, value in getattr(records, kind).items():
            data[f"{kind}.{encoded(key)}"] = ("row", value)
    meta = {
        "features": features,
        "planted": list(records.planted),
        "values": list(records.values),
        "priors": {name: dict(prior) for name, prior in records.priors.items()},
        "attrs": records.attrs,
    }
    return xr.Dataset(data, attrs=header("records", meta))


def records_of(dataset: xr.Dataset) -> Records:
    """Inverse of :func:`records_dataset`."""
    meta = read_header(dataset.attrs, "records")
    features = {}
    for name, keys in meta["features"].items():
        stem = f"feature.{encoded(name)}"
        columns: dict[str, Any] = {
            "labels": tuple(_variable(dataset, f"{stem}.label").astype(np.str_).tolist())
        }
        for side in ("before", "after"):
            columns[side] = _variable(dataset, f"{stem}.{side}")
            columns[f"{side}_probs"] = _variable(dataset, f"{stem}.{side}_probs", optional=True)
            columns[f"{side}_values"] = {
                key: _variable(dataset, f"{stem}.{side}_values.{encoded(key)}")
                for key in keys[f"{side}_values"]
            }
        features[name] = FeatureColumns(**columns)
    own: dict[str, Any] = {name: _variable(dataset, name) for name in ROW_COLUMNS}
    for kind in ("planted", "values"):
        own[kind] = {key: _variable(dataset, f"{kind}.{encoded(key)}") for key in meta[kind]}
    return Records(features=features, priors=meta["priors"], attrs=meta["attrs"], **own)


def transitions_dataset(tr: Transitions) -> xr.Dataset:
    """Dimensions ``level, before, after`` and, for counted tables, ``source``."""
    import xarray as xr

    data = {
        name: (axes, value)
        for name, axes in _TABLE_AXES.items()
        if (value := getattr(tr, name)) is not None
    }
    coords: dict[str, Any] = {
        "logsnr": ("level", tr.logsnr),
        "t": ("level", tr.t),
        "sigma": ("level", from_logsnr(tr.logsnr, "sigma")),
        "before": np.array(tr.before, dtype=np.str_),
        "after": np.array(tr.after, dtype=np.str_),
    }
    if tr.sources is not None:
        coords["source"] = tr.sources
    meta = {
        "kind": tr.kind,
        "reversal": tr.reversal,
        "feature": tr.feature,
        "plateau": tr.plateau,
        "is_weights_estimated": tr.is_weights_estimated,
        "attrs": tr.attrs,
    }
    return xr.Dataset(data, coords=coords, attrs=header("transitions", meta))


def transitions_of(dataset: xr.Dataset) -> Transitions:
    """Inverse of :func:`transitions_dataset`."""
    meta = read_header(dataset.attrs, "transitions")
    own: dict[str, Any] = {
        name: _variable(dataset, name, optional=name != "probs") for name in _TABLE_AXES
    }
    for name in ("before", "after"):
        own[name] = tuple(_variable(dataset, name).astype(np.str_).tolist())
    own["sources"] = _variable(dataset, "source") if "source" in dataset.variables else None
    return Transitions(logsnr=_variable(dataset, "logsnr"), **own, **meta)


def encoded(name: str) -> str:
    """A name as part of a variable's name: percent-encoded, dots too."""
    return quote(name, safe="*+").replace(".", "%2E")


def header(kind: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a dataset: what it is, and all that is no array as one JSON text."""
    return {"critwin_schema": SCHEMA, "critwin_type": kind, "critwin": as_json(meta)}


def read_header(attrs: Mapping[Any, Any], kind: str) -> dict[str, Any]:
    """The JSON part of :func:`header`, checked.

    Raises:
        InputError: If the attributes are not those of a critwin object of this kind and schema.
    """
    found = attrs.get("critwin_type")
    if found != kind:
        raise InputError(
            f"these are not critwin {kind}",
            got="no critwin attributes" if found is None else str(found),
            wanted=f"what critwin wrote for {kind}",
        )
    schema = attrs.get("critwin_schema")
    if schema != SCHEMA:
        raise InputError(
            f"unknown schema of {kind}",
            got=schema,
            wanted=str(SCHEMA),
            next_step="use the version of critwin that wrote them, or a newer one",
        )
    wanted = {
        "records": {"features", "planted", "values", "priors", "attrs"},
        "transitions": {
            "kind",
            "reversal",
            "feature",
            "plateau",
            "is_weights_estimated",
            "attrs",
        },
    }[kind]
    try:
        meta = json.loads(attrs["critwin"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the description of the {kind} cannot be read") from error
    if not isinstance(meta, dict) or set(meta) != wanted:
        raise InputError(f"the description of the {kind} is not complete")
    return meta


def as_json(value: Any) -> str:
    """Canonical JSON of plain values.

    Raises:
        InputError: If something is not plain (or NaN, which JSON has no word for).
    """
    return json.dumps(_plain(value, "attrs"), sort_keys=False, allow_nan=False)


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        if bad := [key for key in value if not isinstance(key, str)]:
            raise InputError(f"{where} has a key that is not a string", got=repr(bad[0]))
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        raise InputError(f"{where} is not a finite number", got=value, wanted="a number or None")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise InputError(
        f"{where} is no plain value",
        got=type(value).__name__,
        wanted="a string, number, boolean, None, or lists and mappings of them",
    )


def _variable(dataset: xr.Dataset, name: str, *, optional: bool = False) -> NDArray[Any]:
    if name not in dataset.variables:
        if optional:
            return None  # type: ignore[return-value]
        raise InputError("a variable is missing from the dataset", got=f"no {name!r}")
    return np.asarray(dataset[name].values)
