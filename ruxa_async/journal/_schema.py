"""The tables, and how an older journal becomes a newer one. No SQL here is newer than SQLite 3.35.

``user_version`` counts the migrations that a file has been through; each is a tuple of statements, and all that are
missing run in one transaction. A migration that was released is never edited: what comes next is appended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

__all__ = ("APPLICATION", "MIGRATIONS", "Connection", "Cursor", "SchemaError", "migrate")

#: Marks the file as a journal of ours: "ruxa".
APPLICATION = 0x72757861

#: ``jobs.run`` is 0 for what belongs to no run. Times are seconds since the epoch. A handle is in `identity`.
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
    "CREATE TABLE learned (name TEXT PRIMARY KEY, value TEXT NOT NULL, learned_at REAL NOT NULL) WITHOUT ROWID",
)

#: ``jobs.call`` is what the callback of the last attempt is known by; ``callbacks`` are those of no job in here.
_CALLBACKS = (
    "ALTER TABLE jobs ADD COLUMN call BLOB",
    "CREATE INDEX jobs_by_call ON jobs (call) WHERE call IS NOT NULL",
    "CREATE TABLE callbacks (call BLOB PRIMARY KEY, task_id TEXT, status TEXT, received_at REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX callbacks_by_time ON callbacks (received_at)",
)

#: What earlier attempts of a job bought or may have: how many, for how many of them no price was told, and what the
#: others cost. A new attempt takes the place of the last one in its row, but not in the bill.
_BILL = (
    "ALTER TABLE jobs ADD COLUMN past_bought INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN past_untold INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN past_credits REAL NOT NULL DEFAULT 0",
    "UPDATE jobs SET past_bought = length(past_tasks) - length(replace(past_tasks, char(10), ''))",
    "UPDATE jobs SET past_untold = past_bought",
)

#: Every migration there has been, the first one makes the tables.
MIGRATIONS: tuple[tuple[str, ...], ...] = (_TABLES, _CALLBACKS, _BILL)


class Cursor(Protocol):
    """The rows that a statement returned."""

    def fetchone(self) -> Any:
        """Return the next row, None after the last."""
        ...

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        ...


class Connection(Protocol):
    """What a journal needs of a database; sqlite3's connection is one. Its errors are those of sqlite3."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Cursor:
        """Run one statement."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class SchemaError(Exception):
    """The file is sound but cannot be used; the message says why and what would help."""


def migrate(connection: Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the file up to date, inside the transaction that is open. Raises `SchemaError`."""
    application = _pragma(connection, "application_id")
    version = _pragma(connection, "user_version")
    if application != APPLICATION:
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application or version or tables:
            raise SchemaError("this is a database of another program: give the journal a file of its own")
    if version > len(migrations):
        raise SchemaError(
            f"it was written by a newer version of ruxa_async (its schema is {version}, and {len(migrations)} is the "
            "newest that this version knows): upgrade ruxa_async. Nothing was changed"
        )
    for statements in migrations[version:]:
        for statement in statements:
            connection.execute(statement)
    if version < len(migrations):
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
