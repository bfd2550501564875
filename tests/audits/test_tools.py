"""Values of other tools, against diffusers' schedulers where both make the same list of levels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from critwin.audits.strength import sampler
from critwin.audits.tools import (
    A1111_SCHEDULES,
    COMFY_SCHEDULES,
    a1111_starts,
    comfy_starts,
    nearest,
)
from critwin.errors import InputError

LINSPACE = {"timestep_spacing": "linspace"}


@pytest.mark.parametrize(
    ("schedule", "options"),
    [
        ("normal", LINSPACE),
        ("karras", {**LINSPACE, "use_karras_sigmas": True}),
        ("exponential", {**LINSPACE, "use_exponential_sigmas": True}),
    ],
)
def test_start_at_step_is_eulers_step(schedule: str, options: dict[str, bool]) -> None:
    euler = sampler("sd15", scheduler="EulerDiscreteScheduler", steps=20, options=options)
    own = [
        s for s in comfy_starts("sd15", steps=20, schedule=schedule) if "denoise" not in s.values
    ]
    assert [s.values["start_at_step"] for s in own] == list(range(20))
    np.testing.assert_allclose([s.logsnr for s in own], euler.logsnr, atol=2e-3)
    assert [s.num_calls for s in own] == list(range(20, 0, -1))


def test_flow_matching_normal_is_that_of_diffusers() -> None:
    euler = sampler("sd3", steps=20)
    own = [s for s in comfy_starts("sd3", steps=20) if "denoise" not in s.values]
    np.testing.assert_allclose([s.logsnr for s in own][1:], euler.logsnr[1:], atol=2e-3)


def test_denoise_keeps_the_number_of_steps_and_takes_the_end_of_a_longer_list() -> None:
    settings = {
        s.values["denoise"]: s for s in comfy_starts("sd15", steps=20) if "denoise" in s.values
    }
    longer = sampler("sd15", scheduler="EulerDiscreteScheduler", steps=40, options=LINSPACE)
    assert settings[0.5].logsnr == pytest.approx(float(longer.logsnr[20]), abs=2e-3)
    assert {s.num_calls for s in settings.values()} == {20}
    levels = [settings[d / 100].logsnr for d in range(1, 101)]
    assert all(a >= b for a, b in pairwise(levels))
    whole = sampler("sd15", scheduler="EulerDiscreteScheduler", steps=20, options=LINSPACE)
    assert settings[1.0].logsnr == pytest.approx(float(whole.logsnr[0]), abs=2e-3)


def test_a1111_takes_one_step_more_than_diffusers_at_the_same_strength() -> None:
    euler = sampler("sd15", scheduler="EulerDiscreteScheduler", steps=20, options=LINSPACE)
    for setting in a1111_starts("sd15", steps=20, schedule="automatic"):
        strength = setting.values["denoising strength"]
        step = euler.start(min(strength, 0.999))
        assert setting.logsnr == pytest.approx(float(euler.logsnr[step - 1]), abs=2e-3)
        assert setting.num_calls == 20 - step + 1


def test_the_end_of_every_schedule_is_the_models() -> None:
    for schedule in COMFY_SCHEDULES:
        if schedule == "ddim_uniform":
            continue  # every 50th level from the second on: it ends before the model's last
        found = comfy_starts("sd15", steps=20, schedule=schedule)
        assert min(s.logsnr for s in found) == pytest.approx(-5.364, abs=0.06), schedule
    ddim = sampler("sd15", scheduler="DDIMScheduler", steps=20)  # "leading": 951 is its noisiest
    last = min(s.logsnr for s in comfy_starts("sd15", steps=20, schedule="ddim_uniform"))
    assert last == pytest.approx(float(ddim.logsnr[0]), abs=2e-3)
    for schedule in A1111_SCHEDULES:
        found = a1111_starts("sdxl", steps=20, schedule=schedule)
        assert min(s.logsnr for s in found) == pytest.approx(-5.364, abs=1e-3), schedule


def test_ddim_uniform_is_ddims_leading_spacing() -> None:
    ddim = sampler("sd15", steps=20)
    own = [
        s
        for s in comfy_starts("sd15", steps=20, schedule="ddim_uniform")
        if "denoise" not in s.values
    ]
    np.testing.assert_allclose([s.logsnr for s in own], ddim.logsnr, atol=1e-5)


def test_the_nearest_setting_of_every_tool() -> None:
    starts = [*comfy_starts("sd15", steps=25), *a1111_starts("sd15", steps=25)]
    found = {s.tool: s for s in nearest(starts, 0.0)}
    assert set(found) == {"ComfyUI KSampler", "ComfyUI KSamplerAdvanced", "A1111"}
    for tool, setting in found.items():
        own = [s.logsnr for s in starts if s.tool == tool]
        assert abs(setting.logsnr) == min(abs(x) for x in own)


def test_mistakes() -> None:
    with pytest.raises(InputError, match="no such schedule of ComfyUI"):
        comfy_starts("sd15", steps=20, schedule="beta57")
    with pytest.raises(InputError, match="no values of A1111"):
        a1111_starts("flux", steps=20)
    with pytest.raises(InputError, match="no such preset"):
        comfy_starts("sd9", steps=20)
