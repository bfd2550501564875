"""What a fairness audit is asked, checked against labels and conditions before anything is read.

Features and their labels are known from ``run.json``, or from what a run that is about to start
has loaded, long before there are rows; so are references and error matrices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from critwin._texts import some_of, unknown_name
from critwin.audits.references import Reference, reference_of
from critwin.errors import InputError

if TYPE_CHECKING:
    from critwin.features.labelling import ErrorMatrix

__all__ = [
    "Labels",
    "Question",
    "check_fidelity",
    "check_question",
    "condition_among",
    "fidelity_of",
    "refuse_attribute",
]

Labels: TypeAlias = Mapping[str, Sequence[str]]
"""Feature -> its labels."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of one condition and one attribute.

    Attributes:
        attribute: The attribute.
        reference: ``"uniform"``, ``"data"``, label -> share, or a CSV file of shares.
        fidelity: Feature and label that say that an image is of the condition.
        errors: Error matrix of the attribute's labeller.
    """

    attribute: str
    reference: str | Path | Mapping[str, float] | Reference = "uniform"
    fidelity: tuple[str, str] | None = None
    errors: ErrorMatrix | None = None


def check_question(asked: Question, labels: Labels) -> None:
    """Refuse what cannot be asked of these features.

    Args:
        asked: What is asked.
        labels: Feature -> its labels.

    Raises:
        InputError: If the attribute, the fidelity, the reference or the error matrix names what
            there is not, or the attribute has one group only.
    """
    attribute = asked.attribute
    if attribute not in labels:
        raise unknown_name("feature", attribute, labels)
    own = labels[attribute]
    if len(own) < 2:
        raise InputError(
            f"feature {attribute!r} has one group only", got=own[0], wanted="two or more labels"
        )
    check_fidelity(labels, asked.fidelity, attribute)
    if asked.errors is not None and set(asked.errors.labels) != set(own):
        raise InputError(
            f"the error matrix is not of {attribute!r}: its labels are others",
            got=some_of(asked.errors.labels),
            wanted=some_of(own),
            next_step=f"measure the labeller of {attribute!r}",
        )
    if asked.reference != "data":  # shares in the data are looked up where the model is known
        reference_of(asked.reference, own)


def check_fidelity(labels: Labels, fidelity: tuple[str, str] | None, attribute: str) -> None:
    """Refuse a fidelity that cannot be read off the images, or that is the attribute itself.

    Args:
        labels: Feature -> its labels.
        fidelity: Feature and label; None is accepted.
        attribute: The attribute that is audited.

    Raises:
        InputError: If there is no such feature or label, or the feature is the attribute.
    """
    if fidelity is None:
        return
    name, label = fidelity
    refuse_attribute(name, attribute)
    if name not in labels:
        raise unknown_name("feature", name, labels)
    if label not in labels[name]:
        raise unknown_name(f"label of {name!r}", label, labels[name])


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


def fidelity_of(labels: Labels, condition: str | None, attribute: str) -> tuple[str, str] | None:
    """The one feature beside the attribute that has the condition as a label, if there is one.

    Args:
        labels: Feature -> its labels.
        condition: The condition.
        attribute: The attribute.

    Returns:
        Feature and label, or None.
    """
    named = [name for name, own in labels.items() if name != attribute and condition in own]
    return (named[0], str(condition)) if len(named) == 1 and condition is not None else None


def condition_among(known: Sequence[str | None], condition: str | None) -> str:
    """The condition that is audited.

    Args:
        known: Conditions of the images; None or ``""``: none.
        condition: The condition, ``"none"`` for none; None: the only one there is.

    Returns:
        Its name in records, ``""`` for none.

    Raises:
        InputError: If there is no such condition, or there are several and none was named.
    """
    names = sorted({name or "" for name in known})
    shown = [name or "none" for name in names]
    if condition is None:
        if len(names) != 1:
            raise InputError(
                "the images have several conditions; one is audited at a time",
                got=some_of(shown),
                wanted="one of them",
                next_step="name one of them (--condition)",
            )
        return names[0]
    if condition not in shown:
        raise unknown_name("condition of the images", condition, shown)
    return "" if condition == "none" else condition
