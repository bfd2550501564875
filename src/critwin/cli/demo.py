"""``critwin demo``: handwritten digits, from nothing to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo", "demo_text"]

FROM, TO = 0.2, 5.0
"""Ends of the levels, OU time: all three features are kept at one and lost at the other."""


def demo(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("demo-run"),
    fast: Annotated[
        bool, typer.Option("--fast", help="A quarter of the work; a full demo can go on from it.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure when the shipped digits model decides ground, ink and digit."""
    import tomllib

    from critwin.cli._output import note
    from critwin.cli.run import execute
    from critwin.runs.config import parse_config
    from critwin.runs.files import write_atomic
    from critwin.runs.prepare import going_on_with, prepare

    text = demo_text(str(out), fast=fast)
    config = parse_config(tomllib.loads(text))
    going_on_with(out, config)
    prepare(config)
    write_atomic(out / "experiment.toml", text.encode())
    note(f"experiment file: {out / 'experiment.toml'}")
    execute(config, out=out, threads=threads, as_json=as_json)


def demo_text(out: str, *, fast: bool = False) -> str:
    """The experiment file of the demo.

    Args:
        out: Run folder.
        fast: Whether to measure a quarter of it.

    Returns:
        TOML; the full demo only adds units to the fast one.
    """
    from critwin.cli._experiment_text import experiment_text

    return experiment_text(
        out=out,
        model="digits",
        features=["ground", "ink", "digit"],
        kind="dataset",
        count=24 if fast else 48,
        start=FROM,
        stop=TO,
        num_levels=10 if fast else 19,
        condition="none",
        reversal="stochastic",
        batch_size=24,
    )
