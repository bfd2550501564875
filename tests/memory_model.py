"""A model that has memorised its data exactly: the posterior of their empirical law.

Its truth is known: a member returns to itself with its posterior weight, a non-member never does.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from critwin.levels import alpha_sigma
from critwin.streams import normals


class Memory:
    """Exact posterior of N points, each with a weight; ``dataset`` also offers other points."""

    def __init__(
        self, points: Any, *, others: Any = None, weights: Any = None, name: str = "memory"
    ) -> None:
        self.points = torch.as_tensor(np.asarray(points, dtype=np.float64))
        self.others = torch.as_tensor(
            np.zeros((0, *self.points.shape[1:])) if others is None else np.asarray(others)
        ).double()
        mass = np.ones(len(self.points)) if weights is None else np.asarray(weights, dtype=float)
        self.log_mass = torch.as_tensor(np.log(mass))
        self.name = name
        self.levels = None
        self.fingerprint = f"memory-{float(self.points.sum()):.6f}"
        self.sample_shape = tuple(self.points.shape[1:])
        self.conditions: tuple[str, ...] = ()
        self.reversals = ("posterior",)
        self.num_calls = 0

    def _weights(self, noisy: torch.Tensor, logsnr: float) -> torch.Tensor:
        alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
        x, p = noisy.double().flatten(1), self.points.flatten(1)
        square = (p**2).sum(dim=1)
        logits = self.log_mass + (alpha * x @ p.T - 0.5 * alpha**2 * square) / sigma**2
        return torch.softmax(logits, dim=1)

    def generate(self, conditions: Any, streams: Any) -> torch.Tensor:
        draw = normals(streams, "generate", (1,)).double()
        index = (torch.special.ndtr(draw[:, 0]) * len(self.points)).long()
        return self.points[index].float()

    def noise(self, clean: torch.Tensor, logsnr: float, streams: Any) -> torch.Tensor:
        alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
        return alpha * clean + sigma * normals(streams, "noise", self.sample_shape)

    def denoise(
        self,
        noisy: torch.Tensor,
        logsnr: float,
        conditions: Any,
        streams: Any,
        reversal: str = "posterior",
        steps: int | None = None,
        guidance: float | None = None,
        purpose: str = "reverse",
    ) -> torch.Tensor:
        self.num_calls += 1
        total = self._weights(noisy, logsnr).cumsum(dim=1)
        uniform = torch.special.ndtr(normals(streams, purpose, (1,)).double())
        index = (total < uniform).sum(dim=1).clamp(max=len(self.points) - 1)
        return self.points[index].float()

    def predict(
        self, noisy: torch.Tensor, logsnr: float, conditions: Any, guidance: Any = None
    ) -> torch.Tensor:
        self.num_calls += 1
        mean = self._weights(noisy, logsnr) @ self.points.flatten(1)
        return mean.reshape(noisy.shape).to(noisy.dtype)

    def decode(self, clean: torch.Tensor) -> torch.Tensor:
        return clean if clean.ndim == 2 else (0.5 * clean + 0.5).clamp(0.0, 1.0)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return 2.0 * images - 1.0

    def num_evaluations(self, logsnr: float, **_: Any) -> int:
        return 1

    def dataset(self) -> Any:
        both = torch.cat([self.points, self.others]).float()
        said = np.array(["yes"] * len(self.points) + ["no"] * len(self.others))
        return _Data(both, {"member": said})


class _Data(SimpleNamespace):
    def __init__(self, points: torch.Tensor, planted: Any) -> None:
        super().__init__(points=points, planted=planted, strata=planted["member"])

    def __len__(self) -> int:
        return len(self.points)

    def clean(self, items: Any) -> torch.Tensor:
        return self.points[list(items)]


def two_sets(count: int = 60, *, dim: int = 8, seed: int = 0) -> tuple[Any, Any]:
    """Members and non-members of one Gaussian law, float32."""
    generator = np.random.default_rng(seed)
    both = generator.standard_normal((2, count, dim)).astype(np.float32)
    return both[0], both[1]
