from __future__ import annotations

import numpy as np
import pytest
import torch

from critwin.errors import InputError
from critwin.features import ComponentFeature, checked_read
from critwin.streams import stream
from critwin.theory.mixtures import GaussianMixture, posterior_draw, sample

MIXTURE = GaussianMixture(
    weights=[0.4, 0.3, 0.2, 0.1],
    means=[-8.0, -4.0, 6.0, 8.0],
    covariances=[[1.0], [0.25], [0.49], [1.44]],
    names=["a", "b", "c", "d"],
)


def test_the_posterior_is_read_off() -> None:
    x = np.array([[-8.0], [-4.0], [6.0], [8.0], [-5.5]])
    reading = checked_read(ComponentFeature(mixture=MIXTURE), x)
    assert reading.indices[:4].tolist() == [0, 1, 2, 3]
    law = np.array([0.4, 0.3, 0.2, 0.1])
    mean, sd = np.array([-8.0, -4, 6, 8]), np.array([1, 0.5, 0.7, 1.2])
    joint = law * np.exp(-0.5 * ((x - mean) / sd) ** 2) / sd
    expected = joint / joint.sum(axis=1, keepdims=True)
    assert reading.probs is not None
    np.testing.assert_allclose(reading.probs, expected, atol=1e-12)
    top = np.sort(expected, axis=1)
    np.testing.assert_allclose(reading.values["margin"], top[:, -1] - top[:, -2], atol=1e-12)


def test_groups_add_up() -> None:
    plain = ComponentFeature(mixture=MIXTURE)
    grouped = ComponentFeature(mixture=MIXTURE, groups={"far": ["a", "d"], "c": ["c"]})
    assert grouped.labels == ("far", "b", "c")
    assert grouped.prior == pytest.approx({"far": 0.5, "b": 0.3, "c": 0.2})
    x = np.linspace(-9, 9, 41)[:, None]
    one, two = plain.read(x).probs, grouped.read(torch.from_numpy(x)).probs
    assert one is not None
    assert two is not None
    np.testing.assert_allclose(two[:, 0], one[:, 0] + one[:, 3], atol=1e-15)
    np.testing.assert_array_equal(two[:, 1:], one[:, 1:3])


def test_a_drawn_label_has_the_joint_law() -> None:
    """Labels drawn before and after estimate the exact table; the most probable ones do not."""
    wide = GaussianMixture(weights=[0.7, 0.3], means=[-0.8, 0.8])
    num, alpha, sigma = 20_000, 0.8, 0.6
    x = sample(wide, num, generator=stream(0, "x")).x
    x_t = alpha * x + sigma * torch.randn(x.shape, generator=stream(0, "z"), dtype=x.dtype)
    after = posterior_draw(wide, x_t, alpha=alpha, sigma=sigma, generator=stream(0, "reverse")).x
    grid = np.linspace(-12, 12, 20_001)
    density = np.exp(-0.5 * (grid[:, None] - alpha * np.array([-0.8, 0.8])) ** 2)
    joint = density * [0.7, 0.3]
    posterior = joint / joint.sum(axis=1, keepdims=True)
    exact = (density / density.sum(axis=0)).T @ posterior

    def table(draw: bool) -> tuple[np.ndarray, np.ndarray]:
        feature = ComponentFeature(mixture=wide, draw=draw, seed=3)
        i, j = feature.read(x).indices, feature.read(after).indices
        counts = np.zeros((2, 2))
        np.add.at(counts, (i, j), 1)
        rows = counts.sum(axis=1, keepdims=True)
        return counts / rows, np.sqrt(exact * (1 - exact) / rows)

    drawn, stderr = table(True)
    assert np.abs(drawn - exact).max() < 4 * stderr.max()
    likeliest, _ = table(False)  # the twin: a plausible reading with another truth
    assert np.abs(likeliest - exact).max() > 8 * stderr.max()


def test_draws_are_functions_of_the_row() -> None:
    wide = GaussianMixture(means=[-0.5, 0.5])
    x = np.random.Generator(np.random.Philox(1)).normal(size=(200, 1))
    feature = ComponentFeature(mixture=wide, draw=True)
    whole = feature.read(x).indices
    np.testing.assert_array_equal(feature.read(x[::-1]).indices, whole[::-1])
    np.testing.assert_array_equal(feature.read(x[7:8]).indices, whole[7:8])
    other = ComponentFeature(mixture=wide, draw=True, seed=1).read(x).indices
    assert 0 < (other != whole).mean() < 1


def test_components_that_are_points() -> None:
    points = GaussianMixture(means=[-1.0, 1.0], covariances=0.0)
    reading = ComponentFeature(mixture=points).read(np.array([[-1.0], [1.0], [0.3]]))
    assert reading.indices.tolist() == [0, 1, 1]


def test_guards() -> None:
    with pytest.raises(InputError, match=r"do not fit the mixture: got shape \(3, 2\)"):
        ComponentFeature(mixture=MIXTURE).read(np.zeros((3, 2)))
    with pytest.raises(InputError, match="unknown component: got z"):
        ComponentFeature(mixture=MIXTURE, groups={"g": ["z"]})
    with pytest.raises(InputError, match="in two groups"):
        ComponentFeature(mixture=MIXTURE, groups={"g": ["a"], "h": ["a"]})
    with pytest.raises(InputError, match="name of an ungrouped component"):
        ComponentFeature(mixture=MIXTURE, groups={"a": ["b", "c"]})
    with pytest.raises(InputError, match="name of a component of another group"):
        ComponentFeature(mixture=MIXTURE, groups={"a": ["b"], "g": ["a"]})


def test_the_fingerprint_changes_with_everything() -> None:
    other = GaussianMixture(means=[-8.0, -4.0, 6.0, 8.0], names=["a", "b", "c", "d"])
    prints = [
        ComponentFeature(mixture=MIXTURE),
        ComponentFeature(mixture=other),
        ComponentFeature(mixture=MIXTURE, groups={"g": ["a", "b"]}),
        ComponentFeature(mixture=MIXTURE, groups={"g": ["a", "c"]}),
        ComponentFeature(mixture=MIXTURE, draw=True),
        ComponentFeature(mixture=MIXTURE, draw=True, seed=1),
        ComponentFeature(mixture=MIXTURE, name="other"),
    ]
    assert len({feature.fingerprint for feature in prints}) == len(prints)
    # without draws the seed changes nothing
    assert ComponentFeature(mixture=MIXTURE, seed=1).fingerprint == prints[0].fingerprint
