"""An exact Gaussian mixture dressed as a network, inside a real pipeline with its real scheduler.

The network is the posterior mean of the mixture, told in the way its family speaks: the noise or v
as a UNet of Stable Diffusion or DDPM, the velocity as a transformer of Stable Diffusion 3. All the
rest (scheduler, text encoder, the pipeline's class) is what diffusers brings, so what is measured
through critwin has a truth: the exact posterior for stochastic schedulers, the probability-flow
ODE of the mixture for deterministic ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
)
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin

from critwin.features.base import Reading
from critwin.features.component import ComponentFeature
from critwin.levels import alpha_sigma, to_logsnr
from critwin.theory.mixtures import GaussianMixture, posterior_mean, sample
from tiny_pipelines import STABLE, clip_text, clip_tokenizer, seeded, t5_text, t5_tokenizer

SHAPE = (4, 2, 2)
"""Shape of a point as an image or a latent."""

SCALE = 4.0
"""Points over images: images stay inside the range where nothing is clipped."""


def line_mixture(
    positions: tuple[float, ...] = (-2.0, 2.0),
    weights: tuple[float, ...] | None = None,
    variance: float = 0.25,
) -> GaussianMixture:
    """Equal isotropic Gaussians with means on the diagonal: both truths are known."""
    direction = np.ones(int(np.prod(SHAPE))) / np.sqrt(np.prod(SHAPE))
    return GaussianMixture(
        weights=weights or [1.0 / len(positions)] * len(positions),
        means=np.outer(positions, direction),
        covariances=variance,
    )


class _Mixture:
    """The posterior mean of points that are shaped like images."""

    def _denoised(self, x_vp: torch.Tensor, logsnr: float) -> torch.Tensor:
        law: GaussianMixture = self.law  # type: ignore[attr-defined]
        alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
        flat = x_vp.flatten(1).to(torch.float64)
        return posterior_mean(law, flat, alpha=alpha, sigma=sigma).view(x_vp.shape)


class MixtureUNet(_Mixture, ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A UNet that says the noise or v of the mixture."""

    @register_to_config
    def __init__(
        self,
        law: Any = None,
        says: str = "epsilon",
        sample_size: int = SHAPE[1],
        in_channels: int = SHAPE[0],
        out_channels: int = SHAPE[0],
        cross_attention_dim: int = 32,
        time_cond_proj_dim: int | None = None,
        betas: str = "scaled_linear",
    ) -> None:
        super().__init__()
        self.law, self.says = law, says
        self.unit = torch.nn.Parameter(torch.ones(1))
        config = STABLE if betas == "scaled_linear" else {}
        alpha_bar = DDIMScheduler.from_config(config).alphas_cumprod.double().numpy()
        self._log_sigma = 0.5 * (np.log1p(-alpha_bar) - np.log(alpha_bar))
        self.num_rows = 0

    def forward(self, sample: torch.Tensor, timestep: Any, *_: Any, **options: Any) -> Any:
        self.num_rows += len(sample)
        t = float(torch.as_tensor(timestep).reshape(-1)[0])
        log_sigma = np.interp(t, np.arange(len(self._log_sigma)), self._log_sigma)
        logsnr = float(-2.0 * log_sigma)
        alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
        x = sample.double()
        x_0 = self._denoised(x, logsnr)
        eps = (x - alpha * x_0) / sigma
        out = {"epsilon": eps, "v_prediction": alpha * eps - sigma * x_0, "sample": x_0}[self.says]
        return (out.to(sample.dtype),)


