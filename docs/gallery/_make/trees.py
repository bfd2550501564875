"""A hierarchy of means with its tree, and the Gaussian tree prior with its ladder."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from critwin.levels import logsnr_of_ou_time
from critwin.reports.dendrogram import dendrogram
from critwin.reports.svg import standalone
from critwin.reshaping import merge
from critwin.theory.distance_windows import separation_times
from critwin.theory.families import load_family
from critwin.theory.families.hierarchies import tree_ladder
from critwin.theory.mixture_trees import mixture_tree
from critwin.theory.mixtures import GaussianMixture
from critwin.trees import tree_support
from critwin.windows import critical_window, curve_with_intervals

from .measuring import counted_modes
from .pairs import Study, kept_curve, measured_times, spread_of, windows
from .parts import EPSILON, NOT_READ, Curve, Entry, Level, Time, value_of
from .wording import table

__all__ = ["gaussian_tree", "hierarchical"]

_HALF = math.sin(math.pi / 4)  # correlation at which the sign of a Gaussian is half kept


def hierarchical() -> Entry:
    """Li & Chen (2024), hierarchies; Li, Karan & Chen (2025), Def. 8."""
    family = load_family("hierarchical")
    m = family.mixture
    assert m is not None
    published = {p.symbol: p for p in family.published(EPSILON)}
    names, depth = m.names, len(m.names[0])
    leaf = names[0]
    study = Study(
        family.name, m, after=family.after, before=family.before, t=measured_times(10.4, 40),
        num_sources=1000,
    )  # fmt: skip
    times, curves = [], []
    for d in range(depth, 0, -1):
        digit = {s: [n for n in names if n[d - 1] == s] for s in sorted({n[d - 1] for n in names})}
        merged, computed = merge(study.counts, digit), merge(study.scan, digit)
        exact = windows(study.table_at, computed, criterion="kept")
        own = critical_window(merged, test=False)
        assert own.midpoint is not None
        times.append(
            Time(
                symbol=f"midpoint[{d}]",
                meaning=f"half of the choice among the children at depth {d} is kept",
                value=value_of(exact.midpoint),
                spread=spread_of(exact.midpoint),
                measured=own.midpoint.t,
            )
        )
        curves.append(kept_curve(f"choice at depth {d}", computed, merged))
        inside = [n for n in names if n[:d] == leaf[:d]]
        around = [n for n in names if n[: d - 1] == leaf[: d - 1]]
        parting = separation_times(
            m, init=leaf, target=inside, epsilon=EPSILON, precision="bracket"
        ).T_upper.t
        merging = separation_times(
            m, init=leaf, target=around, epsilon=EPSILON, precision="bracket"
        ).T_lower.t
        node, parent = leaf[:d], leaf[: d - 1] or "root"
        for symbol, found, meaning in (
            (f"T_upper[{node}]", parting, f"the leaves under {node} are apart from the rest"),
            (f"T_lower[{parent}]", merging, f"leaf {leaf} is alike all leaves under {parent}"),
        ):
            assert found.low is not None
            assert found.high is not None
            is_sharp = found.high - found.low < 1e-9
            times.append(
                Time(
                    symbol=symbol,
                    meaning=meaning + (" up to here" if "upper" in symbol else " from here on"),
                    published=(published[symbol],),
                    value=found.value if is_sharp else None,
                    low=found.low,
                    high=found.high,
                    why=NOT_READ,
                )
            )
    times.sort(key=lambda x: x.value or x.low or 0.0)
    tree = mixture_tree(m, EPSILON)
    found_tree = tree_support(study.counts, EPSILON, num_resamples=60)
    is_same = found_tree.is_same_shape(tree)
    order = [x for x in times if x.symbol.startswith("midpoint")]
    ladder = [p.value for p in family.published(EPSILON)]
    is_ladder = all(a is not None and b is not None and a < b for a, b in pairwise(ladder))
    supports = [n.support for n in found_tree.inner if n.support is not None]
    finding = (
        "Read from the right, generation decides "
        + ", then ".join(f"depth {x.symbol[9]} near t = {x.value:.2f}" for x in reversed(order))
        + ". "
        + (
            "Each T_lower by formula lies below the next T_upper, so that the three windows are "
            "disjoint by the formulas alone. "
            if is_ladder
            else "The published times alone do not separate the windows. "
        )
        + f"The tree is certified: {tree.is_certified}; the tree of 1,000 counted sources is "
        + ("the same" if is_same else "another one")
        + f", every node in at least {min(supports):.0%} of 60 resamples.".replace("%", " %")
    )
    drawn = dendrogram(
        tree, key="tree", t_max=11.0, title="Tree of the hierarchical mixture, certified"
    )
    return Entry(
        name="hierarchical",
        title="A hierarchy of means",
        story=(
            "Eight unit Gaussians: a binary tree of means with radii 2500, 100 and 4, root first. "
            "A leaf is alike its sibling first, then its group of four, then all: coarse choices "
            "are decided at more noise. *Source:* Li & Chen (2024), hierarchical mixtures; Li, "
            "Karan & Chen (2025), Def. 8 (ε-mixture tree); eq. (11) of "
            "[families](../theory/families.md), [trees](../theory/trees.md)."
        ),
        times=tuple(times),
        levels=study.levels([x.value or x.low for x in times if "midpoint" not in x.symbol]),
        what=leaf,
        curves=tuple(reversed(curves)),
        num_sources=1000,
        extra=(
            "The tree of the mixture, certified from distances:\n\n"
            "![Dendrogram of the hierarchical mixture](hierarchical-tree.svg)\n\n"
            + table(
                ["", "tree"],
                [
                    ["certified, from distances", f"`{tree.describe()}`"],
                    ["1,000 counted sources", f"`{found_tree.describe()}`"],
                ],
            )
        ),
        code="""\
