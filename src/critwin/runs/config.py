"""Experiment files: TOML, checked section by section, unknown keys refused.

Everything that can change a number of a run stands in the file; :func:`frozen_part` is that part,
and its digest lies in the run folder.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from critwin.errors import ConfigError

__all__ = [
    "DenoiseSection",
    "ExperimentFile",
    "ExperimentSection",
    "FeatureSection",
    "LevelsSection",
    "ModelSection",
    "RunSection",
    "SourcesSection",
    "digest_of",
    "frozen_part",
    "load_config",
    "parse_config",
]

SIZE_LIMIT = 1_000_000
"""Largest experiment file that is read, bytes."""

Unit = Literal["logsnr", "t", "sigma", "alpha_bar", "flow"]
Number = Annotated[float, Field(allow_inf_nan=False)]


def _plain_option(value: Any) -> Any:
    """Options of models and features are plain values, or lists and tables of them."""
    if isinstance(value, Mapping):
        return {str(key): _plain_option(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_option(item) for item in value]
    if isinstance(value, bool | int | str) or (isinstance(value, float) and isfinite(value)):
        return value
    raise ValueError("wanted finite numbers, text, true or false, or lists and tables of them")


def _printable(value: Any) -> Any:
    if isinstance(value, str) and not all(c.isprintable() or c == "\n" for c in value):
        raise ValueError("wanted text without control characters")
    return value


Text = Annotated[str, BeforeValidator(_printable), Field(min_length=1, max_length=2000)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class RunSection(_Section):
    """``[run]``: where, and what makes the run repeatable.

    Attributes:
        out: The run folder.
        seed: Seed of all random streams.
        batch_size: Number of rows of every batch; part of what fixes the bits of a result.
        max_invalid: Largest share of invalid results before the run stops.
        images: Number of sources whose images are kept for the gallery.
    """

    out: Text = "run"
    seed: int = Field(default=0, ge=0, lt=2**63)
    batch_size: int = Field(default=16, ge=1, le=4096)
    max_invalid: float = Field(default=0.05, ge=0, le=1)
    images: int = Field(default=8, ge=0)


class _Options(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    name: Text

    @model_validator(mode="after")
    def _options_are_plain(self) -> _Options:
        for key, value in (self.model_extra or {}).items():
            try:
                _plain_option(value)
            except ValueError as error:
                raise _Located(key, str(error)) from error
        return self

    @property
    def options(self) -> dict[str, Any]:
        """Everything beside the name."""
        return dict(self.model_extra or {})


class ModelSection(_Options):
    """``[model]``: its name, and the model's own options."""


class FeatureSection(_Options):
    """``[[feature]]``: its name, and the feature's own options."""


class SourcesSection(_Section):
    """``[sources]``: the clean samples to start from.

    Attributes:
        kind: ``"generated"`` by the model, from its ``"dataset"``, or ``"images"`` of a folder.
        count: Number of sources; a larger count keeps the smaller one's sources.
        conditions: Conditions of the generated sources, dealt in turn; ``"none"`` is
            unconditional.
        path: Folder of images.
    """

    kind: Literal["generated", "images", "dataset"] = "generated"
    count: int = Field(default=48, ge=1, le=1_000_000)
    conditions: tuple[Text, ...] = Field(default=(), strict=False)
    path: Text | None = None

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> SourcesSection:
        if self.kind != "generated" and self.conditions:
            raise _Located("conditions", "only generated sources have conditions")
        if (self.kind == "images") != (self.path is not None):
            why = "images need a folder" if self.kind == "images" else "only images have a folder"
            raise _Located("path", why)
        return self


class DenoiseSection(_Section):
    """``[denoise]``: how a noised source is denoised.

    Attributes:
        condition: ``"same"`` as the source was generated with, ``"none"``, or a condition.
        reversal: How to reverse; the model's first way unless given.
        steps: Number of steps of the whole schedule; the model's own unless given.
        guidance: Guidance scale; the model's own unless given.
    """

    condition: Text = "same"
    reversal: Text | None = None
    steps: int | None = Field(default=None, ge=1, le=100_000)
    guidance: float | None = Field(default=None, allow_inf_nan=False)


