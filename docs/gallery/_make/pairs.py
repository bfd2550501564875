"""Times and levels of ``S_after`` inside ``S_before`` for any mixture, by every route."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.exact_windows import exact_window
from critwin.levels import grid
from critwin.quantities import kept, stay
from critwin.theory.bounds import certificate, leak_from_separation
from critwin.theory.distance_windows import separation_times
from critwin.theory.distances import total_variation
from critwin.theory.exact import exact_transitions
from critwin.transitions import Transitions
from critwin.windows import CriticalWindow, critical_window, curve_with_intervals

from .measuring import counted
from .parts import EPSILON, NOT_READ, Curve, Level, Time, value_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.theory.families import PublishedTime

    Array = NDArray[np.float64]

__all__ = ["Study", "kept_curve", "measured_times", "spread_of", "windows"]

_MEANING = {
    "T_after": "the laws of S_after and of the rest are apart up to here",
    "t_after": "S_after is kept with probability 1 − ε up to here",
    "midpoint": "half of the component is kept (all components)",
    "t_before": "labels no longer tell S_after from S_before from here on",
    "T_before": "the laws of S_after and S_before are alike from here on",
    "T_lower": "the laws of S_after and S_before are alike from here on",
    "T_upper": "the laws of S_before and of the rest are apart up to here",
    "t_kept": "the image of S_after is within ε of S_after up to here",
}
_SCAN = 110
_SOBOL = 1 << 13


def windows(
    table_at: Callable[[Array], Transitions], scan: Transitions, **options: Any
) -> CriticalWindow:
    """A window by root finding where the table is exact, else read off a fine grid.

    Args:
        table_at: Transitions at any levels.
        scan: Transitions at many levels; read where they are not exact.
        **options: Criterion, label sets and epsilon.

    Returns:
        The window.
    """
    if scan.kind == "exact":
        return exact_window(table_at, num_scan=120, **options)
    return critical_window(scan, **options)


def spread_of(edge: Any) -> tuple[float, float] | None:
    """Interval of a computed edge; None if it is exact, or missing."""
    t = None if edge is None else edge.t
    if t is None or t.confidence is None or t.low is None or t.high is None:
        return None
    return t.low, t.high


def kept_curve(name: str, scan: Transitions, table: Transitions) -> Curve:
    """The kept share, computed finely and counted.

    Args:
        name: For the legend.
        scan: Transitions at many levels.
        table: Counted ones.

    Returns:
        The curve.
    """
    found = curve_with_intervals(table, "kept")
    return Curve(
        name=name,
        t=scan.t,
        value=kept(scan),
        at=found.t,
        counted=(found.value, found.low, found.high),
    )


class Study:
    """One mixture, one pair of sets: everything computed, then counted.

    Args:
        name: Name of the random stream of the sources.
        law: The mixture.
        after: Components of S_after.
        before: Components of S_before.
        t: OU times to count at.
        num_sources: Number of sources.
        table_at: Transitions at any levels; exact ones of Gaussian mixtures unless given.
    """

    def __init__(
        self,
        name: str,
        law: Any,
        *,
        after: Sequence[str],
        before: Sequence[str],
        t: Array,
        num_sources: int,
        table_at: Callable[[Array], Transitions] | None = None,
    ) -> None:
        self.law, self.after, self.before = law, tuple(after), tuple(before)
        self.table_at = table_at or partial(exact_transitions, law, num_samples=_SOBOL)
        self.t_max = float(t[-1])
        self.clean = self.table_at(np.array([np.inf]))
        self.is_exact = self.clean.kind == "exact"
        plateau = float(np.asarray(self.clean.weights) @ np.diagonal(self.clean.probs[0]))
        self.counts = counted(law, t, num_sources=num_sources, plateau=plateau, name=name)
        self.is_whole = len(self.before) == len(law.names)
        self.sets: dict[str, Any] = {"after": self.after, "before": self.before}
        self.scan = self.table_at(grid(0.02, 1.1 * self.t_max, _SCAN, unit="t"))
        own = partial(windows, self.table_at, self.scan)
        self.kept = own(criterion="kept")
        self.operational = own(criterion="operational", epsilon=EPSILON, **self.sets)
        self.kept_counted = critical_window(self.counts, test=False)
        self.operational_counted = critical_window(
            self.counts, criterion="operational", epsilon=EPSILON, test=False, **self.sets
        )
        self.weight = sum(float(law.weights[law.names.index(n)]) for n in self.after)
        self.own_times = self._separation(self.after, self.after, EPSILON)
        self.pair_times = self._separation(self.after, self.before, EPSILON)

    def times(
        self,
        published: Sequence[PublishedTime] = (),
        exact: Mapping[str, float | None] | None = None,
        *,
        more: Sequence[str] = (),
    ) -> tuple[Time, ...]:
        """The table of times, in increasing order.

        Args:
            published: Published times, attached by symbol.
            exact: Exact times in closed form, symbol -> time; by root finding unless given.
            more: Symbols besides ``T_after, t_after, midpoint, t_before, T_before``:
                ``T_lower``, ``T_upper``, ``t_kept``.

        Returns:
            The times that exist.
        """
        leaves = self._leak_limits()
        last = self.pair_times.T_lower.t
        has_order = self._has_order()
        window = {
            "t_after": (self.operational.t_after, leaves, self.operational_counted.t_after),
            "midpoint": (self.kept.midpoint, (None, None), self.kept_counted.midpoint),
            "t_before": (
                self.operational.t_before,
                (leaves[0] if has_order else None, last.high if self._is_window else None),
                self.operational_counted.t_before,
            ),
        }
        rows = []
        for symbol, (edge, (low, high), measured) in window.items():
            rows.append(
                Time(
                    symbol=symbol,
                    meaning=_MEANING[symbol],
                    published=tuple(p for p in published if p.symbol == symbol),
                    value=value_of(edge),
                    spread=spread_of(edge),
                    low=low,
                    high=high,
                    measured=None if measured is None else measured.t,
                )
            )
        distances = {"T_after": self.own_times.T_upper.t, "T_before": last}
        if "T_lower" in more:
            distances.pop("T_before")
        distances |= {name: getattr(self.pair_times, name).t for name in more if name != "t_kept"}
        for symbol, found in distances.items():
            if symbol == "T_before" and not self._is_window:
                continue
            if found.value is None and not any(p.symbol == symbol for p in published):
                continue  # no level separates, or none has to
            is_sharp = found.low is not None and found.high is not None
            is_sharp = is_sharp and found.high - found.low < 1e-9
            closed = (exact or {}).get(symbol)
            rows.append(
                Time(
                    symbol=symbol,
                    meaning=_MEANING[symbol],
                    published=tuple(p for p in published if p.symbol == symbol),
                    value=closed if closed is not None else found.value if is_sharp else None,
                    low=found.low,
                    high=found.high,
                    why=NOT_READ if found.value is not None else str(found.reason),
                )
            )
        if "t_kept" in more:
            rows.append(self._kept_time(published))
        return tuple(sorted(rows, key=lambda row: row.value or row.low or row.high or math.inf))

    def levels(self, times: Sequence[float | None]) -> tuple[Level, ...]:
        """Certificate, exact and counted stay at the measured levels nearest to some times.

        Args:
            times: OU times; those that do not exist are left out.

        Returns:
            The levels, increasing.
        """
        t = self.counts.t
        near = sorted({int(np.abs(t - x).argmin()) for x in times if x is not None})
        logsnr = self.counts.logsnr[near]
        table = self.table_at(logsnr)
        exact = stay(table, self.after)
        rest = [name for name in self.law.names if name not in self.after]
        apart = total_variation(self.law, self.after, rest, logsnr, precision="bracket")
        most = 1.0 - leak_from_separation(apart.upper, self.weight)[0]
        least = 1.0 - leak_from_separation(apart.lower, self.weight)[1]
        image = certificate(
            self.law, init=self.after, target=self.before, logsnr=logsnr,
            transitions_at=self.table_at,
        )  # fmt: skip
        found = curve_with_intervals(self.counts, "stay", after=self.after)
        start, stop = self.pair_times.T_lower.t, self.pair_times.T_upper.t
        theorem = self.pair_times.theorem
        return tuple(
            Level(
                t=float(t[j]),
                stay=float(exact[k]),
                certified=(float(least[k]), float(most[k])),
                measured=(float(found.value[j]), float(found.low[j]), float(found.high[j])),
                image=(float(image.lower[k]), float(image.upper[k])),
                theorem=(theorem.bounds["published"], theorem.value)
                if start.high is not None
                and start.high <= t[j]
                and (self.is_whole or (stop.low is not None and t[j] <= stop.low))
                else None,
            )
            for k, j in enumerate(near)
        )

    def curve(self, name: str = "kept") -> Curve:
        """The kept share of the component."""
        return kept_curve(name, self.scan, self.counts)

    @property
    def _is_window(self) -> bool:
        """Whether ``T_before`` exists for certain."""
        start, stop = self.pair_times.T_lower.t, self.pair_times.T_upper.t
        if start.high is None:
            return False
        return self.is_whole or (stop.low is not None and start.high <= stop.low)

    def _has_order(self) -> bool:
        """Whether t_after <= t_before is guaranteed: ``w(S_before - S_after)/w > 2 eps``."""
        law = self.law
        whole = sum(float(law.weights[law.names.index(n)]) for n in self.before)
        return 1.0 - self.weight / whole > 2 * EPSILON

    def _separation(self, init: Sequence[str], target: Sequence[str], epsilon: float) -> Any:
        return separation_times(
            self.law, init=init, target=target, epsilon=epsilon, precision="bracket"
        )

    def _leak_limits(self) -> tuple[float | None, float | None]:
        """Certified limits of t_after: a distance bounds the leak on both sides."""
        odds = (1.0 - self.weight) / self.weight
        limits: list[float | None] = []
        for side, level in (
            ("low", EPSILON / max(1.0, odds)),
            ("high", EPSILON / (1 - self.weight)),
        ):
            if level >= 1.0:
                limits.append(None)
                continue
            found = self._separation(self.after, self.after, math.sqrt(level)).T_upper.t
            limits.append(getattr(found, side))
        return limits[0], limits[1]

    def _kept_time(self, published: Sequence[PublishedTime]) -> Time:
        """The leak bounds the distance of the image from above, its labels from below."""
        plateau = float(stay(self.clean, self.after)[0])
        late = exact_window(
            self.table_at, criterion="operational", num_scan=120,
            epsilon=EPSILON + 1.0 - plateau, **self.sets,
        )  # fmt: skip
        return Time(
            symbol="t_kept",
            meaning=_MEANING["t_kept"],
            published=tuple(p for p in published if p.symbol == "t_kept"),
            low=value_of(self.operational.t_after),
            high=value_of(late.t_after),
        )


def measured_times(t_max: float, num: int = 28, *, start: float = 0.1) -> Array:
    """OU times at which sources are noised."""
    return np.round(np.linspace(start, t_max, num), 3)
