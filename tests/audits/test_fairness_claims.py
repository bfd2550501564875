"""Every number that a fairness audit says, computed again from the ledger's rows by plain code."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from claims import Claim, check, check_and_plant, ledger_rows
from scipy import optimize, stats

from critwin.audits._fairness_words import _arm_words, _loss_words
from critwin.audits.fairness_runs import audit_fairness_run
from critwin.features.function import FunctionFeature
from critwin.features.labelling import ErrorMatrix
from critwin.models.registry import load_model
from critwin.runs.config import parse_config
from critwin.runs.executor import run_experiment

LIMITS = (
    "Labels are what a labeller perceives in a picture. They are not self-declared, and nobody in "
    "a generated picture has an identity; a labeller may err more for some groups than others.",
    "A reference is a choice. Neither equal shares nor those of the data are fair by themselves.",
    "That no difference is shown does not mean that there is none: read the upper limit.",
    "The result holds for this model, this condition, these settings of the sampler and pictures "
    "like these; it says nothing of how people use them.",
)
ROW = FunctionFeature(
    name="row", labels=("low", "high"), version="1",
    function=lambda points: (np.asarray(points)[:, 1] > 0.8).astype(np.int64),
)  # fmt: skip
SIDE = FunctionFeature(
    name="side", labels=("a", "b"), version="1",
    function=lambda points: (np.asarray(points)[:, 0] > 0).astype(np.int64),
)  # fmt: skip
TWO = {
    "component": [
        {"name": "a", "weight": 0.4, "mean": [-6.0, 2.6]},
        {"name": "b", "weight": 0.6, "mean": [6.0, 0.0]},
    ]
}
THREE = {
    "component": [
        {"name": "a", "weight": 0.3, "mean": [-6.0]},
        {"name": "b", "weight": 0.2, "mean": [0.0]},
        {"name": "c", "weight": 0.5, "mean": [6.0]},
    ]
}
PRIOR = (0.3, 0.2, 0.5)


class Skewed:
    """A mixture whose images are not of its own law: four in five are of the first component."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def generate(self, conditions: Any, streams: Any) -> Any:
        return self.model.generate(["aaaabaaaac"[k % 10] for k in range(len(conditions))], streams)


class Rows:
    """Labels of an attribute as the ledger has them."""

    def __init__(self, folder: Path, attribute: str, size: int) -> None:
        sources, units = ledger_rows(folder)
        self.size, self.names = size, [row["name"] for row in sources]
        self.before = [row["reading"][attribute]["label"] for row in sources]
        self.counts = [self.before.count(k) for k in range(size)]
        self.num = len(self.before)
        levels = sorted({u["logsnr"] for u in units}, reverse=True)
        self.t = [0.5 * math.log1p(math.exp(-level)) for level in levels]
        where = {(u["source"], u["logsnr"]): u["reading"]["features"] for u in units}
        self.after = [
            [where[name, level][attribute]["label"] for level in levels] for name in self.names
        ] if not units[0]["experiment"].startswith("intervene") else []  # fmt: skip
        self.arms: dict[str, dict[str, Any]] = {}
        for unit in units:
            self.arms.setdefault(unit["experiment"], {})[unit["source"]] = unit["reading"]
        self.readings = {row["name"]: row["reading"] for row in sources}


