"""What the privacy audit finds on the shipped digits, whose members and repeats are known.

    OMP_NUM_THREADS=1 python benchmarks/privacy_digits.py
    OMP_NUM_THREADS=1 python benchmarks/privacy_digits.py --variant control

Scores are collected once, in small files that a second run reads (``--cache``), for

- 1,000 non-members, the 30 repeated images (10 each at 4x, 16x, 64x) and 500 members seen once:
  the denoising loss at six levels;
- 300 non-members, the repeated images and 300 members seen once: four noises of the loss, and
  forward–reverse at three levels; 128, 30 and 98 of them: PIA and SecMI, so that all can be
  compared at equal network evaluations;
- all 4,000 training images and the non-members: the forward–reverse return at two
  levels, to find the repeated images among them.

Of a variant of the model less is measured: the loss with one noise, and (unless ``--stage
loss_few``) the return, of the 630 images of the second line above. ``reversed`` repeats the images
that the main data repeat, in inks of its own choice; ``control`` shows every member once, so that
nothing should be found in the rows of the doses, which are then those of the main data.

Writes ``results/privacy_digits.json`` and ``.md``, a part for each variant.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import privacy_tables as tables
import torch

from critwin.audits._scores import Scores
from critwin.audits.attacks import Asked, ask, forward_reverse_scores
from critwin.features.neighbours import Neighbours
from critwin.levels import logsnr_of_ou_time
from critwin.models.digits import load_digits
from critwin.models.digits.data import VARIANTS, DigitsData, load_data

LOSS_T = (0.1, 0.25, 0.5, 0.8, 1.2, 1.8)
RETURN_T = (0.5, 0.9, 1.4)
SEARCH_T = (0.5, 0.9)
LOSS_REPLICATES = 4
STEPS = 8
CHUNK = 64

Array = Any


def parts(data: DigitsData) -> dict[str, Array]:
    """Rows of the digits: repeated, once, non-members, in a fixed random order."""
    order = np.random.default_rng(0).permutation(len(data))
    once = order[data.multiplicity[order] == 1]
    outside = order[~data.is_member[order]]
    repeated = np.flatnonzero(data.multiplicity > 1)
    return {
        "few": np.concatenate([repeated, once[:300], outside[:300]]),
        "fewer": np.concatenate([repeated, once[:98], outside[:128]]),
        "more": np.concatenate([once[300:500], outside[300:]]),
        "rest": once[500:],
    }


def snap(model: Any, times: tuple[float, ...]) -> Array:
    """The model's levels nearest to some OU times."""
    grid = np.asarray(model.levels)
    return np.array([grid[np.abs(grid - float(logsnr_of_ou_time(t))).argmin()] for t in times])


def doses_of(variant: Any) -> Array:
    """Times that each image is shown; for the control, that the main data show it."""
    return load_data("main" if variant == "control" else variant).multiplicity


