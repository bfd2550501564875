"""Editing advice: rates that hold where they were not chosen, and "none" as an answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from critwin.audits import editing
from critwin.audits.editing import advise, wish_of
from critwin.audits.section import load_all
from critwin.audits.strength import sampler
from critwin.cli import main
from critwin.errors import InputError
from critwin.levels import logsnr_of_ou_time
from critwin.records import FeatureColumns, Records
from critwin.runs.folder import verify_folder

TIMES = np.array([0.5, 1.0, 1.5, 2.0, 2.5])
LOGSNR = logsnr_of_ou_time(TIMES)
LABELS = ("a", "b", "c")


def edits(
    kept: Any, changed: Any, *, num: int = 60, replicates: int = 1, seed: int = 0
) -> Records:
    """Edits whose features survive independently with known rates at each level."""
    rng = np.random.Generator(np.random.Philox(seed))
    shape = (num, len(TIMES), replicates)
    before = {name: rng.integers(0, 3, num) for name in ("shape", "ink")}
    stays = {
        "shape": rng.uniform(size=shape) < np.asarray(kept)[None, :, None],
        "ink": rng.uniform(size=shape) >= np.asarray(changed)[None, :, None],
    }
    features = {}
    for name, first in before.items():
        own = np.broadcast_to(first[:, None, None], shape)
        other = (own + rng.integers(1, 3, shape)) % 3
        features[name] = FeatureColumns(
            labels=LABELS,
            before=own.ravel().astype(np.int64),
            after=np.where(stays[name], own, other).ravel().astype(np.int64),
        )
    index = np.indices(shape).reshape(3, -1)
    rows = index.shape[1]
    return Records(
        source=np.array([f"s{i:04d}" for i in index[0]]),
        logsnr=LOGSNR[index[1]],
        requested_logsnr=LOGSNR[index[1]],
        replicate=index[2],
        experiment=np.full(rows, "forward_reverse"),
        condition=np.full(rows, ""),
        reversal=np.full(rows, "stochastic"),
        valid=np.ones(rows, dtype=bool),
        features=features,
    )


KEPT, CHANGED = [1.0, 0.97, 0.9, 0.5, 0.4], [0.05, 0.3, 0.65, 0.67, 0.67]


def test_the_level_that_does_both() -> None:
    found = advise(edits(KEPT, CHANGED, num=400), keep=["shape"], change=["ink"])
    assert found.best.t == pytest.approx(1.5)
    assert found.interval == pytest.approx((1.5, 1.5))
    assert found.best.both[1] < 0.9 * 0.65 < found.best.both[2]
    assert found.best.num_sources == 200  # half of them chose
    section = found.section()
    assert "Edit from t = 1.50 to 1.50" in section.answer
    assert f"{found.best.both[0]:.0%}" in section.answer
    text = json.dumps(found.as_dict(), allow_nan=False)
    assert json.loads(text)["best"]["t"] == found.best.t


def test_none_exists() -> None:
    found = advise(edits([1, 0.9, 0.5, 0.3, 0.2], [0, 0.02, 0.1, 0.6, 0.7], num=300),
                   keep=["shape"], change=["ink"])  # fmt: skip
    assert found.interval is None
    assert found.section().answer.startswith("No level keeps")


def test_labels_narrow_the_wish() -> None:
    records = edits(KEPT, CHANGED, num=900)
    free = advise(records, keep=["shape"], change=["ink"])
    asked = advise(records, keep=["shape=a"], change=["ink=b"])
    # one label in three to keep; two in three may become b, and half of the changes do
    assert asked.rates[0].num_sources == pytest.approx(900 / 3 * 2 / 3, abs=45)
    assert free.rates[0].num_sources == 900
    share = next(r for r in asked.rates if r.t == pytest.approx(1.5))
    assert share.changed[0] == pytest.approx(0.65 / 2, abs=0.12)


def coverage(run: Callable[[int], tuple[float, float, float]], num: int = 120) -> float:
    return float(np.mean([low <= 0.5 <= high for _, low, high in map(run, range(num))]))


def test_promised_rates_hold_and_rates_on_the_choosing_half_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every level succeeds half the time: the best of five looks better where it was chosen."""
    flat = [np.sqrt(0.5)] * 5

    def best(seed: int) -> tuple[float, float, float]:
        records = edits(flat, flat, num=400, seed=seed)
        return advise(records, keep=["shape"], change=["ink"], confidence=0.9).best.both

    assert coverage(best) >= 0.84  # of .9: two standard errors of 120 runs below
    rates = editing._rates

    def same_half(level: Any, cluster: Any, events: Any, rows: Any, confidence: float) -> Any:
        here = rows if rows.all() else cluster % 2 == 0  # the planted bug
        return rates(level, cluster, events, here, confidence)

    monkeypatch.setattr(editing, "_rates", same_half)
    assert coverage(best) < 0.82


