"""``critwin theory``: what is known of a mixture without any sampling."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from critwin.theory.families import Family
    from critwin.theory.mixtures import GaussianMixture

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
        list[str] | None,
        typer.Option(
            help="Components A[,B] whose window is wanted: S_after. A name that holds a comma "
            "stands alone in an --after of its own."
        ),
    ] = None,
    before: Annotated[
        list[str] | None,
        typer.Option(help="Components that contain them, likewise, or all: S_before."),
    ] = None,
    epsilon: Annotated[float, typer.Option(help="Tolerance of the windows, in (0, 1).")] = 0.1,
    at: Annotated[
        list[str] | None,
        typer.Option(help="OU times T[,T...] at which the transitions are printed."),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(
            min=16, max=1 << 22, help="Quasi-random points, where quadrature does not apply."
        ),
    ] = 1 << 14,
    seed: Annotated[int, typer.Option(help="Seed of their scrambles.")] = 0,
    families: Annotated[bool, typer.Option("--families", help="List the families.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Exact windows of a mixture, beside published bounds, certificate, tree and regimes.

    A mixture file holds a table for each component; weight and name are given for all or for none,
    covariance is a number, a list (the diagonal) or a matrix, and 1 unless given:

    \b
        [[component]]
        name = "left"
        weight = 0.25
        mean = [-3.0, 0.0]
        [[component]]
        name = "right"
        weight = 0.75
        mean = [3.0, 0.0]
        covariance = [[1.0, 0.2], [0.2, 1.0]]

    Then: critwin theory MIXTURE.toml --after left --epsilon 0.1 --at 0.5,1
    """  # noqa: D301 - \b is a command to the help text: keep these lines
    from critwin.cli._output import print_json, say
    from critwin.errors import InputError

    if families:
        _list(as_json)
        return
    if mixture is None or not mixture.strip():
        raise InputError(
            "no mixture",
            wanted="MIXTURE.toml or a family",
            next_step="see: critwin theory --help, critwin theory --families",
        )
    law = _law(mixture, settings)
    times = _times(at)
    if getattr(law, "masking", None) is not None:
        if after or before:
            raise InputError(
                "masking has one pair of sets, + inside {+, -}",
                got="--after" if after else "--before",
                next_step="leave it out",
            )
        _masking(law, epsilon, times, as_json)
        return
    from critwin.cli._theory_text import survey_lines
    from critwin.theory.survey import survey

    m = law if hasattr(law, "names") else law.mixture
    _check_decidable(mixture, law, m)
    inner, outer = _sets(after, before, m.names)
    found = survey(
        law,
        after=inner,
        before=outer,
        epsilon=epsilon,
        at=times,
        num_samples=samples,
        seed=seed,
    )
    if as_json:
        print_json({"source": mixture, **_parameters(law), **found.as_dict()})
        return
    for line in survey_lines(mixture, found):
        say(line)


def _law(name: str, settings: Sequence[str] | None) -> Any:
    from critwin._texts import did_you_mean
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
            raise InputError(
                "--set belongs to a family",
                got=f"the file {name}",
                wanted=f"one of {', '.join(known)}",
                next_step="write the numbers into the file",
            )
        return mixture_from_toml(name)
    raise InputError(
        "neither a mixture file nor a family",
        got=name,
        wanted=f"FILE.toml, or one of {', '.join(known)}",
        next_step=did_you_mean(name, known),
    )


def _check_decidable(source: str, law: Any, m: GaussianMixture) -> None:
    """Refuse a mixture in which there is nothing at all to decide between."""
    from critwin.errors import InputError
    from critwin.theory._twins import identical_components, undecided

    has_labels = law is m or bool(law.after)  # a tree prior is one Gaussian on purpose
    is_one = m.num_components == 1
    if has_labels and (is_one or any(len(g) == m.num_components for g in identical_components(m))):
        raise InputError(undecided(m)[0], got=source, wanted="two or more different components")


def _sets(
    after: Sequence[str] | None, before: Sequence[str] | None, known: Sequence[str]
) -> tuple[list[str] | None, list[str] | None]:
    from critwin._texts import did_you_mean, some_of
    from critwin.errors import InputError

    is_all = before is not None and list(before) == ["all"] and "all" not in known
    inner, outer = _names(after, known), None if is_all else _names(before, known)
    for option, names in (("--after", inner), ("--before", outer)):
        for name in names or ():
            if name not in known:
                has_comma = any("," in one for one in known)
                raise InputError(
                    f"{option}: unknown component",
                    got=name,
                    wanted=f"some of {some_of(known)}",
                    next_step=did_you_mean(name, known)
                    or (f"give a name with a comma an {option} of its own" if has_comma else None),
                )
    if inner is None and outer is not None:
        raise InputError(
            "--before without --after",
            got=f"--before {','.join(outer)}",
            wanted="--after, the components inside it",
        )
    return inner, outer


def _names(options: Sequence[str] | None, known: Sequence[str]) -> list[str] | None:
    """Names of ``A,B`` or of repeated options; one that is known as it stands is not cut."""
    if not options:
        return None
    parts = ([option] if option in known else option.split(",") for option in options)
    names = (part if part in known else part.strip() for group in parts for part in group)
    return [name for name in names if name]


def _times(options: Sequence[str] | None) -> list[float] | None:
    from critwin.errors import InputError

    if not options:
        return None
    try:
        return [float(part) for option in options for part in option.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(
            "--at cannot be read", got=", ".join(options), wanted="times T,T,... such as 0.5,1"
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
    from critwin.cli._theory_text import number, printed

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
        ("exact", symbol, number(value), "", "") for symbol, value in exact.items()
    ]
    say(table([("what", "symbol", "mask", "bound", "source"), *cells, *map(printed, published)]))
    for row in rows:
        say(f"at mask {row['mask']:g}: TV {row['total_variation']:.6g}, C = {row['matrix']}")
