"""``critwin advise``: at which noise to edit."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from critwin.audits.editing import Advice
    from critwin.audits.strength import Sampler

__all__ = ["advise"]


def advise(
    keep: Annotated[
        list[str],
        typer.Option(help="Feature to keep: digit, or digit=8; with --image words. Repeatable."),
    ],
    change: Annotated[
        list[str],
        typer.Option(help="Feature to change: ink, or ink=red,blue; with --image words."),
    ],
    run: Annotated[
        Path | None, typer.Argument(help="Run folder of the forward–reverse experiment.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Start the run that is needed: a model, or a pipeline's folder or name."
        ),
    ] = None,
    image: Annotated[Path | None, typer.Option(help="The image to edit.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to start or go on with.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Prompt of the edit.")] = None,
    labeller: Annotated[
        str | None, typer.Option(help="Folder or hub name of the CLIP or SigLIP that reads words.")
    ] = None,
    reversal: Annotated[
        str | None,
        typer.Option(help="Reversal of a started run, or the one to read: stochastic or ode."),
    ] = None,
    replicates: Annotated[
        int | None, typer.Option(min=8, help="Edits at a level of a started run; 32 unless given.")
    ] = None,
    levels: Annotated[
        int | None, typer.Option(min=2, help="Levels of a started run; 10 unless given.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of a started run.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="COLUMN=VALUE that rows must have. Repeatable.")
    ] = None,
    preset: Annotated[
        list[str] | None,
        typer.Option(help="Give settings for sd15, sd21, sdxl, sd3, flux or digits. Repeatable."),
    ] = None,
    scheduler: Annotated[
        list[str] | None,
        typer.Option(help="Scheduler of diffusers in place of the preset's own. Repeatable."),
    ] = None,
    karras: Annotated[bool, typer.Option("--karras", help="With Karras' sigmas.")] = False,
    steps: Annotated[
        int, typer.Option(min=1, help="Steps of the samplers, and of a started run.")
    ] = 25,
    least_kept: Annotated[float, typer.Option(help="Rate of keeping to promise.")] = 0.8,
    least_changed: Annotated[
        float | None,
        typer.Option(help="Rate of changing to promise; half of what a fresh sample gives."),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of the limits.")] = 0.95,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads of torch.")] = None,
    report: Annotated[bool, typer.Option(help="Write the report again.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say at which noise an edit changes one feature and keeps another."""
    from critwin.audits._editing_names import slug_of
    from critwin.audits.editing import Wish, check_rates
    from critwin.audits.editing import advise as advice_of
    from critwin.audits.section import save
    from critwin.cli._audits import check_confidence, check_out, finish, refuse_with_run
    from critwin.cli._source import pairs, speaking_of_options
    from critwin.errors import InputError
    from critwin.runs.folder import open_run

    check_confidence(confidence)
    with speaking_of_options():
        check_rates(least_kept, least_changed)
    own = _own_samplers(preset, scheduler, karras=karras, steps=steps)
    started = {"--model": model, "--image": image, "--out": out}
    wishes: tuple[Sequence[str | Wish], Sequence[str | Wish]] = (keep, change)
    words = ["critwin", "advise"]
    is_started = run is None
    if run is None:
        if missing := [name for name, value in started.items() if value is None]:
            raise InputError(
                "nothing to advise on",
                got="no run folder, and no " + ", ".join(missing),
                wanted="a run folder, or all of " + ", ".join(started),
            )
        if where:
            raise InputError(
                "--where chooses among the rows of a run folder",
                got=", ".join(where),
                wanted="none beside --model",
                next_step="leave it out",
            )
        check_out(out)
        from critwin.audits.editing_start import start_edit
        from critwin.cli._output import note
        from critwin.cli._progress import progress_bar

        with progress_bar() as progress:
            outcome, kept, changed = start_edit(
                str(model),
                str(image),
                keep,
                change,
                str(out),
                labeller=labeller,
                prompt=prompt,
                reversal=reversal,
                num_levels=10 if levels is None else levels,
                replicates=32 if replicates is None else replicates,
                steps=steps,
                seed=0 if seed is None else seed,
                threads=threads,
                progress=progress,
                say=note,
            )
        run, wishes = outcome.path, (kept, changed)
        words += [w for name, value in started.items() for w in (name, str(value))]
        asked = {"--prompt": prompt, "--labeller": labeller, "--seed": seed}
        asked |= {"--levels": levels, "--replicates": replicates}
        words += [
            w for name, value in asked.items() if value is not None for w in (name, str(value))
        ]
        condition = None
    else:
        only = {"--prompt": prompt, "--labeller": labeller, "--seed": seed, "--levels": levels}
        refuse_with_run({**started, **only, "--replicates": replicates, "--threads": threads})
        words.append(str(run))
        condition = pairs(where, name="--where")
        _check_question(run, keep, change, reversal)
    words += [word for name in keep for word in ("--keep", name)]
    words += [word for name in change for word in ("--change", name)]
    filters: dict[str, Any] = dict(condition or {})
    if reversal is not None:
        filters["reversal"] = reversal
        words += ["--reversal", reversal]
    repeated = {"--where": where, "--preset": preset, "--scheduler": scheduler}
    words += [w for name, values in repeated.items() for v in values or () for w in (name, v)]
    words += ["--karras"] if karras else []
    if preset or is_started:
        words += ["--steps", str(steps)]
    rates = {"--least-kept": (least_kept, 0.8), "--least-changed": (least_changed, None)}
    rates["--confidence"] = (confidence, 0.95)
    for name, (value, usual) in rates.items():
        words += [] if value == usual else [name, str(value)]
    opened = open_run(run)
    with speaking_of_options():
        found = advice_of(
            opened.records(),
            keep=wishes[0],
            change=wishes[1],
            samplers=own,
            steps=steps,
            least_kept=least_kept,
            least_changed=least_changed,
            where=filters or None,
            confidence=confidence,
            rerun=shlex.join(words),
        )
    save(
        found,
        run,
        slug=slug_of(found.keep, found.change, condition),
        parameters={"keep": list(keep), "change": list(change), "where": filters},
    )
    finish(run, found, _lines, report=report, as_json=as_json)


