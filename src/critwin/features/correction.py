r"""Transitions corrected for a labeller's errors, beside the raw ones.

With ``M[k, l] = P(said l | true k)`` and the prior ``pi`` of the true labels, a sample called i is
truly k with probability ``R[i, k] = pi_k M[k, i] / sum_l pi_l M[l, i]``. If the errors before and
after are independent given the true labels,

.. math:: C_{obs} = R\, C\, M, \qquad C = R^{-1} C_{obs} M^{-1}.

At low noise they are not: the result looks like the source and the same error is made twice, so
``C_obs`` tends to the identity instead of ``R M``, and the correction leaves [0, 1]. It is
therefore reported from the level on at which agreement has decayed, its entries are flagged and
never clipped, and nothing that is defined by high agreement (``t_after``) may be read off it.

Source: a classical misclassification model (Bross 1954; Rogan & Gladen 1978), applied to both
ends of the forward–reverse experiment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InputError
from critwin.features.labelling import ErrorMatrix
from critwin.levels import ou_time
from critwin.streams import numpy_stream

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from critwin.transitions import Transitions

__all__ = ["CorrectedTransitions", "correct_labels"]

_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False, kw_only=True)
class CorrectedTransitions:
    """Raw and labeller-corrected transitions, level by level.

    Attributes:
        feature: Name of the feature.
        labels: Names of the labels, length J.
        before: Labels of the rows, length I; all labels unless the sources' labels are known.
        logsnr: Levels, shape ``(L,)``.
        raw: As counted, shape ``(L, I, J)``.
        probs: Corrected, shape ``(L, I, J)``; never clipped, so it need not be in [0, 1].
        is_outside: Entries of ``probs`` outside [0, 1], shape ``(L, I, J)``.
        raw_kept: The feature's ``kept`` curve from ``raw``, shape ``(L,)``.
        kept: The same from ``probs``, with the chance level of the true labels, shape ``(L,)``.
        kept_low: Lower confidence limits of ``kept``, resampling sources and labelled samples
            (percentile bootstrap), shape ``(L,)``, or None if neither has counts.
        kept_high: Upper limits.
        confidence: Level of the limits.
        decayed_from: First level index from which on agreement has decayed enough for the
            correction to be shown, or None if it never has.
        condition: Larger one of the condition numbers of M and R.
        notes: What a reader must know.
    """

    feature: str
    labels: tuple[str, ...]
    before: tuple[str, ...]
    logsnr: NDArray[np.float64]
    raw: NDArray[np.float64]
    probs: NDArray[np.float64]
    is_outside: NDArray[np.bool_]
    raw_kept: NDArray[np.float64]
    kept: NDArray[np.float64]
    kept_low: NDArray[np.float64] | None
    kept_high: NDArray[np.float64] | None
    confidence: float
    decayed_from: int | None
    condition: float
    notes: tuple[str, ...]

    @property
    def num_outside(self) -> NDArray[np.int64]:
        """Number of entries outside [0, 1] at each level, shape ``(L,)``."""
        return np.asarray(self.is_outside.sum(axis=(1, 2)))

    @property
    def t(self) -> NDArray[np.float64]:
        """OU times of the levels, shape ``(L,)``."""
        return ou_time(self.logsnr)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; unknown numbers are None."""
        names = ("logsnr", "t", "raw", "probs", "raw_kept", "kept", "kept_low", "kept_high")
        arrays = {name: getattr(self, name) for name in names}
        return {
            "feature": self.feature,
            "labels": list(self.labels),
            "before": list(self.before),
            **{k: None if v is None else _nullable(v) for k, v in arrays.items()},
            "num_outside": self.num_outside.tolist(),
            "confidence": self.confidence,
            "decayed_from": self.decayed_from,
            "condition": self.condition,
            "notes": list(self.notes),
        }


