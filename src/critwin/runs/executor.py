"""Running an experiment file in a run folder: the experiment's own code, made durable.

The loop knows nothing of noise or features: it asks the experiment for batches, commits each one,
and stops between two. What is in the ledger is never computed again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from critwin.errors import InterruptedRunError, RunFolderError
from critwin.experiments.in_memory import costs_of
from critwin.experiments.measuring import (
    Context,
    Progress,
    iterate,
    measure_sources,
    provenance,
)
from critwin.experiments.search_results import TargetResult, results_of
from critwin.experiments.search_session import SearchSession
from critwin.experiments.sources import Source, SourceState
from critwin.experiments.spec import Spec, plan
from critwin.experiments.trajectories import Waypoints
from critwin.experiments.units import Unit
from critwin.runs.config import ExperimentFile
from critwin.runs.files import MANIFEST_NAME, remove_unused
from critwin.runs.folder import make_folder, seal, write_info
from critwin.runs.images import Images
from critwin.runs.ledger import Ledger
from critwin.runs.lock import locked, refuse_if_locked
from critwin.runs.prepare import Prepared, going_on_with, identity, prepare, spec_of, use_threads
from critwin.runs.resume import check_identity, check_source, next_info, occupied_by
from critwin.runs.searching import search_of, search_summary
from critwin.runs.signals import DroppedBatch, Stop, stop_on_signals

if TYPE_CHECKING:
    from critwin.features.base import Comparison, Feature
    from critwin.models.base import Model
    from critwin.runs.shards import Shard

__all__ = ["RunOutcome", "run_experiment"]


@dataclass(frozen=True)
class RunOutcome:
    """What one call of :func:`run_experiment` did.

    Attributes:
        path: The run folder.
        num_new: Units measured by this call.
        num_done: Units that have a row now.
        num_total: Units of the plan.
        num_invalid: Invalid results among them.
        seconds: How long this call took.
        warnings: Lines that the user should see.
        targets: What a search found, once it has ended.
    """

    path: Path
    num_new: int
    num_done: int
    num_total: int
    num_invalid: int
    seconds: float
    warnings: tuple[str, ...] = ()
    targets: tuple[TargetResult, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every unit of the plan has a row."""
        return self.num_done >= self.num_total


