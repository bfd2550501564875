"""The law of an attribute in generated images, held against a reference.

Images are independent, so shares have exact limits. The whole law is tested once (exactly where
there are two groups, by Monte Carlo of Pearson's statistic where there are more); each group is
tested exactly, and adjusted for the others (Holm, and false discoveries). The total variation to
the reference is never the plug-in, which is positive even where the laws are equal: the set of
over-represented groups is chosen without the image that is then looked up in it, so the value is
0 on average where the laws are equal and too low rather than too high where they differ; its
limits are those over all laws that the shares' simultaneous limits allow.

Source: Clopper & Pearson (1934); Holm (1979); Benjamini & Hochberg (1995).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import stats

from critwin.audits.labellers import corrected_shares
from critwin.audits.references import Reference
from critwin.errors import InputError
from critwin.estimates import Estimate, plain
from critwin.significance import permutation_p
from critwin.streams import numpy_stream

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from critwin.features.labelling import ErrorMatrix

    Array = NDArray[np.float64]

__all__ = [
    "AttributeLaw",
    "GroupShare",
    "attribute_law",
    "exact_limits",
    "holm",
    "set_against",
    "tv_limits",
]

FEWEST = 8
"""Images below which nothing is said of a law."""

_DRAWS = 1999
_MOST_SETS = 12  # groups whose subsets are all looked at
_TOLERANCE = 0.1  # total variation that counts as alike

Verdict = Literal["differs", "alike", "cannot tell", "too few to say"]


@dataclass(frozen=True, kw_only=True)
class GroupShare:
    """One group of the attribute.

    Attributes:
        label: Its label.
        count: Images that carry it.
        share: Its share, with exact limits.
        reference: Its share in the reference.
        difference: Share minus reference.
        p_value: Exact two-sided test of the reference share.
        p_holm: The same, adjusted so that any wrong rejection among the groups is rare.
        p_fdr: Adjusted for the share of wrong ones among the rejections.
        corrected: Share once the labeller's errors are undone, with both uncertainties; None
            where they are unknown.
    """

    label: str
    count: int
    share: Estimate
    reference: float
    difference: Estimate
    p_value: float | None
    p_holm: float | None
    p_fdr: float | None
    corrected: Estimate | None = None


@dataclass(frozen=True, kw_only=True)
class AttributeLaw:
    """Shares of the groups of an attribute, against a reference.

    Attributes:
        feature: The attribute.
        condition: Condition of the images; None: none.
        reference: Name of the reference.
        groups: The groups, in the order of the labels.
        num_images: Images that the labeller read.
        num_abstained: Images that it could not read.
        p_value: Test of the whole law; None: too few.
        tv: Total variation to the reference.
        tv_plug_in: The plug-in, which is biased upwards, for comparison.
        verdict: ``"differs"``; ``"alike"``: not shown to differ, and not by more than a tenth;
            ``"cannot tell"``: not shown to differ, more is possible; ``"too few to say"``.
        labeller: Why shares are not corrected for the labeller's errors, or None.
        confidence: Of the limits; tests are of size ``1 - confidence``.
    """

    feature: str
    condition: str | None
    reference: str
    groups: tuple[GroupShare, ...]
    num_images: int
    num_abstained: int
    p_value: float | None
    tv: Estimate
    tv_plug_in: float | None
    verdict: Verdict
    labeller: str | None
    confidence: float

    @property
    def is_flagged(self) -> bool:
        """Whether the whole law differs from the reference, at the size of the test."""
        return self.verdict == "differs"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        out: dict[str, Any] = plain(self)
        return out


def attribute_law(
    counts: ArrayLike,
    labels: Sequence[str],
    reference: Reference,
    *,
    feature: str = "attribute",
    condition: str | None = None,
    num_abstained: int = 0,
    errors: ErrorMatrix | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> AttributeLaw:
    """The law of an attribute from counts of independent images.

    Args:
        counts: Images of every label, shape ``(K,)``; groups without any are groups all the same.
        labels: The labels.
        reference: What it is held against.
        feature: Name of the attribute.
        condition: Condition of the images.
        num_abstained: Images that the labeller could not read.
        errors: The labeller's error matrix.
        confidence: Of the limits.
        seed: Seed of the Monte Carlo test.

    Returns:
        The law.

    Raises:
        InputError: If counts, labels and reference do not fit, or there is one group only.
    """
    number = np.asarray(counts, dtype=np.int64)
    size = len(labels)
    if number.shape != (size,) or np.any(number < 0) or len(reference.shares) != size:
        raise InputError(
            "counts, labels and reference do not fit",
            got=f"{number.shape}, {len(labels)} and {len(reference.shares)}",
            wanted="a count >= 0 and a share for each label",
        )
    if len(labels) < 2:
        raise InputError(
            f"feature {feature!r} has one group only", got=", ".join(labels), wanted="two or more"
        )
    if not 0.5 <= confidence < 1:
        raise InputError("confidence is out of range", got=confidence, wanted="in [0.5, 1)")
    total, q = int(number.sum()), np.array(reference.shares)
    low, high = exact_limits(number, total, confidence)
    is_enough = total >= FEWEST
    single = [
        float(stats.binomtest(int(n), total, float(r)).pvalue) if is_enough else None
        for n, r in zip(number, q, strict=True)
    ]
    known = [p for p in single if p is not None]
    adjusted = (holm(known), stats.false_discovery_control(known)) if known else ((), ())
    p_value = _p_value(number, q, seed) if is_enough else None
    corrected, why = _corrected(number, labels, errors, confidence, seed)
    tv, plug_in = _variation(number, q, confidence)
    return AttributeLaw(
        feature=feature,
        condition=condition,
        reference=reference.name,
        groups=tuple(
            GroupShare(
                label=label,
                count=int(number[k]),
                share=_share(number[k], total, low[k], high[k], confidence),
                reference=float(q[k]),
                difference=_share(number[k], total, low[k], high[k], confidence, float(q[k])),
                p_value=single[k],
                p_holm=float(adjusted[0][k]) if known else None,
                p_fdr=float(adjusted[1][k]) if known else None,
                corrected=None if corrected is None else corrected[k],
            )
            for k, label in enumerate(labels)
        ),
        num_images=total,
        num_abstained=num_abstained,
        p_value=p_value,
        tv=tv,
        tv_plug_in=plug_in,
        verdict=_verdict(p_value, tv, confidence),
        labeller=why,
        confidence=confidence,
    )


def exact_limits(
    counts: ArrayLike, total: int, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Clopper–Pearson limits of shares of one total; 0 and 1 where there is nothing.

    Args:
        counts: Shape ``(K,)``.
        total: Number of images.
        confidence: Of each share by itself.

    Returns:
        Lower and upper limits, each ``(K,)``.
    """
    n, tail = np.asarray(counts, dtype=np.float64), (1.0 - confidence) / 2.0
    with np.errstate(invalid="ignore"):
        low = np.where(n > 0, stats.beta.ppf(tail, n, total - n + 1.0), 0.0)
        high = np.where(n < total, stats.beta.ppf(1.0 - tail, n + 1.0, total - n), 1.0)
    return low, high


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """P-values adjusted by Holm's method.

    Args:
        p_values: Shape ``(K,)``.

    Returns:
        Adjusted, same order: reject those at most the size, and a wrong one is as rare as that.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    out = np.empty(len(p))
    out[order] = np.minimum(stepped, 1.0)
    return out


def tv_limits(low: ArrayLike, high: ArrayLike, reference: ArrayLike) -> tuple[float, float]:
    """Least and largest total variation to a reference of laws whose shares have limits.

    Args:
        low: Lower limits, shape ``(K,)``.
        high: Upper limits, shape ``(K,)``.
        reference: Shares of the reference, shape ``(K,)``.

    Returns:
        Least and largest; the largest is a bound where there are more than twelve groups.
    """
    a, b, q = (np.asarray(x, dtype=np.float64) for x in (low, high, reference))
    least = max(float(np.maximum(a - q, 0).sum()), float(np.maximum(q - b, 0).sum()))
    if len(q) > _MOST_SETS:
        most = min(float(np.maximum(b - q, 0).sum()), float(np.maximum(q - a, 0).sum()))
    else:
        sets = np.array(list(product((False, True), repeat=len(q))))
        most = float(np.minimum(sets @ (b - q), ~sets @ (q - a)).max())
    return min(least, 1.0), float(np.clip(most, 0.0, 1.0))


def set_against(counts: ArrayLike, reference: ArrayLike) -> NDArray[np.bool_]:
    """Which groups are over-represented, as seen without one image of each group in turn.

    Args:
        counts: Shape ``(K,)``.
        reference: Shares, shape ``(K,)``.

    Returns:
        ``[j, k]``: whether k is over-represented among all images but one of group j; shape
        ``(K, K)``.
    """
    n, q = np.asarray(counts, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    rest = max(n.sum() - 1.0, 1.0)
    return np.asarray((n[None] - np.eye(len(n))) / rest > q[None] + 1e-12)


def _corrected(
    counts: NDArray[np.int64],
    labels: Sequence[str],
    errors: ErrorMatrix | None,
    confidence: float,
    seed: int,
) -> tuple[tuple[Estimate, ...] | None, str | None]:
    if errors is None:
        return None, "how often the labeller errs is unknown"
    if counts.sum() == 0:
        return None, "no image was read"
    try:
        return corrected_shares(counts, errors, labels, confidence=confidence, seed=seed), None
    except InputError as error:
        return None, str(error)


def _share(
    count: int, total: int, low: float, high: float, confidence: float, minus: float = 0.0
) -> Estimate:
    if total == 0:
        return Estimate(value=None, confidence=confidence, reason="no image was read")
    return Estimate(
        value=float(count) / total - minus,
        low=float(low) - minus,
        high=float(high) - minus,
        confidence=confidence,
    )


def _p_value(counts: NDArray[np.int64], reference: Array, seed: int) -> float:
    total = int(counts.sum())
    if len(counts) == 2:
        return float(stats.binomtest(int(counts[0]), total, float(reference[0])).pvalue)
    if np.any(counts[reference == 0] > 0):
        return 0.0  # a group that the reference excludes
    used = reference > 0
    expected = total * reference[used]

    def statistic(n: Any) -> Any:
        return ((n - expected) ** 2 / expected).sum(axis=-1)

    generator = numpy_stream(seed, "fairness", "law")
    drawn = statistic(generator.multinomial(total, reference[used], size=_DRAWS))
    return permutation_p(float(statistic(counts[used])), drawn)


def _variation(
    counts: NDArray[np.int64], reference: Array, confidence: float
) -> tuple[Estimate, float | None]:
    total, size = int(counts.sum()), len(counts)
    if total < 2:
        return Estimate(value=None, confidence=confidence, reason="too few to say"), None
    # two shares are one number; more are limited one by one
    each = confidence if size == 2 else 1.0 - (1.0 - confidence) / size
    least, most = tv_limits(*exact_limits(counts, total, each), reference)
    share = counts / total
    inside = set_against(counts, reference)
    value = float(share @ (np.diag(inside) - inside @ reference))
    return (
        Estimate(
            value=float(np.clip(value, least, most)), low=least, high=most, confidence=confidence
        ),
        float(0.5 * np.abs(share - reference).sum()),
    )


def _verdict(p_value: float | None, tv: Estimate, confidence: float) -> Verdict:
    if p_value is None:
        return "too few to say"
    if p_value <= 1.0 - confidence + 1e-12:
        return "differs"
    return "alike" if tv.high is not None and tv.high <= _TOLERANCE else "cannot tell"
