"""Fairness: which law an attribute gets under a condition, when it is decided, where to change it.

Three questions, one answer each: do the generated images show the groups of an attribute in the
shares of a reference (:mod:`critwin.audits.law`); at which noise is each group decided, is one
lost before another, and who turns into whom (:mod:`critwin.audits.groups`,
:mod:`critwin.audits.drift`); and where does a changed condition do most for least
(:mod:`critwin.audits.interventions`). Labels are what a labeller perceives in an image.

Source: Li, Karan & Chen (2025), *Blink of an eye*, sec. 5 (windows as a diagnosis).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.audits.drift import Drift, drift_of
from critwin.audits.groups import Groups, group_windows
from critwin.audits.interventions import Interventions, intervention_effects
from critwin.audits.law import AttributeLaw, attribute_law, holm
from critwin.audits.metrics import GroupMetrics, metrics_of_records
from critwin.audits.questions import Question, check_question, condition_among, fidelity_of
from critwin.audits.references import Reference, reference_of
from critwin.errors import InputError
from critwin.estimates import Estimate, plain
from critwin.experiments.outcomes import is_intervention
from critwin.records import select
from critwin.views import transitions_from_records
from critwin.windows import critical_window

if TYPE_CHECKING:
    from critwin.audits.section import Section
    from critwin.features.labelling import ErrorMatrix
    from critwin.records import Records

__all__ = ["FairnessAudit", "fairness_audit", "rows_of_condition"]

_FRESH = ("generated", "trajectory")


@dataclass(frozen=True, eq=False, kw_only=True)
class FairnessAudit:
    """What a fairness audit found.

    Attributes:
        attribute: The attribute.
        condition: Condition of the images; None: none.
        fidelity: Feature and label that say that an image is of the condition; None: none does.
        law: The law of the attribute against the reference.
        metrics: Numbers by group.
        window: OU times between which the attribute is decided, from ``kept`` .9 to .1; a missing
            end is None.
        groups: Windows of the groups; None with a reason.
        drift: Flows between groups; None with a reason.
        interventions: Effects of arms; None with a reason.
        reasons: Part -> why it is missing.
        confidence: Of all limits.
        rerun: Command that does it again.
    """

    attribute: str
    condition: str | None
    fidelity: tuple[str, str] | None
    law: AttributeLaw
    metrics: GroupMetrics
    window: tuple[Estimate, Estimate] | None
    groups: Groups | None
    drift: Drift | None
    interventions: Interventions | None
    reasons: Mapping[str, str]
    confidence: float
    rerun: str = ""

    @property
    def p_values(self) -> dict[str, float]:
        """P-values of shares, of the order in which groups are lost and of flows, by Holm.

        Each family of tests keeps its size by itself; adjusted, all together do.
        """
        known = {} if self.law.p_value is None else {"law": self.law.p_value}
        gaps = () if self.groups is None else self.groups.gaps
        if lost := [gap.p_holm for gap in gaps if gap.p_holm is not None]:
            known["groups"] = min(lost)
        if self.drift is not None and self.drift.p_value is not None:
            known["drift"] = self.drift.p_value
        if not known:
            return {}
        return dict(zip(known, holm(list(known.values())).tolist(), strict=True))

    @property
    def is_flagged(self) -> bool:
        """Whether anything is shown, at the size of one test for all of them together."""
        return any(p <= 1.0 - self.confidence + 1e-12 for p in self.p_values.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is missing is null, with its reason under ``reasons``."""
        from critwin.audits.section import plain_of

        parts = {
            name: None if part is None else part.as_dict()
            for name, part in (
                ("law", self.law),
                ("groups", self.groups),
                ("drift", self.drift),
                ("interventions", self.interventions),
            )
        }
        out: dict[str, Any] = plain_of(
            {
                "attribute": self.attribute,
                "condition": self.condition,
                "fidelity": self.fidelity,
                "window": None if self.window is None else [plain(e) for e in self.window],
                "metrics": {
                    "overall": dict(self.metrics.overall),
                    "by_group": {k: dict(v) for k, v in self.metrics.by_group.items()},
                    "counts": dict(self.metrics.counts),
                    "difference": self.metrics.difference(),
                    "ratio": self.metrics.ratio(),
                },
                **parts,
                "p_values": self.p_values,
                "is_flagged": self.is_flagged,
                "reasons": dict(self.reasons),
                "confidence": self.confidence,
                "rerun": self.rerun,
            }
        )
        return out

    def section(self) -> Section:
        """The section of the report."""
        from critwin.audits._fairness_words import section_of_fairness

        return section_of_fairness(self)


