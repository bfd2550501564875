"""What the fairness audit finds on the shipped digits, whose inks were planted.

    OMP_NUM_THREADS=1 python benchmarks/fairness_digits.py

- The law of the ink of every digit, in the main model and in its variants *control* (uniform ink)
  and *reversed*, from the images that ``training/digits/evaluate.py`` counted: against the planted
  table, and against equal shares.
- Images of "1" (80 % red; ``--digit D`` for another) noised and denoised: when each ink is
  decided, which is lost first, and the drift. In a run folder.
- Images of it generated again with another condition inside the window of the ink, before it,
  after it and everywhere. In a second run folder.

Both folders are kept (``--runs``), and a second call goes on with them. Writes
``results/fairness_digits.json`` and ``.md``, for another digit ``fairness_digits-D``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from critwin.audits.altered import step_ratio
from critwin.audits.fairness import FairnessAudit
from critwin.audits.fairness_runs import (
    ARMS,
    arms_around,
    audit_fairness_run,
    decided_between,
)
from critwin.audits.law import attribute_law, exact_limits
from critwin.audits.references import reference_of
from critwin.estimates import plain
from critwin.models.digits.data import DIGIT_LABELS, INK_LABELS, VARIANTS, load_data
from critwin.runs.config import parse_config
from critwin.runs.executor import run_experiment
from critwin.runs.folder import open_run
from critwin.views import transitions_from_records

EVALUATIONS = Path(__file__).parents[1] / "training" / "digits"
TIMES = (0.6, 1.2, 1.6, 2.0, 2.4, 3.0)
DIGIT, INSTEAD, IMAGES, BATCH = "1", "3", 200, 200
LENIENT = 0.15

Array = Any


def counts_of(variant: str) -> tuple[Array, int]:
    """Images of every digit in every ink, and how many of a digit were drawn."""
    name = "evaluation.json" if variant == "main" else f"evaluation-{variant}.json"
    found = json.loads((EVALUATIONS / name).read_text("utf-8"))["conditional"]
    drawn = int(found["per_digit"])
    counts = np.zeros((len(DIGIT_LABELS), len(INK_LABELS)), dtype=np.int64)
    for row, shares in zip(counts, found["ink_table"]["generated"], strict=True):
        # shares of the images that were read, a few less than were drawn
        row[:] = next(
            rounded
            for total in range(drawn, 0, -1)
            if np.allclose(rounded := np.rint(np.array(shares) * total), np.array(shares) * total)
        )
    return counts, drawn


def planted_law(variant: str) -> dict[str, Any]:
    """The audit of every digit of a model, and all digits together."""
    counts, drawn = counts_of(variant)
    planted = load_data(variant).digit_ink  # type: ignore[arg-type]
    target = planted / planted.sum(axis=1, keepdims=True)
    digits, inside, inside_all = [], 0, 0
    for digit, own, law in zip(DIGIT_LABELS, counts, target, strict=True):
        table = dict(zip(INK_LABELS, law.tolist(), strict=True))
        kept = attribute_law(own, INK_LABELS, reference_of(table, INK_LABELS), feature="ink")
        even = attribute_law(own, INK_LABELS, reference_of("uniform", INK_LABELS), feature="ink")
        low, high = exact_limits(own, int(own.sum()), 0.95)
        wide = exact_limits(own, int(own.sum()), 1 - 0.05 / 30)
        inside += int(((low <= law) & (law <= high)).sum())
        inside_all += int(((wide[0] <= law) & (law <= wide[1])).sum())
        spread = 0.5 * float(np.abs(law - 1 / 3).sum())
        digits.append(
            {
                "digit": digit,
                "counts": own.tolist(),
                "shares": (own / own.sum()).tolist(),
                "low": low.tolist(),
                "high": high.tolist(),
                "planted": law.tolist(),
                "p against planted": kept.p_value,
                "verdict against planted": kept.verdict,
                "distance to planted": [kept.tv.value, kept.tv.low, kept.tv.high],
                "p against equal shares": even.p_value,
                "verdict against equal shares": even.verdict,
                "distance to equal shares": [even.tv.value, even.tv.low, even.tv.high],
                "planted distance to equal shares": spread,
                "covers the planted distance": even.tv.covers(spread),
            }
        )
    expected = target * counts.sum(axis=1, keepdims=True)
    square = float(((counts - expected) ** 2 / expected).sum())
    freedom = counts.shape[0] * (counts.shape[1] - 1)
    return {
        "images a digit": drawn,
        "entries inside their 95 % interval": [inside, counts.size],
        "entries inside limits that hold for all 30": [inside_all, counts.size],
        "largest error": float(np.abs(counts / counts.sum(axis=1, keepdims=True) - target).max()),
        "chi2": square,
        "degrees of freedom": freedom,
        "p of all digits": float(stats.chi2.sf(square, freedom)),
        "digits": digits,
    }


def prefix(instead: str) -> str:
    """How the names of arms to a condition begin."""
    return f"to {instead}, "


def text_of(folder: Path, digit: str, images: int, batch: int = BATCH) -> dict[str, Any]:
    """What both runs share."""
    return {
        "run": {"out": str(folder), "seed": 0, "batch_size": min(batch, images), "images": 12},
        "model": {"name": "digits"},
        "sources": {"count": images, "conditions": [digit]},
        "feature": [{"name": "ink"}, {"name": "digit"}],
    }


def decided(folder: Path, digit: str, images: int) -> tuple[float, float]:
    """Measure when the ink of a digit is decided."""
    run_experiment(
        parse_config(
            {**text_of(folder, digit, images), "levels": {"unit": "t", "values": list(TIMES)},
             "denoise": {"condition": "same"}}
        ),
        threads=1,
    )  # fmt: skip
    low, high = decided_between(transitions_from_records(open_run(folder).records(), "ink"))
    return round(low, 2), round(high, 2)


def changed(
    folder: Path, digit: str, instead: str, images: int, window: tuple[float, float]
) -> None:
    """Generate again under the arms: to another digit everywhere, and to no condition."""
    arms = []
    for other, names in ((instead, ARMS), ("none", ARMS[:1])):
        arms += [
            {
                "name": prefix(other) + arm.name,
                "segments": [
                    {
                        "condition": other,
                        **({} if s.t_high == float("inf") else {"from": s.t_high}),
                        **({"to": s.t_low} if s.t_low > 0 else {}),
                    }
                    for s in arm.segments
                ],
            }
            for arm in arms_around(*window, other)
            if arm.name in names
        ]
    run_experiment(
        parse_config(
            {
                **text_of(folder, digit, images, 100),
                "experiment": {"name": "intervene", "arm": arms},
            }
        ),
        threads=1,
    )


def audited(first: Path, second: Path, instead: str) -> dict[str, Any]:
    """Both audits of a digit, and what a step inside the window moves against one outside."""
    even = audit_fairness_run(first, attribute="ink", interventions=second)
    lenient = audit_fairness_run(
        first, attribute="ink", interventions=second, largest_loss=LENIENT, keep=False
    )
    data = audit_fairness_run(first, attribute="ink", reference="data", keep=False)
    found = even.interventions
    assert found is not None
    records = open_run(second).records()
    names = [prefix(instead) + arm for arm in ARMS]
    ratios = {
        what: plain(step_ratio(records, found, names[0], outside))
        for what, outside in (
            ("outside", names[1:3]),
            ("before it", names[1:2]),
            ("after it", names[2:3]),
        )
    }
    return {
        "section": {"answer": even.section().answer, "details": list(even.section().details)},
        "audit": even.as_dict(),
        "at a loss of up to": [LENIENT, " ".join(_told_of_arms(lenient))],
        "against the data": {
            "answer": data.section().answer,
            "law": data.as_dict()["law"],
        },
        "step ratios": ratios,
    }


def _told_of_arms(audit: FairnessAudit) -> list[str]:
    """Sentences on the arm that is recommended, the last ones where nothing is missing."""
    found = audit.interventions
    count = 2 if found is not None and found.loss_verdict is not None else 1
    details = audit.section().details
    return list(details[len(details) - len(set(audit.reasons.values())) - count :][:count])


def text(result: dict[str, Any]) -> str:
    """The result as Markdown."""

    def share(values: list[float | None]) -> str:
        value, low, high = (100 * (v or 0.0) for v in values)
        return f"{value:.1f} [{low:.1f}, {high:.1f}]"

    def triple(estimate: dict[str, Any], factor: float = 1.0, digits: int = 2) -> str:
        if estimate["value"] is None:
            return f"– ({estimate['reason']})"
        ends = [estimate["low"], estimate["high"]]
        told = ["–" if e is None else f"{factor * e:.{digits}f}" for e in ends]
        return f"{factor * estimate['value']:.{digits}f} [{told[0]}, {told[1]}]"

    lines = [
        "# Fairness of the shipped digits",
        "",
        "`OMP_NUM_THREADS=1 python benchmarks/fairness_digits.py`. 95 % intervals; shares and",
        "distances in per cent; distance: total variation.",
        "",
        "## Inks by digit",
        "",
        "Every digit of every model was generated under its own condition. The planted table is",
        "that of the training data, not of what a network learns of it: both tests are told.",
        "",
        "| model | images a digit | entries inside their interval | inside limits for all 30 | "
        "largest error | chi-square, 20 degrees, p | digits flagged against the planted law | "
        "against equal shares |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, law in result["laws"].items():
        flags = [
            " ".join(d["digit"] for d in law["digits"] if d[key] == "differs") or "none"
            for key in ("verdict against planted", "verdict against equal shares")
        ]
        inside, whole = (
            law["entries inside their 95 % interval"],
            law["entries inside limits that hold for all 30"],
        )
        lines.append(
            f"| {name} | {law['images a digit']} | {inside[0]} of {inside[1]} | "
            f"{whole[0]} of {whole[1]} | {100 * law['largest error']:.1f} | "
            f"{law['chi2']:.1f}, {law['p of all digits']:.2g} | {flags[0]} | {flags[1]} |"
        )
    for name, law in result["laws"].items():
        lines += [
            "",
            f"### {name}",
            "",
            "| digit | red, green, blue (planted) | p against planted | distance to equal shares "
            "(planted) | p against equal shares |",
            "| --- | --- | --- | --- | --- |",
        ]
        for d in law["digits"]:
            shares = ", ".join(
                f"{100 * s:.0f} ({100 * p:.0f})"
                for s, p in zip(d["shares"], d["planted"], strict=True)
            )
            lines.append(
                f"| {d['digit']} | {shares} | {d['p against planted']:.2g} | "
                f"{share(d['distance to equal shares'])} "
                f"({100 * d['planted distance to equal shares']:.1f}) | "
                f"{d['p against equal shares']:.2g} |"
            )
    digit, ones = result["digit"], result["ones"]
    largest = max(ones["audit"]["law"]["groups"], key=lambda g: g["count"])["label"]
    audit, found = ones["audit"], ones["audit"]["interventions"]
    lines += [
        "",
        f"## When the ink of a “{digit}” is decided ({result['images']} images)",
        "",
        f"| ink | images | t_after | midpoint | survives more t than {largest} | "
        "beyond its size |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    gaps = {gap["group"]: gap for gap in audit["groups"]["gaps"]}
    for w in audit["groups"]["windows"]:
        gap = gaps.get(w["label"])
        more = ["–", "–"] if gap is None else [triple(gap[k]) for k in ("survival", "beyond_size")]
        lines.append(
            f"| {w['label']} | {w['num_sources']} | {triple(w['t_after']['t'])} | "
            f"{triple(w['midpoint']['t'])} | {more[0]} | {more[1]} |"
        )
    low, high = result["window"]
    lines += [
        "",
        *(f"- {line}" for line in [ones["section"]["answer"], *ones["section"]["details"]]),
        f"- {ones['against the data']['answer']}",
        "",
        f"## Where to intervene: the window is t = {low} to {high}",
        "",
        f"Generations of “{digit}” ({result['generations']} an arm) from the same noise with "
        "another condition on a stretch; every arm costs the same.",
        "",
        "| arm | steps | law moved | per step | gap closed | gap closed per step | "
        f"read as {digit} | change |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {arm['arm']} | {arm['altered_steps']} | {100 * arm['moved']:.1f} | "
        f"{100 * arm['moved_per_step']:.2f} | {triple(arm['closed'], 100, 1)} | "
        f"{triple(arm['closed_per_step'], 100)} | {100 * arm['fidelity']:.0f} | "
        f"{triple(arm['fidelity_change'], 100, 0)} |"
        for arm in found["arms"]
    ]
    lost, words = ones["at a loss of up to"]
    lines += [
        "",
        f"Where a loss of up to {100 * lost:.0f} points is accepted: {words}",
        "",
        "A step inside the window moves the law of the ink, against a step",
        "",
        *(f"- {k}: {triple(v, 1, 1)} times as much" for k, v in ones["step ratios"].items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--digit", choices=DIGIT_LABELS, default=DIGIT)
    parser.add_argument("--instead", choices=DIGIT_LABELS, help="3, or 1 for the 3, unless given")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--generations", type=int, default=IMAGES, help="of an arm")
    parser.add_argument("--runs", type=Path, default=Path("build/fairness_digits"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    choices = parser.parse_args()
    begun = time.process_time()
    digit = choices.digit
    instead = choices.instead or (INSTEAD if digit != INSTEAD else DIGIT)
    if instead == digit:
        parser.error(f"--instead {instead} is the digit itself; choose another one")
    choices.runs.mkdir(parents=True, exist_ok=True)
    name = "ones" if digit == DIGIT else f"digit-{digit}"
    first, second = choices.runs / name, choices.runs / f"{name}-interventions"
    low, high = decided(first, digit, choices.images)
    print(f"ink window t = {low} to {high}, {time.process_time() - begun:.0f} s", flush=True)
    changed(second, digit, instead, choices.generations, (low, high))
    print(f"arms, {time.process_time() - begun:.0f} s", flush=True)
    result = {
        "what": "fairness audit of the shipped digits; t is OU time",
        "digit": digit,
        "instead": instead,
        "images": choices.images,
        "generations": choices.generations,
        "window": [low, high],
        "laws": {variant: planted_law(variant) for variant in VARIANTS},
        "ones": audited(first, second, instead),
    }
    stem = "fairness_digits" if digit == DIGIT else f"fairness_digits-{digit}"
    (choices.out / f"{stem}.json").write_text(
        json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )
    (choices.out / f"{stem}.md").write_text(text(result), encoding="utf-8")
    print(text(result))


if __name__ == "__main__":
    main()
