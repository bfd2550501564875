"""Typed errors: each says what is wrong, what was got, what was wanted, and what to do next.

``InputError`` and its children are the user's mistakes; the command line prints them as one line
and exits with code 2. Everything else that escapes is a bug (exit code 1).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "BatchMemoryError",
    "ConfigError",
    "CritwinError",
    "InputError",
    "InterruptedRunError",
    "MissingExtraError",
    "RunFolderError",
    "TooManyInvalidError",
    "is_out_of_memory",
    "require",
]

_NO_MEMORY = (
    "DefaultCPUAllocator",
    "not enough memory",
    "out of memory",
    "Cannot allocate memory",
)


class CritwinError(Exception):
    """Base of every error that critwin raises on purpose."""


class InputError(CritwinError, ValueError):
    """An argument, a file or an option cannot be used.

    Args:
        what: What is wrong, a short clause.
        got: The offending value, shown as it is.
        wanted: What would have been accepted.
        next_step: What the reader should do.
    """

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        wanted: str | None = None,
        next_step: str | None = None,
    ) -> None:
        parts = []
        if got is not None:
            parts.append(f"got {_short(got)}")
        if wanted is not None:
            parts.append(f"wanted {wanted}")
        if next_step is not None:
            parts.append(next_step)
        super().__init__(f"{what}: {'; '.join(parts)}" if parts else what)
        self.what = what
        self.got = got
        self.wanted = wanted
        self.next_step = next_step


class BatchMemoryError(InputError):
    """A batch does not fit into memory; a smaller one may."""


class ConfigError(InputError):
    """An experiment file is not valid; ``key`` is the path of the offending entry."""

    def __init__(
        self,
        key: str,
        what: str,
        *,
        got: object = None,
        wanted: str | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(
            f"{key}: {what}" if key else what, got=got, wanted=wanted, next_step=next_step
        )
        self.key = key

    def __reduce__(self) -> tuple[object, ...]:
        """Cross a process boundary unchanged: the message is not an argument of this class."""
        return _rebuild, (type(self), str(self), dict(self.__dict__))


class RunFolderError(InputError):
    """A run folder is occupied, locked, changed or damaged."""


class MissingExtraError(InputError, ImportError):
    """An optional dependency is not installed."""


class TooManyInvalidError(CritwinError, RuntimeError):
    """Too large a share of the results is invalid (NaN, infinite or constant) to go on.

    Attributes:
        num_invalid: Number of invalid results so far.
        num_done: Number of results so far.
        records: What was measured, where it is not in a run folder.
    """

    records: object = None

    def __init__(self, num_invalid: int, num_done: int, *, limit: float) -> None:
        super().__init__(
            f"too many invalid results: got {num_invalid} of {num_done} NaN, infinite or "
            f"constant; wanted at most {limit:.0%}; look at the model (precision, guidance, "
            "levels), or raise `max_invalid` under [run]; what was measured is kept"
        )
        self.num_invalid = num_invalid
        self.num_done = num_done

    def __reduce__(self) -> tuple[object, ...]:
        """Cross a process boundary unchanged: the message is not an argument of this class."""
        return _rebuild, (type(self), str(self), dict(self.__dict__))


class InterruptedRunError(CritwinError):
    """A run was stopped by a signal; all finished batches are in the ledger.

    Args:
        message: What was done, and how to go on.
        signum: Number of the signal; the exit code is 128 more.
    """

    def __init__(self, message: str, *, signum: int = 2) -> None:
        super().__init__(message)
        self.signum = signum


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that no memory is left, whatever its type.

    The allocators of a GPU have a type of their own; PyTorch's allocator on the CPU raises a bare
    ``RuntimeError``, which only its words tell.

    Args:
        error: What was raised.

    Returns:
        True for ``MemoryError``, PyTorch's ``OutOfMemoryError``, and the words of its other
        allocators.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def require(module: str, *, extra: str) -> ModuleType:
    """Import ``module`` or say which extra brings it.

    Args:
        module: Dotted name of the module.
        extra: Name of the extra of this package that installs it.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: If the module is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise  # the module is there; something inside it is broken
        raise MissingExtraError(
            f"{module!r} is not installed", next_step=f"run: pip install 'critwin[{extra}]'"
        ) from error


def _short(value: object, limit: int = 200) -> str:
    if type(value).__module__ == "numpy" and not hasattr(value, "__len__"):
        value = value.item()  # type: ignore[attr-defined]  # 2, not np.int64(2)
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _rebuild(kind: type[CritwinError], message: str, state: dict[str, object]) -> CritwinError:
    error = kind.__new__(kind, message)
    error.args = (message,)
    error.__dict__.update(state)
    return error
