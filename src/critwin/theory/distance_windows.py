r"""Windows by distance: when the noised laws of two sets of components meet, and part.

For sets ``S_after`` inside ``S_before`` and a tolerance eps,

``T_after  = sup{t : TV(p_t^{S_after}, p_t^{rest}) >= 1 - eps^2}``,
``T_before = inf{t : TV(p_t^{S_after}, p_t^{S_before}) <= eps
and TV(p_t^{S_before}, p_t^{rest}) >= 1 - eps^2}``.

Total variation never grows with noise, so every time is a root of a monotone curve. Where the
curve is bracketed, so is the time: it lies between the crossings of its lower and its upper bound.

Source: Li, Karan & Chen (2025), Def. 4; Li & Chen (2024), sec. 3 (T_lower, T_upper).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from critwin.errors import InputError
from critwin.estimates import Edge, Estimate, missing_edge, plain
from critwin.theory._monotone import Crossings, crossings
from critwin.theory._sides import check_inside, named_set
from critwin.theory.bounds import TheoremBound, check_epsilon, theorem_bound
from critwin.theory.distances import DistanceCurve, Precision, total_variation
from critwin.windows import CriticalWindow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["SeparationTimes", "distance_window", "separation_times"]

_SAME_LAW = "no window: the two sets have the same law"


@dataclass(frozen=True, kw_only=True)
class SeparationTimes:
    """Between which times the forward–reverse image of ``S_init`` looks like ``S_target``.

    Attributes:
        T_lower: ``inf{t : TV(p_t^{S_init}, p_t^{S_target}) <= eps}``.
        T_upper: ``sup{t : TV(p_t^{S_target}, p_t^{rest}) >= 1 - eps^2}``; null with its reason
            where it is infinite or does not exist.
        init: Components of S_init.
        target: Components of S_target.
        epsilon: Tolerance.
        theorem: Bound on ``TV(p^{S_init,t}, p^{S_target})`` for t in ``[T_lower, T_upper]``.
        is_window: Whether ``T_lower <= T_upper``, by the estimates.
        notes: What a reader must know besides.
    """

    T_lower: Edge
    T_upper: Edge
    init: tuple[str, ...]
    target: tuple[str, ...]
    epsilon: float
    theorem: TheoremBound
    is_window: bool
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; missing numbers are null beside their reason."""
        edges = {name: plain(getattr(self, name)) for name in ("T_lower", "T_upper")}
        rest = {"init": list(self.init), "target": list(self.target), "epsilon": self.epsilon}
        return {
            **edges,
            **rest,
            "theorem": self.theorem.as_dict(),
            "is_window": self.is_window,
            "notes": list(self.notes),
        }


def separation_times(
    mixture: Any,
    *,
    init: str | Sequence[str],
    target: str | Sequence[str],
    epsilon: float,
    num_samples: int = 1 << 14,
    seed: int = 0,
    precision: Precision = "estimate",
) -> SeparationTimes:
    """``T_lower`` and ``T_upper`` of a set and the larger set that it dissolves into.

    Args:
        mixture: The mixture.
        init: Components of S_init, a name or several.
        target: Components of S_target, all of S_init among them.
        epsilon: Tolerance, in (0, 1).
        num_samples: Quasi-random points where a distance is estimated.
        seed: Seed of the scrambles.
        precision: ``"bracket"`` samples nothing: times between certified limits.

    Returns:
        The times, with limits wherever the distance is bracketed.

    Raises:
        InputError: If a set is empty, unknown, or not inside the other, or epsilon is not in
            (0, 1).

    Source:
        Li & Chen (2024), sec. 3; Li, Karan & Chen (2025), Thm 2.
    """
    epsilon = check_epsilon(epsilon)
    curves = _Curves(mixture, num_samples, seed, precision)
    inner, outer = curves.nested(init, "S_init", target, "S_target")
    merging = curves.merging(inner, outer, epsilon)
    parting = curves.parting(outer, epsilon)
    weight = curves.weight(outer)
    return SeparationTimes(
        T_lower=merging.edge,
        T_upper=parting.edge,
        init=inner,
        target=outer,
        epsilon=epsilon,
        theorem=theorem_bound(epsilon, (1.0 - weight) / weight if parting.is_real else 0.0),
        is_window=_is_before(merging, parting),
        notes=curves.notes(),
    )


