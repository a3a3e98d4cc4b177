"""A path to an open journal that nobody else has. Blocking: for the thread that will own it."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from ruxa_async._internal.failpoints import failpoint
from ruxa_async._internal.files import sync_folder
from ruxa_async.errors import JournalInUseError

from ._failures import explain, is_busy
from ._files import OpenFiles
from ._schema import Connection, SchemaError, migrate
from ._store import Store

__all__ = ("Connect", "close_store", "connect", "lock", "open_store", "who_holds")

#: Opens the database at a path; a test may put another in its place. Called in the thread that will use it.
Connect: TypeAlias = Callable[[str], Connection]

#: Seconds that an opener waits for one who is just leaving.
_PATIENCE = 0.3


def connect(path: str) -> Connection:
    """Open *path* with the standard library, leaving transactions to us."""
    return sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)


def open_store(path: str, connect: Connect) -> Store:
    """Return the store at *path*: locked, up to date, durable. Raises `JournalError` and its kin."""
    try:
        _make_private(Path(path))
    except OSError as exc:
        raise explain(path, exc) from exc
    failpoint("journal made")
    connection = lock(path, connect)
    try:
        migrate(connection)
        connection.execute("COMMIT")
        failpoint("journal migrated")
        _write_ahead(connection)
        connection.execute("BEGIN IMMEDIATE")
        store = Store.over(connection)
        connection.execute("COMMIT")
        store.files = OpenFiles.of(path)
    except (sqlite3.Error, SchemaError) as exc:
        _give_up(connection)
        raise explain(path, exc) from exc
    _sign(path)
    failpoint("journal opened")
    return store


def lock(path: str, connect: Connect) -> Connection:
    """Return a connection to *path* in a transaction, whose lock lasts until it is closed.

    The lock is taken before anything is read: two that had both read would stand in each other's way.
    """
    connection: Connection | None = None
    try:
        connection = connect(path)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN EXCLUSIVE")
        damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as exc:
        if connection is not None:
            _give_up(connection)
        if is_busy(exc):
            raise JournalInUseError(path, who_holds(path)) from exc
        raise explain(path, exc) from exc
    if damage != "ok":
        _give_up(connection)
        raise explain(path, _damaged(damage))
    return connection


def _give_up(connection: Connection) -> None:
    """Close what could not be opened in order; why it could not is what matters."""
    with suppress(sqlite3.Error):
        connection.close()


def _damaged(what: str) -> sqlite3.Error:
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _write_ahead(connection: Connection) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise SchemaError(
            f"this disk allows no write-ahead log (only {mode}): put the journal on a local disk"
        )


def _make_private(path: Path) -> None:
    """Make sure that there is a file which only its owner can read; SQLite gives its log the same mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if (
            path.stat().st_mode & 0o077
        ):  # never opened here: to close it again would drop the locks of this process
            path.chmod(0o600)
    else:
        sync_folder(path.parent)


# ---- who holds it


def _holder(path: str) -> Path:
    return Path(f"{path}-holder")


def _sign(path: str) -> None:
    """Leave a note of who holds the journal: its lock keeps everybody else from reading the journal itself."""
    note = json.dumps({"pid": os.getpid(), "host": platform.node(), "since": round(time.time(), 3)})
    with suppress(OSError):  # it only makes a message better
        part = Path(f"{path}-holder~")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(note)
        part.replace(_holder(path))


def close_store(path: str, store: Store) -> None:
    """Close what `open_store` opened."""
    failpoint("journal closing")
    if (
        store.files is None or store.files.missing is None
    ):  # else the note there is another process's, or none
        with suppress(OSError):  # a note left behind is written over by the next holder
            _holder(path).unlink(missing_ok=True)
    store.connection.close()
    failpoint("journal closed")


def who_holds(path: str) -> str:
    """Return who left a note beside the journal at *path*, in words; empty if nobody did."""
    try:
        note = json.loads(_holder(path).read_text())
        since = datetime.fromtimestamp(note["since"], UTC).astimezone()
        return f"process {int(note['pid'])} on {note['host']!s:.100} since {since:%Y-%m-%d %H:%M:%S}"
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return ""
