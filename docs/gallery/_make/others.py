"""Masking, components that are not Gaussian, and the regimes that others have named."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from critwin.theory.bounds import log_concave_times
from critwin.theory.exact import exact_transitions
from critwin.theory.families import PublishedTime, load_family
from critwin.theory.log_concave import (
    ProductMixture,
    component_wasserstein,
    product_transitions,
    skew_normal,
    truncated_gaussian,
)
from critwin.theory.mixtures import GaussianMixture
from critwin.theory.regimes import (
    collapse_balance,
    collapse_time,
    information_peaks,
    speciation_time,
    symmetry_breaking,
)
from critwin.windows import critical_window, curve_with_intervals

from .measuring import counted_strings, mask_of
from .pairs import Study, measured_times
from .parts import EPSILON, Curve, Entry, Level, Time
from .wording import apart, best, time_of

__all__ = ["log_concave", "masking", "regimes"]

BIROLI = "Biroli et al. (2024)"
PRINTED = (
    (1.0, 1.0), (1.5, 0.9994), (2.0, 0.9775), (2.5, 0.8620), (3.0, 0.7012), (3.5, 0.5925),
    (4.0, 0.5343), (4.5, 0.5201), (5.0, 0.5027),
)  # fmt: skip
"""Of Biroli et al. (2024): phi for |m|^2 = D = 256, each from 10,000 pairs."""


def masking() -> Entry:
    """Li, Karan & Chen (2025), Ex. 3."""
    distance, half = 10, 0.5
    family = load_family("masking", distance=distance)
    assert family.masking is not None
    masks = np.round(np.linspace(0.4, 0.995, 30), 4)
    counts, _ = counted_strings(distance, masks, num_sources=1000, name=family.name)
    kept = critical_window(counts, test=False)
    pair = critical_window(counts, criterion="operational", after="+", epsilon=EPSILON, test=False)
    exact = family.exact(EPSILON)
    t_after, low = (2 * EPSILON) ** (1 / distance), EPSILON ** (1 / distance)
    t_before = exact["T_before"]

    def measured(edge: object) -> object:
        from dataclasses import replace

        t = edge.t  # type: ignore[attr-defined]
        return replace(t, value=mask_of(t.value), low=mask_of(t.low), high=mask_of(t.high))

    times = (
        Time(
            symbol="T_after",
            meaning="the laws of the two strings are apart up to here",
            value=exact["T_after"],
            low=exact["T_after"],
            high=exact["T_after"],
        ),
        Time(
            symbol="t_after",
            meaning="the string is kept with probability 1 − ε up to here",
            value=t_after,
            low=low,
            high=t_after,
            measured=measured(pair.t_after),  # type: ignore[arg-type]
        ),
        Time(
            symbol="midpoint",
            meaning="half of the string is kept",
            value=half ** (1 / distance),
            measured=measured(kept.midpoint),  # type: ignore[arg-type]
        ),
        Time(
            symbol="t_before",
            meaning="labels no longer tell the strings apart from here on",
            value=t_before,
            low=low,
            high=t_before,
            measured=measured(pair.t_before),  # type: ignore[arg-type]
        ),
        Time(
            symbol="T_before",
            meaning="the laws of one string and of both are alike from here on",
            published=family.published(EPSILON),
            value=t_before,
            low=t_before,
            high=t_before,
        ),
    )
    found = curve_with_intervals(counts, "stay", after="+")
    curve = curve_with_intervals(counts, "kept")
    chosen = [int(np.abs(masks - x).argmin()) for x in (t_after, 0.5 ** (1 / distance), t_before)]
    levels = tuple(
        Level(
            t=float(masks[k]),
            stay=float(family.masking.stay(masks[k])),
            # an equal pair leaks between half of what is missing to full separation and all of it
            certified=(
                float(family.masking.total_variation(masks[k])),
                0.5 + 0.5 * float(family.masking.total_variation(masks[k])),
            ),
            measured=(float(found.value[k]), float(found.low[k]), float(found.high[k])),
        )
        for k in chosen
    )
    printed = best(times[-1], "published")
    fine = np.linspace(0.3, 0.999, 120)
    return Entry(
        name="masking",
        title="Two masked strings",
        story=(
            "Two equally likely strings that differ in h = 10 symbols; each symbol is masked with "
            "probability t, and filled in by the exact posterior. There is no Gaussian noise: the "
            "windows need a Markov degradation and nothing else. *Source:* Li, Karan & Chen "
            "(2025), Ex. 3; eqs. (14) and (15) of [families](../theory/families.md)."
        ),
        times=times,
        levels=levels,
        what="+",
        curves=(
            Curve(
                name="kept",
                t=fine,
                value=2 * family.masking.stay(fine) - 1,
                at=masks,
                counted=(curve.value, curve.low, curve.high),
            ),
        ),
        num_sources=1000,
        code="""\