def _check_question(
    run: Path, keep: Sequence[str], change: Sequence[str], reversal: str | None
) -> None:
    """Refuse what a run folder cannot tell, before its rows are read."""
    from critwin._texts import unknown_name
    from critwin.audits.editing import check_wishes, wish_of
    from critwin.errors import InputError
    from critwin.runs.folder import open_run

    opened = open_run(run)
    labels = opened.labels
    check_wishes([wish_of(w, labels) for w in keep], [wish_of(w, labels) for w in change], labels)
    name = opened.config.experiment.name
    if name != "forward_reverse":
        raise InputError(
            "advice needs a run of forward_reverse", got=f"{run}: {name}", wanted="forward_reverse"
        )
    own = str(opened.info["reversal"])
    if reversal is not None and reversal != own:
        raise unknown_name("reversal of this run", reversal, [own])


def _lines(found: Advice) -> list[str]:
    from critwin.audits._editing_words import setting_in_words

    section = found.section()
    said = [line for line in section.details if not line.startswith("diffusers")]
    return [section.answer, *said, *(setting_in_words(start) for start in found.starts)]


def _own_samplers(
    presets: Sequence[str] | None,
    schedulers: Sequence[str] | None,
    *,
    karras: bool,
    steps: int,
) -> list[str | Sampler]:
    """Presets, and their configurations under other schedulers."""
    from critwin.errors import InputError

    names = list(presets or ())
    if (schedulers or karras) and not names:
        raise InputError(
            "a scheduler needs a model's configuration",
            got=", ".join(schedulers or ["--karras"]),
            next_step="give --preset too",
        )
    if not names:
        return []
    from critwin.audits.strength import sampler

    options = {"use_karras_sigmas": True} if karras else {}
    out: list[str | Sampler] = []
    for name in names:
        if not schedulers and not karras:
            sampler(name, steps=steps)  # a name that does not exist is said at once
            out.append(name)
        chosen: list[str | None] = [*(schedulers or ())] or ([None] if karras else [])
        for scheduler in chosen:
            out.append(sampler(name, scheduler=scheduler, steps=steps, options=options))
    return out
