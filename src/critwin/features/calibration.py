r"""One temperature that makes a labeller's probabilities mean what they say.

A labeller has scores ``z_c`` of classes; a label j is one class or several. At inverse temperature
``b = 1 / T`` its law is :math:`p_j = \sum_{c \in j} e^{b z_c} / \sum_c e^{b z_c}`. On images whose
labels are known, ``b`` maximises :math:`\sum_n \log p_{y_n}(b)`. With E and Var under the law of
the classes, of all or of those of the true label,

.. math::
    g_n = E_{y_n}[z] - E[z], \qquad h_n = Var[z] - Var_{y_n}[z],

the slope and the curvature of the n-th term, ``b`` has the standard error
:math:`\sqrt{\sum g_n^2} / \sum h_n`, which holds also where no temperature makes the law right;
that of ``log T`` is this over ``b``, and the interval is ``T exp(+-z se)``.

Source: Guo et al. (2017), *On calibration of modern neural networks*, sec. 4.2; White (1982),
*Maximum likelihood estimation of misspecified models*, thm. 3.2 (the standard error); Nixon et al.
(2019), *Measuring calibration in deep learning* (bins of equal counts).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from scipy.optimize import brentq
from scipy.special import logsumexp, ndtri

from critwin.errors import InputError
from critwin.features.labelling import truth_indices

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "MIN_IMAGES",
    "MIN_PER_LABEL",
    "Calibration",
    "Scored",
    "TemperatureFit",
    "calibrate",
    "calibration_error",
    "check_calibration",
    "fit_temperature",
    "read_calibration",
]

MIN_IMAGES = 50
"""Fewest labelled images that a temperature is fitted to."""

MIN_PER_LABEL = 5
"""Fewest of them with each label."""

_BATCH = 64
_NUM_BINS = 10
_FACTORS = np.logspace(-4, 4, 65)


class Scored(Protocol):
    """A feature whose law over the labels is a softmax of scores at a temperature.

    Attributes:
        name: Name of the feature.
        labels: Names of the labels.
        temperature: The temperature.
        basis: Digest of everything that changes a score.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def labels(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def temperature(self) -> float: ...  # noqa: D102
    @property
    def basis(self) -> str: ...  # noqa: D102

    def scores(self, samples: Any) -> NDArray[np.float64]:
        """Scores of the classes, shape ``(N, C)``; a class a label unless there are ``groups``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A temperature fitted to labelled images. Frozen.

    Attributes:
        feature: Name of the feature.
        labels: Names of its labels.
        basis: Digest of the scores that it was fitted to.
        temperature: The fitted temperature.
        standard_error: Of its logarithm.
        low: Lower limit.
        high: Upper limit.
        confidence: Level of the limits.
        before: The temperature that the feature had.
        num_images: Number of labelled images.
        accuracy: Share of them whose likeliest label is the true one; no temperature changes it.
        error_before: Expected calibration error at ``before``.
        error_after: The same at ``temperature``, on the images that it was fitted to.
        loss_before: Mean negative log-likelihood at ``before``, in nats.
        loss_after: The same at ``temperature``.
    """

    feature: str
    labels: tuple[str, ...]
    basis: str
    temperature: float
    standard_error: float
    low: float
    high: float
    confidence: float
    before: float
    num_images: int
    accuracy: float
    error_before: float
    error_after: float
    loss_before: float
    loss_after: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**self.__dict__, "labels": list(self.labels)}

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Calibration:
        """Read back what :meth:`as_dict` wrote.

        Args:
            raw: The mapping, as parsed from JSON.

        Returns:
            The calibration.

        Raises:
            InputError: If an entry is missing or cannot be used.
        """
        try:
            number: dict[str, Any] = {
                name: float(raw[name])
                for name, kind in Calibration.__annotations__.items()
                if kind == "float"
            }
            made = Calibration(
                feature=str(raw["feature"]),
                basis=str(raw["basis"]),
                labels=tuple(str(label) for label in raw["labels"]),
                num_images=int(raw["num_images"]),
                **number,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                "not a stored calibration",
                got=f"{type(error).__name__}: {error}",
                wanted="what Calibration.as_dict() returned",
            ) from error
        if not 0 < made.temperature < np.inf:
            raise InputError("a stored temperature is out of range", got=made.temperature)
        return made


