"""What the taskiq worker process does: hold the client, and buy what messages ask for."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from taskiq import AsyncBroker, TaskiqMessage, TaskiqState
from taskiq.exceptions import NoResultError

from ruxa_async import RuxaClient
from ruxa_async._logging import logger
from ruxa_async.errors import ClientClosedError, JournalError, RunInUseError

from ._messages import dump_error, dump_generation, load_request
from ._taskiq_push import Outbox

__all__ = ("ASK_AGAIN", "INBOX", "Worker")

#: What a worker that stops answers: it bought nothing that the next one would not find.
ASK_AGAIN = "ask again"
#: The label of a message that names where its answer is expected.
INBOX = "ruxa_inbox"


class Worker:
    """The client of the worker process of *broker*, from startup to shutdown. *make_client* makes it."""

    def __init__(self, make_client: Callable[[], RuxaClient], broker: AsyncBroker) -> None:
        self._make_client = make_client
        self._outbox = Outbox(broker)
        self._client: RuxaClient | None = None
        self._holder: asyncio.Task[None] | None = None
        #: Done when the worker stops.
        self._stopped: asyncio.Future[None] | None = None
        self._calls: set[str] = set()
        self._handlers: dict[int, Any] = {}

    # ---- from startup to shutdown

    async def open(self, _state: TaskiqState) -> None:
        """Open the client, before the receiver takes its first message. A signal ends the wait."""
        loop = asyncio.get_running_loop()
        opened, self._stopped = loop.create_future(), loop.create_future()
        self._chain_signals(loop)
        self._holder = holder = asyncio.create_task(self._hold(opened, self._stopped))
        await asyncio.wait({holder, opened}, return_when=asyncio.FIRST_COMPLETED)
        if holder.done() and not holder.cancelled():
            self._holder = None
            holder.result()  # raises

    async def _hold(self, opened: asyncio.Future[None], stopped: asyncio.Future[None]) -> None:
        """Keep the client open until the end. It is entered and left in one task, as it needs."""
        async with self._make_client() as self._client:
            opened.set_result(None)
            await asyncio.wait({stopped})

    def stop(self) -> None:
        """Give every call back, to be asked of the next holder, and end the wait for the client."""
        if self._stopped is None or self._stopped.done():
            return
        self._stopped.set_result(None)
        if self._client is None and self._holder is not None:
            self._holder.cancel()

    async def close(self, _state: TaskiqState) -> None:
        """Close the client.

        taskiq cancels this after 5 s (``--shutdown-timeout``), which would leave creates on the wire unknown.
        It waits nevertheless: ``Timeouts.create_drain`` bounds the wait.
        """
        self.stop()
        holder, self._holder, self._client = self._holder, None, None
        while holder is not None and not holder.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({holder})
        await self._outbox.flush()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        if holder is not None and not holder.cancelled():
            holder.result()

    # ---- messages

    async def perform(self, message: TaskiqMessage, run: str, request: str) -> str:
        """Buy *request* and return the answer. Raises NoResultError for a repeated message of a call."""
        call = message.task_id
        if call in self._calls:
            raise NoResultError
        self._calls.add(call)
        try:
            answer = await self._buy(run, request)
        finally:
            self._calls.discard(call)
        if answer == ASK_AGAIN and self._holder is not None:
            # The next holder need not wait until all calls have this answer.
            await asyncio.wait({self._holder})
        if (inbox := message.labels.get(INBOX)) is not None:
            self._outbox.send(inbox, call, answer)
        return answer

    async def _buy(self, run: str, request: str) -> str:
        client = self._client
        if client is None or self._stopped is None or self._stopped.done():
            return ASK_AGAIN
        try:
            # Not generate(): when it ends early, the task would be logged as an orphan.
            task = await client.submit(load_request(request), run=run)
            return dump_generation(await task.result())
        except Exception as error:  # noqa: BLE001 - it belongs to the process that asked
            if isinstance(error, (ClientClosedError, JournalError)) and not isinstance(error, RunInUseError):
                self._give_up(error)
                return ASK_AGAIN
            return dump_error(error)

    def _give_up(self, error: Exception) -> None:
        """Stop the worker, whose client cannot buy any more; taskiq starts another one, which stands by."""
        if self._stopped is None or self._stopped.done():
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
