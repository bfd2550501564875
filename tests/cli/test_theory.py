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


FAMILIES = "two-gaussians, random-spherical, well-conditioned"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "no mixture: wanted MIXTURE.toml or a family; see: critwin theory --help"),
        (("",), "no mixture: wanted MIXTURE.toml or a family; see: critwin theory --help"),
        (
            ("nope",),
            f"neither a mixture file nor a family: got nope; wanted FILE.toml, or one of "
            f"{FAMILIES}",
        ),
        (("two-gausians",), "did you mean 'two-gaussians'?"),
        (("missing.toml",), "cannot read the mixture: got missing.toml (No such file"),
        (
            (".",),
            "cannot read the mixture: got . (Is a directory); wanted a TOML file of [[component]]",
        ),
        (("two-gaussians", "--set", "distance=1e300"), "setting 'distance' is too large"),
        (
            ("two-gaussians", "--set", "dist=1"),
            "unknown setting of two-gaussians: got dist; wanted some of distance, variance, "
            "weight; did you mean 'distance'?",
        ),
        (
            ("two-gaussians", "--set", "distance=x"),
            "'distance' cannot be used: got x; wanted a number >= 0",
        ),
        (
            ("two-gaussians", "--set", "distance="),
            "'distance' cannot be used: got ''; wanted a num",
        ),
        (("two-gaussians", "--set", "distance=-1"), "got -1; wanted a number >= 0"),
        (("two-gaussians", "--set", "distance=nan"), "got nan; wanted a number >= 0"),
        (("two-gaussians", "--set", "distance=inf"), "got inf; wanted a number >= 0"),
        (("two-gaussians", "--set", "weight=1"), "got 1; wanted a number > 0 and < 1"),
        (("two-gaussians", "--set", "variance=0"), "got 0; wanted a number > 0"),
        (
            ("two-gaussians", "--set", "distance"),
            "--set cannot be read: got distance; wanted KEY=VALUE",
        ),
        (("two-gaussians", "--set", "=3"), "--set cannot be read: got =3; wanted KEY=VALUE"),
        (
            ("two-gaussians", "--set", "weight=.5", "--set", "weight=.4"),
            "twice: got weight; wanted each name once",
        ),
        (
            ("two-gaussians", "--set", "distance=0"),
            "components + and - are identical: no level of noise separates them: got "
            "two-gaussians; wanted two or more different components",
        ),
        (
            ("equal-means", "--set", "variances=1,1"),
            "got variances 1, 1; wanted two or more different variances",
        ),
        (
            ("equal-means", "--set", "variances="),
            "got ''; wanted numbers > 0, with commas between them",
        ),
        (("equal-means", "--set", "dimension=2.5"), "got 2.5; wanted a whole number >= 1"),
        (("random-spherical", "--set", "components=1"), "got 1; wanted a whole number >= 2"),
        (
            ("sparse-dictionary", "--set", "atoms=4"),
            "too few sets of atoms: got 8 components, 4 of 4",
        ),
        (
            ("well-conditioned", "--set", "smallest=5"),
            "wrong way round: got smallest=5, largest=4; wanted",
        ),
        (
            ("hierarchical", "--set", "branching=36"),
            "too many leaves: got 46656; wanted at most 4096; ask",
        ),
        (
            ("gaussian-tree", "--after", "0"),
            "one component: nothing to tell apart: wanted two or more",
        ),
        (
            ("two-gaussians", "--epsilon", "2"),
            "epsilon is out of range: got 2.0; wanted a number in (0, 1)",
        ),
        (
            ("two-gaussians", "--epsilon", "0"),
            "epsilon is out of range: got 0.0; wanted a number in (0, 1)",
        ),
        (("two-gaussians", "--epsilon", "nan"), "epsilon is out of range: got nan; wanted"),
        (
            ("two-gaussians", "--epsilon", "lots"),
            "Invalid value for '--epsilon': got lots; wanted a number",
        ),
        (
            ("two-gaussians", "--after", "z"),
            "--after: unknown component: got z; wanted some of +, -",
        ),
        (
            ("two-gaussians", "--after", "+", "--before", "-"),
            "S_after is not inside S_before: got + outside -; wanted every component of "
            "S_after in S_before; add + to S_before",
        ),
        (
            ("two-gaussians", "--after", "+", "--before", "+"),
            "the same set, so nothing is decided: got +; wanted a smaller set",
        ),
        (("two-gaussians", "--after", "+,+"), "named twice: got +, +; wanted each component once"),
        (("two-gaussians", "--after", "all"), "--after: unknown component: got all; wanted some"),
        (("two-gaussians", "--after", ""), "S_after is an empty set: wanted some of +, -"),
        (
            ("two-gaussians", "--after", "+", "--before", ","),
            "S_before is an empty set: wanted some of +, -",
        ),
        (
            ("two-gaussians", "--before", "+"),
            "--before without --after: got --before +; wanted --after",
        ),
        (("two-gaussians", "--at", "soon"), "--at cannot be read: got soon; wanted times T,T,..."),
        (
            ("two-gaussians", "--at", "-1"),
            "times cannot be used: got [-1.0]; wanted finite OU times >= 0",
        ),
        (("two-gaussians", "--at", "inf"), "times cannot be used: got [inf]; wanted finite"),
        (("two-gaussians", "--at", ""), "times cannot be used: got []; wanted finite OU times"),
        (
            ("two-gaussians", "--samples", "0"),
            "Invalid value for '--samples': got 0; wanted at least 16;",
        ),
        (
            ("two-gaussians", "--samples", "100000000000"),
            "got 100000000000; wanted at most 4194304;",
        ),
        (
            ("two-gaussians", "--seed", "x"),
            "Invalid value for '--seed': got x; wanted a whole number;",
        ),
        (("two-gaussians", "extra"), "unexpected extra argument"),
        (
            ("masking", "--after", "+"),
            "one pair of sets, + inside {+, -}: got --after; leave it out",
        ),
        (("masking", "--at", "2"), "not mask probabilities: got 2.0; wanted numbers in [0, 1]"),
        (("masking", "--set", "distance=0"), "got 0; wanted a whole number >= 1"),
    ],
)
def test_mistakes_are_one_clear_line(
    capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str
) -> None:
    refused(capsys, args, message)


