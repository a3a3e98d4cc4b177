"""An older journal is migrated in one transaction, or not changed."""

from __future__ import annotations

import sqlite3

import pytest

from ruxa_async.journal._schema import APPLICATION, MIGRATIONS, SchemaError, migrate

OLD = ("CREATE TABLE jobs (id INTEGER PRIMARY KEY, name TEXT)", "INSERT INTO jobs VALUES (1, 'a')")
ADDED = ("ALTER TABLE jobs ADD COLUMN state TEXT NOT NULL DEFAULT 'accepted'",)
SPLIT = ("CREATE TABLE names (job INTEGER, name TEXT)", "INSERT INTO names SELECT id, name FROM jobs")


@pytest.fixture
def connection() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_a_new_file_gets_every_migration(connection: sqlite3.Connection) -> None:
    migrate(connection)
    assert version(connection) == len(MIGRATIONS)
    assert connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"account", "callbacks", "runs", "jobs", "files", "learned"}
    connection.close()


@pytest.mark.parametrize("was", [1, 2, 3])
def test_an_older_file_gets_the_missing_migrations_and_keeps_its_rows(
    connection: sqlite3.Connection, was: int
) -> None:
    everything = (OLD, ADDED, SPLIT)
    migrate(connection, everything[:was])
    assert version(connection) == was
    migrate(connection, everything)
    migrate(connection, everything)
    assert version(connection) == 3
    assert connection.execute("SELECT * FROM jobs").fetchall() == [(1, "a", "accepted")]
    assert connection.execute("SELECT * FROM names").fetchall() == [(1, "a")]
    connection.close()


def test_a_migration_that_fails_changes_nothing(connection: sqlite3.Connection) -> None:
    migrate(connection, (OLD,))
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, (OLD, ADDED, ("nonsense",)))
    connection.execute("ROLLBACK")
    assert version(connection) == 1
    assert connection.execute("SELECT * FROM jobs").fetchall() == [(1, "a")]
    connection.close()


def test_a_newer_file_is_left_alone(connection: sqlite3.Connection) -> None:
    migrate(connection, (OLD, ADDED))
    with pytest.raises(SchemaError, match="its schema is 2, and 1 is the newest"):
        migrate(connection, (OLD,))
    assert version(connection) == 2
    connection.close()


@pytest.mark.parametrize(
    "theirs", ["PRAGMA user_version = 3", "PRAGMA application_id = 7", "CREATE TABLE mine (x)"]
)
def test_a_file_of_another_program_is_left_alone(connection: sqlite3.Connection, theirs: str) -> None:
    connection.execute(theirs)
    with pytest.raises(SchemaError, match="another program"):
        migrate(connection)
    connection.close()


def test_tasks_of_earlier_attempts_in_an_older_file_are_counted(connection: sqlite3.Connection) -> None:
    migrate(connection, MIGRATIONS[:2])
    connection.execute(
        "INSERT INTO jobs"
        " (id, run, handle, ordinal, digest, request, state, attempts, intended_at, past_tasks)"
        " VALUES (1, 0, x'6b', 1, x'00', '{}', 'failed', 3, 0, 't1' || char(10) || 't2' || char(10))"
    )
    migrate(connection)
    bill = connection.execute("SELECT past_bought, past_untold, past_credits FROM jobs").fetchall()
    assert bill == [(2, 2, 0.0)]
    connection.close()
