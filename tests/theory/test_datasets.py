"""A data set as a mixture of points: against the definition, the exact mixture, known numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from critwin.errors import InputError
from critwin.levels import logsnr_of_ou_time
from critwin.models.digits.data import load_data
from critwin.streams import numpy_stream
from critwin.theory._dataset_inputs import check_points, label_columns
from critwin.theory._dataset_queries import plan_queries
from critwin.theory.datasets import (
    DatasetPrediction,
    dataset_prediction,
    dataset_transitions,
)
from critwin.theory.exact import exact_transitions
from critwin.theory.mixtures import GaussianMixture
from critwin.transitions import Transitions
from critwin.windows import critical_window
from dataset_cases import LEVELS, cloud, naive

MNIST_T = np.array([1.27586, 1.41207, 1.54828])
MNIST = {  # means over 40 seeds of noise
    "agreement": np.array([0.6831, 0.5468, 0.4293]),
    "leave_one_out": np.array([0.5604, 0.4687, 0.3859]),
    "source": np.array([0.3207, 0.1794, 0.0896]),
}
ONE_SEED = 0.012


def mean_stay(tr: Transitions) -> Any:
    assert tr.weights is not None
    return np.einsum("i,lii->l", tr.weights, tr.probs)


@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equals_the_definition(leave_one_out: bool, is_weighted: bool, dtype: Any) -> None:
    points, labels = cloud()
    weights = 1.0 + np.arange(len(points)) % 4 if is_weighted else None
    options: dict[str, Any] = {"weights": weights, "num_seeds": 2, "leave_one_out": leave_one_out}
    expected = naive(points, labels, LEVELS, **options)
    tr = dataset_transitions(points, labels, LEVELS, dtype=dtype, shard_size=7, **options)
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(tr.probs, expected.probs, atol=tolerance)
    assert (tr.kind, tr.reversal, tr.before) == ("estimated", "posterior", ("0", "1", "2"))
    assert tr.attrs["leave_one_out"] is leave_one_out
    if dtype == "float32":
        assert 0 < tr.attrs["float32_error"] < 1e-5
    else:
        assert "float32_error" not in tr.attrs


@pytest.mark.parametrize("is_weighted", [False, True])
def test_collapse_curve_equals_the_definition(is_weighted: bool) -> None:
    points, labels = cloud()
    weights = 1.0 + np.arange(len(points)) % 4 if is_weighted else None
    expected = naive(points, labels, LEVELS, weights=weights)
    found = dataset_prediction(
        points, {"a": labels}, LEVELS, weights=weights, dtype="float64"
    ).collapse
    np.testing.assert_allclose(found.source_weight, expected.source, atol=1e-12)
    np.testing.assert_allclose(found.same_point, expected.same, atol=1e-12)
    # the entropy is read off the source, -E ln p(source | y); in expectation it is the same
    gap = np.abs(found.entropy - expected.entropy)[1:]  # at the lowest its tail is heavy
    assert np.all(gap < 4 * found.entropy_stderr[1:])
    np.testing.assert_allclose(found.excess_entropy, -found.entropy / 3)


def test_source_weight_and_same_point_have_one_expectation() -> None:
    points, labels = cloud(12, 2)
    found = dataset_prediction(points, {"a": labels}, LEVELS, num_queries=20_000).collapse
    error = np.hypot(found.source_weight_stderr, found.same_point_stderr)
    assert np.all(np.abs(found.source_weight - found.same_point) < 4 * error + 1e-7)
    assert np.all(found.same_point_stderr < found.source_weight_stderr + 1e-12)


def test_collapse_of_two_points_in_closed_form() -> None:
    """Two points a distance 2 k sigma / alpha apart: everything is an integral over one normal."""
    points = np.array([[-1.0], [1.0]])
    found = dataset_prediction(
        points, {"a": ["x", "y"]}, LEVELS, num_queries=40_000, leave_one_out=False
    )
    z, mass = np.polynomial.hermite_e.hermegauss(200)
    mass = mass / mass.sum()
    k = np.exp(0.5 * LEVELS)[:, None]
    p = 1 / (1 + np.exp(-2 * k**2 - 2 * k * z))
    curve = found.collapse
    for value, error, expected in (
        (curve.source_weight, curve.source_weight_stderr, p @ mass),
        (curve.same_point, curve.same_point_stderr, (p**2 + (1 - p) ** 2) @ mass),
        (curve.entropy, curve.entropy_stderr, -np.log(p) @ mass),
    ):
        assert np.all(np.abs(value - expected) < 4 * error + 1e-9)
        assert error.max() < 0.012
    half = curve.half().t
    assert half.value is None or half.value > 1
    np.testing.assert_allclose(mean_stay(found.transitions["a"]), curve.source_weight)


@pytest.mark.parametrize("dim", [1, 2])
def test_agrees_with_the_exact_mixture_of_points(dim: int) -> None:
    """The estimate against quadrature (D = 1, 2) of the same mixture, in its standard errors."""
    points, labels = cloud(9, dim)
    weights = np.array([1.0, 2, 1, 3, 1, 1, 2, 1, 1])
    mixture = GaussianMixture(weights=weights / weights.sum(), means=points, covariances=0.0)
    groups = {str(k): [str(n) for n in np.flatnonzero(labels == k)] for k in range(3)}
    exact = exact_transitions(mixture, LEVELS, labels=groups)
    tr = dataset_transitions(points, labels, LEVELS, weights=weights, num_queries=20_000)
    assert tr.stderr is not None
    assert exact.weights is not None
    np.testing.assert_allclose(tr.weights, exact.weights, atol=1e-12)
    z = (tr.probs - exact.probs) / np.maximum(tr.stderr, 1e-6)
    assert np.abs(z).max() < 4.0
    assert tr.stderr.max() < 0.01


def test_standard_errors_are_those_of_repeated_seeds() -> None:
    """Root mean square of z over seeds near 1 with several noises; at most 1 with one."""
    points, labels = cloud(30, 3)
    truth = dataset_transitions(points, labels, LEVELS[1:4], num_queries=60_000, seed=1000)
    assert truth.stderr is not None
    is_open = (truth.probs > 0.1) & (truth.probs < 0.9)
    assert is_open.sum() >= 10
    for num_seeds, low, high in ((1, 0.5, 1.05), (4, 0.85, 1.12)):
        z = []
        for seed in range(50):
            tr = dataset_transitions(points, labels, LEVELS[1:4], num_seeds=num_seeds, seed=seed)
            assert tr.stderr is not None
            z.append((tr.probs - truth.probs) / np.hypot(tr.stderr, truth.stderr))
        assert low < np.sqrt(np.mean(np.square(z), axis=0)[is_open].mean()) < high
        assert np.sqrt(np.mean(np.square(z))) < high  # rare labels included


def test_shards_change_nothing_but_rounding_and_the_same_shards_nothing() -> None:
    points, labels = cloud(100, 5)
    one = dataset_prediction(points, {"a": labels}, LEVELS, shard_size=1000)
    for size in (1, 13, 50, 100):
        other = dataset_prediction(points, {"a": labels}, LEVELS, shard_size=size)
        for name in ("transitions", "leave_one_out"):
            a, b = getattr(one, name)["a"], getattr(other, name)["a"]
            np.testing.assert_allclose(a.probs, b.probs, atol=2e-6)
            assert a.plateau == b.plateau
        np.testing.assert_allclose(one.collapse.entropy, other.collapse.entropy, atol=1e-5)
    again = dataset_prediction(points, {"a": labels}, LEVELS, shard_size=1000)
    assert again.transitions["a"].probs.tobytes() == one.transitions["a"].probs.tobytes()


def test_points_that_are_not_kept_in_memory_give_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points, labels = cloud(100, 80)
    kept = dataset_prediction(points, {"a": labels}, LEVELS, shard_size=30)
    for module in ("_dataset_engine", "_top_variance"):
        monkeypatch.setattr(f"critwin.theory.{module}._CACHE_BYTES", 0)
    streamed = dataset_prediction(points, {"a": labels}, LEVELS, shard_size=30)
    np.testing.assert_array_equal(streamed.transitions["a"].probs, kept.transitions["a"].probs)
    assert streamed.speciation == kept.speciation


def test_columns_share_their_products() -> None:
    points, labels = cloud(60, 4)
    other = np.where(points[:, 0] > points[:, 0].mean(), "high", "low")
    both = dataset_transitions(points, {"a": labels, "b": other}, LEVELS, leave_one_out=True)
    assert set(both) == {"a", "b"}
    assert both["b"].before == ("high", "low")
    assert both["b"].feature == "b"
    alone = dataset_transitions(points, labels, LEVELS, leave_one_out=True)
    # the queries are put in another order by another column, so only in distribution
    assert alone.stderr is not None
    error = np.sqrt(2) * np.maximum(alone.stderr, 1e-3)
    assert np.all(np.abs(both["a"].probs - alone.probs) < 4 * error)


def test_weights_are_repeats() -> None:
    """A point of weight 3 is three equal points; leave-one-out takes all three."""
    points, labels = cloud(20, 2)
    counts = 1 + np.arange(20) % 3
    rows = np.repeat(np.arange(20), counts)
    weighted = dataset_prediction(points, {"a": labels}, LEVELS, weights=counts, dtype="float64")
    twins = dataset_prediction(points[rows], {"a": labels[rows]}, LEVELS, dtype="float64")
    a, b = weighted.transitions["a"], twins.transitions["a"]
    np.testing.assert_allclose(a.weights, b.weights)
    assert twins.attrs["num_repeated_points"] == 19
    assert weighted.attrs["num_repeated_points"] == 0
    many = [
        dataset_transitions(p, y, LEVELS, weights=w, num_queries=20_000, seed=3)
        for p, y, w in ((points, labels, counts), (points[rows], labels[rows], None))
    ]
    assert many[0].stderr is not None
    assert many[1].stderr is not None
    error = np.maximum(np.hypot(many[0].stderr, many[1].stderr), 1e-6)
    assert np.abs((many[0].probs - many[1].probs) / error).max() < 4.0
    # equal rows are left in by leave-one-out, repeats by weight are not
    assert weighted.leave_one_out["a"].plateau < 1.0
    assert twins.leave_one_out["a"].plateau > weighted.leave_one_out["a"].plateau


def test_points_of_no_weight_do_not_count() -> None:
    points, labels = cloud(30, 2)
    weights = np.where(np.arange(30) < 20, 1.0, 0.0)
    a = dataset_transitions(points, labels, LEVELS, weights=weights)
    b = dataset_transitions(points[:20], labels[:20], LEVELS)
    np.testing.assert_array_equal(a.probs, b.probs)


def test_plateaus_are_the_limits_without_noise() -> None:
    points, labels = cloud(40, 2)
    distance = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    agreement = (labels[distance.argmin(axis=1)] == labels).mean()
    found = dataset_prediction(points, {"a": labels}, [16.0], dtype="float64")
    assert found.transitions["a"].plateau == 1.0
    assert mean_stay(found.transitions["a"])[0] == pytest.approx(1.0)
    assert found.leave_one_out["a"].plateau == pytest.approx(agreement)
    assert mean_stay(found.leave_one_out["a"])[0] == pytest.approx(agreement, abs=1e-3)
    assert found.collapse.source_weight[0] == pytest.approx(1.0)
    assert found.collapse.entropy[0] == pytest.approx(0.0, abs=1e-6)


def test_the_table_is_reversible_with_the_source_and_not_without_it() -> None:
    """``w_i C_ij = w_j C_ji`` of posterior draws; leave-one-out has no prior in common."""
    points, labels = cloud(60, 2)
    labels = np.where(np.arange(60) < 6, 0, 1 + labels % 2)  # one label is rare
    found = dataset_prediction(points, {"a": labels}, LEVELS, num_queries=6000)
    worst = {}
    for name, tables in (("among", found.transitions), ("without", found.leave_one_out)):
        tr = tables["a"]
        assert tr.weights is not None
        assert tr.stderr is not None
        flow, error = tr.weights[:, None] * tr.probs, tr.weights[:, None] * tr.stderr
        z = (flow - flow.swapaxes(1, 2)) / np.maximum(np.hypot(error, error.swapaxes(1, 2)), 1e-9)
        worst[name] = np.abs(z).max()
        assert np.all(np.abs(tr.probs.sum(axis=2) - 1) < 1e-12)
    assert worst["among"] < 4.0
    assert worst["without"] > 6.0
    assert np.all(np.diff(mean_stay(found.transitions["a"])) < 0.01)


def test_equal_points_with_different_labels_lower_the_plateau() -> None:
    points = np.array([[0.0], [0.0], [5.0], [9.0]])
    tr = dataset_transitions(points, ["a", "b", "b", "a"], [14.0], dtype="float64")
    # the first two are told apart by nothing: each keeps its label half of the time
    assert tr.plateau == pytest.approx((0.5 + 0.5 + 1 + 1) / 4)
    assert mean_stay(tr)[0] == pytest.approx(tr.plateau)


def test_much_noise_forgets_everything() -> None:
    points, labels = cloud(30, 2)
    found = dataset_prediction(points, {"a": labels}, [-30.0], dtype="float64")
    tr = found.transitions["a"]
    assert tr.weights is not None
    np.testing.assert_allclose(tr.probs[0], np.tile(tr.weights, (3, 1)), atol=1e-5)
    np.testing.assert_allclose(found.collapse.same_point, 1 / 30, rtol=1e-4)
    np.testing.assert_allclose(found.collapse.excess_entropy, -np.log(30) / 2, rtol=1e-4)


def test_queries_are_dealt_by_weight() -> None:
    _, labels = cloud(90, 2)
    law = np.full(90, 1 / 90)
    columns = label_columns(labels, np.arange(90), 90)
    census = plan_queries(law, columns, 90, 0)
    np.testing.assert_array_equal(np.sort(census.index), np.arange(90))
    assert census.is_census
    few = plan_queries(law, columns, 31, 0)
    assert not few.is_census
    assert set(np.bincount(labels[few.index])) <= {10, 11}
    heavy = np.r_[np.full(89, 1.0), 89.0]
    drawn = plan_queries(heavy / heavy.sum(), columns, 178, 0)
    assert drawn.is_census
    assert np.sum(drawn.index == 89) == 89
    # a label of one point in a thousand still gets a few queries, weighted down
    codes = np.r_[np.zeros(999, int), 1]
    rare = plan_queries(np.full(1000, 1e-3), label_columns(codes, np.arange(1000), 1000), 100, 0)
    assert np.sum(codes[rare.index] == 1) >= 8
    assert rare.weight[codes[rare.index] == 1].sum() == pytest.approx(1e-3, rel=0.05)


def test_subsampled_queries_are_unbiased_within_their_errors() -> None:
    points, labels = cloud(300, 3)
    truth = dataset_transitions(points, labels, LEVELS, num_seeds=8, leave_one_out=True)
    z = []
    for seed in range(30):
        tr = dataset_transitions(
            points, labels, LEVELS, num_queries=60, seed=seed, leave_one_out=True
        )
        assert tr.stderr is not None
        z.append((tr.probs - truth.probs) / tr.stderr)
    assert np.sqrt(np.mean(np.square(z))) < 1.1
    assert np.abs(np.mean(z)) < 0.1


def test_windows_of_a_prediction_have_intervals() -> None:
    points, labels = cloud(200, 3)
    tr = dataset_transitions(points, labels, np.linspace(4, -5, 19), leave_one_out=True)
    window = critical_window(tr)
    assert window.kind == "estimated"
    assert window.midpoint is not None
    assert window.midpoint.t.low is not None
    assert window.midpoint.t.value is not None
    assert window.midpoint.t.high is not None
    assert window.midpoint.t.low < window.midpoint.t.value < window.midpoint.t.high


def test_intervals_of_midpoints_cover() -> None:
    """Errors of levels are common, many levels do not average them out."""
    points, labels = cloud(200, 3)
    levels = np.linspace(4, -5, 19)
    truth = critical_window(dataset_transitions(points, labels, levels, num_seeds=6)).midpoint
    assert truth is not None
    assert truth.t.value is not None
    hits, widths = [], []
    for seed in range(24):
        tr = dataset_transitions(points, labels, levels, num_queries=60, seed=seed)
        middle = critical_window(tr).midpoint
        assert middle is not None
        assert middle.t.low is not None
        assert middle.t.high is not None
        hits.append(middle.t.covers(truth.t.value))
        widths.append(middle.t.high - middle.t.low)
    assert np.mean(hits) >= 0.83  # 95 % less 2.6 standard errors
    assert np.median(widths) < 0.5


def test_the_dtype_and_kind_of_points_do_not_matter() -> None:
    points, labels = cloud(40, 3)
    whole = np.round(20 * points)
    expected = dataset_transitions(whole, labels, LEVELS - 6)
    for other in (whole.astype(np.int16), torch.from_numpy(whole), whole.reshape(40, 3, 1)):
        tr = dataset_transitions(other, labels, LEVELS - 6)
        np.testing.assert_array_equal(tr.probs, expected.probs)


def test_a_shift_of_the_points_changes_nothing() -> None:
    """Numbers far from 0 keep their digits: points are centred in float64 first."""
    points, labels = cloud(40, 3)
    a = dataset_transitions(points, labels, LEVELS)
    b = dataset_transitions(points + 1e5, labels, LEVELS)
    np.testing.assert_allclose(a.probs, b.probs, atol=1e-5)
    assert b.attrs["float32_error"] < 1e-5


def test_top_variance() -> None:
    rng = numpy_stream(0, "axes")
    for dim in (3, 100):
        points = rng.standard_normal((400, dim)) * np.r_[3.0, np.ones(dim - 1)] + 7.0
        weights = rng.uniform(0.5, 2, 400)
        found = dataset_prediction(
            points, {"a": np.arange(400) % 2}, [0.0], weights=weights, num_queries=20
        ).speciation
        covariance = np.cov(points.T, aweights=weights, ddof=0)
        top = np.linalg.eigvalsh(covariance)[-1]
        assert found.top_variance == pytest.approx(top, rel=1e-9)
        assert found.t == pytest.approx(0.5 * np.log(top), rel=1e-9)
        assert found.t_plus == pytest.approx(0.5 * np.log1p(top), rel=1e-9)
    small = dataset_prediction(0.01 * points, {"a": np.arange(400) % 2}, [0.0], num_queries=20)
    assert small.speciation.t is None
    assert "at most 1" in str(small.speciation.reason)


def mnist(num_queries: int | None, seed: int) -> DatasetPrediction:
    data = load_data()
    points = data.masks.reshape(5000, -1).astype(np.float32) / np.float32(127.5) - 1
    return dataset_prediction(
        points,
        {"digit": data.digit},
        logsnr_of_ou_time(MNIST_T),
        num_queries=num_queries,
        seed=seed,
    )


def measured(found: DatasetPrediction) -> dict[str, Any]:
    return {
        "agreement": mean_stay(found.transitions["digit"]),
        "leave_one_out": mean_stay(found.leave_one_out["digit"]),
        "source": found.collapse.source_weight,
    }


def test_mnist() -> None:
    """5,000 digits in [-1, 1]: covariance exactly, curves within what one seed scatters."""
    found = mnist(1000, 0)
    assert found.speciation.top_variance == pytest.approx(20.77883, abs=5e-6)
    assert found.speciation.t == pytest.approx(1.51697, abs=5e-6)
    for name, value in measured(found).items():
        assert np.all(np.abs(value - MNIST[name]) < 3 * ONE_SEED), name
    assert found.leave_one_out["digit"].plateau == pytest.approx(0.945, abs=0.03)
    assert found.attrs["float32_error"] < 1e-5


@pytest.mark.validate
def test_mnist_many_seeds() -> None:
    values = [measured(mnist(None, seed)) for seed in range(10)]
    record = {}
    for name, expected in MNIST.items():
        runs = np.array([value[name] for value in values])
        error = runs.std(axis=0, ddof=1) / np.sqrt(len(runs))
        record[name] = {
            "t": MNIST_T.tolist(),
            "value": runs.mean(axis=0).tolist(),
            "stderr": error.tolist(),
            "expected": expected.tolist(),
        }
        # the expected numbers are means over 40 seeds, and rounded
        bound = 4 * np.hypot(error, ONE_SEED / np.sqrt(40)) + 5e-5
        assert np.all(np.abs(runs.mean(axis=0) - expected) < bound), record
    if folder := os.environ.get("CRITWIN_RESULTS"):
        text = json.dumps(record, indent=1)
        (Path(folder) / "mnist_prediction.json").write_text(text + "\n", encoding="utf-8")


GOOD, LABELS = cloud(6, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": np.ones((6, 2))}, "all points are the same"),
        ({"points": np.where(GOOD[3, 1] == GOOD, np.nan, GOOD)}, "not finite: got nan in row 3"),
        ({"points": np.where(GOOD[3, 1] == GOOD, np.inf, GOOD)}, "not finite: got inf in row 3"),
        ({"points": GOOD[:, 0]}, "points are not a table of numbers"),
        ({"points": GOOD.astype(str)}, "points are not a table of numbers"),
        ({"points": GOOD[:1], "labels": LABELS[:1]}, "too few points"),
        ({"points": GOOD[:5]}, "labels 'label' and points differ in number"),
        ({"labels": np.zeros(6, int)}, "only one label in 'label'"),
        ({"labels": [0.5, 1, 2, 0, 1, 2]}, "are no labels: got 0.5 in row 0"),
        (
            {"labels": ["a", None, "b", "a", "b", "b"]},
            "a label of 'label' is missing: got none in row 1",
        ),
        ({"labels": [0, 0, 0, 0, 0, 1], "leave_one_out": True}, "two members of every label"),
        ({"labels": {}}, "no labels"),
        ({"weights": np.ones(5)}, "weights and points differ in number"),
        ({"weights": [1, 1, 1, 1, 1, -1]}, "a weight is negative or not finite: got -1.0"),
        ({"weights": [0, 0, 0, 0, 0, 1]}, "too few points: got 1"),
        ({"logsnr": [0.0, 1.0]}, "strictly decreasing"),
        ({"logsnr": []}, "not a list of finite logsnr"),
        ({"logsnr": [np.inf, 1.0]}, "not a list of finite logsnr"),
        ({"logsnr": [90.0]}, "too little noise"),
        ({"num_queries": 0}, "num_queries is out of range"),
        ({"num_seeds": 0}, "num_seeds is out of range"),
        ({"shard_size": 0}, "shard_size is out of range"),
        ({"dtype": "float16"}, "unknown precision"),
        ({"device": "abacus"}, "cannot use this device: got abacus"),
    ],
)
def test_bad_input_is_one_clear_line(change: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"points": GOOD, "labels": LABELS, "logsnr": LEVELS} | change
    points, labels, logsnr = (options.pop(name) for name in ("points", "labels", "logsnr"))
    with pytest.raises(InputError) as caught:
        dataset_transitions(points, labels, logsnr, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_lonely_label_is_a_reason_not_an_error_of_the_whole() -> None:
    found = dataset_prediction(GOOD, {"a": LABELS, "b": [0, 0, 0, 0, 0, 1]}, LEVELS)
    assert set(found.leave_one_out) == {"a"}
    assert set(found.transitions) == {"a", "b"}
    assert "one only: 1" in found.reasons["b"]
    without = dataset_prediction(GOOD, {"a": LABELS}, LEVELS, leave_one_out=False)
    assert not without.leave_one_out
    assert not without.reasons


def test_too_many_labels_are_refused() -> None:
    points = np.arange(1500.0)[:, None]
    with pytest.raises(InputError, match="too many labels"):
        dataset_transitions(points, np.arange(1500), LEVELS)


def test_checked_points_know_their_law() -> None:
    points, keep = check_points(GOOD, [1.0, 2, 0, 1, 1, 1])
    assert len(keep) == 5
    np.testing.assert_allclose(points.law, np.array([1, 2, 1, 1, 1]) / 6)
    np.testing.assert_allclose(points.centre, points.law @ GOOD[keep])
