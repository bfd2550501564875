"""The privacy audit: can members be told, at which noise, and is any image memorised?

Everything is a function of scores (one number per image, level and replicate) and of which images
are members. Scores come from a run folder (:mod:`critwin.audits.privacy_runs`), or are measured
in memory by :func:`privacy_audit`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.audits.findings import PrivacyAudit, ScoreCurve, collapse_of, conclude
from critwin.audits.memorised import find_memorised, returns_of_scores
from critwin.audits.overlap import (
    Images,
    check_alike,
    check_overlap,
    find_overlap,
    given_images,
    images_of_folder,
)
from critwin.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from critwin.audits._scores import Scores
    from critwin.features.base import Comparison
    from critwin.models.base import Model

    Array = NDArray[np.float64]

__all__ = ["PrivacyAudit", "ScoreCurve", "conclude", "privacy_audit"]

LEVELS = (0.1, 0.25, 0.5, 0.8, 1.2, 1.8)
"""OU times at which images are scored unless told otherwise."""


def privacy_audit(
    model: str | Model,
    members: ArrayLike | str | Path,
    nonmembers: ArrayLike | str | Path,
    levels: ArrayLike = LEVELS,
    *,
    unit: str = "t",
    attacks: Sequence[str] = ("loss", "pia", "secmi", "forward-reverse"),
    comparisons: Sequence[Comparison] = (),
    replicates: int = 1,
    steps: int | None = None,
    groups: Sequence[str] | None = None,
    training: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    seed: int = 0,
    batch_size: int = 16,
    confidence: float = 0.95,
    progress: Callable[[str, int, int], None] | None = None,
) -> PrivacyAudit:
    """Audit a model in memory.

    Args:
        model: A model, or the name of one.
        members: Images that it was trained on: clean samples, shape ``(N, *sample_shape)``, or a
            folder.
        nonmembers: Images of the same kind that it was not trained on.
        levels: Noise levels, shape ``(L,)``.
        unit: Their unit.
        attacks: Any of ``"loss"``, ``"pia"``, ``"secmi"`` and ``"forward-reverse"``.
        comparisons: Further distances of source and result; a comparison ``neighbours`` whose
            pool starts with the members, then holds the non-members, finds memorised images.
        replicates: Fresh noises of an image at a level.
        steps: Steps of the whole schedule of a reversal; the model's own unless given.
        groups: Group of every member (e.g. how often it was repeated), length of the members.
        training: Training images that predict the collapse; the members unless given.
        weights: How often an epoch shows each of them.
        seed: Seed of all random streams.
        batch_size: Number of rows of every batch.
        confidence: Of the intervals.
        progress: Called with what is measured, and how many images are done and in all.

    Returns:
        The audit.

    Raises:
        InputError: If the sets are empty, overlap or differ in preparation, or an argument cannot
            be used.
    """
    import torch

    from critwin.audits.attacks import ATTACKS, Asked, ask, forward_reverse_scores
    from critwin.experiments.units import resolve_levels
    from critwin.levels import to_logsnr
    from critwin.models.registry import load_model

    engine = load_model(model)
    known = (*ATTACKS, "forward-reverse")
    if not attacks or (unknown := [name for name in attacks if name not in known]):
        raise InputError(
            "unknown attack",
            got=unknown[0] if attacks else "none",
            wanted="some of " + ", ".join(known),
        )
    sides = [
        _images(engine, given, what)
        for given, what in ((members, "member"), (nonmembers, "nonmember"))
    ]
    check_alike(*sides)
    overlap = find_overlap(*sides)
    check_overlap(overlap)
    wanted = to_logsnr(np.atleast_1d(np.asarray(levels, dtype=np.float64)), unit)
    logsnr = np.array([lv.effective for lv in resolve_levels(wanted, engine.levels, unit=unit)])
    clean = torch.cat([_clean(engine, side, batch_size) for side in sides])
    names = [name for side in sides for name in side.names]
    images = Asked(clean, names=names, seed=seed, batch_size=batch_size)
    found: list[Scores] = []
    tell = progress or (lambda what, done, total: None)
    single = [name for name in attacks if name in ATTACKS]
    if single:
        found += ask(
            engine,
            images,
            logsnr,
            attacks=single,
            replicates=replicates,
            progress=lambda done, total: tell(", ".join(single), done, total),
        ).values()
    if "forward-reverse" in attacks:
        found += forward_reverse_scores(
            engine,
            images,
            logsnr,
            comparisons,
            replicates=replicates,
            steps=steps,
            progress=lambda done, total: tell("forward-reverse", done, total),
        )
    is_member = np.arange(len(names)) < len(sides[0])
    own = None
    if groups is not None:
        if len(groups) != len(sides[0]):
            raise InputError("groups do not fit the members", got=len(groups))
        own = [*groups, *[""] * len(sides[1])]
    memorised = None
    if any(score.kind.startswith("forward-reverse neighbours.") for score in found):
        pool = next(c for c in comparisons if c.name == "neighbours")
        in_pool = np.arange(len(pool.names)) < len(sides[0])  # type: ignore[attr-defined]
        memorised = find_memorised(returns_of_scores(found, names), in_pool)
    spent = [_spent(score) for score in found if not score.kind.startswith("forward-reverse ")]
    spent += [_spent(s) for s in found if s.kind == "forward-reverse pixels"]
    return conclude(
        [s for s in found if "neighbours." not in s.kind],
        is_member,
        pixels=np.concatenate([side.pixels for side in sides]),
        groups=own,
        collapse=collapse_of(
            clean[: len(sides[0])].numpy() if training is None else np.asarray(training),
            None if weights is None else np.asarray(weights),
            source="the members given" if training is None else "the training data",
        ),
        nearest=overlap.nearest,
        memorised=memorised,
        evaluations=float(np.sum(spent)),
        seed=seed,
        confidence=confidence,
    )


def _images(model: Model, given: Any, what: str) -> Images:
    if isinstance(given, str | Path):
        import torch

        shape = tuple(model.decode(torch.zeros((1, *model.sample_shape))).shape[1:])
        return images_of_folder(given, shape=shape, what=f"{what}s")
    array = given.detach().cpu().numpy() if hasattr(given, "detach") else np.asarray(given)
    if array.shape[1:] != tuple(model.sample_shape):
        raise InputError(
            f"the {what}s have the wrong shape",
            got=array.shape,
            wanted="(N, " + ", ".join(str(n) for n in model.sample_shape) + "), or a folder",
        )
    return given_images(array, what=what)


def _clean(model: Model, side: Images, batch_size: int) -> Any:
    """Images of files through the model's encoder; given samples as they are."""
    import torch

    from critwin.experiments.padding import padded_rows

    tensor = torch.from_numpy(np.ascontiguousarray(side.pixels))
    if "format" not in side.kinds:
        return tensor
    encode = getattr(model, "encode", None)
    if not callable(encode):
        raise InputError(
            f"model {model.name!r} cannot take images from files",
            wanted="a model with an encoder",
            next_step="give clean samples",
        )
    out = []
    with torch.no_grad():
        for start in range(0, len(tensor), batch_size):
            rows = tensor[start : start + batch_size]
            encoded = encode(rows[padded_rows(len(rows), batch_size)])
            out.append(encoded[: len(rows)].to("cpu", torch.float32))
    return torch.cat(out)


def _spent(score: Scores) -> float:
    """Evaluations that all images of a score needed; one path serves all levels of SecMI."""
    num, _, replicates = score.values.shape
    if score.kind == "secmi":
        return float(num * score.evaluations.max())
    return float(num * (score.shared + replicates * np.sum(score.evaluations)))
