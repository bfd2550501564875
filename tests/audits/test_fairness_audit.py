"""The whole audit, of run folders: what it says is what was measured; mistakes are one line."""

import html
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from critwin.audits.altered import altered_steps
from critwin.audits.altered_runs import arms_of_run, steps_of_run
from critwin.audits.fairness import fairness_audit
from critwin.audits.fairness_runs import ARMS, audit_fairness_run
from critwin.audits.fairness_start import start_runs
from critwin.audits.section import load_all, section_of
from critwin.cli import main
from critwin.errors import InputError
from critwin.features.labelling import ErrorMatrix
from critwin.levels import logsnr_of_ou_time
from critwin.records import FeatureColumns, Records, select
from critwin.runs.folder import open_run, verify_folder

MIXTURE: dict[str, Any] = {
    "component": [
        {"name": "a", "weight": 0.4, "mean": [-6.0]},
        {"name": "b", "weight": 0.1, "mean": [0.0]},
        {"name": "c", "weight": 0.5, "mean": [6.0]},
    ]
}
BASE = """
[run]
out = "OUT"
seed = 4
batch_size = 80
[model]
name = "mixture"
mixture = { component = [
  { name = "a", weight = 0.4, mean = [-6.0] },
  { name = "b", weight = 0.1, mean = [0.0] },
  { name = "c", weight = 0.5, mean = [6.0] } ] }
[sources]
count = 160
conditions = [CONDITIONS]
[[feature]]
name = "component"
[levels]
unit = "t"
values = [0.3, 0.9, 1.4, 1.9, 2.6, 3.6]
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    out = tmp_path_factory.mktemp("fairness") / "run"
    return start_runs(
        "mixture",
        out,
        condition="none",
        attribute="component",
        instead="b",
        options={"mixture": MIXTURE},
        times=[0.3, 0.9, 1.4, 1.9, 2.6, 3.6],
        num_images=160,
        batch_size=80,
        seed=4,
    )


def test_the_audit_of_two_run_folders(folders: tuple[Path, Path]) -> None:
    first, second = folders
    audit = audit_fairness_run(
        first, attribute="component", interventions=second, largest_loss=1.0, rerun="again"
    )
    records = open_run(first).records()
    _, where = np.unique(records.source, return_index=True)
    before = records.features["component"].before[where]
    counts = np.bincount(before, minlength=3)
    assert [g.count for g in audit.law.groups] == counts.tolist()
    assert audit.law.is_flagged
    assert audit.groups is not None
    assert audit.drift is not None
    assert not audit.drift.is_flagged  # an exact posterior
    found = audit.interventions
    assert found is not None
    # in the order of a generation
    assert [arm.arm for arm in found.arms] == [ARMS[1], ARMS[0], *ARMS[2:]]
    facts = json.loads(json.dumps(audit.as_dict(), allow_nan=False))
    assert facts["law"]["num_images"] == 160
    assert facts["metrics"]["counts"] == dict(zip("abc", counts.tolist(), strict=True))
    # words are functions of what is in the ledger
    section = audit.section()
    worst = max(audit.law.groups, key=lambda g: abs(g.count / 160 - 1 / 3))
    assert f"{worst.label} is shown in {100 * worst.count / 160:.1f} %" in section.answer
    assert "of 160 pictures" in section.answer
    after = open_run(second).records()
    rows = after.experiment == "intervene:everywhere"
    share = np.mean(after.features["component"].after[rows] == 1)
    everywhere = next(arm for arm in found.arms if arm.arm == "everywhere")
    assert {e.label: e.share for e in everywhere.labels}["b"] == pytest.approx(share)
    assert {t.name for t in section.tables} == {
        "fairness-shares",
        "fairness-by-group",
        "fairness-groups",
        "fairness-flows",
        "fairness-interventions",
    }
    assert any("perceives" in line for line in section.limits)
    kept = load_all(first)["fairness"]
    assert kept["section"] == section
    assert kept["parameters"]["interventions"] == second.name
    assert verify_folder(first) == ([], [])


def test_the_command_and_its_report(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (str(folder) for folder in folders)
    words = ["audit", "fairness", first, "--attribute", "component", "--interventions", second]
    assert main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["law"]["reference"] == "uniform"
    page = html.unescape((folders[0] / "report.html").read_text("utf-8")).replace(
        "\N{NO-BREAK SPACE}", " "
    )
    assert "Fairness: component under no condition" in page
    assert facts["answer"] in page
    assert "Counted: all 160 pictures." in page
    assert main(["audit", "fairness", second, "--attribute", "component", "--no-report"]) == 0
    out = capsys.readouterr().out
    assert "Not told (groups, drift): the run changes conditions" in out


def test_mistakes_are_one_line(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = str(folders[0])
    table = tmp_path / "table.csv"
    table.write_text("label,share\na,0.5\nb,0.2\n")
    own = ["audit", "fairness", first, "--no-report"]
    wrong = [
        ([*own, "--attribute", "hair"], "unknown feature: got hair; wanted one of component"),
        (
            [*own, "--attribute", "component", "--condition", "z"],
            "unknown condition",
        ),
        ([*own, "--attribute", "component", "--reference", str(table)], "no share of c"),
        ([*own, "--attribute", "component", "--reference", "data"], "unknown"),
        ([*own, "--attribute", "component", "--fidelity", "component"], "FEATURE=LABEL"),
        ([*own, "--attribute", "component", "--fidelity", "component=a"], "by the attribute"),
        ([*own, "--attribute", "component", "--fidelity", "hair=z"], "unknown feature"),
        ([*own, "--attribute", "component", "--confidence", "2"], "--confidence"),
        ([*own, "--attribute", "component", "--largest-loss", "2"], "--largest-loss"),
        ([*own, "--attribute", "component", "--images", "9"], "--images"),
        ([*own, "--attribute", "component", "--errors", str(table)], "error matrix"),
        ([*own, "--attribute", "component", "--interventions", first], "intervention"),
        (["audit", "fairness", "--attribute", "component"], "nothing to audit"),
    ]
    for words, said in wrong:
        assert main(words) == 2, words
        streams = capsys.readouterr()
        assert streams.out == ""
        assert said in streams.err, (words, streams.err)
        assert len(streams.err.strip().splitlines()) == 1


def test_conditions_and_sources_are_checked(folders: tuple[Path, Path], tmp_path: Path) -> None:
    import tomllib

    from critwin.runs.config import parse_config
    from critwin.runs.executor import run_experiment

    text = BASE.replace("OUT", str(tmp_path / "other")).replace("CONDITIONS", '"a", "b"')
    text = text.replace("count = 160", "count = 16")
    config = parse_config(tomllib.loads(text + '[denoise]\ncondition = "none"\n'))
    run_experiment(config)
    with pytest.raises(InputError, match="one condition and denoised under another"):
        audit_fairness_run(tmp_path / "other", attribute="component")
    shutil.rmtree(tmp_path / "other")
    run_experiment(parse_config(tomllib.loads(text)))
    with pytest.raises(InputError, match="several conditions"):
        audit_fairness_run(tmp_path / "other", attribute="component")
    one = audit_fairness_run(tmp_path / "other", attribute="component", condition="b", keep=False)
    assert one.law.groups[1].count == 8
    assert one.groups is not None
    assert one.groups.windows[1].reason == "all images are of this group: nothing can be lost"
    with pytest.raises(InputError, match="different models"):
        audit_fairness_run(
            folders[0], attribute="component",
            interventions=_changed(folders[1], tmp_path / "changed"),
        )  # fmt: skip
    records = open_run(folders[0]).records()
    foreign = replace(records, attrs={**records.attrs, "sources": "images"})
    with pytest.raises(InputError, match="not the model's own"):
        fairness_audit(foreign, attribute="component")
    with pytest.raises(InputError, match="changed to itself"):
        start_runs("mixture", tmp_path / "x", condition="a", attribute="component", instead="a")
    with pytest.raises(InputError, match="by the attribute that is audited"):
        start_runs(
            "mixture",
            tmp_path / "x",
            condition="a",
            attribute="component",
            fidelity=("component", "a"),
        )
    assert not (tmp_path / "x").exists()


def test_one_group_and_other_experiments_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import tomllib

    from critwin.runs.config import parse_config
    from critwin.runs.executor import run_experiment

    text = BASE.replace("OUT", str(tmp_path / "one")).replace("conditions = [CONDITIONS]", "")
    text = text.replace("count = 160", "count = 8").replace("batch_size = 80", "batch_size = 8")
    alone = text.replace('{ name = "b", weight = 0.1, mean = [0.0] },', "")
    alone = alone.replace('{ name = "a", weight = 0.4, mean = [-6.0] },', "")
    alone = alone.replace("weight = 0.5", "weight = 1.0")
    with pytest.raises(InputError, match="only one label"):  # no such run can be made
        run_experiment(parse_config(tomllib.loads(alone)))
    with pytest.raises(InputError, match="has one group only"):
        fairness_audit(made(("a",), 8), attribute="skin")
    words = ["audit", "fairness", "", "--attribute", "component"]
    for name, more in (("preview", ""), ("prompt_switch", '[denoise]\ncondition = "a"\n')):
        other = text.replace("/one", "/" + name) + f'[experiment]\nname = "{name}"\n{more}'
        run_experiment(parse_config(tomllib.loads(other)))
        assert main([*words[:2], str(tmp_path / name), *words[3:]]) == 2
        told = capsys.readouterr().err
        assert f"cannot read this experiment: got {tmp_path / name}: {name};" in told
        assert len(told.strip().splitlines()) == 1


def made(groups: tuple[str, ...], num: int, errors: ErrorMatrix | None = None) -> Records:
    """Three levels of images that forget a group the sooner the more noise; the last is absent."""
    generator = np.random.default_rng(3)
    seen = max(len(groups) - 1, 1)
    law = [0.6, 0.4] if seen == 2 else [1.0]
    own = generator.choice(seen, size=num, p=law)
    source = np.array([f"s{k:03d}" for k in range(num)])
    t = np.array([0.3, 1.0, 2.0])
    again = generator.random((num, 3)) < np.array([0.02, 0.5, 1.0])
    new = generator.choice(seen, size=(num, 3), p=law)
    after = np.where(again, new, own[:, None])
    attrs: dict[str, Any] = {"sources": "generated"}
    if errors is not None:
        attrs["labeller_errors"] = json.dumps({"skin": errors.as_dict()})
    return Records(
        source=np.repeat(source, 3),
        logsnr=np.tile(logsnr_of_ou_time(t), num),
        experiment=np.full(3 * num, "forward_reverse"),
        features={
            "skin": FeatureColumns(labels=groups, before=np.repeat(own, 3), after=after.ravel())
        },
        attrs=attrs,
    )


def test_absent_groups_and_the_labeller_s_errors_go_through_the_whole_audit() -> None:
    groups = ("a", "b", "nobody")
    audit = fairness_audit(made(groups, 60), attribute="skin")
    assert audit.law.groups[2].count == 0
    assert audit.law.groups[2].p_holm is not None
    assert audit.law.groups[2].p_holm < 1e-6
    assert audit.groups is not None
    assert audit.groups.windows[2].reason is not None
    assert [gap.order for gap in audit.groups.gaps if gap.group == "nobody"] == ["too few to say"]
    section = audit.section()
    assert "Not seen in 60 pictures: nobody." in section.details
    assert any("how often the labeller errs is unknown" in line for line in section.details)
    json.dumps(audit.as_dict(), allow_nan=False)
    assert audit.is_flagged
    assert set(audit.p_values) == {"law", "groups", "drift"}
    raw = [audit.law.p_value, min(g.p_holm for g in audit.groups.gaps if g.p_holm is not None)]
    assert audit.drift is not None
    assert all(
        p >= q for p, q in zip(audit.p_values.values(), [*raw, audit.drift.p_value], strict=True)
    )
    # what the records say of the labeller is undone: "b" was said for a tenth of those of "a"
    matrix = ErrorMatrix(
        feature="skin", labels=groups, abstained=np.zeros(3, dtype=int),
        counts=np.array([[90, 10, 0], [0, 100, 0], [0, 0, 100]]),
    )  # fmt: skip
    told = fairness_audit(made(groups, 60, matrix), attribute="skin")
    a, b, nobody = (g.corrected for g in told.law.groups)
    assert a is not None
    assert b is not None
    assert nobody is not None
    share = told.law.groups[0].count / 60
    assert a.value == pytest.approx(share / 0.9)
    assert b.value == pytest.approx(1 - share / 0.9)
    foreign = ErrorMatrix(
        feature="hair", labels=("dark", "fair"), counts=np.eye(2), abstained=np.zeros(2)
    )
    with pytest.raises(InputError, match="labels are others: got dark, fair; wanted a, b, nob"):
        fairness_audit(made(groups, 60), attribute="skin", errors=foreign)
    own = told.law.groups[0].share
    assert (a.high or 0) - (a.low or 0) > 0.95 * ((own.high or 0) - (own.low or 0)) / 0.9
    assert any("errors undone" in line for line in told.section().details)


def test_pictures_that_are_left_out_are_told_where_they_are_missing() -> None:
    """Of 60 pictures three were not read, two of them after some noise only."""
    whole = made(("a", "b", "c"), 60)
    before, after = (np.array(getattr(whole.features["skin"], k)) for k in ("before", "after"))
    before[whole.source == "s000"] = after[whole.source == "s000"] = -1
    after[3 * 1], after[3 * 2 + 2] = -1, -1
    columns = FeatureColumns(labels=("a", "b", "c"), before=before, after=after)
    kind = FeatureColumns(
        labels=("other", "nurse"), before=np.ones(180, dtype=int), after=np.ones(180, dtype=int)
    )
    records = replace(
        whole, features={"skin": columns, "kind": kind}, condition=np.full(180, "nurse")
    )
    arm = records.logsnr == records.logsnr[0]
    one = select(records, arm)
    own = np.array(one.features["skin"].before)
    turned = replace(one.features["skin"], after=np.where(own < 0, own, 1 - own))
    changed = replace(
        one, experiment=np.full(60, "intervene:late"), valid=np.arange(60) != 5,
        features={**one.features, "skin": turned},
    )  # fmt: skip
    audit = fairness_audit(records, attribute="skin", interventions=changed)
    assert (audit.law.num_images, audit.law.num_abstained) == (59, 1)
    assert audit.drift is not None
    assert audit.drift.num_sources == 57
    section = audit.section()
    told = " ".join(section.details)
    assert "Left out: 1 picture that could not be read." in told
    assert "as far as 57 pictures tell" in told
    assert "Left out: 2 pictures that could not be read after some noise." in told
    notes = {table.name: table.note for table in section.tables}
    counted = "Counted: 59 of 60 pictures; left out: 1 picture that could not be read."
    assert notes["fairness-shares"] == counted
    assert notes["fairness-by-group"].startswith(counted + " Accuracy: the share of a group's")
    assert "whose kind is read as “nurse”" in notes["fairness-by-group"]
    for name in ("fairness-groups", "fairness-flows"):
        assert notes[name].startswith(counted)
        assert "57 of them that were readable after every noise; left out: 2 pic" in notes[name]
    arms = next(t for t in section.tables if t.name == "fairness-interventions")
    assert dict(zip(arms.columns, arms.rows[0], strict=True))["pictures"] == 58
    assert dict(zip(arms.columns, arms.rows[0], strict=True))["left out"] == 2
    assert "Left out of an arm: pictures that were invalid or could not be read" in arms.note
    assert section_of(json.loads(json.dumps(section.as_dict()))) == section
    # nothing is said where nothing is missing
    whole = fairness_audit(made(("a", "b", "c"), 60), attribute="skin").section()
    assert {t.note for t in whole.tables} == {"Counted: all 60 pictures."}


def _changed(folder: Path, copy: Path) -> Path:
    shutil.copytree(folder, copy)
    info = json.loads((copy / "run.json").read_text())
    info["model"]["fingerprint"] = "0" * 16
    (copy / "run.json").write_text(json.dumps(info))
    return copy


def test_few_images_are_too_few_to_say(folders: tuple[Path, Path]) -> None:
    records = open_run(folders[0]).records()
    rows = np.isin(records.source, np.unique(records.source)[:6])
    audit = fairness_audit(select(records, rows), attribute="component")
    assert audit.law.verdict == "too few to say"
    assert "too few to say" in audit.section().answer
    json.dumps(audit.as_dict(), allow_nan=False)


def test_a_model_is_asked_for_its_steps_once(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import critwin.models.registry

    loads: list[str] = []
    load = critwin.models.registry.load_model

    def counted(name: str, **options: Any) -> Any:
        loads.append(name)
        return load(name, **options)

    monkeypatch.setattr(critwin.models.registry, "load_model", counted)
    folder = tmp_path / "changed"
    shutil.copytree(folders[1], folder)
    run = open_run(folder)
    kept = steps_of_run(run)
    assert not loads  # told by the runs that were started with the audit
    assert kept == altered_steps(
        load("mixture", mixture=MIXTURE), arms_of_run(run), reversal=str(run.info["reversal"])
    )
    (file,) = (folder / "audits" / "fairness-steps").iterdir()
    for damage in ("{", "[]", '{"everywhere": 1}', file.read_text().replace("1", "-1")):
        file.write_text(damage)
        loads.clear()
        assert steps_of_run(run, keep=False) == kept
        assert loads == ["mixture"]
    assert steps_of_run(run) == kept  # and kept again
    loads.clear()
    told: list[tuple[str, int, int]] = []
    audit = audit_fairness_run(
        folders[0],
        attribute="component",
        interventions=folder,
        keep=False,
        progress=lambda *step: told.append(step),
    )
    assert not loads
    assert audit.interventions is not None
    assert {arm.arm: arm.altered_steps for arm in audit.interventions.arms} == kept
    assert verify_folder(folder) == ([], [])
    phases = dict.fromkeys(phase for phase, *_ in told)
    assert list(phases) == ["runs read", "questions"]
    for phase in phases:
        steps = [(done, total) for name, done, total in told if name == phase]
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1]
    # other arms are another question
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    info = json.loads((other / "run.json").read_text())
    info["config"]["experiment"]["arm"][0]["segments"][0]["from"] = 1.0
    (other / "run.json").write_text(json.dumps(info))
    steps_of_run(open_run(other), keep=False)
    assert loads == ["mixture"]
    # a folder that cannot be written is audited all the same
    shutil.rmtree(folder / "audits")
    (folder / "audits").write_text("")
    assert steps_of_run(run) == kept
