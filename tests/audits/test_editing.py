"""Editing advice: rates that hold where they were not chosen, and "none" as an answer."""

import html
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from critwin.audits import editing
from critwin.audits._editing_names import slug_of
from critwin.audits.editing import Wish, advise, wish_of
from critwin.audits.editing_start import wishes_in_words
from critwin.audits.section import load_all
from critwin.audits.strength import sampler
from critwin.cli import main
from critwin.errors import InputError
from critwin.levels import logsnr_of_ou_time, ou_time
from critwin.models.registry import load_model
from critwin.records import FeatureColumns, Records
from critwin.runs.files import png
from critwin.runs.folder import open_run, verify_folder
from tiny_clip import clip_folder, no_network
from tiny_pipelines import save_tiny

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
    assert "Edit from t = 1.50: " in section.answer
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
        records = edits(flat, flat, num=160, seed=seed)
        return advise(records, keep=["shape"], change=["ink"], confidence=0.9).best.both

    assert coverage(best) >= 0.84  # of .9: two standard errors of 120 runs below
    rates = editing.rates_of

    def same_half(events: Any, rows: Any, confidence: float) -> Any:
        here = rows if rows.all() else events.cluster % 2 == 0  # the planted bug
        return rates(events, here, confidence)

    monkeypatch.setattr(editing, "rates_of", same_half)
    assert coverage(best) < 0.82


def test_one_image_says_so() -> None:
    found = advise(edits(KEPT, CHANGED, num=1, replicates=60), keep=["shape"], change=["ink"])
    assert found.is_one_source
    assert "of this one image" in found.section().details[0]
    assert found.best.num_sources == 30  # replicates are what varies


def test_strengths_start_at_the_level() -> None:
    found = advise(
        edits(KEPT, CHANGED, num=200), keep=["shape"], change=["ink"], samplers=["sd15", "sdxl"],
        steps=30,
    )  # fmt: skip
    own = [start for start in found.starts if start.tool == "diffusers"]
    assert [start.model for start in own] == ["sd15", "sdxl"]
    for start in own:
        chosen = sampler(start.model, steps=30)
        assert chosen.level(start.values["strength"]) == pytest.approx(start.logsnr)
        assert chosen.start(start.values["strength"]) == start.values["start step"]
        gaps = np.abs(chosen.logsnr - found.best.logsnr)
        assert abs(start.logsnr - found.best.logsnr) == pytest.approx(gaps.min())
        assert start.kept == pytest.approx(
            np.interp(start.t, TIMES, [rate.kept[0] for rate in found.rates])
        )
        assert start.guidance is not None
        assert found.guidance is not None
        inside = (ou_time(chosen.logsnr) >= found.guidance[0]) & (
            ou_time(chosen.logsnr) <= found.guidance[1]
        )
        assert start.guidance == (np.flatnonzero(inside)[0], np.flatnonzero(inside)[-1])
    assert {s.tool for s in found.starts} == {
        "diffusers", "ComfyUI KSampler", "ComfyUI KSamplerAdvanced", "A1111",
    }  # fmt: skip
    for start in found.starts:  # whole settings of other tools are coarser
        assert abs(start.t - found.best.t) < 0.12
    names = [row[0] for table in found.section().tables for row in table.rows]
    assert "ComfyUI KSampler" in names


def test_settings_lie_within_the_interval_where_they_can() -> None:
    kept, changed = [1.0, 0.95, 0.9, 0.85, 0.4], [0.05, 0.4, 0.5, 0.67, 0.67]
    found = advise(
        edits(kept, changed, num=600), keep=["shape"], change=["ink"], samplers=["sd15", "sdxl"]
    )
    assert found.interval == pytest.approx((1.0, 2.0))
    assert found.best.t == pytest.approx(2.0)
    for start in found.starts:
        assert start.is_inside
        assert 1.0 - 1e-9 <= start.t <= 2.0 + 1e-9


def test_another_reversal_is_said() -> None:
    found = advise(edits(KEPT, CHANGED), keep=["shape"], change=["ink"], samplers=["digits"])
    assert not any("has rates of its own" in line for line in found.section().details)
    found = advise(edits(KEPT, CHANGED), keep=["shape"], change=["ink"], samplers=["sd15"])
    assert any("has rates of its own" in line for line in found.section().details)


