"""`SqliteJournal`: a journal in one file, on the standard library."""

from __future__ import annotations

import json
import secrets
import time
import weakref
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from ruxa_async.errors import JournalError, JournalMismatchError
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import JobRecord, TaskStatus

from . import _settling as settling
from ._identity import fingerprint
from ._opening import Connect, close_store, connect, open_store
from ._owner import Owner
from ._records import JournalCounts, JournalEntry, KeptCallback, Match, SavedFile
from ._rows import bought_anything, clean, count, list_callbacks, list_unknown
from ._store import Store

__all__ = ("SqliteJournal", "SqliteRun")

_T = TypeVar("_T")


class SqliteJournal:
    """A journal in the file *path*, which is made, with its folders, if it is not there; only its owner can read it.

    Use it as ``async with SqliteJournal(path) as journal:``, or give it to a `RuxaClient`, which opens it if it is
    not open and then closes it. One process at a time may have it open. It belongs to the event loop in which it was
    opened. *service* stands for the client's base URL where the address changes and the service does not, as with an
    emulator on any free port. *new_key* lets another API key take over, for a key that was renewed. Entering it
    raises `JournalInUseError`, or `JournalError` if the file cannot be used.

    A row that was acknowledged survives a crash of the process and a loss of power: every commit is synced
    (``synchronous=FULL``, write-ahead log, exclusive lock).
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        service: str | None = None,
        new_key: bool = False,
        connect: Connect = connect,
    ) -> None:
        self.path = str(Path(path).absolute())
        self._service = service
        self._new_key = new_key
        self._connect = connect
        self._owner: Owner | None = None
        self._clients = 0
        self._passes: set[str] = set()

    def __repr__(self) -> str:
        return f"<SqliteJournal {self.path} {'open' if self.is_open else 'closed'}>"

    # ---- opening and closing

    @property
    def is_open(self) -> bool:
        """Whether it was entered and not left."""
        return self._owner is not None

    async def __aenter__(self) -> Self:
        if self._owner is not None:
            raise RuntimeError("this SqliteJournal is open already: share it, do not enter it twice")
        path, connect = (
            self.path,
            self._connect,
        )  # not self: the thread must not keep a journal alive that was dropped
        owner = Owner(path, lambda: open_store(path, connect), lambda store: close_store(path, store))
        await owner.start()
        self._owner = owner
        self._clients = 0
        self._passes.clear()
        weakref.finalize(self, owner.stop).atexit = False  # at exit the system lets go of the file
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Write what is still to be written, and let go of the file. Closing twice is harmless."""
        owner, self._owner = self._owner, None
        if owner is not None:
            await owner.aclose()

    async def bind(self, *, base_url: str, api_key: str) -> None:
        """Note that a client of this service and account begins. Raises `JournalMismatchError` if it is another's.

        A journal belongs to the first account whose job was accepted or is unknown. Until then another account may take
        it over, unless a client of the first one is still at work.
        """
        service, path, new_key = self._service or base_url, self.path, self._new_key
        alone = self._clients == 0
        self._clients += 1
        try:
            await self._run(lambda store: _bind(store, path, service, api_key, new_key=new_key, alone=alone))
        except BaseException:
            self._clients -= 1
            raise

    async def unbind(self) -> None:
        """Note that a client ended. After the last one, a create that is still only intended is unknown."""
        self._clients -= 1
        if self._clients == 0:
            await self._run(lambda store: store.cut_off("it was cut off when the client was closed"))

    # ---- what the client reports

    async def intend(self, job: JobRecord) -> object:
        """Record that *job* is about to be sent; return its entry when that is durable."""
        at = time.time()
        return await self._run(lambda store: store.intend(job, at))

    async def not_bought(self, job: JobRecord) -> None:
        """Record that the attempt bought nothing."""
        await self._run(lambda store: store.not_bought(job))

    async def accepted(self, job: JobRecord) -> None:
        """Record the task id of *job*; return when that is durable."""
        at = time.time()
        await self._run(lambda store: store.accepted(job, at))

    async def unknown(self, job: JobRecord) -> None:
        """Record that nobody knows whether *job* was bought."""
        await self._run(lambda store: store.unknown(job))

    async def finished(self, job: JobRecord, status: TaskStatus | None) -> None:
        """Record how the task ended, or that polling gave up."""
        at = time.time()
        await self._run(lambda store: store.finished(job, status, at))

    async def saved(self, task_id: str, file: SavedFile) -> None:
        """Record that an output is whole on the disk; call it before the file gets its final name."""
        await self._run(lambda store: store.saved(task_id, file))

    # ---- runs, and what is in doubt

    async def open_run(self, name: str) -> SqliteRun:
        """Begin a pass through the run *name*. Raises `JournalError` if one is under way."""
        if not name.strip():
            raise ValueError(f"{name!r} is no name for a run")
        if name in self._passes:
            raise JournalError(self.path, f"a pass through the run {name!r} is under way: let it end first")
        self._passes.add(name)
        at = time.time()
        try:
            number = await self._run(lambda store: store.open_run(clean(name), at))
        except BaseException:
            self._passes.discard(name)
            raise
        return SqliteRun(name, number, self)

    async def unknowns(self, run: str | None = None) -> list[JournalEntry]:
        """Return the jobs of which nobody knows whether they were bought, in the order of their intents."""
        return await self._run(lambda store: list_unknown(store.connection, run))

    async def adopt(self, name: str, task_id: str, run: str | None = None) -> JournalEntry:
        """Settle the unknown job *name*: it was bought, as *task_id*. Raises `JournalError` if that cannot be."""
        if not task_id.strip():
            raise ValueError("the task id that the service gave is needed")
        path = self.path
        return await self._run(lambda store: settling.adopt(store.connection, path, name, task_id, run))

    async def forget(self, name: str, run: str | None = None) -> JournalEntry:
        """Settle the unknown job *name*: it was not bought, and may be. Raises `JournalError` if that cannot be."""
        path = self.path
        return await self._run(lambda store: settling.forget(store.connection, path, name, run))

    async def called_back(self, callback_id: bytes, task_id: str | None, status: TaskStatus | None) -> bool:
        """Note that the service called back about the attempt that was known as *callback_id*; return whether that settled a job."""
        at = time.time()
        return await self._run(
            lambda store: settling.called_back(store.connection, callback_id, task_id, status, at)
        )

    async def callbacks(self) -> list[KeptCallback]:
        """Return what was kept of callbacks that settled nothing, the oldest first."""
        return await self._run(lambda store: list_callbacks(store.connection))

    async def counts(self, run: str | None = None) -> JournalCounts:
        """Return how many jobs are in each state."""
        return await self._run(lambda store: count(store.connection, run))

    # ---- what is learned

    async def learned(self, name: str) -> Any:
        """Return what was last learned under *name*, None if nothing was."""
        return await self._run(lambda store: store.learned(name))

    async def learn(self, name: str, value: Any) -> None:
        """Keep *value*, which must be JSON, under *name*."""
        at, text = time.time(), json.dumps(value)
        await self._run(lambda store: store.learn(name, text, at))

    async def _match(self, run: int, name: str, request: GenerationRequest) -> Match:
        return await self._run(lambda store: store.match(run, name, request))

    async def _run(self, operation: Callable[[Store], _T]) -> _T:
        if self._owner is None:
            raise JournalError(self.path, "the journal is not open: use it inside `async with`")
        return await self._owner.run(operation)


