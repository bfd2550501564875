"""End to end on mixtures with known windows: intervals cover what they claim, planted bugs show.

The short form runs here; the long one (400 seeds, 1,000, 200 and 60 sources, posterior and
reverse SDE) is `make validate`, whose results are in benchmarks/results/coverage.json.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from critwin.levels import logsnr_of_ou_time
from critwin.transitions import Transitions
from critwin.windows import critical_window
from oracle import QUANTITIES, Coverage, cases, coverage, simulate, truth, windows_of

CLAIMED, LEAST = 0.95, 0.92


def too_low(result: Coverage) -> dict[str, float]:
    """Quantities whose coverage is below .92 beyond chance (one in 10,000)."""
    low = {}
    for q in QUANTITIES:
        p = stats.binom.cdf(result.covered[q], result.seeds, LEAST)
        if p < 1e-4:
            low[q] = result.covered[q] / result.seeds
    return low


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["two", "three", "tree"])
def test_intervals_cover_the_exact_windows(name: str) -> None:
    assert too_low(coverage(name, seeds=25, num_sources=300)) == {}


def test_intervals_cover_under_the_reverse_sde() -> None:
    assert too_low(coverage("two", seeds=6, num_sources=200, reversal="stochastic")) == {}


def test_correlated_replicates_do_not_shrink_intervals_too_far() -> None:
    assert too_low(coverage("two", seeds=15, num_sources=100, replicates=3)) == {}


def test_a_shuffled_level_is_noticed() -> None:
    # the level nearest the midpoint: its labels say nothing there
    case = cases()["two"]
    level = int(np.argmin(np.abs(case.t - truth("two")["t_after"])))
    low = too_low(coverage("two", seeds=15, num_sources=1000, shuffled_level=level))
    assert {"t_after", "start"} & set(low)


def test_estimates_agree_with_the_truth_within_their_own_errors() -> None:
    case, exact = cases()["two"], truth("two")
    kept, pair = windows_of(simulate(case, num_sources=4000, seed=3), case)
    for q in QUANTITIES:
        edge = getattr(kept, q, None) or getattr(pair, q)
        assert edge.t.value == pytest.approx(exact[q], abs=edge.t.high - edge.t.low)


def test_exact_tables_interpolate_to_the_exact_window() -> None:
    from critwin.theory.exact import exact_transitions

    for name, case in cases().items():
        grid = logsnr_of_ou_time(np.linspace(0.02, 6.0, 300))
        table: Transitions = exact_transitions(case.mixture, grid)
        window = critical_window(table)
        for q in ("start", "midpoint", "end"):
            edge = getattr(window, q).t
            assert edge.value == pytest.approx(truth(name)[q], abs=2e-5), (name, q)
            assert edge.low == edge.high == edge.value
            assert edge.confidence is None


@pytest.mark.validate
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("reversal", ["posterior", "stochastic"])
@pytest.mark.parametrize("num_sources", [1000, 200, 60])
@pytest.mark.parametrize("name", ["two", "three", "tree"])
def test_coverage_in_full(name: str, num_sources: int, reversal: str) -> None:
    seeds = int(os.environ.get("CRITWIN_SEEDS", "400"))
    result = coverage(name, seeds=seeds, num_sources=num_sources, reversal=reversal)
    if folder := os.environ.get("CRITWIN_RESULTS"):
        path = Path(folder) / "coverage.json"
        table = json.loads(path.read_text()) if path.exists() else {}
        table[f"{name}/{num_sources}/{reversal}"] = result.as_dict()
        path.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")
    assert too_low(result) == {}
