"""Shared by the report's tests: a run that needs no model, its page, a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _devtools import Browser
from _fake_run import LABELS, PAYLOADS, fake_images, fake_records, hostile_records

from critwin.records import Records
from critwin.reports import ReportData, build_report, report_data

SMALL = {**LABELS, "digit": ("0", "1", "2", "3")}


@pytest.fixture(scope="session")
def records() -> Records:
    """Three features of 24 sources at 9 levels."""
    return fake_records(
        num_sources=24, num_levels=9, replicates=2, labels=SMALL, model="digits", seed_of_run=7
    )


@pytest.fixture(scope="session")
def data(records: Records) -> ReportData:
    """The report of these records, computed."""
    return report_data(records, images=fake_images(records, num_sources=8))


@pytest.fixture(scope="session")
def page(data: ReportData) -> str:
    """The report as HTML."""
    return build_report(data)


@pytest.fixture(scope="session")
def page_file(page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on disk."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def hostile_page() -> str:
    """A report in which every text is an attack."""
    return build_report(report_data(hostile_records(), title=PAYLOADS[6]))


@pytest.fixture(scope="session")
def shared_browser() -> Iterator[Browser]:
    """Headless Chromium; missing it skips, unless CRITWIN_REQUIRE_BROWSER=1."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        reason = "no chromium on the path (Debian: apt-get install chromium)"
        if os.environ.get("CRITWIN_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    browser = Browser(executable)
    try:
        yield browser
    finally:
        browser.close()


@pytest.fixture
def browser(shared_browser: Browser) -> Browser:
    """The browser at desktop size, light."""
    shared_browser.view(1280, 900)
    return shared_browser


def pytest_report_header(config: Any) -> str:
    """Say which browser the tests would use."""
    return f"chromium: {shutil.which('chromium') or 'not found'}"
