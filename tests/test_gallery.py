"""The gallery: pages and figures are what their script says, and the four routes agree."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
from scipy import stats

from critwin.theory.families import load_family

GALLERY = Path(__file__).parent.parent / "docs" / "gallery"
QUICK = ("two-gaussians", "masking")
"""Rebuilt, sampling and all, in every run of the tests; the others by `make validate`."""
PAGES = sorted(path.stem for path in GALLERY.glob("*.md") if path.stem != "index")
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")
SETTINGS: dict[str, dict[str, object]] = {
    "two-gaussians": {},
    "random-spherical": {"components": 3, "dimension": 64},
    "well-conditioned": {"dimension": 3, "distance": 1000, "spread": 8},
    "sparse-dictionary": {"components": 6},
    "hierarchical": {},
    "gaussian-tree": {"branching": 3},
    "masking": {},
    "equal-means": {"dimension": 24},
}


class Row(NamedTuple):
    """A row of the table of times, as a reader sees it."""

    page: str
    symbol: str
    published: list[tuple[str, float, bool]]  # sign, value, whether it is said to hold
    exact: float | None
    low: float | None
    high: float | None
    measured: tuple[float, float | None, float | None] | None


def numbers(text: str) -> list[float]:
    return [float(x.replace(",", "")) for x in NUMBER.findall(text)]


def limit(text: str) -> float | None:
    return None if text.strip() == "–" else float(text)


def interval(cell: str) -> tuple[float, float | None, float | None] | None:
    found = re.fullmatch(r"([\d.]+) \(([\d.–]+) to ([\d.–]+)\)", cell)
    if found is None:
        return None
    return float(found.group(1)), limit(found.group(2)), limit(found.group(3))


def cells_of(page: str, heading: str) -> list[list[str]]:
    """Cells of the table under a heading; the first row is the head."""
    text = (GALLERY / f"{page}.md").read_text("utf-8")
    if heading not in text:
        return []
    part = text.split(heading, 1)[1].split("\n\n| ", 1)[1].split("\n\n", 1)[0]
    rows = [[c.strip() for c in line.strip("| ").split(" | ")] for line in part.splitlines()]
    return [rows[0], *rows[2:]]


def rows_of(page: str) -> list[Row]:
    rows = []
    for symbol, published, exact, certificate, measured in cells_of(page, "## Times")[1:]:
        bounds = [
            (sign, float(value), "not a bound" not in rest)
            for sign, value, rest in re.findall(r"([≥≤≈]) (\S+)([^<]*)", published)
        ]
        low, high = (None, None) if certificate == "–" else map(limit, certificate.split(", "))
        value = None if exact == "–" else numbers(exact)[0]
        rows.append(Row(page, symbol.strip("`"), bounds, value, low, high, interval(measured)))
    return rows


def levels_of(page: str) -> list[tuple[float, tuple[float, float | None, float | None]]]:
    """Exact and measured stay at each level of a page."""
    table = cells_of(page, "## At a level")
    found = []
    for row in table[1:]:
        stay = next(k for k, name in enumerate(table[0]) if name.startswith("stay of"))
        counted = interval(row[table[0].index("measured")])
        assert counted is not None
        found.append((float(row[stay]), counted))
    return found


def holds(value: float, counted: tuple[float, float | None, float | None]) -> bool:
    """Whether an interval holds a value, both rounded to four decimals."""
    _, low, high = counted
    return (low is None or low <= value + 5e-5) and (high is None or value - 5e-5 <= high)


def agrees(first: str, second: str, *, units: float) -> bool:
    """Whether two texts differ at most by some units in the last place of their numbers."""
    if NUMBER.sub("#", first) != NUMBER.sub("#", second):
        return False
    for a, b in zip(NUMBER.findall(first), NUMBER.findall(second), strict=True):
        digits = max(len(x.partition(".")[2]) for x in (a, b))
        if abs(float(a.replace(",", "")) - float(b.replace(",", ""))) > units * 10.0**-digits:
            return False
    return True


@pytest.fixture(scope="module")
def make() -> Iterator[ModuleType]:
    sys.path.insert(0, str(GALLERY))
    try:
        yield importlib.import_module("make")
    finally:
        sys.path.remove(str(GALLERY))


def test_every_experiment_has_its_page_and_figure(make: ModuleType) -> None:
    assert set(make.ENTRIES) == set(PAGES)
    index = (GALLERY / "index.md").read_text("utf-8")
    for name in PAGES:
        assert f"({name}.md)" in index
        text = (GALLERY / f"{name}.md").read_text("utf-8")
        assert f"({name}.svg)" in text
        assert len(re.findall(r"^```python", text, re.MULTILINE)) == 1
    used = set(re.findall(r"\((\S+\.svg)\)", "".join(p.read_text("utf-8") for p in pages())))
    assert used == {path.name for path in GALLERY.glob("*.svg")}


def test_the_index_says_what_the_pages_say(make: ModuleType) -> None:
    assert make.index_of_pages() == (GALLERY / "index.md").read_text("utf-8")


def pages() -> list[Path]:
    return [GALLERY / f"{name}.md" for name in PAGES]


@pytest.mark.parametrize("path", sorted(GALLERY.glob("*.svg")), ids=lambda path: path.name)
def test_figures_stand_alone_and_are_small(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.encode()) < 60_000
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{space}title")
    assert root.findtext(f"{space}desc")
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r"href=\"(?!#)|<script|20\d\d-\d\d-\d\d", text)


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.validate) for n in PAGES],
)
def test_files_are_what_the_script_says(make: ModuleType, name: str) -> None:
    files = make.files_of(make.ENTRIES[name]())
    assert files
    for file, text in files.items():
        written = (GALLERY / file).read_text("utf-8")
        assert agrees(text, written, units=1.5 if file.endswith(".md") else 20), file


def test_a_changed_number_is_noticed() -> None:
    text = (GALLERY / "two-gaussians.md").read_text("utf-8")
    assert agrees(text, text, units=1.5)
    assert "1.3564" in text
    assert not agrees(text, text.replace("1.3564", "1.3594", 1), units=1.5)
    assert not agrees(text, text.replace("1.3564", "1.356", 1), units=1.5)
    assert not agrees(text, text.replace("later", "earlier", 1), units=1.5)


@pytest.mark.parametrize("name", SETTINGS)
def test_published_times_are_those_of_the_family(name: str) -> None:
    family = load_family(name, **SETTINGS[name])
    rows = rows_of(name)
    printed = sorted(value for row in rows for _, value, _ in row.published)
    expected = sorted(p.value for p in family.published(0.1) if p.value is not None)
    assert printed == pytest.approx(expected, abs=5.1e-5)
    claims = sorted(is_held for row in rows for sign, _, is_held in row.published if sign != "≈")
    assert claims == sorted(
        p.is_valid_bound
        for p in family.published(0.1)
        if p.bound != "approximation" and p.value is not None
    )
    for symbol, value in family.exact(0.1).items():
        found = next(row for row in rows if row.symbol == symbol)
        assert found.exact == pytest.approx(value, abs=5.1e-5)


def violations(rows: list[Row]) -> list[Row]:
    """Rows of which a bound that is said to hold lies on the wrong side, or a limit does."""
    bad = []
    for row in rows:
        least = row.exact if row.exact is not None else row.low
        most = row.exact if row.exact is not None else row.high
        for sign, value, is_held in row.published:
            if not is_held or sign == "≈":
                continue
            if sign == "≥" and most is not None and value > most + 1e-4:
                bad.append(row)
            if sign == "≤" and least is not None and value < least - 1e-4:
                bad.append(row)
        if row.exact is not None and (
            (row.low is not None and row.exact < row.low - 1e-4)
            or (row.high is not None and row.exact > row.high + 1e-4)
        ):
            bad.append(row)
    return bad


def test_published_bounds_and_certificates_are_on_the_right_side() -> None:
    rows = [row for name in PAGES for row in rows_of(name)]
    held = [b for row in rows for b in row.published if b[2] and b[0] != "≈"]
    assert len(held) >= 20
    assert sum(not b[2] for row in rows for b in row.published) >= 1  # the erratum is shown
    assert violations(rows) == []
    swapped = [
        row._replace(
            published=[({"≥": "≤", "≤": "≥"}.get(s, s), v, h) for s, v, h in row.published]
        )
        for row in rows
    ]
    assert len(violations(swapped)) >= 15  # a bound the wrong way round is noticed


def test_measured_intervals_cover_the_exact_values_as_often_as_they_say() -> None:
    total = hits = 0
    for name in PAGES:
        checks = [
            holds(row.exact, row.measured)
            for row in rows_of(name)
            if row.exact is not None and row.measured is not None
        ]
        checks += [holds(exact, counted) for exact, counted in levels_of(name)]
        text = (GALLERY / f"{name}.md").read_text("utf-8")
        stated = re.search(r"Of (\d+) exact or computed values .*?, (\d+) lie in", text)
        assert stated is not None
        assert (len(checks), sum(checks)) == tuple(map(int, stated.groups())), name
        total, hits = total + len(checks), hits + sum(checks)
    index = (GALLERY / "index.md").read_text("utf-8")
    assert f"{hits} of {total} measured 95 % intervals" in index
    assert total >= 60
    # intervals of one page share their sources: the count is held to what as many would miss
    assert stats.binom.cdf(hits, total, 0.95) > 0.001
