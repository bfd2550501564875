"""Mistakes in what audits and advice are asked: one line, before rows, models or measurements."""

import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import critwin.models.registry
import critwin.runs.executor
from critwin.cli import main
from critwin.models.digits import load_data
from critwin.runs.config import parse_config
from critwin.runs.executor import run_experiment
from critwin.runs.files import png
from critwin.runs.folder import Run

MIXTURE = """
[run]
out = "OUT"
batch_size = 16
images = 0
[model]
name = "mixture"
mixture = { component = [
  { name = "a", weight = 0.5, mean = [-6.0] }, { name = "b", weight = 0.5, mean = [6.0] } ] }
[sources]
count = 16
[[feature]]
name = "component"
[[feature]]
name = "component"
called = "again"
"""
LEVELS = '[levels]\nunit = "t"\nvalues = [0.3, 1.0, 2.0]\n'
ARM = '[experiment]\nname = "intervene"\n[[experiment.arm]]\nname = "late"\nsegments = [SEGMENT]\n'
TABLES = {
    "sum.csv": "label,share\na,.5\nb,.1\n",
    "word.csv": "label,share\na,half\nb,.5\n",
    "short.csv": "label,share\na,1\n",
    "long.csv": "label,share\na,.5\nb,.5\nc,0\n",
    "percent.csv": "label,share\na,50\nb,50\n",
    "names.csv": "group,part\na,1\n",
    "shares.txt": "label,share\na,1\n",
    "table.json": '{"feature": "ink", "labels": ["a", "b"], "counts": [[1, "x"], [0, 1]], '
    '"abstained": [0, 0]}',
    "other.json": '{"feature": "ink", "labels": ["x", "y"], "counts": [[9, 1], [0, 9]], '
    '"abstained": [0, 0]}',
    "broken.json": "{",
}

