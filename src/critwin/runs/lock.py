"""One writer per run folder: a lock file that names its holder and dies with it.

The kernel drops an ``flock`` when its process ends, however it ends, so a lock left by a killed
writer is taken over without guessing. Where files cannot be locked, the process id decides.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from critwin.errors import RunFolderError

fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None  # not on Windows

__all__ = ["LOCK_NAME", "holder", "locked", "refuse_if_locked"]

LOCK_NAME = "run.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder.

    Args:
        folder: The run folder; it exists.

    Yields:
        Nothing; the lock is held inside.

    Raises:
        RunFolderError: If another process writes there, or left a lock on another host.
    """
    path = folder / LOCK_NAME
    descriptor = _acquire(path)
    try:
        text = json.dumps({"pid": os.getpid(), "host": _host()}) + "\n"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def holder(folder: Path) -> dict[str, object] | None:
    """Who writes to a run folder now.

    Args:
        folder: The run folder.

    Returns:
        ``pid`` and ``host`` of a live writer, or None.
    """
    path = folder / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        found = _read(descriptor)
        if found is None or (found.get("host") == _host() and _try_flock(descriptor)):
            return None
        return found if _may_live(found) else None
    finally:
        os.close(descriptor)


def refuse_if_locked(folder: Path) -> None:
    """Refuse at once if another process writes to a run folder, before anything slow is done.

    Args:
        folder: The run folder; it need not exist.

    Raises:
        RunFolderError: If there is such a process.
    """
    found = holder(folder)
    if found is not None:
        raise _refusal(folder, found)


def _refusal(folder: Path, found: Mapping[str, object]) -> RunFolderError:
    return RunFolderError(
        f"another process writes to {str(folder)!r}",
        got=f"process {found.get('pid', 'unknown')} on {found.get('host', 'unknown')}",
        next_step=f"wait for it or stop it; if it is dead, delete {LOCK_NAME} there",
    )


def _acquire(path: Path) -> int:
    for attempt in range(4):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        found = _read(descriptor)
        is_ours = _try_flock(descriptor)
        if is_ours is None:  # no locks here: the process id decides
            is_ours = found is None or not _may_live(found)
        elif is_ours and found is not None and found.get("host") != _host():
            is_ours = False  # its holder may live where our lock is not seen
        with suppress(OSError):
            # the previous holder may have unlinked the file between our open and our lock
            if is_ours and path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)
        if not is_ours and attempt:
            raise _refusal(path.parent, found or {})
        time.sleep(0.05)  # someone may only have been looking
    raise RunFolderError(f"cannot lock {str(path.parent)!r}", next_step="try again")


def _try_flock(descriptor: int) -> bool | None:
    """Whether the lock is ours; None where files cannot be locked."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _host() -> str:
    return socket.gethostname()


def _read(descriptor: int) -> dict[str, object] | None:
    try:
        found = json.loads(os.pread(descriptor, 1000, 0) or b"null")
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _may_live(found: dict[str, object]) -> bool:
    pid = found.get("pid")
    if found.get("host") != _host() or not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
