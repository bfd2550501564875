"""Stopping a run: the first signal lets the batch end, the second drops it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["DroppedBatch", "Stop", "stop_on_signals"]


class DroppedBatch(BaseException):
    """A second signal: leave now; the batch at hand is lost, the ledger is not."""


class Stop:
    """Whether a signal has asked to stop.

    Attributes:
        signum: Number of the signal; None as long as there was none.
    """

    def __init__(self) -> None:
        self.signum: int | None = None

    def is_asked(self) -> bool:
        """Whether there was one."""
        return self.signum is not None


@contextmanager
def stop_on_signals(say: Callable[[str], None]) -> Iterator[Stop]:
    """Take SIGINT and SIGTERM as requests to stop, inside the block.

    Args:
        say: Tells the user that the request has been heard.

    Yields:
        The state; nothing ever sets it outside the main thread.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(signum: int, _frame: FrameType | None) -> None:
        if stop.signum is not None:
            raise DroppedBatch
        stop.signum = signum
        say(f"{signal.Signals(signum).name}: finishing this batch; once more to stop at once")

    old: dict[int, Any] = {}
    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        old[number] = signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
