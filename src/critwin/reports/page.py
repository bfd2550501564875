"""The page: one HTML file that opens offline, loads nothing and runs one known script.

Everything that comes from data is escaped by the template engine; markup that is not comes from
:mod:`critwin.reports.figures`, which escapes what it draws. A content security policy in the page
forbids all other scripts and every request.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING

from critwin.errors import InputError
from critwin.levels import from_logsnr, to_logsnr
from critwin.reports import figures, tables
from critwin.reports.audit_sections import audit_parts
from critwin.reports.explorer import explorer, payload
from critwin.reports.palette import css_variables
from critwin.reports.parts import feature_part
from critwin.reports.svg import clean
from critwin.reports.told import what_was_done
from critwin.reports.wording import count, number, percent, tie

if TYPE_CHECKING:
    from critwin.reports.data import ReportData

__all__ = ["MAX_BYTES", "build_report"]

MAX_BYTES = 6_000_000
"""Most bytes of a page."""

_SECTIONS = (
    ("time", "How to read t"),
    ("audits", "Audits"),
    ("order", "Order"),
    ("kept", "Kept curves"),
    ("gallery", "Gallery"),
    ("matrices", "Matrices"),
    ("features", "Feature by feature"),
    ("windows", "Windows"),
    ("validity", "Counts"),
    ("notes", "Notes"),
    ("provenance", "Provenance"),
)


def build_report(data: ReportData) -> str:
    """The page as HTML.

    Args:
        data: What to report.

    Returns:
        At most :data:`MAX_BYTES` bytes of UTF-8; equal data give equal text.

    Raises:
        InputError: If even the shortest page is larger.
    """
    text = ""
    for max_rows, with_images in ((20_000, True), (2_000, True), (500, False), (50, False)):
        shown = data if with_images else _without_images(data)
        text = _render(shown, max_rows)
        if len(text.encode()) <= MAX_BYTES:
            return text
    raise InputError(
        "the report is too large",
        got=f"{len(text.encode())} bytes",
        wanted=f"at most {MAX_BYTES}",
        next_step="report fewer features at a time",
    )


def _render(data: ReportData, max_rows: int) -> str:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["tie"] = tie
    template = environment.from_string(_asset("report.html.j2"))
    script = _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    view = explorer(data)
    parts = [feature_part(f, k, data, view, max_rows) for k, f in enumerate(data.features)]
    gallery = data.gallery
    absent = {"gallery"} if not view["rows"] else set()
    absent |= set() if data.audits else {"audits"}
    if all(f.following and f.window is None for f in data.features):
        absent |= {"order", "kept", "windows"}  # shares after a change need no chance level
    own = "critwin " + version("critwin")
    return template.render(
        data=replace(data, title=clean(data.title)),
        version=version("critwin"),
        policy=(
            "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
            f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
        ),
        style=_style(),
        script=script,
        payload=payload(data, view, parts),
        summary=_summary(data),
        absent=absent,
        words=what_was_done(data.experiments),
        sections=[s for s in _SECTIONS if s[0] not in absent],
        audits=audit_parts(data.audits, max_rows=max_rows),
        sure=percent(data.confidence),
        epsilon=f"{data.epsilon:g}",
        examples=_examples(data),
        ladder=figures.ladder(data),
        overview=figures.overview(data),
        parts=parts,
        explorer=view,
        tables={
            "windows": tables.window_table(data),
            "kept": tables.kept_table(data.features),
            "gallery": None
            if gallery is None
            else tables.gallery_table(gallery, max_rows=max_rows),
        },
        provenance=[
            *(
                (name.replace("_", " ").replace(".", " · "), text)
                for name, text in data.provenance
            ),
            ("report written by", own),
        ],
    )


def _without_images(data: ReportData) -> ReportData:
    if data.gallery is None:
        return data
    rows = tuple(replace(row, strip=None) for row in data.gallery.rows)
    return replace(data, gallery=replace(data.gallery, rows=rows))


@cache
def _asset(name: str) -> str:
    return (files("critwin.reports") / "templates" / name).read_text("utf-8")


def _style() -> str:
    light, dark = css_variables("light"), css_variables("dark")
    return (
        f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f"@media print{{:root{{color-scheme:light;{light}}}}}\n{_asset('report.css')}"
    )


def _summary(data: ReportData) -> str:
    first, last = float(data.levels_t[0]), float(data.levels_t[-1])
    return (
        f"{count(data.num_sources, 'source')}, {count(len(data.levels), 'noise level')} from "
        f"t = {number(first)} to t = {number(last)}, {count(data.num_units, 'unit')}, "
        f"{count(len(data.features), 'feature')}."
    )


def _examples(data: ReportData) -> list[list[str]]:
    rows = []
    for t in (0.01, 0.1, 0.35, 1.0, 2.0, 4.0):
        level = float(to_logsnr(t, "t"))
        rows.append(
            [
                number(t),
                number(level, digits=1),
                f"{float(from_logsnr(level, 'sigma')):.3g}",
                f"{100 * float(from_logsnr(level, 'alpha_bar')):.2g} %",
            ]
        )
    return rows
