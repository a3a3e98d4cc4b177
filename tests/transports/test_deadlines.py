"""The deadlines of many exchanges share one timer. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ruxa_async.testing import virtual_time
from ruxa_async.transports._deadlines import Deadlines

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual_time("asyncio")


@pytest.fixture
async def deadlines() -> AsyncIterator[Deadlines]:
    made = Deadlines(asyncio.get_running_loop())
    yield made
    made.close()


class Exchange:
    """Notes when it expired; until *connected* it cannot."""

    def __init__(self, connected: float = 0.0) -> None:
        self.connected = connected
        self.expired: list[float] = []

    def expire(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now < self.connected:
            return False
        self.expired.append(now)
        return True


async def test_each_expires_at_its_own_time_and_once(deadlines: Deadlines) -> None:
    late, early, middle = Exchange(), Exchange(), Exchange()
    for exchange, seconds in ((late, 30.0), (early, 1.0), (middle, 7.5)):
        deadlines.add(exchange, seconds)
    await asyncio.sleep(100)
    assert (early.expired, middle.expired, late.expired) == ([1.0], [7.5], [30.0])


async def test_a_removed_exchange_does_not_expire_and_a_later_one_does(deadlines: Deadlines) -> None:
    done, going = Exchange(), Exchange()
    deadlines.add(done, 5.0)
    await asyncio.sleep(2)
    deadlines.add(going, 5.0)
    deadlines.remove(done)
    deadlines.remove(done)
    await asyncio.sleep(100)
    assert (done.expired, going.expired) == ([], [7.0])


async def test_an_exchange_that_cannot_expire_yet_is_tried_again(deadlines: Deadlines) -> None:
    connecting = Exchange(connected=3.0)
    deadlines.add(connecting, 2.0)
    await asyncio.sleep(100)
    assert len(connecting.expired) == 1
    assert 3.0 <= connecting.expired[0] <= 3.0 + 0.0101


async def test_closing_leaves_no_timer_and_still_expires_open_exchanges(deadlines: Deadlines) -> None:
    loop = asyncio.get_running_loop()
    done, stuck = Exchange(), Exchange()
    deadlines.add(done, 50.0)
    deadlines.add(stuck, 10.0)
    deadlines.close()
    deadlines.remove(done)
    await asyncio.sleep(20)
    assert stuck.expired == [10.0]
    deadlines.remove(stuck)
    timers = [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
    assert timers == []
