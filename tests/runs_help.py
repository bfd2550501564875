"""A cheap run for tests of run folders."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from critwin.experiments.measuring import Context, Measured, measure, measure_sources
from critwin.experiments.spec import plan
from critwin.runs.config import parse_config
from critwin.runs.executor import RunOutcome, run_experiment
from critwin.runs.prepare import prepare, spec_of
from toy_models import Moved, Side, Size, ToyImages, ToyPoints

CONFIG: dict[str, Any] = {
    "run": {"batch_size": 4, "max_invalid": 0.5, "images": 3},
    "model": {"name": "toy"},
    "sources": {"count": 10},
    "experiment": {"replicates": 2},
    "levels": {"unit": "logsnr", "values": [2.0, 0.0, -2.0, -4.0]},
    "feature": [{"name": "side"}, {"name": "size"}],
}


def spoiled(source: str, logsnr: float) -> bool:
    return source == "s000005" and logsnr == 0.0


def changed(**sections: Mapping[str, Any]) -> dict[str, Any]:
    """The config with some entries of some sections set."""
    raw = copy.deepcopy(CONFIG)
    for section, entries in sections.items():
        if section == "levels":
            raw[section] = dict(entries)
        else:
            raw.setdefault(section, {}).update(entries)
    return raw


def start(
    folder: Path,
    raw: Mapping[str, Any] = CONFIG,
    *,
    model: Any = None,
    features: Any = None,
    images: bool = False,
    **options: Any,
) -> RunOutcome:
    """Run the cheap experiment in a folder."""
    if model is None:
        model = ToyImages(spoil=spoiled) if images else ToyPoints(spoil=spoiled)
    if features is None:
        features = (Side(),) if images else (Side(), Size())
    raw = {**raw, "feature": [{"name": feature.name} for feature in features]}
    return run_experiment(
        parse_config(raw),
        out=folder,
        model=model,
        features=features,
        comparisons=(Moved(),),
        **options,
    )


def measured_run(folder: Path) -> Measured:
    """One batch of the cheap experiment, measured again."""
    del folder
    prepared = prepare(
        parse_config(CONFIG), model=ToyPoints(spoil=spoiled), features=(Side(), Size())
    )
    spec = spec_of(prepared)
    states, _ = measure_sources(spec.sources[:4], prepared.model, prepared.features, spec)
    context = Context(
        model=prepared.model,
        features=prepared.features,
        spec=spec,
        states={state.source.name: state for state in states},
        comparisons=(Moved(),),
    )
    return measure(plan(spec)[:4], context)
