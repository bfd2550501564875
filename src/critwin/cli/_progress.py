"""Progress with the time that is left, on standard error, for people only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from critwin.cli._output import interactive

if TYPE_CHECKING:
    from critwin.experiments.measuring import Progress

__all__ = ["progress_bar"]


@contextmanager
def progress_bar() -> Iterator[Callable[[Progress], None] | None]:
    """A bar for each phase of a run; time is weighed by network evaluations.

    Yields:
        What to call after each batch; None where nobody watches.
    """
    if not interactive():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def show(state: Progress) -> None:
            count = f"{state.num_done}/{state.num_total}"
            if state.num_invalid:
                count += f", {state.num_invalid} invalid"
            phase = state.phase
            if phase not in tasks:
                tasks[phase] = bar.add_task(phase, total=None, count="")
            bar.update(
                tasks[phase],
                completed=state.cost_done,
                total=state.cost_total,
                count=count,
            )

        yield show
