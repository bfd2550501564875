"""Labelled points for the tests of data sets, and the plain loop that defines what is right."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from critwin.streams import numpy_stream
from critwin.theory._dataset_inputs import check_points, label_columns
from critwin.theory._dataset_queries import CHUNK, plan_queries, query_noise

Array = NDArray[np.float64]
LEVELS = np.array([4.0, 1.0, 0.0, -1.0, -3.0])


def cloud(num: int = 40, dim: int = 3, *, seed: int = 0) -> tuple[Array, NDArray[np.int64]]:
    """Points around three centres with the number of the centre as label; some lie astray."""
    rng = numpy_stream(seed, "cloud")
    labels = np.arange(num) % 3
    centres = 2.0 * rng.standard_normal((3, dim))
    return centres[labels] + rng.standard_normal((num, dim)) + 5.0, labels


class Naive(NamedTuple):
    """What the loop found, averaged over queries."""

    probs: Array  # (L, I, I)
    source: Array  # (L,)
    same: Array  # (L,)
    entropy: Array  # (L,)


def naive(
    points: Array,
    labels: NDArray[np.int64],
    levels: Array,
    *,
    weights: Array | None = None,
    leave_one_out: bool = False,
    num_queries: int | None = None,
    num_seeds: int = 1,
    seed: int = 0,
) -> Naive:
    """The definition, one query, noise and level at a time, in float64.

    ``y = alpha x + sigma z``; the weight of point n is ``w_n N(y; alpha x_n, sigma^2 I)``.
    """
    num = len(points)
    mass = np.ones(num) if weights is None else weights
    checked, keep = check_points(points, weights)
    columns = label_columns(labels, keep, num)
    plan = plan_queries(checked.law, columns, num_queries or len(keep), seed)
    assert len(keep) == num  # positions in the plan are those of the points
    noise = [
        query_noise(seed, a // CHUNK, num_seeds, min(CHUNK, len(plan.index) - a), points.shape[1])
        for a in range(0, len(plan.index), CHUNK)
    ]
    z = np.concatenate(noise, axis=1).astype(np.float64)
    size = labels.max() + 1
    total = np.zeros(size)
    probs = np.zeros((len(levels), size, size))
    rest: Any = np.zeros((3, len(levels)))
    for q, (i, share) in enumerate(zip(plan.index, plan.weight, strict=True)):
        total[labels[i]] += share
        for r in range(num_seeds):
            for level, logsnr in enumerate(levels):
                alpha, sigma = np.sqrt([1 / (1 + np.exp(-logsnr)), 1 / (1 + np.exp(logsnr))])
                y = alpha * points[i] + sigma * z[r, q]
                with np.errstate(divide="ignore"):
                    log = np.log(mass) - ((y - alpha * points) ** 2).sum(axis=1) / (2 * sigma**2)
                if leave_one_out:
                    log[i] = -np.inf
                post = np.exp(log - log.max())
                post /= post.sum()
                row = np.bincount(labels, weights=post, minlength=size)
                probs[level, labels[i]] += share / num_seeds * row
                positive = post[post > 0]
                found = (post[i], (post**2).sum(), -(positive * np.log(positive)).sum())
                rest[:, level] += share / num_seeds * np.array(found)
    return Naive(probs / total[:, None], *rest)
