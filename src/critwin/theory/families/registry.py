"""Families by name: list them, load one with settings from Python or from text."""

from __future__ import annotations

from types import MappingProxyType

from critwin._texts import did_you_mean
from critwin.errors import InputError
from critwin.theory.families.base import Family, FamilyInfo
from critwin.theory.families.equal_means import EQUAL_MEANS
from critwin.theory.families.gaussians import RANDOM_SPHERICAL, TWO_GAUSSIANS
from critwin.theory.families.hierarchies import GAUSSIAN_TREE, HIERARCHICAL
from critwin.theory.families.log_concave import WELL_CONDITIONED
from critwin.theory.families.masking import MASKING
from critwin.theory.families.sparse_dictionary import SPARSE_DICTIONARY

__all__ = ["list_families", "load_family"]

_FAMILIES = MappingProxyType(
    {
        info.name: info
        for info in (
            TWO_GAUSSIANS,
            RANDOM_SPHERICAL,
            WELL_CONDITIONED,
            SPARSE_DICTIONARY,
            HIERARCHICAL,
            GAUSSIAN_TREE,
            MASKING,
            EQUAL_MEANS,
        )
    }
)


def list_families() -> tuple[FamilyInfo, ...]:
    """All families with their settings, in the order of the documentation."""
    return tuple(_FAMILIES.values())


def load_family(name: str, /, **settings: object) -> Family:
    """Build a family by name.

    Args:
        name: One of the names in :func:`list_families`.
        **settings: Values, as numbers or as text (``distance=20`` or ``distance="20"``); those
            not given have their defaults.

    Returns:
        The family.

    Raises:
        InputError: If the name or a setting is unknown, or a value cannot be used.
    """
    if name not in _FAMILIES:
        raise InputError(
            "unknown family",
            got=name,
            wanted=f"one of {', '.join(_FAMILIES)}",
            next_step=did_you_mean(name, _FAMILIES),
        )
    info = _FAMILIES[name]
    known = {setting.name: setting for setting in info.settings}
    if unknown := [key for key in settings if key not in known]:
        raise InputError(
            f"unknown setting of {name}",
            got=", ".join(unknown),
            wanted=f"some of {', '.join(known)}",
            next_step=did_you_mean(unknown[0], known),
        )
    values = {
        key: setting.parse(settings[key]) if key in settings else setting.default
        for key, setting in known.items()
    }
    return info.build(**values)
