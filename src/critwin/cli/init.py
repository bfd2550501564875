"""``critwin init``: write a commented experiment file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from critwin.runs.config import ExperimentFile

__all__ = ["experiment_text", "init"]


def init(
    file: Annotated[Path, typer.Argument(help="Experiment file to write, e.g. digits.toml.")],
    model: Annotated[str, typer.Option(help="Model; critwin models lists them.")] = "digits",
    features: Annotated[
        str, typer.Option(help="Features, by commas; critwin features lists them.")
    ] = "ground,ink,digit",
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
    start: Annotated[float, typer.Option("--from", help="Least noise, in --unit.")] = 0.2,
    stop: Annotated[float, typer.Option("--to", help="Most noise, in --unit.")] = 5.0,
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
        if not isfinite(level):
            raise InputError(
                f"{flag} is not a noise level",
                got=level,
                wanted=f"a finite number in the unit {unit}",
                next_step=f"give another {flag}",
            )
    names = [name.strip() for name in features.split(",") if name.strip()]
    text = experiment_text(
        out=file.stem + "-run" if out is None else out,
        seed=seed,
        batch_size=batch_size,
        model=model,
        features=names,
        options=_options(option or [], names),
        kind=kind,
        count=sources,
        path=path,
        conditions=[name.strip() for name in conditions.split(",") if name.strip()],
        condition=condition,
        reversal=reversal,
        steps=steps,
        unit=unit,
        start=start,
        stop=stop,
        num_levels=levels,
        replicates=replicates,
    )
    try:
        config = parse_config(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("", "an option cannot be written to TOML", got=str(error)) from error
    if check:
        prepare(config)
    write_atomic(file, text.encode())
    if as_json:
        print_json({"file": str(file), "config": config.as_dict()})
    else:
        say(f"Wrote {file}. Next: critwin run {shlex.quote(_as_argument(file))} --dry-run")


def experiment_text(
    *,
    out: str,
    model: str,
    features: Sequence[str],
    count: int,
    start: float,
    stop: float,
    num_levels: int,
    unit: str = "t",
    seed: int = 0,
    batch_size: int = 16,
    images: int = 8,
    options: dict[str, dict[str, Any]] | None = None,
    kind: str = "generated",
    path: str | None = None,
    conditions: Sequence[str] = (),
    condition: str = "same",
    reversal: str | None = None,
    steps: int | None = None,
    replicates: int = 1,
) -> str:
    """An experiment file with a comment on every entry.

    Args:
        out: Run folder.
        model: Name of the model.
        features: Names of the features.
        count: Number of sources.
        start: One end of the levels.
        stop: The other end.
        num_levels: Number of levels.
        unit: Unit of the levels.
        seed: Seed of all random streams.
        batch_size: Rows of every batch.
        images: Number of sources whose images are kept.
        options: Options of the model (under ``"model"``) and of features, by name.
        kind: Kind of sources.
        path: Folder of images.
        conditions: Conditions of generated sources.
        condition: Condition of the reversal.
        reversal: How to reverse.
        steps: Steps of the schedule.
        replicates: Repetitions of each unit.

    Returns:
        TOML.
    """
    own = options or {}
    lines = [
        "# An experiment of critwin: noise samples, denoise them, see which features survive.",
        "# Measure it with `critwin run`; the same command again goes on where it stopped.",
        "",
        "[run]",
        *_entry("out", out, "the run folder"),
        *_entry("seed", seed, "of all random streams"),
        *_entry("batch_size", batch_size, "rows of every batch; fixed, part of the result"),
        *_entry("max_invalid", 0.05, "stop if more results than this share are NaN or constant"),
        *_entry("images", images, "sources whose images are kept for the gallery"),
        "",
        "[model]",
        *_entry("name", model, "`critwin models` lists them"),
        *(line for key, value in own.get("model", {}).items() for line in _entry(key, value)),
        "",
        "[sources]",
        *_entry("kind", kind, "generated by the model, its dataset, or images of a folder"),
        *_entry("count", count, "may grow later; the earlier sources are kept"),
    ]
    if path is not None:
        lines += _entry("path", path, "folder with PNG or JPEG files")
    if conditions:
        lines += _entry("conditions", list(conditions), "dealt to the sources in turn")
    elif kind == "generated":
        lines.append('# conditions = ["…"]  # dealt to the sources in turn; unconditional without')
    lines += [
        "",
        "[denoise]",
        *_entry("condition", condition, '"same" as the source, "none", or a condition'),
        *_optional("reversal", reversal, '"stochastic"', "the model's first way without"),
        *_optional("steps", steps, "50", "of the whole schedule; the model's own without"),
        "",
        "[levels]",
        *_entry("unit", unit, "t (OU time), logsnr, sigma, alpha_bar or flow"),
        *_entry("from", start, "the grid is uniform in the unit"),
        *_entry("to", stop),
        *_entry("count", num_levels, "or give `values = [...]` instead of from, to, count"),
        "",
        "[experiment]",
        *_entry("name", "forward_reverse"),
        *_entry("replicates", replicates, "fresh noise and reversals of a source; may grow later"),
    ]
    for name in features:
        lines += ["", "[[feature]]", *_entry("name", name, "`critwin features` lists them")]
        lines += [ln for key, value in own.get(name, {}).items() for ln in _entry(key, value)]
    return "\n".join(lines) + "\n"


def _entry(key: str, value: Any, comment: str = "") -> list[str]:
    return [f"{key} = {_toml(value)}" + (f"  # {comment}" if comment else "")]


def _optional(key: str, value: Any, example: str, comment: str) -> list[str]:
    return [f"# {key} = {example}  # {comment}"] if value is None else _entry(key, value, comment)


def _toml(value: Any) -> str:
    """A plain value in TOML; JSON's text is TOML's for all but tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


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


def read_back(text: str) -> ExperimentFile:
    """The experiment file that a text is.

    Args:
        text: TOML.

    Returns:
        The checked file.
    """
    import tomllib

    from critwin.runs.config import parse_config

    return parse_config(tomllib.loads(text))
