"""Read-only snapshots of a journal, or the name of the process that has it open."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

from anyio import to_thread
from attrs import frozen

from ruxa_async._internal.jsonl import read_json_lines
from ruxa_async.errors import JournalError, JournalInUseError

from ._database import Connect, connect, journal_error, lock
from ._dsn import is_dsn
from ._postgres_view import snapshot
from ._records import JournalCounts, JournalEntry
from ._rows import list_unknown
from ._schema import Connection, SchemaError, migrate
from ._store import Store

__all__ = ("JournalView", "read_only_store", "view_journal")


@frozen(kw_only=True)
class JournalView:
    """A snapshot of a journal.

    *in_use* names the process that has the journal open. If it is a file, its lock excludes readers, so
    *counts* is None and *unknowns* is empty. In PostgreSQL both can be read, and *lease* is the number of
    seconds until that process loses the journal, unless it renews its lease.

    *results* is the number of rows of a ``results.jsonl`` by state, where the last line of a row counts; it
    is empty without a file.
    """

    path: str
    in_use: JournalInUseError | None = None
    lease: float | None = None
    counts: JournalCounts | None = None
    unknowns: tuple[JournalEntry, ...] = ()
    results: Mapping[str, int]


async def view_journal(
    path: str | PathLike[str],
    *,
    run: str | None = None,
    results: str | PathLike[str] | None = None,
    connect: Connect = connect,
) -> JournalView:
    """Return a snapshot of the journal at *path*, only of *run* if given. The journal is not changed.

    *path* is a file, or the ``postgresql://`` URL of a database, with ``#SCHEMA`` behind it if the tables are
    not in the schema ``ruxa_async``.

    *results* is the path of a ``results.jsonl`` to count. Raises `JournalError` if there is no journal or it
    cannot be read.
    """
    return await to_thread.run_sync(_view, path, run, results, connect)


def _view(
    given: str | PathLike[str], run: str | None, results: str | PathLike[str] | None, connect: Connect
) -> JournalView:
    counted = {} if results is None else _count_results(Path(results))
    if is_dsn(given):
        name, in_use, lease, counts, unknowns = snapshot(given, run)
        return JournalView(
            path=name, in_use=in_use, lease=lease, counts=counts, unknowns=tuple(unknowns), results=counted
        )
    path = str(Path(given).absolute())
    if not Path(path).is_file():
        raise JournalError(path, "there is no journal here")
    try:
        with read_only_store(path, connect) as store:
            return JournalView(
                path=path,
                counts=store.counts(run),
                unknowns=tuple(list_unknown(store.connection, run)),
                results=counted,
            )
    except JournalInUseError as exc:
        return JournalView(path=path, in_use=exc, results=counted)


@contextmanager
def read_only_store(path: str | PathLike[str] | None, connect: Connect = connect) -> Iterator[Store]:
    """Yield the store of the journal at *path* and roll back every change to it. Blocking.

    Without a file, or with None, the store is empty and in memory. Raises `JournalInUseError`, or
    `JournalError` if the file cannot be read.
    """
    if path is None or not Path(path).is_file():
        path = ":memory:"
        connection: Connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN")
    else:
        path = str(Path(path).absolute())
        connection = lock(path, connect)
    try:
        # An older file is migrated, and its intended jobs become unknown, within this transaction only.
        migrate(connection)
        yield Store.load(connection)
        connection.execute("ROLLBACK")
    except (sqlite3.Error, SchemaError) as exc:
        raise journal_error(path, exc) from exc
    finally:
        connection.close()


def _count_results(path: Path) -> Mapping[str, int]:
    states: dict[str | int, str] = {}
    with suppress(FileNotFoundError):
        for line in read_json_lines(path):
            values = line.values or {}
            row, state = values.get("id") or values.get("key") or values.get("index"), values.get("state")
            if isinstance(row, (str, int)) and isinstance(state, str):
                states[row] = state
    return Counter(states.values())
