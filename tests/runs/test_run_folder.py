import json
import os
import signal
import threading
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from critwin.errors import (
    ConfigError,
    InputError,
    InterruptedRunError,
    RunFolderError,
    TooManyInvalidError,
)
from critwin.features.base import Reading
from critwin.runs.folder import is_run_folder, open_run, verify_folder
from critwin.runs.lock import LOCK_NAME, holder, locked
from runs_help import CONFIG, changed, start
from toy_models import Side, Size, ToyImages, ToyPoints


@pytest.fixture
def whole(tmp_path: Path) -> str:
    start(tmp_path / "whole")
    return open_run(tmp_path / "whole").digest()


def test_a_run_in_pieces_equals_a_run_at_once(tmp_path: Path, whole: str) -> None:
    folder = tmp_path / "pieces"
    outcome = start(folder, limit=7)
    assert (outcome.num_new, outcome.num_done, outcome.num_total) == (7, 7, 80)
    assert not outcome.is_complete
    for _ in range(3):
        outcome = start(folder, limit=13)
    assert outcome.num_done == 46
    outcome = start(folder)
    assert outcome.is_complete
    assert open_run(folder).digest() == whole
    assert verify_folder(folder) == ([], [])
    again = start(folder)
    assert again.num_new == 0
    assert open_run(folder).digest() == whole


def test_a_finished_run_calls_the_model_no_more(tmp_path: Path) -> None:
    start(tmp_path / "run")
    model = ToyPoints()
    start(tmp_path / "run", model=model)
    assert model.num_calls == 0
    assert not model.shapes


def test_sources_are_drawn_and_read_once(tmp_path: Path) -> None:
    class Counting(Side):
        num = 0

        def read(self, samples: Any) -> Reading:
            type(self).num += 1
            return super().read(samples)

    start(tmp_path / "run", features=(Counting(),), limit=8)
    first = Counting.num
    assert first == 3 + 2  # three batches of sources, two of units
    start(tmp_path / "run", features=(Counting(),), limit=8)
    assert Counting.num == first + 2


@pytest.mark.parametrize(
    "bigger",
    [
        {"sources": {"count": 15}},
        {"experiment": {"replicates": 3}},
        {"levels": {"unit": "logsnr", "values": [3.0, 2.0, 0.0, -1.0, -2.0, -4.0]}},
    ],
    ids=["sources", "replicates", "levels"],
)
def test_a_run_that_grows_equals_one_that_was_large(
    tmp_path: Path, bigger: dict[str, Any]
) -> None:
    start(tmp_path / "grown")
    outcome = start(tmp_path / "grown", changed(**bigger))
    assert 0 < outcome.num_new == outcome.num_total - 80
    start(tmp_path / "large", changed(**bigger))
    assert open_run(tmp_path / "grown").digest() == open_run(tmp_path / "large").digest()
    (entry,) = open_run(tmp_path / "grown").info["history"]
    assert len(entry["grown"]) == 1
    assert "->" in entry["grown"][0]
    with pytest.raises(RunFolderError, match="may only grow"):
        start(tmp_path / "grown")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"values": [2.0, 0.0, -2.0]}, {"values": [-2.0, 0.0, 2.0]}),
        ({"from": 2.0, "to": -2.0, "count": 3}, {"from": -2.0, "to": 2.0, "count": 3}),
        (
            {"unit": "t", "from": 0.2, "to": 1.7, "count": 4},
            {"unit": "t", "from": 1.7, "to": 0.2, "count": 4},
        ),
    ],
)
def test_the_order_of_levels_does_not_matter(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any]
) -> None:
    first, second = (changed(levels={"unit": "logsnr", **levels}) for levels in (one, other))
    start(tmp_path / "a", first)
    start(tmp_path / "b", second)
    assert open_run(tmp_path / "a").digest() == open_run(tmp_path / "b").digest()
    assert start(tmp_path / "a", second).num_new == 0  # the same run, and it is complete


def test_levels_that_turn_back_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"not in order: got logsnr = 0 before 1; wanted strictly"
    ):
        start(tmp_path / "a", changed(levels={"unit": "logsnr", "values": [2.0, 0.0, 1.0]}))
    assert not (tmp_path / "a").exists()


def test_a_finer_grid_of_the_same_ends_only_adds_levels(tmp_path: Path) -> None:
    def levels(count: int) -> dict[str, Any]:
        return changed(levels={"unit": "t", "from": 0.2, "to": 5.0, "count": count})

    start(tmp_path / "run", levels(5))
    outcome = start(tmp_path / "run", levels(9))
    assert outcome.num_new == 4 * 20
    assert len(np.unique(open_run(tmp_path / "run").records().logsnr)) == 9