@pytest.mark.parametrize(
    ("text", "args", "message"),
    [
        ("", (), "m.toml: component: no components: wanted [[component]] tables of name, weight"),
        ("[[component", (), "m.toml is not valid TOML: got "),
        (
            "[component]\nmean = 0",
            (),
            "a single table: got [component]; wanted [[component]] in two",
        ),
        (
            "means = [0, 1]",
            (),
            "m.toml: means: unknown key: wanted [[component]] tables of name, wei",
        ),
        (TWO.replace("component", "components"), (), "did you mean 'component'?"),
        (
            TWO.replace("mean", "meen", 1),
            (),
            "m.toml: component[0].meen: unknown key: wanted some of name, weight, mean, "
            "covariance; did you mean 'mean'?",
        ),
        (
            TWO.replace("mean = [3.0, 0.0]", ""),
            (),
            "component[1].mean: missing: wanted a number or a l",
        ),
        (
            TWO.replace("[3.0, 0.0]", "[3.0]"),
            (),
            "means differ in length: got 1; wanted 2, as in compo",
        ),
        (
            TWO.replace("[3.0, 0.0]", "[nan, 0.0]"),
            (),
            "component[1].mean: not a mean: got nan; wanted",
        ),
        (
            TWO.replace("[3.0, 0.0]", "[inf, 0.0]"),
            (),
            "component[1].mean: not a mean: got inf; wanted",
        ),
        (
            TWO.replace("[3.0, 0.0]", "[1e200, 0.0]"),
            (),
            "too large: got 1e+200; wanted at most 1e+50",
        ),
        (
            TWO.replace("[3.0, 0.0]", "[]"),
            (),
            "component[1].mean: not a mean: got []; wanted a finite",
        ),
        (
            TWO.replace("[3.0, 0.0]", "'far'"),
            (),
            "component[1].mean: not a mean: got far; wanted a fin",
        ),
        (
            TWO.replace("0.5", "-0.5", 1),
            (),
            "component[0].weight: not a weight: got -0.5; wanted a pos",
        ),
        (
            TWO.replace("0.5", "0.0", 1),
            (),
            "component[0].weight: not a weight: got 0.0; wanted a posit",
        ),
        (
            TWO.replace("0.5", "nan", 1),
            (),
            "component[0].weight: not a weight: got nan; wanted a posit",
        ),
        (
            TWO.replace("0.5", "0.6", 1),
            (),
            "weights must sum to 1: got a sum of 1.1; wanted a sum of 1",
        ),
        (
            TWO.replace("weight = 0.5", "", 1),
            (),
            "component[0].weight: missing: wanted a weight for ev",
        ),
        (
            TWO.replace('"B"', '"A"'),
            (),
            "component[1].name: used twice: got 'A', as component[0]; want",
        ),
        (
            TWO.replace('"B"', '""'),
            (),
            "component[1].name: not a name: got ''; wanted text that is not",
        ),
        (
            TWO.replace('"B"', "3"),
            (),
            "component[1].name: not a name: got 3; wanted text that is not",
        ),
        (
            TWO + "covariance = -1.0",
            (),
            "component[1].covariance: a variance is negative: got -1; want",
        ),
        (
            TWO + "covariance = nan",
            (),
            "component[1].covariance: not a covariance: got nan; wanted a f",
        ),
        (
            TWO + "covariance = [1.0]",
            (),
            "does not fit the mean: got 1 numbers; wanted a number, a lis",
        ),
        (
            TWO + "covariance = [[1.0, 0.5], [0.4, 1.0]]",
            (),
            "a covariance is not symmetric: got 0.5 at [0, 1] and 0.4 at [1, 0]; wanted the "
            "same number at both",
        ),
        (
            TWO + "covariance = [[1.0, 2.0], [2.0, 1.0]]",
            (),
            "not positive definite: got an eigenvalue of -1; wanted a symmetric positive definite",
        ),
        (
            TWO + "covariance = [[1.0], [0.4, 1.0]]",
            (),
            "wanted a number, a list or a matrix with rows",
        ),
        (
            TWO.split("[[component]]")[1].join(["[[component]]", ""]).replace("0.5", "1.0"),
            (),
            "one component: nothing is decided: got ",
        ),
        (
            TWO.replace("-3.0", "3.0"),
            (),
            "components A and B are identical: no level of noise separates t",
        ),
        (TWO, ("--set", "distance=3"), "--set belongs to a family: got the file "),
        (
            TWO,
            ("--after", "a"),
            "--after: unknown component: got a; wanted some of A, B; did you mean",
        ),
        (
            TWO,
            ("--after", "A,B"),
            "the same set, so nothing is decided: got A, B; wanted a smaller",
        ),
        (
            TWO,
            ("--after", "A", "--before", "B"),
            "got A outside B; wanted every component of S_after",
        ),
    ],
)
def test_mistakes_in_a_file_are_one_clear_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    args: tuple[str, ...],
    message: str,
) -> None:
    file = tmp_path / "m.toml"
    file.write_text(text)
    refused(capsys, (str(file), *args), message)


def refused(capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str) -> None:
    code, out, err = run(capsys, *args)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("critwin: error: ")
    assert err.count("\n") == 1
