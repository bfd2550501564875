"""Exact transitions against closed forms, an independent quadrature, and their own laws."""

from __future__ import annotations

from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from scipy.special import softmax

from critwin.errors import InputError
from critwin.levels import alpha_sigma, grid, logsnr_of_ou_time
from critwin.quantities import leak, stay
from critwin.reshaping import merge
from critwin.streams import numpy_stream, stream
from critwin.theory import _line, _sphere
from critwin.theory.exact import clean_transitions, exact_transitions
from critwin.theory.mixtures import (
    GaussianMixture,
    noised_log_density,
    posterior_draw,
    posterior_probs,
    sample,
)
from mixture_cases import FOUR, STRUCTURES, random_mixture, rotated


def at(*times: float) -> np.ndarray:
    """Logsnr of OU times."""
    return np.asarray(logsnr_of_ou_time(np.array(times)))


def two(
    distance: float, *, dim: int = 1, weights: tuple[float, float] = (0.5, 0.5)
) -> GaussianMixture:
    """Two unit Gaussians: at t = 0, k = distance / 2."""
    means = np.zeros((2, dim))
    means[:, -1] = [-distance / 2, distance / 2]
    return GaussianMixture(weights=weights, means=means)


# --- numbers known beforehand -------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "phi"),
    [(0.5, 0.602027), (1, 0.775200), (1.5, 0.901379), (2, 0.965701), (3, 0.997924)],
)
def test_phi_of_two_equal_gaussians(k: float, phi: float) -> None:
    # unit covariance: at t the separation is k = e^{-t} distance / 2
    t = 0.7
    tr = exact_transitions(two(2 * k * np.exp(t)), at(t))
    assert tr.kind == "exact"
    assert tr.probs[0, 0, 0] == pytest.approx(phi, abs=6e-7)
    assert tr.probs[0, 1, 1] == pytest.approx(tr.probs[0, 0, 0], abs=1e-13)


@pytest.mark.parametrize(
    ("phi", "k"),
    [
        (0.75, 0.92241229),
        (0.8, 1.08073377),
        (0.9, 1.49261051),
        (0.95, 1.83364275),
        (0.99, 2.48074080),
    ],
)
def test_separation_at_which_phi_is_reached(phi: float, k: float) -> None:
    assert clean_transitions(two(2 * k)).probs[0, 0, 0] == pytest.approx(phi, abs=5e-9)


def test_unequal_weights() -> None:
    probs = clean_transitions(two(2.0, weights=(0.8, 0.2))).probs[0]
    assert probs[0, 0] == pytest.approx(0.898015872475219, abs=2e-15)
    assert probs[1, 1] == pytest.approx(0.592063489900874, abs=2e-15)


def test_operational_times_of_two_gaussians() -> None:
    tr = exact_transitions(two(20.0), at(1.90205848649855, 3.0078187151851))
    assert stay(tr, "0")[0] == pytest.approx(0.9, abs=1e-13)
    blur = 0.5 * np.abs(tr.probs[1, 0] - 0.5 * tr.probs[1].sum(axis=0)).sum()
    assert blur == pytest.approx(0.1, abs=1e-13)


def test_four_components_on_a_line() -> None:
    tr = exact_transitions(FOUR, at(1.5))
    expected = [
        (0.632665, 0.331401, 0.028416, 0.007518),
        (0.441867, 0.419187, 0.106251, 0.032695),
        (0.056832, 0.159376, 0.513868, 0.269923),
        (0.030072, 0.098084, 0.539846, 0.331999),
    ]
    np.testing.assert_allclose(tr.probs[0], expected, atol=5.1e-7)
    assert leak(tr, ["0", "1"])[0] == pytest.approx(0.0800818722274, abs=5e-14)
    eigenvalues = np.sort(np.linalg.eigvals(tr.probs[0]).real)[::-1]
    np.testing.assert_allclose(
        eigenvalues, [1, 0.750204183133, 0.122989035423, 0.024525925031], atol=6e-13
    )
    groups = {"left": ["0", "1"], "right": ["2", "3"]}
    grouped = exact_transitions(FOUR, at(1.5), labels=groups)
    np.testing.assert_allclose(grouped.probs, merge(tr, groups).probs, atol=1e-15)
    assert 1 - grouped.probs[0, 0, 0] == pytest.approx(0.0800818722274, abs=5e-14)


