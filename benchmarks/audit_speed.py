"""ROC, bootstrap and drift on 10^5 records: at most 10 s on two cores is wanted.

    python benchmarks/audit_speed.py

The results are checked before anything is timed. Writes ``results/audit_speed.json``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from critwin.audits._scores import Scores, scores_of_records
from critwin.audits.drift import drift_of
from critwin.audits.membership import cross_fitted, curve, halves_of, set_test
from critwin.audits.operating import bootstrap_areas, roc_curve, tpr_at_fpr
from critwin.audits.roc import area
from critwin.levels import logsnr_of_ou_time
from critwin.records import FeatureColumns, Records
from critwin.views import transitions_from_records

IMAGES, LEVELS, REPLICATES = 5000, 10, 2
DRAWS = 200


def records() -> tuple[Records, np.ndarray]:
    """10^5 rows: members come back a little more closely."""
    generator = np.random.default_rng(0)
    num = IMAGES * LEVELS * REPLICATES
    image = np.repeat(np.arange(IMAGES), LEVELS * REPLICATES)
    level = np.tile(np.repeat(np.arange(LEVELS), REPLICATES), IMAGES)
    member = np.arange(IMAGES) < IMAGES // 2
    before = image % 3
    keep = generator.random(num) < np.linspace(0.95, 0.35, LEVELS)[level]
    distance = generator.gamma(4.0, size=num) - 0.4 * member[image]
    return Records(
        source=np.array([f"s{i:06d}" for i in range(IMAGES)])[image],
        logsnr=logsnr_of_ou_time(np.linspace(0.1, 2.5, LEVELS))[level],
        replicate=np.tile(np.arange(REPLICATES), IMAGES * LEVELS),
        features={
            "ink": FeatureColumns(
                labels=("red", "green", "blue"),
                before=before,
                after=np.where(keep, before, generator.integers(0, 3, num)),
            )
        },
        values={"pixels": distance},
    ), member


def main() -> dict[str, Any]:
    """Check, then time."""
    rows, member = records()
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begun, used = time.perf_counter(), time.process_time()
        out = work()
        seconds[name] = time.perf_counter() - begun
        seconds[f"{name}, of one core"] = time.process_time() - used
        return out

    names = np.unique(rows.source)
    scores: list[Scores] = timed("scores of the records", lambda: scores_of_records(rows, names))
    score = -rows.values["pixels"]
    is_member = np.repeat(member, LEVELS * REPLICATES)
    halves = halves_of(member)
    whole = timed(
        "area of all rows, by image", lambda: area(score, is_member, clusters=rows.source)
    )
    wanted = stats.mannwhitneyu(score[is_member], score[~is_member]).statistic
    assert abs(whole.value - wanted / (is_member.sum() * (~is_member).sum())) < 1e-12
    boot = timed(
        f"{DRAWS} bootstrap areas of all rows, by image",
        lambda: bootstrap_areas(score, is_member, clusters=rows.source, draws=DRAWS),
    )
    assert abs(boot.std() / whole.stderr - 1.0) < 0.2
    timed("ROC curve", lambda: roc_curve(score, is_member))
    timed(
        "rates at 1 % and .1 %", lambda: [tpr_at_fpr(score, is_member, r) for r in (0.01, 0.001)]
    )
    timed("curves over levels", lambda: [curve(s, member) for s in scores])
    attack = timed(
        "cross-fitted attacks", lambda: [cross_fitted(s, member, halves) for s in scores]
    )
    timed("test of the set", lambda: set_test(attack[0], member, halves))
    table = timed("drift: transitions of a feature", lambda: transitions_from_records(rows, "ink"))
    assert np.allclose(table.probs.sum(axis=2), 1.0)
    moved = timed("drift: flows between its labels, tested", lambda: drift_of(table))
    assert len(moved.t) == LEVELS
    total = sum(value for name, value in seconds.items() if "one core" not in name)
    return {
        "records": len(rows),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "total_seconds": round(total, 2),
        "total_seconds_of_one_core": round(
            sum(value for name, value in seconds.items() if "one core" in name), 2
        ),
    }


if __name__ == "__main__":
    facts = main()
    print(json.dumps(facts, indent=1))
    path = Path(__file__).parent / "results" / "audit_speed.json"
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
