"""Windows of groups and flows between them, against exact tables of mixtures."""

import json
from typing import Any

import numpy as np
import pytest

import critwin as cw
from critwin.audits.drift import drift_of, exact_flow
from critwin.audits.groups import group_windows
from critwin.errors import InputError
from critwin.levels import logsnr_of_ou_time
from critwin.transitions import Transitions, from_counts

TIMES = np.array([0.3, 0.9, 1.4, 1.8, 2.3, 3.0])


def exact(weights: list[float], means: list[float] | None = None) -> Transitions:
    means = [-4.0, 4.0] if means is None else means
    mixture = cw.GaussianMixture(
        weights=weights,
        means=[[m] for m in means],
        covariances=1.0,
        names=list("abcd")[: len(means)],
    )
    return cw.exact_transitions(mixture, logsnr_of_ou_time(TIMES))


def drawn(
    table: Transitions, num: int, seed: int, law: Any = None, replicates: int = 1
) -> Transitions:
    generator = np.random.default_rng(seed)
    size = len(table.after)
    before = generator.choice(size, size=num, p=table.weights if law is None else law)
    counts = np.stack(
        [generator.multinomial(replicates, table.probs[level, before]) for level in range(6)],
        axis=1,
    )
    shares = np.bincount(before, minlength=size) / num
    return from_counts(
        counts,
        before,
        logsnr=table.logsnr,
        before=table.before,
        weights=shares,
        is_weights_estimated=True,
    )


def test_flows_match_the_exact_ones_of_a_mixture() -> None:
    table = exact([0.6, 0.3, 0.1], [-5.0, 0.0, 4.0])
    assert np.abs(exact_flow(table)).max() < 1e-9  # detailed balance of an exact posterior
    law = np.array([0.2, 0.3, 0.5])
    truth = exact_flow(table, law)
    assert truth.max() > 0.2
    found = drift_of(drawn(table, 2000, 0, law), num_signs=199)
    pairs = {(f.source, f.target): f for f in found.flows}
    inside = []
    for (a, b), flow in pairs.items():
        i, j = "abc".index(a), "abc".index(b)
        spread = np.sqrt(1 / 2000)
        assert np.abs(flow.net - truth[:, i, j]).max() < 4 * spread
        inside += ((flow.low <= truth[:, i, j]) & (truth[:, i, j] <= flow.high)).tolist()
    assert np.mean(inside) > 0.8
    assert np.allclose(found.change.sum(axis=1), 0.0)
    change = law @ table.probs - law
    assert np.abs(found.change - change).max() < 0.05
    # what a group gains is what flows into it
    gain = -pairs["a", "b"].net - pairs["a", "c"].net
    assert np.allclose(gain, found.change[:, 0])
    assert found.is_flagged
    best = found.strongest()
    assert best is not None
    json.dumps(found.as_dict(), allow_nan=False)


def test_intervals_of_flows_cover() -> None:
    table = exact([0.6, 0.3, 0.1], [-5.0, 0.0, 4.0])
    law = np.array([0.2, 0.3, 0.5])
    truth = exact_flow(table, law)[:, 0, 2]
    hits = []
    for seed in range(100):
        flow = next(
            f for f in drift_of(drawn(table, 120, seed, law), num_signs=19).flows
            if (f.source, f.target) == ("a", "c")
        )  # fmt: skip
        hits.append((flow.low <= truth) & (truth <= flow.high))
    assert np.mean(hits) > 0.92


def test_an_exact_posterior_has_no_flow_and_few_images_say_nothing() -> None:
    table = exact([0.5, 0.5])
    flags = [
        drift_of(drawn(table, 100, seed, replicates=3), num_signs=99, seed=seed).is_flagged
        for seed in range(100)
    ]
    assert np.mean(flags) <= 0.12
    few = drift_of(drawn(table, 7, 0), num_signs=99)
    assert few.p_value is None
    assert not few.is_flagged
    assert few.strongest() is None


