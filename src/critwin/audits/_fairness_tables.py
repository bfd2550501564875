"""Figures and tables of a fairness audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.audits.section import Figure, Series, Table

if TYPE_CHECKING:
    from critwin.audits.fairness import FairnessAudit
    from critwin.audits.groups import Groups
    from critwin.audits.interventions import ArmEffect, Interventions
    from critwin.audits.law import AttributeLaw
    from critwin.estimates import Estimate

__all__ = [
    "REFERENCES",
    "arm_figure",
    "arm_table",
    "drift_figure",
    "drift_table",
    "group_table",
    "law_figure",
    "law_table",
    "metric_table",
    "percent",
    "stay_figure",
    "unreadable",
]

REFERENCES = {
    "uniform": "equal shares",
    "data": "the shares in the training data",
    "table": "the shares of the table given",
}


def law_figure(law: AttributeLaw) -> Figure:
    """Shares beside the reference."""
    names = tuple(g.label for g in law.groups)
    return Figure(
        kind="bars",
        title=f"Shares of {law.feature}",
        x=law.feature,
        y="share of pictures",
        series=(
            Series(
                name="generated",
                x=names,
                y=tuple(g.share.value for g in law.groups),
                low=tuple(g.share.low for g in law.groups),
                high=tuple(g.share.high for g in law.groups),
            ),
            Series(
                name=REFERENCES.get(law.reference, law.reference),
                x=names,
                y=tuple(g.reference for g in law.groups),
            ),
        ),
        note=f"Lines: {percent(law.confidence)} limits of each share.",
    )


def stay_figure(audit: FairnessAudit, groups: Groups) -> Figure:
    """Who keeps the group, over noise."""
    spans: tuple[tuple[str, float, float], ...] = ()
    if audit.window is not None:
        start, end = (edge.value for edge in audit.window)
        if start is not None and end is not None:
            spans = ((f"{groups.feature} is decided", start, end),)
    return Figure(
        kind="curves",
        title=f"Pictures that keep their {groups.feature}, by group",
        x="noise, t",
        y="share that keep it",
        series=tuple(
            Series(
                name=f"{w.label} ({w.num_sources})",
                x=_numbers(groups.t),
                y=_numbers(w.stay),
                low=_numbers(w.low),
                high=_numbers(w.high),
            )
            for w in groups.windows
            if w.reason is None
        ),
        spans=spans,
        note="A group falls to its own share, so small groups fall further.",
    )


def drift_figure(audit: FairnessAudit) -> Figure:
    """Shares after noise and a new generation."""
    drift = audit.drift
    assert drift is not None
    return Figure(
        kind="flow",
        title=f"Shares of {drift.feature} after noise and a new generation",
        x="noise, t",
        y="share of pictures",
        series=tuple(
            Series(
                name=label,
                x=(0.0, *_numbers(drift.t)),
                y=(float(drift.before[k]), *_numbers(drift.after[:, k])),
            )
            for k, label in enumerate(drift.labels)
        ),
        note="Level bands: nobody gains. The first column is the pictures before noise.",
    )


def arm_figure(found: Interventions) -> Figure:
    """Effects of the arms."""
    names = tuple(arm.arm for arm in found.arms)
    series = [_arm_series("gap closed", names, [arm.closed for arm in found.arms])]
    if all(arm.closed_per_step is not None for arm in found.arms):
        series.append(
            _arm_series(
                "gap closed per altered step", names, [arm.closed_per_step for arm in found.arms]
            )
        )
    if all(arm.fidelity_change is not None for arm in found.arms):
        series.append(
            _arm_series("change of fidelity", names, [arm.fidelity_change for arm in found.arms])
        )
    return Figure(
        kind="bars",
        title="What a changed condition does, by where it is changed",
        x="where",
        y="share of pictures",
        series=tuple(series),
        note=(
            "Fidelity: how many pictures show the condition. All cost the same."
            if series[-1].name == "change of fidelity"
            else "All cost the same."
        ),
    )


def _arm_series(name: str, names: tuple[str, ...], values: list[Estimate | None]) -> Series:
    known = [v for v in values if v is not None]
    return Series(
        name=name,
        x=names,
        y=tuple(v.value for v in known),
        low=tuple(v.low for v in known),
        high=tuple(v.high for v in known),
    )


def law_table(law: AttributeLaw) -> Table:
    """Shares, limits and tests."""
    return _table(
        "fairness-shares",
        ("group", "pictures", "share", "low", "high", "reference", "p (Holm)",
                 "q (false discoveries)", "corrected", "corrected low", "corrected high"),
        tuple(
            (
                g.label, g.count, g.share.value, g.share.low, g.share.high, g.reference,
                g.p_holm, g.p_fdr,
                *((None,) * 3 if g.corrected is None
                  else (g.corrected.value, g.corrected.low, g.corrected.high)),
            )
            for g in law.groups
        ),
        _counted(law),
    )  # fmt: skip


def _counted(law: AttributeLaw) -> str:
    """Which pictures the numbers are of."""
    total = law.num_images + law.num_abstained
    if not law.num_abstained:
        return f"Counted: all {total} pictures."
    return (
        f"Counted: {law.num_images} of {total} pictures; left out: "
        f"{unreadable(law.num_abstained)}."
    )


def unreadable(count: int) -> str:
    """Pictures that the labeller could not read, in words."""
    return f"{count} picture{'s' if count != 1 else ''} that could not be read"


def metric_table(audit: FairnessAudit) -> Table:
    """Numbers by group."""
    rows = audit.metrics.rows()
    return Table(
        name="fairness-by-group",
        columns=tuple(rows[0]),
        rows=tuple(tuple(row.values()) for row in rows),
        note=_counted(audit.law) + _accuracy(audit),
    )


def _accuracy(audit: FairnessAudit) -> str:
    """What the column of that name is, which fairlearn has given it."""
    if audit.fidelity is None:
        return ""
    name, label = audit.fidelity
    return (
        f" Accuracy: the share of a group's pictures whose {name} is read as “{label}”, so that "
        "they show what was asked for; it does not say how often a labeller is right."
    )


def group_table(audit: FairnessAudit, groups: Groups) -> Table:
    """Windows of groups."""
    gaps = {gap.group: gap for gap in groups.gaps}

    def row(label: str) -> tuple[Any, ...]:
        gap = gaps.get(label)
        if gap is None:
            return (None,) * 5
        return (gap.order, gap.survival.value, gap.survival.low, gap.survival.high, gap.p_holm)

    return _table(
        "fairness-groups",
        ("group", "pictures", "share", "lost at noise", "survives t, less the largest",
                 "low", "high", "p (Holm)", "kept up to t", "kept low", "kept high",
                 "half lost at t", "half lost low", "half lost high", "reason"),
        tuple(
            (
                w.label, w.num_sources, w.share, *row(w.label), w.t_after.t.value,
                w.t_after.t.low, w.t_after.t.high, w.midpoint.t.value, w.midpoint.t.low,
                w.midpoint.t.high, w.reason,
            )
            for w in groups.windows
        ),
        _counted(audit.law) + _at_every_level(audit, "Which group is lost first"),
    )  # fmt: skip


def _at_every_level(audit: FairnessAudit, what: str) -> str:
    """How many pictures can be followed through all levels."""
    if audit.drift is None or not (missing := audit.law.num_images - audit.drift.num_sources):
        return ""
    return (
        f" {what} is told by the {audit.drift.num_sources} of them that were readable after every "
        f"noise; left out: {unreadable(missing)} after some noise."
    )


def drift_table(audit: FairnessAudit) -> Table:
    """Net flows."""
    drift = audit.drift
    assert drift is not None
    return Table(
        name="fairness-flows",
        columns=("t", "from", "to", "net flow", "low", "high", "p (all flows)"),
        rows=tuple(
            (float(t), f.source, f.target, *(_number(v[k]) for v in (f.net, f.low, f.high)),
             _number(f.p_value[k]))
            for f in drift.flows
            for k, t in enumerate(drift.t)
        ),
        note=_counted(audit.law) + _at_every_level(audit, "Who turns into whom"),
    )  # fmt: skip


def arm_table(found: Interventions) -> Table:
    """Effects of the arms."""

    def row(arm: ArmEffect) -> tuple[Any, ...]:
        change = arm.fidelity_change
        return (
            arm.arm,
            arm.altered_steps,
            arm.closed.value,
            arm.closed.low,
            arm.closed.high,
            None if arm.closed_per_step is None else arm.closed_per_step.value,
            arm.moved,
            arm.moved_per_step,
            arm.fidelity,
            *((None,) * 3 if change is None else (change.value, change.low, change.high)),
            arm.num_sources,
            found.left_out[arm.arm] if any(found.left_out.values()) else None,
        )

    return _table(
        "fairness-interventions",
        ("where", "altered steps", "gap closed", "low", "high", "closed per step",
                 "law moved", "moved per step", "fidelity", "fidelity change",
                 "fidelity low", "fidelity high", "pictures", "left out"),
        tuple(row(arm) for arm in found.arms),
        _arm_note(found),
    )  # fmt: skip


def _arm_note(found: Interventions) -> str:
    note = "Gap closed and fidelity are shares of pictures."
    if any(found.left_out.values()):
        note += (
            " Left out of an arm: pictures that were invalid or could not be read, before or "
            "after the change."
        )
    return note


def _table(
    name: str, columns: tuple[str, ...], rows: tuple[tuple[Any, ...], ...], note: str
) -> Table:
    """A table without the columns in which nothing is known."""
    kept = [k for k in range(len(columns)) if any(row[k] is not None for row in rows)]
    return Table(
        name=name,
        columns=tuple(columns[k] for k in kept),
        rows=tuple(tuple(row[k] for k in kept) for row in rows),
        note=note,
    )


def _numbers(values: Any) -> tuple[float | None, ...]:
    return tuple(_number(v) for v in np.asarray(values, dtype=np.float64))


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def percent(value: float | None) -> str:
    """A share in words."""
    return "?" if value is None else f"{100 * value:.3g} %"
