"""The database file: open, lock and close it, and explain its errors. Blocking: for the journal's thread."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from ruxa_async._internal.failpoints import failpoint
from ruxa_async._internal.files import sync_folder
from ruxa_async.errors import JournalError, JournalInUseError

from ._records import Takeover
from ._schema import Connection, SchemaError, migrate
from ._store import OpenFiles, Store
from ._thread import perform, read

__all__ = (
    "Connect",
    "SqliteDatabase",
    "connect",
    "journal_error",
    "lock",
    "who_holds",
)

#: Opens the database at a path, in the thread that will use it. Tests pass their own.
Connect: TypeAlias = Callable[[str], Connection]

#: seconds to wait for a lock; a process that is closing the journal needs less
_BUSY_TIMEOUT = 0.3

#: Primary result codes of SQLite.
_FULL, _BUSY, _LOCKED = 13, 5, 6
#: An extended result code: the file system is mounted read-only, or has no locks.
_NO_LOCK = sqlite3.SQLITE_IOERR_LOCK
_WRITABLE = "check the permissions of the file and of its folder, and that the disk is mounted for writing"
#: What to do about each result code of SQLite.
_ADVICE = {
    _FULL: "the disk is full: free some space and run again",
    _BUSY: "another process has it locked: run again",
    _LOCKED: "another process has it locked: run again",
    3: f"access is denied: {_WRITABLE}",
    8: f"it cannot be written: {_WRITABLE}",
    14: f"it cannot be opened: {_WRITABLE}",
    10: "the disk failed: repair it and run again; everything reported as written is safe",
    _NO_LOCK: f"it cannot be locked: {_WRITABLE}",
    11: "the file is damaged: keep it (`sqlite3 FILE .recover` may save its rows), and use another journal",
    26: "this is not a journal: give another path, or move the file away",
}


def connect(path: str) -> Connection:
    """Open *path* with the standard library, in autocommit mode: transactions are explicit."""
    return sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None)


class SqliteDatabase:
    """The database in the file *path*."""

    renewal: float | None = None  # the lock of a file lasts until it is closed
    takeover: Takeover | None = None

    def __init__(self, path: str, connect: Connect) -> None:
        self.path = path
        self._connect = connect
        self._broken: JournalError | None = None
        self._store: Store | None = None

    def open(self) -> None:
        """Create the file if needed, lock and migrate it. Raises `JournalError` or a subclass."""
        self._store = _open_store(self.path, self._connect)

    def transact(self, operations: Sequence[Callable[[Store], Any]]) -> list[Any]:
        """Run *operations* in one transaction. After an error of the disk, no more are tried."""
        if self._broken is not None:
            raise self._broken
        store = self._store
        assert store is not None
        try:
            store.connection.execute("BEGIN IMMEDIATE")
            fatal = (sqlite3.Error, SchemaError)
            results = [read(perform(operation, store, fatal), store, fatal) for operation in operations]
            failpoint("group written")
            store.connection.execute("COMMIT")
            failpoint("group committed")
        except Exception as exc:  # noqa: BLE001 - raised to every caller of the group
            error = journal_error(self.path, exc)
            if not _is_transient(exc):
                self._broken = error
            with suppress(sqlite3.Error):  # most errors have rolled back already
                store.connection.execute("ROLLBACK")
            raise error from (None if error is exc else exc)
        return results

    def renew(self) -> None:
        """Do nothing."""

    def may_send(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Close the file."""
        assert self._store is not None
        _close_store(self.path, self._store)


def _open_store(path: str, connect: Connect) -> Store:
    """Return the store at *path*: locked, migrated, in WAL mode. Raises `JournalError` or a subclass."""
    try:
        _make_private(Path(path))
    except OSError as exc:
        raise journal_error(path, exc) from exc
    failpoint("journal made")
    connection = lock(path, connect)
    try:
        migrate(connection)
        connection.execute("COMMIT")
        failpoint("journal migrated")
        _write_ahead(connection)
        connection.execute("BEGIN IMMEDIATE")
        store = Store.load(connection, path)
        connection.execute("COMMIT")
        store.files = OpenFiles.of(path)
    except (sqlite3.Error, SchemaError) as exc:
        _close_quietly(connection)
        raise journal_error(path, exc) from exc
    _write_holder(path)
    failpoint("journal opened")
    return store


