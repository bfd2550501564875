r"""Samplers that turn a denoiser ``x_t -> E[x_0 | x_t]`` into clean samples, step by step.

Between two levels, with ``h`` half the gain in logsnr and the denoised sample ``D`` held fixed,
the reverse SDE and the probability-flow ODE are solved exactly:

- stochastic: ``x_r = sigma_r/sigma_s e^{-h} x_s + alpha_r (1 - e^{-2h}) D
  + sigma_r sqrt(1 - e^{-2h}) z``: the posterior draw of ``x_r`` given ``x_s`` and ``x_0 = D``
  (DDPM's step, DDIM with eta = 1);
- deterministic: ``x_r = sigma_r/sigma_s x_s + alpha_r (1 - e^{-h}) D`` (DDIM).

Order 1 takes D where the step starts; order 2 extrapolates it to the middle of the step from the
step before (multistep, no further network calls). The last level is left by ``x_0 = D``, which
draws nothing: what remains is a bias of the order of its noise variance.

Source: Song et al. (2021), *Denoising diffusion implicit models*; Lu et al. (2022),
*DPM-Solver++*, eqs. (9), (14), (18) and the algorithm 2M.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from critwin.errors import InputError
from critwin.levels import UNITS, alpha_sigma, from_logsnr, to_logsnr

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

__all__ = [
    "SPACINGS",
    "Schedule",
    "Step",
    "advance",
    "level_path",
    "sample_deterministic",
    "sample_stochastic",
    "step_coefficients",
]

SPACINGS: tuple[str, ...] = (*UNITS, "karras")
_RHO = 7.0
_SAME_LEVEL = 1e-6


class Step(NamedTuple):
    """Coefficients of one step, ``x_r = x * x_s + denoised * D + noise * z``."""

    x: float
    denoised: float
    noise: float


def step_coefficients(start: float, stop: float, *, is_stochastic: bool) -> Step:
    """Coefficients of the exact step between two levels, the denoised sample held fixed.

    Args:
        start: Level that is left, logsnr.
        stop: Level that is reached, a larger logsnr.
        is_stochastic: Whether the reverse SDE is solved, or else the ODE.

    Returns:
        The coefficients; ``noise`` is 0 for the ODE.

    Raises:
        InputError: If the level does not rise.

    Source:
        Lu et al. (2022), *DPM-Solver++*, eqs. (9) and (18).
    """
    if not start < stop:
        raise InputError("levels of a path must rise", got=f"{start:g} to {stop:g}")
    h = 0.5 * (stop - start)
    _, sigma_s = (float(v) for v in alpha_sigma(start))
    alpha_r, sigma_r = (float(v) for v in alpha_sigma(stop))
    ratio = sigma_r / sigma_s
    if not is_stochastic:
        return Step(ratio, -alpha_r * math.expm1(-h), 0.0)
    gain = -math.expm1(-2 * h)
    return Step(ratio * math.exp(-h), alpha_r * gain, sigma_r * math.sqrt(gain))


def level_path(
    start: float,
    end: float,
    steps: int,
    *,
    spacing: str = "logsnr",
    available: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Levels at which the denoiser is called, from noisy to clean.

    Args:
        start: First level, logsnr.
        end: Last level; at least ``start`` (a larger logsnr).
        steps: Number of levels, at least 1; with 1, or if both ends coincide, ``start`` alone.
        spacing: Unit in which the levels are uniform, or ``"karras"``: uniform in
            ``sigma^(1/7)``.
        available: Levels that the denoiser has, logsnr, any order: the path then takes distinct
            ones nearest to the uniform ones, as many as there are. ``start`` must be one.

    Returns:
        Strictly increasing logsnr, shape ``(at most steps,)``, starting with ``start`` and (if
        there is more than one) ending with ``end``.

    Raises:
        InputError: If the number of steps, the spacing or an end cannot be used.

    Source:
        Karras et al. (2022), *Elucidating the design space*, eq. (5).
    """
    if steps < 1:
        raise InputError("too few steps", got=steps, wanted="at least 1")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise InputError("the ends of a path must be finite", got=f"{start:g} and {end:g}")
    if available is not None:
        return _snapped_path(start, end, steps, spacing, np.asarray(available, dtype=np.float64))
    if steps == 1 or end <= start:
        return np.array([float(start)])
    low, high = _coordinate(np.array([start, end]), spacing)
    path = _from_coordinate(np.linspace(low, high, steps), spacing)
    path[0], path[-1] = start, end
    return path