def distance_window(
    mixture: Any,
    *,
    after: str | Sequence[str],
    before: str | Sequence[str] | None = None,
    epsilon: float = 0.1,
    num_samples: int = 1 << 14,
    seed: int = 0,
    precision: Precision = "estimate",
) -> CriticalWindow:
    """The critical window of ``S_after`` in ``S_before`` by the distances of their noised laws.

    Args:
        mixture: The mixture.
        after: Components of S_after, a name or several.
        before: Components of S_before, all of S_after among them; ``"all"`` or None is every one.
        epsilon: Tolerance, in (0, 1).
        num_samples: Quasi-random points where a distance is estimated.
        seed: Seed of the scrambles.
        precision: ``"bracket"`` samples nothing: times between certified limits.

    Returns:
        The window, ``criterion="distance"``; ``t_after`` and ``t_before`` carry certified limits,
        and an edge that does not exist is null with its reason.

    Raises:
        InputError: If there is one component only, a set is empty, unknown, or not inside the
            other, the sets are equal, or epsilon is not in (0, 1).

    Source:
        Li, Karan & Chen (2025), Def. 4; docs/theory/windows_by_distance.md.
    """
    epsilon = check_epsilon(epsilon)
    names = tuple(mixture.names)
    if len(names) < 2:
        raise InputError("one component: nothing to tell apart", wanted="two or more components")
    if before is None or (before == "all" and "all" not in names):
        before = names
    curves = _Curves(mixture, num_samples, seed, precision)
    inner, outer = curves.nested(after, "S_after", before, "S_before")
    if set(inner) == set(outer):
        raise InputError(
            "S_after and S_before are the same set, so nothing is decided",
            got=", ".join(inner),
            wanted="a smaller set S_after",
        )
    staying = curves.parting(inner, epsilon)
    merging = curves.merging(inner, outer, epsilon)
    parting = curves.parting(outer, epsilon)
    t_after, t_before = staying.edge, merging.edge
    if merging.is_same_law:
        t_after = t_before = missing_edge(_SAME_LAW, None)
    elif not _is_before(merging, parting):
        t_before = missing_edge(_why_not(merging, parting, epsilon), None)
    elif not _is_certainly_before(merging, parting):
        curves.note("that t_before exists is not certified")
    if _above(t_after.t, t_before.t):
        curves.note("degenerate: t_after > t_before, so little is in S_before outside S_after")
    share = 1.0 - curves.weight(inner) / curves.weight(outer)
    if t_before.t.value is not None and share <= epsilon and t_before.t.value == 0.0:
        curves.note(
            f"S_after is all but {share:.4g} <= epsilon of S_before: t_before = 0, "
            "there is nothing to decide"
        )
    return CriticalWindow(
        criterion="distance",
        feature="component",
        kind="exact" if curves.is_exact else "estimated",
        after=inner,
        before=outer,
        epsilon=epsilon,
        t_after=t_after,
        t_before=t_before,
        notes=curves.notes(),
    )


class _Time:
    """A time with its limits, as an edge, and what is known when it does not exist."""

    def __init__(
        self,
        found: Crossings | None,
        edge: Edge | None = None,
        *,
        is_same_law: bool = False,
        is_infinite: bool = False,
    ) -> None:
        self.found, self.is_same_law, self.is_infinite = found, is_same_law, is_infinite
        self._edge = edge

    @property
    def edge(self) -> Edge:
        if self._edge is not None:
            return self._edge
        assert self.found is not None
        return self.found.edge()

    @property
    def is_real(self) -> bool:
        """Whether there was a curve to cross."""
        return not self.is_infinite


