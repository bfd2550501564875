"""Densities on a grid: exact for the piecewise constant law, refusals of what is not a density."""

from __future__ import annotations

import math

import numpy as np
import pytest

from critwin.errors import InputError
from critwin.levels import logsnr_of_ou_time
from critwin.theory.distances import pairwise_tv, total_variation
from critwin.theory.exact import exact_transitions
from critwin.theory.log_concave import (
    GridMixture,
    ProductMixture,
    grid_transitions,
    product_transitions,
    uniform,
)
from critwin.theory.mixtures import GaussianMixture

TIMES = np.array([1e-4, 0.05, 0.4, 1.5, 4.0])
LEVELS = np.append(np.inf, logsnr_of_ou_time(TIMES))


def gauss(x: np.ndarray, mean: float, sd: float) -> np.ndarray:
    return np.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))


def test_two_cells_are_two_uniform_laws() -> None:
    # grid points 0.5 and 1.5 are the middles of [0, 1] and [1, 2]
    grid = GridMixture(
        densities=[[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], axes=[[0.5, 1.5]], weights=[0.5, 0.3, 0.2]
    )
    same = ProductMixture(
        components=[uniform(0, 1), uniform(1, 2), uniform(0, 2)], weights=[0.5, 0.3, 0.2]
    )
    ours, known = grid_transitions(grid, LEVELS), product_transitions(same, LEVELS)
    assert ours.kind == "exact"
    np.testing.assert_allclose(ours.probs, known.probs, atol=1e-10)
    np.testing.assert_allclose(pairwise_tv(grid, LEVELS), pairwise_tv(same, LEVELS), atol=1e-10)
    curve = total_variation(grid, "0", ["1", "2"], LEVELS[1:])
    assert curve.is_exact
    np.testing.assert_allclose(
        curve.estimate, total_variation(same, "0", ["1", "2"], LEVELS[1:]).estimate, atol=1e-10
    )
    np.testing.assert_allclose(grid.means.numpy()[:, 0], [0.5, 1.5, 1.0])


def test_a_fine_grid_approaches_the_density_it_samples() -> None:
    known = GaussianMixture(
        weights=[0.6, 0.4],
        means=[0.0, 2.0],
        covariances=[[1.0], [0.25]],
        covariance_kind="diagonal",
    )
    errors = []
    for step in (0.2, 0.1):
        x = np.arange(-7, 9, step)
        grid = GridMixture(
            densities=[gauss(x, 0, 1), gauss(x, 2, 0.5)], axes=[x], weights=[0.6, 0.4]
        )
        levels = LEVELS[3:]
        gap = grid_transitions(grid, levels).probs - exact_transitions(known, levels).probs
        errors.append(np.abs(gap).max())
        tv = pairwise_tv(grid, levels) - pairwise_tv(known, levels)
        assert np.abs(tv).max() < 4 * errors[-1] + 1e-9
    assert errors[1] < 2e-3
    assert 3 < errors[0] / errors[1] < 5  # second order in the step


def test_shapes_that_no_theorem_covers_are_welcome() -> None:
    x = np.linspace(-30, 30, 241)
    heavy = 1 / (1 + x**2)
    two = gauss(x, -5, 1) + gauss(x, 5, 1)
    width = x[1] - x[0]
    grid = GridMixture(
        densities=[heavy / (heavy.sum() * width), two / (two.sum() * width)], axes=[x]
    )
    table = grid_transitions(grid, LEVELS[2:])
    flow = grid.weights.numpy()[:, None] * table.probs
    np.testing.assert_allclose(flow, flow.transpose(0, 2, 1), atol=1e-10)
    tv = pairwise_tv(grid, LEVELS[1:])[:, 0, 1]
    assert np.all(np.diff(tv) < 1e-12)
    np.testing.assert_allclose(
        grid_transitions(grid, [-60.0]).probs[0], np.full((2, 2), 0.5), atol=1e-9
    )


def test_the_plane() -> None:
    known = GaussianMixture(weights=[0.6, 0.4], means=[[0.0, 0.0], [2.0, 1.0]])
    x, y = np.arange(-5, 7.01, 0.25), np.arange(-5, 6.01, 0.25)
    grid = GridMixture(
        densities=[
            np.outer(gauss(x, 0, 1), gauss(y, 0, 1)),
            np.outer(gauss(x, 2, 1), gauss(y, 1, 1)),
        ],
        axes=[x, y],
        weights=[0.6, 0.4],
    )
    np.testing.assert_allclose(grid.means.numpy(), [[0, 0], [2, 1]], atol=1e-4)
    levels = LEVELS[3:5]
    table = grid_transitions(grid, levels)
    # cells widen a law by h^2/12
    np.testing.assert_allclose(table.probs, exact_transitions(known, levels).probs, atol=3e-3)
    flow = grid.weights.numpy()[:, None] * table.probs
    np.testing.assert_allclose(flow, flow.transpose(0, 2, 1), atol=1e-10)
    curve = total_variation(grid, "0", "1", levels)
    truth = pairwise_tv(known, levels)[:, 0, 1]
    assert np.all(np.abs(curve.estimate - truth) < 4e-3)
    assert np.all(curve.upper - curve.lower < 0.02)
    with pytest.raises(InputError, match="total_variation"):
        pairwise_tv(grid, levels)


def test_what_is_not_a_density_on_a_grid_is_refused() -> None:
    good = [[0.5, 0.5], [1.0, 0.0]]
    axis = [0.5, 1.5]
    for densities, axes, wanted in (
        ([[0.5, np.nan], [1, 0]], [axis], "finite"),
        ([[1.5, -0.5], [1, 0]], [axis], ">= 0"),
        ([[0.5, 0.6], [1, 0]], [axis], "does not sum to 1"),
        ([[0.0, 0.0], [1, 0]], [axis], "does not sum to 1"),
        (good, [[1.5, 0.5]], "increasing"),
        (good, [[0.5, np.inf]], "increasing"),
        (good, [[0.5, 1.5, 2.5]], "do not fit"),
        (good, [axis, axis], "do not fit"),
        (good, [axis, axis, axis], "do not fit"),
        (np.ones((2, 1)), [[0.5]], "two points"),
        (np.ones((0, 2)), [axis], "no component"),
    ):
        with pytest.raises(InputError, match=wanted) as error:
            GridMixture(densities=densities, axes=axes)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="sum to 1"):
        GridMixture(densities=good, axes=[axis], weights=[1.0, 1.0])
    near = GridMixture(densities=[[0.5, 0.5004], [1, 0]], axes=[axis])
    assert near.densities[0].sum() == pytest.approx(1.0)
