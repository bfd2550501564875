"""What editing advice says, in words: every number is a field of the advice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from critwin.audits.section import Figure, Section, Series, Table

if TYPE_CHECKING:
    from critwin.audits._editing_starts import Start
    from critwin.audits.editing import Advice, Wish

__all__ = ["section_of_advice", "setting_in_words"]


def section_of_advice(advice: Advice) -> Section:
    """The section of the report.

    Args:
        advice: The advice.

    Returns:
        The section.
    """
    keep, change = _listing(advice.keep), _listing(advice.change)
    spans = () if advice.interval is None else (("advised", *advice.interval),)
    t = tuple(rate.t for rate in advice.rates)
    names = {"kept": f"keep {keep}", "changed": f"change {change}", "both": "both"}
    series = tuple(
        Series(
            name=name,
            x=t,
            y=tuple(getattr(rate, key)[0] for rate in advice.rates),
            low=tuple(getattr(rate, key)[1] for rate in advice.rates),
            high=tuple(getattr(rate, key)[2] for rate in advice.rates),
        )
        for key, name in names.items()
    )
    return Section(
        name="editing",
        title=f"Editing strength: keep {keep}, change {change}",
        question=f"How much noise changes {change} and keeps {keep}?",
        answer=_answer(advice, keep, change),
        details=tuple(_details(advice, change)),
        figures=(
            Figure(
                kind="curves",
                title="What an edit keeps and changes",
                x="OU time t",
                y="share of edits",
                series=series,
                spans=spans,
                note=f"Bands: {advice.confidence:.0%} limits of each level by itself.",
            ),
        ),
        tables=tuple(_tables(advice)),
        limits=tuple(_limits(advice)),
        rerun=advice.rerun,
    )


def setting_in_words(start: Start) -> str:
    """One line: tool, scheduler, what to set, and where that starts.

    Args:
        start: The setting.

    Returns:
        The line.
    """
    values = ", ".join(f"{name} {value:g}" for name, value in start.values.items())
    where = "" if start.is_inside else ", outside the advised interval"
    model = f" for {start.model}" if start.model else ""
    guided = (
        ""
        if start.guidance is None
        else (f"; guidance in steps {start.guidance[0]} to {start.guidance[1]}")
    )
    return (
        f"{start.tool}{model}, {start.scheduler}, {start.steps} steps: {values} starts at "
        f"t = {start.t:.3f}{where}{guided}"
    )


def _answer(advice: Advice, keep: str, change: str) -> str:
    best = advice.best
    rates = (
        f"{_percent(best.both)} of edits from t = {best.t:.2f} keep {keep} and change {change} "
        f"({_percent(best.kept)} keep, {_percent(best.changed)} change)"
    )
    wanted = (
        f"keeps {keep} in at least {advice.least_kept:.0%} and changes {change} in at least "
        f"{advice.least_changed:.0%} of edits, and does both in {advice.least_both:.0%}"
    )
    if advice.interval is not None:
        low, high = advice.interval
        where = f"from t = {low:.2f} to {high:.2f}" if high > low else f"from t = {low:.2f}"
        return f"Edit {where}: {rates}."
    if advice.status == "none":
        return f"No level {wanted}; the best compromise: {rates}."
    return f"No level is known that {wanted}; the best tried: {rates}."


def _details(advice: Advice, change: str) -> list[str]:
    halves = "replicates" if advice.is_one_source else "sources"
    who = "of this one image, not of others" if advice.is_one_source else "means over the sources"
    out = [
        f"Rates are {who}. The level was chosen on one half of the {halves}; the rates in the "
        f"answer are those of the other half, with {advice.confidence:.0%} limits in brackets.",
        f"With nothing of the picture left, {change} would change in {advice.full_change:.0%} of "
        f"edits (by {advice.full_from}).",
    ]
    if advice.guidance is not None:
        low, high = advice.guidance
        out.append(
            f"Guidance towards the change matters from t = {high:.2f} down to t = {low:.2f}: "
            "above, it would also act on what is to be kept; below, the change is decided."
        )
    if advice.starts:
        out += [
            setting_in_words(start) + "." for start in advice.starts if start.tool == "diffusers"
        ]
        # a draw from the posterior is what a stochastic sampler comes close to
        own = "stochastic" if advice.reversal == "posterior" else advice.reversal
        other = sorted({s.scheduler for s in advice.starts if s.reversal not in (None, own)})
        if other and own != "unknown":
            is_one = len(other) == 1
            does = "steps otherwise and has" if is_one else "step otherwise and have"
            whose = "its" if is_one else "their"
            out.append(
                f"The rates were measured with the reversal “{advice.reversal}”; "
                f"{' and '.join(other)} {does} rates of {whose} own at the same level: measure "
                f"again with {whose} kind of reversal."
            )
    return out


def _tables(advice: Advice) -> list[Table]:
    tables = [
        Table(
            name="editing-rates",
            columns=(
                "t", "logsnr", "sources",
                "kept", "kept low", "kept high",
                "changed", "changed low", "changed high",
                "both", "both low", "both high",
            ),
            rows=tuple(
                (r.t, r.logsnr, r.num_sources, *r.kept, *r.changed, *r.both)
                for r in advice.rates
            ),
        )
    ]  # fmt: skip
    if advice.starts:
        tables.append(
            Table(
                name="editing-settings",
                columns=(
                    "tool", "setting", "model", "scheduler", "steps", "t", "kept", "changed",
                    "inside", "network calls", "logsnr",
                ),
                rows=tuple(
                    (
                        s.tool, ", ".join(f"{k} {v:g}" for k, v in s.values.items()),
                        s.model, s.scheduler, s.steps, s.t, s.kept, s.changed,
                        "yes" if s.is_inside else "no", s.num_calls, s.logsnr,
                    )
                    for s in advice.starts
                ),
            )
        )  # fmt: skip
    return tables


def _limits(advice: Advice) -> list[str]:
    out = [
        "The labels are a labeller's readings; what it does not read may change unseen.",
        "Rates hold for images like the sources, this model, and the way it was reversed "
        f"({advice.reversal}).",
        "Between the levels that were measured, rates of settings are drawn as a line.",
    ]
    if any(start.tool != "diffusers" for start in advice.starts):
        out.append("Values of ComfyUI and A1111 are our reading of their sources.")
    if advice.num_abstained:
        out.append(
            f"The labeller could not read {advice.num_abstained} results; they count as failures."
        )
    if advice.num_invalid:
        out.append(f"{advice.num_invalid} invalid results (not finite, or constant) are left out.")
    if advice.num_outside:
        out.append(
            f"{advice.num_outside} sources are left out: without a label, or not of those asked."
        )
    return out


def _listing(wishes: Sequence[Wish]) -> str:
    return " and ".join(
        f"the {w.feature}" + (f" ({', '.join(w.labels)})" if w.labels else "") for w in wishes
    )


def _percent(rate: tuple[float, float, float]) -> str:
    return f"{rate[0]:.0%} [{rate[1]:.0%}, {rate[2]:.0%}]"
