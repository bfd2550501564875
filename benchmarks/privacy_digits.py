"""What the privacy audit finds on the shipped digits, whose members and repeats are known.

    OMP_NUM_THREADS=1 python benchmarks/privacy_digits.py

Scores are collected once, in small files that a second run reads (``--cache``), for

- 1,000 non-members, the 30 repeated images (10 each at 4x, 16x, 64x) and 500 members seen once:
  the denoising loss at six levels;
- 300 non-members, the repeated images and 300 members seen once: all attacks, so that they can be
  compared at equal network evaluations;
- all 4,000 training images and the non-members: the loss and the forward–reverse return at one
  level, to find the repeated images among them.

Writes ``results/privacy_digits.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from critwin.audits._scores import Scores
from critwin.audits.attacks import Asked, ask, forward_reverse_scores
from critwin.audits.neighbours import Neighbours
from critwin.levels import logsnr_of_ou_time
from critwin.models.digits import load_digits
from critwin.models.digits.data import DigitsData

LOSS_T = (0.1, 0.25, 0.5, 0.8, 1.2, 1.8)
RETURN_T = (0.5, 0.9, 1.4)
SEARCH_T = 0.9
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
        "more": np.concatenate([once[300:500], outside[300:]]),
        "rest": once[500:],
    }


def snap(model: Any, times: tuple[float, ...]) -> Array:
    """The model's levels nearest to some OU times."""
    grid = np.asarray(model.levels)
    return np.array([grid[np.abs(grid - float(logsnr_of_ou_time(t))).argmin()] for t in times])


class Collector:
    """Scores of rows of the digits, chunk by chunk, each kept in a file."""

    def __init__(self, cache: Path) -> None:
        self.model = load_digits(part="all")
        self.data = self.model.data
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
        "baselines_few": lambda: collector.baselines("baselines_few", rows["few"]),
        "returns_more": lambda: collector.returns("returns_more", rows["more"], (SEARCH_T,)),
        "returns_rest": lambda: collector.returns("returns_rest", rows["rest"], (SEARCH_T,)),
    }
    mine = list(stages) if which == "all" else which.split(",")
    return {name: stages[name]() for name in mine}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=Path, default=Path("build/privacy_digits"))
    parser.add_argument("--stage", default="all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    collect(Collector(options.cache), options.stage)
