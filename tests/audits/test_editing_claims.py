"""Every number that editing advice says or tabulates, computed again from the ledger's rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from claims import Claim, check_and_plant, ledger_rows
from scipy import stats

from critwin.audits.editing import Advice, advise
from critwin.features.function import FunctionFeature
from critwin.models.registry import load_model
from critwin.runs.config import parse_config
from critwin.runs.executor import run_experiment
from critwin.runs.folder import open_run

T = (0.3, 0.7, 1.0, 1.3, 1.8, 2.6)
NAMES = ("a", "b", "c", "d")
MEANS = ((-6.0, -1.3), (-6.0, 1.3), (6.0, -1.3), (6.0, 1.3))
WEIGHTS = (0.1, 0.2, 0.3, 0.4)
MIXTURE = {
    "component": [
        {"name": name, "weight": weight, "mean": list(mean)}
        for name, weight, mean in zip(NAMES, WEIGHTS, MEANS, strict=True)
    ]
}

Event = Callable[[dict[str, int], dict[str, int]], bool]
Triple = tuple[float, float, float]


def above(column: int) -> Callable[[Any], Any]:
    return lambda points: (np.asarray(points)[:, column] > 0).astype(np.int64)


FEATURES = [
    FunctionFeature(name="side", labels=("left", "right"), function=above(0), version="1"),
    FunctionFeature(name="row", labels=("low", "high"), function=above(1), version="1"),
]


def start(folder: Path, *, sources: int, replicates: int, features: Any = FEATURES) -> Path:
    names = [{"name": "side"}, {"name": "row"}] if features else []
    if not features:
        names = [{"name": "component"}, {"name": "component", "called": "again"}]
    config = parse_config(
        {
            "run": {"out": str(folder), "images": 0},
            "model": {"name": "mixture", "mixture": MIXTURE},
            "sources": {"kind": "generated", "count": sources},
            "levels": {"unit": "t", "values": list(T)},
            "experiment": {"name": "forward_reverse", "replicates": replicates},
            "feature": names,
        }
    )
    options = {"model": load_model("mixture", mixture=MIXTURE), "features": features}
    run_experiment(config, out=folder, **(options if features else {}))
    return folder


class Oracle:
    """Rates of edits from the rows of a ledger."""

    def __init__(self, folder: Path, kept: Event, changed: Event, counts: Event) -> None:
        sources, units = ledger_rows(folder)
        before = {row["name"]: labels(row["reading"]) for row in sources}
        self.before = list(before.values())
        self.times = sorted({u_time(u["logsnr"]) for u in units})
        self.events: dict[str, dict[str, dict[float, list[bool]]]] = {
            key: {} for key in ("kept", "changed", "both")
        }
        owners = sorted(name for name in before if counts(before[name], before[name]))
        self.num_outside = len(before) - len(owners)
        self.is_one = len(owners) == 1
        for unit in units:
            if unit["source"] not in owners:
                continue
            t = min(self.times, key=lambda s, u=unit: abs(s - u_time(u["logsnr"])))
            now, then = labels(unit["reading"]["features"]), before[unit["source"]]
            said = {"kept": kept(then, now), "changed": changed(then, now)}
            said["both"] = said["kept"] and said["changed"]
            owner = str(unit["replicate"]) if self.is_one else unit["source"]
            for key, yes in said.items():
                self.events[key].setdefault(owner, {}).setdefault(t, []).append(yes)
        self.owners = sorted(self.events["both"])

    def fresh_change(self, changed: Event) -> float:
        """Share of pairs of samples that differ, as a source and a fresh sample would."""
        pairs = [changed(a, b) for a in self.before for b in self.before]
        return sum(pairs) / len(pairs)

    def rates(self, key: str, owners: Sequence[str], confidence: float = 0.95) -> list[Triple]:
        """Share and limits at every level; each source counts once."""
        shares, variances, units = [], [], []
        for t in self.times:
            own = [self.events[key][name][t] for name in owners]
            means = [sum(e) / len(e) for e in own]
            share = sum(means) / len(means)
            variances.append(sum((m - share) ** 2 for m in means) / (len(means) - 1) / len(means))
            shares.append(share)
            units.append(sum(len(e) for e in own))
        return limits(shares, variances, len(owners), units, confidence)


def labels(reading: dict[str, Any]) -> dict[str, int]:
    return {name: item["label"] for name, item in reading.items()}


def u_time(logsnr: float) -> float:
    """OU time: the squared signal is ``exp(-2 t)``."""
    return 0.5 * math.log1p(math.exp(-logsnr))


def limits(
    shares: list[float], variances: list[float], num: int, units: list[int], confidence: float
) -> list[Triple]:
    """Clopper–Pearson with an effective size: design effects shrunk to the curve's where few."""
    alpha = (1 - confidence) / 2
    base = [max(p * (1 - p), 1e-300) / n for p, n in zip(shares, units, strict=True)]
    few = [min(p, 1 - p) * n for p, n in zip(shares, units, strict=True)]
    curve = sum(variances) / sum(base) if sum(few) >= 10 else math.inf
    shrink = (stats.norm.isf(alpha) / stats.t.isf(alpha, num - 1)) ** 2
    out = []
    for p, v, b, m, n in zip(shares, variances, base, few, units, strict=True):
        effect = (m * v / b + 10 * min(curve, n / num)) / (m + 10)
        size = min(n * shrink / max(effect, 1e-300), n)
        x = p * size
        low = 0.0 if x <= 0 else float(stats.beta.isf(1 - alpha, x, size - x + 1))
        high = 1.0 if x >= size else float(stats.beta.isf(alpha, x + 1, size - x))
        out.append((p, low, high))
    return out


