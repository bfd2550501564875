r"""Memorised images: those that return to one training image from noise where others do not.

For every candidate (a training image, or a generated one) the *closeness* at a level is
``ln(crowd distance / distance to the home)``, see :class:`critwin.features.neighbours.Neighbours`;
the statistic is its mean over levels in standard deviations of the null. The null law is that of
candidates whose home is a *non-member*: images that the model cannot have memorised, playing the
part of training images. Under the null the two are exchangeable, so the share of null candidates
with a larger statistic is a p-value, ``(1 + #)/(1 + n)``, and Benjamini–Hochberg controls the
false discoveries.

That p-value is never below 1/(1 + n): with few non-members and many candidates nothing can be
found. ``tail="exponential"`` continues the null law beyond its largest tenth as an exponential, or
as a generalised Pareto law where it may be heavier (the estimate and one standard error more).
This is an assumption, and is said.

Source: Benjamini & Hochberg (1995); Bates et al. (2023), *Testing for outliers with conformal
p-values*, sec. 2; Carlini et al. (2023), *Extracting training data from diffusion models*, sec.
4.2, for the ratio of distances; Pickands (1975) for the tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import stats

from critwin.errors import InputError
from critwin.levels import ou_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.audits._scores import Scores
    from critwin.records import Records

    Array = NDArray[np.float64]
    Mask = NDArray[np.bool_]

__all__ = [
    "Candidate",
    "Memorised",
    "Returns",
    "Tail",
    "find_memorised",
    "null_p_values",
    "returns_of_records",
    "returns_of_scores",
]

Tail = Literal["empirical", "exponential"]
_TAIL_SHARE = 0.1
_FEW_TAIL = 20
_COLUMNS = ("home", "source_distance", "distance", "rival_distance", "crowd_distance")


@dataclass(frozen=True, eq=False, kw_only=True)
class Returns:
    """Where the forward–reverse images of N candidates landed.

    Attributes:
        names: Names of the candidates, length N.
        logsnr: Levels, decreasing, shape ``(L,)``.
        home: Index of each candidate's home in the pool, shape ``(N,)``.
        source_distance: From the candidate to its home, shape ``(N,)``.
        closeness: ``ln(crowd distance / distance)``, mean over replicates, shape ``(N, L)``.
        returned: Share of replicates nearest to the home, shape ``(N, L)``.
    """

    names: tuple[str, ...]
    logsnr: Array
    home: NDArray[np.int64]
    source_distance: Array
    closeness: Array
    returned: Array


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What was found about one candidate.

    Attributes:
        name: Its name.
        home: Index of the nearest image of the pool.
        source_distance: From the candidate to it; 0 if it is that image.
        statistic: Mean closeness over levels, in standard deviations of the null.
        t_return: Largest OU time up to which it returns at every level (most replicates); None
            where it does not even at the least noise.
        p_value: Of the null that it returns no more than a non-member.
        q_value: Smallest share of false discoveries at which it is found.
        is_found: Whether it is among the discoveries.
    """

    name: str
    home: int
    source_distance: float
    statistic: float
    t_return: float | None
    p_value: float
    q_value: float
    is_found: bool


@dataclass(frozen=True, kw_only=True)
class Memorised:
    """Candidates ranked by how far they return.

    Attributes:
        candidates: Largest statistic first.
        fdr: Share of false discoveries that is controlled.
        tail: How the null law is continued.
        num_null: Candidates that make the null law.
        num_found: Discoveries.
        reason: Why nothing can be found, whatever the images.
    """

    candidates: tuple[Candidate, ...]
    fdr: float
    tail: str
    num_null: int
    num_found: int
    reason: str | None = None


def returns_of_scores(scores: Sequence[Scores], names: Sequence[str]) -> Returns:
    """Returns from forward–reverse scores that were taken with a comparison ``neighbours``.

    Args:
        scores: From :func:`critwin.audits.attacks.forward_reverse_scores`.
        names: Names of the images.

    Returns:
        The returns.

    Raises:
        InputError: If the comparison is missing.
    """
    found = {}
    for score in scores:
        _, _, name = score.kind.rpartition("forward-reverse neighbours.")
        if name in _COLUMNS:
            found[name] = -score.values  # scores are minus the number
    return _returns(found, names, scores[0].logsnr if len(scores) else np.zeros(0))


def returns_of_records(records: Records, names: Sequence[str]) -> Returns:
    """Returns from records whose ``values`` hold a comparison ``neighbours``.

    Args:
        records: Records of a forward–reverse experiment.
        names: Names of the sources wanted.

    Returns:
        The returns.

    Raises:
        InputError: If the comparison is missing.
    """
    levels = np.unique(records.logsnr)[::-1]
    order = {name: row for row, name in enumerate(names)}
    row = np.array([order.get(name, -1) for name in records.source.tolist()], dtype=np.int64)
    level = np.searchsorted(-levels, -records.logsnr)
    keep = (row >= 0) & records.valid
    shape = (len(names), len(levels), int(records.replicate.max()) + 1)
    found = {}
    for name in _COLUMNS:
        if (column := records.values.get(f"neighbours.{name}")) is None:
            continue
        table = np.full(shape, np.nan)
        table[row[keep], level[keep], records.replicate[keep]] = column[keep]
        found[name] = table
    return _returns(found, names, levels)


