"""How a denoiser's function is called: its frame, its time, its conditions, its prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from critwin._texts import some_of
from critwin.errors import InputError
from critwin.levels import alpha_sigma, from_logsnr
from critwin.models.base import Prediction, x_0_from_prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["Backend", "Calling", "Frame"]

Frame = Literal["vp", "ve", "flow"]
Backend = Literal["torch", "numpy"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Calling:
    """A function of noisy samples, a level and perhaps a condition, in its own conventions.

    Attributes:
        function: The function.
        model: Name of the model, for messages.
        prediction: What it predicts.
        frame: Scale of ``x`` that it expects.
        time: What it takes as level.
        backend: What kind of arrays it takes.
        steps_logsnr: Logsnr by step index, if it has steps.
        conditions: Names of its conditions; ``()`` if it takes none, None if it takes any text.
        encode: Turns conditions into its third argument.
        dtype: Type of ``x`` that it gets.
        device: Device of ``x``.
    """

    function: Callable[..., Any]
    model: str
    prediction: Prediction
    frame: Frame
    time: str | Callable[[float], float]
    backend: Backend
    steps_logsnr: NDArray[np.float64] | None
    conditions: tuple[str, ...] | None
    encode: Callable[[Sequence[str | None]], Any] | None
    dtype: torch.dtype
    device: torch.device

    def x_0(self, x_t: Tensor, logsnr: float, condition: tuple[Any, ...]) -> Tensor:
        """The clean sample that the function's prediction stands for.

        Args:
            x_t: Noisy samples, variance-preserving, shape ``(N, *shape)``.
            logsnr: Their level.
            condition: As :meth:`encoded` gives it.

        Returns:
            The same shape and type.

        Raises:
            InputError: If the function returns something else.
        """
        alpha, sigma = (float(v) for v in alpha_sigma(logsnr))
        scale = {"vp": 1.0, "ve": 1.0 / alpha, "flow": 1.0 / (alpha + sigma)}[self.frame]
        x = (x_t if scale == 1.0 else scale * x_t).to(self.dtype)
        value, dtype = self._level(logsnr)
        level = torch.full((len(x),), value, dtype=dtype, device=x.device)
        if self.backend == "numpy":
            arrays = [v.cpu().numpy() if isinstance(v, torch.Tensor) else v for v in condition]
            raw = self.function(x.float().cpu().numpy(), level.cpu().numpy(), *arrays)
            output = torch.from_numpy(np.array(raw)).to(x.device)
        else:
            output = self.function(x, level, *condition)
            output = getattr(output, "sample", output)  # diffusers wraps its outputs
        if not isinstance(output, torch.Tensor) or output.shape != x_t.shape:
            raise InputError(
                "the denoiser returned something else than a prediction",
                got=tuple(output.shape) if hasattr(output, "shape") else type(output).__name__,
                wanted=f"an array of shape {tuple(x_t.shape)}",
            )
        return x_0_from_prediction(output.to(x_t.dtype), x_t, logsnr, self.prediction)

    def encoded(self, conditions: Sequence[str | None]) -> tuple[Any, ...]:
        """The function's third argument, or nothing if it takes none.

        Args:
            conditions: A condition a row, or None.

        Returns:
            No entry or one.

        Raises:
            InputError: If a condition is unknown.
        """
        known = self.conditions
        for name in conditions:
            if name is not None and known is not None and name not in known:
                raise InputError(
                    f"model {self.model!r} does not know this condition",
                    got=name,
                    wanted="one of " + some_of(known) if known else "no condition",
                )
        if self.encode is not None:
            return (self.encode(conditions),)
        if not known:
            return ()
        index = [len(known) if name is None else known.index(name) for name in conditions]
        return (torch.tensor(index, dtype=torch.int64, device=self.device),)

    def _level(self, logsnr: float) -> tuple[float, torch.dtype] | tuple[int, torch.dtype]:
        """Fill value of the function's second argument, and its type."""
        if self.time == "step":
            assert self.steps_logsnr is not None  # checked at construction
            return int(np.argmin(np.abs(self.steps_logsnr - logsnr))), torch.int64
        dtype = torch.float32 if self.backend == "numpy" else self.dtype
        if isinstance(self.time, str):
            return float(from_logsnr(logsnr, self.time)), dtype
        return float(self.time(logsnr)), dtype
