"""Effects of changed conditions on an exact mixture denoiser, whose answers are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import critwin as cw
from critwin.audits._fairness_words import _loss_words
from critwin.audits.altered import altered_steps, step_ratio
from critwin.audits.fairness_runs import ARMS, arms_around, decided_between
from critwin.audits.interventions import intervention_effects
from critwin.audits.references import reference_of
from critwin.errors import InputError
from critwin.experiments import intervene
from critwin.experiments.arms import Arm, arms_of
from critwin.features.function import FunctionFeature
from critwin.levels import logsnr_of_ou_time
from critwin.records import FeatureColumns, Records

GROUPS = ("a", "b")
UNIFORM = reference_of("uniform", GROUPS)


def mixture_model() -> Any:
    mixture = cw.GaussianMixture(
        weights=[0.5, 0.5], means=[[-4.0], [4.0]], covariances=1.0, names=["left", "right"]
    )
    return cw.load_model("mixture", mixture=mixture)


SIDE = FunctionFeature("side", GROUPS, lambda x: (x[:, 0] > 0).long())


def test_exact_answers_of_a_mixture() -> None:
    """Under "left" all are left; without it from t on, P(right | x_t) of them turn."""
    model, high = mixture_model(), 1.6
    arms = {
        "early": [{"to": 3.0, "condition": "none"}],
        "late": [{"from": high, "condition": "none"}],
        "everywhere": [{"condition": "none"}],
    }
    records = intervene(
        model, SIDE, arms, conditions=["left"], num_sources=300, batch_size=300, steps=50, seed=2
    )
    found = intervention_effects(records, "side", UNIFORM)
    effects = {arm.arm: arm for arm in found.arms}
    table = cw.exact_transitions(model.mixture, logsnr_of_ou_time(np.array([high])))
    truth = float(table.probs[0, 0, 1])
    assert 0.05 < truth < 0.4
    assert effects["late"].closed.covers(truth)
    assert effects["everywhere"].closed.covers(0.5)
    assert effects["early"].closed.covers(0.0)
    assert effects["late"].gap_before == pytest.approx(0.5)
    assert effects["late"].moved == pytest.approx(effects["late"].closed.value)
    assert found.recommended is not None
    assert found.recommended.arm == "everywhere"
    assert found.recommended.num_sources == 150


def paired(
    moves: dict[str, list[tuple[int, int, int, int]]],
    num: int = 60,
    groups: tuple[str, ...] = GROUPS,
) -> Records:
    """Records of arms: (rows, group before, group after, condition read after)."""
    rows: dict[str, list[Any]] = {k: [] for k in ("source", "arm", "b", "a", "f")}
    for arm, parts in moves.items():
        k = 0
        for count, before, after, read in parts:
            for _ in range(count):
                for key, value in (
                    ("source", f"s{k:03d}"), ("arm", "intervene:" + arm), ("b", before),
                    ("a", after), ("f", read),
                ):  # fmt: skip
                    rows[key].append(value)
                k += 1
        assert k == num
    total = len(rows["source"])
    return Records(
        source=np.array(rows["source"]),
        logsnr=np.full(total, -9.0),
        experiment=np.array(rows["arm"]),
        features={
            "side": FeatureColumns(labels=groups, before=rows["b"], after=rows["a"]),
            "kind": FeatureColumns(
                labels=("other", "asked"), before=np.ones(total, dtype=int), after=rows["f"]
            ),
        },
    )


MOVES = {
    "inside": [(40, 0, 1, 1), (60, 0, 0, 1), (20, 1, 1, 1)],
    "outside": [(4, 0, 1, 1), (96, 0, 0, 1), (20, 1, 1, 1)],
    "harmful": [(44, 0, 1, 0), (56, 0, 0, 1), (20, 1, 1, 1)],
    "too much": [(80, 0, 1, 1), (20, 0, 0, 1), (20, 1, 1, 1)],
}


def test_what_is_recommended_keeps_the_condition() -> None:
    # sources alternate between halves, so that both see every kind of move
    records = paired(MOVES, 120)
    found = intervention_effects(
        records, "side", UNIFORM, fidelity=("kind", "asked"), steps={"inside": 3, "outside": 6}
    )
    arms = {arm.arm: arm for arm in found.arms}
    assert arms["inside"].gap_before == pytest.approx(100 / 120 - 0.5)
    assert arms["inside"].closed.value == pytest.approx(1 / 3)
    assert arms["inside"].closed_per_step is not None
    assert arms["inside"].closed_per_step.value == pytest.approx(1 / 9)
    # most moved, and the gap is as wide as before: the other way
    assert arms["too much"].closed.covers(0.0)
    assert arms["too much"].moved == pytest.approx(80 / 120)
    assert arms["harmful"].fidelity_change is not None
    assert arms["harmful"].fidelity_change.value == pytest.approx(-44 / 120)
    assert arms["harmful"].altered_steps is None
    assert found.recommended is not None
    assert found.recommended.arm == "inside"
    ratio = step_ratio(records, found, "inside", ["outside"], num_resamples=500)
    assert ratio.value == pytest.approx(20.0)
    assert ratio.low is not None
    assert ratio.low > 5
    only = paired({"harmful": MOVES["harmful"]}, 120)
    none = intervention_effects(only, "side", UNIFORM, fidelity=("kind", "asked"))
    assert none.recommended is None
    assert "than the 5 points that are allowed" in str(none.reason)


def lucky(lost: tuple[int, int], num: int = 80) -> Records:
    """One arm that closes a gap; images that it loses of the half that chooses, and the other."""
    parts = []
    for k in range(num):
        read = 0 if k // 2 < lost[k % 2] else 1
        before = 1 if k % 16 in (14, 15) else 0
        parts.append((1, before, 1 if k % 16 >= 12 or k % 16 < 4 else 0, read))
    return paired({"lucky": parts}, num)


@pytest.mark.parametrize(
    ("lost", "allowed", "verdict", "words"),
    [
        ((1, 20), 0.05, "exceeds", "more than the 5 points that are allowed."),
        ((0, 4), 0.05, "exceeds", "more than the 5 points that are allowed, though its interval "),
        ((1, 1), 0.05, "may exceed", "not more than the 5 points that are allowed, but its inter"),
        ((0, 0), 0.05, "may exceed", "not more than the 5 points that are allowed, but its inter"),
        ((0, 1), 0.25, "within", "within the 25 points that are allowed."),
    ],
)
def test_a_loss_that_was_lucky_where_it_was_chosen_is_told(
    lost: tuple[int, int], allowed: float, verdict: str, words: str
) -> None:
    records, told = lucky(lost), {"fidelity": ("kind", "asked"), "largest_loss": allowed}
    found = intervention_effects(records, "side", UNIFORM, **told)  # type: ignore[arg-type]
    assert found.recommended is not None
    assert found.loss is not None
    assert found.loss.value == pytest.approx(lost[1] / 40)
    assert found.loss_verdict == verdict
    (sentence,) = _loss_words(found)
    assert words in sentence
    assert sentence.startswith("Warning") == (verdict == "exceeds")
    facts = found.as_dict()
    assert facts["loss_verdict"] == verdict
    assert facts["loss"]["value"] == found.loss.value
    blind = intervention_effects(records, "side", UNIFORM)
    assert (blind.loss, blind.loss_verdict) == (None, "not asked")
    assert "not known" in _loss_words(blind)[0]
    even = lucky((40, 40))  # everything is lost on both halves: nothing to warn of
    none = intervention_effects(even, "side", UNIFORM, **told)  # type: ignore[arg-type]
    assert (none.recommended, none.loss, none.loss_verdict) == (None, None, None)
    assert _loss_words(none) == []


def test_reasons_for_no_recommendation() -> None:
    still = paired({"still": [(50, 0, 0, 1), (10, 1, 1, 1)]})
    assert "no arm" in str(intervention_effects(still, "side", UNIFORM).reason)
    even = paired({"still": [(30, 0, 0, 1), (30, 1, 1, 1)]})
    assert "no gap" in str(intervention_effects(even, "side", UNIFORM).reason)
    few = paired({"still": [(6, 0, 0, 1), (3, 1, 1, 1)]}, num=9)
    assert "too few" in str(intervention_effects(few, "side", UNIFORM).reason)
    found = intervention_effects(paired(MOVES, 120), "side", UNIFORM)
    with pytest.raises(InputError, match="steps of an arm"):
        step_ratio(paired(MOVES, 120), found, "inside", ["outside"])


def test_the_gap_does_not_shrink_by_being_chosen() -> None:
    """Arms that draw afresh from an even law close nothing, though each sample has a gap."""
    generator = np.random.default_rng(0)
    closed = []
    for _ in range(200):
        before, after = generator.integers(0, 2, size=(2, 24))
        records = paired(
            {"again": [(1, int(b), int(a), 1) for b, a in zip(before, after, strict=True)]}, num=24
        )
        (arm,) = intervention_effects(records, "side", UNIFORM).arms
        closed.append(arm.closed.value)
    assert abs(np.mean(closed)) < 3.5 * np.std(closed) / np.sqrt(200)


@pytest.mark.parametrize(
    ("after", "truth"),
    [((0.1, 0.8, 0.1), 0.0), ((1 / 3,) * 3, 0.8 - 1 / 3), ((0.5, 0.3, 0.2), 0.3)],
)
def test_limits_of_what_is_closed_cover(after: tuple[float, ...], truth: float) -> None:
    generator, law = np.random.default_rng(1), (0.8, 0.1, 0.1)
    groups = ("a", "b", "c")
    hits, values = 0, []
    for _ in range(100):
        own, new = (generator.choice(3, size=80, p=p) for p in (law, after))
        rows = {"again": [(1, int(b), int(a), 1) for b, a in zip(own, new, strict=True)]}
        (arm,) = intervention_effects(
            paired(rows, 80, groups), "side", reference_of("uniform", groups)
        ).arms
        hits += arm.closed.covers(truth)
        values.append(arm.closed.value)
    assert hits >= 88
    assert abs(np.mean(values) - truth) < 0.02


def test_arms_around_a_window_share_out_the_steps() -> None:
    model, arms = mixture_model(), arms_around(1.0, 2.4, "none")
    assert tuple(arm.name for arm in arms) == ARMS
    steps = altered_steps(model, arms, steps=20, reversal="stochastic")
    assert steps["everywhere"] == sum(steps[name] for name in ARMS[:3])
    assert steps["inside the window"] < steps["everywhere"]
    blind = altered_steps(model, arms_of([Arm(name="nothing")]), steps=20)
    assert blind == {"nothing": 0}
    with pytest.raises(InputError, match="more noise to less"):
        arms_around(2.0, 1.0, "none")


def test_an_end_that_is_not_reached_is_as_far_as_the_other() -> None:
    kept = np.array([1.0, 0.95, 0.85, 0.5, 0.3, 0.2, 0.2, 0.2])
    times = np.array([0.2, 0.6, 1.0, 1.4, 1.8, 2.2, 2.6, 3.0])
    law = np.array([0.7, 0.3])
    table = kept[:, None, None] * np.eye(2) + (1 - kept)[:, None, None] * law

    def of(rows: slice) -> tuple[float, float]:
        return decided_between(
            cw.Transitions(
                logsnr=logsnr_of_ou_time(times[rows]), before=GROUPS, after=GROUPS,
                probs=table[rows], weights=law,
            )
        )  # fmt: skip

    low, high = of(slice(None))
    window = cw.critical_window(
        cw.Transitions(
            logsnr=logsnr_of_ou_time(times), before=GROUPS, after=GROUPS, probs=table, weights=law
        ),
        test=False,
    )
    assert window.start is not None
    assert window.midpoint is not None
    assert low == window.start.t.value
    assert high - (window.midpoint.t.value or 0) == pytest.approx(
        (window.midpoint.t.value or 0) - low
    )
    assert of(slice(3)) == (pytest.approx(low, abs=0.05), 1.0)  # up to the last level
    assert of(slice(6, None)) == pytest.approx((2.6, 3.0))  # nothing is known: all of them


def test_steps_are_the_calls_that_are_made() -> None:
    import torch

    calls: list[float] = []

    def network(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        calls.append(float(level[0]))
        return torch.zeros_like(x)

    model = cw.Denoiser(network, prediction="x_0", shape=(1,), steps=11, fingerprint="zero")
    arms = arms_of({"all": [{"to": 1.0, "guidance": 1.0}, {"from": 1.0, "guidance": 1.0}]})
    steps = altered_steps(model, arms)
    calls.clear()
    intervene(model, SIDE, arms, num_sources=1, batch_size=1)
    assert 2 * steps["all"] == len(calls)  # the source's own generation has the same legs


def test_bad_input() -> None:
    records = paired(MOVES, 120)
    with pytest.raises(InputError, match="unknown feature"):
        intervention_effects(records, "hair", UNIFORM)
    with pytest.raises(InputError, match="unknown label"):
        intervention_effects(records, "side", UNIFORM, fidelity=("kind", "asks"))
    with pytest.raises(InputError, match="the attribute that is audited: got side; wanted anot"):
        intervention_effects(records, "side", UNIFORM, fidelity=("side", "a"))
    with pytest.raises(InputError, match="other labels"):
        intervention_effects(records, "side", reference_of("uniform", ("a", "b", "c")))
    plain = replace(records, experiment=np.full(len(records), "forward_reverse"))
    with pytest.raises(InputError, match="belong to an intervention"):
        intervention_effects(plain, "side", UNIFORM)
