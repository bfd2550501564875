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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args, overload

import numpy as np
import torch

from critwin._curves import SampledCurve, crossing
from critwin.errors import InputError
from critwin.estimates import Edge, edge_of
from critwin.levels import ou_time
from critwin.theory._dataset_engine import Averages, average
from critwin.theory._dataset_inputs import LabelColumn, PointSet, check_points, label_columns
from critwin.theory._dataset_queries import plan_queries
from critwin.theory._top_variance import top_variance
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
]

SHARD_SIZE = 8192
"""Points looked at in one go, unless told otherwise."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CollapseCurve:
    """How far a perfect denoiser of the data returns the very point that was noised.

    ``source_weight`` and ``same_point`` have the same expectation (the source is one more draw
    from the posterior); the second has the smaller error.

    Attributes:
        logsnr: Levels, shape ``(L,)``.
        source_weight: Mean posterior weight of the source, shape ``(L,)``.
        source_weight_stderr: Its standard error.
        same_point: Probability that two posterior draws name the same point, shape ``(L,)``.
        same_point_stderr: Its standard error.
        entropy: Entropy of the point given the noisy sample, in nats, shape ``(L,)``.
        entropy_stderr: Its standard error.
        num_points: N.
        dim: D.
    """

    logsnr: Array
    source_weight: Array
    source_weight_stderr: Array
    same_point: Array
    same_point_stderr: Array
    entropy: Array
    entropy_stderr: Array
    num_points: int
    dim: int

    @property
    def t(self) -> Array:
        """OU times of the levels, shape ``(L,)``."""
        return ou_time(self.logsnr)

    @property
    def excess_entropy(self) -> Array:
        """Entropy of the noised law less that of points told apart, per coordinate, ``(L,)``.

        It is ``-entropy / D``: 0 where collapsed, ``-ln N / D`` where the points are forgotten.
        """
        return -self.entropy / self.dim

    def half(self, *, confidence: float = 0.95) -> Edge:
        """Where two posterior draws name the same point half of the time.

        Args:
            confidence: Of the interval.

        Returns:
            The level; null with a reason where the levels do not reach it.
        """
        curve = SampledCurve(
            logsnr=self.logsnr,
            value=self.same_point,
            influence=self.same_point_stderr[None],
            scale=None,
        )
        found = crossing(curve, 0.5, confidence=confidence, is_monotone=True)
        return edge_of(found, curve, confidence)


@dataclass(frozen=True, kw_only=True)
class Speciation:
    """The time at which the data first split, from their covariance alone.

    Attributes:
        top_variance: Largest eigenvalue Lambda of the covariance of the points.
        t: ``1/2 ln Lambda``, OU time; None if Lambda <= 1.
        t_plus: ``1/2 ln(1 + Lambda)``, which exists for every Lambda.
        reason: Why there is no ``t``.
    """

    top_variance: float
    t: float | None
    t_plus: float
    reason: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class DatasetPrediction:
    """What a data set says of itself.

    Attributes:
        transitions: Column -> transitions with the source among the points.
        leave_one_out: Column -> transitions without it; empty where it was not asked for.
        collapse: Weight of the source.
        speciation: From the covariance.
        reasons: Column -> why it has no leave-one-out.
        attrs: How it was computed, as in the tables.
    """

    transitions: Mapping[str, Transitions]
    leave_one_out: Mapping[str, Transitions]
    collapse: CollapseCurve
    speciation: Speciation
    reasons: Mapping[str, str] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)


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
    work = _prepare(
        points, labels, logsnr, weights, num_queries, num_seeds, seed, shard_size, device, dtype
    )
    for column in work.columns:
        if leave_one_out and (reason := _lonely(column)) is not None:
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
    work = _prepare(
        points, labels, logsnr, weights, num_queries, num_seeds, seed, shard_size, device, dtype
    )
    means = work.run()
    reasons = {c.name: why for c in work.columns if (why := _lonely(c)) is not None}
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
        speciation=_speciation(eigenvalue),
        reasons=reasons if leave_one_out else {},
        attrs=work.attrs(means),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Work:
    """Checked arguments."""

    points: PointSet
    columns: list[LabelColumn]
    levels: Array
    num_queries: int
    num_seeds: int
    seed: int
    shard_size: int
    device: torch.device
    dtype: Precision

    def run(self) -> Averages:
        plan = plan_queries(self.points.law, self.columns, self.num_queries, self.seed)
        return average(
            self.points,
            self.columns,
            self.levels,
            plan,
            num_noises=self.num_seeds,
            seed=self.seed,
            shard_size=self.shard_size,
            device=self.device,
            dtype=self.dtype,
        )

    def attrs(self, means: Averages) -> dict[str, Any]:
        num, dim = self.points.points.shape
        repeated = len(self.points.twins) - len(np.unique(self.points.twins))
        found: dict[str, Any] = {
            "method": "dataset",
            "num_points": num,
            "dim": dim,
            "num_queries": means.num_queries,
            "num_seeds": self.num_seeds,
            "seed": self.seed,
            "dtype": self.dtype,
            "device": str(self.device),
            "num_repeated_points": repeated,
        }
        if means.float32_error is not None:
            found["float32_error"] = means.float32_error
        return found

    def table(self, means: Averages, k: int, leave_one_out: bool) -> Transitions:
        column = self.columns[k]
        probs, stderr = (means.without if leave_one_out else means.among)[k]
        shares = np.bincount(column.codes, weights=self.points.law, minlength=len(column.labels))
        plateau = means.agreement[k] if leave_one_out else _twin_agreement(self.points, column)
        return Transitions(
            logsnr=self.levels,
            before=column.labels,
            after=column.labels,
            probs=probs / probs.sum(axis=2, keepdims=True),
            weights=shares / shares.sum(),
            kind="estimated",
            stderr=stderr,
            reversal="posterior",
            feature=column.name,
            plateau=plateau,
            attrs={**self.attrs(means), "leave_one_out": leave_one_out},
        )


def _prepare(
    points: ArrayLike,
    labels: Mapping[str, ArrayLike] | ArrayLike,
    logsnr: ArrayLike,
    weights: ArrayLike | None,
    num_queries: int | None,
    num_seeds: int,
    seed: int,
    shard_size: int,
    device: str | torch.device | None,
    dtype: Precision,
) -> _Work:
    for name, value in (
        ("num_queries", num_queries),
        ("num_seeds", num_seeds),
        ("shard_size", shard_size),
    ):
        if value is not None and value < 1:
            raise InputError(f"{name} is out of range", got=value, wanted="at least 1")
    if dtype not in get_args(Precision):
        raise InputError("unknown precision", got=dtype, wanted=", ".join(get_args(Precision)))
    place = _device(device, points)
    raw = points.detach().cpu().numpy() if isinstance(points, torch.Tensor) else points
    checked, keep = check_points(raw, weights)
    num = len(np.asarray(raw))
    return _Work(
        points=checked,
        columns=label_columns(labels, keep, num),
        levels=checked.check_levels(logsnr),
        num_queries=len(keep) if num_queries is None else num_queries,
        num_seeds=num_seeds,
        seed=seed,
        shard_size=shard_size,
        device=place,
        dtype=dtype,
    )


def _device(device: str | torch.device | None, points: object) -> torch.device:
    if device is None:
        return points.device if isinstance(points, torch.Tensor) else torch.device("cpu")
    try:
        place = torch.device(device)
        torch.zeros(1, dtype=torch.float64, device=place)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(
            "cannot use this device", got=str(device), next_step=str(error).splitlines()[0]
        ) from error
    return place


def _lonely(column: LabelColumn) -> str | None:
    """Why a column has no leave-one-out, if it has none."""
    counts = np.bincount(column.codes, minlength=len(column.labels))
    lonely = [column.labels[k] for k in np.flatnonzero(counts == 1)]
    if not lonely:
        return None
    shown = ", ".join(lonely[:5]) + (f" and {len(lonely) - 5} more" if len(lonely) > 5 else "")
    return f"leave-one-out of {column.name!r} needs two members of every label: one of {shown}"


def _twin_agreement(points: PointSet, column: LabelColumn) -> float:
    """Limit of the mean stay without noise: 1 unless equal points carry different labels."""
    if np.array_equal(points.twins, np.arange(len(points.twins))):
        return 1.0
    num_labels = len(column.labels)
    cells = points.twins * num_labels + column.codes
    of_cell = np.bincount(cells, weights=points.law, minlength=len(cells) * num_labels)
    of_point = np.bincount(points.twins, weights=points.law, minlength=len(cells))
    share = of_cell[cells] / of_point[points.twins]
    return float(min(points.law @ share, 1.0))


def _speciation(eigenvalue: float) -> Speciation:
    is_there = eigenvalue > 1.0
    return Speciation(
        top_variance=eigenvalue,
        t=0.5 * float(np.log(eigenvalue)) if is_there else None,
        t_plus=0.5 * float(np.log1p(eigenvalue)),
        reason=None if is_there else "the largest variance is at most 1, so 1/2 ln of it is none",
    )
