"""Long-lived workers that pull their work.

Starting a task for each request costs more than the request's own bookkeeping, so workers stay: each takes work
until there is none, then parks. Whoever learns that something became ready wakes one of them, and each that takes
something wakes the next if more is ready. Workers are shielded: a cancelled caller never cuts off what a worker
has on the wire. Only the pool's owner stops them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

__all__ = ("WorkerPool",)

_W = TypeVar("_W")


class WorkerPool(Generic[_W]):
    """At most *size* workers that *take* work and *perform* it; *took* is called after each take, at the same time."""

    def __init__(
        self,
        name: str,
        size: int,
        *,
        clock: Callable[[], float],
        take: Callable[[float], _W | None],
        perform: Callable[[_W], Awaitable[None]],
        took: Callable[[float], None],
        crashed: Callable[[Exception], None],
    ) -> None:
        self._name = name
        self._size = size
        self._clock = clock
        self._take = take
        self._perform = perform
        self._took = took
        self._crashed = crashed
        # Parked workers wait here, and each release lets one go: an event for each parking would cost three times as much.
        self._bell: anyio.Semaphore | None = None
        self._parked = 0
        self._scopes: set[anyio.CancelScope] = set()
        self._stopping = False

    def wake_one(self, tg: TaskGroup) -> None:
        """Let one more worker look for work, if there is one to spare."""
        if self._stopping:
            return
        if self._parked:
            self._ring()
        elif len(self._scopes) < self._size:
            scope = anyio.CancelScope(shield=True)
            self._scopes.add(scope)
            tg.start_soon(self._work, scope, name=f"ruxa_async {self._name}")

    def stop(self) -> None:
        """Let every worker leave once it has nothing in hand."""
        self._stopping = True
        while self._parked:
            self._ring()

    def cancel(self) -> None:
        """Cut off every worker."""
        self.stop()
        for scope in self._scopes:
            scope.cancel()

    async def _work(self, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                await self._take_and_perform()
        except Exception as exc:  # noqa: BLE001 - it must reach every waiter, never the user's body
            self._crashed(exc)
        finally:
            self._scopes.discard(scope)

    async def _take_and_perform(self) -> None:
        if self._bell is None:
            self._bell = anyio.Semaphore(0, fast_acquire=True)
        bell = self._bell
        while not self._stopping:
            now = self._clock()
            work = self._take(now)
            self._took(now)
            if work is not None:
                await self._perform(work)
                continue
            self._parked += 1
            await bell.acquire()

    def _ring(self) -> None:
        assert self._bell is not None
        self._parked -= 1
        self._bell.release()
