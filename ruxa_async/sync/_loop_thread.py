"""A thread with an event loop, in which an async client lives and which callers in other threads use.

KeyboardInterrupt, and what signal handlers raise, may reach a calling thread at any bytecode. So a result is
handed over without a moment in which it could be lost: `Call` belongs to its caller until the caller has left
or has the result.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio.from_thread import BlockingPortal
from anyio.lowlevel import current_token

from ruxa_async._logging import logger
from ruxa_async.errors import ClientClosedError

from ._call import Call

__all__ = ("LoopThread",)

_T = TypeVar("_T")

#: Seconds; the longest wait without a look at signals and at the thread. The system may deliver a signal to
#: another thread, which does not interrupt a wait of the main thread; on Windows no wait is interrupted.
_LOOK_EVERY = 0.2


class LoopThread:
    """Enter *client* in an event loop in a thread of its own, with `open`, and leave it there, with `close`.

    *abort_drain* is called in the event loop when a user interrupts for the second time.
    """

    def __init__(self, client: AbstractAsyncContextManager[object], abort_drain: Callable[[], None]) -> None:
        self._client = client
        self._abort_drain = abort_drain
        self._thread = threading.Thread(target=self._run, name="ruxa_async", daemon=True)
        self._pid: int | None = None
        self._opened = threading.Event()
        self._ended = threading.Event()
        self._stopping = False
        self._portal: BlockingPortal | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context: Context | None = None
        self._leave: anyio.Event | None = None
        #: What entering or leaving the client raised.
        self._error: BaseException | None = None

    # ---- the thread

    def _run(self) -> None:
        try:
            anyio.run(self._hold_open)
        except BaseException as exc:  # noqa: BLE001 - `open` or `close` raises it
            self._error = self._error or exc
        finally:
            _open_threads.discard(self)
            self._ended.set()
            self._opened.set()

    async def _hold_open(self) -> None:
        self._leave = anyio.Event()
        self._context = copy_context()
        self._loop = asyncio.get_running_loop()
        async with BlockingPortal() as portal:
            try:
                async with self._client:
                    self._portal = portal
                    self._opened.set()
                    if not self._stopping:
                        await self._leave.wait()
            except Exception as exc:  # noqa: BLE001 - the group of the portal would wrap it
                self._error = exc
            await portal.stop(cancel_remaining=True)

    # ---- opening and closing

    def open(self) -> None:
        """Start the thread, and wait until the client is open. Raises what entering it raises."""
        if self._pid is not None:
            raise RuntimeError("a RuxaClient is opened once: make a new one")
        _warn_in_event_loop()
        self._pid = os.getpid()
        _open_threads.add(self)
        try:
            self._thread.start()
            self._wait(self._opened)
        except BaseException:
            self.stop()
            raise
        self._raise_error()

    def stop(self) -> None:
        """Leave the client, and do not wait for it. A fork has no thread to stop."""
        self._stopping = True
        if self._leave is not None and self._pid == os.getpid():
            self.post(self._leave.set)

    def close(self, *, interrupted: bool = False) -> None:
        """Leave the client, and wait until it is closed; *interrupted* is whether an interrupt is the cause.

        The second interrupt stops waiting for creates on the wire, a third one raises at once. Raises the
        last interrupt, and what leaving raises. Does nothing if the client is not open.
        """
        if self._pid != os.getpid():
            return
        self._ensure_other_thread()
        self._wait_through_interrupts(self.stop, self._ended, interrupted=interrupted)
        self._raise_error()

    def drop(self) -> None:
        """Leave a client that nobody can reach any more; warn that it was not closed."""
        if self._pid == os.getpid() and not (self._stopping or self._ended.is_set()):
            self.stop()
            warnings.warn(
                "a RuxaClient was dropped while it was open: write `with RuxaClient() as ruxa:`, "
                "or call `ruxa.close()`",
                ResourceWarning,
                stacklevel=2,
            )

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    # ---- calls from other threads

    @property
    def is_forked(self) -> bool:
        """Whether this process is a fork of the one in which the client was opened."""
        return self._pid is not None and self._pid != os.getpid()

    def call(
        self,
        function: Callable[[], Awaitable[_T]],
        on_lost: Callable[[_T | BaseException], object] | None = None,
    ) -> _T:
        """Return what *function* returns in the event loop; an interrupt here cancels it there.

        If the interrupt comes too late for that, *on_lost* gets the result, or the error. Raises
        `ClientClosedError`, and RuntimeError in a forked process and in the thread itself.
        """
        self._ensure_usable()
        _warn_in_event_loop()
        call = Call(function, on_lost)
        try:
            self._start(call)
            self._wait(call.finished)
        except BaseException:
            call.caller_left = True
            self.post(call.on_caller_left)
            raise
        # From here on nothing is called: CPython handles signals after calls and backward jumps only, so no
        # interrupt comes before the caller of this has the result.
        if call.result:
            return call.result[0]
        error = call.error if call.error is not None else _closed()
        try:
            raise error
        finally:
            del call, error  # the traceback of the error refers to this frame

    def call_through_interrupts(
        self, function: Callable[[], Awaitable[object]], *, interrupted: bool
    ) -> None:
        """Call *function* in the event loop; interrupts do what `close` says and do not cancel it."""
        self._ensure_usable()
        call = Call(function, None)
        self._wait_through_interrupts(partial(self._start, call), call.finished, interrupted=interrupted)
        if not call.result:
            raise _closed() if call.error is None else call.error

    def read(self, function: Callable[[], _T]) -> _T:
        """Return what *function* returns, called in the event loop while that runs."""

        async def read() -> _T:
            return function()

        if self._pid == os.getpid() and self._thread.is_alive() and not self._is_this_thread():
            try:
                return self.call(read)
            except ClientClosedError:
                self._wait(self._ended)
        return function()

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Have *function* called in the event loop, and do not wait. Does nothing once that has ended."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(function, *args, context=self._context)

    def _start(self, call: Call[_T]) -> None:
        assert self._portal is not None
        try:
            self._portal.start_task_soon(call.run)
        except RuntimeError as exc:  # the portal has stopped
            raise _closed() from exc

    def _wait(self, event: threading.Event) -> None:
        """Wait until *event* is set, or the thread has ended and will not set it."""
        while not event.wait(_LOOK_EVERY):
            if not self._thread.is_alive():
                return

    def _wait_through_interrupts(
        self, begin: Callable[[], None], event: threading.Event, *, interrupted: bool
    ) -> None:
        """Call *begin*, again if an interrupt cuts it off, and wait until *event* is set."""
        interrupts = int(interrupted)
        interrupt: BaseException | None = None
        begun = False
        while not begun or (self._thread.is_alive() and not event.is_set()):
            try:
                if not begun:
                    begin()
                    begun = True
                self._wait(event)
            except ClientClosedError:
                raise
            except BaseException as exc:
                interrupt = exc
                interrupts += 1
                if interrupts == 2:
                    self.post(self._abort_drain)
                elif interrupts > 2:
                    raise
        if interrupt is not None:
            raise interrupt

    def _ensure_usable(self) -> None:
        if self._pid is None:
            raise ClientClosedError(
                "the client is not open: use it inside `with RuxaClient() as ruxa:`, or call `ruxa.open()` "
                "first"
            )
        if self._pid != os.getpid():
            raise RuntimeError(
                f"this RuxaClient was opened in process {self._pid}, and a fork cannot use it: "
                "open one in each process, with `with RuxaClient() as ruxa:`"
            )
        self._ensure_other_thread()
        if self._portal is None or self._ended.is_set():
            raise _closed()

    def _ensure_other_thread(self) -> None:
        if self._is_this_thread():
            raise RuntimeError(
                "a function that this RuxaClient calls, such as on_event, cannot call the client: it would "
                "wait for itself. Put the event into a queue.Queue, and call the client in a thread of yours"
            )

    def _is_this_thread(self) -> bool:
        return threading.get_ident() == self._thread.ident


#: Threads whose clients are open; those that still are when the interpreter exits are closed in order.
_open_threads: set[LoopThread] = set()


@atexit.register
def _close_all() -> None:
    for thread in tuple(_open_threads):
        try:
            thread.close()
        except Exception as exc:  # noqa: BLE001 - the others are closed too
            logger.error("a RuxaClient could not be closed at exit: %r", exc, exc_info=exc)


def _closed() -> ClientClosedError:
    return ClientClosedError(
        "the client was closed; tasks that were submitted can be attached to by their ids"
    )


def _warn_in_event_loop() -> None:
    """Warn if an event loop runs in this thread, except in IPython, whose cells run in one."""
    try:
        current_token()
    except anyio.NoEventLoopError:
        return
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        return
    level, frame = 1, sys._getframe()  # noqa: SLF001 - skip_file_prefixes needs Python 3.12
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("ruxa_async."):
        level, frame = level + 1, frame.f_back
    warnings.warn(
        "this call blocks the event loop that runs in this thread. In async code write "
        "`from ruxa_async import RuxaClient`, `async with RuxaClient() as ruxa:` and `await` each call",
        RuntimeWarning,
        stacklevel=level,
    )
