r"""Symmetry breaking: where the fixed point of the reverse drift at the centre loses stability.

In OU time the reverse drift is ``f(x) = x + 2 grad ln p_t(x)``. At high noise it has one stable
fixed point. For symmetric laws that point splits at ``alpha_c``. Printed beside critical windows,
never merged with them: with unequal weights nothing splits, a second fixed point appears in a
fold elsewhere, and this test does not see it.

Source: Raya & Ambrogioni (2023), *Spontaneous symmetry breaking in generative diffusion models*;
the closed form with a variance is derived in docs/theory/regimes.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from critwin.errors import InputError
from critwin.estimates import plain
from critwin.levels import alpha_sigma, ou_time
from critwin.theory.mixtures import GaussianMixture

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["SymmetryBreaking", "symmetry_breaking", "symmetry_breaking_level"]

_STEP = 0.1
_END = 25.0
_MAX_DIM = 512
_NEWTON = 30
_MOST_STEPS = 20_000
_FINEST = 1e-13
_JUMP = 0.25  # of the smallest noised standard deviation
_MARGINAL = 1e-7
_FOLD = (
    "stays stable at all levels; with unequal weights a fold elsewhere is not seen by this test"
)


@dataclass(frozen=True, kw_only=True)
class SymmetryBreaking:
    """The level at which the central fixed point of the reverse drift loses stability.

    Attributes:
        alpha: Signal scale ``alpha_c`` (``alpha^2 + sigma^2 = 1``), or None with a ``note``.
        t: OU time ``-ln alpha_c``.
        logsnr: The same level.
        is_closed_form: Whether it is from a formula; else from following the fixed point.
        name: The criterion.
        source: Where it is from.
        note: What to know before using it.
    """

    alpha: float | None
    t: float | None
    logsnr: float | None
    is_closed_form: bool
    name: str = "symmetry breaking"
    source: str = "Raya & Ambrogioni (2023)"
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        result: dict[str, Any] = plain(self)
        return result


def symmetry_breaking_level(eigenvalue: float, variance: float = 0.0) -> SymmetryBreaking:
    """``alpha_c^2 = 1/(Lambda + sqrt(Lambda^2 + (1 - s^2)^2))`` in closed form.

    For equally weighted components ``N(mu_i, s^2 I)`` whose means are centred and equally long:
    two deltas at ±1 (Lambda = 1, s = 0), centred points of equal norm (s = 0), ``N(±m, s^2 I)``
    (Lambda = |m|^2).

    Args:
        eigenvalue: Largest eigenvalue Lambda of the covariance of the means, >= 0.
        variance: s^2 of every component, >= 0.

    Returns:
        The level, or none where the centre stays stable without noise.

    Raises:
        InputError: If a number is negative.

    Source:
        Raya & Ambrogioni (2023) for s = 0; docs/theory/regimes.md, eqs. (5) and (6).
    """
    if not (0 <= eigenvalue < math.inf and 0 <= variance < math.inf):
        raise InputError(
            "no symmetry to break",
            got=f"eigenvalue={eigenvalue:g}, variance={variance:g}",
            wanted="finite numbers >= 0",
        )
    total = eigenvalue + math.hypot(eigenvalue, 1 - variance)
    if total <= 1:
        return _none("the centre stays stable without noise", is_closed_form=True)
    snr = 1 / (total - 1)  # alpha^2 = 1/total
    return SymmetryBreaking(
        alpha=1 / math.sqrt(total),
        t=0.5 * math.log(total),
        logsnr=math.log(snr),
        is_closed_form=True,
        source="Raya & Ambrogioni (2023)"
        if variance == 0
        else "derived in docs/theory/regimes.md after Raya & Ambrogioni (2023)",
        note="equal weights, centred means of equal length",
    )


def symmetry_breaking(law: GaussianMixture | ArrayLike) -> SymmetryBreaking:
    """Where the fixed point that comes from pure noise loses stability.

    Args:
        law: A mixture: the fixed point is followed numerically, with the mean of the law as the
            origin. Or points of shape ``(N, D)``,
            equally weighted, centred and of equal norm: the closed form.

    Returns:
        The level, or none where the fixed point stays stable. Then nothing is known of folds: two
        components of unequal weights decide without any loss of stability.

    Raises:
        InputError: If points are not centred and equally long (make them a mixture of variance
            0), or a mixture with anisotropic covariances has more than 512 dimensions.

    Source:
        Raya & Ambrogioni (2023); docs/theory/regimes.md, eqs. (4) to (6).
    """
    if not isinstance(law, GaussianMixture):
        return _of_points(law)
    drift = _Drift(law)
    scale = float((law.means**2).sum(dim=1).max()) + float(law.eigenvalues.max()) + 1.0
    level, step = -math.log(1e4 * scale), _STEP
    here = drift.fixed_point(level, np.zeros(drift.means.shape[1]))
    if here is None or here.stability >= 0:
        raise AssertionError("no stable fixed point in pure noise")  # it is at the origin
    slope = np.zeros_like(here.x)
    for _ in range(_MOST_STEPS):
        if level >= _END:
            return _none(_FOLD, is_closed_form=False)
        ahead = drift.fixed_point(level + step, here.x + step * slope)
        limit = _JUMP * drift.length(level + step)
        is_near = (
            ahead is not None
            and ahead.stability < 0
            and np.abs(ahead.x - here.x - step * slope).max() <= limit
        )
        if is_near and ahead is not None:
            slope = (ahead.x - here.x) / step
            level, here, step = level + step, ahead, min(2 * step, _STEP)
            continue
        step /= 2
        if step < _FINEST:
            # close to symmetry the branch bends away just before it would lose stability
            if here.stability < -_MARGINAL:
                return _none("the fixed point could not be followed through", is_closed_form=False)
            return SymmetryBreaking(
                alpha=float(alpha_sigma(level)[0]),
                t=float(ou_time(level)),
                logsnr=level,
                is_closed_form=False,
                note="the fixed point was followed from pure noise",
            )
    return _none("the fixed point could not be followed through", is_closed_form=False)


class _Point(NamedTuple):
    x: Array
    stability: float  # largest eigenvalue of the drift's Jacobian


class _Drift:
    """``x + 2 grad ln p_t`` and its Jacobian, in as few coordinates as the law has."""

    def __init__(self, m: GaussianMixture) -> None:
        self.log_weights = np.log(m.weights.numpy())
        self.dim = m.dim
        num = m.num_components
        means = m.means.numpy() - (m.weights @ m.means).numpy()  # where the origin is says nothing
        if m.kind == "isotropic":  # everything happens in the span of the means
            left, singular, _ = np.linalg.svd(means, full_matrices=False)
            rank = max(1, int((singular > 1e-12 * max(singular[0], 1e-300)).sum()))
            self.means = left[:, :rank] * singular[:rank]
            values = np.broadcast_to(m.eigenvalues.numpy(), (num, 1))
            self.eigenvalues = np.repeat(values, rank, axis=1)
            self.axes = np.broadcast_to(np.eye(rank), (num, rank, rank))
            self.rest = m.dim - rank
            return
        if m.dim > _MAX_DIM:
            raise InputError(
                "too many dimensions for anisotropic covariances",
                got=m.dim,
                wanted=f"at most {_MAX_DIM}",
            )
        self.means = means
        self.eigenvalues = np.broadcast_to(m.eigenvalues.numpy(), (num, m.dim))
        axes = np.eye(m.dim)[None] if m.axes is None else m.axes.numpy()
        self.axes = np.broadcast_to(axes, (num, m.dim, m.dim))
        self.rest = 0

    def length(self, logsnr: float) -> float:
        """Smallest noised standard deviation, the length on which the drift can bend."""
        alpha, sigma = alpha_sigma(logsnr)
        return float(np.sqrt(alpha**2 * self.eigenvalues.min() + sigma**2))

    def fixed_point(self, logsnr: float, x: Array) -> _Point | None:
        """Newton's iteration from x; None where it leaves or does not settle."""
        start, reach = x, 1.0 + np.abs(self.means).max()
        # below the rounding of the sums nothing better can be known
        rounding = max(1e-12, 1e-14 / self.length(logsnr) ** 2) * reach
        for _ in range(_NEWTON):
            drift, jacobian, rest = self._at(logsnr, x)
            if np.abs(drift).max() <= rounding:
                top = float(np.linalg.eigvalsh(jacobian)[-1])
                return _Point(x, max(top, rest))
            try:
                x = x - np.linalg.solve(jacobian, drift)
            except np.linalg.LinAlgError:  # exactly at a splitting, away from the fixed point
                return None
            if not np.isfinite(x).all() or np.abs(x - start).max() > reach:
                return None
        return None

    def _at(self, logsnr: float, x: Array) -> tuple[Array, Array, float]:
        alpha, sigma = alpha_sigma(logsnr)
        noised_var = alpha**2 * self.eigenvalues + sigma**2  # (K, r)
        local = np.einsum("kde,kd->ke", self.axes, alpha * self.means - x)
        log_det = np.log(noised_var).sum(axis=1) + self.rest * np.log(noised_var[:, 0])
        log_joint = self.log_weights - 0.5 * (log_det + (local**2 / noised_var).sum(axis=1))
        probs = np.exp(log_joint - log_joint.max())
        probs /= probs.sum()
        pulls = np.einsum("kde,ke->kd", self.axes, local / noised_var)
        score = probs @ pulls
        precision = np.einsum("k,kde,ke,kfe->df", probs, self.axes, 1 / noised_var, self.axes)
        away = pulls - score
        hessian = (probs[:, None] * away).T @ away - precision
        rest = -math.inf
        if self.rest:
            rest = 1 - 2 * float(probs @ (1 / noised_var[:, 0]))
        return x + 2 * score, np.eye(len(x)) + 2 * hessian, rest


def _of_points(points: ArrayLike) -> SymmetryBreaking:
    x = np.asarray(points, dtype=np.float64)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or len(x) < 2 or not np.isfinite(x).all():
        raise InputError("points have the wrong shape", got=x.shape, wanted="finite (N, D)")
    norms = np.linalg.norm(x, axis=1)
    is_equal = np.ptp(norms) <= 1e-9 * norms.max()
    if not is_equal or np.linalg.norm(x.mean(axis=0)) > 1e-9 * norms.max():
        raise InputError(
            "the closed form is for centred points of equal norm",
            got=f"norms {norms.min():.6g} to {norms.max():.6g}, "
            f"centre {np.linalg.norm(x.mean(axis=0)):.6g}",
            next_step="make them a mixture with covariances=0",
        )
    gram = x @ x.T if len(x) <= x.shape[1] else x.T @ x
    return symmetry_breaking_level(float(np.linalg.eigvalsh(gram)[-1]) / len(x))


def _none(note: str, *, is_closed_form: bool) -> SymmetryBreaking:
    return SymmetryBreaking(
        alpha=None, t=None, logsnr=None, is_closed_form=is_closed_form, note=note
    )
