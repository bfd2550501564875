"""From Records to the data of a report: tables, curves, windows, counts, words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin._clustering import complete_levels
from critwin._readings import known_chance
from critwin._texts import unknown_name
from critwin.errors import InputError
from critwin.experiments.outcomes import effects, is_intervention
from critwin.experiments.switches import SWITCHED, followed, is_switch
from critwin.freshness import fresh_test
from critwin.records import ABSTAIN, select
from critwin.reports.data import FeatureData, LabelData, ReportData, Validity
from critwin.reports.headline import Headline, decision_order, summarize
from critwin.reports.order import midpoint_gaps
from critwin.reports.wording import the
from critwin.reshaping import with_abstentions
from critwin.transitions import Transitions
from critwin.trees import MixtureTree, tree_support
from critwin.views import parts_of, transitions_from_records
from critwin.windows import CriticalWindow, Curve, critical_window, curve_with_intervals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.estimates import Estimate
    from critwin.features.labelling import ErrorMatrix
    from critwin.records import FeatureColumns, Records
    from critwin.reports.gallery import Gallery

__all__ = ["collect"]

CHANCE_UNSAID = (
    "nothing tells how often a label comes back by chance (the model's prior is unknown); "
    "critwin report takes it: --chance NUMBER, or --prior LABEL=SHARE for each label"
)
_MANY_LABELS = 12  # labels whose curves are drawn; the CSV has as many
_TREE_LABELS = range(3, 21)  # numbers of labels of which a tree is drawn
_TREE_RESAMPLES = 50
_EXPERIMENTS = {
    "clone": "Results are clones: each source is a generation of the model, stopped at a level "
    "and continued from the same state with other random numbers. With an exact reversal the "
    "curves are those of forward–reverse; where they differ, the reversal is not the exact "
    "posterior draw, or noised images do not look like the model's own states.",
    "prompt_switch": "Results are of a prompt switch: each source was generated under its own "
    "condition; results go on from the same state under another one. What is lost is what the "
    "new condition changed, so the curves fall later in noise the less the two have in common.",
    "preview": "Results are previews: the clean image that the model expects at a level of its "
    "own generation, not a sample. A preview tells the likelier label as soon as one is likelier, "
    "so it settles at more noise than the feature is decided.",
    "intervene": "Results are of an intervention: generated again from the same noise as each "
    "source, with something changed on the way, and paired with it. There is one point an arm and "
    "no curve over noise; the effects are these:",
}


def collect(
    records: Records,
    *,
    title: str,
    gallery: Gallery | None = None,
    provenance: Sequence[tuple[str, str]] = (),
    config: str = "",
    notes: Sequence[str] = (),
    error_matrices: Mapping[str, ErrorMatrix] | None = None,
    chances: Mapping[str, float] | None = None,
    priors: Mapping[str, Mapping[str, float]] | None = None,
    confidence: float = 0.95,
    epsilon: float = 0.1,
) -> ReportData:
    """Compute everything that a report shows.

    Args:
        records: The records of a run.
        title: Title of the report.
        gallery: What sources became.
        provenance: Names and values.
        config: The experiment file as text.
        notes: What else limits the result, said first.
        error_matrices: Feature -> what its labeller says of samples whose label is known.
        chances: Feature -> chance level, where the prior is unknown.
        priors: Feature -> the model's prior over its labels, in place of what the records say.
        confidence: Of the intervals.
        epsilon: Tolerance of the windows of single labels.

    Returns:
        The data.

    Raises:
        InputError: If there are no records or no features, or a chance level or a prior is of
            no feature or cannot be used.
    """
    if len(records) == 0 or not records.features:
        raise InputError(
            "nothing to report",
            got=f"{len(records)} records of {len(records.features)} features",
            wanted="a run that has measured something",
        )
    for feature in {**(chances or {}), **(priors or {})}:
        if feature not in records.features:
            raise unknown_name("feature", feature, records.features)
    for feature, prior in (priors or {}).items():  # what is wrong with it is the answer
        transitions_from_records(records, feature, where=parts_of(records)[0][1], weights=prior)
    parts = parts_of(records)
    features = []
    for number, (name, feature, where) in enumerate(
        (f"{feature}{suffix}", feature, where)
        for feature in records.features
        for suffix, where in parts
    ):
        features.append(
            _feature(
                records,
                name,
                feature,
                where,
                key=_key(name, number),
                matrix=(error_matrices or {}).get(feature),
                chance=(chances or {}).get(feature),
                prior=(priors or {}).get(feature),
                confidence=confidence,
                epsilon=epsilon,
            )
        )
    windows = {f.name: f.window for f in features if f.window is not None}
    gaps = midpoint_gaps(
        {f.name: f.transitions for f in features if f.transitions is not None},
        windows,
        chances={f.name: chances[f.feature] for f in features if f.feature in (chances or {})}
        if chances
        else {},
        confidence=confidence,
    )
    order = decision_order(windows)
    features.sort(key=lambda f: order.index(f.name) if f.name in windows else len(order))
    return ReportData(
        title=title,
        headline=_headline(features, windows, gaps),
        features=tuple(features),
        levels=-np.unique(-records.logsnr),
        num_sources=len(np.unique(records.source)),
        num_units=len(records),
        gallery=gallery,
        provenance=tuple(provenance),
        config=config,
        notes=(*notes, *_notes(records, features)),
        confidence=confidence,
        epsilon=epsilon,
        gaps=gaps,
        experiments=_kinds(records),
    )


def _kinds(records: Records) -> tuple[str, ...]:
    """Names of the experiments, arms apart."""
    return tuple(sorted({e.partition(":")[0] for e in np.unique(records.experiment).tolist()}))


def _headline(
    features: Sequence[FeatureData],
    windows: Mapping[str, CriticalWindow],
    gaps: Mapping[tuple[str, str], Estimate],
) -> Headline:
    """The words, and why features have no window."""
    switched = [f.following[0].in_words() for f in features if f.following]
    if switched and len(switched) == len(features):
        return Headline(sentence=SWITCHED, caveats=tuple(f"{text}." for text in switched))
    found = summarize(windows, gaps=gaps)
    reasons = [f"No window for {the(f.name)}: {f.reason}." for f in features if f.window is None]
    return replace(found, caveats=(*found.caveats, *reasons))


def _key(name: str, number: int) -> str:
    return f"f{number}-" + (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "x")


def _feature(
    records: Records,
    name: str,
    feature: str,
    where: dict[str, str],
    *,
    key: str,
    matrix: ErrorMatrix | None,
    chance: float | None,
    prior: Mapping[str, float] | None,
    confidence: float,
    epsilon: float,
) -> FeatureData:
    rows = np.logical_and.reduce([records.column(key) == value for key, value in where.items()])
    validity = _validity(records, records.features[feature], np.asarray(rows))
    own = select(records, np.asarray(rows))
    curves = tuple(followed(own, feature, confidence=confidence)) if is_switch(own) else ()
    try:
        tr = transitions_from_records(records, feature, where=where, weights=prior)
    except InputError as error:
        return FeatureData(
            name=name,
            feature=feature,
            key=key,
            transitions=None,
            window=None,
            kept=None,
            validity=validity,
            reason=str(error),
            following=curves,
        )
    window: CriticalWindow | None = None
    kept: Curve | None = None
    bracket: tuple[Curve, Curve] | None = None
    corrected: NDArray[np.float64] | None = None
    reason: str | None = None
    try:
        if chance is None and known_chance(tr) is None:
            raise InputError(CHANCE_UNSAID)
        kept = curve_with_intervals(tr, "kept", confidence=confidence, chance=chance)
        window = critical_window(tr, confidence=confidence, chance=chance)
        if tr.abstained is not None and tr.abstained.any():
            ends = [
                curve_with_intervals(
                    with_abstentions(tr, end), "kept", confidence=confidence, chance=chance
                )
                for end in ("lost", "kept")
            ]
            bracket = (ends[0], ends[1])
    except InputError as error:
        reason = str(error)
    remarks: tuple[str, ...] = ()
    if matrix is not None:
        corrected, remarks = _corrected(tr, matrix, confidence)
    if str(own.experiment[0]) == "forward_reverse" and (test := fresh_test(tr)) is not None:
        remarks = (*remarks, test.in_words())
    weight = tr.weights
    num = np.bincount(np.asarray(tr.source_before), minlength=len(tr.before))
    ranks = np.argsort(-(num if weight is None else weight), kind="stable")
    carried = [i for i in ranks if num[i] > 0]
    shown = sorted(carried[:_MANY_LABELS])
    return FeatureData(
        name=name,
        feature=feature,
        key=key,
        transitions=tr,
        window=window,
        kept=kept,
        bracket=bracket,
        corrected=corrected,
        chance=known_chance(tr) if chance is None else chance,
        labels=tuple(
            _label(tr, tr.before[i], int(num[i]), confidence=confidence, epsilon=epsilon)
            for i in shown
        ),
        num_labels_left_out=len(carried) - len(shown),
        validity=validity,
        reason=reason,
        remarks=remarks,
        following=curves,
        tree=_tree(tr, len(carried), confidence=confidence, epsilon=epsilon),
    )


def _tree(
    tr: Transitions, num_labels: int, *, confidence: float, epsilon: float
) -> MixtureTree | None:
    """Which labels become one as noise grows; None where it cannot be told."""
    if num_labels not in _TREE_LABELS:
        return None
    try:
        return tree_support(tr, epsilon, confidence=confidence, num_resamples=_TREE_RESAMPLES)
    except InputError:  # no prior, or a label without sources at every level
        return None


def _corrected(
    tr: Transitions, matrix: ErrorMatrix, confidence: float
) -> tuple[NDArray[np.float64] | None, tuple[str, ...]]:
    """``kept`` corrected for the labeller's errors where that holds, and what to say of it."""
    from critwin.features.correction import correct_labels

    try:
        found = correct_labels(complete_levels(tr)[0], matrix, confidence=confidence)
    except InputError as error:
        return None, (f"not corrected for the labeller's errors: {error}",)
    value = np.array(found.kept)
    value[: len(value) if found.decayed_from is None else found.decayed_from] = np.nan
    return value, found.notes


