"""Named examples of mixtures with their published formulas, by name."""

from __future__ import annotations

from critwin.theory.families.base import Family, FamilyInfo, PublishedTime, Setting
from critwin.theory.families.masking import MaskingCurves
from critwin.theory.families.registry import list_families, load_family

__all__ = [
    "Family",
    "FamilyInfo",
    "MaskingCurves",
    "PublishedTime",
    "Setting",
    "list_families",
    "load_family",
]
