"""``open`` and ``aclose`` instead of ``async with``; and what uses without async are answered."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from harness import client_of, prompts, service_of

from ruxa_async import (
    ClientClosedError,
    JournalInUseError,
    NanoBanana,
    RuxaClient,
    SqliteJournal,
    Timeouts,
)

CAT = NanoBanana(prompt="a cat")
asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


async def in_own_task(function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Run *function* in a task of its own, as a REPL and a notebook do with each input."""
    async with anyio.create_task_group() as tg:
        tg.start_soon(function)


async def test_a_client_is_open_from_open_to_aclose_over_many_tasks() -> None:
    service = service_of()
    ruxa = client_of(service)
    urls: list[tuple[str, ...]] = []

    async def generate() -> None:
        urls.append((await ruxa.generate(CAT)).urls)

    async def batch() -> None:
        urls.extend([outcome.unwrap().urls async for outcome in ruxa.as_completed(prompts(2))])

    for cell in (ruxa.open, generate, batch, ruxa.aclose):
        await in_own_task(cell)
    assert len(urls) == len(service.ledger.entries) == 3
    with pytest.raises(ClientClosedError):
        await ruxa.generate(CAT)
    await ruxa.aclose()


async def test_open_returns_the_client() -> None:
    ruxa = client_of(service_of())
    assert await ruxa.open() is ruxa
    await ruxa.aclose()


async def test_aclose_waits_for_the_create_on_the_wire_and_lists_its_task() -> None:
    service = service_of(latency=3.0)
    ruxa = await client_of(service).open()
    with anyio.move_on_after(1.0):
        await ruxa.generate(CAT)
    await ruxa.aclose()
    assert [record.task_id for record in ruxa.orphans] == [service.ledger.entries[0].task_id]


async def test_aclose_goes_on_when_it_is_cancelled() -> None:
    service = service_of(latency=3.0)
    ruxa = await client_of(service).open()
    with anyio.move_on_after(1.0):
        await ruxa.generate(CAT)
    with anyio.move_on_after(0.1) as scope:
        await ruxa.aclose()
        await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert len(ruxa.orphans) == 1


async def test_an_open_that_is_cancelled_closes_the_client() -> None:
    ruxa = client_of(service_of())
    with anyio.CancelScope() as scope:
        scope.cancel()
        await ruxa.open()
    await ruxa.aclose()
    with pytest.raises(ClientClosedError):
        await ruxa.generate(CAT)


@asyncio_only
async def test_open_raises_what_entering_raises(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with client_of(service_of(), journal=SqliteJournal(path)):
        second = client_of(service_of(), journal=SqliteJournal(path))
        with pytest.raises(JournalInUseError):
            await second.open()
        await second.aclose()


async def test_a_client_is_opened_once() -> None:
    ruxa = await client_of(service_of()).open()
    with pytest.raises(RuntimeError, match="make a new one"):
        await ruxa.open()
    with pytest.raises(RuntimeError, match="make a new one"):
        await ruxa.__aenter__()
    await ruxa.aclose()


async def test_aclose_is_not_for_a_client_that_was_entered() -> None:
    ruxa = client_of(service_of())
    await ruxa.aclose()  # not open: nothing to close
    async with ruxa:
        with pytest.raises(RuntimeError, match="async with"):
            await ruxa.aclose()
        assert (await ruxa.generate(CAT)).urls
    await ruxa.aclose()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_client_that_is_open_when_the_event_loop_ends_is_closed(backend: str) -> None:
    ruxa = client_of(service_of())

    async def main() -> None:
        await ruxa.open()
        await ruxa.submit(CAT)

    anyio.run(main, backend=backend)
    assert "closed" in repr(ruxa)


def test_a_loop_that_ends_with_a_create_on_the_wire_leaves_it_listed() -> None:
    """Asyncio cancels every task then, also the one that waits for the reply."""
    service = service_of(latency=3600.0)
    ruxa = client_of(service, timeouts=Timeouts(create_drain=0.1))

    async def main() -> None:
        await ruxa.open()
        with anyio.move_on_after(0.1):
            await ruxa.generate(CAT)

    asyncio.run(main())
    assert [record.task_id for record in ruxa.orphans] == [None]


# ---- misuse


def test_with_names_the_line_to_write() -> None:
    ruxa = client_of(service_of())
    anything: Any = ruxa
    with (
        pytest.raises(TypeError, match=r"write `async with RuxaClient\(\) as ruxa:`.*ruxa_async\.sync"),
        anything,
    ):
        pass
    with ExitStack() as stack, pytest.raises(TypeError, match="async with"):
        stack.enter_context(ruxa)  # type: ignore[arg-type]


async def test_a_loop_without_async_names_the_line_to_write() -> None:
    async with client_of(service_of()) as ruxa:
        with pytest.raises(TypeError, match=r"write `async for outcome in .*from ruxa_async.sync import"):
            for _ in ruxa.as_completed([CAT]):  # type: ignore[attr-defined]
                pass


@pytest.mark.parametrize("name", ["generate", "submit", "status"])
async def test_a_call_that_is_not_awaited_warns_with_the_line_to_write_and_buys_nothing(name: str) -> None:
    service = service_of()
    async with client_of(service) as ruxa:
        with pytest.warns(RuntimeWarning, match=rf"'await ruxa\.{name}' was never awaited"):  # noqa: PT031
            getattr(ruxa, name)(CAT)
            gc.collect()
    assert service.ledger.entries == []


async def test_a_result_that_is_not_awaited_warns_with_the_line_to_write() -> None:
    async with client_of(service_of()) as ruxa:
        task = await ruxa.submit(CAT)
        with pytest.warns(RuntimeWarning, match=r"'await task\.result' was never awaited"):  # noqa: PT031
            task.result()  # type: ignore[unused-coroutine]
            gc.collect()


async def test_calls_stay_coroutine_functions() -> None:
    """Frameworks run other functions in a thread, where nothing would await what they return."""
    assert asyncio.iscoroutinefunction(RuxaClient.generate)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with client_of(service_of()) as ruxa:
            calls: list[Any] = [ruxa.generate(CAT)]
            assert (await calls[0]).urls
