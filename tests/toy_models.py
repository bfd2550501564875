"""Cheap models and features for tests of the machinery; exact on purpose, no network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from critwin.features.base import Reading
from critwin.levels import alpha_sigma
from critwin.streams import normals


class ToyPoints:
    """Two unit Gaussians at +-mean on a line, in 2 dimensions, reversed by exact posterior draws.

    ``mix`` adds a term that depends on the other rows only through the shape of the batch, as a
    network's kernels do.
    """

    def __init__(self, mean: float = 6.0, *, levels: Any = None, spoil: Any = None) -> None:
        self.name = "toy"
        self.mean = mean
        self.levels = levels
        self.fingerprint = f"toy-{mean}"
        self.sample_shape = (2,)
        self.conditions = ("left", "right")
        self.reversals = ("posterior", "stochastic")
        self.spoil = spoil  # (source name, logsnr) -> True: the result is NaN
        self.num_calls = 0
        self.shapes: set[tuple[int, ...]] = set()

    def generate(self, conditions: Any, streams: Any) -> torch.Tensor:
        draw = normals(streams, "generate", (3,))
        side = torch.where(draw[:, 2] < 0, -1.0, 1.0)
        for row, condition in enumerate(conditions):
            if condition is not None:
                side[row] = -1.0 if condition == "left" else 1.0
        self.shapes.add(tuple(draw.shape))
        out = draw[:, :2].clone()
        out[:, 0] += side * self.mean
        return out

    def noise(self, clean: torch.Tensor, logsnr: float, streams: Any) -> torch.Tensor:
        alpha, sigma = alpha_sigma(logsnr)
        noise = normals(streams, "noise", (2,))
        return float(alpha) * clean + float(sigma) * noise

    def denoise(
        self,
        noisy: torch.Tensor,
        logsnr: float,
        conditions: Any,
        streams: Any,
        reversal: str = "posterior",
        steps: int | None = None,
        guidance: float | None = None,
    ) -> torch.Tensor:
        self.num_calls += 1
        self.shapes.add(tuple(noisy.shape))
        alpha, sigma = (float(x) for x in alpha_sigma(logsnr))
        draw = normals(streams, "reverse", (3,))
        # x_t | side ~ N(alpha * side * mean, 1), so the log-odds are 2 * alpha * mean * x
        odds = torch.sigmoid(2.0 * alpha * self.mean * noisy[:, 0].double())
        uniform = torch.special.ndtr(draw[:, 2].double())
        side = torch.where(uniform < odds, 1.0, -1.0).float()
        for row, condition in enumerate(conditions):
            if condition is not None:
                side[row] = -1.0 if condition == "left" else 1.0
        center = torch.zeros_like(noisy)
        center[:, 0] = side * self.mean
        out = center + alpha * (noisy - alpha * center) + sigma * draw[:, :2]
        if self.spoil is not None:
            for row, stream in enumerate(streams):
                if self.spoil(stream.source, logsnr):
                    out[row] = float("nan")
        return out

    def decode(self, clean: torch.Tensor) -> torch.Tensor:
        return clean

    def prior(self, feature: str) -> dict[str, float] | None:
        return {"left": 0.5, "right": 0.5} if feature == "side" else None

    def dataset(self) -> Any:
        rng = np.random.Generator(np.random.Philox(3))
        clean = rng.normal(size=(40, 2)).astype(np.float32)
        sign = np.where(np.arange(40) % 2 == 0, -1.0, 1.0)
        clean[:, 0] += (sign * self.mean).astype(np.float32)
        data = torch.from_numpy(clean)
        truth = np.where(sign < 0, "left", "right")
        return ToyData(data, {"truth": truth})

    def num_evaluations(self, logsnr: float, **_: Any) -> int:
        return 3 if logsnr < 0 else 1


class ToyData:
    def __init__(self, data: torch.Tensor, planted: dict[str, Any]) -> None:
        self._data = data
        self.planted = planted

    def __len__(self) -> int:
        return len(self._data)

    def clean(self, indices: Any) -> torch.Tensor:
        return self._data[list(indices)]


class ToyImages(ToyPoints):
    """The same two Gaussians, shown as 3 x 4 x 4 images whose left or right half is brighter."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.name = "toy-images"

    def decode(self, clean: torch.Tensor) -> torch.Tensor:
        image = torch.full((len(clean), 3, 4, 4), 0.5)
        image[:, :, :, 2:] += (0.05 * clean[:, :1, None, None]).expand(-1, 3, 4, 2)
        return image.clamp(0, 1)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        value = (images[:, 0, 0, 3] - 0.5) / 0.05
        return torch.stack([value, torch.zeros_like(value)], dim=1)


class Side:
    """Which half line: a feature of points (or of the toy images), with probs and a number."""

    name = "side"
    labels = ("left", "right")
    fingerprint = "side-1"

    def read(self, samples: Any) -> Reading:
        x = torch.as_tensor(samples)
        x = x[:, 0] if x.ndim == 2 else x[:, 0, 0, 3] - 0.5
        right = torch.sigmoid(x.double()).numpy()
        return Reading(
            indices=(x > 0).long().numpy(),
            probs=np.stack([1 - right, right], axis=1),
            values={"x": x.double().numpy()},
        )


class Size:
    """Sign of the second coordinate, without probabilities; abstains near zero."""

    name = "size"
    labels = ("small", "large")
    fingerprint = "size-1"

    def read(self, samples: Any) -> Reading:
        y = torch.as_tensor(samples)[:, 1].numpy()
        return Reading(indices=np.where(np.abs(y) < 0.05, -1, (y > 0).astype(np.int64)))


class Moved:
    """How far the result lies from the source."""

    name = "moved"
    fingerprint = "moved-1"

    def read(self, source: Any, result: Any) -> dict[str, Any]:
        gap = torch.as_tensor(result) - torch.as_tensor(source)
        return {"moved": gap.flatten(1).double().norm(dim=1).numpy()}


def streams_of(names: list[str]) -> list[Any]:
    return [SimpleNamespace(source=name) for name in names]
