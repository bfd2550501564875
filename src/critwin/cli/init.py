"""``critwin init``: write a commented experiment file."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Iterable, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from critwin.models.base import Model

__all__ = ["init"]

_DIGITS = ("ground", "ink", "digit")
_LEAST, _MOST = 0.2, 5.0


def init(
    file: Annotated[Path, typer.Argument(help="Experiment file to write, e.g. digits.toml.")],
    model: Annotated[
        str,
        typer.Option(
            help="Model (critwin models lists them), or a diffusers pipeline: its folder, or its "
            "name on the hub, owner/name."
        ),
    ] = "digits",
    features: Annotated[
        str | None,
        typer.Option(
            help="Features, by commas; critwin features lists them. ground,ink,digit for the "
            "digits unless given."
        ),
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(
            help='A feature in words, NAME="LABEL","LABEL"; read by CLIP or SigLIP. Repeatable.'
        ),
    ] = None,
    labeller: Annotated[
        str | None,
        typer.Option(help="Folder or hub name of the CLIP or SigLIP that reads --feature."),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="Condition of generated sources; may hold commas. Repeatable."),
    ] = None,
    sources: Annotated[int, typer.Option(help="Number of sources.")] = 48,
    kind: Annotated[
        str, typer.Option(help="Sources: generated, dataset or images.")
    ] = "generated",
    path: Annotated[str | None, typer.Option(help="Folder of images, for --kind images.")] = None,
    conditions: Annotated[
        str, typer.Option(help="Conditions of generated sources, by commas.")
    ] = "",
    condition: Annotated[
        str, typer.Option(help="Condition of the reversal: same, none, or a condition.")
    ] = "same",
    reversal: Annotated[
        str | None, typer.Option(help="How to reverse; the model's first way unless given.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of the schedule; the model's own unless given.")
    ] = None,
    levels: Annotated[int, typer.Option(help="Number of noise levels.")] = 20,
    start: Annotated[
        float | None, typer.Option("--from", help="Least noise, in --unit; t = .2 unless given.")
    ] = None,
    stop: Annotated[
        float | None,
        typer.Option("--to", help="Most noise, in --unit; t = 5, or the model's most."),
    ] = None,
    unit: Annotated[str, typer.Option(help="t, logsnr, sigma, alpha_bar or flow.")] = "t",
    replicates: Annotated[int, typer.Option(help="Repetitions of each unit.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of all random streams.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Rows of every batch.")] = 16,
    out: Annotated[
        str | None, typer.Option(help="Run folder; the file's name unless given.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Option of the model or a feature, e.g. model.file=mixture.toml or "
            "ink.min_contrast=0.2; critwin models and critwin features list them.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option(help="Load the model and features to check the file.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a commented experiment file, checked against the model and the features."""
    import tomllib

    from critwin.cli._experiment_text import experiment_text
    from critwin.cli._output import print_json, say
    from critwin.errors import ConfigError, InputError
    from critwin.runs.config import parse_config
    from critwin.runs.files import write_atomic
    from critwin.runs.prepare import prepare

    if file.exists() and not force:
        raise InputError(
            "the experiment file exists",
            got=str(file),
            next_step="choose another name, or --force",
        )
    for flag, level in (("--from", start), ("--to", stop)):
        if level is not None and not isfinite(level):
            raise InputError(
                f"{flag} is not a noise level",
                got=level,
                wanted=f"a finite number in the unit {unit}",
                next_step=f"give another {flag}",
            )
    name, own = _model_of(model)
    words = _words(feature or [])
    asked = _features(features, name, words) if features is not None or words else None
    options = _options(option or [], [*(asked or _DIGITS), *words])
    options["model"] = {**own, **options.get("model", {})}
    if name == "pipeline" and steps is not None:  # its levels are those of its steps
        options["model"].setdefault("steps", steps)
        steps = None
    loaded = _loaded(name, options["model"]) if check else None
    names = _features(features, name, words) if asked is None else asked
    least, most = _range_of(loaded, unit)
    text = experiment_text(
        out=file.stem + "-run" if out is None else out,
        seed=seed,
        batch_size=batch_size,
        model=name,
        features=names,
        words=words,
        labeller=labeller,
        options=options,
        kind=kind,
        count=sources,
        path=path,
        conditions=[
            *(part.strip() for part in conditions.split(",") if part.strip()),
            *(prompt or []),
        ],
        condition=condition,
        reversal=reversal,
        steps=steps,
        unit=unit,
        start=least if start is None else start,
        stop=most if stop is None else stop,
        num_levels=levels,
        replicates=replicates,
    )
    try:
        config = parse_config(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("", "an option cannot be written to TOML", got=str(error)) from error
    if loaded is not None:
        prepare(config, model=loaded)
    write_atomic(file, text.encode())
    if as_json:
        print_json({"file": str(file), "config": config.as_dict()})
    else:
        say(f"Wrote {file}. Next: critwin run {shlex.quote(_as_argument(file))} --dry-run")


def _model_of(model: str) -> tuple[str, dict[str, Any]]:
    """Name of a model and its options; folders and names on the hub are pipelines."""
    from critwin.models.registry import list_models

    if model in list_models() or not ("/" in model or Path(model).is_dir()):
        return model, {}
    return "pipeline", {"path": model}


def _loaded(name: str, options: dict[str, Any]) -> Model:
    """The model, or what is wrong with it under the name of its section."""
    from critwin.errors import ConfigError, InputError
    from critwin.models.registry import load_model

    try:
        return load_model(name, **options)
    except InputError as error:
        raise ConfigError(
            "model", error.what, got=error.got, wanted=error.wanted, next_step=error.next_step
        ) from error


def _words(pairs: Iterable[str]) -> dict[str, list[str]]:
    """Features in words from ``NAME=LABEL,LABEL``; a label with a comma stands in quotes."""
    from critwin.errors import InputError

    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, is_pair, text = (part.strip() for part in pair.partition("="))
        labels = [label.strip() for label in next(csv.reader([text], skipinitialspace=True), [])]
        if not is_pair or not name.isidentifier() or len(labels) < 2 or not all(labels):
            raise InputError(
                "not a feature in words",
                got=pair,
                wanted='NAME="LABEL","LABEL" with at least two labels',
            )
        if name in found:
            raise InputError(
                "two features have the same name", got=name, wanted="a name of its own for each"
            )
        found[name] = labels
    return found


def _features(given: str | None, model: str, words: Iterable[str]) -> list[str]:
    """Names of the features that are not words; the digits have their own unless told."""
    from critwin.errors import InputError

    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    if model == "digits":
        return [] if list(words) else list(_DIGITS)
    if not list(words):
        raise InputError(
            "no features",
            wanted="at least one",
            next_step='--feature NAME="LABEL","LABEL", or --features with one of critwin features',
        )
    return []


def _range_of(model: Model | None, unit: str) -> tuple[float, float]:
    """Least and most noise of a grid in ``unit``, within what the model can start from."""
    import numpy as np

    from critwin.levels import UNITS, from_logsnr, logsnr_of_ou_time, ou_time

    least, most = _LEAST, _MOST
    if unit not in UNITS:  # the file is checked for it
        return least, most
    if model is not None and model.levels is not None:
        own = ou_time(model.levels[np.isfinite(model.levels)])
        least, most = max(least, float(own.min())), min(most, float(own.max()))
    ends = from_logsnr(logsnr_of_ou_time(np.array([least, most])), unit)
    return float(f"{ends[0]:.6g}"), float(f"{ends[1]:.6g}")


def _as_argument(file: Path) -> str:
    """A path that no command takes for an option."""
    return f"./{file}" if str(file).startswith("-") else str(file)


def _options(pairs: Sequence[str], features: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Options from ``OWNER.KEY=VALUE``; values are read as TOML, else taken as text."""
    import tomllib

    from critwin.errors import InputError
    from critwin.runs.config import plain_option

    found: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        place, is_pair, text = pair.partition("=")
        owner, is_place, key = place.partition(".")
        if (
            not is_pair
            or not is_place
            or owner not in ("model", *features)
            or not key.isidentifier()
        ):
            raise InputError(
                "not an option",
                got=pair,
                wanted="model.KEY=VALUE or FEATURE.KEY=VALUE with one of the features",
            )
        try:
            value = tomllib.loads(f"x = {text}")["x"]
        except tomllib.TOMLDecodeError:
            value = text
        try:
            plain_option(value)
        except ValueError as error:
            raise InputError(
                f"--set {place} cannot be written",
                got=text,
                wanted=str(error).removeprefix("wanted "),
            ) from error
        found.setdefault(owner, {})[key] = value
    return found