from critwin.theory.families import load_family

family = load_family("masking", distance=10)
print({s: f"{t:.6f}" for s, t in family.exact(0.1).items()})
print([f"{p.symbol} <= {p.value:.6f}" for p in family.published(0.1)])
print(family.masking.stay([0.5, 0.9, 0.99]).round(4).tolist())
""",
        finding=(
            f"The printed end is sufficient and {apart(printed, t_before)} than the exact one. "
            "For two equally likely strings the label says all there is to say, so that t_before "
            "and T_before coincide, and the upper limit of the certificate for t_after is sharp."
        ),
        unit="mask",
        t_max=1.0,
    )


def log_concave() -> Entry:
    """Li & Chen (2024), Thm 7, for components that are no Gaussians."""
    law = ProductMixture(
        components=[
            skew_normal(0, 1, 4),
            skew_normal(6, 1.5, -3),
            truncated_gaussian(400, 2, 399, 412),
            truncated_gaussian(408, 1, 402, 409),
        ],
        names=["a0", "a1", "b0", "b1"],
    )
    study = Study(
        "log-concave", law, after=["a0"], before=["a0", "a1"], t=measured_times(5.6, 32),
        num_sources=1000, table_at=partial(product_transitions, law),
    )  # fmt: skip
    means = law.means.numpy()[:, 0]
    W2 = float(component_wasserstein(law)[0, :2].max())
    gap = float(np.abs(means[:2, None] - means[None, 2:]).min())
    m = float(law.m.min())
    bound = log_concave_times(W2, gap, m, 4, EPSILON)
    source = "Li & Chen (2024), Thm 7; constants derived in docs/theory/log_concave.md"
    headline = [
        PublishedTime(
            name="intra-group merging", symbol="T_lower", value=bound.T_lower, bound="upper",
            is_valid_bound=True, kind="derived", source=source, note=f"W_2 = {W2:.4f}",
        ),
        PublishedTime(
            name="inter-group separation", symbol="T_upper", value=bound.T_upper, bound="lower",
            is_valid_bound=bound.T_upper is not None, kind="derived", source=source,
            note=f"m = {m:.4f}, least distance of means between the groups {gap:.2f}",
        ),
    ]  # fmt: skip
    times = study.times(headline, more=["T_lower", "T_upper"])
    start, end = time_of(times, "T_lower"), time_of(times, "T_upper")
    assert start.high is not None
    assert end.low is not None
    inside = [float(x) for x in study.counts.t if bound.T_lower <= x <= (bound.T_upper or 0)]
    finding = (
        f"Three numbers of the law (m, W_2 and the distance of the groups) promise a window "
        f"{'from' if bound.is_window else 'nowhere, not from'} {bound.T_lower:.2f} to "
        f"{bound.T_upper:.2f}; by quadrature it runs from {start.high:.2f} to {end.low:.2f}: the "
        f"headline costs {bound.T_lower - start.high:.2f} at one end and "
        f"{end.low - (bound.T_upper or 0):.2f} at the other. Nothing in it needs a Gaussian."
    )
    return Entry(
        name="log-concave",
        title="Strongly log-concave components",
        story=(
            "Two skew-normal components near 0 (group a) and two truncated Gaussians near 400 "
            "(group b), in one dimension, equal weights: m-strongly log-concave and not Gaussian. "
            "S_after = {a0}, S_before = {a0, a1}. *Source:* the headline bound of Li & Chen "
            "(2024), Thm 7; eqs. (5) and (10) of [log-concave](../theory/log_concave.md)."
        ),
        times=times,
        levels=study.levels([*(x.value for x in times), *inside[:: max(1, len(inside) // 2)]]),
        what="a0",
        curves=(study.curve(),),
        num_sources=1000,
        code="""\
from critwin.theory.bounds import log_concave_times
from critwin.theory.log_concave import component_wasserstein, ProductMixture
from critwin.theory.log_concave import skew_normal, truncated_gaussian

