"""What follows from scores and labels: curves, attacks, baselines, tests. No network is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.audits._collapse import PredictedCollapse, predicted_collapse
from critwin.audits.blind import blind_attacks, pixel_statistics
from critwin.audits.likelihood import calibrated, likelihood_ratio
from critwin.audits.membership import (
    Attack,
    SetTest,
    cross_fitted,
    curve,
    halves_of,
    set_test,
    strongest,
    windows_of,
)
from critwin.audits.memorised import Memorised
from critwin.audits.roc import Area, area_difference
from critwin.errors import InputError
from critwin.estimates import Estimate
from critwin.levels import ou_time

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from critwin.audits._scores import Scores
    from critwin.audits.section import Section

    Array = NDArray[np.float64]

__all__ = ["PrivacyAudit", "ScoreCurve", "collapse_of", "conclude"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreCurve:
    """Power of one score at every level.

    Attributes:
        kind: Name of the score.
        logsnr: Levels, shape ``(L,)``.
        areas: Areas, with limits that hold for all levels together.
        windows: First and last OU time of every run of levels at which membership shows.
    """

    kind: str
    logsnr: Array
    areas: tuple[Area, ...]
    windows: tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class PrivacyAudit:
    """Result of a privacy audit.

    Attributes:
        num_members: Members.
        num_nonmembers: Non-members.
        confidence: Of all intervals.
        curves: Power of every score at every level.
        attacks: Every attack, its level chosen on one half and reported on the other; strongest
            area first.
        headline: The attack that is best on one half, reported on the other.
        blind: Baselines that do not see the model.
        advantage: Area of the headline minus that of the strongest blind baseline.
        test: Are the members, together, in the training set?
        groups: Group of members -> the headline against all non-members.
        collapse: Where a perfect memory of the data returns images; group ``""`` is all.
        nearest: Smallest normalised distance between a member and a non-member.
        memorised: Images that return to a training image, if they were looked for.
        evaluations: Network evaluations that this audit made.
        reasons: What is missing -> why.
        images: Memorised images beside their neighbours: a caption and PNG files in base64.
    """

    num_members: int
    num_nonmembers: int
    confidence: float
    curves: tuple[ScoreCurve, ...]
    attacks: tuple[Attack, ...]
    headline: Attack
    blind: tuple[Attack, ...]
    advantage: Estimate | None
    test: SetTest
    groups: Mapping[str, Attack]
    collapse: Mapping[str, PredictedCollapse]
    nearest: float | None
    memorised: Memorised | None
    evaluations: float
    reasons: Mapping[str, str]
    images: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def is_biased(self) -> bool:
        """Whether the two sets differ without any model."""
        return any(a.area.low is not None and a.area.low > 0.5 for a in self.blind)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is missing is null with a reason."""
        from critwin.audits._privacy_words import as_dict

        return as_dict(self)

    def section(self, *, rerun: str = "") -> Section:
        """The section of a report.

        Args:
            rerun: Command that does the audit again.

        Returns:
            The section.
        """
        from critwin.audits._privacy_words import section

        return section(self, rerun=rerun)


