r"""Exact transitions of the probability-flow ODE on a line.

The flow preserves every marginal and, in one dimension, the order of points: it maps quantiles to
quantiles, ``x_0 = F_0^{-1}(F_t(x_t))``. Its transitions are not those of the posterior draw.

Source: Song et al. (2021), *Score-based generative modeling through SDEs*, sec. 4.3.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from critwin.errors import InputError
from critwin.levels import alpha_sigma
from critwin.theory import _line as line_laws
from critwin.theory._scrambles import NUM_SCRAMBLES
from critwin.theory._tables import (
    Labeller,
    as_line,
    check_levels,
    check_options,
    component_table,
    map_table,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike
    from torch import Tensor

    from critwin.theory.mixtures import GaussianMixture
    from critwin.transitions import Transitions

__all__ = ["ode_map", "ode_transitions"]


def ode_transitions(
    mixture: GaussianMixture,
    logsnr: ArrayLike,
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
    labeller: Labeller = "component",
) -> Transitions:
    """Transitions of the experiment whose reversal is the probability-flow ODE.

    In one dimension its flow is monotone, ``x_0 = F_0^{-1}(F_t(x_t))`` with the distribution
    functions of the mixture. Two equal Gaussians far apart: stay is ``Phi(k)``, not the posterior
    draw's ``phi(k)``, because the flow keeps the sign.

    Args:
        mixture: D = 1, or equal isotropic covariances with means on a line (the flow then acts
            on that line alone).
        logsnr: Levels, strictly decreasing, shape ``(L,)``.
        labels: Groups of components, as :func:`exact_transitions`.
        labeller: ``"component"``: before is the component that the sample was drawn from, after a
            draw from ``P(j | x_0)`` at the image. ``"map"``: both are ``argmax_j P(j | x_0)``.

    Returns:
        The table, ``kind="exact"``, ``reversal="ode"``.

    Raises:
        InputError: If the mixture does not live on a line, or levels or labels are not valid.

    Source:
        Song et al. (2021), *Score-based generative modeling through SDEs*, sec. 4.3: the flow
        preserves every marginal, and in one dimension also the order of points.
    """
    check_options(labeller, "auto", NUM_SCRAMBLES)
    levels = check_levels(logsnr)
    line = as_line(mixture, "the flow is known exactly")
    alpha, sigma = alpha_sigma(levels)
    noisy = line_laws.noised(line, alpha, sigma)
    if labeller == "map":
        weights, probs = line_laws.ode_map_law(line, noisy, alpha, sigma)
        return map_table(mixture, levels, weights, probs, labels, "ode")
    clean = line_laws.component_law(line)[0]
    plateau = float(np.exp(line.log_weights) @ np.diagonal(clean))
    probs = line_laws.ode_component_law(line, noisy)
    table = component_table(mixture, levels, probs, labels, {"method": "quadrature"}, plateau)
    return replace(table, reversal="ode")


def ode_map(mixture: GaussianMixture, x_t: Tensor, *, logsnr: float) -> Tensor:
    """Exact probability-flow image of noisy points, ``x_0 = F_0^{-1}(F_t(x_t))``, for D = 1.

    Args:
        mixture: A mixture with D = 1.
        x_t: Variance-preserving noisy points, shape ``(..., 1)``.
        logsnr: Their level.

    Returns:
        Clean points, shape ``(..., 1)``, with the dtype of ``x_t``.

    Raises:
        InputError: If D is not 1.

    Source:
        Song et al. (2021), sec. 4.3.
    """
    if mixture.dim != 1 or x_t.shape[-1] != 1:
        raise InputError("the flow map is exact in one dimension", got=tuple(x_t.shape))
    line = as_line(mixture, "the flow is known exactly")
    alpha, sigma = (np.reshape(v, (1,)) for v in alpha_sigma(logsnr))
    noisy = line_laws.noised(line, alpha, sigma)
    y = x_t.detach().to(device="cpu", dtype=torch.float64).numpy().reshape(1, -1)
    x_0 = line_laws.quantile_map(noisy, y, line).reshape(tuple(x_t.shape))
    return torch.from_numpy(x_0).to(device=x_t.device, dtype=x_t.dtype)
