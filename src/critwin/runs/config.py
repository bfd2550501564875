"""Experiment files: TOML, checked section by section, unknown keys refused.

Everything that can change a number of a run stands in the file; :func:`frozen_part` is that part,
and its digest lies in the run folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from critwin._texts import read_toml
from critwin.errors import ConfigError, InputError
from critwin.runs.config_problems import MEANING, Located, conclude, problem_of
from critwin.runs.config_sections import (
    MOST_SEARCHED,
    ArmSection,
    ComparisonSection,
    DenoiseSection,
    ExperimentSection,
    FeatureSection,
    LevelsSection,
    ModelSection,
    RunSection,
    SearchSection,
    Section,
    SegmentSection,
    SourcesSection,
    plain_option,
)

__all__ = [
    "ComparisonSection",
    "DenoiseSection",
    "ExperimentFile",
    "ExperimentSection",
    "FeatureSection",
    "LevelsSection",
    "ModelSection",
    "RunSection",
    "SearchSection",
    "SourcesSection",
    "digest_of",
    "frozen_part",
    "load_config",
    "parse_config",
    "plain_option",
]

_PLACE = ("local_files_only",)  # where files are looked for; what they hold is in fingerprints


class ExperimentFile(Section):
    """A whole experiment file.

    Attributes:
        run: Section ``[run]``.
        model: Section ``[model]``.
        sources: Section ``[sources]``.
        denoise: Section ``[denoise]``.
        levels: Section ``[levels]``.
        experiment: Section ``[experiment]``.
        search: Section ``[search]``; levels are then a range.
        feature: Sections ``[[feature]]``.
        comparison: Sections ``[[comparison]]``: numbers read off source and result together.
    """

    run: RunSection = RunSection()
    model: ModelSection
    sources: SourcesSection = SourcesSection()
    denoise: DenoiseSection = DenoiseSection()
    levels: LevelsSection | None = None
    experiment: ExperimentSection = ExperimentSection()
    search: SearchSection | None = None
    feature: tuple[FeatureSection, ...] = Field(strict=False)
    comparison: tuple[ComparisonSection, ...] = Field(default=(), strict=False)

    @model_validator(mode="before")
    @classmethod
    def _search_may_draw_many(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or not isinstance(raw.get("search"), Mapping):
            return raw
        sources = raw.get("sources", {})
        if not isinstance(sources, Mapping) or sources.get("kind", "generated") != "generated":
            return raw
        return {**raw, "sources": {"count": MOST_SEARCHED, **sources}}

    @model_validator(mode="after")
    def _levels_fit_the_search(self) -> ExperimentFile:
        levels = self.levels
        if levels is None:
            if self.experiment.name != "intervene":
                raise Located("levels", "missing", wanted=MEANING["levels"])
            return self
        if self.experiment.name == "intervene":
            raise Located(
                "levels", "an intervention starts from pure noise", next_step="leave it out"
            )
        if self.search is None:
            if levels.values is None and levels.count is None:
                raise Located("levels.count", "missing", wanted="values, or from, to and count")
            return self
        for key, value in (("values", levels.values), ("count", levels.count)):
            if value is not None:
                raise Located(
                    f"levels.{key}",
                    "a search chooses its levels",
                    wanted="from and to alone",
                    next_step="leave it out, or the section [search]",
                )
        if "count" not in self.sources.model_fields_set:
            raise Located("sources.count", "missing", wanted="how many sources a search may use")
        if self.experiment.replicates != 1:
            raise Located(
                "experiment.replicates",
                "a search chooses its replicates",
                next_step="leave it out, or the section [search]",
            )
        return self

    @model_validator(mode="after")
    def _parts_fit_the_experiment(self) -> ExperimentFile:
        name, asked = self.experiment.name, self.denoise.condition
        if self.experiment.has_trajectory and self.sources.kind != "generated":
            raise Located(
                "sources.kind",
                f"the experiment {name} stops generations on their way",
                wanted='kind = "generated"',
            )
        if self.experiment.has_trajectory and self.search is not None:
            raise Located("search", "a search chooses levels of forward_reverse alone")
        if name == "prompt_switch" and asked == "same":
            raise Located(
                "denoise.condition",
                "missing",
                wanted="the condition that a generation changes to",
                next_step='add condition = "…" under [denoise]',
            )
        if name in ("clone", "preview", "intervene") and asked != "same":
            raise Located(
                "denoise.condition",
                f"the experiment {name} keeps the condition of its sources",
                wanted='"same"',
                next_step="leave it out, or use prompt_switch",
            )
        return self

    @model_validator(mode="after")
    def _has_features(self) -> ExperimentFile:
        if not self.feature:
            raise Located("feature", f"empty; wanted {MEANING['feature']}")
        return self

    def as_dict(self) -> dict[str, Any]:
        """Plain nested values under the names that the file uses, defaults filled in."""
        plain = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        if not self.comparison:
            del plain["comparison"]
        return plain


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
        ``sources.count``, ``experiment.replicates``, ``local_files_only`` of models and
        features and, unless generations stop at the levels, ``levels`` and ``search``.
    """
    experiment = config.get("experiment", {}).get("name", "forward_reverse")
    # a trajectory stops at every level: another level would make it another one
    grow = ("levels", "search") if experiment == "forward_reverse" else ()
    free = {
        "run": ("out", "max_invalid", "images"),
        "sources": ("count",),
        "experiment": ("replicates",),
        "model": _PLACE,
        "feature": _PLACE,
        "comparison": _PLACE,
    }

    def kept(section: str, body: Any) -> Any:
        if isinstance(body, Mapping):
            return {k: v for k, v in body.items() if k not in free.get(section, ())}
        return [kept(section, one) for one in body] if isinstance(body, list | tuple) else body

    return {
        section: kept(section, body) for section, body in config.items() if section not in grow
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
                "arm": ArmSection,
                "segments": SegmentSection,
                "search": SearchSection,
            }.get(part, section)
    return [info.alias or name for name, info in section.model_fields.items()]
