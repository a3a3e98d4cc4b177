"""The client's behaviour on every transport and event loop: sockets in real time, and memory beside them.

All other tests of the client use memory. Here a difference between the transports would show.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from harness import KEY, URL, prompts

from ruxa_async import (
    AuthenticationError,
    Budget,
    BudgetExceededError,
    Failed,
    NanoBanana,
    Polling,
    RuxaClient,
    SqliteJournal,
    SubmissionHalted,
    SubmissionUnknownError,
    Succeeded,
)
from ruxa_async.emulator import Durations, Emulator, EmulatorSettings, Service, TokenBucket, parse_fault
from ruxa_async.transports import AiohttpTransport, Httpx2Transport, MemoryTransport

STACKS = ("aiohttp-asyncio", "httpx2-asyncio", "httpx2-trio", "memory-asyncio", "memory-trio")


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(stack: str) -> str:
    return stack.partition("-")[2]


class World:
    """A service, and clients of it on one stack."""

    def __init__(self, stack: str, service: Service, url: str) -> None:
        self._transport = stack.partition("-")[0]
        self.service = service
        self.url = url

    def client(self, **options: Any) -> RuxaClient:
        transports = {"aiohttp": AiohttpTransport, "httpx2": Httpx2Transport}
        make = transports.get(self._transport)
        transport = MemoryTransport(self.service) if make is None else make()
        options = {"api_key": KEY, "polling": Polling(min_interval=0.02), **options}
        return RuxaClient(base_url=self.url, transport=transport, **options)

    @property
    def bought(self) -> list[str]:
        return sorted(entry.input["prompt"] for entry in self.service.ledger.entries)


@asynccontextmanager
async def world(stack: str, **settings: Any) -> AsyncIterator[World]:
    settings.setdefault("image", Durations(0.05, 0.0))
    made = EmulatorSettings(key=KEY, **settings)
    if stack.startswith("memory"):
        yield World(stack, Service(made), URL)
        return
    emulator = Emulator(made)
    await anyio.to_thread.run_sync(emulator.start)
    try:
        yield World(stack, emulator.service, emulator.url)
    finally:
        await anyio.to_thread.run_sync(emulator.stop)


async def test_a_picture_is_bought_once_and_saved(stack: str, tmp_path: Path) -> None:
    async with world(stack) as there, there.client() as ruxa:
        picture = await ruxa.generate(NanoBanana(prompt="a fox"))
        (path,) = await picture.save(tmp_path)
        assert path.read_bytes()[:4] == b"\x89PNG"
    assert there.bought == ["a fox"]


async def test_a_batch_gives_every_outcome_once_under_an_unknown_limit(stack: str) -> None:
    async with (
        world(stack, fail_share=0.3, seed=1, creates=TokenBucket(100, 3)) as there,
        there.client() as ruxa,
        ruxa.as_completed(prompts(24)) as outcomes,
    ):
        seen = [outcome async for outcome in outcomes]
    assert sorted(outcome.index for outcome in seen) == list(range(24))
    assert {type(outcome) for outcome in seen} == {Succeeded, Failed}
    assert there.bought == sorted(f"prompt {n}" for n in range(24))


@pytest.mark.parametrize("fault", ["error_after", "cut", "garbage"])
async def test_a_create_of_unknown_outcome_is_not_sent_again(stack: str, fault: str) -> None:
    faults = (parse_fault(f"{fault}:create:nth=1"),)
    async with world(stack, faults=faults) as there, there.client() as ruxa:
        with pytest.raises(SubmissionUnknownError):
            await ruxa.generate(NanoBanana(prompt="a fox"))
    assert there.bought == ["a fox"]


async def test_a_query_that_fails_is_sent_again(stack: str) -> None:
    faults = (parse_fault("error:query:nth=1,2:status=502"),)
    async with world(stack, faults=faults) as there, there.client() as ruxa:
        await ruxa.generate(NanoBanana(prompt="a fox"))
    assert there.bought == ["a fox"]


async def test_a_caller_who_leaves_keeps_the_task_id(stack: str) -> None:
    async with (
        world(stack, faults=(parse_fault("slow:create:seconds=0.5"),)) as there,
        there.client() as ruxa,
        anyio.create_task_group() as tg,
    ):
        tg.start_soon(ruxa.generate, NanoBanana(prompt="a fox"))
        while not there.bought:
            await anyio.sleep(0.01)
        tg.cancel_scope.cancel()
    assert len(ruxa.orphans) == len(there.bought) == 1


async def test_a_batch_that_was_left_continues_without_a_second_purchase(stack: str, tmp_path: Path) -> None:
    async with world(stack) as there:
        for last in (5, 12):
            async with (
                there.client(journal=SqliteJournal(tmp_path / "journal.db")) as ruxa,
                ruxa.as_completed(prompts(12), resume="run") as outcomes,
            ):
                seen = 0
                async for outcome in outcomes:
                    assert isinstance(outcome, Succeeded)
                    seen += 1
                    if seen == last:
                        break
    assert there.bought == sorted(f"prompt {n}" for n in range(12))


async def test_a_budget_ends_a_batch(stack: str) -> None:
    async with world(stack) as there, there.client(budget=Budget(max_tasks=3)) as ruxa:
        with pytest.raises(SubmissionHalted) as halted:
            async with ruxa.as_completed(prompts(6)) as outcomes:
                assert [outcome.ok async for outcome in outcomes] == [True] * 3
    assert isinstance(halted.value.cause, BudgetExceededError)
    assert len(there.bought) == 3


async def test_a_wrong_key_buys_nothing(stack: str) -> None:
    async with world(stack) as there, there.client(api_key="sk-another") as ruxa:
        with pytest.raises(AuthenticationError):
            await ruxa.generate(NanoBanana(prompt="a fox"))
    assert there.bought == []
