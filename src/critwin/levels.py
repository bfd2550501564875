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

All conversions are accurate to a few units in the last place of float64 over logsnr ±80. An
``alpha_bar`` close to 1 (or a ``flow`` close to 1) cannot carry more digits than float64 has:
the value is converted exactly, but the digits that were rounded away before are gone.

Source: Kingma et al. (2021), *Variational diffusion models*, sec. 3; Li & Chen (2024), sec. 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from scipy.special import expit

from critwin.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
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
    """Inverse of :func:`ou_time`: ``-ln(e^{2t} - 1)``, any shape; ``+inf`` at ``t = 0``."""
    double = 2.0 * np.asarray(t, dtype=np.float64)
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
        InputError: If the unit is unknown or a level is outside its open range.
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
        return logsnr_of_ou_time(array)
    if unit == "sigma":
        return -2.0 * np.log(array)
    if unit == "alpha_bar":
        return np.log(array) - np.log1p(-array)
    if unit == "flow":
        return 2.0 * (np.log1p(-array) - np.log(array))
    return array.copy()


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
        InputError: If the ends coincide or are out of range, or fewer than 2 levels are asked.
    """
    if count < 2:
        raise InputError("too few levels for a grid", got=count, wanted="at least 2")
    if start == stop:
        raise InputError("both ends of the grid coincide", got=start, wanted="two levels")
    levels = to_logsnr(np.linspace(start, stop, count), unit)
    return levels if levels[0] > levels[-1] else levels[::-1].copy()


def scheduler_logsnr(scheduler: Any) -> NDArray[np.float64]:
    """The logsnr of every training step of a diffusers scheduler, noise growing.

    Args:
        scheduler: An object with ``alphas_cumprod`` (VP) or flow-matching ``sigmas``.

    Returns:
        Shape ``(num_train_timesteps,)``, decreasing; step index i is entry i. A last step of
        zero signal (zero terminal SNR) has logsnr ``-inf``.

    Raises:
        InputError: If the scheduler shows neither.
    """
    alpha_bar = getattr(scheduler, "alphas_cumprod", None)
    if alpha_bar is not None:
        # in float64 from the betas: 1 - alpha_bar in float32 would be wrong in the fourth digit
        betas = getattr(scheduler, "betas", None)
        if betas is not None and not getattr(scheduler.config, "rescale_betas_zero_snr", False):
            log_alpha_bar: NDArray[np.float64] = np.cumsum(
                np.log1p(-np.asarray(betas, dtype=np.float64))
            )
            return log_alpha_bar - np.log(-np.expm1(log_alpha_bar))
        array = np.asarray(alpha_bar, dtype=np.float64)
        with np.errstate(divide="ignore"):
            return np.log(array) - np.log1p(-array)
    config = getattr(scheduler, "config", None)
    if hasattr(scheduler, "scale_noise") and config is not None:
        count = int(config.num_train_timesteps)
        shift = float(getattr(config, "shift", 1.0) or 1.0)
        flow = np.arange(1, count + 1, dtype=np.float64) / count
        flow = shift * flow / (1.0 + (shift - 1.0) * flow)
        with np.errstate(divide="ignore"):
            return 2.0 * (np.log1p(-flow) - np.log(flow))
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
    """
    index = int(np.argmin(np.abs(np.asarray(available) - requested)))
    return index, float(available[index])


def _check_unit(unit: str) -> None:
    if unit not in UNITS:
        raise InputError("unknown unit of noise", got=unit, wanted="one of " + ", ".join(UNITS))
