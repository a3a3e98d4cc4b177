"""Buy from any process through one taskiq worker process, which holds the client of the account.

In a module that all processes import, such as ``pictures.py``::

    import math
    import os

    from ruxa_async import RuxaClient
    from ruxa_async.integrations.taskiq import Purchases
    from ruxa_async.journal import PostgresJournal
    from taskiq.serializers import JSONSerializer
    from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

    url = os.environ["REDIS_URL"]
    broker = RedisStreamBroker(
        url, queue_name="ruxa", consumer_id="0", maxlen=100_000, max_connection_pool_size=10
    ).with_result_backend(
        RedisAsyncResultBackend(
            url, result_ex_time=3600, serializer=JSONSerializer(), max_connection_pool_size=10
        )
    )


    def make_client():  # only in the worker process, where RUXA_JOURNAL and RUXA_API_KEY are set
        return RuxaClient(journal=PostgresJournal(os.environ["RUXA_JOURNAL"], wait=math.inf))


    purchases = Purchases(broker, make_client)

Start ``taskiq worker pictures:broker --workers 1`` on two machines: one buys, the other stands by. Any other
process calls ``await purchases.generate(request, run="catalogue")``.

Messages may be lost, repeated and overtaken, and each process may be killed: a run and a key name one
purchase, so a message can be sent again free of charge, and is, until its answer arrives. With
`RedisAsyncResultBackend` answers arrive at once; with other backends the calls look for them.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Annotated, Any

import anyio

from ruxa_async import RuxaClient
from ruxa_async._logging import logger
from ruxa_async.errors import ConfigurationError, MissingExtraError
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import Generation
from ruxa_async.settings import Resume

try:
    from taskiq import AsyncBroker, AsyncTaskiqTask, Context, TaskiqDepends, TaskiqEvents
    from taskiq.exceptions import ResultGetError, ResultIsReadyError, SendTaskError
    from taskiq.result_backends.dummy import DummyResultBackend
except ImportError as _exc:
    raise MissingExtraError("purchases through taskiq", "taskiq") from _exc

from ._messages import dump_request, load_generation
from ._taskiq_push import Inbox, Inboxes
from ._taskiq_worker import ASK_AGAIN, INBOX, Worker

__all__ = ("Purchases",)

#: The name of the taskiq task.
_TASK_NAME = "ruxa: generate by key"
#: The longest interval between two messages for one purchase, in first intervals.
_LONGEST_INTERVAL = 8
#: seconds before the next message after Redis failed
_PAUSE = 1.0
#: seconds before the next message after a worker stopped; the pause doubles from the first to the second
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
#: bounds of the seconds until the next look for an answer, which are a fifth of the time waited so far
_FIRST_LOOK, _LAST_LOOK = 0.01, 1.0
#: seconds until the next look while answers are received
_RARE_LOOK = 5.0


class Purchases:
    """Purchases by run and key, made by the one worker process of *broker* that holds the client.

    *broker* has a result backend and a queue of its own for each account. *make_client* returns the client,
    which needs a lasting journal; only the worker process calls it. A worker process opens the client before
    it takes a message, so with ``PostgresJournal(wait=math.inf)`` further workers stand by.

    A message without an answer is sent again after *ask_again* seconds (15), then at intervals that double up
    to eight times as long. Raises `ConfigurationError` if *broker* has no result backend.
    """

    def __init__(
        self, broker: AsyncBroker, make_client: Callable[[], RuxaClient], *, ask_again: float = 15.0
    ) -> None:
        if isinstance(broker.result_backend, DummyResultBackend):
            raise ConfigurationError(
                "the broker has no result backend, so no answer can come back: add one by "
                "broker.with_result_backend(RedisAsyncResultBackend(url))"
            )
        self._ask_again = ask_again
        self._inboxes = Inboxes(broker)
        self._worker = worker = Worker(make_client, broker)

        async def generate(run: str, request: str, context: Annotated[Context, TaskiqDepends()]) -> str:
            return await worker.perform(context.message, run, request)

        self._task = broker.register_task(generate, task_name=_TASK_NAME)
        broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, worker.open)
        broker.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, worker.close)

    async def generate(self, request: GenerationRequest, *, run: str, timeout: float = 3600.0) -> Generation:
        """Buy *request* once in *run*, by the worker process, and return the generation.

        It is recognised by its key, else by its model and input. If it was bought before, the generation of
        that purchase is returned. If you cancel this, or it raises TimeoutError after *timeout* seconds, the
        purchase goes on; call it again with the same request and run to continue. Raises what
        ``RuxaClient.generate`` raises.
        """
        if not isinstance(request, GenerationRequest):
            raise TypeError(f"generate takes a request such as NanoBanana(...), not {request!r}")
        name = Resume(run).name  # raises ValueError for an empty one
        text = dump_request(request)
        async with self._inboxes.joined() as inbox:
            inquiry = _Inquiry(self._task, inbox, name, text, self._ask_again)
            with anyio.move_on_after(timeout):
                return load_generation(await inquiry.answer(), request)
        raise TimeoutError(
            f"no answer within {timeout:g} s ({inquiry.reason}): see that Redis and a worker run. What was "
            "bought is not lost: ask again with the same request and run"
        )

    async def as_completed(
        self, requests: Iterable[GenerationRequest], *, run: str, window: int = 100, timeout: float = 3600.0
    ) -> AsyncGenerator[tuple[GenerationRequest, Generation | Exception], None]:
        """Buy each of *requests* as `generate` does, and yield it with its generation or error as they end.

        At most *window* requests wait for an answer; *timeout* is in seconds for each of them.
        """
        source = iter(requests)
        asking: dict[asyncio.Task[Generation | Exception], GenerationRequest] = {}

        async def ask(request: GenerationRequest) -> Generation | Exception:
            try:
                return await self.generate(request, run=run, timeout=timeout)
            except Exception as error:  # noqa: BLE001 - yielded: the others go on
                return error

        try:
            while True:
                while len(asking) < window and (request := next(source, None)) is not None:
                    asking[asyncio.create_task(ask(request))] = request
                if not asking:
                    return
                ended, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                for each in ended:
                    yield asking.pop(each), each.result()
        finally:
            for each in asking:
                each.cancel()


class _Inquiry:
    """One call of a process that does not hold the client: send messages until there is an answer."""

    def __init__(self, task: Any, inbox: Inbox, run: str, request: str, interval: float) -> None:
        self._task = task
        self._inbox = inbox
        self._arguments = run, request
        self._first_interval = interval
        self._started = anyio.current_time()
        self.reason = "no worker answered"

    async def answer(self) -> str:
        """Return the answer. A worker that stopped leaves it to the next one, under another name."""
        await self._inbox.tried.wait()
        pause = _FIRST_PAUSE
        while (answer := await self._answer_to(uuid.uuid4().hex)) == ASK_AGAIN:
            await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return answer

    async def _answer_to(self, call: str) -> str:
        """Send the message of *call*, again after each interval, and return the answer."""
        interval = self._first_interval
        with self._inbox.expect(call) as arriving:
            while True:
                with anyio.move_on_after(interval) as scope:
                    answer = await self._ask(call, arriving)
                if scope.cancelled_caught:
                    interval = min(2 * interval, _LONGEST_INTERVAL * self._first_interval)
                elif answer is not None:
                    return answer
                else:
                    await anyio.sleep(_PAUSE)

    async def _ask(self, call: str, arriving: asyncio.Future[str]) -> str | None:
        """Send a message and wait for the answer to it or to an earlier one; None if Redis is away."""
        kicker = self._task.kicker().with_task_id(call).with_labels(**{INBOX: self._inbox.name})
        try:
            sent: AsyncTaskiqTask[str] = await kicker.kiq(*self._arguments)
            while True:
                await asyncio.wait({arriving}, timeout=self._seconds_to_look())
                if arriving.done():
                    return arriving.result()
                if await sent.is_ready():
                    break
            result = await sent.get_result()
        except (SendTaskError, ResultIsReadyError, ResultGetError) as error:
            self._note(f"Redis failed: {error.__cause__!r}")
            return None
        if result.is_err:  # the worker was stopped in between, or runs another version of this module
            self._note(f"the worker failed: {result.error!r}")
            return ASK_AGAIN
        return result.return_value

    def _seconds_to_look(self) -> float:
        if self._inbox.is_listening:
            return _RARE_LOOK
        waited = anyio.current_time() - self._started
        return min(max(waited / 5, _FIRST_LOOK), _LAST_LOOK)

    def _note(self, reason: str) -> None:
        if reason != self.reason:
            logger.warning("a purchase waits, because %s", reason)
        self.reason = reason
