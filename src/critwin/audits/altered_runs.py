"""How many steps the arms of a run alter; told by the model once, then kept in the run folder.

Loading a model takes longer than the whole of a fairness audit, and the numbers follow from what
the run folder says already: the model's fingerprint, the arms, the schedule and the reversal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

from critwin.audits.section import FOLDER, keep_file
from critwin.errors import InputError, RunFolderError
from critwin.experiments.arms import Arm, arms_of

if TYPE_CHECKING:
    from pathlib import Path

    from critwin.models.base import Model
    from critwin.runs.folder import Run

__all__ = ["arms_of_run", "segments_of", "steps_of_run"]

Segments: TypeAlias = Mapping[str, tuple[tuple[float | None, float, str], ...]]

_MAX_BYTES = 2**20


def arms_of_run(run: Run) -> tuple[Arm, ...]:
    """The arms that a run of interventions was asked for.

    Args:
        run: The run.

    Returns:
        The arms.
    """
    return arms_of(
        {
            arm.name: [part.model_dump(by_alias=True, exclude_none=True) for part in arm.segments]
            for arm in run.config.experiment.arm
        }
    )


def segments_of(arms: tuple[Arm, ...]) -> Segments:
    """Stretches of arms.

    Args:
        arms: The arms.

    Returns:
        Arm -> (from, to, condition) in OU time; None: from the start of the generation.
    """
    return {
        arm.name: tuple(
            (None if s.t_high == inf else s.t_high, s.t_low, s.condition) for s in arm.segments
        )
        for arm in arms
    }


def steps_of_run(run: Run, model: Model | None = None, *, keep: bool = True) -> dict[str, int]:
    """Steps that each arm of a run alters.

    Args:
        run: A run of interventions.
        model: The model that was measured; loaded by its name where the folder does not tell.
        keep: Whether to keep the numbers in the run folder.

    Returns:
        Arm -> number of steps; empty where neither the folder nor a model here tells.
    """
    from critwin.audits.altered import altered_steps

    arms = arms_of_run(run)
    fingerprint, reversal = str(run.info["model"]["fingerprint"]), str(run.info["reversal"])
    key = (fingerprint, reversal, run.config.denoise.steps, segments_of(arms))
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    name = f"{FOLDER}/fairness-steps/{digest}.json"
    if (known := _read(run.path / name, arms)) is not None:
        return known
    engine = model
    if engine is None:
        from critwin.models.registry import load_model

        try:
            engine = load_model(run.config.model.name, **run.config.model.options)
        except InputError:  # the model is not here: what was measured still is
            return {}
    if str(engine.fingerprint) != fingerprint:
        return {}
    found = altered_steps(engine, arms, steps=run.config.denoise.steps, reversal=reversal)
    if keep and found:
        with suppress(RunFolderError):  # a folder that cannot be written can still be audited
            keep_file(run.path, name, json.dumps(found).encode())
    return found


def _read(path: Path, arms: tuple[Arm, ...]) -> dict[str, int] | None:
    """What was kept; None where there is nothing, or not the steps of all these arms."""
    try:
        with path.open("rb") as stream:
            raw: Any = json.loads(stream.read(_MAX_BYTES))
        found = {arm.name: raw[arm.name] for arm in arms}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if all(type(n) is int and n >= 0 for n in found.values()) else None
