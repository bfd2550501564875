import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from critwin.errors import InputError, TooManyInvalidError
from critwin.experiments.forward_reverse import forward_reverse
from critwin.experiments.measuring import (
    Context,
    Measured,
    execute,
    finish,
    iterate,
    measure,
    measure_sources,
)
from critwin.experiments.reading import decode_checked
from critwin.experiments.sources import plan_generated
from critwin.experiments.spec import Spec, plan
from critwin.experiments.units import Unit, resolve_levels
from critwin.features.base import Reading
from critwin.records import Records, concatenate, digest, select
from critwin.views import transitions_from_records
from toy_models import Moved, Side, Size, ToyImages, ToyPoints

LEVELS = [2.0, 0.0, -2.0, -4.0]


def make_context(
    model: Any, *, count: int = 10, batch_size: int = 4, features: Any = None, **options: Any
) -> Context:
    spec = Spec(
        sources=tuple(plan_generated(count, options.pop("conditions", ()))),
        levels=resolve_levels(LEVELS, model.levels),
        reversal="posterior",
        batch_size=batch_size,
        replicates=2,
        **options,
    )
    chosen = (Side(), Size()) if features is None else features
    states = {}
    for start in range(0, count, batch_size):
        batch = spec.sources[start : start + batch_size]
        new, _ = measure_sources(batch, model, chosen, spec)
        states.update((state.source.name, state) for state in new)
    return Context(model=model, features=chosen, spec=spec, states=states, comparisons=(Moved(),))


def run_all(context: Context, units: Sequence[Unit]) -> Records:
    parts = [m.records for m in iterate(units, context, max_invalid=1.0)]
    return finish(concatenate(parts), context)


