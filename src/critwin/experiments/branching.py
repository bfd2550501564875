"""Experiments on the model's own generations: clone, change the condition, look ahead.

A source is a generation that stops at every level of the plan. What is read off its end is
``before``; ``after`` is read off

- **clone**: another end from the same state ``x_t``. Given ``x_t`` the two ends are independent,
  so with an exact reversal
  ``P(after = j | before = i) = E[P(i | x_t) P(j | x_t)] / w_i = C_t[i, j]``:
  the same table as forward–reverse from fresh samples. Where they differ, the reversal is not the
  posterior (an ODE keeps everything: its clones are all alike), or the noised sources do not have
  the law of the model's own states (an inexact score).
- **prompt switch**: an end under another condition, from the same state.
- **preview**: the clean sample that the denoiser expects at ``x_t``, which is no sample of the
  model: blurred where much is open, read by a labeller made for sharp images. It is another
  criterion than a window, and settles at another time.

Source: Li, Karan & Chen (2025), *Blink of an eye*, sec. 3; Raya & Ambrogioni (2023), *Spontaneous
symmetry breaking in generative diffusion models*, for late starts; Hertz et al. (2023),
*Prompt-to-prompt*, for conditions that change on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.experiments.in_memory import in_memory, loaded_parts
from critwin.experiments.sources import plan_generated
from critwin.experiments.spec import Spec, check_condition, choose_reversal
from critwin.experiments.units import resolve_levels
from critwin.models.base import trajectories_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from critwin.experiments.measuring import Progress
    from critwin.experiments.units import Level
    from critwin.features.base import Feature
    from critwin.models.base import Model
    from critwin.records import Records

__all__ = ["clone", "preview", "prompt_switch", "stops_of"]


def clone(
    model: str | Model,
    features: str | Feature | Sequence[str | Feature],
    levels: ArrayLike,
    **options: Any,
) -> Records:
    """Stop generations at levels and repeat the rest of each from the same state.

    Args:
        model: A model that can stop on its way, or the name of one.
        features: Features to read, or names of them.
        levels: Noise levels in ``unit``, in order, shape ``(L,)``.
        **options: ``unit, num_sources, conditions, reversal, steps, guidance, replicates,
            batch_size, seed, max_invalid, progress`` as for
            :func:`critwin.experiments.forward_reverse.forward_reverse`.

    Returns:
        Records, sorted: a row per generation, level and replicate.

    Raises:
        InputError: If an argument cannot be used, or the model cannot stop on its way.
        TooManyInvalidError: If the share of invalid results is above the limit.

    Source:
        Li, Karan & Chen (2025), *Blink of an eye*, sec. 3.
    """
    return _branch("clone", model, features, levels, **options)


def prompt_switch(
    model: str | Model,
    features: str | Feature | Sequence[str | Feature],
    levels: ArrayLike,
    *,
    condition: str | None,
    **options: Any,
) -> Records:
    """Generate under each source's condition, and go on under another one from a level.

    Args:
        model: A model that can stop on its way, or the name of one.
        features: Features to read, or names of them.
        levels: Noise levels in ``unit`` at which the condition changes, shape ``(L,)``.
        condition: The condition from there on; None: unconditional.
        **options: As for :func:`clone`; ``conditions`` are those under which generations begin.

    Returns:
        Records, sorted: ``condition`` holds the new condition, ``planted["source_condition"]``
        the old one, ``before`` what the generation would have become.

    Raises:
        InputError: If an argument cannot be used, or the model cannot stop on its way.
        TooManyInvalidError: If the share of invalid results is above the limit.
    """
    asked = "none" if condition is None else condition
    return _branch("prompt_switch", model, features, levels, condition=asked, **options)


def preview(
    model: str | Model,
    features: str | Feature | Sequence[str | Feature],
    levels: ArrayLike,
    **options: Any,
) -> Records:
    """Read features off the clean sample that is expected at each level of a generation.

    Args:
        model: A model that can look ahead, or the name of one.
        features: Features to read, or names of them.
        levels: Noise levels in ``unit``, in order, shape ``(L,)``.
        **options: As for :func:`clone`, without ``replicates``: nothing is drawn.

    Returns:
        Records, sorted: a row per generation and level.

    Raises:
        InputError: If an argument cannot be used, or the model cannot stop on its way.
        TooManyInvalidError: If the share of invalid results is above the limit.
    """
    return _branch("preview", model, features, levels, **options)


def stops_of(levels: Sequence[Level]) -> tuple[Level, ...]:
    """Levels in the order in which a generation meets them, noise falling."""
    return tuple(sorted(levels, key=lambda level: level.effective))


def _branch(
    experiment: str,
    model: str | Model,
    features: str | Feature | Sequence[str | Feature],
    levels: ArrayLike,
    *,
    unit: str = "logsnr",
    num_sources: int = 48,
    conditions: Sequence[str | None] = (),
    condition: str = "same",
    reversal: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    replicates: int = 1,
    batch_size: int = 16,
    seed: int = 0,
    max_invalid: float = 0.05,
    progress: Callable[[Progress], None] | None = None,
) -> Records:
    from critwin.levels import to_logsnr

    engine, loaded = loaded_parts(model, features)
    trajectories_of(engine)
    dealt = [None if c == "none" else c for c in conditions]
    for name in {*dealt, None if condition in ("same", "none") else condition}:
        check_condition(engine, name)
    requested = to_logsnr(np.atleast_1d(np.asarray(levels, dtype=np.float64)), unit)
    resolved = resolve_levels(requested, engine.levels, unit=unit)
    spec = Spec(
        sources=tuple(plan_generated(num_sources, dealt, kind="trajectory")),
        levels=resolved,
        num_merged=len(requested) - len(resolved),
        reversal=choose_reversal(engine, reversal),
        condition=condition,
        steps=steps,
        guidance=guidance,
        replicates=replicates,
        batch_size=batch_size,
        seed=seed,
        experiment=experiment,
        stops=stops_of(resolved),
    )
    return in_memory(engine, loaded, spec, max_invalid=max_invalid, progress=progress)
