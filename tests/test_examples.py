"""Every recipe runs offline on a tiny pipeline of its family, from its file to a report."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from critwin.errors import InputError
from critwin.levels import alpha_sigma
from critwin.reports.report import write_report
from critwin.runs.config import parse_config
from critwin.runs.executor import run_experiment
from critwin.runs.folder import open_run, verify_folder
from critwin.runs.prepare import prepare, spec_of
from critwin.transitions import NO_SIGNAL
from tiny_clip import no_network, vit_folder
from tiny_pipelines import save_tiny

EXAMPLES = Path(__file__).parent.parent / "examples"
FAMILY = {"sd15": "sd", "sd21": "sd", "sdxl": "sdxl", "sd3": "sd3", "flux": "flux", "dit": "dit"}
HARDWARE = ("device", "dtype", "offload")
RECIPES = sorted(EXAMPLES.glob("*.toml"))
QUICK = ("car-sd21-clone", "car-flux", "photos-sd15", "dit-classes")
"""One of each kind; the others differ by family and scheduler, which have tests of their own."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(autouse=True)
def offline() -> Iterator[None]:
    with no_network():
        yield


def family_of(recipe: Path) -> str:
    return next(family for part, family in FAMILY.items() if part in recipe.stem.split("-"))


def shrunk(recipe: Path, models: Path, photos: Path) -> dict[str, Any]:
    """The recipe at toy size: local folders, few sources, levels and steps; all else as it is."""
    raw = tomllib.loads(recipe.read_text("utf-8"))
    family = family_of(recipe)
    if not (models / family).exists():
        options = {"prediction": "v_prediction"} if recipe.stem == "car-sd21" else {}
        save_tiny(family, models / family, **options)
    model = {key: value for key, value in raw["model"].items() if key not in HARDWARE}
    raw["model"] = {**model, "path": str(models / family), "steps": 5}
    raw["run"] |= {"batch_size": 2, "batch_ladder": [1]}
    raw["sources"]["count"] = 3
    raw["levels"] = {"unit": "t", "from": 0.5, "to": 1.5, "count": 2}  # of few steps
    if raw.get("experiment", {}).get("replicates", 1) > 1:
        raw["experiment"]["replicates"] = 2
    if family == "flux":  # its folder does not say its size
        raw["model"] |= {"height": 16, "width": 16}
    if family == "dit":
        raw["sources"]["conditions"] = ["cat", "dog"]
    if raw["sources"]["kind"] == "images":
        raw["sources"]["path"] = str(photos)
    for feature in raw["feature"]:
        if feature["name"] == "image-classifier":
            if not (models / "vit").exists():
                vit_folder(models / "vit")
            feature["path"] = str(models / "vit")
        else:  # words need a network of their own size: brightness stands in for what they read
            called = feature["called"]
            feature.clear()
            feature |= {"name": "brightness", "called": called}
    return raw


def photographs(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.Generator(np.random.Philox(0))
    rows = ["file_name,text"]
    for i in range(3):
        pixels = rng.integers(0, 255, (20 + i, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        rows.append(f"{i}.png,a photo {i}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_there_are_recipes_for_every_family() -> None:
    assert {family_of(recipe) for recipe in RECIPES} == set(FAMILY.values())
    assert set(QUICK) <= {recipe.stem for recipe in RECIPES}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_is_a_valid_experiment_file(recipe: Path) -> None:
    config = parse_config(tomllib.loads(recipe.read_text("utf-8")))
    assert config.run.out == f"{recipe.stem}-run"
    assert f"critwin run {recipe.name}" in recipe.read_text("utf-8")
    readme = (EXAMPLES / "README.md").read_text("utf-8")
    assert f"[{recipe.name}]({recipe.name})" in readme


def test_the_classes_are_followed_until_no_signal_is_left(models: Path) -> None:
    """Its own steps and levels; the chance level is read off the last one."""
    recipe = EXAMPLES / "dit-classes.toml"
    own, small = tomllib.loads(recipe.read_text("utf-8")), shrunk(recipe, models, models)
    small["levels"], small["model"]["steps"] = own["levels"], own["model"]["steps"]
    spec = spec_of(prepare(parse_config(small)))
    assert len(spec.levels) == own["levels"]["count"]
    assert float(alpha_sigma(spec.levels[-1].effective)[0]) < NO_SIGNAL


@pytest.mark.parametrize(
    "recipe",
    [
        recipe if recipe.stem in QUICK else pytest.param(recipe, marks=pytest.mark.validate)
        for recipe in RECIPES
    ],
    ids=lambda recipe: recipe.stem,
)
def test_a_recipe_runs_offline_to_its_report(recipe: Path, models: Path, tmp_path: Path) -> None:
    config = parse_config(shrunk(recipe, models, photographs(tmp_path / "photos")))
    outcome = run_experiment(config, out=tmp_path / "run")
    assert outcome.is_complete
    assert outcome.num_invalid == 0
    assert verify_folder(tmp_path / "run") == ([], [])
    run = open_run(tmp_path / "run")
    assert set(run.records().features) == {section.options["called"] for section in config.feature}
    try:
        page = write_report(run).read_text("utf-8")
    except InputError as error:  # three sources may all have one label
        pytest.fail(str(error))
    assert "<html" in page[:200]
