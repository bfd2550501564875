"""Scores of the network against a model whose memory is exact."""

import numpy as np
import pytest
import torch
from scipy import stats

from critwin.audits._collapse import predicted_collapse, return_weight
from critwin.audits.attacks import Asked, ask, forward_reverse_scores
from critwin.audits.membership import cross_fitted, halves_of
from critwin.audits.memorised import find_memorised, null_p_values, returns_of_scores
from critwin.errors import InputError
from critwin.features.neighbours import Neighbours
from critwin.levels import alpha_sigma, logsnr_of_ou_time
from critwin.theory.datasets import dataset_prediction
from memory_model import Memory, two_sets

LEVELS = logsnr_of_ou_time(np.array([0.1, 0.3, 0.8]))


def asked(*sets: np.ndarray, seed: int = 0) -> Asked:
    return Asked(torch.from_numpy(np.concatenate(sets)), seed=seed, batch_size=8)


def test_the_loss_is_the_error_of_the_noise_that_is_seen() -> None:
    members, _ = two_sets(10)
    model = Memory(members)
    images = asked(members)
    found = ask(model, images, LEVELS, attacks=["loss"], replicates=2)["loss"]
    assert found.values.shape == (10, 3, 2)
    from critwin.experiments.padding import padded_streams

    level = float(LEVELS[1])
    streams = padded_streams([(name, level, 1) for name in images.names[:8]], 8, 0)
    noisy = model.noise(torch.from_numpy(members[:8]), level, streams)
    alpha, sigma = (float(v) for v in alpha_sigma(level))
    z = (noisy - alpha * torch.from_numpy(members[:8])) / sigma
    eps = (noisy - alpha * model.predict(noisy, level, [None] * 8)) / sigma
    wanted = -((eps - z) ** 2).mean(dim=1).numpy()
    np.testing.assert_allclose(found.values[:8, 1, 1], wanted, atol=1e-5)


def test_what_a_score_costs_is_what_is_called() -> None:
    members, _ = two_sets(8)
    images = asked(members)
    for attack in ("loss", "pia", "secmi"):
        model = Memory(members)
        score = ask(model, images, LEVELS[:1], attacks=[attack], replicates=3)[attack]
        wanted = 3 * 1 if attack == "loss" else score.cost(0)
        assert model.num_calls == wanted, attack
    model = Memory(members)
    several = ask(model, images, LEVELS, attacks=["secmi"])["secmi"]
    assert model.num_calls == several.cost(2)  # one path serves all levels
    model = Memory(members)
    (pixels, spread) = forward_reverse_scores(model, images, LEVELS, replicates=2)
    assert model.num_calls == 3 * pixels.cost(0) == 3 * spread.cost(0)


def test_every_attack_sees_an_exact_memory() -> None:
    members, others = two_sets(60)
    model, images = Memory(members), asked(members, others)
    is_member = np.arange(120) < 60
    scores = list(ask(model, images, LEVELS, replicates=2).values())
    scores += forward_reverse_scores(model, images, LEVELS, replicates=2)
    halves = halves_of(is_member)
    for score in scores:
        value = cross_fitted(score, is_member, halves).area.value
        assert value is not None
        # in 8 dimensions a deterministic path strays, and a small spread is also a lone point's
        assert value > (0.7 if score.kind in ("secmi", "forward-reverse spread") else 0.95)


def test_returns_follow_the_collapse_curve_of_the_data() -> None:
    members, others = two_sets(60)
    levels = logsnr_of_ou_time(np.array([0.1, 0.25, 0.5]))
    pool = Neighbours(np.concatenate([members, others]))
    scores = forward_reverse_scores(
        Memory(members), asked(members, others), levels, [pool], replicates=12
    )
    names = [f"x{i:06d}" for i in range(120)]
    returns = returns_of_scores(scores, names)
    truth = dataset_prediction(
        members, {"half": np.arange(60) % 2}, levels, num_seeds=20, leave_one_out=False
    ).collapse
    own = return_weight(members, np.arange(60), levels, num_seeds=20)
    found = returns.returned[:60].mean(axis=0)
    np.testing.assert_allclose(found, truth.source_weight, atol=0.06)
    np.testing.assert_allclose(own.mean(axis=0), truth.source_weight, atol=0.03)
    assert returns.returned[60:].max() == 0.0  # what is not remembered never comes back
    np.testing.assert_array_equal(returns.home, np.arange(120))
    half = predicted_collapse(members)
    assert half.t_kept is not None
    assert half.t_half is not None
    assert half.t_half == pytest.approx(
        np.exp(np.interp(-0.5, -own.mean(axis=0), np.log([0.1, 0.25, 0.5]))), rel=0.3
    )
    memorised = find_memorised(returns, np.arange(120) < 60)
    assert memorised.num_found == 60
    assert {c.home for c in memorised.candidates} == set(range(60))


