"""Attacks are valid under the null, and choosing and reporting on the same half is not."""

import numpy as np
import pytest

from critwin.audits._scores import Scores
from critwin.audits.blind import blind_attacks, pixel_statistics
from critwin.audits.likelihood import calibrated, likelihood_ratio
from critwin.audits.membership import (
    LEARNT,
    cross_fitted,
    curve,
    halves_of,
    inflation_of,
    set_test,
    strongest,
    windows_of,
)
from critwin.audits.placement import place
from critwin.audits.roc import area
from critwin.errors import InputError
from critwin.levels import logsnr_of_ou_time

T = np.linspace(0.1, 2.0, 8)


def scores_of(values: np.ndarray, kind: str = "loss") -> Scores:
    table = values if values.ndim == 3 else values[:, :, None]
    levels = logsnr_of_ou_time(T[: table.shape[1]])
    return Scores(
        kind=kind, logsnr=levels, values=table, evaluations=np.ones(len(levels)), shared=0
    )


def planted(num: int, peak: float, seed: int = 0) -> tuple[Scores, np.ndarray]:
    """Members stand out at the third level by ``peak`` standard deviations, less beside it."""
    generator = np.random.default_rng(seed)
    member = generator.permutation(np.arange(2 * num) < num)
    values = generator.standard_normal((2 * num, 8))
    values[member] += peak * np.exp(-0.5 * (np.arange(8) - 2.0) ** 2)
    return scores_of(values), member


def null_coverage(how: str, splits: int = 200, *, spoil: float = 1.0) -> tuple[float, float]:
    """Non-members against non-members: how often the interval has .5, and the mean area."""
    generator = np.random.default_rng(11)
    values = generator.standard_normal((200, 8))
    scores = scores_of(values)
    covers, found = 0, []
    for split in range(splits):
        member = generator.permutation(np.arange(200) < 100)
        if how == "cross-fitted":
            one = cross_fitted(scores, member, halves_of(member, seed=split)).area
        elif how == "likelihood ratio":
            one = likelihood_ratio(scores, member, halves_of(member, seed=split)).area
        else:  # the planted bug: choose and report on the same images
            areas = [area(column, member) for column in values.T]
            one = max(areas, key=lambda a: a.value or 0.0)
        assert one.value is not None
        assert one.low is not None
        assert one.high is not None
        low, high = (one.value + (end - one.value) / spoil for end in (one.low, one.high))
        covers += low <= 0.5 <= high
        found.append(one.value)
    return covers / splits, float(np.mean(found))


@pytest.mark.parametrize("how", ["cross-fitted", "likelihood ratio"])
def test_under_the_null_intervals_cover_one_half(how: str) -> None:
    share, mean = null_coverage(how)
    assert 0.92 <= share <= 0.985
    assert mean == pytest.approx(0.5, abs=0.01)


def test_without_the_correlation_of_the_halves_the_ratio_fails_that_test() -> None:
    share, _ = null_coverage("likelihood ratio", spoil=LEARNT)
    assert share < 0.92


def test_the_factor_of_a_choice_is_that_of_simulated_choices() -> None:
    generator = np.random.default_rng(1)
    for num in (2, 3, 6, 12):
        one, two = generator.standard_normal((2, 200_000, num))
        rows = np.arange(200_000)
        mean = (one[rows, two.argmax(axis=1)] + two[rows, one.argmax(axis=1)]) / 2
        assert inflation_of(num) == pytest.approx(np.sqrt(2) * mean.std(), rel=0.01)
    assert inflation_of(1) == 1.0


def test_choosing_and_reporting_on_the_same_half_fails_that_test() -> None:
    share, mean = null_coverage("same half")
    assert share < 0.9
    assert mean > 0.53


def test_a_planted_level_is_found_and_swapping_turns_the_area_around() -> None:
    scores, member = planted(100, 2.0)
    halves = halves_of(member)
    found = cross_fitted(scores, member, halves)
    assert found.levels == (2, 2)
    assert found.area.value is not None
    assert found.area.value > 0.85
    assert found.evaluations == 1.0
    assert windows_of(curve(scores, member))[0][0] <= 2 <= windows_of(curve(scores, member))[0][1]
    # the same scores, classes exchanged: exactly 1 minus
    swapped = area(found.scores, ~member, strata=halves)
    assert swapped.value == 1.0 - found.area.value
    both = likelihood_ratio(scores, member, halves)
    assert both.area.value is not None
    assert both.area.value >= found.area.value - 0.02
    assert both.evaluations == 8.0
    best = strongest([found, both], member, halves)
    assert best.kind in (found.kind, both.kind, f"{found.kind} / {both.kind}")
    with pytest.raises(InputError, match="no attacks"):
        strongest([], member, halves)


