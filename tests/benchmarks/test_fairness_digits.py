"""The page of the fairness benchmark says what its numbers say; its options are checked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import fairness_digits

    return fairness_digits


def test_the_page_is_made_of_the_numbers(script: Any) -> None:
    result = json.loads((BENCHMARKS / "results" / "fairness_digits.json").read_text("utf-8"))
    page = (BENCHMARKS / "results" / "fairness_digits.md").read_text("utf-8")
    assert script.text(result) == page
    other = script.text({**result, "digit": "5"})
    assert "When the ink of a “5” is decided" in other
    assert "read as 5" in other


@pytest.mark.parametrize(
    ("verdict", "reasons", "said"),
    [
        ("within", {}, ["the arm", "its loss"]),
        (None, {}, ["its loss"]),
        ("exceeds", {"groups": "no levels", "drift": "no levels"}, ["gone", "the arm"]),
    ],
)
def test_what_is_said_of_arms_stands_before_what_is_missing(
    script: Any, verdict: str | None, reasons: dict[str, str], said: list[str]
) -> None:
    section = SimpleNamespace(details=("gone", "the arm", "its loss"))
    audit = SimpleNamespace(
        interventions=SimpleNamespace(loss_verdict=verdict),
        reasons=reasons,
        section=lambda: section,
    )
    assert script._told_of_arms(audit) == said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--digit", "11"], "invalid choice: '11'"),
        (["--digit", "5", "--instead", "5"], "--instead 5 is the digit itself"),
    ],
)
def test_options_that_cannot_be_used(
    options: list[str],
    says: str,
    script: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = tmp_path / "runs"
    monkeypatch.setattr(sys, "argv", ["fairness_digits.py", *options, "--runs", str(runs)])
    with pytest.raises(SystemExit) as left:
        script.main()
    assert left.value.code == 2
    assert says in capsys.readouterr().err
    assert not runs.exists()