def test_repeated_images_collapse_later() -> None:
    members, _ = two_sets(60)
    weights = np.where(np.arange(60) < 5, 32.0, 1.0)
    often = predicted_collapse(members, weights=weights, rows=np.arange(5), num_queries=40)
    once = predicted_collapse(members, weights=weights, rows=np.arange(5, 60))
    assert often.t_half is not None
    assert once.t_half is not None
    assert often.t_half > 1.5 * once.t_half


def test_neighbours_are_those_of_brute_force() -> None:
    generator = np.random.default_rng(2)
    pool = generator.random((70, 3, 4, 4)).astype(np.float32)
    source, result = pool[:6], generator.random((6, 3, 4, 4)).astype(np.float32)
    found = Neighbours(pool).read(source, result)
    gap = np.sqrt(((result[:, None] - pool[None]) ** 2).mean(axis=(2, 3, 4)))
    np.testing.assert_array_equal(found["home"], np.arange(6))
    np.testing.assert_allclose(found["distance"], gap[np.arange(6), np.arange(6)], rtol=1e-6)
    gap[np.arange(6), np.arange(6)] = np.inf
    np.testing.assert_array_equal(found["rival"], gap.argmin(axis=1))
    np.testing.assert_allclose(found["rival_distance"], gap.min(axis=1), rtol=1e-6)
    near = np.sort(gap, axis=1)[:, :50].mean(axis=1)
    np.testing.assert_allclose(found["crowd_distance"], near, rtol=1e-4)
    with pytest.raises(InputError, match="shape of those of the pool"):
        Neighbours(pool).read(source[:, :1], result[:, :1])
    with pytest.raises(InputError, match="at least two"):
        Neighbours(pool[:1])


@pytest.mark.parametrize("law", ["normal", "t5", "uniform"])
@pytest.mark.parametrize("tail", ["empirical", "exponential"])
def test_false_discoveries_are_controlled(law: str, tail: str) -> None:
    generator, shares, power = np.random.default_rng(3), [], []
    for _ in range(80):
        draw = {
            "normal": generator.standard_normal,
            "t5": lambda size: generator.standard_t(5, size),
            "uniform": generator.random,
        }[law]
        null, own = draw(size=300), draw(size=500)
        own[:15] += 6.0 * null.std()
        p_values = null_p_values(own, null, tail=tail)  # type: ignore[arg-type]
        is_found = stats.false_discovery_control(p_values) <= 0.1
        shares.append(is_found[15:].sum() / max(is_found.sum(), 1))
        power.append(is_found[:15].mean())
    assert np.mean(shares) <= 0.1 + 2.0 * np.std(shares) / np.sqrt(80)
    if law != "t5" and tail == "exponential":
        assert np.mean(power) > 0.9


def test_p_values_without_the_null_added_are_caught() -> None:
    """The planted bug: dividing by n instead of n + 1 finds what cannot be found."""
    generator, false = np.random.default_rng(4), 0
    for _ in range(60):
        null, own = generator.standard_normal(100), generator.standard_normal(400)
        bug = np.array([np.mean(null >= x) for x in own])
        false += (stats.false_discovery_control(bug) <= 0.1).any()
    assert false / 60 > 0.5


def test_mistakes_are_named() -> None:
    members, _ = two_sets(6)
    images = asked(members)
    with pytest.raises(InputError, match="unknown attack"):
        ask(Memory(members), images, LEVELS, attacks=["magic"])
    silent = Memory(members)
    silent.predict = None  # type: ignore[method-assign,assignment]
    with pytest.raises(InputError, match="does not show its predictions"):
        ask(silent, images, LEVELS)
    with pytest.raises(InputError, match="do not fit the images"):
        Asked(torch.zeros(2, 3), names=["a"])
    with pytest.raises(InputError, match="nearest to"):
        returns_of_scores([], ["a"])
