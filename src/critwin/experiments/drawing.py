"""Drawing sources: one batch at a time, each read once by every feature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import BatchMemoryError, is_out_of_memory
from critwin.experiments.padding import padded_rows
from critwin.experiments.reading import decode_checked, read_batch
from critwin.experiments.sources import Source, SourceState, clean_samples
from critwin.experiments.trajectories import Waypoints, follow_sources

if TYPE_CHECKING:
    import torch

    from critwin.experiments.spec import Spec
    from critwin.features.base import Feature
    from critwin.models.base import Model

__all__ = ["measure_sources", "planted_columns", "within_memory"]


def measure_sources(
    sources: Sequence[Source],
    model: Model,
    features: Sequence[Feature],
    spec: Spec,
    *,
    given: torch.Tensor | None = None,
    waypoints: Waypoints | None = None,
) -> tuple[list[SourceState], torch.Tensor]:
    """Draw one batch of sources and read every feature off them, once.

    Args:
        sources: At most ``spec.batch_size`` sources.
        model: The model.
        features: The features.
        spec: The choices.
        given: Samples given in memory, shape ``(S, *sample_shape)``.
        waypoints: Gets the states of trajectories.

    Returns:
        A state per source, and the decoded sources (NaN where invalid).

    Raises:
        BatchMemoryError: If not even the smallest batch of the ladder fits.
        InputError: If sources cannot be had, or a labeller's answer is not one.
    """
    import torch

    for size in (spec.batch_size, *spec.batch_ladder):
        smaller = replace(spec, batch_size=size, batch_ladder=())
        try:
            parts = [
                _drawn(sources[start : start + size], model, features, smaller, given, waypoints)
                for start in range(0, len(sources), size)
            ]
        except BatchMemoryError as error:
            failure = error
            continue
        states = [state for part, _ in parts for state in part]
        if spec.batch_ladder:  # the shape of its batch is part of what fixes the bits of a source
            states = [
                replace(s, planted={**s.planted, "source_batch_size": str(size)}) for s in states
            ]
        return states, torch.cat([samples for _, samples in parts])
    raise failure


def _drawn(
    sources: Sequence[Source],
    model: Model,
    features: Sequence[Feature],
    spec: Spec,
    given: torch.Tensor | None,
    waypoints: Waypoints | None,
) -> tuple[list[SourceState], torch.Tensor]:
    import torch

    num = len(sources)
    with torch.no_grad(), within_memory(spec):
        if sources[0].kind == "trajectory":
            found = follow_sources(model, sources, spec)
            clean = found.clean
            planted = [{"source_condition": source.condition or ""} for source in sources]
            if waypoints is not None:
                waypoints.add(sources, found)
        else:
            clean, planted = clean_samples(
                model, sources, seed=spec.seed, batch_size=spec.batch_size, given=given
            )
        rows = padded_rows(num, spec.batch_size)
        decoded, is_valid = decode_checked(model, clean[rows])
        readings = read_batch(features, decoded, num)
    states = []
    for row, source in enumerate(sources):
        before = {}
        for name, reading in readings.items():
            probs = None if reading.probs is None else tuple(reading.probs[row].tolist())
            values = {key: float(value[row]) for key, value in reading.values.items()}
            before[name] = (int(reading.indices[row]), probs, values)
        states.append(
            SourceState(
                source=source,
                clean=clean[row],
                is_valid=bool(is_valid[row]),
                planted=planted[row],
                before=before,
            )
        )
    return states, decoded[:num]


def planted_columns(states: Sequence[SourceState]) -> dict[str, Any]:
    """Columns of the planted truth of some sources; ``""`` where one lacks a name.

    Args:
        states: Sources, one a row.

    Returns:
        Name -> strings, shape ``(N,)``.
    """
    names = sorted({name for state in states for name in state.planted})
    return {
        name: np.array([state.planted.get(name, "") for state in states], dtype=np.str_)
        for name in names
    }


@contextmanager
def within_memory(spec: Spec) -> Iterator[None]:
    """Say what to do when a batch does not fit.

    Args:
        spec: The choices; ``batch_size`` of them.

    Yields:
        Nothing.

    Raises:
        BatchMemoryError: If the block runs out of memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise BatchMemoryError(
            "a batch does not fit into memory",
            got=f"{spec.batch_size} rows",
            next_step="make batch_size smaller, in a new run folder, or declare smaller ones in "
            "batch_ladder"
            if spec.batch_size > 1
            else "use half precision or offload, or a smaller image",
        ) from error
