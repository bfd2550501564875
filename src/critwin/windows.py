r"""Critical windows from Transitions: when a feature is decided, and how sure that is.

Two criteria, never mixed:

* ``"kept"``, the headline of a feature: where ``kept`` falls from .9 (*start* of the loss as
  noise grows) through .5 (*midpoint*) to .1 (*end*); the *width* is end minus start.
* ``"operational"``, of a pair of label sets A ⊂ B (``after`` ⊂ ``before``) at a tolerance eps:
  ``t_after = sup{t : C[A, A] >= 1 - eps on [0, t]}`` and
  ``t_before = inf{t <= t_leak : TV(C[A, .], C[B, .]) <= eps on [t, t_leak]}`` with
  ``t_leak = inf{t : leak_B > eps}``.

The type also carries windows by distance (``criterion="distance"``), computed by the theory.

Source: Li, Karan & Chen (2025), *Blink of an eye*, Def. 4; Li & Chen (2024), sec. 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from critwin import _clustering, _curves, _readings
from critwin.errors import InputError
from critwin.estimates import (
    BELOW,
    Edge,
    Estimate,
    difference,
    edge_of,
    missing_edge,
    plain,
    with_far_reason,
)
from critwin.levels import ou_time
from critwin.quantities import nested
from critwin.significance import WindowTest, window_test

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from critwin.transitions import Transitions

__all__ = [
    "Criterion",
    "CriticalWindow",
    "Curve",
    "Edge",
    "Estimate",
    "WindowTest",
    "critical_window",
    "curve_with_intervals",
    "window_test",
]

Criterion = Literal["kept", "operational", "distance"]


@dataclass(frozen=True, kw_only=True)
class CriticalWindow:
    """When a feature, or a pair of label sets, is decided.

    Attributes:
        criterion: ``"kept"``, ``"operational"`` or ``"distance"``: times of different criteria
            are different points of the same curve and must not be equated.
        feature: Name of the feature.
        kind: ``"exact"``, ``"estimated"`` or ``"counted"``, as the transitions.
        reversal: The reversal whose window it is; each reversal has its own truth.
        after: The label set ``S_after`` (None for the headline).
        before: The label set ``S_before`` that contains it.
        epsilon: Tolerance of the operational and the distance criterion.
        midpoint: Where ``kept`` is .5.
        width: From ``start`` to ``end``.
        start: Where ``kept`` is .9.
        end: Where ``kept`` is .1.
        t_after: Up to here (less noise) the label set A is kept.
        t_before: From here (more noise) A is no longer told from B.
        t_leak: Beyond here B itself leaks.
        num_sources: Number of sources of a counted window.
        confidence: Of the intervals.
        test: Is there a window at all? None for exact curves.
        notes: What a reader must know besides.
    """

    criterion: Criterion
    feature: str
    kind: str
    reversal: str = "unknown"
    after: tuple[str, ...] | None = None
    before: tuple[str, ...] | None = None
    epsilon: float | None = None
    midpoint: Edge | None = None
    width: Edge | None = None
    start: Edge | None = None
    end: Edge | None = None
    t_after: Edge | None = None
    t_before: Edge | None = None
    t_leak: Edge | None = None
    num_sources: int | None = None
    confidence: float | None = None
    test: WindowTest | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; missing numbers are null beside their reason."""
        result: dict[str, Any] = plain(self)
        return result


@dataclass(frozen=True, eq=False, kw_only=True)
class Curve:
    """A curve at its levels with pointwise intervals.

    Attributes:
        quantity: ``"kept"``, ``"mean_stay"``, ``"stay"`` or ``"blur"``.
        logsnr: Levels, shape ``(L,)``.
        t: Their OU times, shape ``(L,)``.
        value: Shape ``(L,)``.
        low: Lower limits, shape ``(L,)``; equal to the value for exact curves.
        high: Upper limits, shape ``(L,)``.
        confidence: Of the limits, None for exact curves.
    """

    quantity: str
    logsnr: NDArray[np.float64]
    t: NDArray[np.float64]
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    confidence: float | None


