"""Comparisons by name: built-in, of other packages, and in a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from critwin.cli._app import run_app
from critwin.errors import InputError, RunFolderError
from critwin.experiments.forward_reverse import forward_reverse
from critwin.features.comparison_registry import (
    GROUP,
    comparison_options,
    list_comparisons,
    load_comparison,
)
from critwin.features.distance import PixelComparison
from critwin.features.neighbours import Neighbours
from critwin.runs.config import ExperimentFile, parse_config
from critwin.runs.executor import run_experiment
from critwin.runs.folder import open_run
from runs_help import CONFIG
from tiny_clip import clip_folder
from toy_models import Moved, Side, ToyImages, ToyPoints


class Plug:
    name, fingerprint = "plug", "1"

    def __init__(self, scale: float = 1.0, model: Any = None) -> None:
        self.scale, self.model = scale, model

    def read(self, source: Any, result: Any) -> Mapping[str, Any]:
        del result
        return {"plug": np.full(len(source), self.scale)}


@pytest.fixture
def _plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    point = metadata.EntryPoint("plug", f"{__name__}:Plug", GROUP)
    real = metadata.entry_points

    def points(**wanted: str) -> Any:
        if wanted.get("group") == GROUP and wanted.get("name", "plug") == "plug":
            return metadata.EntryPoints([point])
        return real(**wanted)

    monkeypatch.setattr(metadata, "entry_points", points)


def config(*comparisons: Mapping[str, Any]) -> ExperimentFile:
    return parse_config(
        {**CONFIG, "feature": [{"name": "side"}], "comparison": [dict(c) for c in comparisons]}
    )


def measured(folder: Path, *comparisons: Mapping[str, Any], **options: Any) -> Path:
    run_experiment(
        config(*comparisons), out=folder, model=ToyPoints(), features=(Side(),), **options
    )
    return folder


def test_built_in_comparisons() -> None:
    assert load_comparison("pixels") == PixelComparison()
    assert load_comparison("pixels", called="far") == PixelComparison(name="far")
    moved = Moved()
    assert load_comparison(moved) is moved
    assert "pixels" in list_comparisons()
    assert list(comparison_options()["pixels"]) == ["called"]


@pytest.mark.usefixtures("_plugged")
def test_comparisons_of_other_packages() -> None:
    assert "plug" in list_comparisons()
    model = object()
    made = load_comparison("plug", model=model, scale=3.0)
    assert isinstance(made, Plug)
    assert (made.scale, made.model) == (3.0, model)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (["pixel"], {}, "unknown comparison: got pixel.*did you mean 'pixels'"),
        (["pixels"], {"size": 3}, "unknown option of comparison 'pixels': got size"),
        ([Moved()], {"size": 3}, "options were given for a comparison that is made already"),
        ([3], {}, "not a comparison: got int"),
    ],
)
def test_what_is_refused(arguments: list[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_comparison(*arguments, **options)


def test_named_comparisons_land_in_the_ledger(tmp_path: Path) -> None:
    named = measured(tmp_path / "named", {"name": "pixels"}, {"name": "pixels", "called": "far"})
    rows = open_run(named).records()
    assert list(rows.values) == ["far", "pixels"] or list(rows.values) == ["pixels", "far"]
    np.testing.assert_array_equal(rows.values["far"], rows.values["pixels"])
    valid = rows.column("valid")
    assert np.all(rows.values["pixels"][valid] > 0)
    by_hand = forward_reverse(
        ToyPoints(),
        [Side()],
        CONFIG["levels"]["values"],
        num_sources=10,
        replicates=2,
        batch_size=4,
        comparisons=[PixelComparison()],
    )
    np.testing.assert_allclose(
        np.sort(by_hand.values["pixels"]), np.sort(rows.values["pixels"]), rtol=1e-12
    )
    info = json.loads((named / "run.json").read_text())
    assert [item["name"] for item in info["comparisons"]] == ["pixels", "far"]
    # the file decides unless the caller does
    mine = measured(tmp_path / "mine", {"name": "pixels"}, comparisons=[Moved()])
    assert list(open_run(mine).records().values) == ["moved"]


def test_embeddings_are_named_in_experiment_files(tmp_path: Path) -> None:
    clip = str(clip_folder(tmp_path / "clip"))
    section = {"name": "embedding", "path": clip, "local_files_only": True, "called": "looks"}
    run_experiment(
        config(section, {"name": "pixels"}),
        out=tmp_path / "run",
        model=ToyImages(),
        features=(Side(),),
    )
    made = load_comparison("embedding", path=clip, local_files_only=True, called="looks")
    by_hand = forward_reverse(
        ToyImages(),
        [Side()],
        CONFIG["levels"]["values"],
        num_sources=10,
        replicates=2,
        batch_size=4,
        comparisons=[made],
    )
    found = np.sort(open_run(tmp_path / "run").records().values["looks"])
    np.testing.assert_allclose(found, np.sort(by_hand.values["looks"]), atol=1e-12)
    assert np.nanmax(found) > 0
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["comparisons"][0] == {"name": "looks", "fingerprint": made.fingerprint}


def test_neighbours_are_those_of_the_model_s_data(tmp_path: Path) -> None:
    model = ToyImages()
    data = model.dataset()
    pool = model.decode(data.clean(range(len(data)))).numpy()
    made = load_comparison("neighbours", model=model)
    assert made.fingerprint == Neighbours(pool).fingerprint
    assert made.name == "neighbours"
    run_experiment(
        config({"name": "neighbours"}), out=tmp_path / "run", model=model, features=(Side(),)
    )
    rows = open_run(tmp_path / "run").records()
    home = rows.values["neighbours.home"][rows.column("valid")]
    assert set(home.tolist()) <= set(range(40))
    assert len(set(home.tolist())) > 2


def test_neighbours_need_a_data_set() -> None:
    with pytest.raises(InputError, match="needs a model with a data set: got no model"):
        load_comparison("neighbours")
    bare = ToyPoints()
    bare.dataset = None  # type: ignore[method-assign, assignment]
    with pytest.raises(InputError, match="needs a model with a data set: got toy has none"):
        load_comparison("neighbours", model=bare)
    with pytest.raises(InputError, match=r"name .* cannot be used"):
        load_comparison("neighbours", model=ToyPoints(), called="a/b")


def test_another_comparison_is_another_run(tmp_path: Path) -> None:
    measured(tmp_path / "run", {"name": "pixels"})
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(RunFolderError, match="comparison"):
        measured(tmp_path / "run")
    with pytest.raises(RunFolderError, match="comparison"):
        measured(tmp_path / "run", {"name": "pixels", "called": "far"})
    assert (tmp_path / "run" / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"name": "pixel"}], "comparison.0: unknown comparison: got pixel"),
        ([{"name": "pixels", "siz": 1}], "comparison.0: unknown option"),
        ([{"name": "embedding", "path": "./gone"}], "comparison.0: no such folder of a network"),
        ([{"name": "embedding", "pat": "x"}], "comparison.0: unknown option .* mean 'path'"),
        ([{"name": "embedding", "path": "."}], "comparison.0: .*config.json"),
        ([{"name": "neighbours", "pool": "x"}], "comparison.0: unknown option .* got pool"),
        ([{"name": "pixels"}, {"name": "pixels"}], "comparison: two comparisons .* same name"),
        ([{"name": "pixels", "model": 1}], "comparison.0: unknown option .* got model"),
        ([{}], "comparison.0.name: missing"),
    ],
)
def test_sections_that_cannot_be_used(
    tmp_path: Path, entries: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        measured(tmp_path / "run", *entries)
    assert not (tmp_path / "run").exists()


def test_files_without_comparisons_keep_their_digest() -> None:
    assert "comparison" not in config().as_dict()
    assert config({"name": "pixels"}).as_dict()["comparison"] == [{"name": "pixels"}]


def test_the_command_line_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["features", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert "pixels" in listed["comparisons"]
    assert "called" in listed["comparison_options"]["pixels"]
    assert listed["comparison_options"]["embedding"]["path"]["default"]
    assert list(listed["comparison_options"]["neighbours"]) == ["called"]
    assert run_app(["features"]) == 0
    assert "[[comparison]]" in capsys.readouterr().out
