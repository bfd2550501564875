"""Partial statistics of shards: right against the definition, associative, in any order alike."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from critwin.errors import InputError
from critwin.theory.dataset_sums import (
    PointShard,
    PosteriorSums,
    Queries,
    merge_sums,
    posterior_sums,
)
from dataset_cases import LEVELS, cloud

POINTS, LABELS = cloud(30, 4)
ONE_HOT = np.eye(3)[LABELS]
WEIGHTS = 1.0 + np.arange(30) % 3
SOURCES = np.array([0, 7, 29, 7])


def queries() -> Queries:
    generator = torch.Generator().manual_seed(0)
    return Queries(
        points=torch.from_numpy(POINTS[SOURCES]),
        normals=torch.randn((2, 4, 4), generator=generator, dtype=torch.float64),
        index=torch.from_numpy(SOURCES),
    )


def shard(start: int, stop: int, *, is_weighted: bool = True) -> PointShard:
    return PointShard(
        points=torch.from_numpy(POINTS[start:stop]),
        start=start,
        weights=torch.from_numpy(WEIGHTS[start:stop]) if is_weighted else None,
        one_hot=torch.from_numpy(ONE_HOT[start:stop]),
    )


def sums(*cuts: int) -> list[PosteriorSums]:
    edges = [0, *cuts, 30]
    return [
        posterior_sums(queries(), shard(a, b), LEVELS, dtype="float64") for a, b in pairwise(edges)
    ]


def absolute(part: PosteriorSums) -> tuple[Any, ...]:
    """Statistics that do not depend on where the peak is."""
    mass = np.log(part.sums.sum(axis=-1)) + part.peak
    law = part.sums / part.sums.sum(axis=-1, keepdims=True)
    return mass, law, np.log(part.squares) + 2 * part.peak, part.nearness, part.nearest


def close(a: PosteriorSums, b: PosteriorSums) -> None:
    for x, y in zip(absolute(a), absolute(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)


def test_sums_are_those_of_the_definition() -> None:
    (found,) = sums()
    q = queries()
    for level, logsnr in enumerate(LEVELS):
        snr = np.exp(logsnr)
        for r in range(2):
            for k, i in enumerate(SOURCES):
                a = POINTS @ POINTS[i] - 0.5 * (POINTS**2).sum(axis=1)
                b = POINTS @ q.normals[r, k].numpy()
                logit = snr * a + np.sqrt(snr) * b
                others = np.arange(30) != i
                assert found.peak[level, r, k] == pytest.approx(logit[others].max())
                e = WEIGHTS * np.exp(logit - logit[others].max()) * others
                # what is next to nothing is only known to be so
                np.testing.assert_allclose(
                    found.sums[level, r, k], e @ ONE_HOT, rtol=1e-9, atol=1e-290
                )
                assert found.squares[level, r, k] == pytest.approx((e**2).sum())
    for k, i in enumerate(SOURCES):
        distance = ((POINTS - POINTS[i]) ** 2).sum(axis=1)
        distance[i] = np.inf
        assert found.nearest[k] == distance.argmin()


@pytest.mark.parametrize("cuts", [(10,), (1, 2, 29), tuple(range(1, 30))])
def test_shards_merge_to_the_whole(cuts: tuple[int, ...]) -> None:
    (whole,) = sums()
    close(merge_sums(sums(*cuts)), whole)


def test_merging_is_associative_and_takes_any_order() -> None:
    a, b, c = sums(9, 21)
    left, right = merge_sums([merge_sums([a, b]), c]), merge_sums([a, merge_sums([b, c])])
    close(left, right)
    close(merge_sums([c, a, b]), left)
    again = merge_sums([merge_sums([a, b]), c])
    assert again.sums.tobytes() == left.sums.tobytes()


def test_a_shard_of_the_source_alone_adds_nothing() -> None:
    only = Queries(
        points=torch.from_numpy(POINTS[:1]),
        normals=queries().normals[:, :1],
        index=torch.tensor([0]),
    )
    alone = posterior_sums(only, shard(0, 1), LEVELS, dtype="float64")
    assert np.all(alone.sums == 0)
    assert alone.nearest[0] == -1
    rest = posterior_sums(only, shard(1, 30), LEVELS, dtype="float64")
    close(merge_sums([alone, rest]), rest)
    close(merge_sums([rest, alone]), rest)


def test_a_wrong_merge_is_caught_by_these_tests() -> None:
    """Adding sums without rescaling them to one peak is not near the whole."""
    (whole,) = sums()
    a, b = sums(15)
    wrong = PosteriorSums(
        peak=np.maximum(a.peak, b.peak),
        sums=a.sums + b.sums,
        squares=a.squares + b.squares,
        nearness=a.nearness,
        nearest=a.nearest,
    )
    assert np.abs(absolute(wrong)[0] - absolute(whole)[0]).max() > 0.1


def test_statistics_that_do_not_fit_are_refused() -> None:
    (whole,) = sums()
    other = posterior_sums(queries(), shard(0, 30), LEVELS[:2], dtype="float64")
    with pytest.raises(InputError, match="different queries, levels or labels"):
        merge_sums([whole, other])
    with pytest.raises(InputError, match="no statistics to merge"):
        merge_sums([])
    flat = PointShard(points=torch.zeros(3, 2), start=0, weights=None, one_hot=torch.zeros(3, 3))
    with pytest.raises(InputError, match="queries and points do not fit"):
        posterior_sums(queries(), flat, LEVELS)


def test_products_at_hand_change_nothing() -> None:
    plain = shard(0, 30)
    known = replace(plain, gram=plain.points @ plain.points.T)
    (whole,) = sums()
    close(posterior_sums(queries(), known, LEVELS, dtype="float64"), whole)
    wrong = replace(plain, gram=plain.points @ plain.points.T.roll(1, dims=1))
    other = posterior_sums(queries(), wrong, LEVELS, dtype="float64")
    assert np.abs(absolute(other)[0] - absolute(whole)[0]).max() > 0.1


def test_sums_by_runs_of_equal_labels_equal_those_by_products() -> None:
    order = np.argsort(LABELS, kind="stable")
    place = np.argsort(order)
    sorted_shard = PointShard(
        points=torch.from_numpy(POINTS[order]),
        start=0,
        weights=torch.from_numpy(WEIGHTS[order]),
        one_hot=torch.from_numpy(ONE_HOT[order]),
    )
    (whole,) = sums()  # thirty points in mixed order: more runs than are added one by one
    moved = replace(queries(), index=torch.from_numpy(place[SOURCES]))
    found = posterior_sums(moved, sorted_shard, LEVELS, dtype="float64")
    for x, y in zip(absolute(found)[:4], absolute(whole)[:4], strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(order[found.nearest], whole.nearest)


@pytest.mark.parametrize("is_weighted", [True, False])
def test_no_point_weighs_more_than_the_peak(is_weighted: bool) -> None:
    # logits of 1e9 are rounded by tens in float32: no exponential may rise above its peak
    far = np.random.Generator(np.random.Philox(0)).normal(size=(30, 4)) * 20
    index = np.arange(30)
    generator = torch.Generator().manual_seed(0)
    found = posterior_sums(
        Queries(
            points=torch.from_numpy(far),
            normals=torch.randn((1, 30, 4), generator=generator, dtype=torch.float64),
            index=torch.from_numpy(index),
        ),
        PointShard(
            points=torch.from_numpy(far),
            start=0,
            weights=torch.from_numpy(WEIGHTS) if is_weighted else None,
            one_hot=torch.from_numpy(ONE_HOT),
        ),
        np.linspace(19.4, 14.0, 12),
    )
    heaviest = WEIGHTS if is_weighted else np.ones(30)
    assert np.all(found.sums.sum(axis=-1) <= heaviest.sum())
    assert np.all(found.squares <= (heaviest**2).sum() * (1 + 1e-6))
