"""Zero-shot labels on planted embeddings: every number has a known answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from critwin.errors import InputError
from critwin.features import ZeroShotFeature, check_feature, checked_read, error_matrix
from critwin.features.labelling import ErrorMatrix
from tiny_clip import PlantedEncoder, pictures

TEXTS = {"a cat": [1.0, 0.0], "a dog": [0.0, 1.0], "a fox": [np.sqrt(0.5), np.sqrt(0.5)]}
COSINES = np.array([[0.8, 0.6], [0.6, 0.8], [np.sqrt(0.5), np.sqrt(0.5)]])
PLAIN = ("{}",)


def softmax(logits: Any) -> Any:
    weights = np.exp(np.asarray(logits) - np.max(logits, axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def feature(labels: Any = ("a cat", "a dog"), **options: Any) -> ZeroShotFeature:
    encoder = PlantedEncoder(
        TEXTS, COSINES, scale=options.pop("scale", 10.0), bias=options.pop("bias", None)
    )
    return ZeroShotFeature(encoder, labels, templates=options.pop("templates", PLAIN), **options)


def test_planted_cosines_give_the_known_softmax() -> None:
    reading = checked_read(check_feature(feature()), pictures(3))
    law = softmax(10 * COSINES)
    np.testing.assert_allclose(reading.probs, law, atol=1e-12)
    np.testing.assert_allclose(reading.values["score"], COSINES.max(axis=1), atol=1e-12)
    np.testing.assert_allclose(reading.values["margin"], np.abs(law[:, 0] - law[:, 1]), atol=1e-12)
    assert reading.indices.tolist()[:2] == [0, 1]
    assert set(reading.values) == {"score", "margin"}
    assert len(feature().read(pictures(0))) == 0


def test_a_temperature_replaces_the_scale_of_the_network() -> None:
    law = feature(temperature=0.5).read(pictures(3)).probs
    np.testing.assert_allclose(law, softmax(COSINES / 0.5), atol=1e-12)
    assert feature().temperature == pytest.approx(0.1)


def test_templates_and_descriptions_are_averaged_on_the_sphere() -> None:
    """Unit vectors at 0 and 80 degrees average to 40 degrees; a plain mean of cosines differs."""

    def at(degrees: float) -> Any:
        return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]

    texts = {
        "photo: cat": at(0),
        "art: cat": at(80),
        "photo: dog": at(-60),
        "art: dog": at(-80),
        "photo: kitten": at(30),
        "art: kitten": at(50),
    }
    encoder = PlantedEncoder(texts, [at(40)], scale=3.0)
    made = ZeroShotFeature(
        encoder,
        {"cat": ["cat", "kitten"], "dog": "dog"},
        templates=("photo: {}", "art: {}"),
    )
    np.testing.assert_allclose(made.vectors, [at(40), at(-70)], atol=1e-12)
    np.testing.assert_allclose(
        made.read(pictures(1)).probs, softmax([[3.0, 3 * np.cos(np.radians(110))]]), atol=1e-12
    )
    assert sorted(encoder.asked) == sorted(texts)  # each once, when the feature is made
    made.read(pictures(1))
    assert len(encoder.asked) == len(texts)


def test_the_order_of_the_labels_changes_nothing_but_their_order() -> None:
    names = ("a cat", "a dog", "a fox")
    one = feature(names).read(pictures(3))
    order = [2, 0, 1]
    other = feature([names[j] for j in order]).read(pictures(3))
    np.testing.assert_allclose(other.probs, np.asarray(one.probs)[:, order], rtol=1e-14)
    np.testing.assert_array_equal(
        [names[order[j]] for j in other.indices], [names[j] for j in one.indices]
    )


def test_it_abstains_below_a_margin_and_below_a_score() -> None:
    gap = float(np.diff(np.sort(softmax([8.0, 6.0])))[0])
    assert feature(margin=gap + 1e-9).read(pictures(3)).indices.tolist() == [-1, -1, -1]
    assert feature(margin=gap - 1e-9).read(pictures(3)).indices.tolist() == [0, 1, -1]
    assert feature(min_score=0.75).read(pictures(3)).indices.tolist() == [0, 1, -1]


def test_sigmoid_scores_become_a_law_by_their_odds() -> None:
    """P(j | exactly one label holds), independent labels, by enumeration of all outcomes."""
    names = ("a cat", "a dog", "a fox")
    reading = feature(names, scale=4.0, bias=-3.0).read(pictures(2))
    vectors = np.array([TEXTS[name] for name in names])
    single = 1 / (1 + np.exp(-(4.0 * COSINES[:2] @ vectors.T - 3.0)))
    for row in range(2):
        weights = [
            np.prod([s if i == j else 1 - s for i, s in enumerate(single[row])]) for j in range(3)
        ]
        np.testing.assert_allclose(reading.probs[row], weights / np.sum(weights), atol=1e-12)
    np.testing.assert_allclose(reading.values["match"], single.max(axis=1), atol=1e-12)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["a cat"], {}, "needs two labels: got a cat"),
        ([], {}, "at least one non-empty string"),
        ("a cat", {}, "are one string"),
        (["a cat", "a cat"], {}, "are not distinct"),
        (["a cat", " "], {}, "at least one non-empty string"),
        ({"a cat": "", "x": "a dog"}, {}, "a description of label 'a cat' is empty"),
        ({"a cat": [], "x": "a dog"}, {}, "label 'a cat' has no description"),
        ({"a cat": 3, "x": "a dog"}, {}, "label 'a cat' has no description: got 3"),
        ({"x": "a cat", "y": "a cat "}, {}, "label 'y' occurs twice: got a cat ; .*'x'"),
        ({"x": ["a cat", "a cat"], "y": "a dog"}, {}, "label 'x' occurs twice"),
        (None, {"templates": ()}, "templates are empty"),
        (None, {"templates": ("a photo",)}, "a template cannot be used: got a photo"),
        (None, {"templates": ("{} and {}",)}, "a template cannot be used"),
        (None, {"templates": ("{}", "{}")}, "not distinct"),
        (None, {"margin": 1.5}, "margin is out of range"),
        (None, {"min_score": 2}, "min_score is out of range"),
        (None, {"temperature": 0.0}, "temperature is out of range"),
        (None, {"temperature": float("nan")}, "temperature is out of range"),
        (None, {"name": "a*b"}, "cannot be used"),
    ],
)
def test_what_cannot_be_used_is_one_line(labels: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        feature(("a cat", "a dog") if labels is None else labels, **options)
    assert "\n" not in str(caught.value)


def test_labels_that_the_network_cannot_tell_apart_are_refused() -> None:
    encoder = PlantedEncoder({"a cat": [1, 0], "A CAT": [1, 1e-9], "not": [-1, 0]})
    with pytest.raises(InputError, match="'a cat' and 'A CAT' are the same to the network"):
        ZeroShotFeature(encoder, ["a cat", "A CAT"], templates=PLAIN)
    with pytest.raises(InputError, match="descriptions of label 'x' cancel out"):
        ZeroShotFeature(encoder, {"x": ["a cat", "not"], "y": "A CAT"}, templates=PLAIN)


def test_the_fingerprint_changes_with_everything() -> None:
    made = [
        feature(),
        feature(scale=11.0),
        feature(bias=-1.0),
        feature(("a dog", "a cat")),
        feature(("a cat", "a fox")),
        feature({"a cat": "a cat", "other": "a dog"}),
        feature(margin=0.1),
        feature(min_score=0.1),
        feature(temperature=0.2),
        feature(name="animal"),
    ]
    assert len({one.fingerprint for one in made}) == len(made)
    assert feature().fingerprint == feature().fingerprint
    encoder = PlantedEncoder({**TEXTS, "the a cat": [0.6, 0.8], "the a dog": [-0.6, 0.8]}, COSINES)
    prints = {
        ZeroShotFeature(encoder, ("a cat", "a dog"), templates=templates).fingerprint
        for templates in (("{}",), ("the {}",), ("{}", "the {}"))
    }
    assert len(prints) == 3


def test_its_error_matrix_is_measured_and_kept() -> None:
    made = feature(margin=0.1)
    matrix = error_matrix(made, pictures(3), ["a cat", "a cat", "a dog"])
    np.testing.assert_array_equal(matrix.counts, [[1, 1], [0, 0]])
    assert matrix.abstained.tolist() == [0, 1]
    assert matrix.fingerprint == made.fingerprint
    assert feature(errors=matrix).errors is matrix
    stored = ErrorMatrix.from_dict(matrix.as_dict())
    with pytest.raises(InputError, match="error matrix is not that of feature"):
        feature(("a cat", "a fox"), errors=stored)
