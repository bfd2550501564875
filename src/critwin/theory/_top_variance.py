"""Largest eigenvalue of the covariance of many points, without the covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from critwin.streams import numpy_stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.theory._dataset_inputs import PointSet

    Array = NDArray[np.float64]

_SMALL = 64  # coordinates up to which the covariance itself is diagonalised
_CHUNK = 1 << 22
_CACHE_BYTES = 1 << 30


def top_variance(points: PointSet) -> float:
    """Largest eigenvalue of the weighted covariance.

    The direction comes from Lanczos iterations with float32 products, the eigenvalue from one
    Rayleigh quotient in float64: an error of the direction enters it squared.

    Args:
        points: The points.

    Returns:
        The eigenvalue.
    """
    num, dim = points.points.shape
    step = max(1, _CHUNK // dim)
    chunks = [slice(a, min(a + step, num)) for a in range(0, num, step)]
    if dim <= _SMALL:
        covariance = np.zeros((dim, dim))
        for rows in chunks:
            part = points.centred(rows)
            covariance += part.T @ (part * points.law[rows, None])
        return float(np.linalg.eigvalsh(covariance)[-1])
    is_small = num * dim * 4 <= _CACHE_BYTES
    kept = [points.centred(rows, "float32") for rows in chunks] if is_small else None

    def product(vector: Array) -> Array:
        total, single = np.zeros(dim), vector.reshape(-1).astype(np.float32)
        for k, rows in enumerate(chunks):
            part = points.centred(rows, "float32") if kept is None else kept[k]
            total += part.T @ (points.law[rows] * (part @ single)).astype(np.float32)
        return total

    start = numpy_stream(0, "top_variance").standard_normal(dim)
    operator = LinearOperator((dim, dim), matvec=product, dtype=np.float64)
    _, vectors = eigsh(operator, k=1, which="LA", v0=start, tol=1e-5)
    direction = vectors[:, 0] / np.linalg.norm(vectors[:, 0])
    squares = [points.law[rows] @ (points.centred(rows) @ direction) ** 2 for rows in chunks]
    return float(np.sum(squares))