def sd15(step: int, steps: int = 25) -> float:
    """OU time before a step of DDIM with Stable Diffusion 1's schedule."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return float(-0.5 * np.log(1 - betas)[: (steps - 1 - step) * (1000 // steps) + 2].sum())


def middle_strength(step: int, steps: int = 25) -> float:
    """The shortest decimal in the middle half of the strengths that leave out so many steps."""
    middle = (steps - step + 0.5) / steps
    return next(
        value
        for value in (round(middle, digits) for digits in range(1, 9))
        if abs(value - middle) <= 0.25 / steps
    )


def percent(*rates: Triple) -> list[float]:
    return [100 * value for rate in rates for value in rate]


SHARE = "{}% [{}%, {}%]"


def claims_of(
    oracle: Oracle, advice: Advice, keep: str, change: str, full: float, source: str
) -> list[Claim]:
    """What the advice must say."""
    owners, least = oracle.owners, min(full / 2, 1.0)
    whole = {key: oracle.rates(key, owners) for key in oracle.events}
    first, second = owners[::2], owners[1::2]
    good = [does(whole, j, 0, least) for j in range(len(oracle.times))]
    chosen = {key: oracle.rates(key, first) for key in oracle.events}
    rank = [(does(chosen, j, 0, least), chosen["both"][j][0]) for j in range(len(oracle.times))]
    at = rank.index(max(rank))
    told = {key: oracle.rates(key, second)[at] for key in oracle.events}
    t = oracle.times
    rates = f"{SHARE} of edits from t = {{}} keep {keep} and change {change} ({SHARE} keep, "
    rates += f"{SHARE} change)."
    numbers = [
        *percent(told["both"]), t[at], *percent(told["kept"]), *percent(told["changed"]),
    ]  # fmt: skip
    is_inside = good[at] and does({key: [rate] for key, rate in told.items()}, 0, 2, least)
    assert (advice.interval is not None) == is_inside
    out: list[Claim] = []
    if is_inside:
        low = high = at
        while low > 0 and good[low - 1]:
            low -= 1
        while high + 1 < len(t) and good[high + 1]:
            high += 1
        begun = min(
            s for s, c in zip(t, whole["changed"], strict=True)
            if c[0] >= 0.1 * full and s <= t[high]
        )  # fmt: skip
        edges = [t[low], t[high]] if high > low else [t[low]]
        where = "from t = {} to {}" if high > low else "from t = {}"
        out.append((f"Edit {where}: {rates}", [*edges, *numbers]))
        out.append(
            (
                "Guidance towards the change matters from t = {} down to t = {}: above, it would "
                "also act on what is to be kept; below, the change is decided.",
                [t[high], begun],
            )
        )
        steps = [sd15(k) for k in range(25)]
        inside = [k for k in range(25) if t[low] - 1e-9 <= steps[k] <= t[high] + 1e-9]
        pick = min(inside or range(25), key=lambda k: abs(snr(steps[k]) - snr(t[at])))
        guided = [k for k in range(25) if begun <= steps[k] <= t[high]]
        if advice.starts:
            out.append(
                (
                    "diffusers for sd15, DDIMScheduler, {} steps: strength {}, start step {} "
                    "starts at t = {}"
                    + ("" if inside else ", outside the advised interval")
                    + "; guidance in steps {} to {}.",
                    [
                        25,
                        middle_strength(pick),
                        pick,
                        steps[pick],
                        guided[0],
                        guided[-1],
                    ],
                )
            )
            out.append(
                (
                    "The rates were measured with the reversal “posterior”; DDIMScheduler steps "
                    "otherwise and has rates of its own at the same level: measure again with "
                    "its kind of reversal.",
                    [],
                )
            )
    else:
        tight = 1 - 0.05 / (3 * len(t))
        sure = {key: oracle.rates(key, owners, tight) for key in oracle.events}
        can = any(does(sure, j, 2, least) for j in range(len(t)))
        head = "No level is known that {}; the best tried: " if can else (
            "No level {}; the best compromise: "
        )  # fmt: skip
        wish = f"keeps {keep} in at least {{}}% and changes {change} in at least {{}}% of edits, "
        wish += "and does both in {}%"
        out.append((head.replace("{}", wish) + rates, [80, 100 * least, 80 * least, *numbers]))
    halves = "replicates" if oracle.is_one else "sources"
    who = "of this one image, not of others" if oracle.is_one else "means over the sources"
    out.append(
        (
            f"Rates are {who}. The level was chosen on one half of the {halves}; the rates in "
            "the answer are those of the other half, with {}% limits in brackets.",
            [95],
        )
    )
    out.append(
        (
            f"With nothing of the picture left, {change} would change in {{}}% of edits "
            f"(by {source}).",
            [100 * full],
        )
    )
    out += [
        ("The labels are a labeller's readings; what it does not read may change unseen.", []),
        ("Rates hold for images like the sources, this model, and the way it was reversed "
         "(posterior).", []),
        ("Between the levels that were measured, rates of settings are drawn as a line.", []),
    ]  # fmt: skip
    if advice.starts:
        out.append(("Values of ComfyUI and A1111 are our reading of their sources.", []))
    if oracle.num_outside:
        out.append(
            (
                "{} sources are left out: without a label, or not of those asked.",
                [oracle.num_outside],
            )
        )
    return out


def does(rates: dict[str, list[Triple]], level: int, part: int, least: float) -> bool:
    """Whether the shares, or with part 2 their upper limits, are as wanted."""
    bounds = {"kept": 0.8, "changed": least, "both": 0.8 * least}
    return all(rates[key][level][part] >= bound for key, bound in bounds.items())


def snr(t: float) -> float:
    """Log of the signal-to-noise ratio at an OU time."""
    return -math.log(math.expm1(2 * t))


def sentences(advice: Advice) -> list[str]:
    section = advice.section()
    return [section.answer, *section.details, *section.limits]


def check_table(oracle: Oracle, advice: Advice) -> None:
    """The table and the figure hold the rates of all sources."""
    section = advice.section()
    table = next(t for t in section.tables if t.name == "editing-rates")
    whole = {key: oracle.rates(key, oracle.owners) for key in oracle.events}
    for i, row in enumerate(table.rows):
        wanted = [value for key in whole for value in whole[key][i]]
        np.testing.assert_allclose([row[0], *row[3:]], [oracle.times[i], *wanted], atol=1e-9)
        assert row[2] == len(oracle.owners)
    for series, key in zip(section.figures[0].series, whole, strict=True):
        drawn = np.stack([series.y, series.low, series.high], axis=1)
        np.testing.assert_allclose(drawn, whole[key], atol=1e-9)


def kept_side(then: dict[str, int], now: dict[str, int]) -> bool:
    return then["side"] == now["side"]


def changed_row(then: dict[str, int], now: dict[str, int]) -> bool:
    return then["row"] != now["row"]


@pytest.mark.parametrize(("sources", "replicates"), [(60, 2), (1, 40)])
def test_found(tmp_path: Path, sources: int, replicates: int) -> None:
    folder = start(tmp_path / "run", sources=sources, replicates=replicates)
    advice = advise(open_run(folder).records(), keep=["side"], change=["row"], samplers=["sd15"])
    assert advice.status == "found"
    oracle = Oracle(folder, kept_side, changed_row, lambda *_: True)
    if sources > 1:  # the sources are fresh samples
        full, source = oracle.fresh_change(changed_row), "the model's own samples"
    else:
        full = max(rate[0] for rate in oracle.rates("changed", oracle.owners))
        source = "the level at which it changes most"
    claims = claims_of(oracle, advice, "the side", "the row", full, source)
    assert check_and_plant(sentences(advice), claims) >= 20
    check_table(oracle, advice)


def test_labels_asked_for_and_the_model_s_own_law(tmp_path: Path) -> None:
    folder = start(tmp_path / "run", sources=150, replicates=1, features=None)
    advice = advise(open_run(folder).records(), keep=["component=c,d"], change=["again=a,b"])
    # of what reads the same nothing is changed and kept at once, often as either may happen
    assert advice.status == "none"
    assert any(rate.kept[0] >= 0.8 and rate.changed[0] >= 0.15 for rate in advice.rates)
    oracle = Oracle(
        folder,
        lambda _, now: now["component"] in (2, 3),
        lambda _, now: now["again"] in (0, 1),
        lambda then, _: then["component"] in (2, 3),
    )
    full = np.mean([then["again"] in (0, 1) for then in oracle.before])
    claims = claims_of(
        oracle,
        advice,
        "the component (c, d)",
        "the again (a, b)",
        float(full),
        "the model's own samples",
    )
    assert oracle.num_outside > 20
    assert check_and_plant(sentences(advice), claims) >= 10
    check_table(oracle, advice)
