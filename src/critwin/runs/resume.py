"""Going on with a run folder: what may grow, what may not change, what only warns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import RunFolderError
from critwin.experiments.search_levels import candidate_levels
from critwin.experiments.units import same_level
from critwin.levels import from_logsnr, grid, ou_time, to_logsnr
from critwin.runs.config import (
    ExperimentFile,
    LevelsSection,
    digest_of,
    frozen_part,
    parse_config,
)
from critwin.runs.files import MANIFEST_NAME
from critwin.runs.folder import RUN_NAME, read_info
from critwin.runs.ledger import LEDGER_NAME
from critwin.runs.lock import LOCK_NAME

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.experiments.sources import Source

__all__ = [
    "check_config",
    "check_identity",
    "check_source",
    "next_info",
    "occupied_by",
    "requested_levels",
]

_OURS = {RUN_NAME, LOCK_NAME, LEDGER_NAME, MANIFEST_NAME, "experiment.toml"}


def requested_levels(section: LevelsSection | None) -> NDArray[np.float64]:
    """Requested levels of an experiment file.

    Args:
        section: Section ``[levels]``; None: an experiment that starts from pure noise.

    Returns:
        The logsnr, in the order of the file, shape ``(L,)``; of a range, those that a search may
        choose.

    Raises:
        InputError: If a level is out of range for its unit.
    """
    if section is None:
        return np.zeros(0)
    if section.values is not None:
        return to_logsnr(np.array(section.values), section.unit)
    assert section.start is not None  # the section was checked
    assert section.stop is not None
    if section.count is None:
        ends = np.sort(ou_time(to_logsnr(np.array([section.start, section.stop]), section.unit)))
        return candidate_levels(float(ends[0]), float(ends[1]))
    return grid(section.start, section.stop, section.count, unit=section.unit)


def occupied_by(folder: Path) -> dict[str, Any] | None:
    """The run that a folder holds already.

    Args:
        folder: The folder of a run; it need not exist.

    Returns:
        Its ``run.json``; None if the folder is free.

    Raises:
        RunFolderError: If it is a file, or holds something else.
    """
    if folder.is_file():
        raise RunFolderError(
            "the run folder is a file", got=str(folder), next_step="choose another `out`"
        )
    try:
        names = [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunFolderError(
            "cannot use the run folder",
            got=f"{folder} ({error.strerror})",
            next_step="choose another `out`",
        ) from error
    info = read_info(folder)
    strange = sorted(n for n in names if not _is_ours(n))
    if info is None and strange:
        raise RunFolderError(
            f"the folder {str(folder)!r} holds something else",
            got=", ".join(strange[:3]) + (", …" if len(strange) > 3 else ""),
            wanted="a new or empty folder, or a run to go on with",
            next_step="choose another `out`",
        )
    return info


def check_config(old: Mapping[str, Any], new: ExperimentFile) -> list[str]:
    """Compare an experiment file with the one a run was started with.

    Args:
        old: The config in ``run.json``.
        new: The experiment file.

    Returns:
        What has grown, one line each.

    Raises:
        RunFolderError: If a change can change numbers, or leaves out what is measured.
    """
    now = new.as_dict()
    changed = list(_differences(frozen_part(old), frozen_part(now)))
    grown = []
    for section, key in (("sources", "count"), ("experiment", "replicates")):
        before, after = old[section][key], now[section][key]
        if after < before:
            changed.append(f"{section}.{key}: {before} -> {after} (it may only grow)")
        elif after > before:
            grown.append(f"{section}.{key}: {before} -> {after}")
    had = requested_levels(parse_config(old).levels).tolist()
    has = requested_levels(new.levels).tolist()
    if lost := [a for a in had if not any(same_level(a, b) for b in has)]:
        unit = "t" if new.levels is None else new.levels.unit
        text = ", ".join(f"{unit} = {v:.6g}" for v in from_logsnr(np.array(lost[:3]), unit))
        changed.append(
            f"levels: {len(lost)} measured ones are left out ({text}; they may only grow)"
        )
    elif len(has) > len(had):
        grown.append(f"levels: {len(had)} -> {len(has)}")
    grown += _differences(old.get("search", {}), now.get("search", {}), "search")
    if changed:
        raise RunFolderError(
            "the run folder holds a run with other settings",
            got="; ".join(changed),
            wanted="the settings it was started with",
            next_step="restore them, or choose another `out`",
        )
    return grown


def check_identity(old: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Compare what a run was started on with what it would go on with.

    Args:
        old: ``run.json``.
        now: The same entries for this process.

    Returns:
        Warnings, one line each: versions and platform that differ.

    Raises:
        RunFolderError: If the model, a feature, the random streams or the threads differ.
    """
    changed = []
    if old.get("shard") != now.get("shard"):
        changed.append(f"shard: {_shard(old)} -> {_shard(now)}")
    for name, what in (("model", "model"), ("canary", "random streams of torch")):
        if old[name] != now[name]:
            changed.append(f"{what}: {_text(old[name])} -> {_text(now[name])}")
    for before, after in zip(old["features"], now["features"], strict=True):
        if before != after:
            changed.append(f"feature {before['name']!r}: {_text(before)} -> {_text(after)}")
    for name in ("num_threads", "reversal", "comparisons"):
        if old[name] != now[name]:
            changed.append(f"{name}: {old[name]} -> {now[name]}")
    if changed:
        raise RunFolderError(
            "the run folder was measured with something else",
            got="; ".join(changed),
            wanted="the same, or the rows would not belong together",
            next_step="restore it, or choose another `out`",
        )
    warnings = [
        f"going on with another version: {line}"
        for line in _differences(old["versions"], now["versions"])
    ]
    if old["platform"] != now["platform"]:
        warnings.append(f"going on on another platform: {old['platform']} -> {now['platform']}")
    return warnings


