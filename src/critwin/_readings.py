"""From a transition table to the curves that windows read: stay, mean stay, kept, blur.

Exact tables give exact curves, estimated ones carry their standard errors, and counted ones the
influence of every source (see :mod:`critwin._curves`).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from critwin._curves import SampledCurve
from critwin.errors import InputError
from critwin.levels import alpha_sigma
from critwin.quantities import chance
from critwin.transitions import NO_SIGNAL, Transitions, label_set_row, require_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


_STEADY = (1, 2, 3, 2, 1)


class TooFewSourcesError(InputError):
    """A label has too few sources to say anything; windows turn this into a reason."""


def stay_curve(tr: Transitions, labels: Sequence[int]) -> SampledCurve:
    """``C[A, A]`` for a set A of indices into ``tr.before``."""
    return set_curve(tr, labels, [int(tr.before_in_after[i]) for i in labels])


def set_curve(tr: Transitions, rows: Sequence[int], columns: Sequence[int]) -> SampledCurve:
    """``C[A, E]`` for sets of indices, A into ``tr.before`` and E into ``tr.after``."""
    value = label_set_row(tr, list(rows))[:, list(columns)].sum(axis=1)
    law = np.zeros(len(tr.before))
    law[list(rows)] = 1.0 if tr.weights is None else tr.weights[list(rows)]
    hit = np.zeros((len(tr.before), len(tr.after)))
    hit[np.ix_(list(rows), list(columns))] = 1.0
    return _proportion_curve(tr, value, law / law.sum(), hit)


def mean_stay_curve(tr: Transitions, weights: NDArray[np.float64]) -> SampledCurve:
    """``sum_i w_i C[i, i]`` for weights over ``tr.before``."""
    hit = np.zeros((len(tr.before), len(tr.after)))
    hit[np.arange(len(tr.before)), tr.before_in_after] = 1.0
    value = np.einsum("i,lij,ij->l", weights, tr.probs, hit)
    return _proportion_curve(tr, value, weights, hit)


def kept_curve(
    tr: Transitions, *, chance_level: float | None, plateau: float | Literal["lowest"] | None
) -> SampledCurve:
    """``kept``, with the sampling errors of an estimated prior and of an estimated plateau."""
    weights = _source_shares(tr) if tr.weights is None else tr.weights
    low = known_chance(tr) if chance_level is None else chance_level
    if low is None:
        require_weights(tr, why="the chance level")
        raise AssertionError  # weights that are known give the chance level
    curve = mean_stay_curve(tr, weights)
    table_plateau = 1.0 if tr.plateau is None else tr.plateau
    if plateau == "lowest":
        high = float(curve.value[0])
    else:
        high = table_plateau if plateau is None else float(plateau)
    if not high > low + 1e-9:
        raise InputError(
            f"feature {tr.feature!r} has nothing to lose: its plateau does not exceed chance",
            got=f"plateau {high:.4g}, chance {low:.4g}, labels {', '.join(tr.before)}",
            wanted="at least two labels that sources carry, or another chance level",
        )
    scale = high - low
    influence = curve.influence
    if influence is not None:
        influence = influence / scale
        if plateau == "lowest":
            assert curve.influence is not None
            influence = influence - np.outer(curve.influence[:, 0], (curve.value - low) / scale**2)
        if tr.is_weights_estimated and chance_level is None and tr.source_before is not None:
            pull, names = _chance_influence(tr, weights, low)
            rows = np.zeros((len(pull), influence.shape[1]))
            rows[: len(influence)] = influence
            influence = rows + np.outer(pull, (curve.value - high) / scale**2)
            curve = replace(curve, sources=names)
    return replace(
        curve,
        value=(curve.value - low) / scale,
        influence=influence,
        offset=low,
        scale=scale,
    )


def known_chance(tr: Transitions) -> float | None:
    """The chance level, of the sources as they are where the prior is unknown; None if unknown."""
    if tr.weights is not None:
        return chance(tr)
    return None if tr.fresh is None else float(_source_shares(tr) @ tr.fresh[tr.before_in_after])


def _chance_influence(
    tr: Transitions, weights: NDArray[np.float64], low: float
) -> tuple[NDArray[np.float64], NDArray[np.str_] | None]:
    """Influence of every source on an estimated chance level, and names of the rows."""
    assert tr.counts is not None
    assert tr.source_before is not None
    if tr.weights is not None:
        return 2.0 * (weights[tr.source_before] - low) * _source_law(tr), tr.sources
    if alpha_sigma(float(tr.logsnr[-1]))[0] < NO_SIGNAL:
        last = tr.counts[:, -1]
        total = last.sum(axis=1)
        like = last[:, tr.before_in_after] @ weights / np.maximum(total, 1)
        law = _source_law(tr) * (total > 0)
        return (like - low) * law / law.sum(), tr.sources
    # the level it was read at is left out: an error of its own, that of a result a source
    num = len(tr.counts)
    spread = np.append(np.zeros(num), np.sqrt(low * (1.0 - low) / num))
    return spread, None if tr.sources is None else np.append(tr.sources, "")


def blur_curve(tr: Transitions, inner: Sequence[int], outer: Sequence[int]) -> SampledCurve:
    """``TV(C[A, .], C[B, .])`` for A ⊂ B, indices into ``tr.before``.

    On counts the label set on which the two rows differ is chosen on four fifths of the sources
    and the difference is read on the last fifth, in turn: the plug-in value is biased upwards
    (ten labels, twenty sources each, truth 0: mean .28).
    """
    rest = [i for i in outer if i not in set(inner)]
    weights = require_weights(tr, why="blur")
    mass = weights[list(outer)].sum()
    factor = weights[rest].sum() / mass
    if not factor > 0:
        return SampledCurve(logsnr=tr.logsnr, value=np.zeros(len(tr.logsnr)), scale=None)
    rows = [label_set_row(tr, list(labels)) for labels in (inner, rest)]
    if tr.counts is None:
        value = factor * 0.5 * np.abs(rows[0] - rows[1]).sum(axis=1)
        if tr.stderr is None:
            return SampledCurve(logsnr=tr.logsnr, value=value, scale=None)
        law = np.zeros(len(tr.before))
        law[list(inner)] = weights[list(inner)] / weights[list(inner)].sum()
        law[rest] = weights[rest] / weights[rest].sum()
        spread = np.sqrt(np.einsum("i,lij->l", law**2, tr.stderr**2)) * factor
        return SampledCurve(logsnr=tr.logsnr, value=value, influence=spread[None], scale=None)
    return _cross_fitted(tr, list(inner), rest, weights, factor)


def _source_shares(tr: Transitions) -> NDArray[np.float64]:
    if tr.source_before is None:
        return np.full(len(tr.before), 1.0 / len(tr.before))
    vote = np.ones(len(tr.source_before)) if tr.source_weight is None else tr.source_weight
    shares = np.bincount(tr.source_before, weights=vote, minlength=len(tr.before))
    return np.asarray(shares / shares.sum())


def _source_law(tr: Transitions) -> NDArray[np.float64]:
    """Share of every source in the estimated prior, shape ``(S,)``."""
    assert tr.counts is not None
    vote = np.ones(len(tr.counts)) if tr.source_weight is None else tr.source_weight
    return np.asarray(vote / vote.sum())


def _proportion_curve(
    tr: Transitions,
    value: NDArray[np.float64],
    law: NDArray[np.float64],
    hit: NDArray[np.float64],
) -> SampledCurve:
    """Curve of ``sum_i law_i P(after in hit_i | before = i)`` with its sampling errors."""
    if tr.counts is None:
        if tr.stderr is None:
            return SampledCurve(logsnr=tr.logsnr, value=value)
        # one row: estimates draw the same noise at every level, so that no level averages out
        # the error of its neighbours
        spread = np.sqrt(np.einsum("i,ij,lij->l", law**2, hit, tr.stderr**2))
        return SampledCurve(logsnr=tr.logsnr, value=value, influence=spread[None], scale=None)
    used = law > 0
    lacking = [tr.before[i] for i in np.flatnonzero(used & np.isnan(tr.probs).any(axis=(0, 2)))]
    if lacking:
        raise TooFewSourcesError(
            f"too few sources for feature {tr.feature!r}: none of some labels at some level",
            got=_what_lacks(tr, lacking),
            next_step="measure more sources, merge labels, or leave the level out",
        )
    label_of, vote, total, share_read = _reading(tr, hit)
    present = vote[:, None] * (total > 0)
    one_hot = (label_of[:, None] == np.arange(len(tr.before))).astype(np.float64)
    mass = np.maximum(one_hot.T @ present, 1e-300)
    share = law[label_of][:, None] * present / mass[label_of]
    mean = (one_hot.T @ (present * share_read)) / mass
    number = one_hot.T @ (total > 0)
    deviation = share_read - np.where(number >= 2, mean, value)[label_of]
    factor = np.sqrt(np.where(number >= 2, number / np.maximum(number - 1, 1), 1.0))
    influence = share * deviation * factor[label_of]
    if tr.is_weights_estimated and tr.weights is not None:
        # only the labels that the law covers move it, by their shares within it
        part = _source_law(tr) * used[label_of] / tr.weights[used].sum()
        influence = influence + part[:, None] * (mean[label_of] - value)
    return SampledCurve(
        logsnr=tr.logsnr,
        value=value,
        influence=influence,
        sources=tr.sources,
        share=share,
        num_replicates=total.astype(np.float64),
        degrees=float(max(np.maximum(number[used] - 1, 0).sum(axis=0).min(), 1.0)),
    )


def _what_lacks(tr: Transitions, lacking: list[str]) -> str:
    """Which labels have no source; which levels have no result, where no label is to blame."""
    assert tr.source_before is not None
    carried = [tr.before[i] for i in np.unique(tr.source_before[tr.source_before >= 0])]
    if carried != lacking:
        return "no source labelled " + ", ".join(lacking)
    where = tr.t[np.isnan(tr.probs[:, tr.before.index(lacking[0])]).any(axis=1)]
    shown = ", ".join(f"{t:.3g}" for t in where[:3]) + (", …" if len(where) > 3 else "")
    return f"no result at t = {shown}"


def _reading(
    tr: Transitions, hit: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Label and weight of every source, its replicates, and its share of hits, ``(S, L)``."""
    assert tr.counts is not None
    assert tr.source_before is not None
    vote = np.ones(len(tr.counts)) if tr.source_weight is None else tr.source_weight
    total = tr.counts.sum(axis=2)
    hits = np.einsum("slj,sj->sl", tr.counts, hit[tr.source_before])
    return tr.source_before, np.asarray(vote), total, hits / np.maximum(total, 1)


