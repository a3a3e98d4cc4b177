"""Answers that the worker sends at once, with a real Redis; the worker is in the process of the test."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import anyio
import pytest
from attrs import define, field
from servers import RedisServer, redis_missing, redis_server

pytest.importorskip("taskiq_redis", reason="needs taskiq-redis: pip install 'ruxa-async[taskiq]'")
if missing := redis_missing():
    pytest.skip(missing, allow_module_level=True)

from redis.asyncio import Redis
from taskiq import AsyncBroker, AsyncResultBackend, TaskiqResult
from taskiq.api import run_receiver_task
from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from ruxa_async import Generation, NanoBanana, RuxaClient, SqliteJournal
from ruxa_async.emulator import Durations, Emulator, EmulatorSettings
from ruxa_async.integrations._taskiq_push import Inbox
from ruxa_async.integrations.taskiq import Purchases
from ruxa_async.integrations.taskiq import __doc__ as documentation

CAT = NanoBanana(prompt="a cat", key="cat")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Backend(RedisAsyncResultBackend[Any]):
    """The result backend of a process that asks: *found* tells whether it finds answers."""

    def __init__(self, url: str, *, found: bool = True, **settings: Any) -> None:
        super().__init__(url, result_ex_time=60, serializer=JSONSerializer(), **settings)
        self.found = found
        self.looks = 0

    async def is_result_ready(self, task_id: str) -> bool:
        self.looks += 1
        return self.found and await super().is_result_ready(task_id)


class AnotherBackend(AsyncResultBackend[Any]):
    """A worker's result backend that is not known to use Redis."""

    def __init__(self, url: str) -> None:
        self._backend = Backend(url)

    async def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        await self._backend.set_result(task_id, result)

    async def is_result_ready(self, task_id: str) -> bool:
        raise NotImplementedError

    async def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[Any]:
        raise NotImplementedError

    async def shutdown(self) -> None:
        await self._backend.shutdown()


class SilentBackend(Backend):
    """A worker's result backend that keeps results, but whose connections for other commands fail."""

    def __init__(self, url: str) -> None:
        super().__init__(f"{url}-of-another-server")
        self._backend = Backend(url)

    async def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        await self._backend.set_result(task_id, result)

    async def shutdown(self) -> None:
        await self._backend.shutdown()
        await super().shutdown()


@define
class Office:
    """Redis with a queue of its own, a worker, and the emulated service."""

    redis: RedisServer
    emulator: Emulator
    folder: Path
    queue: str = field(factory=lambda: uuid.uuid4().hex)

    def broker(self, backend: AsyncResultBackend[Any]) -> AsyncBroker:
        broker = RedisStreamBroker(
            self.redis.url,
            queue_name=self.queue,
            consumer_group_name=self.queue,
            consumer_id="0",
            xread_block=100,
        )
        return broker.with_result_backend(backend)

    def client(self) -> RuxaClient:
        journal = SqliteJournal(self.folder / "journal.sqlite")
        return RuxaClient(api_key=self.emulator.key, base_url=self.emulator.url, journal=journal)

    @asynccontextmanager
    async def worker(self, backend: AsyncResultBackend[Any] | None = None) -> AsyncIterator[None]:
        broker = self.broker(backend or Backend(self.redis.url))
        Purchases(broker, self.client)
        working = asyncio.create_task(run_receiver_task(broker, run_startup=True))
        try:
            yield
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
            await broker.shutdown()

    @asynccontextmanager
    async def purchases(self, backend: Backend, *, ask_again: float = 60.0) -> AsyncIterator[Purchases]:
        broker = self.broker(backend)
        async with broker:
            yield Purchases(broker, self.client, ask_again=ask_again)

    async def inboxes(self) -> list[bytes | str]:
        """Return the names of the inboxes that receive answers now."""
        async with Redis.from_url(self.redis.url) as redis:
            return list(await redis.pubsub_channels())

    async def close_inboxes(self) -> None:
        """End the connections on which answers are received."""
        async with Redis.from_url(self.redis.url) as redis:
            await redis.client_kill_filter(_type="pubsub")


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def office(tmp_path: Path, redis: RedisServer) -> Iterator[Office]:
    emulator = Emulator(EmulatorSettings(image=Durations(0.3)))
    emulator.start()
    try:
        yield Office(redis, emulator, tmp_path)
    finally:
        emulator.stop()


async def until(condition: Callable[[], Any]) -> None:
    with anyio.fail_after(30):
        while not await condition():
            await anyio.sleep(0.01)


class LosingRedis:
    """A Redis whose connection turns a cancellation into an error, as a time-out at the same moment does."""

    @asynccontextmanager
    async def pubsub(self) -> AsyncIterator[LosingRedis]:
        yield self

    async def subscribe(self, name: str) -> None: ...

    async def listen(self) -> AsyncIterator[dict[str, Any]]:
        yield {"type": "subscribe"}
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise TimeoutError from None


