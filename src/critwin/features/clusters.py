"""Clusters of images as labels, for people without labels: what does this model decide first?

k-means on vectors of given images (of generated ones, say) makes the labels ``cluster 1``,
``cluster 2``, …, the largest first. Each is shown by its medoid, the image nearest to its centre
(of all its images the one with the least sum of squared distances to the others). The clusters are
fitted once and kept in a safetensors file, so that a run and its resumption read the same ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.distance import cdist

from critwin.errors import InputError
from critwin.features._inputs import check_names, to_numpy
from critwin.features._kmeans import choose_partition, partition, silhouette
from critwin.features.base import Reading
from critwin.features.embedding import Embedding, PixelEmbedding, as_embedding
from critwin.features.fingerprints import fingerprint_of
from critwin.records import ABSTAIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ClusterFeature", "fit_clusters", "load_clusters"]

_FORMAT = "critwin-clusters/1"
_BATCH = 64


class ClusterFeature:
    """The nearest of some centres.

    Values: ``distance`` to the nearest centre; ``margin``, how much farther the second is, as a
    share of the sum of the two (0 half way, 1 on the centre); ``reach``, the distance as a
    multiple of the cluster's radius.

    Args:
        embedding: How images become vectors.
        centres: Shape ``(K, D)``.
        radii: Largest distance from each centre of an image that it was fitted to, shape ``(K,)``.
        sizes: Number of images in each cluster, shape ``(K,)``.
        medoids: Position of the medoid of each among the images, shape ``(K,)``.
        pictures: The medoids themselves, bytes, shape ``(K, C, H, W)``; None for points.
        silhouette: Mean silhouette of the fit: near 0 there are no clusters to speak of.
        name: Name of the feature.
        abstain_beyond: Abstain where ``reach`` is above this; never if None.
        labels: Names of the clusters; ``cluster 1``, … if None.

    Raises:
        InputError: If shapes disagree, a number is not finite, or an option is out of range.
    """

    def __init__(
        self,
        embedding: Embedding,
        centres: NDArray[np.float64],
        *,
        radii: NDArray[np.float64],
        sizes: NDArray[np.int64],
        medoids: NDArray[np.int64],
        pictures: NDArray[np.uint8] | None = None,
        silhouette: float = float("nan"),
        name: str = "clusters",
        abstain_beyond: float | None = None,
        labels: Any = None,
    ) -> None:
        self.embedding = embedding
        self.centres = np.asarray(centres, dtype=np.float64)
        self.radii = np.asarray(radii, dtype=np.float64)
        self.sizes = np.asarray(sizes, dtype=np.int64)
        self.medoids = np.asarray(medoids, dtype=np.int64)
        self.pictures = pictures
        self.silhouette = float(silhouette)
        num = len(self.centres)
        shapes = {self.radii.shape, self.sizes.shape, self.medoids.shape}
        if self.centres.ndim != 2 or num < 2 or shapes != {(num,)}:
            raise InputError(
                "clusters do not fit together",
                got=f"centres of shape {self.centres.shape}",
                wanted="two or more centres, with a radius, a size and a medoid each",
            )
        if not (np.isfinite(self.centres).all() and np.isfinite(self.radii).all()):
            raise InputError("centres of clusters are not finite")
        if abstain_beyond is not None and not 0 < abstain_beyond < np.inf:
            raise InputError(
                "abstain_beyond is out of range", got=abstain_beyond, wanted="radii, above 0"
            )
        self.name = name
        given = [f"cluster {k + 1}" for k in range(num)] if labels is None else labels
        self.labels = check_names(name, given)
        if len(self.labels) != num:
            raise InputError(
                "labels do not fit the clusters", got=len(self.labels), wanted=f"{num} labels"
            )
        self.abstain_beyond = None if abstain_beyond is None else float(abstain_beyond)

    @property
    def fingerprint(self) -> str:
        """Digest of the embedding, the centres, the labels and the options."""
        return fingerprint_of(
            "clusters/1",
            name=self.name,
            labels=list(self.labels),
            embedding=self.embedding.fingerprint,
            centres=self.centres,
            radii=self.radii,
            abstain_beyond=self.abstain_beyond,
        )

    def read(self, samples: Any) -> Reading:
        """Read N samples.

        Args:
            samples: Images in ``[0, 1]``, shape ``(N, C, H, W)``, or what the embedding takes.

        Returns:
            The reading, without probabilities.

        Raises:
            InputError: If their vectors have another length than the centres.
        """
        vectors = _vectors(self.embedding, samples)
        if vectors.shape[1] != self.centres.shape[1]:
            raise InputError(
                f"feature {self.name!r} was fitted to other images",
                got=f"vectors of length {vectors.shape[1]}",
                wanted=f"length {self.centres.shape[1]}",
                next_step="fit the clusters to images of this size",
            )
        away = cdist(vectors, self.centres)
        nearest = away.argmin(axis=1)
        first, second = np.sort(away, axis=1)[:, :2].T
        total = first + second
        margin = np.divide(second - first, total, out=np.zeros_like(total), where=total > 0)
        reach = first / np.maximum(self.radii[nearest], np.finfo(float).tiny)
        indices = nearest
        if self.abstain_beyond is not None:
            indices = np.where(reach > self.abstain_beyond, ABSTAIN, nearest)
        values = {"distance": first, "margin": margin, "reach": np.minimum(reach, 1e300)}
        return Reading(indices=indices, values=values)

    def save(self, path: str | Path) -> Path:
        """Write the clusters to a safetensors file.

        Args:
            path: The file; it is written whole or not at all.

        Returns:
            The file.

        Raises:
            InputError: If it cannot be written.
        """
        from safetensors.numpy import save

        tensors = {
            "centres": self.centres,
            "radii": self.radii,
            "sizes": self.sizes,
            "medoids": self.medoids,
        }
        if self.pictures is not None:
            tensors["pictures"] = np.ascontiguousarray(self.pictures)
        embedding: dict[str, Any] = {
            "kind": self.embedding.kind,
            "fingerprint": self.embedding.fingerprint,
        }
        if isinstance(self.embedding, PixelEmbedding):
            embedding["size"] = self.embedding.size
        encoder = getattr(self.embedding, "encoder", None)
        if (source := getattr(encoder, "source", None)) is not None:
            embedding["source"] = source
        metadata = {
            "format": _FORMAT,
            "name": self.name,
            "labels": json.dumps(list(self.labels)),
            "silhouette": json.dumps(self.silhouette if np.isfinite(self.silhouette) else None),
            "embedding": json.dumps(embedding),
        }
        file = Path(path)
        partial = file.with_name(f".{file.name}.tmp")
        try:
            partial.write_bytes(save(tensors, metadata=metadata))
            partial.replace(file)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise InputError(
                "cannot write the clusters", got=f"{path} ({error.strerror})"
            ) from error
        return file


def fit_clusters(
    images: Any,
    embed: Any = "pixels",
    num: int | None = None,
    *,
    seed: int = 0,
    max_clusters: int = 8,
    name: str = "clusters",
    abstain_beyond: float | None = None,
) -> ClusterFeature:
    """Find clusters in images.

    Args:
        images: Images in ``[0, 1]``, shape ``(N, C, H, W)``, or what ``embed`` takes.
        embed: ``"pixels"`` (a small copy of the image), an encoder, or a function to vectors.
        num: Number of clusters; that of the largest mean silhouette if None.
        seed: Seed of the starts.
        max_clusters: Largest number that is tried.
        name: Name of the feature.
        abstain_beyond: Abstain where an image is farther from its centre than this many radii.

    Returns:
        The feature; the order of the images changes nothing but ``medoids``.

    Raises:
        InputError: If there are too few different images, or they are not finite.
    """
    embedding = as_embedding(embed)
    if num is not None and (not isinstance(num, int) or num < 2):
        raise InputError("number of clusters", got=num, wanted="at least 2")
    if max_clusters < 2:
        raise InputError("max_clusters is out of range", got=max_clusters, wanted="at least 2")
    vectors = _vectors(embedding, images)
    if len(vectors) < 2 or not np.isfinite(vectors).all():
        raise InputError(
            "images cannot be put into clusters",
            got=f"{len(vectors)} images" if len(vectors) < 2 else "NaN or infinite numbers",
            wanted="two or more finite images",
        )
    found = (
        choose_partition(vectors, max_clusters, seed)
        if num is None
        else partition(vectors, num, seed)
    )
    away = cdist(vectors, found.centres)[np.arange(len(vectors)), found.members]
    groups = [np.flatnonzero(found.members == k) for k in range(len(found.centres))]
    medoids = np.array([rows[away[rows].argmin()] for rows in groups])
    shown = to_numpy(images)[medoids]
    return ClusterFeature(
        embedding,
        found.centres,
        radii=np.array([away[rows].max() for rows in groups]),
        sizes=np.array([len(rows) for rows in groups]),
        medoids=medoids,
        pictures=np.rint(255 * np.clip(shown, 0, 1)).astype(np.uint8) if shown.ndim == 4 else None,
        silhouette=silhouette(vectors, found.members),
        name=name,
        abstain_beyond=abstain_beyond,
    )


def load_clusters(
    file: str | Path,
    *,
    embed: Any = None,
    name: str | None = None,
    abstain_beyond: float | None = None,
    labels: Any = None,
    **options: Any,
) -> ClusterFeature:
    """Clusters from a file that :meth:`ClusterFeature.save` wrote.

    Args:
        file: The file.
        embed: The encoder or function; needed for a function, looked up for a network.
        name: Name of the feature; that in the file unless given.
        abstain_beyond: Abstain where an image is farther than this many radii.
        labels: Names of the clusters, the largest first; ``cluster 1``, … unless given.
        **options: Options of :func:`~critwin.features.encoders.load_encoder`; its ``path`` if
            the network has moved.

    Returns:
        The feature.

    Raises:
        InputError: If the file is missing or holds something else, or the embedding is another.
    """
    from safetensors import SafetensorError, safe_open

    place = Path(file)
    if not place.is_file():
        raise InputError("no such file of clusters", got=str(file), wanted="a .safetensors file")
    try:
        with safe_open(place, framework="np") as opened:
            metadata = opened.metadata() or {}
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(
            "not a readable safetensors file", got=f"{file}: {error}", wanted="a saved fit"
        ) from error
    if metadata.get("format") != _FORMAT:
        raise InputError(
            f"{place.name} holds no clusters",
            got=metadata.get("format"),
            wanted=_FORMAT,
            next_step="save them with fit_clusters(...).save(path)",
        )
    try:
        about = json.loads(metadata["embedding"])
        embedding = _embedding_of(about, embed, options)
        width = json.loads(metadata["silhouette"])
        feature = ClusterFeature(
            embedding,
            tensors["centres"],
            radii=tensors["radii"],
            sizes=tensors["sizes"],
            medoids=tensors["medoids"],
            pictures=tensors.get("pictures"),
            silhouette=float("nan") if width is None else float(width),
            name=metadata["name"] if name is None else name,
            abstain_beyond=abstain_beyond,
            labels=json.loads(metadata["labels"]) if labels is None else labels,
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{place.name} does not describe its clusters", got=f"{type(error).__name__}: {error}"
        ) from error
    if embedding.fingerprint != about.get("fingerprint"):
        raise InputError(
            f"{place.name} was fitted with another embedding",
            got=about.get("source", about.get("kind")),
            wanted="the same network, numbers and batch size, or the same function",
            next_step="fit the clusters again",
        )
    return feature


def _embedding_of(about: Any, embed: Any, options: dict[str, Any]) -> Embedding:
    if embed is not None:
        return as_embedding(embed)
    if about["kind"] == "pixels":
        return PixelEmbedding(int(about["size"]))
    if about["kind"] == "encoder":
        from critwin.features.encoders import load_encoder

        path = options.pop("path", None) or about["source"]
        return as_embedding(load_encoder(path, **options))
    raise InputError(
        "clusters were fitted with a function", wanted="the function", next_step="pass embed="
    )


def _vectors(embedding: Embedding, samples: Any) -> NDArray[np.float64]:
    parts = [embedding(samples[i : i + _BATCH]) for i in range(0, max(len(samples), 1), _BATCH)]
    return np.concatenate(parts)
