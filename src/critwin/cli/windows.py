"""``critwin windows``: when each feature is decided, from a run folder or any table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from critwin.estimates import Edge, Estimate
    from critwin.overview import Overview
    from critwin.windows import CriticalWindow, WindowTest

__all__ = ["edge_cell", "windows"]


def windows(
    file: Annotated[
        Path,
        typer.Argument(help="Run folder, or a table: CSV, Parquet, netCDF."),
    ],
    feature: Annotated[
        list[str] | None, typer.Option(help="Feature or product a*b; all unless given.")
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(help="Unit of the table's levels: logsnr, t, sigma, alpha_bar, flow."),
    ] = None,
    level_column: Annotated[
        str | None, typer.Option(help="Column of the noise level in a table.")
    ] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(help="Label set A[,B]: the window in which it is decided."),
    ] = None,
    before: Annotated[
        list[str] | None, typer.Option(help="Larger label set it is chosen from, or all.")
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Tolerance of --after; .1 unless given.")
    ] = None,
    chance: Annotated[
        float | None,
        typer.Option(help="How often a fresh sample carries the source's label, if unknown."),
    ] = None,
    prior: Annotated[
        list[str] | None, typer.Option(help="Prior of the model, LABEL=SHARE for each label.")
    ] = None,
    plateau: Annotated[
        float | None, typer.Option(help="Share kept at no noise; 1 unless known better.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Only rows with COLUMN=VALUE, e.g. condition=.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say when each feature is decided: midpoint and width of its window, with intervals."""
    from critwin.cli._output import print_json, say
    from critwin.cli._source import in_options, label_set, open_source, pairs, shares
    from critwin.errors import InputError
    from critwin.overview import overview

    if after is None and (before is not None or epsilon is not None):
        raise InputError("--before and --epsilon belong to --after", next_step="add --after")
    source = open_source(
        file,
        features=feature,
        where=pairs(where, name="--where"),
        prior=shares(pairs(prior, name="--prior")),
        level_column=level_column,
        unit=unit,
    )
    found = overview(
        source.tables,
        after=label_set(after, source.tables),
        before=label_set(before, source.tables),
        epsilon=0.1 if epsilon is None else epsilon,
        confidence=confidence,
        chance=chance,
        plateau=plateau,
    )
    reasons = {**source.reasons, **{k: in_options(why) for k, why in found.reasons.items()}}
    is_asked_for_rows = after is not None or where is not None
    if is_asked_for_rows and not found.windows and not found.is_chance_unknown:
        name, why = next(iter(reasons.items()))  # most likely what was asked for does not fit
        raise InputError(f"{name}: no window: {why}")
    if as_json:
        print_json({"file": str(file), "kind": source.kind, **found.as_dict(), "reasons": reasons})
        return
    say(source.describe())
    for line in _lines(found):
        say(line)
    for name, why in reasons.items():
        say(f"{name}: no window: {why}")


def _lines(found: Overview) -> list[str]:
    from critwin.cli._output import table, terminal_width

    lines = []
    if found.windows:
        is_kept = next(iter(found.windows.values())).criterion == "kept"
        names = ("midpoint", "width", "start", "end") if is_kept else ("t_after", "t_before")
        titles = (
            ("midpoint t", "width t", "kept .9 at t", "kept .1 at t", "midpoint logsnr")
            if is_kept
            else ("t_after", "t_before", "logsnr after", "logsnr before")
        )
        logs = ("midpoint",) if is_kept else names
        rows = [("feature", *titles, "a window?")]
        for name, window in found.windows.items():
            edges = [edge_cell(getattr(window, edge), "t") for edge in names]
            edges += [edge_cell(getattr(window, edge), "logsnr") for edge in logs]
            rows.append((name, *edges, _answer(window.test)))
        lines.append(table(rows, width=terminal_width()))
        confidence = next(iter(found.windows.values())).confidence
        if confidence is not None:
            lines.append(f"[low, high]: {confidence:.0%} intervals, clustered by source.")
        for name, window in found.windows.items():
            lines += [f"{name}: {text}" for text in _remarks(window)]
    for name, hidden in found.abstentions.items():
        lines.append(
            f"{name}: the labeller abstained on {hidden.share:.1%} of the results: midpoint t "
            f"{edge_cell(hidden.lost, 't')} if all were lost, "
            f"{edge_cell(hidden.kept, 't')} if all were kept"
        )
    for name in sorted(found.is_chance_unknown):
        for curve in found.curves.get(name, ()):
            lines.append(f"{name}: share kept, as counted")
            cells: list[tuple[str, ...]] = [("  t", "logsnr", "kept", "low", "high")]
            cells += [
                (f"  {_number(row[0])}", *map(_number, row[1:]))
                for row in zip(
                    curve.t, curve.logsnr, curve.value, curve.low, curve.high, strict=True
                )
            ]
            lines.append(table(cells, width=terminal_width()))
    return lines


def edge_cell(edge: Edge | None, axis: str) -> str:
    """An edge with its interval; ``-`` where there is none, ``?`` for a missing limit.

    Args:
        edge: The edge.
        axis: ``"t"`` or ``"logsnr"``.

    Returns:
        E.g. ``"1.234 [1.100, 1.400]"``; more digits where the limits would read alike, and the
        number once where six digits do not tell them apart.
    """
    if edge is None:
        return "-"
    value: Estimate = getattr(edge, axis)
    if value.value is None:
        return "-"
    low, high = value.low, value.high
    if value.confidence is None:
        return _number(value.value)
    if low is None or high is None:
        ends = ["?" if end is None else _number(end) for end in (low, high)]
        return f"{_number(value.value)} [{ends[0]}, {ends[1]}]"
    for digits in (3, 4, 5, 6):
        first, last = _number(low, digits), _number(high, digits)
        if first != last:
            return f"{_number(value.value, digits)} [{first}, {last}]"
    return _number(value.value)


def _number(value: float, digits: int = 3) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # no "-0.000"


def _answer(test: WindowTest | None) -> str:
    if test is None:
        return "exact"
    return "yes" if test.is_present else "not established"


def _remarks(window: CriticalWindow) -> list[str]:
    """What is missing and why, what the test says, and the notes."""
    missing: dict[tuple[str, str], list[str]] = {}
    for name in ("start", "midpoint", "end", "t_after", "t_before", "t_leak"):
        edge: Edge | None = getattr(window, name)
        if edge is None:
            continue
        low, high = edge.t.low_reason, edge.t.high_reason
        found = [("no lower limit: ", low), ("no upper limit: ", high)]
        if edge.t.reason is not None:
            found = [("", edge.t.reason)]
        elif low == high:
            found = [("no limits: ", low)]
        for what, why in found:
            if why is not None:
                missing.setdefault((what, why), []).append(name)
    out = [f"{', '.join(names)}: {what}{why}" for (what, why), names in missing.items()]
    if window.test is not None and window.test.reason is not None:
        out.append(window.test.reason)
    return list(dict.fromkeys([*out, *window.notes]))  # each once
