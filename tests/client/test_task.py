"""`GenerationTask`: waiting, timeouts, updates."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from client.test_client import CAT, DONE, Script, accepted, in_state, reply
from harness import client_of, service_of

from ruxa_async import (
    ClientClosedError,
    GenerationTask,
    PollingStoppedError,
    TaskFailedError,
    TaskState,
    TaskTimeout,
    Timeouts,
)

WAITING, RUNNING = in_state("waiting"), in_state("generating")
FAILED = in_state("fail", failCode="500", failMsg="no")


async def test_waiting_can_be_cancelled_and_repeated() -> None:
    service = service_of()
    async with client_of(service) as ruxa:
        task = await ruxa.submit(CAT)
        with pytest.raises(TaskTimeout) as caught:
            await task.result(timeout=2)
        assert (caught.value.task_id, caught.value.timeout) == (task.task_id, 2)
        assert (await task.result()).task_id == task.task_id
        assert task.done
        assert (await task.result()).task_id == task.task_id, "and again, at once"
    assert service.ledger.charged == 1


async def test_the_default_timeout_is_timeouts_task_and_none_removes_it() -> None:
    async with client_of(service_of(), timeouts=Timeouts(task=3)) as ruxa:
        task = await ruxa.submit(CAT)
        with pytest.raises(TaskTimeout):
            await task.result()
        assert (await task.result(timeout=None)).urls


@pytest.mark.parametrize("timeout", [-1, -1.0, -0.001, float("nan"), float("-inf"), True, "60"])
async def test_an_invalid_timeout_raises(timeout: Any) -> None:
    async with client_of(service_of()) as ruxa:
        task = await ruxa.submit(CAT)
        with pytest.raises(ValueError, match=r"timeout=.* is not valid: give seconds, at least 0, or None"):
            await task.result(timeout=timeout)
        with pytest.raises(ValueError, match=r"task_timeout=.* is not valid: give seconds"):
            ruxa.as_completed([], task_timeout=timeout)
        with pytest.raises(TaskTimeout):
            await task.result(timeout=0)
        assert (await task.result(timeout=float("inf"))).urls


async def test_a_task_is_followed_while_nobody_waits() -> None:
    async with client_of(service_of()) as ruxa:
        task = await ruxa.submit(CAT)
        await anyio.sleep(30)
        assert task.done
        assert task.status is not None
        assert task.status.state is TaskState.SUCCESS
        assert "done" in repr(task)
        assert ruxa.stats().in_flight == 0


async def test_many_wait_for_one_task() -> None:
    results: list[str | None] = []

    async def wait(task: GenerationTask) -> None:
        results.append((await task.result()).task_id)

    async with client_of(service_of()) as ruxa:
        task = await ruxa.submit(CAT)
        async with anyio.create_task_group() as tg:
            for _ in range(5):
                tg.start_soon(wait, task)
    assert results == [task.task_id] * 5


async def test_updates_are_every_change_and_the_terminal_one_last() -> None:
    script = Script(creates=[accepted()], queries=[WAITING, WAITING, RUNNING, RUNNING, RUNNING, DONE])
    async with client_of(script) as ruxa:
        task = await ruxa.submit(CAT)
        states = [status.state async for status in task.updates()]
    assert states == [TaskState.WAITING, TaskState.RUNNING, TaskState.SUCCESS]


async def test_a_slow_iteration_over_updates_misses_none() -> None:
    script = Script(creates=[accepted()], queries=[WAITING, RUNNING, DONE])
    states = []
    async with client_of(script) as ruxa:
        task = await ruxa.submit(CAT)
        async for status in task.updates():
            states.append(status.raw_state)
            await anyio.sleep(100)
    assert states == ["waiting", "generating", "success"]


async def test_two_iterations_over_updates_get_the_same() -> None:
    script = Script(creates=[accepted()], queries=[WAITING, RUNNING, DONE])
    seen: list[list[str]] = [[], []]

    async def read(into: list[str]) -> None:
        into.extend([status.raw_state async for status in task.updates()])

    async with client_of(script) as ruxa:
        task = await ruxa.submit(CAT)
        async with anyio.create_task_group() as tg:
            for into in seen:
                tg.start_soon(read, into)
    assert seen == [["waiting", "generating", "success"]] * 2


async def test_updates_of_an_ended_task_are_its_last_status() -> None:
    async with client_of(service_of()) as ruxa:
        task = await ruxa.submit(CAT)
        await task.result()
        assert [status.state async for status in task.updates()] == [TaskState.SUCCESS]


async def test_a_failure_ends_updates_and_raises_from_result() -> None:
    async with client_of(Script(creates=[accepted()], queries=[RUNNING, FAILED])) as ruxa:
        task = await ruxa.submit(CAT)
        updates = [status async for status in task.updates()]
        assert [status.state for status in updates] == [TaskState.RUNNING, TaskState.FAIL]
        assert (updates[-1].fail_code, updates[-1].fail_message) == ("500", "no")
        for _ in range(2):
            with pytest.raises(TaskFailedError):
                await task.result()


async def test_updates_raise_when_polling_stops() -> None:
    script = Script(creates=[accepted()], queries=[RUNNING, reply({"code": 401, "message": "no"})])
    async with client_of(script) as ruxa:
        task = await ruxa.submit(CAT)
        seen: list[Any] = []
        with pytest.raises(PollingStoppedError):  # noqa: PT012 - the loop is what raises
            async for status in task.updates():
                seen.append(status.state)
    assert seen == [TaskState.RUNNING]


async def test_updates_work_for_a_task_that_was_attached_to() -> None:
    async with client_of(Script(creates=[accepted()], queries=[RUNNING, DONE])) as ruxa:
        task = ruxa.attach("task_1")
        assert (task.model, task.key, task.request, task.status) == (None, None, None, None)
        assert [status.state async for status in task.updates()] == [TaskState.RUNNING, TaskState.SUCCESS]
        generation = await task.result()
        assert (generation.request, generation.model) == (None, None)


async def test_updates_raise_when_the_client_closes() -> None:
    errors: list[Exception] = []

    async def read() -> None:
        try:
            async for _ in task.updates():
                pass
        except ClientClosedError as exc:
            errors.append(exc)

    async with anyio.create_task_group() as tg, client_of(service_of()) as ruxa:
        task = await ruxa.submit(CAT)
        tg.start_soon(read)
        await anyio.sleep(1)
    assert len(errors) == 1
