"""The tables and their migrations. All SQL works with SQLite 3.35.

``PRAGMA user_version`` is the number of migrations that a file has. A migration is a tuple of statements. The
missing ones run in one transaction. Never edit a released migration; append a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

__all__ = ("APPLICATION", "MIGRATIONS", "Connection", "Cursor", "SchemaError", "migrate")

#: Marks the file as a journal of ours: "ruxa".
APPLICATION = 0x72757861

#: ``jobs.run`` is 0 for jobs outside of runs. Times are seconds since the epoch. For ``handle``, see
#: `Identity`.
_TABLES = (
    """CREATE TABLE account (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        service TEXT NOT NULL,
        salt BLOB NOT NULL,
        fingerprint TEXT NOT NULL
    )""",
    """CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        begun_at REAL NOT NULL
    )""",
    "INSERT INTO runs (id, name, begun_at) VALUES (0, '', 0)",
    """CREATE TABLE jobs (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES runs (id),
        handle BLOB NOT NULL,
        ordinal INTEGER NOT NULL,
        digest BLOB NOT NULL,
        request TEXT NOT NULL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        intended_at REAL NOT NULL,
        task_id TEXT,
        accepted_at REAL,
        status TEXT,
        credits REAL,
        finished_at REAL,
        error_kind TEXT,
        error_message TEXT,
        past_tasks TEXT NOT NULL DEFAULT '',
        UNIQUE (run, handle, ordinal)
    )""",
    "CREATE INDEX jobs_by_task ON jobs (task_id) WHERE task_id IS NOT NULL",
    """CREATE TABLE files (
        job INTEGER NOT NULL REFERENCES jobs (id),
        number INTEGER NOT NULL,
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (job, number)
    ) WITHOUT ROWID""",
    """CREATE TABLE learned (
        name TEXT PRIMARY KEY, value TEXT NOT NULL, learned_at REAL NOT NULL
    ) WITHOUT ROWID""",
)

#: ``jobs.call`` is the callback id of the last attempt. ``callbacks`` holds callbacks that settled no job.
_CALLBACKS = (
    "ALTER TABLE jobs ADD COLUMN call BLOB",
    "CREATE INDEX jobs_by_call ON jobs (call) WHERE call IS NOT NULL",
    """CREATE TABLE callbacks (
        call BLOB PRIMARY KEY, task_id TEXT, status TEXT, received_at REAL NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX callbacks_by_time ON callbacks (received_at)",
)

#: Sums over earlier attempts of a job that were or may have been bought: their number, how many of them have
#: no price, and the credits of the others. A new attempt overwrites the last one in the row of its job.
_EARLIER_ATTEMPTS = (
    "ALTER TABLE jobs ADD COLUMN past_bought INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN past_untold INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN past_credits REAL NOT NULL DEFAULT 0",
    "UPDATE jobs SET past_bought = length(past_tasks) - length(replace(past_tasks, char(10), ''))",
    "UPDATE jobs SET past_untold = past_bought",
)

#: All migrations in order; the first creates the tables.
MIGRATIONS: tuple[tuple[str, ...], ...] = (_TABLES, _CALLBACKS, _EARLIER_ATTEMPTS)


class Cursor(Protocol):
    """The rows of a statement."""

    def fetchone(self) -> Any:
        """Return the next row, None after the last."""

    def fetchall(self) -> list[Any]:
        """Return the remaining rows."""


class Connection(Protocol):
    """The part of `sqlite3.Connection` that a journal uses, with the errors of sqlite3."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Cursor:
        """Run one statement."""

    def close(self) -> None:
        """Close the file."""


class SchemaError(Exception):
    """A file that cannot be used as a journal; the message says why and what to do."""


def migrate(connection: Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Apply the missing migrations inside the open transaction. Raises `SchemaError`."""
    application = _pragma(connection, "application_id")
    version = _pragma(connection, "user_version")
    if application != APPLICATION:
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application or version or tables:
            raise SchemaError("this is a database of another program: use another path for the journal")
    if version > len(migrations):
        raise SchemaError(
            f"it was written by a newer version of ruxa_async (its schema is {version}, and "
            f"{len(migrations)} is the newest that this version knows): upgrade ruxa_async. "
            "Nothing was changed"
        )
    for statements in migrations[version:]:
        for statement in statements:
            connection.execute(statement)
    if version < len(migrations):
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
