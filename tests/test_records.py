"""Records: checked once, frozen, selectable, joinable, and with one digest whatever the order."""

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critwin.errors import InputError
from critwin.records import FeatureColumns, Records, concatenate, digest, select, sort
from strategies import records


def columns(**changes: Any) -> FeatureColumns:
    own: dict[str, Any] = {
        "labels": ("a", "b"),
        "before": [0, 1, 1],
        "after": [0, -1, 1],
        "after_probs": [[1, 0], [0.5, 0.5], [0, 1]],
        "before_values": {"area": [1.0, 2.0, np.nan]},
    }
    return FeatureColumns(**{**own, **changes})


def rows(**changes: Any) -> Records:
    own: dict[str, Any] = {
        "source": np.array(["s0", "s1", "s2"]),
        "logsnr": [1.0, 0.0, -1.0],
        "features": {"digit": columns()},
        "planted": {"ink": np.array(["red", "green", "red"])},
        "values": {"loss": [0.1, 0.2, 0.3]},
        "priors": {"digit": {"a": 0.4, "b": 0.6}},
        "attrs": {"model": "m"},
    }
    return Records(**{**own, **changes})


def test_defaults_are_filled_in_and_everything_is_frozen() -> None:
    table = rows()
    assert len(table) == 3
    assert table.requested_logsnr.tolist() == [1.0, 0.0, -1.0]
    assert table.replicate.tolist() == [0, 0, 0]
    assert set(table.experiment) == {"forward_reverse"}
    assert set(table.condition) == {""}
    assert set(table.reversal) == {"unknown"}
    assert table.valid.all()
    with pytest.raises(FrozenInstanceError):
        table.source = np.array(["x"])  # type: ignore[misc]
    for array in (table.logsnr, table.features["digit"].before, table.values["loss"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(TypeError):
        table.features["new"] = columns()  # type: ignore[index]
    with pytest.raises(TypeError):
        table.priors["digit"]["a"] = 1.0  # type: ignore[index]


def test_the_givers_arrays_are_neither_shared_nor_frozen() -> None:
    mine = np.array([1.0, 0.0, -1.0])
    table = rows(logsnr=mine)
    mine[0] = 5.0
    assert table.logsnr[0] == 1.0


def test_columns_by_name() -> None:
    assert rows().column("source").tolist() == ["s0", "s1", "s2"]
    assert rows().column("ink").tolist() == ["red", "green", "red"]
    with pytest.raises(InputError, match=r"unknown column: got loss; wanted one of .*ink"):
        rows().column("loss")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logsnr": [1.0, 0.0]}, r"logsnr has the wrong shape: got \(2,\)"),
        ({"logsnr": [1.0, np.nan, 0.0]}, "logsnr must be finite: got nan"),
        ({"requested_logsnr": [1.0, np.inf, 0.0]}, "requested_logsnr must be finite"),
        ({"logsnr": ["1", "2", "3"]}, "logsnr holds something that is not a number"),
        ({"replicate": [0.5, 0, 0]}, "replicate must be whole numbers: got 0.5"),
        ({"replicate": [np.nan, 0, 0]}, "replicate must be whole numbers"),
        ({"valid": [1, 0, 2]}, "valid must be true or false: got 2"),
        ({"valid": ["True", "False", "no"]}, "valid holds something"),
        ({"source": [1.5, 2.5, 3.5]}, "source must be strings"),
        ({"source": np.array(["a", None, "b"], dtype=object)}, "source must be strings"),
        ({"source": ["a\0b", "c", "d"]}, "NUL"),
        ({"source": np.array(["a\0", "c", "d"], dtype=object)}, "NUL"),
        ({"source": ["a\ud800", "c", "d"]}, "surrogate"),
        (
            {
                "features": {
                    "x": columns(before=[0], after=[0], after_probs=None, before_values={})
                }
            },
            "feature 'x' has the wrong number of rows: got 1; wanted 3",
        ),
        ({"features": {"": columns()}}, "a name of features is empty"),
        ({"planted": {"source": ["a", "b", "c"]}}, "name of a column of records: got source"),
        ({"planted": {"ink": ["a"]}}, r"planted\.ink has the wrong shape"),
        ({"values": {"loss": [1.0]}}, r"values\.loss has the wrong shape"),
        ({"values": {"loss": [[1.0, 2.0], [3.0]]}}, r"values\.loss is not an array"),
        ({"priors": {"digit": {"a": -0.1}}}, "prior of 'digit' must be >= 0: got a: -0.1"),
        ({"priors": {"digit": {"a": np.nan}}}, "prior of 'digit'"),
    ],
)
def test_every_guard_of_records_fires(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rows(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ()}, "distinct and at least one"),
        ({"labels": ("a", "a")}, "distinct and at least one"),
        ({"labels": ("a", "")}, "a label is empty"),
        ({"labels": ("a", "b\0")}, "NUL"),
        ({"before": [0, 1, 2]}, "before: label index out of range: got 2; wanted -1"),
        ({"after": [-2, 0, 0]}, "after: label index out of range: got -2"),
        ({"after": [0]}, "after has the wrong shape"),
        ({"after_probs": [[1.0, 0.0]]}, "after_probs has the wrong shape"),
        ({"after_values": {"v": [1.0]}}, r"after_values\.v has the wrong shape"),
    ],
)
def test_every_guard_of_feature_columns_fires(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        columns(**changes)


def test_select_by_mask_and_by_index() -> None:
    table = rows()
    chosen = select(table, [True, False, True])
    assert chosen.source.tolist() == ["s0", "s2"]
    assert chosen.features["digit"].after.tolist() == [0, 1]
    assert chosen.values["loss"].tolist() == [0.1, 0.3]
    assert chosen.planted["ink"].tolist() == ["red", "red"]
    assert chosen.priors == table.priors
    assert select(table, [2, 0]).source.tolist() == ["s2", "s0"]
    assert len(select(table, [])) == 0
    assert len(select(table, [False] * 3)) == 0
    with pytest.raises(InputError, match="mask does not fit"):
        select(table, [True, False])


def test_concatenate_joins_rows_and_refuses_mismatches() -> None:
    table = rows()
    parts = [select(table, [0]), select(table, [1, 2])]
    assert digest(concatenate(parts)) == digest(table)
    assert concatenate([table]).source.tolist() == table.source.tolist()
    with pytest.raises(InputError, match="no records to concatenate"):
        concatenate([])
    for changes, message in (
        ({"features": {}}, "differ in features"),
        ({"planted": {}}, "differ in planted"),
        ({"values": {}}, "differ in values"),
        ({"features": {"digit": columns(labels=("b", "a"))}}, "differ in the labels"),
        ({"features": {"digit": columns(after_probs=None)}}, "only some of the records have"),
        ({"features": {"digit": columns(before_values={})}}, "differ in the before_values"),
    ):
        with pytest.raises(InputError, match=message):
            concatenate([table, rows(**changes)])
        with pytest.raises(InputError, match=message):
            concatenate([rows(**changes), table])


@settings(max_examples=30)
@given(records(), st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_the_order(table: Records, random: Any) -> None:
    order = list(range(len(table)))
    random.shuffle(order)
    assert digest(select(table, np.array(order, dtype=int))) == digest(table)


def test_rows_that_differ_only_in_the_reversal_sort_one_way() -> None:
    table = rows(
        source=["s", "s", "s"], logsnr=[1.0] * 3, reversal=["ode", "stochastic", "posterior"]
    )
    assert digest(select(table, [2, 1, 0])) == digest(table)
    assert sort(table).reversal.tolist() == ["ode", "posterior", "stochastic"]


def test_sort_is_canonical() -> None:
    table = rows(source=["b", "a", "a"], logsnr=[0.0, -1.0, 2.0])
    ordered = sort(table)
    assert ordered.source.tolist() == ["a", "a", "b"]
    assert ordered.logsnr.tolist() == [2.0, -1.0, 0.0]


@pytest.mark.parametrize(
    "changes",
    [
        {"source": ["s0", "s1", "sX"]},
        {"logsnr": [1.0, 0.0, np.nextafter(-1.0, 0)]},
        {"replicate": [0, 0, 1]},
        {"condition": ["", "", "x"]},
        {"valid": [True, True, False]},
        {"features": {"digit": columns(after=[0, -1, 0])}},
        {"features": {"digit": columns(labels=("a", "c"))}},
        {"features": {"other": columns()}},
        {"features": {"digit": columns(after_probs=None)}},
        {"features": {"digit": columns(before_values={"area": [1.0, 2.0, 3.0]})}},
        {"values": {"loss": [0.1, 0.2, 0.4]}},
        {"planted": {"ink": ["red", "green", "blue"]}},
    ],
)
def test_the_digest_notices_every_change_of_a_row(changes: dict[str, Any]) -> None:
    assert digest(rows(**changes)) != digest(rows())


def test_the_digest_ignores_provenance() -> None:
    assert digest(replace(rows(), attrs={"other": 1}, priors={})) == digest(rows())
