import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from critwin.errors import InputError
from critwin.experiments.sources import plan_generated
from critwin.experiments.spec import Spec, plan
from critwin.experiments.units import Level, Unit, batches, coarse_to_fine, resolve_levels
from critwin.levels import grid

GRID = np.linspace(6.0, -8.0, 141)


def test_levels_are_taken_as_they_are_where_the_model_starts_anywhere() -> None:
    levels = resolve_levels([-2.0, 0.0, 1.23456789], None)
    assert [level.effective for level in levels] == [1.23456789, 0.0, -2.0]
    assert all(level.requested == level.effective for level in levels)


def test_levels_snap_to_the_nearest_and_coinciding_ones_merge() -> None:
    levels = resolve_levels([1.06, 1.01, 0.52, -3.0], GRID)
    assert [level.requested for level in levels] == [1.06, 1.01, 0.52, -3.0]
    merged = resolve_levels([1.04, 1.01, 0.52], GRID)
    assert [level.requested for level in merged] == [1.01, 0.52]  # 1.01 is nearer to 1.0
    np.testing.assert_allclose([level.effective for level in merged], [1.0, 0.5], atol=1e-12)


def test_a_measured_level_keeps_its_name_when_a_nearer_one_is_added() -> None:
    (level,) = resolve_levels([1.04, 1.01], GRID, measured=[1.04])
    assert level.requested == 1.04
    (level,) = resolve_levels([1.04 + 1e-7], GRID, measured=[1.04])
    assert level.requested == 1.04  # the stream of 1.040000 is the same one


@given(st.sets(st.integers(-79, 59), min_size=1, max_size=20), st.booleans())
def test_the_order_of_the_request_does_not_matter(picks: set[int], is_up: bool) -> None:
    asked = sorted((pick / 10.0 + 0.031 for pick in picks), reverse=not is_up)
    levels = resolve_levels(asked, GRID)
    assert levels == resolve_levels(asked[::-1], GRID)
    effective = [level.effective for level in levels]
    assert effective == sorted(effective, reverse=True)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([], "no levels"),
        ([1.0, 1.0], "not in order"),
        ([1.0, 0.0, 2.0], "not in order"),
        ([np.nan], "not finite"),
        ([9.0], "outside the range of the model"),
        ([0.0, -8.3], "outside the range of the model"),
    ],
)
def test_levels_that_cannot_be_used_are_refused(asked: list[float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        resolve_levels(asked, GRID)


def test_a_level_out_of_range_is_shown_in_the_unit_of_the_user() -> None:
    with pytest.raises(InputError, match=r"got t = 9; wanted t between .* and 4\.0"):
        resolve_levels([-18.0], np.linspace(6.0, -8.0, 141), unit="t")


def test_of_levels_out_of_range_the_one_that_was_typed_is_shown() -> None:
    own = np.linspace(6.0, -8.0, 141)
    with pytest.raises(InputError, match=r"got t = 9; wanted t between"):
        resolve_levels(grid(0.2, 9.0, 20, unit="t"), own, unit="t")
    with pytest.raises(InputError, match=r"got logsnr = 12; wanted logsnr between -8 and 6"):
        resolve_levels(grid(12.0, -8.5, 20, unit="logsnr"), own, unit="logsnr")


def test_coarse_to_fine_is_a_permutation_that_covers_the_axis_early() -> None:
    levels = [Level(float(-i), float(-i)) for i in range(17)]
    order = [int(-level.effective) for level in coarse_to_fine(levels)]
    assert sorted(order) == list(range(17))
    assert order[:5] == [0, 16, 8, 4, 12]
    for num in range(3, 18):  # no gap is more than twice as wide as another one
        gaps = np.diff(sorted(order[:num]))
        assert gaps.max() <= 2 * gaps.min()


def test_keys_tell_all_units_apart() -> None:
    hostile = ["a", "a,b", 'a"', "a\x00", "[", "s", "é", "1", ""]
    units = [
        Unit(
            source=source,
            source_index=0,
            logsnr=level,
            requested_logsnr=level,
            replicate=replicate,
            condition=condition,
        )
        for source in hostile
        for level in (0.0, 1.0, -1.0)
        for replicate in (0, 1)
        for condition in (None, "", "none", "a")
    ]
    assert len({unit.key for unit in units}) == len(units)
    assert json.loads(units[0].key)[-2:] == ["0.000000", 0]


def test_a_negative_zero_is_the_same_level() -> None:
    one, two = (
        Unit(source="s", source_index=0, logsnr=zero, requested_logsnr=zero)
        for zero in (0.0, -0.0)
    )
    assert one.key == two.key


def test_batches_hold_one_level_each_and_every_unit_once() -> None:
    spec = Spec(
        sources=tuple(plan_generated(7)),
        levels=resolve_levels([2.0, 1.0, 0.0], None),
        reversal="posterior",
        replicates=3,
        batch_size=4,
    )
    units = plan(spec)
    assert len(units) == len({unit.key for unit in units}) == 7 * 3 * 3
    groups = list(batches(reversed(units), 4))
    assert sorted(unit.key for group in groups for unit in group) == sorted(u.key for u in units)
    assert all(len({unit.logsnr for unit in group}) == 1 for group in groups)
    assert [len(group) for group in groups] == [4, 4, 4, 4, 4, 1] * 3


def test_growing_a_plan_only_adds_units() -> None:
    def keys(count: int, levels: list[float], replicates: int) -> set[str]:
        spec = Spec(
            sources=tuple(plan_generated(count, ["left", "right"])),
            levels=resolve_levels(levels, None),
            reversal="posterior",
            replicates=replicates,
        )
        return {unit.key for unit in plan(spec)}

    small = keys(5, [2.0, 0.0], 1)
    assert small < keys(9, [2.0, 0.0], 1)
    assert small < keys(5, [2.0, 1.0, 0.0], 1)
    assert small < keys(5, [2.0, 0.0], 4)
