"""The noise axis against 50-digit arithmetic, published numbers and real schedulers."""

from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from critwin.errors import InputError
from critwin.levels import (
    UNITS,
    alpha_sigma,
    from_logsnr,
    grid,
    logsnr_of_ou_time,
    ou_time,
    scheduler_logsnr,
    snap,
    to_logsnr,
)

mpmath.mp.dps = 50
POINTS = np.unique(np.concatenate([np.linspace(-80, 80, 321), np.geomspace(1e-9, 1, 40)]))
POINTS = np.unique(np.concatenate([POINTS, -POINTS[(POINTS > 0) & (POINTS < 1)]]))


def oracle_from(x: float, unit: str) -> Any:
    snr = mpmath.exp(mpmath.mpf(x))
    return {
        "logsnr": mpmath.mpf(x),
        "t": mpmath.log1p(1 / snr) / 2,
        "sigma": 1 / mpmath.sqrt(snr),
        "alpha_bar": snr / (1 + snr),
        "flow": 1 / (1 + mpmath.sqrt(snr)),
    }[unit]


def oracle_to(value: float, unit: str) -> Any:
    v = mpmath.mpf(float(value))
    snr = {
        "logsnr": lambda: mpmath.exp(v),
        "t": lambda: 1 / mpmath.expm1(2 * v),
        "sigma": lambda: 1 / v**2,
        "alpha_bar": lambda: v / (1 - v),
        "flow": lambda: ((1 - v) / v) ** 2,
    }[unit]()
    return mpmath.log(snr)


def relative(actual: NDArray[np.float64], truth: list[Any], floor: float = 0.0) -> float:
    return max(
        float(abs(mpmath.mpf(float(a)) - b) / max(abs(b), floor))
        for a, b in zip(actual, truth, strict=True)
    )


@pytest.mark.parametrize("unit", UNITS)
def test_from_logsnr_matches_fifty_digits(unit: str) -> None:
    assert len(POINTS) >= 200
    truth = [oracle_from(x, unit) for x in POINTS]
    assert relative(from_logsnr(POINTS, unit), truth, 1e-290) < 1e-12


@pytest.mark.parametrize("unit", UNITS)
def test_to_logsnr_matches_fifty_digits_at_the_number_given(unit: str) -> None:
    """The oracle converts the same float64 that the code got: nothing is excused by rounding."""
    values = from_logsnr(POINTS, unit)
    values = values[values < 1] if unit in ("alpha_bar", "flow") else values
    assert len(values) >= 200
    truth = [oracle_to(v, unit) for v in values]
    # t: near logsnr 0 accurate to a few 1e-16 absolutely, as documented
    floor = 1e-3 if unit == "t" else 1e-290
    assert relative(to_logsnr(values, unit), truth, floor) < 1e-12


@pytest.mark.parametrize("unit", UNITS)
def test_round_trips_within_the_documented_conditioning(unit: str) -> None:
    values = from_logsnr(POINTS, unit)
    usable = (values < 1) if unit in ("alpha_bar", "flow") else np.ones(len(POINTS), bool)
    error = np.abs(to_logsnr(values[usable], unit) - POINTS[usable])
    # digits lost to the distance to 1, see the module's docstring
    spread = {
        "alpha_bar": 2.2e-16 * (1 + np.exp(POINTS[usable])),
        "flow": 4.4e-16 * (1 + np.exp(-POINTS[usable] / 2)),
    }.get(unit, 0.0)
    assert np.all(error <= 1e-15 * np.maximum(np.abs(POINTS[usable]), 1) + spread)


def test_values_that_round_to_one_are_refused_where_the_docstring_says() -> None:
    assert from_logsnr(36.7, "alpha_bar") < 1
    assert from_logsnr(38.0, "alpha_bar") == 1
    assert from_logsnr(-73.0, "flow") < 1
    assert from_logsnr(-76.0, "flow") == 1
    for unit in ("alpha_bar", "flow"):
        with pytest.raises(InputError, match="strictly between 0 and 1"):
            to_logsnr(1.0, unit)


