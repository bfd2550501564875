"""The ledger: a SQLite file with one row per unit, written by one process, killed at any instant.

A batch is one transaction: after a kill it is there as a whole or not at all. Every row carries a
digest of its own content, since SQLite does not notice a flipped bit.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critwin.errors import RunFolderError
from critwin.runs.rows import (
    SOURCE_COLUMNS,
    UNIT_COLUMNS,
    SourceRow,
    dump,
    records_of,
    row_digest,
    source_of,
    source_row,
    unit_rows,
)

if TYPE_CHECKING:
    from critwin.experiments.measuring import Measured
    from critwin.experiments.sources import SourceState
    from critwin.records import Records

__all__ = ["LEDGER_NAME", "SCHEMA", "FileRow", "Ledger"]

LEDGER_NAME = "ledger.sqlite"
SCHEMA = 1
WAL_PROBE = "CREATE TABLE probe (x)"  # a write that is rolled back

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE sources (
    name TEXT PRIMARY KEY, position INTEGER NOT NULL, condition TEXT, is_valid INTEGER NOT NULL,
    planted TEXT NOT NULL, reading TEXT NOT NULL, clean BLOB NOT NULL, digest TEXT NOT NULL);
CREATE TABLE units (
    key TEXT PRIMARY KEY, experiment TEXT NOT NULL, source TEXT NOT NULL, condition TEXT NOT NULL,
    requested_logsnr REAL NOT NULL, logsnr REAL NOT NULL, replicate INTEGER NOT NULL,
    reversal TEXT NOT NULL, is_valid INTEGER NOT NULL, reading TEXT NOT NULL,
    digest TEXT NOT NULL);
CREATE TABLE files (
    path TEXT PRIMARY KEY, sha256 TEXT NOT NULL, size INTEGER NOT NULL, source TEXT NOT NULL,
    logsnr REAL);
CREATE TABLE batches (
    id INTEGER PRIMARY KEY, phase TEXT NOT NULL, logsnr REAL, num_rows INTEGER NOT NULL,
    seconds REAL NOT NULL, finished REAL NOT NULL);
"""

_ROWS = {"sources": SOURCE_COLUMNS, "units": UNIT_COLUMNS}
FileRow = tuple[str, str, int, str, float | None]
"""Path in the run folder, SHA-256, size, source, effective logsnr (None: the source itself)."""


