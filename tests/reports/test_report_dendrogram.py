"""The dendrogram: every joint at its time, words for those who do not see it, any labels."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from _fake_run import PAYLOADS

from critwin.levels import logsnr_of_ou_time
from critwin.reports import ReportData
from critwin.reports.dendrogram import (
    dendrogram,
    is_drawn,
    tree_story,
    tree_summary,
    tree_table,
    write_dendrogram,
)
from critwin.transitions import Transitions
from critwin.trees import MixtureTree, transitions_tree


def ladder(names: list[str]) -> Transitions:
    """Four labels, two pairs: pairs merge around t = 1, the rest around t = 4."""
    t = np.linspace(0.1, 6.0, 40)
    own, pair = (1 / (1 + np.exp(8 * (t - at))) for at in (1.0, 4.0))
    probs = np.empty((len(t), 4, 4))
    for i in range(4):
        for j in range(4):
            base = (1 - pair) / 4
            if i // 2 == j // 2:
                base = base + pair * (1 - own) / 2 + (own * pair if i == j else 0)
            probs[:, i, j] = base
    return Transitions(
        logsnr=logsnr_of_ou_time(t),
        before=tuple(names),
        after=tuple(names),
        probs=probs,
        weights=np.full(4, 0.25),
        reversal="posterior",
        feature="animal",
    )


@pytest.fixture(scope="module")
def tree() -> MixtureTree:
    return transitions_tree(ladder(["cat", "dog", "car", "bus"]))


def test_the_drawing_is_an_accessible_figure_of_the_tree(tree: MixtureTree) -> None:
    drawings = dendrogram(tree, key="t", t_max=6.0)
    for kind in ("wide", "narrow"):
        svg = drawings[kind]
        root = ElementTree.fromstring(svg)
        space = "{http://www.w3.org/2000/svg}"
        title, desc = root.find(f"{space}title"), root.find(f"{space}desc")
        assert title is not None
        assert title.text == "Tree of animal"
        assert desc is not None
        assert "cat and dog are alike from t = 1." in (desc.text or "")
        for name in ("cat", "dog", "car", "bus", "OU time t", "noise grows →"):
            assert f">{name}<" in svg
        assert not set(re.findall(r"(?<!,)#[0-9a-f]{6}\b", svg)) - {"#000000"}
    assert drawings == dendrogram(tree, key="t", t_max=6.0)


def test_joints_stand_at_their_times(tree: MixtureTree) -> None:
    svg = dendrogram(tree, key="t", t_max=6.0)["wide"]
    lines = [
        [float(x) for x in re.findall(r"-?\d+(?:\.\d+)?", d)]
        for d in re.findall(r' d="(M [^"]*L [^"]*)"', svg)
    ]
    lines = [line for line in lines if len(line) == 4]
    level = [line for line in lines if line[1] == line[3] and line[0] < line[2]]
    origin, end = min(line[0] for line in level), max(line[2] for line in level)
    upright = {line[0] for line in lines if line[0] == line[2] and abs(line[1] - line[3]) > 20}
    for labels in (("cat", "dog"), ("car", "bus"), tree.root.labels):
        start = tree.node(labels).start.t.value
        assert start is not None
        wanted = origin + start / 6.0 * (end - origin)
        assert min(abs(x - wanted) for x in upright) < 0.6  # pixels


def test_words_say_what_the_drawing_shows(tree: MixtureTree) -> None:
    assert "2 groups of labels stand on their own before all 4 labels are one" in tree_summary(
        tree
    )
    assert "All 4 labels are alike from t = " in tree_story(tree)
    rows = list(csv.DictReader(io.StringIO(tree_table(tree, "tree.csv").text)))
    assert next(row["labels"] for row in rows if row["is_node"]) == "cat + dog + car + bus"
    assert len(rows) == 7


def test_a_star_says_that_nothing_stands_on_its_own() -> None:
    table = ladder(["a", "b", "c", "d"])
    flat = np.broadcast_to(np.eye(4), (40, 4, 4)) * np.linspace(1, 0, 40)[:, None, None]
    probs = flat + (1 - flat.sum(axis=2, keepdims=True)) / 4
    star = transitions_tree(
        Transitions(
            logsnr=table.logsnr,
            before=table.before,
            after=table.after,
            probs=probs,
            weights=table.weights,
        )
    )
    assert "No group of labels stands on its own" in tree_summary(star)
    assert "stroke-dasharray" in dendrogram(star, key="s")["wide"]  # order of merging, dashed


def test_labels_are_data() -> None:
    hostile = transitions_tree(ladder(list(PAYLOADS[:4])))
    svg = dendrogram(hostile, key="h")["wide"]
    ElementTree.fromstring(svg)
    assert "<script" not in svg


def test_a_file_of_its_own(tree: MixtureTree, tmp_path: Path) -> None:
    file = write_dendrogram(tree, tmp_path / "tree.svg")
    text = file.read_text("utf-8")
    ElementTree.fromstring(text)
    assert "prefers-color-scheme:dark" in text
    assert "--c0" in text


def test_the_report_has_a_tree_for_three_labels_and_more(data: ReportData, page: str) -> None:
    by_name = {f.feature: f for f in data.features}
    assert by_name["ground"].tree is None
    assert by_name["ink"].tree is not None
    assert by_name["digit"].tree is not None
    assert page.count("Which labels become one") == 2
    drawn = [f for f in data.features if f.tree is not None and is_drawn(f.tree)]
    assert page.count("Follow the branches from left to right") == (1 if drawn else 0)