def _cross_fitted(
    tr: Transitions,
    inner: list[int],
    rest: list[int],
    weights: NDArray[np.float64],
    factor: float,
) -> SampledCurve:
    assert tr.counts is not None
    assert tr.source_before is not None
    assert tr.sources is not None
    sign = np.zeros(len(tr.before))
    sign[inner] = weights[inner] / weights[inner].sum()
    sign[rest] = -weights[rest] / weights[rest].sum()
    if len(tr.after) == 2:
        # one label set to choose from: nothing is selected, so nothing need be held out
        chosen = np.zeros((len(tr.logsnr), 2))
        chosen[:, [int(tr.before_in_after[i]) for i in inner]] = 1.0
        return _difference_curve(tr, sign, chosen, np.ones(len(tr.sources), bool), factor)
    fold = _folds(tr.sources, tr.source_before)
    num_folds = int(fold.max()) + 1
    if num_folds < 2:
        raise TooFewSourcesError(
            f"too few sources for the blur of feature {tr.feature!r}: no two with the same label",
            next_step="measure more sources, or merge labels",
        )
    parts = []
    for held_out in range(num_folds):
        is_more = _steadied(_signed_rows(tr, sign, fold != held_out)) > 0
        parts.append(_difference_curve(tr, sign, is_more.astype(float), fold == held_out, factor))
    influences = [part.influence for part in parts if part.influence is not None]
    num_sources = len(tr.sources)
    extra: NDArray[np.float64] = np.sqrt(
        np.sum([i[num_sources:] ** 2 for i in influences], axis=0) / num_folds**2
        + np.diag(factor**2 * _choice_variance(tr, sign))
    )
    return replace(
        parts[0],
        value=np.asarray(np.mean([part.value for part in parts], axis=0)),
        influence=np.concatenate(
            [np.sum([i[:num_sources] for i in influences], axis=0) / num_folds, extra]
        ),
        degrees=float(sum(part.degrees for part in parts)),
    )


