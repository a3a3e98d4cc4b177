"""Answers that the worker process sends at once to the processes that wait for them.

They travel by publish and subscribe of Redis, if the broker has the result backend of Redis. A lost one costs
time, nothing else: each answer is in the result backend too, where the call that waits for it looks.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
from taskiq import AsyncBroker

from ruxa_async._logging import logger

__all__ = ("Inbox", "Inboxes", "Outbox")

#: seconds until a listener that failed tries again; the pause doubles from the first to the second
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0


def _redis_of(broker: AsyncBroker) -> Any:
    """Return a Redis client on the connections of the result backend; None if it is another backend."""
    try:
        from redis.asyncio import Redis  # noqa: PLC0415 - of taskiq-redis, which another broker does not need
        from taskiq_redis import RedisAsyncResultBackend  # noqa: PLC0415
    except ImportError:
        return None
    backend = broker.result_backend
    # A listener keeps one connection, and the others that wait need a second one.
    if not isinstance(backend, RedisAsyncResultBackend) or backend.redis_pool.max_connections < 2:
        return None
    return Redis(connection_pool=backend.redis_pool)


class Inbox:
    """Where the answers to the calls of one event loop arrive, while at least one of them waits."""

    def __init__(self, redis: Any) -> None:
        self.name: str = f"ruxa:{uuid.uuid4().hex}"
        #: Whether answers that are sent now arrive.
        self.is_listening: bool = False
        #: Set when that is known for the first time.
        self.tried: asyncio.Event = asyncio.Event()
        self.callers: int = 0
        self._expected: dict[str, asyncio.Future[str]] = {}
        self._listener: asyncio.Task[None] | None = None
        if redis is None:
            self.tried.set()
        else:
            self._listener = asyncio.create_task(self._listen(redis))

    async def aclose(self) -> None:
        """Receive no more."""
        if self._listener is not None:
            with anyio.CancelScope(shield=True):
                while not self._listener.done():  # a cancellation that meets a time-out of redis may be lost
                    self._listener.cancel()
                    await asyncio.wait({self._listener}, timeout=1)

    @contextmanager
    def expect(self, call: str) -> Generator[asyncio.Future[str]]:
        """Give what is done when the answer to *call* arrives."""
        answer = self._expected[call] = asyncio.get_running_loop().create_future()
        try:
            yield answer
        finally:
            del self._expected[call]

    async def _listen(self, redis: Any) -> None:
        """Receive answers until this is cancelled, again after Redis was away."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with redis.pubsub() as channel:
                    await channel.subscribe(self.name)
                    async for message in channel.listen():
                        pause = _FIRST_PAUSE
                        self._receive(message)
            except Exception as error:  # noqa: BLE001 - answers are looked for meanwhile
                logger.debug("answers are looked for, because none can be received: %r", error)
            if (task := asyncio.current_task()) is not None and task.cancelling():
                return  # what was raised took the place of the cancellation
            self.is_listening = False
            self.tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _receive(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            self.is_listening = True
            self.tried.set()
        elif message["type"] == "message":
            call, answer = json.loads(message["data"])
            expected = self._expected.get(call)
            if expected is not None and not expected.done():
                expected.set_result(answer)


class Inboxes:
    """The inboxes of a process that asks: one for each event loop in which calls wait."""

    def __init__(self, broker: AsyncBroker) -> None:
        self._broker = broker
        self._open: dict[asyncio.AbstractEventLoop, Inbox] = {}

    @asynccontextmanager
    async def joined(self) -> AsyncGenerator[Inbox]:
        """Give the inbox of this event loop, which is closed after its last caller."""
        loop = asyncio.get_running_loop()
        inbox = self._open.get(loop)
        if inbox is None:
            inbox = self._open[loop] = Inbox(_redis_of(self._broker))
        inbox.callers += 1
        try:
            yield inbox
        finally:
            inbox.callers -= 1
            if not inbox.callers:
                del self._open[loop]
                await inbox.aclose()


class Outbox:
    """Answers of the worker process. Those that are sent during one round trip share the next one."""

    def __init__(self, broker: AsyncBroker) -> None:
        self._redis = _redis_of(broker)
        self._waiting: list[tuple[str, str]] = []
        self._sender: asyncio.Task[None] | None = None

    def send(self, inbox: str, call: str, answer: str) -> None:
        """Send *answer* to *inbox* soon, if it is possible."""
        if self._redis is None:
            return
        self._waiting.append((inbox, json.dumps([call, answer])))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())

    async def _send(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                pipeline = self._redis.pipeline(transaction=False)
                for inbox, text in batch:
                    pipeline.publish(inbox, text)
                await pipeline.execute()
        except Exception as error:  # noqa: BLE001 - the result backend has the answers, too
            logger.debug("answers were not sent at once: %r", error)
        finally:
            self._sender = None

    async def flush(self) -> None:
        """Wait until nothing is being sent."""
        if self._sender is not None:
            await asyncio.wait({self._sender})
