"""Cancel a coroutine at each of its suspension points in turn, with every kind of cancellation."""

from __future__ import annotations

import asyncio
import math
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio

from ._servers import Server

Act = Callable[[], None] | Callable[[], bool]

#: What a test may parametrise over; the first two exist on asyncio only.
MEANS = ("native", "timeout", "scope", "deadline")
ASYNCIO_ONLY = ("native", "timeout")


class Stepped:
    """Await *coroutine*, and do *act* at its suspension number *turn*.

    If *asleep*, while it is suspended; else just before it goes on, when what it waited for has come already.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], turn: int, *, asleep: bool) -> None:
        self.coroutine = coroutine
        self.turn = turn
        self.asleep = asleep
        self.act: Act = lambda: None
        self.acted = False

    def __await__(self) -> Generator[Any, Any, Any]:
        value: Any = None
        error: BaseException | None = None
        turns = 0
        while True:
            if turns == self.turn and not self.asleep:
                self._act()
            try:
                trap = self.coroutine.send(value) if error is None else self.coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            if turns == self.turn and self.asleep:
                _soon(self._act)
            turns += 1
            try:
                value, error = (yield trap), None
            except BaseException as exc:  # noqa: BLE001 - the coroutine gets it
                value, error = None, exc

    def _act(self) -> None:
        self.acted = True
        self.act()


def _soon(act: Act) -> None:
    if _on_asyncio():
        asyncio.get_running_loop().call_soon(act)
    else:
        import trio  # noqa: PLC0415 - not a dependency, but it runs

        trio.lowlevel.current_trio_token().run_sync_soon(act)


def _on_asyncio() -> bool:
    return anyio.get_cancelled_exc_class() is asyncio.CancelledError


async def interrupted(means: str, stepped: Stepped) -> Any:
    """Run *stepped* with a cancel by *means*; return its result, or None if it was cancelled."""
    result: Any = None

    async def run() -> Any:
        return await stepped

    if means == "native":
        task = asyncio.create_task(run())
        stepped.act = task.cancel
        await asyncio.wait([task])
        return None if task.cancelled() else task.result()
    if means == "timeout":
        try:
            async with asyncio.timeout(None) as timeout:
                stepped.act = lambda: timeout.reschedule(0.0)
                result = await run()
        except TimeoutError:
            return None
        return result
    with anyio.CancelScope() as scope:
        stepped.act = scope.cancel if means == "scope" else lambda: setattr(scope, "deadline", -math.inf)
        return await run()
    return None


@asynccontextmanager
async def nothing_leaks(server: Server) -> AsyncIterator[None]:
    """Check that connections to *server*, sockets, threads and tasks are as many as before the block."""
    before = held()
    yield
    await server.left(server.connections)
    await nothing_more_than(before)


async def nothing_more_than(before: tuple[int, int, int]) -> None:
    """Check that no more is held than *before*; wait up to 5 s for the other side to close."""
    with anyio.move_on_after(5):
        while not all(now <= then for now, then in zip(held(), before, strict=True)):  # noqa: ASYNC110
            await anyio.sleep(0.01)
    after, threads = held(), [thread.name for thread in threading.enumerate()]
    assert all(now <= then for now, then in zip(after, before, strict=True)), (before, after, threads)


def held() -> tuple[int, int, int]:
    """Count the sockets, threads and tasks of this process. On Windows sockets are not counted."""
    sockets = 0
    folder = Path("/dev/fd")  # on Linux and macOS
    for number in folder.iterdir() if folder.exists() else ():
        with suppress(OSError):  # the listing's own file is gone
            sockets += stat.S_ISSOCK(os.fstat(int(number.name)).st_mode)
    if _on_asyncio():
        tasks = len(asyncio.all_tasks())
    else:
        import trio  # noqa: PLC0415 - not a dependency, but it runs

        tasks = trio.lowlevel.current_statistics().tasks_living
    # trio keeps a thread for ten seconds, in case that it needs one again.
    threads = [each for each in threading.enumerate() if not each.name.startswith("Trio thread")]
    return sockets, len(threads), tasks
