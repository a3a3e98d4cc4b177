"""What the taskiq worker process does: hold the client, and buy what messages ask for."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import anyio
from taskiq import TaskiqState
from taskiq.exceptions import NoResultError

from ruxa_async import RuxaClient
from ruxa_async._logging import logger
from ruxa_async.errors import ClientClosedError, JournalError

from ._messages import dump_error, dump_generation, load_request

__all__ = ("ASK_AGAIN", "Worker")

#: What a worker that stops answers: it bought nothing that the next one would not find.
ASK_AGAIN = "ask again"


class Worker:
    """The client of the worker process, from its startup to its shutdown. *make_client* makes it."""

    def __init__(self, make_client: Callable[[], RuxaClient]) -> None:
        self._make_client = make_client
        self._client: RuxaClient | None = None
        self._holder: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._calls: dict[str, anyio.CancelScope] = {}
        self._handlers: dict[int, Any] = {}

    # ---- from startup to shutdown

    async def open(self, _state: TaskiqState) -> None:
        """Open the client, before the receiver takes its first message. A signal ends the wait."""
        opened, self._stopping = asyncio.Event(), asyncio.Event()
        self._chain_signals(asyncio.get_running_loop())
        self._holder = asyncio.create_task(self._hold(opened))
        waiter = asyncio.create_task(opened.wait())
        await asyncio.wait({self._holder, waiter}, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if self._holder.done() and not self._holder.cancelled():
            holder, self._holder = self._holder, None
            holder.result()

    async def _hold(self, opened: asyncio.Event) -> None:
        """Keep the client open until the end. It is entered and left in one task, as it needs."""
        async with self._make_client() as self._client:
            opened.set()
            await self._stopping.wait()

    def stop(self) -> None:
        """Take no more: give every call back, to be asked of the next holder."""
        self._stopping.set()
        if self._client is None and self._holder is not None:
            self._holder.cancel()
        for scope in self._calls.values():
            scope.cancel()

    async def close(self, _state: TaskiqState) -> None:
        """Close the client.

        taskiq cancels this after 5 s (``--shutdown-timeout``), which would leave creates on the wire unknown.
        It waits nevertheless: ``Timeouts.create_drain`` bounds the wait.
        """
        self.stop()
        holder = self._holder
        while holder is not None and not holder.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({holder})
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        if holder is not None and not holder.cancelled():
            holder.result()

    # ---- messages

    async def perform(self, call: str, run: str, request: str) -> str:
        """Buy *request* and return the answer. Raises NoResultError for a repeated message of a *call*."""
        if call in self._calls:
            raise NoResultError
        client = self._client
        if client is None or self._stopping.is_set():
            return ASK_AGAIN
        with anyio.CancelScope() as scope:
            self._calls[call] = scope
            try:
                return dump_generation(await client.generate(load_request(request), run=run))
            except (ClientClosedError, JournalError) as error:
                self._give_up(error)
            except Exception as error:  # noqa: BLE001 - it belongs to the process that asked
                return dump_error(error)
            finally:
                del self._calls[call]
        return ASK_AGAIN

    def _give_up(self, error: Exception) -> None:
        """Stop the worker, whose client cannot buy any more; taskiq starts another one, which stands by."""
        if self._stopping.is_set():
            return
        logger.error("this worker cannot buy any more and stops: %s", error)
        self.stop()
        if self._handlers:
            signal.raise_signal(signal.SIGTERM)

    # ---- signals

    def _chain_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop at taskiq's signals too, at once.

        taskiq's handlers are called first. They neither end a startup nor wake the event loop.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                self._handlers[number] = handler
                signal.signal(number, self._on_signal(handler, loop))

    def _on_signal(
        self, handler: Callable[[int, FrameType | None], Any], loop: asyncio.AbstractEventLoop
    ) -> Callable[[int, FrameType | None], None]:
        def on_signal(number: int, frame: FrameType | None) -> None:
            handler(number, frame)
            loop.call_soon_threadsafe(self.stop)

        return on_signal