def conclude(
    scores: Sequence[Scores],
    is_member: NDArray[np.bool_],
    *,
    pixels: ArrayLike | None = None,
    groups: Sequence[str] | None = None,
    collapse: Mapping[str, PredictedCollapse] | None = None,
    nearest: float | None = None,
    memorised: Memorised | None = None,
    evaluations: float = 0.0,
    seed: int = 0,
    confidence: float = 0.95,
    reasons: Mapping[str, str] | None = None,
) -> PrivacyAudit:
    """Everything that follows from scores; runs no network.

    Args:
        scores: Scores of the N images, one of each kind.
        is_member: Shape ``(N,)``.
        pixels: The images, for baselines without the model, shape ``(N, ...)``.
        groups: Group of every image; those of non-members do not count.
        collapse: Group -> where a perfect memory returns its images.
        nearest: Smallest normalised distance between a member and a non-member.
        memorised: Images that return to a training image.
        evaluations: Network evaluations made.
        seed: Seed of the halves and of the tests.
        confidence: Of the intervals.
        reasons: What is missing -> why.

    Returns:
        The audit.

    Raises:
        InputError: If there are no scores, or too few members or non-members.
    """
    if not scores:
        raise InputError("no scores to audit", wanted="at least one attack")
    halves = halves_of(is_member, seed=seed)
    why = dict(reasons or {})
    blind: list[Attack] = []
    statistics = None
    if pixels is None:
        why["blind"] = "the images are not known"
    else:
        blind = blind_attacks(pixels, is_member, halves, confidence=confidence)
        statistics = pixel_statistics(pixels)
    attacks = _attacks(scores, is_member, halves, statistics, confidence)
    headline = strongest(attacks, is_member, halves, confidence=confidence)
    curves = []
    for score in scores:
        areas = curve(score, is_member, confidence=confidence)
        curves.append(
            ScoreCurve(
                kind=score.kind,
                logsnr=score.logsnr,
                areas=tuple(areas),
                windows=tuple(
                    (float(ou_time(score.logsnr[a])), float(ou_time(score.logsnr[b])))
                    for a, b in windows_of(areas)
                ),
            )
        )
    by_group: dict[str, Attack] = {}
    names = (
        []
        if groups is None
        else sorted({g for g, m in zip(groups, is_member, strict=True) if m and g})
    )
    for name in names if len(names) > 1 else ():
        rows = ~is_member | (np.asarray(groups) == name)
        if (is_member & rows).sum() < 4:
            why[f"group {name}"] = "too few to say: fewer than 4 members"
            continue
        part = halves_of(is_member[rows], seed=seed)
        own = _attacks(
            [score.rows(np.flatnonzero(rows)) for score in scores],
            is_member[rows],
            part,
            None if statistics is None else statistics[rows],
            confidence,
        )
        by_group[name] = strongest(own, is_member[rows], part, confidence=confidence)
    best = max(blind, key=lambda attack: attack.area.value or 0.0, default=None)
    return PrivacyAudit(
        num_members=int(is_member.sum()),
        num_nonmembers=int((~is_member).sum()),
        confidence=confidence,
        curves=tuple(curves),
        attacks=tuple(sorted(attacks, key=lambda a: -(a.area.value or 0.0))),
        headline=headline,
        blind=tuple(blind),
        advantage=None if best is None else area_difference(best.area, headline.area),
        test=set_test(headline, is_member, halves, seed=seed),
        groups=by_group,
        collapse=dict(collapse or {}),
        nearest=nearest,
        memorised=memorised,
        evaluations=evaluations,
        reasons=why,
    )


def collapse_of(
    points: Array,
    weights: Array | None = None,
    *,
    source: str,
    groups: Sequence[str] | None = None,
) -> dict[str, PredictedCollapse]:
    """Predicted collapse of all images, and of each group of them.

    Args:
        points: Training images, shape ``(N, ...)``.
        weights: How often an epoch shows each.
        source: What they are.
        groups: Group of each.

    Returns:
        Group -> prediction; ``""`` is all.
    """
    if len(points) < 2:
        return {}
    out = {"": predicted_collapse(points, weights=weights, source=source)}
    for name in sorted(set(groups or ())):
        rows = np.flatnonzero(np.asarray(groups) == name)
        out[name] = predicted_collapse(points, weights=weights, rows=rows, source=source)
    return out


def _attacks(
    scores: Sequence[Scores],
    is_member: NDArray[np.bool_],
    halves: NDArray[np.int64],
    statistics: Array | None,
    confidence: float,
) -> list[Attack]:
    """Every score at its best level, calibrated, and all its levels together."""
    out = []
    for score in scores:
        own = [score]
        if statistics is not None:
            own.append(calibrated(score, is_member, halves, statistics))
        for one in own:
            out.append(cross_fitted(one, is_member, halves, confidence=confidence))
            if len(one.logsnr) > 1:
                out.append(likelihood_ratio(one, is_member, halves, confidence=confidence))
    return out