def fairness_audit(
    records: Records,
    *,
    attribute: str,
    condition: str | None = None,
    reference: str | Path | Mapping[str, float] | Reference = "uniform",
    data: Mapping[str, float] | None = None,
    fidelity: tuple[str, str] | None = None,
    interventions: Records | None = None,
    steps: Mapping[str, int] | None = None,
    segments: Mapping[str, tuple[tuple[float | None, float, str], ...]] | None = None,
    errors: ErrorMatrix | None = None,
    largest_loss: float = 0.05,
    epsilon: float = 0.1,
    confidence: float = 0.95,
    seed: int = 0,
    rerun: str = "",
    progress: Callable[[str, int, int], None] | None = None,
) -> FairnessAudit:
    """Audit one condition and one attribute.

    Args:
        records: Records of forward–reverse, or of an intervention, whose sources the model
            generated under the condition under which they are denoised.
        attribute: The attribute: a feature.
        condition: The condition; the one that the records have unless given.
        reference: ``"uniform"``, ``"data"``, label -> share, or a CSV file of shares.
        data: Shares in the training data, for the reference ``"data"``.
        fidelity: Feature and label that say that an image is of the condition; the one feature
            that has the condition as a label unless given.
        interventions: Records of an intervention under the condition.
        steps: Arm -> steps that it alters.
        segments: Arm -> its stretches, for the report.
        errors: Error matrix of the attribute's labeller; what the records say unless given.
        largest_loss: Loss of fidelity up to which an arm is recommended.
        epsilon: Tolerance of a group's ``t_after``.
        confidence: Of all limits; tests are of size ``1 - confidence``.
        seed: Seed of resamples.
        rerun: Command that does it again.
        progress: Called with what is done, how many steps of it, and how many in all.

    Returns:
        The audit; a part that the records cannot tell is None and says why.

    Raises:
        InputError: If the condition, a feature, a label or the reference is unknown, the
            attribute has one group only, or the images are not the model's own.
    """
    if not 0.5 <= confidence < 1:
        raise InputError("confidence is out of range", got=confidence, wanted="in [0.5, 1)")
    _check_sources(records)
    own, condition = rows_of_condition(records, condition)
    labels = {name: columns.labels for name, columns in own.features.items()}
    asked = Question(attribute=attribute, reference=reference, fidelity=fidelity, errors=errors)
    check_question(asked, labels)
    target = reference_of(reference, labels[attribute], data=data)
    told = fidelity_of(labels, condition, attribute) if fidelity is None else fidelity
    tell = progress or (lambda *_: None)
    law = _law(own, attribute, condition, target, errors, confidence, seed)
    reasons: dict[str, str] = {}
    groups = drift = window = None
    try:
        if is_intervention(own):
            raise InputError("the run changes conditions on the way: it has no noise levels")
        tr = transitions_from_records(own, attribute)
        if tr.weights is None:  # the images are the model's own, and so are their shares
            tr = transitions_from_records(_with_shares(own, law), attribute)
        groups = group_windows(tr, epsilon=epsilon, confidence=confidence, seed=seed)
        tell("questions", 2, 4)
        drift = drift_of(tr, confidence=confidence, seed=seed)
        whole = critical_window(tr, test=False, confidence=confidence)
        if whole.start is not None and whole.end is not None:
            window = (whole.start.t, whole.end.t)
    except InputError as error:
        reasons["groups"] = reasons["drift"] = str(error)
    tell("questions", 3, 4)
    found = None
    changed = own if is_intervention(own) else interventions
    if changed is None:
        reasons["interventions"] = "no run of interventions was given"
    else:
        _check_sources(changed)
        if changed is not own:
            changed, _ = rows_of_condition(changed, condition or "none")
        found = intervention_effects(
            changed,
            attribute,
            target,
            fidelity=told,
            steps=steps,
            segments=segments,
            largest_loss=largest_loss,
            confidence=confidence,
        )
    tell("questions", 4, 4)
    return FairnessAudit(
        attribute=attribute,
        condition=condition,
        fidelity=told,
        law=law,
        metrics=metrics_of_records(own, attribute, told),
        window=window,
        groups=groups,
        drift=drift,
        interventions=found,
        reasons=reasons,
        confidence=confidence,
        rerun=rerun,
    )


def rows_of_condition(records: Records, condition: str | None) -> tuple[Records, str | None]:
    """Rows of one condition.

    Args:
        records: Records.
        condition: The condition, ``"none"`` for none; None: the only one there is.

    Returns:
        The rows, and the condition (None: none).

    Raises:
        InputError: If there is no such condition, or there are several and none was named.
    """
    name = condition_among(np.unique(records.condition).tolist(), condition)
    return select(records, records.condition == name), name or None


def _check_sources(records: Records) -> None:
    kind = records.attrs.get("sources")
    if kind is not None and kind not in _FRESH:
        raise InputError(
            "the images are not the model's own",
            got=f"sources of kind {kind}",
            wanted="sources that the model generates under the condition",
            next_step='run with kind = "generated" and the condition under [sources]',
        )


def _law(
    records: Records,
    attribute: str,
    condition: str | None,
    target: Reference,
    errors: ErrorMatrix | None,
    confidence: float,
    seed: int,
) -> AttributeLaw:
    columns = records.features[attribute]
    _, first = np.unique(records.source, return_index=True)
    before = columns.before[first]
    return attribute_law(
        np.bincount(before[before >= 0], minlength=len(columns.labels)),
        columns.labels,
        target,
        feature=attribute,
        condition=condition,
        num_abstained=int(np.sum(before < 0)),
        errors=errors if errors is not None else _told_errors(records, attribute),
        confidence=confidence,
        seed=seed,
    )


def _with_shares(records: Records, law: AttributeLaw) -> Records:
    """The records with the shares of the attribute in them as its prior."""
    shares = {g.label: g.share.value for g in law.groups if g.share.value}
    return replace(
        records,
        priors={**records.priors, law.feature: shares},
        attrs={
            **records.attrs,
            "is_prior_estimated": True,
            "estimated_priors": json.dumps([law.feature]),
        },
    )


def _told_errors(records: Records, attribute: str) -> ErrorMatrix | None:
    """What the attribute's labeller said of its own errors when it was read."""
    from critwin.features.labelling import ErrorMatrix

    try:
        raw = json.loads(str(records.attrs.get("labeller_errors") or "{}"))
        return ErrorMatrix.from_dict(raw[attribute]) if attribute in raw else None
    except (ValueError, TypeError):
        return None
