"""eps-mixture trees from distances: definition, certificates, stability, decisions on a path."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.special import ndtri

import critwin as cw
from critwin.errors import InputError
from critwin.streams import numpy_stream
from critwin.theory.mixture_trees import mixture_tree, stable_epsilon
from critwin.theory.mixtures import GaussianMixture
from critwin.trees import MixtureTree, transitions_tree
from hierarchies import exact_table, hierarchy, random_mixture_1d, true_sets, tv_1d

EPS = 0.1


def in_space(depth: int, ratio: float, separation: float = 8.0) -> GaussianMixture:
    """A binary hierarchy in which every inner node has a direction of its own."""
    leaves = 2**depth
    columns = []
    for d in range(depth):
        block = leaves >> d
        for start in range(0, leaves, block):
            column = np.zeros(leaves)
            column[start : start + block // 2] = -0.5
            column[start + block // 2 : start + block] = 0.5
            columns.append(separation * ratio ** (depth - 1 - d) * column)
    return GaussianMixture(
        weights=np.full(leaves, 1 / leaves),
        means=np.stack(columns, axis=1),
        covariances=1.0,
        names=[chr(97 + k) for k in range(leaves)],
    )


def check_definition(m: GaussianMixture, tree: MixtureTree) -> None:
    """Conditions (1) and (2) of every certified node by independent quadrature on the line."""
    for node in tree.nodes:
        parent = tree.parent(node.labels)
        assert node.noise_amount is not None
        if parent is not None:
            assert parent.noise_amount is not None
            assert parent.noise_amount > node.noise_amount
        if not node.is_certified:
            continue
        rest = [n for n in m.names if n not in node.labels]
        for a, b in itertools.combinations(node.labels, 2):
            assert tv_1d(m, [a], [b], node.noise_amount) <= tree.epsilon + 1e-7
        if rest:
            assert tv_1d(m, list(node.labels), rest, node.noise_amount) >= 1 - EPS**2 - 1e-7


@pytest.mark.parametrize("depth", [2, 3])
def test_hierarchies_are_recovered_and_certified(depth: int) -> None:
    m = hierarchy(depth, ratio=30.0)
    tree = mixture_tree(m, EPS)
    assert tree.merges == true_sets(m, depth, 2)
    assert tree.is_certified
    assert tree.kind == "distance"
    if depth == 2:
        check_definition(m, tree)


def test_a_hierarchy_in_space_is_certified_by_brackets() -> None:
    m = in_space(2, 30.0)
    tree = mixture_tree(m, EPS)
    assert tree.merges == true_sets(m, 2, 2)
    assert tree.is_certified


@pytest.mark.validate
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("depth", [3, 4])
def test_deeper_hierarchies_are_recovered_and_certified(depth: int) -> None:
    for m in (hierarchy(depth, ratio=30.0), in_space(depth, 30.0)):
        tree = mixture_tree(m, EPS)
        assert tree.merges == true_sets(m, depth, 2)
        assert tree.is_certified


def test_the_transitions_of_a_mixture_give_the_same_tree() -> None:
    m = hierarchy(2, ratio=30.0)
    assert mixture_tree(m, EPS).is_same_shape(transitions_tree(exact_table(m), EPS))


def test_ends_are_the_roots_of_their_curves() -> None:
    m = hierarchy(2, ratio=30.0)
    node = mixture_tree(m, EPS).node(("a", "b"))
    start, end = node.start.t.value, node.end.t.value
    assert start is not None
    assert end is not None
    assert tv_1d(m, ["a"], ["b"], start) == pytest.approx(EPS, abs=1e-6)
    assert tv_1d(m, ["a", "b"], ["c", "d"], end) == pytest.approx(1 - EPS**2, abs=1e-6)
    # two equal Gaussians 8 apart reach TV = .1 at k = Phi^-1(.55)
    assert start == pytest.approx(math.log(4 / ndtri(0.55)), abs=1e-9)


def test_the_smallest_eps_is_where_both_conditions_meet() -> None:
    m = hierarchy(2, ratio=8.0)
    tree = mixture_tree(m, EPS)
    assert tree.merges == {frozenset(m.names)}
    node = next(n for n in tree.rejected if n.labels == ("a", "b"))
    least = node.least_epsilon
    assert least is not None
    assert least > EPS
    assert node.noise_amount is not None
    alike = tv_1d(m, ["a"], ["b"], node.noise_amount)
    apart = tv_1d(m, ["a", "b"], ["c", "d"], node.noise_amount)
    assert alike == pytest.approx(least, abs=1e-5)
    assert math.sqrt(1 - apart) == pytest.approx(least, abs=1e-5)
    assert mixture_tree(m, least * 1.001).merges == true_sets(m, 2, 2)
    assert mixture_tree(m, least * 0.999).merges == {frozenset(m.names)}


def test_equidistant_components_are_one_polytomy() -> None:
    m = GaussianMixture(
        weights=np.full(3, 1 / 3), means=40.0 * np.eye(3), covariances=1.0, names=list("abc")
    )
    tree = mixture_tree(m, EPS)
    assert tree.merges == {frozenset("abc")}
    assert len(tree.root.children) == 3
    assert all(n.least_epsilon is not None and n.least_epsilon > EPS for n in tree.rejected)


def test_overlapping_and_identical_components_are_not_certified_leaves() -> None:
    m = GaussianMixture(
        weights=np.full(3, 1 / 3),
        means=[[0.0], [0.0], [50.0]],
        covariances=1.0,
        names=["a", "b", "c"],
    )
    tree = mixture_tree(m, EPS)
    assert not tree.is_certified
    assert not tree.node("a").is_certified
    assert tree.node("c").is_certified
    assert tree.merges == {frozenset("ab"), frozenset("abc")}
    least = tree.node("a").least_epsilon  # TV({a}, {b, c}) = 1/2
    assert least == pytest.approx(math.sqrt(0.5), abs=1e-6)


def test_unequal_covariances_and_weights() -> None:
    m = GaussianMixture(
        weights=[0.1, 0.2, 0.3, 0.4],
        means=[[-310.0], [-290.0], [280.0], [320.0]],
        covariances=[[1.0], [0.25], [4.0], [1.0]],
        names=list("abcd"),
    )
    tree = mixture_tree(m, 0.2)
    assert tree.merges == {frozenset("ab"), frozenset("cd"), frozenset("abcd")}
    assert tree.is_certified
    for node in tree.nodes:
        rest = [n for n in m.names if n not in node.labels]
        assert node.noise_amount is not None
        for a, b in itertools.combinations(node.labels, 2):
            assert tv_1d(m, [a], [b], node.noise_amount) <= 0.2 + 1e-7
        if rest and node.noise_amount > 0:
            assert tv_1d(m, list(node.labels), rest, node.noise_amount) >= 1 - 0.04 - 1e-7


@pytest.mark.parametrize("seed", range(2))
def test_certified_nodes_of_random_mixtures_satisfy_the_definition(seed: int) -> None:
    m = random_mixture_1d(numpy_stream(seed, "mixture tree"), num=4)
    for epsilon in (0.3, 0.6):
        tree = mixture_tree(m, epsilon)
        for node in (*tree.nodes, *tree.rejected):
            if node.noise_amount is None or node.least_epsilon is None:
                continue
            rest = [n for n in m.names if n not in node.labels]
            pairs = itertools.combinations(node.labels, 2)
            alike = max((tv_1d(m, [a], [b], node.noise_amount) for a, b in pairs), default=0.0)
            apart = tv_1d(m, list(node.labels), rest, node.noise_amount) if rest else 1.0
            both = max(alike, math.sqrt(max(1 - apart, 0.0)))
            if node.is_certified:
                assert both <= epsilon + 1e-5
            if rest:
                assert both == pytest.approx(node.least_epsilon, abs=1e-4)


# stability (Li, Karan & Chen 2025, Cor. 2)


def test_an_estimated_mixture_has_the_tree_at_a_larger_eps() -> None:
    m = hierarchy(2, ratio=30.0)
    delta = 0.02
    shift = 2 * ndtri(0.5 + delta / 4)  # of the mean: TV(p_i, q_i) = delta / 2
    rng = numpy_stream(0, "stability")
    q = GaussianMixture(
        weights=m.weights,
        means=m.means.numpy() + shift * rng.choice([-1.0, 1.0], size=(4, 1)),
        covariances=1.0,
        names=m.names,
    )
    tree, found = mixture_tree(m, EPS), stable_epsilon(EPS, delta)
    assert found.published == pytest.approx(EPS + math.sqrt(delta))
    assert found.sharper <= found.published
    for node in tree.inner:
        assert node.noise_amount is not None
        rest = [n for n in m.names if n not in node.labels]
        for a, b in itertools.combinations(node.labels, 2):
            assert tv_1d(q, [a], [b], node.noise_amount) <= found.sharper
        if rest:
            apart = tv_1d(q, list(node.labels), rest, node.noise_amount)
            assert apart >= 1 - found.sharper**2
    with pytest.raises(InputError, match="delta"):
        stable_epsilon(EPS, -0.1)


# decisions on a path (Li, Karan & Chen 2025, Thm 2 along the tree)


def law_after(m: GaussianMixture, leaf: str, t: float, x: np.ndarray) -> np.ndarray:
    """Density of the forward–reverse image of a component at OU time t, on a grid."""
    a, s2 = math.exp(-t), -math.expm1(-2 * t)
    w, mu = m.weights.numpy(), m.means.numpy()[:, 0]
    var = np.broadcast_to(m.eigenvalues.numpy(), (len(mu), 1))[:, 0]
    noised = a * a * var + s2
    k = m.names.index(leaf)
    z = np.linspace(-8, 8, 801)
    mass = np.exp(-0.5 * z**2)
    mass /= mass.sum()
    y = a * mu[k] + np.sqrt(noised[k]) * z
    log = np.log(w) - 0.5 * np.log(noised) - 0.5 * (y[:, None] - a * mu) ** 2 / noised
    post = np.exp(log - log.max(axis=1, keepdims=True))
    post /= post.sum(axis=1, keepdims=True)
    centre = mu + a * var / noised * (y[:, None] - a * mu)
    spread = var * s2 / noised
    total = np.zeros_like(x)
    for j in range(len(mu)):
        bell = np.exp(-0.5 * (x[:, None] - centre[:, j]) ** 2 / spread[j])
        total += bell @ (mass * post[:, j]) / math.sqrt(2 * math.pi * spread[j])
    return total


def test_the_bound_of_every_step_of_a_path_holds() -> None:
    m = hierarchy(2, ratio=12.0, separation=6.0)
    tree = mixture_tree(m, 0.2)
    assert tree.merges == true_sets(m, 2, 2)
    path = tree.path("b")
    assert [len(step.labels) for step in path] == [1, 2, 4]
    mu = m.means.numpy()[:, 0]
    x = np.unique(np.concatenate([c + np.linspace(-9, 9, 1201) for c in mu]))
    for step in path[1:]:
        assert step.t is not None
        assert step.bound is not None
        law = law_after(m, "b", step.t, x)
        rows = [m.names.index(n) for n in step.labels]
        target = np.mean(
            [np.exp(-0.5 * (x - mu[k]) ** 2) / math.sqrt(2 * math.pi) for k in rows], axis=0
        )
        tv = 0.5 * np.trapezoid(np.abs(law - target), x)
        assert 0 < tv <= step.bound < 0.5


# input


def test_awkward_mixtures() -> None:
    one = GaussianMixture(weights=[1.0], means=[[0.0]], covariances=1.0, names=["a"])
    tree = mixture_tree(one, EPS)
    assert tree.root.labels == ("a",)
    assert tree.is_certified
    m = hierarchy(2, ratio=30.0)
    for epsilon in (0.0, 1.0, float("nan")):
        with pytest.raises(InputError, match="epsilon"):
            mixture_tree(m, epsilon)
    points = GaussianMixture(
        weights=[0.5, 0.5], means=[[-1.0], [1.0]], covariances=0.0, names=["a", "b"]
    )
    tree = mixture_tree(points, EPS)
    assert tree.is_certified
    same = GaussianMixture(
        weights=[0.5, 0.5], means=[[1.0], [1.0]], covariances=1.0, names=["a", "b"]
    )
    tree = mixture_tree(same, EPS)
    assert not tree.node("a").is_valid
    assert cw.mixture_tree is mixture_tree