def _label(
    tr: Transitions, label: str, num_sources: int, *, confidence: float, epsilon: float
) -> LabelData:
    found: dict[str, Any] = {"stay": None, "blur": None, "window": None}
    reasons = []
    steps: dict[str, Callable[[], Any]] = {
        "stay": lambda: curve_with_intervals(tr, "stay", after=label, confidence=confidence),
        "blur": lambda: curve_with_intervals(tr, "blur", after=label, confidence=confidence),
        "window": lambda: critical_window(
            tr,
            criterion="operational",
            after=label,
            epsilon=epsilon,
            confidence=confidence,
            test=False,
        ),
    }
    for name, step in steps.items():
        try:
            found[name] = step()
        except InputError as error:
            if str(error) not in reasons:
                reasons.append(str(error))
    weight = None if tr.weights is None else float(tr.weights[tr.before.index(label)])
    return LabelData(
        label=label,
        num_sources=num_sources,
        weight=weight,
        reason="; ".join(reasons) or None,
        **found,
    )


def _validity(records: Records, columns: FeatureColumns, rows: NDArray[np.bool_]) -> Validity:
    is_valid = np.asarray(records.valid)[rows]
    has_label = columns.before[rows] != ABSTAIN
    source = records.source[rows]
    sources, labelled = np.unique(source), np.unique(source[has_label])
    return Validity(
        units=int(rows.sum()),
        invalid=int(np.sum(~is_valid & has_label)),
        abstained=int(np.sum(is_valid & has_label & (columns.after[rows] == ABSTAIN))),
        without_label=int(np.sum(~has_label)),
        sources=len(labelled),
        sources_without_label=len(np.setdiff1d(sources, labelled)),
    )


