"""The shipped digits model: a small class-conditional diffusion model whose truth is known.

A UNet that predicts v, trained with label dropout on 4,000 MNIST digits in planted colours. Its
null label makes it unconditional, which is how digits are measured; ``"0"`` … ``"9"`` are its
conditions. Two variants of it, for audits whose truth is known, were trained on other inks and
repeats. :func:`critwin.models.digits.load_digits` makes them from the files of the package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from critwin.errors import InputError
from critwin.models.denoiser import Denoiser
from critwin.models.digits.data import DIGIT_LABELS, FEATURES, DigitsData
from critwin.models.digits.dataset import DigitsDataset, Part

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from critwin.streams import UnitStreams

__all__ = ["DigitsModel"]


class DigitsModel:
    """The shipped diffusion model together with the data it was trained on.

    Everything about drawing, noising and denoising is the :class:`critwin.Denoiser` inside; what
    is added is what is known: the planted law of labels, and the data set.

    Attributes:
        name: ``"digits"``, ``"digits-control"`` or ``"digits-reversed"``.
        denoiser: The network as a model.
        data: All 5,000 digits, members and non-members.

    Args:
        denoiser: The network as a model.
        data: The digits.
        part: Which digits :meth:`dataset` offers as sources.
    """

    def __init__(self, denoiser: Denoiser, data: DigitsData, *, part: Part = "members") -> None:
        self.name = denoiser.name
        self.denoiser = denoiser
        self.data = data
        self._dataset = DigitsDataset(data=data, part=part)

    @property
    def levels(self) -> NDArray[np.float64] | None:
        """The 1,000 logsnr of the training schedule, decreasing."""
        return self.denoiser.levels

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """``(3, 28, 28)``."""
        return self.denoiser.sample_shape

    @property
    def conditions(self) -> tuple[str, ...] | None:
        """``"0"`` … ``"9"``; None is the null label."""
        return self.denoiser.conditions

    @property
    def reversals(self) -> tuple[str, ...]:
        """``"stochastic"`` first, then ``"ode"``."""
        return self.denoiser.reversals

    @cached_property
    def fingerprint(self) -> str:
        """Digest of weights, schedule, sampler, the digits and the part that is offered."""
        digest = hashlib.sha256(f"{self.denoiser.fingerprint} {self._dataset.part}".encode())
        for name in ("masks", *FEATURES, "is_member", "multiplicity"):
            digest.update(np.ascontiguousarray(getattr(self.data, name)).tobytes())
        return digest.hexdigest()[:16]

    def generate(self, conditions: Sequence[str | None], streams: Sequence[UnitStreams]) -> Tensor:
        """Draw fresh images; see :meth:`critwin.Denoiser.generate`.

        Args:
            conditions: ``"0"`` … ``"9"`` or None, a row.
            streams: A stream a row.

        Returns:
            Images in about ``[-1, 1]``, not clipped, shape ``(N, 3, 28, 28)``.
        """
        return self.denoiser.generate(conditions, streams)

    def noise(self, clean: Tensor, logsnr: float, streams: Sequence[UnitStreams]) -> Tensor:
        """Noise clean images to one level; see :meth:`critwin.Denoiser.noise`.

        Args:
            clean: Shape ``(N, 3, 28, 28)``.
            logsnr: One of ``levels``.
            streams: A stream a row.

        Returns:
            Noisy images, same shape.
        """
        return self.denoiser.noise(clean, logsnr, streams)

    def denoise(
        self,
        noisy: Tensor,
        logsnr: float,
        conditions: Sequence[str | None],
        streams: Sequence[UnitStreams],
        reversal: str = "stochastic",
        steps: int | None = None,
        guidance: float | None = None,
        purpose: str = "reverse",
    ) -> Tensor:
        """Denoise images that are at one level; see :meth:`critwin.Denoiser.denoise`.

        Args:
            noisy: Shape ``(N, 3, 28, 28)``.
            logsnr: One of ``levels``.
            conditions: ``"0"`` … ``"9"`` or None, a row.
            streams: A stream a row.
            reversal: ``"stochastic"`` or ``"ode"``.
            steps: Network calls of the whole schedule.
            guidance: Guidance scale.
            purpose: Purpose of the streams.

        Returns:
            Images in about ``[-1, 1]``, not clipped, same shape.
        """
        return self.denoiser.denoise(
            noisy, logsnr, conditions, streams, reversal, steps, guidance, purpose
        )

    @property
    def start_logsnr(self) -> float:
        """Level of pure noise, the noisiest of ``levels``."""
        return self.denoiser.start_logsnr

    def pure_noise(self, streams: Sequence[UnitStreams]) -> Tensor:
        """The state at ``start_logsnr``; see :meth:`critwin.Denoiser.pure_noise`.

        Args:
            streams: A stream a row.

        Returns:
            Shape ``(N, 3, 28, 28)``.
        """
        return self.denoiser.pure_noise(streams)

    def partial(
        self,
        noisy: Tensor,
        logsnr: float,
        stop: float,
        conditions: Sequence[str | None],
        streams: Sequence[UnitStreams],
        reversal: str = "stochastic",
        steps: int | None = None,
        guidance: float | None = None,
        purpose: str = "reverse",
    ) -> Tensor:
        """Reverse from one level to a cleaner one; see :meth:`critwin.Denoiser.partial`.

        Args:
            noisy: Shape ``(N, 3, 28, 28)``.
            logsnr: One of ``levels``.
            stop: A larger one.
            conditions: ``"0"`` … ``"9"`` or None, a row.
            streams: A stream a row.
            reversal: ``"stochastic"`` or ``"ode"``.
            steps: Network calls of the whole schedule.
            guidance: Guidance scale.
            purpose: Purpose of the streams.

        Returns:
            Noisy images at ``stop``, same shape.
        """
        return self.denoiser.partial(
            noisy, logsnr, stop, conditions, streams, reversal, steps, guidance, purpose
        )

    def predict(
        self,
        noisy: Tensor,
        logsnr: float,
        conditions: Sequence[str | None],
        guidance: float | None = None,
    ) -> Tensor:
        """The estimate of the clean images; see :meth:`critwin.Denoiser.predict`.

        Args:
            noisy: Shape ``(N, 3, 28, 28)``.
            logsnr: One of ``levels``.
            conditions: ``"0"`` … ``"9"`` or None, a row.
            guidance: Guidance scale.

        Returns:
            Same shape, not clipped.
        """
        return self.denoiser.predict(noisy, logsnr, conditions, guidance)

    def num_evaluations(
        self,
        logsnr: float,
        *,
        steps: int | None = None,
        reversal: str = "stochastic",
        guidance: float | None = None,
        stop: float | None = None,
    ) -> int:
        """Network calls that denoise a batch; see :meth:`critwin.Denoiser.num_evaluations`.

        Args:
            logsnr: One of ``levels``.
            steps: Network calls of the whole schedule.
            reversal: Either.
            guidance: Guidance scale.
            stop: Level at which :meth:`partial` stops; None: the clean sample.

        Returns:
            The number of calls.
        """
        return self.denoiser.num_evaluations(
            logsnr, steps=steps, reversal=reversal, guidance=guidance, stop=stop
        )

    def decode(self, clean: Tensor) -> Tensor:
        """Images in [0, 1], clipped.

        Args:
            clean: Shape ``(N, 3, 28, 28)``.

        Returns:
            Same shape.
        """
        images: Tensor = self.denoiser.decode(clean)
        return images

    def encode(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as the model works with them.

        Args:
            images: Shape ``(N, 3, 28, 28)``.

        Returns:
            Float32 in ``[-1, 1]``, same shape.
        """
        return 2.0 * images.to(torch.float32) - 1.0

    def prior(self, feature: str, condition: str | None = None) -> dict[str, float] | None:
        """Law of a feature's labels that the model was trained to draw.

        Repeats count: it is the law of the training rows, not of the distinct images. A network
        learns it only nearly; shares of generated images tell how nearly.

        Args:
            feature: ``"digit"``, ``"ink"``, ``"ground"``, or a product such as ``"ground*ink"``.
            condition: The digit that is asked for; None: no condition.

        Returns:
            Label -> weight, summing to 1; None for any other feature.

        Raises:
            InputError: If the condition is unknown.
        """
        if any(part not in FEATURES for part in feature.split("*")):
            return None
        weight = self.data.multiplicity.astype(np.float64)
        if condition is not None:
            if condition not in DIGIT_LABELS:
                raise InputError(
                    "unknown digit", got=condition, wanted="one of " + ", ".join(DIGIT_LABELS)
                )
            weight = weight * (self.data.digit == DIGIT_LABELS.index(condition))
        labels = self.data.labels(feature)
        mass = np.bincount(self.data.label(feature), weights=weight, minlength=len(labels))
        law = mass / mass.sum()
        return {label: float(share) for label, share in zip(labels, law, strict=True)}

    def dataset(self) -> DigitsDataset:
        """The digits as sources, each image once; see :class:`DigitsDataset`."""
        return self._dataset
