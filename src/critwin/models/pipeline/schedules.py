"""The levels that a diffusers scheduler can start from, and copies of it that start there.

A level is the index of a step, never a ``strength``: the state before step ``i`` is
``signal[i] x_0 + noise[i] z``, as the scheduler's own ``add_noise`` (or ``scale_noise``) makes it,
whatever its frame. So the logsnr is read off that method, in float64, for every scheduler alike:
``2 ln(signal / noise)``. What a scheduler can do is found by trying it on single numbers.

Source: the schedulers of ``diffusers``; Karras et al. (2022), *Elucidating the design space*, for
the frame ``x_0 + sigma z``; Lin et al. (2024), *Common diffusion noise schedules and sample steps
are flawed*, for schedules that end without signal.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from critwin.errors import InputError
from critwin.levels import alpha_sigma, ou_time
from critwin.models.base import x_0_from_prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from critwin.models.base import Prediction

__all__ = ["GOOD", "PipelineSchedule", "can_start", "old_ways", "read_schedule", "signal_notes"]

_SAME_LEVEL = 1e-6
GOOD = "DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler, …"
_NO_SIGNAL, _PURE = 1e-6, 0.01


@dataclass(frozen=True, eq=False, kw_only=True)
class PipelineSchedule:
    """The steps of a scheduler, from noise to clean, and the levels before them.

    Attributes:
        scheduler: The scheduler with its time steps set; it is never stepped, only copied.
        timesteps: Time of every network call, shape ``(M,)``.
        signal: Factor of the clean sample before every call, shape ``(M,)``.
        noise: Factor of the standard normal before every call, shape ``(M,)``.
        starts: Calls before which a reversal can start, increasing, shape ``(n,)``: all of them,
            or every second one for samplers of second order.
        logsnr: Level at every start, increasing, shape ``(n,)``; ``-inf`` where nothing is left.
        initial: Standard deviation of the state of pure noise.
    """

    scheduler: Any
    timesteps: Tensor
    signal: NDArray[np.float64]
    noise: NDArray[np.float64]
    starts: NDArray[np.int64]
    logsnr: NDArray[np.float64]
    initial: float

    @property
    def levels(self) -> NDArray[np.float64]:
        """Finite levels that a sample can be noised to, decreasing, read-only."""
        result = self.logsnr[np.isfinite(self.logsnr)][::-1].copy()
        result.setflags(write=False)
        return result

    @property
    def num_calls(self) -> int:
        """Network calls of a whole reversal, without guidance."""
        return len(self.timesteps)

    def find(self, logsnr: float) -> int:
        """Call before which a state of this level stands.

        Args:
            logsnr: A level; ``inf`` is the end, after the last call.

        Returns:
            An index into ``timesteps``, or ``num_calls`` for ``inf``.

        Raises:
            InputError: If the schedule does not have the level.
        """
        if logsnr == np.inf:
            return self.num_calls
        if logsnr == -np.inf and self.logsnr[0] == -np.inf:
            return int(self.starts[0])
        with np.errstate(invalid="ignore"):
            distance = np.abs(self.logsnr - logsnr)
        nearest = int(np.nanargmin(np.where(np.isfinite(distance), distance, np.inf)))
        if not np.isfinite(logsnr) or distance[nearest] > _SAME_LEVEL:
            raise InputError(
                "the pipeline cannot start from this level",
                got=f"logsnr {logsnr:.6g}",
                wanted=f"one of the {len(self.levels)} levels of its scheduler, nearest "
                f"{self.logsnr[nearest]:.6g}",
                next_step="snap it first: critwin.levels.snap",
            )
        return int(self.starts[nearest])

    def level_of(self, call: int) -> float:
        """Level before a call, for second stages too.

        Args:
            call: Index into ``timesteps``.

        Returns:
            The logsnr.
        """
        return float(_logsnr(self.signal[call], self.noise[call]))

    def started(self, call: int) -> Any:
        """A fresh copy of the scheduler that stands before a call.

        Args:
            call: One of ``starts``.

        Returns:
            The scheduler.
        """
        fresh = copy.deepcopy(self.scheduler)
        if hasattr(fresh, "set_begin_index"):
            fresh.set_begin_index(int(call))
        return fresh

    def noised(self, clean: Tensor, z: Tensor, call: int) -> Tensor:
        """Noise samples with the scheduler's own method.

        Args:
            clean: Shape ``(N, ...)``.
            z: Standard normals, same shape.
            call: One of ``starts``.

        Returns:
            The state before that call, same shape.
        """
        return _noised(self.started(call), clean, z, self.timesteps[call])

    def reading(self, output: Tensor, x: Tensor, call: int, prediction: Prediction) -> Tensor:
        """Clean samples that an output of the network stands for.

        Args:
            output: The network's output, shape ``(N, C or 2 C, ...)``.
            x: State in the scheduler's frame, shape ``(N, C, ...)``.
            call: Index into the schedule.
            prediction: What the network predicts. Schedulers that dress a network's output
                themselves (EDM's) are asked instead.

        Returns:
            Shape ``(N, C, ...)``.
        """
        output = output[:, : x.shape[1]]
        signal, noise = float(self.signal[call]), float(self.noise[call])
        if hasattr(self.scheduler, "precondition_outputs"):
            sigma = torch.tensor(noise, dtype=x.dtype, device=x.device)
            return torch.as_tensor(self.scheduler.precondition_outputs(x, output, sigma))
        vp = x / float(np.hypot(signal, noise))
        return x_0_from_prediction(output, vp, self.level_of(call), prediction)


def read_schedule(scheduler: Any, arguments: Mapping[str, Any]) -> PipelineSchedule:
    """Set a scheduler's time steps and read its levels.

    Args:
        scheduler: A diffusers scheduler; it is copied.
        arguments: Arguments of its ``set_timesteps``.

    Returns:
        The schedule.

    Raises:
        InputError: If the scheduler cannot start from a level, or not with these arguments.
    """
    name = type(scheduler).__name__
    _check_methods(scheduler)
    _check_terminal(scheduler)
    fresh = copy.deepcopy(scheduler)
    try:
        with old_ways():
            fresh.set_timesteps(**arguments)
    except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        asked = ", ".join(key for key in arguments)
        raise InputError(
            f"{name} does not take these steps ({asked})",
            got=arguments.get("num_inference_steps", asked),
            next_step=str(error).splitlines()[0] if str(error) else None,
        ) from error
    timesteps = torch.as_tensor(fresh.timesteps).detach().cpu()
    signal, noise = _coefficients(fresh, timesteps)
    order = int(getattr(fresh, "order", 1))
    starts = np.arange(0, len(timesteps), order)
    logsnr = np.array([float(_logsnr(signal[i], noise[i])) for i in starts])
    if np.isnan(logsnr).any() or not np.all(logsnr[1:] > logsnr[:-1]):
        raise InputError(
            f"the levels of {name} do not fall from noise to clean",
            got=", ".join(f"{value:.4g}" for value in logsnr[:6]) + ", …",
            wanted="a scheduler that denoises",
            next_step=f"choose another one: {GOOD}",
        )
    return PipelineSchedule(
        scheduler=fresh,
        timesteps=timesteps,
        signal=signal,
        noise=noise,
        starts=starts,
        logsnr=logsnr,
        initial=float(getattr(fresh, "init_noise_sigma", 1.0)),
    )


def signal_notes(schedule: PipelineSchedule) -> list[str]:
    """What is left of the clean sample at the noisiest level, where it is more than 1 %.

    Args:
        schedule: The schedule.

    Returns:
        One line, or none. The scale is that of the scheduler's own noising, in the
        variance-preserving frame.
    """
    if not len(schedule.levels):
        return []
    level = float(schedule.levels[-1])
    alpha = float(alpha_sigma(level)[0])
    if alpha < _PURE:
        return []
    return [
        f"the noisiest level is not pure noise: alpha = {alpha:.3f} of the clean sample is left "
        f"there (t = {float(ou_time(level)):.2f}), and what is decided in more noise is not seen"
    ]


def can_start(scheduler: Any) -> bool:
    """Whether a scheduler can noise a sample and start from a level between.

    Args:
        scheduler: The scheduler.

    Returns:
        Whether it has the methods that it takes.
    """
    try:
        _check_methods(scheduler)
    except InputError:
        return False
    return True


@contextmanager
def old_ways() -> Iterator[None]:
    """No warnings of NumPy about how schedulers of diffusers use it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _check_methods(scheduler: Any) -> None:
    name = type(scheduler).__name__
    if not any(callable(getattr(scheduler, m, None)) for m in ("add_noise", "scale_noise")):
        raise InputError(
            f"{name} cannot noise a sample: it has neither add_noise nor scale_noise",
            wanted=GOOD,
            next_step="set `scheduler` to one of these",
        )
    missing = [m for m in ("set_timesteps", "step") if not callable(getattr(scheduler, m, None))]
    # without an index to begin at, a scheduler must find its place by the time alone
    is_stateless = not hasattr(scheduler, "sigmas") and not hasattr(scheduler, "counter")
    if missing or not (hasattr(scheduler, "set_begin_index") or is_stateless):
        raise InputError(
            f"{name} cannot start from a level between",
            got=f"no {missing[0]}" if missing else "no set_begin_index",
            wanted=GOOD,
            next_step="set `scheduler` to one of these",
        )


def _check_terminal(scheduler: Any) -> None:
    """Noise cannot be told apart from no signal: eps-prediction needs some."""
    alpha_bar = getattr(scheduler, "alphas_cumprod", None)
    config = scheduler.config
    found = getattr(scheduler, "betas", None)
    betas = torch.as_tensor([] if found is None else found, dtype=torch.float64)
    if not bool(((betas >= 0) & (betas <= 1)).all()):
        raise InputError(
            "the noise schedule is none: a step cannot add more noise than all",
            got=f"betas up to {float(betas.max()):g}",
            wanted="betas from 0 to 1",
            next_step="look at beta_end in scheduler/scheduler_config.json",
        )
    is_eps = config.get("prediction_type", "") == "epsilon"
    if alpha_bar is None or not is_eps:
        return
    last = float(torch.as_tensor(alpha_bar)[-1])
    if last < _NO_SIGNAL or config.get("rescale_betas_zero_snr", False):
        raise InputError(
            "a network that predicts the noise cannot start where there is no signal",
            got="prediction_type epsilon with zero terminal SNR (rescale_betas_zero_snr)",
            wanted="prediction_type v_prediction, or rescale_betas_zero_snr = false",
            next_step="look at scheduler/scheduler_config.json",
        )


def _noised(scheduler: Any, clean: Tensor, z: Tensor, t: Tensor) -> Tensor:
    times = t.reshape(1).expand(len(clean)).to(clean.device)
    if hasattr(scheduler, "scale_noise") and not hasattr(scheduler, "add_noise"):
        return torch.as_tensor(scheduler.scale_noise(clean, times, z))
    return torch.as_tensor(scheduler.add_noise(clean, z, times))


def _coefficients(
    scheduler: Any, timesteps: Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factors of the clean sample and of the noise before every call, in float64."""
    pair = torch.eye(2, dtype=torch.float64)
    rows = []
    has_index = hasattr(scheduler, "set_begin_index")
    try:
        for index, t in enumerate(timesteps):
            probe = copy.copy(scheduler)  # some remember the step that they noise to
            if has_index:
                probe.set_begin_index(index)
            rows.append(_noised(probe, pair[0], pair[1], t).to(torch.float64))
    except Exception as error:
        raise InputError(
            f"{type(scheduler).__name__} cannot noise a sample to a step of its own",
            got=f"{type(error).__name__}: {error}",
            next_step=f"choose another one: {GOOD}",
        ) from error
    table = torch.stack(rows).numpy()
    return table[:, 0].copy(), table[:, 1].copy()


def _logsnr(signal: float, noise: float) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(2.0 * (np.log(np.float64(signal)) - np.log(np.float64(noise))))