def _notes(records: Records, features: Sequence[FeatureData]) -> tuple[str, ...]:
    """What a reader must know to judge the result."""
    notes = []
    notes += [_EXPERIMENTS[kind] for kind in _kinds(records) if kind in _EXPERIMENTS]
    if is_intervention(records):
        notes += [
            effect.in_words() + "."
            for name in records.features
            for effect in effects(records, name)
        ]
    reversals = sorted(set(np.unique(records.reversal).tolist()))
    meaning = {
        "stochastic": "Results were denoised with a stochastic sampler, which stands in for the "
        "exact posterior draw of the theory.",
        "ode": "Results were denoised with an ODE sampler. It has its own truth: its windows need "
        "not be those of the exact posterior.",
        "posterior": "Results are exact posterior draws.",
    }
    notes += [meaning[r] for r in reversals if r in meaning]
    conditions = [c for c in np.unique(records.condition).tolist() if c]
    if conditions and len(np.unique(records.condition)) > 1:
        shown = ", ".join(f"“{c}”" for c in conditions[:6])
        more = "" if len(conditions) <= 6 else f" and {len(conditions) - 6} more"
        how = "pool" if len(parts_of(records)) == 1 else "tell apart"
        notes.append(f"The curves {how} the conditions {shown}{more}.")
    elif conditions:
        notes.append(f"All results were denoised under the condition “{conditions[0]}”.")
    for f in features:
        if f.reason is not None and f.window is not None:
            notes.append(f"{f.name}: {f.reason}.")
        if f.window is not None:
            notes += [f"{f.name}: {note}." for note in f.window.notes]
        notes += [f"{f.name}: {remark.rstrip('.')}." for remark in f.remarks]
        if f.bracket is not None:
            notes.append(
                f"{f.name}: the labeller abstained on {f.validity.abstained:,} of "
                f"{f.validity.units:,} results; the hatched band shows what they could hide."
            )
        if f.num_labels_left_out:
            notes.append(
                f"{f.name}: curves of {f.num_labels_left_out} more labels are left out; the run "
                "folder has them."
            )
    notes.append(
        "The labels are a labeller's readings of sources and results alike; a labeller that errs "
        "moves the curves."
    )
    return tuple(dict.fromkeys(notes))