def test_a_level_that_meets_both_rates_is_preferred_to_the_most_successes() -> None:
    kept, changed = [1.0, 0.85, 0.75, 0.5, 0.4], [0.05, 0.6, 0.9, 0.9, 0.9]
    found = advise(
        edits(kept, changed, num=2000), keep=["shape"], change=["ink"], least_changed=0.5
    )
    assert found.status == "found"
    assert found.best.t == pytest.approx(1.0)
    assert 0.75 * 0.9 > 0.85 * 0.6


def test_few_sources_are_unsure_where_many_know_that_there_is_none() -> None:
    kept, changed = [1, 0.9, 0.76, 0.3, 0.2], [0, 0.1, 0.46, 0.6, 0.7]
    for num, status in ((12, "unsure"), (3000, "none")):
        found = advise(
            edits(kept, changed, num=num), keep=["shape"], change=["ink"], least_changed=0.5
        )
        assert found.status == status
        assert found.guidance is None
        wanted = "No level keeps" if status == "none" else "No level is known"
        assert found.section().answer.startswith(wanted)


def test_keeping_and_changing_must_happen_to_the_same_edits() -> None:
    records = edits([0.85] * 5, [0.3] * 5, num=2000)
    assert advise(records, keep=["shape"], change=["ink"], least_changed=0.2).status == "found"
    shape, ink = records.features["shape"], records.features["ink"]
    lost = shape.after != shape.before  # the same edits lose the shape and change the ink
    own = replace(ink, after=np.where(lost, (ink.before + 1) % 3, ink.before))
    found = advise(
        replace(records, features={"shape": shape, "ink": own}),
        keep=["shape"], change=["ink"], least_kept=0.8, least_changed=0.1,
    )  # fmt: skip
    assert found.best.kept[1] > 0.8
    assert found.best.changed[1] > 0.1
    assert found.best.both[0] == 0.0
    assert found.status == "none"


def test_the_wanted_change_is_half_of_what_a_fresh_sample_gives() -> None:
    records = edits(KEPT, CHANGED, num=600)
    bare = advise(records, keep=["shape"], change=["ink"])
    assert bare.full_change == max(rate.changed[0] for rate in bare.rates)
    one = advise(
        replace(
            edits(KEPT, CHANGED, num=1, replicates=60),
            priors={"ink": {"a": 1.0}},
            attrs={"estimated_priors": '["ink"]'},
        ),
        keep=["shape"], change=["ink"],
    )  # fmt: skip
    assert one.full_from == "the level at which it changes most"  # one source tells no law
    told = replace(records, priors={"ink": {"a": 0.5, "b": 0.3, "c": 0.2}})
    found = advise(told, keep=["shape"], change=["ink"])
    assert found.full_change == pytest.approx(1 - 1 / 3, abs=0.03)  # sources are uniform
    assert found.least_changed == found.full_change / 2
    asked = advise(told, keep=["shape"], change=["ink=a,b"])
    assert asked.full_change == pytest.approx(0.8)


def test_abstentions_are_failures_and_invalid_results_are_left_out() -> None:
    records = edits(np.ones(5), np.ones(5), num=100)
    columns = records.features["ink"]
    silent, invalid = np.arange(len(records)) % 4 == 0, np.arange(len(records)) % 4 == 1
    spoilt = replace(
        records,
        valid=~invalid,
        features={
            **records.features,
            "ink": replace(columns, after=np.where(silent, -1, columns.after)),
        },
    )
    found = advise(spoilt, keep=["shape"], change=["ink"])
    assert found.num_abstained == 125
    assert found.num_invalid == 125
    shares = [rate.changed[0] for rate in found.rates]
    assert float(np.mean(shares)) == pytest.approx(2 / 3, abs=0.01)
    assert any("count as failures" in line for line in found.section().limits)


def test_kinds_of_records_are_not_mixed() -> None:
    records = edits(KEPT, CHANGED)
    half = records.source < "s0030"
    mixed = replace(records, reversal=np.where(half, "ode", "stochastic"))
    with pytest.raises(InputError, match="several kinds of reversal"):
        advise(mixed, keep=["shape"], change=["ink"])
    found = advise(mixed, keep=["shape"], change=["ink"], where={"reversal": "ode"})
    assert found.reversal == "ode"
    half = np.arange(len(records)) % 2 == 0
    mixed = replace(records, condition=np.where(half, "", "x"))
    with pytest.raises(InputError, match="several conditions"):
        advise(mixed, keep=["shape"], change=["ink"])


