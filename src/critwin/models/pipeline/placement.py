"""Where a pipeline's parts run: device, precision, and what waits on the CPU meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch

from critwin.errors import InputError, MissingExtraError

__all__ = ["DTYPES", "OFFLOADS", "Placement", "device_of", "dtype_of"]

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
"""Precisions that a pipeline can be loaded in."""

OFFLOADS = ("none", "model", "sequential")
"""What waits on the CPU: nothing; every part that is not in use; every layer not in use."""


def dtype_of(name: str | torch.dtype | None) -> torch.dtype:
    """A precision by name.

    Args:
        name: One of :data:`DTYPES`; None: float32.

    Returns:
        The type.

    Raises:
        InputError: If it is unknown.
    """
    if name is None:
        return torch.float32
    if isinstance(name, torch.dtype):
        name = str(name).removeprefix("torch.")
    if name not in DTYPES:
        raise InputError("unknown precision", got=name, wanted="one of " + ", ".join(DTYPES))
    return DTYPES[name]


def device_of(name: str | torch.device | None) -> torch.device:
    """A device by name, checked to be there.

    Args:
        name: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; None: the CPU.

    Returns:
        The device.

    Raises:
        InputError: If this PyTorch does not have it.
    """
    try:
        device = torch.device("cpu" if name is None else name)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            "unknown device", got=str(name), wanted='"cpu", "cuda", "cuda:1" or "mps"'
        ) from error
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        num = torch.cuda.device_count()
        raise InputError(
            "this device is not there",
            got=str(name),
            wanted='"cpu"' + (f', or one of {num} CUDA devices from "cuda:0" up' if num else ""),
            next_step=None
            if num or device.type != "cuda"
            else "this PyTorch sees no CUDA device: look at the driver, and whether PyTorch was "
            "installed with CUDA",
        ) from error
    return device


class Placement:
    """Moves parts of a pipeline to its device while they are used.

    Attributes:
        device: Where networks run.
        offload: One of :data:`OFFLOADS`.

    Args:
        device: Where networks run.
        offload: ``"model"`` keeps one group of parts on the device at a time; ``"sequential"``
            lets ``accelerate`` move layer by layer.
    """

    def __init__(self, device: torch.device, offload: str = "none") -> None:
        if offload not in OFFLOADS:
            raise InputError(
                "unknown offload", got=offload, wanted="one of " + ", ".join(OFFLOADS)
            )
        self.device = device
        self.offload = offload
        self._there: tuple[Any, ...] = ()

    def settle(self, pipe: Any) -> None:
        """Put the pipeline's parts where they wait for their use.

        Args:
            pipe: The pipeline, on the CPU.

        Raises:
            InputError: If layers cannot be moved one by one.
            MissingExtraError: If ``accelerate`` is needed and not installed.
        """
        if self.offload == "none":
            pipe.to(self.device)
        elif self.offload == "sequential":
            if self.device.type == "cpu":
                raise InputError("offload needs another device than the CPU", got=str(self.device))
            if find_spec("accelerate") is None:
                raise MissingExtraError(
                    "'accelerate' is not installed",
                    next_step='run: pip install accelerate, or use offload = "model"',
                )
            pipe.enable_sequential_cpu_offload(device=self.device)

    @contextmanager
    def use(self, *parts: Any) -> Iterator[None]:
        """Parts are on the device inside the block; with ``"model"`` no others are.

        Args:
            *parts: Modules; None is passed over.

        Yields:
            Nothing.
        """
        wanted = tuple(part for part in parts if part is not None)
        if self.offload == "model":
            for part in self._there:
                if not any(part is other for other in wanted):
                    part.to("cpu")
            for part in wanted:
                part.to(self.device)
            self._there = wanted
        yield
