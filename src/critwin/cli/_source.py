"""What ``critwin windows`` and ``critwin compare`` read: a run folder, or a table of any kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from critwin.records import Records
    from critwin.transitions import Transitions

__all__ = [
    "Source",
    "in_options",
    "label_set",
    "open_source",
    "pairs",
    "shares",
    "speaking_of_options",
]

WORDS = {
    "give weights (never the shares": "give --prior LABEL=SHARE for each label (never the shares",
    "choose one with where={'condition': ...}": "choose one with --where condition=NAME",
    "choose one with where={'reversal': ...}": "choose one with --where reversal=NAME",
    "choose one with where={'experiment': ...}": "choose one with --where experiment=NAME",
    "or filter with where=": "or filter with --where COLUMN=VALUE",
    "name the one that counts as the level column": "name the one that counts: --level-column",
    "give the unit": "give the unit: --unit",
    "name the feature": "name it: --feature NAME",
}
"""What messages ask of a Python caller, and the option that a reader of the shell has for it."""


def in_options(text: str) -> str:
    """A message, with the options of the command line in place of arguments of Python.

    Args:
        text: The message of an error, or a reason.

    Returns:
        The message for the command line.
    """
    for python, shell in WORDS.items():
        text = text.replace(python, shell)
    return text


@contextmanager
def speaking_of_options() -> Iterator[None]:
    """Errors inside the block name options of the command line.

    Yields:
        Nothing.
    """
    from critwin.errors import InputError

    try:
        yield
    except InputError as error:
        if (text := in_options(str(error))) == str(error):
            raise
        raise InputError(text) from error


@dataclass(frozen=True)
class Source:
    """Transitions of some features, and where they come from.

    Attributes:
        path: The folder or file.
        kind: ``"run"``, ``"records"``, ``"transitions"`` or ``"table"``.
        tables: Feature -> transitions.
        reasons: Feature -> why it has none.
    """

    path: Path
    kind: str
    tables: Mapping[str, Transitions]
    reasons: Mapping[str, str]

    def describe(self) -> str:
        """One line: sources, results, levels."""
        if not self.tables:
            return f"{self.path}: no feature can be counted"
        tr = next(iter(self.tables.values()))
        t = tr.t
        span = f"{len(t)} levels from t {t.min():.3g} to {t.max():.3g}"
        if tr.counts is None:
            return f"{self.path}: {tr.kind} transitions, {span}"
        sources = max(table.num_sources or 0 for table in self.tables.values())
        results = max(
            int(table.counts.sum()) for table in self.tables.values() if table.counts is not None
        )
        return f"{self.path}: {sources} sources, {results} results, {span}, reversal {tr.reversal}"


def open_source(
    path: Path,
    *,
    features: Sequence[str] | None = None,
    where: Mapping[str, str] | None = None,
    prior: Mapping[str, float] | None = None,
    level_column: str | None = None,
    unit: str | None = None,
) -> Source:
    """Open a run folder, a netCDF file of critwin, or someone else's table.

    Args:
        path: The folder or file.
        features: Features or products; all unless given.
        where: Column -> value that rows must have.
        prior: Prior over the labels of the only feature.
        level_column: Column of the noise level in a table.
        unit: Its unit.

    Returns:
        The transitions.

    Raises:
        InputError: If it cannot be read, or an option does not fit what it is.
    """
    from critwin.errors import InputError
    from critwin.overview import tables_of_records
    from critwin.storage import kind_of_file, load_records, load_transitions
    from critwin.tables import read_table

    kind = "run" if path.is_dir() else "table"
    if kind == "table" and path.is_file() and path.suffix.lower() in (".nc", ".nc4", ".h5"):
        kind = kind_of_file(path) or "table"
    if kind != "table" and (level_column is not None or unit is not None):
        raise InputError(
            "--level-column and --unit are for tables", got=str(path), wanted="a table"
        )
    if kind == "transitions":
        tr = load_transitions(path)
        if where or prior or (features is not None and list(features) != [tr.feature]):
            raise InputError(
                "a file of transitions has one feature, counted already",
                got=tr.feature,
                next_step="leave --feature, --where and --prior out",
            )
        return Source(path, kind, {tr.feature: tr}, {})
    rows: Records
    if kind == "run":
        from critwin.runs.folder import open_run

        rows = open_run(path).records()
    elif kind == "records":
        rows = load_records(path)
    else:
        with speaking_of_options():
            rows = read_table(path, level_column=level_column, unit=unit)
    conditions: dict[str, Any] | None = dict(where) if where else None
    with speaking_of_options():
        tables, reasons = tables_of_records(rows, features, where=conditions, weights=prior)
    return Source(path, kind, tables, {name: in_options(why) for name, why in reasons.items()})


def pairs(options: Sequence[str] | None, *, name: str) -> dict[str, str] | None:
    """``["a=1", "b=2"]`` as a mapping.

    Args:
        options: Values of an option.
        name: Name of the option, for messages.

    Returns:
        The mapping; None without options.

    Raises:
        InputError: If a value has no ``=`` or a key comes twice.
    """
    from critwin.errors import InputError

    if not options:
        return None
    out: dict[str, str] = {}
    for option in options:
        key, equals, value = option.rpartition("=") if name == "--prior" else option.partition("=")
        if not equals or not key:
            raise InputError(f"{name} cannot be read", got=option, wanted="KEY=VALUE")
        if key in out:
            raise InputError(f"{name} names something twice", got=key, wanted="each name once")
        out[key] = value
    return out


def shares(prior: Mapping[str, str] | None) -> dict[str, float] | None:
    """Numbers of ``--prior LABEL=SHARE``.

    Args:
        prior: Label -> share as text.

    Returns:
        Label -> share; None without options.

    Raises:
        InputError: If a share is no number.
    """
    from critwin.errors import InputError

    out: dict[str, float] = {}
    for label, share in (prior or {}).items():
        try:
            out[label] = float(share)
        except ValueError as error:
            raise InputError(
                "--prior cannot be read", got=f"{label}={share}", wanted="LABEL=NUMBER"
            ) from error
    return out or None


def label_set(
    options: Sequence[str] | None, tables: Mapping[str, Transitions]
) -> list[str] | None:
    """Labels of ``--after A,B`` or ``--after A --after B``; a label may itself hold a comma.

    Args:
        options: Values of the option.
        tables: The tables whose labels they are.

    Returns:
        The labels; None without options, or for ``all``.
    """
    if not options:
        return None
    known = {label for tr in tables.values() for label in tr.before}
    if list(options) == ["all"] and "all" not in known:
        return None
    return [
        part
        for option in options
        for part in ([option] if option in known else option.split(","))
        if part
    ]
