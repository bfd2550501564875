"""The law of a forward–reverse image, computed directly, against every bound on it.

For a Gaussian mixture on a line the image ``p^{S,t}`` has density
``sum_j ∫ p_t^S(y) P(j | y) N(x; posterior mean_j(y), posterior variance_j) dy``: a plain rule on a
grid of x and y, which shares no code with the package's quadratures.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.special import ndtr

from critwin.levels import alpha_sigma, logsnr_of_ou_time
from critwin.streams import numpy_stream
from critwin.theory import _submixtures
from critwin.theory._pairs import Noised
from critwin.theory._sides import split
from critwin.theory.bounds import certificate, theorem_bound
from critwin.theory.distance_windows import separation_times
from critwin.theory.distances import pairwise_tv, total_variation
from critwin.theory.mixtures import (
    GaussianMixture,
    covariance_matrices,
    noised_log_density,
    sample,
    submixture,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def random_line(rng: np.random.Generator, num: int) -> GaussianMixture:
    """Up to very unequal weights and covariances, means in clusters or not."""
    scale = float(rng.choice([2.0, 6.0, 20.0]))
    return GaussianMixture(
        weights=rng.dirichlet(np.full(num, rng.choice([0.3, 1.0, 5.0]))) * 0.999 + 0.001 / num,
        means=scale * rng.normal(size=num),
        covariances=np.exp(rng.normal(size=num) * rng.choice([0.1, 1.0, 2.0])),
    )


def normal(x: Array, mean: Array, var: Array) -> Array:
    return np.asarray(np.exp(-0.5 * (x - mean) ** 2 / var) / np.sqrt(2 * np.pi * var))


def image_distance(
    m: GaussianMixture, init: list[int], target: list[int], alpha: float, sigma: float
) -> float:
    """``TV(p^{S_init,t}, p^{S_target})`` by a rule that converges fast for Gaussians."""
    w, mean = m.weights.numpy(), m.means.numpy()[:, 0]
    var = m.eigenvalues.numpy()[:, 0] * np.ones(len(w))
    noised_var = alpha**2 * var + sigma**2
    post_var = sigma**2 * var / noised_var
    # y: a trapezoidal rule fine enough for the narrowest noised component and posterior
    reach = 8.5 * np.sqrt(noised_var[init])
    low, high = (alpha * mean[init] - reach).min(), (alpha * mean[init] + reach).max()
    # one step of y moves the image by less than half of its own spread
    spread = np.sqrt(post_var) * noised_var / (alpha * var)
    step = min(0.4 * float(np.sqrt(noised_var).min()), 0.45 * float(spread.min()))
    y = np.linspace(low, high, int(np.clip((high - low) / step, 200, 8000)))
    joint = w * normal(y[:, None], alpha * mean, noised_var)
    start = joint[:, init].sum(axis=1) / w[init].sum()
    # between sets far apart all densities vanish: nothing starts there
    share = joint / np.maximum(joint.sum(axis=1, keepdims=True), 1e-300)
    # x: the distribution function of the image at cell edges, so that no cell is lost
    sd = np.sqrt(var)
    x = np.unique((mean[:, None] + sd[:, None] * np.linspace(-8.5, 8.5, 101)).ravel())
    below = np.zeros(len(x))
    for j in range(len(w)):
        centre = mean[j] + alpha * var[j] / noised_var[j] * (y - alpha * mean[j])
        z = (x[:, None] - centre) / np.sqrt(post_var[j])
        below += ndtr(z) @ (start * share[:, j]) * (y[1] - y[0])
    truth = ndtr((x[:, None] - mean[target]) / sd[target]) @ (w[target] / w[target].sum())
    cells = np.diff(np.concatenate([[0.0], below, [below[-1]]]))
    expected = np.diff(np.concatenate([[0.0], truth, [1.0]]))
    # cells merge what lies inside them, so this is below the truth, by data processing
    return float(0.5 * np.abs(cells - expected).sum())


WRONG = 0.2  # a planted bug: every upper bound a fifth of what it is


def random_sets(rng: np.random.Generator, size: int) -> tuple[list[int], list[int]]:
    """A set inside a set."""
    target = sorted(rng.choice(size, int(rng.integers(1, size + 1)), replace=False).tolist())
    count = int(rng.integers(1, len(target) + 1))
    return sorted(rng.choice(target, count, replace=False).tolist()), target


def names_of(m: GaussianMixture, which: list[int]) -> list[str]:
    return [m.names[k] for k in which]


def violations(*, num: int, seed: int, max_components: int = 8) -> dict:
    """How often a bound is violated among random mixtures on a line."""
    return _violations(
        num, seed, lambda rng: random_line(rng, int(rng.integers(2, max_components + 1))), "line"
    )


def plane_violations(*, num: int, seed: int) -> dict:
    """The same in two dimensions, unequal full covariances, by a rule on a grid of the plane."""

    def make(rng: np.random.Generator) -> GaussianMixture:
        size = int(rng.integers(2, 9))
        root = rng.normal(size=(size, 2, 2))
        return GaussianMixture(
            weights=rng.dirichlet(np.full(size, rng.choice([0.5, 2.0]))) * 0.99 + 0.01 / size,
            means=float(rng.choice([1.5, 4.0])) * rng.normal(size=(size, 2)),
            covariances=root @ root.transpose(0, 2, 1) / 2 + 0.2 * np.eye(2),
            covariance_kind="full",
        )

    return _violations(num, seed, make, "plane")


def _violations(num: int, seed: int, make: Any, where: str) -> dict:
    rng = numpy_stream(seed, "violations", where)
    found = {"certificate": 0, "theorem": 0, "brackets": 0}
    caught = {"certificate": 0, "theorem": 0}
    widths: dict[str, list[float]] = {"certificate": [], "theorem": [], "brackets": []}
    num_windows = 0
    distance = image_distance if where == "line" else plane_image_distance
    slack = 1e-6 if where == "line" else 2e-3
    options = {} if where == "line" else {"num_samples": 1 << 10}
    for _ in range(num):
        m = make(rng)
        init, target = random_sets(rng, m.num_components)
        names = names_of(m, init), names_of(m, target)
        levels = logsnr_of_ou_time(np.exp(rng.uniform(np.log(0.03), np.log(4.0), 2)))
        bounds = certificate(m, init=names[0], target=names[1], logsnr=levels, **options)
        for k, (a, s) in enumerate(zip(*alpha_sigma(levels), strict=True)):
            truth = distance(m, init, target, float(a), float(s))
            found["certificate"] += bool(truth > bounds.upper[k] + slack)
            # the truth is read off cells, which loses a little of it
            low = bounds.lower[k] - 4 * bounds.lower_stderr[k]
            found["certificate"] += bool(truth < low - 2e-3)
            caught["certificate"] += bool(truth > WRONG * bounds.upper[k] + slack)
            widths["certificate"].append(float(bounds.upper[k] - bounds.lower[k]))
        is_bad, width = _brackets(m, init, target, levels, where)
        found["brackets"] += is_bad
        widths["brackets"] += width
        epsilon = float(rng.uniform(0.02, 0.6))
        times = separation_times(
            m, init=names[0], target=names[1], epsilon=epsilon, precision="bracket"
        )
        start, stop = times.T_lower.t.high, times.T_upper.t.low
        if stop is None and times.T_upper.t.reason and "infinite" in times.T_upper.t.reason:
            stop = start + 3.0
        if stop is None or start > stop or len(init) == len(target):
            continue
        num_windows += 1
        t = max(float(rng.uniform(start, stop)), 1e-2 if where == "plane" else 1e-3)
        if t > stop:
            continue
        a, s = (float(v) for v in alpha_sigma(logsnr_of_ou_time(t)))
        weight = float(m.weights.numpy()[target].sum())
        bound = theorem_bound(epsilon, max((1 - weight) / weight, 0.0)).value
        truth = distance(m, init, target, a, s)
        found["theorem"] += bool(truth > bound + slack)
        caught["theorem"] += bool(truth > WRONG * bound + slack)
        widths["theorem"].append(truth / bound)
    return {
        "num": num,
        "num_windows": num_windows,
        "violations": found,
        "caught": caught,
        "median_certificate_width": _median(widths["certificate"]),
        "median_share_of_theorem": _median(widths["theorem"]),
        "median_bracket_width": _median(widths["brackets"]),
    }


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None


def _brackets(
    m: GaussianMixture, init: list[int], target: list[int], levels: Array, where: str
) -> tuple[bool, list[float]]:
    """Brackets of the noised sets, made from pairs, around their distance by quadrature."""
    sides = split(m, init, target)
    if sides.factor == 0.0:
        return False, []
    bounds = _submixtures.bracket(Noised(m, levels), sides)
    low, high = sides.factor * bounds.lower, sides.factor * bounds.upper
    if where == "line":
        exact = total_variation(m, names_of(m, init), names_of(m, target), levels).estimate
        slack = 1e-8
    else:
        exact = np.array([plane_distance(m, init, target, logsnr) for logsnr in levels])
        slack = 2e-3
    return bool(np.any((exact < low - slack) | (exact > high + slack))), (high - low).tolist()


def plane_grid(low: Array, high: Array, step: float) -> tuple[torch.Tensor, float]:
    axes = [
        np.linspace(a, b, int(np.clip((b - a) / step, 60, 110)))
        for a, b in zip(low, high, strict=True)
    ]
    area = float(np.prod([axis[1] - axis[0] for axis in axes]))
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    return torch.from_numpy(points), area


def _box(m: GaussianMixture, which: list[int], alpha: float, sigma: float) -> tuple[Array, Array]:
    cov = alpha**2 * covariance_matrices(m).numpy()[which] + sigma**2 * np.eye(2)
    sd = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
    mean = alpha * m.means.numpy()[which]
    return (mean - 6.5 * sd).min(axis=0), (mean + 6.5 * sd).max(axis=0)


def plane_distance(m: GaussianMixture, init: list[int], target: list[int], logsnr: float) -> float:
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    points, area = plane_grid(*_box(m, target, alpha, sigma), 0.05)
    p, q = (
        np.exp(
            noised_log_density(
                submixture(m, names_of(m, which)), points, alpha=alpha, sigma=sigma
            ).numpy()
        )
        for which in (init, target)
    )
    return float(0.5 * np.abs(p - q).sum() * area)


def plane_image_distance(
    m: GaussianMixture, init: list[int], target: list[int], alpha: float, sigma: float
) -> float:
    """The image's law in two dimensions.

    ``p^{S,t}(x) = p(x) E[p_t^S(y)/p_t(y) | x]``: the ratio is averaged over ``y = alpha x + sigma
    z`` by a Gauss–Hermite rule, and the distance is summed over a grid of x.
    """
    points, area = plane_grid(*_box(m, list(range(m.num_components)), 1.0, 0.0), 0.15)
    node, weight = np.polynomial.hermite_e.hermegauss(12)
    weight = weight / weight.sum()
    large = submixture(m, names_of(m, target))
    cov = alpha**2 * covariance_matrices(m).numpy() + sigma**2 * np.eye(2)
    inverse, mean = np.linalg.inv(cov), alpha * m.means.numpy()
    pull = np.einsum("kde,ke->kd", inverse, mean)
    bias = np.log(m.weights.numpy()) - 0.5 * np.log(np.linalg.det(cov))
    bias -= 0.5 * np.einsum("kd,kd->k", mean, pull)
    square = np.stack([-0.5 * inverse[:, 0, 0], -inverse[:, 0, 1], -0.5 * inverse[:, 1, 1]])
    ratio = np.zeros(len(points))
    for a, wa in zip(node, weight, strict=True):
        for b, wb in zip(node, weight, strict=True):
            y = alpha * points.numpy() + sigma * np.array([a, b])
            products = np.stack([y[:, 0] ** 2, y[:, 0] * y[:, 1], y[:, 1] ** 2], axis=1)
            joint = bias + y @ pull.T + products @ square
            joint = np.exp(joint - joint.max(axis=1, keepdims=True))
            ratio += wa * wb * joint[:, init].sum(axis=1) / joint.sum(axis=1)
    total = float(m.weights.numpy()[init].sum())
    p = np.exp(noised_log_density(m, points, alpha=1.0, sigma=0.0).numpy())
    q = np.exp(noised_log_density(large, points, alpha=1.0, sigma=0.0).numpy())
    return float(0.5 * np.abs(p * ratio / total - q).sum() * area)


def space_violations(*, num: int, seed: int) -> dict:
    """Distances and brackets in three dimensions against plain Monte Carlo."""
    rng = numpy_stream(seed, "violations", "space")
    found = {"pairs": 0, "brackets": 0}
    widths: list[float] = []
    count = 20_000
    for _ in range(num):
        size = int(rng.integers(2, 9))
        root = rng.normal(size=(size, 3, 3))
        m = GaussianMixture(
            weights=rng.dirichlet(np.full(size, 1.0)) * 0.99 + 0.01 / size,
            means=float(rng.choice([1.0, 3.0])) * rng.normal(size=(size, 3)),
            covariances=root @ root.transpose(0, 2, 1) / 3 + 0.1 * np.eye(3),
            covariance_kind="full",
        )
        init, target = random_sets(rng, size)
        t = float(np.exp(rng.uniform(np.log(0.03), np.log(3.0))))
        logsnr = logsnr_of_ou_time([t])
        tv = pairwise_tv(m, logsnr)[0, 0, 1]
        value, stderr = _monte_carlo(m, [0], [1], logsnr[0], rng, count)
        found["pairs"] += bool(abs(value - tv) > 5.5 * stderr + 1 / count)
        curve = total_variation(
            m, names_of(m, init), names_of(m, target), logsnr, precision="bracket"
        )
        value, stderr = _monte_carlo(m, init, target, logsnr[0], rng, count)
        slack = 5.5 * stderr + 1 / count
        found["brackets"] += bool(not curve.lower[0] - slack <= value <= curve.upper[0] + slack)
        if not curve.is_exact:
            widths.append(float(curve.upper[0] - curve.lower[0]))
    return {"num": num, "violations": found, "median_bracket_width": _median(widths)}


def _monte_carlo(
    m: GaussianMixture,
    a: list[int],
    b: list[int],
    logsnr: float,
    rng: np.random.Generator,
    count: int,
) -> tuple[float, float]:
    alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
    sides = [submixture(m, names_of(m, which)) for which in (a, b)]
    gaps = []
    for side in sides:
        normals = torch.from_numpy(rng.normal(size=(count, m.dim)))
        uniforms = torch.from_numpy(rng.random(count))
        x = sample(side, count, normals=normals, uniforms=uniforms).x
        y = alpha * x + sigma * torch.from_numpy(rng.normal(size=(count, m.dim)))
        p, q = (noised_log_density(s, y, alpha=alpha, sigma=sigma).numpy() for s in sides)
        gaps.append(np.abs(np.tanh(0.5 * (p - q))))
    value = 0.5 * (gaps[0].mean() + gaps[1].mean())
    return float(value), float(0.5 * np.sqrt((gaps[0].var() + gaps[1].var()) / count))


def estimate_coverage(*, seeds: int, num_samples: int = 1 << 11) -> dict:
    """How often ``estimate ± 1.96 stderr`` holds the exact distance, sampled as if unknown."""
    plane = GaussianMixture(
        weights=[0.2, 0.3, 0.5], means=[[0.0, 0], [2, 1], [-1, 3]], covariances=[1.0, 0.4, 2.0]
    )
    line = GaussianMixture(
        weights=[0.3, 0.2, 0.1, 0.4], means=[-3.0, 0, 1, 4], covariances=[1.0, 0.3, 2.0, 0.6]
    )
    cases = {"line": (line, [0, 2], [1, 3], 0.5), "plane pair": (plane, [0], [1], 0.3)}
    share, narrow = {}, {}
    for name, (m, a, b, t) in cases.items():
        noised, sides = Noised(m, logsnr_of_ou_time([t])), split(m, a, b)
        exact = _submixtures.exact(noised, sides)
        assert exact is not None
        hits = np.zeros(2)
        for seed in range(seeds):
            value, stderr, _ = _submixtures.sampled(noised, sides, num_samples, seed)
            gap = abs(value[0] - exact[0][0])
            hits += [gap <= 1.96 * stderr[0], gap <= 1.96 * stderr[0] / 3]
        share[name], narrow[name] = (hits / seeds).tolist()
    return {"num": seeds, "share": share, "share_if_stderr_were_a_third": narrow}


def write_result(name: str, result: dict) -> None:
    """Into ``$CRITWIN_RESULTS/theory_bounds.json``, if that is set."""
    if folder := os.environ.get("CRITWIN_RESULTS"):
        path = Path(folder) / "theory_bounds.json"
        table = json.loads(path.read_text()) if path.exists() else {}
        table[name] = result
        path.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")
