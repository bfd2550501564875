"""The probability-flow ODE has its own truth: quantiles go to quantiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.stats import norm

from critwin.errors import InputError
from critwin.levels import alpha_sigma, grid, logsnr_of_ou_time
from critwin.streams import stream
from critwin.theory.exact import exact_transitions
from critwin.theory.mixtures import GaussianMixture, posterior_probs, sample, score
from critwin.theory.ode import ode_map, ode_transitions
from mixture_cases import FOUR, random_mixture

OVERLAPPING = GaussianMixture(
    weights=[0.5, 0.3, 0.2], means=[-1.0, 1.0, 1.5], covariances=[1.0, 0.3, 4.0]
)


def test_flow_map_solves_the_ode() -> None:
    """``dx/dt = -x - score`` in OU time, integrated backwards by SciPy."""
    t_start = 1.2
    x_t = np.linspace(-2.5, 2.5, 9)

    def backward(t: float, x: np.ndarray) -> np.ndarray:
        alpha = np.exp(-t)
        sigma = np.sqrt(-np.expm1(-2 * t))
        at = torch.from_numpy(x.copy())[:, None]
        return -x - score(FOUR, at, alpha=alpha, sigma=sigma)[:, 0].numpy()

    solved = solve_ivp(backward, (t_start, 0.0), x_t, rtol=1e-9, atol=1e-10, method="DOP853").y[
        :, -1
    ]
    logsnr = float(logsnr_of_ou_time(t_start))
    actual = ode_map(FOUR, torch.from_numpy(x_t)[:, None], logsnr=logsnr)[:, 0].numpy()
    np.testing.assert_allclose(actual, solved, rtol=1e-6, atol=1e-7)


def test_flow_map_is_monotone_and_keeps_the_law() -> None:
    logsnr = -3.0
    y = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]  # tails of 1e-19
    x = ode_map(FOUR, y, logsnr=logsnr)
    assert bool((x.diff(dim=0) >= 0).all())
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    weights, means = FOUR.weights.numpy(), FOUR.means[:, 0].numpy()
    sd = np.sqrt(FOUR.eigenvalues[:, 0].numpy())
    lower_y = norm.cdf((y.numpy() - alpha * means) / np.hypot(alpha * sd, sigma)) @ weights
    lower_x = norm.cdf((x.numpy() - means) / sd) @ weights
    np.testing.assert_allclose(lower_x, lower_y, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("labeller", ["component", "map"])
def test_two_far_gaussians_keep_their_sign(labeller: str) -> None:
    """Stay is Phi(k) under the ODE and phi(k) under the posterior draw."""
    k = np.array([3.0, 2.0, 1.0, 0.5])
    far = GaussianMixture(means=[-20.0, 20.0])
    levels = logsnr_of_ou_time(np.log(20.0 / k))  # unit covariance: k = e^{-t} |mu|
    ode = ode_transitions(far, levels, labeller=labeller)  # type: ignore[arg-type]
    assert ode.reversal == "ode"
    np.testing.assert_allclose(ode.probs[:, 0, 0], norm.cdf(k), atol=1e-10)
    posterior = exact_transitions(far, levels).probs[:, 0, 0]
    assert np.all(np.abs(posterior - norm.cdf(k)) > 5e-4)  # the two are different numbers
    np.testing.assert_allclose(posterior[2], 0.775200, atol=6e-7)


@pytest.mark.parametrize("labeller", ["component", "map"])
def test_ode_transitions_agree_with_counts(labeller: str) -> None:
    logsnr, num = -2.0, 40_000
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    generator = stream(0, "ode", labeller)
    clean = sample(OVERLAPPING, num, generator=generator)
    noise = torch.randn(clean.x.shape, generator=generator, dtype=torch.float64)
    image = ode_map(OVERLAPPING, alpha * clean.x + sigma * noise, logsnr=logsnr)
    level = {"alpha": 1.0, "sigma": 0.0}
    probs = posterior_probs(OVERLAPPING, image, **level)
    if labeller == "map":
        before = posterior_probs(OVERLAPPING, clean.x, **level).argmax(-1)
        after = probs.argmax(-1)
    else:
        before = clean.component
        after = torch.multinomial(probs, 1, generator=generator)[:, 0]
    counts = np.zeros((3, 3))
    np.add.at(counts, (before.numpy(), after.numpy()), 1)
    total = counts.sum(axis=1, keepdims=True)
    tr = ode_transitions(OVERLAPPING, [logsnr], labeller=labeller)  # type: ignore[arg-type]
    stderr = np.sqrt(tr.probs[0] * (1 - tr.probs[0]) / total)
    assert np.all(np.abs(counts / total - tr.probs[0]) < 4 * stderr + 1e-4)
    posterior = exact_transitions(OVERLAPPING, [logsnr], labeller=labeller)  # type: ignore[arg-type]
    assert not np.all(np.abs(counts / total - posterior.probs[0]) < 4 * stderr)


@pytest.mark.parametrize("labeller", ["component", "map"])
def test_ode_laws_and_limits(labeller: str) -> None:
    levels = np.concatenate([[40.0], grid(0.05, 4.0, 6), [-40.0]])
    tr = ode_transitions(FOUR, levels, labeller=labeller)  # type: ignore[arg-type]
    assert tr.weights is not None
    np.testing.assert_allclose(tr.probs.sum(-1), 1, atol=1e-12)
    # marginals are kept: w C = w at every level, although detailed balance is not demanded
    np.testing.assert_allclose(
        tr.weights @ tr.probs, np.tile(tr.weights, (len(levels), 1)), atol=1e-9
    )
    np.testing.assert_allclose(tr.probs[-1], np.tile(tr.weights, (4, 1)), atol=1e-6)
    diagonal = tr.weights @ np.diagonal(tr.probs[0])
    assert diagonal == pytest.approx(tr.plateau, abs=1e-6)


def test_points_and_groups_and_collinear_means() -> None:
    points = GaussianMixture(means=[-1.0, 1.0], covariances=0.0)
    level = [0.5]
    k = np.exp(0.25)  # alpha / sigma: half the distance over the noise
    for labeller in ("component", "map"):
        tr = ode_transitions(points, level, labeller=labeller)  # type: ignore[arg-type]
        assert tr.probs[0, 0, 0] == pytest.approx(norm.cdf(k), abs=1e-7)
    groups = {"left": ["0", "1"], "right": ["2", "3"]}
    merged = ode_transitions(FOUR, level, labels=groups)
    assert merged.before == ("left", "right")
    means = np.zeros((2, 7))
    means[:, 3] = [-1.0, 1.0]
    space = ode_transitions(GaussianMixture(means=means), level)
    line = ode_transitions(GaussianMixture(means=[-1.0, 1.0]), level)
    np.testing.assert_allclose(space.probs, line.probs, atol=1e-12)


def test_what_is_not_on_a_line_is_refused() -> None:
    m = random_mixture("full", is_shared=True)
    with pytest.raises(InputError, match="on a line only"):
        ode_transitions(m, [0.0])
    with pytest.raises(InputError, match="in one dimension"):
        ode_map(m, torch.zeros(3, 4, dtype=torch.float64), logsnr=0.0)
