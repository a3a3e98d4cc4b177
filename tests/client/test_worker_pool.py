"""`WorkerPool`: how many workers run, which one is woken, and how they end."""

from __future__ import annotations

import time
from collections import deque

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from ruxa_async._client.clock import Clock
from ruxa_async._client.worker_pool import WorkerPool

pytestmark = pytest.mark.anyio


class Office:
    """Work given in seconds, a pool that does it, and records of what happened."""

    def __init__(self, size: int = 3) -> None:
        self.work: deque[float] = deque()
        self.tg: TaskGroup | None = None
        self.busy = 0
        self.most = 0
        self.tasks: set[int] = set()
        self.done: list[float] = []
        self.took: list[float] = []
        self.cut_off: list[float] = []
        self.crashes: list[Exception] = []
        self.pool = WorkerPool[float](
            "test",
            size,
            clock=Clock(time.time, time.monotonic),
            take=lambda _: self.work.popleft() if self.work else None,
            perform=self.perform,
            on_take=self.note,
            on_crash=self.crashes.append,
        )

    async def perform(self, seconds: float) -> None:
        self.busy += 1
        self.most = max(self.most, self.busy)
        self.tasks.add(anyio.get_current_task().id)
        try:
            if seconds < 0:
                raise ZeroDivisionError(seconds)
            await anyio.sleep(seconds)
            self.done.append(seconds)
        except anyio.get_cancelled_exc_class():
            self.cut_off.append(seconds)
            raise
        finally:
            self.busy -= 1

    def note(self, now: float) -> None:
        self.took.append(now)
        if self.work:
            self.wake()

    def wake(self) -> None:
        assert self.tg is not None
        self.pool.wake(self.tg, 1)

    async def give(self, *work: float) -> None:
        """Put *work* on the pile, wake one worker, and let things settle."""
        self.work.extend(work)
        self.wake()
        await settle()


async def settle() -> None:
    for _ in range(20):
        await checkpoint()


async def test_each_piece_of_work_is_done_once() -> None:
    office = Office()
    async with anyio.create_task_group() as office.tg:
        await office.give(*range(1, 11))
        await anyio.sleep(100)
        office.pool.stop()
    assert sorted(office.done) == list(range(1, 11))


async def test_one_wake_is_enough_for_as_many_workers_as_there_is_work() -> None:
    office = Office(size=3)
    async with anyio.create_task_group() as office.tg:
        await office.give(5, 5)
        assert office.busy == 2
        office.pool.stop()


async def test_wake_starts_as_many_workers_as_asked_up_to_the_size() -> None:
    office = Office(size=3)
    async with anyio.create_task_group() as office.tg:
        for asked, look in ((2, 2), (5, 3), (1, 1)):
            office.took.clear()
            office.pool.wake(office.tg, asked)
            office.pool.wake(office.tg, asked)  # workers that are waking count
            waking = [office.pool.is_waking]
            await settle()
            waking.append(office.pool.is_waking)
            assert waking == [True, False]
            assert len(office.took) == look
        office.pool.stop()


async def test_at_most_size_workers_run() -> None:
    office = Office(size=3)
    async with anyio.create_task_group() as office.tg:
        for _ in range(10):
            await office.give(1, 1)
        await anyio.sleep(100)
        office.pool.stop()
    assert office.most == 3
    assert len(office.done) == 20
    assert len(office.tasks) == 3


async def test_a_parked_worker_is_woken_before_a_new_one_is_started() -> None:
    office = Office(size=3)
    async with anyio.create_task_group() as office.tg:
        for _ in range(5):
            await office.give(1)
            await anyio.sleep(2)
        office.pool.stop()
    assert len(office.tasks) == 1
    assert len(office.done) == 5


async def test_a_new_worker_is_started_when_the_others_are_at_work() -> None:
    office = Office(size=3)
    async with anyio.create_task_group() as office.tg:
        await office.give(5)
        await office.give(5)
        assert office.busy == 2
        office.pool.stop()