class LevelsSection(_Section):
    """``[levels]``: the noise levels, as values or as a grid.

    Attributes:
        unit: Unit of the numbers; the grid is uniform in it.
        values: Levels in increasing or decreasing order.
        start: One end of the grid (``from`` in the file).
        stop: The other end (``to`` in the file).
        count: Number of levels of the grid.
    """

    unit: Unit = "t"
    values: tuple[Number, ...] | None = Field(default=None, strict=False)
    start: float | None = Field(default=None, alias="from", allow_inf_nan=False)
    stop: float | None = Field(default=None, alias="to", allow_inf_nan=False)
    count: int | None = Field(default=None, ge=2, le=100_000)

    @model_validator(mode="after")
    def _one_form(self) -> LevelsSection:
        grid = {"from": self.start, "to": self.stop, "count": self.count}
        if self.values is not None:
            if extra := [key for key, value in grid.items() if value is not None]:
                raise _Located(extra[0], "values and a grid were both given; keep one of them")
            if not self.values:
                raise _Located("values", "no levels; wanted at least one")
        elif missing := [key for key, value in grid.items() if value is None]:
            raise _Located(missing[0], "missing; wanted values, or from, to and count")
        return self


class ExperimentSection(_Section):
    """``[experiment]``: which experiment, how often.

    Attributes:
        name: Name of the experiment.
        replicates: Fresh noise and fresh reversals of the same source at the same level.
    """

    name: Literal["forward_reverse"] = "forward_reverse"
    replicates: int = Field(default=1, ge=1, le=100_000)


class ExperimentFile(_Section):
    """A whole experiment file.

    Attributes:
        run: Section ``[run]``.
        model: Section ``[model]``.
        sources: Section ``[sources]``.
        denoise: Section ``[denoise]``.
        levels: Section ``[levels]``.
        experiment: Section ``[experiment]``.
        feature: Sections ``[[feature]]``.
    """

    run: RunSection = RunSection()
    model: ModelSection
    sources: SourcesSection = SourcesSection()
    denoise: DenoiseSection = DenoiseSection()
    levels: LevelsSection
    experiment: ExperimentSection = ExperimentSection()
    feature: tuple[FeatureSection, ...] = Field(strict=False)

    @model_validator(mode="after")
    def _has_features(self) -> ExperimentFile:
        if not self.feature:
            raise _Located("feature", f"empty; wanted {_MEANING['feature']}")
        return self

    def as_dict(self) -> dict[str, Any]:
        """Plain nested values under the names that the file uses, defaults filled in."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class _Located(ValueError):
    """A problem of one key, raised by a check of its whole section."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(problem)
        self.key = key


def load_config(path: str | Path) -> ExperimentFile:
    """Read and check an experiment file.

    Args:
        path: A TOML file.

    Returns:
        The checked file.

    Raises:
        ConfigError: If the file cannot be read, is not TOML, or an entry is not valid; one line a
            problem, each with the path of its entry.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            data = stream.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise ConfigError(
            "",
            "cannot read the experiment file",
            got=f"{path} ({error.strerror or type(error).__name__})",
            wanted="a TOML file",
            next_step="critwin init writes one",
        ) from error
    if len(data) > SIZE_LIMIT:
        raise ConfigError(
            "", f"{file.name} is too large for an experiment file", wanted="at most 1 MB"
        )
    try:
        raw = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            "", f"{file.name} is not valid TOML", got=str(error) or type(error).__name__
        ) from error
    return parse_config(raw)


def parse_config(raw: Mapping[str, Any]) -> ExperimentFile:
    """Check a parsed experiment file.

    Args:
        raw: What the TOML says.

    Returns:
        The checked file.

    Raises:
        ConfigError: One line a problem, each with the path of its entry.
    """
    try:
        return ExperimentFile.model_validate(dict(raw))
    except ValidationError as error:
        problems = [_problem(item) for item in error.errors(include_url=False)]
    raise _ManyConfigErrors(problems) if len(problems) > 1 else problems[0]


def frozen_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that can change a number: all but where results go and what may only grow.

    Args:
        config: A config as :meth:`ExperimentFile.as_dict` gives it.

    Returns:
        A nested dictionary without ``run.out``, ``run.max_invalid``, ``run.images``,
        ``sources.count``, ``experiment.replicates`` and ``levels``.
    """
    free = {
        "run": ("out", "max_invalid", "images"),
        "sources": ("count",),
        "experiment": ("replicates",),
    }
    return {
        section: {k: v for k, v in body.items() if k not in free.get(section, ())}
        if isinstance(body, Mapping)
        else body
        for section, body in config.items()
        if section != "levels"
    }


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON of plain values, 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class _ManyConfigErrors(ConfigError):
    """Several problems of one file, a line each."""

    def __init__(self, problems: list[ConfigError]) -> None:
        super().__init__(problems[0].key, problems[0].what)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


