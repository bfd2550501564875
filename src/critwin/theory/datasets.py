r"""A labelled data set is a mixture of points: it predicts its own windows, without any network.

Noised, the law of N points has posterior weights

    ``softmax_n(ln w_n + alpha <y, x_n> / sigma^2 - alpha^2 |x_n|^2 / (2 sigma^2))``,

so the probability of a label given a noisy sample is attention with the points as keys and the
labels as values. A perfect denoiser of that law returns training points: at little noise the
weight sits on the source itself (*collapse*), and a fine label is kept for that reason alone.
*Leave-one-out* takes the source away; what then remains without noise is the agreement of nearest
neighbours, which is the plateau of the curve. Compare normalised curves (``kept``).

Source: Biroli et al. (2024), secs. 2 and 5; docs/theory/datasets.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, overload

import numpy as np
import torch

from critwin.errors import InputError
from critwin.quantities import kept
from critwin.theory._dataset_inputs import check_points
from critwin.theory._dataset_work import lonely, prepare, speciation
from critwin.theory._top_variance import top_variance
from critwin.theory.dataset_results import CollapseCurve, DatasetPrediction, Speciation
from critwin.theory.dataset_sums import Precision
from critwin.transitions import Transitions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = [
    "CollapseCurve",
    "DatasetPrediction",
    "Speciation",
    "dataset_prediction",
    "dataset_transitions",
    "suggest_levels",
]

_WIDE = (20.0, -7.0)  # ln(snr x variance) between which every curve falls
SHARD_SIZE = 8192
"""Points looked at in one go, unless told otherwise."""


@overload
def dataset_transitions(
    points: ArrayLike,
    labels: Mapping[str, ArrayLike],
    logsnr: ArrayLike,
    *,
    weights: ArrayLike | None = ...,
    leave_one_out: bool = ...,
    num_queries: int | None = ...,
    num_seeds: int = ...,
    seed: int = ...,
    shard_size: int = ...,
    device: str | torch.device | None = ...,
    dtype: Precision = ...,
) -> dict[str, Transitions]: ...


@overload
def dataset_transitions(
    points: ArrayLike,
    labels: ArrayLike,
    logsnr: ArrayLike,
    *,
    weights: ArrayLike | None = ...,
    leave_one_out: bool = ...,
    num_queries: int | None = ...,
    num_seeds: int = ...,
    seed: int = ...,
    shard_size: int = ...,
    device: str | torch.device | None = ...,
    dtype: Precision = ...,
) -> Transitions: ...


def dataset_transitions(
    points: ArrayLike,
    labels: Mapping[str, ArrayLike] | ArrayLike,
    logsnr: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    leave_one_out: bool = False,
    num_queries: int | None = None,
    num_seeds: int = 1,
    seed: int = 0,
    shard_size: int = SHARD_SIZE,
    device: str | torch.device | None = None,
    dtype: Precision = "float32",
) -> Transitions | dict[str, Transitions]:
    """Transitions that a labelled data set predicts for a perfect denoiser of its own law.

    Args:
        points: Shape ``(N, ...)``, in the units in which noise is added; flattened to ``(N, D)``.
        labels: Label of every point, text or whole numbers, shape ``(N,)``; or several columns,
            name -> labels, which cost no more than one.
        logsnr: Levels, strictly decreasing, shape ``(L,)``.
        weights: How often each point counts (repeats), shape ``(N,)``; all once unless given.
        leave_one_out: Whether the posterior may not name the source (with all its repeats).
        num_queries: Sources noised; as many as there are points unless given.
        num_seeds: Noises of every source.
        seed: Seed of sources and noise.
        shard_size: Points looked at in one go; it changes results by rounding only.
        device: Where it is computed: ``"cpu"`` unless given, or where ``points`` are if they are
            a tensor.
        dtype: Precision of the products; sums are float64. With float32 the largest error found
            on some queries recomputed in float64 is in ``attrs["float32_error"]``.

    Returns:
        ``kind="estimated"`` with standard errors, ``weights`` the shares of the labels; one table
        for a plain list of labels, column -> table for a mapping.

    Raises:
        InputError: If points are not finite, constant or too few; labels or weights do not fit
            them; a column has one label; or, under leave-one-out, a label has one member.

    Source:
        Biroli et al. (2024), sec. 5; docs/theory/datasets.md, eqs. (2), (5) and (6).
    """
    work = prepare(
        points, labels, logsnr, weights, num_queries, num_seeds, seed, shard_size, device, dtype
    )
    for column in work.columns:
        if leave_one_out and (reason := lonely(column)) is not None:
            raise InputError(reason, next_step="merge labels, or do without leave-one-out")
    means = work.run()
    found = {c.name: work.table(means, k, leave_one_out) for k, c in enumerate(work.columns)}
    return found if isinstance(labels, Mapping) else found["label"]


def dataset_prediction(
    points: ArrayLike,
    labels: Mapping[str, ArrayLike],
    logsnr: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    leave_one_out: bool = True,
    num_queries: int | None = None,
    num_seeds: int = 1,
    seed: int = 0,
    shard_size: int = SHARD_SIZE,
    device: str | torch.device | None = None,
    dtype: Precision = "float32",
) -> DatasetPrediction:
    """Everything a labelled data set predicts, from one pass over it.

    Args:
        points: As in :func:`dataset_transitions`, as is everything up to ``dtype``.
        labels: Column -> labels.
        logsnr: Levels.
        weights: How often each point counts.
        leave_one_out: Whether to add the tables without the source; a column in which a label has
            one member has none, with a reason.
        num_queries: Sources noised.
        num_seeds: Noises of every source.
        seed: Seed.
        shard_size: Points looked at in one go.
        device: Where it is computed.
        dtype: Precision of the products.

    Returns:
        Transitions with and without the source, the collapse curve, the speciation time.

    Raises:
        InputError: As :func:`dataset_transitions`.

    Source:
        Biroli et al. (2024), secs. 2 and 5; docs/theory/datasets.md.
    """
    work = prepare(
        points, labels, logsnr, weights, num_queries, num_seeds, seed, shard_size, device, dtype
    )
    means = work.run()
    reasons = {c.name: why for c in work.columns if (why := lonely(c)) is not None}
    value, stderr = means.collapse
    eigenvalue = top_variance(work.points)
    return DatasetPrediction(
        transitions={c.name: work.table(means, k, False) for k, c in enumerate(work.columns)},
        leave_one_out={
            c.name: work.table(means, k, True)
            for k, c in enumerate(work.columns)
            if leave_one_out and c.name not in reasons
        },
        collapse=CollapseCurve(
            logsnr=work.levels,
            source_weight=value[:, 0],
            source_weight_stderr=stderr[:, 0],
            same_point=value[:, 1],
            same_point_stderr=stderr[:, 1],
            entropy=value[:, 2],
            entropy_stderr=stderr[:, 2],
            num_points=len(work.points.points),
            dim=work.points.points.shape[1],
        ),
        speciation=speciation(eigenvalue),
        reasons=reasons if leave_one_out else {},
        attrs=work.attrs(means),
    )


def suggest_levels(
    points: ArrayLike,
    labels: Mapping[str, ArrayLike],
    *,
    weights: ArrayLike | None = None,
    count: int = 30,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> Array:
    """Levels between which the curves of all columns fall, found with a few queries.

    Args:
        points: As in :func:`dataset_transitions`.
        labels: Column -> labels.
        weights: How often each point counts.
        count: Number of levels, at least 2.
        seed: Seed.
        device: Where it is computed.

    Returns:
        Decreasing logsnr, evenly spaced, shape ``(count,)``.

    Raises:
        InputError: As :func:`dataset_transitions`.
    """
    if count < 2:
        raise InputError("too few levels", got=count, wanted="at least 2")
    raw = points.detach().cpu().numpy() if isinstance(points, torch.Tensor) else points
    scale = np.log(check_points(raw, weights)[0].variance)
    wide = np.linspace(_WIDE[0], _WIDE[1], 48) - scale
    found = dataset_prediction(
        points, labels, wide, weights=weights, num_queries=64, seed=seed, device=device
    )
    curves = _curves(found.transitions)
    if not len(curves):  # repeated points with unlike labels: say what the first one lacks
        kept(next(iter(found.transitions.values())))
    alone = _curves(found.leave_one_out)
    alone = alone if len(alone) else curves
    is_lost = np.maximum.accumulate(curves.max(axis=0)[::-1])[::-1] < 0.02
    is_whole = (curves.min(axis=0) > 0.98) & (alone.min(axis=0) > 0.85)
    first = max(int(np.minimum.accumulate(is_whole).sum()) - 1, 0)
    last = min(len(wide) - int(is_lost.sum()), len(wide) - 1)
    return np.linspace(wide[first], wide[max(last, first + 1)], count)


def _curves(tables: Mapping[str, Transitions]) -> Array:
    """What is kept, of every column that has something to lose."""
    curves = []
    for tr in tables.values():
        try:
            curves.append(kept(tr))
        except InputError:  # its plateau does not exceed chance
            continue
    return np.array(curves)