CHANGES: dict[str, dict[str, Any]] = {
    "run.seed: 0 -> 3": {"run": {"seed": 3}},
    "run.batch_size: 4 -> 8": {"run": {"batch_size": 8}},
    "model.name: toy -> other": {"model": {"name": "other"}},
    "model.width: not given -> 3": {"model": {"width": 3}},
    "sources.kind: generated -> dataset": {"sources": {"kind": "dataset"}},
    "denoise.condition: same -> none": {"denoise": {"condition": "none"}},
    "denoise.reversal: not given -> stochastic": {"denoise": {"reversal": "stochastic"}},
    "denoise.steps: not given -> 9": {"denoise": {"steps": 9}},
    "denoise.guidance: not given -> 2.0": {"denoise": {"guidance": 2.0}},
    "sources.count: 10 -> 9": {"sources": {"count": 9}},
    "experiment.replicates: 2 -> 1": {"experiment": {"replicates": 1}},
    "levels: 1 measured ones are left out": {
        "levels": {"unit": "logsnr", "values": [2.0, 0.0, -2.0]}
    },
}


@pytest.mark.parametrize("words", CHANGES)
def test_a_change_that_can_change_numbers_is_refused(tmp_path: Path, words: str) -> None:
    folder = tmp_path / "run"
    start(folder, limit=8)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RunFolderError) as caught:
        start(folder, changed(**CHANGES[words]))
    assert words in str(caught.value)
    assert "other settings" in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_settings_that_change_no_number_may_change(tmp_path: Path, whole: str) -> None:
    start(tmp_path / "run", limit=8)
    start(tmp_path / "run", changed(run={"max_invalid": 0.9, "images": 0}))
    assert open_run(tmp_path / "run").digest() == whole


def test_another_model_feature_or_stream_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    start(folder, limit=8)

    class Other(Side):
        fingerprint = "side-2"

    with pytest.raises(RunFolderError, match=r"model: toy toy-6\.0 -> toy toy-5\.0"):
        start(folder, model=ToyPoints(5.0))
    with pytest.raises(RunFolderError, match=r"feature 'side': side-1 .* -> side-2"):
        start(folder, features=(Other(), Size()))
    with pytest.raises(RunFolderError, match="num_threads: "):
        start(folder, threads=open_run(folder).info["num_threads"] + 1)
    monkeypatch.setattr("critwin.streams.canary", lambda: "dead")
    with pytest.raises(RunFolderError, match=r"random streams of torch: \w+ -> dead"):
        start(folder)


def test_another_version_only_warns(tmp_path: Path, whole: str) -> None:
    folder = tmp_path / "run"
    start(folder, limit=8)
    info = json.loads((folder / "run.json").read_text())
    info["versions"]["torch"] = "2.6.0"
    (folder / "run.json").write_text(json.dumps(info))
    said: list[str] = []
    outcome = start(folder, say=said.append)
    assert said == list(f"warning: {line}" for line in outcome.warnings)
    assert "another version: torch: 2.6.0 -> " in said[0]
    assert open_run(folder).warnings() == list(outcome.warnings)
    assert open_run(folder).digest() == whole


def test_versions_of_what_computes_numbers_are_recorded(tmp_path: Path) -> None:
    start(tmp_path / "run", limit=1)
    versions = open_run(tmp_path / "run").info["versions"]
    for name in ("torch", "diffusers", "transformers", "tokenizers"):
        assert versions[name] == metadata.version(name)


def test_where_files_are_looked_for_changes_no_number(tmp_path: Path) -> None:
    start(tmp_path / "run", limit=4)
    for flag in (True, False):
        outcome = start(tmp_path / "run", changed(model={"local_files_only": flag}), limit=4)
    assert outcome.num_done == 12
    with pytest.raises(RunFolderError, match=r"model\.revision: not given -> main"):
        start(tmp_path / "run", changed(model={"revision": "main"}))


def test_the_threads_of_the_folder_are_used_again(tmp_path: Path) -> None:
    old = torch.get_num_threads()
    start(tmp_path / "run", limit=8, threads=3)
    assert torch.get_num_threads() == old
    assert open_run(tmp_path / "run").info["num_threads"] == 3
    start(tmp_path / "run")
    assert torch.get_num_threads() == old


