"""Is there a window at all? Permutation tests against a flat and against a featureless curve.

* *Flat*: within every source, outcomes at different levels are exchangeable (the feature is
  always kept, or always lost, as often at one level as at another). Levels are permuted within
  sources; the statistic is the largest drop between the levels before and after a split.
* *Featureless*: the label after does not depend on the label before at any level. Labels before
  are permuted among sources; the statistic is the largest mean stay over the levels.

Both are exact for any number of sources and replicates, with sources as the independent unit.

Source: Phipson & Smyth (2010), *Permutation p-values should never be zero*, eq. (2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binom

from critwin.errors import InputError
from critwin.streams import numpy_stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.transitions import Transitions

__all__ = ["WindowTest", "permutation_p", "window_test"]


@dataclass(frozen=True, kw_only=True)
class WindowTest:
    """Answer to "is there a window at all?".

    Attributes:
        is_present: Whether both null hypotheses are rejected.
        p_flat: P-value of the flat curve; None if the test cannot be made.
        p_chance: P-value of the featureless curve; None if the test cannot be made.
        size: Size of each test, e.g. .05.
        reason: What stands in the way if the window is not established.
    """

    is_present: bool
    p_flat: float | None
    p_chance: float | None
    size: float
    reason: str | None = None


def window_test(
    tr: Transitions,
    *,
    size: float = 0.05,
    chance: float | None = None,
    num_permutations: int = 499,
    seed: int = 0,
) -> WindowTest:
    """Test a counted table against a flat and against a featureless curve.

    Args:
        tr: Counted transitions.
        size: Size of each test.
        chance: Chance level, used where all sources carry one label (as they do in a table that
            only says what was kept): the share kept at the lowest level is then held against it.
        num_permutations: Number of random permutations.
        seed: Seed of the permutations.

    Returns:
        The answer with both p-values.

    Raises:
        InputError: If the table is not counted.
    """
    if tr.counts is None or tr.source_before is None:
        raise InputError("only counted transitions can be tested", got=tr.kind)
    total = tr.counts.sum(axis=2)
    complete = (total > 0).all(axis=0) if len(total) else np.zeros(0, bool)
    columns = complete if complete.sum() >= 2 else total.sum(axis=0) > 0
    share = (tr.counts / np.maximum(total, 1)[..., None])[:, columns]
    read = total[:, columns] > 0
    label_of = tr.before_in_after[tr.source_before]
    p_flat = _flat(share, read, label_of, num_permutations, seed)
    p_chance = _featureless(share, read, label_of, num_permutations, seed)
    if p_chance is None and chance is not None:
        p_chance = _above_chance(share, read, label_of, chance)
    elif p_chance is None and tr.weights is None and tr.is_weights_estimated:
        p_chance = p_flat  # chance is that of the noisiest level: no feature is a flat curve
    reasons = []
    if p_flat is None or p_flat > size:
        reasons.append("the curve may be flat: the feature is kept as often at every level tried")
    if p_chance is None:
        reasons.append(
            "all sources carry one label, so chance cannot be told from keeping unless the chance "
            "level is given"
        )
    elif p_chance > size:
        reasons.append(
            "the labels after may not depend on the labels before at any level tried"
            if len(np.unique(label_of)) > 1
            else "the share kept at the lowest level may be that of chance"
        )
    return WindowTest(
        is_present=not reasons,
        p_flat=p_flat,
        p_chance=p_chance,
        size=size,
        reason="; ".join(reasons) or None,
    )


def _flat(
    share: NDArray[np.float64],
    read: NDArray[np.bool_],
    label_of: NDArray[np.int64],
    num: int,
    seed: int,
) -> float | None:
    own = np.take_along_axis(share, label_of[:, None, None], axis=2)[..., 0]
    if own.shape[1] < 2 or len(own) < 1:
        return None
    # a source that lacks a level takes its own mean there: it then says nothing about the level
    mean = (own * read).sum(axis=1) / np.maximum(read.sum(axis=1), 1)
    filled = np.where(read, own, mean[:, None]) - mean[:, None]
    generator = numpy_stream(seed, "window-test", "flat")
    observed = _largest_drop(filled.sum(axis=0)[None])[0]
    sums = np.stack([generator.permuted(filled, axis=1).sum(axis=0) for _ in range(num)])
    return permutation_p(observed, _largest_drop(sums))


def _largest_drop(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest standardised drop over splits, for rows of level sums, shape ``(P, L)``."""
    count = sums.shape[1]
    left = np.cumsum(sums, axis=1)[:, :-1]
    m = np.arange(1, count)
    right = sums.sum(axis=1, keepdims=True) - left
    drop = (left / m - right / (count - m)) * np.sqrt(m * (count - m) / count)
    return np.asarray(drop.max(axis=1))


def _featureless(
    share: NDArray[np.float64],
    read: NDArray[np.bool_],
    label_of: NDArray[np.int64],
    num: int,
    seed: int,
) -> float | None:
    if len(np.unique(label_of)) < 2:
        return None
    number = np.maximum(read.sum(axis=0), 1)
    generator = numpy_stream(seed, "window-test", "chance")
    rows = np.arange(len(share))

    def statistic(labels: NDArray[np.int64]) -> float:
        return float(((share[rows, :, labels] * read).sum(axis=0) / number).max())

    drawn = np.array([statistic(generator.permutation(label_of)) for _ in range(num)])
    return permutation_p(statistic(label_of), drawn)


def _above_chance(
    share: NDArray[np.float64],
    read: NDArray[np.bool_],
    label_of: NDArray[np.int64],
    chance: float,
) -> float | None:
    """Binomial test of the share kept at the lowest level, one vote a source.

    A source's share of several replicates varies no more than a single vote of the same mean, so
    the binomial tail is an upper bound (Hoeffding 1963) up to rounding the votes down.
    """
    own = np.take_along_axis(share, label_of[:, None, None], axis=2)[..., 0]
    levels = np.flatnonzero(read.any(axis=0))
    if len(levels) == 0:
        return None
    votes = own[read[:, levels[0]], levels[0]]
    return float(binom.sf(np.floor(votes.sum() + 1e-9) - 1, len(votes), chance))


def permutation_p(observed: float, drawn: NDArray[np.float64]) -> float:
    """P-value of a statistic among its values under random permutations, never 0.

    Args:
        observed: The statistic.
        drawn: Its values under the permutations.

    Returns:
        The p-value. Ties count against the claim; what was observed is one of the permutations.

    Source:
        Phipson & Smyth (2010), eq. (2).
    """
    return float((1 + np.sum(drawn >= observed - 1e-9)) / (1 + len(drawn)))
