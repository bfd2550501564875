"""The noisiest level against fresh samples: size, power, and what it says of real runs."""

from __future__ import annotations

import numpy as np
import pytest

import critwin as cw
from critwin.freshness import fresh_test
from critwin.models.mixture import MixtureModel
from critwin.transitions import Transitions, from_counts
from critwin.views import transitions_from_records

NONE_LEFT, SOME_LEFT = -12.0, -6.0  # alpha = .0025 and .05
LAW = np.array([0.5, 0.3, 0.2])


def table(
    seed: int,
    *,
    after: np.ndarray = LAW,
    is_estimated: bool = True,
    num_sources: int = 120,
    replicates: int = 2,
    lowest: float = NONE_LEFT,
    follows: float = 0.0,
) -> Transitions:
    """Sources of one law, results of another; a share of the results keeps the source's label."""
    rng = np.random.default_rng(seed)
    before = rng.choice(3, size=num_sources, p=LAW)
    counts = np.zeros((num_sources, 2, 3), dtype=np.int64)
    counts[np.arange(num_sources), 0, before] = replicates
    for _ in range(replicates):
        label = rng.choice(3, size=num_sources, p=after)
        label = np.where(rng.random(num_sources) < follows, before, label)
        counts[np.arange(num_sources), 1, label] += 1
    law = np.bincount(before, minlength=3) / num_sources if is_estimated else LAW
    return from_counts(
        counts,
        before,
        logsnr=np.array([2.0, lowest]),
        before=list("abc"),
        after=list("abc"),
        weights=law,
        fresh=law,
        is_weights_estimated=is_estimated,
        reversal="stochastic",
        feature="letter",
    )


def rejected(count: int, **options: object) -> float:
    found = [fresh_test(table(seed, **options), num_permutations=199) for seed in range(count)]  # type: ignore[arg-type]
    assert all(test is not None for test in found)
    return float(np.mean([test.p <= 0.05 for test in found if test is not None]))


@pytest.mark.parametrize("is_estimated", [True, False])
@pytest.mark.parametrize("replicates", [1, 3])
def test_fresh_results_are_flagged_one_time_in_twenty(is_estimated: bool, replicates: int) -> None:
    share = rejected(300, is_estimated=is_estimated, replicates=replicates)
    assert 0.02 < share < 0.085  # .05, and 2.8 of its standard errors


@pytest.mark.parametrize("is_estimated", [True, False])
def test_another_law_is_found(is_estimated: bool) -> None:
    assert rejected(40, after=np.array([0.3, 0.3, 0.4]), is_estimated=is_estimated) > 0.9


def test_a_label_that_the_prior_rules_out_is_found() -> None:
    tr = table(0, after=np.array([0.4, 0.3, 0.3]), is_estimated=False)
    law = np.array([0.6, 0.4, 0.0])
    known = Transitions(
        **{
            name: getattr(tr, name)
            for name in (
                "logsnr",
                "before",
                "after",
                "probs",
                "kind",
                "counts",
                "source_before",
                "sources",
            )
        },
        weights=LAW,
        fresh=law,
    )
    found = fresh_test(known)
    assert found is not None
    assert found.p <= 1 / 2000


def test_where_signal_is_left_nothing_is_said() -> None:
    assert fresh_test(table(0, lowest=SOME_LEFT)) is None


def test_an_exact_model_passes_and_a_broken_one_does_not() -> None:
    mixture = cw.GaussianMixture(
        weights=[0.7, 0.3], means=[[-3.0], [3.0]], covariances=1.0, names=["left", "right"]
    )
    records = cw.forward_reverse(
        MixtureModel(mixture), "component", [2.0, -11.0], num_sources=300, batch_size=64
    )
    tr = transitions_from_records(records, "component")
    found = fresh_test(tr)
    assert found is not None
    assert found.p > 0.01
    assert found.num_results == 300
    broken = transitions_from_records(records, "component", weights={"left": 0.55, "right": 0.45})
    wrong = fresh_test(broken)
    assert wrong is not None
    assert wrong.p < 0.001


def test_a_report_says_it_where_it_can_be_said() -> None:
    from critwin.reports.report import report_data

    mixture = cw.GaussianMixture(
        weights=[0.5, 0.5], means=[[-3.0], [3.0]], covariances=1.0, names=["left", "right"]
    )
    model = MixtureModel(mixture)

    def said(lowest: float) -> list[str]:
        records = cw.forward_reverse(model, "component", [2.0, -2.0, lowest], num_sources=60)
        return [note for note in report_data(records).notes if "fresh" in note or "prior" in note]

    (note,) = said(NONE_LEFT)
    assert note.startswith(
        "component: at t = 6, where next to no signal is left (alpha = 0.0025), "
    )
    assert "labels of the results cannot be told from those of the model's prior (p = " in note
    assert said(SOME_LEFT) == []
    wrong = fresh_test(table(0, after=np.array([0.2, 0.3, 0.5])))
    assert wrong is not None
    assert "differ from those of the sources, which are fresh samples (p = below .001" in (
        wrong.in_words()
    )
    assert wrong.in_words().endswith("chance, is in doubt")
