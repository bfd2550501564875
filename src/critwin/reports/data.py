"""What a report says: plain frozen data, everything computed, nothing drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from critwin.levels import ou_time

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from critwin.estimates import Estimate
    from critwin.experiments.switches import Following
    from critwin.reports.audit_sections import AuditPart
    from critwin.reports.gallery import Gallery
    from critwin.reports.headline import Headline
    from critwin.reports.prediction import Prediction
    from critwin.transitions import Transitions
    from critwin.trees import MixtureTree
    from critwin.windows import CriticalWindow, Curve

__all__ = ["FeatureData", "LabelData", "ReportData", "Validity"]


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelData:
    """Curves of one label of a feature.

    Attributes:
        label: Its name.
        num_sources: Sources that carry it.
        weight: Its prior weight, or None if unknown.
        stay: How often the label stays, or None with a ``reason``.
        blur: How far its results are told from those of all labels, or None.
        window: Its operational window, this label among all, or None.
        reason: Why something is missing.
    """

    label: str
    num_sources: int
    weight: float | None
    stay: Curve | None
    blur: Curve | None
    window: CriticalWindow | None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Validity:
    """What became of the units of one feature.

    Attributes:
        units: Units measured.
        invalid: Results that were NaN, infinite or constant.
        abstained: Valid results on which the labeller abstained.
        without_label: Units whose source the labeller could not read; they are left out.
        sources: Sources with a label.
        sources_without_label: Sources without.
    """

    units: int
    invalid: int
    abstained: int
    without_label: int
    sources: int
    sources_without_label: int

    @property
    def counted(self) -> int:
        """Units that enter the curves."""
        return self.units - self.invalid - self.abstained - self.without_label


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureData:
    """One feature, measured one way.

    Attributes:
        name: Its name, with experiment and reversal where the records hold several.
        feature: Its name in the records.
        key: Name for ids in the page, letters, digits and hyphens.
        transitions: The counted table, or None with a ``reason``.
        window: The window of ``kept``, or None with a ``reason``.
        kept: The curve of ``kept``, or None.
        bracket: ``kept`` if all abstentions had been lost, and if all had been kept; None if the
            labeller never abstained.
        corrected: ``kept`` corrected for the labeller's errors, shape ``(L,)``, NaN where
            agreement has not decayed, so that the correction does not hold; or None.
        chance: Chance level of the mean stay, or None if the prior is unknown.
        labels: Curves of the labels that sources carry, largest prior weight first.
        num_labels_left_out: Labels beyond those.
        validity: Counts.
        reason: Why there is no window.
        remarks: What else a reader must know.
        prediction: What the model's training data predict, or None where they are unknown.
        tree: Which labels become one as noise grows, for three labels or more; or None.
        following: After a change of the condition, shares of results with each label, those that
            an early change adds most to first; empty for other experiments.
    """

    name: str
    feature: str
    key: str
    transitions: Transitions | None
    window: CriticalWindow | None
    kept: Curve | None
    bracket: tuple[Curve, Curve] | None = None
    corrected: NDArray[np.float64] | None = None
    chance: float | None = None
    labels: tuple[LabelData, ...] = ()
    num_labels_left_out: int = 0
    validity: Validity
    reason: str | None = None
    remarks: tuple[str, ...] = ()
    prediction: Prediction | None = None
    tree: MixtureTree | None = None
    following: tuple[Following, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class ReportData:
    """A report before it is drawn.

    Attributes:
        title: Its title.
        headline: The finding in words.
        features: In the order in which generation decides them.
        levels: Effective levels, logsnr, decreasing, shape ``(L,)``.
        num_sources: Number of sources.
        num_units: Number of units.
        gallery: What sources became, or None.
        provenance: Names and values of where the numbers come from.
        config: The experiment file as text, or "".
        notes: What limits the result.
        confidence: Of the intervals.
        epsilon: Tolerance of the windows of single labels.
        gaps: Differences of midpoints, paired by source.
        audits: Sections that audits have kept.
        experiments: Names of the experiments that were made.
    """

    title: str
    headline: Headline
    features: tuple[FeatureData, ...]
    levels: NDArray[np.float64]
    num_sources: int
    num_units: int
    gallery: Gallery | None = None
    provenance: tuple[tuple[str, str], ...] = ()
    config: str = ""
    notes: tuple[str, ...] = ()
    confidence: float = 0.95
    epsilon: float = 0.1
    gaps: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)
    audits: tuple[AuditPart, ...] = ()
    experiments: tuple[str, ...] = ()

    @property
    def levels_t(self) -> NDArray[np.float64]:
        """OU times of the levels, shape ``(L,)``, increasing."""
        return ou_time(self.levels)

    @property
    def t_max(self) -> float:
        """Right end of the axes of all figures, OU time."""
        return float(self.levels_t[-1]) * 1.03
