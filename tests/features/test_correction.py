from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from critwin.errors import InputError
from critwin.features import ErrorMatrix, correct_labels
from critwin.levels import grid
from critwin.quantities import kept
from critwin.streams import numpy_stream
from critwin.transitions import Transitions, from_counts

LABELS = ("a", "b", "c")
PRIOR = np.array([0.5, 0.3, 0.2])
RATES = np.array([[0.9, 0.07, 0.03], [0.05, 0.85, 0.1], [0.02, 0.08, 0.9]])
LEVELS = grid(0.1, 3.0, 6)
STAY = np.array([0.99, 0.9, 0.6, 0.3, 0.1, 0.0])
TRUE = STAY[:, None, None] * np.eye(3) + (1 - STAY[:, None, None]) * PRIOR


def draw(rng: np.random.Generator, law: NDArray[np.float64]) -> NDArray[np.int64]:
    """One label per row of ``law``."""
    return (rng.uniform(size=law.shape[:-1])[..., None] >= law.cumsum(axis=-1)[..., :-1]).sum(-1)


def observed(
    seed: str, *, num_sources: int = 4000, repeat_error: bool = False
) -> tuple[Transitions, ErrorMatrix]:
    """Sources, results and a labelled set, all read by a labeller with the planted rates.

    Kept results have the label of their source, others are fresh. With ``repeat_error`` a kept
    result is also read as its source was: the same picture, the same error.
    """
    rng = numpy_stream(0, "correction", seed)
    truth = rng.choice(3, p=PRIOR, size=num_sources)
    said = draw(rng, RATES[truth])
    is_kept = rng.uniform(size=(num_sources, len(STAY))) < STAY
    after = np.where(is_kept, truth[:, None], rng.choice(3, p=PRIOR, size=is_kept.shape))
    said_after = np.where(is_kept & repeat_error, said[:, None], draw(rng, RATES[after]))
    counts = (said_after[..., None] == np.arange(3)).astype(np.int64)
    tr = from_counts(
        counts,
        said,
        logsnr=LEVELS,
        before=LABELS,
        weights=PRIOR @ RATES,
        is_weights_estimated=True,
        feature="planted",
    )
    labelled = np.repeat(np.arange(3), 2000)
    table = np.zeros((3, 3), dtype=np.int64)
    np.add.at(table, (labelled, draw(rng, RATES[labelled])), 1)
    matrix = ErrorMatrix(
        feature="planted", labels=LABELS, counts=table, abstained=np.zeros(3, dtype=np.int64)
    )
    return tr, matrix


def exact(probs: Any = None, **changes: Any) -> Transitions:
    joint = (PRIOR[:, None] * RATES).T
    reverse = joint / joint.sum(axis=1, keepdims=True)
    fields: dict[str, Any] = {
        "logsnr": LEVELS,
        "before": LABELS,
        "after": LABELS,
        "probs": reverse @ TRUE @ RATES if probs is None else probs,
        "weights": PRIOR @ RATES,
        "is_weights_estimated": True,
        "feature": "planted",
        **changes,
    }
    return Transitions(**fields)


def test_exact_errors_are_inverted_exactly() -> None:
    result = correct_labels(exact(), RATES)
    np.testing.assert_allclose(result.probs, TRUE, atol=1e-12)
    np.testing.assert_allclose(result.kept, STAY, atol=1e-12)
    np.testing.assert_array_equal(result.raw, exact().probs)
    np.testing.assert_allclose(result.raw_kept, kept(exact()), atol=1e-12)
    assert result.kept_low is None
    assert not result.is_outside.any()
    # an exact prior of the truth says the same as the shares of what was said
    given = correct_labels(exact(), RATES, dict(zip(LABELS, PRIOR, strict=True)))
    np.testing.assert_allclose(given.probs, result.probs, atol=1e-12)
    planted = correct_labels(exact(weights=PRIOR, is_weights_estimated=False), RATES)
    np.testing.assert_allclose(planted.probs, result.probs, atol=1e-12)


def test_planted_independent_errors_are_inverted_within_monte_carlo_error() -> None:
    tr, matrix = observed("independent")
    result = correct_labels(tr, matrix)
    assert result.kept_low is not None
    assert result.kept_high is not None
    stderr = (result.kept_high - result.kept_low) / (2 * 1.96)
    assert stderr.max() < 0.04
    assert np.all(np.abs(result.kept - STAY) < 4 * stderr)
    # the raw curve is far off where much is kept
    assert abs(result.raw_kept[0] - STAY[0]) > 8 * stderr[0]
    rows = (tr.source_before[:, None] == np.arange(3)).sum(axis=0)  # type: ignore[index]
    assert np.abs(result.probs - TRUE).max() < 4 * 1.7 / np.sqrt(rows.min())


def test_repeated_errors_leave_the_unit_interval_at_low_noise_and_are_flagged() -> None:
    tr, matrix = observed("repeated", repeat_error=True)
    result = correct_labels(tr, matrix)
    assert result.kept[0] > 1.1  # more is kept than there is
    assert result.is_outside[0].any()
    assert result.num_outside[0] >= 3
    assert result.probs.max() > 1  # never clipped
    assert result.decayed_from is not None
    assert result.decayed_from > 0
    assert any("outside [0, 1]" in note for note in result.notes)
    assert any("must not define t_after" in note for note in result.notes)
    # where agreement has decayed, little is left to repeat
    assert result.kept_high is not None
    assert result.kept_low is not None
    np.testing.assert_allclose(result.kept[4:], STAY[4:], atol=0.06)


