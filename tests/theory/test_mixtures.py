"""Gaussian mixtures: Tweedie, normalisation, limits, independent formulas, guards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest, multivariate_normal, norm
from torch.testing import assert_close

from critwin.errors import InputError
from critwin.levels import alpha_sigma
from critwin.streams import stream
from critwin.theory.mixtures import (
    GaussianMixture,
    covariance_matrices,
    noised_log_density,
    posterior_draw,
    posterior_mean,
    posterior_probs,
    sample,
    score,
    submixture,
)
from mixture_cases import FOUR, STRUCTURES, points, random_mixture, rotated

EXACT = {"rtol": 1e-10, "atol": 1e-12}
every_structure = pytest.mark.parametrize(("kind", "is_shared"), STRUCTURES)


@every_structure
def test_structure_is_kept(kind: str, is_shared: bool) -> None:
    m = random_mixture(kind, is_shared=is_shared)
    rows, columns = (1 if is_shared else 3), (1 if kind == "isotropic" else 4)
    assert (m.kind, m.is_shared) == (kind, is_shared)
    assert m.eigenvalues.shape == (rows, columns)
    assert (m.axes is None) == (kind != "full")


@every_structure
def test_density_agrees_with_scipy(kind: str, is_shared: bool) -> None:
    m = random_mixture(kind, is_shared=is_shared)
    alpha, sigma = 0.8, 0.6
    x = points(m)
    noised = alpha**2 * covariance_matrices(m).numpy() + sigma**2 * np.eye(m.dim)
    expected = sum(
        w * multivariate_normal(alpha * mu, cov).pdf(x.numpy())
        for w, mu, cov in zip(m.weights.numpy(), m.means.numpy(), noised, strict=True)
    )
    actual = noised_log_density(m, x, alpha=alpha, sigma=sigma)
    assert_close(actual, torch.from_numpy(np.log(expected)), **EXACT)


@every_structure
def test_score_and_posterior_mean_satisfy_tweedie(kind: str, is_shared: bool) -> None:
    m = random_mixture(kind, is_shared=is_shared)
    alpha, sigma = 0.8, 0.6
    x = points(m).requires_grad_()
    log_p = noised_log_density(m, x, alpha=alpha, sigma=sigma).sum()
    (gradient,) = torch.autograd.grad(log_p, x)
    assert_close(score(m, x.detach(), alpha=alpha, sigma=sigma), gradient, **EXACT)
    actual = posterior_mean(m, x.detach(), alpha=alpha, sigma=sigma)
    assert_close(actual, (x.detach() + sigma**2 * gradient) / alpha, **EXACT)


@every_structure
def test_posterior_probs_are_gradients_of_the_log_density(kind: str, is_shared: bool) -> None:
    m = random_mixture(kind, is_shared=is_shared)
    x = points(m)
    probs = posterior_probs(m, x, alpha=0.8, sigma=0.6)
    assert_close(probs.sum(-1), torch.ones(len(x), dtype=torch.float64), **EXACT)
    for k in range(3):  # Bayes: w_k p_k / p
        part = noised_log_density(submixture(m, m.names[k]), x, alpha=0.8, sigma=0.6)
        whole = noised_log_density(m, x, alpha=0.8, sigma=0.6)
        assert_close(probs[:, k], m.weights[k] * torch.exp(part - whole), **EXACT)


@every_structure
def test_all_results_are_covariant_under_rotation(kind: str, is_shared: bool) -> None:
    """The structured formulas against the full ones, on the same law seen from elsewhere."""
    m = random_mixture(kind, is_shared=is_shared)
    full, q = rotated(m)
    x = points(m)
    level = {"alpha": 0.7, "sigma": 0.9}
    assert_close(posterior_probs(m, x, **level), posterior_probs(full, x @ q, **level), **EXACT)
    assert_close(score(m, x, **level) @ q, score(full, x @ q, **level), **EXACT)
    mean = posterior_mean(full, x @ q, **level)
    assert_close(posterior_mean(m, x, **level) @ q, mean, **EXACT)


@every_structure
def test_posterior_draw_has_the_posterior_covariance(kind: str, is_shared: bool) -> None:
    """One component allowed, so that the law is one Gaussian, known by the textbook formula."""
    m = random_mixture(kind, is_shared=is_shared)
    alpha, sigma, num = 0.8, 0.6, 40_000
    x = points(m, 1).expand(num, -1)
    allowed = torch.tensor([False, True, False])
    drawn = posterior_draw(
        m, x, alpha=alpha, sigma=sigma, generator=stream(3, kind), allowed=allowed
    )
    assert bool((drawn.component == 1).all())
    cov = covariance_matrices(m)[1]
    noised = alpha**2 * cov + sigma**2 * torch.eye(m.dim, dtype=torch.float64)
    expected = cov - alpha**2 * cov @ torch.linalg.solve(noised, cov)
    mean = m.means[1] + alpha * cov @ torch.linalg.solve(noised, x[0] - alpha * m.means[1])
    error = drawn.x.mean(0) - mean
    assert bool((error.abs() < 4.5 * torch.sqrt(torch.diagonal(expected) / num)).all())
    scale = torch.sqrt(torch.diagonal(expected))
    gap = (torch.cov(drawn.x.T) - expected) / torch.outer(scale, scale)
    assert float(gap.abs().max()) < 4.5 * np.sqrt(2 / num)


@every_structure
def test_noising_then_drawing_returns_the_clean_law(kind: str, is_shared: bool) -> None:
    """``E p(x_0 | x_t) = p``: projections of posterior draws have the clean distribution."""
    m = random_mixture(kind, is_shared=is_shared)
    alpha, sigma = (float(v) for v in alpha_sigma(-1.0))
    generator = stream(4, kind, int(is_shared))
    clean = sample(m, 20_000, generator=generator)
    noise = torch.randn(clean.x.shape, generator=generator, dtype=torch.float64)
    drawn = posterior_draw(
        m, alpha * clean.x + sigma * noise, alpha=alpha, sigma=sigma, generator=generator
    )
    direction = torch.linspace(1.0, -0.5, m.dim, dtype=torch.float64)
    spread = torch.sqrt(torch.einsum("d,kde,e->k", direction, covariance_matrices(m), direction))

    def cdf(value: np.ndarray) -> np.ndarray:
        z = (value[:, None] - (m.means @ direction).numpy()) / spread.numpy()
        return np.asarray(norm.cdf(z) @ m.weights.numpy())

    for x in (clean.x, drawn.x):
        assert kstest((x @ direction).numpy(), cdf).pvalue > 1e-3
    shares = torch.bincount(drawn.component, minlength=3) / len(drawn.x)
    stderr = torch.sqrt(m.weights * (1 - m.weights) / len(drawn.x))
    assert bool(((shares - m.weights).abs() < 4 * stderr).all())


@every_structure
def test_limits_of_the_noise(kind: str, is_shared: bool) -> None:
    m = random_mixture(kind, is_shared=is_shared)
    x = points(m)
    assert_close(posterior_mean(m, x, alpha=1.0, sigma=0.0), x, rtol=1e-12, atol=1e-12)
    no_signal = posterior_probs(m, x, alpha=0.0, sigma=1.0)
    assert_close(no_signal, m.weights.expand(len(x), -1), **EXACT)
    mean = posterior_mean(m, x, alpha=0.0, sigma=1.0)
    assert_close(mean, (m.weights @ m.means).expand(len(x), -1), **EXACT)


@every_structure
@pytest.mark.parametrize("logsnr", [-80.0, -30.0, 30.0, 80.0])
def test_extreme_levels_stay_finite(kind: str, is_shared: bool, logsnr: float) -> None:
    m = random_mixture(kind, is_shared=is_shared)
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    x = points(m)
    level = {"alpha": alpha, "sigma": sigma}
    drawn = posterior_draw(m, x, **level, generator=stream(5, "extreme"))
    for value in (noised_log_density(m, x, **level), score(m, x, **level), drawn.x):
        assert bool(torch.isfinite(value).all())
    limit = x if logsnr > 0 else (m.weights @ m.means).expand(len(x), -1)
    first_order = 300 * min(alpha, sigma) + 1e-12
    assert_close(posterior_mean(m, x, **level), limit, rtol=0.0, atol=first_order)


def test_points_are_the_limit_of_narrow_components() -> None:
    deltas = GaussianMixture(means=[-1.0, 1.0], covariances=0.0)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    probs = posterior_probs(deltas, x, alpha=0.6, sigma=0.8)
    expected = torch.sigmoid(2 * 0.6 * x[:, 0] / 0.8**2)
    assert_close(probs[:, 1], expected, **EXACT)
    drawn = posterior_draw(deltas, x, alpha=0.6, sigma=0.8, generator=stream(0, "points"))
    assert set(drawn.x.flatten().tolist()) <= {-1.0, 1.0}
    with pytest.raises(InputError, match="zero noise"):
        posterior_probs(deltas, x, alpha=1.0, sigma=0.0)


def test_supplied_draws_are_used_and_rows_do_not_see_each_other() -> None:
    m = random_mixture("full", is_shared=False)
    x = points(m, 8)
    z, u = points(m, 8).flip(0), torch.linspace(0, 0.99, 8, dtype=torch.float64)
    level = {"alpha": 0.6, "sigma": 0.8}
    whole = posterior_draw(m, x, **level, normals=z, uniforms=u)
    order = torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])
    moved = posterior_draw(m, x[order], **level, normals=z[order], uniforms=u[order])
    assert_close(moved.x, whole.x[order], rtol=1e-14, atol=1e-14)
    assert torch.equal(moved.component, whole.component[order])
    edges = posterior_probs(m, x, **level).cumsum(-1)
    assert torch.equal(whole.component, (edges <= u[:, None]).sum(-1).clamp(max=2))


def test_batch_shapes_dtypes_and_component_requests() -> None:
    m = random_mixture("diagonal", is_shared=False)
    x = points(m, 6).reshape(2, 3, 4).float()
    level = {"alpha": 0.6, "sigma": 0.8}
    for value, shape in [
        (noised_log_density(m, x, **level), (2, 3)),
        (posterior_probs(m, x, **level), (2, 3, 3)),
        (posterior_mean(m, x, **level), (2, 3, 4)),
        (score(m, x, **level), (2, 3, 4)),
        (posterior_draw(m, x, **level, generator=stream(0, "x")).x, (2, 3, 4)),
    ]:
        assert tuple(value.shape) == shape
        assert value.dtype == torch.float32
    asked = torch.tensor([2, -1, 0])
    drawn = sample(m, 3, generator=stream(0, "y"), component=asked)
    assert drawn.component[0] == 2
    assert drawn.component[2] == 0
    assert drawn.x.dtype == torch.float64


def test_simplest_form_is_found() -> None:
    eye = np.eye(3)
    tensors = [torch.eye(3), torch.eye(3)]
    m = GaussianMixture(means=list(torch.zeros(2, 3)), covariances=tensors)
    assert m.kind == "isotropic"
    for covariances in (2.0, [2.0, 2.0], np.full((2, 3), 2.0), 2 * eye, np.stack([2 * eye] * 2)):
        m = GaussianMixture(means=np.zeros((2, 3)), covariances=covariances)
        assert (m.kind, m.is_shared, m.covariances.tolist()) == ("isotropic", True, 2.0)
    m = GaussianMixture(means=np.zeros((2, 3)), covariances=np.stack([eye, 9 * eye]))
    assert (m.kind, m.is_shared) == ("isotropic", False)
    m = GaussianMixture(means=np.zeros((2, 3)), covariances=np.diag([1.0, 2.0, 3.0]))
    assert (m.kind, m.is_shared) == ("diagonal", True)


def test_isotropic_mixtures_never_build_matrices() -> None:
    dim = 200_000  # a D x D matrix would need 320 GB
    m = GaussianMixture(means=torch.zeros(2, dim, dtype=torch.float64), covariances=[1.0, 2.0])
    x = torch.zeros(1, dim, dtype=torch.float64)
    drawn = posterior_draw(m, x, alpha=0.6, sigma=0.8, generator=stream(0, "big"))
    assert drawn.x.shape == (1, dim)


def test_fingerprint_follows_every_number_and_name() -> None:
    base = {"weights": [0.5, 0.5], "means": [[0.0, 1.0], [2.0, 3.0]], "covariances": 1.0}
    prints = {GaussianMixture(**base).fingerprint}
    for change in (
        {"weights": [0.4, 0.6]},
        {"means": [[0.0, 1.0], [2.0, 3.5]]},
        {"covariances": 1.5},
        {"names": ["a", "b"]},
    ):
        prints.add(GaussianMixture(**(base | change)).fingerprint)
    assert len(prints) == 5
    assert GaussianMixture(**base).fingerprint in prints


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"means": np.zeros((2, 2, 2))}, "means have the wrong shape"),
        ({"means": [[0.0], [np.nan]]}, r"means must be finite: got nan at \[1, 0\]; wanted"),
        ({"means": "abc"}, "not an array of numbers: got abc; wanted"),
        ({"means": ["1", "2"]}, "not an array of numbers"),
        ({"means": [[0.0], [1.0, 2.0]]}, "not an array of numbers"),
        ({"means": [0.0, None]}, "not an array of numbers"),
        ({"means": None}, "means are missing: wanted"),
        (
            {"means": np.array([1 + 2j, 0])},
            r"means are complex: got \(1\+2j\) at \[0\]; wanted real",
        ),
        ({"means": [1.0, 2j]}, "means are complex"),
        ({"means": torch.tensor([1j, 0])}, "means are complex"),
        ({"means": [torch.tensor([0.0]), torch.tensor([2j])]}, "means are complex"),
        ({"means": np.zeros(2, complex)}, "means are complex: got torch.complex128; wanted real"),
        ({"means": [0.0, 1.0], "weights": np.array([0.5, 0.5j])}, "weights are complex"),
        ({"means": [0.0, 1.0], "covariances": np.array([1j, 1])}, "covariances are complex"),
        ({"means": [0.0, -2e100]}, r"means are too large: got -2e\+100 at \[1\]; wanted at most"),
        (
            {"means": [0.0, 1.0], "covariances": [1.0, 1e-200]},
            "variance is too small: got 1e-200; w",
        ),
        ({"means": [0.0, 1.0], "covariances": 1e200}, "covariances are too large: got"),
        ({"means": [0.0, 1.0], "covariances": None}, "covariances are missing: wanted"),
        ({"means": [0.0, 1.0], "covariances": np.inf}, "must be finite: got inf; wanted"),
        (
            {"means": [0.0, 1.0], "weights": [0.5, 0.6]},
            r"sum to 1: got a sum of 1\.1; wanted a sum of 1; divide",
        ),
        (
            {"means": [0.0, 1.0], "weights": [1.0, 0.0]},
            r"positive: got 0 at \[1\]; wanted .*; leave",
        ),
        ({"means": [0.0, 1.0], "weights": [1.0]}, "weights have the wrong shape"),
        ({"means": [0.0, 1.0], "covariances": -1.0}, "a variance is negative: got -1; wanted"),
        (
            {"means": [0.0, 1.0, 2.0], "covariances": [1.0, -1.0, 1.0]},
            "a variance is negative: got -1 in component 1; wanted",
        ),
        ({"means": [0.0, 1.0], "covariances": [1.0, 1.0, 1.0]}, "covariances have the wrong"),
        ({"means": [0.0, 1.0], "names": ["a", "a"]}, "got 'a' twice; wanted 2 distinct names"),
        ({"means": [0.0, 1.0], "names": ["a"]}, r"got \['a'\]; wanted 2 distinct names"),
        ({"means": [0.0, 1.0], "names": ["a", ""]}, "got an empty name; wanted 2 distinct names"),
        ({"means": [0.0, 1.0], "names": "ab"}, "list of names"),
        ({"means": [0.0, 1.0], "names": 3}, "list of names"),
        ({"means": np.zeros((2, 2)), "covariances": [1.0, 2.0]}, "ambiguous because K = D = 2"),
        ({"means": np.zeros((2, 2)), "covariances": [[2.0, 1.0], [1.0, 2.0]]}, "ambiguous"),
        (
            {"means": np.zeros((3, 2)), "covariances": [[1.0, 2.0], [2.0, 1.0]]},
            "not positive definite: got an eigenvalue of -1; wanted",
        ),
        (
            {
                "means": np.zeros((2, 2)),
                "covariances": [np.eye(2), [[1.0, 2.0], [2.0, 1.0]]],
            },
            "got an eigenvalue of -1 in component 1; wanted",
        ),
        (
            {"means": np.zeros((3, 2)), "covariances": [[1.0, 0.5], [0.0, 1.0]]},
            r"not symmetric: got 0\.5 at \[0, 1\] and 0 at \[1, 0\]; wanted the same number",
        ),
        ({"means": [0.0, 1.0], "covariance_kind": "round"}, "unknown kind of covariance"),
    ],
)
def test_bad_mixtures_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        GaussianMixture(**options)


def test_ambiguous_covariances_are_settled_by_their_kind() -> None:
    means = np.zeros((2, 2))
    isotropic = GaussianMixture(means=means, covariances=[1.0, 2.0], covariance_kind="isotropic")
    assert torch.equal(covariance_matrices(isotropic)[1], 2 * torch.eye(2, dtype=torch.float64))
    diagonal = GaussianMixture(means=means, covariances=[1.0, 2.0], covariance_kind="diagonal")
    assert diagonal.is_shared
    assert GaussianMixture(means=means, covariances=np.eye(2)).kind == "isotropic"  # a matrix


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: score(m, x, alpha=-1.0, sigma=1.0), "not a noise level"),
        (lambda m, x: score(m, x, alpha=0.0, sigma=0.0), "not a noise level"),
        (lambda m, x: score(m, x, alpha=float("nan"), sigma=1.0), "not a noise level"),
        (lambda m, x: score(m, x[:, :2], alpha=1.0, sigma=1.0), "points have the wrong shape"),
        (lambda m, x: posterior_draw(m, x, alpha=1.0, sigma=1.0), "draws are needed"),
        (
            lambda m, x: posterior_draw(m, x, alpha=1.0, sigma=1.0, normals=x, uniforms=x[:, 0:1]),
            "draws have the wrong shape",
        ),
        (lambda m, _: submixture(m, ["nobody"]), "unknown component"),
        (lambda m, _: submixture(m, []), "an empty set"),
    ],
)
def test_bad_calls_are_refused(call: object, message: str) -> None:
    m = random_mixture("isotropic", is_shared=True)
    with pytest.raises(InputError, match=message):
        call(m, points(m))  # type: ignore[operator]


def test_submixture_is_the_conditional_law() -> None:
    part = submixture(FOUR, ["3", "1"])
    assert part.names == ("3", "1")
    assert_close(part.weights, torch.tensor([0.25, 0.75], dtype=torch.float64))
    x = torch.linspace(-9, 9, 7, dtype=torch.float64)[:, None]
    inside = posterior_probs(FOUR, x, alpha=0.6, sigma=0.8)[:, [3, 1]]
    expected = inside / inside.sum(-1, keepdim=True)
    assert_close(posterior_probs(part, x, alpha=0.6, sigma=0.8), expected, **EXACT)
