r"""Everything the theory says about one mixture and one pair of label sets, side by side.

Windows by three criteria (``kept``, operational, distance), what papers print for the family, the
bound of the theorem and the certificate, the tree of components, and regimes that others have
named. Each stands beside the others under its own name: none of them is merged with another.

Source: Li & Chen (2024); Li, Karan & Chen (2025), Def. 4 and Thm 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError
from critwin.estimates import plain
from critwin.exact_windows import exact_window
from critwin.levels import grid, logsnr_of_ou_time
from critwin.theory._twins import undecided
from critwin.theory.bounds import Certificate, LogConcaveTimes, certificate, log_concave_times
from critwin.theory.distance_windows import SeparationTimes, distance_window, separation_times
from critwin.theory.distances import wasserstein2
from critwin.theory.exact import exact_transitions
from critwin.theory.mixture_trees import mixture_tree
from critwin.theory.regimes import (
    InformationPeak,
    SpeciationTime,
    SymmetryBreaking,
    information_peaks,
    speciation_time,
    symmetry_breaking,
)
from critwin.windows import CriticalWindow, critical_window

if TYPE_CHECKING:
    from critwin.theory.families import Family, PublishedTime
    from critwin.theory.mixtures import GaussianMixture
    from critwin.transitions import Transitions
    from critwin.trees import MixtureTree

__all__ = ["Pair", "Survey", "survey"]

_MOST_NAMES = 24  # components whose own windows are listed where no pair is asked about
_SCAN = 160  # levels of a table that is estimated


@dataclass(frozen=True, eq=False, kw_only=True)
class Pair:
    """What is known of ``S_after`` inside ``S_before``.

    Attributes:
        after: Components of S_after.
        before: Components of S_before.
        operational: The window of the forward–reverse experiment.
        distance: The window of the noised laws.
        separation: ``T_lower(S_after, S_before)``, ``T_upper(S_before)``, the theorem's bound.
        certificate: Bounds on ``TV(p^{S_after,t}, p^{S_before})`` at the levels asked for, or at
            the edges of the windows; None if there is no such level.
        log_concave: The times in closed form from intra- and inter-group separation.
    """

    after: tuple[str, ...]
    before: tuple[str, ...]
    operational: CriticalWindow
    distance: CriticalWindow
    separation: SeparationTimes
    certificate: Certificate | None
    log_concave: LogConcaveTimes

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        parts = ("operational", "distance", "separation", "log_concave")
        found: dict[str, Any] = {name: getattr(self, name).as_dict() for name in parts}
        own = self.certificate
        return {**found, "certificate": None if own is None else own.as_dict()}


@dataclass(frozen=True, eq=False, kw_only=True)
class Survey:
    """Everything, for one mixture.

    Attributes:
        mixture: The mixture.
        epsilon: Tolerance of all windows of pairs.
        method: How its transitions are computed, ``"quadrature"`` or ``"sobol"``.
        kept: The window of the component as a feature; None for one component, with a reason.
        pair: The pair that was asked about, or None.
        labels: Without a pair: each component's operational window in all, by name.
        published: What papers print for the family, and corrections; empty for a file.
        closed_forms: Exact times of the family in closed form, symbol -> OU time.
        tree: The tree of components, or None.
        speciation: When classes become visible, by the covariance.
        symmetry: When the fixed point of pure noise loses stability.
        peaks: Where the label's entropy changes fastest, per ``ln sigma``; empty unless exact.
        transitions: At the levels asked for, or None.
        reasons: What is missing -> why.
        notes: What is never decided: a single component, or identical ones, a sentence each.
    """

    mixture: GaussianMixture
    epsilon: float
    method: str
    kept: CriticalWindow | None
    pair: Pair | None
    labels: Mapping[str, CriticalWindow] = field(default_factory=dict)
    published: tuple[PublishedTime, ...] = ()
    closed_forms: Mapping[str, float | None] = field(default_factory=dict)
    tree: MixtureTree | None = None
    speciation: SpeciationTime | None = None
    symmetry: SymmetryBreaking | None = None
    peaks: tuple[InformationPeak, ...] = ()
    transitions: Transitions | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; ``t_after`` and ``t_before`` are the operational ones."""
        m, pair = self.mixture, self.pair
        out: dict[str, Any] = {
            "mixture": {
                "num_components": m.num_components,
                "dim": m.dim,
                "names": list(m.names),
                "weights": m.weights.tolist(),
                "covariance": m.kind,
                "is_shared": m.is_shared,
            },
            "notes": list(self.notes),
            "method": self.method,
            "epsilon": self.epsilon,
        }
        if pair is not None:
            out |= {
                "after": list(pair.after),
                "before": list(pair.before),
                "criterion": "operational",
                "t_after": _value(pair.operational.t_after),
                "t_before": _value(pair.operational.t_before),
                "T_after": _value(pair.distance.t_after),
                "T_before": _value(pair.distance.t_before),
                "T_lower": _value(pair.separation.T_lower),
                "T_upper": _value(pair.separation.T_upper),
                **pair.as_dict(),
            }
        tr = self.transitions
        rows = [] if tr is None else list(zip(tr.t, tr.logsnr, tr.probs, strict=True))
        return {
            **out,
            "kept": None if self.kept is None else self.kept.as_dict(),
            "labels": {name: window.as_dict() for name, window in self.labels.items()},
            "published": [time.as_dict() for time in self.published],
            "closed_forms": dict(self.closed_forms),
            "tree": None if self.tree is None else self.tree.as_dict(),
            "speciation": None if self.speciation is None else self.speciation.as_dict(),
            "symmetry_breaking": None if self.symmetry is None else self.symmetry.as_dict(),
            "information_peaks": [plain(peak) for peak in self.peaks],
            "transitions": [
                {"t": float(t), "logsnr": float(x), "matrix": probs.tolist()}
                for t, x, probs in rows
            ],
            "reasons": dict(self.reasons),
        }


