"""Windows of exact curves, by root finding: the truth that every estimator is tested against.

A counted table knows its curve at a few levels; a mixture knows it at every level. The curve is
scanned, since blur need not be monotone, and each crossing is then refined to rounding error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.optimize import brentq

from critwin.errors import InputError
from critwin.estimates import Edge, Estimate, missing_edge
from critwin.levels import logsnr_of_ou_time, ou_time
from critwin.quantities import blur, kept, nested, stay
from critwin.windows import CriticalWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from critwin.transitions import Transitions

    Table = Callable[[NDArray[np.float64]], Transitions]

__all__ = ["exact_window"]

_TOLERANCE = 1e-14


def exact_window(
    transitions_at: Table,
    *,
    criterion: Literal["kept", "operational"] = "kept",
    after: str | Sequence[str] | None = None,
    before: str | Sequence[str] | None = None,
    epsilon: float = 0.1,
    t_max: float = 25.0,
    num_scan: int = 400,
) -> CriticalWindow:
    """The window of a curve that can be computed at any level.

    Args:
        transitions_at: Function from levels (decreasing logsnr, shape ``(L,)``) to exact
            Transitions, e.g. ``partial(exact_transitions, mixture)``.
        criterion: ``"kept"`` or ``"operational"``, as in :func:`critwin.windows.critical_window`.
        after: The label set A of an operational window.
        before: The label set B that contains A; all labels unless given.
        epsilon: Tolerance of an operational window.
        t_max: Largest OU time looked at.
        num_scan: Number of levels scanned, uniform in the OU time up to 6 and beyond, and
            logarithmic towards 0.

    Returns:
        The window, ``kind="exact"``; an edge that does not exist is null with its reason, one at
        no noise at all is ``t = 0``.

    Raises:
        InputError: If labels are unknown or not nested, or epsilon is out of range.
    """
    if not 0.0 < epsilon < 1.0:
        raise InputError("epsilon is out of range", got=epsilon, wanted="a number in (0, 1)")
    t = np.unique(
        np.concatenate(
            [
                np.geomspace(1e-9, 0.02, num_scan // 4),
                np.linspace(0.02, 6.0, num_scan // 2),
                np.linspace(6.0, t_max, num_scan // 4),
            ]
        )
    )
    scan = _Scan(transitions_at, logsnr_of_ou_time(t))
    if criterion == "kept":
        value = kept(scan.table)
        edges: dict[str, Any] = {
            name: scan.last(value, kept, threshold)
            for name, threshold in (("start", 0.9), ("midpoint", 0.5), ("end", 0.1))
        }
        edges["width"] = _width(edges["start"], edges["end"])
        return CriticalWindow(
            criterion="kept",
            feature=scan.table.feature,
            kind="exact",
            reversal=scan.table.reversal,
            **edges,
        )
    if after is None:
        raise InputError("an operational window needs the label set `after`")
    inner, outer = nested(scan.table, after, before)
    names = [tuple(scan.table.before[i] for i in side) for side in (inner, outer)]
    return CriticalWindow(
        criterion="operational",
        feature=scan.table.feature,
        kind="exact",
        reversal=scan.table.reversal,
        after=names[0],
        before=names[1],
        epsilon=epsilon,
        **_operational(scan, names[0], names[1], epsilon),
    )


class _Scan:
    """A curve at scanned levels, refined between two of them on demand."""

    def __init__(self, transitions_at: Table, logsnr: NDArray[np.float64]) -> None:
        self.transitions_at = transitions_at
        self.logsnr = logsnr
        self.table = transitions_at(logsnr)

    def last(
        self,
        value: NDArray[np.float64],
        read: Callable[[Transitions], NDArray[np.float64]],
        threshold: float,
        *,
        first: bool = False,
    ) -> Edge:
        """Last (or first) level at which the curve falls through the threshold."""
        above = value >= threshold
        if above.all():
            return missing_edge(f"the curve stays above {threshold:g} up to the largest t", None)
        if not above.any() or (first and not above[0]):
            return missing_edge(f"the curve is below {threshold:g} without any noise", None)
        k = int(np.argmin(above)) - 1 if first else int(np.flatnonzero(above)[-1])

        def gap(x: float) -> float:
            return float(read(self.transitions_at(np.array([x])))[0]) - threshold

        root = brentq(
            gap, self.logsnr[k + 1], self.logsnr[k], xtol=_TOLERANCE, rtol=4 * np.finfo(float).eps
        )
        return _exact_edge(float(root))


def _operational(
    scan: _Scan, inner: tuple[str, ...], outer: tuple[str, ...], epsilon: float
) -> dict[str, Any]:
    def stay_inner(tr: Transitions) -> NDArray[np.float64]:
        return stay(tr, inner)

    def stay_outer(tr: Transitions) -> NDArray[np.float64]:
        return stay(tr, outer)

    def blur_pair(tr: Transitions) -> NDArray[np.float64]:
        return blur(tr, inner, outer)

    edges = {"t_after": scan.last(stay_inner(scan.table), stay_inner, 1 - epsilon, first=True)}
    value = blur_pair(scan.table)
    if len(outer) < len(scan.table.before):
        leaves = scan.last(stay_outer(scan.table), stay_outer, 1 - epsilon, first=True)
        edges["t_leak"] = leaves
        stop = leaves.logsnr.value
        if stop is None and leaves.t.reason is not None and "without" in leaves.t.reason:
            edges["t_before"] = missing_edge("S_before leaks without any noise", None)
            return edges
        if stop is not None:
            if float(blur_pair(scan.transitions_at(np.array([stop])))[0]) > epsilon:
                edges["t_before"] = missing_edge(
                    "it does not exist: S_before leaks while S_after is still told from it", None
                )
                return edges
            value = np.where(scan.logsnr >= stop, value, -np.inf)
    if (value <= epsilon).all():
        zero = Estimate(value=0.0, low=0.0, high=0.0)
        edges["t_before"] = Edge(
            t=zero, logsnr=Estimate(value=None, reason="at no noise: nothing to decide")
        )
        return edges
    edges["t_before"] = scan.last(value, blur_pair, epsilon)
    return edges


def _exact_edge(logsnr: float) -> Edge:
    t = float(ou_time(logsnr))
    return Edge(
        t=Estimate(value=t, low=t, high=t),
        logsnr=Estimate(value=logsnr, low=logsnr, high=logsnr),
    )


def _width(start: Edge, end: Edge) -> Edge:
    if start.t.value is None or end.t.value is None:
        return missing_edge(f"an end is missing: {start.t.reason or end.t.reason}", None)
    assert start.logsnr.value is not None
    assert end.logsnr.value is not None
    t, x = end.t.value - start.t.value, start.logsnr.value - end.logsnr.value
    return Edge(t=Estimate(value=t, low=t, high=t), logsnr=Estimate(value=x, low=x, high=x))
