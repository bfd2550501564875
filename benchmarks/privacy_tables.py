"""Tables of ``privacy_digits.py``: from collected scores to what is reported."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from critwin.audits._collapse import predicted_collapse
from critwin.audits._scores import Scores
from critwin.audits.blind import blind_attacks, pixel_statistics
from critwin.audits.likelihood import calibrated, likelihood_ratio
from critwin.audits.membership import Attack, cross_fitted, curve, halves_of, set_test, windows_of
from critwin.audits.memorised import find_memorised, returns_of_scores
from critwin.audits.placement import place
from critwin.audits.roc import area
from critwin.levels import ou_time
from critwin.models.digits.data import DigitsData

Array = Any
DOSES = (1, 4, 16, 64)


def joined(*parts: Scores) -> Scores:
    """Scores of several groups of images, with the replicates and levels that all have."""
    least = min(part.values.shape[2] for part in parts)
    levels = [lv for lv in parts[0].logsnr if all(np.isclose(p.logsnr, lv).any() for p in parts)]
    at = [[int(np.argmin(np.abs(p.logsnr - lv))) for lv in levels] for p in parts]
    return Scores(
        kind=parts[0].kind,
        logsnr=np.array(levels),
        values=np.concatenate(
            [p.values[:, rows, :least] for p, rows in zip(parts, at, strict=True)]
        ),
        evaluations=parts[0].evaluations[at[0]],
        shared=parts[0].shared,
    )


def stacked(first: Scores, second: Scores) -> Scores:
    """Scores of the same images at the levels of both."""
    return Scores(
        kind=first.kind,
        logsnr=np.concatenate([first.logsnr, second.logsnr]),
        values=np.concatenate([first.values, second.values], axis=1),
        evaluations=np.concatenate([first.evaluations, second.evaluations]),
        shared=first.shared,
    )


def row(attack: Attack) -> dict[str, Any]:
    """One attack as plain numbers."""
    estimate = attack.area.as_estimate()
    point = attack.points[0]
    times = [float(ou_time(level)) if np.isfinite(level) else None for level in attack.logsnr]
    return {
        "kind": attack.kind,
        "t": times,
        "area": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "tpr_1_percent": point.tpr.value,
        "tpr_low": point.tpr.low,
        "tpr_high": point.tpr.high,
        "tpr_reason": point.tpr.reason,
        "evaluations": attack.evaluations,
    }


def doses(
    loss: Scores, multiplicity: Array, statistics: Array, predicted: dict[int, Any]
) -> list[dict[str, Any]]:
    """Loss attack for each dose against all non-members, its levels, and the prediction."""
    out = []
    for dose in DOSES:
        rows = np.flatnonzero((multiplicity == dose) | (multiplicity == 0))
        member, own = multiplicity[rows] > 0, loss.rows(rows)
        halves = halves_of(member, seed=1)
        fair = calibrated(own, member, halves, statistics[rows])
        attacks = [
            cross_fitted(own, member, halves),
            cross_fitted(fair, member, halves),
            likelihood_ratio(own, member, halves),
        ]
        areas = curve(own, member)
        best = int(np.argmax([a.value or 0 for a in areas]))
        collapse = predicted[dose]
        out.append(
            {
                "dose": dose,
                "members": int(member.sum()),
                "non-members": int((~member).sum()),
                "attacks": [row(attack) for attack in attacks],
                "p_value": set_test(attacks[0], member, halves).p_value,
                "t": [float(t) for t in ou_time(own.logsnr)],
                "area_by_t": [a.value for a in areas],
                "low_by_t": [a.low for a in areas],
                "best_t": float(ou_time(own.logsnr[best])),
                "window": [
                    [float(ou_time(own.logsnr[i])) for i in run] for run in windows_of(areas)
                ],
                "predicted": [collapse.t_kept, collapse.t_half, collapse.t_lost],
            }
        )
    return out


def equal_cost(
    attacks: dict[str, Scores], multiplicity: Array, wanted: Array
) -> list[dict[str, Any]]:
    """Attacks on some images at the same budget of evaluations per image, best level each."""
    rows = np.flatnonzero(wanted | (multiplicity == 0))
    member = multiplicity[rows] > 0
    halves = halves_of(member, seed=1)
    loss = attacks["loss"].rows(rows)
    pia, secmi = attacks["pia"].rows(rows), attacks["secmi"].rows(rows)
    back = attacks["forward-reverse pixels"].rows(rows)
    near = attacks["closeness"].rows(rows)
    out = []
    for budget, found in (
        (1, [cross_fitted(loss, member, halves, replicates=1)]),
        (
            2,
            [
                cross_fitted(loss, member, halves, replicates=2),
                cross_fitted(pia, member, halves),
            ],
        ),
        (
            4,
            [
                cross_fitted(loss, member, halves, replicates=4),
                cross_fitted(back, member, halves),
                cross_fitted(near, member, halves),
            ],
        ),
        (None, [cross_fitted(secmi, member, halves)]),
    ):
        for attack in sorted(found, key=lambda a: -(a.area.value or 0)):
            out.append({"budget": budget, **row(attack)})
    return out


def memorised(
    data: DigitsData, returns: list[Scores], order: Array, sets: tuple[float, ...]
) -> list[dict[str, Any]]:
    """The repeated images among all training images: precision and recall per dose."""
    names = [f"d{index:06d}" for index in order]
    table = returns_of_scores(returns, names)
    out = []
    for fdr in sets:
        for tail in ("empirical", "exponential"):
            found = find_memorised(table, data.is_member, fdr=fdr, tail=tail)  # type: ignore[arg-type]
            rows = np.array([int(c.name[1:]) for c in found.candidates])
            many = data.multiplicity[rows]
            hit = np.array([c.is_found for c in found.candidates])
            out.append(
                {
                    "rule": f"false discoveries <= {fdr:g}, {tail} tail",
                    "found": int(hit.sum()),
                    "precision": float((many[hit] > 1).mean()) if hit.any() else None,
                    "recall": {str(d): float(hit[many == d].mean()) for d in DOSES[1:]},
                    "reason": found.reason,
                }
            )
    for count in (10, 30, 100):
        top = many[:count]
        out.append(
            {
                "rule": f"first {count} of the ranking",
                "found": count,
                "precision": float((top > 1).mean()),
                "recall": {str(d): float((top == d).sum() / 10) for d in DOSES[1:]},
                "reason": None,
            }
        )
    repeated = area(np.array([c.statistic for c in found.candidates]), many > 1).as_estimate()
    out.append(
        {
            "rule": "area of the ranking, repeated against once",
            "found": None,
            "precision": repeated.value,
            "recall": {
                str(d): area(
                    np.array([c.statistic for c in found.candidates])[(many == d) | (many == 1)],
                    many[(many == d) | (many == 1)] > 1,
                ).value
                for d in DOSES[1:]
            },
            "reason": None,
        }
    )
    return out


def null(loss: Scores, outside: Array, splits: int) -> dict[str, Any]:
    """Non-members against non-members: how often the interval has 1/2."""
    generator, covers, p_values, bug = np.random.default_rng(5), 0, [], 0
    own = loss.rows(outside)
    values = own.per_image()
    for split in range(splits):
        member = generator.permutation(np.arange(len(outside)) < len(outside) // 2)
        halves = halves_of(member, seed=split)
        attack = cross_fitted(own, member, halves)
        covers += attack.area.as_estimate().covers(0.5)
        p_values.append(set_test(attack, member, halves, draws=199, seed=split).p_value)
        worst = max((area(column, member) for column in values.T), key=lambda a: a.value or 0)
        bug += worst.as_estimate().covers(0.5)
    return {
        "splits": splits,
        "coverage": covers / splits,
        "coverage_interval": [
            float(stats.beta.ppf(0.025, covers, splits - covers + 1)),
            float(stats.beta.ppf(0.975, covers + 1, splits - covers)) if covers < splits else 1.0,
        ],
        "set_test_below_5_percent": float(np.mean(np.array(p_values) <= 0.05)),
        "coverage_when_chosen_and_reported_on_the_same_half": bug / splits,
    }


def adaptive(loss: Scores, multiplicity: Array, wanted: Array, repeats: int) -> dict[str, Any]:
    """Evaluations and width of an adaptive placement against all levels for all images."""
    rows = np.flatnonzero(wanted | (multiplicity == 0))
    member, own = multiplicity[rows] > 0, loss.rows(rows)
    table = own.per_image(1)
    ratio, width, value = [], [], []
    for seed in range(repeats):
        halves = halves_of(member, seed=seed)
        found = place(
            lambda images, level: table[images, level],
            own.logsnr,
            np.ones(len(own.logsnr)),
            member,
            halves,
        )
        plain = cross_fitted(own, member, halves, replicates=1).area
        adapted = found.attack.area
        ratio.append(found.evaluations / found.uniform)
        width.append(
            ((adapted.high or 0) - (adapted.low or 0)) / ((plain.high or 0) - (plain.low or 0))
        )
        value.append([adapted.value, plain.value])
    return {
        "evaluations_ratio": float(np.mean(ratio)),
        "width_ratio": float(np.mean(width)),
        "evaluations_ratio_at_equal_width": float(np.mean(np.array(ratio) * np.array(width) ** 2)),
        "area_adaptive": float(np.mean([v[0] for v in value])),
        "area_uniform": float(np.mean([v[1] for v in value])),
        "levels": len(own.logsnr),
        "images": len(rows),
        "repeats": repeats,
    }


def blind(data: DigitsData, order: Array) -> list[dict[str, Any]]:
    """Baselines without the model."""
    member = data.is_member[order]
    images = data.render(order)
    return [row(attack) for attack in blind_attacks(images, member, halves_of(member, seed=1))]


def predictions(data: DigitsData, shown: Array | None = None) -> dict[int, Any]:
    """Collapse of a perfect memory, per dose; ``shown`` says how often it saw each image."""
    rows = np.flatnonzero(data.is_member)
    points, doses = data.render(rows), data.multiplicity[rows]
    weights = doses if shown is None else shown[rows]
    return {
        dose: predicted_collapse(
            points, weights=weights, rows=np.flatnonzero(doses == dose), num_queries=40
        )
        for dose in DOSES
    }


def looks(data: DigitsData, order: Array) -> Array:
    """Statistics of the pixels, for calibration."""
    return pixel_statistics(data.render(order))