class TemperatureFit(NamedTuple):
    """A temperature, and the standard error of its logarithm."""

    temperature: float
    standard_error: float


def calibrate(
    feature: Scored,
    samples: Any,
    truth: Sequence[str] | ArrayLike,
    *,
    confidence: float = 0.95,
) -> Calibration:
    """Fit the temperature of a feature to images whose labels are known.

    The images should look like what will be read, and should not be those that the error matrix
    is measured on.

    Args:
        feature: The feature.
        samples: Images ``(N, C, H, W)`` in ``[0, 1]``.
        truth: N label names, or indices into the feature's labels.
        confidence: Level of the limits.

    Returns:
        The calibration; ``feature.calibrated(it)`` is the feature at the new temperature.

    Raises:
        InputError: If there are too few images, or a temperature cannot be told from them.
    """
    labels = truth_indices(feature, truth)
    if len(samples) != len(labels):
        raise InputError(
            "images and true labels do not fit",
            got=f"{len(samples)} images, {len(labels)} labels",
            wanted="one label an image",
        )
    _check_counts(labels, feature.labels)
    scores = np.concatenate(
        [feature.scores(samples[i : i + _BATCH]) for i in range(0, len(labels), _BATCH)]
    )
    groups = getattr(feature, "groups", None)
    fit = fit_temperature(scores, labels, groups=groups)
    if not 0 < confidence < 1:
        raise InputError("confidence is out of range", got=confidence, wanted="in (0, 1)")
    spread = float(np.exp(ndtri(0.5 + confidence / 2) * fit.standard_error))
    before = _law(scores, 1 / feature.temperature, groups)
    after = _law(scores, 1 / fit.temperature, groups)
    rows = np.arange(len(labels))
    return Calibration(
        feature=feature.name,
        labels=tuple(feature.labels),
        basis=feature.basis,
        temperature=fit.temperature,
        standard_error=fit.standard_error,
        low=fit.temperature / spread,
        high=fit.temperature * spread,
        confidence=confidence,
        before=float(feature.temperature),
        num_images=len(labels),
        accuracy=float(np.mean(after.argmax(axis=1) == labels)),
        error_before=calibration_error(np.exp(before), labels),
        error_after=calibration_error(np.exp(after), labels),
        loss_before=float(-before[rows, labels].mean()),
        loss_after=float(-after[rows, labels].mean()),
    )


def fit_temperature(
    scores: ArrayLike, truth: ArrayLike, *, groups: ArrayLike | None = None
) -> TemperatureFit:
    """Temperature of the largest likelihood.

    Args:
        scores: Scores of the classes, shape ``(N, C)``.
        truth: Index of the true label of each row, shape ``(N,)``.
        groups: Label of each class, -1 where it has none, shape ``(C,)``; a class a label if None.

    Returns:
        ``temperature``, and ``standard_error`` of its logarithm.

    Raises:
        InputError: If the likelihood has no largest value: every row is read right, or the scores
            say nothing about the labels.
    """
    z = np.asarray(scores, dtype=np.float64)
    y = np.asarray(truth, dtype=np.int64)
    group = np.arange(z.shape[1]) if groups is None else np.asarray(groups, dtype=np.int64)
    z, group = z[:, group >= 0], group[group >= 0]
    is_own = group[None, :] == y[:, None]
    spread = float(z.std(axis=1).mean())
    if not np.isfinite(z).all() or spread == 0:
        raise InputError("scores are not finite, or all the same", wanted="scores that differ")

    def slope(log_b: float) -> float:
        return float(_derivatives(z, log_b, is_own)[0].sum())

    # a likelihood with a class a label has one peak; with several, the highest one is looked for
    is_simple = len(np.unique(group)) == len(group)
    grid = np.log(_FACTORS[[0, -1]] if is_simple else _FACTORS) - np.log(spread)
    slopes = np.array([slope(x) for x in grid])
    if slopes[0] <= 0:
        raise InputError(
            "the scores say nothing about the labels, so no temperature can be fitted",
            got=f"{np.mean(group[z.argmax(axis=1)] == y):.0%} of {len(y)} images read right",
            next_step="check the true labels, or describe the labels in other words",
        )
    if slopes[-1] >= 0:
        raise InputError(
            "every image is read right, so no temperature can be fitted",
            got=f"{len(y)} images",
            next_step="add images that are hard to tell, or leave the temperature as it is",
        )
    peaks = [
        float(brentq(slope, grid[k], grid[k + 1], xtol=1e-10))
        for k in np.flatnonzero((slopes[:-1] > 0) & (slopes[1:] <= 0))
    ]
    rows = np.arange(len(y))
    log_b = max(peaks, key=lambda x: _law(z, float(np.exp(x)), group)[rows, y].sum())
    first, second = _derivatives(z, log_b, is_own)
    error = float(np.sqrt(np.sum(first**2)) / np.sum(second))
    return TemperatureFit(
        temperature=float(np.exp(-log_b)), standard_error=error / float(np.exp(log_b))
    )


