"""Any denoiser as a model: every convention gives the same numbers; rows are independent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from critwin.errors import InputError
from critwin.levels import alpha_sigma, from_logsnr, to_logsnr
from critwin.models.base import Model, x_0_from_prediction
from critwin.models.denoiser import Denoiser
from critwin.models.mixture import MixtureModel
from critwin.streams import UnitStreams
from critwin.theory.mixtures import posterior_mean
from mixture_cases import FOUR

LOGSNR = -1.5


def streams(count: int, logsnr: float | None = LOGSNR, *, seed: int = 0) -> list[UnitStreams]:
    return [
        UnitStreams(seed=seed, source=f"s{n}", logsnr=logsnr, replicate=0) for n in range(count)
    ]


def exact(x: torch.Tensor, logsnr: float) -> torch.Tensor:
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    return posterior_mean(FOUR, x, alpha=alpha, sigma=sigma)


def network_for(prediction: str, frame: str, time: str, levels: np.ndarray | None = None) -> Any:
    """The exact denoiser of a mixture, dressed as a network of the given conventions."""

    def network(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        assert level.shape == (len(x),)
        assert len(level.unique()) == 1
        value = level[0].item()
        logsnr = float(levels[int(value)] if levels is not None else to_logsnr(value, time))
        alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
        vp = x * {"vp": 1.0, "ve": alpha, "flow": alpha + sigma}[frame]
        x_0 = exact(vp, logsnr)
        eps = (vp - alpha * x_0) / sigma
        return {
            "x_0": x_0,
            "eps": eps,
            "v": alpha * eps - sigma * x_0,
            "velocity": eps - x_0,
        }[prediction]

    return network


CONVENTIONS = [
    ("x_0", "vp", "logsnr"),
    ("eps", "vp", "t"),
    ("v", "vp", "alpha_bar"),
    ("eps", "ve", "sigma"),
    ("x_0", "ve", "sigma"),
    ("velocity", "flow", "flow"),
    ("velocity", "vp", "flow"),
]


@pytest.mark.parametrize(("prediction", "frame", "time"), CONVENTIONS)
@pytest.mark.parametrize("reversal", ["stochastic", "ode"])
def test_every_convention_gives_the_numbers_of_the_mixture(
    prediction: Any, frame: Any, time: str, reversal: str
) -> None:
    model = Denoiser(
        network_for(prediction, frame, time),
        prediction=prediction,
        frame=frame,
        time=time,
        shape=(1,),
        steps=24,
        dtype=torch.float64,
    )
    truth = MixtureModel(FOUR, steps=24)
    units = streams(8)
    noisy = truth.noise(truth.generate([None] * 8, streams(8, None)), LOGSNR, units)
    expected = truth.denoise(noisy, LOGSNR, [None] * 8, units, reversal)
    actual = model.denoise(noisy, LOGSNR, [None] * 8, units, reversal)
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(
        model.noise(noisy, LOGSNR, units), truth.noise(noisy, LOGSNR, units)
    )
    wrong = Denoiser(
        network_for(prediction, frame, time),
        prediction="eps" if prediction != "eps" else "x_0",
        frame=frame,
        time=time,
        shape=(1,),
        steps=24,
        dtype=torch.float64,
    ).denoise(noisy, LOGSNR, [None] * 8, units, reversal)
    assert float((wrong - expected).abs().max()) > 0.1  # a wrong convention is seen


def test_predictions_are_inverted() -> None:
    generator = torch.Generator().manual_seed(0)
    x_0, eps = (torch.randn((5, 3), generator=generator, dtype=torch.float64) for _ in range(2))
    for logsnr in (-8.0, 0.3, 9.0):
        alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
        x_t = alpha * x_0 + sigma * eps
        outputs = {
            "x_0": x_0,
            "eps": eps,
            "v": alpha * eps - sigma * x_0,
            "velocity": eps - x_0,
        }
        for name, output in outputs.items():
            back = x_0_from_prediction(output, x_t, logsnr, name)  # type: ignore[arg-type]
            torch.testing.assert_close(back, x_0, rtol=1e-9, atol=1e-9)
    with pytest.raises(InputError, match="unknown prediction"):
        x_0_from_prediction(x_0, x_0, 0.0, "noise")  # type: ignore[arg-type]


# --- levels -------------------------------------------------------------------------------

BETAS = np.linspace(1e-4, 0.02, 1000)
SCHEDULER = SimpleNamespace(
    betas=BETAS, alphas_cumprod=np.cumprod(1 - BETAS), config=SimpleNamespace()
)


def test_scheduler_levels_and_step_indices() -> None:
    seen: list[int] = []
    inner: list[Any] = []

    def network(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        assert step.dtype == torch.int64
        seen.append(int(step[0]))
        return inner[0](x, step)

    model = Denoiser(
        network, prediction="eps", shape=(1,), levels=SCHEDULER, time="step", steps=20
    )
    assert model.levels is not None
    assert len(model.levels) == 1000
    assert np.all(np.diff(model.levels) < 0)
    inner.append(network_for("eps", "vp", "step", model.levels))
    start = float(model.levels[612])
    noisy = torch.zeros(3, 1)
    model.denoise(noisy, start, [None] * 3, streams(3, start), "ode")
    assert seen[0] == 612
    assert seen[-1] == 0  # run to the cleanest level
    assert np.all(np.diff(seen) < 0)
    assert len(seen) == model.num_evaluations(start)
    with pytest.raises(InputError, match="cannot start from this level"):
        model.denoise(noisy, start + 0.001, [None] * 3, streams(3), "ode")
    with pytest.raises(InputError, match="cannot start from this level"):
        model.noise(noisy, start + 0.001, streams(3))
    seen.clear()
    model.denoise(noisy, float(model.levels[0]), [None] * 3, streams(3))
    assert seen == [0]
    seen.clear()
    model.generate([None] * 2, streams(2, None))
    assert (seen[0], len(seen)) == (999, 20)
    seen.clear()
    model.denoise(noisy, float(model.levels[-1]), [None] * 3, streams(3), steps=5000)
    assert seen == list(range(999, -1, -1))  # never more than there are


def test_levels_without_signal_keep_their_index_but_are_not_used() -> None:
    levels = np.array([4.0, 1.0, -2.0, -np.inf])
    seen: list[int] = []

    def network(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        seen.append(int(step[0]))
        return torch.zeros_like(x)

    model = Denoiser(network, shape=(1,), levels=levels, time="step")
    assert model.levels is not None
    assert model.levels.tolist() == [4.0, 1.0, -2.0]
    model.generate([None], streams(1, None))
    assert seen == [2, 1, 0]
    rising = Denoiser(network, shape=(1,), levels=levels[2::-1].copy(), time="step")
    seen.clear()
    rising.generate([None], streams(1, None))
    assert seen == [0, 1, 2]  # indices as the function counts them


def test_level_passed_to_the_function() -> None:
    for time in ("logsnr", "t", "sigma", "alpha_bar", "flow", lambda logsnr: 2 * logsnr):
        seen: list[torch.Tensor] = []

        def network(x: torch.Tensor, level: torch.Tensor, seen: Any = seen) -> torch.Tensor:
            seen.append(level)
            return x

        model = Denoiser(network, shape=(2,), time=time, steps=3)
        model.denoise(torch.zeros(4, 2), LOGSNR, [None] * 4, streams(4))
        expected = 2 * LOGSNR if callable(time) else float(from_logsnr(LOGSNR, time))
        assert seen[0].shape == (4,)
        assert seen[0].dtype == torch.float32
        assert seen[0][0].item() == pytest.approx(expected, rel=1e-6)


# --- backends -----------------------------------------------------------------------------


def test_numpy_functions_get_float32_arrays() -> None:
    torch_network = network_for("eps", "vp", "logsnr")

    def network(x: np.ndarray, level: np.ndarray) -> np.ndarray:
        assert isinstance(x, np.ndarray)
        assert (x.dtype, level.dtype) == (np.float32, np.float32)
        result = torch_network(torch.from_numpy(x), torch.from_numpy(level))
        return np.asarray(result.numpy())

    options: dict[str, Any] = {"prediction": "eps", "shape": (1,), "steps": 8}
    numpy_model = Denoiser(network, backend="numpy", **options)
    torch_model = Denoiser(torch_network, **options)
    noisy = torch.linspace(-2, 2, 5)[:, None]
    actual = numpy_model.denoise(noisy, LOGSNR, [None] * 5, streams(5))
    expected = torch_model.denoise(noisy, LOGSNR, [None] * 5, streams(5))
    assert torch.equal(actual, expected)
    assert actual.dtype == torch.float32
    assert numpy_model.fingerprint != torch_model.fingerprint


class FakeSession:
    """What an ONNX Runtime inference session looks like."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name=name) for name in self.names]

    def run(self, _: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        assert set(feed) == set(self.names)
        return [feed["sample"] * np.float32(0.5)]


def test_an_onnx_session_is_fed_in_order() -> None:
    model = Denoiser(FakeSession(("sample", "timestep")), shape=(2,), steps=1)
    noisy = torch.ones(3, 2)
    out = model.denoise(noisy, LOGSNR, [None] * 3, streams(3))
    assert torch.equal(out, torch.full((3, 2), 0.5))
    wrong = Denoiser(FakeSession(("sample",)), shape=(2,), steps=1)
    with pytest.raises(InputError, match="another number of inputs"):
        wrong.denoise(noisy, LOGSNR, [None] * 3, streams(3))


class Network(torch.nn.Module):
    """A small convolutional network with the level as a bias."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
            self.last = torch.nn.Conv2d(8, 3, 3, padding=1)

    def forward(
        self, x: torch.Tensor, level: torch.Tensor, label: torch.Tensor | None = None
    ) -> Any:
        bias = level if label is None else level + label
        hidden = torch.nn.functional.silu(self.first(x) + bias[:, None, None, None].to(x.dtype))
        return SimpleNamespace(sample=self.last(hidden))  # diffusers' models wrap their output


def test_a_module_gives_dtype_device_and_fingerprint() -> None:
    model = Denoiser(Network().double(), prediction="v", shape=(3, 8, 8), steps=4)
    noisy = torch.zeros(2, 3, 8, 8)
    out = model.denoise(noisy, LOGSNR, [None] * 2, streams(2))
    assert out.dtype == torch.float64
    assert not out.requires_grad
    out += 1  # an ordinary tensor, not one of inference mode
    half = Denoiser(Network().bfloat16(), prediction="v", shape=(3, 8, 8), steps=4)
    assert half.denoise(noisy, LOGSNR, [None] * 2, streams(2)).dtype == torch.float32
    prints = [
        Denoiser(Network(seed), prediction="v", shape=(3, 8, 8)).fingerprint for seed in (0, 0, 1)
    ]
    assert prints[0] == prints[1] != prints[2]


def test_fingerprint_follows_every_option_that_changes_numbers() -> None:
    network = network_for("x_0", "vp", "logsnr")
    base: dict[str, Any] = {"shape": (1,), "levels": [3.0, 0.0, -3.0]}
    changes: list[dict[str, Any]] = [
        {},
        {"prediction": "eps"},
        {"frame": "ve"},
        {"time": "t"},
        {"backend": "numpy"},
        {"conditions": ["a"]},
        {"guidance": 2.0},
        {"steps": 7},
        {"end": 0.0},
        {"spacing": "logsnr"},
        {"order": 1},
        {"levels": [3.0, 0.5, -3.0]},
        {"dtype": torch.float64},
        {"fingerprint": "weights-v2"},
        {"name": "other"},
    ]
    prints = [Denoiser(network, **(base | change)).fingerprint for change in changes]
    assert len(set(prints)) == len(changes)
    assert Denoiser(network, **base).fingerprint == prints[0]


# --- rows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reversal", ["stochastic", "ode"])
def test_a_row_is_bit_identical_wherever_it_stands(reversal: str) -> None:
    model = Denoiser(
        Network(), prediction="v", shape=(3, 8, 8), steps=6, conditions=("a", "b"), guidance=1.5
    )
    units, conditions = streams(5), ["a", None, "b", "a", None]
    noisy = model.noise(torch.zeros(5, 3, 8, 8), LOGSNR, units)
    whole = model.denoise(noisy, LOGSNR, conditions, units, reversal)
    order = [3, 0, 4, 1, 2]
    moved = model.denoise(
        noisy[order],
        LOGSNR,
        [conditions[n] for n in order],
        [units[n] for n in order],
        reversal,
    )
    assert torch.equal(moved, whole[order])
    spoilt = noisy.clone()
    spoilt[2] = torch.nan
    kept = model.denoise(spoilt, LOGSNR, conditions, units, reversal)
    assert torch.equal(kept[[0, 1, 3, 4]], whole[[0, 1, 3, 4]])
    assert bool(torch.isnan(kept[2]).all())
    generated = model.generate(conditions, streams(5, None))
    again = model.generate([conditions[n] for n in order], [streams(5, None)[n] for n in order])
    assert torch.equal(again, generated[order])
    other = model.denoise(noisy, LOGSNR, conditions, streams(5, seed=1), reversal)
    assert torch.equal(other, whole) == (reversal == "ode")


def test_generated_samples_follow_the_law() -> None:
    model = Denoiser(network_for("eps", "vp", "logsnr"), prediction="eps", shape=(1,), steps=60)
    x = model.generate([None] * 1500, streams(1500, None))[:, 0].numpy()

    def cdf(value: np.ndarray) -> np.ndarray:
        sd = np.sqrt(FOUR.eigenvalues[:, 0].numpy())
        z = (value[:, None] - FOUR.means[:, 0].numpy()) / sd
        return np.asarray(norm.cdf(z) @ FOUR.weights.numpy())

    assert kstest(x, cdf).pvalue > 1e-3
    few = Denoiser(
        network_for("eps", "vp", "logsnr"), prediction="eps", shape=(1,), steps=4, order=1
    )
    bad = few.generate([None] * 1500, streams(1500, None))[:, 0].numpy()
    assert kstest(bad, cdf).pvalue < 1e-3  # the test sees a bad sampler


# --- conditions ---------------------------------------------------------------------------


def labelled(x: torch.Tensor, level: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return label[:, None].to(x.dtype) * torch.ones_like(x)


def test_conditions_are_indices_and_none_comes_last() -> None:
    model = Denoiser(labelled, shape=(2,), steps=1, conditions=("cat", "dog"))
    noisy = torch.zeros(3, 2)
    out = model.denoise(noisy, LOGSNR, ["dog", None, "cat"], streams(3))
    assert out[:, 0].tolist() == [1.0, 2.0, 0.0]
    guided = model.denoise(noisy, LOGSNR, ["dog", None, "cat"], streams(3), guidance=3.0)
    assert guided[:, 0].tolist() == [2 + 3 * (1 - 2), 2.0, 2 + 3 * (0 - 2)]
    assert model.num_evaluations(LOGSNR, guidance=3.0) == 2 * model.num_evaluations(LOGSNR)
    with pytest.raises(InputError, match="does not know this condition"):
        model.denoise(noisy, LOGSNR, ["cow", None, "cat"], streams(3))


def test_encoded_conditions_take_any_text() -> None:
    def encode(prompts: Any) -> torch.Tensor:
        return torch.tensor([0 if p is None else len(p) for p in prompts])

    model = Denoiser(labelled, shape=(2,), steps=1, encode=encode)
    assert model.conditions is None
    out = model.denoise(torch.zeros(2, 2), LOGSNR, ["a cat", None], streams(2))
    assert out[:, 0].tolist() == [5.0, 0.0]


def test_decoding() -> None:
    images = Denoiser(Network(), shape=(3, 2, 2))
    clean = torch.tensor([-2.0, -1.0, 0.0, 1.0]).reshape(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert images.decode(clean)[0, 0].flatten().tolist() == [0.0, 0.0, 0.5, 1.0]
    points = Denoiser(labelled, shape=(2,))
    assert torch.equal(points.decode(torch.full((1, 2), -3.0)), torch.full((1, 2), -3.0))
    own = Denoiser(labelled, shape=(2,), decode=lambda x: x + 1)
    assert torch.equal(own.decode(torch.zeros(1, 2)), torch.ones(1, 2))
    assert isinstance(images, Model)


# --- guards -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"function": 3}, "not a denoiser"),
        ({"prediction": "noise"}, "unknown prediction"),
        ({"frame": "edm"}, "unknown frame"),
        ({"time": "hours"}, "unknown time"),
        ({"time": "step"}, "needs levels"),
        ({"backend": "jax"}, "unknown backend"),
        ({"order": 3}, "unknown order"),
        ({"shape": ()}, "not the shape of a sample"),
        ({"levels": [[0.0]]}, "not a list of logsnr"),
        ({"levels": [0.0, 0.0]}, "two levels are equal"),
        ({"levels": [np.nan]}, "not a list of logsnr"),
        ({"conditions": "cat"}, "distinct conditions"),
        ({"conditions": ["cat", "cat"]}, "distinct conditions"),
        ({"start": 5.0, "end": 0.0}, "from noise to clean"),
        ({"steps": 0}, "too few steps"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"function": labelled, "shape": (2,)}
    with pytest.raises(InputError, match=message):
        Denoiser(**(good | options))


@pytest.mark.parametrize(
    "network",
    [lambda x, _: x[:1], lambda x, _: [1, 2], lambda x, _: x[..., :1]],
)
def test_a_function_that_returns_something_else_is_refused(network: Any) -> None:
    model = Denoiser(network, shape=(2,))
    with pytest.raises(InputError, match="something else than a prediction"):
        model.denoise(torch.zeros(3, 2), LOGSNR, [None] * 3, streams(3))


def test_bad_batches_are_refused() -> None:
    model = Denoiser(lambda x, _: x, shape=(2,))
    with pytest.raises(InputError, match="samples have the wrong shape"):
        model.denoise(torch.zeros(3, 1), LOGSNR, [None] * 3, streams(3))
    with pytest.raises(InputError, match="samples have the wrong shape"):
        model.noise(torch.zeros(2, 2), LOGSNR, streams(3))
    with pytest.raises(InputError, match="conditions do not fit"):
        model.denoise(torch.zeros(3, 2), LOGSNR, [None], streams(3))
    with pytest.raises(InputError, match="unknown reversal"):
        model.denoise(torch.zeros(3, 2), LOGSNR, [None] * 3, streams(3), "posterior")