_MEANING = {
    "model": "a section [model] with a name",
    "levels": "a section [levels]",
    "feature": "at least one section [[feature]] with a name",
    "name": "a name",
}

_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "tuple_type": "a list",
    "list_type": "a list",
}


def _problem(item: Mapping[str, Any]) -> ConfigError:
    """One problem that pydantic found, in the project's words."""
    place = ["".join(c for c in str(part) if c.isprintable())[:80] for part in item["loc"]]
    context, kind, value = item.get("ctx", {}), item["type"], item["input"]
    if kind == "extra_forbidden":
        known = _known_keys(item["loc"][:-1])
        close = difflib.get_close_matches(place[-1], known, n=1)
        return ConfigError(
            ".".join(place),
            "unknown key",
            wanted="one of " + ", ".join(known),
            next_step=f"did you mean {close[0]!r}?" if close else None,
        )
    if kind == "missing":
        return ConfigError(".".join(place), "missing", wanted=_meaning(place))
    if kind == "value_error":
        error = context.get("error")
        if isinstance(error, _Located):
            return ConfigError(".".join([*place, error.key]), str(error))
        return ConfigError(".".join(place), str(error), got=value)
    if kind == "literal_error":
        wanted = "one of " + context["expected"].replace("'", "").replace(" or ", ", ")
        choices = wanted.removeprefix("one of ").split(", ")
        close = difflib.get_close_matches(str(value), choices, n=1)
        return ConfigError(
            ".".join(place),
            "not one of the choices",
            got=value,
            wanted=wanted if len(choices) > 1 else choices[0],
            next_step=f"did you mean {close[0]!r}?" if close and len(choices) > 1 else None,
        )
    bounds = {"greater_than_equal": "ge", "less_than_equal": "le", "less_than": "lt"}
    if kind in bounds:
        words = {"ge": "at least", "le": "at most", "lt": "less than"}[bounds[kind]]
        return ConfigError(
            ".".join(place),
            "out of range",
            got=value,
            wanted=f"{words} {context[bounds[kind]]:g}",
        )
    if kind in ("too_short", "string_too_short"):
        return ConfigError(".".join(place), "empty", wanted=_meaning(place))
    return ConfigError(
        ".".join(place),
        "not valid",
        got=value if isinstance(value, bool | int | float | str) else type(value).__name__,
        wanted=_WANTED.get(kind, str(item["msg"])),
    )


def _known_keys(place: tuple[int | str, ...]) -> list[str]:
    """Names of the keys of the section at ``place``."""
    section: Any = ExperimentFile
    for part in place:
        if isinstance(part, str):
            section = {
                "run": RunSection,
                "sources": SourcesSection,
                "denoise": DenoiseSection,
                "levels": LevelsSection,
                "experiment": ExperimentSection,
            }.get(part, section)
    return [info.alias or name for name, info in section.model_fields.items()]


def _meaning(place: list[str]) -> str:
    return _MEANING.get(place[-1], "a value")
