"""Errors say what, got, wanted, next; survive a process boundary; and name the missing extra."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

import critwin.errors as errors
from critwin.errors import (
    ConfigError,
    CritwinError,
    InputError,
    InterruptedRunError,
    MissingExtraError,
    RunFolderError,
    TooManyInvalidError,
    require,
)


def test_messages_are_one_clear_line() -> None:
    full = InputError("level out of range", got=-1, wanted="t > 0", next_step="use logsnr")
    assert str(full) == "level out of range: got -1; wanted t > 0; use logsnr"
    assert (full.what, full.got, full.wanted) == ("level out of range", -1, "t > 0")
    assert full.next_step == "use logsnr"
    assert str(InputError("no levels")) == "no levels"
    assert str(InputError("bad", got="a\nb\x1b[31m")) == r"bad: got a\nb\x1b[31m"
    assert len(str(InputError("bad", got="x" * 10_000))) < 300
    assert str(InputError("bad", got=np.int64(2))) == "bad: got 2"
    assert str(ConfigError("model.name", "is missing")) == "model.name: is missing"
    assert str(ConfigError("", "is empty")) == "is empty"


def test_kinds_are_caught_as_what_they_are() -> None:
    assert issubclass(InputError, ValueError)
    assert issubclass(MissingExtraError, ImportError)
    assert issubclass(TooManyInvalidError, RuntimeError)
    for name in errors.__all__:
        if name not in {"require", "is_out_of_memory"}:
            assert issubclass(getattr(errors, name), CritwinError)


@pytest.mark.parametrize(
    "error",
    [
        InputError("what", got=(1, 2), wanted="w", next_step="n"),
        ConfigError("run.seed", "is no number", got="x", wanted="an integer"),
        RunFolderError("locked", got="here"),
        MissingExtraError("no ray"),
        TooManyInvalidError(3, 10, limit=0.2),
        InterruptedRunError("stopped"),
    ],
)
def test_errors_cross_a_process_boundary(error: CritwinError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.__dict__ == error.__dict__


def test_too_many_invalid_says_how_many() -> None:
    error = TooManyInvalidError(3, 10, limit=0.2)
    assert (error.num_invalid, error.num_done) == (3, 10)
    assert "3 of 10" in str(error)
    assert "20%" in str(error)


def test_require_names_the_extra() -> None:
    assert require("json", extra="x") is sys.modules["json"]
    with pytest.raises(MissingExtraError, match=r"pip install 'critwin\[parquet\]'"):
        require("no_such_module_anywhere", extra="parquet")
    with pytest.raises(MissingExtraError):
        require("no_such_module_anywhere.inside", extra="parquet")


def test_require_does_not_hide_a_broken_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "critwin_broken_probe.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere") as caught:
        require("critwin_broken_probe", extra="parquet")
    assert not isinstance(caught.value, MissingExtraError)
