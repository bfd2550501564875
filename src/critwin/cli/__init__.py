"""The command line: ``critwin COMMAND``; see :func:`main`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments without the program's name; those of the process unless given.

    Returns:
        Exit code: 0 done, 2 the user's mistake (one line on standard error), 1 a bug,
        130 or 143 stopped by a signal.
    """
    from critwin.cli._app import run_app

    return run_app(argv)


def __getattr__(name: str) -> Any:
    """The typer application under the name ``app``, made when it is asked for."""
    if name == "app":
        from critwin.cli._app import make_app

        return make_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