def survey(
    law: GaussianMixture | Family,
    *,
    after: str | Sequence[str] | None = None,
    before: str | Sequence[str] | None = None,
    epsilon: float = 0.1,
    at: Sequence[float] | None = None,
    num_samples: int = 1 << 14,
    seed: int = 0,
) -> Survey:
    """Compute everything about a mixture, or a family that is one.

    Args:
        law: The mixture, or a named family with one.
        after: Components of S_after; those of the family, else none, unless given.
        before: Components of S_before that contain them; all unless given.
        epsilon: Tolerance of the windows of pairs, in (0, 1).
        at: OU times at which transitions and the certificate are wanted.
        num_samples: Quasi-random points where a table is not a quadrature.
        seed: Seed of their scrambles.

    Returns:
        The survey; parts that do not exist are named in ``reasons``.

    Raises:
        InputError: If a set is unknown, empty or not inside the other, epsilon is out of range,
            a time is not positive, or the family is no mixture.
    """
    mixture, family = _parts(law)
    if not 0.0 < epsilon < 1.0:
        raise InputError("epsilon is out of range", got=epsilon, wanted="a number in (0, 1)")
    levels = None if at is None else _levels(at)
    if family is not None and after is None and before is None and family.after:
        after, before = family.after, family.before
    if after is None and before is not None:
        raise InputError("S_before without S_after", next_step="give `after`")
    table_at = partial(exact_transitions, mixture, num_samples=num_samples, seed=seed)
    reasons: dict[str, str] = {}
    first = table_at(np.array([0.0]))
    find = partial(_window, table_at, first.kind == "exact")

    def attempt(name: str, step: Any) -> Any:
        try:
            return step()
        except InputError as error:
            reasons[name] = str(error)
            return None

    pair = None
    if after is not None:
        pair = _pair(mixture, find, table_at, after, before, epsilon, levels, num_samples, seed)
    return Survey(
        mixture=mixture,
        epsilon=epsilon,
        method=str(first.attrs.get("method", first.kind)),
        kept=attempt("kept", lambda: find(criterion="kept")),
        pair=pair,
        labels={} if pair is not None else _labels(mixture, find, epsilon, reasons),
        published=() if family is None else family.published(epsilon),
        closed_forms={} if family is None else family.exact(epsilon),
        tree=attempt("tree", lambda: mixture_tree(mixture, epsilon)),
        speciation=attempt("speciation", lambda: speciation_time(mixture)),
        symmetry=attempt("symmetry_breaking", lambda: symmetry_breaking(mixture)),
        peaks=attempt("information_peaks", lambda: information_peaks(mixture)) or (),
        transitions=None if levels is None else table_at(levels),
        reasons=reasons,
        notes=undecided(mixture),
    )


