"""Embeddings of pixels against plain means, and the cosine distance of two images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from critwin.errors import InputError
from critwin.features import EmbeddingComparison, _factories, checked_compare, load_encoder
from critwin.features.embedding import PixelEmbedding, as_embedding
from tiny_clip import clip_folder, noise_images


def test_pixels_are_means_over_cells() -> None:
    images = np.random.Generator(np.random.Philox(0)).uniform(size=(3, 2, 8, 12))
    found = PixelEmbedding(4)(images).reshape(3, 2, 4, 4)
    np.testing.assert_allclose(
        found, images.reshape(3, 2, 4, 2, 4, 3).mean(axis=(3, 5)), atol=1e-12
    )
    np.testing.assert_allclose(PixelEmbedding(99)(images), images.reshape(3, -1), atol=1e-12)
    whole = PixelEmbedding(5)(images)  # cells cut pixels: weights are shares of area
    np.testing.assert_allclose(
        whole.reshape(3, 2, 25).mean(axis=2), images.mean(axis=(2, 3)), atol=1e-12
    )
    np.testing.assert_array_equal(PixelEmbedding(5)(images[[2]]), whole[[2]])


def test_cosine_distances() -> None:
    comparison = EmbeddingComparison(as_embedding(lambda x: x))
    source = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    result = np.array([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    found = checked_compare(comparison, source, result)
    np.testing.assert_allclose(found["embedding"], [0, 1, 2, 1 - np.sqrt(0.5), 1], atol=1e-12)


def test_a_network_s_distance(tmp_path: Path) -> None:
    encoder = load_encoder(clip_folder(tmp_path / "clip"))
    comparison = EmbeddingComparison(as_embedding(encoder), name="clip")
    one, other = noise_images(4), noise_images(4, seed=1)
    found = checked_compare(comparison, one, other)["clip"]
    cosine = (encoder.embed_images(one) * encoder.embed_images(other)).sum(axis=1)
    np.testing.assert_allclose(found, 1 - cosine, atol=1e-12)
    np.testing.assert_allclose(checked_compare(comparison, one, one)["clip"], 0, atol=1e-12)
    made = _factories.embedding(path=str(tmp_path / "clip"), name="clip", local_files_only=True)
    assert made.fingerprint == comparison.fingerprint
    prints = {
        comparison.fingerprint,
        EmbeddingComparison(as_embedding(encoder)).fingerprint,
        EmbeddingComparison(PixelEmbedding(), name="clip").fingerprint,
        EmbeddingComparison(PixelEmbedding(4), name="clip").fingerprint,
    }
    assert len(prints) == 4


def test_what_cannot_be_used_is_one_line() -> None:
    with pytest.raises(InputError, match="size of a grid of pixels: got 0"):
        PixelEmbedding(0)
    with pytest.raises(InputError, match="cannot be used"):
        EmbeddingComparison(PixelEmbedding(), name="a/b")
    with pytest.raises(InputError, match=r"wanted finite numbers of shape \(3, D\)"):
        as_embedding(lambda x: x[:2])(np.zeros((3, 2)))
