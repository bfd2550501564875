"""The data a model was trained on: found by the model's name, nothing else loaded."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest

from critwin.models.digits.data import load_data
from critwin.models.training import TrainingData, training_data


def test_the_digits_are_the_members_with_their_repeats() -> None:
    found = training_data("digits", ["digit", "ground*ink", "hat"])
    data = load_data()
    assert found is not None
    assert found.points.shape == (4000, 3 * 28 * 28)
    assert set(found.labels) == {"digit", "ground*ink"}
    assert found.weights.sum() == len(data.training_index())
    for name in found.labels:
        labels = data.labels(name)
        shares = [found.weights[found.labels[name] == label].sum() for label in labels]
        np.testing.assert_allclose(np.array(shares) / found.weights.sum(), data.prior(name))
    rows = np.flatnonzero(data.is_member)[:3]
    np.testing.assert_array_equal(found.points[:3].reshape(3, 3, 28, 28), data.render(rows))


def test_a_variant_has_its_own_weights_and_inks() -> None:
    found = training_data("digits", ["ink"], {"variant": "control"})
    assert found is not None
    np.testing.assert_array_equal(found.weights, np.ones(4000))
    main = training_data("digits", ["ink"])
    assert main is not None
    assert (found.labels["ink"] != main.labels["ink"]).any()


def test_unknown_data_are_none() -> None:
    assert training_data("mixture", ["component"]) is None
    assert training_data("no such model", ["digit"]) is None
    assert training_data("digits", ["hat"]) is None
    assert training_data("digits", ["digit"], {"weights": "elsewhere"}) is None


def test_a_package_may_tell_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = TrainingData(
        points=np.zeros((2, 1)), labels={"a": np.array(["x", "y"])}, weights=np.ones(2)
    )

    def factory() -> None:
        """Make no model."""

    factory.training_data = lambda features, options: mine  # type: ignore[attr-defined]

    class Point:
        def load(self) -> object:
            return factory

    monkeypatch.setattr(metadata, "entry_points", lambda **_: [Point()])
    assert training_data("theirs", ["a"]) is mine
    del factory.training_data  # type: ignore[attr-defined]
    assert training_data("theirs", ["a"]) is None


def test_neither_torch_nor_weights_are_loaded() -> None:
    code = (
        "import sys; from critwin.models.training import training_data;"
        "training_data('digits', ['ink']); print({'torch', 'diffusers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