def correct_labels(
    tr: Transitions,
    matrix: ErrorMatrix | ArrayLike,
    prior: Mapping[str, float] | Sequence[float] | None = None,
    *,
    known_source: bool = False,
    max_condition: float = 10.0,
    decayed_at: float = 0.9,
    confidence: float = 0.95,
    num_resamples: int = 400,
    seed: int = 0,
) -> CorrectedTransitions:
    """Correct transitions for the labeller's errors, assuming these are independent.

    Abstentions are left out on both sides: the correction speaks of samples that got a label.

    Args:
        tr: Observed transitions.
        matrix: The labeller's error matrix, or its rates ``M[k, l]`` in the order of ``tr.after``.
        prior: Law of the *true* labels. Unless given: the table's weights, or, if these are the
            labeller's own counts of generated sources, what the matrix makes of them.
        known_source: True if the labels before are the truth (planted, or prompted), so that only
            the labels after are corrected.
        max_condition: Largest condition number of M (and R) that is inverted.
        decayed_at: Agreement has decayed where the raw ``kept`` is at most this, there and at
            every later level, and at most what independent errors could show at all.
        confidence: Level of the limits of ``kept``.
        num_resamples: Resamples behind the limits.
        seed: Seed of the resamples.

    Returns:
        Raw and corrected tables and curves.

    Raises:
        InputError: If the labels do not fit, the prior is unknown or lacks a label, a label was
            never labelled, or the matrix is too ill-conditioned to invert.
    """
    labels = tr.after
    rates = _rates(tr, matrix)
    if not known_source and set(tr.before) != set(labels):
        missing = [label for label in labels if label not in tr.before]
        raise InputError(
            "labels that no source carries leave the correction undetermined",
            got=f"no source of {', '.join(missing)}",
            wanted="a source of every label",
            next_step="add sources, or pass known_source=True if the sources' labels are known",
        )
    condition = _checked_condition(tr, rates, max_condition)
    law = _prior(tr, rates, prior)
    if not known_source:
        reverse = _checked_condition(tr, _reverse(rates, law), max_condition)
        condition = max(condition, reverse)
    rows = [tr.before.index(label) for label in labels if label in tr.before]
    raw = tr.probs[:, rows]
    before = tuple(tr.before[i] for i in rows)
    probs = _invert(raw, rates, law, known_source)
    own = [labels.index(label) for label in before]
    raw_law = law[own] if known_source else law @ rates
    if tr.weights is not None:
        raw_law = tr.weights[rows]
    raw_kept = _kept(raw, raw_law, own)
    ceiling = _kept((rates if known_source else _reverse(rates, law) @ rates)[own], raw_law, own)
    decayed_from = _decayed_from(raw_kept, min(decayed_at, float(ceiling) + _TOLERANCE))
    observed, drawn = _resamples(tr, matrix, rates, rows, num_resamples, seed)
    limits = None
    if observed is not None:
        curves = _corrected_curves(observed, drawn, law, own, known_source)
        limits = np.quantile(curves, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    with np.errstate(invalid="ignore"):
        is_outside = (probs < -_TOLERANCE) | (probs > 1 + _TOLERANCE)
    return CorrectedTransitions(
        feature=tr.feature,
        labels=labels,
        before=before,
        logsnr=tr.logsnr,
        raw=raw,
        probs=probs,
        is_outside=is_outside,
        raw_kept=raw_kept,
        kept=_kept(probs, law[own], own),
        kept_low=None if limits is None else limits[0],
        kept_high=None if limits is None else limits[1],
        confidence=confidence,
        decayed_from=decayed_from,
        condition=condition,
        notes=_notes(tr, is_outside, decayed_from),
    )


def _rates(tr: Transitions, matrix: ErrorMatrix | ArrayLike) -> NDArray[np.float64]:
    """``M`` in the order of ``tr.after``, checked."""
    size = len(tr.after)
    if isinstance(matrix, ErrorMatrix):
        if set(matrix.labels) != set(tr.after):
            raise InputError(
                "the error matrix is of other labels",
                got=f"{', '.join(matrix.labels)} (feature {matrix.feature!r})",
                wanted=f"{', '.join(tr.after)} (feature {tr.feature!r})",
            )
        order = [matrix.labels.index(label) for label in tr.after]
        rates = matrix.rates[np.ix_(order, order)]
    else:
        rates = np.asarray(matrix, dtype=np.float64)
    if rates.shape != (size, size):
        raise InputError(
            "the error matrix has the wrong shape", got=rates.shape, wanted=f"({size}, {size})"
        )
    if np.any(np.isnan(rates)):
        never = tr.after[int(np.argmax(np.isnan(rates).any(axis=1)))]
        raise InputError(
            "a label is missing from the labelled data", got=never, next_step="label some of it"
        )
    if np.any(rates < 0) or np.any(np.abs(rates.sum(axis=1) - 1) > 1e-6):
        raise InputError(
            "rows of the error matrix must be >= 0 and sum to 1",
            got=f"a sum of {float(rates.sum(axis=1).min()):.6g}",
        )
    return rates


def _prior(tr: Transitions, rates: NDArray[np.float64], prior: Any) -> NDArray[np.float64]:
    """Law of the true labels, in the order of ``tr.after``."""
    if isinstance(prior, Mapping):
        law = np.array([float(prior.get(label, 0.0)) for label in tr.after])
    elif prior is not None:
        law = np.asarray(prior, dtype=np.float64)
    elif tr.fresh is not None:
        law = tr.fresh
        if tr.is_weights_estimated:  # the shares of what was said: pi M
            law = np.linalg.solve(rates.T, law)
            if not np.all(law > 0):
                raise InputError(
                    "the labeller's shares of the sources do not fit its error matrix",
                    got=f"an implied share of {float(law.min()):.3g}",
                    wanted="positive shares of the true labels",
                    next_step="pass prior={label: weight}, or label samples like these sources",
                )
    else:
        raise InputError(
            f"the correction needs the prior of the true labels of {tr.feature!r}",
            next_step="pass prior={label: weight}",
        )
    if law.shape != (len(tr.after),) or not np.all(law > 0):
        raise InputError(
            "the prior must give every label a positive weight",
            got=np.array2string(np.asarray(law), precision=4, threshold=8),
            wanted=f"{len(tr.after)} positive weights, for {', '.join(tr.after)}",
            next_step="merge labels without weight, or pass another prior",
        )
    return np.asarray(law / law.sum())


def _checked_condition(tr: Transitions, matrix: NDArray[np.float64], limit: float) -> float:
    condition = float(np.linalg.cond(matrix))
    if not condition <= limit:
        raise InputError(
            f"the labeller of {tr.feature!r} errs too much to be corrected",
            got=f"a condition number of {condition:.3g}",
            wanted=f"at most {limit:.3g}",
            next_step="merge labels that it mixes up, or use a better labeller",
        )
    return condition


def _reverse(rates: NDArray[np.float64], law: NDArray[np.float64]) -> NDArray[np.float64]:
    """``R[..., i, k] = P(true k | said i)``; NaN rows where i is never said."""
    joint = np.swapaxes(law[:, None] * rates, -1, -2)
    with np.errstate(invalid="ignore"):
        out = joint / joint.sum(axis=-1, keepdims=True)
    # a label that is never said has no row; zeros make R singular, which is then refused
    return np.asarray(np.where(np.isnan(out), 0.0, out))


def _invert(
    observed: NDArray[np.float64],
    rates: NDArray[np.float64],
    law: NDArray[np.float64],
    known_source: bool,
) -> NDArray[np.float64]:
    """``R^{-1} C_obs M^{-1}`` for ``(..., L, I, J)`` and ``(..., J, J)``."""
    out = observed @ np.linalg.inv(rates)[..., None, :, :]
    if known_source:
        return np.asarray(out)
    return np.asarray(np.linalg.inv(_reverse(rates, law))[..., None, :, :] @ out)


def _kept(
    probs: NDArray[np.float64], law: NDArray[np.float64], own: list[int]
) -> NDArray[np.float64]:
    """``(sum_i w_i C_ii - chance) / (1 - chance)`` of ``(..., I, J)``, w divided by its sum."""
    weights = law / law.sum()
    chance = float((weights * law).sum())
    diagonal = probs[..., np.arange(len(own)), own]
    return np.asarray(((diagonal * weights).sum(axis=-1) - chance) / (1 - chance))


def _decayed_from(raw_kept: NDArray[np.float64], limit: float) -> int | None:
    above = np.flatnonzero(~(raw_kept <= limit))
    first = int(above[-1]) + 1 if len(above) else 0
    return first if first < len(raw_kept) else None


def _resamples(
    tr: Transitions,
    matrix: ErrorMatrix | ArrayLike,
    rates: NDArray[np.float64],
    rows: list[int],
    num_resamples: int,
    seed: int,
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
    """Resampled observed tables ``(B, L, I, J)`` and rates ``(B, J, J)``; None if all is given."""
    if tr.counts is None and not isinstance(matrix, ErrorMatrix):
        return None, rates
    rng = numpy_stream(seed, "labeller", tr.feature)
    if tr.counts is not None:
        observed = _resampled_sources(tr, rows, num_resamples, rng)
    else:
        given = tr.probs[:, rows]
        observed = np.broadcast_to(given, (num_resamples, *given.shape))
    drawn = np.broadcast_to(rates, (num_resamples, *rates.shape))
    if isinstance(matrix, ErrorMatrix):
        tries = matrix.counts.sum(axis=1)[[matrix.labels.index(label) for label in tr.after]]
        shares = [
            rng.multinomial(n, p, size=num_resamples) / n
            for n, p in zip(tries, rates, strict=True)
        ]
        drawn = np.stack(shares, axis=1)
    return observed, drawn


def _corrected_curves(
    observed: NDArray[np.float64],
    rates: NDArray[np.float64],
    law: NDArray[np.float64],
    own: list[int],
    known_source: bool,
) -> NDArray[np.float64]:
    """Corrected ``kept`` curves of all resamples whose rates can be inverted, ``(B, L)``."""
    is_usable = np.linalg.cond(rates) < 1e8
    if not known_source:
        is_usable &= np.linalg.cond(_reverse(rates, law)) < 1e8
    probs = _invert(observed[is_usable], rates[is_usable], law, known_source)
    return _kept(probs, law[own], own)


def _resampled_sources(
    tr: Transitions, rows: list[int], num_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Observed tables of resampled sources, label by label, shape ``(B, L, I, J)``."""
    assert tr.counts is not None
    total = tr.counts.sum(axis=2)
    share = tr.counts / np.maximum(total, 1)[..., None]
    vote = np.ones(len(total)) if tr.source_weight is None else tr.source_weight
    out = np.full((num_resamples, len(tr.logsnr), len(rows), len(tr.after)), np.nan)
    for place, row in enumerate(rows):
        mine = np.flatnonzero(tr.source_before == row)
        if not len(mine):
            continue
        times = rng.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), size=num_resamples)
        present = vote[mine, None] * (total[mine] > 0)
        mass = times @ present
        sums = np.tensordot(times, present[..., None] * share[mine], axes=(1, 0))
        with np.errstate(invalid="ignore"):
            out[:, :, place] = sums / mass[..., None]
    return out


def _notes(
    tr: Transitions, is_outside: NDArray[np.bool_], decayed_from: int | None
) -> tuple[str, ...]:
    notes = [
        "assumes that the labeller's errors before and after are independent given the truth",
        "must not define t_after: where agreement is high the same error is made twice",
    ]
    if decayed_from is None:
        notes.append("agreement has not decayed at any level: read the raw curve")
    elif decayed_from > 0:
        t = float(ou_time(tr.logsnr[decayed_from]))
        notes.append(f"to be read from t = {t:.4g} on, where agreement has decayed")
    if is_outside.any():
        levels = int(is_outside.any(axis=(1, 2)).sum())
        notes.append(
            f"{int(is_outside.sum())} entries at {levels} levels are outside [0, 1]: "
            "sampling error, or errors that are not independent there"
        )
    return tuple(notes)


def _nullable(value: Any) -> Any:
    array = np.asarray(value, dtype=np.float64)
    plain = array.astype(object)
    plain[~np.isfinite(array)] = None
    return plain.tolist()
