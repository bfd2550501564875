"""Samplers against the truth: measured orders of convergence, paths, guards."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from critwin.errors import InputError
from critwin.levels import alpha_sigma, logsnr_of_ou_time, to_logsnr
from critwin.models.sampler_law import sampler_law
from critwin.models.samplers import (
    SPACINGS,
    Schedule,
    level_path,
    sample_deterministic,
    sample_stochastic,
    step_coefficients,
)
from critwin.theory.exact import exact_transitions
from critwin.theory.mixtures import GaussianMixture, noised_log_density, posterior_mean
from critwin.theory.ode import ode_map

PAIR = GaussianMixture(weights=[0.4, 0.6], means=[-2.0, 2.0], covariances=[0.5, 1.0])
START = float(logsnr_of_ou_time(1.2))
END = 16.0  # the bias of stopping there is 1e-7


def denoise(x: torch.Tensor, logsnr: float) -> torch.Tensor:
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    return posterior_mean(PAIR, x, alpha=alpha, sigma=sigma)


def slope(steps: tuple[int, ...], errors: list[float]) -> float:
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


# --- orders -------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", ["logsnr", "karras"])
@pytest.mark.parametrize("order", [1, 2])
def test_order_of_the_ode_samplers(order: Literal[1, 2], spacing: str) -> None:
    """Distance to the exact flow map, in mean square over the noised law."""
    alpha, sigma = (float(v) for v in alpha_sigma(START))
    x = torch.linspace(-4, 4, 201, dtype=torch.float64)[:, None]
    mass = torch.softmax(noised_log_density(PAIR, x, alpha=alpha, sigma=sigma), dim=0)
    truth = ode_map(PAIR, x, logsnr=START)
    steps, errors = (32, 64, 128, 256), []
    for n in steps:
        path = level_path(START, END, n, spacing=spacing)
        actual = sample_deterministic(denoise, x, path, order=order)
        errors.append(float(torch.sqrt((mass * (actual - truth)[:, 0] ** 2).sum())))
    assert slope(steps, errors) == pytest.approx(-order, abs=0.1)


def test_order_of_the_first_order_sde_sampler() -> None:
    """Distance of the sampler's own transitions to the exact ones: no Monte Carlo in it."""
    truth = exact_transitions(PAIR, [START]).probs[0]
    steps, errors = (16, 32, 64, 128), []
    for n in steps:
        path = level_path(START, END, n, spacing="karras")
        errors.append(np.abs(sampler_law(PAIR, path, order=1) - truth).max())
    assert slope(steps, errors) == pytest.approx(-1, abs=0.05)


def test_order_of_the_second_order_sde_sampler() -> None:
    truth = exact_transitions(PAIR, [START]).probs[0]
    steps, errors = (16, 32, 64), []
    for n in steps:
        path = level_path(START, END, n, spacing="karras")
        law = sampler_law(PAIR, path, num_points=241, num_nodes=10)
        errors.append(np.abs(law - truth).max())
    assert slope(steps, errors) == pytest.approx(-1.8, abs=0.1)  # it rises to 2, see below
    assert errors[0] < np.abs(sampler_law(PAIR, path, order=1) - truth).max()


@pytest.mark.validate
def test_order_of_the_second_order_sde_sampler_in_the_limit() -> None:
    truth = exact_transitions(PAIR, [START]).probs[0]
    steps, errors = (64, 128, 256), []
    for n in steps:
        path = level_path(START, END, n, spacing="karras")
        errors.append(np.abs(sampler_law(PAIR, path, num_points=301) - truth).max())
    assert slope(steps, errors) == pytest.approx(-2, abs=0.1)


