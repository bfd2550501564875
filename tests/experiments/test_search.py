"""Adaptive search: its posterior against weighted prior draws, its decisions, its results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from critwin.errors import InputError, TooManyInvalidError
from critwin.experiments._acquisition import Outlook, choose
from critwin.experiments._curve_chain import chain_on
from critwin.experiments._deciding import Decider
from critwin.experiments._posterior import Posterior, Tally, crossing_times
from critwin.experiments._tallies import CurveOf, Rows, tally
from critwin.experiments.search import SearchResult, search
from critwin.experiments.search_levels import candidate_levels
from critwin.experiments.search_results import curve_of_posterior
from critwin.experiments.search_targets import Target, parse_targets
from critwin.features.registry import load_feature
from critwin.levels import ou_time
from critwin.models.mixture import MixtureModel
from critwin.records import digest
from critwin.streams import numpy_stream
from critwin.theory.mixtures import GaussianMixture
from critwin.views import transitions_from_records
from critwin.windows import critical_window
from search_oracle import LINES, midpoint_of, searches, settings
from toy_models import Side, ToyPoints


@pytest.fixture(scope="module")
def few() -> tuple[Posterior, Any]:
    """A posterior of few counts, and prior draws of its chain."""
    chain = chain_on(np.linspace(0.2, 2.2, 11))
    number = np.zeros(11)
    number[[1, 4, 6, 9]] = [6, 8, 8, 5]
    hits = np.zeros(11)
    hits[[1, 4, 6, 9]] = [6, 7, 5, 3]
    posterior = Posterior.of(chain, [Tally(hits=hits, number=number, chance=0.4)])
    return posterior, chain.draw(60_000, numpy_stream(0, "prior"))


def _weights(posterior: Posterior, index: Any) -> Any:
    own, value = posterior.tallies[0], posterior.chain.value
    p = own.chance + (1 - own.chance) * value[index]
    log = own.hits * np.log(p) + (own.number - own.hits) * np.log1p(-p)
    weight = np.exp(log.sum(axis=1))
    return weight / weight.sum()


def test_the_posterior_is_that_of_weighted_prior_draws(few: tuple[Posterior, Any]) -> None:
    posterior, index = few
    weight = _weights(posterior, index)
    effective = 1 / np.sum(weight**2)
    assert effective > 2000
    value = posterior.chain.value[index]
    error = np.sqrt(np.sum(weight[:, None] * (value - weight @ value) ** 2, axis=0) / effective)
    assert np.all(np.abs(posterior.mean()[0] - weight @ value) < 5 * error + 1e-9)
    times = crossing_times(posterior.chain, index, 0.5)
    crossing = posterior.crossing(0, 0.5)
    for t in (0.7, 1.05, 1.4, 1.83, 2.1):
        found = np.interp(t, crossing.edges, crossing.below)
        # a curve is below from its crossing on; draws that never cross count as later
        assert found == pytest.approx(weight @ (times <= t), abs=5 / np.sqrt(effective))


def test_draws_of_the_posterior_have_its_means(few: tuple[Posterior, Any]) -> None:
    posterior, _ = few
    draws = posterior.sample(4000, numpy_stream(0, "draws"))[0]
    value = posterior.chain.value[draws]
    error = value.std(axis=0) / np.sqrt(4000)
    assert np.all(np.abs(value.mean(axis=0) - posterior.mean()[0]) < 5 * error + 1e-9)
    assert np.all(np.diff(value, axis=1) <= 0)


def test_the_law_of_the_chain_is_kept_by_its_steps() -> None:
    chain = chain_on(np.array([0.1, 0.2, 0.37, 0.9]))
    assert chain is chain_on([0.1, 0.2, 0.37, 0.9])
    law = chain.first[None]
    seen = chain.draw(50_000, numpy_stream(1, "prior"))
    for j in range(3):
        assert law.sum() == pytest.approx(1.0, abs=1e-12)
        share = np.bincount(seen[:, j], minlength=len(chain.value)) / len(seen)
        exact = law.sum(axis=(0, 1))
        assert np.abs(np.cumsum(share) - np.cumsum(exact)).max() < 5 / np.sqrt(len(seen))
        # what is expected one step later is the same, computed forwards or backwards
        message = np.linspace(0, 1, chain.first.size).reshape(law.shape)
        forwards = np.sum(chain.forward(law, j) * message)
        assert np.sum(law * chain.backward(message, j)) == pytest.approx(forwards, rel=1e-12)
        law = chain.forward(law, j)


def test_limits_of_a_posterior_curve_hold_its_mean(few: tuple[Posterior, Any]) -> None:
    curve = curve_of_posterior(few[0], 0, "stay", 0.95)
    assert np.all(curve.low <= curve.value)
    assert np.all(curve.value <= curve.high)
    assert curve.value.min() >= 0.4
    assert np.all(np.diff(curve.value) <= 1e-12)


def test_a_known_slope_gives_the_variance_of_the_linear_formula() -> None:
    random = numpy_stream(0, "linear")
    time = random.standard_normal(4000) * 0.03
    probs = np.clip(0.5 + 2.0 * time[:, None] + np.array([0.0, 0.3]), 0.01, 0.99)
    outlook = Outlook.of(probs, time[None], np.ones(1), 1.0)
    before, noise = outlook.var[0], outlook.noise[0]
    outlook.learn(0, 50)
    assert 1 / outlook.var[0] == pytest.approx(1 / before + 50 * 4 / noise, rel=0.02)


def test_the_cheaper_of_two_equal_levels_is_chosen() -> None:
    outlook = Outlook(
        noise=np.full(3, 0.25),
        cov=np.full((3, 3), 0.01) + np.eye(3) * 1e-4,
        cross=np.array([[0.01, 0.01, 0.0]]),
        var=np.array([0.02]),
        weight=np.ones(1),
    )
    costs = np.array([30.0, 10.0, 1.0])
    args = (np.ones(1), np.arange(3), 16)
    found = choose([outlook], *args, costs, np.inf)
    assert found == (1, 10.0)
    assert choose([outlook], *args, costs, 0.5) is None


def test_replicates_that_agree_entirely_count_once() -> None:
    source = np.repeat(np.arange(200), 10)
    random = numpy_stream(0, "agree")
    kept = np.repeat(random.random(200) < 0.75, 10)
    rows = Rows(source, np.zeros(2000, int), np.zeros(2000, int), np.where(kept, 0, 1))
    curve = CurveOf("x", np.array([0.5, 0.5]))
    counted, rho = tally(curve, rows, np.full(1, 0.5), 1)
    assert counted.number[0] == 2000
    assert 8 < counted.design < 11
    assert rho > 0.85
    alone = Rows(np.arange(2000), rows.node, rows.before, rows.after)
    assert tally(curve, alone, np.full(1, 0.5), 1)[0].design == 1.0


def test_sources_that_are_no_draws_of_the_prior_are_weighted() -> None:
    before = np.repeat([0, 1], [900, 100])
    kept = np.concatenate([np.arange(900) < 450, np.arange(100) < 90])
    rows = Rows(np.arange(1000), np.zeros(1000, int), before, np.where(kept, before, 1 - before))
    curve = CurveOf("x", np.array([0.5, 0.5]), is_weighted=True)
    counted, _ = tally(curve, rows, np.full(1, 0.5), 1)
    assert counted.hits[0] / counted.number[0] == pytest.approx(0.5 * (0.5 + 0.9))
    assert counted.design > 1.5  # a tenth of the sources has half of the weight


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("ground", Target(feature="ground")),
        ("ground.end", Target(feature="ground", quantity="end")),
        ("a.b.start", Target(feature="a.b", quantity="start")),
        ("ground*ink", Target(feature="ground*ink")),
        (
            "ground.t_after(x, y)",
            Target(feature="ground", quantity="t_after", after=("x", "y")),
        ),
        (
            "ground.t_before(x|x,y)",
            Target(feature="ground", quantity="t_before", after=("x",), before=("x", "y")),
        ),
    ],
)
def test_targets_are_read_as_they_are_written(text: str, target: Target) -> None:
    features = ["ground", "ink", "a.b"]
    assert parse_targets([text, text], features) == (target,)
    assert parse_targets([target.name], features) == (target,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sky", "cannot be read"),
        ("sky.midpoint", "unknown feature"),
        ("ground.middle", "unknown quantity"),
        ("ground.t_after", "needs a label set"),
        ("ground.end(x)", "takes no label set"),
    ],
)
def test_targets_that_cannot_be_read_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_targets([text], ["ground"])


def test_several_edges_come_from_one_search() -> None:
    names = ["component", "component.start", "component.t_after(c0)", "component.t_before(c0)"]
    (decider,) = searches("two", [3], targets=names, half_width=0.25)
    assert decider.reason == "every target is settled"
    truth = {"component.midpoint": 1.6902, "component.start": 1.0031}
    truth |= {"component.t_after(c0)": 1.2089, "component.t_before(c0)": 2.3147}
    for found in decider.found:
        assert found.half_width is not None
        assert found.half_width <= 0.25
        assert found.t == pytest.approx(truth[found.name], abs=0.5)


def test_a_search_stops_within_its_budget_and_says_that_it_was_not_enough() -> None:
    (decider,) = searches("two", [0], budget=20_000.0)
    assert decider.reason == "the budget is spent"
    assert decider.spent <= 20_000
    assert not decider.found[0].is_reached
    assert decider.expected_results() > decider.num_results


def test_an_edge_beyond_the_range_is_no_edge() -> None:
    (decider,) = searches("two", [0], t_range=(0.05, 0.85), half_width=0.05)
    assert decider.found[0].side == "above"
    assert decider.found[0].t is None
    assert decider.reason == "every target is settled"


def test_the_same_results_lead_to_the_same_decisions() -> None:
    first, second = searches("two", [5, 5], half_width=0.2)
    assert first.trace == second.trace
    line = LINES["two"]
    other = Decider(settings(line.names, line.weights, seed=6))
    assert other.next_round() == other.next_round()  # asking twice changes nothing


def test_sources_are_used_again_where_they_cost() -> None:
    dear, cheap = (
        searches("two", [2], half_width=0.1, source_cost=cost)[0] for cost in (200.0, 0.0)
    )
    assert cheap.num_drawn == cheap.num_results
    assert dear.num_drawn < dear.num_results / 2


def _mixture() -> MixtureModel:
    m = GaussianMixture(
        weights=[0.5, 0.5], means=[[-5.0], [5.0]], covariances=1.0, names=["a", "b"]
    )
    return MixtureModel(m)


@pytest.fixture(scope="module")
def result() -> SearchResult:
    return search(_mixture(), "component", half_width=0.15, batch_size=32, seed=4)


def test_a_search_in_memory_finds_the_window(result: SearchResult) -> None:
    (target,) = result.targets
    assert result.is_reached
    assert target.half_width is not None
    assert target.half_width <= 0.15
    assert target.edge.t.covers(midpoint_of("two"))
    (window,) = result.windows
    assert window.midpoint is not None
    assert window.midpoint.t.value == pytest.approx(target.edge.t.value)
    assert window.width is not None
    assert 0.5 < (window.width.t.value or 0) < 4
    assert result.trace[-1]["num_results"] == len(result.records)
    assert result.evaluations == len(result.records)  # one evaluation a posterior draw


def test_rows_of_a_search_are_rows_of_the_experiment(result: SearchResult) -> None:
    import critwin as cw

    rows = result.records
    assert set(rows.experiment) == {"forward_reverse"}
    level, number = np.unique(rows.requested_logsnr, return_counts=True)
    busiest = level[np.argmax(number)]
    own = rows.source[rows.requested_logsnr == busiest]
    again = cw.forward_reverse(
        _mixture(),
        "component",
        [busiest],
        num_sources=400,
        seed=4,
        batch_size=32,
    )
    mine = dict(
        zip(own, rows.features["component"].after[rows.requested_logsnr == busiest], strict=True)
    )
    theirs = dict(zip(again.source, again.features["component"].after, strict=True))
    shared = mine.keys() & theirs.keys()
    assert len(shared) >= 8
    assert {s: mine[s] for s in shared} == {s: theirs[s] for s in shared}


def test_the_counts_of_a_search_give_a_window_of_their_own(result: SearchResult) -> None:
    window = critical_window(transitions_from_records(result.records, "component"))
    assert window.midpoint is not None
    assert window.midpoint.t.covers(midpoint_of("two"))


def test_a_search_repeats_itself(result: SearchResult) -> None:
    again = search(_mixture(), "component", half_width=0.15, batch_size=32, seed=4)
    assert digest(again.records) == digest(result.records)
    other = search(_mixture(), "component", half_width=0.3, batch_size=32, seed=5)
    assert digest(other.records) != digest(result.records)


def test_two_features_are_read_off_the_same_results() -> None:
    model = _mixture()
    feature = load_feature("component", model=model)

    class Twin:
        name, labels, fingerprint = "twin", ("left", "right"), "twin"

        def read(self, samples: Any) -> Any:
            return replace(feature.read(samples), values={})

    found = search(model, [feature, Twin()], half_width=0.3, batch_size=32)
    one, two = found.targets
    assert one.name == "component.midpoint"
    assert two.name == "twin.midpoint"
    assert two.edge.t.value == pytest.approx(one.edge.t.value, abs=0.3)
    assert set(found.records.features) == {"component", "twin"}


def test_invalid_results_stop_a_search() -> None:
    model = ToyPoints(spoil=lambda source, logsnr: True)
    with pytest.raises(TooManyInvalidError):
        search(model, Side(), half_width=0.3, t_range=(0.3, 3.0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"half_width": 0.0}, "half_width is out of range"),
        ({"confidence": 1.0}, "confidence is out of range"),
        ({"budget": -1.0}, "budget must be positive"),
        ({"budget": 3.0}, "does not pay for a single batch"),
        ({"t_range": (2.0, 1.0)}, "range of a search"),
        ({"t_range": (0.0, 1.0)}, "range of a search"),
        ({"targets": "component.t_after(z)"}, "unknown label"),
        ({"targets": "component.t_after(a,b)"}, "must lie inside"),
        ({"targets": []}, "no targets"),
        ({"conditions": ("a", "b")}, "needs the model's prior"),
    ],
)
def test_what_cannot_be_searched_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        search(_mixture(), "component", **options)


def test_levels_of_a_search_span_its_range() -> None:
    t = ou_time(candidate_levels(0.05, 5.0))
    assert t[[0, -1]] == pytest.approx([0.05, 5.0])
    assert np.diff(t).max() <= 0.1 + 1e-9
