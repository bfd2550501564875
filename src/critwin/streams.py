"""Named random streams: a CPU generator per unit and purpose, whatever the order or the batch.

A stream is named by a key and seeded with digests of the key's canonical JSON: SHA-256 gives the
seed, SHAKE-256 the whole state of the generator. PyTorch's CPU generator keeps only the low 32
bits of a seed, so among 10^5 streams seeded by ``manual_seed`` alone one pair would be equal.
The draws of a unit do not depend on which other units are computed, in which order, by how many
workers, or after which resumption.

Normals are drawn in float32 on the CPU, one generator a row (``torch.randn`` is not
prefix-stable, so drawing ``N`` rows from one generator would tie a row to its neighbours).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from critwin.errors import CritwinError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch

__all__ = ["Draws", "UnitStreams", "canary", "normals", "numpy_stream", "seed_of", "stream"]

# where PyTorch keeps the 624 words of the Mersenne Twister inside the bytes of its state
_STATE_SIZE, _WORDS_START, _NUM_WORDS = 5056, 24, 624


def seed_of(*key: str | int | float | None) -> int:
    """Seed of the stream named ``key``: 63 bits of the SHA-256 digest of its canonical JSON.

    Args:
        *key: Parts of the name. ``1``, ``1.0`` and ``"1"`` are different parts.

    Returns:
        An integer in ``[0, 2**63)``.
    """
    return int.from_bytes(hashlib.sha256(_canonical(key)).digest()[:8], "big") >> 1


def stream(seed: int, *path: str | int | float | None) -> torch.Generator:
    """CPU generator of the stream ``path`` of the run seeded ``seed``.

    Args:
        seed: Seed of the run.
        *path: Parts of the stream's name.

    Returns:
        A new generator at the beginning of the stream.

    Raises:
        CritwinError: If this PyTorch lays the state of its generator out in another way.
    """
    import numpy as np
    import torch

    number = seed_of(seed, *path)
    generator = torch.Generator(device="cpu").manual_seed(number)
    state = generator.get_state()
    words = state.numpy()[_WORDS_START : _WORDS_START + 8 * _NUM_WORDS].view(np.uint64)
    if state.numel() != _STATE_SIZE or int(words[0]) != number & 0xFFFFFFFF:
        raise CritwinError("PyTorch's CPU generator has a state that critwin does not know")
    digest = hashlib.shake_256(_canonical((seed, *path))).digest(4 * _NUM_WORDS)
    words[:] = np.frombuffer(digest, dtype="<u4")
    generator.set_state(state)
    return generator


def numpy_stream(seed: int, *path: str | int | float | None) -> np.random.Generator:
    """NumPy generator of the stream ``path`` of the run seeded ``seed`` (Philox)."""
    import numpy as np

    return np.random.Generator(np.random.Philox(seed_of(seed, *path)))


@dataclass(frozen=True, slots=True)
class UnitStreams:
    """The streams of one unit: the same source, level and replicate give the same draws.

    Attributes:
        seed: Seed of the run.
        source: Name of the source.
        logsnr: *Requested* level; None for draws that belong to no level (generation).
        replicate: Number of the replicate, from 0.
    """

    seed: int
    source: str
    logsnr: float | None
    replicate: int

    def generator(self, purpose: str) -> torch.Generator:
        """CPU generator for one purpose (``"generate"``, ``"noise"``, ``"reverse"``, …)."""
        # rounded first: adding 0.0 then turns a "-0.000000" into "0.000000"
        level = "none" if self.logsnr is None else f"{round(self.logsnr, 6) + 0.0:.6f}"
        return stream(self.seed, self.source, level, self.replicate, purpose)


class Draws:
    """Open generators, one a row, for samplers that draw many times.

    Args:
        streams: One entry a row.
        purpose: Purpose of the draws.
    """

    def __init__(self, streams: Sequence[UnitStreams], purpose: str) -> None:
        self._generators = [unit.generator(purpose) for unit in streams]

    def __len__(self) -> int:
        return len(self._generators)

    def normal(self, shape: Sequence[int]) -> torch.Tensor:
        """Standard normals, float32, shape ``(N, *shape)``; row n from generator n."""
        import torch

        out = torch.empty((len(self), *shape), dtype=torch.float32, device="cpu")
        for row, generator in zip(out, self._generators, strict=True):
            torch.randn(tuple(shape), generator=generator, out=row)
        return out

    def uniform(self, shape: Sequence[int]) -> torch.Tensor:
        """Uniforms on [0, 1), float64, shape ``(N, *shape)``; row n from generator n."""
        import torch

        out = torch.empty((len(self), *shape), dtype=torch.float64, device="cpu")
        for row, generator in zip(out, self._generators, strict=True):
            torch.rand(tuple(shape), generator=generator, out=row)
        return out


def normals(streams: Sequence[UnitStreams], purpose: str, shape: Sequence[int]) -> torch.Tensor:
    """Standard normals of one draw: float32 on the CPU, shape ``(N, *shape)``."""
    return Draws(streams, purpose).normal(shape)


def canary() -> str:
    """Digest of the first draws of a fixed stream; a run folder stores it.

    Neither PyTorch nor NumPy promises that a seed gives the same normals in every release. A run
    whose canary has changed must not be resumed: its remaining units would mix two generators.
    """
    unit = UnitStreams(seed=0, source="canary", logsnr=0.0, replicate=0)
    draws = Draws([unit], "canary")
    data = draws.normal((20,)).numpy().tobytes() + draws.uniform((20,)).numpy().tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


def _canonical(key: tuple[str | int | float | None, ...]) -> bytes:
    return json.dumps(key, allow_nan=False).encode()
