"""Sentences of audits against numbers that a test found by itself, from the rows of the ledger.

A claim is a sentence with ``{}`` in place of each number, and the numbers that belong there,
computed by the test. Every sentence must be one of the claims, and every number of it right to the
last digit that is printed: nothing is said that was not computed again.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

Number: TypeAlias = float | tuple[float, float]
"""A number; or limits between which it must lie, for what is drawn at random."""

Claim: TypeAlias = tuple[str, Sequence[Number]]

_NUMBER = r"-?(?:\d+(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?"


def ledger_rows(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of a run folder's ledger, read without the package.

    Args:
        folder: The run folder.

    Returns:
        Sources by name, and units by source, level (noise growing) and replicate. ``planted`` and
        ``reading`` are as JSON has them, ``clean`` is flat float32.
    """
    connection = sqlite3.connect(f"file:{folder / 'ledger.sqlite'}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    sources = [dict(row) for row in connection.execute("SELECT * FROM sources ORDER BY name")]
    units = [
        dict(row)
        for row in connection.execute(
            "SELECT * FROM units ORDER BY source, logsnr DESC, replicate"
        )
    ]
    connection.close()
    for row in [*sources, *units]:
        for name in {"planted", "reading"} & row.keys():
            row[name] = json.loads(row[name])
        if "clean" in row:
            row["clean"] = np.frombuffer(row["clean"], dtype="<f4")
    return sources, units


def check(sentences: Iterable[str], claims: Sequence[Claim]) -> None:
    """Fail unless every sentence is a claim with its numbers, and every claim is made.

    Args:
        sentences: What the audit says.
        claims: What it must say, in any order.
    """
    left = list(claims)
    for sentence in sentences:
        reasons = []
        for claim in left:
            reason = _mismatch(sentence, *claim)
            if reason is None:
                left.remove(claim)
                break
            reasons.append(reason)
        else:
            raise AssertionError(
                f"not what was computed again: {sentence!r}: " + "; ".join(r for r in reasons if r)
            )
    assert not left, f"not said: {left}"


def with_a_wrong_number(sentences: Sequence[str]) -> Iterator[list[str]]:
    """The sentences with one number changed, for every number in turn.

    Args:
        sentences: What the audit says.

    Yields:
        All sentences, one of them wrong.
    """
    for row, sentence in enumerate(sentences):
        for found in re.finditer(_NUMBER, sentence):
            wrong = sentence[: found.start()] + _other(found.group()) + sentence[found.end() :]
            yield [*sentences[:row], wrong, *sentences[row + 1 :]]


def check_and_plant(sentences: Sequence[str], claims: Sequence[Claim]) -> int:
    """Check the sentences, and that no number of them could be wrong without being noticed.

    Args:
        sentences: What the audit says.
        claims: What it must say.

    Returns:
        How many numbers were planted and found.
    """
    check(sentences, claims)
    count = 0
    for wrong in with_a_wrong_number(sentences):
        with pytest.raises(AssertionError, match="not what was computed again"):
            check(wrong, claims)
        count += 1
    return count


def _mismatch(sentence: str, template: str, values: Sequence[Number]) -> str | None:
    """Why a sentence is not a claim; empty where it is about something else."""
    parts = template.split("{}")
    assert len(parts) == len(values) + 1, template
    found = re.fullmatch(f"({_NUMBER})".join(map(re.escape, parts)), sentence)
    if found is None:
        return ""
    for text, value in zip(found.groups(), values, strict=True):
        low, high = value if isinstance(value, tuple) else (value, value)
        half = 0.5 * _last_digit(text) + 1e-9 * max(abs(low), abs(high), 1.0)
        if not low - half <= float(text) <= high + half:
            return f"{text} instead of {value}"
    return None


def _last_digit(text: str) -> float:
    """Worth of the last digit that is printed."""
    mantissa, _, exponent = text.partition("e")
    _, _, decimals = mantissa.partition(".")
    return float(10.0 ** (int(exponent or 0) - len(decimals)))


def _other(text: str) -> str:
    """Another number, two last digits away."""
    mantissa, sign, exponent = text.partition("e")
    decimals = len(mantissa.partition(".")[2])
    value = float(mantissa) + 2.0 * 10.0**-decimals
    return f"{value:.{decimals}f}{sign}{exponent}"
