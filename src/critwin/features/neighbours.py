"""Where a result lands among known images: at its source's own neighbour, or at another one.

The *home* of a source is the image of the pool that lies nearest to it: the source itself if the
pool holds it, else the training image that a generated one resembles most. A forward–reverse
image *returns* if the home is also the image of the pool that lies nearest to the result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError
from critwin.features._inputs import check_names, to_numpy

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["Neighbours"]

_CROWD = 50
_CHUNK = 256


class Neighbours:
    """A comparison that places sources and results among the images of a pool.

    Its numbers, distances being root mean squares over coordinates:

    - ``home``: index of the source's nearest image of the pool, ``source_distance`` to it;
    - ``distance``: from the result to the home;
    - ``rival``: index of the image nearest to the result, the home left out, and
      ``rival_distance``;
    - ``crowd_distance``: mean distance from the result to its 50 nearest, the home left out.

    Attributes:
        name: Name of the comparison.
        names: Names of the images of the pool.
        fingerprint: Digest of the pool.

    Args:
        pool: Images in [0, 1], shape ``(P, C, H, W)``, or points, shape ``(P, D)``; P >= 2.
        names: Names of the images; their numbers unless given.
        name: Name of the comparison.

    Raises:
        InputError: If the pool has fewer than two images, or names do not fit or cannot be used.
    """

    def __init__(
        self, pool: ArrayLike, *, names: Sequence[str] | None = None, name: str = "neighbours"
    ) -> None:
        check_names(name, ("value",))
        images = np.ascontiguousarray(np.asarray(pool, dtype=np.float32))
        if images.ndim < 2 or len(images) < 2:
            raise InputError(
                "a pool needs at least two images", got=images.shape, wanted="(P, ...), P >= 2"
            )
        self.name = name
        self.names = tuple(str(i) for i in range(len(images))) if names is None else tuple(names)
        if len(self.names) != len(images):
            raise InputError(
                "names do not fit the pool", got=len(self.names), wanted=str(len(images))
            )
        self._shape = images.shape[1:]
        self._flat = images.reshape(len(images), -1)
        self._square = np.einsum("nd,nd->n", self._flat, self._flat)
        digest = hashlib.sha256(repr(images.shape).encode() + self._flat.tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def read(self, source: Any, result: Any) -> Mapping[str, Array]:
        """Place N pairs; see the class for the numbers.

        Args:
            source: Sources, shape ``(N, ...)`` like an image of the pool.
            result: Their forward–reverse images, the same shape.

        Returns:
            Name -> numbers, shape ``(N,)``.

        Raises:
            InputError: If the images have another shape than those of the pool.
        """
        sides = [self._rows(side) for side in (source, result)]
        keys = ("home", "source_distance", "distance", "rival", "rival_distance", "crowd_distance")
        parts: list[dict[str, Array]] = []
        for start in range(0, len(sides[0]), _CHUNK):
            here, there = (side[start : start + _CHUNK] for side in sides)
            rows = np.arange(len(here))
            home = self._squares(here).argmin(axis=1)
            around = self._squares(there)
            around[rows, home] = np.inf
            rival = around.argmin(axis=1)
            count = min(_CROWD, len(self._flat) - 1)
            crowd = np.partition(around, count - 1, axis=1)[:, :count]
            parts.append(
                {
                    "home": home.astype(np.float64),
                    "source_distance": self._exact(here, home),
                    "distance": self._exact(there, home),
                    "rival": rival.astype(np.float64),
                    "rival_distance": self._exact(there, rival),
                    "crowd_distance": np.sqrt(np.maximum(crowd, 0.0) / here.shape[1]).mean(axis=1),
                }
            )
        if not parts:
            return {key: np.zeros(0) for key in keys}
        return {key: np.concatenate([part[key] for part in parts]) for key in keys}

    def image(self, index: int) -> NDArray[np.float32]:
        """One image of the pool.

        Args:
            index: Its index.

        Returns:
            The image, as it was given.
        """
        image: NDArray[np.float32] = self._flat[index].reshape(self._shape)
        return image

    def _rows(self, side: Any) -> NDArray[np.float32]:
        array = to_numpy(side)
        if array.shape[1:] != self._shape:
            raise InputError(
                "images do not have the shape of those of the pool",
                got=array.shape[1:],
                wanted=str(self._shape),
            )
        return array.reshape(len(array), -1).astype(np.float32)

    def _squares(self, rows: NDArray[np.float32]) -> Array:
        """Squared distances to every image of the pool, shape ``(N, P)``."""
        own = np.einsum("nd,nd->n", rows, rows)
        products = rows @ self._flat.T
        return np.asarray(own[:, None] + self._square[None] - 2.0 * products, dtype=np.float64)

    def _exact(self, rows: NDArray[np.float32], index: NDArray[np.int64]) -> Array:
        """Distance to one image each, without the cancellation of the products."""
        gap = rows.astype(np.float64) - self._flat[index]
        return np.asarray(np.sqrt(np.mean(gap * gap, axis=1)))
