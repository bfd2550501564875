"""The network that reads a label from a small image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["SmallConvNet"]


class SmallConvNet(nn.Module):
    """A convolutional classifier of small colour images, blind to their mean and contrast.

    Each image is centred channel by channel and divided by one standard deviation over all its
    channels, so what is read depends on the row alone: there is no batch statistic anywhere, and
    dropout acts in training mode only.

    Args:
        num_labels: Number of labels J.
        in_channels: Colour channels C.
        channels: Widths of the three stages; the second and third halve the resolution.
        pool: Side of the grid that the last stage is averaged to.
        dropout: Share of pooled activations dropped in training mode.
    """

    def __init__(
        self,
        num_labels: int = 10,
        *,
        in_channels: int = 3,
        channels: Sequence[int] = (16, 32, 64),
        pool: int = 3,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.architecture: dict[str, Any] = {
            "num_labels": num_labels,
            "in_channels": in_channels,
            "channels": [int(width) for width in channels],
            "pool": pool,
            "dropout": dropout,
        }
        first, second, third = channels
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, first, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, second, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, third, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(third, third, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(pool),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(third * pool * pool, num_labels)

    def forward(self, images: Tensor) -> Tensor:
        """Score every label.

        Args:
            images: Images in ``[0, 1]``, float, shape ``(N, C, H, W)``.

        Returns:
            Logits, shape ``(N, J)``.
        """
        centred = images - images.mean(dim=(2, 3), keepdim=True)
        scale = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        logits: Tensor = self.head(self.body(centred / (scale + torch.finfo(scale.dtype).eps)))
        return logits
