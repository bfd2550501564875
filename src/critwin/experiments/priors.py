"""The model's prior over the labels of features and of their products.

The chance level of a feature needs the law of the label in fresh samples of the model. A model may
know it. Otherwise it is estimated by shares of sources, but only where the sources are fresh
samples themselves: generated under the one condition under which they are denoised.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.records import ABSTAIN

if TYPE_CHECKING:
    from critwin.experiments.sources import Source, SourceState
    from critwin.features.base import Feature
    from critwin.models.base import Model

__all__ = ["priors_by_condition", "priors_of"]

MAX_PRODUCT = 4
"""Products of up to this many features get a prior."""


def priors_of(
    model: Model,
    features: Sequence[Feature],
    states: Sequence[SourceState],
    condition_of: Callable[[Source], str | None],
    *,
    conditions: set[str | None] | None = None,
) -> tuple[dict[str, dict[str, float]], tuple[str, ...]]:
    """Priors of every feature and every product of features, in the order of the features.

    Args:
        model: The model; ``prior(name)`` may know the law under no condition, and
            ``prior(name, condition=)`` under one.
        features: The features.
        states: The sources.
        condition_of: Condition under which a source is denoised.
        conditions: The conditions of all sources, if not those of ``states``.

    Returns:
        Feature or product -> label -> weight, and the names of those that are estimated by shares
        of generated sources.
    """
    names = [
        group
        for size in range(1, min(len(features), MAX_PRODUCT) + 1)
        for group in combinations(features, size)
    ]
    if conditions is None:
        conditions = {condition_of(state.source) for state in states}
    if len(conditions) != 1:
        return {}, ()  # the prior differs from row to row
    (condition,) = conditions
    known: dict[str, dict[str, float]] = {}
    for group in names:
        prior = _known(model, group, condition)
        if prior is not None:
            known["*".join(feature.name for feature in group)] = prior
    if any(not s.source.is_fresh or s.source.condition != condition for s in states):
        return known, ()
    shares = {"*".join(f.name for f in group): _shares(group, states) for group in names}
    estimated = {name: share for name, share in shares.items() if share and name not in known}
    return known | estimated, tuple(estimated)


def priors_by_condition(
    model: Model,
    features: Sequence[Feature],
    states: Sequence[SourceState],
    condition_of: Callable[[Source], str | None],
) -> dict[str, dict[str, dict[str, float]]]:
    """Priors under each of several conditions, where sources are fresh samples under their own.

    Args:
        model: The model.
        features: The features.
        states: The sources.
        condition_of: Condition under which a source is denoised.

    Returns:
        Condition (``""``: none) -> feature or product -> label -> weight; empty where there is
        one condition only, or sources are not denoised under their own.
    """
    if any(not s.source.is_fresh or condition_of(s.source) != s.source.condition for s in states):
        return {}
    groups: dict[str | None, list[SourceState]] = {}
    for state in states:
        groups.setdefault(state.source.condition, []).append(state)
    if len(groups) < 2:
        return {}
    return {
        condition or "": priors_of(model, features, group, condition_of)[0]
        for condition, group in groups.items()
    }


def _known(
    model: Model, group: Sequence[Feature], condition: str | None
) -> dict[str, float] | None:
    """What the model says of a product's labels; None if it does not know just these labels."""
    tell = getattr(model, "prior", None)
    if not callable(tell):
        return None
    options: dict[str, Any] = {}
    if condition is not None:
        if "condition" not in inspect.signature(tell).parameters:
            return None
        options["condition"] = condition
    prior = tell("*".join(feature.name for feature in group), **options)
    labels = {"*".join(parts) for parts in product(*(feature.labels for feature in group))}
    if prior is None or not set(prior) <= labels:
        return None  # e.g. a feature of the same name that merges labels
    return {str(label): float(weight) for label, weight in prior.items()}


def _shares(group: Sequence[Feature], states: Sequence[SourceState]) -> dict[str, float]:
    """Shares of the labels of a product among valid sources on which nothing abstained."""
    drawn: list[str] = []
    for state in states:
        index = [state.before[feature.name][0] for feature in group]
        if state.is_valid and ABSTAIN not in index:
            drawn.append("*".join(f.labels[i] for f, i in zip(group, index, strict=True)))
    if not drawn:
        return {}
    labels, counts = np.unique(drawn, return_counts=True)
    return {str(k): float(c) / len(drawn) for k, c in zip(labels, counts, strict=True)}
