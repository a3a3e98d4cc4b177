"""Every caller is cancelled at every moment: what was charged is delivered, an orphan, or listed as unknown.

Each test runs a scenario repeatedly, cancelling one step later each time, until the scenario ends before the
cancellation. A step is one iteration of the event loop; the service's latency adds more instants.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from attrs import define, field
from harness import client_of, prompts, service_of

from ruxa_async import NanoBanana, RuxaClient, SubmissionUnknownError
from ruxa_async.emulator import Fault, Service, TokenBucket

STEPS = 60
INSTANTS = [0.05, 0.15, 0.25, 0.35, 3.0, 9.0, 11.0, 12.5]


@define
class Seen:
    """What the caller knows at the end."""

    delivered: set[str] = field(factory=set)
    listed: set[str] = field(factory=set)
    unknown: int = 0
    cancelled: bool = False
    finished: bool = False

    def account(self, service: Service, ruxa: RuxaClient) -> None:
        """Check the service's ledger against what is known here."""
        orphans = {record.task_id for record in ruxa.orphans if record.task_id is not None}
        unknown = self.unknown + sum(record.task_id is None for record in ruxa.orphans)
        known = self.delivered | self.listed | orphans
        lost = service.ledger.missing(known)
        assert len(lost) <= unknown, f"{len(lost)} paid and unheard of, {unknown} listed as unknown"
        assert service.ledger.duplicates() == []


Body = Callable[[RuxaClient, Seen], Awaitable[None]]


async def generate(ruxa: RuxaClient, seen: Seen) -> None:
    try:
        generation = await ruxa.generate(NanoBanana(prompt="a cat"))
    except SubmissionUnknownError:
        seen.unknown += 1
    else:
        assert generation.task_id is not None
        seen.delivered.add(generation.task_id)


async def submit(ruxa: RuxaClient, seen: Seen) -> None:
    try:
        task = await ruxa.submit(NanoBanana(prompt="a cat"))
    except SubmissionUnknownError:
        seen.unknown += 1
    else:
        seen.delivered.add(task.task_id)


async def as_completed(ruxa: RuxaClient, seen: Seen) -> None:
    outcomes = ruxa.as_completed(prompts(3))
    try:
        async with outcomes:
            async for outcome in outcomes:
                if outcome.task_id is not None:
                    seen.delivered.add(outcome.task_id)
    finally:
        seen.listed |= {record.task_id for record in outcomes.unfinished if record.task_id is not None}
        seen.unknown += len(outcomes.unknown)


BODIES: dict[str, Body] = {"generate": generate, "submit": submit, "as_completed": as_completed}

CONDITIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "latency": {"latency": 0.2},
    "throttled": {"creates": TokenBucket(rate=1.0, burst=1)},
    "reply lost": {"latency": 0.2, "faults": (Fault("reset_after", nth=(1,)),)},
    "request lost": {"latency": 0.2, "faults": (Fault("reset_before", nth=(1,)),)},
    "unreachable": {"latency": 0.2, "faults": (Fault("refused", nth=(1, 2)),)},
    "stalled": {"faults": (Fault("stall", nth=(1,)),)},
}


# ---- ways to cancel


async def by_scope(body: Body, ruxa: RuxaClient, seen: Seen, moment: Callable[[], Awaitable[None]]) -> None:
    async with anyio.create_task_group() as tg:
        with anyio.CancelScope() as scope:
            tg.start_soon(_cancel_scope_at, moment, scope)
            await body(ruxa, seen)
            seen.finished = True
        seen.cancelled = scope.cancelled_caught
        tg.cancel_scope.cancel()


async def _cancel_scope_at(moment: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
    await moment()
    scope.cancel()


async def by_native_cancel(
    body: Body, ruxa: RuxaClient, seen: Seen, moment: Callable[[], Awaitable[None]]
) -> None:
    async def run() -> None:
        await body(ruxa, seen)
        seen.finished = True

    async with asyncio.TaskGroup() as tg:
        task = tg.create_task(run())
        canceller = tg.create_task(_cancel_task_at(moment, task))
        await asyncio.wait([task])
        canceller.cancel()
    seen.cancelled = task.cancelled()


async def _cancel_task_at(moment: Callable[[], Awaitable[None]], task: asyncio.Task[None]) -> None:
    await moment()
    task.cancel()


async def by_asyncio_timeout(
    body: Body, ruxa: RuxaClient, seen: Seen, moment: Callable[[], Awaitable[None]]
) -> None:
    async with asyncio.TaskGroup() as tg:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as limit:
                canceller = tg.create_task(_expire_at(moment, limit))
                await body(ruxa, seen)
                seen.finished = True
        seen.cancelled = limit.expired()
        canceller.cancel()


async def _expire_at(moment: Callable[[], Awaitable[None]], limit: asyncio.Timeout) -> None:
    await moment()
    limit.reschedule(asyncio.get_running_loop().time())


def moments() -> Iterator[Callable[[], Awaitable[None]]]:
    for steps in range(STEPS):

        async def after_steps(steps: int = steps) -> None:
            for _ in range(steps):
                await checkpoint()

        yield after_steps
    for instant in INSTANTS:

        async def at_instant(instant: float = instant) -> None:
            await anyio.sleep(instant)

        yield at_instant


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="ruxa_async")  # the warnings about orphans have tests of their own


