"""An exception of a source ends its own iteration only; the client and other batches go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest
from harness import client_of, prompts, service_of

from ruxa_async import NanoBanana, RuxaClient
from ruxa_async.emulator import Durations


class OddError(BaseException):
    """An error that is not an Exception."""


RAISED: list[Callable[[], BaseException]] = [
    lambda: asyncio.CancelledError("mine"),
    lambda: GeneratorExit("mine"),
    lambda: OddError("mine"),
    lambda: BaseExceptionGroup("mine", [OddError("inner")]),
]
INTERRUPTS: list[Callable[[], BaseException]] = [lambda: KeyboardInterrupt("mine"), lambda: SystemExit(3)]


def broken(error: BaseException, *, asynchronous: bool, at_once: bool = False) -> Any:
    """Return a source that raises *error* after three requests, or before the first."""

    class Iterating:
        def __init__(self) -> None:
            self.good = iter([] if at_once else prompts(3))

        def __iter__(self) -> Iterator[NanoBanana]:
            return self

        def __next__(self) -> NanoBanana:
            for request in self.good:
                return request
            raise error

    async def generate() -> AsyncIterator[NanoBanana]:
        for request in Iterating():
            await anyio.sleep(0.01)
            yield request

    return generate() if asynchronous else Iterating()


async def generated(ruxa: RuxaClient, done: list[str]) -> None:
    done.extend((await ruxa.generate(NanoBanana(prompt="somebody else's"))).urls)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("make", RAISED, ids=lambda make: type(make()).__name__)
async def test_an_error_ends_its_own_iteration_after_the_last_outcome(
    make: Callable[[], BaseException], asynchronous: bool, at_once: bool
) -> None:
    error = make()
    service = service_of()
    done: list[str] = []
    seen = []
    async with client_of(service) as ruxa, anyio.create_task_group() as tg:
        tg.start_soon(generated, ruxa, done)
        with pytest.raises(type(error)) as caught:  # noqa: PT012 - the loop is what raises
            async with ruxa.as_completed(
                broken(error, asynchronous=asynchronous, at_once=at_once)
            ) as outcomes:
                async for outcome in outcomes:
                    seen.append(outcome)
        assert caught.value is error
        assert len(seen) == (0 if at_once else 3)
        assert len((await ruxa.generate(NanoBanana(prompt="later"))).urls) == 1
    assert len(done) == 1
    assert ruxa.orphans == ()


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("make", INTERRUPTS, ids=lambda make: type(make()).__name__)
async def test_an_interrupt_in_the_source_is_raised_at_once_and_paid_tasks_are_listed(
    make: Callable[[], BaseException], asynchronous: bool
) -> None:
    error = make()
    service = service_of()
    done: list[str] = []
    async with client_of(service) as ruxa, anyio.create_task_group() as tg:
        tg.start_soon(generated, ruxa, done)
        outcomes = ruxa.as_completed(broken(error, asynchronous=asynchronous))
        with pytest.raises(type(error)) as caught:
            async with outcomes:
                await anext(outcomes)
        assert caught.value is error
        assert anyio.current_time() < 5  # no task has ended
        paid = {record.task_id for record in outcomes.unfinished}
    charged = {entry.task_id for entry in service.ledger.entries}
    assert len(paid) + len(outcomes.unsubmitted) == 3
    assert paid <= charged
    assert len(charged - paid) == 1  # somebody else's
    assert len(done) == 1


async def test_a_cancellation_of_the_caller_stays_a_cancellation() -> None:
    service = service_of(image=Durations(100.0, 0.0))

    async def endless() -> AsyncIterator[NanoBanana]:
        for request in prompts(3):
            yield request
        await anyio.sleep_forever()

    async with client_of(service) as ruxa:
        with anyio.move_on_after(10) as scope:
            async with ruxa.as_completed(endless()) as outcomes:
                await anext(outcomes)
        assert scope.cancelled_caught
        assert len(outcomes.unfinished) == 3
        with anyio.fail_after(200):
            await ruxa.generate(NanoBanana(prompt="later"))


@pytest.mark.parametrize(
    "make", [*RAISED, lambda: ValueError("mine")], ids=lambda make: type(make()).__name__
)
async def test_an_error_while_the_source_is_closed_stops_nothing_else(
    make: Callable[[], BaseException],
) -> None:
    async def stubborn() -> AsyncIterator[NanoBanana]:
        try:
            for request in prompts(100):
                yield request
        finally:
            raise make()

    async with client_of(service_of()) as ruxa:
        async with ruxa.as_completed(stubborn(), window=5) as outcomes:
            await anext(outcomes)
        assert len((await ruxa.generate(NanoBanana(prompt="later"))).urls) == 1


async def test_an_interrupt_while_the_source_is_closed_is_raised_by_the_block() -> None:
    async def interrupted() -> AsyncIterator[NanoBanana]:
        try:
            for request in prompts(100):
                yield request
        finally:
            raise KeyboardInterrupt

    async with client_of(service_of()) as ruxa:
        with pytest.raises(KeyboardInterrupt):
            async with ruxa.as_completed(interrupted(), window=5) as outcomes:
                await anext(outcomes)
        assert len((await ruxa.generate(NanoBanana(prompt="later"))).urls) == 1


async def test_a_source_that_fails_after_its_handle_was_dropped_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def stubborn() -> AsyncIterator[NanoBanana]:
        try:
            for request in prompts(100):
                yield request
        finally:
            raise OddError("too late")

    async with client_of(service_of()) as ruxa:
        await anext(ruxa.as_completed(stubborn(), window=5))
        await anyio.sleep(1)
        assert len((await ruxa.generate(NanoBanana(prompt="later"))).urls) == 1
    assert "too late" in caplog.text
