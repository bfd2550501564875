"""Network evaluations of an adaptive search against a uniform grid of the same half-width.

Features are halves of the components of a simplex of Gaussians (two labels, chance one half).
Their kept curves are exact up to the table that all ways share; results are drawn from it.
Evaluations are those of 50 steps of a linear schedule that ends at t = 5; a source costs the whole
of it.

- *search*: as the package does it, on levels from t = .05 to 5.
- *grid*: sources at all of L uniform levels of the same range, read by ``critical_window``; L of
  20, 40 and 80 that costs least, and as many sources as give a median half-width of .05.
- *logistic*: plain information gain on a logistic curve of unknown location and width, each source
  used ten times; a wrong curve for most features, hence the share that holds the truth.

``--digits`` takes the curves of ground, ink and digit as predicted from the digits' data. Writes
``results/search_cost.json`` and ``.md``; cases that are not run keep what stands there.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from critwin.experiments._curve_chain import chain_on  # noqa: E402
from critwin.experiments._deciding import Decider  # noqa: E402
from critwin.experiments._search_settings import Settings  # noqa: E402
from critwin.experiments.search_targets import parse_targets  # noqa: E402
from critwin.levels import logsnr_of_ou_time  # noqa: E402
from critwin.streams import numpy_stream  # noqa: E402
from critwin.transitions import from_counts  # noqa: E402
from critwin.windows import critical_window  # noqa: E402
from search_oracle import NUM_STEPS, Readings, evaluations, run_together  # noqa: E402

RANGE, WANTED, BATCH = (0.05, 5.0), 0.05, 32
SIZES = [int(60 * 1.12**k) for k in range(50)]
LOG_SEPARATION = np.log(np.geomspace(0.02, 12.0, 240))


@dataclass(frozen=True)
class Curve:
    """A feature: its prior and what is kept of it at any time."""

    weights: tuple[float, ...]
    t: tuple[float, ...]
    kept: tuple[float, ...]

    def at(self, t: np.ndarray) -> np.ndarray:
        """What is kept at some times."""
        return np.interp(t, self.t, self.kept)

    def crossing(self, value: float) -> float:
        """When so much is kept."""
        return float(np.interp(-value, -np.array(self.kept), self.t))


@cache
def simplex_table(num: int) -> np.ndarray:
    """Kept of a simplex of ``num`` Gaussians at separations ``exp(LOG_SEPARATION)``."""
    normals = numpy_stream(0, "simplex", num).standard_normal((4000, num))
    found = []
    for a in np.exp(LOG_SEPARATION):
        logits = a * normals
        logits[:, 0] += a * a
        logits -= logits.max(axis=1, keepdims=True)
        own = np.exp(logits)
        found.append((np.mean(own[:, 0] / own.sum(axis=1)) - 1 / num) / (1 - 1 / num))
    return np.maximum.accumulate(np.clip(found, 0.0, 1.0))


def simplex(num: int, deviation: float, midpoint: float) -> Curve:
    """Halves of a simplex of components of one deviation, with a given midpoint."""
    t = np.linspace(*RANGE, 1000)
    scale = np.exp(-t) / np.sqrt(1 - np.exp(-2 * t) * (1 - deviation**2))
    table = simplex_table(num)
    middle = np.interp(0.5, table, LOG_SEPARATION)
    size = middle - np.interp(midpoint, t, np.log(scale))
    kept = np.interp(np.log(scale) + size, LOG_SEPARATION, table)
    return Curve((0.5, 0.5), tuple(t), tuple(np.minimum.accumulate(kept)))


def joined(one: Curve, other: Curve, share: float) -> Curve:
    """A feature of two parts of the data, far apart, of which each decides it at its own time."""
    kept = share * np.array(one.kept) + (1 - share) * np.array(other.kept)
    return Curve(one.weights, one.t, tuple(kept))


class Drawn:
    """Results of features that are kept with given probabilities."""

    def __init__(self, curves: dict[str, Curve], seed: int, num_sources: int) -> None:
        self.curves, self.random = curves, numpy_stream(seed, "search cost")
        self.before = {
            name: self.random.choice(len(c.weights), size=num_sources, p=c.weights)
            for name, c in curves.items()
        }

    def read(self, t: float, sources: np.ndarray) -> Readings:
        """Labels before and after of some sources at a time."""
        out = {}
        for name, curve in self.curves.items():
            before = self.before[name][sources]
            fresh = self.random.choice(len(curve.weights), size=len(sources), p=curve.weights)
            stays = self.random.random(len(sources)) < curve.at(np.array(t))
            out[name] = (before, np.where(stays, before, fresh))
        return out


def by_search(curves: dict[str, Curve], repeats: int) -> tuple[float, float, float]:
    """Median evaluations, median of the widest half-width, share of intervals with the truth."""
    t = np.linspace(*RANGE, 51)
    deciders = [
        Decider(
            Settings(
                chain=chain_on(t),
                candidates=np.arange(len(t)),
                cost=evaluations(t),
                source_cost=NUM_STEPS,
                num_sources=20_000,
                labels={n: tuple(map(str, range(len(c.weights)))) for n, c in curves.items()},
                priors={n: np.array(c.weights) for n, c in curves.items()},
                targets=parse_targets(None, list(curves)),
                half_width=WANTED,
                batch_size=BATCH,
                seed=seed,
            )
        )
        for seed in range(repeats)
    ]
    run_together(deciders, [Drawn(curves, seed, 20_000) for seed in range(repeats)])
    held = [
        found.low <= curve.crossing(0.5) <= found.high
        for d in deciders
        for found, curve in zip(d.found, curves.values(), strict=True)
    ]
    widest = [max(found.half_width for found in d.found) for d in deciders]
    return (
        float(np.median([d.spent for d in deciders])),
        float(np.median(widest)),
        float(np.mean(held)),
    )


def by_grid(curves: dict[str, Curve], repeats: int) -> tuple[float, int, int, float]:
    """Least evaluations of a grid, its levels and sources, and its median half-width."""
    found = []
    for count in (20, 40, 80):
        t = np.linspace(*RANGE, count)

        def median(size: int, t: np.ndarray = t) -> float:
            return float(np.median([grid_width(curves, t, size, seed) for seed in range(repeats)]))

        low, high = 0, len(SIZES)  # the first size that is enough
        while low < high:
            middle = (low + high) // 2
            if median(SIZES[middle]) <= WANTED:
                high = middle
            else:
                low = middle + 1
        if low < len(SIZES):
            each = float(NUM_STEPS + evaluations(t).sum())
            found.append((SIZES[low] * each, count, SIZES[low], median(SIZES[low])))
    return min(found)


def grid_width(curves: dict[str, Curve], t: np.ndarray, num_sources: int, seed: int) -> float:
    """The widest half-width of the midpoints; infinite where a limit is missing."""
    drawn = Drawn(curves, seed, num_sources)
    rows = np.arange(num_sources)
    read = [drawn.read(float(level), rows) for level in t]
    widest = 0.0
    for name, curve in curves.items():
        labels = [str(i) for i in range(len(curve.weights))]
        counts = np.zeros((num_sources, len(t), len(labels)), dtype=np.int64)
        for level, own in enumerate(read):
            counts[rows, level, own[name][1]] = 1
        table = from_counts(
            counts,
            drawn.before[name],
            logsnr=logsnr_of_ou_time(t),
            before=labels,
            after=labels,
            weights=np.array(curve.weights),
            fresh=np.array(curve.weights),
            reversal="posterior",
            feature=name,
        )
        edge = critical_window(table, test=False).midpoint.t
        missing = edge.low is None or edge.high is None
        widest = max(widest, np.inf if missing else 0.5 * (edge.high - edge.low))
    return widest


def by_logistic(curve: Curve, repeats: int) -> tuple[float, float]:
    """Median evaluations and the share of intervals with the truth, of a logistic curve."""
    t = np.linspace(*RANGE, 51)
    place, size = np.meshgrid(np.linspace(*RANGE, 199), np.geomspace(0.05, 1.5, 24), indexing="ij")
    place, size = place.ravel(), size.ravel()
    chance = float(np.sum(np.square(curve.weights)))
    odds = np.clip((t[None, :] - place[:, None]) / size[:, None], -700, 700)
    p = np.clip(chance + (1 - chance) / (1 + np.exp(odds)), 1e-3, 1 - 1e-3)
    cost = evaluations(t) + NUM_STEPS / 10
    truth, spent, held = chance + (1 - chance) * curve.at(t), [], []
    for seed in range(repeats):
        random = numpy_stream(seed, "logistic")
        log, total = np.zeros(len(place)), 0.0
        while True:
            law = np.exp(log - log.max())
            law /= law.sum()
            by_place = np.cumsum(law.reshape(199, -1).sum(axis=1))
            low, high = np.interp([0.025, 0.975], by_place, np.linspace(*RANGE, 199))
            if high - low <= 2 * WANTED or total > 3e6:
                break
            mean = law @ place
            kept = law @ p
            moments = (law * place) @ p, (law * place**2) @ p
            after = moments[1] - moments[0] ** 2 / kept
            second = law @ place**2
            after += (second - moments[1]) - (mean - moments[0]) ** 2 / (1 - kept)
            level = int(np.argmax(np.log((second - mean**2) / after) / cost))
            hits = random.binomial(BATCH, truth[level])
            log += hits * np.log(p[:, level]) + (BATCH - hits) * np.log1p(-p[:, level])
            total += BATCH * cost[level]
        spent.append(total)
        held.append(low <= curve.crossing(0.5) <= high)
    return float(np.median(spent)), float(np.mean(held))


def cases() -> dict[str, dict[str, Curve]]:
    """Features of three widths, alone and five at a time, and one that falls in two steps."""
    kinds = {"narrow": (1024, 0.1, 0.45), "middle": (100, 1.0, 1.6), "wide": (8, 1.0, 1.6)}
    found = {}
    for name, (num, deviation, midpoint) in kinds.items():
        found[name] = {"a": simplex(num, deviation, midpoint)}
    found["two parts"] = {"a": joined(simplex(100, 1.0, 1.2), simplex(100, 1.0, 2.6), 0.6)}
    for name, (num, deviation, midpoint) in kinds.items():
        step = 0.02 if name == "narrow" else 0.3
        found[f"five {name}"] = {
            letter: simplex(num, deviation, midpoint + step * k)
            for k, letter in enumerate("abcde", start=-2)
        }
    return found


def digits() -> dict[str, dict[str, Curve]]:
    """Ground, ink and digit as predicted from the data."""
    import critwin as cw
    from critwin.models.digits.loading import load_digits
    from critwin.quantities import kept

    data = load_digits().dataset()
    rows = np.arange(0, len(data), 4)
    t = np.linspace(*RANGE, 34)
    points = np.asarray(data.clean(rows.tolist())).reshape(len(rows), -1)
    labels = {n: np.asarray(data.planted[n])[rows] for n in ("ground", "ink", "digit")}
    tables = cw.dataset_transitions(points, labels, logsnr_of_ou_time(t))
    found = {}
    for name, table in tables.items():
        curve = np.minimum.accumulate(np.clip(kept(table), 0.0, 1.0))
        weights = np.asarray(table.weights)
        found[name] = Curve(tuple(weights / weights.sum()), tuple(t), tuple(curve))
    return {"digits: ground, ink, digit": found}


def measured(curves: dict[str, Curve], repeats: int, grid_repeats: int) -> dict[str, Any]:
    """All that is said of one case."""
    spent, width, held = by_search(curves, repeats)
    grid, levels, sources, grid_half = by_grid(curves, grid_repeats)
    facts: dict[str, Any] = {
        "widths_10_90": [round(c.crossing(0.1) - c.crossing(0.9), 3) for c in curves.values()],
        "search": {
            "repeats": repeats,
            "evaluations": spent,
            "half_width": width,
            "truth_held": held,
            "intervals": repeats * len(curves),
        },
        "grid": {
            "repeats": grid_repeats,
            "evaluations": grid,
            "levels": levels,
            "sources": sources,
            "half_width": grid_half,
        },
        "ratio": grid / spent,
        # costs go with the inverse square of the half-width; both brought to the one wanted
        "ratio_at_equal_half_width": grid * grid_half**2 / (spent * width**2),
    }
    if len(curves) == 1:
        evaluated, right = by_logistic(next(iter(curves.values())), repeats)
        facts["logistic"] = {
            "evaluations": evaluated,
            "truth_held": right,
            "ratio": grid / evaluated,
        }
    return facts


def text(found: dict[str, dict[str, Any]]) -> str:
    """The table of all cases."""
    lines = [
        "# Network evaluations of searches and of grids, half-width .05 of every midpoint",
        "",
        "Medians over repeats, whose numbers are in the JSON; `python benchmarks/search_cost.py`,",
        "the last with `--digits`. The grid is the cheapest of 20, 40 and 80 levels. In brackets:",
        "the ratio with both costs brought to exactly .05.",
        "",
        "| case | widths (.9 to .1 kept), t | search: evaluations, half-width | truth held "
        "| grid: evaluations, levels x sources, half-width | ratio | plain logistic, truth held |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, facts in sorted(found.items(), key=lambda item: item[0].startswith("digits")):
        search, grid, plain = facts["search"], facts["grid"], facts.get("logistic")
        widths = ", ".join(f"{width:.2f}" for width in facts["widths_10_90"])
        other = "—"
        if plain is not None:
            other = (
                f"{plain['evaluations']:,.0f} (ratio {plain['ratio']:.1f}), "
                f"{plain['truth_held']:.2f}"
            )
        lines.append(
            f"| {name} | {widths} | {search['evaluations']:,.0f}, {search['half_width']:.3f} "
            f"| {search['truth_held']:.3f} of {search['intervals']} "
            f"| {grid['evaluations']:,.0f}, {grid['levels']} x {grid['sources']:,}, "
            f"{grid['half_width']:.3f} "
            f"| {facts['ratio']:.1f} ({facts['ratio_at_equal_half_width']:.1f}) | {other} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--grid-repeats", type=int, default=5)
    parser.add_argument("--only", help="first words of the cases to run")
    parser.add_argument("--digits", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args()
    path = args.out / "search_cost.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, curves in (digits() if args.digits else cases()).items():
        if args.only and not name.startswith(args.only):
            continue
        found[name] = measured(curves, args.repeats, args.grid_repeats)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(text(found), encoding="utf-8")
        print(text({name: found[name]}).splitlines()[-1], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
