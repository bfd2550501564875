"""The whole audit, in memory and of a run folder: what it says is what was measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from critwin.audits.privacy import privacy_audit
from critwin.audits.privacy_runs import audit_run
from critwin.audits.section import load_all, save
from critwin.errors import InputError, RunFolderError
from critwin.features.function import FunctionFeature
from critwin.features.neighbours import Neighbours
from critwin.runs.config import ExperimentFile, parse_config
from critwin.runs.executor import run_experiment
from critwin.runs.folder import open_run, verify_folder
from memory_model import Memory, two_sets

T = (0.1, 0.3, 0.8)


def test_an_exact_memory_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    members, others = two_sets(40)
    pool = Neighbours(np.concatenate([members, others]))
    groups = ["a" if i % 2 else "b" for i in range(40)]
    audit = privacy_audit(
        Memory(members), members, others, T, comparisons=[pool], groups=groups, replicates=2
    )
    assert audit.headline.area.low is not None
    assert audit.headline.area.low > 0.9
    assert not audit.is_biased
    assert audit.test.p_value < 0.01
    assert audit.memorised is not None
    assert audit.memorised.num_found == 40
    assert set(audit.groups) == {"a", "b"}
    assert all((a.area.value or 0) > 0.9 for a in audit.groups.values())
    assert audit.collapse[""].t_half is not None
    facts = json.loads(json.dumps(audit.as_dict(), allow_nan=False))
    assert facts["headline"]["points"][0]["tpr"]["reason"].startswith("too few to say: 40")
    # loss 2 x 3, pia 1 + 3, the path of secmi, forward-reverse 2 x 3
    path = max(facts_of(audit, "secmi").evaluations)
    assert audit.evaluations == 80 * (6 + 4 + path + 6)
    section = audit.section(rerun="critwin audit privacy RUN")
    assert f"{audit.headline.area.value:.3f}" in section.answer
    assert section.answer.startswith("Membership shows")
    assert any("40 of 40 candidates return" in line for line in section.details)
    assert {table.name for table in section.tables} == {
        "privacy-attacks",
        "privacy-levels",
        "privacy-groups",
        "privacy-memorised",
    }
    assert "no proof of privacy" in section.limits[0]
    assert capsys.readouterr().out == ""


def facts_of(audit: Any, kind: str) -> Any:
    import torch

    from critwin.audits.attacks import Asked, ask
    from critwin.levels import logsnr_of_ou_time

    members, _ = two_sets(40)
    images = Asked(torch.from_numpy(members[:1]))
    return ask(Memory(members), images, logsnr_of_ou_time(np.array(T)), attacks=[kind])[kind]


def test_nothing_is_found_where_nothing_is() -> None:
    generator = np.random.default_rng(5)
    known, members, others = generator.standard_normal((3, 60, 8)).astype(np.float32)
    audit = privacy_audit(Memory(known), members, others, T)
    assert audit.headline.area.as_estimate().covers(0.5)
    assert audit.test.p_value > 0.01
    assert audit.section().answer.startswith("No attack tried")
    assert any("At no noise level" in line for line in audit.section().details)


def test_biased_sets_are_said_first() -> None:
    members, others = two_sets(60)
    audit = privacy_audit(Memory(members), members, others + 2.0, T, attacks=["loss"])
    assert audit.is_biased
    assert audit.section().answer.startswith("No statement about the model can be made")


def test_mistakes_in_memory() -> None:
    members, others = two_sets(12)
    model = Memory(members)
    with pytest.raises(InputError, match="overlap: 2 exact"):
        privacy_audit(model, members, np.concatenate([others, members[:2]]), T)
    with pytest.raises(InputError, match="unknown attack"):
        privacy_audit(model, members, others, T, attacks=["magic"])
    with pytest.raises(InputError, match="unknown attack"):
        privacy_audit(model, members, others, T, attacks=[])
    with pytest.raises(InputError, match="members have the wrong shape"):
        privacy_audit(model, members[:, :3], others, T)
    with pytest.raises(InputError, match="too few members"):
        privacy_audit(model, members[:3], others, T)
    with pytest.raises(InputError, match="groups do not fit"):
        privacy_audit(model, members, others, T, groups=["a"], attacks=["loss"])


def side(points: Any) -> Any:
    """Which side of the first coordinate."""
    return (np.asarray(points)[:, 0] > 0).astype(np.int64)


SIDE = FunctionFeature(name="side", labels=("left", "right"), function=side, version="1")


def config_of(folder: Path, model: Memory, **changes: Any) -> ExperimentFile:
    return parse_config(
        {
            "run": {"out": str(folder), "images": 0, "batch_size": 16},
            "model": {"name": model.name},
            "sources": {"kind": "dataset", "count": len(model.dataset())},
            "levels": {"unit": "t", "values": list(T)},
            "feature": [{"name": "side"}],
            **changes,
        }
    )


def start(folder: Path, model: Memory, **changes: Any) -> Path:
    pool = Neighbours(model.dataset().points.numpy())
    config = config_of(folder, model, **changes)
    run_experiment(config, out=folder, model=model, features=[SIDE], comparisons=[pool])  # type: ignore[arg-type]
    return folder


def test_a_finished_run_is_audited_without_a_network(tmp_path: Path) -> None:
    members, others = two_sets(40)
    model = Memory(members, others=others)
    folder = start(tmp_path / "run", model)
    before = open_run(folder).digest()
    calls = model.num_calls
    audit = audit_run(folder, rerun="critwin audit privacy run")
    assert model.num_calls == calls
    assert audit.evaluations == 0.0
    assert audit.num_members == audit.num_nonmembers == 40
    assert {one.kind for one in audit.curves} == {"forward-reverse pixels", "stay of side"}
    assert audit.headline.area.low is not None
    assert audit.headline.area.low > 0.8
    assert audit.memorised is not None
    assert audit.memorised.num_found == 40
    assert open_run(folder).digest() == before
    assert verify_folder(folder)[0] == []
    kept = load_all(folder)["privacy"]
    assert kept["ledger_digest"] == before
    assert kept["section"] == audit.section(rerun="critwin audit privacy run")
    assert kept["result"] == json.loads(json.dumps(audit.as_dict()))

    # with the network: what it states it costs is what it costs, and it is kept
    loss = audit_run(folder, attacks=["loss"], model=model)  # type: ignore[arg-type]
    assert loss.evaluations == 80 * 3
    assert model.num_calls - calls == 3 * 5  # in batches of 16
    again = audit_run(folder, attacks=["loss"], model=model)  # type: ignore[arg-type]
    assert again.evaluations == 0.0
    assert again.as_dict()["attacks"] == loss.as_dict()["attacks"]
    assert verify_folder(folder)[0] == []
    damaged = next((folder / "audits" / "privacy-scores").glob("*.npz"))
    damaged.write_bytes(b"nothing")
    assert audit_run(folder, attacks=["loss"], model=model).evaluations == 240  # type: ignore[arg-type]


def test_a_run_of_an_experiment_file_finds_memorised_images(tmp_path: Path) -> None:
    members, others = two_sets(40)
    model = Memory(members, others=others)
    config = config_of(tmp_path / "run", model, comparison=[{"name": "neighbours"}])
    run_experiment(config, out=tmp_path / "run", model=model, features=[SIDE])  # type: ignore[arg-type]
    found = audit_run(tmp_path / "run", keep=False).memorised
    assert found == audit_run(start(tmp_path / "by hand", model), keep=False).memorised
    assert found is not None
    assert found.num_found == 40


def test_every_number_of_the_text_is_one_of_the_ledger(tmp_path: Path) -> None:
    """The claims are computed again from the rows by hand."""
    members, others = two_sets(40)
    folder = start(tmp_path / "run", Memory(members, others=others))
    audit = audit_run(folder)
    records = open_run(folder).records()
    score = -records.values["neighbours.distance"]
    yes = records.planted["member"] == "yes"
    for level, found in zip(np.unique(records.logsnr)[::-1], audit.curves[0].areas, strict=True):
        here = records.logsnr == level
        pairs = score[here & yes][:, None] - score[here & ~yes][None]
        wanted = np.mean((pairs > 0) + 0.5 * (pairs == 0))
        assert found.value == pytest.approx(wanted, abs=1e-12)
    text = " ".join(audit.section().details)
    assert "40 members and 40 non-members" in text
    assert f"p = {audit.test.p_value:.2g}" in text


def test_mistakes_of_runs(tmp_path: Path) -> None:
    members, others = two_sets(12)
    model = Memory(members, others=others)
    folder = start(tmp_path / "run", model)
    with pytest.raises(InputError, match="unknown planted column"):
        audit_run(folder, group="nothing")
    with pytest.raises(RunFolderError, match="not the one that was measured"):
        audit_run(folder, attacks=["loss"], model=Memory(members + 1.0))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown attack"):
        audit_run(folder, attacks=["magic"], model=model)  # type: ignore[arg-type]
    alone = start(tmp_path / "alone", Memory(members))
    with pytest.raises(InputError, match="no non-members"):
        audit_run(alone)
    copied = start(tmp_path / "copied", Memory(members, others=members[:2]))
    with pytest.raises(InputError, match="overlap: 2 exact"):
        audit_run(copied)
    with pytest.raises(InputError, match="cannot name a file"):
        save(audit_run(folder).section(), folder, slug="../x")
    (folder / "audits" / "privacy.json").write_text("{}")
    with pytest.raises(RunFolderError, match="is damaged"):
        load_all(folder)
