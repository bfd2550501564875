r"""Certified statements about a black box: how well can the model still tell two groups apart?

The label after a forward–reverse step is a (random) function of the noised sample alone, so for
every set E of labels, chosen before the data were seen,

``TV(p_t^A, p_t^B) >= P(after in E | before in A) - P(after in E | before in B)``

(data processing), where ``p_t^A`` is the noised law of the samples whose label before is in A.
With E = A the right side is what stays in A minus what leaks into A. Replacing both by one-sided
confidence limits makes it a statement about the model: "at this noise it can still tell A from B
at least this well", whatever its architecture, and whether or not the reversal is exact.

Source: Li, Karan & Chen (2025), *Blink of an eye*, sec. 3; Clopper & Pearson (1934).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from critwin._readings import set_curve
from critwin.errors import InputError
from critwin.estimates import plain
from critwin.reshaping import with_abstentions
from critwin.transitions import label_set_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from critwin._curves import SampledCurve
    from critwin.transitions import Transitions

__all__ = ["TVLowerBounds", "tv_lower_bounds"]


@dataclass(frozen=True, eq=False, kw_only=True)
class TVLowerBounds:
    """Lower bounds on the total variation between two noised groups, level by level.

    Attributes:
        feature: Name of the feature.
        group_a: Labels of the first group.
        group_b: Labels of the second group.
        logsnr: Levels, shape ``(L,)``.
        t: Their OU times, shape ``(L,)``.
        low: Certified lower bounds in [0, 1], shape ``(L,)``.
        value: What the bounds would be without sampling error, shape ``(L,)``.
        confidence: Of each bound, or of all at once; None for exact transitions.
        is_simultaneous: Whether all bounds hold at once with that confidence.
        notes: What a reader must know besides.
    """

    feature: str
    group_a: tuple[str, ...]
    group_b: tuple[str, ...]
    logsnr: NDArray[np.float64]
    t: NDArray[np.float64]
    low: NDArray[np.float64]
    value: NDArray[np.float64]
    confidence: float | None
    is_simultaneous: bool
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        result: dict[str, Any] = plain(self)
        return result


def tv_lower_bounds(
    tr: Transitions,
    group_a: str | Sequence[str],
    group_b: str | Sequence[str],
    *,
    confidence: float = 0.95,
    simultaneous: bool = False,
) -> TVLowerBounds:
    """Certified lower bounds on ``TV(p_t^A, p_t^B)`` from label rows.

    Counts: E is ``group_a``, fixed beforehand. Each of the two proportions gets a one-sided
    Clopper–Pearson limit at half the error (a quarter of a two-sided one), at a level of its own
    or, if ``simultaneous``, shared among the levels (Bonferroni). The limit is the exact binomial
    one where every source has one result; with replicates, or sources of unequal weight, it is
    taken at the effective sample size. Abstentions count as results outside E for both groups,
    which keeps the label a function of the noised sample.

    Exact transitions: the total variation of the two label rows.

    Args:
        tr: Transitions.
        group_a: Labels A; several need the prior.
        group_b: Labels B, none of them in A.
        confidence: Of the bounds.
        simultaneous: Whether all levels shall hold at once with that confidence.

    Returns:
        The bounds.

    Raises:
        InputError: If a label is unknown or in both groups, the prior is needed and unknown, a
            group has no source at some level, or the transitions are estimated by other means.

    Source:
        The module; Korn & Graubard (1998) for the effective sample size.
    """
    if not 0.0 < confidence < 1.0:
        raise InputError("confidence is out of range", got=confidence, wanted="a number in (0, 1)")
    rows = {name: tr.indices(group, of="before") for name, group in _named(group_a, group_b)}
    if both := sorted(set(rows["A"]) & set(rows["B"])):
        raise InputError("a label is in both groups", got=", ".join(tr.before[i] for i in both))
    shared: dict[str, Any] = {
        "feature": tr.feature,
        "group_a": tuple(tr.before[i] for i in rows["A"]),
        "group_b": tuple(tr.before[i] for i in rows["B"]),
        "logsnr": tr.logsnr,
        "t": tr.t,
    }
    if tr.kind == "exact":
        gap = label_set_row(tr, rows["A"]) - label_set_row(tr, rows["B"])
        value = 0.5 * np.abs(gap).sum(axis=1)
        return TVLowerBounds(
            low=value, value=value, confidence=None, is_simultaneous=True, **shared
        )
    if tr.counts is None:
        raise InputError(
            "a certificate needs counts or exact transitions", got=f"{tr.kind} transitions"
        )
    table = with_abstentions(tr, "lost")
    inside = [int(table.before_in_after[i]) for i in rows["A"]]
    # two proportions share the error, and so do the levels where they shall all hold
    error = (1.0 - confidence) / 2.0 / (len(tr.logsnr) if simultaneous else 1)
    stay, leak = (set_curve(table, rows[name], inside) for name in ("A", "B"))
    low, high = _limits(stay, error)[0], _limits(leak, error)[1]
    notes = []
    if tr.invalid is not None and tr.invalid[:, [*rows["A"], *rows["B"]]].any():
        notes.append("invalid results are left out: the bounds speak of the valid ones")
    if tr.num_sources == 1:
        notes.append("a single source: the bounds speak of its replicates alone")
    return TVLowerBounds(
        low=np.clip(low - high, 0.0, 1.0),
        value=np.clip(stay.value - leak.value, 0.0, 1.0),
        confidence=confidence,
        is_simultaneous=simultaneous,
        notes=tuple(notes),
        **shared,
    )


def _named(
    group_a: str | Sequence[str], group_b: str | Sequence[str]
) -> tuple[tuple[str, str | Sequence[str]], ...]:
    return ("A", group_a), ("B", group_b)


def _limits(curve: SampledCurve, error: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One-sided limits of the curve at its levels, each wrong with probability ``error``."""
    assert curve.share is not None
    assert curve.num_replicates is not None
    low, high = curve.limits(np.eye(len(curve.logsnr)), 1.0 - 2.0 * error)
    for level in range(len(curve.logsnr)):
        share = curve.share[:, level]
        used = share > 0
        is_binomial = np.all(curve.num_replicates[used, level] == 1) and np.ptp(share[used]) < 1e-9
        if is_binomial:
            num = int(used.sum())
            hits = round(float(curve.value[level]) * num)
            low[level] = stats.beta.ppf(error, hits, num - hits + 1) if hits else 0.0
            high[level] = stats.beta.isf(error, hits + 1, num - hits) if hits < num else 1.0
    return low, high
