"""The forward–reverse experiment in memory: noise a source, denoise it, read what survived.

A run folder (:mod:`critwin.runs`) adds durability to the same plan and the same measuring, and
nothing else.

Source: Li, Karan & Chen (2025), *Blink of an eye*, sec. 3; Sclocchi, Favero & Wyart (2025), *A
phase transition in diffusion models reveals the hierarchical nature of data*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError
from critwin.experiments.in_memory import in_memory, loaded_parts
from critwin.experiments.measuring import Progress, execute
from critwin.experiments.sources import (
    Source,
    dataset_of,
    plan_dataset,
    plan_generated,
    plan_given,
)
from critwin.experiments.spec import Spec, check_condition, choose_reversal, plan
from critwin.experiments.units import resolve_levels
from critwin.records import Records

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike

    from critwin.features.base import Comparison, Feature
    from critwin.models.base import Model

__all__ = ["execute", "forward_reverse", "given_samples", "plan", "plan_sources"]


def forward_reverse(
    model: str | Model,
    features: str | Feature | Sequence[str | Feature],
    levels: ArrayLike,
    *,
    unit: str = "logsnr",
    num_sources: int | None = None,
    sources: str | Any = "generated",
    conditions: Sequence[str | None] = (),
    condition: str | None = "same",
    reversal: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    replicates: int = 1,
    batch_size: int = 16,
    seed: int = 0,
    comparisons: Sequence[Comparison] = (),
    max_invalid: float = 0.05,
    progress: Callable[[Progress], None] | None = None,
) -> Records:
    """Run the forward–reverse experiment in memory.

    Args:
        model: A model, or the name of one.
        features: Features to read, or names of them.
        levels: Noise levels in ``unit``, in order, shape ``(L,)``.
        unit: Unit of the levels: ``"logsnr"``, ``"t"``, ``"sigma"``, ``"alpha_bar"``, ``"flow"``.
        num_sources: Number of sources; 48 unless given, or as many as are given.
        sources: ``"generated"`` by the model, from its ``"dataset"``, or clean samples,
            shape ``(S, *sample_shape)``.
        conditions: Conditions of generated sources, dealt in turn.
        condition: Condition of the reversal: ``"same"`` as the source's, None or ``"none"`` for
            unconditional, or a condition.
        reversal: How to reverse; the model's first way unless given.
        steps: Number of steps of the whole schedule; the model's own unless given.
        guidance: Guidance scale; the model's own unless given.
        replicates: Fresh noise and fresh reversals of a source at a level.
        batch_size: Number of rows of every batch.
        seed: Seed of all random streams.
        comparisons: Comparisons of source and result; their numbers become ``values``.
        max_invalid: Largest share of invalid results (NaN, infinite, constant).
        progress: Called after each batch.

    Returns:
        Records, sorted: a row per source, level and replicate.

    Raises:
        InputError: If an argument cannot be used, or a labeller's answer is not one.
        TooManyInvalidError: If the share of invalid results is above the limit; ``records`` of
            the error holds what was measured.
    """
    from critwin.levels import to_logsnr

    engine, loaded = loaded_parts(model, features)
    given = None if isinstance(sources, str) else given_samples(sources, engine)
    chosen = plan_sources(engine, sources, given, num_sources, conditions, seed)
    requested = to_logsnr(np.atleast_1d(np.asarray(levels, dtype=np.float64)), unit)
    resolved = resolve_levels(requested, engine.levels, unit=unit)
    spec = Spec(
        sources=tuple(chosen),
        levels=resolved,
        num_merged=len(requested) - len(resolved),
        reversal=choose_reversal(engine, reversal),
        condition="none" if condition is None else condition,
        steps=steps,
        guidance=guidance,
        replicates=replicates,
        batch_size=batch_size,
        seed=seed,
    )
    for name in {spec.condition_of(s) for s in chosen} | {s.condition for s in chosen}:
        check_condition(engine, name)
    return in_memory(
        engine,
        loaded,
        spec,
        given=given,
        comparisons=comparisons,
        max_invalid=max_invalid,
        progress=progress,
    )


def plan_sources(
    model: Model,
    sources: Any,
    given: torch.Tensor | None,
    count: int | None,
    conditions: Sequence[str | None],
    seed: int,
) -> list[Source]:
    """Plan the sources of an experiment in memory.

    Args:
        model: The model.
        sources: ``"generated"``, ``"dataset"``, or the given samples.
        given: The given samples as a tensor, if any.
        count: Number of sources; 48 or all that are given if None.
        conditions: Conditions of generated sources, dealt in turn.
        seed: Seed of the run.

    Returns:
        The sources.

    Raises:
        InputError: If there are no such sources, or too few.
    """
    if given is not None:
        return plan_given(len(given) if count is None else min(count, len(given)))
    number = 48 if count is None else count
    if sources == "generated":
        return plan_generated(number, [None if c == "none" else c for c in conditions])
    if sources == "dataset":
        dataset = dataset_of(model)
        strata = getattr(dataset, "strata", None)
        return plan_dataset(number, len(dataset), seed, strata=strata)
    raise InputError(
        "unknown sources", got=sources, wanted='"generated", "dataset", or clean samples'
    )


def given_samples(sources: Any, model: Model) -> torch.Tensor:
    """Clean samples that a user gave, checked.

    Args:
        sources: Samples, shape ``(S, *sample_shape)``.
        model: The model.

    Returns:
        float32 on the CPU.

    Raises:
        InputError: If their shape does not fit the model.
    """
    import torch

    samples = torch.as_tensor(np.asarray(sources) if isinstance(sources, list) else sources)
    if tuple(samples.shape[1:]) != tuple(model.sample_shape) or len(samples) == 0:
        raise InputError(
            "given sources have the wrong shape",
            got=tuple(samples.shape),
            wanted="(S, " + ", ".join(str(n) for n in model.sample_shape) + ") with S >= 1",
        )
    return samples.detach().to(device="cpu", dtype=torch.float32)
