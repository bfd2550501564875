"""Identical components are found to the last digit, and told in a sentence."""

from __future__ import annotations

import numpy as np
import pytest

from critwin.theory._twins import identical_components, undecided
from critwin.theory.distances import total_variation
from critwin.theory.mixtures import GaussianMixture

SENTENCE = "components a and c are identical: no level of noise separates them"


def test_identical_is_what_no_distance_separates() -> None:
    m = GaussianMixture(
        weights=[0.1, 0.2, 0.3, 0.4],
        means=[[0.0, 1.0], [1.0, 0.0], [-0.0, 1.0], [0.0, 1.0]],
        covariances=[1.0, 1.0, 1.0, 2.0],
        names=list("abcd"),
        covariance_kind="isotropic",
    )
    assert identical_components(m) == (("a", "c"),)
    assert undecided(m) == (SENTENCE,)
    for i, one in enumerate("abcd"):
        for other in "abcd"[i + 1 :]:
            found = total_variation(m, one, other, [30.0, 0.0])
            is_apart = bool((found.lower > 0).all())
            assert is_apart == ((one, other) != ("a", "c"))


@pytest.mark.parametrize("shift", [1e-15, 1e-9])
def test_nearly_identical_is_not_identical(shift: float) -> None:
    assert undecided(GaussianMixture(means=[0.0, shift])) == ()
    assert undecided(GaussianMixture(means=[0.0, 0.0], covariances=[1.0, 1.0 + shift])) == ()


def test_one_component_and_many_groups() -> None:
    assert undecided(GaussianMixture(means=[1.0])) == ("one component: nothing is decided",)
    assert undecided(GaussianMixture(means=np.zeros((3, 2)), covariances=np.eye(2))) == (
        "all 3 components are identical: no level of noise separates them",
    )
    notes = undecided(GaussianMixture(means=np.repeat(np.arange(8.0), 2)))
    assert len(notes) == 6
    assert notes[0].startswith("components 0 and 1 are identical")
    assert notes[-1] == "3 more groups of components are identical"
    crowd = undecided(GaussianMixture(means=[*np.zeros(20), 1.0]))
    assert crowd[0].startswith("components 0, 1, 2")
    assert "(20 in all) are identical" in crowd[0]
