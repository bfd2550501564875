"""A configuration that lies about what the network predicts is found out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from critwin.errors import InputError
from critwin.models.pipeline import load_pipeline
from critwin.models.pipeline.probe import check_prediction_type, measure_prediction
from dressed_mixture import dressed_ddpm, dressed_sd, dressed_sd3, exact_sources, line_mixture

LAW = line_mixture((-2.0, 0.5, 2.5), (0.5, 0.3, 0.2))
KINDS = {"epsilon": "eps", "v_prediction": "v", "sample": "x_0"}


def dressed(says: str, config: str, *, is_latent: bool = True) -> Any:
    if is_latent:
        return load_pipeline(dressed_sd(LAW, says=says, config=config), steps=20, guidance=1.0)
    return load_pipeline(dressed_ddpm(LAW, says=says, config=config), steps=20)


@pytest.mark.parametrize("is_latent", [True, False])
@pytest.mark.parametrize("config", KINDS)
@pytest.mark.parametrize("says", KINDS)
def test_samples_tell_every_lie(says: str, config: str, is_latent: bool) -> None:
    model = dressed(says, config, is_latent=is_latent)
    found = measure_prediction(model, latents=exact_sources(LAW, 8))
    assert found.configured == KINDS[config]
    assert found.is_contradicted == (says != config)
    assert found.best == KINDS[says]
    assert found.slope is not None
    assert (found.slope > 0.9) == (says == "epsilon")


@pytest.mark.parametrize("config", KINDS)
@pytest.mark.parametrize("says", KINDS)
def test_without_samples_the_noise_is_told_from_the_rest(says: str, config: str) -> None:
    found = measure_prediction(dressed(says, config), num=8)
    if says == config:
        assert not found.is_contradicted
    elif "epsilon" in (says, config):
        assert found.is_contradicted


def test_what_is_said() -> None:
    with pytest.raises(InputError) as caught:
        check_prediction_type(dressed("epsilon", "v_prediction"))
    text = str(caught.value)
    assert "got prediction_type v_prediction; slope on pure noise 1.00" in text
    assert 'scheduler_options = { prediction_type = "epsilon" }' in text
    options = {"prediction_type": "epsilon"}
    pipe = dressed_sd(LAW, says="epsilon", config="v_prediction")
    cured = load_pipeline(pipe, steps=20, guidance=1.0, scheduler_options=options)
    assert check_prediction_type(cured).configured == "eps"
    images = cured.decode(exact_sources(LAW, 8))
    assert not check_prediction_type(cured, images=images).is_contradicted
    with pytest.raises(InputError, match="either images or latents"):
        check_prediction_type(cured, images=images, latents=images)


def test_flow_matching() -> None:
    model = load_pipeline(dressed_sd3(LAW), steps=20, guidance=1.0)
    assert not check_prediction_type(model).is_contradicted
    with torch.no_grad():
        transformer = model.pipeline.transformer
        forward = transformer.forward
        transformer.forward = lambda *a, **k: (-forward(*a, **k)[0],)
    with pytest.raises(InputError, match="does not predict what"):
        check_prediction_type(model)


def test_a_pipeline_is_probed_when_it_is_loaded() -> None:
    pipe = dressed_sd(LAW, says="epsilon", config="v_prediction")
    with pytest.raises(InputError, match="wanted prediction_type epsilon"):
        load_pipeline(pipe, steps=10, guidance=1.0, probe=True)