def exact(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    found = stats.binomtest(count, total).proportion_ci(confidence, "exact")
    return float(found.low), float(found.high)


def distance(rows: Rows, reference: list[float]) -> tuple[float, float, float]:
    """The distance to the reference, each image looked up in a set chosen without it."""
    total = 0.0
    for own in rows.before:
        rest = [n - (k == own) for k, n in enumerate(rows.counts)]
        inside = [n / (rows.num - 1) > q for n, q in zip(rest, reference, strict=True)]
        total += inside[own] - sum(q for q, yes in zip(reference, inside, strict=True) if yes)
    each = 0.95 if rows.size == 2 else 1 - 0.05 / rows.size
    box = [exact(n, rows.num, each) for n in rows.counts]
    found = []
    for signs in range(2**rows.size):
        s = np.array([1.0 if signs >> k & 1 else -1.0 for k in range(rows.size)])
        best = optimize.linprog(-0.5 * s, A_eq=[np.ones(rows.size)], b_eq=[1.0], bounds=box)
        found.append(-best.fun - 0.5 * float(s @ reference))
    # the least distance: |p - q| as variables of their own
    size, eye = rows.size, np.eye(rows.size)
    least = optimize.linprog(
        np.r_[np.zeros(size), 0.5 * np.ones(size)],
        A_ub=np.block([[eye, -eye], [-eye, -eye]]), b_ub=np.r_[reference, -np.array(reference)],
        A_eq=[np.r_[np.ones(size), np.zeros(size)]], b_eq=[1.0],
        bounds=[*box, *[(0, None)] * size],
    )  # fmt: skip
    return min(max(total / rows.num, least.fun), max(found)), least.fun, max(found)


def answer(rows: Rows, feature: str, under: str, labels: str, p: str) -> Claim:
    reference = [1 / rows.size] * rows.size
    worst = max(range(rows.size), key=lambda k: abs(rows.counts[k] / rows.num - reference[k]))
    share = rows.counts[worst]
    return (
        f"Under {under}, {feature} does not follow equal shares (p {p}): {labels.split()[worst]} "
        "is shown in {} % [{}, {}] of {} pictures where the reference says {} %; {} % of the "
        "pictures (between {} % and {} %, with {} % confidence) would have to show another group.",
        [
            *percents(share / rows.num, *exact(share, rows.num)), rows.num,
            100 * reference[worst], *percents(*distance(rows, reference)), 95,
        ],
    )  # fmt: skip


def percents(*values: float) -> list[float]:
    return [100 * value for value in values]


def holm(values: list[float]) -> list[float]:
    order = sorted(range(len(values)), key=lambda i: values[i])
    out, last = [0.0] * len(values), 0.0
    for rank, i in enumerate(order):
        last = max(last, min(1.0, values[i] * (len(values) - rank)))
        out[i] = last
    return out


def by_group(rows: Rows, labels: str) -> Claim:
    p = holm([stats.binomtest(n, rows.num, 1 / rows.size).pvalue for n in rows.counts])
    words, numbers = [], []
    for label, n, value in zip(labels.split(), rows.counts, p, strict=True):
        if value <= 0.05:
            words.append(label + " {} % [{}, {}] instead of {} %")
            numbers += [*percents(n / rows.num, *exact(n, rows.num)), 100 / rows.size]
    text = f"Group by group, adjusted for {{}} comparisons: {'; '.join(words)}."
    return text, [rows.size, *numbers]


def survivals(rows: Rows, group: int) -> list[float]:
    out = []
    for own, after in zip(rows.before, rows.after, strict=True):
        if own == group:
            kept = [float(label == own) for label in after]
            out.append(
                sum((kept[i] + kept[i + 1]) / 2 * (rows.t[i + 1] - rows.t[i])
                    for i in range(len(kept) - 1))
            )  # fmt: skip
    return out


def permuted(a: list[float], b: list[float], num: int = 4000) -> tuple[float, float]:
    """Within which the p-value of 999 permutations lies."""
    generator, pooled = np.random.default_rng(0), np.array(a + b)
    seen = abs(stats.ttest_ind(a, b, equal_var=False).statistic)
    rows = np.stack([generator.permutation(pooled) for _ in range(num)])
    drawn = stats.ttest_ind(rows[:, : len(a)], rows[:, len(a) :], axis=1, equal_var=False)
    p = float(np.mean(np.abs(drawn.statistic) >= seen * (1 - 1e-9)))
    half = 5 * math.sqrt(max(p * (1 - p), 1 / num) * (1 / num + 1 / 999))
    return max(0.001, p - half), p + half + 0.001


def lost_first(rows: Rows, labels: str, prior: list[float] | None) -> list[tuple[Claim, Any]]:
    """Every group against the largest, and its p-value before adjustment."""
    largest = max(range(rows.size), key=lambda k: rows.counts[k])
    share = [n / rows.num for n in rows.counts] if prior is None else prior
    span, out = rows.t[-1] - rows.t[0], []
    others = [k for k in range(rows.size) if k != largest]
    p = [permuted(survivals(rows, k), survivals(rows, largest)) for k in others]
    adjusted = list(zip(*(holm([limits[side] for limits in p]) for side in (0, 1)), strict=True))
    names = labels.split()
    for k, told in zip(others, adjusted, strict=True):
        a, b = survivals(rows, k), survivals(rows, largest)
        gap, value = stats.ttest_ind(a, b, equal_var=False), float(np.mean(a) - np.mean(b))
        limits = gap.confidence_interval(0.95)
        if told[0] > 0.05:
            signs = [signed(v) for v in (value, limits.low, limits.high)]
            words = (
                f"{names[k]} and {names[largest]} are not shown to be lost at different noise "
                f"(p = {{}}); the difference in noise survived is {signs[0]} ({signs[1]} to "
                f"{signs[2]}) in t."
            )
            out.append(((words, [told, value, limits.low, limits.high]), told))
            continue
        assert told[1] < 0.05
        assert value < 0
        sides = sorted((abs(limits.low), abs(limits.high)))
        words = (
            f"{names[k]} is lost at lower noise than {names[largest]}: its pictures survive {{}} "
            "({} to {}) less in t (p = {}). "
        )
        numbers: list[Any] = [-value, *sides, told]
        slopes, above = [], []
        for part, w in ((a, share[k]), (b, share[largest])):
            above.append([(x - w * span) / (1 - w) for x in part])
            slopes.append((np.mean(part) - span) / (1 - w) ** 2)
        x, y = share[k], share[largest]
        extra = 0.0
        if prior is None:
            extra = (
                slopes[0] ** 2 * x * (1 - x) + slopes[1] ** 2 * y * (1 - y)
                + 2 * slopes[0] * slopes[1] * x * y
            ) / rows.num  # fmt: skip
        test = stats.ttest_ind(above[0], above[1], equal_var=False)
        variance = sum(np.var(part, ddof=1) / len(part) for part in above)
        value = float(np.mean(above[0]) - np.mean(above[1]))
        half = stats.t.ppf(0.975, test.df) * math.sqrt(variance + extra)
        if value - half <= 0 <= value + half:
            claim = words + "The sizes of the two groups can account for that.", numbers
        else:
            signs = [signed(v) for v in (value, value - half, value + half)]
            claim = (
                words + "More than the sizes of the two groups account for: "
                f"{signs[0]} ({signs[1]} to {signs[2]}).",
                [*numbers, value, value - half, value + half],
            )
        out.append((claim, told))
    return out


def signed(value: float) -> str:
    return "+{}" if value > 0 else "{}"


def flows(rows: Rows) -> tuple[dict[tuple[int, int, int], np.ndarray], float]:
    """What every source adds to each net flow, and the p-value of all under random signs."""
    found = {}
    for level in range(len(rows.t)):
        for i in range(rows.size):
            for j in range(i + 1, rows.size):
                moved = np.array(
                    [
                        (own == i and after[level] == j) - 1.0 * (own == j and after[level] == i)
                        for own, after in zip(rows.before, rows.after, strict=True)
                    ]
                )
                if np.count_nonzero(moved) >= 10:
                    found[level, i, j] = moved
    table = np.stack(list(found.values()), axis=1)
    scale = np.sqrt((table**2).sum(axis=0))
    seen = np.abs(table.sum(axis=0)) / scale
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size=(4000, rows.num))
    largest = np.abs(signs @ table / scale).max(axis=1)
    return found, float(np.mean(largest >= seen.max() - 1e-9))