def _parts(law: Any) -> tuple[GaussianMixture, Family | None]:
    from critwin.theory.families import Family

    if not isinstance(law, Family):
        return law, None
    if law.mixture is None:
        raise InputError(
            f"family {law.name!r} is no Gaussian mixture",
            next_step="read its exact(epsilon) and published(epsilon)",
        )
    return law.mixture, law


def _levels(at: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """OU times as decreasing logsnr, each once."""
    times = np.asarray(list(at), dtype=np.float64)
    if times.ndim != 1 or len(times) == 0 or not np.all((times >= 0) & (times < math.inf)):
        raise InputError("times cannot be used", got=list(at), wanted="finite OU times >= 0")
    return np.asarray(logsnr_of_ou_time(np.unique(times)))


def _window(table_at: Any, is_exact: bool, **options: Any) -> CriticalWindow:
    if is_exact:
        return exact_window(table_at, **options)
    return critical_window(table_at(grid(0.005, 8.0, _SCAN, unit="t")), **options)


def _pair(
    mixture: GaussianMixture,
    find: Any,
    table_at: Any,
    after: str | Sequence[str],
    before: str | Sequence[str] | None,
    epsilon: float,
    levels: Any,
    num_samples: int,
    seed: int,
) -> Pair:
    if before == "all" and "all" not in mixture.names:
        before = None
    sets: dict[str, Any] = {"after": after, "before": before, "epsilon": epsilon}
    distance = distance_window(mixture, **sets, num_samples=num_samples, seed=seed)
    assert distance.after is not None
    assert distance.before is not None
    separation = separation_times(
        mixture,
        init=distance.after,
        target=distance.before,
        epsilon=epsilon,
        num_samples=num_samples,
        seed=seed,
    )
    operational = find(criterion="operational", **sets)
    if levels is None:
        edges = (
            operational.t_after,
            operational.t_before,
            distance.t_after,
            separation.T_lower,
            separation.T_upper,
        )
        known = {v for edge in edges if (v := _value(edge)) is not None and v > 0}
        levels = _levels(sorted(known)) if known else None
    return Pair(
        after=distance.after,
        before=distance.before,
        operational=operational,
        distance=distance,
        separation=separation,
        certificate=None
        if levels is None
        else certificate(
            mixture,
            init=distance.after,
            target=distance.before,
            logsnr=levels,
            transitions_at=table_at,
        ),
        log_concave=_closed(mixture, distance.after, distance.before, epsilon),
    )


def _closed(
    m: GaussianMixture, after: Sequence[str], before: Sequence[str], epsilon: float
) -> LogConcaveTimes:
    """The headline bound: Gaussians are 1/lmax-strongly log-concave."""
    inner, outer = m.indices(after), m.indices(before)
    rest = [k for k in range(m.num_components) if k not in outer]
    clean = wasserstein2(m, np.array([np.inf]))[0]
    means = m.means.numpy()
    gaps = [float(np.linalg.norm(means[i] - means[j])) for i in outer for j in rest]
    return log_concave_times(
        float(clean[np.ix_(inner, outer)].max()),
        min(gaps, default=math.inf),
        1.0 / max(float(m.eigenvalues.max()), 1e-12),
        m.num_components,
        epsilon,
    )


def _labels(
    m: GaussianMixture, find: Any, epsilon: float, reasons: dict[str, str]
) -> dict[str, CriticalWindow]:
    if m.num_components < 2:
        return {}
    if m.num_components > _MOST_NAMES:
        reasons["labels"] = f"{m.num_components} components: ask about one of them"
        return {}
    return {name: find(criterion="operational", after=name, epsilon=epsilon) for name in m.names}


def _value(edge: Any) -> float | None:
    return None if edge is None else edge.t.value
