"""The thread that owns the database, and its group commits.

SQLite blocks, so one thread runs every operation. The operations that are requested during one commit share
the next transaction (group commit). With one task, each row is a commit; with a thousand tasks, hundreds of
rows share one. An operation never waits for others to arrive.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import anyio
from anyio import from_thread
from anyio.lowlevel import EventLoopToken, current_token
from attrs import define, field

from ruxa_async._internal.failpoints import failpoint
from ruxa_async._logging import logger
from ruxa_async.errors import JournalError

from ._database import is_transient, journal_error
from ._schema import SchemaError
from ._store import Store

__all__ = ("DatabaseThread",)

_T = TypeVar("_T")


@define(eq=False)
class _Group:
    """The operations of one transaction."""

    operations: list[Callable[[Store], Any]] = field(factory=list)
    results: list[Any] = field(factory=list)
    done: anyio.Event = field(factory=anyio.Event)
    error: JournalError | None = None


@define
class _Failed:
    """The error of one operation; the other operations of its transaction are committed."""

    error: Exception


class DatabaseThread:
    """One thread that runs operations on the store from *open_store*, and closes it with *close_store*."""

    def __init__(
        self, path: str, open_store: Callable[[], Store], close_store: Callable[[Store], None]
    ) -> None:
        self._path = path
        self._open_store = open_store
        self._close_store = close_store
        self._queue: queue.SimpleQueue[_Group | None] = queue.SimpleQueue()
        self._next_group: _Group | None = None
        self._lock = threading.Lock()
        self._broken: JournalError | None = None
        self._closing = False
        self._thread: threading.Thread | None = None
        self._opened = anyio.Event()
        self._closed = anyio.Event()
        self._open_error: Exception | None = None

    # ---- in the event loop

    async def start(self) -> None:
        """Start the thread and open the store. Raises what *open_store* raises."""
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
            raise JournalError(self._path, "the journal is closed")
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
            raise JournalError(self._path, group.error.message) from group.error.__cause__
        result = group.results[place]
        if isinstance(result, _Failed):
            raise result.error
        return result  # type: ignore[no-any-return]

    def stop(self) -> None:
        """Let the thread end after the requested operations. May be called from any thread."""
        self._closing = True
        self._queue.put(None)

    async def aclose(self) -> None:
        """Finish the requested operations, close the store and end the thread."""
        if not self._closing:
            self.stop()
        with anyio.CancelScope(shield=True):
            await self._closed.wait()
        assert self._thread is not None
        self._thread.join()  # it is about to return

    # ---- in the thread

    def _work(self, token: EventLoopToken) -> None:
        try:
            store = self._open_store()
        except Exception as exc:  # noqa: BLE001 - raised by `start`
            self._open_error = exc
            store = None
        _set(token, self._opened)
        try:
            if store is not None:
                self._serve(store, token)
                self._close_store(store)
        except Exception as exc:  # noqa: BLE001 - no caller could receive it
            logger.warning(
                "%s was not closed cleanly, but everything acknowledged is safe: %r", self._path, exc
            )
        finally:
            _set(token, self._closed)

    def _serve(self, store: Store, token: EventLoopToken) -> None:
        while (group := self._queue.get()) is not None:
            with self._lock:
                self._next_group = None  # operations from now on belong to the next group
            self._commit(store, group)
            _set(token, group.done)

    def _commit(self, store: Store, group: _Group) -> None:
        if self._broken is not None:
            group.error = self._broken
            return
        try:
            store.connection.execute("BEGIN IMMEDIATE")
            for operation in group.operations:
                group.results.append(_perform(operation, store))
            failpoint("group written")
            store.connection.execute("COMMIT")
            failpoint("group committed")
        except Exception as exc:  # noqa: BLE001 - raised to every caller of the group
            group.error = journal_error(self._path, exc)
            if not is_transient(exc):
                self._broken = group.error
            with suppress(sqlite3.Error):  # most errors have rolled back already
                store.connection.execute("ROLLBACK")


def _perform(operation: Callable[[Store], _T], store: Store) -> _T | _Failed:
    try:
        return operation(store)
    except (sqlite3.Error, SchemaError):
        raise
    except Exception as exc:  # noqa: BLE001 - raised to the caller of the operation
        return _Failed(exc)


def _set(token: EventLoopToken, event: anyio.Event) -> None:
    with suppress(anyio.RunFinishedError):  # the event loop has ended
        from_thread.run_sync(event.set, token=token)
