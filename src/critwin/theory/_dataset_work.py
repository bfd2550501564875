"""Checked arguments of a prediction, and tables from the averages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from critwin.errors import InputError
from critwin.theory._dataset_engine import Averages, average
from critwin.theory._dataset_inputs import LabelColumn, PointSet, check_points, label_columns
from critwin.theory._dataset_queries import plan_queries
from critwin.theory.dataset_results import Speciation
from critwin.theory.dataset_sums import Precision
from critwin.transitions import Transitions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Work:
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


def prepare(
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
) -> Work:
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
    return Work(
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


def lonely(column: LabelColumn) -> str | None:
    """Why a column has no leave-one-out, if it has none."""
    counts = np.bincount(column.codes, minlength=len(column.labels))
    lonely = [column.labels[k] for k in np.flatnonzero(counts == 1)]
    if not lonely:
        return None
    shown = ", ".join(lonely[:5]) + (f" and {len(lonely) - 5} more" if len(lonely) > 5 else "")
    return f"leave-one-out of {column.name!r} needs two members of every label; one only: {shown}"


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


def speciation(eigenvalue: float) -> Speciation:
    is_there = eigenvalue > 1.0
    return Speciation(
        top_variance=eigenvalue,
        t=0.5 * float(np.log(eigenvalue)) if is_there else None,
        t_plus=0.5 * float(np.log1p(eigenvalue)),
        reason=None if is_there else "the largest variance is at most 1, so 1/2 ln of it is none",
    )
