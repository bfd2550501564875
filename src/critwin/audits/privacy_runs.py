"""The privacy audit of a run folder: what the ledger holds, and network scores beside it.

Forward–reverse scores are read from the ledger and cost nothing. Scores that ask the network for
single predictions are measured in chunks, each kept as a file under ``audits/privacy-scores`` of
the run folder, so that a killed audit goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import io
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.audits._scores import Scores, check_columns, membership_of, scores_of_records
from critwin.audits.findings import PrivacyAudit, collapse_of, conclude
from critwin.audits.memorised import find_memorised, returns_of_records
from critwin.audits.overlap import (
    Images,
    check_alike,
    check_overlap,
    find_overlap,
    given_images,
)
from critwin.audits.section import FOLDER, keep_file, save
from critwin.errors import InputError, RunFolderError
from critwin.runs.folder import Run, open_run
from critwin.runs.ledger import Ledger

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.models.base import Model
    from critwin.records import Records

    Array = NDArray[np.float64]

__all__ = ["audit_run"]

_CHUNK = 128
_SHOWN = 12  # thumbnails
_MAX_BYTES = 2**30
_GROUP = "multiplicity"


@dataclass(frozen=True, eq=False)
class _Sources:
    """Valid sources of a run in the order of their names."""

    names: list[str]
    is_member: NDArray[np.bool_]
    clean: NDArray[np.float32]
    conditions: list[str | None]
    planted: list[Mapping[str, str]]


def audit_run(
    run: Run | str | Path,
    *,
    attacks: Sequence[str] = (),
    model: Model | None = None,
    replicates: int = 1,
    group: str | None = None,
    confidence: float = 0.95,
    rerun: str = "",
    keep: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> PrivacyAudit:
    """Audit a run whose sources are members and non-members.

    Args:
        run: The run, or its folder. Its sources carry a planted column ``member`` (yes or no), or
            ``is_member`` as those of the digits with ``part = "all"``.
        attacks: Attacks that ask the network: any of ``"loss"``, ``"pia"``, ``"secmi"``.
        model: The model that was measured; loaded by its name if an attack needs it.
        replicates: Fresh noises of an image at a level, for the loss.
        group: Planted column whose values group the members; ``multiplicity`` if there is one.
        confidence: Of the intervals.
        rerun: Command that does this audit again, for the report.
        keep: Whether to keep the result in the run folder.
        progress: Called with what is measured, and how many images are done and in all.

    Returns:
        The audit.

    Raises:
        InputError: If the run does not say who is a member, the sets overlap, or the model is not
            the one that was measured.
        RunFolderError: If the folder cannot be read or written.
    """
    from critwin.audits.attacks import check_attacks

    check_attacks(attacks)
    own = run if isinstance(run, Run) else open_run(run)
    check_columns((name for row in own.sources() for name in row["planted"]), group)
    records = own.records()
    sources = _sources(own, records)
    sides = _sides(sources)
    check_alike(*sides)
    overlap = find_overlap(*sides)
    check_overlap(overlap)
    price: dict[float, float] = {}
    scores: list[Scores] = []
    spent = 0.0
    engine = model
    if attacks and engine is None:
        engine = _load(own)
    if engine is not None:
        price = _prices(own, engine, records)
    scores += scores_of_records(records, sources.names, evaluations=price)
    if attacks:
        assert engine is not None
        found, spent = _asked(own, engine, sources, records, attacks, replicates, progress)
        scores += found
    column = group if group is not None else _GROUP
    groups = [planted.get(column, "") for planted in sources.planted]
    memorised, reasons = _memorised(records, sources)
    pixels = _shaped(own, sources.clean, engine)
    audit = conclude(
        scores,
        sources.is_member,
        pixels=pixels,
        groups=groups if any(groups) else None,
        collapse=_collapse(own, sources, groups if any(groups) else None),
        nearest=overlap.nearest,
        memorised=memorised,
        evaluations=spent,
        seed=own.config.run.seed,
        confidence=confidence,
        reasons=reasons,
    )
    audit = replace(audit, images=_thumbnails(audit, sources, pixels))
    if keep:
        save(
            audit.section(rerun=rerun),
            own.path,
            result=audit.as_dict(),
            parameters={
                "attacks": list(attacks),
                "replicates": replicates,
                "group": group,
                "confidence": confidence,
            },
        )
    return audit


def _sources(run: Run, records: Records) -> _Sources:
    names, is_member = membership_of(records)
    member = dict(zip(names.tolist(), is_member.tolist(), strict=True))
    with Ledger.read(run.path) as ledger:
        rows = [row for row in ledger.sources() if row["is_valid"] and row["name"] in member]
    rows.sort(key=lambda row: str(row["name"]))
    flags = np.array([member[row["name"]] for row in rows], dtype=np.bool_)
    if not flags.any() or flags.all():
        raise InputError(
            "no " + ("non-members" if flags.any() else "members") + " among the valid sources"
        )
    return _Sources(
        names=[str(row["name"]) for row in rows],
        is_member=flags,
        clean=np.stack([row["clean"] for row in rows]),
        conditions=[row["condition"] for row in rows],
        planted=[row["planted"] for row in rows],
    )


def _sides(sources: _Sources) -> tuple[Images, Images]:
    out = []
    for side, what in ((sources.is_member, "member"), (~sources.is_member, "nonmember")):
        rows = np.flatnonzero(side)
        images = given_images(sources.clean[rows], what=what)
        names = tuple(
            sources.planted[row].get("file") or sources.names[row] for row in rows.tolist()
        )
        out.append(Images(pixels=images.pixels, names=names, kinds=images.kinds))
    return out[0], out[1]


def _load(run: Run) -> Model:
    from critwin.models.registry import load_model

    section = run.config.model
    model = load_model(section.name, **section.options)
    _check_model(run, model)
    return model


def _check_model(run: Run, model: Model) -> None:
    wanted = run.info["model"]["fingerprint"]
    if str(model.fingerprint) != wanted:
        raise RunFolderError(
            "the model is not the one that was measured",
            got=str(model.fingerprint),
            wanted=str(wanted),
            next_step="give the audit the command that made the run, or the same version",
        )


def _prices(run: Run, model: Model, records: Records) -> dict[float, float]:
    tell = getattr(model, "num_evaluations", None)
    if tell is None:
        return {}
    choices = run.config.denoise
    options = {
        "steps": choices.steps,
        "reversal": run.info["reversal"],
        "guidance": choices.guidance,
    }
    return {float(lv): float(tell(float(lv), **options)) for lv in np.unique(records.logsnr)}


def _asked(
    run: Run,
    model: Model,
    sources: _Sources,
    records: Records,
    attacks: Sequence[str],
    replicates: int,
    progress: Callable[[str, int, int], None] | None,
) -> tuple[list[Scores], float]:
    """Scores of single predictions, from files where they are, and evaluations made now."""
    import torch

    from critwin.audits.attacks import Asked, ask

    _check_model(run, model)
    levels = np.unique(records.logsnr)[::-1]
    config, shape = run.config, tuple(model.sample_shape)
    out, spent = [], 0.0
    for attack in attacks:
        parts: list[Scores] = []
        for start in range(0, len(sources.names), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(sources.names)))
            key = (
                run.info["model"]["fingerprint"],
                attack,
                levels.tolist(),
                replicates if attack == "loss" else 1,
                [sources.names[row] for row in rows],
                config.run.seed,
                config.run.batch_size,
            )
            digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
            name = f"{FOLDER}/privacy-scores/{attack}-{digest}.npz"
            part = _read(run.path / name, attack, levels, len(rows))
            if part is None:
                images = Asked(
                    torch.from_numpy(sources.clean[list(rows)].reshape(len(rows), *shape)),
                    names=[sources.names[row] for row in rows],
                    conditions=[sources.conditions[row] for row in rows],
                    seed=config.run.seed,
                    batch_size=config.run.batch_size,
                )
                part = ask(model, images, levels, attacks=[attack], replicates=replicates)[attack]
                spent += _cost(part)
                _write(run.path, name, part)
            parts.append(part)
            if progress is not None:
                progress(attack, rows[-1] + 1, len(sources.names))
        out.append(
            Scores(
                kind=attack,
                logsnr=levels,
                values=np.concatenate([part.values for part in parts]),
                evaluations=parts[0].evaluations,
                shared=parts[0].shared,
            )
        )
    return out, spent


def _cost(scores: Scores) -> float:
    num, _, replicates = scores.values.shape
    if scores.kind == "secmi":  # one path serves all levels
        return float(num * scores.evaluations.max())
    return float(num * (scores.shared + replicates * scores.evaluations.sum()))


def _write(folder: Path, name: str, scores: Scores) -> None:
    stream = io.BytesIO()
    np.savez(
        stream,
        values=scores.values,
        evaluations=scores.evaluations,
        shared=np.array(scores.shared),
    )
    keep_file(folder, name, stream.getvalue())


def _read(path: Path, kind: str, levels: Array, num: int) -> Scores | None:
    """Scores kept earlier; None if there are none, or they cannot be read."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        with np.load(path, allow_pickle=False) as archive:
            found = Scores(
                kind=kind,
                logsnr=levels,
                values=archive["values"],
                evaluations=archive["evaluations"],
                shared=int(archive["shared"]),
            )
    except (OSError, ValueError, KeyError, InputError):
        return None
    return found if len(found.values) == num else None


