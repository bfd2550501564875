"""The mixture as a model: its reversals against the exact transitions of each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from critwin.errors import InputError
from critwin.levels import alpha_sigma, logsnr_of_ou_time
from critwin.models.base import Model
from critwin.models.mixture import MixtureModel
from critwin.streams import UnitStreams
from critwin.theory.exact import exact_transitions
from critwin.theory.mixtures import GaussianMixture, posterior_probs
from critwin.theory.ode import ode_map, ode_transitions
from mixture_cases import FOUR, random_mixture

PAIR = GaussianMixture(means=[-6.0, 6.0], names=["left", "right"])


def streams(count: int, logsnr: float | None = None, *, seed: int = 0) -> list[UnitStreams]:
    return [
        UnitStreams(seed=seed, source=f"s{n}", logsnr=logsnr, replicate=0) for n in range(count)
    ]


def test_it_is_a_model() -> None:
    model = MixtureModel(FOUR)
    assert isinstance(model, Model)
    assert model.levels is None
    assert model.sample_shape == (1,)
    assert model.conditions == ("0", "1", "2", "3")
    assert model.reversals == ("posterior", "stochastic", "ode")
    assert model.prior("component") == pytest.approx({"0": 0.4, "1": 0.3, "2": 0.2, "3": 0.1})
    assert model.prior("colour") is None


def test_generated_samples_follow_the_law_and_their_components_are_planted() -> None:
    model, units = MixtureModel(FOUR), streams(4000)
    x = model.generate([None] * 4000, units)
    assert x.dtype == torch.float64
    planted = model.planted([None] * 4000, units)["component"]

    def cdf(value: np.ndarray) -> np.ndarray:
        sd = np.sqrt(FOUR.eigenvalues[:, 0].numpy())
        z = (value[:, None] - FOUR.means[:, 0].numpy()) / sd
        return np.asarray(norm.cdf(z) @ FOUR.weights.numpy())

    assert kstest(x[:, 0].numpy(), cdf).pvalue > 1e-3
    for k, name in enumerate(FOUR.names):
        own = x[planted == name][:, 0].numpy()
        sd = float(FOUR.eigenvalues[k, 0].sqrt())
        assert kstest((own - float(FOUR.means[k, 0])) / sd, norm.cdf).pvalue > 1e-3
    asked = model.planted(["2", None, "0"], streams(3))["component"]
    assert (asked[0], asked[2]) == ("2", "0")


@pytest.mark.parametrize("reversal", ["posterior", "stochastic"])
def test_stochastic_reversals_agree_with_the_exact_transitions(reversal: str) -> None:
    logsnr, num = float(logsnr_of_ou_time(1.5)), 3000
    model, units = MixtureModel(FOUR), streams(num, logsnr)
    clean = model.generate([None] * num, streams(num))
    before = model.planted([None] * num, streams(num))["component"].astype(int)
    noisy = model.noise(clean, logsnr, units)
    image = model.denoise(noisy, logsnr, [None] * num, units, reversal)
    probs = posterior_probs(FOUR, image, alpha=1.0, sigma=0.0).numpy()
    truth = exact_transitions(FOUR, [logsnr]).probs[0]
    ode = ode_transitions(FOUR, [logsnr]).probs[0]
    gaps, twin_gaps = [], []
    for k in range(4):
        own = probs[before == k]
        stderr = own.std(axis=0, ddof=1) / np.sqrt(len(own))
        gaps.append(np.abs(own.mean(axis=0) - truth[k]) / stderr)
        twin_gaps.append(np.abs(own.mean(axis=0) - ode[k]) / stderr)
    # the bias of 128 steps is below 1e-3, the standard errors are about 1.5e-2
    assert np.max(gaps) < 4
    assert np.max(twin_gaps) > 4  # the ODE has another truth


def test_the_ode_reversal_follows_the_exact_flow() -> None:
    logsnr = float(logsnr_of_ou_time(1.5))
    model = MixtureModel(FOUR, steps=512)
    noisy = torch.linspace(-3, 3, 61, dtype=torch.float64)[:, None]
    image = model.denoise(noisy, logsnr, [None] * 61, streams(61), "ode")
    truth = ode_map(FOUR, noisy, logsnr=logsnr)
    error = (image - truth).abs()[:, 0]
    assert float(error.median()) < 2e-3
    coarse = MixtureModel(FOUR, steps=64).denoise(noisy, logsnr, [None] * 61, streams(61), "ode")
    assert float((coarse - truth).abs().median()) > 16 * float(error.median())  # order 2


def test_ode_and_posterior_differ_as_predicted() -> None:
    """Two equal Gaussians: stay is Phi(k) under the ODE and phi(k) under the posterior draw."""
    k, num = 1.0, 4000
    logsnr = float(logsnr_of_ou_time(np.log(6.0 / k)))
    model, units = MixtureModel(PAIR), streams(num, logsnr)
    clean = model.generate([None] * num, streams(num))
    noisy = model.noise(clean, logsnr, units)
    for reversal, truth in (("ode", norm.cdf(k)), ("posterior", 0.775200)):
        image = model.denoise(noisy, logsnr, [None] * num, units, reversal)
        share = float((torch.sign(image) == torch.sign(clean)).double().mean())
        stderr = np.sqrt(truth * (1 - truth) / num)
        assert abs(share - truth) < 4 * stderr
        other = 0.775200 + norm.cdf(k) - truth
        assert abs(share - other) > 4 * stderr


@pytest.mark.parametrize("reversal", ["posterior", "stochastic", "ode"])
def test_a_row_depends_on_its_own_stream_only(reversal: str) -> None:
    mixture = random_mixture("full", is_shared=False)
    model, units = MixtureModel(mixture, steps=8), streams(6, 0.0)
    conditions = [None, "0", None, "1", "2", None]
    clean = model.generate(conditions, streams(6))
    noisy = model.noise(clean, 0.0, units)
    image = model.denoise(noisy, 0.0, conditions, units, reversal)
    order = [4, 2, 0, 1, 5, 3]

    def moved(value: list) -> list:
        return [value[n] for n in order]

    again = model.denoise(noisy[order], 0.0, moved(conditions), moved(units), reversal)
    torch.testing.assert_close(again, image[order], rtol=1e-13, atol=1e-13)
    spoilt = noisy.clone()
    spoilt[3] = torch.nan
    kept = model.denoise(spoilt, 0.0, conditions, units, reversal)
    others = [0, 1, 2, 4, 5]
    assert torch.equal(kept[others], image[others])
    fresh = model.denoise(noisy, 0.0, conditions, streams(6, 0.0, seed=1), reversal)
    assert torch.equal(fresh, image) == (reversal == "ode")


def test_conditions_restrict_the_prior_and_guidance_exaggerates_it() -> None:
    logsnr, num = -6.0, 200
    model, units = MixtureModel(PAIR), streams(num, logsnr)
    noisy = model.noise(torch.zeros(num, 1, dtype=torch.float64), logsnr, units)
    for reversal in model.reversals:
        image = model.denoise(noisy, logsnr, ["right"] * num, units, reversal)
        assert float(image.min()) > 0
    plain = model.denoise(noisy, logsnr, ["right"] * num, units, "ode", guidance=1.0)
    pushed = model.denoise(noisy, logsnr, ["right"] * num, units, "ode", guidance=2.0)
    assert float((pushed - plain).mean()) > 0.1
    assert torch.equal(plain, model.denoise(noisy, logsnr, ["right"] * num, units, "ode"))


def test_noise_is_float64_of_float32_draws_and_shared_by_all_levels() -> None:
    model, units = MixtureModel(FOUR), streams(5, 1.0)
    clean = model.generate([None] * 5, streams(5)).float()
    alpha, sigma = (float(v) for v in alpha_sigma(1.0))
    z = (model.noise(clean, 1.0, units) - alpha * clean.double()) / sigma
    alpha, sigma = (float(v) for v in alpha_sigma(-3.0))
    same = (model.noise(clean, -3.0, units) - alpha * clean.double()) / sigma
    torch.testing.assert_close(z, same, rtol=1e-12, atol=1e-12)
    assert z.dtype == torch.float64


def test_number_of_evaluations_is_what_happens() -> None:
    model = MixtureModel(FOUR, steps=30)
    assert model.num_evaluations(0.0, reversal="posterior") == 1
    legs = [model.num_evaluations(0.0, reversal="ode", stop=2.0), model.num_evaluations(2.0)]
    assert model.num_evaluations(0.0, stop=2.0) == legs[1] == 1
    assert legs[0] == len(model.schedule.between(0.0, 2.0)) - 1
    assert model.num_evaluations(0.0, reversal="ode") == len(model.schedule.path(0.0))
    assert model.num_evaluations(0.0, reversal="ode", guidance=2.0) == 2 * len(
        model.schedule.path(0.0)
    )


def test_fingerprint_follows_mixture_and_sampler() -> None:
    prints = {
        MixtureModel(m, **options).fingerprint
        for m in (FOUR, PAIR)
        for options in ({}, {"steps": 64}, {"order": 1}, {"end": 9.0}, {"spacing": "logsnr"})
    }
    assert len(prints) == 10
    assert MixtureModel(FOUR).fingerprint in prints


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: MixtureModel("law"), "not a mixture"),  # type: ignore[arg-type]
        (lambda m: MixtureModel(FOUR, order=3), "unknown order"),  # type: ignore[arg-type]
        (lambda m: m.generate([None], streams(2)), "conditions do not fit"),
        (lambda m: m.generate(["up"], streams(1)), "does not know this condition"),
        (lambda m: m.noise(torch.zeros(2, 1), 0.0, streams(1)), "points have the wrong shape"),
        (lambda m: m.noise(torch.zeros(1, 1), np.nan, streams(1)), "must be finite"),
        (
            lambda m: m.denoise(torch.zeros(1, 1), 0.0, [None], streams(1), "magic"),
            "unknown reversal",
        ),
        (
            lambda m: m.denoise(torch.zeros(1, 1), 0.0, [None], streams(1), guidance=3.0),
            "guidance needs a sampler",
        ),
    ],
)
def test_bad_calls_are_refused(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(MixtureModel(PAIR))  # type: ignore[operator]