class Kernels(ToyPoints):
    """A model whose bits depend on the batch shape, and on nothing else of the batch."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.Generator().manual_seed(0)
        self.matrix = torch.randn((2, 64), generator=weight)
        self.back = torch.linalg.pinv(self.matrix)

    def denoise(self, noisy: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        out = super().denoise(noisy, *args, **options)
        return (out @ self.matrix) @ self.back


@pytest.mark.parametrize("model", [ToyPoints(), Kernels()], ids=["exact", "kernels"])
def test_rows_do_not_depend_on_order_or_neighbours(model: Any) -> None:
    context = make_context(model)
    units = plan(context.spec)
    want = digest(run_all(context, units))
    for turn in range(4):
        shuffled = list(units)
        random.Random(turn).shuffle(shuffled)
        assert digest(run_all(context, shuffled)) == want
    rows = [measure([unit], context).records for unit in units]  # each alone in its batch
    assert digest(finish(concatenate(rows), context)) == want


def test_the_test_above_can_fail() -> None:
    """A model whose rows see their neighbours is caught by the shuffled order."""

    class Leaky(ToyPoints):
        def denoise(self, *args: Any, **options: Any) -> torch.Tensor:
            out = super().denoise(*args, **options)
            return out + 1e-3 * out.mean()

    context = make_context(Leaky())
    units = plan(context.spec)
    shuffled = list(units)
    random.Random(0).shuffle(shuffled)
    assert digest(run_all(context, shuffled)) != digest(run_all(context, units))


def test_the_model_always_sees_the_same_shape() -> None:
    model = ToyPoints()
    context = make_context(model, count=7, batch_size=5)
    run_all(context, plan(context.spec))
    assert model.shapes == {(5, 2), (5, 3)}


def test_changing_one_key_changes_one_row() -> None:
    context = make_context(ToyPoints(), features=(Side(),))
    units = plan(context.spec)
    before = run_all(context, units)
    moved = [*units]
    old = moved[17]
    moved[17] = Unit(
        source=old.source,
        source_index=old.source_index,
        logsnr=old.logsnr,
        requested_logsnr=old.requested_logsnr + 1e-5,
        replicate=old.replicate,
        condition=old.condition,
    )
    after = run_all(context, moved)
    values = [set(r.features["side"].after_values["x"].tolist()) for r in (before, after)]
    assert len(values[0] - values[1]) == len(values[1] - values[0]) == 1


def test_rows_come_in_the_order_of_the_batch() -> None:
    context = make_context(ToyPoints())
    units = [u for u in plan(context.spec) if u.logsnr == 0.0][:4][::-1]
    records = execute(units, context)
    assert records.source.tolist() == [unit.source for unit in units]
    assert records.requested_logsnr is not None
    assert set(records.logsnr.tolist()) == {0.0}


def test_before_is_the_reading_of_the_source() -> None:
    context = make_context(ToyPoints())
    records = run_all(context, plan(context.spec))
    for row in range(len(records)):
        state = context.states[str(records.source[row])]
        assert records.features["side"].before[row] == int(state.clean[0] > 0)
        assert records.features["side"].before_values["x"][row] == float(state.clean[0])


def test_without_noise_the_source_comes_back() -> None:
    records = forward_reverse(ToyPoints(), [Side()], [40.0], num_sources=12, comparisons=[Moved()])
    assert np.all(records.values["moved"] < 1e-6)
    side = records.features["side"]
    assert np.array_equal(side.before, side.after)


def test_with_all_noise_the_prior_comes_back() -> None:
    records = forward_reverse(ToyPoints(), [Side()], [-30.0], num_sources=400, batch_size=64)
    share = np.mean(records.features["side"].after)
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / 400)


def test_measured_stay_is_that_of_the_exact_mixture() -> None:
    """End to end on the oracle: two Gaussians at +-2, levels across their window, 4 SE."""
    from scipy.special import expit

    model = ToyPoints(mean=2.0)
    levels = [3.0, 1.0, 0.0, -1.0, -3.0]
    records = forward_reverse(
        model, [Side(), Component(model.mean)], levels, num_sources=600, batch_size=128
    )
    stay = transitions_from_records(records, "component").probs.diagonal(axis1=1, axis2=2)
    x = np.linspace(-14, 14, 20001)
    for row, logsnr in enumerate(levels):
        alpha = np.sqrt(expit(logsnr))
        right = np.exp(-0.5 * (x - alpha * 2.0) ** 2) / np.sqrt(2 * np.pi)
        exact = np.sum(right * expit(2 * alpha * 2.0 * x)) * (x[1] - x[0])
        error = np.sqrt(0.25 / 600)
        assert abs(stay[row].mean() - exact) < 4 * error


class Component:
    """Posterior draw of the component, from a hash of the sample: the mixture's own label."""

    name = "component"
    labels = ("left", "right")
    fingerprint = "component-1"

    def __init__(self, mean: float) -> None:
        self.mean = mean

    def read(self, samples: Any) -> Reading:
        x = torch.as_tensor(samples).double().numpy()
        uniform = np.mod(np.abs(x[:, 1]) * 9973.0, 1.0)
        odds = 1 / (1 + np.exp(-2 * self.mean * x[:, 0]))
        return Reading(indices=(uniform < odds).astype(np.int64))


def test_conditions_reach_the_model_and_the_records() -> None:
    model = ToyPoints()
    context = make_context(model, conditions=["left", None])
    records = run_all(context, plan(context.spec))
    side = records.features["side"]
    is_left = records.condition == "left"
    assert is_left.sum() == len(records) / 2
    assert set(np.asarray(records.condition).tolist()) == {"left", ""}
    assert np.all(side.after[is_left & (records.logsnr == -4.0)] == 0)
    assert not records.priors  # two conditions have no one prior
    other = run_all(*_with(make_context(model, conditions=["left", None], condition="right")))
    assert set(np.asarray(other.condition).tolist()) == {"right"}
    assert np.all(other.features["side"].after[other.logsnr == -4.0] == 1)


def _with(context: Context) -> tuple[Context, list[Unit]]:
    return context, plan(context.spec)


def test_invalid_results_are_counted_and_leave_others_alone() -> None:
    clean = make_context(ToyPoints())
    want = run_all(clean, plan(clean.spec))
    spoiled = make_context(ToyPoints(spoil=lambda source, logsnr: source == "s000003"))
    got = run_all(spoiled, plan(spoiled.spec))
    is_bad = got.source == "s000003"
    assert np.array_equal(got.valid, ~is_bad)
    for name in ("side", "size"):
        assert np.array_equal(
            got.features[name].after[~is_bad], want.features[name].after[~is_bad]
        )
        assert np.all(got.features[name].after[is_bad] == -1)
    assert np.all(np.isnan(got.values["moved"][is_bad]))
    assert digest(select(got, ~is_bad)) == digest(select(want, ~is_bad))


