"""How often a fairness audit flags two groups that are alike, and two that are not.

    OMP_NUM_THREADS=1 python benchmarks/fairness_null.py

Images and their transitions are drawn from exact tables of a mixture of two Gaussians, so that the
truth is known: equal groups for the size of every test, uneven groups, or images of another law
than the model's, for its power, beside the exact power of the test of shares. ``audit`` is the
whole audit, its parts adjusted for one another; ``any`` is what it would be if they were not.
Writes ``results/fairness_null.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import critwin as cw
from critwin.audits.drift import drift_of
from critwin.audits.fairness import FairnessAudit
from critwin.audits.groups import group_windows
from critwin.audits.law import attribute_law, exact_limits
from critwin.audits.metrics import GroupMetrics
from critwin.audits.references import reference_of
from critwin.levels import logsnr_of_ou_time
from critwin.transitions import Transitions, from_counts

GROUPS = ("a", "b")
TIMES = (0.8, 1.2, 1.6, 2.0, 2.4, 3.0)
IMAGES = 200


def exact(weights: list[float]) -> Transitions:
    """Transitions of two unit Gaussians at -4 and 4."""
    mixture = cw.GaussianMixture(
        weights=weights, means=[[-4.0], [4.0]], covariances=1.0, names=["a", "b"]
    )
    return cw.exact_transitions(mixture, logsnr_of_ou_time(np.array(TIMES)))


def drawn(
    table: Transitions, num: int, generator: np.random.Generator, law: Any = None
) -> Transitions:
    """Counts of images of the model's law (or another), one replicate a level."""
    weights = table.weights if law is None else np.asarray(law)
    before = generator.choice(2, size=num, p=weights)
    first = table.probs[:, before, 0].T
    after = (generator.random(first.shape) > first).astype(int)
    shares = np.bincount(before, minlength=2) / num
    return from_counts(
        np.eye(2, dtype=int)[after],
        before,
        logsnr=table.logsnr,
        before=table.before,
        weights=shares,
        is_weights_estimated=True,
    )


def power_of_shares(share: float, reference: float) -> float:
    """Exact power of the exact test of a share, by summing over all counts."""
    counts = np.arange(IMAGES + 1)
    rejected = [stats.binomtest(int(n), IMAGES, reference).pvalue <= 0.05 for n in counts]
    return float(stats.binom.pmf(counts, IMAGES, share)[rejected].sum())


def rates(
    table: Transitions, reference: Any, num_runs: int, law: Any = None, seed: int = 0
) -> dict[str, Any]:
    """Share of runs in which each part of the audit flags."""
    flags = dict.fromkeys(("law", "groups", "drift", "any", "audit"), 0)
    for run in range(num_runs):
        tr = drawn(table, IMAGES, np.random.default_rng(seed + run), law)
        counts = np.bincount(tr.source_before, minlength=2)
        found = FairnessAudit(
            attribute="attribute",
            condition=None,
            fidelity=None,
            law=attribute_law(counts, GROUPS, reference_of(reference, GROUPS)),
            metrics=GroupMetrics(overall={}, by_group={}, counts={}),
            window=None,
            groups=group_windows(tr, num_permutations=399, seed=seed + run),
            drift=drift_of(tr, num_signs=399, seed=seed + run),
            interventions=None,
            reasons={},
            confidence=0.95,
        )
        assert found.groups is not None
        assert found.drift is not None
        own = {
            "law": found.law.is_flagged,
            "groups": found.groups.is_flagged,
            "drift": found.drift.is_flagged,
        }
        for name, is_flagged in own.items():
            flags[name] += is_flagged
        flags["any"] += any(own.values())
        flags["audit"] += found.is_flagged
    out = {}
    for name, hits in flags.items():
        low, high = exact_limits([hits], num_runs, 0.95)
        out[name] = {"flagged": hits / num_runs, "low": float(low[0]), "high": float(high[0])}
    return out


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "fairness_null.json"
    )
    choices = parser.parse_args()
    equal, uneven, slight = (exact([w, 1.0 - w]) for w in (0.5, 0.7, 0.58))
    power = max(50, choices.runs // 5)
    found = {
        "what": "share of runs flagged at size .05; 200 images, six levels, one replicate",
        "runs": choices.runs,
        "runs_of_power": power,
        "equal groups": rates(equal, "uniform", choices.runs),
        "equal groups, other seeds": rates(equal, "uniform", choices.runs, seed=10**6),
        "exact power of the test of shares, .5 against uniform": power_of_shares(0.5, 0.5),
        "shares .58 and .42 against uniform": rates(slight, "uniform", power),
        "exact power of the test of shares, .58 against uniform": power_of_shares(0.58, 0.5),
        "shares .7 and .3 against uniform": rates(uneven, "uniform", power),
        "exact power of the test of shares, .7 against uniform": power_of_shares(0.7, 0.5),
        "shares .7 and .3 against themselves": rates(uneven, {"a": 0.7, "b": 0.3}, power),
        "images .58 and .42 of a model of equal groups": rates(
            equal, {"a": 0.58, "b": 0.42}, power, law=[0.58, 0.42]
        ),
        "images .7 and .3 of a model of equal groups": rates(
            equal, {"a": 0.7, "b": 0.3}, power, law=[0.7, 0.3]
        ),
    }
    choices.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
