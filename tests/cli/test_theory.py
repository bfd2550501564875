"""``critwin theory`` as its reader runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from critwin.cli import main

FILE = """
[[component]]
name = "a"
weight = 0.5
mean = [-5.0, 0.0]
covariance = 1.0

[[component]]
name = "b,c"
weight = 0.5
mean = [5.0, 0.0]
covariance = 1.0
"""


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = main(["theory", *args])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_family_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "two-gaussians", "--set", "distance=20", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["family"] == "two-gaussians"
    assert facts["parameters"]["distance"] == 20
    assert facts["t_after"] == pytest.approx(1.90205848649855, abs=1e-11)
    code, out, _ = run(capsys, "two-gaussians", "--set", "distance=20")
    assert code == 0
    for said in ("1.902", "3.676", "published", "certificate", "speciation (another question)"):
        assert said in out


def test_a_file_with_a_pair_and_levels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "m.toml"
    file.write_text(FILE)
    code, out, _ = run(
        capsys, str(file), "--after", "b,c", "--before", "all", "--at", "0.5,1", "--json"
    )
    assert code == 0
    facts = json.loads(out)
    assert facts["after"] == ["b,c"]
    assert [row["t"] for row in facts["transitions"]] == pytest.approx([0.5, 1.0])
    assert len(facts["certificate"]["t"]) == 2
    code, out, _ = run(capsys, str(file), "--at", "0.5")
    assert code == 0
    assert "transitions at t = 0.5" in out


def test_masking_has_an_axis_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "masking", "--at", "0.5", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["unit"] == "mask"
    assert facts["T_before"] == pytest.approx(0.977932768542929)
    assert facts["T_after"] == pytest.approx(0.630957344480193)
    assert "mask probabilities, not OU times" in run(capsys, "masking")[1]


def test_families_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--set distance=" in run(capsys, "--families")[1]
    assert "masking" in json.loads(run(capsys, "--families", "--json")[1])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "no mixture"),
        (("nope",), "neither a mixture file nor a family: got nope"),
        (("missing.toml",), "cannot read the mixture"),
        (("two-gaussians", "--set", "distance=1e300"), "setting 'distance' is too large"),
        (("two-gaussians", "--set", "dist=1"), "unknown setting of two-gaussians: got dist"),
        (("two-gaussians", "--set", "distance=x"), "'distance' cannot be used: got x"),
        (("two-gaussians", "--set", "distance"), "--set cannot be read"),
        (("two-gaussians", "--epsilon", "2"), "epsilon"),
        (("two-gaussians", "--after", "z"), "unknown component"),
        (("two-gaussians", "--after", "+", "--before", "-"), "not inside"),
        (("two-gaussians", "--at", "soon"), "--at cannot be read"),
        (("masking", "--after", "+"), "one pair of sets"),
        (("masking", "--at", "2"), "not mask probabilities"),
    ],
)
def test_mistakes_are_one_clear_line(
    capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str
) -> None:
    code, out, err = run(capsys, *args)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
