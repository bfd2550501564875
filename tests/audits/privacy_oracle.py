"""A privacy audit computed again from the rows of a ledger, by other means than the package's.

Pairs are counted one by one, the variance of an area is that of its pairs, ridges are least
squares with further rows, limits are found by bisection. Only the named random streams (who is in
which half, which labels are permuted, which noise is drawn) are the package's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from claims import ledger_rows
from scipy import stats

from critwin.streams import numpy_stream

CHOICE = {2: math.sqrt(1 + 1 / math.pi), 3: math.sqrt(1 + 1.125 / math.pi)}
"""Factor of a choice among L levels: the mean of the largest of 2 and 3 normals is exact."""
ROOT2 = math.sqrt(2.0)


@dataclass(frozen=True)
class Area:
    """An area under a ROC curve with its limits."""

    value: float
    low: float
    high: float
    phi: Any = field(repr=False)
    variance: float = 0.0
    degrees: float = math.inf
    factor: float = 1.0

    @property
    def triple(self) -> list[float]:
        return [self.value, self.low, self.high]


def area(
    score: Any,
    member: Any,
    *,
    strata: Any = None,
    factor: float = 1.0,
    confidence: float = 0.95,
) -> Area:
    """All pairs of a stratum, one by one; DeLong's variance; logit or score limits."""
    strata = np.zeros(len(score), dtype=int) if strata is None else strata
    wins = {}
    for i in np.flatnonzero(member):
        for j in np.flatnonzero(~member & (strata == strata[i])):
            wins[i, j] = 0.5 * (1.0 + np.sign(score[i] - score[j]))
    value = sum(wins.values()) / len(wins)
    phi = np.zeros(len(score))
    variance = squares = 0.0
    for stratum in np.unique(strata):
        for side in (0, 1):  # members, then non-members
            rows = np.flatnonzero((strata == stratum) & (member == (side == 0)))
            own = [[w for pair, w in wins.items() if pair[side] == row] for row in rows]
            share = sum(map(len, own)) / len(wins)
            means = np.array([sum(w) / len(w) for w in own])
            phi[rows] = share * (means - means.mean()) / len(rows)
            part = share**2 * means.var(ddof=1) / len(rows)
            variance += part
            squares += part**2 / (len(rows) - 1)
    counts = (int(member.sum()), int((~member).sum()))
    degrees = variance**2 / squares if squares else math.inf
    low, high = limits(value, variance, degrees, counts, factor, confidence)
    return Area(value, low, high, phi, variance, degrees, factor)


def limits(
    value: float,
    variance: float,
    degrees: float,
    counts: tuple[int, int],
    factor: float,
    confidence: float,
) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    if value in (0.0, 1.0):
        edge = tail ** (factor**2 / min(counts))
        return (edge, 1.0) if value == 1.0 else (0.0, 1.0 - edge)
    if variance == 0:
        gap = sum(1 - tail ** (1 / n) for n in counts) / 2
        return max(value - gap, 0.0), min(value + gap, 1.0)
    z = math.log(value / (1 - value))
    half = factor * stats.t.isf(tail, max(degrees, 1)) * math.sqrt(variance)
    half /= value * (1 - value)
    low, high = (1 / (1 + math.exp(-(z + s * half))) for s in (-1, 1))
    if value > 0.5:
        return min(low, score_limit(value, counts, tail, factor)), high
    return low, max(high, 1 - score_limit(1 - value, counts[::-1], tail, factor))


def score_limit(value: float, counts: tuple[int, int], tail: float, factor: float) -> float:
    """Smallest area from .5 on that could give this one, by bisection; two Gaussians."""
    law = stats.multivariate_normal(cov=[[1.0, 0.5], [0.5, 1.0]])

    def is_too_far(a: float) -> bool:
        z = stats.norm.ppf(a)
        both = float(law.cdf([z, z]))
        square = a * (1 - a) + (sum(counts) - 2) * (both - a * a)
        deviation = math.sqrt(max(square, 0.0) / (counts[0] * counts[1]))
        return bool(value - a > factor * stats.norm.isf(tail) * deviation)

    if not is_too_far(0.5):
        return 1.0
    low, high = 0.5, value
    for _ in range(45):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if is_too_far(middle) else (low, middle)
    return high


@dataclass(frozen=True)
class Attack:
    """Scores of an attack, each learnt without the half of its image."""

    kind: str
    t: tuple[float | None, float | None]
    scores: Any
    area: Area


