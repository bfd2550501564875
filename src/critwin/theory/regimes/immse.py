r"""The same information rate from errors of the optimal denoiser: an independent check.

``dI(label; x)/dgamma = 1/2 [mmse(gamma) - mmse(gamma | label)]``, gamma the snr, in nats.

Source: Guo, Shamai & Verdú (2005); Pan et al. (2026), *Feature information dynamics in
diffusion*, for the difference of the two errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError
from critwin.estimates import plain
from critwin.levels import ou_time
from critwin.theory.mixtures import GaussianMixture, submixture
from critwin.theory.regimes._averages import spread_average
from critwin.theory.regimes._posteriors import group_matrix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["ImmseCurve", "immse"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ImmseCurve:
    """Errors of the optimal denoiser with and without the label.

    Attributes:
        logsnr: Levels, shape ``(L,)``.
        labels: The labels.
        mmse: ``E|x_0 - E[x_0 | x_t]|^2`` in squared data units, shape ``(L,)``.
        mmse_given_label: The same for a denoiser that is told the label.
        information_rate: ``dI(label; x_t)/dgamma``, gamma = snr, in nats.
        rate_per_log_sigma: ``gamma (mmse - mmse_given_label) = dH/d ln sigma``, in nats.
        stderr: Of ``mmse``, 0 where exact.
        rate_stderr: Of ``rate_per_log_sigma``, 0 where exact.
        method: ``"quadrature"`` or ``"sobol"``.
        name: The criterion.
        source: Where it is from.
    """

    logsnr: Array
    labels: tuple[str, ...]
    mmse: Array
    mmse_given_label: Array
    information_rate: Array
    rate_per_log_sigma: Array
    stderr: Array
    rate_stderr: Array
    method: str
    name: str = "I-MMSE"
    source: str = "Guo, Shamai & Verdú (2005); Pan et al. (2026)"

    @property
    def t(self) -> Array:
        """OU times of the levels."""
        return ou_time(self.logsnr)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        result: dict[str, Any] = {**plain(self), "t": plain(self.t)}
        return result


def immse(
    mixture: GaussianMixture,
    logsnr: ArrayLike,
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
    num_samples: int = 1 << 13,
    seed: int = 0,
) -> ImmseCurve:
    """Minimum mean squared errors and the information rate that they imply.

    The error is ``sum_i w_i tr Cov(x_0 | x_t, i)``, in closed form, plus the average spread of
    the components' posterior means, by the quadrature or the Sobol points of
    :func:`critwin.theory.regimes.information.information`; no entropy is computed.

    Args:
        mixture: Law of the clean ``x_0``.
        logsnr: Finite levels, any order, shape ``(L,)``.
        labels: Groups of components, label -> names; an ungrouped component keeps its name.
        num_samples: Number of quasi-random points, split over 16 scrambles.
        seed: Seed of the scrambles.

    Returns:
        The curves.

    Raises:
        InputError: If levels or labels are not valid, or anisotropic covariances have more than
            4096 dimensions.

    Source:
        Pan et al. (2026); docs/theory/regimes.md, eqs. (10) to (12).
    """
    levels = np.asarray(logsnr, dtype=np.float64)
    if levels.ndim != 1 or len(levels) == 0 or not np.isfinite(levels).all():
        raise InputError("levels are not a list of finite logsnr", got=logsnr, wanted="(L,)")
    names, groups = group_matrix(mixture, labels)
    weights = mixture.weights.numpy()
    within = _within(mixture, levels)
    whole = spread_average(mixture, levels, num_samples=num_samples, seed=seed)
    given, given_var = np.zeros(len(levels)), np.zeros(len(levels))
    for column in groups.T:
        members = [name for name, is_in in zip(mixture.names, column, strict=True) if is_in]
        if len(members) == 1:
            continue  # one component has one posterior mean
        share = float(column @ weights)
        part = spread_average(
            submixture(mixture, members), levels, num_samples=num_samples, seed=seed
        )
        given += share * part.value
        given_var += share**2 * part.value_stderr**2
    gamma, gap = np.exp(levels), whole.value - given
    return ImmseCurve(
        logsnr=levels,
        labels=names,
        mmse=within + whole.value,
        mmse_given_label=within + given,
        information_rate=0.5 * gap,
        rate_per_log_sigma=gamma * gap,
        stderr=whole.value_stderr,
        rate_stderr=gamma * np.sqrt(whole.value_stderr**2 + given_var),
        method=whole.method,
    )


def _within(m: GaussianMixture, levels: Array) -> Array:
    """``sum_i w_i tr(Sigma_i (I + gamma Sigma_i)^{-1})``, shape ``(L,)``."""
    eigenvalues = np.broadcast_to(
        m.eigenvalues.numpy(), (m.num_components, m.eigenvalues.shape[1])
    )
    copies = m.dim / eigenvalues.shape[1]
    gamma = np.exp(levels)[:, None, None]
    traces = copies * (eigenvalues / (1.0 + gamma * eigenvalues)).sum(axis=-1)
    return np.asarray(traces @ m.weights.numpy())
