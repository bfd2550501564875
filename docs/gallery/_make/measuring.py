"""Sources, noised and denoised in bulk, and counted; the reversal is the exact posterior draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from critwin.levels import alpha_sigma, logsnr_of_ou_time
from critwin.streams import numpy_stream, stream
from critwin.theory import mixtures
from critwin.theory.log_concave import ProductMixture, posteriors
from critwin.theory.mixtures import GaussianMixture
from critwin.transitions import Transitions, from_counts

from .parts import SEED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["counted", "counted_modes", "counted_strings", "mask_levels", "mask_of"]


def counted(law: Any, t: Array, *, num_sources: int, plateau: float, name: str) -> Transitions:
    """Transitions between components, counted: one replicate a source and level.

    Args:
        law: A Gaussian or a product mixture.
        t: OU times, increasing, shape ``(L,)``.
        num_sources: Number of sources.
        plateau: Mean stay without noise.
        name: Name of the random stream.

    Returns:
        The counted table.
    """
    levels = logsnr_of_ou_time(t)
    draw = _gaussian_draws if isinstance(law, GaussianMixture) else _product_draws
    before, after = draw(law, levels, num_sources, name)
    return _table(law.names, before, after, levels, law.weights.numpy(), plateau)


def counted_modes(
    law: GaussianMixture, directions: Array, t: Array, *, num_sources: int, name: str
) -> list[Transitions]:
    """The signs of a Gaussian's coordinates as features, counted.

    Args:
        law: A single centred Gaussian.
        directions: Directions whose coordinates are read, shape ``(M, D)``.
        t: OU times, increasing, shape ``(L,)``.
        num_sources: Number of sources.
        name: Name of the random stream.

    Returns:
        A counted table for each direction.
    """
    levels = logsnr_of_ou_time(t)
    generator = stream(SEED, "gallery", name)
    along = torch.from_numpy(directions).mT
    clean = mixtures.sample(law, num_sources, generator=generator).x
    before = ((clean @ along) > 0).long().numpy()
    after = np.empty((num_sources, len(levels), len(directions)), dtype=np.int64)
    for k, (alpha, sigma) in enumerate(zip(*alpha_sigma(levels), strict=True)):
        noise = torch.randn(clean.shape, dtype=torch.float64, generator=generator)
        back = mixtures.posterior_draw(
            law, alpha * clean + sigma * noise, alpha=alpha, sigma=sigma, generator=generator
        )
        after[:, k] = ((back.x @ along) > 0).long().numpy()
    half = np.array([0.5, 0.5])
    return [
        _table(("-", "+"), before[:, d], after[:, :, d], levels, half, 1.0)
        for d in range(len(directions))
    ]


def counted_strings(
    distance: int, masks: Array, *, num_sources: int, name: str
) -> tuple[Transitions, Array]:
    """Two strings, masked and filled in by the exact posterior, counted.

    Args:
        distance: Hamming distance of the strings.
        masks: Mask probabilities, increasing, shape ``(L,)``.
        num_sources: Number of sources.
        name: Name of the random stream.

    Returns:
        The counted table, whose levels are mask probabilities on a scale of the same order
        (:func:`mask_of`).
    """
    rng = numpy_stream(SEED, "gallery", name)
    before = rng.integers(0, 2, num_sources)
    is_hidden = (rng.random((num_sources, len(masks), distance)) < masks[:, None]).all(axis=-1)
    guess = rng.integers(0, 2, is_hidden.shape)
    after = np.where(is_hidden, guess, before[:, None])
    half = np.array([0.5, 0.5])
    return _table(("+", "-"), before, after, mask_levels(masks), half, 1.0), masks


def mask_levels(masks: Array) -> Array:
    """Mask probabilities on the stored axis, so that windows are found as those of logsnr are."""
    return np.log1p(-masks) - np.log(masks)


def mask_of(t: float | None) -> float | None:
    """The mask probability of an edge that stands at OU time ``t`` on that axis."""
    return None if t is None else float(-np.expm1(-2.0 * t))


def _gaussian_draws(
    m: GaussianMixture, levels: Array, num: int, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    generator = stream(SEED, "gallery", name)
    clean = mixtures.sample(m, num, generator=generator)
    after = np.empty((num, len(levels)), dtype=np.int64)
    for k, (alpha, sigma) in enumerate(zip(*alpha_sigma(levels), strict=True)):
        noise = torch.randn(clean.x.shape, dtype=torch.float64, generator=generator)
        back = mixtures.posterior_draw(
            m, alpha * clean.x + sigma * noise, alpha=alpha, sigma=sigma, generator=generator
        )
        after[:, k] = back.component.numpy()
    return clean.component.numpy(), after


def _product_draws(
    m: ProductMixture, levels: Array, num: int, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = numpy_stream(SEED, "gallery", name)
    clean = posteriors.sample(m, num, generator=rng)
    after = np.empty((num, len(levels)), dtype=np.int64)
    for k, (alpha, sigma) in enumerate(zip(*alpha_sigma(levels), strict=True)):
        noisy = alpha * clean.x + sigma * rng.normal(size=clean.x.shape)
        back = posteriors.posterior_draw(m, noisy, alpha=alpha, sigma=sigma, generator=rng)
        after[:, k] = np.asarray(back.component)
    return np.asarray(clean.component), after


def _table(
    names: Any, before: Any, after: Any, levels: Array, weights: Array, plateau: float
) -> Transitions:
    return from_counts(
        (after[:, :, None] == np.arange(len(names))).astype(np.int64),
        before,
        logsnr=levels,
        before=names,
        weights=weights,
        reversal="posterior",
        feature="component",
        plateau=plateau,
    )
