"""From a run folder, a file of records or Records in memory to a page on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critwin.errors import InputError
from critwin.experiments.switches import is_switch
from critwin.records import Records, digest
from critwin.reports import provenance
from critwin.reports.audit_sections import load_parts
from critwin.reports.compute import collect
from critwin.reports.gallery import Picture, build_gallery
from critwin.reports.page import build_report
from critwin.reports.prediction import with_predictions
from critwin.reports.wording import listing, scrub, the

if TYPE_CHECKING:
    from critwin.features.labelling import ErrorMatrix
    from critwin.reports.data import ReportData
    from critwin.runs.folder import Run

__all__ = ["report_data", "write_report"]

Images = Mapping[tuple[str, float | None], Picture]
_FILE = "report.html"


def write_report(
    source: Run | Records | str | Path,
    path: str | Path | None = None,
    *,
    title: str | None = None,
    images: Images | None = None,
    error_matrices: Mapping[str, ErrorMatrix] | None = None,
    chances: Mapping[str, float] | None = None,
    priors: Mapping[str, Mapping[str, float]] | None = None,
    confidence: float = 0.95,
    epsilon: float = 0.1,
) -> Path:
    """Write the report of a run: one HTML file that opens offline.

    Args:
        source: A run, the path of its folder, Records, or a netCDF file of them.
        path: File to write, or a folder to put ``report.html`` into; the run folder unless given.
        title: Title of the page.
        images: ``(source, effective logsnr)`` -> image of a result, ``(source, None)`` -> image of
            the source: a path, encoded bytes or an array. The images of the run folder unless
            given.
        error_matrices: Feature -> what its labeller says of samples whose label is known, which
            adds corrected curves; what the features themselves told unless given.
        chances: Feature -> how often a fresh sample carries the label of the source, where the
            records do not tell.
        priors: Feature -> label -> weight, the model's prior, in place of what the records say.
        confidence: Of the intervals.
        epsilon: Tolerance of the windows of single labels.

    Returns:
        The file.

    Raises:
        InputError: If there is nothing to report, no place for it, or the place holds something
            that is no page.
    """
    from critwin.runs.files import write_atomic

    data = report_data(
        source,
        title=title,
        images=images,
        error_matrices=error_matrices,
        chances=chances,
        priors=priors,
        confidence=confidence,
        epsilon=epsilon,
    )
    target = _target(source, path)
    _refuse_foreign(target)
    write_atomic(target, build_report(data).encode("utf-8"))
    return target


def report_data(
    source: Run | Records | str | Path,
    *,
    title: str | None = None,
    images: Images | None = None,
    error_matrices: Mapping[str, ErrorMatrix] | None = None,
    chances: Mapping[str, float] | None = None,
    priors: Mapping[str, Mapping[str, float]] | None = None,
    confidence: float = 0.95,
    epsilon: float = 0.1,
) -> ReportData:
    """Everything a report shows, computed.

    Args:
        source: As in :func:`write_report`.
        title: As in :func:`write_report`.
        images: As in :func:`write_report`.
        error_matrices: As in :func:`write_report`.
        chances: As in :func:`write_report`.
        priors: As in :func:`write_report`.
        confidence: As in :func:`write_report`.
        epsilon: As in :func:`write_report`.

    Returns:
        The data.

    Raises:
        InputError: If there is nothing to report.
    """
    run, records = _open(source)
    rows: list[tuple[str, str]] = []
    notes: list[str] = []
    config = ""
    conditions: dict[str, str] | None = None
    options: Mapping[str, Any] = {}
    if run is not None:
        info = dict(run.info)
        raw = info.pop("config", None)
        options = raw.get("model") or {} if isinstance(raw, Mapping) else {}
        config = "" if raw is None else provenance.config_text(raw)
        rows += provenance.rows(info)
        notes += _unfinished(run)
        notes += [scrub(warning).rstrip(".") + "." for warning in run.warnings()]
        told = info.get("model_source") or {}
        notes += [f"The model: {scrub(note).rstrip('.')}." for note in told.get("notes", ())]
        conditions = {row["name"]: row["condition"] or "" for row in run.sources()}
        if images is None:
            images = {(image.source, image.logsnr): image.path for image in run.images()}
    known = {name.replace(".", "_") for name, _ in rows}
    known |= {name.removesuffix("_name") for name in known}  # model.name is model
    attrs = {key: value for key, value in records.attrs.items() if key != "labeller_errors"}
    rows += [row for row in provenance.rows(attrs) if row[0] not in known]
    own_digest = digest(records)
    rows.append(("digest of the records (SHA-256)", own_digest))
    audits, remarks = ((), ()) if run is None else load_parts(run.path, own_digest)
    notes += remarks
    found = collect(
        records,
        title=scrub(title) if title else _title(records),
        gallery=build_gallery(records, images, source_conditions=conditions)
        if len(records)
        else None,
        provenance=rows,
        config=config,
        notes=notes,
        error_matrices=_told(records) if error_matrices is None else error_matrices,
        chances=chances,
        priors=priors,
        confidence=confidence,
        epsilon=epsilon,
    )
    return replace(with_predictions(found, records, options), audits=audits)


def _told(records: Records) -> dict[str, ErrorMatrix]:
    """What the features said of their own errors when they were read."""
    from critwin.features.labelling import ErrorMatrix

    try:
        raw = json.loads(str(records.attrs.get("labeller_errors") or "{}"))
        return {str(name): ErrorMatrix.from_dict(value) for name, value in raw.items()}
    except (ValueError, AttributeError):  # a file of someone else's; the raw curve stands
        return {}


def _open(source: Run | Records | str | Path) -> tuple[Run | None, Records]:
    from critwin.runs.folder import Run, open_run

    if isinstance(source, Records):
        return None, source
    if isinstance(source, Run):
        return source, source.records()
    place = Path(source)
    if place.is_file():
        from critwin.storage import load_records

        return None, load_records(place)
    run = open_run(place)
    return run, run.records()


def _unfinished(run: Run) -> list[str]:
    from critwin.runs.ledger import Ledger

    with Ledger.read(run.path) as ledger:
        total, done = ledger.meta("num_units"), ledger.counts()["num_units"]
    if total is None or done >= total:
        return []
    return [f"The run is not finished: {done:,} of {total:,} units are measured."]


def _target(source: Any, path: str | Path | None) -> Path:
    if path is not None:
        target = Path(path)
        return target / _FILE if target.is_dir() else target
    if isinstance(source, str | Path) and Path(source).is_dir():
        return Path(source) / _FILE
    folder = getattr(source, "path", None)
    if isinstance(folder, Path):
        return folder / _FILE
    raise InputError("no file to write the report to", next_step="give a path")


def _refuse_foreign(target: Path) -> None:
    """Only a page may be replaced: never a ledger, a config or anybody's other file."""
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError("a report is an HTML file", got=str(target), wanted="a name in .html")
    if not target.exists():
        return
    is_page = False
    if target.is_file():
        with target.open("rb") as stream:
            is_page = b'<meta name="generator" content="critwin' in stream.read(8192)
    if not is_page:
        raise InputError(
            "this is no report of critwin and is not overwritten",
            got=str(target),
            next_step="give another name",
        )


def _title(records: Records) -> str:
    first = [the(name) for name in list(records.features)[:4]]
    more = len(records.features) - len(first)
    names = listing([*first, f"{more} more"] if more else first)
    model = records.attrs.get("model")
    if is_switch(records):
        place = f" in the model “{scrub(model)}”" if model else ""
        return f"Until when does a new condition change {names}{place}?"
    if model:
        return f"When does the model “{scrub(model)}” decide {names}?"
    return f"When {'is' if len(records.features) == 1 else 'are'} {names} decided?"