def test_equal_means_of_different_spread() -> None:
    m = GaussianMixture(means=np.zeros((2, 8)), covariances=[1.0, 9.0])
    tr = exact_transitions(m, at(0.5, 1, 2))
    assert tr.kind == "exact"
    expected = [0.86323591397427, 0.677398788126875, 0.509117100985774]
    np.testing.assert_allclose(tr.probs[:, 0, 0], expected, atol=1e-14)


def test_published_monte_carlo() -> None:
    """Biroli et al. (2024): symmetric pair with |m|^2 = D = 256, 10^4 pairs a time."""
    m = GaussianMixture(means=np.stack([np.ones(256), -np.ones(256)]))
    tr = exact_transitions(m, at(*np.arange(1.0, 5.1, 0.5)))
    published = np.array([1, 0.9994, 0.9775, 0.8620, 0.7012, 0.5925, 0.5343, 0.5201, 0.5027])
    phi = tr.probs[:, 0, 0]
    assert np.all(np.abs(phi - published) < 3 * np.sqrt(phi * (1 - phi) / 1e4) + 6e-5)


# --- independent methods ------------------------------------------------------------------


def test_one_dimensional_quadrature_agrees_with_mpmath() -> None:
    """Very different scales and weights; mpmath integrates what no code here shares."""
    weights, means, sds = (0.001, 0.699, 0.3), (0.0, 0.5, 40.0), (0.001, 1.0, 30.0)
    m = GaussianMixture(weights=weights, means=means, covariances=np.square(sds))
    levels = at(0.0005, 0.8)
    actual = exact_transitions(m, levels).probs
    with mpmath.workdps(20):
        for level, logsnr in enumerate(levels):
            alpha, sigma = (mpmath.mpf(float(v)) for v in alpha_sigma(logsnr))
            scale = [mpmath.sqrt((alpha * s) ** 2 + sigma**2) for s in sds]

            def density(k: int, y: mpmath.mpf, a=alpha, s=scale) -> mpmath.mpf:  # noqa: ANN001
                return mpmath.npdf(y, a * mpmath.mpf(means[k]), s[k])

            def integrand(y: mpmath.mpf, i: int, j: int, p=density) -> mpmath.mpf:  # noqa: ANN001
                return (
                    p(i, y)
                    * weights[j]
                    * p(j, y)
                    / sum(w * p(k, y) for k, w in enumerate(weights))
                )

            for i, j in ((0, 1), (1, 2), (2, 0)):
                marks = {
                    alpha * mpmath.mpf(m_) + s_ * q
                    for m_, s_ in zip(means, scale, strict=True)
                    for q in (-9, -4, -1, 1, 4, 9)
                }
                ends = sorted(marks)
                expected = sum(
                    mpmath.quad(lambda y, i=i, j=j: integrand(y, i, j), [a, b])
                    for a, b in pairwise(ends)
                )
                assert abs(actual[level, i, j] - float(expected)) < 1e-10


