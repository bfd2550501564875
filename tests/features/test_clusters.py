"""Clusters: blobs recovered exactly, the same in any order, kept in a file without pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.spatial.distance import cdist

from critwin.errors import InputError
from critwin.features import checked_read, fit_clusters, load_clusters, load_encoder, load_feature
from critwin.features._kmeans import partition, silhouette
from critwin.features.clusters import ClusterFeature
from tiny_clip import clip_folder, noise_images

SIZES = (40, 25, 15)


def blobs(seed: int = 0, spread: float = 0.3) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Three blobs far apart, mixed, with their true number (the largest first)."""
    rng = np.random.Generator(np.random.Philox(seed))
    truth = np.repeat(np.arange(3), SIZES)
    rng.shuffle(truth)
    centres = np.array([[0.0, 0.0], [6.0, 1.0], [-2.0, 7.0]])
    return centres[truth] + rng.normal(scale=spread, size=(len(truth), 2)), truth


def plain(points: Any) -> Any:
    return points


def fitted(points: Any, num: int | None = None, **options: Any) -> ClusterFeature:
    return fit_clusters(points, plain, num, **options)


def patches(num: int = 24) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Images that are bright on the left, on the right, or everywhere."""
    rng = np.random.Generator(np.random.Philox(4))
    truth = np.arange(num) % 3
    images = rng.uniform(0, 0.05, size=(num, 3, 12, 12))
    images[truth == 0, :, :, :6] += 0.8
    images[truth == 1, :, :, 6:] += 0.8
    images[truth == 2] += 0.8
    return images, truth


@pytest.mark.parametrize("num", [3, None])
def test_separated_blobs_are_recovered_exactly(num: int | None) -> None:
    points, truth = blobs()
    feature = fitted(points, num)
    assert feature.labels == ("cluster 1", "cluster 2", "cluster 3")
    np.testing.assert_array_equal(checked_read(feature, points).indices, truth)
    assert feature.sizes.tolist() == list(SIZES)
    assert feature.silhouette > 0.8
    for k in range(3):
        np.testing.assert_allclose(feature.centres[k], points[truth == k].mean(axis=0), atol=1e-12)
        own = np.flatnonzero(truth == k)
        total = cdist(points[own], points[own], "sqeuclidean").sum(axis=1)
        assert feature.medoids[k] == own[total.argmin()]


def test_the_order_of_the_images_changes_nothing() -> None:
    points, _ = blobs(spread=1.5)  # overlapping, so that starts matter
    first = fitted(points, 4)
    for seed in range(5):
        order = np.random.Generator(np.random.Philox(seed)).permutation(len(points))
        other = fitted(points[order], 4)
        assert other.fingerprint == first.fingerprint
        np.testing.assert_array_equal(order[other.medoids], first.medoids)


def test_no_partition_of_few_points_is_better() -> None:
    """Against all ways to put 8 points into 3 clusters."""
    points = np.random.Generator(np.random.Philox(6)).normal(size=(8, 2))
    best = np.inf
    for code in range(3**8):
        members = np.array([code // 3**k % 3 for k in range(8)])
        if len(np.unique(members)) == 3 and members[0] == 0:
            groups = [points[members == k] for k in range(3)]
            best = min(best, sum(((g - g.mean(axis=0)) ** 2).sum() for g in groups))
    assert partition(points, 3, seed=0).inertia == pytest.approx(best, rel=1e-12)


def test_the_silhouette_by_its_definition() -> None:
    points = np.random.Generator(np.random.Philox(7)).normal(size=(12, 3))
    members = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3])
    widths = []
    for i in range(12):
        away = np.linalg.norm(points - points[i], axis=1)
        same = (members == members[i]) & (np.arange(12) != i)
        if not same.any():
            widths.append(0.0)
            continue
        inner = away[same].mean()
        outer = min(away[members == k].mean() for k in range(4) if k != members[i])
        widths.append((outer - inner) / max(inner, outer))
    assert silhouette(points, members) == pytest.approx(np.mean(widths), abs=1e-12)


def test_an_empty_start_and_equal_points_are_no_trouble() -> None:
    points = np.repeat([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]], [30, 1, 1], axis=0)
    feature = fitted(points, 3)
    assert feature.sizes.tolist() == [30, 1, 1]
    assert feature.radii.tolist() == [0, 0, 0]
    assert feature.read(points[:1]).values["reach"].tolist() == [0]
    assert checked_read(feature, np.array([[0.4, 0.0]])).indices.tolist() == [0]


def test_it_abstains_far_from_all_centres() -> None:
    points, _ = blobs()
    feature = fitted(points, 3, abstain_beyond=1.5)
    reading = checked_read(feature, np.array([[0.0, 0.0], [2.0, 3.0], [6.0, 1.0], [100.0, 100.0]]))
    assert reading.indices.tolist() == [0, -1, 1, -1]
    away = cdist([[2.0, 3.0]], feature.centres)[0]
    first, second = np.sort(away)[:2]
    assert reading.values["distance"][1] == pytest.approx(first)
    assert reading.values["margin"][1] == pytest.approx((second - first) / (second + first))
    assert reading.values["reach"][1] == pytest.approx(first / feature.radii[away.argmin()])


def test_images_by_their_pixels_and_a_file(tmp_path: Path) -> None:
    images, truth = patches()
    feature = fit_clusters(images, num=3, abstain_beyond=3.0)
    said = checked_read(feature, images).indices
    assert len({(a, b) for a, b in zip(said.tolist(), truth.tolist(), strict=True)}) == 3
    assert feature.pictures is not None
    np.testing.assert_array_equal(
        feature.pictures, np.rint(255 * images[feature.medoids]).astype(np.uint8)
    )
    file = feature.save(tmp_path / "first.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["first.safetensors"]
    loaded = load_feature("clusters", file=str(file), abstain_beyond=3.0)
    assert loaded.fingerprint == feature.fingerprint
    assert loaded.silhouette == feature.silhouette
    np.testing.assert_array_equal(loaded.medoids, feature.medoids)
    np.testing.assert_array_equal(loaded.pictures, feature.pictures)
    np.testing.assert_array_equal(loaded.read(images).indices, said)
    named = load_feature("clusters", file=str(file), labels=["a", "b", "c"], called="side")
    assert (named.name, named.labels) == ("side", ("a", "b", "c"))
    assert named.fingerprint != load_clusters(file).fingerprint
    with pytest.raises(InputError, match="was fitted to other images: got vectors of length 64"):
        loaded.read(images[:, :1])
    with pytest.raises(InputError, match="wanted 3 labels"):
        load_feature("clusters", file=str(file), labels=["a", "b"])
    with pytest.raises(InputError, match="cannot write the clusters"):
        feature.save(tmp_path / "none" / "x.safetensors")


def test_images_by_a_network_and_a_file(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "clip")
    images = noise_images(12)
    feature = fit_clusters(images, load_encoder(folder), 3)
    file = feature.save(tmp_path / "c.safetensors")
    loaded = load_feature("clusters", file=str(file), local_files_only=True)
    assert loaded.fingerprint == feature.fingerprint
    np.testing.assert_array_equal(loaded.read(images).indices, feature.read(images).indices)
    clip_folder(folder, seed=1)
    with pytest.raises(InputError, match="was fitted with another embedding"):
        load_clusters(file)
    moved = clip_folder(tmp_path / "moved")
    assert load_feature("clusters", file=str(file), path=str(moved)).fingerprint == (
        feature.fingerprint
    )


def test_a_function_must_be_given_again(tmp_path: Path) -> None:
    points, _ = blobs()
    file = fitted(points, 3).save(tmp_path / "c.safetensors")
    with pytest.raises(InputError, match=r"fitted with a function.*pass embed="):
        load_clusters(file)
    assert load_clusters(file, embed=plain).fingerprint == fitted(points, 3).fingerprint
    with pytest.raises(InputError, match="fitted with another embedding"):
        load_clusters(file, embed=lambda x: x)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.zeros((5, 2)), plain, 2), {}, "fewer different images than clusters: got 1"),
        ((np.zeros((5, 2)), plain), {}, "fewer different images than clusters"),
        ((np.zeros((1, 2)), plain), {}, "cannot be put into clusters: got 1 images"),
        ((np.array([[0.0], [1.0], [2.0]]), plain, 1), {}, "number of clusters: got 1"),
        ((np.array([[0.0], [1.0], [2.0]]), plain, 4), {}, "got 3; wanted at least 4"),
        ((np.array([[0.0], [1.0]]), plain, 2), {"abstain_beyond": 0}, "abstain_beyond"),
        ((np.array([[0.0], [1.0]]), plain), {"max_clusters": 1}, "max_clusters"),
        ((np.array([[0.0], [1.0]]), "latents"), {}, "unknown embedding: got latents"),
        ((np.array([[0.0], [1.0]]), 3), {}, "unknown embedding: got int"),
        ((np.array([[0.0], [1.0]]), lambda x: x[:, 0]), {}, "no vector a sample"),
        ((np.array([[0.0], [np.nan]]), plain), {}, "no vector a sample: got NaN"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        fit_clusters(*arguments, **options)
    assert "\n" not in str(caught.value)


def spoilt(path: Path, *, drop: str = "", **metadata: str | None) -> Path:
    points, _ = blobs()
    fit_clusters(points, plain, 3).save(path)
    from safetensors import safe_open

    with safe_open(path, framework="np") as opened:
        meta = {**opened.metadata(), **metadata}
        tensors = {k: opened.get_tensor(k) for k in opened.keys() if k != drop}  # noqa: SIM118
    save_file(tensors, path, metadata={k: v for k, v in meta.items() if v is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": None}, "holds no clusters"),
        ({"format": "x"}, "holds no clusters: got x"),
        ({"embedding": "{"}, "does not describe its clusters: got JSONDecodeError"),
        ({"embedding": "[]"}, "does not describe its clusters: got TypeError"),
        ({"embedding": json.dumps({"kind": "pixels", "size": "a"})}, "does not describe"),
        ({"labels": "[1]"}, "at least one non-empty string"),
        ({"drop": "radii"}, "does not describe its clusters: got KeyError"),
    ],
)
def test_a_file_that_holds_something_else(tmp_path: Path, changes: Any, message: str) -> None:
    file = spoilt(tmp_path / "c.safetensors", **changes)
    embed = plain if "embedding" not in changes else None
    with pytest.raises(InputError, match=message) as caught:
        load_clusters(file, embed=embed)
    assert "\n" not in str(caught.value)


def test_no_file_and_no_safetensors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file of clusters"):
        load_clusters(tmp_path / "none.safetensors")
    (tmp_path / "p.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_clusters(tmp_path / "p.safetensors")
    with pytest.raises(InputError, match="needs the option 'file'"):
        load_feature("clusters")


def test_the_fingerprint_changes_with_everything() -> None:
    points, _ = blobs()
    made = [
        fitted(points, 3),
        fitted(points, 2),
        fitted(points + 1e-9, 3),
        fitted(points, 3, name="x"),
        fitted(points, 3, abstain_beyond=2.0),
        fit_clusters(points, lambda x: x, 3),
    ]
    assert len({one.fingerprint for one in made}) == len(made)
