"""What the cards of the digits models are written with: records, shares, tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["guided_words", "law", "read_json", "share", "summarise", "table"]

GUIDED = """\
- **With guidance {guidance:g} while OU time is from {low:g} to {high:g}**, where the digit is
  decided and the ink already is ({calls} network calls; scale and interval were compared on
  other random numbers, after wider intervals had missed the ink on these):
  the condition is read from {accuracy} of {num} images; largest error of the
  ink table {max_error:.1f} points, root mean square {rms:.1f} where counting gives {counting:.1f}
  (chi-square {chi2:.1f} on 20 degrees of freedom, p = {p_value:.2g}); ground {ground}. Wanted:
  95 % and at most 5 points, both: {goal}. This is how to draw good images of a digit:
  `load_digits(guidance=GUIDANCE, guidance_interval=GUIDANCE_INTERVAL)`. What is measured
  elsewhere, here too, is the model without guidance.
"""


def read_json(path: Path) -> dict[str, Any]:
    """Read a record."""
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def summarise(log: Path, minutes: float, notes: list[str]) -> dict[str, Any]:
    """Condense the training log.

    Args:
        log: ``log.jsonl`` of the training script. Steps that an interruption made the script
            repeat appear twice; the later row counts.
        minutes: Wall time of training.
        notes: What else a reader must know, a sentence each.

    Returns:
        The record kept as ``training.json``; losses are averaged over blocks of 250 steps.
    """
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    losses: dict[int, list[float]] = {}
    for step, row in sorted({row["step"]: row for row in rows}.items()):
        losses.setdefault(-(-step // 250) * 250, []).append(row["loss"])
    return {
        "steps": max(row["step"] for row in rows),
        "minutes": minutes,
        "hardware": "2 CPU cores (AMD EPYC, AVX2)",
        "notes": notes,
        "loss": [[step, sum(block) / len(block)] for step, block in losses.items()],
    }


def table(head: list[str], rows: list[list[str]]) -> str:
    """Draw a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def share(row: dict[str, Any]) -> str:
    """Write a share with its interval."""
    low, high = row["interval_95"]
    return f"{row['value']:.1%} ({low:.1%} to {high:.1%})"


def law(row: dict[str, Any]) -> str:
    """Write the generated law of a feature."""
    return ", ".join(
        f"{name} {part:.1%}" for name, part in zip(row["labels"], row["generated"], strict=True)
    )


def guided_words(row: dict[str, Any] | None) -> str:
    """Say what guidance in an interval does, if it was measured.

    Args:
        row: ``guided`` of ``evaluation.json``.

    Returns:
        An item of the card, or nothing.
    """
    if row is None:
        return ""
    found, (low, high) = row["conditional"], row["guidance_interval"]
    ink, accuracy = found["ink_table"], found["digit_accuracy"]
    is_good = accuracy["value"] >= 0.95 and ink["max_error"] <= 0.05
    return GUIDED.format(
        guidance=row["guidance"],
        low=low,
        high=high,
        calls=row["network_calls"],
        accuracy=share(accuracy),
        num=accuracy["of"],
        max_error=100 * ink["max_error"],
        rms=100 * ink["rms_error"],
        counting=100 * ink["rms_expected_from_counting"],
        chi2=ink["chi2"],
        p_value=ink["chi2_p_value"],
        ground=law(found["ground"]),
        goal="reached" if is_good else "**missed**",
    )