@pytest.mark.parametrize("order", [1, 2])
def test_orders_on_one_gaussian_in_closed_form(order: int) -> None:
    """The denoiser is linear, so the covariance of (x_t, x_0) follows an exact recursion."""
    var, steps, errors = 2.0, (128, 256, 512, 1024), []
    for n in steps:
        path = level_path(START, 24.0, n)
        gains = []
        for level in path:
            alpha, sigma = alpha_sigma(level)
            gains.append(alpha * var / (alpha**2 * var + sigma**2))
        alpha, sigma = alpha_sigma(START)
        noised = alpha**2 * var + sigma**2
        # rows: the start, the state, the denoised sample of the step before
        cov = np.full((3, 3), noised)
        for i, (level, below) in enumerate(pairwise(path)):
            step = step_coefficients(level, below, is_stochastic=True)
            ratio = 0.0
            if order == 2 and i > 0:
                ratio = 0.5 * (below - level) / (level - path[i - 1])
            move = np.eye(3)
            move[1, 1] = step.x + step.denoised * (1 + ratio) * gains[i]
            move[1, 2] = -step.denoised * ratio
            move[2] = [0, gains[i], 0]
            cov = move @ cov @ move.T
            cov[1, 1] += step.noise**2
        result = gains[-1] ** 2 * cov[1, 1], gains[-1] * cov[0, 1]
        errors.append(max(abs(result[0] - var), abs(result[1] - alpha * var)))
    assert slope(steps, errors) == pytest.approx(-order, abs=0.05)


def test_law_of_the_sampler_agrees_with_its_samples() -> None:
    """The backward equation against the sampler itself, few steps, both orders."""
    path = level_path(START, 6.0, 5, spacing="karras")
    alpha, sigma = (float(v) for v in alpha_sigma(START))
    num = 40_000
    generator = torch.Generator().manual_seed(3)

    def draw() -> torch.Tensor:
        return torch.randn((num, 1), generator=generator, dtype=torch.float64)

    for order in (1, 2):
        law = sampler_law(PAIR, path, order=order)
        x_t = 2 * alpha + np.hypot(alpha, sigma) * draw()  # component 1, noised
        x_0 = sample_stochastic(denoise, x_t, path, draw, order=order)
        logit = torch.log(torch.tensor(0.4 / 0.6)) + 0.5 * np.log(2)
        logit = logit - (x_0 + 2) ** 2 + 0.5 * (x_0 - 2) ** 2
        left = torch.sigmoid(logit)
        assert abs(float(left.mean()) - law[1, 0]) < 4 * float(left.std()) / np.sqrt(num)
    truth = exact_transitions(PAIR, [START]).probs[0, 1, 0]  # five steps are far from it
    assert abs(float(left.mean()) - truth) > 4 * float(left.std()) / np.sqrt(num)


def test_one_level_is_the_posterior_mean() -> None:
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    assert torch.equal(sample_deterministic(denoise, x, [START]), denoise(x, START))
    never = sample_stochastic(denoise, x, [START], lambda: torch.full_like(x, torch.nan))
    assert torch.equal(never, denoise(x, START))  # the last level draws nothing
    laws = [sampler_law(PAIR, [START], order=order) for order in (1, 2)]
    np.testing.assert_array_equal(laws[0], laws[1])


# --- steps --------------------------------------------------------------------------------


@given(st.floats(-20, 20), st.floats(0.01, 10))
def test_a_step_with_the_true_sample_keeps_the_marginal(start: float, gain: float) -> None:
    """x_s = alpha_s x_0 + sigma_s e goes to alpha_r x_0 + sigma_r e', for both families."""
    stop = start + gain
    alpha_s, sigma_s = alpha_sigma(start)
    alpha_r, sigma_r = alpha_sigma(stop)
    for is_stochastic in (True, False):
        step = step_coefficients(start, stop, is_stochastic=is_stochastic)
        assert step.x * alpha_s + step.denoised == pytest.approx(alpha_r, rel=1e-12)
        spread = np.hypot(step.x * sigma_s, step.noise)
        assert spread == pytest.approx(sigma_r, rel=1e-12)


def test_two_stochastic_steps_are_one() -> None:
    """With the sample known, the reverse chain is Markov: its covariances compose."""
    whole = step_coefficients(-3.0, 4.0, is_stochastic=True)
    first = step_coefficients(-3.0, 1.0, is_stochastic=True)
    second = step_coefficients(1.0, 4.0, is_stochastic=True)
    assert second.x * first.x == pytest.approx(whole.x, rel=1e-13)
    noise = np.hypot(second.x * first.noise, second.noise)
    assert noise == pytest.approx(whole.noise, rel=1e-13)