def test_plane_quadrature_agrees_with_polar_integration() -> None:
    """Means in a plane against Gauss–Laguerre in the radius and trapezoids in the angle."""
    means = np.array([[0.0, 0.0], [3.0, 0.0], [1.0, 2.5], [-2.0, 1.0]])
    weights = np.array([0.1, 0.4, 0.3, 0.2])
    actual = clean_transitions(GaussianMixture(weights=weights, means=means)).probs[0]
    node, mass = np.polynomial.laguerre.laggauss(120)  # r^2 / 2 is exponential
    angle = np.arange(400) * (2 * np.pi / 400)
    z = np.sqrt(2 * node)[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    for i in range(4):
        square = ((means[i] + z)[..., None, :] - means) ** 2
        joint = weights * np.exp(-0.5 * square.sum(-1))
        share = joint / joint.sum(-1, keepdims=True)
        expected = np.einsum("r,raj->j", mass, share) / len(angle)
        # the radius r = sqrt(2 node) is not smooth in node: this check stops at 1e-7
        np.testing.assert_allclose(actual[i], expected, atol=1e-7)


def test_plane_and_line_quadratures_agree() -> None:
    line = two(3.0, dim=2, weights=(0.3, 0.7))
    levels = grid(0.05, 3.0, 7)
    scale = np.exp(-np.asarray([0.05, 3.0]))  # unit covariance: the whitened means shrink by alpha
    coords = scale[:, None, None] * (line.means - line.means.mean(0)).numpy()
    plane = _sphere.plane_law(coords, np.log(line.weights.numpy()))
    exact = exact_transitions(line, levels[[0, -1]]).probs
    np.testing.assert_allclose(plane, exact, atol=1e-11)


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full"])
def test_sobol_agrees_with_quadrature(kind: str) -> None:
    """Equal covariances, three means: a plane, whatever the dimension."""
    m = random_mixture(kind, is_shared=True, num=3, dim=6)
    levels = grid(0.2, 3.0, 6)
    exact = exact_transitions(m, levels)
    estimated = exact_transitions(m, levels, method="sobol", num_samples=1 << 14)
    assert (exact.kind, estimated.kind) == ("exact", "estimated")
    assert estimated.stderr is not None
    gap = np.abs(estimated.probs - exact.probs)
    rare = 1 / (1 << 14)  # what is rarer than the points may be missed, stderr and all
    assert np.all(gap < 4.5 * estimated.stderr + rare)
    assert estimated.stderr.max() < 2e-3
    with_bug = np.abs(np.roll(estimated.probs, 1, axis=0) - exact.probs)
    assert not np.all(with_bug < 4.5 * estimated.stderr + rare)  # the check can fail


@pytest.mark.parametrize(("kind", "is_shared"), STRUCTURES)
def test_structured_and_general_methods_agree(kind: str, is_shared: bool) -> None:
    """The same law rotated: its structure is gone, its transitions are not."""
    m = random_mixture(kind, is_shared=is_shared, num=3, dim=4)
    full, _ = rotated(m)
    levels = grid(0.3, 2.0, 3)
    a = exact_transitions(m, levels, num_samples=1 << 13)
    b = exact_transitions(full, levels, num_samples=1 << 13, seed=1)
    if is_shared:
        assert (a.kind, b.kind) == ("exact", "exact")
        np.testing.assert_allclose(a.probs, b.probs, atol=1e-10)
        return
    assert a.stderr is not None
    assert b.stderr is not None
    spread = np.hypot(a.stderr, b.stderr)
    assert np.all(np.abs(a.probs - b.probs) < 4.5 * spread + 1 / (1 << 13))


def test_counts_of_posterior_draws_agree() -> None:
    """The experiment itself, run in bulk: component, noise, posterior draw, component."""
    m = random_mixture("full", is_shared=False, num=3, dim=3)
    logsnr, num = -1.0, 60_000
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    generator = stream(0, "counts")
    clean = sample(m, num, generator=generator)
    noise = torch.randn(clean.x.shape, generator=generator, dtype=torch.float64)
    drawn = posterior_draw(
        m, alpha * clean.x + sigma * noise, alpha=alpha, sigma=sigma, generator=generator
    )
    counts = np.zeros((3, 3))
    np.add.at(counts, (clean.component.numpy(), drawn.component.numpy()), 1)
    total = counts.sum(axis=1, keepdims=True)
    tr = exact_transitions(m, [logsnr])
    stderr = np.sqrt(tr.probs[0] * (1 - tr.probs[0]) / total)
    assert np.all(np.abs(counts / total - tr.probs[0]) < 4 * stderr)


# --- laws that every table obeys ----------------------------------------------------------

EXACT_CASES = {
    "line": FOUR,
    "plane": random_mixture("full", is_shared=True, num=3, dim=5),
    "radius": GaussianMixture(
        weights=[0.2, 0.5, 0.3], means=np.zeros((3, 5)), covariances=[0.2, 1.0, 3.0]
    ),
    "points": GaussianMixture(weights=[0.1, 0.3, 0.6], means=[-1.0, 0.0, 2.0], covariances=0.0),
}


@pytest.mark.parametrize("name", EXACT_CASES)
def test_laws_of_transitions(name: str) -> None:
    m = EXACT_CASES[name]
    tr = exact_transitions(m, grid(0.01, 4.0, 25))
    weights = m.weights.numpy()
    np.testing.assert_allclose(tr.probs.sum(-1), 1, atol=1e-12)
    flow = weights[:, None] * tr.probs
    np.testing.assert_allclose(flow, flow.transpose(0, 2, 1), atol=1e-10)  # detailed balance
    root = np.sqrt(weights)
    symmetric = root[:, None] * tr.probs / root
    eigenvalues = np.linalg.eigvalsh(0.5 * (symmetric + symmetric.transpose(0, 2, 1)))
    assert eigenvalues.min() > -1e-10
    assert eigenvalues.max() < 1 + 1e-10
    assert np.all(np.diff(eigenvalues, axis=0) < 1e-10)  # each falls as noise grows
    diagonal = np.diagonal(tr.probs, axis1=1, axis2=2)
    assert np.all(np.diff(diagonal, axis=0) < 1e-10)
    assert np.all(diagonal > weights - 1e-10)
    assert tr.plateau is not None
    assert weights @ diagonal[0] < tr.plateau + 1e-12


@pytest.mark.parametrize("name", EXACT_CASES)
def test_limits_of_transitions(name: str) -> None:
    m = EXACT_CASES[name]
    tr = exact_transitions(m, [60.0, -60.0])
    np.testing.assert_allclose(tr.probs[1], np.tile(m.weights.numpy(), (3 + (name == "line"), 1)))
    clean = clean_transitions(m)
    assert clean.t[0] == 0.0
    np.testing.assert_allclose(tr.probs[0], clean.probs[0], atol=1e-9)
    assert tr.plateau == pytest.approx(m.weights.numpy() @ np.diagonal(clean.probs[0]))
    if name == "points":
        np.testing.assert_allclose(clean.probs[0], np.eye(3), atol=1e-12)


def test_square_of_the_posterior_gives_stay() -> None:
    """``w(A) C[A, A] = E P(A | x_t)^2``, by a trapezoidal rule on the density itself."""
    alpha, sigma = (float(v) for v in alpha_sigma(at(1.5)[0]))
    y = torch.linspace(-14, 14, 40_001, dtype=torch.float64)[:, None]
    density = torch.exp(noised_log_density(FOUR, y, alpha=alpha, sigma=sigma))
    probs = posterior_probs(FOUR, y, alpha=alpha, sigma=sigma)[:, :2].sum(-1)
    expected = float((density * probs**2).sum() * (28 / 40_000))
    tr = exact_transitions(FOUR, at(1.5), labels={"A": ["0", "1"]})
    assert 0.7 * tr.probs[0, 0, 0] == pytest.approx(expected, abs=1e-12)


def test_nothing_depends_on_the_dimension() -> None:
    levels = grid(0.1, 4.0, 10)
    small = exact_transitions(two(4.0, dim=1), levels).probs
    for dim in (2, 50_000):
        np.testing.assert_allclose(
            exact_transitions(two(4.0, dim=dim), levels).probs, small, atol=1e-12
        )
    rng = np.random.Generator(np.random.Philox(0))
    corner = rng.normal(size=(3, 2))
    plane = [
        exact_transitions(
            GaussianMixture(means=np.pad(corner, ((0, 0), (0, extra))), covariances=0.5), levels
        ).probs
        for extra in (0, 1000)
    ]
    np.testing.assert_allclose(plane[0], plane[1], atol=1e-12)


# --- labels read off the sample -----------------------------------------------------------


def test_labels_read_off_the_sample_agree_with_counts() -> None:
    logsnr, num = -2.0, 40_000
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    m = GaussianMixture(
        weights=[0.5, 0.3, 0.2], means=[-1.0, 1.0, 1.5], covariances=[1.0, 0.3, 4.0]
    )
    generator = stream(0, "map")
    clean = sample(m, num, generator=generator).x
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    image = posterior_draw(
        m, alpha * clean + sigma * noise, alpha=alpha, sigma=sigma, generator=generator
    ).x
    before, after = (
        posterior_probs(m, x, alpha=1.0, sigma=0.0).argmax(-1).numpy() for x in (clean, image)
    )
    counts = np.zeros((3, 3))
    np.add.at(counts, (before, after), 1)
    total = counts.sum(axis=1, keepdims=True)
    tr = exact_transitions(m, [logsnr], labeller="map")
    stderr = np.sqrt(tr.probs[0] * (1 - tr.probs[0]) / total)
    assert np.all(np.abs(counts / total - tr.probs[0]) < 4 * stderr)
    assert tr.weights is not None
    share_error = np.sqrt(tr.weights * (1 - tr.weights) / num)
    assert np.all(np.abs(total[:, 0] / num - tr.weights) < 4 * share_error)
    # the twin: the table by component is not the table by label
    other = exact_transitions(m, [logsnr]).probs[0]
    assert not np.all(np.abs(counts / total - other) < 4 * stderr)


def test_laws_of_labels_read_off_the_sample() -> None:
    tr = exact_transitions(FOUR, grid(0.001, 4.0, 15), labeller="map")
    assert tr.weights is not None
    assert tr.plateau == 1.0
    np.testing.assert_allclose(tr.probs.sum(-1), 1, atol=1e-12)
    flow = tr.weights[:, None] * tr.probs
    np.testing.assert_allclose(flow, flow.transpose(0, 2, 1), atol=1e-10)
    assert np.all(np.diff(np.diagonal(tr.probs, axis1=1, axis2=2), axis=0) < 1e-10)
    far = exact_transitions(two(40.0), at(1.0, 2.0, 3.0))
    by_label = exact_transitions(two(40.0), at(1.0, 2.0, 3.0), labeller="map")
    np.testing.assert_allclose(by_label.probs, far.probs, atol=1e-12)  # no overlap, no difference


def test_a_label_that_is_never_read_has_no_row() -> None:
    m = GaussianMixture(
        weights=[0.90, 0.10], means=[0.0, 0.0], covariances=[1.0, 0.9], names=["a", "b"]
    )
    tr = exact_transitions(m, [0.0], labeller="map")
    assert (tr.before, tr.after) == (("a",), ("a", "b"))
    np.testing.assert_allclose(tr.probs[0], [[1.0, 0.0]], atol=1e-14)


def test_collinear_means_in_many_dimensions_can_be_read_too() -> None:
    line = exact_transitions(two(2.0), [0.0], labeller="map").probs
    space = exact_transitions(two(2.0, dim=30), [0.0], labeller="map").probs
    np.testing.assert_allclose(space, line, atol=1e-12)


# --- guards -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labeller": "oracle"}, "unknown labeller"),
        ({"method": "guess"}, "unknown method"),
        ({"method": "quadrature"}, "no quadrature for this mixture"),
        ({"labeller": "map"}, "on a line only"),
        ({"num_samples": 3}, "too few samples"),
        ({"labels": {"A": ["nobody"]}}, "unknown label"),
        ({"logsnr": [0.0, 1.0]}, "strictly decreasing"),
        ({"logsnr": 0.0}, "not a list of logsnr"),
        ({"logsnr": [np.nan]}, "not a list of logsnr"),
    ],
)
def test_bad_calls_are_refused(options: dict, message: str) -> None:
    m = random_mixture("diagonal", is_shared=False)
    with pytest.raises(InputError, match=message):
        exact_transitions(m, **({"logsnr": [0.0], "num_samples": 64} | options))


