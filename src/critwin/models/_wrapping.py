"""What a denoiser is checked and named by: options, levels, ONNX sessions, digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from critwin.errors import InputError
from critwin.levels import scheduler_logsnr

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "all_levels",
    "choice",
    "condition_names",
    "digest_of",
    "end_of",
    "first_parameter",
    "function_digest",
    "function_name",
    "session_function",
    "shape_of",
    "usable_levels",
]


def choice(what: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(f"unknown {what}", got=value, wanted="one of " + ", ".join(known))


def shape_of(shape: Sequence[int]) -> tuple[int, ...]:
    result = tuple(int(size) for size in shape)
    if not result or min(result) < 1:
        raise InputError("not the shape of a sample", got=tuple(shape), wanted="positive sizes")
    return result


def all_levels(levels: Any) -> NDArray[np.float64] | None:
    """Logsnr by step index, as the function counts them."""
    if levels is None:
        return None
    if hasattr(levels, "config") or hasattr(levels, "alphas_cumprod"):
        return scheduler_logsnr(levels)
    array = np.array(levels, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).any() or np.isnan(array).any():
        raise InputError("levels are not a list of logsnr", got=levels, wanted="shape (M,)")
    if len(np.unique(array)) < len(array):
        raise InputError("two levels are equal", got=levels)
    return array


def usable_levels(levels: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    if levels is None:
        return None
    result = np.sort(levels[np.isfinite(levels)])[::-1].copy()
    result.setflags(write=False)
    return result


def end_of(value: float | None, levels: NDArray[np.float64] | None, index: int) -> float:
    """An end of the schedule; snapped to the levels where there are any."""
    if levels is None:
        assert value is not None
        return float(value)
    if value is None:
        return float(levels[index])
    return float(levels[np.argmin(np.abs(levels - value))])


def condition_names(conditions: Sequence[str] | None, encode: object) -> tuple[str, ...] | None:
    if conditions is None:
        return None if encode is not None else ()
    if isinstance(conditions, str) or len(set(conditions)) < len(conditions):
        raise InputError("not a list of distinct conditions", got=conditions)
    return tuple(conditions)


def session_function(session: Any) -> Callable[..., Any]:
    """An ONNX Runtime session as a function of its inputs in order."""
    names = [entry.name for entry in session.get_inputs()]

    def run(*arrays: NDArray[Any]) -> Any:
        if len(arrays) != len(names):
            raise InputError(
                "the ONNX session has another number of inputs",
                got=", ".join(names),
                wanted=f"{len(arrays)} inputs",
            )
        return session.run(None, dict(zip(names, arrays, strict=True)))[0]

    return run


def first_parameter(function: Any) -> Tensor | None:
    return (
        next(iter(function.parameters()), None) if isinstance(function, torch.nn.Module) else None
    )


def function_name(function: Any) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def function_digest(function: Any) -> str:
    if not isinstance(function, torch.nn.Module):
        return function_name(function)
    digest = hashlib.sha256(function_name(function).encode())
    state: Mapping[str, Any] = function.state_dict()
    for key in sorted(state):
        value = state[key]
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(
            value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()


def digest_of(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