def test_an_invalid_source_makes_invalid_rows_and_no_more() -> None:
    class BadSource(ToyPoints):
        def generate(self, conditions: Any, streams: Any) -> torch.Tensor:
            out = super().generate(conditions, streams)
            for row, stream in enumerate(streams):
                if stream.source == "s000001":
                    out[row] = float("inf")
            return out

    context = make_context(BadSource())
    records = run_all(context, plan(context.spec))
    is_bad = records.source == "s000001"
    assert np.array_equal(records.valid, ~is_bad)
    assert np.all(records.features["side"].before[is_bad] == -1)
    assert records.attrs["num_sources_invalid"] == 1
    clean = make_context(ToyPoints())
    want = select(run_all(clean, plan(clean.spec)), ~is_bad)
    assert digest(select(records, ~is_bad)) == digest(want)


def test_constant_images_are_invalid_and_dim_ones_are_not() -> None:
    model = ToyImages()
    clean = torch.zeros((4, 2))
    clean[0, 0] = 3.0
    clean[1, 0] = 0.06  # three of 1,000 grey steps: more than half of one of 256
    clean[2, 0] = 0.01
    decoded, is_valid = decode_checked(model, clean)
    assert is_valid.tolist() == [True, True, False, False]
    assert torch.isnan(decoded[2:]).all()
    assert torch.isfinite(decoded[:2]).all()


def test_points_are_never_constant() -> None:
    _, is_valid = decode_checked(ToyPoints(), torch.zeros((3, 2)))
    assert is_valid.all()


def test_too_many_invalid_results_stop_the_experiment_and_are_kept() -> None:
    model = ToyPoints(spoil=lambda source, logsnr: source in ("s000000", "s000001"))
    context = make_context(model)
    units = plan(context.spec)
    seen: list[Measured] = []
    with pytest.raises(TooManyInvalidError, match=r"wanted at most 5%") as caught:
        seen.extend(iterate(units, context, max_invalid=0.05))
    done = sum(len(m.units) for m in seen)
    assert 50 <= caught.value.num_done == done < len(units)
    assert caught.value.num_invalid == sum(int((~m.records.valid).sum()) for m in seen)  # type: ignore[operator]
    result = list(iterate(units, context, max_invalid=0.25))
    assert sum(int((~m.records.valid).sum()) for m in result) == 0.2 * len(units)  # type: ignore[operator]


def test_a_short_experiment_is_judged_at_its_end() -> None:
    model = ToyPoints(spoil=lambda source, logsnr: source == "s000000")
    with pytest.raises(TooManyInvalidError) as caught:
        forward_reverse(model, [Side()], [0.0], num_sources=3)
    assert isinstance(caught.value.records, Records)
    assert len(caught.value.records) == 3


class Broken(Side):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def read(self, samples: Any) -> Reading:
        return self.answer(len(samples))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda n: Reading(indices=np.full(n, 7)), "unknown label"),
        (lambda n: Reading(indices=np.zeros(n + 1, dtype=np.int64)), "wrong number of rows"),
        (
            lambda n: Reading(indices=np.zeros(n, dtype=np.int64), probs=np.full((n, 2), np.nan)),
            "NaN",
        ),
        (lambda n: np.zeros(n), "did not return a Reading"),
    ],
)
def test_a_labeller_that_errs_is_named(answer: Any, words: str) -> None:
    with pytest.raises(InputError, match=rf"feature 'side'.*{words}"):
        forward_reverse(ToyPoints(), [Broken(answer)], [0.0], num_sources=3)


def test_priors_are_the_models_or_shares_of_generated_sources() -> None:
    levels = [0.0]
    records = forward_reverse(ToyPoints(), [Side(), Size()], levels, num_sources=64)
    assert records.priors["side"] == {"left": 0.5, "right": 0.5}
    large = np.mean(records.features["size"].before[records.features["size"].before >= 0] == 1)
    assert records.priors["size"]["large"] == pytest.approx(large)
    assert sum(records.priors["side*size"].values()) == pytest.approx(1.0)
    assert not transitions_from_records(records, "side").is_weights_estimated
    assert transitions_from_records(records, "size").is_weights_estimated


