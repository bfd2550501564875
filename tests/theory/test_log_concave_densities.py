"""One-dimensional laws: convexity constants, refusals, noising against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest
from scipy import stats

from critwin.errors import InputError
from critwin.theory.log_concave import (
    Density,
    affine,
    density,
    gaussian,
    generalized_normal,
    gumbel,
    laplace,
    list_densities,
    log_concave_density,
    logistic,
    skew_normal,
    tilted_gaussian,
    truncated_gaussian,
    uniform,
)
from critwin.theory.log_concave._noising import (
    noised_density,
    tilted,
    tilted_log_mass,
    tilted_mean,
)

LAWS = {
    "gaussian": (gaussian(1, 2), stats.norm(1, 2)),
    "skew": (skew_normal(1, 2, 5), stats.skewnorm(5, 1, 2)),
    "very skew": (skew_normal(0, 1, -50), stats.skewnorm(-50)),
    "truncated": (truncated_gaussian(0, 1, 0.5, 3), stats.truncnorm(0.5, 3)),
    "truncated far out": (truncated_gaussian(0, 1, 5), stats.truncnorm(5, np.inf)),
    "logistic": (logistic(), stats.logistic()),
    "gumbel": (gumbel(2, 0.5), stats.gumbel_r(2, 0.5)),
    "laplace": (laplace(-1, 2), stats.laplace(-1, 2)),
    "generalized normal": (generalized_normal(0, 1, 1.5), stats.gennorm(1.5)),
    "uniform": (uniform(-1, 3), stats.uniform(-1, 4)),
}


@pytest.mark.parametrize("name", LAWS)
def test_densities_and_moments_agree_with_scipy(name: str) -> None:
    law, known = LAWS[name]
    x = np.linspace(law.edges[0] + 1e-9, law.edges[-1] - 1e-9, 501)
    np.testing.assert_allclose(np.exp(law.log_density(x)), known.pdf(x), atol=1e-13, rtol=1e-11)
    assert law.mean == pytest.approx(known.mean(), abs=1e-12)
    assert law.var == pytest.approx(known.var(), rel=1e-11)
    assert known.cdf(law.edges[0]) + known.sf(law.edges[-1]) < 1e-16


def test_m_is_the_known_infimum() -> None:
    assert gaussian(3, 2).m == 0.25
    assert truncated_gaussian(0, 0.5, -1, 2).m == 4.0
    assert skew_normal(1, 2, 7).m == 0.25
    assert generalized_normal(0, 2, 2.0).m == 0.5
    for law in (logistic(), gumbel(), laplace(), uniform(), generalized_normal(0, 1, 3.0)):
        assert law.m == 0.0
        assert law.m_how
    assert affine(skew_normal(0, 1, 4), shift=7, scale=3).m == pytest.approx(1 / 9)


def test_m_of_the_skew_normal_is_an_infimum_approached_in_one_tail() -> None:
    def curvature(x: float) -> float:
        return float(mpmath.diff(lambda z: z**2 / 2 - mpmath.log(mpmath.ncdf(3 * z)), x, 2))

    values = [curvature(x) for x in (-3.0, -1.0, 0.0, 1.0, 2.5)]
    assert min(values) > 1.0
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(1.0, abs=1e-9)


def test_m_of_the_quartic_tilt() -> None:
    law = tilted_gaussian(lambda x: -(x**4))
    assert law.m == 1.0
    assert "checked" in law.m_how
    grid = np.linspace(-6, 6, 200_001)
    mass = np.exp(-(grid**2) / 2 - grid**4)
    assert law.var == pytest.approx((mass * grid**2).sum() / mass.sum(), rel=1e-12)


def test_m_without_a_claim_is_a_lower_value_and_says_that_it_is_no_proof() -> None:
    law = log_concave_density(lambda x: -0.5 * x**2 - x**4 / 4)
    assert 0.99 < law.m <= 1.0
    assert "not a proof" in law.m_how
    flat = log_concave_density(lambda x: -(x**4), scale=0.5)
    assert 0.0 <= flat.m < 1e-3


def test_a_claimed_m_that_is_too_large_is_refused() -> None:
    with pytest.raises(InputError, match=r"1\.5-strongly"):
        log_concave_density(lambda x: -0.5 * x**2 - x**4, m=1.5)
    with pytest.raises(InputError, match="1-strongly"):
        tilted_gaussian(lambda x: 0.2 * x**2)


@pytest.mark.parametrize("name", ["student", "Student_t", "cauchy", "lognormal", "pareto", "levy"])
def test_heavy_tails_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(InputError, match="heavier than exponential"):
        density(name)


@pytest.mark.parametrize(
    ("log_density", "wanted"),
    [
        (lambda x: -np.log1p(x**2), "not log-concave"),
        (lambda x: -1.5 * np.log1p(x**2 / 2), "not log-concave"),
        (lambda x: np.logaddexp(-0.5 * (x - 3) ** 2, -0.5 * (x + 3) ** 2), "not log-concave"),
        (lambda x: np.zeros_like(x), "does not decay"),
        (lambda x: np.full_like(x, np.nan), "not finite"),
        (lambda x: -np.sqrt(np.abs(x)), "not log-concave"),
    ],
)
def test_functions_that_are_not_log_concave_are_refused(log_density: object, wanted: str) -> None:
    assert callable(log_density)
    with pytest.raises(InputError, match=wanted):
        log_concave_density(log_density)


def test_bad_parameters_are_one_line() -> None:
    for call in (
        lambda: gaussian(0, 0),
        lambda: gaussian(math.nan, 1),
        lambda: skew_normal(0, 1, math.inf),
        lambda: truncated_gaussian(0, 1, 2, 1),
        lambda: truncated_gaussian(0, 1, 40),
        lambda: generalized_normal(0, 1, 0.7),
        lambda: uniform(1, 1),
        lambda: affine(gaussian(), scale=-1),
        lambda: log_concave_density(lambda x: -x, support=(2, 1)),
        lambda: log_concave_density(lambda x: -(x**2), kinks=[7], support=(0, 5), near=1),
        lambda: density("gauss"),
        lambda: density("gaussian", width=2),
        lambda: log_concave_density(lambda x: -(x**2), m=-1),
    ):
        with pytest.raises(InputError) as error:
            call()
        assert "\n" not in str(error.value)


def test_every_name_of_the_list_makes_a_density() -> None:
    for name in list_densities():
        assert isinstance(density(name), Density)
    assert density("Skew_Normal", shape=3.0).parameters["shape"] == 3.0


@pytest.mark.parametrize("t", [1e-6, 1e-3, 0.03, 0.3, 2.0, 6.0])
@pytest.mark.parametrize("name", ["gaussian", "very skew", "truncated", "truncated far out"])
def test_quadrature_reproduces_closed_forms_under_noise(name: str, t: float) -> None:
    law = LAWS[name][0]
    assert law.noised is not None
    alpha, sigma = math.exp(-t), math.sqrt(-math.expm1(-2 * t))
    y = np.linspace(alpha * law.edges[0] - 6 * sigma, alpha * law.edges[-1] + 6 * sigma, 300)
    exact = np.exp(law.noised(y, alpha, sigma))
    bulk = noised_density(replace(law, noised=None), y, alpha, sigma)
    assert np.abs(bulk - exact).max() < 2e-13 * exact.max()
    # in the tails, relative: absolute in the logarithm
    single = tilted_log_mass(tilted(law, y, alpha, sigma))
    np.testing.assert_allclose(single, law.noised(y, alpha, sigma), atol=5e-12)


@pytest.mark.parametrize("t", [1e-3, 0.1, 2.0])
@pytest.mark.parametrize(
    "name", ["logistic", "gumbel", "laplace", "generalized normal", "uniform"]
)
def test_two_quadratures_agree_where_there_is_no_closed_form(name: str, t: float) -> None:
    law = LAWS[name][0]
    alpha, sigma = math.exp(-t), math.sqrt(-math.expm1(-2 * t))
    y = np.linspace(alpha * law.edges[0] - 3 * sigma, alpha * law.edges[-1] + 3 * sigma, 300)
    bulk, single = noised_density(law, y, alpha, sigma), tilted(law, y, alpha, sigma)
    np.testing.assert_allclose(bulk, np.exp(tilted_log_mass(single)), atol=1e-13 * bulk.max())


def test_noised_laplace_and_tail_against_mpmath() -> None:
    law, alpha, sigma = laplace(0, 1), 0.8, 0.6
    for y in (-0.3, 2.0, 15.0):

        def joint(x: mpmath.mpf, y: float = y) -> mpmath.mpf:
            return mpmath.exp(-abs(x)) / 2 * mpmath.npdf(y, alpha * x, sigma)

        cuts = sorted({-40.0, -20.0, -8.0, -3.0, 0.0, y / alpha, 3.0, 8.0, 20.0, 40.0})
        known = mpmath.quad(joint, cuts)
        law_ = tilted(law, np.array([y]), alpha, sigma)
        assert tilted_log_mass(law_)[0] == pytest.approx(float(mpmath.log(known)), abs=1e-11)
        first = mpmath.quad(lambda x: x * joint(x), cuts)
        assert tilted_mean(law_)[0] == pytest.approx(float(first / known), abs=1e-10)


def test_limits_of_noise() -> None:
    law = truncated_gaussian(0, 1, -0.5, 2)
    y = np.linspace(-3, 3, 41)
    np.testing.assert_allclose(
        noised_density(law, y, 1.0, 0.0), np.exp(law.log_density(y)), atol=1e-15
    )
    bare = replace(law, noised=None)
    np.testing.assert_allclose(noised_density(bare, y, 0.0, 1.0), stats.norm.pdf(y), atol=1e-14)