# --- paths --------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", SPACINGS)
def test_paths_rise_from_start_to_end(spacing: str) -> None:
    path = level_path(-5.0, 8.0, 17, spacing=spacing)
    assert (path[0], path[-1], len(path)) == (-5.0, 8.0, 17)
    assert np.all(np.diff(path) > 0)
    assert level_path(-5.0, 8.0, 1, spacing=spacing).tolist() == [-5.0]
    assert level_path(9.0, 8.0, 17, spacing=spacing).tolist() == [9.0]


@given(st.data())
def test_paths_over_discrete_levels_are_distinct_and_nearest(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 60))
    available = to_logsnr(np.linspace(0.02, 0.98, count + 1)[:-1], "alpha_bar")
    start = float(data.draw(st.sampled_from(list(available))))
    end = data.draw(st.floats(-5, 5))
    steps = data.draw(st.integers(1, 80))
    path = level_path(start, end, steps, available=available)
    assert path[0] == start
    assert np.all(np.diff(path) > 0)
    assert np.isin(path, available).all()
    last = available[np.argmin(np.abs(available - end))]
    reachable = np.sum((available >= start) & (available <= max(last, start)))
    assert len(path) == min(steps, reachable)
    if len(path) > 1:
        assert path[-1] == last


def test_a_schedule_gives_every_start_its_share_of_steps() -> None:
    schedule = Schedule(start=-10.0, end=10.0, steps=41)
    assert len(schedule.path()) == 41
    assert len(schedule.path(0.0)) == 21
    assert np.diff(schedule.path(0.0)).max() == pytest.approx(0.5)
    assert schedule.path(0.25)[0] == 0.25
    assert np.diff(schedule.path(0.25)).max() <= 0.5
    assert len(schedule.path(-12.0)) == 45  # noisier than the schedule: more steps, same size
    assert schedule.path(11.0).tolist() == [11.0]
    assert len(schedule.path(0.0, steps=5)) == 3


def test_a_schedule_with_levels_starts_at_one_of_them_only() -> None:
    levels = np.linspace(6.0, -6.0, 101)
    schedule = Schedule(start=-6.0, end=6.0, steps=10, available=levels)
    path = schedule.path(float(levels[37]))
    assert path[0] == levels[37]
    assert np.isin(path, levels).all()
    with pytest.raises(InputError, match="cannot start from this level"):
        schedule.path(float(levels[37]) + 0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: step_coefficients(1.0, 1.0, is_stochastic=True), "must rise"),
        (lambda: level_path(0.0, 1.0, 0), "too few steps"),
        (lambda: level_path(0.0, 1.0, 3, spacing="even"), "unknown spacing"),
        (lambda: level_path(0.0, np.inf, 3), "must be finite"),
        (lambda: level_path(0.5, 2.0, 3, available=[0.0, 1.0, 2.0]), "start at an available"),
        (lambda: Schedule(start=1.0, end=0.0, steps=3), "from noise to clean"),
        (lambda: Schedule(start=0.0, end=1.0, steps=0), "too few steps"),
        (lambda: Schedule(start=0.0, end=1.0, steps=3, spacing="x"), "unknown spacing"),
        (lambda: Schedule(start=0.0, end=1.0, steps=3).path(0.5, steps=0), "too few steps"),
        (lambda: Schedule(start=0.0, end=1.0, steps=3).path(np.nan), "must be finite"),
        (
            lambda: sample_deterministic(denoise, torch.zeros(1, 1), [0.0, 1.0], order=3),  # type: ignore[arg-type]
            "unknown order",
        ),
        (lambda: sample_deterministic(denoise, torch.zeros(1, 1), [1.0, 0.0]), "must rise"),
        (lambda: sampler_law(PAIR, [0.0], order=3), "unknown order"),  # type: ignore[arg-type]
        (
            lambda: sampler_law(GaussianMixture(means=np.zeros((2, 2))), [0.0]),
            "D = 1 and positive",
        ),
    ],
)
def test_bad_calls_are_refused(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()  # type: ignore[operator]