def sample_stochastic(
    denoise: Callable[[Tensor, float], Tensor],
    x: Tensor,
    path: ArrayLike,
    draw: Callable[[], Tensor],
    *,
    order: Literal[1, 2] = 2,
) -> Tensor:
    """Run the reverse SDE down a path of levels, then return the denoised sample.

    Args:
        denoise: ``(x_t, logsnr) -> x_0``, the posterior mean, in the variance-preserving frame.
        x: Noisy samples at ``path[0]``, shape ``(N, *shape)``.
        path: Increasing logsnr, shape ``(n,)``; the denoiser is called once at each.
        draw: Gives fresh standard normals of the shape, dtype and device of ``x``; called
            ``n - 1`` times.
        order: 1 (ancestral), or 2 (multistep).

    Returns:
        Clean samples, shape ``(N, *shape)``.

    Raises:
        InputError: If the path does not rise or the order is unknown.

    Source:
        Lu et al. (2022), *DPM-Solver++*, sec. 4.3 (SDE-DPM-Solver++(2M)).
    """
    levels = np.asarray(path, dtype=np.float64)
    return denoise(advance(denoise, x, levels, draw, order=order), float(levels[-1]))


def sample_deterministic(
    denoise: Callable[[Tensor, float], Tensor],
    x: Tensor,
    path: ArrayLike,
    *,
    order: Literal[1, 2] = 2,
) -> Tensor:
    """Run the probability-flow ODE down a path of levels, then return the denoised sample.

    Args:
        denoise: ``(x_t, logsnr) -> x_0``, the posterior mean, in the variance-preserving frame.
        x: Noisy samples at ``path[0]``, shape ``(N, *shape)``.
        path: Increasing logsnr, shape ``(n,)``; the denoiser is called once at each.
        order: 1 (DDIM), or 2 (multistep).

    Returns:
        Clean samples, shape ``(N, *shape)``.

    Raises:
        InputError: If the path does not rise or the order is unknown.

    Source:
        Song et al. (2021), DDIM; Lu et al. (2022), *DPM-Solver++*, algorithm 2M.
    """
    levels = np.asarray(path, dtype=np.float64)
    return denoise(advance(denoise, x, levels, None, order=order), float(levels[-1]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """The levels that a model's sampler visits, whatever level it starts from.

    A number of steps always means the *whole* schedule, from ``start`` to ``end``: a reversal
    from a level between takes its share, so that the size of a step, hence the error of the
    sampler, does not depend on the level.

    Attributes:
        start: Level of pure noise, from which samples are generated.
        end: Last level at which the denoiser is called.
        steps: Number of steps of the whole schedule unless told otherwise.
        spacing: As :func:`level_path`.
        available: The model's own levels, decreasing logsnr, finite, or None: any.
    """

    start: float
    end: float
    steps: int
    spacing: str = "logsnr"
    available: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Check that there is a way from noise to clean."""
        if self.spacing not in SPACINGS:
            raise InputError("unknown spacing", got=self.spacing, wanted=", ".join(SPACINGS))
        if not self.start < self.end:
            raise InputError(
                "a schedule must run from noise to clean",
                got=f"logsnr {self.start:g} to {self.end:g}",
            )
        if self.steps < 1:
            raise InputError("too few steps", got=self.steps, wanted="at least 1")

    def path(self, logsnr: float | None = None, steps: int | None = None) -> NDArray[np.float64]:
        """Levels of one reversal.

        Args:
            logsnr: Level it starts from; pure noise unless given.
            steps: Number of steps of the whole schedule.

        Returns:
            Increasing logsnr, starting exactly at ``logsnr``.

        Raises:
            InputError: If the model cannot start from that level.
        """
        start = self.start if logsnr is None else self.check(logsnr)
        whole = self.steps if steps is None else steps
        if whole < 1:
            raise InputError("too few steps", got=whole, wanted="at least 1")
        top, here, bottom = _coordinate(
            np.array([self.start, start, max(self.end, start)]), self.spacing
        )
        share = (here - bottom) / (top - bottom) if top != bottom else 0.0
        # the ends are both levels: n steps are n - 1 intervals
        count = 1 + math.ceil(max(0.0, (whole - 1) * share - 1e-9))
        return level_path(start, self.end, count, spacing=self.spacing, available=self.available)

    def between(self, logsnr: float, stop: float, steps: int | None = None) -> NDArray[np.float64]:
        """Levels of a segment of a reversal, which stops on its way.

        Args:
            logsnr: Level it starts from.
            stop: Level it stops at, a larger logsnr.
            steps: Number of steps of the whole schedule.

        Returns:
            Those levels of the reversal from ``logsnr`` that are noisier than ``stop``, then
            ``stop``: increasing logsnr, at least two.

        Raises:
            InputError: If a level is not available, or ``stop`` is not cleaner.
        """
        end = self.check(stop)
        path = self.path(logsnr, steps)
        if not path[0] < end:
            raise InputError(
                "a reversal must stop at a cleaner level",
                got=f"logsnr {logsnr:.6g} to {stop:.6g}",
            )
        return np.append(path[path < end - _SAME_LEVEL], end)

    def check(self, logsnr: float) -> float:
        """The level itself, if the model can start from it.

        Args:
            logsnr: A level.

        Returns:
            The available level it is equal to, or the level where any is available.

        Raises:
            InputError: If it is not available.
        """
        if not math.isfinite(logsnr):
            raise InputError("a level must be finite", got=logsnr)
        if self.available is None:
            return float(logsnr)
        nearest = float(self.available[np.argmin(np.abs(self.available - logsnr))])
        if abs(nearest - logsnr) > _SAME_LEVEL:
            raise InputError(
                "the model cannot start from this level",
                got=f"logsnr {logsnr:.6g}",
                wanted=f"one of its {len(self.available)} levels, nearest {nearest:.6g}",
                next_step="snap it first: critwin.levels.snap",
            )
        return nearest


def advance(
    denoise: Callable[[Tensor, float], Tensor],
    x: Tensor,
    path: ArrayLike,
    draw: Callable[[], Tensor] | None,
    *,
    order: Literal[1, 2] = 2,
) -> Tensor:
    """Run the reverse SDE or the ODE down a path of levels and return the noisy state at its end.

    A multistep sampler starts every call with a step of first order: it knows nothing of the
    steps of an earlier call.

    Args:
        denoise: ``(x_t, logsnr) -> x_0``, the posterior mean, in the variance-preserving frame.
        x: Noisy samples at ``path[0]``, shape ``(N, *shape)``.
        path: Increasing logsnr, shape ``(n,)``; the denoiser is called at all but the last.
        draw: Gives fresh standard normals of the shape, dtype and device of ``x``, ``n - 1``
            times; None: the ODE.
        order: 1 (ancestral, DDIM), or 2 (multistep).

    Returns:
        Samples at ``path[-1]``, shape ``(N, *shape)``.

    Raises:
        InputError: If the path does not rise or the order is unknown.

    Source:
        Lu et al. (2022), *DPM-Solver++*, sec. 4.3 and algorithm 2M.
    """
    if order not in (1, 2):
        raise InputError("unknown order of the sampler", got=order, wanted="1 or 2")
    levels = [float(level) for level in np.asarray(path, dtype=np.float64)]
    previous: Tensor | None = None
    for index, level in enumerate(levels[:-1]):
        step = step_coefficients(level, levels[index + 1], is_stochastic=draw is not None)
        denoised = denoise(x, level)
        target = denoised
        if order == 2 and previous is not None:
            ratio = (levels[index + 1] - level) / (level - levels[index - 1])
            target = denoised + 0.5 * ratio * (denoised - previous)
        x = step.x * x + step.denoised * target
        if draw is not None:
            x = x + step.noise * draw()
        previous = denoised
    return x


def _snapped_path(
    start: float, end: float, steps: int, spacing: str, available: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distinct available levels nearest to the uniform ones; both ends are kept."""
    order = np.sort(available[np.isfinite(available)])
    first = int(np.argmin(np.abs(order - start)))
    if len(order) == 0 or abs(order[first] - start) > _SAME_LEVEL:
        raise InputError("the path must start at an available level", got=f"logsnr {start:.6g}")
    last = max(first, int(np.argmin(np.abs(order - end))))
    count = min(steps, last - first + 1)
    if count == 1:
        return order[first : first + 1]
    wanted = level_path(order[first], order[last], count, spacing=spacing)
    index = np.abs(order - wanted[:, None]).argmin(axis=1)
    index[0], index[-1] = first, last
    rank = np.arange(count)
    index = np.maximum.accumulate(index - rank) + rank  # distinct, pushed towards clean …
    return np.asarray(order[np.minimum(index, last - (count - 1 - rank))])  # … and back


def _coordinate(logsnr: NDArray[np.float64], spacing: str) -> NDArray[np.float64]:
    if spacing not in SPACINGS:
        raise InputError("unknown spacing", got=spacing, wanted=", ".join(SPACINGS))
    if spacing == "karras":
        return np.asarray(np.exp(-0.5 * logsnr / _RHO))
    return from_logsnr(logsnr, spacing)


def _from_coordinate(value: NDArray[np.float64], spacing: str) -> NDArray[np.float64]:
    if spacing == "karras":
        return np.asarray(-2.0 * _RHO * np.log(value))
    return to_logsnr(value, spacing)
