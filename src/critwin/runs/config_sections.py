"""The sections of an experiment file, one class each."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from critwin.runs.config_problems import Located

__all__ = [
    "MOST_SEARCHED",
    "DenoiseSection",
    "ExperimentSection",
    "FeatureSection",
    "LevelsSection",
    "ModelSection",
    "RunSection",
    "SearchSection",
    "Section",
    "SourcesSection",
    "plain_option",
]

MOST_SEARCHED = 4096
"""Sources that a search generates at most, unless the file says otherwise."""

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


class Section(BaseModel):
    """A section: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class RunSection(Section):
    """``[run]``: where, and what makes the run repeatable.

    Attributes:
        out: The run folder.
        seed: Seed of all random streams.
        batch_size: Number of rows of every batch; part of what fixes the bits of a result.
        batch_ladder: Smaller numbers of rows, falling, for batches that do not fit into memory;
            the one that was used is recorded with each result.
        max_invalid: Largest share of invalid results before the run stops.
        images: Number of sources whose images are kept for the gallery.
    """

    out: Text = "run"
    seed: int = Field(default=0, ge=0, lt=2**63)
    batch_size: int = Field(default=16, ge=1, le=4096)
    batch_ladder: tuple[int, ...] = Field(default=(), strict=False)
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


class ComparisonSection(_Options):
    """``[[comparison]]``: its name, and the comparison's own options."""


class SourcesSection(Section):
    """``[sources]``: the clean samples to start from.

    Attributes:
        kind: ``"generated"`` by the model, from its ``"dataset"``, or ``"images"`` of a folder.
        count: Number of sources; a larger count keeps the smaller one's sources.
        conditions: Conditions of the generated sources, dealt in turn, so that one which stands
            there twice gets twice as many; ``"none"`` is unconditional. At most ``count``.
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
        if (unused := len(self.conditions) - self.count) > 0:
            raise Located(
                "conditions",
                f"{len(self.conditions)} conditions for {self.count} sources: {unused} of them "
                "would never be used",
                wanted="a source or more for each",
                next_step="raise count, or leave some out",
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


class DenoiseSection(Section):
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


class LevelsSection(Section):
    """``[levels]``: the noise levels, as values or as a grid.

    Attributes:
        unit: Unit of the numbers; the grid is uniform in it.
        values: Levels in increasing or decreasing order; both are the same run.
        start: One end of the grid (``from`` in the file).
        stop: The other end (``to`` in the file); which of them is larger does not matter.
        count: Number of levels of the grid; none where a search chooses them.
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
        elif missing := [key for key in ("from", "to") if grid[key] is None]:
            raise Located(missing[0], "missing; wanted values, or from, to and count")
        return self


class SegmentSection(Section):
    """A stretch of a generation in which something else is asked for.

    Attributes:
        start: OU time at which it begins (``from`` in the file); with the generation unless given.
        stop: OU time at which it ends (``to`` in the file); with the generation unless given.
        condition: Condition there; the source's unless given.
        guidance: Guidance scale there; that of ``[denoise]`` unless given.
    """

    start: float | None = Field(default=None, alias="from", gt=0, allow_inf_nan=False)
    stop: float | None = Field(default=None, alias="to", ge=0, allow_inf_nan=False)
    condition: Text | None = None
    guidance: float | None = Field(default=None, allow_inf_nan=False)


class ArmSection(Section):
    """``[[experiment.arm]]``: a way to generate, told by what is changed.

    Attributes:
        name: Its name.
        segments: What is changed and where; nothing unless given.
    """

    name: Text
    segments: tuple[SegmentSection, ...] = Field(default=(), strict=False)


class ExperimentSection(Section):
    """``[experiment]``: which experiment, how often.

    Attributes:
        name: Name of the experiment: ``"forward_reverse"``, ``"clone"``, ``"prompt_switch"``,
            ``"preview"`` or ``"intervene"``; see :mod:`critwin.experiments.kinds`.
        replicates: Fresh noise and fresh reversals of the same source at the same level.
        arm: Sections ``[[experiment.arm]]`` of ``"intervene"``.
    """

    name: Literal["forward_reverse", "clone", "prompt_switch", "preview", "intervene"] = (
        "forward_reverse"
    )
    replicates: int = Field(default=1, ge=1, le=100_000)
    arm: tuple[ArmSection, ...] = Field(default=(), strict=False)

    @property
    def has_trajectory(self) -> bool:
        """Whether sources are generations that stop on their way."""
        return self.name != "forward_reverse"

    @model_validator(mode="after")
    def _arms_fit_the_name(self) -> ExperimentSection:
        if self.name == "intervene" and not self.arm:
            raise Located("arm", "missing; wanted [[experiment.arm]] with a name and segments")
        if self.name != "intervene" and self.arm:
            raise Located(
                "arm", "only the experiment intervene has arms", next_step="leave it out"
            )
        if self.name == "preview" and self.replicates != 1:
            raise Located(
                "replicates", "a preview draws nothing: repetitions are equal", wanted="1"
            )
        return self


class SearchSection(Section):
    """``[search]``: levels and sources are chosen as results come in.

    Attributes:
        targets: Edges to sharpen, e.g. ``"ground.midpoint"``, ``"digit.t_after(3,8)"``; the
            midpoint of every feature unless given.
        half_width: Half of the width of every target's 95 % interval to reach, OU time.
        budget: Evaluations of the model to spend at most; no limit unless given.
    """

    targets: tuple[Text, ...] | None = Field(default=None, strict=False)
    half_width: float = Field(default=0.05, ge=0.005, le=2)
    budget: float | None = Field(default=None, gt=0, allow_inf_nan=False)
