"""Forty cancelled creates over real sockets: every task id is kept, and nothing leaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from ruxa_async import Limits, NanoBanana, Polling, RateLimit, RuxaClient
from ruxa_async.emulator import Durations, Emulator, EmulatorSettings, Fault
from ruxa_async.testing._stepping import held, nothing_more_than
from ruxa_async.transports import AiohttpTransport, Httpx2Transport

COUNT = 40
LATENCY = 4.0  # seconds: longer than forty creates take to leave on new connections, on a busy machine too

Body = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture(params=["aiohttp-asyncio", "httpx2-asyncio", "httpx2-trio"])
def stack(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def anyio_backend(stack: str) -> str:
    return stack.partition("-")[2]


async def cancelled_natively(on_the_wire: Body, bodies: list[Body]) -> None:
    tasks = [asyncio.ensure_future(body()) for body in bodies]
    await on_the_wire()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


async def cancelled_by_timeout(on_the_wire: Body, bodies: list[Body]) -> None:
    timeouts: list[asyncio.Timeout] = []

    async def bounded(body: Body) -> None:
        async with asyncio.timeout(None) as timeout:
            timeouts.append(timeout)
            await body()

    tasks = [asyncio.ensure_future(bounded(body)) for body in bodies]
    await on_the_wire()
    for timeout in timeouts:
        timeout.reschedule(0.0)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [TimeoutError] * COUNT


async def cancelled_by_scope(on_the_wire: Body, bodies: list[Body]) -> None:
    async with anyio.create_task_group() as tg:
        for body in bodies:
            tg.start_soon(body)
        await on_the_wire()
        tg.cancel_scope.cancel()


@pytest.mark.parametrize("cancelled", [cancelled_natively, cancelled_by_timeout, cancelled_by_scope])
async def test_forty_cancelled_creates_keep_forty_task_ids(
    stack: str, cancelled: Callable[[Body, list[Body]], Coroutine[Any, Any, None]]
) -> None:
    if stack == "httpx2-trio" and cancelled is not cancelled_by_scope:
        pytest.skip("there is no such thing on trio")
    make = AiohttpTransport if stack.startswith("aiohttp") else Httpx2Transport
    slow = Fault("slow", "create", seconds=LATENCY)
    settings = EmulatorSettings(faults=(slow,), image=Durations(1.0), speed=1000)
    async with Emulator(settings) as emulator:
        before = held()
        options: dict[str, Any] = {
            "limits": Limits(
                max_in_flight=2 * COUNT, max_concurrent_creates=COUNT, create_rate=RateLimit(1000, burst=1000)
            ),
            "polling": Polling(min_interval=0.1, max_interval=0.2),
            "transport": make(pool_size=COUNT),
        }
        async with RuxaClient(api_key=emulator.key, base_url=emulator.url, **options) as ruxa:

            async def on_the_wire() -> None:
                wanted = ruxa.stats().accepted + COUNT
                while emulator.service.ledger.charged < wanted:
                    await anyio.sleep(0.002)
                assert ruxa.stats().creates_on_wire == COUNT, "some were answered already"

            def one(number: int) -> Body:
                async def body() -> None:
                    await ruxa.submit(NanoBanana(prompt=f"cancelled {number}"))

                return body

            with anyio.fail_after(20):
                await cancelled(on_the_wire, [one(number) for number in range(COUNT)])
                while ruxa.stats().creates_on_wire:
                    await anyio.sleep(0.01)
            bought = {
                entry.task_id
                for entry in emulator.service.ledger.entries
                if entry.input["prompt"].startswith("cancelled ")
            }
            assert len(bought) == COUNT
            assert {record.task_id for record in ruxa.orphans} == bought
            # The pool still serves at full size: forty are with the service before the first has its answer.
            with anyio.fail_after(20):
                async with anyio.create_task_group() as tg:
                    tg.start_soon(on_the_wire)
                    await every(COUNT, lambda n: ruxa.submit(NanoBanana(prompt=f"last {n}")))
        assert emulator.service.ledger.duplicates() == []
        await nothing_more_than(before)


async def every(count: int, ask: Callable[[int], Coroutine[Any, Any, Any]]) -> None:
    async with anyio.create_task_group() as tg:
        for number in range(count):
            tg.start_soon(ask, number)
