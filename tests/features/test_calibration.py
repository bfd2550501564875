"""Temperatures: recovered with honest intervals, planted bugs caught."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp

from critwin.errors import InputError
from critwin.features import Calibration, ZeroShotFeature, calibrate, read_calibration
from critwin.features.calibration import calibration_error, fit_temperature
from tiny_clip import PlantedEncoder, pictures

TRUE = 0.7


def drawn(
    rng: np.random.Generator, num: int, *, temperature: float = TRUE, noise: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores of four labels, and labels drawn from their law; a share is drawn anew at random."""
    scores = rng.normal(scale=1.5, size=(num, 4))
    gumbel = rng.gumbel(size=scores.shape)
    truth = (scores / temperature + gumbel).argmax(axis=1)
    anew = rng.uniform(size=num) < noise
    return scores, np.where(anew, rng.integers(4, size=num), truth)


def coverage(
    num_repeats: int, num: int, *, noise: float = 0.0, wanted: float = TRUE, bug: Any = None
) -> float:
    """Share of 95 % intervals that hold the wanted temperature."""
    rng = np.random.Generator(np.random.Philox(11))
    hits = 0
    for _ in range(num_repeats):
        scores, truth = drawn(rng, num, noise=noise)
        if bug == "own labels":
            truth = np.where(rng.uniform(size=num) < 0.25, scores.argmax(axis=1), truth)
        fit = fit_temperature(scores, truth)
        error = fit.standard_error
        if bug == "not of the logarithm":
            error *= fit.temperature
        hits += abs(np.log(fit.temperature / wanted)) <= 1.96 * error
    return hits / num_repeats


def test_the_temperature_is_recovered_and_its_interval_covers() -> None:
    assert 0.9 <= coverage(200, 300) <= 0.99  # within three binomial standard errors


@pytest.mark.parametrize("bug", ["own labels", "not of the logarithm"])
def test_planted_bugs_do_not_cover(bug: str) -> None:
    assert coverage(100, 300, bug=bug) < 0.85


def test_the_interval_covers_where_no_temperature_makes_the_law_right() -> None:
    """A tenth of the labels is noise: the temperature of the best law is found with many."""
    scores, truth = drawn(np.random.Generator(np.random.Philox(5)), 60_000, noise=0.1)
    best = fit_temperature(scores, truth).temperature
    assert best > 1.1 * TRUE
    assert 0.9 <= coverage(200, 300, noise=0.1, wanted=best) <= 0.99


@pytest.mark.validate
@pytest.mark.timeout(3600)
def test_coverage_of_the_temperature_in_full() -> None:
    for num in (100, 300, 1000):
        assert 0.935 <= coverage(3000, num) <= 0.965
    scores, truth = drawn(np.random.Generator(np.random.Philox(5)), 2_000_000, noise=0.1)
    best = fit_temperature(scores, truth).temperature
    assert 0.935 <= coverage(3000, 1000, noise=0.1, wanted=best) <= 0.965


def test_it_is_the_largest_likelihood_and_white_s_standard_error() -> None:
    """Against a general optimiser and derivatives by differences, with several classes a label."""
    rng = np.random.Generator(np.random.Philox(2))
    groups = np.array([0, 0, 1, 1, 1, 2, -1])
    scores = rng.normal(scale=2.0, size=(500, 7))
    inside = scores[:, groups >= 0]
    classes = (inside / 1.3 + rng.gumbel(size=inside.shape)).argmax(axis=1)
    truth = groups[groups >= 0][classes]

    def losses(b: float) -> NDArray[np.float64]:
        logs = log_softmax(b * inside, axis=1)
        mask = groups[groups >= 0][None] == truth[:, None]
        return -logsumexp(np.where(mask, logs, -np.inf), axis=1)

    best = minimize_scalar(lambda b: losses(b).sum(), bounds=(0.05, 5), method="bounded").x
    fit = fit_temperature(scores, truth, groups=groups)
    assert fit.temperature == pytest.approx(1 / best, rel=1e-4)
    b, h = 1 / fit.temperature, 1e-4
    slope = (losses(b + h) - losses(b - h)) / (2 * h)
    curvature = (losses(b + h) - 2 * losses(b) + losses(b - h)).sum() / h**2
    assert slope.sum() == pytest.approx(0, abs=1e-4)
    white = np.sqrt((slope**2).sum()) / curvature
    assert fit.standard_error == pytest.approx(white / b, rel=1e-4)


def test_units_of_the_scores_do_not_matter() -> None:
    scores, truth = drawn(np.random.Generator(np.random.Philox(3)), 200)
    one, other = fit_temperature(scores, truth), fit_temperature(1e-3 * scores + 7, truth)
    assert other.temperature == pytest.approx(1e-3 * one.temperature, rel=1e-6)
    assert other.standard_error == pytest.approx(one.standard_error, rel=1e-6)


