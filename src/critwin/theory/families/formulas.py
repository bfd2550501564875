r"""Closed forms that several families share: separation and merging of equal Gaussians.

Two components ``N(mu_i, s^2 I)`` at distance ``d`` are separated at OU time t by
``k(t) = (d/2) / sqrt(e^{2t} - 1 + s^2)``, and ``TV = 2 Phi(k) - 1``. All else are bounds on it.

Source: Li & Chen (2024); Li, Karan & Chen (2025), sec. 4; derived in docs/theory/families.md.
"""

from __future__ import annotations

import math

from scipy.special import ndtri

from critwin.errors import InputError

__all__ = [
    "inter_group_time",
    "intra_group_time",
    "leak_time",
    "merging_time",
    "separated_time",
    "separation_time",
]


def separation_time(k: float, *, distance: float, variance: float = 1.0) -> float:
    """OU time at which two equal isotropic Gaussians are ``2 k`` standard deviations apart.

    Args:
        k: Half the distance in noised standard deviations, > 0.
        distance: Between the clean means.
        variance: Of each component along the line that joins them.

    Returns:
        ``1/2 ln(1 - variance + (distance/2)^2 / k^2)``; 0 where they are closer without noise.

    Raises:
        InputError: If k is not positive, or the distance or the variance is negative.

    Source:
        Li, Karan & Chen (2025), Ex. 1; docs/theory/families.md, eq. (2).
    """
    if not k > 0 or distance < 0 or variance < 0:
        raise InputError(
            "no separation time",
            got=f"k={k:g}, distance={distance:g}, variance={variance:g}",
            wanted="k > 0, distance >= 0 and variance >= 0",
        )
    excess = (0.5 * distance / k) ** 2 - variance
    return 0.5 * math.log1p(excess) if excess > 0 else 0.0


def merging_time(share: float, *, distance: float, variance: float, epsilon: float) -> float:
    """OU time from which ``share * TV <= epsilon`` for two equal isotropic Gaussians.

    Args:
        share: Factor of the distance, in (0, 1], e.g. the weight outside ``S_after``.
        distance: Between the means.
        variance: Of each component.
        epsilon: Tolerance.

    Returns:
        The time; 0 where nothing has to merge.

    Raises:
        InputError: As :func:`separation_time`.

    Source:
        docs/theory/families.md, eq. (3).
    """
    if epsilon >= share or distance == 0:
        return 0.0
    k = float(ndtri(0.5 * (1.0 + epsilon / share)))
    return separation_time(k, distance=distance, variance=variance)


def separated_time(
    num_pairs: float, *, distance: float, variance: float, epsilon: float
) -> float | None:
    """OU time up to which two groups of equal-covariance components have ``TV >= 1 - eps^2``.

    From ``1 - TV <= sum_ij sqrt(a_i b_j) BC_ij <= sqrt(num_pairs) exp(-k^2/2)``.

    Args:
        num_pairs: Number of pairs of components between the groups.
        distance: Smallest distance between means of the two groups.
        variance: Shared by all components.
        epsilon: Tolerance.

    Returns:
        A lower bound of ``T_after`` or ``T_upper``, or None where the bound says nothing.

    Source:
        docs/theory/families.md, eq. (6).
    """
    return _affinity_time(math.sqrt(num_pairs) / epsilon**2, distance, variance)


def leak_time(
    num_others: int, odds: float, *, distance: float, variance: float, epsilon: float
) -> float | None:
    """OU time up to which a component leaks at most epsilon, for any weights.

    From ``leak <= 1/2 sqrt(odds) sum_j sqrt(b_j) BC_j <= 1/2 sqrt(num_others * odds) e^{-k^2/2}``.

    Args:
        num_others: Number of other components.
        odds: ``(1 - w_i)/w_i``.
        distance: Smallest distance to another component.
        variance: Shared by all components.
        epsilon: Tolerance.

    Returns:
        A lower bound of the operational ``t_after``, infinite where the leak never reaches
        epsilon, None where the bound says nothing.

    Source:
        docs/theory/families.md, eq. (7).
    """
    return _affinity_time(math.sqrt(num_others * odds) / (2 * epsilon), distance, variance)


def intra_group_time(w2: float, epsilon: float) -> float:
    """Upper bound of ``T_lower`` from the largest ``W_2`` between components of the two sets.

    Args:
        w2: Largest ``W_2(p^i, p^j)``.
        epsilon: Tolerance.

    Returns:
        ``1/2 ln(1 + w2^2 / (4 epsilon^2))``.

    Source:
        docs/theory/families.md, eq. (8).
    """
    return 0.5 * math.log1p(w2**2 / (4 * epsilon**2))


def inter_group_time(
    distance: float, convexity: float, num_components: int, epsilon: float
) -> float | None:
    """Lower bound of ``T_upper`` for ``convexity``-strongly log-concave components.

    Args:
        distance: Smallest distance between means of the two groups.
        convexity: m > 0 with ``Hess V >= m I``; for Gaussians one over the largest eigenvalue.
        num_components: K in both groups together; 1 for a single pair.
        epsilon: Tolerance.

    Returns:
        ``1/2 ln(1 - 1/m + distance^2 / (8 ln(2 K / epsilon^2)))``, or None where it says nothing.

    Source:
        docs/theory/families.md, eq. (9).
    """
    return _affinity_time(2 * num_components / epsilon**2, distance, 1.0 / convexity)


def _affinity_time(factor: float, distance: float, variance: float) -> float | None:
    """Last t >= 0 with ``factor * exp(-d^2 / (8 (e^{2t} - 1 + s^2))) <= 1``, or None."""
    if factor <= 1:
        return math.inf
    excess = distance**2 / (8 * math.log(factor)) - variance
    return 0.5 * math.log1p(excess) if excess >= 0 else None
