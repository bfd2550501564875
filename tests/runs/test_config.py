import copy
import datetime
import pickle
import time
from pathlib import Path
from typing import Any

import pytest

from critwin._texts import plain_number
from critwin.errors import ConfigError
from critwin.runs.config import ExperimentFile, digest_of, frozen_part, load_config, parse_config

BASE: dict[str, Any] = {
    "model": {"name": "digits"},
    "levels": {"from": 0.2, "to": 5, "count": 20},
    "feature": [{"name": "ink"}],
}


def change(place: str, value: Any) -> dict[str, Any]:
    """The base file with one entry set (or, for None, taken away)."""
    raw = copy.deepcopy(BASE)
    section, _, key = place.partition(".")
    if key:
        raw.setdefault(section, {})[key] = value
    elif value is None:
        raw.pop(section)
    else:
        raw[section] = value
    return raw


def test_a_small_file_is_filled_up_with_defaults() -> None:
    config = parse_config(BASE)
    assert config.run.seed == 0
    assert config.as_dict()["levels"] == {"unit": "t", "from": 0.2, "to": 5.0, "count": 20}
    assert parse_config(config.as_dict()) == config


def test_options_of_models_and_features_pass_through() -> None:
    raw = change("model.file", "m.toml")
    raw["feature"] = [{"name": "component", "groups": {"low": ["a", "b"]}, "draw": True}]
    config = parse_config(raw)
    assert config.model.options == {"file": "m.toml"}
    assert config.feature[0].options == {"groups": {"low": ["a", "b"]}, "draw": True}
    assert parse_config(config.as_dict()).as_dict() == config.as_dict()


BAD: list[tuple[str, Any, str]] = [
    ("run.sed", 1, r"run\.sed: unknown key: wanted one of .*; did you mean 'seed'\?"),
    ("run.seed", 1.5, r"run\.seed: not valid: got 1\.5; wanted a whole number"),
    ("run.seed", True, r"run\.seed: not valid: got True"),
    ("run.seed", -1, r"run\.seed: out of range: got -1; wanted at least 0"),
    ("run.batch_size", 0, r"run\.batch_size: out of range"),
    ("run.max_invalid", 1.5, r"run\.max_invalid: out of range: got 1\.5; wanted at most 1"),
    ("run.out", "", r"run\.out: empty"),
    ("run.out", "a\x1b[2Jb", r"run\.out: wanted text without control characters"),
    ("run", 3, r"run: not valid: got 3; wanted a table"),
    ("model", None, r"model: missing: wanted a section \[model\]"),
    ("model", {}, r"model\.name: missing"),
    ("model.x", datetime.date(2026, 1, 1), r"model\.x: wanted finite numbers, text"),
    ("model.x", float("nan"), r"model\.x: wanted finite numbers"),
    ("model.x", [1, [float("inf")]], r"model\.x: wanted finite numbers"),
    ("feature", None, r"feature: missing: wanted at least one section"),
    ("feature", [], r"feature: empty; wanted at least one section"),
    ("feature", {"name": "ink"}, r"feature: not valid: got dict; wanted a list"),
    ("feature", [{"nam": "ink"}], r"feature\.0\.name: missing"),
    ("feature", [{"name": "ink"}, {"name": 3}], r"feature\.1\.name: not valid: got 3"),
    ("sources.kind", "image", r"sources\.kind: .*did you mean 'images'\?"),
    ("sources.kind", "images", r"sources\.path: images need a folder"),
    ("sources.path", "x", r"sources\.path: only images have a folder"),
    ("sources.count", 0, r"sources\.count: out of range: got 0; wanted at least 1"),
    ("sources.count", "many", r"sources\.count: not valid: got many; wanted a whole number"),
    ("sources.conditions", "seven", r"sources\.conditions: not valid: got seven; wanted a list"),
    (
        "sources.conditions",
        [str(k) for k in range(50)],
        r"sources\.conditions: 50 conditions for 48 sources: 2 of them would never be used: "
        r"wanted a source or more for each; raise count",
    ),
    ("sources.conditions", [7], r"sources\.conditions\.0: not valid: got 7; wanted text"),
    ("levels", None, r"levels: missing: wanted a section \[levels\]"),
    ("levels", {}, r"levels\.from: missing; wanted values, or from, to and count"),
    ("levels", {"from": 1.0, "count": 3}, r"levels\.to: missing"),
    ("levels", {"values": []}, r"levels\.values: no levels"),
    ("levels", {"values": ["a"]}, r"levels\.values\.0: not valid: got a; wanted a number"),
    ("levels", {"values": [float("nan")]}, r"levels\.values\.0: not valid: got nan"),
    ("levels.values", [1, 2], r"levels\.from: values and a grid were both given"),
    (
        "levels.unit",
        "tt",
        r"levels\.unit: not one of the choices: got tt; wanted one of logsnr, t",
    ),
    ("levels.count", 1, r"levels\.count: out of range: got 1; wanted at least 2"),
    ("levels.from", float("inf"), r"levels\.from: not valid: got inf; wanted a finite number"),
    ("denoise.steps", 0, r"denoise\.steps: out of range"),
    ("denoise.guidance", "strong", r"denoise\.guidance: not valid: got strong; wanted a number"),
    ("experiment.name", "fly", r"experiment\.name: .*got fly; wanted one of forward_reverse"),
    ("experiment.replicates", 0, r"experiment\.replicates: out of range"),
    ("lvels", {}, r"lvels: unknown key: .*did you mean 'levels'\?"),
    ("a\x1b[2J", 1, r"a\[2J: unknown key"),
]


