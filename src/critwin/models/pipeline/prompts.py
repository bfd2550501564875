"""Conditions as tensors, each worked out once, and prompts that a text encoder cannot read whole.

Text encoders run once a distinct prompt, a prompt at a time: so an embedding does not depend on
the prompts beside it. The tensors wait on the CPU.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from critwin.models.pipeline.families import Condition, Family
    from critwin.models.pipeline.placement import Placement

__all__ = ["Conditions", "truncation_note"]

_LOG = logging.getLogger(__name__)


class Conditions:
    """Tensors of conditions, computed when first asked for.

    Attributes:
        num_encodings: Number of conditions that were worked out.
        notes: What was said of prompts that are too long.

    Args:
        pipe: The pipeline.
        family: What its network needs.
        placement: Where its parts run.
    """

    def __init__(self, pipe: Any, family: Family, placement: Placement) -> None:
        self._pipe, self._family, self._placement = pipe, family, placement
        self._known: dict[str | None, dict[str, torch.Tensor]] = {}
        self.num_encodings = 0
        self.notes: list[str] = []

    def rows(self, conditions: Sequence[str | None], like: torch.Tensor) -> Condition:
        """Tensors of a batch of conditions.

        Args:
            conditions: A condition a row, or None.
            like: The device and the floating type that the network wants.

        Returns:
            Name -> tensor, shape ``(N, ...)``.
        """
        each = [self._one(condition) for condition in conditions]
        out = {}
        for name in each[0] if each else ():
            stacked = torch.cat([one[name] for one in each])
            dtype = like.dtype if stacked.is_floating_point() else stacked.dtype
            out[name] = stacked.to(device=like.device, dtype=dtype)
        return out

    def notes_on(self, conditions: Sequence[str | None]) -> list[str]:
        """What would not be read of some prompts.

        Args:
            conditions: The prompts, and None.

        Returns:
            One line for every tokenizer and prompt that is too long for it.
        """
        found = [
            truncation_note(tokenizer, limit, condition)
            for condition in conditions
            for tokenizer, limit in self._family.tokenizers
            if condition
        ]
        return list(dict.fromkeys(note for note in found if note is not None))

    def _one(self, condition: str | None) -> dict[str, torch.Tensor]:
        if condition not in self._known:
            family = self._family
            parts = [getattr(self._pipe, name, None) for name in family.encoders]
            with torch.inference_mode(), self._placement.use(*parts):
                found = family.embed(condition, self._placement)
                self._known[condition] = {name: value.cpu() for name, value in found.items()}
            self.num_encodings += bool(family.encoders)
            for note in self.notes_on([condition]):
                if note not in self.notes:
                    self.notes.append(note)
                    _LOG.warning(note)
        return self._known[condition]


def truncation_note(tokenizer: Any, limit: int, prompt: str) -> str | None:
    """What a text encoder does not read of a prompt, in words.

    Args:
        tokenizer: The tokenizer.
        limit: Number of tokens that are read, the marks of beginning and end among them.
        prompt: The prompt.

    Returns:
        One line, or None if all of it is read.
    """
    num = len(tokenizer(prompt).input_ids)
    if num <= limit:
        return None
    shown = prompt if len(prompt) <= 60 else prompt[:59] + "…"
    return (
        f"prompt {shown!r} is too long: {type(tokenizer).__name__} makes {num} tokens of it and "
        f"the text encoder reads {limit}; what comes after them has no effect"
    )
