"""Long-lived tasks that take work, one piece after the other.

To start a task for each request costs more than the rest of the client does for it. So each worker takes work
until there is none, then parks. Each event wakes one worker; a worker that took work wakes the next if there
is more. Workers are shielded, so the cancellation of a caller never interrupts a request on the wire; only
the owner of the pool stops them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from .clock import Clock

__all__ = ("WorkerPool",)

_W = TypeVar("_W")


@define(eq=False)
class WorkerPool(Generic[_W]):
    """At most *size* workers that *take* work and *perform* it; *on_take* is called after each take."""

    _name: str
    _size: int
    _clock: Clock
    _take: Callable[[float], _W | None]
    _perform: Callable[[_W], Awaitable[None]]
    _on_take: Callable[[float], None]
    _on_crash: Callable[[Exception], None]
    #: Parked workers wait for it, and a release wakes one; an event for each would cost three times as much.
    _wakeups: anyio.Semaphore | None = field(default=None, init=False)
    _parked: int = field(default=0, init=False)
    #: Workers that were woken or started, and have not looked for work yet.
    _waking: int = field(default=0, init=False)
    _scopes: set[anyio.CancelScope] = field(factory=set, init=False)
    _stopping: bool = field(default=False, init=False)

    @property
    def is_waking(self) -> bool:
        """Whether a worker was woken and has not looked for work yet."""
        return self._waking > 0

    def wake(self, tg: TaskGroup, workers: int) -> None:
        """Have up to *workers* workers look for work: waking ones, then parked ones, then new ones in *tg*.

        Busy workers are left alone: each looks for work when it is done.
        """
        while self._waking < workers and not self._stopping:
            if self._parked:
                self._unpark_one()
            elif len(self._scopes) < self._size:
                self._start(tg)
            else:
                return

    def stop(self) -> None:
        """Let every worker end after the work in hand."""
        self._stopping = True
        while self._parked:
            self._unpark_one()

    def cancel(self) -> None:
        self.stop()
        for scope in self._scopes:
            scope.cancel()

    async def _work(self, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                await self._take_and_perform()
        except Exception as exc:  # noqa: BLE001 - it must reach every waiter, never the user's body
            self._on_crash(exc)
        finally:
            self._scopes.discard(scope)

    async def _take_and_perform(self) -> None:
        if self._wakeups is None:
            self._wakeups = anyio.Semaphore(0, fast_acquire=True)
        while not self._stopping:
            self._waking -= 1
            await self._work_until_idle()
            if not self._stopping:
                self._parked += 1
                await self._wakeups.acquire()

    async def _work_until_idle(self) -> None:
        while not self._stopping:
            now = self._clock.now()
            work = self._take(now)
            self._on_take(now)
            if work is None:
                return
            await self._perform(work)

    def _start(self, tg: TaskGroup) -> None:
        scope = anyio.CancelScope(shield=True)
        self._scopes.add(scope)
        self._waking += 1
        tg.start_soon(self._work, scope, name=f"ruxa_async {self._name}")

    def _unpark_one(self) -> None:
        assert self._wakeups is not None
        self._parked -= 1
        self._waking += 1
        self._wakeups.release()