def _memorised(records: Records, sources: _Sources) -> tuple[Any, dict[str, str]]:
    """Memorised images, if the run compared results with a pool of the sources themselves."""
    if "neighbours.home" not in records.values:
        return None, {"memorised": "the run did not look for neighbours of its results"}
    items = {
        int(name[1:]): member
        for name, member in zip(sources.names, sources.is_member.tolist(), strict=True)
        if name[:1] == "d" and name[1:].isdigit()
    }
    size = int(np.nanmax(records.values["neighbours.home"])) + 1
    in_pool = np.array([items.get(item, False) for item in range(size)], dtype=np.bool_)
    if not items:
        return None, {"memorised": "the pool of the neighbours is not the set of sources"}
    try:
        return find_memorised(returns_of_records(records, sources.names), in_pool), {}
    except InputError as error:
        return None, {"memorised": str(error)}


def _shaped(run: Run, clean: Any, model: Model | None) -> Any:
    """Clean samples in their shape, if it is known from the model or from a kept image."""
    shape = None if model is None else tuple(model.sample_shape)
    if shape is None:
        from PIL import Image

        for kept in run.images():
            if kept.logsnr is None:
                with Image.open(kept.path) as image:
                    shape = (len(image.getbands()), image.size[1], image.size[0])
                break
    if shape is None or int(np.prod(shape)) != clean.shape[1]:
        return clean
    return clean.reshape(len(clean), *shape)


