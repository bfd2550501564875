"""The view from Records to Transitions: choose a feature, filter, merge, bin, count.

A feature may be a product, ``"ground*ink"``, whose labels are ``"dark*red"``; a named number can
be cut into bins and then read like a feature.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._texts import unknown_name
from critwin.errors import InputError
from critwin.levels import alpha_sigma
from critwin.records import ABSTAIN, FeatureColumns, Records, select
from critwin.reshaping import merge
from critwin.transitions import NO_SIGNAL, Transitions, from_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MOST_CONDITIONS", "binned", "parts_of", "product", "transitions_from_records"]

MOST_CONDITIONS = 12
"""Conditions that are told apart by themselves; more are pooled unless one is chosen."""

Where = Mapping[str, Any] | Callable[[Records], Any]


def transitions_from_records(
    records: Records,
    feature: str | Sequence[str],
    *,
    where: Where | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    weights: Mapping[str, float] | None = None,
    plateau: float | None = None,
) -> Transitions:
    """Count the transitions of a feature.

    Args:
        records: Records.
        feature: Name of a feature, or a product: ``"ground*ink"`` or ``("ground", "ink")``.
        where: Column -> value (or several values) that the rows must have, e.g.
            ``{"condition": "", "reversal": "stochastic"}``; or a function from Records to a mask.
        groups: Labels to merge, new -> old; needs the prior.
        weights: The model's prior over the labels, label -> weight; the prior that came with the
            records unless given: the model's, or its law under the one condition of the rows.
            Where there is none, the law of fresh samples is that of the results at the noisiest
            level, if next to no signal is left there.
        plateau: Known limit of the mean stay as noise goes to zero.

    Returns:
        Counted transitions. Sources on whose clean image the labeller abstained have no row: they
        are counted in ``attrs["num_sources_abstained"]``. Labels that no source carries are kept
        as labels after, and as labels before if they have a prior weight (a NaN row).

    Raises:
        InputError: If the feature or a column is unknown, no row is left, rows of two
            experiments, reversals or conditions of one source would be mixed, or a source has
            two labels or two weights.
    """
    rows = records if where is None else select(records, _mask(records, where))
    if isinstance(feature, str):
        names = [feature] if feature in records.features else feature.split("*")
    else:
        names = list(feature)
    columns = product(rows, names) if len(names) > 1 else _feature(rows, names[0])
    name = "*".join(names)
    if len(rows) == 0:
        raise InputError(f"no records of feature {name!r} are left", got=f"where={where}")
    for mixed in ("experiment", "reversal"):
        if len(kinds := np.unique(rows.column(mixed))) > 1:
            raise InputError(
                f"records of several kinds of {mixed} would be mixed",
                got=", ".join(kinds),
                next_step=f"choose one with where={{'{mixed}': ...}}",
            )
    pairs = np.unique(np.stack([rows.source, rows.condition], axis=1), axis=0)
    names_twice, times = np.unique(pairs[:, 0], return_counts=True)
    if np.any(times > 1):
        raise InputError(
            "the same source was reversed under several conditions, which would be mixed",
            got=str(names_twice[times > 1][0]),
            next_step="choose one with where={'condition': ...}",
        )
    is_estimated = False
    if weights is None:
        weights = records.priors.get(name)
        is_estimated = weights is not None and _is_prior_estimated(records, name)
        if weights is None:
            weights = _prior_under_condition(rows, name)
            is_estimated = weights is not None
    keep = columns.before != ABSTAIN
    num_abstained = len(np.unique(rows.source[~keep]))
    if not keep.any():
        raise InputError(f"the labeller of {name!r} abstained on every source")
    label_of = np.unique(columns.before[keep])
    if weights is None:
        before = [columns.labels[i] for i in label_of]
    else:
        _check_weights(weights, columns.labels, [columns.labels[i] for i in label_of], name)
        before = [label for label in columns.labels if weights.get(label, 0.0) > 0]
    table = _count(rows, columns, keep, before, name)
    law = None if weights is None else np.array([weights.get(b, 0.0) for b in before])
    if weights is None:
        fresh = _law_without_signal(rows, table)
        is_estimated = fresh is not None
    else:
        fresh = np.array([weights.get(j, 0.0) for j in columns.labels])
    result = from_counts(
        table["counts"],
        table["source_before"],
        logsnr=table["logsnr"],
        before=before,
        after=columns.labels,
        sources=table["sources"],
        source_weight=_source_weight(rows, table["sources"]),
        abstained=table["abstained"],
        invalid=table["invalid"],
        weights=None if law is None else law / law.sum(),
        fresh=None if fresh is None else fresh / fresh.sum(),
        is_weights_estimated=is_estimated,
        reversal=str(rows.reversal[0]),
        feature=name,
        plateau=plateau,
        attrs={**records.attrs, "num_sources_abstained": num_abstained},
    )
    return result if groups is None else merge(result, groups)


def parts_of(records: Records) -> list[tuple[str, dict[str, str]]]:
    """Parts of some records that must not be mixed, each with a suffix for names.

    Experiments and reversals are told apart, and so are conditions under which the model itself
    drew the sources: each has a prior of its own, and what differs between conditions is no
    feature that a condition decides.

    Args:
        records: Records.

    Returns:
        Suffix (empty where there is one part only) -> ``where`` of
        :func:`transitions_from_records`.
    """
    columns = ["experiment", "reversal"]
    apart = set(_condition_priors(records))
    if 2 <= len(apart) <= MOST_CONDITIONS and apart >= set(np.unique(records.condition).tolist()):
        columns.append("condition")
    rows = sorted(set(zip(*(records.column(name).tolist() for name in columns), strict=True)))
    parts = []
    for row in rows:
        shown = [
            value or "no condition"
            for position, value in enumerate(row)
            if len({other[position] for other in rows}) > 1
        ]
        suffix = f" ({', '.join(shown)})" if shown else ""
        parts.append((suffix, dict(zip(columns, row, strict=True))))
    return parts


def product(records: Records, names: Sequence[str]) -> FeatureColumns:
    """Columns of the product of several features; abstains where any of them abstains.

    Args:
        records: Records.
        names: Names of the features.

    Returns:
        Columns with labels ``"x*y"``, the last feature varying fastest.

    Raises:
        InputError: If a feature is unknown or there is none.
    """
    if not names:
        raise InputError("a product of no features")
    parts = [_feature(records, name) for name in names]
    labels = list(parts[0].labels)
    for part in parts[1:]:
        labels = [f"{a}*{b}" for a in labels for b in part.labels]
    columns = {}
    for side in ("before", "after"):
        index = np.zeros(len(records), dtype=np.int64)
        is_abstained = np.zeros(len(records), dtype=np.bool_)
        for part in parts:
            own = getattr(part, side)
            is_abstained |= own == ABSTAIN
            index = index * len(part.labels) + own
        columns[side] = np.where(is_abstained, ABSTAIN, index)
    return FeatureColumns(labels=tuple(labels), before=columns["before"], after=columns["after"])


def binned(
    records: Records, feature: str, value: str, edges: Sequence[float], *, name: str | None = None
) -> Records:
    """Add a feature whose labels are bins of a named number that ``feature`` read.

    Args:
        records: Records.
        feature: Name of the feature that read the number.
        value: Name of the number.
        edges: Interior bin edges, increasing; ``k`` edges make ``k + 1`` bins.
        name: Name of the new feature; ``"feature.value"`` unless given.

    Returns:
        Records with one more feature; a NaN number abstains.

    Raises:
        InputError: If the feature or number is unknown, the edges do not increase, or there is a
            feature of the new name.
    """
    columns = _feature(records, feature)
    if value not in columns.before_values or value not in columns.after_values:
        raise InputError(
            f"feature {feature!r} read no number of this name",
            got=value,
            wanted="one of " + ", ".join(sorted(columns.before_values)),
        )
    cuts = np.asarray(edges, dtype=np.float64)
    if cuts.ndim != 1 or len(cuts) == 0 or np.any(np.diff(cuts) <= 0):
        raise InputError("bin edges must increase", got=list(edges))
    if not np.all(np.isfinite(cuts)):
        raise InputError("bin edges must be finite", got=list(edges))
    new_name = f"{feature}.{value}" if name is None else name
    if new_name in records.features:
        raise InputError("there is a feature of this name already", got=new_name)
    text = [f"{cut:g}" for cut in cuts]
    middle = [f"[{a}, {b})" for a, b in pairwise(text)]
    labels = (f"< {text[0]}", *middle, f">= {text[-1]}")

    def index(number: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.where(np.isnan(number), ABSTAIN, np.searchsorted(cuts, number, side="right"))

    new = FeatureColumns(
        labels=labels,
        before=index(columns.before_values[value]),
        after=index(columns.after_values[value]),
    )
    return replace(records, features={**records.features, new_name: new})


def _feature(records: Records, name: str) -> FeatureColumns:
    if name not in records.features:
        raise unknown_name("feature", name, records.features, more=", or a product a*b")
    return records.features[name]


def _is_prior_estimated(records: Records, name: str) -> bool:
    """Whether the prior of one feature is estimated; a list of names narrows the flag."""
    names = records.attrs.get("estimated_priors")
    is_listed = names is None or name in json.loads(names)
    return bool(records.attrs.get("is_prior_estimated", False)) and is_listed


def _mask(records: Records, where: Where) -> NDArray[np.bool_]:
    if callable(where):
        return np.asarray(where(records), dtype=np.bool_)
    mask = np.ones(len(records), dtype=np.bool_)
    for name, wanted in where.items():
        values = wanted if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
        values = ["" if v is None else v for v in values]
        mask &= np.isin(records.column(name), list(values))
    return mask


def _check_weights(
    weights: Mapping[str, float], labels: Sequence[str], used: Sequence[str], name: str
) -> None:
    if unknown := sorted(set(weights) - set(labels)):
        raise InputError(
            f"weights of {name!r} name unknown labels",
            got=", ".join(unknown),
            wanted="some of " + ", ".join(labels),
        )
    bare = [label for label in used if not weights.get(label, 0.0) > 0]
    if bare:
        raise InputError(
            f"weights of {name!r} give nothing to labels that sources carry",
            got=", ".join(bare),
            wanted="a positive weight for each",
        )


def _count(
    rows: Records,
    columns: FeatureColumns,
    keep: NDArray[np.bool_],
    before: Sequence[str],
    name: str,
) -> dict[str, Any]:
    """Histogram the kept rows by source, level and label."""
    source, source_index = np.unique(rows.source[keep], return_inverse=True)
    minus, level_index = np.unique(-rows.logsnr[keep], return_inverse=True)
    own = columns.before[keep]
    first = np.full(len(source), ABSTAIN, dtype=np.int64)
    first[source_index] = own
    if np.any(first[source_index] != own):
        bad = source[source_index[first[source_index] != own][0]]
        raise InputError(
            f"a source has two labels of {name!r} before",
            got=str(bad),
            wanted="one label per source",
            next_step="name sources apart, or filter with where=",
        )
    position = np.array(
        [before.index(label) if label in before else -1 for label in columns.labels]
    )
    is_valid = np.asarray(rows.valid)[keep]
    after = columns.after[keep]
    num_s, num_l, num_j = len(source), len(minus), len(columns.labels)
    counts = np.zeros((num_s, num_l, num_j), dtype=np.int64)
    is_read = is_valid & (after != ABSTAIN)
    np.add.at(counts, (source_index[is_read], level_index[is_read], after[is_read]), 1)
    abstained = np.zeros((num_s, num_l), dtype=np.int64)
    is_silent = is_valid & (after == ABSTAIN)
    np.add.at(abstained, (source_index[is_silent], level_index[is_silent]), 1)
    invalid = np.zeros((num_l, len(before)), dtype=np.int64)
    np.add.at(invalid, (level_index[~is_valid], position[own[~is_valid]]), 1)
    return {
        "counts": counts,
        "abstained": abstained,
        "invalid": invalid,
        "source_before": position[first],
        "sources": source,
        "logsnr": -minus,
    }


def _law_without_signal(rows: Records, table: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """Shares of the results at the noisiest level, if those are fresh draws of the reversal.

    They are where a sample was noised afresh until next to no signal was left. A clone keeps the
    noise of its source's own generation, so its noisiest level tells nothing of the kind.
    """
    if str(rows.experiment[0]) != "forward_reverse":
        return None
    if not alpha_sigma(float(table["logsnr"][-1]))[0] < NO_SIGNAL:
        return None
    last = table["counts"][:, -1]
    total = last.sum(axis=1)
    if np.sum(total > 0) < 2:
        return None
    weight = _source_weight(rows, table["sources"])
    vote = (np.ones(len(last)) if weight is None else weight) * (total > 0)
    law = vote @ (last / np.maximum(total, 1)[:, None])
    return np.asarray(law) if law.sum() > 0 else None


def _condition_priors(records: Records) -> dict[str, dict[str, dict[str, float]]]:
    """Priors under each condition, as the experiment left them."""
    try:
        found = json.loads(str(records.attrs.get("condition_priors") or "{}"))
    except ValueError:  # a file of someone else's
        return {}
    return found if isinstance(found, dict) else {}


def _prior_under_condition(rows: Records, name: str) -> Mapping[str, float] | None:
    """The prior of a feature under the one condition of some rows, if it is known."""
    conditions = np.unique(rows.condition).tolist()
    if len(conditions) != 1:
        return None
    return _condition_priors(rows).get(conditions[0], {}).get(name)


def _source_weight(rows: Records, sources: NDArray[np.str_]) -> NDArray[np.float64] | None:
    """Sampling weights of the sources: a column ``weight`` among the values, if there is one."""
    if "weight" not in rows.values:
        return None
    is_used = np.isin(rows.source, sources)
    given = rows.values["weight"][is_used]
    if np.any(~(given >= 0)):
        raise InputError("weights of sources must be >= 0", got=float(given[~(given >= 0)][0]))
    index = np.searchsorted(sources, rows.source[is_used])
    column = np.zeros(len(sources))
    column[index] = given
    if np.any(column[index] != given):
        bad = rows.source[is_used][column[index] != given][0]
        raise InputError("a source has several weights", got=str(bad), wanted="one per source")
    return column
