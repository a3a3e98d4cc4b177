"""A connection to PostgreSQL that runs the journal's SQL. Blocking: for the journal's thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from ._dsn import driver
from ._schema import MIGRATIONS, SchemaError

if TYPE_CHECKING:
    import psycopg

__all__ = ("VERSION", "PostgresConnection", "migrate")

#: seconds; a server that does not respond within them is away
_CONNECT_TIMEOUT = 5
#: milliseconds; a statement or a lock that takes longer fails, so that no operation waits for ever
_STATEMENT_TIMEOUT = 30_000
#: milliseconds; the server ends a transaction whose client says nothing for longer, and frees its locks
_IDLE_TIMEOUT = 5_000
#: The types and operators of SQLite's SQL that PostgreSQL names otherwise.
_WORDS = (
    (" BLOB", " BYTEA"),
    (" REAL", " DOUBLE PRECISION"),
    (" INTEGER", " BIGINT"),
    (" WITHOUT ROWID", ""),
    ("char(10)", "chr(10)"),
)


@cache
def _adapted(sql: str) -> str:
    """Return *sql* with parameters as psycopg writes them."""
    return sql.replace("%", "%%").replace("?", "%s")


class PostgresConnection:
    """A connection in autocommit mode, whose tables are those of *schema*; transactions are explicit."""

    def __init__(self, inner: psycopg.Connection[Any]) -> None:
        self._inner = inner

    @classmethod
    def open(cls, dsn: str, schema: str) -> PostgresConnection:
        """Connect to the server. Raises psycopg's errors."""
        psycopg = driver()
        inner = psycopg.connect(
            dsn,
            autocommit=True,
            connect_timeout=_CONNECT_TIMEOUT,
            application_name="ruxa-async journal",
            tcp_user_timeout=_STATEMENT_TIMEOUT,
            keepalives_idle=10,
        )
        connection = cls(inner)
        quoted = psycopg.sql.Identifier(schema).as_string(None)
        settings = (
            f"search_path = {quoted}",
            "synchronous_commit = on",
            "default_transaction_isolation = 'read committed'",
            f"statement_timeout = {_STATEMENT_TIMEOUT}",
            f"lock_timeout = {_STATEMENT_TIMEOUT}",
            f"idle_in_transaction_session_timeout = {_IDLE_TIMEOUT}",
        )
        connection.execute("; ".join(f"SET {setting}" for setting in settings))
        return connection

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> psycopg.Cursor[Any]:
        """Run one statement, whose parameters are written as ``?``."""
        if not parameters:
            return self._inner.execute(sql)
        values = [value.replace("\0", "\\x00") if isinstance(value, str) else value for value in parameters]
        return self._inner.execute(_adapted(sql), values)

    @contextmanager
    def pipeline(self) -> Iterator[None]:
        """Send statements without waiting for their results, except where rows are fetched, and at the end.

        The first error ends the block. Nothing that was sent after the failed statement is carried out.
        """
        error: Exception | None = None
        try:
            with self._inner.pipeline():
                try:
                    yield
                except Exception as exc:  # noqa: BLE001 - raised below; psycopg would log what follows from it
                    error = exc
        except driver().Error as exc:
            error = error or exc
        if error is not None:
            raise error

    def close(self) -> None:
        """Disconnect."""
        self._inner.close()


def migrate(connection: PostgresConnection, schema: str) -> None:
    """Create the schema or apply its missing migrations in the open transaction. Raises `SchemaError`."""
    quoted = driver().sql.Identifier(schema).as_string(None)
    # Two processes that create the same schema at once would fail otherwise.
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(?))", (f"ruxa_async {schema}",))
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
    connection.execute("CREATE TABLE IF NOT EXISTS version (number BIGINT NOT NULL)")
    row = connection.execute("SELECT number FROM version").fetchone()
    version = 0 if row is None else int(row[0])
    if version > VERSION:
        raise SchemaError(
            f"it was written by a newer version of ruxa_async (its schema is {version}, and {VERSION} is the "
            "newest that this version knows): upgrade ruxa_async. Nothing was changed"
        )
    for statements in _MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    if row is None:
        connection.execute("INSERT INTO version VALUES (?)", (VERSION,))
    elif version < VERSION:
        connection.execute("UPDATE version SET number = ?", (VERSION,))


def _translated(statement: str) -> str:
    for ours, theirs in _WORDS:
        statement = statement.replace(ours, theirs)
    return statement


#: ``holder`` has one row: the process that may write, until when by the server's clock, and the last
#: transaction that it committed. ``passed`` counts equal requests of the passes that are under way.
_HOLDER = (
    """CREATE TABLE holder (
        id BIGINT PRIMARY KEY CHECK (id = 1),
        epoch BIGINT NOT NULL,
        name TEXT NOT NULL,
        since TIMESTAMPTZ NOT NULL,
        lease_until TIMESTAMPTZ NOT NULL,
        last_group TEXT NOT NULL DEFAULT ''
    )""",
    "INSERT INTO holder VALUES (1, 0, '', clock_timestamp(), clock_timestamp())",
    "CREATE TABLE passed (run BIGINT, handle BYTEA, times BIGINT NOT NULL, PRIMARY KEY (run, handle))",
    "ALTER TABLE jobs SET (fillfactor = 70)",
    "CREATE INDEX jobs_live ON jobs (id) WHERE state IN ('intended', 'unknown', 'accepted', 'adopted')",
)
#: The first makes what SQLite's first three do; later ones follow one by one.
_MIGRATIONS = (
    (*(_translated(statement) for statements in MIGRATIONS[:3] for statement in statements), *_HOLDER),
    *(tuple(map(_translated, statements)) for statements in MIGRATIONS[3:]),
)
#: The number of migrations that a journal of this version has.
VERSION = len(_MIGRATIONS)
