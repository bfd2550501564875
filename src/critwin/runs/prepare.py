"""An experiment file made concrete: model and features loaded, sources and levels worked out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from critwin.errors import ConfigError, InputError, MissingExtraError, RunFolderError
from critwin.experiments.arms import Arm, arms_of
from critwin.experiments.branching import stops_of
from critwin.experiments.interventions import resolve_arms
from critwin.experiments.sources import dataset_of, plan_dataset, plan_generated, plan_images
from critwin.experiments.spec import Spec, check_condition, check_features, choose_reversal
from critwin.experiments.units import Level, resolve_levels
from critwin.features.comparison_registry import check_comparisons, load_comparison
from critwin.models.base import trajectories_of
from critwin.runs.config import ComparisonSection, ExperimentFile
from critwin.runs.folder import environment
from critwin.runs.resume import check_config, occupied_by, requested_levels
from critwin.runs.shards import Shard

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from critwin.features.base import Comparison, Feature
    from critwin.models.base import Model

__all__ = ["Prepared", "going_on_with", "identity", "prepare", "spec_of", "use_threads"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """An experiment file whose names have been looked up; nothing has been computed or written.

    Attributes:
        config: The experiment file.
        model: The model.
        features: The features.
        comparisons: Comparisons of source and result.
        shard: The part of the run that is measured; None: all of it.
    """

    config: ExperimentFile
    model: Model
    features: tuple[Feature, ...]
    comparisons: tuple[Comparison, ...] = field(default=())
    shard: Shard | None = None


def prepare(
    config: ExperimentFile,
    *,
    model: Model | None = None,
    features: Sequence[Feature] | None = None,
    comparisons: Sequence[Comparison] | None = None,
    shard: Shard | None = None,
) -> Prepared:
    """Load what an experiment file names and check what it asks of it.

    Args:
        config: The experiment file.
        model: A model to use instead of loading the named one.
        features: Features to use instead of loading the named ones.
        comparisons: Comparisons to use instead of loading the named ones.
        shard: The part of the run to measure; all of it unless given.

    Returns:
        The loaded parts.

    Raises:
        InputError: If a name, an option, a condition or a level cannot be used.
    """
    if shard is not None and config.search is not None:
        raise InputError(
            "a search has no shards",
            got=f"shard {shard} of a file with [search]",
            next_step="leave --shard out: a search asks by what it has found",
        )
    with _located("model"):
        if model is None:
            from critwin.models.registry import load_model

            model = load_model(config.model.name, **config.model.options)
    loaded = []
    if features is None:
        from critwin.features.registry import load_feature

        for index, section in enumerate(config.feature):
            with _located(f"feature.{index}"):
                if "model" in section.options:  # the model that is measured is no option
                    raise InputError(
                        f"unknown option of feature {section.name!r}",
                        got="model",
                        next_step="a network that reads labels is named by `path`",
                    )
                loaded.append(load_feature(section.name, model=model, **section.options))
    with _located("feature"):
        check_features(loaded if features is None else features)
    if comparisons is None:
        comparisons = [
            _comparison(index, section, model) for index, section in enumerate(config.comparison)
        ]
    with _located("comparison"):
        check_comparisons(comparisons)
    prepared = Prepared(
        config, model, tuple(loaded if features is None else features), tuple(comparisons), shard
    )
    spec_of(prepared)
    return prepared


def _comparison(index: int, section: ComparisonSection, model: Model) -> Comparison:
    with _located(f"comparison.{index}"):
        if "model" in section.options:
            raise InputError(f"unknown option of comparison {section.name!r}", got="model")
        return load_comparison(section.name, model=model, **section.options)


def going_on_with(
    folder: Path, config: ExperimentFile, **parts: Any
) -> tuple[dict[str, Any] | None, list[str]]:
    """The run that a folder holds already, and what an experiment file adds to it.

    Args:
        folder: The run folder; it need not exist.
        config: The experiment file.
        **parts: Model, features and comparisons as for :func:`prepare`.

    Returns:
        The run's ``run.json``, None if the folder is free; and what has grown, one line each.

    Raises:
        InputError: If something asked for cannot be used at all; that is said before the folder.
        RunFolderError: If the folder holds something else.
    """
    try:
        info = occupied_by(folder)
        return info, [] if info is None else check_config(info["config"], config)
    except InputError:
        prepare(config, **parts)  # a name that does not exist is the better answer
        raise


def spec_of(prepared: Prepared, measured: Collection[float] = ()) -> Spec:
    """The choices of an experiment file, with its sources and levels worked out.

    Args:
        prepared: The loaded experiment file.
        measured: Requested levels that are measured already.

    Returns:
        The spec.

    Raises:
        InputError: If a condition, a level or the sources cannot be used.
    """
    config, model = prepared.config, prepared.model
    section = config.sources
    with _located("sources"):
        if section.kind == "generated":
            conditions = [None if c == "none" else c for c in section.conditions]
            for name in conditions or [None]:
                check_condition(model, name)
            kind = "trajectory" if config.experiment.has_trajectory else "generated"
            sources = plan_generated(section.count, conditions, kind=kind)
        elif section.kind == "dataset":
            dataset = dataset_of(model)
            sources = plan_dataset(
                section.count,
                len(dataset),
                config.run.seed,
                strata=getattr(dataset, "strata", None),
            )
        else:
            sources = plan_images(
                section.count, str(section.path), config.run.seed, fit=section.fit
            )
            if config.denoise.condition == "same":
                for caption in {source.condition for source in sources}:
                    check_condition(model, caption)
    if prepared.shard is not None:
        sources = prepared.shard.own(sources)
    with _located("levels"):
        requested = requested_levels(config.levels)
        if config.levels is None:
            start = trajectories_of(model).start_logsnr
            levels: tuple[Level, ...] = (Level(start, start),)
        else:
            levels = resolve_levels(
                requested, model.levels, unit=config.levels.unit, measured=measured
            )
    with _located("experiment"):
        arms, stops = _trajectory(config, model, levels)
    with _located("denoise"):
        reversal = choose_reversal(model, config.denoise.reversal)
        if config.denoise.condition != "same":
            told = config.denoise.condition
            check_condition(model, None if told == "none" else told)
    return Spec(
        sources=tuple(sources),
        levels=levels,
        reversal=reversal,
        condition=config.denoise.condition,
        steps=config.denoise.steps,
        guidance=config.denoise.guidance,
        replicates=config.experiment.replicates,
        batch_size=config.run.batch_size,
        batch_ladder=config.run.batch_ladder,
        seed=config.run.seed,
        num_merged=max(0, len(requested) - len(levels)),
        experiment=config.experiment.name,
        stops=stops,
        arms=arms,
    )


def _trajectory(
    config: ExperimentFile, model: Model, levels: Sequence[Level]
) -> tuple[tuple[Arm, ...], tuple[Level, ...]]:
    """Arms of an intervention, and the levels at which generations stop."""
    section = config.experiment
    if not section.has_trajectory:
        return (), ()
    trajectories_of(model)
    if section.name != "intervene":
        return (), stops_of(levels)
    plain = {
        arm.name: [part.model_dump(by_alias=True, exclude_none=True) for part in arm.segments]
        for arm in section.arm
    }
    if len(plain) < len(section.arm):
        raise InputError("two arms have the same name", got=", ".join(a.name for a in section.arm))
    return resolve_arms(model, arms_of(plain))


@contextmanager
def use_threads(threads: int | None) -> Iterator[int]:
    """Set the number of torch's threads inside the block; the bits of a result depend on it.

    Args:
        threads: The number; torch's own if None.

    Yields:
        The number in use.
    """
    import torch

    old = torch.get_num_threads()
    if threads is not None and threads != old:
        torch.set_num_threads(threads)
    try:
        yield torch.get_num_threads()
    finally:
        if torch.get_num_threads() != old:
            torch.set_num_threads(old)


def identity(prepared: Prepared, num_threads: int) -> dict[str, Any]:
    """What a run is measured with: fingerprints, streams, threads, versions.

    Args:
        prepared: The loaded experiment file.
        num_threads: Number of threads of torch.

    Returns:
        Plain values for ``run.json``.
    """
    from critwin.streams import canary

    return {
        "model": {
            "name": str(prepared.model.name),
            "fingerprint": str(prepared.model.fingerprint),
        },
        **_model_source(prepared),
        "features": [
            {"name": f.name, "labels": list(f.labels), "fingerprint": str(f.fingerprint)}
            for f in prepared.features
        ],
        "reversal": choose_reversal(prepared.model, prepared.config.denoise.reversal),
        "canary": canary(),
        "num_threads": num_threads,
        **({} if prepared.shard is None else {"shard": prepared.shard.as_list()}),
        "comparisons": [
            {"name": c.name, "fingerprint": str(c.fingerprint)} for c in prepared.comparisons
        ],
        **environment(),
    }


def _model_source(prepared: Prepared) -> dict[str, Any]:
    """Where the model comes from and what is to be said of it, if it tells."""
    model: Any = prepared.model
    told = dict(getattr(model, "provenance", None) or {})
    notes = [str(note) for note in getattr(model, "notes", ())]
    if callable(notes_on := getattr(model, "notes_on", None)):
        config = prepared.config
        asked = [*config.sources.conditions, config.denoise.condition]
        prompts = [text for text in dict.fromkeys(asked) if text not in ("same", "none", None)]
        notes += [note for note in notes_on(prompts) if note not in notes]
    if notes:
        told["notes"] = notes
    return {"model_source": told} if told else {}


@contextmanager
def _located(key: str) -> Iterator[None]:
    """Name the section of the experiment file in front of an error that it causes."""
    try:
        yield
    except InputError as error:
        if isinstance(error, ConfigError | RunFolderError | MissingExtraError):
            raise
        raise ConfigError(
            key, error.what, got=error.got, wanted=error.wanted, next_step=error.next_step
        ) from error
