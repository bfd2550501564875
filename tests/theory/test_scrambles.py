"""Scrambled points: how many, where, and that their spread is an honest standard error."""

import numpy as np
import pytest

from critwin.theory._scrambles import points_per_scramble, scrambles


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (1, 1),
        (16, 1),
        (65536, 4096),
        (40960, 2560),
        (65535, 3584),
        (16 * 9, 8),
        (16 * 2**20, 2**20),
    ],
)
def test_counts_are_rounded_down_to_whole_blocks(asked: int, given: int) -> None:
    assert points_per_scramble(asked) == given
    assert given <= max(1, asked // 16) <= 1.25 * given


@pytest.mark.parametrize("num_samples", [16 * 256, 16 * 320])
def test_standard_error_holds_the_truth_and_beats_plain_draws(num_samples: int) -> None:
    exact = np.expm1(1.0) ** 3
    errors, spreads = [], []
    for seed in range(100):
        values = [np.exp(u).prod(axis=1).mean() for u in scrambles(3, num_samples, "test", seed)]
        errors.append(np.mean(values) - exact)
        spreads.append(np.std(values, ddof=1) / 4)
    ratio = np.std(errors) / np.sqrt(np.mean(np.square(spreads)))
    assert 0.75 < ratio < 1.3
    plain = np.sqrt((0.5 * np.expm1(2.0)) ** 3 - exact**2) / np.sqrt(num_samples)
    assert np.std(errors) < 0.25 * plain


def test_more_dimensions_than_direction_numbers_are_plain_random() -> None:
    (cells,) = scrambles(21202, 2, "test", 0, num_scrambles=1)
    assert cells.shape == (2, 21202)
    assert cells.min() > 0
    assert cells.max() < 1
    assert abs(cells.mean() - 0.5) < 5 * np.sqrt(1 / 12 / cells.size)


def test_uses_do_not_share_points() -> None:
    (one,), (other,) = (scrambles(2, 16, name, 0, num_scrambles=1) for name in ("a", "b"))
    assert not np.allclose(one, other)
