"""The typer application: a list of commands, one module each, and how errors end.

Modules of commands import only typer at their top; what a command needs is imported when it runs,
so that ``critwin --help`` does not wait for torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from critwin.cli._output import printable
from critwin.cli._usage import usage_error
from critwin.errors import CritwinError, InterruptedRunError, is_out_of_memory

__all__ = ["COMMANDS", "make_app", "run_app"]

COMMANDS = (
    "demo",
    "init",
    "run",
    "windows",
    "compare",
    "report",
    "dataset",
    "theory",
    "models",
    "features",
    "doctor",
    "status",
    "verify",
    "merge",
    "advise",
)
"""Each is a function of the same name in a module of the same name."""

AUDITS = ("fairness", "privacy")
"""Each is a function of the same name in the module ``audit_<name>``: ``critwin audit <name>``."""


# typer brings its own copy of click, or uses the package, depending on its version
_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
_CLICK_ERROR: Any = typer.BadParameter.__mro__[2]


def make_app() -> typer.Typer:
    """The application with all its commands."""
    app = typer.Typer(
        name="critwin",
        help="Tells when a diffusion model makes up its mind.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in COMMANDS:
        module = import_module(f"critwin.cli.{name}")
        app.command(name)(getattr(module, name))
    audit = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    for name in AUDITS:
        module = import_module(f"critwin.cli.audit_{name}")
        audit.command(name)(getattr(module, name))
    app.add_typer(audit, name="audit", help="Audit a run folder, or start the run it needs.")
    return app


def run_app(argv: Sequence[str] | None = None) -> int:
    """Run a command and turn what it raises into an exit code.

    Args:
        argv: Arguments; those of the process unless given.

    Returns:
        The exit code.
    """
    # Waiting threads that spin slow a busy machine down many times over; numbers stay the same.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        command = typer.main.get_command(make_app())
        result = command.main(
            args=None if argv is None else list(argv), prog_name="critwin", standalone_mode=False
        )
        sys.stdout.flush()
    except InterruptedRunError as error:
        _complain(str(error))
        return 128 + error.signum
    except CritwinError as error:
        _complain(f"error: {_one_line(str(error))}")
        return 2
    except _USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stdout.write(error.format_message() + "\n")
            return 2
        _complain(f"error: {usage_error(error)}")
        return 2
    except _CLICK_ERROR as error:
        _complain(f"error: {_one_line(error.format_message())}")
        return 2
    except (typer.Abort, KeyboardInterrupt):
        _complain("stopped")
        return 130
    except BrokenPipeError:
        # the reader has gone; keep Python from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if is_out_of_memory(error):
            what = _one_line(str(error)) or "no more memory"
            _complain(f"error: this does not fit into memory: {what}; ask for less at a time")
            return 2
        _complain("this is a bug in critwin, please report it with the lines below")
        sys.excepthook(*sys.exc_info())
        return 1
    return result if isinstance(result, int) else 0


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        sys.stdout.write(f"critwin {version('critwin')}\n")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the version and leave.",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """What comes before the command."""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _complain(line: str) -> None:
    sys.stderr.write(f"critwin: {printable(line)}\n")
