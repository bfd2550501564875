from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _fake_run import HOSTILE_NAMES, LABELS, fake_images, fake_records, only

import critwin.reports.page as page_module
from critwin.errors import InputError
from critwin.features.labelling import ErrorMatrix
from critwin.records import Records, digest, select
from critwin.reports import (
    MAX_BYTES,
    ReportData,
    build_gallery,
    build_report,
    report_data,
    write_report,
)
from critwin.reports import provenance as provenance_module
from critwin.reports.dendrogram import is_drawn
from critwin.reports.explorer import explorer, matrices, share_text
from critwin.reports.parts import _pairs
from critwin.reports.svg import clean
from critwin.reports.tables import (
    gallery_table,
    kept_table,
    label_table,
    matrix_table,
    to_csv,
    window_table,
)

VOID = {"meta", "link", "img", "input", "br", "col", "path", "use", "rect"}


class Page(HTMLParser):
    """Checks that tags nest, and collects them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if self.open:
            self.texts.append((self.open[-1], text))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def text_of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


@pytest.fixture(scope="module")
def parsed(page: str) -> Page:
    return Page(page)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_page_is_well_formed_and_its_ids_are_unique(parsed: Page) -> None:
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    anchors = [a["href"] for a in parsed.of("a") if a.get("href", "")]
    assert {str(a)[1:] for a in anchors} <= set(ids)


def test_every_figure_has_a_title_and_a_description(
    parsed: Page, page: str, data: ReportData
) -> None:
    num_trees = sum(f.tree is not None and is_drawn(f.tree) for f in data.features)
    assert len(parsed.of("svg")) == 2 * (2 + 3 + 3 + num_trees)
    for attrs in parsed.of("svg"):
        assert attrs["role"] == "img"
        for name in str(attrs["aria-labelledby"]).split():
            assert f'id="{name}"' in page
    assert len(parsed.of("desc")) == len(parsed.of("svg"))


def test_headings_do_not_skip_levels(parsed: Page) -> None:
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_page_asks_for_nothing(parsed: Page, page: str) -> None:
    for _, attrs in parsed.tags:
        for name in ("src", "href", "xlink:href", "action", "srcset", "poster"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:")), value
    style = "".join(parsed.text_of("style"))
    assert "url(" not in style
    assert "@import" not in style
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace(
        "http://www.w3.org/1999/xlink", ""
    ).replace('http-equiv="', "")


def test_policy_allows_exactly_the_one_script(parsed: Page, page: str) -> None:
    policy = next(m["content"] for m in parsed.of("meta") if "http-equiv" in m)
    assert str(policy).startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; ")
    script = page.rsplit("<script>", 1)[1].split("</script>")[0]
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert re.findall(r"script-src ([^;]*)", str(policy)) == [f"'sha256-{own}'"]
    kinds = [attrs.get("type") for attrs in parsed.of("script")]
    assert kinds == ["application/json", None]


def test_no_event_handlers_in_the_markup(parsed: Page) -> None:
    assert not [name for _, attrs in parsed.tags for name in attrs if name.startswith("on")]


def test_page_says_what_was_found_and_how_to_read_it(page: str, data: ReportData) -> None:
    tied = page.replace("\u00a0", " ")
    assert data.headline.sentence in tied
    assert "generation runs from large t down to t = 0" in page
    for name in ("ground", "ink", "digit"):
        assert f">{name}</h3>" in page
    assert "Is there a window?" in page
    assert digest_row(page)


def digest_row(page: str) -> str | None:
    found = re.search(r"digest of the records \(SHA-256\)</th><td>([0-9a-f]{64})<", page)
    return None if found is None else found.group(1)


def test_same_records_same_bytes(records: Records, data: ReportData, page: str) -> None:
    assert digest_row(page) == digest(records)
    assert data.gallery is not None
    again = build_gallery(records, fake_images(records, num_sources=8))
    assert [row.strip for row in again.rows] == [row.strip for row in data.gallery.rows]
    code = (
        "import hashlib\n"
        "from _fake_run import fake_records, only\n"
        "from critwin.reports import build_report, report_data\n"
        "records = only(fake_records(num_sources=12, num_levels=4), 'ground')\n"
        "print(hashlib.sha256(build_report(report_data(records)).encode()).hexdigest())\n"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    small = only(fake_records(num_sources=12, num_levels=4), "ground")
    own = hashlib.sha256(build_report(report_data(small)).encode()).hexdigest()
    assert other.stdout.strip() == own


def test_features_come_in_the_order_of_the_decisions(data: ReportData) -> None:
    assert [f.name for f in data.features] == ["ground", "ink", "digit"]
    for f, t in zip(data.features, (2.7, 1.9, 1.1), strict=True):
        assert f.window is not None
        assert f.window.midpoint is not None
        assert f.window.midpoint.t.value == pytest.approx(t, abs=0.35)  # what the fake run plants


def test_csv_of_the_page_is_the_data(page: str, data: ReportData) -> None:
    from html import unescape

    blocks = {
        file: unescape(text)
        for file, text in re.findall(
            r'aria-label="([^"]+\.csv)">(.*?)</pre>', page, flags=re.DOTALL
        )
    }
    num_trees = sum(f.tree is not None for f in data.features)
    assert len(blocks) == 3 + 2 * len(data.features) + num_trees
    kept = rows_of(blocks["kept.csv"])
    ground = [row for row in kept if row["feature"] == "ground"]
    curve = data.features[0].kept
    assert curve is not None
    for name, column in (("kept", curve.value), ("low", curve.low), ("logsnr", curve.logsnr)):
        assert [float(row[name]) for row in ground] == pytest.approx(column.tolist(), rel=1e-8)
    windows = rows_of(blocks["windows.csv"])
    middle = next(r for r in windows if (r["feature"], r["edge"]) == ("ink", "midpoint"))
    window = data.features[1].window
    assert window is not None
    assert window.midpoint is not None
    assert float(middle["t"]) == pytest.approx(window.midpoint.t.value, rel=1e-8)
    assert float(middle["sigma_low"]) < float(middle["sigma"]) < float(middle["sigma_high"])


def test_tables_hold_every_matrix_and_every_label(data: ReportData) -> None:
    f = data.features[2]
    assert f.transitions is not None
    table = rows_of(matrix_table(f).text)
    shares = np.array([float(row["probability"]) for row in table])
    assert shares.reshape(f.transitions.probs.shape) == pytest.approx(
        f.transitions.probs, rel=1e-8
    )
    counted = sum(int(row["results"]) for row in table)
    assert counted == f.validity.counted
    labels = rows_of(label_table(f).text)
    assert {row["label"] for row in labels} == {"0", "1", "2", "3"}
    stay = [float(r["value"]) for r in labels if (r["label"], r["quantity"]) == ("2", "stay")]
    assert f.labels[2].stay is not None
    assert stay == pytest.approx(f.labels[2].stay.value.tolist(), rel=1e-8)


def test_cells_that_a_spreadsheet_would_run_are_quoted() -> None:
    text = to_csv(
        "x.csv", ("=a", "b"), [("=1+1", -2.5), ("+x", None), ("-y", 1), ("@z", 0.1)]
    ).text
    assert text == "'=a,b\n'=1+1,-2.5\n'+x,\n'-y,1\n'@z,0.1\n"


def test_long_tables_say_what_they_leave_out(data: ReportData) -> None:
    table = matrix_table(data.features[2], max_rows=10)
    assert len(rows_of(table.text)) == 10
    assert data.features[2].transitions is not None
    assert table.num_left_out == data.features[2].transitions.probs.size - 10


def test_payloads_stay_text(hostile_page: str) -> None:
    page = hostile_page
    parsed = Page(page)
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"iframe", "object", "embed", "base"})
    assert len(parsed.of("script")) == 2
    assert len(parsed.of("img")) == 0
    assert not [name for _, attrs in parsed.tags for name in attrs if name.startswith("on")]
    assert "<script>alert" not in page
    shown = json.loads(page.split('id="report-data">')[1].split("</script>")[0])
    assert {f["name"] for f in shown["features"]} == {
        clean(name) for name in HOSTILE_NAMES.values()
    }
    assert "alert(1)" in "".join(parsed.text_of("h3"))


def test_paths_users_and_tokens_do_not_reach_the_page() -> None:
    rows = provenance_module.rows(
        {
            "out": "/home/jane/runs/x",
            "token": "hf_abcdefghijklmnopqrstuvwx",
            "features": [{"name": "ink", "fingerprint": "ab12"}],
            "nothing": None,
            "empty": [],
            "versions": {"python": "3.11", "numpy": "2"},
            "list": [1, 2],
        }
    )
    assert rows == [
        ("out", "~/runs/x"),
        ("token", "(removed)"),
        ("features.ink.fingerprint", "ab12"),
        ("versions", "python 3.11, numpy 2"),
        ("list", "1, 2"),
    ]
    config = provenance_module.config_text({"sources": {"path": "/Users/jane/pictures"}})
    assert "jane" not in config
    assert json.loads(config) == {"sources": {"path": "~/pictures"}}


def test_gallery_shows_each_source_once_and_every_level(data: ReportData, page: str) -> None:
    gallery = data.gallery
    assert gallery is not None
    assert len(gallery.rows) == 8
    assert page.count('src="data:image/png;base64,') == 8
    assert len({row.strip.uri for row in gallery.rows if row.strip is not None}) == 8
    digits = [row.before["digit"] for row in gallery.rows]
    assert set(digits) == {0, 1, 2, 3}  # spread over the labels
    table = rows_of(gallery_table(gallery).text)
    assert len(table) == 8 * 3 * len(gallery.levels)


def test_strip_is_the_pictures_side_by_side(records: Records) -> None:
    from PIL import Image

    images = fake_images(records, num_sources=2)
    gallery = build_gallery(records, images)
    row = gallery.rows[0]
    assert row.strip is not None
    data = base64.b64decode(row.strip.uri.partition(",")[2])
    with Image.open(io.BytesIO(data)) as image:
        tiles = np.asarray(image.convert("RGB"))
    assert tiles.shape == (28, 28 * (len(gallery.levels) + 1), 3)
    for number, level in enumerate([None, *gallery.levels.tolist()]):
        wanted = np.round(np.moveaxis(images[row.name, level], 0, 2) * 255)
        assert np.array_equal(tiles[:, 28 * number : 28 * number + 28], wanted)


def test_large_pictures_shrink_to_the_budget(records: Records) -> None:
    rng = np.random.default_rng(0)
    levels = np.unique(records.logsnr)
    images: dict[Any, Any] = {
        (name, level): rng.random((3, 200, 300))
        for name in np.unique(records.source)[:3].tolist()
        for level in [None, *levels.tolist()]
    }
    strips = [row.strip for row in build_gallery(records, images, max_bytes=100_000).rows]
    sizes = [(s.width, s.height) for s in strips if s is not None]
    assert len(sizes) == 3
    assert len(set(sizes)) == 1
    assert sizes[0][0] < 128
    assert sizes[0][0] / sizes[0][1] == pytest.approx(1.5, rel=0.05)
    assert sum(len(s.uri) for s in strips if s is not None) <= 100_000
    assert not any(s.is_pixelated for s in strips if s is not None)


def test_unreadable_pictures_are_the_users_mistake(records: Records, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    name = str(records.source[0])
    with pytest.raises(InputError, match=r"broken\.png"):
        build_gallery(records, {(name, None): broken})
    with pytest.raises(InputError, match="wrong shape"):
        build_gallery(records, {(name, None): np.zeros((2, 5, 5, 5))})


def test_without_pictures_the_gallery_has_labels(records: Records) -> None:
    gallery = build_gallery(records)
    assert len(gallery.rows) == 12
    assert all(row.strip is None for row in gallery.rows)


def test_invalid_and_missing_results_are_marked(records: Records) -> None:
    name = str(records.source[0])
    lost = (records.source == name) & (records.logsnr == records.logsnr.min())
    kept = select(records, ~lost)
    at = np.flatnonzero((kept.source == name) & (np.asarray(kept.replicate) == 0))[0]
    valid = np.array(kept.valid)
    valid[at] = False
    gallery = build_gallery(replace(kept, valid=valid), num_sources=24)
    row = next(row for row in gallery.rows if row.name == name)
    assert row.after["ink"][-1] == -3
    assert -2 in row.after["ink"]
    text = gallery_table(gallery).text
    assert "(invalid)" in text
    assert "(not measured)" in text


def test_kinds_of_reversal_are_kept_apart(records: Records) -> None:
    half = np.asarray(records.source) < "s000012"
    mixed = replace(records, reversal=np.where(half, "ode", "stochastic"))
    data = report_data(mixed)
    assert {f.name for f in data.features} == {
        f"{name} ({kind})" for name in LABELS for kind in ("ode", "stochastic")
    }
    assert any("ODE sampler" in note for note in data.notes)


def test_an_unknown_prior_says_why_there_is_no_window(records: Records) -> None:
    bare = replace(only(records, "ground"), priors={})
    data = report_data(bare)
    assert all(f.window is None for f in data.features)
    assert all(f.reason is not None and "prior" in f.reason for f in data.features)
    assert all(label.stay is not None for f in data.features for label in f.labels)
    assert data.headline.sentence == "No window could be computed."
    assert data.headline.caveats[0].startswith("No window for the ground: ")
    page = build_report(data)
    Page(page)
    assert "no kept curve could be computed" in page
    assert "No window: " in page


def test_a_feature_that_cannot_be_read_does_not_spoil_the_rest(records: Records) -> None:
    columns = records.features["ink"]
    silent = replace(columns, before=np.full(len(records), -1))
    ground = only(records, "ground")
    data = report_data(replace(ground, features={**ground.features, "mute": silent}))
    mute = data.features[-1]
    assert mute.name == "mute"
    assert mute.transitions is None
    assert mute.validity.sources == 0
    assert mute.validity.counted == 0
    page = build_report(data)
    Page(page)
    assert "the labeller of &#39;mute&#39; abstained on every source" in page


def test_abstentions_are_bracketed_and_counted(data: ReportData, page: str) -> None:
    digit = data.features[2]
    assert digit.bracket is not None
    assert digit.kept is not None
    low, high = digit.bracket
    assert np.all(low.value <= digit.kept.value + 1e-12)
    assert np.all(digit.kept.value <= high.value + 1e-12)
    validity = digit.validity
    assert validity.abstained > 0
    assert validity.counted + validity.abstained + validity.invalid == validity.units
    assert "Hatched: what the curve would be" in page
    assert data.features[0].bracket is None


def test_an_error_matrix_adds_a_corrected_curve(records: Records) -> None:
    counts = 90 * np.eye(3, dtype=np.int64) + 5
    matrix = ErrorMatrix(
        feature="ink", labels=LABELS["ink"], counts=counts, abstained=np.zeros(3, dtype=np.int64)
    )
    data = report_data(records, error_matrices={"ink": matrix})
    ink = data.features[1]
    assert ink.corrected is not None
    has_held = np.isfinite(ink.corrected)
    assert has_held.any()
    assert not has_held[0]  # where the image hardly changes, errors are not independent
    assert any(note.startswith("ink: ") for note in data.notes)
    column = [row["kept_corrected"] for row in rows_of(kept_table(data.features).text)]
    assert sum(bool(cell) for cell in column) == has_held.sum()
    told = {**records.attrs, "labeller_errors": json.dumps({"ink": matrix.as_dict()})}
    same = report_data(replace(records, attrs=told))  # what the feature told is used unasked
    np.testing.assert_array_equal(same.features[1].corrected, ink.corrected)
    assert all("labeller_errors" not in name for name, _ in same.provenance)
    assert (
        report_data(replace(records, attrs=told), error_matrices={}).features[1].corrected is None
    )


def test_levels_without_a_label_are_left_out_everywhere(records: Records) -> None:
    """As a search leaves them: at the last level no source of one ground, and of one ink."""
    last = records.logsnr == records.logsnr.min()
    lacking = [records.features[name].before == 0 for name in ("ground", "ink")]
    sparse = select(records, ~(last & (lacking[0] | lacking[1])))
    counts = 90 * np.eye(3, dtype=np.int64) + 5
    matrix = ErrorMatrix(
        feature="ink", labels=LABELS["ink"], counts=counts, abstained=np.zeros(3, dtype=np.int64)
    )
    data = report_data(only(sparse, "ground", "ink"), error_matrices={"ink": matrix})
    for f in data.features:
        assert f.window is not None
        assert f.kept is not None
        assert len(f.kept.t) == len(data.levels) - 1
        assert any("1 of 9 levels have no source of some label" in n for n in f.window.notes)
    assert data.features[1].corrected is not None
    assert len(data.features[1].corrected) == len(data.levels) - 1
    assert ("ground", "ink") in data.gaps
    Page(build_report(data))


def test_a_reason_that_all_labels_share_is_said_once() -> None:
    few = fake_records(num_sources=10, num_levels=4, is_abstaining=False)
    f = next(f for f in report_data(few).features if f.name == "digit")
    pairs = _pairs(f)
    assert pairs["rows"] == []
    assert "too few sources" in pairs["reason"]


def test_many_labels_are_cut_and_said(records: Records) -> None:
    many = tuple(f"label {k:02d}" for k in range(30))
    wide = fake_records(num_sources=60, num_levels=4, labels={"digit": many}, is_abstaining=False)
    data = report_data(wide)
    assert len(data.features[0].labels) == 12
    assert data.features[0].num_labels_left_out == 18
    shown = matrices(data.features[0], explorer(data), 100)
    assert shown is not None
    assert shown["note"] == "11 of 30 labels are shown; the CSV has all of them."
    assert shown["now"]["after"][-1] == "(others)"
    for row in shown["values"][0]:
        assert row[0] is None or sum(row) == pytest.approx(1000, abs=6)


def test_page_stays_small(page: str, data: ReportData, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(page.encode()) < 1_500_000
    assert MAX_BYTES == 6_000_000
    tight = len(page.encode()) - 20_000
    monkeypatch.setattr(page_module, "MAX_BYTES", tight)
    asked: list[tuple[int, bool]] = []

    def render(shown: ReportData, max_rows: int) -> str:
        assert shown.gallery is not None
        has_images = shown.gallery.rows[0].strip is not None
        asked.append((max_rows, has_images))
        return "x" * (tight + 1 if has_images else tight)

    monkeypatch.setattr(page_module, "_render", render)
    assert len(build_report(data)) == tight
    assert asked == [(20_000, True), (2_000, True), (500, False)]
    monkeypatch.setattr(page_module, "_render", lambda *_: "x" * (tight + 1))
    with pytest.raises(InputError, match="too large"):
        build_report(data)


def test_shares_are_short_and_only_exact_ones_are_whole() -> None:
    assert [share_text(x) for x in (0, 1, 4, 135, 500, 996, 1000)] == [
        "0", ".01", ".01", ".14", ".50", ".99", "1",
    ]  # fmt: skip


def test_window_table_gives_reasons(data: ReportData) -> None:
    rows = rows_of(window_table(data).text)
    assert {row["criterion"] for row in rows} == {"kept", "operational"}
    assert all(bool(row["t"]) != bool(row["reason"]) for row in rows)


def test_no_limit_of_the_window_table_is_missing_without_a_reason(records: Records) -> None:
    """Levels that end inside the windows: limits are missing, of edges and of widths."""
    short = report_data(only(select(records, records.logsnr > -4.0), "ink"))
    rows = rows_of(window_table(short).text)
    for side in ("low", "high"):
        assert any(not row[f"t_{side}"] and row["t"] for row in rows)
        assert any(not row[f"t_{side}"] for row in rows if row["edge"] == "width")
        assert all(bool(row[f"t_{side}"]) != bool(row[f"{side}_reason"]) for row in rows)
    assert all(
        bool(row["logsnr_high" if row["edge"] != "width" else "logsnr_low"]) == bool(row["t_low"])
        for row in rows
    )


def test_nothing_to_report_is_an_error(records: Records, tmp_path: Path) -> None:
    none = select(records, np.zeros(len(records), dtype=np.bool_))
    with pytest.raises(InputError, match="nothing to report"):
        write_report(none, tmp_path / "x.html")
    with pytest.raises(InputError, match="no file to write"):
        write_report(records)
    with pytest.raises(InputError, match="run folder"):
        write_report(tmp_path)


def test_a_report_replaces_reports_and_nothing_else(records: Records, tmp_path: Path) -> None:
    for name in ("ledger.sqlite", "run.json", "manifest.sha256", "page"):
        (tmp_path / name).write_bytes(b"precious")
        with pytest.raises(InputError, match="a report is an HTML file"):
            write_report(records, tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"precious"
    theirs = tmp_path / "theirs.html"
    theirs.write_text("<!DOCTYPE html><title>mine</title>")
    with pytest.raises(InputError, match="no report of critwin and is not overwritten"):
        write_report(records, theirs)
    assert theirs.read_text() == "<!DOCTYPE html><title>mine</title>"
    small = only(fake_records(num_sources=12, num_levels=4), "ground")
    own = write_report(small, tmp_path / "own.html")
    size = own.stat().st_size
    assert write_report(small, own, title="again").stat().st_size != size


def test_write_report_takes_records_files_and_folders(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from critwin.storage import save_records

    monkeypatch.setattr("critwin.reports.report.build_report", lambda data: data.title)
    target = write_report(records, tmp_path / "deep" / "r.html", title="A /home/jane/b")
    assert target.read_text() == "A ~/b"
    assert write_report(records, tmp_path) == tmp_path / "report.html"
    assert (tmp_path / "report.html").read_text() == (
        "When does the model “digits” decide the digit, the ground and the ink?"
    )
    saved = tmp_path / "records.nc"
    save_records(records, saved)
    assert write_report(saved, tmp_path / "s.html").read_text().startswith("When does")
