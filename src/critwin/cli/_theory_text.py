"""What ``critwin theory`` prints: windows, bounds, tree and regimes beside one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from critwin.cli._output import table
from critwin.cli.windows import edge_cell

if TYPE_CHECKING:
    from critwin.theory.families import PublishedTime
    from critwin.theory.survey import Survey

__all__ = ["number", "printed", "survey_lines"]

_MISSING = {
    "kept": "no window of the component as a feature",
    "tree": "no tree",
    "speciation": "no speciation time",
    "symmetry_breaking": "no symmetry breaking",
    "information_peaks": "no peak of the label's entropy",
    "labels": "no windows of single components",
}
"""A part of a survey that has a reason instead, in words."""


def survey_lines(source: str, found: Survey) -> list[str]:
    """A survey as ``critwin theory`` prints it.

    Args:
        source: What was asked for, a file or a family.
        found: The survey.

    Returns:
        Lines, or blocks of them.
    """
    m = found.mixture
    shared = "one covariance" if m.is_shared else "a covariance each"
    lines = [
        f"{source}: {_count(m.num_components, 'component')} in {_count(m.dim, 'dimension')}, "
        f"{shared} ({m.kind}); transitions by {found.method}",
        *found.notes,
    ]
    rows: list[tuple[str, ...]] = [
        ("window", "t_after", "t_before", "logsnr after", "logsnr before")
    ]
    if found.pair is not None:
        pair = found.pair
        lines.append(
            f"S_after = {{{', '.join(pair.after)}}} in S_before = {{{', '.join(pair.before)}}}, "
            f"epsilon = {found.epsilon:g}; times are OU times"
        )
        for name, window in (("operational", pair.operational), ("distance", pair.distance)):
            edges = (window.t_after, window.t_before)
            rows.append(
                (
                    name,
                    *(edge_cell(e, "t") for e in edges),
                    *(edge_cell(e, "logsnr") for e in edges),
                )
            )
    for name, window in found.labels.items():
        edges = (window.t_after, window.t_before)
        rows.append(
            (
                f"operational: {name}",
                *(edge_cell(e, "t") for e in edges),
                *(edge_cell(e, "logsnr") for e in edges),
            )
        )
    if len(rows) > 1:
        lines.append(table(rows))
    lines += _why(found)
    if found.pair is not None:
        lines += _bounds(found)
    cells: list[tuple[str, ...]] = [
        ("exact", key, number(value), "", "closed form")
        for key, value in found.closed_forms.items()
    ]
    cells += [printed(time) for time in found.published]
    if cells:
        lines.append(table([("what", "symbol", "t", "bound", "source"), *cells]))
        lines += [f"  {t.symbol}, {t.source}: {t.note}" for t in found.published if t.note]
    if found.kept is not None:
        kept = found.kept
        lines.append(
            f"the component as a feature: midpoint t = {edge_cell(kept.midpoint, 't')}, "
            f"from {edge_cell(kept.start, 't')} (90 % kept) to {edge_cell(kept.end, 't')} (10 %)"
        )
    if found.tree is not None and m.num_components > 2:
        lines += ["tree:", *("  " + line for line in found.tree.describe().splitlines())]
    lines += _regimes(found)
    if found.transitions is not None:
        tr = found.transitions
        for t, probs in zip(tr.t, tr.probs, strict=True):
            lines.append(f"transitions at t = {t:g}, from row to column:")
            body: list[tuple[str, ...]] = [
                (name, *(f"{p:.6f}" for p in row))
                for name, row in zip(tr.before, probs, strict=True)
            ]
            lines.append(table([("", *tr.after), *body], indent="  "))
    lines += [f"{_MISSING.get(name, name)}: {why}" for name, why in found.reasons.items()]
    return lines


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _why(found: Survey) -> list[str]:
    """Edges that are missing, and the notes of the windows."""
    windows = dict(found.labels)
    if found.pair is not None:
        windows = {"operational": found.pair.operational, "distance": found.pair.distance}
    out = []
    for name, window in windows.items():
        for edge_name in ("t_after", "t_before"):
            edge = getattr(window, edge_name)
            if edge is not None and edge.t.reason:
                out.append(f"  {name} {edge_name}: {edge.t.reason}")
        out += [f"  {name}: {note}" for note in window.notes]
    return out


def _bounds(found: Survey) -> list[str]:
    pair = found.pair
    assert pair is not None
    sep, closed = pair.separation, pair.log_concave
    lines = [
        f"T_lower = {edge_cell(sep.T_lower, 't')}, T_upper = {edge_cell(sep.T_upper, 't')}"
        + (f" ({sep.T_upper.t.reason})" if sep.T_upper.t.reason else "")
    ]
    if sep.is_window:
        lines.append(
            "  between them a sample of S_after, noised and denoised, is one of S_before up to "
            f"TV {sep.theorem.value:.4g} ({sep.theorem.name} bound)"
        )
    upper = closed.reason if closed.T_upper is None else f"T_upper >= {closed.T_upper:.4f}"
    lines.append(
        f"  from separation alone (strong log-concavity): T_lower <= {closed.T_lower:.4f}; {upper}"
    )
    own = pair.certificate
    if own is not None:
        lines.append("certificate: TV of that sample from S_before, both sides")
        rows: list[tuple[str, ...]] = [("t", "at least", "at most", "distance", "leak")]
        rows += [
            tuple(f"{x:.6g}" for x in row)
            for row in zip(own.t, own.lower, own.upper, own.distance.upper, own.leak, strict=True)
        ]
        lines.append(table(rows, indent="  "))
    return lines


def _regimes(found: Survey) -> list[str]:
    lines = []
    if found.speciation is not None:
        s = found.speciation
        lines.append(
            f"speciation (another question): t = {number(s.t)}, "
            f"1/2 ln(1 + Lambda) = {s.t_shifted:.4f} [{s.source}]"
        )
    if found.symmetry is not None and found.symmetry.t is not None:
        lines.append(
            f"symmetry breaking (another question): t = {found.symmetry.t:.4f} "
            f"[{found.symmetry.source}]"
        )
    if found.peaks:
        times = ", ".join(f"{peak.t:.4f}" for peak in found.peaks)
        lines.append(
            f"the label's entropy changes fastest, per ln sigma, at t = {times} "
            f"[{found.peaks[0].source}]"
        )
    return lines


def printed(time: PublishedTime) -> tuple[str, ...]:
    """A published time as a row: kind, symbol, value with its sense, bound, source."""
    sign = {"lower": ">=", "upper": "<=", "approximation": "about"}[time.bound]
    valid = "" if time.is_valid_bound or time.bound == "approximation" else " (not a bound)"
    return (
        time.kind,
        time.symbol,
        f"{sign} {number(time.value)}",
        time.bound + valid,
        time.source,
    )


def number(value: float | None) -> str:
    """A time to six decimals, ``-`` where there is none."""
    return "-" if value is None else f"{value:.6f}"
