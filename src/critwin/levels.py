r"""The one noise axis: conversions among logsnr, OU time, sigma, alpha_bar and flow time.

Every Gaussian noising ``x = alpha x_0 + sigma z`` is, up to a rescaling of x, the same experiment
at the same signal-to-noise ratio ``snr = alpha^2 / sigma^2``. The stored coordinate is
``logsnr = ln snr``; the others are functions of it:

============  ================================================  =============================
unit          definition                                        used by
============  ================================================  =============================
``logsnr``    ``ln(alpha^2 / sigma^2)``                         the coordinate kept everywhere
``t``         ``1/2 ln(1 + 1/snr)``, Ornstein–Uhlenbeck time    theory, plots
``sigma``     ``1 / sqrt(snr)``                                 VE, EDM, k-diffusion
``alpha_bar`` ``snr / (1 + snr)``                               VP, DDPM, DDIM
``flow``      ``s`` with ``x = (1 - s) x_0 + s z``              flow matching, rectified flow
============  ================================================  =============================

All conversions are accurate to a few units in the last place of float64 over logsnr ±80 (a logsnr
near 0 that comes from an OU time: to a few 1e-16 absolutely). What float64 cannot hold is gone
before: near ``alpha_bar = 1`` (logsnr >> 0) and near ``flow = 1`` (logsnr << 0) the distance to 1
is a multiple of 1.1e-16, so logsnr comes back with a relative error of 1e-16 over that distance,
and beyond logsnr 37 (``alpha_bar``) or -74 (``flow``) the value rounds to 1, which is refused.
OU time and sigma have no such end.

Source: Kingma et al. (2021), *Variational diffusion models*, sec. 3; Li & Chen (2024), sec. 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from scipy.special import expit, logit

from critwin.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "LIMIT",
    "UNITS",
    "Unit",
    "alpha_sigma",
    "from_logsnr",
    "grid",
    "logsnr_of_ou_time",
    "ou_time",
    "scheduler_logsnr",
    "snap",
    "to_logsnr",
]

Unit = Literal["logsnr", "t", "sigma", "alpha_bar", "flow"]
UNITS: tuple[str, ...] = get_args(Unit)

LIMIT = 80.0
"""Largest absolute logsnr that is read: beyond it nothing is signal, or nothing noise."""

_RANGES = {
    "logsnr": "finite numbers",
    "t": "positive OU times",
    "sigma": "positive sigmas",
    "alpha_bar": "numbers strictly between 0 and 1",
    "flow": "numbers strictly between 0 and 1",
}


def ou_time(logsnr: ArrayLike) -> NDArray[np.float64]:
    """Ornstein–Uhlenbeck time ``t = 1/2 ln(1 + 1/snr)`` of a logsnr, any shape."""
    return np.asarray(0.5 * np.logaddexp(0.0, -np.asarray(logsnr, dtype=np.float64)))


def logsnr_of_ou_time(t: ArrayLike) -> NDArray[np.float64]:
    """Inverse of :func:`ou_time`: ``-ln(e^{2t} - 1)``; ``+inf`` at ``t = 0``.

    Args:
        t: OU times, any shape; NaN stays NaN.

    Returns:
        The logsnr, same shape, float64.

    Raises:
        InputError: If a time is negative.
    """
    double = 2.0 * np.asarray(t, dtype=np.float64)
    if np.any(double < 0):
        raise InputError("a negative OU time", got=float(double[double < 0].flat[0]) / 2)
    with np.errstate(divide="ignore", over="ignore"):
        # e^{2t} - 1 loses digits for small t, its logarithm overflows for large t
        small = -np.log(np.expm1(np.minimum(double, 1.0)))
        large = -double - np.log1p(-np.exp(-np.maximum(double, 1.0)))
    return np.asarray(np.where(double <= 1.0, small, large))


def alpha_sigma(logsnr: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance-preserving signal scale and noise standard deviation at a logsnr.

    Args:
        logsnr: Levels, any shape.

    Returns:
        ``(alpha, sigma)``, each of the same shape, with ``alpha^2 + sigma^2 = 1``.
    """
    value = np.asarray(logsnr, dtype=np.float64)
    return np.sqrt(expit(value)), np.sqrt(expit(-value))


def to_logsnr(value: ArrayLike, unit: Unit | str) -> NDArray[np.float64]:
    """Convert levels in ``unit`` to logsnr.

    Args:
        value: Levels, any shape.
        unit: One of :data:`UNITS`.

    Returns:
        The logsnr, same shape, float64.

    Raises:
        InputError: If the unit is unknown or a level is outside its open range or beyond
            ``logsnr = ±80``.
    """
    array = np.asarray(value, dtype=np.float64)
    _check_unit(unit)
    is_inside = np.isfinite(array)
    if unit in ("t", "sigma"):
        is_inside &= array > 0
    elif unit in ("alpha_bar", "flow"):
        is_inside &= (array > 0) & (array < 1)
    if not np.all(is_inside):
        bad = array[~is_inside].reshape(-1)[0]
        raise InputError(f"level out of range for unit {unit!r}", got=bad, wanted=_RANGES[unit])
    if unit == "t":
        logsnr = logsnr_of_ou_time(array)
    elif unit == "sigma":
        logsnr = -2.0 * np.log(array)
    elif unit == "alpha_bar":
        logsnr = np.asarray(logit(array))
    elif unit == "flow":
        logsnr = np.asarray(-2.0 * logit(array))
    else:
        logsnr = array.copy()
    if np.any(is_far := np.abs(logsnr) > LIMIT * (1 + 1e-12)):
        raise InputError(
            f"level out of range for unit {unit!r}",
            got=f"{array[is_far].reshape(-1)[0]:g}, logsnr {logsnr[is_far].reshape(-1)[0]:.4g}",
            wanted=f"a logsnr from -{LIMIT:g} to {LIMIT:g} (t from 1e-35 to 40)",
        )
    return logsnr