def find_memorised(
    returns: Returns,
    is_training: Mask,
    *,
    fdr: float = 0.1,
    tail: Tail = "exponential",
) -> Memorised:
    """Rank candidates, and find those that return farther than non-members can explain.

    Args:
        returns: Where they landed.
        is_training: Whether each image of the pool is a training image (the others are
            non-members), shape ``(P,)``.
        fdr: Share of false discoveries to control.
        tail: ``"exponential"`` or ``"empirical"``; see above.

    Returns:
        The candidates whose home is a training image, and which of them were found.

    Raises:
        InputError: If there are no candidates, or no null ones.
    """
    if not 0.0 < fdr < 1.0:
        raise InputError("a share of false discoveries is out of range", got=fdr, wanted="(0, 1)")
    is_target = np.asarray(is_training, dtype=np.bool_)[returns.home]
    if not is_target.any() or (~is_target).sum() < 2:
        raise InputError(
            "memorised images need candidates and a null law",
            got=f"{int(is_target.sum())} near training images, {int((~is_target).sum())} near "
            "non-members",
            wanted="some of the first and at least 2 of the second",
            next_step="add non-members to the pool and to the sources",
        )
    statistic = _statistic(returns.closeness, ~is_target)
    rows = np.flatnonzero(is_target & np.isfinite(statistic))
    null = statistic[~is_target & np.isfinite(statistic)]
    p_values = null_p_values(statistic[rows], null, tail=tail)
    q_values = stats.false_discovery_control(p_values) if len(rows) else p_values
    is_found = q_values <= fdr
    order = np.lexsort((rows, -statistic[rows]))
    least = len(rows) / (1 + len(null)) / fdr
    reason = None
    if tail == "empirical" and least > len(rows):
        reason = f"too few to say: {len(null)} non-members"
    elif tail == "empirical" and not is_found.any() and least > 1:
        reason = (
            f"with {len(null)} non-members and {len(rows)} candidates, fewer than "
            f"{int(np.ceil(least))} memorised images cannot be found"
        )
    return Memorised(
        candidates=tuple(
            Candidate(
                name=returns.names[rows[i]],
                home=int(returns.home[rows[i]]),
                source_distance=float(returns.source_distance[rows[i]]),
                statistic=float(statistic[rows[i]]),
                t_return=_t_return(returns, int(rows[i])),
                p_value=float(p_values[i]),
                q_value=float(q_values[i]),
                is_found=bool(is_found[i]),
            )
            for i in order
        ),
        fdr=fdr,
        tail=tail,
        num_null=len(null),
        num_found=int(is_found.sum()),
        reason=reason,
    )


def null_p_values(statistic: Array, null: Array, *, tail: Tail = "exponential") -> Array:
    """p-values of candidates from the statistics of null ones.

    Args:
        statistic: Shape ``(N,)``.
        null: Shape ``(n,)``.
        tail: How the null law goes on beyond what was seen.

    Returns:
        Shape ``(N,)``.
    """
    ordered = np.sort(null)
    num = len(ordered)
    above = num - np.searchsorted(ordered, statistic, side="left")
    p_values = (1.0 + above) / (1.0 + num)
    count = int(np.floor(_TAIL_SHARE * num))
    if tail == "empirical" or count < _FEW_TAIL:
        return np.asarray(p_values, dtype=np.float64)
    start = float(ordered[num - count - 1])
    excess = ordered[num - count :] - start
    scale = float(excess.mean())
    # moments of a generalised Pareto law; one standard error heavier than estimated
    ratio = scale**2 / max(float(excess.var(ddof=1)), 1e-300)
    shape = float(np.clip(0.5 * (1.0 - ratio) + 1.0 / np.sqrt(count), 0.0, 0.45))
    scale *= (1.0 - shape) * (1.0 + 1.0 / np.sqrt(count))
    beyond = statistic > start
    share = (1.0 + count) / (1.0 + num)
    reach = np.where(beyond, statistic - start, 0.0)
    surv = stats.genpareto.sf(reach, shape, scale=scale)
    return np.asarray(np.where(beyond, share * surv, p_values), dtype=np.float64)


def _statistic(closeness: Array, null: Mask) -> Array:
    centre = np.nanmean(closeness[null], axis=0)
    spread = np.maximum(np.nanstd(closeness[null], axis=0), 1e-12)
    z = (closeness - centre) / spread
    count = np.isfinite(z).sum(axis=1)
    total = np.where(np.isfinite(z), z, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _t_return(returns: Returns, row: int) -> float | None:
    back = returns.returned[row] > 0.5
    num = int(np.argmin(back)) if not back.all() else len(back)
    return float(ou_time(returns.logsnr[num - 1])) if num else None


def _returns(found: dict[str, Array], names: Sequence[str], levels: Array) -> Returns:
    if missing := [name for name in _COLUMNS if name not in found]:
        raise InputError(
            "nothing tells which images the results are nearest to",
            got="no neighbours." + missing[0],
            wanted="a comparison 'neighbours' with the training images as its pool",
            next_step="run the audit with the training images",
        )
    distance, crowd = found["distance"], found["crowd_distance"]
    # a perfect return would be infinitely close
    least = 1e-3 * np.nanmedian(crowd)
    closeness = np.log(crowd / np.maximum(distance, least))
    returned = np.where(
        np.isfinite(distance), (distance < found["rival_distance"]).astype(float), np.nan
    )
    flat = found["home"].reshape(len(names), -1)
    first = np.argmax(np.isfinite(flat), axis=1)
    rows = np.arange(len(names))
    home = np.where(np.isfinite(flat[rows, first]), flat[rows, first], 0.0).astype(np.int64)
    away = found["source_distance"].reshape(len(names), -1)[rows, first]
    return Returns(
        names=tuple(names),
        logsnr=levels,
        home=home,
        source_distance=away,
        closeness=_mean(closeness),
        returned=_mean(returned),
    )


def _mean(values: Array) -> Array:
    there = np.isfinite(values)
    count = there.sum(axis=2)
    total = np.where(there, values, 0.0).sum(axis=2)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
