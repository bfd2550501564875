"""Names of files for advice, one for every question: a folder keeps the answers to several."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from critwin.audits._editing_rates import Wish

__all__ = ["slug_of"]

_PLAIN = re.compile(r"[a-z0-9]+")
_WORDS = {"and", "change", "is", "or", "to"}
_LONGEST = 62
_DIGITS = 8


def slug_of(
    keep: Sequence[Wish], change: Sequence[Wish], where: Mapping[str, Any] | None = None
) -> str:
    """What tells the advice on one question from that on others in the same folder.

    Args:
        keep: What to keep.
        change: What to change.
        where: Rows that are asked; all unless given.

    Returns:
        E.g. ``"keep-ground-change-ink"``, ``"keep-digit-is-8-change-ink-to-red-or-blue"``; with a
        digest where the names alone would not tell, or are too long.
    """
    sides = (_words(keep, "is"), _words(change, "to"))
    text = f"keep-{sides[0]}-change-{sides[1]}"
    names = [name for wish in (*keep, *change) for name in (wish.feature, *wish.labels)]
    is_plain = all(_PLAIN.fullmatch(name) and name not in _WORDS for name in names)
    if is_plain and not where and len(text) <= _LONGEST:
        return text
    key = [[(w.feature, w.labels) for w in wishes] for wishes in (keep, change)]
    chosen = sorted((name, str(value)) for name, value in (where or {}).items())
    digest = hashlib.sha256(repr((key, chosen)).encode()).hexdigest()[:_DIGITS]
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower())[: _LONGEST - _DIGITS - 1].strip("-")
    return f"{plain}-{digest}"


def _words(wishes: Sequence[Wish], verb: str) -> str:
    return "-and-".join(
        "-".join([w.feature, *([verb, "-or-".join(w.labels)] if w.labels else [])]) for w in wishes
    )
