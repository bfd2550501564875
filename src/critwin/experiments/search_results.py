"""What a search found, in the words and types of windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from critwin.errors import InputError
from critwin.estimates import ABOVE, BELOW, Edge, Estimate, missing_edge
from critwin.experiments._posterior import crossing_times
from critwin.levels import logsnr_of_ou_time
from critwin.streams import numpy_stream
from critwin.views import transitions_from_records
from critwin.windows import CriticalWindow, Curve, critical_window

if TYPE_CHECKING:
    from critwin.experiments._deciding import Decider
    from critwin.experiments._posterior import Posterior
    from critwin.experiments._search_settings import Found
    from critwin.experiments.search_session import SearchSession
    from critwin.experiments.search_targets import Target
    from critwin.records import Records

__all__ = ["TargetResult", "curve_of_posterior", "edge_in", "results_of", "windows_of"]

_NUM_DRAWS = 2000
_NOTE = "intervals are of the posterior of a falling curve (adaptive search)"


@dataclass(frozen=True, kw_only=True)
class TargetResult:
    """What is known of a target.

    Attributes:
        name: The target, as it is written.
        edge: Where it lies, with the interval.
        half_width: Half of the interval's width in OU time; None without both limits.
        wanted: The half-width that was asked for.
        is_reached: Whether the interval is as narrow.
        reason: Why it is not.
    """

    name: str
    edge: Edge
    half_width: float | None
    wanted: float
    is_reached: bool
    reason: str | None = None


def results_of(decider: Decider) -> tuple[TargetResult, ...]:
    """Every target of a search with its interval.

    Args:
        decider: The search.

    Returns:
        One result a target, in their order.
    """
    settings = decider.settings
    out = []
    for found in decider.found:
        reason = None
        if not found.is_reached:
            reason = {"below": BELOW, "above": ABOVE}.get(
                found.side, f"not reached: {decider.reason}"
            )
        out.append(
            TargetResult(
                name=found.name,
                edge=edge_in(found, settings.confidence),
                half_width=found.half_width,
                wanted=settings.half_width,
                is_reached=found.is_reached,
                reason=reason,
            )
        )
    return tuple(out)


def edge_in(found: Found, confidence: float) -> Edge:
    """A target's time and interval as an edge in both coordinates.

    Args:
        found: What is known of it.
        confidence: Of the interval.

    Returns:
        The edge.
    """
    return _edge(found.low, found.t, found.high, confidence, found.side)


def windows_of(session: SearchSession, records: Records) -> tuple[CriticalWindow, ...]:
    """Windows of the targets' features and label sets.

    Args:
        session: The search.
        records: Its rows.

    Returns:
        One window of what is kept for every feature with such a target, and one operational window
        for every pair of label sets. ``t_before`` is that of the counts, since blur is no curve
        that only falls.
    """
    decider = session.decider
    posterior = decider.posterior
    assert posterior is not None
    confidence = decider.settings.confidence
    shared: dict[str, Any] = {
        "kind": "counted",
        "reversal": session.spec.reversal,
        "num_sources": decider.num_drawn,
        "confidence": confidence,
    }
    windows: list[CriticalWindow] = []
    seen: set[Any] = set()
    for target in session.targets:
        pair = (target.feature, target.after, target.before, target.epsilon)
        if (key := pair if target.after is not None else target.feature) in seen:
            continue
        seen.add(key)
        if target.after is None:
            own: dict[str, Any] = {**shared, **_kept_edges(decider, target)}
            windows.append(
                CriticalWindow(criterion="kept", feature=target.feature, notes=(_NOTE,), **own)
            )
            continue
        windows.append(_operational(decider, target, records, shared))
    return tuple(windows)


def curve_of_posterior(
    posterior: Posterior,
    curve: int,
    quantity: Literal["kept", "stay"],
    confidence: float,
) -> Curve:
    """A curve of a posterior with pointwise credible limits.

    Args:
        posterior: The posterior.
        curve: Index of the curve.
        quantity: What to call it; ``"stay"`` is the share of results itself.
        confidence: Of the limits.

    Returns:
        The curve at the nodes.
    """
    chain, tally = posterior.chain, posterior.tallies[curve]
    law = posterior.smoothed[:, curve].sum(axis=1)[:, ::-1]  # of rising values
    cumulative = np.cumsum(law, axis=1)
    value = chain.value[::-1]
    tail = (1.0 - confidence) / 2.0
    low, high = (
        value[np.minimum((cumulative < q).sum(axis=1), len(value) - 1)] for q in (tail, 1.0 - tail)
    )
    mean = law @ value

    def shown(x: Any) -> Any:
        return x if quantity == "kept" else tally.chance + (1.0 - tally.chance) * x

    return Curve(
        quantity=quantity,
        logsnr=np.asarray(logsnr_of_ou_time(chain.t)),
        t=chain.t,
        value=shown(mean),
        low=shown(low),
        high=shown(high),
        confidence=confidence,
    )


def _kept_edges(decider: Decider, target: Target) -> dict[str, Edge]:
    posterior, settings = decider.posterior, decider.settings
    assert posterior is not None
    confidence = settings.confidence
    index = decider.index_of(target)
    edges = {}
    for name, value in (("start", 0.9), ("midpoint", 0.5), ("end", 0.1)):
        edges[name] = edge_in(decider.locate(name, index, value), confidence)
    draws = posterior.sample(
        _NUM_DRAWS, numpy_stream(settings.seed, "search", "width"), curves=[index]
    )[0]
    start, end = (crossing_times(posterior.chain, draws, value) for value in (0.9, 0.1))
    if edges["start"].t.value is None or edges["end"].t.value is None:
        edges["width"] = missing_edge("an end is missing", confidence)
        return edges
    tail = (1.0 - confidence) / 2.0
    quantiles = [tail, 0.5, 1.0 - tail]
    lacks_high = edges["end"].t.high is None
    lacks = lacks_high or edges["start"].t.low is None
    x = [np.asarray(logsnr_of_ou_time(np.maximum(t, 1e-6))) for t in (start, end)]
    parts = []
    for spread in (end - start, x[0] - x[1]):
        low, middle, high = (float(v) for v in np.quantile(spread, quantiles))
        parts.append(
            Estimate(
                value=middle,
                low=low,
                high=None if lacks else high,
                confidence=confidence,
                high_reason="a limit of an end is missing" if lacks else None,
            )
        )
    edges["width"] = Edge(t=parts[0], logsnr=parts[1])
    return edges


def _operational(
    decider: Decider, target: Target, records: Records, shared: dict[str, Any]
) -> CriticalWindow:
    notes = [_NOTE + "; that of t_before is of the counts"]
    try:
        table = transitions_from_records(records, target.feature)
        window = critical_window(
            table,
            criterion="operational",
            after=target.after,
            before=target.before,
            epsilon=target.epsilon,
            confidence=decider.settings.confidence,
            test=False,
        )
    except InputError as error:
        reason = error.what
        window = CriticalWindow(
            criterion="operational",
            feature=target.feature,
            after=target.after,
            before=target.before,
            epsilon=target.epsilon,
            t_after=missing_edge(reason, None),
            t_before=missing_edge(reason, None),
            **shared,
        )
    for own in decider.settings.targets:
        same = (own.feature, own.after, own.epsilon) == (
            target.feature,
            target.after,
            target.epsilon,
        )
        if same and own.quantity == "t_after":
            found = decider.found[decider.settings.targets.index(own)]
            window = replace(window, t_after=edge_in(found, decider.settings.confidence))
    return replace(window, notes=(*window.notes, *notes))


def _edge(
    low: float | None, t: float | None, high: float | None, confidence: float, side: str
) -> Edge:
    def logsnr(x: float | None) -> float | None:
        return None if x is None else float(logsnr_of_ou_time(max(x, 1e-9)))

    outside = {"below": BELOW, "above": ABOVE}.get(side)
    reason = None if t is not None else outside or "it may lie outside the levels tried"
    near = None if low is not None else (outside or BELOW)
    far = None if high is not None else (outside or ABOVE)
    return Edge(
        t=Estimate(
            value=t,
            low=low,
            high=high,
            confidence=confidence,
            reason=reason,
            low_reason=near,
            high_reason=far,
        ),
        logsnr=Estimate(
            value=logsnr(t),
            low=logsnr(high),
            high=logsnr(low),
            confidence=confidence,
            reason=reason,
            low_reason=far,
            high_reason=near,
        ),
    )
