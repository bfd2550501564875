"""A folder of captioned images as the sources of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from critwin.errors import ConfigError, RunFolderError
from critwin.runs.config import parse_config
from critwin.runs.folder import open_run
from runs_help import changed, start
from toy_models import ToyImages


def captioned(folder: Path, *, last: str = "right") -> Path:
    folder.mkdir(exist_ok=True)
    rows = ["file_name,text,kind"]
    for index, caption in enumerate(["left", "right", "left", last]):
        level = 20 if caption == "left" else 230
        pixels = np.full((6, 9, 3), level, dtype=np.uint8)
        pixels[0, 0] += 9  # no constant image
        Image.fromarray(pixels).save(folder / f"{index}.png")
        rows.append(f"{index}.png,{caption},drawn")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_captions_are_what_same_means(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "images")
    raw = changed(sources={"kind": "images", "path": str(folder), "count": 4})
    start(tmp_path / "run", raw, model=ToyImages(), images=True)
    records = open_run(tmp_path / "run").records()
    assert set(records.condition.tolist()) == {"left", "right"}
    side = records.features["side"]
    said = np.array(side.labels)[side.after]
    np.testing.assert_array_equal(said, records.condition)  # the toy obeys its condition
    assert set(records.planted["kind"].tolist()) == {"drawn"}


def test_another_caption_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "images")
    raw = changed(sources={"kind": "images", "path": str(folder), "count": 4})
    start(tmp_path / "run", raw, model=ToyImages(), images=True)
    text = (folder / "metadata.csv").read_text()
    (folder / "metadata.csv").write_text(text.replace("3.png,right", "3.png,left"))
    raw["experiment"]["replicates"] = 3
    with pytest.raises(RunFolderError, match=r"'f:3\.png' has another caption.*wanted right"):
        start(tmp_path / "run", raw, model=ToyImages(), images=True)


def test_a_caption_that_the_model_does_not_know(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "images", last="lefd")
    raw = changed(sources={"kind": "images", "path": str(folder), "count": 4})
    with pytest.raises(ConfigError, match=r"does not know this condition: got lefd.*'left'"):
        start(tmp_path / "run", raw, model=ToyImages(), images=True)
    assert not (tmp_path / "run").exists()
    raw["denoise"] = {"condition": "none"}
    start(tmp_path / "run", raw, model=ToyImages(), images=True)


def test_only_images_are_brought_to_a_size() -> None:
    with pytest.raises(ConfigError, match=r"sources\.fit: only images"):
        parse_config(changed(sources={"fit": "crop"}))
    with pytest.raises(ConfigError, match=r"sources\.fit"):
        parse_config(changed(sources={"kind": "images", "path": "x", "fit": "tile"}))
