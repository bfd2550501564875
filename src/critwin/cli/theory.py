"""``critwin theory``: what is known of a mixture without any sampling."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from critwin.theory.families import Family, PublishedTime
    from critwin.theory.mixtures import GaussianMixture
    from critwin.theory.survey import Survey

__all__ = ["theory"]


def theory(
    mixture: Annotated[
        str | None,
        typer.Argument(help="MIXTURE.toml, or a family by name; see --families."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of a family, NAME=VALUE.")
    ] = None,
    after: Annotated[
        list[str] | None, typer.Option(help="Components A[,B] whose window is wanted: S_after.")
    ] = None,
    before: Annotated[
        list[str] | None, typer.Option(help="Components that contain them, or all: S_before.")
    ] = None,
    epsilon: Annotated[float, typer.Option(help="Tolerance of the windows, in (0, 1).")] = 0.1,
    at: Annotated[
        list[str] | None,
        typer.Option(help="OU times T[,T...] at which the transitions are printed."),
    ] = None,
    samples: Annotated[
        int, typer.Option(help="Quasi-random points, where quadrature does not apply.")
    ] = 1 << 14,
    seed: Annotated[int, typer.Option(help="Seed of their scrambles.")] = 0,
    families: Annotated[bool, typer.Option("--families", help="List the families.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Exact windows of a mixture, beside published bounds, certificate, tree and regimes."""
    from critwin.cli._output import print_json, say
    from critwin.errors import InputError

    if families:
        _list(as_json)
        return
    if mixture is None:
        raise InputError(
            "no mixture", wanted="MIXTURE.toml or a family", next_step="critwin theory --families"
        )
    law = _law(mixture, settings)
    times = _times(at)
    if getattr(law, "masking", None) is not None:
        if after or before:
            raise InputError("masking has one pair of sets, + inside {+, -}")
        _masking(law, epsilon, times, as_json)
        return
    from critwin.theory.survey import survey

    known = (law if hasattr(law, "names") else law.mixture).names
    found = survey(
        law,
        after=_names(after, known),
        before=_names(before, known),
        epsilon=epsilon,
        at=times,
        num_samples=samples,
        seed=seed,
    )
    if as_json:
        print_json({"source": mixture, **_parameters(law), **found.as_dict()})
        return
    for line in _lines(mixture, law, found):
        say(line)


def _law(name: str, settings: Sequence[str] | None) -> Any:
    from critwin.cli._source import pairs
    from critwin.errors import InputError
    from critwin.theory.families import list_families, load_family

    given = pairs(settings, name="--set") or {}
    known = [info.name for info in list_families()]
    if name in known:
        return load_family(name, **given)
    if name.endswith(".toml") or Path(name).exists():
        from critwin.theory.mixture_files import mixture_from_toml

        if given:
            raise InputError("--set belongs to a family", got=name)
        return mixture_from_toml(name)
    raise InputError(
        "neither a mixture file nor a family",
        got=name,
        wanted=f"FILE.toml, or one of {', '.join(known)}",
    )


def _names(options: Sequence[str] | None, known: Sequence[str]) -> list[str] | None:
    if not options or (list(options) == ["all"] and "all" not in known):
        return None
    parts = ([option] if option in known else option.split(",") for option in options)
    return [part for group in parts for part in group if part]


def _times(options: Sequence[str] | None) -> list[float] | None:
    from critwin.errors import InputError

    if not options:
        return None
    try:
        return [float(part) for option in options for part in option.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(
            "--at cannot be read", got=", ".join(options), wanted="T,T,..."
        ) from error


def _parameters(law: GaussianMixture | Family) -> dict[str, Any]:
    parameters = getattr(law, "parameters", None)
    return {} if parameters is None else {"family": law.name, "parameters": dict(parameters)}  # type: ignore[union-attr]


def _list(as_json: bool) -> None:
    from critwin.cli._output import print_json, say, table
    from critwin.theory.families import list_families

    infos = list_families()
    if as_json:
        print_json(
            {
                info.name: {
                    "summary": info.summary,
                    "source": info.source,
                    "settings": {
                        s.name: {"default": s.default, "wanted": s.wanted, "meaning": s.meaning}
                        for s in info.settings
                    },
                }
                for info in infos
            }
        )
        return
    for info in infos:
        say(f"{info.name}: {info.summary} [{info.source}]")
        say(
            table(
                [(f"--set {s.name}={_plain(s.default)}", s.meaning) for s in info.settings],
                indent="  ",
            )
        )


def _plain(value: Any) -> str:
    return ",".join(f"{x:g}" for x in value) if isinstance(value, tuple) else f"{value:g}"


def _masking(family: Family, epsilon: float, times: Sequence[float] | None, as_json: bool) -> None:
    """Its noise is a mask probability, so nothing here is on the OU axis."""
    from critwin.cli._output import print_json, say, table

    curves = family.masking
    assert curves is not None
    exact, published = family.exact(epsilon), family.published(epsilon)
    rows = (
        []
        if times is None
        else [
            {
                "mask": t,
                "matrix": curves.transition_matrices(t).tolist(),
                "total_variation": float(curves.total_variation(t)),
            }
            for t in times
        ]
    )
    if as_json:
        print_json(
            {
                "family": family.name,
                "parameters": dict(family.parameters),
                "unit": family.unit,
                "epsilon": epsilon,
                "criterion": "distance",
                **exact,
                "published": [time.as_dict() for time in published],
                "transitions": rows,
            }
        )
        return
    say(f"{family.summary} (h = {curves.distance}); times are mask probabilities, not OU times")
    cells: list[tuple[str, ...]] = [
        ("exact", symbol, _number(value), "", "") for symbol, value in exact.items()
    ]
    say(table([("what", "symbol", "mask", "bound", "source"), *cells, *map(_printed, published)]))
    for row in rows:
        say(f"at mask {row['mask']:g}: TV {row['total_variation']:.6g}, C = {row['matrix']}")


def _lines(source: str, law: Any, found: Survey) -> list[str]:
    from critwin.cli._output import table
    from critwin.cli.windows import edge_cell

    m = found.mixture
    shared = "one covariance" if m.is_shared else "a covariance each"
    lines = [
        f"{source}: {m.num_components} components in {m.dim} dimensions, {shared} ({m.kind}); "
        f"transitions by {found.method}"
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
        ("exact", key, _number(value), "", "closed form")
        for key, value in found.closed_forms.items()
    ]
    cells += [_printed(time) for time in found.published]
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
    lines += [f"{name}: {why}" for name, why in found.reasons.items()]
    return lines


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
    from critwin.cli._output import table
    from critwin.cli.windows import edge_cell

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
            f"speciation (another question): t = {_number(s.t)}, "
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


def _printed(time: PublishedTime) -> tuple[str, ...]:
    sign = {"lower": ">=", "upper": "<=", "approximation": "about"}[time.bound]
    valid = "" if time.is_valid_bound or time.bound == "approximation" else " (not a bound)"
    return (
        time.kind,
        time.symbol,
        f"{sign} {_number(time.value)}",
        time.bound + valid,
        time.source,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"
