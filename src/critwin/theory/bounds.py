r"""What the theory promises: bounds that hold at a level, and bounds on the times.

* :func:`theorem_bound`: how close the forward–reverse image of ``S_init`` is to ``S_target`` on
  all of ``[T_lower, T_upper]``.
* :func:`certificate`: the same at any level, on both sides.
* :func:`separation_from_leak`, :func:`leak_from_separation`: a measured leak certifies separation.
* :func:`log_concave_tv_lower`, :func:`wasserstein_upper`, :func:`translate_upper`: distances of
  components known through few numbers.
* :func:`log_concave_times`: the times in closed form for strongly log-concave components.
* :func:`learned_score_bound`: what an inexact score adds.

Source: Li, Karan & Chen (2025), Thm 2 and Lemma 3; Li & Chen (2024), Thm 7; the sharper forms are
derived in docs/theory/distances.md and docs/theory/windows_by_distance.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import erf

from critwin.errors import InputError
from critwin.estimates import plain
from critwin.levels import alpha_sigma
from critwin.theory._certificates import Certificate, certificate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = [
    "Certificate",
    "LogConcaveTimes",
    "TheoremBound",
    "certificate",
    "check_epsilon",
    "leak_from_separation",
    "learned_score_bound",
    "log_concave_times",
    "log_concave_tv_lower",
    "separation_from_leak",
    "theorem_bound",
    "translate_upper",
    "wasserstein_upper",
]


@dataclass(frozen=True, kw_only=True)
class TheoremBound:
    """Bounds on ``TV(p^{S_init,t}, p^{S_target})`` for every t in ``[T_lower, T_upper]``.

    Attributes:
        value: The least of them, at most 1.
        name: Which one it is.
        bounds: All of them: ``"published"``, ``"linear"`` and ``"root"``.
    """

    value: float
    name: str
    bounds: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"value": self.value, "name": self.name, "bounds": dict(self.bounds)}


def theorem_bound(epsilon: float, W: float) -> TheoremBound:
    """How far the forward–reverse image of ``S_init`` is from ``S_target`` inside the window.

    Args:
        epsilon: Tolerance of ``T_lower`` and ``T_upper``, in (0, 1).
        W: Odds against the target, ``w(rest)/w(S_target)``, >= 0; 0 if it holds everything.

    Returns:
        ``eps (1 + max(1, W)/sqrt 2)`` (published), ``eps + max(1, W) eps^2`` (linear) and
        ``eps (1 + sqrt(W/2))`` (root), with the least of them named.

    Raises:
        InputError: If an argument is out of range.

    Source:
        Li, Karan & Chen (2025), Thm 2; docs/theory/windows_by_distance.md, eqs (5)–(7).
    """
    epsilon = check_epsilon(epsilon)
    if not 0.0 <= W < np.inf:
        raise InputError("the odds W are out of range", got=W, wanted="a finite number >= 0")
    bounds = {
        "published": epsilon * (1.0 + max(1.0, W) / np.sqrt(2.0)),
        "linear": epsilon + max(1.0, W) * epsilon**2,
        "root": epsilon * (1.0 + np.sqrt(0.5 * W)),
    }
    name = min(bounds, key=lambda key: bounds[key])
    every = {key: float(value) for key, value in bounds.items()}
    return TheoremBound(value=min(every[name], 1.0), name=name, bounds=MappingProxyType(every))


def separation_from_leak(leak: ArrayLike, weight: float) -> tuple[Array, Array]:
    """What a leak says about ``TV(p_t^S, p_t^rest)``.

    Args:
        leak: ``leak_t(S)``, any shape.
        weight: ``w(S)``, in (0, 1).

    Returns:
        The lower bound ``1 - leak/(1 - w)`` and the upper bound ``1 - leak/max(1, W)``,
        ``W = (1 - w)/w``, both in [0, 1].

    Raises:
        InputError: If an argument is out of range.

    Source:
        docs/theory/distances.md, eq. (14).
    """
    value, rest = _leak_and_rest(leak, weight)
    lower = np.clip(1.0 - value / rest, 0.0, 1.0)
    return lower, np.clip(1.0 - value / max(1.0, rest / weight), 0.0, 1.0)


def leak_from_separation(tv: ArrayLike, weight: float) -> tuple[Array, Array]:
    """What a separation says about the leak: :func:`separation_from_leak` turned around.

    Args:
        tv: ``TV(p_t^S, p_t^rest)``, any shape.
        weight: ``w(S)``, in (0, 1).

    Returns:
        The lower bound ``(1 - w)(1 - TV)`` and the upper bound ``max(1, W)(1 - TV)``, at most
        ``1 - w``, the leak of no information at all.

    Raises:
        InputError: If an argument is out of range.

    Source:
        docs/theory/distances.md, eq. (14).
    """
    value, rest = _leak_and_rest(tv, weight)
    upper = np.minimum(max(1.0, rest / weight) * (1.0 - value), rest)
    return np.asarray(rest * (1.0 - value)), np.asarray(upper)


def log_concave_tv_lower(
    distance: ArrayLike, logsnr: ArrayLike, m: float, m_other: float | None = None
) -> Array:
    r"""Lower bound on the distance of two m-strongly log-concave laws after noising.

    Args:
        distance: Distance of their *means*, broadcast with the levels.
        logsnr: Levels, any shape.
        m: ``Hess V >= m I`` of the first (``p = exp(-V)``), positive; ``1/variance`` if Gaussian.
        m_other: Of the second; the same unless given.

    Returns:
        ``1 - 2 exp(-alpha^2 d^2 / (2 (sqrt v + sqrt v')^2))``, ``v = alpha^2/m + sigma^2``,
        clipped at 0.

    Raises:
        InputError: If a number is out of range.

    Source:
        Bakry & Émery (1985) and Herbst's argument; docs/theory/distances.md, eq. (15).
    """
    other = m if m_other is None else m_other
    for value in (m, other):
        if not 0.0 < value < np.inf:
            raise InputError("m is out of range", got=value, wanted="a positive number")
    alpha, sigma = alpha_sigma(logsnr)
    width = np.sqrt(alpha**2 / m + sigma**2) + np.sqrt(alpha**2 / other + sigma**2)
    exponent = 0.5 * (alpha * _nonnegative(distance, "distance") / width) ** 2
    return np.asarray(np.clip(1.0 - 2.0 * np.exp(-exponent), 0.0, 1.0))


def wasserstein_upper(
    logsnr: ArrayLike, *, w2: ArrayLike | None = None, w1: ArrayLike | None = None
) -> Array:
    """Upper bound on the distance of two noised laws from that of the clean ones.

    Args:
        logsnr: Levels, any shape.
        w2: Wasserstein-2 distance of the clean laws: ``TV <= W_2 / (2 sqrt(e^{2t} - 1))``.
        w1: Their Wasserstein-1 distance: ``TV <= W_1 / sqrt(2 pi (e^{2t} - 1))``.

    Returns:
        The least of what is given, at most 1.

    Raises:
        InputError: If neither is given, or one is negative.

    Source:
        Li & Chen (2024), sec. 4 (W_2); docs/theory/distances.md, eqs (16) and (17).
    """
    if w1 is None and w2 is None:
        raise InputError("a Wasserstein distance is needed", wanted="w2 or w1")
    with np.errstate(over="ignore"):
        root_snr = np.exp(0.5 * np.asarray(logsnr, dtype=np.float64))  # 1 / sqrt(e^{2t} - 1)
    bounds = [np.ones_like(root_snr)]
    with np.errstate(invalid="ignore"):
        for distance, factor in ((w2, 0.5), (w1, 1.0 / np.sqrt(2.0 * np.pi))):
            if distance is not None:
                bound = factor * _nonnegative(distance, "Wasserstein distance") * root_snr
                bounds.append(np.where(np.isnan(bound), 0.0, bound))  # 0 times infinity
    return np.asarray(np.min(np.broadcast_arrays(*bounds), axis=0))


def translate_upper(
    distance: ArrayLike, logsnr: ArrayLike, *, probs: ArrayLike | None = None
) -> Array:
    """Upper bound for translates, or for any coupling: ``E[2 Phi(alpha |x - y|/(2 sigma)) - 1]``.

    Args:
        distance: Length of the translation; with ``probs``, distances ``|x - y|`` that the
            coupling takes, shape ``(N,)``.
        logsnr: Levels, shape ``(L,)`` or a number.
        probs: Probabilities of those distances, shape ``(N,)``.

    Returns:
        The bound, shape of the levels (broadcast with ``distance`` where ``probs`` is None).

    Raises:
        InputError: If a distance is negative, or probabilities do not sum to 1.

    Source:
        docs/theory/distances.md, eq. (18).
    """
    size = _nonnegative(distance, "distance")
    level = np.asarray(logsnr, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        root_snr = np.exp(0.5 * level)
        if probs is None:
            half = 0.5 * size * root_snr
            return np.asarray(erf(np.where(np.isnan(half), 0.0, half) / np.sqrt(2.0)))
        law = _nonnegative(probs, "probability")
        if law.shape != size.shape or abs(float(law.sum()) - 1.0) > 1e-9:
            raise InputError("probs are not a law of the distances", got=f"a sum of {law.sum()}")
        half = 0.5 * size * root_snr[..., None]
        return np.asarray(erf(np.where(np.isnan(half), 0.0, half) / np.sqrt(2.0)) @ law)


@dataclass(frozen=True, kw_only=True)
class LogConcaveTimes:
    """Bounds on the times of a pair of sets, from four numbers.

    Attributes:
        T_lower: Upper bound on T_lower: from here on the sets cannot be told apart.
        T_upper: Lower bound on T_upper, or None: up to here the target stands apart.
        reason: Why there is no T_upper.
        epsilon: Tolerance.
        is_window: Whether ``T_lower <= T_upper``: the bound of :func:`theorem_bound` then holds
            on all of ``[T_lower, T_upper]``.
    """

    T_lower: float
    T_upper: float | None
    reason: str | None
    epsilon: float
    is_window: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        result: dict[str, Any] = plain(self)
        return result


def log_concave_times(
    W2: float | None,
    Delta: float,
    m: float,
    K: float,
    epsilon: float,
    *,
    W1: float | None = None,
) -> LogConcaveTimes:
    """The window of strongly log-concave components in closed form.

    Args:
        W2: Largest Wasserstein-2 distance of a component of S_init and one of S_target (*intra*);
            ``|mu_i - mu_j| + 2 sqrt(D/m)`` is an upper bound on it. None if W1 is given.
        Delta: Least distance between the means of a component of S_target and one outside
            (*inter*); ``inf`` if nothing is outside.
        m: Every component has ``Hess V >= m I``, positive.
        K: Number of components; 1 gives the bound for a pair, and so does any upper bound on
            ``sum_ij max(a_i, b_j)``.
        epsilon: Tolerance, in (0, 1).
        W1: Largest Wasserstein-1 distance, used where its bound is the smaller one.

    Returns:
        ``T_lower <= 1/2 ln(1 + W_2^2/(4 eps^2))`` (W_1: ``1/2 ln(1 + W_1^2/(2 pi eps^2))``) and
        ``T_upper >= 1/2 ln(1 - 1/m + Delta^2/(8 ln(2K/eps^2)))``.

    Raises:
        InputError: If a number is out of range.

    Source:
        Li & Chen (2024), Thm 7 and Cor. (well-conditioned components); the constants are derived
        in docs/theory/windows_by_distance.md, eqs (10) and (11).
    """
    epsilon = check_epsilon(epsilon)
    if W2 is None and W1 is None:
        raise InputError("a Wasserstein distance is needed", wanted="W2 or W1")
    if not 0.0 < m < np.inf or not K >= 1:
        raise InputError("m or K is out of range", got=f"m={m:g}, K={K:g}", wanted="m > 0, K >= 1")
    lower = []
    if W2 is not None:
        lower.append(float(_nonnegative(W2, "W2")) ** 2 / (4.0 * epsilon**2))
    if W1 is not None:
        lower.append(float(_nonnegative(W1, "W1")) ** 2 / (2.0 * np.pi * epsilon**2))
    t_lower = 0.5 * float(np.log1p(min(lower)))
    gap = float(_nonnegative(Delta, "Delta"))
    inside = 1.0 - 1.0 / m + gap**2 / (8.0 * np.log(2.0 * K / epsilon**2))
    if inside < 1.0:
        reason = "the means are too close for this bound to say that any level separates them"
        return LogConcaveTimes(
            T_lower=t_lower, T_upper=None, reason=reason, epsilon=epsilon, is_window=False
        )
    t_upper = 0.5 * float(np.log(inside))
    if not np.isfinite(t_upper):
        reason = "infinite: nothing is outside the target"
        return LogConcaveTimes(
            T_lower=t_lower, T_upper=None, reason=reason, epsilon=epsilon, is_window=True
        )
    return LogConcaveTimes(
        T_lower=t_lower,
        T_upper=t_upper,
        reason=None,
        epsilon=epsilon,
        is_window=t_lower <= t_upper,
    )


def learned_score_bound(error: ArrayLike, weight: float, *, t: ArrayLike | None = None) -> Array:
    """How far the image under a learned score is from the image under the exact one.

    For the reverse SDE run from t to 0,
    ``TV(hat p^{S,t}, p^{S,t}) <= sqrt(1/(2 w(S)) int_0^t E_{p_u} |hat s - s|^2 du)``.

    Args:
        error: The integral, any shape; with ``t``, the mean squared errors
            ``E_{p_u} |hat s - s|^2`` at those times, shape ``(L,)``.
        weight: ``w(S)``, in (0, 1]: the error is measured under the whole p.
        t: Increasing OU times, shape ``(L,)``; the first should be near 0. The integral up to each
            of them is taken by the trapezoidal rule, the error being constant before the first.

    Returns:
        The bound, at most 1.

    Raises:
        InputError: If a number is out of range or shapes do not agree.

    Source:
        Girsanov's theorem and Pinsker's inequality; Chen et al. (2023), Thm 2; derived in
        docs/theory/windows_by_distance.md, eq. (12).
    """
    value = _nonnegative(error, "score error")
    if not 0.0 < weight <= 1.0:
        raise InputError("the weight of S is out of range", got=weight, wanted="in (0, 1]")
    if t is not None:
        times = _nonnegative(t, "time")
        if times.ndim != 1 or times.shape != value.shape or np.any(np.diff(times) <= 0):
            raise InputError("times must increase, one for each error", got=times.shape)
        steps = 0.5 * (value[1:] + value[:-1]) * np.diff(times)
        value = np.concatenate([[0.0], np.cumsum(steps)]) + value[0] * times[0]
    return np.minimum(np.sqrt(value / (2.0 * weight)), 1.0)


def check_epsilon(epsilon: float) -> float:
    """The tolerance, checked to be in (0, 1).

    Args:
        epsilon: Tolerance.

    Returns:
        The same as a float.

    Raises:
        InputError: If it is not a number in (0, 1).
    """
    try:
        value = float(epsilon)
    except (TypeError, ValueError) as error:
        raise InputError("epsilon is not a number", got=epsilon) from error
    if not 0.0 < value < 1.0:
        raise InputError("epsilon is out of range", got=epsilon, wanted="a number in (0, 1)")
    return value


def _nonnegative(value: ArrayLike, what: str) -> Array:
    array = np.asarray(value, dtype=np.float64)
    if not np.all(array >= 0):
        raise InputError(f"a {what} is negative or not a number", got=value)
    return array


def _leak_and_rest(value: ArrayLike, weight: float) -> tuple[Array, float]:
    array = _nonnegative(value, "probability")
    if np.any(array > 1.0 + 1e-12) or not 0.0 < weight < 1.0:
        raise InputError(
            "a probability or a weight is out of range", got=weight, wanted="numbers in (0, 1)"
        )
    return array, 1.0 - float(weight)
