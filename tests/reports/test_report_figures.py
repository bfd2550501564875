from __future__ import annotations

import re
import warnings
from itertools import combinations
from xml.etree import ElementTree

import matplotlib
import pytest
from _fake_run import LABELS, fake_records

from critwin.reports import ReportData, report_data
from critwin.reports.figures import feature_figure, ladder, overview
from critwin.reports.palette import BACKGROUND, ROLES, contrast, series
from critwin.reports.panels import label_figure
from critwin.reports.svg import drawing, new_figure, to_svg


@pytest.fixture(scope="module")
def drawings(data: ReportData) -> dict[str, str]:
    figures = {
        "overview": overview(data),
        "ladder": ladder(data),
        "kept": feature_figure(data.features[2], 2, data),
        "labels": label_figure(data.features[0], data),
    }
    return {f"{name}-{kind}": svg for name, pair in figures.items() for kind, svg in pair.items()}


def test_figures_are_well_formed_and_labelled(drawings: dict[str, str]) -> None:
    space = "{http://www.w3.org/2000/svg}"
    for svg in drawings.values():
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        title, desc = root.find(f"{space}title"), root.find(f"{space}desc")
        assert title is not None
        assert desc is not None
        assert title.text
        assert desc.text
        assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"


def test_ids_do_not_collide_and_references_resolve(drawings: dict[str, str]) -> None:
    seen: set[str] = set()
    for svg in drawings.values():
        ids = re.findall(r'\bid="([^"]+)"', svg)
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        seen |= set(ids)
        used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)
        assert {a or b for a, b in used} <= set(ids)


def test_figures_are_the_same_bytes_again(data: ReportData, drawings: dict[str, str]) -> None:
    assert overview(data)["wide"] == drawings["overview-wide"]
    assert label_figure(data.features[0], data)["narrow"] == drawings["labels-narrow"]


def test_text_is_text_and_colours_are_variables(drawings: dict[str, str]) -> None:
    svg = drawings["overview-wide"]
    for words in ("ground", "OU time t", "← generation runs", "noise grows →", "log-SNR"):
        assert f">{words}<" in svg
    assert "font-family" not in svg
    assert "var(--c0,#0072b2)" in svg
    bare = re.findall(r"(?<!,)#[0-9a-f]{6}\b", svg)
    assert not set(bare) - {"#000000"}


def test_numbers_of_paths_are_numbers(drawings: dict[str, str]) -> None:
    # "10." would end the path for a browser
    for svg in drawings.values():
        for path in re.findall(r' d="([^"]*)"', svg):
            assert not re.search(r"\d\.(?!\d)", path)


def test_drawing_changes_no_global_setting() -> None:
    before = dict(matplotlib.rcParams)
    filters = list(warnings.filters)
    with drawing():
        assert matplotlib.rcParams["svg.fonttype"] == "none"
    assert dict(matplotlib.rcParams) == before
    assert warnings.filters == filters


def test_labels_of_any_script_are_data() -> None:
    names = {"digit": "$x_1$ \\alpha", "ground": "背景 🎨 خلفية", "ink": "<script>&amp;"}
    odd = {**LABELS, "ink": ("$", "</svg>", "\x07=1")}
    figures = report_data(
        fake_records(num_sources=12, num_levels=4, labels=odd, names=names, is_abstaining=False)
    )
    svg = overview(figures)["wide"]
    assert "$x_1$ \\alpha" in svg
    assert "背景" in svg
    assert "&lt;script&gt;&amp;amp;" in svg
    own = next(f for f in figures.features if f.feature == names["ink"])
    panel = label_figure(own, figures)["wide"]
    assert "&lt;/svg&gt;" in panel
    assert "\ufffd=1" in panel
    assert "\x07" not in panel
    ElementTree.fromstring(panel)


def test_an_unknown_key_is_refused() -> None:
    with drawing(), pytest.raises(ValueError, match="key of a figure"):
        to_svg(new_figure(10, 10), key='x" onload="', title="", desc="")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_have_contrast(theme: str) -> None:
    ground = getattr(BACKGROUND, theme)
    wash = getattr(ROLES["wash"], theme)
    for name in ("ink", "muted", "link"):
        assert contrast(getattr(ROLES[name], theme), wash) >= 4.5, name
    for name in ("ink", "muted", "link", "c1"):  # c1: changed labels
        assert contrast(getattr(ROLES[name], theme), ground) >= 4.5, name
    for k in range(6):
        assert contrast(getattr(ROLES[f"c{k}"], theme), ground) >= 3, k


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_in_heat_cells_has_contrast(theme: str) -> None:
    wash, heat, ink = (getattr(ROLES[name], theme) for name in ("wash", "heat", "ink"))
    for share in (0, 0.25, 0.5, 0.75, 1):
        part = 0.7 * share  # what the style sheet mixes
        mixed = "#" + "".join(
            f"{round(part * int(heat[k : k + 2], 16) + (1 - part) * int(wash[k : k + 2], 16)):02x}"
            for k in (1, 3, 5)
        )
        assert contrast(ink, mixed) >= 4.5, share


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)


def test_no_two_features_look_alike() -> None:
    styles = [series(k) for k in range(30)]
    for a, b in combinations(styles, 2):
        assert a != b
    for k in range(6):  # without colour, too
        for j in range(k):
            assert (styles[j].dashes, styles[j].marker) != (styles[k].dashes, styles[k].marker)