def critical_window(
    tr: Transitions,
    *,
    criterion: Literal["kept", "operational"] = "kept",
    after: str | Sequence[str] | None = None,
    before: str | Sequence[str] | None = None,
    epsilon: float = 0.1,
    confidence: float = 0.95,
    chance: float | None = None,
    plateau: float | Literal["lowest"] | None = None,
    test: bool = True,
) -> CriticalWindow:
    """The critical window of a feature, or of a pair of label sets.

    Intervals are clustered by source: pointwise tests that the curve has crossed the threshold,
    Clopper–Pearson at the effective sample size, inverted along the (interpolated) noise axis.
    The width combines the limits of its ends (Zou & Donner 2008) with their correlation.

    Args:
        tr: Transitions.
        criterion: ``"kept"`` (the whole feature) or ``"operational"`` (needs ``after``).
        after: The label set A of an operational window.
        before: The label set B that contains A; all labels unless given.
        epsilon: Tolerance of an operational window, in (0, 1).
        confidence: Of the intervals, in (0, 1).
        chance: Chance level of ``kept`` where the prior is unknown; read off the results at the
            noisiest level unless given, where next to no signal is left there.
        plateau: Limit of the mean stay at no noise; ``"lowest"`` takes that of the lowest level.
        test: Whether to test that there is a window at all (counted tables only).

    Returns:
        The window. Edges that the grid does not reach, or that do not exist, are null with a
        reason.

    Raises:
        InputError: If an option is out of range, a label is unknown, the prior is needed and
            unknown, there is nothing to lose, or a label has no source at all.

    Source:
        Li, Karan & Chen (2025), Def. 4 (label form); docs/theory/windows.md.
    """
    for name, number in (("confidence", confidence), ("epsilon", epsilon)):
        if not 0.0 < number < 1.0:
            raise InputError(f"{name} is out of range", got=number, wanted="a number in (0, 1)")
    table, notes = _clustering.read_from(tr)
    is_counted = tr.kind == "counted"
    shared: dict[str, Any] = {
        "feature": tr.feature,
        "kind": tr.kind,
        "reversal": tr.reversal,
        "num_sources": tr.num_sources,
        "confidence": None if tr.kind == "exact" else confidence,
    }
    if len(tr.logsnr) < 2:
        raise InputError("a window needs at least two levels", got=len(tr.logsnr))
    if criterion == "kept":
        try:
            curve = _readings.kept_curve(table, chance_level=chance, plateau=plateau)
            edges = _kept_edges(curve, confidence, tr.kind, notes)
        except _readings.TooFewSourcesError as error:
            lacking = missing_edge(str(error), shared["confidence"])
            edges = dict.fromkeys(("start", "midpoint", "end", "width"), lacking)
        if tr.weights is None and chance is None and tr.is_weights_estimated:
            notes.append(
                "the prior is unknown: sources weigh equally, and chance is read off the results "
                f"at t = {float(tr.t[-1]):.4g}, where next to no signal is left"
            )
        elif tr.weights is None:
            notes.append("the prior is unknown: sources weigh equally, chance as given")
        elif tr.is_weights_estimated:
            notes.append("the prior is estimated from the generated sources")
        return CriticalWindow(
            criterion="kept",
            test=window_test(table, chance=chance) if test and is_counted else None,
            notes=tuple(notes),
            **{**edges, **shared},
        )
    if criterion != "operational":
        raise InputError("unknown criterion", got=criterion, wanted="kept or operational")
    if after is None:
        raise InputError(
            "an operational window needs the label set `after`",
            wanted="some of " + ", ".join(tr.before),
        )
    inner, outer = nested(tr, after, before)
    try:
        edges = _operational_edges(table, inner, outer, epsilon, confidence, notes)
    except _readings.TooFewSourcesError as error:
        edges = dict.fromkeys(("t_after", "t_before"), missing_edge(str(error), confidence))
    return CriticalWindow(
        criterion="operational",
        after=tuple(tr.before[i] for i in inner),
        before=tuple(tr.before[i] for i in outer),
        epsilon=epsilon,
        test=window_test(table, chance=chance) if test and is_counted else None,
        notes=tuple(notes),
        **{**edges, **shared},
    )


def curve_with_intervals(
    tr: Transitions,
    quantity: Literal["kept", "mean_stay", "stay", "blur"],
    *,
    after: str | Sequence[str] | None = None,
    before: str | Sequence[str] | None = None,
    confidence: float = 0.95,
    chance: float | None = None,
    plateau: float | Literal["lowest"] | None = None,
) -> Curve:
    """A curve with pointwise intervals: exact binomial at the effective number of sources.

    Args:
        tr: Transitions.
        quantity: ``"kept"``, ``"mean_stay"``, ``"stay"`` of ``after``, or ``"blur"`` of ``after``
            in ``before`` (cross-fitted on counts).
        after: Label set A.
        before: Label set B; all labels unless given.
        confidence: Of the limits.
        chance: As in :func:`critical_window`.
        plateau: As in :func:`critical_window`.

    Returns:
        The curve.

    Raises:
        InputError: As :func:`critical_window`.
    """
    table, _ = _clustering.read_from(tr)
    if quantity == "kept":
        curve = _readings.kept_curve(table, chance_level=chance, plateau=plateau)
    elif quantity == "mean_stay":
        weights = table.weights
        if weights is None:
            raise InputError(f"the mean stay of {tr.feature!r} needs the prior of the model")
        curve = _readings.mean_stay_curve(table, weights)
    elif quantity in ("stay", "blur"):
        if after is None:
            raise InputError(f"{quantity} needs the label set `after`")
        if quantity == "stay":
            curve = _readings.stay_curve(table, tr.indices(after, of="before"))
        else:
            curve = _readings.blur_curve(table, *nested(tr, after, before))
    else:
        raise InputError("unknown quantity", got=quantity, wanted="kept, mean_stay, stay or blur")
    low, high = curve.limits(np.eye(len(table.logsnr)), confidence)
    return Curve(
        quantity=quantity,
        logsnr=table.logsnr,
        t=table.t,
        value=curve.value,
        low=low,
        high=high,
        confidence=None if curve.influence is None else confidence,
    )


