"""Searches keep what their intervals claim: calibration on the prior, coverage on exact mixtures.

The short forms run here; the long ones (1,000 draws; 200 seeds a mixture) are `make validate`,
whose results are in benchmarks/results/search_coverage.json.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from search_oracle import LESS_CAUTION, midpoint_of, ranks, searches

CLAIMED, LEAST = 0.95, 0.92


def p_uniform(values: np.ndarray[Any, Any], bins: int) -> float:
    counts = np.histogram(values, bins=bins, range=(0.0, 1.0))[0]
    return float(stats.chisquare(counts).pvalue)


def coverage(name: str, seeds: int, **options: Any) -> dict[str, Any]:
    """How often the interval of the midpoint holds the exact value, and at what cost."""
    deciders = searches(name, range(seeds), **options)
    truth = midpoint_of(name)
    edges = [decider.found[0] for decider in deciders]
    assert all(edge.low is not None and edge.high is not None for edge in edges)
    held = sum(edge.low <= truth <= edge.high for edge in edges)  # type: ignore[operator]
    return {
        "seeds": seeds,
        "covered": held / seeds,
        "midpoint": truth,
        "bias": float(np.mean([edge.t - truth for edge in edges])),  # type: ignore[operator]
        "error": float(np.std([edge.t for edge in edges])),  # type: ignore[arg-type]
        "half_width": float(np.median([edge.half_width for edge in edges])),  # type: ignore[arg-type]
        "results": float(np.median([d.num_results for d in deciders])),
        "evaluations": float(np.median([d.spent for d in deciders])),
        "less_caution": {
            str(caution): {
                "covered": sum(
                    found.low <= truth <= found.high  # type: ignore[operator]
                    for found, _ in (decider.earlier[caution] for decider in deciders)
                )
                / seeds,
                "evaluations": float(
                    np.median([decider.earlier[caution][1] for decider in deciders])
                ),
            }
            for caution in LESS_CAUTION
        },
        "design_effect": float(np.mean([d.posterior.tallies[0].design for d in deciders])),  # type: ignore[union-attr]
    }


def is_too_low(result: dict[str, Any]) -> bool:
    """Below .92 beyond chance (one in 10,000)."""
    hits = round(result["covered"] * result["seeds"])
    return bool(stats.binom.cdf(hits, result["seeds"], LEAST) < 1e-4)


def test_ranks_of_the_truth_are_uniform() -> None:
    assert p_uniform(ranks(40), 5) > 1e-4


def test_a_curve_read_one_level_further_on_is_noticed() -> None:
    assert p_uniform(ranks(40, shift=1), 5) < 1e-6


@pytest.mark.parametrize("name", ["three"])
def test_intervals_of_searches_cover_the_exact_midpoint(name: str) -> None:
    assert not is_too_low(coverage(name, 10, half_width=0.15))


def test_intervals_far_too_narrow_are_noticed() -> None:
    found = searches("two", range(10), half_width=0.15)
    truth = midpoint_of("two")
    held = sum(abs(d.found[0].t - truth) <= 0.1 * (d.found[0].half_width or 0) for d in found)  # type: ignore[operator]
    assert is_too_low({"covered": held / 10, "seeds": 10})


@pytest.mark.validate
@pytest.mark.timeout(7200)
def test_calibration_in_full() -> None:
    right, wrong = p_uniform(ranks(1000), 20), p_uniform(ranks(1000, shift=1), 20)
    _store("calibration", {"draws": 1000, "bins": 20, "p": right, "p_planted_bug": wrong})
    assert right > 1e-4
    assert wrong < 1e-6


@pytest.mark.validate
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("source_cost", [50.0, 0.0])
@pytest.mark.parametrize("name", ["two", "three", "tree", "unequal"])
def test_coverage_of_searches_in_full(name: str, source_cost: float) -> None:
    seeds = int(os.environ.get("CRITWIN_SEEDS", "200"))
    result = coverage(name, seeds, source_cost=source_cost)
    kind = "sources used again" if source_cost else "fresh sources"
    _store(f"{name}/{kind}", result)
    assert not is_too_low(result)


def _store(key: str, result: dict[str, Any]) -> None:
    if folder := os.environ.get("CRITWIN_RESULTS"):
        path = Path(folder) / "search_coverage.json"
        table = json.loads(path.read_text()) if path.exists() else {}
        table[key] = result
        path.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")