law = ProductMixture(
    components=[
        skew_normal(0, 1, 4),
        skew_normal(6, 1.5, -3),
        truncated_gaussian(400, 2, 399, 412),
        truncated_gaussian(408, 1, 402, 409),
    ]
)
means, w2 = law.means[:, 0].tolist(), component_wasserstein(law)
bound = log_concave_times(float(w2[0, :2].max()), means[2] - means[1], float(law.m.min()), 4, 0.1)
print(f"{bound.T_lower:.4f} {bound.T_upper:.4f}", bound.is_window)
""",
        finding=finding,
        t_max=6.0,
    )


def regimes() -> Entry:
    """Biroli et al. (2024): phi of two Gaussians, speciation and collapse."""
    dim, num_points = 256, 20_000
    means = np.zeros((2, dim))
    means[:, 0] = 16.0, -16.0
    m = GaussianMixture(means=means, covariances=1.0, names=["+", "-"])
    spots = np.unique(
        np.concatenate([measured_times(5.4, 20, start=0.3), [t for t, _ in PRINTED]])
    )
    study = Study("regimes", m, after=["+"], before=["+", "-"], t=spots, num_sources=1000)
    times = study.times(())
    between = speciation_time(m, covariance="between")
    broken = symmetry_breaking(m)
    peak = information_peaks(m)[0]
    plain, balance = collapse_time(num_points, dim=dim), collapse_balance(m, num_points)
    why = "no property of the labels"

    def printed(symbol: str, value: float | None, source: str, note: str) -> PublishedTime:
        return PublishedTime(
            name=note, symbol=symbol, value=value, bound="approximation", is_valid_bound=False,
            kind="published", source=source, note=note,
        )  # fmt: skip

    others = (
        Time(
            symbol="t_S",
            meaning="speciation",
            published=(printed("t_S", between.t, BIROLI, "½ ln Λ, Λ between the classes"),),
            why=why,
        ),
        Time(
            symbol="t_sym",
            meaning="the fixed point of pure noise loses stability",
            value=broken.t,
            why=why,
        ),
        Time(
            symbol="t_info",
            meaning=f"information on the label is lost fastest (per {peak.per})",
            value=peak.t,
            why=why,
        ),
        Time(
            symbol="t_C",
            meaning=f"collapse for n = {num_points:,} training points",
            published=(
                printed("t_C", plain.t, BIROLI, "without what the sample tells of the label"),
            ),
            value=balance.t,
            why=why,
        ),
    )
    chosen = study.levels([t for t, _ in PRINTED])
    known = dict(PRINTED)
    levels = tuple(
        Level(
            t=x.t,
            stay=x.stay,
            certified=x.certified,
            measured=x.measured,
            image=x.image,
            theorem=x.theorem,
            published=(known[x.t], _error(known[x.t])),
        )
        for x in chosen
    )
    far = [abs(x.stay - x.published[0]) / 0.005 for x in levels if x.published]
    assert between.t is not None
    at = float(exact_transitions(m, [-math.log(math.expm1(2 * between.t))]).probs[0, 0, 0])
    middle, start = (time_of(times, name).value for name in ("midpoint", "t_after"))
    order = "less" if (balance.t or 0.0) < (start or 0.0) else "more"
    finding = (
        f"All nine printed values of φ lie within {max(far):.1f} times .005, the largest standard "
        f"error of their count, of the exact ones. At t_S the class is kept with probability "
        f"{at:.4f}; half of the feature is kept {apart(middle, between.t)}, and t_after, t_before "
        f"bracket both. Collapse is another question, asked here at {order} noise than the "
        "window, and what the sample tells of the label moves it by "
        f"{abs((balance.t or 0.0) - (plain.t or 0.0)):.3f}. None of these times bounds another."
    )
    return Entry(
        name="regimes",
        title="Speciation and collapse beside the window",
        story=(
            "`N(±m, I)` with |m|² = D = 256 and equal weights, the running example of Biroli, "
            "Bonnaire, de Bortoli & Mézard (2024), who print a Monte-Carlo count of φ(t), the "
            "probability that the class is kept, the speciation time and the collapse time for n "
            "= 20,000. Symmetry breaking is Raya & Ambrogioni's (2023), the peak of the "
            "information rate Handke et al.'s (2025). *Source:* eqs. (1) to (8) of "
            "[regimes](../theory/regimes.md)."
        ),
        times=tuple(
            sorted(
                (*times, *others),
                key=lambda x: x.value or next((p.value or 0.0 for p in x.published), 0.0),
            )
        ),
        levels=levels,
        what="+, φ(t)",
        curves=(study.curve(),),
        num_sources=1000,
        code="""\
from critwin.theory.mixtures import GaussianMixture
from critwin.theory.regimes import collapse_balance, collapse_time, speciation_time

m = GaussianMixture(means=[[16.0] + [0.0] * 255, [-16.0] + [0.0] * 255])
print(f"{speciation_time(m, covariance='between').t:.4f}")
print(f"{collapse_time(20_000, dim=256).t:.5f} {collapse_balance(m, 20_000).t:.5f}")
""",
        finding=finding,
        t_max=5.6,
    )


def _error(share: float) -> float:
    """Standard error of a share counted in 10,000 pairs."""
    return math.sqrt(max(share * (1 - share), 0.0) / 10_000)
