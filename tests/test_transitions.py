"""Transition tables: every invariant is checked, counting is right, merging obeys the formula."""

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critwin.errors import InputError
from critwin.levels import ou_time
from critwin.reshaping import merge, select_levels, with_abstentions
from critwin.transitions import ABSTAINED, Transitions, from_counts, label_set_row, require_weights
from strategies import counted_tables, exact_tables

PROBS = [[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.5, 0.5]]]


def table(**changes: Any) -> Transitions:
    own: dict[str, Any] = {
        "logsnr": [1.0, -1.0],
        "before": ("a", "b"),
        "after": ("a", "b"),
        "probs": PROBS,
        "weights": [0.25, 0.75],
    }
    return Transitions(**{**own, **changes})


def counted(**changes: Any) -> Transitions:
    own: dict[str, Any] = {
        "counts": [[[3, 1], [1, 1]], [[0, 2], [2, 2]], [[1, 0], [0, 0]]],
        "source_before": [0, 1, 0],
        "logsnr": [1.0, -1.0],
        "before": ["a", "b"],
        "weights": [0.25, 0.75],
    }
    return from_counts(**{**own, **changes})


# ------------------------------------------------------------------------ construction
def test_a_table_is_frozen_and_knows_its_times() -> None:
    tr = table()
    np.testing.assert_array_equal(tr.t, ou_time([1.0, -1.0]))
    np.testing.assert_array_equal(tr.fresh, [0.25, 0.75])
    assert tr.num_sources is None
    with pytest.raises(FrozenInstanceError):
        tr.feature = "x"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        tr.probs[0, 0, 0] = 1
    with pytest.raises(TypeError):
        tr.attrs["x"] = 1  # type: ignore[index]


