r"""Speciation time: when the largest mode of the covariance drowns in noise.

Printed beside critical windows, never merged with them: the time depends on the unit of the data,
knows nothing of labels when the whole covariance is used, and does not exist for classes with
equal means, whose window is there all the same.

Source: Biroli, Bonnaire, de Bortoli & Mézard (2024), *Dynamical regimes of diffusion models*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from critwin.errors import InputError
from critwin.estimates import plain
from critwin.streams import numpy_stream
from critwin.theory.mixtures import GaussianMixture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["SpeciationTime", "speciation_time"]

_Covariance = Literal["full", "between"]
_DENSE = 1024


@dataclass(frozen=True, kw_only=True)
class SpeciationTime:
    """The OU time at which the top eigenvalue of a covariance is as large as the noise.

    Attributes:
        eigenvalue: Largest eigenvalue Lambda, in squared data units.
        covariance: ``"full"``: of the whole law, within classes included; ``"between"``: of the
            class means alone.
        t: ``1/2 ln Lambda``; None where Lambda < 1: the mode is below the noise at any time.
        t_shifted: ``1/2 ln(1 + Lambda)``.
        name: The criterion.
        source: Where it is from.
        note: What to know before using it.
    """

    eigenvalue: float
    covariance: str
    t: float | None
    t_shifted: float
    name: str = "speciation"
    source: str = "Biroli et al. (2024), t_S = 1/2 ln Lambda"
    note: str = "depends on the unit of the data"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        result: dict[str, Any] = plain(self)
        return result


def speciation_time(
    law: GaussianMixture | ArrayLike,
    *,
    labels: Sequence[Any] | ArrayLike | None = None,
    covariance: _Covariance = "full",
) -> SpeciationTime:
    """Speciation time of a mixture or of points.

    Args:
        law: A mixture, whose components are the classes, or points of shape ``(N, D)``.
        labels: Classes of the points, length N; needed for their between-class covariance.
        covariance: ``"full"``: the centred covariance, within classes included; ``"between"``:
            of the class means.

    Returns:
        Both ``1/2 ln Lambda`` and ``1/2 ln(1 + Lambda)``.

    Raises:
        InputError: If the points are not a finite ``(N, D)`` array with N >= 2, labels are
            missing or too many, or the kind of covariance is unknown.

    Source:
        Biroli et al. (2024); docs/theory/regimes.md, eq. (1).
    """
    if covariance not in get_args(_Covariance):
        raise InputError("unknown covariance", got=covariance, wanted="full or between")
    if isinstance(law, GaussianMixture):
        if labels is not None:
            raise InputError("a mixture has its components as classes", wanted="no labels")
        value = _of_mixture(law, covariance)
    else:
        value = _of_points(law, labels, covariance)
    note = "depends on the unit of the data"
    if value < 1:
        note = f"no time: the largest eigenvalue {value:.6g} is below the noise at any level"
    return SpeciationTime(
        eigenvalue=value,
        covariance=covariance,
        t=0.5 * math.log(value) if value >= 1 else None,
        t_shifted=0.5 * math.log1p(value),
        note=note,
    )


def _of_mixture(m: GaussianMixture, covariance: str) -> float:
    weights, means = m.weights.numpy(), m.means.numpy()
    rows = np.sqrt(weights)[:, None] * (means - weights @ means)
    if covariance == "between":
        return _top(rows)
    share = np.ones(1) if m.is_shared else weights
    if m.kind == "isotropic":  # a multiple of I shifts every eigenvalue
        return _top(rows) + float(share @ m.eigenvalues.numpy()[:, 0])
    each = m.covariances.numpy()[None] if m.is_shared else m.covariances.numpy()
    return _top(rows, np.einsum("k,k...->...", share, each))


def _of_points(points: ArrayLike, labels: Any, covariance: str) -> float:
    try:
        x = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("points are not an array of numbers") from error
    if x.ndim != 2 or len(x) < 2 or x.shape[1] < 1:
        raise InputError("points have the wrong shape", got=x.shape, wanted="(N, D), N >= 2")
    if not np.isfinite(x).all():
        raise InputError("points must be finite")
    x = x - x.mean(axis=0)
    if covariance == "full":
        return _top(x / math.sqrt(len(x)))
    if labels is None:
        raise InputError("a between-class covariance needs labels")
    names, index = np.unique(np.asarray(labels), return_inverse=True)
    if index.shape != (len(x),):
        raise InputError("labels have the wrong shape", got=index.shape, wanted=f"({len(x)},)")
    count = np.bincount(index)
    sums = np.zeros((len(names), x.shape[1]))
    np.add.at(sums, index, x)
    return _top(sums / np.sqrt(count * len(x))[:, None])


def _top(rows: Array, within: Array | None = None) -> float:
    """Largest eigenvalue of ``rows^T rows + within`` (a diagonal, or a matrix)."""
    num, dim = rows.shape
    if within is not None and within.ndim == 2:
        return float(np.linalg.eigvalsh(rows.T @ rows + within)[-1])
    if within is None and min(num, dim) <= _DENSE:
        gram = rows @ rows.T if num <= dim else rows.T @ rows
        return max(float(np.linalg.eigvalsh(gram)[-1]), 0.0)
    diagonal = np.zeros(dim) if within is None else within
    if dim <= _DENSE:
        return float(np.linalg.eigvalsh(rows.T @ rows + np.diag(diagonal))[-1])

    def product(vector: Array) -> Array:
        flat = vector.reshape(-1)
        return np.asarray(rows.T @ (rows @ flat) + diagonal * flat)

    start = numpy_stream(0, "regimes", "speciation", dim).standard_normal(dim)
    operator = LinearOperator((dim, dim), matvec=product, dtype=np.float64)
    values = eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False, tol=1e-12)
    return float(values[0])