def lock(path: str, connect: Connect) -> Connection:
    """Return a connection to *path* in a transaction, with an exclusive lock until it is closed.

    The lock is taken before the first read, because two processes that have both read would deadlock.
    Raises `JournalInUseError`, or `JournalError`.
    """
    connection: Connection | None = None
    try:
        connection = connect(path)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
        connection.execute("PRAGMA synchronous = FULL")
        # On macOS, fsync leaves data in the cache of the drive; elsewhere these two change nothing.
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
        connection.execute("BEGIN EXCLUSIVE")
        damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as exc:
        if connection is not None:
            _close_quietly(connection)
        if _is_busy(exc):
            raise JournalInUseError(path, who_holds(path)) from exc
        raise journal_error(path, exc) from exc
    if damage != "ok":
        _close_quietly(connection)
        raise journal_error(path, _damaged(damage))
    return connection


def _close_quietly(connection: Connection) -> None:
    """Close *connection* after an error; an error of closing must not replace it."""
    with suppress(sqlite3.Error):
        connection.close()


def _damaged(report: str) -> sqlite3.Error:
    error = sqlite3.DatabaseError(report)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _write_ahead(connection: Connection) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise SchemaError(
            f"this disk supports no write-ahead log (only {mode}): put the journal on a local disk"
        )


def _make_private(path: Path) -> None:
    """Create the file if needed, with mode 0600; SQLite gives its log the same mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        # The file must not be opened here: closing it would drop the POSIX locks of this process.
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    else:
        sync_folder(path.parent)


# ---- the holder file


def _holder(path: str) -> Path:
    return Path(f"{path}-holder")


def _write_holder(path: str) -> None:
    """Write the process, host and time into a file of its own: others cannot read the locked journal."""
    note = json.dumps({"pid": os.getpid(), "host": platform.node(), "since": round(time.time(), 3)})
    with suppress(OSError):  # it only improves an error message
        part = Path(f"{path}-holder~")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(note)
        part.replace(_holder(path))


def _close_store(path: str, store: Store) -> None:
    """Close what `_open_store` opened."""
    failpoint("journal closing")
    if store.files is None or store.files.missing is None:  # else the holder's file may be another process's
        with suppress(OSError):  # the next holder overwrites it
            _holder(path).unlink(missing_ok=True)
    store.connection.close()
    failpoint("journal closed")


def who_holds(path: str) -> str:
    """Return the process that has the journal at *path* open, as text, "" if it is not known."""
    try:
        note = json.loads(_holder(path).read_text())
        since = datetime.fromtimestamp(note["since"], UTC).astimezone()
        return f"process {int(note['pid'])} on {note['host']!s:.100} since {since:%Y-%m-%d %H:%M:%S}"
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return ""


# ---- errors of SQLite


def _code(error: BaseException) -> int:
    """Return the primary result code of *error*, else 0."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _is_transient(error: BaseException) -> bool:
    """Return whether a later write may succeed: the disk was full, or the database locked."""
    return _code(error) in (_FULL, _BUSY, _LOCKED)


def _is_busy(error: BaseException) -> bool:
    return _code(error) in (_BUSY, _LOCKED)


def journal_error(path: str, error: Exception) -> JournalError:
    """Return the error to raise for *error*, with the file, the reason and what to do."""
    if isinstance(error, JournalError):
        return error
    if isinstance(error, sqlite3.Error):
        message = f"{_advice(error)} ({error})"
    elif isinstance(error, OSError):
        message = f"it cannot be opened: {error.strerror or error}; {_WRITABLE}"
    else:
        message = str(error)
    explained = JournalError(path, message)
    explained.__cause__ = error
    return explained


def _advice(error: sqlite3.Error) -> str:
    extended = getattr(error, "sqlite_errorcode", 0)
    return _ADVICE.get(extended) or _ADVICE.get(_code(error), "the database failed")
