"""Shares of groups once a labeller's errors are undone, with the uncertainty of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from critwin.errors import InputError
from critwin.estimates import Estimate
from critwin.streams import numpy_stream

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from critwin.features.labelling import ErrorMatrix

    Array = NDArray[np.float64]

__all__ = ["corrected_shares"]

_WORST_CONDITION = 10.0


def corrected_shares(
    counts: ArrayLike,
    errors: ErrorMatrix,
    labels: Sequence[str],
    *,
    confidence: float = 0.95,
    num_draws: int = 4000,
    seed: int = 0,
) -> tuple[Estimate, ...]:
    """Shares of true labels, the labeller's errors undone and their uncertainty carried along.

    What was said has the law ``p M``, with M the rates of the error matrix. Both p M and the rows
    of M are drawn from their posteriors (Dirichlet, one pseudo-count in all), so that even a
    labeller without a seen error is not taken to be perfect.

    Args:
        counts: Images that were given each label, shape ``(K,)``.
        errors: The error matrix, of these labels in any order.
        labels: The labels.
        confidence: Of the limits.
        num_draws: Draws.
        seed: Seed of the draws.

    Returns:
        One estimate a label.

    Raises:
        InputError: If the matrix is of other labels, lacks one, or errs too much to be undone.
    """
    if set(errors.labels) != set(labels):
        raise InputError(
            "the error matrix is of other labels",
            got=", ".join(errors.labels),
            wanted=", ".join(labels),
        )
    order = [errors.labels.index(label) for label in labels]
    table = errors.counts[np.ix_(order, order)].astype(np.float64)
    if np.any(empty := table.sum(axis=1) == 0):
        raise InputError(
            "a label is missing from the labelled data", got=labels[int(np.argmax(empty))]
        )
    rates = table / table.sum(axis=1, keepdims=True)
    condition = float(np.linalg.cond(rates))
    if not condition <= _WORST_CONDITION:
        raise InputError(
            "the labeller errs too much to be corrected",
            got=f"a condition number of {condition:.3g}",
            wanted=f"at most {_WORST_CONDITION:g}",
        )
    n, size = np.asarray(counts, dtype=np.float64), len(labels)
    generator = numpy_stream(seed, "fairness", "labeller")
    said = generator.dirichlet(n + 1.0 / size, size=num_draws)
    drawn = np.stack(
        [generator.dirichlet(row + 1.0 / size, size=num_draws) for row in table], axis=1
    )
    drawn = drawn[np.linalg.cond(drawn) < 1e6]
    shares = _undone(said[: len(drawn)], drawn)
    value = _undone(n[None] / max(n.sum(), 1.0), rates[None])[0]
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(shares, [tail, 1.0 - tail], axis=0)
    return tuple(
        Estimate(
            value=float(v),
            low=float(min(a, v)),
            high=float(max(b, v)),
            confidence=confidence,
        )
        for v, a, b in zip(value, low, high, strict=True)
    )


def _undone(said: Array, rates: Array) -> Array:
    """Laws of the truth, none below 0, from laws of what was said."""
    truth = np.linalg.solve(np.swapaxes(rates, 1, 2), said[..., None])[..., 0]
    truth = np.maximum(truth, 0.0)
    return np.asarray(truth / truth.sum(axis=1, keepdims=True))