def _steadied(gap: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows averaged with their neighbouring levels, weights 1 2 3 2 1."""
    padded = np.concatenate([gap[:1], gap[:1], gap, gap[-1:], gap[-1:]])
    total = np.sum([k * padded[s : s + len(gap)] for s, k in enumerate(_STEADY)], axis=0)
    return np.asarray(total / 9.0)


def _choice_variance(tr: Transitions, sign: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variance that the choice of the label set adds, shape ``(L,)``.

    A label whose difference is within two standard errors of 0 falls in the set or not by chance.
    Half of its variance is added: without it the standard error of the cross-fitted value was
    found a fifth too small where such a label exists, and right where none does.
    """
    assert tr.source_before is not None
    everyone = np.ones(len(tr.source_before), dtype=np.bool_)
    number = np.maximum(np.bincount(tr.source_before, minlength=len(tr.before)), 1)
    spread = np.nan_to_num(tr.probs * (1.0 - tr.probs)) / number[:, None]
    variance = np.einsum("i,lij->lj", sign**2, spread)
    steadiness = np.sqrt(np.sum(np.square(_STEADY))) / 9.0
    gap = _steadied(_signed_rows(tr, sign, everyone))
    is_open = np.abs(gap) < 2.0 * steadiness * np.sqrt(variance)
    return np.asarray(0.5 * np.sum(variance * is_open, axis=1))


def _folds(
    sources: NDArray[np.str_], label_of: NDArray[np.int64], most: int = 5
) -> NDArray[np.int64]:
    """Deal the sources of every label into folds, in the order of a digest of their names."""
    order = [hashlib.sha256(str(name).encode()).digest() for name in sources]
    labels, counts = np.unique(label_of, return_counts=True)
    num_folds = max(min(most, int(counts.min())), 1)
    fold = np.zeros(len(sources), dtype=np.int64)
    for label in labels:
        rows = sorted(np.flatnonzero(label_of == label), key=lambda s: order[s])
        fold[rows] = np.arange(len(rows)) % num_folds
    return fold


def _signed_rows(
    tr: Transitions, sign: NDArray[np.float64], keep: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """``sum_i sign_i C[i, .]`` from some of the sources, shape ``(L, J)``."""
    assert tr.counts is not None
    assert tr.source_before is not None
    total = tr.counts.sum(axis=2)
    vote = np.ones(len(total)) if tr.source_weight is None else tr.source_weight
    present = (vote * keep)[:, None] * (total > 0)
    one_hot = (tr.source_before[:, None] == np.arange(len(tr.before))).astype(np.float64)
    mass = np.maximum(one_hot.T @ present, 1e-300)
    scale = sign[tr.source_before][:, None] * present / mass[tr.source_before]
    return np.asarray(
        np.einsum("sl,slj->lj", scale / np.maximum(total, 1), tr.counts.astype(np.float64))
    )


def _difference_curve(
    tr: Transitions,
    sign: NDArray[np.float64],
    chosen: NDArray[np.float64],
    keep: NDArray[np.bool_],
    factor: float,
) -> SampledCurve:
    """``factor * sum_i sign_i P(after in E_l | i)`` with its sampling errors."""
    assert tr.counts is not None
    assert tr.source_before is not None
    label_of = tr.source_before
    total = tr.counts.sum(axis=2)
    vote = np.ones(len(total)) if tr.source_weight is None else tr.source_weight
    read = np.einsum("slj,lj->sl", tr.counts, chosen) / np.maximum(total, 1)
    present = (vote * keep)[:, None] * (total > 0)
    one_hot = (label_of[:, None] == np.arange(len(tr.before))).astype(np.float64)
    mass = one_hot.T @ present
    used = sign != 0
    if np.any(mass[used] <= 0):
        empty = [tr.before[i] for i in np.flatnonzero(used & (mass <= 0).any(axis=1))]
        raise TooFewSourcesError(
            f"too few sources for the blur of feature {tr.feature!r}",
            got="fewer than two sources labelled " + ", ".join(empty),
            next_step="measure more sources, or merge labels",
        )
    mass = np.maximum(mass, 1e-300)
    mean = (one_hot.T @ (present * read)) / mass
    number = one_hot.T @ (present > 0)
    share = sign[label_of][:, None] * present / mass[label_of]
    value = np.sum(share * read, axis=0)
    correction = np.sqrt(np.where(number >= 2, number / np.maximum(number - 1, 1), 1.0))
    influence = share * (read - mean[label_of]) * correction[label_of]
    # labels whose sources all agree still have a variance: add one hit and one miss (Agresti)
    units = one_hot.T @ (present > 0) * np.maximum(total.max(initial=1), 1)
    smoothed = (mean * units + 1.0) / (units + 2.0)
    floor = np.sum(
        (sign[:, None] ** 2) * smoothed * (1 - smoothed) / np.maximum(units, 1.0), axis=0
    )
    extra = np.sqrt(np.maximum(floor - np.sum(influence**2, axis=0), 0.0))
    return SampledCurve(
        logsnr=tr.logsnr,
        value=factor * value,
        influence=factor * np.concatenate([influence, np.diag(extra)]),
        sources=np.concatenate([np.asarray(tr.sources), np.full(len(extra), "")]),
        scale=None,
        degrees=float(max(np.maximum(number[used] - 1, 0).sum(axis=0).min(), 1.0)),
    )