def test_fresh_follows_the_prior_on_a_rectangular_table() -> None:
    tr = table(after=("b", "c", "a"), probs=[[[0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]] * 2)
    np.testing.assert_array_equal(tr.fresh, [0.75, 0, 0.25])
    assert tr.before_in_after.tolist() == [2, 0]
    own = table(fresh=[0.5, 0.5])
    np.testing.assert_array_equal(own.fresh, [0.5, 0.5])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logsnr": [-1.0, 1.0]}, "strictly decreasing"),
        ({"logsnr": [1.0, 1.0]}, "strictly decreasing"),
        ({"logsnr": [np.inf, np.inf]}, "strictly decreasing"),
        ({"logsnr": [1.0, np.nan]}, "strictly decreasing"),
        ({"logsnr": [], "probs": np.zeros((0, 2, 2))}, "no levels"),
        ({"logsnr": [1.0]}, "probs has the wrong shape"),
        ({"before": (), "probs": np.zeros((2, 0, 2)), "weights": None}, "no labels before"),
        ({"before": ("a", "a")}, "not distinct"),
        ({"after": ("a", "c")}, "every label before must be a label after: got without b"),
        ({"before": ("a", "")}, "a label is empty"),
        ({"feature": ""}, "feature's name is empty"),
        ({"probs": np.zeros((2, 2, 3))}, "probs has the wrong shape"),
        (
            {"probs": [[[0.9, 0.1], [0.2, 0.7]]] * 2},
            "rows of probs must sum to 1: got a sum of 0.9",
        ),
        ({"probs": [[[1.1, -0.1], [0.2, 0.8]]] * 2}, r"outside \[0, 1\]: got"),
        ({"probs": [[[np.inf, 0.1], [0.2, 0.8]]] * 2}, r"outside \[0, 1\]"),
        ({"probs": [[[np.nan, 1.0], [0.2, 0.8]]] * 2}, "partly NaN"),
        ({"weights": [0.5, 0.6]}, "weights must be >= 0 and sum to 1: got a sum of 1.1"),
        ({"weights": [1.5, -0.5]}, "weights must be >= 0"),
        ({"weights": [np.nan, 1.0]}, "weights must be >= 0"),
        ({"weights": [1.0]}, "weights has the wrong shape"),
        ({"fresh": [0.2, 0.2]}, "fresh must be >= 0"),
        ({"kind": "guessed"}, "unknown kind: got guessed"),
        ({"kind": "estimated"}, "need stderr"),
        ({"kind": "estimated", "stderr": np.full((2, 2, 2), -1.0)}, "stderr must be >= 0"),
        ({"kind": "counted"}, "need counts"),
        ({"counts": np.zeros((1, 2, 2))}, "only counted transitions have counts"),
        ({"plateau": 1.5}, "plateau out of range"),
        ({"plateau": np.nan}, "plateau out of range"),
        ({"invalid": [[0, 0], [0, -1]]}, "invalid must be >= 0: got -1"),
        ({"invalid": [[0.5, 0], [0, 1]]}, "invalid must be whole numbers"),
    ],
)
def test_every_guard_of_transitions_fires(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        table(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": [[1, 2]]}, "counts and source_before do not fit"),
        ({"source_before": [0, 1]}, "counts and source_before do not fit"),
        ({"counts": np.full((3, 2, 2), -1)}, "counts must be >= 0"),
        ({"counts": np.full((3, 2, 2), 0.5)}, "counts must be whole numbers: got 0.5"),
        ({"source_before": [0, 1, 2]}, "an index into `before`"),
        ({"source_before": [0, 1, -1]}, "an index into `before`"),
        ({"sources": ["x", "x", "y"]}, "names of sources are not distinct"),
        ({"sources": ["x", "y"]}, "sources has the wrong shape"),
        ({"source_weight": [1.0, 1.0]}, "source_weight must be one finite number"),
        ({"source_weight": [1.0, 1.0, -1.0]}, "source_weight must be one finite number"),
        ({"source_weight": [1.0, 1.0, np.nan]}, "source_weight must be one finite number"),
        ({"abstained": [[0, 0]] * 2}, "abstained has the wrong shape"),
        ({"abstained": [[0, -1]] * 3}, "abstained must be >= 0"),
        ({"logsnr": [1.0]}, "wrong shape"),
        ({"before": ["a", "b", "c"]}, "wrong shape"),
    ],
)
def test_every_guard_of_counting_fires(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        counted(**changes)


def test_indices_are_checked() -> None:
    tr = table()
    assert tr.indices("b", of="before") == [1]
    assert tr.indices(["b", "a"], of="after") == [1, 0]
    for labels, message in (
        ([], "an empty set"),
        ("z", "unknown label: got z; wanted some of a, b"),
        (["a", "a"], "named twice"),
    ):
        with pytest.raises(InputError, match=message):
            tr.indices(labels, of="before")


# ---------------------------------------------------------------------------- counting
def test_sources_weigh_equally_however_many_replicates() -> None:
    tr = counted()
    # label a: sources 0 (3 of 4) and 2 (1 of 1) at the first level, source 0 alone at the second
    np.testing.assert_allclose(tr.probs[0], [[(0.75 + 1) / 2, 0.125], [0, 1]])
    np.testing.assert_allclose(tr.probs[1], [[0.5, 0.5], [0.5, 0.5]])
    assert tr.sources is not None
    assert tr.sources.tolist() == ["s000000", "s000001", "s000002"]
    weighted = counted(source_weight=[1.0, 1.0, 3.0])
    np.testing.assert_allclose(weighted.probs[0, 0], [(0.75 + 3) / 4, 0.25 / 4])


@settings(max_examples=15)
@given(counted_tables())
def test_rows_sum_to_one_or_are_unknown(tr: Transitions) -> None:
    assert tr.counts is not None
    assert tr.source_before is not None
    sums = tr.probs.sum(axis=2)
    seen = np.stack(
        [tr.counts[tr.source_before == i].sum(axis=(0, 2)) > 0 for i in range(len(tr.before))], 1
    )
    np.testing.assert_array_equal(np.isnan(sums), ~seen)
    np.testing.assert_allclose(sums[seen], 1, rtol=1e-12)


@settings(max_examples=15)
@given(counted_tables(), st.randoms(use_true_random=False))
def test_the_order_of_sources_does_not_matter(tr: Transitions, random: Any) -> None:
    assert tr.counts is not None
    assert tr.source_before is not None
    order = list(range(len(tr.counts)))
    random.shuffle(order)
    vote = None if tr.source_weight is None else tr.source_weight[order]
    other = from_counts(
        tr.counts[order],
        tr.source_before[order],
        logsnr=tr.logsnr,
        before=tr.before,
        after=tr.after,
        source_weight=vote,
    )
    np.testing.assert_allclose(other.probs, tr.probs, rtol=1e-12)


# ----------------------------------------------------------------------------- merging
@settings(max_examples=15)
@given(exact_tables(min_labels=3, square=True), st.data())
def test_merging_obeys_the_set_formula(tr: Transitions, data: st.DataObject) -> None:
    """C[A, B] = sum_{i in A} (w_i / w(A)) sum_{j in B} C[i, j], written out."""
    assert tr.weights is not None
    cut = data.draw(st.integers(1, len(tr.before) - 1))
    groups = {"A set": tr.before[:cut], "B set": tr.before[cut:]}
    merged = merge(tr, groups)
    assert merged.before == merged.after == tuple(groups)
    for a, mine in enumerate(groups.values()):
        for b, theirs in enumerate(groups.values()):
            rows = [tr.before.index(x) for x in mine]
            total = sum(tr.weights[i] for i in rows)
            expected = sum(
                tr.weights[i] / total * tr.probs[:, i, tr.after.index(y)]
                for i in rows
                for y in theirs
            )
            np.testing.assert_allclose(merged.probs[:, a, b], expected, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(
            merged.weights[a],  # type: ignore[index]
            sum(tr.weights[tr.before.index(x)] for x in mine),
        )


@settings(max_examples=15)
@given(counted_tables(min_labels=3, full=True))
def test_counted_merges_agree_with_their_own_counts(tr: Transitions) -> None:
    """The merged counts, with the sampling weights that merging gave, say what probs say."""
    merged = merge(tr, {"both": tr.before[:2]})
    assert merged.counts is not None
    again = from_counts(
        merged.counts,
        merged.source_before,  # type: ignore[arg-type]
        logsnr=merged.logsnr,
        before=merged.before,
        after=merged.after,
        source_weight=merged.source_weight,
    )
    np.testing.assert_allclose(again.probs, merged.probs, rtol=1e-10)
    assert merged.counts.sum() == tr.counts.sum()  # type: ignore[union-attr]


@settings(max_examples=15)
@given(exact_tables(min_labels=3, square=True))
def test_merging_twice_is_merging_once(tr: Transitions) -> None:
    a, b, c = tr.before[:3]
    twice = merge(merge(tr, {"AB set": [a, b]}), {"ABC set": ["AB set", c]})
    once = merge(tr, {"ABC set": [a, b, c]})
    np.testing.assert_allclose(twice.probs, once.probs, rtol=1e-12)
    if once.stderr is not None:
        assert twice.stderr is not None
        # columns are bounded by adding up, so twice is never below once
        assert np.all(once.stderr >= 0)
    same = merge(tr, {})
    np.testing.assert_array_equal(same.probs, tr.probs)


def test_merging_everything_leaves_certainty() -> None:
    merged = merge(counted(), {"all": ["a", "b"]})
    np.testing.assert_allclose(merged.probs, 1)
    assert merged.weights is not None
    assert merged.weights.tolist() == [1.0]


def test_merged_errors_are_those_of_the_means() -> None:
    tr = table(kind="estimated", stderr=np.full((2, 2, 2), 0.1))
    merged = merge(replace(tr), {"all": ["a", "b"]})
    assert merged.stderr is not None
    np.testing.assert_allclose(merged.stderr, 0.2 * np.sqrt(0.25**2 + 0.75**2))


def test_invalid_counts_follow_their_labels() -> None:
    tr = counted(invalid=[[1, 2], [3, 4]])
    merged = merge(tr, {"all": ["a", "b"]})
    np.testing.assert_array_equal(merged.invalid, [[3], [7]])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"x": ["a", "z"]}, "unknown label: got z"),
        ({"x": ["a"], "y": ["a", "b"]}, "label 'a' is in two groups: got x, y"),
        ({"a": ["b"], "c": ["a"]}, "group 'a' has the name of a label outside it"),
        ({"a": ["b"]}, "label outside it: got label 'a' in no group"),
        ({"x": []}, "group 'x' is empty"),
    ],
)
def test_bad_groups_are_refused(groups: dict[str, list[str]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        merge(table(), groups)


def test_merging_needs_the_prior() -> None:
    with pytest.raises(InputError, match="merging labels needs the model's prior over the labels"):
        merge(table(weights=None), {"x": ["a", "b"]})
    with pytest.raises(InputError, match="never the shares in which sources were drawn"):
        require_weights(table(weights=None), why="x")


def test_a_set_without_weight_is_refused_and_an_unknown_row_without_weight_is_not() -> None:
    probs = np.array([[[1, 0, 0], [np.nan] * 3, [0, 0, 1]]])
    tr = Transitions(
        logsnr=[1.0],
        before=("a", "b", "c"),
        after=("a", "b", "c"),
        probs=probs,
        weights=[0.5, 0, 0.5],
    )
    np.testing.assert_array_equal(label_set_row(tr, [0, 1, 2]), [[0.5, 0, 0.5]])
    tr = replace(tr, weights=np.array([0.0, 0.0, 1.0]), fresh=None)
    with pytest.raises(InputError, match="label set has no weight"):
        label_set_row(tr, [0, 1])


# ------------------------------------------------------------------- levels, abstentions
@settings(max_examples=15)
@given(exact_tables() | counted_tables(), st.data())
def test_selecting_levels(tr: Transitions, data: st.DataObject) -> None:
    mask = data.draw(
        st.lists(st.booleans(), min_size=len(tr.logsnr), max_size=len(tr.logsnr)).filter(any)
    )
    part = select_levels(tr, mask)
    np.testing.assert_array_equal(part.logsnr, tr.logsnr[mask])
    np.testing.assert_array_equal(part.probs, tr.probs[mask])
    for name, axis in (("counts", 1), ("abstained", 1), ("stderr", 0), ("invalid", 0)):
        whole, mine = getattr(tr, name), getattr(part, name)
        assert (whole is None) == (mine is None)
        if whole is not None:
            np.testing.assert_array_equal(mine, np.compress(mask, whole, axis=axis))


def test_selecting_levels_wrongly() -> None:
    with pytest.raises(InputError, match="mask does not fit"):
        select_levels(table(), [True])
    with pytest.raises(InputError, match="no levels"):
        select_levels(table(), [False, False])
    with pytest.raises(InputError, match="no levels"):
        select_levels(table(), [])
    with pytest.raises(InputError, match="strictly decreasing"):
        select_levels(table(), [1, 0])


@settings(max_examples=15)
@given(counted_tables(full=True))
def test_abstentions_are_bracketed(tr: Transitions) -> None:
    """Whatever the abstentions were, the stay lies between all-lost and all-kept."""
    kept, lost = with_abstentions(tr, "kept"), with_abstentions(tr, "lost")
    assert tr.counts is not None
    if tr.abstained is None or not tr.abstained.any():
        assert kept is tr
        assert lost is tr
        return
    assert lost.after[-1] == ABSTAINED
    assert kept.abstained is None
    for i, own in enumerate(tr.before_in_after):
        low, plain, high = (x.probs[:, i, own] for x in (lost, tr, kept))
        assert np.all(low <= plain + 1e-12)
        assert np.all(plain <= high + 1e-12)
    # any other way of resolving them lies between
    rng = np.random.Generator(np.random.Philox(1))
    counts = np.array(tr.counts)
    for s, level in zip(*np.nonzero(tr.abstained), strict=True):
        for _ in range(tr.abstained[s, level]):
            counts[s, level, rng.integers(counts.shape[2])] += 1
    some = from_counts(
        counts,
        tr.source_before,  # type: ignore[arg-type]
        logsnr=tr.logsnr,
        before=tr.before,
        after=tr.after,
        source_weight=tr.source_weight,
    )
    for i, own in enumerate(tr.before_in_after):
        assert np.all(lost.probs[:, i, own] <= some.probs[:, i, own] + 1e-12)
        assert np.all(some.probs[:, i, own] <= kept.probs[:, i, own] + 1e-12)


def test_abstentions_keep_what_else_the_table_says() -> None:
    tr = counted(
        abstained=[[1, 0], [0, 2], [0, 0]],
        invalid=[[1, 0], [0, 0]],
        plateau=0.9,
        feature="digit",
        reversal="ode",
        is_weights_estimated=True,
        attrs={"x": 1},
    )
    for resolved in ("kept", "lost"):
        out = with_abstentions(tr, resolved)  # type: ignore[arg-type]
        for name in ("plateau", "feature", "reversal", "is_weights_estimated", "attrs", "kind"):
            assert getattr(out, name) == getattr(tr, name)
        np.testing.assert_array_equal(out.invalid, tr.invalid)  # type: ignore[arg-type]
        np.testing.assert_array_equal(out.weights, tr.weights)  # type: ignore[arg-type]
    lost = with_abstentions(tr, "lost")
    np.testing.assert_array_equal(lost.fresh, [0.25, 0.75, 0.0])  # type: ignore[arg-type]
    assert with_abstentions(table(), "kept").kind == "exact"
