"""What an audit says: a question, its answer, a figure, a table, and what it cannot tell.

A section is plain data. It is kept in the run folder as ``audits/<name>.json``, beside the numbers
it was made from, and a report renders whatever sections it finds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol

from critwin.errors import InputError, RunFolderError
from critwin.estimates import plain
from critwin.runs.files import digest_bytes, read_manifest, write_atomic, write_manifest

__all__ = [
    "FOLDER",
    "Figure",
    "Outcome",
    "Section",
    "Series",
    "Table",
    "keep_file",
    "load_all",
    "plain_of",
    "save",
    "section_of",
]

FOLDER = "audits"
"""Folder of the sections inside a run folder."""

_SCHEMA = 1
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class Series:
    """A curve or a set of bars.

    Attributes:
        name: Its name in the legend.
        x: Numbers, or labels of bars.
        y: Numbers, None where there is none.
        low: Lower limits, or ``()``.
        high: Upper limits, or ``()``.
    """

    name: str
    x: tuple[float | str | None, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure as data.

    Attributes:
        kind: ``"curves"``, ``"bars"``, ``"flow"`` or ``"thumbnails"``.
        title: What it shows.
        x: Name of the horizontal axis.
        y: Name of the vertical axis.
        series: Curves or bars.
        spans: Shaded windows: name, from, to.
        images: Rows of thumbnails, each a caption and PNG files in base64.
        note: A sentence under it.
    """

    kind: Literal["curves", "bars", "flow", "thumbnails"]
    title: str
    x: str = ""
    y: str = ""
    series: tuple[Series, ...] = ()
    spans: tuple[tuple[str, float, float], ...] = ()
    images: tuple[tuple[str, tuple[str, ...]], ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; it is offered as a CSV file.

    Attributes:
        name: Name of the file, without ``.csv``.
        columns: Names of the columns.
        rows: Numbers, text, or None.
        note: A sentence or two under it: what is counted, what a column means.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the report, for a reader outside machine learning.

    Attributes:
        name: ``"fairness"``, ``"privacy"`` or ``"editing"``.
        title: Heading.
        question: The question, in words.
        answer: One sentence with its uncertainty.
        details: More sentences.
        figures: Figures.
        tables: Tables.
        limits: What the audit cannot tell.
        rerun: Command that does it again.
    """

    name: str
    title: str
    question: str
    answer: str
    details: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    limits: tuple[str, ...] = ()
    rerun: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        out: dict[str, Any] = plain(self)
        return out


class Outcome(Protocol):
    """What an audit returns."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ...

    def section(self) -> Section:
        """The section of the report."""
        ...


def save(
    section: Section | Outcome,
    run_folder: str | Path,
    *,
    result: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    slug: str | None = None,
) -> Path:
    """Keep a section in a run folder, with the numbers behind it.

    Args:
        section: The section, or the result of an audit, whose section it then is.
        run_folder: The run folder.
        result: The result as plain values; what the audit says of itself unless given.
        parameters: What the audit was asked.
        slug: Tells several audits of one name apart.

    Returns:
        The file, ``audits/<name>.json`` or ``audits/<name>-<slug>.json``.

    Raises:
        InputError: If the slug cannot be part of a file name.
        RunFolderError: If there is no run, or the file cannot be written.
    """
    from critwin.runs.folder import environment, open_run

    if slug is not None and not _SLUG.fullmatch(slug):
        raise InputError(
            "cannot name a file after this", got=slug, wanted="small letters, digits and -"
        )
    run = open_run(run_folder)
    if not isinstance(section, Section):
        result = section.as_dict() if result is None else result
        section = section.section()
    content = {
        "schema": _SCHEMA,
        "parameters": plain_of(parameters or {}),
        "versions": dict(environment()["versions"]),
        "ledger_digest": run.digest(),
        "result": plain_of(result or {}),
        "section": section.as_dict(),
    }
    name = section.name if slug is None else f"{section.name}-{slug}"
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    return keep_file(run.path, f"{FOLDER}/{name}.json", text.encode())


def keep_file(run_folder: Path, name: str, data: bytes) -> Path:
    """Write a file into a run folder and list it in the manifest, if there is one.

    Args:
        run_folder: The run folder.
        name: Path inside it, with ``/``.
        data: Its content.

    Returns:
        The file.

    Raises:
        RunFolderError: If it cannot be written.
    """
    path = run_folder / name
    write_atomic(path, data)
    digests = read_manifest(run_folder)
    if digests is not None:
        write_manifest(run_folder, {**digests, name: digest_bytes(data)})
    return path


def load_all(run_folder: str | Path) -> dict[str, dict[str, Any]]:
    """Everything that audits have kept in a run folder.

    Args:
        run_folder: The run folder.

    Returns:
        File name without ``.json`` -> content; ``"section"`` of it is a :class:`Section`.

    Raises:
        RunFolderError: If a file is damaged.
    """
    out = {}
    for path in sorted((Path(run_folder) / FOLDER).glob("*.json")):
        try:
            with path.open("rb") as stream:
                content = json.loads(stream.read(_MAX_BYTES))
            if content["schema"] != _SCHEMA:
                raise ValueError(f"schema {content['schema']}")
            content["section"] = section_of(content["section"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(
                f"{FOLDER}/{path.name} is damaged",
                got=f"{type(error).__name__}: {error}",
                next_step="remove it and run the audit again",
            ) from error
        out[path.stem] = dict(content)
    return out


def section_of(value: Mapping[str, Any]) -> Section:
    """A section from plain values.

    Args:
        value: As :meth:`Section.as_dict` gives it.

    Returns:
        The section.
    """
    own = dict(value)
    own["figures"] = tuple(
        Figure(
            **{
                **item,
                "series": tuple(
                    Series(
                        name=str(one["name"]),
                        **{k: tuple(v) for k, v in one.items() if k != "name"},
                    )
                    for one in item["series"]
                ),
                "spans": tuple(tuple(span) for span in item["spans"]),
                "images": tuple((caption, tuple(files)) for caption, files in item["images"]),
            }
        )
        for item in value["figures"]
    )
    own["tables"] = tuple(
        Table(
            name=item["name"],
            columns=tuple(item["columns"]),
            rows=tuple(tuple(row) for row in item["rows"]),
            note=str(item.get("note", "")),
        )
        for item in value["tables"]
    )
    for name in ("details", "limits"):
        own[name] = tuple(value[name])
    return Section(**{f.name: own[f.name] for f in fields(Section)})


def plain_of(value: Any) -> Any:
    """Nested values as JSON has them; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): plain_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_of(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return plain(value)
