"""``critwin theory`` as its reader runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from critwin.cli import main
from critwin.theory.mixture_files import mixture_from_toml

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


TWO = """
[[component]]
name = "A"
weight = 0.5
mean = [-3.0, 0.0]

[[component]]
name = "B"
weight = 0.5
mean = [3.0, 0.0]
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


def test_families_are_listed_without_torch() -> None:
    code = (
        "import sys; from critwin.cli import main; main(['theory', '--families']);"
        "print({'torch', 'scipy.stats'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_the_help_shows_a_file_that_can_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = run(capsys, "--help")[1].splitlines()
    first = next(k for k, line in enumerate(lines) if line.strip() == "[[component]]")
    last = next(k for k, line in enumerate(lines) if line.strip().startswith("covariance = "))
    file = tmp_path / "m.toml"
    file.write_text("\n".join(line.strip() for line in lines[first : last + 1]))
    m = mixture_from_toml(file)
    assert m.names == ("left", "right")
    assert m.weights.tolist() == [0.25, 0.75]
    assert m.kind == "full"


def test_a_name_may_hold_a_comma(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "m.toml"
    third = '[[component]]\nname = "{}"\nweight = 0.2\nmean = [9.0, 0.0]\n'
    text = FILE.replace("0.5\n", "0.4\n") + third
    file.write_text(text.format("c"))
    for args in (("--after", "b,c", "--after", "c"), ("--after", "c", "--after", "b,c")):
        code, out, _ = run(capsys, str(file), *args, "--json")
        assert code == 0
        assert set(json.loads(out)["after"]) == {"b,c", "c"}
    code, out, _ = run(capsys, str(file), "--after", "a, c", "--json")  # a space is no name
    assert (code, json.loads(out)["after"]) == (0, ["a", "c"])
    code, _, err = run(capsys, str(file), "--after", "a,b,c")
    assert code == 2
    assert "unknown component: got b; " in err
    assert "give a name with a comma an --after of its own" in err
    file.write_text(text.format("b"))  # a name that is known as it stands is not cut
    code, out, _ = run(capsys, str(file), "--after", "b,c", "--json")
    assert (code, json.loads(out)["after"]) == (0, ["b,c"])


def test_identical_components_are_named_before_any_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.toml"
    sentence = "components A and B are identical: no level of noise separates them"
    third = '[[component]]\nname = "C"\nweight = 0.2\nmean = [9.0, 0.0]\n'
    file.write_text(TWO.replace("-3.0", "3.0").replace("0.5\n", "0.4\n") + third)
    code, out, err = run(capsys, str(file))
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == sentence
    assert json.loads(run(capsys, str(file), "--json")[1])["notes"] == [sentence]
    file.write_text(TWO.replace("-3.0", "3.0"))
    for extra in ([], ["--json"], ["--after", "A"], ["--at", "1"]):
        code, out, err = run(capsys, str(file), *extra)
        assert (code, out) == (2, "")
        assert f"{sentence}: got {file}; wanted two or more different components" in err
    file.write_text(TWO.replace("-3.0", "2.999999"))  # nearly: no window is an answer
    code, out, err = run(capsys, str(file), "--after", "A")
    assert (code, err) == (0, "")
    assert "no level separates A from the rest at epsilon = 0.1" in out
    code, out, _ = run(capsys, "two-gaussians", "--set", "distance=1e-8")
    assert code == 0
    code, out, _ = run(capsys, "gaussian-tree")  # one Gaussian on purpose: its modes are asked for
    assert code == 0
    assert out.splitlines()[1] == "one component: nothing is decided"
    assert "1 component in 8 dimensions" in out


def test_what_is_missing_is_said_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "two-gaussians", "--set", "distance=1e-8")
    assert code == 0
    assert "in 1 dimension, " in out
    assert "no window of the component as a feature: " in out
    code, out, _ = run(capsys, "gaussian-tree")
    assert "information_peaks" not in out
    assert "symmetry_breaking" not in out


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
