"""The run folder: ``run.json``, the ledger, images, and a manifest; opened for reading here.

Everything a report needs lies in the folder; neither the model nor the features are loaded.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from critwin.errors import RunFolderError
from critwin.records import Records, digest
from critwin.runs.files import (
    MANIFEST_NAME,
    digest_of_file,
    manifest_problems,
    read_manifest,
    write_atomic,
    write_manifest,
)
from critwin.runs.ledger import LEDGER_NAME, Ledger
from critwin.views import transitions_from_records

if TYPE_CHECKING:
    from critwin.runs.config import ExperimentFile
    from critwin.transitions import Transitions

__all__ = [
    "AUDITS_NAME",
    "RUN_NAME",
    "GalleryImage",
    "Run",
    "is_run_folder",
    "open_run",
    "verify_folder",
]

RUN_NAME = "run.json"
AUDITS_NAME = "audits"
SCHEMA = 1
_PACKAGES = (
    *("critwin", "torch", "numpy", "scipy", "pillow", "safetensors"),
    *("diffusers", "transformers", "tokenizers", "onnxruntime"),
)


@dataclass(frozen=True)
class GalleryImage:
    """An image that a run kept.

    Attributes:
        path: The file.
        source: Name of the source.
        logsnr: Effective level of a result; None for the source itself.
    """

    path: Path
    source: str
    logsnr: float | None


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder, read only. What is read is what was measured when it is read.

    Attributes:
        path: The folder.
        info: What ``run.json`` says: config, versions, fingerprints, features, counts.
    """

    path: Path
    info: Mapping[str, Any] = field(repr=False)

    @property
    def config(self) -> ExperimentFile:
        """The experiment file the run was started with."""
        from critwin.runs.config import parse_config

        return parse_config(self.info["config"])

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Labels of each feature, in the order of the experiment file."""
        return {item["name"]: tuple(item["labels"]) for item in self.info["features"]}

    def records(self) -> Records:
        """All rows, sorted, with priors and provenance.

        Returns:
            The records.

        Raises:
            RunFolderError: If nothing has been measured, or the ledger cannot be read.
        """
        with Ledger.read(self.path) as ledger:
            rows = ledger.records(self.labels)
            priors, attrs = ledger.meta("priors", {}), ledger.meta("attrs", {})
        if rows is None:
            raise RunFolderError(
                "nothing has been measured in this run folder yet",
                got=str(self.path),
                next_step="critwin run goes on with it",
            )
        return replace(rows, priors=priors, attrs=attrs)

    def digest(self) -> str:
        """SHA-256 over the sorted rows, without timings: equal digests, equal results."""
        return digest(self.records())

    def transitions(self, feature: str, **options: Any) -> Transitions:
        """Counted transitions of a feature or a product of features.

        Args:
            feature: E.g. ``"ink"`` or ``"ground*ink"``.
            **options: As for :func:`critwin.views.transitions_from_records`.

        Returns:
            The transitions.
        """
        return transitions_from_records(self.records(), feature, **options)

    def counts(self) -> dict[str, int]:
        """``num_units``, ``num_invalid``, ``num_sources`` and ``num_files`` so far."""
        with Ledger.read(self.path) as ledger:
            return ledger.counts()

    def sources(self) -> list[dict[str, Any]]:
        """Name, position, condition, validity, planted truth and readings of each source."""
        with Ledger.read(self.path) as ledger:
            return ledger.sources(with_clean=False)

    def images(self) -> list[GalleryImage]:
        """Images that were kept, sources in the order of the plan, noise growing in each."""
        with Ledger.read(self.path) as ledger:
            files = ledger.files()
            order = {row["name"]: row["position"] for row in ledger.sources(with_clean=False)}
        found = [GalleryImage(self.path / path, source, lv) for path, _, _, source, lv in files]
        return sorted(
            found,
            key=lambda image: (
                order.get(image.source, len(order)),
                image.logsnr is not None,
                -(image.logsnr or 0.0),
            ),
        )

    def timings(self) -> list[dict[str, Any]]:
        """One entry a batch: phase, logsnr, num_rows, seconds, finished."""
        with Ledger.read(self.path) as ledger:
            return ledger.timings()

    def warnings(self) -> list[str]:
        """What the writer of the run warned of."""
        with Ledger.read(self.path) as ledger:
            return list(ledger.meta("warnings", []))


def open_run(path: str | Path) -> Run:
    """Open a run folder for reading; it may be unfinished, or being written.

    Args:
        path: The folder.

    Returns:
        The run.

    Raises:
        RunFolderError: If it is not a run folder of this version.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise RunFolderError(
            "no such run folder", got=str(path), wanted="a folder that critwin run made"
        )
    info = read_info(folder)
    if info is None:
        raise RunFolderError(
            "not a run folder", got=str(path), wanted=f"a folder with {RUN_NAME} in it"
        )
    return Run(folder, MappingProxyType(info))