def test_a_second_writer_is_refused_at_once_and_harms_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start(folder, limit=8)
    with locked(folder):
        with pytest.raises(RunFolderError, match=rf"got process {os.getpid()} on "):
            start(folder)
        assert holder(folder) == json.loads((folder / LOCK_NAME).read_text())
    assert holder(folder) is None
    start(folder)


def test_a_second_writer_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start(folder, limit=8)

    class Slow(ToyPoints):
        @property
        def conditions(self) -> Any:
            raise AssertionError("the model was asked")

        @conditions.setter
        def conditions(self, value: Any) -> None:
            pass

    with locked(folder), pytest.raises(RunFolderError, match="another process writes"):
        start(folder, model=Slow())


def test_levels_that_coincide_are_said_once_and_recorded(tmp_path: Path) -> None:
    said: list[str] = []
    model = ToyPoints(levels=np.linspace(5.0, -5.0, 11))
    raw = changed(levels={"unit": "logsnr", "values": [2.1, 2.0, 1.9, 0.0]})
    outcome = start(tmp_path / "run", raw, model=model, say=said.append)
    assert outcome.num_total == 40
    assert len(said) == len(outcome.warnings) == 1
    assert "2 requested level(s) coincide" in said[0]
    records = open_run(tmp_path / "run").records()
    assert records.attrs["num_levels_merged"] == 2
    assert set(records.logsnr.tolist()) == {2.0, 0.0}
    np.testing.assert_array_equal(records.column("requested_logsnr"), records.logsnr)


def test_a_limited_run_is_not_judged_by_a_few_results(tmp_path: Path) -> None:
    model = ToyPoints(spoil=lambda source, logsnr: source == "s000000")
    raw = changed(run={"max_invalid": 0.1})
    assert start(tmp_path / "run", raw, model=model, limit=4).num_invalid == 1


def test_a_second_writer_does_not_remove_a_new_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder):
        with pytest.raises(RunFolderError, match="another process writes"):
            start(folder)
        assert (folder / LOCK_NAME).exists()


@pytest.mark.parametrize("content", ["", "null", "[1]", '{"pid": 999999999, "host": "HOST"}'])
def test_a_stale_lock_is_taken_over(tmp_path: Path, content: str) -> None:
    import socket

    folder = tmp_path / "run"
    folder.mkdir()
    (folder / LOCK_NAME).write_text(content.replace("HOST", socket.gethostname()))
    assert holder(folder) is None
    start(folder)
    assert not (folder / LOCK_NAME).exists()


def test_a_lock_of_another_host_is_not_taken(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / LOCK_NAME).write_text('{"pid": 1, "host": "elsewhere"}')
    with pytest.raises(RunFolderError, match=r"process 1 on elsewhere.*delete run\.lock"):
        start(folder)


def test_occupied_folders_are_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunFolderError, match=r"holds something else: got thesis\.tex"):
        start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunFolderError, match="is a file"):
        start(tmp_path / "thesis.tex")
    with pytest.raises(RunFolderError, match="cannot use the run folder"):
        start(tmp_path / "thesis.tex" / "below")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody can write to")
def test_a_folder_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(RunFolderError, match=r"cannot make the run folder: got /proc/critwin"):
        start(Path("/proc/critwin"))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": "x"', '{"schema": 9}'])
def test_a_damaged_run_json_is_refused(tmp_path: Path, text: str) -> None:
    start(tmp_path / "run", limit=8)
    (tmp_path / "run" / "run.json").write_text(text)
    for call in (start, open_run):
        with pytest.raises(RunFolderError, match=r"is damaged|another format"):
            call(tmp_path / "run")  # type: ignore[operator]


def test_what_is_no_run_folder_is_said(tmp_path: Path) -> None:
    assert not is_run_folder(tmp_path)
    with pytest.raises(RunFolderError, match="not a run folder"):
        open_run(tmp_path)
    with pytest.raises(RunFolderError, match="no such run folder"):
        open_run(tmp_path / "missing")
    with pytest.raises(RunFolderError, match="no such run folder"):
        verify_folder(tmp_path / "missing")


class Broken(Side):
    """A labeller that fails from its k-th call on."""

    def __init__(self, after: int) -> None:
        self.left = after

    def read(self, samples: Any) -> Reading:
        self.left -= 1
        if self.left < 0:
            return Reading(indices=np.full(len(samples), 9))
        return super().read(samples)


def test_a_labeller_that_fails_at_once_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown label"):
        start(tmp_path / "deep" / "run", features=(Broken(0),))
    assert not (tmp_path / "deep" / "run").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="unknown label"):
        start(tmp_path / "empty", features=(Broken(0),))
    assert not (tmp_path / "empty" / "run.json").exists()