def test_it_is_shown_only_where_agreement_has_decayed() -> None:
    steady = exact(np.broadcast_to(np.eye(3), (6, 3, 3)))
    result = correct_labels(steady, RATES)
    assert result.decayed_from is None
    assert any("has not decayed" in note for note in result.notes)
    assert correct_labels(exact(), RATES, decayed_at=0.4).decayed_from == 3
    # independent errors cannot show more than this, whatever the limit
    ceiling = correct_labels(exact(), RATES, decayed_at=1.0)
    assert ceiling.decayed_from == 0
    bumped = np.array(exact().probs)
    bumped[3] = np.eye(3)
    assert correct_labels(exact(bumped), RATES, decayed_at=1.0).decayed_from == 4


def test_known_sources_are_corrected_after_only() -> None:
    tr = exact(TRUE @ RATES, weights=PRIOR, is_weights_estimated=False)
    result = correct_labels(tr, RATES, known_source=True)
    np.testing.assert_allclose(result.probs, TRUE, atol=1e-12)
    # the twin: treating them as labelled is another, wrong, table
    assert np.abs(correct_labels(tr, RATES).probs - TRUE).max() > 0.05
    some = exact((TRUE @ RATES)[:, :2], before=LABELS[:2], weights=None, fresh=None)
    partial = correct_labels(some, RATES, PRIOR, known_source=True)  # type: ignore[arg-type]
    assert partial.before == ("a", "b")
    np.testing.assert_allclose(partial.probs, TRUE[:, :2], atol=1e-12)


def test_labels_are_matched_by_name() -> None:
    order = [2, 0, 1]
    names = [LABELS[i] for i in order]
    matrix = ErrorMatrix(
        feature="planted",
        labels=tuple(names),
        counts=np.rint(100 * RATES[np.ix_(order, order)]).astype(np.int64),
        abstained=np.zeros(3, dtype=np.int64),
    )
    np.testing.assert_allclose(correct_labels(exact(), matrix).probs, TRUE, atol=1e-12)
    shuffled = exact(exact().probs[:, order], before=names, weights=(PRIOR @ RATES)[order])
    result = correct_labels(shuffled, matrix)
    assert result.before == LABELS
    np.testing.assert_allclose(result.probs, TRUE, atol=1e-12)


def test_unknown_levels_stay_unknown() -> None:
    probs = np.array(exact().probs)
    probs[2, 1] = np.nan
    result = correct_labels(exact(probs), RATES)
    assert np.isnan(result.kept).tolist() == [False, False, True, False, False, False]
    plain = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert plain["kept"][2] is None
    assert plain["t"][0] == pytest.approx(0.1)


def test_guards() -> None:
    vague = exact(weights=[0.9, 0.05, 0.05])
    with pytest.raises(InputError, match="do not fit its error matrix: got an implied share of -"):
        correct_labels(vague, RATES)
    coin = np.full((3, 3), 0.31) + 0.07 * np.eye(3)
    with pytest.raises(InputError, match="errs too much to be corrected: got a condition number"):
        correct_labels(exact(), coin)
    with pytest.raises(InputError, match="errs too much"):
        correct_labels(exact(), np.full((3, 3), 1 / 3), PRIOR)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="wrong shape"):
        correct_labels(exact(), np.eye(2))
    with pytest.raises(InputError, match="sum to 1"):
        correct_labels(exact(), 2 * np.eye(3))
    with pytest.raises(InputError, match="positive weight"):
        correct_labels(exact(), RATES, {"a": 0.5, "b": 0.5})
    with pytest.raises(InputError, match="needs the prior of the true labels"):
        correct_labels(exact(weights=None), RATES)
    some = exact(exact().probs[:, :2], before=LABELS[:2], weights=None)
    with pytest.raises(InputError, match="got no source of c"):
        correct_labels(some, RATES, PRIOR)  # type: ignore[arg-type]
    counts = np.array([[5, 0, 0], [0, 5, 0], [0, 0, 0]])
    none = np.zeros(3, dtype=np.int64)
    unseen = ErrorMatrix(feature="f", labels=LABELS, counts=counts, abstained=none)
    with pytest.raises(InputError, match="missing from the labelled data: got c"):
        correct_labels(exact(), unseen)
    other = ErrorMatrix(feature="f", labels=("a", "b", "d"), counts=counts, abstained=none)
    with pytest.raises(InputError, match="of other labels: got a, b, d"):
        correct_labels(exact(), other)


@pytest.mark.validate
def test_the_limits_of_the_corrected_curve_cover() -> None:
    hits = np.zeros(len(STAY))
    num = 150
    for run in range(num):
        tr, matrix = observed(f"cover {run}", num_sources=600)
        result = correct_labels(tr, matrix, num_resamples=300)
        hits += (result.kept_low <= STAY) & (result.kept_high >= STAY)  # type: ignore[operator]
    # nominal 95 %: at least 90 % of 150 runs, two and a half standard errors below
    assert (hits / num).min() > 0.905 - 0.005