def is_run_folder(path: str | Path) -> bool:
    """Whether a path is a folder with a ``run.json``."""
    return (Path(path) / RUN_NAME).is_file()


def read_info(folder: Path) -> dict[str, Any] | None:
    """What ``run.json`` says.

    Args:
        folder: The run folder.

    Returns:
        Its content; None if there is none.

    Raises:
        RunFolderError: If it is damaged or of another version.
    """
    path = folder / RUN_NAME
    try:
        with path.open("rb") as stream:
            info = json.loads(stream.read(10_000_000))
        schema = info["schema"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunFolderError(f"cannot read {str(path)!r}", got=error.strerror) from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{str(path)!r} is damaged", got=str(error), next_step="critwin verify tells more"
        ) from error
    if schema != SCHEMA:
        raise RunFolderError(
            f"{str(path)!r} has another format",
            got=f"schema {schema}",
            wanted=f"schema {SCHEMA}",
            next_step="use the version of critwin that wrote it",
        )
    return dict(info)


def write_info(folder: Path, info: Mapping[str, Any]) -> None:
    """Write ``run.json``.

    Args:
        folder: The run folder.
        info: Plain values.

    Raises:
        RunFolderError: If it cannot be written.
    """
    text = json.dumps(info, indent=1, allow_nan=False, ensure_ascii=False)
    write_atomic(folder / RUN_NAME, (text + "\n").encode())


@cache
def environment() -> Mapping[str, Any]:
    """Versions and platform of this process; no host and no paths."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "versions": {"python": platform.python_version(), **versions},
        "platform": f"{platform.system()} {platform.machine()}",
    }


def make_folder(folder: Path) -> None:
    """Make a run folder, if it is not there.

    Args:
        folder: The folder.

    Raises:
        RunFolderError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            "cannot make the run folder",
            got=f"{folder} ({error.strerror})",
            next_step="choose another `out`",
        ) from error


def seal(folder: Path) -> None:
    """Write the manifest of a run folder whose ledger is closed.

    Args:
        folder: The run folder.

    Raises:
        RunFolderError: If it cannot be written.
    """
    with Ledger.read(folder) as ledger:
        digests = {path: sha for path, sha, *_ in ledger.files()}
    for name in (RUN_NAME, LEDGER_NAME):
        digests[name] = digest_of_file(folder / name)
    for file in sorted((folder / AUDITS_NAME).glob("[!.]*")):  # what audits have kept
        digests[f"{AUDITS_NAME}/{file.name}"] = digest_of_file(file)
    write_manifest(folder, digests)


def verify_folder(path: str | Path) -> tuple[list[str], list[str]]:
    """Check every file of a run folder against its digests, and the ledger row by row.

    Args:
        path: The run folder.

    Returns:
        Problems, and remarks on what could not be checked; one line each.

    Raises:
        RunFolderError: If there is no run folder to check.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise RunFolderError(
            "no such run folder", got=str(path), wanted="a folder that critwin run made"
        )
    problems, remarks = [], []
    try:
        if read_info(folder) is None:
            raise RunFolderError(
                "not a run folder", got=str(path), wanted=f"a folder with {RUN_NAME} in it"
            )
        manifest = read_manifest(folder)
    except RunFolderError as error:
        if "not a run folder" in str(error):
            raise
        problems.append(str(error))
        manifest = None
    if manifest is None:
        remarks.append(
            f"no {MANIFEST_NAME}: the run was not closed (it is running, or was killed); "
            "run.json is not covered, images and rows are checked against the ledger"
        )
    else:
        problems += manifest_problems(folder, manifest)
    try:
        with Ledger.read(folder) as ledger:
            problems += list(ledger.problems())
            files = {name: sha for name, sha, *_ in ledger.files()}
    except RunFolderError as error:
        problems.append(str(error))
        files = {}
    unlisted = {name: sha for name, sha in files.items() if name not in (manifest or {})}
    if manifest is not None:
        problems += [f"{name}: not in {MANIFEST_NAME}" for name in unlisted]
    problems += manifest_problems(folder, unlisted)
    known = {RUN_NAME, LEDGER_NAME, *files, *(manifest or {})}
    for file in sorted((folder / "images").rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and name not in known:
            remarks.append(f"{name}: belongs to no row")
    return problems, remarks
