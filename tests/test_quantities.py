"""Stay, leak, blur, kept and information: identities, published numbers, limits, guards."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from critwin.errors import InputError
from critwin.quantities import (
    blur,
    chance,
    kept,
    leak,
    mean_stay,
    mutual_information,
    nested,
    stay,
)
from critwin.reshaping import merge
from critwin.transitions import Transitions, from_counts
from strategies import exact_tables

# 1-D mixture, means (-8, -4, 6, 8), sd (1, .5, .7, 1.2), at OU time 1.5; computed independently
WEIGHTS = [0.4, 0.3, 0.2, 0.1]
ROWS = [
    [0.632665, 0.331401, 0.028416, 0.007518],
    [0.441867, 0.419187, 0.106251, 0.032695],
    [0.056832, 0.159376, 0.513868, 0.269923],
    [0.030072, 0.098084, 0.539846, 0.331999],
]


def published() -> Transitions:
    probs = np.array(ROWS)
    return Transitions(
        logsnr=[-2.95],
        before=tuple("0123"),
        after=tuple("0123"),
        probs=(probs / probs.sum(axis=1, keepdims=True))[None],
        weights=WEIGHTS,
    )


@st.composite
def reversible_tables(draw: st.DrawFn) -> Transitions:
    """Posteriors of a random finite channel: C = sum_y P(y|i) P(j|y), so w_i C_ij is symmetric."""
    rng = np.random.Generator(np.random.Philox(draw(st.integers(0, 2**32 - 1))))
    num, outcomes = draw(st.integers(2, 5)), draw(st.integers(1, 6))
    weights = rng.dirichlet(np.full(num, 0.7)) + 1e-6
    weights /= weights.sum()
    likelihood = rng.dirichlet(np.full(outcomes, 0.5), size=num) + 1e-9
    likelihood /= likelihood.sum(axis=1, keepdims=True)
    joint = weights[:, None] * likelihood
    posterior = joint / joint.sum(axis=0)
    labels = tuple(f"L{i}" for i in range(num))
    return Transitions(
        logsnr=[0.0],
        before=labels,
        after=labels,
        probs=[likelihood @ posterior.T],
        weights=weights,
    )


def subset(tr: Transitions, data: st.DataObject) -> tuple[list[str], list[str]]:
    size = data.draw(st.integers(1, len(tr.before) - 1))
    return list(tr.before[:size]), list(tr.before[size:])


# ---------------------------------------------------------------------- published numbers
def test_the_published_mixture() -> None:
    tr = published()
    assert leak(tr, ["0", "1"])[0] == pytest.approx(0.0800818722274, abs=1e-6)
    assert stay(tr, "0")[0] == pytest.approx(0.632665, abs=2e-6)
    # blur of {0} in {0, 1} is (w_1 / w_01) times the TV of the two rows
    two = 0.5 * np.abs(np.array(ROWS[0]) - ROWS[1]).sum()
    assert blur(tr, "0", ["0", "1"])[0] == pytest.approx(3 / 7 * two, abs=2e-6)


def test_two_equal_gaussians() -> None:
    """phi(.5) = .602027: kept is 2 phi - 1, information that of a binary symmetric channel."""
    phi = 0.602027
    tr = Transitions(
        logsnr=[0.0],
        before=("+", "-"),
        after=("+", "-"),
        probs=[[[phi, 1 - phi], [1 - phi, phi]]],
        weights=[0.5, 0.5],
    )
    assert mean_stay(tr)[0] == pytest.approx(phi)
    assert chance(tr) == 0.5
    assert kept(tr)[0] == pytest.approx(2 * phi - 1)
    entropy = -phi * np.log(phi) - (1 - phi) * np.log(1 - phi)
    assert mutual_information(tr)[0] == pytest.approx(np.log(2) - entropy, rel=1e-12)


# ----------------------------------------------------------------------------- identities
@settings(max_examples=15)
@given(reversible_tables(), st.data())
def test_what_leaks_out_leaks_in(tr: Transitions, data: st.DataObject) -> None:
    mine, others = subset(tr, data)
    assert tr.weights is not None
    flux = tr.weights[:, None] * tr.probs[0]
    np.testing.assert_allclose(flux, flux.T, rtol=1e-9, atol=1e-15)
    w = tr.weights[: len(mine)].sum()
    np.testing.assert_allclose(
        w * leak(tr, mine), (1 - w) * leak(tr, others), rtol=1e-7, atol=1e-12
    )
    # reversible and positive: never below the weight
    assert stay(tr, mine)[0] >= w - 1e-12


@settings(max_examples=15)
@given(exact_tables(min_labels=2, square=True), st.data())
def test_sets_are_merged_labels(tr: Transitions, data: st.DataObject) -> None:
    mine, others = subset(tr, data)
    merged = merge(tr, {"A set": mine, "B set": others})
    np.testing.assert_allclose(stay(tr, mine), merged.probs[:, 0, 0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(leak(tr, mine), merged.probs[:, 0, 1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(stay(tr, mine) + leak(tr, mine), 1)
    # coarser labels tell less apart and hold less information (data processing)
    assert np.all(blur(merged, "A set") <= blur(tr, mine) + 1e-12)
    assert np.all(mutual_information(merged) <= mutual_information(tr) + 1e-12)
    assert np.all(mutual_information(tr) >= -1e-12)


@settings(max_examples=15)
@given(exact_tables(min_labels=2, square=True))
def test_information_is_the_direct_sum(tr: Transitions) -> None:
    assert tr.weights is not None
    for level, probs in enumerate(tr.probs):
        total = 0.0
        for i, w in enumerate(tr.weights):
            for j in range(len(tr.after)):
                marginal = sum(v * probs[k, j] for k, v in enumerate(tr.weights))
                total += w * probs[i, j] * np.log(probs[i, j] / marginal)
        assert mutual_information(tr)[level] == pytest.approx(total, rel=1e-9, abs=1e-14)


@settings(max_examples=15)
@given(exact_tables(min_labels=2, square=True), st.randoms(use_true_random=False))
def test_relabeling_changes_nothing(tr: Transitions, random: Any) -> None:
    assert tr.weights is not None
    order = list(range(len(tr.before)))
    random.shuffle(order)
    other = replace(
        tr,
        before=tuple(tr.before[i] for i in order),
        after=tuple(tr.after[i] for i in order),
        probs=tr.probs[:, order][:, :, order],
        stderr=None if tr.stderr is None else tr.stderr[:, order][:, :, order],
        weights=tr.weights[order],
        fresh=None,
        plateau=1.0,
    )
    tr = replace(tr, plateau=1.0)
    for quantity in (mean_stay, kept, mutual_information):
        np.testing.assert_allclose(quantity(other), quantity(tr), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(chance(other), chance(tr))
    np.testing.assert_allclose(blur(other, tr.before[0]), blur(tr, tr.before[0]), atol=1e-13)


@settings(max_examples=15)
@given(exact_tables(min_labels=2, square=True), st.data())
def test_blur_is_a_total_variation(tr: Transitions, data: st.DataObject) -> None:
    """TV is the largest difference over all label sets."""
    mine, _ = subset(tr, data)
    assert tr.weights is not None

    def row(labels: list[str]) -> NDArray[np.float64]:
        index = [tr.before.index(x) for x in labels]
        w = tr.weights[index]  # type: ignore[index]
        return np.einsum("i,lij->lj", w / w.sum(), tr.probs[:, index])

    gap = row(mine) - row(list(tr.before))
    masks = np.array(
        [[(k >> j) & 1 for j in range(len(tr.after))] for k in range(2 ** len(tr.after))]
    )
    np.testing.assert_allclose(blur(tr, mine), (gap @ masks.T).max(axis=1), atol=1e-13)


def test_kept_is_affine_in_the_mean_stay() -> None:
    tr = published()
    low, high, value = chance(tr), 1.0, mean_stay(tr)
    assert low == pytest.approx(0.4**2 + 0.3**2 + 0.2**2 + 0.1**2)
    np.testing.assert_allclose(kept(tr), (value - low) / (high - low))
    np.testing.assert_allclose(kept(tr, plateau=0.9), (value - low) / (0.9 - low))
    np.testing.assert_allclose(kept(tr, chance_level=0.1), (value - 0.1) / 0.9)
    np.testing.assert_allclose(kept(replace(tr, plateau=0.9)), (value - low) / (0.9 - low))


def test_the_limits_of_noise() -> None:
    weights = np.array([0.5, 0.3, 0.2])
    probs = np.stack([np.eye(3), np.tile(weights, (3, 1))])
    tr = Transitions(
        logsnr=[30.0, -30.0],
        before=("a", "b", "c"),
        after=("a", "b", "c"),
        probs=probs,
        weights=weights,
    )
    np.testing.assert_allclose(kept(tr), [1, 0], atol=1e-15)
    np.testing.assert_allclose(blur(tr, "a"), [0.5, 0], atol=1e-15)
    entropy = -(weights * np.log(weights)).sum()
    np.testing.assert_allclose(mutual_information(tr), [entropy, 0], atol=1e-15)
    np.testing.assert_allclose(stay(tr, ["a", "b"]), [1, 0.8])
    np.testing.assert_allclose(leak(tr, ["a", "b"]), [0, 0.2])


def test_unknown_rows_stay_unknown_unless_they_weigh_nothing() -> None:
    tr = from_counts([[[3, 1]]], [0], logsnr=[0.0], before=["a", "b"], weights=[0.5, 0.5])
    assert np.isnan(mean_stay(tr)).all()
    assert np.isnan(mutual_information(tr)).all()
    assert np.isnan(stay(tr, ["a", "b"])).all()
    np.testing.assert_allclose(stay(tr, "a"), 0.75)
    sure = replace(tr, weights=np.array([1.0, 0.0]), fresh=None)
    np.testing.assert_allclose(mean_stay(sure), 0.75)
    np.testing.assert_allclose(mutual_information(sure), 0, atol=1e-15)


# --------------------------------------------------------------------------------- guards
def test_every_guard_fires() -> None:
    tr = published()
    bare = replace(tr, weights=None, fresh=None)
    for quantity in (mean_stay, chance, kept, mutual_information):
        with pytest.raises(InputError, match="needs the model's prior"):
            quantity(bare)
    with pytest.raises(InputError, match="a set of several labels needs"):
        stay(bare, ["0", "1"])
    np.testing.assert_allclose(stay(bare, "0"), stay(tr, "0"))
    with pytest.raises(InputError, match="unknown label: got 9"):
        stay(tr, "9")
    with pytest.raises(InputError, match="must contain the set"):
        blur(tr, ["0", "1"], ["1", "2"])
    with pytest.raises(InputError, match="the same set"):
        blur(tr, ["0", "1"], ["1", "0"])
    with pytest.raises(InputError, match="the same set"):
        blur(tr, list("0123"))
    for options in ({"plateau": 0.2}, {"chance_level": 1.0}, {"chance_level": np.nan}):
        with pytest.raises(InputError, match="nothing to lose"):
            kept(tr, **options)
    single = Transitions(logsnr=[0.0], before=("a",), after=("a",), probs=[[[1.0]]], weights=[1.0])
    with pytest.raises(InputError, match="only one label"):
        kept(single)
    assert nested(tr, "1", None) == ([1], [0, 1, 2, 3])