def test_labels_that_hold_commas_and_equals() -> None:
    known = {"scene": ("beach, at night", "a=b"), "scene=x": ("y",)}
    assert wish_of("scene=beach, at night", known).labels == ("beach, at night",)
    assert wish_of("scene=a=b", known).labels == ("a=b",)
    assert wish_of("scene=x", known).feature == "scene=x"
    assert wish_of("scene=a,b", known).labels == ("a", "b")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep": ["shape"], "change": ["shape"]}, "cannot be kept and changed"),
        ({"keep": ["shape"], "change": ["hue"]}, "unknown feature"),
        ({"keep": ["shape=z"], "change": ["ink"]}, "unknown label"),
        ({"keep": [], "change": ["ink"]}, "nothing to advise on"),
        ({"keep": ["shape"], "change": ["ink"], "least_kept": 0}, "out of range"),
        ({"keep": ["shape"], "change": ["ink"], "samplers": ["sd9"]}, "sd9"),
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
    assert "Editing strength" in Path("run/report.html").read_text()
    assert main([*asked, "--no-report"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("No level keeps")
    assert "strength" in out
    again = [*asked, "--steps", "25", "--no-report"]
    name = "editing-keep-component-change-again"
    assert load_all("run")[name]["section"].rerun == shlex.join(["critwin", *again[:-1]])
    more = ["--where", "replicate=0", "--scheduler", "EulerDiscreteScheduler", "--karras"]
    more += ["--least-kept", "0.7", "--least-changed", "0.2", "--confidence", "0.9"]
    assert main([*asked, *more, "--no-report"]) == 0
    (other,) = set(load_all("run")) - {name}  # other rows are another question
    assert other.startswith(f"{name}-")
    words = shlex.split(load_all("run")[other]["section"].rerun)
    assert {*words} == {"critwin", "--steps", "25", *asked, *more}
    capsys.readouterr()
    assert main([*asked, "--no-report"]) == 0
    assert verify_folder(tmp_path / "run") == ([], [])
    mistakes = [
        ["run", "--keep", "component", "--change", "component"],
        ["nowhere", "--keep", "a", "--change", "b"],
        ["--keep", "a", "--change", "b", "--model", "digits"],
        ["run", "--keep", "component", "--change", "again", "--image", "x.png"],
        ["run", "--keep", "component", "--change", "again", "--scheduler", "DDIMScheduler"],
        ["run", "--keep", "component", "--change", "again", "--preset", "sd9"],
        ["run", "--keep", "component", "--change", "again", "--preset", "sd15",
         "--scheduler", "DDIMSheduler"],
        ["run", "--keep", "component", "--change", "again", "--confidence", "2"],
        ["run", "--keep", "component", "--change", "again", "--where", "x"],
        ["run", "--keep", "component", "--change", "again", "--where", "replicate=7"],
        ["run", "--keep", "component", "--change", "again", "--reversal", "ode"],
        ["--keep", "digit", "--change", "ink", "--model", "digits", "--image", "no.png",
         "--out", "new"],
        ["--keep", "digit", "--change", "hue9", "--model", "digits", "--image", "no.png",
         "--out", "new"],
    ]  # fmt: skip
    for words in mistakes:
        assert main(["advise", *words]) == 2, words
        assert len(capsys.readouterr().err.strip().splitlines()) == 1, words
    assert not Path("new").exists()


def test_a_folder_keeps_the_advice_on_every_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, seed in (("one", 0), ("two", 1)):
        Path("x.toml").write_text(RUN.replace('out = "run"', f'out = "{folder}"\nseed = {seed}'))
        assert main(["run", "x.toml", "--no-report"]) == 0
    asked = [("component", "again"), ("again", "component"), ("component=a", "again")]
    for keep, change in asked:
        last = [] if (keep, change) == asked[-1] else ["--no-report"]
        assert main(["advise", "one", "--keep", keep, "--change", change, *last]) == 0
    assert main(["advise", "two", "--keep", "again", "--change", "component", "--no-report"]) == 0
    assert set(load_all("one")) == {
        "editing-keep-component-change-again",
        "editing-keep-again-change-component",
        "editing-keep-component-is-a-change-again",
    }
    page = html.unescape(Path("one/report.html").read_text("utf-8")).replace("\u00a0", " ")
    for title in (
        "Editing strength: keep the component, change the again",
        "Editing strength: keep the again, change the component",
        "Editing strength: keep the component (a), change the again",
    ):
        assert title in page
    assert verify_folder(tmp_path / "one") == ([], [])
    capsys.readouterr()
    assert main(["compare", "one", "two", "--json"]) == 0  # the question that both were asked
    assert set(json.loads(capsys.readouterr().out)["audits"]) == {
        "editing-keep-again-change-component"
    }


def test_names_of_questions_are_names_of_files_and_differ() -> None:
    wishes = [
        ["digit"], ["digit=8"], ["digit=8,9"], ["digit", "ink"], ["digit-8"], ["Digit"],
        ["digit=is"], ["is"], ["a*b"], ["Straße=naß"], ["x" * 80], ["x" * 81],
    ]  # fmt: skip
    sides = [[Wish(feature=w) if "=" not in w else wish_of(w) for w in ws] for ws in wishes]
    names = [slug_of(keep, [Wish(feature="ground")]) for keep in sides]
    names += [slug_of([Wish(feature="ground")], change) for change in sides]
    names += [slug_of(sides[0], sides[1], {"condition": c}) for c in ("1", "2")]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", name) for name in names)
    assert names[:3] == [
        "keep-digit-change-ground",
        "keep-digit-is-8-change-ground",
        "keep-digit-is-8-or-9-change-ground",
    ]


def test_one_image_of_the_digits_starts_its_run_and_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model: Any = load_model("digits")
    Path("photo.png").write_bytes(png(model.decode(model.dataset().clean([0]))[0]))
    asked = [
        "advise", "--model", "digits", "--image", "photo.png", "--keep", "ground", "--change",
        "digit", "--out", "run", "--levels", "2", "--replicates", "8", "--steps", "2",
        "--preset", "digits", "--json", "--no-report",
    ]  # fmt: skip
    assert main(asked) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["is_one_source"]
    assert first["best"]["num_sources"] == 4
    records = open_run("run").records()
    assert np.unique(records.planted["file"]).tolist() == ["photo.png"]
    assert len(records) == 16
    assert main(asked) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert verify_folder(tmp_path / "run") == ([], [])
    assert main([*asked, "--seed", "1"]) == 2  # another run than the folder's


def test_one_photo_of_a_pipeline_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_tiny("sd", tmp_path / "sd")
    clip_folder(tmp_path / "clip")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)).save("x.png")
    with no_network():
        code = main([
            "advise", "--model", "sd", "--image", "x.png", "--keep", "a woman", "--change",
            '"beach","forest"', "--labeller", "clip", "--out", "run", "--levels", "2",
            "--replicates", "8", "--steps", "4", "--preset", "sd15", "--least-kept", "0.01",
            "--no-report",
        ])  # fmt: skip
    said = capsys.readouterr()
    run = open_run("run")
    assert run.labels == {
        "keep": ("a woman", "anything else"),
        "change": ("beach", "forest", "anything else"),
    }
    assert run.config.model.options["steps"] == 4
    # an image of noise is whatever the tiny labeller says; both ends are one line
    if code == 2:
        assert "too few to advise on" in said.err
    else:
        assert "of edits from t" in said.out
        assert "ComfyUI KSampler" in said.out


