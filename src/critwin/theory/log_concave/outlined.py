r"""Components known only in outline: mean, strong log-concavity m, Wasserstein distances.

Nothing here can be exact, and nothing needs to be: what is known gives certified brackets. Strong
log-concavity gives the lower bounds (Bakry–Émery and Herbst), Wasserstein distances the upper
ones (coupling).

Source: derived in docs/theory/log_concave.md, eqs. (6)–(9).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.special import erf

from critwin.errors import InputError
from critwin.theory._law import check_names, check_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["OutlinedMixture", "coupling_upper", "log_concave_lower", "outline_from_samples"]

_MAX_MATCHED = 3000


@dataclass(frozen=True, eq=False, init=False)
class OutlinedMixture:
    """A mixture whose components are known only in outline. Frozen.

    Attributes:
        weights: Prior over components, shape ``(K,)``, float64.
        means: Shape ``(K, D)``, float64.
        m: Strong log-concavity of each component, shape ``(K,)``; 0 claims nothing.
        wasserstein: Upper bounds on the W_1 or W_2 distances, shape ``(K, K)``, zero diagonal;
            infinite where nothing is known.
        names: Names of the components, length K.
        is_estimated: Whether means or distances come from samples: brackets are then estimates
            of the certified ones.
    """

    weights: torch.Tensor
    means: torch.Tensor
    m: torch.Tensor
    wasserstein: torch.Tensor
    names: tuple[str, ...]
    is_estimated: bool

    def __init__(
        self,
        *,
        means: Any,
        m: Any = 0.0,
        wasserstein: Any = None,
        weights: Any = None,
        names: Sequence[str] | None = None,
        is_estimated: bool = False,
    ) -> None:
        """Check and store a mixture.

        Args:
            means: Shape ``(K, D)``; K numbers are taken as ``(K, 1)``.
            m: ``inf Hess V`` of each component or of all, >= 0; 0 claims nothing.
            wasserstein: W_1 or W_2 distances of the clean components, or upper bounds on them,
                shape ``(K, K)``. Unless given, ``|mu_i - mu_j| + sqrt(D/m_i) + sqrt(D/m_j)``.
            weights: Shape ``(K,)``; equal unless given.
            names: Distinct names; ``"0"``, ``"1"``, … unless given.
            is_estimated: Whether any of this was computed from samples.

        Raises:
            InputError: If shapes do not fit, something is not finite, m is negative, or the
                distances are not symmetric, negative, not zero on the diagonal, or smaller than
                the distances of the means.
        """
        centre = _numbers("means", means)
        centre = centre[:, None] if centre.ndim == 1 else centre
        if centre.ndim != 2 or 0 in centre.shape or not np.all(np.isfinite(centre)):
            raise InputError("means must be finite, of shape (K, D)", got=centre.shape)
        num, dim = centre.shape
        convexity = _numbers("m", m)
        if convexity.shape not in ((), (num,)) or not np.all(
            (convexity >= 0) & (convexity < np.inf)
        ):
            raise InputError("m must be finite and >= 0", got=m, wanted=f"a number or {num}")
        convexity = np.broadcast_to(convexity, (num,)).copy()
        apart = np.linalg.norm(centre[:, None] - centre, axis=-1)
        if wasserstein is None:
            with np.errstate(divide="ignore"):
                radius = np.sqrt(dim / convexity)
            distance = apart + radius[:, None] + radius
            np.fill_diagonal(distance, 0.0)
        else:
            distance = _checked_distances(wasserstein, apart, is_estimated)
        fields: dict[str, Any] = {
            "weights": check_weights(weights, num),
            "means": torch.from_numpy(centre),
            "m": torch.from_numpy(convexity),
            "wasserstein": torch.from_numpy(distance),
            "names": check_names(names, num),
            "is_estimated": bool(is_estimated),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def dim(self) -> int:
        """Number of dimensions D."""
        return int(self.means.shape[1])

    @property
    def num_components(self) -> int:
        """Number of components K."""
        return int(self.means.shape[0])


def outline_from_samples(
    samples: Sequence[ArrayLike],
    *,
    m: Any = 0.0,
    weights: Any = None,
    names: Sequence[str] | None = None,
) -> OutlinedMixture:
    """An outline whose means and W_2 distances are those of samples.

    Empirical distances are exact for the empirical laws, and estimates for the laws behind them
    (biased upwards, by order ``n^{-1/D}``); in one dimension samples are sorted, otherwise
    matched, which takes equal numbers and at most 3,000 of them.

    Args:
        samples: One array ``(n_k, D)`` a component.
        m: As :class:`OutlinedMixture`, as are:
        weights: The prior.
        names: The names.

    Returns:
        The mixture, ``is_estimated=True``.

    Raises:
        InputError: If an array is empty, not finite, or of another D, or cannot be matched.
    """
    points = [_numbers("a sample", s) for s in samples]
    points = [p[:, None] if p.ndim == 1 else p for p in points]
    if not points or any(
        p.ndim != 2 or 0 in p.shape or p.shape[1] != points[0].shape[1] or not np.isfinite(p).all()
        for p in points
    ):
        raise InputError(
            "samples do not fit", got=[p.shape for p in points], wanted="finite arrays (n_k, D)"
        )
    num = len(points)
    distance = np.zeros((num, num))
    for i in range(num):
        for j in range(i):
            distance[i, j] = distance[j, i] = _empirical_w2(points[i], points[j])
    return OutlinedMixture(
        means=np.stack([p.mean(axis=0) for p in points]),
        m=m,
        wasserstein=distance,
        weights=weights,
        names=names,
        is_estimated=True,
    )


def log_concave_lower(means: Array, m: Array, alpha: Array, sigma: Array) -> Array:
    """Pairwise lower bounds on TV of m-strongly log-concave components.

    Args:
        means: Shape ``(K, D)``.
        m: Shape ``(K,)``; a pair with an m of 0 has the bound 0.
        alpha: Signal scales, shape ``(L,)``.
        sigma: Noise standard deviations, shape ``(L,)``.

    Returns:
        Shape ``(L, K, K)``, zero diagonal: ``1 - 2 exp(-alpha^2 |mu_i - mu_j|^2 / (2 (sqrt v_i +
        sqrt v_j)^2))``, ``v = alpha^2/m + sigma^2``, where it is positive.

    Source:
        docs/theory/log_concave.md, eq. (6).
    """
    apart = np.linalg.norm(means[:, None] - means, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(alpha[:, None] ** 2 / m + sigma[:, None] ** 2)
        total = spread[:, :, None] + spread[:, None, :]
        exponent = np.nan_to_num(alpha[:, None, None] * apart / total, nan=0.0, posinf=np.inf)
    return np.asarray(np.clip(1.0 - 2.0 * np.exp(-0.5 * exponent**2), 0.0, 1.0))


def coupling_upper(wasserstein: Array, alpha: Array, sigma: Array) -> Array:
    """Pairwise upper bounds ``TV <= 2 Phi(alpha W/(2 sigma)) - 1``, W = W_1 or anything above.

    Args:
        wasserstein: Distances of the clean components, shape ``(K, K)``.
        alpha: Signal scales, shape ``(L,)``.
        sigma: Noise standard deviations, shape ``(L,)``.

    Returns:
        Shape ``(L, K, K)``; exact for translates of one law in Gaussian noise only as a bound.

    Source:
        docs/theory/log_concave.md, eq. (8).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = alpha[:, None, None] * wasserstein / sigma[:, None, None]
    return np.asarray(erf(np.where(wasserstein == 0, 0.0, ratio) / math.sqrt(8.0)))


