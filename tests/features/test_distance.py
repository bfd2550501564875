"""Root mean squares, by hand and by a loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from critwin.errors import InputError
from critwin.features.base import Comparison, checked_compare
from critwin.features.distance import PixelComparison
from critwin.streams import numpy_stream


def test_known_distances() -> None:
    pixels = PixelComparison()
    assert isinstance(pixels, Comparison)
    black, white = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    assert pixels.read(black, white)["pixels"] == pytest.approx([1.0])
    assert pixels.read(white, white)["pixels"] == [0.0]
    one = black.clone()
    one[0, 1, 2, 3] = 0.5  # one of 48 numbers
    assert pixels.read(black, one)["pixels"] == pytest.approx([0.5 / np.sqrt(48)])


@pytest.mark.parametrize("shape", [(5, 3, 6, 4), (5, 7)])
def test_equals_a_loop_and_rows_do_not_meet(shape: tuple[int, ...]) -> None:
    rng = numpy_stream(0, "rms")
    a, b = rng.random(shape).astype(np.float32), rng.random(shape).astype(np.float32)
    found = PixelComparison(name="far").read(torch.from_numpy(a), torch.from_numpy(b))["far"]
    expected = [
        float(np.sqrt(np.mean([(float(x) - float(y)) ** 2 for x, y in zip(p, q, strict=True)])))
        for p, q in zip(a.reshape(5, -1), b.reshape(5, -1), strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_array_equal(PixelComparison().read(a[2:3], b[2:3])["pixels"], found[2:3])


def test_results_that_are_not_finite_have_no_distance() -> None:
    a = np.zeros((2, 3))
    b = np.array([[1.0, 1.0, 1.0], [np.nan, 0.0, 0.0]])
    found = checked_compare(PixelComparison(), a, b)["pixels"]
    assert found[0] == 1.0
    assert np.isnan(found[1])


def test_a_name_must_be_one() -> None:
    with pytest.raises(InputError):
        PixelComparison(name="")