def test_one_image_says_so() -> None:
    found = advise(edits(KEPT, CHANGED, num=1, replicates=60), keep=["shape"], change=["ink"])
    assert found.is_one_source
    assert "of this one image" in found.section().details[0]
    assert found.best.num_sources == 30  # replicates are what varies


def test_strengths_start_at_the_level() -> None:
    found = advise(
        edits(KEPT, CHANGED, num=200), keep=["shape"], change=["ink"], presets=["sd15", "sdxl"],
        steps=30,
    )  # fmt: skip
    for row in found.starts:
        chosen = sampler(row["preset"], steps=30)
        assert chosen.level(row["strength"]) == pytest.approx(row["logsnr effective"])
        assert chosen.start(row["strength"]) == row["start step"]
        gaps = np.abs(chosen.logsnr - found.best.logsnr)
        assert abs(row["logsnr effective"] - found.best.logsnr) == pytest.approx(gaps.min())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep": ["shape"], "change": ["shape"]}, "cannot be kept and changed"),
        ({"keep": ["shape"], "change": ["hue"]}, "unknown feature"),
        ({"keep": ["shape=z"], "change": ["ink"]}, "unknown label"),
        ({"keep": [], "change": ["ink"]}, "nothing to advise on"),
        ({"keep": ["shape"], "change": ["ink"], "least_kept": 0}, "out of range"),
        ({"keep": ["shape"], "change": ["ink"], "presets": ["sd9"]}, "sd9"),
    ],
)
def test_what_cannot_be_advised(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        advise(edits(KEPT, CHANGED), **options)
    with pytest.raises(InputError, match="too few to advise on"):
        advise(edits(KEPT, CHANGED, num=5), keep=["shape"], change=["ink"])
    for text in ("", "=a", "ink=", "ink=a,,b"):
        with pytest.raises(InputError, match="not a wish"):
            wish_of(text)


RUN = """
[run]
out = "run"
[model]
name = "mixture"
mixture = { component = [
  { name = "a", weight = 0.5, mean = [-6.0, -2.0] }, { name = "b", weight = 0.5, mean = [6.0, 2.0] } ] }
[sources]
count = 40
[levels]
values = [0.3, 1.0, 2.0, 3.0]
[[feature]]
name = "component"
[[feature]]
name = "component"
called = "again"
"""  # noqa: E501


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.toml").write_text(RUN)
    assert main(["run", "x.toml"]) == 0
    capsys.readouterr()
    asked = ["advise", "run", "--keep", "component", "--change", "again", "--preset", "sd15"]
    assert main([*asked, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["interval"] is None  # what is kept cannot change: the two read the same
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert out.startswith("No level keeps")
    assert "strength" in out
    assert "editing" in load_all("run")
    assert verify_folder(tmp_path / "run") == ([], [])
    assert main(["advise", "run", "--keep", "component", "--change", "component"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert main(["advise", "nowhere", "--keep", "a", "--change", "b"]) == 2
