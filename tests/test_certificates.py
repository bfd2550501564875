"""Certified bounds hold as often as they say; choosing the label set on the data breaks that."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from critwin.certificates import tv_lower_bounds
from critwin.errors import InputError
from critwin.reshaping import merge
from critwin.transitions import Transitions, from_counts

TRIALS = 100


def simulate(
    rng: np.random.Generator,
    rows: NDArray[np.float64],
    *,
    sources: int,
    replicates: int = 1,
    agree: float = 0.0,
    **options: Any,
) -> Transitions:
    """Counts of a channel ``rows (L, I, J)``; with probability ``agree`` all replicates agree."""
    num_l, num_i, num_j = rows.shape
    before = np.repeat(np.arange(num_i), sources)
    is_one = rng.random(len(before)) < agree
    draws = rng.random((len(before), num_l, replicates))
    draws = np.where(is_one[:, None, None], draws[..., :1], draws)
    edges = rows.cumsum(axis=2)[:, before].swapaxes(0, 1)[:, :, None, :-1]
    after = (draws[..., None] > edges).sum(axis=-1)
    counts = (after[..., None] == np.arange(num_j)).sum(axis=2)
    labels = [f"L{j}" for j in range(num_j)]
    return from_counts(
        counts,
        before,
        logsnr=np.arange(num_l, 0, -1.0),
        before=labels[:num_i],
        after=labels,
        **options,
    )


def binary(first: float, second: float) -> NDArray[np.float64]:
    return np.array([[[first, 1 - first], [second, 1 - second]]])


def failures(rows: NDArray[np.float64], *, seed: int, truth: float, **options: Any) -> float:
    """Share of trials in which some bound exceeds the truth."""
    rng = np.random.Generator(np.random.Philox(seed))
    wrong = 0
    for _ in range(TRIALS):
        bounds = tv_lower_bounds(
            simulate(rng, rows, **options), "L0", "L1", simultaneous=len(rows) > 1
        )
        wrong += bool(np.any(bounds.low > truth + 1e-12))
    return wrong / TRIALS


# four standard errors of a binomial share above .05
LIMIT = 0.05 + 4 * (0.05 * 0.95 / TRIALS) ** 0.5


@pytest.mark.parametrize(
    ("first", "second", "options"),
    [
        (0.9, 0.3, {"sources": 30}),
        (0.5, 0.5, {"sources": 25}),
        (0.98, 0.02, {"sources": 40}),
        (0.7, 0.4, {"sources": 25, "replicates": 5, "agree": 0.6}),
        (0.7, 0.4, {"sources": 25, "replicates": 5, "agree": 1.0}),
    ],
)
def test_bounds_hold_as_often_as_they_say(
    first: float, second: float, options: dict[str, Any]
) -> None:
    assert failures(binary(first, second), seed=1, truth=first - second, **options) < LIMIT


def test_all_levels_hold_at_once_and_the_twin_that_shares_no_error_fails() -> None:
    """Twenty levels at 80 %: together they hold; each by itself, some bound is wrong."""
    rng = np.random.Generator(np.random.Philox(3))
    rows = np.repeat(binary(0.6, 0.4), 20, axis=0)
    together = apart = 0
    for _ in range(40):
        tr = simulate(rng, rows, sources=60)
        bounds = [
            tv_lower_bounds(tr, "L0", "L1", confidence=0.8, simultaneous=at_once)
            for at_once in (True, False)
        ]
        together += bool(np.any(bounds[0].low > 0.2))
        apart += bool(np.any(bounds[1].low > 0.2))
    assert together / 40 < 0.2
    assert apart / 40 > 0.3


def test_the_twin_that_chooses_its_set_on_the_data_fails() -> None:
    """Two groups of one law over 30 labels: the true TV is 0, the chosen set says otherwise."""
    rng = np.random.Generator(np.random.Philox(4))
    rows = np.full((1, 2, 30), 1 / 30)
    honest = chosen = 0
    for _ in range(40):
        tr = simulate(rng, rows, sources=60)
        honest += bool(tv_lower_bounds(tr, "L0", "L1").low[0] > 0)
        pick = np.flatnonzero(tr.probs[0, 0] > tr.probs[0, 1])
        hits = [round(float(tr.probs[0, i, pick].sum()) * 60) for i in (0, 1)]
        low = stats.beta.ppf(0.025, hits[0], 60 - hits[0] + 1)
        chosen += bool(low > stats.beta.isf(0.025, hits[1] + 1, 60 - hits[1]))
    assert honest / 40 < 0.1
    assert chosen / 40 > 0.3


def test_the_twin_that_counts_replicates_as_sources_fails() -> None:
    """Twenty replicates that always agree are one observation, not twenty."""
    rng = np.random.Generator(np.random.Philox(5))
    wrong = 0
    for _ in range(200):
        tr = simulate(rng, binary(0.5, 0.5), sources=20, replicates=20, agree=1.0)
        assert tr.counts is not None
        hits = [int(tr.counts[i * 20 : i * 20 + 20, 0, 0].sum()) for i in (0, 1)]
        low = stats.beta.ppf(0.025, hits[0], 400 - hits[0] + 1)
        wrong += bool(low > stats.beta.isf(0.025, hits[1] + 1, 400 - hits[1]))
    assert wrong / 200 > 0.1


def test_the_binomial_limits_are_exact() -> None:
    tr = from_counts(
        np.array([[[1, 0]]] * 18 + [[[0, 1]]] * 2 + [[[0, 1]]] * 9 + [[[1, 0]]] * 1),
        [0] * 20 + [1] * 10,
        logsnr=[0.0],
        before=["a", "b"],
    )
    bounds = tv_lower_bounds(tr, "a", "b")
    # limits by the definition of Clopper and Pearson
    low = stats.binomtest(18, 20).proportion_ci(0.95, "exact").low
    high = stats.binomtest(1, 10).proportion_ci(0.95, "exact").high
    assert bounds.low[0] == pytest.approx(low - high, rel=1e-9)
    assert bounds.value[0] == pytest.approx(0.9 - 0.1)
    assert bounds.confidence == 0.95
    assert bounds.as_dict()["group_a"] == ["a"]
    all_or_none = from_counts(
        np.array([[[1, 0]]] * 5 + [[[0, 1]]] * 5),
        [0] * 5 + [1] * 5,
        logsnr=[0.0],
        before=["a", "b"],
    )
    assert tv_lower_bounds(all_or_none, "a", "b").low[0] == pytest.approx(
        2 * 0.025 ** (1 / 5) - 1 if 2 * 0.025 ** (1 / 5) > 1 else 0.0
    )


def test_below_the_exact_distance_of_two_gaussians() -> None:
    """Posterior labels of two Gaussians at k = 1: phi = .775200, TV = 2 Phi(1) - 1 = .6827."""
    rng = np.random.Generator(np.random.Philox(6))
    phi, truth = 0.775200, 2 * stats.norm.cdf(1.0) - 1
    tr = simulate(rng, binary(phi, 1 - phi), sources=2000)
    bounds = tv_lower_bounds(tr, "L0", "L1")
    assert 0.45 < bounds.low[0] < 2 * phi - 1 < truth
    exact = Transitions(
        logsnr=[0.0],
        before=("+", "-"),
        after=("+", "-"),
        probs=[[[phi, 1 - phi], [1 - phi, phi]]],
        weights=[0.5, 0.5],
    )
    sure = tv_lower_bounds(exact, "+", "-")
    assert sure.low[0] == pytest.approx(2 * phi - 1)
    assert sure.confidence is None


def test_groups_of_several_labels_follow_the_prior() -> None:
    rng = np.random.Generator(np.random.Philox(7))
    rows = np.array([[[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7]]])
    tr = simulate(rng, rows, sources=200, weights=[0.2, 0.3, 0.5])
    bounds = tv_lower_bounds(tr, ["L0", "L1"], "L2")
    merged = tv_lower_bounds(merge(tr, {"A": ["L0", "L1"]}), "A", "L2")
    assert bounds.value[0] == pytest.approx(merged.value[0])
    assert bounds.low[0] == pytest.approx(merged.low[0], abs=0.01)
    assert bounds.low[0] < bounds.value[0]


def test_abstentions_and_invalid_results() -> None:
    """An abstention is a result outside the set: leaving it out would raise the bound."""
    counts = np.array([[[8, 0]]] * 10 + [[[0, 8]]] * 10)
    silent = np.full((20, 1), 8)
    options: dict[str, Any] = {"logsnr": [0.0], "before": ["a", "b"]}
    tr = from_counts(counts, [0] * 10 + [1] * 10, abstained=silent, invalid=[[1, 0]], **options)
    bounds = tv_lower_bounds(tr, "a", "b")
    assert bounds.value[0] == pytest.approx(0.5)
    assert bounds.notes == ("invalid results are left out: the bounds speak of the valid ones",)
    without = tv_lower_bounds(from_counts(counts, [0] * 10 + [1] * 10, **options), "a", "b")
    assert without.value[0] == 1.0
    assert bounds.low[0] < without.low[0]


def test_every_guard_fires() -> None:
    rng = np.random.Generator(np.random.Philox(8))
    tr = simulate(rng, np.full((1, 3, 3), 1 / 3), sources=5)
    for group_a, group_b, options, message in (
        ("L0", "L9", {}, "unknown label: got L9"),
        ("L0", ["L0", "L1"], {}, "a label is in both groups: got L0"),
        ([], "L1", {}, "an empty set"),
        (["L0", "L1"], "L2", {}, "needs the model's prior"),
        ("L0", "L1", {"confidence": 1.0}, "confidence is out of range"),
    ):
        with pytest.raises(InputError, match=message):
            tv_lower_bounds(tr, group_a, group_b, **options)  # type: ignore[arg-type]
    lonely = from_counts([[[1, 0]]], [0], logsnr=[0.0], before=["a", "b"])
    with pytest.raises(InputError, match="too few sources"):
        tv_lower_bounds(lonely, "a", "b")
    estimated = Transitions(
        logsnr=[0.0],
        before=("a", "b"),
        after=("a", "b"),
        probs=[[[0.9, 0.1], [0.2, 0.8]]],
        kind="estimated",
        stderr=np.full((1, 2, 2), 0.01),
    )
    with pytest.raises(InputError, match="needs counts or exact"):
        tv_lower_bounds(estimated, "a", "b")
