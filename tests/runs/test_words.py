"""Features in words and clusters in a run folder, from the experiment file alone, offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from critwin.errors import ConfigError, RunFolderError
from critwin.features import error_matrix, fit_clusters, load_encoder, load_feature
from critwin.runs.config import parse_config
from critwin.runs.executor import run_experiment
from critwin.runs.folder import open_run
from runs_help import changed
from tiny_clip import clip_folder, no_network
from toy_models import ToyImages


def images() -> Any:
    """What the toy model makes of points on both sides."""
    points = torch.zeros(30, 2)
    points[:, 0] = torch.linspace(-9, 9, 30)
    return ToyImages().decode(points).numpy()


def experiment(folder: Path, **word: Any) -> dict[str, Any]:
    clip = clip_folder(folder / "clip")
    fit_clusters(images(), load_encoder(clip), 2).save(folder / "clusters.safetensors")
    words = {"name": "zero-shot", "path": str(clip), "labels": {"x": ["a cat", "a dog"], "y": "z"}}
    raw = changed(experiment={"replicates": 1}, sources={"count": 5})
    raw["feature"] = [
        {**words, "called": "animal", "local_files_only": True, **word},
        {"name": "clusters", "file": str(folder / "clusters.safetensors"), "called": "first"},
        {"name": "brightness", "edges": [0.4, 0.6], "labels": ["dark", "grey", "bright"]},
    ]
    return raw


def start(folder: Path, raw: dict[str, Any]) -> Any:
    with no_network():
        run_experiment(parse_config(raw), out=folder, model=ToyImages())
    return open_run(folder)


def test_a_run_reads_words_and_clusters_and_goes_on(tmp_path: Path) -> None:
    raw = experiment(tmp_path)
    records = start(tmp_path / "run", raw).records()
    assert set(records.features) == {"animal", "first", "brightness"}
    assert records.features["animal"].labels == ("x", "y")
    assert set(records.features["animal"].after_values) == {"score", "margin"}
    assert set(records.features["first"].after.tolist()) == {0, 1}
    raw["sources"]["count"] = 7
    more = start(tmp_path / "run", raw).records()
    whole = start(tmp_path / "whole", raw).records()
    for name in ("animal", "first", "brightness"):
        np.testing.assert_array_equal(more.features[name].after, whole.features[name].after)
    np.testing.assert_array_equal(
        more.features["animal"].after_probs, whole.features["animal"].after_probs
    )


def test_another_network_is_not_gone_on_with(tmp_path: Path) -> None:
    raw = experiment(tmp_path)
    start(tmp_path / "run", raw)
    clip_folder(tmp_path / "clip", seed=1)
    fit_clusters(images(), load_encoder(tmp_path / "clip"), 2).save(
        tmp_path / "clusters.safetensors"
    )
    with pytest.raises(RunFolderError, match="measured with something else: got feature 'animal'"):
        start(tmp_path / "run", raw)


def test_the_labeller_s_errors_come_with_the_records(tmp_path: Path) -> None:
    raw = experiment(tmp_path)
    feature = load_feature(
        "zero-shot",
        path=str(tmp_path / "clip"),
        labels={"x": ["a cat", "a dog"], "y": "z"},
        called="animal",
    )
    matrix = error_matrix(feature, images(), ["x", "y"] * 15)
    (tmp_path / "errors.json").write_text(json.dumps(matrix.as_dict()))
    raw["feature"][0]["errors"] = str(tmp_path / "errors.json")
    records = start(tmp_path / "run", raw).records()
    stored = json.loads(records.attrs["labeller_errors"])
    assert stored["animal"]["counts"] == matrix.counts.tolist()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ({"model": "owner/name"}, r"feature\.0: unknown option .*got model; .*named by `path`"),
        ({"feature": "x"}, r"feature\.0: unknown option of feature 'zero-shot': got feature"),
        ({"labels": ["a cat"]}, r"feature\.0: feature 'animal' needs two labels"),
        ({"labels": {"x": "a cat", "y": "A CAT"}}, "'x' and 'y' are the same to the network"),
        ({"path": "no/such"}, r"feature\.0: no/such is not on this machine"),
        ({"template": "x"}, "did you mean 'templates'?"),
        ({"templates": ["a photo"]}, r"feature\.0: a template cannot be used"),
        ({"margin": 2}, r"feature\.0: margin is out of range"),
        ({"calibration": "none.json"}, r"feature\.0: cannot read the calibration: got none.json"),
    ],
)
def test_mistakes_name_their_section_and_leave_nothing(
    tmp_path: Path, word: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        start(tmp_path / "run", experiment(tmp_path, **word))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
