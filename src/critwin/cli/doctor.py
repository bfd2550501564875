"""``critwin doctor``: whether everything that runs need works here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

__all__ = ["doctor"]


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check versions, devices, weights, folders, SQLite and plugins; exit code 2 if broken."""
    from critwin.cli._output import print_json, say, table
    from critwin.errors import InputError

    facts, problems = _examine()
    if as_json:
        print_json({"is_healthy": not problems, "problems": problems, **facts})
    else:
        rows = [(name, _text(value)) for name, value in facts.items()]
        say(table(rows))
        for line in problems:
            say(f"problem: {line}")
        if not problems:
            say("all good")
    if problems:
        raise InputError(f"{len(problems)} problem(s) found", got=problems[0])


def _examine() -> tuple[dict[str, Any], list[str]]:
    """Facts about this installation, and what is wrong with it."""
    import sqlite3

    import torch

    from critwin.runs.folder import environment
    from critwin.streams import canary

    problems: list[str] = []
    facts: dict[str, Any] = dict(environment())
    facts["torch threads"] = torch.get_num_threads()
    has_cuda = torch.cuda.is_available()
    facts["cuda"] = torch.cuda.get_device_name(0) if has_cuda else "none"
    facts["random streams"] = canary()
    facts["sqlite"] = sqlite3.sqlite_version
    facts["write-ahead log here"] = _write_ahead_log(problems)
    facts["shipped weights"] = _weights(problems)
    for kind, names in _plugins().items():
        facts[kind] = names
    return facts, problems


def _write_ahead_log(problems: list[str]) -> str:
    """Whether a ledger can be written in the current folder, and how."""
    import tempfile
    from pathlib import Path

    from critwin.errors import RunFolderError
    from critwin.runs.ledger import Ledger

    try:
        with (
            tempfile.TemporaryDirectory(dir=".", prefix=".critwin-doctor-") as folder,
            Ledger.create(Path(folder)) as ledger,
        ):
            return "works" if ledger.is_wal else "does not work; a slower way is used"
    except (OSError, RunFolderError) as error:
        problems.append(f"the current folder is not writable: {error}")
        return "not writable"


def _weights(problems: list[str]) -> str:
    """Whether the shipped weights are those that were shipped."""
    from critwin.errors import CritwinError
    from critwin.models.registry import load_model

    try:
        model = load_model("digits")
    except (CritwinError, OSError) as error:
        problems.append(f"the shipped digits model cannot be loaded: {error}")
        return "damaged"
    return f"intact, fingerprint {model.fingerprint}"


def _plugins() -> dict[str, list[str]]:
    from importlib import metadata

    return {
        f"plugins: {kind}": sorted(
            f"{point.name} ({point.value})"
            for point in metadata.entry_points(group=f"critwin.{kind}")
        )
        for kind in ("models", "features")
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return str(value)
