"""Time that jumps: exact, instant, and the same on both backends."""

from __future__ import annotations

import socket

import anyio
import pytest

from ruxa_async.testing import AutojumpEventLoop, virtual_time


async def test_hours_pass_at_once_and_exactly() -> None:
    start = anyio.current_time()
    await anyio.sleep(3600)
    assert anyio.current_time() == start + 3600


async def test_sleepers_wake_in_order_at_their_instants() -> None:
    start = anyio.current_time()
    woken: list[tuple[float, int]] = []

    async def sleeper(seconds: int) -> None:
        await anyio.sleep(seconds)
        woken.append((anyio.current_time() - start, seconds))

    async with anyio.create_task_group() as tg:
        for seconds in (30, 1, 20, 10):
            tg.start_soon(sleeper, seconds)
    assert woken == [(1, 1), (10, 10), (20, 20), (30, 30)]


async def test_time_stands_still_while_a_task_works() -> None:
    start = anyio.current_time()
    for _ in range(1000):
        await anyio.lowlevel.checkpoint()
    assert anyio.current_time() == start


async def test_a_deadline_passes_at_its_instant() -> None:
    start = anyio.current_time()
    with anyio.move_on_after(7.5) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert anyio.current_time() == start + 7.5


async def test_news_arrives_before_time_jumps() -> None:
    start, event = anyio.current_time(), anyio.Event()

    async def tell() -> None:
        await anyio.lowlevel.checkpoint()
        event.set()

    async with anyio.create_task_group() as tg:
        tg.start_soon(tell)
        with anyio.fail_after(0.001):
            await event.wait()
    assert anyio.current_time() == start


def test_the_clock_starts_at_zero_in_each_loop() -> None:
    async def main() -> float:
        await anyio.sleep(5)
        return anyio.current_time()

    for backend in ("asyncio", "trio"):
        name, options = virtual_time(backend)
        assert [
            anyio.run(main, backend=name, backend_options=virtual_time(backend)[1]) for _ in range(2)
        ] == [5, 5]
        assert name == backend
        assert options


def test_a_loop_of_ready_sockets_still_reads_them() -> None:
    ours, theirs = socket.socketpair()
    loop = AutojumpEventLoop()
    try:
        read: list[bytes] = []

        def readable() -> None:
            read.append(ours.recv(16))
            loop.stop()

        loop.add_reader(ours, readable)
        loop.call_soon(theirs.send, b"news")
        loop.run_forever()
        assert read == [b"news"]
        assert loop.time() == 0
    finally:
        loop.close()
        ours.close()
        theirs.close()


def test_another_backend_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        virtual_time("curio")
    assert str(caught.value) == "backend='curio' is not valid: 'asyncio' or 'trio' is needed"