@pytest.mark.parametrize("kind", ["isotropic", "diagonal"])
def test_sobol_of_one_mean_is_the_prior(kind: str) -> None:
    m = GaussianMixture(
        weights=[0.4, 0.6],
        means=[[1.0, 2.0]] * 2,
        covariances=1.0 if kind == "isotropic" else [1.0, 2.0],
        covariance_kind=kind,
    )
    tr = exact_transitions(m, [0.0, -1.0], method="sobol")
    np.testing.assert_allclose(tr.probs, np.broadcast_to([0.4, 0.6], (2, 2, 2)), atol=1e-6)


# --- a standard error that is asked for ---------------------------------------------------


@pytest.mark.parametrize("kind", ["isotropic", "shared", "full"])
def test_levels_take_as_many_points_as_the_error_needs(kind: str) -> None:
    m = random_mixture(
        "full" if kind == "full" else "isotropic", is_shared=kind == "shared", num=4, dim=4
    )
    levels = at(0.05, 0.4, 0.8, 1.6, 3.0)
    whole = exact_transitions(m, levels, num_samples=1 << 15, seed=1)
    asked = exact_transitions(m, levels, num_samples=1 << 15, stderr=2e-3, seed=1)
    assert whole.stderr is not None
    assert asked.stderr is not None
    assert asked.attrs["stderr_wanted"] == 2e-3
    assert np.max(asked.stderr) <= 2e-3
    assert np.max(asked.stderr) > 1.5 * np.max(whole.stderr)  # not all points were taken
    gap = np.abs(asked.probs - whole.probs) / np.hypot(asked.stderr, whole.stderr).clip(1e-6)
    assert np.max(gap) < 5


