"""Fingerprints: digests of everything that can change what a feature reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from critwin.features._inputs import to_numpy

__all__ = ["fingerprint_of"]


def fingerprint_of(kind: str, **parts: Any) -> str:
    """Digest of everything that changes a feature's readings.

    Args:
        kind: What the feature is, with a version of its rule, e.g. ``"ground/1"``.
        **parts: Plain values, arrays, tensors, or (nested) mappings and sequences of them.

    Returns:
        16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256()
    _feed(digest, [kind, parts])
    return digest.hexdigest()[:16]


def _feed(digest: Any, value: Any) -> None:
    """Feed a value with its type and size, so that no two structures collide."""
    if isinstance(value, Mapping):
        digest.update(b"{%d" % len(value))
        for key in sorted(value, key=str):
            _feed(digest, str(key))
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(b"[%d" % len(value))
        for item in value:
            _feed(digest, item)
    elif isinstance(value, np.ndarray) or hasattr(value, "detach"):
        array = np.ascontiguousarray(to_numpy(value))
        digest.update(f"a{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    elif isinstance(value, bytes):
        digest.update(b"b%d:" % len(value))
        digest.update(value)
    else:
        digest.update(f"j{json.dumps(value)};".encode())
