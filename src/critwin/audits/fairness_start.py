"""The two runs that a fairness audit needs, started from a model's name alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critwin._texts import unknown_name
from critwin.audits.altered_runs import steps_of_run
from critwin.audits.fairness_runs import arms_around, decided_between
from critwin.audits.questions import Question, check_question, refuse_attribute
from critwin.audits.references import data_reference, reference_of
from critwin.errors import InputError
from critwin.models.training import training_data
from critwin.runs.folder import open_run
from critwin.views import transitions_from_records

if TYPE_CHECKING:
    from critwin.audits.references import Reference
    from critwin.experiments.measuring import Progress
    from critwin.features.labelling import ErrorMatrix

__all__ = ["TIMES", "start_runs"]

TIMES = (0.3, 0.6, 1.0, 1.4, 1.8, 2.2, 2.6, 3.2, 4.0)
"""OU times of a started run."""

_FEWEST_TIMES = 3
_TRIED = (0.5, 1.0)  # a window to check arms with, before there is one


def start_runs(
    model: str,
    out: str | Path,
    *,
    condition: str,
    attribute: str,
    reference: str | Path | Mapping[str, float] | Reference = "uniform",
    fidelity: tuple[str, str] | None = None,
    errors: ErrorMatrix | None = None,
    instead: str = "none",
    options: Mapping[str, Any] | None = None,
    times: Sequence[float] = TIMES,
    num_images: int = 100,
    steps: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[Path, Path]:
    """Measure when a condition's attribute is decided, then change the condition around it.

    Args:
        model: Name of the model.
        out: Run folder; interventions go to the folder of the same name with ``-interventions``.
            The same call goes on with both.
        condition: The condition.
        attribute: Name of the feature.
        reference: What the audit will hold the law against; it is checked before the runs start.
        fidelity: Another feature to read and its label, which say that an image is of the
            condition.
        errors: Error matrix of the attribute's labeller, checked likewise.
        instead: Condition of the arms where something is changed.
        options: Options of the model.
        times: OU times of the first run.
        num_images: Images that are generated and audited.
        steps: Steps of the whole schedule.
        batch_size: Number of rows of every batch.
        seed: Seed of all random streams.
        threads: Threads of torch.
        progress: Called after each batch.
        say: Called with lines that the user should see.

    Returns:
        Both folders.

    Raises:
        InputError: If anything asked for cannot be used: a name, a condition, a level, a
            reference, an error matrix. Then nothing is written.
    """
    from critwin.runs.config import parse_config
    from critwin.runs.executor import run_experiment
    from critwin.runs.prepare import prepare

    if instead == condition:
        raise InputError("the condition is changed to itself", got=instead, wanted="another one")
    if fidelity is not None:
        refuse_attribute(fidelity[0], attribute)
    if len({float(t) for t in times}) < _FEWEST_TIMES:
        raise InputError(
            "too few levels to see when something is decided",
            got=", ".join(f"t = {t:g}" for t in times) or "none",
            wanted=f"at least {_FEWEST_TIMES} different OU times",
        )
    names = [attribute] + ([] if fidelity is None else [fidelity[0]])
    _check_names(names)
    first, second = Path(out), Path(out).with_name(Path(out).name + "-interventions")
    choices: dict[str, Any] = {} if steps is None else {"steps": steps}
    shared: dict[str, Any] = {
        "model": {"name": model, **dict(options or {})},
        "sources": {"count": num_images, "conditions": [condition]},
        "feature": [{"name": name} for name in names],
    }

    def text(folder: Path) -> dict[str, Any]:
        return {"run": {"out": str(folder), "seed": seed, "batch_size": batch_size}, **shared}

    def changed(low: float, high: float) -> dict[str, Any]:
        arms = [
            {
                "name": arm.name,
                "segments": [_plain(s.t_high, s.t_low, s.condition) for s in arm.segments],
            }
            for arm in arms_around(low, high, instead)
        ]
        own = {**text(second), "experiment": {"name": "intervene", "arm": arms}}
        return {**own, "denoise": choices} if choices else own

    levels = {"unit": "t", "values": [float(t) for t in sorted(times)]}
    config = parse_config(
        {**text(first), "levels": levels, "denoise": {"condition": "same", **choices}}
    )
    ready = prepare(config)
    loaded: dict[str, Any] = {"model": ready.model, "features": ready.features}
    labels = {feature.name: feature.labels for feature in ready.features}
    asked = Question(attribute=attribute, reference=reference, fidelity=fidelity, errors=errors)
    check_question(asked, labels)
    if reference == "data":
        told = training_data(model, list(labels), dict(options or {}))
        known = data_reference(told, attribute, condition, labels)
        reference_of(reference, labels[attribute], data=known)
    prepare(parse_config(changed(*_TRIED)), **loaded)
    how: dict[str, Any] = {"threads": threads, "progress": progress, "say": say, **loaded}
    run_experiment(config, **how)
    low, high = decided_between(transitions_from_records(open_run(first).records(), attribute))
    run_experiment(parse_config(changed(low, high)), **how)
    steps_of_run(open_run(second), ready.model)  # the audit need not load the model again
    return first, second


def _check_names(names: Sequence[str]) -> None:
    """Features that there are not are said before a model is loaded."""
    from critwin.features.registry import list_features

    known = list_features()
    for name in names:
        if name not in known:
            raise unknown_name("feature", name, known)


def _plain(high: float, low: float, condition: str) -> dict[str, Any]:
    row: dict[str, Any] = {"condition": condition}
    if high != float("inf"):
        row["from"] = round(high, 3)
    if low > 0:
        row["to"] = round(low, 3)
    return row