FAIRNESS = "audit fairness run --attribute component "
STARTED = "audit fairness --model digits --condition 1 --attribute ink --out new "
EARLY = [
    ("audit fairness", "Missing option '--attribute'"),
    ("audit fairness --attribute ink", "no --model, --condition, --out; wanted a run folder"),
    ("audit fairness --attribute ink --model digits --condition 1", "no --out"),
    ("audit fairness nowhere --attribute component", "no such run folder: got nowhere"),
    ("audit fairness sum.csv --attribute component", "no such run folder: got sum.csv"),
    ("audit fairness run --attribute componet", "did you mean 'component'?"),
    ("audit fairness run --attribute hair", "unknown feature: got hair; wanted one of component"),
    ("audit fairness run --attribute ''", "unknown feature: got an empty name"),
    (FAIRNESS + "--condition z", "unknown condition of the images: got z; wanted one of none"),
    (FAIRNESS + "--reference even", "unknown reference: got even; wanted uniform, data, or"),
    (FAIRNESS + "--reference shares.txt", "unknown reference"),
    (FAIRNESS + "--reference gone.csv", "got gone.csv (no such file); wanted a CSV file"),
    (FAIRNESS + "--reference sum.csv", "do not sum to 1: got 0.6; wanted 1; give every label"),
    (FAIRNESS + "--reference word.csv", "line 2: the share of 'a' cannot be used: got 'half'"),
    (FAIRNESS + "--reference short.csv", "got no share of b; wanted a share of every label: a, b"),
    (FAIRNESS + "--reference long.csv", "line 4: the run has no such label: got c; wanted one"),
    (FAIRNESS + "--reference percent.csv", "wanted a number from 0 to 1; divide percentages by"),
    (FAIRNESS + "--reference names.csv", "a column is missing: label, share: got columns group"),
    (FAIRNESS + "--reference data", "training data are unknown: got data; wanted uniform, or"),
    (FAIRNESS + "--fidelity again", "--fidelity cannot be read: got again; wanted FEATURE=LABEL"),
    (FAIRNESS + "--fidelity component=a", "by the attribute that is audited: got component"),
    (FAIRNESS + "--fidelity agan=a", "unknown feature: got agan; wanted one of component, again;"),
    (FAIRNESS + "--fidelity again=z", "unknown label of 'again': got z; wanted one of a, b"),
    (FAIRNESS + "--errors gone.json", "cannot read the error matrix: got gone.json"),
    (FAIRNESS + "--errors broken.json", "cannot read the error matrix: got broken.json"),
    (FAIRNESS + "--errors table.json", "samples of 'a', called 'b', cannot be counted: got x"),
    (FAIRNESS + "--errors other.json", "not of 'component': its labels are others: got x, y"),
    (FAIRNESS + "--interventions gone", "no such run folder: got gone"),
    (FAIRNESS + "--interventions run", "no run of interventions: got run: forward_reverse"),
    (
        "audit fairness changed --attribute component --interventions changed",
        "the run is one of interventions itself",
    ),
    (FAIRNESS + "--largest-loss 5", "--largest-loss out of range: got 5.0; wanted in [0, 1]"),
    (FAIRNESS + "--largest-loss x", "'--largest-loss': got x; wanted a number"),
    (FAIRNESS + "--confidence 95", "--confidence out of range: got 95.0; wanted in [0.5, 1); did"),
    (FAIRNESS + "--confidence nan", "--confidence out of range"),
    (FAIRNESS + "--images 30", "got --images; wanted none of them beside a run folder"),
    (FAIRNESS + "--threads 2", "got --threads; wanted none of them beside a run folder"),
    (STARTED + "--attribute inc", "unknown feature: got inc; wanted one of"),
    (STARTED + "--instead 1", "the condition is changed to itself: got 1; wanted another one"),
    (STARTED + "--fidelity ink=red", "by the attribute that is audited"),
    (STARTED + "--fidelity digt=1", "unknown feature: got digt; "),
    (STARTED + "--level -1", "--level out of range: got -1.0; wanted an OU time above 0"),
    (STARTED + "--level nan", "--level out of range: got nan"),
    (STARTED + "--level 1 --level 1", "--level comes twice: got 1.0; wanted every level once"),
    (STARTED + "--level 1 --level 2", "too few levels to see when something is decided: got t = "),
    (STARTED + "--interventions changed", "got --interventions changed; wanted no --interven"),
    (STARTED + "--errors gone.json", "cannot read the error matrix"),
    (STARTED + "--out sum.csv", "the run folder is a file: got sum.csv; wanted a folder"),
    ("audit privacy", "no --model, --members, --nonmembers, --out; wanted a run folder, or all"),
    ("audit privacy nowhere", "no such run folder: got nowhere"),
    ("audit privacy run", "does not say which sources are members: got planted columns component"),
    ("audit privacy run --group nothing", "does not say which sources are members"),
    ("audit privacy run --attack los", "unknown attack: got los; wanted one of loss, pia, secmi;"),
    ("audit privacy run --attack pia --attack pia", "an attack comes twice: got pia"),
    ("audit privacy run --seed 3", "got --seed; wanted none of them beside a run folder"),
    ("audit privacy run --replicates 4", "fresh noises of the loss, or of a started run: got 4"),
    ("audit privacy run --confidence 95", "did you mean 0.95?"),
]
PRIVACY = "audit privacy --model digits --members m --out new --nonmembers "
ADVICE = "advise run --keep component --change again "
EDIT = "advise --model digits --image x.png --out new "
EARLY += [
    (PRIVACY + "m", "the same folder: got m; wanted a folder of each"),
    (PRIVACY + "gone", "cannot read the folder of images: got gone"),
    (PRIVACY + "empty", "the folder of non-members holds no images: got empty"),
    (PRIVACY + "few", "too few non-members: the level is chosen on one half and reported on the"),
    (PRIVACY + "n --model digitz", "unknown model: got digitz; wanted one"),
    (PRIVACY + "n --group size", "unknown planted column: got size; wanted one of member, file"),
    (PRIVACY + "n --level 0", "--level out of range: got 0.0"),
    (PRIVACY + "n --out sum.csv", "the run folder is a file"),
    (PRIVACY + "n --attack magic", "unknown attack: got magic"),
    ("advise", "Missing option '--keep'"),
    ("advise run --keep component", "Missing option '--change'"),
    ("advise run --keep component --change component", "cannot be kept and changed: got componen"),
    ("advise run --keep component --change hue", "unknown feature: got hue; wanted one of"),
    ("advise run --keep componet --change again", "did you mean 'component'?"),
    ("advise run --keep component=z --change again", "unknown label of 'component': got z"),
    ("advise run --keep component=a,a --change again", "a wish names a label twice"),
    ("advise run --keep component= --change again", "not a wish: got component=; wanted FEATURE"),
    ("advise run --keep '' --change again", "not a wish: got an empty text; wanted FEATURE"),
    (ADVICE + "--keep component=a", "a feature comes twice: got component; wanted every feature"),
    (ADVICE + "--least-kept 80", "got 80.0; wanted a rate in (0, 1]; did you mean 0.8?"),
    (ADVICE + "--least-changed nan", "out of range: got nan; wanted a rate in (0, 1]"),
    (ADVICE + "--confidence 1", "--confidence out of range: got 1.0"),
    (ADVICE + "--where x", "--where cannot be read: got x; wanted KEY=VALUE"),
    (ADVICE + "--reversal ode", "unknown reversal of this run: got ode; wanted one of posterior"),
    (ADVICE + "--preset sd9", "no scheduler is known by this name: got sd9; wanted one of sd15"),
    (ADVICE + "--scheduler DDIMScheduler", "a scheduler needs a model's configuration"),
    (ADVICE + "--preset sd15 --scheduler DDIMSheduler", "did you mean 'DDIMScheduler'?"),
    (ADVICE + "--steps 0", "'--steps': got 0; wanted at least 1"),
    (ADVICE + "--seed 4", "got --seed; wanted none of them beside a run folder"),
    (ADVICE + "--replicates 64", "got --replicates; wanted none of them beside a run folder"),
    (ADVICE + "--levels 12", "got --levels; wanted none of them beside a run folder"),
    (ADVICE + "--image x.png", "got --image; wanted none of them beside a run folder"),
    ("advise changed --keep component --change again", "advice needs a run of forward_reverse"),
    ("advise --keep a --change b --model digits", "no --image, --out; wanted a run folder"),
    (EDIT + "--keep digit --change digit", "a feature cannot be kept and changed: got digit"),
    (EDIT + "--keep digit --change hue9", "unknown feature: got hue9; wanted one of"),
    (EDIT + "--keep digit --change ink --labeller clip", "a labeller reads words"),
    (
        EDIT + "--keep digit --change ink --where condition=1",
        "got condition=1; wanted none besid",
    ),
    (EDIT + "--keep digit --change ink --least-kept 80", "did you mean 0.8?"),
    (EDIT + "--keep digit --change ink --image gone.png", "got gone.png (no such file); wanted a"),
    (EDIT + "--keep digit --change ink --image sum.csv", "cannot read image"),
    (
        EDIT + "--keep digit --change ink --model digitz",
        "unknown model: got digitz; wanted one of",
    ),
    (EDIT + "--keep digit --change ink --out sum.csv", "the run folder is a file"),
]
LATE = [
    (STARTED + "--condition 11", "does not know this condition: got 11"),
    (STARTED + "--instead 12", "does not know this condition: got 12"),
    (STARTED + "--fidelity digit=77", "unknown label of 'digit': got 77; wanted one of 0, 1"),
    (STARTED + "--reference gone.csv", "cannot read the reference: got gone.csv"),
    (STARTED + "--reference sum.csv", "the run has no such label: got a; wanted one of red"),
    (STARTED + "--errors other.json", "not of 'ink': its labels are others"),
    (ADVICE + "--where colour=red", "unknown column: got colour; wanted one of"),
    (ADVICE + "--where replicate=7", "unknown value of 'replicate': got 7; wanted one of 0"),
    (EDIT + "--keep digit=77 --change ink", "unknown label of 'digit': got 77"),
    (EDIT + "--keep digit --change ink --reversal back", "no such reversal: got back; wanted one"),
    (EDIT + "--keep digit --change ink --prompt 77", "does not know this condition: got 77"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, data = tmp_path_factory.mktemp("mistakes"), load_data()
    arm = ARM.replace("SEGMENT", '{ from = 1.0, condition = "b" }')
    for name, more in (("run", LEVELS), ("changed", arm)):
        text = MIXTURE.replace("OUT", str(root / name)) + more
        run_experiment(parse_config(tomllib.loads(text)))
    for name, is_member, num in (("m", True, 4), ("n", False, 4), ("few", False, 3)):
        (root / name).mkdir()
        for row in np.flatnonzero(data.is_member == is_member)[:num]:
            image = png((data.render(int(row))[0] + 1) / 2)
            (root / name / f"{row:04d}.png").write_bytes(image)
    (root / "empty").mkdir()
    (root / "x.png").write_bytes(png((data.render(0)[0] + 1) / 2))
    for name, text in TABLES.items():
        (root / name).write_text(text)
    return root


def refusing(what: str) -> Callable[..., Any]:
    def called(*_: object, **__: object) -> Any:
        raise AssertionError(f"{what} although the mistake could be seen before")

    return called


def tree(root: Path) -> dict[str, int]:
    return {str(p.relative_to(root)): p.stat().st_mtime_ns for p in sorted(root.rglob("*"))}


def check(words: str, says: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(place)
    code = main(shlex.split(words))
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("critwin: error: ")
    assert "Traceback" not in err
    is_complete = "wanted " in err or "Missing option" in err or "needs a model's" in err
    assert is_complete or "did you mean" in err or "no such run folder" in err
    assert tree(place) == before  # nothing half-written


@pytest.mark.parametrize(("words", "says"), EARLY)
def test_seen_before_rows_are_read_or_a_model_is_loaded(
    words: str,
    says: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(critwin.models.registry, "load_model", refusing("a model was loaded"))
    monkeypatch.setattr(Run, "records", refusing("rows were read"))
    check(words, says, place, capsys)


@pytest.mark.parametrize(("words", "says"), LATE)
def test_seen_before_anything_is_measured(
    words: str,
    says: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(critwin.runs.executor, "make_folder", refusing("a run was started"))
    check(words, says, place, capsys)


def test_the_guards_of_the_tests_above_fire(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for words in ("audit privacy changed", FAIRNESS, ADVICE):
        monkeypatch.setattr(Run, "records", refusing("rows were read"))
        assert main([*shlex.split(words), "--no-report"]) == (2 if "privacy" in words else 1)
    monkeypatch.setattr(critwin.models.registry, "load_model", refusing("a model was loaded"))
    for words in (STARTED, PRIVACY + "n", EDIT + "--keep digit --change ink"):
        assert main(shlex.split(words)) == 1
    assert not (place / "new").exists()
