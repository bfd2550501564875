"""Between images and what a pipeline denoises: its VAE, or nothing.

Latents are encoded by the mode of the encoder's law, never by a draw from it, and a sample that
is not finite is not shown to the decoder: a black image would be labelled without complaint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from critwin.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ImageCoder", "decode_finite"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageCoder:
    """Scales of a VAE's latents; without a VAE, samples are images in about ``[-1, 1]``.

    Attributes:
        vae: The VAE, or None.
        image_shape: Shape of an image, ``(C, H, W)``.
        scale: What latents are multiplied with.
        shift: What is taken from latents before.
        mean: Mean of latents by channel, where the VAE says it (SDXL's way), or None.
        deviation: Standard deviation by channel, or None.
    """

    vae: Any
    image_shape: tuple[int, ...]
    scale: float = 1.0
    shift: float = 0.0
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None

    @classmethod
    def of(cls, vae: Any, height: int, width: int) -> ImageCoder:
        """The coder of a VAE.

        Args:
            vae: The VAE.
            height: Rows of its images.
            width: Columns of its images.

        Returns:
            The coder, with the scales of the VAE's configuration.
        """
        config = vae.config
        mean, deviation = config.get("latents_mean"), config.get("latents_std")
        has_both = mean is not None and deviation is not None
        return cls(
            vae=vae,
            image_shape=(int(config.get("out_channels", 3)), height, width),
            scale=float(config.get("scaling_factor", 1.0)),
            shift=float(config.get("shift_factor") or 0.0),
            mean=tuple(float(v) for v in mean) if has_both else None,
            deviation=tuple(float(v) for v in deviation) if has_both else None,
        )

    def decode(self, clean: Tensor, device: torch.device) -> Tensor:
        """Images of latents.

        Args:
            clean: Finite latents, shape ``(N, *sample_shape)``.
            device: Where the VAE runs.

        Returns:
            Images in ``[0, 1]``, float32, shape ``(N, C, H, W)``.
        """
        if self.vae is None:
            return (0.5 * clean.float() + 0.5).clamp(0.0, 1.0)
        z = clean.float()
        if self.mean is not None and self.deviation is not None:
            z = z * _channels(self.deviation, z) / self.scale + _channels(self.mean, z)
        else:
            z = z / self.scale + self.shift
        image: tuple[Tensor, ...] = self.vae.decode(
            z.to(device=device, dtype=self.vae.dtype), return_dict=False
        )
        return (0.5 * image[0].float() + 0.5).clamp(0.0, 1.0)

    def encode(self, images: Tensor, device: torch.device) -> Tensor:
        """Latents of images: the mode of the encoder's law.

        Args:
            images: In ``[0, 1]``, shape ``(N, C, H, W)``.
            device: Where the VAE runs.

        Returns:
            Shape ``(N, *sample_shape)``, float32.

        Raises:
            InputError: If the images have another shape.
        """
        if tuple(images.shape[1:]) != self.image_shape:
            raise InputError(
                "images do not fit the pipeline",
                got=tuple(images.shape),
                wanted="(N, " + ", ".join(str(n) for n in self.image_shape) + ")",
            )
        x = 2.0 * images.float() - 1.0
        if self.vae is None:
            return x
        coded = self.vae.encode(x.to(device=device, dtype=self.vae.dtype))
        law = getattr(coded, "latent_dist", None)
        coded_as: Tensor = coded.latents if law is None else law.mode()
        z = coded_as.float()
        if self.mean is not None and self.deviation is not None:
            return (z - _channels(self.mean, z)) * self.scale / _channels(self.deviation, z)
        return (z - self.shift) * self.scale


def decode_finite(clean: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
    """Decode the rows that are finite; the others stay NaN.

    Args:
        clean: Shape ``(N, *sample_shape)``.
        decode: Turns finite samples into images; it always gets all N rows.

    Returns:
        Images, NaN where the sample was not finite.
    """
    is_finite = torch.isfinite(clean).flatten(1).all(dim=1)
    if bool(is_finite.all()):
        return decode(clean)
    shown = clean.clone()
    shown[~is_finite] = 0.0
    images = decode(shown).clone()
    images[~is_finite.to(images.device)] = float("nan")
    return images


def _channels(values: tuple[float, ...], z: Tensor) -> Tensor:
    return torch.tensor(values, dtype=z.dtype, device=z.device).view(1, -1, 1, 1)
