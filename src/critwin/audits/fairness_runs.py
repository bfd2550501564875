"""A fairness audit of run folders, and the two runs that it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critwin.audits.altered import altered_steps
from critwin.audits.fairness import FairnessAudit, fairness_audit, rows_of_condition
from critwin.audits.fidelity import refuse_attribute
from critwin.audits.references import data_reference
from critwin.audits.section import save
from critwin.errors import InputError
from critwin.experiments.arms import Arm, arms_of
from critwin.experiments.outcomes import is_intervention
from critwin.runs.folder import Run, open_run
from critwin.views import transitions_from_records
from critwin.windows import critical_window

if TYPE_CHECKING:
    from critwin.experiments.measuring import Progress
    from critwin.features.labelling import ErrorMatrix
    from critwin.models.base import Model
    from critwin.transitions import Transitions

__all__ = [
    "ARMS",
    "TIMES",
    "arms_around",
    "audit_fairness_run",
    "decided_between",
    "start_runs",
]

TIMES = (0.3, 0.6, 1.0, 1.4, 1.8, 2.2, 2.6, 3.2, 4.0)
"""OU times of a started run."""

ARMS = ("inside the window", "before it", "after it", "everywhere")
"""Arms of a started run; generation goes from much noise (before the window) to little."""


_EXPERIMENTS = ("forward_reverse", "clone")


def audit_fairness_run(
    run: Run | str | Path,
    *,
    attribute: str,
    condition: str | None = None,
    reference: str | Path | Mapping[str, float] = "uniform",
    fidelity: tuple[str, str] | None = None,
    interventions: Run | str | Path | None = None,
    errors: ErrorMatrix | None = None,
    model: Model | None = None,
    largest_loss: float = 0.05,
    confidence: float = 0.95,
    rerun: str = "",
    keep: bool = True,
) -> FairnessAudit:
    """Audit a run whose sources the model generated under a condition.

    Args:
        run: The run, or its folder: of forward–reverse, or of an intervention.
        attribute: The attribute.
        condition: The condition; the one there is unless given.
        reference: ``"uniform"``, ``"data"``, label -> share, or a CSV file of shares.
        fidelity: Feature and label of the condition; found by the condition's name unless given.
        interventions: A run of interventions under the condition.
        errors: Error matrix of the attribute's labeller.
        model: The model that was measured, which tells the steps that arms alter; loaded by its
            name unless given.
        largest_loss: Loss of fidelity up to which an arm is recommended.
        confidence: Of all limits.
        rerun: Command that does it again.
        keep: Whether to keep the result in the run folder.

    Returns:
        The audit.

    Raises:
        InputError: As :func:`critwin.audits.fairness.fairness_audit`, or if sources were drawn
            under another condition than they were denoised under.
        RunFolderError: If a folder cannot be read or written.
    """
    own = run if isinstance(run, Run) else open_run(run)
    records = own.records()
    _check_conditions(own)
    second = interventions
    if second is not None and not isinstance(second, Run):
        second = open_run(second)
    changed = own if is_intervention(records) else second
    steps: Mapping[str, int] = {}
    segments: Mapping[str, Any] = {}
    if changed is not None:
        _check_intervention(changed)
        _check_conditions(changed)
        if changed is not own and str(own.info["model"]["fingerprint"]) != str(
            changed.info["model"]["fingerprint"]
        ):
            raise InputError(
                "the two runs are of different models",
                got=str(changed.info["model"]["name"]),
                wanted=str(own.info["model"]["name"]),
            )
        steps, segments = _steps(changed, model)
    data = None
    if reference == "data":
        from critwin.models.training import training_data

        _, name = rows_of_condition(records, condition)
        section = own.config.model
        told = training_data(section.name, list(own.labels), section.options)
        data = data_reference(told, attribute, name, own.labels)
    audit = fairness_audit(
        records,
        attribute=attribute,
        condition=condition,
        reference=reference,
        data=data,
        fidelity=fidelity,
        interventions=None if second is None else second.records(),
        steps=steps,
        segments=segments,
        errors=errors,
        largest_loss=largest_loss,
        confidence=confidence,
        seed=own.config.run.seed,
        rerun=rerun,
    )
    if keep:
        save(
            audit,
            own.path,
            parameters={
                "attribute": attribute,
                "condition": audit.condition,
                "reference": str(reference),
                "fidelity": None if audit.fidelity is None else list(audit.fidelity),
                "interventions": None if second is None else second.path.name,
                "largest_loss": largest_loss,
                "confidence": confidence,
            },
        )
    return audit


def arms_around(low: float, high: float, instead: str) -> tuple[Arm, ...]:
    """Arms that change the condition inside an interval of noise, before, after and everywhere.

    Args:
        low: OU time of its end at less noise.
        high: OU time of its end at more noise.
        instead: The condition there, ``"none"`` for none.

    Returns:
        The arms, named :data:`ARMS`.

    Raises:
        InputError: If the interval is empty.
    """
    rows: dict[str, dict[str, Any]] = {
        ARMS[0]: {"from": high, "to": low},
        ARMS[1]: {"to": high},
        ARMS[2]: {"from": low},
        ARMS[3]: {},
    }
    return arms_of({name: [{**row, "condition": instead}] for name, row in rows.items()})


def decided_between(tr: Transitions) -> tuple[float, float]:
    """OU times between which an attribute is decided, from ``kept`` .9 to .1.

    An end that is not reached (few images leave ``kept`` uneven at much noise) is put as far from
    the midpoint as the other one; where that is not known either, at the last level.

    Args:
        tr: Transitions of the attribute.

    Returns:
        The ends, at less and at more noise.

    Raises:
        InputError: If the attribute has no window between the levels of the run.
    """
    found = critical_window(tr, test=False)
    low, middle, high = (
        None if edge is None else edge.t.value for edge in (found.start, found.midpoint, found.end)
    )
    if middle is not None:
        low = 2.0 * middle - high if low is None and high is not None else low
        high = 2.0 * middle - low if high is None and low is not None else high
    least, most = float(tr.t.min()), float(tr.t.max())
    low, high = least if low is None else max(low, least), most if high is None else high
    if not low < high:
        raise InputError(
            "the attribute has no window between the levels tried",
            got=f"t = {low:g} to {high:g}",
            next_step="measure more images or other levels",
        )
    return low, min(high, most)


def start_runs(
    model: str,
    out: str | Path,
    *,
    condition: str,
    attribute: str,
    fidelity: str | None = None,
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
        fidelity: Another feature to read, which tells whether an image is of the condition.
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
        InputError: If the model has no such condition or feature, or the new condition is the
            same.
    """
    from critwin.runs.config import parse_config
    from critwin.runs.executor import run_experiment

    if instead == condition:
        raise InputError("the condition is changed to itself", got=instead, wanted="another one")
    if fidelity is not None:
        refuse_attribute(fidelity, attribute)
    features = [attribute] + ([] if fidelity is None else [fidelity])
    first, second = Path(out), Path(out).with_name(Path(out).name + "-interventions")
    choices: dict[str, Any] = {} if steps is None else {"steps": steps}
    shared: dict[str, Any] = {
        "model": {"name": model, **dict(options or {})},
        "sources": {"count": num_images, "conditions": [condition]},
        "feature": [{"name": name} for name in features],
    }

    def text(folder: Path) -> dict[str, Any]:
        return {"run": {"out": str(folder), "seed": seed, "batch_size": batch_size}, **shared}

    told: dict[str, Any] = {"threads": threads, "progress": progress, "say": say}
    levels = {"unit": "t", "values": [float(t) for t in sorted(times)]}
    config = {**text(first), "levels": levels, "denoise": {"condition": "same", **choices}}
    run_experiment(parse_config(config), **told)
    low, high = decided_between(transitions_from_records(open_run(first).records(), attribute))
    arms = [
        {
            "name": arm.name,
            "segments": [_plain(s.t_high, s.t_low, s.condition) for s in arm.segments],
        }
        for arm in arms_around(low, high, instead)
    ]
    changed = {**text(second), "experiment": {"name": "intervene", "arm": arms}}
    if choices:
        changed["denoise"] = choices
    run_experiment(parse_config(changed), **told)
    return first, second


