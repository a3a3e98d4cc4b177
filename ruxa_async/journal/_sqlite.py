"""`SqliteJournal`: a journal in one file, on the standard library's sqlite3."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from ._database import Connect, SqliteDatabase, connect
from ._journal import DatabaseJournal

__all__ = ("SqliteJournal",)


class SqliteJournal(DatabaseJournal):
    """A journal in the SQLite file *path*, which is created if it does not exist, with mode 0600.

    Use it as ``async with SqliteJournal(path) as journal:``, or pass it to a `RuxaClient`, which opens and
    closes it unless it is open already. Only one process may have it open, and only in the event loop that
    opened it. Opening it raises `JournalInUseError`, or `JournalError` if the file cannot be used.

    *service* is recorded instead of the client's base URL; use it if the address of the same service changes,
    as with an emulator on a free port. *new_key* accepts a new API key of the same account.

    Every commit is synced (``synchronous=FULL``, write-ahead log, exclusive lock), so a durable record
    survives a crash and a loss of power.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        service: str | None = None,
        new_key: bool = False,
        connect: Connect = connect,
    ) -> None:
        name = str(Path(path).absolute())
        super().__init__(name, lambda: SqliteDatabase(name, connect), service=service, new_key=new_key)