def student(values: Any) -> tuple[float, float, float]:
    mean, num = float(np.mean(values)), len(values)
    half = stats.t.ppf(0.975, num - 1) * float(np.std(values, ddof=1)) / math.sqrt(num)
    return mean, mean - half, mean + half


def audited(tmp_path: Path, config: dict[str, Any], **parts: Any) -> Path:
    config = {**config, "run": {"out": str(tmp_path), "images": 0, "batch_size": 75}}
    run_experiment(parse_config(config), out=tmp_path, **parts)
    return tmp_path


def check_all(section: Any, claims: list[Claim]) -> int:
    """Check all sentences; and those without chance in them against planted mistakes."""
    sentences = [section.answer, *section.details, *section.limits]
    claims = [*claims, *((text, ()) for text in LIMITS)]
    check(sentences, claims)
    fixed = [
        (sentence, claim)
        for sentence, claim in zip(sentences, claims, strict=True)
        if not any(isinstance(number, tuple) for number in claim[1])
    ]
    return check_and_plant([s for s, _ in fixed], [claim for _, claim in fixed])


def test_images_of_another_law(tmp_path: Path) -> None:
    folder = audited(
        tmp_path / "run",
        {
            "model": {"name": "mixture", "mixture": THREE},
            "sources": {"kind": "generated", "count": 150},
            "levels": {"unit": "t", "values": [0.5, 1.1, 1.6, 2.2, 3.2]},
            "feature": [{"name": "component"}],
        },
        model=Skewed(load_model("mixture", mixture=THREE)),
    )
    audit = audit_fairness_run(folder, attribute="component")
    rows = Rows(folder, "component", 3)
    assert rows.counts[0] > 100
    gaps = lost_first(rows, "a b c", list(PRIOR))
    found, p = flows(rows)
    assert p == 0.0
    best = max(found.values(), key=lambda moved: abs(float(moved.mean())))
    level, i, j = next(key for key, moved in found.items() if moved is best)
    net = float(best.mean())
    way = ("a", "b", "c")[i if net > 0 else j], ("a", "b", "c")[j if net > 0 else i]
    sides = sorted(abs(x) for x in student(best)[1:])
    least = [min(told[k] for _, told in gaps) for k in (0, 1)]
    claims: list[Claim] = [
        answer(rows, "component", "no condition", "a b c", "< 0.001"),
        by_group(rows, "a b c"),
        (
            "Shares are not corrected for the labeller's errors: how often the labeller errs is "
            "unknown.",
            (),
        ),
        decided(rows, PRIOR),
        *(claim for claim, _ in gaps),
        (
            f"Noised and generated again, more pictures turn from {way[0]} to {way[1]} than back: "
            "{} % of all at t = {} ({} % to {} %; p < 0.001). An exact generation would have no "
            "such flow.",
            [100 * abs(net), rows.t[level], *percents(*sides)],
        ),
        (
            "Adjusted for having asked {} questions: for the shares p = {}, for which group is "
            "lost first p = {}, for who turns into whom p = {}.",
            [3, 3 / 2000, (least[0], 2 * least[1]), 3 / 2000],
        ),
        ("Not told (interventions): no run of interventions was given.", ()),
    ]
    assert check_all(audit.section(), claims) >= 20


