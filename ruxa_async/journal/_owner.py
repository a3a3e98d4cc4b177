"""The thread that owns the database, and how tasks talk to it.

SQLite blocks, so one thread does all of it. Whatever was asked for while it was at the disk becomes the next
transaction: with one task asking it commits one row at a time, with a thousand it commits hundreds at once, and
nobody waits for company.
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

from ._failures import explain, may_pass
from ._schema import SchemaError
from ._store import Store

__all__ = ("Owner",)

_T = TypeVar("_T")


@define(eq=False)
class _Group:
    """What becomes one transaction."""

    operations: list[Callable[[Store], Any]] = field(factory=list)
    results: list[Any] = field(factory=list)
    done: anyio.Event = field(factory=anyio.Event)
    error: JournalError | None = None


@define
class _Failed:
    """An operation that was in order for the database, but not for us."""

    error: Exception


class Owner:
    """Run operations on the store that *open_store* opens, in groups, in one thread; *close_store* ends it."""

    def __init__(
        self, path: str, open_store: Callable[[], Store], close_store: Callable[[Store], None]
    ) -> None:
        self._path = path
        self._open_store = open_store
        self._close_store = close_store
        self._queue: queue.SimpleQueue[_Group | None] = queue.SimpleQueue()
        self._gathering: _Group | None = None
        self._lock = threading.Lock()
        self._broken: JournalError | None = None
        self._closing = False
        self._thread: threading.Thread | None = None
        self._opened = anyio.Event()
        self._closed = anyio.Event()
        self._failure: Exception | None = None

    # ---- in the event loop

    async def start(self) -> None:
        """Open the store. Raises what *open_store* raises."""
        # A daemon: a program that leaves without closing must not hang, and every answer given so far is durable.
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
        if self._failure is not None:
            await self.aclose()
            raise self._failure

    async def run(self, operation: Callable[[Store], _T]) -> _T:
        """Return what *operation* returns, once it is durable.

        It takes place even if the caller is cancelled while it waits. Raises `JournalError` if it could not be
        made durable, and what *operation* raises.
        """
        if self._closing:
            raise JournalError(self._path, "the journal is closed")
        with self._lock:
            group = self._gathering
            if group is None:
                group = self._gathering = _Group()
                self._queue.put(group)
            place = len(group.operations)
            group.operations.append(operation)
            failpoint("rows queued")
        await group.done.wait()
        if group.error is not None:
            # One for each caller: an exception that is raised twice collects the tracebacks of both.
            raise JournalError(self._path, group.error.message) from group.error.__cause__
        result = group.results[place]
        if isinstance(result, _Failed):
            raise result.error
        return result  # type: ignore[no-any-return]

    def stop(self) -> None:
        """Let the thread end once everything that was asked for is done; safe to call from anywhere."""
        self._closing = True
        self._queue.put(None)

    async def aclose(self) -> None:
        """Do what was asked for, close the store and end the thread."""
        if not self._closing:
            self.stop()
        with anyio.CancelScope(shield=True):
            await self._closed.wait()
        assert self._thread is not None
        self._thread.join()  # it has nothing more to do

    # ---- in the thread

    def _work(self, token: EventLoopToken) -> None:
        try:
            store = self._open_store()
        except Exception as exc:  # noqa: BLE001 - it is raised where the opening is waited for
            self._failure = exc
            store = None
        _tell(token, self._opened)
        try:
            if store is not None:
                self._serve(store, token)
                self._close_store(store)
        except Exception as exc:  # noqa: BLE001 - there is nobody to raise it to; whatever it is, nobody may hang
            logger.warning("%s did not close well, but what it acknowledged is safe: %r", self._path, exc)
        finally:
            _tell(token, self._closed)

    def _serve(self, store: Store, token: EventLoopToken) -> None:
        while (group := self._queue.get()) is not None:
            with self._lock:
                self._gathering = None  # whoever comes now is of the next group
            self._commit(store, group)
            _tell(token, group.done)

    def _commit(self, store: Store, group: _Group) -> None:
        if self._broken is not None:
            group.error = self._broken
            return
        try:
            store.connection.execute("BEGIN IMMEDIATE")
            for operation in group.operations:
                group.results.append(_performed(operation, store))
            failpoint("group written")
            store.connection.execute("COMMIT")
            failpoint("group committed")
        except Exception as exc:  # noqa: BLE001 - it is raised where the group is waited for
            group.error = explain(self._path, exc)
            if not may_pass(exc):
                self._broken = group.error
            with suppress(sqlite3.Error):  # most errors have ended the transaction already
                store.connection.execute("ROLLBACK")


def _performed(operation: Callable[[Store], _T], store: Store) -> _T | _Failed:
    try:
        return operation(store)
    except (sqlite3.Error, SchemaError):
        raise
    except Exception as exc:  # noqa: BLE001 - it is raised where the operation is waited for
        return _Failed(exc)


def _tell(token: EventLoopToken, event: anyio.Event) -> None:
    with suppress(anyio.RunFinishedError):  # nobody is left to tell
        from_thread.run_sync(event.set, token=token)
