"""Sections of audits in the page: what they say, nothing of what they could run."""

from __future__ import annotations

import base64
import csv
import html
import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from _fake_run import PAYLOADS, fake_records, only

from critwin.audits.section import Figure, Section, Series, Table, save
from critwin.records import Records
from critwin.reports import ReportData, build_report, report_data, write_report
from critwin.reports.audit_sections import AuditPart, audit_parts, draw_figure, load_parts
from runs_help import changed, start

T = (0.5, 1.0, 1.5)
CURVES = Figure(
    kind="curves",
    title="What an edit keeps",
    x="OU time t",
    y="share",
    series=(
        Series(name="kept", x=T, y=(1.0, 0.8, None), low=(0.9, 0.7, None), high=(1.0, 0.9, None)),
        Series(name="changed", x=T, y=(0.1, 0.3, 0.6)),
    ),
    spans=(("advised", 0.9, 1.1),),
    note="Bands are limits.",
)
BARS = Figure(
    kind="bars",
    title="Shares",
    x="group",
    y="share",
    series=(Series(name="found", x=("a", "b"), y=(0.4, None), low=(0.3, None), high=(0.5, None)),),
)
FLOW = Figure(
    kind="flow",
    title="Who turns into whom",
    x="noise level t",
    y="share",
    series=(Series(name="a", x=T, y=(0.5, 0.4, 0.3)), Series(name="b", x=T, y=(0.5, 0.6, 0.7))),
)
PNG = base64.b64encode(
    base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
).decode()
IMAGES = Figure(kind="thumbnails", title="Copies", images=(("image 1", (PNG, PNG)),))


@pytest.fixture(scope="module")
def data() -> ReportData:
    """A report of one feature: what surrounds the audits is tested elsewhere."""
    return report_data(only(fake_records(num_sources=12, num_levels=4), "ground"))


@pytest.fixture(scope="module")
def page(data: ReportData) -> str:
    """The same without audits."""
    return build_report(data)


def section(**changes: object) -> Section:
    base = Section(
        name="editing",
        title="Editing strength",
        question="How much noise?",
        answer="Edit from t = 1.00: 80% of edits succeed.",
        details=("One detail.",),
        figures=(CURVES, BARS, FLOW, IMAGES),
        tables=(Table(name="rates", columns=("t", "share"), rows=tuple((t, None) for t in T)),),
        limits=("Labels are perceived.",),
        rerun="critwin advise run --keep a --change b",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def page_of(data: ReportData, *sections: Section, is_stale: bool = False) -> str:
    parts = tuple(
        AuditPart(key=f"audit-{k}", section=own, is_stale=is_stale)
        for k, own in enumerate(sections)
    )
    return build_report(replace(data, audits=parts))


def test_a_page_without_audits_is_as_it_was(data: ReportData, page: str) -> None:
    assert 'id="audits"' not in page
    assert 'href="#audits"' not in page
    assert page_of(data) == page


def test_everything_that_a_section_says_is_in_the_page(data: ReportData) -> None:
    own = section()
    text = html.unescape(page_of(data, own)).replace("\u00a0", " ")
    for words in (own.title, own.question, own.answer, *own.details, *own.limits, own.rerun):
        assert words in text
    assert 'href="#audits"' in text
    assert text.count("data:image/png;base64," + PNG) == 2
    assert "What an edit keeps. Bands are limits." in text
    assert "More has been measured" not in text
    assert "More has been measured" in page_of(data, own, is_stale=True)
    for title in ("What an edit keeps", "Shares", "Who turns into whom"):
        assert text.count(f">{title}</title>") == 2  # wide and narrow


def test_tables_are_csv_in_the_page(data: ReportData) -> None:
    rows = tuple((float(k), f"=cmd|{k}", None) for k in range(30))
    own = section(tables=(Table(name="my rates", columns=("a", "b", "c"), rows=rows),))
    part = audit_parts((AuditPart(key="x", section=own),))[0]["tables"][0]
    assert part["csv"].file == "my-rates.csv"
    assert len(part["rows"]) == 12
    assert part["num_more"] == 18
    read = list(csv.reader(io.StringIO(part["csv"].text)))
    assert len(read) == 31
    assert read[1] == ["0", "'=cmd|0", ""]  # no spreadsheet runs it


class Tags(HTMLParser):
    """Tags and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def hostile(payload: str) -> Section:
    return section(
        title=payload, question=payload, answer=payload, details=(payload,), limits=(payload,),
        rerun=payload,
        figures=(
            replace(CURVES, title=payload, y=payload, note=payload,
                    series=(replace(CURVES.series[0], name=payload),),
                    spans=((payload, 0.9, 1.1),)),
            replace(BARS, title=payload, x=payload, series=(
                Series(name=payload, x=(payload, "b"), y=(0.1, 0.2)),)),
            replace(IMAGES, title=payload, images=((payload, (PNG, payload)),)),
        ),
        tables=(Table(name=payload, columns=(payload, "b"), rows=((payload, 1.0),)),),
    )  # fmt: skip


def test_texts_are_escaped_wherever_they_go(data: ReportData, page: str) -> None:
    text = page_of(data, *(hostile(payload) for payload in PAYLOADS))
    known = {tag for tag, _ in Tags(page_of(data, section())).found}
    scripts = sum(tag == "script" for tag, _ in Tags(page).found)
    tags = Tags(text).found
    assert {tag for tag, _ in tags} <= known
    assert sum(tag == "script" for tag, _ in tags) == scripts
    for _, attributes in tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("href", "src", "xlink:href"):
            assert not str(attributes.get(name, "")).lower().strip().startswith("javascript")
    assert "alert(1)" in html.unescape(text)  # said, not run


def test_thumbnails_that_are_no_png_are_left_out(data: ReportData) -> None:
    svg = base64.b64encode(b"<svg onload=alert(1)>").decode()
    files = (svg, "../../etc/passwd", "", PNG)
    own = section(figures=(replace(IMAGES, images=(("x", files),)),))
    drawn = audit_parts((AuditPart(key="x", section=own),))[0]["figures"]
    assert drawn[0]["images"] == [{"caption": "x", "files": ["data:image/png;base64," + PNG]}]
    none = section(figures=(replace(IMAGES, images=(("x", (svg,)),)),))
    assert audit_parts((AuditPart(key="x", section=none),))[0]["figures"] == []


def test_figures_without_values_are_not_drawn() -> None:
    empty = replace(CURVES, series=(Series(name="a", x=T, y=(None, None, None)),))
    assert draw_figure(empty, key="k") is None
    assert draw_figure(replace(CURVES, series=()), key="k") is None
    assert draw_figure(CURVES, key="k") == draw_figure(CURVES, key="k")  # the same bytes


def test_sections_of_a_folder_are_found_and_old_ones_said(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start(folder)
    save(section(figures=(BARS,)), folder, slug="a-b")
    text = write_report(folder).read_text("utf-8")
    assert "How much noise?" in text
    assert "More has been measured" not in text
    start(folder, changed(sources={"count": 12}))
    assert "More has been measured" in write_report(folder).read_text("utf-8")
    (folder / "audits" / "editing-a-b.json").write_text("{")
    text = write_report(folder).read_text("utf-8")
    assert "could not be read" in text
    assert "How much noise?" not in text
    assert load_parts(tmp_path, "x") == ((), ())


def test_records_in_memory_have_no_sections(records: Records) -> None:
    assert report_data(records).audits == ()
