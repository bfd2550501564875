"""Windows of tables: closed forms, honest answers at the ends of the grid, guards."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.special import expit

from critwin import _readings
from critwin.comparisons import compare_windows
from critwin.errors import InputError
from critwin.exact_windows import exact_window
from critwin.levels import logsnr_of_ou_time, ou_time
from critwin.records import FeatureColumns, Records, select
from critwin.significance import window_test
from critwin.streams import numpy_stream
from critwin.theory.exact import exact_transitions
from critwin.theory.mixtures import GaussianMixture
from critwin.transitions import Transitions, from_counts
from critwin.views import transitions_from_records
from critwin.windows import CriticalWindow, critical_window, curve_with_intervals

T = np.linspace(0.3, 4.0, 20)
LOGSNR = logsnr_of_ou_time(T)


def symmetric_table(stay: np.ndarray, logsnr: np.ndarray = LOGSNR) -> Transitions:
    probs = np.stack([np.stack([stay, 1 - stay], -1), np.stack([1 - stay, stay], -1)], 1)
    return Transitions(
        logsnr=logsnr, before=("a", "b"), after=("a", "b"), probs=probs, weights=[0.5, 0.5]
    )


def counted(
    keep: np.ndarray,
    *,
    num_sources: int,
    seed: int,
    replicates: int = 1,
    name: str = "x",
    weights: tuple[float, float] | None = (0.5, 0.5),
) -> Transitions:
    """Two labels; label kept with probability ``keep[l]``, sources independent."""
    g = numpy_stream(seed, "counted", name)
    label = np.arange(num_sources) % 2
    counts = np.zeros((num_sources, len(keep), 2), dtype=int)
    kept = g.binomial(replicates, keep, size=(num_sources, len(keep)))
    counts[np.arange(num_sources), :, label] = kept
    counts[np.arange(num_sources), :, 1 - label] = replicates - kept
    return from_counts(
        counts, label, logsnr=LOGSNR[: len(keep)], before=("a", "b"), weights=weights
    )


def logistic(middle: float = 2.0, slope: float = 3.0) -> np.ndarray:
    return 0.5 + 0.5 * expit(-slope * (T - middle))


def two_gaussians(distance: float) -> GaussianMixture:
    return GaussianMixture(
        weights=[0.5, 0.5],
        means=[[-distance], [distance]],
        covariances=1.0,
        names=["minus", "plus"],
    )


def test_two_gaussians_operational_to_the_printed_digits() -> None:
    table = partial(exact_transitions, two_gaussians(10.0))
    window = exact_window(table, criterion="operational", after="plus", epsilon=0.1)
    assert window.t_after.t.value == pytest.approx(1.90205848649855, abs=1e-12)
    assert window.t_before.t.value == pytest.approx(3.0078187151815, abs=1e-11)


@pytest.mark.parametrize(
    ("quantity", "phi", "k"),
    [("midpoint", 0.75, 0.92241229), ("start", 0.95, 1.83364275)],
)
def test_two_gaussians_kept_at_the_published_separation(
    quantity: str, phi: float, k: float
) -> None:
    # kept = 2 phi - 1 = .5, .9; separation k is reached at 1/2 ln(|mu|^2 / k^2) for s = 1
    window = exact_window(partial(exact_transitions, two_gaussians(10.0)))
    assert getattr(window, quantity).t.value == pytest.approx(np.log(10.0 / k), abs=2e-8)
    assert 2 * phi - 1 == pytest.approx({"midpoint": 0.5, "start": 0.9}[quantity])


def test_width_is_end_minus_start_in_both_coordinates() -> None:
    window = critical_window(symmetric_table(logistic()))
    for axis, sign in (("t", 1), ("logsnr", -1)):
        start, end = (getattr(getattr(window, q), axis).value for q in ("start", "end"))
        assert getattr(window.width, axis).value == pytest.approx(sign * (end - start), abs=1e-12)


def test_edges_of_a_logistic_curve() -> None:
    window = critical_window(symmetric_table(logistic()))
    for q, kept in (("start", 0.9), ("midpoint", 0.5), ("end", 0.1)):
        exact = 2.0 - np.log(kept / (1 - kept)) / 3.0
        assert getattr(window, q).t.value == pytest.approx(exact, abs=2e-3)


def test_both_coordinates_are_the_same_point() -> None:
    window = critical_window(counted(logistic(), num_sources=1500, seed=1))
    for q in ("start", "midpoint", "end"):
        edge = getattr(window, q)
        assert ou_time(edge.logsnr.value) == pytest.approx(edge.t.value)
        assert ou_time(edge.logsnr.low) == pytest.approx(edge.t.high)
        assert ou_time(edge.logsnr.high) == pytest.approx(edge.t.low)


def test_an_edge_beyond_the_grid_says_so() -> None:
    early = critical_window(counted(np.full(20, 0.52), num_sources=400, seed=0), test=False)
    assert early.start.t.value is None
    assert "below the lowest level tried" in str(early.start.t.reason)
    late = critical_window(counted(np.full(20, 0.99), num_sources=400, seed=0), test=False)
    assert late.midpoint.t.value is None
    assert "above the highest level tried" in str(late.midpoint.t.reason)
    assert late.midpoint.t.low == pytest.approx(T[-1], abs=0.3)
    assert late.width.t.value is None
    assert late.width.t.reason is not None


def test_few_sources_are_said_not_guessed() -> None:
    window = critical_window(counted(logistic(), num_sources=4, seed=0), test=False)
    limits = (window.end.t.low, window.end.t.high)
    assert None in limits or limits[1] - limits[0] > 1.0


def test_a_label_without_sources_is_an_answer_not_a_crash() -> None:
    counts = np.zeros((3, len(T), 3), dtype=int)
    counts[:, :, 0] = 1
    tr = from_counts(
        counts, [0, 0, 1], logsnr=LOGSNR, before=("a", "b", "c"), weights=(0.4, 0.3, 0.3)
    )
    window = critical_window(tr, test=False)
    assert window.midpoint.t.value is None
    assert "c" in str(window.midpoint.t.reason)


def test_more_sources_narrow_the_interval_as_the_root() -> None:
    def width(num: int) -> float:
        edges = [
            critical_window(counted(logistic(), num_sources=num, seed=s), test=False).midpoint.t
            for s in range(8)
        ]
        return float(np.median([edge.high - edge.low for edge in edges]))

    # the root of 16 is 4; bandwidths shrink with n^(-1/9), which gives a sixth of that back
    assert 2.7 < width(100) / width(1600) < 4.6


def test_relabelling_and_reordering_sources_change_nothing() -> None:
    tr = counted(logistic(), num_sources=60, seed=2)
    order = numpy_stream(0, "order").permutation(60)
    again = from_counts(
        tr.counts[order][:, :, ::-1],
        1 - tr.source_before[order],
        logsnr=LOGSNR,
        before=("b", "a"),
        weights=(0.5, 0.5),
        sources=tr.sources[order],
    )
    a, b = (critical_window(x, test=False).midpoint.t for x in (tr, again))
    assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), abs=1e-9)


def test_a_single_source_resamples_replicates_and_says_so() -> None:
    tr = counted(logistic(), num_sources=2, seed=0, replicates=50)
    one = from_counts(tr.counts[:1], [0], logsnr=LOGSNR, before=("a",), after=("a", "b"))
    window = critical_window(one, chance=0.5, test=False)
    assert any("single source" in note for note in window.notes)
    assert window.midpoint.t.low < window.midpoint.t.value < window.midpoint.t.high


def test_unknown_chance_is_refused_and_accepted_when_given() -> None:
    tr = counted(logistic(), num_sources=50, seed=0, weights=None)
    with pytest.raises(InputError, match="prior"):
        critical_window(tr)
    window = critical_window(tr, chance=0.5)
    assert window.midpoint.t.value == pytest.approx(2.0, abs=0.5)
    assert any("chance as given" in note for note in window.notes)


def test_nothing_to_lose_is_refused() -> None:
    counts = np.ones((5, len(T), 1), dtype=int)
    tr = from_counts(counts, np.zeros(5, int), logsnr=LOGSNR, before=("a",), weights=(1.0,))
    with pytest.raises(InputError, match="nothing to lose"):
        critical_window(tr)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"confidence": 1.0}, "confidence"),
        ({"criterion": "operational"}, "after"),
        ({"criterion": "operational", "after": "z"}, "unknown label"),
        ({"criterion": "operational", "after": "a", "epsilon": 0.0}, "epsilon"),
        ({"criterion": "operational", "after": ["a", "b"]}, "same set"),
        ({"criterion": "operational", "after": "a", "before": "b"}, "contain"),
        ({"criterion": "other"}, "criterion"),
    ],
)
def test_guards_fire(options: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        critical_window(symmetric_table(logistic()), **options)


def test_pointwise_limits_hold_the_exact_binomial_ones() -> None:
    # one replicate, equal labels: the effective size is the number of sources
    tr = counted(logistic(), num_sources=400, seed=4)
    curve = curve_with_intervals(tr, "mean_stay")
    from scipy.stats import binomtest

    for p, low, high in zip(curve.value, curve.low, curve.high, strict=True):
        exact = binomtest(round(p * 400), 400).proportion_ci(0.95, "exact")
        assert (low, high) == pytest.approx((exact.low, exact.high), abs=0.012)


def test_replicates_that_agree_add_nothing() -> None:
    once = counted(logistic(), num_sources=100, seed=6)
    copies = from_counts(
        once.counts * 10, once.source_before, logsnr=LOGSNR, before=("a", "b"), weights=(0.5, 0.5)
    )
    a, b = (curve_with_intervals(x, "mean_stay") for x in (once, copies))
    np.testing.assert_allclose(b.high - b.low, a.high - a.low, rtol=0.2)


def test_cross_fitted_blur_is_not_biased_upwards() -> None:
    # ten labels, twenty sources each, truth 0: the plug-in value has mean .28
    g = numpy_stream(0, "blur")
    label = np.repeat(np.arange(10), 20)
    values, plug_in = [], []
    for _ in range(30):
        counts = np.zeros((200, 4, 10), dtype=int)
        after = g.integers(0, 10, size=(200, 4))
        counts[np.arange(200)[:, None], np.arange(4), after] = 1
        tr = from_counts(
            counts,
            label,
            logsnr=LOGSNR[:4],
            before=[str(i) for i in range(10)],
            weights=np.full(10, 0.1),
        )
        values.append(curve_with_intervals(tr, "blur", after="0").value.mean())
        from critwin.quantities import blur

        plug_in.append(blur(tr, "0").mean())
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(30) + 1e-12
    assert np.mean(plug_in) > 0.2


def test_window_test_is_calibrated_under_a_flat_curve_and_finds_a_window() -> None:
    p = [
        window_test(counted(np.full(20, 0.8), num_sources=30, seed=s), num_permutations=99)
        for s in range(60)
    ]
    assert np.mean([x.p_flat <= 0.05 for x in p]) < 0.15
    assert not any(x.is_present for x in p if x.p_flat > 0.05)
    found = window_test(counted(logistic(), num_sources=30, seed=0))
    assert found.is_present
    assert found.reason is None


def test_window_test_refuses_a_featureless_curve() -> None:
    # labels after ignore labels before, whatever the level: falls to a constant, not a window
    tr = counted(np.full(20, 0.5), num_sources=100, seed=1)
    answer = window_test(tr)
    assert not answer.is_present
    assert answer.p_chance > 0.05


def test_comparing_a_run_with_itself_finds_nothing_and_with_a_shift_finds_it() -> None:
    a = counted(logistic(2.0), num_sources=300, seed=1)
    b = counted(logistic(2.4), num_sources=300, seed=2, name="y")
    same = compare_windows(a, a)
    assert same.midpoint.t.value == 0.0
    for name in ("start", "midpoint"):  # every source differs by exactly 0
        edge = getattr(same, name)
        assert edge.t.low == pytest.approx(0.0, abs=1e-6), name
        assert edge.t.high == pytest.approx(0.0, abs=1e-6), name
    assert same.num_shared == 300
    shifted = compare_windows(a, b)
    assert shifted.midpoint.t.low > 0.0
    assert shifted.midpoint.t.covers(0.4)


def test_paired_differences_cover_the_shift() -> None:
    """Two runs of the same sources, each with its own threshold shared by both: strong pairing."""
    covered, widths = 0, []
    for seed in range(30):
        rng = numpy_stream(seed, "paired")
        own = rng.logistic(scale=0.25, size=120)  # where a source changes, beside the mean
        label = np.arange(120) % 2
        pair = []
        for shift in (2.0, 2.3):
            lost = T[None] > shift + own[:, None] + rng.logistic(scale=0.05, size=(120, len(T)))
            after = np.where(lost, 1 - label[:, None], label[:, None])
            pair.append(
                from_counts(
                    np.eye(2, dtype=np.int64)[after], label, logsnr=LOGSNR, before=("a", "b"),
                    weights=[0.5, 0.5], sources=np.array([f"s{k}" for k in range(120)]),
                )
            )  # fmt: skip
        found = compare_windows(*pair).midpoint.t
        covered += found.covers(0.3)
        widths.append(found.high - found.low)
    assert covered >= 30 * 0.95 - 3 * np.sqrt(30 * 0.95 * 0.05)
    assert np.median(widths) < 0.2  # unpaired, each midpoint alone has an interval of about .25


def test_json_has_no_nan_and_gives_reasons() -> None:
    window: CriticalWindow = critical_window(counted(logistic(), num_sources=20, seed=0))
    text = json.dumps(window.as_dict(), allow_nan=False)
    back = json.loads(text)
    assert set(back["midpoint"]) == {"t", "logsnr"}
    assert back["criterion"] == "kept"


def test_levels_that_do_not_resolve_a_window_widen_it_and_say_so() -> None:
    """All of the curve falls between two levels: the interval is the gap, no line through it."""
    t = np.array([0.02, 0.05, 0.1, 5.0, 7.0, 9.0])
    num = 40
    counts = np.zeros((num, len(t), 2), dtype=np.int64)
    label = np.arange(num) % 2
    for s in range(num):
        counts[s, :3, label[s]] = 1
        counts[s, 3:, (s // 2) % 2] = 1  # half of each label stays
    tr = from_counts(
        counts, label, logsnr=logsnr_of_ou_time(t), before=("a", "b"), weights=[0.5, 0.5]
    )
    window = critical_window(tr)
    for name in ("start", "midpoint", "end"):
        edge = getattr(window, name)
        assert edge.t.low is None or edge.t.low <= 0.1 + 1e-12, name
        assert edge.t.high is None or edge.t.high >= 5.0 - 1e-12, name
    assert window.midpoint.t.low == pytest.approx(0.1)
    assert window.midpoint.t.high == pytest.approx(5.0)
    assert any("levels too coarse" in note and "t = 0.1" in note for note in window.notes)
    operational = critical_window(tr, criterion="operational", after="a")
    assert operational.t_after.t.high >= 5.0 - 1e-12
    assert any("too coarse for t_after" in note for note in operational.notes)


def test_a_table_of_what_was_kept_is_held_against_a_given_chance() -> None:
    t = np.linspace(0.2, 3.0, 8)
    rng = numpy_stream(0, "kept")
    share = 0.5 + 0.5 * (t < 1.5)
    kept_now = rng.uniform(size=(60, 8)) < share
    table = np.stack([kept_now, ~kept_now], axis=2).astype(np.int64)
    tr = from_counts(
        table, np.zeros(60, dtype=np.int64), logsnr=logsnr_of_ou_time(t),
        before=("kept",), after=("kept", "lost"),
    )  # fmt: skip
    assert critical_window(tr, chance=0.5).test.is_present
    unknown = window_test(tr)
    assert not unknown.is_present
    assert "unless the chance level is given" in unknown.reason
    assert not window_test(tr, chance=0.999).is_present


def test_a_given_chance_is_tested_at_its_size() -> None:
    """With every level at chance, the share kept at the lowest level is above it 5 % at most."""
    rng = numpy_stream(1, "kept")
    hits = 0
    for _ in range(400):
        kept_now = rng.uniform(size=(30, 4)) < 0.4
        table = np.stack([kept_now, ~kept_now], axis=2).astype(np.int64)
        tr = from_counts(
            table, np.zeros(30, dtype=np.int64), logsnr=[3.0, 1.0, -1.0, -3.0],
            before=("kept",), after=("kept", "lost"),
        )  # fmt: skip
        hits += window_test(tr, chance=0.4, num_permutations=1).p_chance <= 0.05
    assert hits <= 400 * 0.05 + 3 * np.sqrt(400 * 0.05 * 0.95)


def sparse(tr: Transitions) -> Transitions:
    """The table of an adaptive search: the last level has no source of the label b."""
    assert tr.counts is not None
    assert tr.source_before is not None
    counts = tr.counts.copy()
    counts[tr.source_before == 1, -1] = 0
    return from_counts(
        counts, tr.source_before, logsnr=tr.logsnr, before=tr.before, weights=tr.weights,
        sources=tr.sources,
    )  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"criterion": "operational", "after": "a"}])
def test_levels_that_lack_a_label_are_left_out_of_comparisons_too(options: dict[str, str]) -> None:
    whole = counted(logistic(), num_sources=80, seed=5)
    assert whole.counts is not None
    cut = from_counts(
        whole.counts[:, :-1], whole.source_before, logsnr=whole.logsnr[:-1], before=whole.before,
        weights=whole.weights, sources=whole.sources,
    )  # fmt: skip
    other = counted(logistic(2.2), num_sources=80, seed=6)
    found = compare_windows(sparse(whole), other, **options).as_dict()
    wanted = compare_windows(cut, other, **options).as_dict()
    for name in ("midpoint", "t_after"):
        assert found.get(name) == wanted.get(name)


def without_signal(
    seed: int,
    *,
    numbers: tuple[int, int, int] = (30, 20, 10),
    replicates: int = 1,
    end: float = 5.2,
    is_kept: bool = True,
) -> tuple[Records, float]:
    """Sources whose labels are no draws of the model, noised until nothing is left of them.

    ``kept`` of these sources is f itself: a label stays with probability f, and is drawn from the
    model's law otherwise.
    """
    g = numpy_stream(seed, "without signal")
    law, own = np.array([0.2, 0.1, 0.7]), np.repeat([0, 1, 2], numbers)
    t = np.linspace(0.4, end, 12)
    f = expit(-3.0 * (t - 2.1)) / expit(-3.0 * (t[0] - 4.2))
    f[-1] = 0.0
    f *= is_kept
    source = np.repeat(np.arange(len(own)), len(t) * replicates)
    level = np.tile(np.repeat(np.arange(len(t)), replicates), len(own))
    stays = g.random(len(source)) < f[level]
    after = np.where(stays, own[source], g.choice(3, p=law, size=len(source)))
    columns = FeatureColumns(labels=("a", "b", "c"), before=own[source], after=after)
    records = Records(
        source=np.array([f"s{k:03d}" for k in source]),
        logsnr=logsnr_of_ou_time(t[level]),
        replicate=np.tile(np.arange(replicates), len(own) * len(t)),
        features={"x": columns},
    )
    middle = float(np.interp(-0.5, -f, t))
    return records, middle


@pytest.mark.parametrize("replicates", [1, 3])
def test_chance_is_read_where_no_signal_is_left(replicates: int) -> None:
    """Coverage of the midpoint and of single levels; the truth is known, the prior is not."""
    inside, limits = [], []
    for seed in range(150):
        records, middle = without_signal(seed, replicates=replicates)
        tr = transitions_from_records(records, "x")
        assert tr.weights is None
        window = critical_window(tr, test=False)
        assert window.midpoint is not None
        inside.append(window.midpoint.t.covers(middle))
        curve = curve_with_intervals(tr, "kept")
        limits.append(curve.low[-2] <= 0.0004 and curve.high[-2] >= 0.0)
    assert np.mean(inside) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 150)
    assert np.mean(limits) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 150)
    assert any("t = 5.2, where next to no signal is left" in note for note in window.notes)


def test_the_error_of_an_estimated_chance_counts() -> None:
    """Planted bug: a chance level taken for exact makes the errors of the noisy end too small."""
    mix = np.zeros(12)
    mix[-6:-1] = 0.2  # what all of its levels share is the error of the chance level
    values: list[float] = []
    errors: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(150):
        tr = transitions_from_records(without_signal(seed, numbers=(56, 2, 2))[0], "x")
        for is_estimated, found in errors.items():
            table = replace(tr, is_weights_estimated=is_estimated)
            curve = _readings.kept_curve(table, chance_level=None, plateau=None)
            assert curve.influence is not None
            found.append(float(np.sqrt(np.sum((curve.influence @ mix) ** 2))))
        values.append(float(curve.value @ mix))
    spread = np.std(values)
    assert 0.85 < np.mean(errors[True]) / spread < 1.2
    assert np.mean(errors[False]) / spread < 0.6


@pytest.mark.parametrize("change", ["experiment", "level", "source"])
def test_chance_is_not_read_where_results_may_remember(change: str) -> None:
    records, _ = without_signal(0, end=4.5 if change == "level" else 5.2)
    if change == "experiment":  # a clone keeps the noise of its source
        records = replace(records, experiment=np.full(len(records), "clone"))
    if change == "source":
        records = select(records, records.source == "s000")
    tr = transitions_from_records(records, "x")
    assert tr.fresh is None
    with pytest.raises(InputError, match="the chance level needs the model's prior"):
        critical_window(tr)


def test_a_noisiest_level_that_is_left_out_still_tells_the_chance_level() -> None:
    records, middle = without_signal(3)
    last = records.logsnr == records.logsnr.min()
    records = replace(records, valid=~(last & (records.features["x"].before == 2)))
    tr = transitions_from_records(records, "x")
    window = critical_window(tr, test=False)
    assert window.midpoint is not None
    assert window.midpoint.t.covers(middle)
    assert any("1 of 12 levels" in note for note in window.notes)
    other = transitions_from_records(without_signal(4)[0], "x")
    assert compare_windows(tr, other).midpoint.t.covers(0.0)


def test_sources_of_one_label_are_told_from_chance_where_no_signal_is_left() -> None:
    found = {}
    for is_kept in (True, False):
        tables = [
            transitions_from_records(
                without_signal(seed, numbers=(30, 0, 0), is_kept=is_kept)[0], "x"
            )
            for seed in range(60)
        ]
        found[is_kept] = np.mean(
            [window_test(tr, num_permutations=99).is_present for tr in tables]
        )
    assert found[True] == 1.0
    assert found[False] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
