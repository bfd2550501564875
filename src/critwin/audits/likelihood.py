"""Attacks that learn what is usual: a likelihood ratio over levels, and calibration by looks.

Both are offline: no other model is trained. What is usual is learnt from the non-members (and,
for the ratio, the members) of the other half of the images.

Source: Carlini et al. (2022), *Membership inference attacks from first principles*, sec. VI;
Watson et al. (2022), *On the importance of difficulty calibration in membership inference
attacks*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from critwin.audits._scores import Scores
from critwin.audits.membership import LEARNT, attack_of, standard

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from critwin.audits.membership import Attack

    Array = NDArray[np.float64]
    Mask = NDArray[np.bool_]

__all__ = ["calibrated", "likelihood_ratio"]

_SHRINK = 0.1


def likelihood_ratio(
    scores: Scores,
    is_member: Mask,
    halves: NDArray[np.int64],
    *,
    confidence: float = 0.95,
) -> Attack:
    """All levels together: the log-likelihood ratio of two Gaussians learnt on the other half.

    Both classes have one covariance, shrunk to its diagonal; the ratio is then linear in the
    calibrated scores of the levels.

    Args:
        scores: Scores of one kind.
        is_member: Shape ``(N,)``.
        halves: From :func:`halves_of`.
        confidence: Of the intervals.

    Returns:
        The attack; its cost is that of all levels.
    """
    values = scores.per_image()
    out = np.full(len(values), np.nan)
    for half in (0, 1):
        learn = halves != half
        z = np.stack(
            [standard(values[:, j], learn & ~is_member) for j in range(values.shape[1])], axis=1
        )
        known = np.isfinite(z).all(axis=1)
        z = np.clip(np.where(np.isfinite(z), z, 0.0), -10.0, 10.0)
        inside, outside = (z[learn & known & side] for side in (is_member, ~is_member))
        if len(inside) < 2 or len(outside) < 2:
            continue
        centred = np.concatenate([inside - inside.mean(axis=0), outside - outside.mean(axis=0)])
        covariance = centred.T @ centred / max(len(centred) - 2, 1)
        covariance = (1.0 - _SHRINK) * covariance + _SHRINK * np.diag(np.diag(covariance))
        covariance += 1e-9 * np.eye(len(covariance))
        weights = np.linalg.solve(covariance, inside.mean(axis=0) - outside.mean(axis=0))
        ratio = z @ weights
        row = (halves == half) & known
        out[row] = standard(ratio, learn & known & ~is_member)[row]
    cost = scores.shared + scores.values.shape[2] * float(np.sum(scores.evaluations))
    return attack_of(
        f"likelihood ratio of {scores.kind}",
        (-1, -1),
        (np.nan, np.nan),
        out,
        is_member,
        halves,
        cost,
        confidence,
        LEARNT,
    )


def calibrated(
    scores: Scores, is_member: Mask, halves: NDArray[np.int64], images: Array
) -> Scores:
    """Scores less what is usual for a non-member that looks like the image.

    How hard an image is to denoise depends on the image far more than on membership. The usual
    score is a ridge regression on plain statistics of the pixels, fitted to the non-members of
    the other half, at each level.

    Args:
        scores: Scores of one kind.
        is_member: Shape ``(N,)``.
        halves: From :func:`halves_of`.
        images: Statistics of the pixels, shape ``(N, F)``.

    Returns:
        Scores of the same shape, one replicate, in standard deviations of non-members.
    """
    values = scores.per_image()
    out = np.full((*values.shape, 1), np.nan)
    for half in (0, 1):
        learn = (halves != half) & ~is_member
        for level in range(values.shape[1]):
            column = values[:, level]
            fit = learn & np.isfinite(column)
            left = column - _ridge(images, column, fit)
            row = halves == half
            out[row, level, 0] = standard(left, fit)[row]
    return Scores(
        kind=f"{scores.kind}, calibrated",
        logsnr=scores.logsnr,
        values=out,
        evaluations=scores.evaluations * scores.values.shape[2],
        shared=scores.shared,
    )


def _ridge(design: Array, target: Array, rows: Mask) -> Array:
    """Ridge regression fitted on some rows, predicted for all."""
    centre, scale = design[rows].mean(axis=0), design[rows].std(axis=0) + 1e-9
    x = (design - centre) / scale
    mean = target[rows].mean()
    gram = x[rows].T @ x[rows] + (1.0 + 0.01 * rows.sum()) * np.eye(x.shape[1])
    return np.asarray(mean + x @ np.linalg.solve(gram, x[rows].T @ (target[rows] - mean)))
