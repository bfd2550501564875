"""A privacy audit in words, figures and tables; every claim is a function of its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.audits.section import Figure, Section, Series, Table
from critwin.estimates import Estimate, plain
from critwin.levels import ou_time

if TYPE_CHECKING:
    from critwin.audits.findings import PrivacyAudit, ScoreCurve
    from critwin.audits.membership import Attack

__all__ = ["as_dict", "section"]

_MOST_CURVES = 4
_MOST_CANDIDATES = 50
LIMITS = (
    "A small area under the curve is no proof of privacy: it says that these attacks, on these "
    "images, at these noise levels, did not tell members from non-members. A stronger attack may.",
    "An area is an average over images. A few images can be memorised while the area stays near "
    "1/2; the true-positive rate at few false positives and the list of memorised images look "
    "for those.",
    "The result holds for members and non-members like the ones given. If the two sets differ in "
    "anything but membership, the attack sees that too; the baselines without the model find only "
    "some such differences.",
    "Membership is not reconstruction: that an image was used for training does not mean that it "
    "can be drawn from the model.",
)


def as_dict(audit: PrivacyAudit) -> dict[str, Any]:
    """Plain values of an audit for JSON."""
    out: dict[str, Any] = {
        "num_members": audit.num_members,
        "num_nonmembers": audit.num_nonmembers,
        "confidence": audit.confidence,
        "is_biased": audit.is_biased,
        "headline": _attack(audit.headline),
        "attacks": [_attack(attack) for attack in audit.attacks],
        "blind": [_attack(attack) for attack in audit.blind],
        "advantage": plain(audit.advantage),
        "set_test": plain(audit.test),
        "groups": {name: _attack(attack) for name, attack in audit.groups.items()},
        "collapse": {name: plain(one) for name, one in audit.collapse.items()},
        "curves": [
            {
                "kind": one.kind,
                "logsnr": plain(one.logsnr),
                "t": plain(ou_time(one.logsnr)),
                "area": [a.value for a in one.areas],
                "low": [a.low for a in one.areas],
                "high": [a.high for a in one.areas],
                "windows": plain(one.windows),
            }
            for one in audit.curves
        ],
        "nearest": audit.nearest,
        "evaluations": plain(float(audit.evaluations)),
        "reasons": dict(audit.reasons),
    }
    if (found := audit.memorised) is not None:
        out["memorised"] = {
            "fdr": found.fdr,
            "tail": found.tail,
            "num_null": found.num_null,
            "num_candidates": len(found.candidates),
            "num_found": found.num_found,
            "reason": found.reason,
            "candidates": plain(list(found.candidates[: max(_MOST_CANDIDATES, found.num_found)])),
        }
    return out


def section(audit: PrivacyAudit, *, rerun: str = "") -> Section:
    """The section of a report."""
    tables = [_attack_table(audit), _curve_table(audit)]
    if audit.groups:
        tables.append(_group_table(audit))
    if audit.memorised is not None:
        tables.append(_memorised_table(audit))
    return Section(
        name="privacy",
        title="Privacy: can training images be told?",
        question="Does the model treat the pictures it was trained on differently from others of "
        "the same kind, and does it give any of them back?",
        answer=_answer(audit),
        details=tuple(_details(audit)),
        figures=(_figure(audit), *_thumbnails(audit)),
        tables=tuple(tables),
        limits=LIMITS,
        rerun=rerun,
    )


def _answer(audit: PrivacyAudit) -> str:
    head = audit.headline.area
    shown = _interval(head.as_estimate())
    if audit.is_biased:
        worst = max(audit.blind, key=lambda a: a.area.value or 0.0)
        return (
            "No statement about the model can be made from these sets: they can be told apart "
            f"without it ({worst.kind}, area {_interval(worst.area.as_estimate())})."
        )
    if head.low is not None and head.low > 0.5:
        return (
            "Membership shows: the strongest attack scores a training picture above another one "
            f"in {shown} of pairs (1/2 is guessing)."
        )
    if head.high is not None and head.high < 0.5:
        return (
            "The attacks point the wrong way: the strongest scores a training picture above "
            f"another one in {shown} of pairs, below 1/2; the two sets differ in something else "
            "than membership."
        )
    return (
        "No attack tried told training pictures from others: the strongest scores a training "
        f"picture above another one in {shown} of pairs, and 1/2 is guessing."
    )


def _details(audit: PrivacyAudit) -> list[str]:
    head = audit.headline
    out = [
        f"{audit.num_members} members and {audit.num_nonmembers} non-members. The attack "
        f"({head.kind}, at {_where(head)}) was chosen on one half of the pictures and is reported "
        "on the other half, both ways.",
        "Every area below is such a share of pairs: 1/2 is guessing, 1 is certainty. In brackets: "
        f"{audit.confidence:.0%} limits, of both baselines without the model together.",
    ]
    for point in head.points:
        rate = f"{100 * point.fpr:g} %"
        out.append(
            f"With {rate} of other pictures accused wrongly, "
            f"{_interval(point.tpr)} of the training pictures are recognised."
            if point.tpr.value is not None
            else f"How many training pictures are recognised with {rate} of others accused "
            f"wrongly is {point.tpr.reason}."
        )
    test = audit.test
    verdict = "are" if test.p_value <= 1.0 - audit.confidence else "cannot be shown to be"
    out.append(
        f"Taken together, the members {verdict} treated differently from the non-members "
        f"(p = {test.p_value:.2g}, one-sided)."
    )
    for attack in audit.blind:
        out.append(
            f"Without the model ({attack.kind.removeprefix('blind: ')}) the area is "
            f"{_interval(attack.area.as_estimate())}."
        )
    if audit.advantage is not None and audit.advantage.value is not None:
        out.append(f"The model adds {_interval(audit.advantage)} to the best baseline without it.")
    out += _window_lines(audit)
    for name, attack in audit.groups.items():
        out.append(
            f"Group {name} ({attack.area.num_members} members): area "
            f"{_interval(attack.area.as_estimate())} ({attack.kind}, at {_where(attack)})."
        )
    if (found := audit.memorised) is not None:
        out.append(
            f"{found.num_found} of {len(found.candidates)} candidates return to one training "
            f"picture more closely than {found.num_null} non-members can explain (share of false "
            f"discoveries at most {found.fdr:g}"
            + (
                ", if the tail beyond the non-members falls off exponentially or as estimated)."
                if found.tail == "exponential"
                else ")."
            )
            + (f" {found.reason}." if found.reason else "")
        )
    out.append(f"This audit made {audit.evaluations:.0f} network evaluations of its own.")
    return out


def _window_lines(audit: PrivacyAudit) -> list[str]:
    out = []
    shown = [one for one in audit.curves if one.windows]
    if not shown:
        out.append(
            "At no noise level does membership show once all levels are allowed for "
            f"({audit.confidence:.0%} for all levels of a score together)."
        )
    for one in shown:
        runs = " and ".join(
            f"t = {a:.2f}" if a == b else f"t = {a:.2f} to {b:.2f}" for a, b in one.windows
        )
        out.append(f"By {one.kind}, membership shows at {runs}.")
    whole = audit.collapse.get("")
    if whole is not None and whole.t_half is not None:
        edges = (whole.t_kept, whole.t_lost)
        out.append(
            f"A perfect memory of {whole.source} ({whole.num_points} pictures) would return half "
            f"of them at t = {whole.t_half:.2f}"
            + (
                f", nine tenths up to {edges[0]:.2f} and one tenth at {edges[1]:.2f}."
                if None not in edges
                else "."
            )
        )
    return out


def _figure(audit: PrivacyAudit) -> Figure:
    def height(one: ScoreCurve) -> float:
        return max((a.value or 0.0 for a in one.areas), default=0.0)

    best = sorted(audit.curves, key=height, reverse=True)[:_MOST_CURVES]
    whole = audit.collapse.get("")
    spans: tuple[tuple[str, float, float], ...] = ()
    if whole is not None and whole.t_kept is not None and whole.t_lost is not None:
        spans = (("predicted collapse", whole.t_kept, whole.t_lost),)
    return Figure(
        kind="curves",
        title="How well members are told from non-members, over noise",
        x="noise level t",
        y="area under the ROC curve",
        series=tuple(
            Series(
                name=one.kind,
                x=tuple(float(t) for t in ou_time(one.logsnr)),
                y=tuple(a.value for a in one.areas),
                low=tuple(a.low for a in one.areas),
                high=tuple(a.high for a in one.areas),
            )
            for one in best
        ),
        spans=spans,
        note="1/2 is guessing. Limits hold for all levels of a curve together. These curves use "
        "all pictures; the reported area uses pictures that the choice of a level has not seen.",
    )


def _thumbnails(audit: PrivacyAudit) -> tuple[Figure, ...]:
    if not audit.images:
        return ()
    found = audit.memorised is not None and audit.memorised.num_found > 0
    return (
        Figure(
            kind="thumbnails",
            title="Images that return to one training image"
            if found
            else "Images that return farthest; none is found to be memorised",
            images=audit.images,
            note="Left: the image. Right: the training image that it returns to or, if that is "
            "the image itself, the training image most like it.",
        ),
    )


def _attack_table(audit: PrivacyAudit) -> Table:
    rows = []
    for attack in (audit.headline, *audit.attacks, *audit.blind):
        estimate = attack.area.as_estimate()
        rows.append(
            (
                "headline: " + attack.kind if attack is audit.headline else attack.kind,
                "" if attack in audit.blind else _times(attack),
                estimate.value,
                estimate.low,
                estimate.high,
                *(
                    number
                    for point in attack.points
                    for number in (point.tpr.value, point.tpr.low, point.tpr.high)
                ),
                _number(attack.evaluations),
            )
        )
    rates = [f"{100 * point.fpr:g} %" for point in audit.headline.points]
    columns = ["attack", "t", "area", "low", "high"]
    for rate in rates:
        columns += [f"TPR at {rate} FPR", f"low at {rate}", f"high at {rate}"]
    columns.append("evaluations per image")
    rates_end = len(columns) - 1
    filled = [
        k
        for k in range(len(columns))
        if not 5 <= k < rates_end or any(row[k] is not None for row in rows)
    ]
    return Table(  # rates that are too few to say have no columns
        name="privacy-attacks",
        columns=tuple(columns[k] for k in filled),
        rows=tuple(tuple(row[k] for k in filled) for row in rows),
    )


def _curve_table(audit: PrivacyAudit) -> Table:
    return Table(
        name="privacy-levels",
        columns=("score", "t", "logsnr", "area", "low", "high"),
        rows=tuple(
            (one.kind, float(t), float(level), a.value, a.low, a.high)
            for one in audit.curves
            for t, level, a in zip(ou_time(one.logsnr), one.logsnr, one.areas, strict=True)
        ),
    )


def _group_table(audit: PrivacyAudit) -> Table:
    rows = []
    for name, attack in audit.groups.items():
        estimate = attack.area.as_estimate()
        predicted = audit.collapse.get(name)
        rows.append(
            (
                name,
                attack.area.num_members,
                attack.kind,
                _times(attack),
                estimate.value,
                estimate.low,
                estimate.high,
                attack.points[0].tpr.value,
                None if predicted is None else predicted.t_half,
            )
        )
    columns = ("group", "members", "attack", "t", "area", "low", "high", "TPR at 1 % FPR")
    return Table(
        name="privacy-groups", columns=(*columns, "predicted collapse t"), rows=tuple(rows)
    )


def _memorised_table(audit: PrivacyAudit) -> Table:
    assert audit.memorised is not None
    count = max(_MOST_CANDIDATES, audit.memorised.num_found)
    return Table(
        name="privacy-memorised",
        columns=(
            "image",
            "nearest training image",
            "distance",
            "closeness",
            "returns up to t",
            "p",
            "q",
            "found",
        ),
        rows=tuple(
            (
                one.name,
                one.home,
                one.source_distance,
                one.statistic,
                one.t_return,
                one.p_value,
                one.q_value,
                "yes" if one.is_found else "no",
            )
            for one in audit.memorised.candidates[:count]
        ),
    )


def _attack(attack: Attack) -> dict[str, Any]:
    return {
        "kind": attack.kind,
        "t": [_time(level) for level in attack.logsnr],
        "area": plain(attack.area.as_estimate()),
        "num_members": attack.area.num_members,
        "num_nonmembers": attack.area.num_nonmembers,
        "points": [
            {
                "fpr": point.fpr,
                "tpr": plain(point.tpr),
                "threshold": point.threshold,
            }
            for point in attack.points
        ],
        "evaluations": _number(attack.evaluations),
    }


def _times(attack: Attack) -> str:
    times = [_time(level) for level in attack.logsnr]
    return " / ".join(sorted({"all levels" if t is None else f"{t:.2f}" for t in times}))


def _time(logsnr: float) -> float | None:
    """OU time of a level; None stands for all levels."""
    return float(ou_time(logsnr)) if np.isfinite(logsnr) else None


def _where(attack: Attack) -> str:
    text = _times(attack)
    return text if text.startswith("all levels") else f"t = {text}"


def _interval(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"unknown ({estimate.reason})"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _number(value: Any) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None