def test_two_groups_differ_by_their_sizes_alone() -> None:
    table = exact([0.8, 0.2])
    w = table.weights
    assert w is not None
    above = [(table.probs[:, i, i] - w[i]) / (1 - w[i]) for i in range(2)]
    assert np.allclose(above[0], above[1], atol=1e-6)
    found = group_windows(drawn(table, 600, 1), num_permutations=199)
    (gap,) = found.gaps
    assert (gap.group, gap.other, gap.order) == ("b", "a", "lower")
    assert found.is_flagged
    areas = [np.trapezoid(table.probs[:, i, i], table.t) for i in range(2)]
    assert gap.survival.covers(areas[1] - areas[0])
    assert gap.beyond_size.covers(0.0)
    assert gap.t_after.t.value is not None
    assert gap.t_after.t.value < 0
    json.dumps(found.as_dict(), allow_nan=False)


def test_limits_of_survival_cover() -> None:
    table = exact([0.7, 0.3])
    areas = [np.trapezoid(table.probs[:, i, i], table.t) for i in range(2)]
    raw = beyond = 0
    for seed in range(80):
        (gap,) = group_windows(drawn(table, 100, seed), num_permutations=9).gaps
        raw += gap.survival.covers(areas[1] - areas[0])
        beyond += gap.beyond_size.covers(0.0)
    assert raw >= 0.9 * 80
    assert beyond >= 0.9 * 80


@pytest.mark.parametrize("num_runs", [60, pytest.param(1000, marks=pytest.mark.validate)])
def test_identical_groups_are_flagged_as_often_as_the_size_says(num_runs: int) -> None:
    table = exact([0.5, 0.5])
    flags = [
        group_windows(drawn(table, 200, seed), num_permutations=399, seed=seed).is_flagged
        for seed in range(num_runs)
    ]
    few = num_runs < 1000
    assert (0.0 if few else 0.03) <= np.mean(flags) <= (0.15 if few else 0.07)


def test_a_planted_bug_is_seen() -> None:
    """Groups of one size that come back differently are no exact posterior, and flagged."""
    table = exact([0.5, 0.5])
    probs = table.probs.copy()
    probs[:, 1] = 0.5 * probs[:, 1] + 0.5 * np.array([1.0, 0.0])
    broken = Transitions(
        logsnr=table.logsnr, before=table.before, after=table.after, probs=probs,
        weights=table.weights,
    )  # fmt: skip
    tr = drawn(broken, 200, 0)
    (gap,) = group_windows(tr, num_permutations=199).gaps
    assert gap.beyond_size.high is not None
    assert gap.beyond_size.low is not None
    assert not gap.beyond_size.covers(0.0)
    assert drift_of(tr, num_signs=199).is_flagged


def test_absent_and_small_groups_never_crash() -> None:
    table = exact([0.5, 0.3, 0.2], [-5.0, 0.0, 5.0])
    tr = drawn(table, 40, 0, law=[0.93, 0.07, 0.0])
    found = group_windows(tr, num_permutations=19)
    assert [w.label for w in found.windows] == ["a", "b", "c"]
    reasons = {w.label: w.reason for w in found.windows}
    assert reasons["a"] is None
    assert reasons["c"] == "too few to say: 0 of its images, 5 needed"
    assert [gap.order for gap in found.gaps] == ["too few to say"] * 2
    assert np.isnan(found.windows[2].stay).all()
    drift_of(tr, num_signs=19)
    alone = drawn(table, 20, 0, law=[1.0, 0.0, 0.0])
    one = group_windows(alone, num_permutations=19)
    assert one.windows[0].reason == "all images are of this group: nothing can be lost"


def test_bad_input() -> None:
    table = exact([0.5, 0.5])
    for call in (group_windows, drift_of):
        with pytest.raises(InputError, match="counted"):
            call(table)
    with pytest.raises(InputError, match="at least two levels"):
        group_windows(
            from_counts(
                np.ones((9, 1, 2), dtype=int),
                [0] * 9,
                logsnr=[0.0],
                before=["a", "b"],
                weights=[0.5, 0.5],
            )
        )