def decided(rows: Rows, prior: Any) -> Claim:
    """From kept .9 to .1: a falling fit of the levels, a cubic through four of them."""
    chance = sum(w * w for w in prior)
    stay = []
    for level in range(len(rows.t)):
        by_label = [
            np.mean(
                [a[level] == k for b, a in zip(rows.before, rows.after, strict=True) if b == k]
            )
            for k in range(rows.size)
        ]
        stay.append(float(np.dot(prior, by_label)))
    kept = [(s - chance) / (1 - chance) for s in stay]
    fit = optimize.isotonic_regression(kept, increasing=False).x
    x = [math.log(math.expm1(2 * t)) for t in rows.t]
    uneven = [float(np.std(np.diff(axis)) / np.mean(np.diff(axis))) for axis in (x, rows.t)]
    assert uneven[0] < uneven[1]  # the axis on which levels are closer to even: minus logsnr
    crossings = []
    for value in (0.1, 0.9):
        at = max(
            z
            for k in range(len(fit) - 1)
            for z in np.linspace(x[k], x[k + 1], 501)
            if cubic(x, fit, k, float(z)) >= value
        )
        t = 0.5 * math.log1p(math.exp(at))
        crossings.append((t - 0.012, t + 0.012))
    return "component is decided between t = {} (much noise) and t = {}.", crossings