def test_an_error_out_of_reach_takes_all_points() -> None:
    m = random_mixture("isotropic", is_shared=True, num=4, dim=4)
    whole = exact_transitions(m, at(0.5, 1.0), num_samples=1 << 13)
    asked = exact_transitions(m, at(0.5, 1.0), num_samples=1 << 13, stderr=1e-9)
    np.testing.assert_array_equal(asked.probs, whole.probs)
    np.testing.assert_array_equal(asked.stderr, whole.stderr)


@pytest.mark.parametrize(("stderr", "is_right"), [(2e-3, True), (4e-3, True), (2e-3, False)])
def test_the_error_asked_for_is_honest(stderr: float, is_right: bool) -> None:
    # components in a plane: the truth by quadrature; stopping early must not make it too small
    m = random_mixture("isotropic", is_shared=True, num=4, dim=2)
    levels = at(0.3, 0.9)
    truth = exact_transitions(m, levels).probs
    share = []
    for seed in range(60):
        tr = exact_transitions(m, levels, method="sobol", stderr=stderr, seed=seed)
        assert tr.stderr is not None
        claimed = tr.stderr if is_right else tr.stderr / 4
        share.append(np.mean((tr.probs - truth)[..., 0] ** 2) / np.mean(claimed[..., 0] ** 2))
    assert bool(0.6 < np.mean(share) < 1.6) == is_right


