"""Where the numbers come from, as rows for the page: nothing that should not be passed on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from critwin.reports.wording import redact, scrub

__all__ = ["config_text", "rows"]

_LONGEST = 500


def rows(values: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested plain values as rows, home folders, user names and tokens removed.

    Args:
        values: Mappings, lists and plain values; a list of mappings with a ``name`` each goes by
            these names.
        name: Name in front.

    Returns:
        Names, as in ``features.ink.fingerprint``, and values, in order; nothing for what is
        empty, and one row for all ``versions``.
    """
    if isinstance(values, Mapping) and name == "versions":
        return rows([f"{key} {value}" for key, value in values.items()], name)
    if isinstance(values, Mapping):
        pairs = [(str(key), value) for key, value in values.items()]
    elif isinstance(values, list | tuple) and any(isinstance(x, Mapping) for x in values):
        pairs = [
            (str(x.get("name", number)) if isinstance(x, Mapping) else str(number), x)
            for number, x in enumerate(values)
        ]
        pairs = [
            (key, {k: v for k, v in x.items() if k != "name"} if isinstance(x, Mapping) else x)
            for key, x in pairs
        ]
    else:
        shown = ", ".join(str(x) for x in values) if isinstance(values, list | tuple) else values
        if shown in (None, "", "[]", "{}"):
            return []
        text = scrub(shown)
        return [(name, text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")]
    found = []
    for key, value in pairs:
        found += rows(value, f"{name}.{scrub(key)}" if name else scrub(key))
    return found


def config_text(config: Any) -> str:
    """An experiment file for reading, home folders and tokens removed.

    Args:
        config: Nested plain values.

    Returns:
        Indented JSON.
    """
    return redact(json.dumps(config, indent=2, ensure_ascii=False, default=str))
