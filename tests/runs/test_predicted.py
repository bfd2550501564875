"""The evaluations that a dry run predicts are those that the run makes, counted at the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from critwin.experiments.trajectories import Waypoints
from critwin.models.denoiser import Denoiser
from critwin.models.registry import load_model
from critwin.records import digest
from critwin.runs.config import parse_config
from critwin.runs.estimate import estimate_run
from critwin.runs.executor import run_experiment
from critwin.runs.folder import open_run
from critwin.runs.ledger import Ledger
from critwin.runs.prepare import prepare
from tiny_clip import no_network
from tiny_pipelines import save_tiny
from toy_models import Side

EXPERIMENTS = ("forward_reverse", "clone", "prompt_switch", "preview", "intervene")


def raw(name: str, guidance: float | None, **sections: Any) -> dict[str, Any]:
    own: dict[str, Any] = {
        "run": {"batch_size": 3, "max_invalid": 1.0, "images": 0},
        "model": {"name": "counted"},
        "sources": {"count": 4, "conditions": ["left"]},
        "levels": {"values": [0.4, 1.5]},
        "experiment": {"name": name},
        "feature": [{"name": "side"}],
        "denoise": {},
    }
    if guidance is not None:
        own["denoise"]["guidance"] = guidance
    if name == "prompt_switch":
        own["denoise"]["condition"] = "right"
    if name == "intervene":
        del own["levels"]
        segments = [{"from": 1.6, "to": 0.5, "guidance": 2.0}]
        own["experiment"]["arm"] = [{"name": "a"}, {"name": "b", "segments": segments}]
    for key, value in sections.items():
        own[key] = {**own.get(key, {}), **value}
    return own


class Counted(Denoiser):
    """Two Gaussians, and how many rows the network has seen."""

    def __init__(self, **options: Any) -> None:
        self.rows = 0

        def function(x: torch.Tensor, level: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            self.rows += len(x)
            mean = torch.where(label == 0, -3.0, torch.where(label == 1, 3.0, 0.0))
            out = 0.5 * x
            out[:, 0] += 0.5 * mean
            return out

        super().__init__(
            function, shape=(2,), conditions=("left", "right"), steps=6, fingerprint="c", **options
        )


def spent(model: Any, rows: Callable[[], int], own: dict[str, Any], out: Path) -> tuple[int, int]:
    """Predicted and counted evaluations."""
    features = (Side(),) if own["model"]["name"] == "counted" else None
    config = parse_config(own)
    found = estimate_run(prepare(config, model=model, features=features))
    assert found.evaluations is not None
    assert found.source_evaluations is not None
    before = rows()
    run_experiment(config, out=out, model=model, features=features)
    return found.evaluations, rows() - before


@pytest.mark.parametrize("guidance", [None, 1.0, 3.0])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_denoiser_is_called_as_often_as_was_said(
    name: str, guidance: float | None, tmp_path: Path
) -> None:
    model = Counted()
    said, made = spent(model, lambda: model.rows, raw(name, guidance), tmp_path / "run")
    assert said == made


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("options", [{"order": 1}, {"guidance_interval": (0.5, 1.0)}])
def test_samplers_and_intervals_are_told_apart(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = Counted(guidance=2.5, **options)
    own = raw(name, None, denoise={"steps": 4} if name == "forward_reverse" else {})
    if options.get("order") == 1 and name == "prompt_switch":
        own["denoise"]["reversal"] = "ode"
    said, made = spent(model, lambda: model.rows, own, tmp_path / "run")
    assert said == made


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_is_left_of_a_run_is_predicted_too(name: str, tmp_path: Path) -> None:
    """Trajectories are followed again by another process, whose memory is empty."""
    model, config = Counted(), parse_config(raw(name, 3.0))
    parts: dict[str, Any] = {"model": model, "features": (Side(),)}
    run_experiment(config, out=tmp_path, limit=3, **parts)
    with Ledger.read(tmp_path) as ledger:
        done = ledger.done()
    drawn = [row["name"] for row in open_run(tmp_path).sources()]
    found = estimate_run(prepare(config, **parts), done=done, drawn=drawn)
    before = model.rows
    run_experiment(config, out=tmp_path, **parts)
    assert model.rows - before == found.evaluations
    assert len(done) == 3


def test_trajectories_that_do_not_fit_into_memory_are_counted_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Waypoints.__init__, "__defaults__", (16,))  # bytes: one state at a time
    model = Counted()
    said, made = spent(model, lambda: model.rows, raw("clone", 3.0), tmp_path / "run")
    assert said == made
    records = open_run(tmp_path / "run").records()
    assert len(records) == 8
    monkeypatch.undo()
    run_experiment(
        parse_config(raw("clone", 3.0)), out=tmp_path / "b", model=model, features=(Side(),)
    )
    assert digest(records) == open_run(tmp_path / "b").digest()
    fewer = estimate_run(prepare(parse_config(raw("clone", 3.0)), model=model, features=(Side(),)))
    assert fewer.evaluations is not None
    assert fewer.evaluations < said


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    with no_network():
        save_tiny("sd", folder / "sd")
        rng = np.random.Generator(np.random.Philox(0))
        (folder / "photos").mkdir()
        for i in range(4):
            pixels = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("name", "guidance", "kind"),
    [
        *((name, 3.0, "generated") for name in EXPERIMENTS if name != "intervene"),
        ("forward_reverse", 1.0, "generated"),
        ("forward_reverse", 3.0, "images"),
        ("forward_reverse", 1.0, "images"),
        ("preview", 1.0, "generated"),
        ("preview", 3.0, "second order"),
        ("clone", 3.0, "second order"),
    ],
)
def test_a_pipeline_evaluates_its_network_as_often_as_was_said(
    name: str,
    guidance: float,
    kind: str,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from diffusers import UNet2DConditionModel

    rows, forward = [0], UNet2DConditionModel.forward

    def counted(self: Any, sample: torch.Tensor, *args: Any, **options: Any) -> Any:
        rows[0] += len(sample)
        return forward(self, sample, *args, **options)

    monkeypatch.setattr(UNet2DConditionModel, "forward", counted)
    scheduler = "HeunDiscreteScheduler" if kind == "second order" else "DDIMScheduler"
    options = {"steps": 5, "scheduler": scheduler, "guidance": guidance}
    sources: dict[str, Any] = {"conditions": ["a car"]}
    if kind == "images":
        sources = {"kind": "images", "path": str(tiny / "photos"), "conditions": []}
    own = raw(
        name,
        None,
        model={"name": "pipeline", "path": str(tiny / "sd"), **options},
        sources=sources,
        denoise={"condition": "a dog"} if name == "prompt_switch" else {},
    )
    own["feature"] = [{"name": "brightness"}]
    with no_network():
        model = load_model("pipeline", path=str(tiny / "sd"), **options)
        said, made = spent(model, lambda: rows[0], own, tmp_path / "run")
    assert said == made