def test_published_times() -> None:
    """THEORY numbers, computed independently."""
    for logsnr, t in ((2.5, 0.0394448671462748), (-9.0, 4.50006170109486)):
        assert ou_time(logsnr) == pytest.approx(t, rel=2e-15)
    assert ou_time(20.0) == pytest.approx(1.03057681015719e-9, rel=2e-15)
    assert logsnr_of_ou_time(1.03057681015719e-9) == pytest.approx(20.0, rel=1e-14)


def test_alpha_and_sigma() -> None:
    alpha, sigma = alpha_sigma(POINTS)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-15)
    assert relative(alpha, [mpmath.sqrt(oracle_from(x, "alpha_bar")) for x in POINTS]) < 1e-12
    assert relative(sigma, [mpmath.sqrt(1 - oracle_from(x, "alpha_bar")) for x in POINTS]) < 1e-12
    np.testing.assert_allclose(np.exp(-ou_time(POINTS)), alpha, rtol=1e-12)


def test_ends_and_shapes() -> None:
    assert ou_time(np.inf) == 0
    assert ou_time(-np.inf) == np.inf
    assert logsnr_of_ou_time(0.0) == np.inf
    assert logsnr_of_ou_time(np.inf) == -np.inf
    assert np.isnan(logsnr_of_ou_time(np.nan))
    for unit in UNITS:
        assert from_logsnr(np.zeros((2, 3)), unit).shape == (2, 3)
        assert to_logsnr(np.full((2, 3), 0.5), unit).shape == (2, 3)
        assert to_logsnr(0.5, unit).dtype == np.float64
    given_array = np.array([1.0, 2.0])
    assert to_logsnr(given_array, "logsnr") is not given_array


@given(st.lists(st.floats(-80, 80), min_size=2, max_size=5), st.sampled_from(UNITS))
def test_conversions_are_monotone(points: list[float], unit: str) -> None:
    ordered = np.sort(points)
    values = from_logsnr(ordered, unit)
    sign = 1 if unit in ("logsnr", "alpha_bar") else -1
    assert np.all(sign * np.diff(values) >= 0)


@pytest.mark.parametrize("unit", UNITS)
def test_grids_are_uniform_in_their_unit_and_noise_grows(unit: str) -> None:
    ends = (0.2, 0.9)
    levels = grid(*ends, 7, unit=unit)
    assert levels.shape == (7,)
    assert np.all(np.diff(levels) < 0)
    np.testing.assert_allclose(np.sort(from_logsnr(levels, unit)), np.linspace(*ends, 7))
    np.testing.assert_array_equal(levels, grid(*ends[::-1], 7, unit=unit))
    assert sorted(levels[[0, -1]]) == sorted(to_logsnr(ends, unit))


# ------------------------------------------------------------------------- schedulers
def test_ddpm_and_stable_diffusion_end_where_published() -> None:
    from diffusers import DDIMScheduler, DDPMScheduler

    linear = scheduler_logsnr(DDPMScheduler())
    assert linear.shape == (1000,)
    assert np.all(np.diff(linear) < 0)
    assert ou_time(linear[-1]) == pytest.approx(5.059, abs=5e-4)
    stable = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    assert ou_time(scheduler_logsnr(stable)[-1]) == pytest.approx(2.684, abs=5e-4)


def test_vp_levels_equal_the_product_of_alphas() -> None:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler()
    betas = scheduler.betas.double().numpy()
    product = mpmath.mpf(1)
    levels = scheduler_logsnr(scheduler)
    for step, beta in enumerate(betas):
        product *= 1 - mpmath.mpf(float(beta))
        if step % 100 == 0:
            truth = mpmath.log(product / (1 - product))
            assert float(abs(levels[step] - truth) / max(abs(truth), 0.1)) < 1e-12
    # and agree with the scheduler's own float32 product as far as that goes
    rough = scheduler.alphas_cumprod.double().numpy()
    np.testing.assert_allclose(from_logsnr(levels, "alpha_bar"), rough, rtol=2e-5)


