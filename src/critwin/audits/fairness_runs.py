"""A fairness audit of run folders, and the two runs that it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critwin.audits.altered_runs import arms_of_run, segments_of, steps_of_run
from critwin.audits.fairness import FairnessAudit, fairness_audit
from critwin.audits.questions import (
    Question,
    check_question,
    condition_among,
)
from critwin.audits.references import data_reference, reference_of
from critwin.audits.section import save
from critwin.errors import InputError
from critwin.experiments.arms import Arm, arms_of
from critwin.runs.folder import Run, open_run
from critwin.windows import critical_window

if TYPE_CHECKING:
    from critwin.features.labelling import ErrorMatrix
    from critwin.models.base import Model
    from critwin.transitions import Transitions

__all__ = [
    "ARMS",
    "arms_around",
    "audit_fairness_run",
    "decided_between",
]

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
    progress: Callable[[str, int, int], None] | None = None,
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
        progress: Called with what is done, how many steps of it, and how many in all.

    Returns:
        The audit.

    Raises:
        InputError: As :func:`critwin.audits.fairness.fairness_audit`, or if sources were drawn
            under another condition than they were denoised under.
        RunFolderError: If a folder cannot be read or written.
    """
    own = run if isinstance(run, Run) else open_run(run)
    asked = Question(attribute=attribute, reference=reference, fidelity=fidelity, errors=errors)
    check_question(asked, own.labels)
    _check_conditions(own)
    _check_range(largest_loss, confidence)
    drawn = [row["condition"] for row in own.sources()]
    name = condition_among(drawn, condition) or None if drawn else condition
    second = interventions
    if second is not None and not isinstance(second, Run):
        second = open_run(second)
    if second is not None and own.config.experiment.name == "intervene":
        raise InputError(
            "the run is one of interventions itself",
            got=f"{own.path} and {second.path}",
            wanted="a run of forward_reverse beside a run of interventions, or one run",
            next_step="leave one of them out",
        )
    changed = own if own.config.experiment.name == "intervene" else second
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
        check_question(asked, changed.labels)
        if changed is not own:
            condition_among([row["condition"] for row in changed.sources()], name or "none")
    data = None
    if reference == "data":
        from critwin.models.training import training_data

        section = own.config.model
        told = training_data(section.name, list(own.labels), section.options)
        data = data_reference(told, attribute, name, own.labels)
        reference_of(reference, own.labels[attribute], data=data)
    tell = progress or (lambda *_: None)
    num_read = 1 + (second is not None)
    tell("runs read", 0, num_read)
    if changed is not None:
        segments = segments_of(arms_of_run(changed))
        steps = steps_of_run(changed, model, keep=keep)
    rows = []
    for part in (own, second):
        rows.append(None if part is None else part.records())
        tell("runs read", len(rows), num_read)
    assert rows[0] is not None
    audit = fairness_audit(
        rows[0],
        attribute=attribute,
        condition=condition,
        reference=reference,
        data=data,
        fidelity=fidelity,
        interventions=rows[1],
        steps=steps,
        segments=segments,
        errors=errors,
        largest_loss=largest_loss,
        confidence=confidence,
        seed=own.config.run.seed,
        rerun=rerun,
        progress=progress,
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


def _check_range(largest_loss: float, confidence: float) -> None:
    if not 0.0 <= largest_loss <= 1.0:
        raise InputError("largest_loss is out of range", got=largest_loss, wanted="in [0, 1]")
    if not 0.5 <= confidence < 1.0:
        raise InputError("confidence is out of range", got=confidence, wanted="in [0.5, 1)")


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