class SqliteRun:
    """One pass through the requests of a run, made by `SqliteJournal.open_run`."""

    def __init__(self, name: str, number: int, journal: SqliteJournal) -> None:
        self._name = name
        self._number = number
        self._journal = journal

    @property
    def name(self) -> str:
        """What the run is called."""
        return self._name

    async def match(self, request: GenerationRequest) -> Match:
        """Return what is known of *request* in this run. Raises `KeyConflictError`."""
        return await self._journal._match(self._number, self._name, request)  # noqa: SLF001 - one thing in two classes

    def close(self) -> None:
        """End the pass."""
        self._journal._passes.discard(self._name)  # noqa: SLF001


def _bind(store: Store, path: str, service: str, api_key: str, *, new_key: bool, alone: bool) -> None:
    row = store.connection.execute("SELECT service, salt, fingerprint FROM account").fetchone()
    if row is None:
        _write_account(store, service, api_key)
        return
    known, salt, print_ = row
    ours = fingerprint(api_key, salt)
    if service == known and ours == print_:
        return
    if service == known and new_key:
        store.connection.execute("UPDATE account SET fingerprint = ?", (ours,))
    elif alone and not bought_anything(store.connection):
        store.connection.execute("DELETE FROM learned")  # another account has other limits
        store.connection.execute("DELETE FROM account")
        _write_account(store, service, api_key)
    else:
        raise JournalMismatchError(path, _mismatch((known, print_), (service, ours)))


def _write_account(store: Store, service: str, api_key: str) -> None:
    salt = secrets.token_bytes(16)
    store.connection.execute(
        "INSERT INTO account VALUES (1, ?, ?, ?)", (service, salt, fingerprint(api_key, salt))
    )


def _mismatch(theirs: tuple[str, str], ours: tuple[str, str]) -> str:
    """Say what keeps us from a journal: each of the two is a service and the fingerprint of a key."""
    if theirs[0] != ours[0]:  # then the keys tell nothing
        return (
            f"it belongs to {theirs[0]}, and this client is one of {ours[0]}: what was bought there is not known here. "
            "Use another journal (another output folder), or the service of this one"
        )
    return (
        f"it belongs to {theirs[0]} with the key of fingerprint {theirs[1]}, and the key of this client has the "
        f"fingerprint {ours[1]}: use another journal (another output folder), or the key of this one. If the key of the "
        "same account was renewed, say so with --new-key, or SqliteJournal(new_key=True)"
    )
