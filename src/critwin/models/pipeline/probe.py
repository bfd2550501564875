"""Does the network predict what the scheduler's configuration says? Two tests, no training data.

*Slope*: pure noise in, the output is regressed on the input. A network that predicts the noise
gives it back, slope 1; one that predicts v or the clean sample hardly knows it, slope near the
signal scale, which is small.

*Errors*: clean samples are noised to middle levels; the clean samples that the output stands for
are compared with them, under every reading. Only a clear difference counts: all readings agree
where there is little noise, and clean samples that were generated under a wrong reading are poor
witnesses (images are better ones).

Source: Salimans & Ho (2022), *Progressive distillation*, sec. 4, for the readings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch

from critwin.errors import InputError
from critwin.models.base import Prediction
from critwin.streams import UnitStreams

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from critwin.models.pipeline.model import PipelineModel

__all__ = ["PredictionCheck", "check_prediction_type", "measure_prediction"]

_LEVELS = (0.0, -2.0)
_SLOPE = 0.5
_CLEAR = 1.3
_FEW_SIGNAL = 0.3
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
        best: What the two tests say.
        slope: Slope of the output on pure noise; None if the noisiest level keeps too much signal.
        errors: Reading -> root-mean-square error of the clean samples it implies.
        levels: Logsnr at which the errors were taken.
        is_contradicted: Whether the tests say clearly that the configuration is wrong.
    """

    configured: Prediction
    best: Prediction
    slope: float | None
    errors: Mapping[str, float]
    levels: tuple[float, ...]
    is_contradicted: bool


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
        num: Number of samples to generate where none are given.
        seed: Seed of all draws.

    Returns:
        The comparison.

    Raises:
        InputError: If the configuration is contradicted.
    """
    found = measure_prediction(model, images=images, latents=latents, num=num, seed=seed)
    if found.is_contradicted:
        shown = ", ".join(f"{name} {found.errors[key]:.3g}" for key, name in _NAMES.items())
        raise InputError(
            "the network does not predict what the scheduler's configuration says",
            got=f"prediction_type {_NAMES[found.configured]}"
            + ("" if found.slope is None else f"; slope on pure noise {found.slope:.2f}")
            + f"; errors of the readings: {shown}",
            wanted=f"prediction_type {_NAMES[found.best]}",
            next_step="correct scheduler/scheduler_config.json, or set "
            f'scheduler_options = {{ prediction_type = "{_NAMES[found.best]}" }}',
        )
    return found


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
        num: Number of samples to generate where none are given.
        seed: Seed of all draws.

    Returns:
        The comparison.

    Raises:
        InputError: If samples of both kinds are given, or they do not fit.
    """
    if images is not None and latents is not None:
        raise InputError("either images or latents", got="both")
    count = num if images is None and latents is None else len(_given(images, latents))
    streams = [UnitStreams(seed, f"probe {row}", None, 0) for row in range(count)]
    if images is not None:
        clean = model.encode(images)
    else:
        clean = model.generate([None] * count, streams) if latents is None else latents
    schedule = model.schedule
    readings: list[Prediction] = [name for name in get_args(Prediction) if name in _NAMES]
    levels = sorted({_nearest(model.levels, level) for level in _LEVELS}, reverse=True)
    squares = dict.fromkeys(readings, 0.0)
    for level in levels:
        call = schedule.find(level)
        noisy = model.noise(clean, level, streams)
        told = model.engine.told([None] * count, None, num=count)
        output, x = model.engine.once(noisy, call, schedule, told)
        for name in readings:
            implied = schedule.reading(output, x, call, name)
            error = (implied - clean.to(implied)).double()
            squares[name] += float(torch.nan_to_num(error, nan=1e6).square().mean()) / len(levels)
    slope = _slope(model, streams)
    errors = {name: float(np.sqrt(value)) for name, value in squares.items()}
    return _judged(model.prediction, slope, errors, tuple(levels))


def _judged(
    configured: Prediction,
    slope: float | None,
    errors: Mapping[Prediction, float],
    levels: tuple[float, ...],
) -> PredictionCheck:
    best: Prediction = configured
    if configured == "velocity":  # flow matching knows one reading only
        is_wrong = slope is not None and slope < _SLOPE
    else:
        vp: list[Prediction] = ["eps", "v", "x_0"]
        if slope is not None:
            vp = ["eps"] if slope > _SLOPE else ["v", "x_0"]
        found = min(vp, key=lambda name: errors[name])
        is_worse = errors[configured] ** 2 > _CLEAR * errors[found] ** 2
        is_wrong = configured not in vp or is_worse
        best = found if is_wrong else configured
    return PredictionCheck(
        configured=configured,
        best=best,
        slope=slope,
        errors={str(name): value for name, value in errors.items()},
        levels=levels,
        is_contradicted=is_wrong,
    )


def _slope(model: PipelineModel, streams: list[UnitStreams]) -> float | None:
    """Regression of the output on pure noise, in the variance-preserving frame."""
    schedule, call = model.schedule, int(model.schedule.starts[0])
    size = float(np.hypot(schedule.signal[call], schedule.noise[call]))
    if schedule.signal[call] / size > _FEW_SIGNAL:
        return None
    told = model.engine.told([None] * len(streams), None, num=len(streams))
    output, x = model.engine.once(model.pure_noise(streams), call, schedule, told)
    shown = (x / size).double()
    said = output[:, : x.shape[1]].double()
    return float((said * shown).sum() / shown.square().sum())


def _nearest(levels: NDArray[np.float64], level: float) -> float:
    return float(levels[np.argmin(np.abs(levels - level))])


def _given(images: Tensor | None, latents: Tensor | None) -> Tensor:
    given = images if images is not None else latents
    assert given is not None
    return given