@pytest.mark.parametrize("stderr", [0.0, -1e-3, 1.0, np.nan])
def test_an_error_that_is_none_is_refused(stderr: float) -> None:
    with pytest.raises(InputError, match="stderr is out of range"):
        exact_transitions(FOUR, [0.0], stderr=stderr)


def test_labels_read_off_the_sample_have_no_sobol_estimate() -> None:
    with pytest.raises(InputError, match="no Sobol estimate"):
        exact_transitions(FOUR, [0.0], labeller="map", method="sobol")


def test_lattices_that_disagree_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    coords = np.array([[[0.0, 0.0], [40.0, 0.0], [0.0, 40.0]]])
    log_weights = np.array([-780.0, 0.0, -780.0])  # a sharp boundary close to a centre
    monkeypatch.setattr(_sphere, "_MAX_REFINEMENTS", 0)
    with pytest.raises(InputError, match="does not converge"):
        _sphere.plane_law(coords, log_weights)


def test_lattices_are_refined_where_they_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two components in a plane with a boundary close to a centre, against the line."""
    coords = np.array([[[0.0, 0.0], [8.0, 0.0]]])
    log_weights = np.array([-29.3, 0.0])
    line = _line.Line(log_weights, coords[..., 0], np.ones((1, 2)))
    steps: list[float] = []
    lattice = _sphere._lattice
    monkeypatch.setattr(_sphere, "_lattice", lambda h, o: steps.append(h) or lattice(h, o))
    plane = _sphere.plane_law(coords, log_weights)
    assert len(set(steps)) == 2
    np.testing.assert_allclose(plane, _line.component_law(line), atol=1e-11)


def plain_average(z: np.ndarray, coords: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
    """The definition: a softmax for every row and node."""
    out = np.empty((len(coords), len(coords)))
    for i, own in enumerate(coords):
        logits = log_weights - 0.5 * (((own + z)[:, None] - coords) ** 2).sum(axis=-1)
        out[i] = softmax(logits, axis=1).mean(axis=0)
    return out


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0, 10.0, 40.0, 1000.0])
@pytest.mark.parametrize("spread", [0.0, 30.0, 900.0])
def test_one_exponential_for_all_rows_is_the_definition(scale: float, spread: float) -> None:
    rng = numpy_stream(0, "softmax average", scale, spread)
    z, mass = rng.normal(size=(200, 3)), np.full(200, 1 / 200)
    # pairs, chains and lone components: some meet, and some only through others
    centres = np.repeat(rng.normal(size=(4, 3)), 3, axis=0) + 0.1 * rng.normal(size=(12, 3))
    coords = scale * centres
    log_weights = np.log(rng.dirichlet(np.ones(12))) - spread * rng.random(12)
    together = _sphere.meeting(coords, log_weights)
    roughly = _sphere.meeting(coords, log_weights, is_rough=True)
    expected = plain_average(z, coords, log_weights)
    for pull in (None, (coords - coords[0]) @ z.T / 3):
        options = {"pull": pull, "scale": 3.0 if pull is not None else 1.0}
        found = _sphere.softmax_average(z, mass, coords, together, **options)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        rough = _sphere.softmax_average(z, mass, coords, roughly, **options, is_rough=True)
        np.testing.assert_allclose(rough, expected, atol=3e-6)


def test_nodes_beyond_the_reach_of_single_precision_do_no_harm() -> None:
    z = np.array([[0.0], [40.0], [-40.0], [300.0]])
    mass = np.array([1 - 3e-8, 1e-8, 1e-8, 1e-8])
    coords, log_weights = np.array([[-6.0], [0.0], [6.0]]), np.log([0.2, 0.3, 0.5])
    roughly = _sphere.meeting(coords, log_weights, is_rough=True)
    assert len(roughly.groups) == 1
    found = _sphere.softmax_average(z, mass, coords, roughly, is_rough=True)
    assert np.all(np.isfinite(found))
    expected = plain_average(z[:1], coords, log_weights)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_lone_components_are_found() -> None:
    coords = np.array([[0.0], [1.0], [100.0], [139.0], [400.0]])
    together = _sphere.meeting(coords, np.zeros(5))
    assert [own.tolist() for own, _, _ in together.groups] == [[0, 1]]
    assert together.alone.tolist() == [2, 3, 4]
    # a share of e^-200 is felt far away
    heavy = _sphere.meeting(coords, np.array([0.0, 0.0, -1000.0, 0.0, 0.0]))
    assert [own.tolist() for own, _, _ in heavy.groups] == [[0, 1], [2, 3]]


def test_weights_that_sum_to_a_little_more_than_one_are_no_mistake() -> None:
    over = 0
    for seed in range(20):
        weights = numpy_stream(seed, "weights").dirichlet(np.ones(7))
        m = GaussianMixture(weights=weights, means=100.0 * np.arange(7), covariances=1.0)
        over += float(m.weights.numpy() @ np.ones(7)) > 1.0
        assert exact_transitions(m, [0.0]).plateau == pytest.approx(1.0)
    assert over > 0
