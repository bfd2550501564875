"""What a search should sharpen: edges of windows, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from critwin._texts import unknown_name
from critwin.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Quantity", "Target", "parse_targets"]

Quantity = Literal["start", "midpoint", "end", "t_after", "t_before"]

_KEPT = {"start": 0.9, "midpoint": 0.5, "end": 0.1}
_FORM = re.compile(r"(?P<quantity>\w+)(?:\((?P<after>[^()|]*)(?:\|(?P<before>[^()|]*))?\))?")


@dataclass(frozen=True, kw_only=True)
class Target:
    """An edge of a window.

    Attributes:
        feature: Name of the feature, or of a product ``a*b``.
        quantity: ``"start"``, ``"midpoint"`` or ``"end"`` of what is kept (.9, .5, .1), or
            ``"t_after"`` or ``"t_before"`` of a pair of label sets.
        after: The label set A of a pair.
        before: The label set B that contains A; all labels if None.
        epsilon: Tolerance of a pair.

    Raises:
        InputError: If the quantity is unknown, or ``after`` is missing or of no use.
    """

    feature: str
    quantity: Quantity = "midpoint"
    after: tuple[str, ...] | None = None
    before: tuple[str, ...] | None = None
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        """Check the parts."""
        if self.quantity not in get_args(Quantity):
            raise InputError(
                "unknown quantity of a target",
                got=self.quantity,
                wanted="one of " + ", ".join(get_args(Quantity)),
            )
        if (self.quantity in _KEPT) != (self.after is None):
            raise InputError(
                f"target {self.feature}.{self.quantity}"
                + (" needs a label set" if self.after is None else " takes no label set"),
                wanted=f"{self.feature}.t_after(LABEL,LABEL) or {self.feature}.midpoint",
            )
        if not 0.0 < self.epsilon < 1.0:
            raise InputError(
                "epsilon is out of range", got=self.epsilon, wanted="a number in (0, 1)"
            )

    @property
    def name(self) -> str:
        """As it is written, e.g. ``digit.t_before(3|3,8)``."""
        text = f"{self.feature}.{self.quantity}"
        if self.after is None:
            return text
        rest = "" if self.before is None else "|" + ",".join(self.before)
        return f"{text}({','.join(self.after)}{rest})"

    def threshold(self, chance: float) -> float:
        """Value of its curve at the edge, the curve falling from 1 to 0.

        Args:
            chance: What the share of results falls to.

        Returns:
            The value, in (0, 1).

        Raises:
            InputError: If there is nothing to find.

        Source:
            For ``t_before``: with two groups A and the rest of B, reversibility gives
            ``TV(C[A, .], C[B, .]) = (1 - w_A / w_B) f``; a finer partition can only differ more.
        """
        if self.quantity in _KEPT:
            return _KEPT[self.quantity]
        if self.quantity == "t_after":
            value = (1.0 - self.epsilon - chance) / (1.0 - chance)
        else:
            value = self.epsilon / (1.0 - chance)
        if not 0.01 <= value <= 0.99:
            raise InputError(
                f"target {self.name} has nothing to find",
                got=f"epsilon {self.epsilon:g}, weight of the label set {chance:.3g}",
                next_step="choose another epsilon or label set",
            )
        return value

    def sets(
        self, labels: Sequence[str], weights: NDArray[Any]
    ) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
        """Indices of its label sets, checked.

        Args:
            labels: Labels of the feature.
            weights: The model's prior over them.

        Returns:
            Indices of A and of B, each None where it has none.

        Raises:
            InputError: If a label is unknown, a set is empty or without weight, or A is not
                inside B.
        """
        if self.after is None:
            return None, None
        found: list[tuple[int, ...] | None] = []
        for names in (self.after, self.before):
            if names is None:
                found.append(None)
                continue
            if unknown := [name for name in names if name not in labels]:
                raise InputError(
                    f"target {self.name} names an unknown label",
                    got=unknown[0],
                    wanted="some of " + ", ".join(labels),
                )
            found.append(tuple(sorted(labels.index(name) for name in names)))
        inner, outer = found
        assert inner is not None
        whole = set(range(len(labels))) if outer is None else set(outer)
        if not set(inner) < whole:
            raise InputError(
                f"target {self.name}: the first set must lie inside the second and be smaller"
            )
        part = float(weights[list(inner)].sum())
        if not 0.0 < part < float(weights[sorted(whole)].sum()):
            raise InputError(f"target {self.name}: a label set has no weight")
        return inner, outer


def parse_targets(
    targets: Sequence[str | Target] | str | None, features: Sequence[str]
) -> tuple[Target, ...]:
    """Targets from how they are written.

    Args:
        targets: ``"ground"`` or ``"ground.midpoint"``, ``"ground.start"``, ``"ground.end"``,
            ``"digit.t_after(3,8)"``, ``"digit.t_before(3|3,8)"`` (A, then B; all labels unless
            given), or Targets. None: the midpoint of every feature.
        features: Names of the features.

    Returns:
        The targets, each once.

    Raises:
        InputError: If one cannot be read, or its feature is not among the features.
    """
    if targets is None:
        return tuple(Target(feature=name) for name in features)
    found = []
    for item in [targets] if isinstance(targets, str) else targets:
        target = item if isinstance(item, Target) else _parsed(item, features)
        parts = [target.feature] if target.feature in features else target.feature.split("*")
        if absent := [part for part in parts if part not in features]:
            raise unknown_name("feature", absent[0], features, more=", or a product a*b")
        if target not in found:
            found.append(target)
    if not found:
        raise InputError("no targets", wanted="at least one, e.g. FEATURE.midpoint")
    return tuple(found)


def _parsed(text: str, features: Sequence[str]) -> Target:
    if text in features:
        return Target(feature=text)
    # names of features may hold dots: the longest one that fits
    names = sorted((n for n in features if text.startswith(n + ".")), key=len)
    feature, _, rest = (
        (names[-1], ".", text[len(names[-1]) + 1 :]) if names else text.partition(".")
    )
    if not names and "*" in text and "." not in text:
        return Target(feature=text)
    match = _FORM.fullmatch(rest)
    if match is None:
        raise InputError(
            "a target cannot be read",
            got=text,
            wanted="FEATURE.midpoint, .start, .end, .t_after(A) or .t_before(A|B)",
        )
    sides = [
        None if match[side] is None else tuple(part.strip() for part in match[side].split(","))
        for side in ("after", "before")
    ]
    quantity: Any = match["quantity"]
    return Target(feature=feature, quantity=quantity, after=sides[0], before=sides[1])