import critwin as cw
from critwin.theory.families import load_family

small = load_family("hierarchical", radii="100,4").mixture
tree = cw.mixture_tree(small, epsilon=0.1)
print(tree.is_certified)
for step in tree.path("00"):
    print(len(step.labels), "leaves, bound", round(step.bound, 3))
""",
        finding=finding,
        drawings={"hierarchical-tree": standalone(drawn["wide"])},
        t_max=11.0,
    )


def gaussian_tree() -> Entry:
    """Biroli et al. (2024), speciation of a hierarchical covariance."""
    branching, depth, rho = 3, 3, 0.7
    family = load_family("gaussian-tree", branching=branching, depth=depth, rho=rho)
    m = family.mixture
    assert m is not None
    ladder = tree_ladder(branching, depth, rho)
    spectrum = np.linalg.eigvalsh(_covariance(m))
    directions = _modes(branching, depth)
    spots = np.sort(
        np.concatenate([np.geomspace(0.01, 2.8, 26).round(3), [rung.t for rung in ladder]])
    )
    tables = counted_modes(m, directions, spots, num_sources=1500, name=family.name)
    times, levels, curves, rows = [], [], [], []
    for rung, published, counts in zip(ladder, family.published(EPSILON), tables, strict=True):
        name = "uniform" if rung.depth is None else str(rung.depth)
        window = critical_window(counts, test=False)
        assert window.midpoint is not None
        times.append(
            Time(
                symbol=f"midpoint[{name}]",
                meaning=f"half of the sign of mode {name} is kept; the formula is t_S",
                published=(published,),
                value=0.5 * math.log1p(rung.eigenvalue * (1 - _HALF) / _HALF),
                measured=window.midpoint.t,
            )
        )
        stay = curve_with_intervals(counts, "stay", after="+")
        k = int(np.abs(counts.t - rung.t).argmin())
        levels.append(
            Level(
                t=float(counts.t[k]),
                stay=0.5 + math.asin(_correlation(rung.eigenvalue, counts.t[k])) / math.pi,
                certified=None,
                measured=(float(stay.value[k]), float(stay.low[k]), float(stay.high[k])),
            )
        )
        fine = np.linspace(0.02, 2.8, 110)
        kept = curve_with_intervals(counts, "kept")
        curves.append(
            Curve(
                name=f"mode {name}",
                t=fine,
                value=2 / np.pi * np.arcsin(_correlation(rung.eigenvalue, fine)),
                at=kept.t,
                counted=(kept.value, kept.low, kept.high),
            )
        )
        near = np.abs(spectrum - rung.eigenvalue) < 1e-9
        rows.append(
            [
                name,
                f"{rung.eigenvalue:.6f}",
                str(rung.multiplicity),
                f"{spectrum[near].mean():.6f}",
                str(int(near.sum())),
            ]
        )
    apart = [float(x.published[0].value or 0) - float(x.value or 0) for x in times]
    finding = (
        f"At its own ½ ln(1 + Λ) every mode keeps its sign with probability 2/3 (`kept` = 1/3), "
        f"whatever Λ; half of it is kept earlier, by {min(apart):.2f} to {max(apart):.2f}. So the "
        "ladder of speciation times is a ladder of windows, shifted: coarse modes are decided at "
        "more noise."
    )
    return Entry(
        name="gaussian-tree",
        title="The Gaussian tree prior",
        story=(
            "One Gaussian over the 27 leaves of a tree with 3 branches and depth 3, covariance "
            "`ρ^{2(L − depth of the lowest common ancestor)}`, ρ = .7. It has no components; its "
            "modes, one kind for each depth, are features by their sign. With "
            "`r = Λ snr/(1 + Λ snr)` the sign is kept with probability `½ + arcsin(r)/π` (the "
            "posterior draw has correlation r with the source). *Source:* Biroli, Bonnaire, de "
            "Bortoli & Mézard (2024), `t_S = ½ ln(1 + Λ)`; eqs. (12) and (13) of "
            "[families](../theory/families.md)."
        ),
        times=tuple(sorted(times, key=lambda x: x.value or 0.0)),
        levels=tuple(sorted(levels, key=lambda x: x.t)),
        what="the sign, at the ½ ln(1 + Λ) of its mode",
        curves=tuple(curves),
        num_sources=1500,
        extra="Eigenvalues by formula (12) and by decomposing the 27 × 27 covariance:\n\n"
        + table(["mode", "formula", "times", "decomposed", "times"], rows),
        code="""\