def _thumbnails(
    audit: PrivacyAudit, sources: _Sources, pixels: Any
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The candidates that return farthest, each beside its neighbour."""
    found = audit.memorised
    if found is None or pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        return ()
    from critwin.runs.files import png

    shown = pixels if pixels.min() >= 0.0 else pixels / 2.0 + 0.5
    flat = pixels.reshape(len(pixels), -1)
    where = {name: row for row, name in enumerate(sources.names)}
    by_item = {int(n[1:]): row for n, row in where.items() if n[1:].isdigit()}
    out = []
    for one in found.candidates[: min(max(found.num_found, 3), _SHOWN)]:
        row, other = where[one.name], by_item.get(one.home)
        if other is None or other == row:
            gap = np.square(flat - flat[row]).sum(axis=1)
            gap[row] = np.inf
            gap[~sources.is_member] = np.inf
            other = int(np.argmin(gap))
        until = "not at all" if one.t_return is None else f"up to t = {one.t_return:.2f}"
        name = sources.planted[row].get("file") or one.name
        files = [b64encode(png(shown[i])).decode("ascii") for i in (row, other)]
        out.append((f"{name}: returns {until}, q = {one.q_value:.2g}", tuple(files)))
    return tuple(out)


def _collapse(run: Run, sources: _Sources, groups: Sequence[str] | None) -> dict[str, Any]:
    """Predicted from the training data if they are known, else from the members."""
    from critwin.models.training import training_data

    rows = np.flatnonzero(sources.is_member)
    points: Any = sources.clean[rows]
    weights: Array | None = None
    source = "the members of this run"
    own = None if groups is None else [groups[row] for row in rows.tolist()]
    section = run.config.model
    data = training_data(section.name, list(run.labels), section.options)
    if data is not None and data.points.shape[1] == points.shape[1]:
        points, weights, source = data.points, data.weights, "the training data"
        if groups is not None:
            own = [f"{weight:g}" for weight in data.weights.tolist()]
            if not set(groups) & set(own):
                own = None
    return collapse_of(points, weights, source=source, groups=own)
