"""Experiment files: TOML, checked section by section, unknown keys refused.

Everything that can change a number of a run stands in the file; :func:`frozen_part` is that part,
and its digest lies in the run folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
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

from critwin._texts import read_toml
from critwin.errors import ConfigError, InputError
from critwin.runs.config_problems import MEANING, Located, conclude, problem_of

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
    "plain_option",
]

Unit = Literal["logsnr", "t", "sigma", "alpha_bar", "flow"]
Number = Annotated[float, Field(allow_inf_nan=False)]


def plain_option(value: Any) -> Any:
    """Check an option of a model or a feature: a plain value, or lists and tables of them.

    Args:
        value: What the file says.

    Returns:
        The same, with text as keys of tables.

    Raises:
        ValueError: If it is anything else.
    """
    if isinstance(value, Mapping):
        return {str(key): plain_option(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_option(item) for item in value]
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
                plain_option(value)
            except ValueError as error:
                raise Located(key, str(error)) from error
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
        path: Folder of images. Captions in its ``metadata.csv`` or ``metadata.jsonl`` (columns
            ``file_name`` and ``text`` or ``caption``) are the conditions of these sources.
        fit: How images are brought to the model's size: ``"crop"`` (unless given; resized until
            they cover it, the middle kept), ``"stretch"``, or ``"exact"``: refused if they differ.
    """

    kind: Literal["generated", "images", "dataset"] = "generated"
    count: int = Field(default=48, ge=1, le=1_000_000)
    conditions: tuple[Text, ...] = Field(default=(), strict=False)
    path: Text | None = None
    fit: Literal["crop", "stretch", "exact"] | None = None

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> SourcesSection:
        if self.kind != "generated" and self.conditions:
            raise Located(
                "conditions",
                "only generated sources have conditions",
                wanted='kind = "generated", or no conditions',
                next_step="change one of the two",
            )
        if (self.kind == "images") != (self.path is not None):
            if self.kind == "images":
                raise Located(
                    "path",
                    "images need a folder",
                    wanted="the path of a folder with PNG or JPEG files",
                    next_step='add path = "FOLDER" under [sources]',
                )
            raise Located(
                "path",
                "only images have a folder",
                wanted='kind = "images", or no path',
                next_step="change one of the two",
            )
        if self.fit is not None and self.kind != "images":
            raise Located("fit", "only images are brought to a size", next_step="leave it out")
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
                raise Located(
                    extra[0],
                    "values and a grid were both given",
                    wanted="values, or from, to and count",
                    next_step="keep one of them",
                )
            if not self.values:
                raise Located("values", "no levels; wanted at least one")
        elif missing := [key for key, value in grid.items() if value is None]:
            raise Located(missing[0], "missing; wanted values, or from, to and count")
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
            raise Located("feature", f"empty; wanted {MEANING['feature']}")
        return self

    def as_dict(self) -> dict[str, Any]:
        """Plain nested values under the names that the file uses, defaults filled in."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def load_config(path: str | Path) -> ExperimentFile:
    """Read and check an experiment file.

    Args:
        path: A TOML file.

    Returns:
        The checked file.

    Raises:
        ConfigError: If the file cannot be read, is not TOML, or an entry is not valid; one line
            that names the file, the first problem and its entry, and the entries of the others.
    """
    try:
        raw = read_toml(
            path,
            kind="experiment file",
            wanted="a TOML file",
            next_step="critwin init writes one",
        )
    except InputError as error:
        raise ConfigError(
            "", error.what, got=error.got, wanted=error.wanted, next_step=error.next_step
        ) from error
    try:
        return parse_config(raw)
    except ConfigError as error:
        error.args = (f"{Path(path).name}: {error}",)
        raise


def parse_config(raw: Mapping[str, Any]) -> ExperimentFile:
    """Check a parsed experiment file.

    Args:
        raw: What the TOML says.

    Returns:
        The checked file.

    Raises:
        ConfigError: The first problem with the path of its entry, and the paths of the others,
            in one line; ``problems`` holds them all.
    """
    try:
        return ExperimentFile.model_validate(dict(raw))
    except ValidationError as error:
        items = error.errors(include_url=False)
        problems = [problem_of(item, _known_keys) for item in items]
    raise conclude(problems)


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


def _known_keys(place: Sequence[int | str]) -> list[str]:
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
