"""A fairness audit in words, figures and tables; every claim is a function of its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from critwin.audits._fairness_tables import (
    REFERENCES,
    arm_figure,
    arm_table,
    drift_figure,
    drift_table,
    group_table,
    law_figure,
    law_table,
    metric_table,
    percent,
    stay_figure,
    unreadable,
)
from critwin.audits.section import Section

if TYPE_CHECKING:
    from critwin.audits.fairness import FairnessAudit
    from critwin.audits.groups import GroupGap
    from critwin.audits.interventions import Interventions
    from critwin.audits.law import AttributeLaw
    from critwin.estimates import Estimate

__all__ = ["section_of_fairness"]

LIMITS = (
    "Labels are what a labeller perceives in a picture. They are not self-declared, and nobody in "
    "a generated picture has an identity; a labeller may err more for some groups than others.",
    "A reference is a choice. Neither equal shares nor those of the data are fair by themselves.",
    "That no difference is shown does not mean that there is none: read the upper limit.",
    "The result holds for this model, this condition, these settings of the sampler and pictures "
    "like these; it says nothing of how people use them.",
)

_QUESTIONS = {
    "law": "for the shares",
    "groups": "for which group is lost first",
    "drift": "for who turns into whom",
}


def section_of_fairness(audit: FairnessAudit) -> Section:
    """The section of a report."""
    law = audit.law
    figures, tables = [law_figure(law)], [law_table(law), metric_table(audit)]
    if audit.groups is not None:
        figures.append(stay_figure(audit, audit.groups))
        tables.append(group_table(audit, audit.groups))
    if audit.drift is not None:
        figures.append(drift_figure(audit))
        tables.append(drift_table(audit))
    if audit.interventions is not None:
        figures.append(arm_figure(audit.interventions))
        tables.append(arm_table(audit.interventions))
    return Section(
        name="fairness",
        title=f"Fairness: {law.feature} under {_condition(audit.condition)}",
        question=f"In which shares do the model's pictures show the groups of {law.feature}, when "
        "does it decide them, and where would a changed condition alter them?",
        answer=_answer(law),
        details=tuple(_details(audit)),
        figures=tuple(figures),
        tables=tuple(tables),
        limits=LIMITS,
        rerun=audit.rerun,
    )


def _condition(name: str | None) -> str:
    return "no condition" if name is None else f"the condition “{name}”"


def _answer(law: AttributeLaw) -> str:
    against = REFERENCES.get(law.reference, law.reference)
    under = f"Under {_condition(law.condition)}"
    if law.verdict == "too few to say" or law.tv.value is None:
        return f"{under}, too few to say: {law.num_images} pictures were read."
    distance = (
        f"{percent(law.tv.value)} of the pictures (between {percent(law.tv.low)} and "
        f"{percent(law.tv.high)}, with {percent(law.confidence)} confidence) would have to show "
        "another group"
    )
    if law.verdict == "differs":
        worst = max(law.groups, key=lambda g: abs(g.difference.value or 0.0))
        return (
            f"{under}, {law.feature} does not follow {against} (p {_p(law.p_value)}): "
            f"{worst.label} is shown in {_shares(worst.share)} of {law.num_images} pictures "
            f"where the reference says {percent(worst.reference)}; {distance}."
        )
    if law.verdict == "alike":
        return (
            f"{under}, {law.feature} follows {against} as far as {law.num_images} pictures tell "
            f"(p {_p(law.p_value)}): at most {percent(law.tv.high)} would have to show another "
            "group."
        )
    return (
        f"{under}, no difference of {law.feature} from {against} is shown (p "
        f"{_p(law.p_value)}), but {law.num_images} pictures do not exclude one of up to "
        f"{percent(law.tv.high)} of the pictures."
    )


def _details(audit: FairnessAudit) -> list[str]:
    law = audit.law
    size = 1.0 - audit.confidence
    off = [g for g in law.groups if g.p_holm is not None and g.p_holm <= size + 1e-12]
    out = []
    if off:
        shown = "; ".join(
            f"{g.label} {_shares(g.share)} instead of {percent(g.reference)}" for g in off
        )
        out.append(f"Group by group, adjusted for {len(law.groups)} comparisons: {shown}.")
    else:
        out.append("No single group is shown to differ once all of them are accounted for.")
    if absent := [g.label for g in law.groups if g.count == 0]:
        out.append(f"Not seen in {law.num_images} pictures: {', '.join(absent)}.")
    if law.num_abstained:
        out.append(f"Left out: {unreadable(law.num_abstained)}.")
    if law.labeller is None:
        fixed = "; ".join(
            f"{g.label} {_shares(g.corrected)}" for g in law.groups if g.corrected is not None
        )
        out.append(f"With the labeller's errors undone: {fixed}.")
    else:
        out.append(f"Shares are not corrected for the labeller's errors: {law.labeller}.")
    if audit.window is not None:
        start, end = audit.window
        if start.value is not None and end.value is not None:
            out.append(
                f"{law.feature} is decided between t = {end.value:.2f} (much noise) and "
                f"t = {start.value:.2f}."
            )
    if audit.groups is not None:
        out += [_gap_words(gap) for gap in audit.groups.gaps]
    if audit.drift is not None:
        out.append(_drift_words(audit))
    if len(audit.p_values) > 1:
        told = ", ".join(f"{_QUESTIONS[k]} p {_p(p)}" for k, p in audit.p_values.items())
        out.append(f"Adjusted for having asked {len(audit.p_values)} questions: {told}.")
    if audit.interventions is not None:
        out.append(_arm_words(audit.interventions))
        out += _loss_words(audit.interventions)
    out += [
        f"Not told ({', '.join(names)}): {reason}."
        for reason, names in _by_reason(audit.reasons).items()
    ]
    return out


def _by_reason(reasons: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        found.setdefault(str(reason).rstrip("."), []).append(name)
    return found


def _gap_words(gap: GroupGap) -> str:
    if gap.order == "too few to say" or gap.survival.value is None:
        return f"Whether {gap.group} is lost before {gap.other}: {gap.survival.reason}."
    sides = sorted(abs(x) for x in (gap.survival.low, gap.survival.high) if x is not None)
    by = f"{abs(gap.survival.value):.2f} ({sides[0]:.2f} to {sides[-1]:.2f})"
    p = f"p {_p(gap.p_holm)}"
    if gap.order == "not shown":
        return (
            f"{gap.group} and {gap.other} are not shown to be lost at different noise ({p}); the "
            f"difference in noise survived is {gap.survival.value:+.2f} "
            f"({_range(gap.survival)}) in t."
        )
    words = (
        f"{gap.group} is lost at {gap.order} noise than {gap.other}: its pictures survive {by} "
        f"{'less' if gap.order == 'lower' else 'more'} in t ({p}). "
    )
    beyond = gap.beyond_size
    if beyond.low is not None and beyond.high is not None and beyond.low <= 0 <= beyond.high:
        return words + "The sizes of the two groups can account for that."
    return words + (
        "More than the sizes of the two groups account for: "
        f"{beyond.value:+.2f} ({_range(beyond)})."
    )


def _drift_words(audit: FairnessAudit) -> str:
    drift = audit.drift
    assert drift is not None
    if drift.p_value is None:
        return "Who turns into whom: too few to say."
    left_out = ""
    if missing := audit.law.num_images - drift.num_sources:
        left_out = f" Left out: {unreadable(missing)} after some noise."
    if not drift.is_flagged:
        return (
            "Noised and generated again, as many pictures turn into a group as leave it, as far "
            f"as {drift.num_sources} pictures tell (p {_p(drift.p_value)}).{left_out}"
        )
    found = drift.strongest()
    assert found is not None
    flow, level = found
    names = (flow.source, flow.target) if flow.net[level] > 0 else (flow.target, flow.source)
    sides = sorted((abs(float(flow.low[level])), abs(float(flow.high[level]))))
    return (
        f"Noised and generated again, more pictures turn from {names[0]} to {names[1]} than back: "
        f"{percent(abs(float(flow.net[level])))} of all at t = {drift.t[level]:.2f} "
        f"({percent(sides[0])} to {percent(sides[1])}; p {_p(drift.p_value)}). An exact "
        f"generation would have no such flow.{left_out}"
    )


def _arm_words(found: Interventions) -> str:
    arm = found.recommended
    if arm is None:
        return f"No change of the condition is recommended: {found.reason}."
    words = (
        f"Changing the condition in {arm.arm!r} alone closes {_points(arm.closed)} of a gap of "
        f"{100 * arm.gap_before:.0f} points to {REFERENCES.get(found.reference, 'the reference')}"
    )
    if arm.fidelity_change is not None:
        words += (
            f", and changes how many pictures show the condition by {_points(arm.fidelity_change)}"
        )
    return words + (
        f"; it was chosen on one half of the pictures, and this is the other half "
        f"({arm.num_sources})."
    )


def _loss_words(found: Interventions) -> list[str]:
    """What the recommended arm loses where it did not choose itself, against what is allowed."""
    if found.loss_verdict is None:
        return []
    if found.loss is None or found.loss.value is None:
        return [
            "What that change costs is not known: no feature was named that tells whether a "
            "picture still shows the condition."
        ]
    low, high = (100 * (x or 0.0) for x in (found.loss.low, found.loss.high))
    measured = (
        f"the loss of pictures that show the condition, measured on that other half, is "
        f"{100 * found.loss.value:.1f} points [{low:.1f}, {high:.1f}]"
    )
    allowed = f"the {100 * found.largest_loss:g} points that are allowed"
    if found.loss_verdict == "exceeds":
        is_sure = found.loss.low is not None and found.loss.low > found.largest_loss
        rest = "" if is_sure else ", though its interval includes less"
        return [f"Warning: {measured}, more than {allowed}{rest}."]
    if found.loss_verdict == "may exceed":
        return [f"Note: {measured}: not more than {allowed}, but its interval includes more."]
    return [f"{measured[0].upper()}{measured[1:]}: within {allowed}."]


def _shares(value: Estimate | None) -> str:
    if value is None or value.value is None:
        return "?"
    return (
        f"{100 * value.value:.1f} % [{100 * (value.low or 0):.1f}, {100 * (value.high or 0):.1f}]"
    )


def _points(value: Estimate) -> str:
    return (
        f"{100 * (value.value or 0):+.1f} points "
        f"[{100 * (value.low or 0):+.1f}, {100 * (value.high or 0):+.1f}]"
    )


def _range(value: Estimate) -> str:
    return f"{value.low:+.2f} to {value.high:+.2f}"


def _p(value: float | None) -> str:
    if value is None:
        return "?"
    return "< 0.001" if value < 0.001 else f"= {value:.2g}"
