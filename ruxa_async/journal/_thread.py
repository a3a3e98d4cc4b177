"""The thread that owns the database, and its group commits.

The drivers of both databases block, so one thread runs every operation. The operations that are requested
during one commit share the next transaction (group commit). With one task, each row is a commit; with a
thousand tasks, hundreds of rows share one. An operation never waits for others to arrive.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

import anyio
from anyio.lowlevel import current_token
from attrs import define, field

from ruxa_async._internal.failpoints import failpoint
from ruxa_async._logging import logger
from ruxa_async.errors import JournalError

from ._records import Takeover
from ._store import Store, Unread

__all__ = ("Database", "DatabaseThread", "Failed", "perform", "read")

#: Has the event loop of the client call a function soon. Raises RuntimeError if the loop has ended.
_CallSoon: TypeAlias = Callable[[Callable[[], object]], object]


class Database(Protocol):
    """A database with the tables of a journal. Its methods block; the journal's thread calls them.

    *path* names it in errors. *renewal* is how many seconds may pass between two calls of `transact` or
    `renew`, None for any.
    """

    path: str
    renewal: float | None

    @property
    def takeover(self) -> Takeover | None:
        """What an earlier process may have left at the service, None if it is not known."""
        ...

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
            target=self._work, args=(_call_soon(),), name="ruxa-async journal", daemon=True
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

    async def run(self, operation: Callable[[Store], Any]) -> Any:
        """Return the result of *operation*, read if it is `Unread`, once its transaction is durable.

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
        return result

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

    def _work(self, call_soon: _CallSoon) -> None:
        try:
            self.database.open()
        except Exception as exc:  # noqa: BLE001 - raised by `start`
            self._open_error = exc
        _set(self._opened, call_soon)
        try:
            if self._open_error is None:
                self._serve(call_soon)
                self.database.close()
        except Exception as exc:  # noqa: BLE001 - no caller could receive it
            logger.warning(
                "%s was not closed cleanly, but everything acknowledged is safe: %r", self.database.path, exc
            )
        finally:
            _set(self._closed, call_soon)

    def _serve(self, call_soon: _CallSoon) -> None:
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
            _set(group.done, call_soon)


def perform(operation: Callable[[Store], Any], store: Store, fatal: tuple[type[Exception], ...]) -> Any:
    """Return the result of *operation*, which may be `Unread`, or `Failed` with its error.

    Raises *fatal* errors, which end the transaction.
    """
    try:
        return operation(store)
    except fatal:
        raise
    except Exception as exc:  # noqa: BLE001 - raised to the caller of the operation
        return Failed(exc)


def read(result: Any, store: Store, fatal: tuple[type[Exception], ...]) -> Any:
    """Return what `perform` returned, read from its rows if it is `Unread`. Raises *fatal* errors."""
    return perform(lambda _: result.read(), store, fatal) if isinstance(result, Unread) else result


def _call_soon() -> _CallSoon:
    """Return how other threads reach this event loop. Unlike `anyio.from_thread`, they do not wait for it."""
    native: Any = current_token().native_token
    call: _CallSoon = (
        native.call_soon_threadsafe
        if isinstance(native, asyncio.AbstractEventLoop)
        else native.run_sync_soon  # trio
    )
    return call


def _set(event: anyio.Event, call_soon: _CallSoon) -> None:
    with suppress(RuntimeError):  # the event loop has ended
        call_soon(event.set)
