"""Hierarchical Gaussians on a line whose tree is known, and experiments on them."""

from __future__ import annotations

import itertools
from string import ascii_lowercase
from typing import TYPE_CHECKING

import numpy as np
import torch

from critwin.levels import alpha_sigma, logsnr_of_ou_time
from critwin.streams import stream
from critwin.theory.exact import exact_transitions
from critwin.theory.mixtures import GaussianMixture, posterior_draw, sample
from critwin.transitions import Transitions, from_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SEPARATION = 8.0
"""Distance of sibling leaves, in units of their standard deviation."""


def hierarchy(
    depth: int,
    *,
    branching: int = 2,
    ratio: float,
    separation: float = SEPARATION,
    names: Sequence[str] | None = None,
    plane: bool = False,
) -> GaussianMixture:
    """Leaves of a regular tree: children ``separation * ratio**height`` apart, unit variance."""
    steps = [separation * ratio ** (depth - 1 - d) for d in range(depth)]
    offsets = np.arange(branching) - (branching - 1) / 2
    paths = list(itertools.product(range(branching), repeat=depth))
    if plane:
        angle = 2 * np.pi * np.arange(branching) / branching
        radius = steps[0] / (2 * np.sin(np.pi / branching))
        means = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    else:
        means = np.array(
            [[sum(s * offsets[i] for s, i in zip(steps, p, strict=True))] for p in paths]
        )
    labels = [ascii_lowercase[k] if len(paths) <= 26 else f"x{k:02d}" for k in range(len(paths))]
    return GaussianMixture(
        weights=np.full(len(paths), 1 / len(paths)),
        means=means,
        covariances=1.0,
        names=list(names or labels),
    )


def true_sets(m: GaussianMixture, depth: int, branching: int) -> set[frozenset[str]]:
    """Label sets of the inner nodes, the root among them."""
    return {
        frozenset(m.names[k : k + branching**height])
        for height in range(1, depth + 1)
        for k in range(0, len(m.names), branching**height)
    }


def line_table(m: GaussianMixture, t: NDArray[np.float64]) -> Transitions:
    """Exact transitions of a mixture on the line, by the trapezoidal rule around each component.

    Independent of the package's own quadrature, and quick where means are far apart.
    """
    z = np.linspace(-9, 9, 901)
    law = np.exp(-0.5 * z**2)
    law /= law.sum()
    w, num = m.weights.numpy(), m.num_components
    variances = np.broadcast_to(m.eigenvalues.numpy(), (num, 1))[:, 0]
    probs = np.empty((len(t), num, num))
    for level, time in enumerate(t):
        var = np.exp(-2 * time) * variances - np.expm1(-2 * time)
        centre = np.exp(-time) * m.means.numpy()[:, 0]
        y = centre[:, None] + np.sqrt(var)[:, None] * z
        log = np.log(w) - 0.5 * np.log(var) - 0.5 * (y[..., None] - centre) ** 2 / var
        post = np.exp(log - log.max(axis=-1, keepdims=True))
        post /= post.sum(axis=-1, keepdims=True)
        probs[level] = np.einsum("z,izj->ij", law, post)
    probs /= probs.sum(axis=-1, keepdims=True)
    return Transitions(
        logsnr=logsnr_of_ou_time(t),
        before=m.names,
        after=m.names,
        probs=probs,
        weights=w,
        reversal="posterior",
        feature="component",
    )


def exact_table(m: GaussianMixture, num: int = 60) -> Transitions:
    """Levels from where leaves are apart to where everything has merged, uniform in t."""
    spread = float(m.means.numpy().max() - m.means.numpy().min())
    t = np.linspace(0.05, np.log(max(spread, 2.0) / 2) + 2.5, num)
    return line_table(m, t) if m.dim == 1 else exact_transitions(m, logsnr_of_ou_time(t))


def simulate(
    m: GaussianMixture, *, num_sources: int, seed: int, num_levels: int = 32,
    one_each: bool = False,
) -> Transitions:  # fmt: skip
    """One forward–reverse experiment: sources drawn from the mixture, one replicate a level."""
    generator = stream(seed, "hierarchy", m.num_components, num_sources)
    which = torch.arange(num_sources) % m.num_components if one_each else None
    clean = sample(m, num_sources, generator=generator, component=which)
    spread = float(m.means.numpy().max() - m.means.numpy().min())
    levels = logsnr_of_ou_time(np.linspace(0.1, np.log(spread / 2) + 2.5, num_levels))
    counts = np.zeros((num_sources, num_levels, m.num_components), dtype=np.int64)
    for level, logsnr in enumerate(levels):
        alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
        noise = torch.randn(clean.x.shape, dtype=torch.float64, generator=generator)
        draw = posterior_draw(
            m, alpha * clean.x + sigma * noise, alpha=alpha, sigma=sigma, generator=generator
        )
        counts[np.arange(num_sources), level, draw.component.numpy()] += 1
    return from_counts(
        counts,
        clean.component.numpy(),
        logsnr=levels,
        before=m.names,
        weights=m.weights.numpy(),
        reversal="posterior",
        feature="component",
        plateau=1.0,
    )


def random_mixture_1d(rng: np.random.Generator, *, num: int) -> GaussianMixture:
    """Unequal weights, means and variances."""
    return GaussianMixture(
        weights=rng.dirichlet(np.full(num, 2.0)),
        means=rng.normal(0, 6, size=(num, 1)),
        covariances=rng.uniform(0.3, 2.0, size=(num, 1)) ** 2,
        names=[f"c{k}" for k in range(num)],
    )


def tv_1d(m: GaussianMixture, a: Sequence[str], b: Sequence[str], t: float) -> float:
    """TV of two sub-mixtures on the line at OU time t, by quadrature on a fine grid."""
    alpha2, sigma2 = np.exp(-2 * t), -np.expm1(-2 * t)
    var = alpha2 * np.broadcast_to(m.eigenvalues.numpy(), (m.num_components, 1))[:, 0] + sigma2
    centre = np.sqrt(alpha2) * m.means.numpy()[:, 0]
    w = m.weights.numpy()
    x = np.linspace(centre.min() - 10, centre.max() + 10, 200001)

    def law(names: Sequence[str]) -> NDArray[np.float64]:
        total = np.zeros_like(x)
        mass = sum(w[m.names.index(n)] for n in names)
        for n in names:
            k = m.names.index(n)
            total += (
                w[k]
                / mass
                * np.exp(-0.5 * (x - centre[k]) ** 2 / var[k])
                / np.sqrt(2 * np.pi * var[k])
            )
        return total

    return float(0.5 * np.trapezoid(np.abs(law(a) - law(b)), x))