def test_zero_terminal_snr_has_no_last_level() -> None:
    from diffusers import DDIMScheduler, EulerDiscreteScheduler

    for kind in (DDIMScheduler, EulerDiscreteScheduler):
        levels = scheduler_logsnr(kind(rescale_betas_zero_snr=True))
        assert levels[-1] == -np.inf
        assert np.all(np.diff(levels[:-1]) < 0)
        assert np.isfinite(levels[:-1]).all()


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_schedulers(shift: float) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    levels = scheduler_logsnr(scheduler)
    assert levels[-1] == -np.inf
    sigmas = scheduler.sigmas.double().numpy()[::-1][:1000]
    np.testing.assert_allclose(from_logsnr(levels, "flow"), sigmas, rtol=1e-6)
    other = UniPCMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=shift
    )
    np.testing.assert_array_equal(scheduler_logsnr(other), levels)


def test_a_resolution_dependent_shift_is_left_out() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    dynamic = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    plain = FlowMatchEulerDiscreteScheduler(shift=1.0)
    np.testing.assert_array_equal(scheduler_logsnr(dynamic), scheduler_logsnr(plain))


def test_a_scheduler_without_betas_or_levels() -> None:
    bare = SimpleNamespace(alphas_cumprod=[0.9, 0.5, 0.0])
    levels = scheduler_logsnr(bare)
    np.testing.assert_allclose(levels, [np.log(9), 0, -np.inf])
    with pytest.raises(InputError, match="no noise levels: got SimpleNamespace"):
        scheduler_logsnr(SimpleNamespace())


# ----------------------------------------------------------------------------- guards
@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (np.nan, "logsnr"),
        (np.inf, "logsnr"),
        (0.0, "t"),
        (-1.0, "t"),
        (np.inf, "t"),
        (0.0, "sigma"),
        (-2.0, "sigma"),
        (0.0, "alpha_bar"),
        (1.5, "alpha_bar"),
        (0.0, "flow"),
        (1.0, "flow"),
        (np.nan, "flow"),
    ],
)
def test_levels_out_of_range_are_refused(value: float, unit: str) -> None:
    with pytest.raises(InputError, match=f"out of range for unit '{unit}'"):
        to_logsnr([0.5, value], unit)


def test_the_other_guards() -> None:
    for function in (to_logsnr, from_logsnr):
        with pytest.raises(InputError, match="unknown unit of noise: got strength"):
            function(0.5, "strength")
    with pytest.raises(InputError, match=r"negative OU time: got -0\.5"):
        logsnr_of_ou_time([1.0, -0.5])
    with pytest.raises(InputError, match="too few levels"):
        grid(0.1, 1.0, 1)
    with pytest.raises(InputError, match="coincide"):
        grid(1.0, 1.0, 3)
    with pytest.raises(InputError, match="out of range"):
        grid(0.1, np.inf, 3)
    with pytest.raises(InputError, match="neighbouring levels"):
        grid(1.0, 1.0 + 1e-15, 1000)


def test_snap_takes_the_nearest_level() -> None:
    levels = np.array([5.0, 1.0, -2.0, -np.inf])
    assert snap(0.9, levels) == (1, 1.0)
    assert snap(99.0, levels) == (0, 5.0)
    assert snap(-99.0, levels) == (2, -2.0)
    with pytest.raises(InputError, match="finite"):
        snap(np.nan, levels)
    with pytest.raises(InputError, match="no level"):
        snap(0.0, np.array([]))
    with pytest.raises(InputError, match="no level"):
        snap(0.0, np.array([-np.inf]))


@pytest.mark.parametrize(
    ("value", "unit"), [(1000.0, "t"), (1e-40, "t"), (1e20, "sigma"), (-81.0, "logsnr")]
)
def test_levels_beyond_the_axis_are_refused(value: float, unit: str) -> None:
    with pytest.raises(InputError, match=r"out of range.*wanted a logsnr from -80 to 80"):
        to_logsnr(value, unit)
    with pytest.raises(InputError, match="out of range"):
        grid(value, {"t": 1.0, "sigma": 1.0, "logsnr": 0.0}[unit], 5, unit=unit)
