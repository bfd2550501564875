"""Does the network predict what the scheduler's configuration says? Two tests, no training data.

*Slope*: pure noise in, the output is regressed on the input. A network that predicts the noise
gives it back, slope 1 and correlation 1; one that predicts v or the clean sample hardly knows it,
slope near the signal scale, which is small. One evaluation, and enough for most networks.

*Errors*: clean samples are noised to middle levels; the clean samples that the output stands for
are compared with them, under every reading, and with the best *straight line*: an offset of its
own for every number of a sample, and one factor for the noisy sample. A reading that a straight
line beats tells nothing (a network that has learnt nothing has no other). Where no samples are
given, the network makes its own: under the configured reading, and if that tells nothing, under
the others. Only a network that denoises its own samples under another reading, and not under the
configured one, is refused.

Source: Salimans & Ho (2022), *Progressive distillation*, sec. 4, for the readings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from critwin.errors import InputError
from critwin.models.base import Prediction
from critwin.models.pipeline.engine import normals
from critwin.streams import UnitStreams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from critwin.models.pipeline.model import PipelineModel
    from critwin.models.pipeline.schedules import PipelineSchedule

__all__ = ["PredictionCheck", "check_prediction_type", "measure_prediction"]

_LEVELS = (0.0, -2.0)
_SLOPE, _CORRELATED = 0.5, 0.9
_CLEAR = 1.3
_STRAIGHT, _BY_FAR = 0.9, 0.7
_FEW_SIGNAL = 0.1
_STEPS, _FINER = 8, 100
_LITTLE_NOISE = 5.0
_MANY_NUMBERS = 1024
_ROWS_AT_ONCE = 4096
_NAMES: Mapping[Prediction, str] = {
    "eps": "epsilon",
    "v": "v_prediction",
    "x_0": "sample",
    "velocity": "flow_prediction",
}


@dataclass(frozen=True, kw_only=True)
class PredictionCheck:
    """How the readings of a network compare.

    Attributes:
        configured: What the network predicts, by the scheduler's configuration.
        best: What the tests say.
        slope: Slope of the output on pure noise; None if the noisiest level keeps too much signal.
        correlation: Correlation of both; None with the slope.
        errors: Reading -> root-mean-square error of the clean samples it implies; empty where the
            slope was enough.
        straight: The same of the best straight line; None with the errors.
        levels: Logsnr at which the errors were taken.
        num_evaluations: Evaluations of the network, rows counted.
        is_contradicted: Whether the tests say clearly that the configuration is wrong.
        is_telling: Whether they say anything: False of a network that has learnt nothing.
    """

    configured: Prediction
    best: Prediction
    slope: float | None
    correlation: float | None
    errors: Mapping[str, float]
    straight: float | None
    levels: tuple[float, ...]
    num_evaluations: int
    is_contradicted: bool
    is_telling: bool

    @property
    def note(self) -> str:
        """What was found and what it cost, in one line."""
        n = self.num_evaluations
        cost = f"{n} evaluation" + ("" if n == 1 else "s") + " of the network"
        if not self.is_telling:
            return (
                f"what the network predicts cannot be told ({cost}): it neither gives pure noise "
                "back nor denoises better than a straight line"
            )
        verb = "does not predict" if self.is_contradicted else "predicts"
        return f"the network {verb} {_NAMES[self.configured]}, as configured ({cost})"


def check_prediction_type(
    model: PipelineModel,
    *,
    images: Tensor | None = None,
    latents: Tensor | None = None,
    num: int = 4,
    seed: int = 0,
) -> PredictionCheck:
    """Refuse a pipeline whose network predicts something else than its configuration says.

    Args:
        model: The pipeline as a model.
        images: Images of the kind that it makes, in ``[0, 1]``, shape ``(N, C, H, W)``.
        latents: Clean samples, shape ``(N, *sample_shape)``, in the place of images.
        num: Number of samples to make where none are given and the slope is not enough.
        seed: Seed of all draws.

    Returns:
        The comparison.

    Raises:
        InputError: If the configuration is contradicted.
    """
    found = measure_prediction(model, images=images, latents=latents, num=num, seed=seed)
    if not found.is_contradicted:
        return found
    shown = ", ".join(f"{_NAMES[k]} {found.errors[k]:.3g}" for k in _NAMES if k in found.errors)
    got = f"prediction_type {_NAMES[found.configured]}"
    got += "" if found.slope is None else f"; slope on pure noise {found.slope:.2f}"
    got += f"; errors of the readings: {shown}" if shown else ""
    if _is_dressed(model.schedule):
        raise InputError(
            "the network was not trained with the preconditioning of EDM",
            got=got,
            wanted="a scheduler for a network that predicts the noise",
            next_step="correct scheduler/scheduler_config.json, or load it with probe = false",
        )
    cure = f'set scheduler_options = {{ prediction_type = "{_NAMES[found.best]}" }}'
    raise InputError(
        "the network does not predict what the scheduler's configuration says",
        got=got,
        wanted=f"prediction_type {_NAMES[found.best]}"
        if found.best != found.configured
        else "velocities, noise minus clean",
        next_step="correct scheduler/scheduler_config.json, or "
        + (cure if found.best != found.configured else "load it with probe = false"),
    )


def measure_prediction(
    model: PipelineModel,
    *,
    images: Tensor | None = None,
    latents: Tensor | None = None,
    num: int = 4,
    seed: int = 0,
) -> PredictionCheck:
    """Compare the readings of a network; see :func:`check_prediction_type`.

    Args:
        model: The pipeline as a model.
        images: Images in ``[0, 1]``, shape ``(N, C, H, W)``.
        latents: Clean samples, in the place of images.
        num: Number of samples to make where none are given and the slope is not enough.
        seed: Seed of all draws.

    Returns:
        The comparison.

    Raises:
        InputError: If samples of both kinds are given, or they do not fit.
    """
    if images is not None and latents is not None:
        raise InputError("either images or latents", got="both")
    trial = _Trial(model, seed)
    slope, correlation = trial.slope()
    sign = 0 if slope is None or correlation is None else _sign(slope, correlation)
    configured = model.prediction
    best, is_wrong = _by_slope(configured, sign, is_dressed=_is_dressed(model.schedule))
    is_telling = is_wrong or sign == 1
    readings = _readings(model, None if slope is None else sign)
    errors: dict[Prediction, float] = {}
    straight = None
    given = model.encode(images) if images is not None else latents
    if given is not None:
        errors, straight = trial.errors(given, readings, is_own=False)
        least = min(errors, key=lambda name: errors[name])
        if not is_wrong and errors[least] ** 2 < _STRAIGHT * straight**2:
            is_telling = True
            is_wrong = errors[configured] ** 2 > _CLEAR * errors[least] ** 2
            best = least if is_wrong else configured
    elif not is_telling:
        for name in readings:  # the configured one first: it is believed where it tells anything
            own = trial.samples(num, name)
            errors, straight = trial.errors(own, readings, is_own=True)
            is_telling = errors[name] ** 2 < straight**2 * (
                _STRAIGHT if name == configured else _BY_FAR
            )
            if is_telling:
                best, is_wrong = name, name != configured
                break
    return PredictionCheck(
        configured=configured,
        best=best,
        slope=slope,
        correlation=correlation,
        errors={str(name): value for name, value in errors.items()},
        straight=straight,
        levels=tuple(trial.levels) if errors else (),
        num_evaluations=trial.num_evaluations,
        is_contradicted=is_wrong,
        is_telling=is_telling,
    )


class _Trial:
    """Evaluations of a pipeline's network, counted.

    Args:
        model: The pipeline as a model.
        seed: Seed of all draws.
    """

    def __init__(self, model: PipelineModel, seed: int) -> None:
        self.num_evaluations = 0
        self._model, self._seed = model, seed
        self._schedule = _fine_schedule(model)
        finite = self._schedule.levels
        near = {float(finite[np.argmin(np.abs(finite - level))]) for level in _LEVELS}
        self.levels = sorted(near, reverse=True)
        self._size = int(np.prod(model.sample_shape))

    def slope(self) -> tuple[float, float] | tuple[None, None]:
        """Regression of the output on pure noise, in the variance-preserving frame."""
        schedule, call = self._schedule, int(self._schedule.starts[0])
        size = float(np.hypot(schedule.signal[call], schedule.noise[call]))
        if schedule.signal[call] / size > _FEW_SIGNAL:
            return None, None
        num = min(16, -(-_MANY_NUMBERS // self._size))
        noise = schedule.initial * self._normals(num, "slope")
        output, x = self._outputs(noise, call)
        said = output[:, : x.shape[1]].double().flatten()
        shown = x.double().flatten() / size
        product = float((said * shown).sum())
        lengths = float(shown.norm()), float(said.norm())
        if not np.isfinite(product) or 0.0 in lengths:
            return 0.0, 0.0
        return product / lengths[0] ** 2, product / (lengths[0] * lengths[1])

    def samples(self, num: int, reading: Prediction) -> Tensor:
        """Samples that the network makes under a reading: few steps along the flow.

        The steps are even in logsnr, from pure noise to little.
        """
        schedule = self._schedule
        finite = schedule.levels
        even = np.linspace(finite[-1], min(finite[0], _LITTLE_NOISE), _STEPS)
        near = {int(np.argmin(np.abs(finite - level))) for level in even}
        starts = schedule.starts[-len(finite) :][::-1] if len(finite) else schedule.starts
        calls = sorted({int(schedule.starts[0]), *(int(starts[n]) for n in near)})
        x = schedule.initial * self._normals(num, f"samples as {reading}")
        for call, following in zip(calls, [*calls[1:], None], strict=True):
            output, x = self._outputs(x, call)
            x_0 = schedule.reading(output, x, call, reading).float()
            if following is None:
                return x_0
            z = (x - float(schedule.signal[call]) * x_0) / float(schedule.noise[call])
            x = float(schedule.signal[following]) * x_0 + float(schedule.noise[following]) * z
        raise AssertionError("a schedule has a step")

    def errors(
        self, clean: Tensor, readings: Sequence[Prediction], *, is_own: bool
    ) -> tuple[dict[Prediction, float], float]:
        """Errors of the readings at the middle levels, and that of a straight line."""
        schedule, num = self._schedule, len(clean)
        squares = dict.fromkeys(readings, 0.0)
        line = 0.0
        for level in self.levels:
            call = schedule.find(level)
            noisy = schedule.noised(clean.float().cpu(), self._normals(num, f"{level:.6f}"), call)
            output, x = self._outputs(noisy, call)
            truth = clean.to(x).double()
            for name in readings:
                implied = schedule.reading(output, x, call, name)
                error = torch.nan_to_num(
                    implied.double() - truth, nan=1e6, posinf=1e6, neginf=-1e6
                )
                squares[name] += float(error.square().mean()) / len(self.levels)
            line += _straight(truth, x.double(), is_own=is_own) / len(self.levels)
        return {name: float(np.sqrt(value)) for name, value in squares.items()}, np.sqrt(line)

    def _outputs(self, x: Tensor, call: int) -> tuple[Tensor, Tensor]:
        """The network's outputs, few rows at a time: a probe needs no more memory than a run."""
        engine, size = self._model.engine, max(1, _ROWS_AT_ONCE // self._size)
        pairs = []
        for rows in torch.split(x, size):
            told = engine.told_plainly(len(rows))
            pairs.append(engine.once(rows, call, self._schedule, told))
        self.num_evaluations += len(x)
        return torch.cat([output for output, _ in pairs]), torch.cat([x for _, x in pairs])

    def _normals(self, num: int, what: str) -> Tensor:
        streams = [UnitStreams(self._seed, f"probe {row}", None, 0) for row in range(num)]
        return normals(
            [unit.generator(f"probe {what}") for unit in streams], self._model.sample_shape
        )


def _sign(slope: float, correlation: float) -> int:
    """1: the output is the noise; -1: it is the noise with the wrong sign; 0: neither."""
    if min(abs(slope) - _SLOPE, abs(correlation) - _CORRELATED) <= 0:
        return 0
    return 1 if slope > 0 else -1


def _by_slope(configured: Prediction, sign: int, *, is_dressed: bool) -> tuple[Prediction, bool]:
    """What pure noise says of the configuration."""
    if is_dressed:
        return configured, sign == 1
    if configured == "velocity":  # flow matching knows one reading only
        return configured, sign == -1
    is_wrong = configured != "eps" and sign == 1
    return ("eps" if is_wrong else configured), is_wrong


def _readings(model: PipelineModel, sign: int | None) -> list[Prediction]:
    """Readings to be compared, the configured one first."""
    configured = model.prediction
    if configured == "velocity" or _is_dressed(model.schedule):
        return [configured]
    others: list[Prediction] = ["eps"] if sign is None or sign == 1 else []
    others += [] if sign == 1 else ["v", "x_0"]
    return [configured, *(name for name in others if name != configured)]


def _straight(truth: Tensor, x: Tensor, *, is_own: bool) -> float:
    """Mean square that the best straight line from noisy to clean samples leaves."""
    rows = len(truth)
    y, z = (v - (v.mean(0, keepdim=True) if is_own else v.mean()) for v in (truth, x))
    left = y - z * ((y * z).sum() / z.square().sum().clamp_min(1e-300))
    share = rows / (rows - 1) if is_own and rows > 1 else 1.0  # offsets use up a row
    return float(torch.nan_to_num(left.square().mean(), nan=0.0)) * share


def _is_dressed(schedule: PipelineSchedule) -> bool:
    return hasattr(schedule.scheduler, "precondition_outputs")


def _fine_schedule(model: PipelineModel) -> PipelineSchedule:
    """A schedule that begins near pure noise; the model's own where there is no finer one."""
    if model.schedule.num_calls >= _FINER:
        return model.schedule
    try:
        return model.scheduled(_FINER)
    except InputError:  # schedulers of few steps
        return model.schedule