class _Curves:
    """All curves of one mixture: how they were obtained, and whether all are exact."""

    def __init__(self, mixture: Any, num_samples: int, seed: int, precision: Precision) -> None:
        if precision not in get_args(Precision):
            raise InputError("unknown precision", got=precision, wanted="estimate or bracket")
        self.mixture = mixture
        self.names = tuple(mixture.names)
        self.num_samples, self.seed = num_samples, seed
        self.precision: Precision = precision
        self.is_exact = True
        self._notes: list[str] = []

    def note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)

    def notes(self) -> tuple[str, ...]:
        return tuple(self._notes)

    def weight(self, names: Sequence[str]) -> float:
        weights = np.asarray(self.mixture.weights, dtype=np.float64)
        return float(sum(weights[self.names.index(name)] for name in names))

    def nested(
        self, inner: str | Sequence[str], inner_is: str, outer: str | Sequence[str], outer_is: str
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Both sets as names in the mixture's order, checked to be nested."""
        small = sorted(named_set(self.names, inner, inner_is))
        large = sorted(named_set(self.names, outer, outer_is))
        check_inside(self.names, small, large, inner_is, outer_is)
        return tuple(self.names[k] for k in small), tuple(self.names[k] for k in large)

    def merging(self, inner: tuple[str, ...], outer: tuple[str, ...], epsilon: float) -> _Time:
        """``inf{t : TV(p_t^inner, p_t^outer) <= eps}``, 0 if they are never told apart."""
        found, curve = self._crossings(inner, outer, epsilon)
        return _Time(found, is_same_law=bool(curve.is_exact and curve.upper[0] == 0.0))

    def parting(self, names: tuple[str, ...], epsilon: float) -> _Time:
        """``sup{t : TV(p_t^names, p_t^rest) >= 1 - eps^2}``."""
        rest = tuple(name for name in self.names if name not in names)
        if not rest:
            reason = "infinite: the set holds every component, so nothing is outside"
            return _Time(None, missing_edge(reason, None), is_infinite=True)
        level = 1.0 - epsilon**2
        if epsilon < 1e-6:
            self.note("1 - epsilon^2 is within the rounding of 1: t_after and T_upper are rough")
        found, curve = self._crossings(names, rest, level)
        if not found.last > 0.0:
            most = curve.upper[0]
            reason = (
                f"no level separates {', '.join(names)} from the rest at epsilon = {epsilon:g}: "
                f"the distance is at most {most:.6g}, wanted {level:.6g}"
            )
            edge = missing_edge(reason, None)
            if found.high > 0.0:
                reason = reason.replace("the distance is at most", "not certain: it may reach")
                high = float(found.high)
                edge = Edge(
                    t=replace(missing_edge(reason, None).t, high=high, high_reason=None),
                    logsnr=missing_edge(reason, None).logsnr,
                )
            return _Time(found, edge)
        return _Time(found)

    def _crossings(
        self, a: tuple[str, ...], b: tuple[str, ...], level: float
    ) -> tuple[Crossings, DistanceCurve]:
        def curve_at(logsnr: Array, precision: Precision) -> DistanceCurve:
            return total_variation(
                self.mixture,
                a,
                b,
                logsnr,
                num_samples=self.num_samples,
                seed=self.seed,
                precision=precision,
            )

        found, start = crossings(
            lambda x: curve_at(x, "bracket"),
            (lambda x: curve_at(x, "estimate").estimate) if self.precision == "estimate" else None,
            level,
        )
        if not start.is_exact:
            self.is_exact = False
            self.note(f"limits: between {start.lower_how} (below) and {start.upper_how} (above)")
            if self.precision == "bracket" and not np.isnan(start.estimate).any():
                self.note("values: middle of the limits' curves")
        return found, start


def _is_before(merging: _Time, parting: _Time) -> bool:
    """Whether the sets have merged while the larger one still stands apart."""
    if parting.is_infinite:
        return True
    assert merging.found is not None
    assert parting.found is not None
    # a set that is separated at no level has time 0 there, and no edge
    return parting.found.last > 0.0 and merging.found.first <= parting.found.last


def _is_certainly_before(merging: _Time, parting: _Time) -> bool:
    if parting.is_infinite:
        return True
    assert merging.found is not None
    assert parting.found is not None
    return merging.found.high <= parting.found.low and parting.found.low > 0.0


def _why_not(merging: _Time, parting: _Time, epsilon: float) -> str:
    assert merging.found is not None
    assert parting.found is not None
    if not parting.found.last > 0.0:
        return f"it does not exist: {parting.edge.t.reason}"
    return (
        f"it does not exist: S_before leaves the rest at t = {parting.found.last:.6g}, before "
        f"S_after merges with it at t = {merging.found.first:.6g} (epsilon = {epsilon:g})"
    )


def _above(first: Estimate, second: Estimate) -> bool:
    return first.value is not None and second.value is not None and first.value > second.value