async def test_a_wake_without_work_leaves_the_worker_ready_for_the_next() -> None:
    office = Office(size=1)
    async with anyio.create_task_group() as office.tg:
        for _ in range(3):
            office.wake()
            office.wake()
            await settle()
        await office.give(1)
        await anyio.sleep(2)
        office.pool.stop()
    assert office.done == [1]


async def test_more_wakes_than_workers_are_harmless() -> None:
    office = Office(size=2)
    async with anyio.create_task_group() as office.tg:
        await office.give(1, 1)
        await anyio.sleep(2)
        for _ in range(10):
            office.wake()
        await settle()
        await office.give(1, 1, 1, 1)
        assert office.busy == 2
        await anyio.sleep(10)
        office.pool.stop()
    assert len(office.done) == 6


async def test_on_take_is_called_with_the_time_of_each_take() -> None:
    office = Office(size=1)
    async with anyio.create_task_group() as office.tg:
        start = anyio.current_time()
        await office.give(2)
        await anyio.sleep(5)
        office.pool.stop()
    assert [round(at - start, 6) for at in office.took] == [0, 2]  # the second found nothing


async def test_stop_ends_parked_workers() -> None:
    office = Office(size=3)
    async with anyio.create_task_group() as office.tg:
        await office.give(1, 1, 1)
        await anyio.sleep(2)
        start = anyio.current_time()
        office.pool.stop()
    assert anyio.current_time() == start


async def test_stop_finishes_the_work_in_hand_and_takes_no_more() -> None:
    office = Office(size=1)
    async with anyio.create_task_group() as office.tg:
        await office.give(5, 6)
        office.pool.stop()
    assert office.done == [5]
    assert list(office.work) == [6]


async def test_nothing_is_started_after_stop() -> None:
    office = Office()
    async with anyio.create_task_group() as office.tg:
        office.pool.stop()
        await office.give(1)
    assert not office.took


async def test_cancel_cuts_off_the_work_in_hand() -> None:
    office = Office(size=2)
    async with anyio.create_task_group() as office.tg:
        await office.give(5, 6, 7)
        start = anyio.current_time()
        office.pool.cancel()
    assert sorted(office.cut_off) == [5, 6]
    assert not office.done
    assert list(office.work) == [7]
    assert anyio.current_time() == start
    assert not office.crashes


async def test_cancel_ends_parked_workers() -> None:
    office = Office(size=3)
    async with anyio.create_task_group() as office.tg:
        await office.give(1, 1, 1)
        await anyio.sleep(2)
        office.pool.cancel()
    assert len(office.done) == 3
    assert not office.cut_off


async def test_a_worker_that_is_woken_and_cancelled_at_once_takes_nothing() -> None:
    office = Office(size=1)
    async with anyio.create_task_group() as office.tg:
        await office.give(1)
        await anyio.sleep(2)
        office.work.append(3)
        office.wake()
        office.pool.cancel()
    assert list(office.work) == [3]


async def test_a_caller_that_is_cancelled_cuts_nothing_off() -> None:
    office = Office(size=1)
    async with anyio.create_task_group() as office.tg:
        await office.give(5)
        office.pool.stop()
        office.tg.cancel_scope.cancel()
    assert office.done == [5]


async def test_an_exception_reaches_on_crash_only() -> None:
    office = Office(size=2)
    async with anyio.create_task_group() as office.tg:
        await office.give(5, -1)
        assert [type(crash) for crash in office.crashes] == [ZeroDivisionError]
        await anyio.sleep(10)  # neither this task nor the other worker is cancelled
        office.pool.stop()
    assert office.done == [5]


async def test_a_crashed_worker_is_replaced() -> None:
    office = Office(size=1)
    async with anyio.create_task_group() as office.tg:
        await office.give(-1)
        await office.give(1)
        await anyio.sleep(2)
        office.pool.stop()
    assert office.done == [1]
    assert len(office.crashes) == 1
