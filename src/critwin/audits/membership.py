r"""Membership attacks, honestly reported: chosen on one half of the images, reported on the other.

Whatever is learnt from labels (which level, which weights, what is usual for a non-member) is
learnt on one half and applied to the other, and then the other way round, so that every image has
a score that its own label had no part in. Areas compare images of the same half only: under the
null hypothesis, labels exchangeable, their expectation is exactly .5.

The two halves err together, though: if by chance one level is the best of both, each half reports
its own best one. With L independent levels and no membership the correlation of the two reported
areas is

    ``rho = m_L^2 / (L - 1)``,    (1)

``m_L`` the mean of the largest of L normal deviates (.36 at most, at L = 3): standard errors are
multiplied by ``sqrt(1 + rho)``. Where a direction is learnt (a ratio, a classifier) both halves
report the same scalar product: the factor is ``sqrt 2``, as it is for a choice among attacks.

Source: Carlini et al. (2022), *Membership inference attacks from first principles*, secs. III and
VI (offline attack); Dubiński et al. (2025), *CDI: copyrighted data identification in diffusion
models*, for the test of a whole set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from critwin.audits.operating import OperatingPoint, tpr_at_fpr
from critwin.audits.roc import Area, area, simultaneous
from critwin.errors import InputError
from critwin.streams import numpy_stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from critwin.audits._scores import Scores

    Array = NDArray[np.float64]
    Mask = NDArray[np.bool_]

__all__ = [
    "FEWEST",
    "Attack",
    "SetTest",
    "cross_fitted",
    "curve",
    "halves_of",
    "set_test",
    "strongest",
    "windows_of",
]

FEWEST = 4
"""Members, and non-members, below which nothing is audited."""

RATES = (0.01, 0.001)
"""False-positive rates that are reported."""

LEARNT = float(np.sqrt(2.0))
"""Factor of the standard error where each half learns a direction from the other."""

_MANY = 4000  # images from which on the mean of a permutation is normal


@dataclass(frozen=True, eq=False, kw_only=True)
class Attack:
    """One attack, cross-fitted.

    Attributes:
        kind: Name of the score.
        levels: Index of the level chosen on each half for the other, length 2; -1: all levels.
        logsnr: These levels; NaN for all levels.
        scores: Score of every image in standard deviations of non-members of the *other* half,
            shape ``(N,)``.
        area: Area under the ROC curve, pairs formed inside the halves.
        points: True-positive rates at :data:`RATES`.
        evaluations: Network evaluations of one image, mean over the two halves; NaN if unknown.
    """

    kind: str
    levels: tuple[int, int]
    logsnr: tuple[float, float]
    scores: Array
    area: Area
    points: tuple[OperatingPoint, ...]
    evaluations: float


@dataclass(frozen=True, kw_only=True)
class SetTest:
    """Are these images, together, in the training set?

    Attributes:
        p_value: Twice the smaller of the p-values of the two halves; valid whatever their
            dependence.
        halves: p-value of each half, for the score learnt on the other.
        excess: How much higher the members score on average, in standard deviations of
            non-members.
        kind: Name of the score.
    """

    p_value: float
    halves: tuple[float, float]
    excess: float
    kind: str


def halves_of(is_member: Mask, *, seed: int = 0) -> NDArray[np.int64]:
    """Deal images into two halves, each class apart.

    Args:
        is_member: Shape ``(N,)``.
        seed: Seed.

    Returns:
        0 or 1 for every image, shape ``(N,)``.

    Raises:
        InputError: If a class has fewer than four images.
    """
    half = np.zeros(len(is_member), dtype=np.int64)
    generator = numpy_stream(seed, "privacy", "halves")
    for side, name in ((True, "members"), (False, "non-members")):
        rows = np.flatnonzero(is_member == side)
        if len(rows) < FEWEST:
            raise InputError(
                f"too few {name}: the level is chosen on one half and reported on the other",
                got=len(rows),
                wanted=f"at least {FEWEST}",
            )
        half[generator.permutation(rows)[: len(rows) // 2]] = 1
    return half


def curve(scores: Scores, is_member: Mask, *, confidence: float = 0.95) -> list[Area]:
    """Areas at every level, with limits that hold for all levels together.

    Args:
        scores: Scores of one kind.
        is_member: Shape ``(N,)``.
        confidence: Of all limits together.

    Returns:
        One area a level.
    """
    values = scores.per_image()
    found = [
        area(values[:, level], is_member, confidence=confidence)
        for level in range(values.shape[1])
    ]
    return simultaneous(found)


def windows_of(areas: Sequence[Area]) -> list[tuple[int, int]]:
    """Runs of levels at which membership shows: the lower limit is above .5.

    Args:
        areas: One a level, with simultaneous limits.

    Returns:
        First and last index of every run.
    """
    shows = [a.low is not None and a.low > 0.5 for a in areas]
    runs: list[tuple[int, int]] = []
    for level, yes in enumerate(shows):
        if yes and runs and runs[-1][1] == level - 1:
            runs[-1] = (runs[-1][0], level)
        elif yes:
            runs.append((level, level))
    return runs


def cross_fitted(
    scores: Scores,
    is_member: Mask,
    halves: NDArray[np.int64],
    *,
    replicates: int | None = None,
    confidence: float = 0.95,
    inflation: float | None = None,
) -> Attack:
    """The attack at its best level, chosen on one half and reported on the other, both ways.

    Args:
        scores: Scores of one kind.
        is_member: Shape ``(N,)``.
        halves: From :func:`halves_of`.
        replicates: Use only the first so many.
        confidence: Of the intervals.
        inflation: Factor of the standard error; that of a choice among the levels unless given.

    Returns:
        The attack.
    """
    values = scores.per_image(replicates)
    out, chosen, cost = np.full(len(values), np.nan), [], []
    for half in (0, 1):
        learn = halves != half
        level = _best_level(values[learn], is_member[learn])
        column = values[:, level]
        out[halves == half] = standard(column, learn & ~is_member)[halves == half]
        chosen.append(level)
        cost.append(scores.cost(level, replicates))
    return attack_of(
        scores.kind,
        (chosen[0], chosen[1]),
        (float(scores.logsnr[chosen[0]]), float(scores.logsnr[chosen[1]])),
        out,
        is_member,
        halves,
        float(np.mean(cost)),
        confidence,
        inflation_of(len(scores.logsnr)) if inflation is None else inflation,
    )


def strongest(
    attacks: Sequence[Attack],
    is_member: Mask,
    halves: NDArray[np.int64],
    *,
    confidence: float = 0.95,
) -> Attack:
    """Of several attacks, the one that is best on one half, reported on the other, both ways.

    Args:
        attacks: Attacks, cross-fitted.
        is_member: Shape ``(N,)``.
        halves: From :func:`halves_of`.
        confidence: Of the intervals.

    Returns:
        The attack; its name says which ones were chosen.

    Raises:
        InputError: If there is none.
    """
    if not attacks:
        raise InputError("no attacks to choose from")
    table = np.stack([attack.scores for attack in attacks], axis=1)
    out, picked = np.full(len(table), np.nan), []
    for half in (0, 1):
        learn = halves != half
        best = _best_level(table[learn], is_member[learn])
        out[halves == half] = table[halves == half, best]
        picked.append(best)
    names = [attacks[best].kind for best in picked]
    return attack_of(
        names[0] if names[0] == names[1] else " / ".join(names),
        (attacks[picked[0]].levels[0], attacks[picked[1]].levels[1]),
        (attacks[picked[0]].logsnr[0], attacks[picked[1]].logsnr[1]),
        out,
        is_member,
        halves,
        float(np.mean([attacks[best].evaluations for best in picked])),
        confidence,
        LEARNT,
    )


def set_test(
    attack: Attack,
    is_member: Mask,
    halves: NDArray[np.int64],
    *,
    draws: int = 9999,
    seed: int = 0,
) -> SetTest:
    """One-sided permutation test: do the members, together, score above the non-members?

    In each half the labels are permuted with the score, learnt on the other half, held fixed.

    Args:
        attack: The attack.
        is_member: Shape ``(N,)``.
        halves: From :func:`halves_of`.
        draws: Permutations of each half.
        seed: Seed of the permutations.

    Returns:
        The test.
    """
    found, excess = [], []
    for half in (0, 1):
        rows = (halves == half) & np.isfinite(attack.scores)
        score, member = np.clip(attack.scores[rows], -20.0, 20.0), is_member[rows]
        num = int(member.sum())
        if num == 0 or num == len(member):
            found.append(1.0)
            continue
        excess.append(float(score[member].mean() - score[~member].mean()))
        if len(score) > _MANY:
            found.append(
                float(
                    stats.ttest_ind(
                        score[member], score[~member], equal_var=False, alternative="greater"
                    ).pvalue
                )
            )
            continue
        generator = numpy_stream(seed, "privacy", "set", half)
        total, count = float(score[member].sum()), 0
        for start in range(0, draws, 500):
            keys = generator.random((min(500, draws - start), len(score)))
            order = np.argpartition(keys, num - 1, axis=1)[:, :num]
            count += int(np.sum(score[order].sum(axis=1) >= total - 1e-9))
        found.append((1.0 + count) / (1.0 + draws))
    return SetTest(
        p_value=min(1.0, 2.0 * min(found)),
        halves=(found[0], found[1]),
        excess=float(np.mean(excess)) if excess else 0.0,
        kind=attack.kind,
    )


def inflation_of(num_levels: int) -> float:
    """Factor of the standard error where each half chooses a level for the other, eq. (1)."""
    if num_levels < 2:
        return 1.0
    x = np.linspace(-9.0, 9.0, 3601)
    density = num_levels * stats.norm.pdf(x) * stats.norm.cdf(x) ** (num_levels - 1)
    largest = float(np.trapezoid(x * density, x))
    return float(np.sqrt(1.0 + largest**2 / (num_levels - 1)))


def attack_of(
    kind: str,
    levels: tuple[int, int],
    logsnr: tuple[float, float],
    scores: Array,
    is_member: Mask,
    halves: NDArray[np.int64],
    evaluations: float,
    confidence: float,
    inflation: float,
) -> Attack:
    """An attack from its cross-fitted scores."""
    return Attack(
        kind=kind,
        levels=levels,
        logsnr=logsnr,
        scores=scores,
        area=area(scores, is_member, strata=halves, confidence=confidence, inflation=inflation),
        points=tuple(tpr_at_fpr(scores, is_member, rate, confidence=confidence) for rate in RATES),
        evaluations=evaluations,
    )


def _best_level(values: Array, is_member: Mask) -> int:
    found = [area(values[:, j], is_member).value for j in range(values.shape[1])]
    return int(np.argmax([-1.0 if value is None else value for value in found]))


def standard(column: Array, reference: Mask) -> Array:
    """In standard deviations of the reference images, about their mean."""
    known = column[reference & np.isfinite(column)]
    if len(known) < 2:
        return column - (known.mean() if len(known) else 0.0)
    return np.asarray((column - known.mean()) / max(float(known.std(ddof=1)), 1e-12))
