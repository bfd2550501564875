"""Progress with the time that is left, on standard error.

A person at a terminal sees a bar. A log, a pipe or a batch system gets one plain line a minute, so
that a run of hours is not silent, and a run of seconds writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from critwin.cli._output import interactive, note

if TYPE_CHECKING:
    from critwin.experiments.measuring import Progress

__all__ = ["SECONDS_BETWEEN_LINES", "duration", "plain_progress", "progress_bar", "steps_done"]

SECONDS_BETWEEN_LINES = 60.0
"""At least so far apart are two plain lines of progress."""


@contextmanager
def progress_bar() -> Iterator[Callable[[Progress], None]]:
    """A bar for each phase of a run, or plain lines; time is weighed by model evaluations.

    Yields:
        What to call after each batch.
    """
    if not interactive():
        yield plain_progress()
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


def plain_progress(
    *, clock: Callable[[], float] | None = None, say: Callable[[str], None] = note
) -> Callable[[Progress], None]:
    """Progress as a plain line about once a minute.

    Args:
        clock: Seconds; the monotonic clock unless given.
        say: What prints a line.

    Returns:
        What to call after each batch.
    """
    now = time.monotonic if clock is None else clock
    last = now()
    starts: dict[str, tuple[float, float]] = {}

    def show(state: Progress) -> None:
        nonlocal last
        moment = now()
        begun, cost_begun = starts.setdefault(state.phase, (moment, state.cost_done))
        if moment - last < SECONDS_BETWEEN_LINES:
            return
        last = moment
        line = f"{state.num_done} of {state.num_total} {state.phase}"
        if state.num_invalid:
            line += f" ({state.num_invalid} invalid)"
        spent = state.cost_done - cost_begun
        if spent > 0:
            left = (moment - begun) / spent * (state.cost_total - state.cost_done)
            line += f", about {duration(left, is_rough=True)} left"
        say(line)

    return show


def steps_done(
    show: Callable[[Progress], None], *, words: str = "{}"
) -> Callable[[str, int, int], None]:
    """What tells of steps of an audit, all of which take about as long.

    Args:
        show: What shows the progress of a run.
        words: What is done, with ``{}`` for what the audit calls it.

    Returns:
        What to call after each step: what is done, how many of it, and how many in all.
    """
    from critwin.experiments.measuring import Progress

    def tell(phase: str, num_done: int, num_total: int) -> None:
        show(
            Progress(
                words.format(phase), num_done, num_total, 0, float(num_done), float(num_total)
            )
        )

    return tell


def duration(seconds: float, *, is_rough: bool = False) -> str:
    """A duration in words.

    Args:
        seconds: Its length.
        is_rough: Whether seconds do not matter beside minutes.

    Returns:
        E.g. ``"42 s"``, ``"3 min 20 s"``, ``"2 h 5 min"``; roughly ``"3 min"``.
    """
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 or is_rough else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 90:
        return f"{round(seconds / 60)} min" if is_rough else f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