def test_the_calibration_error_by_hand() -> None:
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    truth = [0, 1, 1, 0]
    # bins of equal counts by confidence: (.6, .7) with .5 right, (.8, .9) with .5 right
    assert calibration_error(probs, truth, num_bins=2) == pytest.approx(0.5 * 0.15 + 0.5 * 0.35)
    assert calibration_error(probs, truth, num_bins=100) == pytest.approx(
        (0.1 + 0.8 + 0.4 + 0.7) / 4
    )


def planted(num: int, *, scale: float = 40.0) -> tuple[ZeroShotFeature, list[str]]:
    """Images whose labels follow a law at a quarter of the network's own scale."""
    rng = np.random.Generator(np.random.Philox(8))
    angles = rng.uniform(0, np.pi / 2, size=num)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    truth = (vectors * scale / 4 + rng.gumbel(size=vectors.shape)).argmax(axis=1)
    texts = {"a cat": [1.0, 0.0], "a dog": [0.0, 1.0]}
    encoder = PlantedEncoder(texts, vectors, scale=scale)
    feature = ZeroShotFeature(encoder, list(texts), templates=("{}",))
    return feature, [list(texts)[k] for k in truth]


def test_a_feature_is_calibrated_stored_and_read_back(tmp_path: Path) -> None:
    feature, truth = planted(250)
    found = calibrate(feature, pictures(250), truth)
    assert found.low < 4 / 40 < found.high
    assert found.before == pytest.approx(1 / 40)
    assert found.loss_after < found.loss_before
    assert found.error_after < 0.5 * found.error_before
    assert found.num_images == 250
    better = feature.calibrated(found)
    assert better.temperature == found.temperature
    assert better.calibration is found
    assert better.fingerprint != feature.fingerprint
    assert better.basis == feature.basis
    np.testing.assert_array_equal(
        better.read(pictures(9)).indices, feature.read(pictures(9)).indices
    )
    again = calibrate(better, pictures(250), truth)
    assert again.temperature == pytest.approx(found.temperature, rel=1e-9)
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps(found.as_dict(), allow_nan=False))
    assert read_calibration(file) == found
    other = ZeroShotFeature(feature.encoder, ["a dog", "a cat"], templates=("{}",))
    with pytest.raises(InputError, match="the calibration is not that of feature 'zero-shot'"):
        other.calibrated(found)
    with pytest.raises(InputError, match="a temperature and a calibration were both given"):
        ZeroShotFeature(
            feature.encoder,
            ["a cat", "a dog"],
            templates=("{}",),
            temperature=1,
            calibration=found,
        )


def test_what_cannot_be_fitted_is_one_line() -> None:
    feature, truth = planted(120)
    with pytest.raises(InputError, match=r"too few labelled images .*got 49, .*at least 50"):
        calibrate(feature, pictures(49), truth[:49])
    with pytest.raises(InputError, match="got 120, 0 of them 'a dog'"):
        calibrate(feature, pictures(120), ["a cat"] * 120)
    with pytest.raises(InputError, match="got 120 images, 3 labels"):
        calibrate(feature, pictures(120), truth[:3])
    with pytest.raises(InputError, match="got a fox; wanted one of a cat, a dog"):
        calibrate(feature, pictures(120), [*truth[:-1], "a fox"])
    with pytest.raises(InputError, match="confidence is out of range"):
        calibrate(feature, pictures(120), truth, confidence=1.0)
    said = [feature.labels[k] for k in feature.read(pictures(120)).indices]
    with pytest.raises(InputError, match="every image is read right"):
        calibrate(feature, pictures(120), said)
    wrong = [feature.labels[1 - k] for k in feature.read(pictures(120)).indices]
    with pytest.raises(InputError, match=r"say nothing about the labels.*got 0% of 120"):
        calibrate(feature, pictures(120), wrong)
    with pytest.raises(InputError, match="scores are not finite, or all the same"):
        fit_temperature(np.ones((60, 2)), np.zeros(60))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read the calibration"),
        ("[]", "not a stored calibration"),
        ("{}", "not a stored calibration: got KeyError"),
        (None, "cannot read the calibration"),
    ],
)
def test_a_stored_calibration_that_is_none(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_calibration(tmp_path / "c.json")


def test_a_stored_temperature_is_checked() -> None:
    feature, truth = planted(250)
    raw = calibrate(feature, pictures(250), truth).as_dict()
    assert Calibration.from_dict(raw).as_dict() == raw
    with pytest.raises(InputError, match="a stored temperature is out of range: got -1"):
        Calibration.from_dict({**raw, "temperature": -1})
