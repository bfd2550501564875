"""Mixtures of every structure, for tests of identities."""

from __future__ import annotations

import numpy as np
import torch

from critwin.streams import numpy_stream
from critwin.theory.mixtures import GaussianMixture, covariance_matrices


def random_mixture(kind: str, *, is_shared: bool, num: int = 3, dim: int = 4) -> GaussianMixture:
    """A mixture whose covariances have exactly this structure."""
    rng = numpy_stream(0, "mixture", kind, int(is_shared), num, dim)
    count = 1 if is_shared else num
    if kind == "isotropic":
        covariances = rng.uniform(0.3, 2.0, count)
    elif kind == "diagonal":
        covariances = rng.uniform(0.3, 2.0, (count, dim))
    else:
        root = rng.normal(size=(count, dim, dim))
        covariances = root @ root.transpose(0, 2, 1) / dim + 0.2 * np.eye(dim)
    return GaussianMixture(
        weights=rng.dirichlet(np.full(num, 5.0)),
        means=2.0 * rng.normal(size=(num, dim)),
        covariances=covariances[0] if is_shared else covariances,
        covariance_kind=kind,  # type: ignore[arg-type]
    )


STRUCTURES = [(k, s) for k in ("isotropic", "diagonal", "full") for s in (True, False)]


def rotated(m: GaussianMixture) -> tuple[GaussianMixture, torch.Tensor]:
    """The same law after ``x -> x @ q``, so that nothing of its structure can be seen, and q."""
    rng = numpy_stream(1, "rotation", m.dim)
    q, _ = np.linalg.qr(rng.normal(size=(m.dim, m.dim)))
    cov = q.T @ covariance_matrices(m).numpy() @ q
    full = GaussianMixture(
        weights=m.weights,
        means=m.means.numpy() @ q,
        covariances=0.5 * (cov + cov.transpose(0, 2, 1)),
        covariance_kind="full",
        names=m.names,
    )
    return full, torch.from_numpy(q)


def points(m: GaussianMixture, count: int = 32) -> torch.Tensor:
    rng = numpy_stream(2, "points", m.dim)
    return torch.from_numpy(3.0 * rng.normal(size=(count, m.dim)))


FOUR = GaussianMixture(
    weights=[0.4, 0.3, 0.2, 0.1],
    means=[-8.0, -4.0, 6.0, 8.0],
    covariances=np.array([1.0, 0.5, 0.7, 1.2]) ** 2,
)
"""The one-dimensional mixture whose transitions are tabulated."""