def test_shares_of_other_sources_are_never_priors() -> None:
    model = ToyPoints()
    data = forward_reverse(model, [Side(), Size()], [0.0], num_sources=20, sources="dataset")
    assert set(data.priors) == {"side"}
    moved = forward_reverse(
        model, [Side(), Size()], [0.0], num_sources=20, conditions=["left"], condition=None
    )
    assert set(moved.priors) == {"side"}  # generated under another condition than denoised
    same = forward_reverse(model, [Side(), Size()], [0.0], num_sources=20, conditions=["left"])
    assert set(same.priors) == {"side", "size", "side*size"}
    assert same.priors["side"] == {"left": 1.0}  # not the model's unconditional prior


def test_given_samples_are_sources() -> None:
    clean = np.array([[-6.0, 1.0], [6.0, -1.0], [6.0, 2.0]], dtype=np.float32)
    records = forward_reverse(ToyPoints(), [Side()], [4.0], sources=clean)
    assert records.source.tolist() == ["x000000", "x000001", "x000002"]
    assert records.features["side"].before.tolist() == [0, 1, 1]


def test_a_prior_of_other_labels_is_not_taken() -> None:
    class Merged(Side):
        labels = ("low", "high")

    records = forward_reverse(ToyPoints(), [Merged()], [0.0], num_sources=30)
    assert set(records.priors["side"]) == {"low", "high"}
    assert transitions_from_records(records, "side").is_weights_estimated


def test_a_model_may_know_its_prior_under_a_condition() -> None:
    class Knowing(ToyPoints):
        def prior(self, feature: str, condition: str | None = None) -> dict[str, float] | None:
            known = {None: 0.5, "left": 1.0, "right": 0.0}[condition]
            return {"left": known, "right": 1 - known} if feature == "side" else None

    records = forward_reverse(Knowing(), [Side()], [0.0], num_sources=30, condition="left")
    assert records.priors["side"] == {"left": 1.0, "right": 0.0}
    assert records.attrs["is_prior_estimated"] is False


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_sources": 0}, "no sources"),
        ({"sources": np.zeros((3, 5))}, "wrong shape"),
        ({"sources": "elsewhere"}, "unknown sources"),
        ({"conditions": ["lefft"]}, "did you mean 'left'"),
        ({"condition": "up"}, "does not know this condition"),
        ({"reversal": "ode"}, "no such reversal"),
        ({"replicates": 0}, "replicates must be positive"),
        ({"batch_size": 0}, "batch_size must be positive"),
        ({"unit": "seconds"}, "unknown unit"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        forward_reverse(ToyPoints(), [Side()], [0.0], **options)


def test_features_with_nothing_to_lose_or_the_same_name_are_refused() -> None:
    class One(Side):
        labels = ("only",)

    with pytest.raises(InputError, match="only one label: nothing to lose"):
        forward_reverse(ToyPoints(), [One()], [0.0])
    with pytest.raises(InputError, match="same name"):
        forward_reverse(ToyPoints(), [Side(), Side()], [0.0])
    with pytest.raises(InputError, match="no features"):
        forward_reverse(ToyPoints(), [], [0.0])


def test_a_batch_that_does_not_fit_says_what_to_do() -> None:
    class Large(ToyPoints):
        def denoise(self, *args: Any, **options: Any) -> torch.Tensor:
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(InputError, match=r"got 16 rows; make batch_size smaller"):
        forward_reverse(Large(), Side(), [0.0], num_sources=3)


def test_progress_weighs_units_by_network_evaluations() -> None:
    seen: list[Any] = []
    forward_reverse(
        ToyPoints(), Side(), [2.0, -2.0], num_sources=6, batch_size=4, progress=seen.append
    )
    units = [state for state in seen if state.phase == "units"]
    assert [state.num_done for state in seen if state.phase == "sources"] == [4, 6]
    assert [state.cost_done for state in units] == [4, 6, 18, 24]
    assert {state.cost_total for state in units} == {24}