def _numbers(name: str, value: Any) -> Array:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is not an array of numbers", got=value) from error


def _checked_distances(value: Any, apart: Array, is_estimated: bool) -> Array:
    distance = _numbers("wasserstein", value)
    if distance.shape != apart.shape or np.any(np.isnan(distance)) or np.any(distance < 0):
        raise InputError(
            "wasserstein must be distances >= 0", got=distance.shape, wanted=f"{apart.shape}"
        )
    if not np.allclose(distance, distance.T) or np.any(np.diagonal(distance) != 0):
        raise InputError("wasserstein must be symmetric with a zero diagonal")
    least = apart * (1 - 1e-9) - 1e-12
    if not is_estimated and np.any(distance < least):
        i, j = np.argwhere(distance < least)[0]
        raise InputError(
            f"W({i}, {j}) is smaller than the distance of the means",
            got=float(distance[i, j]),
            wanted=f"at least {apart[i, j]:.6g}",
        )
    return np.asarray(np.maximum(distance, distance.T))


def _empirical_w2(x: Array, y: Array) -> float:
    if x.shape[1] == 1:
        # the quantile functions are steps; all of their jumps
        cuts = np.unique(
            np.concatenate([np.arange(1, len(s) + 1) / len(s) for s in (x, y)]).round(14)
        )
        width = np.diff(np.concatenate([[0.0], cuts]))
        at = cuts - 0.5 * width
        a, b = (
            np.sort(s[:, 0])[np.minimum((at * len(s)).astype(int), len(s) - 1)] for s in (x, y)
        )
        return float(np.sqrt((width * (a - b) ** 2).sum()))
    if len(x) != len(y) or len(x) > _MAX_MATCHED:
        raise InputError(
            "samples in several dimensions are matched one to one",
            got=(len(x), len(y)),
            wanted=f"equal numbers, at most {_MAX_MATCHED}",
        )
    cost = ((x[:, None] - y) ** 2).sum(axis=-1)
    rows, columns = linear_sum_assignment(cost)
    return float(np.sqrt(cost[rows, columns].mean()))
