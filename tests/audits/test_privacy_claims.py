"""Every number that a privacy audit says or tabulates, computed again from the ledger's rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from claims import Claim, Number, check_and_plant
from privacy_oracle import ROOT2, Attack, Oracle
from scipy import stats

from critwin.audits.privacy_runs import audit_run
from critwin.features.function import FunctionFeature
from critwin.runs.config import parse_config
from critwin.runs.executor import run_experiment
from memory_model import Memory, two_sets

T = (0.1, 0.4, 0.9)


def side(points: Any) -> Any:
    """Which side of the first coordinate."""
    return (np.asarray(points)[:, 0] > 0).astype(np.int64)


SIDE = FunctionFeature(name="side", labels=("left", "right"), function=side, version="1")


class Repeated(Memory):
    """A memory whose data say how often each point was shown."""

    def dataset(self) -> Any:
        data = super().dataset()
        half = len(self.points) // 2
        shown = ["4"] * half + ["1"] * (len(self.points) - half) + ["0"] * len(self.others)
        data.planted = {**data.planted, "multiplicity": np.array(shown)}
        return data


def where(attack: Attack) -> tuple[str, list[Number]]:
    """``at t = ...`` as the audit writes it."""
    said = {"all levels" if t is None else f"{t:.2f}": t for t in attack.t}
    words = sorted(said)
    text = " / ".join(word if said[word] is None else "{}" for word in words)
    text = text if text.startswith("all levels") else f"t = {text}"
    return text, [t for t in (said[word] for word in words) if t is not None]


AREA = "{} [{}, {}]"


def claims_of(oracle: Oracle, *, with_memorised: bool, evaluations: int) -> list[Claim]:
    """What the audit must say."""
    everyone = np.ones(len(oracle.member), dtype=bool)
    attacks = oracle.attacks(everyone)
    head = oracle.strongest(attacks, everyone)
    blind = oracle.blind()
    num = [int(oracle.member.sum()), int((~oracle.member).sum())]
    at, times = where(head)
    out: list[Claim] = []
    if any(a.area.low > 0.5 for a in blind):
        worst = max(blind, key=lambda a: a.area.value)
        text = (
            "No statement about the model can be made from these sets: they can be told apart "
            f"without it (blind: {worst.kind}, area {AREA})."
        )
        out.append((text, worst.area.triple))
    elif head.area.low > 0.5:
        text = (
            "Membership shows: the strongest attack scores a training picture above another one "
            f"in {AREA} of pairs (1/2 is guessing)."
        )
        out.append((text, head.area.triple))
    else:
        assert head.area.high >= 0.5
        text = (
            "No attack tried told training pictures from others: the strongest scores a training "
            f"picture above another one in {AREA} of pairs, and 1/2 is guessing."
        )
        out.append((text, head.area.triple))
    out.append(
        (
            f"{{}} members and {{}} non-members. The attack ({head.kind}, at {at}) was chosen on "
            "one half of the pictures and is reported on the other half, both ways.",
            [*num, *times],
        )
    )
    text = (
        "Every area below is such a share of pairs: 1/2 is guessing, 1 is certainty. In brackets: "
        "{}% limits, of both baselines without the model together."
    )
    out.append((text, [95]))
    for percent in (1, 0.1):
        text = "How many training pictures are recognised with {} % of others accused wrongly is "
        text += "too few to say: {} non-members, and it takes {}."
        out.append((text, [percent, num[1], 1000 / percent]))
    p_value = oracle.p_value(head)
    verdict = "are" if p_value <= 0.05 else "cannot be shown to be"
    text = f"Taken together, the members {verdict} treated differently from the non-members "
    out.append((text + "(p = {}, one-sided).", [p_value]))
    for one in blind:
        out.append((f"Without the model ({one.kind}) the area is {AREA}.", one.area.triple))
    best = max(blind, key=lambda a: a.area.value)
    gap = head.area.value - best.area.value
    half = ROOT2 * math.sqrt(((head.area.phi - best.area.phi) ** 2).sum())
    half *= stats.t.ppf(0.5 + 0.975 / 2, min(head.area.degrees, best.area.degrees))
    text = f"The model adds {AREA} to the best baseline without it."
    out.append((text, [gap, gap - half, gap + half]))
    shown = {kind: oracle.windows(kind) for kind in oracle.tables}
    if not any(shown.values()):
        text = "At no noise level does membership show once all levels are allowed for ({}% for "
        out.append((text + "all levels of a score together).", [95]))
    for kind, runs in shown.items():
        if runs:
            words = ["t = {}" if a == b else "t = {} to {}" for a, b in runs]
            text = f"By {kind}, membership shows at {' and '.join(words)}."
            out.append((text, [t for run in runs for t in dict.fromkeys(run)]))
    kept, middle, lost = ((t - 0.004, t + 0.004) for t in oracle.collapse(oracle.member))
    text = (
        "A perfect memory of the members of this run ({} pictures) would return half of them at "
        "t = {}, nine tenths up to {} and one tenth at {}."
    )
    out.append((text, [num[0], middle, kept, lost]))
    for name in sorted(oracle.groups()):
        rows, own = oracle.group(name)
        at, times = where(own)
        text = f"Group {name} ({{}} members): area {AREA} ({own.kind}, at {at})."
        out.append((text, [int(oracle.member[rows].sum()), *own.area.triple, *times]))
    if with_memorised:
        text = (
            "{} of {} candidates return to one training picture more closely than {} non-members "
            "can explain (share of false discoveries at most {}, if the tail beyond the "
            "non-members falls off exponentially or as estimated)."
        )
        out.append((text, [*oracle.memorised(), 0.1]))
    out.append(("This audit made {} network evaluations of its own.", [evaluations]))
    return out


def check_tables(oracle: Oracle, section: Any) -> None:
    """Every area of the tables is that of the rows."""
    everyone = np.ones(len(oracle.member), dtype=bool)
    attacks = oracle.attacks(everyone)
    wanted = {a.kind: a.area.triple for a in attacks}
    wanted |= {f"blind: {a.kind}": a.area.triple for a in oracle.blind()}
    head = oracle.strongest(attacks, everyone)
    wanted[f"headline: {head.kind}"] = head.area.triple
    tables = {table.name: table for table in section.tables}
    rows = tables["privacy-attacks"].rows
    assert {row[0] for row in rows} == set(wanted)
    for row in rows:
        np.testing.assert_allclose(row[2:5], wanted[row[0]], atol=1e-6, err_msg=row[0])
    for kind, t, _, value, low, high in tables["privacy-levels"].rows:
        j = int(np.argmin(np.abs(np.array(oracle.times) - t)))
        gap = np.sign(
            oracle.tables[kind][oracle.member, j][:, None] - oracle.tables[kind][~oracle.member, j]
        )
        assert value == pytest.approx(0.5 + 0.5 * gap.mean(), abs=1e-9)
        assert low <= value <= high


def audited(
    folder: Path, model: Memory, *, attacks: Sequence[str] = (), replicates: int = 1
) -> tuple[Any, Oracle]:
    config = parse_config(
        {
            "run": {"out": str(folder), "images": 0},
            "model": {"name": "memory"},
            "sources": {"kind": "dataset", "count": len(model.dataset())},
            "levels": {"unit": "t", "values": list(T)},
            "experiment": {"name": "forward_reverse", "replicates": replicates},
            "feature": [{"name": "side"}],
        }
    )
    pool = load_pool(model)
    given: Any = model
    run_experiment(config, out=folder, model=given, features=[SIDE], comparisons=[pool])
    audit = audit_run(folder, attacks=attacks, model=given if attacks else None)
    more = {}
    for name in attacks:  # the audit's own measurements, kept beside the ledger
        (file,) = (folder / "audits" / "privacy-scores").glob(f"{name}-*.npz")
        with np.load(file) as archive:
            more[name] = archive["values"].mean(axis=2)
    return audit, Oracle(folder, more)


def load_pool(model: Memory) -> Any:
    from critwin.features.neighbours import Neighbours

    return Neighbours(model.dataset().points.numpy())


def sentences(audit: Any) -> list[str]:
    section = audit.section()
    return [section.answer, *section.details]


def test_members_are_told_group_by_group(tmp_path: Path) -> None:
    members, others = two_sets(24)
    model = Repeated(members, others=others)
    audit, oracle = audited(tmp_path / "run", model, attacks=["loss"])
    claims = claims_of(oracle, with_memorised=True, evaluations=48 * 3)
    assert check_and_plant(sentences(audit), claims) >= 40
    assert audit.section().answer.startswith("Membership shows")
    check_tables(oracle, audit.section())


def test_nothing_is_told(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    known, members, others = generator.standard_normal((3, 24, 8)).astype(np.float32)
    model = Stranger(known, members=members, others=others)
    audit, oracle = audited(tmp_path / "run", model, replicates=2)
    oracle.tables |= oracle.spreads()
    claims = claims_of(oracle, with_memorised=True, evaluations=0)
    assert check_and_plant(sentences(audit), claims) >= 30
    assert audit.section().answer.startswith("No attack tried")


def test_sets_differ_without_the_model(tmp_path: Path) -> None:
    members, others = two_sets(24)
    audit, oracle = audited(tmp_path / "run", Memory(members, others=others + 1.5))
    claims = claims_of(oracle, with_memorised=True, evaluations=0)
    assert check_and_plant(sentences(audit), claims) >= 30
    assert audit.section().answer.startswith("No statement about the model")
    check_tables(oracle, audit.section())


class Stranger(Memory):
    """A memory of points that are not among those that are asked about."""

    def __init__(self, points: Any, *, members: Any, others: Any) -> None:
        super().__init__(points, others=others)
        self.asked = members

    def dataset(self) -> Any:
        return Memory(self.asked, others=self.others).dataset()
