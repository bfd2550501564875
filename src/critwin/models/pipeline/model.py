"""A diffusers pipeline as a model: levels by step index, its own scheduler, critwin's streams.

States are in the scheduler's own frame (``x_0 + sigma z``, ``(1 - s) x_0 + s z``, …).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from critwin.errors import InputError
from critwin.models._wrapping import digest_of
from critwin.models.guidance import interval_of
from critwin.models.pipeline.choices import (
    check_guidance,
    check_rows,
    check_way,
    positive,
    prediction_of,
    predicts_variances,
)
from critwin.models.pipeline.coding import decode_finite
from critwin.models.pipeline.engine import Engine, normals
from critwin.models.pipeline.schedules import PipelineSchedule, read_schedule, signal_notes
from critwin.models.pipeline.trials import reversals_of, way_notes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from critwin.models.base import Prediction
    from critwin.models.pipeline.families import Family
    from critwin.models.pipeline.placement import Placement
    from critwin.streams import UnitStreams

__all__ = ["PipelineModel"]


class PipelineModel:
    """A model made of a diffusers pipeline; see :func:`critwin.models.pipeline.load_pipeline`.

    Attributes:
        name: Name of the model.
        pipeline: The pipeline; its scheduler is copied, never stepped.
        family: What the network needs.
        engine: Runs network and scheduler.
        schedule: The scheduler's steps and levels.
        levels: Finite levels that it can start from, decreasing logsnr.
        start_logsnr: Level of pure noise, ``-inf`` where the schedule starts without signal.
        sample_shape: Shape of one latent (of an image, without a VAE).
        conditions: Names of classes; ``()`` if there are none, None if it takes any text.
        needs_condition: Whether None is no condition: the network always takes a class.
        reversals: Ways in which the scheduler can step; the first one generates.
        prediction: What the network predicts, by the scheduler's configuration.
        provenance: Where the pipeline comes from.
        fingerprint: Digest of weights, scheduler and options.

    Args:
        pipeline: The pipeline.
        family: What its network needs.
        scheduler: The scheduler.
        placement: Where its parts run.
        steps: Number of steps of the whole schedule.
        guidance: Guidance scale unless told otherwise; None: the pipeline's own. Up to 1: none.
        true_guidance: Guidance by two predictions of a network that takes the other as an input.
        guidance_interval: OU times between which two predictions are taken, ends included.
        negative: Prompt that takes the place of the unconditional one in guidance.
        reversal: The way that comes first; else ``"stochastic"`` where there is.
        name: Name of the model.
        identity: What else the fingerprint holds.
        provenance: Where the pipeline comes from.
        notes: What is done differently from the pipeline's own call.

    Raises:
        InputError: If the scheduler or an option cannot be used.
    """

    def __init__(
        self,
        pipeline: Any,
        family: Family,
        scheduler: Any,
        placement: Placement,
        *,
        steps: int = 50,
        guidance: float | None = None,
        true_guidance: float | None = None,
        guidance_interval: Sequence[float] | None = None,
        negative: str | None = None,
        reversal: str | None = None,
        name: str = "pipeline",
        identity: Sequence[Any] = (),
        provenance: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.name, self.provenance = name, dict(provenance or {})
        self.pipeline, self.family, self.placement = pipeline, family, placement
        self.sample_shape: tuple[int, ...] = tuple(family.sample_shape)
        self.conditions: tuple[str, ...] | None = family.conditions
        self.needs_condition = family.plain is not None
        self.prediction: Prediction = prediction_of(scheduler)
        self._scheduler, self._steps = scheduler, positive(steps)
        self._schedules: dict[int, PipelineSchedule] = {}
        self.schedule = self.scheduled(self._steps)
        self.levels: NDArray[np.float64] = self.schedule.levels
        self.start_logsnr = float(self.schedule.logsnr[0])
        is_widened = predicts_variances(pipeline, family, scheduler)
        self._ways = reversals_of(self.schedule, is_widened=is_widened)
        first = next(iter(self._ways)) if reversal is None else reversal
        check_way(type(scheduler).__name__, first, self._ways)
        self.reversals: tuple[str, ...] = (first, *(way for way in self._ways if way != first))
        interval = interval_of(guidance_interval)
        own = check_guidance(family, guidance, true_guidance, interval, negative)
        self.engine = Engine(
            pipeline,
            family,
            placement,
            guidance=own,
            true_guidance=true_guidance,
            interval=interval,
            negative=negative,
            is_widened=is_widened,
        )
        self._notes = [*notes, *signal_notes(self.schedule)]
        self._notes += way_notes(self.schedule, self._ways, self.prediction, is_widened=is_widened)
        self.fingerprint = digest_of(
            name,
            family.name,
            list(self.sample_shape),
            type(scheduler).__name__,
            sorted((str(k), str(v)) for k, v in scheduler.config.items() if k[0] != "_"),
            self._steps,
            [own, true_guidance, interval, negative],
            list(self.reversals),
            list(identity),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of results should know, one line each, prompts cut short among it."""
        return (*self._notes, *self.engine.conditions.notes)

    def add_note(self, note: str) -> None:
        """Add to ``notes`` what was found when the model was loaded."""
        self._notes.append(note)

    def notes_on(self, conditions: Sequence[str | None]) -> list[str]:
        """What the text encoders would not read of some prompts; nothing is encoded.

        Args:
            conditions: The prompts, and None.

        Returns:
            One line for every tokenizer and prompt that is too long for it.
        """
        return self.engine.conditions.notes_on(conditions)

    @property
    def num_text_encodings(self) -> int:
        """How often text encoders ran: once a distinct prompt."""
        return self.engine.conditions.num_encodings

    def generate(self, conditions: Sequence[str | None], streams: Sequence[UnitStreams]) -> Tensor:
        """Draw fresh samples: pure noise, then all steps of the first of ``reversals``.

        Args:
            conditions: A condition a row, or None.
            streams: A stream a row.

        Returns:
            Clean samples, float32, shape ``(N, *sample_shape)``: latents, where there is a VAE.

        Raises:
            InputError: If a condition is unknown or the numbers of rows differ.
        """
        generators = [unit.generator("generate") for unit in streams]
        noise = self.schedule.initial * normals(generators, self.sample_shape)
        calls = range(self.schedule.num_calls)
        return self._run(noise, calls, self.schedule, conditions, generators, None, None)

    def pure_noise(self, streams: Sequence[UnitStreams]) -> Tensor:
        """The state at ``start_logsnr``, drawn as :meth:`generate` draws it.

        Args:
            streams: A stream a row.

        Returns:
            Shape ``(N, *sample_shape)``.
        """
        started = [unit.generator("generate") for unit in streams]
        return self.schedule.initial * normals(started, self.sample_shape)

    def noise(self, clean: Tensor, logsnr: float, streams: Sequence[UnitStreams]) -> Tensor:
        """Noise clean samples to one level by the scheduler's own method.

        Args:
            clean: Shape ``(N, *sample_shape)``.
            logsnr: The level, one of ``levels``; ``inf`` returns the samples themselves.
            streams: A stream a row.

        Returns:
            Noisy samples in the scheduler's frame, same shape.

        Raises:
            InputError: If the level is not available or shapes do not fit.
        """
        check_rows(clean, len(streams), self.sample_shape)
        call = self.schedule.find(logsnr)
        if call == self.schedule.num_calls:
            return clean
        z = normals([unit.generator("noise") for unit in streams], self.sample_shape)
        return self.schedule.noised(clean.to(torch.float32), z.to(clean.device), call)

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
        """Denoise samples that are at one level, with the steps that are left from there.

        Args:
            noisy: In the scheduler's frame, shape ``(N, *sample_shape)``.
            logsnr: Their level, one of ``levels``; ``inf`` returns them as they are.
            conditions: A condition a row, or None.
            streams: A stream a row; a deterministic scheduler draws nothing.
            reversal: One of ``reversals``; the first one unless given.
            steps: Number of steps of the whole schedule, which must have this level, too.
            guidance: Guidance scale; the model's own unless given.
            purpose: Purpose of the streams.

        Returns:
            Clean samples, float32, same shape.

        Raises:
            InputError: If the level is not available, or an argument cannot be used.
        """
        return self.partial(
            noisy, logsnr, np.inf, conditions, streams, reversal, steps, guidance, purpose
        )

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
        """Denoise to a cleaner level; solvers that remember steps (DPM++ 2M, UniPC) begin anew.

        Args:
            noisy: In the scheduler's frame, shape ``(N, *sample_shape)``.
            logsnr: Their level, one of ``levels`` or ``start_logsnr``.
            stop: A larger level; ``inf`` denoises to the end.
            conditions: A condition a row, or None.
            streams: A stream a row.
            reversal: One of ``reversals``; the first one unless given.
            steps: Number of steps of the whole schedule.
            guidance: Guidance scale.
            purpose: Purpose of the streams.

        Returns:
            The state at ``stop``, float32, same shape.

        Raises:
            InputError: If a level is not available or ``stop`` is not cleaner.
        """
        check_rows(noisy, len(streams), self.sample_shape)
        schedule = self.scheduled(self._steps if steps is None else positive(steps))
        first, last = schedule.find(logsnr), schedule.find(stop)
        if last < first or (last == first < schedule.num_calls):
            raise InputError(
                "a reversal must stop at a cleaner level",
                got=f"logsnr {logsnr:.6g} to {stop:.6g}",
            )
        draws, calls = [unit.generator(purpose) for unit in streams], range(first, last)
        return self._run(noisy, calls, schedule, conditions, draws, reversal, guidance)

    def predict(
        self,
        noisy: Tensor,
        logsnr: float,
        conditions: Sequence[str | None],
        guidance: float | None = None,
    ) -> Tensor:
        """The network's estimate of the clean sample, a preview of what it has decided.

        Args:
            noisy: In the scheduler's frame, shape ``(N, *sample_shape)``.
            logsnr: Their level, one of ``levels`` or ``start_logsnr``.
            conditions: A condition a row, or None.
            guidance: Guidance scale.

        Returns:
            Shape ``(N, *sample_shape)``, float32, not clipped.

        Raises:
            InputError: If the level is not available.
        """
        call = self.schedule.find(logsnr)
        if call == self.schedule.num_calls:
            return noisy
        told = self.engine.told(conditions, guidance, num=len(noisy))
        output, x = self.engine.once(noisy, call, self.schedule, told)
        return self.schedule.reading(output, x, call, self.prediction)

    def decode(self, clean: Tensor) -> Tensor:
        """Images of clean samples; rows that are not finite stay NaN and are not decoded.

        Args:
            clean: Shape ``(N, *sample_shape)``.

        Returns:
            Images in ``[0, 1]``, float32, shape ``(N, C, H, W)``.
        """
        coder = self.family.coder
        with torch.inference_mode(), self.placement.use(coder.vae):
            images = decode_finite(clean, lambda z: coder.decode(z, self.placement.device))
        return images.clone()

    def encode(self, images: Tensor) -> Tensor:
        """Clean samples of images: the mode of the VAE's law, not a draw from it.

        Args:
            images: In ``[0, 1]``, shape ``(N, C, H, W)``.

        Returns:
            Shape ``(N, *sample_shape)``, float32.

        Raises:
            InputError: If the images have another size.
        """
        coder = self.family.coder
        with torch.inference_mode(), self.placement.use(coder.vae):
            latents = coder.encode(images, self.placement.device)
        return latents.clone()

    def num_evaluations(
        self,
        logsnr: float,
        *,
        steps: int | None = None,
        reversal: str | None = None,
        guidance: float | None = None,
        stop: float | None = None,
    ) -> int:
        """Evaluations of the network that denoise a row from one level.

        Args:
            logsnr: The level.
            steps: Number of steps of the whole schedule.
            reversal: Any; all cost the same.
            guidance: Guidance scale.
            stop: Level at which :meth:`partial` stops; None: the clean sample.

        Returns:
            The number, with second stages; two where guidance takes two predictions.

        Raises:
            InputError: If the level is not available.
        """
        schedule = self.scheduled(self._steps if steps is None else positive(steps))
        last = schedule.num_calls if stop is None else schedule.find(stop)
        calls = range(schedule.find(logsnr), last)
        return self.engine.num_calls(calls, schedule, guidance)

    def _run(
        self,
        x: Tensor,
        calls: range,
        schedule: PipelineSchedule,
        conditions: Sequence[str | None],
        generators: Sequence[torch.Generator],
        reversal: str | None,
        guidance: float | None,
    ) -> Tensor:
        way = self.reversals[0] if reversal is None else reversal
        check_way(f"model {self.name!r}", way, self.reversals)
        told = self.engine.told(conditions, guidance, num=len(x))
        return self.engine.run(x, calls, schedule, told, generators, self._ways[way])

    def scheduled(self, steps: int) -> PipelineSchedule:
        """The schedule of so many steps, read once."""
        if steps not in self._schedules:
            asked = self.family.steps(steps, self._scheduler)
            self._schedules[steps] = read_schedule(self._scheduler, asked)
        return self._schedules[steps]