def cubic(x: list[float], y: Any, k: int, at: float) -> float:
    nodes = range(max(k - 1, 0), min(k + 3, len(x)))
    return sum(
        float(y[a]) * math.prod((at - x[b]) / (x[a] - x[b]) for b in nodes if b != a)
        for a in nodes
    )


def test_one_condition_with_interventions(tmp_path: Path) -> None:
    shared = {
        "model": {"name": "mixture", "mixture": TWO},
        "sources": {"kind": "generated", "count": 150, "conditions": ["b"]},
        "feature": [{"name": "row"}, {"name": "side"}],
    }
    parts = {"model": load_model("mixture", mixture=TWO), "features": [ROW, SIDE]}
    levels = {"unit": "t", "values": [0.1, 0.3, 0.6, 1.0, 1.6]}
    first = audited(tmp_path / "one", {**shared, "levels": levels}, **parts)
    arms = [
        {"name": "late", "segments": [{"from": 0.6, "condition": "none"}]},
        {"name": "everywhere", "segments": [{"condition": "none"}]},
        {"name": "other", "segments": [{"condition": "a"}]},
    ]
    experiment = {"name": "intervene", "arm": arms}
    second = audited(tmp_path / "two", {**shared, "experiment": experiment}, **parts)
    errors = ErrorMatrix(
        feature="row", labels=("low", "high"), counts=np.array([[190, 10], [4, 96]]),
        abstained=np.zeros(2, dtype=int),
    )  # fmt: skip
    audit = audit_fairness_run(
        first, attribute="row", interventions=second, errors=errors, largest_loss=1.0
    )
    rows = Rows(first, "row", 2)
    ((gap, told),) = lost_first(rows, "low high", None)
    _, p = flows(rows)
    half = 5 * math.sqrt(p * (1 - p) * (1 / 1999 + 1 / 4000))
    drift = (p - half, p + half)
    claims: list[Claim] = [
        answer(rows, "row", "the condition “b”", "low high", "< 0.001"),
        by_group(rows, "low high"),
        corrected(rows, errors.counts),
        gap,
        (
            "Noised and generated again, as many pictures turn into a group as leave it, as far "
            "as {} pictures tell (p = {}).",
            [rows.num, drift],
        ),
        (
            "Adjusted for having asked {} questions: for the shares p < 0.001, for which group is "
            "lost first p = {}, for who turns into whom p = {}.",
            [3, tuple(2 * x for x in told), drift],
        ),
        recommended(Rows(second, "row", 2)),
        lost_by(Rows(second, "row", 2), "everywhere", 1.0)[0],
    ]
    assert check_all(audit.section(), claims) >= 20


def test_what_the_recommended_arm_loses_is_told_against_what_is_allowed(tmp_path: Path) -> None:
    arms = [
        {"name": f"from {t}", "segments": [{"from": t, "condition": "none"}]}
        for t in (1.9, 2.2, 2.5, 2.8)
    ]
    folder = audited(
        tmp_path / "run",
        {
            "model": {"name": "mixture", "mixture": TWO},
            "sources": {"kind": "generated", "count": 150, "conditions": ["b"]},
            "feature": [{"name": "row"}, {"name": "side"}],
            "experiment": {"name": "intervene", "arm": arms},
        },
        model=load_model("mixture", mixture=TWO),
        features=[ROW, SIDE],
    )
    rows, begun, planted = Rows(folder, "row", 2), set(), 0
    for arm in arms:  # each is just allowed by what it loses on the half that chooses
        _, allowed, _ = lost_by(rows, str(arm["name"]), 1.0)
        found = audit_fairness_run(
            folder, attribute="row", largest_loss=allowed + 1e-9, keep=False
        ).interventions
        assert found is not None
        if found.recommended is None:
            continue
        claims = [
            recommended(rows, allowed + 1e-9),
            lost_by(rows, found.recommended.arm, allowed)[0],
        ]
        planted += check_and_plant([_arm_words(found), *_loss_words(found)], claims)
        begun.add(found.loss_verdict)
    assert "exceeds" in begun
    assert planted >= 20


