"""Reading a journal in PostgreSQL, also while another process holds it. Blocking."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define

from ruxa_async.errors import JournalError, JournalInUseError

from ._dsn import driver, name_of_server, split_schema
from ._postgres_connection import VERSION, PostgresConnection
from ._postgres_database import current_holder, explained
from ._records import JournalCounts, JournalEntry
from ._rows import list_unknown
from ._schema import Connection, SchemaError
from ._store import Store

__all__ = ("read_only_postgres", "snapshot")

#: An id that no run has.
_NO_SUCH_RUN = -1


@define(eq=False)
class _Reader(Store):
    """A store whose passes write only into a temporary table."""

    def open_run(self, name: str, at: float) -> int:  # noqa: ARG002 - nothing is written
        """Return the id of the run *name*, one without jobs if it does not exist."""
        row = self.connection.execute("SELECT id FROM runs WHERE name = ?", (name,)).fetchone()
        return _NO_SUCH_RUN if row is None else int(row[0])


def snapshot(
    place: str, run: str | None
) -> tuple[str, JournalInUseError | None, float | None, JournalCounts, list[JournalEntry]]:
    """Return what `JournalView` shows of the journal at *place*: DSN or ``DSN#SCHEMA``.

    Raises `JournalError` if there is none or it cannot be read.
    """
    with _connected(place) as (connection, path):
        if connection is None:
            raise JournalError(path, "there is no journal here")
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        holder, lease = current_holder(connection)
        in_use = None if lease is None else JournalInUseError(path, holder)
        store = Store(connection, 0)
        if in_use is None:  # as the next holder will; it is rolled back
            store.mark_intended_unknown("the process ended while it was on the wire")
        counts, unknowns = store.counts(run), list_unknown(connection, run)
        connection.execute("ROLLBACK")
        return path, in_use, lease, counts, unknowns


@contextmanager
def read_only_postgres(place: str) -> Iterator[Store | None]:
    """Yield a store of the journal at *place* that changes nothing and locks nothing, None if there is none.

    Raises `JournalError` if it cannot be read.
    """
    with _connected(place) as (connection, _):
        if connection is None:
            yield None
            return
        connection.execute(
            "CREATE TEMP TABLE passed (run BIGINT, handle BYTEA, times BIGINT, PRIMARY KEY (run, handle))"
        )
        connection.execute("SET default_transaction_read_only = on")
        yield _Reader(connection, 0)


@contextmanager
def _connected(place: str) -> Iterator[tuple[PostgresConnection | None, str]]:
    """Yield a connection to the journal at *place*, None if it has no tables, and its name for messages."""
    dsn, schema = split_schema(place)
    path = name_of_server(dsn, schema)
    connection: PostgresConnection | None = None
    try:
        connection = PostgresConnection.open(dsn, schema)
        yield (connection if _is_there(connection) else None), path
    except (driver().Error, SchemaError) as exc:
        raise explained(path, exc) from exc
    finally:
        if connection is not None:
            connection.close()


def _is_there(connection: Connection) -> bool:
    """Tell whether the schema has the tables of a journal. Raises `SchemaError` if of another version."""
    (found,) = connection.execute("SELECT to_regclass('version') IS NOT NULL").fetchall()[0]
    if not found:
        return False
    (version,) = connection.execute("SELECT number FROM version").fetchall()[0]
    if version == VERSION:
        return True
    raise SchemaError(
        f"its schema is {version}, and this version of ruxa_async reads {VERSION}: "
        + ("upgrade ruxa_async" if version > VERSION else "run a batch or a client with this journal first")
    )
