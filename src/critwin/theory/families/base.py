"""What a family is: a mixture with sets to ask about, its published times, and its settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from critwin.errors import InputError

if TYPE_CHECKING:
    from critwin.theory.families.masking import MaskingCurves
    from critwin.theory.mixtures import GaussianMixture

__all__ = ["Family", "FamilyInfo", "PublishedTime", "Setting", "Value"]

Value = float | int | tuple[float, ...]


def _no_closed_form(epsilon: float) -> dict[str, float | None]:
    """Nothing is known in closed form, at any ``epsilon``."""
    return {}


_LARGEST = 1e50


@dataclass(frozen=True, kw_only=True)
class PublishedTime:
    """A time that a paper prints for a family, or its correction. Shown beside exact windows.

    Attributes:
        name: What it is, in words.
        symbol: The quantity that it speaks about, e.g. ``T_before``.
        value: OU time (``masking``: mask probability), or None where the formula has no value. A
            negative lower bound is printed as it is: it says nothing.
        bound: Whether the value is meant as a ``"lower"`` or an ``"upper"`` bound of the symbol,
            or as an ``"approximation"``.
        is_valid_bound: Whether it is proved, or checked against the exact value, that the bound
            holds for this family, these settings and this epsilon. Never for an approximation.
        kind: ``"published"``: as printed; ``"corrected"``: what its proof gives, or what holds in
            its place; ``"derived"``: not in the paper, derived in docs/theory/families.md.
        source: Where it is from.
        note: What to know before using it.
    """

    name: str
    symbol: str
    value: float | None
    bound: Literal["lower", "upper", "approximation"]
    is_valid_bound: bool
    kind: Literal["published", "corrected", "derived"]
    source: str
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        from critwin.estimates import plain

        result: dict[str, Any] = plain(self)
        return result


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of a family.

    Attributes:
        name: Its name, as in ``--set name=value``.
        kind: ``"number"``, ``"whole number"`` or ``"numbers"`` (a list, or text with commas).
        default: Its value unless given.
        meaning: In words.
        low: Smallest value accepted, of each number.
        high: Largest value accepted.
        is_open: Whether ``low`` and ``high`` themselves are refused.
    """

    name: str
    kind: Literal["number", "whole number", "numbers"]
    default: Value
    meaning: str
    low: float = -math.inf
    high: float = math.inf
    is_open: bool = False

    def parse(self, value: object) -> Value:
        """Check a value given in Python or as text.

        Args:
            value: A number, its text, or for ``"numbers"`` a sequence or text with commas.

        Returns:
            The value: float, int, or a tuple of floats.

        Raises:
            InputError: If it is not of the setting's kind, or out of range.
        """
        parts: Sequence[object] = [value]
        if self.kind == "numbers":
            if isinstance(value, str):
                parts = value.split(",")
            elif isinstance(value, Sequence):
                parts = value
        numbers = [self._number(part, value) for part in parts]
        if not numbers:
            raise self._refusal(value)
        if self.kind == "numbers":
            return tuple(numbers)
        return int(numbers[0]) if self.kind == "whole number" else numbers[0]

    @property
    def wanted(self) -> str:
        """What is accepted, in words."""
        words = {"number": "a number", "whole number": "a whole number"}
        text = words.get(self.kind, "numbers")
        strict = "" if self.is_open else "="
        if self.low > -math.inf:
            text += f" >{strict} {self.low:g}"
        if self.high < math.inf:
            text += f"{' and' if self.low > -math.inf else ''} <{strict} {self.high:g}"
        return text + (", with commas between them" if self.kind == "numbers" else "")

    def _number(self, part: object, whole: object) -> float:
        if isinstance(part, bool):
            raise self._refusal(whole)
        try:
            number = float(part)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise self._refusal(whole) from error
        is_inside = self.low <= number <= self.high
        if self.is_open:
            is_inside &= number not in (self.low, self.high)
        if not math.isfinite(number) or not is_inside:
            raise self._refusal(whole)
        if abs(number) > _LARGEST:
            raise InputError(
                f"setting {self.name!r} is too large",
                got=whole,
                wanted=f"at most {_LARGEST:g}, whose square is still a number",
            )
        if self.kind == "whole number" and number != int(number):
            raise self._refusal(whole)
        return number

    def _refusal(self, value: object) -> InputError:
        return InputError(
            f"setting {self.name!r} cannot be used",
            got=value if str(value).strip() else repr(value),
            wanted=self.wanted,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Family:
    """A named example: its law, the sets that it is asked about, and the formulas about them.

    Attributes:
        name: Name of the family.
        summary: One line.
        parameters: The settings it was built with, all of them.
        mixture: The law, or None where it is no Gaussian mixture (``masking``).
        after: The set ``S_after`` that its formulas speak about, names of components.
        before: The set ``S_before`` that contains it. Both are empty where there are no labels
            (``gaussian-tree``).
        unit: Of all times: OU time ``"t"``, or ``"mask"``, a mask probability.
        formulas: Published times as a function of epsilon; use :meth:`published`.
        closed_forms: Exact times as a function of epsilon; use :meth:`exact`.
        masking: The exact curves of the family ``masking``, else None.
    """

    name: str
    summary: str
    parameters: Mapping[str, Value]
    mixture: GaussianMixture | None
    after: tuple[str, ...]
    before: tuple[str, ...]
    unit: Literal["t", "mask"] = "t"
    formulas: Callable[[float], tuple[PublishedTime, ...]]
    closed_forms: Callable[[float], dict[str, float | None]] = _no_closed_form
    masking: MaskingCurves | None = None

    def published(self, epsilon: float) -> tuple[PublishedTime, ...]:
        """The published times, their corrections, and what is derived beside them.

        Args:
            epsilon: Tolerance of the window, in (0, 1).

        Returns:
            In the order in which they are to be shown.

        Raises:
            InputError: If epsilon is out of range.
        """
        return self.formulas(_checked_epsilon(epsilon))

    def exact(self, epsilon: float) -> dict[str, float | None]:
        """Exact times in closed form: symbol -> OU time (``masking``: mask probability).

        Args:
            epsilon: Tolerance of the window, in (0, 1).

        Returns:
            Empty where no closed form is known. None: the time does not exist (for ``T_after``:
            the set is never separated from the rest at this epsilon).

        Raises:
            InputError: If epsilon is out of range.
        """
        return self.closed_forms(_checked_epsilon(epsilon))


@dataclass(frozen=True, eq=False, kw_only=True)
class FamilyInfo:
    """A family before it is built.

    Attributes:
        name: Its name.
        summary: One line.
        settings: What can be set.
        source: Where it is from.
        build: Makes the family from values of all settings.
    """

    name: str
    summary: str
    settings: tuple[Setting, ...]
    source: str
    build: Callable[..., Family]


def _checked_epsilon(epsilon: float) -> float:
    if not 0.0 < epsilon < 1.0:
        raise InputError("epsilon is out of range", got=epsilon, wanted="a number in (0, 1)")
    return float(epsilon)
