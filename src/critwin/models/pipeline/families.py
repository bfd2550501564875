"""What the network of each family of pipelines needs beside the noisy sample and its time.

A family knows how a condition becomes tensors, how the network is called with them, which steps
its scheduler is asked for, and how samples become images. The loop over steps is not its business.

Source: the pipelines of ``diffusers``; every family is tested against its own pipeline's call.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from critwin.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from critwin.models.pipeline.coding import ImageCoder
    from critwin.models.pipeline.placement import Placement

__all__ = [
    "Condition",
    "Family",
    "GuidanceKind",
    "call_default",
    "image_size",
    "text_length",
]

Condition = Mapping[str, "Tensor"]
"""What the network is told of a row, by name; the first dimension is rows."""

_MOST_PIXELS, _MOST_TOKENS = 2**14, 512

GuidanceKind = Literal["classifier-free", "distilled", "none"]


class Family(Protocol):
    """What a pipeline's network needs.

    Attributes:
        name: Name of the family.
        network: Name of the network among the pipeline's components.
        sample_shape: Shape of what is denoised.
        conditions: Conditions beside None; None: any text.
        plain: Condition of a row that is told nothing: None, or the first class where the network
            always takes one.
        guidance_kind: What ``guidance`` means: two predictions (``"classifier-free"``), an input
            of the network (``"distilled"``), or nothing.
        default_guidance: Guidance scale of the pipeline's own call; None: none.
        coder: Images of samples.
        encoders: Components that :meth:`embed` runs.
        tokenizers: Tokenizers and how many tokens of each are read.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def network(self) -> str: ...  # noqa: D102
    @property
    def sample_shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def conditions(self) -> tuple[str, ...] | None: ...  # noqa: D102
    @property
    def plain(self) -> str | None: ...  # noqa: D102
    @property
    def guidance_kind(self) -> GuidanceKind: ...  # noqa: D102
    @property
    def default_guidance(self) -> float | None: ...  # noqa: D102
    @property
    def coder(self) -> ImageCoder: ...  # noqa: D102
    @property
    def encoders(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def tokenizers(self) -> Sequence[tuple[Any, int]]: ...  # noqa: D102

    def embed(self, condition: str | None, placement: Placement) -> Condition:
        """Tensors of one condition, one row each; None is unconditional.

        Args:
            condition: The condition.
            placement: Where components run.

        Returns:
            Name -> tensor, shape ``(1, ...)``.
        """
        ...

    def call(self, x: Tensor, t: Tensor, condition: Condition, guidance: float | None) -> Tensor:
        """One call of the network.

        Args:
            x: Noisy samples as the network takes them, shape ``(N, *sample_shape)``.
            t: Their time, a scalar.
            condition: N rows.
            guidance: Guidance scale, where it is an input of the network.

        Returns:
            What the network predicts, shape ``(N, C or 2 C, ...)``.
        """
        ...

    def steps(self, count: int, scheduler: Any) -> dict[str, Any]:
        """Arguments of the scheduler's ``set_timesteps``.

        Args:
            count: Number of steps.
            scheduler: The scheduler.

        Returns:
            The arguments.
        """
        ...


def image_size(
    own: Sequence[int],
    height: int | None,
    width: int | None,
    *,
    multiple: int,
    is_fixed: bool = False,
) -> tuple[int, int]:
    """Rows and columns of the images, checked.

    Args:
        own: The pipeline's own rows and columns.
        height: Rows that are asked for; None: its own.
        width: Columns that are asked for; None: its own.
        multiple: What both must be multiples of.
        is_fixed: Whether the network takes no other size.

    Returns:
        Rows and columns.

    Raises:
        InputError: If the network cannot make such images.
    """
    size = (own[0] if height is None else height, own[1] if width is None else width)
    if is_fixed and size != tuple(own):
        raise InputError(
            "the network makes images of one size",
            got=f"height {size[0]}, width {size[1]}",
            wanted=f"{own[0]} x {own[1]}",
        )
    for name, value in zip(("height", "width"), size, strict=True):
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not is_number or not 1 <= value <= _MOST_PIXELS or value % multiple:
            raise InputError(
                f"the pipeline cannot make images of this {name}",
                got=value,
                wanted=f"a positive multiple of {multiple}, at most {_MOST_PIXELS}",
            )
    return size


def text_length(pipe: Any, asked: int | None) -> int:
    """Tokens that a T5 encoder reads.

    Args:
        pipe: The pipeline.
        asked: The number that is asked for; None: the pipeline's own.

    Returns:
        The number.

    Raises:
        InputError: If the pipeline does not take it.
    """
    if asked is None:
        return int(call_default(pipe, "max_sequence_length"))
    if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= _MOST_TOKENS:
        raise InputError(
            "max_sequence_length is not a number of tokens that the pipeline reads",
            got=repr(asked),
            wanted=f"a whole number from 1 to {_MOST_TOKENS}",
        )
    return asked


def call_default(pipe: Any, name: str) -> Any:
    """Default of an argument of the pipeline's own call.

    Args:
        pipe: The pipeline.
        name: Name of the argument.

    Returns:
        The default; None if there is no such argument.
    """
    parameter = inspect.signature(type(pipe).__call__).parameters.get(name)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default
