"""Measured windows of pipelines cover the truth of the reversal that ran.

The network is the exact posterior mean of a mixture, inside the real pipeline with its real
scheduler. Stochastic schedulers are held against the exact posterior, deterministic ones against
the finely integrated probability-flow ODE of the same mixture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import critwin as cw
from critwin.models.pipeline import load_pipeline
from critwin.theory.exact import exact_transitions
from critwin.theory.ode import ode_transitions
from critwin.views import transitions_from_records
from critwin.windows import critical_window
from dressed_mixture import (
    ImageComponent,
    dressed_ddpm,
    dressed_sd,
    dressed_sd3,
    exact_sources,
    line_mixture,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # inside diffusers

LAW = line_mixture((-2.0, 0.5, 2.5), (0.5, 0.3, 0.2))
SDE = {"algorithm_type": "sde-dpmsolver++"}
KARRAS = {"use_karras_sigmas": True}
CASES: list[tuple[str, str, dict[str, Any], str]] = [
    ("sd", "DDIMScheduler", {}, "stochastic"),
    ("sd", "DDIMScheduler", {}, "ode"),
    ("sd-v", "DDIMScheduler", {}, "ode"),
    ("sd-v", "EulerAncestralDiscreteScheduler", {}, "stochastic"),
    ("sd", "DDPMScheduler", {}, "stochastic"),
    ("sd", "EulerDiscreteScheduler", {}, "ode"),
    ("sd", "EulerAncestralDiscreteScheduler", {}, "stochastic"),
    ("sd", "DPMSolverMultistepScheduler", {}, "ode"),
    ("sd", "DPMSolverMultistepScheduler", KARRAS, "ode"),
    ("sd", "DPMSolverMultistepScheduler", SDE, "stochastic"),
    ("sd", "UniPCMultistepScheduler", {}, "ode"),
    ("sd", "HeunDiscreteScheduler", {}, "ode"),
    ("sd3", "FlowMatchEulerDiscreteScheduler", {}, "ode"),
    ("ddpm", "DDPMScheduler", {}, "stochastic"),
]
QUICK = {0, 8, 12}


def dressed(kind: str) -> Any:
    if kind == "sd3":
        return dressed_sd3(LAW)
    if kind == "ddpm":
        return dressed_ddpm(LAW)
    return dressed_sd(LAW, says="v_prediction" if kind == "sd-v" else "epsilon")


def measured(kind: str, name: str, options: Any, way: str, count: int, seed: int = 0) -> Any:
    """Records of a forward–reverse experiment, and the exact table at its levels."""
    scale = 1.0 if kind == "ddpm" else 4.0
    model = load_pipeline(
        dressed(kind),
        steps=50,
        scheduler=name,
        scheduler_options=options,
        guidance=None if kind == "ddpm" else 1.0,
    )
    inside = model.levels[(model.levels > -5.0) & (model.levels < 2.0)]
    levels = inside[:: max(1, len(inside) // 8)]
    records = cw.forward_reverse(
        model,
        ImageComponent(LAW, scale),
        levels,
        sources=exact_sources(LAW, count, seed),
        reversal=way,
        batch_size=256,
        seed=seed,
    )
    exact = exact_transitions if way == "stochastic" else ode_transitions
    return records, exact(LAW, np.unique(records.logsnr)[::-1].copy(), labeller="map")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id="-".join([*case[:2], *case[2], case[3]]),
            marks=[] if n in QUICK else [pytest.mark.validate],
        )
        for n, case in enumerate(CASES)
    ],
)
def test_windows_cover_the_truth_of_their_reversal(case: Any) -> None:
    kind, name, options, way = case
    records, truth = measured(kind, name, options, way, 400)
    assert records.valid.all()
    table = transitions_from_records(
        records, "component", weights=dict(zip(truth.after, truth.weights, strict=True))
    )
    window = critical_window(table, confidence=0.99, test=False)
    exact = critical_window(truth, test=False)
    assert window.reversal == way
    for edge in ("start", "midpoint", "end"):
        got, wanted = getattr(window, edge).t, getattr(exact, edge).t
        if wanted.value is not None:
            assert got.covers(wanted.value), f"{edge}: {got} misses {wanted.value:.4f}"
    # the other reversal's truth is another window: the test above can fail
    other = (ode_transitions if way == "stochastic" else exact_transitions)(
        LAW, truth.logsnr, labeller="map"
    )
    wrong = critical_window(other, test=False)
    missed = [
        edge
        for edge in ("start", "midpoint", "end")
        if (value := getattr(wrong, edge).t.value) is not None
        and not getattr(window, edge).t.covers(value)
    ]
    assert missed


def test_noise_drawn_anew_is_another_reversal() -> None:
    """Stochastic flow matching noises the predicted mean: its window is not the posterior's."""
    kind, name, options = "sd3", "FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}
    records, truth = measured(kind, name, options, "stochastic", 256)
    weights = dict(zip(truth.after, truth.weights, strict=True))
    table = transitions_from_records(records, "component", weights=weights)
    midpoint = critical_window(truth, test=False).midpoint.t.value
    assert midpoint is not None
    high = critical_window(table, confidence=0.99, test=False).midpoint.t.high
    assert high is not None
    assert high < midpoint - 0.05
    model = load_pipeline(
        dressed("sd3"), steps=8, scheduler_options=options, guidance=1.0, scheduler=name
    )
    assert any("draws all noise anew in every step" in note for note in model.notes)


def test_generated_samples_follow_the_law() -> None:
    """Pure noise to samples: shares of components within 4 standard errors."""
    model = load_pipeline(dressed_sd(LAW), steps=50, guidance=1.0)
    count = 1024
    from critwin.streams import UnitStreams

    streams = [UnitStreams(3, f"g{n}", None, 0) for n in range(count)]
    reading = ImageComponent(LAW).read(model.decode(model.generate([None] * count, streams)))
    shares = np.bincount(reading.indices, minlength=3) / count
    weights = LAW.weights.numpy()
    # the schedule keeps alpha = .068 where generation starts without any: a little bias is left
    slack = 4 * np.sqrt(weights * (1 - weights) / count) + 0.02
    assert np.all(np.abs(shares - weights) < slack)


def test_encoding_gives_latents_back() -> None:
    model = load_pipeline(dressed_sd(LAW), steps=4, guidance=1.0)
    points = exact_sources(LAW, 8)
    images = model.decode(points)
    torch.testing.assert_close(model.encode(images), points, rtol=1e-5, atol=1e-5)