def check_source(row: Mapping[str, Any], source: Source) -> None:
    """Refuse to go on with a source that has another condition than its rows.

    Args:
        row: The source in the ledger.
        source: The same source in the plan.

    Raises:
        RunFolderError: If its condition differs.
    """
    if row["condition"] != source.condition:
        raise RunFolderError(
            f"source {source.name!r} has another caption than when it was measured",
            got=source.condition or "none",
            wanted=row["condition"] or "none",
            next_step="restore the folder's metadata, or choose another `out`",
        )


def next_info(
    old: Mapping[str, Any] | None,
    config: ExperimentFile,
    now: Mapping[str, Any],
    grown: Sequence[str],
) -> dict[str, Any]:
    """What ``run.json`` says from now on.

    Args:
        old: What it says; None: there is none yet.
        config: The experiment file.
        now: What the run is measured with.
        grown: What the experiment file adds, one line each.

    Returns:
        Plain values.
    """
    plain = config.as_dict()
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    first = {"schema": 1, "created": moment, **now, "history": []} if old is None else dict(old)
    history = list(first.get("history", []))
    if grown:
        history.append({"when": moment, "grown": list(grown)})
    del plain["run"]["out"]
    return {
        **first,
        "history": history,
        "config": plain,
        "config_digest": digest_of(frozen_part(plain)),
    }


def _shard(info: Mapping[str, Any]) -> str:
    return "the whole run" if info.get("shard") is None else "{}/{}".format(*info["shard"])


def _is_ours(name: str) -> bool:
    bare = name.removeprefix(".").removesuffix(".tmp")
    for ending in ("-wal", "-shm", "-journal"):
        bare = bare.removesuffix(ending)
    return bare in _OURS


def _differences(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """Lines ``key: old -> new`` of what differs in nested plain values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{place}.{key}".lstrip("."))
    elif _is_list(old) and _is_list(new) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _differences(a, b, f"{place}.{index}")
    elif old != new or type(old) is not type(new):
        yield f"{place}: {_text(old)} -> {_text(new)}"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        if set(value) == {"name", "fingerprint"}:
            return f"{value['name']} {value['fingerprint']}"
        if "labels" in value:
            return f"{value['fingerprint']} with labels {', '.join(value['labels'])}"
    text = "not given" if value is None else str(value)
    return text if len(text) <= 80 else text[:79] + "…"
