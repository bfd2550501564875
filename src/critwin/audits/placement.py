"""Adaptive placement: spend evaluations where membership shows, not everywhere.

On each half, successive halving looks for the best level: all levels are measured on a few images,
the worse half of them is dropped, the rest is measured on twice as many images, and so on. Then
the *other* half is measured at that level alone. Its interval is as wide as if every image had
been measured at every level.

Source: Karnin, Koren & Somekh (2013), *Almost optimal exploration in multi-armed bandits*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critwin.audits.membership import Attack, attack_of, inflation_of, standard
from critwin.audits.roc import area
from critwin.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
    Mask = NDArray[np.bool_]

__all__ = ["Placement", "place"]

_FIRST = 24  # images of each class in the first round
_FEW_REFERENCE = 20


@dataclass(frozen=True, eq=False, kw_only=True)
class Placement:
    """An attack whose evaluations were placed adaptively.

    Attributes:
        attack: The attack, as if its levels had been chosen on the other half.
        evaluations: Network evaluations spent, all images together.
        uniform: What measuring every image at every level would have cost.
        measured: Images measured at each level, shape ``(L,)``.
    """

    attack: Attack
    evaluations: float
    uniform: float
    measured: NDArray[np.int64]


def place(
    measure: Callable[[NDArray[np.int64], int], Array],
    logsnr: ArrayLike,
    evaluations: ArrayLike,
    is_member: Mask,
    halves: NDArray[np.int64],
    *,
    kind: str = "adaptive",
    first: int = _FIRST,
    confidence: float = 0.95,
) -> Placement:
    """Measure adaptively: choose a level on one half, report it on the other, both ways.

    Args:
        measure: Gives the scores of some images at one level: indices of images, shape ``(M,)``,
            and the index of a level, to scores, shape ``(M,)``. Nothing is asked twice.
        logsnr: Levels, shape ``(L,)``.
        evaluations: Network evaluations of one image at each level, shape ``(L,)``.
        is_member: Shape ``(N,)``.
        halves: From :func:`critwin.audits.membership.halves_of`.
        kind: Name of the attack.
        first: Images of each class in the first round.
        confidence: Of the intervals.

    Returns:
        The attack and what it cost.

    Raises:
        InputError: If there are no levels.
    """
    levels = np.asarray(logsnr, dtype=np.float64)
    price = np.asarray(evaluations, dtype=np.float64)
    if len(levels) == 0 or price.shape != levels.shape:
        raise InputError("levels and evaluations do not fit", got=f"{levels.shape}, {price.shape}")
    table = np.full((len(is_member), len(levels)), np.nan)
    asked = np.zeros(table.shape, dtype=np.bool_)

    def see(rows: NDArray[np.int64], level: int) -> Array:
        new = rows[~asked[rows, level]]
        if len(new):
            table[new, level] = measure(new, level)
            asked[new, level] = True
        seen: Array = table[rows, level]
        return seen

    chosen = []
    for half in (0, 1):
        learn = halves != half
        alive = list(range(len(levels)))
        count = first
        while len(alive) > 1:
            rows = np.concatenate(
                [np.flatnonzero(learn & (is_member == side))[:count] for side in (True, False)]
            )
            found = {}
            for level in alive:
                value = area(see(rows, level), is_member[rows]).value
                found[level] = -1.0 if value is None else value
            keep = (len(alive) + 1) // 2
            alive = sorted(alive, key=lambda level: -found[level])[:keep]
            count *= 2
        chosen.append(alive[0])
    out = np.full(len(is_member), np.nan)
    for half in (0, 1):
        row, level = np.flatnonzero(halves == half), chosen[half]
        see(row, level)
        reference = (halves != half) & ~is_member & asked[:, level]
        if reference.sum() < _FEW_REFERENCE:
            see(np.flatnonzero((halves != half) & ~is_member)[:_FEW_REFERENCE], level)
            reference = (halves != half) & ~is_member & asked[:, level]
        out[row] = standard(table[:, level], reference)[row]
    return Placement(
        attack=attack_of(
            kind,
            (chosen[0], chosen[1]),
            (float(levels[chosen[0]]), float(levels[chosen[1]])),
            out,
            is_member,
            halves,
            float(price[chosen].mean()),
            confidence,
            inflation_of(len(levels)),
        ),
        evaluations=float((asked.sum(axis=0) * price).sum()),
        uniform=float(len(is_member) * price.sum()),
        measured=asked.sum(axis=0).astype(np.int64),
    )
