"""Sections of audits: kept in a run folder and read back as they were, whatever they hold."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from critwin.audits.section import Figure, Section, Series, Table, load_all, save, section_of
from critwin.errors import InputError, RunFolderError
from critwin.runs.folder import open_run, verify_folder
from runs_help import changed, start

HOSTILE = "<script>alert(1)</script> =1+1 \u202e \U0001f600"
SECTION = Section(
    name="editing",
    title="Strength",
    question="How strong?",
    answer=HOSTILE,
    details=("one", "two"),
    figures=(
        Figure(
            kind="curves",
            title="rates",
            x="t",
            y="share",
            series=(Series(name="kept", x=(1.0, 2.0), y=(0.5, None), low=(0.4, None)),),
            spans=(("window", 1.0, 2.0),),
        ),
        Figure(kind="thumbnails", title="images", images=(("a", ("aGk=", "aGk=")),)),
    ),
    tables=(Table(name="rates", columns=("t", "share"), rows=((1.0, None), (2.0, "none"))),),
    limits=("labels are perceived",),
    rerun="critwin advise run",
)


@dataclass(frozen=True)
class Result:
    value: float

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def section(self) -> Section:
        return SECTION


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sections") / "run"
    start(folder)
    return folder


def test_a_section_comes_back_as_it_was_and_the_folder_still_verifies(run_folder: Path) -> None:
    path = save(SECTION, run_folder, result={"a": float("nan")}, parameters={"keep": ["x"]})
    assert path == run_folder / "audits" / "editing.json"
    content = load_all(run_folder)["editing"]
    assert content["section"] == SECTION
    assert content["parameters"] == {"keep": ["x"]}
    assert content["result"] == {"a": None}
    assert content["ledger_digest"] == open_run(run_folder).digest()
    assert content["versions"]["critwin"]
    assert verify_folder(run_folder) == ([], [])


def test_a_result_is_kept_with_its_own_section(run_folder: Path) -> None:
    save(Result(0.25), run_folder, slug="digit-ink")
    content = load_all(run_folder)["editing-digit-ink"]
    assert content["result"] == {"value": 0.25}
    assert content["section"] == SECTION


def test_a_changed_section_no_longer_verifies(run_folder: Path) -> None:
    path = save(SECTION, run_folder, slug="changed")
    path.write_text(path.read_text().replace("How strong", "How weak"))
    problems, _ = verify_folder(run_folder)
    assert problems == ["audits/editing-changed.json: the content has changed"]
    path.unlink()
    save(SECTION, run_folder, slug="changed")


def test_a_run_that_goes_on_keeps_its_sections_in_the_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start(folder)
    save(SECTION, folder)
    old = load_all(folder)["editing"]["ledger_digest"]
    start(folder, changed(sources={"count": 12}))
    assert verify_folder(folder) == ([], [])
    assert open_run(folder).digest() != old
    (folder / "audits" / "editing.json").write_text("{}")
    assert verify_folder(folder)[0] == ["audits/editing.json: the content has changed"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"schema": 2}', '{"schema": 1}'])
def test_a_damaged_section_is_named(run_folder: Path, text: str, tmp_path: Path) -> None:
    (tmp_path / "audits").mkdir()
    (tmp_path / "audits" / "privacy.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"privacy\.json is damaged"):
        load_all(tmp_path)


def test_names_stay_inside_the_folder(run_folder: Path) -> None:
    for slug in ("../x", "", "a/b", "A", "-"):
        with pytest.raises(InputError, match="cannot name a file"):
            save(SECTION, run_folder, slug=slug)


def test_there_must_be_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not a run folder"):
        save(SECTION, tmp_path)
    assert load_all(tmp_path) == {}


def test_sections_survive_json() -> None:
    text = json.dumps(SECTION.as_dict(), allow_nan=False)
    assert section_of(json.loads(text)) == SECTION
    with pytest.raises(KeyError):
        section_of(json.loads(json.dumps(replace(SECTION).as_dict()).replace("answer", "other")))
