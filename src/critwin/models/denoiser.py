"""Any denoiser as a model: a function of noisy samples and a level becomes something to measure.

::

    model = Denoiser(network, prediction="eps", shape=(3, 32, 32), levels=scheduler, time="step")

The function sees its own conventions (frame, time, prediction); everything outside works in the
variance-preserving frame at a logsnr.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from critwin.errors import InputError
from critwin.levels import UNITS, alpha_sigma
from critwin.models._calling import Backend, Calling, Frame
from critwin.models._wrapping import (
    all_levels,
    choice,
    condition_names,
    digest_of,
    end_of,
    first_parameter,
    function_digest,
    function_name,
    session_function,
    shape_of,
    usable_levels,
)
from critwin.models.base import Prediction
from critwin.models.guidance import interval_of, is_guided, num_predictions
from critwin.models.samplers import Schedule, advance
from critwin.streams import Draws

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from critwin.streams import UnitStreams

__all__ = ["Backend", "Denoiser", "Frame"]

_REVERSALS = ("stochastic", "ode")
_ONE_STEP = ("one_step",)
_END = 12.0
_START = -10.0


class Denoiser:
    """A model made of a function that predicts the clean sample, the noise, v or the velocity.

    The function is called as ``function(x, level)``, or ``function(x, level, condition)`` if the
    model takes conditions, with a batch of noisy samples, the level of each row, shape ``(N,)``,
    and returns its prediction, of the shape of ``x``. Every call has the full batch.

    Attributes:
        name: Name of the model.
        sample_shape: Shape of one clean sample.
        levels: Finite levels it can start from, decreasing logsnr, or None: any.
        conditions: Names of its conditions; ``()`` if it takes none, None if it takes any text.
        reversals: ``("stochastic", "ode")``, or ``("one_step",)`` where the function predicts a
            sample.
        schedule: Levels that the sampler visits.
        fingerprint: Digest of the options and, for a ``torch.nn.Module``, of its weights. A plain
            function is known by its qualified name only: give a ``fingerprint`` that changes when
            its numbers do.

    Args:
        function: The denoiser: a ``torch.nn.Module``, any callable, or an ONNX Runtime session
            (its inputs are fed in order).
        prediction: What it predicts: ``"x_0"``, ``"eps"``, ``"v"`` or ``"velocity"``; or
            ``"sample"``: its output is already a sample (a consistency model, a one-step
            generator), so that one call is a whole reversal. Such a model has windows of its own:
            it is no denoiser, and no sampler may be run on it.
        shape: Shape of one sample.
        levels: Levels that the function was trained at: logsnr in the order of its step indices,
            or a diffusers scheduler; None: any level. Levels that are not finite (a last step
            without signal) keep their index but are never used.
        frame: Scale of ``x`` that the function expects: ``"vp"`` (``alpha^2 + sigma^2 = 1``),
            ``"ve"`` (``x_0 + sigma z``) or ``"flow"`` (``(1 - s) x_0 + s z``).
        time: What it takes as level: ``"logsnr"``, ``"t"`` (OU time), ``"sigma"``,
            ``"alpha_bar"``, ``"flow"``, ``"step"`` (index into ``levels``, int64), or a function
            of the logsnr.
        conditions: Names of the conditions, if any.
        encode: Turns a list of conditions (names or None) into what the function gets as third
            argument; by default int64 indices into ``conditions``, with ``len(conditions)`` for
            None. With ``encode`` and no ``conditions`` any text is accepted.
        guidance: Guidance scale unless told otherwise; None or 1: none. Guidance
            ``x_0 = none + g (condition - none)`` calls the function twice.
        guidance_interval: ``[t_low, t_high]``, OU times between which guidance applies; None:
            everywhere.
        backend: ``"torch"``, or ``"numpy"``: the function gets and returns NumPy arrays, x in
            float32. By default ``"numpy"`` for an ONNX Runtime session, else ``"torch"``.
        decode: Clean samples to images in [0, 1] or points; by default ``x / 2 + 1/2``, clipped,
            for images, and the points themselves for points.
        steps: Number of steps of the whole schedule, from pure noise to ``end``.
        start: Level of pure noise; by default the noisiest of ``levels``, or -10.
        end: Last level at which the function is called; by default the cleanest of ``levels``,
            or 12.
        spacing: Spacing of the steps, see :func:`critwin.models.samplers.level_path`.
        order: Order of the samplers, 1 or 2.
        name: Name of the model.
        fingerprint: Digest of what the function computes, if the weights do not tell.
        dtype: Type of ``x`` that the function gets; by default its parameters', or float32.
        device: Device of ``x``; by default its parameters', or the CPU.

    Raises:
        InputError: If an option cannot be used.

    Source:
        Ho & Salimans (2022), *Classifier-free diffusion guidance*, eq. (6).
    """

    reversals: tuple[str, ...] = _REVERSALS

    def __init__(
        self,
        function: Callable[..., Any] | Any,
        *,
        prediction: Prediction = "x_0",
        shape: Sequence[int],
        levels: Any = None,
        frame: Frame = "vp",
        time: str | Callable[[float], float] = "logsnr",
        conditions: Sequence[str] | None = None,
        encode: Callable[[Sequence[str | None]], Any] | None = None,
        guidance: float | None = None,
        guidance_interval: Sequence[float] | None = None,
        backend: Backend | None = None,
        decode: Callable[[Tensor], Any] | None = None,
        steps: int = 50,
        start: float | None = None,
        end: float | None = None,
        spacing: str = "karras",
        order: Literal[1, 2] = 2,
        name: str = "denoiser",
        fingerprint: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        is_session = hasattr(function, "get_inputs") and hasattr(function, "run")
        if not callable(function) and not is_session:
            raise InputError("not a denoiser", got=type(function).__name__, wanted="a callable")
        choice("prediction", prediction, get_args(Prediction))
        choice("frame", frame, get_args(Frame))
        if not callable(time):
            choice("time", time, (*UNITS, "step"))
        if backend is not None:
            choice("backend", backend, get_args(Backend))
        if order not in (1, 2):
            raise InputError("unknown order of the sampler", got=order, wanted="1 or 2")
        steps_logsnr = all_levels(levels)
        if time == "step" and steps_logsnr is None:
            raise InputError(
                "time='step' needs levels", wanted="a scheduler or an array of logsnr"
            )
        self._is_one_step = prediction == "sample"
        if self._is_one_step:
            self.reversals = _ONE_STEP
        self.name = name
        self.sample_shape = shape_of(shape)
        self.levels = usable_levels(steps_logsnr)
        self.conditions: tuple[str, ...] | None = condition_names(conditions, encode)
        self.schedule = Schedule(
            start=_START
            if start is None and self.levels is None
            else end_of(start, self.levels, -1),
            end=_END if end is None and self.levels is None else end_of(end, self.levels, 0),
            steps=steps,
            spacing=spacing,
            available=self.levels,
        )
        parameter = first_parameter(function)
        self._calling = Calling(
            function=session_function(function) if is_session else function,
            model=name,
            prediction=prediction,
            frame=frame,
            time=time,
            backend=backend or ("numpy" if is_session else "torch"),
            steps_logsnr=steps_logsnr,
            conditions=self.conditions,
            encode=encode,
            dtype=dtype or (torch.float32 if parameter is None else parameter.dtype),
            device=torch.device(
                device or ("cpu" if parameter is None else parameter.device)  # as the weights
            ),
        )
        self._decode, self._guidance = decode, guidance
        self._interval = interval_of(guidance_interval)
        self._order: Literal[1, 2] = order
        self.fingerprint = digest_of(
            name,
            self.sample_shape,
            prediction,
            frame,
            time if isinstance(time, str) else function_name(time),
            self._calling.backend,
            self.conditions,
            guidance if self._interval is None else [guidance, *self._interval],
            [self.schedule.start, self.schedule.end, steps, spacing, order],
            None if steps_logsnr is None else steps_logsnr.tolist(),
            str(self._calling.dtype),
            fingerprint if fingerprint is not None else function_digest(function),
        )

    def generate(self, conditions: Sequence[str | None], streams: Sequence[UnitStreams]) -> Tensor:
        """Draw fresh samples: pure noise at the noisiest level, then the stochastic sampler.

        Args:
            conditions: A condition a row, or None.
            streams: A stream a row.

        Returns:
            Clean samples, shape ``(N, *sample_shape)``.

        Raises:
            InputError: If a condition is unknown or the numbers of rows differ.
        """
        draws = Draws(streams, "generate")
        noise = draws.normal(self.sample_shape)
        way = self.reversals[0]
        return self._reverse(noise, self._path(), conditions, draws, way, self._guidance)

    @property
    def start_logsnr(self) -> float:
        """Level of pure noise, at which a generation starts."""
        return self.schedule.start

    def pure_noise(self, streams: Sequence[UnitStreams]) -> Tensor:
        """The state at ``start_logsnr``, as :meth:`generate` draws it.

        Args:
            streams: A stream a row.

        Returns:
            Shape ``(N, *sample_shape)``, float32.
        """
        return Draws(streams, "generate").normal(self.sample_shape)

    def noise(self, clean: Tensor, logsnr: float, streams: Sequence[UnitStreams]) -> Tensor:
        """Noise clean samples to one level, ``alpha x_0 + sigma z``.

        Args:
            clean: Shape ``(N, *sample_shape)``.
            logsnr: The level, one of ``levels``.
            streams: A stream a row.

        Returns:
            Variance-preserving noisy samples, same shape, float32 at least.

        Raises:
            InputError: If the level is not available or shapes do not fit.
        """
        self._check_rows(clean, streams)
        alpha, sigma = (float(v) for v in alpha_sigma(self.schedule.check(logsnr)))
        z = Draws(streams, "noise").normal(self.sample_shape)
        return alpha * clean + sigma * z.to(clean.device)

    def denoise(
        self,
        noisy: Tensor,
        logsnr: float,
        conditions: Sequence[str | None],
        streams: Sequence[UnitStreams],
        reversal: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        purpose: str = "reverse",
    ) -> Tensor:
        """Denoise samples that are at one level.

        Args:
            noisy: Variance-preserving noisy samples, shape ``(N, *sample_shape)``.
            logsnr: Their level, one of ``levels``.
            conditions: A condition a row, or None.
            streams: A stream a row; the ODE draws nothing.
            reversal: ``"stochastic"`` or ``"ode"``; ``"one_step"`` of a one-step model.
            steps: Number of steps of the whole schedule; the model's own unless given.
            guidance: Guidance scale; the model's own unless given.
            purpose: Purpose of the streams.

        Returns:
            Clean samples, same shape.

        Raises:
            InputError: If the level is not available, or an argument cannot be used.
        """
        reversal = self.reversals[0] if reversal is None else reversal
        choice("reversal", reversal, self.reversals)
        self._check_rows(noisy, streams)
        path = self._path(logsnr, steps)
        draws = Draws(streams, purpose)
        return self._reverse(noisy, path, conditions, draws, reversal, self._scale(guidance))

    def partial(
        self,
        noisy: Tensor,
        logsnr: float,
        stop: float,
        conditions: Sequence[str | None],
        streams: Sequence[UnitStreams],
        reversal: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        purpose: str = "reverse",
    ) -> Tensor:
        """Reverse from one level to a cleaner one and return the noisy state there.

        The sampler of second order starts every segment with a step of first order: it does not
        remember the segment before.

        Args:
            noisy: Variance-preserving noisy samples, shape ``(N, *sample_shape)``.
            logsnr: Their level, one of ``levels``.
            stop: A larger level, one of ``levels``.
            conditions: A condition a row, or None.
            streams: A stream a row; the ODE draws nothing.
            reversal: ``"stochastic"`` or ``"ode"``.
            steps: Number of steps of the whole schedule; the model's own unless given.
            guidance: Guidance scale; the model's own unless given.
            purpose: Purpose of the streams.

        Returns:
            Variance-preserving noisy samples at ``stop``, same shape.

        Raises:
            InputError: If a level is not available, ``stop`` is not cleaner, or an argument
                cannot be used.
        """
        reversal = self.reversals[0] if reversal is None else reversal
        choice("reversal", reversal, self.reversals)
        self._check_rows(noisy, streams)
        path = self.schedule.between(logsnr, stop, steps)
        draws = Draws(streams, purpose)
        if self._is_one_step:  # what a consistency model does in several steps: draw, noise again
            clean = self._reverse(
                noisy, path[:1], conditions, draws, reversal, self._scale(guidance)
            )
            alpha, sigma = (float(v) for v in alpha_sigma(float(path[-1])))
            return alpha * clean + sigma * draws.normal(self.sample_shape).to(clean)
        with torch.inference_mode():
            x, denoised, draw = self._sampler(
                noisy, conditions, draws, reversal, self._scale(guidance)
            )
            x = advance(denoised, x, path, draw, order=self._order)
        return x.clone()

    def predict(
        self,
        noisy: Tensor,
        logsnr: float,
        conditions: Sequence[str | None],
        guidance: float | None = None,
    ) -> Tensor:
        """The estimate of the clean sample at one level, a preview.

        Args:
            noisy: Variance-preserving noisy samples, shape ``(N, *sample_shape)``.
            logsnr: Their level, one of ``levels``.
            conditions: A condition a row, or None.
            guidance: Guidance scale; the model's own unless given.

        Returns:
            Same shape, not clipped.

        Raises:
            InputError: If the level is not available.
        """
        level = self.schedule.check(logsnr)
        with torch.inference_mode():
            x, denoised, _ = self._sampler(noisy, conditions, None, "ode", self._scale(guidance))
            x_0 = denoised(x, level)
        return x_0.clone()

    def decode(self, clean: Tensor) -> Any:
        """What features read.

        Args:
            clean: Shape ``(N, *sample_shape)``.

        Returns:
            Images in [0, 1], shape ``(N, C, H, W)``, or points, shape ``(N, D)``.
        """
        if self._decode is not None:
            return self._decode(clean)
        return (0.5 * clean + 0.5).clamp(0.0, 1.0) if len(self.sample_shape) == 3 else clean

    def num_evaluations(
        self,
        logsnr: float,
        *,
        steps: int | None = None,
        reversal: str = "stochastic",
        guidance: float | None = None,
        stop: float | None = None,
    ) -> int:
        """Network calls that denoise a batch from one level, or bring it to a cleaner one.

        Args:
            logsnr: The level.
            steps: Number of steps of the whole schedule.
            reversal: Any; both samplers cost the same.
            guidance: Guidance scale.
            stop: Level at which :meth:`partial` stops; None: the clean sample.

        Returns:
            The number of calls.

        Raises:
            InputError: If the level is not available.
        """
        path = self._path(logsnr, steps)
        if stop is not None:
            calls = self.schedule.between(logsnr, stop, steps)[:-1]
            path = calls[:1] if self._is_one_step else calls
        return num_predictions(path.tolist(), self._scale(guidance), self._interval)

    def _path(self, logsnr: float | None = None, steps: int | None = None) -> NDArray[np.float64]:
        """Levels at which the function is called."""
        path = self.schedule.path(logsnr, steps)
        return path[:1] if self._is_one_step else path

    def _scale(self, guidance: float | None) -> float | None:
        return self._guidance if guidance is None else guidance

    def _reverse(
        self,
        noisy: Tensor,
        path: NDArray[np.float64],
        conditions: Sequence[str | None],
        draws: Draws,
        reversal: str,
        guidance: float | None,
    ) -> Tensor:
        with torch.inference_mode():
            x, denoised, draw = self._sampler(noisy, conditions, draws, reversal, guidance)
            x = advance(denoised, x, path, draw, order=self._order)
            x_0 = denoised(x, float(path[-1]))
        return x_0.clone()  # an inference tensor could not be changed in place outside

    def _sampler(
        self,
        noisy: Tensor,
        conditions: Sequence[str | None],
        draws: Draws | None,
        reversal: str,
        guidance: float | None,
    ) -> tuple[Tensor, Callable[[Tensor, float], Tensor], Callable[[], Tensor] | None]:
        """The state as the sampler keeps it, the guided denoiser, and what it draws."""
        if len(conditions) != len(noisy):
            raise InputError("conditions do not fit", got=len(conditions), wanted=str(len(noisy)))
        calling = self._calling
        # half precision belongs to the network; the state of the sampler keeps float32
        dtype = torch.float64 if calling.dtype == torch.float64 else torch.float32
        x = noisy.detach().to(device=calling.device, dtype=dtype)
        own = calling.encoded(conditions)
        none = () if guidance in (None, 1) else calling.encoded([None] * len(conditions))

        def denoised(x_t: Tensor, logsnr: float) -> Tensor:
            x_0 = calling.x_0(x_t, logsnr, own)
            if guidance is None or not is_guided(logsnr, guidance, self._interval):
                return x_0
            plain = calling.x_0(x_t, logsnr, none)
            return plain + guidance * (x_0 - plain)

        def draw() -> Tensor:
            assert draws is not None  # given to whatever draws
            return draws.normal(self.sample_shape).to(device=calling.device, dtype=dtype)

        return x, denoised, None if reversal == "ode" else draw

    def _check_rows(self, samples: Tensor, streams: Sequence[UnitStreams]) -> None:
        wanted = (len(streams), *self.sample_shape)
        if tuple(samples.shape) != wanted:
            raise InputError(
                "samples have the wrong shape", got=tuple(samples.shape), wanted=str(wanted)
            )