def test_halves_deal_each_class() -> None:
    member = np.arange(21) < 8
    halves = halves_of(member, seed=3)
    assert [int(np.sum(halves[member] == h)) for h in (0, 1)] == [4, 4]
    assert sorted(int(np.sum(halves[~member] == h)) for h in (0, 1)) == [6, 7]
    with pytest.raises(InputError, match="too few members"):
        halves_of(np.arange(10) < 3)


def test_the_p_value_of_a_set_is_valid() -> None:
    generator, found = np.random.default_rng(12), []
    scores = scores_of(generator.standard_normal((60, 8)))
    for split in range(200):
        member = generator.permutation(np.arange(60) < 30)
        halves = halves_of(member, seed=split)
        attack = cross_fitted(scores, member, halves)
        found.append(set_test(attack, member, halves, draws=199, seed=split).p_value)
    for level in (0.05, 0.2):
        assert np.mean(np.array(found) <= level) <= level + 2.5 * np.sqrt(level / 200)
    scores, member = planted(60, 1.5)
    halves = halves_of(member)
    test = set_test(cross_fitted(scores, member, halves), member, halves, draws=999)
    assert test.p_value <= 0.01
    assert test.excess > 0.5
    away = set_test(cross_fitted(scores, ~member, halves), ~member, halves, draws=999)
    assert away.p_value > 0.2


def test_many_images_are_tested_by_their_means() -> None:
    scores, member = planted(4500, 0.15, seed=1)
    halves = halves_of(member)
    assert set_test(cross_fitted(scores, member, halves), member, halves).p_value < 1e-3


def test_calibration_removes_what_the_looks_explain() -> None:
    generator = np.random.default_rng(13)
    member = generator.permutation(np.arange(400) < 200)
    looks = generator.standard_normal((400, 5))
    values = looks @ np.array([4.0, -3.0, 0, 0, 2.0])[:, None] + generator.standard_normal(
        (400, 3)
    )
    values[member] += 1.5
    scores, halves = scores_of(values), halves_of(member)
    raw = cross_fitted(scores, member, halves).area.value
    fair = cross_fitted(calibrated(scores, member, halves, looks), member, halves).area.value
    assert raw is not None
    assert fair is not None
    assert fair > raw + 0.1
    assert fair == pytest.approx(0.85, abs=0.05)  # Phi(1.5 / sqrt 2)


def test_biased_sets_are_told_without_a_model() -> None:
    generator = np.random.default_rng(14)
    images = generator.random((240, 3, 10, 10)).astype(np.float32) * 0.5
    member = generator.permutation(np.arange(240) < 120)
    halves = halves_of(member)
    for attack in blind_attacks(images, member, halves):
        assert attack.area.as_estimate().covers(0.5)
    biased = images.copy()
    biased[member] += 0.06
    linear = blind_attacks(biased, member, halves)[0]
    assert linear.area.low is not None
    assert linear.area.low > 0.8
    copies = images.copy()  # every member of one half has a near copy in the other
    ones, others = (np.flatnonzero(member & (halves == half)) for half in (0, 1))
    copies[others] = images[ones] + 0.001
    near = blind_attacks(copies, member, halves)[1]
    assert near.area.low is not None
    assert near.area.low > 0.9
    assert pixel_statistics(np.zeros((3, 4))).shape == (3, 5)


def test_adaptive_placement_costs_less_than_half_for_the_same_width() -> None:
    ratios, widths = [], []
    for seed in range(6):
        scores, member = planted(200, 1.5, seed=seed)
        halves = halves_of(member, seed=seed)
        table = scores.values[:, :, 0]
        asked: list[tuple[int, int]] = []

        def measure(
            rows: np.ndarray,
            level: int,
            table: np.ndarray = table,
            asked: list[tuple[int, int]] = asked,
        ) -> np.ndarray:
            asked += [(int(row), level) for row in rows]
            return np.asarray(table[rows, level])

        found = place(measure, scores.logsnr, np.ones(8), member, halves)
        uniform = cross_fitted(scores, member, halves)
        assert len(asked) == len(set(asked)) == found.evaluations
        assert found.measured.sum() == found.evaluations
        ratios.append(found.evaluations / found.uniform)
        sides = [found.attack.area, uniform.area]
        assert all(a.high is not None and a.low is not None for a in sides)
        widths.append([(a.high or 0) - (a.low or 0) for a in sides])
    assert np.mean(ratios) < 0.5
    assert np.mean(widths, axis=0)[0] <= 1.1 * np.mean(widths, axis=0)[1]


def test_adaptive_placement_is_valid_under_the_null() -> None:
    generator, covers = np.random.default_rng(15), 0
    values = generator.standard_normal((160, 6))
    for split in range(150):
        member = generator.permutation(np.arange(160) < 80)
        found = place(
            lambda rows, level: values[rows, level],
            logsnr_of_ou_time(T[:6]),
            np.ones(6),
            member,
            halves_of(member, seed=split),
            first=10,
        )
        covers += found.attack.area.as_estimate().covers(0.5)
    assert covers / 150 >= 0.92  # the prefix it chooses from makes it err less together