def run_experiment(
    config: ExperimentFile,
    *,
    out: str | Path | None = None,
    model: Model | None = None,
    features: Sequence[Feature] | None = None,
    comparisons: Sequence[Comparison] | None = None,
    shard: Shard | None = None,
    limit: int | None = None,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> RunOutcome:
    """Run an experiment file, or go on with it where its folder left off.

    Args:
        config: The experiment file.
        out: The run folder; that of the file unless given.
        model: A model to use instead of loading the named one.
        features: Features to use instead of loading the named ones.
        comparisons: Comparisons to use instead of loading the named ones.
        shard: The part of the run to measure, in a folder of its own; all of it unless given.
        limit: Largest number of units to measure now.
        threads: Number of threads of torch; those of the folder, else torch's own, unless given.
        progress: Called after each batch.
        say: Called with lines that the user should see at once.

    Returns:
        What was done.

    Raises:
        InputError: If something asked for cannot be used; a new folder is removed again.
        RunFolderError: If the folder is occupied, locked, changed, damaged or not writable.
        TooManyInvalidError: If too many results are invalid; what was measured is kept.
        InterruptedRunError: If a signal stopped the run; what was measured is kept.
    """
    begun = time.monotonic()
    tell = say or (lambda line: None)
    folder = Path(config.run.out if out is None else out)
    parts: dict[str, Any] = {"model": model, "features": features, "comparisons": comparisons}
    parts["shard"] = shard
    info, grown = going_on_with(folder, config, **parts)
    refuse_if_locked(folder)
    if info is not None and threads is None:
        threads = int(info["num_threads"])
    with use_threads(threads) as num_threads:
        prepared = prepare(config, **parts)
        now = identity(prepared, num_threads)
        warnings = [] if info is None else check_identity(info, now)
        for line in warnings:
            tell(f"warning: {line}")
        make_folder(folder)
        is_new, session = info is None, _Session(folder, prepared, limit, progress, tell)
        try:
            with locked(folder):
                if is_new and occupied_by(folder) is not None:
                    raise RunFolderError(
                        "another process has just started a run there",
                        got=str(folder),
                        next_step="run the same command again to go on with it",
                    )
                try:
                    info = next_info(info, prepared.config, now, grown)
                    write_info(folder, info)
                    outcome = session.run(warnings)
                except BaseException:
                    if is_new and not session.has_rows:
                        remove_unused(folder)
                    raise
        except BaseException:
            if is_new and not session.has_rows:
                with suppress(OSError):
                    folder.rmdir()
            raise
    return RunOutcome(**{**outcome, "seconds": time.monotonic() - begun})


class _Session:
    """One process at work on a locked run folder."""

    def __init__(
        self,
        folder: Path,
        prepared: Prepared,
        limit: int | None,
        progress: Callable[[Progress], None] | None,
        say: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._prepared = prepared
        self._limit = limit
        self._progress = progress or (lambda state: None)
        self._say = say
        self._num_new = 0
        self._waypoints = Waypoints()
        self._images = Images(folder, prepared.config.run.images)
        self._total = 0
        self._found: tuple[TargetResult, ...] = ()
        self.has_rows = False

    def run(self, warnings: Sequence[str]) -> dict[str, Any]:
        (self._folder / MANIFEST_NAME).unlink(missing_ok=True)
        is_sound = False
        try:
            with Ledger.create(self._folder) as ledger, stop_on_signals(self._say) as stop:
                self.has_rows = ledger.counts()["num_sources"] > 0
                if not ledger.is_wal:
                    warnings = [*warnings, "the file system has no write-ahead log for SQLite"]
                try:
                    outcome = self._measure(ledger, stop, warnings)
                    is_sound = True
                except RunFolderError:
                    raise  # the disk: leave everything as it is
                except BaseException:
                    is_sound = True
                    raise
        finally:
            if is_sound and self.has_rows:
                with suppress(RunFolderError, OSError):
                    seal(self._folder)
        return outcome

    def _measure(self, ledger: Ledger, stop: Stop, warnings: Sequence[str]) -> dict[str, Any]:
        spec = spec_of(self._prepared, ledger.requested_levels())
        search = search_of(self._prepared, spec)
        units = plan(spec) if search is None else []
        self._total = len(units)
        if spec.num_merged:
            line = f"{spec.num_merged} requested level(s) coincide with others and are left out"
            warnings = [*warnings, line]
            self._say(f"warning: {line}")
        try:
            states: dict[str, SourceState] = {}
            self._sources(ledger, stop, spec, states, [] if search else spec.sources)
            context = Context(
                model=self._prepared.model,
                features=self._prepared.features,
                spec=spec,
                states=states,
                comparisons=self._prepared.comparisons,
                waypoints=self._waypoints,
            )
            priors, attrs = provenance(context)
            ledger.set_meta(priors=priors, attrs=attrs, warnings=list(warnings))
            if search is None:
                ledger.set_meta(num_units=self._total)
                self._units(ledger, stop, context, units)
            else:
                self._search(ledger, stop, context, search, states)
        except DroppedBatch:
            assert stop.signum is not None
        if stop.signum is not None:
            done = ledger.counts()["num_units"]
            raise InterruptedRunError(
                f"stopped: {done} of {self._total} units are measured and kept in "
                f"{str(self._folder)!r}; run the same command again to go on",
                signum=stop.signum,
            )
        counts = ledger.counts()
        return {
            "path": self._folder,
            "num_new": self._num_new,
            "num_done": counts["num_units"],
            "num_total": self._total,
            "num_invalid": counts["num_invalid"],
            "warnings": tuple(warnings),
            "targets": self._found,
        }

    def _search(
        self,
        ledger: Ledger,
        stop: Stop,
        context: Context,
        search: SearchSession,
        states: dict[str, SourceState],
    ) -> None:
        """Rounds of a search: what it asks for, from the ledger or measured now."""
        units: list[Unit] = []
        labels = {feature.name: feature.labels for feature in context.features}
        while asked := search.next_units():
            units += asked
            # the end is not known yet: a run that stops here is not complete
            self._total = max(search.decider.expected_results(), len(units) + 1)
            wanted = {unit.source for unit in asked} - set(states)
            new = [source for source in context.spec.sources if source.name in wanted]
            self._sources(ledger, stop, context.spec, states, new)
            priors, attrs = provenance(context)
            ledger.set_meta(priors=priors, attrs=attrs, num_units=self._total)
            self._units(ledger, stop, context, units, self._total)
            if stop.is_asked() or not {unit.key for unit in asked} <= ledger.done():
                return
            rows = ledger.records(labels)
            assert rows is not None  # those that were asked for
            search.tell(rows)
        self._total = len(units)
        self._units(ledger, stop, context, units)
        self._found = results_of(search.decider)
        ledger.set_meta(num_units=self._total, search=search_summary(search))

    def _sources(
        self,
        ledger: Ledger,
        stop: Stop,
        spec: Spec,
        states: dict[str, SourceState],
        wanted: Sequence[Source],
    ) -> None:
        """Sources from the ledger, if none are there yet; those it lacks are drawn and added."""
        import torch

        planned = {source.name: source for source in spec.sources} if not states else {}
        shape = tuple(self._prepared.model.sample_shape)
        for row in ledger.sources():
            if row["name"] in planned:
                check_source(row, planned[row["name"]])
                clean = torch.from_numpy(row["clean"].astype(np.float32)).reshape(shape)
                states[row["name"]] = SourceState(
                    source=planned[row["name"]],
                    clean=clean,
                    is_valid=row["is_valid"],
                    planted=row["planted"],
                    before=row["before"],
                )
        missing = [source for source in wanted if source.name not in states]
        size = spec.batch_size
        for start in range(0, len(missing), size):
            if stop.is_asked():
                break
            begun = time.monotonic()
            batch = missing[start : start + size]
            new, samples = measure_sources(
                batch,
                self._prepared.model,
                self._prepared.features,
                spec,
                waypoints=self._waypoints,
            )
            files = self._images.of_sources(new, samples)
            ledger.add_sources(
                new, seconds=time.monotonic() - begun, finished=time.time(), files=files
            )
            self.has_rows = True
            states.update((state.source.name, state) for state in new)
            done, num = len(states), len(states) + len(missing) - start - len(batch)
            self._progress(Progress("sources", done, num, 0, done, num))

    def _units(
        self,
        ledger: Ledger,
        stop: Stop,
        context: Context,
        units: Sequence[Unit],
        expected: int | None = None,
    ) -> None:
        """Measure the units that have no row yet; more of them are expected if told so."""
        if stop.is_asked():
            return
        done = ledger.done()
        counts = ledger.counts()
        cost = costs_of(units, context.model, context.spec)
        total = sum(cost[unit.experiment, unit.logsnr] for unit in units)
        todo = [unit for unit in units if unit.key not in done]
        spent = total - sum(cost[unit.experiment, unit.logsnr] for unit in todo)
        num_done, num_invalid = counts["num_units"], counts["num_invalid"]
        chosen = todo if self._limit is None else todo[: self._limit - self._num_new]
        num_total = len(units) if expected is None else expected
        total *= num_total / max(len(units), 1)
        self._progress(Progress("units", num_done, num_total, num_invalid, spent, total))
        begun = time.monotonic()
        for measured in iterate(
            chosen,
            context,
            max_invalid=self._prepared.config.run.max_invalid,
            num_done=num_done,
            num_invalid=num_invalid,
            is_all=len(chosen) == len(todo) and expected is None,
        ):
            files = self._images.of_results(measured)
            ledger.add_results(
                measured, seconds=time.monotonic() - begun, finished=time.time(), files=files
            )
            num = len(measured.units)
            self._num_new += num
            num_done += num
            num_invalid += int(np.sum(~np.asarray(measured.records.valid)))
            spent += num * cost[measured.units[0].experiment, measured.units[0].logsnr]
            self._progress(Progress("units", num_done, num_total, num_invalid, spent, total))
            if stop.is_asked():
                return
            begun = time.monotonic()
