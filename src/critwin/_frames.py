"""Records and transitions as tidy pandas tables, and back.

Labels are categories (their order and unused ones survive); an abstention is a missing value.
What has no column travels as JSON in ``frame.attrs["critwin"]``; a frame that lost it (through
CSV, say) is read by its column names alone.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._datasets import ROW_COLUMNS, as_json
from critwin.errors import InputError
from critwin.levels import from_logsnr, ou_time
from critwin.records import FeatureColumns, Records
from critwin.transitions import Transitions

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

_LAW = ("kind", "reversal", "feature", "plateau", "is_weights_estimated", "attrs")


def records_frame(records: Records) -> pd.DataFrame:
    """One row a unit; columns ``<feature>.before``, ``<feature>.after`` and so on."""
    import pandas as pd

    columns: list[tuple[str, Any]] = [(name, getattr(records, name)) for name in ROW_COLUMNS]
    columns[2:2] = [
        ("t", ou_time(records.logsnr)),
        ("sigma", from_logsnr(records.logsnr, "sigma")),
    ]
    for name, own in records.features.items():
        for side in ("before", "after"):
            codes = getattr(own, side)
            columns.append((f"{name}.{side}", _categories(codes, own.labels)))
        for side in ("before", "after"):
            if (probs := getattr(own, f"{side}_probs")) is not None:
                columns += [
                    (f"{name}.{side}_probs.{label}", probs[:, j])
                    for j, label in enumerate(own.labels)
                ]
            values = getattr(own, f"{side}_values")
            columns += [(f"{name}.{side}_values.{key}", v) for key, v in values.items()]
    for kind in ("planted", "values"):
        columns += [(f"{kind}.{key}", v) for key, v in getattr(records, kind).items()]
    _check_distinct([name for name, _ in columns])
    frame = pd.DataFrame(dict(columns))
    meta = {
        "features": {
            name: {
                "before_values": list(own.before_values),
                "after_values": list(own.after_values),
            }
            for name, own in records.features.items()
        },
        "planted": list(records.planted),
        "values": list(records.values),
        "priors": {name: dict(prior) for name, prior in records.priors.items()},
        "attrs": records.attrs,
    }
    frame.attrs["critwin"] = as_json(meta)
    return frame


def records_of_frame(frame: pd.DataFrame) -> Records:
    """Inverse of :func:`records_frame`."""
    meta = _meta(frame)
    names = [str(c) for c in frame.columns]
    known = meta.get("features")
    if known is None:
        befores = [n.removesuffix(".before") for n in names if n.endswith(".before")]
        known = {n: None for n in befores if f"{n}.after" in names}
    features = {name: _feature_of_frame(frame, name, names, known[name]) for name in known}
    own: dict[str, Any] = {}
    for name in ROW_COLUMNS:
        if name in names:
            own[name] = _column(frame, name, is_text=name not in ("valid", "replicate"))
    for name in ("source", "logsnr"):
        if name not in own:
            raise InputError("a column is missing", got=f"no {name!r} among {', '.join(names)}")
    own["logsnr"] = frame["logsnr"].to_numpy()
    if "requested_logsnr" in own:
        own["requested_logsnr"] = frame["requested_logsnr"].to_numpy()
    for kind in ("planted", "values"):
        found = [
            n.removeprefix(f"{kind}.")
            for n in names
            if n.startswith(f"{kind}.") and kind not in features
        ]
        own[kind] = {
            key: _column(frame, f"{kind}.{key}", is_text=kind == "planted")
            for key in meta.get(kind, found)
        }
    return Records(
        features=features, priors=meta.get("priors", {}), attrs=meta.get("attrs", {}), **own
    )


def transitions_frame(tr: Transitions) -> pd.DataFrame:
    """Long table: a row a level and pair of labels; of counted ones, a row a source as well."""
    import pandas as pd

    num_l, num_i, num_j = tr.probs.shape
    if tr.counts is None:
        level, i, j = (a.ravel() for a in np.indices((num_l, num_i, num_j)))
        columns: dict[str, Any] = {}
    else:
        assert tr.source_before is not None
        assert tr.sources is not None
        s, level, j = (a.ravel() for a in np.indices(tr.counts.shape))
        i = tr.source_before[s]
        columns = {"source": tr.sources[s]}
    columns |= {
        "logsnr": tr.logsnr[level],
        "t": tr.t[level],
        "sigma": from_logsnr(tr.logsnr, "sigma")[level],
        "before": _categories(i, tr.before),
        "after": _categories(j, tr.after),
        "prob": tr.probs[level, i, j],
    }
    if tr.stderr is not None:
        columns["stderr"] = tr.stderr[level, i, j]
    if tr.counts is not None:
        columns["count"] = tr.counts[s, level, j]
        if tr.abstained is not None:
            columns["abstained"] = tr.abstained[s, level]
        if tr.source_weight is not None:
            columns["source_weight"] = tr.source_weight[s]
    frame = pd.DataFrame(columns)
    meta: dict[str, Any] = {name: getattr(tr, name) for name in _LAW}
    for name in ("weights", "fresh"):
        value = getattr(tr, name)
        meta[name] = None if value is None else value.tolist()
    meta["invalid"] = None if tr.invalid is None else tr.invalid.tolist()
    frame.attrs["critwin"] = as_json(meta)
    return frame


def transitions_of_frame(frame: pd.DataFrame) -> Transitions:
    """Inverse of :func:`transitions_frame`."""
    meta = _meta(frame)
    names = [str(c) for c in frame.columns]
    for name in ("logsnr", "before", "after", "prob"):
        if name not in names:
            raise InputError("a column is missing", got=f"no {name!r} among {', '.join(names)}")
    before, i = _codes(frame, "before")
    after, j = _codes(frame, "after")
    minus, level = np.unique(-frame["logsnr"].to_numpy(dtype=np.float64), return_inverse=True)
    shape = (len(minus), len(before), len(after))

    def table(name: str) -> NDArray[np.float64]:
        out = np.full(shape, np.nan)
        out[level, i, j] = frame[name].to_numpy(dtype=np.float64)
        return out

    own: dict[str, Any] = {"probs": table("prob"), "kind": "exact"}
    if "stderr" in names:
        own |= {"stderr": table("stderr"), "kind": "estimated"}
    if "count" in names and "source" in names:
        text = _column(frame, "source", is_text=True)
        sources, first, s = np.unique(text, return_index=True, return_inverse=True)
        # back to the order in which the sources came
        rank = np.argsort(np.argsort(first))
        s, order = rank[s], np.argsort(first)
        counts = np.zeros((len(sources), shape[0], shape[2]), dtype=np.int64)
        counts[s, level, j] = frame["count"].to_numpy()
        source_before = np.zeros(len(sources), dtype=np.int64)
        source_before[s] = i
        own |= {
            "kind": "counted",
            "counts": counts,
            "sources": sources[order],
            "source_before": source_before,
        }
        if "abstained" in names:
            abstained = np.zeros((len(sources), shape[0]), dtype=np.int64)
            abstained[s, level] = frame["abstained"].to_numpy()
            own["abstained"] = abstained
        if "source_weight" in names:
            weight = np.zeros(len(sources))
            weight[s] = frame["source_weight"].to_numpy(dtype=np.float64)
            own["source_weight"] = weight
    return Transitions(logsnr=-minus + 0.0, before=before, after=after, **{**own, **meta})


def _feature_of_frame(
    frame: pd.DataFrame, name: str, names: list[str], keys: Mapping[str, list[str]] | None
) -> FeatureColumns:
    for side in ("before", "after"):
        if f"{name}.{side}" not in names:
            raise InputError("a column is missing", got=f"no {name}.{side!s}")
    labels, before = _codes(frame, f"{name}.before")
    others, after = _codes(frame, f"{name}.after")
    if labels != others:
        merged = tuple(sorted({*labels, *others}))
        before, after = (
            np.append([merged.index(label) for label in mine], -1)[codes]
            for mine, codes in ((labels, before), (others, after))
        )
        labels = merged
    own: dict[str, Any] = {"labels": labels, "before": before, "after": after}
    for side in ("before", "after"):
        columns = [f"{name}.{side}_probs.{label}" for label in labels]
        if all(c in names for c in columns):
            own[f"{side}_probs"] = frame[columns].to_numpy(dtype=np.float64)
        stem = f"{name}.{side}_values."
        found = [n.removeprefix(stem) for n in names if n.startswith(stem)]
        own[f"{side}_values"] = {
            key: frame[stem + key].to_numpy(dtype=np.float64)
            for key in (found if keys is None else keys[f"{side}_values"])
        }
    return FeatureColumns(**own)


def _categories(codes: NDArray[np.int64], labels: tuple[str, ...]) -> pd.Categorical[str]:
    import pandas as pd

    index: pd.Index[str] = pd.Index(list(labels), dtype=object)
    return pd.Categorical.from_codes(np.array(codes), categories=index)


def _codes(frame: pd.DataFrame, name: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Labels and codes of a column; a missing value is -1."""
    import pandas as pd

    column = frame[name]
    if not isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype("category")
    labels = tuple(str(label) for label in column.cat.categories)
    return labels, np.asarray(column.cat.codes, dtype=np.int64)


def _column(frame: pd.DataFrame, name: str, *, is_text: bool) -> Any:
    column = frame[name]
    if is_text:
        return column.astype(object).where(column.notna(), "").to_numpy(dtype=object)
    return column.to_numpy()


def _meta(frame: pd.DataFrame) -> dict[str, Any]:
    text = frame.attrs.get("critwin", "{}")
    try:
        meta = json.loads(text)
    except (TypeError, ValueError) as error:
        raise InputError("frame.attrs['critwin'] cannot be read") from error
    return dict(meta)


def _check_distinct(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError("two columns of the table would have the same name", got=twice[0])
