"""Shards: parts of a run that several processes measure apart, on machines that share nothing.

A shard has the sources whose position leaves its remainder, and all units of theirs. Shards of one
run share no unit and no source, every unit belongs to one of them, and a source keeps its shard
when the run grows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from critwin.errors import InputError

if TYPE_CHECKING:
    from critwin.experiments.sources import Source

__all__ = ["Shard", "shard_of"]

MOST = 100_000
_TEXT = re.compile(r"(\d{1,9})/(\d{1,9})", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """Part ``number`` of ``count`` of a run.

    Attributes:
        number: From 1 to ``count``.
        count: How many shards the run has.

    Raises:
        InputError: If there is no such part.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 1 <= self.number <= self.count <= MOST:
            raise InputError(
                "there is no such shard",
                got=f"{self.number}/{self.count}",
                wanted="i/N with i from 1 to N",
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard as the command line names it.

        Args:
            text: ``"i/N"``, counted from 1.

        Returns:
            The shard.

        Raises:
            InputError: If the text is no shard.
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise InputError("not a shard", got=text, wanted="i/N with i from 1 to N, e.g. 2/8")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        """``"i/N"``."""
        return f"{self.number}/{self.count}"

    def as_list(self) -> list[int]:
        """Plain values for ``run.json``."""
        return [self.number, self.count]

    def folder(self, out: str) -> str:
        """The run folder of this shard, beside that of the whole run.

        Args:
            out: The run folder of the whole.

        Returns:
            Another folder for each shard.
        """
        return f"{out.rstrip('/')}-shard-{self.number}-of-{self.count}"

    def own(self, sources: Sequence[Source]) -> list[Source]:
        """Sources that belong to this shard.

        Args:
            sources: All sources of the run.

        Returns:
            Some of them, in order.

        Raises:
            InputError: If none does.
        """
        found = [source for source in sources if source.index % self.count == self.number - 1]
        if not found:
            raise InputError(
                "this shard has no source",
                got=f"shard {self} of {len(sources)} sources",
                wanted="at most as many shards as sources",
            )
        return found


def shard_of(info: dict[str, Any]) -> Shard | None:
    """The shard that a run folder holds.

    Args:
        info: Its ``run.json``.

    Returns:
        The shard; None if it holds a whole run.
    """
    plain = info.get("shard")
    return None if plain is None else Shard(int(plain[0]), int(plain[1]))