class Ledger:
    """An open ledger. Use :meth:`create` or :meth:`read`; close it, or use it in ``with``.

    Attributes:
        path: The file.
        is_wal: Whether the write-ahead log is in use.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, *, is_wal: bool) -> None:
        self.path = path
        self.is_wal = is_wal
        self._connection = connection

    @classmethod
    def create(cls, folder: Path) -> Ledger:
        """Open the ledger of a run folder for writing; create it if there is none.

        Args:
            folder: The run folder, locked by the caller.

        Returns:
            The open ledger.

        Raises:
            RunFolderError: If it cannot be written or is not a ledger of this version.
        """
        path = folder / LEDGER_NAME
        with _explained(path):
            connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
            try:
                is_wal = _choose_journal(connection)
                if not _tables(connection):
                    connection.executescript(
                        f"BEGIN;{_TABLES}PRAGMA user_version = {SCHEMA};COMMIT;"
                    )
                _check_schema(connection, path)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection, is_wal=is_wal)

    @classmethod
    def read(cls, folder: Path) -> Ledger:
        """Open the ledger of a run folder for reading only, also while another process writes.

        Args:
            folder: The run folder.

        Returns:
            The open ledger.

        Raises:
            RunFolderError: If there is none, or it is not a ledger of this version.
        """
        path = folder / LEDGER_NAME
        if not path.is_file():
            raise RunFolderError("the run folder has no ledger", got=str(folder))
        with _explained(path):
            uri = path.resolve().as_uri() + "?mode=ro"
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5.0)
            try:
                _check_schema(connection, path)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection, is_wal=False)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a writer first folds the write-ahead log back into it."""
        if self.is_wal:
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()

    def add_sources(
        self,
        states: Sequence[SourceState],
        *,
        seconds: float,
        finished: float,
        files: Sequence[FileRow] = (),
    ) -> None:
        """Add a batch of sources, in one transaction.

        Args:
            states: The sources.
            seconds: How long the batch took.
            finished: When it was finished, seconds since the epoch.
            files: Files that were written for it.
        """
        rows = [source_row(state) for state in states]
        with self._transaction():
            self._connection.executemany(
                f"INSERT INTO sources VALUES ({_marks(len(SOURCE_COLUMNS) + 1)})", rows
            )
            self._add_files(files)
            self._add_batch("sources", None, len(rows), seconds, finished)

    def add_results(
        self,
        measured: Measured,
        *,
        seconds: float,
        finished: float,
        files: Sequence[FileRow] = (),
    ) -> None:
        """Add the results of a batch of units, in one transaction.

        Args:
            measured: The results.
            seconds: How long the batch took.
            finished: When it was finished, seconds since the epoch.
            files: Files that were written for it.
        """
        rows = unit_rows(measured.units, measured.records)
        with self._transaction():
            self._connection.executemany(
                f"INSERT INTO units VALUES ({_marks(len(UNIT_COLUMNS) + 1)})", rows
            )
            self._add_files(files)
            self._add_batch("units", measured.units[0].logsnr, len(rows), seconds, finished)

    def absorb(self, other: Ledger) -> None:
        """Add everything that another ledger has measured, in one transaction.

        Args:
            other: The ledger of another part of the same run.

        Raises:
            RunFolderError: If a row of it is damaged, or is here already.
        """
        try:
            with self._transaction():
                for table in _ROWS:
                    found = []
                    for row, is_sound in other._rows(table):
                        if not is_sound:
                            raise RunFolderError(f"{other.path}: damaged", got=f"row {row[0]}")
                        found.append(row)
                    query = f"INSERT INTO {table} VALUES ({_marks(len(_ROWS[table]) + 1)})"
                    self._connection.executemany(query, found)
                self._add_files(other.files())
                for batch in other.timings():
                    self._add_batch(*batch.values())
        except sqlite3.IntegrityError as error:
            raise RunFolderError("two parts have the same row", got=str(other.path)) from error

    def set_meta(self, **values: Any) -> None:
        """Store named plain values.

        Args:
            **values: Name -> plain value.
        """
        rows = [(name, dump(value)) for name, value in values.items()]
        with self._transaction():
            self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def meta(self, name: str, default: Any = None) -> Any:
        """A named value, or ``default``."""
        found = self._all("SELECT value FROM meta WHERE name = ?", (name,))
        return json.loads(found[0][0]) if found else default

    def done(self) -> set[str]:
        """Keys of all units that have a row."""
        return {key for (key,) in self._all("SELECT key FROM units")}

    def counts(self) -> dict[str, int]:
        """``num_units``, ``num_invalid``, ``num_sources`` and ``num_files``."""
        (units, invalid), *_ = self._all("SELECT COUNT(*), TOTAL(1 - is_valid) FROM units")
        (sources,), *_ = self._all("SELECT COUNT(*) FROM sources")
        (files,), *_ = self._all("SELECT COUNT(*) FROM files")
        return {
            "num_units": units,
            "num_invalid": int(invalid),
            "num_sources": sources,
            "num_files": files,
        }

    def requested_levels(self) -> list[float]:
        """Requested levels that have a row, noise growing."""
        found = self._all("SELECT DISTINCT requested_logsnr FROM units")
        return sorted((level for (level,) in found), reverse=True)

    def timings(self) -> list[dict[str, Any]]:
        """One entry per batch: phase, logsnr, num_rows, seconds, finished."""
        names = ("phase", "logsnr", "num_rows", "seconds", "finished")
        found = self._all(f"SELECT {', '.join(names)} FROM batches ORDER BY id")
        return [dict(zip(names, row, strict=True)) for row in found]

    def files(self) -> list[FileRow]:
        """Every file that belongs to the run."""
        query = "SELECT path, sha256, size, source, logsnr FROM files ORDER BY path"
        return list(self._all(query))

    def sources(self, *, with_clean: bool = True) -> list[SourceRow]:
        """Every source, in the order of the plan.

        Args:
            with_clean: Whether to read the clean samples too.

        Returns:
            One dictionary a source; ``clean`` is flat float32.
        """
        columns = SOURCE_COLUMNS if with_clean else SOURCE_COLUMNS[:-1]
        found = self._all(f"SELECT {', '.join(columns)} FROM sources ORDER BY position")
        return [source_of(values) for values in found]

    def records(self, labels: Mapping[str, Sequence[str]]) -> Records | None:
        """All rows as Records, in the canonical order; None if there is no row.

        Args:
            labels: Feature -> its labels.

        Returns:
            Records without priors and attributes.
        """
        found = self._all(
            f"SELECT {', '.join(UNIT_COLUMNS)} FROM units ORDER BY experiment, condition, "
            "source, requested_logsnr DESC, replicate"
        )
        return records_of(found, self.sources(with_clean=False), labels) if found else None

    def problems(self) -> Iterator[str]:
        """What is damaged: pages that SQLite finds inconsistent, rows with a wrong digest.

        Yields:
            One line a problem.
        """
        try:
            for (line,) in self._all("PRAGMA integrity_check"):
                if line != "ok":
                    yield f"{LEDGER_NAME}: {line}"
            for table in _ROWS:
                for row, is_sound in self._rows(table):
                    if not is_sound:
                        yield f"{LEDGER_NAME}: a row of {table} is damaged: {row[0]}"
        except (sqlite3.DatabaseError, RunFolderError) as error:
            yield f"{LEDGER_NAME}: {error}"

    def _rows(self, table: str) -> Iterator[tuple[tuple[Any, ...], bool]]:
        """Rows with their digests, and whether the two agree."""
        columns = ", ".join(_ROWS[table])
        for *row, digest in self._connection.execute(f"SELECT {columns}, digest FROM {table}"):
            yield (*row, digest), row_digest(row) == digest

    def _all(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with _explained(self.path):
            return self._connection.execute(query, values).fetchall()

    def _add_files(self, files: Iterable[FileRow]) -> None:
        self._connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", files)

    def _add_batch(
        self, phase: str, logsnr: float | None, num: int, seconds: float, finished: float
    ) -> None:
        self._connection.execute(
            "INSERT INTO batches (phase, logsnr, num_rows, seconds, finished) "
            "VALUES (?, ?, ?, ?, ?)",
            (phase, logsnr, num, seconds, finished),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into one line that says what to do."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # two rows of one key: a bug of ours
    except sqlite3.DatabaseError as error:
        text = str(error)
        steps = {
            "full": "free some space there and run the same command again; nothing is lost",
            "I/O": "free some space there and run the same command again; nothing is lost",
            "readonly": "make the folder writable",
            "unable to open": "make the folder writable",
            "locked": "wait for the other process that uses it",
        }
        step = next((s for word, s in steps.items() if word in text), "critwin verify tells more")
        raise RunFolderError(
            f"cannot use the ledger {str(path)!r}", got=text, next_step=step
        ) from error


def _choose_journal(connection: sqlite3.Connection) -> bool:
    """Use a write-ahead log where it works; some file systems only claim that it does."""
    try:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode == "wal":
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(WAL_PROBE)
            connection.execute("ROLLBACK")
            return True
    except sqlite3.OperationalError:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = FULL")
    return False


def _tables(connection: sqlite3.Connection) -> bool:
    (num,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    return bool(num)


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != SCHEMA:
        raise RunFolderError(
            f"the ledger {str(path)!r} has another format",
            got=f"schema {version}",
            wanted=f"schema {SCHEMA}",
            next_step="use the version of critwin that wrote it",
        )


def _marks(num: int) -> str:
    return ", ".join("?" * num)