async def cancel_everywhere(body: Body, settings: dict[str, Any], how: Callable[..., Awaitable[None]]) -> int:
    cancelled = 0
    for moment in moments():
        service = service_of(**settings)
        seen = Seen()
        async with client_of(service) as ruxa:
            await how(body, ruxa, seen, moment)
            assert seen.cancelled is not seen.finished
            cancelled += seen.cancelled
        seen.account(service, ruxa)
        assert ruxa.stats().in_flight == 0 or not seen.cancelled
    return cancelled


@pytest.mark.long
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("body", BODIES)
async def test_a_cancelled_scope_loses_nothing_paid(body: str, condition: str) -> None:
    assert await cancel_everywhere(BODIES[body], CONDITIONS[condition], by_scope) >= 2


@pytest.mark.long
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("body", BODIES)
async def test_a_native_cancel_loses_nothing_paid(body: str, condition: str) -> None:
    assert await cancel_everywhere(BODIES[body], CONDITIONS[condition], by_native_cancel) >= 2


@pytest.mark.long
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("body", BODIES)
async def test_an_asyncio_timeout_loses_nothing_paid(body: str, condition: str) -> None:
    assert await cancel_everywhere(BODIES[body], CONDITIONS[condition], by_asyncio_timeout) >= 2


@pytest.mark.long
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("body", BODIES)
async def test_a_cancelled_client_loses_nothing_paid(body: str, condition: str) -> None:
    """The scope contains the client, so the client's own tasks are cancelled as well."""
    for moment in moments():
        service = service_of(**CONDITIONS[condition])
        seen = Seen()
        ruxa = client_of(service)
        async with anyio.create_task_group() as tg:
            with anyio.CancelScope() as scope:
                tg.start_soon(_cancel_scope_at, moment, scope)
                async with ruxa:
                    await BODIES[body](ruxa, seen)
            tg.cancel_scope.cancel()
        seen.account(service, ruxa)  # asserts that the ledger and what is known here agree


async def test_a_queued_request_is_not_bought_after_its_caller_is_cancelled() -> None:
    service = service_of(creates=TokenBucket(rate=0.1, burst=1), retry_after="seconds")
    async with client_of(service) as ruxa:
        await ruxa.submit(NanoBanana(prompt="first"))
        with anyio.move_on_after(1):
            await ruxa.submit(NanoBanana(prompt="second"))
        await anyio.sleep(60)
        assert ruxa.orphans == ()
    assert [entry.input["prompt"] for entry in service.ledger.entries] == ["first"]
    assert ruxa.stats().withdrawn == 1


async def test_a_create_whose_caller_left_is_an_orphan_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="ruxa_async")
    service = service_of(latency=0.4)
    async with client_of(service) as ruxa:
        with anyio.move_on_after(0.1):
            await ruxa.submit(NanoBanana(prompt="a cat", key="mine"))
        assert not ruxa.orphans
        await anyio.sleep(60)
        (orphan,) = ruxa.orphans
        assert service.counts.queries == 0, "an orphan is not polled"
    (entry,) = service.ledger.entries
    assert (orphan.task_id, orphan.key, orphan.model) == (entry.task_id, "mine", "google/nano-banana")
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"task {entry.task_id} was paid for, but its caller is gone: ")
    assert line.endswith(f"pick it up with attach({entry.task_id!r})")


async def test_leaving_the_client_waits_for_the_create_on_the_wire() -> None:
    service = service_of(latency=4.0)
    with anyio.CancelScope() as scope:
        async with client_of(service) as ruxa, anyio.create_task_group() as tg:
            tg.start_soon(ruxa.submit, NanoBanana(prompt="a cat"))
            await anyio.sleep(1)
            scope.cancel()
    assert anyio.current_time() == pytest.approx(4.0)
    assert [record.task_id for record in ruxa.orphans] == [service.ledger.entries[0].task_id]


async def test_a_drain_that_runs_out_lists_the_create_as_unknown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="ruxa_async")
    service = service_of(latency=60.0)
    with anyio.CancelScope() as scope:
        async with client_of(service) as ruxa, anyio.create_task_group() as tg:
            tg.start_soon(ruxa.submit, NanoBanana(prompt="a cat", key="mine"))
            await anyio.sleep(1)
            scope.cancel()
    assert anyio.current_time() == pytest.approx(11.0)  # Timeouts.create_drain is ten seconds
    (orphan,) = ruxa.orphans
    assert (orphan.task_id, orphan.key) == (None, "mine")
    assert isinstance(orphan.error, SubmissionUnknownError)
    assert "may have been charged" in caplog.text
