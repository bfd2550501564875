"""Regimes named by others, to print beside critical windows and never to merge with them.

Each result carries the name of the criterion and its source. A speciation, collapse or
symmetry-breaking time is another question about the same law than a critical window; where the
numbers are close, that is an observation and no identity.
"""

from __future__ import annotations

from critwin.theory.regimes.collapse import CollapseTime, collapse_balance, collapse_time
from critwin.theory.regimes.immse import ImmseCurve, immse
from critwin.theory.regimes.information import (
    InformationBounds,
    InformationCurve,
    InformationPeak,
    information,
    information_bounds,
    information_peaks,
)
from critwin.theory.regimes.random_hierarchy import RandomHierarchy, random_hierarchy_map
from critwin.theory.regimes.speciation import SpeciationTime, speciation_time
from critwin.theory.regimes.symmetry import (
    SymmetryBreaking,
    symmetry_breaking,
    symmetry_breaking_level,
)

__all__ = [
    "CollapseTime",
    "ImmseCurve",
    "InformationBounds",
    "InformationCurve",
    "InformationPeak",
    "RandomHierarchy",
    "SpeciationTime",
    "SymmetryBreaking",
    "collapse_balance",
    "collapse_time",
    "immse",
    "information",
    "information_bounds",
    "information_peaks",
    "random_hierarchy_map",
    "speciation_time",
    "symmetry_breaking",
    "symmetry_breaking_level",
]