def _plain(high: float, low: float, condition: str) -> dict[str, Any]:
    row: dict[str, Any] = {"condition": condition}
    if high != float("inf"):
        row["from"] = round(high, 3)
    if low > 0:
        row["to"] = round(low, 3)
    return row


def _check_intervention(run: Run) -> None:
    name = run.config.experiment.name
    if name != "intervene":
        raise InputError(
            "this is no run of interventions", got=f"{run.path}: {name}", wanted="intervene"
        )


def _check_conditions(run: Run) -> None:
    """Sources must be denoised under the condition that they were generated under."""
    name = run.config.experiment.name
    if name == "intervene":
        return
    if name not in _EXPERIMENTS:
        raise InputError(
            "a fairness audit cannot read this experiment",
            got=f"{run.path}: {name}",
            wanted="one of " + ", ".join((*_EXPERIMENTS, "intervene")),
        )
    told = run.config.denoise.condition
    drawn = {row["condition"] for row in run.sources()}
    wanted = {None} if told == "none" else {told}
    if told != "same" and drawn != wanted:
        raise InputError(
            "images were generated under one condition and denoised under another",
            got=f"{', '.join(sorted(str(c or 'none') for c in drawn))} and {told}",
            wanted='condition = "same" under [denoise]',
        )


def _steps(run: Run, model: Model | None) -> tuple[dict[str, int], dict[str, Any]]:
    """Steps that the arms of a run alter, and their stretches."""
    config = run.config
    arms = arms_of(
        {
            arm.name: [
                {
                    key: value
                    for key, value in (
                        ("from", s.start),
                        ("to", s.stop),
                        ("condition", s.condition),
                        ("guidance", s.guidance),
                    )
                    if value is not None
                }
                for s in arm.segments
            ]
            for arm in config.experiment.arm
        }
    )
    segments = {
        arm.name: tuple(
            (None if s.t_high == float("inf") else s.t_high, s.t_low, s.condition)
            for s in arm.segments
        )
        for arm in arms
    }
    engine = model
    if engine is None:
        from critwin.models.registry import load_model

        try:
            engine = load_model(config.model.name, **config.model.options)
        except InputError:  # the model is not here: what was measured still is
            return {}, segments
    if str(engine.fingerprint) != str(run.info["model"]["fingerprint"]):
        return {}, segments
    steps = altered_steps(
        engine, arms, steps=config.denoise.steps, reversal=str(run.info["reversal"])
    )
    return steps, segments
