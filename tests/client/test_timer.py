from __future__ import annotations

import math
from collections.abc import Callable

import anyio
import pytest

from ruxa_async._client.timer import Timer, make_timer


async def slept_until(due: float, *after: tuple[float, Callable[[Timer], None]]) -> float:
    """Return when a sleep until *due* ended, if each of *after* was done to the alarm after so many seconds."""
    clock, start = make_timer(), anyio.current_time()

    async def do(seconds: float, what: Callable[[Timer], None]) -> None:
        await anyio.sleep(seconds)
        what(clock)

    async with anyio.create_task_group() as tg:
        for seconds, what in after:
            tg.start_soon(do, seconds, what)
        await clock.sleep_until(start + due if due < math.inf else due)
        ended = anyio.current_time() - start
        tg.cancel_scope.cancel()
    return ended


def forward(at: float) -> Callable[[Timer], None]:
    start = anyio.current_time()
    return lambda clock: clock.bring_forward(start + at)


@pytest.mark.parametrize("due", [0.0, 2.5, -1.0])
async def test_it_sleeps_until_the_instant_it_was_told(due: float) -> None:
    assert await slept_until(due) == pytest.approx(max(due, 0.0))


@pytest.mark.parametrize("due", [8.0, math.inf])
async def test_an_earlier_instant_cuts_the_sleep_short(due: float) -> None:
    assert await slept_until(due, (1, forward(3)), (2, forward(2.5))) == pytest.approx(2.5)


async def test_a_later_instant_changes_nothing() -> None:
    assert await slept_until(4, (1, forward(6))) == pytest.approx(4)


async def test_an_instant_that_has_passed_ends_the_sleep_at_once() -> None:
    assert await slept_until(4, (1, forward(0.5))) == pytest.approx(1)


async def test_what_was_brought_forward_while_nobody_slept_is_not_kept() -> None:
    clock, start = make_timer(), anyio.current_time()
    clock.bring_forward(start + 1)
    await clock.sleep_until(start + 3)
    clock.bring_forward(start + 3.5)
    await clock.sleep_until(start + 5)
    assert anyio.current_time() - start == pytest.approx(5)


async def test_a_sleeper_that_is_cancelled_leaves_the_alarm_fit_for_another() -> None:
    clock, start = make_timer(), anyio.current_time()
    with anyio.move_on_after(1):
        await clock.sleep_until(math.inf)
    await clock.sleep_until(start + 2)
    assert anyio.current_time() - start == pytest.approx(2)


async def test_two_that_are_due_in_one_turn_of_the_loop_wake_the_sleeper_once() -> None:
    clock, start = make_timer(), anyio.current_time()
    with anyio.move_on_after(2) as scope:
        await clock.sleep_until(start + 2)  # the scope and the alarm ring at the same instant
    assert anyio.current_time() - start == pytest.approx(2)
    assert scope.cancel_called