@pytest.mark.parametrize(("place", "value", "words"), BAD)
def test_a_bad_entry_is_named_in_one_line(place: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"\A{words}") as caught:
        parse_config(change(place, value))
    assert "\n" not in str(caught.value)
    assert all(c.isprintable() for c in str(caught.value))


def test_several_problems_are_one_line_that_names_them() -> None:
    raw = change("run.seed", -1)
    raw["run"]["sed"] = 2
    raw["sources"] = {"count": "x"}
    with pytest.raises(ConfigError) as caught:
        parse_config(raw)
    line = str(caught.value)
    assert line.startswith("run.sed: unknown key: ")  # a misspelt key comes first
    assert line.endswith("did you mean 'seed'?; and 2 more: run.seed, sources.count")
    assert "\n" not in line
    with pytest.raises(ConfigError, match=r"\Amodel: missing: .*; and 1 more: feature\Z"):
        parse_config({})


def test_a_misspelt_section_is_one_problem() -> None:
    raw = change("modle", BASE["model"])
    del raw["model"]
    with pytest.raises(ConfigError, match=r"\Amodle: unknown key: .*did you mean 'model'\?\Z"):
        parse_config(raw)


def test_the_file_is_named(tmp_path: Path) -> None:
    for text, words in (("", "x.toml: model: missing: "), ("[modle]\n", "x.toml: modle: unknown")):
        (tmp_path / "x.toml").write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_config(tmp_path / "x.toml")
        assert str(caught.value).startswith(words)
        assert "\n" not in str(caught.value)
        copied = pickle.loads(pickle.dumps(caught.value))
        assert str(copied) == str(caught.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e6, "1000000"), (1000.0, "1000"), (1234.5, "1234"), (0.2, "0.2"), (2.5, "2.5"),
     (-3.0, "-3"), (0.12345, "0.123"), (1e-7, "1e-07"), (1e300, "1e+300"), (0.0, "0")],
)  # fmt: skip
def test_numbers_are_written_plainly(value: float, text: str) -> None:
    assert plain_number(value).startswith(text)


def test_large_bounds_are_written_plainly() -> None:
    for place, words in (("sources.count", "at most 1000000"), ("run.max_invalid", "at most 1")):
        with pytest.raises(ConfigError, match=rf"{words}\Z"):
            parse_config(change(place, 1_000_001 if "count" in place else 2.5))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[run\n", r"is not valid TOML: got Expected.*; wanted lines KEY = VALUE.*; mend"),
        (b"x = 1\n# \xff\xfe", r"not UTF-8 text: got the byte 0xff in line 2; wanted .*; save it"),
        (b"x = " + b"[" * 50_000, "is not valid TOML"),
        (b"a = 1\na = 2\n", "is not valid TOML"),
        (b"#" * 1_000_001, "too large"),
    ],
)
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, text: bytes, words: str) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(text)
    begun = time.perf_counter()
    with pytest.raises(ConfigError, match=words):
        load_config(file)
    assert time.perf_counter() - begun < 10


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*No such file.*critwin init writes one"):
        load_config(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path)


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(
        '[model]\nname = "digits"\n[levels]\nvalues = [1, 2.5]\n[[feature]]\nname = "ink"\n'
    )
    assert load_config(file).levels.values == (1.0, 2.5)


FREE = {
    "run.out": "elsewhere",
    "run.max_invalid": 0.5,
    "run.images": 3,
    "sources.count": 49,
    "experiment.replicates": 2,
    "levels.count": 21,
    "model.local_files_only": True,
}
FIXED: dict[str, Any] = {
    "run.seed": 1,
    "run.batch_size": 17,
    "model.name": "other",
    "model.option": 1,
    "sources.kind": "dataset",
    "sources.conditions": ["a"],
    "denoise.condition": "none",
    "denoise.reversal": "ode",
    "denoise.steps": 7,
    "denoise.guidance": 2.0,
    "feature": [{"name": "digit"}],
}


@pytest.mark.parametrize("place", [*FREE, *FIXED])
def test_the_digest_changes_with_exactly_what_can_change_numbers(place: str) -> None:
    def digest(config: ExperimentFile) -> str:
        return digest_of(frozen_part(config.as_dict()))

    changed = parse_config(change(place, (FREE | FIXED)[place]))
    assert (digest(changed) == digest(parse_config(BASE))) == (place in FREE)