from critwin.theory.families.hierarchies import tree_ladder

for rung in tree_ladder(3, 3, 0.7):
    print(rung.depth, f"{rung.eigenvalue:.6f}", rung.multiplicity, f"t_S {rung.t:.4f}")
""",
        finding=finding,
        t_max=3.0,
    )


def _covariance(m: GaussianMixture) -> np.ndarray:
    """Of the one component, from its axes."""
    assert m.axes is not None
    axes = m.axes[0].numpy()
    return np.asarray(axes * m.eigenvalues[0].numpy() @ axes.T)


def _correlation(eigenvalue: float, t: np.ndarray | float) -> np.ndarray:
    """Between a coordinate of the source and of its image."""
    signal = eigenvalue * np.exp(logsnr_of_ou_time(np.asarray(t)))
    return np.asarray(signal / (1 + signal))


def _modes(branching: int, depth: int) -> np.ndarray:
    """A unit eigenvector of every kind: uniform, then between two children at each depth."""
    num = branching**depth
    rows = [np.full(num, num**-0.5)]
    for d in range(depth):
        size = branching ** (depth - d - 1)
        row = np.zeros(num)
        row[:size], row[size : 2 * size] = 1.0, -1.0
        rows.append(row / np.linalg.norm(row))
    return np.stack(rows)