def from_logsnr(logsnr: ArrayLike, unit: Unit | str) -> NDArray[np.float64]:
    """Convert logsnr to levels in ``unit``.

    Args:
        logsnr: Levels, any shape.
        unit: One of :data:`UNITS`.

    Returns:
        The levels, same shape, float64.

    Raises:
        InputError: If the unit is unknown.
    """
    array = np.asarray(logsnr, dtype=np.float64)
    _check_unit(unit)
    if unit == "t":
        return ou_time(array)
    if unit == "sigma":
        return np.exp(-0.5 * array)
    if unit == "alpha_bar":
        return np.asarray(expit(array))
    if unit == "flow":
        return np.asarray(expit(-0.5 * array))
    return array.copy()


def grid(start: float, stop: float, count: int, *, unit: Unit | str = "t") -> NDArray[np.float64]:
    """Levels uniform in ``unit`` between two ends, as decreasing logsnr (noise grows).

    Args:
        start: One end, in ``unit``.
        stop: The other end, in ``unit``; the order of the ends does not matter.
        count: Number of levels, at least 2.
        unit: One of :data:`UNITS`.

    Returns:
        Shape ``(count,)``, strictly decreasing logsnr.

    Raises:
        InputError: If the ends coincide or are out of range, or fewer than 2 levels are asked, or
            so many that neighbours round to the same logsnr.
    """
    if count < 2:
        raise InputError("too few levels for a grid", got=count, wanted="at least 2")
    if start == stop:
        raise InputError("both ends of the grid coincide", got=start, wanted="two levels")
    to_logsnr([start, stop], unit)
    levels = to_logsnr(np.linspace(min(start, stop), max(start, stop), count), unit)
    levels = levels if levels[0] > levels[-1] else levels[::-1].copy()
    if np.any(np.diff(levels) >= 0):
        raise InputError(
            "neighbouring levels of the grid coincide",
            got=f"{count} levels from {start:g} to {stop:g}",
            wanted="fewer levels, or a wider range",
        )
    return levels


def scheduler_logsnr(scheduler: Any) -> NDArray[np.float64]:
    """The logsnr of every training step of a diffusers scheduler, noise growing.

    Args:
        scheduler: An object with ``alphas_cumprod`` (VP), or a flow-matching one.

    Returns:
        Shape ``(num_train_timesteps,)``, decreasing; step index i is entry i. A last step of
        zero signal (zero terminal SNR) has logsnr ``-inf``. A flow-matching scheduler whose
        shift depends on the resolution is read without that shift.

    Raises:
        InputError: If the scheduler shows no noise levels.
    """
    config = getattr(scheduler, "config", None)
    alpha_bar = getattr(scheduler, "alphas_cumprod", None)
    if getattr(config, "use_flow_sigmas", False):
        return _flow_steps(config, float(getattr(config, "flow_shift", 1.0) or 1.0))
    if alpha_bar is not None:
        betas = getattr(scheduler, "betas", None)
        with np.errstate(divide="ignore"):
            if betas is None:
                return np.asarray(logit(np.asarray(alpha_bar, dtype=np.float64)))
            # in float64 from the betas: 1 - alpha_bar in float32 is wrong in the fourth digit,
            # and some schedulers write a small number over a last alpha_bar of 0
            log_alpha_bar = np.cumsum(np.log1p(-np.asarray(betas, dtype=np.float64)))
            return np.asarray(log_alpha_bar - np.log(-np.expm1(log_alpha_bar)))
    if hasattr(scheduler, "scale_noise") and config is not None:
        is_dynamic = bool(getattr(config, "use_dynamic_shifting", False))
        return _flow_steps(config, 1.0 if is_dynamic else float(config.shift or 1.0))
    raise InputError(
        "the scheduler shows no noise levels",
        got=type(scheduler).__name__,
        wanted="a scheduler with alphas_cumprod, or a flow-matching one",
    )


def snap(requested: float, available: NDArray[np.float64]) -> tuple[int, float]:
    """Nearest level a model can start from.

    Args:
        requested: Requested logsnr.
        available: Levels the model has, logsnr, shape ``(M,)``.

    Returns:
        The index into ``available`` and the effective logsnr.

    Raises:
        InputError: If the request is not finite or there is no finite level.
    """
    levels = np.asarray(available, dtype=np.float64)
    if not np.isfinite(requested):
        raise InputError("a level must be finite", got=requested, wanted="a finite logsnr")
    if not np.any(np.isfinite(levels)):
        raise InputError("there is no level to start from", got=f"{levels.size} levels")
    index = int(np.nanargmin(np.abs(levels - requested)))
    return index, float(levels[index])


def _flow_steps(config: Any, shift: float) -> NDArray[np.float64]:
    count = int(config.num_train_timesteps)
    flow = np.arange(1, count + 1, dtype=np.float64) / count
    flow = shift * flow / (1.0 + (shift - 1.0) * flow)
    with np.errstate(divide="ignore"):
        return np.asarray(-2.0 * logit(flow))


def _check_unit(unit: str) -> None:
    if unit not in UNITS:
        raise InputError("unknown unit of noise", got=unit, wanted="one of " + ", ".join(UNITS))
