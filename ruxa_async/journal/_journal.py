"""What all journals in a database share: the operations, runs and accounts."""

from __future__ import annotations

import json
import secrets
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from attrs import evolve, frozen

from ruxa_async.errors import JournalError, JournalMismatchError, RunInUseError
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import JobRecord, TaskStatus

from ._identity import fingerprint, identify
from ._records import GroupBy, JournalCounts, JournalEntry, KeptCallback, Match, SavedFile, Takeover
from ._rows import bought_anything, clean, list_callbacks, list_jobs, list_unknown
from ._store import Store, Unread
from ._thread import Database, DatabaseThread
from ._unknowns import adopt, called_back, forget

__all__ = ("DatabaseJournal", "DatabasePurchase", "DatabaseRun")

_T = TypeVar("_T")


class DatabaseJournal:
    """A journal in a database that *make_database* connects to. *path* names it in messages.

    *service* and *new_key* are those of `SqliteJournal`.
    """

    def __init__(
        self, path: str, make_database: Callable[[], Database], *, service: str | None, new_key: bool
    ) -> None:
        self.path: str = path
        self._make_database = make_database
        self._service = service
        self._new_key = new_key
        self._thread: DatabaseThread | None = None
        self._clients = 0
        self._passes: set[str] = set()
        #: The run and the handle of each purchase by key that is open.
        self._purchases: set[tuple[str, bytes]] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} {'open' if self.is_open else 'closed'}>"

    # ---- opening and closing

    @property
    def is_open(self) -> bool:
        """Whether the journal is open."""
        return self._thread is not None

    @property
    def takeover(self) -> Takeover | None:
        """What an earlier process may have left at the service; None if it is not known."""
        return None if self._thread is None else self._thread.database.takeover

    async def __aenter__(self) -> Self:
        if self._thread is not None:
            name = type(self).__name__
            raise RuntimeError(f"this {name} is open already: share it instead of entering it twice")
        # A reference from the thread to self would keep an unused journal from being garbage-collected.
        thread = DatabaseThread(self._make_database())
        await thread.start()
        self._thread = thread
        self._clients = 0
        self._passes.clear()
        self._purchases = set()  # a purchase of an earlier opening may still be closed
        weakref.finalize(self, thread.stop).atexit = False  # at exit the system closes the file
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Finish the pending writes and close the database. Closing it again does nothing."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await thread.aclose()

    async def bind(self, *, base_url: str, api_key: str) -> None:
        """Register a client that uses the service at *base_url* with *api_key*.

        Raises `JournalMismatchError` if the journal belongs to another account; see `LastingJournal.bind`.
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
        """Remove a registered client. After the last one, jobs that are still intended become unknown."""
        self._clients -= 1
        if self._clients == 0:
            await self._run(
                lambda store: store.mark_intended_unknown("it was cut off when the client was closed")
            )

    # ---- what the client reports

    async def intend(self, job: JobRecord) -> object:
        """Record that a create of *job* is about to be sent; return the id of the record.

        Raises `JournalError` if another process took the journal over.
        """
        at = time.time()
        number = await self._run(lambda store: store.intend(job, at))
        while self._thread is not None and not self._thread.database.may_send():
            # This process was stopped, or the server was slow: the lease may have ended since the commit.
            try:
                await self._run(lambda store: store.ensure_held())
            except JournalError:
                await self.not_bought(evolve(job, entry=number))
                raise
        return number

    async def not_bought(self, job: JobRecord) -> None:
        """Record that the create of *job* bought nothing."""
        await self._run(lambda store: store.not_bought(job))

    async def accepted(self, job: JobRecord) -> None:
        """Record ``job.task_id``, the id of the task that the create bought."""
        at = time.time()
        await self._run(lambda store: store.accepted(job, at))

    async def unknown(self, job: JobRecord) -> None:
        """Record that the create of *job* may have bought a task."""
        await self._run(lambda store: store.unknown(job))

    async def finished(self, job: JobRecord, status: TaskStatus | None) -> None:
        """Record the final *status* of the task of *job*, None if polling stopped before the task ended."""
        at = time.time()
        await self._run(lambda store: store.finished(job, status, at))

    async def saved(self, task_id: str, file: SavedFile) -> None:
        """Record that *file*, an output of the task, is complete. Call it before the file is renamed."""
        await self._run(lambda store: store.saved(task_id, file))

    # ---- runs and unknown jobs

    async def open_run(self, name: str) -> DatabaseRun:
        """Begin a pass through the run *name*.

        Raises `RunInUseError` while another one, or a purchase of the run by key, is open.
        """
        name = _checked_name(name)
        self._ensure_no_pass(name)
        if any(run == name for run, _ in self._purchases):
            raise RunInUseError(
                self.path,
                f"purchases by key in the run {name!r} have not ended, and a pass through the run could buy "
                "them again: let them end first",
            )
        self._passes.add(name)
        at = time.time()
        try:
            number = await self._run(lambda store: store.open_run(name, at))
        except BaseException:
            self._passes.discard(name)
            raise
        return DatabaseRun(name, number, self)

    async def run_begun_at(self, name: str) -> float | None:
        """Return when the run *name* was created, in seconds since the epoch; None if it does not exist."""
        return await self._run(lambda store: store.run_begun_at(clean(name)))

    async def open_purchase(self, run: str, request: GenerationRequest) -> DatabasePurchase:
        """Begin the purchase of *request* by key in *run*; see `LastingJournal.open_purchase`."""
        run = _checked_name(run)
        slot, purchases = (run, identify(request).handle), self._purchases
        self._ensure_no_pass(run)
        if slot in purchases:
            raise RunInUseError(
                self.path,
                f"another client of this journal is buying this request of the run {run!r}: let it end first",
            )
        purchases.add(slot)
        at = time.time()
        try:
            match = await self._run(lambda store: store.find(run, request, at))
        except BaseException:
            purchases.discard(slot)
            raise
        return DatabasePurchase(match, slot, purchases)

    def _ensure_no_pass(self, run: str) -> None:
        if run in self._passes:
            raise RunInUseError(self.path, f"a pass through the run {run!r} has not ended: let it end first")

    async def unknowns(self, run: str | None = None) -> list[JournalEntry]:
        """Return the unknown jobs in the order in which they were intended, only those of *run* if given."""
        return await self._run(lambda store: list_unknown(store.connection, run))

    async def entries(self, run: str) -> list[JournalEntry]:
        """Return all jobs of *run* in the order in which they were first intended; [] without such a run."""
        return await self._run(lambda store: list_jobs(store.connection, clean(run)))

    async def adopt(self, name: str, task_id: str, run: str | None = None) -> JournalEntry:
        """Record that the unknown job *name* was bought as *task_id*, and return the job."""
        if not task_id.strip():
            raise ValueError("task_id is empty: pass the id that the service gave the task")
        path = self.path
        return await self._run(lambda store: adopt(store.connection, path, name, task_id, run))

    async def forget(self, name: str, run: str | None = None) -> JournalEntry:
        """Record that the unknown job *name* was not bought, and return the job."""
        path = self.path
        return await self._run(lambda store: forget(store.connection, path, name, run))

    async def called_back(self, callback_id: bytes, task_id: str | None, status: TaskStatus | None) -> bool:
        """Record a callback for the create with *callback_id*; return whether it settled a job."""
        at = time.time()
        return await self._run(
            lambda store: called_back(
                store.connection, callback_id, task_id, status, at, beside_holder=store.is_beside_holder
            )
        )

    async def callbacks(self) -> list[KeptCallback]:
        """Return the last 10,000 callbacks that settled no job, the oldest first."""
        return await self._run(lambda store: list_callbacks(store.connection))

    async def counts(self, run: str | None = None, *, group_by: GroupBy | None = None) -> JournalCounts:
        """Return the numbers of jobs by state, files and credits, only those of *run* if given.

        *group_by* returns the key of a model and an input in `JournalCounts.models`, by default the model.
        """
        return await self._run(lambda store: store.counts(run, group_by))

    # ---- learned values

    async def learned(self, name: str) -> Any:
        """Return the value last stored under *name*, None if there is none."""
        return await self._run(lambda store: store.learned(name))

    async def learn(self, name: str, value: Any) -> None:
        """Store *value*, which must be JSON, under *name*."""
        at, text = time.time(), json.dumps(value)
        await self._run(lambda store: store.learn(name, text, at))

    @overload
    async def _run(self, operation: Callable[[Store], Unread[_T]]) -> _T: ...

    @overload
    async def _run(self, operation: Callable[[Store], _T]) -> _T: ...

    async def _run(self, operation: Callable[[Store], Any]) -> Any:
        if self._thread is None:
            raise JournalError(self.path, "the journal is not open: use it inside `async with`")
        return await self._thread.run(operation)


@frozen
class DatabaseRun:
    """One pass through the requests of the run *name*, made by `DatabaseJournal.open_run`."""

    name: str
    _number: int
    _journal: DatabaseJournal

    async def match(self, request: GenerationRequest) -> Match:
        """Return what earlier passes recorded for *request*. Raises `KeyConflictError`."""
        return await self._journal._run(  # noqa: SLF001 - the class that makes these
            lambda store: store.match(self._number, self.name, request)
        )

    def close(self) -> None:
        """End the pass."""
        self._journal._passes.discard(self.name)  # noqa: SLF001


@frozen
class DatabasePurchase:
    """The purchase of one request by key, made by `DatabaseJournal.open_purchase`."""

    match: Match
    _slot: tuple[str, bytes]
    _open: set[tuple[str, bytes]]

    def close(self) -> None:
        """Let another caller buy the request."""
        self._open.discard(self._slot)


def _checked_name(run: str) -> str:
    """Return the name of a run as the database has it. Raises ValueError if it is empty."""
    if not run.strip():
        raise ValueError(f"name={run!r} is not valid: the name of a run cannot be empty")
    return clean(run)


def _bind(store: Store, path: str, service: str, api_key: str, *, new_key: bool, alone: bool) -> None:
    store.ensure_held()
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
    """Return the message for two accounts that differ; each is a service and the fingerprint of a key."""
    if theirs[0] != ours[0]:  # the keys of two services always differ
        return (
            f"it belongs to {theirs[0]}, but this client uses {ours[0]}, where its tasks do not exist. "
            "Use another journal (another output folder), or the service of this one"
        )
    return (
        f"it belongs to {theirs[0]} with the key of fingerprint {theirs[1]}, and the key of this client "
        f"has the fingerprint {ours[1]}: use another journal (another output folder), or the key of this "
        "one. If the same account has a new key, confirm it once: in Python with "
        "SqliteJournal(path, new_key=True) or PostgresJournal(address, new_key=True), on the command line "
        "with --new-key"
    )
