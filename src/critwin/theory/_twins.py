"""Components of one law: what no level of noise can tell apart, in words."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from critwin._texts import some_of

if TYPE_CHECKING:
    from critwin.theory.mixtures import GaussianMixture

__all__ = ["identical_components", "undecided"]

_MOST_GROUPS = 5  # that are told one by one


def identical_components(m: GaussianMixture) -> tuple[tuple[str, ...], ...]:
    """Components that have one mean and one covariance, to the last digit.

    Args:
        m: The mixture; weights do not matter.

    Returns:
        Their names in groups of two or more, in the order of the mixture; empty where all
        components differ.
    """
    groups: dict[bytes, list[str]] = {}
    for k, name in enumerate(m.names):
        digest = hashlib.blake2b((m.means[k] + 0.0).numpy().tobytes(), digest_size=16)  # -0 is 0
        if not m.is_shared:
            digest.update((m.covariances[k] + 0.0).numpy().tobytes())
        groups.setdefault(digest.digest(), []).append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def undecided(m: GaussianMixture) -> tuple[str, ...]:
    """Sentences about what is never decided, because there is nothing to decide between.

    Args:
        m: The mixture.

    Returns:
        A sentence for a single component, or for each group of identical ones.
    """
    if m.num_components == 1:
        return ("one component: nothing is decided",)
    groups = identical_components(m)
    notes = []
    for group in groups[:_MOST_GROUPS]:
        if len(group) == m.num_components > 2:
            who = f"all {len(group)} components"
        elif len(group) > 12:
            who = f"components {some_of(group)}"
        else:
            who = f"components {', '.join(group[:-1])} and {group[-1]}"
        notes.append(f"{who} are identical: no level of noise separates them")
    if len(groups) > _MOST_GROUPS:
        notes.append(f"{len(groups) - _MOST_GROUPS} more groups of components are identical")
    return tuple(notes)
