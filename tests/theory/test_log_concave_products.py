"""Products of log-concave densities: Gaussians reproduced, posterior draws, transitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from critwin.errors import InputError
from critwin.levels import alpha_sigma, logsnr_of_ou_time
from critwin.quantities import stay
from critwin.streams import numpy_stream
from critwin.theory import mixtures
from critwin.theory.exact import exact_transitions
from critwin.theory.log_concave import (
    ProductMixture,
    affine,
    as_product,
    gaussian,
    gumbel,
    laplace,
    logistic,
    product_transitions,
    skew_normal,
    tilted_gaussian,
    truncated_gaussian,
)
from critwin.theory.log_concave._line_table import line_table
from critwin.theory.log_concave.posteriors import (
    noised_log_density,
    posterior_draw,
    posterior_mean,
    posterior_probs,
    sample,
)
from critwin.theory.mixtures import GaussianMixture
from mixture_cases import FOUR

TIMES = np.array([1e-6, 1e-3, 0.1, 0.5, 1.0, 1.5, 3.0, 8.0])
LEVELS = np.append(np.inf, logsnr_of_ou_time(TIMES))

MIXED = ProductMixture(
    components=[
        skew_normal(-3, 1.5, 6),
        truncated_gaussian(0, 1, -0.5, 2),
        laplace(3, 0.4),
        gumbel(4, 1),
    ],
    weights=[0.3, 0.2, 0.1, 0.4],
    names=["skew", "cut", "kink", "tail"],
)
FLAT = GaussianMixture(
    weights=[0.5, 0.3, 0.2],
    means=[[0.0, 1.0], [3.0, 0.0], [1.0, -2.0]],
    covariances=[[1.0, 0.5], [0.7, 2.0], [1.0, 1.0]],
    covariance_kind="diagonal",
)
DEEP = GaussianMixture(
    weights=[0.5, 0.3, 0.2], means=[[0.0, 1.0, 0.0], [2.0, 0.0, 1.0], [1.0, -2.0, 1.0]]
)


def test_gaussians_written_as_products_have_the_same_transitions() -> None:
    ours, known = product_transitions(as_product(FOUR), LEVELS), exact_transitions(FOUR, LEVELS)
    assert ours.kind == "exact"
    np.testing.assert_allclose(ours.probs, known.probs, atol=1e-12)
    assert ours.plateau == pytest.approx(known.plateau, abs=1e-12)
    row = ours.probs[logsnr_of_ou_time(1.5) == LEVELS][0]
    np.testing.assert_allclose(row[0], [0.632665, 0.331401, 0.028416, 0.007518], atol=6e-7)


def test_two_coordinates_are_a_quadrature_too() -> None:
    shared = GaussianMixture(weights=FLAT.weights, means=FLAT.means)
    ours = product_transitions(as_product(shared), LEVELS[::3])
    assert ours.kind == "exact"
    np.testing.assert_allclose(ours.probs, exact_transitions(shared, LEVELS[::3]).probs, atol=1e-9)


def test_three_coordinates_are_an_estimate_within_its_error() -> None:
    levels = LEVELS[3:7:2]
    ours = product_transitions(as_product(DEEP), levels, num_samples=1 << 10)
    known = exact_transitions(DEEP, levels)
    assert ours.kind == "estimated"
    assert ours.stderr is not None
    assert 0 < ours.stderr.max() < 5e-3
    assert np.abs(ours.probs - known.probs).max() < 6 * ours.stderr.max()
    again = product_transitions(as_product(DEEP), levels, num_samples=1 << 10)
    np.testing.assert_array_equal(ours.probs, again.probs)


def test_structure_of_transitions() -> None:
    table = product_transitions(MIXED, LEVELS)
    weights = MIXED.weights.numpy()
    flow = weights[:, None] * table.probs
    np.testing.assert_allclose(flow, flow.transpose(0, 2, 1), atol=1e-12)
    np.testing.assert_allclose(table.probs.sum(axis=2), 1.0, atol=1e-12)
    for name in MIXED.names:
        assert np.all(np.diff(stay(table, name)) < 1e-12)
    np.testing.assert_allclose(
        product_transitions(MIXED, [-80.0]).probs[0], np.tile(weights, (4, 1)), atol=1e-12
    )
    near = product_transitions(MIXED, [30.0]).probs[0]
    np.testing.assert_allclose(near, table.probs[0], atol=1e-5)


def test_transitions_against_an_independent_rule() -> None:
    t = 0.4
    alpha, sigma = math.exp(-t), math.sqrt(-math.expm1(-2 * t))
    y = np.linspace(-14, 60, 4001)[:, None]
    density = [
        np.exp(noised_log_density(ProductMixture(components=[row]), y, alpha=alpha, sigma=sigma))
        for row in MIXED.components
    ]
    joint = MIXED.weights.numpy()[:, None] * np.array(density)
    known = np.array(density) @ (joint / joint.sum(axis=0)).T * (y[1, 0] - y[0, 0])
    table = product_transitions(MIXED, logsnr_of_ou_time([t]))
    np.testing.assert_allclose(table.probs[0], known, atol=1e-11)


def test_labels_merge() -> None:
    table = product_transitions(MIXED, LEVELS[2:5], labels={"left": ["skew", "cut"]})
    assert set(table.before) == {"left", "kink", "tail"}


def test_gaussian_points_densities_posteriors_and_draws() -> None:
    m, rng = as_product(FLAT), numpy_stream(0, "points")
    alpha, sigma = (float(v) for v in alpha_sigma(0.7))
    x, z, u = 2 * rng.normal(size=(50, 2)), rng.normal(size=(50, 2)), rng.random(50)
    level = {"alpha": alpha, "sigma": sigma}
    at = torch.from_numpy(x)
    for ours, known in (
        (noised_log_density, mixtures.noised_log_density),
        (posterior_probs, mixtures.posterior_probs),
        (posterior_mean, mixtures.posterior_mean),
    ):
        np.testing.assert_allclose(ours(m, x, **level), known(FLAT, at, **level), atol=1e-10)
    drawn = posterior_draw(m, x, normals=z, uniforms=u, **level)
    known_ = mixtures.posterior_draw(
        FLAT, at, normals=torch.from_numpy(z), uniforms=torch.from_numpy(u), **level
    )
    np.testing.assert_array_equal(drawn.component, known_.component)
    np.testing.assert_allclose(drawn.x, known_.x, atol=1e-8)


def test_no_mass_is_lost_whatever_the_scales() -> None:
    rng = numpy_stream(6, "scales")
    makers = (
        gaussian,
        lambda c, s: skew_normal(c, s, 100.0),
        lambda c, s: truncated_gaussian(c, s, c + s, c + 5 * s),
        laplace,
        gumbel,
        logistic,
    )
    for _ in range(4):
        pick = rng.choice(len(makers), size=3, replace=False)
        law = [makers[k](1e4 * rng.normal(), 10 ** rng.uniform(-3, 3)) for k in pick]
        for t in (0.0, 1e-6, 1e-3, 0.1, 1.0, 30.0):
            alpha, sigma = (float(v) for v in alpha_sigma(logsnr_of_ou_time(t)))
            table = line_table(law, np.full(3, 1 / 3), alpha, sigma)
            mass = (table.values * table.weights).sum(axis=(1, 2))
            np.testing.assert_allclose(mass, 1.0, atol=1e-9)
            assert table.values.shape[1] < 1000


LAWS = {
    "skew": skew_normal(0, 1, -8),
    "cut": truncated_gaussian(0, 1, -0.5, 2),
    "kink": laplace(0, 1),
    "logistic": logistic(1, 2),
    "quartic": tilted_gaussian(lambda x: -(x**4)),
}


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize(("y", "t"), [(0.4, 0.05), (-2.0, 0.5), (3.0, 2.0)])
def test_posterior_draws_are_quantiles_of_the_posterior(name: str, y: float, t: float) -> None:
    law = LAWS[name]
    alpha, sigma = math.exp(-t), math.sqrt(-math.expm1(-2 * t))
    z = np.array([-3.0, -1.0, 0.0, 0.7, 2.5])
    drawn = posterior_draw(
        ProductMixture(components=[law]),
        np.full((5, 1), y),
        alpha=alpha,
        sigma=sigma,
        normals=z[:, None],
        uniforms=np.zeros(5),
    ).x[:, 0]
    low, high = float(law.edges[0]), float(law.edges[-1])

    def joint(x: float) -> float:
        return float(np.exp(law.log_density(np.array(x)) - 0.5 * ((y - alpha * x) / sigma) ** 2))

    cuts = np.unique(np.clip([low, *law.kinks, y / alpha, *drawn, high], low, high))
    parts = [
        integrate.quad(joint, a, b, epsabs=0, epsrel=1e-11, limit=300)[0]
        for a, b in itertools.pairwise(cuts)
    ]
    share = np.cumsum(parts) / np.sum(parts)
    found = [share[np.searchsorted(cuts, x) - 1] for x in drawn]
    np.testing.assert_allclose(found, stats.norm.cdf(z), atol=1e-7)


def _sets_of_draws(sigma_used: float) -> float:
    """p-value of the KS test of posterior draws at one noisy point against quadrature."""
    m, alpha, sigma, y = ProductMixture(components=[LAWS["cut"]]), 0.8, 0.6, 1.1
    drawn = posterior_draw(
        m,
        np.full((2000, 1), y),
        alpha=alpha,
        sigma=sigma_used,
        generator=numpy_stream(1, "ks"),
    ).x[:, 0]
    grid = np.linspace(-0.5, 2, 20_001)
    mass = np.exp(-0.5 * grid**2 - 0.5 * ((y - alpha * grid) / sigma) ** 2)
    cdf = integrate.cumulative_trapezoid(mass, grid, initial=0)
    return float(stats.kstest(drawn, lambda x: np.interp(x, grid, cdf / cdf[-1])).pvalue)


def test_posterior_draws_pass_a_ks_test_and_a_planted_bug_fails_it() -> None:
    assert _sets_of_draws(0.6) > 1e-3
    assert _sets_of_draws(0.75) < 1e-6


def test_samples_have_the_law_of_the_mixture() -> None:
    drawn = sample(MIXED, 2000, generator=numpy_stream(2, "samples"))
    share = np.bincount(drawn.component, minlength=4) / 2000
    np.testing.assert_allclose(share, MIXED.weights.numpy(), atol=5 * 0.5 / math.sqrt(2000))
    mine = drawn.x[drawn.component == 0, 0]
    assert stats.kstest(mine, stats.skewnorm(6, -3, 1.5).cdf).pvalue > 1e-3


def test_noising_then_drawing_keeps_the_prior_and_counts_the_transitions() -> None:
    rng, t = numpy_stream(3, "loop"), 0.3
    alpha, sigma = math.exp(-t), math.sqrt(-math.expm1(-2 * t))
    clean = sample(MIXED, 1500, generator=rng)
    noisy = alpha * clean.x + sigma * rng.normal(size=clean.x.shape)
    back = posterior_draw(MIXED, noisy, alpha=alpha, sigma=sigma, generator=rng)
    table = product_transitions(MIXED, logsnr_of_ou_time([t])).probs[0]
    for i in range(4):
        mine = back.component[clean.component == i]
        share = np.bincount(mine, minlength=4) / len(mine)
        assert np.all(np.abs(share - table[i]) < 5 * np.sqrt(0.25 / len(mine)))


def test_bad_mixtures_and_calls_are_one_line() -> None:
    one = gaussian()
    for call in (
        lambda: ProductMixture(components=[]),
        lambda: ProductMixture(components=[[one, one], [one]]),
        lambda: ProductMixture(components=[one, 3.0]),  # type: ignore[list-item]
        lambda: ProductMixture(components=[one, one], weights=[0.5, 0.6]),
        lambda: ProductMixture(components=[one, one], names=["a", "a"]),
        lambda: as_product(
            GaussianMixture(means=[[0, 0], [1, 1]], covariances=[[1, 0.5], [0.5, 1]])
        ),
        lambda: posterior_probs(MIXED, [[1.0, 2.0]], alpha=1, sigma=1),
        lambda: posterior_probs(MIXED, [[1.0]], alpha=-1, sigma=1),
        lambda: posterior_probs(
            ProductMixture(components=[LAWS["cut"]]), [[9.0]], alpha=1, sigma=0
        ),
        lambda: posterior_draw(MIXED, [[1.0]], alpha=1, sigma=0, generator=numpy_stream(0)),
        lambda: posterior_draw(MIXED, [[1.0]], alpha=1, sigma=1),
        lambda: product_transitions(as_product(DEEP), [0.0], method="quadrature"),
        lambda: product_transitions(MIXED, [np.nan]),
        lambda: MIXED.indices("nobody"),
    ):
        with pytest.raises(InputError) as error:
            call()
        assert "\n" not in str(error.value)


def test_fields_and_fingerprint() -> None:
    assert (MIXED.dim, MIXED.num_components) == (1, 4)
    np.testing.assert_allclose(MIXED.m.numpy(), [1 / 2.25, 1.0, 0.0, 0.0])
    other = ProductMixture(
        components=[
            row[0] if k else affine(row[0], shift=1e-9) for k, row in enumerate(MIXED.components)
        ],
        weights=MIXED.weights,
        names=MIXED.names,
    )
    same = ProductMixture(
        components=[row[0] for row in MIXED.components], weights=MIXED.weights, names=MIXED.names
    )
    assert same.fingerprint == MIXED.fingerprint != other.fingerprint