def calibration_error(probs: ArrayLike, truth: ArrayLike, *, num_bins: int = _NUM_BINS) -> float:
    """Expected calibration error: mean gap between confidence and share of right answers.

    Args:
        probs: Probabilities, shape ``(N, J)``.
        truth: Index of the true label of each row, shape ``(N,)``.
        num_bins: Number of bins of equal counts of the largest probability.

    Returns:
        A number in ``[0, 1]``; noise alone makes it larger than 0.
    """
    law = np.asarray(probs, dtype=np.float64)
    confidence = law.max(axis=1)
    is_right = law.argmax(axis=1) == np.asarray(truth)
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(num_bins, len(order)))
    gaps = [len(b) * abs(is_right[b].mean() - confidence[b].mean()) for b in bins]
    return float(sum(gaps) / len(order))


def check_calibration(calibration: Calibration, feature: Any) -> None:
    """Refuse a calibration of other scores.

    Args:
        calibration: The calibration.
        feature: The feature that shall use it.

    Raises:
        InputError: If labels, network or templates were others.
    """
    if calibration.labels != tuple(feature.labels) or calibration.basis != feature.basis:
        raise InputError(
            f"the calibration is not that of feature {feature.name!r}",
            got=f"feature {calibration.feature!r}, labels {', '.join(calibration.labels)}",
            wanted="the same network, labels, descriptions and templates",
            next_step="calibrate again",
        )


def read_calibration(path: str | Path) -> Calibration:
    """A calibration from a JSON file of what :meth:`Calibration.as_dict` returned.

    Args:
        path: The file.

    Returns:
        The calibration.

    Raises:
        InputError: If the file cannot be read or holds something else.
    """
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            "cannot read the calibration",
            got=f"{path}: {getattr(error, 'strerror', None) or error}",
            wanted="a JSON file of Calibration.as_dict()",
        ) from error
    return Calibration.from_dict(raw)


def _check_counts(truth: NDArray[np.int64], labels: Sequence[str]) -> None:
    counts = np.bincount(truth, minlength=len(labels))
    if len(truth) < MIN_IMAGES or counts.min() < MIN_PER_LABEL:
        fewest = labels[int(counts.argmin())]
        raise InputError(
            "too few labelled images to fit a temperature",
            got=f"{len(truth)}, {int(counts.min())} of them {fewest!r}",
            wanted=f"at least {MIN_IMAGES}, and {MIN_PER_LABEL} of each label",
        )


def _law(z: NDArray[np.float64], b: float, groups: Any) -> NDArray[np.float64]:
    """Logarithm of the law over the labels, shape ``(N, J)``."""
    group = np.arange(z.shape[1]) if groups is None else np.asarray(groups)
    out = np.stack(
        [logsumexp(b * z[:, group == j], axis=1) for j in range(int(group.max()) + 1)], axis=1
    )
    return np.asarray(out - logsumexp(out, axis=1, keepdims=True))


def _derivatives(
    z: NDArray[np.float64], log_b: float, is_own: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``g`` and ``h`` of the top of this module, each of shape ``(N,)``."""
    mean, variance = _moments(z, log_b, None)
    own_mean, own_variance = _moments(z, log_b, is_own)
    return own_mean - mean, variance - own_variance


def _moments(
    z: NDArray[np.float64], log_b: float, mask: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    logits = float(np.exp(log_b)) * z
    if mask is not None:
        logits = np.where(mask, logits, -np.inf)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    mean = np.einsum("nc,nc->n", weights, z)
    away = z - mean[:, None]
    return mean, np.einsum("nc,nc,nc->n", weights, away, away)