class Collector:
    """Scores of rows of the digits, chunk by chunk, each kept in a file."""

    def __init__(self, cache: Path, variant: Any) -> None:
        self.model = load_digits(variant=variant, part="all")
        self.data = replace(self.model.data, multiplicity=doses_of(variant))
        self.is_main = variant == "main"
        self.cache = cache
        self.pool = Neighbours((self.data.render(np.arange(len(self.data))) + 1.0) / 2.0)
        cache.mkdir(parents=True, exist_ok=True)

    def collect(
        self, tag: str, rows: Array, measure: Callable[[Asked], list[Scores]]
    ) -> dict[str, Scores]:
        """Measure what is not there yet."""
        found: dict[str, list[Scores]] = {}
        for start in range(0, len(rows), CHUNK):
            file = self.cache / f"{tag}_{start:05d}.npz"
            chunk = rows[start : start + CHUNK]
            if not file.exists():
                begun = time.monotonic()
                images = Asked(
                    torch.from_numpy(self.data.render(chunk)),
                    names=[f"d{row:06d}" for row in chunk],
                )
                scores = measure(images)
                arrays = {
                    f"{i}:{name}": getattr(score, name)
                    for i, score in enumerate(scores)
                    for name in ("kind", "logsnr", "values", "evaluations", "shared")
                }
                partial = file.with_suffix(".part.npz")
                np.savez(partial, **arrays)
                partial.rename(file)
                print(f"{tag} {start}: {time.monotonic() - begun:.0f} s", flush=True)
            with np.load(file) as archive:
                for i in range(len(archive.files) // 5):
                    kind = str(archive[f"{i}:kind"])
                    found.setdefault(kind, []).append(
                        Scores(
                            kind=kind,
                            logsnr=archive[f"{i}:logsnr"],
                            values=archive[f"{i}:values"],
                            evaluations=archive[f"{i}:evaluations"],
                            shared=int(archive[f"{i}:shared"]),
                        )
                    )
        return {
            kind: Scores(
                kind=kind,
                logsnr=scores[0].logsnr,
                values=np.concatenate([score.values for score in scores]),
                evaluations=scores[0].evaluations,
                shared=scores[0].shared,
            )
            for kind, scores in found.items()
        }

    def loss(self, tag: str, rows: Array, replicates: int) -> dict[str, Scores]:
        """Denoising loss."""
        levels = snap(self.model, LOSS_T)
        return self.collect(
            tag,
            rows,
            lambda images: list(
                ask(self.model, images, levels, attacks=("loss",), replicates=replicates).values()
            ),
        )

    def baselines(self, tag: str, rows: Array) -> dict[str, Scores]:
        """PIA and SecMI."""
        levels = snap(self.model, LOSS_T)
        return self.collect(
            tag,
            rows,
            lambda images: list(
                ask(self.model, images, levels, attacks=("pia", "secmi")).values()
            ),
        )

    def returns(self, tag: str, rows: Array, times: tuple[float, ...]) -> dict[str, Scores]:
        """Forward–reverse, and where the results lie among all digits."""
        levels = snap(self.model, times)
        return self.collect(
            tag,
            rows,
            lambda images: forward_reverse_scores(
                self.model, images, levels, [self.pool], steps=STEPS
            ),
        )


def collect(collector: Collector, which: str) -> dict[str, dict[str, Scores]]:
    """All stages, or one process's share of them."""
    rows = parts(collector.data)
    stages: dict[str, Callable[[], dict[str, Scores]]] = {
        "loss_few": lambda: collector.loss("loss_few", rows["few"], LOSS_REPLICATES),
        "returns_few": lambda: collector.returns("returns_few", rows["few"], RETURN_T),
        "loss_more": lambda: collector.loss("loss_more", rows["more"], 1),
        "baselines_few": lambda: collector.baselines("baselines_few", rows["fewer"]),
        "returns_more": lambda: collector.returns("returns_more", rows["more"], SEARCH_T[1:]),
        "returns_rest": lambda: collector.returns("returns_rest", rows["rest"], SEARCH_T[1:]),
        "low_more": lambda: collector.returns("low_more", rows["more"], SEARCH_T[:1]),
        "low_rest": lambda: collector.returns("low_rest", rows["rest"], SEARCH_T[:1]),
    }
    if not collector.is_main:
        stages = {
            "loss_few": lambda: collector.loss("loss_few", rows["few"], 1),
            "returns_few": lambda: collector.returns("returns_few", rows["few"], SEARCH_T),
        }
    mine = list(stages) if which == "all" else which.split(",")
    return {name: stages[name]() for name in mine}


def closeness(returns: dict[str, Scores]) -> Scores:
    """``ln(crowd distance / distance to the home)`` as a score."""
    distance = returns["forward-reverse neighbours.distance"]
    crowd = returns["forward-reverse neighbours.crowd_distance"]
    return Scores(
        kind="forward-reverse closeness",
        logsnr=distance.logsnr,
        values=np.log(crowd.values / distance.values),
        evaluations=distance.evaluations,
    )


def conclude(data: DigitsData, found: dict[str, dict[str, Scores]]) -> dict[str, Any]:
    """All tables."""
    rows = parts(data)
    order = np.concatenate([rows["few"], rows["more"]])
    many = data.multiplicity[order]
    loss = tables.joined(found["loss_few"]["loss"], found["loss_more"]["loss"])
    where = {int(index): i for i, index in enumerate(rows["few"])}
    fewer = np.array([where[int(index)] for index in rows["fewer"]])
    attacks = {
        "loss": found["loss_few"]["loss"].rows(fewer),
        "pia": found["baselines_few"]["pia"],
        "secmi": found["baselines_few"]["secmi"],
        "forward-reverse pixels": found["returns_few"]["forward-reverse pixels"].rows(fewer),
        "closeness": closeness(found["returns_few"]).rows(fewer),
    }
    few_many = data.multiplicity[rows["fewer"]]
    everyone = np.concatenate([rows["few"], rows["more"], rows["rest"]])
    returns = [
        tables.joined(
            found["returns_few"][kind],
            *(tables.stacked(found[low][kind], found[high][kind]) for low, high in RETURNS),
        )
        for kind in found["returns_few"]
    ]
    once = np.zeros(len(many), dtype=bool) | (many == 1)
    return {
        "t": {"loss": list(LOSS_T), "return": list(RETURN_T), "search": list(SEARCH_T)},
        "search_logsnr": [float(level) for level in returns[0].logsnr],
        "blind": tables.blind(data, order),
        "doses": tables.doses(loss, many, tables.looks(data, order), tables.predictions(data)),
        "equal_cost": {
            "64x": tables.equal_cost(attacks, few_many, few_many == 64),
            "repeated": tables.equal_cost(attacks, few_many, few_many > 1),
            "once": tables.equal_cost(attacks, few_many, few_many == 1),
        },
        "memorised": tables.memorised(data, returns, everyone, (0.1, 0.2)),
        "null": tables.null(loss, np.flatnonzero(many == 0), 200),
        "adaptive": {
            "once": tables.adaptive(loss, many, once, 10),
            "repeated": tables.adaptive(loss, many, many > 1, 10),
        },
    }


def conclude_variant(
    data: DigitsData, shown: Array, found: dict[str, dict[str, Scores]]
) -> dict[str, Any]:
    """The tables of a variant; ``shown`` is how often it was shown each image."""
    rows = parts(data)
    order = rows["few"]
    many = data.multiplicity[order]
    loss = found["loss_few"]["loss"]
    predicted = tables.predictions(data, shown)
    returns = list(found.get("returns_few", {}).values())
    return {
        "t": {"loss": list(LOSS_T), "search": list(SEARCH_T)},
        "is_repeated": bool((shown > 1).any()),
        "blind": tables.blind(data, order),
        "doses": tables.doses(loss, many, tables.looks(data, order), predicted),
        "memorised": tables.memorised(data, returns, rows["few"], (0.1, 0.2)) if returns else None,
        "null": tables.null(loss, np.flatnonzero(many == 0), 200),
    }


def number(value: Any, digits: int = 3) -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def times(values: list[float | None]) -> str:
    """Levels that were chosen."""
    return " / ".join(sorted({"all" if t is None else f"{t:.2f}" for t in values}))


def interval(one: dict[str, Any]) -> str:
    """An area with its limits."""
    return f"{number(one['area'])} [{number(one['low'])}, {number(one['high'])}]"


def rate(one: dict[str, Any]) -> str:
    """A true-positive rate with its limits."""
    if one["tpr_1_percent"] is None:
        return str(one["tpr_reason"])
    low, high = number(one["tpr_low"]), number(one["tpr_high"])
    return f"{number(one['tpr_1_percent'])} [{low}, {high}]"


def blind_lines(result: dict[str, Any]) -> list[str]:
    """Baselines."""
    return [
        "## Without the model",
        "",
        "| baseline | area |",
        "| --- | --- |",
        *(f"| {one['kind']} | {interval(one)} |" for one in result["blind"]),
        "",
    ]


def dose_lines(result: dict[str, Any]) -> list[str]:
    """The loss, dose by dose, and over the levels."""
    lines = [
        "## Denoising loss, by dose",
        "",
        "| shown | members | attack | t chosen | area | true positives at 1 % | p, as a set |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for dose in result["doses"]:
        for i, one in enumerate(dose["attacks"]):
            p_value = f"{dose['p_value']:.2g}" if i == 0 else ""
            lines.append(
                f"| {dose['dose']}x | {dose['members']} | {one['kind']} | {times(one['t'])} | "
                f"{interval(one)} | {rate(one)} | {p_value} |"
            )
    lines += [
        "",
        "Where membership shows (limits for all levels together), next to where a perfect memory",
        "of the training data returns 90 %, half and 10 % of these images:",
        "",
        "| shown | "
        + " | ".join(f"t = {t:.2f}" for t in result["doses"][0]["t"])
        + " | best t | window | predicted collapse |",
        "| --- " * (len(result["doses"][0]["t"]) + 4) + "|",
    ]
    for dose in result["doses"]:
        runs = ", ".join(f"{a:.2f}–{b:.2f}" for a, b in dose["window"]) or "none"
        cells = " | ".join(number(a) for a in dose["area_by_t"])
        predicted = " / ".join(number(t, 2) for t in dose["predicted"])
        lines.append(
            f"| {dose['dose']}x | {cells} | {dose['best_t']:.2f} | {runs} | {predicted} |"
        )
    return lines


def cost_lines(result: dict[str, Any]) -> list[str]:
    """Attacks at equal cost."""
    lines = []
    for name, table in result["equal_cost"].items():
        lines += [
            "",
            f"## At equal network evaluations: {name} against non-members",
            "",
            "| evaluations | attack | t chosen | area |",
            "| --- | --- | --- | --- |",
        ]
        for one in table:
            lines.append(
                f"| {one['evaluations']:g} | {one['kind']} | {times(one['t'])} | {interval(one)} |"
            )
    return lines


def memorised_lines(result: dict[str, Any], title: str) -> list[str]:
    """The search for repeated images."""
    lines = [
        "",
        title,
        "",
        f"Forward–reverse at t = {' and '.join(f'{t:g}' for t in result['t']['search'])}, one "
        "replicate.",
        "",
        "| rule | found | precision | recall 4x | recall 16x | recall 64x |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in result["memorised"]:
        cells = " | ".join(number(one["recall"][d], 2) for d in ("4", "16", "64"))
        found = "–" if one["found"] is None else one["found"]
        lines.append(f"| {one['rule']} | {found} | {number(one['precision'], 2)} | {cells} |")
    reasons = [one["reason"] for one in result["memorised"] if one["reason"]]
    lines += ["", *(f"{reason}." for reason in dict.fromkeys(reasons))]
    return [
        *lines,
        "",
        "(The last row holds areas under the ROC curve in place of precision and recall.)",
    ]


def null_lines(result: dict[str, Any]) -> list[str]:
    """Non-members against non-members."""
    null = result["null"]
    low, high = null["coverage_interval"]
    return [
        "",
        f"## Null: non-members against non-members, {null['splits']} random splits",
        "",
        f"- The interval has 1/2 in {100 * null['coverage']:.1f} % "
        f"[{100 * low:.1f}, {100 * high:.1f}].",
        f"- The test of a set rejects at 5 % in {100 * null['set_test_below_5_percent']:.1f} %.",
        "- Choosing the level and reporting it on the same images: "
        f"{100 * null['coverage_when_chosen_and_reported_on_the_same_half']:.1f} %.",
    ]


def adaptive_lines(result: dict[str, Any]) -> list[str]:
    """Adaptive placement."""
    lines = [
        "",
        "## Adaptive placement",
        "",
        "| members | levels | evaluations | width | evaluations at equal width | area, uniform |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in result["adaptive"].items():
        lines.append(
            f"| {name} | {one['levels']} | {number(one['evaluations_ratio'], 2)} | "
            f"{number(one['width_ratio'], 2)} | "
            f"{number(one['evaluations_ratio_at_equal_width'], 2)} | "
            f"{number(one['area_adaptive'])}, {number(one['area_uniform'])} |"
        )
    return [*lines, "", "Ratios to measuring every image at every level."]


def text(results: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown, the main model first."""
    lines = [
        "# Privacy of the shipped digits",
        "",
        "`OMP_NUM_THREADS=1 python benchmarks/privacy_digits.py`. t is OU time; every attack is",
        "chosen on one half of the images and reported on the other, both ways. 95 % intervals.",
        "The rate at .1 % false positives needs 10,000 non-members, and there are 1,000: too few",
        "to say.",
        "",
    ]
    if "main" in results:
        main = results["main"]
        lines += [*blind_lines(main), *dose_lines(main), *cost_lines(main)]
        title = "## The 30 repeated images among 4,000 training images"
        lines += [*memorised_lines(main, title), *null_lines(main), *adaptive_lines(main)]
    for name, own in results.items():
        if name == "main":
            continue
        lines += [
            "",
            f"# Variant: {name}",
            "",
            f"`OMP_NUM_THREADS=1 python benchmarks/privacy_digits.py --variant {name}"
            + ("`." if own["memorised"] else " --stage loss_few`."),
            "The same images are repeated as in the main data, in other inks."
            if own["is_repeated"]
            else "Every member is shown once an epoch: a dose is what the main data show, whose "
            "weights the training of the variant began with.",
            "One noise of 30 images that the main data repeat, 300 that they show once, and 300 "
            "non-members.",
            "",
            *blind_lines(own),
            *dose_lines(own),
        ]
        title = "## The 30 images that the main data repeat among 330 training images"
        lines += memorised_lines(own, title) if own["memorised"] else []
        lines += null_lines(own)
    return "\n".join(lines) + "\n"


RETURNS = (("low_more", "returns_more"), ("low_rest", "returns_rest"))

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--variant", choices=VARIANTS, default="main")
    parser.add_argument("--cache", type=Path, default=Path("build/privacy_digits"))
    parser.add_argument("--stage", default="all", help="some stages only, comma-separated")
    options = parser.parse_args()
    torch.set_num_threads(1)
    collector = Collector(options.cache / options.variant, options.variant)
    collected = collect(collector, options.stage)
    if options.stage == "all" or (not collector.is_main and "loss_few" in collected):
        out = Path(__file__).parent / "results"
        path = out / "privacy_digits.json"
        facts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        facts[options.variant] = (
            conclude(collector.data, collected)
            if collector.is_main
            else conclude_variant(
                collector.data, load_data(options.variant).multiplicity, collected
            )
        )
        facts = {name: facts[name] for name in VARIANTS if name in facts}
        content = json.dumps(facts, indent=1, allow_nan=False) + "\n"
        path.write_text(content, encoding="utf-8")
        (out / "privacy_digits.md").write_text(text(facts), encoding="utf-8")
        print(text(facts))