async def test_an_inbox_closes_although_redis_loses_the_cancellation() -> None:
    inbox = Inbox(LosingRedis())
    await inbox.tried.wait()
    await inbox.aclose()
    assert inbox._listener is not None
    assert inbox._listener.done()


async def test_answers_arrive_without_a_look(office: Office) -> None:
    backend = Backend(office.redis.url, found=False)
    wanted = [NanoBanana(prompt=f"picture {number}", key=f"k{number}") for number in range(20)]
    async with office.worker(), office.purchases(backend) as purchases:
        asked = purchases.as_completed(wanted, run="catalogue", timeout=30)
        answers = {
            answer.task_id: request.input()["prompt"]
            async for request, answer in asked
            if isinstance(answer, Generation)
        }
    assert answers == {each.task_id: each.input["prompt"] for each in office.emulator.service.ledger.entries}
    assert len(answers) == 20


async def test_an_inbox_receives_while_a_call_waits_and_no_longer(office: Office) -> None:
    backend = Backend(office.redis.url)
    async with office.purchases(backend) as purchases:
        tasks = asyncio.all_tasks()
        async with anyio.create_task_group() as tg:
            for number in range(3):
                request = NanoBanana(prompt=f"picture {number}")
                tg.start_soon(partial(purchases.generate, request, run="catalogue"))
            await until(office.inboxes)
            assert len(await office.inboxes()) == 1
            tg.cancel_scope.cancel()
        assert asyncio.all_tasks() == tasks
        assert not await office.inboxes()
        with pytest.raises(TimeoutError):
            await purchases.generate(CAT, run="catalogue", timeout=0.1)
        assert asyncio.all_tasks() == tasks


@pytest.mark.parametrize("kind", [AnotherBackend, SilentBackend])
async def test_answers_are_found_when_none_is_sent_at_once(
    office: Office, kind: Callable[[str], AsyncResultBackend[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ruxa_async.integrations.taskiq._RARE_LOOK", 0.1)
    backend = Backend(office.redis.url)
    worker = office.worker(kind(office.redis.url))
    async with worker, office.purchases(backend) as purchases:
        assert (await purchases.generate(CAT, run="catalogue", timeout=30)).urls
    assert backend.looks


async def test_answers_are_found_with_one_connection(office: Office) -> None:
    backend = Backend(office.redis.url, max_connection_pool_size=1)  # none to spare for an inbox
    async with office.worker(), office.purchases(backend) as purchases:
        assert (await purchases.generate(CAT, run="catalogue", timeout=30)).urls
    assert backend.looks


async def test_an_inbox_receives_again_after_its_connection_was_lost(office: Office) -> None:
    backend = Backend(office.redis.url, found=False)
    async with office.purchases(backend) as purchases, anyio.create_task_group() as tg:
        urls = list[str]()

        async def ask() -> None:
            urls.extend((await purchases.generate(CAT, run="catalogue", timeout=30)).urls)

        tg.start_soon(ask)
        await until(office.inboxes)
        await office.close_inboxes()
        await until(office.inboxes)
        async with office.worker():
            with anyio.fail_after(30):
                while not urls:
                    await anyio.sleep(0.01)


async def test_an_inbox_receives_again_after_redis_was_away(tmp_path: Path, office: Office) -> None:
    with redis_server() as redis:
        away = Office(redis, office.emulator, tmp_path)
        backend = Backend(redis.url, found=False)
        async with away.purchases(backend, ask_again=0.5) as purchases, anyio.create_task_group() as tg:
            urls = list[str]()

            async def ask() -> None:
                urls.extend((await purchases.generate(CAT, run="catalogue", timeout=60)).urls)

            tg.start_soon(ask)
            await until(away.inboxes)
            redis.kill()
            await anyio.sleep(0.5)  # the attempts to connect again fail meanwhile
            redis.start()
            await until(away.inboxes)
            async with away.worker():
                with anyio.fail_after(60):
                    while not urls:
                        await anyio.sleep(0.01)


def test_event_loops_one_after_the_other_have_inboxes_of_their_own(office: Office) -> None:
    broker = office.broker(Backend(office.redis.url, found=False))
    purchases = Purchases(broker, office.client)

    async def ask() -> str | None:
        async with office.worker(), broker:
            return (await purchases.generate(CAT, run="catalogue", timeout=30)).task_id

    assert asyncio.run(ask()) == asyncio.run(ask()) == office.emulator.service.ledger.entries[0].task_id


def test_the_module_in_the_documentation_can_be_pasted(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert documentation is not None
    indented = documentation.partition("::\n\n")[2].partition("\nStart ")[0]
    monkeypatch.setenv("REDIS_URL", redis.url)
    names = dict[str, Any]()
    exec(dedent(indented), names)
    assert isinstance(names["purchases"], Purchases)
