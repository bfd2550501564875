"""``critwin init`` for a diffusers pipeline and features in words: from a folder to a report."""

import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from critwin.cli import main
from critwin.levels import ou_time
from critwin.models.registry import load_model
from critwin.runs.config import parse_config
from tiny_clip import clip_folder, no_network
from tiny_pipelines import save_tiny

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_tiny("sd", root / "sd")
    clip_folder(root / "clip")
    return root


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> tuple[int, str, str]:
        code = main(list(args))
        out, err = capsys.readouterr()
        return code, out, err

    with no_network():
        yield call


def test_from_prompts_and_words_to_a_report(run: Run, folders: Path) -> None:
    code, out, err = run(
        "init", "x.toml", "--model", str(folders / "sd"), "--prompt", "a photo of a car, red",
        "--feature", "tone=light,x",
        "--feature", 'place="a beach, sunny",red', "--labeller", str(folders / "clip"),
        "--sources", "8", "--levels", "4", "--steps", "6", "--batch-size", "4",
        "--set", "tone.margin=0.0", "--set", "model.local_files_only=true",
    )  # fmt: skip
    assert (code, err) == (0, ""), err
    config = parse_config(tomllib.loads(Path("x.toml").read_text()))
    assert config.sources.conditions == ("a photo of a car, red",)
    assert config.model.options["steps"] == 6
    assert [f.options["called"] for f in config.feature] == ["tone", "place"]
    assert config.feature[1].options["labels"] == ["a beach, sunny", "red"]
    levels = load_model("pipeline", path=str(folders / "sd"), steps=6).levels
    assert levels is not None
    # the grid ends where the pipeline does, not at the usual t = 5
    assert config.levels.stop == pytest.approx(float(ou_time(levels).max()), rel=1e-5)
    code, out, err = run("run", "x.toml", "--json")
    assert (code, err) == (0, ""), err
    facts = json.loads(out)
    assert facts["is_complete"]
    assert "tone" in facts["windows"]
    page = Path("x-run/report.html").read_text()
    assert "a photo of a car, red" in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--feature", "colour=red"], "not a feature in words"),
        (["--feature", "colour=red,,blue"], "not a feature in words"),
        (["--feature", "red,blue"], "not a feature in words"),
        (["--feature", "a=b,c", "--feature", "a=d,e"], "two features have the same name"),
        (["--feature", "a=b,b", "--labeller", "CLIP"], "b"),
        ([], "no features"),
        (["--feature", "a=b,c", "--labeller", "nowhere/at/all"], "nowhere"),
    ],
)
def test_mistakes_are_one_line(run: Run, folders: Path, arguments: list[str], said: str) -> None:
    given = [str(folders / "clip") if a == "CLIP" else a for a in arguments]
    code, out, err = run("init", "x.toml", "--model", str(folders / "sd"), *given)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert said in err
    assert not Path("x.toml").exists()


def test_a_missing_folder_is_one_line(run: Run) -> None:
    code, _, err = run("init", "x.toml", "--model", "./none/here", "--feature", "a=b,c")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "none/here" in err
