"""Long-lived workers that pull their work.

Starting a task for each request costs more than the request's own bookkeeping, so workers stay: each takes work
until there is none, then parks. Whoever learns that something became ready sees that one of them looks, and each that
has looked sees to the next if more is ready. Workers are shielded: a cancelled caller never cuts off what a worker
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
        self._about_to_look = 0
        self._scopes: set[anyio.CancelScope] = set()
        self._stopping = False

    @property
    def roused(self) -> bool:
        """Whether a worker is about to look for work."""
        return self._about_to_look > 0

    def wake(self, tg: TaskGroup, workers: int) -> None:
        """See that so many *workers* are about to look for work, as far as there are any to spare."""
        while self._about_to_look < workers and not self._stopping:
            if self._parked:
                self._ring()
            elif len(self._scopes) < self._size:
                self._start(tg)
            else:
                return  # each that is busy looks when it is done

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
        while not self._stopping:
            self._about_to_look -= 1
            await self._work_until_idle()
            if not self._stopping:
                self._parked += 1
                await self._bell.acquire()

    async def _work_until_idle(self) -> None:
        while not self._stopping:
            now = self._clock()
            work = self._take(now)
            self._took(now)
            if work is None:
                return
            await self._perform(work)

    def _start(self, tg: TaskGroup) -> None:
        scope = anyio.CancelScope(shield=True)
        self._scopes.add(scope)
        self._about_to_look += 1
        tg.start_soon(self._work, scope, name=f"ruxa_async {self._name}")

    def _ring(self) -> None:
        assert self._bell is not None
        self._parked -= 1
        self._about_to_look += 1
        self._bell.release()