def split(member: Any) -> Any:
    """The package's halves."""
    stream = numpy_stream(0, "privacy", "halves")
    half = np.zeros(len(member), dtype=int)
    for side in (True, False):
        rows = np.flatnonzero(member == side)
        half[stream.permutation(rows)[: len(rows) // 2]] = 1
    return half


def standard(column: Any, rows: Any) -> Any:
    mean = sum(column[rows]) / rows.sum()
    deviation = math.sqrt(sum((column[rows] - mean) ** 2) / (rows.sum() - 1))
    return (column - mean) / max(deviation, 1e-12)


def quick(score: Any, member: Any) -> float:
    """An area alone."""
    gap = np.sign(score[member][:, None] - score[~member][None])
    return float(0.5 + 0.5 * gap.mean())


def at_best_level(
    kind: str, table: Any, times: Sequence[float], member: Any, halves: Any, factor: float
) -> Attack:
    out, chosen = np.zeros(len(table)), []
    for half in (0, 1):
        learn = halves != half
        areas = [quick(table[learn, j], member[learn]) for j in range(table.shape[1])]
        j = areas.index(max(areas))
        out[~learn] = standard(table[:, j], learn & ~member)[~learn]
        chosen.append(times[j])
    return Attack(
        kind, (chosen[0], chosen[1]), out, area(out, member, strata=halves, factor=factor)
    )


def ratio(kind: str, table: Any, member: Any, halves: Any) -> Attack:
    out = np.zeros(len(table))
    for half in (0, 1):
        learn = halves != half
        z = np.stack([standard(c, learn & ~member) for c in table.T], axis=1).clip(-10, 10)
        means = [z[learn & side].mean(axis=0) for side in (member, ~member)]
        left = np.where(member[:, None], z - means[0], z - means[1])[learn]
        covariance = sum(np.outer(row, row) for row in left) / (len(left) - 2)
        covariance = np.where(np.eye(len(covariance)), covariance, 0.9 * covariance)
        weights = np.linalg.inv(covariance + 1e-9 * np.eye(len(covariance))) @ (
            means[0] - means[1]
        )
        out[~learn] = standard(z @ weights, learn & ~member)[~learn]
    found = area(out, member, strata=halves, factor=ROOT2)
    return Attack(f"likelihood ratio of {kind}", (None, None), out, found)


def without_looks(table: Any, looks: Any, member: Any, halves: Any) -> Any:
    """Scores less a ridge on the looks; least squares with a row for every penalty."""
    out = np.zeros(table.shape)
    for half in (0, 1):
        fit = (halves != half) & ~member
        x = (looks - looks[fit].mean(axis=0)) / (looks[fit].std(axis=0) + 1e-9)
        weight = math.sqrt(1 + 0.01 * fit.sum())
        rows = np.concatenate([x[fit], weight * np.eye(x.shape[1])])
        for j, column in enumerate(table.T):
            mean = column[fit].mean()
            target = np.concatenate([column[fit] - mean, np.zeros(x.shape[1])])
            slope = np.linalg.lstsq(rows, target, rcond=None)[0]
            out[halves == half, j] = standard(column - mean - x @ slope, fit)[halves == half]
    return out


def linear(looks: Any, member: Any, halves: Any) -> Any:
    """Fisher's discriminant, learnt on the other half."""
    out = np.zeros(len(looks))
    for half in (0, 1):
        learn = halves != half
        x = (looks - looks[learn].mean(axis=0)) / (looks[learn].std(axis=0) + 1e-9)
        means = [x[learn & side].mean(axis=0) for side in (member, ~member)]
        left = np.where(member[:, None], x - means[0], x - means[1])[learn]
        covariance = sum(np.outer(row, row) for row in left) / len(left)
        weights = np.linalg.inv(covariance + 0.1 * np.eye(x.shape[1])) @ (means[0] - means[1])
        out[~learn] = (x.clip(-10, 10) @ weights)[~learn]
    return out


def nearer(points: Any, member: Any, halves: Any) -> Any:
    """How much nearer a member of the other half is than a non-member of it."""
    out = np.zeros(len(points))
    for half in (0, 1):
        sides = [np.flatnonzero((halves != half) & side) for side in (member, ~member)]
        size = min(map(len, sides))
        for row in np.flatnonzero(halves == half):
            near = [min(math.dist(points[row], points[i]) for i in s[:size]) for s in sides]
            out[row] = near[1] - near[0]
    return out


class Oracle:
    """Everything that an audit of a run of points says, from the rows of its ledger."""

    def __init__(self, folder: Path, more: dict[str, Any] | None = None) -> None:
        sources, units = ledger_rows(folder)
        self.names = [row["name"] for row in sources]
        self.planted = [row["planted"] for row in sources]
        self.member = np.array([row["planted"]["member"] == "yes" for row in sources])
        self.points = np.stack([row["clean"] for row in sources]).astype(np.float64)
        levels = sorted({u["logsnr"] for u in units}, reverse=True)
        self.times = [0.5 * math.log1p(math.exp(-level)) for level in levels]
        own = {row["name"]: row for row in sources}
        cells: dict[str, Any] = {}
        self.values: dict[str, Any] = {}
        for unit in units:
            at = self.names.index(unit["source"]), levels.index(unit["logsnr"])
            reading = unit["reading"]
            then = own[unit["source"]]["reading"]["side"]["label"]
            distance = reading["values"]["neighbours.distance"]
            cells.setdefault("forward-reverse pixels", {}).setdefault(at, []).append(-distance)
            stays = float(reading["features"]["side"]["label"] == then)
            cells.setdefault("stay of side", {}).setdefault(at, []).append(stays)
            for name, value in reading["values"].items():
                self.values.setdefault(name, {}).setdefault(at, []).append(value)
        self.tables = {
            kind: np.array(
                [[np.mean(own[i, j]) for j in range(len(levels))] for i in range(len(sources))]
            )
            for kind, own in cells.items()
        } | (more or {})

    @cached_property
    def looks(self) -> Any:
        return np.concatenate([self.points, (self.points**2).sum(axis=1)[:, None]], axis=1)

    def attacks(self, rows: Any) -> list[Attack]:
        """All attacks on some images, in the order in which they are tried."""
        member = self.member[rows]
        halves = split(member)
        out = []
        for kind, whole in self.tables.items():
            table = whole[rows]
            fair = without_looks(table, self.looks[rows], member, halves)
            for name, own in ((kind, table), (f"{kind}, calibrated", fair)):
                factor = CHOICE[len(self.times)]
                out.append(at_best_level(name, own, self.times, member, halves, factor))
                out.append(ratio(name, own, member, halves))
        return out

    def strongest(self, attacks: Sequence[Attack], rows: Any) -> Attack:
        member = self.member[rows]
        halves = split(member)
        out, picked = np.zeros(len(member)), []
        for half in (0, 1):
            learn = halves != half
            areas = [quick(a.scores[learn], member[learn]) for a in attacks]
            best = attacks[areas.index(max(areas))]
            out[~learn] = best.scores[~learn]
            picked.append(best)
        kinds = [a.kind for a in picked]
        return Attack(
            kinds[0] if kinds[0] == kinds[1] else " / ".join(kinds),
            (picked[0].t[0], picked[1].t[1]),
            out,
            area(out, member, strata=halves, factor=ROOT2),
        )

    def groups(self) -> list[str]:
        """Groups of members, where there are several."""
        found = {
            row["multiplicity"]
            for row, yes in zip(self.planted, self.member, strict=True)
            if yes and "multiplicity" in row
        }
        return sorted(found) if len(found) > 1 else []

    def group(self, name: str) -> tuple[Any, Attack]:
        """Members of a group and all non-members, and the strongest attack on them."""
        own = np.array([row.get("multiplicity") == name for row in self.planted])
        rows = np.flatnonzero(own | ~self.member)
        return rows, self.strongest(self.attacks(rows), rows)

    def spreads(self) -> dict[str, Any]:
        """Minus the standard deviation over replicates."""
        own = self.values["neighbours.distance"]
        table = [
            [-np.std(own[i, j], ddof=1) for j in range(len(self.times))]
            for i in range(len(self.names))
        ]
        return {"spread of pixels": np.array(table)}

    def blind(self) -> list[Attack]:
        halves = split(self.member)
        columns = {
            "pixel statistics": linear(self.looks, self.member, halves),
            "nearest neighbours": nearer(self.points, self.member, halves),
        }
        out = []
        for kind, column in columns.items():
            score = np.zeros(len(column))
            for half in (0, 1):
                rows = (halves != half) & ~self.member
                score[halves == half] = standard(column, rows)[halves == half]
            found = area(score, self.member, strata=halves, factor=ROOT2, confidence=0.975)
            out.append(Attack(kind, (None, None), score, found))
        return out

    def p_value(self, attack: Attack, draws: int = 9999) -> float:
        """The package's permutations; their sums one by one."""
        halves, found = split(self.member), []
        for half in (0, 1):
            rows = halves == half
            score = attack.scores[rows].clip(-20, 20)
            num, total = int(self.member[rows].sum()), float(score[self.member[rows]].sum())
            stream, above = numpy_stream(0, "privacy", "set", half), 0
            for start in range(0, draws, 500):
                keys = stream.random((min(500, draws - start), len(score)))
                above += sum(score[np.argsort(row)[:num]].sum() >= total - 1e-9 for row in keys)
            found.append((1 + above) / (1 + draws))
        return min(1.0, 2 * min(found))

    def windows(self, kind: str) -> list[tuple[float, float]]:
        """Runs of levels at which the limits that hold for all levels together exclude .5."""
        areas = [area(c, self.member) for c in self.tables[kind].T]
        phi = np.stack([a.phi for a in areas])
        size = np.sqrt((phi**2).sum(axis=1))
        size = np.where(size > 0, size, 1.0)
        draws = np.random.default_rng(1).standard_normal((100_000, len(self.member)))
        z = float(np.quantile(np.abs(draws @ (phi / size[:, None]).T).max(axis=1), 0.95))
        counts = (int(self.member.sum()), int((~self.member).sum()))
        confidence = 2 * stats.norm.cdf(z) - 1
        low = [
            limits(a.value, a.variance, a.degrees, counts, 1.0, confidence)[0]
            if a.variance > 0
            else a.low
            for a in areas
        ]
        runs: list[list[int]] = []
        for j, edge in enumerate(low):
            if edge > 0.5 and runs and runs[-1][-1] == j - 1:
                runs[-1].append(j)
            elif edge > 0.5:
                runs.append([j])
        return [(self.times[run[0]], self.times[run[-1]]) for run in runs]

    def collapse(self, rows: Any) -> list[float]:
        """Where a perfect memory of the members returns 90 %, half and 10 % of some of them.

        By bisection on the curve itself, which the package interpolates.
        """
        points = self.points[self.member]
        chosen = np.flatnonzero(rows[self.member])
        stream = numpy_stream(0, "privacy", "collapse")
        noises = [
            stream.standard_normal((len(chosen), points.shape[1])).astype(np.float32)
            for _ in range(max(1, min(8, 200 // len(chosen))))
        ]

        def returned(t: float) -> float:
            alpha, var = math.exp(-t), -math.expm1(-2 * t)
            weights = []
            for noise in noises:
                for i, z in zip(chosen, noise, strict=True):
                    x = alpha * points[i] + math.sqrt(var) * z
                    gap = ((x - alpha * points) ** 2).sum(axis=1) / (2 * var)
                    weights.append(1 / np.exp(gap[i] - gap).sum())
            return float(np.mean(weights))

        out = []
        for value in (0.9, 0.5, 0.1):
            low, high = 0.02, 6.0
            while high - low > 1e-4:
                middle = 0.5 * (low + high)
                low, high = (middle, high) if returned(middle) >= value else (low, middle)
            out.append(low)
        return out

    def memorised(self, fdr: float = 0.1) -> tuple[int, int, int]:
        """Found, candidates, and non-members that make the null; Benjamini–Hochberg by hand."""
        mean = {
            name: np.array(
                [
                    [np.mean(own[i, j]) for j in range(len(self.times))]
                    for i in range(len(self.names))
                ]
            )
            for name, own in self.values.items()
        }
        crowd = np.array(list(self.values["neighbours.crowd_distance"].values()))
        least = 1e-3 * np.median(crowd)
        close = np.array(
            [
                [
                    np.mean(
                        [
                            math.log(c / max(d, least))
                            for c, d in zip(
                                self.values["neighbours.crowd_distance"][i, j],
                                self.values["neighbours.distance"][i, j],
                                strict=True,
                            )
                        ]
                    )
                    for j in range(len(self.times))
                ]
                for i in range(len(self.names))
            ]
        )
        home = mean["neighbours.home"][:, 0].astype(int)
        is_in = {int(name[1:]): yes for name, yes in zip(self.names, self.member, strict=True)}
        target = np.array([is_in[h] for h in home])
        z = (close - close[~target].mean(axis=0)) / close[~target].std(axis=0)
        score = z.mean(axis=1)
        null = score[~target]
        assert int(0.1 * len(null)) < 20, "the tail would be fitted"
        p = sorted((1 + (null >= s).sum()) / (1 + len(null)) for s in score[target])
        found = max((k for k, q in enumerate(p, 1) if q * len(p) / k <= fdr), default=0)
        return found, len(p), len(null)
