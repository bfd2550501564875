"""Blocks of queries side by side, each on one core: cores that wait for each other lose time."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

_FEWEST = 3  # blocks that each core should get; with fewer, cores share each operation


def in_order(call: Callable[[int], T], keys: Sequence[int], device: torch.device) -> Iterator[T]:
    """Results in the order of the keys, computed side by side where that pays.

    At most two blocks a core are under way or wait to be fetched, so memory stays bounded.

    Args:
        call: Computes one block; it only reads what others read too.
        keys: What to call it with.
        device: Where it computes; other devices than the CPU take one block at a time.

    Yields:
        The results.
    """
    cores = torch.get_num_threads()
    if device.type != "cpu" or cores == 1 or len(keys) < _FEWEST * cores:
        yield from map(call, keys)
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(cores) as pool:
            waiting: deque[Future[T]] = deque()
            try:
                for key in keys:
                    waiting.append(pool.submit(call, key))
                    if len(waiting) > 2 * cores:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
    finally:
        torch.set_num_threads(cores)
