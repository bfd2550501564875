"""Numbers by group mean what they mean in fairlearn; its definitions are written out here."""

import importlib.util

import numpy as np
import pytest

from critwin.audits.metrics import group_metrics
from critwin.errors import InputError

TRUE = np.array([1, 1, 0, 0, 1, 0, 1, 1])
SAID = np.array([1, 0, 0, 1, 1, 0, 1, 0])
OWNER = np.array(["x", "x", "x", "x", "y", "y", "y", "z"])


def accuracy(true: np.ndarray, pred: np.ndarray) -> float:
    return float(np.mean(true == pred))


def selection(_: np.ndarray, pred: np.ndarray) -> float:
    return float(np.mean(pred == 1))


METRICS = {"accuracy": accuracy, "selection": selection}


def test_definitions_by_hand() -> None:
    found = group_metrics(METRICS, TRUE, SAID, OWNER)
    assert found.by_group["accuracy"] == {"x": 0.5, "y": 1.0, "z": 0.0}
    assert found.overall == {"accuracy": 5 / 8, "selection": 0.5}
    assert found.counts == {"x": 4, "y": 3, "z": 1}
    assert found.difference() == {"accuracy": 1.0, "selection": pytest.approx(2 / 3)}
    assert found.difference("to_overall") == {"accuracy": 5 / 8, "selection": 0.5}
    assert found.ratio() == {"accuracy": 0.0, "selection": 0.0}
    only = group_metrics(METRICS, TRUE[:7], SAID[:7], OWNER[:7])
    assert only.ratio()["accuracy"] == 0.5
    # to the whole: the smaller of r and 1 / r
    assert only.ratio("to_overall")["accuracy"] == pytest.approx(min(0.5 / (5 / 7), (5 / 7) / 1.0))
    assert only.rows()[-1] == {"group": "(all)", "count": 7, **only.overall}


def test_absent_groups_are_nan_and_left_out() -> None:
    found = group_metrics(METRICS, TRUE, SAID, OWNER, labels=["x", "y", "z", "nobody"])
    assert np.isnan(found.by_group["accuracy"]["nobody"])
    assert found.counts["nobody"] == 0
    assert found.difference()["accuracy"] == 1.0
    assert found.rows()[3]["accuracy"] is None
    none = group_metrics(METRICS, TRUE, SAID, OWNER, labels=["nobody"])
    assert np.isnan(none.difference()["accuracy"])
    assert np.isnan(none.ratio()["accuracy"])


def test_laid_out_as_a_metric_frame() -> None:
    """``MetricFrame.by_group`` is a table: a row a group, sorted; a column a metric."""
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"true": TRUE, "said": SAID, "group": OWNER}).groupby("group")
    wanted = pandas.DataFrame(
        {name: {g: metric(part["true"], part["said"]) for g, part in table}
         for name, metric in METRICS.items()}
    )  # fmt: skip
    found = group_metrics(METRICS, TRUE, SAID, OWNER)
    frame = pandas.DataFrame(found.by_group)
    pandas.testing.assert_frame_equal(frame, wanted)
    assert (frame.max() - frame.min()).to_dict() == found.difference()
    assert (frame.min() / frame.max()).to_dict() == found.ratio()
    assert (frame - pandas.Series(found.overall)).abs().max().to_dict() == found.difference(
        "to_overall"
    )


@pytest.mark.skipif(importlib.util.find_spec("fairlearn") is None, reason="needs fairlearn")
def test_the_same_as_fairlearn() -> None:
    from fairlearn.metrics import MetricFrame

    theirs = MetricFrame(metrics=METRICS, y_true=TRUE, y_pred=SAID, sensitive_features=OWNER)
    mine = group_metrics(METRICS, TRUE, SAID, OWNER)
    assert mine.overall == pytest.approx(dict(theirs.overall))
    for method in ("between_groups", "to_overall"):
        assert mine.difference(method) == pytest.approx(dict(theirs.difference(method=method)))
        assert mine.ratio(method) == pytest.approx(dict(theirs.ratio(method=method)))
    for name in METRICS:
        assert mine.by_group[name] == pytest.approx(dict(theirs.by_group[name]))


def test_bad_input() -> None:
    with pytest.raises(InputError, match="do not fit"):
        group_metrics(METRICS, TRUE, SAID[:3], OWNER)
    with pytest.raises(InputError, match="do not fit"):
        group_metrics(METRICS, [], [], [])
    with pytest.raises(InputError, match="unknown method"):
        group_metrics(METRICS, TRUE, SAID, OWNER).difference("between")  # type: ignore[arg-type]
