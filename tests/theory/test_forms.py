"""Quadratic forms of all levels at once, against posteriors of the same samples one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from critwin.levels import alpha_sigma
from critwin.streams import numpy_stream
from critwin.theory import exact
from critwin.theory._forms import num_normals, rotated_average
from critwin.theory.exact import exact_transitions
from critwin.theory.mixtures import GaussianMixture, posterior_probs
from mixture_cases import random_mixture

LEVELS = np.array([np.inf, 4.0, 0.5, -2.0])


def by_hand(m: GaussianMixture, normals: np.ndarray) -> np.ndarray:
    """The same samples, level by level and component by component."""
    out = np.empty((len(LEVELS), m.num_components, m.num_components))
    z = torch.from_numpy(normals)
    for level, (a, s) in enumerate(zip(*alpha_sigma(LEVELS), strict=True)):
        for i in range(m.num_components):
            root = m.eigenvalues[0 if m.is_shared else i].sqrt()
            if m.axes is None:
                spread = (a**2 * root**2 + s**2).sqrt()
                y = a * m.means[i] + spread * z
            else:
                axes = m.axes[0 if m.is_shared else i]
                x = m.means[i] + (root * z[:, : m.dim]) @ axes.mT
                y = a * x + s * z[:, m.dim :]
            probs = posterior_probs(m, y, alpha=float(a), sigma=float(s))
            out[level, i] = probs.mean(dim=0).numpy()
    return out


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full"])
def test_all_levels_at_once_equal_one_by_one(kind: str) -> None:
    m = random_mixture(kind, is_shared=False, num=4, dim=20)
    normals = numpy_stream(0, "forms", kind).normal(size=(300, num_normals(m)))
    alpha, sigma = (np.asarray(v) for v in alpha_sigma(LEVELS))
    found = rotated_average(m, normals, alpha, sigma)
    np.testing.assert_allclose(found, by_hand(m, normals), atol=3e-6)
    assert num_normals(m) == (40 if kind == "full" else 20)


def test_thin_directions_are_computed_in_double() -> None:
    rng = numpy_stream(0, "thin")
    root = rng.normal(size=(3, 20, 20))
    q, _ = np.linalg.qr(root)
    values = np.geomspace(1.0, 1e-10, 20) * np.array([1, 2, 3])[:, None]
    m = GaussianMixture(
        weights=[0.2, 0.3, 0.5],
        means=1e-5 * rng.normal(size=(3, 20)),
        covariances=(q[:1] * values[:, None]) @ q[:1].transpose(0, 2, 1),
        covariance_kind="full",
    )
    normals = rng.normal(size=(200, num_normals(m)))
    alpha, sigma = (np.asarray(v) for v in alpha_sigma(LEVELS))
    found, expected = rotated_average(m, normals, alpha, sigma), by_hand(m, normals)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_both_ways_estimate_the_same_table(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    m = random_mixture(kind, is_shared=False, num=3, dim=4)
    levels = [2.0, 0.0, -2.0]
    plain = exact_transitions(m, levels, num_samples=1 << 13)
    monkeypatch.setattr(exact, "_SMALL_DIM", 0)
    found = exact_transitions(m, levels, num_samples=1 << 13)
    assert plain.stderr is not None
    assert found.stderr is not None
    error = np.hypot(plain.stderr, found.stderr)
    assert np.all(np.abs(plain.probs - found.probs) < 5 * error + 1e-9)
    # the noise without its scale, as a planted mistake
    alpha, sigma = (np.asarray(v) for v in alpha_sigma(np.array(levels)))
    normals = numpy_stream(0, "mistake").normal(size=(4096, num_normals(m)))
    wrong = rotated_average(m, normals, alpha, 1.3 * sigma)
    assert np.abs(wrong - plain.probs).max() > 10 * error.max()


def test_more_coordinates_than_sobol_has() -> None:
    dim = 22_000
    m = GaussianMixture(
        weights=[0.5, 0.5],
        means=np.stack([np.zeros(dim), np.full(dim, 0.02)]),
        covariances=np.stack([np.ones(dim), np.full(dim, 1.001)]),
        covariance_kind="diagonal",
    )
    table = exact_transitions(m, [0.0], num_samples=64)
    assert table.stderr is not None
    np.testing.assert_allclose(table.probs.sum(axis=2), 1.0)
    again = exact_transitions(m, [0.0], num_samples=64)
    np.testing.assert_array_equal(again.probs, table.probs)
    # nearly equal covariances: the closed form of equal ones within the error
    close = GaussianMixture(weights=m.weights, means=m.means.numpy(), covariances=1.0)
    expected = exact_transitions(close, [0.0]).probs
    assert np.all(np.abs(table.probs - expected) < 6 * table.stderr + 0.02)