class MixtureTransformer(_Mixture, ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A transformer that says the velocity of the mixture."""

    @register_to_config
    def __init__(
        self,
        law: Any = None,
        sample_size: int = SHAPE[1],
        patch_size: int = 1,
        in_channels: int = SHAPE[0],
        out_channels: int = SHAPE[0],
        joint_attention_dim: int = 32,
    ) -> None:
        super().__init__()
        self.law = law
        self.unit = torch.nn.Parameter(torch.ones(1))

    def forward(self, hidden_states: torch.Tensor, timestep: torch.Tensor, **_: Any) -> Any:
        s = float(timestep.reshape(-1)[0]) / 1000.0
        x = hidden_states.double()
        if s >= 1.0:
            mean = (self.law.weights @ self.law.means).view(1, *x.shape[1:])
            return ((x - mean).to(hidden_states.dtype),)
        logsnr = float(to_logsnr(s, "flow"))
        alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
        x_0 = self._denoised((alpha + sigma) * x, logsnr)
        return (((x - x_0) / s).to(hidden_states.dtype),)


class _Law(NamedTuple):
    z: torch.Tensor

    def mode(self) -> torch.Tensor:
        return self.z


class _Coded(NamedTuple):
    latent_dist: _Law


class PlainVAE(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A VAE whose latents are the image, scaled."""

    @register_to_config
    def __init__(
        self,
        block_out_channels: tuple[int, ...] = (1,),
        latent_channels: int = SHAPE[0],
        out_channels: int = SHAPE[0],
        scaling_factor: float = SCALE,
        shift_factor: float | None = None,
        sample_size: int = SHAPE[1],
    ) -> None:
        super().__init__()
        self.unit = torch.nn.Parameter(torch.ones(1))

    def decode(self, z: torch.Tensor, return_dict: bool = True) -> Any:
        return (z,)

    def encode(self, x: torch.Tensor) -> _Coded:
        return _Coded(_Law(x))


def dressed_sd(law: GaussianMixture, *, says: str = "epsilon", config: Any = None) -> Any:
    """Stable Diffusion's pipeline around the mixture; the configuration may lie."""
    scheduler = DDIMScheduler.from_config(
        {**STABLE, "set_alpha_to_one": True, "prediction_type": config or says}
    )
    with seeded():
        text = clip_text()
    return StableDiffusionPipeline(
        unet=MixtureUNet(law=law, says=says),
        scheduler=scheduler,
        vae=PlainVAE(),
        text_encoder=text,
        tokenizer=clip_tokenizer(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def dressed_sd3(law: GaussianMixture, *, shift: float = 3.0) -> Any:
    """Stable Diffusion 3's pipeline around the mixture."""
    with seeded():
        first, second, third = clip_text(projection=32), clip_text(projection=32), t5_text()
    return StableDiffusion3Pipeline(
        transformer=MixtureTransformer(law=law),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=shift),
        vae=PlainVAE(shift_factor=0.0),
        text_encoder=first,
        text_encoder_2=second,
        text_encoder_3=third,
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        tokenizer_3=t5_tokenizer(),
    )


def dressed_ddpm(law: GaussianMixture, *, says: str = "epsilon", config: Any = None) -> Any:
    """The DDPM pipeline around the mixture, without a VAE: images are the points themselves."""
    scheduler = DDIMScheduler.from_config(
        {"clip_sample": False, "prediction_type": config or says}
    )
    return DDPMPipeline(unet=MixtureUNet(law=law, says=says, betas="linear"), scheduler=scheduler)


class ImageComponent:
    """The most probable component of an image that the pipelines above make."""

    def __init__(self, law: GaussianMixture, scale: float = SCALE) -> None:
        self._inner = ComponentFeature(mixture=law)
        self._scale = scale
        self.name, self.labels = self._inner.name, self._inner.labels
        self.fingerprint = f"image {scale} {self._inner.fingerprint}"
        self.prior = self._inner.prior

    def read(self, samples: Any) -> Reading:
        points = self._scale * (2.0 * torch.as_tensor(samples).double() - 1.0).flatten(1)
        is_there = torch.isfinite(points).all(dim=1)
        reading = self._inner.read(torch.where(is_there[:, None], points, 0.0))
        indices = np.where(is_there.numpy(), reading.indices, -1)
        return Reading(indices=indices, probs=reading.probs, values=dict(reading.values))


def exact_sources(law: GaussianMixture, count: int, seed: int = 0) -> torch.Tensor:
    """Fresh points of the mixture, shaped like latents."""
    generator = torch.Generator().manual_seed(seed)
    normals = torch.randn((count, law.dim), generator=generator, dtype=torch.float64)
    uniforms = torch.rand(count, generator=generator, dtype=torch.float64)
    points = sample(law, count, normals=normals, uniforms=uniforms).x
    return points.view(count, *SHAPE).float()
