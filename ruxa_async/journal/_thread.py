"""The thread that owns the database, and its group commits.

The drivers of both databases block, so one thread runs every operation. The operations that are requested
during one commit share the next transaction (group commit). With one task, each row is a commit; with a
thousand tasks, hundreds of rows share one. An operation never waits for others to arrive.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import anyio
from anyio import from_thread
from anyio.lowlevel import EventLoopToken, current_token
from attrs import define, field

from ruxa_async._internal.failpoints import failpoint
from ruxa_async._logging import logger
from ruxa_async.errors import JournalError

from ._records import Takeover
from ._store import Store

__all__ = ("Database", "DatabaseThread", "Failed", "perform")

_T = TypeVar("_T")


class Database(Protocol):
    """A database with the tables of a journal. Its methods block; the journal's thread calls them.

    *path* names it in errors. *renewal* is how many seconds may pass between two calls of `transact` or
    `renew`, None for any. *takeover* is what an earlier process may have left at the service, if it is known.
    """

    path: str
    renewal: float | None
    takeover: Takeover | None

    def open(self) -> None:
        """Connect, and become the only process that writes. Raises `JournalError`."""
        ...

    def transact(self, operations: Sequence[Callable[[Store], Any]]) -> list[Any]:
        """Return the results of *operations*, a `Failed` for each that raised, once all are durable.

        Raises `JournalError` if they cannot be made durable together.
        """
        ...

    def renew(self) -> None:
        """Keep the right to write."""
        ...

    def may_send(self) -> bool:
        """Tell whether no other process can have become the one that writes. Called from the event loop."""
        ...

    def close(self) -> None:
        """Let another process write, and disconnect."""
        ...


@define(eq=False)
class _Group:
    """The operations of one transaction."""

    operations: list[Callable[[Store], Any]] = field(factory=list)
    results: list[Any] = field(factory=list)
    done: anyio.Event = field(factory=anyio.Event)
    error: JournalError | None = None


@define
class Failed:
    """The error of one operation; the other operations of its transaction are committed."""

    error: Exception


class DatabaseThread:
    """One thread that opens *database*, runs operations on its store, and closes it."""

    def __init__(self, database: Database) -> None:
        self.database: Database = database
        self._queue: queue.SimpleQueue[_Group | None] = queue.SimpleQueue()
        self._next_group: _Group | None = None
        self._lock = threading.Lock()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._opened = anyio.Event()
        self._closed = anyio.Event()
        self._open_error: Exception | None = None

    # ---- in the event loop

    async def start(self) -> None:
        """Start the thread and open the database. Raises `JournalError`."""
        # A daemon thread, so that a program can exit without closing the journal; its records are durable.
        self._thread = threading.Thread(
            target=self._work, args=(current_token(),), name="ruxa-async journal", daemon=True
        )
        self._thread.start()
        try:
            with anyio.CancelScope(shield=True):
                await self._opened.wait()
        except BaseException:  # a native cancel; the thread closes what it opened
            self.stop()
            raise
        if self._open_error is not None:
            await self.aclose()
            raise self._open_error

    async def run(self, operation: Callable[[Store], _T]) -> _T:
        """Return the result of *operation* once its transaction is durable.

        A cancelled caller does not stop the operation. Raises `JournalError` if it cannot be made durable,
        and what *operation* raises.
        """
        if self._closing:
            raise JournalError(self.database.path, "the journal is closed")
        with self._lock:
            group = self._next_group
            if group is None:
                group = self._next_group = _Group()
                self._queue.put(group)
            place = len(group.operations)
            group.operations.append(operation)
            failpoint("rows queued")
        await group.done.wait()
        if group.error is not None:
            # A new error for each caller: one exception raised twice collects the tracebacks of both.
            raise JournalError(group.error.path, group.error.message) from group.error.__cause__
        result = group.results[place]
        if isinstance(result, Failed):
            raise result.error
        return result  # type: ignore[no-any-return]

    def stop(self) -> None:
        """Let the thread end after the requested operations. May be called from any thread."""
        self._closing = True
        self._queue.put(None)

    async def aclose(self) -> None:
        """Finish the requested operations, close the database and end the thread."""
        if not self._closing:
            self.stop()
        with anyio.CancelScope(shield=True):
            await self._closed.wait()
        assert self._thread is not None
        self._thread.join()  # it is about to return

    # ---- in the thread

    def _work(self, token: EventLoopToken) -> None:
        try:
            self.database.open()
        except Exception as exc:  # noqa: BLE001 - raised by `start`
            self._open_error = exc
        _set(token, self._opened)
        try:
            if self._open_error is None:
                self._serve(token)
                self.database.close()
        except Exception as exc:  # noqa: BLE001 - no caller could receive it
            logger.warning(
                "%s was not closed cleanly, but everything acknowledged is safe: %r", self.database.path, exc
            )
        finally:
            _set(token, self._closed)

    def _serve(self, token: EventLoopToken) -> None:
        while True:
            try:
                group = self._queue.get(timeout=self.database.renewal)
            except queue.Empty:
                self.database.renew()
                continue
            if group is None:
                return
            with self._lock:
                self._next_group = None  # operations from now on belong to the next group
            try:
                group.results = self.database.transact(group.operations)
            except JournalError as exc:
                group.error = exc
            _set(token, group.done)


def perform(
    operation: Callable[[Store], _T], store: Store, fatal: tuple[type[Exception], ...]
) -> _T | Failed:
    """Return the result of *operation*, or its error. Raises *fatal* errors, which end the transaction."""
    try:
        return operation(store)
    except fatal:
        raise
    except Exception as exc:  # noqa: BLE001 - raised to the caller of the operation
        return Failed(exc)


def _set(token: EventLoopToken, event: anyio.Event) -> None:
    with suppress(anyio.RunFinishedError):  # the event loop has ended
        from_thread.run_sync(event.set, token=token)
