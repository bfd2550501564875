"""What an entry of the gallery holds: times and levels by four routes, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from critwin.estimates import Edge, Estimate
    from critwin.theory.families import PublishedTime

    Array = NDArray[np.float64]

__all__ = ["EPSILON", "NOT_READ", "SEED", "Curve", "Entry", "Level", "Time", "value_of"]

EPSILON = 0.1
SEED = 0
NOT_READ = "not read off labels"


@dataclass(frozen=True, kw_only=True)
class Time:
    """One time (or mask probability) by every route that reaches it.

    Attributes:
        symbol: Its symbol, as in docs/notation.md.
        meaning: What it is.
        published: What papers print about it, and corrections.
        value: Exact, or computed with an interval; None: not known exactly.
        spread: 95 % interval of a computed value (quasi-random points); None: exact.
        low: Certified lower limit, or None.
        high: Certified upper limit, or None.
        measured: Counted, with its interval; None: not measured.
        why: Why something is missing, for the measured column.
    """

    symbol: str
    meaning: str
    published: tuple[PublishedTime, ...] = ()
    value: float | None = None
    spread: tuple[float, float] | None = None
    low: float | None = None
    high: float | None = None
    measured: Estimate | None = None
    why: str = NOT_READ

    @property
    def is_covered(self) -> bool | None:
        """Whether the measured interval holds the exact value; None where one is missing."""
        if self.value is None or self.measured is None or self.measured.value is None:
            return None
        return self.measured.covers(self.value)


@dataclass(frozen=True, kw_only=True)
class Level:
    """What is known of one level.

    Attributes:
        t: OU time, or mask probability.
        stay: Exact, or computed: the share of ``S_after`` that stays in it.
        certified: Limits of ``stay`` from the distance of the noised laws.
        measured: Counted share with its 95 % interval: value, low, high.
        image: Certified limits of ``TV(p^{S_after,t}, p^{S_before})``, or None.
        theorem: The theorem's bound of it where t is in ``[T_lower, T_upper]``, as published and
            at its sharpest; else None.
        published: A printed value of ``stay`` with its standard error, or None.
    """

    t: float
    stay: float
    certified: tuple[float, float] | None
    measured: tuple[float, float, float]
    image: tuple[float, float] | None = None
    theorem: tuple[float, float] | None = None
    published: tuple[float, float] | None = None

    @property
    def is_covered(self) -> bool:
        """Whether the measured interval holds the exact value."""
        return self.measured[1] <= self.stay <= self.measured[2]


@dataclass(frozen=True, eq=False, kw_only=True)
class Curve:
    """A curve of the figure: exact on a fine grid, counted at some levels.

    Attributes:
        name: For the legend.
        t: Fine grid, shape ``(M,)``.
        value: Exact or computed, shape ``(M,)``.
        at: Levels measured, shape ``(L,)``.
        counted: Value, low, high, each of shape ``(L,)``.
    """

    name: str
    t: Array
    value: Array
    at: Array
    counted: tuple[Array, Array, Array]


@dataclass(frozen=True, eq=False, kw_only=True)
class Entry:
    """One experiment.

    Attributes:
        name: Name of its page.
        title: Title.
        story: The experiment, and where it is from.
        times: The table of times.
        levels: The table of levels; may be empty.
        what: What ``stay`` is of, in the table of levels.
        curves: Curves of the figure.
        quantity: What the curves show.
        num_sources: Number of sources counted.
        code: Python that a reader can run; its output is put behind it.
        finding: What the numbers say, derived from them.
        extra: Further Markdown, between the tables and the code.
        drawings: Further figures, name -> SVG.
        unit: ``"t"`` or ``"mask"``.
        t_max: Right end of the figure.
    """

    name: str
    title: str
    story: str
    times: tuple[Time, ...]
    levels: tuple[Level, ...] = ()
    what: str = ""
    curves: tuple[Curve, ...]
    quantity: str = "kept"
    num_sources: int
    code: str
    finding: str
    extra: str = ""
    drawings: Mapping[str, str] = field(default_factory=dict)
    unit: str = "t"
    t_max: float

    @property
    def checks(self) -> list[bool]:
        """Of every exact number that was also measured, whether the interval holds it."""
        times = [time.is_covered for time in self.times]
        return [c for c in times if c is not None] + [level.is_covered for level in self.levels]


def value_of(edge: Edge | None) -> float | None:
    """The OU time of an edge that may not exist."""
    return None if edge is None else edge.t.value