def test_a_labeller_that_fails_later_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(InputError, match="unknown label"):
        start(folder, features=(Broken(8),))
    assert open_run(folder).counts()["num_units"] == 5 * 4
    assert verify_folder(folder) == ([], [])
    start(folder, features=(Side(),))
    start(tmp_path / "whole", features=(Side(),))
    assert open_run(folder).digest() == open_run(tmp_path / "whole").digest()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (changed(levels={"unit": "t", "values": [0.0, 1.0]}), r"levels: level out of range"),
        (changed(levels={"unit": "t", "values": [1.0, 3.0, 2.0]}), r"levels: .*not in order"),
        (changed(levels={"unit": "t", "from": 1.0, "to": 1.0, "count": 3}), "levels: both ends"),
        (changed(sources={"conditions": ["up"]}), r"sources: model 'toy' does not know"),
        (changed(sources={"kind": "dataset", "count": 41}), "sources: more sources"),
        (changed(sources={"kind": "images", "path": "/missing"}), "sources: cannot read"),
        (changed(denoise={"condition": "up"}), "denoise: model 'toy' does not know"),
        (changed(denoise={"reversal": "ode"}), "denoise: model 'toy' has no such reversal"),
    ],
)
def test_what_the_model_cannot_do_is_refused_before_anything_is_written(
    tmp_path: Path, raw: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        start(tmp_path / "run", raw)
    assert not (tmp_path / "run").exists()


def test_too_many_invalid_results_stop_the_run_and_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    strict = changed(run={"max_invalid": 0.05})
    model = ToyPoints(spoil=lambda source, logsnr: source == "s000003")
    with pytest.raises(TooManyInvalidError, match="got 5 of 52"):
        start(folder, strict, model=model)
    assert open_run(folder).counts()["num_units"] == 52
    assert verify_folder(folder) == ([], [])
    with pytest.raises(TooManyInvalidError):  # not once more, one batch at a time
        start(folder, strict, model=model)
    outcome = start(folder, changed(run={"max_invalid": 0.3}), model=model)
    assert (outcome.num_done, outcome.num_invalid) == (80, 8)


def _interrupt(after: int, *signals: signal.Signals) -> Any:
    seen = []

    def progress(state: Any) -> None:
        if state.phase == "units":
            seen.append(state)
            if len(seen) == after:
                for number in signals:
                    os.kill(os.getpid(), number)

    return progress


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_batch(
    tmp_path: Path, whole: str, number: signal.Signals
) -> None:
    folder = tmp_path / "run"
    said: list[str] = []
    handler = signal.getsignal(number)
    with pytest.raises(
        InterruptedRunError, match=r"stopped: 12 of 80 units .* to go on"
    ) as caught:
        start(folder, progress=_interrupt(4, number), say=said.append)
    assert caught.value.signum == number
    assert said == [f"{number.name}: finishing this batch; once more to stop at once"]
    assert signal.getsignal(number) is handler
    assert open_run(folder).counts()["num_units"] == 12
    assert verify_folder(folder) == ([], [])
    start(folder)
    assert open_run(folder).digest() == whole


def test_a_second_signal_drops_the_batch(tmp_path: Path, whole: str) -> None:
    folder = tmp_path / "run"

    class Impatient(ToyPoints):
        def denoise(self, *args: Any, **options: Any) -> torch.Tensor:
            if self.num_calls == 3:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
            return super().denoise(*args, **options)

    with pytest.raises(InterruptedRunError, match="12 of 80"):
        start(folder, model=Impatient())
    assert verify_folder(folder) == ([], [])
    start(folder)
    start(tmp_path / "unspoiled", model=ToyPoints())
    rows = open_run(folder).records()
    other = open_run(tmp_path / "unspoiled").records()
    assert rows.source.tolist() == other.source.tolist()
    assert np.sum(~np.asarray(rows.valid)) == 2


def test_a_signal_while_sources_are_drawn(tmp_path: Path, whole: str) -> None:
    def progress(state: Any) -> None:
        if state.phase == "sources" and state.num_done == 4:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRunError, match="0 of 80"):
        start(tmp_path / "run", progress=progress)
    assert open_run(tmp_path / "run").counts()["num_sources"] == 4
    with pytest.raises(RunFolderError, match="nothing has been measured"):
        open_run(tmp_path / "run").records()
    start(tmp_path / "run")
    assert open_run(tmp_path / "run").digest() == whole


