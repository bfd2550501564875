"""Named families: printed numbers, errata, and every bound against an independent value."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.optimize import brentq
from scipy.stats import norm

from critwin.errors import InputError
from critwin.levels import alpha_sigma, logsnr_of_ou_time
from critwin.theory.distances import total_variation
from critwin.theory.exact import exact_transitions
from critwin.theory.families import Family, PublishedTime, list_families, load_family
from critwin.theory.families.formulas import (
    inter_group_time,
    intra_group_time,
    merging_time,
    separated_time,
    separation_time,
)
from critwin.theory.families.hierarchies import tree_ladder
from critwin.theory.families.sparse_dictionary import symmetric_differences
from critwin.theory.mixtures import covariance_matrices

NAMES = [
    "two-gaussians",
    "random-spherical",
    "well-conditioned",
    "sparse-dictionary",
    "hierarchical",
    "gaussian-tree",
    "masking",
    "equal-means",
]


def times(family: Family, epsilon: float) -> dict[tuple[str, str], PublishedTime]:
    """Published times by symbol and kind."""
    return {(p.symbol, p.kind): p for p in family.published(epsilon)}


def tv_of_pair(distance: float, t: float, variance: float = 1.0) -> float:
    """TV of two equal isotropic Gaussians at an OU time, from the overlap of two normals."""
    sd = math.sqrt(1 + math.exp(-2 * t) * (variance - 1))
    return float(2 * norm.cdf(0.5 * math.exp(-t) * distance / sd) - 1)


# --- the registry --------------------------------------------------------------------------


def test_every_family_is_listed_with_documented_settings() -> None:
    infos = list_families()
    assert [info.name for info in infos] == NAMES
    for info in infos:
        assert info.summary
        assert info.source
        for setting in info.settings:
            assert setting.meaning
            assert setting.parse(setting.default) == setting.default


@pytest.mark.parametrize("name", NAMES)
def test_default_family_is_complete(name: str) -> None:
    family = load_family(name)
    assert family.name == name
    info = next(info for info in list_families() if info.name == name)
    assert set(family.parameters) == {s.name for s in info.settings}
    assert set(family.after) <= set(family.before)
    if family.mixture is not None:
        assert set(family.before) <= set(family.mixture.names)
    for entry in family.published(0.1):
        assert entry.source
        assert set(entry.as_dict()) >= {"symbol", "value", "kind", "is_valid_bound", "note"}
        if entry.bound == "approximation":
            assert not entry.is_valid_bound
        if entry.value is None:
            assert not entry.is_valid_bound


def test_settings_are_read_from_text_as_from_python() -> None:
    from_text = load_family("two-gaussians", distance="12.5", weight="0.25")
    from_numbers = load_family("two-gaussians", distance=12.5, weight=0.25)
    assert from_text.parameters == from_numbers.parameters
    assert from_text.mixture is not None
    assert from_numbers.mixture is not None
    assert from_text.mixture.fingerprint == from_numbers.mixture.fingerprint
    assert load_family("hierarchical", radii="90, 9").parameters["radii"] == (90.0, 9.0)
    assert load_family("hierarchical", radii=[90, 9]).parameters["radii"] == (90.0, 9.0)
    assert load_family("masking", distance="7").parameters["distance"] == 7


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("no-such", {}, "unknown family: got no-such; wanted one of two-gaussians, random"),
        ("masking", {"distanec": 3}, "unknown setting of masking: got distanec; wanted some of d"),
        ("masking", {"distance": "ten"}, "'distance' cannot be used: got ten; wanted a whole n"),
        ("masking", {"distance": 2.5}, "wanted a whole number >= 1"),
        ("masking", {"distance": 0}, "wanted a whole number >= 1"),
        ("masking", {"distance": True}, "wanted a whole number >= 1"),
        ("two-gaussians", {"weight": 1}, "wanted a number > 0 and < 1"),
        ("two-gaussians", {"variance": "nan"}, "wanted a number > 0"),
        ("two-gaussians", {"distance": "inf"}, "wanted a number >= 0"),
        ("two-gaussians", {"distance": None}, "wanted a number >= 0"),
        ("hierarchical", {"radii": []}, "wanted numbers > 0, with commas between them"),
        ("hierarchical", {"radii": "3,,1"}, "wanted numbers > 0, with commas between them"),
        ("hierarchical", {"branching": 36, "radii": "3,2,1"}, "too many leaves: got 46656"),
        ("equal-means", {"variances": "2,2"}, "the classes are not told apart"),
        ("equal-means", {"variances": 2}, "the classes are not told apart"),
        ("well-conditioned", {"smallest": 5}, "eigenvalues are the wrong way round"),
        ("sparse-dictionary", {"atoms": 3, "sparsity": 3}, "too few sets of atoms"),
        ("gaussian-tree", {"rho": "1"}, "wanted a number > 0 and < 1"),
    ],
)
def test_bad_input_is_one_clear_line(name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_family(name, **settings)


@pytest.mark.parametrize("epsilon", [0.0, 1.0, -0.1, math.nan])
def test_epsilon_is_checked(epsilon: float) -> None:
    family = load_family("masking")
    with pytest.raises(InputError, match="epsilon is out of range"):
        family.published(epsilon)
    with pytest.raises(InputError, match="epsilon is out of range"):
        family.exact(epsilon)


@pytest.mark.parametrize("name", ["random-spherical", "well-conditioned", "sparse-dictionary"])
def test_random_families_follow_their_seed(name: str) -> None:
    first, again, other = (load_family(name, seed=s) for s in (3, "3", 4))
    assert first.mixture is not None
    assert again.mixture is not None
    assert other.mixture is not None
    assert first.mixture.fingerprint == again.mixture.fingerprint
    assert first.mixture.fingerprint != other.mixture.fingerprint


# --- two Gaussians -------------------------------------------------------------------------


def test_printed_times_of_two_gaussians() -> None:
    family = load_family("two-gaussians", distance=20)
    exact, printed = family.exact(0.1), times(family, 0.1)
    assert exact["T_after"] == pytest.approx(1.356414, abs=5e-7)
    assert exact["T_before"] == pytest.approx(3.675580, abs=5e-7)
    assert printed["T_after", "published"].value == pytest.approx(0.938530, abs=5e-7)
    assert printed["T_before", "published"].value == pytest.approx(5.298317, abs=5e-7)
    assert printed["T_after", "corrected"].value == pytest.approx(1.192422, abs=5e-7)
    assert all(entry.is_valid_bound for entry in printed.values())


def test_log_concave_item_with_two_components() -> None:
    assert inter_group_time(30, 0.25, 1, 0.1) == pytest.approx(1.4516208517, abs=5e-11)
    exact = load_family("two-gaussians", distance=30, variance=4).exact(0.1)["T_after"]
    assert exact == pytest.approx(1.71556585754518, abs=5e-15)


@pytest.mark.parametrize("variance", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("weight", [0.5, 0.15, 0.9])
@pytest.mark.parametrize("epsilon", [0.02, 0.1, 0.3, 0.6])
def test_closed_forms_are_the_roots_of_the_distances(
    variance: float, weight: float, epsilon: float
) -> None:
    """Against the definition: TV to the rest, and TV to the whole mixture."""
    family = load_family("two-gaussians", distance=20, variance=variance, weight=weight)
    exact = family.exact(epsilon)
    t_after = brentq(lambda t: tv_of_pair(20, t, variance) - (1 - epsilon**2), 0, 30, xtol=1e-13)
    assert exact["T_after"] == pytest.approx(t_after, abs=1e-11)
    outside = 1 - weight
    if epsilon >= outside:
        assert exact["T_before"] == 0
        return
    t_before = brentq(lambda t: outside * tv_of_pair(20, t, variance) - epsilon, 0, 30, xtol=1e-13)
    assert exact["T_before"] == pytest.approx(t_before, abs=1e-11)


def test_unequal_weights_keep_t_after() -> None:
    equal = load_family("two-gaussians").exact(0.1)
    tilted = load_family("two-gaussians", weight=0.2).exact(0.1)
    assert tilted["T_after"] == equal["T_after"]
    assert tilted["T_before"] > equal["T_before"]  # type: ignore[operator]


def test_a_set_that_is_never_separated_has_no_t_after() -> None:
    exact = load_family("two-gaussians", distance=2).exact(0.1)
    assert exact["T_after"] is None
    assert exact["T_before"] > 0  # type: ignore[operator]
    assert load_family("two-gaussians", distance=0).exact(0.1) == {
        "T_after": None,
        "T_before": 0.0,
    }
    assert load_family("two-gaussians", distance=0).published(0.1)[0].value is None


def test_the_printed_t_after_holds_up_to_its_epsilon_only() -> None:
    """ln(1/(2 eps^2)) >= Phi^{-1}(1 - eps^2/2) ends at eps = .305611, whatever |mu|."""
    end = brentq(lambda e: math.log(1 / (2 * e * e)) - norm.ppf(1 - e * e / 2), 0.2, 0.5)
    assert end == pytest.approx(0.305611, abs=5e-7)
    for distance in (20.0, 200.0):
        family = load_family("two-gaussians", distance=distance)
        assert times(family, 0.305)["T_after", "published"].is_valid_bound
        assert not times(family, 0.3057)["T_after", "published"].is_valid_bound
        assert times(family, 0.3057)["T_after", "corrected"].is_valid_bound


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.3, 0.5, 0.69, 0.8])
@pytest.mark.parametrize("variance", [0.2, 1.0, 5.0])
def test_what_is_called_valid_is_valid(epsilon: float, variance: float) -> None:
    for distance, weight in itertools.product((3.0, 20.0, 300.0), (0.5, 0.1)):
        family = load_family("two-gaussians", distance=distance, variance=variance, weight=weight)
        exact = family.exact(epsilon)
        for entry in family.published(epsilon):
            truth = exact.get(entry.symbol)
            if entry.is_valid_bound and truth is not None:
                assert entry.value is not None
                sign = 1 if entry.bound == "lower" else -1
                assert sign * (truth - entry.value) >= -1e-12
            if entry.symbol == "t_kept" and entry.is_valid_bound and entry.value > 0:  # type: ignore[operator]
                level = logsnr_of_ou_time(np.array([entry.value]))
                assert family.mixture is not None
                stay = exact_transitions(family.mixture, level).probs[0, 0, 0]
                kept = (1 - stay) * tv_of_pair(distance, entry.value, 0.0 + variance)  # type: ignore[arg-type]
                assert kept <= epsilon


def test_printed_end_is_above_the_exact_one_at_unit_variance() -> None:
    for epsilon in np.linspace(0.01, 0.49, 25):
        for distance in (1.0, 20.0):
            entry = times(load_family("two-gaussians", distance=distance), epsilon)
            assert entry["T_before", "published"].is_valid_bound


def test_separation_time_is_zero_below_and_refuses_nonsense() -> None:
    assert separation_time(2.0, distance=2.0) == 0.0
    assert separation_time(1.0, distance=2.0 * math.e) == pytest.approx(1.0, abs=1e-15)
    with pytest.raises(InputError, match="no separation time"):
        separation_time(0.0, distance=1.0)


# --- random spherical ----------------------------------------------------------------------


def test_printed_start_of_random_spherical_is_not_t_after() -> None:
    """Two components, eps = .1: the sets are at TV .9856 < .99 there."""
    family = load_family("random-spherical", components=2, dimension=2000)
    assert family.mixture is not None
    distance = float(np.linalg.norm(family.mixture.means[0] - family.mixture.means[1]))
    printed = times(family, 0.1)["T_after", "published"]
    assert not printed.is_valid_bound
    assert printed.value is not None
    assert tv_of_pair(distance, printed.value) == pytest.approx(0.9856, abs=5e-5)
    ours = times(family, 0.1)["T_after", "corrected"].value
    assert ours is not None
    assert tv_of_pair(distance, ours) >= 0.99


@pytest.mark.parametrize("epsilon", [0.03, 0.1, 0.3])
def test_bounds_of_random_spherical_hold_against_distances(epsilon: float) -> None:
    """Against Monte Carlo free sums: the overlap with the rest from its pairwise upper bound."""
    family = load_family("random-spherical", components=6, dimension=500, seed=1)
    assert family.mixture is not None
    means = family.mixture.means.numpy()
    distances = np.linalg.norm(means[1:] - means[0], axis=1)
    entries = list(family.published(epsilon))
    for entry in entries:
        assert entry.value is not None
        pair = np.array([tv_of_pair(d, entry.value) for d in distances])
        k = 0.5 * math.exp(-entry.value) * distances
        if entry.symbol == "T_after" and entry.is_valid_bound:
            # 1 - TV <= sum_j min(w_0-scaled densities), exact per pair
            tau = math.log(1 / 5)
            overlap = norm.cdf(-k + tau / (2 * k)) + norm.cdf(-k - tau / (2 * k)) / 5
            assert overlap.sum() <= epsilon**2
        if entry.symbol == "T_before":
            assert pair.max() * 5 / 6 <= epsilon + 1e-12  # convexity
        if entry.symbol == "t_after":
            level = logsnr_of_ou_time(np.array([entry.value]))
            tr = exact_transitions(family.mixture, level, num_samples=1 << 12)
            assert tr.stderr is not None
            assert 1 - tr.probs[0, 0, 0] <= epsilon + 3 * tr.stderr[0, 0, 0]


def test_the_width_stays_bounded_as_dimension_grows() -> None:
    widths = []
    for dimension in (100, 1600, 25600):
        entry = times(load_family("random-spherical", components=8, dimension=dimension), 0.1)
        start, end = entry["T_after", "corrected"].value, entry["T_before", "derived"].value
        assert start is not None
        assert end is not None
        widths.append(end - start)
    limit = math.log(0.5 / norm.ppf(0.5 * (1 + 0.1 / 0.875))) + 0.5 * math.log(
        8 * math.log(math.sqrt(7) / 0.01)
    )
    assert widths[0] > widths[1] > widths[2] > limit
    assert widths[2] == pytest.approx(limit, abs=0.03)


# --- well-conditioned ----------------------------------------------------------------------


def test_well_conditioned_is_what_it_says() -> None:
    family = load_family("well-conditioned", components=6, seed=2)
    assert family.mixture is not None
    eigenvalues = family.mixture.eigenvalues.numpy()
    assert eigenvalues.min() >= 0.25
    assert eigenvalues.max() <= 4.0
    assert family.before == ("a0", "a1", "a2")
    assert family.mixture.names == ("a0", "a1", "a2", "b0", "b1", "b2")


@pytest.mark.parametrize("epsilon", [0.05, 0.2])
def test_headline_times_hold_where_projections_can_tell(epsilon: float) -> None:
    """Inter-group: by the exact affinity of every pair. Intra-group: by KL and Pinsker."""
    family = load_family("well-conditioned", seed=5)
    m = family.mixture
    assert m is not None
    upper = times(family, epsilon)["T_upper", "derived"]
    assert upper.is_valid_bound
    assert upper.value is not None
    cov, means = covariance_matrices(m).numpy(), m.means.numpy()

    def noised(k: int, t: float) -> tuple[np.ndarray, np.ndarray]:
        alpha, sigma = alpha_sigma(logsnr_of_ou_time(t))
        return alpha * means[k], alpha**2 * cov[k] + sigma**2 * np.eye(m.dim)

    overlap = 0.0
    for i, j in itertools.product((0, 1), (2, 3)):
        (a, s), (b, r) = noised(i, upper.value), noised(j, upper.value)
        middle = 0.5 * (s + r)
        log_bc = (
            0.25 * (np.linalg.slogdet(s)[1] + np.linalg.slogdet(r)[1])
            - 0.5 * np.linalg.slogdet(middle)[1]
            - 0.125 * (a - b) @ np.linalg.solve(middle, a - b)
        )
        overlap += 0.5 * math.exp(log_bc)
    assert overlap <= epsilon**2
    for entry in family.published(epsilon):
        if entry.symbol == "T_lower":
            assert entry.value is not None
            (a, s), (b, r) = noised(0, entry.value), noised(1, entry.value)
            kl = 0.5 * (
                np.trace(np.linalg.solve(r, s))
                + (b - a) @ np.linalg.solve(r, b - a)
                - m.dim
                + np.linalg.slogdet(r)[1]
                - np.linalg.slogdet(s)[1]
            )
            assert 0.5 * math.sqrt(2 * kl) <= epsilon
    lower = [e.value for e in family.published(epsilon) if e.symbol == "T_lower"]
    assert lower[0] < lower[1]  # type: ignore[operator]


def test_intra_group_time_takes_the_exact_w2() -> None:
    """By the trace formula of the Bures distance, with another matrix square root."""
    family = load_family("well-conditioned", components=4, seed=3)
    m = family.mixture
    assert m is not None
    cov, means = covariance_matrices(m).numpy(), m.means.numpy()
    root = np.asarray(sqrtm(np.asarray(sqrtm(cov[0])) @ cov[1] @ np.asarray(sqrtm(cov[0]))))
    square = np.sum((means[0] - means[1]) ** 2)
    square += np.trace(cov[0] + cov[1] - 2 * root.real)
    entry = family.published(0.2)[0]
    assert entry.value == pytest.approx(0.5 * math.log1p(square / (4 * 0.04)), rel=1e-10)
    assert intra_group_time(2 * 0.1, 0.1) == pytest.approx(0.5 * math.log(2), rel=1e-15)


@pytest.mark.parametrize(
    "name", ["random-spherical", "well-conditioned", "sparse-dictionary", "hierarchical"]
)
@pytest.mark.parametrize("epsilon", [0.05, 0.25])
def test_valid_bounds_stand_against_the_distances_of_the_mixture(
    name: str, epsilon: float
) -> None:
    """Every bound called valid, against estimated distances within their standard errors."""
    family = load_family(name)
    m = family.mixture
    assert m is not None
    num_checked = 0
    for entry in family.published(epsilon):
        symbol, _, node = entry.symbol.rstrip("]").partition("[")
        if not entry.is_valid_bound or symbol == "t_after" or not entry.value:
            continue
        if not math.isfinite(entry.value) or entry.value < 0:
            continue
        node = node.replace("root", "")
        under = tuple(n for n in m.names if n.startswith(node)) if name == "hierarchical" else ()
        target = under or (family.after if symbol == "T_after" else family.before)
        level = logsnr_of_ou_time(np.array([entry.value]))
        if entry.bound == "lower":
            rest = tuple(n for n in m.names if n not in target)
            curve = total_variation(m, target, rest, level, num_samples=1 << 12)
            assert curve.estimate[0] + 4 * curve.stderr[0] >= 1 - epsilon**2 - 1e-12, entry
        else:
            curve = total_variation(m, family.after, target, level, num_samples=1 << 12)
            assert curve.estimate[0] - 4 * curve.stderr[0] <= epsilon + 1e-12, entry
        num_checked += 1
    assert num_checked >= 2


# --- sparse dictionary ---------------------------------------------------------------------


def test_ladder_of_a_sparse_dictionary() -> None:
    family = load_family("sparse-dictionary", dimension=20000, components=10, seed=1)
    assert family.mixture is not None
    means = dict(zip(family.mixture.names, family.mixture.means.numpy(), strict=True))
    ladder = {p.symbol: p.value for p in family.published(0.1) if "merge" in p.symbol}
    sizes = symmetric_differences(family)
    assert {f"t_merge[{n}]" for n in sizes.values()} == set(ladder)
    for (a, b), size in sizes.items():
        distance = float(np.linalg.norm(means[a] - means[b]))
        predicted = ladder[f"t_merge[{size}]"]
        assert predicted == pytest.approx(math.log(20) + 0.5 * math.log(size), rel=1e-12)
        # the distance is one noised standard deviation at k = 1/2
        assert separation_time(0.5, distance=distance) == pytest.approx(predicted, abs=0.03)
    values = [ladder[f"t_merge[{n}]"] for n in sorted(set(sizes.values()))]
    assert values == sorted(values)  # type: ignore[type-var]
    with pytest.raises(InputError, match="not a sparse dictionary"):
        symmetric_differences(load_family("masking"))


# --- hierarchies ---------------------------------------------------------------------------


@pytest.mark.parametrize("branching", [2, 3])
def test_distances_in_a_tree_of_means(branching: int) -> None:
    radii = (50.0, 11.0, 3.0)
    family = load_family("hierarchical", radii=radii, branching=branching)
    m = family.mixture
    assert m is not None
    assert m.num_components == branching**3
    means = m.means.numpy()
    assert np.linalg.norm(means, axis=1) == pytest.approx(math.sqrt(50**2 + 11**2 + 3**2))
    assert np.abs(means.mean(axis=0)).max() < 1e-12
    for (i, a), (j, b) in itertools.combinations(enumerate(m.names), 2):
        d = next(n for n in range(3) if a[n] != b[n])
        wanted = radii[d] ** 2 * 2 * branching / (branching - 1)
        wanted += 2 * sum(r**2 for r in radii[d + 1 :])
        assert np.sum((means[i] - means[j]) ** 2) == pytest.approx(wanted, rel=1e-12)


def test_times_along_the_path_of_a_hierarchy() -> None:
    """Each node is separated later than its children merge: the tree can be read off."""
    family = load_family("hierarchical", radii="2500,100,4", variance=0.5)
    entries = {p.symbol: p.value for p in family.published(0.1)}
    assert list(entries) == [
        "T_upper[000]",
        "T_lower[00]",
        "T_upper[00]",
        "T_lower[0]",
        "T_upper[0]",
        "T_lower[root]",
    ]
    values = [v for v in entries.values() if v is not None]
    assert len(values) == 6
    assert values == sorted(values)
    m = family.mixture
    assert m is not None
    for symbol, value in entries.items():
        node = symbol[8:-1].replace("root", "")
        assert value is not None
        inside = [k for k, name in enumerate(m.names) if name.startswith(node)]
        outside = [k for k in range(m.num_components) if k not in inside]
        gaps = np.linalg.norm(m.means[:, None] - m.means[None], axis=-1)
        pair = np.vectorize(lambda d, t=value: tv_of_pair(d, t, 0.5))(gaps)
        if symbol.startswith("T_lower"):
            assert (1 - 1 / len(inside)) * pair[0, inside].max() <= 0.1 + 1e-12
        else:
            tv = (
                1
                - 1
                / math.sqrt(len(inside) * len(outside))
                * np.exp(-0.5 * norm.ppf(0.5 * (1 + pair[np.ix_(inside, outside)])) ** 2).sum()
            )
            assert tv >= 0.99 - 1e-12  # affinity sum


def test_ladder_of_a_gaussian_tree() -> None:
    ladder = tree_ladder(3, 3, 0.7)
    assert [r.eigenvalue for r in ladder] == pytest.approx(
        [5.538282, 2.361759, 1.2597, 0.51], abs=1e-12
    )
    assert [r.multiplicity for r in ladder] == [1, 2, 6, 18]
    assert [r.t for r in ladder] == pytest.approx(
        [0.5 * math.log(1 + v) for v in (5.538282, 2.361759, 1.2597, 0.51)], abs=1e-14
    )


@pytest.mark.parametrize(("branching", "depth", "rho"), [(2, 4, 0.6), (3, 3, 0.7), (4, 2, 0.9)])
def test_ladder_is_the_spectrum_of_the_covariance(branching: int, depth: int, rho: float) -> None:
    family = load_family("gaussian-tree", branching=branching, depth=depth, rho=rho)
    assert family.mixture is not None
    spectrum = np.sort(family.mixture.eigenvalues.numpy().ravel())[::-1]
    ladder = tree_ladder(branching, depth, rho)
    assert sum(r.multiplicity for r in ladder) == branching**depth
    repeated = np.concatenate([np.full(r.multiplicity, r.eigenvalue) for r in ladder])
    assert spectrum == pytest.approx(repeated, rel=1e-10)
    assert [p.value for p in family.published(0.1)] == [r.t for r in ladder]
    with pytest.raises(InputError, match="not a tree prior"):
        tree_ladder(1, depth, rho)


# --- masking -------------------------------------------------------------------------------


def test_printed_times_of_masking() -> None:
    family = load_family("masking", distance=10)
    exact = family.exact(0.1)
    assert exact["T_before"] == pytest.approx(0.977932768542929, abs=5e-16)
    assert exact["T_after"] == pytest.approx(0.630957344480193, abs=5e-16)
    entry = times(family, 0.1)["T_before", "published"]
    assert entry.value == pytest.approx(0.9 ** (1 / 10), abs=1e-15)
    assert entry.value >= exact["T_before"]  # type: ignore[operator]
    assert family.exact(0.5)["T_before"] == 0.0
    assert family.unit == "mask"
    assert family.mixture is None


def test_masking_curves_by_enumeration_of_all_masks() -> None:
    """Every mask of five symbols, three of which differ: the posterior is 1/2 or certain."""
    h, n = 3, 5
    strings = (np.array([0, 0, 0, 0, 0]), np.array([1, 1, 1, 0, 0]))
    curves = load_family("masking", distance=h).masking
    assert curves is not None
    for t in (0.0, 0.2, 0.7, 1.0):
        law: list[dict[tuple[int, ...], float]] = [{}, {}]
        for mask in itertools.product((0, 1), repeat=n):
            prob = math.prod(t if hidden else 1 - t for hidden in mask)
            for which, string in enumerate(strings):
                seen = tuple(np.where(mask, 2, string).tolist())
                law[which][seen] = law[which].get(seen, 0.0) + prob
        seen_by_any = set(law[0]) | set(law[1])
        tv = 0.5 * sum(abs(law[0].get(s, 0) - law[1].get(s, 0)) for s in seen_by_any)
        stay = sum(p * p / (p + law[1].get(s, 0.0)) for s, p in law[0].items() if p > 0)
        assert curves.total_variation(t) == pytest.approx(tv, abs=1e-14)
        assert curves.stay(t) == pytest.approx(stay, abs=1e-14)
        assert curves.transition_matrices([t])[0] == pytest.approx(
            np.array([[stay, 1 - stay], [1 - stay, stay]]), abs=1e-14
        )
    with pytest.raises(InputError, match="not mask probabilities"):
        curves.stay([0.5, 1.2])


@pytest.mark.parametrize("epsilon", [0.02, 0.2, 0.45])
def test_masking_times_are_the_roots_of_their_curves(epsilon: float) -> None:
    family = load_family("masking", distance=4)
    assert family.masking is not None
    exact = family.exact(epsilon)
    at_after = family.masking.total_variation(exact["T_after"])  # type: ignore[arg-type]
    at_before = family.masking.total_variation(exact["T_before"])  # type: ignore[arg-type]
    assert at_after == pytest.approx(1 - epsilon**2, abs=1e-14)
    assert 0.5 * at_before == pytest.approx(epsilon, abs=1e-14)


# --- equal means ---------------------------------------------------------------------------


def test_equal_means_have_the_printed_transitions() -> None:
    family = load_family("equal-means")
    assert family.mixture is not None
    levels = logsnr_of_ou_time(np.array([0.5, 1.0, 2.0]))
    tr = exact_transitions(family.mixture, levels)
    assert tr.kind == "exact"
    assert tr.probs[:, 0, 0] == pytest.approx(
        [0.86323591397427, 0.677398788126875, 0.509117100985774], abs=5e-14
    )
    entry = family.published(0.1)[0]
    assert entry.value == pytest.approx(0.5 * math.log(5))
    assert not entry.is_valid_bound


# --- the shared closed forms ---------------------------------------------------------------


def test_a_leak_that_never_reaches_epsilon() -> None:
    """Two equal components: leak <= 1/2 < .6 at every level."""
    (entry,) = (
        p
        for p in load_family("random-spherical", components=2).published(0.6)
        if p.symbol == "t_after" and "any level" in p.note
    )
    assert entry.value == math.inf
    assert entry.is_valid_bound
    assert entry.as_dict()["value"] is None  # JSON has no infinity; the note says it


def test_shared_bounds_say_nothing_rather_than_something_wrong() -> None:
    assert separated_time(1, distance=1.0, variance=1.0, epsilon=0.1) is None
    assert inter_group_time(1.0, 1.0, 2, 0.1) is None
    assert merging_time(0.3, distance=5.0, variance=1.0, epsilon=0.3) == 0.0
    assert merging_time(1.0, distance=0.0, variance=1.0, epsilon=0.1) == 0.0
