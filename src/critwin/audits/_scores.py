"""Membership scores of images: one number per image, noise level and replicate, and its cost.

Every score grows with membership: distances and losses come with a minus sign. The direction is
fixed before any label is seen; nothing is ever flipped to look better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critwin._texts import unknown_name
from critwin.errors import InputError
from critwin.levels import ou_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from critwin.records import Records

    Array = NDArray[np.float64]

__all__ = [
    "MEMBER_COLUMNS",
    "Scores",
    "check_columns",
    "check_member_column",
    "membership_of",
    "scores_of_records",
]

MEMBER_COLUMNS = ("member", "is_member")
"""Planted columns that tell members from non-members, the first that exists counts."""

_YES = {"true", "1", "yes", "member", "members"}
_NO = {"false", "0", "no", "nonmember", "nonmembers", "non-member"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores:
    """Scores of one kind.

    Attributes:
        kind: Name, e.g. ``"loss"`` or ``"forward-reverse pixels"``.
        logsnr: Levels, decreasing, shape ``(L,)``.
        values: Larger means more like a member; NaN where there is none; shape ``(N, L, R)``.
        evaluations: Network evaluations of one image for one replicate at each level alone,
            shape ``(L,)``; NaN where the model does not tell.
        shared: Further evaluations of one image, whatever the levels and replicates.
    """

    kind: str
    logsnr: Array
    values: Array
    evaluations: Array
    shared: int = 0

    def __post_init__(self) -> None:
        """Check shapes."""
        num = len(self.logsnr)
        if self.values.ndim != 3 or self.values.shape[1] != num or len(self.evaluations) != num:
            raise InputError(
                f"scores {self.kind!r} have the wrong shape",
                got=f"{self.values.shape} and {self.evaluations.shape}",
                wanted=f"(N, {num}, R) and ({num},)",
            )

    @property
    def t(self) -> Array:
        """OU times of the levels, shape ``(L,)``."""
        return ou_time(self.logsnr)

    def per_image(self, replicates: int | None = None) -> Array:
        """Mean over replicates, shape ``(N, L)``: the image is the unit.

        Args:
            replicates: Only the first so many; all unless given.

        Returns:
            NaN where an image has no valid replicate.
        """
        used = self.values[:, :, :replicates]
        there = np.isfinite(used)
        total = np.where(there, used, 0.0).sum(axis=2)
        count = there.sum(axis=2)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def cost(self, level: int, replicates: int | None = None) -> float:
        """Network evaluations of one image at one level alone.

        Args:
            level: Index of the level.
            replicates: How many of them; all unless given.

        Returns:
            The number of evaluations; NaN if the model does not tell.
        """
        number = self.values.shape[2] if replicates is None else replicates
        return float(self.shared + number * self.evaluations[level])

    def rows(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Scores:
        """The scores of some images.

        Args:
            rows: Indices or a mask, shape ``(N,)``.

        Returns:
            Scores of these images, in that order.
        """
        return Scores(
            kind=self.kind,
            logsnr=self.logsnr,
            values=self.values[rows],
            evaluations=self.evaluations,
            shared=self.shared,
        )


def membership_of(records: Records) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
    """Which sources are members, from a planted column ``member`` or ``is_member``.

    Args:
        records: Records of a forward–reverse experiment.

    Returns:
        Names of the sources, sorted, shape ``(N,)``; and whether each is a member.

    Raises:
        InputError: If no column tells, a value is neither yes nor no, or one of the two is empty.
    """
    name = check_member_column(records.planted)
    column = records.planted[name]
    sources, first = np.unique(records.source, return_index=True)
    said = [str(value).strip().lower() for value in column[first]]
    if bad := [value for value in said if value not in _YES | _NO]:
        raise InputError(
            f"column {name!r} is neither yes nor no", got=repr(bad[0]), wanted="yes or no"
        )
    is_member = np.array([value in _YES for value in said])
    for wanted, text in ((is_member, "members"), (~is_member, "non-members")):
        if not wanted.any():
            raise InputError(
                f"there are no {text} among the sources",
                got=f"{len(sources)} sources",
                wanted="members and non-members",
                next_step="raise [sources] count, or give both",
            )
    return sources, is_member


def check_member_column(planted: Iterable[str]) -> str:
    """The planted column that says who is a member.

    Args:
        planted: Names of the planted columns.

    Returns:
        Its name.

    Raises:
        InputError: If there is none.
    """
    known = list(planted)
    name = next((name for name in MEMBER_COLUMNS if name in known), None)
    if name is None:
        raise InputError(
            "the run does not say which sources are members",
            got="planted columns " + (", ".join(known) or "(none)"),
            wanted=f"a column {MEMBER_COLUMNS[0]!r} with yes or no",
            next_step='write it in metadata.csv of the images, or give the digits part = "all"',
        )
    return name


def check_columns(planted: Iterable[str], group: str | None) -> None:
    """Refuse planted columns that do not say who is a member, or have no such groups.

    Args:
        planted: Names of the planted columns.
        group: The column that groups the members; None: none is asked for.

    Raises:
        InputError: If a column is missing.
    """
    known = dict.fromkeys(planted)
    check_member_column(known)
    if group is not None and group not in known:
        raise unknown_name("planted column", group, known)


def scores_of_records(
    records: Records,
    sources: Sequence[str] | NDArray[np.str_],
    *,
    evaluations: dict[float, float] | None = None,
) -> list[Scores]:
    """All scores that a forward–reverse experiment has recorded already: no network is run.

    Comparisons (``values``) are distances: a small one speaks for membership. The stay of a
    feature is 1 where the label is the source's own, and, where the labeller gives
    probabilities, minus the total variation between the two laws. With several replicates the
    spread of a distance over them is a score as well.

    Args:
        records: Records of a forward–reverse experiment.
        sources: Names of the images, in the order wanted, shape ``(N,)``.
        evaluations: Network evaluations of a row at each effective logsnr, where known.

    Returns:
        Scores, one of each kind.

    Raises:
        InputError: If nothing was recorded that can be a score.
    """
    levels = np.unique(records.logsnr)[::-1]
    order = {name: row for row, name in enumerate(np.asarray(sources).tolist())}
    row = np.array([order.get(name, -1) for name in records.source.tolist()])
    level = np.searchsorted(-levels, -records.logsnr)
    num_rep = int(records.replicate.max()) + 1
    cost = np.array([(evaluations or {}).get(float(lv), np.nan) for lv in levels])
    keep = (row >= 0) & records.valid

    def table(kind: str, column: Array) -> Scores:
        values = np.full((len(order), len(levels), num_rep), np.nan)
        values[row[keep], level[keep], records.replicate[keep]] = column[keep]
        return Scores(kind=kind, logsnr=levels, values=values, evaluations=cost)

    found = []
    for full, column in records.values.items():
        name = "pixels" if full == "neighbours.distance" else full
        if name.startswith("neighbours."):
            continue  # places among other images, no distance from the source
        distance = table(f"forward-reverse {name}", -column)
        found.append(distance)
        if num_rep > 1:
            found.append(spread_of(distance, f"spread of {name}"))
    for name, columns in records.features.items():
        known = (columns.before >= 0) & (columns.after >= 0)
        stay = np.where(known, (columns.before == columns.after).astype(float), np.nan)
        found.append(table(f"stay of {name}", stay))
        if columns.before_probs is not None and columns.after_probs is not None:
            gap = np.abs(columns.before_probs - columns.after_probs).sum(axis=1) / 2.0
            found.append(table(f"law of {name}", -gap))
    if not found:
        raise InputError("nothing was recorded that can be a score", wanted="a feature")
    return found


def spread_of(scores: Scores, kind: str) -> Scores:
    """Minus the standard deviation over replicates: members come back to the same place.

    Args:
        scores: Scores with at least two replicates.
        kind: Name of the new scores.

    Returns:
        Scores with one replicate, which costs as much as all of those did.
    """
    values = scores.values
    enough = np.isfinite(values).sum(axis=2) >= 2
    safe = np.where(enough[..., None], values, 0.0)
    spread = np.where(enough, -np.nanstd(safe, axis=2, ddof=1), np.nan)
    return Scores(
        kind=kind,
        logsnr=scores.logsnr,
        values=spread[..., None],
        evaluations=scores.evaluations * values.shape[2],
        shared=scores.shared,
    )