def test_a_run_outside_the_main_thread_works(tmp_path: Path, whole: str) -> None:
    thread = threading.Thread(target=start, args=(tmp_path / "run",))
    thread.start()
    thread.join()
    assert open_run(tmp_path / "run").digest() == whole


def test_an_unexpected_error_keeps_what_was_measured(tmp_path: Path, whole: str) -> None:
    class Crashing(ToyPoints):
        def denoise(self, *args: Any, **options: Any) -> torch.Tensor:
            if self.num_calls == 5:
                raise ZeroDivisionError
            return super().denoise(*args, **options)

    with pytest.raises(ZeroDivisionError):
        start(tmp_path / "run", model=Crashing())
    assert open_run(tmp_path / "run").counts()["num_units"] == 20
    assert verify_folder(tmp_path / "run") == ([], [])


def test_images_of_the_gallery(tmp_path: Path) -> None:
    from PIL import Image

    outcome = start(tmp_path / "run", images=True)
    images = open_run(outcome.path).images()
    assert [image.source for image in images] == ["s000000"] * 5 + ["s000001"] * 5 + [
        "s000002"
    ] * 5
    assert [image.logsnr for image in images[:5]] == [None, 2.0, 0.0, -2.0, -4.0]
    with Image.open(images[0].path) as image:
        assert (image.size, image.mode) == ((4, 4), "RGB")
        pixels = np.asarray(image)
    x = open_run(outcome.path).sources()[0]["before"]["side"][2]["x"]
    assert abs(pixels[0, 3, 0] / 255 - 0.5 - np.clip(x, -0.5, 0.5)) <= 0.5 / 255 + 1e-6


def test_hostile_names_of_sources_stay_inside(tmp_path: Path) -> None:
    from PIL import Image

    names = [
        "..png",
        "a b.png",
        "-rf.png",
        "con.png",
        "x" * 200 + ".png",
        "é\u202e.png",
        "$(x).png",
    ]
    folder = tmp_path / "images"
    folder.mkdir()
    for index, name in enumerate(names):
        pixels = np.full((4, 4, 3), 100 + index, dtype=np.uint8)
        pixels[:, 2:] += 20
        Image.fromarray(pixels).save(folder / name, format="PNG")
    raw = changed(sources={"kind": "images", "path": str(folder), "count": 7}, run={"images": 7})
    start(tmp_path / "run", raw, images=True)
    assert {p.name for p in tmp_path.iterdir()} == {"images", "run"}
    files = [p for p in (tmp_path / "run").rglob("*") if p.is_file()]
    assert all(p.resolve().is_relative_to(tmp_path / "run") for p in files)
    images = open_run(tmp_path / "run").images()
    assert len(images) == 7 * 5
    assert {image.source for image in images} == {f"f:{name}" for name in names}
    assert verify_folder(tmp_path / "run") == ([], [])


def test_a_manifest_that_leads_outside_is_damaged(tmp_path: Path) -> None:
    start(tmp_path / "run")
    (tmp_path / "run" / "manifest.sha256").write_text("0" * 64 + "  ../secret\n")
    problems, _ = verify_folder(tmp_path / "run")
    assert "the manifest is damaged" in problems[0]


def test_nothing_machine_bound_is_stored(tmp_path: Path) -> None:
    import socket

    start(tmp_path / "run")
    text = (tmp_path / "run" / "run.json").read_text()
    assert str(tmp_path) not in text
    assert socket.gethostname() not in text
    data = (tmp_path / "run" / "ledger.sqlite").read_bytes()
    assert str(tmp_path).encode() not in data


def test_the_config_comes_back(tmp_path: Path) -> None:
    start(tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.config.levels.values == (2.0, 0.0, -2.0, -4.0)
    assert run.labels == {"side": ("left", "right"), "size": ("small", "large")}
    tr = run.transitions("side*size")
    assert tr.feature == "side*size"
    assert CONFIG["run"]["batch_size"] == run.config.run.batch_size


def test_toy_images_read_the_same_after_a_resume(tmp_path: Path) -> None:
    start(tmp_path / "a", images=True)
    start(tmp_path / "b", images=True, limit=11)
    start(tmp_path / "b", images=True, model=ToyImages())
    one, two = (open_run(tmp_path / name) for name in "ab")
    names = [image.path.relative_to(one.path) for image in one.images()]
    assert names == [image.path.relative_to(two.path) for image in two.images()]
    assert all((one.path / n).read_bytes() == (two.path / n).read_bytes() for n in names)
