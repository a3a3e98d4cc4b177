from __future__ import annotations

import math
from collections.abc import Callable

import anyio
import pytest

from ruxa_async._client.timer import Timer, make_timer


async def slept_until(due: float, *after: tuple[float, Callable[[Timer], None]]) -> float:
    """Return when a sleep until *due* ended, with each function of *after* called after its seconds."""
    timer, start = make_timer(), anyio.current_time()

    async def do(seconds: float, what: Callable[[Timer], None]) -> None:
        await anyio.sleep(seconds)
        what(timer)

    async with anyio.create_task_group() as tg:
        for seconds, what in after:
            tg.start_soon(do, seconds, what)
        await timer.sleep_until(start + due if due < math.inf else due)
        ended = anyio.current_time() - start
        tg.cancel_scope.cancel()
    return ended


def forward(at: float) -> Callable[[Timer], None]:
    start = anyio.current_time()
    return lambda timer: timer.bring_forward(start + at)


@pytest.mark.parametrize("due", [0.0, 2.5, -1.0])
async def test_it_sleeps_until_the_instant(due: float) -> None:
    assert await slept_until(due) == pytest.approx(max(due, 0.0))


@pytest.mark.parametrize("due", [8.0, math.inf])
async def test_an_earlier_instant_cuts_the_sleep_short(due: float) -> None:
    assert await slept_until(due, (1, forward(3)), (2, forward(2.5))) == pytest.approx(2.5)


async def test_a_later_instant_changes_nothing() -> None:
    assert await slept_until(4, (1, forward(6))) == pytest.approx(4)


async def test_an_instant_that_has_passed_ends_the_sleep_at_once() -> None:
    assert await slept_until(4, (1, forward(0.5))) == pytest.approx(1)


async def test_an_instant_given_while_nobody_sleeps_is_forgotten() -> None:
    timer, start = make_timer(), anyio.current_time()
    timer.bring_forward(start + 1)
    await timer.sleep_until(start + 3)
    timer.bring_forward(start + 3.5)
    await timer.sleep_until(start + 5)
    assert anyio.current_time() - start == pytest.approx(5)


async def test_the_timer_can_be_used_after_a_cancelled_sleep() -> None:
    timer, start = make_timer(), anyio.current_time()
    with anyio.move_on_after(1):
        await timer.sleep_until(math.inf)
    await timer.sleep_until(start + 2)
    assert anyio.current_time() - start == pytest.approx(2)


async def test_two_timers_due_in_one_loop_iteration_wake_the_sleeper_once() -> None:
    timer, start = make_timer(), anyio.current_time()
    with anyio.move_on_after(2) as scope:
        await timer.sleep_until(start + 2)  # the scope and the timer are due at the same instant
    assert anyio.current_time() - start == pytest.approx(2)
    assert scope.cancel_called