def lost_by(rows: Rows, arm: str, allowed: float) -> tuple[Claim, float, float]:
    """What an arm loses on every second source, and on the others; and what is said of it."""
    readings = rows.arms["intervene:" + arm]
    halves = []
    for start in (0, 1):
        names = rows.names[start::2]
        before = [float(rows.readings[s]["side"]["label"] == 1) for s in names]
        after = [float(readings[s]["features"]["side"]["label"] == 1) for s in names]
        halves.append(student([b - a for b, a in zip(before, after, strict=True)]))
    value, low, high = halves[1]
    numbers = [100 * x for x in (value, low, high, allowed)]
    words = (
        "he loss of pictures that show the condition, measured on that other half, is {} points "
        "[{}, {}]"
    )
    if value > allowed:
        rest = "" if low > allowed else ", though its interval includes less"
        words = "Warning: t" + words + ", more than the {} points that are allowed" + rest
    elif high > allowed:
        words = "Note: t" + words + ": not more than the {} points that are allowed, but its "
        words += "interval includes more"
    else:
        words = "T" + words + ": within the {} points that are allowed"
    return (words + ".", numbers), halves[0][0], value


def corrected(rows: Rows, counts: Any) -> Claim:
    """Shares with the labeller's errors undone: what was said is the truth times the rates."""
    said = np.array(rows.counts) / rows.num
    rates = counts / counts.sum(axis=1, keepdims=True)
    generator = np.random.default_rng(2)
    value = np.linalg.solve(rates.T, said)
    law = generator.dirichlet(np.array(rows.counts) + 0.5, size=20000)
    table = np.stack([generator.dirichlet(row + 0.5, size=20000) for row in counts], axis=2)
    drawn = np.linalg.solve(table, law[..., None])[..., 0]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    words, numbers = [], []
    for k, label in enumerate(("low", "high")):
        words.append(label + " {} % [{}, {}]")
        numbers += [100 * value[k]]
        numbers += [(100 * edge[k] - 0.8, 100 * edge[k] + 0.8) for edge in (low, high)]
    return f"With the labeller's errors undone: {'; '.join(words)}.", numbers


def recommended(rows: Rows, allowed: float = 1.0) -> Claim:
    """The arm that closes most on every other source; its effect on those between them."""
    own = np.eye(2)[rows.before]
    closes, told = {}, {}
    for name, readings in rows.arms.items():
        after = np.eye(2)[[readings[s]["features"]["row"]["label"] for s in rows.names]]
        parts = []
        for state in (own, after):
            halves = [state[1::2], state[::2]]
            inside = halves[1].mean(axis=0) > 0.5
            parts.append(((halves[0] - 0.5) * inside).sum(axis=1))
            # chosen and told on the first half, its own halves in turn
            quarters = [halves[1][::2], halves[1][1::2]]
            parts.append(
                np.mean([
                    ((quarters[q] - 0.5) * (quarters[1 - q].mean(axis=0) > 0.5)).sum(axis=1).mean()
                    * len(quarters[q]) * 2 / len(halves[1]) for q in (0, 1)
                ])
            )  # fmt: skip
        closes[name] = parts[1] - parts[3]
        side = [
            float(readings[s]["features"]["side"]["label"] == 1)
            - float(rows.readings[s]["side"]["label"] == 1)
            for s in rows.names[1::2]
        ]
        told[name] = (parts[0], parts[0] - parts[2], side)
        if lost_by(rows, name.removeprefix("intervene:"), 1.0)[1] > allowed:
            del closes[name]
    best = max(closes, key=lambda name: closes[name])
    before, closed, side = told[best]
    numbers = [100 * x for x in student(closed)]
    lost = [100 * x for x in student(side)]
    signs = [signed(x) for x in (*numbers, *lost)]
    assert lost[2] < 0 < numbers[1]
    return (
        f"Changing the condition in '{best.removeprefix('intervene:')}' alone closes {signs[0]} "
        f"points [{signs[1]}, {signs[2]}] of a gap of {{}} points to equal shares, and changes "
        f"how many pictures show the condition by {signs[3]} points [{signs[4]}, {signs[5]}]; it "
        "was chosen on one half of the pictures, and this is the other half ({}).",
        [*numbers, 100 * float(np.mean(before)), *lost, len(rows.names[1::2])],
    )