def _coarse(found: dict[str, _curves.Crossing]) -> list[str]:
    """What to say of crossings that the levels do not resolve, one line a bracket."""
    names: dict[tuple[float, float], list[str]] = {}
    for name, value in found.items():
        if value.bracket is not None:
            names.setdefault(value.bracket, []).append(name)
    return [
        f"levels too coarse for {', '.join(edges)}: most of the curve falls between "
        f"t = {float(ou_time(near)):.4g} and t = {float(ou_time(far)):.4g}, with no level in "
        "between; add levels there"
        for (near, far), edges in names.items()
    ]


def _kept_edges(
    curve: _curves.SampledCurve, confidence: float, kind: str, notes: list[str]
) -> dict[str, Edge]:
    found = {
        name: _curves.crossing(curve, at, confidence=confidence, is_monotone=True)
        for name, at in (("start", 0.9), ("midpoint", 0.5), ("end", 0.1))
    }
    notes += _coarse(found)
    edges = {name: edge_of(value, curve, confidence) for name, value in found.items()}
    correlation = 0.0
    start, end = found["start"].logsnr, found["end"].logsnr
    if kind == "counted" and start is not None and end is not None:
        # of estimates only the errors at each level are known: uncorrelated ends are the wider
        correlation = _correlation(
            _curves.influence_at(curve, start), _curves.influence_at(curve, end)
        )
    level = None if kind == "exact" else confidence
    edges["width"] = difference(edges["start"], edges["end"], correlation, level, sign_logsnr=-1.0)
    return edges


def _operational_edges(
    tr: Transitions,
    inner: list[int],
    outer: list[int],
    epsilon: float,
    confidence: float,
    notes: list[str],
) -> dict[str, Edge]:
    stay_inner = _readings.stay_curve(tr, inner)
    kept_found = _curves.crossing(stay_inner, 1 - epsilon, confidence=confidence, is_monotone=True)
    notes += _coarse({"t_after": kept_found})
    edges = {
        "t_after": edge_of(
            kept_found,
            stay_inner,
            confidence,
            below=f"{BELOW}, or it does not exist: stay is below 1 - epsilon from the start",
        )
    }
    blur = _readings.blur_curve(tr, inner, outer)
    leak_found: _curves.Crossing | None = None
    stop: float | None = None
    if set(outer) != set(range(len(tr.before))):
        stay_outer = _readings.stay_curve(tr, outer)
        leak_found = _curves.crossing(
            stay_outer, 1 - epsilon, confidence=confidence, is_monotone=True
        )
        edges["t_leak"] = edge_of(leak_found, stay_outer, confidence)
        if leak_found.side == "below":
            edges["t_before"] = missing_edge(
                "it does not exist on the levels tried: S_before leaks from the lowest level",
                edges["t_after"].t.confidence,
            )
            return edges
        stop = leak_found.logsnr
    found = _curves.crossing(blur, epsilon, confidence=confidence, is_monotone=False, stop=stop)
    if stop is not None and found.side == "above":
        edges["t_before"] = missing_edge(
            "it does not exist: S_before leaks while S_after is still told from it",
            edges["t_after"].t.confidence,
        )
        return edges
    notes += _coarse({"t_before": found})
    edge = edge_of(found, blur, confidence)
    if stop is not None and found.far is None and found.side == "inside":
        edge = with_far_reason(edge, "it may not exist: S_before leaks first")
    edges["t_before"] = edge
    return edges


def _correlation(first: NDArray[np.float64] | None, second: NDArray[np.float64] | None) -> float:
    """Correlation of two estimates from the influences of the same sources."""
    if first is None or second is None:
        return 0.0
    size = float(np.sqrt(np.sum(first**2) * np.sum(second**2)))
    return float(np.clip(np.sum(first * second) / size, -1.0, 1.0)) if size > 0 else 0.0
