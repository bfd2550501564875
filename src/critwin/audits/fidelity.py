"""Whether an image is of the condition: the feature and label that tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from critwin._texts import unknown_name
from critwin.errors import InputError

if TYPE_CHECKING:
    from critwin.records import Records

__all__ = ["check_fidelity", "fidelity_of", "refuse_attribute"]


def fidelity_of(records: Records, condition: str | None, attribute: str) -> tuple[str, str] | None:
    """The one feature beside the attribute that has the condition as a label, if there is one.

    Args:
        records: Records.
        condition: The condition.
        attribute: The attribute.

    Returns:
        Feature and label, or None.
    """
    named = [
        name
        for name, columns in records.features.items()
        if name != attribute and condition in columns.labels
    ]
    return (named[0], str(condition)) if len(named) == 1 and condition is not None else None


def check_fidelity(records: Records, fidelity: tuple[str, str] | None, attribute: str) -> None:
    """Refuse a fidelity that cannot be read off the images, or that is the attribute itself.

    Args:
        records: Records.
        fidelity: Feature and label; None is accepted.
        attribute: The attribute that is audited.

    Raises:
        InputError: If there is no such feature or label, or the feature is the attribute.
    """
    if fidelity is None:
        return
    name, label = fidelity
    refuse_attribute(name, attribute)
    if name not in records.features:
        raise unknown_name("feature", name, records.features)
    if label not in records.features[name].labels:
        raise unknown_name(f"label of {name!r}", label, records.features[name].labels)


def refuse_attribute(name: str, attribute: str) -> None:
    """Refuse to tell fidelity by the attribute: what changes the one would count as loss.

    Args:
        name: Feature that is to tell whether an image is of the condition.
        attribute: The attribute.

    Raises:
        InputError: If they are the same.
    """
    if name == attribute:
        raise InputError(
            "fidelity cannot be told by the attribute that is audited",
            got=name,
            wanted="another feature, which says whether an image is still of the condition",
            next_step="name another one, or leave it out",
        )
