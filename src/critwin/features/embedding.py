"""Images as vectors: pixels, a network's embedding, any function; distances of such vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from critwin.errors import InputError
from critwin.features._inputs import check_images, check_names, to_numpy
from critwin.features.fingerprints import fingerprint_of
from critwin.features.function import describe_callable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.features.encoders import Encoder

__all__ = [
    "Embedding",
    "EmbeddingComparison",
    "EncoderEmbedding",
    "FunctionEmbedding",
    "PixelEmbedding",
    "as_embedding",
]


@runtime_checkable
class Embedding(Protocol):
    """Samples as vectors; a row's vector does not depend on the other rows.

    Attributes:
        kind: ``"pixels"``, ``"encoder"`` or ``"function"``.
        fingerprint: Digest of everything that changes a vector.
    """

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def __call__(self, samples: Any) -> NDArray[np.float64]:
        """Vectors of N samples, shape ``(N, D)``."""
        ...


@dataclass(frozen=True)
class PixelEmbedding:
    """The pixels of a small copy of the image: means over a grid of cells.

    Attributes:
        size: Cells each way; an image with fewer pixels keeps its own.

    Raises:
        InputError: If there is no cell.
    """

    size: int = 8
    kind = "pixels"

    def __post_init__(self) -> None:
        """Check the size."""
        if not isinstance(self.size, int) or self.size < 1:
            raise InputError("size of a grid of pixels", got=self.size, wanted="at least 1")

    @property
    def fingerprint(self) -> str:
        """Digest of the rule and its size."""
        return fingerprint_of("pixels/1", size=self.size)

    def __call__(self, samples: Any) -> NDArray[np.float64]:
        """Means over the cells.

        Args:
            samples: Images in ``[0, 1]``, shape ``(N, C, H, W)``.

        Returns:
            Shape ``(N, C * cells)``.
        """
        images = check_images(samples)
        num, channels, height, width = images.shape
        down, across = _means(height, self.size), _means(width, self.size)
        small = down @ images @ across.T  # one product an image: no row sees another
        return np.asarray(small.reshape(num, channels * len(down) * len(across)))


@dataclass(frozen=True, eq=False)
class EncoderEmbedding:
    """The image embedding of CLIP or SigLIP, a unit vector.

    Attributes:
        encoder: The network.
    """

    encoder: Encoder
    kind = "encoder"

    @property
    def fingerprint(self) -> str:
        """That of the network."""
        return self.encoder.fingerprint

    def __call__(self, samples: Any) -> NDArray[np.float64]:
        """Unit vectors of images, shape ``(N, D)``."""
        return self.encoder.embed_images(samples)


@dataclass(frozen=True, eq=False)
class FunctionEmbedding:
    """Any function from samples to vectors.

    Attributes:
        function: Takes N samples and returns ``(N, D)`` numbers; it must not look at other rows.
        version: Stated version, as in :class:`~critwin.features.function.FunctionFeature`.
    """

    function: Callable[[Any], Any]
    version: str | None = None
    kind = "function"

    @property
    def fingerprint(self) -> str:
        """Digest of the stated version and the function's own text and constants."""
        return fingerprint_of(
            "function-embedding/1",
            version=self.version,
            function=describe_callable("embedding", self.function, self.version),
        )

    def __call__(self, samples: Any) -> NDArray[np.float64]:
        """What the function returns, shape ``(N, D)``.

        Args:
            samples: N samples.

        Returns:
            The vectors.

        Raises:
            InputError: If they are not finite vectors, one a sample.
        """
        vectors = to_numpy(self.function(samples)).astype(np.float64)
        if vectors.ndim != 2 or len(vectors) != len(samples) or not np.isfinite(vectors).all():
            raise InputError(
                "an embedding returned something that is no vector a sample",
                got=f"shape {vectors.shape}" if np.isfinite(vectors).all() else "NaN",
                wanted=f"finite numbers of shape ({len(samples)}, D)",
            )
        return vectors


def as_embedding(embed: Any) -> Embedding:
    """An embedding from what a user may give.

    Args:
        embed: ``"pixels"``, an encoder, an embedding, or a function.

    Returns:
        The embedding.

    Raises:
        InputError: If it is none of them.
    """
    if isinstance(embed, str):
        if embed != "pixels":
            raise InputError(
                "unknown embedding",
                got=embed,
                wanted='"pixels", load_encoder(...), or a function',
            )
        return PixelEmbedding()
    if hasattr(embed, "embed_images"):
        return EncoderEmbedding(embed)
    if hasattr(embed, "kind") and hasattr(embed, "fingerprint") and callable(embed):
        known: Embedding = embed
        return known
    if callable(embed):
        return FunctionEmbedding(embed)
    raise InputError("unknown embedding", got=type(embed).__name__, wanted="a function")


@dataclass(frozen=True, eq=False)
class EmbeddingComparison:
    """Cosine distance of source and result in an embedding, 0 (same direction) to 2 (opposite).

    Attributes:
        embedding: How samples become vectors.
        name: Name of the comparison and of its number.

    Raises:
        InputError: If the name cannot be used.
    """

    embedding: Embedding
    name: str = "embedding"

    def __post_init__(self) -> None:
        """Check the name."""
        check_names(self.name, ("value",))

    @property
    def fingerprint(self) -> str:
        """Digest of the name and the embedding."""
        return fingerprint_of(
            "embedding-comparison/1", name=self.name, embedding=self.embedding.fingerprint
        )

    def read(self, source: Any, result: Any) -> Mapping[str, NDArray[np.float64]]:
        """Compare N pairs.

        Args:
            source: Samples, shape ``(N, …)``.
            result: Their forward–reverse images, the same shape.

        Returns:
            The distance, shape ``(N,)``; 1 where a vector is zero.
        """
        one, other = self.embedding(source), self.embedding(result)
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        inner = np.einsum("nd,nd->n", one, other)
        cosine = np.divide(inner, lengths, out=np.zeros_like(inner), where=lengths > 0)
        return {self.name: 1.0 - np.clip(cosine, -1.0, 1.0)}


def _means(pixels: int, cells: int) -> NDArray[np.float64]:
    """Rows of weights that average ``pixels`` over ``cells`` equal parts."""
    num = min(pixels, cells)
    edges = np.linspace(0, pixels, num + 1)
    low, high = edges[:-1, None], edges[1:, None]
    left = np.arange(pixels)
    overlap = np.clip(np.minimum(high, left + 1) - np.maximum(low, left), 0, None)
    return np.asarray(overlap / overlap.sum(axis=1, keepdims=True))
