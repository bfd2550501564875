r"""Collapse time: when a noised sample names the training point that it came from.

Printed beside critical windows, never merged with them.

Source: Biroli, Bonnaire, de Bortoli & Mézard (2024), *Dynamical regimes of diffusion models*; the
balance with label information is derived in docs/theory/regimes.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import brentq

from critwin.errors import InputError
from critwin.estimates import plain
from critwin.levels import logsnr_of_ou_time, ou_time
from critwin.theory.regimes.information import information

if TYPE_CHECKING:
    from critwin.theory.mixtures import GaussianMixture

__all__ = ["CollapseTime", "collapse_balance", "collapse_time"]

_REACH = 80.0


@dataclass(frozen=True, kw_only=True)
class CollapseTime:
    """The OU time below which the empirical law of n points is told from its population.

    Attributes:
        num_points: Number n of training points.
        t: The time; None where there is none, with a ``note``.
        logsnr: The same level.
        is_with_labels: Whether the information that the level holds on the label is subtracted.
        name: The criterion.
        source: Where it is from.
        note: What to know before using it.
    """

    num_points: int
    t: float | None
    logsnr: float | None
    is_with_labels: bool
    name: str = "collapse"
    source: str = "Biroli et al. (2024)"
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        result: dict[str, Any] = plain(self)
        return result


def collapse_time(num_points: int, *, dim: int, variance: float = 1.0) -> CollapseTime:
    """``t_C = 1/2 ln(1 + s^2 / (n^{2/D} - 1))``, without the label's information.

    Args:
        num_points: Number n of training points, at least 2.
        dim: Number of dimensions D.
        variance: Of every class in every direction, s^2 > 0.

    Returns:
        The time.

    Raises:
        InputError: If a number is out of range.

    Source:
        Biroli et al. (2024); docs/theory/regimes.md, eq. (2).
    """
    _check_count(num_points)
    if dim < 1 or not 0 < variance < math.inf:
        raise InputError(
            "no collapse time", got=f"dim={dim}, variance={variance:g}", wanted="both > 0"
        )
    t = 0.5 * math.log1p(variance / math.expm1(2 * math.log(num_points) / dim))
    return CollapseTime(
        num_points=num_points,
        t=t,
        logsnr=float(logsnr_of_ou_time(t)),
        is_with_labels=False,
        source="Biroli et al. (2024), t_C = 1/2 ln(1 + s^2/(n^(2/D) - 1))",
        note="leaves out what the level tells about the label",
    )


def collapse_balance(
    mixture: GaussianMixture, num_points: int, *, num_samples: int = 1 << 13, seed: int = 0
) -> CollapseTime:
    """The exact balance: ``ln n = I(label; x_t) + I(x_0; x_t | label)``.

    The second term is ``sum_i w_i 1/2 sum_d ln(1 + snr lambda_id)``, so any covariances will do.

    Args:
        mixture: Law of the population.
        num_points: Number n of training points drawn from it, at least 2.
        num_samples: As :func:`critwin.theory.regimes.information.information`, as is:
        seed: Seed of the scrambles.

    Returns:
        The level at which the noised sample holds ``ln n`` nats on the clean one.

    Raises:
        InputError: If there are fewer than 2 points.

    Source:
        docs/theory/regimes.md, eq. (3).
    """
    _check_count(num_points)
    weights = mixture.weights.numpy()
    eigenvalues = np.broadcast_to(
        mixture.eigenvalues.numpy(), (mixture.num_components, mixture.eigenvalues.shape[1])
    )
    copies = mixture.dim / eigenvalues.shape[1]

    def gap(logsnr: float) -> float:
        curve = information(mixture, [logsnr], num_samples=num_samples, seed=seed)
        within = 0.5 * copies * np.log1p(math.exp(logsnr) * eigenvalues).sum(axis=1)
        return math.log(num_points) - float(curve.information[0]) - float(weights @ within)

    source = "derived in docs/theory/regimes.md after Biroli et al. (2024)"
    if gap(_REACH) > 0:
        return CollapseTime(
            num_points=num_points,
            t=None,
            logsnr=None,
            is_with_labels=True,
            source=source,
            note="no level holds ln n nats: there are more points than the law can tell apart",
        )
    level = float(brentq(gap, -_REACH, _REACH, xtol=1e-14, rtol=4 * np.finfo(float).eps))
    return CollapseTime(
        num_points=num_points,
        t=float(ou_time(level)),
        logsnr=level,
        is_with_labels=True,
        source=source,
        note="ln n = I(label; x_t) + I(x_0; x_t | label)",
    )


def _check_count(num_points: int) -> None:
    if num_points < 2 or num_points != int(num_points):
        raise InputError("too few points", got=num_points, wanted="a whole number >= 2")
