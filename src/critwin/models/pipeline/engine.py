"""The loop over steps: conditions to the network, its output to a copy of the scheduler.

Guidance by two predictions is one doubled batch, the unconditional half first. Every row draws
from its own generator, and the network always sees all rows, so that a row's bits do not depend on
the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from critwin.errors import InputError
from critwin.models.guidance import is_guided, num_predictions
from critwin.models.pipeline.choices import has_two_predictions, scale_of
from critwin.models.pipeline.prompts import Conditions
from critwin.models.pipeline.trials import noise_arguments, options_at

if TYPE_CHECKING:
    from torch import Tensor

    from critwin.models.pipeline.families import Condition, Family
    from critwin.models.pipeline.placement import Placement
    from critwin.models.pipeline.schedules import PipelineSchedule

__all__ = ["Engine", "Told", "normals"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Told:
    """What the network is told of a batch of N rows.

    Attributes:
        condition: N rows; 2 N with two predictions, the unconditional half first.
        num: N.
        scale: Guidance by two predictions; None: one prediction.
        embedded: Guidance that is an input of the network, or None.
    """

    condition: Condition
    num: int
    scale: float | None
    embedded: float | None


class Engine:
    """Runs a pipeline's network and scheduler on critwin's terms.

    Attributes:
        conditions: Tensors of conditions, each worked out once.

    Args:
        pipe: The pipeline.
        family: What its network needs.
        placement: Where its parts run.
        guidance: Guidance scale unless told otherwise; None: none.
        true_guidance: Guidance by two predictions of a distilled network.
        interval: OU times between which two predictions are taken; None: everywhere.
        negative: Prompt in the place of the unconditional one.
        is_widened: Whether the scheduler takes the network's variances, too.
    """

    def __init__(
        self,
        pipe: Any,
        family: Family,
        placement: Placement,
        *,
        guidance: float | None,
        true_guidance: float | None = None,
        interval: tuple[float, float] | None = None,
        negative: str | None = None,
        is_widened: bool = False,
    ) -> None:
        self._pipe, self._family, self._placement = pipe, family, placement
        self._network = getattr(pipe, family.network)
        self._guidance, self._true_guidance = guidance, true_guidance
        self._interval, self._negative = interval, negative
        self._is_widened = is_widened
        self.conditions = Conditions(pipe, family, placement)

    def scales(self, guidance: float | None) -> tuple[float | None, float | None]:
        """Guidance by two predictions, and guidance that is an input of the network.

        Args:
            guidance: As it was asked for; None: the model's own.

        Returns:
            Both scales, None where there is no such guidance: one prediction up to scale 1.

        Raises:
            InputError: If the network takes no guidance, or the scale is negative.
        """
        kind = self._family.guidance_kind
        asked = self._guidance if guidance is None else scale_of("guidance", guidance)
        if kind == "none" and asked not in (None, 1.0):
            raise InputError(
                "the pipeline has no conditions, so it cannot be guided", got=f"guidance {asked:g}"
            )
        scale = self._true_guidance if kind == "distilled" else asked
        return (
            scale if has_two_predictions(scale) else None,
            asked if kind == "distilled" else None,
        )

    def told(self, conditions: Sequence[str | None], guidance: float | None, *, num: int) -> Told:
        """What the network is told of a batch.

        Args:
            conditions: A condition a row, or None.
            guidance: Guidance scale; None: the model's own.
            num: Number of rows.

        Returns:
            The tensors of its conditions and the scales of guidance.

        Raises:
            InputError: If a condition is unknown, or there is another number of them.
        """
        if isinstance(conditions, str) or len(conditions) != num:
            raise InputError("conditions do not fit", got=len(conditions), wanted=str(num))
        self._check_conditions(conditions)
        scale, embedded = self.scales(guidance)
        names = list(conditions)
        if scale is not None:  # a row without condition has nothing to be guided to
            names = [None if c is None else self._negative for c in conditions] + names
        like = torch.empty(0, dtype=_dtype(self._network), device=self._placement.device)
        return Told(
            condition=self.conditions.rows(names, like),
            num=len(conditions),
            scale=scale,
            embedded=embedded,
        )

    def told_plainly(self, num: int) -> Told:
        """What the network is told of rows that are told nothing, without a second prediction.

        Args:
            num: Number of rows.

        Returns:
            The tensors, and the model's own guidance where it is an input of the network.
        """
        like = torch.empty(0, dtype=_dtype(self._network), device=self._placement.device)
        _, embedded = self.scales(None)
        condition = self.conditions.rows([self._family.plain] * num, like)
        return Told(condition=condition, num=num, scale=None, embedded=embedded)

    def output(
        self, x: Tensor, call: int, schedule: PipelineSchedule, scheduler: Any, told: Told
    ) -> Tensor:
        """What the network says of a state, guided.

        Args:
            x: State in the scheduler's frame, float32, shape ``(N, *sample_shape)``.
            call: Index into the schedule.
            schedule: The schedule.
            scheduler: A copy of its scheduler that stands at this call.
            told: What the network is told.

        Returns:
            The output as the scheduler takes it, float32, shape ``(N, C or 2 C, ...)``.
        """
        t = schedule.timesteps[call]
        is_two = is_guided(schedule.level_of(call), told.scale, self._interval)
        scale = told.scale if is_two else None
        condition = told.condition
        if scale is None and told.scale is not None:
            condition = {name: value[told.num :] for name, value in condition.items()}
        shown = x
        if hasattr(scheduler, "scale_model_input"):
            shown = scheduler.scale_model_input(x, t)
        shown = shown.to(_dtype(self._network))
        shown = shown if scale is None else torch.cat([shown, shown])
        output = self._family.call(shown, t, condition, told.embedded).to(x.dtype)
        if not self._is_widened:
            output = output[:, : x.shape[1]]
        if scale is None:
            return output
        plain, own = output.chunk(2)
        return plain + scale * (own - plain)

    def once(
        self, noisy: Tensor, call: int, schedule: PipelineSchedule, told: Told
    ) -> tuple[Tensor, Tensor]:
        """The network's output at one call, not read in any way.

        Args:
            noisy: In the scheduler's frame, shape ``(N, *sample_shape)``.
            call: Index into the schedule.
            schedule: The schedule.
            told: What the network is told.

        Returns:
            The output, and the state where the network runs.
        """
        scheduler = schedule.started(call)
        with torch.inference_mode(), self._placement.use(self._network):
            x = self.on_device(noisy)
            output = self.output(x, call, schedule, scheduler, told)
        return output.clone(), x.clone()

    def run(
        self,
        x: Tensor,
        calls: range,
        schedule: PipelineSchedule,
        told: Told,
        generators: Sequence[torch.Generator],
        options: Mapping[str, Any],
    ) -> Tensor:
        """Take some steps.

        Args:
            x: State before the first call, shape ``(N, *sample_shape)``.
            calls: The calls.
            schedule: The schedule.
            told: What the network is told.
            generators: A generator a row.
            options: What else the scheduler's step takes.

        Returns:
            The state after the last call, float32.
        """
        if len(calls) == 0:
            return x
        scheduler = schedule.started(calls[0])
        noise = noise_arguments(scheduler, generators)
        with torch.inference_mode(), self._placement.use(self._network):
            state = self.on_device(x)
            for call in calls:
                output = self.output(state, call, schedule, scheduler, told)
                t = schedule.timesteps[call]
                asked = {**options_at(schedule, options, call), **noise}
                step = scheduler.step(output, t, state, **asked, return_dict=False)
                state = step[0].to(torch.float32)
        return state.clone()  # an inference tensor could not be changed in place outside

    def on_device(self, x: Tensor) -> Tensor:
        """A state where the network runs; the sampler's state keeps float32.

        Args:
            x: Any state.

        Returns:
            The same numbers, float32.
        """
        return x.detach().to(device=self._placement.device, dtype=torch.float32)

    def num_calls(self, calls: range, schedule: PipelineSchedule, guidance: float | None) -> int:
        """Evaluations of the network for a row: two where two predictions are taken.

        Args:
            calls: The calls.
            schedule: The schedule.
            guidance: Guidance scale; None: the model's own.

        Returns:
            The number.
        """
        scale, _ = self.scales(guidance)
        levels = [schedule.level_of(call) for call in calls]
        return num_predictions(levels, scale, self._interval)

    def _check_conditions(self, conditions: Sequence[str | None]) -> None:
        known = self._family.conditions
        for name in conditions:
            if name is not None and known is not None and name not in known:
                raise InputError(
                    "the pipeline does not know this condition",
                    got=name,
                    wanted=_some(known) if known else "no condition",
                )


def normals(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Standard normals, float32 on the CPU; row n from generator n.

    Args:
        generators: A generator a row, which goes on from where it stands.
        shape: Shape of a row.

    Returns:
        Shape ``(N, *shape)``.
    """
    out = torch.empty((len(generators), *shape), dtype=torch.float32)
    for row, generator in zip(out, generators, strict=True):
        torch.randn(tuple(shape), generator=generator, out=row)
    return out


def _dtype(network: Any) -> torch.dtype:
    dtype: torch.dtype = next(network.parameters()).dtype
    return dtype


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:20])
    return f"one of {shown}" + ("" if len(names) <= 20 else f", … ({len(names)} in all)")
