"""Numbers by group, laid out as fairlearn lays them out, without needing it.

``by_group``, ``overall``, ``difference`` and ``ratio`` mean what they mean in fairlearn's
``MetricFrame``; a group without images has NaN, which differences and ratios leave out.

Source: Bird et al. (2020), *Fairlearn: a toolkit for assessing and improving fairness in AI*;
fairlearn 0.10, ``fairlearn.metrics.MetricFrame``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from critwin.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from critwin.records import Records

__all__ = ["GroupMetrics", "group_metrics", "metrics_of_records"]

Method = Literal["between_groups", "to_overall"]
Metric = Callable[["NDArray[Any]", "NDArray[Any]"], float]


@dataclass(frozen=True, kw_only=True)
class GroupMetrics:
    """Metrics of all images and of each group.

    Attributes:
        overall: Metric -> value over all images.
        by_group: Metric -> group -> value; NaN where a group has no images.
        counts: Group -> number of images.
    """

    overall: Mapping[str, float]
    by_group: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, int]

    def difference(self, method: Method = "between_groups") -> dict[str, float]:
        """Largest difference of every metric.

        Args:
            method: ``"between_groups"``: largest less smallest; ``"to_overall"``: largest
                distance of a group from the value over all.

        Returns:
            Metric -> difference; NaN where no group has a value.
        """

        def of(values: NDArray[np.float64], whole: float) -> float:
            if _check(method) == "between_groups":
                return float(values.max() - values.min())
            return float(np.abs(values - whole).max())

        return self._over(of)

    def ratio(self, method: Method = "between_groups") -> dict[str, float]:
        """Smallest ratio of every metric, at most 1.

        Args:
            method: ``"between_groups"``: smallest over largest; ``"to_overall"``: smallest of a
                group's value over that of all, or the inverse where that is above 1.

        Returns:
            Metric -> ratio; NaN where no group has a value or all are 0.
        """

        def of(values: NDArray[np.float64], whole: float) -> float:
            with np.errstate(divide="ignore", invalid="ignore"):
                if _check(method) == "between_groups":
                    return float(np.divide(values.min(), values.max()))
                part = values / whole
                return float(np.nanmin(np.where(part > 1, 1 / part, part)))

        return self._over(of)

    def rows(self) -> list[dict[str, Any]]:
        """One row a group with its count and metrics, and one for all; NaN as None."""
        out = []
        for group, count in [*self.counts.items(), ("(all)", sum(self.counts.values()))]:
            values = {
                name: self.overall[name] if group == "(all)" else self.by_group[name][group]
                for name in self.overall
            }
            out.append(
                {
                    "group": group,
                    "count": count,
                    **{k: None if np.isnan(v) else float(v) for k, v in values.items()},
                }
            )
        return out

    def _over(self, of: Callable[[NDArray[np.float64], float], float]) -> dict[str, float]:
        out = {}
        for name, groups in self.by_group.items():
            values = np.array([v for v in groups.values() if not np.isnan(v)])
            out[name] = of(values, self.overall[name]) if len(values) else float("nan")
        return out


def group_metrics(
    metrics: Mapping[str, Metric],
    y_true: ArrayLike,
    y_pred: ArrayLike,
    groups: ArrayLike,
    *,
    labels: Sequence[str] | None = None,
) -> GroupMetrics:
    """Metrics by group.

    Args:
        metrics: Name -> function of true and predicted values.
        y_true: True values, shape ``(N,)``.
        y_pred: Predicted values, shape ``(N,)``.
        groups: Group of every row, shape ``(N,)``.
        labels: All groups, so that absent ones are told; those that occur unless given.

    Returns:
        The metrics.

    Raises:
        InputError: If lengths differ, or there is nothing.
    """
    truth, said, owner = (np.asarray(column) for column in (y_true, y_pred, groups))
    if not truth.shape == said.shape == owner.shape or truth.ndim != 1 or len(truth) == 0:
        raise InputError(
            "true values, predicted values and groups do not fit",
            got=f"{truth.shape}, {said.shape} and {owner.shape}",
            wanted="one of each a row, at least one row",
        )
    names = list(np.unique(owner).tolist()) if labels is None else list(labels)
    rows = {name: owner == name for name in names}
    return GroupMetrics(
        overall={name: float(metric(truth, said)) for name, metric in metrics.items()},
        by_group={
            name: {
                str(group): float(metric(truth[own], said[own])) if own.any() else float("nan")
                for group, own in rows.items()
            }
            for name, metric in metrics.items()
        },
        counts={str(group): int(own.sum()) for group, own in rows.items()},
    )


def metrics_of_records(
    records: Records, attribute: str, fidelity: tuple[str, str] | None = None
) -> GroupMetrics:
    """Share of images and, where asked, share read as the condition, by group of the attribute.

    Args:
        records: Records; each source counts once, with what was read off it before.
        attribute: The attribute; images on which its labeller abstained are left out.
        fidelity: Feature and label that say that an image is of the condition.

    Returns:
        Metrics ``share`` and ``accuracy``.
    """
    columns = records.features[attribute]
    _, first = np.unique(records.source, return_index=True)
    first = first[columns.before[first] >= 0]
    owner = np.array(columns.labels)[columns.before[first]]
    total = len(owner)
    truth = said = np.zeros(total, dtype=np.int64)
    metrics: dict[str, Metric] = {"share": lambda true, _: len(true) / total}
    if fidelity is not None:
        told = records.features[fidelity[0]]
        truth = np.full(total, told.labels.index(fidelity[1]))
        said = told.before[first]
        metrics["accuracy"] = lambda true, pred: float(np.mean(true == pred))
    return group_metrics(metrics, truth, said, owner, labels=columns.labels)


def _check(method: str) -> str:
    if method not in ("between_groups", "to_overall"):
        raise InputError("unknown method", got=method, wanted="between_groups or to_overall")
    return method