def test_wishes_in_words() -> None:
    wishes, labels = wishes_in_words(['"a beach, at night",forest', "hair=red"], "change")
    assert labels == {"change": ["a beach, at night", "forest"], "hair": ["red"]}
    assert [wish.feature for wish in wishes] == ["change", "hair"]
    for texts in ([""], ["a,,b"], ["a,a"], ["x=a", "x=b"]):
        with pytest.raises(InputError):
            wishes_in_words(texts, "keep")


def test_compare_puts_advice_of_two_runs_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.toml").write_text(RUN)
    asked = ["--keep", "component", "--change", "again", "--no-report"]
    for name, seed in (("one", "0"), ("two", "1")):
        Path("x.toml").write_text(RUN.replace('out = "run"', f'out = "{name}"\nseed = {seed}'))
        assert main(["run", "x.toml", "--no-report"]) == 0
        assert main(["advise", name, *asked]) == 0
    capsys.readouterr()
    assert main(["compare", "one", "two", "--json"]) == 0
    sides = json.loads(capsys.readouterr().out)["audits"]["editing-keep-component-change-again"]
    for side, name in (("first", "one"), ("second", "two")):
        kept = load_all(name)["editing-keep-component-change-again"]
        assert sides[side]["answer"] == kept["section"].answer
        assert not sides[side]["is_stale"]
    assert main(["compare", "one", "two"]) == 0
    out = capsys.readouterr().out
    assert "  first: No level" in out
    assert "  second: No level" in out
