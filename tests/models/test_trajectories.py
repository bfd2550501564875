"""Reversals that stop on their way: the same law, whatever the segments."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest, norm

from critwin.errors import InputError
from critwin.levels import alpha_sigma, logsnr_of_ou_time
from critwin.models.base import Trajectories, trajectories_of
from critwin.models.denoiser import Denoiser
from critwin.models.mixture import MixtureModel
from critwin.models.samplers import advance
from critwin.streams import UnitStreams
from critwin.theory.mixtures import GaussianMixture, posterior_draw, posterior_mean

MIXTURE = GaussianMixture(
    weights=[0.5, 0.2, 0.3], means=[[-3.0], [0.5], [4.0]], covariances=[[[1.0]], [[0.3]], [[0.5]]]
)
HIGH, MIDDLE, LOW = (float(logsnr_of_ou_time(t)) for t in (2.5, 1.2, 0.4))


def streams(num: int, name: str = "s") -> list[UnitStreams]:
    return [UnitStreams(0, f"{name}{i}", None, 0) for i in range(num)]


def network(**options: Any) -> Denoiser:
    """The mixture's exact denoiser as a plain function of a batch."""

    def function(x: torch.Tensor, level: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        alpha, sigma = (float(v) for v in alpha_sigma(float(level[0])))
        return posterior_mean(MIXTURE, x, alpha=alpha, sigma=sigma)

    return Denoiser(function, shape=(1,), dtype=torch.float64, **options)


def noised_law(x: np.ndarray, logsnr: float) -> np.ndarray:
    """Distribution function of the noised mixture."""
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    means, variances = np.array([-3.0, 0.5, 4.0]), np.array([1.0, 0.3, 0.5])
    scale = np.sqrt(alpha**2 * variances + sigma**2)
    return norm.cdf((x[:, None] - alpha * means) / scale) @ np.array([0.5, 0.2, 0.3])


@pytest.mark.parametrize("reversal", ["posterior", "stochastic", "ode"])
def test_a_mixture_passes_through_its_own_noised_laws(reversal: str) -> None:
    model = MixtureModel(MIXTURE, steps=200)
    rows = streams(3000)
    x = model.pure_noise(rows)
    assert kstest(x[:, 0].numpy(), lambda v: noised_law(v, model.start_logsnr)).pvalue > 1e-3
    level = model.start_logsnr
    for number, stop in enumerate((HIGH, MIDDLE, LOW)):
        x = model.partial(
            x, level, stop, [None] * 3000, rows, reversal, purpose=f"segment{number}"
        )
        law = kstest(x[:, 0].numpy(), lambda v, at=stop: noised_law(v, at))
        assert law.pvalue > 1e-3, (stop, law)
        level = stop


def test_segments_that_share_their_noise_are_noticed() -> None:
    """The planted bug: one purpose for two segments ties their noise together."""
    model = MixtureModel(MIXTURE)
    rows = streams(4000)
    tied, free = [], []
    for out, second in ((tied, "reverse"), (free, "second")):
        x = model.noise(torch.zeros(4000, 1), HIGH, rows)
        y = model.partial(x, HIGH, MIDDLE, [None] * 4000, rows, "posterior")
        z = model.partial(y, MIDDLE, LOW, [None] * 4000, rows, "posterior", purpose=second)
        out.extend(z[:, 0].tolist())
    assert ks_2samp(tied, free).pvalue < 1e-6


@pytest.mark.parametrize("order", [1, 2])
def test_the_ode_takes_the_same_way_in_segments(order: int) -> None:
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    rows, none = streams(9), [None] * 9
    gaps = []
    for steps in (60, 480):
        model = network(steps=steps, order=order)
        whole = model.denoise(x, HIGH, none, rows, "ode")
        half = model.partial(x, HIGH, MIDDLE, none, rows, "ode")
        rest = model.denoise(half, MIDDLE, none, rows, "ode")
        gaps.append(float((rest - whole).abs().max()))
    assert gaps[1] < gaps[0] / 6 < 0.05, gaps  # at least first order


def test_first_order_segments_are_the_whole_bit_for_bit() -> None:
    def denoise(x: torch.Tensor, logsnr: float) -> torch.Tensor:
        return torch.tanh(x) * logsnr

    path = np.linspace(-4, 4, 9)
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    whole = advance(denoise, x, path, None, order=1)
    half = advance(denoise, x, path[:4], None, order=1)
    assert torch.equal(advance(denoise, half, path[3:], None, order=1), whole)
    assert not torch.equal(
        advance(denoise, advance(denoise, x, path[:4], None), path[3:], None),
        advance(denoise, x, path, None),
    )  # second order forgets the step before


def test_stochastic_segments_have_the_law_of_the_whole() -> None:
    model = network(steps=80)
    rows, none = streams(4000), [None] * 4000
    x = model.pure_noise(rows)
    whole = model.denoise(x, model.start_logsnr, none, rows)
    half = model.partial(x, model.start_logsnr, MIDDLE, none, rows, purpose="first")
    assert kstest(half[:, 0].numpy(), lambda v: noised_law(v, MIDDLE)).pvalue > 1e-3
    rest = model.denoise(half, MIDDLE, none, rows, purpose="second")
    assert ks_2samp(whole[:, 0].numpy(), rest[:, 0].numpy()).pvalue > 1e-3


def test_previews_are_posterior_means() -> None:
    x = torch.linspace(-3, 3, 11, dtype=torch.float64)[:, None]
    alpha, sigma = (float(v) for v in alpha_sigma(MIDDLE))
    wanted = posterior_mean(MIXTURE, x, alpha=alpha, sigma=sigma)
    for model in (network(), MixtureModel(MIXTURE)):
        torch.testing.assert_close(model.predict(x, MIDDLE, [None] * 11), wanted)


class Counting:
    """A conditional function that counts its calls."""

    def __init__(self) -> None:
        self.levels: list[float] = []

    def __call__(self, x: torch.Tensor, level: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        self.levels.append(float(level[0]))
        return 0.1 * x + label[:, None].to(x.dtype)


def guided(interval: Sequence[float] | None, guidance: float | None) -> tuple[Denoiser, Counting]:
    function = Counting()
    model = Denoiser(
        function,
        shape=(1,),
        conditions=["a", "b"],
        guidance=guidance,
        guidance_interval=interval,
        time="t",
        steps=30,
    )
    return model, function


def test_guidance_in_an_interval() -> None:
    x, rows = torch.ones(2, 1), streams(2)

    def result(interval: Sequence[float] | None, guidance: float | None) -> torch.Tensor:
        model, function = guided(interval, guidance)
        out = model.denoise(x, -6.0, ["a", "b"], rows)
        assert len(function.levels) == model.num_evaluations(-6.0)
        twice = [t for t in set(function.levels) if function.levels.count(t) == 2]
        if interval is not None and guidance is not None:
            assert all(interval[0] <= t <= interval[1] + 1e-6 for t in twice)
        return out

    plain = result(None, None)
    everywhere = result(None, 3.0)
    assert torch.equal(result([0.0, 100.0], 3.0), everywhere)
    assert torch.equal(result([50.0, 100.0], 3.0), plain)
    between = result([0.2, 0.8], 3.0)
    assert not torch.equal(between, plain)
    assert not torch.equal(between, everywhere)
    model, function = guided([0.2, 0.8], 3.0)
    model.partial(x, -6.0, 0.5, ["a", "b"], rows)
    assert len(function.levels) == model.num_evaluations(-6.0, stop=0.5)
    prints = {guided(i, 3.0)[0].fingerprint for i in (None, [0.2, 0.8], [0.2, 0.9])}
    assert len(prints) == 3


@pytest.mark.parametrize("interval", [[0.8, 0.2], [0.1], ["a", "b"], [-1, 2], 3])
def test_no_interval(interval: Any) -> None:
    with pytest.raises(InputError, match="not an interval of guidance"):
        guided(interval, 2.0)


def test_stops_are_cleaner() -> None:
    rows = streams(2)
    for model in (network(), MixtureModel(MIXTURE)):
        with pytest.raises(InputError, match="must stop at a cleaner level"):
            model.partial(torch.zeros(2, 1), LOW, HIGH, [None] * 2, rows)


def test_the_digits_stop_on_their_way() -> None:
    from critwin.models.digits.loading import load_digits

    model = load_digits(steps=4)
    assert isinstance(model, Trajectories)
    assert model.levels is not None
    rows = streams(2)
    x = model.pure_noise(rows)
    stop = float(model.levels[400])
    half = model.partial(x, model.start_logsnr, stop, ["3", None], rows)
    assert half.shape == x.shape == model.predict(half, stop, ["3", None]).shape
    assert model.denoise(half, stop, ["3", None], rows, purpose="second").shape == x.shape


def test_models_that_cannot_stop_say_so() -> None:
    class Plain:
        name = "plain"

    with pytest.raises(InputError, match="cannot stop a reversal on its way"):
        trajectories_of(Plain())  # type: ignore[arg-type]


def test_a_one_step_model_is_called_once() -> None:
    """A posterior draw dressed as a consistency model: its windows are those of the posterior."""
    generator = torch.Generator().manual_seed(0)
    calls: list[float] = []

    def function(x: torch.Tensor, logsnr: torch.Tensor) -> torch.Tensor:
        calls.append(float(logsnr[0]))
        alpha, sigma = (float(v) for v in alpha_sigma(float(logsnr[0])))
        return posterior_draw(MIXTURE, x, alpha=alpha, sigma=sigma, generator=generator).x

    model = Denoiser(function, prediction="sample", shape=(1,), dtype=torch.float64, steps=40)
    assert model.reversals == ("one_step",)
    assert model.num_evaluations(MIDDLE) == 1
    rows, none = streams(3000), [None] * 3000
    x = model.generate(none, rows)
    assert calls == [model.start_logsnr]
    noisy = model.noise(x, MIDDLE, rows)
    again = model.denoise(noisy, MIDDLE, none, rows)
    assert len(calls) == 2
    assert ks_2samp(x[:, 0].numpy(), again[:, 0].numpy()).pvalue > 1e-3
    half = model.partial(noisy, MIDDLE, LOW, none, rows)
    assert len(calls) == 3 == 2 + model.num_evaluations(MIDDLE, stop=LOW)
    assert kstest(half[:, 0].numpy(), lambda v: noised_law(v, LOW)).pvalue > 1e-3
    with pytest.raises(InputError, match="unknown reversal"):
        model.denoise(noisy, MIDDLE, none, rows, "ode")
