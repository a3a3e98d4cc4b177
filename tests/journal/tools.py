"""Shared by the tests of the journal: jobs, statuses, and connections that observe or fail."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ruxa_async import JobRecord, NanoBanana, TaskState, TaskStatus
from ruxa_async.journal import LastingJournal
from ruxa_async.journal._database import connect
from ruxa_async.journal._schema import Connection, Cursor

KEY, URL = "sk-canary-0123456789", "http://localhost"


def request(prompt: str = "a cat", key: str | None = None) -> NanoBanana:
    return NanoBanana(prompt=prompt, key=key)


def job(key: str | None = None, *, prompt: str = "a cat", **fields: Any) -> JobRecord:
    return JobRecord(request=request(prompt, key), key=key, **fields)


def of(entry: object, task_id: str | None = None, error: Exception | None = None) -> JobRecord:
    """Return the record of a job that the journal calls *entry*."""
    return JobRecord(request=request(), task_id=task_id, error=error, entry=entry)


def success(task_id: str, **fields: Any) -> TaskStatus:
    fields.setdefault("urls", ("https://files.example/a.png",))
    return TaskStatus(task_id=task_id, state=TaskState.SUCCESS, raw_state="success", **fields)


def failure(task_id: str) -> TaskStatus:
    return TaskStatus(
        task_id=task_id, state=TaskState.FAIL, raw_state="fail", fail_code="500", fail_message="no luck"
    )


class Watched:
    """A connection that tells *told* each statement before it runs."""

    def __init__(self, inner: Connection, told: Callable[[str, Sequence[Any]], object]) -> None:
        self.inner = inner
        self.told = told
        self.closed = False

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Cursor:
        self.told(sql, parameters)
        return self.inner.execute(sql, parameters)

    def close(self) -> None:
        self.closed = True
        self.inner.close()


def watching(told: Callable[[str, Sequence[Any]], object]) -> Callable[[str], Connection]:
    return lambda path: Watched(connect(path), told)


class Gate:
    """Holds the journal's thread back before each COMMIT that it was told to hold."""

    def __init__(self) -> None:
        self.commits = 0
        self.reached = threading.Event()
        self._may_go = threading.Event()
        self._may_go.set()

    def __call__(self, sql: str, _parameters: Sequence[Any]) -> None:
        if sql == "COMMIT":
            self.commits += 1
            if not self._may_go.is_set():
                self.reached.set()
            assert self._may_go.wait(30)

    def shut(self) -> None:
        self.reached.clear()
        self._may_go.clear()

    def open(self) -> None:
        self._may_go.set()


class Spoiler:
    """Makes statements that begin with a text fail with an SQLite error code."""

    def __init__(self) -> None:
        self.begins: str | None = None
        self.code = 0

    def spoil(self, begins: str, code: int) -> None:
        self.begins, self.code = begins, code

    def heal(self) -> None:
        self.begins = None

    def __call__(self, sql: str, _parameters: Sequence[Any]) -> None:
        if self.begins is not None and sql.startswith(self.begins):
            error = sqlite3.OperationalError("spoiled")
            error.sqlite_errorcode = self.code
            raise error


def rows(path: Path, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Read a journal that nobody has open."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()


def journal_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "journal" in thread.name]


def is_open(journal: LastingJournal) -> bool:
    """Ask anew: type checkers take a property for something that stays."""
    return journal.is_open


def damage(path: Path, at: int, size: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * size)
